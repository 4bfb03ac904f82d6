// SPDX-License-Identifier: Apache-2.0

package loopback_test

import (
	"testing"

	"github.com/lockstep-im/lockstep/integration/loopback"
)

func TestDirectedPresence(t *testing.T) {
	s := start(t, loopback.Options{})
	ds := mustAttach(t, s)
	juliet := client(t, s, "juliet", "b")
	juliet.send("<presence to='mls.capulet.lit'><session xmlns='urn:xmpp:mls:ds:0' device='d1'/></presence>")
	ds.expect("<presence", "from='juliet@capulet.lit/b'", "device='d1'")
	s.CutClient("juliet@capulet.lit/b")
	ds.expect("type='unavailable'", "from='juliet@capulet.lit/b'")
	if l := s.Sessions(); len(l) != 0 {
		t.Errorf("sessions left: %v", l)
	}
}

func TestRosterAndSubscription(t *testing.T) {
	s := start(t, loopback.Options{})
	juliet, romeo := client(t, s, "juliet", "b").online(0), client(t, s, "romeo", "o").online(0)
	for _, p := range []*peer{juliet, romeo} {
		p.send("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
		p.expect("id='r'", "result")
	}
	juliet.send("<presence type='subscribe' to='romeo@capulet.lit'/>")
	juliet.expect("jabber:iq:roster", "ask='subscribe'")
	romeo.expect("<presence", "type='subscribe'", "from='juliet@capulet.lit'")
	romeo.send("<presence type='subscribed' to='juliet@capulet.lit'/>")
	romeo.expect("jabber:iq:roster", "subscription='from'")
	juliet.expect("jabber:iq:roster", "subscription='to'")
	juliet.expect("<presence", "from='romeo@capulet.lit/o'")
	romeo.send("<presence><show>away</show></presence>")
	juliet.expect("<show>away</show>")
	s.CutClient(romeo.name)
	juliet.expect("type='unavailable'", "from='romeo@capulet.lit/o'")
	client(t, s, "romeo", "o").online(0)
	juliet.expect("<presence", "from='romeo@capulet.lit/o'")
	juliet.send("<iq type='set' id='rm'><query xmlns='jabber:iq:roster'><item jid='romeo@capulet.lit' subscription='remove'/></query></iq>")
	juliet.expect("jabber:iq:roster", "subscription='remove'")
	juliet.send("<iq type='get' id='r2'><query xmlns='jabber:iq:roster'/></iq>")
	if q := juliet.expect("id='r2'").Child("jabber:iq:roster", "query"); len(q.Children()) != 0 {
		t.Errorf("roster still holds %s", q)
	}
}

func TestPEP(t *testing.T) {
	s := start(t, loopback.Options{})
	juliet, romeo := client(t, s, "juliet", "b").online(0), client(t, s, "romeo", "o").online(0)
	publish := func(node, access, jid string) {
		juliet.send("<iq type='set' id='p'><pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='%s'><item id='current'><ds xmlns='urn:xmpp:mls:ds:0' jid='%s'/></item></publish><publish-options><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'><value>http://jabber.org/protocol/pubsub#publish-options</value></field><field var='pubsub#access_model'><value>%s</value></field><field var='pubsub#persist_items'><value>true</value></field></x></publish-options></pubsub></iq>", node, jid, access)
	}
	items := "<iq type='get' id='i' to='juliet@capulet.lit'><pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='%s'/></pubsub></iq>"
	publish("urn:xmpp:mls:ds:0", "open", "mls.capulet.lit")
	juliet.expect("id='p'", "result")
	romeo.send(items, "urn:xmpp:mls:ds:0")
	romeo.expect("result", "id='current'", "jid='mls.capulet.lit'")
	publish("urn:xmpp:mls:ds:0", "open", "mls.other.example")
	juliet.expect("id='p'", "result")
	romeo.send(items, "urn:xmpp:mls:ds:0")
	if n := len(romeo.expect("mls.other.example").Find("http://jabber.org/protocol/pubsub", "items").Children()); n != 1 {
		t.Errorf("%d items after publishing the same id twice", n)
	}
	publish("urn:xmpp:mls:ds:0", "whitelist", "mls.evil.example")
	juliet.expect("id='p'", "precondition-not-met")
	publish("private", "presence", "x.example")
	juliet.expect("id='p'", "result")
	romeo.send(items, "private")
	romeo.expect("presence-subscription-required")
	romeo.send(items, "nothing")
	romeo.expect("item-not-found")
	romeo.send("<iq type='set' id='x' to='juliet@capulet.lit'><pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='n'><item/></publish></pubsub></iq>")
	romeo.expect("id='x'", "forbidden")
	juliet.send("<iq type='set' id='d'><pubsub xmlns='http://jabber.org/protocol/pubsub#owner'><delete node='private'/></pubsub></iq>")
	juliet.expect("id='d'", "result")
	juliet.send("<iq type='get' id='l' to='juliet@capulet.lit'><query xmlns='http://jabber.org/protocol/disco#items'/></iq>")
	if q := juliet.expect("id='l'"); len(q.First().Children()) != 1 {
		t.Errorf("nodes: %s", q)
	}
}

// TestPEPNotify: a client whose capabilities ask for a node hears of it (XEP-0163 §4).
func TestPEPNotify(t *testing.T) {
	s := start(t, loopback.Options{})
	juliet, second := client(t, s, "juliet", "b").online(0), client(t, s, "juliet", "b2")
	second.send("<presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='urn:n' ver='v'/></presence>")
	q := second.expect("disco#info", "type='get'", "node='urn:n#v'")
	second.send("<iq type='result' id='%s' to='capulet.lit'><query xmlns='http://jabber.org/protocol/disco#info'><feature var='urn:node+notify'/></query></iq>", q.Attr("id"))
	second.flush(func(*loopback.Element) {})
	juliet.send("<iq type='set' id='p'><pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='urn:node'><item id='1'><a xmlns='urn:a'/></item></publish></pubsub></iq>")
	second.expect("pubsub#event", "urn:node", "urn:a")
}

func TestDiscovery(t *testing.T) {
	each(t, func(t *testing.T, fl loopback.Flavour) {
		s := start(t, loopback.Options{Flavour: fl, MUC: true, Upload: true})
		juliet := client(t, s, "juliet", "b")
		juliet.send("<iq type='get' id='d' to='capulet.lit'><query xmlns='http://jabber.org/protocol/disco#items'/></iq>")
		e := juliet.expect("id='d'", "mls.capulet.lit", "rooms.capulet.lit", "upload.capulet.lit")
		if got := holds(e.String(), []string{"multicast.capulet.lit"}); got == prosody(fl) {
			t.Errorf("multicast listed = %v", got)
		}
		juliet.send("<iq type='get' id='e' to='upload.capulet.lit'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
		juliet.expect("id='e'", "urn:xmpp:http:upload:0", "max-file-size")
		juliet.send("<iq type='get' id='f' to='mls.capulet.lit'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
		want := "remote-server-timeout"
		if !prosody(fl) {
			want = "remote-server-not-found"
		}
		juliet.expect("id='f'", "error", want)
	})
}
