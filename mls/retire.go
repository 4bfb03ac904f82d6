// SPDX-License-Identifier: Apache-2.0

package mls

import "slices"

// Retire erases the secrets that g has and next has not, once next has taken its
// place for good: RFC 9420 §9.2 wants them gone as soon as they are not needed.
// Without it they go when the garbage collector takes g. A nil next, for a group
// that was left, erases all. g, and other Groups that come from it, must not be
// used afterwards; next may.
func (g *Group) Retire(next *Group) {
	var keep Group
	if next != nil {
		keep = *next
	}
	if keep.keys != g.keys {
		g.keys.prepared = nil
		g.keys.secrets.wipe()
		g.keys.exporter.wipe()
		if !slices.ContainsFunc(keep.past, func(p *pastEpoch) bool { return p.messages == g.keys.messages }) {
			g.keys.messages.wipe()
		}
	}
	for _, p := range g.past {
		if !slices.Contains(keep.past, p) && p.messages != keep.messagesOf() {
			p.messages.wipe()
			wipe(p.sender)
		}
	}
	for _, r := range g.resumption {
		kept := func(k resumptionPSK) bool { return &k.psk[0] == &r.psk[0] }
		if !slices.ContainsFunc(keep.resumption, kept) {
			wipe(r.psk)
		}
	}
	g.private.wipeBut(keep.private)
	for _, u := range g.ownUpdates {
		inUse := keep.private != nil && keep.private.leaf == u.key ||
			slices.ContainsFunc(keep.ownUpdates, func(k ownUpdate) bool { return k.key == u.key })
		if !inUse {
			u.key.wipe()
		}
	}
}

func (g *Group) messagesOf() *secretTree {
	if g.keys == nil {
		return nil
	}
	return g.keys.messages
}

// wipeBut erases the keys of p that are not also in keep.
func (p *treePrivate) wipeBut(keep *treePrivate) {
	inUse := func(k *hpkePrivateKey) bool {
		return keep != nil && (keep.leaf == k || slices.Contains(keep.path, k))
	}
	if !inUse(p.leaf) {
		p.leaf.wipe()
	}
	for _, k := range p.path {
		if k != nil && !inUse(k) {
			k.wipe()
		}
	}
}
