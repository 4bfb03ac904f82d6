// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/lockstep-im/lockstep/integration/play"
)

// A foreigner is slixmpp from Debian's packages, in a process of its own. Verbs: login,
// chat, join, say, alive, disco (of the delivery service), logout.
type foreigner struct {
	part    *play.Part
	journal play.Journal

	mu     sync.Mutex
	cmd    *exec.Cmd
	in     io.WriteCloser
	ln     net.Listener
	n      int
	wait   map[string]chan error
	ended  <-chan error
	stderr bytes.Buffer
}

var errNoSlixmpp = errors.New("slixmpp is not installed (Debian: apt-get install python3-slixmpp)")

// slixmpp finds a Python that has it.
var slixmpp = sync.OnceValues(func() (string, error) {
	for _, py := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(py, "-c", "import slixmpp").Run() == nil {
			return py, nil
		}
	}
	return "", errNoSlixmpp
})

func newForeigner(part *play.Part) (play.Actor, error) {
	return &foreigner{part: part, wait: make(map[string]chan error)}, nil
}

func (f *foreigner) Journal() *play.Journal { return &f.journal }

func (f *foreigner) Do(ctx context.Context, verb string, args []string) error {
	if err := f.login(ctx); err != nil {
		return err
	}
	switch verb {
	case "login":
		return nil
	case "chat":
		to, err := f.part.Play.JIDs(args[:1])
		if err != nil {
			return err
		}
		args = append(to, args[1:]...)
	case "join", "say":
		args = append([]string{args[0] + "@" + f.part.Host.Rooms()}, args[1:]...)
		if verb == "join" {
			args = append(args, f.part.Role)
		}
	case "disco":
		domain, _ := f.part.Host.Component()
		args = []string{domain}
	case "alive", "logout":
	default:
		return fmt.Errorf("slixmpp: %w %q", play.ErrVerb, verb)
	}
	f.mu.Lock()
	f.n++
	id := fmt.Sprint(f.n)
	done := make(chan error, 1)
	f.wait[id] = done
	b, err := json.Marshal(map[string]any{"id": id, "verb": verb, "args": args})
	if err == nil {
		_, err = f.in.Write(append(b, '\n'))
	}
	f.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-f.ended:
		return fmt.Errorf("slixmpp ended: %s", f.said())
	case <-ctx.Done():
		return fmt.Errorf("slixmpp did not do it: %s", f.said())
	}
}

func (f *foreigner) said() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return tail(f.stderr.Bytes(), 2000)
}

type lockedWriter struct{ f *foreigner }

func (w lockedWriter) Write(b []byte) (int, error) {
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	return w.f.stderr.Write(b)
}

func (f *foreigner) login(ctx context.Context) error {
	f.mu.Lock()
	if f.cmd != nil {
		f.mu.Unlock()
		return nil
	}
	f.mu.Unlock()
	py, err := slixmpp()
	if err != nil {
		if os.Getenv("LOCKSTEP_E2E") != "require" {
			f.part.Play.T.Skipf("SKIPPED, NOT PLAYED: %v; LOCKSTEP_E2E=require makes this a failure", err)
		}
		return err
	}
	// It connects in the clear to a door of this process, which goes on to the server by
	// TLS, so that the tap sees what it says.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			server, err := f.part.Dial(context.Background())
			if err != nil {
				nc.Close()
				continue
			}
			go func() { _, _ = io.Copy(server, nc); server.Close() }()
			go func() { _, _ = io.Copy(nc, server); nc.Close() }()
		}
	}()
	cmd := exec.Command(py, "testdata/slixmpp_client.py", f.part.JID()+"/slixmpp", ln.Addr().String())
	cmd.Env = append(os.Environ(), "SLIXMPP_PASSWORD="+f.part.Password, "PYTHONDONTWRITEBYTECODE=1")
	cmd.Stderr = lockedWriter{f}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	read := make(chan struct{})
	ended, err := startChild(cmd, read)
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.cmd, f.in, f.ln, f.ended = cmd, in, ln, ended
	f.mu.Unlock()
	go f.read(out, read)
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if _, err := f.journal.Expect(ctx, "online", "", nil); err != nil {
		return fmt.Errorf("slixmpp did not log in: %w\n%s", err, f.said())
	}
	return nil
}

func (f *foreigner) read(out io.Reader, read chan struct{}) {
	defer close(read)
	sc := bufio.NewScanner(out)
	sc.Buffer(nil, 4<<20)
	for sc.Scan() {
		var e struct{ Kind, Text string }
		if err := json.Unmarshal(sc.Bytes(), &e); err != nil {
			continue
		}
		switch e.Kind {
		case "done", "failed":
			id, why, _ := strings.Cut(e.Text, " ")
			f.mu.Lock()
			done := f.wait[id]
			delete(f.wait, id)
			f.mu.Unlock()
			if done != nil && e.Kind == "done" {
				done <- nil
			} else if done != nil {
				done <- errors.New(why)
			}
			continue
		case "chat", "normal":
			jid, text, _ := strings.Cut(e.Text, ": ")
			e.Text = f.part.Play.RoleOf(jid) + ": " + text
		}
		f.journal.Add(play.Entry{Kind: e.Kind, Text: e.Text})
	}
}

func (f *foreigner) Close() error {
	f.mu.Lock()
	cmd, in, ln, ended := f.cmd, f.in, f.ln, f.ended
	f.mu.Unlock()
	if cmd == nil {
		return nil
	}
	in.Close()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		_ = cmd.Process.Kill()
		<-ended
	}
	return ln.Close()
}
