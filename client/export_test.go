// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// SetFail makes cfg call fn at the named places between two steps.
func SetFail(cfg *Config, fn func(point string)) { cfg.fail = fn }

// SetObserve makes cfg show fn each new epoch's state of every group.
func SetObserve(cfg *Config, fn func(*mls.Group)) { cfg.observe = fn }

// SetMaintain makes cfg do its housekeeping every d.
func SetMaintain(cfg *Config, d time.Duration) { cfg.maintainEvery = d }

// SetLawless makes a client that does not apply the group's rules.
func SetLawless(cfg *Config) { cfg.lawless = true }

// Lose makes a group give its state up, as after a loss of it.
func (g *Group) Lose(reason string) {
	g.update(func(r *received) { g.mustRejoin(reason, r) })
}

// CatchUp is what a synchronisation does for one group.
func (g *Group) CatchUp(ctx context.Context) error { return g.catchUp(ctx, 0) }

// SetRejoining makes a group throw away what comes, as while it is rejoined.
func (g *Group) SetRejoining(on bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rejoining = on
}

// NewTestAuthenticator is the authenticator of a client with these roots.
func NewTestAuthenticator(roots *x509.CertPool) mls.Authenticator {
	return &authenticator{roots: roots, now: time.Now}
}

// SetAnswerTimeout bounds how long an answer may take.
func SetAnswerTimeout(cfg *Config, d time.Duration) { cfg.answerTimeout = d }

// SetDialTimeout bounds how long opening a stream takes.
func SetDialTimeout(cfg *Config, d time.Duration) { cfg.dialTimeout = d }

// SetReInitTurn makes owners wait d for each other to continue a group.
func SetReInitTurn(cfg *Config, d time.Duration) { cfg.reinitTurn = d }

// SetPing makes a client ask a silent service every d.
func SetPing(cfg *Config, d time.Duration) { cfg.pingEvery = d }

// SetForge makes a client that seals fn of what it is given to send.
func SetForge(cfg *Config, fn func(plain []byte) []byte) { cfg.forge = fn }

// yesMan is a link to a delivery service that takes every message and costs
// nothing, so that a benchmark weighs the client alone.
type yesMan struct {
	c     *Client
	me    jid.JID
	seq   atomic.Uint64
	lines chan []byte
	ended chan struct{}
}

// BringYesMan replaces the connection of a client that runs no more by a service
// that says yes.
func BringYesMan(b testing.TB, c *Client, g *Group) {
	l := &yesMan{c: c, me: jid.MustParse(c.account + "/bench"), lines: make(chan []byte, 1024), ended: make(chan struct{})}
	l.seq.Store(g.Seq())
	b.Cleanup(func() { close(l.ended) })
	c.mu.Lock()
	c.link, c.linkCtx = l, c.life
	c.mu.Unlock()
	go func() {
		for {
			select {
			case raw := <-l.lines:
				c.handleStanza(l, raw, nil)
			case <-l.ended:
				return
			}
		}
	}()
}

func (l *yesMan) send(b []byte) error {
	value := func(name string) string {
		_, rest, _ := bytes.Cut(b, []byte(" "+name+"='"))
		v, _, _ := bytes.Cut(rest, []byte("'"))
		return string(v)
	}
	raw := fmt.Appendf(nil, "<iq xmlns='jabber:client' type='result' id='%s' from='%s' to='%s'>", value("id"), value("to"), l.me)
	if bytes.Contains(b, []byte("<send ")) {
		raw = (&stanza.Accepted{Seq: l.seq.Add(1), Epoch: 1, ID: randomID(), Stamp: time.Now()}).Append(raw)
	}
	l.lines <- append(raw, "</iq>"...)
	return nil
}

func (l *yesMan) local() jid.JID        { return l.me }
func (l *yesMan) done() <-chan struct{} { return l.ended }
func (l *yesMan) drop(error)            {}

// SealFor seals a message as the group's member would send it, and stores nothing.
func (g *Group) SealFor(b testing.TB, text string) []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	m, _, err := g.seal(appendAll(nil, &stanza.Body{Text: text}), randomID(), time.Now().UTC())
	if err != nil {
		b.Fatal(err)
	}
	return m.Bytes()
}

// Arrive is what the router does with a message that was fanned out.
func (g *Group) Arrive(seq uint64, sealed []byte) {
	g.arrived(&entry{seq: seq, epoch: 1, kind: groupdata.Application, id: fmt.Sprintf("id%d", seq), stamp: time.Now(), bytes: sealed, live: true})
}

// ReadLog reads the pages of the log after an entry, and does nothing with them.
func (g *Group) ReadLog(b testing.TB, after uint64) {
	limits := g.c.limitsOf(context.Background(), g.host)
	for {
		var page stanza.Log
		q := &stanza.LogQuery{Device: g.c.device, After: after, Max: pageEntries, MaxBytes: limits.MaxBytes}
		if err := g.c.ask(context.Background(), "get", g.jid, q, &page); err != nil {
			b.Fatal(err)
		}
		if page.Complete || len(page.Entries) == 0 {
			return
		}
		after = page.Entries[len(page.Entries)-1].Seq
	}
}
