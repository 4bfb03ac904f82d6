// SPDX-License-Identifier: Apache-2.0

package relational

import (
	"time"

	"github.com/lockstep-im/lockstep/component/store"
)

const welcomeColumns = `w.kp_ref, w.grp, w.user_jid, w.device, w.epoch, w.seq, w.inviter, w.remote, w.expires, w.notify_at`

func scanWelcome(r Row) store.Welcome {
	return store.Welcome{
		KPRef: nonNil(r.Bytes(0)), Group: r.Text(1), User: r.Text(2), Device: r.Text(3),
		Epoch: uint64(r.Int(4)), Seq: uint64(r.Int(5)), Inviter: r.Text(6), Remote: r.Int(7) != 0,
		Expires: MillisTime(r.Int(8)), NotifyAt: MillisTime(r.Int(9)),
	}
}

const putWelcome = `INSERT INTO welcomes (kp_ref, grp, user_jid, device, epoch, seq, inviter, remote, expires, notify_at, gid, secrets)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (kp_ref, grp) DO UPDATE
	SET user_jid = excluded.user_jid, device = excluded.device, epoch = excluded.epoch, seq = excluded.seq,
		inviter = excluded.inviter, remote = excluded.remote, expires = excluded.expires,
		notify_at = excluded.notify_at, gid = excluded.gid, secrets = excluded.secrets`

// splitWelcome stores a commit's Welcome: the shared part once, and to each
// joiner its own secrets.
func (t *Tx) splitWelcome(c *store.Commit, jid string, seq, epoch int64) error {
	if len(c.Welcomes) == 0 {
		return nil
	}
	expires := Millis(c.WelcomeExpiry)
	if err := t.queue(`INSERT INTO welcome_infos (gid, seq, expires, info) VALUES ($1, $2, $3, $4)`,
		int64(c.Group), seq, expires, c.WelcomeInfo); err != nil {
		return err
	}
	for i := range c.Welcomes {
		w := &c.Welcomes[i]
		if err := t.queue(putWelcome, w.KPRef, jid, w.User, w.Device, epoch, seq, w.Inviter, int64(0), expires,
			Millis(w.NotifyAt), int64(c.Group), w.Secrets); err != nil {
			return err
		}
	}
	return nil
}

// PutWelcome implements store.Tx.
func (t *Tx) PutWelcome(w *store.Welcome) error {
	gid := int64(0)
	if !w.Remote {
		g, err := t.Group(w.Group)
		if err != nil {
			return err
		}
		gid = int64(g.Key)
		if err := t.queue(`INSERT INTO welcome_infos (gid, seq, expires, info) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
			gid, i64(w.Seq), Millis(w.Expires), w.Info); err != nil {
			return err
		}
	}
	return t.queue(putWelcome, w.KPRef, w.Group, w.User, w.Device, i64(w.Epoch), i64(w.Seq), w.Inviter, b64(w.Remote),
		Millis(w.Expires), Millis(w.NotifyAt), gid, w.Secrets)
}

func (t *Tx) welcomes(where string, args ...any) ([]store.Welcome, error) {
	var ws []store.Welcome
	err := t.query(`SELECT `+welcomeColumns+` FROM welcomes w `+where, func(r Row) error {
		ws = append(ws, scanWelcome(r))
		return nil
	}, args...)
	return ws, err
}

// Welcomes implements store.Reader.
func (t *Tx) Welcomes(user, device string, n int) ([]store.Welcome, error) {
	return t.welcomes(`WHERE w.user_jid = $1 AND w.device = $2 ORDER BY w.id LIMIT $3`, user, device, limit(n, 100))
}

// TakeWelcomes implements store.Tx.
func (t *Tx) TakeWelcomes(now time.Time, n int, next func(*store.Welcome) time.Time) ([]store.Welcome, error) {
	ws, err := t.welcomes(`WHERE w.notify_at > 0 AND (w.notify_at <= $1 OR w.notify_at > $2) ORDER BY w.notify_at, w.id LIMIT $3 FOR UPDATE SKIP LOCKED`,
		Millis(now), Millis(now.Add(tooFar)), limit(n, 100))
	if err != nil {
		return nil, err
	}
	for i := range ws {
		w := &ws[i]
		w.NotifyAt = MillisTime(Millis(next(w)))
		if err := t.queue(`UPDATE welcomes SET notify_at = $3 WHERE kp_ref = $1 AND grp = $2`, w.KPRef, w.Group, Millis(w.NotifyAt)); err != nil {
			return nil, err
		}
	}
	return ws, nil
}

// Welcome implements store.Reader.
func (t *Tx) Welcome(kpRef []byte, group string) (*store.Welcome, error) {
	var w store.Welcome
	ok, err := t.one(`SELECT `+welcomeColumns+`, w.secrets, i.info FROM welcomes w
		LEFT JOIN welcome_infos i ON i.gid = w.gid AND i.seq = w.seq
		WHERE w.kp_ref = $1 AND w.grp = $2`, func(r Row) {
		w = scanWelcome(r)
		if w.Remote {
			w.Secrets = r.Bytes(10) // whole, if its service sent it along
			return
		}
		w.Secrets, w.Info = nonNil(r.Bytes(10)), nonNil(r.Bytes(11))
	}, kpRef, group)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, notFound("welcome to %q", group)
	}
	return &w, nil
}

// DeleteWelcome implements store.Tx.
func (t *Tx) DeleteWelcome(kpRef []byte, group, user string) error {
	n, err := t.exec(`DELETE FROM welcomes WHERE kp_ref = $1 AND grp = $2 AND user_jid = $3`, kpRef, group, user)
	if err == nil && n == 0 {
		return notFound("welcome to %q", group)
	}
	return err
}

// NotifyWelcome implements store.Tx.
func (t *Tx) NotifyWelcome(kpRef []byte, group string, at time.Time) error {
	n, err := t.exec(`UPDATE welcomes SET notify_at = $3 WHERE kp_ref = $1 AND grp = $2`, kpRef, group, Millis(at))
	if err == nil && n == 0 {
		return notFound("welcome to %q", group)
	}
	return err
}
