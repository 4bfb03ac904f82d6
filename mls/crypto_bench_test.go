// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"fmt"
	"testing"
)

// benchSuites are the suites that benchmarks cover: the three that chats use
// and one post-quantum one.
var benchSuites = []CipherSuite{
	MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519,
	MLS_128_DHKEMP256_AES128GCM_SHA256_P256,
	MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519,
	MLS_128_MLKEM768X25519_AES128GCM_SHA256_Ed25519,
}

// suiteLabel is the short name of a suite in benchmark output.
func suiteLabel(cs CipherSuite) string {
	if cs.Experimental() {
		return fmt.Sprintf("suite=pq%04X", uint16(cs))
	}
	return fmt.Sprintf("suite=%d", uint16(cs))
}

func BenchmarkExpandWithLabel(b *testing.B) {
	for _, cs := range []CipherSuite{1, 7, 4} {
		s := mustSuite(b, cs)
		secret := make([]byte, s.nh)
		out := make([]byte, s.nh)
		b.Run(suiteLabel(cs), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.expandInto(out, secret, "epoch", nil)
			}
		})
	}
}

func BenchmarkHPKE(b *testing.B) {
	for _, cs := range benchSuites {
		s := mustSuite(b, cs)
		priv, pub, err := s.generateHPKEKeyPair(nil)
		if err != nil {
			b.Fatal(err)
		}
		c := s.newLabelContext("UpdatePathNode", make([]byte, 200))
		plaintext := make([]byte, 32)
		ct, err := c.seal(nil, pub, plaintext)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(suiteLabel(cs)+"/seal", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.seal(nil, pub, plaintext); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(suiteLabel(cs)+"/open", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.open(priv, ct); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(suiteLabel(cs)+"/derive", func(b *testing.B) {
			b.ReportAllocs()
			ikm := make([]byte, s.nh)
			for b.Loop() {
				if _, _, err := s.deriveKeyPair(ikm); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(suiteLabel(cs)+"/check", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := s.checkHPKEPublicKey(pub); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkSignature(b *testing.B) {
	for _, cs := range append(benchSuites[:2:2], MLS_256_DHKEMX448_AES256GCM_SHA512_Ed448, MLS_192_MLKEM768_AES256GCM_SHA384_MLDSA65) {
		s := mustSuite(b, cs)
		key, err := GenerateSignatureKey(cs, nil)
		if err != nil {
			b.Fatal(err)
		}
		content := make([]byte, 300)
		pub := key.Public()
		sig, err := s.signWithLabel(key, "FramedContentTBS", content)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(suiteLabel(cs)+"/sign", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.signWithLabel(key, "FramedContentTBS", content); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(suiteLabel(cs)+"/verify", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := s.verifyWithLabel(pub, "FramedContentTBS", content, sig); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkKeySchedule(b *testing.B) {
	for _, cs := range []CipherSuite{1, 4} {
		s := mustSuite(b, cs)
		secret, context := make([]byte, s.nh), make([]byte, 150)
		b.Run(suiteLabel(cs), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.epochSecretsFromInit(secret, secret, nil, context).wipe()
			}
		})
	}
}

func BenchmarkSecretTree(b *testing.B) {
	s := mustSuite(b, 1)
	b.Run("next", func(b *testing.B) {
		t := newSecretTree(s, make([]byte, s.nh), 1024)
		t.markSaved()
		b.ReportAllocs()
		for b.Loop() {
			if _, _, _, err := t.next(77, ratchetApplication); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("receive", func(b *testing.B) {
		t := newSecretTree(s, make([]byte, s.nh), 1024)
		t.markSaved()
		b.ReportAllocs()
		for g := uint32(0); b.Loop(); g++ {
			m, err := t.peek(77, ratchetApplication, g)
			if err != nil {
				b.Fatal(err)
			}
			if err := t.consume(m); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("receive-after-clone", func(b *testing.B) {
		t := newSecretTree(s, make([]byte, s.nh), 1024)
		t.markSaved()
		b.ReportAllocs()
		for g := uint32(0); b.Loop(); g++ {
			t = t.clone()
			m, err := t.peek(77, ratchetApplication, g)
			if err != nil {
				b.Fatal(err)
			}
			if err := t.consume(m); err != nil {
				b.Fatal(err)
			}
			t.markSaved()
		}
	})
}
