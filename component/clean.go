// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"
	"errors"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
)

// clean removes what has expired, looks for idle devices, and keeps the
// metrics of the store up to date, until ctx ends.
func (s *Service) clean(ctx context.Context) {
	tick := time.NewTicker(cleanInterval)
	defer tick.Stop()
	var lastIdle time.Time
	s.guard("stats", func() { s.countStore(ctx) })
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.guard("clean", func() {
			got, err := s.store.Clean(ctx, store.CleanPolicy{Now: s.now(), LogAge: s.limits.LogAge, SnapshotAge: s.limits.SnapshotAge})
			if err != nil && !errors.Is(err, context.Canceled) {
				s.log.Warn("cannot clean the store", "error", err)
			}
			for what, n := range map[string]int64{
				"entries": got.Entries, "snapshots": got.Snapshots, "nodes": got.Nodes, "key_packages": got.KeyPackages,
				"claims": got.Claims, "welcomes": got.Welcomes, "uploads": got.Uploads, "names": got.Names,
			} {
				s.metrics.cleaned.WithLabelValues(what).Add(float64(n))
			}
		})
		s.guard("stats", func() { s.countStore(ctx) })
		if now := s.now(); now.Sub(lastIdle) > idleInterval && s.link.connected.Load() {
			lastIdle = now
			s.guard("idle", func() { s.removeIdle(ctx) })
		}
	}
}

func (s *Service) countStore(ctx context.Context) {
	st, err := s.store.Stats(ctx)
	if err != nil {
		return
	}
	for what, n := range map[string]int64{
		"groups": st.Groups, "members": st.Members, "entries": st.Entries, "nodes": st.Nodes, "devices": st.Devices,
		"key_packages": st.KeyPackages, "welcomes": st.Welcomes, "sessions": st.Sessions, "nudges": st.Nudges,
		"uploads": st.Uploads, "reports": st.Reports, "bytes": st.Bytes,
	} {
		s.metrics.stored.WithLabelValues(what).Set(float64(n))
	}
}
