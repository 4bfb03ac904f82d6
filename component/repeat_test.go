// SPDX-License-Identifier: Apache-2.0

package component_test

import (
	"errors"
	"testing"

	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// TestRepeatedLate: what is in the log is answered as the first time, though the
// epoch has ended, or the group as an MLS group, since.
func TestRepeatedLate(t *testing.T) {
	s := start(t)
	j, r := pair(t, s)
	up, _, err := r.g.ProposeUpdate(nil, nil)
	r.must(err)
	text, err := r.g.Seal([]byte("x"), nil)
	r.must(err)
	proposed := proposal(up, 1)
	said := &stanza.Send{Epoch: 1, Ref: stanza.MessageRef(text.Bytes()), Message: stanza.MLS{Bytes: text.Bytes()}}
	var first [2]stanza.Accepted
	r.must(r.set(balcony, proposed, &first[0]))
	r.must(r.set(balcony, said, &first[1]))

	again := func(when string) {
		t.Helper()
		for i, p := range []stanza.Payload{proposed, said} {
			var got stanza.Accepted
			if err := r.set(balcony, p, &got); err != nil {
				t.Errorf("%s, %T: %v", when, p, err)
			}
			got.Epoch = first[i].Epoch // that of the group now
			if got != first[i] {
				t.Errorf("%s, %T: %+v, the first answer was %+v", when, p, got, first[i])
			}
		}
	}
	again("at once")
	for range 3 {
		j.catchUp(balcony)
		_, err := j.commit(balcony, mls.CommitOptions{ForcePath: true})
		j.must(err)
		j.seq++
	}
	again("three epochs later")
	next := j.newGroup(balcony, groupdata.Public, groupdata.DefaultPolicy())
	_, err = j.commit(balcony, mls.CommitOptions{ReInit: &mls.ReInit{GroupID: next.GroupID(), Version: mls.MLS10, CipherSuite: suite, Extensions: next.Context().Extensions}})
	j.must(err)
	again("after the end of the MLS group")
}

// TestLeaveTwice: whoever asks again to leave gets the answer of the first time.
func TestLeaveTwice(t *testing.T) {
	s := start(t)
	_, r := pair(t, s)
	var first, again stanza.Accepted
	r.must(r.set(balcony, &stanza.Leave{}, &first))
	r.must(r.set(balcony, &stanza.Leave{}, &again))
	if first != again || first.Seq == 0 {
		t.Errorf("leaving again: %+v, the first answer was %+v", again, first)
	}
}

// TestBanRank: a ban takes what a removal takes, of everybody whom it shuts out.
func TestBanRank(t *testing.T) {
	s := start(t)
	j, r := pair(t, s)
	roles := groupdata.NewRoles(juliet, groupdata.DefaultPolicy()).With(romeo, groupdata.Admin).With(nurse, groupdata.Admin)
	put := func() {
		t.Helper()
		b, err := roles.Encode()
		j.must(err)
		j.catchUp(balcony)
		_, err = j.commit(balcony, mls.CommitOptions{AppData: []*mls.AppDataUpdate{{Component: groupdata.ComponentRoles, Op: mls.AppDataUpdateOp, Update: b}}})
		j.must(err)
		j.seq++
	}
	put()
	ban := func(jid string) error {
		return r.set(balcony, &stanza.Affiliation{JID: jid, Affiliation: stanza.RoleOutcast}, nil)
	}
	var need *stanza.InsufficientAffiliation
	for _, jid := range []string{juliet, nurse, "capulet.lit"} {
		if err := ban(jid); !errors.As(err, &need) || need.Need != stanza.RoleOwner {
			t.Errorf("an admin bans %s: %v", jid, err)
		}
	}
	r.must(ban("mantua.lit"))
	roles.Policy.Remove = groupdata.Owner
	put()
	if err := ban(mallory); !errors.As(err, &need) || need.Need != stanza.RoleOwner {
		t.Errorf("an admin bans where owners remove: %v", err)
	}
	j.must(j.set(balcony, &stanza.Affiliation{JID: nurse, Affiliation: stanza.RoleOutcast}, nil))
}

// TestLogPages: max-bytes counts the octets of entries, as everywhere, and an
// entry that is larger than the page comes without them.
func TestLogPages(t *testing.T) {
	s := start(t)
	j, r := pair(t, s)
	for _, n := range []int{2500, 2500, 100} {
		_, err := j.sendText(balcony, string(make([]byte, n)))
		j.must(err)
	}
	page := func(max uint64) (out []int) {
		t.Helper()
		var log stanza.Log
		r.must(r.get(balcony, &stanza.LogQuery{Device: r.id, After: 1, MaxBytes: max}, &log))
		for i, e := range log.Entries {
			if e.Seq != uint64(i)+2 {
				t.Errorf("entry %d of the page is %d", i, e.Seq)
			}
			out = append(out, len(e.Bytes))
		}
		if n := len(out); n == 0 || log.Page == nil || log.Page.Index != nil || log.Complete != (n == 3) {
			t.Errorf("a page of %d entries: %+v", n, log)
		}
		return out
	}
	all := page(0)
	if len(all) != 3 {
		t.Fatalf("the log has %v", all)
	}
	size := uint64(all[0])
	if got := page(size); len(got) != 1 || got[0] != all[0] {
		t.Errorf("a page of %d octets: %v", size, got)
	}
	if got := page(size - 1); len(got) != 1 || got[0] != 0 {
		t.Errorf("a page of %d octets: %v", size-1, got)
	}
}
