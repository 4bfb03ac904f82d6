// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReferences checks that every section of RFC 9420 that the code cites
// exists.
func TestReferences(t *testing.T) {
	rfc, err := os.ReadFile(filepath.Join(vectorDir(), "..", "refs", "rfc9420.txt"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("REFERENCES NOT CHECKED: no refs/rfc9420.txt beside the vectors")
	}
	if err != nil {
		t.Fatal(err)
	}
	sections := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^(\d+(?:\.\d+)*)\.  \S`).FindAllSubmatch(rfc, -1) {
		sections[string(m[1])] = true
	}
	if len(sections) < 100 {
		t.Fatalf("%d sections found", len(sections))
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	// "RFC 9420 §7.3, §8" and, in the table of rules, "§7.3" alone.
	cite := regexp.MustCompile(`RFC 9420\s+(?://\s*)?((?:§\d+(?:\.\d+)*(?:(?:-\d+(?:\.\d+)*)|,? (?:and )?)?)+)`)
	section := regexp.MustCompile(`§(\d+(?:\.\d+)*)`)
	count := 0
	check := func(file, number string) {
		count++
		if !sections[number] {
			t.Errorf("%s cites RFC 9420 §%s, which does not exist", file, number)
		}
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range cite.FindAllSubmatch(b, -1) {
			for _, s := range section.FindAllSubmatch(m[1], -1) {
				check(file, string(s[1]))
			}
		}
	}
	for _, info := range Rules() {
		if number, ok := strings.CutPrefix(info.Section, "§"); ok {
			check("rules.go", number)
		}
	}
	if count < 300 {
		t.Fatalf("only %d citations found", count)
	}
}
