// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"
	"sync"
)

// workers run requests that change no group. The requests of one account are
// served one at a time, in the order of their arrival; accounts take turns, so
// that one that asks for much waits behind itself and nobody else.
type workers struct {
	mu     sync.Mutex
	more   *sync.Cond
	m      map[string]*turn
	ready  []*turn // accounts that have work and no worker
	closed bool
}

// turn is an account that has work.
type turn struct {
	key  string
	work []func() // the first is under way, unless the turn is in ready
}

func newWorkers(s *Service) *workers {
	w := &workers{m: make(map[string]*turn)}
	w.more = sync.NewCond(&w.mu)
	for range senderWorkers {
		s.background(func(context.Context) { w.run() })
	}
	return w
}

// submit queues f behind earlier work of the same key, and reports whether there
// was room.
func (w *workers) submit(key string, f func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	t, ok := w.m[key]
	switch {
	case w.closed || ok && len(t.work) >= senderInbox:
		return false
	case ok:
		t.work = append(t.work, f)
		return true
	}
	t = &turn{key: key, work: []func(){f}}
	w.m[key] = t
	w.ready = append(w.ready, t)
	w.more.Signal()
	return true
}

// run is a worker: it serves one request of the account whose turn it is, and
// lets the account queue again.
func (w *workers) run() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		for len(w.ready) == 0 {
			if w.closed {
				return
			}
			w.more.Wait()
		}
		t := w.ready[0]
		w.ready[0] = nil
		if w.ready = w.ready[1:]; len(w.ready) == 0 {
			w.ready = nil
		}
		f := t.work[0]
		w.mu.Unlock()
		f()
		w.mu.Lock()
		t.work[0] = nil
		if t.work = t.work[1:]; len(t.work) == 0 {
			delete(w.m, t.key)
			continue
		}
		w.ready = append(w.ready, t)
		w.more.Signal()
	}
}

// close ends the workers when they have done what there is to do.
func (w *workers) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.more.Broadcast()
}
