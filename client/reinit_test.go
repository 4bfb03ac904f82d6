// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/integration/loopback"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

const suite2 = mls.MLS_128_DHKEMP256_AES128GCM_SHA256_P256

// willing is a config of an account that can be in groups of suite 2, too.
func (w *world) willing(name string) client.Config {
	cfg := w.config(name, store.NewMemory(name+"@"+domain))
	cfg.Suites = []mls.CipherSuite{suite2}
	client.SetReInitTurn(&cfg, 2*time.Second)
	return cfg
}

// TestReInit takes a group to another suite while one member is away: the same
// handles go on, and nothing that was said is lost.
func TestReInit(t *testing.T) {
	w := newWorld(t)
	ncfg := w.willing("nurse")
	juliet, romeo, nurse := w.start("juliet", w.willing("juliet")), w.start("romeo", w.willing("romeo")), w.start("nurse", ncfg)
	g := must(juliet.CreateGroup(ctxShort(t), "Balcony", &client.GroupOptions{Local: "balcony"}))(t)
	must(g.Invite(ctxShort(t), "romeo@"+domain, "nurse@"+domain))(t)
	rg := romeo.group(g.JID())
	nurse.group(g.JID())
	nurse.stop()
	must(rg.Send(ctxShort(t), "before"))(t)
	ok(t, g.UpdateKeys(ctxShort(t)))

	ok(t, g.ReInit(ctxShort(t), suite2))
	for _, a := range []*actor{juliet, romeo} {
		if e := sees[*client.Reinitialised](a); e.Old != 1 || e.New != 2 || !e.Proven || e.Missing != nil {
			t.Errorf("%s is told %+v", a.name, e)
		}
	}
	if cs := rg.CipherSuite(); cs != suite2 {
		t.Errorf("romeo is in a group of %v", cs)
	}
	must(rg.Send(ctxShort(t), "after"))(t)
	juliet.hears("after")
	must(g.Send(ctxShort(t), "to all"))(t)
	romeo.hears("to all")
	if role := must(rg.Role("juliet@" + domain))(t); role != groupdata.Owner || rg.Name() != "Balcony" {
		t.Errorf("juliet is %v of %q", role, rg.Name())
	}

	ncfg.Store = memoryCopy(ncfg.Store)
	nurse = w.start("nurse", ncfg)
	for _, text := range []string{"before", "after", "to all"} {
		nurse.hears(text)
	}
	if e := sees[*client.Reinitialised](nurse); !e.Proven {
		t.Errorf("the nurse is told %+v", e)
	}
	sameEpoch(t, g, rg, nurse.group(g.JID()))
	for _, a := range []*actor{juliet, romeo, nurse} {
		a.mu.Lock()
		for _, e := range a.events {
			switch e.(type) {
			case *client.Misbehaved, *client.ForkDetected, *client.RollbackDetected, *client.HistoryLost, *client.Rejoined, *client.Removed, *client.Undecryptable:
				t.Errorf("%s is told %s", a.name, client.EventName(e))
			}
		}
		a.mu.Unlock()
	}
	// And on, to the same suite with new keys.
	ok(t, g.ReInit(ctxShort(t), suite2))
	must(g.Send(ctxShort(t), "again"))(t)
	romeo.hears("again")
	nurse.hears("again")
}

// TestReInitNotForAll does not end a group that somebody could not follow.
func TestReInitNotForAll(t *testing.T) {
	w := newWorld(t)
	juliet := w.start("juliet", w.willing("juliet"))
	romeo := w.join("romeo")
	g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	must(g.Invite(ctxShort(t), "romeo@"+domain))(t)
	rg := romeo.group(g.JID())
	var re *client.ReInitError
	if err := g.ReInit(ctxShort(t), suite2); !errors.As(err, &re) || len(re.Users) != 1 || re.Users[0].JID != "romeo@"+domain {
		t.Errorf("%v", err)
	}
	if err := rg.ReInit(ctxShort(t), 1); err == nil {
		t.Error("a member who is no owner ended the group")
	}
	must(g.Send(ctxShort(t), "still here"))(t)
	romeo.hears("still here")
	private := must(juliet.CreateGroup(ctxShort(t), "", &client.GroupOptions{PrivateHandshakes: true}))(t)
	if err := private.ReInit(ctxShort(t), suite2); err == nil {
		t.Error("ended a group whose end the service cannot see")
	}
}

// TestReInitKilled kills the owner who ends a group at each step. Here it comes
// back and goes on where it was.
func TestReInitKilled(t *testing.T) {
	for _, point := range []string{"commit-stored", "commit-submitted", "commit-accepted", "reinit-stored", "reinit-created"} {
		t.Run(point, func(t *testing.T) {
			w := newWorld(t)
			cfg := w.willing("juliet")
			crash := crashAt(&cfg, point)
			juliet, romeo := w.start("juliet", cfg), w.start("romeo", w.willing("romeo"))
			g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
			must(g.Invite(ctxShort(t), "romeo@"+domain))(t)
			rg := romeo.group(g.JID())
			crash.of(juliet, func() { g.ReInit(ctxShort(t), suite2) })
			cfg = w.willing("juliet")
			cfg.Store = crash.store
			juliet2 := w.start("juliet", cfg)
			if e := sees[*client.Reinitialised](juliet2); e.New != 2 {
				t.Errorf("juliet is told %+v", e)
			}
			sees[*client.Reinitialised](romeo)
			g2 := juliet2.group(g.JID())
			must(rg.Send(ctxShort(t), "alive"))(t)
			juliet2.hears("alive")
			sameEpoch(t, g2, rg)
		})
	}
}

// TestReInitTakenOver has the owner who ends the group vanish for good: before it
// has begun the new one another owner does, afterwards members come in by
// themselves.
func TestReInitTakenOver(t *testing.T) {
	for _, point := range []string{"reinit-stored", "reinit-created"} {
		t.Run(point, func(t *testing.T) {
			w := newWorld(t)
			cfg := w.willing("juliet")
			crash := crashAt(&cfg, point)
			rcfg, ncfg := w.willing("romeo"), w.willing("nurse")
			if point == "reinit-created" { // nobody can do more than to come in from outside
				client.SetReInitTurn(&rcfg, 300*time.Millisecond)
				client.SetReInitTurn(&ncfg, 300*time.Millisecond)
			}
			juliet, romeo, nurse := w.start("juliet", cfg), w.start("romeo", rcfg), w.start("nurse", ncfg)
			g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
			must(g.Invite(ctxShort(t), "romeo@"+domain, "nurse@"+domain))(t)
			ok(t, g.SetRole(ctxShort(t), "romeo@"+domain, groupdata.Owner))
			rg, ng := romeo.group(g.JID()), nurse.group(g.JID())
			crash.of(juliet, func() { g.ReInit(ctxShort(t), suite2) })
			for _, a := range []*actor{romeo, nurse} {
				if e := sees[*client.Reinitialised](a); e.Proven != (point == "reinit-stored") {
					t.Errorf("%s is told %+v", a.name, e)
				}
			}
			must(rg.Send(ctxShort(t), "without her"))(t)
			nurse.hears("without her")
			sameEpoch(t, rg, ng)
		})
	}
}

// TestReInitFakeNotice puts another group in the place of one that nobody ended.
func TestReInitFakeNotice(t *testing.T) {
	l, _, romeo, jg, rg := deceived(t)
	chain := chainOf(t, rg)
	l.tell(func(s *stanza.Stanza, raw []byte) [][]byte {
		d, _, isMessage := delivered(s)
		if !isMessage {
			return [][]byte{raw}
		}
		notice := stanza.NewControl(&stanza.ReInitNotice{Previous: []byte("the old one"), GroupID: []byte("another one")})
		d.Kind, d.Epoch = stanza.EntryControl, 0
		d.Chain = stanza.Hash(chain.Next(d.Seq, groupdata.Control, 0, notice.Bytes))
		h := s.Header()
		return [][]byte{h.Append(nil, notice, &d)}
	})
	must(jg.Send(ctxShort(t), "x"))(t)
	if e := sees[*client.Misbehaved](romeo); !strings.Contains(e.Reason, "another group") || len(e.Evidence.Message) == 0 {
		t.Errorf("%+v", e)
	}
	if !rg.Joined() {
		t.Error("romeo gave the group up")
	}
}

// offer makes l offer romeo an invitation to a group at an address. What the group
// says of its own address is another matter. It begins with the next message.
func offer(t *testing.T, l *liar, romeo *actor, at, says string) {
	kp := romeo.w.published(t, "romeo")[0]
	key := must(mls.GenerateSignatureKey(1, nil))(t)
	group := must((&groupdata.Group{JID: says, Handshake: groupdata.Public}).Encode())(t)
	roles := must(groupdata.NewRoles("juliet@"+domain, groupdata.DefaultPolicy()).Encode())(t)
	x := mls.AppData{}.With(groupdata.ComponentGroup, group).With(groupdata.ComponentRoles, roles).Extension()
	fake := must(mls.NewGroup(nil, 1, nil, &mls.Identity{Credential: mls.BasicCredential([]byte("juliet@" + domain)), Key: key},
		&mls.GroupOptions{DeviceID: bytes.Repeat([]byte{1}, 16), Extensions: mls.Extensions{x}}))(t)
	p := must(fake.Commit(&mls.CommitOptions{Add: []*mls.KeyPackage{kp}}))(t)
	tree := must(p.Merge())(t).Tree()
	ref := must(kp.Ref())(t)
	told := false
	l.tell(func(s *stanza.Stanza, raw []byte) [][]byte {
		w := &stanza.Welcome{Group: at, Epoch: 1, Seq: 50, KeyPackageRef: ref, Inviter: "juliet@" + domain}
		page := &stanza.TreePage{Epoch: 1, Total: uint64(len(tree)), Bytes: tree}
		h := s.Header()
		switch {
		case s.Kind == stanza.Message && !told:
			told = true
			pointer := h
			pointer.From, pointer.Type = at, stanza.TypeHeadline
			return [][]byte{raw, pointer.Append(nil, w)}
		case s.Child(stanza.NSDelivery, "tree").Valid():
			return [][]byte{h.Append(nil, page)}
		case s.Kind == stanza.IQ && s.Type == stanza.TypeError && told:
			// The service knows nothing of it: the Welcome is asked for first,
			// then the tree.
			h.Type = stanza.TypeResult
			if l.again() {
				return [][]byte{h.Append(nil, page)}
			}
			w.Bytes = p.Welcome().Bytes()
			return [][]byte{h.Append(nil, w)}
		}
		return [][]byte{raw}
	})
}

// TestForeignWelcome offers an invitation to another group at the address of one
// that this device is in and that nobody has ended.
func TestForeignWelcome(t *testing.T) {
	l, _, romeo, jg, rg := deceived(t)
	code := must(rg.EpochCode())(t)
	offer(t, l, romeo, jg.JID(), jg.JID())
	must(jg.Send(ctxShort(t), "look"))(t)
	if e := sees[*client.Misbehaved](romeo); !strings.Contains(e.Reason, "another group") {
		t.Errorf("%+v", e)
	}
	if c := must(rg.EpochCode())(t); c != code {
		t.Error("romeo is in another group")
	}
	must(rg.Send(ctxShort(t), "still here"))(t)
}

// TestSwappedWelcome offers, at an address that is new to this device, a group that
// says it is another.
func TestSwappedWelcome(t *testing.T) {
	l, _, romeo, jg, _ := deceived(t)
	at := "feast@" + dsDomain
	offer(t, l, romeo, at, "funeral@"+dsDomain)
	must(jg.Send(ctxShort(t), "look"))(t)
	if e := sees[*client.Misbehaved](romeo); e.Group != at || !strings.Contains(e.Reason, "swapped") || len(e.Evidence.Message) == 0 {
		t.Errorf("%+v", e)
	}
	for _, g := range romeo.Groups() {
		if g.JID() != jg.JID() {
			t.Errorf("romeo is in %s", g.JID())
		}
	}
}

// crash is a client that dies at a place between two steps, in this process: its
// store is as it was there, and it does nothing more.
type crash struct {
	point   string
	armed   atomic.Bool
	over    atomic.Bool
	a       *actor
	store   *store.Memory
	dead    chan struct{}
	release chan struct{}
}

func crashAt(cfg *client.Config, point string) *crash {
	c := &crash{point: point, dead: make(chan struct{}), release: make(chan struct{})}
	live := cfg.Store.(*store.Memory)
	client.SetFail(cfg, func(p string) {
		if c.over.Load() {
			<-c.release // the dead do nothing more
			return
		}
		if p != c.point || !c.armed.CompareAndSwap(true, false) {
			return
		}
		c.over.Store(true)
		c.store = live.Snapshot(false)
		go c.a.stop()
		close(c.dead)
		<-c.release
	})
	return c
}

// of lets a die in act, and returns when it has.
func (c *crash) of(a *actor, act func()) {
	c.a = a
	c.armed.Store(true)
	a.t.Cleanup(func() { close(c.release) }) // before the cleanup that waits for it
	go act()
	select {
	case <-c.dead:
	case <-time.After(patience):
		a.t.Fatalf("never came to %s", c.point)
	}
}

// TestSendIntoTheNextLife sends before this device has heard that the group is
// reinitialised, and while nobody but who has done it is in the group that goes on.
func TestSendIntoTheNextLife(t *testing.T) {
	w := newWorld(t)
	juliet, romeo := w.start("juliet", w.willing("juliet")), w.start("romeo", w.willing("romeo"))
	g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	must(g.Invite(ctxShort(t), "romeo@"+domain))(t)
	rg := romeo.group(g.JID())
	must(rg.Send(ctxShort(t), "before"))(t)
	w.server.Fault(loopback.Rule{Action: loopback.Delay, Delay: time.Second, Kind: loopback.C2S, Dir: loopback.Out, Peer: "romeo@" + domain,
		Match: func(e *loopback.Element) bool { return strings.Contains(e.String(), "<delivery ") }})
	added := w.server.Fault(loopback.Rule{Action: loopback.Delay, Delay: 2 * time.Second, Kind: loopback.C2S, Dir: loopback.In, Peer: "juliet@" + domain,
		Skip: 1, Count: 1, Match: func(e *loopback.Element) bool { return strings.Contains(e.String(), "<commit ") }})
	done := make(chan error, 1)
	go func() { done <- g.ReInit(ctxShort(t), suite2) }()
	until(t, "the group goes on", func() bool { return added.Hits() == 1 })
	must(rg.Send(ctxShort(t), "into the next life"))(t)
	juliet.hears("into the next life")
	ok(t, <-done)
	sameEpoch(t, g, rg)
}

// TestReInitUnderLoad goes on while everybody talks: each message comes once.
func TestReInitUnderLoad(t *testing.T) {
	w := newWorld(t)
	juliet, romeo := w.start("juliet", w.willing("juliet")), w.start("romeo", w.willing("romeo"))
	g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	must(g.Invite(ctxShort(t), "romeo@"+domain))(t)
	rg := romeo.group(g.JID())
	const n = 60
	var wg sync.WaitGroup
	for who, from := range map[string]*client.Group{"juliet": g, "romeo": rg} {
		wg.Go(func() {
			for i := range n {
				if _, err := from.Send(ctxShort(t), fmt.Sprintf("%s %d", who, i)); err != nil {
					t.Errorf("%s %d: %v", who, i, err)
				}
			}
		})
	}
	wg.Go(func() {
		if err := rg.UpdateKeys(ctxShort(t)); err != nil {
			t.Error(err)
		}
	})
	ok(t, g.ReInit(ctxShort(t), suite2))
	wg.Wait()
	juliet.hears(fmt.Sprintf("romeo %d", n-1))
	romeo.hears(fmt.Sprintf("juliet %d", n-1))
	sameEpoch(t, g, rg)
	for _, a := range []*actor{juliet, romeo} {
		a.mu.Lock()
		times := make(map[string]int)
		for _, m := range a.messages {
			times[m.Body]++
		}
		for text, k := range times {
			if k != 1 {
				t.Errorf("%s heard %q %d times", a.name, text, k)
			}
		}
		if len(times) != n {
			t.Errorf("%s heard %d messages, want %d", a.name, len(times), n)
		}
		a.mu.Unlock()
	}
}
