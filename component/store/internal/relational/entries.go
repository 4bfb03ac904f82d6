// SPDX-License-Identifier: Apache-2.0

package relational

import (
	"github.com/lockstep-im/lockstep/component/store"
)

// Entries is how a database finds the entries of logs. The entries themselves
// are rows of the table log in every database, in the order in which they came.
// It is [Indexed] or [Blocks].
type Entries interface {
	// lockHead returns what moves when an entry is appended, and locks it, for a
	// caller who expects the revision rev.
	lockHead(t *Tx, gid int64, rev uint64) (h head, there bool, err error)
	// changed tells that a group's head, revision or log is about to change in
	// another way than by add. A gid of 0 means any group's.
	changed(gid int64)
	// add writes an entry and the head that it makes, unless the log has an
	// entry with its ref. Then it changes nothing and returns false.
	add(t *Tx, gid int64, h *head, e *newRow) (bool, error)
	// The columns are those of log l.

	// span calls row for the entries from first to last, in their order, at most
	// limit of them.
	span(t *Tx, columns string, gid, first, last, limit int64, row func(Row) error) error
	// byRef calls row for the entry that has a ref, if there is one.
	byRef(t *Tx, columns string, gid int64, ref *store.Ref, row func(Row)) (bool, error)
	// commits calls row for the commits that ended an epoch after from, or from
	// itself, in their order, at most limit of them.
	commits(t *Tx, columns string, gid, from, limit int64, row func(Row) error) error
	// oldest calls row with each of the next groups after the given one, at most
	// limit of them, and the stamp of the first entry of its log, 0 if it is empty.
	oldest(t *Tx, after, limit int64, row func(gid, stamp int64)) error
	// cut deletes the entries from first to last, which are the first that the
	// log has, and returns their number.
	cut(t *Tx, gid, first, last int64) (int64, error)
	// part prepares for the end of the group: its row is about to go, and its
	// log is to be wiped later.
	part(t *Tx, gid int64) error
	// wipe deletes some entries of a group that has ended and returns how many,
	// and whether there may be more.
	wipe(t *Tx, gid int64) (n int64, more bool, err error)
}

// head is what moves when an entry is appended.
type head struct {
	jid                       string
	epoch, head, rev, pending uint64
	chain                     store.Chain
	tail                      block // of Blocks
}

func (h *head) scan(r Row) {
	h.epoch, h.head, h.rev, h.pending = uint64(r.Int(0)), uint64(r.Int(1)), uint64(r.Int(2)), uint64(r.Int(3))
	copy(h.chain[:], r.Bytes(4))
	h.jid = r.Text(5)
}

func (h *head) conflict() error {
	return &store.ConflictError{Epoch: h.epoch, Head: h.head, Rev: h.rev}
}

// newRow is an entry that is about to be a row of log.
type newRow struct {
	rev                uint64 // of the group before it
	seq, epoch         uint64
	kind               store.Kind
	stamp              int64
	ref                *store.Ref
	chain              *store.Chain
	id, sender, device string
	bytes              []byte
}

const insertEntry = `INSERT INTO log (gid, seq, epoch, kind, stamp, ref, chain, id, sender, device, bytes)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`

func (e *newRow) insert(t *Tx, q string, gid int64) (int64, error) {
	return t.exec(q, gid, int64(e.seq), int64(e.epoch), int64(e.kind), e.stamp, e.ref[:], e.chain[:], e.id, e.sender, e.device, e.bytes)
}

// Indexed finds entries by indexes of the table log: for a database in which many
// processes write at once.
var Indexed Entries = indexed{}

type indexed struct{}

func (indexed) lockHead(t *Tx, gid int64, _ uint64) (h head, there bool, err error) {
	there, err = t.one(`SELECT epoch, head, rev, pending, chain, jid FROM groups WHERE id = $1 FOR UPDATE`, h.scan, gid)
	return h, there, err
}

func (indexed) changed(int64) {}

func (indexed) add(t *Tx, gid int64, h *head, e *newRow) (bool, error) {
	n, err := e.insert(t, insertEntry+` ON CONFLICT (gid, ref) DO NOTHING`, gid)
	if err != nil || n == 0 {
		return false, err
	}
	return true, t.queue(`UPDATE groups SET epoch = $2, head = $3, rev = $4, pending = $5, chain = $6 WHERE id = $1`,
		gid, int64(h.epoch), int64(h.head), int64(h.rev), int64(h.pending), h.chain[:])
}

func (indexed) span(t *Tx, columns string, gid, first, last, limit int64, row func(Row) error) error {
	return t.query(`SELECT `+columns+` FROM log l WHERE gid = $1 AND seq >= $2 AND seq <= $3 ORDER BY seq LIMIT $4`, row, gid, first, last, limit)
}

func (indexed) byRef(t *Tx, columns string, gid int64, ref *store.Ref, row func(Row)) (bool, error) {
	return t.one(`SELECT `+columns+` FROM log l WHERE gid = $1 AND ref = $2`, row, gid, ref[:])
}

func (indexed) commits(t *Tx, columns string, gid, from, limit int64, row func(Row) error) error {
	// The row of an epoch names the commit that began it (tree.go).
	return t.query(`SELECT `+columns+` FROM epochs e JOIN log l ON l.gid = e.gid AND l.seq = e.seq
		WHERE e.gid = $1 AND e.epoch > $2 AND l.kind = 3 AND l.seq > (SELECT base FROM groups WHERE groups.id = $1)
		ORDER BY e.epoch LIMIT $3`, row, gid, from, limit)
}

func (indexed) oldest(t *Tx, after, limit int64, row func(gid, stamp int64)) error {
	return t.query(`SELECT id, COALESCE((SELECT stamp FROM log WHERE log.gid = groups.id AND log.seq = groups.first), 0)
		FROM groups WHERE id > $1 ORDER BY id LIMIT $2`, func(r Row) error {
		row(r.Int(0), r.Int(1))
		return nil
	}, after, limit)
}

func (indexed) cut(t *Tx, gid, first, last int64) (int64, error) {
	return t.exec(`DELETE FROM log WHERE gid = $1 AND seq >= $2 AND seq <= $3`, gid, first, last)
}

func (indexed) part(*Tx, int64) error { return nil }

func (indexed) wipe(t *Tx, gid int64) (n int64, more bool, err error) {
	n, err = t.exec(`DELETE FROM log WHERE gid = $1 AND seq IN (SELECT seq FROM log WHERE gid = $1 LIMIT 500)`, gid)
	return n, n >= cleanStep, err
}
