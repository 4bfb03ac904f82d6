// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// This file holds HPKE in base mode (RFC 9180 §5.1) as RFC 9420 §5.1.3 and
// §8.3 use it: one message per context, or one exported secret. It is our own
// and not crypto/hpke because MLS needs X448, key derivation from material of
// any length, and one info for many recipients: HPKE hashes the info, and the
// info of a Welcome contains the whole encrypted GroupInfo. A labelContext
// hashes it once.

const hpkeVersion = "HPKE-v1"

// labeledExtract is LabeledExtract(salt, label, ikm) (RFC 9180 §4) for a
// suite_id; the ikm is the concatenation of two parts.
func (a hashAlg) labeledExtract(out *hashBuf, suiteID, salt []byte, label string, ikm0, ikm1 []byte) {
	var head [40]byte
	h := append(head[:0], hpkeVersion...)
	h = append(h, suiteID...)
	h = append(h, label...)
	a.hmac(out, salt, h, ikm0, ikm1)
}

// labeledExpand is LabeledExpand(prk, label, info, len(out)) (RFC 9180 §4);
// the info is the concatenation of two parts.
func (a hashAlg) labeledExpand(out, suiteID, prk []byte, label string, info0, info1 []byte) {
	var head [48]byte
	h := binary.BigEndian.AppendUint16(head[:0], uint16(len(out)))
	h = append(h, hpkeVersion...)
	h = append(h, suiteID...)
	h = append(h, label...)
	a.expand(out, prk, h, info0, info1)
}

// labelContext is the part of EncryptWithLabel (RFC 9420 §5.1.3) that is the
// same for all recipients: HPKE's key_schedule_context for one label and
// context. It is immutable and may be used by many goroutines at once.
type labelContext struct {
	s   *suite
	ksc []byte // mode_base ‖ psk_id_hash ‖ info_hash
}

// newLabelContext hashes label and context once for any number of seals.
//
//	struct {
//	  opaque label<V>;
//	  opaque context<V>;
//	} EncryptContext;
func (s *suite) newLabelContext(label string, context []byte) *labelContext {
	head := make([]byte, 0, 64)
	head = appendVarint(head, len(labelPrefix)+len(label))
	head = append(head, labelPrefix...)
	head = append(head, label...)
	head = appendVarint(head, len(context))
	return s.newInfoContext(head, context)
}

// newInfoContext is newLabelContext for an info that is not labelled, in two
// parts.
func (s *suite) newInfoContext(info0, info1 []byte) *labelContext {
	var infoHash hashBuf
	s.kdf.labeledExtract(&infoHash, s.hpkeID[:], nil, "info_hash", info0, info1)
	ksc := make([]byte, 0, 1+2*s.nh)
	ksc = append(ksc, 0) // mode_base
	ksc = append(ksc, s.pskIDHash...)
	ksc = append(ksc, infoHash[:s.nh]...)
	return &labelContext{s: s, ksc: ksc}
}

// keyNonce is the part of KeySchedule() (RFC 9180 §5.1) that a single message
// needs. It wipes shared.
func (c *labelContext) keyNonce(shared *kemSecret, key *[maxAEADKeySize]byte, nonce *[aeadNonceSize]byte) {
	var secret hashBuf
	c.secret(&secret, shared)
	s := c.s
	s.kdf.labeledExpand(key[:s.nk], s.hpkeID[:], secret[:s.nh], "key", c.ksc, nil)
	s.kdf.labeledExpand(nonce[:], s.hpkeID[:], secret[:s.nh], "base_nonce", c.ksc, nil)
	wipe(secret[:])
}

func (c *labelContext) secret(out *hashBuf, shared *kemSecret) {
	c.s.kdf.labeledExtract(out, c.s.hpkeID[:], shared.bytes(), "secret", nil, nil)
	shared.wipe()
}

// exporter is Context.Export(exporterContext, n) (RFC 9180 §5.3). It wipes
// shared.
func (c *labelContext) exporter(shared *kemSecret, exporterContext []byte, n int) ([]byte, error) {
	s := c.s
	if n < 0 || n > 255*s.nh {
		shared.wipe()
		return nil, fmt.Errorf("mls: cannot export %d bytes: the limit is %d", n, 255*s.nh)
	}
	var secret, exp hashBuf
	c.secret(&secret, shared)
	s.kdf.labeledExpand(exp[:s.nh], s.hpkeID[:], secret[:s.nh], "exp", c.ksc, nil)
	out := make([]byte, n)
	if n > 0 {
		s.kdf.labeledExpand(out, s.hpkeID[:], exp[:s.nh], "sec", exporterContext, nil)
	}
	wipe(secret[:])
	wipe(exp[:])
	return out, nil
}

// seal encrypts plaintext to the holder of pub. It may be called concurrently.
// The randomness comes from rand, or from the system if rand is nil; ML-KEM
// always draws its own from the system.
func (c *labelContext) seal(rand io.Reader, pub, plaintext []byte) (HPKECiphertext, error) {
	shared, enc, err := c.s.kem.encap(rand, pub)
	if err != nil {
		return HPKECiphertext{}, err
	}
	var key [maxAEADKeySize]byte
	var nonce [aeadNonceSize]byte
	c.keyNonce(&shared, &key, &nonce)
	ct, err := c.s.seal(key[:c.s.nk], nonce[:], nil, plaintext)
	wipe(key[:])
	if err != nil {
		return HPKECiphertext{}, err
	}
	return HPKECiphertext{KEMOutput: enc, Ciphertext: ct}, nil
}

// open decrypts what seal made for the public key of priv. It may be called
// concurrently.
func (c *labelContext) open(priv *hpkePrivateKey, ct HPKECiphertext) ([]byte, error) {
	shared, err := c.s.decap(priv, ct.KEMOutput)
	if err != nil {
		return nil, err
	}
	var key [maxAEADKeySize]byte
	var nonce [aeadNonceSize]byte
	c.keyNonce(&shared, &key, &nonce)
	pt, err := c.s.open(key[:c.s.nk], nonce[:], nil, ct.Ciphertext)
	wipe(key[:])
	return pt, err
}

// encryptWithLabel is EncryptWithLabel (RFC 9420 §5.1.3). For many recipients
// of one context, newLabelContext is cheaper.
func (s *suite) encryptWithLabel(rand io.Reader, pub []byte, label string, context, plaintext []byte) (HPKECiphertext, error) {
	return s.newLabelContext(label, context).seal(rand, pub, plaintext)
}

// decryptWithLabel is DecryptWithLabel (RFC 9420 §5.1.3).
func (s *suite) decryptWithLabel(priv *hpkePrivateKey, label string, context []byte, ct HPKECiphertext) ([]byte, error) {
	return s.newLabelContext(label, context).open(priv, ct)
}

// hpkeExportSend is SetupBaseS(pub, info) followed by
// Context.Export(exporterContext, n): how an external joiner chooses the init
// secret (RFC 9420 §8.3).
func (s *suite) hpkeExportSend(rand io.Reader, pub, info, exporterContext []byte, n int) (kemOutput, secret []byte, err error) {
	shared, kemOutput, err := s.kem.encap(rand, pub)
	if err != nil {
		return nil, nil, err
	}
	secret, err = s.newInfoContext(info, nil).exporter(&shared, exporterContext, n)
	if err != nil {
		return nil, nil, err
	}
	return kemOutput, secret, nil
}

// hpkeExportReceive is SetupBaseR followed by Export: the members' side of
// hpkeExportSend.
func (s *suite) hpkeExportReceive(priv *hpkePrivateKey, kemOutput, info, exporterContext []byte, n int) ([]byte, error) {
	shared, err := s.decap(priv, kemOutput)
	if err != nil {
		return nil, err
	}
	return s.newInfoContext(info, nil).exporter(&shared, exporterContext, n)
}

func (s *suite) decap(priv *hpkePrivateKey, enc []byte) (kemSecret, error) {
	if priv == nil || priv.kem == nil {
		return kemSecret{}, errors.New("mls: no HPKE private key, or one that was wiped")
	}
	if priv.kem != s.kem {
		return kemSecret{}, errors.New("mls: HPKE private key belongs to another cipher suite's KEM")
	}
	if len(enc) != s.kem.encSize() {
		return kemSecret{}, fmt.Errorf("mls: %w: KEM output has %d bytes, want %d", errBadHPKEKey, len(enc), s.kem.encSize())
	}
	return s.kem.decap(priv, enc)
}
