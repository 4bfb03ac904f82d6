// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"errors"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// TestPersistentMap makes random edits of random earlier versions, some of which
// come to nothing, and compares all that it kept with maps of Go.
func TestPersistentMap(t *testing.T) {
	type version struct {
		m    pmap
		want map[uint64]uint32
	}
	rng := rand.New(rand.NewPCG(7, 7))
	key := func() uint64 {
		switch k := 1 + rng.Uint64N(500); rng.IntN(3) {
		case 0:
			return k // they all want the first slot
		case 1:
			return ^k // they all want the last
		default:
			return bits.RotateLeft64(k, 50)
		}
	}
	versions := []version{{}}
	for step := range 3000 {
		from := versions[rng.IntN(len(versions))]
		next := version{from.m, map[uint64]uint32{}}
		for k, v := range from.want {
			next.want[k] = v
		}
		next.m.edit(rng.IntN(20))
		for range rng.IntN(20) {
			k, v := key(), rng.Uint32()
			next.m.set(k, v)
			next.want[k] = v
			if got, ok := next.m.get(k); !ok || got != v {
				t.Fatalf("step %d: key %#x is %d %v during the edit, want %d", step, k, got, ok, v)
			}
		}
		next.m.settle(0)
		switch {
		case rng.IntN(4) == 0: // discarded
		case len(versions) < 8:
			versions = append(versions, next)
		default:
			versions[rng.IntN(len(versions))] = next
		}
		for _, v := range versions {
			for range 20 {
				k := key()
				want, in := v.want[k]
				if got, ok := v.m.get(k); ok != in || got != want {
					t.Fatalf("step %d: key %#x is %d %v, want %d %v", step, k, got, ok, want, in)
				}
			}
			if got, most := len(v.m.tables), 1+bits.Len(uint(len(v.want))); got > most {
				t.Fatalf("step %d: %d tables for %d keys", step, got, len(v.want))
			}
		}
	}
}

// TestPersistentMapOfPlaces gives places, of which there are more and fewer, new
// keys, and old ones, without end.
func TestPersistentMapOfPlaces(t *testing.T) {
	for _, most := range []uint32{1, 40, 3000} {
		rng := rand.New(rand.NewPCG(8, uint64(most)))
		var m pmap
		want := make([]uint64, most)
		places := most
		for step := range 4000 {
			if step%500 == 499 {
				places = 1 + rng.Uint32N(most)
				clear(want[places:])
			}
			if step%100 == 50 {
				m.order = math.MaxUint32 - 100 // as after very many commits
			}
			m.edit(14)
			for range 14 {
				place, key := rng.Uint32N(places), max(1, rng.Uint64())
				if old := want[rng.Uint32N(places)]; old != 0 && rng.IntN(4) == 0 {
					place = uint32(slices.Index(want, old)) // again
					key = old
				}
				m.set(key, place)
				want[place] = key
			}
			m.settle(int(places))
			for range 10 {
				place := rng.Uint32N(places)
				if key := want[place]; key != 0 {
					if got, ok := m.get(key); !ok || got != place {
						t.Fatalf("step %d: the key of place %d stands in %d %v", step, place, got, ok)
					}
				}
			}
			entries := 0
			for _, table := range m.tables {
				entries += table.n
			}
			if entries > 2*int(most)+28 {
				t.Fatalf("step %d: %d entries for %d places", step, entries, most)
			}
		}
	}
}

// TestTreeIndex makes random edits of random earlier trees, with keys that stand
// in the tree, stood there once, or are new, and compares what the index says, of
// the outcome and of the earlier trees, with what the nodes hold.
func TestTreeIndex(t *testing.T) {
	for seed, members := range []uint32{1, 6, 6, 200} {
		testTreeIndex(t, rand.New(rand.NewPCG(9, uint64(seed))), members)
	}
}

func testTreeIndex(t *testing.T, rng *rand.Rand, members uint32) {
	s := testSuite(t)
	leaf := func(encryption, signature uint32) *LeafNode {
		l := testLeaf(encryption)
		l.SignatureKey = testLeaf(signature).SignatureKey
		return l
	}
	e := newRatchetTree(s, leaf(0, 0)).edit()
	for i := uint32(1); i < members; i++ {
		e.addLeaf(leaf(i, i))
	}
	first, err := e.finish()
	if err != nil {
		t.Fatal(err)
	}
	pool := 6*members + 20
	doubled, moved := 0, 0
	versions := []*ratchetTree{first}
	for range 1500 {
		from := versions[rng.IntN(len(versions))]
		// Trees are read while others come from them.
		var reading sync.WaitGroup
		if old := versions[rng.IntN(len(versions))]; rng.IntN(20) == 0 {
			reading.Go(func() { compareIndex(t, old, pool) })
		}
		e := from.edit()
		// Mostly a key that is not in use, be it that it once was.
		key := func(kind keyKind) uint32 {
			for {
				n := rng.Uint32N(pool)
				if _, held := e.holderOf(kind, keyOf(kind, n)); !held || rng.IntN(30) == 0 {
					return n
				}
			}
		}
		newLeaf := func() *LeafNode { return leaf(key(encryptionKeyKind), key(signatureKeyKind)) }
		for range 1 + rng.IntN(3) {
			victim := LeafIndex(rng.Uint32N(e.t.width))
			old := e.t.leaf(victim)
			switch op := rng.IntN(6); {
			case op == 0 && e.t.width <= 2*members:
				e.addLeaf(newLeaf())
			case op == 1 && old != nil && e.t.memberCount() > 1:
				e.removeLeaf(victim)
			case op == 2 && old != nil:
				e.updateLeaf(victim, newLeaf())
			case op == 3 && old != nil: // two leaves change places
				if other := LeafIndex(rng.Uint32N(e.t.width)); other != victim && e.t.leaf(other) != nil {
					moved++
					l := e.t.leaf(other)
					e.updateLeaf(other, old)
					e.updateLeaf(victim, l)
				}
			case old != nil:
				steps := e.t.filteredPath(victim)
				nodes := make([]UpdatePathNode, len(steps))
				for k := range nodes {
					nodes[k].EncryptionKey = keyOf(encryptionKeyKind, key(encryptionKeyKind))
				}
				e.setPath(victim, steps, nodes)
				e.setLeaf(victim, newLeaf())
			}
		}
		for range 10 {
			kind, n := keyKind(rng.IntN(2)), rng.Uint32N(pool)
			at, ok := e.holderOf(kind, keyOf(kind, n))
			if holders := keyHolders(&e.t, kind)[string(keyOf(kind, n))]; ok != (len(holders) > 0) || ok && !slices.Contains(holders, at) {
				t.Fatalf("during the edit a key stands in %d %v, want one of %v", at, ok, holders)
			}
		}
		var double bool
		for _, kind := range []keyKind{encryptionKeyKind, signatureKeyKind} {
			for _, holders := range keyHolders(&e.t, kind) {
				double = double || len(holders) > 1
			}
		}
		next, err := e.finish()
		if double {
			doubled++
			var d *duplicateKeyError
			if !errors.As(err, &d) || d.a == d.b || string(e.t.keyAt(d.kind, d.a)) != string(e.t.keyAt(d.kind, d.b)) {
				t.Fatalf("two nodes have the same key, and the edit says %v", err)
			}
		} else if err != nil {
			t.Fatal(err)
		}
		reading.Wait()
		switch {
		case err != nil, rng.IntN(4) == 0: // discarded
			continue
		case len(versions) < 6:
			versions = append(versions, next)
		default:
			versions[rng.IntN(len(versions))] = next
		}
		if rng.IntN(10) == 0 {
			compareIndex(t, next, pool)
		}
	}
	for _, tree := range versions {
		compareIndex(t, tree, pool)
	}
	if doubled == 0 || moved == 0 && members > 1 {
		t.Errorf("%d edits made a key double, %d moved one", doubled, moved)
	}
}

// keyOf returns a key of testLeaf, also for a parent.
func keyOf(kind keyKind, n uint32) []byte {
	if kind == signatureKeyKind {
		return testLeaf(n).SignatureKey
	}
	return testLeaf(n).EncryptionKey
}

func keyHolders(tree *ratchetTree, kind keyKind) map[string][]nodeIndex {
	m := map[string][]nodeIndex{}
	for x := range nodeIndex(nodeWidth(tree.width)) {
		if key := tree.keyAt(kind, x); key != nil {
			m[string(key)] = append(m[string(key)], x)
		}
	}
	return m
}

// compareIndex looks every key up that a tree may have.
func compareIndex(t *testing.T, tree *ratchetTree, pool uint32) {
	for _, kind := range []keyKind{encryptionKeyKind, signatureKeyKind} {
		holders := keyHolders(tree, kind)
		for n := range pool {
			key := keyOf(kind, n)
			at, ok := tree.holderOf(kind, key)
			if want := holders[string(key)]; ok != (len(want) == 1) || ok && at != want[0] {
				t.Errorf("key %d of kind %d stands in %d %v, want %v", n, kind, at, ok, want)
			}
		}
	}
}
