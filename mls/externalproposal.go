// SPDX-License-Identifier: Apache-2.0

// Proposals from outside of the group (RFC 9420 §12.1.8).

package mls

import (
	"bytes"
	"fmt"
)

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
	p, err := st.s.withNonce(st.cfg.rand, p)
	if err != nil {
		return nil, err
	}
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
	if p, err = s.withNonce(nil, p); err != nil {
		return nil, err
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
