// SPDX-License-Identifier: Apache-2.0

package play

import (
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/lockstep-im/lockstep/integration/loopback"
)

// LoopbackWorld is the in-memory server: the world that is always there.
type LoopbackWorld struct {
	// Flavour is the real server that it behaves like.
	Flavour loopback.Flavour
}

// Name is "loopback", with the flavour unless that is Prosody 13.
func (w *LoopbackWorld) Name() string {
	if w.Flavour == loopback.Prosody13 {
		return "loopback"
	}
	return "loopback-as-" + w.Flavour.String()
}

// Lacks: the in-memory server can do everything that scripts ask of a server, but is not
// one that a foreign client should be shown.
func (w *LoopbackWorld) Lacks(need string) string {
	switch need {
	case "a real server":
		return "it says nothing about real servers"
	case "ejabberd":
		if w.Flavour != loopback.Ejabberd23 && w.Flavour != loopback.Ejabberd24 {
			return "only ejabberd does this"
		}
	case "prosody":
		if w.Flavour != loopback.Prosody012 && w.Flavour != loopback.Prosody13 {
			return "only Prosody does this"
		}
	}
	return ""
}

// Build starts the servers. With several, the second behaves like the other kind.
func (w *LoopbackWorld) Build(t T, want []ServerSpec) map[string]Host {
	t.Helper()
	ca, err := loopback.NewCA()
	if err != nil {
		t.Fatalf("%v", err)
	}
	network := &loopback.Network{}
	out := make(map[string]Host)
	for i, spec := range want {
		flavour := w.Flavour
		if i%2 == 1 {
			flavour = map[loopback.Flavour]loopback.Flavour{loopback.Prosody13: loopback.Ejabberd24, loopback.Prosody012: loopback.Ejabberd23,
				loopback.Ejabberd24: loopback.Prosody13, loopback.Ejabberd23: loopback.Prosody012}[w.Flavour]
		}
		if spec.Timeout > 0 {
			network.Timeout = spec.Timeout
		}
		o := loopback.Options{Domain: spec.Name + ".example", Flavour: flavour, CA: ca, Network: network,
			MAM: spec.MAM, MUC: true, Upload: true, Seed: 1, WireRecords: 50_000}
		if spec.KickOld {
			o.Conflict = loopback.KickOld
		}
		multicast := !spec.Plain // as on the real servers
		o.Multicast = &multicast
		if spec.Rate {
			o.C2SRate, o.C2SBurst = 10_000, 20_000
			if flavour == loopback.Ejabberd24 || flavour == loopback.Ejabberd23 {
				o.C2SRate = 3_000
			}
		}
		s, err := loopback.Start(o)
		if err != nil {
			t.Fatalf("%v", err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Errorf("%v", err)
			}
		})
		if err := s.AddComponent("mls."+s.Domain(), "s3cret"); err != nil {
			t.Fatalf("%v", err)
		}
		out[spec.Name] = &loopbackHost{s: s, network: network}
	}
	return out
}

type loopbackHost struct {
	s       *loopback.Server
	network *loopback.Network
}

func (h *loopbackHost) Domain() string  { return h.s.Domain() }
func (h *loopbackHost) Rooms() string   { return "rooms." + h.s.Domain() }
func (h *loopbackHost) AddrTLS() string { return h.s.AddrTLS() }
func (h *loopbackHost) AddrC2S() string { return h.s.AddrC2S() }
func (h *loopbackHost) TLS() *tls.Config {
	return &tls.Config{ServerName: h.s.Domain(), RootCAs: h.s.CertPool(), MinVersion: tls.VersionTLS12}
}
func (h *loopbackHost) ComponentAddr() string       { return h.s.AddrComponent() }
func (h *loopbackHost) Component() (string, string) { return "mls." + h.s.Domain(), "s3cret" }
func (h *loopbackHost) Where() string {
	return fmt.Sprintf("in-memory server %s, c2s %s, component %s", h.s.Domain(), h.s.AddrC2S(), h.s.AddrComponent())
}

func (h *loopbackHost) Account(name string) (string, string, error) {
	return name, "pw-" + name, h.s.AddAccount(name, "pw-"+name)
}

func (h *loopbackHost) Accounts(names []string) (users, passwords []string, err error) {
	for _, n := range names {
		u, p, err := h.Account(n)
		if err != nil {
			return nil, nil, err
		}
		users, passwords = append(users, u), append(passwords, p)
	}
	return users, passwords, nil
}

func (h *loopbackHost) Stop() error { h.s.Down(); return nil }
func (h *loopbackHost) Kill() error { h.s.Down(); return nil }
func (h *loopbackHost) Start() error {
	time.Sleep(50 * time.Millisecond) // long enough for somebody to find it down
	h.s.Up()
	return nil
}

func (h *loopbackHost) Partition(other Host) error {
	o, ok := other.(*loopbackHost)
	if !ok {
		return errors.New("play: the other server is of another world")
	}
	h.network.Partition(h.s, o.s)
	return nil
}

func (h *loopbackHost) Heal(other Host) error {
	o, ok := other.(*loopbackHost)
	if !ok {
		return errors.New("play: the other server is of another world")
	}
	h.network.Heal(h.s, o.s)
	return nil
}
