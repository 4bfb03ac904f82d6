// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"
)

// startTimeout bounds the start of one server. Prosody needs 1-2 s, ejabberd
// 3-6 s on an idle machine of two cores; a loaded one several times that.
const startTimeout = 90 * time.Second

// A Server is a running Prosody or ejabberd. Its methods may be called
// concurrently.
type Server struct {
	flavour Flavour
	opts    Options
	in      instance
	ca      *ca

	mu     sync.Mutex
	free   []Component // not leased
	leased chan struct{}
	closed bool
}

// An instance is one server in a container or in a process of this machine.
type instance interface {
	layout() layout // paths and addresses as the server sees them
	ports() ports   // on 127.0.0.1 of this machine
	where() string  // "container lockstep-test-…", "process 4711"

	start(context.Context) error
	stop(context.Context) error // as an operator would: SIGTERM
	kill(context.Context) error // SIGKILL
	pause(context.Context) error
	resume(context.Context) error
	partition(context.Context) error // other servers alone
	heal(context.Context) error
	exec(ctx context.Context, command string, args ...string) (output []byte, err error)
	writeData(context.Context, []file) error // files below layout().Data
	alive(context.Context) error             // nil while the process runs
	cpu(context.Context) (time.Duration, error)
	logs(context.Context, time.Time, io.Writer) error
	remove(context.Context) error
}

// A file to put into an instance.
type file struct {
	name string
	data []byte
}

// New starts a server and returns when it accepts clients and components. The
// caller closes it. Tests use [Start] or [Shared].
func New(ctx context.Context, f Flavour, o Options) (*Server, error) {
	if _, err := ParseFlavour(string(f)); err != nil {
		return nil, err
	}
	o, err := o.withDefaults(f)
	if err != nil {
		return nil, err
	}
	b, err := backendFor(ctx, f)
	if err != nil {
		return nil, err
	}
	a, err := authority()
	if err != nil {
		return nil, fmt.Errorf("servers: making a certificate authority: %w", err)
	}
	in, err := b.create(ctx, f, o, a)
	if err != nil {
		return nil, err
	}
	s := &Server{flavour: f, opts: o, in: in, ca: a, free: append([]Component(nil), o.Components...), leased: make(chan struct{}, 1)}
	if err := s.Restart(ctx); err != nil {
		var log tail
		in.logs(context.WithoutCancel(ctx), time.Time{}, &log)
		cerr := in.remove(context.WithoutCancel(ctx))
		return nil, errors.Join(fmt.Errorf("%w; the end of its log:\n%s", err, log.String()), cerr)
	}
	register(s)
	return s, nil
}

// Close ends the server and removes what it left, unless KEEP=1 is set.
func (s *Server) Close() error {
	s.mu.Lock()
	done := s.closed
	s.closed = true
	s.mu.Unlock()
	if done {
		return nil
	}
	unregister(s)
	if keep() {
		fmt.Fprintf(os.Stderr, "servers: KEEP=1: %s (%s) stays: c2s %s, component %s, %s\n", s.flavour, s.Domain(), s.C2S(), s.ComponentAddr(), s.in.where())
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return s.in.remove(ctx)
}

// Flavour says which server it is.
func (s *Server) Flavour() Flavour { return s.flavour }

// Options are those of the server, defaults filled in.
func (s *Server) Options() Options { return s.opts }

// Domain is the virtual host.
func (s *Server) Domain() string { return s.opts.Domain }

// Rooms is the domain of the MUC service, for comparison.
func (s *Server) Rooms() string { return "rooms." + s.opts.Domain }

// Multicast is the domain of the XEP-0033 service, empty where there is none.
func (s *Server) Multicast() string {
	switch {
	case !s.opts.Multicast:
		return ""
	case s.flavour.Prosody():
		return s.opts.Domain
	}
	return "multicast." + s.opts.Domain
}

// Where names the container or process, for a person.
func (s *Server) Where() string { return s.in.where() }

func (s *Server) addr(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// C2S is where clients connect by STARTTLS. This and the other addresses stay
// the same over [Server.Stop] and [Server.Restart].
func (s *Server) C2S() string { return s.addr(s.in.ports().C2S) }

// C2STLS is where clients connect by direct TLS (XEP-0368).
func (s *Server) C2STLS() string { return s.addr(s.in.ports().C2STLS) }

// ComponentAddr is where components connect.
func (s *Server) ComponentAddr() string { return s.addr(s.in.ports().Component) }

// HTTPS is where files are uploaded to, with [Options].Upload.
func (s *Server) HTTPS() string { return s.addr(s.in.ports().HTTPS) }

// Component is the first of the server's components.
func (s *Server) Component() Component { return s.opts.Components[0] }

// RootCAs holds the authority that signed this process's servers.
func (s *Server) RootCAs() *x509.CertPool { return s.ca.pool() }

// TLSConfig is a client's configuration for the server's domain.
func (s *Server) TLSConfig() *tls.Config {
	return &tls.Config{ServerName: s.opts.Domain, RootCAs: s.ca.pool(), MinVersion: tls.VersionTLS12}
}

// Restart starts a stopped or killed server again and waits until it accepts
// clients and components.
func (s *Server) Restart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := s.in.start(ctx); err != nil {
		return fmt.Errorf("servers: starting %s: %w", s.flavour, err)
	}
	if err := s.waitReady(ctx); err != nil {
		return fmt.Errorf("servers: starting %s: %w", s.flavour, err)
	}
	return nil
}

// Stop ends the server as an operator would; its data stay.
func (s *Server) Stop(ctx context.Context) error { return s.does("stopping", s.in.stop(ctx)) }

// Kill ends it at once (SIGKILL); what it had written stays.
func (s *Server) Kill(ctx context.Context) error { return s.does("killing", s.in.kill(ctx)) }

// Pause freezes it: connections stay open and nothing answers. [Server.Resume]
// lets it go on.
func (s *Server) Pause(ctx context.Context) error { return s.does("pausing", s.in.pause(ctx)) }

// Resume ends a [Server.Pause].
func (s *Server) Resume(ctx context.Context) error { return s.does("resuming", s.in.resume(ctx)) }

// Partition cuts the server off from all other servers, in both directions,
// until [Server.Heal]: running connections go silent, new ones fail. Clients and
// components stay connected.
func (s *Server) Partition(ctx context.Context) error {
	return s.does("partitioning", s.in.partition(ctx))
}

// Heal ends a [Server.Partition].
func (s *Server) Heal(ctx context.Context) error { return s.does("healing", s.in.heal(ctx)) }

func (s *Server) does(verb string, err error) error {
	if err != nil {
		return fmt.Errorf("servers: %s %s: %w", verb, s.flavour, err)
	}
	return nil
}

// CPU is the processor time that the server has used since it began: on a
// machine that does other things, too, a better measure than its pace.
func (s *Server) CPU(ctx context.Context) (time.Duration, error) {
	d, err := s.in.cpu(ctx)
	return d, s.does("measuring", err)
}

// Logs copies what the server has logged since the given time.
func (s *Server) Logs(ctx context.Context, since time.Time, w io.Writer) error {
	return s.in.logs(ctx, since, w)
}

// waitReady asks the client and the component port for a stream until both
// answer with one: a published container port accepts before the server does.
func (s *Server) waitReady(ctx context.Context) error {
	probes := []struct{ what, addr, header string }{
		{"client", s.C2S(), fmt.Sprintf("<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='%s' version='1.0'>", s.Domain())},
	}
	if len(s.opts.Components) > 0 {
		probes = append(probes, struct{ what, addr, header string }{"component", s.ComponentAddr(),
			fmt.Sprintf("<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to='%s'>", s.Component().Domain)})
	}
	for _, p := range probes {
		for {
			err := probe(ctx, p.addr, p.header)
			if err == nil {
				break
			}
			if aerr := s.in.alive(ctx); aerr != nil && ctx.Err() == nil {
				return aerr
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("no answer on its %s port %s: %w", p.what, p.addr, err)
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	return nil
}

// probe opens a stream and wants a stream header with an id in return.
func probe(ctx context.Context, addr, header string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if d, ok := ctx.Deadline(); ok {
		conn.SetDeadline(d)
	}
	if _, err := io.WriteString(conn, header); err != nil {
		return err
	}
	var got []byte
	buf := make([]byte, 1024)
	for len(got) < 4096 {
		n, err := conn.Read(buf)
		got = append(got, buf[:n]...)
		if streamOpened(got) {
			io.WriteString(conn, "</stream:stream>")
			return nil
		}
		if err != nil {
			return fmt.Errorf("no stream header: %w", err)
		}
	}
	return errors.New("no stream header in 4 KiB")
}
