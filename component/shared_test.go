// SPDX-License-Identifier: Apache-2.0

package component_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/component"
	"github.com/lockstep-im/lockstep/component/store/postgres/pgtest"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
)

// startOn runs a service on a store that others use, too.
func startOn(t testing.TB, dsn string) *service {
	t.Helper()
	st, err := openStore(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	s := &service{server: newServer(t), store: st}
	c := testConfig(st)
	c.Dial = s.dial
	svc, err := component.New(c)
	if err != nil {
		t.Fatal(err)
	}
	s.Service = svc
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- svc.Run(ctx) }()
	select {
	case <-svc.Ready():
	case <-time.After(10 * time.Second):
		t.Fatal("the service does not become ready")
	}
	t.Cleanup(func() {
		cancel()
		<-done
		st.Close()
	})
	return s
}

// TestTwoProcesses: two services on one database, members of one group on each,
// racing: one commit wins each epoch, and both serve the same log.
func TestTwoProcesses(t *testing.T) {
	dsn := pgtest.DSN(t)
	a, b := startOn(t, dsn), startOn(t, dsn)
	j, r := newActor(t, a, juliet, "balcony"), newActor(t, b, romeo, "orchard")
	r.publish(3)
	r.announce()
	j.announce()
	j.create(balcony)
	j.add(balcony, romeo)
	r.join(balcony)
	j.seq = 1
	actors := []*actor{j, r}
	const rounds = 25
	for round := range rounds {
		var wg sync.WaitGroup
		var won [2]bool
		for i, x := range actors {
			p := x.pending(mls.CommitOptions{ForcePath: true})
			wg.Add(1)
			go func() {
				defer wg.Done()
				var stale *stanza.StaleEpoch
				switch err := x.set(balcony, submission(p, x.g.Epoch()), nil); {
				case err == nil:
					won[i] = true
					g, err := p.Merge()
					x.must(err)
					x.g = g
					x.seq++
				case errors.As(err, &stale) && len(stale.Commits) > 0:
				default:
					t.Errorf("round %d: %v", round, err)
				}
			}()
		}
		wg.Wait()
		if won[0] == won[1] {
			t.Fatalf("round %d: won %v", round, won)
		}
		for i, x := range actors {
			if !won[i] {
				x.catchUp(balcony)
			}
		}
		sameEpoch(t, j, r)
		_, err := actors[round%2].sendText(balcony, "through either")
		j.must(err)
		for i, x := range actors {
			if i != round%2 {
				x.catchUp(balcony)
			} else {
				x.seq++
			}
		}
	}
	// The session of the one is known to the other: romeo's event went out
	// through juliet's process.
	if n := a.box(r.full).count("kind='application'"); n == 0 {
		t.Error("no event for romeo through the other process")
	}
	if n := a.Panics() + b.Panics(); n != 0 {
		t.Errorf("%v panics", n)
	}
}
