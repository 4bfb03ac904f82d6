// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"errors"
	"fmt"
)

// This file holds the secret tree of RFC 9420 §9: the keys of all members'
// messages in one epoch, derived when first needed and erased when used.
//
//	             encryption_secret
//	            /                 \
//	     "tree","left"       "tree","right"        derived and then erased
//	       /       \            /       \          from the top down
//	      A         B          C         D
//	     / \       / \        / \       / \
//	   hs  app   hs  app    hs  app   hs  app      two ratchets for each leaf
//
// The tree is copy-on-write. A clone shares all nodes; each node carries the
// owner that may change it in place, and everybody else copies it first. So a
// clone costs nothing, a change costs at most one path, and a tree that was
// never cloned is changed, and its secrets are wiped, where they stand.

// Limits on what messages may make a member derive and keep. They suit a chat
// over an ordered transport, where gaps come from messages that were lost
// before they were sequenced.
const (
	// defaultMaxForward is by how many generations one message may be ahead of
	// the last one seen from its sender: about a millisecond of work.
	defaultMaxForward = 1000
	// defaultMaxSkipped is how many keys of skipped generations are kept for
	// one ratchet.
	defaultMaxSkipped = 256
	// defaultMaxSkippedTotal is how many are kept for the whole group: about a
	// megabyte.
	defaultMaxSkippedTotal = 20_000
)

var (
	// errKeyConsumed says that the key of a message is gone: it was used, or
	// skipped so long ago that it was dropped.
	errKeyConsumed = fmt.Errorf("%w: its key was used, or is too old and was erased", ErrReplay)
	// errNoSuchLeaf says that a leaf index lies outside the tree.
	errNoSuchLeaf = errors.New("mls: no such leaf in the secret tree")
	// errRatchetExhausted says that a sender used all 2^32 generations.
	errRatchetExhausted = errors.New("mls: message generations exhausted: commit to start a new epoch")
)

// secretTree is a member's secret tree. It is not safe for concurrent use, but
// clones may be used by different goroutines.
type secretTree struct {
	redacted
	s       *suite
	nLeaves uint32 // a power of two
	owner   *treeOwner
	root    *secretNode

	maxForward      uint32
	maxSkipped      int
	maxSkippedTotal int

	changes changedNodes
}

// treeOwner is an identity: nodes that carry it may be changed in place by the
// one tree that has it too.
type treeOwner struct{ _ byte }

// secretNode is a node of the secret tree. It holds either its own secret, or
// what was derived from it: two children, or the ratchets of a leaf.
type secretNode struct {
	owner       *treeOwner
	secret      []byte
	left, right *secretNode
	leaf        *leafRatchets
	skipped     int // skipped keys at and below this node
}

// leafRatchets are the ratchets of one sender, handshake and application.
type leafRatchets [2]ratchet

// newSecretTree starts the tree of an epoch. It takes the encryption secret
// over: the caller's bytes are wiped. nLeaves is the number of leaves of the
// ratchet tree.
func newSecretTree(s *suite, encryptionSecret []byte, nLeaves uint32) *secretTree {
	size, ok := treeSize(nLeaves)
	if !ok || len(encryptionSecret) != s.nh {
		panic("mls: internal error: secret tree of impossible size")
	}
	t := &secretTree{
		s: s, nLeaves: size, owner: new(treeOwner),
		maxForward: defaultMaxForward, maxSkipped: defaultMaxSkipped, maxSkippedTotal: defaultMaxSkippedTotal,
	}
	t.root = t.newNode()
	t.root.secret = append([]byte(nil), encryptionSecret...)
	wipe(encryptionSecret)
	t.changes.all = true
	return t
}

// setLimits replaces the default limits. Zero keeps a default; a negative
// maxSkipped or maxSkippedTotal keeps no skipped key at all.
func (t *secretTree) setLimits(maxForward uint32, maxSkipped, maxSkippedTotal int) {
	if maxForward != 0 {
		t.maxForward = maxForward
	}
	if maxSkipped != 0 {
		t.maxSkipped = max(maxSkipped, 0)
	}
	if maxSkippedTotal != 0 {
		t.maxSkippedTotal = max(maxSkippedTotal, 0)
	}
}

// clone returns a tree that is independent of t from here on: what is consumed
// in one can still be derived in the other. It costs no copy. Secrets that both
// share are not wiped when one of them drops them.
func (t *secretTree) clone() *secretTree {
	c := *t
	t.owner, c.owner = new(treeOwner), new(treeOwner)
	c.changes = t.changes.clone()
	return &c
}

// sketch returns a tree to find out beforehand what messages will do. It begins as t
// is; t never sees what becomes of it, must not change while it is in use, and wipes
// its own secrets as before. The sketch is to be wiped.
func (t *secretTree) sketch() *secretTree {
	c := *t
	c.owner, c.changes = new(treeOwner), changedNodes{all: true}
	return &c
}

// wipe erases all secrets that no clone shares. The tree cannot be used
// afterwards.
func (t *secretTree) wipe() {
	if t == nil {
		return
	}
	t.wipeNode(t.root)
	t.root = nil
}

func (t *secretTree) wipeNode(n *secretNode) {
	if n == nil || n.owner != t.owner {
		return
	}
	wipe(n.secret)
	if n.leaf != nil {
		n.leaf.wipe()
	}
	t.wipeNode(n.left)
	t.wipeNode(n.right)
	*n = secretNode{}
}

func (l *leafRatchets) wipe() {
	for i := range l {
		l[i].wipe()
	}
}

// has reports whether the leaf exists; a tree that was wiped has none.
func (t *secretTree) has(leaf LeafIndex) bool { return t.root != nil && leaf.inTree(t.nLeaves) }

func (t *secretTree) newNode() *secretNode { return &secretNode{owner: t.owner} }

// own returns a node that t may change: n itself, or a copy of it.
func (t *secretTree) own(n *secretNode) *secretNode {
	if n.owner == t.owner {
		return n
	}
	c := *n
	c.owner = t.owner
	c.secret = append([]byte(nil), n.secret...)
	if n.leaf != nil {
		l := *n.leaf
		for i := range l {
			l[i].skipped = append([]skippedKey(nil), l[i].skipped...)
		}
		c.leaf = &l
	}
	return &c
}

// split derives the children of a node, or the ratchets of a leaf, from its
// secret, and erases that. n must be t's own.
//
//	left_child_secret = ExpandWithLabel(N.secret, "tree", "left", KDF.Nh)
//	handshake_ratchet_secret_[N]_[0] = ExpandWithLabel(leaf_secret, "handshake", "", KDF.Nh)
func (t *secretTree) split(n *secretNode, x nodeIndex) {
	nh := t.s.nh
	if x.isLeaf() {
		n.leaf = new(leafRatchets)
		t.s.expandInto(n.leaf[ratchetHandshake].secret[:nh], n.secret, "handshake", nil)
		t.s.expandInto(n.leaf[ratchetApplication].secret[:nh], n.secret, "application", nil)
	} else {
		n.left, n.right = t.newNode(), t.newNode()
		n.left.secret, n.right.secret = make([]byte, nh), make([]byte, nh)
		t.s.expandInto(n.left.secret, n.secret, "tree", []byte("left"))
		t.s.expandInto(n.right.secret, n.secret, "tree", []byte("right"))
	}
	wipe(n.secret)
	n.secret = nil
}

// secretPath is the way from the root to a leaf, all of it owned by the tree.
type secretPath struct {
	nodes [maxTreeDepth + 1]*secretNode
	n     int
	leaf  *leafRatchets
}

// descend returns the path to a leaf, deriving what is missing on it.
func (t *secretTree) descend(leaf LeafIndex, path *secretPath) {
	t.root = t.own(t.root)
	n, x := t.root, root(t.nLeaves)
	path.n = 0
	for {
		path.nodes[path.n] = n
		path.n++
		if n.secret != nil {
			t.split(n, x)
			t.changes.add(x)
			if !x.isLeaf() { // both children are new
				l, _ := x.left()
				r, _ := x.right()
				t.changes.add(l)
				t.changes.add(r)
			}
		}
		if x.isLeaf() {
			path.leaf = n.leaf
			return
		}
		if l, _ := x.left(); leaf.node() < x {
			n.left = t.own(n.left)
			n, x = n.left, l
		} else {
			r, _ := x.right()
			n.right = t.own(n.right)
			n, x = n.right, r
		}
	}
}

// addSkipped corrects the counts on the path after the leaf's number of skipped
// keys changed by d.
func (path *secretPath) addSkipped(d int) {
	if d == 0 {
		return
	}
	for _, n := range path.nodes[:path.n] {
		n.skipped += d
	}
}

// find returns the ratchet of a leaf, or nil if it is not derived yet.
func (t *secretTree) find(leaf LeafIndex, kind ratchetKind) *ratchet {
	n, x := t.root, root(t.nLeaves)
	for n.secret == nil {
		if x.isLeaf() {
			return &n.leaf[kind]
		}
		if l, _ := x.left(); leaf.node() < x {
			n, x = n.left, l
		} else {
			r, _ := x.right()
			n, x = n.right, r
		}
	}
	return nil
}

// deriveRatchet computes the first state of a ratchet that is not in the tree
// yet, and leaves the tree as it is.
func (t *secretTree) deriveRatchet(leaf LeafIndex, kind ratchetKind, out *ratchet) {
	n, x := t.root, root(t.nLeaves)
	nh := t.s.nh
	var secret, child hashBuf
	for {
		if n != nil && n.secret != nil {
			copy(secret[:nh], n.secret)
			n = nil
		}
		if x.isLeaf() {
			break
		}
		side, next := "left", nodeIndex(0)
		if leaf.node() < x {
			next, _ = x.left()
			if n != nil {
				n = n.left
			}
		} else {
			side = "right"
			next, _ = x.right()
			if n != nil {
				n = n.right
			}
		}
		if n == nil {
			t.s.expandInto(child[:nh], secret[:nh], "tree", []byte(side))
			secret = child
		}
		x = next
	}
	t.s.expandInto(out.secret[:nh], secret[:nh], kind.String(), nil)
	wipe(secret[:])
	wipe(child[:])
}
