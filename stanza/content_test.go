// SPDX-License-Identifier: Apache-2.0

package stanza

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestContentRoundTrip(t *testing.T) {
	want := Content{
		Bodies: []Body{{Text: "hello", Lang: "en"}, {Text: "hallo", Lang: "de"}}, OriginID: "01J5",
		Reply: &Reply{ID: "1"}, Correction: &Correction{ID: "2"}, Retraction: &Retraction{ID: "3"},
		Reactions: &Reactions{ID: "4", Reactions: []string{"👋"}}, ReceiptRequest: true, Receipt: &Receipt{ID: "5"},
		Markable: true, Displayed: &Displayed{ID: "6"}, ChatState: StatePaused,
		Files:         []FileSharing{{File: FileMetadata{Name: "a"}, URLs: []string{"https://a.example/"}}, {File: FileMetadata{Name: "b"}}},
		TrustMessages: []TrustMessage{{Usage: "u", Encryption: NSMLS}}, Fallbacks: []Fallback{{For: NSReply, Body: &FallbackRange{End: 3}}},
		Other: []Raw{Raw(`<x xmlns='jabber:x:oob'><url>https://a.example/</url></x>`)},
	}
	got, err := ParseContent(want.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
		t.Error(d)
	}
}

// TestUnknownContentIsUntouched checks that what this package does not know
// reaches the application as a document of its own.
func TestUnknownContentIsUntouched(t *testing.T) {
	env := `<e:envelope xmlns:e='urn:xmpp:sce:1' xmlns:g='http://jabber.org/protocol/geoloc'><e:content>` +
		`<g:geoloc xml:lang='en'><g:lat>45.44</g:lat> <note>x &amp; y</note></g:geoloc>` +
		`<reply xmlns='urn:xmpp:reply:0'/><body xmlns='jabber:client'>one</body>` +
		`<reply xmlns='urn:xmpp:reply:0' id='1'/><reply xmlns='urn:xmpp:reply:0' id='2'/><html xmlns=''/></e:content>` +
		`<e:from jid='a@b'/><e:to jid='c@d'/><e:time stamp='2026-08-20T09:15:00Z'/></e:envelope>`
	var e Envelope
	if err := parseXML(&e, []byte(env)); err != nil {
		t.Fatal(err)
	}
	c, err := ParseContent(e.Content)
	if err != nil {
		t.Fatal(err)
	}
	want := Content{
		Bodies: []Body{{Text: "one"}}, Reply: &Reply{ID: "1"},
		Other: []Raw{
			Raw(`<geoloc xmlns='http://jabber.org/protocol/geoloc' xml:lang='en'><lat>45.44</lat> <note xmlns='jabber:client'>x &amp; y</note></geoloc>`),
			Raw(`<reply xmlns='urn:xmpp:reply:0'/>`),
			Raw(`<reply xmlns='urn:xmpp:reply:0' id='2'/>`),
			Raw(`<html/>`),
		},
	}
	if d := cmp.Diff(want, c, cmpopts.EquateEmpty()); d != "" {
		t.Error(d)
	}
}

func TestParseContentRefusesWhatIsNotXML(t *testing.T) {
	for _, s := range []string{`<a>`, `</content><content>`, `&x;`, "\x00", `<?x?>`} {
		if c, err := ParseContent([]byte(s)); err == nil {
			t.Errorf("%q is %+v", s, c)
		}
	}
	if c, err := ParseContent(nil); err != nil || c.Body() != "" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	e := EncryptedSource{Cipher: CipherAES256GCM, Key: []byte("swordfish-swordfish-swordfish-sw"), IV: []byte("nonce-nonce-")}
	f := FileSharing{Encrypted: []EncryptedSource{e}}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, v := range []any{e, &e, f, &f} {
			s := fmt.Sprintf(format, v)
			if strings.Contains(s, "swordfish") || strings.Contains(s, "[115") || strings.Contains(s, "115 119") || strings.Contains(s, "0x73, 0x77") {
				t.Errorf("%s of %T prints %s", format, v, s)
			}
		}
	}
}

func TestControlPayload(t *testing.T) {
	for _, want := range []Payload{
		&Affiliation{JID: "mallory@example.org", Affiliation: RoleOutcast},
		&Destroyed{Reason: "moved"},
		&ReInitNotice{Previous: []byte("a"), GroupID: []byte("b")},
		ptr(Raw(`<novel xmlns='urn:xmpp:mls:ds:0'/>`)),
	} {
		got, err := NewControl(want).Payload()
		if err != nil {
			t.Errorf("%T: %v", want, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	for _, b := range []string{"", "text", "<a", `<affiliation xmlns='urn:xmpp:mls:ds:0'/>`} {
		if p, err := (&Control{Bytes: []byte(b)}).Payload(); err == nil {
			t.Errorf("%q is %+v", b, p)
		}
	}
}
