// SPDX-License-Identifier: Apache-2.0

package play

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// An Actor is one device of one account, or one plain XMPP client. Do is called by one
// goroutine at a time unless the script says otherwise with "&".
type Actor interface {
	// Do plays a verb. A verb that the actor does not know is ErrVerb.
	Do(ctx context.Context, verb string, args []string) error
	Journal() *Journal
	// Close ends the actor for good.
	Close() error
}

// ErrVerb says that an actor has no such verb.
var ErrVerb = errors.New("no such verb")

// A Part is what an actor is given to play.
type Part struct {
	Name     string // "juliet", or "juliet/phone"
	Role     string // "juliet"
	Host     Host
	User     string
	Password string
	Tap      *Tap
	Dir      string // a folder of its own
	Play     *Play
}

// JID is the account's bare JID.
func (p *Part) JID() string { return p.User + "@" + p.Host.Domain() }

// Dial connects to the server with direct TLS, through the part's tap.
func (p *Part) Dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	d := tls.Dialer{Config: p.Host.TLS()}
	nc, err := d.DialContext(ctx, "tcp", p.Host.AddrTLS())
	if err != nil {
		return nil, fmt.Errorf("play: %s: connecting to %s: %w", p.Name, p.Host.AddrTLS(), err)
	}
	return p.Tap.Wrap(nc), nil
}

// Kinds make actors: by the word after "cast NAME", "member" when there is none.
type Kinds map[string]func(*Part) (Actor, error)

// A Service is a delivery service of the script.
type Service interface {
	Domain() string
	Start(ctx context.Context) error // returns when it serves
	Stop(ctx context.Context) error  // drains
	Kill() error                     // at once
	// Files are where it keeps its state, to look for what must not be there.
	Files() []string
	Close() error
}

// A ServiceSpec is a delivery service that a script asks for.
type ServiceSpec struct {
	Server   string // of the script
	Process  bool   // the real lockstepd in a process of its own
	Postgres bool
	Twice    bool              // two processes on one PostgreSQL
	Options  map[string]string // settings by the names of the configuration
}

// A ServiceMaker makes delivery services.
type ServiceMaker func(p *Play, host Host, spec ServiceSpec, tap *Tap) (Service, error)

// words of "cast": NAME [of SERVER] [KIND]
type castSpec struct{ name, server, kind string }

func parseCast(w []string, servers []ServerSpec) (castSpec, error) {
	if len(w) == 0 {
		return castSpec{}, errors.New("cast whom?")
	}
	c := castSpec{name: w[0], server: servers[0].Name, kind: "member"}
	w = w[1:]
	if len(w) >= 2 && w[0] == "of" {
		c.server, w = w[1], w[2:]
	}
	if len(w) == 1 {
		c.kind, w = w[0], nil
	}
	if len(w) > 0 {
		return c, fmt.Errorf("cast: what is %q?", strings.Join(w, " "))
	}
	for _, s := range servers {
		if s.Name == c.server {
			return c, nil
		}
	}
	return c, fmt.Errorf("cast: no server %q", c.server)
}
