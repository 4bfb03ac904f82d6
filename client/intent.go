// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// This file remembers what a caller wants changed, beside the commit or proposal
// that is to change it. A commit can lose its race after its caller is gone, by a crash or
// because it would not wait any more: the change is then made again from the state
// that won, and if it cannot be made, an event says so.

// intentOp is a kind of change. The names are in the store and never change.
type intentOp string

const (
	opInvite       intentOp = "invite"
	opRemove       intentOp = "remove"
	opRemoveDevice intentOp = "remove-device"
	opSetRole      intentOp = "set-role"
	opSetPolicy    intentOp = "set-policy"
	opRename       intentOp = "rename"
	opReInit       intentOp = "reinit"
	opLeave        intentOp = "leave"
)

// intent is a change that somebody asked for. The JSON is its row.
type intent struct {
	Op       intentOp          `json:"op"`
	Accounts []string          `json:"accounts,omitempty"`
	Device   DeviceID          `json:"device,omitzero"`
	Role     Role              `json:"role,omitempty"`
	Policy   *groupdata.Policy `json:"policy,omitempty"`
	Name     string            `json:"name,omitempty"`
	Suite    mls.CipherSuite   `json:"suite,omitempty"`

	Everywhere bool `json:"everywhere,omitempty"` // of leaving: with all devices

	row string // empty until it is stored
}

func (in *intent) String() string {
	switch in.Op {
	case opInvite, opRemove, opSetRole, opRemoveDevice:
		return fmt.Sprintf("%s %v", in.Op, in.Accounts)
	}
	return string(in.Op)
}

// store gives the row, the first time: before a commit is made for it, or before it
// waits for the chance. Called with the lock held.
func (in *intent) store(g *Group) []store.Op {
	if in == nil || in.row != "" {
		return nil
	}
	b, err := json.Marshal(in)
	if err != nil {
		panic("client: internal error: encoding an intent: " + err.Error())
	}
	in.row = g.newRow("i")
	return []store.Op{store.Put(in.row, b)}
}

// settled forgets an intent whose caller has its answer. Called without the lock.
func (g *Group) settled(in *intent) {
	if in == nil || in.row == "" {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.b.add(store.Delete(in.row))
	g.unfinished = slices.DeleteFunc(g.unfinished, func(o *intent) bool { return o.row == in.row })
	g.flushSoon()
}

// abandoned leaves an intent, whose caller waits no more, to the background.
func (g *Group) abandoned(in *intent) {
	if in == nil || in.row == "" {
		return
	}
	g.mu.Lock()
	g.unfinished = append(g.unfinished, in)
	g.mu.Unlock()
	g.redoIntents()
}

// loadIntents reads what an earlier run has left. Called with the lock held.
func (g *Group) loadIntents() error {
	g.unfinished = nil
	prefix := g.row("i/")
	return g.c.store.Scan(prefix, store.PrefixEnd(prefix), func(key string, value []byte) error {
		in := &intent{row: key}
		if err := json.Unmarshal(value, in); err != nil {
			return fmt.Errorf("client: reading an unfinished change: %w", err)
		}
		g.unfinished = append(g.unfinished, in)
		return nil
	})
}

// redoIntents makes the changes whose callers are gone, in the background and one
// after another.
func (g *Group) redoIntents() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.unfinished) == 0 || g.redoing || !g.fresh || g.meta.Status != statusJoined {
		return
	}
	g.redoing = g.c.spawn(func() {
		for g.redoNext() {
		}
		g.mu.Lock()
		g.redoing = false
		g.signal()
		g.mu.Unlock()
	})
}

// redoNext makes one change, unless a commit of it that is under way does.
func (g *Group) redoNext() bool {
	g.mu.Lock()
	if len(g.unfinished) == 0 || g.meta.Status != statusJoined || g.c.life.Err() != nil {
		g.mu.Unlock()
		return false
	}
	in, own := g.unfinished[0], g.pend
	g.unfinished = g.unfinished[1:]
	g.mu.Unlock()
	if own != nil {
		g.settle(own)
		select {
		case <-own.done:
		case <-g.c.life.Done():
			return false
		}
		if own.intent == in.row && own.outcome == outcomeMerged {
			return true
		}
	}
	err := g.do(g.c.life, in)
	if g.c.life.Err() != nil {
		return false // its row is still there
	}
	if err != nil {
		g.c.log.Warn("a change could not be made", "group", g.jid, "change", in.String(), "error", err)
		g.apply(func(r *received) {
			r.ops = append(r.ops, store.Delete(in.row))
			r.put(g, &ChangeFailed{Change: in.String(), Reason: err.Error()}, 0, g.c.cfg.clock())
		})
	}
	return true
}

// afterUnfinished waits until earlier changes have been made or given up: a name
// that was given later must not be overwritten by one that was given before.
func (g *Group) afterUnfinished(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.load(); err != nil {
		return err
	}
	return g.until(ctx, func() bool {
		return len(g.unfinished) == 0 && !g.redoing || g.meta.Status != statusJoined
	})
}

// do makes a change.
func (g *Group) do(ctx context.Context, in *intent) error {
	switch in.Op {
	case opInvite:
		_, err := g.invite(ctx, in)
		return err
	case opReInit:
		return g.reinit(ctx, in)
	case opLeave:
		return g.leave(ctx, in)
	}
	return g.change(ctx, in, func() (*mls.CommitOptions, error) {
		switch in.Op {
		case opRemove:
			return g.buildRemove(in.Accounts)
		case opRemoveDevice:
			return g.buildRemoveDevice(in.Accounts[0], in.Device)
		case opSetRole:
			return g.buildSetRole(in.Accounts[0], in.Role)
		case opSetPolicy:
			return g.buildSetPolicy(in.Policy)
		case opRename:
			return g.buildRename(in.Name)
		}
		return nil, fmt.Errorf("client: an unfinished change of the unknown kind %q", in.Op)
	})
}

// change makes a change that is remembered until its outcome is known to its
// caller. See [Group.commit] for build.
func (g *Group) change(ctx context.Context, in *intent, build func() (*mls.CommitOptions, error)) error {
	if in.row == "" {
		if err := g.afterUnfinished(ctx); err != nil {
			return err
		}
	}
	err := g.commitWhen(ctx, g.usable, in, build)
	if ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, ErrClosed)) || g.c.life.Err() != nil {
		g.abandoned(in)
		return err
	}
	g.settled(in)
	return err
}
