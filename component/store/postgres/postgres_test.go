// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"testing"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/component/store/postgres/pgtest"
	"github.com/lockstep-im/lockstep/component/store/storetest"
)

func openTest(t testing.TB, dsn string) *Store {
	t.Helper()
	s, err := Open(t.Context(), dsn, Options{})
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
	storetest.Run(t, func(t *testing.T) store.Store { return openTest(t, pgtest.DSN(t)) })
}

// Two processes on one database are two stores: nothing in memory is shared.

func openTwo(t *testing.T) (a, b *Store) {
	dsn := pgtest.DSN(t)
	return openTest(t, dsn), openTest(t, dsn)
}

func TestTwoRaceCommits(t *testing.T) {
	a, b := openTwo(t)
	storetest.RaceCommits(t, a, b)
}

func TestTwoRaceAppends(t *testing.T) {
	a, b := openTwo(t)
	storetest.RaceAppends(t, a, b)
}

func TestTwoRaceClaims(t *testing.T) {
	a, b := openTwo(t)
	storetest.RaceClaims(t, a, b)
}
