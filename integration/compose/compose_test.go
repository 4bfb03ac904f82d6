// SPDX-License-Identifier: Apache-2.0

package compose_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/xml"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"mellium.im/sasl"
	"mellium.im/xmlstream"
	"mellium.im/xmpp"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/lockstep-im/lockstep/integration/servers"
)

// TestUp runs docker/up.sh as an operator would, under a project name and a
// loopback address of its own, logs in with the password that it prints, and
// asks lockstepd what it is. Then everything is stopped and started again: the
// accounts and the component's secret stay.
func TestUp(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED in -short mode: starts containers")
	}
	if os.Getenv("LOCKSTEP_E2E") == "off" || os.Getenv("LOCKSTEP_E2E") == "native" {
		t.Skipf("SKIPPED: LOCKSTEP_E2E=%s, and this needs containers", os.Getenv("LOCKSTEP_E2E"))
	}
	if err := exec.Command("docker", "info").Run(); err != nil {
		servers.Missing(t, "no Docker engine answers: start one")
		return
	}
	if exec.Command("docker", "compose", "version").Run() != nil && exec.Command("docker-compose", "version").Run() != nil {
		servers.Missing(t, "neither docker compose nor docker-compose is installed: apt-get install docker-compose")
		return
	}
	reap(t)
	for _, server := range []string{"prosody", "ejabberd"} {
		t.Run(server, func(t *testing.T) { up(t, server) })
	}
}

const projectPrefix = "lockstep-test-compose-"

// reap removes what test processes that were killed have left: the project's name
// holds the process.
func reap(t *testing.T) {
	const label = "com.docker.compose.project"
	for _, kind := range [][2][]string{
		{{"ps", "-a", "--format", `{{.ID}} {{.Label "` + label + `"}}`}, {"rm", "-f", "-v"}},
		{{"volume", "ls", "--format", `{{.Name}} {{.Label "` + label + `"}}`}, {"volume", "rm"}},
		{{"network", "ls", "--format", `{{.ID}} {{.Label "` + label + `"}}`}, {"network", "rm"}},
	} {
		out, err := exec.Command("docker", append(kind[0], "--filter", "label="+label)...).Output()
		if err != nil {
			t.Logf("looking for left-overs: %v", err)
		}
		for line := range strings.Lines(string(out)) {
			id, project, _ := strings.Cut(strings.TrimSpace(line), " ")
			owner, ours := strings.CutPrefix(project, projectPrefix)
			pid, _, _ := strings.Cut(owner, "-")
			if n, err := strconv.Atoi(pid); !ours || err != nil || syscall.Kill(n, 0) != syscall.ESRCH {
				continue
			}
			exec.Command("docker", append(kind[1], id)...).Run()
		}
	}
}

func up(t *testing.T, server string) {
	bind := fmt.Sprintf("127.%d.%d.%d", 64+rand.IntN(64), rand.IntN(256), 1+rand.IntN(254))
	project := fmt.Sprintf("%s%d-%d", projectPrefix, os.Getpid(), rand.IntN(1e6))
	env := append(os.Environ(), "LOCKSTEP_PROJECT="+project,
		"LOCKSTEP_BIND="+bind, "LOCKSTEP_BIND_METRICS="+bind, "LOCKSTEP_DOMAIN=capulet.example", "LOCKSTEP_COMPONENT_SECRET=")
	// The folder is copied, so that a test never writes into the checkout.
	dir := t.TempDir()
	if out, err := exec.Command("cp", "-R", filepath.Join("..", "..", "docker"), dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	script := filepath.Join(dir, "docker", "up.sh")
	// It builds lockstepd from the folder above: this one.
	binary := filepath.Join(dir, "lockstepd")
	build := exec.Command("go", "build", "-buildvcs=false", "-ldflags", "-s -w", "-o", binary, "../../component/cmd/lockstepd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building lockstepd: %v\n%s", err, out)
	}
	env = append(env, "LOCKSTEPD_BINARY="+binary)
	run := func(args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, script, append([]string{server}, args...)...)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("up.sh %s %s: %v\n%s", server, args, err, out)
		}
		return string(out)
	}
	t.Cleanup(func() {
		if os.Getenv("KEEP") == "1" {
			t.Logf("KEEP=1: %s stays on %s", server, bind)
			return
		}
		run("purge")
	})
	out := run("up")
	t.Logf("up.sh printed:\n%s", out)
	m := regexp.MustCompile(`account juliet@capulet\.example, password (\S+)`).FindStringSubmatch(out)
	if m == nil {
		t.Fatal("it printed no password of juliet")
	}
	pem, err := os.ReadFile(filepath.Join(dir, "docker", ".server.crt"))
	if err != nil {
		t.Fatal(err)
	}
	check(t, bind, m[1], pem)

	run("down")
	if out := run("up"); !strings.Contains(out, "account juliet@capulet.example is there already") {
		t.Errorf("after stopping and starting it printed:\n%s", out)
	}
	check(t, bind, m[1], pem)
}

// check logs in and asks the server and lockstepd what they are.
func check(t *testing.T, bind, password string, pem []byte) {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatalf("no certificate in %q", pem)
	}
	conn, err := net.DialTimeout("tcp", bind+":5222", 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	giveUp := time.AfterFunc(30*time.Second, func() { conn.Close() })
	defer giveUp.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	session, err := xmpp.NewClientSession(ctx, jid.MustParse("juliet@capulet.example"), conn,
		xmpp.StartTLS(&tls.Config{ServerName: "capulet.example", RootCAs: roots}),
		xmpp.SASL("", password, sasl.ScramSha256, sasl.ScramSha1), xmpp.BindResource())
	if err != nil {
		t.Fatalf("juliet logging in: %v", err)
	}
	go session.Serve(xmpp.HandlerFunc(func(xmlstream.TokenReadEncoder, *xml.StartElement) error { return nil }))

	type query struct {
		Identity []struct {
			Category string `xml:"category,attr"`
			Type     string `xml:"type,attr"`
		} `xml:"identity"`
		Feature []struct {
			Var string `xml:"var,attr"`
		} `xml:"feature"`
		Item []struct {
			JID string `xml:"jid,attr"`
		} `xml:"item"`
	}
	ask := func(to, ns string) (q query) {
		t.Helper()
		err := session.UnmarshalIQElement(ctx, xmlstream.Wrap(nil, xml.StartElement{Name: xml.Name{Space: ns, Local: "query"}}),
			stanza.IQ{Type: stanza.GetIQ, To: jid.MustParse(to)}, &q)
		if err != nil {
			t.Fatalf("asking %s: %v", to, err)
		}
		return q
	}
	var items []string
	for _, i := range ask("capulet.example", "http://jabber.org/protocol/disco#items").Item {
		items = append(items, i.JID)
	}
	for _, want := range []string{"mls.capulet.example", "rooms.capulet.example", "upload.capulet.example"} {
		if !strings.Contains(strings.Join(items, " "), want) {
			t.Errorf("the server lists %q, without %s", items, want)
		}
	}
	var features []string
	q := ask("mls.capulet.example", "http://jabber.org/protocol/disco#info")
	for _, f := range q.Feature {
		features = append(features, f.Var)
	}
	for _, want := range []string{"urn:xmpp:mls:ds:0", "urn:xmpp:mls:kp:0"} {
		if !strings.Contains(strings.Join(features, " "), want) {
			t.Errorf("lockstepd has the features %q, without %s", features, want)
		}
	}
	features = nil
	for _, f := range ask("juliet@capulet.example", "http://jabber.org/protocol/disco#info").Feature {
		features = append(features, f.Var)
	}
	for _, want := range []string{"http://jabber.org/protocol/pubsub", "urn:xmpp:mam:2"} {
		if !strings.Contains(strings.Join(features, " "), want) {
			t.Errorf("juliet's account has the features %q, without %s", features, want)
		}
	}

	resp, err := http.Get("http://" + bind + ":5290/healthz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		t.Errorf("/healthz: %s: %s", resp.Status, body)
	}
}
