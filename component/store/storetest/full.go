// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/lockstep-im/lockstep/component/store"
)

// Fill writes to a store whose space limit takes away, until it refuses, and
// checks that it refuses truly and goes on when there is room again.
func Fill(t *testing.T, s store.Store, limit, lift func()) {
	w := &world{t, s}
	w.create(newGroup(balcony))
	limit()
	kept, unknown := make(map[string]uint64), make(map[string]bool)
	var mu sync.Mutex
	var refused atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 40 {
				text := fmt.Sprintf("%d of %d %s", n, i, strings.Repeat("x", 4000))
				var g *store.Group
				if err := s.View(w.ctx(), func(r store.Reader) (err error) { g, err = r.Group(balcony); return err }); err != nil {
					t.Errorf("a full store must still be read: %v", err)
					return
				}
				var a store.Accepted
				var err error
				if n%4 == 3 {
					a, err = s.AcceptCommit(w.ctx(), commit(g, text))
				} else {
					a, err = s.Append(w.ctx(), message(g, text))
				}
				var c *store.ConflictError
				switch {
				case err == nil:
					mu.Lock()
					kept[text] = a.Seq
					mu.Unlock()
				case errors.Is(err, store.ErrUnknownOutcome):
					refused.Add(1)
					mu.Lock()
					unknown[text] = true
					mu.Unlock()
				case errors.Is(err, store.ErrUnavailable):
					refused.Add(1)
				case !errors.As(err, &c):
					t.Errorf("writing to a full store: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	if len(kept) == 0 || refused.Load() == 0 {
		t.Fatalf("%d kept, %d refused: the store was not filled up", len(kept), refused.Load())
	}
	t.Logf("%d kept, %d refused, of them %d with unknown outcome", len(kept), refused.Load(), len(unknown))
	lift()
	w.say(balcony, "room again")
	w.view(func(r store.Reader) error {
		es, err := CheckLog(r, w.group(balcony))
		if err != nil {
			return err
		}
		seqs := make(map[string]uint64)
		for _, e := range es {
			seqs[string(e.Bytes)] = e.Seq
		}
		for text, seq := range kept {
			if seqs[text] != seq {
				t.Errorf("accepted as %d, in the log as %d", seq, seqs[text])
			}
		}
		for text := range seqs {
			if _, ok := kept[text]; !ok && !unknown[text] && text != "room again" {
				t.Errorf("%.20q is in the log but was refused", text)
			}
		}
		return nil
	})
}
