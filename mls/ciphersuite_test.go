// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"errors"
	"regexp"
	"strings"
	"testing"
)

func TestCipherSuites(t *testing.T) {
	all := AllCipherSuites()
	if len(all) != 18 {
		t.Fatalf("%d cipher suites, want 7 of RFC 9420 and 11 of the draft", len(all))
	}
	shape := regexp.MustCompile(`^MLS_(128|192|256)_[A-Z0-9]+_(AES128GCM|AES256GCM|CHACHA20POLY1305)_(SHA256|SHA384|SHA512)_(Ed25519|Ed448|P256|P384|P521|MLDSA(44|65|87))$`)
	for i, cs := range all {
		if i < 7 && cs != CipherSuite(i+1) {
			t.Errorf("suite %d is %d", i, cs)
		}
		if i >= 7 && (cs < 0xF000 || i > 7 && cs != all[i-1]+1) {
			t.Errorf("experimental suite %#x is not in the range for private use, or out of order", uint16(cs))
		}
		s, err := cs.suite()
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := cs.suite(); s != again {
			t.Errorf("%v has two instances", cs)
		}
		if s.cipher != cs || cs.String() != s.name || !cs.Known() {
			t.Errorf("suite %d is %v, %q, known %v", cs, s.cipher, cs, cs.Known())
		}
		parts := shape.FindStringSubmatch(s.name)
		if parts == nil {
			t.Errorf("%q is not a name as RFC 9420 §17.1 forms them", s.name)
			continue
		}
		// The algorithms are those of the name.
		if want := map[string]aeadAlg{"AES128GCM": aeadAES128GCM, "AES256GCM": aeadAES256GCM, "CHACHA20POLY1305": aeadChaCha20Poly1305}[parts[2]]; s.aead != want {
			t.Errorf("%s: AEAD %d", s.name, s.aead)
		}
		if want := map[string]hashAlg{"SHA256": hashSHA256, "SHA384": hashSHA384, "SHA512": hashSHA512}[parts[3]]; s.kdf != want {
			t.Errorf("%s: hash %d", s.name, s.kdf)
		}
		if want := map[string]signatureScheme{"Ed25519": sigEd25519, "Ed448": sigEd448, "P256": sigP256, "P384": sigP384, "P521": sigP521, "MLDSA44": sigMLDSA44, "MLDSA65": sigMLDSA65, "MLDSA87": sigMLDSA87}[parts[4]]; s.sig != want {
			t.Errorf("%s: signature %v", s.name, s.sig)
		}
		if want := map[string]kem{
			"DHKEMX25519": kemX25519, "DHKEMP256": kemP256, "DHKEMX448": kemX448, "DHKEMP521": kemP521, "DHKEMP384": kemP384,
			"MLKEM768X25519": kemMLKEM768X25519, "MLKEM768P256": kemMLKEM768P256, "MLKEM1024P384": kemMLKEM1024P384,
			"MLKEM768": kemMLKEM768, "MLKEM1024": kemMLKEM1024,
		}[strings.Split(s.name, "_")[2]]; s.kem != want {
			t.Errorf("%s: KEM %04x", s.name, s.kem.id())
		}
		if pq := strings.Contains(s.name, "MLKEM"); cs.PostQuantum() != pq || cs.Experimental() != pq {
			t.Errorf("%s: post-quantum %v, experimental %v", s.name, cs.PostQuantum(), cs.Experimental())
		}
		if s.nh != s.kdf.size() || s.nk != s.aead.keySize() || s.nn != 12 || s.nt != 16 {
			t.Errorf("%s: Nh %d, Nk %d, Nn %d, Nt %d", s.name, s.nh, s.nk, s.nn, s.nt)
		}
	}
}

func TestCipherSuiteUnknown(t *testing.T) {
	for cs, name := range map[CipherSuite]string{0: "0x0000", 8: "0x0008", 0x0A0A: "0x0A0A", 0xF000: "0xF000", 0xFFFF: "0xFFFF"} {
		if _, err := cs.suite(); !errors.Is(err, ErrUnsupportedCipherSuite) || !strings.Contains(err.Error(), name) {
			t.Errorf("%d: %v", cs, err)
		}
		if cs.Known() || cs.PostQuantum() || cs.Experimental() || cs.String() != name {
			t.Errorf("%v: known %v, post-quantum %v, experimental %v", cs, cs.Known(), cs.PostQuantum(), cs.Experimental())
		}
	}
}

func TestAllCipherSuitesIsACopy(t *testing.T) {
	AllCipherSuites()[0] = 99
	if AllCipherSuites()[0] != 1 {
		t.Error("a caller can change the list")
	}
}
