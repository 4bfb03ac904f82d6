// SPDX-License-Identifier: Apache-2.0

package component

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// This file shows roles as the affiliations that XMPP people know, and bans
// (xep/mls-delivery.xml#affiliations).

func deviceKey(m *store.Member) string { return m.User + "/" + m.Device }

func sortMembers(list []store.Member) {
	slices.SortFunc(list, func(a, b store.Member) int {
		return cmp.Or(strings.Compare(a.User, b.User), strings.Compare(a.Device, b.Device))
	})
}

// memberWork is what each member of a group counts for, among the bytes that an
// account may send, in a page that is made from all of them.
const memberWork = 32

// membersFor reads the members of a group for a request, which pays for it.
func (s *Service) membersFor(rd store.Reader, key store.GroupKey, r *request) ([]store.Member, error) {
	members, err := rd.Members(key)
	if err != nil {
		return nil, err
	}
	if err := s.charge(r.from.bare, len(members)*memberWork); err != nil {
		return nil, err
	}
	return members, nil
}

// listAffiliations lists the accounts of a group: those with a role of their
// own, and those who are in the tree.
func listAffiliations(s *Service, r *request) (stanza.Payload, error) {
	in, err := stanza.Parse[stanza.AffiliationsQuery](r.payload)
	if err != nil {
		return nil, err
	}
	limit, after := pageOf(in.Page)
	out := &stanza.Affiliations{}
	err = s.store.View(r.ctx, func(rd store.Reader) error {
		row, err := s.memberOf(rd, r)
		if err != nil {
			return err
		}
		data, err := agreedIn(rd, row)
		if err != nil {
			return err
		}
		unlisted := stanza.RoleMember
		if data.Roles != nil {
			unlisted = stanza.Role(data.Roles.Policy.Unlisted.String())
		}
		all := make(map[string]*stanza.Affiliation)
		if err := eachAffiliation(rd, row.Key, func(a store.Affiliation) {
			all[a.User] = &stanza.Affiliation{JID: a.User, Affiliation: stanza.Role(a.Value)}
		}); err != nil {
			return err
		}
		members, err := s.membersFor(rd, row.Key, r)
		if err != nil {
			return err
		}
		for _, m := range members {
			if !m.InTree() {
				continue
			}
			a, ok := all[m.User]
			if !ok {
				a = &stanza.Affiliation{JID: m.User, Affiliation: unlisted}
				all[m.User] = a
			}
			a.Devices++
		}
		list := make([]*stanza.Affiliation, 0, len(all))
		for _, a := range all {
			if in.Affiliation == "" || a.Affiliation == in.Affiliation {
				list = append(list, a)
			}
		}
		slices.SortFunc(list, func(a, b *stanza.Affiliation) int { return strings.Compare(a.JID, b.JID) })
		count := len(list)
		for _, a := range list {
			if after != "" && a.JID <= after {
				continue
			}
			if len(out.Items) == limit {
				break
			}
			out.Items = append(out.Items, *a)
		}
		if n := len(out.Items); n > 0 {
			out.Page = &stanza.Page{First: out.Items[0].JID, Last: out.Items[n-1].JID, Count: stanza.Uint32(uint32(count))}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// setAffiliation bans an account or domain. Every other role is the members' to
// give, by a commit.
func (g *group) setAffiliation(r *request) (stanza.Payload, error) {
	in, err := stanza.Parse[stanza.Affiliation](r.payload)
	if err != nil {
		return nil, err
	}
	who, err := parseAddr(in.JID)
	if err != nil || who.resource != "" {
		return nil, stanza.NewError(stanza.JIDMalformed, "Name the bare JID of an account, or a domain.")
	}
	st, err := g.load(r.ctx)
	if err != nil {
		return nil, err
	}
	if err := needRole(st, r.from.bare, groupdata.Admin); err != nil {
		return nil, err
	}
	if in.Affiliation != stanza.RoleOutcast {
		return nil, stanza.NewError(stanza.FeatureNotImplemented, fmt.Sprintf(
			"The members agree on roles: commit an AppDataUpdate of the roles component (0xf5a1) that gives %s the role %s.", who.bare, in.Affiliation))
	}
	if who.bare == r.from.bare || who.bare == r.from.domain {
		return nil, stanza.NewError(stanza.NotAllowed, "You cannot ban yourself.")
	}
	if err := st.mayBan(r.from.bare, who.bare); err != nil {
		return nil, err
	}
	return nil, g.ban(r.ctx, who.bare, in.Reason)
}

// mayBan applies to a ban what the rule role-remove says of a removal: it takes
// the policy's role, and one greater than that of everybody who is shut out, of
// a domain of all its accounts.
func (st *groupState) mayBan(actor, who string) error {
	mine := st.role(actor)
	if mine == groupdata.Owner {
		return nil
	}
	if r := st.data.Roles; r != nil && mine < r.Policy.Remove {
		return &stanza.InsufficientAffiliation{Need: stanza.Role(r.Policy.Remove.String())}
	}
	theirs := st.role(who)
	for user := range st.members {
		if domainOf(user) == who {
			theirs = max(theirs, st.role(user))
		}
	}
	if r := st.data.Roles; r != nil {
		for user, role := range r.Entries {
			if domainOf(user) == who {
				theirs = max(theirs, role)
			}
		}
	}
	if theirs >= mine {
		return &stanza.InsufficientAffiliation{Need: stanza.RoleOwner}
	}
	return nil
}

// ban shuts an account or domain out at once, tells everybody, and asks the
// group to remove its devices.
func (g *group) ban(ctx context.Context, who, reason string) error {
	id := g.s.entryID()
	notice := stanza.NewControl(&stanza.Affiliation{JID: who, Affiliation: stanza.RoleOutcast, Reason: bound(reason, destroyReason)})
	// The id makes a second ban, after a first was lifted, an entry of its own.
	notice.Bytes = bytes.Replace(notice.Bytes, []byte("<affiliation "), []byte("<affiliation id='"+id+"' "), 1)
	for range commitRetries {
		st, err := g.load(ctx)
		if err != nil {
			return err
		}
		if st.banned[who] {
			break
		}
		if len(st.banned) >= bansMax {
			return stanza.NewError(stanza.NotAcceptable, fmt.Sprintf("A group has at most %d bans. One of a domain is for all its accounts; a commit that gives an account a role lifts its ban.", bansMax))
		}
		entry := &store.NewEntry{Group: st.row.Key, Kind: store.KindControl, Epoch: st.row.Epoch, ID: id, Ref: store.RefOf(notice.Bytes), Stamp: g.s.stamp(), Bytes: notice.Bytes}
		var acc store.Accepted
		var rev uint64
		err = g.s.store.Update(ctx, func(tx store.Tx) error {
			if rev, err = tx.UpdateGroup(st.row.Key, st.row.Rev, store.GroupChange{Roles: []store.Affiliation{{User: who, Value: store.AffiliationOutcast}}}); err != nil {
				return err
			}
			entry.Rev = rev
			acc, err = tx.Append(entry)
			return err
		})
		if g.conflict(err) {
			continue
		}
		if err != nil {
			return err
		}
		st.row.Rev, st.banned[who], st.haveTo = rev, true, false
		if !acc.Duplicate {
			st.row.Head, st.row.Chain = acc.Seq, acc.Chain
			e := &store.Entry{Seq: acc.Seq, Epoch: entry.Epoch, Kind: store.KindControl, Ref: entry.Ref, ID: acc.ID, Stamp: acc.Stamp, Chain: acc.Chain, Bytes: notice.Bytes}
			g.s.metrics.accepted.WithLabelValues("control").Inc()
			g.fanout(ctx, st, e, "", nil)
		}
		break
	}
	st, err := g.load(ctx)
	if err != nil {
		return err
	}
	for user, devices := range st.members {
		if user != who && domainOf(user) != who {
			continue
		}
		for _, d := range slices.Clone(devices) {
			_, err := g.proposeRemoval(ctx, user, d.device, "outcast")
			if err != nil && !errors.Is(err, errNoSender) {
				return err
			}
		}
	}
	return nil
}

// removeIdle proposes the removal of devices that have not been seen for long,
// from groups that somebody else still uses (RFC 9750 §6.1; xep/mls-delivery.xml#ds-proposals).
func (s *Service) removeIdle(ctx context.Context) {
	if s.limits.IdleDevice < 0 {
		return
	}
	before := s.now().Add(-s.limits.IdleDevice)
	var list []store.IdleMember
	err := s.store.View(ctx, func(rd store.Reader) (err error) {
		list, err = rd.IdleMembers(before, s.idleAfter, dueBatch)
		return err
	})
	if err != nil {
		s.log.Warn("cannot look for idle devices", "error", err)
		return
	}
	// Many stay where they are, in groups where nobody is there to remove them,
	// or the service has no say: the next time it is the turn of others.
	s.idleAfter = store.IdleMember{}
	if len(list) == dueBatch {
		s.idleAfter = list[len(list)-1]
	}
	for _, m := range list {
		s.groups.run(m.JID, func(ctx context.Context, g *group) {
			st, err := g.load(ctx)
			if err != nil || st.leaves < 2 {
				return // nobody is there to commit it
			}
			if g.seenLately(ctx, st, m.User, m.Device, before) {
				return
			}
			if _, err := g.proposeRemoval(ctx, m.User, m.Device, "idle"); err != nil && !errors.Is(err, errNoSender) {
				s.log.Warn("cannot propose the removal of an idle device", "group", g.jid, "error", err)
			}
		})
	}
}

// seenLately reports whether a device has been seen after all: live, or with a
// session or key packages since. Its place in the group then learns of it.
func (g *group) seenLately(ctx context.Context, st *groupState, user, device string, before time.Time) bool {
	var live time.Time
	for _, sess := range g.s.sessions.of(ctx, user) {
		if sess.device == device {
			live = g.s.now()
		}
	}
	late := false
	err := g.s.store.Update(ctx, func(tx store.Tx) error {
		seen := live
		devices, err := tx.Devices(user, g.s.now())
		if err != nil {
			return err
		}
		for _, d := range devices {
			if d.Device == device && d.Seen.After(seen) {
				seen = d.Seen
			}
		}
		if late = !seen.Before(before); !late {
			return nil
		}
		return tx.Ack(st.row.Key, user, device, 0, seen)
	})
	return err != nil || late
}

// idleInterval is how often idle devices are looked for.
const idleInterval = time.Hour
