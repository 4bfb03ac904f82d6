// SPDX-License-Identifier: Apache-2.0

package stanza

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"reflect"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/lockstep-im/lockstep/stanza/xmlpull"
)

var update = flag.Bool("update", false, "write testdata/schema.txt")

// tree is XML that can be changed.
type tree struct {
	space, local string
	attrs        []treeAttr
	kids         []*tree
	text         string // of a text node, which has no name
}

type treeAttr struct{ space, local, value string }

func newTree(t testing.TB, b []byte) *tree {
	var d xmlpull.Doc
	el, err := d.Parse(b, clientContext)
	if err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return copyTree(el)
}

func copyTree(el Element) *tree {
	n := &tree{space: string(el.Space()), local: string(el.Local())}
	for _, a := range el.Attrs() {
		n.attrs = append(n.attrs, treeAttr{string(a.Space), string(a.Local), string(a.Value)})
	}
	if s := string(el.Text()); s != "" {
		n.kids = append(n.kids, &tree{text: s})
	}
	for c := el.First(); c.Valid(); c = c.Next() {
		n.kids = append(n.kids, copyTree(c))
	}
	return n
}

func (n *tree) append(dst []byte, inherit string) []byte {
	if n.local == "" {
		return xmlpull.AppendText(dst, n.text)
	}
	dst = append(append(dst, '<'), n.local...)
	if n.space != inherit {
		dst = xmlpull.AppendAttr(dst, "xmlns", n.space)
	}
	for i, a := range n.attrs {
		switch a.space {
		case "":
			dst = xmlpull.AppendAttr(dst, a.local, a.value)
		case xmlpull.NSXML:
			dst = xmlpull.AppendAttr(dst, "xml:"+a.local, a.value)
		default:
			dst = xmlpull.AppendAttr(dst, fmt.Sprintf("xmlns:p%d", i), a.space)
			dst = xmlpull.AppendAttr(dst, fmt.Sprintf("p%d:%s", i, a.local), a.value)
		}
	}
	dst = append(dst, '>')
	for _, k := range n.kids {
		dst = k.append(dst, n.space)
	}
	return append(append(append(dst, "</"...), n.local...), '>')
}

func (n *tree) xml() []byte { return n.append(nil, "") }

// walk calls f for each element with the path of local names below the root.
func (n *tree) walk(path string, f func(path string, n *tree)) {
	f(path, n)
	for _, k := range n.kids {
		if k.local != "" {
			k.walk(strings.TrimPrefix(path+"/"+k.local, "/"), f)
		}
	}
}

// probes are values that tell types of attributes and texts apart.
var probes = []struct{ name, value string }{
	{"0", "0"},
	{"7", "7"},
	{"max", "18446744073709551615"},
	{"over", "18446744073709551616"},
	{"negative", "-1"},
	{"plus", "+1"},
	{"leading zero", "007"},
	{"spaced", " 1 "},
	{"true", "true"},
	{"TRUE", "TRUE"},
	{"hash", "RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o="},
	{"short", "AAEAAQ=="},
	{"unpadded", "AAEAAQ"},
	{"urlsafe", "__--"},
	{"loose bits", "AAEAAR=="},
	{"folded", "AAEA\nAQ=="},
	{"device", "5d41402abc4b2a76b9719d911017c592"},
	{"DEVICE", "5D41402ABC4B2A76B9719D911017C592"},
	{"code", "0x0001"},
	{"long code", "0x10001"},
	{"short code", "0x1"},
	{"CODE", "0xF001"},
	{"time", "2026-08-20T09:15:00Z"},
	{"offset", "2026-08-20T09:15:00.5+01:00"},
	{"no zone", "2026-08-20T09:15:00"},
	{"30 February", "2026-02-30T09:15:00Z"},
	{"word", "nonsense"},
	{"empty", ""},
}

// schemaOf mutates the XML of the samples of one type and notes what Parse
// makes of it: a schema, as far as refusals tell.
func schemaOf(t *testing.T, list []Payload) string {
	facts := map[string]map[string]bool{} // path -> facts
	fact := func(path, f string) {
		if facts[path] == nil {
			facts[path] = map[string]bool{}
		}
		facts[path][f] = true
	}
	accepted := map[string]map[string]bool{} // path -> accepted probes
	try := func(p Payload, n *tree) error { return parseXML(newLike(p), n.xml()) }
	for _, p := range list {
		root := newTree(t, p.Append(nil))
		root.walk("", func(path string, n *tree) {
			if strings.HasPrefix(path, "x/") || path == "x" || strings.Contains(path, "/x") {
				return // forms have their own entry
			}
			if c := strings.Index(path, "content/"); c >= 0 {
				return // what is in an envelope, too
			}
			// Attributes.
			for i, a := range n.attrs {
				name := path + "@" + a.local
				saved := n.attrs
				n.attrs = append(append([]treeAttr(nil), saved[:i]...), saved[i+1:]...)
				if try(p, root) != nil {
					fact(name, "required")
				} else {
					fact(name, "optional")
				}
				n.attrs = append([]treeAttr(nil), saved...)
				if accepted[name] == nil {
					accepted[name] = map[string]bool{}
				}
				for _, probe := range probes {
					n.attrs[i].value = probe.value
					if try(p, root) == nil {
						accepted[name][probe.name] = true
					}
				}
				if a.space == "" && !anyLength(p, name) {
					n.attrs[i].value = strings.Repeat("a", 300<<10)
					if try(p, root) == nil {
						t.Errorf("%T: %s may have 300 KiB", p, name)
					}
				}
				n.attrs = saved
			}
			// Children: left out, doubled.
			for i, k := range n.kids {
				saved := n.kids
				if k.local == "" {
					name := path + "#text"
					if accepted[name] == nil {
						accepted[name] = map[string]bool{}
					}
					for _, probe := range probes {
						n.kids = append([]*tree{{text: probe.value}}, saved[1:]...)
						if try(p, root) == nil {
							accepted[name][probe.name] = true
						}
					}
					n.kids = saved
					continue
				}
				name := strings.TrimPrefix(path+"/"+k.local, "/")
				same := 0
				for _, o := range saved {
					if o.local == k.local && o.space == k.space {
						same++
					}
				}
				n.kids = append(append([]*tree(nil), saved[:i]...), saved[i+1:]...)
				if same == 1 {
					if try(p, root) != nil {
						fact(name, "required")
					} else {
						fact(name, "optional")
					}
				}
				n.kids = append(append([]*tree(nil), saved...), k)
				if try(p, root) != nil {
					fact(name, "once")
				} else {
					fact(name, "many")
				}
				n.kids = saved
			}
			// Text where there was none.
			if len(n.kids) == 0 || n.kids[0].local != "" {
				saved := n.kids
				n.kids = append([]*tree{{text: "some text"}}, saved...)
				if try(p, root) == nil {
					fact(path, "text ignored")
				}
				n.kids = append([]*tree{{text: " \n\t"}}, saved...)
				if err := try(p, root); err != nil && len(saved) > 0 {
					t.Errorf("%T: white space in %q: %v", p, path, err)
				}
				n.kids = saved
			}
			// What is not known changes nothing.
			if _, ok := p.(*Body); !ok && !strings.HasSuffix(path, "content") {
				for _, extra := range []*tree{
					{space: "urn:example:unknown", local: "unknown", kids: []*tree{{text: "text"}}},
					{space: n.space, local: "unknown", attrs: []treeAttr{{"", "id", "1"}}},
				} {
					if _, ok := p.(*Error); ok {
						continue
					}
					savedKids, savedAttrs := n.kids, n.attrs
					n.kids = append(append([]*tree(nil), savedKids...), extra)
					n.attrs = append(append([]treeAttr(nil), savedAttrs...), treeAttr{"", "unknown", "1"}, treeAttr{"urn:example:unknown", "id", "2"})
					got := newLike(p)
					if err := parseXML(got, root.xml()); err != nil {
						t.Errorf("%T: unknown element or attribute in %q: %v", p, path, err)
					} else if d := cmp.Diff(p, got, cmpopts.EquateEmpty()); d != "" && !unknownKept(p) {
						t.Errorf("%T: unknown element or attribute in %q: %s", p, path, d)
					}
					n.kids, n.attrs = savedKids, savedAttrs
				}
			}
		})
	}
	for path, probes := range accepted {
		fact(path, kindOf(probes))
	}
	var lines []string
	for path, fs := range facts {
		var words []string
		for f := range fs {
			words = append(words, f)
		}
		sort.Strings(words)
		if path == "" {
			path = "."
		}
		lines = append(lines, "\t"+path+"\t"+strings.Join(words, ", "))
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// anyLength reports whether an attribute is not kept, or kept with the XML
// around it, so that only the size of the stanza bounds it.
func anyLength(p Payload, name string) bool {
	switch p.(type) {
	case *Publish, *PubSubItems, *PubSubEvent:
		return strings.HasSuffix(name, "ds@jid")
	case *Claimed:
		return strings.HasSuffix(name, "@status")
	case *UploadSlot:
		return strings.HasSuffix(name, "header@name")
	case *Error:
		return name == "@type" || strings.HasPrefix(name, "history-gone")
	}
	return false
}

// unknownKept reports whether p keeps the XML of other elements.
func unknownKept(p Payload) bool {
	switch p.(type) {
	case *Publish, *PubSubItems, *PubSubEvent:
		return true
	}
	return false
}

// kindOf names the set of accepted probes.
func kindOf(accepted map[string]bool) string {
	var names []string
	for _, p := range probes {
		if accepted[p.name] {
			names = append(names, p.name)
		}
	}
	switch s := strings.Join(names, ","); s {
	case "0,7,max":
		return "number"
	case "0,7":
		return "number below 2^64"
	case "hash":
		return "hash"
	case "max,over,true,TRUE,hash,short,device,DEVICE,word": // all of them are
		return "base64"
	case "max,over,true,TRUE,hash,short,device,DEVICE,word,empty":
		return "base64 or empty"
	case "true,TRUE,short,word":
		return "base64 within the total"
	case "true,TRUE,short,word,empty":
		return "base64 within the total, or empty"
	case "0,true":
		return "boolean"
	case "device":
		return "device id"
	case "code":
		return "code"
	case "time,offset":
		return "time"
	case "":
		return "none of the probes"
	default:
		all := len(names) == len(probes)
		noEmpty := len(names) == len(probes)-1 && !accepted["empty"]
		switch {
		case all:
			return "string"
		case noEmpty:
			return "nonempty string"
		}
		return "{" + s + "}"
	}
}

// TestSchema compares what the types refuse with testdata/schema.txt, which is
// reviewed by people: which attributes and children are required, which may
// occur once, what their values may be.
func TestSchema(t *testing.T) {
	byType := map[string][]Payload{}
	var order []string
	for _, p := range samples() {
		name := reflect.TypeOf(p).Elem().Name()
		if byType[name] == nil {
			order = append(order, name)
		}
		byType[name] = append(byType[name], p)
	}
	var out bytes.Buffer
	for _, name := range order {
		root := newTree(t, byType[name][0].Append(nil))
		fmt.Fprintf(&out, "%s {%s}%s\n", name, root.space, root.local)
		if s := schemaOf(t, byType[name]); s != "" {
			out.WriteString(s + "\n")
		}
	}
	const file = "testdata/schema.txt"
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), out.String()); d != "" {
		t.Errorf("the types and %s differ; if the types are right, run with -update:\n%s", file, d)
	}
}
