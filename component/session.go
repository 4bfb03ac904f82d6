// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/stanza"
)

// This file opens and ends live sessions (xep/mls-delivery.xml#session). A session is nothing
// but a full JID that gets events; membership never depends on it.

// dispatchPresence takes presence. It reports whether the parser is in use
// beyond the call.
func (s *Service) dispatchPresence(parser *stanza.Parser, st stanza.Stanza, from, to addr, size int64) bool {
	switch st.Type {
	case stanza.TypeUnavailable, stanza.TypeError:
		if to.local != "" {
			return false // a session is with the service: who leaves a "room" stays
		}
		// Of these nothing is kept but the address: they are not limited.
		s.sessionWork(nil, from, 0, func(ctx context.Context) { s.sessionOver(ctx, from, "") })
		return false
	case stanza.TypeUnsubscribed:
		// The account is gone, or wants no more of us: its nudges end. That is a
		// transaction, also for one who never had any.
		if s.limit(from, size) != nil {
			return false
		}
		s.sessionWork(nil, from, 0, func(ctx context.Context) { s.forgetContact(ctx, from) })
		return false
	case "":
	default:
		return false // subscriptions and probes: we have no presence to share
	}
	if to.local != "" {
		// A chat room client that takes the group for a room (XEP-0045).
		if st.Child("http://jabber.org/protocol/muc", "x").Valid() || to.resource != "" {
			s.link.send(prioAnswer, stanza.AppendError(nil, &st, &stanza.Error{Type: stanza.ErrorCancel, Condition: stanza.FeatureNotImplemented,
				Text: "This is an end-to-end encrypted group, not a chat room: it needs a client that knows " + stanza.NSDelivery + "."}))
		}
		return false
	}
	el := st.Child(stanza.NSDelivery, "session")
	if !el.Valid() {
		return false // presence without a session says nothing to us
	}
	in, err := stanza.Parse[stanza.Session](el)
	if err == nil && from.resource == "" {
		err = stanza.NewError(stanza.BadRequest, "A session belongs to a full JID.")
	}
	if err == nil && s.draining.Load() {
		err = &stanza.Maintenance{After: 10 * time.Second}
	}
	if err == nil && s.settings.bannedDomain(from.domain) {
		err = masked()
	}
	if err == nil {
		err = s.limit(from, size)
	}
	if err == nil && !s.inFlight.room(s.sender(from), size, s.limits.MaxInFlight) {
		s.metrics.dropped.WithLabelValues("in-flight").Inc()
		err = &stanza.RetryAfter{After: 2 * time.Second}
	}
	if err != nil {
		s.refusePresence(&st, err)
		return false
	}
	return s.sessionWork(parser, from, size, func(ctx context.Context) {
		if err := s.openSession(ctx, from, in.Device); err != nil {
			s.refusePresence(&st, err)
		}
	})
}

func (s *Service) refusePresence(st *stanza.Stanza, err error) {
	e := s.refusal(err, &request{svc: s, verb: verbSession})
	s.link.send(prioAnswer, stanza.AppendError(nil, st, e))
	s.metrics.requests.WithLabelValues(verbSession.name, string(e.Condition)).Inc()
}

var verbSession = &verb{name: "session"}

// sessionWork queues work behind earlier requests of the same account. The
// parser, if not nil, is in use until it is done.
func (s *Service) sessionWork(parser *stanza.Parser, from addr, size int64, f func(ctx context.Context)) bool {
	s.requests.Add(1)
	s.inFlight.add(s.sender(from), size)
	ok := s.workers.submit(from.bare, func() {
		defer func() {
			s.inFlight.add(s.sender(from), -size)
			if parser != nil {
				parsers.Put(parser)
			}
			s.requests.Add(-1)
		}()
		s.guard("session", func() {
			ctx, cancel := context.WithTimeout(s.base, requestTimeout)
			defer cancel()
			f(ctx)
		})
	})
	if !ok {
		s.metrics.dropped.WithLabelValues("inbox-full").Inc()
		s.inFlight.add(s.sender(from), -size)
		s.requests.Add(-1)
	}
	return ok
}

// openSession records a session and says that it is there.
func (s *Service) openSession(ctx context.Context, from addr, device stanza.DeviceID) error {
	if !s.local(from) && !s.sessions.room(from, s.limits.DomainSessions) {
		return &stanza.Error{Type: stanza.ErrorWait, Condition: stanza.ResourceConstraint, Text: "The accounts of your domain have as many live sessions here as are allowed."}
	}
	row := store.Session{JID: from.full, User: from.bare, Device: device.String(), Since: s.stamp()}
	var dev *store.Device
	err := s.store.Update(ctx, func(tx store.Tx) error {
		dev = nil
		have, err := tx.Sessions(from.bare)
		if err != nil {
			return err
		}
		others := 0
		for _, h := range have {
			if h.JID != from.full {
				others++
			}
		}
		if err := s.roomForDevice(tx, from, row.Device); err != nil {
			return err
		}
		if others >= s.limits.MaxSessions {
			return &stanza.Error{Type: stanza.ErrorWait, Condition: stanza.ResourceConstraint, Text: fmt.Sprintf("An account has at most %d live sessions here.", s.limits.MaxSessions)}
		}
		if err := tx.PutSession(row); err != nil {
			return err
		}
		if err := tx.ClearNudge(from.bare); err != nil {
			return err
		}
		devices, err := tx.Devices(from.bare, s.now())
		for i := range devices {
			if devices[i].Device == row.Device {
				dev = &devices[i]
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	s.sessions.put(row)
	s.nudger.synced(from.bare)
	ready := &stanza.Ready{Device: device}
	if dev != nil {
		st := s.stock(device, dev)
		ready.Stock = &st
	}
	h := stanza.Header{Kind: stanza.Message, Type: stanza.TypeHeadline, ID: s.entryID(), From: s.domain.bare, To: from.full}
	s.link.send(prioAnswer, h.Append(nil, ready))
	s.metrics.requests.WithLabelValues(verbSession.name, "ok").Inc()
	return nil
}

// roomForDevice makes sure that a device which is new here does not exceed what
// an account may have. The place of one that has no key packages, no session and
// was not seen for longest is taken first: clients come and go, and few say
// goodbye.
func (s *Service) roomForDevice(tx store.Tx, user addr, device string) error {
	devices, err := tx.Devices(user.bare, s.now())
	if err != nil || len(devices) < s.limits.MaxDevices {
		return err
	}
	live := make(map[string]bool)
	sessions, err := tx.Sessions(user.bare)
	if err != nil {
		return err
	}
	for _, l := range sessions {
		live[l.Device] = true
	}
	var oldest *store.Device
	for i := range devices {
		d := &devices[i]
		switch {
		case d.Device == device:
			return nil
		case live[d.Device], d.Available > 0, d.LastResort:
		case oldest == nil || d.Seen.Before(oldest.Seen):
			oldest = d
		}
	}
	if oldest == nil {
		return tooManyDevices(s.limits.MaxDevices)
	}
	return tx.DeleteKeyPackages(user.bare, oldest.Device)
}

func tooManyDevices(limit int) error {
	return stanza.NewError(stanza.NotAcceptable, fmt.Sprintf("An account has at most %d devices here. Retract the key packages of one that is no longer used.", limit))
}

// endSession ends the session of a full JID, or all sessions of a bare one, and
// gives their devices.
func (s *Service) endSession(ctx context.Context, from addr) (devices []string) {
	if !s.sessions.maybe(from) {
		return nil
	}
	// Another process may have opened it. Looking is cheaper than a
	// transaction, and strangers can make us do it.
	for _, sess := range s.sessions.of(ctx, from.bare) {
		if from.resource != "" && sess.jid != from.full {
			continue
		}
		devices = append(devices, sess.device)
		s.sessions.drop(sess.jid)
		err := s.store.Update(ctx, func(tx store.Tx) error { return tx.DeleteSession(sess.jid) })
		if err != nil {
			s.log.Warn("cannot end a session", "error", err)
		}
	}
	return devices
}

// endBanned ends the sessions of banned domains: no request of theirs is served,
// and nothing is to go to them either.
func (s *Service) endBanned(ctx context.Context) error {
	var list []addr
	err := s.eachSession(ctx, func(l store.Session) {
		a, err := parseAddr(l.JID)
		if err == nil && s.settings.bannedDomain(a.domain) && !s.admins[a.bare] {
			list = append(list, a)
		}
	})
	for _, a := range list {
		s.endSession(ctx, a)
	}
	return err
}

// sessionBounced ends the session whose event came back. It only ever ends
// sessions of the account that the bounce comes from.
func (s *Service) sessionBounced(from, to addr, st *stanza.Stanza) {
	e := st.Err()
	if e == nil || from.resource == "" || !s.sessions.maybe(from) && s.missed.leftLately(from.bare, s.now()) == nil {
		return
	}
	group := bouncedFrom(to)
	switch e.Condition {
	case stanza.ServiceUnavailable, stanza.RecipientUnavailable, stanza.ItemNotFound, stanza.Gone, stanza.RemoteServerNotFound, stanza.RemoteServerTimeout:
	default:
		return
	}
	s.workers.submit(from.bare, func() {
		s.guard("session", func() {
			ctx, cancel := context.WithTimeout(s.base, requestTimeout)
			defer cancel()
			s.sessionOver(ctx, from, group)
		})
	})
}

// forgetContact ends everything live for an account.
func (s *Service) forgetContact(ctx context.Context, from addr) {
	s.endSession(ctx, addr{full: from.bare, bare: from.bare, local: from.local, domain: from.domain})
	err := s.store.Update(ctx, func(tx store.Tx) error { return tx.ClearNudge(from.bare) })
	if err != nil {
		s.log.Warn("cannot clear a nudge", "error", err)
	}
}

// resumeSessions asks the sessions of the last run to announce themselves again
// (xep/mls-delivery.xml#resume), a few at a time. Those that stay silent end.
func (s *Service) resumeSessions(ctx context.Context) {
	var list []store.Session
	for {
		list = nil
		err := s.eachSession(ctx, func(l store.Session) { list = append(list, l) })
		if err == nil {
			break
		}
		s.log.Warn("cannot ask sessions to resume", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(resumeRetry):
		}
	}
	if len(list) == 0 {
		return
	}
	tick := time.NewTicker(time.Second / resumeRate)
	defer tick.Stop()
	for _, l := range list {
		h := stanza.Header{Kind: stanza.Message, Type: stanza.TypeHeadline, ID: s.entryID(), From: s.domain.bare, To: l.JID}
		s.link.send(prioEvent, h.Append(nil, &stanza.Resume{}))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	t := time.NewTimer(resumeGrace)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return
	case <-t.C:
	}
	if !s.link.connected.Load() {
		return // they could not answer; the next link asks again
	}
	for _, l := range list {
		s.guard("resume", func() { s.endSilent(ctx, l) })
	}
}

// endSilent ends a session that has not been renewed since it was asked: that is
// still what it was then. Another process may have renewed it, by another clock.
func (s *Service) endSilent(ctx context.Context, asked store.Session) {
	gone := false
	err := s.store.Update(ctx, func(tx store.Tx) error {
		gone = false
		list, err := tx.Sessions(asked.User)
		if err != nil {
			return err
		}
		for _, l := range list {
			if l.JID == asked.JID && l.Since.Equal(asked.Since) {
				gone = true
				return tx.DeleteSession(l.JID)
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		s.log.Warn("cannot end a session", "error", err)
		return
	}
	if gone {
		s.sessions.drop(asked.JID)
		s.callMissed(ctx, asked.User, []string{asked.Device}, "", resumeGrace+missedWindow)
	}
}
