// SPDX-License-Identifier: Apache-2.0

package play

import (
	"fmt"
	"io"
	"sort"
	"strings"
	"sync"
)

// A Summary counts scenarios by world. It is safe for concurrent use.
type Summary struct {
	mu     sync.Mutex
	worlds []string
	rows   map[string]map[string]string // script -> world -> outcome
}

// Outcomes of a scenario on a world.
const (
	Passed  = "passed"
	Failed  = "FAILED"
	Skipped = "skipped" // the world was absent
	NotFor  = "n/a"     // the script cannot be played on this kind of world
)

// Add notes an outcome.
func (s *Summary) Add(script, world, outcome string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rows == nil {
		s.rows = make(map[string]map[string]string)
	}
	if s.rows[script] == nil {
		s.rows[script] = make(map[string]string)
	}
	s.rows[script][world] = outcome
	for _, w := range s.worlds {
		if w == world {
			return
		}
	}
	s.worlds = append(s.worlds, world)
}

// Write prints the table and the counts; nothing when nothing was played.
func (s *Summary) Write(w io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.rows) == 0 {
		return
	}
	var names []string
	for n := range s.rows {
		names = append(names, n)
	}
	sort.Strings(names)
	fmt.Fprintf(w, "\n%-28s", "scenario")
	for _, x := range s.worlds {
		fmt.Fprintf(w, " %-15s", x)
	}
	fmt.Fprintln(w)
	count := make(map[string]map[string]int)
	for _, n := range names {
		var b strings.Builder
		fmt.Fprintf(&b, "%-28s", n)
		for _, x := range s.worlds {
			o := s.rows[n][x]
			if o == "" {
				o = "-"
			}
			if count[x] == nil {
				count[x] = make(map[string]int)
			}
			count[x][o]++
			fmt.Fprintf(&b, " %-15s", o)
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
	fmt.Fprintln(w)
	for _, x := range s.worlds {
		c := count[x]
		fmt.Fprintf(w, "scenarios on %-15s %3d passed, %d failed, %d skipped", x+":", c[Passed], c[Failed], c[Skipped])
		if c[NotFor] > 0 {
			fmt.Fprintf(w, " (%d are not for this world)", c[NotFor])
		}
		if c[Skipped] > 0 {
			fmt.Fprint(w, "   <-- LEFT OUT: no such server here")
		}
		fmt.Fprintln(w)
	}
}
