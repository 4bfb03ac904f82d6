// SPDX-License-Identifier: Apache-2.0

package loopback

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Options configure a [Server]. The zero value of each field works, except Domain.
type Options struct {
	Domain  string  // what the server serves, such as "capulet.lit"; required
	Flavour Flavour // which real server to behave like; Prosody13 if zero

	CA       *CA      // signs the certificate; a new one if nil
	Network  *Network // other servers that can be reached; none if nil
	PlainC2S bool     // offer authentication without TLS, as a server on a loopback does

	Mechanisms []string // SASL mechanisms to offer; all that the stream allows if nil
	BrokenPLUS bool     // offer SCRAM-SHA-1-PLUS and refuse it, as ejabberd 23.01 does on TLS 1.3

	C2SRate   int      // bytes per second that a client may send; 0 = no shaper
	C2SBurst  int      // bytes that may come at once before the shaper acts; 20,000 if zero
	C2SMax    int      // bytes of a client's stanza; the flavour's limit if zero
	Conflict  Conflict // second connection of a component; the flavour's default if zero
	Multicast *bool    // offer XEP-0033 at multicast.Domain; the flavour's default if nil
	MAM       bool     // archive by default, as a server with mod_mam does
	MUC       bool     // a chat room service at rooms.Domain
	Upload    bool     // HTTP upload at upload.Domain, on 127.0.0.1

	QueueLimit  int    // stanzas that may wait for one slow stream; 100,000 if zero
	WireRecords int    // stanzas the wire log keeps; 100,000 if zero, negative for none
	Seed        uint64 // of faults and of random choices
	Log         *slog.Logger
}

// A Server is one XMPP server in this process. All methods are safe for concurrent use.
type Server struct {
	opts   Options
	b      behaviour
	log    *slog.Logger
	ca     *CA
	tls    *tls.Config
	wire   *Wire
	faults *faults

	c2sL, tlsL, compL net.Listener

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu         sync.Mutex
	closed     bool
	down       bool
	conns      map[*conn]bool
	accounts   map[string]*account
	components map[string]*component
	services   map[string]service // our own domains: upload, rooms, multicast
	rnd        *rand.Rand
	pings      map[string]func(*Element) // answers that the server itself waits for, by id
	upload     *upload
}

// A service answers stanzas to one of our own subdomains, under s.mu.
type service interface {
	handle(st *Element, to jid)
	identity() (category, typ, name string)
	features() []string
}

// Start starts a server on free ports of 127.0.0.1.
func Start(opts Options) (*Server, error) {
	dom, ok := parseJID(opts.Domain)
	if !ok || dom.local != "" || dom.resource != "" {
		return nil, fmt.Errorf("loopback: domain %q is not a domain name", opts.Domain)
	}
	opts.Domain = dom.domain
	if opts.QueueLimit <= 0 {
		opts.QueueLimit = 100_000
	}
	if opts.WireRecords == 0 {
		opts.WireRecords = 100_000
	}
	if opts.C2SBurst <= 0 {
		opts.C2SBurst = 20_000
	}
	s := &Server{
		opts: opts, b: opts.Flavour.behaviour(), log: opts.Log, ca: opts.CA,
		wire: &Wire{max: max(0, opts.WireRecords)}, faults: newFaults(opts.Seed),
		conns: make(map[*conn]bool), accounts: make(map[string]*account),
		components: make(map[string]*component), services: make(map[string]service),
		pings: make(map[string]func(*Element)),
		rnd:   rand.New(rand.NewPCG(opts.Seed, 0x10C)),
	}
	if opts.C2SMax > 0 {
		s.b.c2sMax = opts.C2SMax
	}
	if opts.Conflict != DefaultConflict {
		s.b.conflict = opts.Conflict
	}
	if opts.Multicast != nil {
		s.b.multicast = *opts.Multicast
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.log = s.log.With("server", opts.Domain)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if err := s.listen(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) listen() (err error) {
	d := s.opts.Domain
	if s.ca == nil {
		if s.ca, err = NewCA(); err != nil {
			return err
		}
	}
	cert, err := s.ca.issue(d, "upload."+d, "rooms."+d)
	if err != nil {
		return err
	}
	s.tls = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	if s.b.multicast {
		s.services["multicast."+d] = &multicast{s}
	}
	if s.opts.MUC {
		s.services["rooms."+d] = newRooms(s, "rooms."+d)
	}
	if s.opts.Upload {
		if s.upload, err = newUpload(s, "upload."+d); err != nil {
			return err
		}
		s.services["upload."+d] = s.upload
	}
	for _, l := range []struct {
		dst   *net.Listener
		serve func(net.Conn)
	}{
		{&s.c2sL, func(nc net.Conn) { s.serveC2S(nc, false) }},
		{&s.tlsL, func(nc net.Conn) { s.serveC2S(nc, true) }},
		{&s.compL, s.serveComponent},
	} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("loopback: listening: %w", err)
		}
		*l.dst = ln
		s.goes(func() { s.accept(ln, l.serve) })
	}
	if s.opts.Network != nil {
		return s.opts.Network.join(s)
	}
	return nil
}

// goes starts a goroutine that Close waits for, unless the server is closed.
func (s *Server) goes(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.goesLocked(f)
}

func (s *Server) goesLocked(f func()) bool {
	if s.closed {
		return false
	}
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		f()
	}()
	return true
}

func (s *Server) accept(ln net.Listener, serve func(net.Conn)) {
	for {
		nc, err := ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(10 * time.Millisecond) // out of files: the rest of the machine may recover
			continue
		}
		if !s.goes(func() { serve(nc) }) {
			nc.Close()
		}
	}
}

// track registers a stream so that Close can end it; false when the server is closed.
func (s *Server) track(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if s.down {
		return false
	}
	s.conns[c] = true
	return true
}

func (s *Server) untrack(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// Close ends all streams without a word, as a killed server does, and waits for every
// goroutine. It may be called twice.
func (s *Server) Close() error {
	if s.opts.Network != nil {
		s.opts.Network.leave(s)
	}
	s.mu.Lock()
	s.closed = true
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	up := s.upload
	s.mu.Unlock()
	s.cancel()
	for _, ln := range []net.Listener{s.c2sL, s.tlsL, s.compL} {
		if ln != nil {
			ln.Close()
		}
	}
	if up != nil {
		up.close()
	}
	for _, c := range conns {
		c.kill()
	}
	s.wg.Wait()
	return nil
}

// Down stops the server as a restart does: all streams break, nobody gets in, other
// servers cannot reach it. Accounts, rosters, offline messages, PEP nodes and archives
// stay; sessions and rooms are gone. [Server.Up] ends it.
func (s *Server) Down() {
	s.mu.Lock()
	s.down = true
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	for _, a := range s.accounts {
		for _, ses := range a.sessions {
			ses.gone = true
		}
		a.sessions = make(map[string]*session)
	}
	for _, c := range s.components {
		c.links = nil
	}
	for d, v := range s.services {
		if _, ok := v.(*rooms); ok {
			s.services[d] = newRooms(s, d)
		}
	}
	s.pings = make(map[string]func(*Element))
	s.mu.Unlock()
	for _, c := range conns {
		c.kill()
	}
}

// Up lets a server that is down serve again, on the same addresses.
func (s *Server) Up() {
	s.mu.Lock()
	s.down = false
	s.mu.Unlock()
	if s.opts.Network != nil {
		s.opts.Network.up(s)
	}
}

func (s *Server) isDown() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.down
}

// Domain is the domain that the server serves.
func (s *Server) Domain() string { return s.opts.Domain }

// AddrC2S is where clients connect, with STARTTLS.
func (s *Server) AddrC2S() string { return s.c2sL.Addr().String() }

// AddrTLS is where clients connect with direct TLS.
func (s *Server) AddrTLS() string { return s.tlsL.Addr().String() }

// AddrComponent is where components connect (XEP-0114).
func (s *Server) AddrComponent() string { return s.compL.Addr().String() }

// CA is the authority behind the server's certificate.
func (s *Server) CA() *CA { return s.ca }

// CertPool is what clients should trust.
func (s *Server) CertPool() *x509.CertPool { return s.ca.Pool() }

// Wire is the log of all stanzas.
func (s *Server) Wire() *Wire { return s.wire }

// DialC2S connects a client within the process, without a socket.
func (s *Server) DialC2S() (net.Conn, error) {
	return s.dial(func(nc net.Conn) { s.serveC2S(nc, false) })
}

// DialComponent connects a component within the process, without a socket.
func (s *Server) DialComponent() (net.Conn, error) { return s.dial(s.serveComponent) }

func (s *Server) dial(serve func(net.Conn)) (net.Conn, error) {
	a, b := net.Pipe()
	if !s.goes(func() { serve(b) }) {
		return nil, fmt.Errorf("loopback: server %s is closed", s.opts.Domain)
	}
	return a, nil
}

// Fault puts a rule in force.
func (s *Server) Fault(r Rule) *Fault { return s.faults.add(r) }

// ClearFaults removes all rules.
func (s *Server) ClearFaults() { s.faults.clear() }

// CutClient breaks the connections of an account (bare JID) or of one session (full
// JID) without a word, and reports how many there were.
func (s *Server) CutClient(address string) int {
	j, ok := parseJID(address)
	if !ok {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	if a := s.accounts[j.local]; a != nil && j.domain == s.opts.Domain {
		for r, ses := range a.sessions {
			if j.resource == "" || j.resource == r {
				n++
				ses.conn.kill()
			}
		}
	}
	return n
}

// CutComponent breaks the connections of a component without a word.
func (s *Server) CutComponent(domain string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	if c := s.components[domain]; c != nil {
		for _, l := range c.links {
			n++
			l.kill()
		}
	}
	return n
}
