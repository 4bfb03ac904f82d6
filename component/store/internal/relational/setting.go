// SPDX-License-Identifier: Apache-2.0

package relational

import (
	"bytes"
	"strings"

	"github.com/lockstep-im/lockstep/component/store"
)

// Setting implements store.Reader.
func (t *Tx) Setting(owner, name string) ([]byte, error) {
	v, err := t.setting(`SELECT value FROM settings WHERE owner = $1 AND name = $2`, owner, name)
	if err == nil && v == nil {
		err = notFound("setting %q", name)
	}
	return v, err
}

// setting returns nil if there is none.
func (t *Tx) setting(q, owner, name string) (v []byte, err error) {
	_, err = t.one(q, func(r Row) { v = nonNil(r.Bytes(0)) }, owner, name)
	return v, err
}

// Settings implements store.Reader.
func (t *Tx) Settings(owner, prefix string) ([]store.Setting, error) {
	var ss []store.Setting
	err := t.query(`SELECT name, value FROM settings WHERE owner = $1 AND name >= $2 ORDER BY name`, func(r Row) error {
		name := r.Text(0)
		if !strings.HasPrefix(name, prefix) {
			return errStop // names are sorted by their bytes
		}
		ss = append(ss, store.Setting{Name: name, Value: nonNil(r.Bytes(1))})
		return nil
	}, owner, prefix)
	return ss, err
}

// SetSetting implements store.Tx.
func (t *Tx) SetSetting(owner, name string, value []byte) error {
	if value == nil {
		return t.queue(`DELETE FROM settings WHERE owner = $1 AND name = $2`, owner, name)
	}
	return t.queue(`INSERT INTO settings (owner, name, value) VALUES ($1, $2, $3)
		ON CONFLICT (owner, name) DO UPDATE SET value = excluded.value`, owner, name, value)
}

// SwapSetting implements store.Tx.
func (t *Tx) SwapSetting(owner, name string, old, value []byte) error {
	if old == nil && value != nil {
		n, err := t.exec(`INSERT INTO settings (owner, name, value) VALUES ($1, $2, $3) ON CONFLICT (owner, name) DO NOTHING`, owner, name, value)
		if err == nil && n == 0 {
			return &store.ConflictError{}
		}
		return err
	}
	now, err := t.setting(`SELECT value FROM settings WHERE owner = $1 AND name = $2 FOR UPDATE`, owner, name)
	if err != nil {
		return err
	}
	if (now == nil) != (old == nil) || !bytes.Equal(now, old) {
		return &store.ConflictError{}
	}
	return t.SetSetting(owner, name, value)
}

// AddReport implements store.Tx.
func (t *Tx) AddReport(r *store.Report, most int) (int64, error) {
	id, have := int64(0), int64(0)
	if most > 0 {
		_, err := t.one(`SELECT COUNT(*) FROM reports WHERE reporter = $1`, func(row Row) { have = row.Int(0) }, r.Reporter)
		if err != nil {
			return 0, err
		}
		if have >= int64(most) {
			return 0, store.ErrQuota
		}
	}
	_, err := t.one(`INSERT INTO reports (stamp, reporter, grp, seq, reason, comment, evidence)
		VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id`, func(row Row) { id = row.Int(0) },
		Millis(r.Stamp), r.Reporter, r.Group, i64(r.Seq), r.Reason, r.Text, r.Evidence)
	return id, err
}

// Reports implements store.Reader.
func (t *Tx) Reports(after int64, n int) ([]store.Report, error) {
	var rs []store.Report
	err := t.query(`SELECT id, stamp, reporter, grp, seq, reason, comment, evidence FROM reports WHERE id > $1 ORDER BY id LIMIT $2`, func(r Row) error {
		rs = append(rs, store.Report{
			ID: r.Int(0), Stamp: MillisTime(r.Int(1)), Reporter: r.Text(2), Group: r.Text(3), Seq: uint64(r.Int(4)),
			Reason: r.Text(5), Text: r.Text(6), Evidence: nonNil(r.Bytes(7)),
		})
		return nil
	}, after, limit(n, 100))
	return rs, err
}

// DeleteReport implements store.Tx.
func (t *Tx) DeleteReport(id int64) error {
	return t.queue(`DELETE FROM reports WHERE id = $1`, id)
}

// PurgeUser implements store.Tx.
func (t *Tx) PurgeUser(user string) ([]store.IdleMember, error) {
	t.log.changed(0)
	for _, q := range []string{
		`DELETE FROM key_packages WHERE user_jid = $1`,
		`DELETE FROM devices WHERE user_jid = $1`,
		`DELETE FROM claims WHERE user_jid = $1`,
		`DELETE FROM claim_replies WHERE user_jid = $1 OR requester = $1`,
		`DELETE FROM welcomes WHERE user_jid = $1`,
		`DELETE FROM sessions WHERE user_jid = $1`,
		`DELETE FROM nudges WHERE user_jid = $1`,
		`DELETE FROM upload_chunks WHERE owner = $1`,
		`DELETE FROM uploads WHERE owner = $1`,
		`DELETE FROM settings WHERE owner = $1`,
		`DELETE FROM reservations WHERE owner = $1`,
		`UPDATE groups SET rev = rev + 1 WHERE id IN (SELECT gid FROM affiliations WHERE user_jid = $1 AND value <> 'outcast')`,
		`DELETE FROM affiliations WHERE user_jid = $1 AND value <> 'outcast'`,
	} {
		if err := t.queue(q, user); err != nil {
			return nil, err
		}
	}
	return t.idle(`WHERE m.user_jid = $1 AND m.removed = 0 ORDER BY g.jid, m.leaf`, user)
}
