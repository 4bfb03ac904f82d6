// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/lockstep-im/lockstep/component/store"
)

func testAppend(t *testing.T, w *world) {
	g := w.create(newGroup(balcony))
	e := message(g, "but soft, what light")
	a := w.append(e)
	chain := store.FirstChain(g.GroupID).Next(1, store.KindApplication, 0, e.Ref)
	w.same("accepted", a, store.Accepted{Seq: 1, Epoch: 0, Chain: chain, ID: e.ID, Stamp: noon, Rev: g.Rev})
	got := w.group(balcony)
	if got.Head != 1 || got.Chain != chain || got.Rev != g.Rev || got.Epoch != 0 {
		t.Fatalf("group after: %+v", got)
	}
	w.same("log", w.log(g.Key, store.LogQuery{}), []store.Entry{{
		Seq: 1, Epoch: 0, Kind: store.KindApplication, Ref: e.Ref, ID: e.ID, Sender: juliet, Device: "j1",
		Stamp: noon, Chain: chain, Bytes: e.Bytes,
	}})
	// The same by a transaction, with a control entry and nothing in it.
	c := &store.NewEntry{Group: g.Key, Rev: g.Rev, Kind: store.KindControl, Ref: store.RefOf(nil), Stamp: noon}
	w.update(func(tx store.Tx) (err error) {
		a, err = tx.Append(c)
		return err
	})
	if a.Seq != 2 || a.Chain != chain.Next(2, store.KindControl, 0, c.Ref) {
		t.Fatalf("accepted %+v", a)
	}
	w.view(func(r store.Reader) error {
		_, err := CheckLog(r, w.group(balcony))
		return err
	})
	for _, kind := range []store.Kind{0, store.KindCommit, 5} {
		bad := message(g, "bad")
		bad.Kind = kind
		if _, err := w.s.Append(w.ctx(), bad); err == nil {
			t.Errorf("kind %d was appended", kind)
		}
	}
}

// testAppendStale appends on what a group was, right behind another entry, after
// each kind of change.
func testAppendStale(t *testing.T, w *world) {
	for i, change := range []func(tx store.Tx, g *store.Group) error{
		func(tx store.Tx, g *store.Group) error {
			_, err := tx.UpdateGroup(g.Key, g.Rev, store.GroupChange{Config: []byte("another")})
			return err
		},
		func(tx store.Tx, g *store.Group) error {
			n := newGroup(g.JID)
			n.GroupID = append(n.GroupID, "again"...)
			_, err := tx.ReplaceGroup(g.Key, g.Rev, n)
			return err
		},
		func(tx store.Tx, g *store.Group) error {
			_, err := tx.PurgeUser(juliet)
			return err
		},
		func(tx store.Tx, g *store.Group) error {
			_, err := tx.AcceptCommit(commit(g, "update"))
			return err
		},
		func(tx store.Tx, g *store.Group) error {
			return tx.DestroyGroup(g.Key, store.Tombstone{Until: noon})
		},
	} {
		g := w.create(newGroup(fmt.Sprintf("g%d@mls.example", i)))
		w.say(g.JID, "before")
		w.update(func(tx store.Tx) error { return change(tx, g) })
		err := w.s.Update(w.ctx(), func(tx store.Tx) error {
			_, err := tx.Append(message(g, "stale"))
			return err
		})
		_, err2 := w.s.Append(w.ctx(), message(g, "stale"))
		var now *store.Group
		w.view(func(r store.Reader) error {
			now, _ = r.GroupByKey(g.Key)
			return nil
		})
		if now == nil {
			if !errors.Is(err, store.ErrNotFound) || !errors.Is(err2, store.ErrNotFound) {
				t.Errorf("change %d: %v, %v", i, err, err2)
			}
			continue
		}
		w.conflicts(err, now)
		w.conflicts(err2, now)
		if a := w.say(g.JID, "after"); a.Seq != now.Head+1 {
			t.Errorf("change %d: %+v after %d", i, a, now.Head)
		}
	}
}

func testAppendConflict(t *testing.T, w *world) {
	g := w.create(newGroup(balcony))
	w.accept(commit(g, "update"))
	now := w.group(balcony)
	_, err := w.s.Append(w.ctx(), message(g, "stale"))
	w.conflicts(err, now)
	w.conflicts(w.s.Update(w.ctx(), func(tx store.Tx) error {
		_, err := tx.Append(message(g, "stale"))
		return err
	}), now)
	// A caller that allows the epoch before says so with the revision of now.
	late := message(now, "late")
	late.Epoch = 0
	if a := w.append(late); a.Epoch != 0 || a.Seq != 2 {
		t.Fatalf("accepted %+v", a)
	}
	unknown := message(g, "nowhere")
	unknown.Group += 1
	if _, err := w.s.Append(w.ctx(), unknown); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("appending to no group: %v", err)
	}
}

func testAppendIdempotent(t *testing.T, w *world) {
	g := w.create(newGroup(balcony))
	e := message(g, "once")
	first := w.append(e)
	again := w.append(e)
	want := first
	want.Duplicate = true
	w.same("again", again, want)

	// Also after the group has moved, and within a transaction.
	w.accept(commit(w.group(balcony), "update"))
	now := w.group(balcony)
	want.Rev = now.Rev
	w.same("after a commit", w.append(e), want)
	e2 := *e
	e2.Rev = now.Rev
	w.same("checked anew", w.append(&e2), want)
	w.update(func(tx store.Tx) error {
		a, err := tx.Append(e)
		w.same("in a transaction", a, want)
		return err
	})
	if es := w.log(g.Key, store.LogQuery{}); len(es) != 2 {
		t.Fatalf("the log has %d entries, want 2", len(es))
	}
	w.view(func(r store.Reader) error {
		got, err := r.EntryByRef(g.Key, e.Ref)
		if err != nil || got.Seq != 1 || !bytes.Equal(got.Bytes, e.Bytes) {
			t.Errorf("by ref: %+v, %v", got, err)
		}
		if _, err := r.EntryByRef(g.Key, store.RefOf([]byte("never said"))); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("unknown ref: %v", err)
		}
		return nil
	})
	// Another group may have the same bytes.
	other := w.create(newGroup(orchard))
	if a := w.append(message(other, "once")); a.Duplicate {
		t.Error("a ref of another group counted")
	}
}

func testAppendProposal(t *testing.T, w *world) {
	g := w.create(newGroup(balcony))
	p := message(g, "remove mercutio")
	p.Kind = store.KindProposal
	a := w.append(p)
	got := w.group(balcony)
	if a.Rev != g.Rev+1 || got.Rev != a.Rev || got.Pending != 1 {
		t.Fatalf("accepted %+v, group %+v", a, got)
	}
	// What was checked without knowing the proposal is refused.
	_, err := w.s.AcceptCommit(w.ctx(), commit(g, "knows nothing"))
	w.conflicts(err, got)
	_, err = w.s.Append(w.ctx(), message(g, "knows nothing either"))
	w.conflicts(err, got)
	want := a
	want.Duplicate = true
	w.same("again", w.append(p), want)

	p2 := message(got, "update")
	p2.Kind = store.KindProposal
	w.append(p2)
	w.say(balcony, "between")
	w.view(func(r store.Reader) error {
		ps, err := r.Pending(g.Key)
		if err != nil {
			return err
		}
		if len(ps) != 2 || ps[0].Ref != p.Ref || ps[1].Ref != p2.Ref {
			t.Errorf("pending: %+v", ps)
		}
		return nil
	})
	w.accept(commit(w.group(balcony), "commit both"))
	if got := w.group(balcony); got.Pending != 0 || got.Epoch != 1 {
		t.Fatalf("after the commit: %+v", got)
	}
	w.view(func(r store.Reader) error {
		if ps, err := r.Pending(g.Key); err != nil || len(ps) != 0 {
			t.Errorf("pending in the next epoch: %+v, %v", ps, err)
		}
		return nil
	})
	// A proposal belongs to the current epoch, whatever the caller says.
	now := w.group(balcony)
	late := message(now, "late")
	late.Kind, late.Epoch = store.KindProposal, 0
	_, err = w.s.Append(w.ctx(), late)
	w.conflicts(err, now)
}

func testLogPages(t *testing.T, w *world) {
	g := w.create(newGroup(balcony))
	for i := range 20 {
		e := message(g, fmt.Sprintf("%02d%s", i, bytes.Repeat([]byte("x"), 98)))
		w.append(e)
	}
	seqs := func(q store.LogQuery) (out []uint64) {
		for _, e := range w.log(g.Key, q) {
			out = append(out, e.Seq)
		}
		return out
	}
	w.same("by number", seqs(store.LogQuery{After: 3, Limit: 2}), []uint64{4, 5})
	w.same("by bytes", seqs(store.LogQuery{After: 3, MaxBytes: 399}), []uint64{4, 5, 6})
	w.same("exactly", seqs(store.LogQuery{After: 3, MaxBytes: 400}), []uint64{4, 5, 6, 7})
	w.same("at least one", seqs(store.LogQuery{After: 3, MaxBytes: 1}), []uint64{4})
	w.same("through", seqs(store.LogQuery{After: 17, Through: 19}), []uint64{18, 19})
	w.same("through the head", seqs(store.LogQuery{After: 18, Through: 99}), []uint64{19, 20})
	w.same("at the head", seqs(store.LogQuery{After: 20}), []uint64(nil))
	w.same("beyond", seqs(store.LogQuery{After: 1 << 63}), []uint64(nil))
	w.same("all", len(seqs(store.LogQuery{})), 20)
}

func testNumbers(t *testing.T, w *world) {
	g := w.create(newGroup(balcony))
	const most = ^uint64(0)
	e := message(g, "epoch")
	e.Epoch = most
	if _, err := w.s.Append(w.ctx(), e); err == nil {
		t.Error("an epoch of 2^64-1 was appended")
	}
	c := commit(g, "epoch")
	c.Epoch = most
	if _, err := w.s.AcceptCommit(w.ctx(), c); err == nil {
		t.Error("an epoch of 2^64-1 was ended")
	}
	n := newGroup(orchard)
	n.Epoch = most
	if err := w.s.Update(w.ctx(), func(tx store.Tx) error { _, err := tx.CreateGroup(n); return err }); err == nil {
		t.Error("a group began at epoch 2^64-1")
	}
	w.view(func(r store.Reader) error {
		if _, err := r.Snapshot(g.Key, most); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Snapshot: %v", err)
		}
		if _, err := r.Nodes(g.Key, most); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Nodes: %v", err)
		}
		if es, err := r.Commits(g.Key, most, -1, -1); err != nil || len(es) != 0 {
			t.Errorf("Commits: %v, %v", es, err)
		}
		if es, err := r.Log(g.Key, store.LogQuery{After: most, Through: most, Limit: -1, MaxBytes: -1}); err != nil || len(es) != 0 {
			t.Errorf("Log: %v, %v", es, err)
		}
		return nil
	})
	w.update(func(tx store.Tx) error { return tx.Ack(g.Key, juliet, "j1", most, noon) })
}

func testBadText(t *testing.T, w *world) {
	g := w.create(newGroup(balcony))
	for _, s := range []string{"nul\x00", "not \xff utf-8"} {
		e := message(g, "bad text")
		e.ID = s
		if _, err := w.s.Append(w.ctx(), e); err == nil {
			t.Errorf("an id %q was appended", s)
		}
		if err := w.s.View(w.ctx(), func(r store.Reader) error { _, err := r.Group(s); return err }); err == nil || errors.Is(err, store.ErrNotFound) {
			t.Errorf("looking for %q: %v", s, err)
		}
		if err := w.s.Update(w.ctx(), func(tx store.Tx) error { return tx.TouchDevice(s, "d", noon) }); err == nil {
			t.Errorf("a user %q was stored", s)
		}
	}
	// Bytes may be anything, and other messages go on.
	e := message(g, "\x00\xff")
	e.ID = "fine"
	w.append(e)
}
