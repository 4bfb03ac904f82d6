// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
)

const testMaxLeaves = 1 << 16

func TestTreeOperationVectors(t *testing.T) {
	type vector struct {
		CipherSuite    CipherSuite `json:"cipher_suite"`
		TreeBefore     hexBytes    `json:"tree_before"`
		Proposal       hexBytes    `json:"proposal"`
		ProposalSender LeafIndex   `json:"proposal_sender"`
		TreeHashBefore hexBytes    `json:"tree_hash_before"`
		TreeAfter      hexBytes    `json:"tree_after"`
		TreeHashAfter  hexBytes    `json:"tree_hash_after"`
	}
	for i, v := range loadVectors[vector](t, "tree-operations.json") {
		s := mustSuite(t, v.CipherSuite)
		before, err := parseRatchetTree(s, v.TreeBefore, testMaxLeaves)
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		if !bytes.Equal(before.treeHash(), v.TreeHashBefore) {
			t.Fatalf("%d: tree hash before differs", i)
		}
		p, err := ParseProposal(v.Proposal)
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		e := before.edit()
		switch p := p.(type) {
		case *Add:
			e.addLeaf(p.KeyPackage.LeafNode)
		case *Update:
			e.updateLeaf(v.ProposalSender, p.LeafNode)
		case *Remove:
			e.removeLeaf(p.Removed)
		default:
			t.Fatalf("%d: proposal %T", i, p)
		}
		after, err := e.finish()
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		if got := after.marshal(nil); !bytes.Equal(got, v.TreeAfter) {
			t.Errorf("%d: tree after differs\n got %x\nwant %x", i, got, v.TreeAfter)
		}
		if !bytes.Equal(after.treeHash(), v.TreeHashAfter) {
			t.Errorf("%d: tree hash after differs", i)
		}
		if got := before.marshal(nil); !bytes.Equal(got, v.TreeBefore) {
			t.Errorf("%d: the edit changed the tree that it started from", i)
		}
	}
}

func TestTreeValidationVectors(t *testing.T) {
	t.Parallel()
	type vector struct {
		CipherSuite CipherSuite   `json:"cipher_suite"`
		Tree        hexBytes      `json:"tree"`
		GroupID     hexBytes      `json:"group_id"`
		Resolutions [][]nodeIndex `json:"resolutions"`
		TreeHashes  []hexBytes    `json:"tree_hashes"`
	}
	for i, v := range loadVectors[vector](t, "tree-validation.json") {
		s := mustSuite(t, v.CipherSuite)
		tree, err := parseRatchetTree(s, v.Tree, testMaxLeaves)
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		if err := tree.verifyStructure(); err != nil {
			t.Errorf("%d: %v", i, err)
		}
		tree.eachLeaf(func(l LeafIndex, leaf *LeafNode) bool {
			if err := leaf.verifySignature(s, GroupID(v.GroupID), l); err != nil {
				t.Errorf("%d: leaf %d: %v", i, l, err)
			}
			return true
		})
		if got := tree.marshal(nil); !bytes.Equal(got, v.Tree) {
			t.Errorf("%d: tree encodes differently", i)
		}
		if got, want := tree.encodedLen(), len(v.Tree); got != want {
			t.Errorf("%d: encodedLen %d, want %d", i, got, want)
		}
		for from := 0; from <= len(v.Tree); from += 97 {
			to := min(from+211, len(v.Tree))
			if got := tree.appendRange(nil, from, to-from); !bytes.Equal(got, v.Tree[from:to]) {
				t.Fatalf("%d: octets %d to %d of the tree differ", i, from, to)
			}
		}
		// A node inside a collapsed blank subtree is unknown to node: spell the
		// tree out for the comparison.
		spellOut(tree.root, tree.levels())
		rehashAll(tree)
		for x := range nodeIndex(nodeWidth(tree.width)) {
			n := tree.node(x)
			var got []nodeIndex
			for _, r := range tree.appendResolution(nil, n, x) {
				got = append(got, r.at)
			}
			if !slices.Equal(got, v.Resolutions[x]) {
				t.Errorf("%d: resolution of node %d is %v, want %v", i, x, got, v.Resolutions[x])
			}
			if !bytes.Equal(n.hash, v.TreeHashes[x]) {
				t.Errorf("%d: hash of node %d differs", i, x)
			}
		}
	}
}

// spellOut gives every blank subtree its nodes and clears all hashes.
func spellOut(n *treeNode, level uint) {
	n.hash = nil
	if level == 0 {
		return
	}
	n.left, n.right = n.children(level)
	spellOut(n.left, level-1)
	spellOut(n.right, level-1)
}

func rehashAll(t *ratchetTree) {
	(&treeEdit{t: *t}).rehash()
}

func TestTreeKEMVectors(t *testing.T) {
	t.Parallel()
	type vector struct {
		CipherSuite             CipherSuite `json:"cipher_suite"`
		GroupID                 hexBytes    `json:"group_id"`
		Epoch                   uint64      `json:"epoch"`
		ConfirmedTranscriptHash hexBytes    `json:"confirmed_transcript_hash"`
		RatchetTree             hexBytes    `json:"ratchet_tree"`
		LeavesPrivate           []struct {
			Index          LeafIndex `json:"index"`
			EncryptionPriv hexBytes  `json:"encryption_priv"`
			SignaturePriv  hexBytes  `json:"signature_priv"`
			PathSecrets    []struct {
				Node       nodeIndex `json:"node"`
				PathSecret hexBytes  `json:"path_secret"`
			} `json:"path_secrets"`
		} `json:"leaves_private"`
		UpdatePaths []struct {
			Sender        LeafIndex   `json:"sender"`
			UpdatePath    hexBytes    `json:"update_path"`
			PathSecrets   []*hexBytes `json:"path_secrets"`
			CommitSecret  hexBytes    `json:"commit_secret"`
			TreeHashAfter hexBytes    `json:"tree_hash_after"`
		} `json:"update_paths"`
	}
	for i, v := range loadVectors[vector](t, "treekem.json") {
		t.Run(fmt.Sprintf("%d-suite%d", i, v.CipherSuite), func(t *testing.T) {
			s := mustSuite(t, v.CipherSuite)
			tree, err := parseRatchetTree(s, v.RatchetTree, testMaxLeaves)
			if err != nil {
				t.Fatal(err)
			}
			private := map[LeafIndex]*treePrivate{}
			signers := map[LeafIndex]*SignaturePrivateKey{}
			for _, l := range v.LeavesPrivate {
				leaf, err := s.parseHPKEPrivateKey(l.EncryptionPriv)
				if err != nil {
					t.Fatal(err)
				}
				p := &treePrivate{self: l.Index, leaf: leaf, path: make([]*hpkePrivateKey, tree.levels())}
				for _, ps := range l.PathSecrets {
					priv, pub, err := s.pathKeys(ps.PathSecret)
					if err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(pub, tree.keyAt(encryptionKeyKind, ps.Node)) {
						t.Errorf("leaf %d: key of node %d differs from the tree's", l.Index, ps.Node)
					}
					p.path[ps.Node.level()-1] = priv
				}
				private[l.Index] = p
				if signers[l.Index], err = ParseSignaturePrivateKey(v.CipherSuite, l.SignaturePriv); err != nil {
					t.Fatal(err)
				}
			}
			context := func(hash []byte) []byte {
				c := GroupContext{Version: MLS10, CipherSuite: v.CipherSuite, GroupID: GroupID(v.GroupID), Epoch: v.Epoch,
					TreeHash: hash, ConfirmedTranscriptHash: v.ConfirmedTranscriptHash}
				return c.Bytes()
			}
			for _, u := range v.UpdatePaths {
				path, err := decode(u.UpdatePath, "UpdatePath", readUpdatePath)
				if err != nil {
					t.Fatal(err)
				}
				if got := path.appendTo(nil); !bytes.Equal(got, u.UpdatePath) {
					t.Errorf("path of %d encodes differently", u.Sender)
				}
				e := tree.edit()
				steps, err := e.applyPath(u.Sender, path)
				if err != nil {
					t.Fatal(err)
				}
				after, err := e.finish()
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(after.treeHash(), u.TreeHashAfter) {
					t.Errorf("tree hash after the path of %d differs", u.Sender)
				}
				for l, p := range private {
					if l == u.Sender {
						continue
					}
					next, commitSecret, err := e.openPath(p, steps, path, context(after.treeHash()))
					if err != nil {
						t.Fatalf("leaf %d opens the path of %d: %v", l, u.Sender, err)
					}
					if !bytes.Equal(commitSecret, u.CommitSecret) {
						t.Errorf("leaf %d: commit secret of %d differs", l, u.Sender)
					}
					checkPrivate(t, after, next)
				}

				e = tree.edit()
				leaf := *tree.leaf(u.Sender)
				made, err := e.makePath(nil, u.Sender, &leaf, signers[u.Sender], GroupID(v.GroupID))
				if err != nil {
					t.Fatal(err)
				}
				after, err = e.finish()
				if err != nil {
					t.Fatal(err)
				}
				if err := e.encryptPath(nil, made, context(after.treeHash())); err != nil {
					t.Fatal(err)
				}
				checkPrivate(t, after, made.private)
				if err := after.verifyStructure(); err != nil {
					t.Error(err)
				}
				for l, p := range private {
					if l == u.Sender {
						continue
					}
					e := tree.edit()
					steps, err := e.applyPath(u.Sender, made.path)
					if err != nil {
						t.Fatal(err)
					}
					again, err := e.finish()
					if err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(again.treeHash(), after.treeHash()) {
						t.Errorf("leaf %d gets another tree than %d", l, u.Sender)
					}
					next, commitSecret, err := e.openPath(p, steps, made.path, context(again.treeHash()))
					if err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(commitSecret, made.commitSecret) {
						t.Errorf("leaf %d: new commit secret of %d differs", l, u.Sender)
					}
					checkPrivate(t, again, next)
				}
			}
		})
	}
}

// checkPrivate checks that every private key belongs to the node's public key.
func checkPrivate(t *testing.T, tree *ratchetTree, p *treePrivate) {
	t.Helper()
	if !bytes.Equal(p.leaf.public(), tree.leaf(p.self).EncryptionKey) {
		t.Errorf("leaf %d: leaf key differs", p.self)
	}
	for k, key := range p.path {
		at := parentAt(p.self, uint(k+1))
		if key != nil && !bytes.Equal(key.public(), tree.keyAt(encryptionKeyKind, at)) {
			t.Errorf("leaf %d: key of node %d differs", p.self, at)
		}
	}
}

func TestMessageVectors(t *testing.T) {
	type vector map[string]hexBytes
	asMessage := func(b []byte) ([]byte, error) {
		m, err := ParseMessage(b)
		if err != nil {
			return nil, err
		}
		return m.appendTo(nil), nil
	}
	asProposal := func(typ ProposalType) func(b []byte) ([]byte, error) {
		return func(b []byte) ([]byte, error) {
			p, err := ParseProposal(slices.Concat(appendU16(nil, uint16(typ)), b))
			if err != nil {
				return nil, err
			}
			return p.appendBody(nil), nil
		}
	}
	codecs := map[string]func([]byte) ([]byte, error){
		"mls_welcome":                       asMessage,
		"mls_group_info":                    asMessage,
		"mls_key_package":                   asMessage,
		"public_message_application":        asMessage,
		"public_message_proposal":           asMessage,
		"public_message_commit":             asMessage,
		"private_message":                   asMessage,
		"add_proposal":                      asProposal(ProposalAdd),
		"update_proposal":                   asProposal(ProposalUpdate),
		"remove_proposal":                   asProposal(ProposalRemove),
		"pre_shared_key_proposal":           asProposal(ProposalPSK),
		"re_init_proposal":                  asProposal(ProposalReInit),
		"external_init_proposal":            asProposal(ProposalExternalInit),
		"group_context_extensions_proposal": asProposal(ProposalGroupContextExtensions),
		"group_secrets": func(b []byte) ([]byte, error) {
			g, err := decode(b, "group secrets", readGroupSecrets)
			if err != nil {
				return nil, err
			}
			return g.appendTo(nil), nil
		},
		"commit": func(b []byte) ([]byte, error) {
			c, err := decode(b, "commit", readCommit)
			if err != nil {
				return nil, err
			}
			return c.appendTo(nil), nil
		},
		"ratchet_tree": func(b []byte) ([]byte, error) {
			r := reader{b: b}
			root, level := readRatchetTree(&r, testMaxLeaves, 1)
			if err := r.done(); err != nil {
				return nil, err
			}
			return (&ratchetTree{root: root, width: 1 << level}).marshal(nil), nil
		},
	}
	for i, v := range loadVectors[vector](t, "messages.json") {
		for name, b := range v {
			codec, ok := codecs[name]
			if !ok {
				t.Fatalf("%d: field %q is unknown to this test", i, name)
			}
			got, err := codec(b)
			if err != nil {
				t.Errorf("%d: %s: %v", i, name, err)
				continue
			}
			if !bytes.Equal(got, b) {
				t.Errorf("%d: %s encodes differently", i, name)
			}
			if i > 0 {
				continue // every prefix once is enough
			}
			for n := range b {
				if _, err := codec(b[:n]); err == nil {
					t.Fatalf("%d: %s: the first %d of %d octets decode", i, name, n, len(b))
				}
			}
			if _, err := codec(append(bytes.Clone(b), 0)); err == nil {
				t.Errorf("%d: %s: a trailing octet is accepted", i, name)
			}
		}
	}
}
