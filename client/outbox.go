// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// This file holds the messages that wait for the delivery service's word, and what
// becomes of them: accepted, refused, or sealed anew when their epoch is over. How
// they get there is in outgoing.go.

// outMessage is a message on its way.
type outMessage struct {
	row      string
	origin   string
	content  []byte // what is inside the envelope, to be sealed again in another epoch
	written  time.Time
	sealed   []byte
	ref      stanza.Ref
	epoch    uint64
	durable  bool   // it is in the store, and may leave
	b        *batch // by which it gets there, unless it is durable
	ticket   uint64
	flying   bool  // submitted, and its answer is not waited for
	trouble  error // why its first submission did not do
	accepted bool  // the delivery service has said yes
	later    bool  // nobody waited for that: an event tells, when the log is so far
	waiting  int   // callers that wait for it
	done     chan struct{}
	sent     *Sent
	err      error
}

// isDurable reports whether the message may leave. It does not depend on who waits
// for the write, and may be late to say so. Called with the group's lock held.
func (m *outMessage) isDurable() bool {
	if !m.durable && m.b.has(m.ticket) {
		m.durable, m.b = true, nil
	}
	return m.durable
}

// finish ends the waiting. Called with the group's lock held, once.
func (m *outMessage) finish(sent *Sent, err error) {
	select {
	case <-m.done:
	default:
		m.sent, m.err = sent, err
		close(m.done)
	}
}

// storedMessage is the row of an outMessage.
type storedMessage struct {
	Origin  string    `json:"origin"`
	Content []byte    `json:"content,omitempty"` // beside the header, as is Sealed
	Written time.Time `json:"written"`
	Sealed  []byte    `json:"sealed,omitempty"`
	Epoch   uint64    `json:"epoch"`
}

func (m *outMessage) op() store.Op {
	row := make([]byte, 0, 256+len(m.content)+len(m.sealed))
	return store.Put(m.row, appendBlobRow(row, storedMessage{Origin: m.origin, Written: m.written, Epoch: m.epoch}, m.content, m.sealed))
}

func (g *Group) loadOutbox() error {
	g.outbox, g.byRef = nil, make(map[stanza.Ref]*outMessage)
	prefix := g.row("o/")
	return g.c.store.Scan(prefix, store.PrefixEnd(prefix), func(key string, value []byte) error {
		var s storedMessage
		if err := readBlobRow(value, &s, &s.Content, &s.Sealed); err != nil {
			return fmt.Errorf("client: reading the outbox: %w", err)
		}
		m := &outMessage{
			row: key, origin: s.Origin, content: s.Content, written: s.Written, sealed: s.Sealed, epoch: s.Epoch,
			ref: stanza.MessageRef(s.Sealed), durable: true, done: make(chan struct{}),
		}
		if n, err := strconv.ParseUint(key[len(prefix):], 16, 64); err == nil {
			g.meta.Row = max(g.meta.Row, n) // it was written without the group's own row
		}
		g.outbox = append(g.outbox, m)
		if len(m.sealed) > 0 {
			g.byRef[m.ref] = m
		}
		return nil
	})
}

func isDone(ch chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// backoff bounds the wait before the nth attempt.
func backoff(n int) time.Duration {
	return min(250*time.Millisecond<<min(n, 8), 30*time.Second)
}

// sleep waits, and no longer than ctx, or until Close.
func (c *Client) sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-c.life.Done():
	case <-t.C:
	}
}

// waitLink waits for a connection. It reports false when ctx ends, or with Close.
func (c *Client) waitLink(ctx context.Context) bool {
	for ctx.Err() == nil && c.alive() == nil {
		if l, _ := c.currentLink(); l != nil {
			return true
		}
		c.sleep(ctx, 50*time.Millisecond)
	}
	return false
}

// retryAfter is how long a service asks to wait, 0 if it does not.
func retryAfter(err error) time.Duration {
	var r *stanza.RetryAfter
	var m *stanza.Maintenance
	var e *stanza.Error
	d := time.Duration(0)
	switch {
	case errors.As(err, &r):
		d = r.After
	case errors.As(err, &m):
		d = m.After
	case errors.As(err, &e) && e.Type == stanza.ErrorWait && e.Condition == stanza.ResourceConstraint && e.App == nil:
		d = 5 * time.Second
	default:
		return 0
	}
	d = min(max(d, 200*time.Millisecond), 5*time.Minute)
	return d + rand.N(d/2+1)
}

// accepted notes that the service has taken the message. Called with the lock held.
func (g *Group) accepted(m *outMessage, ref stanza.Ref, acc *stanza.Accepted) {
	if m.ref != ref || m.accepted {
		return
	}
	m.accepted = true
	m.later = m.waiting == 0
	m.finish(&Sent{ID: acc.ID, Seq: acc.Seq, Epoch: m.epoch, OriginID: m.origin, Time: acc.Stamp}, nil)
	e := &entry{seq: acc.Seq, epoch: m.epoch, kind: groupdata.Application, id: acc.ID, stamp: acc.Stamp, bytes: m.sealed, chain: acc.Chain, live: true, own: true}
	if g.meta.Status != statusJoined { // the log will not be so far
		var r received
		if g.tellLater(&r); r.items != nil {
			g.whenWritten(&written{b: g.b, ticket: g.b.add(append(r.ops, g.metaOp())...), items: r.items})
		}
	}
	// It takes its place in the order: the chain runs over own entries too.
	g.arrivedLocked(e)
}

// refused gives a message up.
func (g *Group) refused(m *outMessage, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m.accepted || isDone(m.done) {
		return
	}
	ops := []store.Op{store.Delete(m.row)}
	var it item
	if m.waiting == 0 {
		var op store.Op
		it, op = g.eventOp(&SendFailed{OriginID: m.origin, Reason: err.Error()}, 0, time.Time{})
		ops = append(ops, op)
	}
	g.dropOut(m)
	ticket := g.b.add(append(ops, g.metaOp())...)
	m.finish(nil, fmt.Errorf("client: sending to %s: %w", g.jid, err))
	if it.row != "" {
		g.whenWritten(&written{b: g.b, ticket: ticket, items: []item{it}})
	}
	var nm *stanza.NotAMember
	if errors.As(err, &nm) {
		go g.fetchSoon() // the log says who removed us
	}
	g.flushSoon()
}

// dropOut takes a message out of the outbox. Called with the lock held.
func (g *Group) dropOut(m *outMessage) {
	for i, o := range g.outbox {
		if o == m {
			g.outbox = append(g.outbox[:i:i], g.outbox[i+1:]...)
			break
		}
	}
	delete(g.byRef, m.ref)
}

// reseal catches up after a refusal for a past epoch and seals the message for
// the present one. The old sealed form was refused, so that there will not be
// two of it.
func (g *Group) reseal(ctx context.Context, m *outMessage, se *stanza.StaleEpoch) error {
	g.absorb(se)
	if err := g.catchUp(ctx, se.Head); err != nil {
		g.c.noteError(err)
		return nil // tried again
	}
	return g.sealAnew(ctx, m)
}

// sealAnew seals a message for the present epoch, unless it is.
func (g *Group) sealAnew(ctx context.Context, m *outMessage) error {
	if err := g.usable(ctx); err != nil {
		if errors.Is(err, ErrNotMember) {
			g.refused(m, err)
		}
		return err
	}
	b := g.b
	ticket, err := g.sealOut(m)
	g.mu.Unlock()
	if err != nil {
		g.refused(m, err)
		return err
	}
	return b.flush(ticket)
}

// sealOut is sealAnew with the lock held, and without the write.
func (g *Group) sealOut(m *outMessage) (ticket uint64, err error) {
	switch {
	case m.accepted || isDone(m.done):
		return 0, ErrClosed
	case len(m.sealed) > 0 && m.epoch == g.state.Epoch():
		return 0, nil // the service is behind; the same message again
	}
	if err := g.permitted(); err != nil {
		return 0, err
	}
	msg, ops, err := g.seal(m.content, m.origin, m.written)
	if err != nil {
		return 0, err
	}
	delete(g.byRef, m.ref)
	m.sealed, m.ref, m.epoch = msg.Bytes(), stanza.MessageRef(msg.Bytes()), g.state.Epoch()
	g.byRef[m.ref] = m
	g.meta.Sent++
	return g.b.add(append(ops, m.op())...), nil
}
