// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hpke"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/cloudflare/circl/dh/x25519"
)

// forAllSuites runs a test for every suite that we implement.
func forAllSuites(t *testing.T, f func(t *testing.T, s *suite)) {
	for _, cs := range AllCipherSuites() {
		t.Run(cs.String(), func(t *testing.T) { f(t, mustSuite(t, cs)) })
	}
}

// testdata/hpke-base.json: base mode cases of the vectors of RFC 9180 (X25519,
// P-256, P-521 and X448) and of draft-ietf-hpke-pq, reduced to what a single
// message needs.
func TestHPKEVectors(t *testing.T) {
	b, err := os.ReadFile("testdata/hpke-base.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		KEM            uint16 `json:"kem_id"`
		KDF            uint16 `json:"kdf_id"`
		AEAD           uint16 `json:"aead_id"`
		Info           hexBytes
		IKME           hexBytes `json:"ikmE"`
		IKMR           hexBytes `json:"ikmR"`
		SKRm           hexBytes
		PKRm           hexBytes
		Enc            hexBytes
		SharedSecret   hexBytes `json:"shared_secret"`
		Key            hexBytes
		BaseNonce      hexBytes `json:"base_nonce"`
		ExporterSecret hexBytes `json:"exporter_secret"`
		Export         struct {
			Context hexBytes
			Length  int
			Value   hexBytes
		}
	}
	if err := json.Unmarshal(b, &cases); err != nil {
		t.Fatal(err)
	}
	seen := map[kem]bool{}
	for _, c := range cases {
		t.Run(fmt.Sprintf("kem %04x kdf %d aead %d", c.KEM, c.KDF, c.AEAD), func(t *testing.T) {
			s := adHocSuite(t, c.KEM, c.KDF, c.AEAD)
			seen[s.kem] = true
			priv, pub, err := s.deriveKeyPair(c.IKMR)
			if err != nil {
				t.Fatal(err)
			}
			wantBytes(t, "pkRm", pub, c.PKRm)
			if c.KEM != kemX25519.kemID && c.KEM != kemX448.kemID { // those are written clamped there
				wantBytes(t, "skRm", priv.bytes(), c.SKRm)
			}
			if priv, err = s.parseHPKEPrivateKey(c.SKRm); err != nil {
				t.Fatal(err)
			}
			wantBytes(t, "pk(skRm)", priv.public(), c.PKRm)
			if err := s.checkHPKEPublicKey(c.PKRm); err != nil {
				t.Error(err)
			}
			shared, err := s.decap(priv, c.Enc)
			if err != nil {
				t.Fatal(err)
			}
			wantBytes(t, "shared_secret", shared.bytes(), c.SharedSecret)
			if len(c.IKME) > 0 {
				_, enc, err := s.deriveKeyPair(c.IKME)
				if err != nil {
					t.Fatal(err)
				}
				wantBytes(t, "enc", enc, c.Enc)
			}
			lc := s.newInfoContext(c.Info, nil)
			var key [maxAEADKeySize]byte
			var nonce [aeadNonceSize]byte
			lc.keyNonce(&shared, &key, &nonce)
			wantBytes(t, "key", key[:s.nk], c.Key)
			wantBytes(t, "base_nonce", nonce[:], c.BaseNonce)
			exported, err := s.hpkeExportReceive(priv, c.Enc, c.Info, c.Export.Context, c.Export.Length)
			if err != nil {
				t.Fatal(err)
			}
			wantBytes(t, "exported_value", exported, c.Export.Value)
		})
	}
	for _, s := range suites {
		if !seen[s.kem] && s.kem != kemP384 { // RFC 9180 has no vectors for P-384
			t.Errorf("no vector for KEM %04x", s.kem.id())
		}
	}
}

// adHocSuite is a suite of the given HPKE algorithms, not all of which MLS
// combines.
func adHocSuite(t *testing.T, kemID, kdfID, aeadID uint16) *suite {
	t.Helper()
	for _, s := range suites {
		if s.kem.id() == kemID {
			return newSuite(0, "", s.kem, hashAlg(kdfID-1), aeadAlg(aeadID-1), s.sig)
		}
	}
	t.Fatalf("no suite with KEM %04x", kemID)
	return nil
}

// The standard library's HPKE is a second opinion on everything that it
// implements, in both directions.
func TestHPKEAgainstStandardLibrary(t *testing.T) {
	forAllSuites(t, func(t *testing.T, s *suite) {
		if s.kem == kemX448 {
			if _, err := hpke.NewKEM(s.kem.id()); err == nil {
				t.Error("crypto/hpke knows X448 now: compare it too")
			}
			return
		}
		stdKEM, err := hpke.NewKEM(s.kem.id())
		if err != nil {
			t.Fatal(err)
		}
		kdf, err := hpke.NewKDF(s.kdf.hpkeID())
		if err != nil {
			t.Fatal(err)
		}
		aead, err := hpke.NewAEAD(s.aead.hpkeID())
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{16, 32, 48, 64, 100} {
			ikm := bytes.Repeat([]byte{byte(n)}, n)
			std, err := stdKEM.DeriveKeyPair(ikm)
			if err != nil {
				t.Fatal(err)
			}
			priv, pub, err := s.deriveKeyPair(ikm)
			if err != nil {
				t.Fatal(err)
			}
			wantBytes(t, "public key", pub, std.PublicKey().Bytes())

			label, context, plaintext := "UpdatePathNode", bytes.Repeat([]byte("c"), 5*n), []byte("path secret")
			info := appendOpaque(appendOpaque(nil, []byte(labelPrefix+label)), context)
			ct, err := s.encryptWithLabel(nil, pub, label, context, plaintext)
			if err != nil {
				t.Fatal(err)
			}
			got, err := hpke.Open(std, kdf, aead, info, append(bytes.Clone(ct.KEMOutput), ct.Ciphertext...))
			if err != nil {
				t.Fatalf("crypto/hpke cannot open what we sealed: %v", err)
			}
			wantBytes(t, "plaintext", got, plaintext)

			sealed, err := hpke.Seal(std.PublicKey(), kdf, aead, info, plaintext)
			if err != nil {
				t.Fatal(err)
			}
			enc := s.kem.encSize()
			got, err = s.decryptWithLabel(priv, label, context, HPKECiphertext{KEMOutput: sealed[:enc], Ciphertext: sealed[enc:]})
			if err != nil {
				t.Fatalf("we cannot open what crypto/hpke sealed: %v", err)
			}
			wantBytes(t, "plaintext", got, plaintext)

			enc2, sender, err := hpke.NewSender(std.PublicKey(), kdf, aead, nil)
			if err != nil {
				t.Fatal(err)
			}
			want, err := sender.Export(externalInitLabel, s.nh)
			if err != nil {
				t.Fatal(err)
			}
			if got, err = s.hpkeExportReceive(priv, enc2, nil, []byte(externalInitLabel), s.nh); err != nil {
				t.Fatal(err)
			}
			wantBytes(t, "exported secret", got, want)
		}
	})
}

func TestHPKERoundTrip(t *testing.T) {
	forAllSuites(t, func(t *testing.T, s *suite) {
		priv, pub, err := s.generateHPKEKeyPair(nil)
		if err != nil {
			t.Fatal(err)
		}
		again, err := s.parseHPKEPrivateKey(priv.bytes())
		if err != nil {
			t.Fatal(err)
		}
		wantBytes(t, "public key of the parsed private key", again.public(), pub)

		c := s.newLabelContext("Welcome", []byte("context"))
		ct, err := c.seal(nil, pub, []byte("secret"))
		if err != nil {
			t.Fatal(err)
		}
		ct2, err := c.seal(nil, pub, []byte("secret"))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(ct.KEMOutput, ct2.KEMOutput) || bytes.Equal(ct.Ciphertext, ct2.Ciphertext) {
			t.Error("two seals of one context are equal")
		}
		got, err := c.open(again, ct2)
		if err != nil {
			t.Fatal(err)
		}
		wantBytes(t, "plaintext", got, []byte("secret"))

		for what, f := range map[string]func() ([]byte, error){
			"another label":   func() ([]byte, error) { return s.decryptWithLabel(priv, "welcome", []byte("context"), ct) },
			"another context": func() ([]byte, error) { return s.decryptWithLabel(priv, "Welcome", []byte("contexT"), ct) },
			"another key": func() ([]byte, error) {
				other, _, err := s.generateHPKEKeyPair(nil)
				if err != nil {
					t.Fatal(err)
				}
				return c.open(other, ct)
			},
			"the KEM output of another message": func() ([]byte, error) {
				return c.open(priv, HPKECiphertext{KEMOutput: ct2.KEMOutput, Ciphertext: ct.Ciphertext})
			},
			"a cut ciphertext": func() ([]byte, error) {
				return c.open(priv, HPKECiphertext{KEMOutput: ct.KEMOutput, Ciphertext: ct.Ciphertext[:len(ct.Ciphertext)-1]})
			},
			"no ciphertext": func() ([]byte, error) { return c.open(priv, HPKECiphertext{KEMOutput: ct.KEMOutput}) },
			"a cut KEM output": func() ([]byte, error) {
				return c.open(priv, HPKECiphertext{KEMOutput: ct.KEMOutput[1:], Ciphertext: ct.Ciphertext})
			},
			"no KEM output":  func() ([]byte, error) { return c.open(priv, HPKECiphertext{Ciphertext: ct.Ciphertext}) },
			"no private key": func() ([]byte, error) { return c.open(nil, ct) },
		} {
			if pt, err := f(); err == nil {
				t.Errorf("opened with %s: %q", what, pt)
			}
		}

		for i := range ct.Ciphertext {
			ct.Ciphertext[i] ^= 1
			if _, err := c.open(priv, ct); !errors.Is(err, errDecrypt) {
				t.Fatalf("ciphertext altered at byte %d: %v", i, err)
			}
			ct.Ciphertext[i] ^= 1
		}

		sk := priv.bytes()
		hybrid, _ := priv.parsed.(*hybridKey)
		priv.wipe()
		if !bytes.Equal(sk, make([]byte, len(sk))) || hybrid != nil && hybrid.x != [x25519.Size]byte{} {
			t.Error("wipe left the private key")
		}
		if _, err := c.open(priv, ct); err == nil {
			t.Error("a wiped key opens")
		}
		priv.wipe() // again is allowed
	})
}

func TestHPKEExternalInit(t *testing.T) {
	forAllSuites(t, func(t *testing.T, s *suite) {
		secret := bytes.Repeat([]byte{7}, s.nh)
		priv, pub, err := s.externalKeyPair(secret)
		if err != nil {
			t.Fatal(err)
		}
		kemOutput, init, err := s.externalInitSend(nil, pub)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.externalInitReceive(secret, kemOutput)
		if err != nil {
			t.Fatal(err)
		}
		wantBytes(t, "init_secret", got, init)
		if len(init) != s.nh || bytes.Equal(init, make([]byte, s.nh)) {
			t.Errorf("init_secret = %x", init)
		}
		for _, n := range []int{-1, 255*s.nh + 1, 1 << 30} {
			if _, err := s.hpkeExportReceive(priv, kemOutput, nil, nil, n); err == nil {
				t.Errorf("exported %d bytes", n)
			}
		}
	})
}

func TestHPKERefusesForeignPrivateKey(t *testing.T) {
	one, other := mustSuite(t, 1), mustSuite(t, 2)
	priv, _, err := other.generateHPKEKeyPair(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := one.decryptWithLabel(priv, "x", nil, HPKECiphertext{KEMOutput: make([]byte, 32), Ciphertext: make([]byte, 16)}); err == nil {
		t.Error("a P-256 key opened for X25519")
	}
}

func TestHPKEKeyLengths(t *testing.T) {
	forAllSuites(t, func(t *testing.T, s *suite) {
		priv, pub, err := s.generateHPKEKeyPair(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.checkHPKEPublicKey(pub); err != nil {
			t.Fatal(err)
		}
		for _, bad := range [][]byte{nil, {}, pub[:1], pub[:len(pub)-1], append(bytes.Clone(pub), 0), make([]byte, 4096)} {
			if err := s.checkHPKEPublicKey(bad); !errors.Is(err, errBadHPKEKey) {
				t.Errorf("public key of %d bytes: %v", len(bad), err)
			}
			if _, err := s.encryptWithLabel(nil, bad, "x", nil, nil); !errors.Is(err, errBadHPKEKey) {
				t.Errorf("encrypting to a public key of %d bytes: %v", len(bad), err)
			}
		}
		sk := priv.bytes()
		for _, bad := range [][]byte{nil, {}, append(bytes.Clone(sk), 0), make([]byte, 4096)} {
			if _, err := s.parseHPKEPrivateKey(bad); err == nil {
				t.Errorf("private key of %d bytes was accepted", len(bad))
			}
		}
	})
}

// badPublicKeys returns public keys of the right length with which no secret
// can be agreed.
func badPublicKeys(s *suite, pub []byte) map[string][]byte {
	bad := map[string][]byte{}
	alter := func(what string, f func(b []byte)) {
		b := bytes.Clone(pub)
		f(b)
		bad[what] = b
	}
	montgomeryAt := func(at int, k *montgomeryKEM) {
		for i, p := range k.lowOrder {
			alter(fmt.Sprintf("low order %d", i), func(b []byte) { copy(b[at:], p) })
			if k == kemX25519 {
				alter(fmt.Sprintf("low order %d, top bit", i), func(b []byte) { copy(b[at:], p); b[len(b)-1] |= 0x80 })
			}
		}
	}
	nistAt := func(at int) {
		alter("not on the curve", func(b []byte) { b[len(b)-1] ^= 1 })
		alter("compressed form byte", func(b []byte) { b[at] = 2 })
		alter("zero", func(b []byte) { clear(b[at:]) })
		alter("coordinates beyond p", func(b []byte) { copy(b[at+1:], bytes.Repeat([]byte{0xff}, len(b)-at-1)) })
	}
	mlkemCoefficient := func() {
		alter("first coefficient q", func(b []byte) { b[0], b[1] = mlkemModulus&0xff, b[1]&0xf0|mlkemModulus>>8 })
		alter("second coefficient 4095", func(b []byte) { b[1] |= 0xf0; b[2] = 0xff })
	}
	switch k := s.kem.(type) {
	case *montgomeryKEM:
		montgomeryAt(0, k)
	case *nistKEM:
		nistAt(0)
	case *mlkemKEM:
		mlkemCoefficient()
	case *hybridKEM:
		mlkemCoefficient()
		if k.nist != nil {
			nistAt(k.pq.ekSize)
		} else {
			montgomeryAt(k.pq.ekSize, kemX25519)
		}
	}
	return bad
}

func TestHPKEBadPublicKeys(t *testing.T) {
	forAllSuites(t, func(t *testing.T, s *suite) {
		_, pub, err := s.generateHPKEKeyPair(nil)
		if err != nil {
			t.Fatal(err)
		}
		bad := badPublicKeys(s, pub)
		if len(bad) == 0 {
			t.Fatal("no bad keys")
		}
		for what, b := range bad {
			if err := s.checkHPKEPublicKey(b); !errors.Is(err, errBadHPKEKey) {
				t.Errorf("%s: checkHPKEPublicKey: %v", what, err)
			}
			if _, err := s.encryptWithLabel(nil, b, "x", nil, nil); !errors.Is(err, errBadHPKEKey) {
				t.Errorf("%s: encryptWithLabel: %v", what, err)
			}
		}
	})
}

// A KEM output that is no point, or gives zero, is an error and not a secret.
func TestHPKEBadKEMOutput(t *testing.T) {
	for _, cs := range AllCipherSuites()[:7] {
		s := mustSuite(t, cs)
		priv, pub, err := s.generateHPKEKeyPair(nil)
		if err != nil {
			t.Fatal(err)
		}
		for what, enc := range badPublicKeys(s, pub) {
			if _, err := s.decap(priv, enc); !errors.Is(err, errBadHPKEKey) {
				t.Errorf("%v: KEM output with %s: %v", cs, what, err)
			}
		}
	}
}

func TestX25519AgainstStandardLibrary(t *testing.T) {
	rng := rand.NewChaCha8([32]byte{25})
	for i := range 200 {
		var sk, peer [32]byte
		rng.Read(sk[:])
		rng.Read(peer[:])
		if i%4 == 1 { // not reduced below p
			copy(peer[:], bytes.Repeat([]byte{0xff}, 31))
			peer[31] = 0x7f | byte(i)&0x80
			peer[0] = byte(0xed + 2 + i%16)
		}
		std, err := ecdh.X25519().NewPrivateKey(sk[:])
		if err != nil {
			t.Fatal(err)
		}
		wantBytes(t, "public key", kemX25519.public(sk[:]), std.PublicKey().Bytes())
		stdPeer, err := ecdh.X25519().NewPublicKey(peer[:])
		if err != nil {
			t.Fatal(err)
		}
		want, err := std.ECDH(stdPeer)
		if err != nil {
			t.Fatalf("peer %x: %v", peer, err)
		}
		var got [maxMontgomery]byte
		if !kemX25519.dh(&got, sk[:], peer[:]) {
			t.Fatalf("peer %x: refused", peer)
		}
		wantBytes(t, "shared secret", got[:x25519.Size], want)
	}
	// Our list of low-order points is the library's, which looks at the result.
	sk, err := ecdh.X25519().GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range lowOrder25519 {
		peer, err := ecdh.X25519().NewPublicKey(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := sk.ECDH(peer); err == nil {
			t.Errorf("%x is not of low order", p)
		}
	}
}

func TestHPKEPrivateKeyWithoutLeadingZeros(t *testing.T) {
	for _, cs := range []CipherSuite{2, 5, 7} {
		s := mustSuite(t, cs)
		full := make([]byte, s.kem.(*nistKEM).nsk)
		copy(full[3:], bytes.Repeat([]byte{0x5a}, len(full)-3))
		want, err := s.parseHPKEPrivateKey(full)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.parseHPKEPrivateKey(full[3:])
		if err != nil {
			t.Fatal(err)
		}
		wantBytes(t, "public key", got.public(), want.public())
		wantBytes(t, "private key", got.bytes(), full)
		if _, err := s.parseHPKEPrivateKey(make([]byte, len(full))); !errors.Is(err, errBadHPKEKey) {
			t.Errorf("scalar zero: %v", err)
		}
		if _, err := s.parseHPKEPrivateKey(bytes.Repeat([]byte{0xff}, len(full))); !errors.Is(err, errBadHPKEKey) {
			t.Errorf("scalar beyond the order: %v", err)
		}
	}
}

// One context seals to many recipients from many goroutines: run with -race.
func TestLabelContextConcurrent(t *testing.T) {
	s := mustSuite(t, 1)
	priv, pub, err := s.generateHPKEKeyPair(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := s.newLabelContext("Welcome", make([]byte, 1000))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			want := bytes.Repeat([]byte{byte(i)}, 32)
			for range 8 {
				ct, err := c.seal(nil, pub, want)
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := c.open(priv, ct); err != nil || !bytes.Equal(got, want) {
					t.Errorf("open: %x, %v", got, err)
				}
			}
		})
	}
	wg.Wait()
}

// errReader fails, as a broken source of randomness does.
type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("no entropy") }

// zeroReader is a source that is not random: no scalar in range comes out.
type zeroReader struct{}

func (zeroReader) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestBrokenRandomness(t *testing.T) {
	forAllSuites(t, func(t *testing.T, s *suite) {
		if _, _, err := s.generateHPKEKeyPair(errReader{}); err == nil {
			t.Error("made an HPKE key without randomness")
		}
		if _, err := GenerateSignatureKey(s.cipher, errReader{}); err == nil {
			t.Error("made a signature key without randomness")
		}
		if _, err := s.newGroupSecrets(errReader{}); err == nil {
			t.Error("made a group's secrets without randomness")
		}
		_, pub, err := s.generateHPKEKeyPair(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := s.kem.(*mlkemKEM); !ok { // ML-KEM draws from the system
			if _, err := s.encryptWithLabel(errReader{}, pub, "x", nil, nil); err == nil {
				t.Error("encrypted without randomness")
			}
		}
		if _, ok := s.kem.(*nistKEM); ok {
			if _, _, err := s.generateHPKEKeyPair(zeroReader{}); err == nil || !strings.Contains(err.Error(), "randomness is broken") {
				t.Errorf("all-zero randomness: %v", err)
			}
		}
	})
}

// FuzzHPKEPublicKey: what checkHPKEPublicKey accepts can be encrypted to, and
// nothing else.
func FuzzHPKEPublicKey(f *testing.F) {
	for i, cs := range AllCipherSuites() {
		_, pub, err := mustSuite(f, cs).deriveKeyPair(make([]byte, 64))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), pub)
	}
	all := AllCipherSuites()
	f.Fuzz(func(t *testing.T, i uint8, pub []byte) {
		s := mustSuite(t, all[int(i)%len(all)])
		checked := s.checkHPKEPublicKey(pub)
		_, err := s.encryptWithLabel(nil, pub, "x", nil, []byte("y"))
		if (checked == nil) != (err == nil) {
			t.Errorf("%v: checkHPKEPublicKey: %v, encryptWithLabel: %v", s.cipher, checked, err)
		}
	})
}

// FuzzHPKEOpen: no KEM output and ciphertext opens or panics.
func FuzzHPKEOpen(f *testing.F) {
	all := AllCipherSuites()
	keys := make([]*hpkePrivateKey, len(all))
	for i, cs := range all {
		s := mustSuite(f, cs)
		priv, _, err := s.deriveKeyPair(make([]byte, 64))
		if err != nil {
			f.Fatal(err)
		}
		keys[i] = priv
		f.Add(uint8(i), make([]byte, s.kem.encSize()), make([]byte, 32))
	}
	f.Fuzz(func(t *testing.T, i uint8, enc, ct []byte) {
		j := int(i) % len(all)
		if pt, err := mustSuite(t, all[j]).decryptWithLabel(keys[j], "x", nil, HPKECiphertext{KEMOutput: enc, Ciphertext: ct}); err == nil {
			t.Errorf("opened %x", pt)
		}
	})
}
