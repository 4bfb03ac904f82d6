// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"crypto/ecdh"
	"fmt"
	"io"
)

// nistKEM is DHKEM over P-256, P-384 or P-521.
type nistKEM struct {
	dhkem
	curve   ecdh.Curve
	topMask byte // bitmask of DeriveKeyPair (RFC 9180 §7.1.3)
}

var kemP256 = &nistKEM{
	dhkem: dhkem{kemID: 0x0010, kdf: hashSHA256, nsecret: 32, nsk: 32, npk: 65},
	curve: ecdh.P256(), topMask: 0xff,
}

var kemP384 = &nistKEM{
	dhkem: dhkem{kemID: 0x0011, kdf: hashSHA384, nsecret: 48, nsk: 48, npk: 97},
	curve: ecdh.P384(), topMask: 0xff,
}

var kemP521 = &nistKEM{
	dhkem: dhkem{kemID: 0x0012, kdf: hashSHA512, nsecret: 64, nsk: 66, npk: 133},
	curve: ecdh.P521(), topMask: 0x01,
}

func (k *nistKEM) newKey(priv *ecdh.PrivateKey) *hpkePrivateKey {
	return &hpkePrivateKey{kem: k, sk: priv.Bytes(), pub: priv.PublicKey().Bytes(), parsed: priv}
}

// parsePrivateKey accepts scalars without their leading zeros: not all
// implementations pad them.
func (k *nistKEM) parsePrivateKey(b []byte) (*hpkePrivateKey, error) {
	sk, err := leftPad(b, k.nsk)
	if err != nil {
		return nil, err
	}
	priv, err := k.curve.NewPrivateKey(sk)
	wipe(sk)
	if err != nil {
		return nil, fmt.Errorf("mls: %w: private key is out of range", errBadHPKEKey)
	}
	return k.newKey(priv), nil
}

// leftPad returns a copy of a big-endian number with n bytes.
func leftPad(b []byte, n int) ([]byte, error) {
	if len(b) == 0 || len(b) > n {
		return nil, fmt.Errorf("mls: private key has %d bytes, want %d", len(b), n)
	}
	out := make([]byte, n)
	copy(out[n-len(b):], b)
	return out, nil
}

func (k *nistKEM) checkPublicKey(pub []byte) error {
	_, err := k.parsePublicKey(pub)
	return err
}

func (k *nistKEM) parsePublicKey(pub []byte) (*ecdh.PublicKey, error) {
	if err := k.checkPublicKeySize(pub); err != nil {
		return nil, err
	}
	p, err := k.curve.NewPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("mls: %w: public key is not an uncompressed point of the curve", errBadHPKEKey)
	}
	return p, nil
}

func (k *nistKEM) generate(rand io.Reader) (*hpkePrivateKey, error) {
	priv, err := randomScalar(rand, k.curve, k.nsk, k.topMask)
	if err != nil {
		return nil, err
	}
	return k.newKey(priv), nil
}

// randomScalar draws private keys until one is in range. For all three curves
// a draw fails with a chance below 2^-32, so that a hundred failures mean that
// rand is not random.
func randomScalar(rand io.Reader, curve ecdh.Curve, n int, topMask byte) (*ecdh.PrivateKey, error) {
	sk := make([]byte, n)
	defer wipe(sk)
	for range 100 {
		if err := readRandom(rand, sk); err != nil {
			return nil, err
		}
		sk[0] &= topMask
		if priv, err := curve.NewPrivateKey(sk); err == nil {
			return priv, nil
		}
	}
	return nil, fmt.Errorf("mls: no private key in range in 100 draws: the source of randomness is broken")
}

// derive is DeriveKeyPair for the NIST curves (RFC 9180 §7.1.3).
func (k *nistKEM) derive(ikm []byte) (*hpkePrivateKey, error) {
	var prk hashBuf
	k.derivePRK(&prk, ikm)
	defer wipe(prk[:])
	sk := make([]byte, k.nsk)
	defer wipe(sk)
	for counter := range 256 {
		k.expandPRK(sk, &prk, "candidate", []byte{byte(counter)})
		sk[0] &= k.topMask
		if priv, err := k.curve.NewPrivateKey(sk); err == nil {
			return k.newKey(priv), nil
		}
	}
	return nil, fmt.Errorf("mls: %w: DeriveKeyPair found no private key", errBadHPKEKey)
}

func (k *nistKEM) encap(rand io.Reader, pub []byte) (kemSecret, []byte, error) {
	pkR, err := k.parsePublicKey(pub)
	if err != nil {
		return kemSecret{}, nil, err
	}
	skE, err := randomScalar(rand, k.curve, k.nsk, k.topMask)
	if err != nil {
		return kemSecret{}, nil, err
	}
	enc := skE.PublicKey().Bytes()
	shared, err := k.agree(skE, pkR, enc, pub)
	return shared, enc, err
}

func (k *nistKEM) decap(priv *hpkePrivateKey, enc []byte) (kemSecret, error) {
	pkE, err := k.parsePublicKey(enc)
	if err != nil {
		return kemSecret{}, err
	}
	sk, ok := priv.parsed.(*ecdh.PrivateKey)
	if !ok {
		return kemSecret{}, errKeyNotParsed
	}
	return k.agree(sk, pkE, enc, priv.pub)
}

func (k *nistKEM) agree(sk *ecdh.PrivateKey, peer *ecdh.PublicKey, enc, pkRm []byte) (kemSecret, error) {
	dh, err := nistDH(sk, peer)
	if err != nil {
		return kemSecret{}, err
	}
	shared := k.extractAndExpand(dh, enc, pkRm)
	wipe(dh)
	return shared, nil
}

// nistDH is the x coordinate of the shared point. It fails only for the point
// at infinity, which no valid key pair gives.
func nistDH(sk *ecdh.PrivateKey, peer *ecdh.PublicKey) ([]byte, error) {
	dh, err := sk.ECDH(peer)
	if err != nil {
		return nil, fmt.Errorf("mls: %w: Diffie-Hellman failed", errBadHPKEKey)
	}
	return dh, nil
}
