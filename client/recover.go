// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// This file comes into groups from outside, by an external commit: a new device
// of an account that is a member, and a device whose state is lost or must not
// be used any more. See RFC 9420 §12.4.3.2 and RFC 9750 §6.6.

// reconcile compares what a service says of a group with what this client
// knows, and does what is missing.
func (c *Client) reconcile(ctx context.Context, it stanza.GroupItem) error {
	c.mu.Lock()
	g := c.groups[it.JID]
	c.mu.Unlock()
	status := statusNone
	if g != nil {
		status = g.statusNow()
	}
	switch status {
	case statusJoined:
		if g.isAt(&it) {
			return nil
		}
		if err := g.catchUp(ctx, it.Head); err != nil {
			return err
		}
		if g.statusNow() == statusLost {
			return g.rejoin(ctx)
		}
		return nil
	case statusLost:
		return g.rejoin(ctx)
	case statusLeft, statusGone:
		return nil
	}
	// Unknown here, or removed once.
	role, _ := groupdata.ParseRole(string(it.Affiliation))
	if it.Welcome || it.Remote || role < groupdata.Visitor {
		return nil
	}
	if status == statusRemoved && !it.InTree {
		return nil // an admin has taken this device out: not coming back by itself
	}
	if _, err := c.joinExternally(ctx, it.JID, ""); err != nil {
		var refused *stanza.Error
		var rule *groupdata.RuleError
		if errors.As(err, &refused) && refused.Condition == stanza.Forbidden || errors.As(err, &rule) {
			c.log.Info("not joining a group of the account", "group", it.JID, "error", err)
			return nil
		}
		return err
	}
	return nil
}

// Join joins a group from outside: one that is open, or one that this account
// is a member of with another device.
func (c *Client) Join(ctx context.Context, group string) (*Group, error) {
	if err := c.alive(); err != nil {
		return nil, err
	}
	j, err := bareJID(group)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	g := c.groups[j]
	c.mu.Unlock()
	if g != nil && g.statusNow() == statusJoined {
		return g, nil
	}
	return c.joinExternally(ctx, j, "")
}

// Rejoin gives this device's state of the group up and comes back with new
// keys, accepting the group as the delivery service has it now. It is the way
// out when the log has a commit that this client refuses to follow, once a
// person has looked at the evidence.
func (g *Group) Rejoin(ctx context.Context) error {
	if err := g.c.alive(); err != nil {
		return err
	}
	g.mu.Lock()
	status := g.meta.Status
	g.mu.Unlock()
	if status != statusJoined && status != statusLost {
		return ErrNotMember
	}
	g.apply(func(r *received) {
		g.mustRejoin("asked for", r)
		r.after = nil
	})
	return g.rejoin(ctx)
}

// rejoinSoon comes back in the background, until it works.
func (c *Client) rejoinSoon(g *Group) {
	c.spawn(func() {
		for lost := 1; c.life.Err() == nil && g.statusNow() == statusLost; lost++ {
			if !c.waitLink(c.life) {
				return
			}
			err := g.rejoin(c.life)
			if err == nil {
				return
			}
			c.noteError(err)
			c.pause(c.life, g.host, backoff(lost)+rand.N(backoff(lost)))
		}
	})
}

func (g *Group) rejoin(ctx context.Context) error {
	g.mu.Lock()
	if g.rejoining || g.meta.Status != statusLost {
		g.mu.Unlock()
		return nil
	}
	g.rejoining = true
	reason := g.meta.Reason
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		g.rejoining = false
		g.signal()
		g.mu.Unlock()
	}()
	_, err := g.c.joinExternally(ctx, g.jid, reason)
	return err
}

// joinExternally makes and submits external commits until one wins. An empty
// reason says that this device is new in the group.
func (c *Client) joinExternally(ctx context.Context, group, reason string) (*Group, error) {
	var leaving []*mls.Message
	said := uint64(0) // the epoch that the service itself has named
	for races := 0; races < maxRaces; races++ {
		g, again, err := c.tryExternal(ctx, group, reason, leaving, said)
		if err == nil {
			return g, nil
		}
		leaving = nil
		var se *stanza.StaleEpoch
		if errors.As(err, &se) {
			said = max(said, se.Current)
		}
		var mc *stanza.MustCommit
		if errors.As(err, &mc) {
			leaving = selfRemoves(mc)
		}
		if !again || ctx.Err() != nil {
			return nil, err
		}
		c.sleep(ctx, rand.N(100*time.Millisecond<<min(races, 6)))
	}
	return nil, &RaceError{Races: maxRaces}
}

func (c *Client) tryExternal(ctx context.Context, group, reason string, leaving []*mls.Message, said uint64) (_ *Group, again bool, err error) {
	gi, err := c.fetchGroupInfo(ctx, group)
	if err != nil {
		return nil, false, fmt.Errorf("client: asking for %s: %w", group, err)
	}
	if gi.Epoch < said {
		return nil, false, c.describedAsItWas(group, gi, said)
	}
	msg, err := mls.ParseMessage(gi.Bytes)
	if err != nil || msg.GroupInfo == nil {
		return nil, false, fmt.Errorf("client: the GroupInfo of %s is malformed: %v", group, err)
	}
	agreed, err := checkState(&msg.GroupInfo.Context, group)
	if err != nil {
		return nil, false, err
	}
	tree, err := c.fetchTree(ctx, group, gi.Epoch)
	if err != nil {
		var se *stanza.StaleEpoch
		return nil, errors.As(err, &se), fmt.Errorf("client: fetching the tree of %s: %w", group, err)
	}
	c.mu.Lock()
	g := c.groups[group]
	c.mu.Unlock()
	if g == nil {
		g = newGroup(c, group, randomID()[:16])
	}
	g.mu.Lock()
	if g.meta.Status == statusJoined {
		err = g.load()
	}
	if err == nil {
		err = g.mayEnter(&msg.GroupInfo.Context)
	}
	old := g.frozenState()
	g.mu.Unlock()
	if err != nil {
		return nil, false, err
	}
	cfg := *g.cfg
	cfg.Policy = nil // the rules are the service's and the members' to apply: this client has no state yet
	pub, err := mls.NewPublicGroup(&cfg, msg.GroupInfo, tree)
	if err != nil {
		return nil, false, fmt.Errorf("client: checking %s: %w", group, err)
	}
	if old == nil && g.wentBack(pub.GroupID(), pub.Epoch(), gi.Seq) {
		return nil, false, fmt.Errorf("client: %s describes %s as it was before: not coming back to an older group", g.host, group)
	}
	o := &mls.ExternalJoinOptions{
		Tree: tree, DeviceID: c.device[:], GroupInfoExternalPub: true, SelfRemoves: leaving,
		InlineTree: agreed.Group.Handshake == groupdata.Private,
	}
	for m := range pub.Members() {
		if leafIdentity(m.Leaf) == c.account && deviceOf(m.Leaf) == c.device {
			o.Remove = &m.Index
		}
	}
	if !gi.Chain.IsZero() {
		o.AAD = groupdata.Position{Seq: gi.Seq, Chain: groupdata.Chain(gi.Chain)}.AAD()
	}
	me, err := c.identityFor(msg.GroupInfo.Context.CipherSuite)
	if err != nil {
		return nil, false, err
	}
	p, err := mls.JoinExternal(&cfg, msg.GroupInfo, me, o)
	if err != nil {
		return nil, false, fmt.Errorf("client: joining %s: %w", group, err)
	}
	own := &pendingOwn{message: p.Message().Bytes(), epoch: gi.Epoch, groupInfo: p.GroupInfo().Bytes()}
	own.ref = stanza.MessageRef(own.message)
	acc, again, err := c.submitExternal(ctx, group, own)
	if err != nil {
		return nil, again, err
	}
	c.fail("external-accepted")
	next, err := p.Merge()
	if err == nil {
		next, err = c.bindState(g, next)
	}
	if err != nil {
		return nil, false, fmt.Errorf("client: joining %s: %w", group, err)
	}
	return g, false, g.enterExternally(next, acc, gi, reason)
}

// wentBack reports whether a service describes a group as older than this
// client knows it to be.
func (g *Group) wentBack(id mls.GroupID, epoch, seq uint64) bool {
	g.mu.Lock()
	known, last := g.meta.Epoch, g.meta.Seq
	if g.meta.GroupID != nil && !bytes.Equal(g.meta.GroupID, id) {
		known = 0 // reinitialised: epochs begin anew, the log goes on
	}
	g.mu.Unlock()
	if epoch >= known && seq >= last || g.meta.Reason == "asked for" {
		return false
	}
	g.headWentBack(seq, last)
	return true
}

// describedAsItWas is a service that describes a group in an epoch before the one
// that it has just said the group is in. A device that has never been there has
// nothing else to go by.
func (c *Client) describedAsItWas(group string, gi *stanza.GroupInfo, said uint64) error {
	c.mu.Lock()
	told := c.oldInfoTold[group] == said
	if c.oldInfoTold == nil || len(c.oldInfoTold) > 1000 { // a liar may name any number of groups
		c.oldInfoTold = make(map[string]uint64)
	}
	c.oldInfoTold[group] = said
	c.mu.Unlock()
	if !told {
		c.emit(&RollbackDetected{
			EventMeta: EventMeta{Group: group},
			Reason:    fmt.Sprintf("the delivery service describes the group as it was in epoch %d, and says that it is in epoch %d", gi.Epoch, said),
			Evidence:  Evidence{Epoch: gi.Epoch, Theirs: fmt.Sprintf("epoch %d", said), Message: gi.Bytes},
		})
	}
	return fmt.Errorf("client: %s is described as it was in epoch %d: not joining an older group", group, gi.Epoch)
}

// selfRemoves are the wishes to leave that a joiner must commit along, as the
// service sends them with its refusal.
func selfRemoves(mc *stanza.MustCommit) []*mls.Message {
	var out []*mls.Message
	for _, p := range mc.Proposals {
		if m, err := mls.ParseMessage(p.Bytes); err == nil {
			out = append(out, m)
		}
	}
	return out
}

// submitExternal submits an external commit until its outcome is known.
func (c *Client) submitExternal(ctx context.Context, group string, own *pendingOwn) (*stanza.Accepted, bool, error) {
	for lost := 0; ; {
		req := &stanza.Commit{Epoch: own.epoch, Ref: own.ref, External: true, Message: stanza.Object{Bytes: own.message}, GroupInfo: stanza.Object{Bytes: own.groupInfo}}
		acc := new(stanza.Accepted)
		err := c.ask(ctx, "set", group, req, acc)
		var se *stanza.StaleEpoch
		var mc *stanza.MustCommit
		switch {
		case err == nil:
			return acc, false, nil
		case errors.As(err, &se):
			for _, p := range se.Commits {
				if p.Ref == own.ref {
					return &stanza.Accepted{Seq: p.Seq, Epoch: p.Epoch + 1, Ref: p.Ref, Chain: p.Chain, Stamp: p.Stamp}, false, nil
				}
			}
			return nil, true, err
		case errors.As(err, &mc):
			return nil, true, err
		case retryAfter(err) > 0 && ctx.Err() == nil:
			c.waitAsked(ctx, domainOf(group), err)
		case unknownOutcome(err) && ctx.Err() == nil && lost < 8:
			// The same ref gets the same answer, or the commit that it lost to.
			lost++
			c.pause(ctx, domainOf(group), rand.N(backoff(lost)))
			if !c.waitLink(ctx) {
				return nil, false, err
			}
		default:
			return nil, false, fmt.Errorf("client: joining %s: %w", group, err)
		}
	}
}

// enterExternally makes the new state the group's, in one write.
func (g *Group) enterExternally(st *mls.Group, acc *stanza.Accepted, gi *stanza.GroupInfo, reason string) error {
	c := g.c
	g.mu.Lock()
	r := received{flush: true}
	from := g.meta.Seq + 1
	was, known := g.meta.Status, g.meta.GroupID
	if g.pend != nil {
		g.pend.resolve(outcomeLost, nil)
		g.pend = nil
	}
	r.ops = append(r.ops, store.DeletePrefix(g.row("m/")), store.Delete(g.row("pend")), store.Delete(g.row(rowBegun)), store.Delete(g.row(rowOld)))
	old := g.frozenState()
	if old != nil {
		r.ops = append(r.ops, g.unseal()...)
	}
	if !g.loaded {
		if err := g.loadOutbox(); err != nil {
			g.mu.Unlock()
			return err
		}
	}
	g.enter(st, acc.Seq, acc.Chain, &r)
	switch {
	case old != nil:
		if acc.Seq > from {
			g.lost(from, acc.Seq-1, &r, acc.Stamp)
		}
		g.tellKeys(old, &r)
		g.tellContinued(old, false, &r)
		r.after = append(r.after, g.resend)
	case reason == "" && was != statusLost:
		r.put(g, &Joined{By: g.who(st.Self())}, acc.Seq, acc.Stamp)
	default:
		g.meta.Since = 0 // it was in before: what it cannot open is lost to it
		if acc.Seq > from {
			g.lost(from, acc.Seq-1, &r, acc.Stamp)
		}
		r.put(g, &Rejoined{Reason: reason}, acc.Seq, acc.Stamp)
		if known != nil && !bytes.Equal(known, st.GroupID()) {
			// It was reinitialised when this device could not follow.
			r.put(g, &Reinitialised{New: uint16(st.CipherSuite())}, acc.Seq, acc.Stamp)
		}
	}
	w := &written{b: g.b, ticket: g.b.add(append(r.ops, append(g.stateOps(), g.metaOp())...)...), items: r.items}
	w.then = func() { c.know(g) }
	g.whenWritten(w)
	g.signal()
	g.mu.Unlock()
	if err := w.wait(c); err != nil {
		return err
	}
	for _, fn := range r.after {
		fn()
	}
	c.ensureService(g.host)
	g.fetchSoon()
	return nil
}
