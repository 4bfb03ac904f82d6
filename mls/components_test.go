// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"slices"
	"testing"
)

// requiring is a GroupContext extension that requires components.
func requiring(app, safeAAD []ComponentID) Extension {
	d := AppData{{ComponentAppComponents, ComponentsList(app...)}}
	if safeAAD != nil {
		d = d.With(ComponentSafeAAD, ComponentsList(safeAAD...))
	}
	return d.Extension()
}

// Groups that require components, and members that do not have them.
func init() {
	const chess, clock ComponentID = 0x8001, 0x8002
	players := func(c *Config) {
		c.Components, c.SafeAADComponents = []ComponentID{chess, clock}, []ComponentID{clock}
	}
	// required makes a group that requires both.
	required := func(c *court) {
		c.member("juliet", &CommitOptions{ContextExtensions: Extensions{requiring([]ComponentID{chess, ComponentAppComponents}, nil)}})
	}
	context := func(x Extension) func(c *court) *Message {
		return func(c *court) *Message { return c.commit(forgery{}, &GroupContextExtensions{Extensions{x}}) }
	}
	list := func(ids ...ComponentID) func(l *LeafNode) {
		return func(l *LeafNode) {
			l.Extensions = Extensions{AppData{{ComponentAppComponents, ComponentsList(ids...)}}.Extension()}
		}
	}
	offences["TestComponentRules"] = []offence{
		{rule: RuleAppComponents, name: "context", message: context(requiring([]ComponentID{chess}, nil))},
		{rule: RuleAppComponents, name: "context-safe-aad", cfg: func(c *Config) { c.Components = []ComponentID{chess, clock} },
			message: context(requiring([]ComponentID{chess}, []ComponentID{clock}))},
		{rule: RuleAppComponents, name: "app-data-update", message: func(c *court) *Message {
			return c.commit(forgery{}, &AppDataUpdate{ComponentAppComponents, AppDataUpdateOp, ComponentsList(chess)})
		}},
		{rule: RuleAppComponents, name: "add", cfg: players, message: func(c *court) *Message {
			required(c)
			return addLeaf(list(clock))(c)
		}},
		{rule: RuleAppComponents, name: "add-without-dictionary", cfg: players, message: func(c *court) *Message {
			required(c)
			return addLeaf(func(l *LeafNode) { l.Extensions = nil })(c)
		}},
		{rule: RuleAppComponents, name: "add-grease-only", cfg: players, message: func(c *court) *Message {
			required(c)
			return addLeaf(list(0x0a0a))(c)
		}},
		{rule: RuleAppComponents, name: "path", cfg: players, message: func(c *court) *Message {
			required(c)
			return c.commit(forgery{leaf: list(ComponentAppComponents)})
		}},
		{rule: RuleAppComponents, name: "update", cfg: players, message: func(c *court) *Message {
			required(c)
			ref := c.propose("romeo", func(g *Group) (*Message, *Group, error) {
				return g.ProposeUpdate(&LeafChange{Extensions: Extensions{AppData{{ComponentAppComponents, ComponentsList(clock)}}.Extension()}}, nil)
			})
			return c.refs(forgery{}, ref)
		}},
		{rule: RuleAppComponents, name: "join-external", cfg: players, check: func(c *court) error {
			required(c)
			gi := must(c.f.g.GroupInfo(&GroupInfoOptions{ExternalPub: true, InlineTree: true})).GroupInfo
			_, err := JoinExternal(nil, gi, testIdentity(c, suite1, "tybalt"), nil)
			return err
		}},
		{rule: RuleAppComponents, name: "new-group", check: func(c *court) error {
			_, err := NewGroup(nil, suite1, nil, testIdentity(c, suite1, "tybalt"), &GroupOptions{Extensions: Extensions{requiring([]ComponentID{chess}, nil)}})
			return err
		}},
		{rule: RuleAppComponents, name: "tree", check: func(c *court) error {
			gi := forgeGroupInfo(c, fabricate(c, nil, suite1, 5, true), nil, func(gi *GroupInfo) {
				gi.Context.Extensions = Extensions{requiring([]ComponentID{chess}, nil)}
			})
			_, err := NewPublicGroup(nil, gi, nil)
			return err
		}},
		{rule: RuleAppDataFormat, name: "sent-leaf", check: func(c *court) error {
			_, err := NewKeyPackage(nil, suite1, testIdentity(c, suite1, "tybalt"), &KeyPackageOptions{LeafExtensions: Extensions{{ExtensionAppDataDictionary, []byte{9}}}})
			return err
		}},
		{rule: RuleAppDataFormat, name: "half-a-component", message: addLeaf(func(l *LeafNode) {
			l.Extensions = Extensions{AppData{{ComponentAppComponents, []byte{1, 0}}}.Extension()}
		})},
		{rule: RuleAppDataFormat, name: "list-in-context", message: context(AppData{{ComponentSafeAAD, []byte{9}}}.Extension())},
	}
}

func TestComponentRules(t *testing.T) { tryAll(t) }

// TestComponents: what the configuration names stands in the leaf, and is enough for
// groups that require it.
func TestComponents(t *testing.T) {
	const chess, clock ComponentID = 0x8001, 0x8002
	cfg := &Config{Components: []ComponentID{chess}, SafeAADComponents: []ComponentID{chess}}
	listed := func(l *LeafNode) componentLists {
		t.Helper()
		lists, err := l.Extensions.components()
		if err != nil {
			t.Fatal(err)
		}
		return lists
	}
	tg := newTestGroup(t, cfg, suite1, "juliet", "romeo")
	for _, g := range tg.members {
		lists := listed(g.Self().Leaf)
		for _, id := range append(slices.Clone(ownComponents), chess) {
			if !slices.Contains(lists.app, id) {
				t.Errorf("component %d is not among %v", id, lists.app)
			}
		}
		if !slices.IsSorted(lists.app) || !slices.ContainsFunc(lists.app, isGREASE[ComponentID]) || !slices.Contains(lists.safeAAD, chess) {
			t.Errorf("lists are %v and %v", lists.app, lists.safeAAD)
		}
		if g.Self().DeviceID() == nil && g.self != 0 {
			t.Error("the leaf's other extensions are gone")
		}
	}
	tg.commit("juliet", &CommitOptions{ContextExtensions: Extensions{requiring([]ComponentID{chess}, nil)}})
	tg.add("romeo", "nurse")
	tg.commit("nurse", &CommitOptions{AppData: []*AppDataUpdate{{ComponentAppComponents, AppDataUpdateOp, ComponentsList(chess, ComponentSafeAAD)}}})
	tg.agree()

	// A new configuration counts for the leaf once it is renewed.
	g := tg.members["juliet"]
	cfg2 := *cfg
	cfg2.Components = []ComponentID{chess, clock}
	g, err := Load(&cfg2, g.Save())
	if err != nil {
		t.Fatal(err)
	}
	tg.members["juliet"] = g
	tg.commit("juliet", nil)
	if slices.Contains(listed(tg.members["juliet"].Self().Leaf).app, clock) {
		t.Error("the leaf changed without being asked")
	}
	tg.commit("juliet", &CommitOptions{Update: &LeafChange{Capabilities: true}})
	if lists := listed(tg.members["juliet"].Self().Leaf); !slices.Contains(lists.app, clock) || !slices.Contains(lists.safeAAD, chess) {
		t.Errorf("renewed lists are %v and %v", lists.app, lists.safeAAD)
	}
	// Now mallory, who has no chess, leaves the counters of the others alone.
	if _, err := tg.members["juliet"].Commit(&CommitOptions{Add: []*KeyPackage{testKeyPackage(t, nil, suite1, "mallory").KeyPackage}}); !hasRule(err, RuleAppComponents) {
		t.Errorf("adding who has no chess: %v", err)
	}
	tg.add("juliet", "benvolio")
}

// TestRFCOnly: a leaf that others need know no draft for, in a group with one that
// announces all.
func TestRFCOnly(t *testing.T) {
	plain := &Config{RFCOnly: true, NoGREASE: true}
	tg := newTestGroup(t, plain, suite1, "juliet", "romeo")
	tg.cfg = nil
	tg.add("juliet", "nurse")
	for _, name := range []string{"juliet", "romeo"} {
		l := tg.members[name].Self().Leaf
		if n := len(l.Capabilities.Extensions) + len(l.Capabilities.Proposals); n != 0 || len(l.Extensions) > 1 {
			t.Errorf("the leaf of %s has capabilities %v and extensions %v", name, l.Capabilities, l.Extensions)
		}
	}
	tg.commit("romeo", nil)
	tg.commit("nurse", nil)
	tg.agree()
	if _, _, err := tg.members["nurse"].ProposeSelfRemove(nil); !hasRule(err, RuleProposalSupport) {
		t.Errorf("a SelfRemove in a group that does not know it: %v", err)
	}
	if _, _, err := tg.members["nurse"].ProposeAppData(&AppDataUpdate{Component: 0x8000, Op: AppDataUpdateOp}, nil); !hasRule(err, RuleProposalSupport) {
		t.Errorf("an AppDataUpdate in a group that does not know it: %v", err)
	}
	if _, err := tg.members["nurse"].Commit(&CommitOptions{ContextExtensions: Extensions{requiring(nil, nil)}}); !hasRule(err, RuleContextSupport) {
		t.Errorf("application data in a group that does not know them: %v", err)
	}
	tg.commit("juliet", &CommitOptions{Update: &LeafChange{Capabilities: true}})
	tg.joinExternally("benvolio", &ExternalJoinOptions{})
}
