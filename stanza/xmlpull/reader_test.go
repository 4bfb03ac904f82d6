// SPDX-License-Identifier: Apache-2.0

package xmlpull

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// tokens renders what the Reader reads, for comparison.
func tokens(b []byte, ctx *Context) (string, error) {
	var r Reader
	r.Reset(b, ctx)
	var s strings.Builder
	for {
		kind, err := r.Next()
		if err != nil {
			return s.String(), err
		}
		switch kind {
		case EOF:
			return s.String(), nil
		case Start:
			fmt.Fprintf(&s, "<{%s}%s", r.Space(), r.Local())
			for _, a := range r.Attrs() {
				fmt.Fprintf(&s, " {%s}%s=%q", a.Space, a.Local, a.Value)
			}
			s.WriteString(">")
		case End:
			fmt.Fprintf(&s, "</{%s}%s>", r.Space(), r.Local())
		case Text:
			fmt.Fprintf(&s, "%q", r.Text())
		}
	}
}

func TestReaderAccepts(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{`<a/>`, `<{}a></{}a>`},
		{" \t\r\n<a></a>\n", `<{}a></{}a>`},
		{`<a x='1' y="2"/>`, `<{}a {}x="1" {}y="2"></{}a>`},
		{`<a x = '1' />`, `<{}a {}x="1"></{}a>`},
		{`<a xmlns='u'><b/><c xmlns=''/></a>`, `<{u}a><{u}b></{u}b><{}c></{}c></{u}a>`},
		{`<p:a xmlns:p='u' p:x='1' x='2'><p:b xmlns:p='v'/><p:c/></p:a>`,
			`<{u}a {u}x="1" {}x="2"><{v}b></{v}b><{u}c></{u}c></{u}a>`},
		{`<a xml:lang='de'/>`, `<{}a {http://www.w3.org/XML/1998/namespace}lang="de"></{}a>`},
		{`<a xmlns:xml='http://www.w3.org/XML/1998/namespace'/>`, `<{}a></{}a>`},
		{`<a>&lt;&gt;&amp;&quot;&apos;&#65;&#x1F600;</a>`, `<{}a>"<>&\"'A😀"</{}a>`},
		{`<a x='&lt;&#10;&#9;&#13;&quot;'/>`, `<{}a {}x="<\n\t\r\""></{}a>`},
		{"<a x='1\t2\n3\r\n4'/>", `<{}a {}x="1 2 3 4"></{}a>`},
		{"<a>1\r\n2\r3\n</a>", `<{}a>"1\n2\n3\n"</{}a>`},
		{`<a><![CDATA[<b>&amp;]]]]><![CDATA[>]]></a>`, `<{}a>"<b>&amp;]]"">"</{}a>`},
		{`<a>]] ></a>`, `<{}a>"]] >"</{}a>`},
		{`<été ñ='1'/>`, `<{}été {}ñ="1"></{}été>`},
		{`<a-b.c_1/>`, `<{}a-b.c_1></{}a-b.c_1>`},
		{`<a b='>'/>`, `<{}a {}b=">"></{}a>`},
	} {
		got, err := tokens([]byte(tc.in), nil)
		if err != nil || got != tc.want {
			t.Errorf("%s\n got %s, %v\nwant %s", tc.in, got, err, tc.want)
		}
	}
}

func TestReaderRejects(t *testing.T) {
	deep := strings.Repeat("<a>", 65) + strings.Repeat("</a>", 65)
	wide := "<a" + strings.Repeat(" ", 1)
	for i := range 65 {
		wide += fmt.Sprintf(" a%d=''", i)
	}
	wide += "/>"
	for _, tc := range []struct {
		in     string
		class  Class
		reason string
	}{
		{``, NotWellFormed, "no element"},
		{`  `, NotWellFormed, "no element"},
		{`x`, NotWellFormed, "text outside"},
		{`<a/>x`, NotWellFormed, "text outside"},
		{`<a/><b/>`, NotWellFormed, "second root"},
		{`<a`, NotWellFormed, "tag not closed"},
		{`<`, NotWellFormed, "tag not closed"},
		{`<a>`, NotWellFormed, "element not closed"},
		{`<a>x`, NotWellFormed, "element not closed"},
		{`</a>`, NotWellFormed, "end tag without"},
		{`<a></b>`, NotWellFormed, "does not match"},
		{`<a></ab>`, NotWellFormed, "does not match"},
		{`<a></a x='1'>`, NotWellFormed, "does not match"},
		{`<a></a`, NotWellFormed, "does not match"},
		{`<a><b></a></b>`, NotWellFormed, "does not match"},
		{`<p:a xmlns:p='u' xmlns:q='u'></q:a>`, NotWellFormed, "does not match"},
		{`< a/>`, NotWellFormed, "bad element name"},
		{`<1a/>`, NotWellFormed, "bad element name"},
		{`<-a/>`, NotWellFormed, "bad element name"},
		{`<:a/>`, NotWellFormed, "bad element name"},
		{`<a:/>`, NotWellFormed, "bad element name"},
		{`<a:b:c xmlns:a='u'/>`, NotWellFormed, ""},
		{`<a:1 xmlns:a='u'/>`, NotWellFormed, ""},
		{`<a / >`, NotWellFormed, "empty-element"},
		{`<a/b>`, NotWellFormed, "empty-element"},
		{`<a x/>`, NotWellFormed, "without value"},
		{`<a x=1/>`, NotWellFormed, "not quoted"},
		{`<a x='1/>`, NotWellFormed, "not closed"},
		{`<a x='<'/>`, NotWellFormed, "'<' in attribute"},
		{`<a x='1'y='2'/>`, NotWellFormed, "white space before"},
		{`<a x='1' x='2'/>`, NotWellFormed, "duplicate attribute"},
		{`<a xmlns:p='u' xmlns:q='u' p:x='1' q:x='2'/>`, NotWellFormed, "duplicate attribute"},
		{`<a xmlns='u' xmlns='v'/>`, NotWellFormed, "declared twice"},
		{`<a xmlns:p='u' xmlns:p='u'/>`, NotWellFormed, "declared twice"},
		{`<p:a/>`, NotWellFormed, "undeclared namespace prefix"},
		{`<a p:x='1'/>`, NotWellFormed, "undeclared namespace prefix"},
		{`<a><b xmlns:p='u'/><p:c/></a>`, NotWellFormed, "undeclared namespace prefix"},
		{`<a xmlns:p=''/>`, NotWellFormed, "prefix undeclared"},
		{`<a xmlns:xml='u'/>`, NotWellFormed, "prefix xml"},
		{`<a xmlns:xmlns='u'/>`, NotWellFormed, "prefix xmlns"},
		{`<a xmlns:p='http://www.w3.org/XML/1998/namespace'/>`, NotWellFormed, "reserved namespace"},
		{`<a xmlns='http://www.w3.org/2000/xmlns/'/>`, NotWellFormed, "reserved namespace"},
		{`<xmlns:a/>`, NotWellFormed, ""},
		{`<a>&nbsp;</a>`, NotWellFormed, "entity"},
		{`<a>&</a>`, NotWellFormed, "entity"},
		{`<a>&;</a>`, NotWellFormed, "entity"},
		{`<a>&#;</a>`, NotWellFormed, "entity"},
		{`<a>&#x;</a>`, NotWellFormed, "entity"},
		{`<a>&#0;</a>`, NotWellFormed, "entity"},
		{`<a>&#xD800;</a>`, NotWellFormed, "entity"},
		{`<a>&#xFFFE;</a>`, NotWellFormed, "entity"},
		{`<a>&#x110000;</a>`, NotWellFormed, "entity"},
		{`<a>&#99999999999999999999999;</a>`, NotWellFormed, "entity"},
		{`<a>&#1a;</a>`, NotWellFormed, "entity"},
		{`<a>&lt</a>`, NotWellFormed, "entity"},
		{"<a>\x00</a>", NotWellFormed, "forbidden character"},
		{"<a>\x1f</a>", NotWellFormed, "forbidden character"},
		{"<a>\uFFFE</a>", NotWellFormed, "forbidden character"},
		{"<a>\xff</a>", NotWellFormed, "UTF-8"},
		{"<a>\xed\xa0\x80</a>", NotWellFormed, "UTF-8"},
		{"<a>\xc0\x80</a>", NotWellFormed, "UTF-8"},
		{"<a x='\x01'/>", NotWellFormed, "forbidden character"},
		{"<a><![CDATA[\x01]]></a>", NotWellFormed, "forbidden character"},
		{"<\xff/>", NotWellFormed, "bad element name"},
		{`<a>]]></a>`, NotWellFormed, "]]>"},
		{`<a><![CDATA[</a>`, NotWellFormed, "CDATA"},
		{`<![CDATA[x]]>`, NotWellFormed, ""},
		{`<a><!ELEMENT b></a>`, NotWellFormed, "markup declaration"},
		{`<a><!-- x --></a>`, Restricted, "comment"},
		{`<!-- x --><a/>`, Restricted, "comment"},
		{`<a/><!-- x -->`, Restricted, "comment"},
		{`<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>`, Restricted, "document type"},
		{`<?xml version='1.0'?><a/>`, Restricted, "processing instruction"},
		{`<a><?php ?></a>`, Restricted, "processing instruction"},
		{deep, OverLimit, "deeply"},
		{wide, OverLimit, "attributes"},
		{"<a>" + strings.Repeat("<b/>", 40000) + "</a>", OverLimit, "nodes"},
		{"<a>" + strings.Repeat("x", DefaultMaxBytes) + "</a>", OverLimit, "too large"},
	} {
		got, err := tokens([]byte(tc.in), nil)
		var e *SyntaxError
		if !errors.As(err, &e) {
			t.Errorf("%.80s: got %s, %v", tc.in, got, err)
			continue
		}
		if e.Class != tc.class || !strings.Contains(e.Reason, tc.reason) {
			t.Errorf("%.80s: got %v, want %v %q", tc.in, e, tc.class, tc.reason)
		}
		if e.Offset < 0 || e.Offset > int64(len(tc.in)) {
			t.Errorf("%.80s: offset %d", tc.in, e.Offset)
		}
	}
}

// TestReaderPrefixes checks that no proper prefix of a document is accepted.
func TestReaderPrefixes(t *testing.T) {
	doc := `<iq type='set' id="&#x41;"><q xmlns='u' xmlns:p='v' p:x='&amp;'>a&lt;<![CDATA[b]]>é</q><e/></iq>`
	if _, err := tokens([]byte(doc), nil); err != nil {
		t.Fatal(err)
	}
	for i := range len(doc) {
		if _, err := tokens([]byte(doc[:i]), nil); err == nil {
			t.Errorf("accepted %s", doc[:i])
		}
	}
}

func TestReaderContext(t *testing.T) {
	ctx := NewContext("jabber:client")
	got, err := tokens([]byte(`<iq><b xmlns='u'/></iq>`), ctx)
	if want := `<{jabber:client}iq><{u}b></{u}b></{jabber:client}iq>`; got != want || err != nil {
		t.Errorf("got %s, %v", got, err)
	}
	if string(ctx.Default()) != "jabber:client" {
		t.Errorf("default namespace %q", ctx.Default())
	}
}

func TestReaderErrorSticks(t *testing.T) {
	var r Reader
	r.Reset([]byte(`<a></b>`), nil)
	var first error
	for first == nil {
		_, first = r.Next()
	}
	if _, again := r.Next(); again != first {
		t.Errorf("second error %v, first %v", again, first)
	}
}
