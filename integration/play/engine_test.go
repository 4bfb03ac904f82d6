// SPDX-License-Identifier: Apache-2.0

package play

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestSplit(t *testing.T) {
	for in, want := range map[string]string{
		`juliet send balcony "hello there" x`: `juliet|send|balcony|hello there|x`,
		`a "b \"c\" \\ \n" d # comment`:       "a|b \"c\" \\ \n|d",
		`  a	b  `:                             `a|b`,
		`a ""`:                                `a|`,
	} {
		got, err := split(in)
		if err != nil || strings.Join(got, "|") != want {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
	if _, err := split(`a "b`); err == nil {
		t.Error("an open quote was accepted")
	}
}

func TestParse(t *testing.T) {
	s, err := Parse("testdata/x.txtar", []byte("# Title\n# https://example.org/issues/7 it broke\n\n! & juliet do x because \"no way\"\n-- a.xml --\n<a/>\n"))
	if err != nil {
		t.Fatal(err)
	}
	l := s.Lines[0]
	if s.Title != "Title" || s.Issue != "https://example.org/issues/7" || s.Files["a.xml"] != "<a/>\n" || s.Name != "x" ||
		l.N != 4 || !l.Fails || !l.Beside || l.Because != "no way" || len(l.Words) != 3 {
		t.Errorf("%+v", s)
	}
	for _, bad := range []string{"", "# only a title\n", "no title\n", "# t\n!\n", "# t\nx \"y\n"} {
		if _, err := Parse("x", []byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestJournal(t *testing.T) {
	var j Journal
	j.Add(Entry{"message", "balcony", "romeo: one"})
	go func() { j.Add(Entry{"message", "balcony", "romeo: two"}) }()
	for _, w := range []string{"two", "one"} {
		if _, err := j.Expect(t.Context(), "message", "balcony", []string{w}); err != nil {
			t.Error(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := j.Expect(ctx, "message", "balcony", []string{"one"}); err == nil {
		t.Error("one entry was taken twice")
	}
	if n := j.Count("message", "", []string{"romeo"}); n != 2 {
		t.Errorf("count %d", n)
	}
}

// TestCutter: stanzas come out as they went in, however they are divided on the way.
func TestCutter(t *testing.T) {
	parts := []struct {
		x      string
		stanza bool
	}{
		{"<?xml version='1.0'?>", false},
		{"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='a>b'>", false},
		{"<stream:features><a/><b></b></stream:features>", true},
		{"<success xmlns='x'/>", true},
		{"<stream:stream to='again'>", false},
		{"<message to=\"a'>b\"><body>1 > 2 &lt;</body><x><x/></x></message>", true},
		{"<iq><![CDATA[</iq>]]></iq>", true},
		{"<presence/>", true},
		{"</stream:stream>", false},
	}
	var all string
	for _, p := range parts {
		all += p.x
	}
	for _, r := range []io.Reader{strings.NewReader(all), iotest.OneByteReader(strings.NewReader(all))} {
		c := newCutter(r)
		for _, p := range parts {
			b, stanza, err := c.next()
			if err != nil || string(b) != p.x || stanza != p.stanza {
				t.Fatalf("got %q %v %v, want %q", b, stanza, err, p.x)
			}
		}
		if _, _, err := c.next(); !errors.Is(err, io.EOF) {
			t.Errorf("at the end: %v", err)
		}
	}
	c := newCutter(strings.NewReader("<stream:stream> \n <a/>"))
	var got []string
	for {
		b, _, err := c.next()
		if err != nil {
			break
		}
		got = append(got, string(b))
	}
	if fmt.Sprintf("%q", got) != `["<stream:stream>" " \n " "<a/>"]` {
		t.Errorf("white space: %q", got)
	}
}

func TestTapFaults(t *testing.T) {
	for _, tc := range []struct {
		f    Fault
		want string
	}{
		{Fault{Action: "drop", Count: 1}, "acd"},
		{Fault{Action: "double", Count: 1}, "abbcd"},
		{Fault{Action: "reorder", Count: 1}, "acbd"},
		{Fault{Action: "delay", Delay: 20 * time.Millisecond}, "abcd"},
		{Fault{Action: "cut"}, "a"},
		{Fault{Action: "outdate", Match: regexp.MustCompile(">[bd]<")}, "abcb"},
	} {
		t.Run(tc.f.Action, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			got := make(chan string, 1)
			go func() {
				nc, err := ln.Accept()
				if err != nil {
					got <- err.Error()
					return
				}
				defer nc.Close()
				b, _ := io.ReadAll(nc)
				got <- string(regexp.MustCompile(`<m>(.)</m>|.|\n`).ReplaceAll(b, []byte("$1")))
			}()
			nc, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			log := &XMLLog{}
			tap := NewTap("juliet", log)
			f := tc.f
			if f.Dir = From; f.Match == nil {
				f.Match = regexp.MustCompile(">b<")
			}
			tap.Add(&f)
			c := tap.Wrap(nc)
			for _, x := range []string{"<stream:stream>", "<m>a</m>", "<m>b</m>", "<m>c</m>", "<m>d</m>"} {
				if _, err := io.WriteString(c, x); err != nil {
					break
				}
			}
			c.Close()
			if g := <-got; g != tc.want {
				t.Errorf("%q arrived, want %q", g, tc.want)
			}
			if !log.Contains("<m>b</m>") || tap.Hits() == 0 {
				t.Error("not in the log, or no hit")
			}
		})
	}
}

func TestLogLeavesSecretsOut(t *testing.T) {
	l := &XMLLog{}
	l.add("juliet", From, "", []byte("<auth mechanism='PLAIN'>c2VjcmV0</auth>"))
	l.add("ds", From, "", []byte("<handshake>c2VjcmV0</handshake>"))
	if l.Contains("c2VjcmV0") || !l.Contains("<auth") {
		var b bytes.Buffer
		_ = l.Write(&b)
		t.Error(b.String())
	}
}

// A stage for the engine itself: plain clients on the in-memory server.
func perform(t *testing.T, script string) (failure string) {
	s, err := Parse("testdata/inline.txtar", []byte(script))
	if err != nil {
		t.Fatal(err)
	}
	rec := &recorder{T: t}
	done := make(chan struct{})
	go func() { // Fatalf of the recorder ends the goroutine, as testing does
		defer close(done)
		Run(rec, s, &LoopbackWorld{}, Kinds{"plain": NewPlain, "member": NewPlain}, nil, nil)
	}()
	<-done
	for i := len(rec.cleanups) - 1; i >= 0; i-- {
		rec.cleanups[i]()
	}
	return rec.failure
}

// recorder is a T whose failures are looked at instead of reported.
type recorder struct {
	*testing.T
	failure  string
	cleanups []func()
}

func (r *recorder) Failed() bool              { return r.failure != "" }
func (r *recorder) Logf(string, ...any)       {}
func (r *recorder) Cleanup(f func())          { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Errorf(f string, a ...any) { r.failure += fmt.Sprintf(f, a...) + "\n" }
func (r *recorder) Fatalf(f string, a ...any) {
	r.Errorf(f, a...)
	runtime.Goexit()
}

func (r *recorder) Skipf(f string, a ...any) {
	r.Errorf("skipped: "+f, a...)
	runtime.Goexit()
}

func TestEngine(t *testing.T) {
	t.Setenv("LOCKSTEP_TEST_LOGS", t.TempDir())
	for _, tc := range []struct{ name, script, want string }{
		{"chat", `# chat
juliet,romeo login
juliet chat romeo "hello"
romeo expect chat "juliet: hello"
romeo never chat "bye"
romeo count 1 chat "hello"
juliet alive
`, ""},
		{"expectation fails", "# x\nromeo login\npatience 50ms\nromeo expect chat \"hello\"\n", "nothing like"},
		{"never fails", "# x\njuliet,romeo login\njuliet chat romeo \"hello\"\nromeo expect chat \"hello\"\nromeo never chat \"hello\"\n", "it came 1 times"},
		{"unknown verb", "# x\njuliet dance\n", "no such verb"},
		{"unknown actor", "# x\nromoe login\n", "who is"},
		{"refusal", "# x\n! juliet dance because \"no such verb\"\n", ""},
		{"no refusal", "# x\n! juliet alive\n", "should have been refused"},
		{"other refusal", "# x\n! juliet dance because \"tired\"\n", "not because of"},
		{"beside", "# x\nromeo login\n& juliet chat romeo \"hi\"\nwait\nromeo expect chat \"hi\"\n", ""},
		{"beside fails", "# x\n& juliet dance\nwait\n", "no such verb"},
		{"faults", `# faults
juliet,romeo login
drop "lost" from juliet
double "twice" to romeo
juliet chat romeo "lost"
juliet chat romeo "twice"
romeo expect chat "twice"
romeo expect chat "twice"
romeo never chat "lost"
clear
juliet chat romeo "lost again"
romeo expect chat "lost again"
`, ""},
		{"trigger", `# trigger
juliet,romeo login
at "boo" from juliet kill server verona
& juliet chat romeo "boo"
until it happens
wait
romeo expect offline
start server verona
juliet,romeo login
juliet chat romeo "back"
romeo expect chat "back"
`, ""},
		{"trigger fails", "# x\njuliet login\npatience 50ms\nat \"boo\" from juliet kill server verona\nuntil it happens\n", "it does not"},
		{"federation", `# two servers
server verona
server mantua
cast romeo of mantua
juliet,romeo login
juliet chat romeo "across"
romeo expect chat "across"
part verona mantua
juliet chat romeo "waits"
heal verona mantua
romeo expect chat "waits"
`, ""},
		{"stanzas", `# stanzas
juliet,romeo login
juliet send m.xml
romeo expect normal "from a file"
juliet ask q.xml "service-unavailable"
juliet join square
romeo join square
juliet say square "hear ye"
romeo expect groupchat "hear ye"
nobody saw "treason"
! nobody saw "hear ye"
-- m.xml --
<message to='$romeo'><body>from a file $repeat(3,x)</body></message>
-- q.xml --
<iq type='get' id='q' to='$server'><nothing xmlns='urn:nothing'/></iq>
`, ""},
		{"skip", "# x\nneeds a real server\njuliet dance\n", "skipped"},
		{"bad server", "# x\nserver verona with wings\njuliet alive\n", "cannot have"},
		{"bad cast", "# x\ncast romeo of mantua\njuliet alive\n", "no server"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := perform(t, tc.script)
			if tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
				t.Errorf("failure %q, want %q", got, tc.want)
			}
		})
	}
}

func TestSummary(t *testing.T) {
	var s Summary
	s.Add("one", "loopback", Passed)
	s.Add("one", "prosody-13", Skipped)
	s.Add("two", "loopback", Failed)
	var b bytes.Buffer
	s.Write(&b)
	for _, w := range []string{"loopback:         1 passed, 1 failed, 0 skipped", "LEFT OUT"} {
		if !strings.Contains(b.String(), w) {
			t.Errorf("no %q in:\n%s", w, b.String())
		}
	}
}
