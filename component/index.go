// SPDX-License-Identifier: Apache-2.0

package component

import (
	"errors"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/stanza"
)

// This file answers what an account has here: its groups and its devices
// (xep/mls-delivery.xml#groups).

// listGroups is the index of an account's groups (xep/mls-delivery.xml#groups).
func listGroups(s *Service, r *request) (stanza.Payload, error) {
	in, err := stanza.Parse[stanza.GroupsQuery](r.payload)
	if err != nil {
		return nil, err
	}
	limit, after := pageOf(in.Page)
	var list []store.UserGroup
	private := make(map[string]bool)
	err = s.store.View(r.ctx, func(rd store.Reader) error {
		list, err = rd.UserGroups(r.from.bare, in.Device.String(), after, limit)
		if err != nil {
			return err
		}
		for i := range list {
			if list[i].Key == 0 {
				continue
			}
			row, err := rd.GroupByKey(list[i].Key)
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			private[list[i].JID] = row.Mode == "private"
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := &stanza.Groups{}
	for _, g := range list {
		item := stanza.GroupItem{JID: g.JID, Epoch: g.Epoch, Head: g.Head, InTree: g.InTree, Welcome: g.Welcome, Remote: g.Remote, Private: private[g.JID]}
		if !g.Remote {
			item.Affiliation = stanza.Role(g.Affiliation)
			if g.Affiliation == "" {
				item.Affiliation = stanza.RoleMember
			}
		}
		out.Items = append(out.Items, item)
	}
	if len(list) > 0 {
		out.Page = &stanza.Page{First: list[0].JID, Last: list[len(list)-1].JID}
		if after == "" {
			out.Page.Index = stanza.Uint32(0)
			if len(list) < limit {
				out.Page.Count = stanza.Uint32(uint32(len(list)))
			}
		}
	}
	if in.Page == nil || after == "" {
		s.nudger.synced(r.from.bare)
	}
	return out, nil
}

// pageOf reads a page query: items in the order of their ids, behind after.
func pageOf(q *stanza.PageQuery) (limit int, after string) {
	limit = listMax
	if q == nil {
		return limit, ""
	}
	if q.Max != nil {
		limit = min(limit, max(int(*q.Max), 1))
	}
	return limit, q.After
}

// ownDevices lists the account's own devices.
func ownDevices(s *Service, r *request) (stanza.Payload, error) {
	var devices []store.Device
	err := s.store.View(r.ctx, func(rd store.Reader) (err error) {
		devices, err = rd.Devices(r.from.bare, s.now())
		return err
	})
	if err != nil {
		return nil, err
	}
	live := make(map[string]bool)
	for _, sess := range s.sessions.of(r.ctx, r.from.bare) {
		live[sess.device] = true
	}
	out := &stanza.Devices{}
	for _, d := range devices {
		id, err := stanza.ParseDeviceID(d.Device)
		if err != nil {
			continue
		}
		out.Items = append(out.Items, stanza.Device{ID: id, Live: live[d.Device], Seen: d.Seen.UTC()})
	}
	return out, nil
}
