// SPDX-License-Identifier: Apache-2.0

package component

import (
	"bytes"
	"context"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// This file makes groups (xep/mls-delivery.xml#create).

// mayCreateHere refuses those who may not create groups here at all.
func (s *Service) mayCreateHere(from addr) error {
	switch {
	case s.admins[from.bare], s.conf.Create == Anyone, s.conf.Create == LocalUsers && s.local(from):
		return nil
	case s.conf.Create == LocalUsers:
		return stanza.NewError(stanza.NotAllowed, "Only accounts of this service's own domains create groups here. Use your own domain's service.")
	}
	return stanza.NewError(stanza.NotAllowed, "Groups are not created here.")
}

// mayCreate refuses those who may not create a group now.
func (s *Service) mayCreate(r *request) error {
	if err := s.mayCreateHere(r.from); err != nil {
		return err
	}
	if wait := s.rates.create.take(r.from.bare, 1, s.now()); wait > 0 {
		s.metrics.limited.WithLabelValues("create").Inc()
		return &stanza.RetryAfter{After: wait}
	}
	return nil
}

// checkName accepts the local part of a group's JID.
func (s *Service) checkName(local string) (addr, error) {
	a, err := parseAddr(local + "@" + s.domain.bare)
	if err != nil || a.local != local || strings.ContainsAny(local, "/@") {
		return a, stanza.NewError(stanza.JIDMalformed, fmt.Sprintf("%q is not the normalised local part of a JID.", bound(local, 64)))
	}
	if len(local) > nameMax {
		return a, stanza.NewError(stanza.NotAcceptable, fmt.Sprintf("A group's name has at most %d bytes.", nameMax))
	}
	return a, nil
}

// randomName is 80 bits: not to be guessed, short enough to be shown.
func (s *Service) randomName() string {
	var b [10]byte
	if _, err := io.ReadFull(s.rand, b[:]); err != nil {
		panic("component: internal error: no randomness: " + err.Error())
	}
	return strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}

func reserveGroup(s *Service, r *request) (stanza.Payload, error) {
	in, err := stanza.Parse[stanza.ReserveGroup](r.payload)
	if err != nil {
		return nil, err
	}
	if err := s.mayCreate(r); err != nil {
		return nil, err
	}
	local := in.Local
	if local != "" && s.conf.RandomNames {
		return nil, stanza.NewError(stanza.NotAllowed, "This service chooses the names of groups: reserve without one.")
	}
	if local == "" {
		local = s.randomName()
	}
	a, err := s.checkName(local)
	if err != nil {
		return nil, err
	}
	now := s.now()
	until := now.Add(reserveTime)
	err = s.store.Update(r.ctx, func(tx store.Tx) error {
		if s.conf.RandomNames {
			if err := s.noteReserved(tx, r.from.bare, a.bare, now, until); err != nil {
				return err
			}
		}
		return tx.Reserve(a.bare, r.from.bare, now, until)
	})
	if err := nameTaken(err); err != nil {
		return nil, err
	}
	return &stanza.Reserved{JID: a.bare, Expires: until.UTC()}, nil
}

// noteReserved remembers that the service has chosen a name for an account, and
// forgets what it has chosen before and nobody has used.
func (s *Service) noteReserved(tx store.Tx, user, jid string, now, until time.Time) error {
	old, err := tx.Settings(user, settingReserved)
	if err != nil {
		return err
	}
	for _, o := range old {
		if reservedUntil(o.Value).Before(now) {
			if err := tx.SetSetting(user, o.Name, nil); err != nil {
				return err
			}
		}
	}
	return tx.SetSetting(user, settingReserved+jid, []byte(until.UTC().Format(time.RFC3339)))
}

// reservedUntil reads the value of a reservation: the zero time if it is none.
func reservedUntil(v []byte) time.Time {
	t, _ := time.Parse(time.RFC3339, string(v))
	return t
}

// nameTaken turns the store's answer into the refusal of a name.
func nameTaken(err error) error {
	var ee *store.ExistsError
	if !errors.As(err, &ee) {
		return err
	}
	switch ee.What {
	case store.ExistsGroupID:
		return stanza.NewError(stanza.Conflict, "A group with this group_id exists. Make a new one, of 32 random bytes.")
	case store.ExistsTombstone:
		return stanza.NewError(stanza.Conflict, "The name belonged to a group that was destroyed. Choose another.")
	}
	return stanza.NewError(stanza.Conflict, "The name is taken. Choose another.")
}

func createGroup(s *Service, r *request) (stanza.Payload, error) {
	in, err := stanza.Parse[stanza.CreateGroup](r.payload)
	if err != nil {
		return nil, err
	}
	if len(in.Previous) == 0 {
		if err := s.mayCreate(r); err != nil {
			return nil, err
		}
	}
	a, err := s.checkName(in.Local)
	if err != nil {
		return nil, err
	}
	raw, err := s.object(r, in.GroupInfo, stanza.StageGroupInfo, nil)
	if err != nil {
		return nil, err
	}
	n, err := s.newGroup(r, a, raw)
	if err != nil {
		var im *stanza.InvalidMessage
		if errors.As(err, &im) {
			s.metrics.invalid.WithLabelValues("group-info").Inc()
		}
		return nil, err
	}
	conf := groupConfig{Owner: r.from.bare}
	if n.Mode == groupdata.Private.String() {
		conf.setAgreed(agreedOf(n))
	}
	if in.Config != nil {
		row := &store.Group{Mode: n.Mode}
		if conf, n.Retention, err = s.applyForm(in.Config, conf, row, agreedOf(n)); err != nil {
			return nil, err
		}
	}
	n.Config = conf.encode()
	if len(in.Previous) > 0 {
		return s.replaceGroup(r, a, in.Previous, n)
	}
	var row *store.Group
	err = s.store.Update(r.ctx, func(tx store.Tx) error {
		if err := s.checkQuota(tx, r.from); err != nil {
			return err
		}
		if s.conf.RandomNames {
			until, err := setting(tx, r.from.bare, settingReserved+a.bare)
			if err != nil {
				return err
			}
			if until == nil || reservedUntil(until).Before(s.now()) {
				return stanza.NewError(stanza.NotAllowed, "This service chooses the names of groups: reserve one first.")
			}
			if err := tx.SetSetting(r.from.bare, settingReserved+a.bare, nil); err != nil {
				return err
			}
		}
		row, err = tx.CreateGroup(n)
		return err
	})
	if err != nil {
		// The answer to an earlier attempt may have been lost: then the name is
		// taken, the reservation used up and the quota reached by it.
		if again, ok := s.sameGroup(r.ctx, a.bare, n); ok {
			return &stanza.Created{JID: a.bare, Epoch: again.Epoch, Seq: again.Head, Chain: stanza.Hash(again.Chain)}, nil
		}
	}
	if err := nameTaken(err); err != nil {
		return nil, err
	}
	s.log.Info("group created", "group", a.bare)
	return &stanza.Created{JID: a.bare, Epoch: row.Epoch, Seq: row.Head, Chain: stanza.Hash(row.Chain)}, nil
}

// sameGroup finds the group that the same device has made before by the same
// request. The GroupInfo itself may differ: some signatures are random.
func (s *Service) sameGroup(ctx context.Context, jid string, n *store.NewGroup) (*store.Group, bool) {
	var row *store.Group
	var members []store.Member
	err := s.store.View(ctx, func(rd store.Reader) (err error) {
		if row, err = rd.Group(jid); err != nil {
			return err
		}
		members, err = rd.Members(row.Key)
		return err
	})
	if err != nil || !bytes.Equal(row.GroupID, n.GroupID) || row.Head != 0 || row.Epoch != n.Epoch || len(members) != 1 {
		return nil, false
	}
	m := members[0]
	return row, m.User == n.Members[0].User && m.Device == n.Members[0].Device
}

// agreedOf reads what a new group agrees on.
func agreedOf(n *store.NewGroup) groupdata.State {
	gi, err := parseGroupInfo(n.GroupInfo)
	if err != nil {
		return groupdata.State{}
	}
	return agreedLoose(&gi.Context)
}

// newGroup checks the GroupInfo of a new group: one leaf, the creator's, in a
// tree that it carries.
func (s *Service) newGroup(r *request, jid addr, raw []byte) (*store.NewGroup, error) {
	bad := func(format string, args ...any) (*store.NewGroup, error) {
		return nil, &stanza.InvalidMessage{Part: "group-info", Reason: fmt.Sprintf(format, args...)}
	}
	gi, err := parseGroupInfo(raw)
	if err != nil {
		return bad("%s", bound(err.Error(), 256))
	}
	ctx := &gi.Context
	if !s.suites[ctx.CipherSuite] {
		return nil, &stanza.Unsupported{What: "cipher-suite", Value: fmt.Sprintf("0x%04x", uint16(ctx.CipherSuite))}
	}
	if len(ctx.GroupID) == 0 || len(ctx.GroupID) > groupIDMax {
		return bad("the group_id has %d bytes, 1 to %d are allowed", len(ctx.GroupID), groupIDMax)
	}
	if len(ctx.Bytes()) > s.limits.MaxContextBytes {
		return nil, &stanza.TooLarge{MaxBytes: uint64(s.limits.MaxContextBytes)}
	}
	if ctx.Epoch != 0 {
		return bad("a new group is at epoch 0, not %d", ctx.Epoch)
	}
	st, err := agreed(ctx)
	if err != nil {
		return bad("%s", bound(err.Error(), 256))
	}
	if st.Group.JID != jid.bare {
		return bad("its group component names %q, the group is %q", st.Group.JID, jid.bare)
	}
	if st.Roles.Of(r.from.bare, true) != groupdata.Owner {
		return bad("its roles component must make the creator, %s, an owner", r.from.bare)
	}
	// A leaf fits a key package. More is not worth its verification.
	if n := len(gi.RatchetTree()); n > s.limits.MaxKeyPackageBytes {
		return bad("its tree has %d bytes, one leaf has at most %d", n, s.limits.MaxKeyPackageBytes)
	}
	pub, err := mls.NewPublicGroup(s.mlsConf, gi, nil)
	if err != nil {
		e := &stanza.InvalidMessage{Part: "group-info", Reason: bound(err.Error(), 256)}
		var ve *mls.ValidationError
		if errors.As(err, &ve) {
			e.Rule = string(ve.Rule)
		}
		return nil, e
	}
	n := &store.NewGroup{
		JID: jid.bare, Owner: r.from.bare, GroupID: ctx.GroupID, Mode: st.Group.Handshake.String(),
		GroupInfo: raw, Roles: roleRows(nil, st.Roles), Now: s.now(),
	}
	if pub.MemberCount() != 1 {
		return bad("a new group has one member, its creator, not %d", pub.MemberCount())
	}
	for m := range pub.Members() {
		user, device, err := leafIdentity(m.Leaf)
		if err != nil {
			return bad("%s", bound(err.Error(), 256))
		}
		if user != r.from.bare {
			return nil, &stanza.CredentialMismatch{}
		}
		n.Members = append(n.Members, store.Joiner{User: user, Device: device, Leaf: uint32(m.Index)})
	}
	if s.conf.RequireExternalSender && st.Group.Handshake == groupdata.Public {
		if _, _, ok := s.keys.find(r.ctx, ctx); !ok {
			return nil, &stanza.Unsupported{What: "extension", Value: "external_senders without this service: see external-sender in its limits form"}
		}
	}
	if st.Group.Handshake == groupdata.Public {
		n.Header, n.Nodes = pub.State(), storeNodes(pub.TreeNodes())
	}
	return n, nil
}

// checkQuota bounds the groups that an account owns: those that it has made,
// and those of others in which it is an owner and has a device. Others can call
// anybody an owner; that alone counts for nothing.
func (s *Service) checkQuota(rd store.Reader, who addr) error {
	limit := s.limits.MaxGroups
	if raw, err := setting(rd, who.bare, settingQuota); err != nil {
		return err
	} else if raw != nil {
		if _, err := fmt.Sscanf(string(raw), "%d", &limit); err != nil {
			return fmt.Errorf("component: the stored quota of a user is malformed: %w", err)
		}
	}
	n, after := 0, ""
	for {
		list, err := rd.UserGroups(who.bare, "", after, listMax)
		if err != nil {
			return err
		}
		for _, g := range list {
			counts, err := ownsGroup(rd, &g, who.bare)
			if err != nil {
				return err
			}
			if counts {
				n++
			}
		}
		if n >= limit {
			return &stanza.Error{Type: stanza.ErrorWait, Condition: stanza.ResourceConstraint, Text: fmt.Sprintf("You own %d groups, %d are allowed. Destroy one, or ask the operator.", n, limit)}
		}
		if len(list) < listMax {
			return nil
		}
		after = list[len(list)-1].JID
	}
}

func ownsGroup(rd store.Reader, g *store.UserGroup, user string) (bool, error) {
	if g.Affiliation != groupdata.Owner.String() {
		return false, nil
	}
	row, err := rd.GroupByKey(g.Key)
	if err != nil {
		return false, err
	}
	conf, err := decodeConfig(row.Config)
	if err != nil || conf.Owner == user {
		return err == nil, err
	}
	return inTreeNow(rd, g.Key, user)
}

// replaceGroup lets a new MLS group take the place of one that was
// reinitialised: JID, log and chain go on (RFC 9420 §11.2).
func (s *Service) replaceGroup(r *request, a addr, previous []byte, n *store.NewGroup) (stanza.Payload, error) {
	done := make(chan struct{})
	var out stanza.Payload
	var err error
	ok := s.groups.run(a.bare, func(ctx context.Context, g *group) {
		defer close(done)
		out, err = g.replace(ctx, r, previous, n)
	})
	if !ok {
		return nil, &stanza.RetryAfter{After: time.Second}
	}
	select {
	case <-done:
		return out, err
	case <-r.ctx.Done():
		return nil, r.ctx.Err()
	}
}

// madeBy reports whether the group is the one that n describes, and still as it
// was made. Two members who continue a group both name the group_id of its ReInit.
func (g *group) madeBy(ctx context.Context, row *store.Group, n *store.NewGroup) (same bool, err error) {
	if !bytes.Equal(row.GroupID, n.GroupID) || row.Epoch != 0 {
		return false, nil
	}
	err = g.s.store.View(ctx, func(rd store.Reader) error {
		s, err := rd.Snapshot(row.Key, 0)
		if err == nil {
			same = bytes.Equal(s.GroupInfo, n.GroupInfo)
		}
		return err
	})
	return same, err
}

func (g *group) replace(ctx context.Context, r *request, previous []byte, n *store.NewGroup) (stanza.Payload, error) {
	st, err := g.load(ctx)
	if err != nil {
		return nil, err
	}
	if same, err := g.madeBy(ctx, &st.row, n); err != nil {
		return nil, err
	} else if same { // the answer was lost
		return &stanza.Created{JID: g.jid, Epoch: st.row.Epoch, Seq: st.row.Head, Chain: stanza.Hash(st.row.Chain)}, nil
	}
	if err := st.mustBeMember(r.from.bare); err != nil {
		return nil, err
	}
	switch {
	case !bytes.Equal(st.row.GroupID, previous):
		return nil, stanza.NewError(stanza.Conflict, "The group is not the one that you name as previous: another member was faster.")
	case !st.conf.reinit():
		return nil, stanza.NewError(stanza.UnexpectedRequest, "The group was not reinitialised: commit a ReInit proposal first.")
	case !bytes.Equal(st.conf.ReInit, n.GroupID):
		return nil, stanza.NewError(stanza.Conflict, "The ReInit that was committed names another group_id.")
	case st.role(r.from.bare) != groupdata.Owner:
		// The members would not follow, and the JID would be his all the same.
		return nil, &stanza.InsufficientAffiliation{Need: stanza.RoleOwner}
	}
	// Who owned the group goes on owning it, whoever continues it.
	conf, err := decodeConfig(n.Config)
	if err != nil {
		return nil, err
	}
	conf.Owner = st.conf.Owner
	n.Config = conf.encode()
	// Those whom the service has shut out stay out, unless the new roles say
	// something of them.
	for user := range st.banned {
		if !slices.ContainsFunc(n.Roles, func(a store.Affiliation) bool { return a.User == user }) {
			n.Roles = append(n.Roles, store.Affiliation{User: user, Value: store.AffiliationOutcast})
		}
	}
	old := g.recipients(ctx, st)
	notice := stanza.NewControl(&stanza.ReInitNotice{Previous: previous, GroupID: n.GroupID})
	entry := &store.NewEntry{Kind: store.KindControl, Epoch: 0, Ref: store.RefOf(notice.Bytes), ID: g.s.entryID(), Stamp: g.s.stamp(), Bytes: notice.Bytes}
	var row *store.Group
	var acc store.Accepted
	err = g.s.store.Update(ctx, func(tx store.Tx) error {
		if row, err = tx.ReplaceGroup(st.row.Key, st.row.Rev, n); err != nil {
			return err
		}
		entry.Group, entry.Rev = row.Key, row.Rev
		acc, err = tx.Append(entry)
		return err
	})
	if err != nil {
		return nil, err
	}
	g.st = nil
	e := &store.Entry{Seq: acc.Seq, Epoch: 0, Kind: store.KindControl, Ref: entry.Ref, ID: acc.ID, Stamp: acc.Stamp, Chain: acc.Chain, Bytes: notice.Bytes}
	head, tail := g.s.envelope(g.jid, e)
	g.s.deliver(ctx, head, tail, old, escapeAttr(r.from.full), nil)
	return &stanza.Created{JID: g.jid, Epoch: row.Epoch, Seq: acc.Seq, Chain: stanza.Hash(acc.Chain)}, nil
}
