// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/xmlpull"
)

// This file keeps key packages of last resort in PEP for an account that has no
// delivery service, and takes those of others who have none. Anybody may take one
// any number of times, so that a device that was added by one replaces it. An
// account with a service does not use PEP: there its user's consent would not count.

// publishPEP puts the present key packages of last resort where everybody finds
// them.
func (s *stockKeeper) publishPEP(ctx context.Context, c *Client, fresh []*stockedPackage) error {
	item := &stanza.PEPKeyPackages{Device: c.device}
	for _, public := range s.lastResorts(fresh) {
		item.KeyPackages = append(item.KeyPackages, stanza.KeyPackage{Bytes: public, LastResort: true})
	}
	c.mu.Lock()
	c.inPEP = true
	c.mu.Unlock()
	c.saveState()
	return c.publishItem(ctx, stanza.NSKeyPackages, c.device.String(), item)
}

// replenishPEP is replenish for an account that has no delivery service.
func (s *stockKeeper) replenishPEP(ctx context.Context, c *Client) error {
	s.busy.Lock()
	defer s.busy.Unlock()
	now := c.cfg.clock()
	if again, err := s.stale(c); err != nil {
		return err
	} else if again {
		if err := s.retire(c, now); err != nil {
			return err
		}
		s.renewed = true
	}
	s.mu.Lock()
	used := s.at != nil && s.at.LastResortUsed > 0
	s.mu.Unlock()
	fresh, err := s.newLastResorts(c, used, nil, now)
	if err != nil || len(fresh) == 0 {
		return err
	}
	if err := s.store(c, fresh, now); err != nil {
		return err
	}
	c.fail("key-packages-stored")
	if err := s.publishPEP(ctx, c, fresh); err != nil {
		return fmt.Errorf("client: publishing key packages in PEP: %w", err)
	}
	s.told(&stanza.Stock{Device: c.device, LastResort: true})
	return s.published(c, fresh)
}

// newLastResorts makes those that are missing or old; all of them if one was used.
// taken are the suites that the service takes, nil if it does not say.
func (s *stockKeeper) newLastResorts(c *Client, all bool, taken []uint16, now time.Time) ([]*stockedPackage, error) {
	var fresh []*stockedPackage
	// Of the other suites a last resort is enough: few are added with them.
	for _, cs := range append([]mls.CipherSuite{c.suite}, c.otherSuites()...) {
		if !all && !s.lastResortOld(cs, now) {
			continue
		}
		if cs != c.suite && taken != nil && !slices.Contains(taken, uint16(cs)) {
			continue // whoever needs it asks in vain, and the rest is published
		}
		p, err := c.newKeyPackage(cs, true, now)
		if err != nil && cs != c.suite {
			c.log.Info("no key packages for a cipher suite", "suite", cs.String(), "error", err)
			continue
		}
		if err != nil {
			return nil, err
		}
		fresh = append(fresh, p)
	}
	return fresh, nil
}

// withoutHome lets a client live whose account has no delivery service: others
// reach it by PEP, and their groups are hosted elsewhere.
func (c *Client) withoutHome(ctx context.Context) {
	c.mu.Lock()
	c.noHome = true
	c.mu.Unlock()
	if err := c.stock.replenishPEP(ctx, c); err != nil {
		c.noteError(err)
	}
	c.checkReady()
}

// lastResorts are the public parts that are in use when fresh ones are.
func (s *stockKeeper) lastResorts(fresh []*stockedPackage) (out [][]byte) {
	for _, p := range fresh {
		out = append(out, p.public)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.have {
		replaced := slices.ContainsFunc(fresh, func(p *stockedPackage) bool { return p.stocked.suite == k.suite })
		if !k.LastResort || k.Retired || !k.Published || replaced {
			continue
		}
		if p, err := mls.UnmarshalPrivateKeyPackage(k.Private); err == nil {
			out = append(out, p.KeyPackage.Message().Bytes())
		}
	}
	return out
}

// retractPEP takes this device's key packages back, if there are any.
func (c *Client) retractPEP(ctx context.Context) {
	c.mu.Lock()
	there := c.inPEP
	c.mu.Unlock()
	if !there {
		return
	}
	b := xmlpull.AppendAttr([]byte("<pubsub xmlns='"+stanza.NSPubSub+"'><retract"), "node", stanza.NSKeyPackages)
	b = append(xmlpull.AppendAttr(append(b, "><item"...), "id", c.device.String()), "/></retract></pubsub>"...)
	err := c.iq(ctx, "set", "", b, nil)
	var refused *stanza.Error
	if err != nil && !errors.As(err, &refused) {
		c.log.Info("could not take key packages back from PEP", "error", err)
		return
	}
	c.mu.Lock()
	c.inPEP = false
	c.mu.Unlock()
	c.saveState()
}

// restock publishes what is missing, where others look for it.
func (c *Client) restock(ctx context.Context) {
	c.mu.Lock()
	noHome := c.noHome
	c.mu.Unlock()
	if noHome {
		c.withoutHome(ctx)
	} else if err := c.stock.replenish(ctx, c); err != nil {
		c.noteError(err)
	}
}

// claimPEP takes the key packages of an account that has no delivery service.
func (g *Group) claimPEP(ctx context.Context, suite mls.CipherSuite, u *InviteUser) {
	ctx, cancel := context.WithTimeout(ctx, discoTimeout)
	defer cancel()
	var reply stanza.PubSubItems
	if err := g.c.ask(ctx, "get", u.JID, &stanza.PubSubItems{Node: stanza.NSKeyPackages}, &reply); err != nil {
		return
	}
	for i := range reply.Items {
		var item stanza.PEPKeyPackages
		if parseItem(&reply.Items[i], &item) != nil || item.Device.String() != reply.Items[i].ID {
			continue
		}
		dev := InviteDevice{Device: item.Device, Status: InviteIncompatible}
		for _, kp := range item.KeyPackages {
			m, err := mls.ParseMessage(kp.Bytes)
			if err == nil && m.KeyPackage != nil && m.KeyPackage.CipherSuite == suite {
				dev.kp, dev.Status = m.KeyPackage, ""
			}
		}
		u.Devices = append(u.Devices, dev)
	}
	if u.Devices != nil {
		u.Status, u.Reason = "", "" // what is found decides
	}
}
