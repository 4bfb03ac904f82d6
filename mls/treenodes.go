// SPDX-License-Identifier: Apache-2.0

// The ratchet tree as numbered nodes, for storage: all of them, or those that
// changed.

package mls

import "fmt"

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
		if path[level].parent = parent; parent != nil {
			e.addKey(encryptionKeyKind, parent.encryptionKey, x)
		}
	})
	return nil
}

// treeFromNodes rebuilds a tree from the nodes that [treeNode.eachNode] yields,
// in array order.
func treeFromNodes(s *suite, maxLeaves int, nodes func(yield func(TreeNode) bool)) (*ratchetTree, error) {
	t := treeReader{edit: lastEdit.Add(1)}
	var err error
	nodes(func(n TreeNode) bool {
		if n.Index < t.next || uint64(n.Index) > 2*uint64(maxLeaves) {
			err = fmt.Errorf("mls: stored tree: node %d is out of order, or out of bounds", n.Index)
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
