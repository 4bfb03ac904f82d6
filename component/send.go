// SPDX-License-Identifier: Apache-2.0

package component

import (
	"errors"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
)

// This file takes application messages (xep/mls-delivery.xml#send). Those that wait for one
// group together become one transaction; each has its own answer.

// sending is one application message on its way.
type sending struct {
	r     *request
	entry *store.NewEntry
	acc   store.Accepted
	live  bool // ephemeral: relayed, not kept
	again bool // the store lost an answer: it may be in the log, and nobody was told
}

// sendAll takes a batch of messages for the group, in their order.
func (g *group) sendAll(batch []*request) {
	// The batch shares one deadline and one net: a fault of ours in one of its
	// messages fails those that have no answer yet.
	g.onBehalf(batch[0], func() { g.tryBatch(batch) })
	for _, r := range batch[1:] {
		g.s.serve(r, func() (stanza.Payload, error) {
			if !r.replied {
				return nil, &stanza.RetryAfter{After: time.Second}
			}
			return nil, nil
		})
	}
}

// onBehalf runs work on behalf of a request that answers by itself.
func (g *group) onBehalf(r *request, f func()) {
	ok := false
	g.s.serve(r, func() (stanza.Payload, error) {
		f()
		ok = true
		if !r.replied {
			return nil, &stanza.RetryAfter{After: time.Second}
		}
		return nil, nil
	})
	if !ok {
		g.st = nil
	}
}

func (g *group) tryBatch(batch []*request) {
	ctx := batch[0].ctx // has the deadline
	var unsure error    // how the store lost an answer
	for range commitRetries {
		st, err := g.load(ctx)
		if err != nil {
			for _, r := range batch {
				if !r.replied {
					r.fail(unsureOutcome(err, unsure))
				}
			}
			return
		}
		var list []*sending
		var refused []func()
		unchecked := false // something does not go through the store
		for _, r := range batch {
			if r.replied {
				continue
			}
			r.ctx = ctx
			s, err := g.checkSend(r, st)
			switch {
			case err == nil:
				s.again = unsure != nil
				list = append(list, s)
				unchecked = unchecked || s.live
			case !errors.Is(err, errAnswered):
				refused = append(refused, func() { r.fail(unsureOutcome(err, unsure)) })
			}
		}
		if (unchecked || len(refused) > 0) && g.moved(ctx) {
			continue
		}
		for _, fail := range refused {
			fail()
		}
		if len(list) == 0 {
			return
		}
		err = g.appendAll(st, list)
		switch {
		case g.conflict(err):
			continue
		case errors.Is(err, store.ErrUnknownOutcome):
			// The same bytes again are the same entry: ask the store what is so.
			g.st, unsure = nil, err
			continue
		case err != nil:
			for _, s := range list {
				s.r.fail(unsureOutcome(err, unsure))
			}
			return
		}
		for _, s := range list {
			g.sent(st, s)
		}
		return
	}
	for _, r := range batch {
		if !r.replied {
			r.fail(unsureOutcome(&stanza.RetryAfter{After: time.Second}, unsure))
		}
	}
}

// checkSend checks one message against the group's state.
func (g *group) checkSend(r *request, st *groupState) (*sending, error) {
	in, err := stanza.Parse[stanza.Send](r.payload)
	if err != nil {
		return nil, err
	}
	from := r.from.bare
	if err := st.mustBeMember(from); err != nil {
		return nil, err
	}
	if st.conf.reinit() {
		return nil, g.unlessKnown(r, st, store.Ref(in.Ref), stanza.NewError(stanza.NotAllowed, "The group has been reinitialised: it goes on as a new one, under the same JID."))
	}
	if err := checkSubmission(in.Message.Bytes, in.Ref, g.s.limits.MaxPage); err != nil {
		return nil, err
	}
	if st.data.Roles != nil {
		if err := st.data.Roles.CanSend(from, true); err != nil {
			return nil, err
		}
	}
	// Whatever the epoch: a message that is in the log already is answered as
	// the first time.
	window := uint64(st.conf.window(g.s.limits.EpochWindow))
	switch {
	case in.Epoch > st.row.Epoch:
		return nil, g.unlessKnown(r, st, store.Ref(in.Ref), &stanza.FutureEpoch{Submitted: in.Epoch, Current: st.row.Epoch, Head: st.row.Head})
	case in.Epoch+window < st.row.Epoch:
		stale, _, err := g.s.staleEpoch(r.ctx, st, in.Epoch, store.Ref{})
		if err != nil {
			return nil, err
		}
		return nil, g.unlessKnown(r, st, store.Ref(in.Ref), stale)
	}
	m, err := mls.ParseMessage(in.Message.Bytes)
	if err != nil {
		return nil, invalid("message", err)
	}
	if m.Private == nil || m.ContentType() != mls.ContentApplication {
		return nil, &stanza.InvalidMessage{Part: "message", Reason: "application messages are PrivateMessages (RFC 9420 §12.4)"}
	}
	if err := st.checkHeader(m, in.Epoch); err != nil {
		return nil, err
	}
	// RFC 9420 §12.4: who has seen a proposal commits it before sending. The
	// one who was to leave must not read on.
	if list := st.mustCommit(0, false); len(list) > 0 {
		return nil, g.unlessKnown(r, st, store.Ref(in.Ref), mustCommitError(list))
	}
	if !r.counted {
		if wait := g.s.rates.send.take(from, 1, g.s.now()); wait > 0 {
			g.s.metrics.limited.WithLabelValues("send").Inc()
			return nil, &stanza.RetryAfter{After: wait}
		}
		r.counted = true
	}
	e := &store.NewEntry{
		Group: st.row.Key, Rev: st.row.Rev, Kind: store.KindApplication, Epoch: in.Epoch,
		Ref: store.Ref(in.Ref), ID: g.s.entryID(), Stamp: g.s.stamp(), Bytes: in.Message.Bytes,
	}
	if g.s.conf.KeepSenders {
		e.Sender = from
	}
	return &sending{r: r, entry: e, live: in.Ephemeral}, nil
}

// errAnswered says that a request has its answer already.
var errAnswered = errors.New("component: answered")

// unlessKnown refuses a message with err, unless it is in the log: then it is
// answered as the first time.
func (g *group) unlessKnown(r *request, st *groupState, ref store.Ref, err error) error {
	e, ok := g.known(r, st, ref)
	if !ok {
		return err
	}
	r.respond(accepted(e, st.row.Epoch))
	return errAnswered
}

// known finds a submission that is in the log.
func (g *group) known(r *request, st *groupState, ref store.Ref) (*store.Entry, bool) {
	var e *store.Entry
	err := g.s.store.View(r.ctx, func(rd store.Reader) (err error) {
		e, err = rd.EntryByRef(st.row.Key, ref)
		return err
	})
	return e, err == nil
}

// appendAll writes the messages that are to be kept.
func (g *group) appendAll(st *groupState, list []*sending) error {
	ctx := list[0].r.ctx
	var keep []*sending
	for _, s := range list {
		if !s.live {
			keep = append(keep, s)
		}
	}
	switch len(keep) {
	case 0:
		return nil
	case 1:
		acc, err := g.s.store.Append(ctx, keep[0].entry)
		keep[0].acc = acc
		return err
	}
	return g.s.store.Update(ctx, func(tx store.Tx) error {
		for _, s := range keep {
			acc, err := tx.Append(s.entry)
			if err != nil {
				return err
			}
			s.acc = acc
		}
		return nil
	})
}

// sent answers one message and fans it out.
func (g *group) sent(st *groupState, s *sending) {
	e := &store.Entry{
		Seq: s.acc.Seq, Epoch: s.entry.Epoch, Kind: store.KindApplication, Ref: s.entry.Ref,
		ID: s.entry.ID, Stamp: s.entry.Stamp, Chain: s.acc.Chain, Bytes: s.entry.Bytes,
	}
	if s.live {
		s.r.respond(&stanza.Accepted{Epoch: st.row.Epoch, ID: e.ID, Ref: stanza.Ref(e.Ref), Stamp: e.Stamp})
		g.s.metrics.accepted.WithLabelValues("ephemeral").Inc()
	} else {
		e.ID, e.Stamp = s.acc.ID, s.acc.Stamp
		s.r.respond(accepted(e, st.row.Epoch))
		if s.acc.Duplicate && !s.again {
			return
		}
		if s.acc.Rev != st.row.Rev {
			g.st = nil // the answer came late: others have changed the group since
		}
		if s.acc.Seq > st.row.Head { // after a lost answer the state is newer
			st.row.Head, st.row.Chain = s.acc.Seq, s.acc.Chain
		}
		g.s.metrics.accepted.WithLabelValues("application").Inc()
	}
	g.fanout(s.r.ctx, st, e, s.r.from.full, nil)
}
