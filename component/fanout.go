// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"
	"slices"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/stanza"
)

// This file delivers accepted entries to live sessions. Delivery is an
// optimisation: whatever is lost here is in the log.

// recipients gives the live sessions of the group's devices.
func (g *group) recipients(ctx context.Context, st *groupState) []string {
	gen := g.s.sessions.gen.Load()
	switch {
	case st.haveTo && st.gen == gen && !g.s.sessions.shared:
	case st.haveTo && !g.s.sessions.shared && !g.s.sessions.changedSince(st.gen, gen, st.members):
		st.gen = gen // sessions came and went, of others
	default:
		st.to, st.absent = g.s.sessions.recipients(ctx, st.row.Key, st.listening())
		st.gen, st.haveTo, st.nudges = gen, true, 0
	}
	return st.to
}

// listening gives the members without those that are leaving and those that are
// banned: they get nothing but the commit that removes them.
func (st *groupState) listening() map[string][]leafDevice {
	if len(st.muted) == 0 && len(st.banned) == 0 {
		return st.members
	}
	out := make(map[string][]leafDevice, len(st.members))
	for user, list := range st.members {
		if st.outcast(user) {
			continue
		}
		var keep []leafDevice
		for _, d := range list {
			if !st.muted[user+"/"+d.device] {
				keep = append(keep, d)
			}
		}
		if len(keep) > 0 {
			out[user] = keep
		}
	}
	return out
}

// fanout queues an entry for all live sessions but one, and schedules nudges of
// the accounts that have none. extra are further full JIDs: devices that the
// entry removes get it as their last one.
func (g *group) fanout(ctx context.Context, st *groupState, e *store.Entry, skip string, extra []string) {
	sender := "" // the service
	if a, err := parseAddr(skip); err == nil {
		sender = a.bare
	}
	counts := e.Seq != 0 && e.Kind != store.KindControl
	if counts {
		g.s.missed.spoke(g.jid, e.Seq, sender, g.s.now())
	}
	to := g.recipients(ctx, st)
	head, tail := g.s.envelope(g.jid, e)
	g.s.deliver(ctx, head, tail, to, escapeAttr(skip), extra)
	if counts {
		g.s.nudger.absent(g.jid, st, sender)
	}
}

// deliver queues one serialised message for many.
func (s *Service) deliver(ctx context.Context, head, tail []byte, to []string, skip string, extra []string) {
	for _, t := range extra {
		if !slices.Contains(to, t) {
			to = append(to[:len(to):len(to)], t)
		}
	}
	n := len(to)
	if skip != "" && slices.Contains(to, skip) {
		n--
	}
	if n == 0 {
		return
	}
	s.metrics.deliveries.Add(float64(n))
	if s.multi.send(s, head, tail, to, skip) {
		return
	}
	s.link.fanout(head, tail, to, skip)
}

// envelope serialises the message that carries an entry, up to and from the
// recipient's address.
func (s *Service) envelope(jid string, e *store.Entry) (head, tail []byte) {
	size := 700 + len(e.Bytes)*4/3
	head = make([]byte, 0, 160+len(jid))
	head = append(head, "<message type='groupchat' id='"...)
	head = append(head, escapeAttr(e.ID)...)
	head = append(head, "' from='"...)
	head = append(head, escapeAttr(jid)...)
	head = append(head, "' to='"...)

	tail = make([]byte, 0, size)
	tail = append(tail, "'>"...)
	d := stanza.Delivery{Seq: e.Seq, Epoch: e.Epoch, Kind: stanza.EntryKind(e.Kind), Chain: stanza.Hash(e.Chain), Stamp: e.Stamp}
	if e.Seq == 0 {
		d.Chain = stanza.Hash{}
	}
	if len(e.Bytes)*4/3+2048 > s.limits.MaxPage*4/3+2048 || len(e.Bytes) > s.limits.MaxPage {
		d.Size = uint64(len(e.Bytes)) // fetched from the log in pieces
	} else if e.Kind == store.KindControl {
		tail = (&stanza.Control{Bytes: e.Bytes}).Append(tail)
	} else {
		tail = (&stanza.MLS{Bytes: e.Bytes}).Append(tail)
	}
	tail = d.Append(tail)
	tail = append(tail, "<stanza-id xmlns='"+stanza.NSSID+"' by='"...)
	tail = append(tail, escapeAttr(jid)...)
	tail = append(tail, "' id='"...)
	tail = append(tail, escapeAttr(e.ID)...)
	tail = append(tail, "'/>"...)
	if e.Kind != store.KindControl {
		tail = append(tail, "<encryption xmlns='"+stanza.NSEME+"' namespace='"+stanza.NSMLS+"' name='MLS'/>"...)
	}
	tail = append(tail, "<no-store xmlns='"+stanza.NSHints+"'/></message>"...)
	return head, tail
}

// entryID chooses the stanza id of an entry.
func (s *Service) entryID() string { return newID(s.rand) }

// stamp is now, as exact as it is stored and told.
func (s *Service) stamp() time.Time { return s.now().UTC().Truncate(time.Millisecond) }

// sessionsOf gives, escaped, the live sessions of single devices.
func (s *Service) sessionsOf(ctx context.Context, devices []store.Leaver) []string {
	var out []string
	for _, d := range devices {
		for _, sess := range s.sessions.of(ctx, d.User) {
			if sess.device == d.Device {
				out = append(out, sess.escaped)
			}
		}
	}
	return out
}
