// SPDX-License-Identifier: Apache-2.0

package component

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// This file is the configuration of a group (xep/mls-delivery.xml#config). Half of it is in
// the roles component, which the members agree on and only a commit changes;
// the other half is between the group's owner and the service.

// groupConfig is the service's half, and what it must remember of a group.
type groupConfig struct {
	Window     *int   `json:",omitempty"` // epochs back; nil: the service's
	Hidden     bool   `json:",omitempty"`
	PublicName string `json:",omitempty"`
	Owner      string `json:",omitempty"` // bare JID of the creator, for the quota
	// ReInit is the group_id that a committed ReInit proposal names: the group
	// is frozen until a new one takes its JID (RFC 9420 §11.2).
	ReInit mls.GroupID `json:",omitempty"`
	// Group and Roles are, in private mode, the components that the service
	// goes by: those of the GroupInfo that the group was created with, and every
	// change since that its committer had the right to make. A GroupInfo alone
	// would not do: the service cannot check it, and any member can send one
	// that makes the member an owner.
	Group, Roles []byte `json:",omitempty"`
}

// agreed gives what Group and Roles say, with nil pointers if they are empty.
func (c *groupConfig) agreed() (st groupdata.State) {
	if len(c.Group) == 0 || len(c.Roles) == 0 {
		return st
	}
	st.Group, _ = groupdata.DecodeGroup(c.Group)
	st.Roles, _ = groupdata.DecodeRoles(c.Roles)
	return st
}

// setAgreed is the reverse of agreed.
func (c *groupConfig) setAgreed(st groupdata.State) {
	if st.Group == nil || st.Roles == nil {
		return
	}
	group, err := st.Group.Encode()
	if err != nil {
		return
	}
	roles, err := st.Roles.Encode()
	if err != nil {
		return
	}
	c.Group, c.Roles = group, roles
}

func decodeConfig(b []byte) (groupConfig, error) {
	var c groupConfig
	if len(b) == 0 {
		return c, nil
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("component: the stored configuration of a group is malformed: %w", err)
	}
	return c, nil
}

func (c *groupConfig) encode() []byte {
	b, err := json.Marshal(c)
	if err != nil {
		panic("component: internal error: encoding a group's configuration: " + err.Error())
	}
	return b
}

func (c *groupConfig) reinit() bool { return len(c.ReInit) > 0 }

// window is how many epochs back a message may be from.
func (c *groupConfig) window(limit int) int {
	if c.Window != nil {
		return min(*c.Window, limit)
	}
	return limit
}

// formOf gives the whole configuration, from both halves.
func (s *Service) formOf(c *groupConfig, row *store.Group, data groupdata.State) stanza.GroupConfig {
	out := stanza.DefaultGroupConfig()
	if r := data.Roles; r != nil {
		p := r.Policy
		out.AddPolicy, out.RemovePolicy = stanza.Role(p.Add.String()), stanza.Role(p.Remove.String())
		out.MaxDevices = uint64(p.MaxDevices)
		out.AnnounceOnly = p.Send >= groupdata.Admin
		out.Access = stanza.AccessInvite
		switch p.ExternalJoin {
		case groupdata.NobodyJoins:
			out.ExternalJoin = stanza.ExternalNone
		case groupdata.MembersJoin:
			out.ExternalJoin = stanza.ExternalMembers
		case groupdata.AnyoneJoins:
			out.ExternalJoin, out.Access = stanza.ExternalAnyone, stanza.AccessOpen
		}
	}
	out.MessageWindow = uint64(c.window(s.limits.EpochWindow))
	out.Retention = uint64(row.Retention / time.Second)
	out.Hidden, out.PublicName = c.Hidden, c.PublicName
	out.WireFormat = stanza.PublicHandshake
	if row.Mode == groupdata.Private.String() {
		out.WireFormat = stanza.PrivateHandshake
	}
	return out
}

// apply takes the service's half from a form. The half that the members agree
// on must be as it is already.
func (s *Service) applyForm(f *stanza.Form, c groupConfig, row *store.Group, data groupdata.State) (groupConfig, time.Duration, error) {
	before := s.formOf(&c, row, data)
	after := before
	if err := after.Set(f); err != nil {
		return c, 0, err
	}
	agreed := after
	agreed.MessageWindow, agreed.Retention, agreed.Hidden, agreed.PublicName = before.MessageWindow, before.Retention, before.Hidden, before.PublicName
	if agreed != before {
		return c, 0, stanza.NewError(stanza.FeatureNotImplemented, "The members agree on access, policies and devices in the group itself: commit an AppDataUpdate of the roles component (0xf5a1).")
	}
	if after.MessageWindow > uint64(s.limits.EpochWindow) {
		return c, 0, stanza.NewError(stanza.NotAcceptable, fmt.Sprintf("message-window is at most %d here.", s.limits.EpochWindow))
	}
	if after.MessageWindow != before.MessageWindow {
		w := int(after.MessageWindow)
		c.Window = &w
	}
	if len(after.PublicName) > groupdata.MaxName {
		return c, 0, stanza.NewError(stanza.NotAcceptable, fmt.Sprintf("public-name has at most %d bytes.", groupdata.MaxName))
	}
	limit := uint64(s.limits.LogAge / time.Second)
	retention := time.Duration(min(after.Retention, limit)) * time.Second
	c.Hidden, c.PublicName = after.Hidden, after.PublicName
	return c, retention, nil
}

// agreedIn reads what a group agrees on, from its current snapshot.
func agreedIn(rd store.Reader, row *store.Group) (groupdata.State, error) {
	snap, err := rd.Snapshot(row.Key, row.Epoch)
	if err != nil {
		return groupdata.State{}, err
	}
	return agreedAt(row, snap)
}

// agreedAt reads what a group agrees on in the epoch of a snapshot. In private
// mode it is what the service goes by.
func agreedAt(row *store.Group, snap *store.Snapshot) (groupdata.State, error) {
	if row.Mode == groupdata.Private.String() {
		conf, err := decodeConfig(row.Config)
		if err != nil {
			return groupdata.State{}, err
		}
		if st := conf.agreed(); st.Roles != nil {
			return st, nil
		}
	}
	gi, err := parseGroupInfo(snap.GroupInfo)
	if err != nil {
		return groupdata.State{}, nil // private mode without one
	}
	return agreedLoose(&gi.Context), nil
}

func getConfig(s *Service, r *request) (stanza.Payload, error) {
	out := &stanza.Config{}
	err := s.store.View(r.ctx, func(rd store.Reader) error {
		row, err := s.memberOf(rd, r)
		if err != nil {
			return err
		}
		conf, err := decodeConfig(row.Config)
		if err != nil {
			return err
		}
		data, err := agreedIn(rd, row)
		if err != nil {
			return err
		}
		full := s.formOf(&conf, row, data)
		out.Form = *full.Form(stanza.FormForm)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// memberOf finds the group of a request and checks that the sender is in it.
func (s *Service) memberOf(rd store.Reader, r *request) (*store.Group, error) {
	row, err := rd.Group(r.to.bare)
	if err != nil {
		return nil, s.noGroup(rd, r.to.bare, err)
	}
	banned, err := isOutcast(rd, row.Key, r.from.bare)
	if err != nil {
		return nil, err
	}
	if banned {
		return nil, masked()
	}
	in, err := inTreeNow(rd, row.Key, r.from.bare)
	if err != nil {
		return nil, err
	}
	if !in {
		role, err := rd.Affiliation(row.Key, r.from.bare)
		if err != nil {
			return nil, err
		}
		if role == "" {
			conf, err := decodeConfig(row.Config)
			if err != nil {
				return nil, err
			}
			return nil, outsider(&conf)
		}
	}
	return row, nil
}

// setConfig changes the service's half. Owners only.
func (g *group) setConfig(r *request) (stanza.Payload, error) {
	in, err := stanza.Parse[stanza.Config](r.payload)
	if err != nil {
		return nil, err
	}
	for range commitRetries {
		st, err := g.load(r.ctx)
		if err != nil {
			return nil, err
		}
		if err := needRole(st, r.from.bare, groupdata.Owner); err != nil {
			return nil, err
		}
		conf, retention, err := g.s.applyForm(&in.Form, st.conf, &st.row, st.data)
		if err != nil {
			return nil, err
		}
		raw := conf.encode()
		var rev uint64
		err = g.s.store.Update(r.ctx, func(tx store.Tx) (err error) {
			rev, err = tx.UpdateGroup(st.row.Key, st.row.Rev, store.GroupChange{Config: raw, Retention: &retention})
			return err
		})
		if g.conflict(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		st.row.Rev, st.row.Config, st.row.Retention, st.conf = rev, raw, retention, conf
		return nil, nil
	}
	return nil, &stanza.RetryAfter{After: time.Second}
}

// needRole refuses those whose role is too low.
func needRole(st *groupState, user string, need groupdata.Role) error {
	role := st.role(user)
	switch {
	case role == groupdata.Outcast:
		return masked()
	case role < groupdata.Visitor:
		return st.outsider()
	case role < need:
		return &stanza.InsufficientAffiliation{Need: stanza.Role(need.String())}
	}
	return nil
}
