// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
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
	b, err := json.Marshal(storedPending{p.commit.Marshal(), p.message, p.welcome, p.groupInfo, p.epoch, p.members})
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
		ref: stanza.MessageRef(s.Message), epoch: s.Epoch, members: s.Members, done: make(chan struct{}),
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
	return g.commitWhen(ctx, g.usable, build)
}

// commitWhen is commit with another wait than usable.
func (g *Group) commitWhen(ctx context.Context, usable func(context.Context) error, build func() (*mls.CommitOptions, error)) error {
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
		if g.stuck != nil {
			g.mu.Unlock()
			return g.stuck
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
			// The more lost, the further apart (PROTOCOL.md §5).
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

// settle submits a commit until its outcome is known, on its own goroutine.
func (g *Group) settle(own *pendingOwn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if own.settling || own.outcome != outcomeOpen || g.c.life.Err() != nil {
		return
	}
	own.settling = true
	g.c.wg.Add(1)
	go func() {
		defer g.c.wg.Done()
		g.submitCommit(g.c.life, own)
		g.mu.Lock()
		own.settling = false
		g.mu.Unlock()
	}()
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
			if errors.Is(err, errRestarted) {
				lost = 0 // it is back: no reason to be slow
			}
			lost++
			g.c.pause(ctx, g.host, rand.N(backoff(lost)))
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

// stage uploads an object in pieces (PROTOCOL.md §5) and returns its id. The
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

// processHandshake takes a proposal or commit of the log. Called with the lock
// held.
func (g *Group) processHandshake(e *entry, r *received) {
	ref := stanza.MessageRef(e.bytes)
	if g.pend != nil && g.pend.ref == ref {
		g.mergeOwn(e, r)
		return
	}
	msg, err := mls.ParseMessage(e.bytes)
	if err != nil {
		g.badHandshake(e, r, err)
		return
	}
	got, err := g.state.Process(msg)
	if err != nil {
		g.badHandshake(e, r, err)
		return
	}
	switch v := got.(type) {
	case *mls.StagedProposal:
		if e.kind != groupdata.Proposal {
			g.badHandshake(e, r, errors.New("client: the entry's kind is not that of its message"))
			return
		}
		g.state = v.Merge()
		r.after = append(r.after, g.considerProposals)
	case *mls.StagedCommit:
		if e.kind != groupdata.Commit {
			g.badHandshake(e, r, errors.New("client: the entry's kind is not that of its message"))
			return
		}
		g.mergeOther(v, e, r)
	case *mls.OwnCommit:
		g.storeIsOld(e, r)
	case *mls.OwnMessage:
		// The one proposal that this client sends is to leave.
		if !g.meta.Leaving {
			g.storeIsOld(e, r)
		}
	default:
		g.badHandshake(e, r, fmt.Errorf("client: a handshake entry holds %T", got))
	}
}

// mergeOwn makes the state of an own commit that has won the current one.
func (g *Group) mergeOwn(e *entry, r *received) {
	own := g.pend
	next, err := own.commit.Merge()
	if err != nil {
		g.pend = nil
		r.ops = append(r.ops, store.Delete(g.row("pend")))
		own.resolve(outcomeRefused, err)
		g.mustRejoin("an own commit cannot be merged: "+err.Error(), r)
		return
	}
	g.pend = nil
	r.ops = append(r.ops, store.Delete(g.row("pend")))
	ch := own.commit.Change()
	if ch == nil {
		ch = difference(g.state, next) // it was made before a restart
	}
	g.changedBy(ch, e, r, next)
	own.seq = e.seq
	switch {
	case g.frozen() != nil:
		g.meta.Ender = true
		r.after = append(r.after, g.considerReInit)
	case g.parent != nil:
		g.continued(r, true)
	}
	g.meta.Due = rand.IntN(40)
	r.flush = true
	// Resolved when it is durable: whoever waits must not see less after a
	// crash.
	r.after = append(r.after, func() {
		g.mu.Lock()
		own.resolve(outcomeMerged, nil)
		g.mu.Unlock()
	})
}

// difference is what an own commit did, seen from its outcome.
func difference(old, now *mls.Group) *mls.Change {
	self := old.Self()
	ch := &mls.Change{Kind: mls.ChangeCommit, GroupID: old.GroupID(), Epoch: old.Epoch(), Committer: &self, OldContext: old.Context(), NewContext: now.Context()}
	for m := range old.Members() {
		n, ok := now.Member(m.Index)
		switch {
		case !ok:
			ch.Removed = append(ch.Removed, m)
		case n.Leaf.Equal(m.Leaf):
		case leafIdentity(n.Leaf) == leafIdentity(m.Leaf) && deviceOf(n.Leaf) == deviceOf(m.Leaf):
			ch.Updated = append(ch.Updated, mls.MemberUpdate{Old: m, New: n})
		default:
			ch.Removed, ch.Added = append(ch.Removed, m), append(ch.Added, n)
		}
	}
	for m := range now.Members() {
		if _, ok := old.Member(m.Index); !ok {
			ch.Added = append(ch.Added, m)
		}
	}
	return ch
}

// mergeOther follows another member's commit.
func (g *Group) mergeOther(v *mls.StagedCommit, e *entry, r *received) {
	ch := v.Change()
	g.checkPosition(ch.AAD, e, committerOf(ch), r)
	if v.Removed() {
		w := g.who(committerOf(ch))
		if g.meta.Leaving {
			g.left(r)
			return
		}
		g.removed(r, w, "", e.seq, e.stamp)
		return
	}
	next, err := v.Merge()
	if err != nil {
		g.badHandshake(e, r, err)
		return
	}
	if own := g.pend; own != nil {
		g.pend = nil
		r.ops = append(r.ops, store.Delete(g.row("pend")))
		r.after = append(r.after, func() {
			g.mu.Lock()
			own.resolve(outcomeLost, nil)
			g.mu.Unlock()
		})
	}
	g.changedBy(ch, e, r, next)
	if g.frozen() != nil {
		r.after = append(r.after, g.considerReInit)
	}
	r.flush = true
}

func committerOf(ch *mls.Change) mls.Member {
	switch {
	case ch.Committer != nil:
		return *ch.Committer
	case ch.Joiner != nil:
		return *ch.Joiner
	}
	return mls.Member{}
}

// changedBy makes next the state and tells what has changed.
func (g *Group) changedBy(ch *mls.Change, e *entry, r *received, next *mls.Group) {
	by := g.who(committerOf(ch))
	before := make(map[string]int, len(g.accounts))
	for a, n := range g.accounts {
		before[a] = n
	}
	old, _ := groupState(ch.OldContext)
	now, _ := groupState(next.Context())
	self := g.state.Self()
	added := ch.Added
	if ch.Joiner != nil {
		added = append(added[:len(added):len(added)], *ch.Joiner)
	}
	changed := &MembersChanged{By: by}
	gone := make(map[string]bool)
	for _, m := range ch.Removed {
		w := g.who(m)
		changed.Removed = append(changed.Removed, w)
		gone[w.JID+"/"+w.Device.String()] = true
	}
	for _, m := range added {
		w := g.noteKey(m, e, r)
		changed.Added = append(changed.Added, w)
		if before[w.JID] > 0 && !gone[w.JID+"/"+w.Device.String()] {
			r.put(g, &NewDevice{Device: w, Own: w.JID == g.c.account}, e.seq, e.stamp)
		}
	}
	for _, u := range ch.Updated {
		if !bytes.Equal(u.Old.Leaf.SignatureKey, u.New.Leaf.SignatureKey) {
			w := g.noteKey(u.New, nil, r)
			if u.New.Index != self.Index {
				r.put(g, &KeyChanged{Device: w, Old: Fingerprint(u.Old.Leaf.SignatureKey)}, e.seq, e.stamp)
			}
		}
		if u.New.Index == self.Index {
			g.meta.Sent, g.meta.Updated, g.meta.Renew = 0, g.c.cfg.clock().UTC(), false
		}
	}
	g.setState(next)
	g.stuck = nil
	if changed.Added != nil || changed.Removed != nil {
		r.put(g, changed, e.seq, e.stamp)
	}
	if old.Group != nil && now.Group != nil && old.Group.Name != now.Group.Name {
		r.put(g, &Renamed{By: by, Old: old.Group.Name, New: now.Group.Name}, e.seq, e.stamp)
	}
	if old.Roles != nil && now.Roles != nil {
		g.tellRoles(old.Roles, now.Roles, before, by, e, r)
	}
}

func (g *Group) tellRoles(old, now *groupdata.Roles, before map[string]int, by Who, e *entry, r *received) {
	if old.Policy != now.Policy {
		r.put(g, &PolicyChanged{By: by, Old: old.Policy, New: now.Policy}, e.seq, e.stamp)
	}
	tell := func(jid string) {
		was, is := old.Of(jid, before[jid] > 0), now.Of(jid, g.accounts[jid] > 0)
		if was != is {
			r.put(g, &RoleChanged{By: by, JID: jid, Old: was, New: is}, e.seq, e.stamp)
		}
	}
	for jid := range old.Entries {
		if old.Entries[jid] != now.Entries[jid] {
			tell(jid)
		}
	}
	for jid := range now.Entries {
		if _, ok := old.Entries[jid]; !ok {
			tell(jid)
		}
	}
}

// noteKey remembers the key of a new leaf.
func (g *Group) noteKey(m mls.Member, e *entry, r *received) Who {
	jid := leafIdentity(m.Leaf)
	_, ops, before := g.c.trust.seen(jid, deviceOf(m.Leaf), m.Leaf.SignatureKey)
	r.ops = append(r.ops, ops...)
	w := g.who(m)
	if before != "" && e != nil {
		r.put(g, &KeyChanged{Device: w, Old: before}, e.seq, e.stamp)
	}
	return w
}

// badHandshake is a proposal or commit that the log has and this client cannot
// or must not follow.
func (g *Group) badHandshake(e *entry, r *received, err error) {
	ev := Evidence{Seq: e.seq, Epoch: e.epoch, Message: e.bytes}
	r.put(g, &Misbehaved{
		Reason:   fmt.Sprintf("the log has a %s that the delivery service should have refused: %v", e.kind, err),
		Evidence: ev,
	}, e.seq, e.stamp)
	g.c.log.Error("cannot follow the log", "group", g.jid, "seq", e.seq, "kind", e.kind.String(), "error", err)
	if e.kind != groupdata.Commit {
		return
	}
	var rule *groupdata.RuleError
	if errors.As(err, &rule) {
		// Against the group's own rules: no honest member follows. Coming back
		// would mean to accept it.
		g.stuck = fmt.Errorf("client: %s is stuck before entry %d, a commit against the group's rules (%w): see Group.Rejoin", g.jid, e.seq, err)
		return
	}
	g.mustRejoin(fmt.Sprintf("entry %d cannot be processed: %v", e.seq, err), r)
}

// removed ends the membership.
func (g *Group) removed(r *received, by Who, reason string, seq uint64, at time.Time) {
	g.setStatus(statusRemoved)
	g.meta.Reason = reason
	g.forget(r)
	r.any = true
	r.put(g, &Removed{By: by, Reason: reason}, seq, at)
}

// left is removed by own wish.
func (g *Group) left(r *received) {
	g.setStatus(statusLeft)
	g.forget(r)
	r.any = true
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
