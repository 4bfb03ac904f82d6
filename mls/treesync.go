// SPDX-License-Identifier: Apache-2.0

// What a joiner checks of a received tree (RFC 9420 §12.4.3.1, §7.9.2). The
// leaves' own validity (§7.3) is checked by validateLeaf in rules, together with
// that of leaves that come later.

package mls

import "slices"

// verifyStructure checks key, unmerged leaves and parent hash of every parent node.
// Uniqueness of keys was checked when the tree was built.
func (t *ratchetTree) verifyStructure() error {
	if err := t.verifyParentKeys(t.root, t.levels(), 0); err != nil {
		return err
	}
	v := treeVerifier{t: t}
	return v.verify(t.root, t.levels(), 0)
}

// verifyParentKeys checks that the keys of parents are keys: a joiner could not
// encrypt to others, nor commit.
func (t *ratchetTree) verifyParentKeys(n *treeNode, level uint, first LeafIndex) error {
	if level == 0 || n.filled == 0 {
		return nil
	}
	if n.parent != nil {
		if err := t.s.checkHPKEPublicKey(n.parent.encryptionKey); err != nil {
			return broken(RuleTreeKeyFormat, err, "node %d: encryption_key", parentAt(first, level))
		}
	}
	if err := t.verifyParentKeys(n.left, level-1, first); err != nil {
		return err
	}
	return t.verifyParentKeys(n.right, level-1, first+1<<(level-1))
}

type treeVerifier struct {
	t    *ratchetTree
	list []nodeIndex // scratch space of candidate
	buf  []byte      // scratch space of the hashes
}

func (v *treeVerifier) verify(n *treeNode, level uint, first LeafIndex) error {
	if level == 0 || n.filled == 0 {
		return nil
	}
	at := nodeIndex(first)*2 + 1<<level - 1
	if n.parent != nil {
		if err := v.verifyUnmerged(n, level, first, at); err != nil {
			return err
		}
		if err := v.verifyParentHash(n, level, first, at); err != nil {
			return err
		}
	}
	if err := v.verify(n.left, level-1, first); err != nil {
		return err
	}
	return v.verify(n.right, level-1, first+1<<(level-1))
}

// verifyUnmerged checks that each unmerged leaf of a parent is a non-blank leaf
// below it, and is listed by every non-blank parent between the two.
func (v *treeVerifier) verifyUnmerged(n *treeNode, level uint, first LeafIndex, at nodeIndex) error {
	for _, l := range n.parent.unmergedLeaves {
		if l < first || uint64(l) >= uint64(first)+1<<level {
			return invalid(RuleTreeUnmergedLeaf, "node %d: unmerged leaf %d is no descendant", at, l)
		}
	}
	return n.verifyUnmergedBelow(n.parent.unmergedLeaves, level, first, at)
}

// verifyUnmergedBelow walks down to the given leaves.
func (n *treeNode) verifyUnmergedBelow(list []LeafIndex, level uint, first LeafIndex, top nodeIndex) error {
	if len(list) == 0 {
		return nil
	}
	if n.leaves == 0 || level == 0 && n.leaf == nil {
		return invalid(RuleTreeUnmergedLeaf, "node %d: unmerged leaf %d is blank", top, list[0])
	}
	if level == 0 {
		return nil
	}
	if at := nodeIndex(first)*2 + 1<<level - 1; n.parent != nil && at != top {
		if l, ok := n.parent.lacksUnmerged(list); ok {
			return invalid(RuleTreeUnmergedPath, "node %d lists leaf %d as unmerged, node %d below it does not", top, l, at)
		}
		// The node's own list holds these leaves and is checked itself.
		return nil
	}
	middle := first + 1<<(level-1)
	low, high := splitLeaves(list, middle)
	if err := n.left.verifyUnmergedBelow(low, level-1, first, top); err != nil {
		return err
	}
	return n.right.verifyUnmergedBelow(high, level-1, middle, top)
}

// lacksUnmerged returns a leaf of an ascending list that p does not list.
func (p *parentNode) lacksUnmerged(list []LeafIndex) (LeafIndex, bool) {
	have := p.unmergedLeaves
	for _, l := range list {
		for len(have) > 0 && have[0] < l {
			have = have[1:]
		}
		if len(have) == 0 || have[0] != l {
			return l, true
		}
	}
	return 0, false
}

// verifyParentHash checks that exactly one node below a parent was set together
// with it (RFC 9420 §7.9.2, "top down").
func (v *treeVerifier) verifyParentHash(n *treeNode, level uint, first LeafIndex, at nodeIndex) error {
	middle := first + 1<<(level-1)
	low, high := splitLeaves(n.parent.unmergedLeaves, middle)
	half := nodeIndex(1) << (level - 1)
	valid := 0
	if v.chains(n, n.left, at-half, low, n.right, middle, high, level) {
		valid++
	}
	if v.chains(n, n.right, at+half, high, n.left, first, low, level) {
		valid++
	}
	if valid != 1 {
		return invalid(RuleTreeParentHash, "node %d: %d of its children have its parent hash, want 1", at, valid)
	}
	return nil
}

// chains reports whether a node in the resolution of the child was set together
// with the parent n: the resolution without it is the child's share of the
// parent's unmerged leaves, and it holds the parent hash of n with the sibling.
func (v *treeVerifier) chains(n, child *treeNode, childAt nodeIndex, unmerged []LeafIndex,
	sibling *treeNode, siblingFirst LeafIndex, siblingUnmerged []LeafIndex, level uint) bool {
	held := v.candidate(child, childAt, unmerged)
	if len(held) == 0 {
		return false
	}
	original := sibling.originalHash(v.t.s, level-1, siblingFirst, siblingUnmerged, &v.buf)
	return string(parentHash(v.t.s, n.parent, original)) == string(held)
}

// candidate returns the parent hash of the one node of a child's resolution that
// is not among the given unmerged leaves. It is empty when the resolution is not
// made of such a node and all of these leaves.
func (v *treeVerifier) candidate(child *treeNode, childAt nodeIndex, unmerged []LeafIndex) []byte {
	limit := len(unmerged) + 1
	v.list = v.list[:0]
	if !v.resolve(child, childAt, limit) || len(v.list) != limit {
		return nil
	}
	var node *treeNode
	for _, at := range v.list {
		if l, isLeaf := at.leaf(); isLeaf && containsLeaf(unmerged, l) {
			continue
		}
		if node != nil {
			return nil
		}
		node = v.t.node(at)
	}
	switch {
	case node == nil:
		return nil
	case node.leaf != nil:
		return node.leaf.ParentHash
	}
	return node.parent.parentHash
}

func containsLeaf(ascending []LeafIndex, l LeafIndex) bool {
	_, found := slices.BinarySearch(ascending, l)
	return found
}

// resolve collects a resolution and gives up when it has more than limit nodes.
func (v *treeVerifier) resolve(n *treeNode, at nodeIndex, limit int) bool {
	switch {
	case n.filled == 0:
		return true
	case n.leaf != nil:
		v.list = append(v.list, at)
	case n.parent != nil:
		v.list = append(v.list, at)
		if len(v.list)+len(n.parent.unmergedLeaves) > limit {
			return false
		}
		for _, l := range n.parent.unmergedLeaves {
			v.list = append(v.list, l.node())
		}
	default:
		half := nodeIndex(1) << (at.level() - 1)
		return v.resolve(n.left, at-half, limit) && v.resolve(n.right, at+half, limit)
	}
	return len(v.list) <= limit
}
