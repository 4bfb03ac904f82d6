// SPDX-License-Identifier: Apache-2.0

package play

import (
	"context"
	"crypto/tls"
	"time"
)

// T is what the stage needs of a *testing.T.
type T interface {
	Helper()
	Name() string
	Failed() bool
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	Cleanup(func())
	TempDir() string
	Context() context.Context
}

// A World is a kind of server that scenarios are played on.
type World interface {
	Name() string
	// Lacks says why the world cannot do something that a script needs, or "".
	Lacks(need string) string
	// Build starts servers. It skips or fails the test where there are none.
	Build(t T, want []ServerSpec) map[string]Host
}

// A ServerSpec is a server that a script asks for.
type ServerSpec struct {
	Name string // in the script, such as "verona"
	// Own says that the script stops it, parts it from others or wants another
	// configuration: it cannot be shared with other scripts.
	Own     bool
	MAM     bool          // archive by default
	KickOld bool          // the second link of a component replaces the first
	Rate    bool          // the rate limits that Debian configures
	Links   int           // links that a component may have at the same time
	Plain   bool          // without multicast
	Timeout time.Duration // how long to wait for a server that cannot be reached, where the world lets us choose
}

// A Host is one server.
type Host interface {
	Domain() string
	Rooms() string   // domain of its MUC service
	AddrTLS() string // direct TLS for clients
	AddrC2S() string // STARTTLS for clients
	TLS() *tls.Config
	ComponentAddr() string
	Component() (domain, secret string)
	Account(name string) (user, password string, err error)
	// Accounts makes many at once.
	Accounts(names []string) (users, passwords []string, err error)

	Stop() error // as an operator would
	Kill() error // at once
	Start() error
	Partition(other Host) error
	Heal(other Host) error

	// Where names the server for a person.
	Where() string
}
