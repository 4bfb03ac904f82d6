// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"sync"
	"time"
)

// A Config says how groups behave. The zero value and nil are usable. A Config
// must not be changed after its first use; it may be shared by any number of
// groups and goroutines.
type Config struct {
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
	// Limits bound what others can make this client do.
	Limits Limits
}

// Limits bound sizes, counts and work. A zero field means its default; negative
// means none at all (of what is kept) or no limit (of what is accepted).
type Limits struct {
	// MaxMessage is the size of a message in octets. Default 16 MiB: a Welcome
	// with the tree of 20,000 members.
	MaxMessage int
	// MaxMembers is the number of leaves of the tree, blank ones included. Default
	// 131,072.
	MaxMembers int
	// MaxProposals is the number of proposals in one commit. Default 16,384.
	MaxProposals int
	// MaxPending is the number of proposals that wait for a commit. Default 4,096.
	MaxPending int
	// MaxExtensions is the number of entries of an extension list. Default 64.
	MaxExtensions int
	// MaxLifetime is the longest lifetime of a key package that is accepted
	// (RFC 9420 §7.2 demands that there is one). Default 400 days.
	MaxLifetime time.Duration

	// MaxForward is by how many generations one message may be ahead of the last
	// from its sender (RFC 9420 §15.3). Default 1,000.
	MaxForward int
	// MaxSkipped is how many keys of skipped messages are kept for one sender.
	// Default 256.
	MaxSkipped int
	// MaxSkippedTotal is how many are kept for one epoch. Default 20,000.
	MaxSkippedTotal int

	// PastEpochs is for how many past epochs late messages can still be read.
	// Default 3.
	PastEpochs int
	// PastEpochAge is for how long they can be read. Default 24 hours.
	PastEpochAge time.Duration
	// ResumptionPSKs is for how many past epochs the resumption PSK is kept
	// (RFC 9420 §8.6). Default 16.
	ResumptionPSKs int
}

// The defaults of [Limits].
const (
	DefaultMaxMessage      = 16 << 20
	DefaultMaxMembers      = 1 << 17
	DefaultMaxProposals    = 1 << 14
	DefaultMaxPending      = 1 << 12
	DefaultMaxExtensions   = 64
	DefaultMaxLifetime     = 400 * 24 * time.Hour
	DefaultMaxForward      = defaultMaxForward
	DefaultMaxSkipped      = defaultMaxSkipped
	DefaultMaxSkippedTotal = defaultMaxSkippedTotal
	DefaultPastEpochs      = 3
	DefaultPastEpochAge    = 24 * time.Hour
	DefaultResumptionPSKs  = 16
)

const unlimited = 1<<31 - 1

// accepted resolves a bound on what is accepted, kept one on what is kept.
func accepted(v, def int) int {
	if v < 0 {
		return unlimited
	}
	return kept(v, def)
}

func kept(v, def int) int {
	switch {
	case v == 0:
		return def
	case v < 0:
		return 0
	}
	return v
}

func (l Limits) resolve() Limits {
	l.MaxMessage = accepted(l.MaxMessage, DefaultMaxMessage)
	l.MaxMembers = min(accepted(l.MaxMembers, DefaultMaxMembers), 1<<24)
	l.MaxProposals = accepted(l.MaxProposals, DefaultMaxProposals)
	l.MaxPending = accepted(l.MaxPending, DefaultMaxPending)
	l.MaxExtensions = accepted(l.MaxExtensions, DefaultMaxExtensions)
	l.MaxForward = accepted(l.MaxForward, DefaultMaxForward)
	if l.MaxLifetime == 0 {
		l.MaxLifetime = DefaultMaxLifetime
	}
	if l.PastEpochAge == 0 {
		l.PastEpochAge = DefaultPastEpochAge
	}
	l.PastEpochs = kept(l.PastEpochs, DefaultPastEpochs)
	l.ResumptionPSKs = kept(l.ResumptionPSKs, DefaultResumptionPSKs)
	return l
}

// CredentialUse says what a credential is presented for.
type CredentialUse uint8

// The uses of a credential.
const (
	// UseMember: the owner of the leaf is, or is about to become, a member.
	UseMember CredentialUse = iota + 1
	// UseExternalSender: the owner may send proposals from outside.
	UseExternalSender
)

// An Authenticator is the client's link to the authentication service
// (RFC 9420 §5.3.1): it alone knows whether a credential is true. Its methods may
// be called from several goroutines at once, and must not call back into the
// group.
type Authenticator interface {
	// ValidateCredential returns an error unless the credential is valid and its
	// owner has the signature key.
	ValidateCredential(c Credential, signatureKey []byte, use CredentialUse) error
	// ValidateSuccessor returns an error unless the new leaf may take the place of
	// the old one: in an Update, a commit's path, or an external commit that
	// replaces its sender's former self (RFC 9420 §12.2).
	ValidateSuccessor(old, new *LeafNode) error
}

// ErrIdentityChanged is the error of the default [Authenticator] for a successor
// whose credential is not identical.
var ErrIdentityChanged = errors.New("mls: the credential differs from the one that it replaces")

// acceptCredentials is the default Authenticator.
type acceptCredentials struct{}

func (acceptCredentials) ValidateCredential(Credential, []byte, CredentialUse) error { return nil }

func (acceptCredentials) ValidateSuccessor(old, new *LeafNode) error {
	if !old.Credential.Equal(new.Credential) {
		return ErrIdentityChanged
	}
	return nil
}

// A Policy is the application's own rule on top of RFC 9420 (§12.2): it sees a
// change whole before it is staged, when receiving and when sending, in a [Group]
// and in a [PublicGroup] alike.
type Policy interface {
	// CheckChange returns an error to refuse the change. It must not keep or
	// change what it is shown.
	CheckChange(*Change) error
}

// PolicyFunc makes a [Policy] of a function.
type PolicyFunc func(*Change) error

// CheckChange implements [Policy].
func (f PolicyFunc) CheckChange(c *Change) error { return f(c) }

// An AppDataUpdater is the application logic of components
// (draft-ietf-mls-extensions, Updating Application Data in the GroupContext).
type AppDataUpdater interface {
	// UpdateAppData returns the new data of a component. old is nil when it had
	// none; updates are in the order of the commit. An error makes the commit
	// invalid. All members and the delivery service must come to the same result.
	UpdateAppData(id ComponentID, old []byte, updates [][]byte) ([]byte, error)
	// CheckEphemeral returns an error unless the component is known and the data
	// of an AppEphemeral proposal is valid.
	CheckEphemeral(id ComponentID, data []byte) error
}

// lastUpdate is the default AppDataUpdater.
type lastUpdate struct{}

func (lastUpdate) UpdateAppData(_ ComponentID, _ []byte, updates [][]byte) ([]byte, error) {
	return bytes.Clone(updates[len(updates)-1]), nil
}

func (lastUpdate) CheckEphemeral(ComponentID, []byte) error { return nil }

// A PSKStore finds pre-shared keys (RFC 9420 §8.4). A group finds its own
// resumption keys by itself; the store is asked for all others.
type PSKStore interface {
	// PSK returns the key, or an error that wraps [ErrMissingPSK].
	PSK(id *PreSharedKeyID) ([]byte, error)
}

// PSKFunc makes a [PSKStore] of a function.
type PSKFunc func(id *PreSharedKeyID) ([]byte, error)

// PSK implements [PSKStore].
func (f PSKFunc) PSK(id *PreSharedKeyID) ([]byte, error) { return f(id) }

// ExternalPSKs is a [PSKStore] that maps the ids of external keys to keys.
type ExternalPSKs map[string][]byte

// PSK implements [PSKStore].
func (m ExternalPSKs) PSK(id *PreSharedKeyID) ([]byte, error) {
	if psk, ok := m[string(id.ID)]; ok && id.Type == PSKExternal {
		return psk, nil
	}
	return nil, ErrMissingPSK
}

// config is a Config in which every default is filled in.
type config struct {
	rand    io.Reader
	now     func() time.Time
	suites  []CipherSuite
	extra   Capabilities
	grease  bool
	auth    Authenticator
	policy  Policy
	appData AppDataUpdater
	psks    PSKStore
	padding func(int) int
	checkRx bool
	limits  Limits
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
		now: c.Time, suites: c.Suites, extra: c.Capabilities, grease: !c.NoGREASE,
		auth: c.Authenticator, policy: c.Policy, appData: c.AppData, psks: c.PSKs,
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

// secretTreeLimits applies the limits to a secret tree.
func (c *config) limitSecretTree(t *secretTree) {
	t.setLimits(uint32(c.limits.MaxForward), c.limits.MaxSkipped, c.limits.MaxSkippedTotal)
}

// capabilities returns what this client announces.
func (c *config) capabilities(own CipherSuite) Capabilities {
	caps := Capabilities{
		Versions:     []ProtocolVersion{MLS10},
		CipherSuites: slices.Clone(c.suites),
		Extensions:   append([]ExtensionType{ExtensionAppDataDictionary, ExtensionLastResort}, c.extra.Extensions...),
		Proposals:    append([]ProposalType{ProposalAppDataUpdate, ProposalAppEphemeral, ProposalSelfRemove}, c.extra.Proposals...),
		Credentials:  append([]CredentialType{CredentialBasic, CredentialX509}, c.extra.Credentials...),
	}
	if !slices.Contains(caps.CipherSuites, own) {
		caps.CipherSuites = append(caps.CipherSuites, own)
	}
	if c.grease {
		var b [4]byte
		if readRandom(c.rand, b[:]) == nil {
			caps.CipherSuites = append(caps.CipherSuites, CipherSuite(greaseValue(b[0])))
			caps.Extensions = append(caps.Extensions, ExtensionType(greaseValue(b[1])))
			caps.Proposals = append(caps.Proposals, ProposalType(greaseValue(b[2])))
			caps.Credentials = append(caps.Credentials, CredentialType(greaseValue(b[3])))
		}
	}
	return caps
}

// greaseValue maps a random octet to one of the fifteen GREASE values
// (RFC 9420 §13.5).
func greaseValue(b byte) uint16 {
	v := uint16(b%15)<<4 | 0xa
	return v<<8 | v
}

// withGREASE adds an extension with a GREASE type to a list in which receivers
// ignore what they do not know (RFC 9420 §13.5).
func (c *config) withGREASE(x Extensions) Extensions {
	var b [5]byte
	if !c.grease || readRandom(c.rand, b[:]) != nil {
		return x
	}
	t := ExtensionType(greaseValue(b[0]))
	if _, ok := x.Find(t); ok {
		return x
	}
	return append(slices.Clip(x), Extension{t, bytes.Clone(b[1:])})
}
