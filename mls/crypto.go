// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"hash"

	"golang.org/x/crypto/chacha20poly1305"
)

// This file holds the symmetric functions of RFC 9420 §5.2, §8 and §9 and the
// AEADs of its cipher suites (§5.1).

// labelPrefix begins every label of ExpandWithLabel, SignWithLabel and
// EncryptWithLabel.
const labelPrefix = "MLS 1.0 "

// hash returns the hash of the concatenation of parts.
func (s *suite) hash(parts ...[]byte) []byte {
	out := make([]byte, maxHash)
	s.kdf.digest((*hashBuf)(out), parts...)
	return out[:s.nh:s.nh]
}

// newHash returns a running hash of the suite.
func (s *suite) newHash() hash.Hash { return s.kdf.new() }

// mac returns the HMAC of the concatenation of parts (RFC 9420 §5.1, MAC).
func (s *suite) mac(key []byte, parts ...[]byte) []byte {
	out := make([]byte, maxHash)
	s.kdf.hmac((*hashBuf)(out), key, parts...)
	return out[:s.nh:s.nh]
}

// verifyMAC reports whether tag is the whole MAC of data. The time does not
// depend on where they differ; a tag of another length is never right.
func (s *suite) verifyMAC(key, data, tag []byte) bool {
	var want hashBuf
	s.kdf.hmac(&want, key, data)
	ok := len(tag) == s.nh && subtle.ConstantTimeCompare(want[:s.nh], tag) == 1
	wipe(want[:])
	return ok
}

// extract is KDF.Extract; a nil salt or ikm stands for the RFC's 0, the
// all-zero string of Nh bytes.
func (s *suite) extract(salt, ikm []byte) []byte {
	out := make([]byte, maxHash)
	s.extractInto((*hashBuf)(out), salt, ikm)
	return out[:s.nh:s.nh]
}

func (s *suite) extractInto(out *hashBuf, salt, ikm []byte) {
	if salt == nil {
		salt = zeroHash[:s.nh]
	}
	if ikm == nil {
		ikm = zeroHash[:s.nh]
	}
	s.kdf.hmac(out, salt, ikm)
}

// expandWithLabel returns n bytes:
//
//	ExpandWithLabel(Secret, Label, Context, Length) =
//	    KDF.Expand(Secret, KDFLabel, Length)
//
// (RFC 9420 §8). n is at most 255 * Nh, the limit of HKDF.
func (s *suite) expandWithLabel(secret []byte, label string, context []byte, n int) []byte {
	out := make([]byte, n)
	s.expandInto(out, secret, label, context)
	return out
}

// expandInto is expandWithLabel into the caller's buffer.
func (s *suite) expandInto(out, secret []byte, label string, context []byte) {
	if len(out) > 255*s.nh {
		panic("mls: internal error: expandWithLabel: length beyond the limit of HKDF")
	}
	if len(out) == 0 {
		return
	}
	var head [2 + 2 + len(labelPrefix) + 64]byte
	h := binary.BigEndian.AppendUint16(head[:0], uint16(len(out)))
	h = appendVarint(h, len(labelPrefix)+len(label))
	h = append(h, labelPrefix...)
	h = append(h, label...)
	var clen [4]byte
	s.kdf.expand(out, secret, h, appendVarint(clen[:0], len(context)), context)
}

// deriveSecret is DeriveSecret(Secret, Label) (RFC 9420 §8).
func (s *suite) deriveSecret(secret []byte, label string) []byte {
	return s.expandWithLabel(secret, label, nil, s.nh)
}

// deriveTreeSecret is DeriveTreeSecret(Secret, Label, Generation, Length)
// (RFC 9420 §9).
func (s *suite) deriveTreeSecret(secret []byte, label string, generation uint32, n int) []byte {
	out := make([]byte, n)
	s.deriveTreeSecretInto(out, secret, label, generation)
	return out
}

func (s *suite) deriveTreeSecretInto(out, secret []byte, label string, generation uint32) {
	var g [4]byte
	binary.BigEndian.PutUint32(g[:], generation)
	s.expandInto(out, secret, label, g[:])
}

// Labels of RefHash (RFC 9420 §5.2); unlike other labels they carry their
// prefix themselves.
const (
	refLabelKeyPackage = "MLS 1.0 KeyPackage Reference"
	refLabelProposal   = "MLS 1.0 Proposal Reference"
)

// refHash is RefHash(label, value) (RFC 9420 §5.2).
func (s *suite) refHash(label string, value []byte) []byte {
	var head [64]byte
	h := appendVarint(head[:0], len(label))
	h = append(h, label...)
	h = appendVarint(h, len(value))
	return s.hash(h, value)
}

// aeadAlg is an AEAD of RFC 9180 §7.3.
type aeadAlg uint8

const (
	aeadAES128GCM aeadAlg = iota
	aeadAES256GCM
	aeadChaCha20Poly1305
)

const (
	aeadNonceSize  = 12
	aeadTagSize    = 16
	maxAEADKeySize = 32
)

func (a aeadAlg) keySize() int {
	if a == aeadAES128GCM {
		return 16
	}
	return 32
}

func (a aeadAlg) hpkeID() uint16 { return uint16(a) + 1 }

func (a aeadAlg) new(key []byte) (cipher.AEAD, error) {
	if len(key) != a.keySize() {
		return nil, errors.New("mls: AEAD key has the wrong length")
	}
	if a == aeadChaCha20Poly1305 {
		return chacha20poly1305.New(key)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// errDecrypt says no more than that: why an AEAD failed must not be told.
var errDecrypt = errors.New("mls: decryption failed: wrong key or altered ciphertext")

// seal encrypts with the suite's AEAD.
func (s *suite) seal(key, nonce, aad, plaintext []byte) ([]byte, error) {
	return s.aeadSealInto(make([]byte, 0, len(plaintext)+s.nt), key, nonce, aad, plaintext)
}

// aeadSealInto appends ciphertext and tag to dst. The plaintext may be
// dst[len(dst):len(dst)+n] itself, but must not overlap dst otherwise.
func (s *suite) aeadSealInto(dst, key, nonce, aad, plaintext []byte) ([]byte, error) {
	a, err := s.newAEAD(key, nonce)
	if err != nil {
		return dst, err
	}
	return a.Seal(dst, nonce, plaintext, aad), nil
}

// open decrypts with the suite's AEAD. Every failure is errDecrypt.
func (s *suite) open(key, nonce, aad, ciphertext []byte) ([]byte, error) {
	return s.aeadOpenInto(nil, key, nonce, aad, ciphertext)
}

// aeadOpenInto appends the plaintext to dst; on failure dst is returned as it
// was. The ciphertext may be decrypted in place (dst = ciphertext[:0]).
func (s *suite) aeadOpenInto(dst, key, nonce, aad, ciphertext []byte) ([]byte, error) {
	a, err := s.newAEAD(key, nonce)
	if err != nil {
		return dst, err
	}
	out, err := a.Open(dst, nonce, ciphertext, aad)
	if err != nil {
		return dst, errDecrypt
	}
	return out, nil
}

func (s *suite) newAEAD(key, nonce []byte) (cipher.AEAD, error) {
	if len(nonce) != s.nn {
		return nil, errors.New("mls: AEAD nonce has the wrong length")
	}
	return s.aead.new(key)
}

// equalMAC compares two tags in constant time; tags of different length differ.
func equalMAC(want, got []byte) bool {
	return len(want) == len(got) && len(want) > 0 && subtle.ConstantTimeCompare(want, got) == 1
}
