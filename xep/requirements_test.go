// SPDX-License-Identifier: Apache-2.0

package xep_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/component"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
	"github.com/lockstep-im/lockstep/xep"
)

func requirements(t *testing.T) []xep.Requirement {
	t.Helper()
	list, err := xep.Requirements()
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 150 {
		t.Fatalf("requirements.tsv has %d rows", len(list))
	}
	return list
}

func TestRequirementsSayWhoAndWhere(t *testing.T) {
	id := regexp.MustCompile(`^(mls|kp|ds)-[a-z0-9-]+-\d+$|^rfc9750-[45678](\.\d+)*-\d+$`)
	seen := make(map[string]bool)
	for _, r := range requirements(t) {
		if !id.MatchString(r.ID) || seen[r.ID] {
			t.Errorf("%s: the id is malformed or used twice", r.ID)
		}
		seen[r.ID] = true
		if !slices.Contains([]string{"MUST", "SHOULD", "MAY"}, r.Level) {
			t.Errorf("%s: level %q", r.ID, r.Level)
		}
		who := strings.Fields(r.Who)
		if len(who) == 0 {
			t.Errorf("%s: nobody has the duty", r.ID)
		}
		for _, w := range who {
			if !slices.Contains([]string{"ds", "client", "as", "operator"}, w) {
				t.Errorf("%s: who is %q", r.ID, w)
			}
		}
		if r.Text == "" || r.Section == "" {
			t.Errorf("%s: no text or no section", r.ID)
		}
		if sec, ok := strings.CutPrefix(r.Section, "RFC 9750 §"); ok && !strings.HasPrefix(r.ID, "rfc9750-"+sec+"-") {
			t.Errorf("%s is of %s", r.ID, r.Section)
		}
		switch r.Status {
		case "done":
			if len(r.Code) == 0 || len(r.Test) == 0 {
				t.Errorf("%s: done takes code and a test", r.ID)
			}
		case "partial", "operator":
			if r.Note == "" {
				t.Errorf("%s: %s takes a note that says what is missing", r.ID, r.Status)
			}
		default:
			t.Errorf("%s: status %q", r.ID, r.Status)
		}
	}
	for _, sec := range []string{"4", "5.1", "5.2", "5.2.1", "5.2.3", "5.3", "6.1", "6.2", "6.3", "6.4", "6.5", "6.6", "6.7", "6.9", "6.10", "6.11", "7",
		"8.1", "8.1.1", "8.1.2", "8.1.3", "8.1.4", "8.2.2", "8.2.3", "8.2.4", "8.3.3", "8.3.4", "8.4.1.1", "8.4.1.2", "8.4.2", "8.4.2.1", "8.4.3", "8.4.3.1", "8.4.3.2", "8.5", "8.6"} {
		if !seen["rfc9750-"+sec+"-1"] {
			t.Errorf("no duty of RFC 9750 §%s is listed", sec)
		}
	}
}

// TestPlacesExist reads each file that a requirement names.
func TestPlacesExist(t *testing.T) {
	files := make(map[string]string)
	for _, r := range requirements(t) {
		for _, place := range append(slices.Clone(r.Code), r.Test...) {
			path, name, ok := strings.Cut(place, ":")
			if !ok || name == "" || !filepath.IsLocal(path) {
				t.Errorf("%s: %q is not a place of the form path/file.go:Name", r.ID, place)
				continue
			}
			if _, ok := files[path]; !ok {
				b, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(path)))
				if err != nil {
					t.Errorf("%s: %v", r.ID, err)
				}
				files[path] = string(b)
			}
			if !regexp.MustCompile(`\b` + regexp.QuoteMeta(name) + `\b`).MatchString(files[path]) {
				t.Errorf("%s: %s has no %s", r.ID, path, name)
			}
		}
		for _, place := range r.Test {
			path, _, _ := strings.Cut(place, ":")
			if !strings.HasSuffix(path, "_test.go") && !strings.HasSuffix(path, ".txtar") && !strings.Contains(path, "/storetest/") {
				t.Errorf("%s: %s is no test", r.ID, place)
			}
		}
	}
}

// TestEveryStatementHasARow holds the documents against the table, word for
// word: a sentence that is changed has its row looked at again.
func TestEveryStatementHasARow(t *testing.T) {
	prefix := map[string]string{"mls.xml": "mls-", "mls-key-packages.xml": "kp-", "mls-delivery.xml": "ds-"}
	rows := make(map[string]xep.Requirement)
	for _, r := range requirements(t) {
		if !strings.HasPrefix(r.ID, "rfc9750-") {
			rows[r.ID] = r
		}
	}
	for _, doc := range xep.Documents() {
		list, err := xep.Statements(doc)
		if err != nil {
			t.Fatal(err)
		}
		n := make(map[string]int)
		for _, s := range list {
			n[s.Section]++
			id := fmt.Sprintf("%s%s-%d", prefix[doc], s.Section, n[s.Section])
			r, ok := rows[id]
			delete(rows, id)
			switch {
			case !ok:
				t.Errorf("%s is not in requirements.tsv: %s", id, s.Text)
			case r.Text != s.Text:
				t.Errorf("%s: the table and the document differ:\n%s\n%s", id, r.Text, s.Text)
			case r.Level != s.Level || r.Section != doc+"#"+s.Section:
				t.Errorf("%s is a %s of %s#%s, in the table a %s of %s", id, s.Level, doc, s.Section, r.Level, r.Section)
			}
		}
	}
	for id := range rows {
		t.Errorf("%s is in requirements.tsv and in no document", id)
	}
}

// TestParametersAreFixed compares the numbers in the documents with those in
// the code.
func TestParametersAreFixed(t *testing.T) {
	cells := make(map[string]string)
	var row []string
	element(t, "mls.xml", func(name string, _ map[string]string, text string) {
		switch name {
		case "td":
			row = append(row, strings.Join(strings.Fields(text), " "))
		case "tr":
			if len(row) == 2 {
				cells[row[0]] = row[1]
			}
			row = nil
		}
	})
	thousands := func(n int) string {
		if n < 1000 {
			return fmt.Sprint(n)
		}
		return fmt.Sprintf("%d,%03d", n/1000, n%1000)
	}
	days := func(d time.Duration) string { return fmt.Sprintf("%d days", int(d/(24*time.Hour))) }
	l := component.Limits{}.WithDefaults()
	for label, want := range map[string][]string{
		"MLS version":   {"mls10"},
		"Cipher suites": {"0x0001", "0x0002", "0x0003", "0x0007"},
		"Extensions in every leaf's capabilities": {fmt.Sprintf("0x%04x", uint16(mls.ExtensionAppDataDictionary))},
		"Proposals in every leaf's capabilities":  {fmt.Sprintf("0x%04x", uint16(mls.ProposalAppDataUpdate)), fmt.Sprintf("0x%04x", uint16(mls.ProposalSelfRemove))},
		"Lifetime of key packages":                {days(mls.DefaultLifetime), days(mls.DefaultMaxLifetime), days(l.MaxKeyPackageLife), days(l.MaxLastResortLife)},
		"Inactive devices":                        {days(l.IdleDevice)},
		"Application messages of earlier epochs":  {fmt.Sprintf("%d past epochs", mls.DefaultPastEpochs), fmt.Sprintf("%d hours", int(mls.DefaultPastEpochAge.Hours()))},
		"Messages out of order":                   {thousands(mls.DefaultMaxForward), thousands(mls.DefaultMaxSkipped), thousands(mls.DefaultMaxSkippedTotal)},
		"Resumption PSKs":                         {fmt.Sprintf("past %d epochs", mls.DefaultResumptionPSKs)},
		"Message size":                            {fmt.Sprintf("%d KiB", l.MaxPage>>10)},
		"group_id":                                nil, "application_id": nil, "Application data": nil, "authenticated_data": nil, "Credential types": nil, "Forbidden extensions": nil,
		"required_capabilities of a new group": nil, "Wire format of handshake messages": nil, "Which proposals are valid": nil,
		"Who commits pending proposals": nil, "GroupInfo for external joins": nil, "When two credentials represent the same client": nil,
		"Time between updates of a leaf": nil, "Entries that come too early": nil, "Padding": nil, "When to re-initialise": nil,
		"Full or partial commits": nil, "external_senders": nil, "External PSKs": nil,
	} {
		text, ok := cells[label]
		if !ok {
			t.Errorf("the table of parameters does not fix %q", label)
		}
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s: %q, the code says %s", label, text, w)
			}
		}
	}
	if groupdata.ComponentGroup != 0xF5A0 || groupdata.ComponentRoles != 0xF5A1 || groupdata.ComponentPosition != 0xF5A2 {
		t.Error("the components have other numbers than the document")
	}
	// The series of padded sizes.
	var sizes []string
	last := 0
	for n := 1; n <= 1280; n++ {
		if size := n + mls.PadBuckets(n); size != last {
			sizes, last = append(sizes, fmt.Sprint(size)), size
		}
	}
	text := documentText(t, "mls.xml")
	for _, s := range []string{strings.Join(sizes[:4], ", ") + ",", strings.Join(sizes[4:], ", ")} {
		if !strings.Contains(text, s) {
			t.Errorf("the series of padded sizes is not %s", s)
		}
	}
	// What the delivery service says of itself.
	text = documentText(t, "mls-delivery.xml")
	for _, s := range []string{
		fmt.Sprintf("<field var='max-bytes'><value>%d</value></field>", l.MaxPage),
		fmt.Sprintf("<td>%d</td>", stanza.PageBytes),
		fmt.Sprintf("<field var='max-artifact-bytes'><value>%d</value></field>", l.MaxArtifact),
		fmt.Sprintf("<field var='log-retention-seconds'><value>%d</value></field>", int(l.LogAge.Seconds())),
		fmt.Sprintf("<field var='max-devices'><value>%d</value></field>", l.MaxDevices),
		fmt.Sprintf("<field var='key-packages'><value>%d</value></field>", l.MaxKeyPackages),
		"retention of the group, " + days(l.LogAge) + " by default",
		"at most " + days(l.WelcomeAge) + " by default",
		"stays taken for " + days(l.TombstoneAge) + " by default",
		"not seen for long, " + days(l.IdleDevice) + " by default",
	} {
		if !strings.Contains(text, s) {
			t.Errorf("mls-delivery.xml does not say %q", s)
		}
	}
}

func documentText(t *testing.T, doc string) string {
	t.Helper()
	b, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(b)), " ")
}
