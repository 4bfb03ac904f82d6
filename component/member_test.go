// SPDX-License-Identifier: Apache-2.0

package component_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/component"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// state fetches what an external joiner needs.
func (a *actor) state(jid string) (*mls.GroupInfo, []byte, error) {
	a.t.Helper()
	var gi stanza.GroupInfo
	if err := a.get(jid, &stanza.GroupInfoQuery{}, &gi); err != nil {
		return nil, nil, err
	}
	m, err := mls.ParseMessage(gi.Bytes)
	a.must(err)
	tree := a.tree(jid, gi.Epoch)
	if stanza.MessageRef(tree) != gi.TreeSHA256 || uint64(len(tree)) != gi.TreeBytes {
		a.t.Errorf("the tree is not the one announced")
	}
	return m.GroupInfo, tree, nil
}

func (a *actor) joinFromOutside(jid string, o mls.ExternalJoinOptions) error {
	a.t.Helper()
	gi, tree, err := a.state(jid)
	if err != nil {
		return err
	}
	o.Tree, o.DeviceID, o.GroupInfo, o.GroupInfoExternalPub = tree, a.id[:], true, true
	p, err := mls.JoinExternal(nil, gi, a.me, &o)
	a.must(err)
	c := submission(p, gi.Context.Epoch)
	c.External = true
	var acc stanza.Accepted
	if err := a.set(jid, c, &acc); err != nil {
		return err
	}
	g, err := p.Merge()
	a.must(err)
	a.g, a.seq = g, acc.Seq
	return nil
}

// TestExternalJoin: a new device joins by itself, a lost one comes back, and
// neither a stranger nor a thief does.
func TestExternalJoin(t *testing.T) {
	s := start(t)
	j, r := pair(t, s)
	phone := newActor(t, s, romeo, "phone")
	phone.announce()
	phone.must(phone.joinFromOutside(balcony, mls.ExternalJoinOptions{}))
	j.catchUp(balcony)
	r.catchUp(balcony)
	sameEpoch(t, j, r, phone)

	// The phone loses its state and takes its own place.
	leaf := phone.g.Self().Index
	phone.must(phone.joinFromOutside(balcony, mls.ExternalJoinOptions{Remove: &leaf}))
	j.catchUp(balcony)
	r.catchUp(balcony)
	sameEpoch(t, j, r, phone)
	if n := j.g.MemberCount(); n != 3 {
		t.Errorf("%d members, want 3", n)
	}

	// The same device twice is refused.
	clone := newActor(t, s, romeo, "clone")
	clone.id = phone.id
	if err := clone.joinFromOutside(balcony, mls.ExternalJoinOptions{}); refusal(err).Condition != stanza.BadRequest {
		t.Errorf("the same device again: %v", err)
	}
	// A stranger sees nothing.
	m := newActor(t, s, mallory, "x")
	if _, _, err := m.state(balcony); refusal(err).Condition != stanza.Forbidden {
		t.Errorf("mallory asks for the state: %v", err)
	}
	if err := m.get(balcony, &stanza.TreeQuery{Epoch: 3}, nil); refusal(err).Condition != stanza.Forbidden {
		t.Errorf("mallory asks for the tree: %v", err)
	}
	// Romeo's phone cannot throw juliet out while it joins.
	gi, tree, err := j.state(balcony)
	j.must(err)
	thief := newActor(t, s, romeo, "thief")
	zero := mls.LeafIndex(0)
	p, err := mls.JoinExternal(&mls.Config{Authenticator: anything{}}, gi, thief.me, &mls.ExternalJoinOptions{Tree: tree, DeviceID: thief.id[:], Remove: &zero, GroupInfo: true, GroupInfoExternalPub: true})
	if err != nil {
		t.Fatal(err)
	}
	c := submission(p, gi.Context.Epoch)
	c.External = true
	if err := thief.set(balcony, c, nil); err == nil {
		t.Error("an external commit threw another account out")
	}
}

// TestJoinerTakesLeaversAlong: who joins from outside while somebody leaves is
// given the SelfRemove, and commits it.
func TestJoinerTakesLeaversAlong(t *testing.T) {
	s := start(t)
	j, r := pair(t, s)
	m, _, err := r.g.ProposeSelfRemove(nil)
	r.must(err)
	r.must(r.set(balcony, proposal(m, 1), nil))
	phone := newActor(t, s, juliet, "phone")
	var must *stanza.MustCommit
	if err := phone.joinFromOutside(balcony, mls.ExternalJoinOptions{}); !errors.As(err, &must) || len(must.Proposals) != 1 {
		t.Fatalf("joining while romeo leaves: %v, want must-commit with one proposal", err)
	}
	leaving, err := mls.ParseMessage(must.Proposals[0].Bytes)
	phone.must(err)
	phone.must(phone.joinFromOutside(balcony, mls.ExternalJoinOptions{SelfRemoves: []*mls.Message{leaving}}))
	j.catchUp(balcony)
	sameEpoch(t, j, phone)
	if j.g.MemberCount() != 2 {
		t.Errorf("%d members: romeo has left, a phone has come", j.g.MemberCount())
	}
	// Who comes back in its own place need not commit that it wanted to leave.
	r = newActor(t, s, romeo, "orchard")
	r.publish(2)
	j.add(balcony, romeo)
	r.join(balcony)
	epoch := r.g.Epoch()
	if m, _, err = r.g.ProposeSelfRemove(nil); err != nil {
		t.Fatal(err)
	}
	r.must(r.set(balcony, proposal(m, epoch), nil))
	leaf := r.g.Self().Index
	r.must(r.joinFromOutside(balcony, mls.ExternalJoinOptions{Remove: &leaf}))
}

type anything struct{}

func (anything) ValidateCredential(mls.Credential, []byte, mls.CredentialUse) error { return nil }
func (anything) ValidateSuccessor(_, _ *mls.LeafNode) error                         { return nil }

func proposal(m *mls.Message, epoch uint64) *stanza.Proposal {
	return &stanza.Proposal{Epoch: epoch, Ref: stanza.MessageRef(m.Bytes()), Bytes: m.Bytes()}
}

// TestLeave: who leaves is out as soon as somebody commits, and nobody speaks
// before that.
func TestLeave(t *testing.T) {
	s := start(t)
	j, r := pair(t, s)
	m, _, err := r.g.ProposeSelfRemove(nil)
	r.must(err)
	var acc stanza.Accepted
	r.must(r.set(balcony, proposal(m, 1), &acc))
	var again stanza.Accepted
	r.must(r.set(balcony, proposal(m, 1), &again))
	if acc != again {
		t.Errorf("the same proposal: %+v, %+v", acc, again)
	}
	var must *stanza.MustCommit
	if _, err := j.sendText(balcony, "before"); !errors.As(err, &must) || len(must.Proposals) != 1 || must.Proposals[0].Ref != acc.Ref || len(must.Proposals[0].Bytes) == 0 {
		t.Fatalf("a message while somebody leaves: %v, want must-commit with the proposal", err)
	}
	// A commit that leaves the proposal out is refused, too.
	if err := j.set(balcony, submission(j.pending(mls.CommitOptions{ForcePath: true}), 1), nil); !errors.As(err, &must) || refusal(err).Condition != stanza.PolicyViolation {
		t.Fatalf("a commit without the removal: %v", err)
	}
	// The leaver cannot commit it.
	if err := r.set(balcony, submission(r.pending(mls.CommitOptions{ForcePath: true}), 1), nil); refusal(err).Condition != stanza.NotAllowed {
		t.Errorf("the leaver commits: %v", err)
	}
	j.catchUp(balcony)
	done, err := j.commit(balcony, mls.CommitOptions{})
	j.must(err)
	if j.g.MemberCount() != 1 {
		t.Errorf("%d members after romeo left", j.g.MemberCount())
	}
	// Romeo gets the commit that removes him, live and in the log, and then no more.
	if d, _ := r.event(balcony, "commit"); d.Seq != done.Seq {
		t.Errorf("the removing commit is %d, romeo got %d", done.Seq, d.Seq)
	}
	_, err = j.sendText(balcony, "after")
	j.must(err)
	var log stanza.Log
	r.must(r.get(balcony, &stanza.LogQuery{Device: r.id, After: 1}, &log))
	if n := len(log.Entries); n != 2 || log.Entries[1].Seq != done.Seq || !log.Complete {
		t.Errorf("romeo's log: %+v", log)
	}
	var not *stanza.NotAMember
	err = r.get(balcony, &stanza.LogQuery{Device: r.id, After: done.Seq}, nil)
	if !errors.As(err, &not) || not.RemovedSeq != done.Seq {
		t.Errorf("romeo reads on: %v", err)
	}
	if n := r.box().count("kind='application'"); n != 0 {
		t.Error("romeo got a message that was sent after he left")
	}
	if _, err := r.sendText(balcony, "still here"); refusal(err).Condition != stanza.Forbidden {
		t.Errorf("romeo sends: %v", err)
	}
}

// TestLeaveByRequest: the service proposes the removal of who asks to leave.
func TestLeaveByRequest(t *testing.T) {
	s := start(t)
	j, r := pair(t, s)
	var acc stanza.Accepted
	r.must(r.set(balcony, &stanza.Leave{}, &acc))
	_, err := j.sendText(balcony, "x")
	var must *stanza.MustCommit
	if !errors.As(err, &must) {
		t.Fatalf("a message while somebody leaves: %v", err)
	}
	j.catchUp(balcony)
	_, err = j.commit(balcony, mls.CommitOptions{})
	j.must(err)
	if j.g.MemberCount() != 1 {
		t.Errorf("%d members", j.g.MemberCount())
	}
}

// TestBackAfterLeaving: who left and is added again hears what is said live.
func TestBackAfterLeaving(t *testing.T) {
	s := start(t)
	j, r := pair(t, s)
	r.must(r.set(balcony, &stanza.Leave{Device: r.id}, nil))
	j.catchUp(balcony)
	_, err := j.commit(balcony, mls.CommitOptions{})
	j.must(err)
	r.publish(2)
	j.add(balcony, romeo)
	r.join(balcony)
	acc, err := j.sendText(balcony, "welcome back")
	j.must(err)
	if d, _ := r.event(balcony, "application"); d.Seq != acc.Seq {
		t.Errorf("romeo is told of entry %d live, want %d", d.Seq, acc.Seq)
	}
}

// TestBan: an outcast is shut out at once, removed by the next commit, and stays
// out.
func TestBan(t *testing.T) {
	s := start(t)
	j, r := pair(t, s)
	if err := r.set(balcony, &stanza.Affiliation{JID: juliet, Affiliation: stanza.RoleOutcast}, nil); refusal(err).Condition != stanza.Forbidden {
		t.Errorf("a member bans: %v", err)
	}
	if err := j.set(balcony, &stanza.Affiliation{JID: romeo, Affiliation: stanza.RoleAdmin}, nil); refusal(err).Condition != stanza.FeatureNotImplemented {
		t.Errorf("an appointment by the service: %v", err)
	}
	j.must(j.set(balcony, &stanza.Affiliation{JID: romeo, Affiliation: stanza.RoleOutcast, Reason: "banished"}, nil))
	if _, err := r.sendText(balcony, "x"); refusal(err).Condition != stanza.ServiceUnavailable {
		t.Errorf("an outcast sends: %v", err)
	}
	if err := r.get(balcony, &stanza.LogQuery{Device: r.id}, nil); refusal(err).Condition != stanza.ServiceUnavailable {
		t.Errorf("an outcast reads: %v", err)
	}
	if d, _ := j.event(balcony, "control"); d.Seq != 2 {
		t.Errorf("the notice is entry %d", d.Seq)
	}
	if d, _ := j.event(balcony, "proposal"); d.Seq != 3 {
		t.Errorf("the removal is entry %d", d.Seq)
	}
	j.catchUp(balcony)
	_, err := j.commit(balcony, mls.CommitOptions{})
	j.must(err)
	if j.g.MemberCount() != 1 {
		t.Fatalf("%d members after the ban", j.g.MemberCount())
	}
	if _, _, err := r.state(balcony); refusal(err).Condition != stanza.ServiceUnavailable {
		t.Errorf("an outcast asks for the state: %v", err)
	}
	// Nor can an owner add the outcast by mistake.
	r.publish(2)
	kps := claimed(t, j.claim(balcony, romeo))
	if err := j.set(balcony, submission(j.pending(mls.CommitOptions{Add: kps}), j.g.Epoch()), nil); refusal(err).Condition != stanza.Forbidden {
		t.Errorf("an outcast is added: %v", err)
	}
	// Giving him a role lifts the ban.
	roles, err := groupdata.NewRoles(juliet, groupdata.DefaultPolicy()).With(romeo, groupdata.Member).Encode()
	j.must(err)
	_, err = j.commit(balcony, mls.CommitOptions{Add: kps, AppData: []*mls.AppDataUpdate{{Component: groupdata.ComponentRoles, Op: mls.AppDataUpdateOp, Update: roles}}})
	j.must(err)
	r.join(balcony)
	sameEpoch(t, j, r)
	_, err = r.sendText(balcony, "forgiven")
	r.must(err)
}

// TestAnnounceOnly: in an announcement group members are silent.
func TestAnnounceOnly(t *testing.T) {
	s := start(t)
	j, r := newActor(t, s, juliet, "balcony"), newActor(t, s, romeo, "orchard")
	r.publish(3)
	p := groupdata.DefaultPolicy()
	p.Send = groupdata.Admin
	j.g = j.newGroup(balcony, groupdata.Public, p)
	j.must(j.createAs(balcony, j.g))
	j.add(balcony, romeo)
	r.join(balcony)
	_, err := j.sendText(balcony, "hear")
	j.must(err)
	var need *stanza.InsufficientAffiliation
	if _, err := r.sendText(balcony, "but"); !errors.As(err, &need) || need.Need != stanza.RoleAdmin {
		t.Errorf("a member speaks: %v", err)
	}
	var conf stanza.Config
	r.must(r.get(balcony, &stanza.ConfigQuery{}, &conf))
	if conf.Form.Get("announce-only") != "1" && conf.Form.Get("announce-only") != "true" {
		t.Errorf("the form says announce-only=%q", conf.Form.Get("announce-only"))
	}
}

// TestAffiliations shows roles as affiliations.
func TestAffiliations(t *testing.T) {
	s := start(t)
	j, r := pair(t, s)
	var list stanza.Affiliations
	r.must(r.get(balcony, &stanza.AffiliationsQuery{}, &list))
	want := []stanza.Affiliation{{JID: juliet, Affiliation: stanza.RoleOwner, Devices: 1}, {JID: romeo, Affiliation: stanza.RoleMember, Devices: 1}}
	if !slices.Equal(list.Items, want) {
		t.Errorf("affiliations: %+v, want %+v", list.Items, want)
	}
	var devices stanza.Devices
	j.must(j.get(balcony, &stanza.DevicesQuery{}, &devices))
	if len(devices.Items) != 2 || devices.Items[0].ID != j.id || devices.Items[1].JID != romeo || devices.Items[1].Seen.IsZero() {
		t.Errorf("devices: %+v", devices.Items)
	}
	m := newActor(t, s, mallory, "x")
	if err := m.get(balcony, &stanza.AffiliationsQuery{}, nil); refusal(err).Condition != stanza.Forbidden {
		t.Errorf("mallory asks for the members: %v", err)
	}
}

// TestConfigAndDestroy: the owner's half of the configuration, and the end.
func TestConfigAndDestroy(t *testing.T) {
	s := start(t)
	j, r := pair(t, s)
	form := stanza.NewForm(stanza.FormSubmit, stanza.FormConfig).Add("hidden", "1").Add("retention", "3600")
	if err := r.set(balcony, &stanza.Config{Form: *form}, nil); refusal(err).Condition != stanza.Forbidden {
		t.Errorf("a member configures: %v", err)
	}
	j.must(j.set(balcony, &stanza.Config{Form: *form}, nil))
	var conf stanza.Config
	j.must(j.get(balcony, &stanza.ConfigQuery{}, &conf))
	if conf.Form.Get("retention") != "3600" || conf.Form.Get("hidden") != "1" && conf.Form.Get("hidden") != "true" {
		t.Errorf("the configuration: %+v", conf.Form)
	}
	agreed := stanza.NewForm(stanza.FormSubmit, stanza.FormConfig).Add("announce-only", "1")
	if err := j.set(balcony, &stanza.Config{Form: *agreed}, nil); refusal(err).Condition != stanza.FeatureNotImplemented {
		t.Errorf("the service changes what members agree on: %v", err)
	}
	m := newActor(t, s, mallory, "x")
	if err := m.get(balcony, &stanza.DiscoInfoQuery{}, nil); refusal(err).Condition != stanza.ItemNotFound {
		t.Errorf("mallory finds a hidden group: %v", err)
	}
	if err := r.set(balcony, &stanza.Destroy{}, nil); refusal(err).Condition != stanza.Forbidden {
		t.Errorf("a member destroys: %v", err)
	}
	j.must(j.set(balcony, &stanza.Destroy{JID: "tomb@" + domain, Reason: "all are dead"}, nil))
	r.box().take(t, "<destroyed", "tomb@"+domain)
	err := r.get(balcony, &stanza.LogQuery{Device: r.id}, nil)
	if e := refusal(err); e.Condition != stanza.Gone || e.Address != "xmpp:tomb@"+domain {
		t.Errorf("after the end: %v", err)
	}
	if err := j.createAs(balcony, j.newGroup(balcony, groupdata.Public, groupdata.DefaultPolicy())); refusal(err).Condition != stanza.Conflict {
		t.Errorf("the name is free again at once: %v", err)
	}
}

// TestReInit: a new MLS group takes the place of the old one under its JID.
func TestReInit(t *testing.T) {
	s := start(t)
	j, r := pair(t, s)
	next := j.newGroup(balcony, groupdata.Public, groupdata.DefaultPolicy())
	gi, err := next.GroupInfo(&mls.GroupInfoOptions{InlineTree: true, ExternalPub: true})
	j.must(err)
	create := &stanza.CreateGroup{Local: "balcony", Previous: j.g.GroupID(), GroupInfo: stanza.Object{Bytes: gi.Bytes()}}
	if err := j.set(domain, create, nil); refusal(err).Condition != stanza.UnexpectedRequest {
		t.Errorf("a successor without a ReInit: %v", err)
	}
	_, err = j.commit(balcony, mls.CommitOptions{ReInit: &mls.ReInit{GroupID: next.GroupID(), Version: mls.MLS10, CipherSuite: suite, Extensions: next.Context().Extensions}})
	j.must(err)
	if _, err := r.sendText(balcony, "x"); refusal(err).Condition != stanza.NotAllowed {
		t.Errorf("a message in a frozen group: %v", err)
	}
	var made stanza.Created
	j.must(j.set(domain, create, &made))
	if made.Seq != 3 || made.Epoch != 0 {
		t.Errorf("the successor: %+v", made)
	}
	var again stanza.Created
	j.must(j.set(domain, create, &again))
	if again != made {
		t.Errorf("created again: %+v, want %+v", again, made)
	}
	other, err := mls.NewGroup(nil, suite, next.GroupID(), j.me, &mls.GroupOptions{DeviceID: j.id[:], Extensions: next.Context().Extensions})
	j.must(err)
	gi, err = other.GroupInfo(&mls.GroupInfoOptions{InlineTree: true, ExternalPub: true})
	j.must(err)
	rival := &stanza.CreateGroup{Local: "balcony", Previous: j.g.GroupID(), GroupInfo: stanza.Object{Bytes: gi.Bytes()}}
	if err := j.set(domain, rival, nil); refusal(err).Condition != stanza.Conflict {
		t.Errorf("another group with the group_id of the ReInit: %v", err)
	}
	r.box().take(t, "<control", "kind='control'")
	j.g = next
	r.publish(2)
	j.add(balcony, romeo)
	r.join(balcony)
	sameEpoch(t, j, r)
	_, err = j.sendText(balcony, "anew")
	j.must(err)
}

// TestPrivateHandshakes: the service orders what it cannot read.
func TestPrivateHandshakes(t *testing.T) {
	s := start(t)
	j, r := newActor(t, s, juliet, "balcony"), newActor(t, s, romeo, "orchard")
	j.announce()
	r.announce()
	r.publish(3)
	j.g = j.newGroup(balcony, groupdata.Private, groupdata.DefaultPolicy())
	j.must(j.createAs(balcony, j.g))
	c := j.claim(balcony, romeo)
	kps := claimed(t, c)
	ref, err := kps[0].Ref()
	j.must(err)
	p, err := j.g.Commit(&mls.CommitOptions{Add: kps, Wire: mls.WireFormatPrivateMessage, InlineTree: true})
	j.must(err)
	sub := submission(p, 0)
	sub.Members = &stanza.MemberChanges{Added: []stanza.MemberChange{{JID: romeo, Device: r.id, KeyPackageRef: ref}}}
	j.must(j.set(balcony, sub, nil))
	if j.g, err = p.Merge(); err != nil {
		t.Fatal(err)
	}
	var got stanza.Welcome
	r.must(r.get(balcony, &stanza.WelcomeQuery{KeyPackageRef: ref}, &got))
	m, err := mls.ParseMessage(got.Bytes)
	r.must(err)
	r.g, err = mls.Join(nil, m.Welcome, r.kps[string(ref)], nil)
	r.must(err)
	r.seq = 1
	sameEpoch(t, j, r)
	_, err = j.sendText(balcony, "hush")
	j.must(err)
	_, b := r.event(balcony, "application")
	if text, _ := r.process(b); text != "hush" {
		t.Errorf("romeo reads %q", text)
	}
	// Two commits for one epoch: one wins.
	mine, err := j.g.Commit(&mls.CommitOptions{ForcePath: true, Wire: mls.WireFormatPrivateMessage})
	j.must(err)
	his, err := r.g.Commit(&mls.CommitOptions{ForcePath: true, Wire: mls.WireFormatPrivateMessage})
	r.must(err)
	j.must(j.set(balcony, submission(mine, 1), nil))
	var stale *stanza.StaleEpoch
	if err := r.set(balcony, submission(his, 1), nil); !errors.As(err, &stale) || len(stale.Commits) != 1 {
		t.Errorf("the second commit: %v", err)
	}
	x := newActor(t, s, mallory, "x")
	if err := x.set(balcony, submission(his, 2), nil); err == nil {
		t.Error("a stranger commits")
	}
}

// TestIdleDevice: a device that has been away for too long is proposed for
// removal, but not the last one of a group.
func TestIdleDevice(t *testing.T) {
	var ahead atomic.Int64
	s := start(t, func(c *component.Config) {
		c.Time = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	j, r := pair(t, s)
	alone := newActor(t, s, mercutio, "street")
	alone.bare, alone.full = nurse, nurse+"/kitchen"
	alone.me.Credential = mls.BasicCredential([]byte(nurse))
	alone.create("kitchen@" + domain)
	ahead.Store(int64(200 * 24 * time.Hour))
	j.must(j.set(balcony, &stanza.Ack{Device: j.id, Seq: 1}, nil)) // a sign of life
	s.RemoveIdle(context.Background())                             // romeo is silent, but live
	r.leaveSession()
	r.get(domain, &stanza.Ping{}, nil)
	ahead.Store(int64(400 * 24 * time.Hour))
	j.must(j.set(balcony, &stanza.Ack{Device: j.id, Seq: 1}, nil))
	s.RemoveIdle(context.Background())
	if d, _ := j.event(balcony, "proposal"); d.Seq != 2 {
		t.Errorf("the removal is entry %d", d.Seq)
	}
	j.catchUp(balcony)
	_, err := j.commit(balcony, mls.CommitOptions{})
	j.must(err)
	if j.g.MemberCount() != 1 {
		t.Errorf("%d members", j.g.MemberCount())
	}
	if n := j.box().count("kind='proposal'"); n != 0 {
		t.Error("romeo was proposed twice")
	}
	var log stanza.Log
	alone.must(alone.get("kitchen@"+domain, &stanza.LogQuery{Device: alone.id}, &log))
	if len(log.Entries) != 0 {
		t.Errorf("the only member of a group is proposed for removal: %+v", log.Entries)
	}
}

// TestIdleBehindOthers: devices whose removal nobody can commit, such as the only
// ones of their groups, do not stand in the way of those whose removal somebody can.
func TestIdleBehindOthers(t *testing.T) {
	var ahead atomic.Int64
	s := start(t, func(c *component.Config) {
		c.Time = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		c.Limits.MaxGroups = 1000
	})
	alone := newActor(t, s, nurse, "kitchen")
	for i := range 260 {
		jid := fmt.Sprintf("g%d@%s", i, domain)
		alone.must(alone.createAs(jid, alone.newGroup(jid, groupdata.Public, groupdata.DefaultPolicy())))
	}
	ahead.Store(int64(time.Minute))
	j, r := pair(t, s)
	r.leaveSession()
	r.get(domain, &stanza.Ping{}, nil)
	ahead.Store(int64(400 * 24 * time.Hour))
	j.must(j.set(balcony, &stanza.Ack{Device: j.id, Seq: 1}, nil))
	for range 3 {
		s.RemoveIdle(context.Background())
	}
	if d, _ := j.event(balcony, "proposal"); d.Seq != 2 {
		t.Errorf("the removal is entry %d", d.Seq)
	}
	s.RemoveIdle(context.Background()) // from the beginning again: nothing happens twice
	if raw, ok := j.box().tryTake(300*time.Millisecond, "kind='proposal'"); ok {
		t.Errorf("proposed twice: %s", raw)
	}
}
