// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"fmt"
	"io"

	"github.com/cloudflare/circl/dh/x25519"
	"github.com/cloudflare/circl/dh/x448"
)

const maxMontgomery = x448.Size

// montgomeryKEM is DHKEM over X25519 or X448 (RFC 7748).
//
// Both functions come from circl: crypto/ecdh has no X448, and computes an
// X25519 public key with the full ladder, which costs twice as much. Nothing
// else of the package touches circl's DH.
type montgomeryKEM struct {
	dhkem
	lowOrder [][]byte // encodings of the points of low order, curve and twist
	highMask byte     // applied to the last byte before the comparison
}

var kemX25519 = &montgomeryKEM{
	dhkem:    dhkem{kemID: 0x0020, kdf: hashSHA256, nsecret: 32, nsk: x25519.Size, npk: x25519.Size},
	lowOrder: lowOrder25519, highMask: 0x7f,
}

var kemX448 = &montgomeryKEM{
	dhkem:    dhkem{kemID: 0x0021, kdf: hashSHA512, nsecret: 64, nsk: x448.Size, npk: x448.Size},
	lowOrder: lowOrder448, highMask: 0xff,
}

// public computes the public key of sk. Which curve it is, the size tells; the
// calls are direct so that the keys stay on the stack.
func (k *montgomeryKEM) public(sk []byte) []byte {
	if k.nsk == x25519.Size {
		pub := new(x25519.Key)
		x25519.KeyGen(pub, (*x25519.Key)(sk))
		return pub[:]
	}
	pub := new(x448.Key)
	x448.KeyGen(pub, (*x448.Key)(sk))
	return pub[:]
}

// dh computes the Diffie-Hellman result. It reports false if that is zero,
// which RFC 9180 §7.1.4 tells to refuse.
func (k *montgomeryKEM) dh(out *[maxMontgomery]byte, sk, pub []byte) bool {
	if k.nsk == x25519.Size {
		return x25519.Shared((*x25519.Key)(out[:x25519.Size]), (*x25519.Key)(sk), (*x25519.Key)(pub))
	}
	return x448.Shared((*x448.Key)(out), (*x448.Key)(sk), (*x448.Key)(pub))
}

func (k *montgomeryKEM) newKey(sk []byte) *hpkePrivateKey {
	return &hpkePrivateKey{kem: k, sk: sk, pub: k.public(sk)}
}

func (k *montgomeryKEM) parsePrivateKey(b []byte) (*hpkePrivateKey, error) {
	if len(b) != k.nsk {
		return nil, fmt.Errorf("mls: HPKE private key has %d bytes, want %d", len(b), k.nsk)
	}
	return k.newKey(bytes.Clone(b)), nil
}

func (k *montgomeryKEM) checkPublicKey(pub []byte) error {
	if err := k.checkPublicKeySize(pub); err != nil {
		return err
	}
	last := k.npk - 1
	for _, p := range k.lowOrder {
		if bytes.Equal(pub[:last], p[:last]) && pub[last]&k.highMask == p[last] {
			return fmt.Errorf("mls: %w: public key is a point of low order", errBadHPKEKey)
		}
	}
	return nil
}

func (k *montgomeryKEM) generate(rand io.Reader) (*hpkePrivateKey, error) {
	sk := make([]byte, k.nsk)
	if err := readRandom(rand, sk); err != nil {
		return nil, err
	}
	return k.newKey(sk), nil
}

// derive is DeriveKeyPair for X25519 and X448 (RFC 9180 §7.1.3).
func (k *montgomeryKEM) derive(ikm []byte) (*hpkePrivateKey, error) {
	var prk hashBuf
	k.derivePRK(&prk, ikm)
	sk := make([]byte, k.nsk)
	k.expandPRK(sk, &prk, "sk", nil)
	wipe(prk[:])
	return k.newKey(sk), nil
}

func (k *montgomeryKEM) encap(rand io.Reader, pub []byte) (kemSecret, []byte, error) {
	if err := k.checkPublicKeySize(pub); err != nil {
		return kemSecret{}, nil, err
	}
	var buf [maxMontgomery]byte
	skE := buf[:k.nsk]
	if err := readRandom(rand, skE); err != nil {
		return kemSecret{}, nil, err
	}
	enc := k.public(skE)
	shared, err := k.agree(skE, pub, enc, pub)
	wipe(skE)
	return shared, enc, err
}

func (k *montgomeryKEM) decap(priv *hpkePrivateKey, enc []byte) (kemSecret, error) {
	return k.agree(priv.sk, enc, enc, priv.pub)
}

func (k *montgomeryKEM) agree(sk, peer, enc, pkRm []byte) (kemSecret, error) {
	var dh [maxMontgomery]byte
	if !k.dh(&dh, sk, peer) {
		return kemSecret{}, fmt.Errorf("mls: %w: Diffie-Hellman result is zero", errBadHPKEKey)
	}
	shared := k.extractAndExpand(dh[:k.nsk], enc, pkRm)
	wipe(dh[:])
	return shared, nil
}

// lowOrder25519 are the points of order 1, 2, 4 and 8 on Curve25519 and its
// twist, with the encodings above p: 0, 1, two of order 8, p-1, p, p+1
// (RFC 7748 §6.1 and §7; the top bit is masked).
var lowOrder25519 = [][]byte{
	littleEndian(32, 0x00, 0x00, 0x00),
	littleEndian(32, 0x01, 0x00, 0x00),
	{
		0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
		0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
	},
	{
		0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b,
		0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
	},
	littleEndian(32, 0xec, 0xff, 0x7f),
	littleEndian(32, 0xed, 0xff, 0x7f),
	littleEndian(32, 0xee, 0xff, 0x7f),
}

// lowOrder448 are the points of low order on Curve448 and its twist: 0, 1,
// p-1, p, p+1, with p = 2^448 - 2^224 - 1.
var lowOrder448 = func() [][]byte {
	p := littleEndian(56, 0xff, 0xff, 0xff)
	p[28] = 0xfe
	pMinus1 := bytes.Clone(p)
	pMinus1[0] = 0xfe
	pPlus1 := append(make([]byte, 28), bytes.Repeat([]byte{0xff}, 28)...)
	return [][]byte{littleEndian(56, 0, 0, 0), littleEndian(56, 1, 0, 0), pMinus1, p, pPlus1}
}()

// littleEndian returns n bytes: first, then mid repeated, then last.
func littleEndian(n int, first, mid, last byte) []byte {
	b := bytes.Repeat([]byte{mid}, n)
	b[0], b[n-1] = first, last
	return b
}
