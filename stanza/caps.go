// SPDX-License-Identifier: Apache-2.0

package stanza

import (
	"crypto/sha1"
	"encoding/base64"
	"sort"
)

// Caps tells an entity's capabilities in presence (XEP-0115).
//
//	<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='https://example.org/bot' ver='QgayPKawpkPSDYmwT/WM94uAlu0='/>
type Caps struct {
	Hash, Node, Ver string
}

// NewCaps returns the capabilities of an entity that answers disco#info with
// info. Node is a URI of the software.
func NewCaps(node string, info *DiscoInfo) *Caps {
	return &Caps{Hash: "sha-1", Node: node, Ver: info.Verification()}
}

// Append appends the element.
func (c *Caps) Append(dst []byte) []byte {
	dst = attr(open(dst, NSCaps, "c"), "hash", c.Hash)
	dst = attr(dst, "node", c.Node)
	dst = attr(dst, "ver", c.Ver)
	return append(dst, "/>"...)
}

// Parse reads the element.
func (c *Caps) Parse(el Element) error {
	d := expect(el, NSCaps, "c")
	d.noText()
	c.Hash = d.str("hash", MaxID, c.Hash)
	c.Node = d.str("node", MaxID, c.Node)
	c.Ver = d.str("ver", MaxID, c.Ver)
	return d.err
}

// Verification returns the verification string of XEP-0115 §5.1 with SHA-1,
// which the protocol demands; nothing depends on its strength here.
func (i *DiscoInfo) Verification() string {
	var parts []string
	for _, id := range i.Identities {
		parts = append(parts, id.Category+"/"+id.Type+"/"+id.Lang+"/"+id.Name)
	}
	sort.Strings(parts)
	features := append([]string(nil), i.Features...)
	sort.Strings(features)
	parts = append(parts, features...)
	forms := append([]Form(nil), i.Forms...)
	sort.SliceStable(forms, func(a, b int) bool { return forms[a].FormType() < forms[b].FormType() })
	for _, f := range forms {
		if p := f.Field("FORM_TYPE"); p == nil || p.Type != FieldHidden {
			continue // XEP-0115 §5.4.3.6
		}
		parts = append(parts, f.FormType())
		fields := append([]Field(nil), f.Fields...)
		sort.SliceStable(fields, func(a, b int) bool { return fields[a].Var < fields[b].Var })
		for _, p := range fields {
			if p.Var == "FORM_TYPE" {
				continue
			}
			parts = append(parts, p.Var)
			values := append([]string(nil), p.Values...)
			sort.Strings(values)
			parts = append(parts, values...)
		}
	}
	var s []byte
	for _, p := range parts {
		s = append(append(s, p...), '<')
	}
	sum := sha1.Sum(s)
	return base64.StdEncoding.EncodeToString(sum[:])
}
