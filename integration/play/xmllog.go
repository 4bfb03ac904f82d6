// SPDX-License-Identifier: Apache-2.0

package play

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// An XMLLog keeps what went over the taps, for the test log. It keeps a bounded tail; a
// nil log keeps nothing.
type XMLLog struct {
	mu    sync.Mutex
	begin time.Time
	lines []string
	size  int
	lost  int
	most  int
	whose string
	Limit int // bytes kept; 8 MiB if zero
}

// secrets are elements of SASL; what is in them is not for logs.
var secrets = []string{"<auth ", "<response ", "<challenge ", "<success ", "<handshake>"}

func (l *XMLLog) add(name, dir, act string, b []byte) {
	if l == nil {
		return
	}
	text := string(b)
	for _, s := range secrets {
		if strings.HasPrefix(text, s) {
			text, _, _ = strings.Cut(text, ">")
			text += "> [left out]"
		}
	}
	arrow := "->"
	if dir == To {
		arrow = "<-"
	}
	if act != "" {
		act = " [" + act + "]"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(b) > l.most {
		l.most, l.whose = len(b), name
	}
	if l.begin.IsZero() {
		l.begin = time.Now()
	}
	if len(text) > 16<<10 {
		text = text[:16<<10] + fmt.Sprintf("… (%d bytes)", len(text))
	}
	line := fmt.Sprintf("%8.3f %-10s %s%s %s", time.Since(l.begin).Seconds(), name, arrow, act, text)
	l.lines = append(l.lines, line)
	l.size += len(line)
	limit := l.Limit
	if limit == 0 {
		limit = 8 << 20
	}
	for l.size > limit && len(l.lines) > 1 {
		l.size -= len(l.lines[0])
		l.lines = l.lines[1:]
		l.lost++
	}
}

// Largest is the size of the largest stanza, and over whose link it went.
func (l *XMLLog) Largest() (bytes int, whose string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.most, l.whose
}

// Contains tells whether any kept stanza holds the text.
func (l *XMLLog) Contains(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, x := range l.lines {
		if strings.Contains(x, text) {
			return true
		}
	}
	return false
}

// Write writes the log.
func (l *XMLLog) Write(w io.Writer) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b bytes.Buffer
	if l.lost > 0 {
		fmt.Fprintf(&b, "(%d earlier stanzas are not kept)\n", l.lost)
	}
	for _, x := range l.lines {
		b.WriteString(x)
		b.WriteByte('\n')
	}
	_, err := w.Write(b.Bytes())
	return err
}
