// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/mls"
)

// This file keeps the device's own signature keys: one for each way of signing,
// which all suites that sign so share, so that verifying a device once verifies it
// in all of them. A key that was replaced is forgotten but for its fingerprint.

const (
	rowKey      = "d/key/" // + suite: a private key
	rowOldKeys  = "d/old-keys"
	maxOldKeys  = 32
	suiteDigits = 4
)

// ownKeys are the keys and credentials of this device.
type ownKeys struct {
	mu    sync.Mutex
	keys  map[mls.CipherSuite]*mls.SignaturePrivateKey // as stored
	byKey map[mls.CipherSuite]*mls.Identity            // made from them, by the suite they are stored for
	old   []string                                     // fingerprints of keys that were replaced, oldest first
	fps   map[string]bool                              // fingerprints of all of them
}

// load reads the keys and makes that of the client's suite if it is new.
func (o *ownKeys) load(c *Client) error {
	o.keys, o.byKey = make(map[mls.CipherSuite]*mls.SignaturePrivateKey), make(map[mls.CipherSuite]*mls.Identity)
	err := c.store.Scan(rowKey, store.PrefixEnd(rowKey), func(row string, b []byte) error {
		n, err := strconv.ParseUint(strings.TrimPrefix(row, rowKey), 16, 16)
		if err != nil {
			return fmt.Errorf("client: the store has a key for the suite %q", strings.TrimPrefix(row, rowKey))
		}
		cs := mls.CipherSuite(n)
		if o.keys[cs], err = mls.ParseSignaturePrivateKey(cs, b); err != nil {
			return fmt.Errorf("client: the device's key: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if b, ok, err := c.store.Get(rowOldKeys); err != nil {
		return err
	} else if ok {
		if err := json.Unmarshal(b, &o.old); err != nil {
			return fmt.Errorf("client: reading the list of old keys: %w", err)
		}
	}
	o.count()
	_, err = c.identityFor(c.suite)
	return err
}

// count gathers the fingerprints.
func (o *ownKeys) count() {
	o.fps = make(map[string]bool)
	for _, fp := range o.old {
		o.fps[fp] = true
	}
	for _, k := range o.keys {
		o.fps[Fingerprint(k.Public())] = true
	}
}

// identityFor is who this device is in a group of the suite. A key that is needed
// for the first time is made and stored.
func (c *Client) identityFor(cs mls.CipherSuite) (*mls.Identity, error) {
	o := &c.own
	o.mu.Lock()
	defer o.mu.Unlock()
	if c.cfg.Certificate != nil {
		if !cs.SharesKeys(c.suite) {
			return nil, fmt.Errorf("client: Certificate has no key for the cipher suite %v", cs)
		}
		if o.byKey[c.suite] == nil {
			me, err := x509Identity(c.suite, c.cfg.Certificate, c.account)
			if err != nil {
				return nil, err
			}
			// Leaves of earlier certificates are this device's, too.
			if fp := Fingerprint(me.Key.Public()); !o.fps[fp] {
				old := append(slices.Clip(o.old), fp)
				if err := o.remember(c, old[max(0, len(old)-maxOldKeys):], nil); err != nil {
					return nil, err
				}
			}
			o.byKey[c.suite] = me
		}
		return o.byKey[c.suite], nil
	}
	at, ok := o.place(cs)
	if !ok {
		if !cs.Known() {
			return nil, fmt.Errorf("client: the cipher suite %v is not supported", cs)
		}
		key, err := mls.GenerateSignatureKey(cs, nil)
		if err != nil {
			return nil, fmt.Errorf("client: making the device's key: %w", err)
		}
		if err := c.store.Apply(context.Background(), []store.Op{store.Put(keyRow(cs), key.Bytes())}); err != nil {
			return nil, err
		}
		o.keys[cs], at = key, cs
		o.count()
	}
	if o.byKey[at] == nil {
		o.byKey[at] = &mls.Identity{Credential: mls.BasicCredential([]byte(c.account)), Key: o.keys[at]}
	}
	return o.byKey[at], nil
}

func keyRow(cs mls.CipherSuite) string { return fmt.Sprintf("%s%0*x", rowKey, suiteDigits, uint16(cs)) }

// place finds the suite under which the key for cs is stored.
func (o *ownKeys) place(cs mls.CipherSuite) (mls.CipherSuite, bool) {
	if o.keys[cs] != nil {
		return cs, true
	}
	var like []mls.CipherSuite
	for other := range o.keys {
		if other.SharesKeys(cs) {
			like = append(like, other)
		}
	}
	if like == nil {
		return 0, false
	}
	return slices.Min(like), true
}

// isOwn reports whether a fingerprint is of a key of this device, now or before.
func (c *Client) isOwn(fp string) bool {
	c.own.mu.Lock()
	defer c.own.mu.Unlock()
	return c.own.fps[fp]
}

// RotateSignatureKey gives this device new signature keys, after the old ones may
// have been seen by somebody, or because a rule wants it from time to time. It is
// told to each group with the old key's word for the new one, so that who has
// verified this device need not compare again, and takes effect there by a commit;
// key packages are published anew. When it returns the new keys are stored; what
// could not be told at once is told later, also after a restart. A device whose key
// is in a Certificate gets a new one by a new Certificate.
func (c *Client) RotateSignatureKey(ctx context.Context) error {
	if err := c.alive(); err != nil {
		return err
	}
	if c.cfg.Certificate != nil {
		return errors.New("client: the signature key is that of Certificate: configure another one and start anew")
	}
	if err := c.own.rotate(c); err != nil {
		return err
	}
	c.fail("key-rotated")
	c.trust.version.Add(1)
	c.mu.Lock()
	ready := c.isReady
	c.mu.Unlock()
	if !ready {
		return nil // told when the client is online
	}
	return c.renewIdentities(ctx)
}

// rotate replaces all keys in one write.
func (o *ownKeys) rotate(c *Client) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	old := slices.Clone(o.old)
	fresh := make(map[mls.CipherSuite]*mls.SignaturePrivateKey)
	var ops []store.Op
	for cs, k := range o.keys {
		key, err := mls.GenerateSignatureKey(cs, nil)
		if err != nil {
			return fmt.Errorf("client: making the device's key: %w", err)
		}
		old = append(old, Fingerprint(k.Public()))
		fresh[cs] = key
		ops = append(ops, store.Put(keyRow(cs), key.Bytes()))
	}
	if err := o.remember(c, old[max(0, len(old)-maxOldKeys):], ops); err != nil {
		return err
	}
	o.keys, o.byKey = fresh, make(map[mls.CipherSuite]*mls.Identity)
	o.count()
	return nil
}

// remember stores fingerprints of keys that are not in use any more, and what
// belongs to the same write.
func (o *ownKeys) remember(c *Client, old []string, ops []store.Op) error {
	b, err := json.Marshal(old)
	if err != nil {
		return err
	}
	if err := c.store.Apply(context.Background(), append(ops, store.Put(rowOldKeys, b))); err != nil {
		return err
	}
	o.old = old
	o.count()
	return nil
}

// renewIdentities publishes key packages with the present keys and brings the own
// leaf in every group up to date.
func (c *Client) renewIdentities(ctx context.Context) error {
	jobs := []func() error{func() error { return c.stock.replenish(ctx, c) }}
	for _, g := range c.Groups() {
		jobs = append(jobs, func() error { return g.renewIdentity(ctx) })
	}
	return parallel(4, jobs)
}

// outdated gives the present identity if the own leaf has another. Called with the
// lock held.
func (g *Group) outdated() *mls.Identity {
	if g.state == nil || g.between() {
		return nil
	}
	me, err := g.c.identityFor(g.state.CipherSuite())
	if err != nil {
		return nil
	}
	leaf := g.state.Self().Leaf
	if leaf.Credential.Equal(me.Credential) && string(leaf.SignatureKey) == string(me.Key.Public()) {
		return nil
	}
	return me
}

// renewIdentity replaces an own leaf whose key or credential is not the present
// one. The others are told first, by a message that the old key signs.
func (g *Group) renewIdentity(ctx context.Context) error {
	g.mu.Lock()
	if g.load() != nil || g.meta.Status != statusJoined {
		g.mu.Unlock()
		return nil
	}
	me := g.outdated()
	g.mu.Unlock()
	if me == nil {
		return nil
	}
	fp := Fingerprint(me.Key.Public())
	g.mu.Lock()
	told := g.meta.Vouched == fp
	g.mu.Unlock()
	if !told {
		if err := g.vouchFor(ctx, me.Key.Public()); err != nil {
			// Without it others ask their users to compare again: no reason to
			// stay with the old key.
			g.c.log.Info("could not vouch for the new key", "group", g.jid, "error", err)
		} else {
			g.mu.Lock()
			g.meta.Vouched = fp
			g.b.add(g.metaOp())
			g.flushSoon()
			g.mu.Unlock()
		}
	}
	return g.UpdateKeys(ctx)
}
