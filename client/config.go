// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/mls"
)

// Config says who a client is and how it behaves. Only JID and, to dial,
// Password are required: the zero value of every other field works.
type Config struct {
	// JID is the account, such as "nurse@capulet.lit". A resource is asked for
	// if given; the server has the last word.
	JID string
	// Password is the account's. It is used for SCRAM, and sent as it is only
	// over TLS to a server that knows nothing better and never did.
	Password string

	// Server is "host:port" to connect to instead of what DNS says. The
	// certificate must still be for the JID's domain.
	Server string
	// DirectTLS says that Server expects TLS at once (XEP-0368).
	DirectTLS bool
	// AllowPlaintext lets the client go on without TLS. Only for a server on
	// the same machine.
	AllowPlaintext bool
	// TLS is the configuration to start from. Nil: the system's roots, the
	// JID's domain, TLS 1.2 or later.
	TLS *tls.Config
	// Dial opens the connection instead of everything above, for tests and
	// tunnels. It returns whether the connection is already encrypted.
	Dial func(ctx context.Context) (conn net.Conn, secure bool, err error)

	// Store keeps the client's state. Nil: a SQLite file at StorePath. The
	// client closes the store that it opened itself, and no other.
	Store store.Store
	// StorePath is where that file is. Empty: "lockstep/JID.db" in
	// $XDG_DATA_HOME, which is ~/.local/share if it is not set.
	StorePath string
	// StoreKey encrypts that file's values: store.KeySize bytes. Nil: plain.
	StoreKey []byte

	// Service is the JID of the home delivery service. Empty: discovered, and
	// remembered.
	Service string
	// CipherSuite of new groups and key packages. 0:
	// MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519.
	CipherSuite mls.CipherSuite
	// Suites are further cipher suites that this device takes part in: it can be
	// added to groups of theirs, and a group can be reinitialised to them. Nil:
	// the suite 1, MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519, which every
	// client has. Empty: none.
	Suites []mls.CipherSuite
	// Certificate makes the device's credential an X.509 chain instead of the
	// bare JID. Its subject alternative names must have the JID as XmppAddr
	// (RFC 6120 §13.7.1.4), and its key must fit the cipher suite. When it has
	// expired nobody adds this device any more; it stays in its groups, and
	// [Client.Doctor] says so, until the client is started with another.
	Certificate *tls.Certificate
	// Roots are the certificate authorities whose X.509 credentials are
	// accepted from others. Nil: none are. Members whose certificates expire
	// stay members, because clocks differ and must not divide a group.
	Roots *x509.CertPool

	// Trust decides about keys that nobody has compared. Nil: [BlindTrust].
	Trust TrustPolicy
	// Accept decides about invitations. Nil: [AcceptAll].
	Accept AcceptPolicy

	// KeyPackages is how many key packages the delivery service should hold
	// for this device. 0: 30.
	KeyPackages int
	// UpdateInterval is the most time between two changes of this device's
	// keys in a group. 0: seven days. Negative: never by time.
	UpdateInterval time.Duration
	// UpdateMessages is the most messages this device sends in a group between
	// two changes of its keys. 0: 10,000. Negative: never by count.
	UpdateMessages int
	// StaleDevice is how long an own device may be unseen before this client
	// removes it from the groups. 0: 90 days. Negative: never.
	StaleDevice time.Duration

	// Log takes what an operator wants to know. It never has message contents,
	// passwords or keys. Nil: nothing is logged.
	Log *slog.Logger
	// Clock is the time. Nil: time.Now.
	Clock func() time.Time

	// Keepalive is the silence after which the server is asked whether it
	// lives. 0: one minute.
	Keepalive time.Duration

	// fail is called at named places between two steps, so that a test can
	// kill the process there.
	fail func(point string)
	// observe is shown each new state, so that a test can open what was sent.
	observe func(*mls.Group)
	// maintainEvery replaces the intervals of the housekeeping in tests.
	maintainEvery time.Duration
	// dialTimeout replaces the time that opening a stream may take.
	dialTimeout time.Duration
	// answerTimeout replaces the time that an answer may take.
	answerTimeout time.Duration
	// reinitTurn replaces the time that owners wait for each other to continue a
	// group, and six of it that members wait for their Welcome.
	reinitTurn time.Duration
	// pingEvery replaces the silence after which a service is asked whether it
	// still knows the session.
	pingEvery time.Duration
	// forge changes what is sealed, for tests of insiders.
	forge func(plain []byte) []byte
	// lawless makes a member that breaks the group's rules, for tests.
	lawless bool
}

// Account is the bare JID of the account, normalised: what a store is bound to.
func (cfg *Config) Account() (string, error) { return bareJID(cfg.JID) }

// DefaultStorePath is StorePath, or where the client keeps its state if that is
// empty.
func (cfg *Config) DefaultStorePath() (string, error) {
	if cfg.StorePath != "" {
		return cfg.StorePath, nil
	}
	account, err := cfg.Account()
	if err != nil {
		return "", err
	}
	dir := os.Getenv("XDG_DATA_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("client: finding a place for the store: %w; set StorePath", err)
		}
		dir = filepath.Join(home, ".local", "share")
	}
	// "/" cannot be in a bare JID.
	return filepath.Join(dir, "lockstep", account+".db"), nil
}

func (cfg *Config) clock() time.Time {
	if cfg.Clock != nil {
		return cfg.Clock()
	}
	return time.Now()
}

const (
	defaultKeyPackages    = 30
	defaultUpdateInterval = 7 * 24 * time.Hour
	defaultUpdateMessages = 10_000
	defaultStaleDevice    = 90 * 24 * time.Hour
)

// Invitation is what is known of an invitation before it is accepted.
type Invitation struct {
	Group string // JID of the group
	By    string // bare JID of who committed it, as the delivery service says
}

// AcceptPolicy decides whether to join a group that somebody has added this
// account to. It may take its time and call the client's methods.
type AcceptPolicy func(ctx context.Context, inv Invitation) Decision

// Decision is the answer of an [AcceptPolicy].
type Decision int

const (
	// Ask raises an [Invited] event and waits for [Client.Accept] or
	// [Client.Decline].
	Ask Decision = iota
	// AcceptInvitation joins.
	AcceptInvitation
	// DeclineInvitation leaves.
	DeclineInvitation
)

// AcceptAll joins every group. It is the default: a bot that is invited comes.
func AcceptAll(context.Context, Invitation) Decision { return AcceptInvitation }

// AskAlways leaves every invitation to [Client.Accept].
func AskAlways(context.Context, Invitation) Decision { return Ask }

// AcceptFrom joins when one of the accounts (bare JIDs) or of the domains
// invites, and declines other invitations.
func AcceptFrom(jids ...string) AcceptPolicy {
	allowed := make(map[string]bool, len(jids))
	for _, j := range jids {
		allowed[normalOr(j)] = true
	}
	return func(_ context.Context, inv Invitation) Decision {
		if allowed[inv.By] || allowed[domainOf(inv.By)] {
			return AcceptInvitation
		}
		return DeclineInvitation
	}
}
