// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"iter"
	"slices"
)

// publicState is what everybody may know of a group in an epoch: the part that
// [Group] and [PublicGroup] have in common. It is immutable.
type publicState struct {
	cfg      *config
	s        *suite
	ctx      *GroupContext
	ctxBytes []byte
	required *RequiredCapabilities
	safeAAD  bool

	tree            *ratchetTree
	confirmationTag []byte
	interim         []byte

	pending []*pendingProposal
	// reinit is set when the commit that began the epoch ended the group.
	reinit *ReInit
}

// A pendingProposal was received, or sent, in this epoch and is valid by itself.
type pendingProposal struct {
	ref      ProposalRef
	proposal Proposal
	sender   Sender
}

func (p *pendingProposal) info() ProposalInfo { return ProposalInfo{p.proposal, p.sender, p.ref} }

// newPublicState puts a state together whose extensions were validated.
func newPublicState(c *config, s *suite, ctx *GroupContext, t *ratchetTree, confirmationTag []byte) (publicState, error) {
	st := publicState{cfg: c, s: s, tree: t, confirmationTag: confirmationTag}
	if err := st.setContext(ctx); err != nil {
		return st, err
	}
	st.interim = s.interimTranscriptHash(ctx.ConfirmedTranscriptHash, confirmationTag)
	return st, nil
}

func (st *publicState) setContext(ctx *GroupContext) (err error) {
	st.ctx, st.ctxBytes = ctx, ctx.appendTo(nil)
	if st.required, err = ctx.Extensions.RequiredCapabilities(); err != nil {
		return broken(RuleExtensionContext, err, "GroupContext")
	}
	d, err := ctx.Extensions.AppData()
	if err != nil {
		return broken(RuleAppDataFormat, err, "GroupContext")
	}
	_, st.safeAAD = d.Find(ComponentSafeAAD)
	return nil
}

// GroupID returns the identifier of the group.
func (st *publicState) GroupID() GroupID { return st.ctx.GroupID }

// Epoch returns the number of the epoch.
func (st *publicState) Epoch() uint64 { return st.ctx.Epoch }

// CipherSuite returns the cipher suite of the group.
func (st *publicState) CipherSuite() CipherSuite { return st.s.cipher }

// Context returns the GroupContext, which must not be changed.
func (st *publicState) Context() *GroupContext { return st.ctx }

// ConfirmationTag returns the tag of the commit that began the epoch.
func (st *publicState) ConfirmationTag() []byte { return bytes.Clone(st.confirmationTag) }

// ReInit returns the ReInit that ended the group, nil while it lives
// (RFC 9420 §11.2).
func (st *publicState) ReInit() *ReInit { return st.reinit }

// Members returns the members in the order of their leaves.
func (st *publicState) Members() iter.Seq[Member] {
	return func(yield func(Member) bool) {
		st.tree.eachLeaf(func(i LeafIndex, l *LeafNode) bool { return yield(Member{i, l}) })
	}
}

// Member returns the member at a leaf, false when the leaf is blank.
func (st *publicState) Member(i LeafIndex) (Member, bool) {
	l := st.tree.leaf(i)
	return Member{i, l}, l != nil
}

// MemberByKey returns the member with a signature key.
func (st *publicState) MemberByKey(signatureKey []byte) (Member, bool) {
	at, ok := st.tree.holderOf(signatureKeyKind, signatureKey)
	if !ok {
		return Member{}, false
	}
	i, _ := at.leaf()
	return st.Member(i)
}

// MemberCount returns the number of members.
func (st *publicState) MemberCount() int { return st.tree.memberCount() }

// TreeWidth returns the number of leaves of the tree, blank ones included.
func (st *publicState) TreeWidth() uint32 { return st.tree.width }

// Tree returns the ratchet tree as a ratchet_tree extension has it
// (RFC 9420 §12.4.3.3). For large groups see AppendTree.
func (st *publicState) Tree() []byte { return st.tree.marshal(nil) }

// TreeLen returns the number of octets of Tree.
func (st *publicState) TreeLen() int { return st.tree.encodedLen() }

// AppendTree appends at most n octets of Tree, beginning at offset, to dst. It
// costs what it appends, wherever it begins.
func (st *publicState) AppendTree(dst []byte, offset, n int) []byte {
	return st.tree.appendRange(dst, offset, n)
}

// TreeNodes returns the nodes of the tree that are not blank, in the order of the
// array of RFC 9420 Appendix C.
func (st *publicState) TreeNodes() iter.Seq[TreeNode] {
	return func(yield func(TreeNode) bool) {
		st.tree.root.eachNode(root(st.tree.width), yield)
	}
}

// PendingProposals returns the proposals that wait for a commit, in the order of
// their arrival.
func (st *publicState) PendingProposals() []ProposalInfo {
	list := make([]ProposalInfo, len(st.pending))
	for i, p := range st.pending {
		list[i] = p.info()
	}
	return list
}

// findPending returns the pending proposal with a reference.
func (st *publicState) findPending(ref ProposalRef) *pendingProposal {
	for _, p := range st.pending {
		if bytes.Equal(p.ref, ref) {
			return p
		}
	}
	return nil
}

// withPending returns the state with one more pending proposal. A proposal that
// is there already is not added twice.
func (st publicState) withPending(p *pendingProposal) (publicState, error) {
	if st.findPending(p.ref) != nil {
		return st, nil
	}
	if len(st.pending) >= st.cfg.limits.MaxPending {
		return st, invalid(RuleLimit, "%d proposals are pending, the limit is %d: commit, or clear them", len(st.pending), st.cfg.limits.MaxPending)
	}
	// Clip: two states that come from this one must not share the new element.
	st.pending = append(slices.Clip(st.pending), p)
	return st, nil
}

// frozen is the error of a group that was reinitialized.
func (st *publicState) frozen() error {
	if st.reinit == nil {
		return nil
	}
	return invalid(RuleReInitFrozen, "the group was reinitialized: join or create its successor %x", []byte(st.reinit.GroupID))
}
