// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"sync"

	"github.com/lockstep-im/lockstep/client/store"
)

// This file sees to it that after Close nothing goes on: no goroutine begins, and
// nothing is written.

// ErrClosed is returned by everything after [Client.Close].
var ErrClosed = errors.New("client: closed")

// alive returns ErrClosed once Close has been called.
func (c *Client) alive() error {
	if c.life.Err() != nil {
		return ErrClosed
	}
	return nil
}

// spawn runs fn on a goroutine for which Close waits. After Close it does nothing
// and returns false.
func (c *Client) spawn(fn func()) bool {
	c.ending.Lock()
	defer c.ending.Unlock()
	if c.life.Err() != nil {
		return false
	}
	c.wg.Go(fn)
	return true
}

// stopSpawning ends the client's life: who waits under it is woken, and spawn does
// nothing any more.
func (c *Client) stopSpawning() {
	c.ending.Lock()
	defer c.ending.Unlock()
	c.end()
}

// gate is the client's store, and takes no writes after shut. A store that the
// application has given lives on behind it, perhaps in the hands of the next
// client: a call or a handler that Close has overtaken must not write to it.
type gate struct {
	store.Store

	mu     sync.RWMutex
	closed bool
}

func (s *gate) Apply(ctx context.Context, ops []store.Op) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return ErrClosed
	}
	return s.Store.Apply(ctx, ops)
}

// shut waits for the writes under way.
func (s *gate) shut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}
