// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/stanza"
)

// This file passes trust on, and takes it over, by trust messages (XEP-0434)
// with the rules of Automatic Trust Management (XEP-0450): the word of a device
// counts if its key is verified, of an own device about everybody, of a
// contact's about the contact's own devices.

const (
	trustCachePrefix = "tc/"
	// maxTrustCache is how many statements of one unverified key are kept until
	// it is verified.
	maxTrustCache = 200
)

// cachedTrust is a statement that waits until its sender's key is verified.
type cachedTrust struct {
	By          Who       `json:"by"`
	JID         string    `json:"jid"`
	Fingerprint string    `json:"fingerprint"`
	Trust       Trust     `json:"trust"`
	Time        time.Time `json:"time"`
}

// trustMessages takes the trust messages in an envelope. Called with the group's
// lock held.
func (g *Group) trustMessages(list []stanza.TrustMessage, sent time.Time, by Who, e *entry, r *received) {
	for _, tm := range list {
		if tm.Usage != stanza.NSTrustProtocol || tm.Encryption != stanza.NSMLS {
			continue
		}
		for _, o := range tm.Owners {
			owner, err := bareJID(o.JID)
			if err != nil || by.JID != g.c.account && owner != by.JID {
				continue // nobody vouches for others
			}
			for _, id := range o.Trust {
				g.takeTrust(by, owner, id, Verified, sent, e, r)
			}
			for _, id := range o.Distrust {
				g.takeTrust(by, owner, id, Distrusted, sent, e, r)
			}
		}
	}
}

func (g *Group) takeTrust(by Who, owner string, id []byte, t Trust, at time.Time, e *entry, r *received) {
	if len(id) != sha256.Size {
		return
	}
	fp := hex.EncodeToString(id)
	if g.c.isOwn(fp) {
		return
	}
	if by.Trust != Verified {
		c := cachedTrust{By: by, JID: owner, Fingerprint: fp, Trust: t, Time: at}
		b, err := json.Marshal(c)
		if err != nil || g.c.trustCacheSize(by.Fingerprint) >= maxTrustCache {
			return
		}
		r.ops = append(r.ops, store.Put(trustCachePrefix+by.Fingerprint[:32]+"/"+fp, b))
		return
	}
	ev, op := g.c.applyTrust(by, owner, fp, t)
	if ev == nil {
		return
	}
	r.ops = append(r.ops, op)
	r.put(g, ev, e.seq, e.stamp)
}

// applyTrust takes one statement over, unless the user has said otherwise.
func (c *Client) applyTrust(by Who, owner, fp string, t Trust) (*TrustChanged, store.Op) {
	k, known := c.trust.get(owner, fp)
	if known && (k.Trust == t || k.Source == "user") {
		return nil, store.Op{}
	}
	old, now, op, _ := c.trust.set(owner, fp, t, by.JID)
	return &TrustChanged{Device: Who{JID: owner, Device: now.Device, Trust: t, Fingerprint: fp}, By: by, Old: old}, op
}

func (c *Client) trustCacheSize(fp string) (n int) {
	prefix := trustCachePrefix + fp[:32] + "/"
	c.store.Scan(prefix, store.PrefixEnd(prefix), func(string, []byte) error { n++; return nil })
	return n
}

// releaseTrust applies what a key that has just been verified has said before.
func (c *Client) releaseTrust(ctx context.Context, fp string) error {
	prefix := trustCachePrefix + fp[:32] + "/"
	var list []cachedTrust
	err := c.store.Scan(prefix, store.PrefixEnd(prefix), func(_ string, b []byte) error {
		var t cachedTrust
		if json.Unmarshal(b, &t) == nil {
			list = append(list, t)
		}
		return nil
	})
	if err != nil || len(list) == 0 {
		return err
	}
	ops := []store.Op{store.DeletePrefix(prefix)}
	var events []*TrustChanged
	for _, t := range list {
		by := t.By
		by.Trust = Verified
		if ev, op := c.applyTrust(by, t.JID, t.Fingerprint, t.Trust); ev != nil {
			ops = append(ops, op)
			events = append(events, ev)
		}
	}
	if err := c.store.Apply(ctx, ops); err != nil {
		return err
	}
	for _, ev := range events {
		c.emit(ev)
	}
	return nil
}

// ShareTrust tells the group which keys of its members this device has
// verified, so that members who have verified this device need not compare
// again. It goes only to a group of verified devices (XEP-0434 §5): otherwise
// the error names those that are not.
func (g *Group) ShareTrust(ctx context.Context) error {
	members, err := g.Members()
	if err != nil {
		return err
	}
	var bad []string
	owners := make(map[string]*stanza.KeyOwner)
	var order []string
	for _, m := range members {
		if m.Self {
			continue
		}
		if m.Trust != Verified {
			bad = append(bad, fmt.Sprintf("%s (device %s)", m.JID, m.Device))
			continue
		}
		id, err := hex.DecodeString(m.Fingerprint)
		if err != nil {
			continue
		}
		if owners[m.JID] == nil {
			owners[m.JID] = &stanza.KeyOwner{JID: m.JID}
			order = append(order, m.JID)
		}
		owners[m.JID].Trust = append(owners[m.JID].Trust, id)
	}
	if bad != nil {
		return fmt.Errorf("client: trust is told to verified devices only, and these are not: %s", strings.Join(bad, ", "))
	}
	if len(order) == 0 {
		return nil
	}
	tm := &stanza.TrustMessage{Usage: stanza.NSTrustProtocol, Encryption: stanza.NSMLS}
	for _, j := range order {
		tm.Owners = append(tm.Owners, *owners[j])
	}
	_, err = g.send(ctx, tm.Append(nil))
	return err
}

// vouchFor tells the group a new key of this device, signed with the present one,
// so that who has verified this one need not compare the new one (XEP-0450).
func (g *Group) vouchFor(ctx context.Context, public []byte) error {
	id := sha256.Sum256(public)
	tm := &stanza.TrustMessage{
		Usage: stanza.NSTrustProtocol, Encryption: stanza.NSMLS, Owners: []stanza.KeyOwner{{JID: g.c.account, Trust: [][]byte{id[:]}}},
	}
	_, err := g.send(ctx, tm.Append(nil))
	return err
}

// get finds a key.
func (b *trustBook) get(account, fp string) (Key, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if k := b.keys[account][fp]; k != nil {
		return *k, true
	}
	return Key{}, false
}

// activeFingerprints are the keys of an account in the groups of this device.
func (c *Client) activeFingerprints(account string) []string {
	var out []string
	for _, g := range c.Groups() {
		members, err := g.Members()
		if err != nil {
			continue
		}
		for _, m := range members {
			if m.JID == account {
				out = append(out, m.Fingerprint)
			}
		}
	}
	return out
}
