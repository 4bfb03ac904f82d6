// SPDX-License-Identifier: Apache-2.0

package servers_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"mellium.im/sasl"
	"mellium.im/xmlstream"
	"mellium.im/xmpp"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/lockstep-im/lockstep/integration/servers"
)

func TestMain(m *testing.M) { os.Exit(servers.Main(m)) }

const patience = 30 * time.Second

// A client is a mellium session that keeps what it receives.
type client struct {
	t       *testing.T
	session *xmpp.Session
	got     chan message
}

type message struct {
	XMLName xml.Name
	From    string `xml:"from,attr"`
	Type    string `xml:"type,attr"`
	Body    string `xml:"body"`
}

// connect logs in by STARTTLS and SCRAM, verifying the server's certificate.
func connect(s *servers.Server, a servers.Account, wait time.Duration) (*xmpp.Session, net.Conn, error) {
	conn, err := net.DialTimeout("tcp", s.C2S(), wait)
	if err != nil {
		return nil, nil, err
	}
	// Neither a deadline nor a context ends mellium's negotiation with a silent
	// peer: a closed connection does.
	giveUp := time.AfterFunc(wait, func() { conn.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	session, err := xmpp.NewClientSession(ctx, jid.MustParse(a.JID()), conn,
		xmpp.StartTLS(s.TLSConfig()),
		xmpp.SASL("", a.Password, sasl.ScramSha256, sasl.ScramSha1),
		xmpp.BindResource(),
	)
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	if !giveUp.Stop() {
		return nil, nil, context.DeadlineExceeded
	}
	return session, conn, nil
}

func tryLogin(s *servers.Server, a servers.Account, wait time.Duration) error {
	_, conn, err := connect(s, a, wait)
	if err == nil {
		conn.Close()
	}
	return err
}

func login(t *testing.T, s *servers.Server, a servers.Account) *client {
	t.Helper()
	session, conn, err := connect(s, a, patience)
	if err != nil {
		t.Fatalf("%s logging in to %s: %v", a.JID(), s.Flavour(), err)
	}
	t.Cleanup(func() { conn.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := &client{t: t, session: session, got: make(chan message, 64)}
	go session.Serve(xmpp.HandlerFunc(func(r xmlstream.TokenReadEncoder, start *xml.StartElement) error {
		if start.Name.Local != "message" {
			return nil
		}
		var m message
		d := xml.NewTokenDecoder(xmlstream.MultiReader(xmlstream.Token(*start), r))
		if err := d.Decode(&m); err != nil && !errors.Is(err, io.EOF) {
			t.Errorf("reading a message: %v", err)
			return nil
		}
		c.got <- m
		return nil
	}))
	if err := session.Send(ctx, stanza.Presence{}.Wrap(nil)); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *client) send(to, body string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := c.session.Encode(ctx, struct {
		XMLName xml.Name `xml:"jabber:client message"`
		To      string   `xml:"to,attr"`
		Type    string   `xml:"type,attr"`
		Body    string   `xml:"body"`
	}{To: to, Type: "chat", Body: body})
	if err != nil {
		c.t.Fatalf("sending to %s: %v", to, err)
	}
}

// expect waits for a message with the body; what else arrives meanwhile is
// named when it does not come.
func (c *client) expect(body string, wait time.Duration) message {
	c.t.Helper()
	var others []string
	timeout := time.After(wait)
	for {
		select {
		case m := <-c.got:
			if m.Body == body && m.Type != "error" {
				return m
			}
			others = append(others, fmt.Sprintf("%s from %s: %q", m.Type, m.From, m.Body))
		case <-timeout:
			c.t.Fatalf("%s: no message %q in %s; got %s", c.session.LocalAddr(), body, wait, others)
		}
	}
}

// waitFor reports whether a message with the body comes in time.
func (c *client) waitFor(body string, wait time.Duration) bool {
	timeout := time.After(wait)
	for {
		select {
		case m := <-c.got:
			if m.Body == body && m.Type != "error" {
				return true
			}
		case <-timeout:
			return false
		}
	}
}

// never fails the test when a message with the body comes within the time.
func (c *client) never(body string, wait time.Duration) {
	c.t.Helper()
	if c.waitFor(body, wait) {
		c.t.Fatalf("%s: got %q through a partition", c.session.LocalAddr(), body)
	}
}

// echo is the least of components (XEP-0114): it answers each message with its
// body. It knows no XML library, so that nothing but the server is tested.
func echo(t *testing.T, addr string, c servers.Component) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	d := xml.NewDecoder(conn)
	fmt.Fprintf(conn, "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to='%s'>", c.Domain)
	id := ""
	for id == "" {
		tok, err := d.Token()
		if err != nil {
			t.Fatalf("opening a stream for %s: %v", c.Domain, err)
		}
		if start, ok := tok.(xml.StartElement); ok {
			for _, a := range start.Attr {
				if a.Name.Local == "id" {
					id = a.Value
				}
			}
		}
	}
	sum := sha1.Sum([]byte(id + c.Secret))
	fmt.Fprintf(conn, "<handshake>%s</handshake>", hex.EncodeToString(sum[:]))
	next := func(v any) error {
		for {
			tok, err := d.Token()
			if err != nil {
				return err
			}
			if start, ok := tok.(xml.StartElement); ok {
				return d.DecodeElement(v, &start)
			}
		}
	}
	var answer struct{ XMLName xml.Name }
	if err := next(&answer); err != nil || answer.XMLName.Local != "handshake" {
		t.Fatalf("handshake of %s: got <%s>, %v", c.Domain, answer.XMLName.Local, err)
	}
	conn.SetDeadline(time.Time{})
	go func() {
		for {
			var m message
			if next(&m) != nil {
				return
			}
			if m.XMLName.Local == "message" && m.Type != "error" && m.Body != "" {
				var b bytes.Buffer
				xml.EscapeText(&b, []byte("echo: "+m.Body))
				fmt.Fprintf(conn, "<message type='chat' from='%s' to='%s'><body>%s</body></message>", c.Domain, m.From, b.Bytes())
			}
		}
	}()
	return conn
}

// TestServers logs in by STARTTLS and SCRAM and speaks with a component, on
// every flavour.
func TestServers(t *testing.T) {
	short(t)
	for _, f := range servers.All() {
		t.Run(string(f), func(t *testing.T) {
			s := servers.Shared(t, f)
			c := s.LeaseComponent(t)
			echo(t, s.ComponentAddr(), c)
			juliet := login(t, s, s.Account(t, "juliet"))
			if got := juliet.session.LocalAddr().Domain().String(); got != s.Domain() {
				t.Errorf("logged in at %q, want %q", got, s.Domain())
			}
			juliet.send("nurse@"+c.Domain, "what says <he> of our marriage?")
			if m := juliet.expect("echo: what says <he> of our marriage?", patience); m.From != c.Domain {
				t.Errorf("the echo is from %q, want %q", m.From, c.Domain)
			}
			if s2 := servers.Shared(t, f); s2 != s {
				t.Error("a second Shared is another server")
			}
		})
	}
}

// TestFederation sends between users of Prosody and ejabberd, and to components
// of the other server, in both directions.
func TestFederation(t *testing.T) {
	short(t)
	for _, pair := range [][2]servers.Flavour{{servers.Prosody12, servers.Ejabberd23}, {servers.Prosody13, servers.Ejabberd24}} {
		t.Run(string(pair[0])+" and "+string(pair[1]), func(t *testing.T) {
			p, e := servers.Shared(t, pair[0]), servers.Shared(t, pair[1])
			aj, ar := p.Account(t, "juliet"), e.Account(t, "romeo")
			juliet, romeo := login(t, p, aj), login(t, e, ar)
			juliet.send(ar.JID(), "wherefore art thou?")
			romeo.expect("wherefore art thou?", patience)
			romeo.send(aj.JID(), "here")
			juliet.expect("here", patience)

			pc, ec := p.LeaseComponent(t), e.LeaseComponent(t)
			echo(t, p.ComponentAddr(), pc)
			echo(t, e.ComponentAddr(), ec)
			juliet.send(ec.Domain, "over there")
			juliet.expect("echo: over there", patience)
			romeo.send(pc.Domain, "over here")
			romeo.expect("echo: over here", patience)
		})
	}
}

// TestMulticast sends one stanza for two (XEP-0033), as a component may. On Prosody,
// where the module is ours, a user may not.
func TestMulticast(t *testing.T) {
	short(t)
	const form = "<message xmlns='%s' type='chat' %s to='%s'><addresses xmlns='http://jabber.org/protocol/address'>%s</addresses><body>%s</body></message>"
	for _, f := range servers.All() {
		t.Run(string(f), func(t *testing.T) {
			s := servers.Shared(t, f)
			c := s.LeaseComponent(t)
			link := echo(t, s.ComponentAddr(), c)
			aj, ar := s.Account(t, "juliet"), s.Account(t, "romeo")
			juliet, romeo := login(t, s, aj), login(t, s, ar)
			// To full JIDs: whether the server has seen their presence does not matter.
			list := fmt.Sprintf("<address type='bcc' jid='%s'/><address type='bcc' jid='%s'/>", juliet.session.LocalAddr(), romeo.session.LocalAddr())
			fmt.Fprintf(link, form, "jabber:component:accept", "from='"+c.Domain+"'", s.Multicast(), list, "a plague on both your houses")
			for _, x := range []*client{juliet, romeo} {
				if m := x.expect("a plague on both your houses", patience); m.From != c.Domain {
					t.Errorf("it is from %q, want %q", m.From, c.Domain)
				}
			}
			if !f.Prosody() {
				return
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := juliet.session.Send(ctx, xml.NewDecoder(strings.NewReader(fmt.Sprintf(form, "jabber:client", "", s.Multicast(), list, "from a user")))); err != nil {
				t.Fatal(err)
			}
			juliet.send(ar.JID(), "and this")
			for {
				m := <-romeo.got
				if m.Body == "from a user" {
					t.Error("a user's multicast was passed on")
				}
				if m.Body == "and this" {
					break
				}
			}
			for m := range juliet.got {
				if m.Type == "error" {
					break
				}
			}
		})
	}
}

func short(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED in -short mode: starts real servers")
	}
}
