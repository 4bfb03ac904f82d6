// SPDX-License-Identifier: Apache-2.0

// Command adopt is a bot that speaks XMPP with mellium already, and gets
// encrypted groups by three lines: New, RunSession, and Handler around its mux.
// Everything else of the session stays its own.
package main

import (
	"context"
	"crypto/tls"
	"encoding/xml"
	"fmt"
	"log"
	"net"

	"mellium.im/sasl"
	"mellium.im/xmlstream"
	"mellium.im/xmpp"
	"mellium.im/xmpp/dial"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/mux"
	"mellium.im/xmpp/stanza"

	"github.com/lockstep-im/lockstep/client"
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	cfg, err := client.EnvConfig()
	if err != nil {
		return err
	}
	session, err := login(ctx, &cfg) // as the bot has always done
	if err != nil {
		return err
	}
	defer session.Close()
	if err := session.Send(ctx, stanza.Presence{Type: stanza.AvailablePresence}.Wrap(nil)); err != nil {
		return err
	}

	groups, err := client.New(cfg)
	if err != nil {
		return err
	}
	defer groups.Close()
	groups.OnMessage(func(ctx context.Context, m *client.Message) {
		if m.Body != "" && !m.Own {
			m.Reply(ctx, "encrypted: "+m.Body)
		}
	})
	go groups.RunSession(ctx, session)

	m := mux.New(stanza.NSClient, mux.MessageFunc(stanza.ChatMessage, xml.Name{Local: "body"}, plain))
	return session.Serve(groups.Handler(m))
}

// plain answers ordinary messages, as the bot has always done.
func plain(msg stanza.Message, t xmlstream.TokenReadEncoder) error {
	var in struct {
		Body string `xml:"body"`
	}
	if err := xml.NewTokenDecoder(t).Decode(&in); err != nil {
		return nil
	}
	_, err := xmlstream.Copy(t, stanza.Message{To: msg.From, Type: stanza.ChatMessage}.Wrap(
		xmlstream.Wrap(xmlstream.Token(xml.CharData("plain: "+in.Body)), xml.StartElement{Name: xml.Name{Local: "body"}})))
	return err
}

func login(ctx context.Context, cfg *client.Config) (*xmpp.Session, error) {
	j, err := jid.Parse(cfg.JID)
	if err != nil {
		return nil, err
	}
	tlsConfig := &tls.Config{ServerName: j.Domainpart(), MinVersion: tls.VersionTLS12}
	if cfg.TLS != nil {
		tlsConfig.RootCAs = cfg.TLS.RootCAs
	}
	var conn net.Conn
	if cfg.Server != "" {
		conn, err = net.Dial("tcp", cfg.Server)
	} else {
		conn, err = (&dial.Dialer{NoTLS: true}).Dial(ctx, "tcp", j)
	}
	if err != nil {
		return nil, fmt.Errorf("dialing: %w", err)
	}
	return xmpp.NewClientSession(ctx, j, conn, xmpp.StartTLS(tlsConfig),
		xmpp.SASL("", cfg.Password, sasl.ScramSha256, sasl.ScramSha1), xmpp.BindResource())
}
