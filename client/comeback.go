// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/lockstep-im/lockstep/stanza"
)

// This file shortens waiting when a delivery service comes back. One that was
// killed has taken requests with it, which nobody will answer, and others wait
// between attempts. When it says that it is back (xep/mls-delivery.xml#resume) the former
// end at once, so that what became of them is looked up in the log by their
// ref, and the latter are made again.

const (
	// answerGrace is how long answers may still come then: to requests that
	// reached the service after its restart, or that it took with it through a
	// mere loss of its link.
	answerGrace = 500 * time.Millisecond
	// spread keeps many clients, and many requests of one, from coming all in
	// the same moment.
	spread = 300 * time.Millisecond
)

// serviceBack is called when a delivery service says that it was away.
func (c *Client) serviceBack(host string) {
	if lost := c.iqs.waitingFor(host); len(lost) > 0 {
		time.AfterFunc(answerGrace, func() { c.iqs.giveUp(lost) })
	}
	c.returns.tell(host)
}

// pause waits before something is tried again at a delivery service: for d, or
// until the service is back, and no longer than ctx.
func (c *Client) pause(ctx context.Context, host string, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-c.life.Done():
	case <-t.C:
	case <-c.returns.of(host):
		c.sleep(ctx, min(d, rand.N(spread)))
	}
}

// pauseLost waits before a submission is looked up that failed with err and may have
// had its effect; lost counts those in a row.
func (g *Group) pauseLost(ctx context.Context, err error, lost *int) {
	if errors.Is(err, errRestarted) {
		*lost = 0 // it is back: no reason to be slow
	}
	*lost++
	g.c.pause(ctx, g.host, rand.N(backoff(*lost)))
}

// waitAsked waits as long as a refusal asks: see retryAfter. A service under
// maintenance is asked again when it is back, a limit of rates holds as it is.
func (c *Client) waitAsked(ctx context.Context, host string, err error) {
	var m *stanza.Maintenance
	if errors.As(err, &m) {
		c.pause(ctx, host, retryAfter(err))
		return
	}
	c.sleep(ctx, retryAfter(err))
}

// returns tells who waits for a delivery service that it is back.
type returns struct {
	mu sync.Mutex
	ch map[string]chan struct{} // by host, while somebody waits
}

// of gives a channel that is closed when the service is back the next time.
func (r *returns) of(host string) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ch == nil {
		r.ch = make(map[string]chan struct{})
	}
	ch := r.ch[host]
	if ch == nil {
		ch = make(chan struct{})
		r.ch[host] = ch
	}
	return ch
}

func (r *returns) tell(host string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ch := r.ch[host]; ch != nil {
		close(ch)
		delete(r.ch, host)
	}
}
