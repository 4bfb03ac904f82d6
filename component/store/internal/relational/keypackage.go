// SPDX-License-Identifier: Apache-2.0

package relational

import (
	"slices"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
)

// TouchDevice implements store.Tx.
func (t *Tx) TouchDevice(user, device string, at time.Time) error {
	return t.queue(`INSERT INTO devices (user_jid, device, seen) VALUES ($1, $2, $3) ON CONFLICT (user_jid, device) DO UPDATE
		SET seen = CASE WHEN devices.seen < excluded.seen THEN excluded.seen ELSE devices.seen END`, user, device, Millis(at))
}

const deviceColumns = `SELECT d.user_jid, d.device, d.seen,
		(SELECT COUNT(*) FROM key_packages k WHERE k.user_jid = d.user_jid AND k.device = d.device AND k.last_resort = 0 AND k.expires > $2),
		(SELECT COUNT(*) FROM key_packages k WHERE k.user_jid = d.user_jid AND k.device = d.device AND k.last_resort = 1 AND k.expires > $2),
		COALESCE((SELECT MAX(k.expires) FROM key_packages k WHERE k.user_jid = d.user_jid AND k.device = d.device AND k.expires > $2), 0)
	FROM devices d WHERE d.user_jid = $1`

func scanDevice(r Row) store.Device {
	return store.Device{
		User: r.Text(0), Device: r.Text(1), Seen: MillisTime(r.Int(2)),
		Available: int(r.Int(3)), LastResort: r.Int(4) > 0, Expires: MillisTime(r.Int(5)),
	}
}

// Devices implements store.Reader.
func (t *Tx) Devices(user string, now time.Time) ([]store.Device, error) {
	var ds []store.Device
	err := t.query(deviceColumns+` ORDER BY d.device`, func(r Row) error {
		ds = append(ds, scanDevice(r))
		return nil
	}, user, Millis(now))
	return ds, err
}

// PutKeyPackages implements store.Tx.
func (t *Tx) PutKeyPackages(user, device string, kps []store.KeyPackage, most int, now time.Time) (store.Device, error) {
	// This also locks the device, so that two publications are counted one
	// after the other.
	if err := t.TouchDevice(user, device, now); err != nil {
		return store.Device{}, err
	}
	for i := range kps {
		k := &kps[i]
		if k.LastResort {
			if err := t.queue(`DELETE FROM key_packages WHERE user_jid = $1 AND device = $2 AND suite = $3 AND last_resort = 1 AND ref <> $4`,
				user, device, int64(k.Suite), k.Ref); err != nil {
				return store.Device{}, err
			}
		}
		if err := t.queue(`INSERT INTO key_packages (user_jid, device, suite, last_resort, expires, ref, caps, bytes)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (ref) DO NOTHING`,
			user, device, int64(k.Suite), b64(k.LastResort), Millis(k.Expires), k.Ref, k.Caps, k.Bytes); err != nil {
			return store.Device{}, err
		}
	}
	// What was given out once does not come back when it is published again.
	if err := t.queue(`DELETE FROM key_packages WHERE user_jid = $1 AND device = $2 AND last_resort = 0
		AND EXISTS (SELECT 1 FROM claims c WHERE c.ref = key_packages.ref)`, user, device); err != nil {
		return store.Device{}, err
	}
	var d store.Device
	if _, err := t.one(deviceColumns+` AND d.device = $3`, func(r Row) { d = scanDevice(r) }, user, Millis(now), device); err != nil {
		return d, err
	}
	if d.Available > most {
		return d, t.doom(store.ErrQuota)
	}
	return d, nil
}

// DeleteKeyPackages implements store.Tx.
func (t *Tx) DeleteKeyPackages(user, device string) error {
	if err := t.queue(`DELETE FROM key_packages WHERE user_jid = $1 AND device = $2`, user, device); err != nil {
		return err
	}
	return t.queue(`DELETE FROM devices WHERE user_jid = $1 AND device = $2`, user, device)
}

// DeleteKeyPackage implements store.Tx.
func (t *Tx) DeleteKeyPackage(user, device string, refs [][]byte) error {
	for _, ref := range refs {
		if err := t.queue(`DELETE FROM key_packages WHERE user_jid = $1 AND device = $2 AND ref = $3`, user, device, ref); err != nil {
			return err
		}
	}
	return nil
}

// ClaimKeyPackages implements store.Tx.
func (t *Tx) ClaimKeyPackages(q *store.ClaimRequest) ([]store.ClaimedDevice, error) {
	now := Millis(q.Now)
	// A row for no device is the claim itself. A second process that gets the
	// same claim waits here for the first.
	n, err := t.exec(`INSERT INTO claim_replies (requester, claim_id, user_jid, device, status, last_resort, at, ref, bytes)
		VALUES ($1, $2, $3, '', 0, 0, $4, $5, $5) ON CONFLICT (requester, claim_id, user_jid, device) DO NOTHING`,
		q.Requester, q.ID, q.User, now, []byte(nil))
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return t.claimReply(q)
	}
	var devices []string
	if err := t.query(`SELECT device FROM devices WHERE user_jid = $1 AND device <> '' ORDER BY device`, func(r Row) error {
		if d := r.Text(0); len(q.Devices) == 0 || slices.Contains(q.Devices, d) {
			devices = append(devices, d)
		}
		return nil
	}, q.User); err != nil {
		return nil, err
	}
	var out []store.ClaimedDevice
	for _, d := range devices {
		c, err := t.claimDevice(q, d, now)
		if err != nil {
			return nil, err
		}
		if err := t.queue(`INSERT INTO claim_replies (requester, claim_id, user_jid, device, status, last_resort, at, ref, bytes)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			q.Requester, q.ID, q.User, d, int64(c.Status), b64(c.LastResort), now, c.Ref, c.Bytes); err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

func (t *Tx) claimReply(q *store.ClaimRequest) ([]store.ClaimedDevice, error) {
	var out []store.ClaimedDevice
	err := t.query(`SELECT device, status, last_resort, ref, bytes FROM claim_replies
		WHERE requester = $1 AND claim_id = $2 AND user_jid = $3 AND device <> '' ORDER BY device`, func(r Row) error {
		c := store.ClaimedDevice{
			Device: r.Text(0), Status: store.ClaimStatus(r.Int(1)), LastResort: r.Int(2) != 0, Repeated: true,
		}
		if c.Status == store.ClaimOK {
			c.Ref, c.Bytes = r.Bytes(3), r.Bytes(4)
		}
		out = append(out, c)
		return nil
	}, q.Requester, q.ID, q.User)
	return out, err
}

// candidate is a key package that a claim may take.
type candidate struct {
	id, expires int64
	ref, bytes  []byte
}

// pick finds a package that matches, if n packages are looked at.
func (t *Tx) pick(query string, n int64, q *store.ClaimRequest, device string, now int64) (found *candidate, seen int64, err error) {
	err = t.query(query, func(r Row) error {
		seen++
		if found == nil && (q.Match == nil || q.Match(nonNil(r.Bytes(3)))) {
			found = &candidate{id: r.Int(0), expires: r.Int(1), ref: nonNil(r.Bytes(2)), bytes: nonNil(r.Bytes(4))}
		}
		return nil
	}, q.User, device, int64(q.Suite), now, n)
	return found, seen, err
}

// pickOneTime takes the package that expires first, so that the fewest go to
// waste. Packages that do not match are rare (they come from one client, which
// changed): looking at one locks no more than it takes, and at 16 is enough.
func (t *Tx) pickOneTime(q *store.ClaimRequest, device string, now int64) (*candidate, error) {
	k, seen, err := t.pick(oneTime, 1, q, device, now)
	if err == nil && k == nil && seen > 0 {
		k, _, err = t.pick(oneTime, 16, q, device, now)
	}
	return k, err
}

const (
	oneTime = `SELECT id, expires, ref, caps, bytes FROM key_packages
		WHERE user_jid = $1 AND device = $2 AND suite = $3 AND last_resort = 0 AND expires > $4
		ORDER BY expires, id LIMIT $5 FOR UPDATE SKIP LOCKED`
	lastResort = `SELECT id, expires, ref, caps, bytes FROM key_packages
		WHERE user_jid = $1 AND device = $2 AND suite = $3 AND last_resort = 1 AND expires > $4
		ORDER BY expires DESC, id LIMIT $5`
)

func (t *Tx) claimDevice(q *store.ClaimRequest, device string, now int64) (store.ClaimedDevice, error) {
	c := store.ClaimedDevice{Device: device}
	k, err := t.pickOneTime(q, device, now)
	if err != nil {
		return c, err
	}
	if k == nil {
		if k, _, err = t.pick(lastResort, 1, q, device, now); err != nil {
			return c, err
		}
		c.LastResort = k != nil
	}
	if k == nil {
		// Before answering that nothing is left, wait for those who hold the
		// last packages: their transactions may yet fail.
		if err := t.query(`SELECT seen FROM devices WHERE user_jid = $1 AND device = $2 FOR UPDATE`, func(Row) error { return nil },
			q.User, device); err != nil {
			return c, err
		}
		if k, err = t.pickOneTime(q, device, now); err != nil {
			return c, err
		}
	}
	if k == nil {
		return t.nothing(q, device, now)
	}
	c.Status, c.Ref, c.Bytes = store.ClaimOK, k.ref, k.bytes
	if !c.LastResort {
		if err := t.queue(`DELETE FROM key_packages WHERE id = $1`, k.id); err != nil {
			return c, err
		}
	}
	if err := t.queue(`INSERT INTO claims (ref, grp, user_jid, device, requester, at, expires) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (ref, grp) DO UPDATE SET requester = excluded.requester, at = excluded.at`,
		k.ref, q.Group, q.User, device, q.Requester, now, k.expires); err != nil {
		return c, err
	}
	_, err = t.one(`SELECT COUNT(*) FROM key_packages WHERE user_jid = $1 AND device = $2 AND suite = $3 AND last_resort = 0 AND expires > $4`,
		func(r Row) { c.Left = int(r.Int(0)) }, q.User, device, int64(q.Suite), now)
	return c, err
}

// nothing says why no package of a device could be given.
func (t *Tx) nothing(q *store.ClaimRequest, device string, now int64) (store.ClaimedDevice, error) {
	c := store.ClaimedDevice{Device: device, Status: store.ClaimExhausted}
	any, err := t.one(`SELECT id FROM key_packages WHERE user_jid = $1 AND device = $2 AND expires > $3 LIMIT 1`, func(Row) {}, q.User, device, now)
	if any {
		c.Status = store.ClaimIncompatible
	}
	return c, err
}

// KeyPackageOwners implements store.Reader.
func (t *Tx) KeyPackageOwners(f func(user string, n int64)) error {
	return t.query(`SELECT user_jid, COUNT(*) FROM key_packages GROUP BY user_jid`, func(r Row) error {
		f(r.Text(0), r.Int(1))
		return nil
	})
}

// Claimed implements store.Reader.
func (t *Tx) Claimed(kpRef []byte, group string) (store.Claim, error) {
	var c store.Claim
	ok, err := t.one(`SELECT ref, user_jid, device, grp, requester, at, expires FROM claims WHERE ref = $1 AND grp = $2`, func(r Row) {
		c = store.Claim{
			Ref: nonNil(r.Bytes(0)), User: r.Text(1), Device: r.Text(2), Group: r.Text(3), Requester: r.Text(4),
			At: MillisTime(r.Int(5)), Expires: MillisTime(r.Int(6)),
		}
	}, kpRef, group)
	if err == nil && !ok {
		err = notFound("claim for %q", group)
	}
	return c, err
}
