// SPDX-License-Identifier: Apache-2.0

package client

import (
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/lockstep-im/lockstep/client/store"
)

// This file hands messages and events to the application: for each group in
// order, on a goroutine of its own, which exists while there is something to
// hand over. A handler may call anything: nothing waits for it.

// maxQueued is how many items of one group are kept in memory for a slow
// handler. The rest is in the store.
const maxQueued = 512

// item is a message or an event on its way to the application.
type item struct {
	row     string // its row in the store; empty if it has none
	message *Message
	event   Event
}

// dispatcher is the queue of one group, or of the events about no group.
type dispatcher struct {
	c *Client
	g *Group // nil for the client's own

	mu      sync.Mutex
	queue   []item
	last    string // row of the newest item in queue or handed over
	more    bool   // the store has rows after last
	pushes  int    // counts push, so that refill notices one that it raced with
	running bool
	idle    chan struct{} // closed when not running
}

func newDispatcher(c *Client, g *Group) *dispatcher {
	idle := make(chan struct{})
	close(idle)
	return &dispatcher{c: c, g: g, idle: idle}
}

// push queues items whose rows are durable.
func (d *dispatcher) push(items ...item) {
	if len(items) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pushes++
	for _, it := range items {
		if it.row == "" {
			// An ephemeral message, or how far a catch-up is, means nothing to
			// who is so far behind; the rest is rare.
			_, progress := it.event.(*Progress)
			if len(d.queue) < maxQueued || it.message == nil && !progress {
				d.queue = append(d.queue, it)
			}
			continue
		}
		if d.more || len(d.queue) >= maxQueued {
			d.more = true // it will be read back in its turn
			continue
		}
		d.queue = append(d.queue, it)
		d.last = it.row
	}
	d.startLocked()
}

// resume hands over what an earlier run has left in the store.
func (d *dispatcher) resume() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.more = true
	d.startLocked()
}

func (d *dispatcher) startLocked() {
	if d.running || d.c.handlersStopped() {
		return
	}
	d.running = true
	d.idle = make(chan struct{})
	go d.run()
}

// wait returns when the handler has nothing to do, or after a while.
func (d *dispatcher) wait(timeout time.Duration) {
	d.mu.Lock()
	idle := d.idle
	d.mu.Unlock()
	select {
	case <-idle:
	case <-time.After(timeout):
	}
}

func (d *dispatcher) run() {
	for {
		d.mu.Lock()
		if d.c.handlersStopped() || len(d.queue) == 0 && !d.more {
			d.running = false
			close(d.idle)
			d.mu.Unlock()
			return
		}
		if len(d.queue) == 0 {
			last, pushes := d.last, d.pushes
			d.mu.Unlock()
			d.refill(last, pushes)
			continue
		}
		it := d.queue[0]
		d.queue[0] = item{}
		d.queue = d.queue[1:]
		if len(d.queue) == 0 {
			d.queue = nil
		}
		d.mu.Unlock()
		d.c.handle(it)
		d.c.fail("handled")
		if it.row != "" && d.g != nil && !d.c.handlersStopped() {
			// Not waited for: if it is lost the item comes again with its id. So it
			// does when Close came meanwhile, and with it the end of the handler's
			// context: what it could not do is done after the restart.
			d.g.delivered(it.row)
		}
	}
}

// refill reads rows after last back from the store.
func (d *dispatcher) refill(last string, pushes int) {
	from := d.g.row("e/")
	if last > from {
		from = last + "\x00"
	}
	var items []item
	more := false
	err := d.c.store.Scan(from, store.PrefixEnd(d.g.row("e/")), func(key string, value []byte) error {
		if len(items) == maxQueued/2 {
			more = true
			return errStopScan
		}
		it, err := d.g.decodeItem(key, value)
		if err != nil {
			d.c.log.Error("dropping an item that the store garbled", "group", d.g.jid, "error", err)
			it = item{row: key}
		}
		items = append(items, it)
		return nil
	})
	if err != nil && err != errStopScan {
		d.c.log.Error("reading undelivered messages", "group", d.g.jid, "error", err)
		more = false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.more = more || d.pushes != pushes
	for _, it := range items {
		d.queue = append(d.queue, it)
		d.last = it.row
	}
}

var errStopScan = fmt.Errorf("stop")

// handle calls the application's handler. A panic in it is the application's
// bug and stays with the one message.
func (c *Client) handle(it item) {
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("handler panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	ctx := c.handlerContext()
	c.mu.Lock()
	onMessage, onEvent := c.onMessage, c.onEvent
	c.mu.Unlock()
	switch {
	case it.message != nil && onMessage != nil:
		onMessage(ctx, it.message)
	case it.event != nil && onEvent != nil:
		onEvent(ctx, it.event)
	}
}

// emit tells an event about no group.
func (c *Client) emit(e Event) {
	m := e.Meta()
	if m.ID == "" {
		m.ID = randomID()
	}
	if m.Time.IsZero() {
		m.Time = c.cfg.clock().UTC()
	}
	c.events.push(item{event: e})
}
