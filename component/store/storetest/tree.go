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
// every epoch with a tree kept in a map.
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
	now, cleaned := noon, time.Time{}
	for len(model) < 60 {
		now = now.Add(time.Duration(rnd.Int64N(int64(4 * time.Minute))))
		g := w.group(balcony)
		if rnd.IntN(4) == 0 {
			w.clean(now)
			cleaned = now.Add(-10 * time.Minute)
		}
		c := commit(g, fmt.Sprint("commit ", g.Epoch))
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
			return nil
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
