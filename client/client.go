// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
)

// Client is one device of one account in end-to-end encrypted groups. Make it
// with [New], set handlers, and call [Client.Run]. All methods may be called
// from any goroutine, and from handlers.
type Client struct {
	cfg            Config
	log            *slog.Logger
	account        string // bare JID, normalised
	domain         string
	jid            jid.JID // bare
	resource       string
	store          *gate
	ownStore       bool
	device         DeviceID
	suite          mls.CipherSuite
	own            ownKeys
	mls            *mls.Config
	trust          *trustBook
	iqs            *tracker
	returns        returns
	events         *dispatcher
	keepaliveEvery time.Duration
	retryNow       chan struct{}

	// life ends with Close.
	life   context.Context
	end    context.CancelFunc
	ending sync.Mutex // between end and what joins wg
	wg     sync.WaitGroup

	mu        sync.Mutex
	link      link
	linkCtx   context.Context // ends with the link
	ready     chan struct{}   // closed while online and caught up
	isReady   bool
	running   bool
	closed    bool
	groups    map[string]*Group
	services  map[string]*service
	home      string
	noHome    bool // there is none to be found
	inPEP     bool // key packages are there
	invites   map[string]*invitation
	onMessage func(ctx context.Context, m *Message)
	onEvent   func(ctx context.Context, e Event)
	lastErr   error // of the connection
	syncAgain chan struct{}
	plusOK    bool
	scramOK   bool

	oldInfoTold map[string]uint64 // group -> epoch for which an old GroupInfo has been told

	disco discoCache
	stock stockKeeper

	flusher flusher
}

// New opens the store, makes the device's keys if it is new, and loads the
// groups. It does not connect: see [Client.Run] and [Client.RunSession].
func New(cfg Config) (*Client, error) {
	j, err := jid.Parse(cfg.JID)
	if err != nil {
		return nil, fmt.Errorf("client: the account %q is not a JID: %w", cfg.JID, err)
	}
	if j.Localpart() == "" {
		return nil, fmt.Errorf("client: the account %q has no name before a @", cfg.JID)
	}
	c := &Client{
		cfg: cfg, log: cfg.Log, jid: j.Bare(), account: j.Bare().String(), domain: j.Domainpart(), resource: j.Resourcepart(),
		groups: make(map[string]*Group), services: make(map[string]*service), invites: make(map[string]*invitation),
		ready: make(chan struct{}), retryNow: make(chan struct{}, 1), syncAgain: make(chan struct{}, 1),
		suite: cfg.CipherSuite, keepaliveEvery: cfg.Keepalive,
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.log = c.log.With("account", c.account)
	if c.suite == 0 {
		c.suite = mls.MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519
	}
	patience := answerTimeout
	if cfg.answerTimeout > 0 {
		patience = cfg.answerTimeout
	}
	c.iqs = newTracker(patience)
	if c.keepaliveEvery == 0 {
		c.keepaliveEvery = silence
	}
	c.life, c.end = context.WithCancel(context.Background())
	c.linkCtx = c.life
	c.events = newDispatcher(c, nil)
	c.disco.init()
	c.flusher.c = c
	if err := c.openStore(); err != nil {
		return nil, err
	}
	if err := c.load(); err != nil {
		if c.ownStore {
			c.store.Close()
		}
		return nil, err
	}
	return c, nil
}

func (c *Client) openStore() error {
	if c.cfg.Store != nil {
		c.store = &gate{Store: c.cfg.Store}
		if c.store.Account() != c.account {
			return fmt.Errorf("client: the store belongs to %q, not to %q", c.store.Account(), c.account)
		}
		return nil
	}
	path, err := c.cfg.DefaultStorePath()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("client: making a place for the store: %w", err)
	}
	s, err := store.Open(path, c.account)
	if err != nil {
		return err
	}
	c.ownStore = true
	c.store = &gate{Store: s}
	if c.cfg.StoreKey != nil {
		enc, err := store.Encrypt(s, c.cfg.StoreKey)
		if err != nil {
			s.Close()
			return err
		}
		c.store = &gate{Store: enc}
	}
	return nil
}

// Rows of the store that belong to no group.
const (
	rowDevice = "d/id"
	rowState  = "d/state"
)

// savedState is what the client remembers besides keys and groups.
type savedState struct {
	Home    string            `json:"home,omitempty"`     // home delivery service, as discovered
	PLUS    bool              `json:"plus,omitempty"`     // channel binding has worked
	PEP     bool              `json:"pep,omitempty"`      // key packages are in PEP
	SCRAM   bool              `json:"scram,omitempty"`    // SCRAM has worked
	Service map[string]string `json:"services,omitempty"` // account or domain -> its DS
}

func (c *Client) load() error {
	dev, ok, err := c.store.Get(rowDevice)
	if err != nil {
		return err
	}
	var ops []store.Op
	if !ok || len(dev) != len(c.device) {
		rand.Read(c.device[:])
		ops = append(ops, store.Put(rowDevice, c.device[:]))
	} else {
		copy(c.device[:], dev)
	}
	if len(ops) > 0 {
		if err := c.store.Apply(context.Background(), ops); err != nil {
			return err
		}
	}
	if err := c.own.load(c); err != nil {
		return err
	}
	if b, ok, err := c.store.Get(rowState); err != nil {
		return err
	} else if ok {
		var s savedState
		if err := json.Unmarshal(b, &s); err != nil {
			return fmt.Errorf("client: reading the saved state: %w", err)
		}
		c.home, c.inPEP, c.plusOK, c.scramOK = s.Home, s.PEP, s.PLUS, s.SCRAM
	}
	if c.cfg.Service != "" {
		if c.home, err = bareJID(c.cfg.Service); err != nil {
			return err
		}
	}
	policy := c.cfg.Trust
	if policy == nil {
		policy = BlindTrust()
	}
	if c.trust, err = loadTrust(c.store, policy, c.isOwn, c.cfg.clock); err != nil {
		return err
	}
	c.mls = c.mlsConfig()
	if err := c.stock.load(c); err != nil {
		return err
	}
	return c.loadGroups()
}

func (c *Client) saveState() {
	c.mu.Lock()
	b, err := json.Marshal(savedState{Home: c.home, PEP: c.inPEP, PLUS: c.plusOK, SCRAM: c.scramOK})
	c.mu.Unlock()
	if err == nil {
		err = c.store.Apply(context.Background(), []store.Op{store.Put(rowState, b)})
	}
	if err != nil {
		c.log.Warn("saving state", "error", err)
	}
}

// Account is the bare JID.
func (c *Client) Account() string { return c.account }

// Device is the id of this device.
func (c *Client) Device() DeviceID { return c.device }

// OnMessage sets the handler of messages. For each group it is called for one
// message after another, in the order of the log; different groups do not wait
// for each other. It may call any method. A message counts as delivered when it
// returns: if the process dies or the client is closed before that, the message
// comes again, with the same ID. The context ends with Close.
func (c *Client) OnMessage(fn func(ctx context.Context, m *Message)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onMessage = fn
}

// OnEvent sets the handler of events, which is called as that of OnMessage.
func (c *Client) OnEvent(fn func(ctx context.Context, e Event)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onEvent = fn
}

// Run connects and serves until ctx ends, and reconnects for ever. It returns
// early only when the server refuses the very first login, with an
// [*AuthError], or after Close. Handlers must be set before.
func (c *Client) Run(ctx context.Context) error {
	if err := c.begin(); err != nil {
		return err
	}
	defer c.finish()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(c.life, cancel)
	defer stop()
	err := c.runStreams(ctx)
	if c.life.Err() != nil {
		return ErrClosed
	}
	return err
}

func (c *Client) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	if c.running {
		return errors.New("client: already running")
	}
	c.running = true
	for _, g := range c.groups {
		g.out.resume()
	}
	c.spawn(func() { c.maintain(c.life) })
	return nil
}

func (c *Client) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running = false
}

// Close ends the client: Run returns, what waits to be written is written, and
// running handlers get some seconds to return. Calls under way fail.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	l := c.link
	groups := slices.Collect(maps.Values(c.groups))
	c.mu.Unlock()
	c.stopSpawning()
	if l != nil {
		l.drop(ErrClosed)
	}
	c.wg.Wait()
	for _, g := range groups {
		g.out.wait(2 * time.Second)
	}
	var errs []error
	for _, g := range groups {
		errs = append(errs, g.close())
	}
	c.store.shut()
	if c.ownStore {
		errs = append(errs, c.store.Close())
	}
	return errors.Join(errs...)
}

func (c *Client) handlersStopped() bool { return c.life.Err() != nil }

// handlerContext is what handlers get: it ends with Close, not with Run, so
// that a handler can still send when the connection changes.
func (c *Client) handlerContext() context.Context { return c.life }

// fail is where tests kill the process.
func (c *Client) fail(point string) {
	if c.cfg.fail != nil {
		c.cfg.fail(point)
	}
}

// dialOptions is how the next stream is opened.
func (c *Client) dialOptions() *dialOptions {
	c.mu.Lock()
	defer c.mu.Unlock()
	timeout := openTimeout
	if c.cfg.dialTimeout > 0 {
		timeout = c.cfg.dialTimeout
	}
	return &dialOptions{
		jid: c.jid, resource: c.resource, password: c.cfg.Password, addr: c.cfg.Server, directTLS: c.cfg.DirectTLS,
		plaintext: c.cfg.AllowPlaintext, tls: c.cfg.TLS, timeout: timeout, dialer: c.cfg.Dial,
		needPLUS: c.plusOK, scramOnly: c.scramOK,
	}
}

// loggedIn remembers the strength of a login, below which no later one may be.
func (c *Client) loggedIn(mech string) {
	c.mu.Lock()
	changed := false
	if isPLUS(mech) && !c.plusOK {
		c.plusOK, changed = true, true
	}
	if strings.HasPrefix(mech, "SCRAM-") && !c.scramOK {
		c.scramOK, changed = true, true
	}
	c.mu.Unlock()
	if changed {
		c.saveState()
	}
}

// Ready returns when the client is online and has caught up, or when ctx ends.
func (c *Client) Ready(ctx context.Context) error {
	for {
		c.mu.Lock()
		ready, closed := c.ready, c.closed
		c.mu.Unlock()
		if closed {
			return ErrClosed
		}
		select {
		case <-ready:
			return nil
		case <-c.life.Done():
			return ErrClosed
		case <-ctx.Done():
			c.mu.Lock()
			err := c.lastErr
			c.mu.Unlock()
			if err != nil {
				return fmt.Errorf("client: not online yet: %w (last: %w)", ctx.Err(), err)
			}
			return fmt.Errorf("client: not online yet: %w", ctx.Err())
		}
	}
}

// currentLink gives the link and a context that ends with it.
func (c *Client) currentLink() (link, context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.link, c.linkCtx
}

// iq sends a request and hands the payload of the result to fn, which may be
// nil. An error answer comes back as *stanza.Error.
func (c *Client) iq(ctx context.Context, typ, to string, payload []byte, fn func(el stanza.Element) error) error {
	return c.startIQ(ctx, typ, to, payload)(fn)
}

// startIQ sends a request, and returns how to wait for the answer.
func (c *Client) startIQ(ctx context.Context, typ, to string, payload []byte) (wait func(fn func(el stanza.Element) error) error) {
	l, _ := c.currentLink()
	answer := c.iqs.start(ctx, l, typ, to, payload)
	return func(fn func(el stanza.Element) error) error {
		raw, err := answer()
		if err != nil && c.alive() != nil {
			return fmt.Errorf("%w: %w", ErrClosed, err)
		}
		if typ == "get" && errors.Is(err, errRestarted) {
			// Asking changes nothing, so that it may be done again.
			raw, err = c.iqs.request(ctx, l, typ, to, payload)
		}
		if err != nil {
			return err
		}
		var p stanza.Parser
		s, err := p.Parse(raw)
		if err != nil {
			return fmt.Errorf("client: reading the answer of %q: %w", to, err)
		}
		if e := s.Err(); e != nil {
			return e
		}
		if fn == nil {
			return nil
		}
		el, err := s.Payload()
		if err != nil {
			return fmt.Errorf("client: reading the answer of %q: %w", to, err)
		}
		if err := fn(el); err != nil {
			return fmt.Errorf("client: reading the answer of %q: %w", to, err)
		}
		return nil
	}
}

// ask is iq with payload types. A nil reply takes any result.
func (c *Client) ask(ctx context.Context, typ, to string, req, reply stanza.Payload) error {
	return c.start(ctx, typ, to, req)(reply)
}

// start is ask in two steps: when it returns, the request is on its way, behind
// all that were started before on the same link.
func (c *Client) start(ctx context.Context, typ, to string, req stanza.Payload) (wait func(reply stanza.Payload) error) {
	size := 512
	if m, ok := req.(*stanza.Send); ok { // the frequent one, in one piece of memory
		size += base64.StdEncoding.EncodedLen(len(m.Message.Bytes))
	}
	answer := c.startIQ(ctx, typ, to, req.Append(make([]byte, 0, size)))
	return func(reply stanza.Payload) error {
		if reply == nil {
			return answer(nil)
		}
		return answer(reply.Parse)
	}
}

// unknownOutcome reports whether a request that failed with err may have had
// its effect: there was no answer, or the answer came from a server on the way
// (xep/mls-delivery.xml#unknown).
func unknownOutcome(err error) bool {
	if errors.Is(err, errUnknownOutcome) {
		return true
	}
	var e *stanza.Error
	if errors.As(err, &e) && e.App == nil {
		switch e.Condition {
		case stanza.RemoteServerTimeout, stanza.RemoteServerNotFound, stanza.RecipientUnavailable, stanza.InternalServerError:
			return true
		case stanza.ServiceUnavailable:
			return true // ejabberd's word for a component whose link is down
		}
	}
	return false
}

// Groups lists the groups that this device is in or wants to come back to, by
// JID.
func (c *Client) Groups() []*Group {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*Group
	for _, g := range c.groups {
		if g.listed() {
			out = append(out, g)
		}
	}
	slices.SortFunc(out, func(a, b *Group) int { return strings.Compare(a.jid, b.jid) })
	return out
}

// know takes up a group that this device has come into.
func (c *Client) know(g *Group) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.groups[g.jid] = g
}

// Group finds a group by its JID.
func (c *Client) Group(jid string) (*Group, bool) {
	j := normalOr(jid)
	c.mu.Lock()
	defer c.mu.Unlock()
	g, ok := c.groups[j]
	if !ok || !g.listed() {
		return nil, false
	}
	return g, true
}
