// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
)

// WriteFixture fills an empty store with something of everything: the contents
// of the frozen databases that migrations are tested with.
func WriteFixture(t *testing.T, s store.Store) {
	w := &world{t, s}
	w.create(newGroup(balcony))
	w.say(balcony, "but soft")
	c := commit(w.group(balcony), "add romeo and mercutio")
	c.Joined = []store.Joiner{{User: romeo, Device: "r1", Leaf: 1}, {User: mercutio, Device: "m1", Leaf: 2}}
	c.Roles = []store.Affiliation{{User: romeo, Value: "member"}}
	c.Welcomes = []store.NewWelcome{{KPRef: []byte("ref a0"), User: romeo, Device: "r1", Inviter: juliet, Secrets: []byte("for romeo"), NotifyAt: noon}}
	c.WelcomeInfo, c.WelcomeExpiry = []byte("shared"), noon.Add(24*time.Hour)
	w.accept(c)
	c = commit(w.group(balcony), "remove mercutio")
	c.Left = []store.Leaver{{User: mercutio, Device: "m1"}}
	w.accept(c)
	p := message(w.group(balcony), "proposal")
	p.Kind = store.KindProposal
	w.append(p)

	w.publish(romeo, "r1", append(packages("a", 3), last("l"))...)
	w.claim(claim("1", romeo))
	old := w.create(newGroup("old@mls.example"))
	w.update(func(tx store.Tx) error {
		_, err := tx.ScheduleNudge(romeo, noon)
		_, err2 := tx.Stage(chunk([]byte("whole"), 0, 5), 10)
		_, err3 := tx.AddReport(&store.Report{Stamp: noon, Reporter: juliet, Group: balcony, Seq: 1, Reason: "spam", Text: "it's", Evidence: []byte{0, 39, 255}}, 0)
		return errors.Join(err, err2, err3,
			tx.SetSetting(juliet, "consent", []byte("roster")),
			tx.PutSession(store.Session{JID: juliet + "/x", User: juliet, Device: "j1", Since: noon}),
			tx.Reserve(orchard, juliet, noon, noon.Add(10*time.Minute)),
			tx.DestroyGroup(old.Key, store.Tombstone{NewJID: orchard, Reason: "moved", Until: noon.Add(time.Hour)}))
	})
}

// CheckForgotten checks that a store which holds what WriteFixture wrote, but of
// whose epochs only the last was kept, finds the commits that ended the others.
func CheckForgotten(t *testing.T, s store.Store) {
	w := &world{t, s}
	g := w.group(balcony)
	w.view(func(r store.Reader) error {
		cs, err := r.Commits(g.Key, 0, 0, 0)
		if len(cs) != 2 || cs[0].Epoch != 0 || cs[1].Epoch != 1 {
			t.Errorf("commits: %+v", cs)
		}
		if _, err := r.Snapshot(g.Key, 1); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("a forgotten epoch: %v", err)
		}
		_, err2 := r.Snapshot(g.Key, 2)
		return errors.Join(err, err2)
	})
	w.accept(commit(g, "and on"))
	if n := w.clean(noon.Add(time.Hour)); n.Snapshots != 1 {
		t.Errorf("cleaned %+v, want one snapshot", n)
	}
}

// CheckFixture checks that a store holds what WriteFixture wrote, and works.
func CheckFixture(t *testing.T, s store.Store) {
	w := &world{t, s}
	g := w.group(balcony)
	w.view(func(r store.Reader) error {
		es, err := CheckLog(r, g)
		if err != nil {
			return err
		}
		if len(es) != 4 || g.Epoch != 2 || g.Pending != 1 || es[3].Kind != store.KindProposal || string(es[0].Bytes) != "but soft" || es[0].Sender != juliet {
			t.Errorf("group %+v, log %+v", g, es)
		}
		nodes, err := r.Nodes(g.Key, 1)
		if err != nil {
			return err
		}
		w.same("nodes", nodes, []store.Node{{Index: 0, Data: []byte("leaf of juliet in 1")}, {Index: 1, Data: []byte("root in 1")}})
		cs, err := r.Commits(g.Key, 0, 0, 0)
		if err != nil || len(cs) != 2 || cs[0].Epoch != 0 || cs[1].Epoch != 1 {
			t.Errorf("commits: %+v, %v", cs, err)
		}
		m, err2 := r.Member(g.Key, mercutio, "m1")
		w.same("mercutio", m, store.Member{User: mercutio, Device: "m1", Leaf: 2, Joined: 2, Removed: 3, Acked: 2, Seen: noon})
		wel, err3 := r.Welcome([]byte("ref a0"), balcony)
		if err3 != nil || string(wel.Secrets) != "for romeo" || string(wel.Info) != "shared" || !wel.NotifyAt.Equal(noon) {
			t.Errorf("welcome: %+v", wel)
		}
		cl, err4 := r.Claimed([]byte("ref a0"), balcony)
		if err4 != nil || cl.Requester != juliet {
			t.Errorf("claim: %+v", cl)
		}
		ds, err5 := r.Devices(romeo, noon)
		w.same("devices", ds, []store.Device{{User: romeo, Device: "r1", Available: 2, LastResort: true, Expires: noon.Add(1000 * time.Hour), Seen: noon}})
		up, err6 := r.Upload(juliet, "u1", "welcome", noon)
		w.same("upload", up, []byte("whole"))
		rs, err7 := r.Reports(0, 0)
		if len(rs) != 1 || rs[0].Text != "it's" || string(rs[0].Evidence) != "\x00'\xff" {
			t.Errorf("reports: %+v", rs)
		}
		v, err8 := r.Setting(juliet, "consent")
		w.same("setting", v, []byte("roster"))
		ss, err9 := r.Sessions(juliet)
		w.same("sessions", ss, []store.Session{{JID: juliet + "/x", User: juliet, Device: "j1", Since: noon}})
		ts, err10 := r.Tombstone("old@mls.example")
		if ts.NewJID != orchard {
			t.Errorf("tombstone: %+v", ts)
		}
		return errors.Join(err, err2, err3, err4, err5, err6, err7, err8, err9, err10)
	})
	w.exists(store.ExistsReserved, func(tx store.Tx) error { return tx.Reserve(orchard, mallory, noon, noon.Add(time.Hour)) })
	if again := w.claim(claim("1", romeo)); len(again) != 1 || !again[0].Repeated || string(again[0].Ref) != "ref a0" {
		t.Errorf("claim again: %+v", again)
	}
	// It works on.
	w.accept(commit(g, "and on"))
	w.say(balcony, "and on")
	w.update(func(tx store.Tx) error {
		users, err := tx.TakeNudges(noon, noon.Add(time.Minute), 0)
		w.same("nudges", users, []string{romeo})
		_, err2 := tx.AddReport(&store.Report{Stamp: noon}, 0)
		_, err3 := tx.CreateGroup(newGroup(orchard))
		return errors.Join(err, err2, err3)
	})
	w.publish(romeo, "r2", packages("b", 1)...)
	w.clean(noon.Add(40 * 24 * time.Hour))
	w.view(func(r store.Reader) error {
		if g := w.group(balcony); g.First != g.Head+1 || g.Epoch != 3 {
			t.Errorf("after cleaning: %+v", g)
		}
		return nil
	})
}
