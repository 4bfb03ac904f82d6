// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/stanza"
)

// This file owns the order of groups. Each group that has work has one
// goroutine; everything that changes the group goes through its queue. What it
// remembers is a cache: the store decides, by the group's revision, whether a
// change still fits, so that several processes can serve one group. An unused
// group is forgotten and costs nothing.

// groupTable holds the groups that are in use.
type groupTable struct {
	s *Service

	mu     sync.Mutex
	m      map[string]*group
	leaves int // of all groups, as far as they are loaded
	closed bool
	wg     sync.WaitGroup // groups that are active
	spare  chan *group    // of capacity 0: received from by goroutines without a group
}

// group is one group in use. It has a goroutine only while it has work.
type group struct {
	s   *Service
	jid string

	// Guarded by the table's mutex.
	queue  []groupJob
	active bool // the goroutine runs
	used   time.Time
	weight int // leaves that the group counts for in the table

	// The rest belongs to the group's goroutine.
	st *groupState // nil: not loaded, or outdated
}

// A groupJob is a request, or work of our own.
type groupJob struct {
	r  *request
	do func(ctx context.Context, g *group)
}

func newGroupTable(s *Service) *groupTable {
	return &groupTable{s: s, m: make(map[string]*group), spare: make(chan *group)}
}

func (t *groupTable) loaded() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.m)
}

// submit queues a request for a group and reports whether there was room.
func (t *groupTable) submit(jid string, r *request) bool {
	return t.put(jid, groupJob{r: r})
}

// run queues work of our own for a group and reports whether there was room.
func (t *groupTable) run(jid string, f func(ctx context.Context, g *group)) bool {
	return t.put(jid, groupJob{do: f})
}

func (t *groupTable) put(jid string, j groupJob) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	g, ok := t.m[jid]
	if !ok {
		if len(t.m) >= groupsLoaded && !t.dropOne() {
			return false
		}
		g = &group{s: t.s, jid: jid}
		t.m[jid] = g
		t.s.metrics.loaded.Set(float64(len(t.m)))
	}
	if len(g.queue) >= groupInbox || j.r != nil && len(g.queue) >= groupInbox/2 && g.share(j.r.from.bare) >= groupInbox/4 {
		return false
	}
	g.queue = append(g.queue, j)
	g.used = t.s.now()
	if !g.active {
		g.active = true
		t.wg.Add(1)
		select {
		case t.spare <- g:
		default:
			go t.worker(g)
		}
	}
	return true
}

// share says how many requests of an account wait for the group: when half of
// the queue is full, nobody gets more than a quarter of it.
func (g *group) share(bare string) int {
	n := 0
	for _, j := range g.queue {
		if j.r != nil && j.r.from.bare == bare {
			n++
		}
	}
	return n
}

// worker is a goroutine that runs a group, and then waits a little for another:
// goroutines that have done a commit have the stack for one.
func (t *groupTable) worker(g *group) {
	for {
		g.run()
		t.wg.Done()
		idle := time.NewTimer(workerIdle)
		select {
		case g = <-t.spare:
			idle.Stop()
		case <-idle.C:
			return
		}
	}
}

// take gives a group's goroutine what it is to do next: one job, or the
// application messages that wait together. ok is false when there is nothing:
// the goroutine then ends.
func (t *groupTable) take(g *group, sends []*request) (_ groupJob, _ []*request, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.weigh(g)
	if len(g.queue) == 0 {
		g.queue, g.active = nil, false
		if g.st == nil {
			t.forget(g) // there is no such group, or it is to be read again
		}
		return groupJob{}, nil, false
	}
	for len(g.queue) > 0 && len(sends) < sendBatch {
		j := g.queue[0]
		if j.r == nil || j.r.verb != verbSend {
			if len(sends) > 0 {
				break
			}
			g.pop()
			return j, nil, true
		}
		g.pop()
		sends = append(sends, j.r)
	}
	return groupJob{}, sends, true
}

func (g *group) pop() {
	g.queue[0] = groupJob{}
	g.queue = g.queue[1:]
}

// weigh notes how large a group is now, and makes room for it: what all groups
// in memory hold is bounded, however many of them are large.
func (t *groupTable) weigh(g *group) {
	n := 0
	if g.st != nil {
		n = g.st.leaves
	}
	t.leaves += n - g.weight
	g.weight = n
	for t.leaves > t.s.limits.CachedLeaves && t.dropOne() {
	}
}

func (t *groupTable) forget(g *group) {
	delete(t.m, g.jid)
	t.leaves -= g.weight
	g.weight = 0
	t.s.metrics.loaded.Set(float64(len(t.m)))
}

// dropOne forgets one of the groups that have nothing to do, the least used of a
// few: looking at all of them would cost every request.
func (t *groupTable) dropOne() bool {
	var oldest *group
	looked := 0
	for _, g := range t.m {
		if !g.active && (oldest == nil || g.used.Before(oldest.used)) {
			oldest = g
		}
		if looked++; looked > 16 && oldest != nil {
			break
		}
	}
	if oldest == nil {
		return false
	}
	t.forget(oldest)
	return true
}

// evict forgets groups that nobody has used for a while.
func (t *groupTable) evict(ctx context.Context) {
	tick := time.NewTicker(max(t.s.limits.GroupIdle/4, 10*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		old := t.s.now().Add(-t.s.limits.GroupIdle)
		t.mu.Lock()
		for _, g := range t.m {
			if !g.active && g.used.Before(old) {
				t.forget(g)
			}
		}
		t.mu.Unlock()
	}
}

// close ends all groups, after the work that they have.
func (t *groupTable) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.wg.Wait()
}

// run is the group's goroutine. Application messages that wait together are
// taken together.
func (g *group) run() {
	var sends []*request
	for {
		j, batch, ok := g.s.groups.take(g, sends[:0])
		switch {
		case !ok:
			return
		case len(batch) > 0:
			g.sendAll(batch)
			clear(batch)
			sends = batch
		case j.r != nil:
			g.one(j.r)
		default:
			g.internal(j.do)
		}
	}
}

// one serves one request. A fault of ours costs the cached state, too: it may
// be what is wrong.
func (g *group) one(r *request) {
	ok := false
	g.s.serve(r, func() (stanza.Payload, error) {
		g.moved(r.ctx)
		p, err := r.verb.group(g, r)
		ok = true
		return p, err
	})
	if !ok {
		g.st = nil
	}
}

func (g *group) internal(f func(ctx context.Context, g *group)) {
	ctx, cancel := context.WithTimeout(g.s.base, requestTimeout)
	defer cancel()
	ok := false
	g.s.guard("group work", func() {
		g.moved(ctx)
		f(ctx, g)
		ok = true
	})
	if !ok {
		g.st = nil
	}
}

// load gives the group's state, from the store if need be.
func (g *group) load(ctx context.Context) (*groupState, error) {
	if g.st != nil {
		return g.st, nil
	}
	st, err := g.s.loadGroup(ctx, g.jid)
	if err != nil {
		return nil, err
	}
	g.st = st
	return st, nil
}

// moved looks whether another process has changed the group since its state was
// cached, and forgets the state if so, or if that cannot be told. A change that
// we make is held against the group's revision by the store; a refusal, and what
// is relayed without being stored, rests on the cache alone.
func (g *group) moved(ctx context.Context) bool {
	if g.st == nil || !g.s.store.Shared() {
		return false
	}
	var row *store.Group
	err := g.s.store.View(ctx, func(r store.Reader) (err error) {
		row, err = r.Group(g.jid)
		return err
	})
	if err != nil || row.Key != g.st.row.Key || row.Rev != g.st.row.Rev {
		g.st = nil
		return true
	}
	g.st.row.Head, g.st.row.Chain = row.Head, row.Chain // messages do not count as revisions
	return false
}

// conflict looks what became of a group that moved under us, and forgets the
// cached state.
func (g *group) conflict(err error) bool {
	var ce *store.ConflictError
	if !errors.As(err, &ce) && !errors.Is(err, store.ErrNotFound) {
		return false
	}
	g.st = nil // it moved, or another process has destroyed it
	return true
}
