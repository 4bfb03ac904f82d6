// SPDX-License-Identifier: Apache-2.0

// Key packages: what a client publishes so that others can add it while it is
// away (RFC 9420 §10).

package mls

import (
	"bytes"
	"fmt"
)

// A KeyPackageRef identifies a key package by its hash (RFC 9420 §5.2).
type KeyPackageRef []byte

// A KeyPackage lets others add its owner to a group (RFC 9420 §10). It is
// immutable once it was decoded or signed: its encoding is kept with it.
type KeyPackage struct {
	Version     ProtocolVersion
	CipherSuite CipherSuite
	InitKey     []byte
	LeafNode    *LeafNode
	Extensions  Extensions
	Signature   []byte

	raw []byte
}

func readKeyPackage(r *reader) *KeyPackage {
	start := r.b
	kp := &KeyPackage{
		Version:     ProtocolVersion(r.u16()),
		CipherSuite: CipherSuite(r.u16()),
		InitKey:     r.opaque(),
		LeafNode:    readLeafNode(r),
		Extensions:  readExtensions(r),
		Signature:   r.opaque(),
	}
	if r.err != nil {
		return nil
	}
	n := len(start) - len(r.b)
	kp.raw = start[:n:n]
	return kp
}

func (kp *KeyPackage) appendUnsigned(b []byte) []byte {
	b = appendU16(b, uint16(kp.Version))
	b = appendU16(b, uint16(kp.CipherSuite))
	b = appendOpaque(b, kp.InitKey)
	b = kp.LeafNode.appendTo(b)
	return kp.Extensions.appendTo(b)
}

func (kp *KeyPackage) appendTo(b []byte) []byte {
	if kp.raw != nil {
		return append(b, kp.raw...)
	}
	return appendOpaque(kp.appendUnsigned(b), kp.Signature)
}

// tbs returns KeyPackageTBS (RFC 9420 §10).
func (kp *KeyPackage) tbs() []byte {
	if kp.raw != nil {
		return kp.raw[:len(kp.raw)-len(kp.Signature)-varintLen(len(kp.Signature))]
	}
	return kp.appendUnsigned(nil)
}

func (kp *KeyPackage) sign(s *suite, key *SignaturePrivateKey) error {
	kp.raw = nil
	sig, err := s.signWithLabel(key, "KeyPackageTBS", kp.tbs())
	if err != nil {
		return fmt.Errorf("mls: signing key package: %w", err)
	}
	kp.Signature = sig
	kp.raw = kp.appendTo(nil)
	return nil
}

// Bytes returns the encoding of the key package, without the MLSMessage frame.
// The caller must not change it.
func (kp *KeyPackage) Bytes() []byte {
	if kp.raw != nil {
		return kp.raw
	}
	return kp.appendTo(nil)
}

// Message returns the key package as an MLSMessage.
func (kp *KeyPackage) Message() *Message { return newMessage(&Message{KeyPackage: kp}) }

// Ref returns the hash that identifies the key package (RFC 9420 §5.2). It fails
// when the cipher suite is unknown.
func (kp *KeyPackage) Ref() (KeyPackageRef, error) {
	s, err := kp.CipherSuite.suite()
	if err != nil {
		return nil, err
	}
	return s.refHash("MLS 1.0 KeyPackage Reference", kp.Bytes()), nil
}

// LastResort reports whether the key package may be used more than once
// (RFC 9420 §16.8): marked by the component of draft-ietf-mls-extensions or by the
// extension of its earlier versions.
func (kp *KeyPackage) LastResort() bool {
	if _, ok := kp.Extensions.Find(ExtensionLastResort); ok {
		return true
	}
	d, err := kp.Extensions.AppData()
	if err != nil {
		return false
	}
	_, ok := d.Find(ComponentLastResortKeyPackage)
	return ok
}

// ParseKeyPackage decodes a key package that has no MLSMessage frame; nothing is
// verified.
func ParseKeyPackage(b []byte) (*KeyPackage, error) {
	return decode(bytes.Clone(b), "key package", readKeyPackage)
}
