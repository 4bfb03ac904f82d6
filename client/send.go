// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// This file sends application messages: seal, store, submit, and submit again
// until the delivery service has said yes or no. A message that was stored is
// never forgotten and its key never used for another.

// Sent says where a message went.
type Sent struct {
	// ID names the message for everybody in the group.
	ID string
	// Seq is its place in the group's log, 0 if it is ephemeral.
	Seq uint64
	// Epoch is the epoch it was sealed in.
	Epoch uint64
	// OriginID is the name this client gave it; [Group.Correct] takes it.
	OriginID string
	// Time is when the delivery service accepted it.
	Time time.Time
}

// QueuedError says that the answer of the delivery service did not come before
// the caller's context ended. The message is sealed and stored, and will be
// sent; a [SentLater] or [SendFailed] event with the same OriginID tells how it
// went.
type QueuedError struct {
	OriginID string
	Err      error
}

func (e *QueuedError) Error() string {
	return fmt.Sprintf("client: not accepted yet (%v): the message is kept and will be sent", e.Err)
}

func (e *QueuedError) Unwrap() error { return e.Err }

// outMessage is a message on its way.
type outMessage struct {
	row      string
	origin   string
	content  []byte // what is inside the envelope, to be sealed again in another epoch
	written  time.Time
	sealed   []byte
	ref      stanza.Ref
	epoch    uint64
	busy     bool // a goroutine submits it
	accepted bool // the delivery service has said yes
	waited   bool // a caller waits for it
	done     chan struct{}
	sent     *Sent
	err      error
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
	Content []byte    `json:"content"`
	Written time.Time `json:"written"`
	Sealed  []byte    `json:"sealed"`
	Epoch   uint64    `json:"epoch"`
}

func (m *outMessage) op() store.Op {
	b, err := json.Marshal(storedMessage{m.origin, m.content, m.written, m.sealed, m.epoch})
	if err != nil {
		panic("client: internal error: encoding a message: " + err.Error())
	}
	return store.Put(m.row, b)
}

func (g *Group) loadOutbox() error {
	g.outbox, g.byRef = nil, make(map[stanza.Ref]*outMessage)
	prefix := g.row("o/")
	return g.c.store.Scan(prefix, store.PrefixEnd(prefix), func(key string, value []byte) error {
		var s storedMessage
		if err := json.Unmarshal(value, &s); err != nil {
			return fmt.Errorf("client: reading the outbox: %w", err)
		}
		m := &outMessage{
			row: key, origin: s.Origin, content: s.Content, written: s.Written, sealed: s.Sealed, epoch: s.Epoch,
			ref: stanza.MessageRef(s.Sealed), done: make(chan struct{}),
		}
		g.outbox = append(g.outbox, m)
		if len(m.sealed) > 0 {
			g.byRef[m.ref] = m
		}
		return nil
	})
}

// newRow names a row that sorts behind all others of its kind, also after a
// restart.
func (g *Group) newRow(kind string) string {
	n := uint64(time.Now().UnixNano())
	if n <= g.nextRow {
		n = g.nextRow + 1
	}
	g.nextRow = n
	return g.row(fmt.Sprintf("%s/%016x", kind, n))
}

// Send sends text and returns when the delivery service has accepted it. If ctx
// ends before that the error is a [*QueuedError] and the message goes out later.
func (g *Group) Send(ctx context.Context, text string) (*Sent, error) {
	return g.send(ctx, appendBody(nil, text))
}

// SendContent sends payload elements as they are: complete XML elements with
// their namespaces declared, in place of a body or beside one.
func (g *Group) SendContent(ctx context.Context, xml []byte) (*Sent, error) {
	if err := checkContent(xml); err != nil {
		return nil, err
	}
	return g.send(ctx, xml)
}

// Reply answers a message (XEP-0461).
func (g *Group) Reply(ctx context.Context, to *Message, text string) (*Sent, error) {
	b := appendBody(nil, text)
	return g.send(ctx, appendEmpty(b, stanza.NSReply, "reply", "to", to.Sender.JID, "id", to.ref()))
}

// React sets this account's reactions to a message (XEP-0444); none takes them
// back.
func (g *Group) React(ctx context.Context, to *Message, reactions ...string) (*Sent, error) {
	return g.send(ctx, appendReactions(nil, to.ref(), reactions))
}

// Correct replaces an own earlier message (XEP-0308), by its OriginID.
func (g *Group) Correct(ctx context.Context, originID, text string) (*Sent, error) {
	b := appendBody(nil, text)
	return g.send(ctx, appendEmpty(b, stanza.NSCorrect, "replace", "id", originID))
}

// Retract takes an earlier message back (XEP-0424), by its OriginID: an own
// one, or, as an admin or owner, anybody's. Others may have read and kept it.
func (g *Group) Retract(ctx context.Context, originID string) (*Sent, error) {
	return g.send(ctx, appendEmpty(nil, stanza.NSRetract, "retract", "id", originID))
}

// MarkReceived tells that this device has the message (XEP-0184).
func (g *Group) MarkReceived(ctx context.Context, m *Message) error {
	_, err := g.send(ctx, appendEmpty(nil, stanza.NSReceipts, "received", "id", m.ref()))
	return err
}

// MarkDisplayed tells that a person has seen everything up to the message
// (XEP-0333).
func (g *Group) MarkDisplayed(ctx context.Context, m *Message) error {
	_, err := g.send(ctx, appendEmpty(nil, stanza.NSMarkers, "displayed", "id", m.ref()))
	return err
}

// SetChatState tells members who are online whether somebody is typing
// (XEP-0085): "active", "composing", "paused", "inactive" or "gone". It is not
// kept, and a failure is only worth knowing.
func (g *Group) SetChatState(ctx context.Context, state string) error {
	switch state {
	case "active", "composing", "paused", "inactive", "gone":
	default:
		return fmt.Errorf("client: %q is no chat state", state)
	}
	return g.sendEphemeral(ctx, appendEmpty(nil, stanza.NSChatStates, state))
}

// SendFile announces an uploaded file; see [Client.Upload]. caption may be
// empty.
func (g *Group) SendFile(ctx context.Context, f *File, caption string) (*Sent, error) {
	var b []byte
	if caption != "" {
		b = appendBody(b, caption)
	}
	return g.send(ctx, f.appendXML(b))
}

// UploadAndSend is Upload and SendFile in one.
func (g *Group) UploadAndSend(ctx context.Context, name string, r io.Reader, caption string) (*Sent, error) {
	f, err := g.c.Upload(ctx, name, "", r, nil)
	if err != nil {
		return nil, err
	}
	return g.SendFile(ctx, f, caption)
}

// usable waits until the group may be sent to: joined, and caught up once since
// it was loaded, because only the log can tell that the store is an old one. It
// returns with the lock held if err is nil.
func (g *Group) usable(ctx context.Context) error {
	return g.usableWhen(ctx, func() bool { return !g.between() })
}

// usableWhen is usable under a condition of its own, which is asked with the lock
// held.
func (g *Group) usableWhen(ctx context.Context, cond func() bool) error {
	for {
		g.mu.Lock()
		if err := g.load(); err != nil {
			g.mu.Unlock()
			return err
		}
		status, changed := g.meta.Status, g.changed
		if status == statusJoined && g.fresh && cond() {
			return nil
		}
		waits := status == statusJoined && g.fresh
		g.mu.Unlock()
		switch status {
		case statusLeft, statusRemoved, statusGone, statusNone:
			return ErrNotMember
		}
		select {
		case <-changed:
		case <-g.c.life.Done():
			return ErrClosed
		case <-ctx.Done():
			l, _ := g.c.currentLink()
			if l == nil {
				return fmt.Errorf("%w: %w", ErrOffline, ctx.Err())
			}
			if waits {
				return fmt.Errorf("client: %s has been reinitialised and has not gone on yet: %w", g.jid, ctx.Err())
			}
			return fmt.Errorf("client: %s is not caught up yet: %w", g.jid, ctx.Err())
		}
	}
}

// permitted checks the group's rules and the trust policy before anything is
// sealed. Called with the lock held.
func (g *Group) permitted() error {
	if g.stuck != nil {
		return g.stuck
	}
	st, err := g.agreed()
	if err != nil {
		return err
	}
	if st.Roles != nil {
		if err := st.Roles.CanSend(g.c.account, true); err != nil {
			return err
		}
	}
	// Members change with the epoch only, and trust rarely: the answer is kept.
	version := g.c.trust.version.Load()
	if epoch := g.state.Epoch(); g.okAt == [2]uint64{epoch + 1, version} {
		return nil
	}
	var bad []Who
	for m := range g.state.Members() {
		if t := g.c.trust.of(leafIdentity(m.Leaf), m.Leaf.SignatureKey); !g.c.trust.policy.Permits(t) {
			bad = append(bad, g.who(m))
		}
	}
	if bad != nil {
		return &UntrustedError{Devices: bad}
	}
	g.okAt = [2]uint64{g.state.Epoch() + 1, version}
	return nil
}

// seal makes an application message and returns the rows that it changed.
// Called with the lock held.
func (g *Group) seal(content []byte, origin string, at time.Time) (*mls.Message, []store.Op, error) {
	if origin != "" {
		content = appendEmpty(content[:len(content):len(content)], stanza.NSSID, "origin-id", "id", origin)
	}
	plain := appendEnvelope(nil, g.c.account, g.jid, at, content)
	m, err := g.state.Seal(plain, g.aad())
	if err != nil {
		return nil, nil, fmt.Errorf("client: sealing: %w", err)
	}
	return m, g.stateOps(), nil
}

// aad is what this member has verified of the log.
func (g *Group) aad() []byte {
	chain, err := groupdata.ChainFromBytes(g.meta.Chain)
	if err != nil {
		return nil // joined, and no entry seen yet
	}
	return groupdata.Position{Seq: g.meta.Seq, Chain: chain}.AAD()
}

// sealedOverhead is what a message grows by besides its padding: envelope,
// framing, signature and the data about the log.
const sealedOverhead = 1 << 10

// fits refuses content that the delivery service would not take, before a key
// is used for it and the outbox keeps what can never leave.
func (g *Group) fits(ctx context.Context, content []byte) error {
	most := int(g.c.limitsOf(ctx, g.host).MaxBytes)
	n := len(content) + sealedOverhead
	if n += mls.PadBuckets(n); n > most {
		return fmt.Errorf("client: a message of %d bytes is too large: %s takes %d with its encryption; share it as a file", len(content), g.host, most)
	}
	return nil
}

func (g *Group) send(ctx context.Context, content []byte) (*Sent, error) {
	if err := g.fits(ctx, content); err != nil {
		return nil, err
	}
	if err := g.usable(ctx); err != nil {
		return nil, err
	}
	origin := randomID()
	m, ticket, err := g.enqueue(content, origin)
	b := g.b
	g.mu.Unlock()
	if err != nil {
		return nil, err
	}
	g.c.fail("sealed")
	if err := b.flush(ticket); err != nil {
		return nil, err
	}
	g.c.fail("persisted")
	g.pump(m)
	select {
	case <-m.done:
		return m.sent, m.err
	case <-ctx.Done():
	case <-g.c.life.Done():
		return nil, &QueuedError{OriginID: origin, Err: ErrClosed}
	}
	g.mu.Lock()
	m.waited = false
	g.mu.Unlock()
	select {
	case <-m.done:
		return m.sent, m.err
	default:
		return nil, &QueuedError{OriginID: origin, Err: ctx.Err()}
	}
}

// enqueue seals content and puts it into the outbox. Called with the lock held.
func (g *Group) enqueue(content []byte, origin string) (*outMessage, uint64, error) {
	if err := g.permitted(); err != nil {
		return nil, 0, err
	}
	now := g.c.cfg.clock().UTC()
	msg, ops, err := g.seal(content, origin, now)
	if err != nil {
		return nil, 0, err
	}
	m := &outMessage{
		row: g.newRow("o"), origin: origin, content: content, written: now, sealed: msg.Bytes(),
		ref: stanza.MessageRef(msg.Bytes()), epoch: g.state.Epoch(), waited: true, done: make(chan struct{}),
	}
	g.meta.Sent++
	g.outbox = append(g.outbox, m)
	g.byRef[m.ref] = m
	ticket := g.b.add(append(ops, m.op())...)
	return m, ticket, nil
}

// pump submits a message on its own goroutine, unless one does already.
func (g *Group) pump(m *outMessage) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m.busy || m.accepted || g.c.life.Err() != nil {
		return
	}
	m.busy = true
	g.c.wg.Add(1)
	go func() {
		defer g.c.wg.Done()
		g.submit(g.c.life, m)
		g.mu.Lock()
		m.busy = false
		g.mu.Unlock()
	}()
}

// resend takes up what an earlier run or connection has left in the outbox.
func (g *Group) resend() {
	g.mu.Lock()
	var todo []*outMessage
	for _, m := range g.outbox {
		if !m.busy && !m.accepted {
			todo = append(todo, m)
		}
	}
	g.mu.Unlock()
	for _, m := range todo {
		g.pump(m)
	}
}

// submit tries until the delivery service has accepted or refused the message.
func (g *Group) submit(ctx context.Context, m *outMessage) {
	lost, stale := 0, 0
	for attempt := 0; ctx.Err() == nil; attempt++ {
		g.mu.Lock()
		settled := m.accepted || isDone(m.done)
		req := stanza.Send{Epoch: m.epoch, Ref: m.ref, Message: stanza.MLS{Bytes: m.sealed}}
		ref, status := m.ref, g.meta.Status
		g.mu.Unlock()
		if settled {
			return
		}
		if status == statusLost || !g.c.waitLink(ctx) {
			// The rejoin, or the next connection, takes the message up again.
			return
		}
		if len(req.Message.Bytes) == 0 {
			if g.sealAnew(ctx, m) != nil {
				return
			}
			continue
		}
		var acc stanza.Accepted
		err := g.c.ask(ctx, "set", g.jid, &req, &acc)
		g.c.fail("submitted")
		var se *stanza.StaleEpoch
		var fe *stanza.FutureEpoch
		switch {
		case err == nil:
			g.accepted(m, ref, &acc)
			return
		case errors.As(err, &se):
			stale++
			if g.reseal(ctx, m, se) != nil {
				return
			}
			g.c.sleep(ctx, rand.N(time.Duration(min(stale, 6))*100*time.Millisecond))
		case errors.As(err, &fe):
			g.serviceRolledBack(ctx, fe)
			g.c.sleep(ctx, 5*time.Second+rand.N(5*time.Second))
		case retryAfter(err) > 0:
			g.c.waitAsked(ctx, g.host, err)
		case unknownOutcome(err) || errors.Is(err, ErrOffline):
			if errors.Is(err, errRestarted) {
				lost = 0 // it is back: no reason to be slow
			}
			lost++
			g.c.pause(ctx, g.host, rand.N(backoff(lost)))
			// The log is asked before the message is sent again.
			if e := g.catchUp(ctx, 0); e != nil {
				continue
			}
		case g.overtakenByReInit(ctx, err):
			// Sealed again when the group has gone on.
			g.c.sleep(ctx, rand.N(time.Second))
		default:
			g.refused(m, err)
			return
		}
	}
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

// sleep waits, and no longer than ctx.
func (c *Client) sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// waitLink waits for a connection.
func (c *Client) waitLink(ctx context.Context) bool {
	for ctx.Err() == nil {
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

// accepted notes that the service has taken the message.
func (g *Group) accepted(m *outMessage, ref stanza.Ref, acc *stanza.Accepted) {
	g.mu.Lock()
	if m.ref != ref || m.accepted {
		g.mu.Unlock()
		return
	}
	m.accepted = true
	later := !m.waited
	m.finish(&Sent{ID: acc.ID, Seq: acc.Seq, Epoch: m.epoch, OriginID: m.origin, Time: acc.Stamp}, nil)
	e := &entry{seq: acc.Seq, epoch: m.epoch, kind: groupdata.Application, id: acc.ID, stamp: acc.Stamp, bytes: m.sealed, chain: acc.Chain, live: true}
	if later {
		g.announceSent(m, acc.Seq)
	}
	g.mu.Unlock()
	g.c.fail("accepted")
	// It takes its place in the order: the chain runs over own entries too.
	g.arrived(e)
}

// announceSent tells of a message that nobody waits for any more. Called with
// the lock held.
func (g *Group) announceSent(m *outMessage, seq uint64) {
	it, op := g.eventOp(&SentLater{OriginID: m.origin}, seq, time.Time{})
	g.deliverAfter(g.b.add(op), it)
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
	if !m.waited {
		var op store.Op
		it, op = g.eventOp(&SendFailed{OriginID: m.origin, Reason: err.Error()}, 0, time.Time{})
		ops = append(ops, op)
	}
	g.dropOut(m)
	ticket := g.b.add(ops...)
	m.finish(nil, fmt.Errorf("client: sending to %s: %w", g.jid, err))
	if it.row != "" {
		g.deliverAfter(ticket, it)
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
	defer g.mu.Unlock()
	if m.accepted || isDone(m.done) {
		return ErrClosed
	}
	if len(m.sealed) > 0 && m.epoch == g.state.Epoch() {
		return nil // the service is behind; the same message again
	}
	if err := g.permitted(); err != nil {
		go g.refused(m, err)
		return err
	}
	msg, ops, err := g.seal(m.content, m.origin, m.written)
	if err != nil {
		go g.refused(m, err)
		return err
	}
	delete(g.byRef, m.ref)
	m.sealed, m.ref, m.epoch = msg.Bytes(), stanza.MessageRef(msg.Bytes()), g.state.Epoch()
	g.byRef[m.ref] = m
	g.meta.Sent++
	return g.b.flush(g.b.add(append(ops, m.op())...))
}

// sendEphemeral seals and sends without a place in the log and without a
// second try.
func (g *Group) sendEphemeral(ctx context.Context, content []byte) error {
	if err := g.usable(ctx); err != nil {
		return err
	}
	err := g.permitted()
	var msg *mls.Message
	var ticket uint64
	epoch := uint64(0)
	if err == nil {
		var ops []store.Op
		if msg, ops, err = g.seal(content, "", g.c.cfg.clock()); err == nil {
			g.meta.Sent++
			epoch = g.state.Epoch()
			ticket = g.b.add(ops...)
		}
	}
	b := g.b
	g.mu.Unlock()
	if err != nil {
		return err
	}
	// The key must not be used again even if nobody ever gets the message.
	if err := b.flush(ticket); err != nil {
		return err
	}
	req := &stanza.Send{Epoch: epoch, Ref: stanza.MessageRef(msg.Bytes()), Ephemeral: true, Message: stanza.MLS{Bytes: msg.Bytes()}}
	return g.c.ask(ctx, "set", g.jid, req, nil)
}
