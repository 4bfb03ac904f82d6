// SPDX-License-Identifier: Apache-2.0

package play

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"github.com/lockstep-im/lockstep/integration/servers"
)

// ServerWorld is a real server: its flavour, and for a second server of a script the
// other kind of the same generation.
type ServerWorld struct {
	Flavour servers.Flavour
}

// Worlds are all worlds, the in-memory one first.
func Worlds() []World {
	out := []World{&LoopbackWorld{}}
	for _, f := range servers.All() {
		out = append(out, &ServerWorld{f})
	}
	return out
}

// Name is the flavour's.
func (w *ServerWorld) Name() string { return string(w.Flavour) }

// Lacks names what real servers do not let a script do.
func (w *ServerWorld) Lacks(need string) string {
	switch need {
	case "loopback":
		return "only the in-memory server does this"
	case "ejabberd":
		if w.Flavour.Prosody() {
			return "only ejabberd does this"
		}
	case "prosody":
		if !w.Flavour.Prosody() {
			return "only Prosody does this"
		}
	}
	return ""
}

func (w *ServerWorld) partner() servers.Flavour {
	return map[servers.Flavour]servers.Flavour{servers.Prosody12: servers.Ejabberd23, servers.Prosody13: servers.Ejabberd24,
		servers.Ejabberd23: servers.Prosody12, servers.Ejabberd24: servers.Prosody13}[w.Flavour]
}

// Build takes a server that another script has left where the script allows it.
func (w *ServerWorld) Build(t T, want []ServerSpec) map[string]Host {
	t.Helper()
	out := make(map[string]Host)
	for i, spec := range want {
		f := w.Flavour
		if i%2 == 1 {
			f = w.partner()
		}
		if i < 2 && !spec.Own {
			s := servers.Lend(t, f)
			out[spec.Name] = &serverHost{s: s, c: s.Component()}
			continue
		}
		o := servers.Options{Upload: true, Multicast: !spec.Plain, KickOld: spec.KickOld, DebianRates: spec.Rate}
		if spec.MAM {
			o.MAM = "always"
		}
		// Several links need nothing: ejabberd spreads over those that are there, at
		// random. Its fixed division (domain_balancing with a component_number) would
		// go on sending a dead link's share to nobody.
		s := servers.Start(t, f, o)
		out[spec.Name] = &serverHost{s: s, c: s.Component()}
	}
	return out
}

type serverHost struct {
	s *servers.Server
	c servers.Component
}

const serverTimeout = 2 * time.Minute

func (h *serverHost) Domain() string              { return h.s.Domain() }
func (h *serverHost) Rooms() string               { return h.s.Rooms() }
func (h *serverHost) AddrTLS() string             { return h.s.C2STLS() }
func (h *serverHost) AddrC2S() string             { return h.s.C2S() }
func (h *serverHost) TLS() *tls.Config            { return h.s.TLSConfig() }
func (h *serverHost) ComponentAddr() string       { return h.s.ComponentAddr() }
func (h *serverHost) Component() (string, string) { return h.c.Domain, h.c.Secret }
func (h *serverHost) Where() string {
	return fmt.Sprintf("%s %s, %s, c2s %s, component %s", h.s.Flavour(), h.s.Domain(), h.s.Where(), h.s.C2S(), h.s.ComponentAddr())
}

func (h *serverHost) Account(name string) (string, string, error) {
	users, passwords, err := h.Accounts([]string{name})
	if err != nil {
		return "", "", err
	}
	return users[0], passwords[0], nil
}

func (h *serverHost) Accounts(names []string) (users, passwords []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), serverTimeout)
	defer cancel()
	var list []servers.Account
	for _, n := range names {
		a := h.s.NewAccount(n)
		list = append(list, a)
		users, passwords = append(users, a.User), append(passwords, a.Password)
	}
	return users, passwords, h.s.Register(ctx, list...)
}

func (h *serverHost) do(f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), serverTimeout)
	defer cancel()
	return f(ctx)
}

// CPU is the processor time that the server has used.
func (h *serverHost) CPU() (d time.Duration, err error) {
	err = h.do(func(ctx context.Context) error { d, err = h.s.CPU(ctx); return err })
	return d, err
}

func (h *serverHost) Stop() error  { return h.do(h.s.Stop) }
func (h *serverHost) Kill() error  { return h.do(h.s.Kill) }
func (h *serverHost) Start() error { return h.do(h.s.Restart) }

// Partition cuts the server off from every other one.
func (h *serverHost) Partition(Host) error { return h.do(h.s.Partition) }
func (h *serverHost) Heal(Host) error      { return h.do(h.s.Heal) }
