// SPDX-License-Identifier: Apache-2.0

package component

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lockstep-im/lockstep/stanza"
)

// This file uses a multicast service (XEP-0033) where the server offers one: one
// stanza with many addresses in place of many stanzas, which costs the server
// what its own chat rooms cost.

// multicast is the service in use, if any.
type multicast struct {
	mu   sync.RWMutex
	jid  string
	down time.Time // not used until then: it refused
	// recent are the last stanzas that the service has got, in case it refuses
	// one: that of number n is at n modulo its length.
	recent [16]handed
	n      int
}

// handed is a fan-out that a multicast service was to do.
type handed struct {
	head, tail []byte
	to         []string
	skip       string
}

const (
	// multicastMin is the number of recipients from which it pays.
	multicastMin = 5
	// multicastMax is the number of addresses in one stanza: ejabberd's default
	// limit for local senders.
	multicastMax = 100
	// multicastPause is how long a service that refused is left alone.
	multicastPause = 10 * time.Minute
)

// findMulticast looks for a service when the link comes up.
func (s *Service) findMulticast(ctx context.Context) {
	switch s.conf.Multicast {
	case "none":
		return
	case "":
	default:
		s.multi.set(s.conf.Multicast)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, iqTimeout)
	defer cancel()
	for domain := range s.serves {
		to := addr{full: domain, bare: domain, domain: domain}
		info := &stanza.DiscoInfo{}
		if err := s.iq.do(ctx, s.domain.bare, to, stanza.TypeGet, &stanza.DiscoInfoQuery{}, info); err == nil && info.Has(stanza.NSAddress) {
			s.multi.set(domain)
			return
		}
		list := &stanza.DiscoItems{}
		err := s.iq.do(ctx, s.domain.bare, to, stanza.TypeGet, &stanza.DiscoItemsQuery{}, list)
		if errors.Is(err, context.Canceled) {
			return
		}
		for i, it := range list.Items {
			a, err := parseAddr(it.JID)
			if i == homeItems || err != nil || a.local != "" || a.bare == s.domain.bare {
				continue
			}
			info := &stanza.DiscoInfo{}
			if err := s.iq.do(ctx, s.domain.bare, a, stanza.TypeGet, &stanza.DiscoInfoQuery{}, info); err == nil && info.Has(stanza.NSAddress) {
				s.multi.set(a.bare)
				s.log.Info("using a multicast service", "service", a.bare)
				return
			}
		}
	}
}

func (m *multicast) set(jid string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.jid = jid
}

func (m *multicast) get(now time.Time) string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if now.Before(m.down) {
		return ""
	}
	return m.jid
}

// remember keeps a fan-out until others have followed.
func (m *multicast) remember(h handed) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.recent[m.n%len(m.recent)] = h
	m.n++
}

// refused is called when a stanza comes back. If the service has refused it,
// this event and further ones go out one by one: without the next event its
// recipients would not know that they have missed one.
func (m *multicast) refused(s *Service, from string, id []byte) {
	m.mu.Lock()
	var again []handed
	if m.jid != "" && from == m.jid {
		m.down = s.now().Add(multicastPause)
		mark := fmt.Appendf(nil, " id='%s' ", id)
		for i, h := range m.recent {
			if bytes.Contains(h.head, mark) {
				again = append(again, h)
				m.recent[i] = handed{}
			}
		}
	}
	m.mu.Unlock()
	for _, h := range again {
		s.link.fanout(h.head, h.tail, h.to, h.skip)
	}
}

var addressHead = []byte("<addresses xmlns='" + stanza.NSAddress + "'>")

// send hands a fan-out to the multicast service. It reports whether it did. The
// tail begins with the end of the start tag.
func (m *multicast) send(s *Service, head, tail []byte, to []string, skip string) bool {
	jid := m.get(s.now())
	if jid == "" || len(to) < multicastMin {
		return false
	}
	m.remember(handed{head, tail, to, skip})
	for len(to) > 0 {
		n := min(len(to), multicastMax)
		b := make([]byte, 0, len(head)+len(tail)+n*64)
		b = append(b, head...)
		b = append(b, escapeAttr(jid)...)
		b = append(b, "'>"...)
		b = append(b, addressHead...)
		addresses := 0
		for _, t := range to[:n] {
			if t == skip {
				continue
			}
			b = append(b, "<address type='bcc' jid='"...)
			b = append(b, t...)
			b = append(b, "'/>"...)
			addresses++
		}
		b = append(b, "</addresses>"...)
		b = append(b, tail[len("'>"):]...)
		if len(b) > s.limits.MaxStanza || addresses > 0 && !s.link.send(prioEvent, b) {
			s.link.fanout(head, tail, to, skip)
			return true
		}
		to = to[n:]
	}
	return true
}
