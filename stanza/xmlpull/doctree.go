// SPDX-License-Identifier: Apache-2.0

package xmlpull

import "unsafe"

// Doc holds one parsed document. The zero Doc is ready to use with default
// limits. It is made to be reused: a second Parse invalidates all [Element]
// handles and slices of the first.
type Doc struct {
	r     Reader
	nodes []node
	attrs []Attr
	path  []int32 // open elements, by index
}

const none = -1

// idleNodes is the largest tree whose memory is kept for the next document: no
// honest stanza is larger, and a hostile one should not cost 3 MB for ever.
const idleNodes = 4096

// node is an element, or a run of text if text is set.
type node struct {
	space, local []byte // of an element; of text, local is the data
	attr0, attr1 int32  // attributes in Doc.attrs
	parent       int32
	first, last  int32 // children
	next         int32 // sibling
	raw0, raw1   int32 // position in the input
	text         bool
}

// SetLimits sets the limits for the documents that follow.
func (d *Doc) SetLimits(l Limits) { d.r.SetLimits(l) }

// Parse checks all of b, which must be one element with at most white space
// around it, and returns that element. The namespace bindings of ctx (nil for
// none) are in scope. Errors are [*SyntaxError].
//
// The Doc keeps b: it must not change while the Doc's elements are in use.
func (d *Doc) Parse(b []byte, ctx *Context) (Element, error) {
	if cap(d.nodes) > idleNodes || cap(d.attrs) > idleNodes || cap(d.r.scratch) > maxIdle {
		d.nodes, d.attrs, d.r.scratch = nil, nil, nil
	}
	d.nodes, d.attrs, d.path = d.nodes[:0], d.attrs[:0], d.path[:0]
	r := &d.r
	r.Reset(b, ctx)
	for {
		kind, err := r.Next()
		if err != nil {
			d.nodes = d.nodes[:0]
			return Element{}, err
		}
		switch kind {
		case EOF:
			return Element{d: d, i: 0}, nil
		case Start:
			i := d.add(node{space: r.space, local: r.local})
			n := &d.nodes[i]
			n.attr0 = int32(len(d.attrs))
			d.attrs = append(d.attrs, r.attrs...)
			n.attr1 = int32(len(d.attrs))
			d.path = append(d.path, i)
		case End:
			i := d.path[len(d.path)-1]
			d.path = d.path[:len(d.path)-1]
			d.nodes[i].raw1 = int32(r.pos)
		case Text:
			if len(r.text) > 0 {
				d.add(node{local: r.text, text: true})
			}
		}
	}
}

// MemSize is about how many bytes of memory the document takes besides its
// input: many times the input's length where it is all tags or attributes.
func (d *Doc) MemSize() int {
	return len(d.nodes)*int(unsafe.Sizeof(node{})) + len(d.attrs)*int(unsafe.Sizeof(Attr{}))
}

// add appends a node below the innermost open element and returns its index.
func (d *Doc) add(n node) int32 {
	i := int32(len(d.nodes))
	n.parent, n.first, n.last, n.next = none, none, none, none
	n.raw0, n.raw1 = int32(d.r.start), int32(d.r.pos)
	if len(d.path) > 0 {
		n.parent = d.path[len(d.path)-1]
		p := &d.nodes[n.parent]
		if p.first == none {
			p.first = i
		} else {
			d.nodes[p.last].next = i
		}
		p.last = i
	}
	d.nodes = append(d.nodes, n)
	return i
}

// Element is a handle on one element of a [Doc]. The zero Element is no
// element: [Element.Valid] reports false, and its other methods return zero
// values.
type Element struct {
	d *Doc
	i int32
}

// Valid reports whether e is an element.
func (e Element) Valid() bool { return e.d != nil && int(e.i) < len(e.d.nodes) }

func (e Element) node() *node {
	if !e.Valid() {
		return &node{first: none, last: none, next: none, parent: none}
	}
	return &e.d.nodes[e.i]
}

// Space returns the namespace name.
func (e Element) Space() []byte { return e.node().space }

// Local returns the local name.
func (e Element) Local() []byte { return e.node().local }

// Is reports whether e has the expanded name {space}local.
func (e Element) Is(space, local string) bool {
	n := e.node()
	return string(n.local) == local && string(n.space) == space && e.Valid()
}

// Attrs returns the attributes.
func (e Element) Attrs() []Attr {
	n := e.node()
	if n.attr0 == n.attr1 {
		return nil
	}
	return e.d.attrs[n.attr0:n.attr1]
}

// Attr returns the value of the attribute without namespace that is called
// local. ok tells an empty value from a missing attribute.
func (e Element) Attr(local string) (value []byte, ok bool) {
	attrs := e.Attrs()
	for i := range attrs {
		if string(attrs[i].Local) == local && len(attrs[i].Space) == 0 {
			return attrs[i].Value, true
		}
	}
	return nil, false
}

// AttrNS is like Attr for an attribute in a namespace, such as xml:lang, which
// is AttrNS([NSXML], "lang").
func (e Element) AttrNS(space, local string) (value []byte, ok bool) {
	attrs := e.Attrs()
	for i := range attrs {
		if string(attrs[i].Local) == local && string(attrs[i].Space) == space {
			return attrs[i].Value, true
		}
	}
	return nil, false
}

// element returns the first element among node i and its later siblings.
func (d *Doc) element(i int32) Element {
	for i != none && d.nodes[i].text {
		i = d.nodes[i].next
	}
	if i == none {
		return Element{}
	}
	return Element{d: d, i: i}
}

// First returns the first child element. To visit all of them:
//
//	for c := e.First(); c.Valid(); c = c.Next() {
func (e Element) First() Element {
	if !e.Valid() {
		return Element{}
	}
	return e.d.element(e.node().first)
}

// Next returns the next sibling element.
func (e Element) Next() Element {
	if !e.Valid() {
		return Element{}
	}
	return e.d.element(e.node().next)
}

// Parent returns the parent element, which is not valid for the root.
func (e Element) Parent() Element {
	if p := e.node().parent; p != none {
		return Element{d: e.d, i: p}
	}
	return Element{}
}

// Child returns the first child element {space}local.
func (e Element) Child(space, local string) Element {
	c := e.First()
	for c.Valid() && !c.Is(space, local) {
		c = c.Next()
	}
	return c
}

// Text returns the text directly inside e, without that of child elements. It
// allocates only when markup divides the text.
func (e Element) Text() []byte {
	var text []byte
	runs := 0
	for i := e.node().first; i != none; i = e.d.nodes[i].next {
		n := &e.d.nodes[i]
		if !n.text {
			continue
		}
		switch runs++; runs {
		case 1:
			text = n.local
		case 2:
			text = append(append([]byte(nil), text...), n.local...)
		default:
			text = append(text, n.local...)
		}
	}
	return text
}

// HasText reports whether there is text other than white space directly
// inside e.
func (e Element) HasText() bool {
	for i := e.node().first; i != none; i = e.d.nodes[i].next {
		if n := &e.d.nodes[i]; n.text && !onlySpace(n.local) {
			return true
		}
	}
	return false
}

// Raw returns the bytes of e in the input. They are a document of their own
// only if e does not use prefixes or a default namespace declared outside of
// it: see [Element.AppendXML].
func (e Element) Raw() []byte {
	n := e.node()
	if !e.Valid() {
		return nil
	}
	return e.d.r.buf[n.raw0:n.raw1]
}
