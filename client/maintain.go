// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
)

// This file does what nobody asks for: new keys from time to time, proposals
// of others committed, the log acknowledged, key packages renewed, own devices
// that nobody uses any more removed.

const (
	maintainEvery = time.Minute
	// housekeepEvery is how often key packages and own devices are looked at.
	housekeepEvery = 6 * time.Hour
	// maintainPatience bounds one change of keys.
	maintainPatience = 2 * time.Minute
	// renewSpread is the time over which those who have joined with last resorts
	// change their keys, and renewSpreadEach what each member adds to it: each of
	// them commits.
	renewSpread     = 3 * time.Second
	renewSpreadEach = 300 * time.Millisecond
	// turn is how much longer each member waits before it commits what others
	// have proposed.
	turn = 1500 * time.Millisecond
	// turnMax bounds the wait in a large group.
	turnMax = 45 * time.Second
)

func (c *Client) maintain(ctx context.Context) {
	every, housekeep := maintainEvery/2+rand.N(maintainEvery), housekeepEvery
	if c.cfg.maintainEvery > 0 {
		every, housekeep = c.cfg.maintainEvery, c.cfg.maintainEvery
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		c.mu.Lock()
		ready := c.isReady
		c.mu.Unlock()
		if !ready {
			continue
		}
		for _, g := range c.Groups() {
			g.ack(ctx)
			if g.updateDue() {
				within, cancel := context.WithTimeout(ctx, maintainPatience)
				if err := g.renew(within); err != nil {
					c.noteError(err)
				}
				cancel()
			}
			g.considerProposals()
			g.considerReInit()
		}
		if time.Since(last) > housekeep {
			last = time.Now()
			c.restock(ctx)
			if err := c.removeStaleDevices(ctx); err != nil {
				c.noteError(err)
			}
		}
	}
}

// updateDue reports whether this device's keys have served long enough.
func (g *Group) updateDue() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.meta.Status != statusJoined || g.stuck() != nil || g.between() {
		return false
	}
	if !g.meta.Renew.IsZero() && !g.c.cfg.clock().Before(g.meta.Renew) || g.load() == nil && g.outdated() != nil {
		return true
	}
	every, count := g.c.cfg.UpdateInterval, g.c.cfg.UpdateMessages
	if every == 0 {
		every = defaultUpdateInterval
	}
	if count == 0 {
		count = defaultUpdateMessages
	}
	// Each device at another moment: up to 40 % later, by a die thrown at the
	// last update.
	due := every + every/100*time.Duration(g.meta.Due)
	return every > 0 && g.c.cfg.clock().Sub(g.meta.Updated) > due || count > 0 && g.meta.Sent >= count
}

// renew changes this device's keys in the group, its signature key, too, if there
// is another.
func (g *Group) renew(ctx context.Context) error {
	g.mu.Lock()
	me := g.outdated()
	g.mu.Unlock()
	if me != nil {
		return g.renewIdentity(ctx)
	}
	return g.UpdateKeys(ctx)
}

// renewWait is when to change the keys after a join with a key package of last
// resort: at once, but not at the same moment as others who joined by the same
// commit.
func renewWait(members int) time.Duration {
	return rand.N(max(renewSpread, time.Duration(members)*renewSpreadEach))
}

// renewSoon changes the keys when they are due. What a crash interrupts,
// maintenance does.
func (g *Group) renewSoon() {
	g.mu.Lock()
	wait := g.meta.Renew.Sub(g.c.cfg.clock())
	g.mu.Unlock()
	g.c.spawn(func() {
		g.c.sleep(g.c.life, wait)
		g.mu.Lock()
		due := !g.meta.Renew.IsZero()
		g.mu.Unlock()
		if !due {
			return
		}
		ctx, cancel := context.WithTimeout(g.c.life, maintainPatience)
		defer cancel()
		if err := g.UpdateKeys(ctx); err != nil && ctx.Err() == nil {
			g.c.noteError(err)
		}
	})
}

// considerProposals sees to it that what is proposed gets committed. All
// members agree whose turn it is: the leaf that the epoch's tree hash points
// to, then its neighbours, each a little later than the one before. So mostly
// one commits, and somebody does even if most are away.
func (g *Group) considerProposals() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.load() != nil || g.state == nil || !g.fresh || g.meta.Status != statusJoined || g.meta.Leaving || g.proposals != nil || g.stuck() != nil || g.between() {
		return
	}
	pending := g.state.PendingProposals()
	if len(pending) == 0 {
		return
	}
	self := g.state.Self().Index
	gone := make(map[mls.LeafIndex]bool)
	for _, p := range pending {
		switch v := p.Proposal.(type) {
		case *mls.Remove:
			gone[v.Removed] = true
		case *mls.SelfRemove:
			gone[mls.LeafIndex(p.Sender.Index)] = true
		}
	}
	if gone[self] {
		return // who leaves cannot commit it
	}
	var leaves []mls.LeafIndex
	for m := range g.state.Members() {
		if !gone[m.Index] {
			leaves = append(leaves, m.Index)
		}
	}
	first := 0
	if h := g.state.Context().TreeHash; len(h) >= 8 {
		first = int(binary.BigEndian.Uint64(h) % uint64(len(leaves)))
	}
	place := (slices.Index(leaves, self) - first + len(leaves)) % len(leaves)
	wait := min(turn*time.Duration(place), turnMax) + rand.N(turn/3)
	epoch := g.state.Epoch()
	g.proposals = time.AfterFunc(wait, func() { g.commitProposals(epoch) })
}

func (g *Group) commitProposals(epoch uint64) {
	g.mu.Lock()
	g.proposals = nil
	due := g.state != nil && g.state.Epoch() == epoch && len(g.state.PendingProposals()) > 0
	g.mu.Unlock()
	if !due || g.c.life.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(g.c.life, time.Minute)
	defer cancel()
	err := g.commit(ctx, func() (*mls.CommitOptions, error) {
		if g.state.Epoch() != epoch || len(g.state.PendingProposals()) == 0 {
			return nil, errNothingToDo
		}
		return &mls.CommitOptions{}, nil
	})
	if err != nil && ctx.Err() == nil {
		g.c.noteError(err)
	}
}

// OwnDevice is one device of this account.
type OwnDevice struct {
	ID          DeviceID  `json:"id"`
	Self        bool      `json:"self"`             // this one
	KeyPackages uint32    `json:"key-packages"`     // in stock at the service
	LastResort  bool      `json:"last-resort"`      // there is a last resort
	Expires     time.Time `json:"expires,omitzero"` // when the last of them expires
	Seen        time.Time `json:"seen,omitzero"`    // when it last spoke to the service
	Groups      []string  `json:"groups,omitempty"` // known groups that it is in
	Fingerprint string    `json:"fingerprint,omitempty"`
	Trust       Trust     `json:"trust"`
}

// Devices lists this account's devices, as the home service and the groups
// know them.
func (c *Client) Devices(ctx context.Context) ([]OwnDevice, error) {
	home, err := c.serviceOf(ctx, c.account)
	if err != nil {
		return nil, err
	}
	var count stanza.Count
	if err := c.ask(ctx, "get", home, &stanza.CountQuery{}, &count); err != nil {
		return nil, err
	}
	byID := make(map[DeviceID]*OwnDevice)
	get := func(id DeviceID) *OwnDevice {
		d := byID[id]
		if d == nil {
			d = &OwnDevice{ID: id, Self: id == c.device}
			byID[id] = d
		}
		return d
	}
	get(c.device)
	for _, d := range count.Devices {
		o := get(d.ID)
		o.KeyPackages, o.LastResort, o.Expires, o.Seen = d.Available, d.LastResort, d.Expires, d.Seen
	}
	for _, g := range c.Groups() {
		members, err := g.Members()
		if err != nil {
			continue
		}
		for _, m := range members {
			if m.Own && !m.Device.IsZero() {
				o := get(m.Device)
				o.Groups = append(o.Groups, g.jid)
				o.Fingerprint, o.Trust = m.Fingerprint, m.Trust
			}
		}
	}
	out := make([]OwnDevice, 0, len(byID))
	for _, d := range byID {
		if d.Self {
			d.Fingerprint, d.Trust = c.Fingerprint(), Verified
		}
		out = append(out, *d)
	}
	slices.SortFunc(out, func(a, b OwnDevice) int {
		if a.Self != b.Self {
			if a.Self {
				return -1
			}
			return 1
		}
		return b.Seen.Compare(a.Seen)
	})
	return out, nil
}

// RemoveOwnDevice takes another device of this account out of all groups that
// this device is in, and takes its key packages back.
func (c *Client) RemoveOwnDevice(ctx context.Context, id DeviceID) error {
	home, err := c.serviceOf(ctx, c.account)
	if err != nil {
		return err
	}
	if err := c.ask(ctx, "set", home, &stanza.RetractKeyPackages{Device: id}, nil); err != nil {
		return err
	}
	var jobs []func() error
	for _, g := range c.Groups() {
		jobs = append(jobs, func() error { return g.RemoveDevice(ctx, c.account, id) })
	}
	return parallel(4, jobs)
}

// removeStaleDevices removes own devices that have not been seen for long. The
// newest device of the account does it, so that two old ones cannot remove each
// other by turns.
func (c *Client) removeStaleDevices(ctx context.Context) error {
	limit := c.cfg.StaleDevice
	if limit == 0 {
		limit = defaultStaleDevice
	}
	if limit < 0 {
		return nil
	}
	devices, err := c.Devices(ctx)
	if err != nil {
		return err
	}
	now := c.cfg.clock()
	for _, d := range devices {
		if !d.Self && !d.Seen.IsZero() && now.Sub(d.Seen) > limit {
			c.log.Info("removing a stale device of this account", "device", d.ID.String(), "seen", d.Seen)
			if err := c.RemoveOwnDevice(ctx, d.ID); err != nil {
				return err
			}
		}
	}
	return nil
}
