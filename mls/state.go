// SPDX-License-Identifier: Apache-2.0

// The stored form of a Group: rows, each with a short key, so that what one
// message or one commit changes can be written without the rest.
//
//	g                      GroupContext, own keys, secrets of the epoch
//	x                      exporter tree of the epoch
//	n/<node>               a node of the ratchet tree
//	p/<number>             a pending proposal
//	e/<epoch>              a past epoch whose late messages can still be read
//	k/<epoch>/<node>       a node of the secret tree of an epoch
//
// Numbers are hexadecimal and of fixed width, so that rows sort by them. A key
// tells the epoch and which places of the tree are taken and have sent.

package mls

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
)

// A Row is a piece of the stored form of a [Group]. A nil Value deletes the row.
// Values hold secrets: keep them where nobody else can read them.
type Row struct {
	Key   string
	Value []byte
}

const groupStateVersion = 1

// storedRows is what the store holds of a group: what the rows that were handed
// out so far add up to. All Groups that come from each other share it.
type storedRows struct {
	core, exporter [sha256.Size]byte
	tree           *ratchetTree
	pending        []*pendingProposal
	past           map[uint64]bool
	messages       map[uint64]map[nodeIndex]struct{}
}

func nodeKey(x uint32) string     { return fmt.Sprintf("n/%08x", x) }
func pendingKey(i int) string     { return fmt.Sprintf("p/%08x", i) }
func pastKey(epoch uint64) string { return fmt.Sprintf("e/%016x", epoch) }
func messageKeyKey(epoch uint64, x nodeIndex) string {
	return fmt.Sprintf("k/%016x/%08x", epoch, uint32(x))
}

// Delta returns the rows that changed since the last Delta of this Group or of
// the one that it comes from; all rows if there was none. The caller writes them
// in one transaction before it acts on the change: before a sealed message is
// sent, before a read one is shown. One message is one small row for its sender,
// and a handful more for the sender's first.
//
// Delta takes for granted that the rows are written. When that fails, load the
// group from the store again.
func (g *Group) Delta() []Row {
	d := &delta{g: g, st: g.stored}
	d.collect()
	return d.rows
}

// Rows returns all rows, and does not count as a Delta.
func (g *Group) Rows() []Row {
	d := &delta{g: g, st: new(storedRows), whole: true}
	d.collect()
	return d.rows
}

// Save returns the whole group, for [Load]. It does not count as a Delta.
func (g *Group) Save() []byte {
	return appendVector(appendU8(nil, groupStateVersion), g.Rows(), func(b []byte, r Row) []byte {
		return appendOpaque(appendOpaque(b, []byte(r.Key)), r.Value)
	})
}

// A delta is the difference between a group and what the store holds.
type delta struct {
	g     *Group
	st    *storedRows
	whole bool // leave the marks of the secret trees alone
	rows  []Row
}

func (d *delta) put(key string, value []byte) { d.rows = append(d.rows, Row{key, value}) }
func (d *delta) drop(key string)              { d.rows = append(d.rows, Row{Key: key}) }

func (d *delta) collect() {
	d.hashed("g", d.g.appendCore(nil), &d.st.core)
	d.hashed("x", d.g.keys.exporter.appendTo(nil), &d.st.exporter)
	d.nodes()
	d.pending()
	d.epochs()
}

// hashed writes a small row that is compared as a whole.
func (d *delta) hashed(key string, value []byte, sum *[sha256.Size]byte) {
	if now := sha256.Sum256(value); now != *sum {
		*sum = now
		d.put(key, value)
	}
}

func (d *delta) nodes() {
	t := d.g.tree
	switch {
	case d.st.tree == t:
	case d.st.tree == nil:
		t.root.eachNode(root(t.width), func(n TreeNode) bool {
			d.put(nodeKey(n.Index), n.Data)
			return true
		})
	default:
		for _, n := range t.changedNodes(d.st.tree) {
			d.rows = append(d.rows, Row{nodeKey(n.Index), n.Data})
		}
	}
	d.st.tree = t
}

func (d *delta) pending() {
	now := d.g.publicState.pending
	for i, p := range now {
		if i >= len(d.st.pending) || d.st.pending[i] != p {
			d.put(pendingKey(i), p.appendTo(nil))
		}
	}
	for i := len(now); i < len(d.st.pending); i++ {
		d.drop(pendingKey(i))
	}
	d.st.pending = now
}

func (p *pendingProposal) appendTo(b []byte) []byte {
	return appendProposal(p.sender.appendTo(appendOpaque(b, p.ref)), p.proposal)
}

func readPending(r *reader) *pendingProposal {
	return &pendingProposal{ref: r.opaque(), sender: readSender(r), proposal: readProposal(r)}
}

// epochs writes past epochs and the secret trees of all.
func (d *delta) epochs() {
	st := d.st
	if st.past == nil {
		st.past, st.messages = make(map[uint64]bool), make(map[uint64]map[nodeIndex]struct{})
	}
	live := map[uint64]*secretTree{d.g.ctx.Epoch: d.g.keys.messages}
	for _, p := range d.g.past {
		live[p.epoch] = p.messages
		if !st.past[p.epoch] {
			st.past[p.epoch] = true
			d.put(pastKey(p.epoch), p.appendTo(nil))
		}
	}
	for _, epoch := range slices.Sorted(maps.Keys(st.past)) {
		if _, ok := live[epoch]; !ok || epoch == d.g.ctx.Epoch {
			delete(st.past, epoch)
			d.drop(pastKey(epoch))
		}
	}
	for _, epoch := range slices.Sorted(maps.Keys(st.messages)) {
		if _, ok := live[epoch]; ok {
			continue
		}
		for _, x := range slices.Sorted(maps.Keys(st.messages[epoch])) {
			d.drop(messageKeyKey(epoch, x))
		}
		delete(st.messages, epoch)
	}
	for _, epoch := range slices.Sorted(maps.Keys(live)) {
		d.messageKeys(epoch, live[epoch])
	}
}

// messageKeys writes the nodes of a secret tree that changed.
func (d *delta) messageKeys(epoch uint64, t *secretTree) {
	have := d.st.messages[epoch]
	fresh := have == nil
	if fresh {
		have = make(map[nodeIndex]struct{})
		d.st.messages[epoch] = have
	}
	if fresh || t.changes.all {
		// Nothing is known of single nodes: write all, and drop what is gone.
		now := make(map[nodeIndex]struct{})
		t.eachRecord(t.root, root(t.nLeaves), func(n *secretNode, x nodeIndex) {
			now[x] = struct{}{}
			d.put(messageKeyKey(epoch, x), t.appendRecord(nil, n, x))
		})
		for _, x := range slices.Sorted(maps.Keys(have)) {
			if _, ok := now[x]; !ok {
				d.drop(messageKeyKey(epoch, x))
			}
		}
		d.st.messages[epoch] = now
	} else {
		d.changedMessageKeys(epoch, t, have)
	}
	if !d.whole {
		t.markSaved()
	}
}

func (d *delta) changedMessageKeys(epoch uint64, t *secretTree, have map[nodeIndex]struct{}) {
	for _, x := range slices.Sorted(maps.Keys(t.changes.nodes)) {
		n := t.at(x)
		if n != nil && (n.secret != nil || n.leaf != nil) {
			have[x] = struct{}{}
			d.put(messageKeyKey(epoch, x), t.appendRecord(nil, n, x))
		} else if _, ok := have[x]; ok {
			delete(have, x)
			d.drop(messageKeyKey(epoch, x))
		}
	}
}

// eachRecord calls f for every node that holds a secret, in order.
func (t *secretTree) eachRecord(n *secretNode, x nodeIndex, f func(*secretNode, nodeIndex)) {
	if n == nil {
		return
	}
	if n.secret != nil || n.leaf != nil {
		f(n, x)
		return
	}
	l, _ := x.left()
	r, _ := x.right()
	t.eachRecord(n.left, l, f)
	t.eachRecord(n.right, r, f)
}

// appendCore writes the row g.
func (g *Group) appendCore(b []byte) []byte {
	b = appendU8(b, groupStateVersion)
	b = g.appendEpoch(b)
	b = appendVector(b, g.ownUpdates, func(b []byte, u ownUpdate) []byte {
		b = appendOpaque(appendOpaque(b, u.ref), u.key.bytes())
		return u.me.appendTo(b)
	})
	b = appendVector(b, g.resumption, func(b []byte, p resumptionPSK) []byte {
		return appendOpaque(appendU64(b, p.epoch), p.psk)
	})
	return appendVector(b, g.past, func(b []byte, p *pastEpoch) []byte { return appendU64(b, p.epoch) })
}

// appendEpoch writes what a commit sets: context, own keys, secrets.
func (g *Group) appendEpoch(b []byte) []byte {
	b = appendOpaque(b, g.ctxBytes)
	b = appendOpaque(b, g.confirmationTag)
	b = appendOptional(b, g.reinit != nil, func(b []byte) []byte { return g.reinit.appendBody(b) })
	b = appendU32(b, uint32(g.self))
	b = g.me.appendTo(b)
	b = appendOpaque(b, g.private.leaf.bytes())
	b = appendVector(b, g.private.path, func(b []byte, k *hpkePrivateKey) []byte {
		if k == nil {
			return appendOpaque(b, nil)
		}
		return appendOpaque(b, k.bytes())
	})
	for _, secret := range g.keys.secrets.lasting() {
		b = appendOpaque(b, *secret)
	}
	return b
}

// lasting are the secrets that are needed throughout the epoch.
func (e *epochSecrets) lasting() []*[]byte {
	return []*[]byte{
		&e.senderDataSecret, &e.exporterSecret, &e.externalSecret, &e.confirmationKey,
		&e.membershipKey, &e.resumptionPSK, &e.epochAuthenticator, &e.initSecret,
	}
}

func (me *Identity) appendTo(b []byte) []byte {
	return appendOpaque(me.Credential.appendTo(b), me.Key.seed)
}

func readIdentity(r *reader, s *suite) *Identity {
	me := &Identity{Credential: readCredential(r)}
	seed := r.opaque()
	if r.err != nil {
		return nil
	}
	key, err := ParseSignaturePrivateKey(s.cipher, seed)
	wipe(seed)
	if err != nil {
		r.fail(err)
	}
	me.Key = key
	return me
}

func (p *pastEpoch) appendTo(b []byte) []byte {
	b = appendU64(appendU64(b, p.epoch), uint64(p.ended))
	b = appendOpaque(appendOpaque(b, p.context), p.sender)
	b = appendU32(appendU32(b, uint32(p.self)), p.messages.nLeaves)
	return appendVector(b, slices.Sorted(maps.Keys(p.former)), func(b []byte, i LeafIndex) []byte {
		l := p.former[i]
		return appendOptional(appendU32(b, uint32(i)), l != nil, l.appendTo)
	})
}
