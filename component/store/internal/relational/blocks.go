// SPDX-License-Identifier: Apache-2.0

package relational

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/lockstep-im/lockstep/component/store"
)

// Blocks finds entries by blocks of records that it keeps itself: for a database
// with one writer, whose price for a transaction is the pages that it changes. An
// index of (group, seq) and one of (group, ref) change a page each for every
// entry, wherever its group has its place. Here an entry's record goes into the
// row of its group, which changes anyway. When that tail is full it becomes a
// row of log_blocks and its refs go to log_refs, all at once.
//
//	groups             log_blocks                log_refs
//	tail: 65 … 70      1 … 32 | 33 … 64          (group, start of the ref, row of log)
//
// A record says in which row of log an entry is and how its ref begins. The seq
// is that of its place: the last record of a tail is the head's, the last one of
// a block is the block's key. A block is deleted when its last entry is. Before
// that its first records may stand for rows that are gone. Nobody else's row has
// such a number: SQLite gives a new row the number after the last one that is
// there. Rows are asked for their group and seq all the same, so that a damaged
// block hands no group the entries of another.
//
// The one writer remembers the heads of the groups that it wrote to last, so that
// the next entry costs no query. It trusts that only as far as the caller expects
// the same revision, and a head is written over none but the one that it follows:
// if a change of a group was not told, nothing is accepted on what was before.
//
// The zero Blocks remembers nothing. It is for those who read.
type Blocks struct {
	heads map[int64]head // by group
}

// NewBlocks makes the Blocks of a writer. Whoever takes back what was written
// with it must call Forget.
func NewBlocks() *Blocks { return &Blocks{heads: make(map[int64]head)} }

// Forget forgets all heads.
func (b *Blocks) Forget() { clear(b.heads) }

const (
	blockLen  = 32         // records in a full block
	refLen    = 8          // octets of a ref in a record
	recordLen = refLen + 8 // and those of a row's number with it

	maxHeads = 2048 // remembered: less than 1 KiB each
)

// A block is records of entries whose seqs follow each other.
type block []byte

func (b block) len() uint64         { return uint64(len(b)) / recordLen }
func (b block) ref(i uint64) []byte { return b[i*recordLen:][:refLen] }
func (b block) row(i uint64) int64 {
	return int64(binary.BigEndian.Uint64(b[i*recordLen+refLen:]))
}

func (b block) add(ref *store.Ref, row int64) block {
	return binary.BigEndian.AppendUint64(append(b, ref[:refLen]...), uint64(row))
}

// rows are those of the entries whose refs begin like ref: hardly ever more than one.
func (b block) rows(ref *store.Ref) (rows []int64) {
	for i := range b.len() {
		if bytes.Equal(b.ref(i), ref[:refLen]) {
			rows = append(rows, b.row(i))
		}
	}
	return rows
}

// A numbered block knows the seq of its last record.
type numbered struct {
	block
	last uint64
}

// place returns which record is that of a seq.
func (b numbered) place(seq uint64) (i uint64, ok bool) {
	if seq > b.last || b.last-seq >= b.len() {
		return 0, false
	}
	return b.len() - 1 - (b.last - seq), true
}

// A finder finds the records of a group's entries, in ascending order of seq
// with one query for each block.
type finder struct {
	t     *Tx
	gid   int64
	tail  numbered // of the group
	block numbered // read last
}

func (t *Tx) finder(gid int64) (*finder, error) {
	f := &finder{t: t, gid: gid}
	_, err := t.one(`SELECT head, tail FROM groups WHERE id = $1`, func(r Row) {
		f.tail = numbered{r.Bytes(1), uint64(r.Int(0))}
	}, gid)
	return f, err
}

// find returns the block that has a seq's record, and its place there.
func (f *finder) find(seq uint64) (b numbered, i uint64, ok bool, err error) {
	if i, ok := f.tail.place(seq); ok {
		return f.tail, i, true, nil
	}
	if i, ok = f.block.place(seq); !ok {
		f.block = numbered{}
		if _, err := f.t.one(`SELECT last, records FROM log_blocks WHERE gid = $1 AND last >= $2 ORDER BY last LIMIT 1`, func(r Row) {
			f.block = numbered{r.Bytes(1), uint64(r.Int(0))}
		}, f.gid, int64(seq)); err != nil {
			return b, 0, false, err
		}
		i, ok = f.block.place(seq)
	}
	return f.block, i, ok, nil
}

// read calls row for the entry of a seq, and reports whether there is one.
func (f *finder) read(columns string, seq uint64, row func(Row) error) (there bool, err error) {
	b, i, ok, err := f.find(seq)
	if err != nil || !ok {
		return false, err
	}
	var stop error
	err = f.t.query(`SELECT `+columns+` FROM log l WHERE row = $1 AND gid = $2 AND seq = $3`, func(r Row) error {
		there = true
		stop = row(r)
		return stop
	}, b.row(i), f.gid, int64(seq))
	if err == nil {
		err = stop
	}
	return there, err
}

func (b *Blocks) lockHead(t *Tx, gid int64, rev uint64) (h head, there bool, err error) {
	if known, ok := b.heads[gid]; ok && known.rev == rev {
		return known, true, nil
	}
	there, err = t.one(`SELECT epoch, head, rev, pending, chain, jid, tail FROM groups WHERE id = $1`, func(r Row) {
		h.scan(r)
		h.tail = r.Bytes(6)
	}, gid)
	return h, there, err
}

func (b *Blocks) changed(gid int64) {
	if gid == 0 {
		b.Forget()
	}
	delete(b.heads, gid)
}

func (b *Blocks) add(t *Tx, gid int64, h *head, e *newRow) (bool, error) {
	if there, err := t.readRef(`1`, gid, h.tail, e.ref, func(Row) {}); err != nil || there {
		return false, err
	}
	if h.tail.len() >= blockLen {
		if err := t.closeBlock(gid, numbered{h.tail, h.head - 1}); err != nil {
			return false, err
		}
		h.tail = nil
	}
	if _, err := e.insert(t, insertEntry, gid); err != nil {
		return false, err
	}
	h.tail = h.tail.add(e.ref, t.c.(inserter).Inserted())
	n, err := t.exec(`UPDATE groups SET epoch = $2, head = $3, rev = $4, pending = $5, chain = $6, tail = $7
		WHERE id = $1 AND head = $8 AND rev = $9`,
		gid, int64(h.epoch), int64(h.head), int64(h.rev), int64(h.pending), h.chain[:], []byte(h.tail), int64(h.head-1), int64(e.rev))
	if err != nil {
		return false, err
	}
	if n != 1 {
		return false, t.doom(fmt.Errorf("%w: group %d has changed since its head was read; try again", store.ErrUnavailable, gid))
	}
	b.remember(gid, h)
	return true, nil
}

// remember keeps a head, if need be in the place of any other.
func (b *Blocks) remember(gid int64, h *head) {
	if b.heads == nil {
		return
	}
	if _, there := b.heads[gid]; !there && len(b.heads) >= maxHeads {
		for other := range b.heads {
			delete(b.heads, other)
			break
		}
	}
	b.heads[gid] = *h
}

// An inserter is a Conn that tells which number the row got that it inserted last.
type inserter interface{ Inserted() int64 }

// closeBlock makes a block of what was a group's tail.
func (t *Tx) closeBlock(gid int64, b numbered) error {
	if err := t.queue(`INSERT INTO log_blocks (gid, last, records) VALUES ($1, $2, $3)`, gid, int64(b.last), []byte(b.block)); err != nil {
		return err
	}
	for i := range b.len() {
		if err := t.queue(`INSERT INTO log_refs (gid, ref, row) VALUES ($1, $2, $3)`, gid, b.ref(i), b.row(i)); err != nil {
			return err
		}
	}
	return nil
}

// readRef calls row for the entry that has a ref, given the group's tail, and
// reports whether there is one.
func (t *Tx) readRef(columns string, gid int64, tail block, ref *store.Ref, row func(Row)) (bool, error) {
	rows := tail.rows(ref)
	if err := t.query(`SELECT row FROM log_refs WHERE gid = $1 AND ref = $2`, func(r Row) error {
		rows = append(rows, r.Int(0))
		return nil
	}, gid, ref[:refLen]); err != nil {
		return false, err
	}
	for _, n := range rows {
		if there, err := t.one(`SELECT `+columns+` FROM log l WHERE row = $1 AND gid = $2 AND ref = $3`, row, n, gid, ref[:]); err != nil || there {
			return there, err
		}
	}
	return false, nil
}

func (*Blocks) byRef(t *Tx, columns string, gid int64, ref *store.Ref, row func(Row)) (bool, error) {
	f, err := t.finder(gid)
	if err != nil {
		return false, err
	}
	return t.readRef(columns, gid, f.tail.block, ref, row)
}

func (*Blocks) span(t *Tx, columns string, gid, first, last, limit int64, row func(Row) error) error {
	f, err := t.finder(gid)
	if err != nil {
		return err
	}
	for seq := uint64(first); seq <= uint64(last) && limit > 0; seq++ {
		there, err := f.read(columns, seq, row)
		if err == errStop {
			return nil
		}
		if err != nil {
			return err
		}
		if there {
			limit--
		}
	}
	return nil
}

func (*Blocks) commits(t *Tx, columns string, gid, from, limit int64, row func(Row) error) error {
	f, err := t.finder(gid)
	if err != nil {
		return err
	}
	// The row of an epoch names the commit that began it (tree.go).
	var seqs []uint64
	if err := t.query(`SELECT e.seq FROM epochs e JOIN groups g ON g.id = e.gid
		WHERE e.gid = $1 AND e.epoch > $2 AND e.seq > g.base AND e.seq >= g.first ORDER BY e.epoch LIMIT $3`, func(r Row) error {
		seqs = append(seqs, uint64(r.Int(0)))
		return nil
	}, gid, from, limit); err != nil {
		return err
	}
	for _, seq := range seqs {
		if _, err := f.read(columns, seq, row); err != nil {
			if err == errStop {
				return nil
			}
			return err
		}
	}
	return nil
}

func (*Blocks) oldest(t *Tx, after, limit int64, row func(gid, stamp int64)) error {
	type group struct {
		finder
		first uint64
	}
	var gs []group
	if err := t.query(`SELECT id, first, head, tail FROM groups WHERE id > $1 ORDER BY id LIMIT $2`, func(r Row) error {
		f := finder{t: t, gid: r.Int(0), tail: numbered{r.Bytes(3), uint64(r.Int(2))}}
		gs = append(gs, group{f, uint64(r.Int(1))})
		return nil
	}, after, limit); err != nil {
		return err
	}
	for i := range gs {
		g, stamp := &gs[i], int64(0)
		if g.first <= g.tail.last {
			if _, err := g.read(`l.stamp`, g.first, func(r Row) error {
				stamp = r.Int(0)
				return nil
			}); err != nil {
				return err
			}
		}
		row(g.gid, stamp)
	}
	return nil
}

func (*Blocks) cut(t *Tx, gid, first, last int64) (n int64, err error) {
	f, err := t.finder(gid)
	if err != nil {
		return 0, err
	}
	for seq := uint64(first); seq <= uint64(last); seq++ {
		b, i, ok, err := f.find(seq)
		if err != nil {
			return n, err
		}
		if !ok {
			continue
		}
		gone, err := t.deleteEntry(gid, b.block, i, int64(seq))
		if err != nil {
			return n, err
		}
		n += gone
	}
	if i, ok := f.tail.place(uint64(last)); ok {
		if err := t.queue(`UPDATE groups SET tail = $2 WHERE id = $1`, gid, []byte(f.tail.block[(i+1)*recordLen:])); err != nil {
			return n, err
		}
	}
	return n, t.queue(`DELETE FROM log_blocks WHERE gid = $1 AND last <= $2`, gid, last)
}

// deleteEntry deletes the entry of a record, and its ref, and returns how many
// entries that were.
func (t *Tx) deleteEntry(gid int64, b block, i uint64, seq int64) (int64, error) {
	n, err := t.exec(`DELETE FROM log WHERE row = $1 AND gid = $2 AND seq = $3`, b.row(i), gid, seq)
	if err != nil || n == 0 {
		return 0, err
	}
	return n, t.queue(`DELETE FROM log_refs WHERE gid = $1 AND ref = $2 AND row = $3`, gid, b.ref(i), b.row(i))
}

func (*Blocks) part(t *Tx, gid int64) error {
	f, err := t.finder(gid)
	if err != nil || f.tail.len() == 0 {
		return err
	}
	return t.closeBlock(gid, f.tail)
}

func (*Blocks) wipe(t *Tx, gid int64) (n int64, more bool, err error) {
	var bs []numbered
	if err := t.query(`SELECT last, records FROM log_blocks WHERE gid = $1 ORDER BY last LIMIT 16`, func(r Row) error {
		bs = append(bs, numbered{r.Bytes(1), uint64(r.Int(0))})
		return nil
	}, gid); err != nil {
		return 0, false, err
	}
	for _, b := range bs {
		for i := range b.len() {
			gone, err := t.deleteEntry(gid, b.block, i, int64(b.last-b.len()+1+i))
			if err != nil {
				return n, false, err
			}
			n += gone
		}
		if err := t.queue(`DELETE FROM log_blocks WHERE gid = $1 AND last = $2`, gid, int64(b.last)); err != nil {
			return n, false, err
		}
	}
	return n, len(bs) > 0, nil
}
