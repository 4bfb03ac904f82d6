// SPDX-License-Identifier: Apache-2.0

package loopback

import (
	"hash/fnv"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Action is what a [Rule] does to a stanza.
type Action string

// The actions.
const (
	Drop    Action = "drop"     // the stanza vanishes
	Delay   Action = "delay"    // it and what follows on the link wait for Rule.Delay
	Double  Action = "double"   // it is passed on twice
	Reorder Action = "reorder"  // Rule.Depth later stanzas overtake it (or Rule.Delay passes)
	Cut     Action = "cut"      // the connection breaks before it is passed on
	CutMid  Action = "cut-mid"  // the connection breaks in the middle of it (going out; else as Cut)
	CutNext Action = "cut-next" // the connection breaks just after it
	Stall   Action = "stall"    // it and what follows on the link wait until the rule is removed
)

// A Rule is one fault. The zero value of a field means "any" or "none".
type Rule struct {
	Action Action
	Kind   Kind      // C2S, Component or S2S
	Peer   string    // full or bare JID, or a domain
	Dir    Direction // In or Out, seen from this server
	Match  func(*Element) bool

	Skip   int     // let this many matching stanzas of a link pass first
	Count  int     // act on at most this many in all; 0 = no limit
	Chance float64 // act with this probability; 0 = always

	Delay  time.Duration // for Delay, and the longest wait of Reorder (default 200 ms)
	Jitter time.Duration // up to this much more, for Delay
	Depth  int           // for Reorder; default 1
}

// A Fault is a rule in force.
type Fault struct {
	rule  Rule
	set   *faults
	index int

	mu      sync.Mutex
	seen    map[string]int // per link and direction
	hits    int
	removed bool
}

// Hits counts the stanzas that the rule acted on.
func (f *Fault) Hits() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hits
}

// Remove ends the rule. What it stalled goes on.
func (f *Fault) Remove() {
	f.mu.Lock()
	f.removed = true
	f.mu.Unlock()
	f.set.remove(f)
}

func (f *Fault) over() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.removed
}

// faults are the rules of a server.
type faults struct {
	mu      sync.Mutex
	seed    uint64
	list    []*Fault
	total   int
	changed chan struct{} // closed and replaced when a rule is removed
}

func newFaults(seed uint64) *faults { return &faults{seed: seed, changed: make(chan struct{})} }

func (fs *faults) add(r Rule) *Fault {
	if r.Depth <= 0 {
		r.Depth = 1
	}
	if r.Action == Reorder && r.Delay <= 0 {
		r.Delay = 200 * time.Millisecond
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.total++
	f := &Fault{rule: r, set: fs, index: fs.total, seen: make(map[string]int)}
	fs.list = append(fs.list, f)
	return f
}

func (fs *faults) remove(f *Fault) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for i, g := range fs.list {
		if g == f {
			fs.list = append(fs.list[:i:i], fs.list[i+1:]...)
			break
		}
	}
	close(fs.changed)
	fs.changed = make(chan struct{})
}

func (fs *faults) clear() {
	fs.mu.Lock()
	list := fs.list
	fs.mu.Unlock()
	for _, f := range list {
		f.Remove()
	}
}

func (fs *faults) changes() <-chan struct{} {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.changed
}

// hit is the first rule that acts on a stanza, with its delay; nil when none does.
func (fs *faults) hit(kind Kind, peer string, dir Direction, el *Element) (*Fault, time.Duration) {
	fs.mu.Lock()
	list := fs.list
	fs.mu.Unlock()
	for _, f := range list {
		r := &f.rule
		if r.Kind != "" && r.Kind != kind || r.Dir != "" && r.Dir != dir || r.Peer != "" && !samePeer(r.Peer, peer) {
			continue
		}
		if r.Match != nil && !r.Match(el) {
			continue
		}
		if d, ok := f.decide(fs.seed, string(kind)+" "+peer+" "+string(dir)); ok {
			return f, d
		}
	}
	return nil, 0
}

// decide counts a matching stanza and tells whether the rule acts on it. Chance and
// jitter come from the seed, the rule and the stanza's number on its link alone, so
// that the interleaving of links changes nothing.
func (f *Fault) decide(seed uint64, link string) (time.Duration, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.removed || f.rule.Count > 0 && f.hits >= f.rule.Count {
		return 0, false
	}
	f.seen[link]++
	n := f.seen[link]
	if n <= f.rule.Skip {
		return 0, false
	}
	h := fnv.New64a()
	h.Write([]byte(strconv.Itoa(f.index) + " " + strconv.Itoa(n) + " " + link))
	rnd := rand.New(rand.NewPCG(seed, h.Sum64()))
	if f.rule.Chance > 0 && rnd.Float64() >= f.rule.Chance {
		return 0, false
	}
	f.hits++
	d := f.rule.Delay
	if f.rule.Jitter > 0 {
		d += time.Duration(rnd.Int64N(int64(f.rule.Jitter)))
	}
	return d, true
}

// samePeer: a bare JID matches all its resources.
func samePeer(want, peer string) bool {
	return want == peer || strings.HasPrefix(peer, want+"/")
}
