// SPDX-License-Identifier: Apache-2.0

package mls

import "math/bits"

// This file holds the tree math of RFC 9420 §4.1 and Appendix C. A tree of n
// leaves, n a power of two, is an array of 2n-1 nodes in which leaf i is node
// 2i and a parent stands between its subtrees:
//
//	                          X
//	              X                       X
//	        X           X           X           X
//	     X     X     X     X     X     X     X     X
//	index 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14
//
//	             7
//	      3             11
//	  1      5      9       13
//	0   2  4   6  8   10  12   14

// LeafIndex is the position of a member among the leaves of the ratchet tree,
// from 0 (RFC 9420 §4.1). It names a member only within one epoch.
type LeafIndex uint32

// nodeIndex is the position of a node in the array form of the tree
// (RFC 9420 §4.1.2, Appendix C).
type nodeIndex uint32

// maxLeaves is the largest tree whose node indices fit in 32 bits.
const maxLeaves = 1 << 31

// maxTreeDepth is how many parents a leaf of the largest tree has.
const maxTreeDepth = 31

// node returns the node of a leaf. A leaf index from a stranger is checked with
// inTree first: beyond maxLeaves the result wraps.
func (l LeafIndex) node() nodeIndex { return nodeIndex(l) << 1 }

// inTree reports whether the leaf exists in a tree of nLeaves leaves.
func (l LeafIndex) inTree(nLeaves uint32) bool { return uint32(l) < nLeaves }

// treeSize returns the smallest number of leaves of a tree (a power of two)
// that has room for n leaves; ok is false if there is none.
func treeSize(n uint32) (size uint32, ok bool) {
	if n > maxLeaves {
		return 0, false
	}
	if n <= 1 {
		return 1, true
	}
	return 1 << bits.Len32(n-1), true
}

// nodeWidth is how many nodes a tree of nLeaves leaves has.
func nodeWidth(nLeaves uint32) uint32 {
	if nLeaves == 0 {
		return 0
	}
	return 2*nLeaves - 1
}

// root is the root of a tree of nLeaves leaves, a power of two.
func root(nLeaves uint32) nodeIndex {
	return nodeIndex(nLeaves - 1)
}

// inTree reports whether the node exists in a tree of nLeaves leaves.
func (x nodeIndex) inTree(nLeaves uint32) bool { return uint32(x) < nodeWidth(nLeaves) }

// level is the height of the node above the leaves.
func (x nodeIndex) level() uint { return uint(bits.TrailingZeros32(^uint32(x))) }

// isLeaf reports whether the node is a leaf.
func (x nodeIndex) isLeaf() bool { return x&1 == 0 }

// leaf returns the leaf index of a leaf node; ok is false for a parent.
func (x nodeIndex) leaf() (l LeafIndex, ok bool) { return LeafIndex(x >> 1), x.isLeaf() }

// left returns the left child; ok is false for a leaf.
func (x nodeIndex) left() (child nodeIndex, ok bool) {
	k := x.level()
	if k == 0 {
		return 0, false
	}
	return x ^ (1 << (k - 1)), true
}

// right returns the right child; ok is false for a leaf.
func (x nodeIndex) right() (child nodeIndex, ok bool) {
	k := x.level()
	if k == 0 {
		return 0, false
	}
	return x ^ (3 << (k - 1)), true
}

// parent returns the parent in a tree of nLeaves leaves; ok is false for the
// root and for a node outside the tree.
func (x nodeIndex) parent(nLeaves uint32) (p nodeIndex, ok bool) {
	if x == root(nLeaves) || !x.inTree(nLeaves) {
		return 0, false
	}
	return x.parentStep(), true
}

// parentStep is the parent in a tree that is large enough to have one.
func (x nodeIndex) parentStep() nodeIndex {
	k := x.level()
	b := (x >> (k + 1)) & 1
	return (x | 1<<k) ^ (b << (k + 1))
}

// sibling returns the other child of the parent; ok is false for the root and
// for a node outside the tree.
func (x nodeIndex) sibling(nLeaves uint32) (s nodeIndex, ok bool) {
	if _, ok := x.parent(nLeaves); !ok {
		return 0, false
	}
	return x ^ (2 << x.level()), true // the two differ in the bit above their level
}

// directPath returns the parents of x from the one above it to the root
// (RFC 9420 §4.1). It is empty for the root and for a node outside the tree.
func (x nodeIndex) directPath(nLeaves uint32) []nodeIndex {
	if !x.inTree(nLeaves) || x == root(nLeaves) {
		return nil
	}
	path := make([]nodeIndex, 0, root(nLeaves).level()-x.level())
	for x != root(nLeaves) {
		x = x.parentStep()
		path = append(path, x)
	}
	return path
}

// copath returns the siblings of x and of its direct path without the root, in
// the order of the direct path: copath[i] is the child of directPath[i] that is
// not on the way from x (RFC 9420 §4.1).
func (x nodeIndex) copath(nLeaves uint32) []nodeIndex {
	if !x.inTree(nLeaves) || x == root(nLeaves) {
		return nil
	}
	path := make([]nodeIndex, 0, root(nLeaves).level()-x.level())
	for x != root(nLeaves) {
		s, _ := x.sibling(nLeaves)
		path = append(path, s)
		x = x.parentStep()
	}
	return path
}

// isInSubtree reports whether x is top or stands below it.
func (x nodeIndex) isInSubtree(top nodeIndex) bool {
	lo, hi := top.subtree()
	return lo <= x && x <= hi
}

// subtree returns the first and last node of the subtree under x: the leaves at
// its two ends.
func (x nodeIndex) subtree() (first, last nodeIndex) {
	d := nodeIndex(1)<<x.level() - 1
	return x - d, x + d
}

// commonAncestor returns the lowest node that has both x and y in its subtree,
// which may be one of the two. Both must be in a tree of at most maxLeaves
// leaves.
func commonAncestor(x, y nodeIndex) nodeIndex {
	for !y.isInSubtree(x) {
		x = x.parentStep()
	}
	return x
}
