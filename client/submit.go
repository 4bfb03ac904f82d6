// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// This file submits a stored commit until its outcome is known: the log decides,
// whatever answers are lost.

// settle submits a commit until its outcome is known, on its own goroutine.
func (g *Group) settle(own *pendingOwn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if own.settling || own.outcome != outcomeOpen {
		return
	}
	own.settling = g.c.spawn(func() {
		g.submitCommit(g.c.life, own)
		g.mu.Lock()
		own.settling = false
		g.mu.Unlock()
	})
}

// settlePending takes up a commit that an earlier run has left.
func (g *Group) settlePending() {
	g.mu.Lock()
	own := g.pend
	g.mu.Unlock()
	if own != nil {
		g.settle(own)
	}
}

func (g *Group) submitCommit(ctx context.Context, own *pendingOwn) {
	lost := 0
	for ctx.Err() == nil {
		g.mu.Lock()
		open := own.outcome == outcomeOpen && g.pend == own && g.meta.Status == statusJoined
		g.mu.Unlock()
		if !open || !g.c.waitLink(ctx) {
			return
		}
		acc, err := g.sendCommit(ctx, own)
		g.c.fail("commit-submitted")
		var se *stanza.StaleEpoch
		var fe *stanza.FutureEpoch
		var mc *stanza.MustCommit
		var up *stanza.UnknownProposal
		switch {
		case err == nil:
			g.arrived(&entry{seq: acc.Seq, epoch: own.epoch, kind: groupdata.Commit, stamp: acc.Stamp, bytes: own.message, chain: acc.Chain})
			g.c.fail("commit-accepted")
			if g.awaitOutcome(ctx, own, acc.Seq) {
				return
			}
		case errors.As(err, &se):
			// The winner may be this very commit, whose answer was lost: the
			// log decides either way.
			g.absorb(se)
			if g.awaitOutcome(ctx, own, se.Head) {
				return
			}
			// The service says that the epoch is over and its log does not
			// show it.
			lost++
			g.c.pause(ctx, g.host, backoff(lost))
		case errors.As(err, &mc), errors.As(err, &up):
			if e := g.catchUp(ctx, 0); e != nil {
				lost++
				g.c.pause(ctx, g.host, backoff(lost))
				continue
			}
			g.abandon(own, outcomeLost, nil)
			return
		case errors.As(err, &fe):
			if g.serviceRolledBack(ctx, fe); isDone(own.done) {
				return
			}
			g.c.sleep(ctx, 5*time.Second+rand.N(5*time.Second))
		case retryAfter(err) > 0:
			g.c.waitAsked(ctx, g.host, err)
		case unknownOutcome(err) || errors.Is(err, ErrOffline):
			g.pauseLost(ctx, err, &lost)
			// Resolved by ref, in the log, before it is submitted again.
			g.awaitOutcome(ctx, own, 0)
		case g.overtakenByReInit(ctx, err):
			g.abandon(own, outcomeLost, nil)
			return
		default:
			g.abandon(own, outcomeRefused, fmt.Errorf("client: changing %s: %w", g.jid, err))
			return
		}
	}
}

// awaitOutcome catches up and reports whether the commit's outcome is known.
func (g *Group) awaitOutcome(ctx context.Context, own *pendingOwn, seq uint64) bool {
	g.mu.Lock()
	behind := g.meta.Seq+1 < seq || seq == 0
	g.mu.Unlock()
	if !behind {
		// Its place is next: the worker has it already.
		t := time.NewTimer(time.Second)
		defer t.Stop()
		select {
		case <-own.done:
			return true
		case <-t.C:
		case <-ctx.Done():
			return false
		}
	}
	if err := g.catchUp(ctx, seq); err != nil {
		g.c.noteError(err)
	}
	return isDone(own.done)
}

// abandon gives a commit up that was not accepted.
func (g *Group) abandon(own *pendingOwn, o outcome, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if own.outcome != outcomeOpen {
		return
	}
	if g.pend == own {
		g.pend = nil
		g.b.add(store.Delete(g.row("pend")))
		g.flushSoon()
	}
	own.resolve(o, err)
}

// sendCommit submits a commit, in pieces what does not fit a stanza.
func (g *Group) sendCommit(ctx context.Context, own *pendingOwn) (*stanza.Accepted, error) {
	req := &stanza.Commit{Epoch: own.epoch, Ref: own.ref, Members: own.members}
	limits := g.c.limitsOf(ctx, g.host)
	parts := []struct {
		part stanza.StagePart
		b    []byte
		to   *stanza.Object
	}{{stanza.StageMessage, own.message, &req.Message}, {stanza.StageWelcome, own.welcome, &req.Welcome}, {stanza.StageGroupInfo, own.groupInfo, &req.GroupInfo}}
	// The largest are staged until the rest fits, with room for the frame.
	room := int(limits.MaxBytes)*3/4 - 2048
	total := len(own.message) + len(own.welcome) + len(own.groupInfo)
	for total > room {
		big := -1
		for i, p := range parts {
			if p.to.Stage == "" && len(p.b) > 0 && (big < 0 || len(p.b) > len(parts[big].b)) {
				big = i
			}
		}
		if big < 0 {
			break
		}
		id, err := g.c.stage(ctx, g.jid, parts[big].part, parts[big].b, room)
		if err != nil {
			return nil, err
		}
		parts[big].to.Stage = id
		total -= len(parts[big].b)
	}
	for _, p := range parts {
		if p.to.Stage == "" {
			p.to.Bytes = p.b
		}
	}
	acc := new(stanza.Accepted)
	return acc, g.c.ask(ctx, "set", g.jid, req, acc)
}

// stage uploads an object in pieces (xep/mls-delivery.xml#stage) and returns its id. The
// same object has the same id, so that a lost answer costs one piece.
func (c *Client) stage(ctx context.Context, to string, part stanza.StagePart, b []byte, piece int) (string, error) {
	sum := sha256.Sum256(b)
	id := fmt.Sprintf("%s-%x", part, sum[:12])
	for off := 0; off < len(b); {
		end := min(off+piece, len(b))
		var st stanza.Staged
		req := &stanza.Stage{ID: id, Part: part, Offset: uint64(off), Total: uint64(len(b)), SHA256: sum, Bytes: b[off:end]}
		if err := c.ask(ctx, "set", to, req, &st); err != nil {
			return "", fmt.Errorf("client: uploading a %s of %d bytes: %w", part, len(b), err)
		}
		if st.Offset <= uint64(off) || st.Offset > uint64(len(b)) {
			return "", fmt.Errorf("client: the service has %d bytes of an upload after %d were sent", st.Offset, end)
		}
		off = int(st.Offset)
	}
	return id, nil
}
