// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/component"
	ds "github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/component/store/postgres"
	"github.com/lockstep-im/lockstep/component/store/sqlite"
	"github.com/lockstep-im/lockstep/integration/play"
)

// A stage is the play.T of a command: what fails, fails the command.
type stage struct {
	verbose bool
	ctx     context.Context
	svc     *component.Service

	mu       sync.Mutex
	cleanups []func()
	failed   bool
}

type fatal string

var _ play.T = (*stage)(nil)

func (s *stage) Helper()      {}
func (s *stage) Name() string { return "load" }
func (s *stage) Failed() bool { return s.failed }
func (s *stage) Logf(format string, args ...any) {
	if s.verbose {
		fmt.Fprintf(os.Stderr, "load: "+format+"\n", args...)
	}
}
func (s *stage) Errorf(format string, args ...any) {
	s.failed = true
	fmt.Fprintf(os.Stderr, "load: "+format+"\n", args...)
}
func (s *stage) Fatalf(format string, args ...any) { panic(fatal(fmt.Sprintf(format, args...))) }
func (s *stage) Skipf(format string, args ...any)  { s.Fatalf(format, args...) }
func (s *stage) Context() context.Context          { return s.ctx }

func (s *stage) Cleanup(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleanups = append(s.cleanups, f)
}

func (s *stage) TempDir() string {
	dir, err := os.MkdirTemp("", "lockstep-load")
	if err != nil {
		s.Fatalf("%v", err)
	}
	s.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (s *stage) end() {
	s.mu.Lock()
	list := s.cleanups
	s.cleanups = nil
	s.mu.Unlock()
	for i := len(list) - 1; i >= 0; i-- {
		list[i]()
	}
}

func (s *stage) logger(name string) *slog.Logger {
	if !s.verbose {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})).With("who", name)
}

// serve attaches a delivery service to the server.
func (s *stage) serve(host play.Host, o options) error {
	var st ds.Store
	var err error
	if strings.HasPrefix(o.store, "postgres") {
		st, err = postgres.Open(s.ctx, o.store, postgres.Options{})
	} else {
		st, err = sqlite.Open(s.ctx, filepath.Join(s.TempDir(), "lockstep.db"), sqlite.Options{})
	}
	if err != nil {
		return err
	}
	domain, secret := host.Component()
	much := component.Rate{PerSecond: 1e6, Burst: 1e6}
	c := component.Config{Domain: domain, Secret: secret, Address: host.ComponentAddr(), Store: st, Logger: s.logger("ds"),
		Limits: component.Limits{Requests: much, Domain: much, Send: much, Claims: much, Claimed: much, DomainClaims: much, Create: much}}
	if !o.multicast {
		c.Multicast = "none"
	}
	svc, err := component.New(c)
	if err != nil {
		return errors.Join(err, st.Close())
	}
	s.svc = svc
	run, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := errors.Join(svc.Run(run), st.Close()); err != nil {
			fmt.Fprintf(os.Stderr, "load: the service: %v\n", err)
		}
	}()
	s.Cleanup(func() { cancel(); <-ended })
	select {
	case <-svc.Ready():
		return nil
	case <-time.After(30 * time.Second):
		return fmt.Errorf("the service did not attach to its server: %s", svc.Stats().LinkError)
	}
}

// client logs a real client in, with its state in memory.
func (s *stage) client(ctx context.Context, host play.Host, user, password string, on func(*client.Message)) (*client.Client, error) {
	part := &play.Part{Name: user, Role: user, Host: host, User: user, Password: password, Tap: play.NewTap(user, nil)}
	c, err := client.New(client.Config{JID: part.JID(), Password: password, TLS: host.TLS(), Store: store.NewMemory(part.JID()),
		Dial: func(ctx context.Context) (net.Conn, bool, error) {
			nc, err := part.Dial(ctx)
			return nc, true, err
		}, UpdateInterval: -1, UpdateMessages: -1, KeyPackages: 10, Log: s.logger(user)})
	if err != nil {
		return nil, err
	}
	c.OnMessage(func(_ context.Context, m *client.Message) { on(m) })
	run, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = c.Run(run) }()
	s.Cleanup(func() { _ = c.Close(); cancel(); <-ended })
	return c, c.Ready(ctx)
}

// A bar shows how far something is, on a terminal.
type bar struct {
	mu    sync.Mutex
	what  string
	begin time.Time
	out   io.Writer
	last  time.Time
	tty   bool
	over  bool
}

func newBar(what string) *bar {
	st, err := os.Stderr.Stat()
	return &bar{what: what, begin: time.Now(), out: os.Stderr, tty: err == nil && st.Mode()&os.ModeCharDevice != 0}
}

func (b *bar) show(done float64, text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over || time.Since(b.last) < 200*time.Millisecond && done < 1 || !b.tty && done < 1 {
		return
	}
	b.over = done >= 1
	b.last = time.Now()
	const width = 30
	n := int(min(max(done, 0), 1) * width)
	end, start := "", "\r"
	if !b.tty {
		end, start = "\n", ""
	} else if done >= 1 {
		end = "\n"
	}
	fmt.Fprintf(b.out, "%s%-14s [%s%s] %3.0f%% %5.1fs %-40s%s", start, b.what, strings.Repeat("#", n), strings.Repeat(".", width-n), 100*min(done, 1), time.Since(b.begin).Seconds(), text, end)
}
