// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lockstep-im/lockstep/stanza"
)

// This file reads the log: after a gap, after a reconnection, before the first
// message. See xep/mls-delivery.xml#log.

const (
	// pageEntries is how many entries a page may have. Its bytes are bounded by
	// the service.
	pageEntries = 500
	// gapPatience is how long an entry out of order waits for its neighbours
	// before the log is asked.
	gapPatience = 40 * time.Millisecond
	// maxEntry is the largest entry that is fetched in pieces.
	maxEntry = 16 << 20
	// ackEvery is how many entries of a long catch-up are acknowledged at once: the
	// service makes each acknowledgement durable before it gives the page.
	ackEvery = 2000
	// progressFrom is how long a catch-up must be to tell of it.
	progressFrom = 400
)

// fetchSoon asks for a look into the log.
func (g *Group) fetchSoon() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fetchLocked(gapPatience)
}

// fetchLocked asks for a look into the log, after some patience unless one is under
// way. It returns the number of the fetch that will have seen everything up to now.
// Called with the lock held.
func (g *Group) fetchLocked(patience time.Duration) uint64 {
	g.fetchWant++
	if !g.fetching {
		g.fetching = g.c.spawn(func() {
			g.c.sleep(g.c.life, patience)
			g.fetchLoop()
		})
	}
	return g.fetchWant
}

func (g *Group) fetchLoop() {
	for {
		g.mu.Lock()
		want := g.fetchWant
		g.mu.Unlock()
		_, ctx := g.c.currentLink()
		err := g.fetch(ctx)
		g.mu.Lock()
		g.fetchDone, g.syncErr = want, err
		again := err == nil && g.fetchWant > want
		if !again {
			g.fetching = false
			g.fetchDone = g.fetchWant
		}
		caughtUp := err == nil && g.meta.Status == statusJoined
		if caughtUp {
			g.fresh = true
		}
		g.signal()
		g.mu.Unlock()
		if caughtUp {
			g.goOnWith()
		}
		if !again {
			return
		}
	}
}

// goOnWith takes up what an earlier run or connection has left, and what waits for
// somebody to do it.
func (g *Group) goOnWith() {
	g.resend()
	g.settlePending()
	g.considerProposals()
	g.considerReInit()
	g.redoIntents()
}

// isAt reports whether the service's index of groups says that nothing has happened
// since this device was last there, and makes the group usable if so. The log would
// be one page without entries, on the word of the same service; that it has shown
// others another log is noticed by the chain of the next entry either way.
func (g *Group) isAt(it *stanza.GroupItem) bool {
	g.mu.Lock()
	at := it.InTree && g.load() == nil && g.meta.Status == statusJoined && !g.rejoining && !g.between() &&
		it.Head == g.meta.Seq && it.Epoch == g.state.Epoch() && len(g.queue) == 0
	if at {
		g.fresh = true
		g.signal()
	}
	g.mu.Unlock()
	if at {
		g.goOnWith()
	}
	return at
}

// catchUp returns when everything that is in the log now, and at least up to
// seq, has been processed.
func (g *Group) catchUp(ctx context.Context, seq uint64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.load(); err != nil {
		return err
	}
	g.head = max(g.head, seq)
	want := g.fetchLocked(0)
	if err := g.until(ctx, func() bool { return g.fetchDone >= want }); err != nil {
		return err
	}
	return g.syncErr
}

// StuckError says that the log of a group has a commit against the group's own
// rules, which no honest member follows: nothing can be sent, and what comes behind
// it cannot be read. [Misbehaved] has the evidence; [Group.Rejoin] is the way out.
type StuckError struct {
	Group  string `json:"group"`
	Seq    uint64 `json:"seq"` // the entry that is not followed
	Reason string `json:"reason"`
}

func (e *StuckError) Error() string {
	return fmt.Sprintf("client: %s is stuck before entry %d, a commit against the group's rules (%s): see Group.Rejoin", e.Group, e.Seq, e.Reason)
}

// stuck is the reason why nothing can be done, nil if there is none. Called with
// the lock held.
func (g *Group) stuck() error {
	if g.meta.Stuck == nil {
		return nil
	}
	return g.meta.Stuck
}

// Sync returns when this device has processed the log as far as it goes now. If it
// must come back into the group for that, Sync does it, or waits for it. The error
// is ErrNotMember when the device is not in the group, and a [*StuckError] when it
// does not follow the log any more.
func (g *Group) Sync(ctx context.Context) error {
	for {
		err := g.catchUp(ctx, 0)
		g.mu.Lock()
		if g.rejoining {
			if err = g.until(ctx, func() bool { return !g.rejoining }); err != nil {
				g.mu.Unlock()
				return fmt.Errorf("client: coming back into %s: %w", g.jid, err)
			}
			g.mu.Unlock()
			continue
		}
		status, stuck := g.meta.Status, g.stuck()
		g.mu.Unlock()
		switch {
		case g.c.alive() != nil:
			return ErrClosed
		case status == statusLost:
			if err := g.rejoin(ctx); err != nil {
				return fmt.Errorf("client: coming back into %s: %w", g.jid, err)
			}
		case err != nil:
			return err
		case status != statusJoined:
			return ErrNotMember
		default:
			return stuck
		}
	}
}

// pageQuery is a page of the log that was asked for.
type pageQuery struct {
	after uint64
	// done is what had been processed when it was asked for, with which its head is
	// compared: an event may overtake the answer.
	done   uint64
	ack    uint64
	answer func(page stanza.Payload) error
}

// fetch reads pages until the end of the log and waits until they are
// processed.
func (g *Group) fetch(ctx context.Context) error {
	limits := g.c.limitsOf(ctx, g.host)
	var first, head uint64
	lastTold := time.Now()
	var ahead *pageQuery // asked for while the page before it is processed
	var b *batch         // of the state that reads
	defer func() {
		if ahead != nil {
			go ahead.answer(nil)
		}
	}()
	for pages := 0; ; pages++ {
		g.mu.Lock()
		if err := g.load(); err != nil {
			g.mu.Unlock()
			return err
		}
		if pages == 0 {
			b = g.b
		} else if g.b != b {
			// The state is an earlier one now, and what was asked for is not what it needs.
			g.mu.Unlock()
			return b.failed()
		}
		status := g.meta.Status
		if pages > 0 && g.frozen() != nil {
			status = statusNone // what follows is of the group's next life
		}
		after := g.meta.Seq
		for g.queue[after+1] != nil {
			after++
		}
		queued, done, changed, entered := len(g.queue), g.meta.Seq, g.changed, g.entered
		acked := g.acked
		g.mu.Unlock()
		if status != statusJoined {
			return nil
		}
		if first == 0 {
			first = done + 1
		}
		if queued > 2*maxBatch {
			// Slower than the network: the pages wait where they are.
			if err := g.waitChange(ctx, changed); err != nil {
				return err
			}
			continue
		}
		ask := func(after uint64) *pageQuery {
			ack := g.stored.Load()
			if pages > 0 && ack < acked+ackEvery {
				ack = 0
			}
			q := &stanza.LogQuery{Device: g.c.device, After: after, Max: pageEntries, MaxBytes: limits.MaxBytes, Ack: ack}
			return &pageQuery{after: after, done: done, ack: ack, answer: g.c.start(ctx, "get", g.jid, q)}
		}
		q := ahead
		if ahead = nil; q == nil {
			q = ask(after)
		}
		var page stanza.Log
		if err := q.answer(&page); err != nil {
			return g.fetchFailed(err, q.after)
		}
		last, whole := q.after, true
		for i := range page.Entries {
			whole = whole && page.Entries[i].Seq == last+1
			last = page.Entries[i].Seq
		}
		if whole && last > q.after && !page.Complete {
			ahead = ask(max(last, after))
		}
		g.mu.Lock()
		g.acked = max(g.acked, q.ack)
		behind := page.Head < q.done
		g.head = max(g.head, page.Head)
		g.mu.Unlock()
		if behind {
			return g.headWentBack(page.Head, q.done)
		}
		head = page.Head
		entries := make([]*entry, len(page.Entries))
		for i := range page.Entries {
			var err error
			if entries[i], err = g.pageEntry(ctx, &page.Entries[i]); err != nil {
				g.arrived(entries[:i]...)
				return err
			}
		}
		g.arrived(entries...)
		if head > first+progressFrom && time.Since(lastTold) > 500*time.Millisecond {
			lastTold = time.Now()
			g.out.push(item{event: &Progress{EventMeta: EventMeta{ID: randomID(), Group: g.jid, Time: g.c.cfg.clock()}, Done: q.after, Total: head}})
		}
		if ahead != nil {
			continue
		}
		if whole && last < head && !page.Complete {
			return fmt.Errorf("client: the log of %s ends at %d and says that it goes to %d", g.jid, last, head)
		}
		return g.waitProcessed(ctx, last, entered, b)
	}
}

func (g *Group) waitChange(ctx context.Context, changed <-chan struct{}) error {
	t := time.NewTimer(time.Second) // a page that was dropped makes no change
	defer t.Stop()
	select {
	case <-changed:
	case <-t.C:
	case <-ctx.Done():
		return errors.Join(ErrOffline, ctx.Err())
	}
	return nil
}

// errThrownAway is the end of a fetch whose entries were thrown away before they
// were processed, as a rejoin does.
var errThrownAway = errors.New("client: the entries were thrown away, the group is being joined again")

// waitProcessed waits for the worker. Whoever has joined anew meanwhile reads anew.
// Its error is that of b, the batch of the state that read, if a write has failed
// and taken what was processed with it.
func (g *Group) waitProcessed(ctx context.Context, seq, entered uint64, b *batch) error {
	for stuck := 0; ; {
		g.mu.Lock()
		if err := b.failed(); err != nil {
			g.mu.Unlock()
			return err
		}
		ok := g.meta.Seq >= seq || g.entered != entered || g.meta.Status != statusJoined || g.frozen() != nil && g.queue[g.meta.Seq+1] == nil
		at, changed, away := g.meta.Seq, g.changed, g.rejoining
		if stuck++; g.working || g.queue[at+1] != nil {
			stuck = 0
		}
		if !ok {
			g.workLocked()
		}
		g.mu.Unlock()
		switch {
		case ok:
			return b.flushAll() // the worker may be writing still
		case away:
			return errThrownAway
		case stuck > 2:
			// All of the page has come, and this is not in it.
			g.gap(at + 1)
			return fmt.Errorf("client: the log of %s lacks entry %d", g.jid, at+1)
		}
		if err := g.waitChange(ctx, changed); err != nil {
			return err
		}
	}
}

// gap gives up a state that cannot follow the log: the service has no entry for
// this device where it left off, because it was removed and added again, or because
// something is withheld.
func (g *Group) gap(seq uint64) {
	g.update(func(r *received) {
		g.mustRejoin(fmt.Sprintf("the log lacks entry %d", seq), r)
	})
}

// pageEntry reads an entry of a page, and in pieces what did not fit it.
func (g *Group) pageEntry(ctx context.Context, p *stanza.Entry) (*entry, error) {
	e := &entry{seq: p.Seq, epoch: p.Epoch, kind: kindOf(p.Kind), id: p.ID, stamp: p.Stamp, bytes: p.Bytes, chain: p.Chain, hash: p.SHA256, gone: p.Gone}
	if e.gone || p.Size == 0 || uint64(len(p.Bytes)) == p.Size {
		return e, nil
	}
	if p.Size > maxEntry {
		return nil, fmt.Errorf("client: entry %d of %s has %d bytes, at most %d are taken", p.Seq, g.jid, p.Size, maxEntry)
	}
	buf := make([]byte, 0, min(p.Size, 1<<20))
	for uint64(len(buf)) < p.Size {
		var piece stanza.Entry
		q := &stanza.EntryQuery{Seq: p.Seq, Offset: uint64(len(buf)), Device: g.c.device}
		if err := g.c.ask(ctx, "get", g.jid, q, &piece); err != nil {
			return nil, err
		}
		if piece.Offset != uint64(len(buf)) || len(piece.Bytes) == 0 || uint64(len(buf)+len(piece.Bytes)) > p.Size {
			return nil, fmt.Errorf("client: entry %d of %s comes in pieces that do not fit", p.Seq, g.jid)
		}
		buf = append(buf, piece.Bytes...)
	}
	e.bytes = buf
	return e, nil
}

// fetchFailed turns the refusal of a page into what it means for the group.
func (g *Group) fetchFailed(err error, after uint64) error {
	var gone *stanza.HistoryGone
	var notMember *stanza.NotAMember
	var refused *stanza.Error
	if errors.As(err, &notMember) || errors.As(err, &refused) && refused.Condition == stanza.Forbidden {
		g.mu.Lock()
		frozen := g.frozen() != nil
		g.mu.Unlock()
		if frozen {
			return nil // nobody is in the group's next life yet but who has begun it
		}
	}
	switch {
	case errors.As(err, &gone):
		g.update(func(r *received) {
			if gone.First > g.meta.Seq+1 {
				g.lost(g.meta.Seq+1, gone.First-1, r, time.Time{})
			}
			g.mustRejoin("the log no longer goes back to where this device was", r)
		})
		return nil
	case errors.As(err, &notMember):
		g.update(func(r *received) { g.removed(r, Who{}, "the delivery service says so", 0, time.Time{}) })
		return nil
	case errors.As(err, &refused):
		switch refused.Condition {
		case stanza.Gone:
			next := normalOr(strings.TrimPrefix(refused.Address, "xmpp:"))
			g.update(func(r *received) { g.destroyed(&stanza.Destroyed{JID: next, Reason: refused.Text}, r, 0, time.Time{}) })
			return nil
		case stanza.ItemNotFound:
			// A group that the service does not know: it has lost it, or never
			// had it. Members still have their keys; nothing is deleted.
			return fmt.Errorf("client: %s does not know the group %s: %w", g.host, g.jid, err)
		case stanza.Forbidden:
			g.update(func(r *received) { g.removed(r, Who{}, "the delivery service says so", 0, time.Time{}) })
			return nil
		}
	}
	return err
}

// update applies fn to a group that this device is in, as the worker would
// apply an entry.
func (g *Group) update(fn func(r *received)) {
	g.apply(func(r *received) {
		if g.meta.Status == statusJoined {
			fn(r)
		}
	})
}

// apply is update for any group that is stored.
func (g *Group) apply(fn func(r *received)) {
	g.mu.Lock()
	r := received{flush: true}
	fn(&r)
	if g.meta.Status == statusNone {
		g.mu.Unlock()
		return
	}
	ops := r.ops
	if g.state != nil {
		ops = append(ops, g.stateOps()...)
	}
	w := &written{b: g.b, ticket: g.b.add(append(ops, g.metaOp())...), items: r.items}
	g.whenWritten(w)
	g.signal()
	g.mu.Unlock()
	if w.wait(g.c) != nil {
		return
	}
	for _, after := range r.after {
		after()
	}
}

// headWentBack is a log that is shorter than it was.
func (g *Group) headWentBack(head, seq uint64) error {
	g.mu.Lock()
	told := g.rollbackTold
	g.rollbackTold = true
	g.mu.Unlock()
	if !told {
		g.apply(func(r *received) {
			r.put(g, &RollbackDetected{
				Reason:   fmt.Sprintf("the delivery service's log ends at entry %d and this client has processed entry %d", head, seq),
				Evidence: Evidence{Seq: seq, Ours: g.chainString(), Theirs: fmt.Sprintf("head %d", head)},
			}, 0, time.Time{})
		})
	}
	return fmt.Errorf("client: the delivery service of %s has gone back from entry %d to %d", g.jid, seq, head)
}

func (g *Group) chainString() string {
	var h stanza.Hash
	if len(g.meta.Chain) != len(h) {
		return ""
	}
	copy(h[:], g.meta.Chain)
	return h.String()
}

// serviceRolledBack is an answer by which the service is in an earlier epoch
// than this client, which has followed its log.
func (g *Group) serviceRolledBack(ctx context.Context, fe *stanza.FutureEpoch) {
	// Unless the log tells of a reinitialisation, after which epochs begin anew.
	if err := g.catchUp(ctx, 0); err != nil {
		g.c.noteError(err)
		return
	}
	g.mu.Lock()
	if g.between() {
		g.mu.Unlock()
		return
	}
	told := g.rollbackTold
	g.rollbackTold = true
	epoch := uint64(0)
	if g.state != nil {
		epoch = g.state.Epoch()
	}
	g.mu.Unlock()
	if told || fe.Current >= epoch {
		return
	}
	g.apply(func(r *received) {
		r.put(g, &RollbackDetected{
			Reason:   fmt.Sprintf("the delivery service says that the group is in epoch %d; its log has led this client to epoch %d", fe.Current, epoch),
			Evidence: Evidence{Seq: g.meta.Seq, Ours: g.chainString(), Epoch: epoch, Theirs: fmt.Sprintf("epoch %d, head %d", fe.Current, fe.Head)},
		}, 0, time.Time{})
	})
}

// absorb takes the entries that a refusal brought along, which saves a round
// trip.
func (g *Group) absorb(se *stanza.StaleEpoch) {
	take := func(p *stanza.PastEntry, kind stanza.EntryKind) {
		if len(p.Bytes) > 0 {
			g.arrived(&entry{seq: p.Seq, epoch: p.Epoch, kind: kindOf(kind), stamp: p.Stamp, bytes: p.Bytes, chain: p.Chain, live: true})
		}
	}
	for i := range se.Commits {
		take(&se.Commits[i], stanza.EntryCommit)
	}
	for i := range se.Proposals {
		take(&se.Proposals[i], stanza.EntryProposal)
	}
}

// ack tells the service how far this device is, so that it may forget the log.
func (g *Group) ack(ctx context.Context) {
	seq := g.stored.Load()
	g.mu.Lock()
	due := g.meta.Status == statusJoined && seq > g.acked
	g.mu.Unlock()
	if !due {
		return
	}
	if err := g.c.ask(ctx, "set", g.jid, &stanza.Ack{Device: g.c.device, Seq: seq}, nil); err == nil {
		g.mu.Lock()
		g.acked = max(g.acked, seq)
		g.mu.Unlock()
	}
}
