// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"cmp"
	"testing"
)

// A visit is a Welcome to tybalt that mallory forges.
type visit struct {
	y    forgery
	list []Proposal // besides the Add
	edit func(kp *KeyPackage)
	// before changes the court, and after what tybalt gets.
	before func(c *court)
	after  func(c *court, v *visited)
}

// visited is what tybalt tries to join with.
type visited struct {
	kp      *PrivateKeyPackage
	commit  *forgedCommit
	welcome *Welcome
	options JoinOptions
	cfg     *Config
	secrets groupSecrets
}

// seal encrypts group secrets for a key package.
func (v *visited) seal(c *court, kp *KeyPackage, plain []byte) EncryptedGroupSecrets {
	c.Helper()
	s := must(suite1.suite())
	ct, err := s.encryptWithLabel(nil, kp.InitKey, "Welcome", v.welcome.EncryptedGroupInfo, plain)
	if err != nil {
		c.Fatal(err)
	}
	return EncryptedGroupSecrets{must(kp.Ref()), ct}
}

// join lets tybalt join, and then by a genuine Welcome with the same key package.
func (w visit) join(c *court) error {
	c.Helper()
	if w.before != nil {
		w.before(c)
	}
	v := &visited{kp: c.keyPackage(w.edit), cfg: c.tg.cfg}
	y := w.y
	y.groupSecrets = func(gs *groupSecrets) {
		if w.y.groupSecrets != nil {
			w.y.groupSecrets(gs)
		}
		v.secrets = *gs
		v.secrets.joinerSecret, v.secrets.pathSecret = bytes.Clone(gs.joinerSecret), bytes.Clone(gs.pathSecret)
	}
	v.commit = c.f.commit(byValue(append([]Proposal{&Add{v.kp.KeyPackage}}, w.list...)...), y)
	v.welcome = v.commit.welcome
	v.options.Tree = v.commit.tree.marshal(nil)
	if w.after != nil {
		w.after(c, v)
	}
	before := v.kp.Marshal()
	g, err := Join(v.cfg, v.welcome, v.kp, &v.options)
	if g != nil && err != nil {
		c.Error("an error and a group")
	}
	if !bytes.Equal(before, v.kp.Marshal()) {
		c.Error("the key package was changed by a Welcome that was refused")
	}
	if err != nil {
		wantNoSecrets(c.T, err.Error(), map[string][]byte{
			"joiner_secret": v.secrets.joinerSecret, "init key": v.kp.init.bytes(), "leaf key": v.kp.leaf.bytes(), "signature key": v.kp.key.seed,
		})
	}
	if w.edit == nil {
		honest := c.f.commit(byValue(&Add{v.kp.KeyPackage}), forgery{})
		if _, err := Join(c.tg.cfg, honest.welcome, v.kp, &JoinOptions{Tree: honest.tree.marshal(nil)}); err != nil {
			c.Errorf("a genuine Welcome afterwards: %v", err)
		}
	}
	return err
}

// Welcomes that break a rule.
func init() {
	s := must(suite1.suite())
	after := func(edit func(c *court, v *visited)) func(c *court) error { return visit{after: edit}.join }
	info := func(edit func(gi *GroupInfo)) func(c *court) error { return visit{y: forgery{groupInfo: edit}}.join }
	secrets := func(edit func(gs *groupSecrets)) func(c *court) error {
		return visit{y: forgery{groupSecrets: edit}}.join
	}
	psk := func(usage ResumptionUsage) *PreSharedKey {
		return &PreSharedKey{PreSharedKeyID{Type: PSKResumption, Usage: usage, GroupID: GroupID("balcony"), Epoch: 1, Nonce: make([]byte, s.nh)}}
	}
	external := &PreSharedKey{PreSharedKeyID{Type: PSKExternal, ID: []byte("feud"), Nonce: make([]byte, s.nh)}}
	one := [][]byte{bytes.Repeat([]byte{7}, s.nh)}
	known := PSKFunc(func(*PreSharedKeyID) ([]byte, error) { return one[0], nil })

	offences["TestWelcomeRules"] = []offence{
		{rule: RuleWelcomePSK, name: "missing", is: ErrMissingPSK, check: visit{y: forgery{psks: one}, list: []Proposal{external}}.join},
		{rule: RuleWelcomePSK, name: "resumption-missing", is: ErrMissingPSK, check: visit{y: forgery{psks: one}, list: []Proposal{psk(ResumptionApplication)}}.join},
		{rule: RuleWelcomePSK, name: "branch-twice", check: visit{
			y: forgery{psks: [][]byte{one[0], one[0]}}, list: []Proposal{psk(ResumptionBranch), psk(ResumptionBranch)},
			after: func(c *court, v *visited) { v.options.PSKs = known },
		}.join},
		{rule: RuleWelcomePSK, name: "branch-and-reinit", check: visit{
			y: forgery{psks: [][]byte{one[0], one[0]}}, list: []Proposal{psk(ResumptionBranch), psk(ResumptionReInit)},
			after: func(c *court, v *visited) { v.options.PSKs = known },
		}.join},
		{rule: RuleLimit, name: "welcome-psks", cfg: func(c *Config) {
			c.Limits.MaxProposals = 4
			c.PSKs = PSKFunc(func(*PreSharedKeyID) ([]byte, error) { panic("a key is looked up for a Welcome with too many") })
		}, check: secrets(func(gs *groupSecrets) {
			for range 5 {
				gs.psks = append(gs.psks, PreSharedKeyID{Type: PSKExternal, ID: []byte("feud"), Nonce: make([]byte, 32)})
			}
		})},
		{rule: RulePSKNonce, name: "welcome", check: secrets(func(gs *groupSecrets) { gs.psks = []PreSharedKeyID{{Type: PSKExternal, ID: []byte("feud")}} })},
		{rule: RuleGroupInfoSignature, name: "welcome", check: visit{after: func(c *court, v *visited) {}, before: func(c *court) {}, y: forgery{groupInfoKey: must(GenerateSignatureKey(suite1, nil))}}.join},
		{rule: RuleGroupInfoSignature, name: "welcome-blank", check: info(func(gi *GroupInfo) { gi.Signer = 7 })},
		{rule: RuleGroupInfoSignature, name: "welcome-2^32-1", check: info(func(gi *GroupInfo) { gi.Signer = 1<<32 - 1 })},
		{rule: RuleWelcomeGroupID, name: "known", check: after(func(c *court, v *visited) {
			v.options.Known = func(id GroupID) bool { return string(id) == "balcony" }
		})},
		{rule: RuleWelcomeSuite, name: "key-package", check: after(func(c *court, v *visited) { v.welcome.CipherSuite = 3 })},
		{rule: RuleWelcomeSuite, name: "group-info", check: info(func(gi *GroupInfo) { gi.Context.CipherSuite = 3 })},
		{rule: RuleGroupVersion, name: "welcome", check: info(func(gi *GroupInfo) { gi.Context.Version = 9 })},
		{rule: RuleTreeHash, name: "welcome", check: info(func(gi *GroupInfo) { gi.Context.TreeHash = flip(gi.Context.TreeHash) })},
		{rule: RuleTreeHash, name: "welcome-old-tree", check: after(func(c *court, v *visited) { v.options.Tree = c.tg.public.Tree() })},
		{rule: RuleTreeTrailingBlank, name: "welcome", check: after(func(c *court, v *visited) {
			r := reader{b: v.options.Tree}
			v.options.Tree = appendOpaque(nil, append(bytes.Clone(r.opaque()), 0, 0))
		})},
		{rule: RuleTreeLeaf, name: "welcome", want: RuleLeafSignature, check: visit{y: forgery{unsignedLeaf: func(l *LeafNode) { l.Signature = flip(l.Signature) }}}.join},
		{rule: RuleWelcomeConfirmation, name: "wrong", check: info(func(gi *GroupInfo) { gi.ConfirmationTag = flip(gi.ConfirmationTag) })},
		{rule: RuleWelcomeConfirmation, name: "epoch", check: info(func(gi *GroupInfo) { gi.Context.Epoch++ })},
		{rule: RuleWelcomeConfirmation, name: "transcript", check: info(func(gi *GroupInfo) { gi.Context.ConfirmedTranscriptHash = make([]byte, 32) })},
		{rule: RuleGroupInfoTag, name: "welcome-empty", check: info(func(gi *GroupInfo) { gi.ConfirmationTag = nil })},
		{rule: RuleGroupInfoTag, name: "welcome-short", check: info(func(gi *GroupInfo) { gi.ConfirmationTag = cut(gi.ConfirmationTag) })},
		{rule: RuleWelcomeEntry, name: "none", check: after(func(c *court, v *visited) { v.welcome.Secrets = nil })},
		{rule: RuleWelcomeEntry, name: "of-another", check: after(func(c *court, v *visited) {
			v.welcome.Secrets[0].NewMember = must(forgeKeyPackage(c, suite1, "paris", nil).KeyPackage.Ref())
		})},
		{rule: RuleWelcomeEntry, name: "two", check: after(func(c *court, v *visited) { v.welcome.Secrets = append(v.welcome.Secrets, v.welcome.Secrets[0]) })},
		{rule: RuleWelcomeDecrypt, name: "secrets", check: after(func(c *court, v *visited) {
			ct := &v.welcome.Secrets[0].Secrets
			ct.Ciphertext = flip(ct.Ciphertext)
		})},
		{rule: RuleWelcomeDecrypt, name: "kem-output", check: after(func(c *court, v *visited) { v.welcome.Secrets[0].Secrets.KEMOutput = nil })},
		{rule: RuleWelcomeDecrypt, name: "group-info", check: after(func(c *court, v *visited) {
			v.welcome.EncryptedGroupInfo = flip(v.welcome.EncryptedGroupInfo)
			v.welcome.Secrets[0] = v.seal(c, v.kp.KeyPackage, v.secrets.appendTo(nil))
		})},
		{rule: RuleWelcomeDecrypt, name: "group-info-truncated", check: visit{y: forgery{groupInfoBytes: cut}}.join},
		{rule: RuleWelcomeDecrypt, name: "group-info-trailing", check: visit{y: forgery{groupInfoBytes: grow}}.join},
		{rule: RuleWelcomeDecrypt, name: "joiner-secret", check: secrets(func(gs *groupSecrets) { gs.joinerSecret = flip(gs.joinerSecret) })},
		{rule: RuleWelcomeDecrypt, name: "short-joiner-secret", check: secrets(func(gs *groupSecrets) { gs.joinerSecret = cut(gs.joinerSecret) })},
		{rule: RuleWelcomeDecrypt, name: "short-path-secret", check: secrets(func(gs *groupSecrets) { gs.pathSecret = cut(gs.pathSecret) })},
		{rule: RuleWelcomeDecrypt, name: "empty-path-secret", check: secrets(func(gs *groupSecrets) { gs.pathSecret = []byte{} })},
		{rule: RuleWelcomeDecrypt, name: "trailing", check: after(func(c *court, v *visited) {
			v.welcome.Secrets[0] = v.seal(c, v.kp.KeyPackage, append(v.secrets.appendTo(nil), 0))
		})},
		{rule: RuleWelcomeDecrypt, name: "truncated", check: after(func(c *court, v *visited) {
			v.welcome.Secrets[0] = v.seal(c, v.kp.KeyPackage, cut(v.secrets.appendTo(nil)))
		})},
		{rule: RulePathKeys, name: "welcome", check: secrets(func(gs *groupSecrets) { gs.pathSecret = flip(gs.pathSecret) })},
		{rule: RulePathKeys, name: "welcome-without-path", check: visit{y: forgery{noPath: true, groupSecrets: func(gs *groupSecrets) { gs.pathSecret = make([]byte, s.nh) }}}.join},
		{rule: RuleWelcomeLeaf, name: "of-another", check: func(c *court) error {
			// Paris is added, tybalt gets his secrets.
			return visit{after: func(c *court, v *visited) {
				tybalt := v.kp
				paris := forgeKeyPackage(c, suite1, "paris", nil)
				v.commit = c.f.commit(byValue(&Add{paris.KeyPackage}), forgery{groupSecrets: func(gs *groupSecrets) { v.secrets = *gs }})
				v.welcome, v.options.Tree = v.commit.welcome, v.commit.tree.marshal(nil)
				v.welcome.Secrets = append(v.welcome.Secrets, v.seal(c, tybalt.KeyPackage, v.secrets.appendTo(nil)))
			}}.join(c)
		}},
		{rule: RuleWelcomeLeaf, name: "own-signature", check: func(c *court) error {
			kp := c.keyPackage(nil)
			place := c.blank
			w := c.f.commit(byValue(&Add{kp.KeyPackage}), forgery{groupInfoKey: kp.key, groupInfo: func(gi *GroupInfo) { gi.Signer = place }})
			_, err := Join(c.tg.cfg, w.welcome, kp, &JoinOptions{Tree: w.tree.marshal(nil)})
			return err
		}},
		{rule: RulePathKeys, name: "welcome-without-a-path", check: func(c *court) error {
			kp := c.keyPackage(nil)
			f := forge{c.T, newTestGroupNamed(c, "orchard", "mallory")}
			w := f.commit(byValue(&Add{kp.KeyPackage}), forgery{noPath: true, groupSecrets: func(gs *groupSecrets) { gs.pathSecret = make([]byte, 32) }})
			_, err := Join(c.tg.cfg, w.welcome, kp, &JoinOptions{Tree: w.tree.marshal(nil)})
			return err
		}},
		{rule: RuleWelcomeTree, name: "welcome-none", check: after(func(c *court, v *visited) { v.options.Tree = nil })},
		{rule: RuleWelcomeTree, name: "welcome-two", check: visit{y: forgery{groupInfoTree: true}, after: func(c *court, v *visited) { v.options.Tree = c.tg.public.Tree() }}.join},
		{rule: RuleExtensionUnsupported, name: "context", cfg: func(c *Config) { c.Capabilities.Extensions = []ExtensionType{0xf00e} }, check: visit{
			before: func(c *court) { c.member("juliet", &CommitOptions{ContextExtensions: Extensions{{0xf00e, nil}}}) },
			edit:   func(kp *KeyPackage) {},
		}.join},
		{rule: RuleExtensionUnsupported, name: "external", cfg: func(c *Config) { c.Capabilities.Extensions = []ExtensionType{0xf00e} }, check: func(c *court) error {
			c.member("juliet", &CommitOptions{ContextExtensions: Extensions{{0xf00e, nil}}})
			_, err := JoinExternal(nil, c.groupInfo(nil), testIdentity(c, suite1, "tybalt"), nil)
			return err
		}},
		{rule: RuleExtensionGroupInfo, name: "welcome", check: info(func(gi *GroupInfo) { gi.Extensions = append(gi.Extensions, Extension{ExtensionExternalSenders, nil}) })},
		{rule: RuleWelcomeReInitPSK, name: "none", check: after(func(c *court, v *visited) { v.options.Parent = c.tg.members["romeo"] })},
	}
	offences["TestSuccessorRules"] = successorOffences()
}

// A succession is a group that mallory forges as the successor or a branch of
// another, and to which she invites romeo.
type succession struct {
	usage ResumptionUsage
	// reinit is what the old group agreed on; nil: nothing.
	reinit *ReInit
	// id, suite (1 if zero) and context of the new group; the epoch in which romeo
	// joins.
	id      string
	suite   CipherSuite
	context Extensions
	late    bool
	// epoch is added to the epoch of the PSK.
	epoch int
	// also invites others.
	also []string
	// parent replaces romeo's old group.
	parent func(c *court) *Group
}

func (n succession) join(c *court) error {
	c.Helper()
	if n.reinit != nil {
		c.member("juliet", &CommitOptions{ReInit: n.reinit})
	}
	old := c.f.g
	suite := cmp.Or(n.suite, suite1)
	first, err := NewGroup(c.tg.cfg, suite, GroupID(n.id), old.me, &GroupOptions{Extensions: n.context})
	if err != nil {
		c.Fatal(err)
	}
	if n.late {
		p, err := first.Commit(nil)
		if err != nil {
			c.Fatal(err)
		}
		if first, err = p.Merge(); err != nil {
			c.Fatal(err)
		}
	}
	epoch := uint64(int(old.Epoch()) + n.epoch)
	secret := old.findResumption(epoch)
	id := PreSharedKeyID{Type: PSKResumption, Usage: n.usage, GroupID: old.GroupID(), Epoch: epoch, Nonce: make([]byte, old.s.nh)}
	kp := forgeKeyPackage(c, suite, "romeo", nil)
	list := []Proposal{&Add{kp.KeyPackage}}
	for _, name := range n.also {
		list = append(list, &Add{forgeKeyPackage(c, suite, name, nil).KeyPackage})
	}
	list = append(list, &PreSharedKey{id})
	p := forge{c.T, first}.commit(byValue(list...), forgery{psks: [][]byte{secret}})
	o := &JoinOptions{Tree: p.tree.marshal(nil), Parent: c.tg.members["romeo"]}
	if n.parent != nil {
		o.Parent = n.parent(c)
	}
	if o.Parent == nil || o.Parent.findResumption(epoch) == nil || string(o.Parent.GroupID()) != "balcony" {
		o.PSKs = PSKFunc(func(*PreSharedKeyID) ([]byte, error) { return secret, nil })
	}
	_, err = Join(c.tg.cfg, p.welcome, kp, o)
	return err
}

func successorOffences() []offence {
	all := []string{"juliet", "nurse"}
	to := func(x Extensions) *ReInit { return &ReInit{GroupID("orchard"), MLS10, suite1, x} }
	x := Extensions{(&RequiredCapabilities{}).Extension()}
	none := func(*court) *Group { return nil }
	other := func(c *court) *Group {
		return newTestGroupNamed(c, "tomb", "romeo")
	}
	return []offence{
		{rule: RuleWelcomeEpoch, name: "reinit", check: succession{usage: ResumptionReInit, reinit: to(nil), id: "orchard", also: all, late: true}.join},
		{rule: RuleWelcomeEpoch, name: "branch", check: succession{usage: ResumptionBranch, id: "orchard", late: true}.join},
		{rule: RuleWelcomeReInit, name: "without-reinit", check: succession{usage: ResumptionReInit, id: "orchard", also: all}.join},
		{rule: RuleWelcomeReInit, name: "another-id", check: succession{usage: ResumptionReInit, reinit: to(nil), id: "tomb", also: all}.join},
		{rule: RuleWelcomeReInit, name: "another-suite", check: succession{usage: ResumptionReInit, reinit: &ReInit{GroupID("orchard"), MLS10, 3, nil}, id: "orchard", also: all}.join},
		{rule: RuleWelcomeReInit, name: "more-extensions", check: succession{usage: ResumptionReInit, reinit: to(nil), id: "orchard", context: x, also: all}.join},
		{rule: RuleWelcomeReInit, name: "fewer-extensions", check: succession{usage: ResumptionReInit, reinit: to(x), id: "orchard", also: all}.join},
		{rule: RuleWelcomeReInit, name: "without-nurse", check: succession{usage: ResumptionReInit, reinit: to(nil), id: "orchard", also: all[:1]}.join},
		{rule: RuleWelcomeReInit, name: "another-epoch", check: succession{usage: ResumptionReInit, reinit: to(nil), id: "orchard", also: all, epoch: -1}.join},
		{rule: RuleWelcomeReInit, name: "no-parent", check: succession{usage: ResumptionReInit, reinit: to(nil), id: "orchard", also: all, parent: none}.join},
		{rule: RuleWelcomeReInit, name: "another-parent", check: succession{usage: ResumptionReInit, reinit: to(nil), id: "orchard", also: all, parent: other}.join},
		{rule: RuleWelcomeReInit, name: "sent-without-nurse", check: func(c *court) error {
			c.member("juliet", &CommitOptions{ReInit: to(nil)})
			_, err := c.f.g.Successor([]*KeyPackage{forgeKeyPackage(c, suite1, "romeo", nil).KeyPackage}, nil)
			return err
		}},
		{rule: RuleWelcomeBranch, name: "another-suite", check: succession{usage: ResumptionBranch, id: "orchard", suite: 3}.join},
		{rule: RuleWelcomeBranch, name: "stranger", check: succession{usage: ResumptionBranch, id: "orchard", also: []string{"tybalt"}}.join},
		{rule: RuleWelcomeBranch, name: "no-parent", check: succession{usage: ResumptionBranch, id: "orchard", parent: none}.join},
		{rule: RuleWelcomeBranch, name: "another-parent", check: succession{usage: ResumptionBranch, id: "orchard", parent: other}.join},
		{rule: RuleWelcomeBranch, name: "sent-with-a-stranger", check: func(c *court) error {
			_, err := c.f.g.Branch(GroupID("orchard"), []*KeyPackage{c.keyPackage(nil).KeyPackage}, nil)
			return err
		}},
		{rule: RuleGroupVersion, name: "successor", check: func(c *court) error {
			c.member("juliet", &CommitOptions{ReInit: &ReInit{GroupID("orchard"), 2, suite1, nil}})
			_, err := c.f.g.Successor(nil, nil)
			return err
		}},
	}
}

// newTestGroupNamed makes a group of one.
func newTestGroupNamed(t testing.TB, id, name string) *Group {
	t.Helper()
	g, err := NewGroup(nil, suite1, GroupID(id), testIdentity(t, suite1, name), nil)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestWelcomeRules(t *testing.T)   { tryAll(t) }
func TestSuccessorRules(t *testing.T) { tryAll(t) }

// TestForgeHonestSuccession: successors and branches that break nothing.
func TestForgeHonestSuccession(t *testing.T) {
	for name, n := range map[string]succession{
		"reinit": {usage: ResumptionReInit, reinit: &ReInit{GroupID("orchard"), MLS10, suite1, nil}, id: "orchard", also: []string{"juliet", "nurse"}},
		"branch": {usage: ResumptionBranch, id: "orchard"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := n.join(newCourt(t, &offence{})); err != nil {
				t.Error(err)
			}
		})
	}
}
