// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"errors"
	"fmt"
)

// CommitOptions say what a commit does; nil commits the pending proposals, or
// renews the committer's keys when there are none.
type CommitOptions struct {
	// Add adds the owners of key packages.
	Add []*KeyPackage
	// Remove removes members.
	Remove []LeafIndex
	// Update changes the committer's leaf: its identity, its extensions.
	Update *LeafChange
	// PSKs mixes pre-shared keys into the next epoch. A nil nonce is drawn.
	PSKs []PreSharedKeyID
	// AppData changes application data of the GroupContext.
	AppData []*AppDataUpdate
	// ContextExtensions replaces the extensions of the GroupContext; nil leaves
	// them.
	ContextExtensions Extensions
	// ReInit ends the group. It must be the only proposal.
	ReInit *ReInit
	// ByValue are further proposals, after those above.
	ByValue []Proposal
	// ExcludeProposals selects pending proposals that are not committed; nil
	// commits all that are valid together.
	ExcludeProposals func(ProposalInfo) bool
	// ForcePath renews the committer's keys also when the proposals do not demand
	// it: it costs a public-key operation for each node of the path.
	ForcePath bool
	// AAD is the authenticated_data of the commit.
	AAD []byte
	// Wire is the format of the commit: zero means [WireFormatPublicMessage], so that
	// a delivery service can check it.
	Wire WireFormat
	// InlineTree puts the ratchet tree into the Welcome and the GroupInfo.
	// Without, joiners need it from elsewhere.
	InlineTree bool
	// GroupInfo asks for a GroupInfo of the next epoch, GroupInfoExternalPub for one
	// by which others can join.
	GroupInfo            bool
	GroupInfoExternalPub bool
	// WelcomeExtensions are further extensions of the GroupInfo in the Welcome, and
	// of the one beside it.
	WelcomeExtensions Extensions
}

// A LeafChange says how a member's leaf node changes besides its keys.
type LeafChange struct {
	// Identity replaces credential and signature key; nil keeps them.
	Identity *Identity
	// Extensions replaces the leaf's extensions; nil keeps them. Their types are
	// added to its capabilities.
	Extensions Extensions
	// Capabilities renews the capabilities and the lists of components from the
	// configuration.
	Capabilities bool
}

// A PendingCommit is a commit of this client that the delivery service has not
// accepted yet. It holds the group as it would be afterwards, and prints as
// [redacted].
type PendingCommit struct {
	redacted
	message   *Message
	welcome   *Message
	groupInfo *Message
	change    *Change
	unused    []ProposalInfo
	next      *Group

	// base, baseTree and basePrivate are where a member's commit starts from; nil for
	// an external commit. stored is the rest of a commit that was restored without its
	// group.
	base        *GroupContext
	baseTree    *ratchetTree
	basePrivate *treePrivate
	stored      []byte
	merged      bool
}

// Message returns the commit, to be sent to the members.
func (p *PendingCommit) Message() *Message { return p.message }

// Welcome returns the Welcome for all members that the commit adds, nil when it
// adds none. It must not reach them before the commit was accepted
// (RFC 9420 §14).
func (p *PendingCommit) Welcome() *Message { return p.welcome }

// GroupInfo returns the GroupInfo of the next epoch, nil unless the options asked
// for it.
func (p *PendingCommit) GroupInfo() *Message { return p.groupInfo }

// Change returns what the commit does. It is nil for a commit that was restored
// by [UnmarshalPendingCommit].
func (p *PendingCommit) Change() *Change { return p.change }

// Added returns the members that the commit adds by Add, with their places.
func (p *PendingCommit) Added() []Member {
	if p.change == nil {
		return nil
	}
	return p.change.Added
}

// Unused returns the pending proposals that the commit leaves out because they
// are not valid, not valid together, or were excluded.
func (p *PendingCommit) Unused() []ProposalInfo { return p.unused }

// Merge returns the group with the commit in effect. Call it once the delivery
// service has accepted the commit.
func (p *PendingCommit) Merge() (*Group, error) {
	if p.next == nil {
		return nil, errors.New("mls: the pending commit was discarded, or restored without its group: see Bind")
	}
	p.merged = true
	return p.next, nil
}

// Discard wipes the secrets of a commit that lost its race: the epoch that it would
// have begun, and the committer's fresh keys. After Merge it does nothing.
func (p *PendingCommit) Discard() {
	if p.merged {
		return
	}
	if p.next != nil {
		p.next.keys.wipe()
		p.next.private.wipeBut(p.basePrivate)
		p.next = nil
	}
	wipe(p.stored)
	p.stored = nil
}

// wireFormat resolves the format of a handshake message.
func wireFormat(f WireFormat) (WireFormat, error) {
	switch f {
	case 0, WireFormatPublicMessage:
		return WireFormatPublicMessage, nil
	case WireFormatPrivateMessage:
		return f, nil
	}
	return 0, fmt.Errorf("mls: a handshake message cannot be sent as %v", f)
}

// proposals returns the proposals that the options ask for by value.
func (o *CommitOptions) proposals(g *Group) ([]Proposal, error) {
	var list []Proposal
	if o.ContextExtensions != nil {
		list = append(list, &GroupContextExtensions{o.ContextExtensions})
	}
	for _, i := range o.Remove {
		list = append(list, &Remove{i})
	}
	for _, kp := range o.Add {
		if kp == nil {
			return nil, errors.New("mls: CommitOptions.Add has a nil key package")
		}
		list = append(list, &Add{kp})
	}
	for _, id := range o.PSKs {
		list = append(list, &PreSharedKey{id})
	}
	if o.ReInit != nil {
		list = append(list, o.ReInit)
	}
	for _, p := range o.AppData {
		list = append(list, p)
	}
	list = append(list, o.ByValue...)
	for i := range list {
		var err error
		if list[i], err = g.s.withNonce(g.cfg.rand, list[i]); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Commit makes a commit, which ends the epoch once it is accepted
// (RFC 9420 §12.4.1). The group does not change: the result's Merge gives the next
// one. Only a commit that is sent as a PrivateMessage uses up a message key of
// the group, so that the group must be stored before it is sent.
func (g *Group) Commit(o *CommitOptions) (*PendingCommit, error) {
	if o == nil {
		o = &CommitOptions{}
	}
	return g.commit(o, pskUseCommit, nil)
}

func (g *Group) commit(o *CommitOptions, use pskUse, psks PSKStore) (*PendingCommit, error) {
	format, err := wireFormat(o.Wire)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(g.frozen(), g.checkAAD(o.AAD)); err != nil {
		return nil, err
	}
	byValue, err := o.proposals(g)
	if err != nil {
		return nil, err
	}
	c := &committing{g: g, o: o, use: use, psks: psks, byValue: byValue}
	t, err := c.choose()
	if err != nil {
		return nil, err
	}
	return c.make(t, format)
}
