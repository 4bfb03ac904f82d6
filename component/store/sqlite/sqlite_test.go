// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"path/filepath"
	"testing"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/component/store/storetest"
)

// openTest opens a store in a directory of the test's own.
func openTest(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return openTest(t, filepath.Join(t.TempDir(), "ds.db")) })
}

// TestEpochsGo counts what is left of epochs whose commits the log has no more.
func TestEpochsGo(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "ds.db"))
	storetest.WriteFixture(t, s) // two commits
	count := func(want int64) {
		t.Helper()
		if n, err := pragmaInt(s.w.c, "SELECT COUNT(*) FROM epochs"); n != want || err != nil {
			t.Errorf("%d rows, %v, want %d", n, err, want)
		}
	}
	clean := func(p store.CleanPolicy) {
		t.Helper()
		if _, err := s.Clean(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	count(3)
	clean(store.CleanPolicy{LogAge: 1 << 62}) // snapshots only
	count(2)                                  // nothing refers to the first one
	clean(store.CleanPolicy{})
	count(1)
}
