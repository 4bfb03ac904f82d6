// SPDX-License-Identifier: Apache-2.0

// Leaf nodes: a member's keys, credential and capabilities (RFC 9420 §7.2).

package mls

import (
	"bytes"
	"fmt"
	"slices"
	"time"
)

// A ProtocolVersion is a version of MLS (RFC 9420 §6).
type ProtocolVersion uint16

// MLS10 is RFC 9420.
const MLS10 ProtocolVersion = 1

// A LeafNodeSource says what a leaf node was made for (RFC 9420 §7.2).
type LeafNodeSource uint8

// The sources of a leaf node.
const (
	LeafNodeKeyPackage LeafNodeSource = 1
	LeafNodeUpdate     LeafNodeSource = 2
	LeafNodeCommit     LeafNodeSource = 3
)

// String returns the RFC's name of the source.
func (s LeafNodeSource) String() string {
	switch s {
	case LeafNodeKeyPackage:
		return "key_package"
	case LeafNodeUpdate:
		return "update"
	case LeafNodeCommit:
		return "commit"
	}
	return fmt.Sprintf("LeafNodeSource(%d)", uint8(s))
}

// Capabilities lists what a client supports beyond the defaults of RFC 9420
// (RFC 9420 §7.2). Unknown values are kept and mean nothing.
type Capabilities struct {
	Versions     []ProtocolVersion
	CipherSuites []CipherSuite
	Extensions   []ExtensionType
	Proposals    []ProposalType
	Credentials  []CredentialType
}

func readCapabilities(r *reader) Capabilities {
	return Capabilities{
		Versions:     readU16s[ProtocolVersion](r),
		CipherSuites: readU16s[CipherSuite](r),
		Extensions:   readU16s[ExtensionType](r),
		Proposals:    readU16s[ProposalType](r),
		Credentials:  readU16s[CredentialType](r),
	}
}

func (c *Capabilities) appendTo(b []byte) []byte {
	b = appendU16s(b, c.Versions)
	b = appendU16s(b, c.CipherSuites)
	b = appendU16s(b, c.Extensions)
	b = appendU16s(b, c.Proposals)
	return appendU16s(b, c.Credentials)
}

// SupportsExtension reports whether the client understands the extension: the
// ones of RFC 9420 are never listed and always understood.
func (c *Capabilities) SupportsExtension(t ExtensionType) bool {
	return t.isDefault() || slices.Contains(c.Extensions, t)
}

// SupportsProposal reports whether the client understands the proposal type.
func (c *Capabilities) SupportsProposal(t ProposalType) bool {
	return t.isDefault() || slices.Contains(c.Proposals, t)
}

// SupportsCredential reports whether the client understands the credential type.
func (c *Capabilities) SupportsCredential(t CredentialType) bool {
	return slices.Contains(c.Credentials, t)
}

// A Lifetime is the time in which a key package may be used, in seconds since
// 1970-01-01 UTC, both ends included (RFC 9420 §7.2).
type Lifetime struct {
	NotBefore, NotAfter uint64
}

// Contains reports whether t lies in the lifetime.
func (l Lifetime) Contains(t time.Time) bool {
	s := t.Unix()
	return s >= 0 && uint64(s) >= l.NotBefore && uint64(s) <= l.NotAfter
}

// A LeafNode is a member's entry in the ratchet tree (RFC 9420 §7.2). It is
// immutable once it was decoded or signed: its encoding is kept with it.
type LeafNode struct {
	EncryptionKey []byte
	SignatureKey  []byte
	Credential    Credential
	Capabilities  Capabilities
	Source        LeafNodeSource
	Lifetime      Lifetime // when Source is LeafNodeKeyPackage
	ParentHash    []byte   // when Source is LeafNodeCommit
	Extensions    Extensions
	Signature     []byte

	// raw is the exact encoding, set when decoded or signed.
	raw []byte
}

func readLeafNode(r *reader) *LeafNode {
	start := r.b
	l := &LeafNode{
		EncryptionKey: r.opaque(),
		SignatureKey:  r.opaque(),
		Credential:    readCredential(r),
		Capabilities:  readCapabilities(r),
		Source:        LeafNodeSource(r.u8()),
	}
	switch l.Source {
	case LeafNodeKeyPackage:
		l.Lifetime = Lifetime{r.u64(), r.u64()}
	case LeafNodeUpdate:
	case LeafNodeCommit:
		l.ParentHash = r.opaque()
	default:
		r.fail(fmt.Errorf("mls: leaf_node_source %d is unknown", uint8(l.Source)))
	}
	l.Extensions = readExtensions(r)
	l.Signature = r.opaque()
	if r.err != nil {
		return nil
	}
	n := len(start) - len(r.b)
	l.raw = start[:n:n]
	return l
}

// appendUnsigned writes what the TBS and the leaf itself begin with.
func (l *LeafNode) appendUnsigned(b []byte) []byte {
	b = appendOpaque(b, l.EncryptionKey)
	b = appendOpaque(b, l.SignatureKey)
	b = l.Credential.appendTo(b)
	b = l.Capabilities.appendTo(b)
	b = appendU8(b, uint8(l.Source))
	switch l.Source {
	case LeafNodeKeyPackage:
		b = appendU64(appendU64(b, l.Lifetime.NotBefore), l.Lifetime.NotAfter)
	case LeafNodeCommit:
		b = appendOpaque(b, l.ParentHash)
	}
	return l.Extensions.appendTo(b)
}

func (l *LeafNode) appendTo(b []byte) []byte {
	if l.raw != nil {
		return append(b, l.raw...)
	}
	return appendOpaque(l.appendUnsigned(b), l.Signature)
}

// appendTBS writes LeafNodeTBS (RFC 9420 §7.2). groupID and index count only
// for the sources update and commit.
func (l *LeafNode) appendTBS(b []byte, groupID GroupID, index LeafIndex) []byte {
	if l.raw != nil {
		// The TBS is the encoding without its last field.
		n := len(l.raw) - len(l.Signature) - varintLen(len(l.Signature))
		b = append(b, l.raw[:n]...)
	} else {
		b = l.appendUnsigned(b)
	}
	if l.Source == LeafNodeUpdate || l.Source == LeafNodeCommit {
		b = appendU32(appendOpaque(b, groupID), uint32(index))
	}
	return b
}

// sign signs the leaf and fixes its encoding.
func (l *LeafNode) sign(s *suite, key *SignaturePrivateKey, groupID GroupID, index LeafIndex) error {
	l.raw = nil
	sig, err := s.signWithLabel(key, "LeafNodeTBS", l.appendTBS(nil, groupID, index))
	if err != nil {
		return fmt.Errorf("mls: signing leaf node: %w", err)
	}
	l.Signature = sig
	l.raw = l.appendTo(nil)
	return nil
}

// verifySignature checks the leaf's own signature (RFC 9420 §7.3).
func (l *LeafNode) verifySignature(s *suite, groupID GroupID, index LeafIndex) error {
	return s.verifyAppended(l.SignatureKey, "LeafNodeTBS", l.Signature, func(b []byte) []byte {
		return l.appendTBS(b, groupID, index)
	})
}

// Bytes returns the encoding of the leaf node. The caller must not change it.
func (l *LeafNode) Bytes() []byte {
	if l.raw != nil {
		return l.raw
	}
	return l.appendTo(nil)
}

// ParseLeafNode decodes a leaf node; nothing is verified.
func ParseLeafNode(b []byte) (*LeafNode, error) {
	return decode(bytes.Clone(b), "leaf node", readLeafNode)
}

// ApplicationID returns the content of the application_id extension
// (RFC 9420 §5.3.3), nil when there is none.
func (l *LeafNode) ApplicationID() []byte {
	id, _ := l.Extensions.Find(ExtensionApplicationID)
	return id
}

// Equal reports whether both leaves have the same encoding.
func (l *LeafNode) Equal(m *LeafNode) bool { return bytes.Equal(l.Bytes(), m.Bytes()) }
