// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/component"
	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/component/store/postgres"
	"github.com/lockstep-im/lockstep/component/store/postgres/pgtest"
	"github.com/lockstep-im/lockstep/component/store/sqlite"
	"github.com/lockstep-im/lockstep/integration/play"
)

// A service is the delivery service of a scenario: in this process, or lockstepd in one
// or two processes of its own.
type service struct {
	p      *play.Play
	domain string
	secret string
	spec   play.ServiceSpec
	dir    string
	tap    *play.Listener
	pg     *pgtest.Cluster

	mu       sync.Mutex
	cancel   context.CancelFunc // in this process
	ended    chan error
	children []*child
}

// rates are out of the way of scenarios that do in seconds what people do in days.
var rates = component.Limits{
	Requests: component.Rate{PerSecond: 10_000, Burst: 10_000}, Domain: component.Rate{PerSecond: 10_000, Burst: 10_000},
	Send: component.Rate{PerSecond: 10_000, Burst: 10_000}, Claims: component.Rate{PerSecond: 10_000, Burst: 10_000},
	Claimed: component.Rate{PerSecond: 10_000, Burst: 10_000}, DomainClaims: component.Rate{PerSecond: 10_000, Burst: 10_000},
	Create: component.Rate{PerSecond: 1_000, Burst: 1_000},
}

var rateFlags = []string{"requests", "domain", "send", "claims", "claimed", "domain-claims", "create"}

func makeService(p *play.Play, host play.Host, spec play.ServiceSpec, tap *play.Tap) (play.Service, error) {
	t := p.T.(testing.TB)
	s := &service{p: p, spec: spec, dir: t.TempDir()}
	s.domain, s.secret = host.Component()
	if len(spec.Options) > 0 {
		s.spec.Process = true
	}
	if spec.Postgres {
		s.pg = pgtest.NewCluster(t)
		p.Power("postgres", map[string]func() error{
			"stop":  func() error { s.pg.Kill(); return nil },
			"kill":  func() error { s.pg.Kill(); return nil },
			"start": s.pg.Start,
		})
	}
	var err error
	if s.tap, err = play.Listen(tap, host.ComponentAddr()); err != nil {
		return nil, err
	}
	if spec.Twice {
		p.Power("one-ds", map[string]func() error{"kill": s.killOne})
	}
	p.Verb("ds-state", func(_ context.Context, w []string) error { return s.state(w) })
	return s, nil
}

func (s *service) Domain() string { return s.domain }
func (s *service) file() string   { return filepath.Join(s.dir, "lockstep.db") }

func (s *service) Files() []string {
	if s.spec.Postgres {
		return nil
	}
	return []string{s.file(), s.file() + "-wal"}
}

// Start returns when the service is attached to its server.
func (s *service) Start(ctx context.Context) error {
	if s.spec.Process {
		n := 1
		if s.spec.Twice {
			n = 2
		}
		for i := range n {
			if err := s.spawn(ctx, i); err != nil {
				return err
			}
		}
		return nil
	}
	st, err := s.open(ctx)
	if err != nil {
		return err
	}
	svc, err := component.New(component.Config{Domain: s.domain, Secret: s.secret, Address: s.tap.Addr(), Store: st,
		Logger: logger("ds"), Limits: rates, NudgeDelay: time.Second})
	if err != nil {
		return errors.Join(err, st.Close())
	}
	run, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	s.mu.Lock()
	s.cancel, s.ended = cancel, ended
	s.mu.Unlock()
	go func() { ended <- errors.Join(svc.Run(run), st.Close()) }()
	select {
	case <-svc.Ready():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the service did not attach to its server: %s", svc.Stats().LinkError)
	}
}

func (s *service) open(ctx context.Context) (store.Store, error) {
	if s.spec.Postgres {
		return postgres.Open(ctx, s.pg.DSN(), postgres.Options{})
	}
	return sqlite.Open(ctx, s.file(), sqlite.Options{})
}

// Stop drains.
func (s *service) Stop(context.Context) error {
	s.mu.Lock()
	cancel, ended, children := s.cancel, s.ended, s.children
	s.cancel, s.children = nil, nil
	s.mu.Unlock()
	if cancel != nil {
		cancel()
		return <-ended
	}
	var err error
	for _, c := range children {
		err = errors.Join(err, c.end(syscall.SIGTERM))
	}
	return err
}

// Kill ends a process without a word.
func (s *service) Kill() error {
	s.mu.Lock()
	children := s.children
	s.children = nil
	s.mu.Unlock()
	if len(children) == 0 {
		return errors.New("the delivery service is not a process, or does not run")
	}
	for _, c := range children {
		_ = c.end(syscall.SIGKILL)
	}
	return nil
}

func (s *service) killOne() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.children) == 0 {
		return errors.New("no lockstepd runs")
	}
	_ = s.children[0].end(syscall.SIGKILL)
	s.children = s.children[1:]
	return nil
}

// Close ends everything; what is being killed already is fine.
func (s *service) Close() error {
	err := s.Stop(context.Background())
	s.tap.Close()
	return err
}

// state saves and restores the service's SQLite file while it is stopped: the means of a
// service that lies about the past.
func (s *service) state(w []string) error {
	if len(w) != 2 || s.spec.Postgres {
		return errors.New("ds-state save, or restore?")
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		src, dst := s.file()+suffix, s.file()+suffix+".saved"
		if w[1] == "restore" {
			src, dst = dst, src
		}
		if err := copyFile(src, dst); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// A child is one lockstepd.
type child struct {
	cmd  *exec.Cmd
	done chan error
}

func (c *child) end(sig os.Signal) error {
	if err := c.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case err := <-c.done:
		return err
	case <-time.After(20 * time.Second):
		_ = c.cmd.Process.Kill()
		return errors.Join(fmt.Errorf("lockstepd did not end 20 s after %v", sig), <-c.done)
	}
}

// spawn starts a lockstepd and waits until it is attached: until its health says so, or,
// for a second one on a server that takes one link only, until it says why not.
func (s *service) spawn(ctx context.Context, n int) error {
	bin, err := lockstepd()
	if err != nil {
		return err
	}
	secret := filepath.Join(s.dir, "secret")
	if err := os.WriteFile(secret, []byte(s.secret), 0o600); err != nil {
		return err
	}
	st := s.file()
	if s.spec.Postgres {
		st = s.pg.DSN()
	}
	args := []string{"serve", "--domain", s.domain, "--server", s.tap.Addr(), "--secret-file", secret, "--store", st, "--http", "127.0.0.1:0",
		"--nudge-delay", "1s", "--log-level", "debug"}
	for _, f := range rateFlags {
		args = append(args, "--limits-"+f, "10000/10000")
	}
	for k, v := range s.spec.Options {
		args = append(args, "--"+k, v)
	}
	cmd := exec.Command(bin, args...)
	cmd.Env = append(os.Environ(), "HOME="+s.dir)
	log, err := os.OpenFile(filepath.Join(s.dir, fmt.Sprintf("lockstepd%d.log", n)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	before, err := log.Seek(0, io.SeekEnd) // what earlier processes have written
	if err != nil {
		log.Close()
		return err
	}
	cmd.Stdout, cmd.Stderr = log, log
	done, err := startChild(cmd, nil)
	log.Close() // the child has its own
	if err != nil {
		return err
	}
	c := &child{cmd: cmd, done: make(chan error, 1)}
	go func() { c.done <- <-done }()
	s.mu.Lock()
	s.children = append(s.children, c)
	s.mu.Unlock()
	for {
		health := "not asked yet"
		if m := httpAddress.FindSubmatch(tailOf(log.Name(), before)); m != nil {
			health = get(ctx, fmt.Sprintf("http://%s/healthz", m[1]))
		}
		if strings.Contains(health, `"link":true`) || n > 0 && strings.Contains(health, "conflict") {
			return nil
		}
		select {
		case err := <-c.done:
			c.done <- err
			return fmt.Errorf("lockstepd ended: %v\n%s", err, tail(tailOf(log.Name(), 0), 4000))
		case <-ctx.Done():
			return fmt.Errorf("lockstepd did not attach: %s\n%s", health, tail(tailOf(log.Name(), 0), 4000))
		case <-time.After(30 * time.Millisecond):
		}
	}
}

// httpAddress is how lockstepd's log names where it answers HTTP. It chooses the port
// itself: one that was found free beforehand is now and then taken by then.
var httpAddress = regexp.MustCompile(`msg="metrics and health" address=(\S+)\n`)

// tailOf is what a file holds from an offset on.
func tailOf(name string, from int64) []byte {
	b, _ := os.ReadFile(name)
	return b[min(from, int64(len(b))):]
}

func tail(b []byte, n int) string { return string(b[max(0, len(b)-n):]) }

func get(ctx context.Context, url string) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := httpRequest(ctx, url)
	if err != nil {
		return err.Error()
	}
	defer req.Body.Close()
	b, err := io.ReadAll(io.LimitReader(req.Body, 1<<20))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// lockstepd builds the daemon once per test process.
var lockstepd = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "lockstepd")
	if err != nil {
		return "", err
	}
	atExit = append(atExit, func() { os.RemoveAll(dir) })
	bin := filepath.Join(dir, "lockstepd")
	args := []string{"build", "-o", bin}
	if raceEnabled {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "github.com/lockstep-im/lockstep/component/cmd/lockstepd")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building lockstepd: %w\n%s", err, out)
	}
	return bin, nil
})

var atExit []func()
