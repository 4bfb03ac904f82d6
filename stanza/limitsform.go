// SPDX-License-Identifier: Apache-2.0

package stanza

import "encoding/base64"

// ServiceLimits is the content of the form urn:xmpp:mls:ds:0#limits in the
// disco#info of a delivery service.
//
//	<x xmlns='jabber:x:data' type='result'>
//	  <field var='FORM_TYPE' type='hidden'><value>urn:xmpp:mls:ds:0#limits</value></field>
//	  <field var='max-bytes'><value>49152</value></field>
//	  <field var='max-artifact-bytes'><value>8388608</value></field>
//	  <field var='cipher-suites'><value>0x0001</value><value>0x0003</value></field>
//	  <field var='create'><value>local-users</value></field>
//	  <field var='log-retention-seconds'><value>2592000</value></field>
//	  <field var='wire-format'><value>public-handshake</value></field>
//	</x>
//
// Source: xep/mls-delivery.xml#discovery.
type ServiceLimits struct {
	// MaxBytes is the largest object in a stanza and the largest page, in bytes
	// before base64.
	MaxBytes uint64
	// MaxArtifactBytes is the largest staged object, in bytes.
	MaxArtifactBytes uint64
	// CipherSuites are the suites that groups may have.
	CipherSuites []uint16
	// Create says who may create groups: "anyone", "local-users", "admins".
	Create string
	// ChosenNames says whether creators may choose the local part. Field
	// chosen-names, true by default.
	ChosenNames bool
	// LogRetention is the longest that an entry is kept, in seconds.
	LogRetention uint64
	// WireFormats are the handshake modes that groups may have, of
	// [PublicHandshake] and [PrivateHandshake].
	WireFormats []string
	// ExternalSender is an ExternalSender structure (RFC 9420 §12.1.8.1) that
	// new groups should have in their external_senders extension, and must have
	// if the DS insists; empty if none.
	// Field external-sender, in base64.
	ExternalSender []byte
	// MaxDevices is how many devices one account may have, 0 if not told.
	// Field max-devices.
	MaxDevices uint64
	// KeyPackages is how many key packages per device are kept, 0 if not told.
	// Field key-packages.
	KeyPackages uint64
}

// Values of [ServiceLimits].Create.
const (
	CreateAnyone     = "anyone"
	CreateLocalUsers = "local-users"
	CreateAdmins     = "admins"
)

// Form returns the limits as a form.
func (l *ServiceLimits) Form() *Form {
	f := NewForm(FormResult, FormLimits)
	f.Add("max-bytes", uintValue(l.MaxBytes))
	f.Add("max-artifact-bytes", uintValue(l.MaxArtifactBytes))
	suites := make([]string, len(l.CipherSuites))
	for i, s := range l.CipherSuites {
		suites[i] = string(appendCode(nil, s))
	}
	f.Add("cipher-suites", suites...)
	f.Add("create", l.Create)
	if !l.ChosenNames {
		f.Add("chosen-names", "0")
	}
	f.Add("log-retention-seconds", uintValue(l.LogRetention))
	f.Add("wire-format", l.WireFormats...)
	if len(l.ExternalSender) > 0 {
		f.Add("external-sender", base64.StdEncoding.EncodeToString(l.ExternalSender))
	}
	if l.MaxDevices > 0 {
		f.Add("max-devices", uintValue(l.MaxDevices))
	}
	if l.KeyPackages > 0 {
		f.Add("key-packages", uintValue(l.KeyPackages))
	}
	return f
}

// ParseServiceLimits reads the form. Unknown fields are ignored, absent ones
// zero.
func ParseServiceLimits(f *Form) (ServiceLimits, error) {
	l := ServiceLimits{ChosenNames: true}
	if t := f.FormType(); t != FormLimits {
		return l, &SyntaxError{Element: "x", Reason: "FORM_TYPE is not " + FormLimits}
	}
	r := formReader{form: f}
	r.number("max-bytes", &l.MaxBytes)
	r.number("max-artifact-bytes", &l.MaxArtifactBytes)
	r.word("create", &l.Create)
	r.boolean("chosen-names", &l.ChosenNames)
	r.number("log-retention-seconds", &l.LogRetention)
	r.number("max-devices", &l.MaxDevices)
	r.number("key-packages", &l.KeyPackages)
	for _, v := range f.Values("cipher-suites") {
		c, ok := parseCode([]byte(v))
		if !ok {
			r.fail("cipher-suites", "not a number of the form 0x0001")
			break
		}
		l.CipherSuites = append(l.CipherSuites, c)
	}
	l.WireFormats = append(l.WireFormats, f.Values("wire-format")...)
	if v := f.Get("external-sender"); v != "" {
		b, err := DecodeBase64(nil, []byte(v))
		if err != nil {
			r.fail("external-sender", "not base64")
		}
		l.ExternalSender = b
	}
	return l, r.err
}

// ContactForm returns the contact addresses of a service for its disco#info
// (XEP-0157): URIs such as "mailto:abuse@example.org", by field, such as
// "abuse-addresses".
func ContactForm(addresses map[string][]string) *Form {
	f := NewForm(FormResult, NSServerInfo)
	for _, name := range []string{
		"abuse-addresses", "admin-addresses", "feedback-addresses", "sales-addresses",
		"security-addresses", "status-addresses", "support-addresses",
	} {
		if uris := addresses[name]; len(uris) > 0 {
			f.Fields = append(f.Fields, Field{Var: name, Type: FieldListMulti, Values: uris})
		}
	}
	return f
}
