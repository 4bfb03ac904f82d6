// SPDX-License-Identifier: Apache-2.0

// Extensions (RFC 9420 §13) and the ones that the RFC defines itself.

package mls

import (
	"bytes"
	"fmt"
)

// An ExtensionType names an extension (RFC 9420 §17.3).
type ExtensionType uint16

// The extension types that this package understands: those of RFC 9420 §17.3,
// and those of draft-ietf-mls-extensions with the code points that it suggests.
const (
	ExtensionApplicationID        ExtensionType = 0x0001
	ExtensionRatchetTree          ExtensionType = 0x0002
	ExtensionRequiredCapabilities ExtensionType = 0x0003
	ExtensionExternalPub          ExtensionType = 0x0004
	ExtensionExternalSenders      ExtensionType = 0x0005
	ExtensionAppDataDictionary    ExtensionType = 0x0006
	ExtensionSupportedWireFormats ExtensionType = 0x0007
	ExtensionRequiredWireFormats  ExtensionType = 0x0008
	// ExtensionLastResort marks a last-resort KeyPackage in the encoding of
	// earlier drafts, which deployed stacks still write; the present draft uses
	// [ComponentLastResortKeyPackage]. Both are read.
	ExtensionLastResort ExtensionType = 0x000a
)

var extensionNames = map[ExtensionType]string{
	ExtensionApplicationID:        "application_id",
	ExtensionRatchetTree:          "ratchet_tree",
	ExtensionRequiredCapabilities: "required_capabilities",
	ExtensionExternalPub:          "external_pub",
	ExtensionExternalSenders:      "external_senders",
	ExtensionAppDataDictionary:    "app_data_dictionary",
	ExtensionSupportedWireFormats: "supported_wire_formats",
	ExtensionRequiredWireFormats:  "required_wire_formats",
	ExtensionLastResort:           "last_resort",
}

// String returns the registered name of the type, or its number.
func (t ExtensionType) String() string {
	if name, ok := extensionNames[t]; ok {
		return name
	}
	return fmt.Sprintf("0x%04x", uint16(t))
}

// isDefault reports whether RFC 9420 defines the type, so that every client
// supports it and none lists it in its capabilities (RFC 9420 §7.2).
func (t ExtensionType) isDefault() bool {
	return t >= ExtensionApplicationID && t <= ExtensionExternalSenders
}

// isGREASE reports whether v is one of the values 0x0A0A, 0x1A1A ... 0xEAEA that
// are never assigned (RFC 9420 §13.5).
func isGREASE[T ~uint16](v T) bool {
	return v&0x0f0f == 0x0a0a && v>>8 == v&0xff && v != 0xfafa
}

// An Extension is one entry of an extension list (RFC 9420 §13).
type Extension struct {
	Type ExtensionType
	Data []byte
}

// Extensions is an extension list in wire order.
type Extensions []Extension

// Find returns the content of the extension of type t.
func (x Extensions) Find(t ExtensionType) ([]byte, bool) {
	for i := range x {
		if x[i].Type == t {
			return x[i].Data, true
		}
	}
	return nil, false
}

// With returns a copy of the list in which the extension of type t has the given
// content; it is added at the end when it was not there.
func (x Extensions) With(t ExtensionType, data []byte) Extensions {
	out := make(Extensions, 0, len(x)+1)
	found := false
	for _, e := range x {
		if e.Type == t {
			if found {
				continue
			}
			e.Data, found = data, true
		}
		out = append(out, e)
	}
	if !found {
		out = append(out, Extension{t, data})
	}
	return out
}

// Without returns a copy of the list that has no extension of type t.
func (x Extensions) Without(t ExtensionType) Extensions {
	var out Extensions
	for _, e := range x {
		if e.Type != t {
			out = append(out, e)
		}
	}
	return out
}

// Equal reports whether both lists have the same encoding.
func (x Extensions) Equal(y Extensions) bool {
	if len(x) != len(y) {
		return false
	}
	for i := range x {
		if x[i].Type != y[i].Type || !bytes.Equal(x[i].Data, y[i].Data) {
			return false
		}
	}
	return true
}

// duplicate returns a type that occurs twice (RFC 9420 §13.4 forbids it).
func (x Extensions) duplicate() (ExtensionType, bool) {
	if len(x) < 16 {
		for i := range x {
			for j := range i {
				if x[i].Type == x[j].Type {
					return x[i].Type, true
				}
			}
		}
		return 0, false
	}
	// A hostile list may hold thousands: keep it linear.
	seen := make(map[ExtensionType]struct{}, len(x))
	for i := range x {
		if _, ok := seen[x[i].Type]; ok {
			return x[i].Type, true
		}
		seen[x[i].Type] = struct{}{}
	}
	return 0, false
}

func readExtension(r *reader) Extension {
	return Extension{ExtensionType(r.u16()), r.opaque()}
}

func readExtensions(r *reader) Extensions { return readVector(r, readExtension) }

func (x Extensions) appendTo(b []byte) []byte {
	return appendVector(b, x, func(b []byte, e Extension) []byte {
		return appendOpaque(appendU16(b, uint16(e.Type)), e.Data)
	})
}

// RequiredCapabilities lists what every member of a group must support
// (RFC 9420 §11.1).
type RequiredCapabilities struct {
	Extensions  []ExtensionType
	Proposals   []ProposalType
	Credentials []CredentialType
}

// Extension returns the required_capabilities extension.
func (c *RequiredCapabilities) Extension() Extension {
	b := appendU16s(nil, c.Extensions)
	b = appendU16s(b, c.Proposals)
	b = appendU16s(b, c.Credentials)
	return Extension{ExtensionRequiredCapabilities, b}
}

// RequiredCapabilities returns the content of the required_capabilities
// extension, or nil when there is none.
func (x Extensions) RequiredCapabilities() (*RequiredCapabilities, error) {
	b, ok := x.Find(ExtensionRequiredCapabilities)
	if !ok {
		return nil, nil
	}
	return decode(b, "required_capabilities", func(r *reader) *RequiredCapabilities {
		return &RequiredCapabilities{
			Extensions:  readU16s[ExtensionType](r),
			Proposals:   readU16s[ProposalType](r),
			Credentials: readU16s[CredentialType](r),
		}
	})
}

// An ExternalSender may send proposals to a group of which it is no member
// (RFC 9420 §12.1.8.1).
type ExternalSender struct {
	SignatureKey []byte
	Credential   Credential
}

func readExternalSender(r *reader) ExternalSender {
	return ExternalSender{SignatureKey: r.opaque(), Credential: readCredential(r)}
}

func appendExternalSender(b []byte, s ExternalSender) []byte {
	return s.Credential.appendTo(appendOpaque(b, s.SignatureKey))
}

// Bytes returns the encoding of one sender.
func (s ExternalSender) Bytes() []byte { return appendExternalSender(nil, s) }

// ParseExternalSender decodes one sender.
func ParseExternalSender(b []byte) (ExternalSender, error) {
	return decode(bytes.Clone(b), "external sender", readExternalSender)
}

// ExternalSendersExtension returns the external_senders extension.
func ExternalSendersExtension(senders ...ExternalSender) Extension {
	return Extension{ExtensionExternalSenders, appendVector(nil, senders, appendExternalSender)}
}

// ExternalSenders returns the content of the external_senders extension, or nil
// when there is none.
func (x Extensions) ExternalSenders() ([]ExternalSender, error) {
	b, ok := x.Find(ExtensionExternalSenders)
	if !ok {
		return nil, nil
	}
	return decode(b, "external_senders", func(r *reader) []ExternalSender {
		return readVector(r, readExternalSender)
	})
}

// externalPub returns the HPKE public key of the external_pub extension
// (RFC 9420 §12.4.3.2). Its content is the key as opaque<V>.
func (x Extensions) externalPub() ([]byte, bool, error) {
	b, ok := x.Find(ExtensionExternalPub)
	if !ok {
		return nil, false, nil
	}
	pub, err := decode(b, "external_pub", (*reader).opaque)
	return pub, err == nil, err
}
