// SPDX-License-Identifier: Apache-2.0

package stanza

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/lockstep-im/lockstep/stanza/xmlpull"
)

// docExamples returns the XML in the doc comments of types, by type.
func docExamples(t *testing.T) map[string][]string {
	fset := token.NewFileSet()
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	examples := map[string][]string{}
	for _, entry := range files {
		name := entry.Name()
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range f.Decls {
			g, ok := decl.(*ast.GenDecl)
			if !ok || g.Tok != token.TYPE {
				continue
			}
			for _, spec := range g.Specs {
				name := spec.(*ast.TypeSpec).Name.Name
				var block []string
				for _, line := range strings.Split(g.Doc.Text()+"\n", "\n") {
					if strings.HasPrefix(line, "\t") {
						block = append(block, line[1:])
						continue
					}
					if len(block) > 0 && strings.HasPrefix(block[0], "<") {
						examples[name] = append(examples[name], elements(t, name, strings.Join(block, "\n"))...)
					}
					block = nil
				}
			}
		}
	}
	return examples
}

var (
	// An ellipsis stands for base64 in text, for a hash in an attribute.
	cutText = regexp.MustCompile(`>([A-Za-z0-9+/]*)…<`)
	cutHash = regexp.MustCompile(`(ref|chain|sha-256)='…'`)
	cutAttr = regexp.MustCompile(`stamp='…'`)
)

// elements divides a block into its elements and fills ellipses in.
func elements(t *testing.T, name, block string) []string {
	block = cutText.ReplaceAllStringFunc(block, func(s string) string {
		s = strings.TrimSuffix(strings.TrimPrefix(s, ">"), "…<")
		return ">" + s[:len(s)/4*4] + "<"
	})
	block = cutHash.ReplaceAllString(block, "$1='RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o='")
	block = cutAttr.ReplaceAllString(block, "stamp='2026-08-20T09:15:00.123Z'")
	block = strings.ReplaceAll(block, "…", "")
	s := xmlpull.NewSplitter(strings.NewReader("<s xmlns='"+NSClient+"'>"+block+"</s>"), xmlpull.Limits{})
	if _, err := s.Open(); err != nil {
		t.Fatal(err)
	}
	var list []string
	for {
		raw, err := s.Next()
		if err != nil {
			if err.Error() != "EOF" {
				t.Errorf("%s: example %s: %v", name, block, err)
			}
			return list
		}
		list = append(list, string(raw))
	}
}

// fragments are types whose examples are parts of a payload.
var fragments = map[string]bool{"Object": true, "Entry": true, "Commit": true, "FileHash": true}

// TestDocExamples decodes and re-encodes each example of a type's
// documentation, and demands one of each payload type.
func TestDocExamples(t *testing.T) {
	examples := docExamples(t)
	byType := map[string]reflect.Type{
		"Error": reflect.TypeOf(Error{}), "Page": reflect.TypeOf(Page{}), "PageQuery": reflect.TypeOf(PageQuery{}),
	}
	for _, info := range Payloads() {
		typ := reflect.TypeOf(info.New()).Elem()
		byType[typ.Name()] = typ
		if len(examples[typ.Name()]) == 0 {
			t.Errorf("the documentation of %s has no example", typ.Name())
		}
	}
	checked := 0
	for name, list := range examples {
		typ := byType[name]
		for _, x := range list {
			if fragments[name] && !strings.Contains(x, "xmlns='"+NSDelivery) {
				continue
			}
			checked++
			if typ == nil {
				// A type that is no payload shows one that it is in.
				if err := CheckExample([]byte(x)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				continue
			}
			p := reflect.New(typ).Interface().(Payload)
			if err := parseXML(p, []byte(x)); err != nil {
				t.Errorf("%s: %s: %v", name, x, err)
				continue
			}
			want, err := xmlpull.Canonical([]byte(x), clientContext)
			if err != nil {
				t.Fatal(err)
			}
			got, err := xmlpull.Canonical(p.Append(nil), clientContext)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("%s\nwant %s\ngot  %s", name, want, got)
			}
		}
	}
	if checked < 100 {
		t.Errorf("only %d examples found", checked)
	}
}

// TestContentsAreComplete checks that the package documentation lists each
// payload type, and nothing that does not exist.
func TestContentsAreComplete(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	exported := map[string]bool{}
	var contents string
	for _, entry := range files {
		name := entry.Name()
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range f.Decls {
			switch decl := decl.(type) {
			case *ast.FuncDecl:
				exported[decl.Name.Name] = true
			case *ast.GenDecl:
				for _, spec := range decl.Specs {
					if ts, ok := spec.(*ast.TypeSpec); ok {
						exported[ts.Name.Name] = true
					}
				}
			}
		}
		if f.Doc != nil {
			contents += f.Doc.Text()
		}
	}
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile(`\[\*?(\w+)(?:\.\w+)?\]`).FindAllStringSubmatch(contents, -1) {
		listed[m[1]] = true
		if !exported[m[1]] && m[1] != "stanza" {
			t.Errorf("the documentation speaks of %s, which does not exist", m[1])
		}
	}
	for _, info := range Payloads() {
		if name := reflect.TypeOf(info.New()).Elem().Name(); !listed[name] && name != "FileMetadata" && name != "EncryptedSource" {
			t.Errorf("the contents lack %s", name)
		}
	}
}
