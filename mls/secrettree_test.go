// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
)

// testEncryptionSecret is the same for every tree of a suite.
func testEncryptionSecret(s *suite) []byte {
	return s.hash([]byte("encryption secret"))
}

func testSecretTree(s *suite, nLeaves uint32) *secretTree {
	return newSecretTree(s, testEncryptionSecret(s), nLeaves)
}

// referenceSecrets computes the secret tree as RFC 9420 §9 writes it, from the
// root each time: node secret, then ratchet secret, key and nonce of a
// generation.
func referenceNode(s *suite, nLeaves uint32, x nodeIndex) []byte {
	if x == root(nLeaves) {
		return testEncryptionSecret(s)
	}
	p, _ := x.parent(nLeaves)
	side := "right"
	if l, _ := p.left(); l == x {
		side = "left"
	}
	return s.expandWithLabel(referenceNode(s, nLeaves, p), "tree", []byte(side), s.nh)
}

func referenceRatchet(s *suite, nLeaves uint32, leaf LeafIndex, kind ratchetKind, generation uint32) (secret, key, nonce []byte) {
	secret = s.expandWithLabel(referenceNode(s, nLeaves, leaf.node()), kind.String(), nil, s.nh)
	for g := range generation {
		secret = s.deriveTreeSecret(secret, "secret", g, s.nh)
	}
	return secret, s.deriveTreeSecret(secret, "key", generation, s.nk), s.deriveTreeSecret(secret, "nonce", generation, s.nn)
}

// receive peeks and consumes one key.
func receive(t *testing.T, tree *secretTree, leaf LeafIndex, kind ratchetKind, generation uint32) (key, nonce []byte) {
	t.Helper()
	m, err := tree.peek(leaf, kind, generation)
	if err != nil {
		t.Fatalf("leaf %d %v generation %d: %v", leaf, kind, generation, err)
	}
	key, nonce = bytes.Clone(m.key()), bytes.Clone(m.nonce())
	if err := tree.consume(m); err != nil {
		t.Fatalf("leaf %d %v generation %d: %v", leaf, kind, generation, err)
	}
	return key, nonce
}

func wantConsumed(t *testing.T, tree *secretTree, leaf LeafIndex, kind ratchetKind, generation uint32) {
	t.Helper()
	if m, err := tree.peek(leaf, kind, generation); !errors.Is(err, ErrReplay) {
		t.Errorf("leaf %d %v generation %d can be derived again: %v, %v", leaf, kind, generation, m, err)
	}
}

// A random order of sends, arrivals, clones and restarts gives the keys that
// the definition gives, each once.
func TestSecretTreeModel(t *testing.T) {
	for _, cs := range []CipherSuite{1, 4, 7} {
		s := mustSuite(t, cs)
		for seed := range uint64(8) {
			rng := rand.New(rand.NewPCG(seed, uint64(cs)))
			n := []uint32{1, 2, 5, 16, 100}[rng.IntN(5)]
			size, _ := treeSize(n)
			tree := testSecretTree(s, n)
			saved := tree.appendTo(nil)
			tree.markSaved()
			type key struct {
				leaf LeafIndex
				kind ratchetKind
				gen  uint32
			}
			consumed := map[key]bool{}
			for step := range 150 {
				k := key{LeafIndex(rng.Uint32N(n)), ratchetKind(rng.IntN(2)), rng.Uint32N(12)}
				m, err := tree.peek(k.leaf, k.kind, k.gen)
				if consumed[k] {
					if !errors.Is(err, ErrReplay) {
						t.Fatalf("seed %d step %d: %v came twice: %v", seed, step, k, err)
					}
					continue
				}
				if err != nil {
					t.Fatalf("seed %d step %d: %v: %v", seed, step, k, err)
				}
				_, wantKey, wantNonce := referenceRatchet(s, size, k.leaf, k.kind, k.gen)
				wantBytes(t, "key", m.key(), wantKey)
				wantBytes(t, "nonce", m.nonce(), wantNonce)
				switch rng.IntN(4) {
				case 0:
					m.wipe() // forged: nothing may change
				case 1: // another message of the sender is accepted first
					o := key{k.leaf, k.kind, rng.Uint32N(12)}
					other, err := tree.peek(o.leaf, o.kind, o.gen)
					if err == nil && o != k {
						if err := tree.consume(other); err != nil {
							t.Fatal(err)
						}
						consumed[o] = true
					}
					fallthrough
				default:
					if err := tree.consume(m); err != nil {
						t.Fatalf("seed %d step %d: %v: %v", seed, step, k, err)
					}
					consumed[k] = true
				}
				switch rng.IntN(6) {
				case 0:
					tree = tree.clone()
				case 1: // save a delta, restart
					delta := tree.appendChanges(nil)
					whole := tree.appendTo(nil)
					restored, err := restoreSecretTree(s, saved)
					if err != nil {
						t.Fatal(err)
					}
					if err := restored.applyChanges(delta); err != nil {
						t.Fatal(err)
					}
					wantBytes(t, "state from the delta", restored.appendTo(nil), whole)
					if tree, err = restoreSecretTree(s, whole); err != nil {
						t.Fatal(err)
					}
					wantBytes(t, "state restored", tree.appendTo(nil), whole)
					if tree.root.skipped != restored.root.skipped {
						t.Fatalf("skipped keys: %d and %d", tree.root.skipped, restored.root.skipped)
					}
					saved = whole
				}
				count := 0
				for x := range nodeIndex(nodeWidth(size)) {
					if nd := tree.at(x); x.isLeaf() && nd != nil && nd.leaf != nil {
						count += len(nd.leaf[0].skipped) + len(nd.leaf[1].skipped)
					}
				}
				if count != tree.root.skipped {
					t.Fatalf("seed %d step %d: %d skipped keys, the root says %d", seed, step, count, tree.root.skipped)
				}
			}
		}
	}
}

func TestSecretTreeSenderAndReceiverAgree(t *testing.T) {
	forAllSuites(t, func(t *testing.T, s *suite) {
		sender, receiver := testSecretTree(s, 6), testSecretTree(s, 6)
		for i := range uint32(20) {
			leaf, kind := LeafIndex(i%3), ratchetKind(i/3%2)
			g, key, nonce, err := sender.next(leaf, kind)
			if err != nil {
				t.Fatal(err)
			}
			gotKey, gotNonce := receive(t, receiver, leaf, kind, g)
			wantBytes(t, "key", gotKey, key)
			wantBytes(t, "nonce", gotNonce, nonce)
			wantConsumed(t, receiver, leaf, kind, g)
			wantConsumed(t, sender, leaf, kind, g)
		}
	})
}

// A message that turns out to be forged leaves no trace.
func TestSecretTreePeekChangesNothing(t *testing.T) {
	s := mustSuite(t, 1)
	tree := testSecretTree(s, 16)
	receive(t, tree, 3, ratchetApplication, 2)
	before := tree.appendTo(nil)
	tree.markSaved()
	for _, g := range []uint32{0, 1, 3, 500, 1003, 1004, 1 << 31, 1<<32 - 1} {
		for _, leaf := range []LeafIndex{3, 4, 15} {
			if m, err := tree.peek(leaf, ratchetApplication, g); err == nil {
				m.wipe()
			}
		}
	}
	wantBytes(t, "state after peeks", tree.appendTo(nil), before)
	if delta := tree.appendChanges(nil); len(delta) != 0 {
		t.Errorf("peeks count as changes: %x", delta)
	}
	receive(t, tree, 3, ratchetApplication, 0)
}

// After a key is consumed, it, and everything it could be derived from, is
// neither in the memory of the tree nor in its stored form (RFC 9420 §9.2).
func TestSecretTreeDeletion(t *testing.T) {
	forAllSuites(t, func(t *testing.T, s *suite) {
		const n = 8
		for _, how := range []string{"receive", "send", "receive after clone and drop", "receive after restart"} {
			tree := testSecretTree(s, n)
			switch how {
			case "receive after clone and drop":
				tree = tree.clone()
			case "receive after restart":
				var err error
				if tree, err = restoreSecretTree(s, tree.appendTo(nil)); err != nil {
					t.Fatal(err)
				}
			}
			wantReachable(t, tree, how+": encryption_secret at the start", testEncryptionSecret(s))

			const leaf, last = LeafIndex(5), uint32(3)
			for g := range last + 1 {
				if how == "send" {
					_, key, _, err := tree.next(leaf, ratchetApplication)
					if err != nil {
						t.Fatal(err)
					}
					wipe(key)
				} else {
					receive(t, tree, leaf, ratchetApplication, g)
				}
			}
			gone := map[string][]byte{}
			for _, x := range append(leaf.node().directPath(n), leaf.node()) {
				gone[fmt.Sprintf("%s: secret of node %d", how, x)] = referenceNode(s, n, x)
			}
			for g := range last + 1 {
				secret, key, nonce := referenceRatchet(s, n, leaf, ratchetApplication, g)
				gone[fmt.Sprintf("%s: ratchet secret %d", how, g)] = secret
				gone[fmt.Sprintf("%s: key %d", how, g)] = key
				gone[fmt.Sprintf("%s: nonce %d", how, g)] = nonce
			}
			wantUnreachable(t, tree, gone)
			state := tree.appendTo(nil)
			for what, secret := range gone {
				if bytes.Contains(state, secret) {
					t.Errorf("%s is still in the stored state", what)
				}
			}
			next, _, _ := referenceRatchet(s, n, leaf, ratchetApplication, last+1)
			wantReachable(t, tree, how+": the next ratchet secret", next)

			root := tree.root
			tree.wipe()
			wantUnreachable(t, root, map[string][]byte{how + ": the next ratchet secret, after wipe": next})
		}
	})
}

// The same for keys that were skipped first.
func TestSecretTreeDeletionOfSkippedKeys(t *testing.T) {
	s := mustSuite(t, 1)
	const n = 4
	tree := testSecretTree(s, n)
	receive(t, tree, 2, ratchetHandshake, 5)
	_, key1, _ := referenceRatchet(s, n, 2, ratchetHandshake, 1)
	_, key2, _ := referenceRatchet(s, n, 2, ratchetHandshake, 2)
	wantReachable(t, tree, "skipped key 1", key1)
	receive(t, tree, 2, ratchetHandshake, 1)
	wantUnreachable(t, tree, map[string][]byte{"key 1 after use": key1})
	wantReachable(t, tree, "skipped key 2", key2)
	wantConsumed(t, tree, 2, ratchetHandshake, 1)

	tree.setLimits(0, 2, 0) // two are kept: 3 and 4 of those that are left
	receive(t, tree, 2, ratchetHandshake, 6)
	wantUnreachable(t, tree, map[string][]byte{"key 2 after it was dropped": key2})
	wantConsumed(t, tree, 2, ratchetHandshake, 2)
	receive(t, tree, 2, ratchetHandshake, 3)

	// Removing from a list moves what follows: no copy may stay behind its end.
	gone := map[string][]byte{}
	for g := range uint32(7) {
		if g >= 4 {
			receiveOrConsumed(t, tree, 2, ratchetHandshake, g)
		}
		_, key, _ := referenceRatchet(s, n, 2, ratchetHandshake, g)
		gone[fmt.Sprintf("key %d at the end", g)] = key
	}
	wantUnreachable(t, tree, gone)
}

// receiveOrConsumed takes a key that may have been taken before.
func receiveOrConsumed(t *testing.T, tree *secretTree, leaf LeafIndex, kind ratchetKind, generation uint32) {
	t.Helper()
	if m, err := tree.peek(leaf, kind, generation); err == nil {
		if err := tree.consume(m); err != nil {
			t.Fatal(err)
		}
	} else if !errors.Is(err, ErrReplay) {
		t.Fatal(err)
	}
}

func TestSecretTreeWipesTheEncryptionSecret(t *testing.T) {
	s := mustSuite(t, 1)
	e, err := s.newGroupSecrets(nil)
	if err != nil {
		t.Fatal(err)
	}
	newSecretTree(s, e.encryptionSecret, 2)
	if !bytes.Equal(e.encryptionSecret, make([]byte, s.nh)) {
		t.Error("newSecretTree left the encryption secret")
	}
}

// What a tree drops it also overwrites, unless a clone still needs it.
func TestSecretTreeOverwrites(t *testing.T) {
	s := mustSuite(t, 1)
	zero := make([]byte, s.nh)
	tree := testSecretTree(s, 4)
	shared := tree.clone()
	alias := tree.root.secret
	receive(t, tree, 0, ratchetApplication, 0)
	if bytes.Equal(alias, zero) {
		t.Error("a secret that a clone shares was overwritten")
	}
	receive(t, shared, 0, ratchetApplication, 0)

	tree = testSecretTree(s, 4)
	alias = tree.root.secret
	receive(t, tree, 0, ratchetApplication, 3)
	if !bytes.Equal(alias, zero) {
		t.Error("the encryption secret was dropped and not overwritten")
	}
	skipped := tree.root.left.left.leaf[ratchetApplication].skipped
	sibling := tree.root.right.secret
	tree.wipe()
	if skipped[0] != (skippedKey{}) || !bytes.Equal(sibling, zero) {
		t.Error("wipe left secrets in memory that it owned")
	}
}

// A clone and its original do not see each other.
func TestSecretTreeClone(t *testing.T) {
	s := mustSuite(t, 1)
	old := testSecretTree(s, 32)
	receive(t, old, 7, ratchetApplication, 3)
	state := old.appendTo(nil)

	young := old.clone()
	wantKey, _ := receive(t, young, 7, ratchetApplication, 4)
	receive(t, young, 7, ratchetApplication, 1)
	receive(t, young, 20, ratchetHandshake, 0)
	if _, _, _, err := young.next(31, ratchetApplication); err != nil {
		t.Fatal(err)
	}
	wantBytes(t, "the original's state", old.appendTo(nil), state)
	gotKey, _ := receive(t, old, 7, ratchetApplication, 4)
	wantBytes(t, "the original's key", gotKey, wantKey)
	wantConsumed(t, young, 7, ratchetApplication, 4)

	youngState := young.appendTo(nil)
	old.wipe()
	wantBytes(t, "the clone's state after the original was wiped", young.appendTo(nil), youngState)
	receive(t, young, 7, ratchetApplication, 5)
	if _, err := old.peek(7, ratchetApplication, 6); err == nil {
		t.Error("a wiped tree gives keys")
	}
	if _, _, _, err := old.next(7, ratchetApplication); err == nil {
		t.Error("a wiped tree gives keys")
	}
}

// What a peek found stays valid, or fails cleanly, whatever is consumed before
// it.
func TestSecretTreeInterleavedPeeks(t *testing.T) {
	s := mustSuite(t, 1)
	for _, order := range [][]uint32{{0, 1, 2}, {2, 1, 0}, {1, 2, 0}, {2, 0, 1}} {
		tree := testSecretTree(s, 4)
		var keys []*messageKey
		for g := range uint32(3) {
			m, err := tree.peek(1, ratchetApplication, g)
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, m)
		}
		twin, err := tree.peek(1, ratchetApplication, 1)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range order {
			if err := tree.consume(keys[g]); err != nil {
				t.Fatalf("order %v, generation %d: %v", order, g, err)
			}
		}
		if err := tree.consume(twin); !errors.Is(err, ErrReplay) {
			t.Errorf("order %v: a replay that was peeked in time: %v", order, err)
		}
		if tree.root.skipped != 0 {
			t.Errorf("order %v: %d keys are left", order, tree.root.skipped)
		}
		receive(t, tree, 1, ratchetApplication, 3)
	}
}

func TestSecretTreeLimits(t *testing.T) {
	s := mustSuite(t, 1)
	tree := testSecretTree(s, 4)
	tree.setLimits(10, 4, 0)
	if _, err := tree.peek(0, ratchetApplication, 11); !errors.Is(err, ErrTooFarAhead) {
		t.Errorf("first message, generation 11 with limit 10: %v", err)
	}
	receive(t, tree, 0, ratchetApplication, 10)
	if got := tree.root.skipped; got != 4 {
		t.Errorf("%d skipped keys are kept, want 4", got)
	}
	for g := range uint32(6) {
		wantConsumed(t, tree, 0, ratchetApplication, g)
	}
	if _, err := tree.peek(0, ratchetApplication, 22); !errors.Is(err, ErrTooFarAhead) {
		t.Errorf("generation 22 after 10 with limit 10: %v", err)
	}
	receive(t, tree, 0, ratchetApplication, 21)
	if got := tree.root.skipped; got != 4 {
		t.Errorf("%d skipped keys are kept, want 4", got)
	}
	for g := uint32(17); g < 21; g++ {
		receive(t, tree, 0, ratchetApplication, g)
	}

	tree.setLimits(0, -1, 0) // none at all
	receive(t, tree, 1, ratchetApplication, 3)
	wantConsumed(t, tree, 1, ratchetApplication, 2)
	if got := tree.root.skipped; got != 0 {
		t.Errorf("%d skipped keys are kept, want none", got)
	}
}

// Who skips generations on purpose loses its own keys, not those of others.
func TestSecretTreeTotalLimit(t *testing.T) {
	s := mustSuite(t, 1)
	tree := testSecretTree(s, 16)
	tree.setLimits(100, 50, 60)
	receive(t, tree, 1, ratchetApplication, 5) // an honest sender with five messages on the way
	for leaf := LeafIndex(8); leaf < 12; leaf++ {
		for _, kind := range []ratchetKind{ratchetHandshake, ratchetApplication} {
			receive(t, tree, leaf, kind, 100)
			if got := tree.root.skipped; got > 60 {
				t.Fatalf("%d skipped keys in the group, limit 60", got)
			}
		}
	}
	for g := range uint32(5) {
		receive(t, tree, 1, ratchetApplication, g)
	}
}

func TestSecretTreeNoSuchLeaf(t *testing.T) {
	s := mustSuite(t, 1)
	tree := testSecretTree(s, 5) // room for 8
	receive(t, tree, 7, ratchetApplication, 0)
	for _, leaf := range []LeafIndex{8, 9, 1 << 31, 1<<32 - 1} {
		if _, err := tree.peek(leaf, ratchetApplication, 0); !errors.Is(err, errNoSuchLeaf) {
			t.Errorf("peek of leaf %d: %v", leaf, err)
		}
		if _, _, _, err := tree.next(leaf, ratchetApplication); !errors.Is(err, errNoSuchLeaf) {
			t.Errorf("next of leaf %d: %v", leaf, err)
		}
	}
}

func TestSecretTreeHuge(t *testing.T) {
	s := mustSuite(t, 1)
	tree := testSecretTree(s, 1<<31)
	key, _ := receive(t, tree, 1<<31-1, ratchetApplication, 0)
	_, want, _ := referenceRatchet(s, 1<<31, 1<<31-1, ratchetApplication, 0)
	wantBytes(t, "key of the last leaf", key, want)
	if got := len(tree.appendTo(nil)); got > 2000 {
		t.Errorf("one sender of 2^31 takes %d bytes", got)
	}
}

// The last generation is 2^32-1; then the ratchet is at its end, also after a
// restart.
func TestSecretTreeExhausted(t *testing.T) {
	s := mustSuite(t, 1)
	tree := testSecretTree(s, 2)
	receive(t, tree, 0, ratchetApplication, 0)
	tree.root.left.leaf[ratchetApplication].generation = 1<<32 - 3
	receive(t, tree, 0, ratchetApplication, 1<<32-1)
	for range 2 {
		if _, _, _, err := tree.next(0, ratchetApplication); !errors.Is(err, errRatchetExhausted) {
			t.Errorf("next: %v", err)
		}
		wantConsumed(t, tree, 0, ratchetApplication, 1<<32-1)
		wantConsumed(t, tree, 0, ratchetApplication, 0)
		state := tree.appendTo(nil)
		var err error
		if tree, err = restoreSecretTree(s, state); err != nil {
			t.Fatal(err)
		}
	}
	receive(t, tree, 0, ratchetApplication, 1<<32-2)
	wantConsumed(t, tree, 0, ratchetApplication, 1<<32-2)
}

func TestSecretTreeLeafRecord(t *testing.T) {
	s := mustSuite(t, 1)
	tree := testSecretTree(s, 1000)
	old := tree.appendTo(nil)
	receive(t, tree, 500, ratchetApplication, 2)
	record := tree.appendLeaf(nil, 500)
	if len(record) > 300 {
		t.Errorf("the record of a leaf takes %d bytes", len(record))
	}
	restored, err := restoreSecretTree(s, old)
	if err != nil {
		t.Fatal(err)
	}
	if err := restored.restoreLeaf(500, record); err != nil {
		t.Fatal(err)
	}
	wantBytes(t, "state from the leaf record", restored.appendTo(nil), tree.appendTo(nil))
	wantConsumed(t, restored, 500, ratchetApplication, 2)
	for what, b := range map[string][]byte{"another leaf's": tree.appendLeaf(nil, 501), "a cut": record[:len(record)-1], "no": nil} {
		if err := restored.clone().restoreLeaf(500, b); err == nil {
			t.Errorf("restored %s record", what)
		}
	}
	if err := restored.restoreLeaf(5000, record); !errors.Is(err, errNoSuchLeaf) {
		t.Errorf("record of no leaf: %v", err)
	}
}

// A message of a sender who has sent before changes its leaf and no more.
func TestSecretTreeDeltaIsSmall(t *testing.T) {
	s := mustSuite(t, 1)
	tree := testSecretTree(s, 10_000)
	tree.markSaved()
	receive(t, tree, 4321, ratchetApplication, 0)
	if got := len(tree.appendChanges(nil)); got > 900 {
		t.Errorf("the first message of a sender writes %d bytes", got)
	}
	tree.markSaved()
	receive(t, tree, 4321, ratchetApplication, 1)
	if got := len(tree.appendChanges(nil)); got > 120 {
		t.Errorf("the next message of a sender writes %d bytes", got)
	}
	tree.markSaved()
	if got := tree.appendChanges(nil); len(got) != 0 {
		t.Errorf("nothing changed, and %d bytes are written", len(got))
	}
	for leaf := range LeafIndex(2000) { // more than is tracked
		receive(t, tree, leaf, ratchetApplication, 0)
	}
	restored, err := restoreSecretTree(s, testSecretTree(s, 10_000).appendTo(nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := restored.applyChanges(tree.appendChanges(nil)); err != nil {
		t.Fatal(err)
	}
	wantBytes(t, "state from a delta that is the whole", restored.appendTo(nil), tree.appendTo(nil))
}

func TestSecretTreeDamagedState(t *testing.T) {
	s := mustSuite(t, 1)
	tree := testSecretTree(s, 4)
	receive(t, tree, 2, ratchetApplication, 3)
	state := tree.appendTo(nil)
	for n := range state {
		if _, err := restoreSecretTree(s, state[:n]); !errors.Is(err, errBadTreeState) {
			t.Errorf("first %d of %d bytes: %v", n, len(state), err)
		}
	}
	if _, err := restoreSecretTree(s, append(bytes.Clone(state), 0)); !errors.Is(err, errBadTreeState) {
		t.Errorf("a byte too many: %v", err)
	}
	if _, err := restoreSecretTree(mustSuite(t, 4), state); !errors.Is(err, errBadTreeState) {
		t.Errorf("another suite: %v", err)
	}
}

func FuzzRestoreSecretTree(f *testing.F) {
	s, err := CipherSuite(1).suite()
	if err != nil {
		f.Fatal(err)
	}
	tree := testSecretTree(s, 4)
	f.Add(tree.appendTo(nil), uint32(0), uint32(0))
	if _, _, _, err := tree.next(2, ratchetApplication); err != nil {
		f.Fatal(err)
	}
	if m, err := tree.peek(3, ratchetHandshake, 4); err != nil || tree.consume(m) != nil {
		f.Fatal("receive", err)
	}
	f.Add(tree.appendTo(nil), uint32(3), uint32(2))
	f.Fuzz(func(t *testing.T, b []byte, leaf, generation uint32) {
		tree, err := restoreSecretTree(s, b)
		if err != nil {
			return
		}
		state := tree.appendTo(nil)
		again, err := restoreSecretTree(s, state)
		if err != nil {
			t.Fatalf("our own state is refused: %v", err)
		}
		wantBytes(t, "state", again.appendTo(nil), state)
		if m, err := tree.peek(LeafIndex(leaf), ratchetApplication, generation); err == nil {
			if err := tree.consume(m); err != nil {
				t.Fatal(err)
			}
			wantConsumed(t, tree, LeafIndex(leaf), ratchetApplication, generation)
		}
	})
}
