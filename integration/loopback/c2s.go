// SPDX-License-Identifier: Apache-2.0

package loopback

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"time"
)

const (
	nsTLS     = "urn:ietf:params:xml:ns:xmpp-tls"
	nsBind    = "urn:ietf:params:xml:ns:xmpp-bind"
	nsSession = "urn:ietf:params:xml:ns:xmpp-session"
	nsLimits  = "urn:xmpp:stream-limits:0"
	nsSASLCB  = "urn:xmpp:sasl-cb:0"
)

const negotiationTimeout = 30 * time.Second

// serveC2S is the life of one client connection.
func (s *Server) serveC2S(nc net.Conn, direct bool) {
	c := s.newConn(nc, C2S, nsClient, s.b.c2sMax)
	if s.opts.C2SRate > 0 {
		c.shaper = &shaper{rate: s.opts.C2SRate, burst: s.opts.C2SBurst}
		c.in.shaper = c.shaper
	}
	if !s.track(c) {
		nc.Close()
		return
	}
	defer s.untrack(c)
	_ = nc.SetReadDeadline(time.Now().Add(negotiationTimeout))
	if direct {
		if err := c.startTLS(); err != nil {
			c.kill()
			return
		}
	}
	ses, err := c.negotiate()
	if err != nil {
		c.fail(err)
		return
	}
	_ = c.net.SetReadDeadline(time.Time{})
	in := newLane(C2S, ses.full(), In, 64, s.faults, s.wire, c.done)
	in.emit = func(it item) bool { s.fromClient(ses, it.el); return true }
	in.cut = func(*Element) { c.kill() }
	over := make(chan struct{})
	s.goes(func() { in.run(); close(over) })
	for {
		var el *Element
		if el, err = c.next(); err != nil {
			break
		}
		if !in.wait(el) {
			err = io.ErrClosedPipe
			break
		}
	}
	// What was read before the end still counts, unless the link was cut.
	in.finish()
	select {
	case <-over:
	case <-s.ctx.Done():
	}
	s.unbind(ses)
	c.fail(err)
}

func (c *conn) startTLS() error {
	t := tls.Server(c.net, c.s.tls)
	ctx, cancel := context.WithTimeout(c.s.ctx, negotiationTimeout)
	defer cancel()
	if err := t.HandshakeContext(ctx); err != nil {
		return err
	}
	c.use(t)
	return nil
}

// negotiate goes from the first header to a bound resource (RFC 6120 §§4-7).
func (c *conn) negotiate() (*session, error) {
	var acct *account
	for tries := 0; ; {
		to, err := c.open()
		if err != nil {
			return nil, err
		}
		if err := c.header(c.s.opts.Domain, "1.0"); err != nil {
			return nil, err
		}
		if j, ok := parseJID(to); to != "" && (!ok || j.domain != c.s.opts.Domain) {
			return nil, streamError{"host-unknown", ""}
		}
		f := c.features(acct)
		// The prefix is spelled out: some clients look for it.
		b := appendElement(nil, f, nsStream, "")
		b = append([]byte("<stream:features"), b[len("<features"):]...)
		b = []byte(strings.TrimSuffix(string(b), "</features>") + "</stream:features>")
		if err := c.write(b); err != nil {
			return nil, err
		}
		restart := false
		for !restart {
			el, err := c.next()
			if err != nil {
				return nil, err
			}
			_, secure := c.net.(*tls.Conn)
			switch {
			case el.Is(nsTLS, "starttls") && !secure:
				if err := c.writeElement(El(nsTLS, "proceed")); err != nil {
					return nil, err
				}
				if err := c.startTLS(); err != nil {
					return nil, err
				}
				restart = true
			case el.Is(nsSASL, "auth") && acct == nil && (secure || c.s.opts.PlainC2S):
				acct, err = c.authenticate(el)
				if err == nil {
					restart = true
					break
				}
				acct = nil
				if !c.saslRefusal(err) {
					return nil, err
				}
				if tries++; tries >= 3 {
					return nil, streamError{"policy-violation", "too many failed attempts"}
				}
			case el.Is(nsSASL, "abort"):
				c.saslRefusal(saslFailure("aborted"))
			case acct != nil && el.Is(nsClient, "iq") && el.Child(nsBind, "bind") != nil:
				return c.s.bind(c, acct, el)
			default:
				return nil, streamError{"not-authorized", ""}
			}
		}
	}
}

func (c *conn) features(acct *account) *Element {
	f := El(nsStream, "features")
	_, secure := c.net.(*tls.Conn)
	if acct != nil {
		f.Add(El(nsBind, "bind").Add(El(nsBind, "required")),
			El(nsSession, "session").Add(El(nsSession, "optional")),
			El("urn:xmpp:features:rosterver", "ver"))
	} else {
		if !secure {
			t := El(nsTLS, "starttls")
			if !c.s.opts.PlainC2S {
				t.Add(El(nsTLS, "required"))
			}
			f.Add(t)
		}
		if secure || c.s.opts.PlainC2S {
			m := El(nsSASL, "mechanisms")
			for _, name := range c.mechanisms() {
				m.Add(El(nsSASL, "mechanism").AddText(name))
			}
			f.Add(m)
			if c.exporter() != nil && !c.s.opts.BrokenPLUS {
				f.Add(El(nsSASLCB, "sasl-channel-binding").Add(El(nsSASLCB, "channel-binding", "type", "tls-exporter")))
			}
		}
	}
	if c.s.opts.Flavour == Prosody13 {
		f.Add(El(nsLimits, "limits").Add(El(nsLimits, "max-bytes").AddText(itoa(c.s.b.c2sMax))))
	}
	return f
}
