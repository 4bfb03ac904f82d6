// SPDX-License-Identifier: Apache-2.0

package component

import (
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"

	"crypto/x509"

	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
)

// This file says who a leaf is: the account in its credential, and the device
// in its application id (xep/mls.xml#identity).

// A leafDevice is a device of an account with its place in a group's tree.
type leafDevice struct {
	device string // 32 hexadecimal digits
	leaf   mls.LeafIndex
	joined uint64 // seq of the commit that added it
}

// leafIdentity gives the account and device of a leaf.
func leafIdentity(l *mls.LeafNode) (user, device string, err error) {
	if user, err = credentialUser(&l.Credential); err != nil {
		return "", "", err
	}
	id := l.ApplicationID()
	if len(id) != len(stanza.DeviceID{}) {
		return "", "", fmt.Errorf("component: the leaf's application_id has %d bytes, a device id has %d", len(id), len(stanza.DeviceID{}))
	}
	return user, hex.EncodeToString(id), nil
}

// credentialUser gives the bare JID that a credential names. It must be in its
// normalised form: two spellings of one account would be two members.
func credentialUser(c *mls.Credential) (string, error) {
	var user string
	switch c.Type {
	case mls.CredentialBasic:
		user = string(c.Identity)
	case mls.CredentialX509:
		if len(c.Certificates) == 0 {
			return "", errors.New("component: the certificate chain is empty")
		}
		cert, err := x509.ParseCertificate(c.Certificates[0])
		if err != nil {
			return "", fmt.Errorf("component: reading the certificate: %w", err)
		}
		if user, err = xmppAddr(cert); err != nil {
			return "", err
		}
	default:
		return "", fmt.Errorf("component: credentials of type %v name no account", c.Type)
	}
	a, err := parseAddr(user)
	if err != nil {
		return "", err
	}
	if a.bare != user || a.local == "" {
		return "", fmt.Errorf("component: the credential's identity %q is not a normalised bare JID of an account: want %q", user, a.bare)
	}
	return user, nil
}

// accounts is the service's mls.Authenticator. Whether a certificate is valid is for
// members to judge; that a leaf stays its account's is not theirs alone.
type accounts struct{}

var _ mls.Authenticator = accounts{}

// ValidateCredential takes every credential: its account is compared with the
// sender's where a request has one.
func (accounts) ValidateCredential(mls.Credential, []byte, mls.CredentialUse) error { return nil }

// ValidateSuccessor lets a device renew its certificate, or change to another kind
// of credential, and never its account.
func (accounts) ValidateSuccessor(old, new *mls.LeafNode) error {
	was, err := credentialUser(&old.Credential)
	if err != nil {
		return err
	}
	is, err := credentialUser(&new.Credential)
	if err == nil && was != is {
		err = fmt.Errorf("component: the leaf of %s would become one of %s", was, is)
	}
	return err
}

var (
	oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidXMPPAddr       = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 5} // RFC 6120 §13.7.1.4
)

// xmppAddr gives the one XmppAddr of a certificate's subjectAltName.
func xmppAddr(cert *x509.Certificate) (string, error) {
	var found []string
	for _, ext := range cert.Extensions {
		if !ext.Id.Equal(oidSubjectAltName) {
			continue
		}
		var names []asn1.RawValue
		if rest, err := asn1.Unmarshal(ext.Value, &names); err != nil || len(rest) > 0 {
			return "", errors.New("component: the certificate's subjectAltName is malformed")
		}
		for _, n := range names {
			if n.Class != asn1.ClassContextSpecific || n.Tag != 0 {
				continue
			}
			// OtherName ::= SEQUENCE { type-id OBJECT IDENTIFIER, value [0] EXPLICIT ANY }
			var oid asn1.ObjectIdentifier
			rest, err := asn1.Unmarshal(n.Bytes, &oid)
			if err != nil || !oid.Equal(oidXMPPAddr) {
				continue
			}
			var value asn1.RawValue
			if _, err := asn1.Unmarshal(rest, &value); err != nil {
				continue
			}
			var name string
			if _, err := asn1.UnmarshalWithParams(value.Bytes, &name, "utf8"); err != nil {
				continue
			}
			found = append(found, name)
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("component: the certificate has %d XmppAddr names, want one", len(found))
	}
	return found[0], nil
}
