// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// TestPrivateHandshakes runs a group whose commits the service cannot read.
func TestPrivateHandshakes(t *testing.T) {
	w := newWorld(t)
	juliet, romeo, nurse := w.join("juliet"), w.join("romeo"), w.join("nurse")
	g := must(juliet.CreateGroup(ctxShort(t), "Secret", &client.GroupOptions{PrivateHandshakes: true}))(t)
	must(g.Invite(ctxShort(t), "romeo@"+domain))(t)
	rg := romeo.group(g.JID())
	must(g.Invite(ctxShort(t), "nurse@"+domain))(t)
	ng := nurse.group(g.JID())
	must(rg.Send(ctxShort(t), "one"))(t)
	juliet.hears("one")
	nurse.hears("one")
	ok(t, g.Rename(ctxShort(t), "More secret"))
	ok(t, g.Remove(ctxShort(t), "nurse@"+domain))
	sees[*client.Removed](nurse)
	ok(t, rg.UpdateKeys(ctxShort(t)))
	sameEpoch(t, g, rg)
	// A new device, from outside.
	phone := w.join("romeo")
	pg := phone.group(g.JID())
	must(pg.Send(ctxShort(t), "from the phone"))(t)
	juliet.hears("from the phone")
	sameEpoch(t, g, rg, pg)
	_ = ng
	// The service cannot see a device off: the one that leaves takes the other out.
	ok(t, pg.Leave(ctxShort(t), true))
	sees[*client.Removed](romeo)
	must(g.Send(ctxShort(t), "alone"))(t)
	juliet.until("romeo's end", func() bool { m, _ := g.Members(); return len(m) == 1 })
	must(g.Invite(ctxShort(t), "romeo@"+domain))(t)
	must(g.Send(ctxShort(t), "together"))(t)
	romeo.hears("together")
	phone.hears("together")
}

// TestOpenGroup is joined by somebody whom nobody has invited.
func TestOpenGroup(t *testing.T) {
	w := newWorld(t)
	juliet, mercutio := w.join("juliet"), w.join("mercutio")
	p := groupdata.DefaultPolicy()
	p.ExternalJoin = groupdata.AnyoneJoins
	g := must(juliet.CreateGroup(ctxShort(t), "Feast", &client.GroupOptions{Policy: &p}))(t)
	mg := must(mercutio.Join(ctxShort(t), g.JID()))(t)
	must(mg.Send(ctxShort(t), "a plague o' both your houses"))(t)
	juliet.hears("a plague o' both your houses")
	sameEpoch(t, g, mg)

	closed := must(juliet.CreateGroup(ctxShort(t), "Tomb", nil))(t)
	if _, err := mercutio.Join(ctxShort(t), closed.JID()); err == nil {
		t.Error("mercutio came into a closed group")
	}
	ok(t, g.SetRole(ctxShort(t), "mercutio@"+domain, groupdata.Outcast))
	sees[*client.Removed](mercutio)
	if _, err := mercutio.Join(ctxShort(t), g.JID()); err == nil {
		t.Error("an outcast came back")
	}
}

// TestSuites runs a group with each of the suites that a bot may choose.
func TestSuites(t *testing.T) {
	for _, suite := range []mls.CipherSuite{1, 2, 3} {
		t.Run(fmt.Sprint(suite), func(t *testing.T) {
			w := newWorld(t)
			var actors []*actor
			for _, name := range []string{"juliet", "romeo"} {
				cfg := w.config(name, nil)
				cfg.StorePath, cfg.CipherSuite = t.TempDir()+"/s.db", suite
				actors = append(actors, w.start(name, cfg))
			}
			g := must(actors[0].CreateGroup(ctxShort(t), "", nil))(t)
			must(g.Invite(ctxShort(t), "romeo@"+domain))(t)
			rg := actors[1].group(g.JID())
			must(rg.Send(ctxShort(t), "hello"))(t)
			actors[0].hears("hello")
			sameEpoch(t, g, rg)
		})
	}
}

// TestIncompatibleDevice has a device with another suite only: it is reported,
// and does not stop the other device of the account.
func TestIncompatibleDevice(t *testing.T) {
	w := newWorld(t)
	juliet, romeo := w.join("juliet"), w.join("romeo")
	cfg := w.config("romeo", nil)
	cfg.StorePath, cfg.CipherSuite, cfg.Suites = t.TempDir()+"/s.db", 2, []mls.CipherSuite{}
	w.start("romeo", cfg)
	g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	res := must(g.Invite(ctxShort(t), "romeo@"+domain))(t)
	if len(res.Users) != 1 || res.Users[0].Status != client.InvitePartial || len(res.Users[0].Devices) != 2 {
		t.Fatalf("%+v", res)
	}
	romeo.group(g.JID())
}

// TestManyMembers grows a group by several committers at once.
func TestManyMembers(t *testing.T) {
	w := newWorld(t)
	n := 12
	if testing.Short() {
		n = 6
	}
	juliet := w.join("juliet")
	g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	var all []*client.Group
	var jids []string
	var actors []*actor
	for i := range n {
		name := fmt.Sprintf("guest%d", i)
		actors = append(actors, w.join(name))
		jids = append(jids, name+"@"+domain)
	}
	must(g.Invite(ctxShort(t), jids...))(t)
	all = append(all, g)
	for _, a := range actors {
		all = append(all, a.group(g.JID()))
	}
	var wg sync.WaitGroup
	for i, gg := range all {
		wg.Go(func() {
			for k := range 3 {
				if _, err := gg.Send(ctxShort(t), fmt.Sprintf("%d-%d", i, k)); err != nil {
					t.Error(err)
				}
			}
			if i%3 == 0 {
				if err := gg.UpdateKeys(ctxShort(t)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	sameEpoch(t, all...)
	for _, a := range actors {
		a.until("everything", func() bool { return len(a.messages) == 3*len(all)-3 })
	}
}

// TestKeysAreRenewed changes keys after a number of messages, by itself.
func TestKeysAreRenewed(t *testing.T) {
	w := newWorld(t)
	cfg := w.config("juliet", nil)
	cfg.StorePath, cfg.UpdateMessages = t.TempDir()+"/s.db", 5
	client.SetMaintain(&cfg, 50*time.Millisecond)
	juliet := w.start("juliet", cfg)
	g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	before := g.Epoch()
	for i := range 6 {
		must(g.Send(ctxShort(t), fmt.Sprint(i)))(t)
	}
	juliet.until("new keys", func() bool { return g.Epoch() > before })
}

// TestStaleDeviceIsRemoved takes an own device out that nobody has seen for
// long.
func TestStaleDeviceIsRemoved(t *testing.T) {
	w := newWorld(t)
	romeo := w.join("romeo")
	g := must(romeo.CreateGroup(ctxShort(t), "", nil))(t)
	old := w.join("romeo")
	old.group(g.JID())
	old.stop()
	cfg := romeo.cfg
	romeo.stop()
	cfg.Store = memoryCopy(cfg.Store)
	cfg.StaleDevice = time.Hour
	cfg.Clock = func() time.Time { return time.Now().Add(3 * time.Hour) }
	client.SetMaintain(&cfg, 50*time.Millisecond)
	romeo = w.start("romeo", cfg)
	g = romeo.group(g.JID())
	romeo.until("the old device gone", func() bool { m, _ := g.Members(); return len(m) == 1 })
}

// TestFurtherSuites adds devices by suites that are not their usual ones: the one
// that every client has, and one that is configured.
func TestFurtherSuites(t *testing.T) {
	w := newWorldWith(t, func(o *worldOptions) { o.suites = []mls.CipherSuite{1, 2, 3, 5} })
	cfg := w.config("romeo", nil)
	cfg.StorePath, cfg.CipherSuite, cfg.Suites = t.TempDir()+"/s.db", 2, nil
	romeo := w.start("romeo", cfg)
	cfg = w.config("nurse", nil)
	cfg.StorePath, cfg.CipherSuite, cfg.Suites = t.TempDir()+"/s.db", 3, []mls.CipherSuite{5, 1}
	nurse := w.start("nurse", cfg)
	cfg = w.config("paris", nil)
	cfg.StorePath, cfg.CipherSuite = t.TempDir()+"/s.db", 5
	paris := w.start("paris", cfg)
	juliet := w.join("juliet")
	g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	must(g.Invite(ctxShort(t), "romeo@"+domain, "nurse@"+domain))(t)
	must(romeo.group(g.JID()).Send(ctxShort(t), "in the usual suite"))(t)
	nurse.hears("in the usual suite")
	pg := must(paris.CreateGroup(ctxShort(t), "", nil))(t)
	res := must(pg.Invite(ctxShort(t), "nurse@"+domain, "romeo@"+domain))(t)
	if !res.Added("nurse@"+domain) || res.Added("romeo@"+domain) {
		t.Errorf("%+v", res.Users)
	}
	must(nurse.group(pg.JID()).Send(ctxShort(t), "in another"))(t)
	paris.hears("in another")
	// A suite that the service does not take keeps nobody from coming online.
	cfg = w.config("rosaline", nil)
	cfg.StorePath, cfg.Suites = t.TempDir()+"/s.db", []mls.CipherSuite{4, 1}
	w.start("rosaline", cfg)
	// What changes its usual suite publishes for the new one.
	romeo.stop()
	cfg = romeo.cfg
	cfg.CipherSuite = 5
	w.start("romeo", cfg)
	if res := must(pg.Invite(ctxShort(t), "romeo@"+domain))(t); !res.Added("romeo@" + domain) {
		t.Errorf("%+v", res.Users)
	}
}
