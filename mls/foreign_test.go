// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// This file holds what other stacks write, which a client has to take, or can be
// told to: who refused it would be out of a group in which all others go on.

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
	tg := newTestGroup(t, &Config{AllowListedDefaults: true}, suite1, "juliet", "romeo")
	for i, name := range []string{"mercutio", "benvolio"} {
		kp := foreign(t, name, func(kp *KeyPackage) { listDefaults(kp.LeafNode) })
		var e *ValidationError
		if err := kp.KeyPackage.Verify(nil); !errors.As(err, &e) || e.Rule != RuleLeafDefaults {
			t.Fatalf("without being asked for: %v", err)
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

// greases are all values that RFC 9420 §13.5 reserves.
func greases[T ~uint16]() (list []T) {
	for b := range 15 {
		list = append(list, T(greaseValue(byte(b))))
	}
	return list
}

// TestForeignKeyPackages: key packages as other stacks fill them, or may.
func TestForeignKeyPackages(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		edit func(kp *KeyPackage, caps *Capabilities)
	}{
		{"grease", func(kp *KeyPackage, caps *Capabilities) {
			caps.Versions = append(greases[ProtocolVersion](), MLS10)
			caps.CipherSuites = append(greases[CipherSuite](), caps.CipherSuites...)
			caps.Extensions = append(greases[ExtensionType](), caps.Extensions...)
			caps.Proposals = append(greases[ProposalType](), caps.Proposals...)
			caps.Credentials = append(greases[CredentialType](), caps.Credentials...)
			for _, g := range greases[ExtensionType]() {
				kp.LeafNode.Extensions = append(kp.LeafNode.Extensions.Without(g), Extension{g, []byte(g.String())})
				kp.Extensions = append(kp.Extensions.Without(g), Extension{g, nil})
			}
		}},
		{"grease twice", func(_ *KeyPackage, caps *Capabilities) {
			caps.Extensions = slices.Repeat(append(caps.Extensions, 0x3a3a), 3)
			caps.Proposals = slices.Repeat(append(caps.Proposals, 0x3a3a), 3)
			caps.Credentials = slices.Repeat(caps.Credentials, 20)
		}},
		{"unlisted extension of the key package", func(kp *KeyPackage, _ *Capabilities) {
			kp.Extensions = append(kp.Extensions, Extension{0xf123, []byte("of the application")})
		}},
		{"unknown extensions", func(kp *KeyPackage, caps *Capabilities) {
			caps.Extensions = append(caps.Extensions, 0xf124, 0x000b)
			kp.LeafNode.Extensions = append(kp.LeafNode.Extensions, Extension{0xf124, nil}, Extension{0x000b, []byte{0}})
		}},
		{"no extensions at all", func(kp *KeyPackage, _ *Capabilities) { kp.Extensions, kp.LeafNode.Extensions = nil, nil }},
		{"least capabilities", func(kp *KeyPackage, caps *Capabilities) {
			kp.Extensions, kp.LeafNode.Extensions = nil, nil
			*caps = Capabilities{
				Versions: []ProtocolVersion{MLS10}, CipherSuites: []CipherSuite{suite1}, Credentials: []CredentialType{CredentialBasic},
			}
		}},
		{"draft versions", func(_ *KeyPackage, caps *Capabilities) { caps.Versions = []ProtocolVersion{MLS10, 200} }},
		{"endless lifetime", func(kp *KeyPackage, _ *Capabilities) { kp.LeafNode.Lifetime = Lifetime{0, 1<<64 - 1} }},
		{"lifetime of a moment", func(kp *KeyPackage, _ *Capabilities) {
			kp.LeafNode.Lifetime = Lifetime{uint64(time.Now().Unix()), uint64(time.Now().Unix()) + 60}
		}},
		{"last resort of old", func(kp *KeyPackage, caps *Capabilities) {
			caps.Extensions = append(caps.Extensions, ExtensionLastResort)
			kp.Extensions = Extensions{{ExtensionLastResort, nil}}
		}},
		{"empty application_id", func(kp *KeyPackage, _ *Capabilities) {
			kp.LeafNode.Extensions = Extensions{{ExtensionApplicationID, nil}}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			// Mixed with members that announce much and that announce nothing.
			tg := newTestGroup(t, &Config{Limits: Limits{MaxLifetime: -1}}, suite1, "juliet", "romeo")
			for i, name := range []string{"mercutio", "benvolio"} {
				kp := foreign(t, name, func(kp *KeyPackage) {
					caps := &kp.LeafNode.Capabilities
					caps.Extensions = slices.Clip(caps.Extensions)
					caps.Proposals = slices.Clip(caps.Proposals)
					caps.Credentials = slices.Clip(caps.Credentials)
					kp.LeafNode.Extensions = slices.Clip(kp.LeafNode.Extensions)
					kp.Extensions = slices.Clip(kp.Extensions)
					c.edit(kp, caps)
				})
				if err := kp.KeyPackage.Verify(tg.cfg); err != nil {
					t.Fatal(err)
				}
				tg.addForeign("juliet", kp, i == 0)
			}
			tg.propose("mercutio", func(g *Group) (*Message, *Group, error) { return g.ProposeUpdate(nil, nil) })
			tg.commit("benvolio", nil)
			tg.agree()
			tg.joinExternally("nurse", &ExternalJoinOptions{})
			tg.commit("romeo", &CommitOptions{Remove: []LeafIndex{tg.members["mercutio"].self}})
			tg.agree()
		})
	}
}

// TestForeignCommits: the proposals of a commit may stand in any order, and one
// commit may remove a client and add it again.
func TestForeignCommits(t *testing.T) {
	psks := ExternalPSKs{"ring": []byte("posy"), "": []byte{}}
	nonce := func(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }
	ring := func(b byte) *PreSharedKey {
		return &PreSharedKey{PreSharedKeyID{Type: PSKExternal, ID: []byte("ring"), Nonce: nonce(b)}}
	}
	none := &PreSharedKey{PreSharedKeyID{Type: PSKExternal, Nonce: nonce(9)}}
	cfg := &Config{PSKs: psks}
	tg := newTestGroup(t, cfg, suite1, "juliet", "mallory", "romeo", "mercutio")
	c := &court{T: t, tg: tg}
	c.renew()
	take := func(what string, m *Message) {
		t.Helper()
		for _, name := range []string{"juliet", "romeo"} {
			if _, err := tg.members[name].Process(wire(t, m)); err != nil {
				t.Errorf("%s: %s refuses: %v", what, name, err)
			}
		}
		if m.Public != nil {
			if _, err := tg.public.Process(wire(t, m)); err != nil {
				t.Errorf("%s: the observer refuses: %v", what, err)
			}
		}
	}
	kp := foreign(t, "nurse", nil)
	required := &GroupContextExtensions{Extensions{(&RequiredCapabilities{ // of defaults, which none lists
		Extensions: []ExtensionType{ExtensionExternalSenders}, Proposals: []ProposalType{ProposalAdd}, Credentials: []CredentialType{CredentialBasic},
	}).Extension(), ExternalSendersExtension()}}
	all := []Proposal{&Add{kp.KeyPackage}, ring(1), required, &Remove{tg.members["mercutio"].self}, ring(2), none}
	for i := range 2 {
		var keys [][]byte // they count in the order of the list
		for _, p := range all {
			if psk, ok := p.(*PreSharedKey); ok {
				keys = append(keys, psks[string(psk.ID.ID)])
			}
		}
		out := c.f.commit(byValue(all...), forgery{psks: keys})
		take("any order", out.message)
		if _, err := Join(cfg, out.welcome, kp, &JoinOptions{Tree: out.tree.marshal(nil)}); err != nil {
			t.Errorf("order %d: nurse refuses the Welcome: %v", i, err)
		}
		slices.Reverse(all)
	}
	mercutio := tg.members["mercutio"]
	again, err := NewKeyPackage(cfg, suite1, mercutio.me, nil)
	if err != nil {
		t.Fatal(err)
	}
	take("removed and added", c.commit(forgery{}, &Remove{mercutio.self}, &Add{again.KeyPackage}))

	// External commits: the ExternalInit last, a new signature key for a former self.
	y, init := c.joiner("tybalt", nil)
	y.psks = [][]byte{psks["ring"], psks["ring"]}
	take("ExternalInit last", c.commit(y, ring(1), ring(2), init))
	y, init = c.joiner("mercutio", nil)
	take("former self with another key", c.commit(y, &Remove{mercutio.self}, init))
	y, init = c.joiner("mercutio", mercutio.me.Key)
	take("former self with the same key", c.commit(y, init, &Remove{mercutio.self}))
}

// TestForeignGroups: a group of one commits; a group may have an id of no octets.
func TestForeignGroups(t *testing.T) {
	g, err := NewGroup(nil, suite1, GroupID{}, testIdentity(t, suite1, "juliet"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []*CommitOptions{nil, {ForcePath: true}, {Wire: WireFormatPrivateMessage}} {
		p, err := g.Commit(o)
		if err != nil {
			t.Fatal(err)
		}
		if g, err = p.Merge(); err != nil {
			t.Fatal(err)
		}
	}
	gi, err := g.GroupInfo(&GroupInfoOptions{InlineTree: true, ExternalPub: true})
	if err != nil {
		t.Fatal(err)
	}
	// What receivers do not know in a GroupInfo they ignore.
	info := wire(t, gi).GroupInfo
	for _, x := range append(greases[ExtensionType](), 0xf00d, ExtensionLastResort) {
		info.Extensions = append(info.Extensions.Without(x), Extension{x, []byte("?")})
	}
	if err := info.sign(g.s, g.me.Key); err != nil {
		t.Fatal(err)
	}
	p, err := JoinExternal(nil, wire(t, info.Message()).GroupInfo, testIdentity(t, suite1, "romeo"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Process(wire(t, p.Message())); err != nil {
		t.Error(err)
	}
}

// TestForeignMessages: any length of content, authenticated data and padding, none
// among them.
func TestForeignMessages(t *testing.T) {
	for _, pad := range []int{0, 1, 63, 64, 20000} {
		tg := newTestGroup(t, &Config{Padding: func(int) int { return pad }}, suite1, "juliet", "romeo")
		for _, text := range [][]byte{nil, {}, {0}, make([]byte, 300)} {
			for _, aad := range [][]byte{nil, {}, {0}, make([]byte, 70000)} {
				m, err := tg.members["juliet"].Seal(text, aad)
				if err != nil {
					t.Fatal(err)
				}
				r, err := tg.members["romeo"].Process(wire(t, m))
				if err != nil {
					t.Fatal(err)
				}
				if a := r.(*ApplicationMessage); !bytes.Equal(a.Data, text) || !bytes.Equal(a.AAD, aad) {
					t.Error(fmt.Sprint(len(a.Data), len(a.AAD)))
				}
			}
		}
		tg.commit("romeo", &CommitOptions{Wire: WireFormatPrivateMessage})
		tg.agree()
	}
}
