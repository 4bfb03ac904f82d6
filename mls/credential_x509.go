// SPDX-License-Identifier: Apache-2.0

// The one thing about certificates that MLS itself demands: that the end-entity
// certificate is for the member's signature key (RFC 9420 §5.3). Chains, names and
// validity are for an Authenticator; crypto/x509, which knows them, would bring
// the network with it.

package mls

import (
	"bytes"
	"encoding/asn1"
	"errors"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var errCertificate = errors.New("mls: not a certificate in DER")

// The algorithms of a SubjectPublicKeyInfo (RFC 5480, RFC 8410, RFC 9881).
var (
	oidEC      = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidP256    = asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}
	oidP384    = asn1.ObjectIdentifier{1, 3, 132, 0, 34}
	oidP521    = asn1.ObjectIdentifier{1, 3, 132, 0, 35}
	oidEd25519 = asn1.ObjectIdentifier{1, 3, 101, 112}
	oidEd448   = asn1.ObjectIdentifier{1, 3, 101, 113}
	oidMLDSA44 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 17}
	oidMLDSA65 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 18}
	oidMLDSA87 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 19}
)

// oids returns algorithm and, for ECDSA, curve of the scheme's public keys.
func (g signatureScheme) oids() (algorithm, curve asn1.ObjectIdentifier) {
	switch g {
	case sigP256:
		return oidEC, oidP256
	case sigP384:
		return oidEC, oidP384
	case sigP521:
		return oidEC, oidP521
	case sigEd448:
		return oidEd448, nil
	case sigMLDSA44:
		return oidMLDSA44, nil
	case sigMLDSA65:
		return oidMLDSA65, nil
	case sigMLDSA87:
		return oidMLDSA87, nil
	}
	return oidEd25519, nil
}

// certificateKey returns the subjectPublicKeyInfo of a certificate: the
// algorithm's parameters are nil unless they are an OBJECT IDENTIFIER.
func certificateKey(der []byte) (algorithm, curve asn1.ObjectIdentifier, key []byte, err error) {
	input := cryptobyte.String(der)
	var cert, tbs, spki, alg cryptobyte.String
	ok := input.ReadASN1(&cert, cryptobyte_asn1.SEQUENCE) && input.Empty() &&
		cert.ReadASN1(&tbs, cryptobyte_asn1.SEQUENCE) &&
		tbs.SkipOptionalASN1(cryptobyte_asn1.Tag(0).Constructed().ContextSpecific()) && // version
		tbs.SkipASN1(cryptobyte_asn1.INTEGER) && // serialNumber
		tbs.SkipASN1(cryptobyte_asn1.SEQUENCE) && // signature
		tbs.SkipASN1(cryptobyte_asn1.SEQUENCE) && // issuer
		tbs.SkipASN1(cryptobyte_asn1.SEQUENCE) && // validity
		tbs.SkipASN1(cryptobyte_asn1.SEQUENCE) && // subject
		tbs.ReadASN1(&spki, cryptobyte_asn1.SEQUENCE) &&
		spki.ReadASN1(&alg, cryptobyte_asn1.SEQUENCE) &&
		alg.ReadASN1ObjectIdentifier(&algorithm) &&
		spki.ReadASN1BitStringAsBytes(&key) && spki.Empty()
	if !ok {
		return nil, nil, nil, errCertificate
	}
	if alg.PeekASN1Tag(cryptobyte_asn1.OBJECT_IDENTIFIER) && !alg.ReadASN1ObjectIdentifier(&curve) {
		return nil, nil, nil, errCertificate
	}
	return algorithm, curve, key, nil
}

// checkCertificate checks that the end-entity certificate of an x509 credential
// is for the signature key (RFC 9420 §5.3).
func (s *suite) checkCertificate(c *Credential, signatureKey []byte) error {
	if c.Type != CredentialX509 {
		return nil
	}
	if len(c.Certificates) == 0 {
		return invalid(RuleCredentialX509, "an x509 credential has no certificate")
	}
	algorithm, curve, key, err := certificateKey(c.Certificates[0])
	if err != nil {
		return broken(RuleCredentialX509, err, "end-entity certificate")
	}
	wantAlgorithm, wantCurve := s.sig.oids()
	if !algorithm.Equal(wantAlgorithm) || wantCurve != nil && !curve.Equal(wantCurve) || !bytes.Equal(key, signatureKey) {
		return invalid(RuleCredentialX509, "the end-entity certificate is not for the signature_key")
	}
	return nil
}
