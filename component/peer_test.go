// SPDX-License-Identifier: Apache-2.0

package component_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/component"
	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/component/store/sqlite"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/xmlpull"
)

// This file is a tiny XMPP server with one component and no accounts: tests
// speak as whoever they like, and read what the service sends to them.

const domain = "mls.capulet.lit"

// patience is how long a test waits for what must come: a machine that does much
// else at a time may stop for seconds.
const patience = time.Minute

// server is the other end of the service's link.
type server struct {
	t testing.TB

	mu    sync.Mutex
	conn  net.Conn
	conns int
	boxes map[string]*box  // by full or bare address
	sink  func(raw []byte) // gets every stanza first, if set
}

// A box collects what is sent to one address.
type box struct {
	mu   sync.Mutex
	list []string
	more chan struct{} // closed and replaced with every stanza
}

func newServer(t testing.TB) *server { return &server{t: t, boxes: make(map[string]*box)} }

// dial is the service's DialFunc.
func (s *server) dial(context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go s.serve(ours)
	return theirs, nil
}

func (s *server) serve(conn net.Conn) {
	defer conn.Close()
	split := xmlpull.NewSplitter(conn, xmlpull.Limits{MaxBytes: 4 << 20})
	h, err := split.Open()
	if err != nil {
		return
	}
	fmt.Fprintf(conn, "<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' from='%s' id='stream-1'>", h.To)
	if _, err := split.Next(); err != nil { // the handshake
		return
	}
	if _, err := conn.Write([]byte("<handshake/>")); err != nil {
		return
	}
	s.mu.Lock()
	s.conn = conn
	s.conns++
	s.mu.Unlock()
	var p stanza.Parser
	for {
		raw, err := split.Next()
		if err != nil {
			return
		}
		s.mu.Lock()
		sink := s.sink
		s.mu.Unlock()
		if sink != nil {
			sink(raw)
		}
		st, err := p.Parse(raw)
		if err != nil {
			s.t.Errorf("the service wrote a malformed stanza: %v\n%s", err, raw)
			continue
		}
		if len(st.From) == 0 || !strings.HasSuffix(strings.Split(string(st.From), "/")[0], domain) {
			s.t.Errorf("the service wrote a stanza from %q, which ends a real link", st.From)
		}
		s.box(string(st.To)).put(string(raw))
	}
}

func (s *server) box(address string) *box {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.boxes[address]
	if !ok {
		b = &box{more: make(chan struct{})}
		s.boxes[address] = b
	}
	return b
}

func (b *box) put(raw string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.list = append(b.list, raw)
	close(b.more)
	b.more = make(chan struct{})
}

// take removes and returns the first stanza that has all the given parts.
func (b *box) take(t testing.TB, parts ...string) string {
	t.Helper()
	if raw, ok := b.tryTake(patience, parts...); ok {
		return raw
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	t.Fatalf("nothing came with %q; there is %q", parts, b.list)
	return ""
}

func (b *box) tryTake(wait time.Duration, parts ...string) (string, bool) {
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	for {
		b.mu.Lock()
		for i, raw := range b.list {
			ok := true
			for _, p := range parts {
				ok = ok && strings.Contains(raw, p)
			}
			if ok {
				b.list = append(b.list[:i:i], b.list[i+1:]...)
				b.mu.Unlock()
				return raw, true
			}
		}
		more := b.more
		b.mu.Unlock()
		select {
		case <-more:
		case <-deadline.C:
			return "", false
		}
	}
}

// count says how many stanzas with all the parts are there.
func (b *box) count(parts ...string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
next:
	for _, raw := range b.list {
		for _, p := range parts {
			if !strings.Contains(raw, p) {
				continue next
			}
		}
		n++
	}
	return n
}

// write sends bytes to the service as the server would.
func (s *server) write(raw string) {
	s.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		s.mu.Lock()
		conn := s.conn
		s.mu.Unlock()
		if conn != nil {
			if _, err := conn.Write([]byte(raw)); err == nil {
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.t.Fatal("the service is not connected")
}

// cut breaks the link.
func (s *server) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}

// An service under test.
type service struct {
	*server
	*component.Service
	store  store.Store
	stop   func()
	path   string
	config component.Config
}

// start runs a service on a new SQLite file, until the test ends.
func start(t testing.TB, change ...func(*component.Config)) *service {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lockstep.db")
	s := &service{server: newServer(t), path: path}
	s.run(t, change...)
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *service) run(t testing.TB, change ...func(*component.Config)) {
	t.Helper()
	st, err := sqlite.Open(context.Background(), s.path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := component.Config{
		Domain: domain, Secret: "s3cret", Dial: s.dial, Store: st, NudgeDelay: -1,
		Limits: component.Limits{
			Requests: component.Rate{PerSecond: -1}, Send: component.Rate{PerSecond: -1}, Domain: component.Rate{PerSecond: -1},
			Create: component.Rate{PerSecond: -1}, Claims: component.Rate{PerSecond: -1}, Claimed: component.Rate{PerSecond: -1}, DomainClaims: component.Rate{PerSecond: -1},
		},
	}
	for _, f := range change {
		f(&c)
	}
	svc, err := component.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- svc.Run(ctx) }()
	select {
	case <-svc.Ready():
	case err := <-done:
		t.Fatalf("the service ended: %v", err)
	case <-time.After(patience):
		t.Fatal("the service does not become ready")
	}
	s.Service, s.store, s.config = svc, st, c
	var once sync.Once
	s.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
			st.Close()
		})
	}
}

// refusal is how a test sees an error answer.
func refusal(err error) *stanza.Error {
	var e *stanza.Error
	if errors.As(err, &e) {
		return e
	}
	return &stanza.Error{}
}

// request sends an IQ and parses the answer into out, which may be nil.
func (s *service) request(from, to, typ string, payload, out stanza.Payload) error {
	s.t.Helper()
	id := fmt.Sprintf("q%d", nextID())
	h := stanza.Header{Kind: stanza.IQ, Type: typ, ID: id, From: from, To: to}
	s.write(string(h.Append(nil, payload)))
	raw := s.box(from).take(s.t, "id='"+id+"'")
	return answer(s.t, raw, out)
}

func answer(t testing.TB, raw string, out stanza.Payload) error {
	t.Helper()
	var p stanza.Parser
	st, err := p.Parse([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	if e := st.Err(); e != nil {
		return e
	}
	if out == nil {
		return nil
	}
	el := st.First()
	if !el.Valid() {
		t.Fatalf("the answer has no payload: %s", raw)
	}
	if err := out.Parse(el); err != nil {
		t.Fatalf("parsing the answer: %v\n%s", err, raw)
	}
	return nil
}

var (
	idMu   sync.Mutex
	lastID int
)

func nextID() int {
	idMu.Lock()
	defer idMu.Unlock()
	lastID++
	return lastID
}
