// SPDX-License-Identifier: Apache-2.0

package xmlpull

import (
	"strings"
	"testing"
)

func TestDocTree(t *testing.T) {
	var d Doc
	in := ` <m xmlns='jabber:client' xml:lang='en' id=''>a<b xmlns='u' k='v'>x<c/>y<c n='2'/>z</b> <d/></m>`
	m, err := d.Parse([]byte(in), nil)
	if err != nil {
		t.Fatal(err)
	}
	if !m.Is("jabber:client", "m") || m.Parent().Valid() || m.Next().Valid() {
		t.Error("root is wrong")
	}
	if v, ok := m.AttrNS(NSXML, "lang"); !ok || string(v) != "en" {
		t.Errorf("xml:lang %q %v", v, ok)
	}
	if v, ok := m.Attr("id"); !ok || len(v) != 0 {
		t.Errorf("empty attribute: %q %v", v, ok)
	}
	if _, ok := m.Attr("lang"); ok {
		t.Error("attribute found without its namespace")
	}
	b := m.First()
	if !b.Is("u", "b") || string(b.Text()) != "xyz" || !b.HasText() {
		t.Errorf("b is %s %q", b.Local(), b.Text())
	}
	if got := string(b.Raw()); got != `<b xmlns='u' k='v'>x<c/>y<c n='2'/>z</b>` {
		t.Errorf("raw %s", got)
	}
	c := b.Child("u", "c")
	if string(c.Raw()) != "<c/>" || string(c.Next().Raw()) != "<c n='2'/>" || c.Next().Next().Valid() {
		t.Error("children are wrong")
	}
	if c.Parent() != b {
		t.Error("parent is wrong")
	}
	if dd := b.Next(); string(dd.Local()) != "d" || dd.HasText() || dd.Text() != nil || dd.First().Valid() {
		t.Error("d is wrong")
	}
	if m.Child("u", "nothing").Valid() {
		t.Error("child found that is not there")
	}
}

func TestZeroElement(t *testing.T) {
	var e Element
	if e.Valid() || e.First().Valid() || e.Next().Valid() || e.Parent().Valid() || e.Child("", "").Valid() ||
		e.Is("", "") || e.HasText() || e.Text() != nil || e.Raw() != nil || e.Attrs() != nil ||
		e.Space() != nil || e.Local() != nil || len(e.AppendXML(nil, "")) != 0 || len(e.AppendCanonical(nil)) != 0 {
		t.Error("the zero element is something")
	}
	if _, ok := e.Attr("x"); ok {
		t.Error("the zero element has an attribute")
	}
}

func TestDocReuse(t *testing.T) {
	var d Doc
	for _, in := range []string{`<a><b/></a>`, `<a`, `<c>&amp;</c>`, `<d x='1'><e/>t</d>`} {
		el, err := d.Parse([]byte(in), nil)
		if (err != nil) == el.Valid() {
			t.Errorf("%s: %v", in, err)
		}
		if err == nil && string(el.Raw()) != in {
			t.Errorf("%s: raw %s", in, el.Raw())
		}
	}
}

func TestSerialize(t *testing.T) {
	for _, tc := range []struct{ in, xml, canonical string }{
		{`<a/>`, `<a/>`, `<a/>`},
		{`<a  y="2" x='1'></a>`, `<a y='2' x='1'/>`, `<a x='1' y='2'/>`},
		{`<p:a xmlns:p='u'><p:b/><c/></p:a>`, `<a xmlns='u'><b/><c xmlns=''/></a>`, `<a xmlns='u'><b/><c xmlns=''/></a>`},
		{`<a xmlns='u'> <b/> </a>`, `<a xmlns='u'> <b/> </a>`, `<a xmlns='u'><b/></a>`},
		{`<a> </a>`, `<a> </a>`, `<a> </a>`},
		{`<a>x <b/> y</a>`, `<a>x <b/> y</a>`, `<a>x <b/> y</a>`},
		{`<a xml:lang='de' xmlns:p='u' p:z='1'/>`,
			`<a xml:lang='de' xmlns:n1='u' n1:z='1'/>`, `<a xml:lang='de' xmlns:n1='u' n1:z='1'/>`},
		{`<a x='&apos;&quot;&#10;&lt;'>&gt;&amp;&#13;</a>`,
			`<a x='&apos;&quot;&#10;&lt;'>&gt;&amp;&#13;</a>`, `<a x='&apos;&quot;&#10;&lt;'>&gt;&amp;&#13;</a>`},
		{`<a><![CDATA[<]]></a>`, `<a>&lt;</a>`, `<a>&lt;</a>`},
	} {
		var d Doc
		el, err := d.Parse([]byte(tc.in), nil)
		if err != nil {
			t.Fatal(tc.in, err)
		}
		if got := string(el.AppendXML(nil, "")); got != tc.xml {
			t.Errorf("%s\n got %s\nwant %s", tc.in, got, tc.xml)
		}
		if got := string(el.AppendCanonical(nil)); got != tc.canonical {
			t.Errorf("%s canonical\n got %s\nwant %s", tc.in, got, tc.canonical)
		}
	}
	var d Doc
	el, _ := d.Parse([]byte(`<a xmlns='u'><b/></a>`), nil)
	if got := string(el.AppendXML(nil, "u")); got != `<a><b/></a>` {
		t.Errorf("inherited: %s", got)
	}
}

func TestAppendEscapes(t *testing.T) {
	for _, tc := range []struct{ in, text, attr string }{
		{"plain", "plain", "plain"},
		{`<&>'"`, `&lt;&amp;&gt;'"`, `&lt;&amp;&gt;&apos;&quot;`},
		{"a\tb\nc\rd", "a\tb\nc&#13;d", "a&#9;b&#10;c&#13;d"},
		{"\x00\x1f", "\uFFFD\uFFFD", "\uFFFD\uFFFD"},
		{"\xff\xc3", "\uFFFD\uFFFD", "\uFFFD\uFFFD"},
		{"\uFFFE\uFFFF", "\uFFFD\uFFFD", "\uFFFD\uFFFD"},
		{"é😀\u007f", "é😀\u007f", "é😀\u007f"},
		{"", "", ""},
	} {
		if got := string(AppendText(nil, tc.in)); got != tc.text {
			t.Errorf("text %q: %q", tc.in, got)
		}
		if got := string(AppendText(nil, []byte(tc.in))); got != tc.text {
			t.Errorf("text bytes %q: %q", tc.in, got)
		}
		if got := string(AppendAttr(nil, "x", tc.in)); got != " x='"+tc.attr+"'" {
			t.Errorf("attr %q: %q", tc.in, got)
		}
	}
}

// TestDocForgetsLargeTrees checks that one hostile stanza does not pin memory.
func TestDocForgetsLargeTrees(t *testing.T) {
	var d Doc
	big := []byte("<a>" + strings.Repeat("<b/>", 20000) + "</a>")
	for _, in := range [][]byte{big, []byte("<a/>")} {
		if _, err := d.Parse(in, nil); err != nil {
			t.Fatal(err)
		}
	}
	if cap(d.nodes) > idleNodes {
		t.Errorf("room for %d nodes is kept", cap(d.nodes))
	}
}

// TestMemSize: a document of tags takes more memory than its input, one of text
// does not.
func TestMemSize(t *testing.T) {
	var d Doc
	tags := "<a>" + strings.Repeat("<b/>", 1000) + "</a>"
	if _, err := d.Parse([]byte(tags), nil); err != nil {
		t.Fatal(err)
	}
	if n := d.MemSize(); n < 10*len(tags) || n > 100*len(tags) {
		t.Errorf("%d bytes of tags take %d", len(tags), n)
	}
	text := "<a>" + strings.Repeat("b", 4000) + "</a>"
	if _, err := d.Parse([]byte(text), nil); err != nil {
		t.Fatal(err)
	}
	if n := d.MemSize(); n == 0 || n > 1000 {
		t.Errorf("%d bytes of text take %d", len(text), n)
	}
	attrs := "<a " + strings.Repeat("x='' ", 1) + "/>"
	if _, err := d.Parse([]byte(attrs), nil); err != nil {
		t.Fatal(err)
	}
	one := d.MemSize()
	if _, err := d.Parse([]byte("<a x='' y=''/>"), nil); err != nil || d.MemSize() <= one {
		t.Errorf("two attributes take %d, one takes %d (%v)", d.MemSize(), one, err)
	}
}
