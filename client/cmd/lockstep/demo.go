// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
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

// This file plays a short story on a stage that it builds itself: an XMPP
// server in this process, the delivery service in a process of its own, so that
// it can be killed for real, and three people. Every sentence that it prints is
// checked before it is printed.

const (
	demoDomain = "capulet.lit"
	demoDS     = "mls.capulet.lit"
	demoEnv    = "LOCKSTEP_DEMO_SERVICE" // "address file secret", for the child
)

type demoCmd struct {
	Keep bool `help:"Keep the temporary folder and say where it is."`
}

// Run plays the story.
func (d *demoCmd) Run(app *app) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "lockstep-demo-")
	if err != nil {
		return err
	}
	if d.Keep {
		fmt.Fprintln(app.out, "folder:", dir)
	} else {
		defer os.RemoveAll(dir)
	}
	s := &stage{out: app.out, dir: dir, began: time.Now(), people: make(map[string]*person)}
	defer s.close()
	if err := s.play(ctx); err != nil {
		return fmt.Errorf("the story went wrong: %w", err)
	}
	return nil
}

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

func (s *stage) play(ctx context.Context) error {
	fmt.Fprintln(s.out, "lockstep: end-to-end encrypted groups on XMPP. A story in six acts, on this machine only.")
	for _, act := range []func(context.Context) error{s.prologue, s.invitation, s.talk, s.removal, s.accident, s.verification} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	fmt.Fprintf(s.out, "\nAll %d checks hold. It took %.1f seconds.\n", s.checks, time.Since(s.began).Seconds())
	return nil
}

func (s *stage) prologue(ctx context.Context) error {
	s.title("The stage")
	var err error
	if s.server, err = loopback.Start(loopback.Options{Domain: demoDomain}); err != nil {
		return err
	}
	var secret [16]byte
	rand.Read(secret[:])
	s.secret = hex.EncodeToString(secret[:])
	if err := s.server.AddComponent(demoDS, s.secret); err != nil {
		return err
	}
	s.tell("An XMPP server for %s runs in this process.", demoDomain)
	if err := s.startService(ctx); err != nil {
		return err
	}
	s.tell("The delivery service %s runs beside it (process %d) and keeps one file.", demoDS, s.ds.Process.Pid)
	for _, name := range []string{"juliet", "romeo", "nurse"} {
		if err := s.enter(ctx, name); err != nil {
			return err
		}
	}
	for _, name := range []string{"juliet", "romeo", "nurse"} {
		devices, err := s.people[name].Devices(ctx)
		if err != nil {
			return err
		}
		if err := s.check(len(devices) == 1 && devices[0].KeyPackages > 0 && devices[0].LastResort,
			"%s is online and has published %d key packages, so that others can add her or him at any time.", name, devices[0].KeyPackages); err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) invitation(ctx context.Context) error {
	s.title("The invitation")
	juliet := s.people["juliet"]
	g, err := juliet.CreateGroup(ctx, "Balcony", &client.GroupOptions{Local: "balcony"})
	if err != nil {
		return err
	}
	s.tell("juliet creates the group %q at %s.", g.Name(), g.JID())
	res, err := g.Invite(ctx, "romeo@"+demoDomain, "nurse@"+demoDomain, "paris@"+demoDomain)
	if err != nil {
		return err
	}
	if err := s.check(res.Added("romeo@"+demoDomain) && res.Added("nurse@"+demoDomain) && !res.Added("paris@"+demoDomain),
		"She invites romeo, nurse and paris. Paris does not exist: he is reported, and stops nobody."); err != nil {
		return err
	}
	for _, name := range []string{"romeo", "nurse"} {
		if _, err := s.group(ctx, name); err != nil {
			return err
		}
	}
	if err := s.sameEpoch(ctx, "juliet", "romeo", "nurse"); err != nil {
		return err
	}
	return s.check(true, "All three are in epoch %d and hold the same secret; nobody else does.", g.Epoch())
}

func (s *stage) talk(ctx context.Context) error {
	s.title("The talk, and what the server saw of it")
	const line = "wherefore art thou romeo"
	g, err := s.group(ctx, "juliet")
	if err != nil {
		return err
	}
	sent, err := g.Send(ctx, line)
	if err != nil {
		return err
	}
	for _, name := range []string{"romeo", "nurse"} {
		if _, err := s.hears(ctx, name, line); err != nil {
			return err
		}
	}
	s.tell("juliet writes:          %s", line)
	saw := s.sawSend()
	s.tell("the server saw:         <send epoch='%d'> %s…", sent.Epoch, saw)
	if err := s.check(saw != "" && !s.onTheWire(line), "romeo and nurse read it; the words are in no stanza that passed the server."); err != nil {
		return err
	}
	m, err := s.hears(ctx, "romeo", line)
	if err != nil {
		return err
	}
	const reply = "call me but love"
	if _, err := m.Reply(ctx, reply); err != nil {
		return err
	}
	r, err := s.hears(ctx, "juliet", reply)
	if err != nil {
		return err
	}
	s.tell("romeo answers:          %s", reply)
	return s.check(r.ReplyTo != nil && r.ReplyTo.ID == sent.OriginID && !s.onTheWire(reply), "The answer points at the question, inside the encryption.")
}

func (s *stage) removal(ctx context.Context) error {
	s.title("The removal")
	g, err := s.group(ctx, "juliet")
	if err != nil {
		return err
	}
	before := g.Epoch()
	if err := g.Remove(ctx, "nurse@"+demoDomain); err != nil {
		return err
	}
	if err := s.waitEvent(ctx, "nurse", func(e client.Event) bool { _, ok := e.(*client.Removed); return ok }); err != nil {
		return err
	}
	s.tell("juliet removes nurse. Everybody else changes keys: epoch %d becomes %d.", before, g.Epoch())
	const secret = "at what hour tomorrow shall I send to thee"
	if _, err := g.Send(ctx, secret); err != nil {
		return err
	}
	if _, err := s.hears(ctx, "romeo", secret); err != nil {
		return err
	}
	nurse := s.people["nurse"]
	heard := nurse.heard(secret)
	ng := nurse.Groups()
	return s.check(!heard && len(ng) == 0, "romeo reads what comes next; nurse has no key for it any more.")
}

func (s *stage) accident(ctx context.Context) error {
	s.title("The accident")
	g, err := s.group(ctx, "juliet")
	if err != nil {
		return err
	}
	s.leave("romeo")
	s.tell("romeo goes offline.")
	pid := s.ds.Process.Pid
	s.killService()
	if err := s.check(!s.server.ComponentUp(demoDS), "The delivery service (process %d) is killed with SIGKILL.", pid); err != nil {
		return err
	}
	const line = "by the hour of nine"
	result := make(chan error, 1)
	go func() {
		_, err := g.Send(ctx, line)
		result <- err
	}()
	select {
	case err := <-result:
		return fmt.Errorf("a message was answered while the service was dead: %v", err)
	case <-time.After(700 * time.Millisecond):
	}
	s.tell("juliet writes all the same: the message is sealed, stored, and waits.")
	if err := s.startService(ctx); err != nil {
		return err
	}
	s.tell("The delivery service comes back (process %d) from its file.", s.ds.Process.Pid)
	select {
	case err := <-result:
		if err != nil {
			return fmt.Errorf("sending after the service came back: %w", err)
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := s.check(true, "The message went out by itself, once."); err != nil {
		return err
	}
	if err := g.UpdateKeys(ctx); err != nil {
		return err
	}
	const more = "I will not fail"
	if _, err := g.Send(ctx, more); err != nil {
		return err
	}
	s.tell("juliet changes her keys and writes on while romeo is away.")
	if err := s.enter(ctx, "romeo"); err != nil {
		return err
	}
	for _, text := range []string{line, more} {
		if _, err := s.hears(ctx, "romeo", text); err != nil {
			return err
		}
	}
	romeo := s.people["romeo"]
	if err := s.check(romeo.count(line) == 1 && romeo.count(more) == 1, "romeo comes back and catches up from the log: each message once, in order."); err != nil {
		return err
	}
	return s.sameEpoch(ctx, "juliet", "romeo")
}

func (s *stage) verification(ctx context.Context) error {
	s.title("The proof")
	juliet, romeo := s.people["juliet"], s.people["romeo"]
	a, err := juliet.SafetyNumber("romeo@" + demoDomain)
	if err != nil {
		return err
	}
	b, err := romeo.SafetyNumber("juliet@" + demoDomain)
	if err != nil {
		return err
	}
	s.tell("juliet sees the safety number %s", a[:35])
	s.tell("                              %s", a[36:])
	if err := s.check(a == b, "romeo sees the same: no one sits between them."); err != nil {
		return err
	}
	if _, err := juliet.ApplyURI(ctx, romeo.URI()); err != nil {
		return err
	}
	g, err := s.group(ctx, "juliet")
	if err != nil {
		return err
	}
	members, err := g.Members()
	if err != nil {
		return err
	}
	verified := len(members) == 2
	for _, m := range members {
		verified = verified && m.Trust == client.Verified
	}
	if err := s.check(verified, "juliet scans romeo's code, and his device is verified."); err != nil {
		return err
	}
	rg, err := s.group(ctx, "romeo")
	if err != nil {
		return err
	}
	jc, err := g.EpochCode()
	if err != nil {
		return err
	}
	rc, err := rg.EpochCode()
	if err != nil {
		return err
	}
	jseq, jchain := g.Chain()
	rseq, rchain := rg.Chain()
	if err := s.check(jc == rc && jseq == rseq && jchain == rchain, "Both have the same epoch code (%s) and the same hash over all %d entries of the log.", jc, jseq); err != nil {
		return err
	}
	for name, p := range s.people {
		p.mu.Lock()
		for _, e := range p.events {
			switch v := e.(type) {
			case *client.ForkDetected, *client.Misbehaved, *client.Undecryptable, *client.RollbackDetected:
				p.mu.Unlock()
				return fmt.Errorf("%s raised an alarm: %s %+v", name, client.EventName(e), v)
			}
		}
		p.mu.Unlock()
	}
	var file []byte
	for _, name := range []string{"service.db", "service.db-wal"} {
		b, err := os.ReadFile(filepath.Join(s.dir, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		file = append(file, b...)
	}
	clean := true
	for _, text := range []string{"wherefore art thou", "call me but love", "at what hour tomorrow", "by the hour of nine", "I will not fail"} {
		clean = clean && !s.onTheWire(text) && !bytes.Contains(file, []byte(text))
	}
	return s.check(clean, "No word that was spoken is in any stanza or in the delivery service's file.")
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
