// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/xmlpull"
)

// This file finds services: the delivery service of an account
// (xep/mls-delivery.xml#home) and others by feature.

const (
	discoItemsMax = 20 // items of a domain that are asked
	discoTimeout  = 10 * time.Second
	discoKeep     = 24 * time.Hour
	discoKeepNone = time.Hour
)

// discoCache remembers answers for a day, and their absence for an hour.
type discoCache struct {
	mu   sync.Mutex
	info map[string]cachedInfo
	ds   map[string]cachedService // account or domain+feature -> service
}

type cachedInfo struct {
	info *stanza.DiscoInfo
	at   time.Time
}

type cachedService struct {
	jid string
	at  time.Time
}

func (d *discoCache) init() {
	d.info, d.ds = make(map[string]cachedInfo), make(map[string]cachedService)
}

func (d *discoCache) service(key string) (string, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, ok := d.ds[key]
	keep := discoKeep
	if e.jid == "" {
		keep = discoKeepNone
	}
	if !ok || time.Since(e.at) > keep {
		return "", false
	}
	return e.jid, true
}

func (d *discoCache) setService(key, jid string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.ds) > 10_000 {
		clear(d.ds)
	}
	d.ds[key] = cachedService{jid, time.Now()}
}

func (d *discoCache) forget(key string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.ds, key)
}

// discoInfo asks an entity what it is. Nil without error means that it
// answered with an error; the error of a server that cannot reach it is one.
func (c *Client) discoInfo(ctx context.Context, jid string) (*stanza.DiscoInfo, error) {
	c.disco.mu.Lock()
	e, ok := c.disco.info[jid]
	c.disco.mu.Unlock()
	if ok && time.Since(e.at) < discoKeepNone {
		return e.info, nil
	}
	ctx, cancel := context.WithTimeout(ctx, discoTimeout)
	defer cancel()
	info := new(stanza.DiscoInfo)
	if err := c.ask(ctx, "get", jid, &stanza.DiscoInfoQuery{}, info); err != nil {
		var refused *stanza.Error
		if errors.As(err, &refused) && !outOfReach(refused) {
			return nil, nil
		}
		return nil, err
	}
	c.disco.mu.Lock()
	defer c.disco.mu.Unlock()
	if len(c.disco.info) > 1000 {
		clear(c.disco.info)
	}
	c.disco.info[jid] = cachedInfo{info, time.Now()}
	return info, nil
}

// outOfReach reports whether an error is a server's word for an entity that it
// cannot reach, a component that is not connected for example, and so says
// nothing about it.
func outOfReach(e *stanza.Error) bool {
	return e.Condition == stanza.RemoteServerTimeout || e.Condition == stanza.RemoteServerNotFound
}

// findService looks among the items of a domain for one with a feature. Empty
// without error means that there is none.
func (c *Client) findService(ctx context.Context, domain, feature string) (string, error) {
	key := domain + " " + feature
	if jid, ok := c.disco.service(key); ok {
		return jid, nil
	}
	var items stanza.DiscoItems
	dctx, cancel := context.WithTimeout(ctx, discoTimeout)
	defer cancel()
	if err := c.ask(dctx, "get", domain, &stanza.DiscoItemsQuery{}, &items); err != nil {
		return "", err
	}
	candidates := []string{domain}
	for _, it := range items.Items {
		if it.Node == "" && len(candidates) <= discoItemsMax {
			candidates = append(candidates, it.JID)
		}
	}
	found := make([]bool, len(candidates))
	var jobs []func() error
	for i, jid := range candidates {
		jobs = append(jobs, func() error {
			info, err := c.discoInfo(ctx, jid)
			found[i] = err == nil && info != nil && info.Has(feature)
			if err != nil {
				return fmt.Errorf("client: asking %s what it is: %w", jid, err)
			}
			return nil
		})
	}
	err := parallel(discoItemsMax+1, jobs)
	for i, jid := range candidates {
		if found[i] {
			c.disco.setService(key, jid)
			return jid, nil
		}
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w", errUnreached, err)
	}
	c.disco.setService(key, "")
	return "", nil
}

// errUnreached says that a domain has no delivery service among those of its
// services that answer: one that does not may be it, or may be something else that
// has been broken for long.
var errUnreached = errors.New("client: no delivery service found so far")

// ErrNoService says that an account has no delivery service that could be
// found.
var ErrNoService = errors.New("client: no delivery service found")

// serviceOf finds the delivery service of an account, in the order of
// xep/mls-delivery.xml#home: what its user has chosen, what its server delegates, what
// its domain offers.
func (c *Client) serviceOf(ctx context.Context, account string) (string, error) {
	if account == c.account {
		c.mu.Lock()
		home := c.home
		c.mu.Unlock()
		if home != "" {
			return home, nil
		}
	}
	if jid, ok := c.disco.service(account); ok {
		if jid == "" {
			return "", fmt.Errorf("%w for %s", ErrNoService, account)
		}
		return jid, nil
	}
	jid, err := c.lookupService(ctx, account)
	if err != nil {
		return "", err
	}
	c.disco.setService(account, jid)
	if jid == "" {
		return "", fmt.Errorf("%w for %s", ErrNoService, account)
	}
	return jid, nil
}

func (c *Client) lookupService(ctx context.Context, account string) (string, error) {
	if jid, err := c.pointer(ctx, account); err != nil || jid != "" {
		return jid, err
	}
	info, err := c.discoInfo(ctx, account)
	if err != nil {
		return "", err
	}
	if info != nil && info.Has(stanza.NSKeyPackages) {
		return account, nil // namespace delegation: the account itself answers
	}
	return c.findService(ctx, domainOf(account), stanza.NSDelivery)
}

// pointer reads an account's PEP item that names its delivery service.
func (c *Client) pointer(ctx context.Context, account string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, discoTimeout)
	defer cancel()
	reply := stanza.PubSubItems{}
	err := c.ask(ctx, "get", account, &stanza.PubSubItems{Node: stanza.NSDelivery, Items: []stanza.PubSubItem{{ID: "current"}}}, &reply)
	var refused *stanza.Error
	if errors.As(err, &refused) {
		return "", nil // no such node, no PEP, not allowed
	}
	if err != nil || len(reply.Items) == 0 {
		return "", err
	}
	var p stanza.DSPointer
	if parseItem(&reply.Items[0], &p) != nil {
		return "", nil // somebody's mistake, and no reason to stop looking
	}
	return normalOr(p.JID), nil
}

// parseItem reads the payload of a PEP item.
func parseItem(it *stanza.PubSubItem, p stanza.Payload) error {
	var doc xmlpull.Doc
	el, err := doc.Parse(it.Payload, nil)
	if err != nil {
		return err
	}
	return p.Parse(el)
}

// publishPointer tells others which service this account uses, when it is not
// the one that they would find.
func (c *Client) publishPointer(ctx context.Context, service string) error {
	return c.publishItem(ctx, stanza.NSDelivery, "current", &stanza.DSPointer{JID: service})
}

// publishItem puts an item into an own PEP node that everybody may read.
func (c *Client) publishItem(ctx context.Context, node, id string, p stanza.Payload) error {
	req := &stanza.Publish{Node: node, Item: stanza.PubSubItem{ID: id, Payload: p.Append(nil)}, Options: stanza.OpenNode()}
	return c.ask(ctx, "set", "", req, nil)
}

// homeService finds the own account's service and remembers it.
func (c *Client) homeService(ctx context.Context) (string, error) {
	c.mu.Lock()
	home := c.home
	c.mu.Unlock()
	if home != "" {
		if c.cfg.Service != "" {
			c.spawn(func() { c.advertise(ctx, home) })
		}
		return home, nil
	}
	home, err := c.lookupService(ctx, c.account)
	if err != nil {
		return "", fmt.Errorf("client: looking for the delivery service of %s: %w", c.account, err)
	}
	if home == "" {
		return "", fmt.Errorf("%w for %s: ask the operator of %s, or set Service", ErrNoService, c.account, c.domain)
	}
	c.mu.Lock()
	c.home, c.noHome = home, false
	c.mu.Unlock()
	c.saveState()
	return home, nil
}

// advertise makes the pointer say what the configuration says, where others
// would not find it without.
func (c *Client) advertise(ctx context.Context, home string) {
	if jid, err := c.pointer(ctx, c.account); err != nil || jid == home {
		return
	}
	if found, err := c.findService(ctx, c.domain, stanza.NSDelivery); err == nil && found == home {
		return
	}
	if err := c.publishPointer(ctx, home); err != nil {
		c.log.Info("could not publish which delivery service this account uses", "error", err)
	}
}

// limitsOf reads the limits form of a service. A service that does not tell
// has the defaults of xep/mls-delivery.xml#limits.
func (c *Client) limitsOf(ctx context.Context, host string) stanza.ServiceLimits {
	l := stanza.ServiceLimits{MaxBytes: stanza.PageBytes}
	info, err := c.discoInfo(ctx, host)
	if err != nil || info == nil {
		return l
	}
	if f := info.Form(stanza.FormLimits); f != nil {
		if got, err := stanza.ParseServiceLimits(f); err == nil {
			l = got
		}
	}
	if l.MaxBytes < 8<<10 || l.MaxBytes > 192<<10 {
		l.MaxBytes = stanza.PageBytes
	}
	return l
}
