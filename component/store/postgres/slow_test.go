// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/component/store/postgres/pgtest"
	"github.com/lockstep-im/lockstep/component/store/storetest"
)

// TestHeldGroup lets a process that hangs hold a group: requests for that group
// end in time and tell the truth, and other groups do not wait.
func TestHeldGroup(t *testing.T) {
	dsn := pgtest.DSN(t)
	s := openTest(t, dsn)
	storetest.WriteFixture(t, s)
	var held, free *store.Group
	if err := s.Update(t.Context(), func(tx store.Tx) (err error) {
		free, err = tx.CreateGroup(&store.NewGroup{JID: "free@mls.example", GroupID: []byte("free"), Now: time.Now()})
		if err == nil {
			held, err = tx.Group("balcony@mls.example")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	hung := connect(t, dsn)
	defer hung.Close(t.Context())
	if _, err := hung.Exec(t.Context(), "BEGIN; SELECT * FROM groups WHERE jid = 'balcony@mls.example' FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	entry := func(g *store.Group, text string) *store.NewEntry {
		return &store.NewEntry{
			Group: g.Key, Rev: g.Rev, Kind: store.KindApplication, Epoch: g.Epoch,
			Ref: store.RefOf([]byte(text)), Bytes: []byte(text), Stamp: time.Now(),
		}
	}
	var wg sync.WaitGroup
	short, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	for i := range 20 {
		wg.Go(func() {
			_, err := s.Append(short, entry(held, fmt.Sprint("held ", i)))
			if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("appending to a group that is held: %v", err)
			}
		})
		wg.Go(func() {
			long, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if _, err := s.Append(long, entry(free, fmt.Sprint("free ", i))); err != nil {
				t.Errorf("appending to a group that is not held: %v", err)
			}
		})
	}
	wg.Go(func() {
		_, err := s.AcceptCommit(short, &store.Commit{Group: held.Key, Rev: held.Rev, Epoch: held.Epoch})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a commit to a group that is held: %v", err)
		}
	})
	wg.Wait()
	if _, err := hung.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	// What had no answer is in the log or is not; submitting again settles it.
	for i := range 20 {
		if _, err := s.Append(t.Context(), entry(held, fmt.Sprint("held ", i))); err != nil {
			t.Error(err)
		}
	}
	if err := s.View(t.Context(), func(r store.Reader) error {
		for _, key := range []store.GroupKey{held.Key, free.Key} {
			g, err := r.GroupByKey(key)
			if err != nil {
				return err
			}
			if want := map[store.GroupKey]uint64{held.Key: held.Head + 20, free.Key: 20}[key]; g.Head != want {
				t.Errorf("%s ends at %d, want %d", g.JID, g.Head, want)
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// TestWarnings runs on a server that does not sync.
func TestWarnings(t *testing.T) {
	cluster := pgtest.NewCluster(t)
	s := openTest(t, cluster.DSN())
	st, err := s.Stats(t.Context())
	if err != nil || len(st.Warnings) != 0 {
		t.Errorf("a good server: %v, %v", st.Warnings, err)
	}
	script(t, cluster.DSN(), "ALTER SYSTEM SET fsync = off")
	script(t, cluster.DSN(), "SELECT pg_reload_conf()")
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end) && err == nil && len(st.Warnings) == 0; time.Sleep(20 * time.Millisecond) {
		st, err = s.Stats(t.Context())
	}
	if err != nil || len(st.Warnings) != 1 || !strings.Contains(st.Warnings[0], "fsync = off") {
		t.Errorf("a server that does not sync: %q, %v", st.Warnings, err)
	}
}
