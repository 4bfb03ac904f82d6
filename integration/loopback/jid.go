// SPDX-License-Identifier: Apache-2.0

package loopback

import (
	"strings"
	"unicode/utf8"
)

// A jid is split text. It is deliberately more lenient than RFC 7622 with its
// PRECIS profiles: real servers let addresses through (nodeprep of RFC 3920)
// that Go's PRECIS rejects, and the scenarios need those to arrive.
type jid struct{ local, domain, resource string }

// parseJID splits and folds case. ok is false for what real servers also call malformed.
func parseJID(s string) (j jid, ok bool) {
	if !utf8.ValidString(s) {
		return j, false
	}
	rest := s
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		rest, j.resource = rest[:i], rest[i+1:]
		if j.resource == "" || len(j.resource) > 1023 {
			return j, false
		}
	}
	if i := strings.IndexByte(rest, '@'); i >= 0 {
		j.local, rest = strings.ToLower(rest[:i]), rest[i+1:]
		if j.local == "" || len(j.local) > 1023 || strings.ContainsAny(j.local, "\"&':<>@ \t\r\n") {
			return j, false
		}
	}
	j.domain = strings.TrimSuffix(strings.ToLower(rest), ".")
	if j.domain == "" || len(j.domain) > 1023 || strings.ContainsAny(j.domain, "\"&':<>@ \t\r\n") {
		return j, false
	}
	return j, true
}

func (j jid) bare() string {
	if j.local == "" {
		return j.domain
	}
	return j.local + "@" + j.domain
}

func (j jid) String() string {
	if j.resource == "" {
		return j.bare()
	}
	return j.bare() + "/" + j.resource
}

// bareOf is the bare form of an address that has been parsed before.
func bareOf(s string) string {
	if i := strings.IndexByte(s, '/'); i >= 0 {
		return s[:i]
	}
	return s
}
