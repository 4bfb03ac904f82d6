// SPDX-License-Identifier: Apache-2.0

package component

import (
	"errors"
	"fmt"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/stanza"
)

// This file takes uploads in pieces, for what does not fit a stanza: the Welcome
// of a large group, a commit with a long path, a GroupInfo with many roles
// (xep/mls-delivery.xml#stage).

func stagePiece(s *Service, r *request) (stanza.Payload, error) {
	in, err := stanza.Parse[stanza.Stage](r.payload)
	if err != nil {
		return nil, err
	}
	if in.Total > uint64(s.limits.MaxArtifact) {
		return nil, &stanza.TooLarge{MaxBytes: uint64(s.limits.MaxArtifact)}
	}
	if len(in.Bytes) > s.limits.MaxPage {
		return nil, &stanza.TooLarge{MaxBytes: uint64(s.limits.MaxPage)}
	}
	if len(in.ID) > idMax {
		return nil, stanza.NewError(stanza.BadRequest, fmt.Sprintf("An upload's id has at most %d bytes.", idMax))
	}
	if in.Offset > in.Total || uint64(len(in.Bytes)) > in.Total-in.Offset {
		return nil, stanza.NewError(stanza.BadRequest, "The piece goes beyond the end of the upload.")
	}
	if err := s.mayStage(r); err != nil {
		return nil, err
	}
	now := s.now()
	expires := now.Add(stageTime)
	c := &store.UploadChunk{
		Owner: r.from.bare, ID: in.ID, Part: string(in.Part), Offset: int64(in.Offset), Total: int64(in.Total),
		Sum: store.Ref(in.SHA256), Bytes: in.Bytes, Now: now, Expires: expires,
	}
	var have int64
	for range 2 {
		err = s.store.Update(r.ctx, func(tx store.Tx) (err error) {
			have, err = tx.Stage(c, s.limits.StageQuota)
			return err
		})
		var oe *store.OffsetError
		if errors.As(err, &oe) && c.Offset < oe.Have && oe.Have < c.Offset+int64(len(c.Bytes)) {
			c.Bytes, c.Offset = c.Bytes[oe.Have-c.Offset:], oe.Have // it overlaps what is there
			continue
		}
		break
	}
	var oe *store.OffsetError
	var ee *store.ExistsError
	switch {
	case errors.As(err, &oe):
		if oe.Have < c.Offset {
			return nil, stanza.NewError(stanza.BadRequest, fmt.Sprintf("The upload continues at offset %d.", oe.Have))
		}
		have = oe.Have
	case errors.As(err, &ee):
		return nil, stanza.NewError(stanza.Conflict, "An upload with this id began with another size or checksum.")
	case errors.Is(err, store.ErrQuota):
		e := stanza.NewAppError(&stanza.RetryAfter{After: stageTime})
		e.Text = fmt.Sprintf("An account may stage %d bytes at a time. Commit what you have, or wait until it expires.", s.limits.StageQuota)
		return nil, e
	case err != nil:
		return nil, err
	}
	return &stanza.Staged{ID: in.ID, Offset: uint64(have), Total: in.Total, Expires: expires.UTC()}, nil
}

// mayStage refuses uploads that no request of the account could use: the quota is
// an account's, and there is no end of accounts elsewhere.
func (s *Service) mayStage(r *request) error {
	if r.to.local == "" {
		return s.mayCreateHere(r.from)
	}
	return s.store.View(r.ctx, func(rd store.Reader) error {
		row, err := rd.Group(r.to.bare)
		if errors.Is(err, store.ErrNotFound) {
			// It is about to be made, or to be made anew.
			if cerr := s.mayCreateHere(r.from); cerr == nil {
				return nil
			}
		}
		if err != nil {
			return s.noGroup(rd, r.to.bare, err)
		}
		if in, err := inTreeNow(rd, row.Key, r.from.bare); err != nil || in {
			return err
		}
		snap, err := rd.Snapshot(row.Key, row.Epoch)
		if err != nil {
			return err
		}
		return s.maySeeState(rd, row, snap, r)
	})
}

// stageProgress says where an upload is to be resumed.
func stageProgress(s *Service, r *request) (stanza.Payload, error) {
	in, err := stanza.Parse[stanza.StageQuery](r.payload)
	if err != nil {
		return nil, err
	}
	var p store.UploadProgress
	err = s.store.View(r.ctx, func(rd store.Reader) error {
		p, err = rd.UploadProgress(r.from.bare, in.ID, s.now())
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, stanza.NewError(stanza.ItemNotFound, "There is no such upload, or it has expired.")
	}
	if err != nil {
		return nil, err
	}
	return &stanza.Staged{ID: in.ID, Offset: uint64(p.Have), Total: uint64(p.Total), Expires: p.Expires.UTC()}, nil
}
