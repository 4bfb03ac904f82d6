// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"testing"
)

// GroupInfo with trees that break a rule, as who joins by an external commit and
// who begins to watch a group see them.
func init() {
	type editor = func(f *fabricated, e *treeEdit)
	judge := func(cfg *Config, n int, full bool, edit editor, change func(f *fabricated, gi *GroupInfo), tree []byte) func(c *court) error {
		return func(c *court) error {
			f := fabricate(c, nil, suite1, n, full)
			gi := forgeGroupInfo(c, f, func(e *treeEdit) {
				if edit != nil {
					edit(f, e)
				}
			}, func(gi *GroupInfo) {
				if change != nil {
					change(f, gi)
				}
			})
			_, err := NewPublicGroup(cfg, gi, tree)
			_, joins := JoinExternal(cfg, gi, testIdentity(c, suite1, "tybalt"), &ExternalJoinOptions{Tree: tree})
			if err == nil || joins == nil || err.Error() != joins.Error() {
				c.Errorf("who joins gets %v, who watches %v", joins, err)
			}
			// The same without the offence.
			if _, err := NewPublicGroup(nil, forgeGroupInfo(c, f, nil, nil), nil); err != nil {
				c.Errorf("an honest GroupInfo: %v", err)
			}
			return err
		}
	}
	tree := func(edit editor) func(c *court) error { return judge(nil, 9, true, edit, nil, nil) }
	// sparse trees have no parents, whose hashes would break first.
	leaf := func(i LeafIndex, edit func(f *fabricated, l *LeafNode)) func(c *court) error {
		return judge(nil, 9, false, func(f *fabricated, e *treeEdit) {
			l := *e.t.leaf(i)
			edit(f, &l)
			e.setLeaf(i, resign(f.s, &l, f.me[i].Key, nil, 0))
		}, nil, nil)
	}
	info := func(change func(f *fabricated, gi *GroupInfo)) func(c *court) error {
		return judge(nil, 9, true, nil, change, nil)
	}
	nodes := func(edit func(nodes []byte) []byte) func(c *court) error {
		return info(func(f *fabricated, gi *GroupInfo) {
			r := reader{b: gi.Extensions[0].Data}
			content := append([]byte(nil), r.opaque()...)
			gi.Extensions[0].Data = appendOpaque(nil, edit(content))
		})
	}
	parent := func(i LeafIndex, level int, edit func(f *fabricated, p *parentNode)) editor {
		return func(f *fabricated, e *treeEdit) {
			e.change(i, func(path []*treeNode) {
				p := *path[level].parent
				edit(f, &p)
				path[level].parent = &p
			})
		}
	}
	unmerged := func(level int, list ...LeafIndex) editor {
		return parent(0, level, func(_ *fabricated, p *parentNode) { p.unmergedLeaves = list })
	}

	offences["TestTreeRules"] = []offence{
		{rule: RuleTreeTooLarge, name: "tree", check: judge(&Config{Limits: Limits{MaxMembers: 4}}, 9, true, nil, nil, nil)},
		{rule: RuleLimit, name: "octets", check: judge(&Config{Limits: Limits{MaxMessage: 500}}, 9, true, nil, nil, nil)},
		{rule: RuleTreeShape, name: "parent-for-a-leaf", check: nodes(func(b []byte) []byte { b[1] = nodeTypeParent; return b })},
		{rule: RuleTreeShape, name: "no-type", check: nodes(func(b []byte) []byte { b[1] = 0; return b })},
		{rule: RuleTreeShape, name: "unknown-type", check: nodes(func(b []byte) []byte { b[1] = 3; return b })},
		{rule: RuleTreeShape, name: "leaf-for-a-parent", check: judge(nil, 1, true, nil, func(f *fabricated, gi *GroupInfo) {
			node := append([]byte{1, nodeTypeLeaf}, f.st.tree.leaf(0).Bytes()...)
			gi.Extensions[0].Data = appendOpaque(nil, append(node, node...))
		}, nil)},
		{rule: RuleTreeTrailingBlank, name: "one", check: nodes(func(b []byte) []byte { return append(b, 0) })},
		{rule: RuleTreeTrailingBlank, name: "many", check: nodes(func(b []byte) []byte { return append(b, make([]byte, 14)...) })},
		{rule: RuleTreeTrailingBlank, name: "empty", check: nodes(func(b []byte) []byte { return nil })},
		{rule: RuleTreeTrailingBlank, name: "blank", check: nodes(func(b []byte) []byte { return make([]byte, 17) })},
		{rule: RuleTreeParentHash, name: "flipped", check: tree(parent(0, 1, func(_ *fabricated, p *parentNode) { p.parentHash = flip(p.parentHash) }))},
		{rule: RuleTreeParentHash, name: "none", check: tree(parent(0, 2, func(_ *fabricated, p *parentNode) { p.parentHash = nil }))},
		{rule: RuleTreeParentHash, name: "of-a-leaf", check: judge(nil, 2, true, func(f *fabricated, e *treeEdit) {
			l := *e.t.leaf(0)
			l.ParentHash = flip(l.ParentHash)
			e.setLeaf(0, resign(f.s, &l, f.me[0].Key, f.st.ctx.GroupID, 0))
		}, nil, nil)},
		{rule: RuleTreeParentHash, name: "none-of-a-leaf", check: judge(nil, 2, true, func(f *fabricated, e *treeEdit) {
			l := *e.t.leaf(0)
			l.ParentHash = nil
			e.setLeaf(0, resign(f.s, &l, f.me[0].Key, f.st.ctx.GroupID, 0))
		}, nil, nil)},
		{rule: RuleTreeParentHash, name: "another-sibling", check: judge(nil, 2, true, func(f *fabricated, e *treeEdit) {
			l := *e.t.leaf(1)
			l.Extensions = nil
			e.setLeaf(1, resign(f.s, &l, f.me[1].Key, nil, 0))
		}, nil, nil)},
		{rule: RuleTreeParentHash, name: "another-key", check: tree(parent(0, 4, func(f *fabricated, p *parentNode) { p.encryptionKey = f.newKey() }))},
		{rule: RuleTreeUnmergedLeaf, name: "no-descendant", check: judge(nil, 2, true, unmerged(1, 5), nil, nil)},
		{rule: RuleTreeUnmergedLeaf, name: "blank", check: tree(unmerged(4, 12))},
		{rule: RuleTreeUnmergedLeaf, name: "2^32-1", check: tree(unmerged(4, 1<<32-1))},
		{rule: RuleTreeUnmergedPath, name: "one", check: tree(unmerged(4, 1))},
		{rule: RuleTreeUnmergedPath, name: "all", check: tree(unmerged(4, 0, 1, 2, 3, 4, 5, 6, 7))},
		{rule: RuleTreeKeyFormat, name: "none", check: tree(parent(0, 1, func(_ *fabricated, p *parentNode) { p.encryptionKey = nil }))},
		{rule: RuleTreeKeyFormat, name: "short", check: tree(parent(8, 4, func(_ *fabricated, p *parentNode) { p.encryptionKey = cut(p.encryptionKey) }))},
		{rule: RuleTreeKeyFormat, name: "zero", check: tree(parent(4, 2, func(_ *fabricated, p *parentNode) { p.encryptionKey = make([]byte, 32) }))},
		{rule: RuleTreeKeyFormat, name: "low-order", check: tree(parent(4, 3, func(_ *fabricated, p *parentNode) { p.encryptionKey = append([]byte{1}, make([]byte, 31)...) }))},
		{rule: RuleTreeParentKey, name: "of-a-leaf", check: tree(parent(0, 1, func(f *fabricated, p *parentNode) { p.encryptionKey = f.st.tree.leaf(3).EncryptionKey }))},
		{rule: RuleTreeParentKey, name: "of-a-parent", check: tree(parent(0, 1, func(f *fabricated, p *parentNode) { p.encryptionKey = f.st.tree.root.parent.encryptionKey }))},
		{rule: RuleSignatureKeyUnique, name: "tree", check: leaf(3, func(f *fabricated, l *LeafNode) { l.SignatureKey = f.st.tree.leaf(2).SignatureKey })},
		{rule: RuleEncryptionUnique, name: "tree", check: leaf(3, func(f *fabricated, l *LeafNode) { l.EncryptionKey = f.st.tree.leaf(8).EncryptionKey })},
		{rule: RuleTreeHash, name: "wrong", check: info(func(f *fabricated, gi *GroupInfo) { gi.Context.TreeHash = flip(gi.Context.TreeHash) })},
		{rule: RuleTreeHash, name: "none", check: info(func(f *fabricated, gi *GroupInfo) { gi.Context.TreeHash = nil })},
		{rule: RuleTreeLeaf, name: "signature", want: RuleLeafSignature, check: judge(nil, 9, false, func(f *fabricated, e *treeEdit) {
			e.setLeaf(5, badSignature(f.s, e.t.leaf(5)))
		}, nil, nil)},
		{rule: RuleTreeLeaf, name: "another-group", want: RuleLeafSignature, check: judge(nil, 2, true, func(f *fabricated, e *treeEdit) {
			e.setLeaf(0, resign(f.s, e.t.leaf(0), f.me[0].Key, GroupID("orchard"), 0))
		}, nil, nil)},
		{rule: RuleTreeLeaf, name: "another-place", want: RuleLeafSignature, check: judge(nil, 2, true, func(f *fabricated, e *treeEdit) {
			e.setLeaf(0, resign(f.s, e.t.leaf(0), f.me[0].Key, f.st.ctx.GroupID, 1))
		}, nil, nil)},
		{rule: RuleTreeLeaf, name: "lifetime", want: RuleLeafLifetime, check: leaf(8, func(f *fabricated, l *LeafNode) { l.Lifetime = Lifetime{2, 1} })},
		{rule: RuleTreeLeaf, name: "keys", want: RuleLeafKeys, check: leaf(8, func(f *fabricated, l *LeafNode) { l.EncryptionKey = cut(l.EncryptionKey) })},
		{rule: RuleLeafCredentialSupport, name: "tree", check: leaf(8, func(f *fabricated, l *LeafNode) {
			l.Credential = Credential{Type: 0xf00d}
			l.Capabilities.Credentials = []CredentialType{0xf00d, CredentialBasic}
		})},
		{rule: RuleContextSupport, name: "tree", check: info(func(f *fabricated, gi *GroupInfo) { gi.Context.Extensions = Extensions{{0xf00e, nil}} })},
		{rule: RuleContextRequired, name: "tree", check: info(func(f *fabricated, gi *GroupInfo) {
			gi.Context.Extensions = Extensions{(&RequiredCapabilities{Proposals: []ProposalType{0xf00e}}).Extension()}
		})},
	}

	offences["TestGroupInfoRules"] = []offence{
		{rule: RuleGroupInfoSignature, name: "another-member", check: info(func(f *fabricated, gi *GroupInfo) { gi.Signer = 1 })},
		{rule: RuleGroupInfoSignature, name: "blank", check: info(func(f *fabricated, gi *GroupInfo) { gi.Signer = 10 })},
		{rule: RuleGroupInfoSignature, name: "behind-the-tree", check: info(func(f *fabricated, gi *GroupInfo) { gi.Signer = 16 })},
		{rule: RuleGroupInfoSignature, name: "2^24", check: info(func(f *fabricated, gi *GroupInfo) { gi.Signer = 1 << 24 })},
		{rule: RuleGroupInfoSignature, name: "2^32-1", check: info(func(f *fabricated, gi *GroupInfo) { gi.Signer = 1<<32 - 1 })},
		{rule: RuleExtensionGroupInfo, name: "application-id", check: info(func(f *fabricated, gi *GroupInfo) {
			gi.Extensions = append(gi.Extensions, Extension{ExtensionApplicationID, nil})
		})},
		{rule: RuleExtensionUnique, name: "group-info", check: info(func(f *fabricated, gi *GroupInfo) { gi.Extensions = append(gi.Extensions, gi.Extensions[0]) })},
		{rule: RuleExtensionUnique, name: "group-info-context", check: info(func(f *fabricated, gi *GroupInfo) {
			x := (&RequiredCapabilities{}).Extension()
			gi.Context.Extensions = Extensions{x, x}
		})},
		{rule: RuleExtensionContext, name: "group-info", check: info(func(f *fabricated, gi *GroupInfo) { gi.Context.Extensions = Extensions{{ExtensionRatchetTree, nil}} })},
		{rule: RuleContextSenders, name: "group-info", check: info(func(f *fabricated, gi *GroupInfo) {
			gi.Context.Extensions = Extensions{{ExtensionExternalSenders, []byte{1}}}
		})},
		{rule: RuleAppDataFormat, name: "group-info", check: info(func(f *fabricated, gi *GroupInfo) {
			gi.Context.Extensions = Extensions{AppData{{2, nil}, {1, nil}}.Extension()}
		})},
		{rule: RuleGroupInfoPub, name: "short", check: info(func(f *fabricated, gi *GroupInfo) {
			gi.Extensions = append(gi.Extensions, Extension{ExtensionExternalPub, appendOpaque(nil, make([]byte, 31))})
		})},
		{rule: RuleGroupInfoPub, name: "without-length", check: info(func(f *fabricated, gi *GroupInfo) {
			gi.Extensions = append(gi.Extensions, Extension{ExtensionExternalPub, f.newKey()})
		})},
		{rule: RuleGroupInfoPub, name: "zero", check: info(func(f *fabricated, gi *GroupInfo) {
			gi.Extensions = append(gi.Extensions, Extension{ExtensionExternalPub, appendOpaque(nil, make([]byte, 32))})
		})},
		{rule: RuleGroupVersion, name: "two", check: info(func(f *fabricated, gi *GroupInfo) { gi.Context.Version = 2 })},
		{rule: RuleWelcomeTree, name: "none", check: info(func(f *fabricated, gi *GroupInfo) { gi.Extensions = nil })},
		{rule: RuleWelcomeTree, name: "two", check: judge(nil, 9, true, nil, nil, []byte{1, 0})},
		{rule: RuleGroupInfoTag, name: "short", check: info(func(f *fabricated, gi *GroupInfo) { gi.ConfirmationTag = cut(gi.ConfirmationTag) })},
		{rule: RuleGroupInfoTag, name: "none", check: info(func(f *fabricated, gi *GroupInfo) { gi.ConfirmationTag = nil })},

		{rule: RuleGroupInfoContext, name: "past-epoch", check: func(c *court) error {
			gi := c.groupInfo(nil)
			c.member("juliet", nil)
			return c.tg.public.CheckGroupInfo(gi)
		}},
		{rule: RuleGroupInfoContext, name: "extensions", check: func(c *court) error {
			return c.tg.public.CheckGroupInfo(c.groupInfo(func(gi *GroupInfo) { gi.Context.Extensions = Extensions{(&RequiredCapabilities{}).Extension()} }))
		}},
		{rule: RuleGroupInfoTag, name: "observer", check: func(c *court) error {
			return c.tg.public.CheckGroupInfo(c.groupInfo(func(gi *GroupInfo) { gi.ConfirmationTag = flip(gi.ConfirmationTag) }))
		}},
		{rule: RuleTreeHash, name: "observer", check: func(c *court) error {
			return c.tg.public.CheckGroupInfo(c.groupInfo(func(gi *GroupInfo) {
				i := 0
				for gi.Extensions[i].Type != ExtensionRatchetTree {
					i++
				}
				gi.Extensions[i].Data = flip(gi.Extensions[i].Data)
			}))
		}},
		{rule: RuleExtensionGroupInfo, name: "observer", check: func(c *court) error {
			return c.tg.public.CheckGroupInfo(c.groupInfo(func(gi *GroupInfo) { gi.Extensions = Extensions{{ExtensionRequiredCapabilities, nil}} }))
		}},
		{rule: RuleGroupInfoSignature, name: "observer", check: func(c *court) error {
			return c.tg.public.CheckGroupInfo(c.groupInfo(func(gi *GroupInfo) { gi.Signer = c.blank }))
		}},
	}
}

// groupInfo is one of mallory, changed before she signs it.
func (c *court) groupInfo(edit func(gi *GroupInfo)) *GroupInfo {
	c.Helper()
	gi, err := c.f.g.groupInfo(&GroupInfoOptions{ExternalPub: true, InlineTree: true})
	if err != nil {
		c.Fatal(err)
	}
	if edit != nil {
		edit(gi)
		if err := gi.sign(c.f.g.s, c.f.g.me.Key); err != nil {
			c.Fatal(err)
		}
	}
	return wire(c, gi.Message()).GroupInfo
}

// newKey makes a public key that nobody needs.
func (f *fabricated) newKey() []byte {
	_, pub, err := f.s.generateHPKEKeyPair(nil)
	if err != nil {
		f.tb.Fatal(err)
	}
	return pub
}

func TestTreeRules(t *testing.T)      { tryAll(t) }
func TestGroupInfoRules(t *testing.T) { tryAll(t) }
