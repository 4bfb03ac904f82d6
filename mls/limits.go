// SPDX-License-Identifier: Apache-2.0

package mls

import "time"

// Limits bound sizes, counts and work. A zero field means its default; negative
// means none at all (of what is kept) or no limit (of what is accepted).
type Limits struct {
	// MaxMessage is the size of a message in octets, also of one that is sent.
	// Default 16 MiB: a Welcome with the tree of 20,000 members. MLS itself ends at
	// 2^30-1.
	MaxMessage int
	// MaxMembers is the number of leaves of the tree, blank ones included. Default
	// 131,072.
	MaxMembers int
	// MaxProposals is the number of proposals in one commit. Default 16,384.
	MaxProposals int
	// MaxPending is the number of proposals that wait for a commit. Default 4,096.
	MaxPending int
	// MaxExtensions is the number of entries of an extension list. Default 64.
	MaxExtensions int
	// MaxLifetime is the longest lifetime of a key package that is accepted
	// (RFC 9420 §7.2 demands that there is one). Default 400 days.
	MaxLifetime time.Duration

	// MaxForward is by how many generations one message may be ahead of the last
	// from its sender (RFC 9420 §15.3). Default 1,000.
	MaxForward int
	// MaxSkipped is how many keys of skipped messages are kept for one sender.
	// Default 256.
	MaxSkipped int
	// MaxSkippedTotal is how many are kept for one epoch. Default 20,000.
	MaxSkippedTotal int

	// PastEpochs is for how many past epochs late messages can still be read.
	// Default 3.
	PastEpochs int
	// PastEpochAge is for how long they can be read. Default 24 hours.
	PastEpochAge time.Duration
	// ResumptionPSKs is for how many past epochs the resumption PSK is kept
	// (RFC 9420 §8.6). Default 16.
	ResumptionPSKs int
}

// The defaults of [Limits].
const (
	DefaultMaxMessage      = 16 << 20
	DefaultMaxMembers      = 1 << 17
	DefaultMaxProposals    = 1 << 14
	DefaultMaxPending      = 1 << 12
	DefaultMaxExtensions   = 64
	DefaultMaxLifetime     = 400 * 24 * time.Hour
	DefaultMaxForward      = defaultMaxForward
	DefaultMaxSkipped      = defaultMaxSkipped
	DefaultMaxSkippedTotal = defaultMaxSkippedTotal
	DefaultPastEpochs      = 3
	DefaultPastEpochAge    = 24 * time.Hour
	DefaultResumptionPSKs  = 16
)

const unlimited = 1<<31 - 1

// accepted resolves a bound on what is accepted, kept one on what is kept.
func accepted(v, def int) int {
	if v < 0 {
		return unlimited
	}
	return kept(v, def)
}

func kept(v, def int) int {
	switch {
	case v == 0:
		return def
	case v < 0:
		return 0
	}
	return v
}

func (l Limits) resolve() Limits {
	l.MaxMessage = min(accepted(l.MaxMessage, DefaultMaxMessage), maxVarint)
	l.MaxMembers = min(accepted(l.MaxMembers, DefaultMaxMembers), 1<<24)
	l.MaxProposals = accepted(l.MaxProposals, DefaultMaxProposals)
	l.MaxPending = accepted(l.MaxPending, DefaultMaxPending)
	l.MaxExtensions = accepted(l.MaxExtensions, DefaultMaxExtensions)
	l.MaxForward = accepted(l.MaxForward, DefaultMaxForward)
	if l.MaxLifetime == 0 {
		l.MaxLifetime = DefaultMaxLifetime
	}
	if l.PastEpochAge == 0 {
		l.PastEpochAge = DefaultPastEpochAge
	}
	l.PastEpochs = kept(l.PastEpochs, DefaultPastEpochs)
	l.ResumptionPSKs = kept(l.ResumptionPSKs, DefaultResumptionPSKs)
	return l
}

// secretTreeLimits applies the limits to a secret tree.
func (c *config) limitSecretTree(t *secretTree) {
	t.setLimits(uint32(c.limits.MaxForward), c.limits.MaxSkipped, c.limits.MaxSkippedTotal)
}
