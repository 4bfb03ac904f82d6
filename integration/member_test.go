// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/integration/play"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// A member is a device that runs package client with an SQLite store: the bot or the
// person of a scenario. "legacy" verbs go to a plain client of the same account.
//
//	online, ready, offline (in order), kill (at once, as a crash), forget (loses its state),
//	backup, restore (of its state), suite N|pq, suites N..., service SERVER, keypackages N
//	create GROUP [open] [private] [suite=N], invite, remove, leave, join, destroy
//	role GROUP WHO ROLE, ban GROUP WHO, rename, update, churn GROUP N, reinit GROUP suite=N
//	send, say GROUP N "text" (N numbered messages), sendlong GROUP BYTES, reply, react,
//	sendfile GROUP BYTES NAME, download GROUP NAME BYTES
//	members GROUP WHO..., size GROUP N, devices GROUP N, insuite GROUP N,
//	ordered GROUP N "text", trust and distrust WHO, legacy VERB ...
type member struct {
	part    *play.Part
	journal play.Journal

	mu       sync.Mutex
	c        *client.Client
	stop     context.CancelFunc
	done     chan struct{}
	files    map[string]*client.File
	messages []*client.Message
	suite    mls.CipherSuite
	suites   []mls.CipherSuite
	service  string
	stock    int
	legacy   play.Actor
	closing  bool
}

func newMember(part *play.Part) (play.Actor, error) {
	return &member{part: part, files: make(map[string]*client.File)}, nil
}

// Journal holds "message" entries and the client's events by their names.
func (m *member) Journal() *play.Journal { return &m.journal }

func (m *member) Close() error {
	m.mu.Lock()
	m.closing = true
	legacy := m.legacy
	m.mu.Unlock()
	var err error
	if legacy != nil {
		err = legacy.Close()
	}
	return errors.Join(err, m.offline())
}

func (m *member) storePath() string { return filepath.Join(m.part.Dir, "client.db") }

// start makes the client and lets it run; it does not wait for anything.
func (m *member) start() (*client.Client, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.c != nil {
		return m.c, nil
	}
	c, err := client.New(client.Config{
		JID: m.part.JID(), Password: m.part.Password,
		Dial: func(ctx context.Context) (net.Conn, bool, error) {
			nc, err := m.part.Dial(ctx)
			return nc, true, err
		},
		TLS: m.part.Host.TLS(), StorePath: m.storePath(), Service: m.service, CipherSuite: m.suite, Suites: m.suites, KeyPackages: m.stock,
		UpdateInterval: -1, UpdateMessages: -1, Log: logger(m.part.Name),
	})
	if err != nil {
		return nil, err
	}
	c.OnMessage(func(_ context.Context, msg *client.Message) { m.told(msg) })
	c.OnEvent(func(_ context.Context, e client.Event) { m.happened(e) })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	m.c, m.stop, m.done = c, cancel, done
	go func() {
		defer close(done)
		if err := c.Run(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, client.ErrClosed) {
			m.journal.Add(play.Entry{Kind: "ended", Text: err.Error()})
		}
	}()
	return c, nil
}

// ready returns the client when it is online and has caught up.
func (m *member) ready(ctx context.Context) (*client.Client, error) {
	c, err := m.start()
	if err != nil {
		return nil, err
	}
	if err := c.Ready(ctx); err != nil {
		return nil, fmt.Errorf("getting ready: %w", err)
	}
	return c, nil
}

func (m *member) offline() error {
	m.mu.Lock()
	c, stop, done := m.c, m.stop, m.done
	m.c = nil
	m.mu.Unlock()
	if c == nil {
		return nil
	}
	err := c.Close()
	stop()
	<-done
	return err
}

func (m *member) group(ctx context.Context, c *client.Client, name string) (*client.Group, error) {
	jid, ok := m.part.Play.Group(name)
	if !ok {
		return nil, fmt.Errorf("no group %q", name)
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	for {
		if g, ok := c.Group(jid); ok {
			return g, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("not in group %q", name)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// State is where this device stands in a group.
func (m *member) State(jid string) (string, error) {
	c, err := m.start()
	if err != nil {
		return "", err
	}
	g, ok := c.Group(jid)
	if !ok {
		return "", errors.New("not in the group")
	}
	auth, err := g.EpochAuthenticator()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(auth)
	return fmt.Sprintf("epoch %d authenticator %s", g.Epoch(), hex.EncodeToString(sum[:6])), nil
}

var arity = map[string]int{"suite": 1, "suites": 1, "service": 1, "keypackages": 1, "create": 1, "invite": 2, "remove": 2, "leave": 1, "join": 1,
	"destroy": 1, "role": 3, "ban": 2, "rename": 2, "update": 1, "rejoin": 1, "churn": 2, "reinit": 2, "send": 2, "say": 3, "sendlong": 2, "reply": 3,
	"react": 3, "sendfile": 3, "download": 3, "members": 2, "size": 2, "devices": 2, "insuite": 2, "ordered": 3, "trust": 1, "distrust": 1, "legacy": 1}

// Do plays a verb.
func (m *member) Do(ctx context.Context, verb string, args []string) error {
	if len(args) < arity[verb] {
		return fmt.Errorf("%s wants %d arguments", verb, arity[verb])
	}
	switch verb {
	case "online", "ready":
		_, err := m.ready(ctx)
		return err
	case "offline":
		return m.offline()
	case "kill": // the link breaks first, so that nothing is said on the way out
		m.part.Tap.Cut()
		return m.offline()
	case "forget":
		return errors.Join(m.offline(), m.eachFile(os.Remove))
	case "backup":
		return m.eachFile(func(f string) error { return copyFile(f, f+".backup") })
	case "restore":
		return m.eachFile(func(f string) error { return copyFile(f+".backup", f) })
	case "suite":
		s, err := suite(args[0])
		m.suite = s
		return err
	case "suites":
		m.suites = nil
		for _, a := range args {
			s, err := suite(a)
			if err != nil {
				return err
			}
			m.suites = append(m.suites, s)
		}
		return nil
	case "service":
		h := m.part.Play.Hosts[args[0]]
		if h == nil {
			return fmt.Errorf("no server %q", args[0])
		}
		m.service, _ = h.Component()
		return nil
	case "keypackages":
		n, err := strconv.Atoi(args[0])
		m.stock = n
		return err
	case "legacy":
		return m.legacyDo(ctx, args)
	case "ordered":
		return m.ordered(ctx, args)
	}
	c, err := m.ready(ctx)
	if err != nil {
		return err
	}
	switch verb {
	case "create":
		return m.create(ctx, c, args)
	case "join":
		jid, ok := m.part.Play.Group(args[0])
		if !ok {
			return fmt.Errorf("no group %q", args[0])
		}
		_, err := c.Join(ctx, jid)
		return err
	case "trust", "distrust":
		return m.judge(ctx, c, verb, args[0])
	}
	if len(args) == 0 {
		return fmt.Errorf("a member: %w %q", play.ErrVerb, verb)
	}
	g, err := m.group(ctx, c, args[0])
	if err != nil {
		return err
	}
	return m.inGroup(ctx, c, g, verb, args[1:])
}

func (m *member) create(ctx context.Context, c *client.Client, args []string) error {
	o := &client.GroupOptions{Local: args[0]}
	for _, x := range args[1:] {
		switch {
		case x == "open":
			p := groupdata.DefaultPolicy()
			p.ExternalJoin = groupdata.AnyoneJoins
			o.Policy = &p
		case x == "private":
			o.PrivateHandshakes = true
		default:
			return fmt.Errorf("create: what is %q?", x)
		}
	}
	g, err := c.CreateGroup(ctx, args[0], o)
	if err != nil {
		return err
	}
	m.part.Play.SetGroup(args[0], g.JID())
	return nil
}

func (m *member) inGroup(ctx context.Context, c *client.Client, g *client.Group, verb string, args []string) error {
	number := func(i int) int {
		n, err := strconv.Atoi(args[i])
		if err != nil {
			n = -1
		}
		return n
	}
	switch verb {
	case "invite":
		jids, err := m.part.Play.JIDs(args)
		if err != nil {
			return err
		}
		for len(jids) > 0 { // a claim holds so many and no more
			n := min(len(jids), 100)
			res, err := g.Invite(ctx, jids[:n]...)
			if res != nil {
				for _, u := range res.Failed() {
					err = errors.Join(err, fmt.Errorf("%s: %s %s", m.part.Play.RoleOf(u.JID), u.Status, u.Reason))
				}
			}
			if err != nil {
				return err
			}
			jids = jids[n:]
		}
		return nil
	case "remove":
		jids, err := m.part.Play.JIDs(args)
		if err != nil {
			return err
		}
		return g.Remove(ctx, jids...)
	case "leave":
		return g.Leave(ctx, true)
	case "destroy":
		return g.Destroy(ctx, strings.Join(args, " "), "")
	case "role", "ban":
		jids, err := m.part.Play.JIDs(args[:1])
		if err != nil {
			return err
		}
		role := groupdata.Outcast
		if verb == "role" {
			if role, err = groupdata.ParseRole(args[1]); err != nil {
				return err
			}
		}
		return g.SetRole(ctx, jids[0], role)
	case "rename":
		return g.Rename(ctx, args[0])
	case "update":
		return g.UpdateKeys(ctx)
	case "rejoin":
		return g.Rejoin(ctx)
	case "churn":
		for range number(0) {
			if err := g.UpdateKeys(ctx); err != nil {
				return err
			}
			time.Sleep(time.Duration(rand.IntN(10)) * time.Millisecond)
		}
		return nil
	case "reinit":
		s, err := suite(strings.TrimPrefix(args[0], "suite="))
		if err != nil {
			return err
		}
		return g.ReInit(ctx, s)
	case "send":
		_, err := g.Send(ctx, args[0])
		return err
	case "say":
		for i := range number(0) {
			if _, err := g.Send(ctx, fmt.Sprintf("%s %d", args[1], i+1)); err != nil {
				return fmt.Errorf("message %d: %w", i+1, err)
			}
		}
		return nil
	case "sendlong":
		text := fmt.Sprintf("long %d ", number(0))
		_, err := g.Send(ctx, text+strings.Repeat("x", number(0)-len(text)))
		return err
	case "reply", "react":
		msg := m.find(args[0])
		if msg == nil {
			return fmt.Errorf("no message %q to answer", args[0])
		}
		var err error
		if verb == "reply" {
			_, err = g.Reply(ctx, msg, args[1])
		} else {
			_, err = g.React(ctx, msg, args[1])
		}
		return err
	case "sendfile":
		_, err := g.UploadAndSend(ctx, args[1], bytes.NewReader(content(number(0))), "a file")
		return err
	case "download":
		m.mu.Lock()
		f := m.files[args[0]]
		m.mu.Unlock()
		if f == nil {
			return fmt.Errorf("no file %q came", args[0])
		}
		b, err := c.Download(ctx, f, 0, nil)
		if err != nil {
			return err
		}
		if !bytes.Equal(b, content(number(1))) {
			return fmt.Errorf("%d bytes came, and they are not those that were sent", len(b))
		}
		return nil
	}
	return m.look(ctx, g, verb, args)
}

// look checks what the device knows of a group, waiting until it does.
func (m *member) look(ctx context.Context, g *client.Group, verb string, args []string) error {
	ctx, cancel := context.WithTimeout(ctx, play.Patience)
	defer cancel()
	for {
		err := m.looked(g, verb, args)
		if err == nil || errors.Is(err, play.ErrVerb) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (m *member) looked(g *client.Group, verb string, args []string) error {
	list, err := g.Members()
	if err != nil {
		return err
	}
	switch verb {
	case "members":
		want, err := m.part.Play.JIDs(args)
		if err != nil {
			return err
		}
		var got []string
		for _, x := range list {
			if !slices.Contains(got, x.JID) {
				got = append(got, x.JID)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			return fmt.Errorf("members are %v, want %v", got, want)
		}
	case "size", "devices":
		if strconv.Itoa(len(list)) != args[0] {
			return fmt.Errorf("%d devices, want %s", len(list), args[0])
		}
	case "insuite":
		if s := strconv.Itoa(int(g.CipherSuite())); s != args[0] {
			return fmt.Errorf("suite %s, want %s", s, args[0])
		}
	default:
		return fmt.Errorf("a member: %w %q", play.ErrVerb, verb)
	}
	return nil
}

// ordered: the N numbered messages came once each, in order.
func (m *member) ordered(ctx context.Context, args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	last := []string{fmt.Sprintf("%s %d", args[2], n)}
	for end := time.Now().Add(play.Patience); m.journal.Count("message", args[0], last) == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) || ctx.Err() != nil {
			return fmt.Errorf("%q did not come", last[0])
		}
	}
	next := 1
	for _, t := range m.journal.Texts("message", args[0]) {
		_, body, _ := strings.Cut(t, ": ")
		if rest, ok := strings.CutPrefix(body, args[2]+" "); ok {
			if rest != strconv.Itoa(next) {
				return fmt.Errorf("after %q %d came %q", args[2], next-1, body)
			}
			next++
		}
	}
	if next != n+1 {
		return fmt.Errorf("%d of %d came", next-1, n)
	}
	return nil
}

func (m *member) judge(ctx context.Context, c *client.Client, verb, who string) error {
	a, err := m.part.Play.Actor(who)
	if err != nil {
		return err
	}
	other, ok := a.(*member)
	if !ok {
		return fmt.Errorf("%s has no key", who)
	}
	oc, err := other.start()
	if err != nil {
		return err
	}
	t := client.Verified
	if verb == "distrust" {
		t = client.Distrusted
	}
	return c.SetTrust(ctx, other.part.JID(), oc.Fingerprint(), t)
}

func (m *member) legacyDo(ctx context.Context, args []string) error {
	m.mu.Lock()
	if m.legacy == nil {
		part := *m.part
		part.Name = m.part.Role + "/old"
		part.Tap = play.NewTap(part.Name, m.part.Play.Log)
		a, err := play.NewPlain(&part)
		if err != nil {
			m.mu.Unlock()
			return err
		}
		m.legacy = a
	}
	l := m.legacy
	m.mu.Unlock()
	return m.part.Play.Perform(ctx, l, args[0], args[1:])
}

func (m *member) told(msg *client.Message) {
	role := m.part.Play.RoleOf(msg.Sender.JID)
	text := role + ": " + msg.Body
	if len(text) > 500 {
		text = fmt.Sprintf("%s… (%d bytes)", text[:500], len(text))
	}
	if msg.ReplyTo != nil {
		text += " (reply)"
	}
	for _, r := range msg.Reactions {
		text += " " + r
	}
	m.mu.Lock()
	m.messages = append(m.messages, msg)
	for i := range msg.Files {
		f := msg.Files[i]
		m.files[f.Name] = &f
		text += fmt.Sprintf(" file %s %d", f.Name, f.Size)
	}
	m.mu.Unlock()
	m.journal.Add(play.Entry{Kind: "message", Group: m.part.Play.GroupName(msg.Group.JID()), Text: text})
}

// find is the message whose line holds the text.
func (m *member) find(text string) *client.Message {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, msg := range m.messages {
		if strings.Contains(m.part.Play.RoleOf(msg.Sender.JID)+": "+msg.Body, text) {
			return msg
		}
	}
	return nil
}

func (m *member) happened(e client.Event) {
	name := func(w client.Who) string { return m.part.Play.RoleOf(w.JID) }
	names := func(list []client.Who) string {
		var out []string
		for _, w := range list {
			out = append(out, name(w))
		}
		return strings.Join(out, ", ")
	}
	text := ""
	switch e := e.(type) {
	case *client.Joined:
		text = "by " + name(e.By)
	case *client.Removed:
		text = "by " + name(e.By)
	case *client.MembersChanged:
		text = "by " + name(e.By)
		if len(e.Added) > 0 {
			text += " added " + names(e.Added)
		}
		if len(e.Removed) > 0 {
			text += " removed " + names(e.Removed)
		}
	case *client.RoleChanged:
		text = fmt.Sprintf("%s is %s, was %s, by %s", m.part.Play.RoleOf(e.JID), e.New, e.Old, name(e.By))
	case *client.Renamed:
		text = e.New + " by " + name(e.By)
	case *client.NewDevice:
		text = name(e.Device)
		if e.Own {
			text += " own"
		}
	case *client.Rejoined:
		text = e.Reason
	case *client.Undecryptable:
		text = e.Reason
	case *client.ForkDetected:
		text = e.Reason
	case *client.RollbackDetected:
		text = e.Reason
	case *client.Misbehaved:
		text = e.Reason
	case *client.Offline:
		if e.Err != nil {
			text = e.Err.Error()
		}
	case *client.Online:
		text = e.JID
	case *client.Reinitialised:
		text = fmt.Sprintf("from %d to %d", e.Old, e.New)
		if e.Proven {
			text += " proven"
		}
	case *client.ChangeFailed:
		text = e.Change + ": " + e.Reason
	case *client.HistoryLost:
		text = fmt.Sprintf("%d to %d", e.From, e.To)
	}
	m.journal.Add(play.Entry{Kind: client.EventName(e), Group: m.part.Play.GroupName(e.Meta().Group), Text: text})
}

// eachFile does something with the files of the store.
func (m *member) eachFile(f func(string) error) error {
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := f(m.storePath() + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// copyFile makes dst what src is, or absent when src is.
func copyFile(src, dst string) error {
	in, err := os.Open(src)
	if errors.Is(err, os.ErrNotExist) {
		return os.Remove(dst)
	}
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// content is the same bytes for the same size, and looks like nothing else.
func content(n int) []byte {
	b := make([]byte, max(n, 0))
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

func suite(s string) (mls.CipherSuite, error) {
	if s == "pq" {
		for _, x := range mls.AllCipherSuites() {
			if x > 7 {
				return x, nil
			}
		}
		return 0, errors.New("mls has no post-quantum suite")
	}
	n, err := strconv.ParseUint(s, 0, 16)
	return mls.CipherSuite(n), err
}

// logger shows what clients and services log when LOCKSTEP_TEST_VERBOSE=1.
func logger(name string) *slog.Logger {
	if os.Getenv("LOCKSTEP_TEST_VERBOSE") != "1" {
		return nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("actor", name)
}
