// SPDX-License-Identifier: Apache-2.0

// What a commit does to the public state (RFC 9420 §12.3, §12.4). The same code
// serves who makes a commit, who receives one, and who only watches.

package mls

import (
	"bytes"
	"errors"
	"math"
)

// A transition leads from one epoch to the next. Nothing of it shows in the
// state that it starts from.
type transition struct {
	from      *publicState
	list      *proposalList
	origin    origin
	edit      *treeEdit
	committer LeafIndex // of an external joiner: the new place
	oldLeaf   *LeafNode // the leaf that the path's leaf succeeds, nil when none
	path      *UpdatePath
	steps     []pathStep
	added     []Member
	change    *Change

	// Set by finish.
	tree *ratchetTree
	// ctx is the GroupContext of the next epoch; before confirm, the provisional
	// one.
	ctx      *GroupContext
	ctxBytes []byte
}

// begin validates a proposal list and applies it to the tree and the extensions.
func (st *publicState) begin(l *proposalList, use pskUse, from origin) (*transition, error) {
	if err := st.frozen(); err != nil {
		return nil, err
	}
	if st.ctx.Epoch == math.MaxUint64 {
		return nil, invalid(RuleLimit, "the group has no epoch left")
	}
	if err := st.validateList(l, use, from); err != nil {
		return nil, err
	}
	t := &transition{from: st, list: l, origin: from, edit: st.tree.edit()}
	t.change = &Change{Kind: ChangeCommit, GroupID: st.ctx.GroupID, Epoch: st.ctx.Epoch, Sender: l.committer, OldContext: st.ctx, ReInit: l.reinit, PSKs: l.psks}
	for i := range l.all {
		t.change.Proposals = append(t.change.Proposals, l.all[i].ProposalInfo)
	}
	t.ctx = &GroupContext{
		Version: st.ctx.Version, CipherSuite: st.ctx.CipherSuite, GroupID: st.ctx.GroupID,
		Epoch: st.ctx.Epoch + 1, ConfirmedTranscriptHash: st.ctx.ConfirmedTranscriptHash, Extensions: st.ctx.Extensions,
	}
	if l.context != nil {
		t.ctx.Extensions = l.context.Extensions
	}
	var err error
	if t.ctx.Extensions, err = st.cfg.updateAppData(t.ctx.Extensions, l.appData); err != nil {
		return nil, err
	}
	if l.context != nil || l.appData != nil {
		if err := st.cfg.validateContextExtensions(st.s, t.ctx.Extensions); err != nil {
			return nil, err
		}
	}
	if err := t.applyProposals(); err != nil {
		return nil, err
	}
	return t, t.place()
}

// applyProposals changes the tree in the order of RFC 9420 §12.3.
func (t *transition) applyProposals() error {
	st, l, e := t.from, t.list, t.edit
	for _, u := range l.updates {
		t.change.Updated = append(t.change.Updated, MemberUpdate{Member{u.at, st.tree.leaf(u.at)}, Member{u.at, u.leaf}})
		e.updateLeaf(u.at, u.leaf)
	}
	for _, i := range l.removes {
		leaf := st.tree.leaf(i)
		if leaf == nil {
			return invalid(RuleRemoveBlank, "leaf %d is removed and is no member", i)
		}
		t.change.Removed = append(t.change.Removed, Member{i, leaf})
		e.removeLeaf(i)
	}
	// Those who stay must understand every proposal; those who come or go need not.
	for i := range l.all {
		if pt := l.all[i].Proposal.ProposalType(); !e.t.allSupportProposal(pt) {
			return invalid(RuleProposalSupport, "proposal type %v is not supported by all members", pt)
		}
	}
	if n := e.t.memberCount() + len(l.adds); n > st.cfg.limits.MaxMembers {
		return invalid(RuleTreeTooLarge, "the group would have %d members, the limit is %d", n, st.cfg.limits.MaxMembers)
	}
	for _, kp := range l.adds {
		t.added = append(t.added, Member{e.addLeaf(kp.LeafNode), kp.LeafNode})
	}
	t.change.Added = t.added
	return nil
}

// place finds where the committer stands.
func (t *transition) place() error {
	st := t.from
	if i, ok := t.list.committer.Leaf(); ok {
		t.committer, t.oldLeaf = i, st.tree.leaf(i)
		if t.oldLeaf == nil {
			return invalid(RuleSenderBlank, "the committer %d is no member", i)
		}
		t.change.Committer = &Member{i, t.oldLeaf}
		return nil
	}
	t.change.Kind = ChangeExternalCommit
	if n := t.edit.t.memberCount() + 1; n > st.cfg.limits.MaxMembers {
		return invalid(RuleTreeTooLarge, "the group would have %d members, the limit is %d", n, st.cfg.limits.MaxMembers)
	}
	for i := range t.list.all {
		if r, ok := t.list.all[i].Proposal.(*Remove); ok {
			t.oldLeaf = st.tree.leaf(r.Removed)
		}
	}
	t.committer = t.edit.freeLeaf()
	return nil
}

// applyPath validates a received path and merges it into the tree
// (RFC 9420 §12.4.2). A nil path is checked to be allowed.
func (t *transition) applyPath(path *UpdatePath) error {
	if path == nil {
		if t.list.needsPath() {
			return invalid(RuleCommitPath, "the commit has no path, and needs one")
		}
		return nil
	}
	t.path = path
	if path.LeafNode.Source != LeafNodeCommit {
		return invalid(RuleLeafSourceCommit, "the leaf node of the path has leaf_node_source %v", path.LeafNode.Source)
	}
	if t.change.Kind == ChangeCommit && bytes.Equal(path.LeafNode.EncryptionKey, t.oldLeaf.EncryptionKey) {
		return invalid(RuleCommitLeafKey, "the leaf node of the path has the old encryption_key")
	}
	if t.change.Kind == ChangeExternalCommit && t.oldLeaf != nil && bytes.Equal(path.LeafNode.EncryptionKey, t.oldLeaf.EncryptionKey) {
		return invalid(RuleExternalRemove, "the joiner keeps the encryption_key of the member that it replaces")
	}
	if at, ok := t.edit.holderOf(encryptionKeyKind, path.LeafNode.EncryptionKey); ok {
		return invalid(RuleCommitPathKeys, "the key of the path's leaf stands in node %d", at)
	}
	for k := range path.Nodes {
		if at, ok := t.edit.holderOf(encryptionKeyKind, path.Nodes[k].EncryptionKey); ok {
			return invalid(RuleCommitPathKeys, "the key of path node %d stands in node %d", k, at)
		}
	}
	if err := t.from.cfg.validateLeaf(t.from.s, path.LeafNode, leafPlace{t.from.ctx.GroupID, t.committer, received}); err != nil {
		return err
	}
	var err error
	t.steps, err = t.edit.applyPath(t.committer, path)
	return err
}

// finish completes the tree, checks what can be checked only then, and asks the
// application (RFC 9420 §12.2).
func (t *transition) finish() error {
	st := t.from
	if t.path != nil {
		if err := t.finishPath(); err != nil {
			return err
		}
	}
	var err error
	if t.tree, err = t.edit.finish(); err != nil {
		return t.duplicate(err)
	}
	demands, err := t.ctx.Extensions.demands()
	if err != nil {
		return err
	}
	if t.list.context != nil { // what is new is the requirement, not the leaf
		if err := t.tree.checkSupport(&demands); err != nil {
			return err
		}
	}
	for _, m := range t.added {
		if err := demands.check(m.Leaf); err != nil {
			return err
		}
	}
	for _, u := range t.change.Updated {
		if err := demands.check(u.New.Leaf); err != nil {
			return err
		}
	}
	if t.change.Joiner != nil {
		if err := demands.check(t.change.Joiner.Leaf); err != nil {
			return err
		}
	}
	if err := t.tree.checkSupport(&demands); err != nil {
		return err
	}
	t.ctx.TreeHash = t.tree.treeHash()
	t.ctxBytes = t.ctx.appendTo(nil)
	t.change.NewContext = t.ctx
	if st.cfg.policy != nil {
		if err := st.cfg.policy.CheckChange(t.change); err != nil {
			return broken(RulePolicy, err, "the policy refuses the %v", t.change.Kind)
		}
	}
	return nil
}

// finishPath notes whom the path's leaf replaces, and asks whether it may.
func (t *transition) finishPath() error {
	leaf := t.path.LeafNode
	if t.change.Kind == ChangeExternalCommit {
		t.change.Joiner = &Member{t.committer, leaf}
	} else {
		t.change.Updated = append(t.change.Updated, MemberUpdate{Member{t.committer, t.oldLeaf}, Member{t.committer, leaf}})
	}
	if t.oldLeaf == nil {
		return nil
	}
	if err := t.from.cfg.auth.ValidateSuccessor(t.oldLeaf, leaf); err != nil {
		if t.change.Kind == ChangeExternalCommit {
			return broken(RuleExternalRemove, err, "the joiner removes a member that it may not replace")
		}
		return broken(RuleLeafSuccessor, err, "path of member %d", t.committer)
	}
	return nil
}

// duplicate maps two equal keys in the tree to the rule that they break.
func (t *transition) duplicate(err error) error {
	var d *duplicateKeyError
	if !errors.As(err, &d) {
		return err
	}
	isAdded := func(x nodeIndex) bool {
		l, ok := x.leaf()
		return ok && containsLeaf(t.edit.added, l)
	}
	committer := t.path != nil && (d.a == t.committer.node() || d.b == t.committer.node())
	switch {
	case d.kind == signatureKeyKind && !committer && (isAdded(d.a) || isAdded(d.b)):
		return broken(RuleAddMember, err, "Add")
	case d.kind == signatureKeyKind:
		return broken(RuleSignatureKeyUnique, err, "the tree after the commit")
	case t.path != nil && (committer || d.parents):
		return broken(RuleCommitPathKeys, err, "the path")
	}
	return broken(RuleEncryptionUnique, err, "the tree after the commit")
}

// confirm fixes the GroupContext of the next epoch (RFC 9420 §8.2). a is the
// signed commit.
func (t *transition) confirm(a *authenticatedContent) {
	ctx := *t.ctx
	ctx.ConfirmedTranscriptHash = t.from.s.confirmedTranscriptHash(t.from.interim, a.confirmedInput())
	t.ctx, t.ctxBytes = &ctx, ctx.appendTo(nil)
	t.change.NewContext = t.ctx
}

// next returns the state of the next epoch.
func (t *transition) next(confirmationTag []byte) publicState {
	st := *t.from
	st.tree, st.pending, st.reinit, st.confirmationTag = t.tree, nil, t.list.reinit, confirmationTag
	// The extensions were validated by finish: this cannot fail.
	_ = st.setContext(t.ctx)
	st.interim = st.s.interimTranscriptHash(t.ctx.ConfirmedTranscriptHash, confirmationTag)
	return st
}
