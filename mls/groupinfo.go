// SPDX-License-Identifier: Apache-2.0

// GroupContext, GroupInfo and Welcome: what a group agrees on, and what a joiner
// learns (RFC 9420 §8.1, §12.4.3).

package mls

import (
	"bytes"
	"fmt"
)

// A GroupContext is what all members agree on in an epoch (RFC 9420 §8.1).
type GroupContext struct {
	Version                 ProtocolVersion
	CipherSuite             CipherSuite
	GroupID                 GroupID
	Epoch                   uint64
	TreeHash                []byte
	ConfirmedTranscriptHash []byte
	Extensions              Extensions
}

func readGroupContext(r *reader) GroupContext {
	return GroupContext{
		Version:                 ProtocolVersion(r.u16()),
		CipherSuite:             CipherSuite(r.u16()),
		GroupID:                 r.opaque(),
		Epoch:                   r.u64(),
		TreeHash:                r.opaque(),
		ConfirmedTranscriptHash: r.opaque(),
		Extensions:              readExtensions(r),
	}
}

func (c *GroupContext) appendTo(b []byte) []byte {
	b = appendU16(b, uint16(c.Version))
	b = appendU16(b, uint16(c.CipherSuite))
	b = appendOpaque(b, c.GroupID)
	b = appendU64(b, c.Epoch)
	b = appendOpaque(b, c.TreeHash)
	b = appendOpaque(b, c.ConfirmedTranscriptHash)
	return c.Extensions.appendTo(b)
}

// Bytes returns the encoding of the context.
func (c *GroupContext) Bytes() []byte { return c.appendTo(nil) }

// A GroupInfo describes a group to those who are about to join it
// (RFC 9420 §12.4.3).
type GroupInfo struct {
	Context         GroupContext
	Extensions      Extensions
	ConfirmationTag []byte
	Signer          LeafIndex
	Signature       []byte

	raw []byte
}

func readGroupInfo(r *reader) *GroupInfo {
	start := r.b
	gi := &GroupInfo{
		Context:         readGroupContext(r),
		Extensions:      readExtensions(r),
		ConfirmationTag: r.opaque(),
		Signer:          LeafIndex(r.u32()),
		Signature:       r.opaque(),
	}
	if r.err != nil {
		return nil
	}
	n := len(start) - len(r.b)
	gi.raw = start[:n:n]
	return gi
}

func (gi *GroupInfo) appendUnsigned(b []byte) []byte {
	b = gi.Context.appendTo(b)
	b = gi.Extensions.appendTo(b)
	b = appendOpaque(b, gi.ConfirmationTag)
	return appendU32(b, uint32(gi.Signer))
}

func (gi *GroupInfo) appendTo(b []byte) []byte {
	if gi.raw != nil {
		return append(b, gi.raw...)
	}
	return appendOpaque(gi.appendUnsigned(b), gi.Signature)
}

// tbs returns GroupInfoTBS (RFC 9420 §12.4.3).
func (gi *GroupInfo) tbs() []byte {
	if gi.raw != nil {
		return gi.raw[:len(gi.raw)-len(gi.Signature)-varintLen(len(gi.Signature))]
	}
	return gi.appendUnsigned(nil)
}

func (gi *GroupInfo) sign(s *suite, key *SignaturePrivateKey) error {
	gi.raw = nil
	sig, err := s.signWithLabel(key, "GroupInfoTBS", gi.tbs())
	if err != nil {
		return fmt.Errorf("mls: signing GroupInfo: %w", err)
	}
	gi.Signature = sig
	gi.raw = gi.appendTo(nil)
	return nil
}

// Bytes returns the encoding, without the MLSMessage frame. The caller must not
// change it.
func (gi *GroupInfo) Bytes() []byte {
	if gi.raw != nil {
		return gi.raw
	}
	return gi.appendTo(nil)
}

// Message returns the GroupInfo as an MLSMessage.
func (gi *GroupInfo) Message() *Message { return newMessage(&Message{GroupInfo: gi}) }

// ParseGroupInfo decodes a GroupInfo that has no MLSMessage frame; nothing is
// verified.
func ParseGroupInfo(b []byte) (*GroupInfo, error) {
	return decode(bytes.Clone(b), "GroupInfo", readGroupInfo)
}

// RatchetTree returns the encoded tree of the ratchet_tree extension, nil when
// the tree travels apart (RFC 9420 §12.4.3.3).
func (gi *GroupInfo) RatchetTree() []byte {
	b, _ := gi.Extensions.Find(ExtensionRatchetTree)
	return b
}

// ExternalPub returns the HPKE key for external commits (RFC 9420 §12.4.3.2),
// nil when the group takes none or the extension is broken.
func (gi *GroupInfo) ExternalPub() []byte {
	pub, _, _ := gi.Extensions.externalPub()
	return pub
}

// groupSecrets is GroupSecrets (RFC 9420 §12.4.3.1).
type groupSecrets struct {
	joinerSecret []byte
	pathSecret   []byte // nil when absent
	psks         []PreSharedKeyID
}

func readGroupSecrets(r *reader) *groupSecrets {
	g := &groupSecrets{joinerSecret: r.opaque()}
	if r.optional() {
		g.pathSecret = r.opaque()
	}
	g.psks = readVector(r, readPreSharedKeyID)
	return g
}

func (g *groupSecrets) appendTo(b []byte) []byte {
	b = appendOpaque(b, g.joinerSecret)
	b = appendOptional(b, g.pathSecret != nil, func(b []byte) []byte { return appendOpaque(b, g.pathSecret) })
	return appendVector(b, g.psks, func(b []byte, id PreSharedKeyID) []byte { return id.appendTo(b) })
}

// EncryptedGroupSecrets is the part of a [Welcome] for one new member
// (RFC 9420 §12.4.3.1).
type EncryptedGroupSecrets struct {
	NewMember KeyPackageRef
	Secrets   HPKECiphertext
}

// A Welcome lets new members join (RFC 9420 §12.4.3.1).
type Welcome struct {
	CipherSuite        CipherSuite
	Secrets            []EncryptedGroupSecrets
	EncryptedGroupInfo []byte
}

func readWelcome(r *reader) *Welcome {
	return &Welcome{
		CipherSuite: CipherSuite(r.u16()),
		Secrets: readVector(r, func(r *reader) EncryptedGroupSecrets {
			return EncryptedGroupSecrets{r.opaque(), readHPKECiphertext(r)}
		}),
		EncryptedGroupInfo: r.opaque(),
	}
}

func (w *Welcome) appendTo(b []byte) []byte {
	b = appendU16(b, uint16(w.CipherSuite))
	b = appendVector(b, w.Secrets, func(b []byte, s EncryptedGroupSecrets) []byte {
		return appendHPKECiphertext(appendOpaque(b, s.NewMember), s.Secrets)
	})
	return appendOpaque(b, w.EncryptedGroupInfo)
}

// Message returns the Welcome as an MLSMessage.
func (w *Welcome) Message() *Message { return newMessage(&Message{Welcome: w}) }

// KeyPackageRefs returns the key packages whose owners may join by w, in order.
func (w *Welcome) KeyPackageRefs() []KeyPackageRef {
	refs := make([]KeyPackageRef, len(w.Secrets))
	for i := range w.Secrets {
		refs[i] = w.Secrets[i].NewMember
	}
	return refs
}

// Split returns a Welcome that holds only the secrets for the owner of ref: what
// a delivery service hands to one joiner. It is false when w has none.
func (w *Welcome) Split(ref KeyPackageRef) (*Welcome, bool) {
	for i := range w.Secrets {
		if bytes.Equal(w.Secrets[i].NewMember, ref) {
			return &Welcome{w.CipherSuite, w.Secrets[i : i+1 : i+1], w.EncryptedGroupInfo}, true
		}
	}
	return nil, false
}
