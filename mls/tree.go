// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"fmt"
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
	t         ratchetTree
	id        uint64
	doubles   []keyHolder
	ownsInUse bool
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
	return e.seal()
}

func (t *ratchetTree) edit() *treeEdit {
	return &treeEdit{t: *t, id: lastEdit.Add(1)}
}

// finish returns the edited tree. It fails with a [duplicateKeyError] when two
// nodes have the same key. The edit is not to be used afterwards.
func (e *treeEdit) finish() (*ratchetTree, error) {
	if err := e.checkDoubles(); err != nil {
		return nil, err
	}
	return e.seal(), nil
}

func (e *treeEdit) seal() *ratchetTree {
	e.rehash()
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
		e.unindexLeaf(i, old)
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

// blankPath blanks the direct path of a leaf.
func (e *treeEdit) blankPath(path []*treeNode, i LeafIndex) {
	for level := 1; level < len(path); level++ {
		if p := path[level].parent; p != nil {
			e.removeKey(encryptionKeyKind, p.encryptionKey, parentAt(i, uint(level)))
			path[level].parent = nil
		}
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
		e.blankPath(path, i)
	})
}

// removeLeaf blanks a leaf and its direct path, and truncates the tree while its
// right half is blank (RFC 9420 §12.1.3, §7.7).
func (e *treeEdit) removeLeaf(i LeafIndex) {
	e.change(i, func(path []*treeNode) {
		e.replaceLeaf(path[0], i, nil)
		e.blankPath(path, i)
	})
	for e.t.width > 1 && (e.t.root.left == nil || e.t.root.right.leaves == 0) {
		// Every non-blank node of the right half stands above one of its leaves,
		// so that the half is blank and no key of it is in the index.
		left, _ := e.t.root.children(e.t.levels())
		if p := e.t.root.parent; p != nil {
			e.removeKey(encryptionKeyKind, p.encryptionKey, nodeIndex(e.t.width-1))
		}
		e.t.root = left
		e.t.width /= 2
	}
}

// marshalLen returns the length of the nodes without trailing blanks, which is
// the content of the ratchet_tree vector.
func (t *ratchetTree) marshalLen() int {
	n, total := t.root, int(t.root.size)
	for n.filled > 0 && n.left != nil {
		if n.right.filled > 0 {
			n = n.right
		} else {
			total -= int(n.right.size)
			if n.parent != nil {
				return total
			}
			total--
			n = n.left
		}
	}
	return total
}

// marshal writes optional<Node> ratchet_tree<V> (RFC 9420 §12.4.3.3).
func (t *ratchetTree) marshal(b []byte) []byte {
	n := t.marshalLen()
	b = appendVarint(slices.Grow(b, n+4), n)
	start := len(b)
	b = t.root.appendSubtree(b)
	return b[:start+n]
}

// encodedLen returns the length of what marshal writes.
func (t *ratchetTree) encodedLen() int {
	n := t.marshalLen()
	return varintLen(n) + n
}

// appendRange appends at most max octets of the marshalled tree from offset on,
// without marshalling what lies before.
func (t *ratchetTree) appendRange(b []byte, offset, max int) []byte {
	n := t.marshalLen()
	total := varintLen(n) + n
	if offset < 0 || offset >= total || max <= 0 {
		return b
	}
	end := min(offset+max, total)
	if head := varintLen(n); offset < head {
		b = append(b, appendVarint(nil, n)[offset:min(end, head)]...)
		offset = head
	}
	offset, end = offset-varintLen(n), end-varintLen(n)
	if offset >= end {
		return b
	}
	return t.root.appendRange(b, offset, end)
}

// appendRange appends the octets [from, to) of the subtree's nodes.
func (n *treeNode) appendRange(b []byte, from, to int) []byte {
	if from >= to || to <= 0 || from >= int(n.size) {
		return b
	}
	from, to = max(from, 0), min(to, int(n.size))
	if from == 0 && to == int(n.size) {
		return n.appendSubtree(b)
	}
	if n.left == nil {
		if n.leaf == nil {
			return append(b, make([]byte, to-from)...)
		}
		return append(b, n.appendNode(nil)[from:to]...)
	}
	left := int(n.left.size)
	own := int(n.size) - left - int(n.right.size)
	b = n.left.appendRange(b, from, to)
	if lo, hi := max(from-left, 0), min(to-left, own); lo < hi {
		b = append(b, n.appendNode(nil)[lo:hi]...)
	}
	return n.right.appendRange(b, from-left-own, to-left-own)
}

// A TreeNode is a node of a ratchet tree by its index in the array of RFC 9420
// Appendix C.
type TreeNode struct {
	Index uint32
	// Data is the encoded Node (RFC 9420 §12.4.3.3), nil when the node is blank.
	Data []byte
}

// eachNode calls f for every non-blank node in array order until f returns false.
func (n *treeNode) eachNode(at nodeIndex, f func(TreeNode) bool) bool {
	if n.filled == 0 {
		return true
	}
	if n.leaf != nil {
		return f(TreeNode{uint32(at), n.appendNode(nil)[1:]})
	}
	half := nodeIndex(1) << (at.level() - 1)
	if !n.left.eachNode(at-half, f) {
		return false
	}
	if n.parent != nil && !f(TreeNode{uint32(at), n.appendNode(nil)[1:]}) {
		return false
	}
	return n.right.eachNode(at+half, f)
}

// changedNodes returns the nodes in which t differs from old, in array order,
// blank ones without data; nodes beyond the width of t count as blank. Subtrees
// that both share are not visited.
func (t *ratchetTree) changedNodes(old *ratchetTree) []TreeNode {
	var list []TreeNode
	a, b := old.root, t.root
	wa, wb := old.width, t.width
	// Bring both to the same width: what the narrower lacks is blank.
	for wa < wb {
		wa *= 2
		a = joinSubtrees(a, blankSubtree(levelOf(wa)-1, 0), nil, levelOf(wa), 0)
	}
	for wb < wa {
		wb *= 2
		b = joinSubtrees(b, blankSubtree(levelOf(wb)-1, 0), nil, levelOf(wb), 0)
	}
	diffNodes(a, b, levelOf(wa), nodeIndex(wa-1), &list)
	return list
}

func diffNodes(a, b *treeNode, level uint, at nodeIndex, list *[]TreeNode) {
	if a == b || a.filled == 0 && b.filled == 0 {
		return
	}
	if level == 0 {
		diffNode(a, b, at, list)
		return
	}
	half := nodeIndex(1) << (level - 1)
	al, ar := a.children(level)
	bl, br := b.children(level)
	diffNodes(al, bl, level-1, at-half, list)
	diffNode(a, b, at, list)
	diffNodes(ar, br, level-1, at+half, list)
}

func diffNode(a, b *treeNode, at nodeIndex, list *[]TreeNode) {
	if a.leaf == b.leaf && a.parent == b.parent {
		return
	}
	n := TreeNode{Index: uint32(at)}
	if b.leaf != nil || b.parent != nil {
		n.Data = b.appendNode(nil)[1:]
	}
	*list = append(*list, n)
}

// parseRatchetTree decodes the content of a ratchet_tree extension. The shape
// and the uniqueness of keys are checked, see [ratchetTree.verify] for the rest.
func parseRatchetTree(s *suite, b []byte, maxLeaves uint32) (*ratchetTree, error) {
	e := &treeEdit{id: lastEdit.Add(1)}
	var level uint
	root, err := decode(b, "ratchet tree", func(r *reader) *treeNode {
		var root *treeNode
		root, level = readRatchetTree(r, maxLeaves, e.id)
		return root
	})
	if err != nil {
		return nil, err
	}
	e.t = ratchetTree{s: s, root: root, width: 1 << level}
	return e.build()
}

// build indexes and hashes a tree that was put together from its nodes.
func (e *treeEdit) build() (*ratchetTree, error) {
	e.indexSubtree(e.t.root, nodeIndex(e.t.width-1))
	return e.finish()
}

func (e *treeEdit) indexSubtree(n *treeNode, at nodeIndex) {
	if n.filled == 0 {
		return
	}
	if n.leaf != nil {
		e.indexLeaf(LeafIndex(at/2), n.leaf)
		return
	}
	half := nodeIndex(1) << (at.level() - 1)
	e.indexSubtree(n.left, at-half)
	if n.parent != nil {
		e.addKey(encryptionKeyKind, n.parent.encryptionKey, at)
	}
	e.indexSubtree(n.right, at+half)
}

// withNodes returns the tree with some nodes replaced, as changedNodes lists
// them, and with another width.
func (t *ratchetTree) withNodes(nodes []TreeNode, width uint32) (*ratchetTree, error) {
	e := t.edit()
	for e.t.width < width {
		level := e.t.levels() + 1
		e.t.root = joinSubtrees(e.t.root, blankSubtree(level-1, e.id), nil, level, e.id)
		e.t.width *= 2
	}
	for _, n := range nodes {
		if !nodeIndex(n.Index).inTree(e.t.width) {
			return nil, fmt.Errorf("mls: stored node %d is outside of the tree", n.Index)
		}
		if err := e.setNode(n); err != nil {
			return nil, fmt.Errorf("mls: stored node %d: %w", n.Index, err)
		}
	}
	for e.t.width > width {
		left, right := e.t.root.children(e.t.levels())
		if right.filled > 0 || e.t.root.parent != nil {
			return nil, fmt.Errorf("mls: stored nodes do not fit into %d leaves", width)
		}
		e.t.root = left
		e.t.width /= 2
	}
	return e.finish()
}

// setNode replaces one node by its encoding; nil blanks it.
func (e *treeEdit) setNode(n TreeNode) error {
	x := nodeIndex(n.Index)
	var leaf *LeafNode
	var parent *parentNode
	if n.Data != nil {
		r := reader{b: n.Data}
		switch typ := r.u8(); {
		case typ == nodeTypeLeaf && x.isLeaf():
			leaf = readLeafNode(&r)
		case typ == nodeTypeParent && !x.isLeaf():
			parent = readParentNode(&r)
		default:
			r.fail(fmt.Errorf("node_type %d", typ))
		}
		if err := r.done(); err != nil {
			return err
		}
	}
	level := x.level()
	first, _ := x.subtree()
	i, _ := first.leaf()
	e.change(i, func(path []*treeNode) {
		if level == 0 {
			e.replaceLeaf(path[0], i, leaf)
			return
		}
		if old := path[level].parent; old != nil {
			e.removeKey(encryptionKeyKind, old.encryptionKey, x)
		}
		if path[level].parent = parent; parent != nil {
			e.addKey(encryptionKeyKind, parent.encryptionKey, x)
		}
	})
	return nil
}

// treeFromNodes rebuilds a tree from the nodes that [treeNode.eachNode] yields,
// in array order.
func treeFromNodes(s *suite, nodes func(yield func(TreeNode) bool)) (*ratchetTree, error) {
	t := treeReader{edit: lastEdit.Add(1)}
	var err error
	nodes(func(n TreeNode) bool {
		if n.Index < t.next || n.Index > 1<<26 {
			err = fmt.Errorf("mls: stored tree: node %d is out of order", n.Index)
			return false
		}
		for t.next < n.Index {
			t.push(nil, nil)
		}
		r := reader{b: n.Data}
		switch typ := r.u8(); {
		case typ == nodeTypeLeaf && n.Index%2 == 0:
			if leaf := readLeafNode(&r); leaf != nil {
				t.push(leaf, nil)
			}
		case typ == nodeTypeParent && n.Index%2 == 1:
			if p := readParentNode(&r); p != nil {
				t.push(nil, p)
			}
		default:
			r.fail(fmt.Errorf("node_type %d", typ))
		}
		if err = r.done(); err != nil {
			err = fmt.Errorf("mls: stored tree: node %d: %w", n.Index, err)
		}
		return err == nil
	})
	if err != nil {
		return nil, err
	}
	if t.next == 0 {
		return nil, fmt.Errorf("mls: stored tree: no nodes")
	}
	e := &treeEdit{id: t.edit}
	root, level := t.finish()
	e.t = ratchetTree{s: s, root: root, width: 1 << level}
	return e.build()
}
