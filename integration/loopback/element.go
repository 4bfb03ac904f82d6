// SPDX-License-Identifier: Apache-2.0

package loopback

import (
	"encoding/xml"
	"errors"
	"io"
	"strconv"
	"strings"
)

// Namespaces of the streams and of stanzas.
const (
	nsClient    = "jabber:client"
	nsComponent = "jabber:component:accept"
	nsStream    = "http://etherx.jabber.org/streams"
	nsStreams   = "urn:ietf:params:xml:ns:xmpp-streams"
	nsStanzas   = "urn:ietf:params:xml:ns:xmpp-stanzas"
	nsXML       = "http://www.w3.org/XML/1998/namespace"
)

// maxDepth bounds the nesting of one stanza. Real servers bound it by memory
// alone; hostile scenarios send 200 levels and must get through.
const maxDepth = 4096

// An Element is one XML element. Elements that have been handed to the server
// are shared between recipients and never changed: Copy before changing.
type Element struct {
	Name  xml.Name
	Attrs []xml.Attr
	Nodes []Node
}

// A Node is a child element, or text when Elem is nil.
type Node struct {
	Elem *Element
	Text string
}

// El makes an element from attribute name/value pairs. Empty values are left out.
func El(space, local string, attrs ...string) *Element {
	e := &Element{Name: xml.Name{Space: space, Local: local}}
	for i := 0; i+1 < len(attrs); i += 2 {
		if attrs[i+1] != "" {
			e.Attrs = append(e.Attrs, xml.Attr{Name: xml.Name{Local: attrs[i]}, Value: attrs[i+1]})
		}
	}
	return e
}

// Add appends child elements (nil ones are left out) and returns e.
func (e *Element) Add(children ...*Element) *Element {
	for _, c := range children {
		if c != nil {
			e.Nodes = append(e.Nodes, Node{Elem: c})
		}
	}
	return e
}

// AddText appends text and returns e.
func (e *Element) AddText(s string) *Element {
	if s != "" {
		e.Nodes = append(e.Nodes, Node{Text: s})
	}
	return e
}

// Attr is the value of the attribute without a namespace, or "".
func (e *Element) Attr(name string) string {
	for _, a := range e.Attrs {
		if a.Name.Space == "" && a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// Set sets or, with an empty value, removes an attribute.
func (e *Element) Set(name, value string) {
	for i, a := range e.Attrs {
		if a.Name.Space == "" && a.Name.Local == name {
			if value == "" {
				e.Attrs = append(e.Attrs[:i:i], e.Attrs[i+1:]...)
			} else {
				e.Attrs[i].Value = value
			}
			return
		}
	}
	if value != "" {
		e.Attrs = append(e.Attrs, xml.Attr{Name: xml.Name{Local: name}, Value: value})
	}
}

// Copy is a shallow copy: its attributes and list of children may be changed, its
// children may not.
func (e *Element) Copy() *Element {
	return &Element{Name: e.Name, Attrs: append([]xml.Attr(nil), e.Attrs...), Nodes: append([]Node(nil), e.Nodes...)}
}

// Is tells whether e has this name.
func (e *Element) Is(space, local string) bool {
	return e != nil && e.Name.Local == local && e.Name.Space == space
}

// Child is the first child element with this name, or nil. A nil receiver has none.
func (e *Element) Child(space, local string) *Element {
	if e == nil {
		return nil
	}
	for _, n := range e.Nodes {
		if n.Elem.Is(space, local) {
			return n.Elem
		}
	}
	return nil
}

// ChildNS is the first child element in a namespace, or nil.
func (e *Element) ChildNS(space string) *Element {
	for _, c := range e.Children() {
		if c.Name.Space == space {
			return c
		}
	}
	return nil
}

// First is the first child element, or nil.
func (e *Element) First() *Element {
	for _, c := range e.Children() {
		return c
	}
	return nil
}

// Children are the child elements.
func (e *Element) Children() []*Element {
	if e == nil {
		return nil
	}
	var out []*Element
	for _, n := range e.Nodes {
		if n.Elem != nil {
			out = append(out, n.Elem)
		}
	}
	return out
}

// Text is the text directly inside e.
func (e *Element) Text() string {
	if e == nil {
		return ""
	}
	if len(e.Nodes) == 1 {
		return e.Nodes[0].Text
	}
	var b strings.Builder
	for _, n := range e.Nodes {
		b.WriteString(n.Text)
	}
	return b.String()
}

// Find is the first element in e (or e itself) with this name at any depth, or nil.
func (e *Element) Find(space, local string) *Element {
	if e.Is(space, local) {
		return e
	}
	for _, c := range e.Children() {
		if f := c.Find(space, local); f != nil {
			return f
		}
	}
	return nil
}

// String is e as XML.
func (e *Element) String() string { return string(appendElement(nil, e, "", "")) }

// appendElement appends e as XML. parent is the namespace in force; stanza
// elements (jabber:client) are written in the stream's own namespace, stream, when
// they are not inside something foreign.
func appendElement(b []byte, e *Element, parent, stream string) []byte {
	space := e.Name.Space
	if space == nsClient && stream != "" && (parent == stream) {
		space = stream
	}
	b = append(b, '<')
	b = append(b, e.Name.Local...)
	if space != parent {
		b = append(b, ` xmlns='`...)
		b = appendEscaped(b, space)
		b = append(b, '\'')
	}
	for i, a := range e.Attrs {
		b = append(b, ' ')
		switch a.Name.Space {
		case "":
		case nsXML, "xml":
			b = append(b, "xml:"...)
		default:
			p := "a" + strconv.Itoa(i)
			b = append(append(append(b, "xmlns:"...), p...), "='"...)
			b = append(appendEscaped(b, a.Name.Space), "' "...)
			b = append(append(b, p...), ':')
		}
		b = append(b, a.Name.Local...)
		b = append(b, "='"...)
		b = appendEscaped(b, a.Value)
		b = append(b, '\'')
	}
	if len(e.Nodes) == 0 {
		return append(b, "/>"...)
	}
	b = append(b, '>')
	for _, n := range e.Nodes {
		if n.Elem != nil {
			b = appendElement(b, n.Elem, space, stream)
		} else {
			b = appendEscaped(b, n.Text)
		}
	}
	b = append(b, "</"...)
	b = append(b, e.Name.Local...)
	return append(b, '>')
}

// appendEscaped escapes the five special characters and white space that a parser
// would normalise.
func appendEscaped(b []byte, s string) []byte {
	last := 0
	for i := 0; i < len(s); i++ {
		var esc string
		switch s[i] {
		case '&':
			esc = "&amp;"
		case '<':
			esc = "&lt;"
		case '>':
			esc = "&gt;"
		case '\'':
			esc = "&apos;"
		case '"':
			esc = "&quot;"
		case '\r':
			esc = "&#xD;"
		default:
			continue
		}
		b = append(append(b, s[last:i]...), esc...)
		last = i + 1
	}
	return append(b, s[last:]...)
}

var errTooDeep = errors.New("loopback: element nested too deep")

// parseElement reads the rest of the element that start opened. Elements in the
// stream's namespace become jabber:client, so that routing knows one form only.
func parseElement(d *xml.Decoder, start xml.StartElement, stream string) (*Element, error) {
	root := newElement(start, stream)
	stack := []*Element{root}
	for len(stack) > 0 {
		tok, err := d.Token()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		top := stack[len(stack)-1]
		switch t := tok.(type) {
		case xml.StartElement:
			if len(stack) >= maxDepth {
				return nil, errTooDeep
			}
			c := newElement(t, stream)
			top.Nodes = append(top.Nodes, Node{Elem: c})
			stack = append(stack, c)
		case xml.EndElement:
			stack = stack[:len(stack)-1]
		case xml.CharData:
			if n := len(top.Nodes); n > 0 && top.Nodes[n-1].Elem == nil {
				top.Nodes[n-1].Text += string(t)
			} else {
				top.Nodes = append(top.Nodes, Node{Text: string(t)})
			}
		default: // RFC 6120 §11.1: no comments, instructions or DTDs
			return nil, streamError{"restricted-xml", ""}
		}
	}
	return root, nil
}

func newElement(t xml.StartElement, stream string) *Element {
	e := &Element{Name: t.Name}
	if stream != "" && e.Name.Space == stream {
		e.Name.Space = nsClient
	}
	for _, a := range t.Attr {
		if a.Name.Space == "xmlns" || (a.Name.Space == "" && a.Name.Local == "xmlns") {
			continue
		}
		e.Attrs = append(e.Attrs, a)
	}
	return e
}

// ParseElement reads one element from a string: for tests and scripts.
func ParseElement(s string) (*Element, error) {
	d := xml.NewDecoder(strings.NewReader(s))
	for {
		tok, err := d.Token()
		if err != nil {
			return nil, err
		}
		if t, ok := tok.(xml.StartElement); ok {
			return parseElement(d, t, "")
		}
	}
}
