// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"fmt"
	"net"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// A nameserver answers one native server's questions on 127.0.0.1: where is
// _xmpp-server._tcp.X? On localhost, at the port that lookup says. Native
// servers cannot share port 5269, so they need SRV records.
type nameserver struct {
	conn   net.PacketConn
	lookup func(domain string) (port int, ok bool)
}

func newNameserver(lookup func(string) (int, bool)) (*nameserver, error) {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("servers: starting a name server: %w", err)
	}
	n := &nameserver{conn, lookup}
	go n.serve()
	return n, nil
}

func (n *nameserver) port() int    { return n.conn.LocalAddr().(*net.UDPAddr).Port }
func (n *nameserver) close() error { return n.conn.Close() }

func (n *nameserver) serve() {
	buf := make([]byte, 4096)
	for {
		size, from, err := n.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if answer, err := n.answer(buf[:size]); err == nil {
			n.conn.WriteTo(answer, from)
		}
	}
}

func (n *nameserver) answer(query []byte) ([]byte, error) {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil {
		return nil, err
	}
	q, err := p.Question()
	if err != nil {
		return nil, err
	}
	name := strings.TrimSuffix(strings.ToLower(q.Name.String()), ".")
	head := dnsmessage.Header{ID: h.ID, Response: true, Authoritative: true, RecursionDesired: h.RecursionDesired, RecursionAvailable: true}

	domain, isSRV := strings.CutPrefix(name, "_xmpp-server._tcp.")
	port, known := 0, name == "localhost"
	if isSRV {
		port, known = n.lookup(domain)
	}
	if !known {
		head.RCode = dnsmessage.RCodeNameError
	}
	b := dnsmessage.NewBuilder(nil, head)
	b.EnableCompression()
	if err := b.StartQuestions(); err != nil {
		return nil, err
	}
	if err := b.Question(q); err != nil {
		return nil, err
	}
	if err := b.StartAnswers(); err != nil {
		return nil, err
	}
	rh := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 1}
	switch {
	case known && isSRV && q.Type == dnsmessage.TypeSRV:
		err = b.SRVResource(rh, dnsmessage.SRVResource{Port: uint16(port), Target: dnsmessage.MustNewName("localhost.")})
	case known && !isSRV && q.Type == dnsmessage.TypeA:
		err = b.AResource(rh, dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}})
	}
	if err != nil {
		return nil, err
	}
	return b.Finish()
}
