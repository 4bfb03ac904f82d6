// SPDX-License-Identifier: Apache-2.0

package mls

import "testing"

// joiner is the forgery of an external commit, and its ExternalInit. key nil
// makes one.
func (c *court) joiner(name string, key *SignaturePrivateKey) (forgery, *ExternalInit) {
	c.Helper()
	g := c.f.g
	pub, err := g.ExternalPub()
	if err != nil {
		c.Fatal(err)
	}
	out, secret, err := g.s.externalInitSend(nil, pub)
	if err != nil {
		c.Fatal(err)
	}
	if key == nil {
		key = testIdentity(c, suite1, name).Key
	}
	return forgery{
		external: true, initSecret: secret, key: key, leafKey: key,
		leaf: func(l *LeafNode) { l.Credential = BasicCredential([]byte(name)) },
	}, &ExternalInit{out}
}

// External commits that break a rule.
func init() {
	s := must(suite1.suite())
	join := func(edit func(c *court, y *forgery, init *ExternalInit) []Proposal) func(c *court) *Message {
		return func(c *court) *Message {
			y, init := c.joiner("tybalt", nil)
			return c.commit(y, edit(c, &y, init)...)
		}
	}
	with := func(p func(c *court) Proposal) func(c *court) *Message {
		return join(func(c *court, y *forgery, init *ExternalInit) []Proposal { return []Proposal{init, p(c)} })
	}
	forged := func(edit func(c *court, y *forgery)) func(c *court) *Message {
		return func(c *court) *Message {
			y, init := c.joiner("tybalt", nil)
			edit(c, &y)
			return c.commit(y, init)
		}
	}
	// former is mallory's leaf: she joins again in her own place.
	former := func(edit func(c *court, y *forgery), list func(c *court) []Proposal) func(c *court) *Message {
		return func(c *court) *Message {
			y, init := c.joiner("mallory", c.f.g.me.Key)
			if edit != nil {
				edit(c, &y)
			}
			return c.commit(y, append([]Proposal{init}, list(c)...)...)
		}
	}
	psk := &PreSharedKey{PreSharedKeyID{Type: PSKExternal, ID: []byte("feud"), Nonce: make([]byte, s.nh-1)}}

	offences["TestExternalCommitRules"] = []offence{
		{rule: RuleExternalInitOnce, name: "none", message: join(func(c *court, y *forgery, init *ExternalInit) []Proposal { return nil })},
		{rule: RuleExternalInitOnce, name: "two", message: join(func(c *court, y *forgery, init *ExternalInit) []Proposal { return []Proposal{init, init} })},
		{rule: RuleExternalInitOnce, name: "short", message: join(func(c *court, y *forgery, init *ExternalInit) []Proposal {
			return []Proposal{&ExternalInit{cut(init.KEMOutput)}}
		})},
		{rule: RuleExternalInitOnce, name: "empty", message: join(func(c *court, y *forgery, init *ExternalInit) []Proposal { return []Proposal{&ExternalInit{[]byte{}}} })},
		{rule: RuleExternalInitOnce, name: "zero", blind: true, message: join(func(c *court, y *forgery, init *ExternalInit) []Proposal {
			return []Proposal{&ExternalInit{make([]byte, len(init.KEMOutput))}}
		})},
		{rule: RuleExternalRemove, name: "two", message: join(func(c *court, y *forgery, init *ExternalInit) []Proposal {
			return []Proposal{init, &Remove{c.self("romeo")}, &Remove{c.self("nurse")}}
		})},
		{rule: RuleExternalRemove, name: "two-where-anybody-may", cfg: func(c *Config) { c.Authenticator = vectorAuthenticator{} }, message: join(func(c *court, y *forgery, init *ExternalInit) []Proposal {
			return []Proposal{init, &Remove{c.self("romeo")}, &Remove{c.self("nurse")}}
		})},
		{rule: RuleExternalRemove, name: "somebody-else", is: ErrIdentityChanged, message: with(func(c *court) Proposal { return &Remove{c.self("romeo")} })},
		{rule: RuleExternalRemove, name: "old-key", message: former(func(c *court, y *forgery) {
			y.leaf = func(l *LeafNode) { l.EncryptionKey = c.f.g.Self().Leaf.EncryptionKey }
		}, func(c *court) []Proposal { return []Proposal{&Remove{c.f.g.self}} })},
		{rule: RuleRemoveBlank, name: "external", message: with(func(c *court) Proposal { return &Remove{c.blank} })},
		{rule: RuleExternalPSK, name: "nonce", want: RulePSKNonce, message: func(c *court) *Message {
			y, init := c.joiner("tybalt", nil)
			y.psks = [][]byte{[]byte("Montague")}
			return c.commit(y, init, psk)
		}},
		{rule: RuleExternalOther, name: "add", message: with(func(c *court) Proposal { return &Add{c.keyPackage(nil).KeyPackage} })},
		{rule: RuleExternalOther, name: "update", message: with(func(c *court) Proposal { return c.update(nil) })},
		{rule: RuleUpdateSender, name: "joiner-instead", want: RuleExternalOther, message: with(func(c *court) Proposal { return c.update(nil) })},
		{rule: RuleExternalOther, name: "context", message: with(func(c *court) Proposal { return &GroupContextExtensions{} })},
		{rule: RuleExternalOther, name: "reinit-alone", message: with(func(c *court) Proposal { return &ReInit{GroupID("orchard"), MLS10, suite1, nil} })},
		{rule: RuleExternalOther, name: "reinit", message: join(func(c *court, y *forgery, init *ExternalInit) []Proposal {
			return []Proposal{&ReInit{GroupID("orchard"), MLS10, suite1, nil}}
		})},
		{rule: RuleSelfRemoveValue, name: "external", message: with(func(c *court) Proposal { return &SelfRemove{} })},
		{rule: RuleExternalPath, name: "none", message: forged(func(c *court, y *forgery) { y.noPath = true })},
		{rule: RuleExternalByReference, name: "remove", message: func(c *court) *Message {
			ref := c.propose("romeo", func(g *Group) (*Message, *Group, error) { return g.ProposeRemove(c.self("nurse"), nil) })
			y, init := c.joiner("tybalt", nil)
			return c.f.commit(append(byValue(init), ProposalOrRef{Ref: ref}), y).message
		}},
		{rule: RuleExternalByReference, name: "unknown", is: ErrMissingProposal, message: func(c *court) *Message {
			y, init := c.joiner("tybalt", nil)
			return c.f.commit(append(byValue(init), ProposalOrRef{Ref: make([]byte, s.nh)}), y).message
		}},
		{rule: RuleExternalSignature, name: "wrong", message: forged(func(c *court, y *forgery) { y.signature = flip })},
		{rule: RuleExternalSignature, name: "by-a-member", message: forged(func(c *court, y *forgery) { y.key = c.f.g.me.Key })},
		{rule: RuleExternalSignature, name: "another-context", message: forged(func(c *court, y *forgery) { y.context = []byte("another") })},
		{rule: RuleExternalSenderType, name: "member", want: RuleExternalInitMember, message: func(c *court) *Message {
			_, init := c.joiner("tybalt", nil)
			return c.commit(forgery{}, init)
		}},
		{rule: RuleExternalSenderType, name: "external", want: RuleExternalContent, message: forged(func(c *court, y *forgery) {
			y.content = func(f *FramedContent) { f.Sender = Sender{Type: SenderExternal} }
		})},
		{rule: RuleSignatureKeyUnique, name: "member-without-remove", message: former(nil, func(c *court) []Proposal { return nil })},
		{rule: RuleLeafSignature, name: "external", message: forged(func(c *court, y *forgery) { y.unsignedLeaf = func(l *LeafNode) { l.Signature = flip(l.Signature) } })},
		{rule: RuleLeafSourceCommit, name: "external", message: forged(func(c *court, y *forgery) {
			y.leaf = func(l *LeafNode) {
				l.Credential, l.Source, l.Lifetime = BasicCredential([]byte("tybalt")), LeafNodeKeyPackage, Lifetime{0, 1 << 40}
			}
		})},
		{rule: RuleConfirmationTag, name: "external", blind: true, message: forged(func(c *court, y *forgery) { y.initSecret = flip(y.initSecret) })},
		{rule: RuleCommitPathKeys, name: "external", message: forged(func(c *court, y *forgery) {
			y.keys = func(n []UpdatePathNode) { n[0].EncryptionKey = c.f.g.Self().Leaf.EncryptionKey }
		})},
		{rule: RuleTreeTooLarge, name: "external", cfg: func(c *Config) { c.Limits.MaxMembers = 5 }, message: func(c *court) *Message {
			c.tg.add("juliet", "paris")
			c.renew()
			y, init := c.joiner("tybalt", nil)
			return c.commit(y, init)
		}},
		{rule: RuleLeafRequired, name: "external", message: func(c *court) *Message {
			c.member("juliet", &CommitOptions{ContextExtensions: Extensions{(&RequiredCapabilities{Proposals: []ProposalType{ProposalSelfRemove}}).Extension()}})
			y, init := c.joiner("tybalt", nil)
			y.leaf = func(l *LeafNode) { l.Credential, l.Capabilities.Proposals = BasicCredential([]byte("tybalt")), nil }
			return c.commit(y, init)
		}},
		{rule: RuleSelfRemovePrivate, name: "sent-by-a-joiner", check: func(c *court) error {
			gi := must(c.f.g.GroupInfo(&GroupInfoOptions{ExternalPub: true, InlineTree: true})).GroupInfo
			m := c.f.proposal(&SelfRemove{}, forgery{wire: WireFormatPrivateMessage})
			for _, list := range [][]*Message{{nil}, {m}} {
				_, err := JoinExternal(c.tg.cfg, gi, testIdentity(c, suite1, "tybalt"), &ExternalJoinOptions{SelfRemoves: list})
				if list[0] == m || !hasRule(err, RuleSelfRemovePrivate) {
					return err
				}
			}
			return nil
		}},
		{rule: RuleExternalSenderIndex, name: "sent", check: func(c *court) error {
			gi := must(c.f.g.GroupInfo(nil)).GroupInfo
			_, err := ExternalProposalFor(gi, c.f.g.me.Key, -1, &Remove{c.self("romeo")}, nil)
			return err
		}},
		{rule: RuleExternalByReference, name: "sent", check: func(c *court) error {
			gi, err := c.f.g.GroupInfo(&GroupInfoOptions{ExternalPub: true, InlineTree: true})
			if err != nil {
				c.Fatal(err)
			}
			m := c.f.proposal(&Remove{c.self("romeo")}, forgery{})
			_, err = JoinExternal(c.tg.cfg, gi.GroupInfo, testIdentity(c, suite1, "tybalt"), &ExternalJoinOptions{SelfRemoves: []*Message{m}})
			return err
		}},
	}
}

func TestExternalCommitRules(t *testing.T) { tryAll(t) }

// TestForgeHonestExternal: an external commit that breaks nothing is accepted, by
// a newcomer and by who replaces its former self.
func TestForgeHonestExternal(t *testing.T) {
	c := newCourt(t, &offence{})
	y, init := c.joiner("tybalt", nil)
	newcomer := c.commit(y, init)
	y, init = c.joiner("mallory", c.f.g.me.Key)
	for _, m := range []*Message{newcomer, c.commit(y, init, &Remove{c.f.g.self})} {
		for name, g := range c.tg.members {
			if name == "mallory" {
				continue
			}
			if _, err := g.Process(m); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := c.tg.public.Process(m); err != nil {
			t.Errorf("the observer: %v", err)
		}
	}
}
