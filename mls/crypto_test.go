// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"strings"
	"testing"
)

// Our HMAC and HKDF against the standard library's, around every size at which
// the code takes another way.
func TestHMACAgainstStandardLibrary(t *testing.T) {
	sizes := []int{0, 1, 31, 32, 63, 64, 65, 127, 128, 129, shortMessage - 1, shortMessage, shortMessage + 1, 5000}
	for _, a := range []hashAlg{hashSHA256, hashSHA384, hashSHA512} {
		for _, keyLen := range sizes {
			key := bytes.Repeat([]byte{0xa5}, keyLen)
			for _, n := range sizes {
				msg := bytes.Repeat([]byte("ab"), n)[:n]
				h := hmac.New(a.new, key)
				h.Write(msg)
				want := h.Sum(nil)
				for _, cut := range []int{0, n / 2, n} {
					var out hashBuf
					a.hmac(&out, key, msg[:cut], nil, msg[cut:])
					if !bytes.Equal(out[:a.size()], want) {
						t.Fatalf("HMAC of %d bytes, key %d bytes, cut at %d: %x, want %x", n, keyLen, cut, out[:a.size()], want)
					}
					a.digest(&out, msg[:cut], msg[cut:])
					d := a.new()
					d.Write(msg)
					if want := d.Sum(nil); !bytes.Equal(out[:a.size()], want) {
						t.Fatalf("hash of %d bytes, cut at %d: %x, want %x", n, cut, out[:a.size()], want)
					}
				}
			}
		}
		for _, n := range []int{1, a.size() - 1, a.size(), a.size() + 1, 3 * a.size(), 255 * a.size()} {
			want, err := hkdf.Expand(func() hash.Hash { return a.new() }, []byte("prk"), "first second third", n)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, n)
			a.expand(got, []byte("prk"), []byte("first "), []byte("second "), []byte("third"))
			wantBytes(t, fmt.Sprintf("HKDF-Expand to %d bytes", n), got, want)
		}
	}
}

func TestExpandWithLabel(t *testing.T) {
	t.Parallel()
	forAllSuites(t, func(t *testing.T, s *suite) {
		secret := s.hash([]byte("secret"))
		for _, label := range []string{"", "epoch", strings.Repeat("long label ", 20)} {
			for _, context := range [][]byte{nil, []byte("context"), make([]byte, 70), make([]byte, 20_000)} {
				for _, n := range []int{0, 1, s.nh, 255 * s.nh} {
					info := binary.BigEndian.AppendUint16(nil, uint16(n))
					info = appendOpaque(info, []byte("MLS 1.0 "+label))
					info = appendOpaque(info, context)
					want, err := hkdf.Expand(s.newHash, secret, string(info), n)
					if err != nil {
						t.Fatal(err)
					}
					wantBytes(t, "ExpandWithLabel", s.expandWithLabel(secret, label, context, n), want)
				}
			}
		}
	})
}

// A tag is right or wrong as a whole: an empty, cut or lengthened one never
// passes (GHSA-8x3w-qj7j-gqhf was that bug).
func TestVerifyMACLength(t *testing.T) {
	forAllSuites(t, func(t *testing.T, s *suite) {
		key, data := []byte("key"), []byte("data")
		tag := s.mac(key, data)
		if !s.verifyMAC(key, data, tag) {
			t.Error("the right tag fails")
		}
		for n := range len(tag) {
			if s.verifyMAC(key, data, tag[:n]) {
				t.Errorf("the first %d bytes of the tag pass", n)
			}
		}
		if s.verifyMAC(key, data, nil) || s.verifyMAC(key, data, append(tag[:s.nh:s.nh], 0)) || s.verifyMAC(key, data, make([]byte, maxHash)) {
			t.Error("a tag of another length passes")
		}
		for i := range tag {
			tag[i] ^= 0x80
			if s.verifyMAC(key, data, tag) {
				t.Errorf("a tag altered at byte %d passes", i)
			}
			tag[i] ^= 0x80
		}
		if s.verifyMAC([]byte("kez"), data, tag) || s.verifyMAC(key, []byte("datb"), tag) {
			t.Error("the tag passes for another key or other data")
		}
	})
}

func TestAEAD(t *testing.T) {
	forAllSuites(t, func(t *testing.T, s *suite) {
		key, nonce, aad, plaintext := make([]byte, s.nk), make([]byte, s.nn), []byte("aad"), []byte("plaintext")
		ct, err := s.seal(key, nonce, aad, plaintext)
		if err != nil || len(ct) != len(plaintext)+s.nt {
			t.Fatalf("seal: %d bytes, %v", len(ct), err)
		}
		got, err := s.open(key, nonce, aad, ct)
		if err != nil {
			t.Fatal(err)
		}
		wantBytes(t, "plaintext", got, plaintext)

		dst, err := s.aeadSealInto([]byte("head"), key, nonce, aad, plaintext)
		if err != nil {
			t.Fatal(err)
		}
		wantBytes(t, "appended ciphertext", dst, append([]byte("head"), ct...))
		dst, err = s.aeadOpenInto([]byte("head"), key, nonce, aad, ct)
		if err != nil {
			t.Fatal(err)
		}
		wantBytes(t, "appended plaintext", dst, []byte("headplaintext"))
		if dst, err = s.aeadOpenInto([]byte("head"), key, nonce, nil, ct); !errors.Is(err, errDecrypt) || string(dst) != "head" {
			t.Errorf("other aad: %q, %v", dst, err)
		}
		inPlace := bytes.Clone(ct)
		if got, err = s.aeadOpenInto(inPlace[:0], key, nonce, aad, inPlace); err != nil {
			t.Fatal(err)
		}
		wantBytes(t, "decrypted in place", got, plaintext)

		for n := range len(ct) {
			if _, err := s.open(key, nonce, aad, ct[:n]); !errors.Is(err, errDecrypt) {
				t.Errorf("the first %d bytes: %v", n, err)
			}
		}
		if _, err := s.seal(key[1:], nonce, nil, nil); err == nil {
			t.Error("a short key seals")
		}
		if _, err := s.seal(key, nonce[1:], nil, nil); err == nil {
			t.Error("a short nonce seals")
		}
		if _, err := s.open(append(key, 0), nonce, nil, ct); err == nil {
			t.Error("a long key opens")
		}
		if _, err := s.open(key[:s.nk], nil, nil, ct); err == nil {
			t.Error("no nonce opens")
		}
	})
}

// Whatever is done to print them, secrets do not show.
func TestSecretsAreRedacted(t *testing.T) {
	s := mustSuite(t, 1)
	marker := bytes.Repeat([]byte{0xab}, 32)
	hpkeKey, err := s.parseHPKEPrivateKey(marker)
	if err != nil {
		t.Fatal(err)
	}
	sigKey, err := ParseSignaturePrivateKey(1, marker)
	if err != nil {
		t.Fatal(err)
	}
	epoch, err := s.epochSecretsFromEpochSecret(marker)
	if err != nil {
		t.Fatal(err)
	}
	tree := newSecretTree(s, bytes.Clone(marker), 2)
	key, err := tree.peek(0, ratchetApplication, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{hpkeKey, *hpkeKey, sigKey, *sigKey, epoch, *epoch, tree, *tree, key, *key} {
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("text", "secret", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("json", "secret", v)
		js, err := json.Marshal(v)
		if err != nil {
			t.Errorf("%T: %v", v, err)
		}
		for _, text := range []string{
			fmt.Sprint(v), fmt.Sprintf("%v", v), fmt.Sprintf("%+v", v), fmt.Sprintf("%#v", v), fmt.Sprintf("%x", v), fmt.Sprintf("%s", v),
			fmt.Sprintf("%q", v), fmt.Sprintf("%d", v), fmt.Errorf("wrapped: %v", v).Error(), log.String(), string(js),
		} {
			if !strings.Contains(text, "[redacted]") || strings.Contains(strings.ToLower(text), "abab") || strings.Contains(text, "171 171") {
				t.Errorf("%T prints as %s", v, text)
			}
		}
	}
}
