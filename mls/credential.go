// SPDX-License-Identifier: Apache-2.0

// Credentials (RFC 9420 §5.3).

package mls

import (
	"bytes"
	"fmt"
	"slices"
)

// A CredentialType names the format of a [Credential] (RFC 9420 §17.5).
type CredentialType uint16

// The credential types of RFC 9420 §5.3.
const (
	CredentialBasic CredentialType = 1
	CredentialX509  CredentialType = 2
)

// String returns the RFC's name of the type, or its number.
func (t CredentialType) String() string {
	switch t {
	case CredentialBasic:
		return "basic"
	case CredentialX509:
		return "x509"
	}
	return fmt.Sprintf("0x%04x", uint16(t))
}

// A Credential says who owns a signature key (RFC 9420 §5.3). Whether that is
// true is for an [Authenticator] to say. Values are read-only once they are part
// of a leaf node.
type Credential struct {
	Type CredentialType
	// Identity is the bare identity of a basic credential.
	Identity []byte
	// Certificates is the chain of an x509 credential in DER, the end entity first.
	Certificates [][]byte
	// Raw is the content of a credential of any other type, which this package
	// carries and does not read.
	Raw []byte
}

// BasicCredential returns a credential that is the identity alone.
func BasicCredential(identity []byte) Credential {
	return Credential{Type: CredentialBasic, Identity: bytes.Clone(identity)}
}

// X509Credential returns a credential that is a certificate chain in DER, the
// end entity first.
func X509Credential(chain ...[]byte) Credential {
	return Credential{Type: CredentialX509, Certificates: slices.Clone(chain)}
}

// Equal reports whether both credentials have the same encoding.
func (c Credential) Equal(d Credential) bool {
	return c.Type == d.Type && bytes.Equal(c.Identity, d.Identity) && bytes.Equal(c.Raw, d.Raw) &&
		slices.EqualFunc(c.Certificates, d.Certificates, bytes.Equal)
}

func readCredential(r *reader) Credential {
	c := Credential{Type: CredentialType(r.u16())}
	switch c.Type {
	case CredentialBasic:
		c.Identity = r.opaque()
	case CredentialX509:
		c.Certificates = readVector(r, (*reader).opaque)
	default:
		c.Raw = r.opaque()
	}
	return c
}

func (c Credential) appendTo(b []byte) []byte {
	b = appendU16(b, uint16(c.Type))
	switch c.Type {
	case CredentialBasic:
		return appendOpaque(b, c.Identity)
	case CredentialX509:
		return appendVector(b, c.Certificates, appendOpaque)
	}
	return appendOpaque(b, c.Raw)
}
