// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"errors"
	"testing"
)

// Proposals that break a rule by themselves, and lists of them.
func init() {
	s := must(suite1.suite())
	add := func(c *court) *Add { return &Add{c.keyPackage(nil).KeyPackage} }
	psk := func(id string) *PreSharedKey {
		return &PreSharedKey{PreSharedKeyID{Type: PSKExternal, ID: []byte(id), Nonce: make([]byte, s.nh)}}
	}
	resumption := func(usage ResumptionUsage) *PreSharedKey {
		return &PreSharedKey{PreSharedKeyID{Type: PSKResumption, Usage: usage, GroupID: GroupID("balcony"), Epoch: 1, Nonce: make([]byte, s.nh)}}
	}
	twoPSKs := forgery{psks: [][]byte{[]byte("secret"), []byte("secret")}}
	onePSK := forgery{psks: twoPSKs.psks[:1]}
	context := func(x ...Extension) *GroupContextExtensions { return &GroupContextExtensions{x} }
	proposals := func(list func(c *court) []Proposal) func(c *court) *Message {
		return func(c *court) *Message { return c.commit(forgery{}, list(c)...) }
	}
	alone := func(p func(c *court) Proposal) func(c *court) *Message {
		return func(c *court) *Message { return c.f.proposal(p(c), forgery{}) }
	}
	update := func(g *Group) (*Message, *Group, error) { return g.ProposeUpdate(nil, nil) }
	selfRemove := func(g *Group) (*Message, *Group, error) { return g.ProposeSelfRemove(nil) }
	remove := func(i LeafIndex) func(g *Group) (*Message, *Group, error) {
		return func(g *Group) (*Message, *Group, error) { return g.ProposeRemove(i, nil) }
	}
	reinit := &ReInit{GroupID("orchard"), MLS10, suite1, nil}
	const component ComponentID = 0x8000
	data := func(op AppDataOperation, v string) *AppDataUpdate { return &AppDataUpdate{component, op, []byte(v)} }

	offences["TestProposalRules"] = []offence{
		{rule: RuleProposalInvalid, name: "remove", want: RuleRemoveBlank, message: proposals(func(c *court) []Proposal { return []Proposal{&Remove{c.blank}} })},
		{rule: RuleAddKeyPackage, name: "signature", want: RuleKeyPackageSignature, message: func(c *court) *Message {
			kp := c.keyPackage(nil).KeyPackage
			kp.raw, kp.Signature = nil, nil
			return c.f.proposal(&Add{kp}, forgery{})
		}},
		{rule: RuleUpdateLeaf, name: "defaults", want: RuleLeafDefaults, message: alone(func(c *court) Proposal {
			return c.update(func(l *LeafNode) { l.Capabilities.Proposals = []ProposalType{ProposalUpdate} })
		})},
		{rule: RuleRemoveBlank, name: "blank", message: alone(func(c *court) Proposal { return &Remove{c.blank} })},
		{rule: RuleRemoveBlank, name: "behind-the-tree", message: alone(func(c *court) Proposal { return &Remove{8} })},
		{rule: RuleRemoveBlank, name: "2^24", message: alone(func(c *court) Proposal { return &Remove{1 << 24} })},
		{rule: RuleRemoveBlank, name: "2^31", message: alone(func(c *court) Proposal { return &Remove{1 << 31} })},
		{rule: RuleRemoveBlank, name: "2^32-1", message: proposals(func(c *court) []Proposal { return []Proposal{&Remove{1<<32 - 1}} })},
		{rule: RulePSKReInit, name: "proposal", message: alone(func(c *court) Proposal { return resumption(ResumptionReInit) })},
		{rule: RulePSKReInit, name: "commit", message: func(c *court) *Message { return c.commit(onePSK, resumption(ResumptionReInit)) }},
		{rule: RulePSKBranch, name: "proposal", message: alone(func(c *court) Proposal { return resumption(ResumptionBranch) })},
		{rule: RulePSKBranch, name: "commit", message: func(c *court) *Message { return c.commit(onePSK, resumption(ResumptionBranch)) }},
		{rule: RulePSKNonce, name: "short", message: alone(func(c *court) Proposal { p := psk("feud"); p.ID.Nonce = p.ID.Nonce[1:]; return p })},
		{rule: RulePSKNonce, name: "none", message: alone(func(c *court) Proposal { p := psk("feud"); p.ID.Nonce = nil; return p })},
		{rule: RulePSKNonce, name: "long", message: func(c *court) *Message {
			p := psk("feud")
			p.ID.Nonce = make([]byte, s.nh+1)
			return c.commit(onePSK, p)
		}},
		{rule: RuleReInitVersion, name: "proposal", message: alone(func(c *court) Proposal { return &ReInit{GroupID("orchard"), 0, suite1, nil} })},
		{rule: RuleReInitVersion, name: "commit", message: proposals(func(c *court) []Proposal { return []Proposal{&ReInit{GroupID("orchard"), 0, suite1, nil}} })},
		{rule: RuleExtensionUnique, name: "reinit", message: alone(func(c *court) Proposal {
			return &ReInit{GroupID("orchard"), MLS10, suite1, Extensions{{0xf00d, nil}, {0xf00d, nil}}}
		})},
		{rule: RuleExternalInitMember, name: "proposal", message: alone(func(c *court) Proposal { return &ExternalInit{make([]byte, 32)} })},
		{rule: RuleExternalInitMember, name: "commit", message: proposals(func(c *court) []Proposal { return []Proposal{&ExternalInit{make([]byte, 32)}} })},
	}

	offences["TestProposalListRules"] = []offence{
		{rule: RuleUpdateByCommitter, name: "by-value", message: proposals(func(c *court) []Proposal { return []Proposal{c.update(nil)} })},
		{rule: RuleUpdateByCommitter, name: "by-reference", message: func(c *court) *Message { return c.refs(forgery{}, c.propose("mallory", update)) }},
		{rule: RuleRemoveCommitter, name: "by-value", message: proposals(func(c *court) []Proposal { return []Proposal{&Remove{c.f.g.self}} })},
		{rule: RuleRemoveCommitter, name: "without-path", message: func(c *court) *Message { return c.commit(forgery{noPath: true}, &Remove{c.f.g.self}) }},
		{rule: RuleRemoveCommitter, name: "by-reference", message: func(c *court) *Message {
			return c.refs(forgery{}, c.propose("romeo", remove(c.self("mallory"))))
		}},
		{rule: RuleSameLeaf, name: "remove-remove", message: proposals(func(c *court) []Proposal { return []Proposal{&Remove{c.self("romeo")}, &Remove{c.self("romeo")}} })},
		{rule: RuleSameLeaf, name: "leaf-0", message: proposals(func(c *court) []Proposal { return []Proposal{&Remove{0}, &Remove{0}} })},
		{rule: RuleSameLeaf, name: "update-remove", message: func(c *court) *Message {
			ref := c.propose("romeo", update)
			return c.f.commit(append([]ProposalOrRef{{Ref: ref}}, byValue(&Remove{c.self("romeo")})...), forgery{}).message
		}},
		{rule: RuleSameLeaf, name: "update-update", message: func(c *court) *Message {
			a, b := c.propose("romeo", update), c.propose("romeo", update)
			return c.refs(forgery{}, a, b)
		}},
		{rule: RuleSameLeaf, name: "selfremove-remove", message: func(c *court) *Message {
			ref := c.propose("romeo", selfRemove)
			return c.f.commit(append([]ProposalOrRef{{Ref: ref}}, byValue(&Remove{c.self("romeo")})...), forgery{}).message
		}},
		{rule: RuleReferenceTwice, name: "appdata", message: func(c *court) *Message {
			ref := c.propose("romeo", func(g *Group) (*Message, *Group, error) { return g.ProposeAppData(data(AppDataUpdateOp, "x"), nil) })
			return c.refs(forgery{}, ref, ref)
		}},
		{rule: RuleReferenceTwice, name: "remove", message: func(c *court) *Message {
			ref := c.propose("romeo", remove(c.self("nurse")))
			return c.refs(forgery{}, ref, ref)
		}},
		{rule: RuleAddTwice, name: "signature-key", message: func(c *court) *Message {
			me := testIdentity(c, suite1, "tybalt")
			return c.commit(forgery{}, &Add{keyPackageOf(c, me)}, &Add{keyPackageOf(c, me)})
		}},
		{rule: RuleAddTwice, name: "same", message: func(c *court) *Message { a := add(c); return c.commit(forgery{}, a, a) }},
		{rule: RuleAddMember, name: "with-path", message: func(c *court) *Message {
			return c.commit(forgery{}, &Add{keyPackageOf(c, c.tg.members["juliet"].me)})
		}},
		{rule: RuleAddMember, name: "without-path", message: func(c *court) *Message {
			return c.commit(forgery{noPath: true}, &Add{keyPackageOf(c, c.tg.members["juliet"].me)})
		}},
		{rule: RuleAddMember, name: "committer", message: func(c *court) *Message {
			return c.commit(forgery{noPath: true}, &Add{keyPackageOf(c, c.f.g.me)})
		}},
		{rule: RulePSKTwice, name: "commit", message: func(c *court) *Message { return c.commit(twoPSKs, psk("feud"), psk("feud")) }},
		{rule: RuleContextTwice, name: "commit", message: proposals(func(c *court) []Proposal { return []Proposal{context(), context()} })},
		{rule: RuleReInitAlone, name: "remove", message: proposals(func(c *court) []Proposal { return []Proposal{reinit, &Remove{c.self("romeo")}} })},
		{rule: RuleReInitAlone, name: "reinit", message: proposals(func(c *court) []Proposal { return []Proposal{reinit, reinit} })},
		{rule: RuleReInitAlone, name: "psk", message: func(c *court) *Message { return c.commit(onePSK, psk("feud"), reinit) }},
		{rule: RuleProposalSupport, name: "appdata", message: func(c *court) *Message {
			c.addSimple()
			return c.commit(forgery{}, data(AppDataUpdateOp, "x"))
		}},
		{rule: RuleProposalSupport, name: "ephemeral", message: func(c *court) *Message {
			c.addSimple()
			return c.commit(forgery{}, &AppEphemeral{component, nil})
		}},
		{rule: RuleTreeAfter, name: "encryption-key", want: RuleEncryptionUnique, message: func(c *court) *Message {
			return c.commit(forgery{noPath: true}, &Add{c.keyPackage(func(kp *KeyPackage) {
				kp.LeafNode.EncryptionKey = c.f.g.Self().Leaf.EncryptionKey
			}).KeyPackage})
		}},
		{rule: RuleInitKeyTwice, name: "commit", message: func(c *court) *Message {
			a := c.keyPackage(nil).KeyPackage
			return c.commit(forgery{}, &Add{a}, &Add{c.keyPackage(func(kp *KeyPackage) { kp.InitKey = a.InitKey }).KeyPackage})
		}},
		{rule: RuleContextRequired, name: "others", message: func(c *court) *Message {
			c.addSimple()
			return c.commit(forgery{}, context((&RequiredCapabilities{Proposals: []ProposalType{ProposalSelfRemove}}).Extension()))
		}},
		{rule: RuleContextRequired, name: "others-extension", message: func(c *court) *Message {
			return c.commit(forgery{leaf: func(l *LeafNode) { l.Capabilities.Extensions = append(l.Capabilities.Extensions, 0xf00e) }},
				context((&RequiredCapabilities{Extensions: []ExtensionType{0xf00e}}).Extension()))
		}},
		{rule: RuleContextRequired, name: "others-credential", message: func(c *court) *Message {
			return c.commit(forgery{leaf: func(l *LeafNode) { l.Capabilities.Credentials = append(l.Capabilities.Credentials, 0xf00e) }},
				context((&RequiredCapabilities{Credentials: []CredentialType{0xf00e}}).Extension()))
		}},
		{rule: RuleContextSupport, name: "all", message: proposals(func(c *court) []Proposal { return []Proposal{context(Extension{0xf00e, nil})} })},
		{rule: RuleContextSupport, name: "others", message: func(c *court) *Message {
			return c.commit(forgery{leaf: func(l *LeafNode) { l.Capabilities.Extensions = append(l.Capabilities.Extensions, 0xf00e) }}, context(Extension{0xf00e, nil}))
		}},
		{rule: RuleContextSupport, name: "newcomer", cfg: func(c *Config) { c.Capabilities.Extensions = []ExtensionType{0xf00e} }, message: func(c *court) *Message {
			c.member("juliet", &CommitOptions{ContextExtensions: Extensions{{0xf00e, nil}}})
			return c.add(nil)
		}},
		{rule: RuleContextSenders, name: "garbage", message: alone(func(c *court) Proposal { return context(Extension{ExtensionExternalSenders, []byte{3, 1}}) })},
		{rule: RuleContextSenders, name: "key", message: alone(func(c *court) Proposal {
			return context(ExternalSendersExtension(ExternalSender{[]byte{1, 2, 3}, BasicCredential([]byte("capulet.lit"))}))
		})},
		{rule: RuleContextSenders, name: "credential", is: ErrIdentityChanged,
			cfg: func(c *Config) {
				c.Authenticator = authFuncs{func(_ Credential, _ []byte, use CredentialUse) error {
					if use == UseExternalSender {
						return ErrIdentityChanged
					}
					return nil
				}, acceptCredentials{}.ValidateSuccessor}
			},
			message: proposals(func(c *court) []Proposal {
				return []Proposal{context(ExternalSendersExtension(ExternalSender{c.f.g.me.Key.Public(), BasicCredential([]byte("capulet.lit"))}))}
			})},
		{rule: RuleExtensionContext, name: "ratchet-tree", message: alone(func(c *court) Proposal { return context(Extension{ExtensionRatchetTree, []byte{0}}) })},
		{rule: RuleExtensionContext, name: "external-pub", message: proposals(func(c *court) []Proposal { return []Proposal{context(Extension{ExtensionExternalPub, nil})} })},
		{rule: RuleExtensionContext, name: "required", message: alone(func(c *court) Proposal { return context(Extension{ExtensionRequiredCapabilities, []byte{1, 0, 0, 0}}) })},
		{rule: RuleExtensionContext, name: "required-trailing", message: alone(func(c *court) Proposal { return context(Extension{ExtensionRequiredCapabilities, []byte{0, 0, 0, 0}}) })},
		{rule: RuleExtensionUnique, name: "context", message: proposals(func(c *court) []Proposal {
			x := (&RequiredCapabilities{}).Extension()
			return []Proposal{context(x, x)}
		})},

		{rule: RuleReInitFrozen, name: "commit", done: true, message: func(c *court) *Message {
			c.member("juliet", &CommitOptions{ReInit: reinit})
			return c.commit(forgery{})
		}},
		{rule: RuleReInitFrozen, name: "proposal", done: true, message: func(c *court) *Message {
			c.member("juliet", &CommitOptions{ReInit: reinit})
			return c.f.proposal(&Remove{c.self("romeo")}, forgery{})
		}},
		{rule: RuleReInitFrozen, name: "application", done: true, message: func(c *court) *Message {
			c.member("juliet", &CommitOptions{ReInit: reinit})
			return c.f.application([]byte("hello"), forgery{})
		}},
		{rule: RuleReInitFrozen, name: "seal", check: func(c *court) error {
			c.member("juliet", &CommitOptions{ReInit: reinit})
			_, err := c.f.g.Seal(nil, nil)
			return err
		}},
		{rule: RuleReInitFrozen, name: "propose", check: func(c *court) error {
			c.member("juliet", &CommitOptions{ReInit: reinit})
			_, _, err := c.f.g.ProposeRemove(0, nil)
			return err
		}},

		{rule: RuleSelfRemoveValue, name: "commit", message: proposals(func(c *court) []Proposal { return []Proposal{&SelfRemove{}} })},
		{rule: RuleSelfRemovePrivate, name: "proposal", message: func(c *court) *Message { return c.f.proposal(&SelfRemove{}, forgery{wire: WireFormatPrivateMessage}) }},
		{rule: RuleSelfRemovePrivate, name: "propose", check: func(c *court) error {
			_, _, err := c.f.g.ProposeSelfRemove(&ProposeOptions{Wire: WireFormatPrivateMessage})
			return err
		}},
		{rule: RuleSelfRemoveCommitter, name: "commit", message: func(c *court) *Message { return c.refs(forgery{}, c.propose("mallory", selfRemove)) }},

		{rule: RuleAppDataMixed, name: "remove-update", message: func(c *court) *Message {
			c.member("juliet", &CommitOptions{AppData: []*AppDataUpdate{data(AppDataUpdateOp, "x")}})
			return c.commit(forgery{}, data(AppDataRemoveOp, ""), data(AppDataUpdateOp, "x"))
		}},
		{rule: RuleAppDataMixed, name: "update-remove", message: func(c *court) *Message {
			c.member("juliet", &CommitOptions{AppData: []*AppDataUpdate{data(AppDataUpdateOp, "x")}})
			return c.commit(forgery{}, data(AppDataUpdateOp, "x"), data(AppDataRemoveOp, ""))
		}},
		{rule: RuleAppDataMixed, name: "remove-remove", message: func(c *court) *Message {
			c.member("juliet", &CommitOptions{AppData: []*AppDataUpdate{data(AppDataUpdateOp, "x")}})
			return c.commit(forgery{}, data(AppDataRemoveOp, ""), data(AppDataRemoveOp, ""))
		}},
		{rule: RuleAppDataMissing, name: "remove", message: func(c *court) *Message { return c.commit(forgery{}, data(AppDataRemoveOp, "")) }},
		{rule: RuleAppDataRefused, name: "update", cfg: func(c *Config) { c.AppData = appDataJoiner{} }, message: func(c *court) *Message {
			return c.commit(forgery{}, data(AppDataUpdateOp, "bad"))
		}},
		{rule: RuleAppDataRefused, name: "ephemeral", is: errNoEphemeral, cfg: func(c *Config) { c.AppData = noEphemeral{} }, message: func(c *court) *Message {
			return c.commit(forgery{}, &AppEphemeral{component, []byte("x")})
		}},
		{rule: RuleAppDataRefused, name: "ephemeral-proposal", is: errNoEphemeral, cfg: func(c *Config) { c.AppData = noEphemeral{} }, message: func(c *court) *Message {
			return c.f.proposal(&AppEphemeral{component, []byte("x")}, forgery{})
		}},
		{rule: RuleAppDataContext, name: "commit", message: func(c *court) *Message {
			required := (&RequiredCapabilities{Proposals: []ProposalType{ProposalAppDataUpdate}}).Extension()
			c.member("juliet", &CommitOptions{ContextExtensions: Extensions{required}})
			return c.commit(forgery{}, context(required, AppData{{component, []byte("x")}}.Extension()))
		}},
		{rule: RuleAppDataContext, name: "proposal", message: func(c *court) *Message {
			required := (&RequiredCapabilities{Proposals: []ProposalType{ProposalAppDataUpdate}}).Extension()
			c.member("juliet", &CommitOptions{ContextExtensions: Extensions{required, AppData{{component, []byte("x")}}.Extension()}})
			return c.f.proposal(context(required), forgery{})
		}},
		{rule: RuleAppDataFormat, name: "unsorted", message: alone(func(c *court) Proposal { return context(AppData{{2, nil}, {1, nil}}.Extension()) })},
		{rule: RuleAppDataFormat, name: "twice", message: proposals(func(c *court) []Proposal { return []Proposal{context(AppData{{2, nil}, {2, nil}}.Extension())} })},

		{rule: RulePolicy, name: "commit", is: errPolicy, cfg: noTybalt, message: func(c *court) *Message { return c.add(nil) }},
		{rule: RulePolicy, name: "proposal", is: errPolicy, cfg: noTybalt, message: func(c *court) *Message { return c.f.proposal(add(c), forgery{}) }},
		{rule: RulePolicy, name: "sent", is: errPolicy, cfg: noTybalt, check: func(c *court) error {
			_, err := c.f.g.Commit(&CommitOptions{Add: []*KeyPackage{c.keyPackage(nil).KeyPackage}})
			return err
		}},
		{rule: RuleLimit, name: "proposals", cfg: func(c *Config) { c.Limits.MaxProposals = 4 }, message: func(c *court) *Message {
			return c.commit(twoPSKs, &Remove{0}, &Remove{1}, &Remove{2}, &Remove{3}, &Remove{4})
		}},
		{rule: RuleLimit, name: "pending", cfg: func(c *Config) { c.Limits.MaxPending = 2 }, message: func(c *court) *Message {
			c.propose("romeo", update)
			c.propose("romeo", update)
			return c.f.proposal(c.update(nil), forgery{})
		}},
		{rule: RuleLimit, name: "message", cfg: func(c *Config) { c.Limits.MaxMessage = 4000 }, message: func(c *court) *Message {
			return c.f.proposal(&ReInit{make(GroupID, 5000), MLS10, suite1, nil}, forgery{})
		}},
		{rule: RuleLimit, name: "message-private", cfg: func(c *Config) { c.Limits.MaxMessage = 4000 }, message: func(c *court) *Message {
			return c.f.application(make([]byte, 5000), forgery{})
		}},
		{rule: RuleTreeTooLarge, name: "add", cfg: func(c *Config) { c.Limits.MaxMembers = 5 }, message: func(c *court) *Message {
			return c.commit(forgery{}, add(c), add(c))
		}},
	}
}

func TestProposalRules(t *testing.T)     { tryAll(t) }
func TestProposalListRules(t *testing.T) { tryAll(t) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

var errPolicy = errors.New("tybalt is not welcome")

func noTybalt(c *Config) {
	c.Policy = PolicyFunc(func(ch *Change) error {
		for _, m := range ch.Added {
			if string(m.Credential().Identity) == "tybalt" {
				return errPolicy
			}
		}
		return nil
	})
}

var errNoEphemeral = errors.New("no such component")

type noEphemeral struct{ appDataJoiner }

func (noEphemeral) CheckEphemeral(ComponentID, []byte) error { return errNoEphemeral }

// keyPackageOf makes a key package for somebody.
func keyPackageOf(c *court, me *Identity) *KeyPackage {
	c.Helper()
	p, err := NewKeyPackage(c.tg.cfg, suite1, me, nil)
	if err != nil {
		c.Fatal(err)
	}
	return p.KeyPackage
}

// addSimple adds a member that supports nothing but RFC 9420.
func (c *court) addSimple() {
	c.Helper()
	kp := forgeKeyPackage(c.T, suite1, "peter", func(kp *KeyPackage) {
		kp.LeafNode.Capabilities.Proposals, kp.LeafNode.Capabilities.Extensions = nil, nil
		kp.LeafNode.Extensions = nil
		kp.Extensions = nil
	})
	p := c.tg.commit("juliet", &CommitOptions{Add: []*KeyPackage{kp.KeyPackage}, InlineTree: true})
	g, err := Join(c.tg.cfg, wire(c, p.Welcome()).Welcome, kp, nil)
	if err != nil {
		c.Fatal(err)
	}
	c.tg.members["peter"] = g
	c.renew()
}

// TestLegalLists: what looks like an offence and is none.
func TestLegalLists(t *testing.T) {
	accept := func(t *testing.T, c *court, m *Message) {
		t.Helper()
		for _, name := range []string{"juliet", "nurse"} {
			if _, err := c.tg.members[name].Process(m); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := c.tg.public.Process(m); err != nil {
			t.Errorf("the observer: %v", err)
		}
	}
	t.Run("removed-and-added-again", func(t *testing.T) {
		c := newCourt(t, &offence{})
		romeo := c.tg.members["romeo"]
		accept(t, c, c.commit(forgery{}, &Remove{romeo.self}, &Add{keyPackageOf(c, romeo.me)}))
		accept(t, c, c.commit(forgery{}, &Add{keyPackageOf(c, romeo.me)}, &Remove{romeo.self}))
	})
	t.Run("a-chain-of-keys", func(t *testing.T) {
		// Romeo takes mallory's old key, she a new one: pk1 to pk2 and pk2 to pk3.
		c := newCourt(t, &offence{})
		nurse, romeo := c.tg.members["nurse"], c.tg.members["romeo"]
		for _, g := range []*Group{nurse, romeo} {
			f := forge{t, g}
			l := *(&court{T: t, tg: c.tg, f: f}).update(nil).LeafNode
			if g == romeo {
				l.EncryptionKey = nurse.Self().Leaf.EncryptionKey
			}
			m := f.proposal(&Update{resign(g.s, &l, g.me.Key, g.GroupID(), g.self)}, forgery{})
			for name, member := range c.tg.members {
				if member.self == g.self {
					continue
				}
				r, err := member.Process(m)
				if err != nil {
					t.Fatal(err)
				}
				c.tg.members[name] = r.(*StagedProposal).Merge()
			}
			r, err := c.tg.public.Process(m)
			if err != nil {
				t.Fatal(err)
			}
			c.tg.public = r.Merge()
		}
		c.renew()
		for _, order := range [][2]int{{0, 1}, {1, 0}} {
			pending := c.f.g.pending
			m := c.refs(forgery{}, pending[order[0]].ref, pending[order[1]].ref)
			if _, err := c.tg.members["juliet"].Process(m); err != nil {
				t.Error(err)
			}
			if _, err := c.tg.public.Process(m); err != nil {
				t.Errorf("the observer: %v", err)
			}
		}
	})
}
