// SPDX-License-Identifier: Apache-2.0

package relational

import (
	"time"

	"github.com/lockstep-im/lockstep/component/store"
)

// PutSession implements store.Tx.
func (t *Tx) PutSession(s store.Session) error {
	if err := t.TouchDevice(s.User, s.Device, s.Since); err != nil {
		return err
	}
	return t.queue(`INSERT INTO sessions (jid, user_jid, device, since) VALUES ($1, $2, $3, $4) ON CONFLICT (jid) DO UPDATE
		SET user_jid = excluded.user_jid, device = excluded.device, since = excluded.since`,
		s.JID, s.User, s.Device, Millis(s.Since))
}

// DeleteSession implements store.Tx.
func (t *Tx) DeleteSession(jid string) error {
	return t.queue(`DELETE FROM sessions WHERE jid = $1`, jid)
}

func (t *Tx) sessions(from string, args ...any) ([]store.Session, error) {
	var ss []store.Session
	err := t.query(`SELECT s.jid, s.user_jid, s.device, s.since FROM `+from, func(r Row) error {
		ss = append(ss, store.Session{JID: r.Text(0), User: r.Text(1), Device: r.Text(2), Since: MillisTime(r.Int(3))})
		return nil
	}, args...)
	return ss, err
}

// Sessions implements store.Reader.
func (t *Tx) Sessions(user string) ([]store.Session, error) {
	return t.sessions(`sessions s WHERE s.user_jid = $1 ORDER BY s.jid`, user)
}

// GroupSessions implements store.Reader.
func (t *Tx) GroupSessions(key store.GroupKey) ([]store.Session, error) {
	return t.sessions(`members m JOIN sessions s ON s.user_jid = m.user_jid AND s.device = m.device
		WHERE m.gid = $1 AND m.removed = 0`, int64(key))
}

// AllSessions implements store.Reader.
func (t *Tx) AllSessions(after string, n int) ([]store.Session, error) {
	return t.sessions(`sessions s WHERE s.jid > $1 ORDER BY s.jid LIMIT $2`, after, limit(n, 1000))
}

// ScheduleNudge implements store.Tx.
func (t *Tx) ScheduleNudge(user string, due time.Time) (bool, error) {
	n, err := t.exec(`INSERT INTO nudges (user_jid, due, sent) VALUES ($1, $2, 0) ON CONFLICT (user_jid) DO NOTHING`, user, Millis(due))
	return n > 0, err
}

// tooFar is further ahead than anything falls due: a row that does has its time
// from a clock that was wrong, and would wait until that time comes.
const tooFar = 7 * 24 * time.Hour

// TakeNudges implements store.Tx.
func (t *Tx) TakeNudges(now, again time.Time, n int) ([]string, error) {
	var users []string
	err := t.query(`SELECT user_jid FROM nudges WHERE sent = 0 AND (due <= $1 OR due > $2) ORDER BY due LIMIT $3 FOR UPDATE SKIP LOCKED`, func(r Row) error {
		users = append(users, r.Text(0))
		return nil
	}, Millis(now), Millis(now.Add(tooFar)), limit(n, 100))
	if err != nil {
		return nil, err
	}
	for _, u := range users {
		if err := t.queue(`UPDATE nudges SET due = $2 WHERE user_jid = $1`, u, Millis(again)); err != nil {
			return nil, err
		}
	}
	return users, nil
}

// SettleNudge implements store.Tx.
func (t *Tx) SettleNudge(user string) error {
	return t.queue(`UPDATE nudges SET sent = 1 WHERE user_jid = $1`, user)
}

// ClearNudge implements store.Tx.
func (t *Tx) ClearNudge(user string) error {
	return t.queue(`DELETE FROM nudges WHERE user_jid = $1`, user)
}
