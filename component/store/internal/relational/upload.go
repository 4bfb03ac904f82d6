// SPDX-License-Identifier: Apache-2.0

package relational

import (
	"fmt"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
)

// Stage implements store.Tx.
func (t *Tx) Stage(c *store.UploadChunk, quota int64) (int64, error) {
	size := int64(len(c.Bytes))
	if c.Offset < 0 || c.Total < 0 || c.Offset > c.Total || size > c.Total-c.Offset {
		return 0, fmt.Errorf("%w: %d bytes at offset %d of %d", store.ErrChecksum, size, c.Offset, c.Total)
	}
	now := Millis(c.Now)
	if _, err := t.exec(`DELETE FROM upload_chunks WHERE owner = $1 AND id = $2 AND part = $3 AND EXISTS (SELECT 1 FROM uploads u
			WHERE u.owner = $1 AND u.id = $2 AND u.part = $3 AND u.expires <= $4)`, c.Owner, c.ID, c.Part, now); err != nil {
		return 0, err
	}
	if _, err := t.exec(`DELETE FROM uploads WHERE owner = $1 AND id = $2 AND part = $3 AND expires <= $4`,
		c.Owner, c.ID, c.Part, now); err != nil {
		return 0, err
	}
	begun, err := t.exec(`INSERT INTO uploads (owner, id, part, total, have, expires, sum) VALUES ($1, $2, $3, $4, 0, $5, $6)
		ON CONFLICT (owner, id, part) DO NOTHING`, c.Owner, c.ID, c.Part, c.Total, Millis(c.Expires), c.Sum[:])
	if err != nil {
		return 0, err
	}
	if begun > 0 {
		used := int64(0)
		if _, err := t.one(`SELECT CAST(COALESCE(SUM(total), 0) AS BIGINT) FROM uploads WHERE owner = $1 AND expires > $2`,
			func(r Row) { used = r.Int(0) }, c.Owner, now); err != nil {
			return 0, err
		}
		if used > quota {
			return 0, t.doom(store.ErrQuota)
		}
	}
	var total, have int64
	var sum store.Ref
	if _, err := t.one(`SELECT total, have, sum FROM uploads WHERE owner = $1 AND id = $2 AND part = $3 FOR UPDATE`, func(r Row) {
		total, have = r.Int(0), r.Int(1)
		copy(sum[:], r.Bytes(2))
	}, c.Owner, c.ID, c.Part); err != nil {
		return 0, err
	}
	switch {
	case total != c.Total || sum != c.Sum:
		return have, &store.ExistsError{What: store.ExistsUpload, Name: c.ID}
	case c.Offset+size <= have:
		return have, nil
	case c.Offset != have:
		return have, &store.OffsetError{Have: have}
	}
	if err := t.queue(`INSERT INTO upload_chunks (owner, id, part, pos, bytes) VALUES ($1, $2, $3, $4, $5)`,
		c.Owner, c.ID, c.Part, have, c.Bytes); err != nil {
		return 0, err
	}
	have += size
	return have, t.queue(`UPDATE uploads SET have = $4, expires = CASE WHEN expires < $5 THEN $5 ELSE expires END
		WHERE owner = $1 AND id = $2 AND part = $3`, c.Owner, c.ID, c.Part, have, Millis(c.Expires))
}

// UploadProgress implements store.Reader.
func (t *Tx) UploadProgress(owner, id string, now time.Time) (store.UploadProgress, error) {
	var p store.UploadProgress
	ok, err := t.one(`SELECT part, have, total, expires FROM uploads WHERE owner = $1 AND id = $2 AND expires > $3 ORDER BY part LIMIT 1`, func(r Row) {
		p = store.UploadProgress{Part: r.Text(0), Have: r.Int(1), Total: r.Int(2), Expires: MillisTime(r.Int(3))}
	}, owner, id, Millis(now))
	if err == nil && !ok {
		err = notFound("upload %q", id)
	}
	return p, err
}

// Upload implements store.Reader.
func (t *Tx) Upload(owner, id, part string, now time.Time) ([]byte, error) {
	var total, have int64
	var sum store.Ref
	ok, err := t.one(`SELECT total, have, sum FROM uploads WHERE owner = $1 AND id = $2 AND part = $3 AND expires > $4`, func(r Row) {
		total, have = r.Int(0), r.Int(1)
		copy(sum[:], r.Bytes(2))
	}, owner, id, part, Millis(now))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, notFound("upload %q", id)
	}
	if have < total {
		return nil, notFound("upload %q: %d of %d bytes are there", id, have, total)
	}
	b := make([]byte, 0, total)
	if err := t.query(`SELECT bytes FROM upload_chunks WHERE owner = $1 AND id = $2 AND part = $3 ORDER BY pos`, func(r Row) error {
		b = append(b, r.Bytes(0)...)
		return nil
	}, owner, id, part); err != nil {
		return nil, err
	}
	if int64(len(b)) != total || store.RefOf(b) != sum {
		return nil, store.ErrChecksum
	}
	return b, nil
}

// DeleteUpload implements store.Tx.
func (t *Tx) DeleteUpload(owner, id string) error {
	if err := t.queue(`DELETE FROM uploads WHERE owner = $1 AND id = $2`, owner, id); err != nil {
		return err
	}
	return t.queue(`DELETE FROM upload_chunks WHERE owner = $1 AND id = $2`, owner, id)
}
