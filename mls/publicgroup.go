// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
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

// verifyGroupInfo checks a GroupInfo with its tree and returns the state that
// they describe.
func (c *config) verifyGroupInfo(gi *GroupInfo, tree []byte) (publicState, error) {
	if gi == nil {
		return publicState{}, errors.New("mls: no GroupInfo")
	}
	s, err := c.suite(gi.Context.CipherSuite)
	if err != nil {
		return publicState{}, err
	}
	if gi.Context.Version != MLS10 {
		return publicState{}, invalid(RuleGroupVersion, "the group has version %d", gi.Context.Version)
	}
	if err := c.validateGroupInfoExtensions(s, gi.Extensions); err != nil {
		return publicState{}, err
	}
	if err := c.validateContextExtensions(s, gi.Context.Extensions); err != nil {
		return publicState{}, err
	}
	inline := gi.RatchetTree()
	switch {
	case tree == nil && inline == nil:
		return publicState{}, invalid(RuleWelcomeTree, "the GroupInfo has no ratchet_tree extension, and no tree was given")
	case tree == nil:
		tree = inline
	case inline != nil && !bytes.Equal(tree, inline):
		return publicState{}, invalid(RuleWelcomeTree, "the tree that was given differs from the ratchet_tree extension")
	}
	if len(tree) > c.limits.MaxMessage {
		return publicState{}, invalid(RuleLimit, "the tree has %d octets, the limit is %d", len(tree), c.limits.MaxMessage)
	}
	// The tree keeps what it was decoded from: not the caller's memory.
	t, err := c.loadTree(s, bytes.Clone(tree))
	if err != nil {
		return publicState{}, err
	}
	if err := verifyGroupInfoSignature(s, gi, t); err != nil {
		return publicState{}, err
	}
	if err := c.validateTree(t, &gi.Context); err != nil {
		return publicState{}, err
	}
	if len(gi.ConfirmationTag) != s.nh {
		return publicState{}, invalid(RuleGroupInfoTag, "confirmation_tag has %d octets, want %d", len(gi.ConfirmationTag), s.nh)
	}
	ctx := gi.Context
	return newPublicState(c, s, &ctx, t, gi.ConfirmationTag)
}

func verifyGroupInfoSignature(s *suite, gi *GroupInfo, t *ratchetTree) error {
	signer := t.leaf(gi.Signer)
	if signer == nil {
		return invalid(RuleGroupInfoSignature, "the signer %d of the GroupInfo is no member", gi.Signer)
	}
	if err := s.verifyWithLabel(signer.SignatureKey, "GroupInfoTBS", gi.tbs(), gi.Signature); err != nil {
		return broken(RuleGroupInfoSignature, err, "GroupInfo of member %d", gi.Signer)
	}
	return nil
}

// CheckGroupInfo checks a GroupInfo of the current epoch against the group: it
// must have the group's context and confirmation tag, and be signed by a member.
// When it has a tree or a key for external commits, these must be right, as far
// as an outsider can tell.
func (g *PublicGroup) CheckGroupInfo(gi *GroupInfo) error { return g.checkGroupInfo(gi) }

func (st *publicState) checkGroupInfo(gi *GroupInfo) error {
	if !bytes.Equal(gi.Context.appendTo(nil), st.ctxBytes) {
		return invalid(RuleGroupInfoContext, "the GroupInfo has not the context of group %x in epoch %d", []byte(st.ctx.GroupID), st.ctx.Epoch)
	}
	if !bytes.Equal(gi.ConfirmationTag, st.confirmationTag) {
		return invalid(RuleGroupInfoTag, "the GroupInfo has not the confirmation_tag of epoch %d", st.ctx.Epoch)
	}
	if err := st.cfg.validateGroupInfoExtensions(st.s, gi.Extensions); err != nil {
		return err
	}
	if tree := gi.RatchetTree(); tree != nil && (len(tree) != st.TreeLen() || !bytes.Equal(tree, st.Tree())) {
		return invalid(RuleTreeHash, "the ratchet_tree extension is not the tree of the group")
	}
	return verifyGroupInfoSignature(st.s, gi, st.tree)
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
		return &StagedPublicProposal{next, p, ch}, nil
	}
	t, err := g.stageCommit(a)
	if err != nil {
		return nil, err
	}
	t.confirm(a)
	return &StagedPublicCommit{&g.publicState, t.next(a.auth.confirmationTag), t}, nil
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

// ExternalProposal makes a proposal by an external sender, which must stand in
// the group's external_senders extension at index (RFC 9420 §12.1.8). The group
// does not change: process the message like any other.
func (g *PublicGroup) ExternalProposal(key *SignaturePrivateKey, index uint32, p Proposal, aad []byte) (*Message, error) {
	return g.externalProposal(key, Sender{SenderExternal, index}, p, aad)
}

// Remove makes an external proposal to remove a member.
func (g *PublicGroup) Remove(key *SignaturePrivateKey, index uint32, member LeafIndex) (*Message, error) {
	return g.ExternalProposal(key, index, &Remove{member}, nil)
}

func (st *publicState) externalProposal(key *SignaturePrivateKey, sender Sender, p Proposal, aad []byte) (*Message, error) {
	a := &authenticatedContent{wireFormat: WireFormatPublicMessage, content: FramedContent{
		GroupID: st.ctx.GroupID, Epoch: st.ctx.Epoch, Sender: sender, AuthenticatedData: aad,
		ContentType: ContentProposal, Proposal: p,
	}}
	public, err := st.senderKey(&a.content)
	if err != nil {
		return nil, err
	}
	if key == nil || !bytes.Equal(public, key.public) {
		return nil, fmt.Errorf("mls: the key is not that of %v", sender)
	}
	if err := st.s.signContent(a, key, st.ctxBytes); err != nil {
		return nil, err
	}
	if _, _, err := st.stageProposal(a); err != nil {
		return nil, err
	}
	return newMessage(&Message{Public: &PublicMessage{Content: a.content, auth: a.auth}}), nil
}

// NewMemberProposal makes a proposal by which the owner of a key package asks to
// be added (RFC 9420 §12.1.8). gi tells group and epoch: the asker should have it
// from somebody it trusts, nothing of it is verified.
func NewMemberProposal(gi *GroupInfo, kp *PrivateKeyPackage, aad []byte) (*Message, error) {
	s, err := gi.Context.CipherSuite.suite()
	if err != nil {
		return nil, err
	}
	a := &authenticatedContent{wireFormat: WireFormatPublicMessage, content: FramedContent{
		GroupID: gi.Context.GroupID, Epoch: gi.Context.Epoch, Sender: Sender{Type: SenderNewMemberProposal},
		AuthenticatedData: aad, ContentType: ContentProposal, Proposal: &Add{kp.KeyPackage},
	}}
	if err := s.signContent(a, kp.key, nil); err != nil {
		return nil, err
	}
	return newMessage(&Message{Public: &PublicMessage{Content: a.content, auth: a.auth}}), nil
}

// ExternalProposalFor is ExternalProposal for a sender that holds a GroupInfo and
// nothing else: the GroupInfo is trusted. index is the sender's place in the
// external_senders extension, found by its key when negative.
func ExternalProposalFor(gi *GroupInfo, key *SignaturePrivateKey, index int, p Proposal, aad []byte) (*Message, error) {
	s, err := gi.Context.CipherSuite.suite()
	if err != nil {
		return nil, err
	}
	senders, err := gi.Context.Extensions.ExternalSenders()
	if err != nil {
		return nil, err
	}
	for i := 0; index < 0 && i < len(senders); i++ {
		if bytes.Equal(senders[i].SignatureKey, key.public) {
			index = i
		}
	}
	if index < 0 || index >= len(senders) {
		return nil, invalid(RuleExternalSenderIndex, "the key is not among the %d external senders of the group", len(senders))
	}
	a := &authenticatedContent{wireFormat: WireFormatPublicMessage, content: FramedContent{
		GroupID: gi.Context.GroupID, Epoch: gi.Context.Epoch, Sender: Sender{SenderExternal, uint32(index)},
		AuthenticatedData: aad, ContentType: ContentProposal, Proposal: p,
	}}
	if err := s.signContent(a, key, nil); err != nil {
		return nil, err
	}
	return newMessage(&Message{Public: &PublicMessage{Content: a.content, auth: a.auth}}), nil
}

const publicStateVersion = 1

// State returns all of the group but the nodes of its tree, to be stored with
// [PublicGroup.TreeNodes] or, after a commit, [StagedPublicCommit.ChangedNodes].
func (g *PublicGroup) State() []byte { return g.appendState(appendU8(nil, publicStateVersion)) }

func (st *publicState) appendState(b []byte) []byte {
	b = appendOpaque(b, st.ctxBytes)
	b = appendOpaque(b, st.confirmationTag)
	b = appendOptional(b, st.reinit != nil, func(b []byte) []byte { return st.reinit.appendBody(b) })
	return appendVector(b, st.pending, func(b []byte, p *pendingProposal) []byte { return p.appendTo(b) })
}

// A storedState is what appendState wrote.
type storedState struct {
	ctx             GroupContext
	confirmationTag []byte
	reinit          *ReInit
	pending         []*pendingProposal
}

func readState(r *reader) *storedState {
	v := &storedState{}
	c := r.vector()
	v.ctx = readGroupContext(&c)
	r.end(&c)
	v.confirmationTag = r.opaque()
	if r.optional() {
		v.reinit = readReInit(r)
	}
	v.pending = readVector(r, readPending)
	return v
}

// restore makes a state of what was stored. The tree hash is compared, signatures
// are not verified again.
func (v *storedState) restore(c *config, nodes iter.Seq[TreeNode]) (publicState, error) {
	s, err := v.ctx.CipherSuite.suite()
	if err != nil {
		return publicState{}, err
	}
	t, err := treeFromNodes(s, c.limits.MaxMembers, nodes)
	if err != nil {
		return publicState{}, err
	}
	if !bytes.Equal(t.treeHash(), v.ctx.TreeHash) {
		return publicState{}, errors.New("mls: stored group: the stored nodes are not those of the stored tree hash")
	}
	st, err := newPublicState(c, s, &v.ctx, t, v.confirmationTag)
	st.reinit, st.pending = v.reinit, v.pending
	return st, err
}

// LoadPublicGroup restores a group from State and the nodes of its tree in the
// order of their index. The storage is trusted: hashes are computed again,
// signatures not verified.
func LoadPublicGroup(cfg *Config, state []byte, nodes iter.Seq[TreeNode]) (*PublicGroup, error) {
	r := reader{b: bytes.Clone(state)}
	if v := r.u8(); r.err == nil && v != publicStateVersion {
		return nil, fmt.Errorf("mls: stored group has version %d, this is a program for version %d", v, publicStateVersion)
	}
	v := readState(&r)
	if err := r.done(); err != nil {
		return nil, fmt.Errorf("mls: decoding stored group: %w", err)
	}
	st, err := v.restore(cfg.resolve(), nodes)
	if err != nil {
		return nil, err
	}
	return &PublicGroup{st}, nil
}
