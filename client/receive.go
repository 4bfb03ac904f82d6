// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// This file takes a group's log entries, however they arrive, in the order of
// their seq: each exactly once, with its chain checked, and everything that it
// changes in one write before anybody hears of it.

// entry is one entry of a group's log, or an ephemeral message with seq 0.
type entry struct {
	seq   uint64
	epoch uint64
	kind  groupdata.Kind
	id    string
	stamp time.Time
	bytes []byte
	chain stanza.Hash // after the entry, as the service states it; zero: not stated
	hash  stanza.Hash // of the bytes; stated by the service when they are not here
	gone  bool        // a tombstone
	live  bool        // came by itself, not from a page
	own   bool        // sent by this device, which has nothing to open in it

	// What is in bytes, once it has been read.
	msg    *mls.Message
	msgErr error
}

// message reads an entry that is an MLS message, once.
func (e *entry) message() (*mls.Message, error) {
	if e.msg == nil && e.msgErr == nil {
		e.msg, e.msgErr = mls.ParseMessage(e.bytes)
	}
	return e.msg, e.msgErr
}

func kindOf(k stanza.EntryKind) groupdata.Kind { return groupdata.Kind(k) }

const (
	// maxBuffered is how many entries ahead of the order are kept. More come
	// back from the log.
	maxBuffered = 2048
	// maxBatch is how many entries share one write, and minBatch how many are
	// enough when the disk has nothing to do.
	maxBatch, minBatch = 256, 16
	// maxPrepared is how many messages are opened at once, on all cores, and
	// maxPreparedBytes about how many bytes of them.
	maxPrepared, maxPreparedBytes = 64, 1 << 20
)

// arrived takes entries in. It never blocks on the network or the store.
func (g *Group) arrived(entries ...*entry) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.arrivedLocked(entries...)
}

// arrivedLocked is arrived with the lock held.
func (g *Group) arrivedLocked(entries ...*entry) {
	for _, e := range entries {
		if g.takeIn(e) {
			g.workLocked()
		}
	}
}

// takeIn puts an entry where it waits for its turn. It reports false for one that is
// known already, or is left for the log to give. Called with the lock held.
func (g *Group) takeIn(e *entry) bool {
	switch {
	case e.seq == 0:
		if len(g.ephemeral) < maxBuffered && g.meta.Status == statusJoined {
			g.ephemeral = append(g.ephemeral, e)
		}
	case e.seq <= g.meta.Seq && g.loaded:
		return false // seen
	default:
		g.head = max(g.head, e.seq)
		if len(e.bytes) == 0 && !e.gone && e.hash.IsZero() {
			// Too large for a stanza: the log gives it in pieces.
			g.fetchLocked(gapPatience)
			return false
		}
		if _, dup := g.queue[e.seq]; !dup {
			if e.live && len(g.queue) >= maxBuffered {
				g.fetchLocked(gapPatience)
				return false
			}
			g.queue[e.seq] = e
		}
	}
	return true
}

func (g *Group) workLocked() {
	if !g.working {
		g.working = g.c.spawn(g.work)
	}
}

// work processes what has arrived until nothing more is in order.
func (g *Group) work() {
	for {
		g.mu.Lock()
		more := false
		// What a failed write throws away is loaded again here.
		if err := g.load(); err != nil && g.c.alive() == nil {
			g.c.log.Error("loading a group", "group", g.jid, "error", err)
		} else if err == nil && g.waitDisk() {
			more = g.step()
		}
		if !more {
			g.working = false
			if len(g.queue) > 0 && !g.fetching {
				// A gap: something was lost, or is still under way. The log
				// has it either way.
				g.fetchLocked(gapPatience)
			}
			g.mu.Unlock()
			return
		}
		g.mu.Unlock()
	}
}

// step processes one batch, and has it written. Called with the lock held, which it
// gives up for a moment at the end. It reports whether it did anything.
func (g *Group) step() bool {
	if g.meta.Status != statusJoined || g.state == nil || g.rejoining {
		clear(g.queue)
		g.ephemeral = nil
		return false
	}
	var r received
	for n := 0; n < maxBatch; n++ {
		if n >= minBatch && g.writes.pending() == 0 {
			break
		}
		e := g.queue[g.meta.Seq+1]
		if e == nil {
			break
		}
		if g.frozen() != nil && e.kind != groupdata.Control {
			// Of the group's next life: the log gives it again when this device is
			// in it.
			clear(g.queue)
			g.signal()
			break
		}
		g.prepare(e)
		delete(g.queue, e.seq)
		g.process(e, &r)
		if g.meta.Status != statusJoined {
			break
		}
	}
	for _, e := range g.ephemeral {
		g.processEphemeral(e, &r)
	}
	g.ephemeral = nil
	if !r.any {
		return false
	}
	for seq := range g.queue {
		if seq <= g.meta.Seq {
			delete(g.queue, seq)
		}
	}
	ops := r.ops
	if g.state != nil && r.others {
		ops = append(ops, g.stateOps()...)
	}
	ops = append(ops, g.seenOps()...)
	ops = append(ops, g.metaOp())
	seq := g.meta.Seq
	w := &written{b: g.b, ticket: g.b.add(ops...), items: r.items, after: r.after}
	if r.flush {
		w.then = func() { g.stored.Store(seq) }
	} else {
		w.ticket = 0
		g.flushSoon()
	}
	if r.flush || len(r.items) > 0 || len(r.after) > 0 {
		g.whenWritten(w)
	}
	g.signal()
	g.mu.Unlock()
	g.c.fail("processed")
	g.mu.Lock()
	return true
}

// prepare opens, on all cores, the messages that wait from e on, unless e was among
// those that were opened last. What becomes of them is for process to say, one after
// the other. Called with the lock held.
func (g *Group) prepare(e *entry) {
	if e.own || e.msg != nil || e.msgErr != nil {
		return
	}
	var messages []*mls.Message
	for size := 0; e != nil && e.kind == groupdata.Application && len(messages) < maxPrepared && size < maxPreparedBytes; e = g.queue[e.seq+1] {
		if e.own {
			continue
		}
		if m, err := e.message(); err == nil {
			messages, size = append(messages, m), size+len(e.bytes)
		}
	}
	g.state.Prepare(messages)
}

// waitDisk waits while too much waits to be written. Called with the lock held, which
// it gives up meanwhile. It reports false after Close.
func (g *Group) waitDisk() bool {
	return g.until(g.c.life, func() bool { return g.writes.pending() < maxUnwritten }) == nil
}

// received gathers what a batch of entries has led to.
type received struct {
	any   bool
	flush bool // something must be durable before anybody hears of it
	// others says that not all of it was sent by this device: the MLS state may have
	// moved.
	others bool
	ops    []store.Op
	items  []item
	after  []func() // without the lock, when all is durable
}

// put adds an event.
func (r *received) put(g *Group, ev Event, seq uint64, at time.Time) {
	it, op := g.eventOp(ev, seq, at)
	r.items, r.ops, r.flush = append(r.items, it), append(r.ops, op), true
}

// eventOp makes an event's row. Called with the lock held.
func (g *Group) eventOp(ev Event, seq uint64, at time.Time) (item, store.Op) {
	m := ev.Meta()
	m.Group, m.Seq, m.Time = g.jid, seq, at.UTC()
	if at.IsZero() {
		m.Time = g.c.cfg.clock().UTC()
	}
	row := g.newRow("e")
	m.ID = row[len("g/"):]
	b, err := encodeEvent(ev)
	if err != nil {
		panic("client: internal error: encoding an event: " + err.Error())
	}
	return item{row: row, event: ev}, store.Put(row, append([]byte{rowEvent}, b...))
}

// First bytes of inbox rows.
const (
	rowMessage = 'm'
	rowEvent   = 'e'
)

// storedIncoming is the row of a message that was opened and not yet handed
// over.
type storedIncoming struct {
	ID        string    `json:"id"`
	Seq       uint64    `json:"seq"`
	Epoch     uint64    `json:"epoch"`
	Sender    Who       `json:"sender"`
	Time      time.Time `json:"time"`
	Plain     []byte    `json:"plain,omitempty"` // beside the header
	Ephemeral bool      `json:"ephemeral,omitempty"`
}

func (s *storedIncoming) encode() []byte {
	header := *s
	header.Plain = nil
	return appendBlobRow(append(make([]byte, 0, 512+len(s.Plain)), rowMessage), &header, s.Plain)
}

// message builds what the application gets.
func (g *Group) message(s *storedIncoming) (*Message, error) {
	env, content, err := readEnvelope(s.Plain)
	if err != nil {
		return nil, err
	}
	m := &Message{
		ID: s.ID, Group: g, Seq: s.Seq, Epoch: s.Epoch, Sender: s.Sender, Own: s.Sender.JID == g.c.account,
		Time: s.Time, Ephemeral: s.Ephemeral, plain: s.Plain,
	}
	m.read(env, content)
	return m, nil
}

func (g *Group) decodeItem(row string, value []byte) (item, error) {
	if len(value) == 0 {
		return item{}, errors.New("client: an empty row")
	}
	switch value[0] {
	case rowMessage:
		var s storedIncoming
		if err := readBlobRow(value[1:], &s, &s.Plain); err != nil {
			return item{}, err
		}
		m, err := g.message(&s)
		return item{row: row, message: m}, err
	case rowEvent:
		ev, err := decodeEvent(value[1:])
		return item{row: row, event: ev}, err
	}
	return item{}, fmt.Errorf("client: unknown row of kind %q", value[0])
}

// process takes the next entry of the log. Whatever is in it, the log goes on
// behind it. Called with the lock held.
func (g *Group) process(e *entry, r *received) {
	r.any, r.others = true, r.others || !e.own
	g.checkChain(e, r)
	if e.seq <= g.meta.SkipTo {
		return
	}
	if e.gone {
		g.lost(e.seq, e.seq, r, e.stamp)
		if e.kind == groupdata.Commit {
			g.mustRejoin("a commit is no longer in the log", r)
		}
		return
	}
	switch e.kind {
	case groupdata.Application:
		g.processApplication(e, r)
	case groupdata.Proposal, groupdata.Commit:
		g.processHandshake(e, r)
	case groupdata.Control:
		g.processControl(e, r)
	}
}

// checkChain computes the chain over the entry and compares it with what the
// service states.
func (g *Group) checkChain(e *entry, r *received) {
	if len(e.bytes) > 0 {
		e.hash = stanza.MessageRef(e.bytes)
	}
	prev, err := groupdata.ChainFromBytes(g.meta.Chain)
	g.meta.Seq = e.seq
	if err != nil {
		// The first entry after joining: the service's word, until members
		// confirm it.
		if !e.chain.IsZero() {
			g.setChain(e.seq, groupdata.Chain(e.chain))
		}
		return
	}
	next := prev.NextHashed(e.seq, e.kind, e.epoch, e.hash)
	if !e.chain.IsZero() && next != groupdata.Chain(e.chain) {
		r.put(g, &Misbehaved{
			Reason: "the delivery service states another chain than its own log has",
			Evidence: Evidence{
				Seq: e.seq, Ours: next.String(), Theirs: e.chain.String(), Epoch: e.epoch, Message: e.bytes,
			},
		}, e.seq, e.stamp)
	}
	g.setChain(e.seq, next)
}

func (g *Group) setChain(seq uint64, c groupdata.Chain) {
	g.meta.Chain = c[:]
	if len(g.meta.Ring) >= ringSize {
		copy(g.meta.Ring, g.meta.Ring[1:])
		g.meta.Ring = g.meta.Ring[:ringSize-1]
	}
	g.meta.Ring = append(g.meta.Ring, ringEntry{seq, bytes.Clone(c[:])})
}

// checkPosition compares what a member has verified of the log with what this
// client has: the one thing a service that shows two histories cannot forge.
func (g *Group) checkPosition(aad []byte, e *entry, sender mls.Member, r *received) {
	p, ok, err := groupdata.ParseAAD(aad)
	if err != nil || !ok {
		return
	}
	w := g.who(sender)
	ev := Evidence{Member: &w, Seq: p.Seq, Theirs: p.Chain.String(), Epoch: e.epoch, Message: e.bytes}
	head := max(g.head, g.meta.Seq)
	if e.seq != 0 && p.Seq >= e.seq || e.seq == 0 && p.Seq > head && p.Seq-head > maxBuffered {
		r.put(g, &ForkDetected{Reason: fmt.Sprintf("%s had seen entry %d of the log before it sent entry %d", w.JID, p.Seq, e.seq), Evidence: ev}, e.seq, e.stamp)
		return
	}
	for _, k := range g.meta.Ring {
		if k.Seq == p.Seq {
			if !bytes.Equal(k.Chain, p.Chain[:]) {
				c, _ := groupdata.ChainFromBytes(k.Chain)
				ev.Ours = c.String()
				r.put(g, &ForkDetected{Reason: fmt.Sprintf("the delivery service has shown %s another history up to entry %d than this client", w.JID, p.Seq), Evidence: ev}, e.seq, e.stamp)
			}
			return
		}
	}
}

// processApplication opens a message.
func (g *Group) processApplication(e *entry, r *received) {
	if m := g.byRef[e.hash]; m != nil {
		g.ownMessage(m, e, r)
		return
	}
	msg, err := e.message()
	if err != nil {
		g.undecryptable(e, r, err)
		return
	}
	got, err := g.state.Process(msg)
	if err != nil {
		if errors.Is(err, mls.ErrReplay) {
			// The position in the log and the message keys move together, so
			// that no honest log leads here: the service plays a message again.
			r.put(g, &Misbehaved{
				Reason:   "the log has a message twice",
				Evidence: Evidence{Seq: e.seq, Epoch: e.epoch, Message: e.bytes},
			}, e.seq, e.stamp)
			return
		}
		if epoch, ok := msg.Epoch(); ok && epoch < g.meta.Since && errors.Is(err, mls.ErrEpochPast) {
			return // sealed before this device was in, for the others
		}
		g.undecryptable(e, r, err)
		return
	}
	switch m := got.(type) {
	case *mls.ApplicationMessage:
		g.checkPosition(m.AAD, e, m.Sender, r)
		g.incoming(m, e, r)
	case *mls.OwnMessage:
		// Sealed by this device, and not known to this store.
		g.storeIsOld(e, r)
	default:
		g.undecryptable(e, r, fmt.Errorf("an application entry holds a handshake message"))
	}
}

// incoming turns an opened message into what the application gets.
func (g *Group) incoming(m *mls.ApplicationMessage, e *entry, r *received) {
	w := g.who(m.Sender)
	if st, err := g.agreed(); err == nil && st.Roles != nil {
		if err := st.Roles.CanSend(w.JID, true); err != nil {
			g.undecryptable(e, r, fmt.Errorf("%s may not send: %w", w.JID, err))
			return
		}
	}
	env, content, err := openEnvelope(m.Data, w.JID, g.jid)
	if err != nil {
		g.undecryptable(e, r, err)
		return
	}
	id := e.id
	if id == "" {
		id = fmt.Sprintf("%s/%d", g.jid, e.seq)
	}
	s := &storedIncoming{ID: id, Seq: e.seq, Epoch: m.Epoch, Sender: w, Time: e.stamp.UTC(), Plain: m.Data, Ephemeral: e.seq == 0}
	out := &Message{ID: id, Group: g, Seq: e.seq, Epoch: m.Epoch, Sender: w, Own: w.JID == g.c.account, Time: s.Time, Ephemeral: s.Ephemeral, plain: m.Data}
	out.read(env, content)
	if e.seq != 0 {
		if g.seen == nil {
			if err := g.loadSeen(); err != nil {
				g.undecryptable(e, r, err)
				return
			}
		}
		if g.seenBefore(seenName(w, out.OriginID, m.Data)) {
			g.undecryptable(e, r, fmt.Errorf("it is a copy of an earlier message of %s, encrypted anew by some member", w.JID))
			return
		}
	}
	g.trustMessages(content.TrustMessages, env.Time, w, e, r)
	if e.seq == 0 {
		r.items = append(r.items, item{message: out})
		return
	}
	row := g.newRow("e")
	r.ops = append(r.ops, store.Put(row, s.encode()))
	r.items = append(r.items, item{row: row, message: out})
	r.flush = true
}

// ownMessage is an entry that this device has sent.
func (g *Group) ownMessage(m *outMessage, e *entry, r *received) {
	r.ops = append(r.ops, store.Delete(m.row))
	g.dropOut(m)
	if m.later || !m.accepted && m.waiting == 0 {
		r.put(g, &SentLater{OriginID: m.origin}, e.seq, e.stamp)
	}
	if m.accepted {
		return
	}
	// The answer was lost; the log is as good.
	m.accepted = true
	m.finish(&Sent{ID: e.id, Seq: e.seq, Epoch: m.epoch, OriginID: m.origin, Time: e.stamp}, nil)
}

// tellLater tells of what was accepted and has its place in a part of the log that this
// device will not process any more. Called with the lock held, within a batch.
func (g *Group) tellLater(r *received) {
	for _, m := range g.outbox {
		if m.later {
			m.later = false
			r.put(g, &SentLater{OriginID: m.origin}, m.sent.Seq, m.sent.Time)
		}
	}
}

// processEphemeral opens a message that is in no log.
func (g *Group) processEphemeral(e *entry, r *received) {
	msg, err := e.message()
	if err != nil {
		return
	}
	got, err := g.state.Process(msg)
	if m, ok := got.(*mls.ApplicationMessage); ok && err == nil {
		r.any, r.others = true, true
		g.incoming(m, e, r)
	}
}

func (g *Group) undecryptable(e *entry, r *received, err error) {
	g.c.log.Warn("cannot open a message", "group", g.jid, "seq", e.seq, "epoch", e.epoch, "error", err)
	if e.seq != 0 {
		r.put(g, &Undecryptable{Reason: err.Error()}, e.seq, e.stamp)
	}
}

func (g *Group) lost(from, to uint64, r *received, at time.Time) {
	r.put(g, &HistoryLost{From: from, To: to}, to, at)
}

// storeIsOld is what an own entry that the store does not know means: somebody
// restored an old store, or runs two copies of it. The keys of this epoch may
// have been used, so that none is used again: the group is rejoined with new
// ones.
func (g *Group) storeIsOld(e *entry, r *received) {
	r.put(g, &RollbackDetected{
		Reason:   "the log has an entry that this device sent and that its store does not know: a backup was restored, or two clients share one store; coming back with new keys",
		Evidence: Evidence{Seq: e.seq, Epoch: e.epoch, Message: e.bytes},
	}, e.seq, e.stamp)
	g.mustRejoin("the store was restored from a backup", r)
}

// mustRejoin gives the state up. Called with the lock held, within a batch.
func (g *Group) mustRejoin(reason string, r *received) {
	g.tellLater(r)
	g.setStatus(statusLost)
	g.meta.Reason = reason
	g.fresh = false
	r.any, r.flush = true, true
	r.after = append(r.after, func() { g.c.rejoinSoon(g) })
}

// processControl takes a notice of the delivery service.
func (g *Group) processControl(e *entry, r *received) {
	c := stanza.Control{Bytes: e.bytes}
	p, err := c.Payload()
	if err != nil {
		return
	}
	switch v := p.(type) {
	case *stanza.Destroyed:
		g.destroyed(v, r, e.seq, e.stamp)
	case *stanza.ReInitNotice:
		g.reinitNotice(v, e, r)
	}
}

func (g *Group) destroyed(v *stanza.Destroyed, r *received, seq uint64, at time.Time) {
	g.setStatus(statusGone)
	g.meta.Reason = v.Reason
	g.forget(r)
	r.any = true
	r.put(g, &Destroyed{Reason: v.Reason, Alternate: v.JID}, seq, at)
}

// forget deletes the group's secrets: it is over.
func (g *Group) forget(r *received) {
	r.ops = append(r.ops, store.DeletePrefix(g.row("m/")), store.Delete(g.row("pend")), store.Delete(g.row(rowBegun)), store.Delete(g.row(rowOld)), store.DeletePrefix(g.row("o/")), store.DeletePrefix(g.row("i/")), store.DeletePrefix(g.row("s/")))
	g.seen = nil
	g.tellLater(r)
	for _, m := range g.outbox {
		if !m.accepted && !isDone(m.done) {
			if m.waiting == 0 {
				r.put(g, &SendFailed{OriginID: m.origin, Reason: "the group is over"}, 0, time.Time{})
			}
			m.finish(nil, ErrNotMember)
		}
	}
	g.outbox, g.byRef = nil, make(map[stanza.Ref]*outMessage)
	if g.pend != nil {
		g.pend.resolve(outcomeGone, ErrNotMember)
		g.pend = nil
	}
	for _, in := range g.unfinished {
		if in.Op == opLeave {
			continue // so it is
		}
		r.put(g, &ChangeFailed{Change: in.String(), Reason: "the group is over"}, 0, time.Time{})
	}
	g.state, g.parent, g.unfinished = nil, nil, nil
	g.accounts = make(map[string]int)
	r.flush = true
}
