// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"math/bits"
	"slices"
)

// A pmap is a persistent map from hashes to numbers: a change makes a new map
// that shares all but one path with the old. A lookup visits sixteen nodes at
// most. Within one edit (a number that is unique to it) nodes are changed in
// place.
type pmap struct {
	root *pmapNode
}

// A pmapNode branches sixteen ways on four bits of the key: few enough that the
// copy of a path is a few hundred octets. Branches are packed: bit k of held
// says whether branch k holds an entry, bit k of split whether it holds a node.
// Entries lie apart from nodes, where the garbage collector need not look.
type pmapNode struct {
	edit        uint64
	held, split uint16
	entries     []pmapEntry
	nodes       []*pmapNode
}

type pmapEntry struct {
	key   uint64
	value uint32
}

const pmapBits = 4

// branch returns the bit of the branch that a key takes at a node.
func branch(key uint64, shift uint) uint16 { return 1 << (key >> shift & (1<<pmapBits - 1)) }

// place returns where in a packed list the branch of a bit is.
func place(in, bit uint16) int { return bits.OnesCount16(in & (bit - 1)) }

func (m pmap) get(key uint64) (uint32, bool) {
	n := m.root
	for shift := uint(0); n != nil; shift += pmapBits {
		bit := branch(key, shift)
		if n.split&bit != 0 {
			n = n.nodes[place(n.split, bit)]
			continue
		}
		if n.held&bit != 0 {
			if e := &n.entries[place(n.held, bit)]; e.key == key {
				return e.value, true
			}
		}
		break
	}
	return 0, false
}

// set returns a map in which key has the value.
func (m pmap) set(key uint64, value uint32, edit uint64) pmap {
	return pmap{m.root.set(key, value, 0, edit)}
}

// mutable returns n when it belongs to the edit, or else a copy that does, with
// room for one more entry.
func (n *pmapNode) mutable(edit uint64) *pmapNode {
	if n.edit == edit {
		return n
	}
	entries := append(make([]pmapEntry, 0, len(n.entries)+1), n.entries...)
	return &pmapNode{edit, n.held, n.split, entries, slices.Clone(n.nodes)}
}

func (n *pmapNode) set(key uint64, value uint32, shift uint, edit uint64) *pmapNode {
	if n == nil {
		n = &pmapNode{edit: edit}
	}
	n = n.mutable(edit)
	bit := branch(key, shift)
	at := place(n.held, bit)
	switch {
	case n.split&bit != 0:
		sub := &n.nodes[place(n.split, bit)]
		*sub = (*sub).set(key, value, shift+pmapBits, edit)
	case n.held&bit == 0:
		n.entries = slices.Insert(n.entries, at, pmapEntry{key, value})
		n.held |= bit
	case n.entries[at].key == key:
		n.entries[at].value = value
	default:
		// Two keys share the branch: they part further down, since they differ.
		old := n.entries[at]
		sub := (*pmapNode)(nil).set(old.key, old.value, shift+pmapBits, edit)
		n.entries = slices.Delete(n.entries, at, at+1)
		n.held &^= bit
		n.nodes = slices.Insert(n.nodes, place(n.split, bit), sub.set(key, value, shift+pmapBits, edit))
		n.split |= bit
	}
	return n
}

// del returns a map without key.
func (m pmap) del(key uint64, edit uint64) pmap {
	if _, ok := m.get(key); !ok {
		return m
	}
	return pmap{m.root.del(key, 0, edit)}
}

// del removes a key that the node has. It returns nil when nothing is left.
func (n *pmapNode) del(key uint64, shift uint, edit uint64) *pmapNode {
	n = n.mutable(edit)
	bit := branch(key, shift)
	if n.held&bit != 0 {
		at := place(n.held, bit)
		n.entries = slices.Delete(n.entries, at, at+1)
		n.held &^= bit
	} else {
		at := place(n.split, bit)
		sub := n.nodes[at].del(key, shift+pmapBits, edit)
		n.nodes[at] = sub
		if sub != nil && (sub.split != 0 || len(sub.entries) > 1) {
			return n
		}
		n.nodes = slices.Delete(n.nodes, at, at+1)
		n.split &^= bit
		if sub != nil {
			// An entry without company needs no node.
			n.entries = slices.Insert(n.entries, place(n.held, bit), sub.entries[0])
			n.held |= bit
		}
	}
	if n.held|n.split == 0 {
		return nil
	}
	return n
}
