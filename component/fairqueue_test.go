// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"
)

// TestTurns: one account is served in order, and accounts take turns however
// much one of them asks for.
func TestTurns(t *testing.T) {
	s := &Service{base: context.Background()}
	w := newWorkers(s)
	var mu sync.Mutex
	var done []string
	hold := make(chan struct{})
	// Accounts that hold all workers but one.
	for i := range senderWorkers - 1 {
		w.submit("holder"+string(rune('a'+i)), func() { <-hold })
	}
	begun, release := make(chan struct{}), make(chan struct{})
	w.submit("greedy", func() { close(begun); <-release })
	<-begun
	note := func(what string) func() {
		return func() { mu.Lock(); done = append(done, what); mu.Unlock() }
	}
	for _, what := range []string{"g1", "g2", "g3", "g4"} {
		w.submit("greedy", note(what))
	}
	for _, who := range []string{"x", "y"} {
		if !w.submit(who, note(who+"1")) || !w.submit(who, note(who+"2")) {
			t.Fatal("no room")
		}
	}
	close(release)
	close(hold)
	w.close()
	s.tasks.Wait()
	// Others may have had more workers at the end; but greedy's order holds,
	// and nobody waited for all of greedy's work.
	var greedy []string
	for _, d := range done {
		if d[0] == 'g' {
			greedy = append(greedy, d)
		}
	}
	if !slices.Equal(greedy, []string{"g1", "g2", "g3", "g4"}) || len(done) != 8 {
		t.Errorf("done: %q", done)
	}
	if w.submit("late", func() {}) {
		t.Error("work is taken after the end")
	}
}

// TestTurnsOfOneWorker: with one worker the order is exact.
func TestTurnsOfOneWorker(t *testing.T) {
	w := &workers{m: make(map[string]*turn)}
	w.more = sync.NewCond(&w.mu)
	var done []string
	for _, j := range []string{"a1", "a2", "a3", "b1", "c1", "b2"} {
		w.submit(j[:1], func() { done = append(done, j) })
	}
	for i := range senderInbox - 3 {
		if !w.submit("a", func() {}) {
			t.Fatalf("no room for job %d", i)
		}
	}
	if w.submit("a", func() {}) {
		t.Error("one account's work has no bound")
	}
	if !w.submit("d", func() {}) {
		t.Error("one account's work leaves no room for others")
	}
	w.close()
	w.run()
	if !slices.Equal(done, []string{"a1", "b1", "c1", "a2", "b2", "a3"}) {
		t.Errorf("the order is %q", done)
	}
}

// TestShareOfGroup: one member cannot fill a group's queue, and many can.
func TestShareOfGroup(t *testing.T) {
	table := newGroupTable(&Service{metrics: newMetrics(nil), now: time.Now})
	g := &group{jid: "balcony", active: true} // it is busy
	table.m[g.jid] = g
	ask := func(who string) bool { return table.submit(g.jid, &request{from: addr{bare: who}}) }
	got := 0
	for range groupInbox {
		if ask("mallory") {
			got++
		}
	}
	if got != groupInbox/2 {
		t.Errorf("mallory has %d places of %d", got, groupInbox)
	}
	for i := range groupInbox - got {
		if !ask("user" + string(rune('a'+i%26))) {
			t.Fatalf("no room for others after %d", i)
		}
	}
	if ask("juliet") {
		t.Error("the queue has no end")
	}
}
