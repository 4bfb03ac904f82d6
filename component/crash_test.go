// SPDX-License-Identifier: Apache-2.0

package component_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/component"
	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/component/store/postgres"
	"github.com/lockstep-im/lockstep/component/store/postgres/pgtest"
	"github.com/lockstep-im/lockstep/component/store/sqlite"
	"github.com/lockstep-im/lockstep/component/store/storetest"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// The crash test runs the service as a real process, ends it with SIGKILL at
// random instants while two members talk and commit, and starts it again. A
// member that gets no answer submits the same bytes again, as clients do. At the
// end the log must hold every entry that was accepted, once, in the place and
// with the chain that was answered, and all members must be in one epoch.

const (
	childEnv = "LOCKSTEP_COMPONENT_CHILD" // address of the server
	childDSN = "LOCKSTEP_COMPONENT_STORE" // store to open
)

func TestMain(m *testing.M) {
	if addr := os.Getenv(childEnv); addr != "" {
		fmt.Fprintln(os.Stderr, runChild(addr, os.Getenv(childDSN)))
		os.Exit(1)
	}
	os.Exit(pgtest.Main(m))
}

func openStore(ctx context.Context, dsn string) (store.Store, error) {
	if strings.HasPrefix(dsn, "sqlite:") {
		return sqlite.Open(ctx, strings.TrimPrefix(dsn, "sqlite:"), sqlite.Options{})
	}
	return postgres.Open(ctx, dsn, postgres.Options{})
}

func runChild(addr, dsn string) error {
	st, err := openStore(context.Background(), dsn)
	if err != nil {
		return err
	}
	c := testConfig(st)
	c.Address = addr
	svc, err := component.New(c)
	if err != nil {
		return err
	}
	return svc.Run(context.Background())
}

func testConfig(st store.Store) component.Config {
	off := component.Rate{PerSecond: -1}
	return component.Config{
		Domain: domain, Secret: "s3cret", Store: st, NudgeDelay: -1, Multicast: "none",
		Limits: component.Limits{Requests: off, Send: off, Domain: off, Create: off, Claims: off, Claimed: off, DomainClaims: off},
	}
}

func TestCrash(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { testCrash(t, "sqlite:"+filepath.Join(t.TempDir(), "db")) })
	t.Run("postgres", func(t *testing.T) { testCrash(t, pgtest.DSN(t)) })
}

// patient submits until there is an answer, whatever happens to the service.
func (a *actor) patient(to string, payload, out stanza.Payload) error {
	for {
		id := fmt.Sprintf("p%d", nextID())
		h := stanza.Header{Kind: stanza.IQ, Type: stanza.TypeSet, ID: id, From: a.full, To: to}
		if !a.s.tryWrite(string(h.Append(nil, payload))) {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		raw, ok := a.box().tryTake(100*time.Millisecond, "id='"+id+"'")
		if !ok {
			continue
		}
		err := answer(a.t, raw, out)
		if e := refusal(err); e.Condition == stanza.ResourceConstraint {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		return err
	}
}

// connected reports whether the service has connected n times.
func (s *server) connected(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns >= n
}

// tryWrite sends bytes if the service is connected.
func (s *server) tryWrite(raw string) bool {
	s.mu.Lock()
	conn := s.conn
	s.mu.Unlock()
	if conn == nil {
		return false
	}
	conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, err := conn.Write([]byte(raw))
	return err == nil
}

func testCrash(t *testing.T, dsn string) {
	srv := newServer(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go srv.serve(conn)
		}
	}()
	var mu sync.Mutex
	var child *exec.Cmd
	launch := func() {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), childEnv+"="+l.Addr().String(), childDSN+"="+dsn)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Error(err)
			return
		}
		mu.Lock()
		child = cmd
		mu.Unlock()
	}
	kill := func() {
		mu.Lock()
		cmd := child
		mu.Unlock()
		cmd.Process.Kill()
		cmd.Wait()
	}
	launch()
	s := &service{server: srv}

	j, r := newActor(t, s, juliet, "balcony"), newActor(t, s, romeo, "orchard")
	p := &stanza.PublishKeyPackages{Device: r.id, KeyPackages: []stanza.KeyPackage{r.keyPackage(false), r.keyPackage(true)}}
	r.must(r.patient(domain, p, nil))
	j.g = j.newGroup(balcony, groupdata.Public, groupdata.DefaultPolicy())
	gi, err := j.g.GroupInfo(&mls.GroupInfoOptions{ExternalPub: true, InlineTree: true})
	j.must(err)
	j.must(j.patient(domain, &stanza.CreateGroup{Local: "balcony", GroupInfo: stanza.Object{Bytes: gi.Bytes()}}, nil))
	genesis := groupdata.Genesis(j.g.GroupID())
	j.add(balcony, romeo)
	r.join(balcony)
	j.seq = 1

	// Members talk and commit, while somebody kills.
	var acked sync.Map // seq -> stanza.Accepted
	var stop atomic.Bool
	var wg sync.WaitGroup
	remember := func(a *actor, acc *stanza.Accepted) {
		if old, loaded := acked.LoadOrStore(acc.Seq, *acc); loaded && old.(stanza.Accepted).Ref != acc.Ref {
			t.Errorf("entry %d was answered to two submissions", acc.Seq)
		}
	}
	for _, a := range []*actor{j, r} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := 0; !stop.Load(); n++ {
				a.crashStep(n, remember)
			}
		}()
	}
	rounds := storetest.Rounds(t)
	for i := range rounds {
		for !srv.connected(i + 1) {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
		kill()
		launch()
	}
	defer kill()
	// A machine that does much else may have let nothing through between two kills.
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		n := 0
		acked.Range(func(_, _ any) bool { n++; return true })
		if n >= rounds {
			break
		}
	}
	stop.Store(true)
	wg.Wait()

	// Everybody catches up, and the log is what was answered.
	j.patientCatchUp()
	r.patientCatchUp()
	sameEpoch(t, j, r)
	entries := j.wholeLog()
	chain, refs := genesis, make(map[stanza.Ref]uint64)
	for i, e := range entries {
		if e.Seq != uint64(i+1) {
			t.Fatalf("entry %d stands at place %d", e.Seq, i+1)
		}
		chain = chain.Next(e.Seq, groupdata.Kind(e.Kind), e.Epoch, e.Bytes)
		if stanza.Hash(chain) != e.Chain {
			t.Errorf("the chain breaks at entry %d", e.Seq)
		}
		ref := stanza.MessageRef(e.Bytes)
		if other, ok := refs[ref]; ok {
			t.Errorf("entries %d and %d are the same", other, e.Seq)
		}
		refs[ref] = e.Seq
		if acc, ok := acked.Load(e.Seq); ok && (acc.(stanza.Accepted).Ref != ref || acc.(stanza.Accepted).Chain != e.Chain) {
			t.Errorf("entry %d is not what was accepted", e.Seq)
		}
	}
	n := 0
	acked.Range(func(seq, _ any) bool {
		n++
		if seq.(uint64) > uint64(len(entries)) {
			t.Errorf("entry %d was accepted and is not there", seq)
		}
		return true
	})
	if n < rounds || len(entries) < rounds {
		t.Errorf("only %d entries were accepted in %d rounds", n, rounds)
	}
	t.Logf("%d kills, %d entries, epoch %d", rounds, len(entries), j.g.Epoch())
}

// crashStep sends a message or, now and then, commits.
func (a *actor) crashStep(n int, remember func(*actor, *stanza.Accepted)) {
	var acc stanza.Accepted
	if n%4 != 3 {
		m, err := a.g.Seal(fmt.Appendf(nil, "%s %d", a.bare, n), nil)
		a.must(err)
		err = a.patient(balcony, &stanza.Send{Epoch: a.g.Epoch(), Ref: stanza.MessageRef(m.Bytes()), Message: stanza.MLS{Bytes: m.Bytes()}}, &acc)
		if err == nil {
			remember(a, &acc)
			return
		}
		a.patientCatchUp()
		return
	}
	p := a.pending(mls.CommitOptions{ForcePath: true})
	err := a.patient(balcony, submission(p, a.g.Epoch()), &acc)
	var stale *stanza.StaleEpoch
	switch {
	case err == nil:
		remember(a, &acc)
		a.pendingOwn = p
		a.patientCatchUp()
	case errors.As(err, &stale):
		a.patientCatchUp()
	default:
		a.t.Errorf("%s commits: %v", a.bare, err)
	}
}

// patientLog gets a page of the log, whatever happens to the service.
func (a *actor) patientLog(after uint64) *stanza.Log {
	for {
		id := fmt.Sprintf("l%d", nextID())
		h := stanza.Header{Kind: stanza.IQ, Type: stanza.TypeGet, ID: id, From: a.full, To: balcony}
		if a.s.tryWrite(string(h.Append(nil, &stanza.LogQuery{Device: a.id, After: after}))) {
			if raw, ok := a.box().tryTake(100*time.Millisecond, "id='"+id+"'"); ok {
				out := &stanza.Log{}
				if answer(a.t, raw, out) == nil {
					return out
				}
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (a *actor) wholeLog() (all []stanza.Entry) {
	for {
		page := a.patientLog(uint64(len(all)))
		all = append(all, page.Entries...)
		if page.Complete {
			return all
		}
	}
}

// patientCatchUp processes the log up to its end; the own pending commit is
// merged when it is seen there.
func (a *actor) patientCatchUp() {
	for {
		page := a.patientLog(a.seq)
		for _, e := range page.Entries {
			if e.Seq != a.seq+1 {
				a.t.Errorf("%s: entry %d after %d", a.bare, e.Seq, a.seq)
				return
			}
			a.seq = e.Seq
			if a.pendingOwn != nil && e.Kind == stanza.EntryCommit && stanza.MessageRef(e.Bytes) == stanza.MessageRef(a.pendingOwn.Message().Bytes()) {
				g, err := a.pendingOwn.Merge()
				a.must(err)
				a.g, a.pendingOwn = g, nil
				continue
			}
			if e.Kind == stanza.EntryControl {
				continue
			}
			m, err := mls.ParseMessage(e.Bytes)
			a.must(err)
			got, err := a.g.Process(m)
			if err != nil {
				continue // an own message
			}
			if c, ok := got.(*mls.StagedCommit); ok {
				g, err := c.Merge()
				a.must(err)
				a.g = g
			}
		}
		if page.Complete {
			return
		}
	}
}
