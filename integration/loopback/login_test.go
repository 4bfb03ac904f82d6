// SPDX-License-Identifier: Apache-2.0

package loopback_test

import (
	"context"
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"mellium.im/sasl"
	"mellium.im/xmpp"
	mjid "mellium.im/xmpp/jid"

	"github.com/lockstep-im/lockstep/integration/loopback"
)

func TestLoginMechanisms(t *testing.T) {
	s := start(t, loopback.Options{})
	for name, m := range map[string]sasl.Mechanism{"SCRAM-SHA-1": sasl.ScramSha1, "SCRAM-SHA-256": sasl.ScramSha256,
		"SCRAM-SHA-1-PLUS": sasl.ScramSha1Plus, "SCRAM-SHA-256-PLUS": sasl.ScramSha256Plus, "PLAIN": sasl.Plain} {
		t.Run(name, func(t *testing.T) {
			p := client(t, s, "juliet", "balcony", m)
			if p.name != "juliet@capulet.lit/balcony" {
				t.Errorf("bound %q", p.name)
			}
			p.flush(func(*loopback.Element) {})
			if _, err := login(t, s, "juliet", "x", "wrong", m); err == nil || !strings.Contains(err.Error(), "not-authorized") {
				t.Errorf("wrong password: %v, want not-authorized", err)
			}
			if _, err := login(t, s, "tybalt", "x", "wrong", m); err == nil || !strings.Contains(err.Error(), "not-authorized") {
				t.Errorf("unknown user: %v, want not-authorized", err)
			}
		})
	}
}

func TestServerGeneratesResource(t *testing.T) {
	s := start(t, loopback.Options{})
	a, b := client(t, s, "juliet", ""), client(t, s, "juliet", "")
	if a.name == b.name || !strings.HasPrefix(a.name, "juliet@capulet.lit/") {
		t.Errorf("resources %q and %q", a.name, b.name)
	}
}

// TestBrokenPLUS: ejabberd 23.01 offers SCRAM-SHA-1-PLUS on TLS 1.3 and refuses it.
func TestBrokenPLUS(t *testing.T) {
	s := start(t, loopback.Options{Flavour: loopback.Ejabberd23, BrokenPLUS: true})
	if _, err := login(t, s, "juliet", "x", "pw-juliet", sasl.ScramSha1Plus); err == nil {
		t.Error("PLUS was accepted")
	}
	client(t, s, "juliet", "x", sasl.ScramSha1)
}

func TestInProcessAndDirectTLS(t *testing.T) {
	s := start(t, loopback.Options{PlainC2S: true})
	nc, err := s.DialC2S()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	addr := mjid.MustParse("juliet@capulet.lit")
	negotiator := xmpp.NewNegotiator(func(*xmpp.Session, *xmpp.StreamConfig) xmpp.StreamConfig {
		return xmpp.StreamConfig{Features: []xmpp.StreamFeature{xmpp.SASL("", "pw-juliet", sasl.ScramSha256), xmpp.BindResource()}}
	})
	// Secure forces SASL on a plain connection.
	if _, err := xmpp.NewSession(ctx, addr.Domain(), addr, nc, xmpp.Secure, negotiator); err != nil {
		t.Errorf("in process: %v", err)
	}
	direct, err := tls.Dial("tcp", s.AddrTLS(), &tls.Config{ServerName: "capulet.lit", RootCAs: s.CertPool()})
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	if _, err := xmpp.NewSession(ctx, addr.Domain(), addr, direct, xmpp.Secure, negotiator); err != nil {
		t.Errorf("direct TLS: %v", err)
	}
}

func TestSameResourceReplaces(t *testing.T) {
	s := start(t, loopback.Options{})
	old := client(t, s, "juliet", "balcony").online(0)
	nurse := client(t, s, "nurse", "n")
	client(t, s, "juliet", "balcony").online(0)
	if e := old.ended(); !strings.Contains(e, "conflict") {
		t.Errorf("old stream ended with %q, want conflict", e)
	}
	nurse.send("<message to='juliet@capulet.lit/balcony' type='groupchat' id='m1'/>")
	nurse.silent("error")
}

func TestDownAndUp(t *testing.T) {
	s := start(t, loopback.Options{})
	p := client(t, s, "juliet", "balcony").online(0)
	s.Down()
	p.ended()
	if _, err := login(t, s, "juliet", "x", "pw-juliet"); err == nil {
		t.Error("got in while the server was down")
	}
	s.Up()
	client(t, s, "juliet", "x")
}

func TestStanzaLimits(t *testing.T) {
	for _, tc := range []struct {
		flavour loopback.Flavour
		link    string
		size    int
		end     string // "" = passes
	}{
		{loopback.Prosody13, "c2s", 261_000, ""},
		{loopback.Prosody13, "c2s", 300_000, "policy-violation"},
		{loopback.Ejabberd24, "c2s", 261_944, ""},
		{loopback.Ejabberd24, "c2s", 262_144, "policy-violation"},
		{loopback.Prosody13, "component", 520_000, ""},
		{loopback.Prosody13, "component", 600_000, "not-well-formed"},
		{loopback.Ejabberd24, "component", 4 << 20, ""},
	} {
		t.Run(tc.flavour.String()+" "+tc.link, func(t *testing.T) {
			s := start(t, loopback.Options{Flavour: tc.flavour})
			romeo := client(t, s, "romeo", "orchard").online(0)
			p := client(t, s, "juliet", "balcony")
			if tc.link == "component" {
				p = mustAttach(t, s)
			}
			head := "<message from='" + p.name + "' to='romeo@capulet.lit/orchard'><body>"
			p.send("%s", head+strings.Repeat("x", tc.size-len(head)-len("</body></message>"))+"</body></message>")
			if tc.end == "" {
				if e := romeo.expect("<body>"); len(e.String()) < tc.size-100 {
					t.Errorf("%d of %d bytes arrived", len(e.String()), tc.size)
				}
				return
			}
			if e := p.ended(); !strings.Contains(e, tc.end) {
				t.Errorf("stream ended with %q, want %s", e, tc.end)
			}
			romeo.silent("<body>")
		})
	}
}

func TestShaper(t *testing.T) {
	s := start(t, loopback.Options{C2SRate: 20_000, C2SBurst: 5_000})
	juliet, romeo := client(t, s, "juliet", "b"), client(t, s, "romeo", "o").online(0)
	begin := time.Now()
	juliet.send("<message to='romeo@capulet.lit/o'><body>%s</body></message>", strings.Repeat("x", 15_000))
	romeo.expect("<body>")
	if d := time.Since(begin); d < 300*time.Millisecond {
		t.Errorf("15 kB at 20 kB/s after a burst of 5 kB took %v", d)
	}
}

func TestHostileStreams(t *testing.T) {
	s := start(t, loopback.Options{})
	for _, tc := range []struct{ send, want string }{
		{"<message><body>&undefined;</body></message>", "not-well-formed"},
		{"<message></iq>", "not-well-formed"},
		{"<!DOCTYPE x [<!ENTITY a 'b'>]>", "restricted-xml"},
		{"<message><!-- hi --></message>", "restricted-xml"},
		{"<foo xmlns='jabber:client'/>", "unsupported-stanza-type"},
		{"<message>" + strings.Repeat("<a>", 5000), "not-well-formed"},
	} {
		p := client(t, s, "juliet", "balcony")
		p.send("%s", tc.send)
		if e := p.ended(); !strings.Contains(e, tc.want) {
			t.Errorf("%.60s: stream ended with %q, want %s", tc.send, e, tc.want)
		}
	}
}
