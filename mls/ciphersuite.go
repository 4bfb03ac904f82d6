// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// CipherSuite names the algorithms of a group: KEM, AEAD, hash and signature
// scheme (RFC 9420 §5.1, §17.1).
type CipherSuite uint16

// The cipher suites of RFC 9420 §17.1. X448 and Ed448 are as strong as P-384
// and slower than X25519 by a factor of four; suites 5 and 7 are slow in Go
// (one P-521 operation costs milliseconds).
const (
	MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519        CipherSuite = 1
	MLS_128_DHKEMP256_AES128GCM_SHA256_P256             CipherSuite = 2
	MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519 CipherSuite = 3
	MLS_256_DHKEMX448_AES256GCM_SHA512_Ed448            CipherSuite = 4
	MLS_256_DHKEMP521_AES256GCM_SHA512_P521             CipherSuite = 5
	MLS_256_DHKEMX448_CHACHA20POLY1305_SHA512_Ed448     CipherSuite = 6
	MLS_256_DHKEMP384_AES256GCM_SHA384_P384             CipherSuite = 7
)

// The post-quantum cipher suites of draft-ietf-mls-pq-ciphersuites, in the
// draft's order (TBD1 to TBD11).
//
// Experimental: the draft has no code points yet. These are from the range for
// private use (0xF000 to 0xFFFF, RFC 9420 §17.1) and will change when IANA has
// assigned real ones: a group made with one of them can be read only by
// software that agrees on the number. This list is the only place that knows
// the numbers.
const (
	MLS_128_MLKEM768X25519_AES128GCM_SHA256_Ed25519 CipherSuite = 0xF0C1 + iota
	MLS_128_MLKEM768X25519_AES256GCM_SHA384_Ed25519
	MLS_128_MLKEM768P256_AES128GCM_SHA256_P256
	MLS_128_MLKEM768P256_AES256GCM_SHA384_P256
	MLS_192_MLKEM1024P384_AES256GCM_SHA384_P384
	MLS_128_MLKEM768_AES256GCM_SHA384_Ed25519
	MLS_128_MLKEM768_AES256GCM_SHA384_P256
	MLS_192_MLKEM1024_AES256GCM_SHA384_P384
	MLS_128_MLKEM768X25519_CHACHA20POLY1305_SHA384_MLDSA44
	MLS_192_MLKEM768_AES256GCM_SHA384_MLDSA65
	MLS_256_MLKEM1024_AES256GCM_SHA384_MLDSA87
)

// ErrUnsupportedCipherSuite is wrapped by every error that says that a cipher
// suite is not one that this package implements.
var ErrUnsupportedCipherSuite = errors.New("unsupported cipher suite")

// suite is a cipher suite with everything that can be computed once. It is
// immutable: there is one instance per cipher suite, shared by all goroutines.
type suite struct {
	cipher CipherSuite
	name   string

	kem  kem
	kdf  hashAlg // of MLS and of HPKE; the KEM has its own
	aead aeadAlg
	sig  signatureScheme

	nh int // KDF.Nh: bytes of a hash, a MAC and of most secrets
	nk int // AEAD.Nk: bytes of a key
	nn int // AEAD.Nn: bytes of a nonce
	nt int // bytes that the AEAD adds to a plaintext

	postQuantum bool

	hpkeID    [10]byte // "HPKE" ‖ kem_id ‖ kdf_id ‖ aead_id (RFC 9180 §5.1)
	pskIDHash []byte   // LabeledExtract("", "psk_id_hash", ""), the same for all base mode contexts
}

// suites is the one table of what is implemented.
var suites = []*suite{
	newSuite(MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519, "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519", kemX25519, hashSHA256, aeadAES128GCM, sigEd25519),
	newSuite(MLS_128_DHKEMP256_AES128GCM_SHA256_P256, "MLS_128_DHKEMP256_AES128GCM_SHA256_P256", kemP256, hashSHA256, aeadAES128GCM, sigP256),
	newSuite(MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519, "MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519", kemX25519, hashSHA256, aeadChaCha20Poly1305, sigEd25519),
	newSuite(MLS_256_DHKEMX448_AES256GCM_SHA512_Ed448, "MLS_256_DHKEMX448_AES256GCM_SHA512_Ed448", kemX448, hashSHA512, aeadAES256GCM, sigEd448),
	newSuite(MLS_256_DHKEMP521_AES256GCM_SHA512_P521, "MLS_256_DHKEMP521_AES256GCM_SHA512_P521", kemP521, hashSHA512, aeadAES256GCM, sigP521),
	newSuite(MLS_256_DHKEMX448_CHACHA20POLY1305_SHA512_Ed448, "MLS_256_DHKEMX448_CHACHA20POLY1305_SHA512_Ed448", kemX448, hashSHA512, aeadChaCha20Poly1305, sigEd448),
	newSuite(MLS_256_DHKEMP384_AES256GCM_SHA384_P384, "MLS_256_DHKEMP384_AES256GCM_SHA384_P384", kemP384, hashSHA384, aeadAES256GCM, sigP384),

	newSuite(MLS_128_MLKEM768X25519_AES128GCM_SHA256_Ed25519, "MLS_128_MLKEM768X25519_AES128GCM_SHA256_Ed25519", kemMLKEM768X25519, hashSHA256, aeadAES128GCM, sigEd25519),
	newSuite(MLS_128_MLKEM768X25519_AES256GCM_SHA384_Ed25519, "MLS_128_MLKEM768X25519_AES256GCM_SHA384_Ed25519", kemMLKEM768X25519, hashSHA384, aeadAES256GCM, sigEd25519),
	newSuite(MLS_128_MLKEM768P256_AES128GCM_SHA256_P256, "MLS_128_MLKEM768P256_AES128GCM_SHA256_P256", kemMLKEM768P256, hashSHA256, aeadAES128GCM, sigP256),
	newSuite(MLS_128_MLKEM768P256_AES256GCM_SHA384_P256, "MLS_128_MLKEM768P256_AES256GCM_SHA384_P256", kemMLKEM768P256, hashSHA384, aeadAES256GCM, sigP256),
	newSuite(MLS_192_MLKEM1024P384_AES256GCM_SHA384_P384, "MLS_192_MLKEM1024P384_AES256GCM_SHA384_P384", kemMLKEM1024P384, hashSHA384, aeadAES256GCM, sigP384),
	newSuite(MLS_128_MLKEM768_AES256GCM_SHA384_Ed25519, "MLS_128_MLKEM768_AES256GCM_SHA384_Ed25519", kemMLKEM768, hashSHA384, aeadAES256GCM, sigEd25519),
	newSuite(MLS_128_MLKEM768_AES256GCM_SHA384_P256, "MLS_128_MLKEM768_AES256GCM_SHA384_P256", kemMLKEM768, hashSHA384, aeadAES256GCM, sigP256),
	newSuite(MLS_192_MLKEM1024_AES256GCM_SHA384_P384, "MLS_192_MLKEM1024_AES256GCM_SHA384_P384", kemMLKEM1024, hashSHA384, aeadAES256GCM, sigP384),
	newSuite(MLS_128_MLKEM768X25519_CHACHA20POLY1305_SHA384_MLDSA44, "MLS_128_MLKEM768X25519_CHACHA20POLY1305_SHA384_MLDSA44", kemMLKEM768X25519, hashSHA384, aeadChaCha20Poly1305, sigMLDSA44),
	newSuite(MLS_192_MLKEM768_AES256GCM_SHA384_MLDSA65, "MLS_192_MLKEM768_AES256GCM_SHA384_MLDSA65", kemMLKEM768, hashSHA384, aeadAES256GCM, sigMLDSA65),
	newSuite(MLS_256_MLKEM1024_AES256GCM_SHA384_MLDSA87, "MLS_256_MLKEM1024_AES256GCM_SHA384_MLDSA87", kemMLKEM1024, hashSHA384, aeadAES256GCM, sigMLDSA87),
}

// lastRFCSuite is the highest code point of RFC 9420; what is above and known
// is experimental.
const lastRFCSuite = MLS_256_DHKEMP384_AES256GCM_SHA384_P384

var suiteByNumber = func() map[CipherSuite]*suite {
	m := make(map[CipherSuite]*suite, len(suites))
	for _, s := range suites {
		if m[s.cipher] != nil {
			panic("mls: internal error: cipher suite listed twice: " + s.name)
		}
		m[s.cipher] = s
	}
	return m
}()

func newSuite(cs CipherSuite, name string, k kem, h hashAlg, a aeadAlg, sig signatureScheme) *suite {
	s := &suite{
		cipher: cs, name: name,
		kem: k, kdf: h, aead: a, sig: sig,
		nh: h.size(), nk: a.keySize(), nn: aeadNonceSize, nt: aeadTagSize,
		postQuantum: k.postQuantum(),
	}
	id := append(s.hpkeID[:0], "HPKE"...)
	id = binary.BigEndian.AppendUint16(id, k.id())
	id = binary.BigEndian.AppendUint16(id, h.hpkeID())
	binary.BigEndian.AppendUint16(id, a.hpkeID())
	var out hashBuf
	h.labeledExtract(&out, s.hpkeID[:], nil, "psk_id_hash", nil, nil)
	s.pskIDHash = append([]byte(nil), out[:s.nh]...)
	return s
}

// suite returns the instance of cs, or an error that wraps
// ErrUnsupportedCipherSuite.
func (cs CipherSuite) suite() (*suite, error) {
	if cs >= 1 && cs <= lastRFCSuite {
		return suites[cs-1], nil
	}
	if s := suiteByNumber[cs]; s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("mls: %w %v", ErrUnsupportedCipherSuite, cs)
}

// String returns the registered name, such as
// "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519", or the number as 0xNNNN if
// the suite is not known.
func (cs CipherSuite) String() string {
	if s := suiteByNumber[cs]; s != nil {
		return s.name
	}
	return fmt.Sprintf("0x%04X", uint16(cs))
}

// Known reports whether this package implements the suite.
func (cs CipherSuite) Known() bool { return suiteByNumber[cs] != nil }

// PostQuantum reports whether the suite is known and its KEM resists a quantum
// computer. Only the suites that end in MLDSA have post-quantum signatures as
// well; the others protect what is said today, not who said it.
func (cs CipherSuite) PostQuantum() bool {
	s := suiteByNumber[cs]
	return s != nil && s.postQuantum
}

// Experimental reports whether the suite is known but not one of RFC 9420: its
// number, and what it computes, may change with the draft that defines it.
// Configurations leave experimental suites off unless they are asked for.
func (cs CipherSuite) Experimental() bool { return cs.Known() && cs > lastRFCSuite }

// AllCipherSuites returns the suites that this package implements: the seven
// of RFC 9420 in order, then the experimental ones in the order of their draft.
func AllCipherSuites() []CipherSuite {
	all := make([]CipherSuite, len(suites))
	for i, s := range suites {
		all[i] = s.cipher
	}
	return all
}

// SharesKeys reports whether both suites are known and sign alike, so that one
// signature key serves both.
func (cs CipherSuite) SharesKeys(other CipherSuite) bool {
	a, b := suiteByNumber[cs], suiteByNumber[other]
	return a != nil && b != nil && a.sig == b.sig
}
