// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/lockstep-im/lockstep/client/store"
)

// batch gathers the store operations of one group and writes them in the order
// in which the group's state changed.
//
// Changes are added under the group's lock, so that their order is the state's
// order; the writing happens outside of it, one write at a time. Whoever waits
// for a write takes everything along that has gathered since: under load many
// messages share one sync. Operations on the same row replace each other: of
// the two hundred ratchet states of a page, one is written.
type batch struct {
	store  store.Store
	onFail func() // told once, on a goroutine of its own

	mu      sync.Mutex
	ops     []store.Op
	index   map[string]int // key -> position in ops
	added   uint64         // tickets given out
	written uint64         // tickets durable
	writing bool           // somebody writes, for all who wait
	wrote   sync.Cond      // a write has ended
	err     error          // sticky: the group must be loaded anew
}

// errStoreFailed wraps the failure of a write: what is in memory is ahead of
// the store, and must be thrown away.
var errStoreFailed = errors.New("client: the store failed")

func newBatch(s store.Store, onFail func()) *batch {
	b := &batch{store: s, onFail: onFail, index: make(map[string]int)}
	b.wrote.L = &b.mu
	return b
}

// add queues operations. The ticket is what flush takes.
func (b *batch) add(ops ...store.Op) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, op := range ops {
		if op.Prefix {
			// What was queued under the prefix must happen before: an order
			// that replacing rows in place would break.
			b.index = make(map[string]int)
			b.ops = append(b.ops, op)
			continue
		}
		if i, ok := b.index[op.Key]; ok {
			b.ops[i] = op
			continue
		}
		b.index[op.Key] = len(b.ops)
		b.ops = append(b.ops, op)
	}
	b.added++
	return b.added
}

// flush returns when everything up to ticket is durable. Its error is sticky.
func (b *batch) flush(ticket uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.err == nil && b.written < ticket {
		if b.writing {
			b.wrote.Wait()
		} else {
			b.write()
		}
	}
	return b.err
}

// has reports whether everything up to ticket is durable.
func (b *batch) has(ticket uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.written >= ticket
}

// write makes durable what has gathered. Called with the lock held, which it gives
// up while writing.
func (b *batch) write() {
	ops, upTo := b.ops, b.added
	b.ops, b.index = nil, make(map[string]int)
	b.writing = true
	b.mu.Unlock()
	var err error
	if len(ops) > 0 {
		// The context of one caller must not stop the write of the others.
		err = b.store.Apply(context.Background(), ops)
	}
	b.mu.Lock()
	b.writing = false
	if err != nil {
		b.err = fmt.Errorf("%w: %w", errStoreFailed, err)
		go b.onFail()
	} else {
		b.written = upTo
	}
	b.wrote.Broadcast()
}

// flushAll writes what there is.
func (b *batch) flushAll() error {
	b.mu.Lock()
	ticket := b.added
	b.mu.Unlock()
	return b.flush(ticket)
}

// failed gives the sticky error.
func (b *batch) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}
