// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/stanza"
)

// This file serves the log (xep/mls-delivery.xml#log): the truth that live deliveries
// only anticipate.

// A reading is what an account may read of a group's log.
type reading struct {
	row     *store.Group
	device  string // of the request; "" if it is not known
	from    uint64 // first seq
	through uint64 // last seq; 0: to the head
	removed uint64 // seq of the removal, 0 while in the tree
	acked   uint64 // of the device
	seen    time.Time
}

// mayRead finds out what a device, or an account, may read of a group's log. A
// device sees everything from the commit that added it up to the one that
// removed it; an account, what any of its devices sees.
func (s *Service) mayRead(ctx context.Context, rd store.Reader, r *request, device stanza.DeviceID) (*reading, error) {
	row, err := rd.Group(r.to.bare)
	if err != nil {
		return nil, s.noGroup(rd, r.to.bare, err)
	}
	if banned, err := isOutcast(rd, row.Key, r.from.bare); err != nil {
		return nil, err
	} else if banned {
		return s.removedReading(rd, row, r, device)
	}
	return s.memberReading(ctx, rd, row, r, device)
}

// removedReading lets the banned read on to their removal, and no further: the
// last commit tells their client why it hears no more. Before it is committed
// they see nothing.
func (s *Service) removedReading(rd store.Reader, row *store.Group, r *request, device stanza.DeviceID) (*reading, error) {
	if !device.IsZero() {
		if m, err := rd.Member(row.Key, r.from.bare, device.String()); err == nil && m.Removed > 0 {
			return &reading{row: row, device: m.Device, from: m.Joined, through: m.Removed, removed: m.Removed}, nil
		}
	}
	return nil, masked()
}

func isOutcast(rd store.Reader, key store.GroupKey, user string) (bool, error) {
	for _, who := range []string{user, domainOf(user)} {
		a, err := rd.Affiliation(key, who)
		if err != nil {
			return false, err
		}
		if a == store.AffiliationOutcast {
			return true, nil
		}
	}
	return false, nil
}

func (s *Service) memberReading(ctx context.Context, rd store.Reader, row *store.Group, r *request, device stanza.DeviceID) (*reading, error) {
	id := device.String()
	if device.IsZero() {
		id = ""
		for _, sess := range s.sessionsIn(rd, r.from.bare) {
			if sess.JID == r.from.full {
				id = sess.Device
			}
		}
	}
	if id != "" {
		m, err := rd.Member(row.Key, r.from.bare, id)
		if err == nil {
			return &reading{row: row, device: id, from: m.Joined, through: m.Removed, removed: m.Removed, acked: m.Acked, seen: m.Seen}, nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
	}
	// Without a device: whatever the account's devices may see.
	members, err := rd.MembersOf(row.Key, r.from.bare)
	if err != nil {
		return nil, err
	}
	// Devices that are in the tree count, or else those that were: what lies
	// between the removal of one and the addition of another is not the
	// account's to read.
	current := slices.ContainsFunc(members, store.Member.InTree)
	var out *reading
	for _, m := range members {
		switch {
		case m.InTree() != current:
		case out == nil:
			out = &reading{row: row, device: id, from: m.Joined, through: m.Removed, removed: m.Removed}
		case current:
			out.from = min(out.from, m.Joined)
		case m.Removed > out.removed: // the one that was removed last
			out.from, out.through, out.removed = m.Joined, m.Removed, m.Removed
		}
	}
	if out == nil {
		conf, err := decodeConfig(row.Config)
		if err != nil {
			return nil, err
		}
		return nil, outsider(&conf)
	}
	return out, nil
}

// sessionsIn reads a user's sessions, from memory where that is the truth.
func (s *Service) sessionsIn(rd store.Reader, user string) []store.Session {
	if s.sessions.shared {
		rows, err := rd.Sessions(user)
		if err != nil {
			return nil
		}
		return rows
	}
	var out []store.Session
	for _, sess := range s.sessions.of(s.base, user) {
		out = append(out, store.Session{JID: sess.jid, User: user, Device: sess.device})
	}
	return out
}

// ackAge is how old a device's last sign of life may get before an ack renews it.
const ackAge = time.Hour

// logOverhead is what an entry costs in a page besides its bytes.
const logOverhead = 220

func getLog(s *Service, r *request) (stanza.Payload, error) {
	in, err := stanza.Parse[stanza.LogQuery](r.payload)
	if err != nil {
		return nil, err
	}
	budget := s.limits.MaxPage
	if in.MaxBytes != 0 {
		budget = int(min(uint64(budget), max(in.MaxBytes, pageMin)))
	}
	limit := 200
	if in.Max != 0 {
		limit = int(min(in.Max, 1000))
	}
	var (
		read *reading
		page []store.Entry
	)
	err = s.store.View(r.ctx, func(rd store.Reader) error {
		if read, err = s.mayRead(r.ctx, rd, r, in.Device); err != nil {
			return err
		}
		after := in.After
		if read.from > 0 {
			after = max(after, read.from-1)
		}
		if after >= read.row.Head || read.through != 0 && after >= read.through {
			if read.removed != 0 {
				return &stanza.NotAMember{RemovedSeq: read.removed}
			}
			return nil
		}
		page, err = rd.Log(read.row.Key, store.LogQuery{After: after, Through: read.through, Limit: limit, MaxBytes: budget})
		return err
	})
	var te *store.TruncatedError
	if errors.As(err, &te) {
		return nil, &stanza.HistoryGone{First: te.First}
	}
	if err != nil {
		return nil, err
	}
	// An ack that says nothing new costs no transaction.
	if in.Ack != 0 && read.device != "" && (in.Ack > read.acked || s.now().Sub(read.seen) > ackAge) {
		err := s.noteAck(r.ctx, read.row, r.from.bare, read.device, in.Ack)
		// A full disk can be read: whoever catches up acknowledges again.
		if err != nil && !inTrouble(err) && !errors.Is(err, store.ErrUnknownOutcome) {
			return nil, err
		}
	}
	out := &stanza.Log{Epoch: read.row.Epoch, Head: read.row.Head}
	if read.through != 0 {
		out.Head = min(out.Head, read.through)
	}
	size := 0
	for i := range page {
		e := &page[i]
		if size += len(e.Bytes) + logOverhead; size > budget+logOverhead && i > 0 {
			break
		}
		out.Entries = append(out.Entries, s.logEntry(e, budget))
	}
	last := in.After
	if n := len(out.Entries); n > 0 {
		last = out.Entries[n-1].Seq
		out.Page = &stanza.Page{First: seqString(out.Entries[0].Seq), Last: seqString(last)}
	}
	out.Complete = last >= out.Head
	return out, nil
}

func seqString(n uint64) string { return strconv.FormatUint(n, 10) }

// logEntry is how an entry stands in a page: whole, or too large for it and to
// be fetched in pieces.
func (s *Service) logEntry(e *store.Entry, budget int) stanza.Entry {
	out := stanza.Entry{Seq: e.Seq, Epoch: e.Epoch, Kind: stanza.EntryKind(e.Kind), ID: e.ID, Chain: stanza.Hash(e.Chain), Stamp: e.Stamp, Bytes: e.Bytes}
	if len(e.Bytes) > budget {
		out.Bytes, out.Size, out.SHA256 = nil, uint64(len(e.Bytes)), stanza.Hash(e.Ref)
	}
	return out
}

// getEntry serves one entry in pieces.
func getEntry(s *Service, r *request) (stanza.Payload, error) {
	in, err := stanza.Parse[stanza.EntryQuery](r.payload)
	if err != nil {
		return nil, err
	}
	if in.Seq == 0 {
		return nil, stanza.NewError(stanza.ItemNotFound, "The log begins with entry 1.")
	}
	var e *store.Entry
	err = s.store.View(r.ctx, func(rd store.Reader) error {
		read, err := s.mayRead(r.ctx, rd, r, in.Device)
		if err != nil {
			return err
		}
		if in.Seq < read.from || read.through != 0 && in.Seq > read.through {
			return &stanza.NotAMember{RemovedSeq: read.removed}
		}
		list, err := rd.Log(read.row.Key, store.LogQuery{After: in.Seq - 1, Through: in.Seq, Limit: 1})
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return stanza.NewError(stanza.ItemNotFound, "There is no such entry yet.")
		}
		e = &list[0]
		return nil
	})
	var te *store.TruncatedError
	if errors.As(err, &te) {
		return nil, &stanza.HistoryGone{First: te.First}
	}
	if err != nil {
		return nil, err
	}
	piece, whole, err := s.pieceOf(r, e.Bytes, in.Offset, in.MaxBytes)
	if err != nil {
		return nil, err
	}
	out := s.logEntry(e, len(e.Bytes))
	out.Bytes = piece
	if !whole {
		out.Size, out.Offset, out.SHA256 = uint64(len(e.Bytes)), in.Offset, stanza.Hash(e.Ref)
	}
	return &out, nil
}

// pieceWork is by how much the whole of something outweighs a piece of it: who
// fetches 8 MiB in pages pays for about 6 MiB more.
const pieceWork = 256

// pieceOf cuts a page out of b, which was read whole for this request.
func (s *Service) pieceOf(r *request, b []byte, offset, maxBytes uint64) (page []byte, whole bool, err error) {
	if len(b) > s.limits.MaxPage {
		if err := s.charge(r.from.bare, len(b)/pieceWork); err != nil {
			return nil, false, err
		}
	}
	return s.piece(b, offset, maxBytes)
}

// piece cuts a page out of b.
func (s *Service) piece(b []byte, offset, maxBytes uint64) (page []byte, whole bool, err error) {
	if offset > uint64(len(b)) {
		return nil, false, stanza.NewError(stanza.BadRequest, "The offset is behind the end.")
	}
	n := uint64(s.limits.MaxPage)
	if maxBytes != 0 {
		n = min(n, max(maxBytes, pageMin))
	}
	end := min(offset+n, uint64(len(b)))
	return b[offset:end], offset == 0 && end == uint64(len(b)), nil
}

// ack notes that a device has stored something (xep/mls-delivery.xml#ack).
func ack(s *Service, r *request) (stanza.Payload, error) {
	in, err := stanza.Parse[stanza.Ack](r.payload)
	if err != nil {
		return nil, err
	}
	if len(in.KeyPackageRef) > 0 {
		return nil, s.ackWelcome(r, in.KeyPackageRef)
	}
	if r.to.local == "" {
		return nil, stanza.NewError(stanza.BadRequest, "A log is acknowledged to its group.")
	}
	var read *reading
	err = s.store.View(r.ctx, func(rd store.Reader) error {
		read, err = s.mayRead(r.ctx, rd, r, in.Device)
		return err
	})
	if err != nil {
		return nil, err
	}
	if read.device == "" {
		return nil, stanza.NewError(stanza.BadRequest, "Name the device, or open a session first.")
	}
	return nil, s.noteAck(r.ctx, read.row, r.from.bare, read.device, in.Seq)
}

// noteAck records an ack, bounded by what there is to acknowledge.
func (s *Service) noteAck(ctx context.Context, row *store.Group, user, device string, seq uint64) error {
	err := s.store.Update(ctx, func(tx store.Tx) error {
		return tx.Ack(row.Key, user, device, min(seq, row.Head), s.now())
	})
	if errors.Is(err, store.ErrNotFound) {
		// Since it was looked up, the device was removed or the group destroyed.
		return s.store.View(ctx, func(rd store.Reader) error {
			if _, err := rd.Group(row.JID); err != nil {
				return s.noGroup(rd, row.JID, err)
			}
			return &stanza.NotAMember{}
		})
	}
	return err
}
