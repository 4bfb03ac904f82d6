// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
)

// Who may do something at the service.
type Audience string

const (
	Nobody     Audience = "nobody"
	LocalUsers Audience = "local-users" // accounts of Config.Serves
	Anyone     Audience = "anyone"
)

// How accounts without a live session learn that something waits for them.
type NudgeMode string

const (
	// NudgeStored stores one message in the account's offline storage, which
	// also wakes a phone through its push service (XEP-0357).
	NudgeStored NudgeMode = "stored"
	// NudgeLive tells only resources that are online; nothing is stored or pushed.
	NudgeLive NudgeMode = "live"
	// NudgeOff is the polling mode: no push service ever learns when somebody
	// spoke (RFC 9750 §8.4.2.1); clients look by themselves.
	NudgeOff NudgeMode = "off"
)

// Config says what a [Service] is. Domain, Store, and one of Address and Dial
// are required; the zero value of every other field is usable.
type Config struct {
	// Domain is the JID of the component, as "mls.capulet.lit".
	Domain string
	// Secret is the secret shared with the server. SecretFunc, if set, is asked
	// for it on every attempt to connect, so that it can be changed.
	Secret     string
	SecretFunc func() (string, error)
	// Address is where the server listens for components: see [Dialer]. TLS is
	// for addresses of the form "tls://". Dial is used in place of both.
	Address string
	TLS     *tls.Config
	Dial    DialFunc

	// Store keeps everything. The service does not close it.
	Store store.Store
	// Logger gets what happens; nil: nothing is logged. No content and no key
	// is ever logged.
	Logger *slog.Logger
	// Time and Rand are the clock and the randomness; nil: the real ones.
	Time func() time.Time
	Rand io.Reader
	// Registry gets the metrics; nil: they are counted and not published.
	Registry prometheus.Registerer
	Limits   Limits

	// Name is shown to people who look at the service. Default "MLS groups".
	Name string
	// Serves are the domains whose accounts are local. Default: the parent
	// domain of Domain.
	Serves []string
	// Admins are the bare JIDs of operators, who may use ad-hoc commands.
	Admins []string
	// Contact holds contact addresses (XEP-0157): keys such as
	// "abuse-addresses", "admin-addresses", values URIs.
	Contact map[string][]string
	// Suites are the cipher suites accepted; nil: all that mls knows.
	Suites []mls.CipherSuite
	// Create says who may create groups. Default LocalUsers.
	Create Audience
	// RandomNames makes the service choose the JIDs of groups.
	RandomNames bool
	// Consent is the policy for claiming the key packages of users who have
	// set none: "anyone" (default), "same-domain", "allowlist".
	Consent string
	// Nudge says how absent accounts are told; default NudgeStored. NudgeDelay is
	// the largest random delay before it, so that the moment says little about
	// who spoke. Default 30 seconds; negative: none.
	Nudge      NudgeMode
	NudgeDelay time.Duration
	// NudgeBody is the text of a stored nudge. Default "New encrypted message".
	NudgeBody string
	// Multicast is the JID of a multicast service (XEP-0033). Empty: the
	// server's is looked for; "none": not used.
	Multicast string
	// KeepSenders stores with each application message who sent it. It is
	// off by default: the log then does not say who spoke, though reports of
	// abuse cannot name the account either.
	KeepSenders bool
	// RequireExternalSender refuses new groups that do not list the service as
	// an external sender, so that bans and stale devices can always be dealt
	// with (RFC 9420 §12.1.8.1).
	RequireExternalSender bool
	// Version is reported to XEP-0092. Default "devel".
	Version string
	// Shutdown is called when an operator asks for a shutdown by an ad-hoc
	// command. It should end the context of Run. nil: the command is refused.
	Shutdown func()
}

// Service is an MLS delivery service.
type Service struct {
	conf     Config
	limits   Limits
	domain   addr
	store    *watchedStore
	log      *slog.Logger
	metrics  *metrics
	now      func() time.Time
	rand     io.Reader
	serves   map[string]bool
	admins   map[string]bool
	suites   map[mls.CipherSuite]bool
	mlsConf  *mls.Config
	link     *link
	iq       *iqTracker
	groups   *groupTable
	sessions *sessionTable
	workers  *workers
	rates    *rates
	keys     *senderKeys
	nudger   *nudger
	missed   missed
	settings *settingsCache
	multi    multicast
	homes    homeCache
	stocks   domainStock
	trees    treeCache
	due      chan struct{} // has room for one: welcomes fell due

	idleAfter store.IdleMember // where the search for idle devices goes on

	started  atomic.Pointer[time.Time] // nil until Run
	inFlight inFlight
	requests atomic.Int64 // under way
	draining atomic.Bool
	troubled atomic.Int64 // Unix nanoseconds when a refusal for the store's trouble was logged last
	untold   atomic.Int64 // of them, since then
	maint    atomic.Int64 // Unix seconds until which an operator asked for quiet; 0: none

	endUp     context.CancelFunc // ends what belongs to one connection; of the link's goroutine
	ready     chan struct{}
	readyOnce sync.Once
	ran       atomic.Bool
	stop      context.CancelFunc
	base      context.Context // ends when the service stops, after draining
	tasks     sync.WaitGroup  // background work that base ends
}

// New checks c and prepares a service. Nothing happens before [Service.Run].
func New(c Config) (*Service, error) {
	if c.Store == nil {
		return nil, errors.New("component: Config.Store is nil: open one with sqlite.Open or postgres.Open")
	}
	domain, err := parseAddr(c.Domain)
	if err != nil {
		return nil, fmt.Errorf("component: Config.Domain: %w", err)
	}
	if domain.local != "" || domain.resource != "" {
		return nil, fmt.Errorf("component: Config.Domain %q is not a domain", c.Domain)
	}
	c.Domain = domain.bare
	if c.Dial == nil {
		if c.Address == "" {
			return nil, errors.New("component: Config.Address is empty: give the server's component port, as \"localhost:5347\"")
		}
		if c.Dial, err = Dialer(c.Address, c.TLS); err != nil {
			return nil, err
		}
	}
	if c.SecretFunc == nil {
		secret := c.Secret
		c.SecretFunc = func() (string, error) { return secret, nil }
	}
	c.Secret = ""
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Time == nil {
		c.Time = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	def(&c.Name, "MLS groups")
	def(&c.Create, LocalUsers)
	def(&c.Consent, consentAnyone)
	def(&c.Nudge, NudgeStored)
	def(&c.NudgeDelay, 30*time.Second)
	def(&c.NudgeBody, "New encrypted message")
	def(&c.Version, "devel")
	if c.Suites == nil {
		c.Suites = mls.AllCipherSuites()
	}
	if c.Serves == nil {
		if _, parent, ok := strings.Cut(c.Domain, "."); ok {
			c.Serves = []string{parent}
		}
	}
	limits := c.Limits.WithDefaults()
	if err := limits.check(); err != nil {
		return nil, err
	}
	if err := checkChoices(&c); err != nil {
		return nil, err
	}
	s := &Service{
		conf: c, limits: limits, domain: domain, log: c.Logger, now: c.Time, rand: c.Rand,
		metrics: newMetrics(c.Registry), serves: make(map[string]bool), admins: make(map[string]bool),
		suites: make(map[mls.CipherSuite]bool), ready: make(chan struct{}), due: make(chan struct{}, 1),
	}
	s.store = &watchedStore{Store: c.Store, log: s.log, metrics: s.metrics, now: s.now}
	for _, d := range c.Serves {
		a, err := parseAddr(d)
		if err != nil || a.local != "" || a.resource != "" {
			return nil, fmt.Errorf("component: Config.Serves: %q is not a domain", d)
		}
		s.serves[a.domain] = true
	}
	for _, j := range c.Admins {
		a, err := parseAddr(j)
		if err != nil {
			return nil, fmt.Errorf("component: Config.Admins: %w", err)
		}
		s.admins[a.bare] = true
	}
	for _, suite := range c.Suites {
		s.suites[suite] = true
	}
	s.mlsConf = &mls.Config{Rand: s.rand, Time: s.now, Suites: c.Suites, Authenticator: accounts{}}
	s.base, s.stop = context.WithCancel(context.Background())
	out := newOutQueue(limits.AnswerQueue, limits.EventQueue)
	s.link = &link{
		domain: domain.bare, secret: c.SecretFunc, dial: c.Dial, limits: &s.limits, log: s.log, metrics: s.metrics,
		out: out, handle: s.receive, oversize: s.receiveOversize, up: s.linkUp, down: s.linkDown,
	}
	s.iq = newIQTracker(s.rand, s.metrics, s.link.send)
	if s.store.Shared() {
		s.iq.again = iqAgain
	}
	s.rates = newRates(&s.limits, s.now)
	s.workers = newWorkers(s)
	s.groups = newGroupTable(s)
	s.sessions = newSessionTable(s)
	s.keys = newSenderKeys(s)
	s.nudger = newNudger(s)
	s.settings = newSettingsCache(s)
	return s, nil
}

func checkChoices(c *Config) error {
	switch c.Create {
	case Nobody, LocalUsers, Anyone:
	default:
		return fmt.Errorf("component: Config.Create is %q: use nobody, local-users or anyone", c.Create)
	}
	switch c.Nudge {
	case NudgeStored, NudgeLive, NudgeOff:
	default:
		return fmt.Errorf("component: Config.Nudge is %q: use stored, live or off", c.Nudge)
	}
	switch c.Consent {
	case consentAnyone, consentSameDomain, consentAllowlist:
	case string(stanza.ConsentRoster):
		return errors.New("component: Config.Consent is roster: a component cannot read rosters unless its server gives it that privilege (XEP-0356), which this service does not ask for: use allowlist, which clients can fill with the contacts")
	default:
		return fmt.Errorf("component: Config.Consent is %q: use anyone, same-domain or allowlist", c.Consent)
	}
	return nil
}

// Run serves until ctx ends, reconnecting for ever. Then it drains: requests
// that arrive are answered "maintenance", those under way are finished, their
// answers written. A service runs once.
func (s *Service) Run(ctx context.Context) error {
	if s.ran.Swap(true) {
		return errors.New("component: Run was called twice")
	}
	defer s.stop()
	now := s.now()
	s.started.Store(&now)
	if err := s.keys.load(ctx); err != nil {
		return fmt.Errorf("component: loading the service's own keys: %w", err)
	}
	if err := s.sessions.load(ctx); err != nil {
		return fmt.Errorf("component: loading sessions: %w", err)
	}
	if err := s.settings.load(ctx); err != nil {
		return fmt.Errorf("component: loading settings: %w", err)
	}
	linkCtx, endLink := context.WithCancel(s.base)
	defer endLink()
	linkDone := make(chan struct{})
	go func() {
		defer close(linkDone)
		s.link.run(linkCtx)
	}()
	s.background(s.store.retry)
	s.background(s.clean)
	s.background(s.nudger.run)
	s.background(s.deliverDueWelcomes)
	s.background(s.groups.evict)
	if s.store.Shared() {
		s.background(s.settings.refresh)
	}

	<-ctx.Done()
	s.log.Info("shutting down")
	s.draining.Store(true)
	s.drain()
	endLink()
	<-linkDone
	s.stop()
	s.iq.abort(errIQShutdown)
	s.workers.close()
	s.groups.close()
	s.tasks.Wait()
	return nil
}

// drainTime bounds how long a shutdown waits for requests under way.
const drainTime = 10 * time.Second

func (s *Service) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for s.requests.Load() > 0 && ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.log.Warn("some requests were not finished in time; their senders resolve the outcome by ref", "requests", s.requests.Load())
		}
	}
	s.link.close(ctx)
}

// background starts a task that ends with the service.
func (s *Service) background(f func(ctx context.Context)) {
	s.tasks.Add(1)
	go func() {
		defer s.tasks.Done()
		f(s.base)
	}()
}

// Ready is closed when the link has come up for the first time.
func (s *Service) Ready() <-chan struct{} { return s.ready }

// linkUp is called each time the link has come up.
func (s *Service) linkUp() {
	s.readyOnce.Do(func() { close(s.ready) })
	var ctx context.Context
	ctx, s.endUp = context.WithCancel(s.base)
	s.background(func(context.Context) { s.guard("resume", func() { s.resumeSessions(ctx) }) })
	s.background(func(context.Context) { s.guard("multicast", func() { s.findMulticast(ctx) }) })
}

func (s *Service) linkDown() {
	s.endUp()
	s.iq.abort(errLinkDown)
}

// Stats is what the service is doing, at one moment.
type Stats struct {
	Domain       string // of the component
	Connected    bool
	LinkError    string // why the link is down, or was the last time
	Started      time.Time
	GroupsLoaded int
	Sessions     int // live sessions known to this process
	Waiting      int // stanzas waiting to be written
	InFlight     int64
	Draining     bool
	Multicast    string // JID of the multicast service in use, "" if none is

	// StoreFailing is since when the store takes no writes, zero while it does,
	// and StoreError why. That the store can be read, they do not say.
	StoreFailing time.Time
	StoreError   string
}

// Stats looks at the service. It may be called at any time.
func (s *Service) Stats() Stats {
	waiting, _ := s.link.out.waiting()
	st := Stats{
		Domain: s.domain.bare, Connected: s.link.connected.Load(), GroupsLoaded: s.groups.loaded(),
		Sessions: s.sessions.count(), Waiting: waiting, InFlight: s.inFlight.bytes(), Draining: s.draining.Load(),
		Multicast: s.multi.get(s.now()),
	}
	var fault error
	if st.StoreFailing, fault = s.store.fault(); fault != nil {
		st.StoreError = fault.Error()
	}
	if at := s.started.Load(); at != nil {
		st.Started = *at
	}
	if err := s.link.err(); err != nil {
		st.LinkError = err.Error()
	}
	return st
}

// local reports whether an account is of a domain that this service serves.
func (s *Service) local(a addr) bool { return s.serves[a.domain] }
