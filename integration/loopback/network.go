// SPDX-License-Identifier: Apache-2.0

package loopback

import (
	"fmt"
	"sync"
	"time"
)

// A Network lets servers of one process reach each other, in place of s2s streams. The
// zero value is ready. It is safe for concurrent use.
type Network struct {
	// Timeout is how long stanzas wait for a server that cannot be reached before they
	// are bounced with remote-server-timeout. 5 s if zero (real servers: 30 to 90 s).
	Timeout time.Duration

	mu      sync.Mutex
	domains map[string]*Server
	links   map[[2]string]*netLink // from, to: domains of servers
	parted  map[[2]string]bool
}

// A netLink carries stanzas from one server to another, in order.
type netLink struct {
	out  *lane
	in   *lane
	gate chan struct{} // signalled when the other side may be reachable again
}

func (n *Network) join(s *Server) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.domains == nil {
		n.domains = make(map[string]*Server)
		n.links = make(map[[2]string]*netLink)
		n.parted = make(map[[2]string]bool)
	}
	if n.domains[s.opts.Domain] != nil {
		return fmt.Errorf("loopback: network has a server %q already", s.opts.Domain)
	}
	n.domains[s.opts.Domain] = s
	for d := range s.services {
		n.domains[d] = s
	}
	return nil
}

func (n *Network) announce(s *Server, domain string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.domains[domain] = s
}

func (n *Network) leave(s *Server) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for d, o := range n.domains {
		if o == s {
			delete(n.domains, d)
		}
	}
	for k, l := range n.links {
		if k[0] == s.opts.Domain || k[1] == s.opts.Domain {
			l.out.finish()
			l.in.finish()
			delete(n.links, k)
		}
	}
}

// up lets what waits for a server go on.
func (n *Network) up(s *Server) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for k, l := range n.links {
		if k[1] == s.opts.Domain {
			signal(l.gate)
		}
	}
}

// Partition parts two servers, both ways. Stanzas between them wait, and are bounced
// when it lasts longer than Timeout.
func (n *Network) Partition(a, b *Server) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.parted[[2]string{a.opts.Domain, b.opts.Domain}] = true
	n.parted[[2]string{b.opts.Domain, a.opts.Domain}] = true
}

// Heal joins them again. What still waits is delivered, in order.
func (n *Network) Heal(a, b *Server) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, k := range [][2]string{{a.opts.Domain, b.opts.Domain}, {b.opts.Domain, a.opts.Domain}} {
		delete(n.parted, k)
		if l := n.links[k]; l != nil {
			signal(l.gate)
		}
	}
}

func (n *Network) isParted(k [2]string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.parted[k]
}

func (n *Network) timeout() time.Duration {
	if n.Timeout > 0 {
		return n.Timeout
	}
	return 5 * time.Second
}

// send queues a stanza for another server; false when no server has the domain. Under
// the sender's s.mu.
func (n *Network) send(from *Server, st *Element, domain string) bool {
	n.mu.Lock()
	to := n.domains[domain]
	if to == nil || to == from {
		n.mu.Unlock()
		return false
	}
	k := [2]string{from.opts.Domain, to.opts.Domain}
	l := n.links[k]
	if l == nil {
		l = n.connect(from, to, k)
		n.links[k] = l
	}
	n.mu.Unlock()
	l.out.put(st)
	return true
}

// connect makes the two lanes of a link: the sender's and the receiver's, each with the
// rules and the wire log of its server.
func (n *Network) connect(from, to *Server, k [2]string) *netLink {
	l := &netLink{gate: make(chan struct{}, 1)}
	l.out = newLane(S2S, to.opts.Domain, Out, from.opts.QueueLimit, from.faults, from.wire, from.ctx.Done())
	l.in = newLane(S2S, from.opts.Domain, In, from.opts.QueueLimit, to.faults, to.wire, to.ctx.Done())
	// A break loses what is in flight; the next stanza finds a new connection.
	l.out.cut = func(*Element) { l.out.clear(); l.in.clear() }
	l.in.cut = l.out.cut
	l.out.emit = func(it item) bool {
		return n.pass(from, to, k, l, it.el)
	}
	l.in.emit = func(it item) bool { to.fromNetwork(it.el); return true }
	from.goesLocked(l.out.run)
	go func() { // the receiver's lock may be held by the one who waits for ours: never take it here
		if !to.goes(l.in.run) {
			l.in.finish()
		}
	}()
	return l
}

// pass takes a stanza over the link, waiting while it is parted.
func (n *Network) pass(from, to *Server, k [2]string, l *netLink, st *Element) bool {
	if len(appendElement(nil, st, nsClient, "")) > to.b.s2sMax {
		// The stream is closed by the other side, the sender learns nothing, and what was
		// in flight is lost with it.
		l.in.clear()
		return true
	}
	deadline := time.Now().Add(n.timeout())
	for n.isParted(k) || to.isDown() {
		t := time.NewTimer(time.Until(deadline))
		select {
		case <-l.gate:
			t.Stop()
			continue
		case <-from.ctx.Done():
			t.Stop()
			return false
		case <-t.C:
		}
		from.mu.Lock()
		from.bounce(st, "wait", "remote-server-timeout", "Server-to-server connection failed: no answer")
		from.mu.Unlock()
		return true
	}
	l.in.put(st)
	return true
}
