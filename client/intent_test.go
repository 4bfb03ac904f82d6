// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/integration/loopback"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// TestChangeIsRedone kills a client between storing a commit and submitting it.
// While it is away somebody else's commit wins, so that the stored one is lost: the
// change is made again.
func TestChangeIsRedone(t *testing.T) {
	for what, change := range map[string]struct {
		do   func(g *client.Group) error
		done func(g *client.Group) bool
	}{
		"rename": {
			func(g *client.Group) error { return g.Rename(context.Background(), "Orchard") },
			func(g *client.Group) bool { return g.Name() == "Orchard" },
		},
		"invite": {
			func(g *client.Group) error {
				_, err := g.Invite(context.Background(), "nurse@"+domain)
				return err
			},
			func(g *client.Group) bool { m, _ := g.Members(); return len(m) == 3 },
		},
		"role": {
			func(g *client.Group) error {
				return g.SetRole(context.Background(), "romeo@"+domain, groupdata.Admin)
			},
			func(g *client.Group) bool { r, _ := g.Role("romeo@" + domain); return r == groupdata.Admin },
		},
		"remove": {
			func(g *client.Group) error { return g.Remove(context.Background(), "romeo@"+domain) },
			func(g *client.Group) bool { m, _ := g.Members(); return len(m) == 1 },
		},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			w.join("nurse")
			cfg := w.config("juliet", store.NewMemory("juliet@"+domain))
			crash := crashAt(&cfg, "commit-stored")
			juliet, romeo := w.start("juliet", cfg), w.join("romeo")
			g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
			must(g.Invite(ctxShort(t), "romeo@"+domain))(t)
			rg := romeo.group(g.JID())
			crash.of(juliet, func() { change.do(g) })
			ok(t, rg.UpdateKeys(ctxShort(t)))
			again := w.start("juliet", w.config("juliet", crash.store))
			g2 := again.group(g.JID())
			again.until("the change", func() bool { return change.done(g2) })
			again.mu.Lock()
			defer again.mu.Unlock()
			if n := count[*client.ChangeFailed](again); n > 0 {
				t.Errorf("%d changes failed", n)
			}
		})
	}
}

// TestLeavingIsRedone kills a client that has said goodbye to itself and to nobody
// else.
func TestLeavingIsRedone(t *testing.T) {
	w := newWorld(t)
	cfg := w.config("romeo", store.NewMemory("romeo@"+domain))
	crash := crashAt(&cfg, "leave-stored")
	juliet, romeo := w.join("juliet"), w.start("romeo", cfg)
	g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	must(g.Invite(ctxShort(t), "romeo@"+domain))(t)
	rg := romeo.group(g.JID())
	crash.of(romeo, func() { rg.Leave(context.Background(), true) })
	again := w.start("romeo", w.config("romeo", crash.store))
	again.until("being out", func() bool { return len(again.Groups()) == 0 })
	juliet.until("romeo's end", func() bool { m, _ := g.Members(); return len(m) == 1 })
}

// TestLeavingBeforeItCan asks to leave while there is no connection, and does not wait
// for one: because its patience ends, because the client is closed, or because it
// dies.
func TestLeavingBeforeItCan(t *testing.T) {
	for _, how := range []string{"patience", "close", "death"} {
		t.Run(how, func(t *testing.T) {
			w := newWorld(t)
			juliet, romeo, jg, _ := pair(t, w)
			romeo.stop()
			cfg := romeo.cfg
			cfg.Store = memoryCopy(cfg.Store)
			away := w.prepare("romeo", cfg)
			rg, found := away.Group(jg.JID())
			if !found {
				t.Fatal("romeo has lost the group")
			}
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			defer cancel()
			switch how {
			case "patience":
				if err := rg.Leave(ctx, true); !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("leaving without a connection: %v", err)
				}
				away.run()
			case "close":
				done := make(chan error)
				go func() { done <- rg.Leave(context.Background(), true) }()
				<-ctx.Done()
				ok(t, away.Close())
				if err := <-done; !errors.Is(err, client.ErrClosed) {
					t.Fatalf("leaving under Close: %v", err)
				}
				cfg.Store = memoryCopy(cfg.Store)
				away = w.start("romeo", cfg)
			case "death":
				go rg.Leave(context.Background(), true)
				<-ctx.Done()
				cfg.Store = memoryCopy(cfg.Store)
				t.Cleanup(func() { away.Close() })
				away = w.start("romeo", cfg)
			}
			away.until("being out", func() bool { return len(away.Groups()) == 0 })
			juliet.until("romeo's end", func() bool { m, _ := jg.Members(); return len(m) == 1 })
			away.mu.Lock()
			defer away.mu.Unlock()
			if n := count[*client.ChangeFailed](away); n > 0 {
				t.Errorf("%d changes failed", n)
			}
			if _, still := away.Group(jg.JID()); still {
				t.Error("romeo is still in the group")
			}
		})
	}
}

// TestLeavingOutlastsAnOutage loses the connection with the goodbye, twice: it is
// said again.
func TestLeavingOutlastsAnOutage(t *testing.T) {
	w := newWorld(t)
	juliet, romeo, jg, rg := pair(t, w)
	w.server.Fault(loopback.Rule{Action: loopback.Cut, Kind: loopback.C2S, Dir: loopback.In, Peer: "romeo@" + domain, Count: 2,
		Match: func(e *loopback.Element) bool { return strings.Contains(e.String(), "<leave") }})
	ok(t, rg.Leave(ctxShort(t), true))
	must(jg.Send(ctxShort(t), "gone"))(t)
	juliet.until("romeo's end", func() bool { m, _ := jg.Members(); return len(m) == 1 })
	romeo.mu.Lock()
	defer romeo.mu.Unlock()
	if n := count[*client.ChangeFailed](romeo); n > 0 {
		t.Errorf("%d changes failed", n)
	}
}

// TestLeavingUnheard loses the answer to a goodbye: the leaver finds it in the log,
// and is out with the commit that refers to it.
func TestLeavingUnheard(t *testing.T) {
	w := newWorld(t)
	juliet, romeo, jg, rg := pair(t, w)
	w.server.Fault(loopback.Rule{Action: loopback.Drop, Kind: loopback.C2S, Dir: loopback.Out, Peer: "romeo@" + domain, Count: 1,
		Match: func(e *loopback.Element) bool { return strings.Contains(e.String(), "<accepted") }})
	go rg.Leave(context.Background(), true)
	juliet.until("romeo's end", func() bool { m, _ := jg.Members(); return len(m) == 1 })
	romeo.until("being out", func() bool { return len(romeo.Groups()) == 0 })
	romeo.mu.Lock()
	defer romeo.mu.Unlock()
	if n := count[*client.Misbehaved](romeo) + count[*client.Rejoined](romeo); n > 0 {
		t.Errorf("romeo accuses the service, or comes back: %v", romeo.events)
	}
}

// TestChangeFails reports a change that cannot be made any more.
func TestChangeFails(t *testing.T) {
	w := newWorld(t)
	cfg := w.config("juliet", store.NewMemory("juliet@"+domain))
	crash := crashAt(&cfg, "commit-stored")
	juliet, romeo := w.start("juliet", cfg), w.join("romeo")
	rg := must(romeo.CreateGroup(ctxShort(t), "", nil))(t)
	must(rg.Invite(ctxShort(t), "juliet@"+domain))(t)
	g := juliet.group(rg.JID())
	ok(t, rg.SetRole(ctxShort(t), "juliet@"+domain, groupdata.Admin))
	sees[*client.RoleChanged](juliet)
	crash.of(juliet, func() { g.Rename(context.Background(), "Hers") })
	ok(t, rg.SetRole(ctxShort(t), "juliet@"+domain, groupdata.Member))
	again := w.start("juliet", w.config("juliet", crash.store))
	if e := sees[*client.ChangeFailed](again); e.Change != "rename" || !strings.Contains(e.Reason, "admin") {
		t.Errorf("%+v", e)
	}
	if name := again.group(rg.JID()).Name(); name != "" {
		t.Errorf("the group is called %q", name)
	}
}

// TestImpatientCaller does not wait for a change, which is made all the same, and
// before a later one.
func TestImpatientCaller(t *testing.T) {
	w := newWorld(t)
	_, _, jg, rg := pair(t, w)
	f := w.server.Fault(loopback.Rule{Action: loopback.Drop, Kind: loopback.C2S, Dir: loopback.In, Peer: "juliet@" + domain,
		Match: func(e *loopback.Element) bool { return strings.Contains(e.String(), "<commit") }})
	if err := jg.Rename(contextFor(t, 300*time.Millisecond), "First"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Rename = %v", err)
	}
	ok(t, rg.UpdateKeys(ctxShort(t))) // the commit has lost
	f.Remove()
	ok(t, jg.Rename(ctxShort(t), "Second"))
	ok(t, rg.Sync(ctxShort(t)))
	sameEpoch(t, jg, rg)
	if jg.Name() != "Second" || rg.Name() != "Second" {
		t.Errorf("%q and %q", jg.Name(), rg.Name())
	}
}
