// SPDX-License-Identifier: Apache-2.0

package xmlpull

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

const streamHead = `<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' from='mls.example' id='s1' xml:lang='en'>`

// split reads a whole stream and renders what it holds, one line each.
func split(r io.Reader, l Limits) string {
	s := NewSplitter(r, l)
	h, err := s.Open()
	if err != nil {
		return "open: " + errText(err)
	}
	var out strings.Builder
	fmt.Fprintf(&out, "{%s}%s from=%s id=%s lang=%s ns=%s", h.Space, h.Local, h.From, h.ID, h.Lang, h.Context.Default())
	for range 1000 {
		raw, err := s.Next()
		var big *OversizeError
		switch {
		case errors.As(err, &big):
			head := big.Head
			if len(head) > 16 {
				head = head[:16]
			}
			fmt.Fprintf(&out, "\noversize %d %q", big.Size, head)
		case err != nil:
			return out.String() + "\n" + errText(err)
		default:
			fmt.Fprintf(&out, "\n%s", raw)
		}
	}
	return out.String() + "\nendless"
}

func errText(err error) string {
	var e *SyntaxError
	if errors.As(err, &e) {
		return e.Class.String() + ": " + e.Reason
	}
	return err.Error()
}

func TestSplitter(t *testing.T) {
	const head = "{http://etherx.jabber.org/streams}stream from=mls.example id=s1 lang=en ns=jabber:component:accept"
	big := "<message to='a'><body>" + strings.Repeat("x", 3000) + "</body></message>"
	for _, tc := range []struct{ in, want string }{
		{streamHead + `<iq/><message>a</message></stream:stream>`, head + "\n<iq/>\n<message>a</message>\nEOF"},
		{streamHead + " \n<a/>\n\n \t<b/> </stream:stream >", head + "\n<a/>\n<b/>\nEOF"},
		{streamHead + `<a><a><a/></a></a><b/>`, head + "\n<a><a><a/></a></a>\n<b/>\nunexpected EOF"},
		{streamHead, head + "\nunexpected EOF"},
		{streamHead + `<a`, head + "\nunexpected EOF"},
		// What looks like tags and is none.
		{streamHead + `<a x='>' y="/>'</a>"><![CDATA[</a>]]]]></a><b/>`, head + "\n" + `<a x='>' y="/>'</a>"><![CDATA[</a>]]]]></a>` + "\n<b/>\nunexpected EOF"},
		{streamHead + `<a><!-- </a> - -- -> --></a><b/>`, head + "\n<a><!-- </a> - -- -> --></a>\n<b/>\nunexpected EOF"},
		{streamHead + `<a><?x </a> ? ?></a><b/>`, head + "\n<a><?x </a> ? ?></a>\n<b/>\nunexpected EOF"},
		{streamHead + `<a/ ><b/></a><c/>`, head + "\n<a/ ><b/></a>\n<c/>\nunexpected EOF"},
		// Broken inside, cut out whole.
		{streamHead + `<a>&nope;<b></c></a><d/>`, head + "\n<a>&nope;<b></c></a>\n<d/>\nunexpected EOF"},
		{streamHead + "<a \x00='1' p:q=x>\xff</a><d/>", head + "\n<a \x00='1' p:q=x>\xff</a>\n<d/>\nunexpected EOF"},
		// Too large, skipped.
		{streamHead + `<a/>` + big + `<b/></stream:stream>`, head + "\n<a/>\noversize 3039 \"<message to='a'>\"\n<b/>\nEOF"},
		// The stream cannot be divided.
		{streamHead + `x<a/>`, head + "\nnot-well-formed: text between stanzas"},
		{streamHead + `<!-- x --><a/>`, head + "\nrestricted-xml: markup declaration or processing instruction between stanzas"},
		{streamHead + `<?x?><a/>`, head + "\nrestricted-xml: markup declaration or processing instruction between stanzas"},
		{streamHead + `<a><!DOCTYPE b></a>`, head + "\nrestricted-xml: document type declaration"},
		{streamHead + `<a><!-x></a>`, head + "\nnot-well-formed: unknown markup declaration"},
		{streamHead + `<a><![CDAT[x]]></a>`, head + "\nnot-well-formed: unknown markup declaration"},
		// Headers.
		{``, "open: EOF"},
		{`  `, "open: EOF"},
		{`<stream:stream`, "open: unexpected EOF"},
		{`<?xml version='1.0'`, "open: unexpected EOF"},
		{`<a b:c='d'>`, "open: not-well-formed: undeclared namespace prefix"},
		{`<a/>`, "open: not-well-formed: no stream header"},
		{`x`, "open: not-well-formed: no stream header"},
		{`HTTP/1.1 400 Bad Request`, "open: not-well-formed: no stream header"},
		{`<stream:stream ` + strings.Repeat(" ", 9000), "open: policy-violation: stream header too long"},
		{`<!DOCTYPE a>`, "open: restricted-xml: document type declaration"},
	} {
		for name, r := range map[string]io.Reader{
			"whole":    strings.NewReader(tc.in),
			"by bytes": iotest.OneByteReader(strings.NewReader(tc.in)),
			"by halfs": iotest.HalfReader(strings.NewReader(tc.in)),
			"data+err": iotest.DataErrReader(strings.NewReader(tc.in)),
		} {
			if got := split(r, Limits{MaxBytes: 2000}); got != tc.want {
				t.Errorf("%s, %.80q\n got %q\nwant %q", name, tc.in, got, tc.want)
			}
		}
	}
}

// endless is a stanza that does not end.
type endless struct{ n int64 }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	e.n += int64(len(p))
	return len(p), nil
}

func TestSplitterEndlessStanza(t *testing.T) {
	e := &endless{}
	r := io.MultiReader(strings.NewReader(streamHead+`<a>`), e)
	s := NewSplitter(r, Limits{MaxBytes: 1 << 16, MaxSkip: 1 << 20})
	if _, err := s.Open(); err != nil {
		t.Fatal(err)
	}
	_, err := s.Next()
	var syntax *SyntaxError
	if !errors.As(err, &syntax) || syntax.Class != OverLimit {
		t.Fatalf("got %v", err)
	}
	if cap(s.buf) > 1<<18 {
		t.Errorf("buffer grew to %d bytes", cap(s.buf))
	}
	if _, again := s.Next(); again != err {
		t.Errorf("then %v", again)
	}
}

// nothing is a broken reader.
type nothing struct{}

func (nothing) Read([]byte) (int, error) { return 0, nil }

func TestSplitterNoProgress(t *testing.T) {
	if _, err := NewSplitter(nothing{}, Limits{}).Open(); err != io.ErrNoProgress {
		t.Errorf("got %v", err)
	}
}

// TestSplitterRestart reads two streams on one connection (RFC 6120 §4.3.3).
func TestSplitterRestart(t *testing.T) {
	s := NewSplitter(strings.NewReader(streamHead+`<a/>`+streamHead+`<b/></stream:stream>`), Limits{})
	for _, want := range []string{"<a/>", "<b/>"} {
		if _, err := s.Open(); err != nil {
			t.Fatal(err)
		}
		raw, err := s.Next()
		if err != nil || string(raw) != want {
			t.Fatalf("got %s, %v", raw, err)
		}
	}
	if len(s.Buffered()) != len("</stream:stream>") {
		t.Errorf("buffered %q", s.Buffered())
	}
}

// TestSplitterKeepsSmall checks that one large stanza does not pin memory.
func TestSplitterKeepsSmall(t *testing.T) {
	s := NewSplitter(strings.NewReader(streamHead+"<a>"+strings.Repeat("x", 400<<10)+"</a>  <b/>"), Limits{})
	if _, err := s.Open(); err != nil {
		t.Fatal(err)
	}
	if raw, err := s.Next(); err != nil || len(raw) != 400<<10+7 {
		t.Fatal(len(raw), err)
	}
	if _, err := s.Next(); err != nil {
		t.Fatal(err)
	}
	s.Next()
	if cap(s.buf) > maxIdle {
		t.Errorf("%d bytes kept", cap(s.buf))
	}
}

// FuzzSplitter checks that how the bytes arrive does not matter, and that each
// stanza is one that starts and ends as an element does.
func FuzzSplitter(f *testing.F) {
	for _, s := range fuzzSeeds {
		f.Add([]byte(s + s))
	}
	f.Add([]byte(`<a><![CDATA[]]]></a><b x=">"/><!--`))
	f.Fuzz(func(t *testing.T, b []byte) {
		in := streamHead + string(b)
		whole := split(strings.NewReader(in), Limits{MaxBytes: 64})
		bytewise := split(iotest.OneByteReader(strings.NewReader(in)), Limits{MaxBytes: 64})
		if whole != bytewise {
			t.Fatalf("%q\nwhole    %q\nby bytes %q", b, whole, bytewise)
		}
		s := NewSplitter(strings.NewReader(in), Limits{})
		if _, err := s.Open(); err != nil {
			t.Fatal(err)
		}
		for {
			raw, err := s.Next()
			if err != nil {
				return
			}
			if len(raw) < 4 || raw[0] != '<' || raw[len(raw)-1] != '>' {
				t.Fatalf("%q gives stanza %q", b, raw)
			}
			// A document that the Reader accepts must be cut at its end.
			if _, err := tokens(append(raw, "<x/>"...), nil); err == nil {
				t.Fatalf("%q gives %q, which is not all", b, raw)
			}
		}
	})
}
