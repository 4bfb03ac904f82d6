// SPDX-License-Identifier: Apache-2.0

package component

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
)

// This file hands Welcomes to those whom they are for, and to nobody else
// (xep/mls-delivery.xml#welcomes). A Welcome exists only after its commit was accepted: both
// are one transaction.

// welcomeMessage puts a joiner's part and the shared part together.
func welcomeMessage(w *store.Welcome) ([]byte, error) {
	if w.Remote {
		return w.Secrets, nil // it came whole
	}
	m, err := mls.ParseMessage(w.Secrets)
	if err != nil || m.Welcome == nil {
		return nil, fmt.Errorf("component: the stored welcome is malformed: %w", err)
	}
	whole := &mls.Welcome{CipherSuite: m.Welcome.CipherSuite, Secrets: m.Welcome.Secrets, EncryptedGroupInfo: w.Info}
	return whole.Message().Bytes(), nil
}

// addWelcomes puts each joiner's own part of the Welcome into the transaction,
// after checking that it is for exactly those whom the commit adds, and that
// accounts of ours were asked (xep/mls-delivery.xml#welcomes).
func (s *Service) addWelcomes(ctx context.Context, jid, inviter string, c *submittedCommit, e *commitEffect, change *store.Commit) error {
	if len(e.added) == 0 {
		if c.welcome != nil {
			return &stanza.InvalidMessage{Part: "welcome", Reason: "the commit adds nobody"}
		}
		return nil
	}
	if c.welcome == nil {
		return &stanza.InvalidMessage{Part: "welcome", Reason: "the commit adds members and comes without a Welcome"}
	}
	if n := len(c.welcome.Secrets); n != len(e.added) {
		return &stanza.InvalidMessage{Part: "welcome", Reason: fmt.Sprintf("it is for %d key packages, the commit adds %d", n, len(e.added))}
	}
	homes, err := s.checkConsent(ctx, jid, inviter, e.added, c.Members != nil)
	if err != nil {
		return err
	}
	strangers := 0
	for i, a := range e.added {
		if !homes[i] && a.user != inviter {
			strangers++
		}
	}
	if strangers > 0 {
		if wait := s.rates.invites.take(inviter, strangers, s.now()); wait > 0 {
			s.metrics.limited.WithLabelValues("invites").Inc()
			return &stanza.RetryAfter{After: wait}
		}
	}
	now := s.now()
	change.WelcomeInfo = c.welcome.EncryptedGroupInfo
	change.WelcomeExpiry = now.Add(s.limits.WelcomeAge)
	for i, a := range e.added {
		part, ok := c.welcome.Split(a.ref)
		if !ok {
			return &stanza.InvalidMessage{Part: "welcome", Reason: fmt.Sprintf("it has nothing for device %s of %s", a.device, a.user)}
		}
		// The part shared by all is stored once.
		own := &mls.Welcome{CipherSuite: part.CipherSuite, Secrets: part.Secrets}
		w := store.NewWelcome{KPRef: a.ref, User: a.user, Device: a.device, Inviter: inviter, Secrets: own.Message().Bytes()}
		if !homes[i] {
			w.NotifyAt = now
		}
		change.Welcomes = append(change.Welcomes, w)
	}
	return nil
}

// checkConsent finds out which joiners have this service as their home, and that
// their packages were claimed for this group: whoever gets hold of a package in
// another way cannot press its owner into a group. Whose a package is, is the
// committer's word where it is declared, in private mode.
func (s *Service) checkConsent(ctx context.Context, jid, inviter string, added []addedPackage, declared bool) (homes []bool, err error) {
	homes = make([]bool, len(added))
	now := s.now()
	err = s.store.View(ctx, func(r store.Reader) error {
		for i, a := range added {
			c, err := r.Claimed(a.ref, jid)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			if homes[i] = err == nil; homes[i] && (c.User != a.user || c.Device != a.device) {
				return packageOfAnother(a)
			}
			if homes[i] {
				continue
			}
			if declared { // whose Welcome it would replace
				w, err := r.Welcome(a.ref, jid)
				if err != nil && !errors.Is(err, store.ErrNotFound) {
					return err
				}
				if err == nil && (w.User != a.user || w.Device != a.device) {
					return packageOfAnother(a)
				}
			}
			devices, err := r.Devices(a.user, now)
			if err != nil {
				return err
			}
			for _, d := range devices { // one without packages has only had a session here
				homes[i] = homes[i] || d.Available > 0 || d.LastResort
			}
			if homes[i] && a.user != inviter {
				return &stanza.Error{Type: stanza.ErrorAuth, Condition: stanza.NotAuthorized, Text: fmt.Sprintf(
					"The key package of %s was not claimed for %s. Claim it from the user's service, with for='%s'.", a.user, jid, jid)}
			}
		}
		return nil
	})
	return homes, err
}

func packageOfAnother(a addedPackage) error {
	return &stanza.Error{Type: stanza.ErrorAuth, Condition: stanza.NotAuthorized, Text: fmt.Sprintf(
		"The key package declared for device %s of %s is another's.", a.device, a.user)}
}

// announceWelcomes tells joiners with a live session at once, and sees to it
// that the others hear of it.
func (s *Service) announceWelcomes(ctx context.Context, jid string, change *store.Commit, acc store.Accepted) {
	for i := range change.Welcomes {
		w := &change.Welcomes[i]
		sw := &store.Welcome{KPRef: w.KPRef, Group: jid, User: w.User, Device: w.Device, Epoch: acc.Epoch, Seq: acc.Seq, Inviter: w.Inviter}
		live := s.pointWelcome(ctx, sw)
		if !live && w.NotifyAt.IsZero() {
			s.nudger.schedule(w.User, jid)
		}
	}
	s.metrics.welcomes.WithLabelValues("stored").Add(float64(len(change.Welcomes)))
	if len(change.Welcomes) > 0 {
		s.wakeDue()
	}
}

// pointWelcome sends a pointer to the device's live sessions, and reports
// whether there was one.
func (s *Service) pointWelcome(ctx context.Context, w *store.Welcome) bool {
	live := false
	for _, sess := range s.sessions.of(ctx, w.User) {
		if sess.device != w.Device {
			continue
		}
		h := stanza.Header{Kind: stanza.Message, Type: stanza.TypeHeadline, ID: s.entryID(), From: w.Group, To: sess.jid}
		if w.Remote {
			h.From = s.domain.bare
		}
		// Not as an event: no gap in a log would tell that it was lost.
		if s.link.send(prioAnswer, h.Append(nil, pointer(w))) {
			s.metrics.welcomes.WithLabelValues("delivered").Inc()
			live = true
		}
	}
	return live
}

func pointer(w *store.Welcome) *stanza.Welcome {
	return &stanza.Welcome{Group: w.Group, Epoch: w.Epoch, Seq: w.Seq, KeyPackageRef: w.KPRef, Inviter: w.Inviter}
}

// findWelcome finds the welcome for a key package that belongs to the user.
func findWelcome(rd store.Reader, s *Service, user string, group string, ref []byte) (*store.Welcome, error) {
	// The package alone names the welcome, but for a last-resort package, which
	// may have several: the newest first.
	devices, err := rd.Devices(user, s.now())
	if err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(devices)+2)
	for _, d := range devices {
		ids = append(ids, d.Device)
	}
	for _, sess := range s.sessionsIn(rd, user) {
		ids = append(ids, sess.Device)
	}
	if group != "" {
		w, err := rd.Welcome(ref, group)
		if err != nil {
			return nil, err
		}
		if w.User != user {
			return nil, store.ErrNotFound
		}
		return w, nil
	}
	for _, id := range ids {
		list, err := rd.Welcomes(user, id, listMax)
		if err != nil {
			return nil, err
		}
		for i := len(list) - 1; i >= 0; i-- {
			if bytes.Equal(list[i].KPRef, ref) {
				return rd.Welcome(ref, list[i].Group)
			}
		}
	}
	return nil, store.ErrNotFound
}

// getWelcome serves a Welcome, at the group or at the service.
func getWelcome(s *Service, r *request) (stanza.Payload, error) {
	in, err := stanza.Parse[stanza.WelcomeQuery](r.payload)
	if err != nil {
		return nil, err
	}
	group := ""
	if r.to.local != "" {
		group = r.to.bare
	}
	var w *store.Welcome
	err = s.store.View(r.ctx, func(rd store.Reader) error {
		w, err = findWelcome(rd, s, r.from.bare, group, in.KeyPackageRef)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, stanza.NewError(stanza.ItemNotFound, "No Welcome for that key package waits for you here.")
	}
	if err != nil {
		return nil, err
	}
	out := pointer(w)
	if len(w.Secrets) == 0 {
		return out, nil // a pointer: it waits at the group
	}
	b, err := welcomeMessage(w)
	if err != nil {
		return nil, err
	}
	piece, whole, err := s.pieceOf(r, b, in.Offset, in.MaxBytes)
	if err != nil {
		return nil, err
	}
	out.Bytes = piece
	if !whole {
		out.Offset, out.Total = in.Offset, uint64(len(b))
	}
	return out, nil
}

// listWelcomes lists what waits for a device.
func listWelcomes(s *Service, r *request) (stanza.Payload, error) {
	in, err := stanza.Parse[stanza.WelcomesQuery](r.payload)
	if err != nil {
		return nil, err
	}
	var list []store.Welcome
	err = s.store.View(r.ctx, func(rd store.Reader) error {
		list, err = rd.Welcomes(r.from.bare, in.Device.String(), listMax)
		return err
	})
	if err != nil {
		return nil, err
	}
	out := &stanza.Welcomes{}
	for i := range list {
		if r.to.local == "" || list[i].Group == r.to.bare {
			out.Items = append(out.Items, *pointer(&list[i]))
		}
	}
	return out, nil
}

// ackWelcome removes a Welcome that its device has joined with, or never can.
func (s *Service) ackWelcome(r *request, ref []byte) error {
	group := ""
	if r.to.local != "" {
		group = r.to.bare
	}
	return s.store.Update(r.ctx, func(tx store.Tx) error {
		w, err := findWelcome(tx, s, r.from.bare, group, ref)
		if errors.Is(err, store.ErrNotFound) {
			return nil // acknowledged before
		}
		if err != nil {
			return err
		}
		return tx.DeleteWelcome(ref, w.Group, r.from.bare)
	})
}
