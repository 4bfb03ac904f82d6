// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/integration/loopback"
)

// TestClosedUnderAHandler closes a client while its handler is at work on the
// second of three messages: what the handler could not finish comes again.
func TestClosedUnderAHandler(t *testing.T) {
	w := newWorld(t)
	juliet := w.join("juliet")
	cfg := w.config("romeo", nil)
	cfg.StorePath = filepath.Join(w.dir, "romeo.db")
	romeo := w.prepare("romeo", cfg)
	entered := make(chan struct{})
	romeo.OnMessage(func(ctx context.Context, m *client.Message) {
		if m.Body == "1" {
			close(entered)
			<-ctx.Done() // as a reply under way does
		}
	})
	romeo.run()
	ok(t, romeo.Ready(ctxShort(t)))
	jg := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	must(jg.Invite(ctxShort(t), "romeo@"+domain))(t)
	romeo.group(jg.JID())
	for i := range 3 {
		must(jg.Send(ctxShort(t), fmt.Sprint(i)))(t)
	}
	<-entered
	romeo.stop()
	again := w.start("romeo", cfg)
	again.hears("2")
	again.mu.Lock()
	defer again.mu.Unlock()
	if got := fmt.Sprint(again.texts()); got != "[juliet@capulet.lit: 1 juliet@capulet.lit: 2]" {
		t.Errorf("after the restart romeo hears %s", got)
	}
}

// TestSealedBeforeJoining adds somebody while a message of the epoch before is
// under way, which the service still takes: it was not for the newcomer, who is
// not told that it could not be opened.
func TestSealedBeforeJoining(t *testing.T) {
	w := newWorld(t)
	juliet, _, jg, rg := pair(t, w)
	nurse := w.join("nurse")
	w.server.Fault(loopback.Rule{Action: loopback.Delay, Delay: time.Second, Kind: loopback.C2S, Dir: loopback.In, Peer: "romeo@" + domain, Count: 1,
		Match: func(e *loopback.Element) bool { return strings.Contains(e.String(), "<send") }})
	posted := must(rg.Post(ctxShort(t), "late"))(t)
	must(jg.Invite(ctxShort(t), "nurse@"+domain))(t)
	ng := nurse.group(jg.JID())
	sent := must(posted.Wait(ctxShort(t)))(t)
	if sent.Epoch >= ng.Epoch() {
		t.Fatalf("it was sealed in epoch %d, the nurse came in %d", sent.Epoch, ng.Epoch())
	}
	juliet.hears("late")
	must(jg.Send(ctxShort(t), "welcome"))(t)
	nurse.hears("welcome")
	nurse.mu.Lock()
	defer nurse.mu.Unlock()
	if n := count[*client.Undecryptable](nurse); n > 0 {
		t.Errorf("the nurse is told of %d messages that she cannot open", n)
	}
}

// TestHandlerNeverReturns has a handler that blocks for ever in one group: other
// groups, calls and Close go on.
func TestHandlerNeverReturns(t *testing.T) {
	w := newWorld(t)
	juliet, romeo := w.join("juliet"), w.join("romeo")
	stuck := make(chan struct{})
	t.Cleanup(func() { close(stuck) })
	one := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	two := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	for _, g := range []*client.Group{one, two} {
		must(g.Invite(ctxShort(t), "romeo@"+domain))(t)
		romeo.group(g.JID())
	}
	romeo.mu.Lock()
	romeo.onMsg = func(_ context.Context, m *client.Message) {
		if m.Group.JID() == one.JID() {
			<-stuck
		}
	}
	romeo.mu.Unlock()
	must(one.Send(ctxShort(t), "stuck"))(t)
	romeo.hears("stuck")
	for range 700 { // more than are kept in memory for it
		if _, err := one.Post(ctxShort(t), "behind"); err != nil {
			t.Fatal(err)
		}
	}
	must(one.Send(ctxShort(t), "the last"))(t)
	must(two.Send(ctxShort(t), "elsewhere"))(t)
	romeo.hears("elsewhere")
	rg := romeo.group(one.JID())
	must(rg.Send(ctxShort(t), "I listen"))(t)
	ok(t, rg.UpdateKeys(ctxShort(t)))
	juliet.hears("I listen")
	began := time.Now()
	romeo.stop()
	if d := time.Since(began); d > 15*time.Second {
		t.Errorf("closing took %v", d)
	}
}

// TestHandlerPanics has a handler that panics at each message and event.
func TestHandlerPanics(t *testing.T) {
	w := newWorld(t)
	juliet := w.join("juliet")
	cfg := w.config("romeo", nil)
	cfg.StorePath = filepath.Join(w.dir, "romeo.db")
	romeo := w.prepare("romeo", cfg)
	heard := make(chan string, 16)
	romeo.OnMessage(func(_ context.Context, m *client.Message) {
		heard <- m.Body
		panic("the bot is broken")
	})
	romeo.OnEvent(func(context.Context, client.Event) { panic("the bot is broken") })
	romeo.run()
	ok(t, romeo.Ready(ctxShort(t)))
	jg := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	must(jg.Invite(ctxShort(t), "romeo@"+domain))(t)
	until(t, "romeo is in", func() bool { g, in := romeo.Group(jg.JID()); return in && g.Joined() })
	for _, text := range []string{"a", "b"} {
		must(jg.Send(ctxShort(t), text))(t)
		select {
		case got := <-heard:
			if got != text {
				t.Errorf("heard %q, want %q", got, text)
			}
		case <-time.After(patience):
			t.Fatal("romeo is deaf after a panic")
		}
	}
}

// TestCloseInAHandler closes the client from its own handler.
func TestCloseInAHandler(t *testing.T) {
	jg, _, _, romeo := couple(t)
	closed := make(chan error, 1)
	romeo.mu.Lock()
	romeo.onMsg = func(context.Context, *client.Message) { closed <- romeo.Close() }
	romeo.mu.Unlock()
	must(jg.Send(ctxShort(t), "good night"))(t)
	select {
	case err := <-closed:
		ok(t, err)
	case <-time.After(patience):
		t.Fatal("Close in a handler does not return")
	}
}

// TestFloodOfEphemerals has a member that floods a slow handler with what is in no
// log, and so in no store: it costs neither memory without end nor what is in the log.
func TestFloodOfEphemerals(t *testing.T) {
	jg, rg, _, romeo := couple(t)
	slow := make(chan struct{})
	romeo.mu.Lock()
	romeo.onMsg = func(context.Context, *client.Message) { <-slow }
	romeo.mu.Unlock()
	must(jg.Send(ctxShort(t), "first"))(t)
	romeo.hears("first")
	const flood = 2000
	for range flood {
		ok(t, jg.SetChatState(ctxShort(t), "composing"))
	}
	sent := must(jg.Send(ctxShort(t), "last"))(t)
	until(t, "romeo has the last", func() bool { return rg.Seq() >= sent.Seq })
	close(slow)
	romeo.hears("last")
	romeo.mu.Lock()
	defer romeo.mu.Unlock()
	if n := len(romeo.messages); n > flood/2 {
		t.Errorf("%d messages were kept in memory", n)
	}
}

// TestClockSetBack hears messages in their order when the clock was a year ahead as
// the first of them came.
func TestClockSetBack(t *testing.T) {
	w := newWorld(t)
	juliet, romeo, jg, _ := pair(t, w)
	romeo.stop()
	st := romeo.cfg.Store
	var off atomic.Int64
	start := func(deaf bool) *actor {
		st = memoryCopy(st)
		cfg := w.config("romeo", st)
		cfg.TLS.Time = time.Now
		cfg.Clock = func() time.Time { return time.Now().Add(time.Duration(off.Load())) }
		a := w.prepare("romeo", cfg)
		if deaf {
			a.onMsg = func(ctx context.Context, _ *client.Message) { <-ctx.Done() }
		}
		a.run()
		ok(t, a.Ready(ctxShort(t)))
		return a
	}
	var want []string
	for i, ahead := range []time.Duration{365 * 24 * time.Hour, 0, -time.Hour} {
		off.Store(int64(ahead))
		romeo = start(true)
		for j := range 2 {
			text := fmt.Sprintf("%d.%d", i, j)
			want = append(want, juliet.Account()+": "+text)
			must(jg.Send(ctxShort(t), text))(t)
		}
		ok(t, romeo.group(jg.JID()).Sync(ctxShort(t)))
		romeo.stop()
	}
	romeo = start(false)
	romeo.until("all of them", func() bool { return len(romeo.messages) == len(want) })
	romeo.mu.Lock()
	defer romeo.mu.Unlock()
	if got := romeo.texts(); !slices.Equal(got, want) {
		t.Errorf("heard %q, want %q", got, want)
	}
}

// TestSpoiledBurst opens many messages at once, some of which are no good: each of
// the others is heard, in its order, and each of those is told of in its place.
func TestSpoiledBurst(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	w := newWorld(t)
	juliet, romeo := w.join("juliet"), w.join("romeo")
	jg := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	must(jg.Invite(ctxShort(t), "romeo@"+domain))(t)
	rg := romeo.group(jg.JID())
	ok(t, rg.Sync(ctxShort(t)))
	juliet.leave()
	romeo.leave() // what the true log has is not to be asked for
	first := rg.Seq() + 1
	const n = 100
	sealed := make([][]byte, n)
	want := make([]string, n)
	for i := range sealed {
		sealed[i] = jg.SealFor(t, fmt.Sprint("line ", i))
		want[i] = fmt.Sprint("line ", i)
	}
	for i := range sealed {
		switch i % 10 {
		case 3:
			sealed[i], want[i] = []byte("no message"), "undecryptable"
		case 5:
			sealed[i], want[i] = slices.Clone(sealed[i]), "undecryptable"
			sealed[i][len(sealed[i])-1] ^= 1
		case 8:
			sealed[i], want[i] = sealed[i-1], "misbehaved"
		}
	}
	for i := n - 1; i >= 0; i-- { // the first comes last, and then all are in order
		rg.Arrive(first+uint64(i), sealed[i])
	}
	romeo.hears(want[n-1])
	romeo.mu.Lock()
	defer romeo.mu.Unlock()
	got := make([]string, n)
	for _, m := range romeo.messages {
		if m.Seq >= first {
			got[m.Seq-first] += m.Body
		}
	}
	for _, e := range romeo.events {
		if seq := e.Meta().Seq; seq >= first && seq < first+n {
			got[seq-first] += client.EventName(e)
		}
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("line %d: got %q, want %q", i, got[i], want[i])
		}
	}
	for i, m := range romeo.messages[1:] {
		if m.Seq < romeo.messages[i].Seq {
			t.Errorf("line %d came after line %d", romeo.messages[i].Seq, m.Seq)
		}
	}
}
