// SPDX-License-Identifier: Apache-2.0

// GroupInfo: verified before a group is joined or watched, and compared with a group
// that is known (RFC 9420 §12.4.3).

package mls

import (
	"bytes"
	"errors"
)

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
