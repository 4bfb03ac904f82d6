// SPDX-License-Identifier: Apache-2.0

package relational

import (
	"errors"
	"fmt"
	"math"

	"github.com/lockstep-im/lockstep/component/store"
)

const (
	entryColumns = `seq, epoch, kind, stamp, ref, chain, id, sender, device, bytes`

	insertEntry = `INSERT INTO log (gid, seq, epoch, kind, stamp, ref, chain, id, sender, device, bytes)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (gid, ref) DO NOTHING`
)

func scanEntry(r Row) store.Entry {
	e := store.Entry{
		Seq: uint64(r.Int(0)), Epoch: uint64(r.Int(1)), Kind: store.Kind(r.Int(2)), Stamp: MillisTime(r.Int(3)),
		ID: r.Text(6), Sender: r.Text(7), Device: r.Text(8), Bytes: nonNil(r.Bytes(9)),
	}
	copy(e.Ref[:], r.Bytes(4))
	copy(e.Chain[:], r.Bytes(5))
	return e
}

// entries collects rows as long as they fit, but at least one.
func (t *Tx) entries(maxBytes int, q string, args ...any) ([]store.Entry, error) {
	var es []store.Entry
	sum := 0
	err := t.query(q, func(r Row) error {
		e := scanEntry(r)
		sum += len(e.Bytes)
		if maxBytes > 0 && sum > maxBytes && len(es) > 0 {
			return errStop
		}
		es = append(es, e)
		return nil
	}, args...)
	return es, err
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
	return t.entries(q.MaxBytes, `SELECT `+entryColumns+` FROM log WHERE gid = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4`,
		int64(key), i64(q.After), i64(through), limit(q.Limit, 100))
}

// Commits implements store.Reader.
func (t *Tx) Commits(key store.GroupKey, from uint64, n, maxBytes int) ([]store.Entry, error) {
	// The row of an epoch names the commit that began it (tree.go).
	return t.entries(maxBytes, `SELECT l.seq, l.epoch, kind, stamp, ref, chain, id, sender, device, bytes
		FROM epochs e JOIN log l ON l.gid = e.gid AND l.seq = e.seq
		WHERE e.gid = $1 AND e.epoch > $2 AND kind = 3 AND l.seq > (SELECT base FROM groups WHERE groups.id = $1)
		ORDER BY e.epoch LIMIT $3`, int64(key), i64(from), limit(n, 100))
}

// Pending implements store.Reader.
func (t *Tx) Pending(key store.GroupKey) ([]store.Entry, error) {
	g, err := t.GroupByKey(key)
	if err != nil || g.Pending == 0 {
		return nil, err
	}
	return t.entries(0, `SELECT `+entryColumns+` FROM log WHERE gid = $1 AND kind = 2 AND epoch = $2
		AND seq > (SELECT base FROM groups WHERE groups.id = $1) ORDER BY seq`, int64(key), i64(g.Epoch))
}

// EntryByRef implements store.Reader.
func (t *Tx) EntryByRef(key store.GroupKey, ref store.Ref) (*store.Entry, error) {
	var e store.Entry
	ok, err := t.one(`SELECT `+entryColumns+` FROM log WHERE gid = $1 AND ref = $2
		AND EXISTS (SELECT 1 FROM groups WHERE groups.id = $1)`, func(r Row) { e = scanEntry(r) }, int64(key), ref[:])
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

// head is what moves when an entry is appended.
type head struct {
	jid              string
	epoch, head, rev uint64
	chain            store.Chain
}

func (t *Tx) lockHead(key store.GroupKey) (h head, err error) {
	ok, err := t.one(`SELECT epoch, head, rev, chain, jid FROM groups WHERE id = $1 FOR UPDATE`, func(r Row) {
		h = head{epoch: uint64(r.Int(0)), head: uint64(r.Int(1)), rev: uint64(r.Int(2)), jid: r.Text(4)}
		copy(h.chain[:], r.Bytes(3))
	}, int64(key))
	if err == nil && !ok {
		err = notFound("group with key %d", key)
	}
	return h, err
}

func (h head) conflict() error {
	return &store.ConflictError{Epoch: h.epoch, Head: h.head, Rev: h.rev}
}

// Repeated answers a submission whose ref the log has already. The answer is
// that of the first time, but for Rev. It is store.ErrNotFound if the log has
// no such entry.
func (t *Tx) Repeated(key store.GroupKey, ref store.Ref, rev uint64) (store.Accepted, error) {
	var a store.Accepted
	ok, err := t.one(`SELECT seq, epoch, kind, stamp, chain, id FROM log WHERE gid = $1 AND ref = $2`, func(r Row) {
		a = store.Accepted{
			Seq: uint64(r.Int(0)), Epoch: uint64(r.Int(1)), Stamp: MillisTime(r.Int(3)), ID: r.Text(5),
			Rev: rev, Duplicate: true,
		}
		if store.Kind(r.Int(2)) == store.KindCommit {
			a.Epoch++
		}
		copy(a.Chain[:], r.Bytes(4))
	}, int64(key), ref[:])
	if err == nil && !ok {
		err = notFound("entry with ref %s", ref)
	}
	return a, err
}

// refuse answers a submission that was made against another state of the group.
func (t *Tx) refuse(key store.GroupKey, ref store.Ref, h head) (store.Accepted, error) {
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
	h, err := t.lockHead(e.Group)
	if err != nil {
		return store.Accepted{}, err
	}
	if h.rev != e.Rev {
		return t.refuse(e.Group, e.Ref, h)
	}
	seq, moved := h.head+1, uint64(0)
	if e.Kind == store.KindProposal {
		if e.Epoch != h.epoch {
			return t.refuse(e.Group, e.Ref, h)
		}
		moved = 1
	}
	chain := h.chain.Next(seq, e.Kind, e.Epoch, e.Ref)
	n, err := t.exec(insertEntry, int64(e.Group), int64(seq), int64(e.Epoch), int64(e.Kind), Millis(e.Stamp),
		e.Ref[:], chain[:], e.ID, e.Sender, e.Device, e.Bytes)
	if err != nil {
		return store.Accepted{}, err
	}
	if n == 0 {
		return t.Repeated(e.Group, e.Ref, h.rev)
	}
	if err := t.queue(`UPDATE groups SET head = $2, chain = $3, rev = rev + $4, pending = pending + $4 WHERE id = $1`,
		int64(e.Group), int64(seq), chain[:], int64(moved)); err != nil {
		return store.Accepted{}, err
	}
	return store.Accepted{
		Seq: seq, Epoch: e.Epoch, Chain: chain, ID: e.ID, Stamp: MillisTime(Millis(e.Stamp)), Rev: h.rev + moved,
	}, nil
}

// AcceptCommit implements store.Tx.
func (t *Tx) AcceptCommit(c *store.Commit) (store.Accepted, error) {
	if c.Epoch >= math.MaxInt64-1 {
		return store.Accepted{}, fmt.Errorf("store: accepting commit: epoch %d is out of range", c.Epoch)
	}
	h, err := t.lockHead(c.Group)
	if err != nil {
		return store.Accepted{}, err
	}
	if h.rev != c.Rev || h.epoch != c.Epoch {
		return t.refuse(c.Group, c.Ref, h)
	}
	key, seq, next, now := int64(c.Group), h.head+1, c.Epoch+1, Millis(c.Stamp)
	chain := h.chain.Next(seq, store.KindCommit, c.Epoch, c.Ref)
	n, err := t.exec(insertEntry, key, int64(seq), int64(c.Epoch), int64(store.KindCommit), now,
		c.Ref[:], chain[:], c.ID, c.Sender, c.Device, c.Bytes)
	if err != nil {
		return store.Accepted{}, err
	}
	if n == 0 {
		return t.Repeated(c.Group, c.Ref, h.rev)
	}
	if err := t.queue(`UPDATE groups SET epoch = $2, head = $3, chain = $4, rev = rev + 1, pending = 0 WHERE id = $1`,
		key, int64(next), int64(seq), chain[:]); err != nil {
		return store.Accepted{}, err
	}
	if c.Config != nil {
		if err := t.queue(`UPDATE groups SET config = $2 WHERE id = $1`, key, c.Config); err != nil {
			return store.Accepted{}, err
		}
	}
	if err := t.queue(insertEpoch, key, int64(next), int64(seq), now, c.Header, c.GroupInfo, packNodes(c.Nodes)); err != nil {
		return store.Accepted{}, err
	}
	if err := t.leave(key, int64(seq), c.Left); err != nil {
		return store.Accepted{}, err
	}
	if err := t.join(key, int64(seq), now, c.Joined); err != nil {
		return store.Accepted{}, err
	}
	if err := t.setRoles(key, c.Roles); err != nil {
		return store.Accepted{}, err
	}
	if err := t.splitWelcome(c, h.jid, int64(seq), int64(next)); err != nil {
		return store.Accepted{}, err
	}
	for _, id := range c.Uploads {
		if err := t.DeleteUpload(c.UploadOwner, id); err != nil {
			return store.Accepted{}, err
		}
	}
	return store.Accepted{
		Seq: seq, Epoch: next, Chain: chain, ID: c.ID, Stamp: MillisTime(now), Rev: h.rev + 1,
	}, nil
}
