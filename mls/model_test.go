// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var (
	modelSteps = flag.Int("model.steps", 1500, "steps of the model test")
	modelSeed  = flag.Uint64("model.seed", 0, "seed of the model test; 0 draws one")
)

// A world is a delivery service with members who do random things. It is the
// model: it knows who must be able to read what.
type world struct {
	t      *testing.T
	r      *rand.Rand
	cfg    *Config
	cs     CipherSuite
	mixed  bool // handshakes as PrivateMessage too: nobody can observe
	public *PublicGroup

	members map[string]*Group
	stores  map[string]rowStore
	// former members, as they were: they must not read what comes later.
	former map[string]*Group
	born   int
	// mail is what has been sent and not yet delivered to everybody.
	mail []letter
	log  []string
}

type letter struct {
	m     *Message
	by    string
	text  string
	epoch uint64
	to    map[string]bool
}

// TestModel drives a group through random steps and checks after each epoch that
// all members agree, and that who left reads nothing.
func TestModel(t *testing.T) {
	t.Parallel()
	for _, mixed := range []bool{false, true} {
		name := "public"
		if mixed {
			name = "mixed"
		}
		t.Run(name, func(t *testing.T) {
			seed := *modelSeed
			if seed == 0 {
				seed = uint64(time.Now().UnixNano())
			}
			steps := *modelSteps
			if testing.Short() {
				steps = min(steps, 150)
			}
			t.Logf("-model.seed %d", seed)
			w := &world{
				t: t, r: rand.New(rand.NewPCG(seed, 1)), cs: suite1, mixed: mixed,
				cfg:     &Config{PSKs: ExternalPSKs{"feud": []byte("Montague and Capulet")}, AppData: appDataJoiner{}},
				members: make(map[string]*Group), stores: make(map[string]rowStore), former: make(map[string]*Group),
			}
			w.run(steps)
		})
	}
}

func (w *world) run(steps int) {
	defer func() {
		if w.t.Failed() {
			for _, line := range w.log[max(0, len(w.log)-15):] {
				w.t.Log(line)
			}
		}
	}()
	first := w.name()
	g, err := NewGroup(w.cfg, w.cs, GroupID("verona"), testIdentity(w.t, w.cs, first), nil)
	w.must(err)
	w.members[first] = g
	gi, err := g.GroupInfo(&GroupInfoOptions{InlineTree: true})
	w.must(err)
	w.public, err = NewPublicGroup(w.cfg, gi.GroupInfo, nil)
	w.must(err)
	weighted := []struct {
		weight int
		name   string
		do     func()
	}{
		{30, "say", w.say}, {25, "deliver", w.deliver}, {14, "propose", w.propose}, {10, "commit", w.commitOne},
		{6, "race", w.race}, {4, "add", w.add}, {3, "join", w.join}, {2, "resync", w.resync}, {6, "reload", w.reload}, {2, "pry", w.pry},
	}
	total := 0
	for _, s := range weighted {
		total += s.weight
	}
	for range steps {
		pick := w.r.IntN(total)
		for _, s := range weighted {
			if pick -= s.weight; pick < 0 {
				w.log = append(w.log, fmt.Sprintf("epoch %d, %d members: %s", w.anyone().Epoch(), len(w.members), s.name))
				s.do()
				break
			}
		}
		if w.t.Failed() {
			return
		}
	}
	w.pry()
	w.t.Logf("%d members, %d former, epoch %d", len(w.members), len(w.former), w.anyone().Epoch())
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) name() string {
	w.born++
	return fmt.Sprintf("actor%d", w.born)
}

func (w *world) names() []string { return slices.Sorted(maps.Keys(w.members)) }
func (w *world) someone() string {
	names := w.names()
	return names[w.r.IntN(len(names))]
}
func (w *world) anyone() *Group { return w.members[w.names()[0]] }

func (w *world) format() WireFormat {
	if w.mixed && w.r.IntN(2) == 0 {
		return WireFormatPrivateMessage
	}
	return WireFormatPublicMessage
}

// seal lets a member speak, after it has dropped what is pending.
func (w *world) seal(g *Group, text string) *Message {
	if len(g.pending) > 0 {
		if _, err := g.Seal([]byte(text), nil); !errors.Is(err, ErrPendingProposals) {
			w.t.Fatalf("a member speaks while proposals are pending: %v", err)
		}
		g = g.ClearProposals(func(ProposalInfo) bool { return true })
	}
	m, err := g.Seal([]byte(text), nil)
	w.must(err)
	return m
}

func (w *world) say() {
	by := w.someone()
	text := fmt.Sprintf("%s says %d", by, w.r.Uint64())
	m := w.seal(w.members[by], text)
	l := letter{wire(w.t, m), by, text, w.members[by].Epoch(), make(map[string]bool)}
	for name := range w.members {
		if name != by {
			l.to[name] = true
		}
	}
	w.mail = append(w.mail, l)
}

// deliver delivers some letters, in any order. Letters of epochs that ended too
// long ago are lost.
func (w *world) deliver() {
	for range 4 {
		if len(w.mail) == 0 {
			return
		}
		i := w.r.IntN(len(w.mail))
		l := w.mail[i]
		for _, name := range slices.Sorted(maps.Keys(l.to)) {
			g := w.members[name]
			if g == nil {
				continue
			}
			r, err := g.Process(l.m)
			if g.Epoch()-l.epoch > DefaultPastEpochs {
				if !errors.Is(err, ErrEpochPast) {
					w.t.Fatalf("%s in epoch %d reads a letter of epoch %d: %v", name, g.Epoch(), l.epoch, err)
				}
				continue
			}
			if errors.Is(err, ErrEpochPast) && w.joinedAfter(g, l.epoch) {
				continue // came back by an external commit, with no past
			}
			if err != nil {
				w.t.Fatalf("%s in epoch %d does not read a letter of %s, epoch %d: %v", name, g.Epoch(), l.by, l.epoch, err)
			}
			a, ok := r.(*ApplicationMessage)
			if !ok || string(a.Data) != l.text || string(a.Sender.Credential().Identity) != l.by {
				w.t.Fatalf("%s reads %T", name, r)
			}
			if _, err := g.Process(l.m); !errors.Is(err, ErrReplay) {
				w.t.Fatalf("%s reads the same letter twice: %v", name, err)
			}
		}
		w.mail = slices.Delete(w.mail, i, i+1)
	}
}

// joinedAfter reports whether a member has no trace of an epoch.
func (w *world) joinedAfter(g *Group, epoch uint64) bool {
	return epoch != g.Epoch() && !slices.ContainsFunc(g.past, func(p *pastEpoch) bool { return p.epoch == epoch })
}

func (w *world) keyPackage() (string, *PrivateKeyPackage) {
	name := w.name()
	return name, testKeyPackage(w.t, w.cfg, w.cs, name)
}

// propose sends a random proposal to everybody.
func (w *world) propose() {
	by := w.someone()
	g := w.members[by]
	o := &ProposeOptions{Wire: w.format()}
	var m *Message
	var next *Group
	var err error
	switch w.r.IntN(8) {
	case 0, 1, 2:
		m, next, err = g.ProposeUpdate(nil, o)
	case 3:
		_, kp := w.keyPackage() // will be added without ever coming
		m, next, err = g.ProposeAdd(kp.KeyPackage, o)
	case 4:
		m, next, err = g.ProposeRemove(w.members[w.someone()].self, o)
	case 5:
		m, next, err = g.ProposePSK(PreSharedKeyID{Type: PSKExternal, ID: []byte("feud")}, o)
	case 6:
		m, next, err = g.ProposeAppData(&AppDataUpdate{Component: 0x8000, Op: AppDataUpdateOp, Update: []byte{byte(w.r.IntN(256))}}, o)
	default:
		if g.isLeaving() {
			return // once is enough
		}
		m, next, err = g.ProposeSelfRemove(nil)
	}
	w.must(err)
	w.members[by] = next
	m = wire(w.t, m)
	for name, g := range w.members {
		r, err := g.Process(m)
		if err != nil {
			w.t.Fatalf("%s refuses a proposal of %s: %v", name, by, err)
		}
		if s, ok := r.(*StagedProposal); ok {
			w.members[name] = s.Merge()
		} else if _, own := r.(*OwnMessage); !own || name != by {
			w.t.Fatalf("%s receives %T", name, r)
		}
	}
	w.observe(m)
}

func (w *world) observe(m *Message) {
	if m.Public == nil {
		w.public = nil
	}
	if w.public == nil {
		return
	}
	r, err := w.public.Process(m)
	if err != nil {
		w.t.Fatalf("the observer refuses: %v", err)
	}
	w.public = r.Merge()
}

func (w *world) options() *CommitOptions {
	o := &CommitOptions{Wire: w.format(), ForcePath: w.r.IntN(3) == 0}
	if w.r.IntN(4) == 0 {
		o.PSKs = append(o.PSKs, PreSharedKeyID{Type: PSKExternal, ID: []byte("feud")})
	}
	return o
}

func (w *world) commitOne() {
	by := w.someone()
	p, err := w.members[by].Commit(w.options())
	w.must(err)
	w.accept(by, p)
}

// race lets two commit; one wins.
func (w *world) race() {
	if len(w.members) < 2 {
		return
	}
	a, b := w.someone(), w.someone()
	if a == b {
		return
	}
	oa := w.options()
	if w.r.IntN(2) == 0 && len(w.members) > 4 {
		oa.Remove = []LeafIndex{w.members[b].self} // the loser is removed
	}
	pa, err := w.members[a].Commit(oa)
	w.must(err)
	pb, err := w.members[b].Commit(w.options())
	w.must(err)
	lost := pb.Message()
	pb.Discard()
	if w.r.IntN(2) == 0 { // the winner is stopped before it learns of it
		if pa, err = w.members[a].UnmarshalPendingCommit(pa.Marshal()); err != nil {
			w.t.Fatal(err)
		}
	}
	w.accept(a, pa)
	for name, g := range w.members {
		if r, err := g.Process(lost); err != nil {
			w.t.Fatalf("%s and a commit that lost: %v", name, err)
		} else if _, ok := r.(*PastEpoch); !ok {
			w.t.Fatalf("%s takes a commit that lost for %T", name, r)
		}
	}
}

// accept gives a commit to everybody. by is empty for an external joiner.
func (w *world) accept(by string, p *PendingCommit) {
	m := wire(w.t, p.Message())
	for _, name := range w.names() {
		g := w.members[name]
		r, err := g.Process(m)
		if err != nil {
			w.t.Fatalf("%s refuses a commit of %q: %v", name, by, err)
		}
		switch s := r.(type) {
		case *OwnCommit:
			if name != by {
				w.t.Fatalf("%s takes a commit of %s for its own", name, by)
			}
			w.members[name], err = p.Merge()
			w.must(err)
		case *StagedCommit:
			if s.Removed() {
				w.former[name] = g
				delete(w.members, name)
				delete(w.stores, name)
				continue
			}
			w.members[name], err = s.Merge()
			w.must(err)
		default:
			w.t.Fatalf("%s receives %T", name, r)
		}
	}
	w.observe(m)
	w.agree()
}

// agree checks that all members are in the same state.
func (w *world) agree() {
	first := w.anyone()
	exported, err := first.Export("model", []byte("context"), 32)
	w.must(err)
	roster := slices.Collect(first.Members())
	for name, g := range w.members {
		other, err := g.Export("model", []byte("context"), 32)
		w.must(err)
		if !bytes.Equal(g.EpochAuthenticator(), first.EpochAuthenticator()) || !bytes.Equal(exported, other) {
			w.t.Fatalf("%s is in another epoch state", name)
		}
		if !slices.EqualFunc(roster, slices.Collect(g.Members()), func(a, b Member) bool { return a.Index == b.Index && a.Leaf.Equal(b.Leaf) }) {
			w.t.Fatalf("%s has another roster", name)
		}
		if string(g.Self().Credential().Identity) != name || !bytes.Equal(g.Self().Leaf.EncryptionKey, g.private.leaf.public()) {
			w.t.Fatalf("%s is not itself", name)
		}
	}
	if w.public != nil && !bytes.Equal(w.public.ctxBytes, first.ctxBytes) {
		w.t.Fatal("the observer is in another state")
	}
}

// add adds up to three members, who join by the Welcome.
func (w *world) add() {
	if len(w.members) > 24 {
		w.removeSome()
		return
	}
	by := w.someone()
	o := w.options()
	o.InlineTree = w.r.IntN(2) == 0
	joiners := make(map[string]*PrivateKeyPackage)
	for range 1 + w.r.IntN(3) {
		name, kp := w.keyPackage()
		joiners[name] = kp
		o.Add = append(o.Add, kp.KeyPackage)
	}
	p, err := w.members[by].Commit(o)
	w.must(err)
	w.accept(by, p)
	for name, kp := range joiners {
		jo := &JoinOptions{}
		if !o.InlineTree {
			jo.Tree = w.anyone().Tree()
		}
		kp, err := UnmarshalPrivateKeyPackage(kp.Marshal())
		w.must(err)
		g, err := Join(w.cfg, wire(w.t, p.Welcome()).Welcome, kp, jo)
		if err != nil {
			w.t.Fatalf("%s cannot join: %v", name, err)
		}
		w.members[name] = g
	}
	w.agree()
}

func (w *world) removeSome() {
	by := w.someone()
	o := w.options()
	for m := range w.members[by].Members() {
		if m.Index != w.members[by].self && w.r.IntN(2) == 0 {
			o.Remove = append(o.Remove, m.Index)
		}
	}
	p, err := w.members[by].Commit(o)
	w.must(err)
	w.accept(by, p)
}

func (w *world) externalJoin(name string, me *Identity, o *ExternalJoinOptions) {
	gi, err := w.anyone().GroupInfo(&GroupInfoOptions{ExternalPub: true, InlineTree: true})
	w.must(err)
	if w.r.IntN(2) == 0 {
		o.PSKIDs = append(o.PSKIDs, PreSharedKeyID{Type: PSKExternal, ID: []byte("feud")})
	}
	p, err := JoinExternal(w.cfg, wire(w.t, gi).GroupInfo, me, o)
	w.must(err)
	delete(w.members, name)
	delete(w.stores, name)
	w.accept("", p)
	w.members[name], err = p.Merge()
	w.must(err)
	w.agree()
}

func (w *world) join() {
	if len(w.members) > 24 {
		return
	}
	name := w.name()
	w.externalJoin(name, testIdentity(w.t, w.cs, name), &ExternalJoinOptions{})
}

// resync lets a member come back that lost its state.
func (w *world) resync() {
	if len(w.members) < 2 {
		return
	}
	name := w.someone()
	g := w.members[name]
	w.externalJoin(name, g.me, &ExternalJoinOptions{Remove: &g.self})
}

// reload stores and loads a member.
func (w *world) reload() {
	name := w.someone()
	if w.stores[name] == nil {
		w.stores[name] = make(rowStore)
	}
	w.members[name] = w.stores[name].check(w.t, w.members[name])
}

// pry: who was removed reads nothing that is said now, and cannot be heard.
func (w *world) pry() {
	by := w.someone()
	m := w.seal(w.members[by], "secret")
	for name, g := range w.former {
		if _, err := g.Process(m); err == nil {
			w.t.Fatalf("%s was removed and reads", name)
		}
		old := w.seal(g, "I am still here")
		if w.anyone().Epoch() == g.Epoch() {
			w.t.Fatalf("%s was removed and is still in the epoch", name)
		}
		c, err := g.Commit(nil)
		w.must(err)
		for _, member := range w.members {
			if r, err := member.Process(c.Message()); err == nil {
				if _, past := r.(*PastEpoch); !past {
					w.t.Fatalf("%s was removed and commits", name)
				}
			}
		}
		_ = old
	}
	if len(w.former) > 8 {
		clear(w.former)
	}
}
