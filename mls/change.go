// SPDX-License-Identifier: Apache-2.0

package mls

// A Member is a member of a group in an epoch.
type Member struct {
	// Index is the member's place in the tree. Another member may have it later.
	Index LeafIndex
	// Leaf must not be changed.
	Leaf *LeafNode
}

// Credential returns the member's credential.
func (m Member) Credential() Credential { return m.Leaf.Credential }

// SignatureKey returns the member's public signature key.
func (m Member) SignatureKey() []byte { return m.Leaf.SignatureKey }

// DeviceID returns the content of the member's application_id extension
// (RFC 9420 §5.3.3), nil when there is none.
func (m Member) DeviceID() []byte { return m.Leaf.ApplicationID() }

// A MemberUpdate is a member whose leaf changes.
type MemberUpdate struct{ Old, New Member }

// A ProposalInfo is a proposal with its sender.
type ProposalInfo struct {
	Proposal Proposal
	Sender   Sender
	// Ref is nil for a proposal that a commit has by value.
	Ref ProposalRef
}

// ChangeKind says what a [Change] is about.
type ChangeKind uint8

// The kinds of change.
const (
	ChangeCommit ChangeKind = iota + 1
	ChangeExternalCommit
	ChangeProposal
)

// String returns the name of the kind.
func (k ChangeKind) String() string {
	switch k {
	case ChangeCommit:
		return "commit"
	case ChangeExternalCommit:
		return "external commit"
	case ChangeProposal:
		return "proposal"
	}
	return "unknown"
}

// A Change is what a commit would do to a group, or what a proposal asks for.
// It must not be modified.
type Change struct {
	Kind    ChangeKind
	GroupID GroupID
	// Epoch is the epoch in which the message was sent, which a commit ends.
	Epoch  uint64
	Sender Sender
	// Committer is the member that commits, as it was before; nil for external
	// commits and proposals.
	Committer *Member
	// Joiner is the sender of an external commit in its new place.
	Joiner *Member
	// Added are the members that join by Add; of a proposal, with the place that
	// they would get if it were committed alone. The sender of an external commit
	// is Joiner and not among them.
	Added []Member
	// Removed are the members that leave, as they were.
	Removed []Member
	// Updated are the members whose leaf changes, a committer with a path among
	// them.
	Updated []MemberUpdate
	// Proposals are all proposals in the order of the commit.
	Proposals []ProposalInfo
	// OldContext is the context of the epoch that ends; NewContext that of the next,
	// nil for a proposal. While a [Policy] looks at it, its transcript hash is still
	// the old one.
	OldContext, NewContext *GroupContext
	// ReInit is set when the commit ends the group.
	ReInit *ReInit
	PSKs   []PreSharedKeyID
	// AAD is the authenticated_data of the message.
	AAD []byte
}
