// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/component"
	"github.com/lockstep-im/lockstep/component/store/sqlite"
	"github.com/lockstep-im/lockstep/integration/loopback"
	"github.com/lockstep-im/lockstep/mls"
)

const (
	domain   = "capulet.lit"
	dsDomain = "mls.capulet.lit"
)

// world is a server with a delivery service, in this process.
type world struct {
	t      testing.TB
	server *loopback.Server
	dir    string
	mu     sync.Mutex
	stopDS func()
	suites []mls.CipherSuite
}

func logger(name string) *slog.Logger {
	if os.Getenv("LOCKSTEP_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("who", name)
}

type worldOptions struct {
	loopback.Options
	suites []mls.CipherSuite // of the service; nil: all
}

func newWorld(t testing.TB) *world { return newWorldWith(t, nil) }

func newWorldWith(t testing.TB, with func(*worldOptions)) *world {
	t.Helper()
	o := worldOptions{Options: loopback.Options{Domain: domain, Upload: true, WireRecords: 200_000}}
	if with != nil {
		with(&o)
	}
	s, err := loopback.Start(o.Options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	w := &world{t: t, server: s, dir: t.TempDir(), suites: o.suites}
	if err := s.AddComponent(dsDomain, "s3cret"); err != nil {
		t.Fatal(err)
	}
	w.startDS()
	t.Cleanup(w.killDS)
	return w
}

// unhurried lets one account do what a whole server's do.
var unhurried = component.Limits{
	Requests: component.Rate{PerSecond: 1e6, Burst: 1e6}, Send: component.Rate{PerSecond: 1e6, Burst: 1e6},
	Claims: component.Rate{PerSecond: 1e6, Burst: 1e6}, Claimed: component.Rate{PerSecond: 1e6, Burst: 1e6},
	Create:    component.Rate{PerSecond: 1e6, Burst: 1e6},
	MaxGroups: 1e6,
}

// startDS runs the delivery service on its file.
func (w *world) startDS() {
	w.t.Helper()
	st, err := sqlite.Open(context.Background(), filepath.Join(w.dir, "ds.db"), sqlite.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	ds, err := component.New(component.Config{
		Domain: dsDomain, Secret: "s3cret", Store: st, Logger: logger("ds"), NudgeDelay: -1, Limits: unhurried, Suites: w.suites,
		Dial: func(context.Context) (net.Conn, error) { return w.server.DialComponent() },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		ds.Run(ctx)
		st.Close()
	}()
	w.mu.Lock()
	w.stopDS = func() { cancel(); <-done }
	w.mu.Unlock()
	select {
	case <-ds.Ready():
	case <-time.After(patience):
		w.t.Fatal("the delivery service does not come up")
	}
}

func (w *world) killDS() {
	w.mu.Lock()
	stop := w.stopDS
	w.stopDS = nil
	w.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// actor is a client with what it has heard.
type actor struct {
	*client.Client
	t     testing.TB
	w     *world
	name  string
	cfg   client.Config
	stop  func()
	leave func() // disconnects, and does not close

	mu       sync.Mutex
	messages []*client.Message
	events   []client.Event
	heard    chan struct{}
	onMsg    func(ctx context.Context, m *client.Message)
}

// config is how an account connects to the world.
func (w *world) config(name string, st store.Store) client.Config {
	w.server.AddAccount(name, "pass-"+name) // twice is no harm
	return client.Config{
		JID: name + "@" + domain, Password: "pass-" + name, Server: w.server.AddrC2S(),
		TLS: &tls.Config{RootCAs: w.server.CertPool()}, Store: st, Log: logger(name), KeyPackages: 5,
	}
}

// join makes an actor with a store in memory and brings it online.
func (w *world) join(name string) *actor {
	w.t.Helper()
	return w.start(name, w.config(name, store.NewMemory(name+"@"+domain)))
}

func (w *world) start(name string, cfg client.Config) *actor {
	w.t.Helper()
	a := w.prepare(name, cfg)
	a.run()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := a.Ready(ctx); err != nil {
		w.t.Fatalf("%s: %v", name, err)
	}
	return a
}

func (w *world) prepare(name string, cfg client.Config) *actor {
	w.t.Helper()
	c, err := client.New(cfg)
	if err != nil {
		w.t.Fatalf("%s: %v", name, err)
	}
	a := &actor{Client: c, t: w.t, w: w, name: name, cfg: cfg, heard: make(chan struct{}, 1)}
	c.OnMessage(func(ctx context.Context, m *client.Message) {
		a.mu.Lock()
		a.messages = append(a.messages, m)
		fn := a.onMsg
		a.mu.Unlock()
		a.wake()
		if fn != nil {
			fn(ctx, m)
		}
	})
	c.OnEvent(func(_ context.Context, e client.Event) {
		a.mu.Lock()
		a.events = append(a.events, e)
		a.mu.Unlock()
		a.wake()
	})
	return a
}

func (a *actor) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.Client.Run(ctx)
	}()
	var once sync.Once
	a.leave = func() {
		cancel()
		<-done
	}
	a.stop = func() {
		once.Do(func() {
			a.leave()
			a.Client.Close()
		})
	}
	a.t.Cleanup(a.stop)
}

func (a *actor) wake() {
	select {
	case a.heard <- struct{}{}:
	default:
	}
}

// until waits for a condition.
func (a *actor) until(what string, cond func() bool) {
	a.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		a.mu.Lock()
		ok := cond()
		a.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.t.Fatalf("%s waits for %s in vain; messages %s, events %s", a.name, what, a.texts(), a.eventNames())
		}
		select {
		case <-a.heard:
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (a *actor) texts() (out []string) {
	for _, m := range a.messages {
		out = append(out, m.Sender.JID+": "+m.Body)
	}
	return out
}

func (a *actor) eventNames() (out []string) {
	for _, e := range a.events {
		s := client.EventName(e)
		switch v := e.(type) {
		case *client.Undecryptable:
			s += "(" + v.Reason + ")"
		case *client.Misbehaved:
			s += "(" + v.Reason + ")"
		case *client.ForkDetected:
			s += "(" + v.Reason + ")"
		case *client.RollbackDetected:
			s += "(" + v.Reason + ")"
		case *client.Offline:
			s += fmt.Sprintf("(%v)", v.Err)
		}
		out = append(out, s)
	}
	return out
}

// hears waits for a message with the text.
func (a *actor) hears(text string) *client.Message {
	a.t.Helper()
	var found *client.Message
	a.until(fmt.Sprintf("%q", text), func() bool {
		for _, m := range a.messages {
			if m.Body == text {
				found = m
				return true
			}
		}
		return false
	})
	return found
}

// sees waits for an event of type E.
func sees[E client.Event](a *actor) E {
	a.t.Helper()
	var found E
	a.until(fmt.Sprintf("%T", found), func() bool {
		for _, e := range a.events {
			if v, ok := e.(E); ok {
				found = v
				return true
			}
		}
		return false
	})
	return found
}

// group waits until the actor is in the group.
func (a *actor) group(jid string) *client.Group {
	a.t.Helper()
	var g *client.Group
	a.until("being in "+jid, func() bool {
		var ok bool
		g, ok = a.Client.Group(jid)
		return ok && g.Joined()
	})
	return g
}

func memoryCopy(s store.Store) store.Store { return s.(*store.Memory).Snapshot(false) }

// patience is longer than a client waits for an answer that was lost on the way, 30
// seconds, and then needs to find out what became of the request.
const patience = 75 * time.Second

func ctxShort(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func contextFor(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sameEpoch waits until all are at the same epoch of the group with the same
// authenticator and chain.
func sameEpoch(t testing.TB, groups ...*client.Group) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		same := true
		var code string
		var seq uint64
		var chain string
		var all []string
		for i, g := range groups {
			c, err := g.EpochCode()
			s, ch := g.Chain()
			all = append(all, fmt.Sprintf("epoch %d code %.11s seq %d chain %.8s err %v", g.Epoch(), c, s, ch, err))
			if i == 0 {
				code, seq, chain = c, s, ch
			} else if err != nil || c != code || s != seq || ch != chain && ch != "" && chain != "" {
				same = false
			}
		}
		if same {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("members differ:\n%v", all)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
