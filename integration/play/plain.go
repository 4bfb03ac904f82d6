// SPDX-License-Identifier: Apache-2.0

package play

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mellium.im/sasl"

	"github.com/lockstep-im/lockstep/integration/loopback"
)

// A Plain is a client that knows nothing of MLS: it logs in, chats, and sends whatever
// stanzas a script holds, good or bad.
type Plain struct {
	hook atomic.Pointer[func(xml []byte) bool]

	part    *Part
	journal Journal

	mu    sync.Mutex
	conn  net.Conn
	full  string
	ended chan struct{} // closed when the stream is over
	asked map[string]chan string
}

// NewPlain makes one. It logs in when it is first told to do something.
func NewPlain(part *Part) (Actor, error) {
	return &Plain{part: part, asked: make(map[string]chan string)}, nil
}

// Journal holds "stanza" entries with each stanza as it came, and "chat", "normal",
// "headline" and "groupchat" entries for messages with a body.
func (c *Plain) Journal() *Journal { return &c.journal }

// Close hangs up.
func (c *Plain) Close() error {
	c.mu.Lock()
	conn, ended := c.conn, c.ended
	c.conn = nil
	c.mu.Unlock()
	if conn == nil {
		return nil
	}
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = conn.Write([]byte("</stream:stream>"))
	conn.Close()
	<-ended
	return nil
}

// Do plays a verb.
func (c *Plain) Do(ctx context.Context, verb string, args []string) error {
	if verb == "logout" {
		return c.Close()
	}
	if verb == "login" {
		if err := c.login(ctx); err != nil {
			return err
		}
		p := "0"
		if len(args) == 2 && args[0] == "priority" {
			p = args[1]
		}
		return c.write("<presence><priority>" + p + "</priority></presence>")
	}
	if err := c.login(ctx); err != nil {
		return err
	}
	need := map[string]int{"chat": 2, "say": 2, "join": 1, "send": 1, "ask": 1, "archive": 1, "insist": 2}
	if len(args) < need[verb] {
		return fmt.Errorf("%s wants %d arguments", verb, need[verb])
	}
	switch verb {
	case "chat":
		to, err := c.part.Play.JIDs(args[:1])
		if err != nil {
			return err
		}
		return c.write(loopback.El("", "message", "type", "chat", "id", newID(), "to", to[0]).
			Add(loopback.El("", "body").AddText(args[1])).String())
	case "insist": // until it was heard: what is said into a partition may be lost
		return c.insist(ctx, args[0], args[1])
	case "join":
		if err := c.write("<presence to='" + c.room(args[0]) + "/" + c.part.Role + "'><x xmlns='http://jabber.org/protocol/muc'/></presence>"); err != nil {
			return err
		}
		_, err := c.journal.Expect(ctx, "stanza", "", []string{"110", c.room(args[0])})
		if err != nil {
			return err
		}
		// A new room is locked on some servers until its owner accepts the defaults.
		_, err = c.ask(ctx, "set", c.room(args[0]), "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'/></query>")
		return err
	case "say":
		return c.write(loopback.El("", "message", "type", "groupchat", "id", newID(), "to", c.room(args[0])).
			Add(loopback.El("", "body").AddText(args[1])).String())
	case "carbons":
		return c.must(ctx, "set", "", "<enable xmlns='urn:xmpp:carbons:2'/>")
	case "alive":
		return c.must(ctx, "get", c.part.Host.Domain(), "<ping xmlns='urn:xmpp:ping'/>")
	case "send":
		x, err := c.stanza(args[0])
		if err != nil {
			return err
		}
		return c.write(x)
	case "ask":
		return c.askFile(ctx, args[0], args[1:])
	case "archive":
		return c.archive(ctx, args[0])
	}
	return fmt.Errorf("a plain client: %w %q", ErrVerb, verb)
}

func (c *Plain) insist(ctx context.Context, role, text string) error {
	a, err := c.part.Play.Actor(role)
	if err != nil {
		return err
	}
	for {
		if err := c.Do(ctx, "chat", []string{role, text}); err != nil {
			return err
		}
		for range 10 {
			if a.Journal().Count("chat", "", []string{text}) > 0 {
				return nil
			}
			select {
			case <-ctx.Done():
				return errors.New("it was not heard")
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
}

func (c *Plain) room(name string) string { return name + "@" + c.part.Host.Rooms() }

func newID() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

// stanza is a file of the script with its names filled in: $juliet is an account's bare
// JID, $me the full JID of this client, $server and $ds domains, $group:NAME a group's JID.
func (c *Plain) stanza(file string) (string, error) {
	x, ok := c.part.Play.Script.Files[file]
	if !ok {
		return "", fmt.Errorf("the script has no part %q", file)
	}
	x = strings.TrimSpace(x)
	domain, _ := c.part.Host.Component()
	p := c.part.Play
	rep := []string{"$me", c.full, "$server", c.part.Host.Domain(), "$ds", domain, "$rooms", c.part.Host.Rooms()}
	p.mu.Lock()
	for name, jid := range p.groups {
		rep = append(rep, "$group:"+name, jid)
	}
	p.mu.Unlock()
	for _, role := range roles {
		if strings.Contains(x, "$"+role) {
			a, err := p.Account(role)
			if err != nil {
				return "", err
			}
			rep = append(rep, "$"+role, a.JID())
		}
	}
	// long and deep payloads: $repeat(N,text)
	for {
		i := strings.Index(x, "$repeat(")
		if i < 0 {
			break
		}
		n, rest, ok := strings.Cut(x[i+len("$repeat("):], ",")
		text, after, ok2 := strings.Cut(rest, ")")
		count, err := strconv.Atoi(n)
		if !ok || !ok2 || err != nil || count < 0 || count*len(text) > 8<<20 {
			return "", fmt.Errorf("%s: bad $repeat(N,text)", file)
		}
		x = x[:i] + strings.Repeat(text, count) + after
	}
	return strings.NewReplacer(rep...).Replace(x), nil
}

// askFile sends an IQ from a file and wants exactly one answer, which holds all the words.
func (c *Plain) askFile(ctx context.Context, file string, words []string) error {
	x, err := c.stanza(file)
	if err != nil {
		return err
	}
	el, err := loopback.ParseElement(x)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	id := el.Attr("id")
	if id == "" {
		return fmt.Errorf("%s: an IQ to ask with has an id", file)
	}
	got := make(chan string, 16)
	c.mu.Lock()
	c.asked[id] = got
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.asked, id)
		c.mu.Unlock()
	}()
	if err := c.write(x); err != nil {
		return err
	}
	answer, err := c.answer(ctx, got)
	if err != nil {
		return err
	}
	for _, w := range words {
		if !strings.Contains(answer, w) {
			return fmt.Errorf("the answer lacks %q: %s", w, answer)
		}
	}
	// A second answer would have come before the answer to what is asked now.
	domain, _ := c.part.Host.Component()
	if _, err := c.ask(ctx, "get", domain, "<ping xmlns='urn:xmpp:ping'/>"); err != nil {
		return fmt.Errorf("after it: %w", err)
	}
	select {
	case second := <-got:
		return fmt.Errorf("a second answer: %s", second)
	default:
		return nil
	}
}

func (c *Plain) answer(ctx context.Context, got <-chan string) (string, error) {
	patience := Patience
	if c.part.Play != nil {
		patience = c.part.Play.patience
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c.mu.Lock()
	ended := c.ended
	c.mu.Unlock()
	select {
	case a := <-got:
		return a, nil
	case <-ended:
		return "", errors.New("the stream ended")
	case <-ctx.Done():
		return "", errors.New("no answer came")
	}
}

// Ask logs in, sends an IQ and returns its answer, whatever it is.
func (c *Plain) Ask(ctx context.Context, typ, to, payload string) (string, error) {
	if err := c.login(ctx); err != nil {
		return "", err
	}
	return c.ask(ctx, typ, to, payload)
}

func (c *Plain) ask(ctx context.Context, typ, to, payload string) (string, error) {
	id := newID()
	got := make(chan string, 1)
	c.mu.Lock()
	c.asked[id] = got
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.asked, id)
		c.mu.Unlock()
	}()
	if to != "" {
		to = " to='" + to + "'"
	}
	if err := c.write("<iq type='" + typ + "' id='" + id + "'" + to + ">" + payload + "</iq>"); err != nil {
		return "", err
	}
	return c.answer(ctx, got)
}

// must is ask for something that is granted.
func (c *Plain) must(ctx context.Context, typ, to, payload string) error {
	a, err := c.ask(ctx, typ, to, payload)
	if err != nil {
		return err
	}
	el, err := loopback.ParseElement(a)
	if err != nil {
		return err
	}
	if el.Attr("type") != "result" {
		return fmt.Errorf("refused: %s", a)
	}
	return nil
}

// archive checks how many messages the user's archive holds (XEP-0313).
func (c *Plain) archive(ctx context.Context, want string) error {
	before := c.journal.Count("stanza", "", []string{"urn:xmpp:mam:2", "forwarded"})
	if err := c.must(ctx, "set", "", "<query xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'><max>50</max></set></query>"); err != nil {
		return err
	}
	if n := c.journal.Count("stanza", "", []string{"urn:xmpp:mam:2", "forwarded"}) - before; strconv.Itoa(n) != want {
		return fmt.Errorf("the archive holds %d messages, want %s", n, want)
	}
	return nil
}

// SetHook lets f see each stanza first; what it takes (true) does not go into the
// journal.
func (c *Plain) SetHook(f func(xml []byte) bool) { c.hook.Store(&f) }

// Write sends XML as it is.
func (c *Plain) Write(x string) error { return c.write(x) }

// JID is the full JID, after the login.
func (c *Plain) JID() string { return c.full }

func (c *Plain) write(x string) error {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn == nil {
		return errors.New("not logged in")
	}
	_ = conn.SetWriteDeadline(time.Now().Add(20 * time.Second))
	_, err := conn.Write([]byte(x))
	return err
}

// login connects and binds, unless it has been done.
func (c *Plain) login(ctx context.Context) error {
	c.mu.Lock()
	if c.conn != nil {
		select {
		case <-c.ended:
		default:
			c.mu.Unlock()
			return nil
		}
	}
	c.mu.Unlock()
	conn, err := c.part.Dial(ctx)
	if err != nil {
		return err
	}
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	cut := newCutter(conn)
	if err := c.negotiate(conn, cut); err != nil {
		conn.Close()
		return fmt.Errorf("logging in: %w", err)
	}
	_ = conn.SetDeadline(time.Time{})
	ended := make(chan struct{})
	c.mu.Lock()
	c.conn, c.ended = conn, ended
	c.mu.Unlock()
	go c.read(cut, ended)
	return nil
}

func (c *Plain) negotiate(conn net.Conn, cut *cutter) error {
	domain := c.part.Host.Domain()
	header := "<?xml version='1.0'?><stream:stream to='" + domain + "' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
	say := func(x string) (string, error) {
		if _, err := conn.Write([]byte(x)); err != nil {
			return "", err
		}
		for {
			b, stanza, err := cut.next()
			if err != nil {
				return "", err
			}
			if stanza {
				return string(b), nil
			}
		}
	}
	features, err := say(header)
	if err != nil {
		return err
	}
	if !strings.Contains(features, ">SCRAM-SHA-1<") {
		return fmt.Errorf("no SCRAM-SHA-1 in %s", features)
	}
	m := sasl.NewClient(sasl.ScramSha1, sasl.Credentials(func() ([]byte, []byte, []byte) {
		return []byte(c.part.User), []byte(c.part.Password), nil
	}))
	_, resp, err := m.Step(nil)
	if err != nil {
		return err
	}
	x := "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-1'>"
	end := "</auth>"
	for {
		a, err := say(x + base64.StdEncoding.EncodeToString(resp) + end)
		if err != nil {
			return err
		}
		el, err := loopback.ParseElement(a)
		if err != nil {
			return err
		}
		data, err := base64.StdEncoding.DecodeString(el.Text())
		if err != nil || el.Name.Local == "failure" {
			return fmt.Errorf("refused: %s", a)
		}
		if _, resp, err = m.Step(data); err != nil {
			return err
		}
		if el.Name.Local == "success" {
			break
		}
		x, end = "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>", "</response>"
	}
	if _, err := say(header); err != nil {
		return err
	}
	_, resource, _ := strings.Cut(c.part.Name, "/")
	if resource == "" {
		resource = "plain"
	}
	a, err := say("<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>" + resource + "</resource></bind></iq>")
	if err != nil {
		return err
	}
	el, err := loopback.ParseElement(a)
	if err != nil {
		return err
	}
	if c.full = el.Find("urn:ietf:params:xml:ns:xmpp-bind", "jid").Text(); c.full == "" {
		return fmt.Errorf("binding: %s", a)
	}
	return nil
}

func (c *Plain) read(cut *cutter, ended chan struct{}) {
	defer close(ended)
	for {
		b, stanza, err := cut.next()
		if err != nil {
			c.journal.Add(Entry{Kind: "offline"})
			return
		}
		if !stanza {
			continue
		}
		if h := c.hook.Load(); h != nil && (*h)(b) {
			continue
		}
		x := string(b)
		c.journal.Add(Entry{Kind: "stanza", Text: x})
		el, err := loopback.ParseElement(x)
		if err != nil {
			c.journal.Add(Entry{Kind: "broken", Text: x})
			continue
		}
		switch el.Name.Local {
		case "message":
			c.message(el)
		case "iq":
			c.iq(el, x)
		}
	}
}

func (c *Plain) message(el *loopback.Element) {
	for _, n := range el.Children() {
		if n.Name.Local == "body" {
			typ := el.Attr("type")
			if typ == "" {
				typ = "normal"
			}
			from, _, _ := strings.Cut(el.Attr("from"), "/")
			if typ == "groupchat" {
				from = el.Attr("from")
			}
			c.journal.Add(Entry{Kind: typ, Text: c.part.Play.RoleOf(from) + ": " + n.Text()})
		}
	}
}

func (c *Plain) iq(el *loopback.Element, x string) {
	switch el.Attr("type") {
	case "result", "error":
		c.mu.Lock()
		got := c.asked[el.Attr("id")]
		c.mu.Unlock()
		if got != nil {
			select {
			case got <- x:
			default:
			}
		}
	case "get", "set": // a client that knows nothing refuses everything (RFC 6120 §8.2.3)
		_ = c.write("<iq type='error' id='" + el.Attr("id") + "' to='" + el.Attr("from") + "'><error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>")
	}
}
