// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// This file holds the stored form of a secret tree. It is a list of records,
// one for each node that holds a secret, so that a store can replace what one
// message changed and need not write the tree:
//
//	struct {
//	    uint32 node;                        /* index, Appendix C */
//	    uint8  kind;                        /* recordGone, recordSecret, recordLeaf */
//	    select (kind) {
//	        case gone:   struct{};          /* only in changes */
//	        case secret: opaque secret[Nh];
//	        case leaf:   Ratchet handshake, application;
//	    };
//	} Record;
//
//	struct {
//	    uint8  exhausted;                   /* 0 or 1 */
//	    uint32 generation;
//	    opaque secret[Nh];                  /* absent if exhausted */
//	    uint32 skipped;                     /* how many follow */
//	    { uint32 generation; opaque key[Nk]; opaque nonce[Nn]; } [skipped];
//	} Ratchet;
//
// The whole tree is a uint32 number of leaves and then its records in the order
// of the node index. A secret that was split or used stands in none of them: a
// store that keeps records by node, or writes the whole, holds no used key.

const (
	recordGone   = 0
	recordSecret = 1
	recordLeaf   = 2
)

// maxTrackedChanges is up to how many changed nodes are remembered one by one;
// beyond it a delta is the whole tree.
const maxTrackedChanges = 1024

// changedNodes is the set of nodes that changed since the tree was last saved.
type changedNodes struct {
	all   bool // not tracked: everything counts as changed
	nodes map[nodeIndex]struct{}
}

func (c *changedNodes) add(x nodeIndex) {
	if c.all {
		return
	}
	if c.nodes == nil {
		c.nodes = make(map[nodeIndex]struct{})
	}
	c.nodes[x] = struct{}{}
	if len(c.nodes) > maxTrackedChanges {
		c.all, c.nodes = true, nil
	}
}

func (c *changedNodes) clone() changedNodes {
	d := changedNodes{all: c.all}
	for x := range c.nodes {
		d.add(x)
	}
	return d
}

// markSaved begins a new delta: what has changed so far is in the store.
func (t *secretTree) markSaved() { t.changes = changedNodes{} }

// appendTo appends the whole tree.
func (t *secretTree) appendTo(b []byte) []byte {
	b = appendU32(b, t.nLeaves)
	return t.appendNode(b, t.root, root(t.nLeaves))
}

func (t *secretTree) appendNode(b []byte, n *secretNode, x nodeIndex) []byte {
	if n == nil {
		return b
	}
	if n.secret != nil || n.leaf != nil {
		return t.appendRecord(b, n, x)
	}
	l, _ := x.left()
	r, _ := x.right()
	b = t.appendNode(b, n.left, l)
	return t.appendNode(b, n.right, r)
}

func (t *secretTree) appendRecord(b []byte, n *secretNode, x nodeIndex) []byte {
	b = appendU32(b, uint32(x))
	switch {
	case n != nil && n.secret != nil:
		b = append(b, recordSecret)
		return append(b, n.secret...)
	case n != nil && n.leaf != nil:
		b = append(b, recordLeaf)
		for i := range n.leaf {
			b = n.leaf[i].appendTo(b, t.s)
		}
		return b
	default:
		return append(b, recordGone)
	}
}

func (r *ratchet) appendTo(b []byte, s *suite) []byte {
	if r.exhausted {
		b = append(b, 1)
		b = appendU32(b, r.generation)
	} else {
		b = append(b, 0)
		b = appendU32(b, r.generation)
		b = append(b, r.secret[:s.nh]...)
	}
	b = appendU32(b, uint32(len(r.skipped)))
	for i := range r.skipped {
		k := &r.skipped[i]
		b = appendU32(b, k.generation)
		b = append(b, k.key[:s.nk]...)
		b = append(b, k.nonce[:]...)
	}
	return b
}

// appendChanges appends the records of the nodes that changed since markSaved,
// with recordGone for those that hold nothing any more. A tree that was never
// saved gives all its records.
func (t *secretTree) appendChanges(b []byte) []byte {
	if t.changes.all {
		return t.appendNode(b, t.root, root(t.nLeaves))
	}
	nodes := make([]nodeIndex, 0, len(t.changes.nodes))
	for x := range t.changes.nodes {
		nodes = append(nodes, x)
	}
	slices.Sort(nodes)
	for _, x := range nodes {
		b = t.appendRecord(b, t.at(x), x)
	}
	return b
}

// at returns the node with index x, or nil if the tree holds its secret higher
// up.
func (t *secretTree) at(x nodeIndex) *secretNode {
	n, y := t.root, root(t.nLeaves)
	for n != nil && y != x && !y.isLeaf() {
		if x < y {
			n = n.left
			y, _ = y.left()
		} else {
			n = n.right
			y, _ = y.right()
		}
	}
	return n
}

// appendLeaf appends the record of one leaf's ratchets, which is all that
// changes when a known sender sends.
func (t *secretTree) appendLeaf(b []byte, leaf LeafIndex) []byte {
	if !t.has(leaf) {
		return b
	}
	return t.appendRecord(b, t.at(leaf.node()), leaf.node())
}

// errBadTreeState is wrapped by all errors about a stored secret tree. They do
// not quote it.
var errBadTreeState = errors.New("mls: stored secret tree is damaged")

// restoreSecretTree reads what appendTo wrote.
func restoreSecretTree(s *suite, b []byte) (*secretTree, error) {
	r := &reader{b: b}
	nLeaves := r.u32()
	if size, ok := treeSize(nLeaves); r.err != nil || !ok || nLeaves == 0 || size != nLeaves {
		return nil, fmt.Errorf("%w: number of leaves is not a power of two", errBadTreeState)
	}
	t := &secretTree{
		s: s, nLeaves: nLeaves, owner: new(treeOwner),
		maxForward: defaultMaxForward, maxSkipped: defaultMaxSkipped, maxSkippedTotal: defaultMaxSkippedTotal,
	}
	t.root = t.newNode()
	if err := t.applyRecords(r); err != nil {
		t.wipe()
		return nil, err
	}
	t.markSaved()
	return t, nil
}

// applyChanges brings a tree up to date with records that appendChanges or
// appendLeaf wrote. The tree is unusable after an error.
func (t *secretTree) applyChanges(b []byte) error {
	if t.root == nil {
		return fmt.Errorf("%w: the tree was wiped", errBadTreeState)
	}
	return t.applyRecords(&reader{b: b})
}

// restoreLeaf reads one record that appendLeaf wrote for a leaf in use: secrets above the leaf
// are split on the way and erased.
func (t *secretTree) restoreLeaf(leaf LeafIndex, b []byte) error {
	if !t.has(leaf) {
		return errNoSuchLeaf
	}
	if r := (reader{b: b}); nodeIndex(r.u32()) != leaf.node() || r.u8() != recordLeaf {
		return fmt.Errorf("%w: not the record of leaf %d", errBadTreeState, leaf)
	}
	var path secretPath
	t.descend(leaf, &path)
	return t.applyChanges(b)
}

func (t *secretTree) applyRecords(r *reader) error {
	for len(r.b) > 0 {
		x := nodeIndex(r.u32())
		kind := r.u8()
		if r.err != nil || !x.inTree(t.nLeaves) {
			return fmt.Errorf("%w: no such node", errBadTreeState)
		}
		if kind == recordGone {
			continue // told by the records below it
		}
		n := t.place(x)
		n.clearSecrets()
		switch {
		case kind == recordSecret:
			n.left, n.right = nil, nil
			n.secret = bytes.Clone(r.take(t.s.nh))
		case kind == recordLeaf && x.isLeaf():
			n.leaf = new(leafRatchets)
			for i := range n.leaf {
				if !n.leaf[i].readFrom(r, t.s) {
					return fmt.Errorf("%w: ratchet of node %d", errBadTreeState, x)
				}
			}
		default:
			return fmt.Errorf("%w: record of unknown kind %d", errBadTreeState, kind)
		}
		t.changes.add(x)
	}
	if r.err != nil {
		return fmt.Errorf("%w: it ends early", errBadTreeState)
	}
	if !t.recount(t.root, root(t.nLeaves)) {
		return fmt.Errorf("%w: a node has neither secret nor children", errBadTreeState)
	}
	return nil
}

// place returns the node x, making the nodes above it, which lose their
// secrets.
func (t *secretTree) place(x nodeIndex) *secretNode {
	t.root = t.own(t.root)
	n, y := t.root, root(t.nLeaves)
	for y != x {
		n.clearSecrets()
		side := &n.right
		if x < y {
			side = &n.left
			y, _ = y.left()
		} else {
			y, _ = y.right()
		}
		if *side == nil {
			*side = t.newNode()
		}
		*side = t.own(*side)
		n = *side
	}
	return n
}

func (n *secretNode) clearSecrets() {
	wipe(n.secret)
	n.secret = nil
	if n.leaf != nil {
		n.leaf.wipe()
		n.leaf = nil
	}
}

// recount computes the skipped counts of a restored tree and reports whether
// each node holds exactly what it should.
func (t *secretTree) recount(n *secretNode, x nodeIndex) bool {
	switch {
	case n == nil:
		return false
	case n.secret != nil:
		return n.left == nil && n.right == nil && n.leaf == nil
	case x.isLeaf():
		if n.leaf == nil {
			return false
		}
		n.setSkipped(len(n.leaf[0].skipped) + len(n.leaf[1].skipped))
		return true
	default:
		l, _ := x.left()
		r, _ := x.right()
		if !t.recount(n.left, l) || !t.recount(n.right, r) {
			return false
		}
		n.setSkipped(n.left.skipped + n.right.skipped)
		return true
	}
}

// setSkipped writes only a count that differs: such a node has just been placed
// and is the tree's own, the others may be shared with clones.
func (n *secretNode) setSkipped(count int) {
	if n.skipped != count {
		n.skipped = count
	}
}

// readFrom is the inverse of appendTo; false means damaged.
func (t *ratchet) readFrom(r *reader, s *suite) bool {
	exhausted := r.u8()
	t.generation = r.u32()
	switch exhausted {
	case 0:
		copy(t.secret[:], r.take(s.nh))
	case 1:
		t.exhausted = true
	default:
		return false
	}
	n := r.u32()
	size := 4 + s.nk + s.nn
	if r.err != nil || uint64(n)*uint64(size) > uint64(len(r.b)) {
		return false
	}
	if n > 0 {
		t.skipped = make([]skippedKey, n)
	}
	for i := range t.skipped {
		k := &t.skipped[i]
		k.generation = r.u32()
		copy(k.key[:], r.take(s.nk))
		copy(k.nonce[:], r.take(s.nn))
		if i > 0 && k.generation <= t.skipped[i-1].generation || k.generation >= t.generation && !t.exhausted {
			return false
		}
	}
	return r.err == nil
}
