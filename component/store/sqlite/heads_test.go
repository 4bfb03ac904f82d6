// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/component/store/storetest"
)

// newGroups makes groups that have one entry each, whose heads the writer
// remembers as far as it has room.
func newGroups(t *testing.T, s *Store, n int) []*store.Group {
	t.Helper()
	groups := make([]*store.Group, n)
	if err := s.Update(t.Context(), func(tx store.Tx) (err error) {
		for i := range groups {
			id := fmt.Sprintf("g%d", i)
			if groups[i], err = tx.CreateGroup(&store.NewGroup{JID: id + "@mls.example", GroupID: []byte(id), Mode: "public", Header: []byte("header 0"), Now: time.Now()}); err != nil {
				return err
			}
			if _, err := tx.Append(entry(groups[i], "first")); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return groups
}

func entry(g *store.Group, text string) *store.NewEntry {
	return &store.NewEntry{
		Group: g.Key, Rev: g.Rev, Kind: store.KindApplication, Ref: store.RefOf([]byte(text)), Stamp: time.Now(), Bytes: []byte(text),
	}
}

func checkGroup(t *testing.T, s *Store, key store.GroupKey, head, rev uint64) {
	t.Helper()
	if err := s.View(t.Context(), func(r store.Reader) error {
		g, err := r.GroupByKey(key)
		if err != nil {
			return err
		}
		if g.Head != head || g.Rev != rev {
			t.Errorf("head %d, revision %d, want %d, %d", g.Head, g.Rev, head, rev)
		}
		_, err = storetest.CheckLog(r, g)
		return err
	}); err != nil {
		t.Error(err)
	}
}

// TestUntoldChange changes a group without telling the writer, who remembers
// what it was: nothing may be accepted on what was, and nothing may stay wrong.
func TestUntoldChange(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "ds.db"))
	g := newGroups(t, s, 1)[0]
	rev := g.Rev
	untold := func() {
		t.Helper()
		if _, err := s.w.Exec(`UPDATE groups SET rev = rev + 1`); err != nil {
			t.Fatal(err)
		}
	}
	untold()
	var c *store.ConflictError
	if _, err := s.Append(t.Context(), entry(g, "on what was")); !errors.As(err, &c) || c.Rev != rev+1 {
		t.Fatalf("an entry on a revision that is gone: %v", err)
	}
	checkGroup(t, s, g.Key, 1, rev+1)
	g.Rev = rev + 1
	if a, err := s.Append(t.Context(), entry(g, "on what is")); err != nil || a.Seq != 2 {
		t.Fatalf("%+v, %v", a, err)
	}

	// Who knows of the change is not refused for what the writer remembers.
	untold()
	g.Rev = rev + 2
	if a, err := s.Append(t.Context(), entry(g, "and on")); err != nil || a.Seq != 3 {
		t.Fatalf("%+v, %v", a, err)
	}

	// A transaction is not run again by itself.
	untold()
	if err := s.Update(t.Context(), func(tx store.Tx) error {
		_, err := tx.Append(entry(g, "on what was"))
		return err
	}); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("an entry on a revision that is gone: %v", err)
	}
	checkGroup(t, s, g.Key, 3, rev+3)
	g.Rev = rev + 3
	if a, err := s.Append(t.Context(), entry(g, "at last")); err != nil || a.Seq != 4 {
		t.Fatalf("%+v, %v", a, err)
	}
	checkGroup(t, s, g.Key, 4, rev+3)
}

// TestCutTail cuts a log in its tail, which the writer remembers, and later
// wholly: nothing of it may stay.
func TestCutTail(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "ds.db"))
	g := newGroups(t, s, 1)[0]
	now := time.Now()
	for n := range 100 {
		e := entry(g, fmt.Sprint(n))
		e.Stamp = now.Add(time.Duration(n) * time.Minute)
		if _, err := s.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		if n%10 == 5 {
			if _, err := s.Clean(t.Context(), store.CleanPolicy{Now: e.Stamp, LogAge: 3 * time.Minute, LogMinAge: 3 * time.Minute}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := s.Clean(t.Context(), store.CleanPolicy{Now: now.Add(time.Hour * 24 * 365)}); err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{"SELECT COUNT(*) FROM log", "SELECT COUNT(*) FROM log_blocks", "SELECT COUNT(*) FROM log_refs", "SELECT SUM(length(tail)) FROM groups"} {
		if n, err := pragmaInt(s.w.c, q); err != nil || n != 0 {
			t.Errorf("%s: %d, %v", q, n, err)
		}
	}
}

// TestManyHeads writes to more groups than the writer remembers.
func TestManyHeads(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "ds.db"))
	groups := newGroups(t, s, 3000)
	if err := s.Update(t.Context(), func(tx store.Tx) error {
		for n := range 40 { // past the end of a block
			for _, g := range groups[:50] {
				if _, err := tx.Append(entry(g, fmt.Sprint(n))); err != nil {
					return err
				}
			}
		}
		for _, g := range groups {
			if _, err := tx.Append(entry(g, "last")); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for i, g := range groups {
		head := uint64(2)
		if i < 50 {
			head = 42
		}
		checkGroup(t, s, g.Key, head, g.Rev)
	}
}

// TestPanicOfCommit: a method that panics halfway leaves none of its writes,
// though its function is one that is run without a savepoint.
func TestPanicOfCommit(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "ds.db"))
	g := newGroups(t, s, 1)[0]
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was lost")
			}
		}()
		s.submit(t.Context(), func(tx store.Tx) error {
			if _, err := tx.Append(entry(g, "halfway")); err != nil {
				return err
			}
			panic("o happy dagger")
		}, true)
	}()
	checkGroup(t, s, g.Key, 1, g.Rev)
	if a, err := s.Append(t.Context(), entry(g, "on")); err != nil || a.Seq != 2 {
		t.Fatalf("%+v, %v", a, err)
	}
	checkGroup(t, s, g.Key, 2, g.Rev)
}
