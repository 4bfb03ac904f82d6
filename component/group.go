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

// This file owns the order of groups. Each group that is in use has one
// goroutine; everything that changes the group goes through its inbox. What it
// remembers is a cache: the store decides, by the group's revision, whether a
// change still fits, so that several processes can serve one group. An unused
// group is forgotten and costs nothing.

// groupTable holds the groups that are in use.
type groupTable struct {
	s *Service

	mu     sync.Mutex
	m      map[string]*group
	closed bool
	wg     sync.WaitGroup
}

// group is one group in use.
type group struct {
	s     *Service
	jid   string
	inbox chan groupJob

	// used is guarded by the table's mutex.
	used time.Time

	// The rest belongs to the group's goroutine.
	st *groupState // nil: not loaded, or outdated
}

// A groupJob is a request, or work of our own.
type groupJob struct {
	r  *request
	do func(ctx context.Context, g *group)
}

func newGroupTable(s *Service) *groupTable { return &groupTable{s: s, m: make(map[string]*group)} }

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
		g = &group{s: t.s, jid: jid, inbox: make(chan groupJob, groupInbox)}
		t.m[jid] = g
		t.wg.Add(1)
		t.s.metrics.loaded.Set(float64(len(t.m)))
		go func() {
			defer t.wg.Done()
			g.run()
		}()
	}
	select {
	case g.inbox <- j:
		g.used = t.s.now()
		return true
	default:
		return false
	}
}

// dropOne forgets one of the groups that have nothing to do, the least used of a
// few: looking at all of them would cost every request.
func (t *groupTable) dropOne() bool {
	var oldest *group
	looked := 0
	for _, g := range t.m {
		if len(g.inbox) == 0 && (oldest == nil || g.used.Before(oldest.used)) {
			oldest = g
		}
		if looked++; looked > 16 && oldest != nil {
			break
		}
	}
	if oldest == nil {
		return false
	}
	delete(t.m, oldest.jid)
	close(oldest.inbox)
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
		for jid, g := range t.m {
			if len(g.inbox) == 0 && g.used.Before(old) {
				delete(t.m, jid)
				close(g.inbox) // no sender: put needs the mutex and the entry
			}
		}
		t.s.metrics.loaded.Set(float64(len(t.m)))
		t.mu.Unlock()
	}
}

// close ends all groups, after the work that they have.
func (t *groupTable) close() {
	t.mu.Lock()
	t.closed = true
	for jid, g := range t.m {
		delete(t.m, jid)
		close(g.inbox)
	}
	t.mu.Unlock()
	t.wg.Wait()
}

// run is the group's goroutine. Application messages that wait together are
// taken together.
func (g *group) run() {
	var batch []*request
	var held *groupJob
	for {
		var j groupJob
		if held != nil {
			j, held = *held, nil
		} else {
			var ok bool
			if j, ok = <-g.inbox; !ok {
				return
			}
		}
		if j.r == nil {
			g.internal(j.do)
			continue
		}
		if j.r.verb != verbSend {
			g.one(j.r)
			continue
		}
		batch = append(batch[:0], j.r)
	more:
		for len(batch) < sendBatch {
			select {
			case j, ok := <-g.inbox:
				if !ok {
					break more // the channel stays closed for the next round
				}
				if j.r == nil || j.r.verb != verbSend {
					held = &j
					break more
				}
				batch = append(batch, j.r)
			default:
				break more
			}
		}
		g.sendAll(batch)
		clear(batch)
	}
}

// one serves one request. A fault of ours costs the cached state, too: it may
// be what is wrong.
func (g *group) one(r *request) {
	ok := false
	g.s.serve(r, func() (stanza.Payload, error) {
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
