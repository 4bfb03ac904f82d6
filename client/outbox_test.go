// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/integration/loopback"
)

// hearsInOrder waits until an actor has heard n messages, and fails unless they are
// those of format from 0 on, in order, each once.
func (a *actor) hearsInOrder(format string, n int) {
	a.t.Helper()
	a.until(fmt.Sprintf("%d messages", n), func() bool { return len(a.messages) >= n })
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.messages {
		if want := fmt.Sprintf(format, i); a.messages[i].Body != want {
			a.t.Fatalf("message %d is %q, want %q; all: %q", i, a.messages[i].Body, want, a.texts())
		}
	}
}

// TestOrder posts faster than the service answers.
func TestOrder(t *testing.T) {
	w := newWorld(t)
	_, romeo, jg, _ := pair(t, w)
	const n = 300
	var last *client.Posted
	for i := range n {
		p, err := jg.Post(ctxShort(t), fmt.Sprintf("m%d", i))
		ok(t, err)
		last = p
	}
	sent := must(last.Wait(ctxShort(t)))(t)
	if sent.OriginID != last.OriginID() {
		t.Errorf("origin-id %q, want %q", sent.OriginID, last.OriginID())
	}
	romeo.hearsInOrder("m%d", n)
}

// TestOrderAfterOutage posts while the service is away, lets epochs pass, and
// goes on posting while what waited goes out.
func TestOrderAfterOutage(t *testing.T) {
	w := newWorld(t)
	_, romeo, jg, rg := pair(t, w)
	w.killDS()
	post := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			if _, err := jg.Post(ctxShort(t), fmt.Sprintf("m%d", i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	post(0, 20)
	w.startDS()
	post(20, 30)
	// What was sealed before these is refused, and sealed again.
	for range 3 {
		ok(t, rg.UpdateKeys(ctxShort(t)))
	}
	post(30, 40)
	must(jg.Send(ctxShort(t), "m40"))(t)
	romeo.hearsInOrder("m%d", 41)
}

// TestOrderAfterRestart leaves an outbox to the next run of the client.
func TestOrderAfterRestart(t *testing.T) {
	w := newWorld(t)
	juliet, romeo, jg, _ := pair(t, w)
	w.killDS()
	for i := range 20 {
		if _, err := jg.Post(ctxShort(t), fmt.Sprintf("m%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	cfg := juliet.cfg
	cfg.Store = memoryCopy(cfg.Store)
	juliet.stop()
	w.startDS()
	juliet = w.start("juliet", cfg)
	g := juliet.group(jg.JID())
	must(g.Send(ctxShort(t), "m20"))(t)
	romeo.hearsInOrder("m%d", 21)
}

// TestPostIsTold waits for what nobody waited for.
func TestPostIsTold(t *testing.T) {
	w := newWorld(t)
	juliet, romeo, jg, _ := pair(t, w)
	p, err := jg.Post(ctxShort(t), "unwaited")
	ok(t, err)
	if later := sees[*client.SentLater](juliet); later.OriginID != p.OriginID() {
		t.Errorf("told of %q, want %q", later.OriginID, p.OriginID())
	}
	romeo.hears("unwaited")
	must(jg.Send(ctxShort(t), "waited"))(t)
	romeo.hears("waited")
	juliet.mu.Lock()
	defer juliet.mu.Unlock()
	n := 0
	for _, e := range juliet.events {
		if _, isLater := e.(*client.SentLater); isLater {
			n++
		}
	}
	if n != 1 {
		t.Errorf("told %d times, want once: whoever waits is not told", n)
	}
}

// TestLastWordsUnheard: what is said while somebody's removal is pending is said in
// the epoch after it, at once and not with an error.
func TestLastWordsUnheard(t *testing.T) {
	w := newWorld(t)
	_, romeo, jg, rg := pair(t, w)
	nurse := w.join("nurse")
	must(jg.Invite(ctxShort(t), "nurse@"+domain))(t)
	ng := nurse.group(jg.JID())
	sameEpoch(t, jg, rg, ng)
	before := jg.Epoch()
	// Nobody commits the removal by itself: nobody hears of it.
	f := w.server.Fault(loopback.Rule{Action: loopback.Drop, Kind: loopback.C2S, Dir: loopback.Out,
		Match: func(e *loopback.Element) bool {
			return e.Name.Local == "message" && strings.Contains(e.String(), "kind='proposal'")
		}})
	ok(t, rg.Leave(ctxShort(t), true))
	until(t, "the proposal is lost", func() bool { return f.Hits() > 0 })
	sent := must(jg.Send(ctxShort(t), "not for romeo"))(t)
	if sent.Epoch <= before {
		t.Errorf("sent in epoch %d, in which romeo still was", sent.Epoch)
	}
	nurse.hears("not for romeo")
	romeo.mu.Lock()
	defer romeo.mu.Unlock()
	for _, m := range romeo.messages {
		if m.Body == "not for romeo" {
			t.Error("romeo heard it")
		}
	}
}

// TestSentLaterInOrder posts messages that nobody waits for, and has the answers change
// places: what is told of them is in the order of the log.
func TestSentLaterInOrder(t *testing.T) {
	w := newWorld(t)
	juliet := w.join("juliet")
	g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	w.server.Fault(loopback.Rule{Action: loopback.Reorder, Kind: loopback.C2S, Dir: loopback.Out, Peer: "juliet@" + domain, Chance: 0.3, Depth: 4,
		Match: func(e *loopback.Element) bool { return strings.Contains(e.String(), "<accepted") }})
	const n = 60
	for i := range n {
		must(g.Post(ctxShort(t), fmt.Sprint("line ", i)))(t)
	}
	var seqs []uint64
	juliet.until("all to be sent", func() bool {
		seqs = nil
		for _, e := range juliet.events {
			if later, is := e.(*client.SentLater); is {
				seqs = append(seqs, later.Seq)
			}
		}
		return len(seqs) >= n
	})
	if len(seqs) != n || !slices.IsSorted(seqs) {
		t.Errorf("%d messages were sent later, in the order %d", len(seqs), seqs)
	}
}
