// SPDX-License-Identifier: Apache-2.0

package examples

import (
	"context"
	"crypto/tls"
	"encoding/xml"
	"net"
	"testing"
	"time"

	"mellium.im/sasl"
	"mellium.im/xmlstream"
	"mellium.im/xmpp"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"
)

// plainAnswer sends the bot an ordinary chat message from an ordinary client.
func plainAnswer(t *testing.T, s *stage, text, want string) {
	t.Helper()
	s.server.AddAccount("peter", "pass-peter")
	conn, err := net.Dial("tcp", s.server.AddrC2S())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	me := jid.MustParse("peter@" + domain)
	session, err := xmpp.NewClientSession(context.Background(), me, conn,
		xmpp.StartTLS(&tls.Config{RootCAs: s.server.CertPool(), ServerName: domain}), xmpp.SASL("", "pass-peter", sasl.ScramSha1), xmpp.BindResource())
	if err != nil {
		t.Fatal(err)
	}
	body := xmlstream.Wrap(xmlstream.Token(xml.CharData(text)), xml.StartElement{Name: xml.Name{Local: "body"}})
	ctx := context.Background()
	if err := session.Send(ctx, stanza.Presence{Type: stanza.AvailablePresence}.Wrap(nil)); err != nil {
		t.Fatal(err)
	}
	if err := session.Send(ctx, stanza.Message{To: jid.MustParse("nurse@" + domain), Type: stanza.ChatMessage}.Wrap(body)); err != nil {
		t.Fatal(err)
	}
	answer := make(chan string, 10)
	go session.Serve(xmpp.HandlerFunc(func(t xmlstream.TokenReadEncoder, start *xml.StartElement) error {
		if start.Name.Local == "message" {
			var m struct {
				Body string `xml:"body"`
			}
			if xml.NewTokenDecoder(xmlstream.MultiReader(xmlstream.Token(*start), t)).Decode(&m) == nil && m.Body != "" {
				answer <- m.Body
			}
		}
		return nil
	}))
	select {
	case got := <-answer:
		if got != want {
			t.Errorf("the bot answers %q, want %q", got, want)
		}
	case <-time.After(20 * time.Second):
		t.Error("the bot does not answer plain messages any more")
	}
}
