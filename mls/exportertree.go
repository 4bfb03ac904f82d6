// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"errors"
	"maps"
	"slices"
)

// An exporterTree holds the exported secrets of components
// (draft-ietf-mls-extensions, Exported Secrets): a secret tree of 2^16 leaves, one
// for each component. A secret that was taken cannot be derived again.
type exporterTree struct {
	redacted
	s     *suite
	nodes map[nodeIndex][]byte
}

const exporterLeaves = 1 << 16

func newExporterTree(s *suite, epochSecret []byte) *exporterTree {
	return &exporterTree{s: s, nodes: map[nodeIndex][]byte{
		root(exporterLeaves): s.deriveSecret(epochSecret, "application_export"),
	}}
}

// ErrExported says that a component's secret was exported before.
var ErrExported = errors.New("mls: the secret of this component was exported before")

// take returns the secret of a component and punctures the tree.
func (t *exporterTree) take(id ComponentID) ([]byte, error) {
	leaf := LeafIndex(id).node()
	x := leaf
	for t.nodes[x] == nil {
		if x == root(exporterLeaves) {
			return nil, ErrExported
		}
		x = x.parentStep()
	}
	for x != leaf {
		secret := t.nodes[x]
		l, _ := x.left()
		r, _ := x.right()
		t.nodes[l] = t.s.expandWithLabel(secret, "tree", []byte("left"), t.s.nh)
		t.nodes[r] = t.s.expandWithLabel(secret, "tree", []byte("right"), t.s.nh)
		delete(t.nodes, x)
		wipe(secret)
		if x = r; leaf.isInSubtree(l) {
			x = l
		}
	}
	secret := t.nodes[leaf]
	delete(t.nodes, leaf)
	return secret, nil
}

func (t *exporterTree) wipe() {
	for _, secret := range t.nodes {
		wipe(secret)
	}
	clear(t.nodes)
}

func (t *exporterTree) appendTo(b []byte) []byte {
	return appendVector(b, slices.Sorted(maps.Keys(t.nodes)), func(b []byte, x nodeIndex) []byte {
		return appendOpaque(appendU32(b, uint32(x)), t.nodes[x])
	})
}

func readExporterTree(r *reader, s *suite) *exporterTree {
	t := &exporterTree{s: s, nodes: make(map[nodeIndex][]byte)}
	readVector(r, func(r *reader) struct{} {
		x := nodeIndex(r.u32())
		t.nodes[x] = append([]byte(nil), r.opaque()...)
		return struct{}{}
	})
	return t
}
