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
	var lastIdle, countAgain, hold time.Time
	count := func() {
		if time.Now().Before(countAgain) {
			return
		}
		at := time.Now()
		s.guard("stats", func() {
			s.countStore(ctx)
			s.countDomains(ctx)
		})
		// Counting a large store reads a lot of it: no more than half a percent
		// of the time.
		countAgain = time.Now().Add(200 * time.Since(at))
	}
	count()
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		if jump := clockJump(now.Round(0).Sub(last.Round(0)), now.Sub(last)); jump != 0 {
			hold = now.Add(jumpHold)
			s.log.Error("the clock jumped; nothing expires for a while, so that it can be set right", "by", jump, "for", jumpHold)
		}
		last = now
		if now.Before(hold) {
			continue
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
		count()
		if s.sessions.shared {
			s.guard("sessions", func() {
				if err := s.sessions.load(ctx); err != nil && ctx.Err() == nil {
					s.log.Warn("cannot read the sessions", "error", err)
				}
			})
		}
		if now := s.now(); now.Sub(lastIdle) > idleInterval && s.link.connected.Load() {
			lastIdle = now
			s.guard("idle", func() { s.removeIdle(ctx) })
		}
	}
}

// jumpMin is the least difference between the clock's time and the time that has
// passed that counts as a jump: more than NTP corrects, less than a time zone.
// jumpHold is for how long nothing expires then.
const (
	jumpMin  = 10 * time.Minute
	jumpHold = time.Hour
)

// clockJump says by how much the clock has jumped, if it has, while it went on
// by wall and passed went by. What expires is gone for good, and a clock that is
// a year ahead for a minute must not take every log with it.
func clockJump(wall, passed time.Duration) time.Duration {
	if d := wall - passed; d > jumpMin || d < -jumpMin {
		return d
	}
	return 0
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
