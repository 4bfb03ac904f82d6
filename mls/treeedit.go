// SPDX-License-Identifier: Apache-2.0

// Changes to a ratchet tree: leaves come, change and go (RFC 9420 §7.7, §12.1).

package mls

import "slices"

// change makes the way from the root down to a leaf changeable, lets f change it
// (the leaf first, the root last) and brings the sums up to date. The hashes of
// the way are cleared: seal computes them.
func (e *treeEdit) change(i LeafIndex, f func(path []*treeNode)) {
	levels := e.t.levels()
	var buf [33]*treeNode
	path := buf[:levels+1]
	e.t.root = e.mutable(e.t.root)
	path[levels] = e.t.root
	for level := levels; level > 0; level-- {
		n := path[level]
		n.left, n.right = n.children(level)
		if i>>(level-1)&1 == 0 {
			n.left = e.mutable(n.left)
			path[level-1] = n.left
		} else {
			n.right = e.mutable(n.right)
			path[level-1] = n.right
		}
	}
	f(path)
	for _, n := range path {
		n.hash = nil
		n.count()
	}
}

func (e *treeEdit) mutable(n *treeNode) *treeNode {
	if n.edit == e.id {
		return n
	}
	c := *n
	c.edit = e.id
	return &c
}

// setLeaf puts a leaf into a blank place, or replaces one. The parents stay.
func (e *treeEdit) setLeaf(i LeafIndex, leaf *LeafNode) {
	e.change(i, func(path []*treeNode) { e.replaceLeaf(path[0], i, leaf) })
}

func (e *treeEdit) replaceLeaf(n *treeNode, i LeafIndex, leaf *LeafNode) {
	switch old := n.leaf; {
	case old != nil && leaf != nil:
		e.reindexLeaf(i, old, leaf)
	case old != nil:
		e.unindexLeaf(old)
		n.size = 1
	case leaf != nil:
		e.indexLeaf(i, leaf)
	}
	n.leaf = leaf
}

// parentAt returns the index of the parent of leaf i at a level.
func parentAt(i LeafIndex, level uint) nodeIndex {
	return nodeIndex(i)>>level<<(level+1) | (1<<level - 1)
}

// blankPath blanks the direct path of a leaf. path[0] is the leaf.
func blankPath(path []*treeNode) {
	for _, n := range path[1:] {
		n.parent = nil
	}
}

// addLeaf puts a leaf into the leftmost blank place, for which it extends the
// tree when there is none, and notes it as unmerged in the parents above
// (RFC 9420 §12.1.1).
func (e *treeEdit) addLeaf(leaf *LeafNode) LeafIndex {
	i := e.freeLeaf()
	e.addLeafAt(i, leaf)
	e.added = append(e.added, i)
	return i
}

// freeLeaf returns the leftmost blank leaf. A full tree is extended: the caller
// must fill the leaf.
func (e *treeEdit) freeLeaf() LeafIndex {
	if e.t.root.leaves == e.t.width {
		level := e.t.levels() + 1
		e.t.root = joinSubtrees(e.t.root, blankSubtree(level-1, e.id), nil, level, e.id)
		e.t.width *= 2
	}
	return e.t.leftmostBlank()
}

// leftmostBlank returns the first blank leaf of a tree that has one.
func (t *ratchetTree) leftmostBlank() LeafIndex {
	var i LeafIndex
	n := t.root
	for level := t.levels(); level > 0 && n.leaves > 0; level-- {
		if n.left.leaves < 1<<(level-1) {
			n = n.left
		} else {
			n = n.right
			i |= 1 << (level - 1)
		}
	}
	return i
}

func (e *treeEdit) addLeafAt(i LeafIndex, leaf *LeafNode) {
	e.change(i, func(path []*treeNode) {
		e.replaceLeaf(path[0], i, leaf)
		for _, n := range path[1:] {
			if n.parent != nil {
				n.parent = e.withUnmerged(n.parent, i)
			}
		}
	})
}

func (e *treeEdit) withUnmerged(p *parentNode, i LeafIndex) *parentNode {
	if p.edit != e.id {
		p = &parentNode{
			encryptionKey:  p.encryptionKey,
			parentHash:     p.parentHash,
			unmergedLeaves: slices.Clone(p.unmergedLeaves),
			edit:           e.id,
		}
	}
	at, found := slices.BinarySearch(p.unmergedLeaves, i)
	if !found {
		p.unmergedLeaves = slices.Insert(p.unmergedLeaves, at, i)
	}
	return p
}

// updateLeaf replaces a leaf and blanks its direct path (RFC 9420 §12.1.2).
func (e *treeEdit) updateLeaf(i LeafIndex, leaf *LeafNode) {
	e.change(i, func(path []*treeNode) {
		e.replaceLeaf(path[0], i, leaf)
		blankPath(path)
	})
}

// removeLeaf blanks a leaf and its direct path, and truncates the tree while its
// right half is blank (RFC 9420 §12.1.3, §7.7).
func (e *treeEdit) removeLeaf(i LeafIndex) {
	e.change(i, func(path []*treeNode) {
		e.replaceLeaf(path[0], i, nil)
		blankPath(path)
	})
	for e.t.width > 1 && (e.t.root.left == nil || e.t.root.right.leaves == 0) {
		left, _ := e.t.root.children(e.t.levels())
		e.t.root = left
		e.t.width /= 2
	}
}
