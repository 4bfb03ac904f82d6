// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
)

// The crash test runs a real process that writes as fast as it can and prints
// what it was answered, ends it with SIGKILL at a random instant, opens the
// store again and compares:
//
//	child                              parent
//	"try" ref text  ────────────────▶  remembers
//	Append, AcceptCommit, claim …
//	"ack" seq epoch chain ref  ─────▶  remembers
//	                     ◀── SIGKILL
//	                                   every ack is in the log, once, as answered;
//	                                   no gap, chain and epoch whole; a try without
//	                                   an ack can be submitted again

const childEnv = "LOCKSTEP_STORE_CRASH_CHILD"

// Rounds is how often a crash test kills: LOCKSTEP_CRASH_ROUNDS, or 20, or 5 with -short.
func Rounds(t testing.TB) int {
	if v := os.Getenv("LOCKSTEP_CRASH_ROUNDS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			t.Fatalf("LOCKSTEP_CRASH_ROUNDS=%q: not a number of rounds", v)
		}
		return n
	}
	if testing.Short() {
		return 5
	}
	return 20
}

// Child makes this process a child of a crash test if it was started as one,
// and then does not return. Call it first in TestMain.
func Child(open func(ctx context.Context, dsn string) (store.Store, error)) {
	dsn := os.Getenv(childEnv)
	if dsn == "" {
		return
	}
	err := runChild(open, dsn)
	fmt.Printf("err %v\n", err)
	os.Exit(1)
}

const crashGroups = 3

func crashGroup(i int) string { return fmt.Sprintf("crash%d@mls.example", i) }

func runChild(open func(context.Context, string) (store.Store, error), dsn string) error {
	ctx := context.Background()
	s, err := open(ctx, dsn)
	if err != nil {
		return err
	}
	var keys [crashGroups]store.GroupKey
	for i := range keys {
		err := patiently(func() error {
			return s.Update(ctx, func(tx store.Tx) error {
				g, err := tx.Group(crashGroup(i))
				if errors.Is(err, store.ErrNotFound) {
					g, err = tx.CreateGroup(newGroup(crashGroup(i)))
				}
				if err == nil {
					keys[i] = g.Key
				}
				return err
			})
		})
		var taken *store.ExistsError
		if errors.As(err, &taken) { // the other child was faster
			err = s.View(ctx, func(r store.Reader) error {
				g, err := r.Group(crashGroup(i))
				if err == nil {
					keys[i] = g.Key
				}
				return err
			})
		}
		if err != nil {
			return err
		}
	}
	out := &answers{w: os.Stdout}
	fail := make(chan error, 1)
	for i := range crashGroups {
		for n := range 4 {
			go func() {
				for turn := 0; ; turn++ {
					if err := crashTurn(ctx, s, keys[i], crashGroup(i), n, turn, out); err != nil {
						fail <- err
						return
					}
				}
			}()
		}
	}
	return <-fail
}

// answers writes whole lines.
type answers struct {
	mu sync.Mutex
	w  io.Writer
}

func (a *answers) printf(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fmt.Fprintf(a.w, format+"\n", args...)
}

// patiently tries again while the database is away.
func patiently(f func() error) error {
	for {
		err := f()
		if !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, store.ErrUnknownOutcome) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// crashTurn does one thing to a group.
func crashTurn(ctx context.Context, s store.Store, key store.GroupKey, jid string, writer, turn int, out *answers) error {
	var g *store.Group
	if err := patiently(func() error {
		return s.View(ctx, func(r store.Reader) (err error) {
			g, err = r.GroupByKey(key)
			return err
		})
	}); err != nil {
		return err
	}
	text := rand.Text()
	var a store.Accepted
	var err error
	var c *store.ConflictError
	switch {
	case writer == 0 && turn%3 == 0:
		m := commit(g, text)
		out.printf("try %s commit %s", jid, text)
		err = patiently(func() error { a, err = s.AcceptCommit(ctx, m); return err })
	case writer == 1 && turn%5 == 0:
		return patiently(func() error { return crashClaim(ctx, s, text, out) })
	default:
		e := message(g, text)
		if writer == 1 && turn%7 == 1 {
			e.Kind = store.KindProposal
		}
		out.printf("try %s entry %s", jid, text)
		err = patiently(func() error { a, err = s.Append(ctx, e); return err })
	}
	switch {
	case errors.As(err, &c):
		out.printf("no %s", text)
		return nil
	case err != nil:
		return err
	}
	out.printf("ack %s %s %d %d %s", jid, text, a.Seq, a.Epoch, a.Chain)
	return nil
}

// crashClaim publishes a package and claims one.
func crashClaim(ctx context.Context, s store.Store, text string, out *answers) error {
	kp := store.KeyPackage{Ref: []byte(text), Suite: suite, Expires: noon.Add(time.Hour), Bytes: []byte(text)}
	if err := s.Update(ctx, func(tx store.Tx) error {
		_, err := tx.PutKeyPackages(romeo, "r1", []store.KeyPackage{kp}, 1<<30, noon)
		return err
	}); err != nil {
		return err
	}
	var ds []store.ClaimedDevice
	if err := s.Update(ctx, func(tx store.Tx) (err error) {
		ds, err = tx.ClaimKeyPackages(claim(text, romeo))
		return err
	}); err != nil {
		return err
	}
	for _, d := range ds {
		if d.Status == store.ClaimOK && !d.Repeated {
			out.printf("claim %s", d.Ref)
		}
	}
	return nil
}

// A Crash is a crash test over several rounds on one store.
type Crash struct {
	t       *testing.T
	acked   map[string]map[string]string // JID, text: the answer
	tries   map[string]string            // text: JID and kind, not answered
	claimed map[string]bool
	late    int // entries that were committed after their process was dead
}

// NewCrash begins a crash test.
func NewCrash(t *testing.T) *Crash {
	return &Crash{t: t, acked: map[string]map[string]string{}, tries: map[string]string{}, claimed: map[string]bool{}}
}

// A Process is a running child.
type Process struct {
	cmd   *exec.Cmd
	out   bytes.Buffer
	ready chan struct{} // closed when it has said something
	done  chan struct{}
}

// Start starts a child on a store.
func (c *Crash) Start(dsn string) *Process {
	c.t.Helper()
	p := &Process{cmd: exec.Command(os.Args[0], "-test.run=^$"), ready: make(chan struct{}), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), childEnv+"="+dsn)
	p.cmd.Stderr = os.Stderr
	r, err := p.cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		io.CopyN(&p.out, r, 1)
		close(p.ready)
		io.Copy(&p.out, r)
	}()
	return p
}

// AtWork waits until a child writes.
func (p *Process) AtWork() { <-p.ready }

// Kill kills a child and takes note of what it said.
func (c *Crash) Kill(p *Process) {
	c.t.Helper()
	p.cmd.Process.Kill()
	<-p.done
	p.cmd.Wait()
	lines := p.out.Bytes()
	lines = lines[:bytes.LastIndexByte(lines, '\n')+1] // the last line may be cut
	for sc := bufio.NewScanner(bytes.NewReader(lines)); sc.Scan(); {
		f := strings.Fields(sc.Text())
		switch f[0] {
		case "try":
			c.tries[f[3]] = f[1] + " " + f[2]
		case "no":
			delete(c.tries, f[1])
		case "ack":
			delete(c.tries, f[2])
			if c.acked[f[1]] == nil {
				c.acked[f[1]] = map[string]string{}
			}
			c.acked[f[1]][f[2]] = strings.Join(f[3:], " ")
		case "claim":
			if c.claimed[f[1]] {
				c.t.Errorf("key package %s was given out twice", f[1])
			}
			c.claimed[f[1]] = true
		default:
			c.t.Errorf("child: %s", sc.Text())
		}
	}
}

// Refused waits for a child that cannot open the store and returns what it said.
func (c *Crash) Refused(p *Process) string {
	<-p.done
	p.cmd.Wait()
	return p.out.String()
}

// Pause waits for a random time.
func (c *Crash) Pause(most time.Duration) { time.Sleep(mathrand.N(most)) }

// Acked is the number of answered entries so far.
func (c *Crash) Acked() (n int) {
	for _, m := range c.acked {
		n += len(m)
	}
	return n
}

// Check compares a store with what children were answered.
func (c *Crash) Check(s store.Store) {
	c.t.Helper()
	ctx := c.t.Context()
	for jid, acked := range c.acked {
		if err := s.View(ctx, func(r store.Reader) error { return checkCrashed(r, jid, acked) }); err != nil {
			c.t.Fatalf("%s: %v", jid, err)
		}
	}
	// What was not answered can be submitted again, as a client does: it is in
	// the log already, or it is not and is judged as it is now.
	for text, try := range c.tries {
		jid, kind, _ := strings.Cut(try, " ")
		var there *store.Entry
		var a store.Accepted
		var err error
		var moved *store.ConflictError
		// A database server may still be finishing what a killed process has
		// sent it: then the group moves under this test, too.
		for again := true; again; again = errors.As(err, &moved) {
			var g *store.Group
			if err := s.View(ctx, func(r store.Reader) (err error) {
				if g, err = r.Group(jid); err != nil {
					return err
				}
				there, err = r.EntryByRef(g.Key, store.RefOf([]byte(text)))
				if errors.Is(err, store.ErrNotFound) {
					there, err = nil, nil
				}
				return err
			}); err != nil {
				c.t.Fatal(err)
			}
			if kind == "commit" {
				a, err = s.AcceptCommit(ctx, commit(g, text))
			} else {
				a, err = s.Append(ctx, message(g, text))
			}
		}
		switch {
		case err != nil:
			c.t.Errorf("submitting again: %v", err)
		case !a.Duplicate && there != nil, there != nil && (a.Seq != there.Seq || a.Chain != there.Chain):
			c.t.Errorf("submitting again: %+v, the log has %+v", a, there)
		case a.Duplicate && there == nil:
			c.late++
		}
	}
	clear(c.tries)
	if err := s.View(ctx, func(r store.Reader) error {
		for jid := range c.acked {
			g, err := r.Group(jid)
			if err == nil {
				_, err = CheckLog(r, g)
			}
			if err != nil {
				return fmt.Errorf("%s after submitting again: %w", jid, err)
			}
		}
		return nil
	}); err != nil {
		c.t.Fatal(err)
	}
}

// Late is the number of entries that were committed after their process was
// dead. In a file there can be none.
func (c *Crash) Late() int { return c.late }

func checkCrashed(r store.Reader, jid string, acked map[string]string) error {
	g, err := r.Group(jid)
	if err != nil {
		return err
	}
	es, err := CheckLog(r, g)
	if err != nil {
		return err
	}
	found := 0
	for _, e := range es {
		want, ok := acked[string(e.Bytes)]
		if !ok {
			continue
		}
		found++
		epoch := e.Epoch
		if e.Kind == store.KindCommit {
			epoch++
		}
		if got := fmt.Sprintf("%d %d %s", e.Seq, epoch, base64.StdEncoding.EncodeToString(e.Chain[:])); got != want {
			return fmt.Errorf("answered %q, in the log %q", want, got)
		}
	}
	if found != len(acked) {
		return fmt.Errorf("%d entries were answered, %d of them are in the log", len(acked), found)
	}
	nodes, err := r.Nodes(g.Key, g.Epoch)
	if err != nil {
		return err
	}
	if g.Epoch > 0 && (len(nodes) != 2 || string(nodes[1].Data) != fmt.Sprintf("root in %d", g.Epoch)) {
		return fmt.Errorf("the tree of epoch %d is %v", g.Epoch, nodes)
	}
	return nil
}
