// SPDX-License-Identifier: Apache-2.0

package component_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/component"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
)

// TestBounceEndsSession: a full JID that is gone gets no more events, and its
// device stays a member.
func TestBounceEndsSession(t *testing.T) {
	s := start(t)
	j, r := pair(t, s)
	_, err := j.sendText(balcony, "one")
	j.must(err)
	r.event(balcony, "application")
	s.write("<message type='error' from='" + r.full + "' to='" + balcony + "'><error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>")
	if err := r.get(domain, &stanza.Ping{}, nil); refusal(err).Condition != stanza.NotAcceptable {
		t.Errorf("a ping without a session: %v", err)
	}
	_, err = j.sendText(balcony, "two")
	j.must(err)
	if _, ok := r.box().tryTake(100*time.Millisecond, "kind='application'"); ok {
		t.Error("an event after the bounce")
	}
	r.announce()
	r.must(r.get(domain, &stanza.Ping{}, nil))
	r.seq = 1
	if got := r.catchUp(balcony); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("romeo has %q", got)
	}
	// Nobody ends a session of another account.
	s.write("<message type='error' from='" + mallory + "/x' to='" + balcony + "'><error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>")
	s.write("<presence type='unavailable' from='" + romeo + "/other' to='" + domain + "'/>")
	r.must(r.get(domain, &stanza.Ping{}, nil))
}

// TestComeAndGone: a session that ends before it was opened does not stay.
func TestComeAndGone(t *testing.T) {
	s := start(t)
	a := newActor(t, s, romeo, "orchard")
	h := stanza.Header{Kind: stanza.Presence, From: a.full, To: domain}
	for range 50 {
		s.write(string(h.Append(nil, &stanza.Session{Device: a.id})) + "<presence type='unavailable' from='" + a.full + "' to='" + domain + "'/>")
	}
	if err := a.get(domain, &stanza.Ping{}, nil); refusal(err).Condition != stanza.NotAcceptable {
		t.Errorf("the session is still there: %v", err)
	}
}

// TestLeavingARoom: a client that leaves a group as if it were a chat room keeps
// its session with the service.
func TestLeavingARoom(t *testing.T) {
	s := start(t)
	_, r := pair(t, s)
	s.write("<presence type='unavailable' from='" + r.full + "' to='" + balcony + "/romeo'/>")
	s.write("<presence type='error' from='" + r.full + "' to='" + balcony + "'><error type='cancel'/></presence>")
	r.must(r.get(domain, &stanza.Ping{}, nil))
	s.write("<presence type='unavailable' from='" + r.full + "' to='" + domain + "'/>")
	if err := r.get(domain, &stanza.Ping{}, nil); refusal(err).Condition != stanza.NotAcceptable {
		t.Errorf("the session is still there: %v", err)
	}
}

// TestOneNudge: an absent account gets one stored message, from the service, that
// names no group, and no second one before it has synchronised.
func TestOneNudge(t *testing.T) {
	s := start(t)
	j, r := pair(t, s)
	r.leaveSession()
	if err := r.get(domain, &stanza.Ping{}, nil); refusal(err).Condition != stanza.NotAcceptable {
		t.Fatalf("the session is still there: %v", err)
	}
	for range 5 {
		_, err := j.sendText(balcony, "wake")
		j.must(err)
	}
	raw := s.box(romeo).take(t, "<nudge", "type='normal'")
	if strings.Contains(raw, "balcony") || !strings.Contains(raw, "from='"+domain+"'") || !strings.Contains(raw, "<store ") || !strings.Contains(raw, "New encrypted message") {
		t.Errorf("the nudge: %s", raw)
	}
	_, err := j.sendText(balcony, "again")
	j.must(err)
	if raw, ok := s.box(romeo).tryTake(1500*time.Millisecond, "<nudge"); ok {
		t.Errorf("a second nudge: %s", raw)
	}
	// After it has synchronised it is called again.
	r.announce()
	r.leaveSession()
	r.get(domain, &stanza.Ping{}, nil)
	_, err = j.sendText(balcony, "and again")
	j.must(err)
	s.box(romeo).take(t, "<nudge")
}

// TestNudgeWishes: polling users and muted groups are left in peace.
func TestNudgeWishes(t *testing.T) {
	s := start(t)
	j, r := pair(t, s)
	r.must(r.set(domain, &stanza.Nudges{Mode: stanza.NudgePush, Muted: []string{balcony}}, nil))
	var n stanza.Nudges
	r.must(r.get(domain, &stanza.NudgesQuery{}, &n))
	if n.Mode != stanza.NudgePush || !slices.Equal(n.Muted, []string{balcony}) {
		t.Errorf("the wishes: %+v", n)
	}
	r.leaveSession()
	r.get(domain, &stanza.Ping{}, nil)
	_, err := j.sendText(balcony, "psst")
	j.must(err)
	if raw, ok := s.box(romeo).tryTake(1500*time.Millisecond, "<nudge"); ok {
		t.Errorf("a nudge from a muted group: %s", raw)
	}
}

// TestPollingMode sends no nudge to anybody.
func TestPollingMode(t *testing.T) {
	s := start(t, func(c *component.Config) { c.Nudge = component.NudgeOff })
	j, r := pair(t, s)
	r.leaveSession()
	r.get(domain, &stanza.Ping{}, nil)
	_, err := j.sendText(balcony, "psst")
	j.must(err)
	if raw, ok := s.box(romeo).tryTake(1500*time.Millisecond, "<nudge"); ok {
		t.Errorf("a nudge in polling mode: %s", raw)
	}
}

// TestRestart: after a restart the service goes on where it was, and asks the
// sessions that it remembers to come back.
func TestRestart(t *testing.T) {
	s := start(t)
	j, r := pair(t, s)
	before, err := j.sendText(balcony, "before")
	j.must(err)
	s.stop()
	s.run(t)
	j.box().take(t, "<resume")
	r.box().take(t, "<resume")
	r.announce()
	_, err = j.sendText(balcony, "after")
	j.must(err)
	r.seq = 1
	if got := r.catchUp(balcony); !slices.Equal(got, []string{"before", "after"}) {
		t.Errorf("romeo has %q", got)
	}
	_, err = r.commit(balcony, mls.CommitOptions{ForcePath: true})
	r.must(err)
	j.seq = before.Seq + 1
	j.catchUp(balcony)
	sameEpoch(t, j, r)
}

// TestLinkCut: a broken link comes back by itself, and what was under way is
// found by its ref.
func TestLinkCut(t *testing.T) {
	s := start(t)
	j, r := pair(t, s)
	for i := range 5 {
		m, err := j.g.Seal(fmt.Append(nil, "message ", i), nil)
		j.must(err)
		p := &stanza.Send{Epoch: 1, Ref: stanza.MessageRef(m.Bytes()), Message: stanza.MLS{Bytes: m.Bytes()}}
		h := stanza.Header{Kind: stanza.IQ, Type: stanza.TypeSet, ID: fmt.Sprintf("cut%d", nextID()), From: j.full, To: balcony}
		s.write(string(h.Append(nil, p)))
		s.cut()
		var acc stanza.Accepted
		j.must(j.set(balcony, p, &acc))
		if acc.Seq != uint64(2+i) {
			t.Fatalf("message %d is entry %d", i, acc.Seq)
		}
	}
	r.seq = 1
	if got := r.catchUp(balcony); len(got) != 5 || got[4] != "message 4" {
		t.Errorf("romeo has %q", got)
	}
}

// TestShutdownDrains: what was taken is answered before the end.
func TestShutdownDrains(t *testing.T) {
	s := start(t)
	j, _ := pair(t, s)
	const n = 20
	var ids []string
	for range n {
		m, err := j.g.Seal([]byte("last words"), nil)
		j.must(err)
		p := &stanza.Send{Epoch: 1, Ref: stanza.MessageRef(m.Bytes()), Message: stanza.MLS{Bytes: m.Bytes()}}
		id := fmt.Sprintf("drain%d", nextID())
		h := stanza.Header{Kind: stanza.IQ, Type: stanza.TypeSet, ID: id, From: j.full, To: balcony}
		s.write(string(h.Append(nil, p)))
		ids = append(ids, id)
	}
	s.stop()
	for _, id := range ids {
		if _, ok := j.box().tryTake(time.Second, "id='"+id+"'"); !ok {
			t.Errorf("request %s has no answer", id)
		}
	}
}

// TestMutedAndOther: who has muted one group is still called for another.
func TestMutedAndOther(t *testing.T) {
	for _, together := range []bool{false, true} {
		s := start(t)
		j, r := pair(t, s)
		const orchard = "orchard@" + domain
		k := newActor(t, s, nurse, "kitchen")
		k.create(orchard)
		k.add(orchard, romeo)
		r.must(r.set(domain, &stanza.Nudges{Mode: stanza.NudgePush, Muted: []string{balcony}}, nil))
		r.leaveSession()
		r.get(domain, &stanza.Ping{}, nil)
		if together { // both before the first is looked at
			_, err := k.sendText(orchard, "come")
			k.must(err)
		}
		_, err := j.sendText(balcony, "psst")
		j.must(err)
		if !together {
			time.Sleep(300 * time.Millisecond)
			_, err := k.sendText(orchard, "come")
			k.must(err)
		}
		s.box(romeo).take(t, "<nudge")
		s.stop()
	}
}

// TestMissedEvent: an event that went to a session which had ended, and nobody
// knew yet, calls its account after all.
func TestMissedEvent(t *testing.T) {
	var ahead atomic.Int64
	s := start(t, func(c *component.Config) {
		c.Time = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	j, r := pair(t, s)
	gone := func(a *actor) {
		a.leaveSession()
		a.get(domain, &stanza.Ping{}, nil)
	}
	called := func(name string, want bool) {
		t.Helper()
		wait := 1500 * time.Millisecond
		if want {
			wait = patience
		}
		if _, got := s.box(romeo).tryTake(wait, "<nudge"); got != want {
			t.Errorf("%s: called is %v", name, got)
		}
	}
	say := func(a *actor) {
		t.Helper()
		a.must(a.set(balcony, &stanza.Ack{Device: a.id, Seq: 1 << 40}, nil)) // all that was there
		_, err := a.sendText(balcony, "x")
		a.must(err)
	}
	bounce := func(to string) {
		s.write("<message type='error' from='" + r.full + "' to='" + to + "'><error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>")
		r.get(domain, &stanza.Ping{}, nil)
	}
	read := func() { r.must(r.set(balcony, &stanza.Ack{Device: r.id, Seq: 1 << 40}, nil)) }

	say(j)
	gone(r)
	called("he has read nothing of it", true)

	r.announce()
	read()
	gone(r)
	called("he has read it", false)

	r.announce()
	say(r)
	gone(r)
	called("he said it himself", false)
	say(r)
	called("he says it without a session", false)

	r.announce()
	say(j)
	say(r)
	read()
	ahead.Add(int64(time.Minute))
	say(j)
	say(r)
	ahead.Add(int64(time.Minute))
	gone(r)
	called("it was long ago", false)

	r.announce()
	say(j)
	say(r) // what comes before it in the group has gone out by then
	ahead.Add(int64(5 * time.Minute))
	bounce(domain)
	called("something came back that was no event", false)
	r.announce()
	bounce(balcony)
	called("it comes back after long", true)

	r.announce()
	ahead.Add(int64(time.Minute))
	gone(r)
	bounce(balcony)
	called("it comes back after the end", true)

	r.announce()
	read()
	other := *r
	other.full += "2"
	other.announce()
	say(j)
	gone(r)
	called("another session is there", false)
}
