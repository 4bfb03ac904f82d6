// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
)

var errNay = errors.New("nay")

// testLogModel appends to several groups in turns, cuts their logs, ends groups
// and makes new ones, and compares what is found by seq, by ref and by epoch
// with lists of what was written.
func testLogModel(t *testing.T, w *world) {
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	type group struct {
		jid string
		key store.GroupKey
		log []store.Entry // from First on
	}
	now, names := noon, 0
	create := func() *group {
		names++
		n := newGroup(fmt.Sprintf("g%d@mls.example", names))
		n.Now = now
		return &group{jid: n.JID, key: w.create(n).Key}
	}
	groups := []*group{create(), create(), create()}
	write := func(tx store.Tx, m *group, n int) error {
		for range n {
			now = now.Add(time.Duration(rnd.IntN(60)) * time.Second)
			names++
			text := fmt.Sprint("entry ", names)
			g, err := tx.GroupByKey(m.key)
			if err != nil {
				return err
			}
			var a store.Accepted
			e := message(g, text)
			if e.Stamp = now; rnd.IntN(10) == 0 {
				e.Kind = store.KindCommit
				c := commit(g, text)
				c.Stamp = now
				a, err = tx.AcceptCommit(c)
			} else {
				if rnd.IntN(20) == 0 {
					e.Kind = store.KindControl
				}
				a, err = tx.Append(e)
			}
			if err != nil || a.Duplicate || a.Seq != g.Head+1 {
				return errors.Join(err, fmt.Errorf("%+v after %d", a, g.Head))
			}
			m.log = append(m.log, store.Entry{
				Seq: a.Seq, Epoch: e.Epoch, Kind: e.Kind, Ref: e.Ref, ID: e.ID, Sender: e.Sender, Device: e.Device,
				Stamp: e.Stamp, Chain: a.Chain, Bytes: e.Bytes,
			})
		}
		return nil
	}
	for range 150 {
		i := rnd.IntN(len(groups))
		m := groups[i]
		switch rnd.IntN(15) {
		case 0: // an end, and another group, which may get the rows of the old one
			w.update(func(tx store.Tx) error {
				return tx.DestroyGroup(m.key, store.Tombstone{Until: now.Add(time.Hour)})
			})
			if _, err := w.s.Clean(w.ctx(), store.CleanPolicy{Now: now, LogAge: 1 << 62}); err != nil {
				t.Fatal(err)
			}
			groups[i] = create()
			continue
		case 1, 2: // the older part of all logs goes
			p := store.CleanPolicy{Now: now, LogAge: time.Duration(1 + rnd.Int64N(int64(2*time.Hour)))}
			p.LogMinAge = p.LogAge
			n, err := w.s.Clean(w.ctx(), p)
			if err != nil {
				t.Fatal(err)
			}
			gone := 0
			for _, m := range groups {
				for len(m.log) > 0 && m.log[0].Stamp.Before(p.Now.Add(-p.LogAge)) {
					e := &m.log[0]
					m.log, gone = m.log[1:], gone+1
					w.view(func(r store.Reader) error {
						if _, err := r.EntryByRef(m.key, e.Ref); !errors.Is(err, store.ErrNotFound) {
							t.Fatalf("entry %d of %s, which was cut: %v", e.Seq, m.jid, err)
						}
						return nil
					})
				}
			}
			if n.Entries != int64(gone) {
				t.Fatalf("%d entries were cut, want %d", n.Entries, gone)
			}
		case 3: // what is taken back leaves nothing behind
			before := slices.Clone(m.log)
			if err := w.s.Update(w.ctx(), func(tx store.Tx) error {
				return errors.Join(write(tx, m, 1+rnd.IntN(40)), errNay)
			}); !errors.Is(err, errNay) {
				t.Fatal(err)
			}
			m.log = before
		case 4: // the revision moves without an entry
			w.update(func(tx store.Tx) error {
				g, err := tx.GroupByKey(m.key)
				if err != nil {
					return err
				}
				if _, err = tx.UpdateGroup(m.key, g.Rev, store.GroupChange{Roles: []store.Affiliation{{User: romeo, Value: "member"}}}); err != nil {
					return err
				}
				if rnd.IntN(2) == 0 {
					_, err = tx.PurgeUser(romeo)
				}
				return errors.Join(err, write(tx, m, rnd.IntN(3)))
			})
		default:
			w.update(func(tx store.Tx) error { return write(tx, m, 1+rnd.IntN(20)) })
		}
		g := w.group(m.jid)
		w.same("first", g.First, g.Head+1-uint64(len(m.log)))
		if len(m.log) == 0 {
			continue
		}
		// By seq.
		from := rnd.IntN(len(m.log))
		n := 1 + rnd.IntN(50)
		want := m.log[from:min(from+n, len(m.log))]
		w.same("log", w.log(m.key, store.LogQuery{After: g.First + uint64(from) - 1, Limit: n}), want)
		// By ref, in this group and no other; and what comes again is answered as before.
		e := &m.log[rnd.IntN(len(m.log))]
		w.view(func(r store.Reader) error {
			got, err := r.EntryByRef(m.key, e.Ref)
			if err != nil {
				return err
			}
			w.same("entry by ref", *got, *e)
			if _, err := r.EntryByRef(groups[(i+1)%len(groups)].key, e.Ref); !errors.Is(err, store.ErrNotFound) {
				t.Fatalf("an entry of another group: %v", err)
			}
			return nil
		})
		again := message(g, string(e.Bytes))
		if a := w.append(again); !a.Duplicate || a.Seq != e.Seq || a.Chain != e.Chain {
			t.Fatalf("entry %d again: %+v", e.Seq, a)
		}
		w.same("head", w.group(m.jid).Head, g.Head)
		// By epoch.
		epoch := rnd.Uint64N(g.Epoch + 2)
		commits := slices.DeleteFunc(slices.Clone(m.log), func(e store.Entry) bool { return e.Kind != store.KindCommit || e.Epoch < epoch })
		w.view(func(r store.Reader) error {
			got, err := r.Commits(m.key, epoch, 1000, 0)
			if len(got)+len(commits) > 0 {
				w.same(fmt.Sprint("commits from ", epoch), got, commits)
			}
			return err
		})
	}
}
