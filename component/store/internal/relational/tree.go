// SPDX-License-Identifier: Apache-2.0

package relational

import "github.com/lockstep-im/lockstep/component/store"

// A version of a node is valid in the epochs from from_epoch on, and before
// to_epoch. The key (gid, to_epoch, idx) keeps a group's current tree together
// and makes forgetting old epochs a deletion of one range.
const (
	insertEpoch = `INSERT INTO epochs (gid, epoch, seq, began, header, group_info) VALUES ($1, $2, $3, $4, $5, $6)`
	insertNode  = `INSERT INTO nodes (gid, to_epoch, idx, from_epoch, data) VALUES ($1, 9223372036854775807, $2, $3, $4)`
	endNode     = `UPDATE nodes SET to_epoch = $3 WHERE gid = $1 AND to_epoch = 9223372036854775807 AND idx = $2`
)

// setNodes writes the nodes that differ in the epoch next.
func (t *Tx) setNodes(key, next int64, nodes []store.Node) error {
	for _, n := range nodes {
		if err := t.queue(endNode, key, int64(n.Index), next); err != nil {
			return err
		}
		if n.Data == nil {
			continue
		}
		if err := t.queue(insertNode, key, int64(n.Index), next, n.Data); err != nil {
			return err
		}
	}
	return nil
}

// Snapshot implements store.Reader.
func (t *Tx) Snapshot(key store.GroupKey, epoch uint64) (*store.Snapshot, error) {
	var s store.Snapshot
	ok, err := t.one(`SELECT e.epoch, e.seq, e.header, e.group_info,
			COALESCE((SELECT n.began FROM epochs n WHERE n.gid = e.gid AND n.epoch = e.epoch + 1), 0)
		FROM epochs e WHERE e.gid = $1 AND e.epoch = $2`, func(r Row) {
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
	ok, err := t.one(`SELECT epoch FROM epochs WHERE gid = $1 AND epoch = $2`, func(Row) {}, int64(key), i64(epoch))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, notFound("epoch %d", epoch)
	}
	var nodes []store.Node
	err = t.query(`SELECT idx, data FROM nodes WHERE gid = $1 AND to_epoch > $2 AND from_epoch <= $2 ORDER BY idx`, func(r Row) error {
		nodes = append(nodes, store.Node{Index: uint32(r.Int(0)), Data: nonNil(r.Bytes(1))})
		return nil
	}, int64(key), i64(epoch))
	return nodes, err
}
