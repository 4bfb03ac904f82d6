// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/component/store/internal/relational"
)

// Application messages are most of the traffic. Each is one statement, and
// statements that wait at the same time are sent together as one transaction:
// one round trip and one sync for all of them.

const maxAppends = 128 // in one transaction

// appendEntry appends an entry if the group has the revision, and answers
// with the entry, or with the one that has its ref already, or not at all.
//
// The row of the group is the lock: of two statements the second sees the head
// that the first has made. If both carry the same ref, both may pass the look at
// dup; then the second fails on the unique index, and is run again.
const appendEntry = `WITH dup AS (
		SELECT seq, epoch, kind, stamp, chain, id FROM log WHERE gid = $1 AND ref = $2
			AND EXISTS (SELECT 1 FROM groups WHERE groups.id = $1)
	), moved AS (
		UPDATE groups SET head = head + 1, rev = rev + $3, pending = pending + $3,
			chain = sha256(chain || int8send(head + 1) || $4::bytea || int8send($5::bigint) || $2::bytea)
		WHERE id = $1 AND rev = $6 AND ($3 = 0 OR epoch = $5::bigint) AND NOT EXISTS (SELECT 1 FROM dup)
		RETURNING head, chain, rev
	), added AS (
		INSERT INTO log (gid, seq, epoch, kind, stamp, ref, chain, id, sender, device, bytes)
		SELECT $1, head, $5::bigint, $7::bigint, $8::bigint, $2::bytea, chain, $9::text, $10::text, $11::text, $12::bytea FROM moved
	)
	SELECT 0::bigint, head, $5::bigint, $7::bigint, $8::bigint, chain, $9::text, rev FROM moved
	UNION ALL
	SELECT 1::bigint, seq, epoch, kind, stamp, chain, id, (SELECT rev FROM groups WHERE groups.id = $1) FROM dup`

type appendJob struct {
	ctx  context.Context
	e    *store.NewEntry
	a    store.Accepted
	done chan error // of capacity 1
}

// Append implements store.Store.
func (s *Store) Append(ctx context.Context, e *store.NewEntry) (a store.Accepted, err error) {
	if err := relational.CheckEntry(e); err != nil {
		return a, err
	}
	// The committer may still be at it when ctx has ended.
	own := *e
	own.Bytes = append([]byte{}, e.Bytes...)
	err = s.idempotent(ctx, func() (*store.Accepted, error) {
		j := &appendJob{ctx: ctx, e: &own, done: make(chan error, 1)}
		if s.closed.Load() {
			return &a, store.ErrClosed
		}
		if err := ctx.Err(); err != nil {
			return &a, err
		}
		select {
		case s.jobs <- j:
		case <-ctx.Done():
			return &a, ctx.Err()
		case <-s.quit:
			return &a, store.ErrClosed
		}
		select {
		case err := <-j.done:
			a = j.a
			return &a, err
		case <-ctx.Done():
			return &a, fmt.Errorf("%w: %w while appending", store.ErrUnknownOutcome, ctx.Err())
		}
	})
	return a, err
}

// commitAppends is a goroutine that appends what waits.
func (s *Store) commitAppends() {
	var batch []*appendJob
	for {
		select {
		case j := <-s.jobs:
			batch = append(batch[:0], j)
		case <-s.quit:
			return
		}
	collect:
		for len(batch) < maxAppends {
			select {
			case j := <-s.jobs:
				batch = append(batch, j)
			default:
				break collect
			}
		}
		s.appendAll(batch)
		clear(batch)
	}
}

// appendAll appends a batch, and if that fails each entry for itself.
func (s *Store) appendAll(batch []*appendJob) {
	// Locks are taken in one order by all, so that no two batches deadlock.
	slices.SortStableFunc(batch, func(a, b *appendJob) int { return cmp.Compare(a.e.Group, b.e.Group) })
	// A hung server must not hold the committers for ever. What is not answered
	// by then was not committed, or is found by its ref.
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	sent, err := s.appendOnce(ctx, batch)
	if err == nil {
		for _, j := range batch {
			s.answer(j)
		}
		return
	}
	// One entry has cost all: each goes its own way, so that the one whose group
	// somebody holds waits alone.
	unknown := sent && (lostLink(err) || ctx.Err() != nil)
	for _, j := range batch {
		s.workers.Go(func() {
			if err := s.appendOne(j, unknown); err != nil {
				j.done <- err
				return
			}
			s.answer(j)
		})
	}
}

// appendOne appends one entry, again while others are faster. The entry may be
// there already, if unknown.
func (s *Store) appendOne(j *appendJob, unknown bool) error {
	var err error
	for range attempts {
		var sent bool
		if sent, err = s.appendOnce(j.ctx, []*appendJob{j}); err == nil {
			return nil
		}
		var dup *duplicateError
		if errors.As(err, &dup) || lostRace(err) {
			continue
		}
		unknown = unknown || sent && (lostLink(err) || j.ctx.Err() != nil)
		break
	}
	if unknown {
		err = fmt.Errorf("%w: %w", store.ErrUnknownOutcome, err)
	}
	return err
}

// answer completes a job whose statement has run. No row means that the group
// had another revision, or is not there.
func (s *Store) answer(j *appendJob) {
	if j.a.Seq != 0 {
		j.done <- nil
		return
	}
	j.done <- s.View(j.ctx, func(r store.Reader) error {
		g, err := r.GroupByKey(j.e.Group)
		if err != nil {
			return err
		}
		return &store.ConflictError{Epoch: g.Epoch, Head: g.Head, Rev: g.Rev}
	})
}

// duplicateError says that another process has just appended the same ref.
type duplicateError struct{ error }

// appendOnce appends a batch in one transaction. It reports whether the server
// may have got it.
func (s *Store) appendOnce(ctx context.Context, batch []*appendJob) (sent bool, err error) {
	var b pgx.Batch
	if len(batch) > 1 {
		// For this transaction only: nobody waits long for another's lock.
		b.Queue(`SELECT set_config('lock_timeout', '300ms', true)`)
	}
	for _, j := range batch {
		e, moved := j.e, int64(0)
		if e.Kind == store.KindProposal {
			moved = 1
		}
		b.Queue(appendEntry, int64(e.Group), e.Ref[:], moved, []byte{byte(e.Kind)}, int64(e.Epoch), int64(e.Rev),
			int64(e.Kind), relational.Millis(e.Stamp), e.ID, e.Sender, e.Device, e.Bytes)
	}
	pc, err := s.pool.Acquire(ctx)
	if err != nil {
		return false, fault(err)
	}
	defer pc.Release()
	r := pc.SendBatch(ctx, &b)
	answers := make([]store.Accepted, len(batch))
	if len(batch) > 1 {
		if _, err := r.Exec(); err != nil {
			r.Close()
			return true, fault(err)
		}
	}
	for i := range batch {
		rows, err := r.Query()
		if err == nil {
			for rows.Next() {
				answers[i] = accepted(result(rows.RawValues()))
			}
			err = rows.Err()
		}
		if err != nil {
			r.Close()
			return true, appendFault(err)
		}
	}
	// The batch is one transaction; it is committed when it is closed.
	if err := r.Close(); err != nil {
		return true, appendFault(err)
	}
	for i, j := range batch {
		j.a = answers[i]
	}
	return true, nil
}

func appendFault(err error) error {
	if sqlState(err) == "23505" {
		return &duplicateError{err}
	}
	return fault(err)
}

func accepted(r result) store.Accepted {
	a := store.Accepted{
		Duplicate: r.Int(0) == 1, Seq: uint64(r.Int(1)), Epoch: uint64(r.Int(2)),
		Stamp: relational.MillisTime(r.Int(4)), ID: r.Text(6), Rev: uint64(r.Int(7)),
	}
	if a.Duplicate && store.Kind(r.Int(3)) == store.KindCommit {
		a.Epoch++
	}
	copy(a.Chain[:], r[5])
	return a
}
