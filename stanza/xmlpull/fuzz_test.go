// SPDX-License-Identifier: Apache-2.0

package xmlpull

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

var fuzzSeeds = []string{
	`<a/>`,
	`<iq type='get' id="1"><query xmlns='u:v'/></iq>`,
	`<p:a xmlns:p='u' p:x='1' x='2' xml:lang='en'><p:b xmlns:p='v'>&lt;t&#x41;</p:b></p:a>`,
	"<m>\r\n<![CDATA[<x>]]> &amp; é 😀</m>",
	`<a xmlns=''><b xmlns='u'/></a>`,
	`<a x='&#10;&quot;' y="'"/>`,
	`<?xml version='1.0'?><a><!-- c --></a>`,
	`<a>]]></a>`,
	`<a b='1'c='2'/>`,
	`<a b:c='1'/>`,
	`<!DOCTYPE a><a>&b;</a>`,
	"<a>\x01</a>",
	`<a></a  >`,
	"<a><A xmlns='\n' xmlns:b='&#10;' b:c=''/></a>",
}

// oracle reads a document with encoding/xml and renders it as merged tokens.
func oracle(b []byte) (string, error) {
	d := xml.NewDecoder(bytes.NewReader(b))
	var s strings.Builder
	var text []byte
	depth, roots := 0, 0
	flush := func() {
		if len(text) > 0 && depth > 0 {
			fmt.Fprintf(&s, "%q", text)
		}
		text = text[:0]
	}
	for {
		tok, err := d.Token()
		if err == io.EOF && depth == 0 && roots == 1 {
			return s.String(), nil
		}
		if err != nil {
			return "", err
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			flush()
			if depth == 0 {
				roots++
			}
			depth++
			fmt.Fprintf(&s, "<{%s}%s", flat(tok.Name.Space), tok.Name.Local)
			for _, a := range tok.Attr {
				if a.Name.Space == "xmlns" || a.Name.Space == "" && a.Name.Local == "xmlns" {
					continue
				}
				fmt.Fprintf(&s, " {%s}%s=%q", flat(a.Name.Space), a.Name.Local, flat(a.Value))
			}
			s.WriteString(">")
		case xml.EndElement:
			flush()
			depth--
			fmt.Fprintf(&s, "</{%s}%s>", flat(tok.Name.Space), tok.Name.Local)
		case xml.CharData:
			if depth == 0 && len(bytes.TrimSpace(tok)) > 0 {
				return "", errors.New("text outside of the root")
			}
			text = append(text, tok...)
		default:
			return "", errors.New("restricted")
		}
	}
}

// flat makes attribute values comparable: encoding/xml does not normalise
// white space (XML 1.0 §3.3.3).
func flat(s string) string {
	return strings.NewReplacer("\r\n", " ", "\r", " ", "\n", " ", "\t", " ").Replace(s)
}

// ours renders a document as oracle does.
func ours(b []byte) (string, error) {
	var r Reader
	r.Reset(b, nil)
	var s strings.Builder
	var text []byte
	flush := func() {
		if len(text) > 0 {
			fmt.Fprintf(&s, "%q", text)
		}
		text = text[:0]
	}
	for {
		kind, err := r.Next()
		if err != nil {
			return "", err
		}
		if kind != Text {
			flush()
		}
		switch kind {
		case EOF:
			return s.String(), nil
		case Start:
			fmt.Fprintf(&s, "<{%s}%s", flat(string(r.Space())), r.Local())
			for _, a := range r.Attrs() {
				fmt.Fprintf(&s, " {%s}%s=%q", flat(string(a.Space)), a.Local, flat(string(a.Value)))
			}
			s.WriteString(">")
		case End:
			fmt.Fprintf(&s, "</{%s}%s>", flat(string(r.Space())), r.Local())
		case Text:
			text = append(text, r.Text()...)
		}
	}
}

// stricter are the rules that encoding/xml does not enforce. Whatever else we
// refuse, it must refuse too.
var stricter = []string{
	"no white space before attribute",
	"duplicate attribute",
	"declared twice",
	"undeclared",
	"prefix xml",
	"reserved namespace",
	"second root element",
	"bad element name",
	"bad attribute name",
	"attribute without value", // a second colon ends our name
	"end tag does not match",  // encoding/xml compares resolved names
	"unknown markup declaration",
	"comment", "document type declaration", "processing instruction",
	"too many", "too deeply", "too large", "no element",
}

// FuzzReader compares the Reader with encoding/xml: what we accept, it accepts
// and reads alike, and what only we refuse breaks a rule that it does not know.
func FuzzReader(f *testing.F) {
	for _, s := range fuzzSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := ours(b)
		want, werr := oracle(b)
		if err == nil {
			if werr != nil {
				// encoding/xml knows the names of XML 1.0 4th edition.
				if strings.Contains(werr.Error(), "invalid XML name") || strings.Contains(werr.Error(), "expected element name") ||
					strings.Contains(werr.Error(), "expected attribute name") || strings.Contains(werr.Error(), "invalid characters between") {
					for _, c := range b {
						if c >= 0x80 {
							return
						}
					}
				}
				t.Fatalf("we accept %q, encoding/xml says %v", b, werr)
			}
			if got != want {
				t.Fatalf("%q\nours    %s\noracle  %s", b, got, want)
			}
			return
		}
		if werr != nil {
			return
		}
		var e *SyntaxError
		if !errors.As(err, &e) {
			t.Fatalf("error of type %T", err)
		}
		for _, s := range stricter {
			if strings.Contains(e.Reason, s) {
				return
			}
		}
		t.Fatalf("we refuse %q with %v, encoding/xml reads %s", b, err, want)
	})
}

// FuzzDoc checks that a parsed document survives being written and read again.
func FuzzDoc(f *testing.F) {
	for _, s := range fuzzSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var d Doc
		el, err := d.Parse(b, nil)
		if err != nil {
			return
		}
		again := el.AppendXML(nil, "")
		want := el.AppendCanonical(nil)
		got, err := Canonical(again, nil)
		if err != nil {
			t.Fatalf("%q was written as %q: %v", b, again, err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("%q\nwritten %q\ncanonical %q\nbefore    %q", b, again, got, want)
		}
	})
}
