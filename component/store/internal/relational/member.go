// SPDX-License-Identifier: Apache-2.0

package relational

import (
	"time"

	"github.com/lockstep-im/lockstep/component/store"
)

const memberColumns = `m.user_jid, m.device, m.leaf, m.joined, m.removed, m.acked, m.seen`

func scanMember(r Row) store.Member {
	return store.Member{
		User: r.Text(0), Device: r.Text(1), Leaf: uint32(r.Int(2)),
		Joined: uint64(r.Int(3)), Removed: uint64(r.Int(4)), Acked: uint64(r.Int(5)), Seen: MillisTime(r.Int(6)),
	}
}

// join puts devices into the tree. One that was there when the group was replaced
// comes with the group: it may go on reading where it was.
func (t *Tx) join(key, seq, now int64, js []store.Joiner) error {
	const along = `members.removed > 0 AND members.removed = (SELECT base FROM groups WHERE id = $1)`
	for _, j := range js {
		if err := t.queue(`INSERT INTO members (gid, user_jid, device, leaf, joined, removed, acked, seen)
			VALUES ($1, $2, $3, $4, $5, 0, $5, $6) ON CONFLICT (gid, user_jid, device) DO UPDATE
			SET leaf = excluded.leaf, removed = 0, seen = excluded.seen,
				joined = CASE WHEN `+along+` THEN members.joined ELSE excluded.joined END,
				acked = CASE WHEN `+along+` THEN members.acked ELSE excluded.acked END`,
			key, j.User, j.Device, int64(j.Leaf), seq, now); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tx) leave(key, seq int64, ls []store.Leaver) error {
	for _, l := range ls {
		if err := t.queue(`UPDATE members SET removed = $4 WHERE gid = $1 AND user_jid = $2 AND device = $3 AND removed = 0`,
			key, l.User, l.Device, seq); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tx) setRoles(key int64, as []store.Affiliation) error {
	for _, a := range as {
		var err error
		if a.Value == "" {
			err = t.queue(`DELETE FROM affiliations WHERE gid = $1 AND user_jid = $2`, key, a.User)
		} else {
			err = t.queue(`INSERT INTO affiliations (gid, user_jid, value) VALUES ($1, $2, $3)
				ON CONFLICT (gid, user_jid) DO UPDATE SET value = excluded.value`, key, a.User, a.Value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Members implements store.Reader.
func (t *Tx) Members(key store.GroupKey) ([]store.Member, error) {
	var ms []store.Member
	err := t.query(`SELECT `+memberColumns+` FROM members m WHERE m.gid = $1`, func(r Row) error {
		ms = append(ms, scanMember(r))
		return nil
	}, int64(key))
	return ms, err
}

// MembersOf implements store.Reader.
func (t *Tx) MembersOf(key store.GroupKey, user string) ([]store.Member, error) {
	var ms []store.Member
	err := t.query(`SELECT `+memberColumns+` FROM members m WHERE m.user_jid = $2 AND m.gid = $1`, func(r Row) error {
		ms = append(ms, scanMember(r))
		return nil
	}, int64(key), user)
	return ms, err
}

// Member implements store.Reader.
func (t *Tx) Member(key store.GroupKey, user, device string) (store.Member, error) {
	var m store.Member
	ok, err := t.one(`SELECT `+memberColumns+` FROM members m WHERE m.gid = $1 AND m.user_jid = $2 AND m.device = $3`,
		func(r Row) { m = scanMember(r) }, int64(key), user, device)
	if err == nil && !ok {
		err = notFound("member %q with device %q", user, device)
	}
	return m, err
}

// IdleMembers implements store.Reader.
func (t *Tx) IdleMembers(before time.Time, after store.IdleMember, n int) ([]store.IdleMember, error) {
	return t.idle(`WHERE m.removed = 0 AND m.seen < $1 AND (m.seen, m.gid, m.leaf) > ($2, $3, $4) ORDER BY m.seen, m.gid, m.leaf LIMIT $5`,
		Millis(before), Millis(after.Seen), int64(after.Key), int64(after.Leaf), limit(n, 100))
}

func (t *Tx) idle(where string, args ...any) ([]store.IdleMember, error) {
	var ms []store.IdleMember
	err := t.query(`SELECT `+memberColumns+`, g.id, g.jid FROM members m JOIN groups g ON g.id = m.gid `+where, func(r Row) error {
		ms = append(ms, store.IdleMember{Key: store.GroupKey(r.Int(7)), JID: r.Text(8), Member: scanMember(r)})
		return nil
	}, args...)
	return ms, err
}

// Ack implements store.Tx.
func (t *Tx) Ack(key store.GroupKey, user, device string, seq uint64, at time.Time) error {
	n, err := t.exec(`UPDATE members SET acked = CASE WHEN acked < $4 THEN $4 ELSE acked END,
			seen = CASE WHEN seen < $5 THEN $5 ELSE seen END
		WHERE gid = $1 AND user_jid = $2 AND device = $3`, int64(key), user, device, i64(seq), Millis(at))
	if err == nil && n == 0 {
		return notFound("member %q with device %q", user, device)
	}
	return err
}

// Affiliation implements store.Reader.
func (t *Tx) Affiliation(key store.GroupKey, user string) (string, error) {
	value := ""
	_, err := t.one(`SELECT value FROM affiliations WHERE gid = $1 AND user_jid = $2`, func(r Row) { value = r.Text(0) }, int64(key), user)
	return value, err
}

// Affiliations implements store.Reader.
func (t *Tx) Affiliations(key store.GroupKey, after string, n int) ([]store.Affiliation, error) {
	var as []store.Affiliation
	err := t.query(`SELECT user_jid, value FROM affiliations WHERE gid = $1 AND user_jid > $2 ORDER BY user_jid LIMIT $3`, func(r Row) error {
		as = append(as, store.Affiliation{User: r.Text(0), Value: r.Text(1)})
		return nil
	}, int64(key), after, limit(n, 100))
	return as, err
}

// UserGroups implements store.Reader.
func (t *Tx) UserGroups(user, device, after string, n int) ([]store.UserGroup, error) {
	var gs []store.UserGroup
	err := t.query(`WITH listed AS (
			SELECT g.jid FROM members m JOIN groups g ON g.id = m.gid WHERE m.user_jid = $1 AND m.removed = 0
			UNION SELECT g.jid FROM affiliations a JOIN groups g ON g.id = a.gid WHERE a.user_jid = $1 AND a.value <> 'outcast'
			UNION SELECT grp FROM welcomes WHERE user_jid = $1 AND device = $2)
		SELECT l.jid, COALESCE(g.id, 0), COALESCE(g.epoch, 0), COALESCE(g.head, 0),
			COALESCE((SELECT a.value FROM affiliations a WHERE a.gid = g.id AND a.user_jid = $1), ''),
			(SELECT COUNT(*) FROM members m WHERE m.gid = g.id AND m.user_jid = $1 AND m.device = $2 AND m.removed = 0),
			(SELECT COUNT(*) FROM welcomes w WHERE w.user_jid = $1 AND w.device = $2 AND w.grp = l.jid)
		FROM listed l LEFT JOIN groups g ON g.jid = l.jid
		WHERE l.jid > $3 ORDER BY l.jid LIMIT $4`, func(r Row) error {
		gs = append(gs, store.UserGroup{
			JID: r.Text(0), Key: store.GroupKey(r.Int(1)), Epoch: uint64(r.Int(2)), Head: uint64(r.Int(3)),
			Affiliation: r.Text(4), InTree: r.Int(5) > 0, Welcome: r.Int(6) > 0, Remote: r.Int(1) == 0,
		})
		return nil
	}, user, device, after, limit(n, 100))
	return gs, err
}
