// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/integration/loopback"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// pair is a group of juliet and romeo.
func pair(t testing.TB, w *world) (juliet, romeo *actor, jg, rg *client.Group) {
	t.Helper()
	juliet, romeo = w.join("juliet"), w.join("romeo")
	jg = must(juliet.CreateGroup(ctxShort(t), "Balcony", &client.GroupOptions{Local: "balcony"}))(t)
	must(jg.Invite(ctxShort(t), "romeo@"+domain))(t)
	return juliet, romeo, jg, romeo.group(jg.JID())
}

func TestRestart(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(t.TempDir(), "juliet.db")
	cfg := w.config("juliet", nil)
	cfg.StorePath, cfg.StoreKey = path, bytes.Repeat([]byte{1}, store.KeySize)
	juliet, romeo := w.start("juliet", cfg), w.join("romeo")
	g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	must(g.Invite(ctxShort(t), "romeo@"+domain))(t)
	rg := romeo.group(g.JID())
	must(g.Send(ctxShort(t), "one"))(t)
	romeo.hears("one")
	juliet.stop()
	for i := range 20 {
		must(rg.Send(ctxShort(t), fmt.Sprintf("while you were away %d", i)))(t)
	}
	ok(t, rg.UpdateKeys(ctxShort(t)))
	must(rg.Send(ctxShort(t), "still away"))(t)

	juliet = w.start("juliet", cfg)
	juliet.hears("still away")
	juliet.mu.Lock()
	if n := len(juliet.messages); n != 21 {
		t.Errorf("caught up with %d messages, want 21: %q", n, juliet.texts())
	}
	juliet.mu.Unlock()
	g = juliet.group(g.JID())
	must(g.Send(ctxShort(t), "back"))(t)
	romeo.hears("back")
	sameEpoch(t, g, rg)
}

// TestOfflineMember is invited while away and finds the group when it comes.
func TestOfflineMember(t *testing.T) {
	w := newWorld(t)
	st := store.NewMemory("romeo@" + domain)
	romeo := w.start("romeo", w.config("romeo", st))
	romeo.stop()
	juliet := w.join("juliet")
	g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	if res := must(g.Invite(ctxShort(t), "romeo@"+domain))(t); !res.Added("romeo@" + domain) {
		t.Fatalf("%+v", res)
	}
	must(g.Send(ctxShort(t), "come up"))(t)
	romeo = w.start("romeo", w.config("romeo", st.Snapshot(false)))
	romeo.hears("come up")
	sameEpoch(t, g, romeo.group(g.JID()))
}

// TestPartialInvite has one account without key packages, one that does not
// exist, and one that is fine.
func TestPartialInvite(t *testing.T) {
	w := newWorld(t)
	juliet, romeo := w.join("juliet"), w.join("romeo")
	w.server.AddAccount("tybalt", "x")
	g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	res, err := g.Invite(ctxShort(t), "tybalt@"+domain, "romeo@"+domain, "nobody@"+domain, "not a jid@@", "romeo@"+domain)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]client.InviteStatus{"tybalt@" + domain: client.InviteUnavailable, "romeo@" + domain: client.InviteAdded, "nobody@" + domain: client.InviteUnavailable, "not a jid@@": client.InviteFailed}
	for _, u := range res.Users {
		if u.Status != want[u.JID] && !(u.Status == client.InviteExhausted && want[u.JID] == client.InviteUnavailable) {
			t.Errorf("%s: %s (%s)", u.JID, u.Status, u.Reason)
		}
	}
	if len(res.Users) != 4 || len(res.Failed()) != 3 {
		t.Errorf("%+v", res)
	}
	romeo.group(g.JID())
	if _, err := g.Invite(ctxShort(t), "tybalt@"+domain); !errors.Is(err, client.ErrNobodyAdded) {
		t.Errorf("inviting nobody: %v", err)
	}
	if res, err := g.Invite(ctxShort(t), "romeo@"+domain); err != nil || res.Users[0].Status != client.InviteAlready {
		t.Errorf("inviting a member: %+v, %v", res, err)
	}
}

// racesEnv is how many rounds TestRaces plays, such as 1000.
const racesEnv = "LOCKSTEP_RACES"

// TestRaces lets two members commit at the same time, many times.
func TestRaces(t *testing.T) {
	w := newWorld(t)
	_, _, jg, rg := pair(t, w)
	rounds := 25
	if testing.Short() {
		rounds = 5
	}
	if s := os.Getenv(racesEnv); s != "" {
		rounds = must(strconv.Atoi(s))(t)
	}
	for round := range rounds {
		var wg sync.WaitGroup
		for _, g := range []*client.Group{jg, rg} {
			wg.Go(func() {
				if err := g.UpdateKeys(ctxShort(t)); err != nil {
					t.Errorf("round %d: %v", round, err)
				}
			})
			wg.Go(func() {
				if _, err := g.Send(ctxShort(t), fmt.Sprintf("round %d", round)); err != nil {
					t.Errorf("round %d: %v", round, err)
				}
			})
		}
		wg.Wait()
	}
	ok(t, jg.Sync(ctxShort(t)))
	ok(t, rg.Sync(ctxShort(t)))
	sameEpoch(t, jg, rg)
	if e := jg.Epoch(); e != uint64(1+2*rounds) {
		t.Errorf("epoch %d after %d commits", e, 1+2*rounds)
	}
}

// TestSecondDevice joins the account's groups by itself.
func TestSecondDevice(t *testing.T) {
	w := newWorld(t)
	juliet, romeo, jg, rg := pair(t, w)
	phone := w.join("romeo")
	pg := phone.group(jg.JID())
	if e := sees[*client.NewDevice](juliet); e.Device.JID != "romeo@"+domain || e.Device.Device != phone.Device() || e.Own {
		t.Errorf("juliet sees %+v", e)
	}
	if e := sees[*client.NewDevice](romeo); !e.Own {
		t.Errorf("romeo sees %+v", e)
	}
	sameEpoch(t, jg, rg, pg)
	must(rg.Send(ctxShort(t), "from the desk"))(t)
	if m := phone.hears("from the desk"); !m.Own {
		t.Error("the phone does not know its own account")
	}
	must(pg.Send(ctxShort(t), "from the phone"))(t)
	juliet.hears("from the phone")
	romeo.hears("from the phone")

	devices := must(romeo.Devices(ctxShort(t)))(t)
	if len(devices) != 2 || !devices[0].Self || devices[1].ID != phone.Device() || len(devices[1].Groups) != 1 {
		t.Errorf("devices %+v", devices)
	}
	ok(t, romeo.RemoveOwnDevice(ctxShort(t), phone.Device()))
	sees[*client.Removed](phone)
	sameEpoch(t, jg, rg)
}

// TestStoreLost comes back as the same account with a new device, and the
// stale one is removed on demand.
func TestBackupRestored(t *testing.T) {
	w, juliet, romeo, rg, backup := backedUp(t)
	juliet.stop()
	juliet = w.start("juliet", w.config("juliet", backup))
	sees[*client.RollbackDetected](juliet)
	sees[*client.Rejoined](juliet)
	g := juliet.group(rg.JID())
	must(g.Send(ctxShort(t), "three"))(t)
	romeo.hears("three")
	must(rg.Send(ctxShort(t), "welcome back"))(t)
	juliet.hears("welcome back")
	sameEpoch(t, g, rg)
	if n := len(must(rg.Members())(t)); n != 2 {
		t.Errorf("%d members", n)
	}
}

func TestBackupNoticedByTheStore(t *testing.T) {
	w := newWorld(t)
	st := store.NewMemory("juliet@" + domain)
	juliet, romeo := w.start("juliet", w.config("juliet", st)), w.join("romeo")
	g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	must(g.Invite(ctxShort(t), "romeo@"+domain))(t)
	rg := romeo.group(g.JID())
	juliet.stop()
	juliet = w.start("juliet", w.config("juliet", st.Snapshot(true)))
	sees[*client.RollbackDetected](juliet)
	sees[*client.Rejoined](juliet)
	must(juliet.group(g.JID()).Send(ctxShort(t), "healed"))(t)
	romeo.hears("healed")
	sameEpoch(t, juliet.group(g.JID()), rg)
}

// TestServiceRestarts kills the delivery service under load.
func TestServiceRestarts(t *testing.T) {
	w := newWorld(t)
	juliet, romeo, jg, rg := pair(t, w)
	var wg sync.WaitGroup
	for who, g := range map[string]*client.Group{"juliet": jg, "romeo": rg} {
		wg.Go(func() {
			for i := range 30 {
				if _, err := g.Send(ctxShort(t), fmt.Sprintf("%s %d", who, i)); err != nil {
					t.Errorf("%s %d: %v", who, i, err)
				}
				if i%10 == 5 {
					if err := g.UpdateKeys(ctxShort(t)); err != nil {
						t.Errorf("%s %d: %v", who, i, err)
					}
				}
			}
		})
	}
	for range 2 {
		time.Sleep(150 * time.Millisecond)
		w.killDS()
		w.startDS()
	}
	wg.Wait()
	juliet.hears("romeo 29")
	romeo.hears("juliet 29")
	sameEpoch(t, jg, rg)
	for _, a := range []*actor{juliet, romeo} {
		a.mu.Lock()
		seen := map[string]int{}
		for _, m := range a.messages {
			seen[m.Body]++
		}
		for text, n := range seen {
			if n != 1 {
				t.Errorf("%s heard %q %d times", a.name, text, n)
			}
		}
		if len(seen) != 30 {
			t.Errorf("%s heard %d messages, want 30", a.name, len(seen))
		}
		a.mu.Unlock()
	}
}

// TestBadNetwork drops, doubles and reorders what the delivery service sends.
func TestBadNetwork(t *testing.T) {
	w := newWorld(t)
	juliet, romeo, jg, rg := pair(t, w)
	message := func(e *loopback.Element) bool { return e.Name.Local == "message" }
	w.server.Fault(loopback.Rule{Action: loopback.Drop, Kind: loopback.C2S, Dir: loopback.Out, Match: message, Chance: 0.2})
	w.server.Fault(loopback.Rule{Action: loopback.Double, Kind: loopback.C2S, Dir: loopback.Out, Match: message, Chance: 0.2})
	w.server.Fault(loopback.Rule{Action: loopback.Reorder, Kind: loopback.C2S, Dir: loopback.Out, Match: message, Chance: 0.2, Depth: 3})
	for i := range 40 {
		must(jg.Send(ctxShort(t), fmt.Sprintf("m%d", i)))(t)
		if i%8 == 3 {
			ok(t, rg.UpdateKeys(ctxShort(t)))
		}
	}
	w.server.ClearFaults()
	must(jg.Send(ctxShort(t), "last"))(t)
	romeo.hears("last")
	romeo.mu.Lock()
	var got []string
	for _, m := range romeo.messages {
		got = append(got, m.Body)
	}
	romeo.mu.Unlock()
	var want []string
	for i := range 40 {
		want = append(want, fmt.Sprintf("m%d", i))
	}
	if want = append(want, "last"); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("heard %q", got)
	}
	_ = juliet
	sameEpoch(t, jg, rg)
}

// TestLostAnswers drops every third answer of the delivery service.
func TestLostAnswers(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for time-outs of requests")
	}
	w := newWorld(t)
	_, romeo, jg, rg := pair(t, w)
	accepted := func(e *loopback.Element) bool { return strings.Contains(e.String(), "<accepted") }
	f := w.server.Fault(loopback.Rule{Action: loopback.CutNext, Kind: loopback.C2S, Dir: loopback.In, Count: 4, Skip: 2,
		Match: func(e *loopback.Element) bool {
			return strings.Contains(e.String(), "<send") || strings.Contains(e.String(), "<commit")
		}})
	for i := range 12 {
		must(jg.Send(ctxShort(t), fmt.Sprintf("m%d", i)))(t)
		if i%4 == 3 {
			ok(t, jg.UpdateKeys(ctxShort(t)))
		}
	}
	_, _ = f, accepted
	romeo.hears("m11")
	romeo.mu.Lock()
	if n := len(romeo.messages); n != 12 {
		t.Errorf("romeo heard %d messages: %q", n, romeo.texts())
	}
	romeo.mu.Unlock()
	sameEpoch(t, jg, rg)
}

func TestLeave(t *testing.T) {
	w := newWorld(t)
	juliet, romeo, jg, rg := pair(t, w)
	ok(t, rg.Leave(ctxShort(t), false))
	if rg.Joined() {
		t.Error("romeo is still in")
	}
	e := sees[*client.MembersChanged](juliet)
	juliet.until("romeo's removal", func() bool {
		for _, ev := range juliet.events {
			if m, ok := ev.(*client.MembersChanged); ok && len(m.Removed) == 1 {
				return true
			}
		}
		return false
	})
	_ = e
	if n := len(must(jg.Members())(t)); n != 1 {
		t.Errorf("%d members left", n)
	}
	romeo.stop()
	again := w.start("romeo", w.config("romeo", romeo.cfg.Store.(*store.Memory).Snapshot(false)))
	time.Sleep(200 * time.Millisecond)
	if len(again.Groups()) != 0 {
		t.Error("romeo came back by himself")
	}
	// He can be invited again.
	must(jg.Invite(ctxShort(t), "romeo@"+domain))(t)
	sameEpoch(t, jg, again.group(jg.JID()))
}

func TestRoles(t *testing.T) {
	w := newWorld(t)
	_, romeo, jg, rg := pair(t, w)
	w.join("mercutio")
	if _, err := rg.Invite(ctxShort(t), "mercutio@"+domain); err == nil {
		t.Error("a member could invite")
	}
	ok(t, jg.SetRole(ctxShort(t), "romeo@"+domain, groupdata.Admin))
	if e := sees[*client.RoleChanged](romeo); e.JID != "romeo@"+domain || e.New != groupdata.Admin {
		t.Errorf("%+v", e)
	}
	must(rg.Invite(ctxShort(t), "mercutio@"+domain))(t)
	if err := rg.SetRole(ctxShort(t), "juliet@"+domain, groupdata.Member); err == nil {
		t.Error("an admin could degrade an owner")
	}
	p := groupdata.DefaultPolicy()
	p.Send = groupdata.Admin
	ok(t, jg.SetPolicy(ctxShort(t), p))
	sees[*client.PolicyChanged](romeo)
}

func TestEphemeral(t *testing.T) {
	w := newWorld(t)
	_, romeo, jg, _ := pair(t, w)
	ok(t, jg.SetChatState(ctxShort(t), "composing"))
	romeo.until("a chat state", func() bool {
		for _, m := range romeo.messages {
			if m.ChatState == "composing" && m.Ephemeral && m.Seq == 0 {
				return true
			}
		}
		return false
	})
}

func TestFile(t *testing.T) {
	w := newWorld(t)
	_, romeo, jg, _ := pair(t, w)
	content := bytes.Repeat([]byte("a rose by any other name "), 2000)
	must(jg.UploadAndSend(ctxShort(t), "../../etc/rose.txt", bytes.NewReader(content), "look"))(t)
	m := romeo.hears("look")
	if len(m.Files) != 1 || m.Files[0].Name != "rose.txt" || m.Files[0].Size != int64(len(content)) {
		t.Fatalf("files %+v", m.Files)
	}
	got := must(romeo.Download(ctxShort(t), &m.Files[0], 0, nil))(t)
	if !bytes.Equal(got, content) {
		t.Error("the file differs")
	}
	if _, err := romeo.Download(ctxShort(t), &m.Files[0], 100, nil); err == nil {
		t.Error("the limit does not hold")
	}
}

// TestHandlerCallsEverything sends and asks from inside the handler.
func TestHandlerCallsEverything(t *testing.T) {
	w := newWorld(t)
	juliet, romeo, jg, _ := pair(t, w)
	romeo.mu.Lock()
	romeo.onMsg = func(ctx context.Context, m *client.Message) {
		m.Group.Members()
		if err := m.Group.UpdateKeys(ctx); err != nil {
			t.Error(err)
		}
		if err := m.Group.Sync(ctx); err != nil {
			t.Error(err)
		}
		if _, err := m.Reply(ctx, "heard "+m.Body); err != nil {
			t.Error(err)
		}
	}
	romeo.mu.Unlock()
	for i := range 5 {
		must(jg.Send(ctxShort(t), fmt.Sprint(i)))(t)
	}
	juliet.hears("heard 4")
	done := make(chan struct{})
	romeo.mu.Lock()
	romeo.onMsg = func(context.Context, *client.Message) { romeo.Client.Close(); close(done) }
	romeo.mu.Unlock()
	must(jg.Send(ctxShort(t), "close"))(t)
	select {
	case <-done:
	case <-time.After(patience):
		t.Error("closing from a handler hangs")
	}
}

// TestRemovedAndAddedWhileAway is taken out and added again while it is away.
func TestRemovedAndAddedWhileAway(t *testing.T) {
	w := newWorld(t)
	_, romeo, jg, rg := pair(t, w)
	must(rg.Send(ctxShort(t), "I go"))(t)
	romeo.stop()
	ok(t, jg.Remove(ctxShort(t), "romeo@"+domain))
	must(jg.Send(ctxShort(t), "not for him"))(t)
	must(jg.Invite(ctxShort(t), "romeo@"+domain))(t)
	must(jg.Send(ctxShort(t), "welcome back"))(t)
	cfg := romeo.cfg
	cfg.Store = memoryCopy(cfg.Store)
	again := w.start("romeo", cfg)
	again.hears("welcome back")
	sameEpoch(t, jg, again.group(jg.JID()))
	must(again.group(jg.JID()).Send(ctxShort(t), "thanks"))(t)
}

// TestLackingEntry has a service that withholds an entry of the log for good: the
// member says so and comes back behind it.
func TestLackingEntry(t *testing.T) {
	l, _, romeo, jg, rg := deceived(t)
	seq, _ := rg.Chain()
	hide := seq + 1
	l.tell(func(s *stanza.Stanza, raw []byte) [][]byte {
		if d, _, isMessage := delivered(s); isMessage && d.Seq == hide {
			return nil
		}
		raw, _ = withoutEntry(t, s, raw, hide)
		return [][]byte{raw}
	})
	must(jg.Send(ctxShort(t), "withheld"))(t)
	must(jg.Send(ctxShort(t), "shown"))(t)
	if e := sees[*client.Rejoined](romeo); !strings.Contains(e.Reason, fmt.Sprintf("lacks entry %d", hide)) {
		t.Errorf("%+v", e)
	}
	if e := sees[*client.HistoryLost](romeo); e.From != hide {
		t.Errorf("%+v", e)
	}
	sameEpoch(t, jg, romeo.group(jg.JID()))
	must(jg.Send(ctxShort(t), "behind it"))(t)
	romeo.hears("behind it")
}
