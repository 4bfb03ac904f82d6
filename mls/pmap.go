// SPDX-License-Identifier: Apache-2.0

package mls

import "math/bits"

// A pmap is a persistent map from hashes to numbers: a change makes a new map
// that shares all but one path with the old. A lookup visits a dozen nodes at
// most. Within one edit (a number that is unique to it) nodes are changed in
// place.
type pmap struct {
	root *pmapNode
}

// A pmapNode branches 32 ways on five bits of the key. Slots are packed: bit k
// of used says whether branch k exists; of branches that exist, bit k of inner
// says whether it holds a node or an entry.
type pmapNode struct {
	used, inner uint32
	edit        uint64
	slots       []pmapSlot
}

type pmapSlot struct {
	node  *pmapNode
	key   uint64
	value uint32
}

func (m pmap) get(key uint64) (uint32, bool) {
	n := m.root
	for shift := uint(0); n != nil; shift += 5 {
		bit := uint32(1) << (key >> shift & 31)
		if n.used&bit == 0 {
			return 0, false
		}
		s := &n.slots[bits.OnesCount32(n.used&(bit-1))]
		if n.inner&bit == 0 {
			if s.key != key {
				return 0, false
			}
			return s.value, true
		}
		n = s.node
	}
	return 0, false
}

// set returns a map in which key has the value.
func (m pmap) set(key uint64, value uint32, edit uint64) pmap {
	return pmap{m.root.set(key, value, 0, edit)}
}

func (n *pmapNode) mutable(edit uint64) *pmapNode {
	if n.edit == edit {
		return n
	}
	c := *n
	c.edit = edit
	c.slots = append(make([]pmapSlot, 0, len(n.slots)+1), n.slots...)
	return &c
}

func (n *pmapNode) set(key uint64, value uint32, shift uint, edit uint64) *pmapNode {
	if n == nil {
		n = &pmapNode{edit: edit}
	}
	n = n.mutable(edit)
	bit := uint32(1) << (key >> shift & 31)
	at := bits.OnesCount32(n.used & (bit - 1))
	switch {
	case n.used&bit == 0:
		n.slots = append(n.slots, pmapSlot{})
		copy(n.slots[at+1:], n.slots[at:])
		n.slots[at] = pmapSlot{key: key, value: value}
		n.used |= bit
	case n.inner&bit != 0:
		n.slots[at].node = n.slots[at].node.set(key, value, shift+5, edit)
	case n.slots[at].key == key:
		n.slots[at].value = value
	default:
		// Two keys share the branch: they part further down, since they differ.
		old := n.slots[at]
		sub := (*pmapNode)(nil).set(old.key, old.value, shift+5, edit)
		n.slots[at] = pmapSlot{node: sub.set(key, value, shift+5, edit)}
		n.inner |= bit
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

func (n *pmapNode) del(key uint64, shift uint, edit uint64) *pmapNode {
	n = n.mutable(edit)
	bit := uint32(1) << (key >> shift & 31)
	at := bits.OnesCount32(n.used & (bit - 1))
	if n.inner&bit != 0 {
		sub := n.slots[at].node.del(key, shift+5, edit)
		switch {
		case sub == nil:
		case len(sub.slots) == 1 && sub.inner == 0:
			n.slots[at] = sub.slots[0]
			n.inner &^= bit
			return n
		default:
			n.slots[at].node = sub
			return n
		}
		n.inner &^= bit
	}
	n.slots = append(n.slots[:at], n.slots[at+1:]...)
	n.used &^= bit
	if n.used == 0 {
		return nil
	}
	return n
}
