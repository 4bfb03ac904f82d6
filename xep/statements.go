// SPDX-License-Identifier: Apache-2.0

package xep

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Statement is a sentence of a document that obliges somebody: one with the
// word MUST or SHOULD of RFC 2119.
type Statement struct {
	Document string
	// Section is the anchor of the innermost section.
	Section string
	// Level is MUST or SHOULD; a sentence with both is a MUST.
	Level string
	// Text is the sentence without markup, in single spaces.
	Text string
}

// Statements returns the statements of a document in order.
func Statements(document string) ([]Statement, error) {
	b, err := files.ReadFile(document)
	if err != nil {
		return nil, fmt.Errorf("xep: %w", err)
	}
	d := xml.NewDecoder(strings.NewReader(string(b)))
	d.Strict = false // entities stay as they are, see plain
	s := statementReader{document: document}
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return s.list, nil
		}
		if err != nil {
			return nil, fmt.Errorf("xep: reading %s: %w", document, err)
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			s.start(tok)
		case xml.EndElement:
			s.end(tok.Name.Local)
		case xml.CharData:
			if s.silent == 0 {
				s.text.Write(tok)
			}
		}
	}
}

type statementReader struct {
	document string
	sections []string
	text     strings.Builder
	silent   int // depth of elements whose text is none of the document's own
	list     []Statement
}

func (s *statementReader) start(e xml.StartElement) {
	switch name := e.Name.Local; {
	case strings.HasPrefix(name, "section"):
		anchor := ""
		for _, a := range e.Attr {
			if a.Name.Local == "anchor" {
				anchor = a.Value
			}
		}
		s.sections = append(s.sections, anchor)
	case isSilent(name):
		s.silent++
	case isBlock(name):
		s.flush()
	}
}

func (s *statementReader) end(name string) {
	switch {
	case strings.HasPrefix(name, "section") && len(s.sections) > 0:
		s.flush()
		s.sections = s.sections[:len(s.sections)-1]
	case isSilent(name):
		s.silent--
	case isBlock(name):
		s.flush()
	}
}

func isSilent(name string) bool {
	switch name {
	case "header", "note", "example", "code":
		return true
	}
	return false
}

func isBlock(name string) bool {
	switch name {
	case "p", "li", "dt", "dd", "td", "th", "ul", "ol", "table", "tr":
		return true
	}
	return false
}

var (
	xepEntity  = regexp.MustCompile(`&xep(\d{4});`)
	rfcEntity  = regexp.MustCompile(`&rfc(\d{4});`)
	nameEntity = strings.NewReplacer("&IQ;", "<iq/>", "&MESSAGE;", "<message/>", "&PRESENCE;", "<presence/>")
	keyword    = regexp.MustCompile(`\b(MUST|SHOULD)\b`)
)

// plain spells entities and drops line breaks.
func plain(text string) string {
	text = xepEntity.ReplaceAllString(text, "XEP-$1")
	text = rfcEntity.ReplaceAllString(text, "RFC $1")
	return strings.Join(strings.Fields(nameEntity.Replace(text)), " ")
}

// flush takes the sentences of the block that has ended.
func (s *statementReader) flush() {
	text := plain(s.text.String())
	s.text.Reset()
	if len(s.sections) == 0 {
		return
	}
	for _, sentence := range sentences(text) {
		words := keyword.FindAllString(sentence, -1)
		if words == nil {
			continue
		}
		level := "SHOULD"
		for _, w := range words {
			if w == "MUST" {
				level = w
			}
		}
		s.list = append(s.list, Statement{s.document, s.sections[len(s.sections)-1], level, sentence})
	}
}

// sentences divides a text at full stops that are followed by the beginning of
// a sentence.
func sentences(text string) []string {
	var list []string
	begin := 0
	for i := 0; i+2 < len(text); i++ {
		if text[i] != '.' && text[i] != '?' && text[i] != '!' || text[i+1] != ' ' {
			continue
		}
		next, _ := utf8.DecodeRuneInString(text[i+2:])
		if unicode.IsUpper(next) || next == '<' || next == '\'' {
			list = append(list, text[begin:i+1])
			begin = i + 2
		}
	}
	if begin < len(text) {
		list = append(list, text[begin:])
	}
	return list
}
