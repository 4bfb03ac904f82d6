// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

const suite1 = MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519

// joinExternally lets somebody join, or come back, by an external commit.
func (tg *testGroup) joinExternally(name string, o *ExternalJoinOptions) {
	tg.t.Helper()
	me := testIdentity(tg.t, tg.cs, name)
	if old := tg.members[name]; old != nil {
		me = old.me
	}
	gi, err := tg.anyone().GroupInfo(&GroupInfoOptions{ExternalPub: true})
	if err != nil {
		tg.t.Fatal(err)
	}
	o.Tree = tg.anyone().Tree()
	p, err := JoinExternal(tg.cfg, wire(tg.t, gi).GroupInfo, me, o)
	if err != nil {
		tg.t.Fatalf("%s joins: %v", name, err)
	}
	// A joiner that is stopped before it knows whether it was accepted.
	if p, err = UnmarshalPendingCommit(tg.cfg, p.Marshal()); err != nil {
		tg.t.Fatal(err)
	}
	delete(tg.members, name)
	tg.deliver("", p)
	if tg.members[name], err = p.Merge(); err != nil {
		tg.t.Fatal(err)
	}
	tg.agree()
}

func (tg *testGroup) anyone() *Group {
	for _, g := range tg.members {
		return g
	}
	return nil
}

func TestExternalJoin(t *testing.T) {
	for _, cs := range []CipherSuite{1, 2, 4, MLS_128_MLKEM768X25519_AES128GCM_SHA256_Ed25519} {
		t.Run(cs.String(), func(t *testing.T) {
			tg := newTestGroup(t, &Config{Suites: []CipherSuite{cs}}, cs, "juliet", "romeo")
			for _, name := range []string{"nurse", "mercutio", "tybalt"} {
				tg.joinExternally(name, &ExternalJoinOptions{AAD: []byte("seq 7"), GroupInfoExternalPub: true, InlineTree: true})
				tg.say(name, "here I am")
				tg.say("juliet", "welcome")
			}
			tg.commit("romeo", nil)
			tg.agree()

			// Back after a loss: the former self goes.
			former := tg.members["nurse"].self
			count := tg.public.MemberCount()
			tg.joinExternally("nurse", &ExternalJoinOptions{Remove: &former})
			if tg.public.MemberCount() != count {
				t.Fatalf("%d members, want %d", tg.public.MemberCount(), count)
			}
			tg.say("nurse", "back again")
		})
	}
}

func TestExternalJoinWithSelfRemove(t *testing.T) {
	tg := newTestGroup(t, nil, suite1, "juliet", "romeo", "mercutio")
	m, next, err := tg.members["mercutio"].ProposeSelfRemove(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := next.ProposeSelfRemove(nil); err == nil {
		t.Error("a second SelfRemove in one epoch was sent")
	}
	tg.members["mercutio"] = next
	tg.receiveProposal("mercutio", m)
	if _, err := tg.members["mercutio"].Commit(nil); err != nil {
		t.Fatalf("who leaves can still renew its keys: %v", err)
	}
	tg.joinExternally("nurse", &ExternalJoinOptions{SelfRemoves: []*Message{m}})
	if tg.members["mercutio"] != nil {
		t.Error("mercutio is still there")
	}
	tg.say("nurse", "he is gone")

	// And by a commit of a member.
	tg.propose("romeo", func(g *Group) (*Message, *Group, error) { return g.ProposeSelfRemove(nil) })
	tg.commit("juliet", nil)
	tg.agree()
	if len(tg.members) != 2 {
		t.Errorf("%d members left", len(tg.members))
	}
	if _, _, err := tg.members["juliet"].ProposeSelfRemove(&ProposeOptions{Wire: WireFormatPrivateMessage}); !hasRule(err, RuleSelfRemovePrivate) {
		t.Errorf("a private SelfRemove: %v", err)
	}
}

func hasRule(err error, rule Rule) bool {
	var v *ValidationError
	return errors.As(err, &v) && v.Rule == rule
}

func TestExternalSenders(t *testing.T) {
	key, err := GenerateSignatureKey(suite1, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg := &Config{PSKs: ExternalPSKs{"ring": []byte("posy")}}
	tg := newTestGroup(t, cfg, suite1, "juliet", "romeo", "mercutio")
	x := Extensions{ExternalSendersExtension(ExternalSender{key.Public(), BasicCredential([]byte("mls.example"))})}
	tg.commit("juliet", &CommitOptions{ContextExtensions: x})
	tg.agree()

	m, err := tg.public.Remove(key, 0, tg.members["mercutio"].self)
	if err != nil {
		t.Fatal(err)
	}
	tg.receiveProposal("the service", m)
	tg.commit("romeo", nil)
	tg.agree()
	if tg.members["mercutio"] != nil {
		t.Error("mercutio is still there")
	}
	if _, err := tg.public.ExternalProposal(key, 0, &SelfRemove{}, nil); !hasRule(err, RuleExternalProposalType) {
		t.Errorf("an external SelfRemove: %v", err)
	}
	if _, err := tg.public.Remove(key, 1, 0); !hasRule(err, RuleExternalSenderIndex) {
		t.Errorf("external sender 1: %v", err)
	}
	gi, err := tg.members["juliet"].GroupInfo(nil)
	if err != nil {
		t.Fatal(err)
	}
	if m, err = ExternalProposalFor(gi.GroupInfo, key, -1, &Remove{tg.members["romeo"].self}, nil); err != nil {
		t.Fatal(err)
	}
	tg.receiveProposal("the service", m)

	// The nonce of a pre-shared key is drawn here too.
	psk := PreSharedKeyID{Type: PSKExternal, ID: []byte("ring")}
	if m, err = tg.public.ExternalProposal(key, 0, &PreSharedKey{psk}, nil); err != nil {
		t.Fatal(err)
	}
	tg.receiveProposal("the service", m)
	if m, err = ExternalProposalFor(gi.GroupInfo, key, -1, &PreSharedKey{psk}, nil); err != nil {
		t.Fatal(err)
	}
	tg.receiveProposal("the service", m)

	// Somebody asks to be added.
	kp := testKeyPackage(t, nil, suite1, "nurse")
	if m, err = NewMemberProposal(gi.GroupInfo, kp, []byte("please")); err != nil {
		t.Fatal(err)
	}
	tg.receiveProposal("nurse", m)
	p := tg.commit("juliet", &CommitOptions{InlineTree: true})
	nurse, err := Join(cfg, wire(t, p.Welcome()).Welcome, kp, nil)
	if err != nil {
		t.Fatal(err)
	}
	tg.members["nurse"] = nurse
	tg.agree()
	if len(tg.members) != 2 || tg.members["romeo"] != nil {
		t.Errorf("%d members", len(tg.members))
	}
}

func TestAppData(t *testing.T) {
	const roles ComponentID = 0x8001
	join := appDataJoiner{}
	tg := newTestGroup(t, &Config{AppData: join}, suite1, "juliet", "romeo")
	tg.propose("romeo", func(g *Group) (*Message, *Group, error) {
		return g.ProposeAppData(&AppDataUpdate{Component: roles, Op: AppDataUpdateOp, Update: []byte("b")}, nil)
	})
	p := tg.commit("juliet", &CommitOptions{AppData: []*AppDataUpdate{
		{Component: roles, Op: AppDataUpdateOp, Update: []byte("c")},
		{Component: 0x8000, Op: AppDataUpdateOp, Update: []byte("x")},
	}})
	tg.agree()
	if p.Message().Public.Content.Commit.Path != nil {
		t.Error("AppDataUpdate needs no path")
	}
	d, err := tg.public.Context().Extensions.AppData()
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := d.Find(roles); string(got) != "bc" || len(d) != 2 {
		t.Errorf("the data is %q", got)
	}
	tg.commit("romeo", &CommitOptions{AppData: []*AppDataUpdate{{Component: roles, Op: AppDataRemoveOp}}})
	tg.agree()
	if d, _ = tg.public.Context().Extensions.AppData(); len(d) != 1 {
		t.Errorf("%d components left", len(d))
	}
	for rule, list := range map[Rule][]*AppDataUpdate{
		RuleAppDataMissing: {{Component: roles, Op: AppDataRemoveOp}},
		RuleAppDataMixed:   {{Component: 0x8000, Op: AppDataRemoveOp}, {Component: 0x8000, Op: AppDataUpdateOp}},
		RuleAppDataRefused: {{Component: 0x8000, Op: AppDataUpdateOp, Update: []byte("bad")}},
	} {
		if _, err := tg.members["juliet"].Commit(&CommitOptions{AppData: list}); !hasRule(err, rule) {
			t.Errorf("want %s: %v", rule, err)
		}
	}
	// The dictionary belongs to AppDataUpdate once that is required.
	x := tg.public.Context().Extensions
	required := &RequiredCapabilities{Proposals: []ProposalType{ProposalAppDataUpdate}}
	tg.commit("juliet", &CommitOptions{ContextExtensions: append(slices.Clone(x), required.Extension())})
	tg.agree()
	if _, err := tg.members["juliet"].Commit(&CommitOptions{ContextExtensions: Extensions{required.Extension()}}); !hasRule(err, RuleAppDataContext) {
		t.Errorf("a GroupContextExtensions without the dictionary: %v", err)
	}
	tg.joinExternally("nurse", &ExternalJoinOptions{AppData: []*AppDataUpdate{{Component: roles, Op: AppDataUpdateOp, Update: []byte("n")}}})
}

// appDataJoiner concatenates updates.
type appDataJoiner struct{}

func (appDataJoiner) UpdateAppData(_ ComponentID, old []byte, updates [][]byte) ([]byte, error) {
	data := bytes.Clone(old)
	for _, u := range updates {
		if string(u) == "bad" {
			return nil, errors.New("bad update")
		}
		data = append(data, u...)
	}
	return data, nil
}

func (appDataJoiner) CheckEphemeral(ComponentID, []byte) error { return nil }

func TestPSKs(t *testing.T) {
	cfg := &Config{PSKs: ExternalPSKs{"feud": []byte("Montague")}}
	tg := newTestGroup(t, cfg, suite1, "juliet", "romeo")
	feud := PreSharedKeyID{Type: PSKExternal, ID: []byte("feud")}
	tg.commit("juliet", &CommitOptions{PSKs: []PreSharedKeyID{feud}})
	tg.agree()
	old := PreSharedKeyID{Type: PSKResumption, Usage: ResumptionApplication, GroupID: tg.public.GroupID(), Epoch: 1}
	tg.propose("romeo", func(g *Group) (*Message, *Group, error) { return g.ProposePSK(old, nil) })
	tg.propose("romeo", func(g *Group) (*Message, *Group, error) { return g.ProposePSK(feud, nil) })
	// A new member gets an external PSK, and cannot have the resumption PSK: only
	// the former is committed with it.
	kp := testKeyPackage(t, cfg, suite1, "nurse")
	p := tg.commit("juliet", &CommitOptions{Add: []*KeyPackage{kp.KeyPackage}, InlineTree: true, ExcludeProposals: func(p ProposalInfo) bool {
		psk, ok := p.Proposal.(*PreSharedKey)
		return ok && psk.ID.Type == PSKResumption
	}})
	tg.agree()
	if len(p.Unused()) != 1 {
		t.Errorf("%d proposals unused", len(p.Unused()))
	}
	if _, err := Join(nil, p.Welcome().Welcome, kp, nil); !errors.Is(err, ErrMissingPSK) || !hasRule(err, RuleWelcomePSK) || !Retryable(err) {
		t.Errorf("joining without the PSK: %v", err)
	}
	g, err := Join(cfg, p.Welcome().Welcome, kp, nil)
	if err != nil {
		t.Fatal(err)
	}
	tg.members["nurse"] = g
	tg.agree()
	tg.commit("romeo", &CommitOptions{PSKs: []PreSharedKeyID{{Type: PSKResumption, Usage: ResumptionApplication, GroupID: tg.public.GroupID(), Epoch: tg.public.Epoch()}}})
	tg.agree()
}

func TestReInit(t *testing.T) {
	const to = MLS_128_DHKEMP256_AES128GCM_SHA256_P256
	tg := newTestGroup(t, nil, suite1, "juliet", "romeo", "nurse")
	app := AppData{{0x8001, []byte("roles")}}
	tg.propose("romeo", func(g *Group) (*Message, *Group, error) {
		return g.ProposeReInit(&ReInit{GroupID("balcony 2"), MLS10, to, Extensions{app.Extension()}}, nil)
	})
	tg.commit("juliet", nil)
	tg.agree()
	juliet := tg.members["juliet"]
	if _, err := juliet.Commit(nil); !hasRule(err, RuleReInitFrozen) {
		t.Errorf("a commit after ReInit: %v", err)
	}
	if _, err := juliet.Seal(nil, nil); !hasRule(err, RuleReInitFrozen) {
		t.Errorf("a message after ReInit: %v", err)
	}
	var kps []*PrivateKeyPackage
	var list []*KeyPackage
	for _, name := range []string{"romeo", "nurse"} {
		kp := testKeyPackage(t, nil, to, name)
		kps, list = append(kps, kp), append(list, kp.KeyPackage)
	}
	o := &DeriveOptions{Identity: testIdentity(t, to, "juliet"), InlineTree: true}
	if _, err := juliet.Successor(list[:1], o); !hasRule(err, RuleWelcomeReInit) {
		t.Errorf("a successor without nurse: %v", err)
	}
	p, err := juliet.Successor(list, o)
	if err != nil {
		t.Fatal(err)
	}
	next, err := p.Merge()
	if err != nil {
		t.Fatal(err)
	}
	if next.Epoch() != 1 || next.CipherSuite() != to || !bytes.Equal(next.GroupID(), []byte("balcony 2")) {
		t.Errorf("the successor is %x in epoch %d", next.GroupID(), next.Epoch())
	}
	w := wire(t, p.Welcome()).Welcome
	for i, name := range []string{"romeo", "nurse"} {
		if _, err := Join(nil, w, kps[i], nil); err == nil {
			t.Error("joined a successor without its parent")
		}
		g, err := Join(nil, w, kps[i], &JoinOptions{Parent: tg.members[name]})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(g.EpochAuthenticator(), next.EpochAuthenticator()) {
			t.Errorf("%s is in another state", name)
		}
	}
}

func TestBranch(t *testing.T) {
	tg := newTestGroup(t, nil, suite1, "juliet", "romeo", "nurse")
	kp := testKeyPackage(t, nil, suite1, "romeo")
	stranger := testKeyPackage(t, nil, suite1, "mallory")
	if _, err := tg.members["juliet"].Branch(GroupID("orchard"), []*KeyPackage{stranger.KeyPackage}, nil); !hasRule(err, RuleWelcomeBranch) {
		t.Errorf("a branch with a stranger: %v", err)
	}
	p, err := tg.members["juliet"].Branch(GroupID("orchard"), []*KeyPackage{kp.KeyPackage}, &DeriveOptions{InlineTree: true, ForcePath: true})
	if err != nil {
		t.Fatal(err)
	}
	branch, err := p.Merge()
	if err != nil {
		t.Fatal(err)
	}
	g, err := Join(nil, wire(t, p.Welcome()).Welcome, kp, &JoinOptions{Parent: tg.members["romeo"]})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(g.EpochAuthenticator(), branch.EpochAuthenticator()) {
		t.Error("romeo is in another state")
	}
	tg.say("juliet", "the parent lives on")
}

// TestIdentityChange replaces credential and signature key, by commit and by
// Update.
func TestIdentityChange(t *testing.T) {
	cfg := &Config{Authenticator: vectorAuthenticator{}, SealWithPending: true}
	tg := newTestGroup(t, cfg, suite1, "juliet", "romeo")
	tg.commit("juliet", &CommitOptions{Update: &LeafChange{Identity: testIdentity(t, suite1, "juliet")}})
	tg.agree()
	tg.say("juliet", "with a new key")
	tg.propose("romeo", func(g *Group) (*Message, *Group, error) {
		return g.ProposeUpdate(&LeafChange{Identity: testIdentity(t, suite1, "romeo")}, nil)
	})
	tg.say("romeo", "still with the old key")
	tg.commit("juliet", nil)
	tg.agree()
	tg.say("romeo", "with a new key")

	// Without an Authenticator the identity must stay.
	strict := newTestGroup(t, nil, suite1, "juliet", "romeo")
	if _, err := strict.members["juliet"].Commit(&CommitOptions{Update: &LeafChange{Identity: testIdentity(t, suite1, "mallory")}}); !hasRule(err, RuleLeafSuccessor) || !errors.Is(err, ErrIdentityChanged) {
		t.Errorf("juliet becomes mallory: %v", err)
	}
}

// TestConflictingProposals: a committer leaves out what is not valid together.
func TestConflictingProposals(t *testing.T) {
	tg := newTestGroup(t, nil, suite1, "juliet", "romeo", "nurse", "mercutio")
	update := func(g *Group) (*Message, *Group, error) { return g.ProposeUpdate(nil, nil) }
	tg.propose("mercutio", update)
	tg.propose("nurse", update)
	tg.propose("nurse", update) // the later one counts
	mercutio := tg.members["mercutio"].self
	tg.propose("romeo", func(g *Group) (*Message, *Group, error) { return g.ProposeRemove(mercutio, nil) })
	tg.propose("nurse", func(g *Group) (*Message, *Group, error) { return g.ProposeRemove(mercutio, nil) })
	tg.propose("romeo", func(g *Group) (*Message, *Group, error) { return g.ProposeRemove(tg.members["juliet"].self, nil) })
	tg.propose("juliet", update)
	tg.propose("romeo", func(g *Group) (*Message, *Group, error) {
		return g.ProposeReInit(&ReInit{GroupID("other"), MLS10, suite1, nil}, nil)
	})
	kp := testKeyPackage(t, nil, suite1, "tybalt").KeyPackage
	tg.propose("romeo", func(g *Group) (*Message, *Group, error) { return g.ProposeAdd(kp, nil) })
	tg.propose("nurse", func(g *Group) (*Message, *Group, error) { return g.ProposeAdd(kp, nil) })
	p := tg.commit("juliet", nil)
	tg.agree()
	if len(tg.members) != 3 || len(p.Added()) != 1 || len(p.Change().Removed) != 1 {
		t.Errorf("%d members, %d added, %d removed", len(tg.members), len(p.Added()), len(p.Change().Removed))
	}
	if got := len(p.Unused()); got != 7 {
		t.Errorf("%d proposals unused, want 7", got)
	}
}

// TestPastEpochs reads late messages, as long as the limits allow.
func TestPastEpochs(t *testing.T) {
	tg := newTestGroup(t, &Config{Limits: Limits{PastEpochs: 2}}, suite1, "juliet", "romeo", "mercutio")
	late, err := tg.members["mercutio"].Seal([]byte("late"), nil)
	if err != nil {
		t.Fatal(err)
	}
	old := tg.members["romeo"]
	commit, err := old.Commit(nil)
	if err != nil {
		t.Fatal(err)
	}
	tg.commit("juliet", &CommitOptions{Remove: []LeafIndex{tg.members["mercutio"].self}})
	tg.add("juliet", "nurse") // in mercutio's place
	r, err := tg.members["romeo"].Process(late)
	if err != nil {
		t.Fatal(err)
	}
	m := r.(*ApplicationMessage)
	if string(m.Data) != "late" || string(m.Sender.Credential().Identity) != "mercutio" || m.Epoch != 1 {
		t.Errorf("%q by %s in epoch %d", m.Data, m.Sender.Credential().Identity, m.Epoch)
	}
	if _, err := tg.members["romeo"].Process(late); !errors.Is(err, ErrReplay) {
		t.Errorf("the same again: %v", err)
	}
	r, err = tg.members["juliet"].Process(commit.Message())
	if _, ok := r.(*PastEpoch); !ok {
		t.Errorf("a commit that lost its race: %T, %v", r, err)
	}
	tg.commit("juliet", nil)
	if _, err := tg.members["juliet"].Process(late); !errors.Is(err, ErrEpochPast) {
		t.Errorf("two epochs later: %v", err)
	}
	if _, err := old.Process(tg.members["romeo"].mustSeal(t, "future")); !errors.Is(err, ErrEpochFuture) || !Retryable(err) {
		t.Errorf("a message of the future: %v", err)
	}
}

func (g *Group) mustSeal(t testing.TB, text string) *Message {
	t.Helper()
	m, err := g.Seal([]byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestSafeExport(t *testing.T) {
	tg := newTestGroup(t, nil, suite1, "juliet", "romeo")
	var secrets [][]byte
	for _, name := range []string{"juliet", "romeo"} {
		g := tg.members[name]
		secret, err := g.SafeExport(0x8001)
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, secret)
		if _, err := g.SafeExport(0x8001); !errors.Is(err, ErrExported) {
			t.Errorf("the same secret again: %v", err)
		}
		if _, err := g.SafeExport(0x8000); err != nil {
			t.Error(err)
		}
	}
	if !bytes.Equal(secrets[0], secrets[1]) {
		t.Error("the exported secrets differ")
	}
}

// TestSealWithPending: application data waits for the commit of what was proposed
// (RFC 9420 §12.4), unless the application says otherwise.
func TestSealWithPending(t *testing.T) {
	for _, cfg := range []*Config{nil, {SealWithPending: true}} {
		tg := newTestGroup(t, cfg, suite1, "juliet", "romeo", "mercutio")
		tg.propose("juliet", func(g *Group) (*Message, *Group, error) { return g.ProposeRemove(tg.members["mercutio"].self, nil) })
		for _, name := range []string{"juliet", "romeo"} {
			before := tg.members[name].Save()
			_, err := tg.members[name].Seal([]byte("for our ears only"), nil)
			if cfg != nil {
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				continue
			}
			if !errors.Is(err, ErrPendingProposals) || !bytes.Equal(before, tg.members[name].Save()) {
				t.Errorf("%s speaks while a removal is pending: %v", name, err)
			}
		}
		tg.commit("romeo", nil)
		tg.say("juliet", "for our ears only")
	}
}
