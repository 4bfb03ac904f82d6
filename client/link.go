// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/lockstep-im/lockstep/stanza/xmlpull"
)

// This file keeps a dialled stream alive for ever: it reads, it notices death,
// it waits, it dials again.

const (
	// silence is how long nothing may come before the server is asked.
	silence = 60 * time.Second
	// pingTimeout is how long the server may take to answer then.
	pingTimeout = 25 * time.Second
	// openTimeout bounds dialing and negotiating together.
	openTimeout = 45 * time.Second
	// backoffMin and backoffMax bound the wait between attempts.
	backoffMin = 500 * time.Millisecond
	backoffMax = 2 * time.Minute
	// stable is how long a stream must live for the wait to start anew.
	stable = 30 * time.Second
)

// dialledLink is a link over a stream of our own.
type dialledLink struct {
	s       *stream
	ended   chan struct{}
	once    sync.Once
	reason  error
	maxSend int
}

func newDialledLink(s *stream) *dialledLink {
	return &dialledLink{s: s, ended: make(chan struct{}), maxSend: s.maxBytes}
}

// errTooLarge is what send gives for a stanza that would end the stream.
var errTooLarge = errors.New("client: the stanza is larger than the server takes")

func (l *dialledLink) send(b []byte) error {
	if l.maxSend > 0 && len(b) > l.maxSend {
		return errTooLarge
	}
	if err := l.s.write(b); err != nil {
		l.drop(err)
		return err
	}
	return nil
}

func (l *dialledLink) local() jid.JID        { return l.s.bound }
func (l *dialledLink) done() <-chan struct{} { return l.ended }

func (l *dialledLink) drop(reason error) {
	l.once.Do(func() {
		l.reason = reason
		close(l.ended)
		l.s.conn.Close()
	})
}

func (l *dialledLink) sinceLast() time.Duration {
	return time.Since(time.Unix(0, l.s.lastIn.Load()))
}

// serve reads stanzas until the stream ends and gives each to handle, which
// must not keep raw.
func (l *dialledLink) serve(handle func(l link, raw []byte, ctx *xmlpull.Context)) error {
	for {
		raw, err := l.s.split.Next()
		var big *xmlpull.OversizeError
		switch {
		case errors.As(err, &big):
			continue // the log's pages bring it in pieces, or it is not for us
		case err == io.EOF:
			return errors.New("the server closed the stream")
		case err != nil:
			return err
		}
		handle(l, raw, l.s.context)
		select {
		case <-l.ended:
			return l.reason
		default:
		}
	}
}

// keepalive pings the server in silence, and ends the link when it does not
// answer.
func (l *dialledLink) keepalive(t *tracker, interval, timeout time.Duration) {
	tick := time.NewTicker(interval / 4)
	defer tick.Stop()
	for {
		select {
		case <-l.ended:
			return
		case <-tick.C:
		}
		if l.sinceLast() < interval {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		_, err := t.request(ctx, l, "get", l.local().Domainpart(), []byte("<ping xmlns='urn:xmpp:ping'/>"))
		cancel()
		// Any answer is life, and so is anything else that came meanwhile.
		if err != nil && l.sinceLast() >= interval {
			l.drop(fmt.Errorf("the server has been silent for %v", l.sinceLast().Round(time.Second)))
			return
		}
	}
}

// runStreams dials, serves, and dials again until ctx ends. It gives up only
// when the very first login is refused for good.
func (c *Client) runStreams(ctx context.Context) error {
	everOnline := false
	wait := backoffMin
	for {
		began := time.Now()
		s, err := c.open(ctx)
		if err == nil {
			everOnline = true
			l := newDialledLink(s)
			err = c.serveLink(ctx, l)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var auth *AuthError
		if errors.As(err, &auth) && !auth.temporary() && !everOnline {
			return err
		}
		if time.Since(began) > stable {
			wait = backoffMin
		}
		var se *streamError
		if errors.As(err, &se) && se.condition == "conflict" {
			// Another client uses the resource: two that reconnect at once
			// would throw each other out for ever.
			wait = max(wait, 10*time.Second)
		}
		// Full jitter: a thousand clients must not come back in one second.
		pause := wait/2 + rand.N(wait)
		c.offline(err, pause)
		c.log.Info("offline", "error", err, "retry", pause.Round(time.Millisecond))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		case <-c.retryNow:
		}
		wait = min(wait*2, backoffMax)
	}
}

// open opens one stream, falling back from channel binding once where it has
// never worked.
func (c *Client) open(ctx context.Context) (*stream, error) {
	o := c.dialOptions()
	s, err := openStream(ctx, o)
	var auth *AuthError
	if errors.As(err, &auth) && isPLUS(auth.Mechanism) && !o.needPLUS {
		c.log.Info("login with channel binding refused, trying without", "mechanism", auth.Mechanism)
		o.noPLUS = true
		s, err = openStream(ctx, o)
	}
	if err != nil {
		return nil, err
	}
	c.loggedIn(s.mech)
	return s, nil
}

func isPLUS(mech string) bool {
	const suffix = "-PLUS"
	return len(mech) > len(suffix) && mech[len(mech)-len(suffix):] == suffix
}

// serveLink makes l the client's link until it ends.
func (c *Client) serveLink(ctx context.Context, l *dialledLink) error {
	stop := context.AfterFunc(ctx, func() {
		l.s.close()
		l.drop(ctx.Err())
	})
	defer stop()
	go l.keepalive(c.iqs, c.keepaliveEvery, pingTimeout)
	c.online(ctx, l)
	err := l.serve(c.handleStanza)
	l.drop(err)
	c.linkDown(l)
	return err
}
