// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"fmt"
	"io"
	"testing"
)

// testRand, when it is set, makes the keys of actors predictable: fuzzing runs in
// several processes, which must work on the same group.
var testRand io.Reader

// testIdentity makes the identity of an actor.
func testIdentity(t testing.TB, cs CipherSuite, name string) *Identity {
	t.Helper()
	key, err := GenerateSignatureKey(cs, testRand)
	if err != nil {
		t.Fatal(err)
	}
	return &Identity{BasicCredential([]byte(name)), key}
}

func testKeyPackage(t testing.TB, cfg *Config, cs CipherSuite, name string) *PrivateKeyPackage {
	t.Helper()
	kp, err := NewKeyPackage(cfg, cs, testIdentity(t, cs, name), &KeyPackageOptions{DeviceID: []byte("device of " + name)})
	if err != nil {
		t.Fatal(err)
	}
	return kp
}

// wire sends a message over the wire.
func wire(t testing.TB, m *Message) *Message {
	t.Helper()
	out, err := ParseMessage(m.Bytes())
	if err != nil {
		t.Fatalf("own message does not parse: %v", err)
	}
	return out
}

// A testGroup is a group with all its members and somebody who watches.
type testGroup struct {
	t       testing.TB
	cfg     *Config
	cs      CipherSuite
	members map[string]*Group
	public  *PublicGroup // nil once it cannot follow
}

func newTestGroup(t testing.TB, cfg *Config, cs CipherSuite, names ...string) *testGroup {
	t.Helper()
	g, err := NewGroup(cfg, cs, GroupID("balcony"), testIdentity(t, cs, names[0]), nil)
	if err != nil {
		t.Fatal(err)
	}
	gi, err := g.GroupInfo(&GroupInfoOptions{InlineTree: true})
	if err != nil {
		t.Fatal(err)
	}
	public, err := NewPublicGroup(cfg, wire(t, gi).GroupInfo, nil)
	if err != nil {
		t.Fatal(err)
	}
	tg := &testGroup{t, cfg, cs, map[string]*Group{names[0]: g}, public}
	if len(names) > 1 {
		tg.add(names[0], names[1:]...)
	}
	return tg
}

// add lets by add others in one commit.
func (tg *testGroup) add(by string, names ...string) {
	tg.t.Helper()
	o := &CommitOptions{InlineTree: true}
	var kps []*PrivateKeyPackage
	for _, name := range names {
		kp := testKeyPackage(tg.t, tg.cfg, tg.cs, name)
		kps = append(kps, kp)
		o.Add = append(o.Add, kp.KeyPackage)
	}
	p := tg.commit(by, o)
	for i, name := range names {
		g, err := Join(tg.cfg, wire(tg.t, p.Welcome()).Welcome, kps[i], nil)
		if err != nil {
			tg.t.Fatalf("%s joins: %v", name, err)
		}
		tg.members[name] = g
	}
	tg.agree()
}

// commit lets by commit and everybody follow.
func (tg *testGroup) commit(by string, o *CommitOptions) *PendingCommit {
	tg.t.Helper()
	p, err := tg.members[by].Commit(o)
	if err != nil {
		tg.t.Fatalf("%s commits: %v", by, err)
	}
	tg.deliver(by, p)
	return p
}

// deliver gives a commit of by to everybody.
func (tg *testGroup) deliver(by string, p *PendingCommit) {
	tg.t.Helper()
	m := wire(tg.t, p.Message())
	for name, g := range tg.members {
		if name == by {
			r, err := g.Process(m)
			if _, ok := r.(*OwnCommit); !ok {
				tg.t.Fatalf("%s processes its own commit: %T, %v", name, r, err)
			}
			if tg.members[name], err = p.Merge(); err != nil {
				tg.t.Fatal(err)
			}
			continue
		}
		r, err := g.Process(m)
		if err != nil {
			tg.t.Fatalf("%s processes the commit of %s: %v", name, by, err)
		}
		s := r.(*StagedCommit)
		if s.Removed() {
			delete(tg.members, name)
			continue
		}
		if tg.members[name], err = s.Merge(); err != nil {
			tg.t.Fatal(err)
		}
	}
	if m.Public == nil {
		tg.public = nil // blind from now on
	}
	if tg.public != nil {
		r, err := tg.public.Process(m)
		if err != nil {
			tg.t.Fatalf("the observer processes the commit of %s: %v", by, err)
		}
		tg.public = r.Merge()
	}
}

// propose gives a proposal to everybody.
func (tg *testGroup) propose(by string, propose func(g *Group) (*Message, *Group, error)) {
	tg.t.Helper()
	m, next, err := propose(tg.members[by])
	if err != nil {
		tg.t.Fatalf("%s proposes: %v", by, err)
	}
	tg.members[by] = next
	tg.receiveProposal(by, m)
}

func (tg *testGroup) receiveProposal(by string, m *Message) {
	tg.t.Helper()
	m = wire(tg.t, m)
	for name, g := range tg.members {
		r, err := g.Process(m)
		if err != nil {
			tg.t.Fatalf("%s processes the proposal of %s: %v", name, by, err)
		}
		if name == by {
			if _, ok := r.(*OwnMessage); !ok {
				tg.t.Fatalf("%s processes its own proposal: %T", name, r)
			}
			continue
		}
		tg.members[name] = r.(*StagedProposal).Merge()
	}
	if m.Public == nil {
		tg.public = nil // blind from now on
	}
	if tg.public != nil {
		r, err := tg.public.Process(m)
		if err != nil {
			tg.t.Fatalf("the observer processes the proposal of %s: %v", by, err)
		}
		tg.public = r.Merge()
	}
}

// say lets by send and everybody else read.
func (tg *testGroup) say(by, text string) {
	tg.t.Helper()
	m, err := tg.members[by].Seal([]byte(text), []byte("aad"))
	if err != nil {
		tg.t.Fatal(err)
	}
	m = wire(tg.t, m)
	for name, g := range tg.members {
		r, err := g.Process(m)
		if err != nil {
			tg.t.Fatalf("%s reads: %v", name, err)
		}
		if name == by {
			if _, ok := r.(*OwnMessage); !ok {
				tg.t.Fatalf("%s reads its own message: %T", name, r)
			}
			continue
		}
		a := r.(*ApplicationMessage)
		if string(a.Data) != text || string(a.AAD) != "aad" || string(a.Sender.Credential().Identity) != by {
			tg.t.Fatalf("%s reads %q by %s", name, a.Data, a.Sender.Credential().Identity)
		}
	}
}

// agree checks that all members are in the same state.
func (tg *testGroup) agree() {
	tg.t.Helper()
	var first *Group
	for name, g := range tg.members {
		if first == nil {
			first = g
		}
		if !bytes.Equal(g.EpochAuthenticator(), first.EpochAuthenticator()) {
			tg.t.Fatalf("%s has another epoch authenticator", name)
		}
		if !bytes.Equal(g.ctxBytes, first.ctxBytes) || !bytes.Equal(g.Tree(), first.Tree()) {
			tg.t.Fatalf("%s has another context or tree", name)
		}
		if g.tree.keyAt(encryptionKeyKind, g.self.node()) == nil || !bytes.Equal(g.private.leaf.public(), g.Self().Leaf.EncryptionKey) {
			tg.t.Fatalf("%s has not the key of its leaf", name)
		}
		for k, key := range g.private.path {
			if key != nil && !bytes.Equal(key.public(), g.tree.keyAt(encryptionKeyKind, parentAt(g.self, uint(k+1)))) {
				tg.t.Fatalf("%s has a wrong key at level %d", name, k+1)
			}
		}
	}
	if tg.public != nil && !bytes.Equal(tg.public.ctxBytes, first.ctxBytes) {
		tg.t.Fatal("the observer has another context")
	}
}

// TestChat is the path that every chat takes, in every suite.
func TestChat(t *testing.T) {
	t.Parallel()
	for _, cs := range AllCipherSuites() {
		t.Run(cs.String(), func(t *testing.T) {
			cfg := &Config{Suites: []CipherSuite{cs}}
			tg := newTestGroup(t, cfg, cs, "juliet", "romeo", "nurse")
			tg.say("juliet", "O Romeo, Romeo!")
			tg.say("romeo", "Shall I hear more?")
			tg.commit("romeo", nil)
			tg.agree()
			tg.add("nurse", "mercutio")
			tg.propose("juliet", func(g *Group) (*Message, *Group, error) { return g.ProposeUpdate(nil, nil) })
			tg.commit("mercutio", nil)
			tg.agree()
			tg.say("mercutio", "A plague on both your houses!")
			tg.commit("juliet", &CommitOptions{Remove: []LeafIndex{tg.members["mercutio"].self}})
			tg.agree()
			if len(tg.members) != 3 {
				t.Fatalf("%d members", len(tg.members))
			}
			tg.say("nurse", "Madam!")
		})
	}
}

// TestManyEpochs lets members come, go and commit, with both wire formats.
func TestManyEpochs(t *testing.T) {
	t.Parallel()
	tg := newTestGroup(t, nil, MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519, "m0")
	for i := 1; i < 20; i++ {
		by := fmt.Sprintf("m%d", (i*7)%i)
		if tg.members[by] == nil {
			by = "m0"
		}
		tg.add(by, fmt.Sprintf("m%d", i))
		if i%3 == 0 {
			tg.commit(fmt.Sprintf("m%d", i), &CommitOptions{ForcePath: true})
			tg.agree()
		}
		if i%5 == 4 {
			tg.commit("m0", &CommitOptions{Remove: []LeafIndex{tg.members[fmt.Sprintf("m%d", i-1)].self}})
			tg.agree()
		}
		tg.say("m0", "hello")
	}
}
