// SPDX-License-Identifier: Apache-2.0

package component

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
)

// This file keeps key packages (xep/mls-key-packages.xml#publish, RFC 9750 §5.1): what a device
// publishes so that others can add it while it is away. Each is handed out once.

func publishKeyPackages(s *Service, r *request) (stanza.Payload, error) {
	in, err := stanza.Parse[stanza.PublishKeyPackages](r.payload)
	if err != nil {
		return nil, err
	}
	if len(in.KeyPackages) > s.limits.MaxKeyPackages {
		return nil, stanza.NewError(stanza.NotAcceptable, fmt.Sprintf("At most %d key packages at a time.", s.limits.MaxKeyPackages))
	}
	foreign := !s.local(r.from)
	if foreign {
		if err := s.stocks.room(r.from.domain, len(in.KeyPackages), s.limits.DomainKeyPackages); err != nil {
			s.metrics.limited.WithLabelValues("domain-key-packages").Inc()
			return nil, err
		}
	}
	now := s.now()
	rows := make([]store.KeyPackage, 0, len(in.KeyPackages))
	for i := range in.KeyPackages {
		row, err := s.checkKeyPackage(&in.KeyPackages[i], i, r.from.bare, in.Device, now)
		if err != nil {
			s.metrics.invalid.WithLabelValues("key-package").Inc()
			return nil, err
		}
		if slices.ContainsFunc(rows, func(o store.KeyPackage) bool { return string(o.Ref) == string(row.Ref) }) {
			return nil, &stanza.InvalidMessage{Part: "key-package", Index: i, Reason: "it is in the batch twice"}
		}
		rows = append(rows, row)
	}
	var dev store.Device
	err = s.store.Update(r.ctx, func(tx store.Tx) error {
		if err := s.roomForDevice(tx, r.from, in.Device.String()); err != nil {
			return err
		}
		dev, err = tx.PutKeyPackages(r.from.bare, in.Device.String(), rows, s.limits.MaxKeyPackages, now)
		return err
	})
	if errors.Is(err, store.ErrQuota) {
		return nil, stanza.NewError(stanza.NotAcceptable, fmt.Sprintf("A device keeps at most %d key packages here.", s.limits.MaxKeyPackages))
	}
	if err != nil {
		return nil, err
	}
	if foreign {
		s.stocks.add(r.from.domain, len(rows))
	}
	return &stanza.Published{Stock: s.stock(in.Device, &dev)}, nil
}

// stock is how a device's packages are told.
func (s *Service) stock(id stanza.DeviceID, d *store.Device) stanza.Stock {
	return stanza.Stock{Device: id, Available: uint32(max(d.Available, 0)), Target: uint32(s.limits.TargetKeyPackages), LastResort: d.LastResort}
}

// checkKeyPackage verifies one package: whoever adds the device later must not
// find it broken.
func (s *Service) checkKeyPackage(kp *stanza.KeyPackage, i int, user string, device stanza.DeviceID, now time.Time) (store.KeyPackage, error) {
	bad := func(format string, args ...any) (store.KeyPackage, error) {
		return store.KeyPackage{}, &stanza.InvalidMessage{Part: "key-package", Index: i, Reason: fmt.Sprintf(format, args...)}
	}
	if len(kp.Bytes) > s.limits.MaxKeyPackageBytes {
		return store.KeyPackage{}, &stanza.TooLarge{MaxBytes: uint64(s.limits.MaxKeyPackageBytes)}
	}
	m, err := mls.ParseMessage(kp.Bytes)
	if err != nil {
		return bad("%s", bound(err.Error(), 256))
	}
	p := m.KeyPackage
	if p == nil {
		return bad("it is no KeyPackage")
	}
	if !s.suites[p.CipherSuite] {
		return store.KeyPackage{}, &stanza.Unsupported{What: "cipher-suite", Value: fmt.Sprintf("0x%04x", uint16(p.CipherSuite))}
	}
	if err := p.Verify(s.mlsConf); err != nil {
		e := &stanza.InvalidMessage{Part: "key-package", Index: i, Reason: bound(err.Error(), 256)}
		var ve *mls.ValidationError
		if errors.As(err, &ve) {
			e.Rule = string(ve.Rule)
		}
		return store.KeyPackage{}, e
	}
	owner, id, err := leafIdentity(p.LeafNode)
	if err != nil {
		return bad("%s", bound(err.Error(), 256))
	}
	if owner != user {
		return store.KeyPackage{}, &stanza.CredentialMismatch{}
	}
	if id != device.String() {
		return bad("it is of device %s, published for %s", id, device)
	}
	life := p.LeafNode.Lifetime
	limit := s.limits.MaxKeyPackageLife
	if kp.LastResort {
		limit = s.limits.MaxLastResortLife
	}
	if !life.Contains(now) {
		return bad("its lifetime, to %s, does not hold now: check the clock", unixTime(life.NotAfter).Format(time.RFC3339))
	}
	if end := unixTime(life.NotAfter); end.After(now.Add(limit)) {
		return bad("its lifetime ends %s, at most %d days from now are allowed", end.Format(time.RFC3339), int(limit.Hours()/24))
	}
	if kp.LastResort != p.LastResort() {
		return bad("last-resort='%v' and the package's extensions disagree", kp.LastResort)
	}
	ref, err := p.Ref()
	if err != nil {
		return bad("%s", bound(err.Error(), 256))
	}
	return store.KeyPackage{
		Ref: ref, Suite: uint16(p.CipherSuite), LastResort: kp.LastResort, Expires: unixTime(life.NotAfter),
		Caps: packCaps(&p.LeafNode.Capabilities), Bytes: slices.Clone(kp.Bytes),
	}, nil
}

// unixTime is a time of a Lifetime, bounded so that it can be computed with.
func unixTime(sec uint64) time.Time {
	const farAway = 253402300799 // the end of year 9999
	return time.Unix(int64(min(sec, farAway)), 0).UTC()
}

// packCaps stores what a claim can ask for: the types that a leaf supports, each
// list with its length.
func packCaps(c *mls.Capabilities) []byte {
	var b []byte
	b = packU16(b, c.Extensions)
	b = packU16(b, c.Proposals)
	b = packU16(b, c.Credentials)
	if len(b) > tagCapsMax {
		return nil // nobody supports a thousand types: it then matches no requirement
	}
	return b
}

func packU16[T ~uint16](b []byte, list []T) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(list)))
	for _, v := range list {
		b = binary.BigEndian.AppendUint16(b, uint16(v))
	}
	return b
}

// capsMatch makes the filter of a claim.
func capsMatch(c *stanza.ClaimKeyPackages) func(caps []byte) bool {
	need := [3][]uint16{c.Extensions, c.Proposals, c.Credentials}
	if len(need[0])+len(need[1])+len(need[2]) == 0 {
		return nil
	}
	return func(caps []byte) bool {
		for i := range need {
			if len(caps) < 2 {
				return false
			}
			n := int(binary.BigEndian.Uint16(caps))
			caps = caps[2:]
			if len(caps) < 2*n {
				return false
			}
			have := caps[:2*n]
			caps = caps[2*n:]
		wanted:
			for _, v := range need[i] {
				if i == 0 && v <= 5 || i == 1 && v >= 1 && v <= 7 {
					continue // of RFC 9420: always supported, never listed (§7.2)
				}
				for j := 0; j < len(have); j += 2 {
					if binary.BigEndian.Uint16(have[j:]) == v {
						continue wanted
					}
				}
				return false
			}
		}
		return true
	}
}

func retractKeyPackages(s *Service, r *request) (stanza.Payload, error) {
	in, err := stanza.Parse[stanza.RetractKeyPackages](r.payload)
	if err != nil {
		return nil, err
	}
	return nil, s.store.Update(r.ctx, func(tx store.Tx) error {
		if len(in.Refs) > 0 {
			return tx.DeleteKeyPackage(r.from.bare, in.Device.String(), in.Refs)
		}
		return tx.DeleteKeyPackages(r.from.bare, in.Device.String())
	})
}

func countKeyPackages(s *Service, r *request) (stanza.Payload, error) {
	var devices []store.Device
	err := s.store.View(r.ctx, func(rd store.Reader) (err error) {
		devices, err = rd.Devices(r.from.bare, s.now())
		return err
	})
	if err != nil {
		return nil, err
	}
	out := &stanza.Count{}
	for _, d := range devices {
		id, err := stanza.ParseDeviceID(d.Device)
		if err != nil {
			continue
		}
		out.Devices = append(out.Devices, stanza.DeviceCount{ID: id, Available: uint32(d.Available), LastResort: d.LastResort, Expires: d.Expires.UTC(), Seen: d.Seen.UTC()})
	}
	return out, nil
}

// claimKeyPackages hands packages out, to add their owners to a group.
func claimKeyPackages(s *Service, r *request) (stanza.Payload, error) {
	in, err := stanza.Parse[stanza.ClaimKeyPackages](r.payload)
	if err != nil {
		return nil, err
	}
	forGroup, err := parseAddr(in.For)
	if err != nil || forGroup.local == "" || forGroup.resource != "" {
		return nil, stanza.NewError(stanza.BadRequest, "A claim names the JID of the group that it is for.")
	}
	if len(in.ClaimID) > idMax {
		return nil, stanza.NewError(stanza.BadRequest, fmt.Sprintf("A claim-id has at most %d bytes.", idMax))
	}
	if len(in.Users) > claimUsers {
		return nil, stanza.NewError(stanza.NotAcceptable, fmt.Sprintf("A claim is for at most %d users.", claimUsers))
	}
	users := in.Users
	if in.After != "" {
		for i, u := range users {
			if u.JID == in.After {
				users = users[i+1:]
				break
			}
		}
	}
	if wait := s.rates.claims.take(r.from.bare, len(users), s.now()); wait > 0 {
		s.metrics.limited.WithLabelValues("claims").Inc()
		return nil, &stanza.RetryAfter{After: wait}
	}
	if !s.local(r.from) {
		if wait := s.rates.domainClaims.take(r.from.domain, len(users), s.now()); wait > 0 {
			s.metrics.limited.WithLabelValues("domain-claims").Inc()
			s.rates.claims.give(r.from.bare, len(users))
			return nil, &stanza.RetryAfter{After: wait}
		}
	}
	out := &stanza.Claimed{ClaimID: in.ClaimID}
	room := s.limits.MaxPage
	for i := range users {
		u, size, err := s.claimUser(r, &in, forGroup.bare, &users[i], room, i == 0)
		if err != nil {
			return nil, err
		}
		if u == nil {
			out.More = true // did not fit: asked for again, it is answered the same
			break
		}
		room -= size
		out.Users = append(out.Users, *u)
	}
	// Those that did not fit are paid for when they are asked for again.
	left := len(users) - len(out.Users)
	s.rates.claims.give(r.from.bare, left)
	if !s.local(r.from) {
		s.rates.domainClaims.give(r.from.domain, left)
	}
	return out, nil
}

// claimUser serves one user of a claim. It returns nil when the answer does not
// fit; the packages taken are then given out on the next page, by claim-id.
func (s *Service) claimUser(r *request, in *stanza.ClaimKeyPackages, group string, u *stanza.ClaimUser, room int, first bool) (*stanza.ClaimedUser, int, error) {
	out := &stanza.ClaimedUser{JID: u.JID, Status: stanza.ClaimUnavailable}
	target, err := parseAddr(u.JID)
	if err != nil || target.local == "" || target.resource != "" {
		s.metrics.claims.WithLabelValues("unavailable").Inc()
		return out, 100, nil
	}
	now := s.now()
	if target.bare != r.from.bare {
		// Beyond this rate the user looks as if there were none: packages are
		// not to be drained by anybody.
		if wait := s.rates.claimed.take(target.bare+" "+r.from.domain, 1, now); wait > 0 {
			s.metrics.limited.WithLabelValues("claimed").Inc()
			return nil, 0, &stanza.RetryAfter{After: wait}
		}
	}
	var wanted []string
	for _, id := range u.Devices {
		wanted = append(wanted, id.String())
	}
	var got []store.ClaimedDevice
	allowed := false
	err = s.store.Update(r.ctx, func(tx store.Tx) error {
		got, allowed = nil, false
		ok, err := s.mayClaim(tx, target, r.from, group)
		if err != nil || !ok {
			return err
		}
		allowed = true
		got, err = tx.ClaimKeyPackages(&store.ClaimRequest{
			Requester: r.from.bare, ID: in.ClaimID, User: target.bare, Devices: wanted, Group: group,
			Suite: in.CipherSuite, Match: capsMatch(in), Now: now,
		})
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	if !allowed || len(got) == 0 {
		s.metrics.claims.WithLabelValues("unavailable").Inc()
		return out, 100, nil
	}
	size := 200
	counts := map[stanza.ClaimStatus]int{}
	for i := range got {
		d := &got[i]
		id, err := stanza.ParseDeviceID(d.Device)
		if err != nil || len(u.Devices) > 0 && !slices.Contains(u.Devices, id) {
			continue // a repeated claim is answered with what it took the first time
		}
		cd := stanza.ClaimedDevice{ID: id}
		switch d.Status {
		case store.ClaimOK:
			cd.KeyPackage = stanza.KeyPackage{Bytes: d.Bytes, LastResort: d.LastResort}
			s.afterClaim(r, target, d, id)
		case store.ClaimIncompatible:
			cd.Status = stanza.ClaimIncompatible
		default:
			cd.Status = stanza.ClaimExhausted
		}
		s.countClaim(d)
		counts[cd.Status]++
		size += len(d.Bytes) + 150
		out.Devices = append(out.Devices, cd)
	}
	if size > room && !first {
		return nil, 0, nil
	}
	switch n := len(out.Devices); {
	case n == 0:
	case counts[stanza.ClaimOK] == n:
		out.Status = stanza.ClaimOK
	case counts[stanza.ClaimOK] > 0:
		out.Status = stanza.ClaimPartial
	case counts[stanza.ClaimIncompatible] == n:
		out.Status = stanza.ClaimIncompatible
	default:
		out.Status = stanza.ClaimExhausted
	}
	return out, size, nil
}

func (s *Service) countClaim(d *store.ClaimedDevice) {
	status := "exhausted"
	switch {
	case d.Status == store.ClaimOK && d.LastResort:
		status = "last-resort"
	case d.Status == store.ClaimOK:
		status = "ok"
	case d.Status == store.ClaimIncompatible:
		status = "incompatible"
	}
	s.metrics.claims.WithLabelValues(status).Inc()
}

// afterClaim tells the owner when packages run low or the last resort was used
// (RFC 9750 §5.1), at live sessions only.
func (s *Service) afterClaim(r *request, target addr, d *store.ClaimedDevice, id stanza.DeviceID) {
	if d.Repeated || !d.LastResort && d.Left > s.limits.LowKeyPackages {
		return
	}
	var live []string
	for _, sess := range s.sessions.of(s.base, target.bare) {
		if sess.device == d.Device {
			live = append(live, sess.jid)
		}
	}
	if live == nil {
		return
	}
	var devices []store.Device
	err := s.store.View(r.ctx, func(rd store.Reader) (err error) {
		devices, err = rd.Devices(target.bare, s.now())
		return err
	})
	if err != nil {
		s.log.Warn("cannot tell how many key packages are left", "error", err)
		return
	}
	i := slices.IndexFunc(devices, func(o store.Device) bool { return o.Device == d.Device })
	if i < 0 {
		return // retracted since
	}
	stock := s.stock(id, &devices[i])
	if d.LastResort {
		stock.LastResortUsed = 1
	}
	for _, jid := range live {
		h := stanza.Header{Kind: stanza.Message, Type: stanza.TypeHeadline, ID: s.entryID(), From: s.domain.bare, To: jid}
		s.link.send(prioEvent, h.Append(nil, &stock))
	}
}
