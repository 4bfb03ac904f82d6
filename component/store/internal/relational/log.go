// SPDX-License-Identifier: Apache-2.0

package relational

import (
	"errors"
	"fmt"
	"math"

	"github.com/lockstep-im/lockstep/component/store"
)

const entryColumns = `l.seq, l.epoch, l.kind, l.stamp, l.ref, l.chain, l.id, l.sender, l.device, l.bytes`

func scanEntry(r Row) store.Entry {
	e := store.Entry{
		Seq: uint64(r.Int(0)), Epoch: uint64(r.Int(1)), Kind: store.Kind(r.Int(2)), Stamp: MillisTime(r.Int(3)),
		ID: r.Text(6), Sender: r.Text(7), Device: r.Text(8), Bytes: nonNil(r.Bytes(9)),
	}
	copy(e.Ref[:], r.Bytes(4))
	copy(e.Chain[:], r.Bytes(5))
	return e
}

// collect returns a row function that collects entries as long as they fit, but at
// least one.
func collect(es *[]store.Entry, maxBytes int) func(Row) error {
	sum := 0
	return func(r Row) error {
		e := scanEntry(r)
		sum += len(e.Bytes)
		if maxBytes > 0 && sum > maxBytes && len(*es) > 0 {
			return errStop
		}
		*es = append(*es, e)
		return nil
	}
}

// Log implements store.Reader.
func (t *Tx) Log(key store.GroupKey, q store.LogQuery) ([]store.Entry, error) {
	g, err := t.GroupByKey(key)
	if err != nil {
		return nil, err
	}
	through := g.Head
	if q.Through != 0 {
		through = min(through, q.Through)
	}
	if q.After >= through {
		return nil, nil
	}
	if q.After+1 < g.First {
		return nil, &store.TruncatedError{First: g.First}
	}
	var es []store.Entry
	err = t.log.span(t, entryColumns, int64(key), i64(q.After)+1, i64(through), limit(q.Limit, 100), collect(&es, q.MaxBytes))
	return es, err
}

// Commits implements store.Reader.
func (t *Tx) Commits(key store.GroupKey, from uint64, n, maxBytes int) ([]store.Entry, error) {
	var es []store.Entry
	err := t.log.commits(t, entryColumns, int64(key), i64(from), limit(n, 100), collect(&es, maxBytes))
	return es, err
}

// Pending implements store.Reader.
func (t *Tx) Pending(key store.GroupKey) ([]store.Entry, error) {
	g, err := t.GroupByKey(key)
	if err != nil || g.Pending == 0 {
		return nil, err
	}
	var es []store.Entry
	err = t.query(`SELECT `+entryColumns+` FROM log l WHERE gid = $1 AND kind = 2 AND epoch = $2
		AND seq > (SELECT base FROM groups WHERE groups.id = $1) ORDER BY seq`, collect(&es, 0), int64(key), i64(g.Epoch))
	return es, err
}

// EntryByRef implements store.Reader.
func (t *Tx) EntryByRef(key store.GroupKey, ref store.Ref) (*store.Entry, error) {
	var e store.Entry
	ok, err := t.one(`SELECT id FROM groups WHERE id = $1`, func(Row) {}, int64(key))
	if err == nil && ok {
		ok, err = t.log.byRef(t, entryColumns, int64(key), &ref, func(r Row) { e = scanEntry(r) })
	}
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, notFound("entry with ref %s", ref)
	}
	return &e, nil
}

// CheckEntry refuses what must never reach a log, whatever the database.
func CheckEntry(e *store.NewEntry) error {
	switch {
	case e.Kind != store.KindApplication && e.Kind != store.KindProposal && e.Kind != store.KindControl:
		return fmt.Errorf("store: appending: kind %d", e.Kind)
	case e.Epoch >= math.MaxInt64:
		return fmt.Errorf("store: appending: epoch %d is out of range", e.Epoch)
	}
	return check([]any{e.ID, e.Sender, e.Device})
}

func (t *Tx) lockHead(key store.GroupKey, rev uint64) (head, error) {
	h, there, err := t.log.lockHead(t, int64(key), rev)
	if err == nil && !there {
		err = notFound("group with key %d", key)
	}
	return h, err
}

// Repeated answers a submission whose ref the log has already. The answer is
// that of the first time, but for Rev. It is store.ErrNotFound if the log has
// no such entry.
func (t *Tx) Repeated(key store.GroupKey, ref store.Ref, rev uint64) (store.Accepted, error) {
	var a store.Accepted
	ok, err := t.log.byRef(t, `l.seq, l.epoch, l.kind, l.stamp, l.chain, l.id`, int64(key), &ref, func(r Row) {
		a = store.Accepted{
			Seq: uint64(r.Int(0)), Epoch: uint64(r.Int(1)), Stamp: MillisTime(r.Int(3)), ID: r.Text(5),
			Rev: rev, Duplicate: true,
		}
		if store.Kind(r.Int(2)) == store.KindCommit {
			a.Epoch++
		}
		copy(a.Chain[:], r.Bytes(4))
	})
	if err == nil && !ok {
		err = notFound("entry with ref %s", ref)
	}
	return a, err
}

// refuse answers a submission that was made against another state of the group.
func (t *Tx) refuse(key store.GroupKey, ref store.Ref, h *head) (store.Accepted, error) {
	a, err := t.Repeated(key, ref, h.rev)
	if errors.Is(err, store.ErrNotFound) {
		return store.Accepted{}, h.conflict()
	}
	return a, err
}

// Append implements store.Tx.
func (t *Tx) Append(e *store.NewEntry) (store.Accepted, error) {
	if err := CheckEntry(e); err != nil {
		return store.Accepted{}, err
	}
	h, err := t.lockHead(e.Group, e.Rev)
	if err != nil {
		return store.Accepted{}, err
	}
	if h.rev != e.Rev {
		return t.refuse(e.Group, e.Ref, &h)
	}
	moved := uint64(0)
	if e.Kind == store.KindProposal {
		if e.Epoch != h.epoch {
			return t.refuse(e.Group, e.Ref, &h)
		}
		moved = 1
	}
	h.head++
	h.rev, h.pending = h.rev+moved, h.pending+moved
	h.chain = h.chain.Next(h.head, e.Kind, e.Epoch, e.Ref)
	added, err := t.log.add(t, int64(e.Group), &h, &newRow{
		rev: e.Rev, seq: h.head, epoch: e.Epoch, kind: e.Kind, stamp: Millis(e.Stamp), ref: &e.Ref, chain: &h.chain,
		id: e.ID, sender: e.Sender, device: e.Device, bytes: e.Bytes,
	})
	if err != nil {
		return store.Accepted{}, err
	}
	if !added {
		return t.Repeated(e.Group, e.Ref, e.Rev)
	}
	return store.Accepted{
		Seq: h.head, Epoch: e.Epoch, Chain: h.chain, ID: e.ID, Stamp: MillisTime(Millis(e.Stamp)), Rev: h.rev,
	}, nil
}

// AcceptCommit implements store.Tx.
func (t *Tx) AcceptCommit(c *store.Commit) (store.Accepted, error) {
	if c.Epoch >= math.MaxInt64-1 {
		return store.Accepted{}, fmt.Errorf("store: accepting commit: epoch %d is out of range", c.Epoch)
	}
	h, err := t.lockHead(c.Group, c.Rev)
	if err != nil {
		return store.Accepted{}, err
	}
	if h.rev != c.Rev || h.epoch != c.Epoch {
		return t.refuse(c.Group, c.Ref, &h)
	}
	key, now := int64(c.Group), Millis(c.Stamp)
	h.epoch, h.head, h.rev, h.pending = h.epoch+1, h.head+1, h.rev+1, 0
	h.chain = h.chain.Next(h.head, store.KindCommit, c.Epoch, c.Ref)
	added, err := t.log.add(t, key, &h, &newRow{
		rev: c.Rev, seq: h.head, epoch: c.Epoch, kind: store.KindCommit, stamp: now, ref: &c.Ref, chain: &h.chain,
		id: c.ID, sender: c.Sender, device: c.Device, bytes: c.Bytes,
	})
	if err != nil {
		return store.Accepted{}, err
	}
	if !added {
		return t.Repeated(c.Group, c.Ref, c.Rev)
	}
	seq, next := int64(h.head), int64(h.epoch)
	if c.Config != nil {
		if err := t.queue(`UPDATE groups SET config = $2 WHERE id = $1`, key, c.Config); err != nil {
			return store.Accepted{}, err
		}
	}
	if err := t.queue(insertEpoch, key, next, seq, now, c.Header, c.GroupInfo, packNodes(c.Nodes)); err != nil {
		return store.Accepted{}, err
	}
	if err := t.leave(key, seq, c.Left); err != nil {
		return store.Accepted{}, err
	}
	if err := t.join(key, seq, now, c.Joined); err != nil {
		return store.Accepted{}, err
	}
	if err := t.setRoles(key, c.Roles); err != nil {
		return store.Accepted{}, err
	}
	if err := t.splitWelcome(c, h.jid, seq, next); err != nil {
		return store.Accepted{}, err
	}
	for _, id := range c.Uploads {
		if err := t.DeleteUpload(c.UploadOwner, id); err != nil {
			return store.Accepted{}, err
		}
	}
	return store.Accepted{
		Seq: h.head, Epoch: h.epoch, Chain: h.chain, ID: c.ID, Stamp: MillisTime(now), Rev: h.rev,
	}, nil
}
