// SPDX-License-Identifier: Apache-2.0

package loopback

import (
	"crypto/sha1"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net"
	"strings"
	"time"
)

// A component is an external component's domain and its live links (XEP-0114).
type component struct {
	domain, secret string
	links          []*conn
}

// AddComponent lets a component with this secret attach to a domain.
func (s *Server) AddComponent(domain, secret string) error {
	j, ok := parseJID(domain)
	if !ok || j.local != "" || j.resource != "" || j.domain == s.opts.Domain {
		return fmt.Errorf("loopback: %q cannot be a component's domain", domain)
	}
	s.mu.Lock()
	s.components[j.domain] = &component{domain: j.domain, secret: secret}
	s.mu.Unlock()
	if s.opts.Network != nil {
		s.opts.Network.announce(s, j.domain)
	}
	return nil
}

// ComponentUp tells whether a component is attached.
func (s *Server) ComponentUp(domain string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.components[domain]
	return c != nil && len(c.links) > 0
}

// serveComponent is the life of one component connection.
func (s *Server) serveComponent(nc net.Conn) {
	c := s.newConn(nc, Component, nsComponent, s.b.componentMax)
	if !s.track(c) {
		nc.Close()
		return
	}
	defer s.untrack(c)
	_ = nc.SetReadDeadline(time.Now().Add(negotiationTimeout))
	comp, err := s.handshake(c)
	if err != nil {
		c.fail(err)
		return
	}
	_ = nc.SetReadDeadline(time.Time{})
	in := newLane(Component, comp.domain, In, 256, s.faults, s.wire, c.done)
	in.emit = func(it item) bool {
		if err := s.fromComponent(c, comp, it.el); err != nil {
			c.fail(err)
			return false
		}
		return true
	}
	in.cut = func(*Element) { c.kill() }
	over := make(chan struct{})
	s.goes(func() { in.run(); close(over) })
	for {
		var el *Element
		if el, err = c.next(); err != nil || !in.wait(el) {
			break
		}
	}
	in.finish()
	select {
	case <-over:
	case <-s.ctx.Done():
	}
	s.detach(comp, c)
	c.fail(err)
}

// handshake authenticates a component and attaches it (XEP-0114 §3).
func (s *Server) handshake(c *conn) (*component, error) {
	to, err := c.open()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	comp := s.components[strings.ToLower(to)]
	s.mu.Unlock()
	if err := c.header(to, ""); err != nil {
		return nil, err
	}
	if comp == nil {
		return nil, streamError{"host-unknown", to + " does not match any configured external components"}
	}
	el, err := c.next()
	if err != nil {
		return nil, err
	}
	sum := sha1.Sum([]byte(c.id + comp.secret))
	if !el.Is(nsClient, "handshake") ||
		subtle.ConstantTimeCompare([]byte(hex.EncodeToString(sum[:])), []byte(strings.ToLower(strings.TrimSpace(el.Text())))) != 1 {
		return nil, streamError{"not-authorized", "Given token does not match calculated token"}
	}
	var old []*conn
	s.mu.Lock()
	if len(comp.links) > 0 {
		switch s.b.conflict {
		case KickNew:
			s.mu.Unlock()
			return nil, streamError{"conflict", "Component already connected"}
		case KickOld:
			old, comp.links = comp.links, nil
		}
	}
	s.mu.Unlock()
	for _, o := range old {
		o.out.raw(streamError{"conflict", "Replaced by a new connection"}.xml())
		o.out.finish()
	}
	c.startOut(comp.domain)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("loopback: server closed")
	}
	// Both under the lock: who has read the acknowledgement finds the component attached.
	c.out.raw([]byte("<handshake/>"))
	comp.links = append(comp.links, c)
	return comp, nil
}

func (s *Server) detach(comp *component, c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, l := range comp.links {
		if l == c {
			comp.links = append(comp.links[:i:i], comp.links[i+1:]...)
			return
		}
	}
}

// toComponent hands a stanza over, or bounces it when nobody is there. Under s.mu.
func (s *Server) toComponent(st *Element, comp *component) {
	if len(comp.links) == 0 {
		s.bounce(st, s.b.downType, s.b.downCondition, "Component unavailable")
		return
	}
	l := comp.links[0]
	if len(comp.links) > 1 {
		l = comp.links[s.rnd.IntN(len(comp.links))]
	}
	if !l.out.put(st) {
		l.kill()
	}
}

// fromComponent takes a stanza that a component sent; an error ends its stream.
func (s *Server) fromComponent(c *conn, comp *component, el *Element) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !isStanza(el) {
		if el.Name.Space == nsClient {
			return streamError{"unsupported-stanza-type", ""}
		}
		return nil
	}
	el = s.normalise(el)
	refuse := func(r *Element) {
		r.Set("from", "")
		r.Set("to", el.Attr("from"))
		c.out.put(r)
	}
	switch from := el.Attr("from"); {
	case from == "" && s.b.noFrom != "":
		return streamError{s.b.noFrom, "A component must send 'from'"}
	case from == "":
		el.Set("from", comp.domain)
	default:
		j, ok := parseJID(from)
		if !ok || j.domain != comp.domain {
			return streamError{"invalid-from", "Component tried to send from address <" + from + "> which is not in valid domain"}
		}
		el.Set("from", j.String())
	}
	to := el.Attr("to")
	if to == "" && s.b.noToCloses {
		return streamError{"improper-addressing", "A component must send 'to'"}
	}
	j, ok := parseJID(to)
	if !ok {
		condition := "jid-malformed"
		if to == "" {
			condition = "service-unavailable"
		}
		if r := s.stanzaError(el, "modify", condition, ""); r != nil {
			refuse(r)
		}
		return nil
	}
	el.Set("to", j.String())
	if el.Name.Local == "iq" && !s.checkIQ(el, refuse) {
		return nil
	}
	s.route(el)
	return nil
}
