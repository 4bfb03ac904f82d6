// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cloudflare/circl/sign/ed448"
)

func TestSignWithLabel(t *testing.T) {
	t.Parallel()
	forAllSuites(t, func(t *testing.T, s *suite) {
		key, err := GenerateSignatureKey(s.cipher, nil)
		if err != nil {
			t.Fatal(err)
		}
		pub := key.Public()
		if err := s.checkSignaturePublicKey(pub); err != nil {
			t.Fatal(err)
		}
		// Shorter and longer than what is put together on the stack.
		for _, n := range []int{0, 1, 300, scratchSize, 100_000} {
			content := bytes.Repeat([]byte("w"), n)
			sig, err := s.signWithLabel(key, "LeafNodeTBS", content)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.verifyWithLabel(pub, "LeafNodeTBS", content, sig); err != nil {
				t.Errorf("%d bytes: %v", n, err)
			}
			if err := s.verifyWithLabel(pub, "KeyPackageTBS", content, sig); !errors.Is(err, errInvalidSignature) {
				t.Errorf("another label: %v", err)
			}
			if err := s.verifyWithLabel(pub, "LeafNodeTBS", append(content, 'x'), sig); !errors.Is(err, errInvalidSignature) {
				t.Errorf("another content: %v", err)
			}
		}

		content := []byte("o, I am fortune's fool")
		sig, err := s.signWithLabel(key, "LeafNodeTBS", content)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range [][]byte{nil, {}, sig[:1], sig[:len(sig)-1], append(bytes.Clone(sig), 0), make([]byte, len(sig)), make([]byte, 10_000)} {
			if err := s.verifyWithLabel(pub, "LeafNodeTBS", content, bad); !errors.Is(err, errInvalidSignature) {
				t.Errorf("signature %.8x... of %d bytes: %v", bad, len(bad), err)
			}
		}
		step := max(1, len(sig)/64)
		for i := 0; i < len(sig); i += step {
			bad := bytes.Clone(sig)
			bad[i] ^= 4
			if err := s.verifyWithLabel(pub, "LeafNodeTBS", content, bad); !errors.Is(err, errInvalidSignature) {
				t.Errorf("signature altered at byte %d: %v", i, err)
			}
		}
		other, err := GenerateSignatureKey(s.cipher, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.verifyWithLabel(other.Public(), "LeafNodeTBS", content, sig); !errors.Is(err, errInvalidSignature) {
			t.Errorf("another key: %v", err)
		}
		for _, bad := range [][]byte{nil, {}, pub[:len(pub)-1], append(bytes.Clone(pub), 0), make([]byte, 10_000)} {
			if err := s.checkSignaturePublicKey(bad); !errors.Is(err, errBadSignatureKey) {
				t.Errorf("public key of %d bytes: %v", len(bad), err)
			}
			if err := s.verifyWithLabel(bad, "LeafNodeTBS", content, sig); !errors.Is(err, errBadSignatureKey) {
				t.Errorf("verifying with a public key of %d bytes: %v", len(bad), err)
			}
		}
		if _, err := s.signWithLabel(nil, "LeafNodeTBS", content); err == nil {
			t.Error("signed without a key")
		}
	})
}

func TestSignatureKeyStorage(t *testing.T) {
	forAllSuites(t, func(t *testing.T, s *suite) {
		key, err := GenerateSignatureKey(s.cipher, nil)
		if err != nil {
			t.Fatal(err)
		}
		b := key.Bytes()
		again, err := ParseSignaturePrivateKey(s.cipher, b)
		if err != nil {
			t.Fatal(err)
		}
		wantBytes(t, "public key", again.Public(), key.Public())
		wantBytes(t, "private key", again.Bytes(), b)
		b[0] ^= 0xff // the key's memory is its own
		wantBytes(t, "private key", again.Bytes(), key.Bytes())
		for _, bad := range [][]byte{nil, {}, append(bytes.Clone(b), 0), make([]byte, 200)} {
			if _, err := ParseSignaturePrivateKey(s.cipher, bad); err == nil {
				t.Errorf("accepted a private key of %d bytes", len(bad))
			} else if len(bad) > 8 && strings.Contains(err.Error(), hex.EncodeToString(bad[:8])) {
				t.Errorf("the error quotes the key: %v", err)
			}
		}
	})
	if _, err := ParseSignaturePrivateKey(0x0A0A, make([]byte, 32)); !errors.Is(err, ErrUnsupportedCipherSuite) {
		t.Errorf("unknown suite: %v", err)
	}
	if _, err := GenerateSignatureKey(0, nil); !errors.Is(err, ErrUnsupportedCipherSuite) {
		t.Errorf("suite 0: %v", err)
	}
}

func TestSignatureKeyEd25519LongForm(t *testing.T) {
	pub, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseSignaturePrivateKey(1, priv)
	if err != nil {
		t.Fatal(err)
	}
	wantBytes(t, "public key", key.Public(), pub)
	wantBytes(t, "private key", key.Bytes(), priv.Seed())
	priv[63] ^= 1
	if _, err := ParseSignaturePrivateKey(1, priv); !errors.Is(err, errBadSignatureKey) {
		t.Errorf("halves that do not belong together: %v", err)
	}
}

func TestSignatureKeyWithoutLeadingZeros(t *testing.T) {
	for _, cs := range []CipherSuite{2, 5, 7} {
		s := mustSuite(t, cs)
		full := make([]byte, s.sig.seedSize())
		copy(full[2:], bytes.Repeat([]byte{0x11}, len(full)-2))
		want, err := ParseSignaturePrivateKey(cs, full)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseSignaturePrivateKey(cs, full[2:])
		if err != nil {
			t.Fatal(err)
		}
		wantBytes(t, "public key", got.Public(), want.Public())
		for _, bad := range [][]byte{make([]byte, len(full)), bytes.Repeat([]byte{0xff}, len(full))} {
			if _, err := ParseSignaturePrivateKey(cs, bad); !errors.Is(err, errBadSignatureKey) {
				t.Errorf("scalar %.4x...: %v", bad, err)
			}
		}
	}
}

// A key made for one suite signs for all with the same scheme, and for no
// other.
func TestSignatureKeyScheme(t *testing.T) {
	for _, a := range suites {
		key, err := GenerateSignatureKey(a.cipher, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range suites {
			_, err := b.signWithLabel(key, "x", nil)
			if (err == nil) != (a.sig == b.sig) {
				t.Errorf("key of %v signing for %v: %v", a.cipher, b.cipher, err)
			}
		}
	}
}

func TestSignatureKeyIsDeterministicFromRand(t *testing.T) {
	forAllSuites(t, func(t *testing.T, s *suite) {
		source := func() *bytes.Reader { return bytes.NewReader(bytes.Repeat([]byte{0x42}, 200)) }
		a, err := GenerateSignatureKey(s.cipher, source())
		if err != nil {
			t.Fatal(err)
		}
		b, err := GenerateSignatureKey(s.cipher, source())
		if err != nil {
			t.Fatal(err)
		}
		wantBytes(t, "public key", a.Public(), b.Public())
	})
}

func TestSignatureKeyBadPoints(t *testing.T) {
	for _, cs := range []CipherSuite{2, 5, 7} {
		s := mustSuite(t, cs)
		key, err := GenerateSignatureKey(cs, nil)
		if err != nil {
			t.Fatal(err)
		}
		for what, f := range map[string]func(b []byte){
			"off the curve":        func(b []byte) { b[len(b)-1] ^= 1 },
			"compressed form byte": func(b []byte) { b[0] = 3 },
			"zero":                 func(b []byte) { clear(b) },
			"coordinates beyond p": func(b []byte) { copy(b[1:], bytes.Repeat([]byte{0xff}, len(b)-1)) },
		} {
			b := key.Public()
			f(b)
			if err := s.checkSignaturePublicKey(b); !errors.Is(err, errBadSignatureKey) {
				t.Errorf("%v %s: %v", cs, what, err)
			}
			if err := s.verifyWithLabel(b, "x", nil, make([]byte, 70)); !errors.Is(err, errBadSignatureKey) {
				t.Errorf("%v %s: verify: %v", cs, what, err)
			}
		}
		pub := key.Public()
		compressed := append([]byte{2 + pub[len(pub)-1]&1}, pub[1:(len(pub)+1)/2]...)
		if err := s.checkSignaturePublicKey(compressed); !errors.Is(err, errBadSignatureKey) {
			t.Errorf("%v: compressed public key: %v", cs, err)
		}
	}
}

// ECDSA signatures are DER (RFC 9420 §5.1.2), which has one encoding for a
// number.
func TestSignatureECDSAIsStrictDER(t *testing.T) {
	s := mustSuite(t, 2)
	key, err := GenerateSignatureKey(2, nil)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := s.signWithLabel(key, "x", nil)
	if err != nil {
		t.Fatal(err)
	}
	rLen := int(sig[3])
	r, rest := sig[4:4+rLen], sig[4+rLen:]
	padded := append([]byte{0x30, sig[1] + 1, 0x02, byte(rLen + 1), 0}, r...)
	padded = append(padded, rest...)
	longLength := append([]byte{0x30, 0x81}, sig[1:]...)
	trailing := append([]byte{0x30, sig[1] + 2}, append(bytes.Clone(sig[2:]), 0x05, 0x00)...)
	for what, bad := range map[string][]byte{"padded integer": padded, "long form of a short length": longLength, "a third element": trailing} {
		if err := s.verifyWithLabel(key.Public(), "x", nil, bad); !errors.Is(err, errInvalidSignature) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// With a key of low order one signature fits many messages. Each entry of the
// list is proved to be such a key: with S = 0 and R the neutral element it
// signs a fraction of all messages.
func TestSignatureLowOrderKeys(t *testing.T) {
	for _, c := range []struct {
		cs     CipherSuite
		points [][]byte
		verify func(pub, msg, sig []byte) bool
		sig    []byte
		known  int // how many of the points decode
	}{
		{1, lowOrderEd25519, func(pub, msg, sig []byte) bool { return ed25519.Verify(pub, msg, sig) }, append([]byte{1}, make([]byte, 63)...), 5},
		{4, lowOrderEd448, func(pub, msg, sig []byte) bool { return ed448.Verify(pub, msg, sig, "") }, append([]byte{1}, make([]byte, 113)...), 3},
	} {
		s := mustSuite(t, c.cs)
		proved := 0
		for _, p := range c.points {
			for _, sign := range []byte{0, 0x80} {
				b := bytes.Clone(p)
				b[len(b)-1] |= sign
				if err := s.checkSignaturePublicKey(b); !errors.Is(err, errBadSignatureKey) {
					t.Errorf("%v: low-order key %x: %v", c.cs, b, err)
				}
				for i := range 200 {
					if sign == 0 && c.verify(b, fmt.Appendf(nil, "message %d", i), c.sig) {
						proved++
						break
					}
				}
			}
		}
		if proved < c.known {
			t.Errorf("%v: only %d of the listed points were shown to have low order, want %d", c.cs, proved, c.known)
		}
	}
}

func FuzzSignatureVerify(f *testing.F) {
	all := AllCipherSuites()
	for i, cs := range all {
		s := mustSuite(f, cs)
		key, err := GenerateSignatureKey(cs, bytes.NewReader(bytes.Repeat([]byte{9}, 100)))
		if err != nil {
			f.Fatal(err)
		}
		sig, err := s.signWithLabel(key, "x", []byte("another content"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), key.Public(), sig)
	}
	f.Fuzz(func(t *testing.T, i uint8, pub, sig []byte) {
		s := mustSuite(t, all[int(i)%len(all)])
		if s.checkSignaturePublicKey(pub) == nil && s.verifyWithLabel(pub, "x", []byte("content"), sig) == nil {
			t.Errorf("%v: forged a signature", s.cipher)
		}
	})
}
