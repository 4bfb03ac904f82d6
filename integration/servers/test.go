// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// TB is what this package needs of a *testing.T or *testing.B.
type TB interface {
	Helper()
	Name() string
	Failed() bool
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	Cleanup(func())
}

// Start starts a server of the test's own, and ends it with the test. Where
// servers cannot be had the test is skipped or fails, as the package comment
// says.
func Start(t TB, f Flavour, o Options) *Server {
	t.Helper()
	s, err := newForTest(t, f, o)
	if err != nil {
		giveUp(t, f, err)
		return nil
	}
	began := time.Now().Add(-startTimeout)
	t.Cleanup(func() {
		if t.Failed() {
			s.saveLogs(t, began)
		}
		if err := s.Close(); err != nil {
			t.Logf("ending %s: %v", f, err)
		}
	})
	return s
}

// sharedComponents is how many component domains a shared server has, and so
// how many tests can hold one at a time.
const sharedComponents = 24

var shared struct {
	sync.Mutex
	byFlavour map[Flavour]*sharedServer
}

type sharedServer struct {
	sync.Mutex
	server *Server
	err    error // kept: what failed once is not tried for every test
}

// Shared returns this process's server of a flavour and starts it on first use.
// Tests must leave it running and whole; what they create in it should have
// names of their own: [Server.Account], [Server.LeaseComponent]. It has MUC,
// archiving off by default, uploads, multicast where there is one, and no rate
// limits.
func Shared(t TB, f Flavour) *Server {
	t.Helper()
	shared.Lock()
	if shared.byFlavour == nil {
		shared.byFlavour = map[Flavour]*sharedServer{}
	}
	e := shared.byFlavour[f]
	if e == nil {
		e = &sharedServer{}
		shared.byFlavour[f] = e
	}
	shared.Unlock()

	e.Lock()
	defer e.Unlock()
	if e.server == nil && e.err == nil {
		o := Options{Domain: f.sharedDomain(), Multicast: true, Upload: true}
		for i := range sharedComponents {
			o.Components = append(o.Components, Component{Domain: fmt.Sprintf("mls%d.%s", i+1, o.Domain)})
		}
		e.server, e.err = newForTest(t, f, o)
	}
	if e.err != nil {
		giveUp(t, f, e.err)
		return nil
	}
	s, began := e.server, time.Now()
	t.Cleanup(func() {
		if t.Failed() {
			s.saveLogs(t, began)
		}
	})
	return s
}

// lent are servers that wait for their next test.
var lent struct {
	sync.Mutex
	free map[Flavour][]*Server
}

// Lend gives the test a server that no other test uses at the same time, and
// passes it on when the test ends: for tests that need to be alone on a domain,
// as a delivery service that clients discover is, but leave the server running
// and whole. It has one component, MUC, archiving off by default, uploads,
// multicast where there is one, and no rate limits.
func Lend(t TB, f Flavour) *Server {
	t.Helper()
	lent.Lock()
	var s *Server
	if n := len(lent.free[f]); n > 0 {
		s = lent.free[f][n-1]
		lent.free[f] = lent.free[f][:n-1]
	}
	lent.Unlock()
	if s == nil {
		var err error
		if s, err = newForTest(t, f, Options{Multicast: true, Upload: true}); err != nil {
			giveUp(t, f, err)
			return nil
		}
	}
	began := time.Now()
	t.Cleanup(func() {
		if t.Failed() {
			s.saveLogs(t, began)
		}
		lent.Lock()
		defer lent.Unlock()
		if lent.free == nil {
			lent.free = map[Flavour][]*Server{}
		}
		lent.free[f] = append(lent.free[f], s)
	})
	return s
}

// LeaseComponent gives the test a component domain that no other test holds,
// and takes it back when the test ends. It waits when all are out.
func (s *Server) LeaseComponent(t TB) Component {
	t.Helper()
	for {
		s.mu.Lock()
		if n := len(s.free); n > 0 {
			// The one returned longest ago: what its last user left in flight is gone.
			c := s.free[0]
			s.free = s.free[1:]
			s.mu.Unlock()
			t.Cleanup(func() {
				s.mu.Lock()
				s.free = append(s.free, c)
				s.mu.Unlock()
				select {
				case s.leased <- struct{}{}:
				default:
				}
			})
			return c
		}
		s.mu.Unlock()
		select {
		case <-s.leased:
		case <-time.After(5 * time.Minute):
			t.Fatalf("servers: all %d component domains of %s are out; a test holds one for more than 5 minutes", len(s.opts.Components), s.flavour)
			return Component{}
		}
	}
}

func newForTest(t TB, f Flavour, o Options) (*Server, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// Building an image may take minutes: stop in time to say so.
	if d, ok := t.(interface{ Deadline() (time.Time, bool) }); ok {
		if at, ok := d.Deadline(); ok {
			ctx, cancel = context.WithDeadline(ctx, at.Add(-15*time.Second))
			defer cancel()
		}
	}
	began := time.Now()
	s, err := New(ctx, f, o)
	if err == nil {
		t.Logf("%s (%s) is up after %s: %s", f, s.Domain(), time.Since(began).Round(100*time.Millisecond), s.Where())
	}
	return s, err
}

// An absentError says that a server cannot be had here: nothing is broken.
type absentError struct {
	flavour Flavour
	why     []string
}

func (e *absentError) Error() string {
	return fmt.Sprintf("servers: no %s here: %s", e.flavour, strings.Join(e.why, "; "))
}

// Absent reports whether an error of [New] means that the server cannot be had
// on this machine, rather than that it failed.
func Absent(err error) bool {
	var a *absentError
	return errors.As(err, &a)
}

// giveUp skips where absence is allowed, and fails otherwise.
func giveUp(t TB, f Flavour, err error) {
	t.Helper()
	mode, merr := modeFromEnv()
	if merr != nil {
		t.Fatalf("%v", merr)
		return
	}
	var absent *absentError
	if !errors.As(err, &absent) {
		t.Fatalf("%v", err)
		return
	}
	cure := "start a Docker engine, or install the server (apt-get install prosody lua-unbound ejabberd)"
	switch {
	case mode == modeOff:
		leftOut.note(string(f), "LOCKSTEP_E2E=off")
		t.Skipf("SKIPPED, NOT RUN ON %s: LOCKSTEP_E2E=off", strings.ToUpper(string(f)))
	case mode == modeRequire || mode == modeDocker:
		t.Fatalf("%v (LOCKSTEP_E2E=%s); %s", err, mode, cure)
	default:
		leftOut.note(string(f), strings.Join(absent.why, "; ")+"; "+cure)
		t.Skipf("SKIPPED, NOT RUN ON %s: %v; %s; LOCKSTEP_E2E=require makes this a failure", strings.ToUpper(string(f)), err, cure)
	}
}

// The values of LOCKSTEP_E2E.
const (
	modeAuto    = ""
	modeRequire = "require"
	modeDocker  = "docker"
	modeNative  = "native"
	modeOff     = "off"
)

func modeFromEnv() (string, error) {
	switch m := os.Getenv("LOCKSTEP_E2E"); m {
	case modeAuto, modeRequire, modeDocker, modeNative, modeOff:
		return m, nil
	default:
		return "", fmt.Errorf("servers: LOCKSTEP_E2E=%q: one of require, docker, native, off, or unset", m)
	}
}

func keep() bool         { return os.Getenv("KEEP") == "1" }
func debugServers() bool { return os.Getenv("LOCKSTEP_SERVER_DEBUG") == "1" }

var unsafeName = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// saveLogs keeps what the server logged during a failed test, and shows its end.
func (s *Server) saveLogs(t TB, since time.Time) {
	t.Helper()
	dir := os.Getenv("LOCKSTEP_SERVER_LOGS")
	if dir == "" {
		dir = filepath.Join(os.TempDir(), "lockstep-server-logs")
	}
	var end tail
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	name := filepath.Join(dir, unsafeName.ReplaceAllString(t.Name(), "_")+"-"+string(s.flavour)+"-"+s.Domain()+".log")
	err := os.MkdirAll(dir, 0o777)
	var f *os.File
	if err == nil {
		f, err = os.Create(name)
	}
	if err == nil {
		err = s.in.logs(ctx, since, multi{f, &end})
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Logf("saving the log of %s: %v", s.flavour, err)
		return
	}
	t.Logf("log of %s during this test: %s; its end:\n%s", s.flavour, name, end.String())
}

// running are the servers that this process has not closed.
var running struct {
	sync.Mutex
	servers []*Server
}

func register(s *Server) {
	running.Lock()
	defer running.Unlock()
	running.servers = append(running.servers, s)
}

func unregister(s *Server) {
	running.Lock()
	defer running.Unlock()
	running.servers = slices.DeleteFunc(running.servers, func(o *Server) bool { return o == s })
}

// CloseAll ends every server of this process, shared ones included, and the
// networks between them.
func CloseAll() error {
	running.Lock()
	list := slices.Clone(running.servers)
	running.Unlock()
	var errs []error
	for _, s := range list {
		errs = append(errs, s.Close())
	}
	shared.Lock()
	shared.byFlavour = nil
	shared.Unlock()
	lent.Lock()
	lent.free = nil
	lent.Unlock()
	errs = append(errs, closeBackends())
	return errors.Join(errs...)
}

// Main runs a package's tests (m is a *testing.M) and then ends the servers:
//
//	func TestMain(m *testing.M) { os.Exit(servers.Main(m)) }
func Main(m interface{ Run() int }) int {
	code := m.Run()
	if text := leftOut.text(); text != "" {
		fmt.Fprint(os.Stderr, text)
		// "go test ./..." shows no output of packages that pass. Somebody at a
		// terminal is told all the same what has not been tested.
		if tty, err := os.OpenFile("/dev/tty", os.O_WRONLY, 0); err == nil {
			fmt.Fprint(tty, text)
			tty.Close()
		}
	}
	if err := CloseAll(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	return code
}

// Missing ends a test that needs something which this machine does not have:
// it is skipped, loudly, or fails where LOCKSTEP_E2E demands everything. what
// says what is missing and how to get it.
func Missing(t TB, what string) {
	t.Helper()
	mode, err := modeFromEnv()
	switch {
	case err != nil:
		t.Fatalf("%v", err)
	case mode == modeRequire || mode == modeDocker:
		t.Fatalf("%s (LOCKSTEP_E2E=%s)", what, mode)
	default:
		leftOut.note("", what)
		t.Skipf("SKIPPED: %s; LOCKSTEP_E2E=require makes this a failure", what)
	}
}
