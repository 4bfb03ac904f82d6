// SPDX-License-Identifier: Apache-2.0

package xep_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/lockstep-im/lockstep/xep"
)

// tool finds a program of Debian that the tests need. Where it is not installed
// the test is skipped, unless the whole suite is demanded.
func tool(t *testing.T, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("LOCKSTEP_E2E") == "require" {
		t.Fatalf("%s is missing and LOCKSTEP_E2E=require: install the Debian package %s", name, pkg)
	}
	t.Skipf("SKIPPED: %s is missing, the documents are not checked with it: install the Debian package %s", name, pkg)
	return ""
}

// room writes the embedded files into a directory, so that what is checked is
// what other rooms get.
func room(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, xep.Files()); err != nil {
		t.Fatal(err)
	}
	return dir
}

func run(t *testing.T, dir, prog string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(prog, args...)
	cmd.Dir = dir
	var out, diag bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &diag
	if err := cmd.Run(); err != nil {
		t.Errorf("%s %s: %v\n%s", filepath.Base(prog), strings.Join(args, " "), err, diag.String())
	} else if diag.Len() > 0 && strings.Contains(diag.String(), "error") {
		t.Errorf("%s %s: %s", filepath.Base(prog), strings.Join(args, " "), diag.String())
	}
	return out.Bytes()
}

func TestDocumentsFollowTheDTD(t *testing.T) {
	xmllint := tool(t, "xmllint", "libxml2-utils")
	dir := room(t)
	for _, doc := range xep.Documents() {
		run(t, dir, xmllint, "--nonet", "--noout", "--valid", doc)
	}
}

func TestDocumentsRender(t *testing.T) {
	xsltproc := tool(t, "xsltproc", "xsltproc")
	dir := room(t)
	for _, doc := range xep.Documents() {
		page := string(run(t, dir, xsltproc, "--nonet", "html.xsl", doc))
		if !strings.Contains(page, "</html>") {
			t.Errorf("%s: the page has no end", doc)
		}
		examples, err := xep.Examples(doc)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(page, ">Example "); n != len(examples) {
			t.Errorf("%s: %d examples rendered, want %d", doc, n, len(examples))
		}
		for _, ref := range regexp.MustCompile(`href="#([^"]*)"`).FindAllStringSubmatch(page, -1) {
			if !strings.Contains(page, `id="`+ref[1]+`"`) {
				t.Errorf("%s: the page links to #%s, which is not there", doc, ref[1])
			}
		}
	}
}

// element visits each element of a document with its attributes and the text
// directly in it.
func element(t *testing.T, doc string, f func(name string, attr map[string]string, text string)) {
	t.Helper()
	b, err := fs.ReadFile(xep.Files(), doc)
	if err != nil {
		t.Fatal(err)
	}
	d := xml.NewDecoder(bytes.NewReader(b))
	d.Strict = false
	type open struct {
		name string
		attr map[string]string
		text strings.Builder
	}
	var stack []*open
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%s: %v", doc, err)
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			o := &open{name: tok.Name.Local, attr: make(map[string]string)}
			for _, a := range tok.Attr {
				o.attr[a.Name.Local] = a.Value
			}
			stack = append(stack, o)
		case xml.CharData:
			if len(stack) > 0 {
				stack[len(stack)-1].text.Write(tok)
			}
		case xml.EndElement:
			o := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			f(o.name, o.attr, o.text.String())
		}
	}
}

func TestLinksAndAnchors(t *testing.T) {
	titles := make(map[string]bool)
	for _, doc := range xep.Documents() {
		element(t, doc, func(name string, _ map[string]string, text string) {
			if name == "title" {
				titles[text] = true
			}
		})
	}
	if len(titles) != len(xep.Documents()) {
		t.Fatalf("titles %v of %v", titles, xep.Documents())
	}
	for _, doc := range xep.Documents() {
		anchors := make(map[string]bool)
		var links []string
		element(t, doc, func(name string, attr map[string]string, text string) {
			switch {
			case strings.HasPrefix(name, "section"):
				a := attr["anchor"]
				if a == "" || attr["topic"] == "" {
					t.Errorf("%s: section %q has no anchor or no topic", doc, attr["topic"])
				}
				if anchors[a] {
					t.Errorf("%s: two sections are called #%s", doc, a)
				}
				anchors[a] = true
			case name == "link" && strings.HasPrefix(attr["url"], "#"):
				links = append(links, attr["url"][1:])
			case name == "cite" && !titles[text] && !strings.HasPrefix(text, "XEP-") && !strings.HasPrefix(text, "RFC "):
				t.Errorf("%s cites %q, which is not one of the documents", doc, text)
			case name == "example" && attr["caption"] == "":
				t.Errorf("%s: an example has no caption: %.80s", doc, text)
			}
		})
		for _, l := range links {
			if !anchors[l] {
				t.Errorf("%s links to #%s, which is not there", doc, l)
			}
		}
		for _, need := range []string{"intro", "reqs", "glossary", "usecases", "rules", "impl", "i18n", "security", "privacy", "iana", "registrar", "design", "schema"} {
			if !anchors[need] {
				t.Errorf("%s has no section #%s", doc, need)
			}
		}
	}
}

// TestSectionsThatCodeNames looks up each section that the documentation of the
// code names, as in xep/mls-delivery.xml#commit.
func TestSectionsThatCodeNames(t *testing.T) {
	anchors := make(map[string]bool)
	for _, doc := range xep.Documents() {
		element(t, doc, func(name string, attr map[string]string, _ string) {
			if strings.HasPrefix(name, "section") {
				anchors["xep/"+doc+"#"+attr["anchor"]] = true
			}
		})
	}
	place, n := regexp.MustCompile(`xep/[a-z-]+\.xml#[a-z0-9-]+`), 0
	err := filepath.WalkDir("..", func(path string, e fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" || path == "../xep/documents_test.go" {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range place.FindAllString(string(b), -1) {
			if n++; !anchors[m] {
				t.Errorf("%s: there is no %s", path, m)
			}
		}
		return err
	})
	if err != nil || n < 80 {
		t.Errorf("%d sections are named: %v", n, err)
	}
}

func TestStatementsAreFound(t *testing.T) {
	for _, doc := range xep.Documents() {
		list, err := xep.Statements(doc)
		if err != nil {
			t.Fatal(err)
		}
		b, err := fs.ReadFile(xep.Files(), doc)
		if err != nil {
			t.Fatal(err)
		}
		// Each keyword of the text is in some statement.
		_, body, _ := strings.Cut(string(b), "</header>")
		words, found := regexp.MustCompile(`\b(MUST|SHOULD)\b`), 0
		for _, s := range list {
			found += len(words.FindAllString(s.Text, -1))
			if s.Section == "" {
				t.Errorf("%s: a statement is in no section: %s", doc, s.Text)
			}
			if len(s.Text) > 600 {
				t.Errorf("%s#%s: a statement is not one sentence: %s", doc, s.Section, s.Text)
			}
		}
		if n := len(words.FindAllString(body, -1)); n != found || n == 0 {
			t.Errorf("%s has %d keywords, the statements have %d", doc, n, found)
		}
		// One set of words, so that none is overlooked.
		if w := regexp.MustCompile(`\b(SHALL|REQUIRED|RECOMMENDED|OPTIONAL)\b`).FindString(body); w != "" {
			t.Errorf("%s uses %s: say MUST or SHOULD", doc, w)
		}
	}
}
