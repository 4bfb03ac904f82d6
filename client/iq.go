// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/lockstep-im/lockstep/stanza/xmlpull"
)

// This file matches IQ answers to requests: by id and by who may answer, with
// a time-out each, and none outlives its link. mellium's own matching is by id
// alone, from anybody, and waits for ever after a disconnect.

// ErrOffline is returned by operations that need the server while there is no
// connection to it. What was already sealed stays in the outbox and is sent
// when the client is online again.
var ErrOffline = errors.New("client: offline")

// errUnknownOutcome wraps the end of a request whose answer did not come: the
// request may have had its effect.
var errUnknownOutcome = errors.New("client: no answer")

// errRestarted is the end of a request that a delivery service took with it
// when it went down, and of which it knows nothing now that it is back.
var errRestarted = fmt.Errorf("%w: the delivery service was restarted", errUnknownOutcome)

// link carries stanzas to and from the server, whoever opened it.
type link interface {
	// send writes whole stanzas. It may block as long as the server reads
	// slowly, but not for ever.
	send(b []byte) error
	// local is the full JID of this side.
	local() jid.JID
	// done is closed when the link has ended.
	done() <-chan struct{}
	// drop ends the link.
	drop(reason error)
}

type pendingIQ struct {
	to   string
	link link
	ch   chan []byte   // buffered for one
	lost chan struct{} // closed by giveUp
}

// tracker holds the requests that wait for an answer.
type tracker struct {
	patience time.Duration // with a short request

	mu      sync.Mutex
	pending map[string]*pendingIQ
}

// answerTimeout is how long the answer to a short request may take.
const answerTimeout = 30 * time.Second

func newTracker(patience time.Duration) *tracker {
	return &tracker{patience: patience, pending: make(map[string]*pendingIQ)}
}

func randomID() string {
	var b [12]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// timeout is how long a request of n bytes waits for its answer. It allows for
// a server that takes 1,500 bytes a second from its clients, half of what
// ejabberd's default shaper does.
func (t *tracker) timeout(n int) time.Duration {
	return t.patience + time.Duration(n)*time.Second/1500
}

// request sends an IQ of type typ with payload (complete XML) to an address,
// empty for the own account, and returns the bytes of the answering stanza,
// result or error. Its error is ErrOffline when nothing was sent, or wraps
// errUnknownOutcome.
func (t *tracker) request(ctx context.Context, l link, typ, to string, payload []byte) ([]byte, error) {
	return t.start(ctx, l, typ, to, payload)()
}

// start is the first half of request: it writes the IQ, and returns the second,
// which waits for the answer and must be called.
func (t *tracker) start(ctx context.Context, l link, typ, to string, payload []byte) (wait func() ([]byte, error)) {
	failed := func(err error) func() ([]byte, error) { return func() ([]byte, error) { return nil, err } }
	if l == nil {
		return failed(ErrOffline)
	}
	select {
	case <-l.done():
		return failed(ErrOffline)
	default:
	}
	id := randomID()
	b := make([]byte, 0, len(payload)+128+len(to))
	b = append(b, "<iq xmlns='jabber:client'"...)
	b = xmlpull.AppendAttr(b, "type", typ)
	b = xmlpull.AppendAttr(b, "id", id)
	if to != "" {
		b = xmlpull.AppendAttr(b, "to", to)
	}
	b = append(b, '>')
	b = append(b, payload...)
	b = append(b, "</iq>"...)
	p := &pendingIQ{to: to, link: l, ch: make(chan []byte, 1), lost: make(chan struct{})}
	t.mu.Lock()
	t.pending[id] = p
	t.mu.Unlock()
	forget := func() {
		t.mu.Lock()
		delete(t.pending, id)
		t.mu.Unlock()
	}
	if err := l.send(b); err != nil {
		forget()
		return failed(fmt.Errorf("%w: %v", errUnknownOutcome, err))
	}
	timeout := t.timeout(len(b))
	timer := time.NewTimer(timeout)
	return func() ([]byte, error) {
		defer forget()
		defer timer.Stop()
		select {
		case raw := <-p.ch:
			return raw, nil // however long nobody has asked for it
		default:
		}
		select {
		case raw := <-p.ch:
			return raw, nil
		case <-p.lost:
			return nil, errRestarted
		case <-l.done():
			return nil, fmt.Errorf("%w: the connection ended", errUnknownOutcome)
		case <-timer.C:
			return nil, fmt.Errorf("%w from %q in %v", errUnknownOutcome, to, timeout)
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", errUnknownOutcome, ctx.Err())
		}
	}
}

// waitsFor reports whether some request has this id.
func (t *tracker) waitsFor(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.pending[id]
	return ok
}

// waitingFor lists the requests to a host, or to addresses at it, that have no
// answer yet.
func (t *tracker) waitingFor(host string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var ids []string
	for id, p := range t.pending {
		if domainOf(p.to) == host {
			ids = append(ids, id)
		}
	}
	return ids
}

// giveUp ends those of the requests that still have no answer, with
// errRestarted.
func (t *tracker) giveUp(ids []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range ids {
		if p := t.pending[id]; p != nil {
			delete(t.pending, id)
			close(p.lost)
		}
	}
}

// answer hands raw, an IQ of type result or error, to the request it answers.
// It reports false for anything that answers no request of ours.
func (t *tracker) answer(l link, id, from string, raw []byte) bool {
	t.mu.Lock()
	p, ok := t.pending[id]
	if ok && (p.link != l || !mayAnswer(p.to, from, l.local())) {
		ok = false
	}
	if ok {
		delete(t.pending, id)
	}
	t.mu.Unlock()
	if ok {
		p.ch <- bytes.Clone(raw)
	}
	return ok
}

// mayAnswer says whether from may answer a request to an address: the address
// itself, or, for one's own account, the server in one of the ways servers
// have of putting it (RFC 6120 §8.1.2.1, §10.3.3).
func mayAnswer(to, from string, local jid.JID) bool {
	if from == to {
		return true
	}
	own := local.Bare().String()
	if to == "" || to == own {
		return from == "" || from == own || from == local.String() || from == local.Domainpart()
	}
	a, err := jid.Parse(to)
	if err != nil {
		return false
	}
	b, err := jid.Parse(from)
	return err == nil && a.Equal(b)
}
