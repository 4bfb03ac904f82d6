// SPDX-License-Identifier: Apache-2.0

package loopback_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/integration/loopback"
)

func hasBody(text string) func(*loopback.Element) bool {
	return func(e *loopback.Element) bool { return e.Child("jabber:client", "body").Text() == text }
}

func anyBody(e *loopback.Element) bool { return e.Child("jabber:client", "body") != nil }

// bodies sends a, b, c ... to romeo and reads what comes until "end".
func bodies(juliet, romeo *peer, texts string) string {
	for _, c := range texts + "." {
		juliet.send("<message type='chat' to='%s'><body>%c</body></message>", romeo.name, c)
	}
	got := ""
	for !strings.HasSuffix(got, ".") {
		got += romeo.expect("<body>").Child("jabber:client", "body").Text()
	}
	return strings.TrimSuffix(got, ".")
}

func TestFaultActions(t *testing.T) {
	for _, dir := range []loopback.Direction{loopback.In, loopback.Out} {
		peerName := "juliet@capulet.lit"
		if dir == loopback.Out {
			peerName = "romeo@capulet.lit"
		}
		for _, tc := range []struct {
			rule loopback.Rule
			want string
		}{
			{loopback.Rule{Action: loopback.Drop, Match: hasBody("b")}, "acd"},
			{loopback.Rule{Action: loopback.Double, Match: hasBody("b")}, "abbcd"},
			{loopback.Rule{Action: loopback.Reorder, Match: hasBody("b")}, "acbd"},
			{loopback.Rule{Action: loopback.Reorder, Match: hasBody("a"), Depth: 3}, "bcda"},
			{loopback.Rule{Action: loopback.Delay, Match: hasBody("b"), Delay: 30 * time.Millisecond}, "abcd"},
			{loopback.Rule{Action: loopback.Drop, Match: anyBody, Skip: 1, Count: 2}, "ad"},
		} {
			t.Run(fmt.Sprintf("%s %s %s", tc.rule.Action, dir, tc.want), func(t *testing.T) {
				s := start(t, loopback.Options{})
				juliet, romeo := client(t, s, "juliet", "b"), client(t, s, "romeo", "o")
				r := tc.rule
				r.Dir, r.Peer, r.Kind = dir, peerName, loopback.C2S
				f := s.Fault(r)
				if got := bodies(juliet, romeo, "abcd"); got != tc.want {
					t.Errorf("got %q, want %q", got, tc.want)
				}
				if f.Hits() == 0 {
					t.Error("rule never acted")
				}
				f.Remove()
				if got := bodies(juliet, romeo, "abcd"); got != "abcd" {
					t.Errorf("after removal: got %q", got)
				}
			})
		}
	}
}

func TestReorderEndsByTime(t *testing.T) {
	s := start(t, loopback.Options{})
	juliet, romeo := client(t, s, "juliet", "b"), client(t, s, "romeo", "o")
	s.Fault(loopback.Rule{Action: loopback.Reorder, Dir: loopback.Out, Peer: romeo.name, Match: anyBody, Depth: 100})
	juliet.send("<message to='%s'><body>alone</body></message>", romeo.name)
	romeo.expect("alone")
}

func TestStall(t *testing.T) {
	s := start(t, loopback.Options{})
	juliet, romeo, nurse := client(t, s, "juliet", "b"), client(t, s, "romeo", "o"), client(t, s, "nurse", "n")
	f := s.Fault(loopback.Rule{Action: loopback.Stall, Dir: loopback.Out, Peer: romeo.name, Match: hasBody("b")})
	for _, c := range "abc" {
		for _, p := range []*peer{romeo, nurse} {
			juliet.send("<message to='%s'><body>%c</body></message>", p.name, c)
		}
	}
	nurse.expect("<body>c")
	romeo.expect("<body>a")
	select {
	case e := <-romeo.got:
		t.Errorf("stalled link delivered %s", e)
	case <-time.After(50 * time.Millisecond):
	}
	f.Remove()
	romeo.expect("<body>b")
	romeo.expect("<body>c")
}

func TestCut(t *testing.T) {
	for _, tc := range []struct {
		action  loopback.Action
		arrives bool
	}{{loopback.Cut, false}, {loopback.CutMid, false}, {loopback.CutNext, true}} {
		t.Run(string(tc.action), func(t *testing.T) {
			s := start(t, loopback.Options{})
			juliet, romeo := client(t, s, "juliet", "b"), client(t, s, "romeo", "o")
			s.Fault(loopback.Rule{Action: tc.action, Dir: loopback.Out, Peer: romeo.name, Match: anyBody, Count: 1})
			juliet.send("<message type='chat' to='%s'><body>x</body></message>", romeo.name)
			got := false
			for e := range romeo.got {
				got = got || anyBody(e)
			}
			if got != tc.arrives {
				t.Errorf("arrived = %v", got)
			}
			romeo = client(t, s, "romeo", "o")
			if b := bodies(juliet, romeo, "ab"); b != "ab" {
				t.Errorf("after reconnecting: %q", b)
			}
		})
	}
}

// TestChanceRepeats: the same seed drops the same stanzas, another seed others.
func TestChanceRepeats(t *testing.T) {
	run := func(seed uint64) string {
		s := start(t, loopback.Options{Seed: seed})
		juliet, romeo := client(t, s, "juliet", "b"), client(t, s, "romeo", "o")
		s.Fault(loopback.Rule{Action: loopback.Drop, Dir: loopback.In, Peer: juliet.name, Chance: 0.5,
			Match: func(e *loopback.Element) bool { return anyBody(e) && !hasBody(".")(e) }})
		return bodies(juliet, romeo, "abcdefghijklmnopqrstuvwxyz")
	}
	a, b, c := run(1), run(1), run(2)
	if a != b || a == c || len(a) < 5 || len(a) > 21 {
		t.Errorf("seed 1 twice: %q and %q; seed 2: %q", a, b, c)
	}
}

func TestWireLog(t *testing.T) {
	s := start(t, loopback.Options{})
	juliet, romeo := client(t, s, "juliet", "b"), client(t, s, "romeo", "o")
	s.Fault(loopback.Rule{Action: loopback.Drop, Match: hasBody("lost")})
	var watched int
	stop := s.Wire().Watch(func(loopback.Record) { watched++ })
	mark := s.Wire().Last()
	for _, b := range []string{"hello", "lost"} {
		juliet.send("<message to='%s'><body>%s</body></message>", romeo.name, b)
	}
	romeo.expect("hello")
	juliet.flush(func(*loopback.Element) {})
	stop()
	var lines []string
	for _, r := range s.Wire().Since(mark) {
		if r.Element.Name.Local == "message" {
			lines = append(lines, fmt.Sprint(r.Kind, " ", r.Peer, " ", r.Dir, " ", r.Fault, " ", r.Element.Child("jabber:client", "body").Text()))
		}
	}
	slices.Sort(lines)
	want := []string{"c2s juliet@capulet.lit/b in  hello", "c2s juliet@capulet.lit/b in drop lost", "c2s romeo@capulet.lit/o out  hello"}
	if !slices.Equal(lines, want) {
		t.Errorf("wire log\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	if watched < 3 {
		t.Errorf("watched %d records", watched)
	}
	for _, r := range s.Wire().Records() {
		if strings.Contains(r.String(), "pw-") || strings.Contains(r.String(), "sasl") {
			t.Errorf("wire log holds authentication: %s", r)
		}
	}
}
