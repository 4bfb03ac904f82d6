// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/integration/loopback"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// TestRetryAfter waits as long as the service says before it asks again.
func TestRetryAfter(t *testing.T) {
	l, _, romeo, _, _ := deceived(t)
	romeo.w.join("nurse")
	const wait = 1500 * time.Millisecond
	var mu sync.Mutex
	var refused, served time.Time
	l.tell(func(s *stanza.Stanza, raw []byte) [][]byte {
		if s.Kind != stanza.IQ || !s.Child(stanza.NSKeyPackages, "claimed").Valid() {
			return [][]byte{raw}
		}
		mu.Lock()
		defer mu.Unlock()
		if !refused.IsZero() {
			served = time.Now()
			return [][]byte{raw}
		}
		refused = time.Now()
		h := s.Header()
		h.Type = stanza.TypeError
		return [][]byte{h.Append(nil, &stanza.Error{Type: stanza.ErrorWait, Condition: stanza.ResourceConstraint, App: &stanza.RetryAfter{After: wait}})}
	})
	g := must(romeo.CreateGroup(ctxShort(t), "", nil))(t)
	must(g.Invite(ctxShort(t), "nurse@"+domain))(t)
	mu.Lock()
	defer mu.Unlock()
	if d := served.Sub(refused); d < wait {
		t.Errorf("asked again after %v", d)
	}
}

// TestSilentService is asked whether it still knows the session.
func TestSilentService(t *testing.T) {
	w := newWorld(t)
	cfg := w.config("juliet", store.NewMemory("juliet@"+domain))
	client.SetPing(&cfg, 100*time.Millisecond)
	juliet := w.start("juliet", cfg)
	pings := func() (n int) {
		for _, r := range w.server.Wire().Records() {
			if r.Kind == loopback.C2S && r.Dir == loopback.In && r.Element.Attr("to") == dsDomain && strings.Contains(r.XML(), stanza.NSPing) {
				n++
			}
		}
		return n
	}
	juliet.until("two pings", func() bool { return pings() >= 2 })
}

// TestLastEventLost loses the event of the last message for good.
func TestLastEventLost(t *testing.T) {
	w := newWorld(t)
	cfg := w.config("romeo", store.NewMemory("romeo@"+domain))
	client.SetPing(&cfg, 100*time.Millisecond)
	juliet, romeo := w.join("juliet"), w.start("romeo", cfg)
	g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	must(g.Invite(ctxShort(t), "romeo@"+domain))(t)
	rg := romeo.group(g.JID())
	sameEpoch(t, g, rg)
	// The invitation has set off a look into the index, which would find it.
	until(t, "romeo has looked", func() bool {
		n := 0
		for _, r := range w.server.Wire().Records() {
			if r.Kind == loopback.C2S && r.Dir == loopback.Out && strings.HasPrefix(r.Element.Attr("to"), "romeo@") && strings.Contains(r.XML(), "<groups ") {
				n++
			}
		}
		return n >= 2
	})
	ok(t, rg.Sync(ctxShort(t)))
	w.server.Fault(loopback.Rule{Action: loopback.Drop, Kind: loopback.C2S, Dir: loopback.Out, Peer: "romeo@" + domain,
		Match: func(e *loopback.Element) bool { return e.Name.Local == "message" }})
	must(g.Send(ctxShort(t), "good night"))(t)
	romeo.hears("good night")
}

// TestStrangeDeviceOfAnAcquaintance adds a device, which its user's server may have
// made, of an account that the members know from another group, and two of one that
// they do not know.
func TestStrangeDeviceOfAnAcquaintance(t *testing.T) {
	w := newWorld(t)
	juliet, nurse := w.join("juliet"), w.join("nurse")
	w.join("romeo")
	p := groupdata.DefaultPolicy()
	p.ExternalJoin = groupdata.NobodyJoins // or the device would come by itself
	first := must(juliet.CreateGroup(ctxShort(t), "", &client.GroupOptions{Policy: &p}))(t)
	must(first.Invite(ctxShort(t), "romeo@"+domain, "nurse@"+domain))(t)
	nurse.group(first.JID())
	second := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	must(second.Invite(ctxShort(t), "nurse@"+domain))(t)
	nurse.group(second.JID())
	ghost := w.join("romeo")
	w.join("mercutio")
	w.join("mercutio")
	res := must(second.Invite(ctxShort(t), "romeo@"+domain, "mercutio@"+domain))(t)
	for _, u := range res.Users {
		for _, d := range u.Devices {
			if want := d.Fingerprint == ghost.Fingerprint(); d.Unmet != want {
				t.Errorf("a device of %s: unmet %v, want %v", u.JID, d.Unmet, want)
			}
		}
	}
	e := sees[*client.NewDevice](nurse)
	if e.Group != second.JID() || e.Own || e.Device.JID != "romeo@"+domain || e.Device.Fingerprint != ghost.Fingerprint() {
		t.Errorf("%+v, want the new device of romeo", e)
	}
	must(second.Send(ctxShort(t), "that is all"))(t)
	nurse.hears("that is all")
	nurse.mu.Lock()
	defer nurse.mu.Unlock()
	n := 0
	for _, e := range nurse.events {
		if _, ok := e.(*client.NewDevice); ok {
			n++
		}
	}
	if n != 1 {
		t.Errorf("told of %d new devices, want 1: both of mercutio are new, and so is he", n)
	}
}

// TestDestroyedForAnother ends a group that names another: nobody goes there by
// himself, and nothing that waited for the handler is lost.
func TestDestroyedForAnother(t *testing.T) {
	w := newWorld(t)
	juliet, romeo, jg, rg := pair(t, w)
	p := groupdata.DefaultPolicy()
	p.ExternalJoin = groupdata.AnyoneJoins
	other := must(juliet.CreateGroup(ctxShort(t), "", &client.GroupOptions{Policy: &p}))(t)
	hold := make(chan struct{})
	romeo.mu.Lock()
	romeo.onMsg = func(_ context.Context, m *client.Message) {
		if m.Body == "one" {
			<-hold
		}
	}
	romeo.mu.Unlock()
	for _, text := range []string{"one", "two", "three"} {
		must(jg.Send(ctxShort(t), text))(t)
	}
	romeo.hears("one")
	ok(t, jg.Destroy(ctxShort(t), "moved", other.JID()))
	romeo.until("the end", func() bool { return !rg.Joined() })
	close(hold)
	romeo.hears("three")
	if e := sees[*client.Destroyed](romeo); e.Alternate != other.JID() || !strings.Contains(e.Reason, "moved") {
		t.Errorf("%+v", e)
	}
	if len(romeo.Groups()) != 0 || len(must(other.Members())(t)) != 1 {
		t.Error("romeo went to the group that was named")
	}
}

// TestFalseKeyPackages has a service that hands out what it should not. The good
// device beside it is added.
func TestFalseKeyPackages(t *testing.T) {
	l, juliet, romeo, _, _ := deceived(t)
	w := juliet.w
	nurse, phone := w.join("nurse"), w.join("nurse")
	key := must(mls.GenerateSignatureKey(1, nil))(t)
	packed := func(account string, device client.DeviceID, cs mls.CipherSuite, change func(kp *mls.KeyPackage)) []byte {
		k := key
		if cs != 1 {
			k = must(mls.GenerateSignatureKey(cs, nil))(t)
		}
		p := must(mls.NewKeyPackage(nil, cs, &mls.Identity{Credential: mls.BasicCredential([]byte(account)), Key: k}, &mls.KeyPackageOptions{DeviceID: device[:]}))(t)
		if change != nil {
			change(p.KeyPackage)
		}
		return p.KeyPackage.Message().Bytes()
	}
	id := nurse.Device()
	spoil := packed("nurse@"+domain, id, 1, nil)
	spoil[len(spoil)-1] ^= 1
	for what, forged := range map[string][]byte{
		"another account's": packed("mallory@"+domain, id, 1, nil),
		"another device's":  packed("nurse@"+domain, client.DeviceID{1}, 1, nil),
		"another suite's":   packed("nurse@"+domain, id, 2, nil),
		"a broken one":      spoil,
		"no key package":    {0, 1, 0, 9},
	} {
		l.tell(func(s *stanza.Stanza, raw []byte) [][]byte {
			el := s.Child(stanza.NSKeyPackages, "claimed")
			if !el.Valid() {
				return [][]byte{raw}
			}
			c, err := stanza.Parse[stanza.Claimed](el)
			if err != nil {
				t.Error(err)
				return [][]byte{raw}
			}
			for i := range c.Users {
				for j := range c.Users[i].Devices {
					if d := &c.Users[i].Devices[j]; d.ID == id {
						d.KeyPackage.Bytes = forged
					}
				}
			}
			h := s.Header()
			return [][]byte{h.Append(nil, &c)}
		})
		g := must(romeo.CreateGroup(ctxShort(t), "", nil))(t)
		res := must(g.Invite(ctxShort(t), "nurse@"+domain))(t)
		if u := res.Users[0]; u.Status != client.InvitePartial || len(u.Devices) != 2 {
			t.Errorf("%s: %+v", what, res.Users)
		}
		for _, m := range must(g.Members())(t) {
			if m.JID != "romeo@"+domain && m.Device != phone.Device() {
				t.Errorf("%s: %s %s was added", what, m.JID, m.Device)
			}
		}
	}
}

// TestGarbageCommit has a service that passes on a commit which nobody can follow:
// it is told with evidence, the member comes back, and the report is what the
// service has seen anyway.
func TestGarbageCommit(t *testing.T) {
	l, juliet, romeo, jg, rg := deceived(t)
	once := true
	l.tell(func(s *stanza.Stanza, raw []byte) [][]byte {
		el := s.Child(stanza.NSDelivery, "delivery")
		if s.Kind != stanza.Message || !el.Valid() || !once {
			return [][]byte{raw}
		}
		d, err := stanza.Parse[stanza.Delivery](el)
		m, err2 := stanza.Parse[stanza.MLS](s.Child(stanza.NSMLS, "mls"))
		if err != nil || err2 != nil || d.Kind != stanza.EntryCommit {
			return [][]byte{raw}
		}
		once = false
		b := bytes.Clone(m.Bytes)
		b[len(b)-1] ^= 1
		return [][]byte{delivery(s, d, b)}
	})
	ok(t, jg.UpdateKeys(ctxShort(t)))
	var e *client.Misbehaved
	romeo.until("the commit that cannot be followed", func() bool {
		for _, ev := range romeo.events {
			if m, is := ev.(*client.Misbehaved); is && strings.Contains(m.Reason, "should have refused") {
				e = m
			}
		}
		return e != nil
	})
	if e.Evidence.Member == nil || e.Evidence.Member.JID != "juliet@"+domain || len(e.Evidence.Message) == 0 || e.Evidence.Seq == 0 {
		t.Errorf("evidence %+v", e.Evidence)
	}
	sees[*client.Rejoined](romeo)
	rg = romeo.group(rg.JID())
	sameEpoch(t, jg, rg)
	at := juliet.w.server.Wire().Last()
	ok(t, rg.ReportEvidence(ctxShort(t), e, "see for yourself"))
	x := reported(t, juliet.w, at)
	for _, want := range []string{"kind='invalid-commit'", fmt.Sprintf("seq='%d'", e.Evidence.Seq), "user='juliet@" + domain + "'", base64.StdEncoding.EncodeToString(e.Evidence.Message), "see for yourself"} {
		if !strings.Contains(x, want) {
			t.Errorf("the report lacks %s: %s", want, x)
		}
	}
	if err := rg.ReportEvidence(ctxShort(t), &client.Joined{EventMeta: client.EventMeta{Group: rg.JID()}}, ""); err == nil {
		t.Error("reported that somebody has joined")
	}
}

// reported is the last report on the wire, with single quotes.
func reported(t *testing.T, w *world, after uint64) string {
	t.Helper()
	x := ""
	for _, r := range w.server.Wire().Since(after) {
		if r.Kind == loopback.C2S && r.Dir == loopback.In && strings.Contains(r.XML(), "<report") {
			x = strings.ReplaceAll(r.XML(), `"`, "'")
		}
	}
	if x == "" {
		t.Fatal("nothing was reported")
	}
	return x
}

// TestReportAbuse shows the operator the place of a message, and its text only if
// the caller wants that.
func TestReportAbuse(t *testing.T) {
	w := newWorld(t)
	_, romeo, jg, rg := pair(t, w)
	must(jg.Send(ctxShort(t), "thou villain"))(t)
	m := romeo.hears("thou villain")
	for _, show := range []bool{false, true} {
		at := w.server.Wire().Last()
		ok(t, rg.ReportAbuse(ctxShort(t), client.AbuseReport{Message: m, Text: "insults me", Reason: client.ReasonSpam, ShowPlaintext: show}))
		x := reported(t, w, at)
		for _, want := range []string{"kind='abuse'", fmt.Sprintf("seq='%d'", m.Seq), "user='juliet@" + domain + "'", stanza.ReasonSpam, "insults me"} {
			if !strings.Contains(x, want) {
				t.Errorf("the report lacks %s: %s", want, x)
			}
		}
		if got := strings.Contains(x, "plaintext"); got != show {
			t.Errorf("plaintext in the report: %v, want %v", got, show)
		}
	}
	if err := rg.ReportAbuse(ctxShort(t), client.AbuseReport{User: "juliet@" + domain, ShowPlaintext: true}); err == nil {
		t.Error("shown the text of no message")
	}
	if err := rg.ReportAbuse(ctxShort(t), client.AbuseReport{}); err == nil {
		t.Error("reported nobody")
	}
}

// TestSwappedGroups gives somebody who joins another group than the one that was
// asked for.
func TestSwappedGroups(t *testing.T) {
	l, _, romeo, _, _ := deceived(t)
	other := must(romeo.CreateGroup(ctxShort(t), "", nil))(t)
	open := groupdata.DefaultPolicy()
	open.ExternalJoin = groupdata.AnyoneJoins
	ok(t, other.SetPolicy(ctxShort(t), open))
	mallory := romeo.w.join("mallory")
	target := must(mallory.CreateGroup(ctxShort(t), "", &client.GroupOptions{Policy: &open}))(t)
	var info *stanza.GroupInfo
	var mu sync.Mutex
	swap := false
	l.tell(func(s *stanza.Stanza, raw []byte) [][]byte {
		el := s.Child(stanza.NSDelivery, "group-info")
		if !el.Valid() {
			return [][]byte{raw}
		}
		mu.Lock()
		defer mu.Unlock()
		gi, err := stanza.Parse[stanza.GroupInfo](el)
		if err != nil {
			return [][]byte{raw}
		}
		if !swap {
			info = &gi
			return [][]byte{raw}
		}
		h := s.Header()
		return [][]byte{h.Append(nil, info)}
	})
	other.Lose("to see its GroupInfo")
	sees[*client.Rejoined](romeo)
	mu.Lock()
	swap = true
	mu.Unlock()
	if _, err := romeo.Join(ctxShort(t), target.JID()); err == nil || !strings.Contains(err.Error(), "swapped") {
		t.Errorf("Join = %v", err)
	}
	if _, joined := romeo.Group(target.JID()); joined {
		t.Error("joined another group under this name")
	}
}

// TestPipelinedPages asks for the next page of the log before the present one has
// been decrypted.
func TestPipelinedPages(t *testing.T) {
	w := newWorld(t)
	cfg := w.config("romeo", store.NewMemory("romeo@"+domain))
	juliet, romeo := w.join("juliet"), w.start("romeo", cfg)
	g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	must(g.Invite(ctxShort(t), "romeo@"+domain))(t)
	romeo.group(g.JID())
	romeo.stop()
	fill(t, g, 600)
	cfg.Store = memoryCopy(cfg.Store)
	release := make(chan struct{})
	var once sync.Once
	client.SetFail(&cfg, func(p string) {
		if p == "processed" {
			once.Do(func() { <-release }) // the first batch stays here
		}
	})
	at := w.server.Wire().Last()
	again := w.prepare("romeo", cfg)
	again.run()
	pages := func() (n int) {
		for _, r := range w.server.Wire().Since(at) {
			if r.Kind == loopback.C2S && r.Dir == loopback.In && strings.HasPrefix(r.Peer, "romeo@") && r.Element.Attr("to") == g.JID() && strings.Contains(r.XML(), "<log") {
				n++
			}
		}
		return n
	}
	again.until("the question for the second page", func() bool { return pages() >= 2 })
	close(release)
	again.until("all of it", func() bool { return len(again.messages) == 600 })
}
