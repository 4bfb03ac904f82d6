// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var updateRules = flag.Bool("update-rules", false, "write testdata/rules.md anew")

// testsOf returns the tests of every rule.
func testsOf() map[Rule][]string {
	tests := make(map[Rule][]string)
	for _, name := range slices.Sorted(maps.Keys(offences)) {
		for _, o := range offences[name] {
			tests[o.rule] = append(tests[o.rule], name+"/"+string(o.rule)+"/"+o.name)
		}
	}
	return tests
}

// TestEveryRuleIsTripped fails for a rule that no test breaks, and for a test of
// a rule that does not exist.
func TestEveryRuleIsTripped(t *testing.T) {
	tests := testsOf()
	for _, r := range Rules() {
		if len(tests[r.Rule]) == 0 && r.Unreachable == "" {
			t.Errorf("no test breaks rule %s: %s", r.Rule, r.Text)
		}
		for _, o := range tests[r.Rule] {
			if r.Unreachable != "" && !strings.Contains(o, "instead") {
				t.Errorf("rule %s is said to be unreachable and has test %s", r.Rule, o)
			}
		}
	}
	seen := make(map[string]bool)
	for name, list := range offences {
		for _, o := range list {
			switch info := ruleByID[o.rule]; {
			case info == nil:
				t.Errorf("%s: rule %s is not in the table", name, o.rule)
			case o.want == "":
			case ruleByID[o.want] == nil:
				t.Errorf("%s: rule %s is not in the table", name, o.want)
			case !info.Within && info.Unreachable == "":
				t.Errorf("%s: %s is reported for rule %s, which is not marked Within", name, o.want, o.rule)
			}
			id := name + "/" + string(o.rule) + "/" + o.name
			if seen[id] || o.name == "" || strings.ContainsAny(o.name, " /") {
				t.Errorf("%s: not a name for one test", id)
			}
			seen[id] = true
		}
	}
}

// TestRuleTable: every constant of rules.go stands in the table once, and the
// published table is up to date.
func TestRuleTable(t *testing.T) {
	source, err := os.ReadFile("rules.go")
	if err != nil {
		t.Fatal(err)
	}
	constants := regexp.MustCompile(`(?m)^\tRule\w+ +Rule = "(.+)"$`).FindAllSubmatch(source, -1)
	if len(constants) != len(ruleTable) || len(ruleByID) != len(ruleTable) {
		t.Errorf("%d constants, %d rows, %d ids", len(constants), len(ruleTable), len(ruleByID))
	}
	for _, m := range constants {
		if ruleByID[Rule(m[1])] == nil {
			t.Errorf("rule %s is not in the table", m[1])
		}
	}
	var b bytes.Buffer
	fmt.Fprintln(&b, "<!-- written by: go test -run TestRuleTable -update-rules -->")
	fmt.Fprintln(&b, "# The validation rules of package mls")
	fmt.Fprintln(&b)
	fmt.Fprintln(&b, "Ids `valnNNNN` are those of validation.openmls.tech, `ValSemNNN` of OpenMLS; others are our own.")
	fmt.Fprintln(&b, "*Within* rules say that an inner object is valid: what is reported is the rule that the object breaks.")
	fmt.Fprintln(&b)
	fmt.Fprintln(&b, "| rule | section | what must hold | tests |")
	fmt.Fprintln(&b, "|---|---|---|---|")
	tests := testsOf()
	for _, r := range ruleTable {
		id := "`" + string(r.Rule) + "`"
		if r.Also != "" {
			id += " (" + r.Also + ")"
		}
		text := r.Text
		if r.Within {
			text += ". *Within*"
		}
		if r.Unreachable != "" {
			text += ". *Cannot be broken*: " + r.Unreachable
		}
		var names []string
		for _, name := range tests[r.Rule] {
			top, rest, _ := strings.Cut(name, "/")
			_, rest, _ = strings.Cut(rest, "/")
			names = append(names, top+": "+rest)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", id, r.Section, text, strings.Join(names, "<br>"))
	}
	if *updateRules {
		if err := os.WriteFile("testdata/rules.md", b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile("testdata/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, b.Bytes()) {
		t.Error("testdata/rules.md is out of date: run go test -run TestRuleTable -update-rules ./mls")
	}
}

// ruleSections are the titles of the sections that the rules refer to.
var ruleSections = map[string]string{
	"5.1.1": "Public Keys", "5.3": "Credentials", "6": "Message Framing", "6.1": "Content Authentication",
	"6.2": "Encoding and Decoding a Public Message", "6.3.1": "Content Encryption", "6.3.2": "Sender Data Encryption",
	"7.2": "Leaf Node Contents", "7.3": "Leaf Node Validation", "7.5": "Synchronizing Views of the Tree", "7.6": "Update Paths",
	"7.9.2": "Verifying Parent Hashes", "10": "Key Packages", "10.1": "KeyPackage Validation",
	"11.2": "Reinitialization", "11.3": "Subgroup Branching", "12.1": "Proposals", "12.1.1": "Add", "12.1.2": "Update", "12.1.3": "Remove",
	"12.1.4": "PreSharedKey", "12.1.5": "ReInit", "12.1.7": "GroupContextExtensions", "12.1.8": "External Proposals",
	"12.1.8.1": "External Senders Extension", "12.2": "Proposal List Validation", "12.4": "Commit", "12.4.2": "Processing a Commit",
	"12.4.3": "Adding Members to the Group", "12.4.3.1": "Joining via Welcome Message", "12.4.3.2": "Joining via External Commits",
	"12.4.3.3": "Ratchet Tree Extension", "13.4": "Extensions", "15.3": "Delayed and Reordered Application Messages",
	"17.3": "MLS Extension Types",
}

// TestRuleSections compares the sections of the table with the RFC itself.
func TestRuleSections(t *testing.T) {
	used := make(map[string]bool)
	for _, r := range ruleTable {
		if s, ok := strings.CutPrefix(r.Section, "§"); ok {
			used[s] = true
			if ruleSections[s] == "" {
				t.Errorf("rule %s: section %s has no title here", r.Rule, s)
			}
		} else if !strings.HasPrefix(r.Section, extensionsDraft) {
			t.Errorf("rule %s: section %q", r.Rule, r.Section)
		}
	}
	for s := range ruleSections {
		if !used[s] {
			t.Errorf("no rule refers to section %s", s)
		}
	}
	rfc, err := os.ReadFile("../../shared/refs/rfc9420.txt")
	if err != nil {
		t.Skipf("SKIPPED: the text of RFC 9420 is not at hand, sections are not compared: %v", err)
	}
	titles := make(map[string]string)
	for _, m := range regexp.MustCompile(`(?m)^(\d+(?:\.\d+)*)\.  (\S.*)$`).FindAllSubmatch(rfc, -1) {
		titles[string(m[1])] = strings.TrimSpace(string(m[2]))
	}
	for s, title := range ruleSections {
		if titles[s] != title {
			t.Errorf("section %s is %q in the RFC, here %q", s, titles[s], title)
		}
	}
	draft, err := os.ReadFile("../../shared/refs/draft-ietf-mls-extensions.md")
	if err != nil {
		t.Skipf("SKIPPED: the text of draft-ietf-mls-extensions is not at hand: %v", err)
	}
	for _, r := range ruleTable {
		if title, ok := strings.CutPrefix(r.Section, extensionsDraft); ok && !regexp.MustCompile(`(?m)^#+ `+regexp.QuoteMeta(title)+`( \{.*)?$`).Match(draft) {
			t.Errorf("rule %s: the draft has no section %q", r.Rule, title)
		}
	}
}
