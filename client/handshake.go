// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// This file follows the proposals and commits of the log, and tells what they have
// changed.

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
	if g.meta.Leaving && e.kind == groupdata.Commit && errors.Is(err, mls.ErrMissingProposal) {
		// It commits the own goodbye, whose answer was lost. That is not in the
		// state, since nobody commits to leaving by themselves.
		g.left(r)
		return
	}
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
	if own.intent != "" {
		r.ops = append(r.ops, store.Delete(own.intent))
		g.unfinished = slices.DeleteFunc(g.unfinished, func(in *intent) bool { return in.row == own.intent })
	}
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
	strange := make([]bool, len(added)) // before any is met
	for i, m := range added {
		jid := leafIdentity(m.Leaf)
		strange[i] = g.c.trust.strange(jid, jid == g.c.account, deviceOf(m.Leaf), m.Leaf.SignatureKey)
	}
	for i, m := range added {
		w := g.noteKey(m, e, r)
		changed.Added = append(changed.Added, w)
		if (before[w.JID] > 0 || strange[i]) && !gone[w.JID+"/"+w.Device.String()] {
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
			g.meta.Sent, g.meta.Updated, g.meta.Renew = 0, g.c.cfg.clock().UTC(), time.Time{}
		}
	}
	g.setState(next)
	g.meta.Stuck = nil
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
	if g.meta.Stuck != nil {
		// Of an epoch that this device has not followed into. Were that a reason to
		// come back, a second commit would make it accept the first.
		return
	}
	ev := Evidence{Seq: e.seq, Epoch: e.epoch, Message: e.bytes, Member: g.senderOf(e.bytes)}
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
		g.meta.Stuck = &StuckError{Group: g.jid, Seq: e.seq, Reason: rule.Error()}
		return
	}
	g.mustRejoin(fmt.Sprintf("entry %d cannot be processed: %v", e.seq, err), r)
}

// senderOf is the member who made a public handshake message, nil if that cannot
// be said.
func (g *Group) senderOf(b []byte) *Who {
	msg, err := mls.ParseMessage(b)
	if err != nil || g.state == nil {
		return nil
	}
	s, ok := msg.Sender()
	if !ok || s.Type != mls.SenderMember {
		return nil
	}
	m, ok := g.state.Member(mls.LeafIndex(s.Index))
	if !ok {
		return nil
	}
	w := g.who(m)
	return &w
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
