// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"
)

// This file makes and runs testdata/passive-client-lockstep.json: scenarios of whole
// groups for every cipher suite, the post-quantum ones too, in the format of the
// working group's passive-client vectors, with what the client must refuse on the way
// (go test ./mls -run TestScenarioVectors -update-vectors writes them anew). They hold
// still what this code does; that it is right, the official vectors say for suites 1
// to 7.

const scenarioFile = "testdata/passive-client-lockstep.json"

func TestScenarioVectors(t *testing.T) {
	t.Parallel()
	if *updateVectors {
		writeScenarios(t)
	}
	b, err := os.ReadFile(scenarioFile)
	if err != nil {
		t.Fatal(err)
	}
	var cases []passiveVector
	if err := json.Unmarshal(b, &cases); err != nil {
		t.Fatal(err)
	}
	rules := make(map[Rule]bool)
	suitesSeen := make(map[CipherSuite]bool)
	for i, v := range cases {
		suitesSeen[v.CipherSuite] = true
		refused := v.RefusedWelcomes
		for _, e := range v.Epochs {
			refused = append(refused, e.Refused...)
		}
		for _, r := range refused {
			rules[r.Rule] = true
		}
		if len(v.Epochs) == 0 || len(refused) == 0 {
			t.Errorf("%d: the scenario has %d epochs and %d refusals", i, len(v.Epochs), len(refused))
		}
		t.Run(fmt.Sprintf("%d-%v", i, v.CipherSuite), func(t *testing.T) { v.run(t, i, false) })
	}
	for _, cs := range AllCipherSuites() {
		if !suitesSeen[cs] {
			t.Errorf("no scenario for %v", cs)
		}
	}
	if len(rules) < 25 {
		t.Errorf("only %d rules are broken: %v", len(rules), rules)
	}
}

func writeScenarios(t *testing.T) {
	var cases []*passiveVector
	for _, cs := range AllCipherSuites() {
		s := newScribe(t, cs)
		s.short()
		if !cs.Experimental() {
			s.long()
		}
		if cs <= 2 { // the rules are the same for all, and messages have their size
			s.forged()
		}
		if !cs.Experimental() {
			s.end()
		}
		cases = append(cases, s.v)
	}
	b, err := json.MarshalIndent(cases, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(scenarioFile, append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// A scribe writes down what the passive client romeo gets to see of a group.
type scribe struct {
	tg        *testGroup
	v         *passiveVector
	proposals []hexBytes
	refused   []refusal
}

const passive = "romeo"

// newScribe lets romeo join a group of juliet's, by a Welcome with a pre-shared key.
func newScribe(t *testing.T, cs CipherSuite) *scribe {
	t.Helper()
	psk := []byte("the ring that juliet sent")
	cfg := &Config{Suites: AllCipherSuites(), PSKs: ExternalPSKs{"ring": psk}, Authenticator: vectorAuthenticator{}}
	s := &scribe{tg: newTestGroup(t, cfg, cs, "juliet"), v: &passiveVector{CipherSuite: cs, ExternalPSKs: []passivePSK{{[]byte("ring"), psk}}}}
	kp := testKeyPackage(t, cfg, cs, passive)
	s.v.KeyPackage = kp.KeyPackage.Message().Bytes()
	s.v.InitPriv, s.v.EncryptionPriv, s.v.SignaturePriv = hex3(kp.Export())
	o := &CommitOptions{Add: []*KeyPackage{kp.KeyPackage}, InlineTree: cs%2 == 1, PSKs: []PreSharedKeyID{{Type: PSKExternal, ID: []byte("ring")}}}
	p := s.tg.commit("juliet", o)
	jo := &JoinOptions{}
	if !o.InlineTree {
		jo.Tree = s.tg.anyone().Tree()
		s.v.RatchetTree = (*hexBytes)(&jo.Tree)
	}
	g, err := Join(cfg, wire(t, p.Welcome()).Welcome, kp, jo)
	if err != nil {
		t.Fatal(err)
	}
	s.tg.members[passive] = g
	s.v.Welcome, s.v.InitialEpochAuthenticator = p.Welcome().Bytes(), g.EpochAuthenticator()
	s.v.RefusedWelcomes = []refusal{
		{Comment: "the GroupInfo, and so what the group secrets are sealed for, is altered", Rule: RuleWelcomeDecrypt, Flip: -1},
		{Comment: "another protocol version", Rule: passiveDecode, Flip: 1},
		{Comment: "no entry for the key package", Rule: RuleWelcomeEntry, Flip: 4 + 2 + varintLen(len(p.Welcome().Welcome.Secrets[0].NewMember)) + 8},
	}
	return s
}

func hex3(a, b, c []byte) (x, y, z hexBytes) { return a, b, c }

func (s *scribe) propose(by string, propose func(g *Group) (*Message, *Group, error)) ProposalRef {
	s.tg.t.Helper()
	s.tg.propose(by, func(g *Group) (*Message, *Group, error) {
		m, next, err := propose(g)
		if err == nil {
			s.proposals = append(s.proposals, m.Bytes())
		}
		return m, next, err
	})
	pending := s.tg.members[passive].pending
	return pending[len(pending)-1].ref
}

// refuse notes a message that breaks a rule in this epoch, or changes an octet of the
// commit that follows.
func (s *scribe) refuse(rule Rule, comment string, m *Message) {
	s.refused = append(s.refused, refusal{Comment: comment, Rule: rule, Message: m.Bytes()})
}

func (s *scribe) tamper(rule Rule, comment string, flip int) {
	s.refused = append(s.refused, refusal{Comment: comment, Rule: rule, Flip: flip})
}

func (s *scribe) commit(by string, o *CommitOptions) {
	s.tg.t.Helper()
	s.accepted(s.tg.commit(by, o).Message())
}

// accepted ends an epoch of the scenario.
func (s *scribe) accepted(commit *Message) {
	s.tg.t.Helper()
	s.tg.agree()
	e := passiveEpoch{Proposals: s.proposals, Commit: commit.Bytes(), EpochAuthenticator: s.tg.members[passive].EpochAuthenticator(), Refused: s.refused}
	if e.Proposals == nil {
		e.Proposals = []hexBytes{}
	}
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range s.tg.members {
			if name != passive && !yield(name) {
				return
			}
		}
	}) {
		if s.tg.members[name].frozen() != nil {
			break
		}
		text := []byte(name + " speaks")
		m, err := s.tg.members[name].Seal(text, []byte("aad"))
		if err != nil {
			s.tg.t.Fatal(err)
		}
		e.Messages = append(e.Messages, passiveLetter{m.Bytes(), text, []byte("aad")})
	}
	s.v.Epochs = append(s.v.Epochs, e)
	s.proposals, s.refused = nil, nil
}

// short is what every suite is asked: a commit with a path, and its alterations.
func (s *scribe) short() {
	nh := s.tg.members[passive].s.nh
	s.tamper(RuleCommitMembershipTag, "the membership tag is altered", -1)
	s.tamper(RuleCommitMembershipTag, "the confirmation tag is altered", -1-nh-varintLen(nh))
	s.tamper(RuleGroupID, "another group", 5)
	s.tamper(RuleCommitEpoch, "an epoch to come", 4+1+len("balcony")+6)
	s.commit("juliet", nil)
}

// long goes through all kinds of proposals.
func (s *scribe) long() {
	private := &ProposeOptions{Wire: WireFormatPrivateMessage}
	newcomer := func(name string) *KeyPackage { return testKeyPackage(s.tg.t, s.tg.cfg, s.tg.cs, name).KeyPackage }
	s.propose("juliet", func(g *Group) (*Message, *Group, error) { return g.ProposeAdd(newcomer("mercutio"), nil) })
	s.commit("juliet", &CommitOptions{Add: []*KeyPackage{newcomer("nurse"), newcomer("tybalt")}})

	// mercutio has leaf 2, nurse 3, tybalt 4; none of them comes.
	s.joins("benvolio", nil)
	s.propose("benvolio", func(g *Group) (*Message, *Group, error) { return g.ProposeUpdate(nil, private) })
	s.propose("juliet", func(g *Group) (*Message, *Group, error) { return g.ProposeRemove(3, nil) })
	s.commit("juliet", &CommitOptions{Wire: WireFormatPrivateMessage})

	s.propose("benvolio", func(g *Group) (*Message, *Group, error) {
		return g.ProposePSK(PreSharedKeyID{Type: PSKExternal, ID: []byte("ring")}, private)
	})
	// No path.
	s.commit("benvolio", &CommitOptions{PSKs: []PreSharedKeyID{
		{Type: PSKResumption, Usage: ResumptionApplication, GroupID: s.tg.members[passive].GroupID(), Epoch: s.tg.members[passive].Epoch() - 1},
	}})

	required := &RequiredCapabilities{Proposals: []ProposalType{ProposalSelfRemove}, Credentials: []CredentialType{CredentialBasic}}
	s.commit("juliet", &CommitOptions{ContextExtensions: Extensions{required.Extension(), requiring([]ComponentID{ComponentSafeAAD}, nil)}, Remove: []LeafIndex{4}})
	s.commit("juliet", &CommitOptions{AppData: []*AppDataUpdate{{Component: 0x8001, Op: AppDataUpdateOp, Update: []byte("balcony")}}})

	at := s.tg.members["benvolio"].self
	s.joins("benvolio", &at)
	s.propose("benvolio", func(g *Group) (*Message, *Group, error) { return g.ProposeSelfRemove(nil) })
	s.commit("juliet", nil)
}

// joins lets somebody join by an external commit, in the place of its former self.
func (s *scribe) joins(name string, former *LeafIndex) {
	s.tg.t.Helper()
	gi, err := s.tg.members["juliet"].GroupInfo(&GroupInfoOptions{ExternalPub: true, InlineTree: true})
	if err != nil {
		s.tg.t.Fatal(err)
	}
	me := testIdentity(s.tg.t, s.tg.cs, name)
	if old := s.tg.members[name]; old != nil {
		me = old.me
	}
	p, err := JoinExternal(s.tg.cfg, gi.GroupInfo, me, &ExternalJoinOptions{Remove: former})
	if err != nil {
		s.tg.t.Fatal(err)
	}
	delete(s.tg.members, name)
	s.tg.deliver("", p)
	if s.tg.members[name], err = p.Merge(); err != nil {
		s.tg.t.Fatal(err)
	}
	s.accepted(p.Message())
}

// forged is an epoch in which juliet breaks rule after rule, with real signatures and
// tags.
func (s *scribe) forged() {
	t := s.tg.t
	f := forge{t, s.tg.members["juliet"]}
	cs := s.tg.cs
	kp := func(edit func(kp *KeyPackage)) *Add { return &Add{forgeKeyPackage(t, cs, "paris", edit).KeyPackage} }
	commit := func(rule Rule, comment string, y forgery, list ...Proposal) {
		s.refuse(rule, comment, f.commit(byValue(list...), y).message)
	}
	psk := func(y forgery, id PreSharedKeyID) (forgery, Proposal) {
		y.psks = [][]byte{[]byte("the ring that juliet sent")}
		return y, &PreSharedKey{id}
	}
	nh := f.g.s.nh
	nonce := make([]byte, nh)
	context := &GroupContextExtensions{}

	commit(RuleConfirmationTag, "confirmation tag of another epoch", forgery{confirmationTag: flip})
	commit(RuleCommitSignature, "signature altered, membership tag right", forgery{signature: flip})
	commit(RuleCommitPath, "no path, and no proposal", forgery{noPath: true})
	commit(RuleCommitPath, "GroupContextExtensions without a path", forgery{noPath: true}, context)
	commit(RulePathLength, "one path node too many", forgery{path: func(p *UpdatePath) { p.Nodes = append(p.Nodes, p.Nodes[0]) }})
	commit(RulePathCiphertexts, "one ciphertext too few", forgery{path: func(p *UpdatePath) { p.Nodes[0].EncryptedPathSecret = nil }})
	commit(RulePathDecrypt, "ciphertext altered", forgery{path: func(p *UpdatePath) {
		c := &p.Nodes[0].EncryptedPathSecret[0]
		c.Ciphertext = flip(c.Ciphertext)
	}})
	commit(RulePathKeys, "path secret of other keys", forgery{secrets: func(secrets [][]byte) { secrets[0] = flip(secrets[0]) }})
	commit(RulePathParentHash, "parent hash of the leaf altered", forgery{leaf: func(l *LeafNode) { l.ParentHash = flip(l.ParentHash) }})
	commit(RuleLeafSignature, "leaf signature altered", forgery{unsignedLeaf: func(l *LeafNode) { l.Signature = flip(l.Signature) }})
	commit(RuleLeafSourceCommit, "leaf of an Update in a path", forgery{leaf: func(l *LeafNode) { l.Source = LeafNodeUpdate }})
	commit(RuleCommitLeafKey, "the committer's leaf key stays", forgery{leaf: func(l *LeafNode) { l.EncryptionKey = f.g.Self().Leaf.EncryptionKey }})
	commit(RuleRemoveCommitter, "the committer removes itself", forgery{}, &Remove{f.g.self})
	commit(RuleRemoveBlank, "nobody is removed", forgery{}, &Remove{200})
	commit(RuleContextTwice, "two GroupContextExtensions", forgery{}, context, context)
	commit(RuleReInitAlone, "ReInit and Add", forgery{}, &ReInit{GroupID("orchard"), MLS10, cs, nil}, kp(nil))
	commit(RuleExternalInitMember, "ExternalInit by a member", forgery{}, &ExternalInit{make([]byte, f.g.s.kem.encSize())})
	commit(RuleKeyPackageSignature, "Add with an altered key package", forgery{}, func() Proposal {
		p := forgeKeyPackage(t, cs, "paris", nil).KeyPackage
		p.raw, p.Signature = nil, flip(p.Signature)
		return &Add{p}
	}())
	commit(RuleKeyPackageInitKey, "Add with one key for two uses", forgery{}, kp(func(kp *KeyPackage) { kp.InitKey = kp.LeafNode.EncryptionKey }))
	commit(RuleLeafOwnCredential, "Add with a credential that its capabilities lack", forgery{}, kp(func(kp *KeyPackage) { kp.LeafNode.Capabilities.Credentials = []CredentialType{9} }))
	commit(RuleLeafDefaults, "Add with a default proposal type in its capabilities", forgery{}, kp(func(kp *KeyPackage) {
		kp.LeafNode.Capabilities.Proposals = append(slices.Clone(kp.LeafNode.Capabilities.Proposals), ProposalAdd)
	}))
	commit(RuleContextSupport, "extension that nobody supports", forgery{}, &GroupContextExtensions{Extensions{{0xf00e, nil}}})
	commit(RuleAppComponents, "component that nobody supports", forgery{}, &GroupContextExtensions{Extensions{requiring([]ComponentID{0x8abc}, nil)}})
	y, p := psk(forgery{noPath: true}, PreSharedKeyID{Type: PSKExternal, ID: []byte("ring"), Nonce: nonce[:nh-1]})
	commit(RulePSKNonce, "psk_nonce too short", y, p)
	y, p = psk(forgery{noPath: true}, PreSharedKeyID{Type: PSKExternal, ID: []byte("no ring"), Nonce: nonce})
	commit(RuleCommitPSK, "unknown pre-shared key", y, p)
	y, p = psk(forgery{noPath: true}, PreSharedKeyID{Type: PSKResumption, Usage: ResumptionBranch, GroupID: f.g.GroupID(), Nonce: nonce})
	commit(RulePSKBranch, "resumption PSK with usage branch", y, p)
	s.refuse(RulePadding, "padding that is not zero", f.application([]byte("hello"), forgery{plaintext: func(b []byte) []byte { return append(b, 0, 1) }}))
	s.refuse(RulePrivateSignature, "message signed by nobody", f.application([]byte("hello"), forgery{signature: flip}))
	s.refuse(RuleApplicationPublic, "application data in the open", f.application([]byte("hello"), forgery{wire: WireFormatPublicMessage}))
	s.refuse(RuleSignature, "proposal with an altered signature", f.proposal(&Remove{1}, forgery{signature: flip}))
	s.refuse(RuleExternalSenderIndex, "external sender of a group that has none", f.proposal(&Remove{1}, forgery{context: []byte{}, content: func(c *FramedContent) { c.Sender = Sender{SenderExternal, 0} }}))
	s.commit("juliet", nil)
}

// end ends the group by a ReInit.
func (s *scribe) end() {
	s.commit("juliet", &CommitOptions{ReInit: &ReInit{GroupID("orchard"), MLS10, 1, Extensions{}}})
}
