// SPDX-License-Identifier: Apache-2.0

package component_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// pair is a group of juliet, who owns it, and romeo.
func pair(t testing.TB, s *service) (j, r *actor) {
	t.Helper()
	j, r = newActor(t, s, juliet, "balcony"), newActor(t, s, romeo, "orchard")
	j.announce()
	r.announce()
	r.publish(3)
	j.create(balcony)
	j.add(balcony, romeo)
	r.join(balcony)
	j.seq = 1
	return j, r
}

// TestLostRace: the loser gets everything that it needs to try again.
func TestLostRace(t *testing.T) {
	s := start(t)
	j, r := pair(t, s)
	late := r.pending(mls.CommitOptions{ForcePath: true})
	won, err := j.commit(balcony, mls.CommitOptions{ForcePath: true})
	j.must(err)
	err = r.set(balcony, submission(late, 1), nil)
	var stale *stanza.StaleEpoch
	if !errors.As(err, &stale) || refusal(err).Condition != stanza.Conflict {
		t.Fatalf("the late commit: %v, want stale-epoch", err)
	}
	if stale.Submitted != 1 || stale.Current != 2 || stale.Head != 2 || len(stale.Commits) != 1 || stale.More {
		t.Fatalf("stale-epoch: %+v", stale)
	}
	if c := stale.Commits[0]; c.Seq != 2 || c.Ref != won.Ref || len(c.Bytes) == 0 {
		t.Fatalf("the winner in the refusal: %+v", c)
	}
	r.process(stale.Commits[0].Bytes)
	_, err = r.commit(balcony, mls.CommitOptions{ForcePath: true})
	r.must(err)
	j.catchUp(balcony)
	sameEpoch(t, j, r)
}

// TestSameRefSameAnswer: a lost answer is cured by submitting the same bytes,
// whatever has happened since.
func TestSameRefSameAnswer(t *testing.T) {
	s := start(t)
	j, r := pair(t, s)
	p := j.pending(mls.CommitOptions{ForcePath: true})
	sub := submission(p, 1)
	var first, second, third stanza.Accepted
	j.must(j.set(balcony, sub, &first))
	j.must(j.set(balcony, sub, &second))
	g, err := p.Merge()
	j.must(err)
	j.g = g
	m, err := j.g.Seal([]byte("once"), nil)
	j.must(err)
	send := &stanza.Send{Epoch: 2, Ref: stanza.MessageRef(m.Bytes()), Message: stanza.MLS{Bytes: m.Bytes()}}
	var sent, again stanza.Accepted
	j.must(j.set(balcony, send, &sent))
	j.must(j.set(balcony, send, &again))
	r.catchUp(balcony)
	_, err = r.commit(balcony, mls.CommitOptions{ForcePath: true})
	r.must(err)
	j.must(j.set(balcony, sub, &third))
	if first != second || first != third {
		t.Errorf("the same commit: %+v, %+v, %+v", first, second, third)
	}
	if sent != again || sent.ID == "" {
		t.Errorf("the same message: %+v, %+v", sent, again)
	}
	if n := r.box().count("kind='application'"); n != 1 {
		t.Errorf("romeo got the message %d times", n)
	}
	var log stanza.Log
	j.must(j.get(balcony, &stanza.LogQuery{Device: j.id}, &log))
	if len(log.Entries) != 4 || log.Head != 4 {
		t.Errorf("the log has %d entries, head %d, want 4", len(log.Entries), log.Head)
	}
}

// TestChainIsKept: answers, deliveries and the log state one chain.
func TestChainIsKept(t *testing.T) {
	s := start(t)
	j, r := pair(t, s)
	_, err := j.sendText(balcony, "a")
	j.must(err)
	_, err = r.commit(balcony, mls.CommitOptions{ForcePath: true})
	r.must(err)
	acc, err := r.sendText(balcony, "b")
	r.must(err)
	var log stanza.Log
	r.must(r.get(balcony, &stanza.LogQuery{Device: r.id}, &log))
	chain := groupdata.Genesis(j.g.GroupID())
	for _, e := range log.Entries {
		chain = chain.Next(e.Seq, groupdata.Kind(e.Kind), e.Epoch, e.Bytes)
		if stanza.Hash(chain) != e.Chain {
			t.Errorf("entry %d has the chain %v, want %v", e.Seq, e.Chain, chain)
		}
	}
	if acc.Chain != stanza.Hash(chain) || len(log.Entries) != 4 {
		t.Errorf("the answer has the chain %v after %d entries, want %v", acc.Chain, len(log.Entries), chain)
	}
	d, _ := j.event(balcony, "application")
	if d.Chain != acc.Chain {
		t.Errorf("the delivery has the chain %v, want %v", d.Chain, acc.Chain)
	}
}

// TestRefusedCommits: what members would refuse is refused, and changes nothing.
func TestRefusedCommits(t *testing.T) {
	s := start(t)
	j, r := pair(t, s)
	m := newActor(t, s, mercutio, "street")
	m.announce()
	m.publish(4)
	mine := claimed(t, m.claim(balcony, mercutio))
	add := func(a *actor) *stanza.Commit { return submission(a.pending(mls.CommitOptions{Add: mine}), a.g.Epoch()) }
	good := func() *stanza.Commit { return submission(j.pending(mls.CommitOptions{ForcePath: true}), 1) }
	reref := func(c *stanza.Commit) *stanza.Commit { c.Ref = stanza.MessageRef(c.Message.Bytes); return c }
	for _, tc := range []struct {
		name string
		by   *actor
		c    *stanza.Commit
		want stanza.Condition
		app  stanza.AppCondition
	}{
		{"a ref of other bytes", j, func() *stanza.Commit { c := good(); c.Ref[0] ^= 1; return c }(), stanza.BadRequest, &stanza.InvalidMessage{}},
		{"a broken signature", j, func() *stanza.Commit {
			c := good()
			c.Message.Bytes = bytes.Clone(c.Message.Bytes)
			c.Message.Bytes[len(c.Message.Bytes)-120] ^= 1
			return reref(c)
		}(), stanza.BadRequest, &stanza.InvalidMessage{}},
		{"no GroupInfo", j, func() *stanza.Commit { c := good(); c.GroupInfo.Bytes = nil; return c }(), stanza.BadRequest, &stanza.InvalidMessage{}},
		{"the GroupInfo of another commit", j, func() *stanza.Commit { c := good(); c.GroupInfo = good().GroupInfo; return c }(), stanza.BadRequest, &stanza.GroupInfoMismatch{}},
		{"an epoch to come", j, func() *stanza.Commit { c := good(); c.Epoch = 2; return c }(), stanza.UnexpectedRequest, &stanza.FutureEpoch{}},
		{"somebody else's commit", r, good(), stanza.NotAuthorized, &stanza.CredentialMismatch{}},
		{"a stranger's submission", m, good(), stanza.Forbidden, &stanza.NotAMember{}},
		{"a member adds", r, add(r), stanza.Forbidden, &stanza.InsufficientAffiliation{}},
		{"an addition without a Welcome", j, func() *stanza.Commit { c := add(j); c.Welcome.Bytes = nil; return c }(), stanza.BadRequest, &stanza.InvalidMessage{}},
		{"a Welcome for nobody", j, func() *stanza.Commit { c := good(); c.Welcome = add(j).Welcome; return c }(), stanza.BadRequest, &stanza.InvalidMessage{}},
		{"garbage", j, reref(&stanza.Commit{Epoch: 1, Message: stanza.Object{Bytes: []byte("garbage")}, GroupInfo: good().GroupInfo}), stanza.BadRequest, &stanza.InvalidMessage{}},
		{"a message in place of a commit", j, func() *stanza.Commit {
			msg, err := r.g.Seal([]byte("x"), nil)
			r.must(err)
			return reref(&stanza.Commit{Epoch: 1, Message: stanza.Object{Bytes: msg.Bytes()}, GroupInfo: good().GroupInfo})
		}(), stanza.BadRequest, &stanza.InvalidMessage{}},
		{"an unstaged stage", j, func() *stanza.Commit {
			c := good()
			c.GroupInfo = stanza.Object{Stage: "nothing"}
			return c
		}(), stanza.ItemNotFound, nil},
		{"a member appoints itself", r, func() *stanza.Commit {
			roles, err := groupdata.NewRoles(juliet, groupdata.DefaultPolicy()).With(romeo, groupdata.Owner).Encode()
			r.must(err)
			return submission(r.pending(mls.CommitOptions{AppData: []*mls.AppDataUpdate{{Component: groupdata.ComponentRoles, Op: mls.AppDataUpdateOp, Update: roles}}}), 1)
		}(), stanza.Forbidden, &stanza.InsufficientAffiliation{}},
		{"a member removes another", r, submission(r.pending(mls.CommitOptions{Remove: []mls.LeafIndex{0}}), 1), stanza.Forbidden, &stanza.InsufficientAffiliation{}},
		{"the roles component becomes garbage", j, submission(j.pending(mls.CommitOptions{AppData: []*mls.AppDataUpdate{{Component: groupdata.ComponentRoles, Op: mls.AppDataUpdateOp, Update: []byte("x")}}}), 1), stanza.Forbidden, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.by.set(balcony, tc.c, nil)
			e := refusal(err)
			if e.Condition != tc.want {
				t.Fatalf("refused with %v, want %s", err, tc.want)
			}
			if tc.app != nil && (e.App == nil || fmt.Sprintf("%T", e.App) != fmt.Sprintf("%T", tc.app)) {
				t.Errorf("the application condition is %T, want %T", e.App, tc.app)
			}
		})
	}
	// None of that moved the group.
	_, err := j.commit(balcony, mls.CommitOptions{ForcePath: true})
	j.must(err)
	r.catchUp(balcony)
	sameEpoch(t, j, r)
}

// TestUnclaimedPackage: a key package of our own user that was not claimed for
// the group does not bring the user in.
func TestUnclaimedPackage(t *testing.T) {
	s := start(t)
	j, _ := pair(t, s)
	m := newActor(t, s, mercutio, "street")
	m.publish(3)
	other := claimed(t, j.claim("orchard@"+domain, mercutio)) // for another group
	err := j.set(balcony, submission(j.pending(mls.CommitOptions{Add: other}), 1), nil)
	if refusal(err).Condition != stanza.NotAuthorized {
		t.Errorf("a commit with an unclaimed package: %v, want not-authorized", err)
	}
}

// TestManyRaces: members race for every epoch; one wins each, and nobody forks.
func TestManyRaces(t *testing.T) {
	s := start(t)
	j, r := pair(t, s)
	actors := []*actor{j, r}
	const rounds = 30
	for round := range rounds {
		var wg sync.WaitGroup
		won := make([]bool, len(actors))
		for i, a := range actors {
			p := a.pending(mls.CommitOptions{ForcePath: true})
			wg.Add(1)
			go func() {
				defer wg.Done()
				err := a.set(balcony, submission(p, a.g.Epoch()), nil)
				var stale *stanza.StaleEpoch
				switch {
				case err == nil:
					won[i] = true
					g, err := p.Merge()
					a.must(err)
					a.g = g
					a.seq++
				case errors.As(err, &stale):
				default:
					t.Errorf("round %d: %v", round, err)
				}
			}()
		}
		wg.Wait()
		if n := len(slices.DeleteFunc(slices.Clone(won), func(b bool) bool { return !b })); n != 1 {
			t.Fatalf("round %d: %d commits won", round, n)
		}
		for i, a := range actors {
			if !won[i] {
				a.catchUp(balcony)
			}
		}
		sameEpoch(t, actors...)
	}
	if j.g.Epoch() != 1+rounds {
		t.Errorf("epoch %d after %d rounds", j.g.Epoch(), rounds)
	}
}

// TestStagedCommit: what does not fit a stanza is uploaded in pieces.
func TestStagedCommit(t *testing.T) {
	s := start(t)
	j, r := pair(t, s)
	p := j.pending(mls.CommitOptions{ForcePath: true})
	c := submission(p, 1)
	gi := c.GroupInfo.Bytes
	piece := func(from, to int) error {
		var out stanza.Staged
		err := j.set(balcony, &stanza.Stage{ID: "u1", Part: stanza.StageGroupInfo, Offset: uint64(from), Total: uint64(len(gi)), SHA256: stanza.MessageRef(gi), Bytes: gi[from:to]}, &out)
		if err == nil && int(out.Offset) < to {
			t.Errorf("after [%d:%d] the service has %d", from, to, out.Offset)
		}
		return err
	}
	j.must(piece(0, 100))
	j.must(piece(0, 100)) // the answer was lost
	j.must(piece(50, 200))
	if err := piece(300, 400); refusal(err).Condition != stanza.BadRequest {
		t.Errorf("a gap: %v", err)
	}
	var at stanza.Staged
	j.must(j.get(balcony, &stanza.StageQuery{ID: "u1"}, &at))
	if at.Offset != 200 || at.Total != uint64(len(gi)) {
		t.Errorf("progress: %+v", at)
	}
	c.GroupInfo = stanza.Object{Stage: "u1"}
	if err := j.set(balcony, c, nil); refusal(err).Condition != stanza.ItemNotFound {
		t.Errorf("a commit before its upload is complete: %v", err)
	}
	if err := r.get(balcony, &stanza.StageQuery{ID: "u1"}, &at); refusal(err).Condition != stanza.ItemNotFound {
		t.Errorf("romeo sees juliet's upload: %v", err)
	}
	j.must(piece(200, len(gi)))
	j.must(j.set(balcony, c, nil))
	r.catchUp(balcony)
	if r.g.Epoch() != 2 {
		t.Errorf("romeo is at epoch %d", r.g.Epoch())
	}
}
