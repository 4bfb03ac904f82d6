// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/component/store/postgres/pgtest"
	"github.com/lockstep-im/lockstep/component/store/storetest"
)

func TestMain(m *testing.M) {
	storetest.Child(func(ctx context.Context, dsn string) (store.Store, error) { return Open(ctx, dsn, Options{}) })
	os.Exit(pgtest.Main(m))
}

// TestCrash kills two writing processes on one database, at random instants.
func TestCrash(t *testing.T) {
	rounds, total := storetest.Rounds(t), 0
	for done := 0; done < rounds; {
		dsn := pgtest.DSN(t)
		c := storetest.NewCrash(t)
		for n := 0; n < 20 && done < rounds; n++ {
			p, q := c.Start(dsn), c.Start(dsn)
			if n%5 != 4 { // else they may die while they connect
				p.AtWork()
				q.AtWork()
			}
			c.Pause(400 * time.Millisecond)
			c.Kill(p)
			c.Pause(50 * time.Millisecond)
			c.Kill(q)
			s, err := Open(t.Context(), dsn, Options{})
			if err != nil {
				t.Fatal(err)
			}
			c.Check(s)
			s.Close()
			done++
		}
		if c.Acked() == 0 {
			t.Error("the processes wrote nothing before they were killed")
		}
		total += c.Acked()
	}
	t.Logf("%d rounds, %d entries answered, none lost", rounds, total)
}

// TestServerCrash ends the database server while two processes write, which
// have to live through it.
func TestServerCrash(t *testing.T) {
	cluster := pgtest.NewCluster(t)
	c := storetest.NewCrash(t)
	p, q := c.Start(cluster.DSN()), c.Start(cluster.DSN())
	p.AtWork()
	q.AtWork()
	for range max(2, storetest.Rounds(t)/5) {
		time.Sleep(300 * time.Millisecond)
		c.Pause(300 * time.Millisecond)
		cluster.Kill()
		c.Pause(100 * time.Millisecond)
		if err := cluster.Start(); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(300 * time.Millisecond)
	c.Kill(p)
	c.Kill(q)
	c.Check(openTest(t, cluster.DSN()))
	if c.Acked() == 0 {
		t.Error("the processes wrote nothing")
	}
	t.Logf("%d entries answered, none lost", c.Acked())
}
