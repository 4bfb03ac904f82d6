// SPDX-License-Identifier: Apache-2.0

package client

import "sync"

// This file follows the writes of a group: what they have made durable is handed to
// the application in the order in which it was added to the batch, while the next
// entries of the log are processed already.

// maxUnwritten is how many writes of received entries may wait for the disk before
// the processing does.
const maxUnwritten = 3

// written is what follows when the operations up to a ticket are durable.
type written struct {
	b      *batch
	ticket uint64
	then   func()   // before anybody hears of it; nil: nothing. Not after a failure
	items  []item   // for the application. Not after a failure
	after  []func() // in any case

	done chan struct{} // closed when all of it has happened
	err  error         // of the write
}

// whenWritten sees to w, behind what was given to it before. Called with the group's
// lock held, under which w's operations were added. After Close nothing follows.
func (g *Group) whenWritten(w *written) {
	w.done = make(chan struct{})
	g.writes.mu.Lock()
	defer g.writes.mu.Unlock()
	g.writes.queue = append(g.writes.queue, w)
	if !g.writes.busy {
		g.writes.busy = g.c.spawn(g.followWrites)
	}
}

// wait returns when all has happened that follows w, with the error of the write, or
// ErrClosed.
func (w *written) wait(c *Client) error {
	select {
	case <-w.done:
		return w.err
	case <-c.life.Done():
		return ErrClosed
	}
}

// writes are those of one group that something follows.
type writes struct {
	mu    sync.Mutex
	queue []*written // what is followed up now, and what waits
	busy  bool
}

// pending is how many there are.
func (w *writes) pending() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queue)
}

func (g *Group) followWrites() {
	q := &g.writes
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.queue) > 0 {
		w := q.queue[0]
		q.mu.Unlock()
		if w.err = w.b.flush(w.ticket); w.err == nil {
			g.failures.Store(0)
			g.c.fail("stored")
			if w.then != nil {
				w.then()
			}
			g.out.push(w.items...)
		} else {
			g.c.log.Error("writing to the store", "group", g.jid, "error", w.err)
		}
		for _, fn := range w.after {
			fn()
		}
		close(w.done)
		q.mu.Lock()
		q.queue[0] = nil
		q.queue = q.queue[1:]
		if len(q.queue) == maxUnwritten-1 {
			q.mu.Unlock()
			g.mu.Lock()
			g.signal()
			g.mu.Unlock()
			q.mu.Lock()
		}
	}
	q.queue, q.busy = nil, false
}
