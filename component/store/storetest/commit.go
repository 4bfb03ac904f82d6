// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
)

func testAcceptCommit(t *testing.T, w *world) {
	w.create(newGroup(balcony))
	w.say(balcony, "first")
	g := w.group(balcony)
	c := commit(g, "add romeo")
	c.Joined = []store.Joiner{{User: romeo, Device: "r1", Leaf: 1}}
	c.Roles = []store.Affiliation{{User: romeo, Value: "member"}}
	c.Config = []byte("config 1")
	a := w.accept(c)
	chain := g.Chain.Next(2, store.KindCommit, 0, c.Ref)
	w.same("accepted", a, store.Accepted{Seq: 2, Epoch: 1, Chain: chain, ID: c.ID, Stamp: noon, Rev: g.Rev + 1})

	got := w.group(balcony)
	want := *g
	want.Epoch, want.Head, want.Chain, want.Rev, want.Config = 1, 2, chain, g.Rev+1, []byte("config 1")
	w.same("group", got, &want)
	w.view(func(r store.Reader) error {
		s, err := r.Snapshot(g.Key, 1)
		if err != nil {
			return err
		}
		w.same("snapshot", s, &store.Snapshot{Epoch: 1, Header: c.Header, GroupInfo: c.GroupInfo, Seq: 2})
		m, err := r.Member(g.Key, romeo, "r1")
		if err != nil {
			return err
		}
		w.same("romeo", m, store.Member{User: romeo, Device: "r1", Leaf: 1, Joined: 2, Acked: 2, Seen: noon})
		if af, _ := r.Affiliation(g.Key, romeo); af != "member" {
			t.Errorf("romeo is %q", af)
		}
		e, err := r.EntryByRef(g.Key, c.Ref)
		if err != nil {
			return err
		}
		w.same("entry", e, &store.Entry{
			Seq: 2, Epoch: 0, Kind: store.KindCommit, Ref: c.Ref, ID: c.ID, Sender: juliet, Device: "j1",
			Stamp: noon, Chain: chain, Bytes: c.Bytes,
		})
		_, err = CheckLog(r, got)
		return err
	})
	// A commit that says nothing of the configuration leaves it.
	w.accept(commit(got, "update"))
	if got := w.group(balcony); string(got.Config) != "config 1" || got.Epoch != 2 {
		t.Fatalf("after another: %+v", got)
	}
}

func testAcceptCommitConflict(t *testing.T, w *world) {
	g := w.create(newGroup(balcony))
	w.accept(commit(g, "the winner"))
	now := w.group(balcony)
	loser := commit(g, "the loser")
	loser.Nodes = []store.Node{{Index: 0, Data: []byte("of the loser")}}
	loser.Joined = []store.Joiner{{User: mallory, Device: "m1", Leaf: 1}}
	_, err := w.s.AcceptCommit(w.ctx(), loser)
	w.conflicts(err, now)
	// Neither number alone is enough.
	half := commit(now, "right revision")
	half.Epoch = 0
	_, err = w.s.AcceptCommit(w.ctx(), half)
	w.conflicts(err, now)
	half = commit(now, "right epoch")
	half.Rev = g.Rev
	_, err = w.s.AcceptCommit(w.ctx(), half)
	w.conflicts(err, now)
	// A change of the configuration comes between, too.
	w.update(func(tx store.Tx) error {
		_, err := tx.UpdateGroup(g.Key, now.Rev, store.GroupChange{Roles: []store.Affiliation{{User: juliet, Value: "member"}}})
		return err
	})
	_, err = w.s.AcceptCommit(w.ctx(), commit(now, "as owner"))
	w.conflicts(err, w.group(balcony))

	w.same("group", w.group(balcony).Epoch, uint64(1))
	w.fails(store.ErrNotFound, func(tx store.Tx) error { _, err := tx.Member(g.Key, mallory, "m1"); return err })
	w.fails(store.ErrNotFound, func(tx store.Tx) error { _, err := tx.EntryByRef(g.Key, loser.Ref); return err })
	w.fails(store.ErrNotFound, func(tx store.Tx) error {
		_, err := tx.AcceptCommit(&store.Commit{Group: g.Key + 1, Rev: 1})
		return err
	})
	w.view(func(r store.Reader) error {
		nodes, err := r.Nodes(g.Key, 1)
		w.same("nodes", nodes, []store.Node{{Index: 0, Data: []byte("leaf of juliet in 1")}, {Index: 1, Data: []byte("root in 1")}})
		return err
	})
}

func testAcceptCommitIdempotent(t *testing.T, w *world) {
	g := w.create(newGroup(balcony))
	c := commit(g, "once")
	first := w.accept(c)
	want := first
	want.Duplicate = true
	w.same("again", w.accept(c), want)
	w.accept(commit(w.group(balcony), "next"))
	want.Rev = w.group(balcony).Rev
	w.same("after the next", w.accept(c), want)
	w.update(func(tx store.Tx) error {
		a, err := tx.AcceptCommit(c)
		w.same("in a transaction", a, want)
		return err
	})
	if got := w.group(balcony); got.Epoch != 2 || got.Head != 2 {
		t.Fatalf("group: %+v", got)
	}
}

func testCommits(t *testing.T, w *world) {
	w.create(newGroup(balcony))
	for i := range 5 {
		w.say(balcony, fmt.Sprint("message ", i))
		w.accept(commit(w.group(balcony), fmt.Sprint("commit ", i)))
	}
	g := w.group(balcony)
	epochs := func(from uint64, n, maxBytes int) (out []uint64) {
		w.view(func(r store.Reader) error {
			es, err := r.Commits(g.Key, from, n, maxBytes)
			for _, e := range es {
				if e.Kind != store.KindCommit {
					t.Errorf("seq %d is of kind %d", e.Seq, e.Kind)
				}
				out = append(out, e.Epoch)
			}
			return err
		})
		return out
	}
	w.same("all", epochs(0, 0, 0), []uint64{0, 1, 2, 3, 4})
	w.same("missed", epochs(3, 0, 0), []uint64{3, 4})
	w.same("some", epochs(1, 2, 0), []uint64{1, 2})
	w.same("that fit", epochs(1, 0, 2*len("commit 0")), []uint64{1, 2})
	w.same("at least one", epochs(1, 0, 1), []uint64{1})
	w.same("none", epochs(5, 0, 0), []uint64(nil))
}

func testTree(t *testing.T, w *world) {
	n := newGroup(balcony)
	n.Nodes = []store.Node{{Index: 0, Data: []byte("a0")}, {Index: 1, Data: nil}, {Index: 2, Data: []byte("b0")}, {Index: 4, Data: []byte("c0")}}
	g := w.create(n)
	step := func(nodes ...store.Node) {
		g = w.group(balcony)
		c := commit(g, fmt.Sprint("commit ", g.Epoch))
		c.Stamp = noon.Add(time.Duration(g.Epoch) * time.Minute)
		c.Nodes = nodes
		w.accept(c)
	}
	step(store.Node{Index: 0, Data: []byte("a1")}, store.Node{Index: 1, Data: []byte("p1")}) // epoch 1
	step(store.Node{Index: 2, Data: nil}, store.Node{Index: 1, Data: nil})                   // epoch 2: blank
	step()                                                                                   // epoch 3: nothing
	step(store.Node{Index: 2, Data: []byte("d4")}, store.Node{Index: 0, Data: []byte{}})     // epoch 4: empty is not blank
	want := [][]store.Node{
		{{Index: 0, Data: []byte("a0")}, {Index: 2, Data: []byte("b0")}, {Index: 4, Data: []byte("c0")}},
		{{Index: 0, Data: []byte("a1")}, {Index: 1, Data: []byte("p1")}, {Index: 2, Data: []byte("b0")}, {Index: 4, Data: []byte("c0")}},
		{{Index: 0, Data: []byte("a1")}, {Index: 4, Data: []byte("c0")}},
		{{Index: 0, Data: []byte("a1")}, {Index: 4, Data: []byte("c0")}},
		{{Index: 0, Data: []byte{}}, {Index: 2, Data: []byte("d4")}, {Index: 4, Data: []byte("c0")}},
	}
	w.view(func(r store.Reader) error {
		for e := range want {
			nodes, err := r.Nodes(g.Key, uint64(e))
			if err != nil {
				return err
			}
			w.same(fmt.Sprint("nodes of epoch ", e), nodes, want[e])
			s, err := r.Snapshot(g.Key, uint64(e))
			if err != nil {
				return err
			}
			if e < 4 {
				w.same("superseded", s.Superseded, noon.Add(time.Duration(e)*time.Minute))
			} else if !s.Superseded.IsZero() {
				t.Errorf("the current epoch is superseded at %v", s.Superseded)
			}
		}
		return nil
	})
}

func testMembers(t *testing.T, w *world) {
	g := w.create(newGroup(balcony))
	c := commit(g, "add romeo and mercutio")
	c.Joined = []store.Joiner{{User: romeo, Device: "r1", Leaf: 1}, {User: romeo, Device: "r2", Leaf: 2}, {User: mercutio, Device: "m1", Leaf: 3}}
	w.accept(c)
	w.update(func(tx store.Tx) error { return tx.Ack(g.Key, romeo, "r1", 7, noon.Add(time.Hour)) })
	w.update(func(tx store.Tx) error { return tx.Ack(g.Key, romeo, "r1", 5, noon) }) // neither goes back
	w.fails(store.ErrNotFound, func(tx store.Tx) error { return tx.Ack(g.Key, mallory, "x", 1, noon) })
	member := func(user, device string) (m store.Member) {
		w.view(func(r store.Reader) (err error) {
			m, err = r.Member(g.Key, user, device)
			return err
		})
		return m
	}
	w.same("romeo", member(romeo, "r1"), store.Member{User: romeo, Device: "r1", Leaf: 1, Joined: 1, Acked: 7, Seen: noon.Add(time.Hour)})

	c = commit(w.group(balcony), "remove romeo's first, resync mercutio")
	c.Stamp = noon.Add(2 * time.Hour)
	c.Left = []store.Leaver{{User: romeo, Device: "r1"}, {User: mercutio, Device: "m1"}}
	c.Joined = []store.Joiner{{User: mercutio, Device: "m1", Leaf: 1}}
	a := w.accept(c)
	if m := member(romeo, "r1"); m.InTree() || m.Removed != a.Seq || m.Acked != 7 {
		t.Errorf("romeo's first: %+v", m)
	}
	w.same("mercutio", member(mercutio, "m1"), store.Member{User: mercutio, Device: "m1", Leaf: 1, Joined: a.Seq, Acked: a.Seq, Seen: c.Stamp})
	// Removing again does not move where it was removed.
	c = commit(w.group(balcony), "again")
	c.Left = []store.Leaver{{User: romeo, Device: "r1"}}
	w.accept(c)
	if m := member(romeo, "r1"); m.Removed != a.Seq {
		t.Errorf("romeo's first: %+v", m)
	}
	w.view(func(r store.Reader) error {
		ms, err := r.Members(g.Key)
		if len(ms) != 4 {
			t.Errorf("%d members, want 4 with the removed one", len(ms))
		}
		if err != nil {
			return err
		}
		of, err := r.MembersOf(g.Key, romeo)
		if len(of) != 2 || of[0].User != romeo || of[1].User != romeo {
			t.Errorf("romeo's devices: %+v, want both", of)
		}
		if err != nil {
			return err
		}
		if of, err = r.MembersOf(g.Key, mallory); len(of) != 0 || err != nil {
			t.Errorf("mallory's devices: %+v, %v", of, err)
		}
		idle, err := r.IdleMembers(noon.Add(time.Hour), store.IdleMember{}, 0)
		if rest, err := r.IdleMembers(noon.Add(time.Hour), idle[0], 0); err != nil || len(rest) != 1 || rest[0].Member != idle[1].Member {
			t.Errorf("idle behind juliet: %+v, %v", rest, err)
		}
		if len(idle) != 2 || idle[0].JID != balcony || idle[0].Key != g.Key || idle[0].User != juliet || idle[1].Device != "r2" {
			t.Errorf("idle: %+v, want juliet and romeo's second", idle)
		}
		return err
	})
	w.fails(store.ErrNotFound, func(tx store.Tx) error { _, err := tx.Member(g.Key, romeo, "r3"); return err })
}

func testUserGroups(t *testing.T, w *world) {
	far := "far@mls.other.example"
	w.create(newGroup(balcony))
	n := newGroup(orchard)
	n.Roles = append(n.Roles, store.Affiliation{User: romeo, Value: "member"}, store.Affiliation{User: mallory, Value: "outcast"})
	w.create(n)
	g := w.group(balcony)
	c := commit(g, "add romeo")
	c.Joined = []store.Joiner{{User: romeo, Device: "r1", Leaf: 1}}
	c.Welcomes = []store.NewWelcome{{KPRef: []byte("kp1"), User: romeo, Device: "r1", Inviter: juliet, Secrets: []byte("s")}}
	c.WelcomeInfo, c.WelcomeExpiry = []byte("i"), noon.Add(time.Hour)
	w.accept(c)
	w.update(func(tx store.Tx) error {
		return tx.PutWelcome(&store.Welcome{KPRef: []byte("kp2"), Group: far, User: romeo, Device: "r2", Remote: true, Expires: noon.Add(time.Hour)})
	})
	list := func(user, device, after string, n int) (gs []store.UserGroup) {
		w.view(func(r store.Reader) (err error) {
			gs, err = r.UserGroups(user, device, after, n)
			return err
		})
		return gs
	}
	g, o := w.group(balcony), w.group(orchard)
	inBalcony := store.UserGroup{JID: balcony, Key: g.Key, Epoch: 1, Head: 1, InTree: true, Welcome: true}
	inOrchard := store.UserGroup{JID: orchard, Key: o.Key, Affiliation: "member"}
	w.same("r1", list(romeo, "r1", "", 0), []store.UserGroup{inBalcony, inOrchard})
	w.same("r1, one", list(romeo, "r1", "", 1), []store.UserGroup{inBalcony})
	w.same("r1, next", list(romeo, "r1", balcony, 1), []store.UserGroup{inOrchard})
	inBalcony.InTree, inBalcony.Welcome = false, false
	w.same("r2", list(romeo, "r2", "", 0), []store.UserGroup{inBalcony, {JID: far, Welcome: true, Remote: true}, inOrchard})
	w.same("mallory", list(mallory, "m", "", 0), []store.UserGroup(nil))

	c = commit(w.group(balcony), "remove romeo")
	c.Left = []store.Leaver{{User: romeo, Device: "r1"}}
	w.accept(c)
	w.update(func(tx store.Tx) error { return tx.DeleteWelcome([]byte("kp1"), balcony, romeo) })
	w.same("r1 after", list(romeo, "r1", "", 0), []store.UserGroup{inOrchard})
	if err := w.s.View(w.ctx(), func(r store.Reader) error {
		_, err := r.Welcome([]byte("kp1"), balcony)
		return err
	}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the welcome is still there: %v", err)
	}
}
