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
	// The duties in each section, as counted by people who have read the RFC: what
	// it demands, recommends, or leaves to the application.
	for sec, n := range map[string]int{
		"4": 4, "5.1": 9, "5.2": 4, "5.2.1": 2, "5.2.2": 1, "5.2.3": 2, "5.3": 3, "6.1": 4, "6.2": 1, "6.3": 1,
		"6.4": 3, "6.5": 3, "6.6": 1, "6.7": 1, "6.9": 2, "6.10": 1, "6.11": 1, "7": 23, "8.1": 1, "8.1.1": 1,
		"8.1.2": 1, "8.1.3": 2, "8.1.4": 1, "8.2.2": 2, "8.2.3": 1, "8.2.4": 1, "8.3.3": 2, "8.3.4": 3, "8.4.1.1": 1, "8.4.1.2": 4,
		"8.4.2": 3, "8.4.2.1": 2, "8.4.3": 2, "8.4.3.1": 6, "8.4.3.2": 2, "8.5": 1, "8.6": 1,
	} {
		for i := 1; i <= n+1; i++ {
			if id := fmt.Sprintf("rfc9750-%s-%d", sec, i); seen[id] != (i <= n) {
				t.Errorf("%s: %v is listed, RFC 9750 §%s has %d duties", id, seen[id], sec, n)
			}
			delete(seen, fmt.Sprintf("rfc9750-%s-%d", sec, i))
		}
	}
	for id := range seen {
		if strings.HasPrefix(id, "rfc9750-") {
			t.Errorf("%s is of a section that has no duties", id)
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

// TestDefaultsAreTrue compares the table of defaults with the limits in the code,
// and each number that the text calls a default with the constant that it is.
func TestDefaultsAreTrue(t *testing.T) {
	l := component.Limits{}.WithDefaults()
	number := func(n int) string { // 1,234,567
		s := fmt.Sprint(n)
		for i := len(s) - 3; i > 0; i -= 3 {
			s = s[:i] + "," + s[i:]
		}
		return s
	}
	octets := func(n int) string { return number(n) + " octets" }
	rate := func(r component.Rate) string {
		if r.PerSecond >= 1 {
			return fmt.Sprintf("%s in a second, %s at once", number(int(r.PerSecond)), number(r.Burst))
		}
		return fmt.Sprintf("1 in %.0f seconds, %s at once", 1/r.PerSecond, number(r.Burst))
	}
	want := map[string]string{
		"a stanza, in either direction":                                     octets(l.MaxStanza),
		"max-bytes: a message, a proposal, a page":                          octets(l.MaxPage),
		"max-artifact-bytes: a commit, Welcome or GroupInfo that is staged": octets(l.MaxArtifact),
		"stages of an account together":                                     octets(int(l.StageQuota)) + ", for 5 minutes",
		"a key package":                                                     octets(l.MaxKeyPackageBytes),
		"key packages of a device: kept, wished for, few":                   fmt.Sprintf("%d, %d, %d", l.MaxKeyPackages, l.TargetKeyPackages, l.LowKeyPackages),
		"devices of an account with key packages":                           number(l.MaxDevices),
		"devices in a group":                                                number(l.MaxMembers),
		"groups that an account owns":                                       number(l.MaxGroups),
		"pending proposals of a group":                                      number(l.MaxPending),
		"sessions of an account":                                            number(l.MaxSessions),
		"sessions of another domain":                                        number(l.DomainSessions),
		"Welcomes from other domains that wait for a device":                number(l.MaxWelcomes),
		"octets of an account's requests":                                   rate(l.Bytes),
		"octets of another domain's requests":                               rate(l.DomainBytes),
		"devices that an account adds, with key packages that were not claimed from this DS": rate(l.Invites),
		"a GroupContext":                                octets(l.MaxContextBytes),
		"past epochs that messages may be of":           number(l.EpochWindow),
		"reservation of a name":                         "10 minutes",
		"requests of an account":                        rate(l.Requests),
		"requests of another domain":                    rate(l.Domain),
		"messages of an account":                        rate(l.Send),
		"users claimed by an account":                   rate(l.Claims),
		"users claimed by another domain":               rate(l.DomainClaims),
		"claims of one user's key packages by a domain": rate(l.Claimed),
		"groups created by an account":                  rate(l.Create),
		"reports of an account":                         rate(l.Reports),
	}
	var row []string
	inTable := false
	element(t, "mls-delivery.xml", func(name string, attr map[string]string, text string) {
		switch name {
		case "td":
			row = append(row, strings.Join(strings.Fields(text), " "))
		case "tr":
			if len(row) == 2 && want[row[0]] != "" {
				inTable = true
				if row[1] != want[row[0]] {
					t.Errorf("%s: %q, the code says %s", row[0], row[1], want[row[0]])
				}
				delete(want, row[0])
			} else if len(row) == 2 && inTable {
				t.Errorf("the table of defaults has a row %q, which is not compared", row[0])
			}
			row = nil
		case "table":
			inTable = false
		}
	})
	for label := range want {
		t.Errorf("the table of defaults does not say %q", label)
	}
	// Constants that no limit sets.
	code, err := os.ReadFile("../component/limits.go")
	if err != nil {
		t.Fatal(err)
	}
	for constant, place := range map[string]string{
		`stageTime = 5 \* time\.Minute`:    "mls-delivery.xml: It expires five minutes after its last piece",
		`reserveTime = 10 \* time\.Minute`: "mls-delivery.xml: It is hers for ten minutes",
		`staleCommits = 16`:                "mls-delivery.xml: at most 16 of each",
		`staleInline = 32 << 10`:           "mls-delivery.xml: at most 32 KiB in all",
		`pageMin = 1 << 10`:                "mls-delivery.xml: less than 1,024 counts as 1,024",
		`groupIDMax = 64`:                  "mls-delivery.xml: The group_id has at most 64 octets",
		`nameMax = 64`:                     "mls-delivery.xml: one of more than 64 octets",
		`idMax = 128`:                      "mls-delivery.xml: unique for its account, with at most 128 octets",
		`claimUsers = 200`:                 "mls-key-packages.xml: A claim names at most 200 users",
		`reportText = 4 << 10`:             "mls-delivery.xml: The text has at most 4,096 octets",
		`destroyReason = 1 << 10`:          "mls-delivery.xml: the reason has at most 1,024 octets",
		`listMax = 500`:                    "mls-delivery.xml: into pages, of at most 500 items",
		`blockMax = 1000`:                  "mls-delivery.xml: A list has at most 1,000 items",
	} {
		doc, words, _ := strings.Cut(place, ": ")
		if !regexp.MustCompile(`(?m)^\t` + constant + `$`).Match(code) {
			t.Errorf("component/limits.go no longer says %s: look at %s", constant, place)
		}
		if !strings.Contains(documentText(t, doc), words) {
			t.Errorf("%s does not say %q", doc, words)
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
