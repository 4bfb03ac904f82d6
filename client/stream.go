// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mellium.im/sasl"
	"mellium.im/xmpp/dial"
	"mellium.im/xmpp/jid"

	"github.com/lockstep-im/lockstep/stanza/xmlpull"
)

// This file opens a client stream: dialing, STARTTLS, SASL, resource binding.
// See RFC 6120, Sections 4 to 7. It negotiates itself, and takes from mellium
// the dialer and the SASL mechanisms, because a mellium session does not end at
// its deadline, binds an empty resource, and gives no access to the bytes of a
// stanza, which the delivery service's hashes and this package's speed need.

const (
	nsStream   = "http://etherx.jabber.org/streams"
	nsTLS      = "urn:ietf:params:xml:ns:xmpp-tls"
	nsSASL     = "urn:ietf:params:xml:ns:xmpp-sasl"
	nsSASLCB   = "urn:xmpp:sasl-cb:0"
	nsBind     = "urn:ietf:params:xml:ns:xmpp-bind"
	nsStanzas  = "urn:ietf:params:xml:ns:xmpp-stanzas"
	nsStreams  = "urn:ietf:params:xml:ns:xmpp-streams"
	nsClient   = "jabber:client"
	nsLimits   = "urn:xmpp:stream-limits:0"
	maxInbound = 1 << 20 // bytes of one stanza that are taken from the server
)

// dialOptions is what opening a stream takes.
type dialOptions struct {
	jid        jid.JID // bare
	resource   string
	password   string
	addr       string // host:port; empty: SRV records
	directTLS  bool
	plaintext  bool // go on without TLS
	tls        *tls.Config
	noPLUS     bool // leave channel binding out: it failed before and never worked
	needPLUS   bool // it worked before: nothing less will do
	scramOnly  bool // SCRAM worked before: never send the password itself
	timeout    time.Duration
	dialer     func(ctx context.Context) (net.Conn, bool, error) // tests; the bool says the conn is TLS already
	maxInbound int
}

// stream is a negotiated client stream.
type stream struct {
	conn     net.Conn
	split    *xmlpull.Splitter
	context  *xmlpull.Context
	bound    jid.JID // what the server bound: full JID
	mech     string  // SASL mechanism that succeeded
	maxBytes int     // largest stanza the server says it takes; 0 if it does not say

	writeMu sync.Mutex
	lastIn  atomic.Int64 // Unix time in ns of the last bytes from the server
}

// Read reads from the connection and notes that the server lives: at every
// read and not at every stanza, because a large page over a slow line is life
// too.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.conn.Read(p)
	if n > 0 {
		s.lastIn.Store(time.Now().UnixNano())
	}
	return n, err
}

// AuthError says that the server refused the account's credentials.
type AuthError struct {
	// Condition is the SASL condition, such as "not-authorized" or
	// "account-disabled" (RFC 6120 §6.5).
	Condition string
	// Mechanism is the SASL mechanism that was tried.
	Mechanism string
	// Text is what the server says to it; untrusted.
	Text string
}

func (e *AuthError) Error() string {
	s := fmt.Sprintf("client: logging in with %s: the server says %s", e.Mechanism, e.Condition)
	if e.Text != "" {
		s += fmt.Sprintf(" %q", e.Text)
	}
	return s
}

// temporary reports whether a later attempt with the same credentials may work.
func (e *AuthError) temporary() bool { return e.Condition == "temporary-auth-failure" }

// streamError is a stream-level error from the server (RFC 6120 §4.9).
type streamError struct {
	condition, text string
}

func (e *streamError) Error() string {
	if e.text == "" {
		return "the server closed the stream: " + e.condition
	}
	return fmt.Sprintf("the server closed the stream: %s %q", e.condition, e.text)
}

// openStream dials and negotiates. Whatever the server does, it returns when
// ctx ends or the time-out is over, and then leaves no connection behind.
func openStream(ctx context.Context, o *dialOptions) (*stream, error) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	conn, secure, err := dialServer(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("client: connecting to %s: %w", o.jid.Domain(), err)
	}
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	// Closing is the only thing that ends a blocked read for sure.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	s := &stream{conn: conn}
	err = s.negotiate(ctx, o, secure)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		s.conn.Close()
		if ctx.Err() != nil {
			err = fmt.Errorf("%w (%v)", ctx.Err(), err)
		}
		return nil, fmt.Errorf("client: opening a stream to %s: %w", o.jid.Domain(), err)
	}
	s.conn.SetDeadline(time.Time{})
	return s, nil
}

func (o *dialOptions) tlsConfig() *tls.Config {
	cfg := &tls.Config{}
	if o.tls != nil {
		cfg = o.tls.Clone()
	}
	if cfg.ServerName == "" {
		cfg.ServerName = o.jid.Domainpart()
	}
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	return cfg
}

func dialServer(ctx context.Context, o *dialOptions) (conn net.Conn, secure bool, err error) {
	if o.dialer != nil {
		return o.dialer(ctx)
	}
	cfg := o.tlsConfig()
	cfg.NextProtos = []string{"xmpp-client"} // XEP-0368
	nd := net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	switch {
	case o.addr != "" && o.directTLS:
		conn, err = (&tls.Dialer{NetDialer: &nd, Config: cfg}).DialContext(ctx, "tcp", o.addr)
	case o.addr != "":
		conn, err = nd.DialContext(ctx, "tcp", o.addr)
	default:
		// SRV records of both kinds (RFC 6120 §3.2.1, XEP-0368), then the
		// usual ports.
		d := dial.Dialer{Dialer: nd, TLSConfig: cfg}
		conn, err = d.Dial(ctx, "tcp", o.jid)
	}
	if err != nil {
		return nil, false, err
	}
	_, secure = conn.(*tls.Conn)
	return conn, secure, nil
}

func (s *stream) negotiate(ctx context.Context, o *dialOptions, secure bool) error {
	var doc xmlpull.Doc
	features, err := s.restart(&doc, o)
	if err != nil {
		return err
	}
	if !secure {
		if features.Child(nsTLS, "starttls").Valid() || !o.plaintext {
			// Asked for even when it is not offered: RFC 7590 §3.1.
			if err := s.startTLS(ctx, &doc, o); err != nil {
				return err
			}
			if features, err = s.restart(&doc, o); err != nil {
				return err
			}
		}
	}
	if err := s.authenticate(&doc, features, o); err != nil {
		return err
	}
	if features, err = s.restart(&doc, o); err != nil {
		return err
	}
	if l := features.Child(nsLimits, "limits"); l.Valid() {
		fmt.Sscan(string(l.Child(nsLimits, "max-bytes").Text()), &s.maxBytes)
	}
	if !features.Child(nsBind, "bind").Valid() {
		return errors.New("the server offers no resource binding")
	}
	return s.bind(&doc, o)
}

// restart opens the stream on the current connection and reads the features.
func (s *stream) restart(doc *xmlpull.Doc, o *dialOptions) (xmlpull.Element, error) {
	limit := o.maxInbound
	if limit == 0 {
		limit = maxInbound
	}
	s.split = xmlpull.NewSplitter(s, xmlpull.Limits{MaxBytes: limit})
	var b []byte
	b = append(b, "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='"+nsStream+"' version='1.0'"...)
	b = xmlpull.AppendAttr(b, "to", o.jid.Domainpart())
	b = append(b, '>')
	if _, err := s.conn.Write(b); err != nil {
		return xmlpull.Element{}, err
	}
	h, err := s.split.Open()
	if err != nil {
		return xmlpull.Element{}, err
	}
	if h.Space != nsStream || h.Local != "stream" {
		return xmlpull.Element{}, fmt.Errorf("the peer does not speak XMPP: it opened with %q", h.Local)
	}
	s.context = h.Context
	el, err := s.next(doc)
	if err != nil {
		return xmlpull.Element{}, err
	}
	if !el.Is(nsStream, "features") {
		return xmlpull.Element{}, fmt.Errorf("expected stream features, got %q", el.Local())
	}
	return el, nil
}

// next reads one element during the negotiation.
func (s *stream) next(doc *xmlpull.Doc) (xmlpull.Element, error) {
	raw, err := s.split.Next()
	if err != nil {
		return xmlpull.Element{}, err
	}
	el, err := doc.Parse(raw, s.context)
	if err != nil {
		return xmlpull.Element{}, err
	}
	if el.Is(nsStream, "error") {
		return xmlpull.Element{}, parseStreamError(el)
	}
	return el, nil
}

func parseStreamError(el xmlpull.Element) error {
	e := &streamError{condition: "undefined-condition"}
	for c := el.First(); c.Valid(); c = c.Next() {
		if string(c.Space()) != nsStreams {
			continue
		}
		if string(c.Local()) == "text" {
			e.text = string(c.Text())
		} else {
			e.condition = string(c.Local())
		}
	}
	return e
}

func (s *stream) startTLS(ctx context.Context, doc *xmlpull.Doc, o *dialOptions) error {
	if _, err := io.WriteString(s.conn, "<starttls xmlns='"+nsTLS+"'/>"); err != nil {
		return err
	}
	el, err := s.next(doc)
	if err != nil {
		return fmt.Errorf("asking for TLS: %w", err)
	}
	if !el.Is(nsTLS, "proceed") {
		return errors.New("the server refuses TLS; set AllowPlaintext only for a server on this machine")
	}
	if len(s.split.Buffered()) != 0 {
		// Clear text after <proceed/> would be read as if it had come over
		// TLS: the STARTTLS injection of CVE-2011-0411.
		return errors.New("the server, or somebody between, sent clear text after it agreed to TLS")
	}
	c := tls.Client(s.conn, o.tlsConfig())
	if err := c.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("starting TLS: %w", err)
	}
	s.conn = c
	return nil
}

// mechanisms lists what to try, best first, of what the server offers.
func chooseMechanism(offered, bindings []string, hasBindings bool, cs *tls.ConnectionState, o *dialOptions) (sasl.Mechanism, error) {
	// mellium binds to the exporter on TLS 1.3 and to tls-unique below. Servers
	// exist that offer PLUS and then cannot do that type (ejabberd 23.01 on TLS
	// 1.3), so that XEP-0440's list decides.
	plus := false
	if cs != nil && hasBindings && !o.noPLUS {
		kind := "tls-exporter"
		if cs.Version < tls.VersionTLS13 {
			kind = "tls-unique"
		}
		plus = slices.Contains(bindings, kind)
	}
	order := []sasl.Mechanism{}
	if plus {
		order = append(order, sasl.ScramSha256Plus, sasl.ScramSha1Plus)
	}
	if !o.needPLUS {
		order = append(order, sasl.ScramSha256, sasl.ScramSha1)
		if cs != nil && !o.scramOnly || o.plaintext && cs == nil {
			order = append(order, sasl.Plain)
		}
	}
	for _, m := range order {
		if slices.Contains(offered, m.Name) {
			return m, nil
		}
	}
	if o.needPLUS {
		return sasl.Mechanism{}, fmt.Errorf("the server used to bind logins to the TLS channel and now offers only %q: somebody may sit between", offered)
	}
	return sasl.Mechanism{}, fmt.Errorf("no login mechanism in common with the server, which offers %q", offered)
}

func (s *stream) authenticate(doc *xmlpull.Doc, features xmlpull.Element, o *dialOptions) error {
	var offered, bindings []string
	for c := features.Child(nsSASL, "mechanisms").First(); c.Valid(); c = c.Next() {
		if c.Is(nsSASL, "mechanism") {
			offered = append(offered, string(c.Text()))
		}
	}
	cb := features.Child(nsSASLCB, "sasl-channel-binding")
	for c := cb.First(); c.Valid(); c = c.Next() {
		if t, ok := c.Attr("type"); ok && c.Is(nsSASLCB, "channel-binding") {
			bindings = append(bindings, string(t))
		}
	}
	opts := []sasl.Option{
		sasl.Credentials(func() (username, password, identity []byte) {
			return []byte(o.jid.Localpart()), []byte(o.password), nil
		}),
		sasl.RemoteMechanisms(offered...),
	}
	var cs *tls.ConnectionState
	if c, ok := s.conn.(*tls.Conn); ok {
		st := c.ConnectionState()
		cs = &st
		opts = append(opts, sasl.TLSState(st))
	}
	mech, err := chooseMechanism(offered, bindings, cb.Valid(), cs, o)
	if err != nil {
		return err
	}
	s.mech = mech.Name
	n := sasl.NewClient(mech, opts...)
	more, resp, err := n.Step(nil)
	if err != nil {
		return fmt.Errorf("logging in with %s: %w", mech.Name, err)
	}
	send := func(open, end string, data []byte) error {
		text := "="
		if len(data) > 0 {
			text = base64.StdEncoding.EncodeToString(data)
		}
		_, err := io.WriteString(s.conn, open+text+end)
		return err
	}
	if err := send("<auth xmlns='"+nsSASL+"' mechanism='"+mech.Name+"'>", "</auth>", resp); err != nil {
		return err
	}
	for range 8 { // SCRAM takes two
		el, err := s.next(doc)
		if err != nil {
			return fmt.Errorf("logging in with %s: %w", mech.Name, err)
		}
		switch {
		case el.Is(nsSASL, "failure"):
			return authFailure(el, mech.Name)
		case el.Is(nsSASL, "challenge"), el.Is(nsSASL, "success"):
			success := el.Is(nsSASL, "success")
			var challenge []byte
			if text := string(el.Text()); text != "" && text != "=" {
				if challenge, err = base64.StdEncoding.DecodeString(text); err != nil {
					return fmt.Errorf("logging in with %s: the challenge is not base64", mech.Name)
				}
			}
			if more {
				// The last step checks the server's signature: a server that
				// does not know the password cannot send a good one.
				if more, resp, err = n.Step(challenge); err != nil {
					return fmt.Errorf("logging in with %s: %w", mech.Name, err)
				}
			}
			if success {
				if more {
					return fmt.Errorf("logging in with %s: the server ended the exchange before it proved that it knows the password", mech.Name)
				}
				return nil
			}
			if err := send("<response xmlns='"+nsSASL+"'>", "</response>", resp); err != nil {
				return err
			}
		default:
			return fmt.Errorf("logging in with %s: unexpected %q", mech.Name, el.Local())
		}
	}
	return fmt.Errorf("logging in with %s: the server does not come to an end", mech.Name)
}

func authFailure(el xmlpull.Element, mech string) error {
	e := &AuthError{Condition: "not-authorized", Mechanism: mech}
	for c := el.First(); c.Valid(); c = c.Next() {
		if string(c.Local()) == "text" {
			e.Text = string(c.Text())
		} else {
			e.Condition = string(c.Local())
		}
	}
	return e
}

func (s *stream) bind(doc *xmlpull.Doc, o *dialOptions) error {
	b := []byte("<iq type='set' id='bind'><bind xmlns='" + nsBind + "'>")
	if o.resource != "" {
		b = append(b, "<resource>"...)
		b = xmlpull.AppendText(b, o.resource)
		b = append(b, "</resource>"...)
	}
	b = append(b, "</bind></iq>"...)
	if _, err := s.conn.Write(b); err != nil {
		return err
	}
	for {
		el, err := s.next(doc)
		if err != nil {
			return fmt.Errorf("binding a resource: %w", err)
		}
		if id, _ := el.Attr("id"); string(el.Local()) != "iq" || string(id) != "bind" {
			continue
		}
		if t, _ := el.Attr("type"); string(t) != "result" {
			return errors.New("the server refuses to bind a resource: too many connections of this account?")
		}
		text := strings.TrimSpace(string(el.Child(nsBind, "bind").Child(nsBind, "jid").Text()))
		j, err := jid.Parse(text)
		if err != nil {
			return fmt.Errorf("the server bound the address %q: %w", text, err)
		}
		if j.Resourcepart() == "" {
			return fmt.Errorf("the server bound the address %q, which has no resource", text)
		}
		s.bound = j
		return nil
	}
}

// write sends bytes, whole stanzas, or fails and closes the connection: after
// half a stanza nothing else can follow.
func (s *stream) write(b []byte) error {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	// A server that shapes its clients reads some kB a second.
	s.conn.SetWriteDeadline(time.Now().Add(30*time.Second + time.Duration(len(b))*time.Millisecond))
	if _, err := s.conn.Write(b); err != nil {
		s.conn.Close()
		return err
	}
	return nil
}

// close ends the stream politely, without waiting for the server's part.
func (s *stream) close() {
	s.writeMu.Lock()
	s.conn.SetWriteDeadline(time.Now().Add(2 * time.Second))
	io.WriteString(s.conn, "</stream:stream>")
	s.writeMu.Unlock()
	s.conn.Close()
}
