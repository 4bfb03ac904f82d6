// SPDX-License-Identifier: Apache-2.0

package stanza

import "github.com/lockstep-im/lockstep/stanza/xmlpull"

// Body is the text of a message (RFC 6121 §5.2.3). Inside an [Envelope]:
//
//	<body xmlns='jabber:client'>disk full on db3</body>
//
// Directly in a message, where [Body.Append] with Inherit writes it without a
// namespace, it is in that of the stream.
type Body struct {
	Text string
	// Lang is xml:lang, empty for that of the message.
	Lang string
	// Inherit leaves the namespace declaration out.
	Inherit bool
}

// Append appends the element.
func (b *Body) Append(dst []byte) []byte { return b.append(dst, "body") }

func (b *Body) append(dst []byte, local string) []byte {
	if b.Inherit {
		dst = start(dst, local)
	} else {
		dst = open(dst, NSClient, local)
	}
	dst = attrOpt(dst, "xml:lang", b.Lang)
	dst = append(dst, '>')
	dst = xmlpull.AppendText(dst, b.Text)
	return end(dst, local)
}

// Parse reads the element, in any of the namespaces of stanzas.
func (b *Body) Parse(el Element) error {
	d := dec{el: el}
	if string(el.Local()) != "body" || !isStanzaNS(el.Space()) {
		d = expect(el, NSClient, "body")
	}
	if el.First().Valid() {
		d.fail("an element inside") // RFC 6121 §5.2.3: no mixed content
	}
	b.Text = d.textOf(el, MaxBody, b.Text)
	b.Lang = lang(el)
	b.Inherit = string(el.Space()) != NSClient
	return d.err
}

// MaxBody is the longest body in bytes.
const MaxBody = 256 << 10
