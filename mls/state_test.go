// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"fmt"
	"maps"
	"testing"
)

// A rowStore is what a client keeps of a group.
type rowStore map[string][]byte

func (s rowStore) apply(rows []Row) (size int) {
	for _, r := range rows {
		if r.Value == nil {
			delete(s, r.Key)
			continue
		}
		s[r.Key] = r.Value
		size += len(r.Key) + len(r.Value)
	}
	return size
}

func (s rowStore) rows() (rows []Row) {
	for k, v := range s {
		rows = append(rows, Row{k, v})
	}
	return rows
}

// check compares the store, brought up to date by deltas, with the group.
func (s rowStore) check(t testing.TB, g *Group) *Group {
	t.Helper()
	s.apply(g.Delta())
	whole := make(rowStore)
	whole.apply(g.Rows())
	if !maps.EqualFunc(s, whole, bytes.Equal) {
		for k := range s {
			if _, ok := whole[k]; !ok {
				t.Errorf("row %s should be gone", k)
			}
		}
		for k := range whole {
			if !bytes.Equal(s[k], whole[k]) {
				t.Errorf("row %s is missing or old", k)
			}
		}
		t.Fatal("the deltas do not add up to the group")
	}
	loaded, err := LoadRows(cfgOf(g), s.rows())
	if err != nil {
		t.Fatalf("loading rows: %v", err)
	}
	if !bytes.Equal(loaded.Save(), g.Save()) {
		t.Fatal("the group that was loaded from rows differs")
	}
	if d := loaded.Delta(); len(d) != 0 {
		t.Fatalf("a group that was just loaded has %d changed rows, such as %s", len(d), d[0].Key)
	}
	again, err := Load(cfgOf(g), g.Save())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.Save(), g.Save()) {
		t.Fatal("the group that was loaded differs")
	}
	return loaded
}

// cfgOf returns a Config that resolves to that of a group, as far as tests go.
func cfgOf(g *Group) *Config {
	c := g.cfg
	return &Config{Time: c.now, Suites: c.suites, Authenticator: c.auth, Policy: c.policy, AppData: c.appData, PSKs: c.psks, Padding: c.padding, Limits: c.limits}
}

// TestReloadBetweenAllSteps stores and loads every member between any two steps.
func TestReloadBetweenAllSteps(t *testing.T) {
	for _, format := range []WireFormat{WireFormatPublicMessage, WireFormatPrivateMessage} {
		t.Run(format.String(), func(t *testing.T) {
			tg := newTestGroup(t, nil, MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519, "juliet", "romeo", "nurse", "mercutio")
			stores := make(map[string]rowStore)
			reload := func() {
				t.Helper()
				for name, g := range tg.members {
					if stores[name] == nil {
						stores[name] = make(rowStore)
					}
					tg.members[name] = stores[name].check(t, g)
				}
			}
			propose := &ProposeOptions{Wire: format}
			reload()
			for round := range 4 {
				tg.say("juliet", "one")
				reload()
				tg.say("juliet", "two")
				tg.say("romeo", "three")
				reload()
				tg.propose("romeo", func(g *Group) (*Message, *Group, error) { return g.ProposeUpdate(nil, propose) })
				reload()
				tg.propose("nurse", func(g *Group) (*Message, *Group, error) { return g.ProposeUpdate(nil, propose) })
				reload()
				tg.commit("juliet", &CommitOptions{Wire: format})
				tg.agree()
				reload()
				tg.add("nurse", fmt.Sprintf("guest%d", round))
				reload()
				if round == 2 {
					tg.commit("romeo", &CommitOptions{Remove: []LeafIndex{tg.members["mercutio"].self}, Wire: format})
					tg.agree()
					delete(stores, "mercutio")
					reload()
				}
			}
		})
	}
}

// TestMessageDelta: one message is one small row.
func TestMessageDelta(t *testing.T) {
	names := []string{"juliet"}
	for i := range 60 {
		names = append(names, fmt.Sprintf("guest%d", i))
	}
	tg := newTestGroup(t, nil, MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519, names...)
	juliet := tg.members["juliet"]
	juliet.Delta()
	for _, want := range []int{800, 200, 200} {
		m, err := tg.members["guest7"].Seal([]byte("hello"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := juliet.Process(m); err != nil {
			t.Fatal(err)
		}
		size := make(rowStore).apply(juliet.Delta())
		if size == 0 || size > want {
			t.Errorf("a received message wrote %d octets, want at most %d", size, want)
		}
	}
}

// TestPendingCommitRestore stops a client between sending a commit and learning
// its fate.
func TestPendingCommitRestore(t *testing.T) {
	for _, format := range []WireFormat{WireFormatPublicMessage, WireFormatPrivateMessage} {
		tg := newTestGroup(t, nil, MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519, "juliet", "romeo", "nurse")
		kp := testKeyPackage(t, nil, tg.cs, "mercutio")
		p, err := tg.members["juliet"].Commit(&CommitOptions{Add: []*KeyPackage{kp.KeyPackage}, ForcePath: true, Wire: format, GroupInfoExternalPub: true})
		if err != nil {
			t.Fatal(err)
		}
		stored := p.Marshal()
		// Messages of the epoch still arrive.
		tg.say("romeo", "late")
		store := make(rowStore)
		juliet := store.check(t, tg.members["juliet"])
		tg.members["juliet"] = juliet
		restored, err := juliet.UnmarshalPendingCommit(stored)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(restored.Message().Bytes(), p.Message().Bytes()) || !bytes.Equal(restored.Welcome().Bytes(), p.Welcome().Bytes()) ||
			!bytes.Equal(restored.GroupInfo().Bytes(), p.GroupInfo().Bytes()) {
			t.Fatal("the messages differ")
		}
		if !bytes.Equal(restored.Marshal(), stored) {
			t.Fatal("a restored commit is stored differently")
		}
		tg.deliver("juliet", restored)
		tg.agree()
		store.check(t, tg.members["juliet"])
		tg.say("juliet", "merged")
		tg.say("nurse", "good")
		if _, err := tg.members["juliet"].UnmarshalPendingCommit(stored); err == nil {
			t.Error("a commit was restored in the wrong epoch")
		}
		g, err := Join(nil, p.Welcome().Welcome, kp, &JoinOptions{Tree: tg.members["juliet"].Tree()})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(g.EpochAuthenticator(), tg.members["juliet"].EpochAuthenticator()) {
			t.Error("the new member is in another state")
		}
	}
}

// TestPublicGroupRestore stores an observer the way a delivery service does: the
// changed nodes of every commit.
func TestPublicGroupRestore(t *testing.T) {
	tg := newTestGroup(t, nil, MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519, "juliet", "romeo", "nurse")
	nodes := make(map[uint32][]byte)
	for n := range tg.public.TreeNodes() {
		nodes[n.Index] = n.Data
	}
	for i := range 12 {
		o := &CommitOptions{ForcePath: i%2 == 0}
		if i%3 != 2 {
			o.Add = []*KeyPackage{testKeyPackage(t, nil, tg.cs, fmt.Sprintf("guest%d", i)).KeyPackage}
		} else {
			o.Remove = []LeafIndex{LeafIndex(tg.public.MemberCount() - 1)}
		}
		p, err := tg.members["juliet"].Commit(o)
		if err != nil {
			t.Fatal(err)
		}
		r, err := tg.public.Process(wire(t, p.Message()))
		if err != nil {
			t.Fatal(err)
		}
		s := r.(*StagedPublicCommit)
		for _, n := range s.ChangedNodes() {
			if n.Data == nil {
				delete(nodes, n.Index)
			} else {
				nodes[n.Index] = n.Data
			}
		}
		tg.public = s.Merge()
		if tg.members["juliet"], err = p.Merge(); err != nil {
			t.Fatal(err)
		}
		loaded, err := LoadPublicGroup(nil, tg.public.State(), func(yield func(TreeNode) bool) {
			for i := range 2 * tg.public.TreeWidth() {
				if data, ok := nodes[i]; ok && !yield(TreeNode{i, data}) {
					return
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(loaded.State(), tg.public.State()) || !bytes.Equal(loaded.Tree(), tg.public.Tree()) {
			t.Fatal("the observer that was loaded differs")
		}
		gi, err := tg.members["juliet"].GroupInfo(&GroupInfoOptions{ExternalPub: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := loaded.CheckGroupInfo(gi.GroupInfo); err != nil {
			t.Fatal(err)
		}
		tg.public = loaded
	}
}

// TestBindAgain: a commit that does not fit one group still fits its own.
func TestBindAgain(t *testing.T) {
	tg := newTestGroup(t, nil, suite1, "juliet", "romeo")
	juliet := tg.members["juliet"]
	p, err := juliet.Commit(nil)
	if err != nil {
		t.Fatal(err)
	}
	restored, err := UnmarshalPendingCommit(nil, p.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	other, ctx := *juliet, *juliet.ctx
	ctx.GroupID, other.ctx = GroupID("orchard"), &ctx
	if err := restored.Bind(&other); err == nil {
		t.Fatal("the commit of one group fits another")
	}
	if err := restored.Bind(juliet); err != nil {
		t.Fatal(err)
	}
	if err := restored.Bind(juliet); err != nil {
		t.Errorf("bound already: %v", err)
	}
	again, err := juliet.UnmarshalPendingCommit(restored.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	tg.deliver("juliet", again)
	tg.agree()
	tg.commit("juliet", nil)
	tg.agree()
}
