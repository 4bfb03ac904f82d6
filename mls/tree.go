// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"slices"
	"sync/atomic"
)

// A ratchetTree is a ratchet tree (RFC 9420 §4, §7) without any private key. It
// is immutable and may be read concurrently: [ratchetTree.edit] makes the next
// one, which shares all that did not change. Every node knows its tree hash.
type ratchetTree struct {
	s     *suite
	root  *treeNode
	width uint32 // number of leaves, blank ones included: a power of two
	index treeIndex
}

// A treeEdit is a tree in the making. Nothing it does shows in the tree it
// started from. It is not safe for concurrent use.
type treeEdit struct {
	t          ratchetTree
	id         uint64
	given      []keyGiven // in the order in which they were given
	ownsCounts bool       // whether the edit may change the counts of the index
	// added are the leaves that addLeaf filled, in ascending order since it always
	// takes the leftmost: a path sends them no secret (RFC 9420 §7.5), they learn
	// it from the Welcome.
	added []LeafIndex
}

var lastEdit atomic.Uint64

// newRatchetTree returns the tree of a group of one member.
func newRatchetTree(s *suite, creator *LeafNode) *ratchetTree {
	e := &treeEdit{id: lastEdit.Add(1)}
	e.t = ratchetTree{s: s, root: blankSubtree(0, e.id), width: 1}
	e.setLeaf(0, creator)
	t, err := e.finish()
	if err != nil {
		panic("mls: internal error: " + err.Error()) // one leaf has each key once
	}
	return t
}

func (t *ratchetTree) edit() *treeEdit {
	return &treeEdit{t: *t, id: lastEdit.Add(1)}
}

// finish returns the edited tree. It fails with a [duplicateKeyError] when two
// nodes have the same key. The edit is not to be used afterwards.
func (e *treeEdit) finish() (*ratchetTree, error) {
	if err := e.indexKeys(); err != nil {
		return nil, err
	}
	return e.seal(), nil
}

// seal is the last part of finish, after indexKeys.
func (e *treeEdit) seal() *ratchetTree {
	e.rehash()
	if e.ownsCounts {
		e.t.index.supports.settle(0)
	}
	e.id = 0
	t := e.t
	return &t
}

// levels returns the level of the root.
func (t *ratchetTree) levels() uint { return levelOf(t.width) }

// memberCount returns the number of leaves that are not blank.
func (t *ratchetTree) memberCount() int { return int(t.root.leaves) }

// node returns a node, nil when the index is outside of the tree or the node
// lies in a blank subtree that is not spelled out.
func (t *ratchetTree) node(x nodeIndex) *treeNode {
	if uint64(x) > 2*uint64(t.width)-2 {
		return nil
	}
	n, level, at := t.root, t.levels(), nodeIndex(t.width-1)
	for at != x {
		if n.left == nil {
			return nil
		}
		level--
		if x < at {
			n, at = n.left, at-1<<level
		} else {
			n, at = n.right, at+1<<level
		}
	}
	return n
}

// leaf returns a leaf, nil when it is blank or outside of the tree.
func (t *ratchetTree) leaf(i LeafIndex) *LeafNode {
	if uint32(i) >= t.width {
		return nil
	}
	if n := t.node(i.node()); n != nil {
		return n.leaf
	}
	return nil
}

// eachLeaf calls f for every leaf that is not blank, in order, until f returns
// false.
func (t *ratchetTree) eachLeaf(f func(LeafIndex, *LeafNode) bool) {
	t.root.eachLeaf(t.levels(), 0, f)
}

func (n *treeNode) eachLeaf(level uint, first LeafIndex, f func(LeafIndex, *LeafNode) bool) bool {
	if n.leaves == 0 {
		return true
	}
	if level == 0 {
		return f(first, n.leaf)
	}
	return n.left.eachLeaf(level-1, first, f) && n.right.eachLeaf(level-1, first+1<<(level-1), f)
}

// A pathStep is a node on the way from a leaf to the root: the parent, and its
// child that is not on the way.
type pathStep struct {
	at, copathAt nodeIndex
	node, copath *treeNode
}

// path returns the direct path of a leaf from the leaf's parent up to the root,
// with the copath (RFC 9420 §4.1.2).
func (t *ratchetTree) path(i LeafIndex) []pathStep {
	levels := t.levels()
	steps := make([]pathStep, levels)
	n, at := t.root, nodeIndex(t.width-1)
	for level := levels; level > 0; level-- {
		half := nodeIndex(1) << (level - 1)
		left, right := n.children(level)
		s := &steps[level-1]
		s.at, s.node = at, n
		if i>>(level-1)&1 == 0 {
			s.copathAt, s.copath = at+half, right
			n, at = left, at-half
		} else {
			s.copathAt, s.copath = at-half, left
			n, at = right, at+half
		}
	}
	return steps
}

// filteredPath returns the direct path without the nodes whose copath child has
// an empty resolution (RFC 9420 §4.1.2).
func (t *ratchetTree) filteredPath(i LeafIndex) []pathStep {
	return slices.DeleteFunc(t.path(i), func(s pathStep) bool { return s.copath.isBlankSubtree() })
}

// A resolved node is an entry of a resolution: its key, and where it stands.
type resolved struct {
	at  nodeIndex
	key []byte
}

// appendResolution appends the resolution of the subtree n (RFC 9420 §4.1.1): the
// nodes that together cover its members.
func (t *ratchetTree) appendResolution(list []resolved, n *treeNode, at nodeIndex) []resolved {
	return n.appendResolution(list, at, func(i LeafIndex) []byte { return t.leaf(i).encryptionKey() })
}

func (n *treeNode) appendResolution(list []resolved, at nodeIndex, leafKey func(LeafIndex) []byte) []resolved {
	switch {
	case n.filled == 0:
		return list
	case n.leaf != nil:
		return append(list, resolved{at, n.leaf.EncryptionKey})
	case n.parent != nil:
		list = append(list, resolved{at, n.parent.encryptionKey})
		for _, i := range n.parent.unmergedLeaves {
			list = append(list, resolved{i.node(), leafKey(i)})
		}
		return list
	}
	half := nodeIndex(1) << (at.level() - 1)
	list = n.left.appendResolution(list, at-half, leafKey)
	return n.right.appendResolution(list, at+half, leafKey)
}

// encryptionKey is nil for a blank leaf.
func (l *LeafNode) encryptionKey() []byte {
	if l == nil {
		return nil
	}
	return l.EncryptionKey
}
