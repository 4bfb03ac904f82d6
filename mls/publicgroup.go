// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"errors"
)

// A PublicGroup is a group as an outsider sees it who holds no secret: a delivery
// service. It checks all that can be checked without a key of the group, which
// is everything but membership tags, confirmation tags and path secrets.
//
// A PublicGroup is immutable and may be used by any number of goroutines.
type PublicGroup struct {
	publicState
}

// ErrPrivateMessage says that a PublicGroup cannot process a message because it
// is encrypted.
var ErrPrivateMessage = errors.New("mls: a PrivateMessage can be processed by members alone")

// NewPublicGroup begins to watch a group from a GroupInfo and its tree, as a
// ratchet_tree extension has it; a nil tree means that the GroupInfo has that
// extension. Signature, tree hash, parent hashes and all leaves are verified
// (RFC 9420 §12.4.3.1).
func NewPublicGroup(cfg *Config, gi *GroupInfo, tree []byte) (*PublicGroup, error) {
	st, err := cfg.resolve().verifyGroupInfo(gi, tree)
	if err != nil {
		return nil, err
	}
	return &PublicGroup{st}, nil
}

// PublicReceived is the outcome of [PublicGroup.Process]: a
// *[StagedPublicProposal] or a *[StagedPublicCommit].
type PublicReceived interface {
	// Change returns what the message does to the group.
	Change() *Change
	// Merge returns the group with the change in effect.
	Merge() *PublicGroup

	publicReceived()
}

// A StagedPublicProposal is a valid proposal that is not yet pending.
type StagedPublicProposal struct {
	redacted
	next   publicState
	p      *pendingProposal
	change *Change
}

// Ref returns the reference by which a commit covers the proposal.
func (s *StagedPublicProposal) Ref() ProposalRef { return s.p.ref }

// Info returns the proposal and its sender.
func (s *StagedPublicProposal) Info() ProposalInfo { return s.p.info() }

// Change implements [PublicReceived].
func (s *StagedPublicProposal) Change() *Change { return s.change }

// Merge implements [PublicReceived].
func (s *StagedPublicProposal) Merge() *PublicGroup { return &PublicGroup{s.next} }

func (s *StagedPublicProposal) publicReceived() {}

// A StagedPublicCommit is a valid commit that is not yet in effect.
type StagedPublicCommit struct {
	redacted
	from *publicState
	next publicState
	t    *transition
}

// Change implements [PublicReceived].
func (s *StagedPublicCommit) Change() *Change { return s.t.change }

// Merge implements [PublicReceived].
func (s *StagedPublicCommit) Merge() *PublicGroup { return &PublicGroup{s.next} }

// ChangedNodes returns the nodes of the tree that the commit changes, in the order
// of their index. A tree that shrinks loses nodes: they are listed as blank.
func (s *StagedPublicCommit) ChangedNodes() []TreeNode { return s.next.tree.changedNodes(s.from.tree) }

// NewTreeWidth returns the number of leaves of the tree after the commit.
func (s *StagedPublicCommit) NewTreeWidth() uint32 { return s.next.tree.width }

// UsedProposals returns the references of the proposals that the commit covers.
func (s *StagedPublicCommit) UsedProposals() []ProposalRef { return s.t.list.refs() }

func (l *proposalList) refs() []ProposalRef {
	var refs []ProposalRef
	for i := range l.all {
		if l.all[i].Ref != nil {
			refs = append(refs, l.all[i].Ref)
		}
	}
	return refs
}

func (s *StagedPublicCommit) publicReceived() {}

// Process checks a PublicMessage of the group's current epoch. The group does not
// change: the result's Merge gives the next one.
func (g *PublicGroup) Process(m *Message) (PublicReceived, error) {
	if err := g.checkFrame(m); err != nil {
		return nil, err
	}
	if m.Public == nil {
		return nil, ErrPrivateMessage
	}
	a := m.Public.authenticated()
	if a.content.ContentType == ContentApplication {
		return nil, invalid(RuleApplicationPublic, "application data in a PublicMessage")
	}
	if err := g.checkEpoch(a.content.ContentType, a.content.Epoch); err != nil {
		return nil, err
	}
	if n := len(m.Public.membershipTag); a.content.Sender.Type == SenderMember && n != g.s.nh {
		return nil, invalid(a.membershipRule(), "membership_tag has %d octets, want %d", n, g.s.nh)
	}
	if err := g.verifySender(a); err != nil {
		return nil, err
	}
	if a.content.ContentType == ContentProposal {
		p, ch, err := g.stageProposal(a)
		if err != nil {
			return nil, err
		}
		next, err := g.withPending(p)
		if err != nil {
			return nil, err
		}
		return &StagedPublicProposal{next: next, p: p, change: ch}, nil
	}
	t, err := g.stageCommit(a)
	if err != nil {
		return nil, err
	}
	t.confirm(a)
	return &StagedPublicCommit{from: &g.publicState, next: t.next(a.auth.confirmationTag), t: t}, nil
}

// ClearProposals returns the group without the pending proposals that drop
// selects.
func (g *PublicGroup) ClearProposals(drop func(ProposalInfo) bool) *PublicGroup {
	return &PublicGroup{g.withoutPending(drop)}
}

func (st publicState) withoutPending(drop func(ProposalInfo) bool) publicState {
	var keep []*pendingProposal
	for _, p := range st.pending {
		if !drop(p.info()) {
			keep = append(keep, p)
		}
	}
	st.pending = keep
	return st
}
