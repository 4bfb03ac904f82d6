// SPDX-License-Identifier: Apache-2.0

package loopback_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/integration/loopback"
)

func two(t *testing.T, timeout time.Duration) (*loopback.Network, *loopback.Server, *loopback.Server) {
	t.Helper()
	n := &loopback.Network{Timeout: timeout}
	ca, err := loopback.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	a := start(t, loopback.Options{Domain: "a.example", Network: n, CA: ca, Flavour: loopback.Ejabberd24})
	b := start(t, loopback.Options{Domain: "b.example", Network: n, CA: ca})
	return n, a, b
}

func TestFederation(t *testing.T) {
	_, a, b := two(t, 0)
	ds := mustAttach(t, b)
	juliet, romeo := client(t, a, "juliet", "x").online(0), client(t, b, "romeo", "y").online(0)
	juliet.send("<message to='romeo@b.example'><body>across</body></message>")
	romeo.expect("across", "from='juliet@a.example/x'")
	juliet.send("<iq type='get' id='q' to='g@mls.b.example'><x xmlns='urn:x'/></iq>")
	ds.expect("id='q'", "from='juliet@a.example/x'")
	ds.send("<iq type='result' id='q' from='g@mls.b.example' to='juliet@a.example/x'/>")
	juliet.expect("id='q'", "result")
	juliet.send("<iq type='get' id='n' to='nowhere.example'><ping xmlns='urn:xmpp:ping'/></iq>")
	juliet.expect("id='n'", "remote-server-not-found")
	juliet.send("<presence to='mls.b.example'/>")
	ds.expect("<presence", "from='juliet@a.example/x'")
	a.CutClient("juliet@a.example")
	ds.expect("unavailable", "from='juliet@a.example/x'")
}

func TestPartition(t *testing.T) {
	n, a, b := two(t, 300*time.Millisecond)
	juliet, romeo := client(t, a, "juliet", "x").online(0), client(t, b, "romeo", "y").online(0)
	n.Partition(a, b)
	for i := range 3 {
		juliet.send("<message id='w%d' to='romeo@b.example/y'><body>waits %d</body></message>", i, i)
	}
	romeo.silent("waits")
	n.Heal(a, b)
	for i := range 3 {
		romeo.expect(fmt.Sprintf("waits %d", i))
	}
	n.Partition(a, b)
	juliet.send("<message id='m1' to='romeo@b.example/y'><body>late</body></message>")
	juliet.expect("id='m1'", "remote-server-timeout")
	n.Heal(a, b)
	juliet.send("<message to='romeo@b.example/y'><body>again</body></message>")
	romeo.expect("again")
}

// TestOversizedS2S: the sender of a stanza that is too big for s2s learns nothing.
func TestOversizedS2S(t *testing.T) {
	_, a, b := two(t, 0)
	ds, romeo := mustAttach(t, a), client(t, b, "romeo", "y").online(0)
	head := "<message from='mls.a.example' to='romeo@b.example/y'><body>"
	ds.send("%s", head+strings.Repeat("x", 524_000-len(head))+"</body></message>")
	romeo.expect("<body>")
	ds.send("%s", head+strings.Repeat("x", 525_000-len(head))+"</body></message>")
	ds.send("<message from='mls.a.example' to='romeo@b.example/y'><body>small</body></message>")
	if e := romeo.expect("<body>"); len(e.String()) > 1000 {
		t.Error("oversized stanza passed")
	}
	ds.silent("error")
}

func TestS2SFaults(t *testing.T) {
	_, a, b := two(t, 0)
	juliet, romeo := client(t, a, "juliet", "x"), client(t, b, "romeo", "y")
	f := a.Fault(loopback.Rule{Action: loopback.Drop, Kind: loopback.S2S, Peer: "b.example", Dir: loopback.Out, Match: hasBody("b")})
	if got := bodies(juliet, romeo, "abc"); got != "ac" {
		t.Errorf("got %q", got)
	}
	f.Remove()
	b.Fault(loopback.Rule{Action: loopback.Reorder, Kind: loopback.S2S, Dir: loopback.In, Match: hasBody("a")})
	if got := bodies(juliet, romeo, "abc"); got != "bac" {
		t.Errorf("got %q", got)
	}
}

func TestPeerServerDown(t *testing.T) {
	_, a, b := two(t, 200*time.Millisecond)
	juliet := client(t, a, "juliet", "x")
	b.Down()
	juliet.send("<message id='m' type='chat' to='romeo@b.example'><body>x</body></message>")
	juliet.expect("id='m'", "remote-server-timeout")
	b.Up()
	juliet.send("<message id='m2' type='chat' to='romeo@b.example'><body>stored</body></message>")
	romeo := client(t, b, "romeo", "y")
	romeo.send("<presence/>")
	romeo.expect("stored")
}
