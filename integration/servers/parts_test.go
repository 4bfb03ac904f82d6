// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func TestOwnerGone(t *testing.T) {
	if ownerGone(processID()) {
		t.Errorf("this process (%s) is said to be gone", processID())
	}
	ended := exec.Command(os.Args[0], "-test.run", "^$")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	gone := fmt.Sprintf("%s:%d:%s", machineID(), ended.Process.Pid, "1")
	if !ownerGone(gone) {
		t.Errorf("an ended process (%s) is not said to be gone", gone)
	}
	if p := strings.Split(processID(), ":"); p[2] != "0" && !ownerGone(p[0]+":"+p[1]+":1") {
		t.Error("another process had our pid before, and is not said to be gone")
	}
	for _, unknown := range []string{"", "x", "elsewhere:1:2", machineID() + ":zero:1", machineID() + ":-1:1", machineID() + ":0:1"} {
		if ownerGone(unknown) {
			t.Errorf("%q, of which nothing is known, is said to be gone", unknown)
		}
	}
}

func TestOptions(t *testing.T) {
	o, err := Options{Domain: "capulet.example"}.withDefaults(Prosody13)
	if err != nil {
		t.Fatal(err)
	}
	if len(o.Components) != 1 || o.Components[0].Domain != "mls.capulet.example" || o.Components[0].Secret == "" {
		t.Errorf("components %+v, want mls.capulet.example with a secret", o.Components)
	}
	a, _ := Options{}.withDefaults(Prosody13)
	b, _ := Options{}.withDefaults(Prosody13)
	if a.Domain == b.Domain || !strings.HasSuffix(a.Domain, ".escalus.example") {
		t.Errorf("domains of two servers: %q and %q", a.Domain, b.Domain)
	}
	for name, bad := range map[string]Options{
		"a domain under .test":      {Domain: "capulet.test"},
		"a domain without a dot":    {Domain: "capulet"},
		"a quote in a domain":       {Domain: `capulet".example`},
		"a component that is host":  {Domain: "capulet.example", Components: []Component{{Domain: "capulet.example"}}},
		"a quote in a secret":       {Components: []Component{{Domain: "mls.capulet.example", Secret: `a"b`}}},
		"an unknown archive policy": {MAM: "sometimes"},
	} {
		if _, err := bad.withDefaults(Prosody13); err == nil {
			t.Errorf("%s passes", name)
		}
	}
}

func TestGenerationOf(t *testing.T) {
	for in, want := range map[string]Flavour{
		"prosody 0.12.3": Prosody12, "prosody 13.0.1": Prosody13, "prosody 13.0.7": Prosody13, "prosody 0.11.9": "",
		"ejabberd 23.01": Ejabberd23, "ejabberd 24.12": Ejabberd24, "ejabberd 26.07": Ejabberd24, "ejabberd 21.12": "", "prosody trunk": "",
	} {
		kind, version, _ := strings.Cut(in, " ")
		if got := generationOf(kind, version); got != want {
			t.Errorf("%s stands for %q, want %q", in, got, want)
		}
	}
}

func TestProsodyName(t *testing.T) {
	for in, want := range map[string]string{"capulet.example": "capulet%2eexample", "juliet-x7": "juliet%2dx7", "ß": "%c3%9f"} {
		if got := prosodyName(in); got != want {
			t.Errorf("prosodyName(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestNameserver asks for what Prosody and ejabberd ask for.
func TestNameserver(t *testing.T) {
	n, err := newNameserver(func(domain string) (int, bool) { return 15269, domain == "capulet.example" })
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	ask := func(name string, typ dnsmessage.Type) dnsmessage.Message {
		t.Helper()
		q := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true},
			Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: typ, Class: dnsmessage.ClassINET}}}
		b, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("udp4", fmt.Sprintf("127.0.0.1:%d", n.port()))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		c.Write([]byte("no question")) // and is not disturbed by noise
		c.Write(b)
		buf := make([]byte, 1500)
		size, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		var a dnsmessage.Message
		if err := a.Unpack(buf[:size]); err != nil {
			t.Fatal(err)
		}
		if a.ID != 7 || !a.Response {
			t.Errorf("answer %+v is not to the question", a.Header)
		}
		return a
	}
	a := ask("_xmpp-server._tcp.Capulet.example.", dnsmessage.TypeSRV)
	if len(a.Answers) != 1 {
		t.Fatalf("answers %v, want one", a.Answers)
	}
	if srv, ok := a.Answers[0].Body.(*dnsmessage.SRVResource); !ok || srv.Port != 15269 || srv.Target.String() != "localhost." {
		t.Errorf("answer %v, want localhost at 15269", a.Answers[0].Body)
	}
	if a := ask("localhost.", dnsmessage.TypeA); len(a.Answers) != 1 {
		t.Errorf("localhost: %v, want 127.0.0.1", a.Answers)
	}
	for _, name := range []string{"_xmpp-server._tcp.montague.example.", "capulet.example.", "_xmpps-server._tcp.capulet.example."} {
		if a := ask(name, dnsmessage.TypeSRV); a.RCode != dnsmessage.RCodeNameError || len(a.Answers) != 0 {
			t.Errorf("%s: %s with %d answers, want no such name", name, a.RCode, len(a.Answers))
		}
	}
}

// TestModes checks what LOCKSTEP_E2E says to each way of making servers.
func TestModes(t *testing.T) {
	for mode, ok := range map[string]bool{"": true, "require": true, "docker": true, "native": true, "off": true, "yes": false} {
		t.Setenv("LOCKSTEP_E2E", mode)
		if _, err := modeFromEnv(); (err == nil) != ok {
			t.Errorf("LOCKSTEP_E2E=%q: %v", mode, err)
		}
	}
	t.Setenv("LOCKSTEP_E2E", "off")
	if _, err := New(t.Context(), Prosody13, Options{}); !Absent(err) {
		t.Errorf("with LOCKSTEP_E2E=off: %v, want that it is absent", err)
	}
	if _, err := New(t.Context(), "jabberd", Options{}); err == nil || Absent(err) {
		t.Errorf("an unknown server: %v, want an error of its own", err)
	}
	before := maps.Clone(leftOut.tests) // what this test says is not so
	defer func() { leftOut.tests = before }()
	for mode, want := range map[string]string{"": "skip", "off": "skip", "native": "skip", "require": "fail", "docker": "fail", "x": "fail"} {
		t.Setenv("LOCKSTEP_E2E", mode)
		r := &recorder{T: t}
		giveUp(r, Prosody13, &absentError{Prosody13, []string{"for a test"}})
		if r.did != want {
			t.Errorf("LOCKSTEP_E2E=%q and no server: the test does %q, want %q", mode, r.did, want)
		}
	}
	r := &recorder{T: t}
	t.Setenv("LOCKSTEP_E2E", "")
	giveUp(r, Prosody13, fmt.Errorf("it broke"))
	if r.did != "fail" {
		t.Errorf("a server that breaks: the test does %q, want fail", r.did)
	}
}

// A recorder notes what would have become of a test.
type recorder struct {
	*testing.T
	did string
}

func (r *recorder) Fatalf(string, ...any) { r.did = "fail" }
func (r *recorder) Skipf(string, ...any)  { r.did = "skip" }

// TestLeftOut: what was not tested is named, with how much of it and why.
func TestLeftOut(t *testing.T) {
	var m missing
	if m.text() != "" {
		t.Errorf("nothing is missing: %q", m.text())
	}
	m.note("prosody-13", "docker is not installed")
	m.note("prosody-13", "docker is not installed")
	m.note("", "no slixmpp")
	want := "lockstep: LEFT OUT,   1 tests: no slixmpp\nlockstep: LEFT OUT,   2 tests on prosody-13: docker is not installed\n"
	if got := m.text(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
