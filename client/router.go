// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"encoding/xml"
	"io"
	"sync"

	"mellium.im/xmlstream"
	"mellium.im/xmpp"

	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/xmlpull"
)

// This file decides what an incoming stanza is for. Nothing in it blocks and
// nothing in it fails: what is broken or strange is dropped.

// handleStanza takes one stanza of a dialled stream.
func (c *Client) handleStanza(l link, raw []byte, ctx *xmlpull.Context) {
	if c.isAnswer(l, raw, ctx) {
		return
	}
	p := stanza.NewParser(ctx, xmlpull.Limits{MaxBytes: maxInbound})
	s, err := p.Parse(raw)
	if err != nil {
		c.log.Debug("dropping a broken stanza", "error", err)
		return
	}
	if s.Kind == stanza.Other {
		if s.Element.Is(nsStream, "error") {
			l.drop(parseStreamError(s.Element))
		}
		return
	}
	if c.route(l, &s, raw) {
		return
	}
	if s.IsRequest() {
		c.answerRequest(l, &s)
	}
}

// startTags reads nothing but the beginning of stanzas.
var startTags = sync.Pool{New: func() any {
	r := new(xmlpull.Reader)
	r.SetLimits(xmlpull.Limits{MaxBytes: maxInbound})
	return r
}}

// isAnswer hands the answer to a request to who waits for it, by its start tag: who
// has asked parses all of it, and a page of a log is long.
func (c *Client) isAnswer(l link, raw []byte, ctx *xmlpull.Context) bool {
	r := startTags.Get().(*xmlpull.Reader)
	defer startTags.Put(r)
	r.Reset(raw, ctx)
	if kind, err := r.Next(); err != nil || kind != xmlpull.Start || string(r.Space()) != stanza.NSClient || string(r.Local()) != "iq" {
		return false
	}
	var typ, id, from string
	for _, a := range r.Attrs() {
		if len(a.Space) > 0 {
			continue
		}
		switch string(a.Local) {
		case "type":
			typ = string(a.Value)
		case "id":
			id = string(a.Value)
		case "from":
			from = string(a.Value)
		}
	}
	return (typ == stanza.TypeResult || typ == stanza.TypeError) && c.iqs.answer(l, id, from, raw)
}

// route hands a stanza to what waits for it, and reports false for what is not
// this package's. It may be called with stanzas that were serialised anew.
func (c *Client) route(l link, s *stanza.Stanza, raw []byte) bool {
	from := string(s.From)
	switch s.Kind {
	case stanza.IQ:
		if s.Type == stanza.TypeResult || s.Type == stanza.TypeError {
			return c.iqs.answer(l, string(s.ID), from, raw)
		}
	case stanza.Presence:
		return c.routePresence(s, from)
	case stanza.Message:
		return c.routeMessage(s, from)
	}
	return false
}

func (c *Client) routePresence(s *stanza.Stanza, from string) bool {
	sv := c.service(bareOf(from))
	if sv == nil {
		return false
	}
	switch s.Type {
	case "":
		if el := s.Child(stanza.NSDelivery, "ready"); el.Valid() {
			if r, err := stanza.Parse[stanza.Ready](el); err == nil {
				sv.answered(r, nil)
			}
			return true
		}
	case stanza.TypeError:
		sv.answered(stanza.Ready{}, s.Err())
		return true
	case stanza.TypeUnavailable:
		sv.again()
		return true
	}
	return false
}

func (c *Client) routeMessage(s *stanza.Stanza, from string) bool {
	if s.Type == stanza.TypeError {
		return false
	}
	if el := s.Child(stanza.NSDelivery, "delivery"); el.Valid() {
		// Only the group's own bare JID may speak for it: the element in a
		// carbon, an archive or anybody else's message means nothing.
		c.mu.Lock()
		g := c.groups[from]
		c.mu.Unlock()
		if g != nil && s.Type == stanza.TypeGroupchat {
			if e, err := deliveredEntry(s, el); err == nil {
				g.arrived(e)
			} else {
				c.log.Debug("dropping a broken delivery", "group", from, "error", err)
				g.fetchSoon()
			}
		}
		return true
	}
	for el := s.First(); el.Valid(); el = el.Next() {
		switch {
		case el.Is(stanza.NSDelivery, "ready"):
			if sv := c.service(bareOf(from)); sv != nil {
				if r, err := stanza.Parse[stanza.Ready](el); err == nil {
					sv.answered(r, nil)
				}
			}
			return true
		case el.Is(stanza.NSDelivery, "resume"):
			c.serviceBack(bareOf(from))
			fallthrough
		case el.Is(stanza.NSDelivery, "nudge"):
			if sv := c.service(bareOf(from)); sv != nil {
				sv.again()
			} else if c.servesUs(bareOf(from)) {
				c.ensureService(bareOf(from))
			}
			return true
		case el.Is(stanza.NSDelivery, "welcome"):
			if w, err := stanza.Parse[stanza.Welcome](el); err == nil {
				c.welcomeCame(bareOf(from), &w)
			}
			return true
		case el.Is(stanza.NSKeyPackages, "stock"):
			if st, err := stanza.Parse[stanza.Stock](el); err == nil && c.isHome(bareOf(from)) {
				c.stock.told(&st)
				c.again(bareOf(from))
			}
			return true
		case el.Is(stanza.NSDelivery, "destroyed"):
			c.mu.Lock()
			g := c.groups[from]
			c.mu.Unlock()
			if g != nil {
				// The word of one message is not enough to drop a group: the
				// group itself is asked.
				g.fetchSoon()
			}
			return true
		}
	}
	return false
}

// servesUs reports whether a service is the home or hosts one of our groups.
func (c *Client) servesUs(host string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if host == c.home {
		return true
	}
	for _, g := range c.groups {
		if g.host == host && g.listed() {
			return true
		}
	}
	return false
}

func (c *Client) again(host string) {
	if s := c.service(host); s != nil {
		select {
		case s.kick <- struct{}{}:
		default:
		}
	}
}

// deliveredEntry reads a fanned-out entry.
func deliveredEntry(s *stanza.Stanza, el stanza.Element) (*entry, error) {
	d, err := stanza.Parse[stanza.Delivery](el)
	if err != nil {
		return nil, err
	}
	e := &entry{seq: d.Seq, epoch: d.Epoch, kind: kindOf(d.Kind), stamp: d.Stamp, chain: d.Chain, live: true}
	if m := s.Child(stanza.NSMLS, "mls"); m.Valid() {
		v, err := stanza.Parse[stanza.MLS](m)
		if err != nil {
			return nil, err
		}
		e.bytes = v.Bytes
	} else if m := s.Child(stanza.NSDelivery, "control"); m.Valid() {
		v, err := stanza.Parse[stanza.Control](m)
		if err != nil {
			return nil, err
		}
		e.bytes = v.Bytes
	}
	if id := s.Child(stanza.NSSID, "stanza-id"); id.Valid() {
		if v, ok := id.Attr("id"); ok {
			e.id = string(v)
		}
	}
	if e.id == "" {
		e.id = string(s.ID)
	}
	return e, nil
}

// answerRequest answers what others ask this device: RFC 6120 §8.2.3 wants an
// answer to everything.
func (c *Client) answerRequest(l link, s *stanza.Stanza) {
	var reply []byte
	el, err := s.Payload()
	switch {
	case err != nil:
		reply = stanza.AppendError(nil, s, stanza.NewError(stanza.BadRequest, ""))
	case s.Type == stanza.TypeGet && el.Is(stanza.NSPing, "ping"):
		reply = stanza.AppendResult(nil, s, nil)
	case s.Type == stanza.TypeGet && el.Is(stanza.NSDiscoInfo, "query"):
		node, _ := el.Attr("node")
		info := &stanza.DiscoInfo{
			Node:       string(node),
			Identities: []stanza.Identity{{Category: "client", Type: "bot", Name: "lockstep"}},
			Features:   []string{stanza.NSDiscoInfo, stanza.NSPing, stanza.NSMLS},
		}
		reply = stanza.AppendResult(nil, s, info)
	default:
		reply = stanza.AppendError(nil, s, stanza.NewError(stanza.ServiceUnavailable, ""))
	}
	// A server that does not read must not stop the reading of its stanzas.
	go l.send(bytes.Clone(reply))
}

// Handler returns a handler for the Serve loop of a mellium session: it keeps
// what is for this client and passes everything else, untouched, to next, which
// may be nil. See [Client.RunSession].
func (c *Client) Handler(next xmpp.Handler) xmpp.Handler {
	return &sessionHandler{c: c, next: next}
}

type sessionHandler struct {
	c    *Client
	next xmpp.Handler
}

// HandleXMPP never fails by itself: an error would end the bot's session.
func (h *sessionHandler) HandleXMPP(t xmlstream.TokenReadEncoder, start *xml.StartElement) error {
	l := h.c.adoptedLink()
	if l == nil || !h.mayBeOurs(start) {
		return h.pass(t, start)
	}
	// The stanza is read whole, so that it can be passed on if it is not ours.
	tokens, raw, ok := record(t, start)
	if ok {
		var p stanza.Parser
		if s, err := p.Parse(raw); err == nil && h.c.route(l, &s, raw) {
			return nil
		}
	}
	return h.pass(&replay{TokenReadEncoder: t, tokens: tokens}, start)
}

func (h *sessionHandler) pass(t xmlstream.TokenReadEncoder, start *xml.StartElement) error {
	if h.next == nil {
		return nil
	}
	return h.next.HandleXMPP(t, start)
}

// mayBeOurs looks at the start tag alone.
func (h *sessionHandler) mayBeOurs(start *xml.StartElement) bool {
	var id, typ, from string
	for _, a := range start.Attr {
		if a.Name.Space != "" {
			continue
		}
		switch a.Name.Local {
		case "id":
			id = a.Value
		case "type":
			typ = a.Value
		case "from":
			from = a.Value
		}
	}
	switch start.Name.Local {
	case "iq":
		return (typ == "result" || typ == "error") && h.c.iqs.waitsFor(id)
	case "presence":
		return h.c.service(bareOf(from)) != nil
	case "message":
		return typ != "error" && from != ""
	}
	return false
}

// record reads the rest of a stanza: its tokens, and its XML. ok is false for
// one that is too large to be ours.
func record(t xml.TokenReader, start *xml.StartElement) (tokens []xml.Token, raw []byte, ok bool) {
	var buf bytes.Buffer
	enc := xml.NewEncoder(&buf)
	ok = true
	encode := func(tok xml.Token) {
		if ok {
			if err := enc.EncodeToken(withoutXMLNS(tok)); err != nil || buf.Len() > maxInbound {
				ok = false
			}
		}
	}
	encode(*start)
	for depth := 1; depth > 0; {
		tok, err := t.Token()
		if tok != nil {
			tok = xml.CopyToken(tok)
			tokens = append(tokens, tok)
			switch tok.(type) {
			case xml.StartElement:
				depth++
			case xml.EndElement:
				depth--
			}
			encode(tok)
		}
		if err != nil {
			if depth > 0 {
				// The reader ends with the stanza's end tag or just before it.
				encode(start.End())
			}
			break
		}
	}
	if ok && enc.Flush() != nil {
		ok = false
	}
	return tokens, buf.Bytes(), ok
}

// withoutXMLNS drops xmlns attributes: the encoder writes its own from the
// names, and twice is not well-formed.
func withoutXMLNS(t xml.Token) xml.Token {
	s, ok := t.(xml.StartElement)
	if !ok {
		return t
	}
	attrs := make([]xml.Attr, 0, len(s.Attr))
	for _, a := range s.Attr {
		if a.Name.Space == "" && a.Name.Local == "xmlns" || a.Name.Space == "xmlns" {
			continue
		}
		attrs = append(attrs, a)
	}
	s.Attr = attrs
	return s
}

// replay gives recorded tokens again and then ends.
type replay struct {
	xmlstream.TokenReadEncoder
	tokens []xml.Token
}

func (r *replay) Token() (xml.Token, error) {
	if len(r.tokens) == 0 {
		return nil, io.EOF
	}
	t := r.tokens[0]
	r.tokens = r.tokens[1:]
	return t, nil
}
