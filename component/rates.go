// SPDX-License-Identifier: Apache-2.0

package component

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/lockstep-im/lockstep/stanza"
)

// rates limits how often accounts and domains may ask for something. Each limit
// is a token bucket per key; the memory of all buckets of a limit is bounded.
type rates struct {
	now          func() time.Time
	requests     limiter // by account
	domain       limiter // by domain, of accounts that are not local
	send         limiter // by account
	claims       limiter // users claimed, by account
	claimed      limiter // by claimed user
	domainClaims limiter // users claimed, by domain
	create       limiter // by account
	reports      limiter // by account
	invites      limiter // devices added whose packages were not claimed here, by account
	bytes        limiter // by account
	domainBytes  limiter // by domain, of accounts that are not local
}

func newRates(l *Limits, now func() time.Time) *rates {
	return &rates{
		now: now, requests: limiter{rate: l.Requests}, domain: limiter{rate: l.Domain}, send: limiter{rate: l.Send},
		claims: limiter{rate: l.Claims}, claimed: limiter{rate: l.Claimed}, domainClaims: limiter{rate: l.DomainClaims},
		create: limiter{rate: l.Create}, reports: limiter{rate: l.Reports}, invites: limiter{rate: l.Invites},
		bytes: limiter{rate: l.Bytes}, domainBytes: limiter{rate: l.DomainBytes},
	}
}

// request counts one request of so many bytes. It returns zero, or how long to
// wait.
func (r *rates) request(from addr, local bool, bytes int) time.Duration {
	now := r.now()
	if wait := r.requests.take(from.bare, 1, now); wait > 0 {
		return wait
	}
	if wait := r.bytes.take(from.bare, bytes, now); wait > 0 {
		return wait
	}
	if local {
		return 0
	}
	if wait := r.domain.take(from.domain, 1, now); wait > 0 {
		return wait
	}
	return r.domainBytes.take(from.domain, bytes, now)
}

// limiter is a set of token buckets. A bucket that has filled up again is
// forgotten.
type limiter struct {
	rate Rate

	mu sync.Mutex
	// buckets are found by a hash of their key: strangers choose the keys, which
	// are long and many. Whoever could make two of them meet would share a limit.
	seed    maphash.Seed
	buckets map[uint64]bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

// take takes n tokens of key's bucket, or none and says when they will be
// there. A demand larger than the burst is served when the bucket is full: it
// then goes into debt.
func (l *limiter) take(key string, n int, now time.Time) time.Duration {
	if l.rate.PerSecond < 0 {
		return 0 // the operator turned it off
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.buckets == nil {
		l.seed, l.buckets = maphash.MakeSeed(), make(map[uint64]bucket)
	}
	burst := float64(l.rate.Burst)
	h := maphash.String(l.seed, key)
	b, ok := l.buckets[h]
	if !ok {
		b = bucket{tokens: burst, at: now}
		if len(l.buckets) >= rateEntries {
			l.shrink(now)
		}
	}
	if d := now.Sub(b.at); d > 0 {
		b.tokens = min(burst, b.tokens+d.Seconds()*l.rate.PerSecond)
	}
	b.at = now // also where the clock was set back: nobody waits until it catches up
	need := min(float64(n), burst)
	if b.tokens < need {
		l.buckets[h] = b
		if l.rate.PerSecond == 0 {
			return time.Hour
		}
		return time.Duration((need-b.tokens)/l.rate.PerSecond*float64(time.Second)) + time.Millisecond
	}
	b.tokens -= float64(n)
	l.buckets[h] = b
	return 0
}

// give returns tokens that were taken for nothing.
func (l *limiter) give(key string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.buckets == nil {
		return
	}
	h := maphash.String(l.seed, key)
	if b, ok := l.buckets[h]; ok {
		b.tokens = min(float64(l.rate.Burst), b.tokens+float64(n))
		l.buckets[h] = b
	}
}

// shrink forgets buckets that are full again, and any others if that is not
// enough: forgetting is a gift to the account, never a punishment.
func (l *limiter) shrink(now time.Time) {
	burst := float64(l.rate.Burst)
	for key, b := range l.buckets {
		if b.tokens+now.Sub(b.at).Seconds()*l.rate.PerSecond >= burst {
			delete(l.buckets, key)
		}
	}
	for key := range l.buckets {
		if len(l.buckets) < rateEntries {
			return
		}
		delete(l.buckets, key)
	}
}

// limit counts a request of so many bytes, and fails where its sender, or the
// sender's domain, has made too many.
func (s *Service) limit(from addr, bytes int64) error {
	if wait := s.rates.request(from, s.local(from), int(bytes)); wait > 0 {
		s.metrics.limited.WithLabelValues("requests").Inc()
		return &stanza.RetryAfter{After: wait}
	}
	return nil
}

// charge counts work for an account as if it had sent so many more bytes, and
// fails where these would be too many at once.
func (s *Service) charge(user string, bytes int) error {
	if wait := s.rates.bytes.take(user, bytes, s.now()); wait > 0 {
		s.metrics.limited.WithLabelValues("requests").Inc()
		return &stanza.RetryAfter{After: wait}
	}
	return nil
}
