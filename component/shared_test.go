// SPDX-License-Identifier: Apache-2.0

package component_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/component"
	"github.com/lockstep-im/lockstep/component/store/postgres/pgtest"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// startOn runs a service on a store that others use, too.
func startOn(t testing.TB, dsn string, change ...func(*component.Config)) *service {
	t.Helper()
	st, err := openStore(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	s := &service{server: newServer(t), store: st}
	c := testConfig(st)
	c.Dial = s.dial
	for _, f := range change {
		f(&c)
	}
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
	case <-time.After(patience):
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

// TestMovedElsewhere: what one process remembers of a group refuses nobody, and
// lets nobody through, after another process has changed the group.
func TestMovedElsewhere(t *testing.T) {
	dsn := pgtest.DSN(t)
	a, b := startOn(t, dsn), startOn(t, dsn)
	j, r, m := newActor(t, a, juliet, "balcony"), newActor(t, b, romeo, "orchard"), newActor(t, b, mercutio, "street")
	r.publish(3)
	m.publish(3)
	j.create(balcony)
	j.add(balcony, romeo)
	r.join(balcony)
	j.seq = 1
	commit := func(x *actor, o mls.CommitOptions) error {
		x.catchUp(balcony)
		acc, err := x.commit(balcony, o)
		if err == nil {
			x.seq = acc.Seq
		}
		return err
	}
	// remember leaves what is so now in the memory of b.
	remember := func() error {
		r.catchUp(balcony)
		acc, err := r.sendText(balcony, "remember me")
		if err == nil {
			r.seq = acc.Seq
		}
		return err
	}
	path := mls.CommitOptions{ForcePath: true}

	r.must(remember())
	j.must(commit(j, path))
	j.must(commit(j, path))
	if err := remember(); err != nil {
		t.Errorf("a message of an epoch that began elsewhere: %v", err)
	}
	j.must(commit(j, path))
	if err := commit(r, path); err != nil {
		t.Errorf("a commit in an epoch that began elsewhere: %v", err)
	}

	r.must(remember())
	j.catchUp(balcony)
	j.seq = j.add(balcony, mercutio).Seq
	m.join(balcony)
	if _, err := m.sendText(balcony, "here I am"); err != nil {
		t.Errorf("a message of one who was added elsewhere: %v", err)
	}
	typing := func() error {
		p, err := m.g.Seal([]byte("typing"), nil)
		m.must(err)
		return m.set(balcony, &stanza.Send{Epoch: m.g.Epoch(), Ref: stanza.MessageRef(p.Bytes()), Message: stanza.MLS{Bytes: p.Bytes()}, Ephemeral: true}, nil)
	}
	m.must(typing())
	leaf := m.g.Self().Index
	j.must(commit(j, mls.CommitOptions{Remove: []mls.LeafIndex{leaf}}))
	if err := typing(); refusal(err).Condition != stanza.Forbidden {
		t.Errorf("an ephemeral message of one who was removed elsewhere: %v", err)
	}

	roles := func(of groupdata.Role) mls.CommitOptions {
		raw, err := groupdata.NewRoles(juliet, groupdata.DefaultPolicy()).With(romeo, of).Encode()
		j.must(err)
		return mls.CommitOptions{AppData: []*mls.AppDataUpdate{{Component: groupdata.ComponentRoles, Op: mls.AppDataUpdateOp, Update: raw}}}
	}
	j.must(commit(j, roles(groupdata.Owner)))
	r.must(remember())
	j.must(commit(j, roles(groupdata.Member)))
	if err := r.set(balcony, &stanza.Destroy{}, nil); refusal(err).Condition != stanza.Forbidden {
		t.Errorf("a group destroyed by one who has ceased to own it elsewhere: %v", err)
	}
	if n := a.Panics() + b.Panics(); n != 0 {
		t.Errorf("%v panics", n)
	}
}

// TestSharedNudge: an account that has come and gone through another process is
// called again.
func TestSharedNudge(t *testing.T) {
	dsn := pgtest.DSN(t)
	a, b := startOn(t, dsn), startOn(t, dsn)
	j, r := newActor(t, a, juliet, "balcony"), newActor(t, b, romeo, "orchard")
	r.publish(3)
	j.create(balcony)
	j.add(balcony, romeo)
	r.join(balcony)
	for range 2 {
		nudged(t, a, b)
		r.announce()
		r.leaveSession()
		if err := r.get(domain, &stanza.Ping{}, nil); refusal(err).Condition != stanza.NotAcceptable {
			t.Fatalf("the session is still there: %v", err)
		}
		_, err := j.sendText(balcony, "wake")
		j.must(err)
	}
	nudged(t, a, b)
}

// nudged waits for romeo's nudge, which either process may send.
func nudged(t *testing.T, a, b *service) {
	t.Helper()
	for range 200 {
		for _, s := range []*service{a, b} {
			if _, ok := s.box(romeo).tryTake(50*time.Millisecond, "<nudge"); ok {
				return
			}
		}
	}
	t.Fatal("no nudge")
}

// TestSharedKeys: a process proposes a removal with the signing key that another
// has made since it began.
func TestSharedKeys(t *testing.T) {
	dsn := pgtest.DSN(t)
	a, b := startOn(t, dsn), startOn(t, dsn)
	j, r := newActor(t, a, juliet, "balcony"), newActor(t, a, romeo, "orchard")
	r.publish(3)
	j.create(balcony)
	j.add(balcony, romeo)
	j.seq = 1
	j.s = b
	j.must(j.set(balcony, &stanza.Affiliation{JID: romeo, Affiliation: stanza.RoleOutcast}, nil))
	var log stanza.Log
	j.must(j.get(balcony, &stanza.LogQuery{Device: j.id, After: j.seq}, &log))
	n := 0
	for _, e := range log.Entries {
		if e.Kind == stanza.EntryProposal {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d proposals to remove the banned, want 1", n)
	}
}

// TestSharedResume: a process whose link comes back asks the sessions that were
// opened through another one to catch up, too.
func TestSharedResume(t *testing.T) {
	dsn := pgtest.DSN(t)
	a, b := startOn(t, dsn), startOn(t, dsn)
	r := newActor(t, b, romeo, "orchard")
	r.announce()
	a.cut()
	a.box(r.full).take(t, "<resume")
}

// TestSharedRequests: the answer to a request of ours may go to another process,
// so that it is asked again.
func TestSharedRequests(t *testing.T) {
	a := startOn(t, pgtest.DSN(t), func(c *component.Config) { c.Multicast = "" })
	box := a.box("capulet.lit")
	first := box.take(t, "<iq", "disco#info")
	again := box.take(t, "<iq", "disco#info")
	if first != again {
		t.Errorf("asked first\n%s\nand then\n%s", first, again)
	}
}

// TestSessionsEndElsewhere: a process does not go on counting sessions that have
// ended through another.
func TestSessionsEndElsewhere(t *testing.T) {
	dsn := pgtest.DSN(t)
	few := func(c *component.Config) { c.Limits.DomainSessions = 2 }
	a, b := startOn(t, dsn, few), startOn(t, dsn, few)
	for i := range 3 {
		who := fmt.Sprintf("u%d@mantua.example", i)
		newActor(t, a, who, "x").announce()
		there := newActor(t, b, who, "x") // the same full JID
		there.leaveSession()
		if err := there.get(domain, &stanza.Ping{}, nil); refusal(err).Condition != stanza.NotAcceptable {
			t.Fatalf("the session is still there: %v", err)
		}
		if err := a.LoadSessions(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if n := a.Stats().Sessions; n != 0 {
		t.Errorf("%d sessions", n)
	}
}
