// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// This file changes groups. A commit goes through four steps, each of which
// survives a crash:
//
//	pending    made from the current state, which it leaves as it is
//	stored     in the store with its private keys
//	submitted  the delivery service has it, perhaps; it is known by its ref
//	merged     seen in the log in its place: the new state replaces the old
//
// Only one commit wins an epoch (RFC 9420 §14). One that has lost is thrown
// away and made again from the state that won.

// outcome is how a commit ended.
type outcome int

const (
	outcomeOpen    outcome = iota
	outcomeMerged          // it won its epoch
	outcomeLost            // another commit won, or it left a proposal out
	outcomeRefused         // the service will never take it
	outcomeGone            // the group is over for this device
)

// pendingOwn is a commit of this device whose outcome is open.
type pendingOwn struct {
	commit    *mls.PendingCommit
	message   []byte
	welcome   []byte
	groupInfo []byte
	ref       stanza.Ref
	epoch     uint64
	members   *stanza.MemberChanges // declared in private mode
	intent    string                // row of what it is for, empty if nobody asked for it
	settling  bool
	done      chan struct{}
	outcome   outcome
	err       error
	seq       uint64
}

// resolve tells how it ended. Called with the group's lock held, once.
func (p *pendingOwn) resolve(o outcome, err error) {
	if p.outcome == outcomeOpen {
		p.outcome, p.err = o, err
		close(p.done)
	}
}

// storedPending is the row of a pendingOwn.
type storedPending struct {
	Commit    []byte                `json:"commit"`
	Message   []byte                `json:"message"`
	Welcome   []byte                `json:"welcome,omitempty"`
	GroupInfo []byte                `json:"group-info,omitempty"`
	Epoch     uint64                `json:"epoch"`
	Members   *stanza.MemberChanges `json:"members,omitempty"`
	Intent    string                `json:"intent,omitempty"`
}

func (g *Group) newPending(p *mls.PendingCommit) *pendingOwn {
	own := &pendingOwn{commit: p, message: p.Message().Bytes(), epoch: g.state.Epoch(), done: make(chan struct{})}
	if w := p.Welcome(); w != nil {
		own.welcome = w.Bytes()
	}
	if gi := p.GroupInfo(); gi != nil {
		own.groupInfo = gi.Bytes()
	}
	own.ref = stanza.MessageRef(own.message)
	if g.private() {
		own.members = declare(p.Change())
	}
	return own
}

// declare tells a service that cannot read the commit who comes and goes.
func declare(ch *mls.Change) *stanza.MemberChanges {
	mc := &stanza.MemberChanges{}
	for _, p := range ch.Proposals {
		if add, ok := p.Proposal.(*mls.Add); ok {
			ref, err := add.KeyPackage.Ref()
			if err != nil {
				continue
			}
			jid, _ := identityOf(add.KeyPackage.LeafNode.Credential)
			mc.Added = append(mc.Added, stanza.MemberChange{JID: jid, Device: deviceOf(add.KeyPackage.LeafNode), KeyPackageRef: ref})
		}
	}
	for _, m := range ch.Removed {
		mc.Removed = append(mc.Removed, stanza.MemberChange{JID: leafIdentity(m.Leaf), Device: deviceOf(m.Leaf)})
	}
	return mc
}

func (g *Group) pendingOp(p *pendingOwn) store.Op {
	b, err := json.Marshal(storedPending{p.commit.Marshal(), p.message, p.welcome, p.groupInfo, p.epoch, p.members, p.intent})
	if err != nil {
		panic("client: internal error: encoding a pending commit: " + err.Error())
	}
	return store.Put(g.row("pend"), b)
}

// loadPending reads a commit whose outcome was open when the client last
// stopped.
func (g *Group) loadPending() error {
	b, ok, err := g.c.store.Get(g.row("pend"))
	if err != nil || !ok || g.state == nil {
		return err
	}
	var s storedPending
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("client: reading a pending commit: %w", err)
	}
	commit, err := g.state.UnmarshalPendingCommit(s.Commit)
	if err != nil || s.Epoch != g.state.Epoch() {
		// Of an epoch that is over: it has lost.
		g.b.add(store.Delete(g.row("pend")))
		return nil
	}
	g.pend = &pendingOwn{
		commit: commit, message: s.Message, welcome: s.Welcome, groupInfo: s.GroupInfo,
		ref: stanza.MessageRef(s.Message), epoch: s.Epoch, members: s.Members, intent: s.Intent, done: make(chan struct{}),
	}
	return nil
}

// private reports whether handshakes are PrivateMessages in this group.
func (g *Group) private() bool {
	st, err := g.agreed()
	return err == nil && st.Group != nil && st.Group.Handshake == groupdata.Private
}

// errNothingToDo ends an operation whose wish has come true already.
var errNothingToDo = errors.New("client: nothing to do")

// maxRaces bounds how often one operation is made again. Every lost race means
// that somebody else's commit went through.
const maxRaces = 100

// RaceError says that other members' commits won every epoch in which this
// client tried.
type RaceError struct {
	Races int
	Epoch uint64
}

func (e *RaceError) Error() string {
	return fmt.Sprintf("client: lost %d races up to epoch %d; giving up: other members commit all the time", e.Races, e.Epoch)
}

// commit makes a change. build is called with the lock held and says what to
// commit in the current state; it is called again after every lost race, and
// may return errNothingToDo.
func (g *Group) commit(ctx context.Context, build func() (*mls.CommitOptions, error)) error {
	return g.commitWhen(ctx, g.usable, nil, build)
}

// commitWhen is commit with another wait than usable, and with what it is for,
// which may be nil.
func (g *Group) commitWhen(ctx context.Context, usable func(context.Context) error, in *intent, build func() (*mls.CommitOptions, error)) error {
	select {
	case g.commitSem <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-g.c.life.Done():
		return ErrClosed
	}
	defer func() { <-g.commitSem }()
	for races := 0; ; {
		if err := usable(ctx); err != nil {
			return err
		}
		if err := g.stuck(); err != nil {
			g.mu.Unlock()
			return err
		}
		own := g.pend
		fresh := own == nil
		var ticket uint64
		if fresh {
			o, err := build()
			if err == nil {
				own, err = g.makeCommit(o)
			}
			if err != nil {
				g.mu.Unlock()
				if errors.Is(err, errNothingToDo) {
					return nil
				}
				return err
			}
			g.pend = own
			if in != nil {
				ops := in.store(g)
				own.intent = in.row
				g.b.add(ops...)
			}
			ticket = g.b.add(g.pendingOp(own))
		}
		b := g.b
		g.mu.Unlock()
		if fresh {
			g.c.fail("commit-made")
			if err := b.flush(ticket); err != nil {
				return err
			}
			g.c.fail("commit-stored")
		}
		g.settle(own)
		select {
		case <-own.done:
		case <-ctx.Done():
			return fmt.Errorf("client: the outcome of a change of %s is not known yet: %w", g.jid, ctx.Err())
		case <-g.c.life.Done():
			return ErrClosed
		}
		switch {
		case own.outcome == outcomeMerged && fresh:
			return nil
		case own.outcome == outcomeMerged:
			continue // an older one of ours; now this one
		case own.outcome == outcomeLost:
			if fresh {
				races++
			}
			if races >= maxRaces {
				return &RaceError{Races: races, Epoch: own.epoch}
			}
			// The more lost, the further apart (xep/mls-delivery.xml#race).
			g.c.sleep(ctx, rand.N(100*time.Millisecond<<min(races, 5)))
		default:
			if fresh {
				return own.err
			}
		}
	}
}

// makeCommit makes a pending commit. Called with the lock held.
func (g *Group) makeCommit(o *mls.CommitOptions) (*pendingOwn, error) {
	o.AAD = g.aad()
	if g.private() {
		// The service has no tree to give to joiners.
		o.Wire, o.InlineTree = mls.WireFormatPrivateMessage, true
	}
	o.GroupInfoExternalPub = true
	p, err := g.commitState(o)
	if err != nil {
		return nil, fmt.Errorf("client: making a commit: %w", err)
	}
	return g.newPending(p), nil
}

// epochCode is the epoch authenticator as digits.
func epochCode(auth []byte) string {
	h := sha256.Sum256(append([]byte("lockstep epoch code 1\x00"), auth...))
	var out []byte
	for i := range 6 {
		if i > 0 {
			out = append(out, ' ')
		}
		out = fmt.Appendf(out, "%05d", binary.BigEndian.Uint32(h[4*i:])%100000)
	}
	return string(out)
}
