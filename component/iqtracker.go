// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/lockstep-im/lockstep/stanza"
)

// Why one of our own requests has no answer.
var (
	errLinkDown   = errors.New("component: the link to the server is down")
	errIQTimeout  = errors.New("component: nobody answered")
	errIQTooMany  = errors.New("component: too many unanswered requests to this domain")
	errIQShutdown = errors.New("component: shutting down")
)

// iqTracker keeps the requests that the service itself has sent. An answer
// counts only if it comes from the address that was asked: an id alone could be
// guessed by anybody.
type iqTracker struct {
	rand    io.Reader
	send    func(p priority, b []byte) bool
	metrics *metrics
	// again is how often an unanswered request is repeated; 0: never. Where
	// several processes are one component, the server may hand the answer to
	// another of them: every repetition is another chance. Our requests may all
	// arrive twice.
	again time.Duration

	mu      sync.Mutex
	pending map[iqKey]chan<- iqAnswer
	domains map[string]int
}

type iqKey struct {
	id   string
	peer string // normalised full address
}

type iqAnswer struct {
	err   error
	parse func(stanza.Payload) error // nil in an empty result
}

func newIQTracker(rand io.Reader, m *metrics, send func(priority, []byte) bool) *iqTracker {
	return &iqTracker{rand: rand, send: send, metrics: m, pending: make(map[iqKey]chan<- iqAnswer), domains: make(map[string]int)}
}

// key gives the comparable form of an address: normalised, with resource.
func (a addr) key() string {
	if a.resource == "" {
		return a.bare
	}
	return a.bare + "/" + a.resource
}

// newID gives 16 random bytes in hex.
func newID(rand io.Reader) string {
	var b [16]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		panic("component: internal error: no randomness: " + err.Error())
	}
	return hex.EncodeToString(b[:])
}

// do sends a request and waits for its answer. into may be nil; else the
// payload of the result is parsed into it. A refusal by the peer is a
// *stanza.Error.
func (t *iqTracker) do(ctx context.Context, from string, to addr, typ string, payload, into stanza.Payload) error {
	key := iqKey{id: newID(t.rand), peer: to.key()}
	ch := make(chan iqAnswer, 1)
	t.mu.Lock()
	if len(t.pending) >= iqOutstanding || t.domains[to.domain] >= iqOutstandingDomain {
		t.mu.Unlock()
		return errIQTooMany
	}
	t.pending[key] = ch
	t.domains[to.domain]++
	t.mu.Unlock()
	defer t.forget(key, to.domain)

	h := stanza.Header{Kind: stanza.IQ, Type: typ, ID: key.id, From: from, To: to.full}
	b := h.Append(nil, payload)
	if !t.send(prioAnswer, b) {
		return errLinkDown
	}
	timer := time.NewTimer(iqTimeout)
	defer timer.Stop()
	var again <-chan time.Time
	if t.again > 0 {
		tick := time.NewTicker(t.again)
		defer tick.Stop()
		again = tick.C
	}
	for repeated := 0; ; {
		select {
		case a := <-ch:
			if a.err != nil || into == nil {
				return a.err
			}
			if a.parse == nil {
				return errors.New("component: the answer has no payload")
			}
			return a.parse(into)
		case <-again:
			if repeated++; repeated == iqRepeats {
				again = nil
			}
			t.send(prioAnswer, b)
		case <-timer.C:
			t.metrics.iqTimeouts.Inc()
			return errIQTimeout
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (t *iqTracker) forget(key iqKey, domain string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.pending, key)
	if t.domains[domain]--; t.domains[domain] <= 0 {
		delete(t.domains, domain)
	}
}

// answer takes an IQ of type result or error. It reports whether one of our
// requests waited for it. st is not used after answer returns.
func (t *iqTracker) answer(from addr, st *stanza.Stanza) bool {
	key := iqKey{id: string(st.ID), peer: from.key()}
	t.mu.Lock()
	ch, ok := t.pending[key]
	if ok {
		delete(t.pending, key) // the first answer counts; forget does the rest
	}
	t.mu.Unlock()
	if !ok {
		return false
	}
	if st.Type == stanza.TypeError {
		ch <- iqAnswer{err: st.Err()}
		return true
	}
	a := iqAnswer{}
	if el := st.First(); el.Valid() {
		// The element's memory is used again after this call.
		var raw stanza.Raw
		if err := raw.Parse(el); err != nil {
			a.err = err
		} else {
			a.parse = func(p stanza.Payload) error { return parseRaw(raw, p) }
		}
	}
	ch <- a
	return true
}

// parseRaw parses a payload that was kept as bytes.
func parseRaw(raw stanza.Raw, into stanza.Payload) error {
	var p stanza.Parser
	st, err := p.Parse(raw)
	if err != nil {
		return err
	}
	return into.Parse(st.Element)
}

// abort fails all pending requests: the link went down, and what was not
// answered yet never will be.
func (t *iqTracker) abort(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, ch := range t.pending {
		ch <- iqAnswer{err: err}
		delete(t.pending, key)
	}
}
