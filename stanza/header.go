// SPDX-License-Identifier: Apache-2.0

package stanza

import (
	"bytes"
	"fmt"

	"github.com/lockstep-im/lockstep/stanza/xmlpull"
)

// Kind is the kind of a stanza (RFC 6120 §8.2).
type Kind uint8

const (
	// Other is a top-level element that is no stanza: stream features, stream
	// errors, XEP-0114's handshake. See [Stanza.Element].
	Other Kind = iota
	// IQ is a request or its answer. Every request of a client is one.
	IQ
	// Message is an event. Every event of a delivery service is one.
	Message
	// Presence opens and ends a live session.
	Presence
)

var kindNames = [...]string{"", "iq", "message", "presence"}

// String returns the element's local name.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return ""
}

// Values of the type attribute (RFC 6120 §8.2.3, RFC 6121 §4.7.1, §5.2.2). A
// message without type is "normal", a presence without type is available.
const (
	TypeGet          = "get"
	TypeSet          = "set"
	TypeResult       = "result"
	TypeError        = "error"
	TypeNormal       = "normal"
	TypeChat         = "chat"
	TypeGroupchat    = "groupchat"
	TypeHeadline     = "headline"
	TypeUnavailable  = "unavailable"
	TypeSubscribe    = "subscribe"
	TypeSubscribed   = "subscribed"
	TypeUnsubscribe  = "unsubscribe"
	TypeUnsubscribed = "unsubscribed"
	TypeProbe        = "probe"
)

// knownType returns v as a string, without allocation for the known values.
func knownType(v []byte) string {
	switch string(v) {
	case "":
		return ""
	case TypeGet:
		return TypeGet
	case TypeSet:
		return TypeSet
	case TypeResult:
		return TypeResult
	case TypeError:
		return TypeError
	case TypeNormal:
		return TypeNormal
	case TypeChat:
		return TypeChat
	case TypeGroupchat:
		return TypeGroupchat
	case TypeHeadline:
		return TypeHeadline
	case TypeUnavailable:
		return TypeUnavailable
	}
	return string(v)
}

// Header holds the common attributes of a stanza to be sent. Empty ones are
// left out.
type Header struct {
	Kind     Kind
	Type     string
	ID       string
	From, To string
	Lang     string
}

// AppendStart appends the start tag of the stanza, without a namespace: it is
// inherited from the stream. Payloads follow, then [Kind.AppendEnd].
func (h *Header) AppendStart(dst []byte) []byte {
	dst = start(dst, h.Kind.String())
	dst = attrOpt(dst, "type", h.Type)
	dst = attrOpt(dst, "id", h.ID)
	dst = attrOpt(dst, "from", h.From)
	dst = attrOpt(dst, "to", h.To)
	dst = attrOpt(dst, "xml:lang", h.Lang)
	return append(dst, '>')
}

// AppendEnd appends the end tag of the stanza.
func (k Kind) AppendEnd(dst []byte) []byte { return end(dst, k.String()) }

// Append appends a whole stanza with its payloads, in order, to dst. Nil
// payloads are skipped. Where the garbage of the call's argument list matters,
// use [Header.AppendStart] and the payloads' own Append.
func (h *Header) Append(dst []byte, payloads ...Payload) []byte {
	dst = h.AppendStart(dst)
	for _, p := range payloads {
		if p != nil {
			dst = p.Append(dst)
		}
	}
	return h.Kind.AppendEnd(dst)
}

// Stanza is a received stanza. Its byte slices and elements alias the input
// and the [Parser]; they end with the parser's next use.
//
// The addresses are as they came: a JID that this program's own rules refuse
// must be answered (jid-malformed), not fail the parsing.
type Stanza struct {
	Kind Kind
	// Type is the type attribute, empty if absent.
	Type string
	// From, To and ID are the attributes, nil if absent.
	From, To, ID []byte
	// Lang is xml:lang of the stanza, nil if absent.
	Lang []byte
	// Element is the stanza itself.
	Element Element
}

// Header returns a copy of the common attributes.
func (s *Stanza) Header() Header {
	return Header{Kind: s.Kind, Type: s.Type, ID: string(s.ID), From: string(s.From), To: string(s.To), Lang: string(s.Lang)}
}

// IsRequest reports whether the stanza is an IQ that must be answered (RFC
// 6120 §8.2.3). Anything that is not an IQ of type result or error counts, so
// that an unknown type gets its error too.
func (s *Stanza) IsRequest() bool {
	return s.Kind == IQ && s.Type != TypeResult && s.Type != TypeError
}

// First returns the first child element of the stanza, which is not valid if
// there is none.
func (s *Stanza) First() Element { return s.Element.First() }

// Payload returns the payload of an IQ. A request has exactly one child element
// and no text, a result has at most one (RFC 6120 §8.2.3); for a result
// without child the element is not valid. Of an error the payload is the
// first child that is not the <error/>.
//
// The error is a [*SyntaxError]: a bad-request.
func (s *Stanza) Payload() (Element, error) {
	d := dec{el: s.Element}
	switch s.Type {
	case TypeGet, TypeSet, TypeResult, TypeError:
	default:
		d.fail("type is %.16q, not get, set, result or error", s.Type)
	}
	if len(s.ID) == 0 {
		d.fail("no id")
	}
	d.noText()
	var el Element
	n := 0
	for c := s.Element.First(); c.Valid(); c = c.Next() {
		if s.Type == TypeError && string(c.Local()) == "error" && isStanzaNS(c.Space()) {
			continue
		}
		if n++; n == 1 {
			el = c
		}
	}
	switch {
	case n > 1 && s.Type != TypeError:
		d.fail("%d payloads instead of one", n)
	case n == 0 && (s.Type == TypeGet || s.Type == TypeSet):
		d.fail("no payload")
	}
	return el, d.err
}

// Child returns the first child element with the given name.
func (s *Stanza) Child(space, local string) Element { return s.Element.Child(space, local) }

// Body returns the text of the message's first <body/> in the stream's own
// namespace, nil if there is none.
func (s *Stanza) Body() []byte {
	for c := s.Element.First(); c.Valid(); c = c.Next() {
		if string(c.Local()) == "body" && bytes.Equal(c.Space(), s.Element.Space()) {
			return c.Text()
		}
	}
	return nil
}

// Err returns the [*Error] of a stanza of type error, and nil for others. An
// error stanza whose <error/> is missing or broken gives an undefined-condition.
func (s *Stanza) Err() *Error {
	if s.Type != TypeError {
		return nil
	}
	for c := s.Element.First(); c.Valid(); c = c.Next() {
		if string(c.Local()) == "error" && isStanzaNS(c.Space()) {
			e := new(Error)
			if e.Parse(c) == nil {
				return e
			}
			break
		}
	}
	return &Error{Type: ErrorCancel, Condition: UndefinedCondition, Text: "the error stanza itself is malformed"}
}

// Parser parses stanzas. The zero Parser has default limits and no inherited
// namespaces; it is made to be reused by one goroutine, and then does not
// allocate.
type Parser struct {
	doc xmlpull.Doc
	ctx *xmlpull.Context
}

// NewParser returns a parser for the stanzas of a stream with the inherited
// namespaces ctx, see [xmlpull.StreamHeader], and limits l.
func NewParser(ctx *xmlpull.Context, l xmlpull.Limits) *Parser {
	p := &Parser{ctx: ctx}
	p.doc.SetLimits(l)
	return p
}

var clientContext = xmlpull.NewContext(NSClient)

// Parse checks the whole of raw, one stanza, and reads its header. The error is
// an [*xmlpull.SyntaxError].
//
// raw must stay unchanged while the stanza is in use.
func (p *Parser) Parse(raw []byte) (Stanza, error) {
	ctx := p.ctx
	if ctx == nil {
		ctx = clientContext
	}
	el, err := p.doc.Parse(raw, ctx)
	if err != nil {
		return Stanza{}, err
	}
	return NewStanza(el), nil
}

// MemSize is about how many bytes of memory the last stanza takes besides its
// input.
func (p *Parser) MemSize() int { return p.doc.MemSize() }

// NewStanza reads the header of the stanza el.
func NewStanza(el Element) Stanza {
	s := Stanza{Element: el}
	if isStanzaNS(el.Space()) {
		switch string(el.Local()) {
		case "iq":
			s.Kind = IQ
		case "message":
			s.Kind = Message
		case "presence":
			s.Kind = Presence
		}
	}
	attrs := el.Attrs()
	for i := range attrs {
		a := &attrs[i]
		switch {
		case len(a.Space) > 0:
			if string(a.Space) == xmlpull.NSXML && string(a.Local) == "lang" {
				s.Lang = a.Value
			}
		case string(a.Local) == "from":
			s.From = a.Value
		case string(a.Local) == "to":
			s.To = a.Value
		case string(a.Local) == "id":
			s.ID = a.Value
		case string(a.Local) == "type":
			s.Type = knownType(a.Value)
		}
	}
	return s
}

// ParseHead reads the header of a stanza of which only the beginning is at
// hand, such as [xmlpull.OversizeError].Head, so that it can be answered. The
// Stanza has no Element.
func ParseHead(head []byte, ctx *xmlpull.Context) (Stanza, error) {
	if ctx == nil {
		ctx = clientContext
	}
	var r xmlpull.Reader
	r.Reset(head, ctx)
	kind, err := r.Next()
	if err != nil {
		return Stanza{}, err
	}
	if kind != xmlpull.Start {
		return Stanza{}, fmt.Errorf("stanza: parsing the head of a stanza: no start tag")
	}
	// A document of the start tag alone has the same attributes.
	_, n := r.Offset()
	tag := bytes.Clone(head[:n])
	if !bytes.HasSuffix(tag, []byte("/>")) {
		tag = append(tag[:len(tag)-1], "/>"...)
	}
	var d xmlpull.Doc
	el, err := d.Parse(tag, ctx)
	if err != nil {
		return Stanza{}, err
	}
	s := NewStanza(el)
	s.Element = Element{}
	return s, nil
}
