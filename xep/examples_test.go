// SPDX-License-Identifier: Apache-2.0

package xep_test

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
	"github.com/lockstep-im/lockstep/stanza/xmlpull"
	"github.com/lockstep-im/lockstep/xep"
)

// ours are the namespaces that the documents define.
var ours = []string{stanza.NSMLS, stanza.NSKeyPackages, stanza.NSDelivery, stanza.NSErrors}

func examples(t *testing.T) []xep.Example {
	t.Helper()
	var all []xep.Example
	for _, doc := range xep.Documents() {
		list, err := xep.Examples(doc)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 {
			t.Fatalf("%s has no examples", doc)
		}
		all = append(all, list...)
	}
	return all
}

// TestExamplesAreTrue decodes and re-encodes each example: what an implementer
// copies is what the code reads and writes.
func TestExamplesAreTrue(t *testing.T) {
	for _, e := range examples(t) {
		if strings.ContainsAny(e.XML, "…") {
			t.Errorf("%s:%d %q is cut short", e.Document, e.Line, e.Caption)
		}
		if err := stanza.CheckExample([]byte(e.XML)); err != nil {
			t.Errorf("%s:%d %q: %v", e.Document, e.Line, e.Caption, err)
		}
	}
}

// A root is an element of one of our namespaces whose parent is of another.
type root struct {
	space, local string
	xml          []byte
	example      xep.Example
	stanza       string // iq, message, presence; empty if the example is the element
}

// eachElement visits an element and all below it.
func eachElement(el stanza.Element, f func(el stanza.Element)) {
	f(el)
	for c := el.First(); c.Valid(); c = c.Next() {
		eachElement(c, f)
	}
}

func roots(t *testing.T) []root {
	t.Helper()
	var list []root
	for _, e := range examples(t) {
		var doc xmlpull.Doc
		top, err := doc.Parse([]byte(e.XML), nil)
		if err != nil {
			t.Fatalf("%s:%d %q: %v", e.Document, e.Line, e.Caption, err)
		}
		var visit func(el stanza.Element, parent string)
		visit = func(el stanza.Element, parent string) {
			space := string(el.Space())
			if space != parent && slices.Contains(ours, space) {
				list = append(list, root{space, string(el.Local()), el.AppendXML(nil, ""), e, string(top.Local())})
			}
			for c := el.First(); c.Valid(); c = c.Next() {
				visit(c, space)
			}
		}
		visit(top, "")
	}
	return list
}

// schemas gives the schemas by their namespace.
func schemas(t *testing.T) map[string]string {
	t.Helper()
	m := make(map[string]string)
	target := regexp.MustCompile(`targetNamespace='([^']*)'`)
	for _, doc := range xep.Documents() {
		list, err := xep.Schemas(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range list {
			ns := target.FindStringSubmatch(s)
			if ns == nil {
				t.Fatalf("%s: a schema has no targetNamespace", doc)
			}
			if m[ns[1]] != "" {
				t.Errorf("%s is defined twice", ns[1])
			}
			m[ns[1]] = s
		}
	}
	return m
}

func TestEachNamespaceHasASchema(t *testing.T) {
	m := schemas(t)
	for _, ns := range ours {
		if m[ns] == "" {
			t.Errorf("no document defines %s", ns)
		}
		delete(m, ns)
	}
	for ns := range m {
		t.Errorf("%s is defined, and the code does not know it", ns)
	}
}

// TestExamplesFollowTheSchemas validates each element of our namespaces.
func TestExamplesFollowTheSchemas(t *testing.T) {
	xmllint := tool(t, "xmllint", "libxml2-utils")
	dir := t.TempDir()
	args := make(map[string][]string)
	for i, s := range ours {
		name := fmt.Sprintf("schema%d.xsd", i)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(schemas(t)[s]), 0o600); err != nil {
			t.Fatal(err)
		}
		args[s] = []string{"--nonet", "--noout", "--schema", name}
	}
	for i, r := range roots(t) {
		name := fmt.Sprintf("%03d-%s-line%d-%s.xml", i, strings.TrimSuffix(r.example.Document, ".xml"), r.example.Line, r.local)
		if err := os.WriteFile(filepath.Join(dir, name), r.xml, 0o600); err != nil {
			t.Fatal(err)
		}
		args[r.space] = append(args[r.space], name)
	}
	for _, ns := range ours {
		if len(args[ns]) == 4 {
			t.Errorf("no example has an element of %s", ns)
			continue
		}
		run(t, dir, xmllint, args[ns]...)
	}
}

// TestSchemasRefuse makes sure that the validation above can fail.
func TestSchemasRefuse(t *testing.T) {
	xmllint := tool(t, "xmllint", "libxml2-utils")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ds.xsd"), []byte(schemas(t)[stanza.NSDelivery]), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		`<session xmlns='urn:xmpp:mls:ds:0'/>`,
		`<session xmlns='urn:xmpp:mls:ds:0' device='X'/>`,
		`<nudge xmlns='urn:xmpp:mls:ds:0'>text</nudge>`,
		`<unheard-of xmlns='urn:xmpp:mls:ds:0'/>`,
		`<commit xmlns='urn:xmpp:mls:ds:0' epoch='1' ref='AAAA'><message>AAAA</message></commit>`,
	} {
		if err := os.WriteFile(filepath.Join(dir, "bad.xml"), []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(xmllint, "--nonet", "--noout", "--schema", "ds.xsd", "bad.xml")
		cmd.Dir = dir
		if cmd.Run() == nil {
			t.Errorf("%s validates", bad)
		}
	}
}

// TestEachElementIsShown holds the code, the examples and the schemas together:
// all three know the same elements.
func TestEachElementIsShown(t *testing.T) {
	known := make(map[string]bool)
	for _, p := range stanza.Payloads() {
		if slices.Contains(ours, p.Space) {
			known[p.Space+" "+p.Local] = true
		}
	}
	shown := make(map[string]bool)
	for _, r := range roots(t) {
		shown[r.space+" "+r.local] = true
	}
	defined := make(map[string]bool)
	global := regexp.MustCompile(`(?m)^  <xs:element name='([^']*)'`)
	for ns, s := range schemas(t) {
		for _, m := range global.FindAllStringSubmatch(s, -1) {
			if defined[ns+" "+m[1]] {
				t.Errorf("the schema of %s defines <%s/> twice", ns, m[1])
			}
			defined[ns+" "+m[1]] = true
		}
	}
	compare := func(a, b map[string]bool, format string) {
		for name := range a {
			if !b[name] {
				t.Errorf(format, name)
			}
		}
	}
	compare(known, shown, "the code knows %s, and no example shows it")
	compare(shown, known, "an example shows %s, and the code does not know it")
	compare(known, defined, "the code knows %s, and no schema defines it")
	compare(defined, known, "a schema defines %s, and the code does not know it")
}

// TestPlacesAreShown demands an example of each element in each kind of stanza
// that the code takes it from.
func TestPlacesAreShown(t *testing.T) {
	seen := make(map[string]bool)
	for _, e := range examples(t) {
		var p stanza.Parser
		s, err := p.Parse([]byte(e.XML))
		if err != nil {
			t.Fatal(err)
		}
		if s.Kind == stanza.IQ {
			for c := s.Element.First(); c.Valid(); c = c.Next() {
				seen[string(c.Space())+" "+string(c.Local())+" "+s.Type] = true
			}
		}
	}
	for _, p := range stanza.Payloads() {
		if !slices.Contains(ours, p.Space) {
			continue
		}
		for place, typ := range map[stanza.Place]string{stanza.InGet: "get", stanza.InSet: "set", stanza.InResult: "result"} {
			if p.Places&place != 0 && !seen[p.Space+" "+p.Local+" "+typ] {
				t.Errorf("<%s xmlns='%s'/> in an IQ of type %s has no example", p.Local, p.Space, typ)
			}
		}
	}
}

func decode64(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRefsAreTrue computes each ref whose octets an example shows.
func TestRefsAreTrue(t *testing.T) {
	checked := 0
	for _, r := range roots(t) {
		var doc xmlpull.Doc
		el, err := doc.Parse(r.xml, nil)
		if err != nil {
			t.Fatal(err)
		}
		eachElement(el, func(el stanza.Element) {
			ref, ok := el.Attr("ref")
			if !ok || string(el.Space()) == stanza.NSKeyPackages {
				return
			}
			content := strings.TrimSpace(string(el.Text()))
			if c := el.Child(stanza.NSDelivery, "message"); c.Valid() {
				content = string(c.Text())
			} else if c := el.Child(stanza.NSMLS, "mls"); c.Valid() {
				content = string(c.Text())
			}
			if content == "" || string(el.Local()) == "report" {
				return
			}
			if want := stanza.MessageRef(decode64(t, content)); string(ref) != want.String() {
				t.Errorf("%s:%d %q: the ref of <%s/> is %s, should be %s", r.example.Document, r.example.Line, r.example.Caption, el.Local(), ref, want)
			}
			checked++
		})
	}
	if checked < 10 {
		t.Errorf("only %d refs were checked", checked)
	}
}

// vector is one line of the table of the chain.
type vector struct {
	seq, epoch uint64
	kind       groupdata.Kind
	sum, chain [32]byte
}

// readVector reads the test vector of the chain from the document.
func readVector(t *testing.T) (genesis groupdata.Chain, list []vector) {
	t.Helper()
	var cells []string
	element(t, "mls-delivery.xml", func(name string, _ map[string]string, text string) {
		switch name {
		case "td":
			cells = append(cells, text)
		case "p":
			if m := regexp.MustCompile(`Its group_id is ([0-9a-f]{64})\.`).FindStringSubmatch(text); m != nil {
				b, _ := hex.DecodeString(m[1])
				genesis = groupdata.Genesis(b)
			}
		case "tr":
			if len(cells) == 5 && len(cells[4]) == 64 {
				var v vector
				v.seq, _ = strconv.ParseUint(cells[0], 10, 64)
				v.kind, _ = groupdata.ParseKind(cells[1])
				v.epoch, _ = strconv.ParseUint(cells[2], 10, 64)
				hex.Decode(v.sum[:], []byte(cells[3]))
				if _, err := hex.Decode(v.chain[:], []byte(cells[4])); err != nil {
					t.Errorf("line %v: %v", cells, err)
				}
				list = append(list, v)
			}
			cells = nil
		}
	})
	return genesis, list
}

// TestChainVector computes the test vector, and compares all examples with it.
func TestChainVector(t *testing.T) {
	chain, list := readVector(t)
	if len(list) < 10 {
		t.Fatalf("the vector has %d lines", len(list))
	}
	for i, v := range list {
		if i > 0 {
			chain = chain.NextHashed(v.seq, v.kind, v.epoch, v.sum)
		}
		if v.seq != uint64(i) || chain != groupdata.Chain(v.chain) {
			t.Errorf("line %d: chain %x, should be %x", i, v.chain, chain)
		}
	}
	checked := 0
	for _, r := range roots(t) {
		var doc xmlpull.Doc
		el, err := doc.Parse(r.xml, nil)
		if err != nil {
			t.Fatal(err)
		}
		eachElement(el, func(el stanza.Element) {
			seq, ok := el.Attr("seq")
			chain, told := el.Attr("chain")
			if !ok || !told {
				return
			}
			n, _ := strconv.Atoi(string(seq))
			if n >= len(list) {
				t.Errorf("%s:%d %q: entry %d is not in the vector", r.example.Document, r.example.Line, r.example.Caption, n)
				return
			}
			v := list[n]
			if want := groupdata.Chain(v.chain).String(); string(chain) != want {
				t.Errorf("%s:%d %q: the chain of entry %d is %s, should be %s", r.example.Document, r.example.Line, r.example.Caption, n, chain, want)
			}
			if kind, ok := el.Attr("kind"); ok && string(kind) != v.kind.String() {
				t.Errorf("%s:%d %q: entry %d is a %s, should be a %s", r.example.Document, r.example.Line, r.example.Caption, n, kind, v.kind)
			}
			if sum, ok := el.Attr("sha-256"); ok && string(sum) != stanza.Hash(v.sum).String() {
				t.Errorf("%s:%d %q: the hash of entry %d is %s", r.example.Document, r.example.Line, r.example.Caption, n, sum)
			}
			if text := strings.TrimSpace(string(el.Text())); text != "" && el.Is(stanza.NSDelivery, "entry") {
				if _, piece := el.Attr("offset"); !piece && stanza.MessageRef(decode64(t, text)) != stanza.Hash(v.sum) {
					t.Errorf("%s:%d %q: entry %d has other octets than the vector", r.example.Document, r.example.Line, r.example.Caption, n)
				}
			}
			checked++
		})
	}
	if checked < 15 {
		t.Errorf("only %d chain values were checked", checked)
	}
}

// TestNoticesAreTrue decodes what control entries hold.
func TestNoticesAreTrue(t *testing.T) {
	n := 0
	for _, r := range roots(t) {
		if r.local != "control" {
			continue
		}
		var doc xmlpull.Doc
		el, err := doc.Parse(r.xml, nil)
		if err != nil {
			t.Fatal(err)
		}
		c, err := stanza.Parse[stanza.Control](el)
		if err != nil {
			t.Fatal(err)
		}
		p, err := c.Payload()
		if err != nil {
			t.Fatal(err)
		}
		if _, raw := p.(*stanza.Raw); raw {
			t.Errorf("%s:%d: unknown notice %q", r.example.Document, r.example.Line, c.Bytes)
		}
		shown := false
		for _, e := range examples(t) {
			shown = shown || e.XML == string(c.Bytes)
		}
		if !shown {
			t.Errorf("%s:%d: no example shows what the notice holds: %q", r.example.Document, r.example.Line, c.Bytes)
		}
		n++
	}
	if n == 0 {
		t.Error("no example has a notice")
	}
}
