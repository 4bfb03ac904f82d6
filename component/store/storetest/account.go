// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
)

func testWelcomes(t *testing.T, w *world) {
	g := w.create(newGroup(balcony))
	c := commit(g, "add romeo and mercutio")
	c.Joined = []store.Joiner{{User: romeo, Device: "r1", Leaf: 1}, {User: mercutio, Device: "m1", Leaf: 2}}
	c.Welcomes = []store.NewWelcome{
		{KPRef: []byte("kp r"), User: romeo, Device: "r1", Inviter: juliet, Secrets: []byte("for romeo")},
		{KPRef: []byte("kp m"), User: mercutio, Device: "m1", Inviter: juliet, Secrets: []byte("for mercutio"), NotifyAt: noon},
	}
	c.WelcomeInfo, c.WelcomeExpiry = []byte("shared"), noon.Add(24*time.Hour)
	w.accept(c)
	pointer := store.Welcome{
		KPRef: []byte("kp r"), Group: balcony, User: romeo, Device: "r1", Epoch: 1, Seq: 1, Inviter: juliet, Expires: noon.Add(24 * time.Hour),
	}
	w.view(func(r store.Reader) error {
		ws, err := r.Welcomes(romeo, "r1", 0)
		w.same("romeo's", ws, []store.Welcome{pointer})
		if ws, _ := r.Welcomes(romeo, "r2", 0); len(ws) != 0 {
			t.Errorf("romeo's other device has %v", ws)
		}
		if err != nil {
			return err
		}
		got, err := r.Welcome([]byte("kp r"), balcony)
		whole := pointer
		whole.Secrets, whole.Info = []byte("for romeo"), []byte("shared")
		w.same("welcome", got, &whole)
		return err
	})
	w.fails(store.ErrNotFound, func(tx store.Tx) error { _, err := tx.Welcome([]byte("kp r"), orchard); return err })
	// Whom to tell.
	due := func(at, next time.Time) (n int) {
		w.update(func(tx store.Tx) error {
			ws, err := tx.TakeWelcomes(at, 0, func(*store.Welcome) time.Time { return next })
			n = len(ws)
			if n > 0 && (ws[0].User != mercutio || !ws[0].NotifyAt.Equal(next)) {
				t.Errorf("due: %+v", ws)
			}
			return err
		})
		return n
	}
	w.same("due before", due(noon.Add(-time.Second), noon.Add(time.Hour)), 0)
	w.same("due", due(noon, noon.Add(time.Minute)), 1)
	w.same("due again", due(noon, noon.Add(time.Hour)), 0)
	w.same("due later", due(noon.Add(time.Minute), noon.Add(2*time.Minute)), 1)
	w.update(func(tx store.Tx) error { return tx.NotifyWelcome([]byte("kp m"), balcony, noon) })
	w.same("due when it was asked for", due(noon, noon.Add(time.Minute)), 1)
	// The clock was ahead when somebody took it, and has been set right.
	w.update(func(tx store.Tx) error { return tx.NotifyWelcome([]byte("kp m"), balcony, noon.Add(365*24*time.Hour)) })
	w.same("a year ahead", due(noon, noon.Add(time.Minute)), 1)
	w.update(func(tx store.Tx) error { return tx.NotifyWelcome([]byte("kp m"), balcony, time.Time{}) })
	w.same("told", due(noon.Add(time.Hour), noon), 0)
	w.fails(store.ErrNotFound, func(tx store.Tx) error { return tx.NotifyWelcome([]byte("kp x"), balcony, noon) })
	// Nobody removes another's.
	w.fails(store.ErrNotFound, func(tx store.Tx) error { return tx.DeleteWelcome([]byte("kp r"), balcony, mallory) })
	w.update(func(tx store.Tx) error { return tx.DeleteWelcome([]byte("kp r"), balcony, romeo) })
	w.fails(store.ErrNotFound, func(tx store.Tx) error { return tx.DeleteWelcome([]byte("kp r"), balcony, romeo) })
	w.view(func(r store.Reader) error {
		got, err := r.Welcome([]byte("kp m"), balcony)
		if err == nil && (string(got.Info) != "shared" || string(got.Secrets) != "for mercutio") {
			t.Errorf("mercutio's: %+v", got)
		}
		return err
	})
}

func testWelcomePointers(t *testing.T, w *world) {
	far := "far@mls.other.example"
	p := store.Welcome{
		KPRef: []byte("kp"), Group: far, User: juliet, Device: "j1", Epoch: 7, Seq: 9, Inviter: romeo, Remote: true, Expires: noon.Add(time.Hour),
	}
	w.update(func(tx store.Tx) error { return tx.PutWelcome(&p) })
	p.Epoch, p.Seq = 8, 12 // the same last-resort package, invited again
	p.Secrets = []byte("sent along")
	w.update(func(tx store.Tx) error { return tx.PutWelcome(&p) })
	w.view(func(r store.Reader) error {
		ws, err := r.Welcomes(juliet, "j1", 0)
		line := p
		line.Secrets = nil
		w.same("list", ws, []store.Welcome{line})
		got, err2 := r.Welcome([]byte("kp"), far)
		w.same("welcome", got, &p)
		return errors.Join(err, err2)
	})
	// One of this store's needs its group.
	p.Remote = false
	w.fails(store.ErrNotFound, func(tx store.Tx) error { return tx.PutWelcome(&p) })
	w.create(newGroup(balcony))
	p.Group, p.Secrets, p.Info = balcony, []byte("s"), []byte("i")
	w.update(func(tx store.Tx) error { return tx.PutWelcome(&p) })
	w.view(func(r store.Reader) error {
		got, err := r.Welcome([]byte("kp"), balcony)
		w.same("welcome", got, &p)
		return err
	})
}

func testSessions(t *testing.T, w *world) {
	g := w.create(newGroup(balcony))
	c := commit(g, "add romeo")
	c.Joined = []store.Joiner{{User: romeo, Device: "r1", Leaf: 1}, {User: mercutio, Device: "m1", Leaf: 2}}
	w.accept(c)
	j := store.Session{JID: juliet + "/balcony", User: juliet, Device: "j1", Since: noon}
	r1 := store.Session{JID: romeo + "/garden", User: romeo, Device: "r1", Since: noon}
	r2 := store.Session{JID: romeo + "/street", User: romeo, Device: "r2", Since: noon}
	m := store.Session{JID: mercutio + "/x", User: mercutio, Device: "m1", Since: noon}
	for _, s := range []store.Session{j, r1, r2, m} {
		w.update(func(tx store.Tx) error { return tx.PutSession(s) })
	}
	j.Since = noon.Add(time.Minute)
	w.update(func(tx store.Tx) error { return tx.PutSession(j) })
	c = commit(w.group(balcony), "remove mercutio")
	c.Left = []store.Leaver{{User: mercutio, Device: "m1"}}
	w.accept(c)
	w.view(func(r store.Reader) error {
		ss, err := r.Sessions(romeo)
		w.same("romeo's", ss, []store.Session{r1, r2})
		in, err2 := r.GroupSessions(g.Key)
		if len(in) == 2 && in[0].JID == r1.JID {
			in[0], in[1] = in[1], in[0]
		}
		w.same("of the group", in, []store.Session{j, r1})
		all, err3 := r.AllSessions("", 2)
		w.same("all", all, []store.Session{j, m})
		all, err4 := r.AllSessions(m.JID, 0)
		w.same("the rest", all, []store.Session{r1, r2})
		return errors.Join(err, err2, err3, err4)
	})
	if ds := w.devices(juliet, noon); len(ds) != 1 || !ds[0].Seen.Equal(j.Since) {
		t.Errorf("juliet's devices: %+v", ds)
	}
	w.update(func(tx store.Tx) error { return tx.DeleteSession(r1.JID) })
	w.update(func(tx store.Tx) error { return tx.DeleteSession(r1.JID) })
	w.view(func(r store.Reader) error {
		ss, err := r.Sessions(romeo)
		w.same("romeo's", ss, []store.Session{r2})
		return err
	})
}

func testNudges(t *testing.T, w *world) {
	schedule := func(user string, at time.Time) (ok bool) {
		w.update(func(tx store.Tx) (err error) {
			ok, err = tx.ScheduleNudge(user, at)
			return err
		})
		return ok
	}
	take := func(at time.Time) (users []string) {
		w.update(func(tx store.Tx) (err error) {
			users, err = tx.TakeNudges(at, at.Add(time.Minute), 0)
			return err
		})
		return users
	}
	settle := func(user string) { w.update(func(tx store.Tx) error { return tx.SettleNudge(user) }) }
	if !schedule(romeo, noon.Add(2*time.Minute)) || schedule(romeo, noon) || !schedule(juliet, noon) {
		t.Error("one nudge per account: not so")
	}
	w.same("at noon", take(noon), []string{juliet})
	w.same("at noon again", take(noon), []string(nil))
	w.same("later, as it was not sent", take(noon.Add(2*time.Minute)), []string{juliet, romeo})
	settle(romeo)
	settle(juliet)
	w.same("after", take(noon.Add(time.Hour)), []string(nil))
	if schedule(romeo, noon) {
		t.Error("a second nudge while one is outstanding")
	}
	w.update(func(tx store.Tx) error { return tx.ClearNudge(romeo) })
	if !schedule(romeo, noon) {
		t.Error("no nudge after the account has synced")
	}
	w.same("then", take(noon), []string{romeo})
	// The clock was ahead when it was scheduled, and has been set right.
	schedule(mercutio, noon.Add(365*24*time.Hour))
	w.same("a year ahead", take(noon), []string{mercutio})
}

func chunk(whole []byte, from, to int) *store.UploadChunk {
	return &store.UploadChunk{
		Owner: juliet, ID: "u1", Part: "welcome", Offset: int64(from), Total: int64(len(whole)), Sum: store.RefOf(whole),
		Bytes: whole[from:to], Now: noon, Expires: noon.Add(5 * time.Minute),
	}
}

func testUploads(t *testing.T, w *world) {
	whole := bytes.Repeat([]byte("0123456789"), 1000)
	stage := func(c *store.UploadChunk) (n int64, err error) {
		err = w.s.Update(w.ctx(), func(tx store.Tx) (err error) {
			n, err = tx.Stage(c, 1<<20)
			return err
		})
		return n, err
	}
	ok := func(c *store.UploadChunk, want int64) {
		t.Helper()
		if n, err := stage(c); n != want || err != nil {
			t.Fatalf("staged to %d (%v), want %d", n, err, want)
		}
	}
	get := func(owner string, at time.Time) ([]byte, error) {
		var b []byte
		err := w.s.View(w.ctx(), func(r store.Reader) (err error) {
			b, err = r.Upload(owner, "u1", "welcome", at)
			return err
		})
		return b, err
	}
	ok(chunk(whole, 0, 4000), 4000)
	ok(chunk(whole, 0, 4000), 4000) // the answer was lost
	if _, err := get(juliet, noon); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("half an upload: %v", err)
	}
	var off *store.OffsetError
	if _, err := stage(chunk(whole, 6000, 8000)); !errors.As(err, &off) || off.Have != 4000 {
		t.Fatalf("a gap: %v", err)
	}
	ok(chunk(whole, 4000, 10000), 10000)
	if b, err := get(juliet, noon); err != nil || !bytes.Equal(b, whole) {
		t.Fatalf("upload: %d bytes, %v", len(b), err)
	}
	if _, err := get(mallory, noon); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("mallory's view: %v", err)
	}
	if _, err := get(juliet, noon.Add(5*time.Minute)); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("expired: %v", err)
	}
	// Another total or sum is another upload.
	var ex *store.ExistsError
	if _, err := stage(chunk(whole[:9000], 0, 9000)); !errors.As(err, &ex) || ex.What != store.ExistsUpload {
		t.Fatalf("another upload of the same id: %v", err)
	}
	// An expired one makes room.
	c := chunk(whole[:9000], 0, 9000)
	c.Now, c.Expires = noon.Add(5*time.Minute), noon.Add(10*time.Minute)
	ok(c, 9000)
	if b, err := get(juliet, c.Now); err != nil || !bytes.Equal(b, whole[:9000]) {
		t.Fatalf("the next upload: %d bytes, %v", len(b), err)
	}
	w.update(func(tx store.Tx) error { return tx.DeleteUpload(juliet, "u1") })
	w.update(func(tx store.Tx) error { return tx.DeleteUpload(juliet, "u1") })
	// A commit uses up those that it names, of its sender and of nobody else.
	ok(chunk(whole, 0, 10000), 10000)
	g := w.create(newGroup(balcony))
	c2 := commit(g, "with an upload")
	c2.UploadOwner, c2.Uploads = mallory, []string{"u1"}
	w.accept(c2)
	if _, err := get(juliet, noon); err != nil {
		t.Fatalf("after another's commit: %v", err)
	}
	c2 = commit(w.group(balcony), "with juliet's upload")
	c2.UploadOwner, c2.Uploads = juliet, []string{"u1", "u2"}
	w.accept(c2)
	if _, err := get(juliet, noon); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("after the commit: %v", err)
	}
	// A slow one lives as long as it goes on.
	for i := range 4 {
		c := chunk(whole, i*2500, (i+1)*2500)
		c.Now = noon.Add(time.Duration(i) * 4 * time.Minute)
		c.Expires = c.Now.Add(5 * time.Minute)
		ok(c, int64(i+1)*2500)
	}
	if b, err := get(juliet, noon.Add(16*time.Minute)); err != nil || !bytes.Equal(b, whole) {
		t.Fatalf("a slow upload: %d bytes, %v", len(b), err)
	}
	w.update(func(tx store.Tx) error { return tx.DeleteUpload(juliet, "u1") })
	// What does not add up.
	lie := chunk(whole, 0, 10000)
	lie.Sum[0] ^= 1
	ok(lie, 10000)
	if _, err := get(juliet, noon); !errors.Is(err, store.ErrChecksum) {
		t.Fatalf("wrong sum: %v", err)
	}
	w.update(func(tx store.Tx) error { return tx.DeleteUpload(juliet, "u1") })
	for _, bad := range []struct{ off, total int64 }{{-1, 10000}, {0, -1}, {1, 10000}, {0, 9999}, {1 << 62, 1 << 62}, {-1 << 63, 1<<63 - 1}} {
		c := chunk(whole, 0, 10000)
		c.Offset, c.Total = bad.off, bad.total
		if _, err := stage(c); !errors.Is(err, store.ErrChecksum) {
			t.Errorf("10000 bytes at %d of %d: %v", bad.off, bad.total, err)
		}
	}
	ok(&store.UploadChunk{Owner: juliet, ID: "empty", Part: "p", Sum: store.RefOf(nil), Now: noon, Expires: noon.Add(time.Hour)}, 0)
	w.view(func(r store.Reader) error {
		b, err := r.Upload(juliet, "empty", "p", noon)
		if len(b) != 0 {
			t.Errorf("empty upload: %q", b)
		}
		return err
	})
}

func testUploadProgress(t *testing.T, w *world) {
	whole := []byte("0123456789")
	w.fails(store.ErrNotFound, func(tx store.Tx) error { _, err := tx.UploadProgress(juliet, "u1", noon); return err })
	w.update(func(tx store.Tx) error { _, err := tx.Stage(chunk(whole, 0, 4), 1<<20); return err })
	w.view(func(r store.Reader) error {
		p, err := r.UploadProgress(juliet, "u1", noon)
		w.same("progress", p, store.UploadProgress{Part: "welcome", Have: 4, Total: 10, Expires: noon.Add(5 * time.Minute)})
		return err
	})
	w.fails(store.ErrNotFound, func(tx store.Tx) error { _, err := tx.UploadProgress(mallory, "u1", noon); return err })
	w.fails(store.ErrNotFound, func(tx store.Tx) error {
		_, err := tx.UploadProgress(juliet, "u1", noon.Add(5*time.Minute))
		return err
	})
}

func testUploadQuota(t *testing.T, w *world) {
	stage := func(id string, total int64, at time.Time) error {
		return w.s.Update(w.ctx(), func(tx store.Tx) error {
			_, err := tx.Stage(&store.UploadChunk{
				Owner: juliet, ID: id, Part: "p", Total: total, Bytes: []byte("x"), Now: at, Expires: at.Add(5 * time.Minute),
			}, 1000)
			return err
		})
	}
	// What is announced counts, so that a promise of much cannot be used to get in.
	if err := stage("a", 600, noon); err != nil {
		t.Fatal(err)
	}
	if err := stage("b", 600, noon); !errors.Is(err, store.ErrQuota) {
		t.Fatalf("too much: %v", err)
	}
	if err := stage("b", 400, noon); err != nil {
		t.Fatalf("just enough: %v", err)
	}
	if err := stage("c", 1000, noon.Add(5*time.Minute)); err != nil {
		t.Fatalf("after the others expired: %v", err)
	}
}

func testSettings(t *testing.T, w *world) {
	w.fails(store.ErrNotFound, func(tx store.Tx) error { _, err := tx.Setting(juliet, "consent"); return err })
	w.update(func(tx store.Tx) error {
		return errors.Join(
			tx.SetSetting(juliet, "consent", []byte("roster")),
			tx.SetSetting(juliet, "block/mallory", []byte{}),
			tx.SetSetting(juliet, "block/Paris", []byte("1")),
			tx.SetSetting(juliet, "blocked", []byte("no")),
			tx.SetSetting("", "block/x", []byte("the service's")))
	})
	w.update(func(tx store.Tx) error { return tx.SetSetting(juliet, "consent", []byte("anyone")) })
	w.view(func(r store.Reader) error {
		v, err := r.Setting(juliet, "consent")
		w.same("consent", v, []byte("anyone"))
		ss, err2 := r.Settings(juliet, "block/")
		w.same("blocked", ss, []store.Setting{{Name: "block/Paris", Value: []byte("1")}, {Name: "block/mallory", Value: []byte{}}})
		ss, err3 := r.Settings(juliet, "")
		w.same("all", len(ss), 4)
		return errors.Join(err, err2, err3)
	})
	w.update(func(tx store.Tx) error { return tx.SetSetting(juliet, "consent", nil) })
	w.fails(store.ErrNotFound, func(tx store.Tx) error { _, err := tx.Setting(juliet, "consent"); return err })

	swap := func(old, value []byte) error {
		return w.s.Update(w.ctx(), func(tx store.Tx) error { return tx.SwapSetting("", "key", old, value) })
	}
	var c *store.ConflictError
	if err := swap([]byte("1"), []byte("2")); !errors.As(err, &c) {
		t.Errorf("swapping what is not there: %v", err)
	}
	if err := swap(nil, []byte("1")); err != nil {
		t.Error(err)
	}
	if err := swap(nil, []byte("mine")); !errors.As(err, &c) {
		t.Errorf("making what is there: %v", err)
	}
	if err := swap([]byte("0"), []byte("2")); !errors.As(err, &c) {
		t.Errorf("swapping another value: %v", err)
	}
	if err := swap([]byte("1"), []byte("2")); err != nil {
		t.Error(err)
	}
	if err := swap([]byte("2"), nil); err != nil {
		t.Error(err)
	}
	w.fails(store.ErrNotFound, func(tx store.Tx) error { _, err := tx.Setting("", "key"); return err })
}

func testReports(t *testing.T, w *world) {
	a := store.Report{Stamp: noon, Reporter: juliet, Group: balcony, Seq: 7, Reason: "spam", Text: "he biteth his thumb", Evidence: []byte{0, 1}}
	b := a
	b.Reporter = romeo
	w.update(func(tx store.Tx) (err error) {
		if a.ID, err = tx.AddReport(&a, 1); err == nil {
			b.ID, err = tx.AddReport(&b, 1)
		}
		return err
	})
	w.fails(store.ErrQuota, func(tx store.Tx) error { _, err := tx.AddReport(&a, 1); return err })
	w.view(func(r store.Reader) error {
		rs, err := r.Reports(0, 0)
		w.same("reports", rs, []store.Report{a, b})
		rs, _ = r.Reports(a.ID, 0)
		w.same("the next", rs, []store.Report{b})
		return err
	})
	w.update(func(tx store.Tx) error { return tx.DeleteReport(a.ID) })
	w.view(func(r store.Reader) error {
		rs, err := r.Reports(0, 0)
		w.same("left", rs, []store.Report{b})
		return err
	})
}

func testPurgeUser(t *testing.T, w *world) {
	g := w.create(newGroup(balcony))
	c := commit(g, "add romeo")
	c.Joined = []store.Joiner{{User: romeo, Device: "r1", Leaf: 1}, {User: romeo, Device: "r2", Leaf: 2}}
	c.Roles = []store.Affiliation{{User: romeo, Value: "member"}}
	c.Welcomes = []store.NewWelcome{{KPRef: []byte("kp"), User: romeo, Device: "r1", Secrets: []byte("s")}}
	c.WelcomeExpiry = noon.Add(time.Hour)
	w.accept(c)
	n := newGroup(orchard)
	n.Roles = append(n.Roles, store.Affiliation{User: romeo, Value: "outcast"})
	w.create(n)
	w.publish(romeo, "r1", packages("a", 2)...)
	w.publish(juliet, "j1", packages("j", 2)...)
	w.claim(claim("1", romeo))
	w.update(func(tx store.Tx) error {
		_, err := tx.ScheduleNudge(romeo, noon)
		_, err2 := tx.Stage(&store.UploadChunk{Owner: romeo, ID: "u", Part: "p", Total: 1, Sum: store.RefOf([]byte("x")), Bytes: []byte("x"), Now: noon, Expires: noon.Add(time.Hour)}, 10)
		return errors.Join(err, err2, tx.SetSetting(romeo, "consent", []byte("x")),
			tx.PutSession(store.Session{JID: romeo + "/x", User: romeo, Device: "r1", Since: noon}),
			tx.Reserve("verona@mls.example", romeo, noon, noon.Add(time.Hour)))
	})
	before := w.group(balcony)
	var left []store.IdleMember
	w.update(func(tx store.Tx) (err error) {
		left, err = tx.PurgeUser(romeo)
		return err
	})
	if len(left) != 2 || left[0].JID != balcony || left[0].Leaf != 1 || left[1].Leaf != 2 {
		t.Fatalf("still in trees: %+v", left)
	}
	if got := w.group(balcony); got.Rev <= before.Rev {
		t.Error("the group's affiliations changed but not its revision")
	}
	w.view(func(r store.Reader) error {
		ds, e1 := r.Devices(romeo, noon)
		ws, e2 := r.Welcomes(romeo, "r1", 0)
		ss, e3 := r.Sessions(romeo)
		set, e4 := r.Settings(romeo, "")
		if len(ds)+len(ws)+len(ss)+len(set) != 0 {
			t.Errorf("left of romeo: %v %v %v %v", ds, ws, ss, set)
		}
		if a, _ := r.Affiliation(g.Key, romeo); a != "" {
			t.Errorf("romeo is still %q", a)
		}
		if a, _ := r.Affiliation(w.group(orchard).Key, romeo); a != "outcast" {
			t.Errorf("romeo the outcast is %q", a)
		}
		return errors.Join(e1, e2, e3, e4)
	})
	w.fails(store.ErrNotFound, func(tx store.Tx) error { _, err := tx.Claimed([]byte("ref a0"), balcony); return err })
	w.fails(store.ErrNotFound, func(tx store.Tx) error { _, err := tx.Upload(romeo, "u", "p", noon); return err })
	w.update(func(tx store.Tx) error { return tx.Reserve("verona@mls.example", juliet, noon, noon.Add(time.Hour)) })
	if ds := w.devices(juliet, noon); len(ds) != 1 || ds[0].Available != 2 {
		t.Errorf("juliet's devices: %+v", ds)
	}
}
