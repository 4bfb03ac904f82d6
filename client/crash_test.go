// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/integration/loopback"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
)

const crashEnv = "LOCKSTEP_CRASH_CHILD" // "server ca-file store group point n"

// points are the places between two steps at which the child kills itself.
var points = []string{
	"", // none: killed from outside at some moment
	"sealed", "persisted", "submitted", "accepted",
	"processed", "stored", "handled",
	"commit-made", "commit-stored", "commit-submitted", "commit-accepted",
	"key-packages-stored",
}

func TestMain(m *testing.M) {
	if arg := os.Getenv(crashEnv); arg != "" {
		crashChild(strings.Split(arg, "\n"))
		return
	}
	os.Exit(m.Run())
}

// crashChild is juliet: she talks and changes keys until she dies.
func crashChild(args []string) {
	server, caFile, path, group, point, last := args[0], args[1], args[2], args[3], args[4], args[6] == "last"
	hits := 0
	fmt.Sscan(args[5], &hits)
	pem, err := os.ReadFile(caFile)
	if err != nil {
		panic(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	cfg := client.Config{JID: "juliet@" + domain, Password: "pass-juliet", Server: server, TLS: &tls.Config{RootCAs: pool}, StorePath: path, KeyPackages: 3}
	var mu sync.Mutex
	client.SetFail(&cfg, func(p string) {
		if p != point {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if hits--; hits == 0 {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	})
	c, err := client.New(cfg)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	out := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format+"\n", args...)
	}
	c.OnMessage(func(_ context.Context, m *client.Message) { out("heard %s %s", m.ID, m.Body) })
	c.OnEvent(func(_ context.Context, e client.Event) {
		switch v := e.(type) {
		case *client.Rejoined:
			out("alarm rejoined %s", v.Reason)
		case *client.Undecryptable:
			out("alarm undecryptable %s", v.Reason)
		case *client.Misbehaved:
			out("alarm misbehaved %s", v.Reason)
		case *client.ForkDetected:
			out("alarm fork %s", v.Reason)
		case *client.RollbackDetected:
			out("alarm rollback %s", v.Reason)
		case *client.HistoryLost:
			out("alarm history %d-%d", v.From, v.To)
		case *client.SendFailed:
			out("alarm failed %s", v.Reason)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	go c.Run(ctx)
	if err := c.Ready(ctx); err != nil {
		out("error %v", err)
		os.Exit(1)
	}
	g, ok := c.Group(group)
	if !ok {
		out("error not in the group")
		os.Exit(1)
	}
	if last {
		// Everything that waits goes out, then the ends are compared.
		if _, err := g.Send(ctx, "the end"); err != nil {
			out("error %v", err)
			os.Exit(1)
		}
		io.Copy(io.Discard, os.Stdin)
		for at := ^uint64(0); at != g.Seq(); time.Sleep(300 * time.Millisecond) {
			at = g.Seq()
			g.Sync(ctx)
		}
		code, _ := g.EpochCode()
		seq, chain := g.Chain()
		out("state %s/%d/%s", strings.ReplaceAll(code, " ", ""), seq, chain)
		c.Close()
		return
	}
	out("ready")
	go func() {
		for {
			time.Sleep(time.Duration(20+rand.IntN(60)) * time.Millisecond)
			if err := g.UpdateKeys(ctx); err != nil && ctx.Err() == nil {
				out("error updating: %v", err)
			}
		}
	}()
	for n := 0; ; n++ {
		text := fmt.Sprintf("c-%d-%d", os.Getpid(), n)
		posted, err := g.Post(ctx, text)
		if err != nil {
			out("error sending: %v", err)
			time.Sleep(10 * time.Millisecond)
			continue
		}
		// From here on it must not be lost, whatever happens.
		out("posted %s", text)
		if n%4 == 3 {
			continue // another is under way at once
		}
		sent, err := posted.Wait(ctx)
		if err != nil {
			out("error sending: %v", err)
			continue
		}
		out("sent %s %s", sent.ID, text)
	}
}

// crashWorld is what the parent sees.
type crashWorld struct {
	t  *testing.T
	w  *world
	ca string

	mu     sync.Mutex
	heard  map[string]string // text -> id, by juliet
	sent   map[string]string // text -> id, by juliet
	posted []string          // by juliet, in her order
	next   int               // number of romeo's message that juliet must hear next
	alarms []string
	errors []string
	state  string
}

// TestKilled kills a client a few hundred times, between any two steps and at
// random, while it talks, listens and changes keys. At the end nothing that was
// sent is lost or doubled, no message key was used twice, and the group has one
// history. LOCKSTEP_KILLS is another number of times.
func TestKilled(t *testing.T) {
	rounds := 240
	if testing.Short() {
		rounds = 2 * len(points)
	}
	if n, err := strconv.Atoi(os.Getenv("LOCKSTEP_KILLS")); err == nil {
		rounds = n
	}
	w := newWorld(t)
	cw := &crashWorld{t: t, w: w, heard: map[string]string{}, sent: map[string]string{}}
	cw.ca = filepath.Join(w.dir, "ca.pem")
	ok(t, os.WriteFile(cw.ca, w.server.CA().PEM(), 0o600))
	path := filepath.Join(w.dir, "juliet.db")

	// What passes the wire: every ciphertext that juliet ever sends.
	var wireMu sync.Mutex
	ciphertexts := make(map[stanza.Ref][]byte)
	stop := w.server.Wire().Watch(func(r loopback.Record) {
		if r.Kind != loopback.C2S || r.Dir != loopback.In || !strings.HasPrefix(r.Peer, "juliet@") {
			return
		}
		x := r.XML()
		for _, part := range strings.Split(x, "<mls")[1:] {
			_, text, _ := strings.Cut(part, ">")
			text, _, _ = strings.Cut(text, "<")
			if b, err := base64.StdEncoding.DecodeString(text); err == nil {
				wireMu.Lock()
				ciphertexts[stanza.MessageRef(b)] = b
				wireMu.Unlock()
			}
		}
	})
	defer stop()

	// Romeo's states at the beginning of each epoch can open them all again.
	epochs := make(map[uint64][]byte)
	rcfg := w.config("romeo", nil)
	rcfg.StorePath = filepath.Join(w.dir, "romeo.db")
	client.SetObserve(&rcfg, func(g *mls.Group) {
		wireMu.Lock()
		defer wireMu.Unlock()
		if _, ok := epochs[g.Epoch()]; !ok {
			epochs[g.Epoch()] = g.Save()
		}
	})
	romeo := w.start("romeo", rcfg)

	jcfg := w.config("juliet", nil)
	jcfg.StorePath = path
	juliet := w.start("juliet", jcfg)
	g := must(juliet.CreateGroup(ctxShort(t), "", &client.GroupOptions{Local: "tomb"}))(t)
	must(g.Invite(ctxShort(t), "romeo@"+domain))(t)
	rg := romeo.group(g.JID())
	juliet.stop()

	ctx, cancel := context.WithCancel(context.Background())
	var romeoSaid []string
	var saying sync.WaitGroup
	saying.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			text := fmt.Sprintf("r-%d", n)
			if _, err := rg.Send(ctx, text); err != nil {
				if ctx.Err() == nil {
					t.Errorf("romeo: %v", err)
				}
				return
			}
			romeoSaid = append(romeoSaid, text)
			if n%12 == 11 {
				if err := rg.UpdateKeys(ctx); err != nil && ctx.Err() == nil {
					t.Errorf("romeo: %v", err)
				}
			}
			time.Sleep(time.Duration(10+rand.IntN(40)) * time.Millisecond)
		}
	})
	for round := range rounds {
		cw.round(path, g.JID(), points[round%len(points)])
	}
	cancel()
	saying.Wait()
	ok(t, rg.Sync(ctxShort(t)))
	cw.final(path, g.JID(), rg, romeo)

	cw.mu.Lock()
	defer cw.mu.Unlock()
	for _, a := range cw.alarms {
		t.Errorf("juliet raised: %s", a)
	}
	for _, e := range cw.errors {
		t.Errorf("juliet: %s", e)
	}
	for _, text := range romeoSaid {
		if cw.heard[text] == "" {
			t.Errorf("juliet never heard %q", text)
		}
	}
	romeo.mu.Lock()
	times, ids := map[string]int{}, map[string]string{}
	for _, m := range romeo.messages {
		times[m.Body]++
		ids[m.Body] = m.ID
	}
	for _, name := range romeo.eventNames() {
		if strings.HasPrefix(name, "undecryptable") || strings.HasPrefix(name, "misbehaved") || strings.HasPrefix(name, "fork") || strings.HasPrefix(name, "rollback") {
			t.Errorf("romeo: %s", name)
		}
	}
	romeo.mu.Unlock()
	for text, n := range times {
		if n != 1 {
			t.Errorf("romeo heard %q %d times", text, n)
		}
	}
	for _, text := range cw.posted {
		if times[text] == 0 {
			t.Errorf("juliet was told that %q is kept, and romeo never heard it", text)
		}
	}
	for text, id := range cw.sent {
		if ids[text] != id {
			t.Errorf("juliet was told that %q is %s; romeo has %q", text, id, ids[text])
		}
	}
	code, _ := rg.EpochCode()
	seq, chain := rg.Chain()
	if want := fmt.Sprintf("%s/%d/%s", strings.ReplaceAll(code, " ", ""), seq, chain); cw.state != want {
		t.Errorf("the group has forked: juliet %s, romeo %s", cw.state, want)
	}
	wireMu.Lock()
	defer wireMu.Unlock()
	checkKeys(t, ciphertexts, epochs)
	t.Logf("%d kills, %d messages by juliet of which she was told that %d are kept and %d are sent, %d by romeo, %d epochs, %d ciphertexts", rounds, len(times), len(cw.posted), len(cw.sent), len(romeoSaid), len(epochs), len(ciphertexts))
}

// checkKeys opens every ciphertext with the keys of its epoch: two that used
// the same generation are noticed by the second, whose key is gone.
func checkKeys(t *testing.T, ciphertexts map[stanza.Ref][]byte, epochs map[uint64][]byte) {
	t.Helper()
	groups := make(map[uint64]*mls.Group)
	opened := 0
	type place struct {
		epoch uint64
		leaf  mls.LeafIndex
		gen   uint32
	}
	used := make(map[place]stanza.Ref)
	for ref, b := range ciphertexts {
		msg, err := mls.ParseMessage(b)
		if err != nil {
			t.Errorf("juliet sent something that is no message: %v", err)
			continue
		}
		epoch, _ := msg.Epoch()
		g := groups[epoch]
		if g == nil {
			saved, have := epochs[epoch]
			if !have {
				t.Errorf("juliet sent something of epoch %d, which romeo has not seen", epoch)
				continue
			}
			if g, err = mls.Load(nil, saved); err != nil {
				t.Fatal(err)
			}
			groups[epoch] = g
		}
		got, err := g.Process(msg)
		if errors.Is(err, mls.ErrReplay) {
			t.Errorf("epoch %d: a message key was used twice", epoch)
			continue
		}
		m, isApp := got.(*mls.ApplicationMessage)
		if err != nil || !isApp {
			t.Errorf("epoch %d: %T, %v", epoch, got, err)
			continue
		}
		opened++
		at := place{epoch, m.Sender.Index, m.Generation}
		if other, dup := used[at]; dup {
			t.Errorf("generation %d of epoch %d was used for %s and %s", m.Generation, epoch, other, ref)
		}
		used[at] = ref
	}
	if opened == 0 {
		t.Error("no ciphertext was checked")
	}
}

func (cw *crashWorld) child(path, group, point string, hits int, mode string) (*exec.Cmd, io.ReadCloser, io.WriteCloser) {
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), crashEnv+"="+strings.Join([]string{cw.w.server.AddrC2S(), cw.ca, path, group, point, fmt.Sprint(hits), mode}, "\n"))
	out, err := cmd.StdoutPipe()
	ok(cw.t, err)
	in, err := cmd.StdinPipe()
	ok(cw.t, err)
	cmd.Stderr = os.Stderr
	ok(cw.t, cmd.Start())
	return cmd, out, in
}

// read takes what the child says. A line that was cut by the kill counts for
// nothing.
func (cw *crashWorld) read(out io.Reader, ready chan<- struct{}) {
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		cw.mu.Lock()
		switch word {
		case "ready":
			close(ready)
		case "heard":
			id, text, _ := strings.Cut(rest, " ")
			old := cw.heard[text]
			if old != "" && old != id {
				cw.t.Errorf("juliet heard %q twice, as %s and %s", text, old, id)
			}
			cw.heard[text] = id
			if old == "" && strings.HasPrefix(text, "r-") {
				if want := fmt.Sprintf("r-%d", cw.next); text != want {
					cw.t.Errorf("juliet heard %q before %q", text, want)
				}
				cw.next++
			}
		case "posted":
			cw.posted = append(cw.posted, rest)
		case "sent":
			id, text, _ := strings.Cut(rest, " ")
			cw.sent[text] = id
		case "alarm":
			cw.alarms = append(cw.alarms, rest)
		case "error":
			cw.errors = append(cw.errors, rest)
		case "state":
			cw.state = rest
		}
		cw.mu.Unlock()
	}
}

// round lets a child live for a moment.
func (cw *crashWorld) round(path, group, point string) {
	cmd, out, _ := cw.child(path, group, point, 1+rand.IntN(3), "")
	ready := make(chan struct{})
	read := make(chan struct{})
	go func() { defer close(read); cw.read(out, ready) }()
	limit := 20 * time.Second
	if point == "" {
		limit = time.Duration(rand.IntN(400)) * time.Millisecond
	} else {
		go func() {
			select {
			case <-ready:
				// Long enough to come by every point.
				time.Sleep(900 * time.Millisecond)
				cmd.Process.Kill()
			case <-read:
			}
		}()
	}
	timer := time.AfterFunc(limit, func() { cmd.Process.Kill() })
	<-read
	cmd.Wait()
	timer.Stop()
}

// final brings juliet back for good.
func (cw *crashWorld) final(path, group string, rg *client.Group, romeo *actor) {
	cmd, out, in := cw.child(path, group, "", 0, "last")
	read := make(chan struct{})
	go func() { defer close(read); cw.read(out, make(chan struct{})) }()
	romeo.hears("the end")
	in.Close()
	<-read
	if err := cmd.Wait(); err != nil {
		cw.t.Errorf("the last child: %v", err)
	}
	ok(cw.t, rg.Sync(ctxShort(cw.t))) // both are at the end of the log
}
