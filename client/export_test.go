// SPDX-License-Identifier: Apache-2.0

package client

import (
	"crypto/x509"
	"time"

	"github.com/lockstep-im/lockstep/mls"
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
