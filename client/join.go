// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
)

// This file joins groups: by a Welcome, after the accept policy has agreed.
// See xep/mls-delivery.xml#welcomes and #state.

// invitation is a Welcome that waits for a decision or for its processing.
type invitation struct {
	group  string
	by     string
	ref    []byte
	source string // where the Welcome is fetched: the group or the home service
	busy   bool
	told   bool
}

// fetchWelcomes lists the Welcomes that wait at a service and takes each of
// them. Its error is the service's alone: what happens at the services of other
// groups is noted.
func (c *Client) fetchWelcomes(ctx context.Context, host string) error {
	after := ""
	var all []stanza.Welcome
	for {
		var reply stanza.Welcomes
		q := &stanza.WelcomesQuery{Device: c.device, Page: &stanza.PageQuery{Max: stanza.Uint32(100), After: after}}
		if err := c.ask(ctx, "get", host, q, &reply); err != nil {
			return err
		}
		all = append(all, reply.Items...)
		if len(reply.Items) == 0 || reply.Page == nil || reply.Page.Last == "" || reply.Page.Last == after || len(all) > 10_000 ||
			reply.Page.Count != nil && len(all) >= int(*reply.Page.Count) {
			break
		}
		after = reply.Page.Last
	}
	var jobs []func() error
	for _, w := range all {
		jobs = append(jobs, func() error {
			err := c.takeWelcome(ctx, host, &w, true)
			if err != nil && domainOf(normalOr(w.Group)) != host {
				c.noteError(err)
				return nil
			}
			return err
		})
	}
	return parallel(4, jobs)
}

// welcomeCame is a pointer that was sent to this device or its account.
func (c *Client) welcomeCame(from string, w *stanza.Welcome) {
	group, err := bareJID(w.Group)
	if err != nil || from != group && from != domainOf(group) && !c.isHome(from) {
		return
	}
	source := from
	if from == domainOf(group) {
		source = group
	}
	_, ctx := c.currentLink()
	copied := *w
	c.spawn(func() {
		if err := c.takeWelcome(ctx, source, &copied, false); err != nil {
			c.noteError(err)
			c.again(domainOf(group))
		}
	})
}

// takeWelcome asks the policy and joins. listed says that the service has it
// for this very device.
func (c *Client) takeWelcome(ctx context.Context, source string, w *stanza.Welcome, listed bool) error {
	group, err := bareJID(w.Group)
	if err != nil {
		return fmt.Errorf("client: an invitation to %q: %w", w.Group, err)
	}
	if !c.stock.has(w.KeyPackageRef) {
		// For another device of the account, or for a key package whose private
		// part is gone: the group index says if this device has to come in by
		// itself.
		if listed {
			return c.ask(ctx, "set", source, &stanza.Ack{KeyPackageRef: w.KeyPackageRef}, nil)
		}
		return nil
	}
	if source == domainOf(group) {
		source = group
	}
	c.mu.Lock()
	key := hex.EncodeToString(w.KeyPackageRef) + " " + group // a last resort serves several groups
	inv := c.invites[key]
	if inv == nil {
		inv = &invitation{group: group, by: normalOr(w.Inviter), ref: bytes.Clone(w.KeyPackageRef), source: source}
		c.invites[key] = inv
	}
	if inv.busy {
		c.mu.Unlock()
		return nil
	}
	inv.busy = true
	g := c.groups[group]
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		inv.busy = false
		c.mu.Unlock()
	}()
	decision := AcceptInvitation
	if g == nil || !g.listed() {
		policy := c.cfg.Accept
		if policy == nil {
			policy = AcceptAll
		}
		decision = policy(ctx, Invitation{Group: group, By: inv.by})
	}
	switch decision {
	case AcceptInvitation:
		return c.joinInvited(ctx, key, inv)
	case DeclineInvitation:
		return c.declineInvited(ctx, key, inv)
	}
	c.mu.Lock()
	told := inv.told
	inv.told = true
	c.mu.Unlock()
	if !told {
		c.emit(&Invited{EventMeta: EventMeta{Group: group}, By: inv.by})
	}
	return nil
}

// Invitations lists the groups that wait for [Client.Accept] or
// [Client.Decline].
func (c *Client) Invitations() []Invitation {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Invitation
	for _, inv := range c.invites {
		if inv.told {
			out = append(out, Invitation{Group: inv.group, By: inv.by})
		}
	}
	return out
}

func (c *Client) findInvitation(group string) (string, *invitation, error) {
	j, err := bareJID(group)
	if err != nil {
		return "", nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, inv := range c.invites {
		if inv.group == j {
			return key, inv, nil
		}
	}
	return "", nil, fmt.Errorf("client: there is no invitation to %s", j)
}

// Accept joins a group that an [Invited] event told of.
func (c *Client) Accept(ctx context.Context, group string) (*Group, error) {
	if err := c.alive(); err != nil {
		return nil, err
	}
	key, inv, err := c.findInvitation(group)
	if err != nil {
		return nil, err
	}
	if err := c.joinInvited(ctx, key, inv); err != nil {
		return nil, err
	}
	g, ok := c.Group(inv.group)
	if !ok {
		return nil, ErrNotMember
	}
	return g, nil
}

// Decline refuses an invitation: this device's leaf, which the inviter's commit
// has made, is taken out again by joining and leaving.
func (c *Client) Decline(ctx context.Context, group string) error {
	if err := c.alive(); err != nil {
		return err
	}
	key, inv, err := c.findInvitation(group)
	if err != nil {
		return err
	}
	return c.declineInvited(ctx, key, inv)
}

func (c *Client) declineInvited(ctx context.Context, key string, inv *invitation) error {
	if err := c.joinInvited(ctx, key, inv); err != nil {
		return err
	}
	g, ok := c.Group(inv.group)
	if !ok {
		return nil
	}
	return g.Leave(ctx, true)
}

// joinInvited fetches the Welcome and the tree, checks them, and stores the
// new group in one step with the end of its key package.
func (c *Client) joinInvited(ctx context.Context, key string, inv *invitation) error {
	kp, err := c.stock.take(inv.ref)
	if err != nil {
		return err
	}
	w, err := c.fetchWelcome(ctx, inv)
	if err != nil {
		return fmt.Errorf("client: fetching the invitation to %s: %w", inv.group, err)
	}
	msg, err := mls.ParseMessage(w.Bytes)
	if err != nil || msg.Welcome == nil {
		return c.badWelcome(ctx, key, inv, fmt.Errorf("client: the invitation to %s is no Welcome: %v", inv.group, err))
	}
	tree, err := c.fetchTree(ctx, inv.group, w.Epoch)
	if err != nil {
		var se *stanza.StaleEpoch
		if errors.As(err, &se) {
			// The tree of that epoch is no longer kept: come in from outside.
			return c.badWelcome(ctx, key, inv, nil)
		}
		return fmt.Errorf("client: fetching the tree of %s: %w", inv.group, err)
	}
	c.mu.Lock()
	g := c.groups[inv.group]
	c.mu.Unlock()
	fresh := g == nil
	if fresh {
		g = newGroup(c, inv.group, randomID()[:16])
	}
	st, proven, err := g.joinWelcome(ctx, msg.Welcome, kp, tree)
	if errors.Is(err, errNotCaughtUp) {
		return err
	}
	if err == nil {
		if _, err = checkState(st.Context(), inv.group); err != nil {
			c.emit(&Misbehaved{EventMeta: EventMeta{Group: inv.group}, Reason: err.Error(), Evidence: Evidence{Message: msg.Bytes()}})
		}
	}
	if err != nil {
		return c.badWelcome(ctx, key, inv, fmt.Errorf("client: joining %s: %w", inv.group, err))
	}
	g.mu.Lock()
	joined := g.meta.Status == statusJoined && g.load() == nil && g.state != nil
	if joined && bytes.Equal(g.state.GroupID(), st.GroupID()) && g.state.Epoch() >= st.Epoch() {
		g.mu.Unlock() // joined already: the Welcome came twice
		return c.welcomeDone(ctx, key, inv)
	}
	if joined && !bytes.Equal(g.state.GroupID(), st.GroupID()) {
		if err := successorOf(g.frozen(), st.Context()); err != nil {
			g.mu.Unlock()
			return c.otherWelcome(ctx, key, inv, g, msg.Bytes())
		}
	}
	goesOn := joined && g.frozen() != nil
	if !g.loaded && !fresh {
		if err := g.loadOutbox(); err != nil {
			g.mu.Unlock()
			return err
		}
	}
	r := received{flush: true}
	r.ops = append(r.ops, store.DeletePrefix(g.row("m/")), store.Delete(g.row("pend")), store.Delete(g.row(rowBegun)), store.Delete(g.row(rowOld)))
	op, err := c.stock.use(inv.ref, kp.KeyPackage.LastResort())
	if err != nil {
		g.mu.Unlock()
		return err
	}
	r.ops = append(r.ops, op)
	if goesOn {
		g.goOn(st, w.Seq, proven, &r)
	} else {
		g.enter(st, w.Seq, stanza.Hash{}, &r)
	}
	if kp.KeyPackage.LastResort() {
		g.meta.Renew = c.cfg.clock().Add(renewWait(st.MemberCount())).UTC()
	}
	by := Who{JID: inv.by}
	for m := range st.Members() {
		if leafIdentity(m.Leaf) == inv.by {
			by = g.who(m)
			break
		}
	}
	if !goesOn {
		r.put(g, &Joined{By: by}, w.Seq, time.Time{})
	}
	entered := &written{b: g.b, ticket: g.b.add(append(r.ops, append(g.stateOps(), g.metaOp())...)...), items: r.items}
	entered.then = func() { c.know(g) }
	g.whenWritten(entered)
	g.signal()
	g.mu.Unlock()
	c.fail("joined")
	if err := entered.wait(c); err != nil {
		return err
	}
	c.stock.used(inv.ref, kp.KeyPackage.LastResort())
	for _, fn := range r.after {
		fn()
	}
	c.ensureService(g.host)
	g.fetchSoon()
	if kp.KeyPackage.LastResort() {
		// Others may join with it, too, and the key that opens them is still here:
		// a new one, and new keys in this group (RFC 9750 §5.1).
		c.replenishSoon()
		g.renewSoon()
	}
	return c.welcomeDone(ctx, key, inv)
}

// otherWelcome refuses a Welcome to another group than the one that this device is
// in and that no member has ended so.
func (c *Client) otherWelcome(ctx context.Context, key string, inv *invitation, g *Group, welcome []byte) error {
	c.log.Warn("an invitation is to another group at the address of a known one", "group", inv.group)
	g.update(func(r *received) {
		r.put(g, &Misbehaved{
			Reason:   "the delivery service has handed out an invitation to another group at this address, which is not its continuation",
			Evidence: Evidence{Message: welcome},
		}, 0, time.Time{})
	})
	return c.welcomeDone(ctx, key, inv)
}

// enter makes st the state of a group that this device has just come into.
// Called with the lock held.
func (g *Group) enter(st *mls.Group, seq uint64, chain stanza.Hash, r *received) {
	g.setStatus(statusJoined)
	g.meta.Seq, g.meta.Chain, g.meta.Ring = seq, nil, nil
	if !chain.IsZero() {
		g.meta.Chain = chain[:]
		g.meta.Ring = []ringEntry{{seq, chain[:]}}
	}
	g.meta.Reason, g.meta.Leaving, g.meta.Ender, g.meta.SkipTo, g.meta.Renew = "", false, false, 0, time.Time{}
	g.meta.Sent, g.meta.Updated, g.meta.Since = 0, g.c.cfg.clock().UTC(), st.Epoch()
	g.setState(st)
	g.loaded, g.fresh, g.meta.Stuck = true, false, nil
	if g.pend != nil {
		g.pend.resolve(outcomeLost, nil)
	}
	g.pend, g.parent = nil, nil
	g.queue = make(map[uint64]*entry)
	g.entered++
	self := st.Self().Index
	g.tellStrangers(st, seq, r)
	for m := range st.Members() {
		if m.Index != self {
			_, ops, _ := g.c.trust.seen(leafIdentity(m.Leaf), deviceOf(m.Leaf), m.Leaf.SignatureKey)
			r.ops = append(r.ops, ops...)
		}
	}
}

// tellStrangers tells of devices that this client meets on entering a group and
// that those whom it knows, or its own account, have not had so far: a server can
// make such a device for any of its users.
func (g *Group) tellStrangers(st *mls.Group, seq uint64, r *received) {
	self := st.Self().Index
	for m := range st.Members() {
		jid := leafIdentity(m.Leaf)
		own := jid == g.c.account
		if m.Index != self && g.c.trust.strange(jid, own, deviceOf(m.Leaf), m.Leaf.SignatureKey) {
			r.put(g, &NewDevice{Device: g.who(m), Own: own}, seq, time.Time{})
		}
	}
}

// badWelcome gives a Welcome up. If the account is a member, the device comes
// in from outside; cause is told only if it cannot.
func (c *Client) badWelcome(ctx context.Context, key string, inv *invitation, cause error) error {
	if cause != nil {
		c.log.Warn("an invitation cannot be used, joining from outside", "group", inv.group, "error", cause)
	}
	if err := c.welcomeDone(ctx, key, inv); err != nil {
		return errors.Join(cause, err)
	}
	if _, err := c.joinExternally(ctx, inv.group, ""); err != nil {
		return errors.Join(cause, err)
	}
	return nil
}

// welcomeDone tells the service that it need not keep the Welcome.
func (c *Client) welcomeDone(ctx context.Context, key string, inv *invitation) error {
	err := c.ask(ctx, "set", inv.source, &stanza.Ack{KeyPackageRef: inv.ref}, nil)
	var refused *stanza.Error
	if errors.As(err, &refused) {
		err = nil // not there any more
	}
	c.mu.Lock()
	delete(c.invites, key)
	c.mu.Unlock()
	return err
}

// fetchWelcome gets the object, in pieces if need be.
func (c *Client) fetchWelcome(ctx context.Context, inv *invitation) (*stanza.Welcome, error) {
	var w stanza.Welcome
	q := &stanza.WelcomeQuery{KeyPackageRef: inv.ref}
	err := c.ask(ctx, "get", inv.source, q, &w)
	var refused *stanza.Error
	if errors.As(err, &refused) && refused.Condition == stanza.ItemNotFound && strings.Contains(inv.source, "@") {
		// Not at the group: the home service may have it.
		c.mu.Lock()
		home := c.home
		c.mu.Unlock()
		if home != "" {
			inv.source = home
			err = c.ask(ctx, "get", home, q, &w)
		}
	}
	if err == nil && len(w.Bytes) == 0 && w.Total == 0 && inv.source != inv.group {
		// A pointer: the Welcome was too large for the way between the services.
		inv.source, w = inv.group, stanza.Welcome{}
		err = c.ask(ctx, "get", inv.source, q, &w)
	}
	if err != nil {
		return nil, err
	}
	for total := w.Total; total > 0 && uint64(len(w.Bytes)) < total; {
		if total > maxEntry {
			return nil, fmt.Errorf("the Welcome has %d bytes", total)
		}
		var piece stanza.Welcome
		q := &stanza.WelcomeQuery{KeyPackageRef: inv.ref, Offset: uint64(len(w.Bytes))}
		if err := c.ask(ctx, "get", inv.source, q, &piece); err != nil {
			return nil, err
		}
		if len(piece.Bytes) == 0 || piece.Offset != uint64(len(w.Bytes)) {
			return nil, errors.New("the Welcome comes in pieces that do not fit")
		}
		w.Bytes = append(w.Bytes, piece.Bytes...)
	}
	return &w, nil
}

// maxTree is the largest ratchet tree that is fetched, in bytes.
const maxTree = 64 << 20

// fetchTree gets the ratchet tree of an epoch, page by page, four at a time.
// What comes is checked against the GroupInfo's tree hash by whoever uses it.
func (c *Client) fetchTree(ctx context.Context, group string, epoch uint64) ([]byte, error) {
	page := func(off uint64) (*stanza.TreePage, error) {
		p := new(stanza.TreePage)
		for lost := 0; ; lost++ {
			err := c.ask(ctx, "get", group, &stanza.TreeQuery{Epoch: epoch, Offset: off}, p)
			if err == nil && p.Offset != off {
				err = errors.New("client: the tree comes in pieces that do not fit")
			}
			if d := retryAfter(err); err != nil && d > 0 && lost < 5 {
				c.sleep(ctx, d)
				continue
			}
			return p, err
		}
	}
	first, err := page(0)
	var refused *stanza.Error
	if errors.As(err, &refused) && refused.Condition == stanza.FeatureNotImplemented {
		return nil, nil // a group in private mode: the tree is in the Welcome or GroupInfo
	}
	if err != nil {
		return nil, err
	}
	if first.Total > maxTree {
		return nil, fmt.Errorf("client: the tree of %s has %d bytes, at most %d are taken", group, first.Total, maxTree)
	}
	size := uint64(len(first.Bytes))
	if size == 0 || size >= first.Total {
		return first.Bytes, nil
	}
	tree := make([]byte, first.Total)
	copy(tree, first.Bytes)
	var jobs []func() error
	for off := size; off < first.Total; off += size {
		jobs = append(jobs, func() error {
			end := min(off+size, first.Total)
			for at := off; at < end; {
				p, err := page(at)
				if err != nil {
					return err
				}
				if len(p.Bytes) == 0 || p.Total != first.Total {
					return errors.New("client: the tree changed while it was fetched")
				}
				at += uint64(copy(tree[at:end], p.Bytes))
			}
			return nil
		})
	}
	return tree, parallel(4, jobs)
}

// fetchGroupInfo gets the GroupInfo of the current epoch.
func (c *Client) fetchGroupInfo(ctx context.Context, group string) (*stanza.GroupInfo, error) {
	gi := new(stanza.GroupInfo)
	if err := c.ask(ctx, "get", group, &stanza.GroupInfoQuery{}, gi); err != nil {
		return nil, err
	}
	for gi.Total > 0 && uint64(len(gi.Bytes)) < gi.Total {
		if gi.Total > maxEntry {
			return nil, fmt.Errorf("client: the GroupInfo of %s has %d bytes", group, gi.Total)
		}
		var piece stanza.GroupInfo
		if err := c.ask(ctx, "get", group, &stanza.GroupInfoQuery{Epoch: &gi.Epoch, Offset: uint64(len(gi.Bytes))}, &piece); err != nil {
			return nil, err
		}
		if len(piece.Bytes) == 0 || piece.Offset != uint64(len(gi.Bytes)) {
			return nil, errors.New("client: the GroupInfo comes in pieces that do not fit")
		}
		gi.Bytes = append(gi.Bytes, piece.Bytes...)
	}
	return gi, nil
}
