// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/sha3"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/cloudflare/circl/dh/x25519"
)

// This file holds the post-quantum KEMs of draft-ietf-hpke-pq: ML-KEM alone,
// and the hybrids of ML-KEM with a curve (draft-irtf-cfrg-concrete-hybrid-kems).
// A private key is its seed: 64 bytes for ML-KEM alone, 32 for a hybrid.
//
// ML-KEM is the standard library's. Its Encapsulate takes its randomness from
// the system, whatever the caller's source.

// mlkemParams is a parameter set of FIPS 203.
type mlkemParams struct {
	ekSize, ctSize int
	newEK          func([]byte) (crypto.Encapsulator, error)
	newDK          func([]byte) (crypto.Decapsulator, error)
}

var mlkem768 = mlkemParams{
	ekSize: mlkem.EncapsulationKeySize768, ctSize: mlkem.CiphertextSize768,
	newEK: func(b []byte) (crypto.Encapsulator, error) { return mlkem.NewEncapsulationKey768(b) },
	newDK: func(b []byte) (crypto.Decapsulator, error) { return mlkem.NewDecapsulationKey768(b) },
}

var mlkem1024 = mlkemParams{
	ekSize: mlkem.EncapsulationKeySize1024, ctSize: mlkem.CiphertextSize1024,
	newEK: func(b []byte) (crypto.Encapsulator, error) { return mlkem.NewEncapsulationKey1024(b) },
	newDK: func(b []byte) (crypto.Decapsulator, error) { return mlkem.NewDecapsulationKey1024(b) },
}

// mlkemModulus is q of FIPS 203.
const mlkemModulus = 3329

// checkEK does the checks of FIPS 203 §7.2 on an encapsulation key, length and
// range of every coefficient, without expanding the key: a fraction of the
// cost of parsing it.
func (p *mlkemParams) checkEK(ek []byte) error {
	if err := checkHPKEKeySize(ek, p.ekSize); err != nil {
		return err
	}
	for t := ek[:p.ekSize-32]; len(t) >= 3; t = t[3:] {
		lo := uint16(t[0]) | uint16(t[1]&0x0f)<<8
		hi := uint16(t[1])>>4 | uint16(t[2])<<4
		if lo >= mlkemModulus || hi >= mlkemModulus {
			return fmt.Errorf("mls: %w: ML-KEM public key has a coefficient out of range", errBadHPKEKey)
		}
	}
	return nil
}

// parseEK is checkEK with the key ready for use.
func (p *mlkemParams) parseEK(ek []byte) (crypto.Encapsulator, error) {
	if err := checkHPKEKeySize(ek, p.ekSize); err != nil {
		return nil, err
	}
	k, err := p.newEK(ek)
	if err != nil {
		return nil, fmt.Errorf("mls: %w: ML-KEM public key refused", errBadHPKEKey)
	}
	return k, nil
}

// shakeDerive is LabeledDerive of HPKE's one-stage KDF SHAKE256
// (draft-ietf-hpke-pq §5).
func shakeDerive(out []byte, kemID uint16, ikm []byte, label string) {
	h := sha3.NewSHAKE256()
	h.Write(ikm)
	h.Write([]byte(hpkeVersion))
	sid := kemSuiteID(kemID)
	h.Write(sid[:])
	var n [2]byte
	binary.BigEndian.PutUint16(n[:], uint16(len(label)))
	h.Write(n[:])
	h.Write([]byte(label))
	binary.BigEndian.PutUint16(n[:], uint16(len(out)))
	h.Write(n[:])
	h.Read(out)
}

// mlkemKEM is ML-KEM as an HPKE KEM.
type mlkemKEM struct {
	kemID uint16
	mlkemParams
}

var (
	kemMLKEM768  = &mlkemKEM{0x0041, mlkem768}
	kemMLKEM1024 = &mlkemKEM{0x0042, mlkem1024}
)

func (k *mlkemKEM) id() uint16         { return k.kemID }
func (k *mlkemKEM) postQuantum() bool  { return true }
func (k *mlkemKEM) publicKeySize() int { return k.ekSize }
func (k *mlkemKEM) encSize() int       { return k.ctSize }

func (k *mlkemKEM) checkPublicKey(pub []byte) error { return k.checkEK(pub) }

// newKey takes ownership of the seed.
func (k *mlkemKEM) newKey(seed []byte) (*hpkePrivateKey, error) {
	if len(seed) != mlkem.SeedSize {
		return nil, fmt.Errorf("mls: HPKE private key has %d bytes, want %d", len(seed), mlkem.SeedSize)
	}
	dk, err := k.newDK(seed)
	if err != nil {
		return nil, fmt.Errorf("mls: %w: ML-KEM seed refused", errBadHPKEKey)
	}
	return &hpkePrivateKey{kem: k, sk: seed, pub: dk.Encapsulator().Bytes(), parsed: dk}, nil
}

func (k *mlkemKEM) parsePrivateKey(b []byte) (*hpkePrivateKey, error) {
	return k.newKey(bytes.Clone(b))
}

func (k *mlkemKEM) generate(rand io.Reader) (*hpkePrivateKey, error) {
	seed := make([]byte, mlkem.SeedSize)
	if err := readRandom(rand, seed); err != nil {
		return nil, err
	}
	return k.newKey(seed)
}

func (k *mlkemKEM) derive(ikm []byte) (*hpkePrivateKey, error) {
	seed := make([]byte, mlkem.SeedSize)
	shakeDerive(seed, k.kemID, ikm, "DeriveKeyPair")
	return k.newKey(seed)
}

func (k *mlkemKEM) encap(_ io.Reader, pub []byte) (kemSecret, []byte, error) {
	ek, err := k.parseEK(pub)
	if err != nil {
		return kemSecret{}, nil, err
	}
	ss, ct := ek.Encapsulate()
	return mlkemSecret(ss), ct, nil
}

func (k *mlkemKEM) decap(priv *hpkePrivateKey, enc []byte) (kemSecret, error) {
	dk, ok := priv.parsed.(crypto.Decapsulator)
	if !ok {
		return kemSecret{}, errKeyNotParsed
	}
	ss, err := dk.Decapsulate(enc)
	if err != nil {
		return kemSecret{}, fmt.Errorf("mls: %w: ML-KEM ciphertext refused", errBadHPKEKey)
	}
	return mlkemSecret(ss), nil
}

// mlkemSecret moves a shared key of ML-KEM into a kemSecret.
func mlkemSecret(ss []byte) kemSecret {
	var shared kemSecret
	shared.n = copy(shared.buf[:], ss)
	wipe(ss)
	return shared
}

// hybridKEM combines ML-KEM with a curve, so that the secret is safe while
// either of the two is. The KEM output and the public key are the ML-KEM one
// followed by the curve's.
type hybridKEM struct {
	kemID uint16
	label string
	pq    mlkemParams
	// The traditional half: a NIST curve, or X25519 if nist is nil.
	nist     *nistKEM
	seedSize int
	point    int
}

var kemMLKEM768X25519 = &hybridKEM{
	kemID: 0x647a,
	label: `\.//^\`, // X-Wing
	pq:    mlkem768, seedSize: x25519.Size, point: x25519.Size,
}

var kemMLKEM768P256 = &hybridKEM{
	kemID: 0x0050, label: "MLKEM768-P256",
	pq: mlkem768, nist: kemP256, seedSize: 32, point: 65,
}

var kemMLKEM1024P384 = &hybridKEM{
	kemID: 0x0051, label: "MLKEM1024-P384",
	pq: mlkem1024, nist: kemP384, seedSize: 48, point: 97,
}

// hybridSeedSize is the size of the private key of every hybrid.
const hybridSeedSize = 32

// hybridKey is the expanded form of a hybrid's seed.
type hybridKey struct {
	pq   crypto.Decapsulator
	nist *ecdh.PrivateKey
	x    [x25519.Size]byte // X25519 scalar, if nist is nil
}

func (k *hybridKEM) id() uint16         { return k.kemID }
func (k *hybridKEM) postQuantum() bool  { return true }
func (k *hybridKEM) publicKeySize() int { return k.pq.ekSize + k.point }
func (k *hybridKEM) encSize() int       { return k.pq.ctSize + k.point }

func (k *hybridKEM) checkPublicKey(pub []byte) error {
	if err := checkHPKEKeySize(pub, k.publicKeySize()); err != nil {
		return err
	}
	if err := k.pq.checkEK(pub[:k.pq.ekSize]); err != nil {
		return err
	}
	if k.nist != nil {
		return k.nist.checkPublicKey(pub[k.pq.ekSize:])
	}
	return kemX25519.checkPublicKey(pub[k.pq.ekSize:])
}

// newKey expands a seed, which it takes ownership of: SHAKE256 of it gives the
// seed of ML-KEM and then the scalar of the curve.
func (k *hybridKEM) newKey(seed []byte) (*hpkePrivateKey, error) {
	if len(seed) != hybridSeedSize {
		return nil, fmt.Errorf("mls: HPKE private key has %d bytes, want %d", len(seed), hybridSeedSize)
	}
	h := sha3.NewSHAKE256()
	h.Write(seed)
	seedPQ := make([]byte, mlkem.SeedSize)
	h.Read(seedPQ)
	dk, err := k.pq.newDK(seedPQ)
	wipe(seedPQ)
	if err != nil {
		return nil, fmt.Errorf("mls: %w: ML-KEM seed refused", errBadHPKEKey)
	}
	key := &hybridKey{pq: dk}
	pub := dk.Encapsulator().Bytes()
	if k.nist == nil {
		h.Read(key.x[:])
		pub = append(pub, kemX25519.public(key.x[:])...)
	} else {
		// A draw is out of range with a chance below 2^-32.
		key.nist, err = randomScalar(h, k.nist.curve, k.seedSize, 0xff)
		if err != nil {
			return nil, err
		}
		pub = append(pub, key.nist.PublicKey().Bytes()...)
	}
	return &hpkePrivateKey{kem: k, sk: seed, pub: pub, parsed: key}, nil
}

func (k *hybridKEM) parsePrivateKey(b []byte) (*hpkePrivateKey, error) {
	return k.newKey(bytes.Clone(b))
}

func (k *hybridKEM) generate(rand io.Reader) (*hpkePrivateKey, error) {
	seed := make([]byte, hybridSeedSize)
	if err := readRandom(rand, seed); err != nil {
		return nil, err
	}
	return k.newKey(seed)
}

func (k *hybridKEM) derive(ikm []byte) (*hpkePrivateKey, error) {
	seed := make([]byte, hybridSeedSize)
	shakeDerive(seed, k.kemID, ikm, "DeriveKeyPair")
	return k.newKey(seed)
}

func (k *hybridKEM) encap(rand io.Reader, pub []byte) (kemSecret, []byte, error) {
	if err := checkHPKEKeySize(pub, k.publicKeySize()); err != nil {
		return kemSecret{}, nil, err
	}
	ek, err := k.pq.parseEK(pub[:k.pq.ekSize])
	if err != nil {
		return kemSecret{}, nil, err
	}
	ekT := pub[k.pq.ekSize:]
	ssT, ctT, err := k.encapCurve(rand, ekT)
	if err != nil {
		return kemSecret{}, nil, err
	}
	ssPQ, ct := ek.Encapsulate()
	shared := k.combine(ssPQ, ssT, ctT, ekT)
	return shared, append(ct, ctT...), nil
}

// encapCurve is the traditional half of encap: a Diffie-Hellman with a fresh
// key.
func (k *hybridKEM) encapCurve(rand io.Reader, ekT []byte) (ssT, ctT []byte, err error) {
	if k.nist == nil {
		skE := make([]byte, x25519.Size)
		if err := readRandom(rand, skE); err != nil {
			return nil, nil, err
		}
		defer wipe(skE)
		ssT, err = sharedX25519(skE, ekT)
		return ssT, kemX25519.public(skE), err
	}
	pkR, err := k.nist.parsePublicKey(ekT)
	if err != nil {
		return nil, nil, err
	}
	skE, err := randomScalar(rand, k.nist.curve, k.seedSize, 0xff)
	if err != nil {
		return nil, nil, err
	}
	ssT, err = nistDH(skE, pkR)
	return ssT, skE.PublicKey().Bytes(), err
}

func (k *hybridKEM) decap(priv *hpkePrivateKey, enc []byte) (kemSecret, error) {
	key, ok := priv.parsed.(*hybridKey)
	if !ok {
		return kemSecret{}, errKeyNotParsed
	}
	ctT := enc[k.pq.ctSize:]
	ssT, err := k.decapCurve(key, ctT)
	if err != nil {
		return kemSecret{}, err
	}
	ssPQ, err := key.pq.Decapsulate(enc[:k.pq.ctSize])
	if err != nil {
		return kemSecret{}, fmt.Errorf("mls: %w: ML-KEM ciphertext refused", errBadHPKEKey)
	}
	return k.combine(ssPQ, ssT, ctT, priv.pub[k.pq.ekSize:]), nil
}

func (k *hybridKEM) decapCurve(key *hybridKey, ctT []byte) ([]byte, error) {
	if k.nist == nil {
		return sharedX25519(key.x[:], ctT)
	}
	pkE, err := k.nist.parsePublicKey(ctT)
	if err != nil {
		return nil, err
	}
	return nistDH(key.nist, pkE)
}

func sharedX25519(sk, pub []byte) ([]byte, error) {
	var dh [maxMontgomery]byte
	if !kemX25519.dh(&dh, sk, pub) {
		return nil, fmt.Errorf("mls: %w: Diffie-Hellman result is zero", errBadHPKEKey)
	}
	ss := bytes.Clone(dh[:x25519.Size])
	wipe(dh[:])
	return ss, nil
}

// combine is the hybrids' KDF: SHA3-256(ss_PQ ‖ ss_T ‖ ct_T ‖ ek_T ‖ label).
// It wipes both secrets.
func (k *hybridKEM) combine(ssPQ, ssT, ctT, ekT []byte) kemSecret {
	h := sha3.New256()
	h.Write(ssPQ)
	h.Write(ssT)
	h.Write(ctT)
	h.Write(ekT)
	h.Write([]byte(k.label))
	var shared kemSecret
	shared.n = len(h.Sum(shared.buf[:0]))
	wipe(ssPQ)
	wipe(ssT)
	return shared
}
