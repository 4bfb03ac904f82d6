// SPDX-License-Identifier: Apache-2.0

package component

import (
	"sync"
)

// This file contains what waits to be written to the server link: bounded,
// ordered, answers before events.

// priority says which of two queues a stanza waits in. Within one queue the
// order is kept, so that the events of a group arrive in the order of its log.
type priority uint8

const (
	prioAnswer priority = iota // answers to requests, and our own requests
	prioEvent                  // live events: what is lost is repaired from the log
)

func (p priority) String() string {
	if p == prioAnswer {
		return "answer"
	}
	return "event"
}

// An outItem is one stanza, or one stanza for many recipients. The bytes of a
// fan-out are serialised once; only the recipient's address differs.
type outItem struct {
	head, tail []byte // the stanza is head, or head + to + tail if to is not nil
	to         []string
	skip       string // a recipient that is left out: the sender
	next       int    // index in to of the next recipient
}

// size is what the item costs while it waits, in bytes of memory.
func (o *outItem) size() int { return len(o.head) + len(o.tail) + 16*len(o.to) + 64 }

// count is the number of stanzas that are still to be written, with those that
// are left out.
func (o *outItem) count() int {
	if o.to == nil {
		return 1
	}
	return len(o.to) - o.next
}

// outQueue holds stanzas until the link has room for them.
type outQueue struct {
	mu      sync.Mutex
	wake    chan struct{} // has room for one: something was added
	queues  [2][]outItem
	bytes   [2]int
	stanzas int
	max     [2]int // bytes
	open    bool   // a link is up; else everything is refused
	idle    chan struct{}
}

func newOutQueue(maxAnswers, maxEvents int) *outQueue {
	return &outQueue{wake: make(chan struct{}, 1), max: [2]int{maxAnswers, maxEvents}}
}

// put adds an item and reports whether there was room.
func (q *outQueue) put(p priority, it outItem) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := it.size()
	if !q.open || q.bytes[p]+n > q.max[p] {
		return false
	}
	q.queues[p] = append(q.queues[p], it)
	q.bytes[p] += n
	q.stanzas += it.count()
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true
}

// fill appends waiting stanzas to b until it holds about limit bytes or the
// queue is empty, and returns how many they were. A stanza is never divided.
func (q *outQueue) fill(b []byte, limit int) ([]byte, int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, done := 0, 0
	for p := range q.queues {
		for len(q.queues[p]) > 0 && len(b) < limit {
			it := &q.queues[p][0]
			if it.to == nil {
				b = append(b, it.head...)
				n++
				done++
			}
			for it.next < len(it.to) && len(b) < limit {
				if to := it.to[it.next]; to != it.skip {
					b = append(b, it.head...)
					b = append(b, to...)
					b = append(b, it.tail...)
					n++
				}
				it.next++
				done++
			}
			if it.next < len(it.to) {
				break
			}
			q.bytes[p] -= it.size()
			q.queues[p][0] = outItem{} // let the bytes go
			q.queues[p] = q.queues[p][1:]
		}
	}
	q.stanzas -= done
	if q.stanzas == 0 {
		q.queues = [2][]outItem{}
		if q.idle != nil {
			close(q.idle)
			q.idle = nil
		}
	}
	return b, n
}

// reset empties the queue and opens or closes it. It returns how many stanzas
// were dropped: they were never written, so requests among them have no answer.
func (q *outQueue) reset(open bool) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.stanzas
	q.queues, q.bytes, q.stanzas, q.open = [2][]outItem{}, [2]int{}, 0, open
	if q.idle != nil {
		close(q.idle)
		q.idle = nil
	}
	return n
}

// drained returns a channel that is closed when nothing waits any more.
func (q *outQueue) drained() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stanzas == 0 {
		c := make(chan struct{})
		close(c)
		return c
	}
	if q.idle == nil {
		q.idle = make(chan struct{})
	}
	return q.idle
}

// waiting returns the number of stanzas and bytes that wait.
func (q *outQueue) waiting() (stanzas, bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.stanzas, q.bytes[0] + q.bytes[1]
}
