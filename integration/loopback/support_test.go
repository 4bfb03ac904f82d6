// SPDX-License-Identifier: Apache-2.0

package loopback_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"mellium.im/sasl"
	"mellium.im/xmpp"
	mjid "mellium.im/xmpp/jid"

	"github.com/lockstep-im/lockstep/integration/loopback"
)

const wait = 10 * time.Second

// start runs a server with the accounts juliet, romeo and nurse (password "pw-NAME") and
// the component mls.DOMAIN (secret "s3cret"), and checks that nothing outlives it.
func start(t *testing.T, opts loopback.Options) *loopback.Server {
	t.Helper()
	if opts.Domain == "" {
		opts.Domain = "capulet.lit"
	}
	before := runtime.NumGoroutine()
	s, err := loopback.Start(opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range []string{"juliet", "romeo", "nurse"} {
		if err := s.AddAccount(u, "pw-"+u); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.AddComponent("mls."+opts.Domain, "s3cret"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if opts.Network != nil {
			return // links end with the last server
		}
		end := time.Now().Add(wait)
		for runtime.NumGoroutine() > before && time.Now().Before(end) {
			time.Sleep(5 * time.Millisecond)
		}
		if n := runtime.NumGoroutine(); n > before {
			buf := make([]byte, 1<<20)
			t.Errorf("%d goroutines before, %d after Close:\n%s", before, n, buf[:runtime.Stack(buf, true)])
		}
	})
	return s
}

// A peer reads and writes stanzas as they are.
type peer struct {
	t    *testing.T
	name string
	w    io.Writer
	conn net.Conn
	got  chan *loopback.Element
	err  error // why got was closed
}

func (p *peer) read(r interface{ Token() (xml.Token, error) }) {
	defer close(p.got)
	var stack []*loopback.Element
	for {
		tok, err := r.Token()
		if err != nil {
			p.err = err
			return
		}
		switch tk := tok.(type) {
		case xml.StartElement:
			e := &loopback.Element{Name: tk.Name}
			for _, a := range tk.Attr {
				if a.Name.Local != "xmlns" && a.Name.Space != "xmlns" {
					e.Attrs = append(e.Attrs, a)
				}
			}
			stack = append(stack, e)
		case xml.CharData:
			if len(stack) > 0 {
				stack[len(stack)-1].AddText(string(tk))
			}
		case xml.EndElement:
			if len(stack) == 0 {
				p.err = io.EOF
				return
			}
			e := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			if len(stack) > 0 {
				stack[len(stack)-1].Add(e)
			} else {
				p.got <- e
			}
		}
	}
}

// client logs in by mellium, over TCP with STARTTLS.
func client(t *testing.T, s *loopback.Server, local, resource string, mechs ...sasl.Mechanism) *peer {
	t.Helper()
	p, err := login(t, s, local, resource, "pw-"+local, mechs...)
	if err != nil {
		t.Fatalf("%s: %v", local, err)
	}
	return p
}

func login(t *testing.T, s *loopback.Server, local, resource, password string, mechs ...sasl.Mechanism) (*peer, error) {
	t.Helper()
	if len(mechs) == 0 {
		mechs = []sasl.Mechanism{sasl.ScramSha256}
	}
	nc, err := net.Dial("tcp", s.AddrC2S())
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { nc.Close() })
	addr := mjid.MustParse(strings.TrimSuffix(local+"@"+s.Domain()+"/"+resource, "/"))
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	cfg := &tls.Config{ServerName: s.Domain(), RootCAs: s.CertPool(), MinVersion: tls.VersionTLS13}
	session, err := xmpp.NewSession(ctx, addr.Domain(), addr, nc, 0, xmpp.NewNegotiator(func(*xmpp.Session, *xmpp.StreamConfig) xmpp.StreamConfig {
		return xmpp.StreamConfig{Features: []xmpp.StreamFeature{
			xmpp.StartTLS(cfg), xmpp.SASL("", password, mechs...), bindTo(resource)}}
	}))
	if err != nil {
		return nil, err
	}
	p := &peer{t: t, name: session.LocalAddr().String(), w: session.Conn(), conn: nc, got: make(chan *loopback.Element, 20000)}
	r := session.TokenReader()
	go p.read(r)
	return p, nil
}

// bindTo binds the resource that was asked for, which mellium's own feature does not.
func bindTo(resource string) xmpp.StreamFeature {
	f := xmpp.BindResource()
	if resource == "" {
		return f
	}
	f.Negotiate = func(ctx context.Context, session *xmpp.Session, _ any) (xmpp.SessionState, io.ReadWriter, error) {
		if _, err := fmt.Fprintf(session.Conn(), "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>%s</resource></bind></iq>", resource); err != nil {
			return 0, nil, err
		}
		r := session.TokenReader()
		defer r.Close()
		d := xml.NewTokenDecoder(r)
		var iq struct {
			JID string `xml:"bind>jid"`
		}
		tok, err := d.Token()
		if err != nil {
			return 0, nil, err
		}
		st, ok := tok.(xml.StartElement)
		if !ok {
			return 0, nil, fmt.Errorf("unexpected %T", tok)
		}
		if err := d.DecodeElement(&iq, &st); err != nil {
			return 0, nil, err
		}
		j, err := mjid.Parse(iq.JID)
		if err != nil {
			return 0, nil, err
		}
		session.UpdateAddr(j)
		return xmpp.Ready, nil, nil
	}
	return f
}

// attach connects a component by hand.
func attach(t *testing.T, s *loopback.Server, domain, secret string) (*peer, error) {
	t.Helper()
	nc, err := net.Dial("tcp", s.AddrComponent())
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { nc.Close() })
	return handshake(t, nc, domain, secret)
}

func handshake(t *testing.T, nc net.Conn, domain, secret string) (*peer, error) {
	_ = nc.SetDeadline(time.Now().Add(wait))
	if _, err := fmt.Fprintf(nc, "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to='%s'>", domain); err != nil {
		return nil, err
	}
	d := xml.NewDecoder(nc)
	for {
		tok, err := d.Token()
		if err != nil {
			return nil, err
		}
		st, ok := tok.(xml.StartElement)
		if !ok {
			continue
		}
		id := ""
		for _, a := range st.Attr {
			if a.Name.Local == "id" {
				id = a.Value
			}
		}
		sum := sha1.Sum([]byte(id + secret))
		if st.Name.Local == "stream" {
			if _, err := fmt.Fprintf(nc, "<handshake>%s</handshake>", hex.EncodeToString(sum[:])); err != nil {
				return nil, err
			}
			continue
		}
		var body struct {
			Inner string `xml:",innerxml"`
		}
		if err := d.DecodeElement(&body, &st); err != nil {
			return nil, err
		}
		if st.Name.Local != "handshake" {
			return nil, fmt.Errorf("%s: %s", st.Name.Local, body.Inner)
		}
		break
	}
	_ = nc.SetDeadline(time.Time{})
	p := &peer{t: t, name: domain, w: nc, conn: nc, got: make(chan *loopback.Element, 20000)}
	go p.read(d)
	return p, nil
}

func mustAttach(t *testing.T, s *loopback.Server) *peer {
	t.Helper()
	p, err := attach(t, s, "mls."+s.Domain(), "s3cret")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *peer) send(format string, args ...any) {
	p.t.Helper()
	if _, err := fmt.Fprintf(p.w, format, args...); err != nil {
		p.t.Fatalf("%s: sending: %v", p.name, err)
	}
}

// expect waits for the next stanza whose XML holds all the words, passing over others.
func (p *peer) expect(words ...string) *loopback.Element {
	p.t.Helper()
	timeout := time.After(wait)
	var seen []string
	for {
		select {
		case e, ok := <-p.got:
			if !ok {
				p.t.Fatalf("%s: stream ended (%v) while waiting for %q; saw:\n%s", p.name, p.err, words, strings.Join(seen, "\n"))
			}
			x := e.String()
			if holds(x, words) {
				return e
			}
			seen = append(seen, x)
		case <-timeout:
			p.t.Fatalf("%s: nothing with %q came; saw:\n%s", p.name, words, strings.Join(seen, "\n"))
		}
	}
}

func holds(x string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(x, w) {
			return false
		}
	}
	return true
}

// silent checks that nothing with the words is among what comes before the answer to a
// ping, which is behind everything that was sent to the peer before.
func (p *peer) silent(words ...string) {
	p.t.Helper()
	p.flush(func(e *loopback.Element) {
		if x := e.String(); holds(x, words) {
			p.t.Errorf("%s: got %s", p.name, x)
		}
	})
}

var pings int

func (p *peer) flush(f func(*loopback.Element)) {
	p.t.Helper()
	pings++
	id := fmt.Sprintf("flush%d", pings)
	domain := p.name
	if i := strings.IndexByte(domain, '@'); i >= 0 {
		domain = strings.SplitN(domain[i+1:], "/", 2)[0]
	} else {
		domain = strings.TrimPrefix(domain, "mls.")
	}
	p.send("<iq type='get' id='%s' from='%s' to='%s'><ping xmlns='urn:xmpp:ping'/></iq>", id, p.name, domain)
	timeout := time.After(wait)
	for {
		select {
		case e, ok := <-p.got:
			if !ok {
				p.t.Fatalf("%s: stream ended: %v", p.name, p.err)
			}
			if e.Attr("id") == id {
				return
			}
			f(e)
		case <-timeout:
			p.t.Fatalf("%s: no answer to ping", p.name)
		}
	}
}

// online sends presence and waits until the server has it.
func (p *peer) online(priority int) *peer {
	p.t.Helper()
	p.send("<presence><priority>%d</priority></presence>", priority)
	p.expect("<presence", "from='"+p.name+"'")
	return p
}

// ended waits for the stream to end and gives the stream error, if any came.
func (p *peer) ended() string {
	p.t.Helper()
	timeout := time.After(wait)
	var last bytes.Buffer
	for {
		select {
		case e, ok := <-p.got:
			if !ok {
				return last.String() + fmt.Sprint(p.err) // mellium makes an error of a stream error
			}
			if e.Name.Local == "error" {
				last.WriteString(e.String())
			}
		case <-timeout:
			p.t.Fatalf("%s: stream did not end", p.name)
		}
	}
}
