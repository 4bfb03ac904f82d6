// SPDX-License-Identifier: Apache-2.0

package servers_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/integration/servers"
)

// everything turns every knob, so that a configuration that a server refuses is
// found here.
func everything(domain string) servers.Options {
	return servers.Options{
		Domain:               domain,
		Components:           []servers.Component{{Domain: "mls." + domain}, {Domain: "other." + domain, Secret: "s3cret"}},
		KickOld:              true,
		Balance:              "bare_destination",
		Multicast:            true,
		MAM:                  "always",
		OfflineLimit:         50,
		C2SStanzaBytes:       100_000,
		S2SStanzaBytes:       200_000,
		ComponentStanzaBytes: 300_000,
		C2SRate:              50_000,
		S2SRate:              50_000,
		Hibernation:          20 * time.Second,
		Upload:               true,
	}
}

// TestLifecycle stops, kills and pauses a server; accounts stay, addresses too.
func TestLifecycle(t *testing.T) {
	short(t)
	for _, f := range servers.All() {
		t.Run(string(f), func(t *testing.T) {
			s := servers.Start(t, f, everything("verona.example"))
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			defer cancel()
			accounts := []servers.Account{s.NewAccount("juliet"), s.NewAccount("romeo"), s.NewAccount("nurse")}
			if err := s.Register(ctx, accounts...); err != nil {
				t.Fatal(err)
			}
			juliet := accounts[0]
			login(t, s, juliet)
			addr := s.C2S()

			check := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			check(s.Stop(ctx))
			if tryLogin(s, juliet, time.Second) == nil {
				t.Error("a stopped server lets clients in")
			}
			check(s.Restart(ctx))
			if got := s.C2S(); got != addr {
				t.Errorf("the address changed from %s to %s", addr, got)
			}
			login(t, s, juliet)

			check(s.Kill(ctx))
			check(s.Restart(ctx))
			login(t, s, juliet)

			check(s.Pause(ctx))
			if tryLogin(s, juliet, 500*time.Millisecond) == nil {
				t.Error("a paused server lets clients in")
			}
			check(s.Resume(ctx))
			login(t, s, juliet)

			check(s.Unregister(ctx, juliet))
			if tryLogin(s, juliet, patience) == nil {
				t.Error("a deleted account logs in")
			}
			for _, c := range s.Options().Components {
				echo(t, s.ComponentAddr(), c)
			}
			var log bytes.Buffer
			check(s.Logs(ctx, time.Time{}, &log))
			if log.Len() == 0 {
				t.Error("no log")
			}
			for line := range strings.Lines(log.String()) {
				if strings.Contains(line, "[error]") || strings.Contains(line, "\terror\t") {
					t.Logf("the server logged: %s", strings.TrimSpace(line))
				}
			}
		})
	}
}

// TestPartition cuts two servers apart and mends it: nothing passes meanwhile,
// clients and components stay, and afterwards messages pass again.
func TestPartition(t *testing.T) {
	short(t)
	p := servers.Start(t, servers.Prosody12, servers.Options{})
	e := servers.Start(t, servers.Ejabberd23, servers.Options{})
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	aj, ar := p.Account(t, "juliet"), e.Account(t, "romeo")
	juliet, romeo := login(t, p, aj), login(t, e, ar)
	echo(t, p.ComponentAddr(), p.Component())
	juliet.send(ar.JID(), "before")
	romeo.expect("before", patience)

	if err := p.Partition(ctx); err != nil {
		t.Fatal(err)
	}
	juliet.send(ar.JID(), "meanwhile")
	romeo.send(aj.JID(), "meanwhile")
	romeo.never("meanwhile", 3*time.Second)
	juliet.never("meanwhile", 0)
	juliet.send(p.Component().Domain, "still here")
	juliet.expect("echo: still here", patience)

	if err := p.Heal(ctx); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	again(t, juliet, ar.JID(), romeo)
	again(t, romeo, aj.JID(), juliet)
	t.Logf("both directions work again %s after healing", time.Since(began).Round(100*time.Millisecond))
}

// again sends until something arrives: what was sent into the partition, and
// into connections that it killed, may be lost.
func again(t *testing.T, from *client, to string, at *client) {
	t.Helper()
	for range 90 {
		from.send(to, "after")
		if at.waitFor("after", time.Second) {
			return
		}
	}
	t.Fatalf("nothing passes from %s to %s after healing", from.session.LocalAddr(), to)
}
