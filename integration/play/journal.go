// SPDX-License-Identifier: Apache-2.0

package play

import (
	"context"
	"fmt"
	"strings"
	"sync"
)

// An Entry is one thing that an actor was told.
type Entry struct {
	Kind  string // "message", "joined", "removed", "stanza" ...
	Group string // the group's name in the script, or ""
	Text  string // what there is to know of it, as one line
}

func (e Entry) String() string {
	return strings.TrimSpace(e.Kind + " " + e.Group + " " + e.Text)
}

func (e Entry) matches(kind, group string, words []string) bool {
	if e.Kind != kind || group != "" && e.Group != group {
		return false
	}
	for _, w := range words {
		if !strings.Contains(e.Text, w) {
			return false
		}
	}
	return true
}

// A Journal is what an actor was told, in order. It is safe for concurrent use.
type Journal struct {
	mu      sync.Mutex
	entries []Entry
	used    []bool // an expectation has taken it
	more    chan struct{}
}

// Add notes an entry.
func (j *Journal) Add(e Entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, e)
	j.used = append(j.used, false)
	if j.more != nil {
		close(j.more)
		j.more = nil
	}
}

// Expect waits for an entry that no earlier expectation has taken, and takes it.
func (j *Journal) Expect(ctx context.Context, kind, group string, words []string) (Entry, error) {
	for {
		j.mu.Lock()
		for i, e := range j.entries {
			if !j.used[i] && e.matches(kind, group, words) {
				j.used[i] = true
				j.mu.Unlock()
				return e, nil
			}
		}
		if j.more == nil {
			j.more = make(chan struct{})
		}
		more := j.more
		j.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return Entry{}, fmt.Errorf("nothing like %q came; was told:\n%s", strings.TrimSpace(kind+" "+group+" "+strings.Join(words, " ")), j.tail(25))
		}
	}
}

// Count is how many entries match, taken or not.
func (j *Journal) Count(kind, group string, words []string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := 0
	for _, e := range j.entries {
		if e.matches(kind, group, words) {
			n++
		}
	}
	return n
}

// Texts are the texts of all entries of a kind and group, in order.
func (j *Journal) Texts(kind, group string) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []string
	for _, e := range j.entries {
		if e.matches(kind, group, nil) {
			out = append(out, e.Text)
		}
	}
	return out
}

// tail is the last entries, as lines.
func (j *Journal) tail(n int) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var b strings.Builder
	first := max(0, len(j.entries)-n)
	if first > 0 {
		fmt.Fprintf(&b, "    (%d earlier)\n", first)
	}
	for i, e := range j.entries[first:] {
		mark := " "
		if j.used[first+i] {
			mark = "*"
		}
		text := e.String()
		if len(text) > 400 {
			text = text[:400] + "…"
		}
		fmt.Fprintf(&b, "    %s %s\n", mark, text)
	}
	if len(j.entries) == 0 {
		return "    (nothing)\n"
	}
	return b.String()
}
