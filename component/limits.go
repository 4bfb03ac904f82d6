// SPDX-License-Identifier: Apache-2.0

package component

import (
	"fmt"
	"time"
)

// This file holds every size, count and time of the service, with its reason.
// What an operator may want to change is a field of [Limits]; the rest is
// constant.

// Times of the server link.
const (
	// linkDialTimeout bounds one attempt to connect: a server on the same host
	// or network answers in milliseconds.
	linkDialTimeout = 10 * time.Second
	// linkHandshakeTimeout bounds the stream header and handshake together. A
	// server may be slow while it starts.
	linkHandshakeTimeout = 15 * time.Second
	// linkWriteTimeout ends a link whose server reads nothing: longer than any
	// garbage collection or database stall of a live server.
	linkWriteTimeout = 30 * time.Second
	// linkKeepalive is how often an idle link writes a space, so that a dead
	// connection is noticed and a NAT keeps it.
	linkKeepalive = 60 * time.Second
	// linkBackoffMin and linkBackoffMax bound the wait between attempts. The
	// first is short because a restarted server should have its service back
	// at once, the last is short because people wait.
	linkBackoffMin = 250 * time.Millisecond
	linkBackoffMax = 30 * time.Second
	// linkStable is how long a link must have lasted for the next attempt to
	// begin with the shortest wait.
	linkStable = 10 * time.Second
	// linkWriteSize is how many bytes of waiting stanzas go into one write: a
	// socket buffer's worth.
	linkWriteSize = 64 << 10
	// linkCloseGrace is how long the last bytes get to leave.
	linkCloseGrace = 50 * time.Millisecond
)

// Times and counts of the service.
const (
	// groupInbox is how many requests may wait for one group. A group in which
	// more than that arrive at once is answered "retry".
	groupInbox = 512
	// groupsLoaded bounds the groups in memory. Above it the least used ones
	// are forgotten early.
	groupsLoaded = 50_000
	// workerIdle is how long a goroutine that has served a group waits for
	// another one.
	workerIdle = time.Second
	// senderInbox is how many requests of one account may wait.
	senderInbox = 512
	// senderWorkers is the number of workers for requests that do not change a
	// group: how many accounts are served at the same time.
	senderWorkers = 32
	// sendBatch is how many application messages of one group become one
	// transaction: enough to keep up with the disk, few enough that the first
	// sender's answer is not late.
	sendBatch = 64
	// commitRetries bounds how often a commit is checked again because another
	// process changed the group in between. Each time somebody made progress.
	commitRetries = 8
	// staleCommits bounds the winners named in a stale-epoch error; a client
	// that is further behind reads the log.
	staleCommits = 16
	// staleInline bounds the bytes of winning commits and pending proposals
	// inlined in a stale-epoch error.
	staleInline = 32 << 10
	// mustNamed bounds the proposals named in a must-commit error: a ban of a domain
	// makes as many as it has devices in the group.
	mustNamed = 100
	// iqTimeout is how long we wait for an answer to a request of our own. s2s
	// connections take seconds to come up.
	iqTimeout = 60 * time.Second
	// iqAgain is how often such a request is repeated where its answer may go to
	// another process, iqRepeats how many times: with two processes one in two
	// thousand is lost all the same.
	iqAgain   = time.Second
	iqRepeats = 10
	// iqOutstanding and iqOutstandingDomain bound our own unanswered requests,
	// in total and per domain, so that one slow domain takes no more than its
	// share.
	iqOutstanding       = 4096
	iqOutstandingDomain = 64
	// welcomeRetryMin and welcomeRetryMax bound the wait before a joiner's home
	// service is told again. The first is longer than an attempt can last.
	welcomeRetryMin = iqTimeout + homeTimeout + 10*time.Second
	welcomeRetryMax = 6 * time.Hour
	// domainPause and twice that bound the wait of a welcome whose domain has as
	// many under way as it may.
	domainPause = 5 * time.Second
	// storeRetry is how often a write is tried while the last one failed.
	storeRetry = 2 * time.Second
	// cleanInterval is how often expired rows are removed, and how long a due
	// nudge or welcome may be late.
	cleanInterval = time.Minute
	// duePoll is how often nudges and welcomes that fall due are looked for.
	duePoll = time.Second
	// nudgeAgain is when a nudge is due again that was taken and not sent: its
	// process died, or the link did.
	nudgeAgain = time.Minute
	// dueBatch is how many of them are taken at once.
	dueBatch = 256
	// reserveTime is how long a reserved JID waits for its group.
	reserveTime = 10 * time.Minute
	// stageTime is how long staged bytes wait for their commit.
	stageTime = 5 * time.Minute
	// resumeRate is how many sessions are asked to resume per second after a
	// restart, so that they do not all catch up in the same instant.
	resumeRate = 500
	// resumeRetry is when they are looked for again after the store failed.
	resumeRetry = 5 * time.Second
	// resumeGrace is how long a session that was asked may stay silent.
	resumeGrace = 2 * time.Minute
	// pageMin is the smallest page that may be asked for.
	pageMin = 1 << 10
	// tagCapsMax bounds what is stored of a key package's capabilities.
	tagCapsMax = 4 << 10
	// groupIDMax is the longest group_id: 32 bytes are the protocol, more is
	// room for other implementations.
	groupIDMax = 64
	// nameMax is the longest chosen localpart, as in RFC 7622 but well below,
	// so that JIDs stay readable.
	nameMax = 64
	// idMax bounds ids that a client chooses (claims, uploads).
	idMax = 128
	// iqIDMax bounds the id of a request, which goes back in the answer.
	iqIDMax = 1024
	// claimUsers bounds the users of one claim.
	claimUsers = 200
	// reportText bounds the words of a report.
	reportText = 4 << 10
	// reportsKept bounds the reports of an account that wait for the operator: each
	// comes with evidence and the entry that it names.
	reportsKept = 100
	// destroyReason bounds the reason of a destruction.
	destroyReason = 1 << 10
	// listMax bounds the lines of a page that lists (groups, affiliations).
	listMax = 500
	// bansMax is from how many outcasts on a group takes no further bans: all are in
	// memory while the group is.
	bansMax = 2000
	// blockMax bounds a user's block list.
	blockMax = 1000
	// rateEntries bounds the memory of rate limiters: accounts and domains
	// that were seen lately.
	rateEntries = 100_000
)

// Limits bounds what the service accepts and keeps. A zero field means its
// default.
type Limits struct {
	// MaxStanza is the largest stanza read or written, in bytes. Default
	// 500,000: Prosody closes the component's stream above 512 KiB.
	MaxStanza int
	// MaxPage is the largest page of a log or tree, and the largest message or
	// commit, in bytes before base64. Default 49,152: as much as clients can
	// exchange under the common limits of 256 KiB, with room for shapers.
	MaxPage int
	// MaxArtifact is the largest Welcome or GroupInfo that is staged in pieces,
	// in bytes. Default 8 MiB: a Welcome for 10,000 members.
	MaxArtifact int
	// StageQuota is how many staged bytes an account may hold. Default 16 MiB.
	StageQuota int64
	// MaxKeyPackages is how many one-time packages a device may keep. Default
	// 200; TargetKeyPackages is how many it should keep, default 50;
	// LowKeyPackages is where its owner is told, default 10.
	MaxKeyPackages, TargetKeyPackages, LowKeyPackages int
	// MaxDevices is how many devices an account may have. Default 20.
	MaxDevices int
	// MaxKeyPackageBytes is the largest key package. Default 16 KiB: with
	// post-quantum keys and an X.509 chain.
	MaxKeyPackageBytes int
	// MaxKeyPackageLife is how far ahead a key package's lifetime may end.
	// Default 100 days; MaxLastResortLife, for last-resort packages, 400 days.
	MaxKeyPackageLife, MaxLastResortLife time.Duration
	// MaxMembers is how many leaves a group may have. Default 20,000.
	MaxMembers int
	// MaxGroups is how many groups an account may own. Default 100.
	MaxGroups int
	// MaxPending is how many proposals may wait in an epoch. Default 200.
	MaxPending int
	// MaxSessions is how many live sessions an account may have. Default 50.
	MaxSessions int
	// DomainSessions is how many live sessions the accounts of one other domain
	// may have together. Default 20,000.
	DomainSessions int
	// DomainKeyPackages is about how many key packages the accounts of one other
	// domain may have here together: they are counted every minute or so. Default
	// 200,000, about 120 MB of classic ones.
	DomainKeyPackages int
	// MaxWelcomes is how many Welcomes may wait for a device before those of
	// other services are refused. Default 200.
	MaxWelcomes int
	// MaxContextBytes is the size of a group's context, with its roles and
	// extensions, which every GroupInfo carries. Default 128 KiB.
	MaxContextBytes int

	// EpochWindow is how many epochs back an application message may be from.
	// Default 1: what was sealed while a commit was accepted. A group can
	// choose less.
	EpochWindow int
	// LogAge is how long log entries are kept for devices that are away.
	// Default 30 days; a group can choose less.
	LogAge time.Duration
	// SnapshotAge is how long a superseded epoch can be read. Default 10
	// minutes: a join in pages over a slow link.
	SnapshotAge time.Duration
	// WelcomeAge is how long a Welcome waits for its device. Default 60 days.
	WelcomeAge time.Duration
	// IdleDevice is after how long without a sign a device is proposed for
	// removal from its groups. Default 180 days; negative: never.
	IdleDevice time.Duration
	// TombstoneAge is how long the JID of a destroyed group stays taken.
	// Default 90 days.
	TombstoneAge time.Duration
	// GroupIdle is how long an unused group stays in memory. Default 2 minutes.
	GroupIdle time.Duration
	// CachedLeaves bounds the leaves of all groups in memory that have nothing
	// to do, at about 1.5 KiB each. Default 500,000.
	CachedLeaves int

	// MaxInFlight bounds the bytes of requests that are being worked on.
	// Default 64 MiB: above it requests are answered "retry".
	MaxInFlight int64
	// AnswerQueue and EventQueue bound what waits for the link, in bytes.
	// Defaults 32 MiB and 64 MiB.
	AnswerQueue, EventQueue int

	// Rates, in requests per second with a burst, per account and per domain.
	Requests     Rate // any request of an account. Default 50/s, burst 500
	Domain       Rate // any request of all accounts of another domain together. Default 1,000/s, burst 5,000
	Bytes        Rate // bytes of an account's requests, and of trees that are made for it. Default 5 KiB for each of Requests a second, burst 128 KiB for each of its burst
	DomainBytes  Rate // bytes of the requests of another domain's accounts together. Default as Bytes, of Domain
	Send         Rate // messages of an account. Default 20/s, burst 200
	Claims       Rate // users claimed by an account. Default 1/s, burst 300
	Claimed      Rate // times that one user's packages are claimed by others. Default 1 per 10 s, burst 100
	DomainClaims Rate // users claimed by another domain. Default 5/s, burst 1,000
	Create       Rate // groups created by an account. Default 1 a minute, burst 20
	Reports      Rate // reports by an account. Default 1 a minute, burst 10
	Invites      Rate // devices that an account adds whose key packages were not claimed here: each is a message to somebody. Default 1/s, burst 300
}

// A Rate is a token bucket: Burst at once, then PerSecond. A negative PerSecond
// means no limit.
type Rate struct {
	PerSecond float64
	Burst     int
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// WithDefaults gives l with its zero fields set.
func (l Limits) WithDefaults() Limits {
	def(&l.MaxStanza, 500_000)
	def(&l.MaxPage, 48<<10)
	def(&l.MaxArtifact, 8<<20)
	def(&l.StageQuota, 16<<20)
	def(&l.MaxKeyPackages, 200)
	def(&l.TargetKeyPackages, 50)
	def(&l.LowKeyPackages, 10)
	def(&l.MaxDevices, 20)
	def(&l.MaxKeyPackageBytes, 16<<10)
	def(&l.MaxKeyPackageLife, 100*24*time.Hour)
	def(&l.MaxLastResortLife, 400*24*time.Hour)
	def(&l.MaxMembers, 20_000)
	def(&l.MaxGroups, 100)
	def(&l.MaxPending, 200)
	def(&l.MaxSessions, 50)
	def(&l.DomainSessions, 20_000)
	def(&l.DomainKeyPackages, 200_000)
	def(&l.MaxWelcomes, 200)
	def(&l.MaxContextBytes, 128<<10)
	def(&l.EpochWindow, 1)
	def(&l.LogAge, 30*24*time.Hour)
	def(&l.SnapshotAge, 10*time.Minute)
	def(&l.WelcomeAge, 60*24*time.Hour)
	def(&l.IdleDevice, 180*24*time.Hour)
	def(&l.TombstoneAge, 90*24*time.Hour)
	def(&l.GroupIdle, 2*time.Minute)
	def(&l.CachedLeaves, 500_000)
	def(&l.MaxInFlight, 64<<20)
	def(&l.AnswerQueue, 32<<20)
	def(&l.EventQueue, 64<<20)
	def(&l.Requests, Rate{50, 500})
	def(&l.Domain, Rate{1000, 5000})
	def(&l.Bytes, Rate{l.Requests.PerSecond * 5120, l.Requests.Burst << 17})
	def(&l.DomainBytes, Rate{l.Domain.PerSecond * 5120, l.Domain.Burst << 17})
	def(&l.Send, Rate{20, 200})
	def(&l.Claims, Rate{1, 300})
	def(&l.Claimed, Rate{0.1, 100})
	def(&l.DomainClaims, Rate{5, 1000})
	def(&l.Create, Rate{1.0 / 60, 20})
	def(&l.Reports, Rate{1.0 / 60, 10})
	def(&l.Invites, Rate{1, 300})
	return l
}

// check finds limits that cannot work together.
func (l *Limits) check() error {
	switch {
	case l.MaxStanza < 10_000:
		return fmt.Errorf("component: max stanza of %d bytes: RFC 6120 §13.12 guarantees 10,000", l.MaxStanza)
	case l.MaxPage < pageMin:
		return fmt.Errorf("component: max page of %d bytes: use at least %d", l.MaxPage, pageMin)
	case l.MaxPage*4/3+8<<10 > l.MaxStanza:
		return fmt.Errorf("component: a page of %d bytes in base64 does not fit a stanza of %d bytes", l.MaxPage, l.MaxStanza)
	case l.MaxArtifact < l.MaxPage:
		return fmt.Errorf("component: max artifact of %d bytes is less than a page of %d bytes", l.MaxArtifact, l.MaxPage)
	case l.StageQuota < int64(l.MaxArtifact):
		return fmt.Errorf("component: a stage quota of %d bytes cannot hold an artifact of %d bytes", l.StageQuota, l.MaxArtifact)
	case l.EpochWindow < 0:
		return fmt.Errorf("component: epoch window %d is negative", l.EpochWindow)
	}
	return nil
}
