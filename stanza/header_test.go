// SPDX-License-Identifier: Apache-2.0

package stanza

import (
	"strings"
	"testing"

	"github.com/lockstep-im/lockstep/stanza/xmlpull"
)

// TestHostileIQs has what a stranger may send: each has a header that can be
// answered, and each bad payload is one bad-request.
func TestHostileIQs(t *testing.T) {
	const head = `<iq type='set' id='1' from='mallory@example.org/x' to='mls.example.org'>`
	for _, tc := range []struct{ xml, reason string }{
		{head + `text<ping xmlns='urn:xmpp:ping'/></iq>`, "text where none belongs"},
		{head + `<ping xmlns='urn:xmpp:ping'/>text</iq>`, "text where none belongs"},
		{head + `</iq>`, "no payload"},
		{head + `<ping xmlns='urn:xmpp:ping'/><ping xmlns='urn:xmpp:ping'/></iq>`, "2 payloads"},
		{head + "\n <ping xmlns='urn:xmpp:ping'/> </iq>", ""},
		{`<iq type='get' from='mallory@example.org/x'><ping xmlns='urn:xmpp:ping'/></iq>`, "no id"},
		{`<iq id='1'><ping xmlns='urn:xmpp:ping'/></iq>`, "type is"},
		{`<iq id='1' type='SET'><ping xmlns='urn:xmpp:ping'/></iq>`, "type is"},
		{`<iq id='1' type='result'/>`, ""},
		{`<iq id='1' type='result'><a xmlns='u'/><b xmlns='u'/></iq>`, "2 payloads"},
		{`<iq id='1' type='error'><a xmlns='u'/><error type='cancel'/></iq>`, ""},
		{`<iq id='1' type='set' from='☃@example.com' to='a@ex_ample.com'><ping xmlns='urn:xmpp:ping'/></iq>`, ""},
	} {
		var p Parser
		s, err := p.Parse([]byte(tc.xml))
		if err != nil {
			t.Errorf("%s: %v", tc.xml, err)
			continue
		}
		_, err = s.Payload()
		if (err == nil) != (tc.reason == "") || err != nil && !strings.Contains(err.Error(), tc.reason) {
			t.Errorf("%s: %v", tc.xml, err)
		}
		if err == nil {
			continue
		}
		e, ok := AsError(err)
		if !ok || e.Condition != BadRequest {
			t.Errorf("%s: %v", tc.xml, e)
		}
		reply := string(AppendError(nil, &s, e))
		if answered := s.IsRequest(); answered != (reply != "") {
			t.Errorf("%s is answered with %q", tc.xml, reply)
		}
	}
}

func TestParseHeader(t *testing.T) {
	ctx := xmlpull.NewContext(NSComponent)
	for _, tc := range []struct {
		xml  string
		want Header
	}{
		{`<iq type='get' id='a&amp;b' from='a@b' to='c' xml:lang='de'/>`, Header{Kind: IQ, Type: TypeGet, ID: "a&b", From: "a@b", To: "c", Lang: "de"}},
		{`<message xmlns='jabber:client' type='odd'/>`, Header{Kind: Message, Type: "odd"}},
		{`<presence xmlns='jabber:server' type='unavailable'/>`, Header{Kind: Presence, Type: TypeUnavailable}},
		{`<iq xmlns='urn:example'/>`, Header{}},
		{`<features xmlns='http://etherx.jabber.org/streams'/>`, Header{}},
		{`<message xmlns:x='urn:example' x:type='chat' x:from='f'/>`, Header{Kind: Message}},
	} {
		p := NewParser(ctx, xmlpull.Limits{})
		s, err := p.Parse([]byte(tc.xml))
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Header(); got != tc.want {
			t.Errorf("%s: %+v", tc.xml, got)
		}
		if tc.want.Kind == Other {
			continue
		}
		// What Header.Append writes is read the same.
		s, err = p.Parse(tc.want.Append(nil))
		if err != nil || s.Header() != tc.want {
			t.Errorf("%s: %+v, %v", tc.want.Append(nil), s.Header(), err)
		}
	}
}

func TestReplies(t *testing.T) {
	var p Parser
	s, err := p.Parse([]byte(`<iq type='get' id='&lt;1&gt;' from='a&apos;@b/c' to='d@e'><ping xmlns='urn:xmpp:ping'/></iq>`))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(AppendResult(nil, &s, nil)), `<iq type='result' id='&lt;1&gt;' from='d@e' to='a&apos;@b/c'/>`; got != want {
		t.Errorf("got %s", got)
	}
	if got, want := string(AppendResult(nil, &s, &Ready{Device: devA})), `<iq type='result' id='&lt;1&gt;' from='d@e' to='a&apos;@b/c'><ready xmlns='urn:xmpp:mls:ds:0' device='5d41402abc4b2a76b9719d911017c592'/></iq>`; got != want {
		t.Errorf("got %s", got)
	}
	got := string(AppendError(nil, &s, NewError(ServiceUnavailable, "")))
	if want := `<iq type='error' id='&lt;1&gt;' from='d@e' to='a&apos;@b/c'><error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>`; got != want {
		t.Errorf("got %s", got)
	}
	if strings.Contains(got, "ping") {
		t.Error("the request is echoed")
	}
	for _, silent := range []string{
		`<iq type='error' id='1'/>`, `<iq type='result' id='1'/>`, `<message type='error'/>`, `<presence type='error'/>`, `<x xmlns='u'/>`,
	} {
		s, err := p.Parse([]byte(silent))
		if err != nil {
			t.Fatal(err)
		}
		if got := AppendError([]byte("x"), &s, NewError(Conflict, "")); string(got) != "x" {
			t.Errorf("%s is answered with %s", silent, got)
		}
	}
}

func TestStanzaErr(t *testing.T) {
	var p Parser
	for _, tc := range []struct {
		xml  string
		want Condition
	}{
		{`<message/>`, ""},
		{`<message><error type='cancel'/></message>`, ""},
		{`<message type='error'/>`, UndefinedCondition},
		{`<message type='error'><body>x</body><error type='auth'><forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>`, Forbidden},
	} {
		s, err := p.Parse([]byte(tc.xml))
		if err != nil {
			t.Fatal(err)
		}
		e := s.Err()
		if (e == nil) != (tc.want == "") || e != nil && e.Condition != tc.want {
			t.Errorf("%s: %v", tc.xml, e)
		}
	}
}

func TestBodyOfStanza(t *testing.T) {
	p := NewParser(xmlpull.NewContext(NSComponent), xmlpull.Limits{})
	s, err := p.Parse([]byte(`<message><body xmlns='urn:example'>no</body><body>yes</body></message>`))
	if err != nil || string(s.Body()) != "yes" {
		t.Errorf("%q, %v", s.Body(), err)
	}
	s, err = p.Parse([]byte(`<message/>`))
	if err != nil || s.Body() != nil {
		t.Errorf("%q, %v", s.Body(), err)
	}
}

func TestParseHead(t *testing.T) {
	for _, tc := range []struct {
		head string
		want Header
		ok   bool
	}{
		{`<iq type='set' id='1' from='a@b/c' to='d'><publish xmlns='urn:xmpp:mls:kp:0'><key-pack`, Header{Kind: IQ, Type: TypeSet, ID: "1", From: "a@b/c", To: "d"}, true},
		{`<message id='2'/>`, Header{Kind: Message, ID: "2"}, true},
		{`<message id='2' from='`, Header{}, false},
		{``, Header{}, false},
		{`text`, Header{}, false},
	} {
		s, err := ParseHead([]byte(tc.head), nil)
		if (err == nil) != tc.ok || s.Header() != tc.want || s.Element.Valid() {
			t.Errorf("%s: %+v, %v", tc.head, s.Header(), err)
		}
	}
}

func TestTemplate(t *testing.T) {
	h := Header{Kind: Message, Type: TypeGroupchat, ID: "1", From: "ops@mls.example", Lang: "en", To: "ignored"}
	tmpl := NewTemplate(h, &MLS{Bytes: blob}, nil, &Delivery{Seq: 1, Epoch: 2, Kind: EntryCommit, Chain: refA})
	for _, to := range []string{"bob@example.net/x", `o'neil@example.net/"<&>`, "a@b/\n"} {
		got := tmpl.AppendTo(nil, to)
		h.To = to
		want := h.Append(nil, &MLS{Bytes: blob}, &Delivery{Seq: 1, Epoch: 2, Kind: EntryCommit, Chain: refA})
		a, err := xmlpull.Canonical(got, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := xmlpull.Canonical(want, nil)
		if err != nil {
			t.Fatal(err)
		}
		if string(a) != string(b) {
			t.Errorf("got %s\nwant %s", got, want)
		}
		prefix, addr, suffix := tmpl.Parts([]byte("scratch"), to)
		if parts := string(prefix) + string(addr) + string(suffix); parts != string(got) {
			t.Errorf("parts are %s", parts)
		}
		var p Parser
		s, err := p.Parse(got)
		if err != nil || string(s.To) != to {
			t.Errorf("to is %q, %v", s.To, err)
		}
	}
	if tmpl.Len() != len(tmpl.AppendTo(nil, "")) {
		t.Errorf("Len is %d", tmpl.Len())
	}
}
