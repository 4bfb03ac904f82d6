// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"
	"strings"
	"sync"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/stanza"
)

// domainStock knows about how many key packages the accounts of other domains
// have here. It is counted when the store is, about every minute, and what is
// published in between is added: what was claimed or has expired since counts
// until then.
type domainStock struct {
	mu   sync.Mutex
	kept map[string]int64
}

// room fails when the accounts of a domain would have too many key packages.
func (d *domainStock) room(domain string, more, most int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kept[domain]+int64(more) > int64(most) {
		return &stanza.Error{Type: stanza.ErrorWait, Condition: stanza.ResourceConstraint, Text: "The accounts of your domain have as many key packages here as are allowed."}
	}
	return nil
}

func (d *domainStock) add(domain string, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kept == nil {
		d.kept = make(map[string]int64)
	}
	d.kept[domain] += int64(n)
}

func (d *domainStock) set(kept map[string]int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kept = kept
}

// countDomains counts the key packages of other domains.
func (s *Service) countDomains(ctx context.Context) {
	kept := make(map[string]int64)
	err := s.store.View(ctx, func(r store.Reader) error {
		clear(kept)
		return r.KeyPackageOwners(func(user string, n int64) {
			if _, domain, _ := strings.Cut(user, "@"); !s.serves[domain] {
				kept[domain] += n
			}
		})
	})
	if err != nil {
		return // as with the other counts: the next one may work
	}
	most := int64(0)
	for _, n := range kept {
		most = max(most, n)
	}
	s.stocks.set(kept) // which others change from now on
	s.metrics.stored.WithLabelValues("domain_key_packages").Set(float64(most))
}
