// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"fmt"
	"io"
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

// Posted is a message in the outbox.
type Posted struct {
	g *Group
	m *outMessage
}

// OriginID is the name that this client gave the message.
func (p *Posted) OriginID() string { return p.m.origin }

// Wait returns when the delivery service has accepted or refused the message. If
// ctx ends before that the error is a [*QueuedError].
func (p *Posted) Wait(ctx context.Context) (*Sent, error) {
	p.g.mu.Lock()
	p.m.waiting++
	p.g.mu.Unlock()
	return p.wait(ctx)
}

// wait is Wait for a caller who is counted already.
func (p *Posted) wait(ctx context.Context) (*Sent, error) {
	g, m := p.g, p.m
	var err error
	select {
	case <-m.done:
		return m.sent, m.err
	case <-ctx.Done():
		err = ctx.Err()
	case <-g.c.life.Done():
		err = ErrClosed
	}
	// From here on an event tells, unless it is settled.
	g.mu.Lock()
	m.waiting--
	g.mu.Unlock()
	if isDone(m.done) {
		return m.sent, m.err
	}
	return nil, &QueuedError{OriginID: m.origin, Err: err}
}

// newRow names a row that sorts behind all others of its kind, also after a
// restart, and when the clock has been set back. Called with the lock held.
func (g *Group) newRow(kind string) string {
	g.meta.Row = max(g.meta.Row+1, uint64(max(g.c.cfg.clock().UnixNano(), 0)))
	return g.row(fmt.Sprintf("%s/%016x", kind, g.meta.Row))
}

// Send sends text and returns when the delivery service has accepted it. If ctx
// ends before that the error is a [*QueuedError] and the message goes out later.
func (g *Group) Send(ctx context.Context, text string) (*Sent, error) {
	return g.send(ctx, appendAll(nil, &stanza.Body{Text: text}))
}

// appendAll appends elements of content.
func appendAll(dst []byte, elements ...stanza.Payload) []byte {
	for _, el := range elements {
		dst = el.Append(dst)
	}
	return dst
}

// Post is [Group.Send] without the wait for the delivery service: it returns when
// the message is sealed and stored. Messages of one group leave in the order in
// which Post, Send and the like were called, also after an outage; only those that
// are under way when one begins may change places.
// How it went is told by [Posted.Wait], or, when nobody waits, by a [SentLater]
// or [SendFailed] event with the same OriginID.
func (g *Group) Post(ctx context.Context, text string) (*Posted, error) {
	return g.post(ctx, appendAll(nil, &stanza.Body{Text: text}), 0)
}

// SendContent sends payload elements as they are: complete XML elements with
// their namespaces declared, in place of a body or beside one.
func (g *Group) SendContent(ctx context.Context, xml []byte) (*Sent, error) {
	if err := g.c.alive(); err != nil {
		return nil, err
	}
	if err := checkContent(xml); err != nil {
		return nil, err
	}
	return g.send(ctx, xml)
}

// Reply answers a message (XEP-0461).
func (g *Group) Reply(ctx context.Context, to *Message, text string) (*Sent, error) {
	return g.send(ctx, appendAll(nil, &stanza.Body{Text: text}, &stanza.Reply{To: to.Sender.JID, ID: to.ref()}))
}

// React sets this account's reactions to a message (XEP-0444); none takes them
// back.
func (g *Group) React(ctx context.Context, to *Message, reactions ...string) (*Sent, error) {
	return g.send(ctx, appendAll(nil, &stanza.Reactions{ID: to.ref(), Reactions: reactions}))
}

// Correct replaces an own earlier message (XEP-0308), by its OriginID.
func (g *Group) Correct(ctx context.Context, originID, text string) (*Sent, error) {
	return g.send(ctx, appendAll(nil, &stanza.Body{Text: text}, &stanza.Correction{ID: originID}))
}

// Retract takes an earlier message back (XEP-0424), by its OriginID: an own
// one, or, as an admin or owner, anybody's. Others may have read and kept it.
func (g *Group) Retract(ctx context.Context, originID string) (*Sent, error) {
	return g.send(ctx, appendAll(nil, &stanza.Retraction{ID: originID}))
}

// MarkReceived tells that this device has the message (XEP-0184).
func (g *Group) MarkReceived(ctx context.Context, m *Message) error {
	_, err := g.send(ctx, appendAll(nil, &stanza.Receipt{ID: m.ref()}))
	return err
}

// MarkDisplayed tells that a person has seen everything up to the message
// (XEP-0333).
func (g *Group) MarkDisplayed(ctx context.Context, m *Message) error {
	_, err := g.send(ctx, appendAll(nil, &stanza.Displayed{ID: m.ref()}))
	return err
}

// SetChatState tells members who are online whether somebody is typing
// (XEP-0085): "active", "composing", "paused", "inactive" or "gone". It is not
// kept, and a failure is only worth knowing.
func (g *Group) SetChatState(ctx context.Context, state string) error {
	if err := g.c.alive(); err != nil {
		return err
	}
	s := stanza.ChatState(state)
	switch s {
	case stanza.StateActive, stanza.StateComposing, stanza.StatePaused, stanza.StateInactive, stanza.StateGone:
	default:
		return fmt.Errorf("client: %q is no chat state", state)
	}
	return g.sendEphemeral(ctx, appendAll(nil, &s))
}

// SendFile announces an uploaded file; see [Client.Upload]. caption may be
// empty.
func (g *Group) SendFile(ctx context.Context, f *File, caption string) (*Sent, error) {
	var b []byte
	if caption != "" {
		b = appendAll(b, &stanza.Body{Text: caption})
	}
	return g.send(ctx, appendAll(b, f.sharing()))
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
	if err := g.stuck(); err != nil {
		return err
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
		content = appendAll(content[:len(content):len(content)], &stanza.OriginID{ID: origin})
	}
	plain := (&stanza.Envelope{Content: content, From: g.c.account, To: g.jid, Time: at.Truncate(time.Millisecond)}).Append(make([]byte, 0, len(content)+512))
	if g.c.cfg.forge != nil {
		plain = g.c.cfg.forge(plain)
	}
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
	p, err := g.post(ctx, content, 1)
	if err != nil {
		return nil, err
	}
	return p.wait(ctx)
}

// post seals content and puts it into the outbox, where it is durable when post
// returns. waiting is how many callers are going to wait for it.
func (g *Group) post(ctx context.Context, content []byte, waiting int) (*Posted, error) {
	if err := g.fits(ctx, content); err != nil {
		return nil, err
	}
	if err := g.usable(ctx); err != nil {
		return nil, err
	}
	m, ticket, err := g.enqueue(content, randomID(), waiting)
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
	g.mu.Lock()
	g.pump()
	g.mu.Unlock()
	return &Posted{g, m}, nil
}

// enqueue seals content and puts it into the outbox. Called with the lock held.
func (g *Group) enqueue(content []byte, origin string, waiting int) (*outMessage, uint64, error) {
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
		ref: stanza.MessageRef(msg.Bytes()), epoch: g.state.Epoch(), waiting: waiting, done: make(chan struct{}),
	}
	g.meta.Sent++
	g.outbox = append(g.outbox, m)
	g.byRef[m.ref] = m
	m.b, m.ticket = g.b, g.b.add(append(ops, m.op())...)
	return m, m.ticket, nil
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
