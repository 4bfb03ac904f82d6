// SPDX-License-Identifier: Apache-2.0

package relational

import (
	"fmt"
	"math"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
)

const groupColumns = `id, jid, group_id, epoch, head, first, chain, rev, pending, mode, retention, created, config`

func scanGroup(r Row) store.Group {
	g := store.Group{
		Key:       store.GroupKey(r.Int(0)),
		JID:       r.Text(1),
		GroupID:   nonNil(r.Bytes(2)),
		Epoch:     uint64(r.Int(3)),
		Head:      uint64(r.Int(4)),
		First:     uint64(r.Int(5)),
		Rev:       uint64(r.Int(7)),
		Pending:   int(r.Int(8)),
		Mode:      r.Text(9),
		Retention: time.Duration(r.Int(10)) * time.Millisecond,
		Created:   MillisTime(r.Int(11)),
		Config:    nonNil(r.Bytes(12)),
	}
	copy(g.Chain[:], r.Bytes(6))
	return g
}

// Group implements store.Reader.
func (t *Tx) Group(jid string) (*store.Group, error) {
	var g store.Group
	ok, err := t.one(`SELECT `+groupColumns+` FROM groups WHERE jid = $1`, func(r Row) { g = scanGroup(r) }, jid)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, notFound("group %q", jid)
	}
	return &g, nil
}

// GroupByKey implements store.Reader.
func (t *Tx) GroupByKey(key store.GroupKey) (*store.Group, error) {
	return t.groupByKey(key, "")
}

// lockGroup is GroupByKey for a transaction that goes on to change the group.
func (t *Tx) lockGroup(key store.GroupKey) (*store.Group, error) {
	t.log.changed(int64(key))
	return t.groupByKey(key, " FOR UPDATE")
}

func (t *Tx) groupByKey(key store.GroupKey, lock string) (*store.Group, error) {
	q := `SELECT ` + groupColumns + ` FROM groups WHERE id = $1`
	if lock != "" {
		q = `SELECT ` + groupColumns + ` FROM groups WHERE id = $1 FOR UPDATE`
	}
	var g store.Group
	ok, err := t.one(q, func(r Row) { g = scanGroup(r) }, int64(key))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, notFound("group with key %d", key)
	}
	return &g, nil
}

func conflict(g *store.Group) error {
	return &store.ConflictError{Epoch: g.Epoch, Head: g.Head, Rev: g.Rev}
}

// Groups implements store.Reader.
func (t *Tx) Groups(after string, n int) ([]store.Group, error) {
	var gs []store.Group
	err := t.query(`SELECT `+groupColumns+` FROM groups WHERE jid > $1 ORDER BY jid LIMIT $2`, func(r Row) error {
		gs = append(gs, scanGroup(r))
		return nil
	}, after, limit(n, 100))
	return gs, err
}

// CreateGroup implements store.Tx.
func (t *Tx) CreateGroup(n *store.NewGroup) (*store.Group, error) {
	now := Millis(n.Now)
	if len(n.GroupID) < 1 || len(n.GroupID) > 255 {
		return nil, fmt.Errorf("store: creating group %q: group id of %d bytes, need 1 to 255", n.JID, len(n.GroupID))
	}
	if n.Epoch >= math.MaxInt64 {
		return nil, fmt.Errorf("store: creating group %q: epoch %d is out of range", n.JID, n.Epoch)
	}
	if err := t.free(n.JID, n.Owner, now); err != nil {
		return nil, err
	}
	chain := store.FirstChain(n.GroupID)
	key := int64(0)
	ok, err := t.one(`INSERT INTO groups (jid, group_id, epoch, head, first, base, chain, rev, pending, mode, retention, created, config)
		VALUES ($1, $2, $3, 0, 1, 0, $4, 1, 0, $5, $6, $7, $8) ON CONFLICT DO NOTHING RETURNING id`,
		func(r Row) { key = r.Int(0) },
		n.JID, n.GroupID, int64(n.Epoch), chain[:], n.Mode, n.Retention.Milliseconds(), now, n.Config)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, t.taken(n)
	}
	if err := t.queue(`DELETE FROM reservations WHERE jid = $1`, n.JID); err != nil {
		return nil, err
	}
	if err := t.queue(`DELETE FROM tombstones WHERE jid = $1`, n.JID); err != nil {
		return nil, err
	}
	if err := t.firstState(key, 0, n); err != nil {
		return nil, err
	}
	return t.GroupByKey(store.GroupKey(key))
}

// taken says which of a new group's names exists.
func (t *Tx) taken(n *store.NewGroup) error {
	var jid string
	ok, err := t.one(`SELECT jid FROM groups WHERE jid = $1 OR group_id = $2 ORDER BY (jid = $1) DESC LIMIT 1`,
		func(r Row) { jid = r.Text(0) }, n.JID, n.GroupID)
	switch {
	case err != nil:
		return err
	case ok && jid != n.JID:
		return &store.ExistsError{What: store.ExistsGroupID, Name: fmt.Sprintf("%x", n.GroupID)}
	}
	return &store.ExistsError{What: store.ExistsJID, Name: n.JID}
}

// free checks that a JID is not kept for somebody else.
func (t *Tx) free(jid, owner string, now int64) error {
	ok, err := t.one(`SELECT jid FROM tombstones WHERE jid = $1 AND until > $2`, func(Row) {}, jid, now)
	if err != nil {
		return err
	}
	if ok {
		return &store.ExistsError{What: store.ExistsTombstone, Name: jid}
	}
	ok, err = t.one(`SELECT jid FROM reservations WHERE jid = $1 AND owner <> $2 AND until > $3`, func(Row) {}, jid, owner, now)
	if err != nil {
		return err
	}
	if ok {
		return &store.ExistsError{What: store.ExistsReserved, Name: jid}
	}
	return nil
}

// firstState writes what belongs to the first epoch of an MLS group.
func (t *Tx) firstState(key, seq int64, n *store.NewGroup) error {
	now := Millis(n.Now)
	if err := t.queue(insertEpoch, key, int64(n.Epoch), seq, now, n.Header, n.GroupInfo, []byte(nil)); err != nil {
		return err
	}
	for _, node := range n.Nodes {
		if node.Data == nil {
			continue
		}
		if err := t.queue(putNode, key, int64(node.Index), node.Data); err != nil {
			return err
		}
	}
	if err := t.join(key, seq, now, n.Members); err != nil {
		return err
	}
	return t.setRoles(key, n.Roles)
}

// ReplaceGroup implements store.Tx.
func (t *Tx) ReplaceGroup(key store.GroupKey, rev uint64, n *store.NewGroup) (*store.Group, error) {
	g, err := t.lockGroup(key)
	if err != nil {
		return nil, err
	}
	if g.Rev != rev {
		return nil, conflict(g)
	}
	if g.JID != n.JID {
		return nil, fmt.Errorf("store: replacing group %q: the new group is named %q", g.JID, n.JID)
	}
	if len(n.GroupID) < 1 || len(n.GroupID) > 255 || n.Epoch >= math.MaxInt64 {
		return nil, fmt.Errorf("store: replacing group %q: group id of %d bytes, epoch %d", n.JID, len(n.GroupID), n.Epoch)
	}
	ok, err := t.one(`SELECT id FROM groups WHERE group_id = $1`, func(Row) {}, n.GroupID)
	if err != nil {
		return nil, err
	}
	if ok {
		return nil, &store.ExistsError{What: store.ExistsGroupID, Name: fmt.Sprintf("%x", n.GroupID)}
	}
	k, head := int64(key), int64(g.Head)
	if err := t.queue(`UPDATE groups SET group_id = $2, epoch = $3, base = head, rev = rev + 1, pending = 0,
			mode = $4, retention = $5, config = $6 WHERE id = $1`,
		k, n.GroupID, int64(n.Epoch), n.Mode, n.Retention.Milliseconds(), n.Config); err != nil {
		return nil, err
	}
	for _, q := range []string{
		`DELETE FROM epochs WHERE gid = $1`,
		`DELETE FROM nodes WHERE gid = $1`,
		`DELETE FROM affiliations WHERE gid = $1`,
	} {
		if err := t.queue(q, k); err != nil {
			return nil, err
		}
	}
	// Who has not joined the old group yet has nothing to join any more.
	if err := t.queue(`DELETE FROM welcomes WHERE grp = $1`, g.JID); err != nil {
		return nil, err
	}
	if err := t.queue(`UPDATE members SET removed = $2 WHERE gid = $1 AND removed = 0`, k, head); err != nil {
		return nil, err
	}
	if head == 0 {
		if err := t.queue(`DELETE FROM members WHERE gid = $1`, k); err != nil {
			return nil, err
		}
	}
	if err := t.firstState(k, head, n); err != nil {
		return nil, err
	}
	return t.GroupByKey(key)
}

// UpdateGroup implements store.Tx.
func (t *Tx) UpdateGroup(key store.GroupKey, rev uint64, c store.GroupChange) (uint64, error) {
	g, err := t.lockGroup(key)
	if err != nil {
		return 0, err
	}
	if g.Rev != rev {
		return 0, conflict(g)
	}
	config, retention := c.Config, g.Retention
	if config == nil {
		config = g.Config
	}
	if c.Retention != nil {
		retention = *c.Retention
	}
	if err := t.queue(`UPDATE groups SET rev = rev + 1, config = $2, retention = $3 WHERE id = $1`,
		int64(key), config, retention.Milliseconds()); err != nil {
		return 0, err
	}
	if err := t.setRoles(int64(key), c.Roles); err != nil {
		return 0, err
	}
	return rev + 1, nil
}

// DestroyGroup implements store.Tx.
func (t *Tx) DestroyGroup(key store.GroupKey, ts store.Tombstone) error {
	g, err := t.lockGroup(key)
	if err != nil {
		return err
	}
	k := int64(key)
	if err := t.log.part(t, k); err != nil {
		return err
	}
	for _, q := range []string{
		`DELETE FROM groups WHERE id = $1`,
		`DELETE FROM members WHERE gid = $1`,
		`DELETE FROM affiliations WHERE gid = $1`,
		`DELETE FROM epochs WHERE gid = $1`,
		`DELETE FROM welcome_infos WHERE gid = $1`,
		// The log and the tree may be large: Clean wipes them in pieces.
		`INSERT INTO doomed (gid) VALUES ($1) ON CONFLICT DO NOTHING`,
	} {
		if err := t.queue(q, k); err != nil {
			return err
		}
	}
	if err := t.queue(`DELETE FROM welcomes WHERE grp = $1`, g.JID); err != nil {
		return err
	}
	return t.queue(`INSERT INTO tombstones (jid, new_jid, reason, until) VALUES ($1, $2, $3, $4)
		ON CONFLICT (jid) DO UPDATE SET new_jid = excluded.new_jid, reason = excluded.reason, until = excluded.until`,
		g.JID, ts.NewJID, ts.Reason, Millis(ts.Until))
}

// Tombstone implements store.Reader.
func (t *Tx) Tombstone(jid string) (store.Tombstone, error) {
	var ts store.Tombstone
	ok, err := t.one(`SELECT jid, new_jid, reason, until FROM tombstones WHERE jid = $1`, func(r Row) {
		ts = store.Tombstone{JID: r.Text(0), NewJID: r.Text(1), Reason: r.Text(2), Until: MillisTime(r.Int(3))}
	}, jid)
	if err == nil && !ok {
		err = notFound("tombstone of %q", jid)
	}
	return ts, err
}

// Reserve implements store.Tx.
func (t *Tx) Reserve(jid, owner string, now, until time.Time) error {
	ok, err := t.one(`SELECT id FROM groups WHERE jid = $1`, func(Row) {}, jid)
	if err != nil {
		return err
	}
	if ok {
		return &store.ExistsError{What: store.ExistsJID, Name: jid}
	}
	if err := t.free(jid, owner, Millis(now)); err != nil {
		return err
	}
	n, err := t.exec(`INSERT INTO reservations (jid, owner, until) VALUES ($1, $2, $3)
		ON CONFLICT (jid) DO UPDATE SET owner = excluded.owner, until = excluded.until
		WHERE reservations.owner = excluded.owner OR reservations.until <= $4`,
		jid, owner, Millis(until), Millis(now))
	if err == nil && n == 0 { // another process was faster
		return &store.ExistsError{What: store.ExistsReserved, Name: jid}
	}
	return err
}
