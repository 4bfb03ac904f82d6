// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
)

// This file thinks of events that went to a session which had ended, and nobody
// knew yet: its account was not absent when they were sent, so nobody called it.
//
//	event ──► full JID ──✗          nothing comes back, or a bounce much later
//	                     presence 'unavailable', a moment after
//
// When the last session of an account ends, the account is called if others
// have said something in its groups just before that its device has not
// acknowledged; when an event comes back, for that event. Most clients do not
// acknowledge at once, so who reads a message and goes away at once is called
// for nothing, once.

// missedWindow is how long before the end of a session an event may have been
// lost with it.
const missedWindow = 10 * time.Second

// leftMemory is how long a bounce may come after the end of its session: the
// server ends a session that it kept for a while (XEP-0198), and sends back what
// had waited for it, in either order.
const leftMemory = time.Minute

// missedMax bounds the groups and the accounts that are remembered.
const missedMax = 10_000

// missed remembers who spoke last, and who left.
type missed struct {
	mu     sync.Mutex
	groups map[string]spoken
	last   time.Time         // when somebody spoke, in any of them
	purge  int               // so many groups are looked through for old ones
	left   map[string]leaver // by account
}

// spoken is the last entry of a group, and the last one before it of another
// sender: one of them is not the account's own.
type spoken struct{ last, other utterance }

type utterance struct {
	seq    uint64
	sender string // bare JID; "" for the service
	at     time.Time
}

// leaver is an account without sessions, and the devices that it had.
type leaver struct {
	devices []string
	at      time.Time
}

// spoke notes an entry before it goes out: who is not told of it by the
// fan-out finds it here.
func (m *missed) spoke(jid string, seq uint64, sender string, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.groups == nil {
		m.groups = make(map[string]spoken)
	}
	s, ok := m.groups[jid]
	if !ok && len(m.groups) >= m.purge {
		for jid, s := range m.groups {
			if now.Sub(s.last.at) > resumeGrace+missedWindow {
				delete(m.groups, jid)
			}
		}
		if len(m.groups) >= missedMax {
			clear(m.groups)
		}
		m.purge = max(256, 2*len(m.groups))
	}
	if s.last.sender != sender {
		s.other = s.last
	}
	s.last = utterance{seq, sender, now}
	m.groups[jid], m.last = s, now
}

// others gives the seq of the last entry of a group that is of others than the
// account, 0 if there was none since the given time.
func (m *missed) others(jid, user string, since time.Time) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	u := m.groups[jid].last
	if u.sender == user {
		u = m.groups[jid].other
	}
	if u.at.Before(since) {
		return 0
	}
	return u.seq
}

// quiet reports whether nobody has spoken since the given time, in any group.
func (m *missed) quiet(since time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last.Before(since)
}

// leave remembers the devices of an account whose last session has ended.
func (m *missed) leave(user string, devices []string, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left == nil || len(m.left) >= missedMax {
		m.left = make(map[string]leaver)
	}
	m.left[user] = leaver{devices, now}
}

// leftLately gives the devices of an account whose last session has ended a
// moment ago.
func (m *missed) leftLately(user string, now time.Time) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, ok := m.left[user]
	if !ok || now.Sub(l.at) > leftMemory {
		delete(m.left, user)
		return nil
	}
	return l.devices
}

// sessionOver ends a session, or all of an account's, and calls the account if
// something was lost with it. bounced is the group whose event came back, if one
// did.
func (s *Service) sessionOver(ctx context.Context, from addr, bounced string) {
	devices := s.endSession(ctx, from)
	if len(devices) == 0 {
		if bounced == "" {
			return
		}
		devices = s.missed.leftLately(from.bare, s.now())
	}
	if len(devices) > 0 {
		s.callMissed(ctx, from.bare, devices, bounced, missedWindow)
	}
}

// callMissed calls an account whose devices have lost a session, if it was the
// last one and something was lost with it since the window began.
func (s *Service) callMissed(ctx context.Context, user string, devices []string, bounced string, window time.Duration) {
	if len(s.sessions.of(ctx, user)) > 0 {
		return
	}
	now := s.now()
	s.missed.leave(user, devices, now)
	since := now.Add(-window)
	if bounced == "" && s.missed.quiet(since) || s.conf.Nudge == NudgeOff || s.nudger.called(user) {
		return
	}
	jid, err := s.unread(ctx, user, devices, bounced, since)
	if err != nil {
		s.log.Warn("cannot look what a session has missed", "error", err)
	}
	if jid != "" {
		s.nudger.schedule(user, jid)
	}
}

// unread finds one of the groups in which a device has not acknowledged what
// others have said since the given time; of the group whose event came back, which
// does not tell its seq, everything counts. "" means none.
func (s *Service) unread(ctx context.Context, user string, devices []string, bounced string, since time.Time) (found string, err error) {
	err = s.store.View(ctx, func(r store.Reader) error {
		for after := ""; ; {
			list, err := r.UserGroups(user, "", after, listMax)
			if err != nil {
				return err
			}
			for _, g := range list {
				seq := g.Head
				if g.JID != bounced {
					seq = s.missed.others(g.JID, user, since)
				}
				if g.Remote || seq == 0 {
					continue
				}
				for _, d := range devices {
					m, err := r.Member(g.Key, user, d)
					if errors.Is(err, store.ErrNotFound) || err == nil && (!m.InTree() || m.Acked >= seq) {
						continue
					}
					if err != nil {
						return err
					}
					found = g.JID
					return nil
				}
			}
			if len(list) < listMax {
				return nil
			}
			after = list[len(list)-1].JID
		}
	})
	return found, err
}

// bouncedFrom gives the group that an event which comes back was of, "" if it
// was none of a group.
func bouncedFrom(to addr) string {
	if to.local == "" || strings.ContainsRune(to.full, '/') {
		return ""
	}
	return to.bare
}
