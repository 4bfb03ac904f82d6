// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"
)

// testCertificate makes a self-signed certificate for a signature key.
func testCertificate(t testing.TB, key *SignaturePrivateKey, name string) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	var public, private any
	switch key.scheme {
	case sigEd25519:
		public, private = key.ed25519.Public(), key.ed25519
	case sigP256, sigP384, sigP521:
		public, private = key.ecdsa.Public(), key.ecdsa
	default:
		t.Skipf("no certificates for %v in the standard library", key.scheme)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestX509 lets members with certificates talk, in the suites for which the
// standard library can make certificates.
func TestX509(t *testing.T) {
	for _, cs := range []CipherSuite{1, 2, 7, 5} {
		t.Run(cs.String(), func(t *testing.T) {
			identity := func(name string) *Identity {
				key, err := GenerateSignatureKey(cs, nil)
				if err != nil {
					t.Fatal(err)
				}
				return &Identity{X509Credential(testCertificate(t, key, name)), key}
			}
			juliet, romeo := identity("juliet"), identity("romeo")
			g, err := NewGroup(nil, cs, nil, juliet, nil)
			if err != nil {
				t.Fatal(err)
			}
			kp, err := NewKeyPackage(nil, cs, romeo, nil)
			if err != nil {
				t.Fatal(err)
			}
			p, err := g.Commit(&CommitOptions{Add: []*KeyPackage{kp.KeyPackage}, InlineTree: true})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Join(nil, p.Welcome().Welcome, kp, nil); err != nil {
				t.Fatal(err)
			}
			// A certificate for another key.
			if _, err := NewKeyPackage(nil, cs, &Identity{juliet.Credential, romeo.Key}, nil); !hasRule(err, RuleCredentialX509) {
				t.Errorf("somebody else's certificate: %v", err)
			}
			der := juliet.Credential.Certificates[0]
			for n := range der {
				if _, _, _, err := certificateKey(der[:n]); err == nil {
					t.Fatalf("%d octets of a certificate were accepted", n)
				}
			}
			if _, err := NewKeyPackage(nil, cs, &Identity{X509Credential(), romeo.Key}, nil); !hasRule(err, RuleCredentialX509) {
				t.Errorf("an empty chain: %v", err)
			}
		})
	}
}
