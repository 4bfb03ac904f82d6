// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"errors"
	"fmt"
	"io"

	"filippo.io/mldsa"
	"github.com/cloudflare/circl/sign/ed448"
)

// errInvalidSignature says that a signature is not one of the key, label and
// content.
var errInvalidSignature = errors.New("mls: signature verification failed")

// errBadSignatureKey is wrapped by the errors that say that a signature key is
// not one of its scheme.
var errBadSignatureKey = errors.New("invalid signature key")

// signatureScheme is the signature algorithm of a cipher suite (RFC 9420
// §5.1). Public keys and signatures are encoded as in TLS 1.3 (§5.1.2): ECDSA
// keys as uncompressed points and signatures in DER, all others as their
// native strings.
type signatureScheme uint8

const (
	sigEd25519 signatureScheme = iota
	sigEd448
	sigP256
	sigP384
	sigP521
	sigMLDSA44
	sigMLDSA65
	sigMLDSA87
)

// String returns the name in the TLS SignatureScheme registry.
func (g signatureScheme) String() string {
	return [...]string{
		"ed25519", "ed448", "ecdsa_secp256r1_sha256", "ecdsa_secp384r1_sha384", "ecdsa_secp521r1_sha512",
		"mldsa44", "mldsa65", "mldsa87",
	}[g]
}

// ecdsa returns curve, hash and size of a scalar; ok is false for the schemes
// that are not ECDSA.
func (g signatureScheme) ecdsa() (curve elliptic.Curve, h hashAlg, scalar int, ok bool) {
	switch g {
	case sigP256:
		return elliptic.P256(), hashSHA256, 32, true
	case sigP384:
		return elliptic.P384(), hashSHA384, 48, true
	case sigP521:
		return elliptic.P521(), hashSHA512, 66, true
	}
	return nil, 0, 0, false
}

func (g signatureScheme) mldsa() (mldsa.Parameters, bool) {
	switch g {
	case sigMLDSA44:
		return mldsa.MLDSA44(), true
	case sigMLDSA65:
		return mldsa.MLDSA65(), true
	case sigMLDSA87:
		return mldsa.MLDSA87(), true
	}
	return mldsa.Parameters{}, false
}

// publicKeySize is the only length, in bytes, that a public key may have.
func (g signatureScheme) publicKeySize() int {
	switch g {
	case sigEd25519:
		return ed25519.PublicKeySize
	case sigEd448:
		return ed448.PublicKeySize
	}
	if _, _, n, ok := g.ecdsa(); ok {
		return 1 + 2*n
	}
	p, _ := g.mldsa()
	return p.PublicKeySize()
}

// seedSize is the size in bytes of a private key as Bytes writes it.
func (g signatureScheme) seedSize() int {
	switch g {
	case sigEd25519:
		return ed25519.SeedSize
	case sigEd448:
		return ed448.SeedSize
	}
	if _, _, n, ok := g.ecdsa(); ok {
		return n
	}
	return mldsa.PrivateKeySize
}

// SignaturePrivateKey signs for a member, a key package or an external sender.
// It belongs to a signature scheme, not to a group: a key made for one cipher
// suite may be used with any other that has the same scheme. It is immutable
// and safe for concurrent use, and prints as [redacted].
type SignaturePrivateKey struct {
	redacted
	scheme signatureScheme
	seed   []byte // as Bytes writes it
	public []byte

	// One of these, by scheme.
	ed25519 ed25519.PrivateKey
	ed448   ed448.PrivateKey
	ecdsa   *ecdsa.PrivateKey
	mldsa   *mldsa.PrivateKey
}

// GenerateSignatureKey makes a signature key for cs with randomness from rand,
// or from the system if rand is nil.
func GenerateSignatureKey(cs CipherSuite, rand io.Reader) (*SignaturePrivateKey, error) {
	s, err := cs.suite()
	if err != nil {
		return nil, err
	}
	seed := make([]byte, s.sig.seedSize())
	defer wipe(seed)
	for range 100 { // a scalar is out of range with a chance below 2^-32
		if err := readRandom(rand, seed); err != nil {
			return nil, err
		}
		if s.sig == sigP521 {
			seed[0] &= 0x01
		}
		var k *SignaturePrivateKey
		if k, err = newSignatureKey(s.sig, seed); err == nil {
			return k, nil
		}
	}
	return nil, fmt.Errorf("mls: making a signature key: the source of randomness is broken: %w", err)
}

// ParseSignaturePrivateKey reads a key that [SignaturePrivateKey.Bytes] wrote.
// It also reads the 64-byte form of Ed25519 keys (seed and public key, RFC 8032
// §5.1.5 as most libraries store it), and ECDSA scalars without their leading
// zeros. The error never quotes the key.
func ParseSignaturePrivateKey(cs CipherSuite, b []byte) (*SignaturePrivateKey, error) {
	s, err := cs.suite()
	if err != nil {
		return nil, err
	}
	size := s.sig.seedSize()
	if _, _, _, ok := s.sig.ecdsa(); ok && len(b) > 0 && len(b) < size {
		padded, err := leftPad(b, size)
		if err != nil {
			return nil, err
		}
		defer wipe(padded)
		return newSignatureKey(s.sig, padded)
	}
	if s.sig == sigEd25519 && len(b) == ed25519.PrivateKeySize {
		k, err := newSignatureKey(s.sig, b[:ed25519.SeedSize])
		if err == nil && !bytes.Equal(k.public, b[ed25519.SeedSize:]) {
			return nil, fmt.Errorf("mls: %w: the halves of the Ed25519 private key do not belong together", errBadSignatureKey)
		}
		return k, err
	}
	if len(b) != size {
		return nil, fmt.Errorf("mls: %w: %v private key has %d bytes, want %d", errBadSignatureKey, s.sig, len(b), size)
	}
	return newSignatureKey(s.sig, b)
}

func newSignatureKey(g signatureScheme, seed []byte) (*SignaturePrivateKey, error) {
	k := &SignaturePrivateKey{scheme: g, seed: bytes.Clone(seed)}
	switch g {
	case sigEd25519:
		k.ed25519 = ed25519.NewKeyFromSeed(seed)
		k.public = bytes.Clone(k.ed25519[ed25519.SeedSize:])
		return k, nil
	case sigEd448:
		k.ed448 = ed448.NewKeyFromSeed(seed)
		k.public = bytes.Clone(k.ed448[ed448.SeedSize:])
		return k, nil
	}
	if curve, _, _, ok := g.ecdsa(); ok {
		priv, err := ecdsa.ParseRawPrivateKey(curve, seed)
		if err != nil {
			return nil, fmt.Errorf("mls: %w: %v private key is out of range", errBadSignatureKey, g)
		}
		pub, err := priv.PublicKey.Bytes()
		if err != nil {
			return nil, fmt.Errorf("mls: %w: %v: %w", errBadSignatureKey, g, err)
		}
		k.ecdsa, k.public = priv, pub
		return k, nil
	}
	params, _ := g.mldsa()
	priv, err := mldsa.NewPrivateKey(params, seed)
	if err != nil {
		return nil, fmt.Errorf("mls: %w: %v private key refused", errBadSignatureKey, g)
	}
	k.mldsa, k.public = priv, priv.PublicKey().Bytes()
	return k, nil
}

// Public returns a copy of the public key, as it stands in a LeafNode
// (RFC 9420 §5.1.1).
func (k *SignaturePrivateKey) Public() []byte { return bytes.Clone(k.public) }

// Bytes returns the private key for storage: the 32- or 57-byte seed of
// Ed25519 or Ed448, the big-endian scalar of ECDSA padded to the size of the
// curve's order (32, 48 or 66 bytes), the 32-byte seed of ML-DSA. Whoever has
// these bytes can sign as this member: encrypt what you store.
func (k *SignaturePrivateKey) Bytes() []byte { return bytes.Clone(k.seed) }

// sign signs message as it is, without label.
func (k *SignaturePrivateKey) sign(message []byte) ([]byte, error) {
	switch k.scheme {
	case sigEd25519:
		return ed25519.Sign(k.ed25519, message), nil
	case sigEd448:
		return ed448.Sign(k.ed448, message, ""), nil
	case sigP256, sigP384, sigP521:
		_, h, _, _ := k.scheme.ecdsa()
		var digest hashBuf
		h.sum(&digest, message)
		return ecdsa.SignASN1(cryptorand.Reader, k.ecdsa, digest[:h.size()])
	default:
		return k.mldsa.Sign(nil, message, nil)
	}
}

// checkPublicKey verifies that pub is a public key of the scheme: its length,
// that it is a point on the curve (ECDSA), and that it is not a point of low
// order, for which one signature fits many messages (EdDSA). An EdDSA string
// that is no point at all is found out by the first verification.
func (g signatureScheme) checkPublicKey(pub []byte) error {
	if len(pub) != g.publicKeySize() {
		return fmt.Errorf("mls: %w: %v public key has %d bytes, want %d", errBadSignatureKey, g, len(pub), g.publicKeySize())
	}
	switch g {
	case sigEd25519, sigEd448:
		if lowOrderEdwards(g, pub) {
			return fmt.Errorf("mls: %w: %v public key is a point of low order", errBadSignatureKey, g)
		}
	case sigP256, sigP384, sigP521:
		curve, _, _, _ := g.ecdsa()
		if _, err := ecdsa.ParseUncompressedPublicKey(curve, pub); err != nil {
			return fmt.Errorf("mls: %w: %v public key is not an uncompressed point of the curve", errBadSignatureKey, g)
		}
	}
	return nil
}

// verify checks a signature over message as it is, without label.
func (g signatureScheme) verify(pub, message, sig []byte) error {
	if len(pub) != g.publicKeySize() {
		return fmt.Errorf("mls: %w: %v public key has %d bytes, want %d", errBadSignatureKey, g, len(pub), g.publicKeySize())
	}
	ok := false
	switch g {
	case sigEd25519:
		ok = ed25519.Verify(ed25519.PublicKey(pub), message, sig)
	case sigEd448:
		ok = len(sig) == ed448.SignatureSize && ed448.Verify(ed448.PublicKey(pub), message, sig, "")
	case sigP256, sigP384, sigP521:
		curve, h, _, _ := g.ecdsa()
		key, err := ecdsa.ParseUncompressedPublicKey(curve, pub)
		if err != nil {
			return fmt.Errorf("mls: %w: %v public key is not an uncompressed point of the curve", errBadSignatureKey, g)
		}
		var digest hashBuf
		h.sum(&digest, message)
		ok = ecdsa.VerifyASN1(key, digest[:h.size()], sig)
	default:
		params, _ := g.mldsa()
		key, err := mldsa.NewPublicKey(params, pub)
		if err != nil {
			return fmt.Errorf("mls: %w: %v public key refused", errBadSignatureKey, g)
		}
		ok = mldsa.Verify(key, message, sig, nil) == nil
	}
	if !ok {
		return errInvalidSignature
	}
	return nil
}

// checkSigner checks that a key can sign for the suite.
func (s *suite) checkSigner(k *SignaturePrivateKey) error {
	if k == nil {
		return errors.New("mls: signing: no signature key")
	}
	if k.scheme != s.sig {
		return fmt.Errorf("mls: signing: the signature key is for %v, but cipher suite %v signs with %v", k.scheme, s.cipher, s.sig)
	}
	return nil
}

// signWithLabel is SignWithLabel(SignatureKey, Label, Content) (RFC 9420
// §5.1.2).
func (s *suite) signWithLabel(k *SignaturePrivateKey, label string, content []byte) ([]byte, error) {
	return s.signAppended(k, label, func(b []byte) []byte { return append(b, content...) })
}

// verifyWithLabel is VerifyWithLabel(VerificationKey, Label, Content,
// SignatureValue) (RFC 9420 §5.1.2). It returns nil if the signature is right.
func (s *suite) verifyWithLabel(pub []byte, label string, content, sig []byte) error {
	return s.verifyAppended(pub, label, sig, func(b []byte) []byte { return append(b, content...) })
}

// checkSignaturePublicKey verifies that pub is a public key of the suite's
// signature scheme, without a signature.
func (s *suite) checkSignaturePublicKey(pub []byte) error { return s.sig.checkPublicKey(pub) }

// lowOrderEdwards reports whether pub encodes a point of low order. The sign
// of x, the top bit of the last byte, does not matter.
func lowOrderEdwards(g signatureScheme, pub []byte) bool {
	points := lowOrderEd25519
	if g == sigEd448 {
		points = lowOrderEd448
	}
	last := len(pub) - 1
	for _, p := range points {
		if bytes.Equal(pub[:last], p[:last]) && pub[last]&0x7f == p[last] {
			return true
		}
	}
	return false
}

// lowOrderEd25519 are the y coordinates of the points of order 1, 2, 4 and 8 on
// edwards25519, and their encodings above p: 0, 1, two of order 8, p-1, p, p+1.
var lowOrderEd25519 = [][]byte{
	littleEndian(32, 0x00, 0x00, 0x00),
	littleEndian(32, 0x01, 0x00, 0x00),
	{
		0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
		0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
	},
	{
		0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
		0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
	},
	littleEndian(32, 0xec, 0xff, 0x7f),
	littleEndian(32, 0xed, 0xff, 0x7f),
	littleEndian(32, 0xee, 0xff, 0x7f),
}

// lowOrderEd448 are the y coordinates of the points of order 1, 2 and 4 on
// edwards448 (0, 1, p-1) and the encodings p and p+1, each followed by the
// byte that holds the sign of x.
var lowOrderEd448 = func() [][]byte {
	var all [][]byte
	for _, y := range lowOrder448 {
		all = append(all, append(bytes.Clone(y), 0))
	}
	return all
}()
