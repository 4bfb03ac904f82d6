// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"slices"
	"testing"
)

// This file holds what other stacks write and the RFC does not tell a receiver to
// refuse: a client that refused it would be out of a group in which all others go
// on.

// foreign makes a key package as another stack would, and lets edit change what is
// said in it. Its owner is a client of ours, which reads what follows.
func foreign(t testing.TB, name string, edit func(kp *KeyPackage)) *PrivateKeyPackage {
	t.Helper()
	return forgeKeyPackage(t, suite1, name, edit)
}

// addForeign lets by add the owner of a key package, by value or by reference, and
// everybody, the new member too, go on from there.
func (tg *testGroup) addForeign(by string, kp *PrivateKeyPackage, byValue bool) {
	tg.t.Helper()
	name := string(kp.KeyPackage.LeafNode.Credential.Identity)
	o := &CommitOptions{InlineTree: true}
	if byValue {
		o.Add = []*KeyPackage{kp.KeyPackage}
	} else {
		tg.propose(by, func(g *Group) (*Message, *Group, error) { return g.ProposeAdd(kp.KeyPackage, nil) })
	}
	p := tg.commit(by, o)
	g, err := Join(tg.cfg, wire(tg.t, p.Welcome()).Welcome, kp, nil)
	if err != nil {
		tg.t.Fatalf("%s joins: %v", name, err)
	}
	tg.members[name] = g
	tg.agree()
	tg.say(name, "good morrow")
	tg.commit(name, nil)
	tg.agree()
}

// listDefaults lists what RFC 9420 §7.2 says is not to be listed, as go-mls does
// in every key package and OpenMLS's program for the interop harness too.
func listDefaults(l *LeafNode) {
	l.Capabilities.Extensions = append(slices.Clone(l.Capabilities.Extensions), ExtensionRatchetTree, ExtensionExternalSenders)
	l.Capabilities.Proposals = append(slices.Clone(l.Capabilities.Proposals), ProposalAdd, ProposalUpdate, ProposalRemove)
}

func TestListedDefaults(t *testing.T) {
	tg := newTestGroup(t, nil, suite1, "juliet", "romeo")
	for i, name := range []string{"mercutio", "benvolio"} {
		kp := foreign(t, name, func(kp *KeyPackage) { listDefaults(kp.LeafNode) })
		if err := kp.KeyPackage.Verify(nil); err != nil {
			t.Fatal(err)
		}
		tg.addForeign("juliet", kp, i == 0)
	}
	// The leaf of an Update and of a path, of a member that lists them.
	tg.propose("mercutio", func(g *Group) (*Message, *Group, error) { return g.ProposeUpdate(nil, nil) })
	tg.commit("benvolio", nil)
	tg.agree()
	tg.joinExternally("nurse", &ExternalJoinOptions{})
}

// TestDefaultsAreNotListed: whatever the application asks for, this client lists no
// default.
func TestDefaultsAreNotListed(t *testing.T) {
	cfg := &Config{Capabilities: Capabilities{
		Extensions: []ExtensionType{ExtensionApplicationID, 0xf00d, ExtensionExternalPub},
		Proposals:  []ProposalType{ProposalPSK, 0xf00d},
	}}
	caps := &testKeyPackage(t, cfg, suite1, "juliet").KeyPackage.LeafNode.Capabilities
	if slices.ContainsFunc(caps.Extensions, ExtensionType.isDefault) || slices.ContainsFunc(caps.Proposals, ProposalType.isDefault) {
		t.Errorf("listed are %v and %v", caps.Extensions, caps.Proposals)
	}
	if !caps.SupportsExtension(0xf00d) || !caps.SupportsProposal(0xf00d) {
		t.Error("what is no default is lost")
	}
}

// TestLifetimeIsTaken: what this client makes lives no longer than others take.
// OpenMLS has the shortest bound, 84 days and the hour before.
func TestLifetimeIsTaken(t *testing.T) {
	const bound = 84*24*3600 + 3600
	if l := testKeyPackage(t, nil, suite1, "juliet").KeyPackage.LeafNode.Lifetime; l.NotAfter-l.NotBefore > bound {
		t.Errorf("a key package lives for %d s", l.NotAfter-l.NotBefore)
	}
}
