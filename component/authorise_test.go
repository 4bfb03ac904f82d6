// SPDX-License-Identifier: Apache-2.0

package component_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/component"
	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// TestStrangersCommit: a refused commit tells a stranger nothing of the group,
// and one who may join no more than where to begin.
func TestStrangersCommit(t *testing.T) {
	s := start(t)
	j, r := pair(t, s)
	late := r.pending(mls.CommitOptions{ForcePath: true})
	_, err := j.commit(balcony, mls.CommitOptions{ForcePath: true})
	j.must(err)
	x := newActor(t, s, mallory, "x")
	sub := submission(late, 1)
	for _, epoch := range []uint64{0, 1, 2, 99} {
		for _, external := range []bool{false, true} {
			c := *sub
			c.Epoch, c.External = epoch, external
			if err := x.set(balcony, &c, nil); refusal(err).Condition != stanza.Forbidden {
				t.Errorf("a stranger's commit for epoch %d, external %v: %v", epoch, external, err)
			}
		}
	}
	// Of a hidden group they do not even learn that it is there.
	hide := stanza.NewForm(stanza.FormSubmit, stanza.FormConfig)
	hide.Fields = append(hide.Fields, stanza.Field{Var: "hidden", Values: []string{"true"}})
	j.must(j.set(balcony, &stanza.Config{Form: *hide}, nil))
	for _, external := range []bool{false, true} {
		c := *sub
		c.External = external
		here, there := x.set(balcony, &c, nil), x.set("nowhere@"+domain, &c, nil)
		if refusal(here).Condition != stanza.ItemNotFound || here.Error() != there.Error() {
			t.Errorf("external %v: a hidden group answers %v, none answers %v", external, here, there)
		}
	}

	// In an open group a stranger may join, and gets the epoch but not the log.
	open := groupdata.DefaultPolicy()
	open.ExternalJoin = groupdata.AnyoneJoins
	j.g = j.newGroup("piazza@"+domain, groupdata.Public, open)
	j.must(j.createAs("piazza@"+domain, j.g))
	_, err = j.commit("piazza@"+domain, mls.CommitOptions{ForcePath: true})
	j.must(err)
	c := *sub
	c.Epoch, c.External = 0, true
	var stale *stanza.StaleEpoch
	if err := x.set("piazza@"+domain, &c, nil); !errors.As(err, &stale) || stale.Current != 1 || len(stale.Commits) != 0 {
		t.Errorf("a late joiner: %v, %+v", err, stale)
	}
}

// TestRemovedMembersAnswer: who was removed after a commit of theirs was
// accepted still gets its answer, if it was lost.
func TestRemovedMembersAnswer(t *testing.T) {
	s := start(t)
	j, r := pair(t, s)
	mine := submission(r.pending(mls.CommitOptions{ForcePath: true}), 1)
	var first, again stanza.Accepted
	r.must(r.set(balcony, mine, &first))
	j.catchUp(balcony)
	_, err := j.commit(balcony, mls.CommitOptions{Remove: []mls.LeafIndex{1}})
	j.must(err)
	r.must(r.set(balcony, mine, &again))
	if first != again {
		t.Errorf("answered %+v, then %+v", first, again)
	}
	if err := newActor(t, s, mallory, "x").set(balcony, mine, nil); refusal(err).Condition != stanza.Forbidden {
		t.Errorf("a stranger asks with romeo's bytes: %v", err)
	}
}

// TestBannedDomainOfOwner: an admin cannot ban the owner by the owner's domain.
func TestBannedDomainOfOwner(t *testing.T) {
	s := start(t)
	j, r := pair(t, s)
	roles, err := groupdata.NewRoles(juliet, groupdata.DefaultPolicy()).With(romeo, groupdata.Admin).Encode()
	j.must(err)
	_, err = j.commit(balcony, mls.CommitOptions{AppData: []*mls.AppDataUpdate{{Component: groupdata.ComponentRoles, Op: mls.AppDataUpdateOp, Update: roles}}})
	j.must(err)
	for _, who := range []string{juliet, "capulet.lit"} {
		err := r.set(balcony, &stanza.Affiliation{JID: who, Affiliation: stanza.RoleOutcast}, nil)
		if refusal(err).Condition != stanza.Forbidden {
			t.Errorf("an admin bans %s: %v", who, err)
		}
	}
	r.must(r.set(balcony, &stanza.Affiliation{JID: "mantua.example", Affiliation: stanza.RoleOutcast}, nil))
	_, err = j.sendText(balcony, "still here")
	j.must(err)
	j.must(j.set(balcony, &stanza.Affiliation{JID: "montague.lit", Affiliation: stanza.RoleOutcast}, nil))
}

// TestLogBetweenMemberships: what happened while an account was away is not its
// own to read, whichever way it asks.
func TestLogBetweenMemberships(t *testing.T) {
	s := start(t)
	j, r := pair(t, s)
	_, err := j.commit(balcony, mls.CommitOptions{Remove: []mls.LeafIndex{1}}) // 2
	j.must(err)
	_, err = j.sendText(balcony, "he is gone") // 3
	j.must(err)
	var log stanza.Log
	r.must(r.get(balcony, &stanza.LogQuery{}, &log))
	if n := len(log.Entries); n != 2 || log.Entries[1].Seq != 2 {
		t.Fatalf("after the removal: %+v", log.Entries)
	}
	r.must(r.set(domain, &stanza.RetractKeyPackages{Device: r.id}, nil))
	back := newActor(t, s, romeo, "street") // another device, as the first is lost
	back.publish(2)
	j.add(balcony, romeo) // 4
	log = stanza.Log{}
	back.must(back.get(balcony, &stanza.LogQuery{}, &log))
	for _, e := range log.Entries {
		if e.Seq < 4 {
			t.Errorf("the account reads entry %d, from before it came back", e.Seq)
		}
	}
	if len(log.Entries) != 1 {
		t.Errorf("the log has %d entries", len(log.Entries))
	}
}

// privatePair is pair in private mode: the service sees no handshake.
func privatePair(t *testing.T, s *service) (j, r *actor) {
	t.Helper()
	j, r = newActor(t, s, juliet, "balcony"), newActor(t, s, romeo, "orchard")
	r.publish(3)
	j.g = j.newGroup(balcony, groupdata.Private, groupdata.DefaultPolicy())
	j.must(j.createAs(balcony, j.g))
	kps := claimed(t, j.claim(balcony, romeo))
	ref, err := kps[0].Ref()
	j.must(err)
	p, err := j.g.Commit(&mls.CommitOptions{Add: kps, Wire: mls.WireFormatPrivateMessage, InlineTree: true, GroupInfo: true})
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
	return j, r
}

// TestForgedRolesInPrivateMode: the service cannot check a GroupInfo in private
// mode, and so goes by none that gives its sender more than it had.
func TestForgedRolesInPrivateMode(t *testing.T) {
	s := start(t, func(c *component.Config) { c.Limits.GroupIdle = time.Nanosecond })
	j, r := privatePair(t, s)
	forget := func() { // what counts is what is stored
		for s.Stats().GroupsLoaded > 0 {
			time.Sleep(time.Millisecond)
		}
	}
	roles, err := groupdata.NewRoles(juliet, groupdata.DefaultPolicy()).With(romeo, groupdata.Owner).Encode()
	r.must(err)
	appoint := func(a *actor) *stanza.Commit {
		p, err := a.g.Commit(&mls.CommitOptions{Wire: mls.WireFormatPrivateMessage, GroupInfo: true, InlineTree: true,
			AppData: []*mls.AppDataUpdate{{Component: groupdata.ComponentRoles, Op: mls.AppDataUpdateOp, Update: roles}}})
		a.must(err)
		sub := submission(p, a.g.Epoch())
		if a.g, err = p.Merge(); err != nil {
			t.Fatal(err)
		}
		return sub
	}
	r.must(r.set(balcony, appoint(r), nil)) // the members will not follow; the service cannot see it
	forget()
	if err := r.set(balcony, &stanza.Destroy{}, nil); refusal(err).Condition != stanza.Forbidden {
		t.Fatalf("a member that calls itself owner destroys the group: %v", err)
	}
	// A commit without a GroupInfo takes nobody's role away.
	p, err := r.g.Commit(&mls.CommitOptions{ForcePath: true, Wire: mls.WireFormatPrivateMessage})
	r.must(err)
	r.must(r.set(balcony, submission(p, 2), nil))
	forget()
	if err := r.set(balcony, &stanza.Destroy{}, nil); refusal(err).Condition != stanza.Forbidden {
		t.Fatalf("after a commit without a GroupInfo: %v", err)
	}
	j.must(j.set(balcony, &stanza.Destroy{}, nil))
}

// TestOwnerAppointsInPrivateMode: a change by one who has the right to is taken
// over.
func TestOwnerAppointsInPrivateMode(t *testing.T) {
	s := start(t)
	j, r := privatePair(t, s)
	roles, err := groupdata.NewRoles(juliet, groupdata.DefaultPolicy()).With(romeo, groupdata.Owner).Encode()
	j.must(err)
	p, err := j.g.Commit(&mls.CommitOptions{Wire: mls.WireFormatPrivateMessage, GroupInfo: true, InlineTree: true,
		AppData: []*mls.AppDataUpdate{{Component: groupdata.ComponentRoles, Op: mls.AppDataUpdateOp, Update: roles}}})
	j.must(err)
	j.must(j.set(balcony, submission(p, 1), nil))
	var list stanza.Affiliations
	r.must(r.get(balcony, &stanza.AffiliationsQuery{Affiliation: stanza.RoleOwner}, &list))
	if len(list.Items) != 2 {
		t.Errorf("owners: %+v", list.Items)
	}
	r.must(r.set(balcony, &stanza.Destroy{}, nil))
}

// TestDoubledDeviceInPrivateMode: what the committer declares must make sense.
func TestDoubledDeviceInPrivateMode(t *testing.T) {
	s := start(t)
	j, r := privatePair(t, s)
	p, err := j.g.Commit(&mls.CommitOptions{ForcePath: true, Wire: mls.WireFormatPrivateMessage})
	j.must(err)
	other := newActor(t, s, mercutio, "x")
	for name, added := range map[string][]stanza.MemberChange{
		"one that is a member": {{JID: romeo, Device: r.id, KeyPackageRef: []byte("a")}},
		"one twice":            {{JID: mercutio, Device: other.id, KeyPackageRef: []byte("a")}, {JID: mercutio, Device: other.id, KeyPackageRef: []byte("b")}},
	} {
		sub := submission(p, 1)
		sub.Members = &stanza.MemberChanges{Added: added}
		if err := j.set(balcony, sub, nil); refusal(err).Condition != stanza.BadRequest || !strings.Contains(err.Error(), "already") {
			t.Errorf("adding %s: %v", name, err)
		}
	}
}

// TestCreatedByAnother: only the very same request is answered as the first.
func TestCreatedByAnother(t *testing.T) {
	s := start(t)
	j := newActor(t, s, juliet, "balcony")
	g := j.newGroup(balcony, groupdata.Public, groupdata.DefaultPolicy())
	gi, err := g.GroupInfo(&mls.GroupInfoOptions{ExternalPub: true, InlineTree: true})
	j.must(err)
	ask := &stanza.CreateGroup{Local: "balcony", GroupInfo: stanza.Object{Bytes: gi.Bytes()}}
	var first, second stanza.Created
	j.must(j.set(domain, ask, &first))
	j.must(j.set(domain, ask, &second))
	if first != second {
		t.Errorf("created %+v, then %+v", first, second)
	}
	// The same group_id in somebody else's name.
	n := newActor(t, s, nurse, "kitchen")
	id := g.GroupID()
	data, err := (&groupdata.Group{JID: balcony, Name: "Balcony", Handshake: groupdata.Public}).Encode()
	n.must(err)
	roles, err := groupdata.NewRoles(nurse, groupdata.DefaultPolicy()).Encode()
	n.must(err)
	hers, err := mls.NewGroup(nil, suite, id, n.me, &mls.GroupOptions{DeviceID: n.id[:],
		Extensions: mls.Extensions{mls.AppData{}.With(groupdata.ComponentGroup, data).With(groupdata.ComponentRoles, roles).Extension()}})
	n.must(err)
	if err := n.createAs(balcony, hers); refusal(err).Condition != stanza.Conflict {
		t.Errorf("the nurse creates juliet's group: %v", err)
	}
}

// TestAddOfMember: a proposal that no commit could take along is refused, so
// that it does not stand in the way of those that can.
func TestAddOfMember(t *testing.T) {
	s := start(t)
	j, r := pair(t, s)
	again := claimed(t, j.claim(balcony, romeo))[0]
	m, _, err := j.g.ProposeAdd(again, nil)
	j.must(err)
	err = j.set(balcony, &stanza.Proposal{Epoch: 1, Ref: stanza.MessageRef(m.Bytes()), Bytes: m.Bytes()}, nil)
	if refusal(err).Condition != stanza.BadRequest {
		t.Errorf("adding a member's device: %v", err)
	}
	_ = r
	var row *store.Group
	j.must(s.store.View(context.Background(), func(rd store.Reader) (err error) { row, err = rd.Group(balcony); return err }))
	if row.Pending != 0 {
		t.Errorf("%d proposals are pending", row.Pending)
	}
}

// TestJoinerDeclaresOthersGone: who joins a private group from outside takes
// nobody out of it, and nobody in.
func TestJoinerDeclaresOthersGone(t *testing.T) {
	s := start(t)
	j, r := newActor(t, s, juliet, "balcony"), newActor(t, s, romeo, "orchard")
	policy := groupdata.DefaultPolicy()
	policy.ExternalJoin = groupdata.AnyoneJoins
	j.g = j.newGroup(balcony, groupdata.Private, policy)
	j.must(j.createAs(balcony, j.g))
	gi, err := j.g.GroupInfo(&mls.GroupInfoOptions{ExternalPub: true, InlineTree: true})
	j.must(err)
	p, err := mls.JoinExternal(nil, gi.GroupInfo, r.me, &mls.ExternalJoinOptions{DeviceID: r.id[:]})
	r.must(err)
	for name, m := range map[string]*stanza.MemberChanges{
		"removes juliet": {Removed: []stanza.MemberChange{{JID: juliet, Device: j.id}}},
		"adds the nurse": {Added: []stanza.MemberChange{{JID: nurse, Device: j.id, KeyPackageRef: []byte("a")}}},
	} {
		sub := submission(p, 0)
		sub.External, sub.Members = true, m
		if err := r.set(balcony, sub, nil); refusal(err).Condition != stanza.BadRequest {
			t.Errorf("a joiner %s: %v", name, err)
		}
	}
	_, err = j.sendText(balcony, "still here")
	j.must(err)
	sub := submission(p, 0)
	sub.External = true
	r.must(r.set(balcony, sub, nil))
}

// TestPackageOfAnother: in private mode a committer says whose key package it
// adds; that one must be its owner.
func TestPackageOfAnother(t *testing.T) {
	s := start(t)
	j := newActor(t, s, juliet, "balcony")
	n, victim := newActor(t, s, nurse, "kitchen"), newActor(t, s, "tybalt@capulet.lit", "street")
	n.publish(3)
	victim.publish(3)
	victim.announce()
	victim.must(victim.set(domain, &stanza.Block{JIDs: []string{juliet}}, nil))
	j.g = j.newGroup(balcony, groupdata.Private, groupdata.DefaultPolicy())
	j.must(j.createAs(balcony, j.g))
	kps := claimed(t, j.claim(balcony, nurse))
	ref, err := kps[0].Ref()
	j.must(err)
	p, err := j.g.Commit(&mls.CommitOptions{Add: kps, Wire: mls.WireFormatPrivateMessage, InlineTree: true})
	j.must(err)
	for name, m := range map[string]stanza.MemberChange{
		"another account": {JID: victim.bare, Device: victim.id, KeyPackageRef: ref},
		"another device":  {JID: nurse, Device: victim.id, KeyPackageRef: ref},
	} {
		sub := submission(p, 0)
		sub.Members = &stanza.MemberChanges{Added: []stanza.MemberChange{m}}
		if err := j.set(balcony, sub, nil); refusal(err).Condition != stanza.NotAuthorized {
			t.Errorf("the nurse's package for %s: %v", name, err)
		}
	}
	var list stanza.Groups
	victim.must(victim.get(domain, &stanza.GroupsQuery{Device: victim.id}, &list))
	if len(list.Items) != 0 {
		t.Errorf("tybalt has groups: %+v", list.Items)
	}
}

// TestReInitByAnother: what a ReInit began an owner ends, and no faster member.
func TestReInitByAnother(t *testing.T) {
	s := start(t)
	j, r := pair(t, s)
	next := j.newGroup(balcony, groupdata.Public, groupdata.DefaultPolicy())
	_, err := j.commit(balcony, mls.CommitOptions{ReInit: &mls.ReInit{GroupID: next.GroupID(), Version: mls.MLS10, CipherSuite: suite, Extensions: next.Context().Extensions}})
	j.must(err)
	data, err := (&groupdata.Group{JID: balcony, Name: "Balcony", Handshake: groupdata.Public}).Encode()
	r.must(err)
	roles, err := groupdata.NewRoles(romeo, groupdata.DefaultPolicy()).Encode()
	r.must(err)
	his, err := mls.NewGroup(nil, suite, next.GroupID(), r.me, &mls.GroupOptions{DeviceID: r.id[:],
		Extensions: mls.Extensions{mls.AppData{}.With(groupdata.ComponentGroup, data).With(groupdata.ComponentRoles, roles).Extension()}})
	r.must(err)
	create := func(a *actor, g *mls.Group) error {
		gi, err := g.GroupInfo(&mls.GroupInfoOptions{InlineTree: true, ExternalPub: true})
		a.must(err)
		return a.set(domain, &stanza.CreateGroup{Local: "balcony", Previous: j.g.GroupID(), GroupInfo: stanza.Object{Bytes: gi.Bytes()}}, nil)
	}
	var need *stanza.InsufficientAffiliation
	if err := create(r, his); !errors.As(err, &need) || need.Need != stanza.RoleOwner {
		t.Errorf("a member continues the group as its owner: %v", err)
	}
	j.must(create(j, next))
}

// TestWelcomeOfAnother: in private mode nobody's Welcome is taken by declaring
// that its key package is somebody else's.
func TestWelcomeOfAnother(t *testing.T) {
	s := start(t)
	j, r := privatePair(t, s)
	m := newActor(t, s, mercutio, "street") // his home is elsewhere: nothing was claimed here
	kp, err := mls.NewKeyPackage(nil, suite, m.me, &mls.KeyPackageOptions{DeviceID: m.id[:]})
	m.must(err)
	ref, err := kp.KeyPackage.Ref()
	m.must(err)
	add := func(a *actor, jid string, device stanza.DeviceID, epoch uint64) error {
		p, err := a.g.Commit(&mls.CommitOptions{Add: []*mls.KeyPackage{kp.KeyPackage}, Wire: mls.WireFormatPrivateMessage, InlineTree: true})
		a.must(err)
		sub := submission(p, epoch)
		sub.Members = &stanza.MemberChanges{Added: []stanza.MemberChange{{JID: jid, Device: device, KeyPackageRef: ref}}}
		err = a.set(balcony, sub, nil)
		if err == nil {
			a.g, err = p.Merge()
		}
		return err
	}
	behind := *r
	j.must(add(j, mercutio, m.id, 1))
	behind.catchUpFrom(balcony, 1)
	p, err := behind.g.Commit(&mls.CommitOptions{ForcePath: true, Wire: mls.WireFormatPrivateMessage, InlineTree: true})
	r.must(err)
	sub := submission(p, 2)
	var w stanza.Welcome
	m.must(m.get(balcony, &stanza.WelcomeQuery{KeyPackageRef: ref}, &w))
	sub.Welcome = stanza.Object{Bytes: w.Bytes} // it has the secrets of that package
	sub.Members = &stanza.MemberChanges{Added: []stanza.MemberChange{{JID: "paris@verona.lit", Device: r.id, KeyPackageRef: ref}}}
	if err := r.set(balcony, sub, nil); refusal(err).Condition != stanza.NotAuthorized {
		t.Errorf("mercutio's package for paris: %v", err)
	}
	m.must(m.get(balcony, &stanza.WelcomeQuery{KeyPackageRef: ref}, &w))
}

// catchUpFrom is catchUp behind a given entry.
func (a *actor) catchUpFrom(jid string, seq uint64) {
	a.seq = seq
	a.catchUp(jid)
}
