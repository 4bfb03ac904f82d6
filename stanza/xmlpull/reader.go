// SPDX-License-Identifier: Apache-2.0

package xmlpull

import (
	"bytes"
	"unicode/utf8"
)

// XML namespaces that are bound without a declaration (Namespaces in XML §3).
const (
	NSXML   = "http://www.w3.org/XML/1998/namespace"
	NSXMLNS = "http://www.w3.org/2000/xmlns/"
)

// Kind is the kind of the token that [Reader.Next] read.
type Kind uint8

const (
	// EOF is the end of the document.
	EOF Kind = iota
	// Start is a start tag: see [Reader.Space], [Reader.Local], [Reader.Attrs].
	Start
	// End is an end tag, also of an empty-element tag.
	End
	// Text is character data: see [Reader.Text]. A CDATA section is a token of
	// its own; text that is broken up by markup comes as several tokens.
	Text
)

// Attr is one attribute. Namespace declarations are not attributes.
type Attr struct {
	// Space is the namespace name, empty for an attribute without prefix.
	Space []byte
	// Local is the local name.
	Local []byte
	// Value is the normalised value (XML 1.0 §3.3.3).
	Value []byte

	prefix []byte
}

// Binding binds a namespace prefix, empty for the default namespace.
type Binding struct {
	Prefix, Space []byte
}

// Context holds the namespace bindings that a stanza inherits from its stream.
// The zero Context has none.
type Context struct {
	bindings []Binding
}

// NewContext returns a context with a default namespace, such as
// "jabber:client".
func NewContext(space string) *Context {
	return &Context{bindings: []Binding{{Space: []byte(space)}}}
}

// Default returns the default namespace of the context.
func (c *Context) Default() []byte {
	if c == nil {
		return nil
	}
	for i := len(c.bindings) - 1; i >= 0; i-- {
		if len(c.bindings[i].Prefix) == 0 {
			return c.bindings[i].Space
		}
	}
	return nil
}

type open struct {
	name   []byte // the qualified name as written, for the end tag
	nsMark int    // length of ns before the element
}

// Reader is a pull tokenizer over one document, which must be complete in
// memory. The zero Reader has default limits and reads nothing until [Reader.Reset].
//
//	r.Reset(raw, ctx)
//	for {
//		kind, err := r.Next()
//		if err != nil || kind == xmlpull.EOF {
//			break
//		}
//	}
type Reader struct {
	limits Limits
	buf    []byte
	pos    int
	stack  []open
	ns     []Binding
	attrs  []Attr
	space  []byte
	local  []byte
	text   []byte
	// scratch holds text that differs from its source: unescaped, or with
	// line ends normalised. It only grows within a document.
	scratch []byte
	start   int
	nodes   int
	empty   bool // an empty-element tag was read, its End is due
	rooted  bool // the root's start tag was read
	err     error
}

// SetLimits sets the limits for the documents that follow.
func (r *Reader) SetLimits(l Limits) { r.limits = l.withDefaults() }

// Reset starts to read document b, with the bindings of ctx (nil for none) in
// scope. Slices returned before become invalid.
func (r *Reader) Reset(b []byte, ctx *Context) {
	if r.limits.MaxBytes == 0 {
		r.limits = r.limits.withDefaults()
	}
	r.buf, r.pos, r.start, r.nodes = b, 0, 0, 0
	r.stack, r.ns, r.attrs = r.stack[:0], r.ns[:0], r.attrs[:0]
	r.space, r.local, r.text, r.scratch = nil, nil, nil, r.scratch[:0]
	r.empty, r.rooted, r.err = false, false, nil
	if ctx != nil {
		r.ns = append(r.ns, ctx.bindings...)
	}
	if len(b) > r.limits.MaxBytes {
		r.err = &SyntaxError{Class: OverLimit, Reason: "document too large"}
	}
}

// Space returns the namespace name of the element of the last Start or End.
func (r *Reader) Space() []byte { return r.space }

// Local returns the local name of the element of the last Start or End.
func (r *Reader) Local() []byte { return r.local }

// Attrs returns the attributes of the last Start. It is valid until the next
// call of Next.
func (r *Reader) Attrs() []Attr { return r.attrs }

// Text returns the data of the last Text token, entities replaced.
func (r *Reader) Text() []byte { return r.text }

// Depth returns the number of open elements.
func (r *Reader) Depth() int { return len(r.stack) }

// Offset returns where the last token starts and ends in the document. The
// End of an empty-element tag has the tag's own end as start and end.
func (r *Reader) Offset() (start, end int) { return r.start, r.pos }

// Bindings returns the namespace bindings in scope, the innermost last, as a
// context that stays valid.
func (r *Reader) Bindings() *Context {
	c := &Context{bindings: make([]Binding, len(r.ns))}
	for i, b := range r.ns {
		c.bindings[i] = Binding{Prefix: bytes.Clone(b.Prefix), Space: bytes.Clone(b.Space)}
	}
	return c
}

func (r *Reader) fail(c Class, reason string) (Kind, error) {
	r.err = &SyntaxError{Class: c, Offset: int64(r.pos), Reason: reason}
	return EOF, r.err
}

func (r *Reader) malformed(reason string) (Kind, error) { return r.fail(NotWellFormed, reason) }

// Next reads the next token. At the end of the document it returns EOF and a
// nil error; a [*SyntaxError] repeats on further calls.
func (r *Reader) Next() (Kind, error) {
	if r.err != nil {
		return EOF, r.err
	}
	if r.empty {
		r.empty = false
		r.start = r.pos
		r.pop()
		return End, nil
	}
	r.start = r.pos
	if len(r.stack) == 0 {
		// Around the root only white space may stand.
		for r.pos < len(r.buf) && asciiClass[r.buf[r.pos]]&isSpace != 0 {
			r.pos++
		}
		r.start = r.pos
		if r.pos == len(r.buf) {
			if !r.rooted {
				return r.malformed("no element")
			}
			return EOF, nil
		}
		if r.buf[r.pos] != '<' {
			return r.malformed("text outside of an element")
		}
	} else if r.pos == len(r.buf) {
		return r.malformed("element not closed")
	}
	if r.buf[r.pos] != '<' {
		return r.readText()
	}
	if r.pos+1 == len(r.buf) {
		return r.malformed("tag not closed")
	}
	switch r.buf[r.pos+1] {
	case '/':
		return r.readEnd()
	case '!':
		rest := r.buf[r.pos:]
		switch {
		case bytes.HasPrefix(rest, cdataStart) && len(r.stack) > 0:
			return r.readCDATA()
		case bytes.HasPrefix(rest, []byte("<!--")):
			return r.fail(Restricted, "comment")
		case bytes.HasPrefix(rest, []byte("<!DOCTYPE")):
			return r.fail(Restricted, "document type declaration")
		}
		return r.malformed("unknown markup declaration")
	case '?':
		return r.fail(Restricted, "processing instruction")
	}
	if r.rooted && len(r.stack) == 0 {
		return r.malformed("second root element")
	}
	return r.readStart()
}

func (r *Reader) pop() {
	top := r.stack[len(r.stack)-1]
	r.stack = r.stack[:len(r.stack)-1]
	r.ns = r.ns[:top.nsMark]
}

// node counts one element or text run against the limit.
func (r *Reader) node() bool {
	r.nodes++
	return r.nodes <= r.limits.MaxNodes
}

var (
	cdataStart = []byte("<![CDATA[")
	cdataEnd   = []byte("]]>")
)

func (r *Reader) readCDATA() (Kind, error) {
	body := r.buf[r.pos+len(cdataStart):]
	n := bytes.Index(body, cdataEnd)
	if n < 0 {
		return r.malformed("CDATA section not closed")
	}
	if !r.node() {
		return r.fail(OverLimit, "too many nodes")
	}
	text, ok := r.unescape(body[:n], modeCDATA)
	if !ok {
		return EOF, r.err
	}
	r.text = text
	r.pos += len(cdataStart) + n + len(cdataEnd)
	return Text, nil
}

func (r *Reader) readText() (Kind, error) {
	n := bytes.IndexByte(r.buf[r.pos:], '<')
	if n < 0 {
		r.pos = len(r.buf)
		return r.malformed("element not closed")
	}
	if !r.node() {
		return r.fail(OverLimit, "too many nodes")
	}
	seg := r.buf[r.pos : r.pos+n]
	if !plain(seg) {
		var ok bool
		if seg, ok = r.unescape(seg, modeText); !ok {
			return EOF, r.err
		}
	}
	r.text = seg
	r.pos += n
	return Text, nil
}

// name reads a qualified name at pos and returns it as written, with the
// position of its colon, or -1.
func (r *Reader) name() (name []byte, colon int, ok bool) {
	colon = -1
	start, i := r.pos, r.pos
	first := true
	for i < len(r.buf) {
		c := r.buf[i]
		switch {
		case c < utf8.RuneSelf:
			class := asciiClass[c]
			if first && class&isNameStart != 0 || !first && class&isNameChar != 0 {
				first = false
				i++
				continue
			}
			if c == ':' && !first && colon < 0 {
				colon, first = i-start, true
				i++
				continue
			}
		default:
			u, size := utf8.DecodeRune(r.buf[i:])
			if size > 1 && (first && nameStartRune(u) || !first && nameRune(u)) {
				first = false
				i += size
				continue
			}
		}
		break
	}
	r.pos = i
	if first {
		return nil, -1, false
	}
	return r.buf[start:i], colon, true
}

func (r *Reader) skipSpace() bool {
	start := r.pos
	for r.pos < len(r.buf) && asciiClass[r.buf[r.pos]]&isSpace != 0 {
		r.pos++
	}
	return r.pos > start
}

func (r *Reader) readEnd() (Kind, error) {
	if len(r.stack) == 0 {
		return r.malformed("end tag without start tag")
	}
	r.pos += 2
	name := r.stack[len(r.stack)-1].name
	if !bytes.HasPrefix(r.buf[r.pos:], name) {
		return r.malformed("end tag does not match start tag")
	}
	r.pos += len(name)
	r.skipSpace()
	if r.pos == len(r.buf) || r.buf[r.pos] != '>' {
		return r.malformed("end tag does not match start tag")
	}
	r.pos++
	colon := bytes.IndexByte(name, ':')
	r.space, r.local, _ = r.resolve(name, colon, true)
	r.pop()
	return End, nil
}

func (r *Reader) readStart() (Kind, error) {
	if len(r.stack) >= r.limits.MaxDepth {
		return r.fail(OverLimit, "elements nested too deeply")
	}
	if !r.node() {
		return r.fail(OverLimit, "too many nodes")
	}
	r.pos++
	name, colon, ok := r.name()
	if !ok {
		return r.malformed("bad element name")
	}
	nsMark := len(r.ns)
	r.attrs = r.attrs[:0]
	count := 0
	for {
		spaced := r.skipSpace()
		if r.pos == len(r.buf) {
			return r.malformed("tag not closed")
		}
		c := r.buf[r.pos]
		if c == '>' {
			r.pos++
			break
		}
		if c == '/' {
			if r.pos+1 == len(r.buf) || r.buf[r.pos+1] != '>' {
				return r.malformed("bad empty-element tag")
			}
			r.pos += 2
			r.empty = true
			break
		}
		if !spaced {
			return r.malformed("no white space before attribute")
		}
		if count++; count > r.limits.MaxAttrs {
			return r.fail(OverLimit, "too many attributes")
		}
		if !r.readAttr(nsMark) {
			return EOF, r.err
		}
	}
	if !r.resolveAttrs() {
		return EOF, r.err
	}
	if r.space, r.local, ok = r.resolve(name, colon, true); !ok {
		return r.malformed("undeclared namespace prefix")
	}
	if colon == 5 && string(name[:colon]) == "xmlns" {
		return r.malformed("element with prefix xmlns")
	}
	r.stack = append(r.stack, open{name: name, nsMark: nsMark})
	r.rooted = true
	return Start, nil
}

// readAttr reads one attribute or namespace declaration.
func (r *Reader) readAttr(nsMark int) bool {
	name, colon, ok := r.name()
	if !ok {
		r.malformed("bad attribute name")
		return false
	}
	r.skipSpace()
	if r.pos == len(r.buf) || r.buf[r.pos] != '=' {
		r.malformed("attribute without value")
		return false
	}
	r.pos++
	r.skipSpace()
	if r.pos == len(r.buf) || r.buf[r.pos] != '\'' && r.buf[r.pos] != '"' {
		r.malformed("attribute value not quoted")
		return false
	}
	quote := r.buf[r.pos]
	r.pos++
	n := bytes.IndexByte(r.buf[r.pos:], quote)
	if n < 0 {
		r.malformed("attribute value not closed")
		return false
	}
	value := r.buf[r.pos : r.pos+n]
	if !plain(value) {
		if value, ok = r.unescape(value, modeAttr); !ok {
			return false
		}
	}
	r.pos += n + 1
	switch {
	case colon < 0 && string(name) == "xmlns":
		return r.declare(nil, value, nsMark)
	case colon == 5 && string(name[:colon]) == "xmlns":
		return r.declare(name[colon+1:], value, nsMark)
	case colon < 0:
		r.attrs = append(r.attrs, Attr{Local: name, Value: value})
	default:
		r.attrs = append(r.attrs, Attr{prefix: name[:colon], Local: name[colon+1:], Value: value})
	}
	return true
}

// declare binds prefix to space for the element being read (Namespaces in XML
// §2.2, §3).
func (r *Reader) declare(prefix, space []byte, nsMark int) bool {
	for _, b := range r.ns[nsMark:] {
		if bytes.Equal(b.Prefix, prefix) {
			r.malformed("namespace prefix declared twice")
			return false
		}
	}
	switch {
	case string(prefix) == "xml":
		if string(space) != NSXML {
			r.malformed("prefix xml bound to another namespace")
			return false
		}
		return true
	case string(prefix) == "xmlns":
		r.malformed("prefix xmlns declared")
		return false
	case string(space) == NSXML || string(space) == NSXMLNS:
		r.malformed("reserved namespace bound to another prefix")
		return false
	case len(prefix) > 0 && len(space) == 0:
		r.malformed("namespace prefix undeclared")
		return false
	}
	r.ns = append(r.ns, Binding{Prefix: prefix, Space: space})
	return true
}

// resolve splits a qualified name and looks its prefix up.
func (r *Reader) resolve(name []byte, colon int, element bool) (space, local []byte, ok bool) {
	var prefix []byte
	local = name
	if colon >= 0 {
		prefix, local = name[:colon], name[colon+1:]
	} else if !element {
		return nil, local, true
	}
	space, ok = r.lookup(prefix)
	return space, local, ok
}

func (r *Reader) lookup(prefix []byte) ([]byte, bool) {
	for i := len(r.ns) - 1; i >= 0; i-- {
		if bytes.Equal(r.ns[i].Prefix, prefix) {
			return r.ns[i].Space, true
		}
	}
	if len(prefix) == 0 {
		return nil, true
	}
	if string(prefix) == "xml" {
		return nsXMLBytes, true
	}
	return nil, false
}

var nsXMLBytes = []byte(NSXML)

// resolveAttrs resolves the prefixes of the attributes just read and refuses
// two with one expanded name (Namespaces in XML §6.3).
func (r *Reader) resolveAttrs() bool {
	for i := range r.attrs {
		a := &r.attrs[i]
		if len(a.prefix) > 0 {
			var ok bool
			if a.Space, ok = r.lookup(a.prefix); !ok {
				r.malformed("undeclared namespace prefix")
				return false
			}
		}
		for j := range r.attrs[:i] {
			b := &r.attrs[j]
			if bytes.Equal(a.Local, b.Local) && bytes.Equal(a.Space, b.Space) {
				r.malformed("duplicate attribute")
				return false
			}
		}
	}
	return true
}
