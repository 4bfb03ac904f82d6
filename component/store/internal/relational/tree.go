// SPDX-License-Identifier: Apache-2.0

package relational

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/lockstep-im/lockstep/component/store"
)

// A group's tree is kept as one row per node, the base, which is the tree of
// the oldest epoch that is kept, and what each later epoch changed, as one
// value in the row of that epoch. So a commit writes one row whatever the depth
// of the tree, every kept epoch can be read, and forgetting the oldest means
// folding the next one's changes into the base, which Clean does in its own
// time and for many epochs at once.
//
//	nodes             epochs
//	base = tree of 7   6: gone | 7 | 8: changed | 9: changed | 10: changed (current)
//
// An epoch that is forgotten leaves the seq of the commit that began it, as long
// as the log has that commit: the row's key (gid, epoch) is what finds a commit
// by its epoch, so that a commit does not pay for an index of the log too.

const (
	insertEpoch = `INSERT INTO epochs (gid, epoch, seq, began, header, group_info, changed) VALUES ($1, $2, $3, $4, $5, $6, $7)`
	putNode     = `INSERT INTO nodes (gid, idx, data) VALUES ($1, $2, $3) ON CONFLICT (gid, idx) DO UPDATE SET data = excluded.data`
	blankNode   = `DELETE FROM nodes WHERE gid = $1 AND idx = $2`

	// oldestEpoch is the oldest epoch kept of the group $1. What is gone is older
	// than what is kept: the search goes over what is kept only.
	oldestEpoch = `COALESCE((SELECT epoch + 1 FROM epochs WHERE gid = $1 AND gone = 1 ORDER BY epoch DESC LIMIT 1),
		(SELECT MIN(epoch) FROM epochs WHERE gid = $1))`
)

// packNodes encodes changed nodes: for each its index and the length of its data
// plus one, or 0 for a blank one, as varints, and the data.
func packNodes(nodes []store.Node) []byte {
	size := 0
	for _, n := range nodes {
		size += 2*binary.MaxVarintLen32 + len(n.Data)
	}
	b := make([]byte, 0, size)
	for _, n := range nodes {
		b = binary.AppendUvarint(b, uint64(n.Index))
		if n.Data == nil {
			b = append(b, 0)
			continue
		}
		b = binary.AppendUvarint(b, uint64(len(n.Data))+1)
		b = append(b, n.Data...)
	}
	return b
}

var errPacked = errors.New("store: the changes of an epoch's tree are damaged, restore a backup")

// unpackNodes applies packed changes to a tree. Data stays in b.
func unpackNodes(b []byte, set func(index uint32, data []byte)) error {
	for len(b) > 0 {
		index, n := binary.Uvarint(b)
		if n <= 0 || index > 1<<32-1 {
			return errPacked
		}
		b = b[n:]
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n)+1 {
			return errPacked
		}
		b = b[n:]
		if size == 0 {
			set(uint32(index), nil)
			continue
		}
		set(uint32(index), b[:size-1:size-1])
		b = b[size-1:]
	}
	return nil
}

// Snapshot implements store.Reader.
func (t *Tx) Snapshot(key store.GroupKey, epoch uint64) (*store.Snapshot, error) {
	var s store.Snapshot
	ok, err := t.one(`SELECT e.epoch, e.seq, e.header, e.group_info,
			COALESCE((SELECT n.began FROM epochs n WHERE n.gid = e.gid AND n.epoch = e.epoch + 1), 0)
		FROM epochs e WHERE e.gid = $1 AND e.epoch = $2 AND e.gone = 0`, func(r Row) {
		s = store.Snapshot{
			Epoch: uint64(r.Int(0)), Seq: uint64(r.Int(1)), Header: nonNil(r.Bytes(2)), GroupInfo: nonNil(r.Bytes(3)),
			Superseded: MillisTime(r.Int(4)),
		}
	}, int64(key), i64(epoch))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, notFound("epoch %d", epoch)
	}
	return &s, nil
}

// Nodes implements store.Reader.
func (t *Tx) Nodes(key store.GroupKey, epoch uint64) ([]store.Node, error) {
	// One statement, so that it sees the base and the changes of one moment. The
	// changes come first: the latest of each node counts, the base fills up.
	changed := make(map[uint32][]byte)
	var nodes []store.Node
	found := false
	err := t.query(`SELECT 0, epoch, changed FROM epochs
			WHERE gid = $1 AND epoch <= $2 AND epoch > `+oldestEpoch+`
		UNION ALL SELECT 1, idx, data FROM nodes WHERE gid = $1
		UNION ALL SELECT 2, epoch, NULL FROM epochs WHERE gid = $1 AND epoch = $2 AND gone = 0
		ORDER BY 1, 2`, func(r Row) error {
		switch r.Int(0) {
		case 0:
			return unpackNodes(r.Bytes(2), func(i uint32, data []byte) { changed[i] = data })
		case 1:
			if i := uint32(r.Int(1)); !has(changed, i) {
				nodes = append(nodes, store.Node{Index: i, Data: nonNil(r.Bytes(2))})
			}
		case 2:
			found = true
		}
		return nil
	}, int64(key), i64(epoch))
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, notFound("epoch %d", epoch)
	}
	for i, data := range changed {
		if data != nil {
			nodes = append(nodes, store.Node{Index: i, Data: data})
		}
	}
	slices.SortFunc(nodes, func(a, b store.Node) int { return int(int64(a.Index) - int64(b.Index)) })
	return nodes, nil
}

func has(m map[uint32][]byte, i uint32) bool {
	_, ok := m[i]
	return ok
}

// fold forgets a group's epochs up to and including the given one, by making
// the base the tree of the one behind it. It returns the numbers of epochs
// forgotten and of nodes written.
func (t *Tx) fold(gid, epoch int64) (epochs, written int64, err error) {
	listed := int64(0) // the first seq whose commit Commits lists
	there, err := t.one(`SELECT first, base FROM groups WHERE id = $1 FOR UPDATE`, func(r Row) {
		listed = max(r.Int(0), r.Int(1)+1)
	}, gid)
	if err != nil || !there {
		return 0, 0, err
	}
	oldest := int64(0)
	if _, err := t.one(`SELECT `+oldestEpoch, func(r Row) { oldest = r.Int(0) }, gid); err != nil {
		return 0, 0, err
	}
	changed := make(map[uint32][]byte)
	err = t.query(`SELECT changed FROM epochs WHERE gid = $1 AND epoch > $2 AND epoch <= $3 ORDER BY epoch`, func(r Row) error {
		return unpackNodes(r.Bytes(0), func(i uint32, data []byte) { changed[i] = data })
	}, gid, oldest, epoch+1)
	if err != nil {
		return 0, 0, err
	}
	for i, data := range changed {
		if data == nil {
			err = t.queue(blankNode, gid, int64(i))
		} else {
			err = t.queue(putNode, gid, int64(i), data)
		}
		if err != nil {
			return 0, 0, err
		}
	}
	deleted, err := t.exec(`DELETE FROM epochs WHERE gid = $1 AND epoch >= $2 AND epoch <= $3 AND seq < $4`, gid, oldest, epoch, listed)
	if err != nil {
		return 0, 0, err
	}
	emptied, err := t.exec(`UPDATE epochs SET gone = 1, header = $4, group_info = $4, changed = $4
		WHERE gid = $1 AND epoch >= $2 AND epoch <= $3`, gid, oldest, epoch, []byte(nil))
	return deleted + emptied, int64(len(changed)), err
}
