// SPDX-License-Identifier: Apache-2.0

package component

import (
	"fmt"
	"strings"
	"sync"

	"mellium.im/xmpp/jid"
)

// addr is an address from the wire. full is what the server wrote, which is what
// an answer must be sent to; the other fields are normalised (RFC 7622) and the
// only ones that are compared.
type addr struct {
	full     string // as received
	bare     string // local@domain, or domain
	local    string
	domain   string
	resource string
}

func (a addr) String() string { return a.full }

// maxAddr is the longest JID: three parts of 1023 bytes and two separators.
const maxAddr = 3*1023 + 2

// parseAddr reads an address. Servers let addresses through that PRECIS or IDNA
// rejects; that is an error here, and never more than that.
func parseAddr(s string) (addr, error) {
	if len(s) > maxAddr {
		return addr{}, fmt.Errorf("component: address of %d bytes, at most %d are possible", len(s), maxAddr)
	}
	if a, ok := parsePlain(s); ok {
		return a, nil
	}
	if a, ok := addrCache.get(s); ok {
		return a, nil
	}
	j, err := jid.Parse(s)
	if err != nil {
		return addr{}, fmt.Errorf("component: parsing address %q: %w", s, err)
	}
	a := addr{full: s, bare: j.Bare().String(), local: j.Localpart(), domain: j.Domainpart(), resource: j.Resourcepart()}
	if a.domain == "" {
		return addr{}, fmt.Errorf("component: parsing address %q: no domain", s)
	}
	addrCache.put(s, a)
	return a, nil
}

// parsePlain reads the addresses that normalisation leaves alone: lower-case
// ASCII letters, digits and a few signs. That is nearly all of them, at a
// hundredth of the cost.
func parsePlain(s string) (addr, bool) {
	a := addr{full: s, bare: s}
	if i := strings.IndexByte(s, '/'); i >= 0 {
		a.bare, a.resource = s[:i], s[i+1:]
		if a.resource == "" || !plainResource(a.resource) {
			return a, false
		}
	}
	a.domain = a.bare
	if i := strings.IndexByte(a.bare, '@'); i >= 0 {
		a.local, a.domain = a.bare[:i], a.bare[i+1:]
		if a.local == "" || !plainLocal(a.local) {
			return a, false
		}
	}
	return a, plainDomain(a.domain)
}

func plainLocal(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_', c == '.', c == '+':
		default:
			return false
		}
	}
	return len(s) <= 1023
}

func plainResource(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.', c == '+':
		default:
			return false
		}
	}
	return len(s) <= 1023
}

// plainDomain accepts dot-separated labels of letters, digits and inner hyphens
// that are no IDNA labels.
func plainDomain(s string) bool {
	start := 0
	for i := 0; i <= len(s); i++ {
		if i < len(s) && s[i] != '.' {
			switch c := s[i]; {
			case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-':
			default:
				return false
			}
			continue
		}
		label := s[start:i]
		if n := len(label); n == 0 || n > 63 || label[0] == '-' || label[n-1] == '-' || n > 3 && label[2:4] == "--" {
			return false
		}
		start = i + 1
	}
	return len(s) <= 253
}

// addrCache remembers addresses whose normalisation took work.
var addrCache = cache{max: 4096}

type cache struct {
	mu  sync.Mutex
	max int
	m   map[string]addr
}

func (c *cache) get(s string) (addr, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.m[s]
	return a, ok
}

func (c *cache) put(s string, a addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = make(map[string]addr)
	}
	if len(c.m) >= c.max {
		for k := range c.m { // any one will do
			delete(c.m, k)
			break
		}
	}
	c.m[s] = a
}
