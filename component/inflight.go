// SPDX-License-Identifier: Apache-2.0

package component

import "sync"

// inFlight counts the bytes of what is being worked on or waits for that, of all
// and of each sender: a local account, or another domain with all of its
// accounts.
type inFlight struct {
	mu    sync.Mutex
	total int64
	of    map[string]int64
}

// room reports whether n more bytes of a sender fit. When half of all is taken,
// no sender gets more than a quarter: one that floods a store which is slow waits
// behind itself, and the others come past it.
func (f *inFlight) room(sender string, n, most int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.total+n <= most && (f.total+n <= most/2 || f.of[sender]+n <= most/4)
}

// add counts n bytes, which are negative when they are done with, and returns
// the new total.
func (f *inFlight) add(sender string, n int64) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.of == nil {
		f.of = make(map[string]int64)
	}
	f.total += n
	if f.of[sender] += n; f.of[sender] <= 0 {
		delete(f.of, sender)
	}
	return f.total
}

func (f *inFlight) bytes() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.total
}

// sender is whose bytes those of an account are.
func (s *Service) sender(from addr) string {
	if s.local(from) {
		return from.bare
	}
	return from.domain
}
