// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
)

// Names of settings in the store. Those of the service have the owner "",
// those of a user the user's bare JID.
const (
	settingBan      = "ban/"            // + domain; owner "": the domain is banned, the value is the reason
	settingQuota    = "quota"           // owner user: number of groups that the user may own
	settingConsent  = "consent"         // owner user: who may claim the user's key packages
	settingAllow    = "allow/"          // + bare JID or domain; owner user: may claim
	settingBlock    = "block/"          // + JID; owner user: blocked (XEP-0191)
	settingSender   = "external-sender" // owner "": our signing keys
	settingReserved = "reserved/"       // + JID; owner user: the service chose it for a group, until the time in the value
)

// settingsCache holds the banned domains, which every request asks for.
type settingsCache struct {
	s      *Service
	mu     sync.Mutex
	banned map[string]bool
}

// bannedAge is how old the cached list may be where other processes can change
// it.
const bannedAge = 10 * time.Second

// refresh keeps the list up to date: the reader of the link asks it, and must
// not wait for the store.
func (c *settingsCache) refresh(ctx context.Context) {
	tick := time.NewTicker(bannedAge)
	defer tick.Stop()
	for {
		if err := c.load(ctx); err != nil && ctx.Err() == nil {
			c.s.log.Error("reading the list of banned domains", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func newSettingsCache(s *Service) *settingsCache { return &settingsCache{s: s} }

// bannedDomain reports whether a domain, or one above it, is banned.
func (c *settingsCache) bannedDomain(domain string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.banned) == 0 {
		return false
	}
	for {
		if c.banned[domain] {
			return true
		}
		_, parent, ok := strings.Cut(domain, ".")
		if !ok {
			return false
		}
		domain = parent
	}
}

// load reads the list. If that fails the old one stays: a database in trouble
// must not lift bans.
func (c *settingsCache) load(ctx context.Context) error {
	var list []store.Setting
	err := c.s.store.View(ctx, func(r store.Reader) (err error) {
		list, err = r.Settings("", settingBan)
		return err
	})
	if err != nil {
		return err
	}
	banned := make(map[string]bool, len(list))
	for _, l := range list {
		banned[strings.TrimPrefix(l.Name, settingBan)] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.banned = banned
	return nil
}

// ban bans a domain, or lifts its ban.
func (c *settingsCache) ban(ctx context.Context, domain, reason string, on bool) error {
	var value []byte
	if on {
		value = []byte(reason + "\n") // never empty, which would remove it
	}
	if err := c.s.store.Update(ctx, func(tx store.Tx) error { return tx.SetSetting("", settingBan+domain, value) }); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	next := maps.Clone(c.banned)
	if next == nil {
		next = map[string]bool{}
	}
	if on {
		next[domain] = true
	} else {
		delete(next, domain)
	}
	c.banned = next
	return nil
}

// list gives the banned domains.
func (c *settingsCache) list() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.banned))
}

// setting reads one setting; a missing one is nil without an error.
func setting(r store.Reader, owner, name string) ([]byte, error) {
	v, err := r.Setting(owner, name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return v, err
}
