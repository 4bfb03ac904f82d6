// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"slices"
)

// capabilities returns what this client announces.
func (c *config) capabilities(own CipherSuite) Capabilities {
	caps := Capabilities{
		Versions:     []ProtocolVersion{MLS10},
		CipherSuites: slices.Clone(c.suites),
		Extensions:   slices.Clone(c.extra.Extensions),
		Proposals:    slices.Clone(c.extra.Proposals),
		Credentials:  append([]CredentialType{CredentialBasic, CredentialX509}, c.extra.Credentials...),
	}
	if !c.rfcOnly {
		caps.Extensions = append([]ExtensionType{ExtensionAppDataDictionary, ExtensionLastResort}, caps.Extensions...)
		caps.Proposals = append([]ProposalType{ProposalAppDataUpdate, ProposalAppEphemeral, ProposalSelfRemove}, caps.Proposals...)
	}
	if !slices.Contains(caps.CipherSuites, own) {
		caps.CipherSuites = append(caps.CipherSuites, own)
	}
	// Whatever the application asks for: they MUST NOT be listed (RFC 9420 §7.2).
	caps.Extensions = slices.DeleteFunc(caps.Extensions, ExtensionType.isDefault)
	caps.Proposals = slices.DeleteFunc(caps.Proposals, ProposalType.isDefault)
	if c.grease {
		var b [4]byte
		if readRandom(c.rand, b[:]) == nil {
			caps.CipherSuites = append(caps.CipherSuites, CipherSuite(greaseValue(b[0])))
			caps.Extensions = append(caps.Extensions, ExtensionType(greaseValue(b[1])))
			caps.Proposals = append(caps.Proposals, ProposalType(greaseValue(b[2])))
			caps.Credentials = append(caps.Credentials, CredentialType(greaseValue(b[3])))
		}
	}
	return caps
}

// cover adds the types of extensions that the client sends: it must list them
// (RFC 9420 §7.2, §10). Some stacks refuse a key package that has others, GREASE
// too; here they are ignored, as §13.4 wants.
func (c *Capabilities) cover(x Extensions) {
	for i := range x {
		if t := x[i].Type; !c.SupportsExtension(t) {
			c.Extensions = append(slices.Clip(c.Extensions), t)
		}
	}
}

// greaseValue maps a random octet to one of the fifteen GREASE values
// (RFC 9420 §13.5).
func greaseValue(b byte) uint16 {
	v := uint16(b%15)<<4 | 0xa
	return v<<8 | v
}

// withGREASE adds an extension with a GREASE type to a list in which receivers
// ignore what they do not know (RFC 9420 §13.5).
func (c *config) withGREASE(x Extensions) Extensions {
	var b [5]byte
	if !c.grease || readRandom(c.rand, b[:]) != nil {
		return x
	}
	t := ExtensionType(greaseValue(b[0]))
	if _, ok := x.Find(t); ok {
		return x
	}
	return append(slices.Clip(x), Extension{t, bytes.Clone(b[1:])})
}
