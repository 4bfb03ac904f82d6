// SPDX-License-Identifier: Apache-2.0

package xmlpull

import (
	"bytes"
	"slices"
	"strconv"
)

// AppendXML appends e with everything in it to dst, as a document of its own:
// every namespace that it uses is declared inside. Text is kept as it is,
// comments in the source cannot exist. Where the default namespace of the
// place that dst goes to is inherit, an xmlns for it is left out.
func (e Element) AppendXML(dst []byte, inherit string) []byte {
	if !e.Valid() {
		return dst
	}
	return e.d.appendNode(dst, e.i, []byte(inherit), false)
}

// AppendCanonical appends a form of e to dst that is equal for equal content:
// attributes sorted by namespace and name, one way to quote, escape and
// declare namespaces, white space between elements removed where it is the
// only text of its parent.
func (e Element) AppendCanonical(dst []byte) []byte {
	if !e.Valid() {
		return dst
	}
	return e.d.appendNode(dst, e.i, nil, true)
}

// Canonical parses a document and returns its canonical form, as
// [Element.AppendCanonical] has it. It is meant for tests and for reports that
// compare XML by content.
func Canonical(b []byte, ctx *Context) ([]byte, error) {
	var d Doc
	e, err := d.Parse(b, ctx)
	if err != nil {
		return nil, err
	}
	return e.AppendCanonical(nil), nil
}

// appendNode recurses at most [Limits].MaxDepth deep.
func (d *Doc) appendNode(dst []byte, i int32, inherit []byte, canonical bool) []byte {
	n := &d.nodes[i]
	if n.text {
		return AppendText(dst, n.local)
	}
	dst = append(dst, '<')
	dst = append(dst, n.local...)
	if !bytes.Equal(n.space, inherit) {
		dst = AppendAttr(dst, "xmlns", n.space)
	}
	attrs := d.attrs[n.attr0:n.attr1]
	if canonical && len(attrs) > 1 {
		attrs = slices.Clone(attrs)
		slices.SortFunc(attrs, func(a, b Attr) int {
			if c := bytes.Compare(a.Space, b.Space); c != 0 {
				return c
			}
			return bytes.Compare(a.Local, b.Local)
		})
	}
	for k := range attrs {
		a := &attrs[k]
		switch {
		case len(a.Space) == 0:
			dst = AppendAttr(dst, string(a.Local), a.Value)
		case string(a.Space) == NSXML:
			dst = AppendAttr(dst, "xml:"+string(a.Local), a.Value)
		default:
			// Each such attribute declares a prefix of its own: rare, and
			// right whatever prefixes the source used.
			prefix := "n" + strconv.Itoa(k)
			dst = AppendAttr(dst, "xmlns:"+prefix, a.Space)
			dst = AppendAttr(dst, prefix+":"+string(a.Local), a.Value)
		}
	}
	if n.first == none {
		return append(dst, "/>"...)
	}
	mark := len(dst)
	dst = append(dst, '>')
	e := Element{d: d, i: i}
	skip := canonical && e.First().Valid() && !e.HasText()
	for c := n.first; c != none; c = d.nodes[c].next {
		if skip && d.nodes[c].text {
			continue
		}
		dst = d.appendNode(dst, c, n.space, canonical)
	}
	if len(dst) == mark+1 {
		return append(dst[:mark], "/>"...)
	}
	dst = append(dst, "</"...)
	dst = append(dst, n.local...)
	return append(dst, '>')
}
