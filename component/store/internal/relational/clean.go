// SPDX-License-Identifier: Apache-2.0

package relational

import (
	"context"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
)

const (
	cleanStep   = 500  // rows that one transaction removes
	cleanGroups = 2000 // groups whose logs one Clean looks at
)

// A Cleaner implements store.Store's Clean. It goes round the groups, so that
// one call's work does not grow with their number.
type Cleaner struct {
	mu     sync.Mutex
	cursor int64 // the group whose log was looked at last
	begun  begun // the row of epochs that was looked at last
}

// Clean removes what p allows, step by step.
func (c *Cleaner) Clean(ctx context.Context, db DB, p store.CleanPolicy) (store.Cleaned, error) {
	if p.Now.IsZero() {
		p.Now = time.Now()
	}
	orDefault(&p.LogAge, 30*24*time.Hour)
	orDefault(&p.LogMinAge, time.Hour)
	orDefault(&p.SnapshotAge, 10*time.Minute)
	var n store.Cleaned
	now := Millis(p.Now)
	steps := []struct {
		count *int64
		arg   int64
		sql   string
	}{
		{&n.KeyPackages, now, `DELETE FROM key_packages WHERE id IN (SELECT id FROM key_packages WHERE expires <= $1 LIMIT 500)`},
		{&n.Claims, now, `DELETE FROM claims WHERE (ref, grp) IN (SELECT ref, grp FROM claims WHERE expires <= $1 LIMIT 500)`},
		{&n.Claims, now - store.ClaimMemory.Milliseconds(), `DELETE FROM claim_replies WHERE (requester, claim_id, user_jid, device) IN
			(SELECT requester, claim_id, user_jid, device FROM claim_replies WHERE at < $1 LIMIT 500)`},
		{&n.Welcomes, now, `DELETE FROM welcomes WHERE id IN (SELECT id FROM welcomes WHERE expires <= $1 LIMIT 500)`},
		{new(int64), now, `DELETE FROM welcome_infos WHERE (gid, seq) IN (SELECT i.gid, i.seq FROM welcome_infos i WHERE i.expires <= $1 LIMIT 500)`},
		{&n.Uploads, now, `DELETE FROM upload_chunks WHERE (owner, id, part, pos) IN (SELECT c.owner, c.id, c.part, c.pos FROM uploads u
			JOIN upload_chunks c ON c.owner = u.owner AND c.id = u.id AND c.part = u.part WHERE u.expires <= $1 LIMIT 500)`},
		{&n.Uploads, now, `DELETE FROM uploads WHERE expires <= $1`},
		{&n.Names, now, `DELETE FROM tombstones WHERE until <= $1`},
		{&n.Names, now, `DELETE FROM reservations WHERE until <= $1`},
	}
	for _, s := range steps {
		if err := repeat(ctx, db, s.count, func(t *Tx) (int64, error) { return t.exec(s.sql, s.arg) }); err != nil {
			return n, err
		}
	}
	if err := cleanDoomed(ctx, db, &n); err != nil {
		return n, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.cleanSnapshots(ctx, db, Millis(p.Now.Add(-p.SnapshotAge)), &n); err != nil {
		return n, err
	}
	return n, c.cleanLogs(ctx, db, p, &n)
}

func orDefault(d *time.Duration, def time.Duration) {
	if *d == 0 {
		*d = def
	}
}

// repeat runs a step in transactions of its own until one changes less than a
// full step.
func repeat(ctx context.Context, db DB, count *int64, step func(*Tx) (int64, error)) error {
	for {
		var n int64
		err := db.Update(ctx, func(tx store.Tx) (err error) {
			n, err = step(tx.(*Tx))
			return err
		})
		if err != nil {
			return err
		}
		*count += n
		if n < cleanStep {
			return nil
		}
	}
}

// cleanDoomed wipes the logs and trees of destroyed groups.
func cleanDoomed(ctx context.Context, db DB, n *store.Cleaned) error {
	var gids []int64
	err := db.View(ctx, func(r store.Reader) error {
		gids = gids[:0]
		return r.(*Tx).query(`SELECT gid FROM doomed LIMIT 100`, func(r Row) error {
			gids = append(gids, r.Int(0))
			return nil
		})
	})
	if err != nil {
		return err
	}
	for _, gid := range gids {
		for more := true; more; {
			var wiped int64
			if err := db.Update(ctx, func(tx store.Tx) (err error) {
				t := tx.(*Tx)
				wiped, more, err = t.log.wipe(t, gid)
				return err
			}); err != nil {
				return err
			}
			n.Entries += wiped
		}
		if err := repeat(ctx, db, &n.Nodes, func(t *Tx) (int64, error) {
			return t.exec(`DELETE FROM nodes WHERE gid = $1 AND idx IN (SELECT idx FROM nodes WHERE gid = $1 LIMIT 500)`, gid)
		}); err != nil {
			return err
		}
		if err := repeat(ctx, db, new(int64), func(t *Tx) (int64, error) {
			return t.exec(`DELETE FROM doomed WHERE gid = $1`, gid)
		}); err != nil {
			return err
		}
	}
	return nil
}

// begun is a row of epochs: an epoch that began, where its predecessor ended.
type begun struct{ row, gid, epoch, at int64 }

// cleanSnapshots forgets epochs that ended before the given time. Epochs are in
// the order in which they began, and where one began its predecessor ended. Rows
// of groups that are idle stay where they are: the Cleaner goes past them once.
// A row that another process commits behind its back is one that began just
// now, and nothing is passed that began after the given time.
func (c *Cleaner) cleanSnapshots(ctx context.Context, db DB, before int64, n *store.Cleaned) error {
	for {
		var rows []begun
		last, count := c.begun, 0
		err := db.View(ctx, func(r store.Reader) error {
			t := r.(*Tx)
			rows, last, count = rows[:0], c.begun, 0
			// SQLite gives the number of a last row that was deleted to the next one.
			there, err := t.one(`SELECT 1 FROM epochs WHERE row = $1 AND gid = $2 AND epoch = $3 AND began = $4`,
				func(Row) {}, last.row, last.gid, last.epoch, last.at)
			if err != nil {
				return err
			}
			if !there {
				last = begun{}
			}
			return t.query(`SELECT row, gid, epoch, began,
					(SELECT COUNT(*) FROM epochs p WHERE p.gid = e.gid AND p.epoch = e.epoch - 1 AND p.gone = 0)
				FROM epochs e WHERE row > $1 ORDER BY row LIMIT $2`, func(r Row) error {
				if r.Int(3) >= before {
					return errStop
				}
				last, count = begun{r.Int(0), r.Int(1), r.Int(2), r.Int(3)}, count+1
				if r.Int(4) > 0 {
					rows = append(rows, last)
				}
				return nil
			}, last.row, int64(cleanStep))
		})
		if err != nil {
			return err
		}
		for len(rows) > 0 {
			some := rows[:min(len(rows), 50)]
			rows = rows[len(some):]
			var epochs, nodes int64
			err = db.Update(ctx, func(tx store.Tx) error {
				t := tx.(*Tx)
				epochs, nodes = 0, 0
				last := make(map[int64]int64) // group: its last epoch to forget
				var gids []int64
				for _, o := range some {
					there, err := t.one(`SELECT 1 FROM epochs WHERE gid = $1 AND epoch = $2 AND began = $3`, func(Row) {}, o.gid, o.epoch, o.at)
					if err != nil {
						return err
					}
					if !there {
						continue // the group is another now, or not there any more
					}
					if _, ok := last[o.gid]; !ok {
						gids = append(gids, o.gid)
					}
					last[o.gid] = max(last[o.gid], o.epoch-1)
				}
				slices.Sort(gids) // all lock in one order
				for _, gid := range gids {
					e, k, err := t.fold(gid, last[gid])
					if err != nil {
						return err
					}
					epochs, nodes = epochs+e, nodes+k
				}
				return nil
			})
			if err != nil {
				return err
			}
			n.Snapshots, n.Nodes = n.Snapshots+epochs, n.Nodes+nodes
		}
		if c.begun = last; count < cleanStep {
			return nil
		}
	}
}

// cleanLogs truncates logs, of the next groups in turn.
func (c *Cleaner) cleanLogs(ctx context.Context, db DB, p store.CleanPolicy, n *store.Cleaned) error {
	for seen := 0; seen < cleanGroups; seen += 200 {
		type cut struct{ gid, first, to int64 }
		var cuts []cut
		count, last := 0, c.cursor
		err := db.View(ctx, func(r store.Reader) error {
			t := r.(*Tx)
			cuts, count, last = cuts[:0], 0, c.cursor
			type candidate struct {
				store.Group
				acked int64
			}
			var gs []candidate
			if err := t.query(`SELECT `+groupColumns+`,
					COALESCE((SELECT MIN(acked) FROM members WHERE members.gid = groups.id AND removed = 0), 0)
				FROM groups WHERE id > $1 ORDER BY id LIMIT 200`, func(r Row) error {
				gs = append(gs, candidate{scanGroup(r), r.Int(13)})
				return nil
			}, c.cursor); err != nil {
				return err
			}
			oldest := make(map[int64]int64, len(gs))
			if err := t.log.oldest(t, c.cursor, 200, func(gid, stamp int64) { oldest[gid] = stamp }); err != nil {
				return err
			}
			for i := range gs {
				g := &gs[i]
				count, last = count+1, int64(g.Key)
				to, err := t.cutLog(&g.Group, oldest[int64(g.Key)], g.acked, p)
				if err != nil {
					return err
				}
				if to >= int64(g.First) {
					cuts = append(cuts, cut{int64(g.Key), int64(g.First), to})
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, k := range cuts {
			if err := truncate(ctx, db, k.gid, k.first, k.to, n); err != nil {
				return err
			}
		}
		if c.cursor = last; count < 200 {
			c.cursor = 0
			return nil
		}
	}
	return nil
}

// cutLog returns the seq up to which a group's log may go, given the stamp of
// its first entry and the seq that all devices in the tree have acked.
func (t *Tx) cutLog(g *store.Group, oldest, acked int64, p store.CleanPolicy) (int64, error) {
	age := p.LogAge
	if g.Retention > 0 {
		age = g.Retention
	}
	ageEnd, minAgeEnd := Millis(p.Now.Add(-age)), Millis(p.Now.Add(-p.LogMinAge))
	if g.First > g.Head || oldest >= ageEnd && (oldest >= minAgeEnd || acked < int64(g.First)) {
		return 0, nil // most groups, most of the time
	}
	old, err := t.before(g, ageEnd)
	if err != nil {
		return 0, err
	}
	settled, err := t.before(g, minAgeEnd)
	if err != nil {
		return 0, err
	}
	to := min(max(old, min(settled, acked)), int64(g.Head))
	if g.Pending > 0 {
		_, err = t.one(`SELECT MIN(seq) FROM log WHERE gid = $1 AND kind = 2 AND epoch = $2
			AND seq > (SELECT base FROM groups WHERE groups.id = $1)`, func(r Row) {
			if first := r.Int(0); first > 0 {
				to = min(to, first-1)
			}
		}, int64(g.Key), int64(g.Epoch))
	}
	return to, err
}

// before returns the last seq whose stamp is before the given time, or First-1.
// Stamps grow with seq but for what clocks do, and seq has no gaps.
func (t *Tx) before(g *store.Group, ms int64) (int64, error) {
	var err error
	first := int64(g.First)
	n := sort.Search(int(int64(g.Head)-first+1), func(i int) bool {
		stamp := int64(0)
		at := first + int64(i)
		if e := t.log.span(t, `l.stamp`, int64(g.Key), at, at, 1, func(r Row) error {
			stamp = r.Int(0)
			return nil
		}); e != nil {
			err = e
		}
		return stamp >= ms
	})
	return first + int64(n) - 1, err
}

func truncate(ctx context.Context, db DB, gid, first, to int64, n *store.Cleaned) error {
	for first <= to {
		end := min(first+cleanStep-1, to)
		var gone int64
		err := db.Update(ctx, func(tx store.Tx) error {
			t := tx.(*Tx)
			t.log.changed(gid)
			moved, err := t.exec(`UPDATE groups SET first = $3 WHERE id = $1 AND first = $2`, gid, first, end+1)
			if err != nil || moved == 0 { // another process did it, or the group is gone
				gone = -1
				return err
			}
			// What a forgotten epoch has left goes with its commit.
			ended := int64(-1)
			if err := t.log.span(t, `l.kind, l.epoch`, gid, first, end, cleanStep, func(r Row) error {
				if store.Kind(r.Int(0)) == store.KindCommit {
					ended = max(ended, r.Int(1))
				}
				return nil
			}); err != nil {
				return err
			}
			if ended >= 0 {
				if err := t.queue(`DELETE FROM epochs WHERE gid = $1 AND epoch <= $2 AND seq <= $3 AND gone = 1`, gid, ended+1, end); err != nil {
					return err
				}
			}
			gone, err = t.log.cut(t, gid, first, end)
			return err
		})
		if err != nil {
			return err
		}
		if gone < 0 {
			return nil
		}
		n.Entries += gone
		first = end + 1
	}
	return nil
}

// CountStats fills in what queries can tell.
func CountStats(r store.Reader, s *store.Stats) error {
	t := r.(*Tx)
	for _, c := range []struct {
		n   *int64
		sql string
	}{
		{&s.Groups, `SELECT COUNT(*) FROM groups`},
		{&s.Members, `SELECT COUNT(*) FROM members WHERE removed = 0`},
		{&s.Entries, `SELECT CAST(COALESCE(SUM(head - first + 1), 0) AS BIGINT) FROM groups`},
		{&s.Nodes, `SELECT COUNT(*) FROM nodes`},
		{&s.Devices, `SELECT COUNT(*) FROM devices`},
		{&s.KeyPackages, `SELECT COUNT(*) FROM key_packages`},
		{&s.Welcomes, `SELECT COUNT(*) FROM welcomes`},
		{&s.Sessions, `SELECT COUNT(*) FROM sessions`},
		{&s.Nudges, `SELECT COUNT(*) FROM nudges`},
		{&s.Uploads, `SELECT COUNT(*) FROM uploads`},
		{&s.Reports, `SELECT COUNT(*) FROM reports`},
	} {
		if _, err := t.one(c.sql, func(r Row) { *c.n = r.Int(0) }); err != nil {
			return err
		}
	}
	return nil
}
