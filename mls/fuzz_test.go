// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"
)

// fuzzCodec checks that what a decoder accepts, it encodes to the same octets.
func fuzzCodec(f *testing.F, names ...string) {
	all := samples(f)
	for _, name := range names {
		for _, b := range all[name] {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, c := range codecs {
			for _, name := range names {
				if c.name != name {
					continue
				}
				got, err := c.encode(b)
				if err == nil && !bytes.Equal(got, b) {
					t.Fatalf("%s: %x encodes as %x", name, b, got)
				}
			}
		}
	})
}

func FuzzMessage(f *testing.F)    { fuzzCodec(f, "message") }
func FuzzKeyPackage(f *testing.F) { fuzzCodec(f, "key package", "leaf node", "credential") }
func FuzzWelcome(f *testing.F)    { fuzzCodec(f, "welcome", "group secrets") }
func FuzzGroupInfo(f *testing.F)  { fuzzCodec(f, "group info") }
func FuzzProposal(f *testing.F)   { fuzzCodec(f, "proposal", "psk id") }
func FuzzCommit(f *testing.F)     { fuzzCodec(f, "commit", "authenticated content") }
func FuzzExtensions(f *testing.F) {
	fuzzCodec(f, "extensions", "dictionary", "required capabilities", "external senders", "components")
}

// fuzzClock stands still, so that a group does not depend on the time.
func fuzzClock() time.Time { return time.Unix(1_800_000_000, 0) }

// fuzzConfig returns a Config, and sets up actors, that are the same in every
// process.
func fuzzConfig(f *testing.F) *Config {
	r := rand.NewChaCha8([32]byte{1})
	testRand = r
	f.Cleanup(func() { testRand = nil })
	return &Config{Time: fuzzClock, Rand: r}
}

// FuzzProcess gives anything to a live group, and mutations of real messages,
// whose inner octets are framed again so that they get past the signature when
// nothing of it changed. Whatever happens, the group is unchanged by an error.
func FuzzProcess(f *testing.F) {
	cfg := fuzzConfig(f)
	tg := newTestGroup(f, cfg, suite1, "juliet", "romeo", "nurse")
	romeo := tg.members["romeo"]
	kp := testKeyPackage(f, cfg, suite1, "mercutio").KeyPackage
	for _, o := range []*CommitOptions{nil, {Wire: WireFormatPrivateMessage}, {Add: []*KeyPackage{kp}}, {Remove: []LeafIndex{2}}} {
		p, err := romeo.Commit(o)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p.Message().Bytes())
	}
	for _, format := range []WireFormat{WireFormatPublicMessage, WireFormatPrivateMessage} {
		m, _, err := romeo.ProposeUpdate(nil, &ProposeOptions{Wire: format})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(m.Bytes())
	}
	f.Add(romeo.mustSeal(f, "hello").Bytes())
	saved := tg.members["juliet"].Save()
	public := tg.public.State()
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMessage(b)
		if err != nil {
			return
		}
		g, err := Load(cfg, saved)
		if err != nil {
			t.Fatal(err)
		}
		r, err := g.Process(m)
		if err != nil && !bytes.Equal(g.Save(), saved) {
			t.Fatalf("an error changed the group: %v", err)
		}
		switch r := r.(type) {
		case *StagedProposal:
			if g = r.Merge(); len(g.PendingProposals()) != 1 {
				t.Fatal("the proposal is not pending")
			}
		case *StagedCommit:
			if !r.Removed() {
				if g, err = r.Merge(); err != nil || g.Epoch() != 2 {
					t.Fatalf("merging: %v", err)
				}
			}
		}
		_, _ = tg.public.Process(m)
		if !bytes.Equal(tg.public.State(), public) {
			t.Fatal("the observer changed")
		}
	})
}

// FuzzProcessForged lets mallory, a member, send anything that decodes, with a
// real signature and real tags.
func FuzzProcessForged(f *testing.F) {
	cfg := fuzzConfig(f)
	tg := newTestGroup(f, cfg, suite1, "mallory", "juliet", "romeo")
	all := samples(f)
	for _, b := range append(all["proposal"], all["commit"]...) {
		f.Add(b, false)
		f.Add(b, true)
	}
	saved := tg.members["juliet"].Save()
	f.Fuzz(func(t *testing.T, b []byte, private bool) {
		g, err := Load(cfg, saved)
		if err != nil {
			t.Fatal(err)
		}
		y := forgery{wire: WireFormatPublicMessage}
		if private {
			y.wire = WireFormatPrivateMessage
		}
		forger := forge{t, tg.members["mallory"]}
		var messages []*Message
		if p, err := ParseProposal(b); err == nil {
			messages = append(messages, forger.proposal(p, y))
		}
		if c, err := decode(b, "commit", readCommit); err == nil {
			a := forger.g.content(y.wire, ContentCommit, nil)
			a.content.Commit = c
			a.auth.confirmationTag = make([]byte, 32)
			messages = append(messages, forger.frame(a, y))
		}
		for _, m := range messages {
			r, err := g.Process(m)
			if err != nil {
				if !bytes.Equal(g.Save(), saved) {
					t.Fatalf("an error changed the group: %v", err)
				}
				continue
			}
			if s, ok := r.(*StagedCommit); ok && !s.Removed() {
				t.Fatal("a commit with a wrong confirmation tag was accepted")
			}
		}
	})
}

// FuzzLoad reads damaged stored state: an error or a group, never a panic.
func FuzzLoad(f *testing.F) {
	cfg := fuzzConfig(f)
	tg := newTestGroup(f, cfg, suite1, "juliet", "romeo")
	tg.propose("romeo", func(g *Group) (*Message, *Group, error) { return g.ProposeUpdate(nil, nil) })
	tg.commit("juliet", nil)
	f.Add(tg.members["juliet"].Save())
	p, err := tg.members["juliet"].Commit(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p.Marshal())
	f.Add(testKeyPackage(f, cfg, suite1, "nurse").Marshal())
	f.Add(tg.public.State())
	g := tg.members["juliet"]
	f.Fuzz(func(_ *testing.T, b []byte) {
		if g, err := Load(cfg, b); err == nil {
			g.Save()
			_, _ = g.Seal(nil, nil)
		}
		if p, err := g.UnmarshalPendingCommit(b); err == nil {
			p.Marshal()
		}
		if kp, err := UnmarshalPrivateKeyPackage(b); err == nil {
			kp.Marshal()
		}
		_, _ = LoadPublicGroup(cfg, b, tg.public.TreeNodes())
	})
}
