// SPDX-License-Identifier: Apache-2.0

package component_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-im/lockstep/component"
	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// This file holds what an account, a domain or a stranger can make the service
// keep: never more than limits.go says.

// eventually waits for what another goroutine is about to do.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for range 5000 {
		if ok() {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}

// TestGroupsThatAreNone: requests to groups that do not exist leave nothing
// behind.
func TestGroupsThatAreNone(t *testing.T) {
	s := start(t)
	x := newActor(t, s, mallory, "x")
	for i := range 50 {
		if err := x.set(fmt.Sprintf("none%d@%s", i, domain), &stanza.Destroy{}, nil); refusal(err).Condition != stanza.ItemNotFound {
			t.Fatal(err)
		}
	}
	eventually(t, "nothing is in memory", func() bool { return s.Stats().GroupsLoaded == 0 })
}

// TestLeavesInMemory: large groups push each other out of memory.
func TestLeavesInMemory(t *testing.T) {
	s := start(t, func(c *component.Config) { c.Limits.CachedLeaves = 3 })
	a := newActor(t, s, juliet, "balcony")
	for i := range 6 {
		jid := fmt.Sprintf("g%d@%s", i, domain)
		a.create(jid)
		_, err := a.commit(jid, mls.CommitOptions{ForcePath: true})
		a.must(err)
	}
	eventually(t, "three groups of one leaf are in memory", func() bool { return s.Stats().GroupsLoaded == 3 })
}

// TestCostOfTags: what is under way is counted by what it takes, not by its
// length.
func TestCostOfTags(t *testing.T) {
	s := start(t, func(c *component.Config) { c.Limits.MaxInFlight = 100 << 10 })
	x := newActor(t, s, mallory, "x")
	ask := func(id, inner string) string {
		s.write("<iq type='get' id='" + id + "' from='" + x.full + "' to='" + domain + "'><ping xmlns='urn:xmpp:ping'>" + inner + "</ping></iq>")
		return x.box().take(t, "id='"+id+"'")
	}
	if raw := ask("text", strings.Repeat("x", 12_000)); strings.Contains(raw, "resource-constraint") {
		t.Errorf("12 kB of text: %s", raw)
	}
	if raw := ask("tags", strings.Repeat("<a/>", 3_000)); !strings.Contains(raw, "resource-constraint") {
		t.Errorf("12 kB of tags, which take %d times as much: %s", 20, raw)
	}
}

// TestAnswerThatIsTooLarge: there is an answer all the same.
func TestAnswerThatIsTooLarge(t *testing.T) {
	s := start(t, func(c *component.Config) { c.Limits.MaxStanza, c.Limits.MaxPage = 10_000, 1024 })
	for range 20 {
		r := newActor(t, s, romeo, "orchard")
		r.publish(1)
	}
	j := newActor(t, s, juliet, "balcony")
	err := j.set(domain, &stanza.ClaimKeyPackages{ClaimID: "c", For: balcony, CipherSuite: uint16(suite), Users: []stanza.ClaimUser{{JID: romeo}}}, nil)
	if refusal(err).Condition != stanza.NotAcceptable {
		t.Errorf("an answer of more than 10,000 bytes: %v", err)
	}
}

// TestDevicesOfSessions: an account that opens sessions as ever new devices
// keeps no more of them than it may have, and can go on.
func TestDevicesOfSessions(t *testing.T) {
	s := start(t, func(c *component.Config) { c.Limits.MaxDevices = 3 })
	keeper := newActor(t, s, romeo, "orchard")
	keeper.publish(2)
	for range 8 {
		r := newActor(t, s, romeo, "street")
		r.announce()
	}
	var list stanza.Devices
	keeper.must(keeper.get(domain, &stanza.DevicesQuery{}, &list))
	there := false
	for _, d := range list.Items {
		there = there || d.ID == keeper.id
	}
	if len(list.Items) != 3 || !there {
		t.Errorf("romeo's devices: %+v", list.Items)
	}
	// With key packages on all of them there is no room.
	for i := range 3 {
		r := newActor(t, s, mercutio, fmt.Sprint(i))
		r.publish(2)
	}
	m := newActor(t, s, mercutio, "more")
	err := m.set(domain, &stanza.PublishKeyPackages{Device: m.id, KeyPackages: []stanza.KeyPackage{m.keyPackage(false)}}, nil)
	if refusal(err).Condition != stanza.NotAcceptable {
		t.Errorf("a fourth device publishes: %v", err)
	}
}

// TestSessionsOfDomain: one domain cannot fill the table of sessions; local
// accounts do not count.
func TestSessionsOfDomain(t *testing.T) {
	s := start(t, func(c *component.Config) { c.Limits.DomainSessions = 2 })
	open := func(who string) *actor {
		a := newActor(t, s, who, "x")
		h := stanza.Header{Kind: stanza.Presence, From: a.full, To: domain}
		s.write(string(h.Append(nil, &stanza.Session{Device: a.id})))
		return a
	}
	for i := range 2 {
		a := open(fmt.Sprintf("u%d@mantua.example", i))
		a.box().take(t, "<ready")
		l := open(fmt.Sprintf("u%d@capulet.lit", i))
		l.box().take(t, "<ready")
	}
	open("u2@mantua.example").box().take(t, "type='error'", "resource-constraint")
	open("u1@mantua.example").box().take(t, "<ready") // it has one
	open("u2@capulet.lit").box().take(t, "<ready")
	gone := newActor(t, s, "u0@mantua.example", "x")
	gone.leaveSession()
	eventually(t, "the session ends", func() bool { return s.Stats().Sessions == 4 })
	open("u2@mantua.example").box().take(t, "<ready")
}

// TestKeyPackagesOfDomain: the accounts of one other domain cannot fill the store with key
// packages; those of local accounts do not count.
func TestKeyPackagesOfDomain(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := start(t, func(c *component.Config) { c.Limits.DomainKeyPackages, c.Registry = 5, reg })
	publish := func(who string) (*actor, error) {
		a := newActor(t, s, who, "x")
		p := &stanza.PublishKeyPackages{Device: a.id, KeyPackages: []stanza.KeyPackage{a.keyPackage(false), a.keyPackage(false)}}
		return a, a.set(domain, p, nil)
	}
	var first *actor
	for i := range 2 {
		a, err := publish(fmt.Sprintf("u%d@mantua.example", i))
		a.must(err)
		first = a
		l, err := publish(fmt.Sprintf("u%d@capulet.lit", i))
		l.must(err)
	}
	full := func(want bool) {
		t.Helper()
		_, err := publish("another@mantua.example")
		if e := refusal(err); (e.Condition == stanza.ResourceConstraint && e.Type == stanza.ErrorWait) != want || !want && err != nil {
			t.Errorf("two more of the domain: %v, want it full: %v", err, want)
		}
	}
	full(true)
	s.CountDomains(t.Context())
	full(true)
	if n := gauge(t, reg, "lockstep_stored", "domain_key_packages"); n != 4 {
		t.Errorf("the domain that has most has %v", n)
	}
	a, err := publish("u@verona.example")
	a.must(err)
	// What is gone is counted no more, the next time.
	first.must(first.set(domain, &stanza.RetractKeyPackages{Device: first.id}, nil))
	s.CountDomains(t.Context())
	full(false)
}

// TestInbox: another service cannot fill the inbox of a device.
func TestInbox(t *testing.T) {
	s := start(t, func(c *component.Config) { c.Limits.MaxWelcomes = 2 })
	r := newActor(t, s, romeo, "orchard")
	r.publish(1)
	alice := newActor(t, s, "alice@other.example", "bot")
	var last error
	for i := range 5 {
		far := fmt.Sprintf("far%d@%s", i, other)
		ref, err := claimed(t, alice.claim(far, romeo))[0].Ref()
		alice.must(err)
		last = s.request(other, domain, stanza.TypeSet, &stanza.Welcome{Group: far, Epoch: 7, Seq: 40, KeyPackageRef: ref, User: romeo, Bytes: []byte("w")}, nil)
	}
	if refusal(last).Condition != stanza.ResourceConstraint {
		t.Errorf("the fifth welcome: %v", last)
	}
	var list stanza.Welcomes
	r.must(r.get(domain, &stanza.WelcomesQuery{Device: r.id}, &list))
	if len(list.Items) != 3 {
		t.Errorf("%d welcomes wait", len(list.Items))
	}
}

// TestInvitations: an account cannot make the service write to as many people
// as it likes.
func TestInvitations(t *testing.T) {
	s := start(t, func(c *component.Config) { c.Limits.Invites = component.Rate{PerSecond: 0.001, Burst: 2} })
	j := newActor(t, s, juliet, "balcony")
	j.create(balcony)
	strangers := func(n int) (kps []*mls.KeyPackage) {
		for i := range n {
			m, err := mls.ParseMessage(newActor(t, s, fmt.Sprintf("v%d@victim.example", i), "x").keyPackage(false).Bytes)
			j.must(err)
			kps = append(kps, m.KeyPackage)
		}
		return kps
	}
	_, err := j.commit(balcony, mls.CommitOptions{Add: strangers(2)})
	j.must(err)
	if _, err := j.commit(balcony, mls.CommitOptions{Add: strangers(3)[2:]}); refusal(err).Condition != stanza.ResourceConstraint {
		t.Errorf("a third invitation: %v", err)
	}
	// Who has given a key package for the group was asked.
	r := newActor(t, s, romeo, "orchard")
	r.publish(2)
	j.add(balcony, romeo)
}

// TestPagesOfClaim: users that did not fit are paid for once.
func TestPagesOfClaim(t *testing.T) {
	s := start(t, func(c *component.Config) {
		c.Limits.MaxPage = 1024 // two users
		c.Limits.Claims, c.Limits.DomainClaims = component.Rate{PerSecond: 0.001, Burst: 8}, component.Rate{PerSecond: 0.001, Burst: 8}
	})
	claim := &stanza.ClaimKeyPackages{ClaimID: "c", For: balcony, CipherSuite: uint16(suite)}
	for i := range 8 {
		r := newActor(t, s, fmt.Sprintf("u%d@capulet.lit", i), "x")
		r.publish(2)
		claim.Users = append(claim.Users, stanza.ClaimUser{JID: r.bare})
	}
	for _, who := range []string{juliet, romeo} { // of this domain, and of another
		j := newActor(t, s, who, "x")
		pages, users := 0, 0
		for c := *claim; ; pages++ {
			var out stanza.Claimed
			if err := j.set(domain, &c, &out); err != nil {
				t.Fatalf("%s, page %d, after %d users: %v", who, pages, users, err)
			}
			users += len(out.Users)
			if !out.More {
				break
			}
			c.After = out.Users[len(out.Users)-1].JID
		}
		if users != 8 || pages < 3 {
			t.Errorf("%s: %d users on %d pages", who, users, pages+1)
		}
	}
}

// TestSlowDomain: however many welcomes wait for a domain that does not answer,
// those for others get through.
func TestSlowDomain(t *testing.T) {
	s := start(t)
	j := newActor(t, s, juliet, "balcony")
	j.create(balcony)
	soon := time.Now().Add(-time.Hour)
	put := func(n int, user string) {
		j.must(s.store.Update(context.Background(), func(tx store.Tx) error {
			return tx.PutWelcome(&store.Welcome{KPRef: fmt.Appendf(nil, "kp%d", n), Group: balcony, User: user, Device: fmt.Sprintf("%032x", n),
				Secrets: []byte("s"), Info: []byte("i"), Expires: time.Now().Add(24 * time.Hour), NotifyAt: soon})
		}))
	}
	for i := range 300 {
		put(i, fmt.Sprintf("u%d@slow.example", i))
	}
	soon = soon.Add(time.Minute)
	put(1000, "carol@other.example")
	s.box("carol@other.example").take(t, "pubsub")
	if n := s.box("slow.example").count("<iq"); n > 8 {
		t.Errorf("%d requests to the slow domain at once", n)
	}
}

// TestTreesAreWork: who asks for one tree after another pays for the work, who
// asks for one again does not.
func TestTreesAreWork(t *testing.T) {
	s := start(t, func(c *component.Config) { c.Limits.Bytes = component.Rate{PerSecond: 0.001, Burst: 400_000} })
	open := groupdata.DefaultPolicy()
	open.ExternalJoin = groupdata.AnyoneJoins
	j := newActor(t, s, juliet, "balcony")
	for i := range 30 {
		jid := fmt.Sprintf("g%d@%s", i, domain)
		j.must(j.createAs(jid, j.newGroup(jid, groupdata.Public, open)))
	}
	again, greedy := newActor(t, s, romeo, "x"), newActor(t, s, mallory, "x")
	for range 30 {
		again.must(again.get("g0@"+domain, &stanza.GroupInfoQuery{}, nil))
	}
	got := 0
	for i := range 30 {
		if err := greedy.get(fmt.Sprintf("g%d@%s", i, domain), &stanza.GroupInfoQuery{}, nil); err == nil {
			got++
		} else if refusal(err).Condition != stanza.ResourceConstraint {
			t.Fatal(err)
		}
	}
	if got < 5 || got > 25 {
		t.Errorf("%d trees of 30", got)
	}
}

// TestReservations leave nothing behind.
func TestReservations(t *testing.T) {
	now := time.Now()
	var ahead atomic.Int64
	s := start(t, func(c *component.Config) {
		c.RandomNames = true
		c.Time = func() time.Time { return now.Add(time.Duration(ahead.Load())) }
	})
	j := newActor(t, s, juliet, "balcony")
	var first stanza.Reserved
	j.must(j.set(domain, &stanza.ReserveGroup{}, &first))
	ahead.Store(int64(time.Hour))
	if err := j.createAs(first.JID, j.newGroup(first.JID, groupdata.Public, groupdata.DefaultPolicy())); refusal(err).Condition != stanza.NotAllowed {
		t.Errorf("an hour later: %v", err)
	}
	var second stanza.Reserved
	j.must(j.set(domain, &stanza.ReserveGroup{}, &second))
	j.must(s.store.View(context.Background(), func(rd store.Reader) error {
		list, err := rd.Settings(juliet, "reserved/")
		if len(list) != 1 {
			t.Errorf("the service remembers %d names", len(list))
		}
		return err
	}))
	g := j.newGroup(second.JID, groupdata.Public, groupdata.DefaultPolicy())
	gi, err := g.GroupInfo(&mls.GroupInfoOptions{ExternalPub: true, InlineTree: true})
	j.must(err)
	local, _, _ := strings.Cut(second.JID, "@")
	for range 2 { // the second time as if the answer had been lost
		j.must(j.set(domain, &stanza.CreateGroup{Local: local, GroupInfo: stanza.Object{Bytes: gi.Bytes()}}, nil))
	}
}

// TestQuotaIsOnesOwn: an account's quota is used up by the groups that it makes,
// and not by those in which others call it an owner.
func TestQuotaIsOnesOwn(t *testing.T) {
	s := start(t, func(c *component.Config) { c.Limits.MaxGroups = 2 })
	tybalt := newActor(t, s, "tybalt@capulet.lit", "street")
	create := func(a *actor, jid, friend string) error {
		data, err := (&groupdata.Group{JID: jid, Name: "x", Handshake: groupdata.Public}).Encode()
		a.must(err)
		r := groupdata.NewRoles(a.bare, groupdata.DefaultPolicy())
		if friend != "" {
			r = r.With(friend, groupdata.Owner)
		}
		roles, err := r.Encode()
		a.must(err)
		g, err := mls.NewGroup(nil, suite, nil, a.me, &mls.GroupOptions{DeviceID: a.id[:],
			Extensions: mls.Extensions{mls.AppData{}.With(groupdata.ComponentGroup, data).With(groupdata.ComponentRoles, roles).Extension()}})
		a.must(err)
		return a.createAs(jid, g)
	}
	for i := range 2 {
		tybalt.must(create(tybalt, fmt.Sprintf("trap%d@%s", i, domain), juliet))
	}
	if err := create(tybalt, "more@"+domain, juliet); refusal(err).Condition != stanza.ResourceConstraint {
		t.Errorf("a third group of tybalt's: %v", err)
	}
	j := newActor(t, s, juliet, "balcony")
	for i := range 2 {
		j.must(create(j, fmt.Sprintf("own%d@%s", i, domain), ""))
	}
	if err := create(j, "more@"+domain, ""); refusal(err).Condition != stanza.ResourceConstraint {
		t.Errorf("a third group of juliet's: %v", err)
	}
}

// TestShareOfFlight: while the store hangs, one account cannot take the room of all, and
// neither can another domain with many of them.
func TestShareOfFlight(t *testing.T) {
	f := &faulty{}
	s := start(t, func(c *component.Config) {
		f.Store = c.Store
		c.Store, c.Limits.MaxInFlight = f, 4<<20
		c.Limits.Bytes, c.Limits.DomainBytes = component.Rate{PerSecond: -1}, component.Rate{PerSecond: -1}
	})
	gate := make(chan struct{})
	f.hang.Store(&gate)
	defer func() { f.hang.Store(nil); close(gate) }()
	flood := func(from string, i int) {
		h := stanza.Header{Kind: stanza.IQ, Type: stanza.TypeGet, ID: fmt.Sprint("f", i), From: from, To: domain}
		s.write(strings.Replace(string(h.Append(nil, &stanza.CountQuery{})), "/></iq>", "><x>"+strings.Repeat("y", 20_000)+"</x></count></iq>", 1))
	}
	served := func(who string) {
		t.Helper()
		a := newActor(t, s, who, "balcony")
		big := stanza.Header{Kind: stanza.IQ, Type: stanza.TypeGet, ID: "big", From: a.full, To: domain}
		s.write(strings.Replace(string(big.Append(nil, &stanza.VersionQuery{})), "/></iq>", "><x>"+strings.Repeat("y", 400_000)+"</x></query></iq>", 1))
		a.box().take(t, "id='big'", "type='result'")
	}
	for i := range 300 { // 6 MB
		flood("mallory@capulet.lit/x", i)
	}
	served(juliet)
	for i := range 300 {
		flood(fmt.Sprintf("mallory%d@mantua.example/x", i%20), i)
	}
	served(juliet)
	served(romeo)
	if n := s.Stats().InFlight; n < 2<<20 || n > 4<<20 {
		t.Errorf("%d bytes are in flight: there was no flood", n)
	}
}

// TestPresencesThatWait: what waits behind a store that hangs is bounded, and
// does not count against others.
func TestPresencesThatWait(t *testing.T) {
	f := &faulty{}
	s := start(t, func(c *component.Config) {
		f.Store = c.Store
		c.Store, c.Limits.MaxInFlight = f, 4<<20
		c.Limits.Bytes = component.Rate{PerSecond: -1}
	})
	gate := make(chan struct{})
	f.hang.Store(&gate)
	var once sync.Once
	free := func() { once.Do(func() { f.hang.Store(nil); close(gate) }) }
	defer free()
	m := newActor(t, s, mallory, "x")
	h := stanza.Header{Kind: stanza.Presence, From: m.full, To: domain}
	open := string(h.Append(nil, &stanza.Session{Device: m.id}))
	s.write(open)
	fill := strings.Repeat("y", 400_000)
	for _, typ := range []string{"unavailable", "error", "unsubscribed"} {
		for range 20 {
			s.write("<presence type='" + typ + "' from='" + m.full + "' to='" + domain + "'><status>" + fill + "</status></presence>")
		}
	}
	for range 20 {
		s.write(strings.Replace(open, "</presence>", "<status>"+fill+"</status></presence>", 1))
	}
	j := newActor(t, s, juliet, "balcony")
	j.must(j.get(domain, &stanza.VersionQuery{}, nil))
	if n := s.Stats().InFlight; n > 4<<20 {
		t.Errorf("%d bytes wait", n)
	}
	free()
	s.box(m.full).take(t, "<presence", "type='error'", "resource-constraint")
}

// TestUploadsAreWork: a large upload that is named again and again is paid for
// each time, as if it came again.
func TestUploadsAreWork(t *testing.T) {
	s := start(t, func(c *component.Config) { c.Limits.Bytes = component.Rate{PerSecond: 0.001, Burst: 1_000_000} })
	j, _ := pair(t, s)
	_ = j
	m := newActor(t, s, "tybalt@capulet.lit", "x")
	big := make([]byte, 90_000)
	for at := 0; at < len(big); at += 30_000 {
		m.must(m.set(domain, &stanza.Stage{ID: "u", Part: stanza.StageWelcome, Offset: uint64(at), Total: uint64(len(big)), SHA256: stanza.MessageRef(big), Bytes: big[at : at+30_000]}, nil))
	}
	p := j.pending(mls.CommitOptions{ForcePath: true})
	got := 0
	for range 30 {
		c := submission(p, 1)
		c.Welcome = stanza.Object{Stage: "u"}
		err := m.set(balcony, c, nil)
		if refusal(err).Condition == stanza.ResourceConstraint {
			break
		}
		got++
	}
	if got > 12 {
		t.Errorf("an upload was read %d times", got)
	}
}

// TestManyPending: the refusal that names pending proposals fits a stanza, how
// many there may be.
func TestManyPending(t *testing.T) {
	s := start(t, func(c *component.Config) { c.Limits.MaxStanza = 74_000 })
	j, r := pair(t, s)
	_ = r
	m := newActor(t, s, mercutio, "street")
	msg, err := mls.ParseMessage(m.keyPackage(false).Bytes)
	m.must(err)
	propose := func(i int) error {
		p, _, err := j.g.ProposeAdd(msg.KeyPackage, &mls.ProposeOptions{AAD: fmt.Append(nil, i)})
		j.must(err)
		return j.set(balcony, &stanza.Proposal{Epoch: 1, Ref: stanza.MessageRef(p.Bytes()), Bytes: p.Bytes()}, nil)
	}
	for i := range 200 {
		j.must(propose(i))
	}
	var must *stanza.MustCommit
	if err := propose(200); !errors.As(err, &must) || len(must.Proposals) == 0 {
		t.Errorf("one proposal too many: %v", err)
	}
}

// TestListsAreWork: a page of a large group's devices or affiliations is made
// from all of them, and who asks for one after another pays for that.
func TestListsAreWork(t *testing.T) {
	s := start(t, func(c *component.Config) { c.Limits.Bytes = component.Rate{PerSecond: 0.001, Burst: 1_000_000} })
	_, jid := benchGroup(t, s.store, groupdata.Public, 0, 1000)
	for name, q := range map[string]stanza.Payload{"devices": &stanza.DevicesQuery{}, "affiliations": &stanza.AffiliationsQuery{}} {
		j := newActor(t, s, juliet, "balcony")
		if name == "affiliations" {
			j.bare, j.full = "u1@capulet.lit", "u1@capulet.lit/x"
		}
		got := 0
		for range 100 {
			err := j.get(jid, q, nil)
			if refusal(err).Condition == stanza.ResourceConstraint {
				break
			}
			j.must(err)
			got++
		}
		if got < 5 || got > 40 {
			t.Errorf("%d pages of %s", got, name)
		}
	}
}

// TestPiecesAreWork: each piece of something large is cut from the whole, which
// has to be read for it.
func TestPiecesAreWork(t *testing.T) {
	s := start(t, func(c *component.Config) { c.Limits.Bytes = component.Rate{PerSecond: 0.001, Burst: 1_000_000} })
	r := newActor(t, s, romeo, "orchard")
	r.must(s.store.Update(context.Background(), func(tx store.Tx) error {
		if err := tx.TouchDevice(romeo, r.id.String(), time.Now()); err != nil {
			return err
		}
		return tx.PutWelcome(&store.Welcome{KPRef: []byte("kp"), Group: "ops@mls.verona.lit", User: romeo, Device: r.id.String(), Remote: true,
			Secrets: make([]byte, 2<<20), Expires: time.Now().Add(24 * time.Hour)})
	}))
	got := 0
	for range 200 {
		err := r.get(domain, &stanza.WelcomeQuery{KeyPackageRef: []byte("kp"), MaxBytes: 1024}, nil)
		if refusal(err).Condition == stanza.ResourceConstraint {
			break
		}
		r.must(err)
		got++
	}
	if got < 5 || got > 150 {
		t.Errorf("%d pieces", got)
	}
}

// TestBansAreBounded: each ban is kept with the group, and read with it.
func TestBansAreBounded(t *testing.T) {
	s := start(t)
	j, _ := pair(t, s)
	j.must(s.store.Update(context.Background(), func(tx store.Tx) error {
		row, err := tx.Group(balcony)
		if err != nil {
			return err
		}
		var list []store.Affiliation
		for i := range 2000 {
			list = append(list, store.Affiliation{User: fmt.Sprintf("u%d@mantua.example", i), Value: store.AffiliationOutcast})
		}
		_, err = tx.UpdateGroup(row.Key, row.Rev, store.GroupChange{Roles: list})
		return err
	}))
	ban := func(who string) error {
		return j.set(balcony, &stanza.Affiliation{JID: who, Affiliation: stanza.RoleOutcast}, nil)
	}
	if err := ban(mallory); refusal(err).Condition != stanza.NotAcceptable {
		t.Errorf("one ban more: %v", err)
	}
	j.must(ban("u7@mantua.example")) // changes nothing
}
