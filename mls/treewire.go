// SPDX-License-Identifier: Apache-2.0

// The ratchet tree on the wire, whole and in pages (RFC 9420 §12.4.3.3).

package mls

import "slices"

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
	e.given = make([]keyGiven, 0, e.t.root.filled+e.t.root.leaves)
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
