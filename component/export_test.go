// SPDX-License-Identifier: Apache-2.0

package component

import "context"

// What tests of the package's users reach for.

// RemoveIdle looks for idle devices now.
func (s *Service) RemoveIdle(ctx context.Context) { s.removeIdle(ctx) }

// Panics says how many requests failed by a fault of ours.
func (s *Service) Panics() float64 { return counterValue(s.metrics.panics) }

// CountDomains counts the key packages of other domains now.
func (s *Service) CountDomains(ctx context.Context) { s.countDomains(ctx) }

// LoadSessions reads the table of sessions again, as happens every minute where
// processes share a store.
func (s *Service) LoadSessions(ctx context.Context) error { return s.sessions.load(ctx) }
