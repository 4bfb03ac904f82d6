// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"io"
	"slices"
	"sync"
	"time"
)

// A Config says how groups behave. The zero value and nil are usable. A Config
// must not be changed after its first use; it may be shared by any number of
// groups and goroutines. It may hold pre-shared keys, and prints as [redacted].
type Config struct {
	redacted

	// Rand is the source of randomness; nil means crypto/rand. It is read by one
	// goroutine at a time. ML-KEM and ECDSA draw from the system regardless.
	Rand io.Reader
	// Time is the clock; nil means time.Now.
	Time func() time.Time
	// Suites are the cipher suites that this client uses and announces in its
	// capabilities, best first; nil means the seven of RFC 9420. Experimental
	// suites work only when they are listed.
	Suites []CipherSuite
	// Capabilities are announced beyond what this package announces by itself:
	// extensions, proposals and credential types that the application understands.
	// Versions and CipherSuites are ignored.
	Capabilities Capabilities
	// Components are the application components that this client supports, beyond
	// those that this package handles by itself, and SafeAADComponents those of them
	// that put data into safe AAD. They are announced in the leaf's
	// app_data_dictionary (draft-ietf-mls-extensions); a group whose GroupContext
	// requires others is closed to this client.
	Components        []ComponentID
	SafeAADComponents []ComponentID
	// RFCOnly announces nothing of draft-ietf-mls-extensions, for groups with stacks
	// that choke on what they do not know: no SelfRemove, no application data, no
	// components. What others announce is still read.
	RFCOnly bool
	// NoGREASE leaves out the random values that RFC 9420 §13.5 recommends to
	// announce, so that peers that choke on unknown values are found early.
	NoGREASE bool

	// Authenticator vouches for credentials; nil accepts every well-formed one,
	// and a successor only if its credential is identical.
	Authenticator Authenticator
	// Policy has the last word on every change; nil allows all that RFC 9420 does.
	Policy Policy
	// AppData computes the new data of a component from the AppDataUpdate proposals
	// of a commit (draft-ietf-mls-extensions). nil: the last update is the new data.
	AppData AppDataUpdater
	// PSKs finds pre-shared keys; nil means that there are none but the resumption
	// keys of the group itself.
	PSKs PSKStore

	// Padding returns how many octets to add to n octets of content before they are
	// encrypted; nil means [PadBuckets].
	Padding func(n int) int
	// CheckReceivedLifetimes also checks the lifetime of leaf nodes that others
	// sent. RFC 9420 §7.3 recommends it, yet a client that was away for long then
	// refuses commits that the others accepted, and is out of the group. What this
	// client sends is always checked.
	CheckReceivedLifetimes bool
	// AllowListedDefaults accepts leaf nodes whose capabilities list default extension
	// or proposal types, which RFC 9420 §7.2 forbids: go-mls and programs on OpenMLS
	// write such leaves. It has to be the same for all members of a group, since who
	// refuses a commit that the others accept is out of it; mls-rs refuses them too.
	// What this client announces itself never lists a default.
	AllowListedDefaults bool
	// SealWithPending lets application data be sent while proposals are pending, for
	// an application that sees to their commit in another way: RFC 9420 §12.4 forbids
	// it, so that who is proposed to be removed reads nothing that follows.
	SealWithPending bool
	// Limits bound what others can make this client do.
	Limits Limits
}

// config is a Config in which every default is filled in.
type config struct {
	rand    io.Reader
	now     func() time.Time
	auth    Authenticator
	policy  Policy
	appData AppDataUpdater
	psks    PSKStore
	padding func(int) int
	limits  Limits

	// What is announced.
	suites               []CipherSuite
	extra                Capabilities
	components, safeAADs []ComponentID
	grease, rfcOnly      bool

	checkRx        bool
	listedDefaults bool
	sealPending    bool
}

// lockedReader lets worker goroutines share a caller's source of randomness.
type lockedReader struct {
	mu sync.Mutex
	r  io.Reader
}

func (l *lockedReader) Read(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Read(b)
}

var rfcSuites = func() (list []CipherSuite) {
	for cs := CipherSuite(1); cs <= lastRFCSuite; cs++ {
		list = append(list, cs)
	}
	return list
}()

var zeroConfig = (&Config{}).build()

func (c *Config) resolve() *config {
	if c == nil {
		return zeroConfig
	}
	return c.build()
}

func (c *Config) build() *config {
	r := &config{
		now: c.Time, suites: c.Suites, extra: c.Capabilities, grease: !c.NoGREASE, rfcOnly: c.RFCOnly,
		auth: c.Authenticator, policy: c.Policy, appData: c.AppData, psks: c.PSKs,
		components: c.Components, safeAADs: c.SafeAADComponents,
		listedDefaults: c.AllowListedDefaults, sealPending: c.SealWithPending,
		padding: c.Padding, checkRx: c.CheckReceivedLifetimes, limits: c.Limits.resolve(),
	}
	if c.Rand != nil {
		r.rand = &lockedReader{r: c.Rand}
	}
	if r.now == nil {
		r.now = time.Now
	}
	if r.suites == nil {
		r.suites = rfcSuites
	}
	if r.auth == nil {
		r.auth = acceptCredentials{}
	}
	if r.appData == nil {
		r.appData = lastUpdate{}
	}
	if r.padding == nil {
		r.padding = PadBuckets
	}
	return r
}

// suite returns a cipher suite that the configuration allows.
func (c *config) suite(cs CipherSuite) (*suite, error) {
	s, err := cs.suite()
	if err != nil {
		return nil, err
	}
	if !slices.Contains(c.suites, cs) {
		return nil, &suiteOffError{cs}
	}
	return s, nil
}

// suiteOffError says that a cipher suite is implemented and not asked for.
type suiteOffError struct{ cs CipherSuite }

func (e *suiteOffError) Error() string {
	return "mls: cipher suite " + e.cs.String() + " is not in Config.Suites"
}

func (e *suiteOffError) Unwrap() error { return ErrUnsupportedCipherSuite }
