// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
)

func testCreateGroup(t *testing.T, w *world) {
	n := newGroup(balcony)
	n.Retention = time.Hour
	g := w.create(n)
	if g.Key == 0 || g.Rev == 0 {
		t.Fatalf("key %d, revision %d", g.Key, g.Rev)
	}
	w.same("group", g, &store.Group{
		Key: g.Key, JID: balcony, GroupID: n.GroupID, Head: 0, First: 1, Chain: store.FirstChain(n.GroupID), Rev: g.Rev,
		Mode: "public", Config: []byte("config"), Retention: time.Hour, Created: noon,
	})
	w.same("group by JID", w.group(balcony), g)
	w.view(func(r store.Reader) error {
		byKey, err := r.GroupByKey(g.Key)
		w.same("group by key", byKey, g)
		if err != nil {
			return err
		}
		s, err := r.Snapshot(g.Key, 0)
		if err != nil {
			return err
		}
		w.same("snapshot", s, &store.Snapshot{Header: []byte("header 0"), GroupInfo: []byte("info 0")})
		nodes, err := r.Nodes(g.Key, 0)
		if err != nil {
			return err
		}
		w.same("nodes", nodes, n.Nodes)
		ms, err := r.Members(g.Key)
		if err != nil {
			return err
		}
		w.same("members", ms, []store.Member{{User: juliet, Device: "j1", Seen: noon}})
		a, err := r.Affiliation(g.Key, juliet)
		w.same("affiliation", a, "owner")
		return err
	})
	w.fails(store.ErrNotFound, func(tx store.Tx) error { _, err := tx.Group(orchard); return err })
	w.fails(store.ErrNotFound, func(tx store.Tx) error { _, err := tx.GroupByKey(g.Key + 1); return err })
	w.fails(store.ErrNotFound, func(tx store.Tx) error { _, err := tx.Snapshot(g.Key, 1); return err })
	w.fails(store.ErrNotFound, func(tx store.Tx) error { _, err := tx.Nodes(g.Key, 1); return err })
}

func testCreateGroupTaken(t *testing.T, w *world) {
	w.create(newGroup(balcony))
	w.exists(store.ExistsJID, func(tx store.Tx) error {
		n := newGroup(balcony)
		n.GroupID = []byte("other")
		_, err := tx.CreateGroup(n)
		return err
	})
	w.exists(store.ExistsGroupID, func(tx store.Tx) error {
		n := newGroup(orchard)
		n.GroupID = newGroup(balcony).GroupID
		_, err := tx.CreateGroup(n)
		return err
	})
	for _, id := range [][]byte{nil, make([]byte, 256)} {
		n := newGroup(orchard)
		n.GroupID = id
		if err := w.s.Update(w.ctx(), func(tx store.Tx) error { _, err := tx.CreateGroup(n); return err }); err == nil {
			t.Fatalf("a group id of %d bytes was accepted", len(id))
		}
	}
}

func testReserve(t *testing.T, w *world) {
	until := noon.Add(10 * time.Minute)
	w.update(func(tx store.Tx) error { return tx.Reserve(balcony, juliet, noon, until) })
	w.update(func(tx store.Tx) error { return tx.Reserve(balcony, juliet, noon, until) }) // again: the same
	w.exists(store.ExistsReserved, func(tx store.Tx) error { return tx.Reserve(balcony, mallory, noon, until) })
	w.exists(store.ExistsReserved, func(tx store.Tx) error {
		n := newGroup(balcony)
		n.Owner = mallory
		_, err := tx.CreateGroup(n)
		return err
	})
	w.create(newGroup(balcony))
	w.exists(store.ExistsJID, func(tx store.Tx) error { return tx.Reserve(balcony, juliet, noon, until) })
	// It is used up, and one that ran out is free.
	w.update(func(tx store.Tx) error { return tx.Reserve(orchard, mallory, noon, until) })
	n := newGroup(orchard)
	n.Now = until.Add(time.Second)
	w.create(n)
}

func testDestroy(t *testing.T, w *world) {
	g := w.create(newGroup(balcony))
	said := message(g, "but soft")
	w.append(said)
	c := commit(w.group(balcony), "add romeo")
	c.Joined = []store.Joiner{{User: romeo, Device: "r1", Leaf: 1}}
	c.Welcomes = []store.NewWelcome{{KPRef: []byte("kp"), User: romeo, Device: "r1", Secrets: []byte("s")}}
	c.WelcomeInfo, c.WelcomeExpiry = []byte("info"), noon.Add(time.Hour)
	w.accept(c)
	ts := store.Tombstone{NewJID: orchard, Reason: "moved", Until: noon.Add(90 * 24 * time.Hour)}
	w.update(func(tx store.Tx) error { return tx.DestroyGroup(g.Key, ts) })
	ts.JID = balcony
	for _, f := range []func(r store.Reader) error{
		func(r store.Reader) error { _, err := r.Group(balcony); return err },
		func(r store.Reader) error { _, err := r.Log(g.Key, store.LogQuery{}); return err },
		func(r store.Reader) error { _, err := r.Snapshot(g.Key, 1); return err },
		func(r store.Reader) error { _, err := r.Nodes(g.Key, 1); return err },
		func(r store.Reader) error { _, err := r.Member(g.Key, romeo, "r1"); return err },
		func(r store.Reader) error { _, err := r.EntryByRef(g.Key, said.Ref); return err },
		func(r store.Reader) error { _, err := r.Welcome([]byte("kp"), balcony); return err },
		func(r store.Reader) error { _, err := r.Tombstone(orchard); return err },
	} {
		w.fails(store.ErrNotFound, func(tx store.Tx) error { return f(tx) })
	}
	w.view(func(r store.Reader) error {
		got, err := r.Tombstone(balcony)
		w.same("tombstone", got, ts)
		gs, err2 := r.UserGroups(juliet, "j1", "", 0)
		if len(gs) != 0 {
			t.Errorf("juliet still sees %v", gs)
		}
		if err == nil {
			err = err2
		}
		return err
	})
	w.fails(store.ErrNotFound, func(tx store.Tx) error { return tx.DestroyGroup(g.Key, ts) })
	for _, e := range []*store.NewEntry{message(g, "too late"), said} {
		if _, err := w.s.Append(w.ctx(), e); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("appending to a destroyed group: %v", err)
		}
	}
	if _, err := w.s.AcceptCommit(w.ctx(), c); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("a commit to a destroyed group: %v", err)
	}
	w.view(func(r store.Reader) error {
		cs, err := r.Commits(g.Key, 0, 0, 0)
		if len(cs) != 0 {
			t.Errorf("commits of a destroyed group: %v", cs)
		}
		return err
	})
	w.exists(store.ExistsTombstone, func(tx store.Tx) error { _, err := tx.CreateGroup(newGroup(balcony)); return err })
	w.exists(store.ExistsTombstone, func(tx store.Tx) error { return tx.Reserve(balcony, juliet, noon, noon.Add(time.Hour)) })

	n, err := w.s.Clean(w.ctx(), store.CleanPolicy{Now: noon})
	if err != nil {
		t.Fatal(err)
	}
	if n.Entries != 2 || n.Nodes == 0 {
		t.Errorf("cleaned %+v, want the 2 entries of the log and the tree", n)
	}
	// The JID is free when the tombstone is gone, and the new group is another.
	later := newGroup(balcony)
	later.Now = ts.Until.Add(time.Second)
	g2 := w.create(later)
	if g2.Key == g.Key || g2.Head != 0 {
		t.Errorf("the new group has key %d and head %d", g2.Key, g2.Head)
	}
	w.fails(store.ErrNotFound, func(tx store.Tx) error { _, err := tx.Tombstone(balcony); return err })
}

func testUpdateGroup(t *testing.T, w *world) {
	g := w.create(newGroup(balcony))
	day := 24 * time.Hour
	var rev uint64
	w.update(func(tx store.Tx) (err error) {
		rev, err = tx.UpdateGroup(g.Key, g.Rev, store.GroupChange{
			Config: []byte("new"), Retention: &day,
			Roles: []store.Affiliation{{User: mallory, Value: store.AffiliationOutcast}, {User: romeo, Value: "member"}},
		})
		return err
	})
	got := w.group(balcony)
	if got.Rev != rev || rev <= g.Rev || string(got.Config) != "new" || got.Retention != day {
		t.Fatalf("got %+v, revision %d before, %d answered", got, g.Rev, rev)
	}
	w.conflicts(w.s.Update(w.ctx(), func(tx store.Tx) error {
		_, err := tx.UpdateGroup(g.Key, g.Rev, store.GroupChange{Config: []byte("stale")})
		return err
	}), got)
	w.update(func(tx store.Tx) error {
		_, err := tx.UpdateGroup(g.Key, rev, store.GroupChange{Roles: []store.Affiliation{{User: romeo}}})
		return err
	})
	got = w.group(balcony)
	if string(got.Config) != "new" || got.Retention != day {
		t.Errorf("what was not to change did: %+v", got)
	}
	w.view(func(r store.Reader) error {
		as, err := r.Affiliations(g.Key, "", 0)
		w.same("affiliations", as, []store.Affiliation{{User: juliet, Value: "owner"}, {User: mallory, Value: "outcast"}})
		as, _ = r.Affiliations(g.Key, juliet, 1)
		w.same("affiliations after juliet", as, []store.Affiliation{{User: mallory, Value: "outcast"}})
		return err
	})
	w.fails(store.ErrNotFound, func(tx store.Tx) error {
		_, err := tx.UpdateGroup(g.Key+1, 1, store.GroupChange{})
		return err
	})
}

func testReplaceGroup(t *testing.T, w *world) {
	g := w.create(newGroup(balcony))
	c := commit(g, "add romeo")
	c.Joined = []store.Joiner{{User: romeo, Device: "r1", Leaf: 1}}
	w.accept(c)
	w.accept(commit(w.group(balcony), "reinit"))
	g = w.group(balcony)
	p := message(g, "proposal")
	p.Kind = store.KindProposal
	w.append(p)
	g = w.group(balcony)

	n := newGroup(balcony)
	n.GroupID, n.Header = []byte("the next id"), []byte("header 0")
	w.conflicts(w.s.Update(w.ctx(), func(tx store.Tx) error {
		_, err := tx.ReplaceGroup(g.Key, g.Rev-1, n)
		return err
	}), g)
	w.exists(store.ExistsGroupID, func(tx store.Tx) error {
		taken := *n
		taken.GroupID = g.GroupID
		_, err := tx.ReplaceGroup(g.Key, g.Rev, &taken)
		return err
	})
	var g2 *store.Group
	w.update(func(tx store.Tx) (err error) {
		g2, err = tx.ReplaceGroup(g.Key, g.Rev, n)
		return err
	})
	if g2.Key != g.Key || g2.Epoch != 0 || g2.Head != g.Head || g2.Chain != g.Chain || g2.Rev <= g.Rev || g2.Pending != 0 ||
		string(g2.GroupID) != "the next id" {
		t.Fatalf("replaced %+v by %+v", g, g2)
	}
	// Epochs of the new group are not mistaken for those of the old one.
	a := w.accept(commit(g2, "first of the new"))
	if a.Seq != g.Head+1 || a.Epoch != 1 {
		t.Fatalf("accepted %+v", a)
	}
	w.view(func(r store.Reader) error {
		cs, err := r.Commits(g.Key, 0, 0, 0)
		if len(cs) != 1 || cs[0].Seq != a.Seq {
			t.Errorf("commits of the new group: %+v", cs)
		}
		ps, _ := r.Pending(g.Key)
		if len(ps) != 0 {
			t.Errorf("pending in the new group: %+v", ps)
		}
		m, err2 := r.Member(g.Key, romeo, "r1")
		if err2 != nil || m.Removed != g.Head {
			t.Errorf("romeo: %+v, %v; want him removed with the old group, at %d", m, err2, g.Head)
		}
		if m, err := r.Member(g.Key, juliet, "j1"); err != nil || !m.InTree() {
			t.Errorf("juliet: %+v, %v", m, err)
		}
		if m, err := r.Member(g.Key, juliet, "j1"); err != nil || m.Joined != 0 {
			t.Errorf("juliet, who continues the group, may read from %d on, %v; want the beginning", m.Joined, err)
		}
		es, _ := r.Log(g.Key, store.LogQuery{})
		if uint64(len(es)) != a.Seq {
			t.Errorf("the log has %d entries, want %d", len(es), a.Seq)
		}
		return err
	})
	// Romeo comes with the group, somebody who was never in it does not.
	next := commit(w.group(balcony), "add romeo again")
	next.Joined = []store.Joiner{{User: romeo, Device: "r1", Leaf: 1}, {User: romeo, Device: "r2", Leaf: 2}}
	b := w.accept(next)
	w.view(func(r store.Reader) error {
		if m, err := r.Member(g.Key, romeo, "r1"); err != nil || !m.InTree() || m.Joined != 1 {
			t.Errorf("romeo, added again: %+v, %v; want him to read from 1 on", m, err)
		}
		if m, err := r.Member(g.Key, romeo, "r2"); err != nil || m.Joined != b.Seq {
			t.Errorf("romeo's new device: %+v, %v; want it to read from %d on", m, err, b.Seq)
		}
		return nil
	})
}

func testGroups(t *testing.T, w *world) {
	// In the order of bytes: capitals and signs before small letters, whatever the locale.
	jids := []string{"A@mls.example", "B@mls.example", "a-b@mls.example", "a@mls.example", "ab@mls.example", "b@mls.example"}
	for i := range jids {
		w.create(newGroup(jids[(i*5+3)%len(jids)]))
	}
	w.view(func(r store.Reader) error {
		var got []string
		for after := ""; ; {
			gs, err := r.Groups(after, 4)
			if err != nil {
				return err
			}
			if len(gs) == 0 {
				break
			}
			for _, g := range gs {
				got, after = append(got, g.JID), g.JID
			}
		}
		w.same("groups", got, jids)
		return nil
	})
}
