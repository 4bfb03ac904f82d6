// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/component/store/storetest"
)

func TestMain(m *testing.M) {
	storetest.Child(func(ctx context.Context, path string) (store.Store, error) { return Open(ctx, path, Options{}) })
	os.Exit(m.Run())
}

// TestCrash kills a writing process at random instants.
func TestCrash(t *testing.T) {
	rounds, total := storetest.Rounds(t), 0
	for done := 0; done < rounds; {
		// A file serves for some rounds, so that checking it does not take ever longer.
		path := filepath.Join(t.TempDir(), "ds.db")
		c := storetest.NewCrash(t)
		for n := 0; n < 20 && done < rounds; n++ {
			p := c.Start(path)
			if n%5 != 4 { // else it may die while it opens the file
				p.AtWork()
			}
			c.Pause(300 * time.Millisecond)
			c.Kill(p)
			s, err := Open(t.Context(), path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			c.Check(s)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			done++
		}
		if c.Acked() == 0 {
			t.Error("the processes wrote nothing before they were killed")
		}
		if c.Late() != 0 {
			t.Errorf("%d entries were written by dead processes", c.Late())
		}
		total += c.Acked()
	}
	t.Logf("%d rounds, %d entries answered, none lost", rounds, total)
}
