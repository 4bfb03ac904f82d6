// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/integration/loopback"
	"github.com/lockstep-im/lockstep/stanza"
)

func TestWaysIn(t *testing.T) {
	w := newWorld(t)
	for name, change := range map[string]func(*client.Config){
		"starttls":   func(*client.Config) {},
		"direct tls": func(c *client.Config) { c.Server, c.DirectTLS = w.server.AddrTLS(), true },
		"resource":   func(c *client.Config) { c.JID += "/bot" },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := w.config("juliet", store.NewMemory("juliet@"+domain))
			change(&cfg)
			a := w.start("juliet", cfg)
			e := sees[*client.Online](a)
			if !strings.HasPrefix(e.JID, "juliet@"+domain+"/") || name == "resource" && !strings.HasSuffix(e.JID, "/bot") || e.Service != dsDomain {
				t.Errorf("%+v", e)
			}
			a.stop()
		})
	}
}

// TestBrokenPLUS falls back from channel binding that a server offers and
// cannot do, and never falls back once it has worked.
func TestBrokenPLUS(t *testing.T) {
	w := newWorldWith(t, func(o *worldOptions) { o.BrokenPLUS = true })
	w.join("juliet")

	w = newWorldWith(t, func(o *worldOptions) { o.Mechanisms = []string{"SCRAM-SHA-1-PLUS", "SCRAM-SHA-1"} })
	st := store.NewMemory("juliet@" + domain)
	a := w.start("juliet", w.config("juliet", st))
	a.stop()
	// Somebody sits between now, and cannot offer it.
	weak := newWorldWith(t, func(o *worldOptions) { o.Mechanisms = []string{"SCRAM-SHA-1"} })
	cfg := weak.config("juliet", st.Snapshot(false))
	b := weak.prepare("juliet", cfg)
	b.run()
	if err := b.Ready(contextFor(t, 2*time.Second)); err == nil {
		t.Skip("the server offered no channel binding in the first place")
	}
}

func TestWrongPassword(t *testing.T) {
	w := newWorld(t)
	cfg := w.config("juliet", store.NewMemory("juliet@"+domain))
	cfg.Password = "wrong"
	c := must(client.New(cfg))(t)
	defer c.Close()
	err := c.Run(ctxShort(t))
	var auth *client.AuthError
	if !errors.As(err, &auth) || auth.Condition != "not-authorized" || strings.Contains(err.Error(), "wrong") {
		t.Errorf("Run = %v", err)
	}
}

func TestWrongCertificate(t *testing.T) {
	w := newWorld(t)
	cfg := w.config("juliet", store.NewMemory("juliet@"+domain))
	cfg.TLS = &tls.Config{}
	a := w.prepare("juliet", cfg)
	a.run()
	if e := sees[*client.Offline](a); e.Err == nil || !strings.Contains(e.Err.Error(), "certificate") {
		t.Errorf("%v", e.Err)
	}
}

// TestReconnects is cut off again and again.
func TestReconnects(t *testing.T) {
	w := newWorld(t)
	juliet, romeo, jg, _ := pair(t, w)
	for i := range 4 {
		w.server.CutClient("juliet@" + domain)
		must(jg.Send(ctxShort(t), fmt.Sprintf("after cut %d", i)))(t)
		romeo.hears(fmt.Sprintf("after cut %d", i))
	}
	juliet.until("being online again", func() bool {
		online := 0
		for _, e := range juliet.events {
			if _, ok := e.(*client.Online); ok {
				online++
			}
		}
		return online >= 2
	})
}

// TestQueued sends while the server is away; the message goes out by itself.
func TestQueued(t *testing.T) {
	w := newWorld(t)
	juliet, romeo, jg, _ := pair(t, w)
	f := w.server.Fault(loopback.Rule{Action: loopback.Drop, Kind: loopback.C2S, Dir: loopback.In, Match: func(e *loopback.Element) bool { return strings.Contains(e.String(), "<send") }})
	_, err := jg.Send(contextFor(t, 300*time.Millisecond), "later")
	var q *client.QueuedError
	if !errors.As(err, &q) || q.OriginID == "" {
		t.Fatalf("Send = %v", err)
	}
	_ = f
	w.server.ClearFaults()
	w.server.CutClient("juliet@" + domain)
	romeo.hears("later")
	if e := sees[*client.SentLater](juliet); e.OriginID != q.OriginID {
		t.Errorf("%+v", e)
	}
}

// rogue is a server that says what it is told to.
func rogue(t *testing.T, serve func(c net.Conn)) func(context.Context) (net.Conn, bool, error) {
	return func(context.Context) (net.Conn, bool, error) {
		mine, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			serve(theirs)
		}()
		return mine, false, nil
	}
}

func TestRogueServers(t *testing.T) {
	header := "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0' from='" + domain + "' id='x'>"
	read := func(c net.Conn) { c.Read(make([]byte, 4096)) }
	for name, serve := range map[string]func(c net.Conn){
		"silent":   func(c net.Conn) { io.Copy(io.Discard, c) },
		"not xml":  func(c net.Conn) { read(c); io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n<html>") },
		"not xmpp": func(c net.Conn) { read(c); io.WriteString(c, "<html xmlns='x'>") },
		"no tls": func(c net.Conn) {
			read(c)
			io.WriteString(c, header+"<stream:features/>")
			read(c)
			io.WriteString(c, "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>")
		},
		"injection": func(c net.Conn) {
			read(c)
			io.WriteString(c, header+"<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>")
			read(c)
			io.WriteString(c, "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><message><body>injected</body></message>")
			read(c)
		},
		"endless": func(c net.Conn) {
			read(c)
			io.WriteString(c, header+"<stream:features>")
			for {
				if _, err := io.WriteString(c, strings.Repeat("<x>", 1000)); err != nil {
					return
				}
			}
		},
		"error": func(c net.Conn) {
			read(c)
			io.WriteString(c, header+"<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>")
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := client.Config{JID: "juliet@" + domain, Password: "x", Store: store.NewMemory("juliet@" + domain), Dial: rogue(t, serve)}
			client.SetDialTimeout(&cfg, time.Second)
			c := must(client.New(cfg))(t)
			events := make(chan error, 10)
			c.OnEvent(func(_ context.Context, e client.Event) {
				if o, ok := e.(*client.Offline); ok {
					select {
					case events <- o.Err:
					default:
					}
				}
			})
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() { defer close(done); c.Run(ctx) }()
			select {
			case err := <-events:
				if err == nil {
					t.Error("offline without a reason")
				}
			case <-time.After(patience):
				t.Error("the client hangs")
			}
			cancel()
			select {
			case <-done:
			case <-time.After(patience):
				t.Error("Run does not end")
			}
			c.Close()
		})
	}
}

// TestHostileStanzas is what a service and strangers may send. None of it ends
// the client.
func TestHostileStanzas(t *testing.T) {
	l, juliet, romeo, jg, rg := deceived(t)
	group, ds := jg.JID(), dsDomain
	nest := strings.Repeat("<a>", 60) + strings.Repeat("</a>", 60)
	hostile := []string{
		"<iq type='get' id='1' from='mallory@x.example/☃'/>",
		"<iq type='set' id='2' from='☃@example.com'>text<q xmlns='x'/></iq>",
		"<iq type='get' id='3' from='a@b'><a xmlns='x'/><b xmlns='y'/></iq>",
		"<iq type='result' id='4' from='a@b'/>",
		"<iq type='bogus' id='5' from='a@b'/>",
		"<iq id='6'/>",
		"<message/>", "<presence/>", "<presence from='" + ds + "' type='error'/>",
		"<message from='" + ds + "' type='headline'><nudge xmlns='urn:xmpp:mls:ds:0'/></message>",
		"<message from='" + ds + "' type='headline'><resume xmlns='urn:xmpp:mls:ds:0'/></message>",
		"<message from='mallory@x.example' type='headline'><nudge xmlns='urn:xmpp:mls:ds:0'/></message>",
		"<message from='" + group + "' type='groupchat'><delivery xmlns='urn:xmpp:mls:ds:0'/></message>",
		"<message from='" + group + "' type='groupchat'><delivery xmlns='urn:xmpp:mls:ds:0' seq='99999999' epoch='1' kind='application' stamp='2026-01-01T00:00:00Z'/><mls xmlns='urn:xmpp:mls:0'>AAAA</mls></message>",
		"<message from='" + group + "' type='groupchat'><delivery xmlns='urn:xmpp:mls:ds:0' seq='-1' epoch='x' kind='y'/><mls xmlns='urn:xmpp:mls:0'>!!!</mls></message>",
		"<message from='" + group + "' type='groupchat'><delivery xmlns='urn:xmpp:mls:ds:0' seq='18446744073709551615' epoch='18446744073709551615' kind='commit' stamp='2026-01-01T00:00:00Z'/><mls xmlns='urn:xmpp:mls:0'>AAEAAg==</mls></message>",
		"<message from='" + group + "' type='groupchat'><delivery xmlns='urn:xmpp:mls:ds:0' epoch='1' kind='application' stamp='2026-01-01T00:00:00Z'/><mls xmlns='urn:xmpp:mls:0'>AAEAAg==</mls></message>",
		"<message from='" + group + "/nick' type='groupchat'><delivery xmlns='urn:xmpp:mls:ds:0' seq='3' epoch='1' kind='application' stamp='2026-01-01T00:00:00Z'/><mls xmlns='urn:xmpp:mls:0'>AAAA</mls></message>",
		"<message from='mallory@x.example' type='groupchat'><delivery xmlns='urn:xmpp:mls:ds:0' seq='3' epoch='1' kind='application' stamp='2026-01-01T00:00:00Z'/><mls xmlns='urn:xmpp:mls:0'>AAAA</mls></message>",
		"<message from='" + group + "'><destroyed xmlns='urn:xmpp:mls:ds:0'/></message>",
		"<message from='mallory@x.example'><welcome xmlns='urn:xmpp:mls:ds:0' group='" + group + "' epoch='1' seq='1' kp-ref='AAAA' inviter='mallory@x.example'/></message>",
		"<message from='" + ds + "'><welcome xmlns='urn:xmpp:mls:ds:0' group='☃@" + ds + "' epoch='1' seq='1' kp-ref='n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg='/></message>",
		"<message from='" + ds + "'><stock xmlns='urn:xmpp:mls:kp:0' device='00' available='x'/></message>",
		"<message from='a@b'>" + nest + "</message>",
		"<message from='a@b'><body>&unknown;</body></message>",
		"<message from='a@b'><body>" + strings.Repeat("x", 300_000) + "</body></message>",
		"<message from='a@b' type='error'><error type='cancel'/></message>",
		"<x xmlns='unknown'/>",
	}
	sent := false
	l.tell(func(s *stanza.Stanza, raw []byte) [][]byte {
		out := [][]byte{raw}
		if !sent {
			sent = true
			for _, h := range hostile {
				out = append(out, []byte(h))
			}
		}
		return out
	})
	must(jg.Send(ctxShort(t), "all hell"))(t)
	romeo.hears("all hell")
	must(rg.Send(ctxShort(t), "still here"))(t)
	juliet.hears("still here")
	sameEpoch(t, jg, rg)
	romeo.mu.Lock()
	defer romeo.mu.Unlock()
	for _, e := range romeo.events {
		switch v := e.(type) {
		case *client.Offline:
			t.Errorf("the stream ended: %v", v.Err)
		case *client.Removed, *client.Destroyed:
			t.Errorf("a stranger could end the membership: %T", v)
		}
	}
}
