// SPDX-License-Identifier: Apache-2.0

package loopback_test

import (
	"fmt"
	"testing"

	"github.com/lockstep-im/lockstep/integration/loopback"
)

var flavours = []loopback.Flavour{loopback.Prosody13, loopback.Prosody012, loopback.Ejabberd24, loopback.Ejabberd23}

func each(t *testing.T, f func(t *testing.T, fl loopback.Flavour)) {
	for _, fl := range flavours {
		t.Run(fl.String(), func(t *testing.T) { f(t, fl) })
	}
}

func prosody(f loopback.Flavour) bool { return f == loopback.Prosody012 || f == loopback.Prosody13 }

// TestDeliveryOnline: component to a local user with several resources (RFC 6121 §8.5.2).
func TestDeliveryOnline(t *testing.T) {
	each(t, func(t *testing.T, fl loopback.Flavour) {
		s := start(t, loopback.Options{Flavour: fl})
		ds := mustAttach(t, s)
		r1, r2 := client(t, s, "romeo", "r1").online(5), client(t, s, "romeo", "r2").online(5)
		r3, r4 := client(t, s, "romeo", "r3").online(0), client(t, s, "romeo", "r4").online(-1)
		r5 := client(t, s, "romeo", "r5") // no presence
		all := []*peer{r1, r2, r3, r4, r5}
		for _, tc := range []struct {
			typ, to string
			who     string // indexes of those who get it
			bounce  bool
		}{
			{"chat", "", "01", false},
			{"normal", "", "01", false},
			{"headline", "", "012", false},
			{"groupchat", "", "", true},
			{"groupchat", "/r1", "0", false},
			{"groupchat", "/r4", "3", false},
			{"groupchat", "/r5", "4", false},
			{"headline", "/r5", "4", false},
			{"chat", "/r3", "2", false},
			{"chat", "/gone", "01", false},
			{"normal", "/gone", "01", false},
			{"headline", "/gone", "", false},
			{"groupchat", "/gone", "", true},
			{"error", "/gone", "", false},
			{"error", "", "", false},
		} {
			name := tc.typ + " to bare" + tc.to
			ds.send("<message type='%s' id='m' from='group@mls.capulet.lit' to='romeo@capulet.lit%s'><mls xmlns='urn:xmpp:mls:0'>AA==</mls></message>", tc.typ, tc.to)
			bounced := false
			ds.flush(func(e *loopback.Element) {
				bounced = e.Attr("type") == "error" && e.Find("urn:ietf:params:xml:ns:xmpp-stanzas", "service-unavailable") != nil
				if e.Attr("to") != "group@mls.capulet.lit" {
					t.Errorf("%s: bounced to %q", name, e.Attr("to"))
				}
			})
			if bounced != tc.bounce {
				t.Errorf("%s: bounced = %v, want %v", name, bounced, tc.bounce)
			}
			who := ""
			for i, p := range all {
				p.flush(func(e *loopback.Element) {
					if e.Find("urn:xmpp:mls:0", "mls") != nil {
						who += fmt.Sprint(i)
					}
				})
			}
			if who != tc.who {
				t.Errorf("%s: went to %q, want %q", name, who, tc.who)
			}
		}
	})
}

// TestDeliveryOffline: what waits for a user who is away, what is bounced, what vanishes.
func TestDeliveryOffline(t *testing.T) {
	each(t, func(t *testing.T, fl loopback.Flavour) {
		s := start(t, loopback.Options{Flavour: fl})
		ds := mustAttach(t, s)
		for _, tc := range []struct {
			name, typ, to, hint string
			kept, bounced       bool
		}{
			{"chat", "chat", "romeo@capulet.lit", "", true, false},
			{"normal", "normal", "romeo@capulet.lit", "", true, false},
			{"no type", "", "romeo@capulet.lit", "", true, false},
			{"full", "chat", "romeo@capulet.lit/gone", "", true, false},
			{"no-store", "chat", "romeo@capulet.lit", "<no-store xmlns='urn:xmpp:hints'/>", prosody(fl), !prosody(fl)},
			{"headline", "headline", "romeo@capulet.lit", "", false, false},
			{"headline store", "headline", "romeo@capulet.lit", "<store xmlns='urn:xmpp:hints'/>", !prosody(fl), false},
			{"groupchat", "groupchat", "romeo@capulet.lit", "", false, true},
			{"groupchat full", "groupchat", "romeo@capulet.lit/gone", "", false, true},
			{"unknown user", "chat", "tybalt@capulet.lit", "", false, true},
			{"unknown user headline", "headline", "tybalt@capulet.lit", "", false, false},
		} {
			before := s.Offline("romeo")
			typ := ""
			if tc.typ != "" {
				typ = " type='" + tc.typ + "'"
			}
			ds.send("<message%s id='m' from='group@mls.capulet.lit' to='%s'><x xmlns='urn:x'/>%s</message>", typ, tc.to, tc.hint)
			bounced := false
			ds.flush(func(e *loopback.Element) { bounced = e.Attr("type") == "error" })
			if bounced != tc.bounced || (s.Offline("romeo") > before) != tc.kept {
				t.Errorf("%s: bounced %v, kept %v", tc.name, bounced, s.Offline("romeo") > before)
			}
		}
		want := s.Offline("romeo")
		n := 0
		romeo := client(t, s, "romeo", "r").online(0)
		romeo.flush(func(e *loopback.Element) {
			if e.Child("urn:xmpp:delay", "delay") != nil {
				n++
			}
		})
		// online() may already have passed over some of them
		if s.Offline("romeo") != 0 || n > want {
			t.Errorf("%d still kept, %d delivered of %d", s.Offline("romeo"), n, want)
		}
	})
}

func TestOfflineQuota(t *testing.T) {
	each(t, func(t *testing.T, fl loopback.Flavour) {
		s := start(t, loopback.Options{Flavour: fl})
		ds := mustAttach(t, s)
		bounced := 0
		for i := range 130 {
			ds.send("<message id='m%d' type='chat' from='g@mls.capulet.lit' to='romeo@capulet.lit'><body>hi</body></message>", i)
		}
		ds.flush(func(e *loopback.Element) {
			if e.Find("urn:ietf:params:xml:ns:xmpp-stanzas", "resource-constraint") != nil {
				bounced++
			}
		})
		kept, lost := 130, 0
		if !prosody(fl) {
			kept, lost = 100, 30
		}
		if s.Offline("romeo") != kept || bounced != lost {
			t.Errorf("kept %d, bounced %d, want %d and %d", s.Offline("romeo"), bounced, kept, lost)
		}
	})
}

func TestOfflineDelivery(t *testing.T) {
	s := start(t, loopback.Options{})
	juliet := client(t, s, "juliet", "b")
	for i := range 3 {
		juliet.send("<message to='romeo@capulet.lit' type='chat'><body>m%d</body></message>", i)
	}
	juliet.flush(func(*loopback.Element) {})
	romeo := client(t, s, "romeo", "o")
	romeo.send("<presence/>")
	for i := range 3 {
		if e := romeo.expect("<body>"); e.Child("jabber:client", "body").Text() != fmt.Sprintf("m%d", i) {
			t.Errorf("message %d: %s", i, e)
		}
	}
}

func TestCarbons(t *testing.T) {
	s := start(t, loopback.Options{})
	juliet, j2 := client(t, s, "juliet", "b").online(0), client(t, s, "juliet", "b2").online(0)
	romeo, r2 := client(t, s, "romeo", "o").online(1), client(t, s, "romeo", "o2").online(0)
	for _, p := range []*peer{juliet, j2, romeo, r2} {
		p.send("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>")
		p.expect("id='c'", "result")
	}
	for _, tc := range []struct {
		typ, inner   string
		sent, copied bool
	}{
		{"chat", "<body>hi</body>", true, true},
		{"chat", "<x xmlns='urn:x'/>", true, true},
		{"normal", "<body>hi</body>", true, true},
		{"normal", "<x xmlns='urn:x'/>", false, false},
		{"chat", "<body>hi</body><no-copy xmlns='urn:xmpp:hints'/>", false, false},
		{"headline", "<body>hi</body>", false, false},
		{"groupchat", "<body>hi</body>", false, false},
	} {
		juliet.send("<message type='%s' to='romeo@capulet.lit/o'>%s</message>", tc.typ, tc.inner)
		juliet.flush(func(*loopback.Element) {})
		romeo.expect("<message", "type='"+tc.typ+"'")
		found := func(p *peer, word string) (is bool) {
			p.flush(func(e *loopback.Element) {
				if m := e.Find("urn:xmpp:forward:0", "forwarded").Child("jabber:client", "message"); e.Child("urn:xmpp:carbons:2", word) != nil && m.Attr("from") == juliet.name {
					is = true
				}
			})
			return is
		}
		if got := found(j2, "sent"); got != tc.sent {
			t.Errorf("%s %s: sent copy = %v", tc.typ, tc.inner, got)
		}
		if got := found(r2, "received"); got != tc.copied {
			t.Errorf("%s %s: received copy = %v", tc.typ, tc.inner, got)
		}
	}
}

// TestArchive: the archive keeps what servers keep, and nothing of the delivery service.
func TestArchive(t *testing.T) {
	s := start(t, loopback.Options{MAM: true})
	juliet, romeo := client(t, s, "juliet", "b").online(0), client(t, s, "romeo", "o").online(0)
	for i := range 5 {
		juliet.send("<message type='chat' to='romeo@capulet.lit'><body>m%d</body></message>", i)
	}
	for _, x := range []string{"<message type='groupchat' to='romeo@capulet.lit/o'><body>g</body></message>",
		"<message type='chat' to='romeo@capulet.lit'><x xmlns='urn:x'/></message>",
		"<message type='chat' to='romeo@capulet.lit'><body>n</body><no-store xmlns='urn:xmpp:hints'/></message>"} {
		juliet.send("%s", x)
	}
	juliet.flush(func(*loopback.Element) {})
	if a, b := len(s.Archive("juliet")), len(s.Archive("romeo")); a != 5 || b != 5 {
		t.Fatalf("archives hold %d and %d, want 5 and 5", a, b)
	}
	if e := romeo.expect("<body>m0"); e.Child("urn:xmpp:sid:0", "stanza-id").Attr("by") != "romeo@capulet.lit" {
		t.Errorf("no stanza-id: %s", e)
	}
	romeo.flush(func(*loopback.Element) {})
	after := ""
	got := 0
	for range 3 {
		romeo.send("<iq type='set' id='q'><query xmlns='urn:xmpp:mam:2' queryid='f'><set xmlns='http://jabber.org/protocol/rsm'><max>2</max>%s</set></query></iq>", after)
		for {
			e := romeo.expect("urn:xmpp:mam:2")
			if e.Name.Local == "iq" {
				after = "<after>" + e.Find("http://jabber.org/protocol/rsm", "last").Text() + "</after>"
				break
			}
			if b := e.Find("jabber:client", "body").Text(); b != fmt.Sprintf("m%d", got) {
				t.Errorf("result %d is %s", got, b)
			}
			got++
		}
	}
	if got != 5 {
		t.Errorf("%d results, want 5", got)
	}
}
