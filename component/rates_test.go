// SPDX-License-Identifier: Apache-2.0

package component

import (
	"testing"
	"time"
)

// TestClockSetBack: nobody waits until the clock is where it was.
func TestClockSetBack(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	l := limiter{rate: Rate{PerSecond: 1, Burst: 2}}
	l.take("a", 2, now)
	now = now.Add(-24 * time.Hour)
	if wait := l.take("a", 1, now); wait > 2*time.Second {
		t.Errorf("wait %v", wait)
	}
	if wait := l.take("a", 1, now.Add(2*time.Second)); wait > 0 {
		t.Errorf("two seconds later: wait %v", wait)
	}
	l.give("a", 10)
	if wait := l.take("a", 2, now.Add(2*time.Second)); wait > 0 {
		t.Errorf("what was given back is not there: wait %v", wait)
	}
	if wait := l.take("a", 1, now.Add(2*time.Second)); wait == 0 {
		t.Error("more was given back than there is room for")
	}
}

// TestBytes: what counts besides the number of requests is their size, of an
// account and, elsewhere, of its domain.
func TestBytes(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	l := (&Limits{Bytes: Rate{1, 100}, DomainBytes: Rate{1, 150}}).WithDefaults()
	r := newRates(&l, func() time.Time { return now })
	a, _ := parseAddr("a@mantua.example")
	b, _ := parseAddr("b@mantua.example")
	if wait := r.request(a, false, 80); wait > 0 {
		t.Fatalf("wait %v", wait)
	}
	if wait := r.request(a, false, 80); wait < 59*time.Second || wait > time.Minute+time.Second {
		t.Errorf("160 of 100 bytes: wait %v", wait)
	}
	if wait := r.request(b, true, 80); wait > 0 {
		t.Errorf("a local account waits %v for its domain", wait)
	}
	now = now.Add(80 * time.Second)
	r.request(a, false, 100)
	if wait := r.request(b, false, 100); wait < 40*time.Second {
		t.Errorf("280 bytes of the domain: wait %v", wait)
	}
	if l := (Limits{Requests: Rate{PerSecond: -1}}).WithDefaults(); l.Bytes.PerSecond >= 0 {
		t.Errorf("requests are not limited, their bytes are: %+v", l.Bytes)
	}
}
