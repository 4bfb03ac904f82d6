// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"errors"
	"fmt"
)

// ExternalJoinOptions are choices for joining by an external commit; nil means
// the defaults.
type ExternalJoinOptions struct {
	// Tree is the ratchet tree, when it is not in the GroupInfo.
	Tree []byte
	// Remove is the leaf of this client's former self, which the commit removes
	// (a "resync"); nil: none.
	Remove *LeafIndex
	// DeviceID is the content of the leaf's application_id extension; nil: none.
	DeviceID []byte
	// LeafExtensions are further extensions of the leaf node.
	LeafExtensions Extensions
	// PSKIDs are pre-shared keys to mix in. A nil nonce is drawn.
	PSKIDs []PreSharedKeyID
	// PSKs finds them; nil means Config.PSKs.
	PSKs PSKStore
	// AppData changes application data of the GroupContext.
	AppData []*AppDataUpdate
	// SelfRemoves are pending SelfRemove proposals of the epoch, which a joiner must
	// commit (draft-ietf-mls-extensions, SelfRemove Proposal).
	SelfRemoves []*Message
	// AAD is the authenticated_data of the commit.
	AAD []byte
	// GroupInfo asks for a GroupInfo of the next epoch, GroupInfoExternalPub for one
	// by which others can join, InlineTree for the tree in it.
	GroupInfo            bool
	GroupInfoExternalPub bool
	InlineTree           bool
}

// ErrNoExternalPub says that a GroupInfo has no external_pub extension, by which
// alone a group can be joined from outside.
var ErrNoExternalPub = errors.New("mls: the GroupInfo has no external_pub extension")

// JoinExternal makes a commit by which this client joins a group, or replaces its
// former self in it (RFC 9420 §12.4.3.2). The result's Merge gives the group, once
// the delivery service has accepted the commit.
func JoinExternal(cfg *Config, gi *GroupInfo, me *Identity, o *ExternalJoinOptions) (*PendingCommit, error) {
	if o == nil {
		o = &ExternalJoinOptions{}
	}
	c := cfg.resolve()
	st, err := c.verifyGroupInfo(gi, o.Tree)
	if err != nil {
		return nil, err
	}
	s := st.s
	if err := me.check(s); err != nil {
		return nil, err
	}
	pub, ok, err := gi.Extensions.externalPub()
	if err != nil || !ok {
		return nil, errors.Join(ErrNoExternalPub, err)
	}
	kemOutput, initSecret, err := s.externalInitSend(c.rand, pub)
	if err != nil {
		return nil, fmt.Errorf("mls: external commit: %w", err)
	}
	defer wipe(initSecret)
	l, entries, err := st.externalList(c, o, kemOutput)
	if err != nil {
		return nil, err
	}
	t, err := st.begin(l, pskUseCommit, sent)
	if err != nil {
		return nil, err
	}
	t.change.AAD = o.AAD

	leaf, err := c.newLeaf(s, me, o.DeviceID, o.LeafExtensions)
	if err != nil {
		return nil, fmt.Errorf("mls: external commit: %w", err)
	}
	for _, e := range st.ctx.Extensions {
		if !leaf.Capabilities.SupportsExtension(e.Type) {
			return nil, invalid(RuleExtensionUnsupported, "the group has extension %v, which this client does not support", e.Type)
		}
	}
	path, err := t.edit.makePath(c.rand, t.committer, leaf, me.Key, st.ctx.GroupID)
	if err != nil {
		return nil, err
	}
	defer path.wipe()
	t.path, t.steps = path.path, path.steps
	if err := c.checkLeafShape(s, leaf); err != nil {
		return nil, err
	}
	if err := t.finish(); err != nil {
		return nil, err
	}
	if err := t.edit.encryptPath(c.rand, path, t.ctxBytes); err != nil {
		return nil, err
	}
	pskSecret, err := c.pskSecret(s, l.psks, o.PSKs, nil)
	if err != nil {
		return nil, err
	}
	defer wipe(pskSecret)
	a := &authenticatedContent{wireFormat: WireFormatPublicMessage, content: FramedContent{
		GroupID: st.ctx.GroupID, Epoch: st.ctx.Epoch, Sender: Sender{Type: SenderNewMemberCommit},
		AuthenticatedData: o.AAD, ContentType: ContentCommit, Commit: &Commit{entries, path.path},
	}}
	if err := s.signContent(a, me.Key, st.ctxBytes); err != nil {
		return nil, err
	}
	t.confirm(a)
	p := &PendingCommit{change: t.change}
	k := &keying{c, t, a, path, initSecret, path.commitSecret, pskSecret}
	err = k.begin(p, &CommitOptions{GroupInfo: o.GroupInfo, GroupInfoExternalPub: o.GroupInfoExternalPub, InlineTree: o.InlineTree},
		func(st publicState, e *epochSecrets) *Group { return enter(st, me, path.private, e) })
	if err != nil {
		return nil, err
	}
	p.message = newMessage(&Message{Public: &PublicMessage{Content: a.content, auth: a.auth}})
	return p, nil
}

// externalList puts the proposals of an external commit together.
func (st *publicState) externalList(c *config, o *ExternalJoinOptions, kemOutput []byte) (*proposalList, []ProposalOrRef, error) {
	l := &proposalList{committer: Sender{Type: SenderNewMemberCommit}}
	var entries []ProposalOrRef
	byValue := func(p Proposal) {
		l.all = append(l.all, listedProposal{ProposalInfo{Proposal: p, Sender: l.committer}, false})
		entries = append(entries, ProposalOrRef{Proposal: p})
	}
	byValue(&ExternalInit{kemOutput})
	if o.Remove != nil {
		byValue(&Remove{*o.Remove})
	}
	for _, id := range o.PSKIDs {
		p, err := st.s.withNonce(c.rand, &PreSharedKey{id})
		if err != nil {
			return nil, nil, err
		}
		byValue(p)
	}
	for _, u := range o.AppData {
		byValue(u)
	}
	for _, m := range o.SelfRemoves {
		p, err := st.openSelfRemove(m)
		if err != nil {
			return nil, nil, err
		}
		if o.Remove != nil && p.sender.Index == uint32(*o.Remove) {
			continue // the Remove does the same, and needs no other's consent
		}
		l.all = append(l.all, listedProposal{p.info(), true})
		entries = append(entries, ProposalOrRef{Ref: p.ref})
	}
	return l, entries, nil
}

// openSelfRemove checks a SelfRemove as a joiner can: all but its membership tag.
func (st *publicState) openSelfRemove(m *Message) (*pendingProposal, error) {
	if m == nil || m.Public == nil {
		return nil, invalid(RuleSelfRemovePrivate, "a SelfRemove for an external commit is not a PublicMessage")
	}
	if err := st.checkFrame(m); err != nil {
		return nil, err
	}
	a := m.Public.authenticated()
	if _, ok := a.content.Proposal.(*SelfRemove); !ok {
		return nil, invalid(RuleExternalByReference, "an external commit can refer to SelfRemove proposals alone")
	}
	if err := st.checkEpoch(ContentProposal, a.content.Epoch); err != nil {
		return nil, err
	}
	if err := st.verifySender(a); err != nil {
		return nil, err
	}
	p, _, err := st.stageProposal(a)
	return p, err
}
