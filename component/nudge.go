// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/stanza"
)

// This file calls accounts that have no live session (xep/mls-delivery.xml#nudges). A nudge
// comes from the service itself, names no group and waits a random time, so
// that neither the account's server nor a push service learns which group
// spoke, or when exactly (RFC 9750 §8.4.2.1). At most one is outstanding until
// the account synchronises.

// nudgeFallback and hintStore go with every message that an account's server is
// to keep: the body is for clients that know nothing of MLS.
var (
	nudgeFallback = &stanza.Fallback{For: stanza.NSDelivery, Body: &stanza.FallbackRange{Whole: true}}
	hintStore     = stanza.HintStore
)

// settingNudges holds a user's own wishes.
const settingNudges = "nudges"

type nudger struct {
	s *Service

	// gen grows when an account may be nudged again.
	gen atomic.Uint64

	mu sync.Mutex
	// wanted are accounts to be scheduled, with the groups that ask.
	wanted map[string][]string
	// known are accounts that have a nudge scheduled or outstanding, as far as
	// this process knows: nothing need be asked for them.
	known map[string]bool
	// muted are groups that an account wants to hear nothing of, as far as they
	// have asked.
	muted map[string][]string
	wake  chan struct{}
}

// nudgeGather is how long wanted nudges gather after the first; sharedGather, where
// every event asks the store again for those who are absent.
const (
	nudgeGather  = 100 * time.Millisecond
	sharedGather = 3 * time.Second
)

// knownMax bounds the memory; what is forgotten is asked of the store again.
const knownMax = 200_000

func newNudger(s *Service) *nudger {
	n := &nudger{s: s, wanted: make(map[string][]string), known: make(map[string]bool), muted: make(map[string][]string), wake: make(chan struct{}, 1)}
	n.gen.Store(1) // zero is what no group has scheduled
	return n
}

// absent asks for a nudge of each account of the group that has no session,
// except the sender's: it may have gone away as soon as it had its answer.
func (n *nudger) absent(jid string, st *groupState, sender string) {
	gen := n.gen.Load()
	if n.s.conf.Nudge == NudgeOff || len(st.absent) == 0 || st.nudges == gen {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	all := true
	for _, user := range st.absent {
		if user == sender || !n.knows(user, jid) && !n.want(user, jid) {
			all = false
		}
	}
	if all {
		st.nudges = gen
	}
	n.signal()
}

// schedule asks for a nudge of one account.
func (n *nudger) schedule(user, jid string) {
	if n.s.conf.Nudge == NudgeOff {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.knows(user, jid) {
		n.want(user, jid)
		n.signal()
	}
}

// want notes, under mu, that a group asks for an account, and reports whether
// there was room.
func (n *nudger) want(user, jid string) bool {
	list, ok := n.wanted[user]
	if !ok && len(n.wanted) >= knownMax {
		return false
	}
	if !slices.Contains(list, jid) {
		n.wanted[user] = append(list, jid)
	}
	return true
}

// knows reports whether an account needs no nudge for a group, under mu. Where
// other processes serve the account, too, only the store knows.
func (n *nudger) knows(user, jid string) bool {
	return !n.s.store.Shared() && (n.known[user] || slices.Contains(n.muted[user], jid))
}

// called reports whether an account has a nudge scheduled or outstanding, as far
// as this process knows.
func (n *nudger) called(user string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.knows(user, "")
}

func (n *nudger) signal() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// synced notes that an account has caught up: the next event may nudge it again.
func (n *nudger) synced(user string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.known, user)
	delete(n.muted, user)
	delete(n.wanted, user)
	n.gen.Add(1)
}

// run schedules nudges and sends those that are due.
func (n *nudger) run(ctx context.Context) {
	if n.s.conf.Nudge == NudgeOff {
		return
	}
	tick := time.NewTicker(duePoll)
	defer tick.Stop()
	gather := nudgeGather
	if n.s.store.Shared() {
		gather = sharedGather
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.wake:
			n.s.guard("nudges", func() { n.flush(ctx) })
			// Let more of them gather: one transaction for all.
			t := time.NewTimer(gather)
			select {
			case <-ctx.Done():
			case <-t.C:
			}
			t.Stop()
		case <-tick.C:
			n.s.guard("nudges", func() {
				n.flush(ctx) // what could not be written the last time
				n.deliver(ctx)
			})
		}
	}
}

// flush writes the wanted nudges into the store. What the store refuses stays
// wanted.
func (n *nudger) flush(ctx context.Context) {
	n.mu.Lock()
	wanted := n.wanted
	n.wanted = make(map[string][]string)
	n.mu.Unlock()
	now := n.s.now()
	for chunk := range slices.Chunk(slices.Collect(maps.Keys(wanted)), 500) {
		// Known before they are: whoever synchronises in the meantime is not any more.
		n.mu.Lock()
		if len(n.known)+len(n.muted)+len(chunk) > knownMax {
			clear(n.known)
			clear(n.muted)
		}
		for _, user := range chunk {
			n.known[user] = true
		}
		n.mu.Unlock()
		var muted []string
		err := n.s.store.Update(ctx, func(tx store.Tx) error {
			muted = muted[:0]
			for _, user := range chunk {
				p, err := nudgePrefs(tx, user)
				if err != nil {
					return err
				}
				if p != nil && p.Mode == stanza.NudgeNone {
					continue
				}
				if p != nil && !slices.ContainsFunc(wanted[user], func(jid string) bool { return !slices.Contains(p.Muted, jid) }) {
					muted = append(muted, user)
					continue
				}
				if _, err := tx.ScheduleNudge(user, now.Add(n.delay())); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			n.s.log.Warn("cannot schedule nudges", "error", err)
			n.mu.Lock()
			for _, user := range chunk {
				delete(n.known, user)
			}
			for user, list := range wanted {
				for _, jid := range list {
					n.want(user, jid)
				}
			}
			n.mu.Unlock()
			return
		}
		n.mu.Lock()
		for _, user := range muted {
			if n.known[user] {
				n.muted[user] = append(n.muted[user], wanted[user]...)
				delete(n.known, user)
			}
		}
		n.mu.Unlock()
		for _, user := range chunk {
			delete(wanted, user)
		}
	}
}

// delay is random, so that the nudges of a group's members do not come at one
// moment.
func (n *nudger) delay() time.Duration {
	if d := n.s.conf.NudgeDelay; d > 0 {
		return rand.N(d)
	}
	return 0
}

// deliver sends the nudges that are due.
func (n *nudger) deliver(ctx context.Context) {
	if !n.s.link.connected.Load() {
		return
	}
	for {
		var users []string
		prefs := make(map[string]*stanza.Nudges)
		err := n.s.store.Update(ctx, func(tx store.Tx) (err error) {
			clear(prefs)
			now := n.s.now()
			if users, err = tx.TakeNudges(now, now.Add(nudgeAgain), dueBatch); err != nil {
				return err
			}
			for _, user := range users {
				if prefs[user], err = nudgePrefs(tx, user); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			n.s.log.Warn("cannot take due nudges", "error", err)
			return
		}
		var sent, cleared []string
		for _, user := range users {
			switch n.send(ctx, user, prefs[user]) {
			case nudgeSent:
				sent = append(sent, user)
			case nudgeVoid:
				cleared = append(cleared, user)
			}
		}
		// A crash before this means a second nudge, and never none.
		err = n.s.store.Update(ctx, func(tx store.Tx) error {
			for _, user := range sent {
				if err := tx.SettleNudge(user); err != nil {
					return err
				}
			}
			for _, user := range cleared {
				if err := tx.ClearNudge(user); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			n.s.log.Warn("cannot note that nudges were sent", "error", err)
			return
		}
		for _, user := range cleared {
			n.synced(user)
		}
		if len(users) < dueBatch {
			return
		}
	}
}

// What became of a due nudge.
type nudgeOutcome uint8

const (
	nudgeLost nudgeOutcome = iota // the link had no room: it is due again soon
	nudgeSent                     // it is outstanding now
	nudgeVoid                     // the next event may nudge the account again
)

// send nudges one account, unless it has come in the meantime.
func (n *nudger) send(ctx context.Context, user string, p *stanza.Nudges) nudgeOutcome {
	if len(n.s.sessions.of(ctx, user)) > 0 {
		return nudgeVoid
	}
	stored := n.s.conf.Nudge == NudgeStored
	if p != nil && p.Mode == stanza.NudgeHeadline {
		stored = false
	}
	h := stanza.Header{Kind: stanza.Message, Type: stanza.TypeHeadline, From: n.s.domain.bare, To: user}
	if !stored {
		if !n.s.link.send(prioEvent, h.Append(nil, &stanza.Nudge{})) {
			return nudgeLost
		}
		n.s.metrics.nudges.WithLabelValues("live").Inc()
		return nudgeVoid // nothing was stored
	}
	h.Type, h.ID = stanza.TypeNormal, n.s.entryID()
	body := stanza.Body{Text: n.s.conf.NudgeBody, Inherit: true}
	if !n.s.link.send(prioEvent, h.Append(nil, &stanza.Nudge{}, &body, nudgeFallback, &hintStore)) {
		return nudgeLost
	}
	n.s.metrics.nudges.WithLabelValues("stored").Inc()
	return nudgeSent
}

// nudgePrefs gives a user's wishes, nil if there are none.
func nudgePrefs(rd store.Reader, user string) (*stanza.Nudges, error) {
	raw, err := setting(rd, user, settingNudges)
	if err != nil || raw == nil {
		return nil, err
	}
	p := &stanza.Nudges{}
	if err := json.Unmarshal(raw, p); err != nil {
		return nil, fmt.Errorf("component: the stored nudge settings of a user are malformed: %w", err)
	}
	return p, nil
}

func getNudges(s *Service, r *request) (stanza.Payload, error) {
	out := &stanza.Nudges{Mode: map[NudgeMode]stanza.NudgeMode{NudgeStored: stanza.NudgePush, NudgeLive: stanza.NudgeHeadline, NudgeOff: stanza.NudgeNone}[s.conf.Nudge]}
	err := s.store.View(r.ctx, func(rd store.Reader) error {
		p, err := nudgePrefs(rd, r.from.bare)
		if p != nil {
			out = p
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func setNudges(s *Service, r *request) (stanza.Payload, error) {
	in, err := stanza.Parse[stanza.Nudges](r.payload)
	if err != nil {
		return nil, err
	}
	if in.Muted, err = normaliseList(in.Muted); err != nil {
		return nil, err
	}
	raw, err := json.Marshal(&in)
	if err != nil {
		return nil, err
	}
	err = s.store.Update(r.ctx, func(tx store.Tx) error { return tx.SetSetting(r.from.bare, settingNudges, raw) })
	s.nudger.synced(r.from.bare)
	return nil, err
}
