// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"errors"
	"testing"
)

// Messages that come twice, too early, too late, or with a generation of their
// own.

// reload stores a group and loads it again.
func reload(t testing.TB, g *Group) *Group {
	t.Helper()
	g, err := Load(cfgOf(g), g.Save())
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestReplay(t *testing.T) {
	c := newCourt(t, &offence{})
	romeo := c.tg.members["romeo"]
	m := c.f.application([]byte("hello"), forgery{})
	if _, err := romeo.Process(m); err != nil {
		t.Fatal(err)
	}
	refused := func(when string, g *Group) {
		t.Helper()
		before := g.Save()
		if _, err := g.Process(m); !errors.Is(err, ErrReplay) {
			t.Errorf("%s: %v", when, err)
		}
		if !bytes.Equal(before, g.Save()) {
			t.Errorf("%s: the group is changed", when)
		}
	}
	refused("at once", romeo)
	refused("after Save and Load", reload(t, romeo))
	store := make(rowStore)
	store.apply(romeo.Delta())
	refused("after Delta and LoadRows", must(LoadRows(cfgOf(romeo), store.rows())))
	c.tg.commit("juliet", nil)
	refused("in the next epoch", c.tg.members["romeo"])
	refused("in the next epoch, after Save and Load", reload(t, c.tg.members["romeo"]))
	for range DefaultPastEpochs {
		c.tg.commit("juliet", nil)
	}
	if _, err := c.tg.members["romeo"].Process(m); !errors.Is(err, ErrEpochPast) {
		t.Errorf("when the epoch is forgotten: %v", err)
	}
}

// TestReplayOfHandshakes: a proposal is pending once, a commit of an epoch that
// ended is told from one that is wrong.
func TestReplayOfHandshakes(t *testing.T) {
	for _, format := range []WireFormat{WireFormatPublicMessage, WireFormatPrivateMessage} {
		c := newCourt(t, &offence{})
		romeo := c.tg.members["romeo"]
		p := c.f.proposal(&Remove{c.self("nurse")}, forgery{wire: format})
		for range 2 {
			r, err := romeo.Process(p)
			if format == WireFormatPrivateMessage && errors.Is(err, ErrReplay) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			romeo = reload(t, r.(*StagedProposal).Merge())
		}
		if n := len(romeo.PendingProposals()); n != 1 {
			t.Errorf("%v: %d proposals are pending", format, n)
		}
		commit := c.commit(forgery{wire: format})
		r, err := romeo.Process(commit)
		if err != nil {
			t.Fatal(err)
		}
		next, err := r.(*StagedCommit).Merge()
		if err != nil {
			t.Fatal(err)
		}
		for when, g := range map[string]*Group{"at once": next, "after Save and Load": reload(t, next)} {
			r, err := g.Process(commit)
			if past, ok := r.(*PastEpoch); !ok || err != nil || past.ContentType != ContentCommit {
				t.Errorf("%v: the commit again, %s: %T, %v", format, when, r, err)
			}
			if r, err = g.Process(p); err != nil {
				t.Errorf("%v: the proposal in the next epoch, %s: %T, %v", format, when, r, err)
			}
		}
	}
}

// TestWelcomeTwice: a Welcome whose key package was used and wiped opens nothing.
func TestWelcomeTwice(t *testing.T) {
	c := newCourt(t, &offence{})
	kp := c.keyPackage(nil)
	w := c.f.commit(byValue(&Add{kp.KeyPackage}), forgery{})
	o := &JoinOptions{Tree: w.tree.marshal(nil)}
	if _, err := Join(nil, w.welcome, kp, o); err != nil {
		t.Fatal(err)
	}
	kp.Wipe()
	if _, err := Join(nil, w.welcome, kp, o); !hasRule(err, RuleWelcomeDecrypt) {
		t.Errorf("joined by a key package that was wiped: %v", err)
	}
}

// TestUnknownReference: a commit may come before the proposal that it covers.
func TestUnknownReference(t *testing.T) {
	c := newCourt(t, &offence{})
	romeo := c.tg.members["romeo"]
	m, mallory, err := c.f.g.Propose(&Remove{c.self("nurse")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f := forge{t, mallory}
	commit := f.commit([]ProposalOrRef{{Ref: mallory.pending[0].ref}}, forgery{}).message
	before := romeo.Save()
	if _, err := romeo.Process(commit); !errors.Is(err, ErrMissingProposal) || !Retryable(err) {
		t.Errorf("without the proposal: %v", err)
	}
	if _, err := c.tg.public.Process(commit); !errors.Is(err, ErrMissingProposal) {
		t.Errorf("the observer, without the proposal: %v", err)
	}
	if !bytes.Equal(before, romeo.Save()) {
		t.Error("romeo is changed")
	}
	r, err := romeo.Process(m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.(*StagedProposal).Merge().Process(commit); err != nil {
		t.Errorf("with the proposal: %v", err)
	}
}

// TestGenerationJumps: what a message claims to skip costs nothing beyond the
// limit, and does not burn the messages between.
func TestGenerationJumps(t *testing.T) {
	c := newCourt(t, &offence{cfg: func(c *Config) { c.Limits.MaxForward, c.Limits.MaxSkipped = 10, 4 }})
	romeo := c.tg.members["romeo"]
	for _, generation := range []uint32{11, 1000, 1 << 20, 1 << 31, 1<<32 - 1} {
		m := c.f.application([]byte("hello"), forgery{senderData: func(d *senderData) { d.generation = generation }})
		before := romeo.Save()
		allocated := allocatedBy(func() {
			if _, err := romeo.Process(m); !errors.Is(err, ErrTooFarAhead) {
				t.Errorf("generation %d: %v", generation, err)
			}
		})
		if allocated > 64<<10 {
			t.Errorf("generation %d: %d octets of memory", generation, allocated)
		}
		if !bytes.Equal(before, romeo.Save()) {
			t.Error("romeo is changed")
		}
	}
	// Five messages are used up by now. Of those that are skipped the last four can
	// still be read.
	var late []*Message
	for range 5 {
		late = append(late, c.f.application([]byte("late"), forgery{}))
	}
	if _, err := romeo.Process(c.f.application([]byte("first"), forgery{})); err != nil {
		t.Fatal(err)
	}
	romeo = reload(t, romeo)
	for i, m := range late {
		_, err := romeo.Process(m)
		if i == 0 && !errors.Is(err, ErrReplay) || i > 0 && err != nil {
			t.Errorf("late message %d: %v", i, err)
		}
		romeo = reload(t, romeo)
	}
}

// TestForgeryBurnsNoKey: octets that are flipped on the way, wherever they stand,
// do not keep the genuine message from being read.
func TestForgeryBurnsNoKey(t *testing.T) {
	c := newCourt(t, &offence{})
	romeo := c.tg.members["romeo"]
	m := c.f.application([]byte("a plague on both your houses"), forgery{})
	raw := m.Bytes()
	before := romeo.Save()
	for i := range raw {
		b := bytes.Clone(raw)
		b[i] ^= 0x40
		bad, err := ParseMessage(b)
		if err != nil {
			continue
		}
		if r, err := romeo.Process(bad); err == nil {
			t.Errorf("octet %d is not authenticated: %T", i, r)
		}
	}
	if !bytes.Equal(before, romeo.Save()) {
		t.Error("romeo is changed")
	}
	if _, err := romeo.Process(m); err != nil {
		t.Errorf("the genuine message: %v", err)
	}
}

// TestFlippedCommit: no octet of a commit can be changed, for members and, but for
// its tags and ciphertexts, for observers.
func TestFlippedCommit(t *testing.T) {
	c := newCourt(t, &offence{})
	romeo := c.tg.members["romeo"]
	raw := c.commit(forgery{}, &Add{c.keyPackage(nil).KeyPackage}).Bytes()
	before := romeo.Save()
	for i := range raw {
		b := bytes.Clone(raw)
		b[i] ^= 1
		bad, err := ParseMessage(b)
		if err != nil {
			continue
		}
		if r, err := romeo.Process(bad); err == nil {
			t.Errorf("octet %d is not authenticated: %T", i, r)
		}
		s := romeo.s
		if _, err := c.tg.public.Process(bad); err == nil && i < len(raw)-2*(s.nh+1) {
			t.Errorf("octet %d of %d is not signed", i, len(raw))
		}
	}
	if !bytes.Equal(before, romeo.Save()) {
		t.Error("romeo is changed")
	}
}

// TestLateMessageOfRemoved: who takes a removed member's place is not taken for
// the sender of its late messages, nor the other way round.
func TestLateMessageOfRemoved(t *testing.T) {
	c := newCourt(t, &offence{})
	romeo := c.self("romeo")
	late := c.tg.members["romeo"].mustSeal(t, "late")
	wrong := forge{t, c.tg.members["nurse"]}
	c.tg.commit("juliet", &CommitOptions{Remove: []LeafIndex{romeo}})
	c.tg.add("juliet", "paris") // in romeo's place
	juliet := c.tg.members["juliet"]
	if name := string(must2(juliet.Member(romeo)).Credential().Identity); name != "paris" {
		t.Fatalf("%s is in romeo's place", name)
	}
	// A message of the past epoch that paris signs, who was no member then.
	m := wrong.application([]byte("late"), forgery{key: c.tg.members["paris"].me.Key, content: func(f *FramedContent) { f.Sender.Index = uint32(romeo) }})
	if _, err := juliet.Process(m); err == nil {
		t.Error("a message of the past epoch by a member of the present one")
	}
	r, err := juliet.Process(late)
	if err != nil {
		t.Fatal(err)
	}
	if a := r.(*ApplicationMessage); string(a.Sender.Credential().Identity) != "romeo" {
		t.Errorf("the late message is by %s", a.Sender.Credential().Identity)
	}
}

func must2(m Member, ok bool) Member {
	if !ok {
		panic("no such member")
	}
	return m
}
