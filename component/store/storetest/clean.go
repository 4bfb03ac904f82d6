// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
)

func (w *world) clean(now time.Time) store.Cleaned {
	w.Helper()
	n, err := w.s.Clean(w.ctx(), store.CleanPolicy{Now: now, LogAge: 30 * 24 * time.Hour, LogMinAge: time.Hour, SnapshotAge: 10 * time.Minute})
	if err != nil {
		w.Fatalf("Clean: %v", err)
	}
	return n
}

func testCleanLog(t *testing.T, w *world) {
	g := w.create(newGroup(balcony))
	c := commit(g, "add romeo")
	c.Joined = []store.Joiner{{User: romeo, Device: "r1", Leaf: 1}}
	w.accept(c) // seq 1
	for i := range 19 {
		e := message(w.group(balcony), fmt.Sprint("message ", i))
		e.Stamp = noon.Add(time.Duration(i) * time.Minute)
		w.append(e) // seq 2 to 20
	}
	first := func() uint64 { return w.group(balcony).First }
	ack := func(user, device string, seq uint64) {
		w.update(func(tx store.Tx) error { return tx.Ack(g.Key, user, device, seq, noon) })
	}
	// Nobody has acked.
	w.clean(noon.Add(24 * time.Hour))
	w.same("first", first(), uint64(1))
	// The slowest device decides, but not before LogMinAge.
	ack(juliet, "j1", 20)
	ack(romeo, "r1", 10)
	w.clean(noon.Add(30 * time.Minute))
	w.same("first", first(), uint64(1))
	w.clean(noon.Add(time.Hour + 5*time.Minute))
	w.same("first", first(), uint64(7)) // 1 to 6 are older than an hour
	if n := w.clean(noon.Add(24 * time.Hour)); n.Entries != 4 {
		t.Errorf("cleaned %+v, want 4 entries", n)
	}
	w.same("first", first(), uint64(11))
	if es := w.log(g.Key, store.LogQuery{After: 10}); len(es) != 10 || es[0].Seq != 11 {
		t.Fatalf("log: %d entries", len(es))
	}
	var gone *store.TruncatedError
	err := w.s.View(w.ctx(), func(r store.Reader) error {
		_, err := r.Log(g.Key, store.LogQuery{After: 9})
		return err
	})
	if !errors.As(err, &gone) || gone.First != 11 {
		t.Fatalf("what is gone: %v", err)
	}
	// Proposals of the epoch stay.
	p := message(w.group(balcony), "proposal")
	p.Kind, p.Stamp = store.KindProposal, noon.Add(20*time.Minute)
	w.append(p) // seq 21
	w.say(balcony, "after")
	ack(juliet, "j1", 22)
	ack(romeo, "r1", 22)
	w.clean(noon.Add(24 * time.Hour))
	w.same("first", first(), uint64(21))
	w.view(func(r store.Reader) error {
		ps, err := r.Pending(g.Key)
		if len(ps) != 1 {
			t.Errorf("pending: %+v", ps)
		}
		return err
	})
	// A device that has gone does not hold up the others, nor one that sleeps for ever.
	c = commit(w.group(balcony), "remove romeo")
	c.Left = []store.Leaver{{User: romeo, Device: "r1"}}
	c.Stamp = noon.Add(25 * time.Minute)
	w.accept(c) // 23
	w.say(balcony, "last")
	ack(juliet, "j1", 23)
	w.clean(noon.Add(24 * time.Hour))
	w.same("first", first(), uint64(24))
	w.clean(noon.Add(31 * 24 * time.Hour))
	g = w.group(balcony)
	w.same("first", g.First, uint64(25))
	w.same("head", g.Head, uint64(24))
	if es := w.log(g.Key, store.LogQuery{After: 24}); len(es) != 0 {
		t.Errorf("an empty log has %v", es)
	}
	if a := w.say(balcony, "goes on"); a.Seq != 25 || a.Chain != g.Chain.Next(25, store.KindApplication, g.Epoch, store.RefOf([]byte("goes on"))) {
		t.Errorf("accepted %+v", a)
	}
	// A retention of its own.
	n := newGroup(orchard)
	n.Retention = 2 * time.Hour
	w.create(n)
	w.say(orchard, "short")
	w.clean(noon.Add(2 * time.Hour))
	w.same("before", w.group(orchard).First, uint64(1))
	w.clean(noon.Add(2*time.Hour + time.Second))
	w.same("after", w.group(orchard).First, uint64(2))
}

func testCleanSnapshots(t *testing.T, w *world) {
	w.create(newGroup(balcony))
	for i := range 4 {
		c := commit(w.group(balcony), fmt.Sprint("commit ", i))
		c.Stamp = noon.Add(time.Duration(i) * 5 * time.Minute) // epoch i ends at 0, 5, 10, 15
		if i == 1 {
			c.Nodes = []store.Node{{Index: 1, Data: nil}}
		}
		w.accept(c)
	}
	g := w.group(balcony)
	n := w.clean(noon.Add(16 * time.Minute))
	if n.Snapshots != 2 {
		t.Errorf("cleaned %+v, want 2 snapshots", n)
	}
	for e := range uint64(5) {
		err := w.s.View(w.ctx(), func(r store.Reader) error {
			_, err := r.Snapshot(g.Key, e)
			if _, err2 := r.Nodes(g.Key, e); !errors.Is(err2, err) && !(errors.Is(err, store.ErrNotFound) && errors.Is(err2, store.ErrNotFound)) {
				t.Errorf("epoch %d: snapshot %v, nodes %v", e, err, err2)
			}
			return err
		})
		if gone := errors.Is(err, store.ErrNotFound); gone != (e < 2) {
			t.Errorf("epoch %d: %v", e, err)
		}
	}
	w.view(func(r store.Reader) error {
		nodes, err := r.Nodes(g.Key, 2)
		w.same("nodes of epoch 2", nodes, []store.Node{{Index: 0, Data: []byte("leaf of juliet in 1")}})
		return err
	})
	w.clean(noon.Add(24 * time.Hour))
	w.view(func(r store.Reader) error {
		if _, err := r.Snapshot(g.Key, 3); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("epoch 3: %v", err)
		}
		nodes, err := r.Nodes(g.Key, 4)
		w.same("current nodes", nodes, []store.Node{{Index: 0, Data: []byte("leaf of juliet in 4")}, {Index: 1, Data: []byte("root in 4")}})
		return err
	})
	st, err := w.s.Stats(w.ctx())
	if err != nil || st.Nodes != 2 {
		t.Errorf("stats %+v, %v: want 2 nodes left", st, err)
	}
	// The commits that ended those epochs are in the log for as long as that keeps them.
	commits := func(want ...uint64) {
		t.Helper()
		w.view(func(r store.Reader) error {
			es, err := r.Commits(g.Key, 0, 0, 0)
			var got []uint64
			for _, e := range es {
				got = append(got, e.Epoch)
			}
			w.same("commits", got, want)
			return err
		})
	}
	commits(0, 1, 2, 3)
	w.update(func(tx store.Tx) error { return tx.Ack(g.Key, juliet, "j1", 2, noon) })
	w.clean(noon.Add(24 * time.Hour))
	commits(2, 3)
	w.clean(noon.Add(31 * 24 * time.Hour))
	commits()
	w.accept(commit(w.group(balcony), "commit 4"))
	commits(4)

	// What ended with a group that was replaced is not mistaken for the epochs
	// of the one that goes on under its JID.
	w.create(newGroup(orchard))
	w.accept(commit(w.group(orchard), "the old one's"))
	next := newGroup(orchard)
	next.GroupID = []byte("the next id")
	w.update(func(tx store.Tx) error {
		old, err := tx.Group(orchard)
		if err == nil {
			_, err = tx.ReplaceGroup(old.Key, old.Rev, next)
		}
		return err
	})
	c := commit(w.group(orchard), "the new one's")
	c.Stamp = noon.Add(9 * time.Minute)
	a := w.accept(c)
	for _, gone := range []bool{false, true} {
		w.clean(noon.Add(16 * time.Minute))
		if gone {
			w.clean(noon.Add(20 * time.Minute))
		}
		err := w.s.View(w.ctx(), func(r store.Reader) error { _, err := r.Snapshot(w.group(orchard).Key, a.Epoch-1); return err })
		if errors.Is(err, store.ErrNotFound) != gone {
			t.Errorf("epoch %d of the new group: %v, want it gone: %v", a.Epoch-1, err, gone)
		}
	}
}

// testCleanReused destroys the group of the last epoch that Clean has seen.
func testCleanReused(t *testing.T, w *world) {
	old := w.create(newGroup(orchard))
	w.accept(commit(old, "of the orchard"))
	w.clean(noon.Add(time.Hour))
	w.update(func(tx store.Tx) error {
		return tx.DestroyGroup(old.Key, store.Tombstone{Until: noon.Add(2 * time.Hour)})
	})
	g := w.create(newGroup(balcony))
	c := commit(g, "of the balcony")
	c.Stamp = noon.Add(time.Hour)
	w.accept(c)
	if n := w.clean(noon.Add(90 * time.Minute)); n.Snapshots != 1 {
		t.Errorf("cleaned %+v, want a snapshot", n)
	}
}

func testCleanExpired(t *testing.T, w *world) {
	g := w.create(newGroup(balcony))
	w.publish(romeo, "r1", packages("a", 3)...) // expire at 1, 2 and 3 hours
	w.claim(claim("1", romeo))                  // the first
	c := commit(g, "add romeo")
	c.Welcomes = []store.NewWelcome{{KPRef: []byte("ref a0"), User: romeo, Device: "r1", Secrets: []byte("s")}}
	c.WelcomeInfo, c.WelcomeExpiry = []byte("i"), noon.Add(time.Hour)
	w.accept(c)
	w.update(func(tx store.Tx) error {
		_, err := tx.Stage(chunk([]byte("whole"), 0, 5), 10)
		return errors.Join(err, tx.Reserve(orchard, juliet, noon, noon.Add(10*time.Minute)))
	})
	if n := w.clean(noon); n != (store.Cleaned{}) {
		t.Errorf("cleaned %+v, want nothing", n)
	}
	n := w.clean(noon.Add(30 * time.Minute))
	if n.Uploads == 0 || n.Names != 1 || n.Claims == 0 || n.Welcomes != 0 || n.KeyPackages != 0 {
		t.Errorf("after half an hour cleaned %+v", n)
	}
	w.view(func(r store.Reader) error { _, err := r.Claimed([]byte("ref a0"), balcony); return err })
	n = w.clean(noon.Add(2*time.Hour + time.Second))
	if n.KeyPackages != 1 || n.Claims != 1 || n.Welcomes != 1 {
		t.Errorf("after two hours cleaned %+v", n)
	}
	w.fails(store.ErrNotFound, func(tx store.Tx) error { _, err := tx.Claimed([]byte("ref a0"), balcony); return err })
	w.fails(store.ErrNotFound, func(tx store.Tx) error { _, err := tx.Welcome([]byte("ref a0"), balcony); return err })
}

func testStats(t *testing.T, w *world) {
	w.create(newGroup(balcony))
	w.say(balcony, "one")
	w.publish(romeo, "r1", packages("a", 3)...)
	st, err := w.s.Stats(w.ctx())
	if err != nil {
		t.Fatal(err)
	}
	if st.Engine == "" || st.Schema < 1 || st.Bytes <= 0 {
		t.Errorf("stats: %+v", st)
	}
	st.Engine, st.Schema, st.Bytes, st.Warnings = "", 0, 0, nil // those depend on the server
	w.same("stats", st, store.Stats{Groups: 1, Members: 1, Entries: 1, Nodes: 1, Devices: 1, KeyPackages: 3})
}
