// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/component"
	"github.com/lockstep-im/lockstep/component/store/sqlite"
	"github.com/lockstep-im/lockstep/integration/loopback"
)

// theatre is a server with a delivery service for the commands to run on.
type theatre struct {
	t      *testing.T
	server *loopback.Server
	dir    string
}

func newTheatre(t *testing.T) *theatre {
	t.Helper()
	s, err := loopback.Start(loopback.Options{Domain: demoDomain, Upload: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	th := &theatre{t: t, server: s, dir: t.TempDir()}
	if err := s.AddComponent(demoDS, "secret"); err != nil {
		t.Fatal(err)
	}
	db, err := sqlite.Open(context.Background(), filepath.Join(th.dir, "ds.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ds, err := component.New(component.Config{Domain: demoDS, Secret: "secret", Store: db, NudgeDelay: -1,
		Dial: func(context.Context) (net.Conn, error) { return s.DialComponent() }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); ds.Run(ctx); db.Close() }()
	t.Cleanup(func() { cancel(); <-done })
	<-ds.Ready()
	if err := os.WriteFile(filepath.Join(th.dir, "ca.pem"), s.CA().PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_DATA_HOME", filepath.Join(th.dir, "data"))
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(th.dir, "config"))
	for _, v := range []string{"LOCKSTEP_PASSWORD", "LOCKSTEP_ACCOUNT"} {
		os.Unsetenv(v)
	}
	return th
}

// args are the options of an account.
func (th *theatre) args(name string) []string {
	th.server.AddAccount(name, "pass-"+name)
	pw := filepath.Join(th.dir, name+".pw")
	if err := os.WriteFile(pw, []byte("pass-"+name+"\n"), 0o600); err != nil {
		th.t.Fatal(err)
	}
	return []string{"--account", name + "@" + demoDomain, "--password-file", pw, "--server", th.server.AddrC2S(), "--ca-file", filepath.Join(th.dir, "ca.pem")}
}

// lockstep runs a command to its end.
func (th *theatre) lockstep(name, stdin string, args ...string) (code int, out, errOut string) {
	var o, e bytes.Buffer
	code = run(append(th.args(name), args...), strings.NewReader(stdin), &o, &e)
	return code, o.String(), e.String()
}

func (th *theatre) must(name string, args ...string) string {
	th.t.Helper()
	code, out, errOut := th.lockstep(name, "", args...)
	if code != 0 {
		th.t.Fatalf("lockstep %s: status %d\n%s%s", strings.Join(args, " "), code, out, errOut)
	}
	return out
}

func TestCommands(t *testing.T) {
	th := newTheatre(t)
	if out := th.must("romeo", "group", "list"); out != "" { // publishes key packages
		t.Errorf("romeo has groups already: %q", out)
	}
	out := th.must("juliet", "group", "create", "Balcony", "--local", "balcony", "--invite", "romeo@"+demoDomain)
	if !strings.Contains(out, "balcony@"+demoDS) || !strings.Contains(out, "romeo@"+demoDomain+": added") {
		t.Errorf("create says %q", out)
	}
	if out := th.must("romeo", "group", "list"); !strings.Contains(out, "invitation by juliet@"+demoDomain) {
		t.Errorf("romeo sees %q", out)
	}
	th.must("romeo", "group", "accept", "balcony@"+demoDS)
	if out := th.must("juliet", "send", "balcony", "good", "night", "--json"); !strings.Contains(out, `"seq":`) {
		t.Errorf("send says %q", out)
	}
	code, _, errOut := th.lockstep("juliet", "one line\nand another\n", "send", "Balcony")
	if code != 0 {
		t.Errorf("sending lines: %s", errOut)
	}
	file := filepath.Join(th.dir, "letter.txt")
	os.WriteFile(file, []byte("dear romeo"), 0o600)
	th.must("juliet", "send", "balcony", "--file", file)
	saved := filepath.Join(th.dir, "saved")
	os.Mkdir(saved, 0o700)
	code, heard, errOut := th.lockstep("romeo", "", "listen", "--json", "-n", "4", "--save", saved)
	if code != 0 {
		t.Fatalf("listen: %s", errOut)
	}
	var bodies []string
	for line := range strings.Lines(heard) {
		var m jsonMessage
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		bodies = append(bodies, m.Body)
		if m.From != "juliet@"+demoDomain || m.Group != "balcony@"+demoDS || len(m.Device) != 32 {
			t.Errorf("%+v", m)
		}
	}
	if got := strings.Join(bodies, "|"); got != "good night|one line|and another|" {
		t.Errorf("heard %q", got)
	}
	if b, err := os.ReadFile(filepath.Join(saved, "letter.txt")); err != nil || string(b) != "dear romeo" {
		t.Errorf("the file: %q, %v", b, err)
	}

	members := th.must("juliet", "group", "members", "balcony")
	if !strings.Contains(members, "owner") || !strings.Contains(members, "romeo@"+demoDomain) || !strings.Contains(members, "code ") {
		t.Errorf("members %q", members)
	}
	a, b := th.must("juliet", "verify", "romeo@"+demoDomain), th.must("romeo", "verify", "juliet@"+demoDomain)
	na, _, _ := strings.Cut(a, "\n")
	nb, _, _ := strings.Cut(b, "\n")
	if na != nb || !strings.Contains(na, "safety number") {
		t.Errorf("safety numbers differ:\n%s\n%s", na, nb)
	}
	own := th.must("romeo", "verify")
	uri := strings.TrimSpace(own[strings.Index(own, "xmpp:"):])
	th.must("juliet", "verify", "--uri", uri)
	if out := th.must("juliet", "group", "members", "balcony", "--json"); strings.Count(out, `"verified"`) != 2 {
		t.Errorf("after scanning: %s", out)
	}
	if out := th.must("juliet", "device", "list"); !strings.Contains(out, "this device") {
		t.Errorf("devices %q", out)
	}
	if out := th.must("juliet", "doctor"); !strings.Contains(out, "✓ delivery service") || strings.Contains(out, "✗") {
		t.Errorf("doctor %q", out)
	}
	th.must("juliet", "group", "role", "balcony", "romeo@"+demoDomain, "admin")
	th.must("juliet", "group", "rename", "balcony", "Orchard")
	th.must("juliet", "group", "rekey", "Orchard")
	th.must("romeo", "group", "leave", "Orchard")
	th.must("juliet", "group", "destroy", "Orchard", "--yes")
	if out := th.must("juliet", "group", "list"); out != "" {
		t.Errorf("still there: %q", out)
	}
}

func TestMistakes(t *testing.T) {
	th := newTheatre(t)
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"no such group", []string{"send", "nowhere", "x"}, "lockstep group list"},
		{"unknown command", []string{"sing"}, "lockstep --help"},
		{"unknown subcommand", []string{"group", "sing"}, "lockstep group --help"},
		{"unknown flag", []string{"group", "create", "--loud"}, "lockstep group create --help"},
		{"nothing to say", []string{"send", "nowhere", ""}, "lockstep group list"},
		{"bad device", []string{"device", "remove", "xyz"}, "hexadecimal"},
		{"no such account", []string{"verify", "nobody@" + demoDomain}, "be in a group together"},
	} {
		code, _, errOut := th.lockstep("juliet", "", c.args...)
		if code == 0 || !strings.Contains(errOut, c.want) {
			t.Errorf("%s: status %d, %q", c.name, code, errOut)
		}
	}
	args := th.args("juliet")
	pw := args[3]
	os.WriteFile(pw, []byte("wrong"), 0o600)
	var o, e bytes.Buffer
	if code := run(append(args, "group", "list"), strings.NewReader(""), &o, &e); code == 0 || !strings.Contains(e.String(), "check the password") {
		t.Errorf("wrong password: %d %q", code, e.String())
	}
	os.Chmod(pw, 0o644)
	e.Reset()
	if code := run(append(args, "group", "list"), strings.NewReader(""), &o, &e); code == 0 || !strings.Contains(e.String(), "chmod 600") {
		t.Errorf("readable password: %d %q", code, e.String())
	}
	conf := filepath.Join(th.dir, "config", "lockstep")
	os.MkdirAll(conf, 0o700)
	os.WriteFile(filepath.Join(conf, "config.toml"), []byte("acount = \"x\"\n"), 0o600)
	e.Reset()
	if code := run([]string{"group", "list"}, strings.NewReader(""), &o, &e); code == 0 || !strings.Contains(e.String(), `unknown key "acount"`) {
		t.Errorf("unknown key: %d %q", code, e.String())
	}
}

// TestNoConnection says what is in the way, and waits for nothing that will not
// come.
func TestNoConnection(t *testing.T) {
	th := newTheatre(t)
	args := th.args("juliet")
	for _, c := range []struct {
		name string
		args []string
		want []string
	}{
		{"foreign certificate", args[:6], []string{"certificate", "--ca-file", "clock"}},
		{"no such server", append(slices.Clone(args[:4]), "--server", "nowhere.invalid:5222"), []string{"nowhere.invalid", "--server"}},
	} {
		var o, e bytes.Buffer
		began := time.Now()
		code := run(append(c.args, "group", "list"), strings.NewReader(""), &o, &e)
		for _, want := range c.want {
			if code != 1 || !strings.Contains(e.String(), want) {
				t.Errorf("%s: status %d, %q", c.name, code, e.String())
			}
		}
		if d := time.Since(began); d > 30*time.Second {
			t.Errorf("%s: it took %v", c.name, d)
		}
	}
}

// brokenPipe takes some lines and then no more.
type brokenPipe struct {
	strings.Builder
	lines int
}

func (p *brokenPipe) Write(b []byte) (int, error) {
	if p.lines--; p.lines < 0 {
		return 0, syscall.ENOSPC
	}
	return p.Builder.Write(b)
}

// TestListenLosesNothing ends listening by count and by an output that is full:
// what was not written comes the next time.
func TestListenLosesNothing(t *testing.T) {
	th := newTheatre(t)
	th.must("romeo", "group", "list")
	th.must("juliet", "group", "create", "Balcony", "--local", "balcony", "--invite", "romeo@"+demoDomain)
	th.must("romeo", "group", "accept", "balcony@"+demoDS)
	if code, _, errOut := th.lockstep("juliet", "one\n\ntwo\nthree\nfour\nfive\nsix\n", "send", "balcony"); code != 0 {
		t.Fatal(errOut)
	}
	heard := th.must("romeo", "listen", "-n", "2")
	pipe, e := &brokenPipe{lines: 1}, bytes.Buffer{}
	if code := run(append(th.args("romeo"), "listen"), strings.NewReader(""), pipe, &e); code != 1 || !strings.Contains(e.String(), "make room") {
		t.Errorf("with a full disk: status %d, %q", code, e.String())
	}
	heard += pipe.String()
	heard += th.must("romeo", "listen", "-n", "3")
	var words []string
	for line := range strings.Lines(heard) {
		words = append(words, strings.TrimSpace(line[strings.LastIndex(line, "\t")+1:]))
	}
	if got := strings.Join(words, " "); got != "one two three four five six" {
		t.Errorf("heard %q", got)
	}
}

func TestLongLine(t *testing.T) {
	err := eachLine(strings.NewReader("short\n"+strings.Repeat("x", 2*maxLine)), func(string) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "line 2") || !strings.Contains(err.Error(), "--file") {
		t.Errorf("%v", err)
	}
}

func TestDoctorOffline(t *testing.T) {
	th := newTheatre(t)
	args := th.args("juliet")
	for i := range args {
		if args[i] == "--server" {
			args[i+1] = "127.0.0.1:1"
		}
	}
	var o, e bytes.Buffer
	if code := run(append(args, "doctor"), strings.NewReader(""), &o, &e); code == 0 || !strings.Contains(o.String(), "✗ connection") {
		t.Errorf("doctor without a server: %d\n%s%s", code, o.String(), e.String())
	}
}

// window runs the chat without a terminal.
type window struct {
	t *testing.T
	p *tea.Program
	m *chat
}

// snapshot asks the window for what it shows.
type snapshot struct{ out chan string }

type windowModel struct{ *chat }

func (w windowModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	if s, ok := msg.(snapshot); ok {
		s.out <- w.chat.View()
		return w, nil
	}
	_, cmd := w.chat.Update(msg)
	return w, cmd
}

func (th *theatre) window(name string) *window {
	t := th.t
	t.Helper()
	c := &cli{}
	args := th.args(name)
	c.Account, c.PasswordFile, c.Server, c.CAFile = args[1], args[3], args[5], args[7]
	a := &app{cli: c, ctx: context.Background()}
	cfg, err := a.clientConfig()
	if err != nil {
		t.Fatal(err)
	}
	st := store.NewMemory(c.Account)
	cfg.Store, cfg.Accept = st, client.AskAlways
	cl, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &window{t: t, m: newChat(ctx, cl, &history{store: st}, &chatCmd{Typing: true, Saves: th.dir})}
	w.p = tea.NewProgram(windowModel{w.m}, tea.WithInput(nil), tea.WithoutRenderer(), tea.WithoutSignalHandler())
	w.m.attach(w.p.Send)
	var wg sync.WaitGroup
	wg.Go(func() { cl.Run(ctx) })
	wg.Go(func() { w.p.Run() })
	t.Cleanup(func() { w.p.Quit(); cancel(); wg.Wait(); cl.Close() })
	w.p.Send(tea.WindowSizeMsg{Width: 110, Height: 30})
	w.shows("●")
	return w
}

// unread is what a window that is opened now says of a room.
func (w *window) unread(name string) int {
	w.look() // what was pressed has been done
	for _, r := range newChat(w.m.ctx, w.m.c, w.m.h, w.m.opts).rooms {
		if r.name == name {
			return r.unread
		}
	}
	w.t.Fatalf("there is no room %s", name)
	return 0
}

func (w *window) look() string {
	out := make(chan string, 1)
	w.p.Send(snapshot{out})
	select {
	case s := <-out:
		return s
	case <-time.After(10 * time.Second):
		w.t.Fatal("the window hangs")
		return ""
	}
}

func (w *window) shows(texts ...string) string {
	w.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		s := w.look()
		all := true
		for _, text := range texts {
			all = all && strings.Contains(s, text)
		}
		if all {
			return s
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("the window does not show %q:\n%s", texts, s)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (w *window) types(text string) {
	for _, r := range text {
		w.p.Send(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune{r}})
	}
	w.p.Send(tea.KeyMsg{Type: tea.KeyEnter})
}

func (w *window) press(k tea.KeyType) { w.p.Send(tea.KeyMsg{Type: k}) }

// TestNarrowWindow has room for one thing at a time, and cuts nothing off.
func TestNarrowWindow(t *testing.T) {
	juliet := newTheatre(t).window("juliet")
	juliet.types("/create Balcony")
	juliet.shows("created")
	long := strings.Repeat("wherefore", 12) + "日本語日本語日本語日本語"
	juliet.types(long)
	juliet.shows("日本語")
	juliet.p.Send(tea.WindowSizeMsg{Width: 38, Height: 20})
	seen := juliet.shows("Balcony 1/1")
	if all := strings.Join(strings.Fields(seen), ""); !strings.Contains(all, long) {
		t.Errorf("a part of the line is lost:\n%s", seen)
	}
	for l := range strings.Lines(seen) {
		if w := lipgloss.Width(l); w > 38 {
			t.Errorf("a line is %d wide: %q", w, l)
		}
	}
	juliet.press(tea.KeyF2)
	juliet.shows("1 members", "juliet@")
	juliet.p.Send(tea.WindowSizeMsg{Width: 110, Height: 20})
	juliet.shows("1 members", "Balcony", "日本語")
}

// TestChatWindow is two people at two windows.
func TestChatWindow(t *testing.T) {
	th := newTheatre(t)
	romeo, juliet := th.window("romeo"), th.window("juliet")
	juliet.types("/create Balcony")
	juliet.shows("Balcony", "created")
	juliet.types("/invite romeo@" + demoDomain + " paris@" + demoDomain)
	juliet.shows("romeo@"+demoDomain+": added", "paris@"+demoDomain)
	s := romeo.shows("✉", "invites you")
	if strings.Count(s, "invites") != 1 {
		t.Errorf("an invitation in the open room:\n%s", s)
	}
	for l := range strings.Lines(s) {
		if rooms, _, _ := strings.Cut(l, "│"); strings.Contains(rooms, " 1 ") {
			t.Errorf("the open room has something unread:\n%s", s)
		}
	}
	romeo.types("/accept")
	romeo.shows("joined", "Balcony")
	juliet.types("wherefore art thou")
	romeo.shows("juliet", "wherefore art thou")
	romeo.types("here")
	juliet.shows("romeo", "here")
	for i := range 5 {
		juliet.types(fmt.Sprintf("line %d", i))
	}
	if s := romeo.shows("line 4"); !inOrder(s, "line 0", "line 1", "line 2", "line 3", "line 4") {
		t.Errorf("the lines came in another order:\n%s", s)
	}
	juliet.types("/correct the last line")
	romeo.shows("the last line (edited)")
	romeo.types("/react 👍 🎉")
	juliet.shows("the last line (edited)  👍 🎉 romeo")
	juliet.types("/retract")
	if s := romeo.shows("(taken back)"); strings.Contains(s, "juliet the last line") {
		t.Errorf("what was taken back is shown:\n%s", s)
	}
	juliet.shows("(taken back)")
	juliet.press(tea.KeyF2)
	juliet.shows("2 members", "owner")
	juliet.press(tea.KeyF2)
	file := filepath.Join(th.dir, "sonnet.txt")
	os.WriteFile(file, bytes.Repeat([]byte("shall I compare thee "), 5000), 0o600)
	juliet.types("/file " + file)
	romeo.shows("[file sonnet.txt")
	romeo.types("/save " + filepath.Join(th.dir, "nowhere"))
	romeo.shows("there is no folder ")
	romeo.types("/save " + t.TempDir())
	romeo.shows("saved ")
	romeo.types("/code")
	juliet.types("/code")
	code := func(s string) string {
		_, after, _ := strings.Cut(s, ", code ")
		return after[:min(35, len(after))]
	}
	if a, b := code(romeo.shows(", code ")), code(juliet.shows(", code ")); a != b {
		t.Errorf("codes differ: %q and %q", a, b)
	}
	juliet.types("/create Attic")
	juliet.shows("created ", "Attic")
	romeo.types("are you there?")
	// It arrives in the room that is not open, and is unread in the next window too.
	juliet.shows("Balcony 1")
	if n := juliet.unread("Balcony"); n != 1 {
		t.Errorf("%d lines are unread after a restart", n)
	}
	juliet.press(tea.KeyTab)
	juliet.shows("are you there?")
	juliet.press(tea.KeyTab)
	juliet.shows("Attic")
	if n := juliet.unread("Balcony"); n != 0 {
		t.Errorf("%d lines that were read are unread after a restart", n)
	}
	juliet.press(tea.KeyTab)
	juliet.shows("are you there?")
	juliet.types("/remove romeo@" + demoDomain)
	romeo.shows("removed by juliet@" + demoDomain)
	juliet.types("/nonsense")
	juliet.shows("there is no /nonsense")
	juliet.types("/help")
	juliet.shows("/verify [JID]")
}

// inOrder reports whether s has all texts, one behind the other.
func inOrder(s string, texts ...string) bool {
	for _, text := range texts {
		_, after, found := strings.Cut(s, text)
		if !found {
			return false
		}
		s = after
	}
	return true
}

// TestLinesChangeLines looks at who may change which line.
func TestLinesChangeLines(t *testing.T) {
	const juliet, romeo, nurse = "juliet@" + demoDomain, "romeo@" + demoDomain, "nurse@" + demoDomain
	base := func() *room {
		r := newRoom("g")
		r.take(&line{ID: "1", Origin: "a", From: juliet, Text: "original"})
		return r
	}
	for name, c := range map[string]struct {
		by   []*line
		want string // the first line
		n    int    // lines
	}{
		"corrected":                   {[]*line{{From: juliet, Corrects: "a", Text: "better"}}, "better", 1},
		"corrected by another":        {[]*line{{From: romeo, Corrects: "a", Text: "worse"}}, "original", 2},
		"corrected by its public id":  {[]*line{{From: juliet, Corrects: "1", Text: "better"}}, "better", 1},
		"corrects nothing":            {[]*line{{From: juliet, Corrects: "b", Text: "better"}}, "original", 2},
		"taken back":                  {[]*line{{From: juliet, Retracts: "a"}}, "(taken back)", 1},
		"taken back by another":       {[]*line{{From: romeo, Retracts: "a"}}, "original", 2},
		"taken back by a moderator":   {[]*line{{From: nurse, Retracts: "a", Moderator: true}}, "(taken back)", 1},
		"corrected when taken back":   {[]*line{{From: juliet, Retracts: "a"}, {From: juliet, Corrects: "a", Text: "x"}}, "(taken back)", 2},
		"liked":                       {[]*line{{From: romeo, ReactsTo: "a", Reactions: []string{"👍"}}}, "original", 1},
		"liked by a line without aim": {[]*line{{From: romeo, ReactsTo: "zz", Reactions: []string{"👍"}}}, "original", 2},
	} {
		t.Run(name, func(t *testing.T) {
			r := base()
			for _, l := range c.by {
				r.take(l)
			}
			if r.lines[0].Text != c.want || len(r.lines) != c.n {
				t.Errorf("%q and %d lines, want %q and %d", r.lines[0].Text, len(r.lines), c.want, c.n)
			}
		})
	}
	r := base()
	r.take(&line{From: romeo, ReactsTo: "a", Reactions: []string{"👍", "🎉"}})
	r.take(&line{From: nurse, ReactsTo: "1", Reactions: []string{"👎"}})
	r.take(&line{From: romeo, ReactsTo: "a", Reactions: []string{"❤️"}})
	r.take(&line{From: nurse, ReactsTo: "a"})
	if got := r.lines[0].reactions; len(got) != 1 || got[0].from != romeo || len(got[0].symbols) != 1 || got[0].symbols[0] != "❤️" {
		t.Errorf("reactions %v: the last word of each counts", got)
	}
	r.lines[0].Own, r.seen[romeo] = true, "a"
	if got := r.seenBy(); len(got) != 1 || got[0] != "romeo" {
		t.Errorf("seen by %v", got)
	}
	r.take(&line{ID: "2", Origin: "c", From: juliet, Text: "newer", Own: true})
	if got := r.seenBy(); got != nil {
		t.Errorf("the newer line is seen by %v", got)
	}
}

// TestHistoryIsKept shows the same lines after a restart.
func TestHistoryIsKept(t *testing.T) {
	h := &history{store: store.NewMemory("romeo@" + demoDomain)}
	for i := range 3 {
		l := &line{ID: fmt.Sprint(i), Time: time.Unix(int64(1000+i), 0), From: "juliet@" + demoDomain, Text: fmt.Sprint(i)}
		for range 2 { // at-least-once
			copied := *l
			if err := h.add("g", &copied); err != nil {
				t.Fatal(err)
			}
		}
	}
	lines, err := h.load("g")
	if err != nil || len(lines) != 3 || lines[2].Text != "2" {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	if err := h.clear("g"); err != nil {
		t.Fatal(err)
	}
	if lines, _ := h.load("g"); len(lines) != 0 {
		t.Error("not cleared")
	}
}

// TestShown isolates what reads from right to left, and takes away what would undo
// that.
func TestShown(t *testing.T) {
	for in, want := range map[string]string{
		"Balcony":           "Balcony",
		"مجموعة":            "\u2068مجموعة\u2069",
		"group \u05d0":      "\u2068group \u05d0\u2069",
		"\u202eevil\u2066x": "evilx",
		"a\x1b[2Jb\nc":      "a[2Jb c",
	} {
		if got := shown(in); got != want {
			t.Errorf("%q is shown as %q, want %q", in, got, want)
		}
	}
}

// TestReInitReportRotate takes a group to another suite, reports somebody and
// changes a device's key.
func TestReInitReportRotate(t *testing.T) {
	th := newTheatre(t)
	th.must("romeo", "--suites", "0x0003", "group", "list") // publishes key packages
	th.must("juliet", "group", "create", "Balcony", "--local", "balcony", "--invite", "romeo@"+demoDomain)
	th.must("romeo", "--suites", "0x0003", "group", "accept", "balcony@"+demoDS)
	if out := th.must("juliet", "group", "reinit", "balcony", "--suite", "0x0003"); !strings.Contains(out, "CHACHA20POLY1305") {
		t.Errorf("reinit says %q", out)
	}
	th.must("juliet", "send", "balcony", "anew")
	if code, heard, errOut := th.lockstep("romeo", "", "listen", "--json", "-n", "1"); code != 0 || !strings.Contains(heard, "anew") {
		t.Errorf("romeo hears %q, %s", heard, errOut)
	}
	if code, _, errOut := th.lockstep("juliet", "", "group", "reinit", "balcony", "--suite", "0x0005"); code == 0 || !strings.Contains(errOut, "romeo@"+demoDomain) {
		t.Errorf("reinit to a suite that romeo does not have: %d, %q", code, errOut)
	}
	th.must("juliet", "group", "report", "balcony", "--user", "romeo@"+demoDomain, "--reason", "spam", "--seq", "1", "--text", "sings")
	before := th.must("juliet", "verify")
	th.must("juliet", "device", "rotate")
	if after := th.must("juliet", "verify"); after == before {
		t.Errorf("the key is still %q", after)
	}
}
