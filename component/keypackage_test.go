// SPDX-License-Identifier: Apache-2.0

package component_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/component"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
)

// TestClaims: each package is handed out once, the last resort again and again,
// and the same claim gets the same answer.
func TestClaims(t *testing.T) {
	s := start(t)
	r := newActor(t, s, romeo, "orchard")
	r.announce()
	r.publish(4)
	seen := make(map[string]bool)
	var mu sync.Mutex
	var wg sync.WaitGroup
	lastResort := 0
	for i := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			a := newActor(t, s, fmt.Sprintf("a%d@capulet.lit", i), "x")
			c := a.claim(balcony, romeo)
			mu.Lock()
			defer mu.Unlock()
			kp := c.Users[0].Devices[0].KeyPackage
			if kp.LastResort {
				lastResort++
			} else if seen[string(kp.Bytes)] {
				t.Error("a one-time package was given out twice")
			}
			seen[string(kp.Bytes)] = true
		}()
	}
	wg.Wait()
	if len(seen) != 4 || lastResort != 5 {
		t.Errorf("%d different packages, %d times the last resort; want 4 and 5", len(seen), lastResort)
	}
	// The owner hears of it.
	r.box().take(t, "<stock", "last-resort-used='1'")
	var count stanza.Count
	r.must(r.get(domain, &stanza.CountQuery{}, &count))
	if len(count.Devices) != 1 || count.Devices[0].Available != 0 || !count.Devices[0].LastResort || count.Devices[0].Expires.IsZero() {
		t.Errorf("the count: %+v", count.Devices)
	}
	r.publish(3)
	a := newActor(t, s, nurse, "x")
	claim := &stanza.ClaimKeyPackages{ClaimID: "c1", For: balcony, CipherSuite: uint16(suite), Users: []stanza.ClaimUser{{JID: romeo}, {JID: "nobody@capulet.lit"}}}
	var first, again stanza.Claimed
	a.must(a.set(domain, claim, &first))
	a.must(a.set(domain, claim, &again))
	if string(first.Users[0].Devices[0].KeyPackage.Bytes) != string(again.Users[0].Devices[0].KeyPackage.Bytes) {
		t.Error("the same claim has two answers")
	}
	if first.Users[1].Status != stanza.ClaimUnavailable {
		t.Errorf("an unknown user is %q", first.Users[1].Status)
	}
	// Suites and capabilities.
	claim = &stanza.ClaimKeyPackages{ClaimID: "c2", For: balcony, CipherSuite: 2, Users: []stanza.ClaimUser{{JID: romeo}}}
	var none stanza.Claimed
	a.must(a.set(domain, claim, &none))
	if none.Users[0].Status != stanza.ClaimIncompatible {
		t.Errorf("another suite: %+v", none.Users[0])
	}
	claim = &stanza.ClaimKeyPackages{ClaimID: "c3", For: balcony, CipherSuite: uint16(suite), Users: []stanza.ClaimUser{{JID: romeo}}, Extensions: []uint16{0xf00d}}
	a.must(a.set(domain, claim, &none))
	if none.Users[0].Status != stanza.ClaimIncompatible {
		t.Errorf("an unknown extension: %+v", none.Users[0])
	}
	claim = &stanza.ClaimKeyPackages{ClaimID: "c4", For: balcony, CipherSuite: uint16(suite), Users: []stanza.ClaimUser{{JID: romeo}},
		Extensions: []uint16{uint16(mls.ExtensionAppDataDictionary)}, Proposals: []uint16{uint16(mls.ProposalSelfRemove)}, Credentials: []uint16{1}}
	a.must(a.set(domain, claim, &none))
	if none.Users[0].Status != stanza.ClaimOK {
		t.Errorf("what every client of ours has: %+v", none.Users[0])
	}
	// Retracting one package, then all.
	var dev stanza.Count
	for _, ref := range [][]byte{nil} {
		_ = ref
		r.must(r.set(domain, &stanza.RetractKeyPackages{Device: r.id}, nil))
		r.must(r.get(domain, &stanza.CountQuery{}, &dev))
		if len(dev.Devices) != 0 {
			t.Errorf("after retraction: %+v", dev.Devices)
		}
	}
}

// TestClaimOneDevice: a claim that names devices takes nothing of the others, and
// the owner is told what is left, not more.
func TestClaimOneDevice(t *testing.T) {
	s := start(t)
	r := newActor(t, s, romeo, "orchard")
	r.announce()
	r.must(r.set(domain, &stanza.PublishKeyPackages{Device: r.id, KeyPackages: []stanza.KeyPackage{r.keyPackage(false), r.keyPackage(false)}}, nil))
	phone := newActor(t, s, romeo, "phone")
	phone.publish(3)
	j := newActor(t, s, juliet, "balcony")
	var c stanza.Claimed
	j.must(j.set(domain, &stanza.ClaimKeyPackages{ClaimID: "c1", For: balcony, CipherSuite: uint16(suite), Users: []stanza.ClaimUser{{JID: romeo, Devices: []stanza.DeviceID{r.id}}}}, &c))
	if u := c.Users[0]; u.Status != stanza.ClaimOK || len(u.Devices) != 1 || u.Devices[0].ID != r.id {
		t.Fatalf("claimed %+v", u)
	}
	r.box().take(t, "<stock", "available='1'", "last-resort='false'")
	var count stanza.Count
	r.must(r.get(domain, &stanza.CountQuery{}, &count))
	for _, d := range count.Devices {
		if want := map[stanza.DeviceID]uint32{r.id: 1, phone.id: 2}[d.ID]; d.Available != want {
			t.Errorf("device %s has %d key packages, want %d", d.ID, d.Available, want)
		}
	}
	j.must(j.set(domain, &stanza.ClaimKeyPackages{ClaimID: "c2", For: balcony, CipherSuite: uint16(suite), Users: []stanza.ClaimUser{{JID: romeo, Devices: []stanza.DeviceID{{1}}}}}, &c))
	if c.Users[0].Status != stanza.ClaimUnavailable {
		t.Errorf("a device that is not there: %+v", c.Users[0])
	}
}

// TestBadKeyPackages are refused on upload, whole batch, with the place of the
// bad one.
func TestBadKeyPackages(t *testing.T) {
	s := start(t)
	r := newActor(t, s, romeo, "orchard")
	good := r.keyPackage(false)
	make := func(o mls.KeyPackageOptions) stanza.KeyPackage {
		if o.DeviceID == nil {
			o.DeviceID = r.id[:]
		}
		kp, err := mls.NewKeyPackage(nil, suite, r.me, &o)
		r.must(err)
		return stanza.KeyPackage{Bytes: kp.KeyPackage.Message().Bytes()}
	}
	broken := stanza.KeyPackage{Bytes: append([]byte(nil), good.Bytes...)}
	broken.Bytes[len(broken.Bytes)-1] ^= 1
	for name, kp := range map[string]stanza.KeyPackage{
		"garbage":                    {Bytes: []byte("x")},
		"a broken signature":         broken,
		"a life of years":            make(mls.KeyPackageOptions{Lifetime: 300 * 24 * time.Hour}),
		"another device":             make(mls.KeyPackageOptions{DeviceID: []byte("0123456789abcdef")}),
		"a short device id":          make(mls.KeyPackageOptions{DeviceID: []byte("x")}),
		"an unmarked last resort":    make(mls.KeyPackageOptions{LastResort: true}),
		"a last resort that is none": {Bytes: make(mls.KeyPackageOptions{}).Bytes, LastResort: true},
	} {
		err := r.set(domain, &stanza.PublishKeyPackages{Device: r.id, KeyPackages: []stanza.KeyPackage{good, kp}}, nil)
		var im *stanza.InvalidMessage
		if !errors.As(err, &im) || im.Index != 1 || im.Part != "key-package" {
			t.Errorf("%s: %v", name, err)
		}
	}
	var count stanza.Count
	r.must(r.get(domain, &stanza.CountQuery{}, &count))
	if len(count.Devices) != 0 {
		t.Errorf("something was kept: %+v", count.Devices)
	}
}

// TestConsent: who may not add somebody learns no more than if there were nobody.
func TestConsent(t *testing.T) {
	s := start(t)
	r := newActor(t, s, romeo, "orchard")
	r.publish(9)
	j, m := newActor(t, s, juliet, "x"), newActor(t, s, mercutio, "x")
	status := func(a *actor) stanza.ClaimStatus { return a.claim(balcony, romeo).Users[0].Status }
	if status(j) != stanza.ClaimOK {
		t.Error("by default anyone may claim")
	}
	var unknown *stanza.Claimed = j.claim(balcony, "nobody@montague.lit")
	r.must(r.set(domain, &stanza.ConsentConfig{Form: *(&stanza.Consent{Policy: stanza.ConsentAllowlist, Allow: []string{juliet}}).Form(stanza.FormSubmit)}, nil))
	if status(j) != stanza.ClaimOK {
		t.Error("juliet is on the list")
	}
	c := m.claim(balcony, romeo)
	if c.Users[0].Status != unknown.Users[0].Status || len(c.Users[0].Devices) != 0 {
		t.Errorf("mercutio is told %+v, of nobody %+v", c.Users[0], unknown.Users[0])
	}
	r.must(r.set(domain, &stanza.ConsentConfig{Form: *(&stanza.Consent{Policy: stanza.ConsentAnyone}).Form(stanza.FormSubmit)}, nil))
	if status(m) != stanza.ClaimOK {
		t.Error("mercutio may claim again")
	}
	r.must(r.set(domain, &stanza.Block{JIDs: []string{"Verona.lit"}}, nil))
	if status(m) != stanza.ClaimUnavailable {
		t.Error("mercutio's domain is blocked")
	}
	var list stanza.BlockList
	r.must(r.get(domain, &stanza.BlockListQuery{}, &list))
	if len(list.JIDs) != 1 || list.JIDs[0] != "verona.lit" {
		t.Errorf("the block list: %q", list.JIDs)
	}
	r.must(r.set(domain, &stanza.Unblock{}, nil))
	if status(m) != stanza.ClaimOK {
		t.Error("mercutio is still blocked")
	}
	if err := r.set(domain, &stanza.ConsentConfig{Form: *(&stanza.Consent{Policy: stanza.ConsentRoster}).Form(stanza.FormSubmit)}, nil); refusal(err).Condition != stanza.FeatureNotImplemented {
		t.Errorf("a roster policy: %v", err)
	}
}

// TestClaimRate: packages cannot be drained.
func TestClaimRate(t *testing.T) {
	s := start(t, func(c *component.Config) {
		c.Limits.Claims = component.Rate{PerSecond: 0.001, Burst: 3}
		c.Limits.Claimed = component.Rate{PerSecond: 0.001, Burst: 4}
	})
	r := newActor(t, s, romeo, "orchard")
	r.publish(20)
	claim := func(by string) error {
		a := newActor(t, s, by, "x")
		return a.set(domain, &stanza.ClaimKeyPackages{ClaimID: newClaimID(), For: balcony, CipherSuite: uint16(suite), Users: []stanza.ClaimUser{{JID: romeo}}}, nil)
	}
	var retry *stanza.RetryAfter
	for i := range 4 {
		if err := claim(mallory); i < 3 && err != nil || i == 3 && !errors.As(err, &retry) {
			t.Errorf("mallory's claim %d: %v", i, err)
		}
	}
	// A second account of that domain gets the rest of the domain's share.
	if err := claim("moll@mantua.example"); err != nil {
		t.Errorf("moll's claim: %v", err)
	}
	if err := claim("moll@mantua.example"); !errors.As(err, &retry) || retry.After <= 0 {
		t.Errorf("moll's second claim: %v", err)
	}
	if err := claim(juliet); err != nil {
		t.Errorf("juliet's claim: %v", err)
	}
}

// TestClaimPages: what does not fit is asked for again, and no package is lost.
func TestClaimPages(t *testing.T) {
	s := start(t, func(c *component.Config) { c.Limits.MaxPage = 2048 })
	var users []stanza.ClaimUser
	for i := range 12 {
		a := newActor(t, s, fmt.Sprintf("u%02d@capulet.lit", i), "x")
		a.publish(2)
		users = append(users, stanza.ClaimUser{JID: a.bare})
	}
	j := newActor(t, s, juliet, "x")
	c := &stanza.ClaimKeyPackages{ClaimID: "c", For: balcony, CipherSuite: uint16(suite), Users: users}
	got, pages := 0, 0
	for {
		var out stanza.Claimed
		j.must(j.set(domain, c, &out))
		pages++
		for _, u := range out.Users {
			if u.JID != users[got].JID || u.Status != stanza.ClaimOK || u.Devices[0].KeyPackage.LastResort {
				t.Errorf("user %d: %s %q", got, u.JID, u.Status)
			}
			got++
		}
		if !out.More {
			break
		}
		c.After = out.Users[len(out.Users)-1].JID
	}
	if got != len(users) || pages < 3 {
		t.Errorf("%d users on %d pages", got, pages)
	}
}
