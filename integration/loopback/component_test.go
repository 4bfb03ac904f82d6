// SPDX-License-Identifier: Apache-2.0

package loopback_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	mcomponent "mellium.im/xmpp/component"
	mjid "mellium.im/xmpp/jid"

	"github.com/lockstep-im/lockstep/integration/loopback"
)

func TestComponentHandshake(t *testing.T) {
	s := start(t, loopback.Options{})
	if _, err := attach(t, s, "mls.capulet.lit", "wrong"); err == nil || !strings.Contains(err.Error(), "not-authorized") {
		t.Errorf("wrong secret: %v", err)
	}
	if _, err := attach(t, s, "other.capulet.lit", "s3cret"); err == nil || !strings.Contains(err.Error(), "host-unknown") {
		t.Errorf("unknown domain: %v", err)
	}
	if s.ComponentUp("mls.capulet.lit") {
		t.Error("up without a component")
	}
	mustAttach(t, s)
	if !s.ComponentUp("mls.capulet.lit") {
		t.Error("not up")
	}
}

func TestComponentByMellium(t *testing.T) {
	s := start(t, loopback.Options{})
	nc, err := s.DialComponent()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	if _, err := mcomponent.NewSession(ctx, mjid.MustParse("mls.capulet.lit"), []byte("s3cret"), nc); err != nil {
		t.Error(err)
	}
}

func TestComponentTalks(t *testing.T) {
	s := start(t, loopback.Options{})
	ds, juliet := mustAttach(t, s), client(t, s, "juliet", "b")
	juliet.send("<iq type='set' id='k1' to='ops@mls.capulet.lit'><x xmlns='urn:x'/></iq>")
	if e := ds.expect("id='k1'"); e.Name.Space != "jabber:component:accept" || e.Attr("from") != juliet.name {
		t.Errorf("component saw %s", e)
	}
	ds.send("<iq type='result' id='k1' from='ops@mls.capulet.lit' to='%s'><y xmlns='urn:y'/></iq>", juliet.name)
	if e := juliet.expect("id='k1'", "urn:y"); e.Name.Space != "jabber:client" {
		t.Errorf("client saw %s", e)
	}
	// addresses that Go's PRECIS rejects and servers let through
	if err := s.AddAccount("i♥", "pw-i♥"); err != nil {
		t.Fatal(err)
	}
	juliet.send("<iq type='get' id='k2' to='☃@mls.capulet.lit'><x xmlns='urn:x'/></iq>")
	ds.expect("id='k2'", "to='☃@mls.capulet.lit'")
	juliet.send("<message id='bad' to='@mls.capulet.lit'/>")
	juliet.expect("id='bad'", "jid-malformed")
}

func TestComponentStrictness(t *testing.T) {
	each(t, func(t *testing.T, fl loopback.Flavour) {
		for _, tc := range []struct {
			name, stanza string
			end          string // condition that closes the stream; "" = stays
			reply        string
		}{
			{"no from", "<message to='romeo@capulet.lit'/>", map[loopback.Flavour]string{loopback.Prosody13: "invalid-from",
				loopback.Ejabberd23: "improper-addressing", loopback.Ejabberd24: "improper-addressing"}[fl], ""},
			{"other from", "<message from='x@capulet.lit' to='romeo@capulet.lit'/>", "invalid-from", ""},
			{"subdomain", "<message from='a.mls.capulet.lit' to='romeo@capulet.lit'/>", "invalid-from", ""},
			{"no to", "<iq type='get' id='q' from='mls.capulet.lit'><x xmlns='urn:x'/></iq>", map[bool]string{false: "improper-addressing"}[prosody(fl)], "service-unavailable"},
			{"bad to", "<iq type='get' id='q' from='mls.capulet.lit' to='@x'><x xmlns='urn:x'/></iq>", "", "jid-malformed"},
		} {
			s := start(t, loopback.Options{Flavour: fl})
			ds := mustAttach(t, s)
			ds.send("%s", tc.stanza)
			switch {
			case tc.end != "":
				if e := ds.ended(); !strings.Contains(e, tc.end) {
					t.Errorf("%s: ended with %q, want %s", tc.name, e, tc.end)
				}
			case tc.reply != "":
				ds.expect("id='q'", tc.reply)
			default:
				ds.flush(func(*loopback.Element) {})
			}
		}
	})
}

func TestComponentConflict(t *testing.T) {
	for _, tc := range []struct {
		opts loopback.Options
		want string
	}{
		{loopback.Options{Flavour: loopback.Prosody13}, "new kicked"},
		{loopback.Options{Flavour: loopback.Prosody13, Conflict: loopback.KickOld}, "old kicked"},
		{loopback.Options{Flavour: loopback.Ejabberd24}, "both"},
	} {
		t.Run(tc.want, func(t *testing.T) {
			s := start(t, tc.opts)
			old := mustAttach(t, s)
			fresh, err := attach(t, s, "mls.capulet.lit", "s3cret")
			if tc.want == "new kicked" {
				if err == nil || !strings.Contains(err.Error(), "conflict") {
					t.Errorf("second link: %v, want conflict", err)
				}
				old.flush(func(*loopback.Element) {})
				s.CutComponent("mls.capulet.lit")
				old.ended()
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if tc.want == "old kicked" {
				if e := old.ended(); !strings.Contains(e, "conflict") {
					t.Errorf("old link ended with %q", e)
				}
				fresh.flush(func(*loopback.Element) {})
				return
			}
			juliet := client(t, s, "juliet", "b")
			for i := range 100 {
				juliet.send("<message id='m%d' to='g@mls.capulet.lit'/>", i)
			}
			juliet.flush(func(*loopback.Element) {})
			a, b := 0, 0
			for range 100 {
				select {
				case <-old.got:
					a++
				case <-fresh.got:
					b++
				}
			}
			if a < 20 || b < 20 {
				t.Errorf("split %d to %d", a, b)
			}
		})
	}
}

func TestIQStrictness(t *testing.T) {
	each(t, func(t *testing.T, fl loopback.Flavour) {
		s := start(t, loopback.Options{Flavour: fl})
		ds, juliet := mustAttach(t, s), client(t, s, "juliet", "b")
		for i, inner := range []string{"", "<a xmlns='urn:a'/><b xmlns='urn:b'/>"} {
			juliet.send("<iq type='get' id='n%d' to='mls.capulet.lit'>%s</iq>", i, inner)
			if prosody(fl) {
				juliet.expect(fmt.Sprintf("id='n%d'", i), "bad-request")
			} else {
				ds.expect(fmt.Sprintf("id='n%d'", i))
			}
		}
		juliet.send("<iq type='get' id='t' to='mls.capulet.lit'>text<a xmlns='urn:a'/></iq>")
		if e := ds.expect("id='t'"); (e.Text() == "text") != prosody(fl) {
			t.Errorf("stray text: %s", e)
		}
		juliet.send("<message type='bogus' id='ty' to='mls.capulet.lit'/>")
		if e := ds.expect("id='ty'"); (e.Attr("type") == "bogus") != prosody(fl) {
			t.Errorf("bogus type: %s", e)
		}
		juliet.send("<message from='romeo@capulet.lit' id='sp' to='mls.capulet.lit'/>")
		if prosody(fl) {
			if e := ds.expect("id='sp'"); e.Attr("from") != juliet.name {
				t.Errorf("spoofed from passed: %s", e)
			}
		} else if e := juliet.ended(); !strings.Contains(e, "invalid-from") {
			t.Errorf("ended with %q", e)
		}
		juliet = client(t, s, "juliet", "deep")
		juliet.send("<message id='deep' to='mls.capulet.lit'>%s</message>", strings.Repeat("<a xmlns='urn:a'>", 200)+strings.Repeat("</a>", 200))
		ds.expect("id='deep'")
	})
}

func TestMulticast(t *testing.T) {
	s := start(t, loopback.Options{Flavour: loopback.Ejabberd24})
	ds := mustAttach(t, s)
	a, b := client(t, s, "juliet", "b"), client(t, s, "romeo", "o")
	ds.send("<message type='groupchat' id='x' from='g@mls.capulet.lit' to='multicast.capulet.lit'><addresses xmlns='http://jabber.org/protocol/address'><address type='bcc' jid='%s'/><address type='bcc' jid='%s'/></addresses><mls xmlns='urn:xmpp:mls:0'>AA==</mls></message>", a.name, b.name)
	for _, p := range []*peer{a, b} {
		if e := p.expect("urn:xmpp:mls:0"); e.Child("http://jabber.org/protocol/address", "addresses") != nil || e.Attr("from") != "g@mls.capulet.lit" {
			t.Errorf("%s got %s", p.name, e)
		}
	}
}

// TestComponentGarbage: bytes that are not a component at all.
func TestComponentGarbage(t *testing.T) {
	s := start(t, loopback.Options{})
	for _, b := range []string{"GET / HTTP/1.1\r\n\r\n", "<stream:stream>", "\x16\x03\x01", "<a/>", "</a>", "<stream:stream xmlns:stream='http://etherx.jabber.org/streams' to='mls.capulet.lit'><message/>"} {
		nc, err := net.Dial("tcp", s.AddrComponent())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = nc.Write([]byte(b))
		_ = nc.(*net.TCPConn).CloseWrite()
		buf := make([]byte, 4096)
		for {
			if _, err := nc.Read(buf); err != nil {
				break
			}
		}
		nc.Close()
	}
	mustAttach(t, s)
}
