// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
)

// This file comes into the group that follows a reinitialised one: by a Welcome,
// which must be what the ReInit announced, or from outside.

// unseal gives the sealed form of all messages on their way up: the group that
// they were sealed for is over, and its log, which has been read to the end, does
// not have them. Called with the lock held.
func (g *Group) unseal() []store.Op {
	var ops []store.Op
	for _, m := range g.outbox {
		if m.accepted {
			continue
		}
		delete(g.byRef, m.ref)
		m.sealed, m.ref, m.epoch, m.trouble = nil, stanza.Ref{}, 0, nil
		ops = append(ops, m.op())
	}
	return ops
}

// unsealed reports whether a sealed form, which the service refused, has been given
// up meanwhile.
func (g *Group) unsealed(m *outMessage, ref stanza.Ref) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return m.ref != ref
}

// overtakenByReInit reports whether a request was refused because the group has
// been reinitialised meanwhile, as far as the log tells: it has ended, goes on
// without this device, or with it and does not know what was sealed for the old one.
func (g *Group) overtakenByReInit(ctx context.Context, err error) bool {
	var refused *stanza.Error
	if !errors.As(err, &refused) || !slices.Contains([]stanza.Condition{stanza.NotAllowed, stanza.Forbidden, stanza.BadRequest}, refused.Condition) {
		return false
	}
	if e := g.catchUp(ctx, 0); e != nil {
		g.c.noteError(e)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.between()
}

// tellContinued tells of a new life of the group, and who is not in it.
func (g *Group) tellContinued(old *mls.Group, proven bool, r *received) {
	ev := &Reinitialised{Old: uint16(old.CipherSuite()), New: uint16(g.state.CipherSuite()), Proven: proven}
	here := make(map[string]bool)
	for m := range g.state.Members() {
		here[leafIdentity(m.Leaf)+"/"+deviceOf(m.Leaf).String()] = true
	}
	for m := range old.Members() {
		if w := g.who(m); !here[w.JID+"/"+w.Device.String()] {
			ev.Missing = append(ev.Missing, w)
		}
	}
	r.put(g, ev, g.meta.Seq, time.Time{})
}

// errOtherGroup says that somebody offers another group in the place of this one.
var errOtherGroup = errors.New("client: the group that is offered is not the one that was agreed on")

// successorOf checks that a state may take the place of the present one: it must
// be what the ReInit announced. Called with the lock held.
func successorOf(reinit *mls.ReInit, ctx *mls.GroupContext) error {
	if reinit == nil || !bytes.Equal(ctx.GroupID, reinit.GroupID) || ctx.CipherSuite != reinit.CipherSuite || ctx.Version != reinit.Version {
		return errOtherGroup
	}
	return nil
}

// errNotCaughtUp says that what a Welcome has to be compared with is not there yet.
var errNotCaughtUp = errors.New("client: not caught up yet")

// joinWelcome opens a Welcome. proven says that the new group knows the secret of
// the one that this device is in and that was reinitialised.
func (g *Group) joinWelcome(ctx context.Context, w *mls.Welcome, kp *mls.PrivateKeyPackage, tree []byte) (st *mls.Group, proven bool, err error) {
	parent, now := g.compareWith()
	st, err = mls.Join(g.cfg, w, kp, &mls.JoinOptions{Tree: tree, Parent: parent})
	switch {
	case parent != nil && ruleOf(err) == mls.RuleWelcomeReInitPSK:
		// Added later, when the group was past its first commit.
		st, err = mls.Join(g.cfg, w, kp, &mls.JoinOptions{Tree: tree})
		return st, false, err
	case parent != nil || now == nil:
		return st, parent != nil, err
	case err == nil && bytes.Equal(now.GroupID, st.GroupID()):
		return st, false, nil
	case err != nil && !errors.Is(err, mls.ErrMissingPSK):
		return nil, false, err
	}
	// To another group than the present one: the log says whether that has ended.
	if err := g.catchUp(ctx, 0); err != nil {
		return nil, false, errors.Join(errNotCaughtUp, err)
	}
	if parent, _ = g.compareWith(); parent == nil {
		return st, false, err
	}
	return g.joinWelcome(ctx, w, kp, tree)
}

// ruleOf is the rule that an error of package mls is about.
func ruleOf(err error) mls.Rule {
	var ve *mls.ValidationError
	if errors.As(err, &ve) {
		return ve.Rule
	}
	return ""
}

// compareWith gives what a Welcome is compared with: the state, if it was
// reinitialised, and the present GroupContext; nil if this device is not in the
// group.
func (g *Group) compareWith() (parent *mls.Group, now *mls.GroupContext) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.meta.Status != statusJoined || g.load() != nil || g.state == nil {
		return nil, nil
	}
	return g.frozenState(), g.state.Context()
}

// goOn makes st, the continuation of a frozen group, the state. The log goes on,
// too: what lies between is followed by its chain alone. Called with the lock held.
func (g *Group) goOn(st *mls.Group, seq uint64, proven bool, r *received) {
	old := g.state
	place, chain, ring := g.meta.Seq, g.meta.Chain, g.meta.Ring
	r.ops = append(r.ops, g.unseal()...)
	g.enter(st, seq, stanza.Hash{}, r)
	if place < seq {
		g.meta.Seq, g.meta.Chain, g.meta.Ring, g.meta.SkipTo = place, chain, ring, seq
	}
	g.tellKeys(old, r)
	g.tellContinued(old, proven, r)
	r.after = append(r.after, g.resend)
}

// tellKeys tells which known devices have other keys in the new group.
func (g *Group) tellKeys(old *mls.Group, r *received) {
	was := make(map[string]string)
	for m := range old.Members() {
		was[leafIdentity(m.Leaf)+"/"+deviceOf(m.Leaf).String()] = Fingerprint(m.Leaf.SignatureKey)
	}
	self := g.state.Self().Index
	for m := range g.state.Members() {
		w := g.who(m)
		if before := was[w.JID+"/"+w.Device.String()]; before != "" && before != w.Fingerprint && m.Index != self {
			r.put(g, &KeyChanged{Device: w, Old: before}, g.meta.Seq, time.Time{})
		}
	}
}

// enterSuccessor comes into the new group from outside: whoever made it is gone.
func (g *Group) enterSuccessor(ctx context.Context) error {
	_, err := g.c.joinExternally(ctx, g.jid, "the group was reinitialised and no invitation came")
	if errors.Is(err, errNotYet) {
		return nil
	}
	var notMember *stanza.NotAMember
	if errors.As(err, &notMember) {
		g.update(func(r *received) { g.removed(r, Who{}, "not in the reinitialised group", 0, time.Time{}) })
	}
	return err
}

// errNotYet says that the new group does not exist yet.
var errNotYet = errors.New("client: nobody has continued the group yet")

// mayEnter checks a GroupInfo for a group that this device has a state of. Called
// with the lock held.
func (g *Group) mayEnter(ctx *mls.GroupContext) error {
	if g.meta.Status != statusJoined || g.state == nil {
		return nil
	}
	reinit := g.frozen()
	switch same := bytes.Equal(ctx.GroupID, g.state.GroupID()); {
	case same && reinit == nil:
		return nil
	case same:
		return errNotYet
	}
	return successorOf(reinit, ctx)
}

// reinitNotice is the service's word that the group has a new life.
func (g *Group) reinitNotice(n *stanza.ReInitNotice, e *entry, r *received) {
	now := g.state.GroupID()
	if bytes.Equal(n.GroupID, now) {
		return // this device has begun it
	}
	reinit := g.frozen()
	if reinit == nil || !bytes.Equal(n.Previous, now) || !bytes.Equal(n.GroupID, reinit.GroupID) {
		r.put(g, &Misbehaved{
			Reason:   "the delivery service has put another group in the place of this one, which no member has ended so",
			Evidence: Evidence{Seq: e.seq, Epoch: e.epoch, Message: e.bytes},
		}, e.seq, e.stamp)
	}
}
