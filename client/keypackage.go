// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
)

// This file keeps key packages in stock at the home service, so that this
// device can be added while it is away (RFC 9750 §5.1). The private part of a
// package is stored before the public part is published, and deleted in the
// write that stores the group it was used for.

const (
	stockPrefix = "k/"
	// lastResortAge is when a last resort is replaced though nobody used it.
	lastResortAge = 30 * 24 * time.Hour
	// expiredGrace is how long the private part is kept after the package has
	// expired: a Welcome may be on its way.
	expiredGrace = 14 * 24 * time.Hour
	// renewBefore is how long before its end a package counts as gone.
	renewBefore = 7 * 24 * time.Hour
)

type stockKeeper struct {
	mu      sync.Mutex
	have    map[string]*stocked // by ref, hexadecimal
	at      *stanza.Stock       // what the service has, as it last said
	busy    sync.Mutex
	renewed bool // the stock was thrown away after a restored backup
}

// stocked is the row of a key package.
type stocked struct {
	Private    []byte    `json:"private"`
	LastResort bool      `json:"last-resort,omitempty"`
	Made       time.Time `json:"made"`
	Expires    time.Time `json:"expires"`
	Retired    bool      `json:"retired,omitempty"` // not published any more
	Key        string    `json:"key,omitempty"`     // fingerprint of who signed it
	Published  bool      `json:"published,omitempty"`
	Used       bool      `json:"used,omitempty"` // a last resort that was joined with

	suite mls.CipherSuite
}

// open reads what the row does not say: in rows of earlier versions, the signer,
// too.
func (k *stocked) open() error {
	p, err := mls.UnmarshalPrivateKeyPackage(k.Private)
	if err != nil {
		return fmt.Errorf("client: reading key packages: %w", err)
	}
	k.suite, k.Key = p.KeyPackage.CipherSuite, Fingerprint(p.KeyPackage.LeafNode.SignatureKey)
	return nil
}

func (s *stockKeeper) load(c *Client) error {
	s.have = make(map[string]*stocked)
	return c.store.Scan(stockPrefix, store.PrefixEnd(stockPrefix), func(key string, value []byte) error {
		k := new(stocked)
		if err := json.Unmarshal(value, k); err != nil {
			return fmt.Errorf("client: reading key packages: %w", err)
		}
		if err := k.open(); err != nil {
			return err
		}
		s.have[key[len(stockPrefix):]] = k
		return nil
	})
}

func (s *stockKeeper) has(ref []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.have[hex.EncodeToString(ref)] != nil
}

// take gives the private part, which stays in the store until the group is.
func (s *stockKeeper) take(ref []byte) (*mls.PrivateKeyPackage, error) {
	name := hex.EncodeToString(ref)
	s.mu.Lock()
	k := s.have[name]
	s.mu.Unlock()
	if k == nil {
		return nil, errors.New("client: the invitation is for a key package that this device does not have")
	}
	p, err := mls.UnmarshalPrivateKeyPackage(k.Private)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return p, nil
}

// use gives what a join changes in the stock, for the write that stores the group:
// the package is gone, or a last resort that must be replaced.
func (s *stockKeeper) use(ref []byte, lastResort bool) (store.Op, error) {
	name := hex.EncodeToString(ref)
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.have[name]
	if !lastResort || k == nil {
		return store.Delete(stockPrefix + name), nil
	}
	used := *k
	used.Used = true
	return used.op(name)
}

// used notes that a package has been joined with.
func (s *stockKeeper) used(ref []byte, lastResort bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.have[hex.EncodeToString(ref)]; lastResort && k != nil {
		k.Used = true
	} else {
		delete(s.have, hex.EncodeToString(ref))
	}
	if s.at != nil {
		if lastResort {
			s.at.LastResortUsed++
		} else if s.at.Available > 0 {
			s.at.Available--
		}
	}
}

// told notes what the service says it has.
func (s *stockKeeper) told(st *stanza.Stock) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := *st
	s.at = &c
}

// replenish publishes what is missing.
func (s *stockKeeper) replenish(ctx context.Context, c *Client) error {
	s.busy.Lock()
	defer s.busy.Unlock()
	home, err := c.serviceOf(ctx, c.account)
	if err != nil {
		return err
	}
	now := c.cfg.clock()
	if again, err := s.stale(c); err != nil {
		return err
	} else if again {
		if err := c.ask(ctx, "set", home, &stanza.RetractKeyPackages{Device: c.device}, nil); err != nil {
			return err
		}
		if err := s.retire(c, now); err != nil {
			return err
		}
		s.renewed = true
		s.told(&stanza.Stock{Device: c.device})
	}
	at, known := s.known()
	if !known {
		if err := s.ask(ctx, c, home); err != nil {
			return err
		}
		at, _ = s.known()
	}
	want := uint32(defaultKeyPackages)
	if c.cfg.KeyPackages > 0 {
		want = uint32(c.cfg.KeyPackages)
	} else if at.Target > 0 {
		want = min(at.Target, 200)
	}
	var fresh []*stockedPackage
	// Packages that the service still counts and that are about to expire are
	// no use to anybody: as many are added.
	if expiring := s.expiring(now); at.Available-min(at.Available, expiring) < want-want/3 {
		for range want - (at.Available - min(at.Available, expiring)) {
			p, err := c.newKeyPackage(c.suite, false, now)
			if err != nil {
				return err
			}
			fresh = append(fresh, p)
		}
	}
	taken := c.limitsOf(ctx, home).CipherSuites
	last, err := s.newLastResorts(c, !at.LastResort || at.LastResortUsed > 0, taken, now)
	if err != nil {
		return err
	}
	fresh = append(fresh, last...)
	if err := s.store(c, fresh, now); err != nil {
		return err
	}
	c.fail("key-packages-stored")
	if err := s.publish(ctx, c, home, fresh); err != nil {
		return err
	}
	c.retractPEP(ctx)
	return nil
}

// known is what the service has, as far as it was told.
func (s *stockKeeper) known() (at stanza.Stock, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == nil {
		return at, false
	}
	return *s.at, true
}

// ask asks the service what it has.
func (s *stockKeeper) ask(ctx context.Context, c *Client, home string) error {
	var count stanza.Count
	if err := c.ask(ctx, "get", home, &stanza.CountQuery{}, &count); err != nil {
		return err
	}
	at := &stanza.Stock{Device: c.device}
	for _, d := range count.Devices {
		if d.ID == c.device {
			at.Available, at.LastResort = d.Available, d.LastResort
		}
	}
	s.told(at)
	return nil
}

// stale reports whether what is published must not be used any more: the store was
// restored and the packages may have been used since the backup, the device has
// another key or certificate now, or another suite.
func (s *stockKeeper) stale(c *Client) (bool, error) {
	if c.store.RolledBack() && !s.renewed {
		return true, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	published, usual := 0, 0
	for _, k := range s.have {
		if k.Retired {
			continue
		}
		published++
		if k.suite == c.suite {
			usual++
		}
		me, err := c.identityFor(k.suite)
		if err != nil || Fingerprint(me.Key.Public()) != k.Key {
			return true, nil
		}
	}
	return published > 0 && usual == 0, nil
}

// retire keeps the private parts of what was retracted for the Welcomes that are
// under way.
func (s *stockKeeper) retire(c *Client, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ops []store.Op
	for ref, k := range s.have {
		if k.Retired {
			continue
		}
		k.Retired, k.Expires = true, minTime(k.Expires, now)
		op, err := k.op(ref)
		if err != nil {
			return err
		}
		ops = append(ops, op)
	}
	return c.store.Apply(context.Background(), ops)
}

func (k *stocked) op(ref string) (store.Op, error) {
	b, err := json.Marshal(k)
	if err != nil {
		return store.Op{}, fmt.Errorf("client: encoding a key package: %w", err)
	}
	return store.Put(stockPrefix+ref, b), nil
}

func (s *stockKeeper) lastResortOld(cs mls.CipherSuite, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.have {
		// One that may not have reached the service before a crash does not count.
		if k.LastResort && !k.Retired && k.Published && k.suite == cs {
			return k.Used || now.Sub(k.Made) > lastResortAge
		}
	}
	return true
}

func (s *stockKeeper) expiring(now time.Time) (n uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.have {
		if !k.LastResort && !k.Retired && now.After(k.Expires.Add(-renewBefore)) {
			n++
		}
	}
	return n
}

type stockedPackage struct {
	ref     string
	public  []byte
	stocked *stocked
}

func (c *Client) newKeyPackage(cs mls.CipherSuite, lastResort bool, now time.Time) (*stockedPackage, error) {
	me, err := c.identityFor(cs)
	if err != nil {
		return nil, err
	}
	if err := outdatedCertificate(me.Credential, now); err != nil {
		return nil, fmt.Errorf("client: nobody can add this device: %w: configure another Certificate", err)
	}
	p, err := mls.NewKeyPackage(c.mls, cs, me, &mls.KeyPackageOptions{LastResort: lastResort, DeviceID: c.device[:]})
	if err != nil {
		return nil, fmt.Errorf("client: making a key package: %w", err)
	}
	ref, err := p.KeyPackage.Ref()
	if err != nil {
		return nil, fmt.Errorf("client: making a key package: %w", err)
	}
	return &stockedPackage{
		ref: hex.EncodeToString(ref), public: p.KeyPackage.Message().Bytes(),
		stocked: &stocked{
			Private: p.Marshal(), LastResort: lastResort, Made: now.UTC(), Expires: time.Unix(int64(p.KeyPackage.LeafNode.Lifetime.NotAfter), 0).UTC(),
			Key: Fingerprint(me.Key.Public()), suite: cs,
		},
	}, nil
}

// store writes the private parts, and deletes those that nobody can need.
func (s *stockKeeper) store(c *Client, fresh []*stockedPackage, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ops []store.Op
	for _, p := range fresh {
		op, err := p.stocked.op(p.ref)
		if err != nil {
			return err
		}
		ops = append(ops, op)
	}
	var dead []string
	for ref, k := range s.have {
		if now.After(k.Expires.Add(expiredGrace)) {
			ops = append(ops, store.Delete(stockPrefix+ref))
			dead = append(dead, ref)
		}
	}
	if len(ops) == 0 {
		return nil
	}
	if err := c.store.Apply(context.Background(), ops); err != nil {
		return err
	}
	for _, p := range fresh {
		s.have[p.ref] = p.stocked
	}
	for _, ref := range dead {
		delete(s.have, ref)
	}
	return nil
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// publish sends the public parts, as many at a time as fit.
func (s *stockKeeper) publish(ctx context.Context, c *Client, home string, fresh []*stockedPackage) error {
	room := int(c.limitsOf(ctx, home).MaxBytes)*3/4 - 1024
	for len(fresh) > 0 {
		req := &stanza.PublishKeyPackages{Device: c.device}
		size, n := 0, 0
		for n < len(fresh) && (n == 0 || size+len(fresh[n].public)+64 <= room) {
			size += len(fresh[n].public) + 64
			req.KeyPackages = append(req.KeyPackages, stanza.KeyPackage{Bytes: fresh[n].public, LastResort: fresh[n].stocked.LastResort})
			n++
		}
		var reply stanza.Published
		err := c.ask(ctx, "set", home, req, &reply)
		if d := retryAfter(err); err != nil && d > 0 && ctx.Err() == nil {
			c.sleep(ctx, d)
			continue
		}
		if err != nil {
			// What was refused, or not even sent, nobody will ever use.
			unused := fresh[n:]
			var refused *stanza.Error
			if errors.As(err, &refused) && !unknownOutcome(err) {
				unused, err = fresh, c.blameClock(ctx, home, err)
			}
			return errors.Join(err, s.drop(c, unused))
		}
		s.told(&reply.Stock)
		if err := s.published(c, fresh[:n]); err != nil {
			return err
		}
		fresh = fresh[n:]
	}
	return nil
}

// drop forgets packages that were never published.
func (s *stockKeeper) drop(c *Client, packages []*stockedPackage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ops []store.Op
	for _, p := range packages {
		delete(s.have, p.ref)
		ops = append(ops, store.Delete(stockPrefix+p.ref))
	}
	if ops == nil {
		return nil
	}
	return c.store.Apply(context.Background(), ops)
}

// published notes which packages the service has for certain. A last resort takes the
// place of the one before it only now: until then others were given that one.
func (s *stockKeeper) published(c *Client, done []*stockedPackage) error {
	now := c.cfg.clock()
	s.mu.Lock()
	defer s.mu.Unlock()
	var ops []store.Op
	put := func(ref string, k *stocked) error {
		op, err := k.op(ref)
		ops = append(ops, op)
		return err
	}
	for _, p := range done {
		if !p.stocked.LastResort || s.have[p.ref] == nil {
			continue
		}
		for ref, k := range s.have {
			if ref == p.ref || !k.LastResort || k.Retired || k.suite != p.stocked.suite {
				continue
			}
			k.Retired = true
			// It may be in a Welcome that is under way.
			k.Expires = minTime(k.Expires, now.Add(expiredGrace))
			if err := put(ref, k); err != nil {
				return err
			}
		}
		p.stocked.Published = true
		if err := put(p.ref, p.stocked); err != nil {
			return err
		}
	}
	if ops == nil {
		return nil
	}
	return c.store.Apply(context.Background(), ops)
}

// replenishSoon publishes what is missing, in the background and not at the same
// moment as other devices.
func (c *Client) replenishSoon() {
	c.spawn(func() {
		c.sleep(c.life, rand.N(2*time.Second))
		if !c.waitLink(c.life) {
			return
		}
		_, ctx := c.currentLink()
		c.restock(ctx)
	})
}

// Logout takes this device's key packages back, so that nobody adds it any
// more. It leaves no group.
func (c *Client) Logout(ctx context.Context) error {
	c.retractPEP(ctx)
	home, err := c.serviceOf(ctx, c.account)
	if errors.Is(err, ErrNoService) {
		return nil
	}
	if err != nil {
		return err
	}
	return c.ask(ctx, "set", home, &stanza.RetractKeyPackages{Device: c.device}, nil)
}
