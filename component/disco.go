// SPDX-License-Identifier: Apache-2.0

package component

import (
	"errors"
	"runtime"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
)

// This file says what the service is (xep/mls-delivery.xml#discovery).

var features = []string{
	stanza.NSDelivery, stanza.NSKeyPackages, stanza.NSSID, stanza.NSPing, stanza.NSNoReply, stanza.NSCommands,
	stanza.NSDiscoInfo, stanza.NSDiscoItems, stanza.NSVersion, stanza.NSTime, stanza.NSBlocking, stanza.NSReporting,
}

func discoInfo(s *Service, r *request) (stanza.Payload, error) {
	in, err := stanza.Parse[stanza.DiscoInfoQuery](r.payload)
	if err != nil {
		return nil, err
	}
	if r.to.local != "" {
		return s.groupInfo(r, in.Node)
	}
	if in.Node == stanza.NSCommands {
		return &stanza.DiscoInfo{Node: in.Node, Identities: []stanza.Identity{{Category: "automation", Type: "command-list", Name: "Operator's commands"}}}, nil
	}
	if c := findCommand(in.Node); c != nil && s.admins[r.from.bare] {
		return &stanza.DiscoInfo{Node: in.Node, Identities: []stanza.Identity{{Category: "automation", Type: "command-node", Name: c.name}}, Features: []string{stanza.NSCommands, stanza.NSForm}}, nil
	}
	if in.Node != "" {
		return nil, stanza.NewError(stanza.ItemNotFound, "This service has no such node.")
	}
	l := stanza.ServiceLimits{
		MaxBytes: uint64(s.limits.MaxPage), MaxArtifactBytes: uint64(s.limits.MaxArtifact),
		Create: string(s.conf.Create), ChosenNames: !s.conf.RandomNames, LogRetention: uint64(s.limits.LogAge.Seconds()),
		WireFormats: []string{stanza.PublicHandshake, stanza.PrivateHandshake},
		MaxDevices:  uint64(s.limits.MaxDevices), KeyPackages: uint64(s.limits.MaxKeyPackages),
	}
	if s.conf.Create == Nobody {
		l.Create = stanza.CreateAdmins
	}
	for _, suite := range s.conf.Suites {
		l.CipherSuites = append(l.CipherSuites, uint16(suite))
	}
	if key, err := s.keys.current(r.ctx, senderSuite); err == nil {
		l.ExternalSender = marshalSender(s.keys.sender(key))
	} else {
		s.log.Warn("no external sender key", "error", err)
	}
	out := &stanza.DiscoInfo{
		Identities: []stanza.Identity{{Category: "conference", Type: "mls", Name: s.conf.Name}},
		Features:   features,
		Forms:      []stanza.Form{*l.Form()},
	}
	if len(s.conf.Contact) > 0 {
		out.Forms = append(out.Forms, *stanza.ContactForm(s.conf.Contact))
	}
	return out, nil
}

// senderSuite is the suite whose signature scheme our external sender key has:
// Ed25519, which suites 1 and 3 share.
const senderSuite = mls.MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519

// marshalSender encodes one ExternalSender: the content of the extension that
// lists it alone, without the length in front.
func marshalSender(e mls.ExternalSender) []byte {
	b := mls.ExternalSendersExtension(e).Data
	switch b[0] >> 6 {
	case 0:
		return b[1:]
	case 1:
		return b[2:]
	}
	return b[4:]
}

// groupInfo describes a group. A hidden one is told of to members only.
func (s *Service) groupInfo(r *request, node string) (stanza.Payload, error) {
	if node != "" {
		return nil, stanza.NewError(stanza.ItemNotFound, "A group has no nodes.")
	}
	id := stanza.Identity{Category: "conference", Type: "mls-group"}
	err := s.store.View(r.ctx, func(rd store.Reader) error {
		row, err := rd.Group(r.to.bare)
		if err != nil {
			return s.noGroup(rd, r.to.bare, err)
		}
		conf, err := decodeConfig(row.Config)
		if err != nil {
			return err
		}
		if conf.Hidden {
			if _, err := s.memberOf(rd, r); err != nil {
				return stanza.NewError(stanza.ItemNotFound, "There is no such group.")
			}
		}
		id.Name = conf.PublicName
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &stanza.DiscoInfo{Identities: []stanza.Identity{id}, Features: []string{stanza.NSDelivery, stanza.NSMLS, stanza.NSPing, stanza.NSSID, stanza.NSDiscoInfo}}, nil
}

func discoItems(s *Service, r *request) (stanza.Payload, error) {
	in, err := stanza.Parse[stanza.DiscoItemsQuery](r.payload)
	if err != nil {
		return nil, err
	}
	out := &stanza.DiscoItems{Node: in.Node}
	if in.Node == stanza.NSCommands && r.to.local == "" && s.admins[r.from.bare] {
		for i := range commands {
			out.Items = append(out.Items, stanza.DiscoItem{JID: s.domain.bare, Node: commands[i].node, Name: commands[i].name})
		}
	}
	// Groups are not listed: who is in one finds it in its own index.
	return out, nil
}

// ping also says whether the sender's session is known (XEP-0410): a client
// whose session was lost announces itself again.
func ping(s *Service, r *request) (stanza.Payload, error) {
	if r.from.resource == "" || r.from.local == "" || s.sessions.device(r.ctx, r.from) != "" {
		return nil, nil
	}
	return nil, stanza.NewError(stanza.NotAcceptable, "This service knows no session of yours: announce it again.")
}

func softwareVersion(s *Service, r *request) (stanza.Payload, error) {
	return &stanza.Version{Name: "lockstepd", Version: s.conf.Version, OS: runtime.GOOS}, nil
}

func entityTime(s *Service, r *request) (stanza.Payload, error) {
	return &stanza.EntityTime{Time: s.now()}, nil
}

// groupDevices lists the devices in a group, to its members.
func groupDevices(s *Service, r *request) (stanza.Payload, error) {
	in, err := stanza.Parse[stanza.DevicesQuery](r.payload)
	if err != nil {
		return nil, err
	}
	limit, after := pageOf(in.Page)
	out := &stanza.Devices{}
	err = s.store.View(r.ctx, func(rd store.Reader) error {
		row, err := s.memberOf(rd, r)
		if err != nil {
			return err
		}
		role, err := rd.Affiliation(row.Key, r.from.bare)
		if err != nil {
			return err
		}
		admin := role == "admin" || role == "owner"
		members, err := s.membersFor(rd, row.Key, r)
		if err != nil {
			return err
		}
		sortMembers(members)
		for _, m := range members {
			if !m.InTree() || deviceKey(&m) <= after && after != "" {
				continue
			}
			id, err := stanza.ParseDeviceID(m.Device)
			if err != nil {
				continue
			}
			if len(out.Items) == limit {
				break
			}
			d := stanza.Device{ID: id, JID: m.User}
			if row.Mode != "private" {
				d.Leaf = stanza.Uint32(m.Leaf)
			}
			if admin || m.User == r.from.bare {
				d.Acked, d.Seen = m.Acked, m.Seen.UTC()
			}
			out.Items = append(out.Items, d)
		}
		if n := len(out.Items); n > 0 {
			first, last := &out.Items[0], &out.Items[n-1]
			out.Page = &stanza.Page{First: first.JID + "/" + first.ID.String(), Last: last.JID + "/" + last.ID.String()}
		}
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, stanza.NewError(stanza.ItemNotFound, "There is no such group.")
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}
