// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// leftOut is what tests of this process could not have.
var leftOut missing

// missing counts tests by what they lacked.
type missing struct {
	mu    sync.Mutex
	tests map[lack]int
}

type lack struct {
	what string // a server, or "" for something else
	why  string
}

func (m *missing) note(what, why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tests == nil {
		m.tests = make(map[lack]int)
	}
	m.tests[lack{what, why}]++
}

// text names everything, a line each, or is empty.
func (m *missing) text() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var lines []string
	for l, n := range m.tests {
		on := ""
		if l.what != "" {
			on = " on " + l.what
		}
		lines = append(lines, fmt.Sprintf("lockstep: LEFT OUT, %3d tests%s: %s\n", n, on, l.why))
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}
