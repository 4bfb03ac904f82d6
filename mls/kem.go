// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// kem is a key encapsulation mechanism of HPKE (RFC 9180 §4 and §7.1, and
// draft-ietf-hpke-pq). Its implementations are comparable values of this
// package, immutable and safe for concurrent use.
type kem interface {
	id() uint16
	postQuantum() bool

	publicKeySize() int
	encSize() int // bytes of a KEM output

	// parsePrivateKey is DeserializePrivateKey; it also computes the public key.
	parsePrivateKey(b []byte) (*hpkePrivateKey, error)
	// checkPublicKey accepts what DeserializePublicKey accepts and encap can use.
	checkPublicKey(pub []byte) error
	// generate makes a fresh key pair.
	generate(rand io.Reader) (*hpkePrivateKey, error)
	// derive is DeriveKeyPair, for key material of any length.
	derive(ikm []byte) (*hpkePrivateKey, error)
	// encap is Encap: a fresh shared secret and its encapsulation.
	encap(rand io.Reader, pub []byte) (shared kemSecret, enc []byte, err error)
	// decap is Decap; enc has encSize bytes.
	decap(priv *hpkePrivateKey, enc []byte) (kemSecret, error)
}

// kemSecret is the shared secret of a KEM. It is passed by value, which keeps it
// out of the heap.
type kemSecret struct {
	buf hashBuf
	n   int
}

func (k *kemSecret) bytes() []byte { return k.buf[:k.n] }
func (k *kemSecret) wipe()         { wipe(k.buf[:]) }

// errBadHPKEKey is wrapped by the errors that say that a public key or KEM
// output is not one of its KEM.
var errBadHPKEKey = errors.New("invalid HPKE key")

// errKeyNotParsed cannot happen: every private key is made by its KEM.
var errKeyNotParsed = errors.New("mls: internal error: HPKE private key lacks its parsed form")

// hpkePrivateKey is the private half of an HPKE key pair, parsed once.
type hpkePrivateKey struct {
	redacted
	kem    kem
	sk     []byte // SerializePrivateKey
	pub    []byte
	parsed any // the KEM's own form, where parsing costs something
}

// bytes returns the private key as SerializePrivateKey (RFC 9180 §4) writes
// it. It is the key's own memory: wipe erases it.
func (k *hpkePrivateKey) bytes() []byte { return k.sk }

// public returns the public key. The caller must not change it.
func (k *hpkePrivateKey) public() []byte { return k.pub }

// wipe erases the private key; it cannot be used afterwards. The standard
// library's own copies of NIST and ML-KEM keys can only be dropped.
func (k *hpkePrivateKey) wipe() {
	if k == nil {
		return
	}
	wipe(k.sk)
	if h, ok := k.parsed.(*hybridKey); ok {
		wipe(h.x[:])
	}
	k.sk, k.parsed, k.kem = nil, nil, nil
}

// parseHPKEPrivateKey reads a private key that bytes wrote. Scalars of the NIST
// curves may lack leading zeros, as some implementations write them.
func (s *suite) parseHPKEPrivateKey(b []byte) (*hpkePrivateKey, error) {
	return s.kem.parsePrivateKey(b)
}

// checkHPKEPublicKey verifies that pub is a public key of the suite's KEM: its
// length, that it is a point on the curve, and that it is not one with which
// no secret can be agreed (a low-order point). A member with such a key would
// make every commit that encrypts to it fail.
func (s *suite) checkHPKEPublicKey(pub []byte) error {
	return s.kem.checkPublicKey(pub)
}

// generateHPKEKeyPair makes a fresh key pair with randomness from rand, or
// from the system if rand is nil.
func (s *suite) generateHPKEKeyPair(rand io.Reader) (*hpkePrivateKey, []byte, error) {
	k, err := s.kem.generate(rand)
	if err != nil {
		return nil, nil, err
	}
	return k, k.pub, nil
}

// deriveKeyPair is KEM.DeriveKeyPair (RFC 9180 §7.1.3) for key material of any
// length: MLS derives from secrets of KDF.Nh bytes.
func (s *suite) deriveKeyPair(ikm []byte) (priv *hpkePrivateKey, pub []byte, err error) {
	k, err := s.kem.derive(ikm)
	if err != nil {
		return nil, nil, err
	}
	return k, k.pub, nil
}

// kemSuiteID is the suite_id of a KEM (RFC 9180 §4.1).
func kemSuiteID(id uint16) [5]byte {
	var b [5]byte
	copy(b[:], "KEM")
	binary.BigEndian.PutUint16(b[3:], id)
	return b
}

// dhkem is what the DHKEMs (RFC 9180 §4.1) have in common.
type dhkem struct {
	kemID   uint16
	kdf     hashAlg
	nsecret int
	nsk     int
	npk     int // Npk and Nenc
}

func (d dhkem) id() uint16         { return d.kemID }
func (d dhkem) postQuantum() bool  { return false }
func (d dhkem) publicKeySize() int { return d.npk }
func (d dhkem) encSize() int       { return d.npk }

func (d dhkem) checkPublicKeySize(pub []byte) error {
	return checkHPKEKeySize(pub, d.npk)
}

func checkHPKEKeySize(pub []byte, want int) error {
	if len(pub) != want {
		return fmt.Errorf("mls: %w: public key has %d bytes, want %d", errBadHPKEKey, len(pub), want)
	}
	return nil
}

// extractAndExpand is ExtractAndExpand(dh, kem_context) with kem_context = enc
// ‖ pkRm.
func (d dhkem) extractAndExpand(dh, enc, pkRm []byte) kemSecret {
	sid := kemSuiteID(d.kemID)
	var prk hashBuf
	d.kdf.labeledExtract(&prk, sid[:], nil, "eae_prk", dh, nil)
	shared := kemSecret{n: d.nsecret}
	d.kdf.labeledExpand(shared.buf[:d.nsecret], sid[:], prk[:d.kdf.size()], "shared_secret", enc, pkRm)
	wipe(prk[:])
	return shared
}

// derivePRK is the first step of DeriveKeyPair.
func (d dhkem) derivePRK(prk *hashBuf, ikm []byte) {
	sid := kemSuiteID(d.kemID)
	d.kdf.labeledExtract(prk, sid[:], nil, "dkp_prk", ikm, nil)
}

func (d dhkem) expandPRK(out []byte, prk *hashBuf, label string, info []byte) {
	sid := kemSuiteID(d.kemID)
	d.kdf.labeledExpand(out, sid[:], prk[:d.kdf.size()], label, info, nil)
}
