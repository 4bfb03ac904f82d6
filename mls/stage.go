// SPDX-License-Identifier: Apache-2.0

package mls

// stageProposal checks a proposal that was sent on its own and whose signature
// was verified (RFC 9420 §12.1).
func (st *publicState) stageProposal(a *authenticatedContent) (*pendingProposal, *Change, error) {
	if err := st.frozen(); err != nil {
		return nil, nil, err
	}
	c := &a.content
	if _, ok := c.Proposal.(*ExternalInit); ok {
		return nil, nil, invalid(RuleExternalInitMember, "an ExternalInit was sent on its own")
	}
	if err := st.validateProposal(c.Proposal, c.Sender, a.wireFormat, pskUseCommit); err != nil {
		return nil, nil, err
	}
	p := &pendingProposal{ref: a.proposalRef(st.s), proposal: c.Proposal, sender: c.Sender}
	ch := st.proposalChange(p, c.AuthenticatedData)
	if st.cfg.policy != nil {
		if err := st.cfg.policy.CheckChange(ch); err != nil {
			return nil, nil, broken(RulePolicy, err, "the policy refuses the proposal")
		}
	}
	return p, ch, nil
}

// proposalChange describes what a proposal would do if it were committed alone.
func (st *publicState) proposalChange(p *pendingProposal, aad []byte) *Change {
	ch := &Change{
		Kind: ChangeProposal, GroupID: st.ctx.GroupID, Epoch: st.ctx.Epoch, Sender: p.sender,
		Proposals: []ProposalInfo{p.info()}, OldContext: st.ctx, AAD: aad,
	}
	member := func(i LeafIndex) Member { return Member{i, st.tree.leaf(i)} }
	switch v := p.proposal.(type) {
	case *Add:
		free := LeafIndex(st.tree.width)
		if st.tree.root.leaves < st.tree.width {
			free = st.tree.leftmostBlank()
		}
		ch.Added = []Member{{free, v.KeyPackage.LeafNode}}
	case *Update:
		i := LeafIndex(p.sender.Index)
		ch.Updated = []MemberUpdate{{member(i), Member{i, v.LeafNode}}}
	case *Remove:
		ch.Removed = []Member{member(v.Removed)}
	case *SelfRemove:
		ch.Removed = []Member{member(LeafIndex(p.sender.Index))}
	case *ReInit:
		ch.ReInit = v
	case *PreSharedKey:
		ch.PSKs = []PreSharedKeyID{v.ID}
	}
	return ch
}

// stageCommit checks all of a received commit that an outsider can check, and
// whose signature was verified (RFC 9420 §12.4.2). The transition is finished,
// and not yet confirmed: its context is the provisional one.
func (st *publicState) stageCommit(a *authenticatedContent) (*transition, error) {
	l, err := st.gather(a.content.Commit.Proposals, a.content.Sender)
	if err != nil {
		return nil, err
	}
	use := pskUseCommit
	if st.ctx.Epoch == 0 {
		// The creator is alone and may begin with this the successor of another
		// group, of which an observer of the new one knows nothing (RFC 9420
		// §11.2). Who joins by it compares the two: see checkParent.
		use = pskUseReInit
	}
	t, err := st.begin(l, use, received)
	if err != nil {
		return nil, err
	}
	t.change.AAD = a.content.AuthenticatedData
	if err := t.applyPath(a.content.Commit.Path); err != nil {
		return nil, err
	}
	if err := t.finish(); err != nil {
		return nil, err
	}
	if len(a.auth.confirmationTag) != st.s.nh {
		return nil, invalid(RuleConfirmationTag, "confirmation_tag has %d octets, want %d", len(a.auth.confirmationTag), st.s.nh)
	}
	return t, nil
}
