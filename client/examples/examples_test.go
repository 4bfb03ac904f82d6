// SPDX-License-Identifier: Apache-2.0

// Package examples runs the example bots as they are, against an in-memory
// server and a delivery service.
package examples

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/component"
	"github.com/lockstep-im/lockstep/component/store/sqlite"
	"github.com/lockstep-im/lockstep/integration/loopback"
)

const domain, service = "capulet.lit", "mls.capulet.lit"

type stage struct {
	t      *testing.T
	server *loopback.Server
	dir    string
	ca     string
}

func newStage(t *testing.T) *stage {
	s, err := loopback.Start(loopback.Options{Domain: domain})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	st := &stage{t: t, server: s, dir: t.TempDir()}
	st.ca = filepath.Join(st.dir, "ca.pem")
	if err := os.WriteFile(st.ca, s.CA().PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.AddComponent(service, "secret"); err != nil {
		t.Fatal(err)
	}
	db, err := sqlite.Open(context.Background(), filepath.Join(st.dir, "ds.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ds, err := component.New(component.Config{
		Domain: service, Secret: "secret", Store: db, NudgeDelay: -1,
		Dial: func(context.Context) (net.Conn, error) { return s.DialComponent() },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); ds.Run(ctx); db.Close() }()
	t.Cleanup(func() { cancel(); <-done })
	<-ds.Ready()
	return st
}

// bot builds and starts an example.
func (s *stage) bot(name string, args ...string) io.Reader {
	s.t.Helper()
	exe := filepath.Join(s.dir, name)
	if out, err := exec.Command("go", "build", "-o", exe, "./"+name).CombinedOutput(); err != nil {
		s.t.Fatalf("building %s: %v\n%s", name, err, out)
	}
	s.server.AddAccount("nurse", "pass-nurse")
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), "LOCKSTEP_ACCOUNT=nurse@"+domain, "LOCKSTEP_PASSWORD=pass-nurse", "LOCKSTEP_SERVER="+s.server.AddrC2S(),
		"LOCKSTEP_CA_FILE="+s.ca, "LOCKSTEP_STATE="+filepath.Join(s.dir, "nurse.db"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if s.t.Failed() {
			s.t.Logf("%s said:\n%s", name, stderr.String())
		}
	})
	return out
}

// juliet makes a group and invites the bot as soon as it has key packages.
func (s *stage) juliet() (*client.Group, <-chan *client.Message) {
	s.t.Helper()
	s.server.AddAccount("juliet", "pass-juliet")
	c, err := client.New(client.Config{
		JID: "juliet@" + domain, Password: "pass-juliet", Server: s.server.AddrC2S(),
		TLS: &tls.Config{RootCAs: s.server.CertPool()}, Store: store.NewMemory("juliet@" + domain),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	heard := make(chan *client.Message, 100)
	c.OnMessage(func(_ context.Context, m *client.Message) { heard <- m })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx) }()
	s.t.Cleanup(func() { cancel(); <-done; c.Close() })
	if err := c.Ready(ctx); err != nil {
		s.t.Fatal(err)
	}
	g, err := c.CreateGroup(ctx, "Ops", &client.GroupOptions{Local: "ops"})
	if err != nil {
		s.t.Fatal(err)
	}
	for {
		res, err := g.Invite(ctx, "nurse@"+domain)
		if err == nil && res.Added("nurse@"+domain) {
			return g, heard
		}
		if ctx.Err() != nil {
			s.t.Fatalf("the bot does not come: %v %+v", err, res)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func say(t *testing.T, g *client.Group, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := g.Send(ctx, text); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, heard <-chan *client.Message, want string) {
	t.Helper()
	select {
	case m := <-heard:
		if m.Body != want || m.Sender.JID != "nurse@"+domain {
			t.Fatalf("heard %q from %s, want %q", m.Body, m.Sender.JID, want)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("waited for %q in vain", want)
	}
}

func TestEchobot(t *testing.T) {
	src, err := os.ReadFile("echobot/main.go")
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(src, []byte("\n")); n > 30 {
		t.Errorf("the echo bot has %d lines, 30 were promised", n)
	}
	s := newStage(t)
	s.bot("echobot")
	g, heard := s.juliet()
	say(t, g, "parting is such sweet sorrow")
	expect(t, heard, "parting is such sweet sorrow")
}

func TestAlerts(t *testing.T) {
	s := newStage(t)
	out := bufio.NewReader(s.bot("alerts", "-group", "ops@"+service, "-listen", "127.0.0.1:0"))
	line, err := out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + strings.TrimSpace(strings.TrimPrefix(line, "listening on "))
	_, heard := s.juliet()
	post := func(body string) int {
		resp, err := http.Post(url, "text/plain", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if code := post("disk full on db3"); code == http.StatusOK {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("the webhook answers %d", code)
		}
	}
	expect(t, heard, "disk full on db3")
	if code := post(`{"alerts":[{"status":"firing","annotations":{"summary":"db3 is down"}}]}`); code != http.StatusOK {
		t.Errorf("the webhook answers %d", code)
	}
	expect(t, heard, "FIRING db3 is down")
}

func TestCommandbot(t *testing.T) {
	s := newStage(t)
	s.bot("commandbot")
	g, heard := s.juliet()
	say(t, g, "!ping")
	expect(t, heard, "pong")
	code, err := g.EpochCode()
	if err != nil {
		t.Fatal(err)
	}
	say(t, g, "!code")
	expect(t, heard, code)
	say(t, g, "!invite nobody@"+domain)
	expect(t, heard, "sorry: client: nobody could be added")
}

func TestAdopt(t *testing.T) {
	s := newStage(t)
	s.bot("adopt")
	g, heard := s.juliet()
	for i := range 5 {
		say(t, g, fmt.Sprintf("hello %d", i))
		expect(t, heard, fmt.Sprintf("encrypted: hello %d", i))
	}
	// The bot's own life goes on beside it.
	plainAnswer(t, s, "how art thou", "plain: how art thou")
}
