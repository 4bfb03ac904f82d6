// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
)

// BenchmarkLarge compares the hot path in a file with 100,000 groups and
// 1,000,000 key packages with that in a small one. Making the file takes
// minutes, so it runs only with LOCKSTEP_LARGE=1; with LOCKSTEP_LARGE=FILE the
// file is kept and used again.
//
//	x-small   time per operation / that in a small file, in the same run
//	idle-MB   resident memory that opening the file and one read cost
func BenchmarkLarge(b *testing.B) {
	where := os.Getenv("LOCKSTEP_LARGE")
	if where == "" {
		b.Skip("SKIPPED: set LOCKSTEP_LARGE=1, or to a file to keep")
	}
	if where == "1" {
		where = filepath.Join(b.TempDir(), "large.db")
	}
	const groups, users, each = 100_000, 20_000, 50
	if _, err := os.Stat(where); err != nil {
		fill(b, where, groups, users, each)
	}
	debug.FreeOSMemory()
	before := resident()
	large := openTest(b, where)
	if _, err := get(b, large, 0); err != nil {
		b.Fatal(err)
	}
	debug.FreeOSMemory()
	idle := float64(resident()-before) / (1 << 20)
	small := filepath.Join(b.TempDir(), "small.db")
	fill(b, small, 100, 20, each)
	little := openTest(b, small)

	b.Run("Append", func(b *testing.B) {
		compare(b, func(i int) { say(b, large, rand.IntN(groups), i) }, func(i int) { say(b, little, rand.IntN(100), i) })
		b.ReportMetric(idle, "idle-MB")
	})
	b.Run("Claim", func(b *testing.B) {
		run := rand.Uint64()
		take := func(s *Store, users int) func(int) {
			return func(i int) {
				if err := s.Update(b.Context(), func(tx store.Tx) error {
					_, err := tx.ClaimKeyPackages(&store.ClaimRequest{
						Requester: "juliet@capulet.example", ID: fmt.Sprint(run, i), User: user(rand.IntN(users)), Group: "g@mls.example", Suite: 1, Now: time.Now(),
					})
					return err
				}); err != nil {
					b.Fatal(err)
				}
			}
		}
		compare(b, take(large, users), take(little, 20))
	})
	b.Run("UserGroups", func(b *testing.B) {
		list := func(s *Store, users int) func(int) {
			return func(int) {
				if err := s.View(b.Context(), func(r store.Reader) error {
					_, err := r.UserGroups(user(rand.IntN(users)), "d1", "", 50)
					return err
				}); err != nil {
					b.Fatal(err)
				}
			}
		}
		compare(b, list(large, users), list(little, 20))
	})
}

// compare runs both in turns.
func compare(b *testing.B, large, small func(i int)) {
	var spent [2]time.Duration
	n := 0
	for b.Loop() {
		begin := time.Now()
		large(n)
		middle := time.Now()
		small(n)
		spent[0] += middle.Sub(begin)
		spent[1] += time.Since(middle)
		n++
	}
	b.ReportMetric(spent[0].Seconds()/spent[1].Seconds(), "x-small")
	b.ReportMetric(float64(spent[0].Microseconds())/float64(n), "large-us/op")
}

func user(i int) string { return fmt.Sprintf("user%d@capulet.example", i) }

func get(b *testing.B, s *Store, i int) (g *store.Group, err error) {
	err = s.View(b.Context(), func(r store.Reader) (err error) {
		g, err = r.Group(fmt.Sprintf("g%d@mls.example", i))
		return err
	})
	return g, err
}

func say(b *testing.B, s *Store, group, i int) {
	g, err := get(b, s, group)
	if err != nil {
		b.Fatal(err)
	}
	text := fmt.Appendf(nil, "%d %d %s", i, rand.Uint64(), strings.Repeat("x", 1000))
	if _, err := s.Append(b.Context(), &store.NewEntry{
		Group: g.Key, Rev: g.Rev, Kind: store.KindApplication, Ref: store.RefOf(text), Stamp: time.Now(), Bytes: text,
	}); err != nil {
		b.Fatal(err)
	}
}

// fill makes a file with groups of five members and two log entries, and users
// with key packages.
func fill(b *testing.B, path string, groups, users, each int) {
	s := openTest(b, path)
	step := func(n int, f func(tx store.Tx, i int) error) {
		for i := 0; i < n; {
			end := min(i+500, n)
			if err := s.Update(b.Context(), func(tx store.Tx) error {
				for k := i; k < end; k++ {
					if err := f(tx, k); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				b.Fatal(err)
			}
			i = end
		}
	}
	blob := make([]byte, 300)
	step(groups, func(tx store.Tx, i int) error {
		n := &store.NewGroup{
			JID: fmt.Sprintf("g%d@mls.example", i), GroupID: fmt.Appendf(nil, "%032d", i), Mode: "public",
			Header: blob, GroupInfo: blob, Now: time.Now(),
		}
		for m := range 5 {
			n.Members = append(n.Members, store.Joiner{User: user((i*7 + m*13) % users), Device: "d1", Leaf: uint32(m)})
			n.Nodes = append(n.Nodes, store.Node{Index: uint32(2 * m), Data: blob})
		}
		n.Roles = []store.Affiliation{{User: n.Members[0].User, Value: "owner"}}
		g, err := tx.CreateGroup(n)
		if err != nil {
			return err
		}
		for k := range 2 {
			text := fmt.Appendf(nil, "%d of %d", k, i)
			if _, err := tx.Append(&store.NewEntry{
				Group: g.Key, Rev: g.Rev, Kind: store.KindApplication, Ref: store.RefOf(text), Stamp: time.Now(), Bytes: text,
			}); err != nil {
				return err
			}
		}
		return nil
	})
	step(users, func(tx store.Tx, i int) error {
		kps := make([]store.KeyPackage, each)
		for k := range kps {
			ref := store.RefOf(fmt.Appendf(nil, "%d of %d", k, i))
			kps[k] = store.KeyPackage{Ref: ref[:], Suite: 1, Expires: time.Now().Add(90 * 24 * time.Hour), Caps: blob[:40], Bytes: blob}
		}
		_, err := tx.PutKeyPackages(user(i), "d1", kps, each, time.Now())
		return err
	})
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

// resident is this process's resident memory in bytes, 0 where that cannot be told.
func resident() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	n, _ := strconv.ParseInt(f[1], 10, 64)
	return n * int64(os.Getpagesize())
}
