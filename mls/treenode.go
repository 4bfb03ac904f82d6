// SPDX-License-Identifier: Apache-2.0

// The nodes of a ratchet tree and their encoding (RFC 9420 §7.1, §12.4.3.3).
//
// The RFC numbers nodes as they stand in an array, leaves at even places:
//
//	            7
//	      3           11
//	   1     5     9      13
//	  0 2   4 6   8 10  12  14
//
// In memory they form a binary tree of immutable nodes, so that a changed tree
// shares all but the changed paths with the one it came from.

package mls

import (
	"fmt"
	"math/bits"
	"slices"
)

// A parentNode holds the key of a subtree (RFC 9420 §7.1).
type parentNode struct {
	encryptionKey  []byte
	parentHash     []byte
	unmergedLeaves []LeafIndex // strictly ascending

	// edit is the tree edit that may still append to unmergedLeaves.
	edit uint64
}

func readParentNode(r *reader) *parentNode {
	p := &parentNode{
		encryptionKey:  r.opaque(),
		parentHash:     r.opaque(),
		unmergedLeaves: readU32s[LeafIndex](r),
	}
	for i := 1; i < len(p.unmergedLeaves); i++ {
		if p.unmergedLeaves[i-1] >= p.unmergedLeaves[i] {
			r.fail(fmt.Errorf("mls: unmerged_leaves is not strictly ascending"))
			return nil
		}
	}
	return p
}

func (p *parentNode) appendTo(b []byte) []byte {
	b = appendOpaque(b, p.encryptionKey)
	b = appendOpaque(b, p.parentHash)
	return appendU32s(b, p.unmergedLeaves)
}

func (p *parentNode) encodedLen() int {
	n := 4 * len(p.unmergedLeaves)
	return varintLen(len(p.encryptionKey)) + len(p.encryptionKey) +
		varintLen(len(p.parentHash)) + len(p.parentHash) + varintLen(n) + n
}

// The node types of RFC 9420 §7.8.
const (
	nodeTypeLeaf   = 1
	nodeTypeParent = 2
)

// A treeNode is a node of the tree together with what lies below it. A node of
// level > 0 without children is a subtree in which every node is blank. Nodes
// are immutable once the edit that made them is finished.
type treeNode struct {
	left, right *treeNode
	leaf        *LeafNode   // level 0, nil when blank
	parent      *parentNode // level > 0, nil when blank
	hash        []byte      // tree hash; nil while the edit is not finished
	edit        uint64      // the edit that made the node

	leaves uint32 // non-blank leaves at or below
	filled uint32 // non-blank nodes at or below; 0: the resolution is empty
	size   uint32 // octets of the encodings of the nodes at and below
}

// blankSubtree returns a subtree of the level in which every node is blank.
func blankSubtree(level uint, edit uint64) *treeNode {
	return &treeNode{edit: edit, size: 1<<(level+1) - 1}
}

func (n *treeNode) isBlankSubtree() bool { return n.filled == 0 }

// children returns the children of a node of the given level, which it makes when
// the node stands for a blank subtree.
func (n *treeNode) children(level uint) (left, right *treeNode) {
	if n.left == nil {
		return blankSubtree(level-1, 0), blankSubtree(level-1, 0)
	}
	return n.left, n.right
}

// count recomputes the sums of a node from its children and its own content.
func (n *treeNode) count() {
	if n.left == nil { // a leaf, or a blank subtree, whose size stands
		n.leaves, n.filled = 0, 0
		if n.leaf != nil {
			n.leaves, n.filled = 1, 1
			n.size = 2 + uint32(len(n.leaf.Bytes()))
		}
		return
	}
	n.leaves = n.left.leaves + n.right.leaves
	n.filled = n.left.filled + n.right.filled
	n.size = n.left.size + n.right.size + 1
	if n.parent != nil {
		n.filled++
		n.size += 1 + uint32(n.parent.encodedLen())
	}
}

// joinSubtrees makes the parent of two subtrees. Blank ones collapse.
func joinSubtrees(left, right *treeNode, parent *parentNode, level uint, edit uint64) *treeNode {
	if parent == nil && left.isBlankSubtree() && right.isBlankSubtree() {
		return blankSubtree(level, edit)
	}
	n := &treeNode{left: left, right: right, parent: parent, edit: edit}
	n.count()
	return n
}

// appendNode writes optional<Node> of the node itself.
func (n *treeNode) appendNode(b []byte) []byte {
	switch {
	case n.leaf != nil:
		return n.leaf.appendTo(append(b, 1, nodeTypeLeaf))
	case n.parent != nil:
		return n.parent.appendTo(append(b, 1, nodeTypeParent))
	}
	return append(b, 0)
}

// appendSubtree writes the nodes of a subtree in array order.
func (n *treeNode) appendSubtree(b []byte) []byte {
	if n.left == nil {
		if n.leaf != nil {
			return n.appendNode(b)
		}
		return append(b, make([]byte, n.size)...)
	}
	b = n.left.appendSubtree(b)
	b = n.appendNode(b)
	return n.right.appendSubtree(b)
}

// A treeReader builds a tree from its nodes in array order without ever holding
// a blank node: pending[k] is a subtree of level k that waits, with its parent,
// for its right sibling.
type treeReader struct {
	pending [32]struct {
		left   *treeNode
		parent *parentNode
		used   bool
	}
	sub   *treeNode // the last complete subtree
	level uint      // its level
	next  uint32    // array index of the next node
	edit  uint64
}

func (t *treeReader) push(leaf *LeafNode, parent *parentNode) {
	i := t.next
	t.next++
	if i%2 == 0 {
		t.sub, t.level = &passingBlanks[0], 0
		if leaf != nil {
			t.sub = &treeNode{leaf: leaf, edit: t.edit}
			t.sub.count()
		}
		t.climb()
		return
	}
	p := &t.pending[t.level]
	p.left, p.parent, p.used = t.sub, parent, true
	t.sub = nil
}

// climb joins the last subtree with those that waited for it.
func (t *treeReader) climb() {
	for t.pending[t.level].used {
		p := &t.pending[t.level]
		t.sub = t.join(p.left, t.sub, p.parent)
		p.used = false
		t.level++
	}
}

// passingBlanks are blank subtrees that stand for others while a tree is read. A
// node of a tree has its own hash: they are replaced when they come to stay.
var passingBlanks = func() (list [33]treeNode) {
	for level := range list {
		list[level] = *blankSubtree(uint(level), 0)
	}
	return list
}()

// join joins subtrees of level t.level. A run of blank nodes costs no memory.
func (t *treeReader) join(left, right *treeNode, parent *parentNode) *treeNode {
	if parent == nil && left.isBlankSubtree() && right.isBlankSubtree() {
		return &passingBlanks[t.level+1]
	}
	return joinSubtrees(t.own(left), t.own(right), parent, t.level+1, t.edit)
}

func (t *treeReader) own(n *treeNode) *treeNode {
	if n == &passingBlanks[t.level] {
		return blankSubtree(t.level, t.edit)
	}
	return n
}

// finish fills up to a full tree with blank nodes.
func (t *treeReader) finish() (root *treeNode, level uint) {
	if t.sub == nil { // the last node was a parent
		t.sub = &passingBlanks[t.level]
		t.climb()
	}
	for slices.ContainsFunc(t.pending[t.level:], func(p struct {
		left   *treeNode
		parent *parentNode
		used   bool
	}) bool {
		return p.used
	}) {
		t.sub = t.join(t.sub, &passingBlanks[t.level], nil)
		t.level++
		t.climb()
	}
	return t.own(t.sub), t.level
}

// readRatchetTree reads optional<Node> ratchet_tree<V> (RFC 9420 §12.4.3.3).
// It refuses a tree that ends in a blank node, one with a leaf where a parent
// belongs, and one of more than maxLeaves leaves.
func readRatchetTree(r *reader, maxLeaves uint32, edit uint64) (root *treeNode, level uint) {
	v := r.vector()
	t := treeReader{edit: edit}
	blank := true
	for v.err == nil && len(v.b) > 0 {
		if uint64(t.next) > 2*uint64(maxLeaves)-2 {
			v.fail(&ValidationError{Rule: RuleTreeTooLarge, Reason: fmt.Sprintf("more than %d leaves", maxLeaves)})
			break
		}
		blank = !v.optional()
		if blank {
			t.push(nil, nil)
			continue
		}
		switch typ := v.u8(); {
		case typ == nodeTypeLeaf && t.next%2 == 0:
			if leaf := readLeafNode(&v); leaf != nil {
				t.push(leaf, nil)
			}
		case typ == nodeTypeParent && t.next%2 == 1:
			if p := readParentNode(&v); p != nil {
				t.push(nil, p)
			}
		default:
			v.fail(&ValidationError{Rule: RuleTreeShape, Reason: fmt.Sprintf("node %d has node_type %d", t.next, typ)})
		}
	}
	r.end(&v)
	if r.err != nil {
		return nil, 0
	}
	if t.next == 0 || blank {
		r.fail(&ValidationError{Rule: RuleTreeTrailingBlank, Reason: "the tree is empty or ends in a blank node"})
		return nil, 0
	}
	return t.finish()
}

// levelOf returns the level of the root of a tree of a power-of-two width.
func levelOf(width uint32) uint { return uint(bits.TrailingZeros32(width)) }
