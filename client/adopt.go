// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"mellium.im/xmpp"
	"mellium.im/xmpp/jid"
)

// This file lives on a session that somebody else has opened and serves.

// RunSession uses a mellium session that the caller runs, until ctx ends or
// the session does; call it again with the next one. The caller's Serve loop
// must go through [Client.Handler], and presence, roster and everything else
// stay the caller's:
//
//	c, err := client.New(client.Config{JID: session.LocalAddr().Bare().String()})
//	go c.RunSession(ctx, session)
//	session.Serve(c.Handler(mux))
func (c *Client) RunSession(ctx context.Context, s *xmpp.Session) error {
	if err := c.alive(); err != nil {
		return err
	}
	local := s.LocalAddr()
	if local.Bare().String() != c.account {
		return fmt.Errorf("client: the session is %s's, the client is %s's", local.Bare(), c.account)
	}
	if local.Resourcepart() == "" {
		return errors.New("client: the session has no resource bound")
	}
	if err := c.begin(); err != nil {
		return err
	}
	defer c.finish()
	l := &adoptedLink{s: s, addr: local, ended: make(chan struct{})}
	c.linkUp(ctx, l, false)
	tick := time.NewTicker(c.keepaliveEvery)
	defer tick.Stop()
	var err error
	for err == nil {
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-c.life.Done():
			err = ErrClosed
		case <-l.ended:
			err = l.reason
		case <-tick.C:
			// Whether the session lives is the caller's to know; that requests
			// do not hang on a dead one is ours.
			if s.State()&(xmpp.InputStreamClosed|xmpp.OutputStreamClosed) != 0 {
				err = errors.New("client: the session has ended")
			}
		}
	}
	l.drop(err)
	c.linkDown(l)
	c.offline(err, 0)
	return err
}

// adoptedLink is a link over a lent session. It writes whole stanzas under the
// session's own lock, so that they do not mix with the bot's.
type adoptedLink struct {
	s      *xmpp.Session
	addr   jid.JID
	ended  chan struct{}
	once   sync.Once
	reason error
}

func (l *adoptedLink) send(b []byte) error {
	select {
	case <-l.ended:
		return ErrOffline
	default:
	}
	w := l.s.TokenWriter()
	defer w.Close()
	// What the bot has written and not flushed goes first.
	if err := w.Flush(); err != nil {
		l.drop(err)
		return err
	}
	if _, err := l.s.Conn().Write(b); err != nil {
		l.drop(err)
		return err
	}
	return nil
}

func (l *adoptedLink) local() jid.JID        { return l.addr }
func (l *adoptedLink) done() <-chan struct{} { return l.ended }

// drop ends the use of the session, not the session.
func (l *adoptedLink) drop(reason error) {
	l.once.Do(func() {
		l.reason = reason
		close(l.ended)
	})
}

// adoptedLink gives the link of RunSession, nil if there is none.
func (c *Client) adoptedLink() *adoptedLink {
	c.mu.Lock()
	defer c.mu.Unlock()
	l, _ := c.link.(*adoptedLink)
	return l
}
