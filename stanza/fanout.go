// SPDX-License-Identifier: Apache-2.0

package stanza

import "github.com/lockstep-im/lockstep/stanza/xmlpull"

// Template is a stanza that is serialised once for many recipients: only the
// to attribute is written anew. It is safe for concurrent use.
type Template struct {
	// prefix ends with " to='", suffix begins with "'".
	prefix, suffix []byte
}

// NewTemplate serialises the stanza with header h, whose To is ignored, and its
// payloads.
func NewTemplate(h Header, payloads ...Payload) *Template {
	h.To = ""
	head := h.AppendStart(nil)
	head = head[:len(head)-1] // without the '>'
	suffix := append([]byte(nil), "'>"...)
	for _, p := range payloads {
		if p != nil {
			suffix = p.Append(suffix)
		}
	}
	return &Template{prefix: append(head, " to='"...), suffix: h.Kind.AppendEnd(suffix)}
}

// Len returns the size of the stanza without the address, in bytes.
func (t *Template) Len() int { return len(t.prefix) + len(t.suffix) }

// AppendTo appends the stanza for one recipient to dst.
func (t *Template) AppendTo(dst []byte, to string) []byte {
	dst = append(dst, t.prefix...)
	dst = xmlpull.AppendAttrValue(dst, to)
	return append(dst, t.suffix...)
}

// Parts returns the stanza as two constant parts and, between them, the escaped
// address, appended to scratch: for a writer that gathers (net.Buffers). The
// parts must not be changed.
func (t *Template) Parts(scratch []byte, to string) (prefix, addr, suffix []byte) {
	n := len(scratch)
	scratch = xmlpull.AppendAttrValue(scratch, to)
	return t.prefix, scratch[n:], t.suffix
}
