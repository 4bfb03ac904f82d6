// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
)

// testTreeModel changes a tree at random, cleans at random times, and compares
// every epoch with a tree kept in a map, and the commits that the epochs lead to
// with those in the log. Now and then the log is cut, or the group begins anew.
func testTreeModel(t *testing.T, w *world) {
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	w.create(newGroup(balcony))
	type epoch struct {
		tree  map[uint32]string
		ended time.Time
	}
	model := []epoch{{tree: map[uint32]string{0: "leaf of juliet"}}}
	now, cleaned, base := noon, time.Time{}, uint64(0)
	for i := range 80 {
		now = now.Add(time.Duration(rnd.Int64N(int64(4 * time.Minute))))
		g := w.group(balcony)
		switch rnd.IntN(24) {
		case 0, 1, 2, 3, 4, 5:
			w.clean(now)
			cleaned = now.Add(-10 * time.Minute)
		case 6, 7:
			w.update(func(tx store.Tx) error {
				return tx.Ack(g.Key, juliet, "j1", g.First+rnd.Uint64N(g.Head-g.First+2), now)
			})
		case 8:
			now = now.Add(time.Hour) // LogMinAge
		case 9:
			w.say(balcony, fmt.Sprint("message ", i))
			g = w.group(balcony)
		case 10:
			n := newGroup(balcony)
			n.GroupID, n.Now = fmt.Append(nil, "id ", i), now
			w.update(func(tx store.Tx) (err error) {
				g, err = tx.ReplaceGroup(g.Key, g.Rev, n)
				return err
			})
			base = g.Head
			model = []epoch{{tree: map[uint32]string{0: "leaf of juliet"}}}
		}
		c := commit(g, fmt.Sprint("commit ", i))
		c.Stamp = now
		next := maps.Clone(model[len(model)-1].tree)
		c.Nodes = nil
		for range rnd.IntN(6) {
			i := rnd.Uint32N(12)
			if rnd.IntN(8) == 0 {
				i = 1<<32 - 1 - i
			}
			n := store.Node{Index: i}
			if rnd.IntN(3) > 0 {
				n.Data = make([]byte, rnd.IntN(300))
				for k := range n.Data {
					n.Data[k] = byte(rnd.Uint32())
				}
			}
			if slices.ContainsFunc(c.Nodes, func(o store.Node) bool { return o.Index == i }) {
				continue
			}
			c.Nodes = append(c.Nodes, n)
			if delete(next, i); n.Data != nil {
				next[i] = string(n.Data)
			}
		}
		w.accept(c)
		model[len(model)-1].ended = now
		model = append(model, epoch{tree: next})

		w.view(func(r store.Reader) error {
			for e, m := range model {
				nodes, err := r.Nodes(g.Key, uint64(e))
				if errors.Is(err, store.ErrNotFound) && !m.ended.IsZero() && m.ended.Before(cleaned) {
					continue
				}
				if !m.ended.IsZero() && m.ended.Add(time.Millisecond).Before(cleaned) {
					t.Errorf("epoch %d of %d was not forgotten", e, len(model))
				}
				if err != nil {
					return fmt.Errorf("epoch %d of %d: %w", e, len(model), err)
				}
				got := make(map[uint32]string)
				for _, n := range nodes {
					got[n.Index] = string(n.Data)
				}
				if !maps.Equal(got, m.tree) || len(nodes) != len(got) {
					t.Errorf("epoch %d of %d is not what it was", e, len(model))
				}
				if !slices.IsSortedFunc(nodes, func(a, b store.Node) int { return int(int64(a.Index) - int64(b.Index)) }) {
					t.Errorf("the nodes of epoch %d are not sorted", e)
				}
			}
			g, err := r.GroupByKey(g.Key)
			if err != nil {
				return err
			}
			from := rnd.Uint64N(g.Epoch + 1)
			var want, got []uint64
			log, err := r.Log(g.Key, store.LogQuery{After: g.First - 1, Limit: 1000})
			for _, e := range log {
				if e.Kind == store.KindCommit && e.Seq > base && e.Epoch >= from {
					want = append(want, e.Seq)
				}
			}
			commits, err2 := r.Commits(g.Key, from, 1000, 0)
			for _, e := range commits {
				got = append(got, e.Seq)
			}
			w.same("the commits", got, want)
			return errors.Join(err, err2)
		})
	}
	w.clean(now.Add(time.Hour))
	w.view(func(r store.Reader) error {
		nodes, err := r.Nodes(w.group(balcony).Key, uint64(len(model)-1))
		if len(nodes) != len(model[len(model)-1].tree) {
			t.Errorf("the current tree has %d nodes, want %d", len(nodes), len(model[len(model)-1].tree))
		}
		return err
	})
}
