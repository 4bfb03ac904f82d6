// SPDX-License-Identifier: Apache-2.0

package component_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/component"
	"github.com/lockstep-im/lockstep/component/store/sqlite"
	"github.com/lockstep-im/lockstep/integration/loopback"
	"github.com/lockstep-im/lockstep/stanza"
)

// fussy is a server that refuses a number of handshakes with a stream error.
func fussy(t testing.TB, refusals int, condition string, then *server) component.DialFunc {
	var n atomic.Int32
	return func(ctx context.Context) (net.Conn, error) {
		if int(n.Add(1)) > refusals {
			return then.dial(ctx)
		}
		ours, theirs := net.Pipe()
		go func() {
			defer ours.Close()
			buf := make([]byte, 4096)
			ours.Read(buf)
			fmt.Fprint(ours, "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' id='1'>")
			ours.Read(buf)
			fmt.Fprintf(ours, "<stream:error><%s xmlns='urn:ietf:params:xml:ns:xmpp-streams'/><text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>no</text></stream:error></stream:stream>", condition)
			time.Sleep(20 * time.Millisecond)
		}()
		return theirs, nil
	}
}

// TestConflictIsRetried: a server that still holds the old link lets us in when
// it has noticed (Prosody's kick_new).
func TestConflictIsRetried(t *testing.T) {
	s := start(t, func(c *component.Config) {})
	s.stop()
	var dialed int
	s.run(t, func(c *component.Config) {
		dial := fussy(t, 3, "conflict", s.server)
		c.Dial = func(ctx context.Context) (net.Conn, error) { dialed++; return dial(ctx) }
	})
	if dialed != 4 {
		t.Errorf("dialed %d times", dialed)
	}
	j := newActor(t, s, juliet, "x")
	j.must(j.get(domain, &stanza.DiscoInfoQuery{}, nil))
}

// TestCheckLink says why a link does not work, with a hint.
func TestCheckLink(t *testing.T) {
	st, err := sqlite.Open(context.Background(), filepath.Join(t.TempDir(), "db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	check := func(dial component.DialFunc) error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		return component.CheckLink(ctx, component.Config{Domain: domain, Secret: "s3cret", Dial: dial, Store: st})
	}
	if err := check(newServer(t).dial); err != nil {
		t.Errorf("a good link: %v", err)
	}
	for _, condition := range []string{"not-authorized", "host-unknown", "conflict"} {
		err := check(fussy(t, 1, condition, nil))
		var se *component.StreamError
		if !errors.As(err, &se) || se.Condition != condition || se.Hint() == "" || se.Text != "no" {
			t.Errorf("%s: %v", condition, err)
		}
	}
	refused := errors.New("refused")
	if err := check(func(context.Context) (net.Conn, error) { return nil, refused }); !errors.Is(err, refused) {
		t.Errorf("nobody listens: %v", err)
	}
	// A web server is no component port.
	err = check(func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			ours.Read(make([]byte, 4096))
			fmt.Fprint(ours, "HTTP/1.1 400 Bad Request\r\n\r\n<html></html>")
			ours.Close()
		}()
		return theirs, nil
	})
	if err == nil {
		t.Error("a web server is taken for an XMPP server")
	}
	// A silent one ends with the context.
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	err = component.CheckLink(ctx, component.Config{Domain: domain, Store: st, Dial: func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go ours.Read(make([]byte, 4096))
		return theirs, nil
	}})
	if err == nil || time.Since(began) > 10*time.Second {
		t.Errorf("a silent server: %v after %v", err, time.Since(began))
	}
}

func TestDialer(t *testing.T) {
	for _, bad := range []string{"localhost", "udp://x:1", "unix://", "tls://x"} {
		if _, err := component.Dialer(bad, nil); err == nil {
			t.Errorf("Dialer(%q) succeeds", bad)
		}
	}
	path := filepath.Join(t.TempDir(), "socket")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, good := range []string{"unix://" + path, path} {
		dial, err := component.Dialer(good, nil)
		if err != nil {
			t.Fatal(err)
		}
		c, err := dial(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
}

// TestOnLoopback attaches the service to the XMPP server that the scenarios use,
// with the secret right and wrong.
func TestOnLoopback(t *testing.T) {
	for _, flavour := range []loopback.Flavour{loopback.Prosody13, loopback.Ejabberd24} {
		srv, err := loopback.Start(loopback.Options{Domain: "capulet.lit", Flavour: flavour})
		if err != nil {
			t.Fatal(err)
		}
		defer srv.Close()
		if err := srv.AddComponent(domain, "s3cret"); err != nil {
			t.Fatal(err)
		}
		st, err := sqlite.Open(context.Background(), filepath.Join(t.TempDir(), "db"), sqlite.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		conf := component.Config{Domain: domain, Secret: "wrong", Address: srv.AddrComponent(), Store: st}
		var se *component.StreamError
		if err := component.CheckLink(context.Background(), conf); !errors.As(err, &se) || !strings.Contains(se.Hint(), "secret") {
			t.Errorf("%v: a wrong secret: %v", flavour, err)
		}
		conf.Secret = "s3cret"
		if err := component.CheckLink(context.Background(), conf); err != nil {
			t.Errorf("%v: %v", flavour, err)
		}
		svc, err := component.New(conf)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- svc.Run(ctx) }()
		select {
		case <-svc.Ready():
		case <-time.After(patience):
			t.Fatalf("%v: not ready: %s", flavour, svc.Stats().LinkError)
		}
		// The server restarts, and the service comes back.
		srv.Down()
		deadline := time.Now().Add(patience)
		for svc.Stats().Connected && time.Now().Before(deadline) {
			time.Sleep(5 * time.Millisecond)
		}
		srv.Up()
		for !svc.Stats().Connected && time.Now().Before(deadline) {
			time.Sleep(5 * time.Millisecond)
		}
		if st := svc.Stats(); !st.Connected || st.LinkError != "" {
			t.Errorf("%v: after the server's restart: %+v", flavour, st)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
