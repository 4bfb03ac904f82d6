// SPDX-License-Identifier: Apache-2.0

// Package storetest is the conformance suite of [store.Store]: every back-end
// runs it and passes.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/lockstep-im/lockstep/client/store"
)

// Run runs the suite. open returns a new, empty store bound to account.
func Run(t *testing.T, open func(t *testing.T, account string) store.Store) {
	const account = "juliet@capulet.lit"
	ctx := context.Background()
	contents := func(t *testing.T, s store.Store, from, to string) string {
		t.Helper()
		var b strings.Builder
		err := s.Scan(from, to, func(k string, v []byte) error {
			fmt.Fprintf(&b, "%s=%s;", k, v)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return b.String()
	}

	t.Run("account", func(t *testing.T) {
		s := open(t, account)
		if s.Account() != account {
			t.Errorf("Account() = %q", s.Account())
		}
		if s.RolledBack() {
			t.Error("a new store says it was rolled back")
		}
	})

	t.Run("apply in order", func(t *testing.T) {
		s := open(t, account)
		if err := s.Apply(ctx, []store.Op{
			store.Put("b", []byte("1")), store.Put("a/2", []byte("2")), store.Put("a/1", nil),
			store.Put("ab", []byte("3")), store.Delete("b"), store.Delete("absent"), store.Put("b", []byte("4")),
		}); err != nil {
			t.Fatal(err)
		}
		if got, want := contents(t, s, "", ""), "a/1=;a/2=2;ab=3;b=4;"; got != want {
			t.Errorf("have %q, want %q", got, want)
		}
		if got, want := contents(t, s, "a/", store.PrefixEnd("a/")), "a/1=;a/2=2;"; got != want {
			t.Errorf("have %q, want %q", got, want)
		}
		if v, ok, err := s.Get("a/1"); v == nil || len(v) != 0 || !ok || err != nil {
			t.Errorf("an empty value came back as %v, %v, %v", v, ok, err)
		}
		if _, ok, err := s.Get("a"); ok || err != nil {
			t.Errorf("an absent key: %v, %v", ok, err)
		}
		if err := s.Apply(ctx, []store.Op{store.DeletePrefix("a/"), store.Put("a/3", []byte("5"))}); err != nil {
			t.Fatal(err)
		}
		if got, want := contents(t, s, "", ""), "a/3=5;ab=3;b=4;"; got != want {
			t.Errorf("have %q, want %q", got, want)
		}
	})

	t.Run("all or nothing", func(t *testing.T) {
		s := open(t, account)
		if err := s.Apply(ctx, []store.Op{store.Put("a", []byte("1"))}); err != nil {
			t.Fatal(err)
		}
		if err := s.Apply(ctx, []store.Op{store.Put("a", []byte("2")), store.Put("", []byte("x"))}); err == nil {
			t.Fatal("a change without a name was taken")
		}
		gone, cancel := context.WithCancel(ctx)
		cancel()
		if err := s.Apply(gone, []store.Op{store.Put("a", []byte("3"))}); !errors.Is(err, context.Canceled) {
			t.Errorf("with a cancelled context: %v", err)
		}
		if got := contents(t, s, "", ""); got != "a=1;" {
			t.Errorf("have %q", got)
		}
	})

	t.Run("values are copies", func(t *testing.T) {
		s := open(t, account)
		v := []byte("mine")
		if err := s.Apply(ctx, []store.Op{store.Put("a", v)}); err != nil {
			t.Fatal(err)
		}
		copy(v, "XXXX")
		got, _, _ := s.Get("a")
		if !bytes.Equal(got, []byte("mine")) {
			t.Fatalf("have %q", got)
		}
		copy(got, "YYYY")
		if got, _, _ := s.Get("a"); !bytes.Equal(got, []byte("mine")) {
			t.Errorf("have %q", got)
		}
	})

	t.Run("scan stops", func(t *testing.T) {
		s := open(t, account)
		s.Apply(ctx, []store.Op{store.Put("a", nil), store.Put("b", nil)})
		stop, n := errors.New("enough"), 0
		if err := s.Scan("", "", func(string, []byte) error { n++; return stop }); err != stop || n != 1 {
			t.Errorf("Scan = %v after %d", err, n)
		}
	})

	t.Run("concurrent", func(t *testing.T) {
		s := open(t, account)
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := range 25 {
					// Both rows or neither: no reader may see one alone.
					v := fmt.Appendf(nil, "%d/%d", w, i)
					if err := s.Apply(ctx, []store.Op{store.Put(fmt.Sprintf("x%d", w), v), store.Put(fmt.Sprintf("y%d", w), v)}); err != nil {
						t.Error(err)
					}
					seen := map[string]string{}
					if err := s.Scan("", "", func(k string, v []byte) error { seen[k] = string(v); return nil }); err != nil {
						t.Error(err)
					}
					for k, v := range seen {
						if k[0] == 'x' && seen["y"+k[1:]] != v {
							t.Errorf("half a batch is visible: %s=%s, y=%s", k, v, seen["y"+k[1:]])
						}
					}
				}
			})
		}
		wg.Wait()
	})

	t.Run("like a map", func(t *testing.T) {
		s := open(t, account)
		rnd := rand.New(rand.NewPCG(1, 2))
		model := map[string]string{}
		for range 60 {
			var ops []store.Op
			for range rnd.IntN(6) {
				k := fmt.Sprintf("%c/%d", 'a'+rnd.IntN(3), rnd.IntN(8))
				switch rnd.IntN(8) {
				case 0:
					ops = append(ops, store.DeletePrefix(k[:2]))
					for m := range model {
						if strings.HasPrefix(m, k[:2]) {
							delete(model, m)
						}
					}
				case 1, 2:
					ops = append(ops, store.Delete(k))
					delete(model, k)
				default:
					v := fmt.Sprint(rnd.Int())
					ops = append(ops, store.Put(k, []byte(v)))
					model[k] = v
				}
			}
			if err := s.Apply(ctx, ops); err != nil {
				t.Fatal(err)
			}
			var want strings.Builder
			keys := make([]string, 0, len(model))
			for k := range model {
				keys = append(keys, k)
			}
			slices.Sort(keys)
			for _, k := range keys {
				fmt.Fprintf(&want, "%s=%s;", k, model[k])
			}
			if got := contents(t, s, "", ""); got != want.String() {
				t.Fatalf("have %q, want %q", got, want.String())
			}
		}
	})

	t.Run("closed", func(t *testing.T) {
		s := open(t, account)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("closing twice: %v", err)
		}
		if err := s.Apply(ctx, []store.Op{store.Put("a", nil)}); !errors.Is(err, store.ErrClosed) {
			t.Errorf("Apply = %v", err)
		}
		if _, _, err := s.Get("a"); !errors.Is(err, store.ErrClosed) {
			t.Errorf("Get = %v", err)
		}
		if err := s.Scan("", "", nil); !errors.Is(err, store.ErrClosed) {
			t.Errorf("Scan = %v", err)
		}
	})
}
