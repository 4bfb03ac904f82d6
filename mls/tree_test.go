// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
)

// testLeaf returns a leaf with keys of its own. They are no points of any curve:
// the tree does not look into them.
func testLeaf(n uint32) *LeafNode {
	key := func(kind byte) []byte {
		k := make([]byte, 32)
		k[0] = kind
		binary.BigEndian.PutUint32(k[28:], n)
		return k
	}
	l := &LeafNode{
		EncryptionKey: key(1),
		SignatureKey:  key(2),
		Credential:    BasicCredential(fmt.Appendf(nil, "member%d@capulet.lit", n)),
		Capabilities: Capabilities{
			Versions:    []ProtocolVersion{MLS10},
			Extensions:  []ExtensionType{0x0a0a, ExtensionAppDataDictionary},
			Proposals:   []ProposalType{ProposalSelfRemove},
			Credentials: []CredentialType{CredentialBasic},
		},
		Source: LeafNodeUpdate,
	}
	if n%3 == 0 {
		l.Capabilities.Proposals = nil
	}
	l.raw = l.appendTo(nil)
	return l
}

func testSuite(t testing.TB) *suite {
	return mustSuite(t, MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519)
}

// TestTreeEdits makes random changes and compares each outcome with the same tree
// read from its encoding, which was built from nothing.
func TestTreeEdits(t *testing.T) {
	s := testSuite(t)
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		next := uint32(1)
		leaf := func() *LeafNode { next++; return testLeaf(next) }
		tree := newRatchetTree(s, leaf())
		for step := range 60 {
			before := tree.marshal(nil)
			e := tree.edit()
			for range 1 + rng.IntN(4) {
				members := e.t.memberCount()
				victim := LeafIndex(rng.IntN(int(e.t.width)))
				switch op := rng.IntN(6); {
				case op < 3:
					e.addLeaf(leaf())
				case op == 3 && members > 1 && e.t.leaf(victim) != nil:
					e.removeLeaf(victim)
				case op == 4 && e.t.leaf(victim) != nil:
					e.updateLeaf(victim, leaf())
				case op == 5 && e.t.leaf(victim) != nil:
					var nodes []UpdatePathNode
					steps := e.t.filteredPath(victim)
					for range steps {
						nodes = append(nodes, UpdatePathNode{EncryptionKey: leaf().EncryptionKey})
					}
					e.setPath(victim, steps, nodes)
					e.setLeaf(victim, leaf())
				}
			}
			after, err := e.finish()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(tree.marshal(nil), before) {
				t.Fatalf("seed %d step %d: the edit changed the tree it started from", seed, step)
			}
			compareWithParsed(t, after)
			compareChanges(t, tree, after)
			tree = after
		}
	}
}

func compareWithParsed(t *testing.T, tree *ratchetTree) {
	t.Helper()
	b := tree.marshal(nil)
	if len(b) != tree.encodedLen() {
		t.Fatalf("encodedLen %d, want %d", tree.encodedLen(), len(b))
	}
	parsed, err := parseRatchetTree(tree.s, b, testMaxLeaves)
	if err != nil {
		t.Fatal(err)
	}
	if parsed.width != tree.width || !bytes.Equal(parsed.treeHash(), tree.treeHash()) {
		t.Fatalf("width %d hash %x, parsed %d %x", tree.width, tree.treeHash(), parsed.width, parsed.treeHash())
	}
	if got, want := tree.memberCount(), parsed.memberCount(); got != want {
		t.Fatalf("%d members, parsed %d", got, want)
	}
	for x := range nodeIndex(nodeWidth(tree.width)) {
		for _, kind := range []keyKind{encryptionKeyKind, signatureKeyKind} {
			key := parsed.keyAt(kind, x)
			if got := tree.keyAt(kind, x); !bytes.Equal(got, key) {
				t.Fatalf("key of node %d differs", x)
			}
			if key == nil {
				continue
			}
			if at, ok := tree.holderOf(kind, key); !ok || at != x {
				t.Fatalf("key of node %d is indexed at %d, %v", x, at, ok)
			}
		}
	}
	if got, want := tree.allSupportProposal(ProposalSelfRemove), parsed.allSupportProposal(ProposalSelfRemove); got != want {
		t.Fatalf("all support self_remove: %v, parsed %v", got, want)
	}
	if !tree.allSupportExtension(ExtensionAppDataDictionary) || !tree.allSupportCredential(CredentialBasic) ||
		tree.allSupportExtension(0x0a0a) || !tree.allSupportExtension(ExtensionRatchetTree) {
		t.Fatal("capabilities are miscounted")
	}
	if got := tree.credentialTypes(); len(got) != 1 || got[0] != (credentialUse{CredentialBasic, uint32(tree.memberCount())}) {
		t.Fatalf("credential types %v", got)
	}
}

// compareChanges applies the difference of two trees to the stored nodes of the
// first and reads the second from the outcome.
func compareChanges(t *testing.T, old, tree *ratchetTree) {
	t.Helper()
	rows := map[uint32][]byte{}
	old.root.eachNode(nodeIndex(old.width-1), func(n TreeNode) bool { rows[n.Index] = n.Data; return true })
	for _, n := range tree.changedNodes(old) {
		if bytes.Equal(rows[n.Index], n.Data) {
			t.Fatalf("node %d is said to have changed", n.Index)
		}
		if n.Data == nil {
			delete(rows, n.Index)
		} else {
			rows[n.Index] = n.Data
		}
	}
	loaded, err := treeFromNodes(tree.s, testMaxLeaves, func(yield func(TreeNode) bool) {
		for i := range uint32(2 * max(old.width, tree.width)) {
			if b, ok := rows[i]; ok && !yield(TreeNode{i, b}) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(loaded.treeHash(), tree.treeHash()) {
		t.Fatal("the changed nodes do not give the changed tree")
	}
}

func TestTreeDuplicateKeys(t *testing.T) {
	s := testSuite(t)
	tree := newRatchetTree(s, testLeaf(1))
	e := tree.edit()
	e.addLeaf(testLeaf(2))
	e.addLeaf(testLeaf(4))
	tree, err := e.finish()
	if err != nil {
		t.Fatal(err)
	}

	e = tree.edit()
	e.addLeaf(testLeaf(2))
	if _, err := e.finish(); err == nil {
		t.Error("two leaves with the same keys are accepted")
	}

	// Keys may move from one leaf to another within one edit, in any order.
	e = tree.edit()
	e.updateLeaf(0, testLeaf(2))
	e.updateLeaf(1, testLeaf(5))
	moved, err := e.finish()
	if err != nil {
		t.Fatalf("a key that moved counts as doubled: %v", err)
	}
	compareWithParsed(t, moved)
	e = tree.edit()
	e.updateLeaf(0, testLeaf(2))
	e.removeLeaf(1)
	if _, err := e.finish(); err != nil {
		t.Fatalf("a key of a removed leaf counts as doubled: %v", err)
	}
}

// TestTreeDecodeMemory: a tree of blanks must not cost a multiple of its input.
func TestTreeDecodeMemory(t *testing.T) {
	s := testSuite(t)
	leaf := testLeaf(1)
	nodes := bytes.Repeat([]byte{0}, 1<<17)
	nodes = append(nodes, leaf.appendTo([]byte{1, nodeTypeLeaf})...)
	b := appendOpaque(nil, nodes)
	allocs := testing.AllocsPerRun(1, func() {
		if _, err := parseRatchetTree(s, b, 1<<17); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 1<<19 {
		t.Errorf("%v allocations", allocs)
	}
}

func FuzzRatchetTree(f *testing.F) {
	s := testSuite(f)
	tree := newRatchetTree(s, testLeaf(1))
	e := tree.edit()
	for i := range uint32(6) {
		e.addLeaf(testLeaf(i + 2))
	}
	e.removeLeaf(2)
	steps := e.t.filteredPath(0)
	e.setPath(0, steps, make([]UpdatePathNode, len(steps)))
	f.Add(e.seal().marshal(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		tree, err := parseRatchetTree(s, b, 1<<12)
		if err != nil {
			return
		}
		if got := tree.marshal(nil); !bytes.Equal(got, b) {
			t.Fatalf("decodes %x, encodes %x", b, got)
		}
		_ = tree.verifyStructure()
		_ = tree.appendResolution(nil, tree.root, nodeIndex(tree.width-1))
	})
}

func BenchmarkTreeEdit(b *testing.B) {
	s := testSuite(b)
	for _, n := range []uint32{10, 100, 1000, 10000} {
		tree := newRatchetTree(s, testLeaf(1))
		e := tree.edit()
		for i := range n - 1 {
			e.addLeaf(testLeaf(i + 2))
		}
		tree, err := e.finish()
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("update/N=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				e := tree.edit()
				e.updateLeaf(LeafIndex(uint32(i)%n), testLeaf(uint32(1<<24+i)))
				if _, err := e.finish(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
