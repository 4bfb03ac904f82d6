// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
)

func testRollback(t *testing.T, w *world) {
	g := w.create(newGroup(balcony))
	nay := errors.New("nay")
	// Several at once, every other failing after it has written: neither a
	// failing one nor its neighbours may lose or keep what they should not.
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			err := w.s.Update(w.ctx(), func(tx store.Tx) error {
				a, err := tx.Append(message(g, fmt.Sprint("message ", i)))
				if err != nil {
					return err
				}
				if err := tx.SetSetting(juliet, fmt.Sprintf("%02d", i), []byte(fmt.Sprint(a.Seq))); err != nil {
					return err
				}
				if i%2 == 1 {
					return nay
				}
				return nil
			})
			if want := i%2 == 1; errors.Is(err, nay) != want || (!want && err != nil) {
				t.Errorf("update %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	w.view(func(r store.Reader) error {
		es, err := CheckLog(r, w.group(balcony))
		if len(es) != 10 {
			t.Errorf("the log has %d entries, want 10", len(es))
		}
		ss, err2 := r.Settings(juliet, "")
		if len(ss) != 10 {
			t.Errorf("%d settings, want 10", len(ss))
		}
		for _, s := range ss {
			if (s.Name[1]-'0')%2 != 0 {
				t.Errorf("setting %s was kept", s.Name)
			}
		}
		return errors.Join(err, err2)
	})
}

func testDoomed(t *testing.T, w *world) {
	// A method that failed halfway dooms its transaction, though f says nothing.
	err := w.s.Update(w.ctx(), func(tx store.Tx) error {
		tx.SetSetting(juliet, "a", []byte("1"))
		tx.PutKeyPackages(juliet, "j1", packages("a", 3), 2, noon)
		return nil
	})
	if !errors.Is(err, store.ErrQuota) {
		t.Fatalf("Update: %v", err)
	}
	w.view(func(r store.Reader) error {
		ss, err := r.Settings(juliet, "")
		ds, err2 := r.Devices(juliet, noon)
		if len(ss)+len(ds) != 0 {
			t.Errorf("left: %v %v", ss, ds)
		}
		return errors.Join(err, err2)
	})
	// What is only not there does not.
	w.update(func(tx store.Tx) error {
		if _, err := tx.Group(balcony); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Group: %v", err)
		}
		return tx.SetSetting(juliet, "a", []byte("1"))
	})
	w.view(func(r store.Reader) error { _, err := r.Setting(juliet, "a"); return err })
}

func testPanic(t *testing.T, w *world) {
	caught := func(f func()) (v any) {
		defer func() { v = recover() }()
		f()
		return nil
	}
	if v := caught(func() {
		w.s.Update(w.ctx(), func(tx store.Tx) error {
			tx.SetSetting(juliet, "a", []byte("1"))
			panic("o happy dagger")
		})
	}); v == nil {
		t.Error("a panic in Update was lost")
	}
	if v := caught(func() { w.s.View(w.ctx(), func(store.Reader) error { panic("o happy dagger") }) }); v == nil {
		t.Error("a panic in View was lost")
	}
	// The store lives on, without what the transaction wrote.
	for range 8 {
		w.fails(store.ErrNotFound, func(tx store.Tx) error { _, err := tx.Setting(juliet, "a"); return err })
		w.view(func(r store.Reader) error { _, err := r.Settings(juliet, ""); return err })
	}
}

func testSnapshot(t *testing.T, w *world) {
	g := w.create(newGroup(balcony))
	w.say(balcony, "before")
	w.view(func(r store.Reader) error {
		first, err := r.GroupByKey(g.Key)
		if err != nil {
			return err
		}
		w.say(balcony, "meanwhile")
		w.accept(commit(w.group(balcony), "meanwhile, too"))
		second, err := r.GroupByKey(g.Key)
		if err != nil {
			return err
		}
		w.same("group", second, first)
		_, err = CheckLog(r, second)
		return err
	})
	if g := w.group(balcony); g.Head != 3 || g.Epoch != 1 {
		t.Errorf("after the view: %+v", g)
	}
}

func testDeadline(t *testing.T, w *world) {
	w.create(newGroup(balcony))
	// More often than a store has connections to lose.
	for range 20 {
		ctx, cancel := context.WithTimeout(w.ctx(), 5*time.Millisecond)
		err := w.s.View(ctx, func(r store.Reader) error {
			if _, err := r.Group(balcony); err != nil {
				return err
			}
			<-ctx.Done()
			_, err := r.Group(balcony)
			return err
		})
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("reading after the deadline: %v", err)
		}
	}
	w.group(balcony)
	w.say(balcony, "and on")
}

func testEnded(t *testing.T, w *world) {
	var kept store.Tx
	w.update(func(tx store.Tx) error { kept = tx; return nil })
	if err := kept.SetSetting(juliet, "a", []byte("1")); err == nil {
		t.Error("a transaction was used after its end")
	}
	var reader store.Reader
	w.view(func(r store.Reader) error { reader = r; return nil })
	if _, err := reader.Groups("", 1); err == nil {
		t.Error("a snapshot was used after its end")
	}
}

func testGoexit(t *testing.T, w *world) {
	// t.FailNow in a transaction is a mistake, but not one to hang for.
	for range 4 {
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				w.s.Update(w.ctx(), func(tx store.Tx) error {
					tx.SetSetting(juliet, "a", []byte("1"))
					if i == 0 {
						runtime.Goexit()
					}
					return errors.New("nay")
				})
			})
		}
		wg.Wait()
	}
	w.fails(store.ErrNotFound, func(tx store.Tx) error { _, err := tx.Setting(juliet, "a"); return err })
	w.update(func(tx store.Tx) error { return tx.SetSetting(juliet, "a", []byte("1")) })
}

func testCancelled(t *testing.T, w *world) {
	g := w.create(newGroup(balcony))
	ctx, cancel := context.WithCancel(w.ctx())
	cancel()
	ran := false
	if err := w.s.Update(ctx, func(tx store.Tx) error { ran = true; return nil }); !errors.Is(err, context.Canceled) || ran {
		t.Errorf("Update: %v, ran: %v", err, ran)
	}
	if err := w.s.View(ctx, func(store.Reader) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("View: %v", err)
	}
	if _, err := w.s.Append(ctx, message(g, "no")); !errors.Is(err, context.Canceled) {
		t.Errorf("Append: %v", err)
	}
	// While another transaction takes its time, a time-out is an answer, and
	// says truly that nothing was done. (A store that runs both at once is
	// right to succeed.)
	started, release := make(chan bool, 9), make(chan bool)
	var wg sync.WaitGroup
	wg.Go(func() {
		w.s.Update(w.ctx(), func(tx store.Tx) error {
			started <- true
			<-release
			return nil
		})
	})
	<-started
	short, cancel := context.WithTimeout(w.ctx(), 50*time.Millisecond)
	defer cancel()
	_, err := w.s.Append(short, message(g, "maybe"))
	close(release)
	wg.Wait()
	w.view(func(r store.Reader) error {
		_, e := r.EntryByRef(g.Key, store.RefOf([]byte("maybe")))
		switch {
		case err == nil && e == nil, errors.Is(err, context.DeadlineExceeded) && errors.Is(e, store.ErrNotFound):
			return nil
		}
		return fmt.Errorf("appending answered %v, the log %v", err, e)
	})
}

func testClosed(t *testing.T, w *world) {
	g := w.create(newGroup(balcony))
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.s.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
	if err := w.s.View(w.ctx(), func(store.Reader) error { return nil }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("View: %v", err)
	}
	if err := w.s.Update(w.ctx(), func(store.Tx) error { return nil }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Update: %v", err)
	}
	if _, err := w.s.Append(w.ctx(), message(g, "no")); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Append: %v", err)
	}
	if _, err := w.s.AcceptCommit(w.ctx(), commit(g, "no")); !errors.Is(err, store.ErrClosed) {
		t.Errorf("AcceptCommit: %v", err)
	}
}

func testRaceCommits(t *testing.T, w *world) { RaceCommits(t, w.s) }

// RaceCommits lets committers race for every epoch of a group, through one
// store or several on one database, and checks that each epoch has one winner
// and that all losers are told the truth.
func RaceCommits(t *testing.T, stores ...store.Store) {
	const epochs, racers = 25, 6
	w := &world{t, stores[0]}
	key := w.create(newGroup(balcony)).Key
	var wins [epochs]atomic.Int32
	var wg sync.WaitGroup
	for i := range racers {
		s := stores[i%len(stores)]
		wg.Go(func() {
			for {
				var g *store.Group
				if err := s.View(w.ctx(), func(r store.Reader) (err error) {
					g, err = r.GroupByKey(key)
					return err
				}); err != nil {
					t.Error(err)
					return
				}
				if g.Epoch >= epochs {
					return
				}
				a, err := s.AcceptCommit(w.ctx(), commit(g, fmt.Sprintf("commit of %d for epoch %d", i, g.Epoch)))
				var c *store.ConflictError
				switch {
				case err == nil && !a.Duplicate && a.Epoch == g.Epoch+1:
					wins[g.Epoch].Add(1)
				case errors.As(err, &c) && c.Epoch > g.Epoch && c.Rev > g.Rev:
				default:
					t.Errorf("racer %d at epoch %d: %+v, %v", i, g.Epoch, a, err)
					return
				}
			}
		})
	}
	wg.Wait()
	for e := range wins {
		if n := wins[e].Load(); n != 1 {
			t.Errorf("epoch %d has %d winners", e, n)
		}
	}
	w.view(func(r store.Reader) error {
		g, err := r.GroupByKey(key)
		if err != nil {
			return err
		}
		es, err := CheckLog(r, g)
		if len(es) != epochs {
			t.Errorf("the log has %d entries, want %d", len(es), epochs)
		}
		return err
	})
}

func testRaceAppends(t *testing.T, w *world) { RaceAppends(t, w.s) }

// RaceAppends sends messages to two groups from many goroutines, each ref
// twice, while commits move the epochs.
func RaceAppends(t *testing.T, stores ...store.Store) {
	const writers, messages = 8, 20
	w := &world{t, stores[0]}
	keys := []store.GroupKey{w.create(newGroup(balcony)).Key, w.create(newGroup(orchard)).Key}
	var wg sync.WaitGroup
	for i := range writers {
		s, key := stores[i%len(stores)], keys[i/2%2]
		wg.Go(func() {
			for n := range messages {
				text := fmt.Sprintf("message %d of %d", n, i/4) // writers 4k to 4k+3 share texts
				for done := false; !done; {
					err := s.View(w.ctx(), func(r store.Reader) error { return nil })
					var g *store.Group
					if err == nil {
						err = s.View(w.ctx(), func(r store.Reader) (err error) { g, err = r.GroupByKey(key); return err })
					}
					if err == nil && i < 2 && n%5 == 4 {
						_, err = s.AcceptCommit(w.ctx(), commit(g, fmt.Sprintf("commit %d of %d", n, i)))
						done = err == nil
					} else if err == nil {
						_, err = s.Append(w.ctx(), message(g, text))
						done = err == nil
					}
					var c *store.ConflictError
					if err != nil && !errors.As(err, &c) {
						t.Errorf("writer %d: %v", i, err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	total := 0
	w.view(func(r store.Reader) error {
		for _, key := range keys {
			g, err := r.GroupByKey(key)
			if err != nil {
				return err
			}
			es, err := CheckLog(r, g)
			if err != nil {
				return err
			}
			total += len(es)
		}
		return nil
	})
	if total == 0 {
		t.Error("nothing was appended")
	}
}
