// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/lockstep-im/lockstep/stanza"
)

// This file brings the outbox of a group to the delivery service, in the order in
// which it was written.
//
// Messages follow each other without waiting for answers, so that a busy bot is
// not bound to one message for each round trip: what one connection carries, the
// service takes in its order. When an answer is a refusal, or does not come, what
// is behind waits, and messages go one by one until all that had trouble is
// settled. How many follow each other grows with the answers that come, from one:
// those that are under way when an outage begins or ends may change places. One
// that was sealed in a past epoch may be refused for it, and goes alone too.

// maxFlying is how many messages of a group are under way to the service without
// an answer. A quarter of what a delivery service queues for one group.
const maxFlying = 64

// flyingIdle is how long after an answer several messages may follow each other
// without one.
const flyingIdle = time.Second

// pump brings what is in the outbox to the service, unless that is being done.
// Called with the lock held.
func (g *Group) pump() {
	if g.sending {
		g.signal()
		return
	}
	g.sending = g.c.spawn(func() { g.bringOut(g.c.life) })
}

// resend takes up what an earlier run or connection has left in the outbox.
func (g *Group) resend() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.outbox) > 0 {
		g.pump()
	}
}

// nextOut finds what is to be done for the outbox: submit m, alone or behind what
// is flying, or wait until something changes. Called with the lock held.
func (g *Group) nextOut() (m *outMessage, alone, wait bool) {
	flying := 0
	var epoch uint64 // of what is flying
	for _, o := range g.outbox {
		switch {
		case o.accepted || isDone(o.done):
			continue
		case o.flying:
			flying, epoch = flying+1, o.epoch
			continue
		case o.trouble != nil:
			alone = true
		}
		if m == nil {
			m = o
		}
	}
	if m == nil {
		return nil, false, flying > 0
	}
	alone = alone || len(m.sealed) == 0 || g.state != nil && m.epoch != g.state.Epoch()
	if flying == 0 && time.Since(g.answered) > flyingIdle {
		g.window = 1 // whether the service is there has to be seen
	}
	if !m.isDurable() || flying > 0 && (alone || m.epoch != epoch || flying >= g.window) {
		return nil, false, true
	}
	return m, alone, false
}

// bringOut submits the outbox until nothing is left to do, or the group has to be
// joined again first; then the next synchronisation takes it up.
func (g *Group) bringOut(ctx context.Context) {
	for {
		ready := g.c.waitLink(ctx)
		g.mu.Lock()
		var flock []takeOff // at once: who seals holds the lock most of the time
		m, alone, wait := g.nextOut()
		for ready && m != nil && !alone && g.meta.Status != statusLost {
			m.flying = true
			flock = append(flock, takeOff{m, m.ref, m.request()})
			m, alone, wait = g.nextOut()
		}
		if flock == nil && (!ready || m == nil && !wait || g.meta.Status == statusLost) {
			g.sending = false
			g.mu.Unlock()
			return
		}
		changed := g.changed
		g.mu.Unlock()
		switch {
		case flock != nil:
			for i := range flock {
				g.launch(ctx, &flock[i])
			}
		case wait:
			select {
			case <-changed:
			case <-ctx.Done():
			}
		case alone:
			settled := g.submit(ctx, m)
			g.mu.Lock()
			m.trouble = nil
			if !settled {
				g.sending = false
				g.mu.Unlock()
				return
			}
			g.mu.Unlock()
		}
	}
}

// takeOff is a message that is flying, as it was when it was to be submitted.
type takeOff struct {
	m   *outMessage
	ref stanza.Ref
	req stanza.Send
}

// launch submits a message that is flying, and does not wait for the answer.
func (g *Group) launch(ctx context.Context, t *takeOff) {
	m, ref := t.m, t.ref
	answer := g.c.start(ctx, "set", g.jid, &t.req)
	settle := func() {
		var acc stanza.Accepted
		err := answer(&acc)
		g.c.fail("submitted")
		g.mu.Lock()
		before := g.window
		m.flying, g.window = false, 1
		if err == nil {
			g.window, g.answered = min(2*before, maxFlying), time.Now()
			g.accepted(m, ref, &acc)
		}
		if m.ref == ref { // else that sealed form has been given up
			m.trouble = err
		}
		g.signal()
		g.mu.Unlock()
		if err == nil {
			g.c.fail("accepted")
		}
	}
	if !g.c.spawn(settle) {
		settle() // the link is gone: there is nothing to wait for
	}
}

func (m *outMessage) request() stanza.Send {
	return stanza.Send{Epoch: m.epoch, Ref: m.ref, Message: stanza.MLS{Bytes: m.sealed}}
}

// submit tries until the delivery service has accepted or refused a message that
// goes alone, and reports whether it has.
func (g *Group) submit(ctx context.Context, m *outMessage) bool {
	g.mu.Lock()
	err, ref := m.trouble, m.ref
	g.mu.Unlock()
	lost, stale := 0, 0
	for g.c.waitLink(ctx) {
		if over, settled := g.over(m); over {
			return settled
		}
		var se *stanza.StaleEpoch
		var fe *stanza.FutureEpoch
		var mc *stanza.MustCommit
		switch {
		case err == nil: // not tried yet
		case errors.As(err, &mc):
			if g.seeOff(ctx, m, err) != nil {
				return isDone(m.done)
			}
		case errors.As(err, &se):
			stale++
			if g.reseal(ctx, m, se) != nil {
				return isDone(m.done)
			}
			g.c.sleep(ctx, rand.N(time.Duration(min(stale, 6))*100*time.Millisecond))
		case errors.As(err, &fe):
			g.serviceRolledBack(ctx, fe)
			g.c.sleep(ctx, 5*time.Second+rand.N(5*time.Second))
		case retryAfter(err) > 0:
			g.c.waitAsked(ctx, g.host, err)
		case unknownOutcome(err) || errors.Is(err, ErrOffline):
			g.pauseLost(ctx, err, &lost)
			// The log is asked before the message is sent again.
			if g.catchUp(ctx, 0) != nil {
				continue
			}
		case g.overtakenByReInit(ctx, err) || g.unsealed(m, ref):
			// Sealed again when the group has gone on.
			g.c.sleep(ctx, rand.N(time.Second))
		default:
			g.refused(m, err)
			return true
		}
		if over, settled := g.over(m); over {
			return settled
		}
		g.mu.Lock()
		bare := len(m.sealed) == 0
		g.mu.Unlock()
		if bare && g.sealAnew(ctx, m) != nil {
			return isDone(m.done)
		}
		g.mu.Lock()
		req := m.request()
		ref = m.ref
		g.mu.Unlock()
		var acc stanza.Accepted
		err = g.c.ask(ctx, "set", g.jid, &req, &acc)
		g.c.fail("submitted")
		if err == nil {
			g.mu.Lock()
			g.accepted(m, ref, &acc)
			g.mu.Unlock()
			g.c.fail("accepted")
			return true
		}
	}
	return false
}

// seeOff commits the removals that a message was refused for, and seals it again
// for those who stay (RFC 9420 §12.4): who is to leave must not read it.
func (g *Group) seeOff(ctx context.Context, m *outMessage, refusal error) error {
	if err := g.catchUp(ctx, 0); err != nil {
		g.c.pause(ctx, g.host, rand.N(backoff(1)))
		return nil // asked again, and refused again
	}
	if err := g.usable(ctx); err != nil {
		return err
	}
	epoch, leaving := g.state.Epoch(), g.meta.Leaving
	g.mu.Unlock()
	if leaving {
		g.refused(m, refusal)
		return refusal
	}
	g.commitProposals(epoch)
	return g.sealAnew(ctx, m)
}

// over reports whether there is nothing more to be done for a message now:
// because it is settled, or because the group has to be joined again first.
func (g *Group) over(m *outMessage) (over, settled bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	settled = m.accepted || isDone(m.done)
	return settled || g.meta.Status == statusLost, settled
}
