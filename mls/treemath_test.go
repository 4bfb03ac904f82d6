// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// The paths, checked against their definitions in RFC 9420 §4.1.
func TestTreeMathPaths(t *testing.T) {
	for n := uint32(1); n <= 64; n *= 2 {
		for x := range nodeIndex(nodeWidth(n)) {
			direct, co := x.directPath(n), x.copath(n)
			if len(direct) != len(co) {
				t.Fatalf("%d leaves, node %d: direct path %v, copath %v", n, x, direct, co)
			}
			if want := int(root(n).level() - x.level()); len(direct) != want {
				t.Fatalf("%d leaves, node %d: direct path %v, want %d nodes", n, x, direct, want)
			}
			below := x
			for i, p := range direct {
				l, okL := p.left()
				r, okR := p.right()
				if !okL || !okR || l >= p || r <= p {
					t.Fatalf("node %d has children %d, %d", p, l, r)
				}
				if !(l == below && r == co[i] || r == below && l == co[i]) {
					t.Fatalf("%d leaves, node %d: %d above %d has the other child %d, copath says %d", n, x, p, below, l^r^below, co[i])
				}
				if got, ok := below.parent(n); !ok || got != p {
					t.Fatalf("parent(%d) = %d, %v", below, got, ok)
				}
				below = p
			}
			if len(direct) > 0 && below != root(n) {
				t.Fatalf("%d leaves, node %d: the direct path ends at %d", n, x, below)
			}
		}
	}
}

func TestTreeMathCommonAncestor(t *testing.T) {
	const n = 32
	for x := range nodeIndex(nodeWidth(n)) {
		for y := range nodeIndex(nodeWidth(n)) {
			onX := append([]nodeIndex{x}, x.directPath(n)...)
			onY := append([]nodeIndex{y}, y.directPath(n)...)
			want := onX[slices.IndexFunc(onX, func(a nodeIndex) bool { return slices.Contains(onY, a) })]
			if got := commonAncestor(x, y); got != want {
				t.Fatalf("commonAncestor(%d, %d) = %d, want %d", x, y, got, want)
			}
			if got, want := x.isInSubtree(y), slices.Contains(onX, y); got != want {
				t.Fatalf("%d.isInSubtree(%d) = %v", x, y, got)
			}
		}
	}
}

func TestTreeSize(t *testing.T) {
	for n, want := range map[uint32]uint32{0: 1, 1: 1, 2: 2, 3: 4, 4: 4, 5: 8, 1000: 1024, 1 << 30: 1 << 30, 1<<30 + 1: 1 << 31, 1 << 31: 1 << 31} {
		if got, ok := treeSize(n); !ok || got != want {
			t.Errorf("treeSize(%d) = %d, %v, want %d", n, got, ok, want)
		}
	}
	if _, ok := treeSize(1<<31 + 1); ok {
		t.Error("a tree of more than 2^31 leaves")
	}
}

// Indices come from strangers: none may panic, whatever the tree.
func TestTreeMathOutOfRange(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	nodes := []nodeIndex{0, 1, 2, 14, 15, 16, 1 << 30, 1<<31 - 1, 1 << 31, 1<<32 - 2, 1<<32 - 1}
	for range 1000 {
		nodes = append(nodes, nodeIndex(rng.Uint32()))
	}
	for _, n := range []uint32{1, 2, 8, 1 << 20, 1 << 31} {
		for _, x := range nodes {
			p, hasParent := x.parent(n)
			_, hasSibling := x.sibling(n)
			inside := uint64(x) < 2*uint64(n)-1
			if hasParent != (inside && x != root(n)) || hasSibling != hasParent {
				t.Errorf("%d leaves, node %d: parent %v, sibling %v", n, x, hasParent, hasSibling)
			}
			if hasParent && !p.inTree(n) {
				t.Errorf("%d leaves: parent of %d is %d, outside", n, x, p)
			}
			if got := len(x.directPath(n)); !inside && got != 0 || got > maxTreeDepth {
				t.Errorf("%d leaves: direct path of %d has %d nodes", n, x, got)
			}
			x.copath(n)
			x.left()
			x.right()
			x.subtree()
			if LeafIndex(x).inTree(n) && !LeafIndex(x).node().inTree(n) {
				t.Errorf("%d leaves: leaf %d is node %d, outside", n, x, LeafIndex(x).node())
			}
		}
	}
}
