// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/xmlpull"
)

// This file opens live sessions with delivery services and keeps them open:
// announce, read the group index, catch up, and again when the service says so
// or goes silent. See xep/mls-delivery.xml#session and #resume.

const (
	// servicePing is how often a quiet session is checked (XEP-0410 in spirit).
	servicePing = 5 * time.Minute
	// parallelSync is how many groups catch up at once.
	parallelSync = 8
)

// service is one delivery service while there is a link.
type service struct {
	c    *Client
	jid  string
	link link
	kick chan struct{} // asks for a new announcement

	mu     sync.Mutex
	answer chan announced // the answer to an announcement; nil when none is awaited
	live   bool           // announced, and not told otherwise
	tried  bool           // the first synchronisation has ended, well or not
	synced bool           // a synchronisation has ended well
}

// announced is the answer to an announcement.
type announced struct {
	ready stanza.Ready
	err   error
}

// linkUp makes l the client's link, and starts what lives on it.
func (c *Client) linkUp(ctx context.Context, l link, dialled bool) {
	linkCtx, cancel := context.WithCancel(c.life)
	go func() {
		select {
		case <-l.done():
		case <-ctx.Done():
		case <-c.life.Done():
		}
		cancel()
	}()
	c.mu.Lock()
	c.link, c.linkCtx = l, linkCtx
	c.services = make(map[string]*service)
	c.mu.Unlock()
	if dialled {
		if err := l.send([]byte("<presence xmlns='jabber:client'/>")); err != nil {
			return
		}
	}
	c.log.Info("connected", "jid", l.local().String())
	c.spawn(func() { c.startServices(linkCtx) })
}

func (c *Client) online(ctx context.Context, l *dialledLink) { c.linkUp(ctx, l, true) }

// linkDown forgets l.
func (c *Client) linkDown(l link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link != l {
		return
	}
	c.link = nil
	c.services = make(map[string]*service)
	if c.isReady {
		c.isReady = false
		c.ready = make(chan struct{})
	}
}

// offline tells the application.
func (c *Client) offline(err error, retry time.Duration) {
	c.mu.Lock()
	c.lastErr = err
	c.mu.Unlock()
	c.emit(&Offline{Err: err, Retry: retry})
}

// startServices finds the home service and opens a session with it and with
// the service of every group.
func (c *Client) startServices(ctx context.Context) {
	for _, host := range c.groupHosts() {
		c.ensureService(host)
	}
	unreached := 0
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		home, err := c.homeService(ctx)
		if err == nil {
			c.ensureService(home)
			return
		}
		c.noteError(err)
		if errors.Is(err, errUnreached) {
			unreached++
		}
		// Nobody is kept waiting by a service that is away and may never have been
		// the one; it is looked for further.
		if errors.Is(err, ErrNoService) || unreached >= 2 {
			c.withoutHome(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait/2 + rand.N(wait)):
		}
	}
}

func (c *Client) groupHosts() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var hosts []string
	for _, g := range c.groups {
		if g.listed() && !slices.Contains(hosts, g.host) {
			hosts = append(hosts, g.host)
		}
	}
	return hosts
}

func (c *Client) noteError(err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	c.mu.Lock()
	c.lastErr = err
	c.mu.Unlock()
	c.log.Warn("not synchronised", "error", err)
}

// ensureService opens a session with a service on the current link, if there
// is none yet.
func (c *Client) ensureService(host string) *service {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link == nil || c.closed {
		return nil
	}
	if s := c.services[host]; s != nil {
		return s
	}
	s := &service{c: c, jid: host, link: c.link, kick: make(chan struct{}, 1)}
	c.services[host] = s
	ctx := c.linkCtx
	c.spawn(func() { s.run(ctx) })
	return s
}

// service finds the session with a service.
func (c *Client) service(host string) *service {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.services[host]
}

// again asks for a new announcement and synchronisation.
func (s *service) again() {
	s.mu.Lock()
	s.live = false
	s.mu.Unlock()
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

func (s *service) run(ctx context.Context) {
	wait := time.Second
	for ctx.Err() == nil {
		err := s.announce(ctx)
		settled := false
		if err == nil {
			settled, err = s.c.syncService(ctx, s)
		}
		s.mu.Lock()
		s.tried = true
		s.synced = s.synced || settled
		s.mu.Unlock()
		s.c.checkReady()
		timer := time.NewTimer(s.c.pingWait())
		if err != nil {
			s.c.noteError(fmt.Errorf("client: synchronising with %s: %w", s.jid, err))
			timer.Reset(wait/2 + rand.N(wait))
			wait = min(2*wait, time.Minute)
		} else {
			wait = time.Second
		}
	quiet:
		for {
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-s.kick:
				// Many reasons may come at once.
				s.c.sleep(ctx, rand.N(spread))
				break quiet
			case <-timer.C:
				if err != nil || !s.alive(ctx) {
					break quiet
				}
				timer.Reset(s.c.pingWait())
			}
		}
		timer.Stop()
	}
}

// pingWait is how long a quiet session is left alone.
func (c *Client) pingWait() time.Duration {
	every := servicePing
	if c.cfg.pingEvery > 0 {
		every = c.cfg.pingEvery
	}
	return every/2 + rand.N(every/2)
}

// alive asks the service whether it still knows the session: it answers a ping
// of somebody without one with not-acceptable.
func (s *service) alive(ctx context.Context) bool {
	err := s.c.iq(ctx, "get", s.jid, []byte("<ping xmlns='"+stanza.NSPing+"'/>"), nil)
	return err == nil && !s.missed(ctx)
}

// missed reports whether the service has entries that this client has not heard
// of: nothing else tells of the last event of a quiet group, if it was lost.
func (s *service) missed(ctx context.Context) bool {
	items, err := s.c.groupIndex(ctx, s.jid)
	if err != nil {
		return true
	}
	for _, it := range items {
		if g, ok := s.c.Group(it.JID); ok && g.Joined() && it.Head > g.Seq() {
			return true
		}
	}
	return false
}

// announce opens the session (xep/mls-delivery.xml#session).
func (s *service) announce(ctx context.Context) error {
	s.mu.Lock()
	if s.live {
		s.mu.Unlock()
		return nil
	}
	answer := make(chan announced, 1)
	s.answer = answer
	s.mu.Unlock()
	patience := s.c.iqs.timeout(0)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	var again <-chan time.Time
	for {
		if again == nil {
			if err := s.sendAnnouncement(); err != nil {
				return err
			}
		}
		select {
		case a := <-answer:
			if a.err != nil {
				return a.err
			}
			s.mu.Lock()
			s.live = true
			s.mu.Unlock()
			s.c.returns.tell(s.jid)
			if a.ready.Stock != nil {
				s.c.stock.told(a.ready.Stock)
			}
			return nil
		case <-s.kick:
			// The service has come back, perhaps without what was sent to it; or this
			// is a notice from before, and its answer is under way.
			if again == nil {
				again = time.After(rand.N(spread))
			}
		case <-again:
			again = nil
		case <-timer.C:
			return fmt.Errorf("the delivery service does not answer in %v", patience)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *service) sendAnnouncement() error {
	b := []byte("<presence xmlns='jabber:client'")
	b = xmlpull.AppendAttr(b, "to", s.jid)
	b = xmlpull.AppendAttr(b, "id", randomID())
	b = append(b, '>')
	b = (&stanza.Session{Device: s.c.device}).Append(b)
	b = append(b, "</presence>"...)
	return s.link.send(b)
}

// answered hands the answer to who waits for it. An error that nobody waits
// for is the end of the session.
func (s *service) answered(r stanza.Ready, err error) {
	s.mu.Lock()
	waiting, live := s.answer, s.live
	s.answer = nil
	s.mu.Unlock()
	switch {
	case waiting != nil:
		waiting <- announced{r, err}
	case err != nil && live:
		s.again()
	}
}

// checkReady tells the application when everything has been caught up.
func (c *Client) checkReady() {
	c.mu.Lock()
	if c.isReady || c.link == nil || c.home == "" && !c.noHome {
		c.mu.Unlock()
		return
	}
	home := c.services[c.home]
	if home == nil && !c.noHome {
		c.mu.Unlock()
		return
	}
	for _, s := range c.services {
		s.mu.Lock()
		ok := s.tried && (s != home || s.synced)
		s.mu.Unlock()
		if !ok {
			c.mu.Unlock()
			return
		}
	}
	c.isReady = true
	c.lastErr = nil
	close(c.ready)
	local, service := c.link.local().String(), c.home
	c.mu.Unlock()
	c.log.Info("online", "jid", local, "service", service)
	c.emit(&Online{JID: local, Service: service})
}

// groupIndex reads a service's index of the account's groups.
func (c *Client) groupIndex(ctx context.Context, host string) ([]stanza.GroupItem, error) {
	var items []stanza.GroupItem
	after := ""
	for {
		var reply stanza.Groups
		q := &stanza.GroupsQuery{Device: c.device, Page: &stanza.PageQuery{Max: stanza.Uint32(200), After: after}}
		if err := c.ask(ctx, "get", host, q, &reply); err != nil {
			return nil, fmt.Errorf("asking for the groups: %w", err)
		}
		items = append(items, reply.Items...)
		if len(reply.Items) == 0 || reply.Page == nil || reply.Page.Last == "" || reply.Page.Last == after ||
			reply.Page.Count != nil && len(items) >= int(*reply.Page.Count) || len(items) > 100_000 {
			return items, nil
		}
		after = reply.Page.Last
	}
}

// syncService reads the service's index of the account's groups and brings
// each of them up to date. It has settled what can be settled when what fails
// would fail again: one broken group must not keep the client from being ready.
func (c *Client) syncService(ctx context.Context, s *service) (settled bool, err error) {
	items, err := c.groupIndex(ctx, s.jid)
	if err != nil {
		return false, err
	}
	var away atomic.Bool
	reconcile := func(it stanza.GroupItem) func() error {
		return func() error {
			err := c.reconcile(ctx, it)
			if passing(err) {
				away.Store(true)
			}
			return err
		}
	}
	welcome := false
	listed := make(map[string]bool)
	var jobs []func() error
	for _, it := range items {
		jid, err := bareJID(it.JID)
		if err != nil {
			continue
		}
		it.JID = jid
		listed[jid] = true
		welcome = welcome || it.Welcome
		if !it.Welcome {
			jobs = append(jobs, reconcile(it))
		}
	}
	c.mu.Lock()
	for jid, g := range c.groups {
		if g.host == s.jid && g.listed() && !listed[jid] {
			// Not in the index: removed or destroyed. The log knows.
			jobs = append(jobs, reconcile(stanza.GroupItem{JID: jid}))
		}
	}
	c.mu.Unlock()
	var missed error
	if welcome {
		if err := c.fetchWelcomes(ctx, s.jid); errors.Is(err, errUnknownOutcome) {
			// Asked for again soon. An error would be the same again, and must
			// not keep the client from being ready.
			missed = fmt.Errorf("fetching invitations: %w", err)
		} else if err != nil {
			c.noteError(fmt.Errorf("client: fetching invitations from %s: %w", s.jid, err))
		}
		for _, it := range items {
			if it.Welcome && !it.Remote {
				jobs = append(jobs, reconcile(it))
			}
		}
	}
	err = errors.Join(parallel(parallelSync, jobs), missed)
	settled = !away.Load() && missed == nil
	if c.isHome(s.jid) {
		if e := c.stock.replenish(ctx, c); e != nil {
			e = fmt.Errorf("client: publishing key packages: %w", e)
			c.noteError(e)
			settled = settled && !passing(e)
			if err == nil {
				err = e
			}
		}
	}
	return settled, err
}

// passing reports whether what failed may go well the next time by itself.
func passing(err error) bool {
	return err != nil && (unknownOutcome(err) || retryAfter(err) > 0 || errors.Is(err, ErrOffline) || errors.Is(err, ErrClosed) ||
		errors.Is(err, errThrownAway) || errors.Is(err, errStoreFailed) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded))
}

func (c *Client) isHome(host string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return host == c.home
}

// parallel runs jobs, at most n at once, and joins their errors.
func parallel(n int, jobs []func() error) error {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
	)
	slots := make(chan struct{}, n)
	for _, job := range jobs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := job(); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
