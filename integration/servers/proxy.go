// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// A Proxy is a TCP relay on 127.0.0.1 with faults, to stand between a component
// or a client and its server. Its methods may be called concurrently.
//
//	p, err := servers.NewProxy(srv.ComponentAddr())
//	… connect to p.Addr() …
//	p.Stall()     // nothing moves any more, both sides still think they are connected
//	p.Heal()      // everything arrives
//	p.Cut()       // connections are reset, new ones refused, until Heal
//	p.CutAfter(n) // ended after n more bytes from the dialer
type Proxy struct {
	l net.Listener

	mu      sync.Mutex
	cond    *sync.Cond
	target  string
	stalled bool
	cut     bool
	closed  bool
	delay   time.Duration
	rate    int   // bytes per second each way and connection; 0 is no limit
	fuse    int64 // bytes from dialers until a cut; negative is none
	pairs   map[*pair]bool
}

type pair struct{ near, far net.Conn }

func (p *pair) reset() {
	for _, c := range []net.Conn{p.near, p.far} {
		if t, ok := c.(*net.TCPConn); ok {
			t.SetLinger(0)
		}
		if c != nil {
			c.Close()
		}
	}
}

// NewProxy listens on a free port of 127.0.0.1 and relays to the target.
func NewProxy(target string) (*Proxy, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("servers: starting a proxy: %w", err)
	}
	p := &Proxy{l: l, target: target, fuse: -1, pairs: map[*pair]bool{}}
	p.cond = sync.NewCond(&p.mu)
	go p.accept()
	return p, nil
}

// Addr is where to connect instead of the target.
func (p *Proxy) Addr() string { return p.l.Addr().String() }

// SetTarget changes where new connections go.
func (p *Proxy) SetTarget(addr string) { p.set(func() { p.target = addr }) }

// Stall lets nothing through, in either direction, until [Proxy.Heal]; new
// connections are accepted and silent. It is what a network partition looks like
// from an established TCP connection.
func (p *Proxy) Stall() { p.set(func() { p.stalled = true }) }

// Cut resets all connections, and new ones at once, until [Proxy.Heal].
func (p *Proxy) Cut() {
	p.set(func() {
		p.cut = true
		p.resetAll()
	})
}

// Reset resets the connections there are; new ones pass.
func (p *Proxy) Reset() { p.set(p.resetAll) }

// CutAfter ends all connections when n more bytes came from dialers and were
// passed on: in the middle of a stanza, if n says so. New ones pass.
func (p *Proxy) CutAfter(n int64) { p.set(func() { p.fuse = n }) }

// Delay holds every piece of data back for the time.
func (p *Proxy) Delay(d time.Duration) { p.set(func() { p.delay = d }) }

// Rate limits each direction of each connection, in bytes per second; 0 is no
// limit.
func (p *Proxy) Rate(bytesPerSecond int) { p.set(func() { p.rate = bytesPerSecond }) }

// Heal ends all faults.
func (p *Proxy) Heal() {
	p.set(func() { p.stalled, p.cut, p.delay, p.rate, p.fuse = false, false, 0, 0, -1 })
}

// Close ends the proxy and its connections.
func (p *Proxy) Close() error {
	p.set(func() {
		p.closed = true
		p.resetAll()
	})
	return p.l.Close()
}

// Connections is how many there are.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.pairs)
}

func (p *Proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	p.cond.Broadcast()
}

func (p *Proxy) resetAll() {
	for c := range p.pairs {
		c.reset()
		delete(p.pairs, c)
	}
}

func (p *Proxy) accept() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(10 * time.Millisecond)
			continue
		}
		go p.serve(c)
	}
}

func (p *Proxy) serve(near net.Conn) {
	c := &pair{near: near}
	p.mu.Lock()
	p.pairs[c] = true
	for p.stalled && !p.cut && !p.closed {
		p.cond.Wait()
	}
	refused := p.cut || p.closed || !p.pairs[c]
	target := p.target
	p.mu.Unlock()
	if refused {
		p.drop(c)
		return
	}
	far, err := net.DialTimeout("tcp", target, 10*time.Second)
	if err != nil {
		p.drop(c)
		return
	}
	p.mu.Lock()
	if !p.pairs[c] { // cut while dialing
		p.mu.Unlock()
		far.Close()
		return
	}
	c.far = far
	p.mu.Unlock()

	done := make(chan struct{})
	go func() {
		p.copy(c, near, far, true)
		close(done)
	}()
	p.copy(c, far, near, false)
	<-done
	p.drop(c)
}

func (p *Proxy) drop(c *pair) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.reset()
	delete(p.pairs, c)
}

// copy relays one direction; an end of file is passed on, an error resets both.
func (p *Proxy) copy(c *pair, from, to net.Conn, dialer bool) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && !p.pass(c, to, buf[:n], dialer) {
			return
		}
		if err != nil {
			if t, ok := to.(*net.TCPConn); ok && n == 0 {
				t.CloseWrite()
			}
			return
		}
	}
}

// pass writes b when the faults allow, and reports whether to go on.
func (p *Proxy) pass(c *pair, to net.Conn, b []byte, dialer bool) bool {
	p.mu.Lock()
	delay, rate := p.delay, p.rate
	p.mu.Unlock()
	if delay > 0 {
		time.Sleep(delay)
	}
	for len(b) > 0 {
		part := b
		if rate > 0 {
			part = b[:min(len(b), max(1, rate/20))]
			time.Sleep(time.Duration(len(part)) * time.Second / time.Duration(rate))
		}
		p.mu.Lock()
		for p.stalled && p.pairs[c] {
			p.cond.Wait()
		}
		ok := p.pairs[c]
		blown := false
		if ok && dialer && p.fuse >= 0 {
			if p.fuse < int64(len(part)) {
				part, blown = part[:p.fuse], true
				p.fuse = -1
			} else {
				p.fuse -= int64(len(part))
			}
		}
		p.mu.Unlock()
		if !ok {
			return false
		}
		if _, err := to.Write(part); err != nil {
			p.drop(c)
			return false
		}
		if blown {
			// An orderly end: a reset would take back what was just sent.
			p.set(func() {
				delete(p.pairs, c)
				to.Close()
				c.near.Close()
				p.resetAll()
			})
			return false
		}
		b = b[len(part):]
	}
	return true
}
