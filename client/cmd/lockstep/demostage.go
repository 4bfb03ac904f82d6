// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/component"
	"github.com/lockstep-im/lockstep/component/store/sqlite"
	"github.com/lockstep-im/lockstep/integration/loopback"
)

// This file is the stage of the demo: its people, its servers, and what can be
// seen from the wings.

// stage is what the story plays on.
type stage struct {
	out    io.Writer
	dir    string
	began  time.Time
	server *loopback.Server
	secret string
	ds     *exec.Cmd
	people map[string]*person
	act    int
	checks int
}

// person is one account with one device.
type person struct {
	*client.Client
	name   string
	cancel context.CancelFunc
	done   chan struct{}

	mu       sync.Mutex
	messages []*client.Message
	events   []client.Event
	news     chan struct{}
}

func (s *stage) title(text string) {
	s.act++
	fmt.Fprintf(s.out, "\n%d. %s\n", s.act, text)
}

func (s *stage) tell(format string, args ...any) { fmt.Fprintf(s.out, "   "+format+"\n", args...) }

// check is a sentence that is told only if it is true.
func (s *stage) check(isTrue bool, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if !isTrue {
		fmt.Fprintf(s.out, " ✗ %s\n", text)
		return fmt.Errorf("this is not so: %s", text)
	}
	s.checks++
	fmt.Fprintf(s.out, " ✓ %s\n", text)
	return nil
}

// startService runs the delivery service as a child process.
func (s *stage) startService(ctx context.Context) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s\n%s\n%s", demoEnv, s.server.AddrComponent(), filepath.Join(s.dir, "service.db"), s.secret))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	// The child ends when this pipe does: no orphan is left behind.
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.ds = cmd
	exited := make(chan error, 1)
	go func() {
		exited <- cmd.Wait()
		stdin.Close()
	}()
	for !s.server.ComponentUp(demoDS) {
		select {
		case err := <-exited:
			return fmt.Errorf("the delivery service ended: %v: %s", err, stderr.String())
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

func (s *stage) killService() {
	if s.ds == nil {
		return
	}
	s.ds.Process.Kill()
	for deadline := time.Now().Add(5 * time.Second); s.server.ComponentUp(demoDS) && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
}

// demoService is the child: a delivery service on a file.
func demoService(arg string) error {
	parts := strings.Split(arg, "\n")
	if len(parts) != 3 {
		return errors.New("this variable is for lockstep demo alone")
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	st, err := sqlite.Open(ctx, parts[1], sqlite.Options{})
	if err != nil {
		return err
	}
	defer st.Close()
	ds, err := component.New(component.Config{
		Domain: demoDS, Secret: parts[2], Address: parts[0], Store: st, NudgeDelay: -1,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		return err
	}
	return ds.Run(ctx)
}

// enter brings somebody online, with what an earlier scene has left.
func (s *stage) enter(ctx context.Context, name string) error {
	password := name + "-" + s.secret
	if err := s.server.AddAccount(name, password); err != nil {
		return err
	}
	c, err := client.New(client.Config{
		JID: name + "@" + demoDomain, Password: password, Server: s.server.AddrC2S(),
		TLS: &tls.Config{RootCAs: s.server.CertPool()}, StorePath: filepath.Join(s.dir, name+".db"), KeyPackages: 10,
	})
	if err != nil {
		return err
	}
	p := &person{Client: c, name: name, done: make(chan struct{}), news: make(chan struct{}, 1)}
	if old := s.people[name]; old != nil {
		p.messages, p.events = old.messages, old.events
	}
	c.OnMessage(func(_ context.Context, m *client.Message) {
		p.mu.Lock()
		p.messages = append(p.messages, m)
		p.mu.Unlock()
		p.wake()
	})
	c.OnEvent(func(_ context.Context, e client.Event) {
		p.mu.Lock()
		p.events = append(p.events, e)
		p.mu.Unlock()
		p.wake()
	})
	run, cancel := context.WithCancel(ctx)
	p.cancel = cancel
	go func() {
		defer close(p.done)
		c.Run(run)
	}()
	s.people[name] = p
	ready, stop := context.WithTimeout(ctx, 30*time.Second)
	defer stop()
	if err := c.Ready(ready); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (s *stage) leave(name string) {
	p := s.people[name]
	if p == nil {
		return
	}
	p.cancel()
	<-p.done
	p.Close()
}

func (s *stage) close() {
	for name := range s.people {
		s.leave(name)
	}
	if s.ds != nil {
		s.ds.Process.Kill()
	}
	if s.server != nil {
		s.server.Close()
	}
}

func (p *person) wake() {
	select {
	case p.news <- struct{}{}:
	default:
	}
}

func (p *person) count(text string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.messages {
		if m.Body == text {
			n++
		}
	}
	return n
}

func (p *person) heard(text string) bool { return p.count(text) > 0 }

// wait polls a condition about one person.
func (s *stage) wait(ctx context.Context, name, what string, cond func(p *person) bool) error {
	p := s.people[name]
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for !cond(p) {
		select {
		case <-p.news:
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%s waits in vain for %s", name, what)
		}
	}
	return nil
}

func (s *stage) hears(ctx context.Context, name, text string) (*client.Message, error) {
	var found *client.Message
	err := s.wait(ctx, name, fmt.Sprintf("%q", text), func(p *person) bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, m := range p.messages {
			if m.Body == text {
				found = m
			}
		}
		return found != nil
	})
	return found, err
}

func (s *stage) waitEvent(ctx context.Context, name string, is func(client.Event) bool) error {
	return s.wait(ctx, name, "an event", func(p *person) bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, e := range p.events {
			if is(e) {
				return true
			}
		}
		return false
	})
}

func (s *stage) group(ctx context.Context, name string) (*client.Group, error) {
	var g *client.Group
	err := s.wait(ctx, name, "the group", func(p *person) bool {
		if gs := p.Groups(); len(gs) == 1 && gs[0].Joined() {
			g = gs[0]
		}
		return g != nil
	})
	return g, err
}

// sameEpoch waits until all hold the same secret of the same epoch.
func (s *stage) sameEpoch(ctx context.Context, names ...string) error {
	first, err := s.group(ctx, names[0])
	if err != nil {
		return err
	}
	for _, name := range names[1:] {
		g, err := s.group(ctx, name)
		if err != nil {
			return err
		}
		err = s.wait(ctx, name, "the epoch of "+names[0], func(*person) bool {
			a, err1 := first.EpochAuthenticator()
			b, err2 := g.EpochAuthenticator()
			return err1 == nil && err2 == nil && bytes.Equal(a, b)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// sawSend gives the beginning of the last ciphertext that passed the server.
func (s *stage) sawSend() string {
	out := ""
	for _, r := range s.server.Wire().Records() {
		x := r.XML()
		i := strings.Index(x, "<send")
		if i < 0 {
			continue
		}
		if j := strings.Index(x[i:], "<mls"); j >= 0 {
			if k := strings.IndexByte(x[i+j:], '>'); k >= 0 {
				text := x[i+j+k+1:]
				out = text[:min(60, len(text))]
			}
		}
	}
	return out
}

// onTheWire looks for words in everything that passed the server, in clear and
// in base64 at any alignment.
func (s *stage) onTheWire(text string) bool {
	needles := []string{text}
	for shift := range 3 {
		enc := base64.StdEncoding.EncodeToString(append(make([]byte, shift), text...))
		// The first and last groups depend on what is around.
		if len(enc) > 12 {
			needles = append(needles, enc[4:len(enc)-4])
		}
	}
	for _, r := range s.server.Wire().Records() {
		for _, n := range needles {
			if strings.Contains(r.XML(), n) {
				return true
			}
		}
	}
	return false
}
