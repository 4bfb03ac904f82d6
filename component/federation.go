// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/stanza"
)

// This file speaks with other services (xep/mls-delivery.xml#impl-federation): it finds the home
// service of a joiner, tells it of a Welcome, and takes such news for our own
// users. Each domain has its own queue, so that a slow one holds up nobody else.

// homeCache remembers which service serves an account.
type homeCache struct {
	mu sync.Mutex
	m  map[string]homeEntry // by bare JID, or by domain
}

type homeEntry struct {
	service string // "" if there is none
	until   time.Time
}

// Times of the cache, as xep/mls-delivery.xml#home has them.
const (
	homeKnown   = 24 * time.Hour
	homeUnknown = time.Hour
	homeTimeout = 10 * time.Second
	homeItems   = 20
	homeEntries = 50_000
)

func (c *homeCache) get(key string, now time.Time) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.m[key]
	if !ok || now.After(e.until) {
		return "", false
	}
	return e.service, true
}

func (c *homeCache) put(key, service string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m) >= homeEntries {
		c.m = make(map[string]homeEntry)
	}
	life := homeKnown
	if service == "" {
		life = homeUnknown
	}
	c.m[key] = homeEntry{service, now.Add(life)}
}

// homeOf finds the service of an account: what the account says itself, what its
// server answers for it (XEP-0355), then what its domain offers. "" means that
// there is none.
func (s *Service) homeOf(ctx context.Context, user addr) (string, error) {
	if svc, ok := s.homes.get(user.bare, s.now()); ok {
		return svc, nil
	}
	ctx, cancel := context.WithTimeout(ctx, homeTimeout)
	defer cancel()
	account := addr{full: user.bare, bare: user.bare, local: user.local, domain: user.domain}
	items := &stanza.PubSubItems{Node: stanza.NSDelivery}
	err := s.iq.do(ctx, s.domain.bare, account, stanza.TypeGet, items, items)
	if err == nil {
		for _, it := range items.Items {
			var p stanza.DSPointer
			if parseRaw(it.Payload, &p) != nil {
				continue
			}
			if a, err := parseAddr(p.JID); err == nil && a.local == "" && a.resource == "" {
				s.homes.put(user.bare, a.bare, s.now())
				return a.bare, nil
			}
		}
	} else if errors.Is(err, errLinkDown) || errors.Is(err, errIQTooMany) {
		return "", err
	}
	if info := (&stanza.DiscoInfo{}); s.iq.do(ctx, s.domain.bare, account, stanza.TypeGet, &stanza.DiscoInfoQuery{}, info) == nil && info.Has(stanza.NSKeyPackages) {
		s.homes.put(user.bare, user.bare, s.now())
		return user.bare, nil
	}
	svc, err := s.homeOfDomain(ctx, user.domain)
	if err != nil {
		return "", err
	}
	s.homes.put(user.bare, svc, s.now())
	return svc, nil
}

// homeOfDomain looks for a service among the items of a domain.
func (s *Service) homeOfDomain(ctx context.Context, domain string) (string, error) {
	if svc, ok := s.homes.get(domain, s.now()); ok {
		return svc, nil
	}
	list := &stanza.DiscoItems{}
	err := s.iq.do(ctx, s.domain.bare, addr{full: domain, bare: domain, domain: domain}, stanza.TypeGet, &stanza.DiscoItemsQuery{}, list)
	var refused *stanza.Error
	if err != nil && !errors.As(err, &refused) {
		return "", err
	}
	list.Items = append([]stanza.DiscoItem{{JID: domain}}, list.Items...) // it may be one itself
	for i, it := range list.Items {
		if i > homeItems {
			break
		}
		a, err := parseAddr(it.JID)
		if err != nil || a.local != "" || a.resource != "" || it.Node != "" {
			continue
		}
		if a.bare == s.domain.bare {
			s.homes.put(domain, a.bare, s.now())
			return a.bare, nil
		}
		info := &stanza.DiscoInfo{}
		if err := s.iq.do(ctx, s.domain.bare, a, stanza.TypeGet, &stanza.DiscoInfoQuery{}, info); err != nil {
			continue
		}
		if info.Has(stanza.NSKeyPackages) {
			s.homes.put(domain, a.bare, s.now())
			return a.bare, nil
		}
	}
	s.homes.put(domain, "", s.now())
	return "", nil
}

// deliverDueWelcomes tells home services of the Welcomes that wait for their
// users, again and again until they have taken them.
func (s *Service) deliverDueWelcomes(ctx context.Context) {
	tick := time.NewTicker(duePoll)
	defer tick.Stop()
	busy := newDomainQueues()
	for {
		select {
		case <-ctx.Done():
			busy.wait()
			return
		case <-tick.C:
		case <-s.due:
		}
		if !s.link.connected.Load() {
			continue
		}
		s.guard("welcomes", func() { s.dueWelcomes(ctx, busy) })
	}
}

// wakeDue looks for due welcomes now.
func (s *Service) wakeDue() {
	select {
	case s.due <- struct{}{}:
	default:
	}
}

// domainQueues bounds what is under way per domain.
type domainQueues struct {
	mu sync.Mutex
	n  map[string]int
	wg sync.WaitGroup
}

// perDomain is how many welcomes for one domain are under way at once.
const perDomain = 8

func newDomainQueues() *domainQueues { return &domainQueues{n: make(map[string]int)} }

// free says how much more may be under way for a domain.
func (q *domainQueues) free(domain string) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return perDomain - q.n[domain]
}

func (q *domainQueues) start(domain string, f func()) {
	q.mu.Lock()
	q.n[domain]++
	q.mu.Unlock()
	q.wg.Go(func() {
		f()
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.n[domain]--; q.n[domain] == 0 {
			delete(q.n, domain)
		}
	})
}

func (q *domainQueues) wait() { q.wg.Wait() }

// dueWelcomes starts what is due. A domain that has its share already waits a
// little and stands behind the others then: however many welcomes a slow domain
// has, those of others come past it.
func (s *Service) dueWelcomes(ctx context.Context, busy *domainQueues) {
	for {
		now := s.now()
		var list []store.Welcome
		started := make(map[string]int) // key: the welcome's
		err := s.store.Update(ctx, func(tx store.Tx) (err error) {
			clear(started)
			share := make(map[string]int)
			list, err = tx.TakeWelcomes(now, dueBatch, func(w *store.Welcome) time.Time {
				domain := domainOf(w.User)
				if _, ok := share[domain]; !ok {
					share[domain] = busy.free(domain)
				}
				if share[domain] <= 0 {
					return now.Add(domainPause + rand.N(domainPause))
				}
				share[domain]--
				started[string(w.KPRef)+w.Group]++
				// Due again while it is under way, should this process die. The
				// wait doubles with the welcome's age.
				age := now.Sub(w.Expires.Add(-s.limits.WelcomeAge))
				return now.Add(min(max(age, welcomeRetryMin), welcomeRetryMax))
			})
			return err
		})
		if err != nil {
			if ctx.Err() == nil {
				s.log.Warn("cannot read due welcomes", "error", err)
			}
			return
		}
		for i := range list {
			w := &list[i]
			if started[string(w.KPRef)+w.Group] == 0 {
				continue
			}
			user, err := parseAddr(w.User)
			if err != nil {
				s.setNotify(ctx, w, time.Time{})
				continue
			}
			busy.start(user.domain, func() { s.guard("welcome", func() { s.notifyHome(ctx, w, user) }) })
		}
		if len(list) < dueBatch {
			return
		}
	}
}

func (s *Service) setNotify(ctx context.Context, w *store.Welcome, at time.Time) {
	err := s.store.Update(ctx, func(tx store.Tx) error { return tx.NotifyWelcome(w.KPRef, w.Group, at) })
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		s.log.Warn("cannot note that a welcome was announced", "error", err)
	}
}

// notifyHome hands a Welcome to the home service of its user.
func (s *Service) notifyHome(ctx context.Context, w *store.Welcome, user addr) {
	home, err := s.homeOf(ctx, user)
	if err != nil {
		s.metrics.welcomes.WithLabelValues("failed").Inc()
		return // due again later
	}
	if home == "" || home == s.domain.bare {
		if s.invite(w, user) {
			s.setNotify(ctx, w, time.Time{})
		}
		return
	}
	var whole *store.Welcome
	err = s.store.View(ctx, func(rd store.Reader) (err error) {
		whole, err = rd.Welcome(w.KPRef, w.Group)
		return err
	})
	if err != nil {
		return // acknowledged in the meantime
	}
	p := pointer(whole)
	p.User = user.bare
	if b, err := welcomeMessage(whole); err == nil && len(b) <= s.limits.MaxPage {
		p.Bytes = b // a larger one waits here, and the pointer says so
	}
	to, err := parseAddr(home)
	if err != nil {
		return
	}
	err = s.iq.do(ctx, s.domain.bare, to, stanza.TypeSet, p, nil)
	var refused *stanza.Error
	switch {
	case err == nil:
		s.metrics.welcomes.WithLabelValues("notified").Inc()
		s.setNotify(ctx, w, time.Time{})
	case errors.As(err, &refused) && refused.Type != stanza.ErrorWait:
		s.metrics.welcomes.WithLabelValues("refused").Inc()
		s.log.Info("a home service refuses a welcome", "service", home, "condition", refused.Condition)
		s.setNotify(ctx, w, time.Time{})
	default:
		s.metrics.welcomes.WithLabelValues("failed").Inc()
	}
}

// invite tells an account without a home service, in a message that its server
// keeps and any client can show.
func (s *Service) invite(w *store.Welcome, user addr) bool {
	h := stanza.Header{Kind: stanza.Message, Type: stanza.TypeNormal, ID: s.entryID(), From: w.Group, To: user.bare}
	who := w.Inviter
	if who == "" {
		who = "Somebody"
	}
	body := stanza.Body{Text: who + " added you to an end-to-end encrypted group. This device cannot open it.", Inherit: true}
	if !s.link.send(prioEvent, h.Append(nil, pointer(w), &body, nudgeFallback, &hintStore)) {
		return false
	}
	s.metrics.welcomes.WithLabelValues("notified").Inc()
	return true
}

// takeWelcome is the other side: a hosting service tells us of a Welcome for one
// of our users. It is kept only if somebody claimed that key package for that
// group; so nobody fills inboxes, or presses users into groups, uninvited.
func takeWelcome(s *Service, r *request) (stanza.Payload, error) {
	in, err := stanza.Parse[stanza.Welcome](r.payload)
	if err != nil {
		return nil, err
	}
	group, err := parseAddr(in.Group)
	if err != nil || group.local == "" {
		return nil, stanza.NewError(stanza.BadRequest, "A welcome names its group.")
	}
	if r.from.local != "" || r.from.resource != "" || r.from.bare != group.domain {
		return nil, stanza.NewError(stanza.NotAuthorized, "Only the service that hosts a group announces its welcomes.")
	}
	user, err := parseAddr(in.User)
	if err != nil || user.local == "" || user.resource != "" {
		return nil, stanza.NewError(stanza.BadRequest, "A welcome names its user.")
	}
	if len(in.Bytes) > s.limits.MaxPage {
		return nil, &stanza.TooLarge{MaxBytes: uint64(s.limits.MaxPage)}
	}
	w := &store.Welcome{
		KPRef: in.KeyPackageRef, Group: group.bare, User: user.bare, Epoch: in.Epoch, Seq: in.Seq, Inviter: bound(in.Inviter, maxAddr),
		Remote: true, Expires: s.now().Add(s.limits.WelcomeAge), Secrets: in.Bytes,
	}
	err = s.store.Update(r.ctx, func(tx store.Tx) error {
		c, err := tx.Claimed(in.KeyPackageRef, group.bare)
		if errors.Is(err, store.ErrNotFound) || err == nil && c.User != user.bare {
			return stanza.NewError(stanza.NotAllowed, "That key package was not claimed for this group.")
		}
		if err != nil {
			return err
		}
		if blocked, err := isBlocked(tx, user.bare, r.from, group.bare); err != nil {
			return err
		} else if blocked {
			return stanza.NewError(stanza.NotAllowed, "That key package was not claimed for this group.")
		}
		w.Device = c.Device
		waiting, err := tx.Welcomes(user.bare, w.Device, s.limits.MaxWelcomes+1)
		if err != nil {
			return err
		}
		if len(waiting) > s.limits.MaxWelcomes {
			return stanza.NewError(stanza.ResourceConstraint, "The inbox of the device is full.")
		}
		return tx.PutWelcome(w)
	})
	if err != nil {
		if e, ok := stanza.AsError(err); ok && e.Condition == stanza.NotAllowed {
			s.metrics.welcomes.WithLabelValues("refused").Inc()
		}
		return nil, err
	}
	s.metrics.welcomes.WithLabelValues("stored").Inc()
	if !s.pointWelcome(r.ctx, w) {
		s.nudger.schedule(user.bare, group.bare)
	}
	return nil, nil
}
