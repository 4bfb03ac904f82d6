// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// This file says who a credential speaks for: the mls.Authenticator, for basic
// credentials (the bare JID) and X.509 (XmppAddr in the subject alternative
// names), and the mls.Policy that applies the group's own rules.

// identityOf gives the bare JID that a credential claims, without judging it.
func identityOf(c mls.Credential) (string, error) {
	switch c.Type {
	case mls.CredentialBasic:
		j, err := bareJID(string(c.Identity))
		if err != nil {
			return "", err
		}
		if j != string(c.Identity) {
			// Two spellings of one account would be two members.
			return "", fmt.Errorf("client: the credential's identity %q is not in its normal form %q", c.Identity, j)
		}
		return j, nil
	case mls.CredentialX509:
		if len(c.Certificates) == 0 {
			return "", errors.New("client: the X.509 credential has no certificate")
		}
		cert, err := x509.ParseCertificate(c.Certificates[0])
		if err != nil {
			return "", fmt.Errorf("client: the credential's certificate: %w", err)
		}
		return xmppAddr(cert)
	}
	return "", fmt.Errorf("client: credentials of type %v are not supported", c.Type)
}

// leafIdentity is identityOf for a leaf that has been validated.
func leafIdentity(l *mls.LeafNode) string {
	if l == nil {
		return ""
	}
	if l.Credential.Type == mls.CredentialBasic {
		return string(l.Credential.Identity)
	}
	j, _ := identityOf(l.Credential)
	return j
}

func deviceOf(l *mls.LeafNode) (id DeviceID) {
	if l != nil {
		if b := l.ApplicationID(); len(b) == len(id) {
			copy(id[:], b)
		}
	}
	return id
}

var (
	oidSAN      = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidXmppAddr = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 5} // RFC 6120 §13.7.1.4
)

// xmppAddr reads the bare JID from a certificate: the one XmppAddr among its
// subject alternative names.
func xmppAddr(cert *x509.Certificate) (string, error) {
	found := ""
	for _, ext := range cert.Extensions {
		if !ext.Id.Equal(oidSAN) {
			continue
		}
		var names asn1.RawValue
		if rest, err := asn1.Unmarshal(ext.Value, &names); err != nil || len(rest) > 0 || names.Tag != asn1.TagSequence {
			return "", errors.New("client: the certificate's alternative names are malformed")
		}
		for rest := names.Bytes; len(rest) > 0; {
			var name asn1.RawValue
			var err error
			if rest, err = asn1.Unmarshal(rest, &name); err != nil {
				return "", errors.New("client: the certificate's alternative names are malformed")
			}
			if name.Class != asn1.ClassContextSpecific || name.Tag != 0 {
				continue // not an otherName
			}
			var oid asn1.ObjectIdentifier
			value, err := asn1.Unmarshal(name.Bytes, &oid)
			if err != nil || !oid.Equal(oidXmppAddr) {
				continue
			}
			var addr string
			var explicit asn1.RawValue
			if _, err := asn1.Unmarshal(value, &explicit); err != nil {
				return "", errors.New("client: the certificate's XmppAddr is malformed")
			}
			if _, err := asn1.UnmarshalWithParams(explicit.Bytes, &addr, "utf8"); err != nil {
				return "", errors.New("client: the certificate's XmppAddr is malformed")
			}
			j, err := bareJID(addr)
			if err != nil {
				return "", err
			}
			if found != "" {
				return "", errors.New("client: the certificate has more than one XmppAddr")
			}
			found = j
		}
	}
	if found == "" {
		return "", errors.New("client: the certificate names no account (XmppAddr)")
	}
	return found, nil
}

// x509Identity makes the device's identity from a certificate.
func x509Identity(cs mls.CipherSuite, cert *tls.Certificate, account string) (*mls.Identity, error) {
	if len(cert.Certificate) == 0 {
		return nil, errors.New("client: Certificate is empty")
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("client: reading Certificate: %w", err)
	}
	j, err := xmppAddr(leaf)
	if err != nil {
		return nil, err
	}
	if j != account {
		return nil, fmt.Errorf("client: Certificate is for %s, the account is %s", j, account)
	}
	var raw []byte
	switch k := cert.PrivateKey.(type) {
	case ed25519.PrivateKey:
		raw = k.Seed()
	case *ecdsa.PrivateKey:
		if raw, err = k.Bytes(); err != nil {
			return nil, fmt.Errorf("client: reading Certificate's key: %w", err)
		}
	default:
		return nil, fmt.Errorf("client: Certificate has a key of type %T, use Ed25519 or ECDSA", k)
	}
	key, err := mls.ParseSignaturePrivateKey(cs, raw)
	if err != nil {
		return nil, fmt.Errorf("client: Certificate's key does not fit the cipher suite %v: %w", cs, err)
	}
	return &mls.Identity{Credential: mls.X509Credential(cert.Certificate...), Key: key}, nil
}

// authenticator is the client's mls.Authenticator.
type authenticator struct {
	roots *x509.CertPool
	now   func() time.Time
}

var _ mls.Authenticator = (*authenticator)(nil)

// ValidateCredential checks what a credential says of itself. That the key is
// really the account's is for the delivery service, which binds it to the
// stanza's sender, and for trust, which people add.
func (a *authenticator) ValidateCredential(c mls.Credential, key []byte, use mls.CredentialUse) error {
	if use == mls.UseExternalSender {
		// The delivery service's own: it is named in the GroupContext, which
		// members sign, and may only propose removals.
		return nil
	}
	if _, err := identityOf(c); err != nil {
		return err
	}
	if c.Type == mls.CredentialX509 {
		return a.validateChain(c, key)
	}
	return nil
}

// validateChain checks a certificate path (RFC 5280 §6) and that it is for the key.
// That it has expired is no error here: clocks differ and time goes on, and a leaf
// that some members take and others do not would divide the group, or lock out who
// comes back to it. Who lets somebody in asks outdatedCertificate besides.
func (a *authenticator) validateChain(c mls.Credential, key []byte) error {
	if a.roots == nil {
		return errors.New("client: X.509 credentials are not accepted: Roots is not set")
	}
	if len(c.Certificates) > 16 {
		return errors.New("client: the credential's chain has more than 16 certificates")
	}
	leaf, err := x509.ParseCertificate(c.Certificates[0])
	if err != nil {
		return fmt.Errorf("client: the credential's certificate: %w", err)
	}
	// The SAN's only name may be one that Go does not know, and the extension
	// may be critical: this code has read it.
	leaf.UnhandledCriticalExtensions = withoutOID(leaf.UnhandledCriticalExtensions, oidSAN)
	pool, at := x509.NewCertPool(), during(leaf, a.now())
	for _, der := range c.Certificates[1:] {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("client: the credential's chain: %w", err)
		}
		pool.AddCert(cert)
		at = during(cert, at)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: a.roots, Intermediates: pool, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return fmt.Errorf("client: the credential's certificate: %w", err)
	}
	var public []byte
	switch k := leaf.PublicKey.(type) {
	case ed25519.PublicKey:
		public = k
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P224() {
			return errors.New("client: the certificate's curve is not used in MLS")
		}
		if public, err = k.Bytes(); err != nil {
			return fmt.Errorf("client: the certificate's key: %w", err)
		}
	default:
		return fmt.Errorf("client: the certificate has a key of type %T", k)
	}
	if !bytes.Equal(public, key) {
		return errors.New("client: the certificate is for another key than the leaf's")
	}
	return nil
}

// during is at, or the moment next to it in which the certificate is valid.
func during(cert *x509.Certificate, at time.Time) time.Time {
	switch {
	case at.Before(cert.NotBefore):
		return cert.NotBefore
	case at.After(cert.NotAfter):
		return cert.NotAfter
	}
	return at
}

// outdatedCertificate says that a certificate of the credential has expired or is not
// valid yet, nil if neither.
func outdatedCertificate(c mls.Credential, now time.Time) error {
	if c.Type != mls.CredentialX509 {
		return nil
	}
	for _, der := range c.Certificates {
		cert, err := x509.ParseCertificate(der)
		switch {
		case err != nil:
			return fmt.Errorf("client: the credential's certificate: %w", err)
		case now.After(cert.NotAfter):
			return fmt.Errorf("client: the certificate expired on %s", cert.NotAfter.UTC().Format(time.DateOnly))
		case now.Before(cert.NotBefore):
			return fmt.Errorf("client: the certificate is not valid before %s", cert.NotBefore.UTC().Format(time.DateOnly))
		}
	}
	return nil
}

func withoutOID(list []asn1.ObjectIdentifier, oid asn1.ObjectIdentifier) (out []asn1.ObjectIdentifier) {
	for _, o := range list {
		if !o.Equal(oid) {
			out = append(out, o)
		}
	}
	return out
}

// ValidateSuccessor lets a device change its key or certificate, never its
// account.
func (a *authenticator) ValidateSuccessor(old, new *mls.LeafNode) error {
	was, err := identityOf(old.Credential)
	if err != nil {
		return err
	}
	is, err := identityOf(new.Credential)
	if err != nil {
		return err
	}
	if was != is {
		return fmt.Errorf("client: the leaf of %s would become one of %s", was, is)
	}
	return nil
}

// groupState reads the components that a group has agreed on.
func groupState(ctx *mls.GroupContext) (groupdata.State, error) {
	var st groupdata.State
	if ctx == nil {
		return st, nil
	}
	data, err := ctx.Extensions.AppData()
	if err != nil {
		return st, err
	}
	if b, ok := data.Find(groupdata.ComponentGroup); ok {
		if st.Group, err = groupdata.DecodeGroup(b); err != nil {
			return st, err
		}
	}
	if b, ok := data.Find(groupdata.ComponentRoles); ok {
		if st.Roles, err = groupdata.DecodeRoles(b); err != nil {
			return st, err
		}
	}
	return st, nil
}
