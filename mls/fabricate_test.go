// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"fmt"
	"testing"
)

// A fabricated group is one of any size, made without the N joins that it would
// take otherwise: all secrets are at hand, so that any member's Group can be had.
type fabricated struct {
	tb      testing.TB
	cfg     *Config
	s       *suite
	st      publicState
	me      []*Identity
	leaves  []*hpkePrivateKey
	parents map[nodeIndex]*hpkePrivateKey
	epoch   []byte // epoch_secret
}

// fabricate makes a group of n members. In a full tree every parent has a key, as
// after everybody has committed; in a blank one, none, as after the creator has
// added all.
func fabricate(tb testing.TB, cfg *Config, cs CipherSuite, n int, full bool) *fabricated {
	tb.Helper()
	c := cfg.resolve()
	f := &fabricated{tb: tb, cfg: cfg, s: mustSuite(tb, cs), parents: make(map[nodeIndex]*hpkePrivateKey)}
	f.epoch = make([]byte, f.s.nh)
	if err := readRandom(nil, f.epoch); err != nil {
		tb.Fatal(err)
	}
	f.me, f.leaves = make([]*Identity, n), make([]*hpkePrivateKey, n)
	leaves := make([]*LeafNode, n)
	if err := inParallel(n, func(i int) error {
		key, err := GenerateSignatureKey(cs, nil)
		if err != nil {
			return err
		}
		f.me[i] = &Identity{BasicCredential(fmt.Appendf(nil, "member%d@capulet.lit", i)), key}
		l, err := c.newLeaf(f.s, f.me[i], fmt.Appendf(nil, "device %8d", i), nil)
		if err != nil {
			return err
		}
		l.Source, l.Lifetime = LeafNodeKeyPackage, c.lifetime(0)
		if f.leaves[i], l.EncryptionKey, err = f.s.generateHPKEKeyPair(nil); err != nil {
			return err
		}
		leaves[i] = l
		return l.sign(f.s, key, nil, 0)
	}); err != nil {
		tb.Fatal(err)
	}
	t := newRatchetTree(f.s, leaves[0])
	e := t.edit()
	for _, l := range leaves[1:] {
		e.addLeaf(l)
	}
	id := GroupID("fabricated")
	if full {
		e.added = nil
		for i := 0; i < n; i += 2 {
			old := leaves[i]
			l := &LeafNode{SignatureKey: old.SignatureKey, Credential: old.Credential, Capabilities: old.Capabilities, Extensions: old.Extensions}
			p, err := e.makePath(nil, LeafIndex(i), l, f.me[i].Key, id)
			if err != nil {
				tb.Fatal(err)
			}
			f.leaves[i] = p.private.leaf
			for _, step := range p.steps {
				f.parents[step.at] = p.private.path[step.at.level()-1]
			}
		}
	}
	var err error
	if t, err = e.finish(); err != nil {
		tb.Fatal(err)
	}
	ctx := &GroupContext{Version: MLS10, CipherSuite: cs, GroupID: id, Epoch: 7, TreeHash: t.treeHash(), ConfirmedTranscriptHash: make([]byte, f.s.nh)}
	secrets, err := f.s.epochSecretsFromEpochSecret(f.epoch)
	if err != nil {
		tb.Fatal(err)
	}
	if f.st, err = newPublicState(c, f.s, ctx, t, f.s.confirmationTag(secrets.confirmationKey, ctx.ConfirmedTranscriptHash)); err != nil {
		tb.Fatal(err)
	}
	return f
}

// group returns the Group of a member.
func (f *fabricated) group(i int) *Group {
	f.tb.Helper()
	secrets, err := f.s.epochSecretsFromEpochSecret(f.epoch)
	if err != nil {
		f.tb.Fatal(err)
	}
	private := &treePrivate{self: LeafIndex(i), leaf: f.leaves[i], path: make([]*hpkePrivateKey, f.st.tree.levels())}
	for k := range private.path {
		private.path[k] = f.parents[parentAt(private.self, uint(k+1))]
	}
	return enter(f.st, f.me[i], private, secrets)
}

func (f *fabricated) public() *PublicGroup { return &PublicGroup{f.st} }

// TestFabricated: what the benchmarks work on is a group like any other.
func TestFabricated(t *testing.T) {
	for _, full := range []bool{false, true} {
		for _, n := range []int{1, 2, 7, 33} {
			f := fabricate(t, nil, suite1, n, full)
			gi, err := f.group(0).GroupInfo(&GroupInfoOptions{InlineTree: true})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := NewPublicGroup(nil, gi.GroupInfo, nil); err != nil {
				t.Fatalf("full %v, %d members: %v", full, n, err)
			}
			p, err := f.group(n / 2).Commit(nil)
			if err != nil {
				t.Fatal(err)
			}
			for i := range n {
				if i == n/2 {
					continue
				}
				if _, err := f.group(i).Process(p.Message()); err != nil {
					t.Fatalf("full %v, %d members: member %d: %v", full, n, i, err)
				}
			}
		}
	}
}
