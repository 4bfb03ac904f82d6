// SPDX-License-Identifier: Apache-2.0

// Content authentication (RFC 9420 §6.1, §6.2): the signature of the sender, the
// membership tag of members, the confirmation tag of commits.

package mls

import (
	"bytes"
	"errors"
)

// signContent signs a for the epoch whose encoded GroupContext is context.
func (s *suite) signContent(a *authenticatedContent, key *SignaturePrivateKey, context []byte) error {
	sig, err := s.signAppended(key, "FramedContentTBS", func(b []byte) []byte { return a.appendTBS(b, context) })
	if err != nil {
		return err
	}
	a.auth.signature = sig
	return nil
}

// verifyContent checks the signature of a.
func (s *suite) verifyContent(a *authenticatedContent, key, context []byte) error {
	return s.verifyAppended(key, "FramedContentTBS", a.auth.signature, func(b []byte) []byte { return a.appendTBS(b, context) })
}

// appendTBM writes AuthenticatedContentTBM (RFC 9420 §6.2).
func (a *authenticatedContent) appendTBM(b, context []byte) []byte {
	return a.auth.appendTo(a.appendTBS(b, context), a.content.ContentType)
}

// membershipTag authenticates a PublicMessage of a member (RFC 9420 §6.2).
func (s *suite) membershipTag(membershipKey []byte, a *authenticatedContent, context []byte) []byte {
	c := getScratch()
	defer c.done()
	c.b = a.appendTBM(c.b, context)
	return s.mac(membershipKey, c.b)
}

// verifyMembershipTag reports whether tag is the membership tag of a.
func (s *suite) verifyMembershipTag(membershipKey []byte, a *authenticatedContent, context, tag []byte) bool {
	c := getScratch()
	defer c.done()
	c.b = a.appendTBM(c.b, context)
	return s.verifyMAC(membershipKey, c.b, tag)
}

// confirmationTag confirms the state of an epoch (RFC 9420 §6.1).
func (s *suite) confirmationTag(confirmationKey, confirmedTranscriptHash []byte) []byte {
	return s.mac(confirmationKey, confirmedTranscriptHash)
}

// signatureRule is the rule that a wrong signature of a breaks.
func (a *authenticatedContent) signatureRule() Rule {
	switch {
	case a.content.Sender.Type == SenderNewMemberCommit:
		return RuleExternalSignature
	case a.content.ContentType == ContentCommit:
		return RuleCommitSignature
	case a.wireFormat == WireFormatPrivateMessage:
		return RulePrivateSignature
	}
	return RuleSignature
}

// verifySender checks that the sender may say what it says (RFC 9420 §6.1) and
// that it signed it.
func (st *publicState) verifySender(a *authenticatedContent) error {
	key, err := st.senderKey(&a.content)
	if err != nil {
		return err
	}
	if err := st.s.verifyContent(a, key, st.ctxBytes); err != nil {
		return broken(a.signatureRule(), err, "%v by %v", a.content.ContentType, a.content.Sender)
	}
	return nil
}

// senderKey returns the key with which the sender of c signs.
func (st *publicState) senderKey(c *FramedContent) ([]byte, error) {
	switch c.Sender.Type {
	case SenderMember:
		l := st.tree.leaf(LeafIndex(c.Sender.Index))
		if l == nil {
			return nil, invalid(RuleSenderBlank, "sender %d is no member", c.Sender.Index)
		}
		return l.SignatureKey, nil
	case SenderExternal:
		if c.ContentType != ContentProposal {
			return nil, invalid(RuleExternalContent, "an external sender sent a %v", c.ContentType)
		}
		if t := c.Proposal.ProposalType(); !t.mayBeExternal() {
			return nil, invalid(RuleExternalProposalType, "an external sender sent a proposal of type %v", t)
		}
		senders, err := st.ctx.Extensions.ExternalSenders()
		if err != nil {
			return nil, err
		}
		if uint64(c.Sender.Index) >= uint64(len(senders)) {
			return nil, invalid(RuleExternalSenderIndex, "external sender %d does not exist, the group has %d", c.Sender.Index, len(senders))
		}
		return senders[c.Sender.Index].SignatureKey, nil
	case SenderNewMemberProposal:
		if c.ContentType != ContentProposal {
			return nil, invalid(RuleNewMemberContent, "a new member sent a %v as a proposal", c.ContentType)
		}
		add, ok := c.Proposal.(*Add)
		if !ok {
			return nil, invalid(RuleNewMemberType, "a new member sent a proposal of type %v", c.Proposal.ProposalType())
		}
		return add.KeyPackage.LeafNode.SignatureKey, nil
	default:
		if c.ContentType != ContentCommit {
			return nil, invalid(RuleJoinerContent, "a joiner sent a %v as a commit", c.ContentType)
		}
		if c.Commit.Path == nil {
			return nil, invalid(RuleExternalPath, "an external commit has no path")
		}
		return c.Commit.Path.LeafNode.SignatureKey, nil
	}
}

// checkFrame checks what the frame of a message says, before any work
// (RFC 9420 §6).
func (st *publicState) checkFrame(m *Message) error {
	if m == nil {
		return errors.New("mls: no message")
	}
	if err := st.cfg.checkSize(len(m.Bytes())); err != nil {
		return err
	}
	id := m.GroupID()
	if m.Public == nil && m.Private == nil {
		return &wrongKindError{m.WireFormat()}
	}
	if !bytes.Equal(id, st.ctx.GroupID) {
		return broken(RuleGroupID, ErrUnknownGroup, "message for group %x in group %x", []byte(id), []byte(st.ctx.GroupID))
	}
	// A late message may come from an epoch that had no such rule.
	if epoch, _ := m.Epoch(); st.safeAAD && epoch == st.ctx.Epoch {
		if _, err := ParseSafeAAD(m.AuthenticatedData()); err != nil {
			return broken(RuleSafeAAD, err, "authenticated_data")
		}
	}
	return nil
}

// checkSize checks that n octets of a message are not too many, for others to
// take as well as for this client.
func (c *config) checkSize(n int) error {
	if n > c.limits.MaxMessage {
		return invalid(RuleLimit, "message has %d octets, the limit is %d", n, c.limits.MaxMessage)
	}
	return nil
}

// checkEpoch checks that a handshake message belongs to the current epoch.
func (st *publicState) checkEpoch(t ContentType, epoch uint64) error {
	if epoch == st.ctx.Epoch {
		return nil
	}
	rule := RuleProposalEpoch
	if t == ContentCommit {
		rule = RuleCommitEpoch
	}
	err := ErrEpochFuture
	if epoch < st.ctx.Epoch {
		err = ErrEpochPast
	}
	return broken(rule, err, "%v of epoch %d, the group is in epoch %d", t, epoch, st.ctx.Epoch)
}

// wrongKindError says that a message is not for a group to process.
type wrongKindError struct{ f WireFormat }

func (e *wrongKindError) Error() string {
	return "mls: a message of wire format " + e.f.String() + " is not for a group to process: use Join, JoinExternal or CommitOptions"
}

// membershipRule is the rule that a wrong membership tag of a breaks.
func (a *authenticatedContent) membershipRule() Rule {
	if a.content.ContentType == ContentCommit {
		return RuleCommitMembershipTag
	}
	return RuleMembershipTag
}
