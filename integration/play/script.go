// SPDX-License-Identifier: Apache-2.0

package play

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/txtar"
)

// A Script is one scenario.
type Script struct {
	Name  string // file name without its extension
	Path  string
	Title string // the first comment
	Issue string // the first link in the comments, for a regression
	Lines []Line
	Files map[string]string // what follows the play: stanzas to send, mostly
}

// A Line is one sentence.
type Line struct {
	N       int // line number
	Text    string
	Words   []string
	Fails   bool   // "!": it must be refused
	Beside  bool   // "&": it runs beside what follows, until "wait"
	Because string // what the refusal must say: the part after "because"
}

// Load reads the scripts that a pattern finds. None is an error.
func Load(pattern string) ([]*Script, error) {
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return nil, fmt.Errorf("play: %w", err)
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("play: no script matches %q", pattern)
	}
	var out []*Script
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			return nil, fmt.Errorf("play: %w", err)
		}
		s, err := Parse(p, b)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// Parse reads one script: a txtar archive whose comment is the play.
func Parse(path string, b []byte) (*Script, error) {
	a := txtar.Parse(b)
	s := &Script{Path: path, Name: strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)), Files: make(map[string]string)}
	for _, f := range a.Files {
		s.Files[f.Name] = string(f.Data)
	}
	for i, text := range strings.Split(string(a.Comment), "\n") {
		text = strings.TrimSpace(text)
		if c, ok := strings.CutPrefix(text, "#"); ok {
			c = strings.TrimSpace(c)
			if s.Title == "" {
				s.Title = c
			}
			if at := strings.Index(c, "https://"); at >= 0 && s.Issue == "" {
				s.Issue, _, _ = strings.Cut(c[at:], " ")
			}
			continue
		}
		if text == "" {
			continue
		}
		l := Line{N: i + 1, Text: text}
		rest := text
		for {
			if r, ok := strings.CutPrefix(rest, "!"); ok {
				l.Fails, rest = true, strings.TrimSpace(r)
			} else if r, ok := strings.CutPrefix(rest, "&"); ok {
				l.Beside, rest = true, strings.TrimSpace(r)
			} else {
				break
			}
		}
		words, err := split(rest)
		if err != nil {
			return nil, fmt.Errorf("play: %s:%d: %w", path, l.N, err)
		}
		if l.Fails && len(words) > 2 && words[len(words)-2] == "because" {
			l.Because, words = words[len(words)-1], words[:len(words)-2]
		}
		if len(words) == 0 {
			return nil, fmt.Errorf("play: %s:%d: nothing after the mark", path, l.N)
		}
		l.Words = words
		s.Lines = append(s.Lines, l)
	}
	if s.Title == "" || len(s.Lines) == 0 {
		return nil, fmt.Errorf("play: %s: a script has a title (its first # line) and at least one sentence", path)
	}
	return s, nil
}

// split divides a sentence at white space. "Double quotes" hold words together; inside
// them \" and \\ and \n are what they are in Go.
func split(s string) ([]string, error) {
	var out []string
	for {
		s = strings.TrimLeft(s, " \t")
		if s == "" || s[0] == '#' {
			return out, nil
		}
		if s[0] != '"' {
			end := strings.IndexAny(s, " \t")
			if end < 0 {
				end = len(s)
			}
			out, s = append(out, s[:end]), s[end:]
			continue
		}
		var b strings.Builder
		i := 1
		for ; i < len(s) && s[i] != '"'; i++ {
			if s[i] == '\\' && i+1 < len(s) {
				i++
				if s[i] == 'n' {
					b.WriteByte('\n')
					continue
				}
			}
			b.WriteByte(s[i])
		}
		if i >= len(s) {
			return nil, fmt.Errorf("a quote is not closed")
		}
		out, s = append(out, b.String()), s[i+1:]
	}
}
