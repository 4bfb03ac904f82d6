// SPDX-License-Identifier: Apache-2.0

// Package xep holds the protocol as three ProtoXEPs in the XSF's own format, and
// hands their examples, schemas and requirements to the tests of the other rooms:
// an example that an implementer copies is one that our decoder has read.
//
//	mls.xml               messages and their content      urn:xmpp:mls:0
//	mls-key-packages.xml  publishing and claiming keys    urn:xmpp:mls:kp:0
//	mls-delivery.xml      groups, commits, logs, errors   urn:xmpp:mls:ds:0, urn:xmpp:mls:errors:0
//
// requirements.tsv lists every MUST and SHOULD of these texts, and the duties of
// RFC 9750 §4-8, with the place that enforces each and the test that trips it.
package xep

import (
	"embed"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

//go:embed *.xml xep.dtd xep.ent html.xsl requirements.tsv
var files embed.FS

// Files is the room as it is: the documents, the XSF's DTD and entities, the
// stylesheet and the table of requirements.
func Files() fs.FS { return files }

// Documents are the names of the ProtoXEPs, in reading order.
func Documents() []string {
	return []string{"mls.xml", "mls-key-packages.xml", "mls-delivery.xml"}
}

// An Example is one <example/> of a document.
type Example struct {
	Document string
	Caption  string
	// Line is where the example begins in the document, from 1.
	Line int
	// XML is one stanza or stream-level element.
	XML string
}

// Examples returns the examples of a document in order.
func Examples(document string) ([]Example, error) {
	var list []Example
	err := eachElement(document, "example", func(caption, text string, line int) {
		list = append(list, Example{document, caption, line, strings.TrimSpace(text)})
	})
	return list, err
}

// Schemas returns the XML schemas of a document, one for each namespace that it
// defines.
func Schemas(document string) ([]string, error) {
	var list []string
	err := eachElement(document, "code", func(caption, text string, _ int) {
		if text = strings.TrimSpace(text); strings.HasPrefix(caption, "Schema of ") {
			list = append(list, text)
		}
	})
	return list, err
}

// A Vector is one test vector of a document: octets in hexadecimal, or digits in
// groups.
type Vector struct {
	Name, Value string
}

// Vectors returns the test vectors of a document in order.
func Vectors(document string) ([]Vector, error) {
	var list []Vector
	err := eachElement(document, "code", func(caption, text string, _ int) {
		if !strings.HasPrefix(caption, "Test vectors ") {
			return
		}
		for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
			name, ok := strings.CutSuffix(line, " =")
			switch value, more := strings.CutPrefix(line, "  "); {
			case ok:
				list = append(list, Vector{Name: name})
			case more && len(list) > 0:
				list[len(list)-1].Value += value // long octets go on in the next line
			}
		}
	})
	return list, err
}

// eachElement calls f for every element of a name with its caption and text.
func eachElement(document, name string, f func(caption, text string, line int)) error {
	b, err := files.ReadFile(document)
	if err != nil {
		return fmt.Errorf("xep: %w", err)
	}
	d := xml.NewDecoder(strings.NewReader(string(b)))
	d.Strict = false // the XSF's entities are defined in xep.ent, which this reader does not load
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("xep: reading %s: %w", document, err)
		}
		start, ok := tok.(xml.StartElement)
		if !ok || start.Name.Local != name {
			continue
		}
		line, _ := d.InputPos()
		caption := ""
		for _, a := range start.Attr {
			if a.Name.Local == "caption" {
				caption = a.Value
			}
		}
		var text string
		if err := d.DecodeElement(&text, &start); err != nil {
			return fmt.Errorf("xep: reading %s: %w", document, err)
		}
		f(caption, text, line)
	}
}

// A Requirement is one line of requirements.tsv.
type Requirement struct {
	ID      string // stable, such as "mls-env-3" or "rfc9750-5.2-1"
	Level   string // MUST, SHOULD or MAY
	Who     string // ds, client, as or operator: who has the duty
	Section string // where it is stated: a document and an anchor, or an RFC and a section
	Text    string
	// Code and Test are places of the form path/file.go:Name, several separated by
	// spaces; empty when Status says why.
	Code   []string
	Test   []string
	Status string // done, partial, or operator; what is missing is in Note
	Note   string
}

// Requirements returns the table.
func Requirements() ([]Requirement, error) {
	b, err := files.ReadFile("requirements.tsv")
	if err != nil {
		return nil, fmt.Errorf("xep: %w", err)
	}
	var list []Requirement
	for i, line := range strings.Split(strings.TrimRight(string(b), "\n"), "\n") {
		if i == 0 || strings.HasPrefix(line, "#") || line == "" {
			continue
		}
		f := strings.Split(line, "\t")
		if len(f) != 9 {
			return nil, fmt.Errorf("xep: requirements.tsv line %d has %d columns, want 9", i+1, len(f))
		}
		list = append(list, Requirement{
			ID: f[0], Level: f[1], Who: f[2], Section: f[3], Text: f[4],
			Code: strings.Fields(f[5]), Test: strings.Fields(f[6]), Status: f[7], Note: f[8],
		})
	}
	return list, nil
}
