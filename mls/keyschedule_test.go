// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"testing"
)

// The first epoch of a group begins with randomness (RFC 9420 §11): two groups
// with the same public data share no secret.
func TestNewGroupSecretsAreRandom(t *testing.T) {
	forAllSuites(t, func(t *testing.T, s *suite) {
		a, err := s.newGroupSecrets(nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.newGroupSecrets(nil)
		if err != nil {
			t.Fatal(err)
		}
		if a.joinerSecret != nil || a.welcomeSecret != nil {
			t.Error("the first epoch has no joiner and welcome secret")
		}
		seen := map[string]bool{string(make([]byte, s.nh)): true}
		for _, e := range []*epochSecrets{a, b} {
			for i, secret := range [][]byte{
				e.epochSecret, e.senderDataSecret, e.encryptionSecret, e.exporterSecret, e.externalSecret,
				e.confirmationKey, e.membershipKey, e.resumptionPSK, e.epochAuthenticator, e.initSecret,
			} {
				if len(secret) != s.nh || seen[string(secret)] {
					t.Errorf("secret %d is %x: of another length, zero, or the same as another", i, secret)
				}
				seen[string(secret)] = true
			}
		}
	})
	s := mustSuite(t, 1)
	if _, err := s.epochSecretsFromEpochSecret(make([]byte, 31)); err == nil {
		t.Error("a short epoch secret was accepted")
	}
}

// nil stands for the RFC's 0, the all-zero string of KDF.Nh bytes.
func TestKeyScheduleZero(t *testing.T) {
	forAllSuites(t, func(t *testing.T, s *suite) {
		init, zero := s.hash([]byte("init")), make([]byte, s.nh)
		a := s.epochSecretsFromInit(init, nil, nil, []byte("context"))
		b := s.epochSecretsFromInit(init, zero, zero, []byte("context"))
		wantBytes(t, "epoch secret", a.epochSecret, b.epochSecret)
		psk, err := s.pskSecret(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		wantBytes(t, "psk_secret without PSKs", psk, zero)
		wantBytes(t, "extract", s.extract(nil, nil), s.extract(zero, zero))
	})
}

func TestEpochSecretsWipe(t *testing.T) {
	s := mustSuite(t, 1)
	e := s.epochSecretsFromInit(s.hash([]byte("init")), nil, nil, []byte("context"))
	aliases := [][]byte{e.joinerSecret, e.welcomeSecret, e.epochSecret, e.senderDataSecret, e.initSecret}
	for i, a := range aliases {
		for j, b := range aliases {
			if i != j && bytes.Equal(a, b) {
				t.Errorf("secrets %d and %d are equal", i, j)
			}
		}
		_ = append(a, 0xff) // must not run into the next secret
	}
	again := s.epochSecretsFromInit(s.hash([]byte("init")), nil, nil, []byte("context"))
	wantBytes(t, "memory after appends to its parts", e.memory, again.memory)
	e.wipe()
	for i, a := range aliases {
		if !bytes.Equal(a, make([]byte, s.nh)) {
			t.Errorf("secret %d survived", i)
		}
	}
	if e.epochSecret != nil {
		t.Error("a wiped secret can still be used")
	}
	e.wipe()
	(*epochSecrets)(nil).wipe()
}

func TestExporterLimits(t *testing.T) {
	forAllSuites(t, func(t *testing.T, s *suite) {
		secret := s.hash([]byte("exporter"))
		for _, n := range []int{0, 1, 255 * s.nh} {
			out, err := s.exporter(secret, "label", nil, n)
			if err != nil || len(out) != n {
				t.Errorf("%d bytes: got %d, %v", n, len(out), err)
			}
		}
		for _, n := range []int{-1, 255*s.nh + 1, 1 << 30} {
			if _, err := s.exporter(secret, "label", nil, n); err == nil {
				t.Errorf("exported %d bytes", n)
			}
		}
		a, _ := s.exporter(secret, "a", nil, 32)
		b, _ := s.exporter(secret, "b", nil, 32)
		c, _ := s.exporter(secret, "a", []byte("c"), 32)
		if bytes.Equal(a, b) || bytes.Equal(a, c) {
			t.Error("another label or context gives the same secret")
		}
	})
}

func TestSenderDataSampleOfShortCiphertext(t *testing.T) {
	s := mustSuite(t, 1)
	secret := s.hash([]byte("sender data"))
	short := []byte("shorter than a hash")
	key, nonce := s.senderDataKeyNonce(secret, short)
	wantBytes(t, "key", key, s.expandWithLabel(secret, "key", short, s.nk))
	wantBytes(t, "nonce", nonce, s.expandWithLabel(secret, "nonce", short, s.nn))
	long := make([]byte, 100)
	copy(long, s.hash(short))
	k1, _ := s.senderDataKeyNonce(secret, long)
	long[s.nh] ^= 1 // beyond the sample
	k2, _ := s.senderDataKeyNonce(secret, long)
	wantBytes(t, "key after a change beyond the sample", k2, k1)
}

func TestPSKSecretCounts(t *testing.T) {
	s := mustSuite(t, 1)
	if _, err := s.pskSecret(make([][]byte, 2), make([][]byte, 1)); err == nil {
		t.Error("two ids for one PSK")
	}
	if _, err := s.pskSecret(make([][]byte, 65536), make([][]byte, 65536)); err == nil {
		t.Error("65536 PSKs: their count does not fit in 16 bits")
	}
	ids := [][]byte{[]byte("a"), []byte("b")}
	x, _ := s.pskSecret(ids, [][]byte{[]byte("1"), []byte("2")})
	y, _ := s.pskSecret([][]byte{ids[1], ids[0]}, [][]byte{[]byte("2"), []byte("1")})
	if bytes.Equal(x, y) {
		t.Error("the order of PSKs does not count")
	}
}
