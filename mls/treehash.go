// SPDX-License-Identifier: Apache-2.0

// Tree hashes and parent hashes (RFC 9420 §7.8, §7.9).

package mls

// rehash computes the hashes that the edit cleared.
func (e *treeEdit) rehash() {
	var buf []byte
	e.t.root.computeHash(e.t.s, e.t.levels(), 0, &buf)
}

// treeHash returns the tree hash of the root.
func (t *ratchetTree) treeHash() []byte { return t.root.hash }

// computeHash fills in the missing hashes of a subtree. first is its first leaf.
// buf is scratch space.
func (n *treeNode) computeHash(s *suite, level uint, first LeafIndex, buf *[]byte) {
	if n.hash != nil {
		return
	}
	if level == 0 {
		n.hash = hashLeaf(s, first, n.leaf, buf)
		return
	}
	if n.left == nil {
		n.hash = hashBlankSubtree(s, level, first, buf)
		return
	}
	n.left.computeHash(s, level-1, first, buf)
	n.right.computeHash(s, level-1, first+1<<(level-1), buf)
	n.hash = hashParent(s, n.parent, n.left.hash, n.right.hash, buf)
}

func hashBlankSubtree(s *suite, level uint, first LeafIndex, buf *[]byte) []byte {
	// Half a million blank nodes may take a few octets of a stranger's each: their
	// hashes need no memory.
	var scratch [33]hashBuf
	s.blankHash(level, first, buf, &scratch)
	return append([]byte(nil), scratch[level][:s.nh]...)
}

// blankHash puts the hash of a blank subtree into scratch[level].
func (s *suite) blankHash(level uint, first LeafIndex, buf *[]byte, scratch *[33]hashBuf) {
	if level == 0 {
		*buf = append(appendU32(append((*buf)[:0], nodeTypeLeaf), uint32(first)), 0)
		s.kdf.sum(&scratch[0], *buf)
		return
	}
	s.blankHash(level-1, first, buf, scratch)
	left := scratch[level-1]
	s.blankHash(level-1, first+1<<(level-1), buf, scratch)
	b := append((*buf)[:0], nodeTypeParent, 0)
	*buf = appendOpaque(appendOpaque(b, left[:s.nh]), scratch[level-1][:s.nh])
	s.kdf.sum(&scratch[level], *buf)
}

// hashLeaf hashes TreeHashInput of a leaf (RFC 9420 §7.8).
func hashLeaf(s *suite, i LeafIndex, leaf *LeafNode, buf *[]byte) []byte {
	b := appendU32(append((*buf)[:0], nodeTypeLeaf), uint32(i))
	if leaf == nil {
		b = append(b, 0)
	} else {
		b = leaf.appendTo(append(b, 1))
	}
	*buf = b
	return s.hash(b)
}

// hashParent hashes TreeHashInput of a parent (RFC 9420 §7.8).
func hashParent(s *suite, p *parentNode, left, right []byte, buf *[]byte) []byte {
	b := append((*buf)[:0], nodeTypeParent)
	if p == nil {
		b = append(b, 0)
	} else {
		b = p.appendTo(append(b, 1))
	}
	b = appendOpaque(appendOpaque(b, left), right)
	*buf = b
	return s.hash(b)
}

// parentHash returns the parent hash of a node with a copath child
// (RFC 9420 §7.9). siblingHash is the original_sibling_tree_hash.
func parentHash(s *suite, p *parentNode, siblingHash []byte) []byte {
	var buf [256]byte
	b := appendOpaque(buf[:0], p.encryptionKey)
	b = appendOpaque(b, p.parentHash)
	return s.hash(appendOpaque(b, siblingHash))
}

// originalHash returns the tree hash of a subtree as it was before the given
// leaves, which lie in it, were added: they count as blank, and no node lists
// them as unmerged (RFC 9420 §7.9). It visits only nodes above these leaves.
func (n *treeNode) originalHash(s *suite, level uint, first LeafIndex, without []LeafIndex, buf *[]byte) []byte {
	if len(without) == 0 {
		return n.hash
	}
	if level == 0 {
		return hashLeaf(s, first, nil, buf)
	}
	left, right := n.children(level)
	if n.left == nil {
		return n.hash // blank: there is nothing to take away
	}
	middle := first + 1<<(level-1)
	low, high := splitLeaves(without, middle)
	lh := left.originalHash(s, level-1, first, low, buf)
	rh := right.originalHash(s, level-1, middle, high, buf)
	p := n.parent
	if p != nil {
		p = p.withoutUnmerged(without)
	}
	return hashParent(s, p, lh, rh, buf)
}

// splitLeaves divides an ascending list at the first leaf that is not below
// middle.
func splitLeaves(list []LeafIndex, middle LeafIndex) (low, high []LeafIndex) {
	for i, l := range list {
		if l >= middle {
			return list[:i], list[i:]
		}
	}
	return list, nil
}

// withoutUnmerged returns p without the given unmerged leaves; both lists
// ascend.
func (p *parentNode) withoutUnmerged(without []LeafIndex) *parentNode {
	q := &parentNode{encryptionKey: p.encryptionKey, parentHash: p.parentHash}
	for _, l := range p.unmergedLeaves {
		for len(without) > 0 && without[0] < l {
			without = without[1:]
		}
		if len(without) == 0 || without[0] != l {
			q.unmergedLeaves = append(q.unmergedLeaves, l)
		}
	}
	return q
}
