// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/integration/loopback"
	"github.com/lockstep-im/lockstep/stanza"
)

// swallow loses what holds the text on its way to the delivery service, once,
// as a service does that is killed when it has read it.
func (w *world) swallow(text string) *loopback.Fault {
	return w.server.Fault(loopback.Rule{Action: loopback.Drop, Kind: loopback.Component, Dir: loopback.Out, Count: 1,
		Match: func(e *loopback.Element) bool { return strings.Contains(e.String(), text) }})
}

func (w *world) restartDS() {
	w.killDS()
	w.startDS()
}

func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not in %v", what, patience)
		}
	}
}

// TestLostWithTheService loses requests with a service that goes down. Answers
// have a day to come: what ends the waiting is that the service is back.
func TestLostWithTheService(t *testing.T) {
	w := newWorld(t)
	cfg := w.config("juliet", store.NewMemory("juliet@"+domain))
	client.SetAnswerTimeout(&cfg, 24*time.Hour)
	juliet, romeo := w.start("juliet", cfg), w.join("romeo")
	w.join("nurse")
	g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	must(g.Invite(ctxShort(t), "romeo@"+domain))(t)
	rg := romeo.group(g.JID())
	for _, x := range []struct {
		request string
		do      func() error
	}{
		{"<send ", func() error { _, err := g.Send(ctxShort(t), "wherefore"); return err }},
		{"<commit ", func() error { return g.UpdateKeys(ctxShort(t)) }},
		{"<log ", func() error { return g.Sync(ctxShort(t)) }},
		{"<claim ", func() error { _, err := g.Invite(ctxShort(t), "nurse@"+domain); return err }},
		{"<create ", func() error { _, err := juliet.CreateGroup(ctxShort(t), "", nil); return err }},
	} {
		f := w.swallow(x.request)
		done := make(chan error, 1)
		go func() { done <- x.do() }()
		until(t, x.request+"is lost", func() bool { return f.Hits() == 1 })
		w.restartDS()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", x.request, err)
		}
	}
	romeo.hears("wherefore")
	sameEpoch(t, g, rg)
}

// TestAnnouncementLostWithTheService loses the opening of a session with a
// service that goes down, and then an event.
func TestAnnouncementLostWithTheService(t *testing.T) {
	w := newWorld(t)
	cfg := w.config("romeo", store.NewMemory("romeo@"+domain))
	client.SetAnswerTimeout(&cfg, 24*time.Hour)
	romeo, juliet := w.start("romeo", cfg), w.join("juliet")
	g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	must(g.Invite(ctxShort(t), "romeo@"+domain))(t)
	romeo.group(g.JID())
	must(g.Send(ctxShort(t), "art thou"))(t)
	romeo.hears("art thou")
	f := w.server.Fault(loopback.Rule{Action: loopback.Drop, Kind: loopback.Component, Dir: loopback.Out, Count: 1,
		Match: func(e *loopback.Element) bool {
			return strings.Contains(e.String(), "<session ") && strings.HasPrefix(e.Attr("from"), "romeo@")
		}})
	w.restartDS()
	until(t, "the announcement is lost", func() bool { return f.Hits() == 1 })
	f = w.server.Fault(loopback.Rule{Action: loopback.Drop, Kind: loopback.C2S, Dir: loopback.Out, Peer: "romeo@" + domain,
		Match: func(e *loopback.Element) bool { return strings.Contains(e.String(), "<delivery ") }})
	must(g.Send(ctxShort(t), "romeo"))(t)
	until(t, "the event is lost", func() bool { return f.Hits() == 1 })
	w.restartDS()
	romeo.hears("romeo")
}

// TestServiceComesLater starts a client while its delivery service is away: that
// its server bounces what goes there does not mean that there is none.
func TestServiceComesLater(t *testing.T) {
	w := newWorld(t)
	w.killDS()
	juliet := w.prepare("juliet", w.config("juliet", store.NewMemory("juliet@"+domain)))
	bounced := w.server.Fault(loopback.Rule{Action: loopback.Delay, Kind: loopback.C2S, Dir: loopback.In, Peer: "juliet@" + domain,
		Match: func(e *loopback.Element) bool {
			return e.Attr("to") == dsDomain && strings.Contains(e.String(), "disco#info")
		}})
	juliet.run()
	until(t, "the service is looked for", func() bool { return bounced.Hits() > 0 })
	w.startDS()
	ok(t, juliet.Ready(ctxShort(t)))
}

// TestEntriesThrownAway asks for the log while a rejoin throws away what comes:
// that fails, and does not wait for ever.
func TestEntriesThrownAway(t *testing.T) {
	w := newWorld(t)
	_, romeo, jg, rg := pair(t, w)
	ok(t, rg.Sync(ctxShort(t)))
	rg.SetRejoining(true)
	must(jg.Send(ctxShort(t), "parting is such sweet sorrow"))(t)
	if err := rg.CatchUp(ctxShort(t)); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("CatchUp: %v", err)
	}
	rg.SetRejoining(false)
	ok(t, rg.Sync(ctxShort(t)))
	romeo.hears("parting is such sweet sorrow")
}

// TestSyncComesBack synchronises a group whose state is given up: it is there again
// when that ends.
func TestSyncComesBack(t *testing.T) {
	w := newWorld(t)
	_, romeo, jg, rg := pair(t, w)
	w.server.Fault(loopback.Rule{Action: loopback.Delay, Delay: 200 * time.Millisecond, Kind: loopback.C2S, Dir: loopback.In, Peer: "romeo@" + domain,
		Match: func(e *loopback.Element) bool { return strings.Contains(e.String(), "<group-info ") }})
	for range 2 {
		rg.Lose("it is morning")
		ok(t, rg.Sync(ctxShort(t)))
		if !rg.Joined() {
			t.Fatal("synchronised, and not in the group")
		}
	}
	sameEpoch(t, jg, rg)
	ok(t, jg.Remove(ctxShort(t), "romeo@"+domain))
	romeo.until("the removal", func() bool { return !rg.Joined() })
	if err := rg.Sync(ctxShort(t)); !errors.Is(err, client.ErrNotMember) {
		t.Errorf("Sync of who was removed: %v", err)
	}
}

// brittle is a store whose writes fail when told to.
type brittle struct {
	store.Store
	broken atomic.Bool
}

func (b *brittle) Apply(ctx context.Context, ops []store.Op) error {
	if b.broken.Load() {
		return errors.New("no space left on device")
	}
	return b.Store.Apply(ctx, ops)
}

// TestStoreFailsUnderAChange fails a write while a change waits for its answer:
// who made it is told.
func TestStoreFailsUnderAChange(t *testing.T) {
	w := newWorld(t)
	b := &brittle{Store: store.NewMemory("juliet@" + domain)}
	cfg := w.config("juliet", b)
	client.SetAnswerTimeout(&cfg, 24*time.Hour)
	juliet, romeo := w.start("juliet", cfg), w.join("romeo")
	g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	must(g.Invite(ctxShort(t), "romeo@"+domain))(t)
	rg := romeo.group(g.JID())
	f := w.server.Fault(loopback.Rule{Action: loopback.Drop, Kind: loopback.C2S, Dir: loopback.Out, Count: 1, Peer: "juliet@" + domain,
		Match: func(e *loopback.Element) bool { return strings.Contains(e.String(), "<accepted") }})
	done := make(chan error, 1)
	go func() { done <- g.UpdateKeys(ctxShort(t)) }()
	until(t, "the answer is lost", func() bool { return f.Hits() == 1 })
	b.broken.Store(true)
	if _, err := g.Send(ctxShort(t), "on a full disk"); err == nil {
		t.Error("a message that could not be stored was sent")
	}
	b.broken.Store(false)
	ok(t, g.Sync(ctxShort(t)))
	if err := <-done; err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("UpdateKeys: %v", err)
	}
	// It was accepted all the same, and the store knows it.
	must(g.Send(ctxShort(t), "what was lost is found"))(t)
	romeo.hears("what was lost is found")
	sameEpoch(t, g, rg)
}

// failOnce is a store that fails one write, with a received message in it, after
// some others.
type failOnce struct {
	store.Store
	after  atomic.Int64
	failed atomic.Bool
}

func (f *failOnce) Apply(ctx context.Context, ops []store.Op) error {
	for _, op := range ops {
		if strings.Contains(op.Key, "/e/") && op.Value != nil {
			if f.after.Add(-1) == 0 {
				f.failed.Store(true)
				return errors.New("no space left on device")
			}
			break
		}
	}
	return f.Store.Apply(ctx, ops)
}

// TestStoreFailsInACatchUp fails one write while a long log is read. What is thrown
// away with it is read again, and nothing is given up.
func TestStoreFailsInACatchUp(t *testing.T) {
	for _, after := range []int64{1, 2, 3} {
		t.Run(fmt.Sprint(after), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			_, romeo, jg, rg := pair(t, w)
			romeo.stop()
			const n = 300
			fill(t, jg, n)
			st := &failOnce{Store: memoryCopy(romeo.cfg.Store)}
			st.after.Store(after)
			romeo = w.start("romeo", w.config("romeo", st))
			if !st.failed.Load() {
				t.Fatal("no write has failed")
			}
			if rg, _ := romeo.Group(rg.JID()); rg.Seq() < jg.Seq() {
				t.Errorf("ready at entry %d of %d", rg.Seq(), jg.Seq())
			}
			romeo.until("all messages", func() bool { return len(romeo.messages) == n })
			romeo.mu.Lock()
			defer romeo.mu.Unlock()
			for i, m := range romeo.messages {
				if i > 0 && m.Seq <= romeo.messages[i-1].Seq {
					t.Fatalf("entry %d after entry %d", m.Seq, romeo.messages[i-1].Seq)
				}
			}
			if count[*client.Rejoined](romeo)+count[*client.HistoryLost](romeo) > 0 {
				t.Errorf("the group was given up: %s", romeo.eventNames())
			}
		})
	}
}

// TestStoreFailsUnderAMessage fails the write of a message that came by itself, and
// after which nothing comes.
func TestStoreFailsUnderAMessage(t *testing.T) {
	w := newWorld(t)
	st := &failOnce{Store: store.NewMemory("romeo@" + domain)}
	juliet, romeo := w.join("juliet"), w.start("romeo", w.config("romeo", st))
	jg := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	must(jg.Invite(ctxShort(t), "romeo@"+domain))(t)
	ok(t, romeo.group(jg.JID()).Sync(ctxShort(t)))
	st.after.Store(1)
	must(jg.Send(ctxShort(t), "on a full disk"))(t)
	romeo.hears("on a full disk")
	if !st.failed.Load() {
		t.Error("no write has failed")
	}
}

// TestNothingNew comes back to groups in which nothing has happened: their logs are
// not read, and what is left to do is done.
func TestNothingNew(t *testing.T) {
	w := newWorld(t)
	juliet, romeo, jg, rg := pair(t, w)
	must(jg.Send(ctxShort(t), "before"))(t)
	romeo.hears("before")
	ok(t, rg.Sync(ctxShort(t)))
	cfg := romeo.cfg
	client.SetFail(&cfg, func(point string) {
		if point == "persisted" {
			panic("killed")
		}
	})
	romeo.stop()
	cfg.Store = memoryCopy(cfg.Store)
	romeo = w.start("romeo", cfg)
	rg = romeo.group(rg.JID())
	func() {
		defer func() { recover() }()
		rg.Send(ctxShort(t), "kept in the outbox")
	}()
	cfg = w.config("romeo", memoryCopy(cfg.Store))
	romeo.stop()
	at := w.server.Wire().Last()
	romeo = w.start("romeo", cfg)
	juliet.hears("kept in the outbox")
	for _, r := range w.server.Wire().Since(at) {
		if r.Kind == loopback.C2S && r.Dir == loopback.In && strings.Contains(r.XML(), "<log ") && strings.Contains(r.XML(), romeo.Device().String()) {
			t.Errorf("romeo has read a log: %s", r.XML())
		}
	}
	must(jg.Send(ctxShort(t), "after"))(t)
	romeo.hears("after")
	sameEpoch(t, jg, romeo.group(rg.JID()))
}

// TestIndexLies says of a group that nothing has happened in it, and shows another
// history than that which others have seen.
func TestIndexLies(t *testing.T) {
	for _, hides := range []bool{false, true} {
		t.Run(fmt.Sprintf("hides=%v", hides), func(t *testing.T) {
			l, _, romeo, jg, rg := deceived(t)
			ok(t, rg.Sync(ctxShort(t)))
			seq, epoch, chain := rg.Seq(), rg.Epoch(), chainOf(t, rg)
			romeo.stop()
			say(t, jg, "missed")
			var lied atomic.Bool
			l.tell(func(s *stanza.Stanza, raw []byte) [][]byte {
				if el := s.Child(stanza.NSDelivery, "groups"); el.Valid() {
					groups, err := stanza.Parse[stanza.Groups](el)
					if err != nil || len(groups.Items) != 1 {
						t.Errorf("%d groups, %v", len(groups.Items), err)
						return [][]byte{raw}
					}
					groups.Items[0].Head, groups.Items[0].Epoch = seq, epoch
					lied.Store(true)
					h := s.Header()
					return [][]byte{h.Append(nil, &groups)}
				}
				d, b, isMessage := delivered(s)
				if !hides || !isMessage {
					return [][]byte{raw}
				}
				d.Seq--
				d, chain = chained(chain, d, b)
				return [][]byte{delivery(s, d, b)}
			})
			cfg := romeo.cfg
			cfg.Store = memoryCopy(cfg.Store)
			romeo = romeo.w.start("romeo", cfg)
			if !lied.Load() {
				t.Fatal("the index was not asked for")
			}
			must(jg.Send(ctxShort(t), "heard"))(t)
			romeo.hears("heard")
			if hides {
				sees[*client.ForkDetected](romeo)
			} else {
				romeo.hears("missed")
			}
		})
	}
}

// TestStoredNudge comes online to a notice that was stored meanwhile: it says nothing
// that the session, which is being opened, does not.
func TestStoredNudge(t *testing.T) {
	w := newWorld(t)
	juliet, romeo := w.join("juliet"), w.join("romeo")
	g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	must(g.Invite(ctxShort(t), "romeo@"+domain))(t)
	romeo.group(g.JID())
	romeo.stop()
	at := w.server.Wire().Last()
	seen := func(kind loopback.Kind, what string) (n int) {
		for _, r := range w.server.Wire().Since(at) {
			if r.Kind == kind && r.Dir == loopback.In && strings.Contains(r.XML(), what) {
				n++
			}
		}
		return n
	}
	must(g.Send(ctxShort(t), "wherefore"))(t)
	until(t, "a nudge", func() bool { return seen(loopback.Component, "<nudge ") > 0 })
	at = w.server.Wire().Last()
	romeo = w.start("romeo", romeo.cfg)
	romeo.hears("wherefore")
	if n := seen(loopback.C2S, "<session "); n != 1 {
		t.Errorf("romeo opened %d sessions", n)
	}
}
