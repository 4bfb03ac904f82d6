// SPDX-License-Identifier: Apache-2.0

package stanza

import (
	"fmt"
	"time"
)

// This file is the table of application conditions, PROTOCOL.md §13.

// newAppCondition returns an empty condition by its XML name, or nil.
func newAppCondition(local string) AppCondition {
	switch local {
	case "stale-epoch":
		return new(StaleEpoch)
	case "future-epoch":
		return new(FutureEpoch)
	case "invalid-message":
		return new(InvalidMessage)
	case "group-info-mismatch":
		return new(GroupInfoMismatch)
	case "must-commit":
		return new(MustCommit)
	case "unknown-proposal":
		return new(UnknownProposal)
	case "credential-mismatch":
		return new(CredentialMismatch)
	case "not-a-member":
		return new(NotAMember)
	case "insufficient-affiliation":
		return new(InsufficientAffiliation)
	case "unsupported":
		return new(Unsupported)
	case "key-packages-exhausted":
		return new(KeyPackagesExhausted)
	case "too-large":
		return new(TooLarge)
	case "retry":
		return new(RetryAfter)
	case "maintenance":
		return new(Maintenance)
	case "history-gone":
		return new(HistoryGone)
	}
	return nil
}

// PastEntry is a log entry that a refusal tells of: a commit that won an epoch,
// or a proposal that is pending. Bytes holds its MLSMessage, and is empty when
// the entry did not fit: then the client fetches it from the log by Seq.
type PastEntry struct {
	Epoch, Seq uint64
	Ref        Ref
	// Chain is the chain value after the entry (PROTOCOL.md §0), zero if not
	// told.
	Chain Hash
	// Stamp is when the DS accepted the entry, zero if not told.
	Stamp time.Time
	Bytes []byte
}

func (p *PastEntry) append(dst []byte, local string) []byte {
	dst = start(dst, local)
	dst = attrUint(dst, "epoch", p.Epoch)
	dst = attrUint(dst, "seq", p.Seq)
	dst = attrHash(dst, "ref", &p.Ref)
	dst = attrHash(dst, "chain", &p.Chain)
	dst = attrStamp(dst, "stamp", p.Stamp)
	if len(p.Bytes) == 0 {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	dst = AppendBase64(dst, p.Bytes)
	return end(dst, local)
}

func (p *PastEntry) parse(parent *dec, c Element) {
	d := parent.textChild(c)
	p.Epoch = d.uint64("epoch")
	p.Seq = d.uint64("seq")
	p.Ref = d.hash("ref")
	p.Chain = d.hashOpt("chain")
	p.Stamp = d.stampOpt("stamp")
	p.Bytes = d.contentOpt(nil)
	parent.done(&d)
}

// StaleEpoch refuses a commit, proposal or application message of a past
// epoch, and a page of a snapshot that is gone: conflict, cancel. The client
// processes what it missed, makes its message again and retries after a random
// delay.
//
//	<stale-epoch xmlns='urn:xmpp:mls:errors:0' submitted='42' current='44' head='1211'>
//	  <commit epoch='42' seq='1208' ref='…' chain='…' stamp='…'>AAEAAQ…</commit>
//	  <commit epoch='43' seq='1210' ref='…'/>
//	  <proposal epoch='44' seq='1211' ref='…'>AAEAAQ…</proposal>
//	</stale-epoch>
//
// The elements are the commits that won the epochs from submitted on, and the
// proposals pending in the current epoch, in the order of the log. The DS puts
// their bytes in while they fit a page, oldest first, so that a lost race
// costs one round trip; more='true' says that elements are missing at the
// end. A commit whose ref is the client's own means that its submission won
// and the reply was lost.
//
// Source: PROTOCOL.md §5, §13; RFC 9420 §14.
type StaleEpoch struct {
	// Submitted is the epoch of the refused message, Current that of the
	// group, Head the seq of the last log entry.
	Submitted, Current, Head uint64
	// Commits are the winners of epochs Submitted to Current-1.
	Commits []PastEntry
	// Proposals are pending in epoch Current.
	Proposals []PastEntry
	// More says that the lists are cut short.
	More bool
}

func (e *StaleEpoch) Error() string {
	if e.Submitted == e.Current {
		return fmt.Sprintf("The state of epoch %d is no longer kept, catch up to entry %d and try again", e.Submitted, e.Head)
	}
	return fmt.Sprintf("The message is for epoch %d and the group is in epoch %d, catch up to entry %d and try again", e.Submitted, e.Current, e.Head)
}

func (*StaleEpoch) defined() (ErrorType, Condition) { return ErrorCancel, Conflict }

// Append appends the element.
func (e *StaleEpoch) Append(dst []byte) []byte {
	dst = open(dst, NSErrors, "stale-epoch")
	dst = attrUint(dst, "submitted", e.Submitted)
	dst = attrUint(dst, "current", e.Current)
	dst = attrUint(dst, "head", e.Head)
	dst = attrTrue(dst, "more", e.More)
	if len(e.Commits)+len(e.Proposals) == 0 {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	for i := range e.Commits {
		dst = e.Commits[i].append(dst, "commit")
	}
	for i := range e.Proposals {
		dst = e.Proposals[i].append(dst, "proposal")
	}
	return end(dst, "stale-epoch")
}

// Parse reads the element.
func (e *StaleEpoch) Parse(el Element) error {
	d := expect(el, NSErrors, "stale-epoch")
	d.noText()
	*e = StaleEpoch{Commits: e.Commits[:0], Proposals: e.Proposals[:0]}
	e.Submitted = d.uint64("submitted")
	e.Current = d.uint64("current")
	e.Head = d.uint64("head")
	e.More = d.boolean("more")
	for c := el.First(); c.Valid(); c = c.Next() {
		var p PastEntry
		switch {
		case c.Is(NSErrors, "commit") && d.room(len(e.Commits), MaxRefs):
			p.parse(&d, c)
			e.Commits = append(e.Commits, p)
		case c.Is(NSErrors, "proposal") && d.room(len(e.Proposals), MaxRefs):
			p.parse(&d, c)
			e.Proposals = append(e.Proposals, p)
		}
	}
	return d.err
}

// FutureEpoch refuses a message of an epoch that the DS has not reached:
// unexpected-request, wait. The client's state or the DS's has gone wrong; the
// client resynchronises and alarms its user if the DS has rolled back.
//
//	<future-epoch xmlns='urn:xmpp:mls:errors:0' submitted='45' current='44' head='1211'/>
//
// Source: PROTOCOL.md §13.
type FutureEpoch struct {
	Submitted, Current, Head uint64
}

func (e *FutureEpoch) Error() string {
	return fmt.Sprintf("The message is for epoch %d and the group has only reached epoch %d", e.Submitted, e.Current)
}

func (*FutureEpoch) defined() (ErrorType, Condition) { return ErrorWait, UnexpectedRequest }

// Append appends the element.
func (e *FutureEpoch) Append(dst []byte) []byte {
	dst = open(dst, NSErrors, "future-epoch")
	dst = attrUint(dst, "submitted", e.Submitted)
	dst = attrUint(dst, "current", e.Current)
	dst = attrUint(dst, "head", e.Head)
	return append(dst, "/>"...)
}

// Parse reads the element.
func (e *FutureEpoch) Parse(el Element) error {
	d := expect(el, NSErrors, "future-epoch")
	d.noText()
	*e = FutureEpoch{Submitted: d.uint64("submitted"), Current: d.uint64("current"), Head: d.uint64("head")}
	return d.err
}

// InvalidMessage refuses an MLS object that is malformed or that members would
// refuse: bad-request, modify. Resubmitting it cannot help; a client drops
// its pending change and reports a bug.
//
//	<invalid-message xmlns='urn:xmpp:mls:errors:0' part='welcome' reason='it is for 2 key packages, the commit adds 3'/>
//
// Source: PROTOCOL.md §13.
type InvalidMessage struct {
	// Reason says in a few English words what is wrong, for humans: a program
	// looks at Part, Index and Rule.
	Reason string
	// Part names the element that held the object: message, welcome,
	// group-info, key-package. Empty means the only one.
	Part string
	// Index is which key package of a batch it is, from 0, if Part is
	// key-package. Elsewhere it is neither written nor read, and -1 after Parse.
	Index int
	// Rule is the rule that was broken, such as "RFC 9420 §7.3", empty if none
	// is named.
	Rule string
}

// partKeyPackage is the part of which there are several.
const partKeyPackage = "key-package"

func (e *InvalidMessage) Error() string {
	s := "The MLS message is not valid: " + e.Reason
	if e.Part != "" {
		s = "The " + e.Part + " is not valid: " + e.Reason
	}
	if e.Rule != "" {
		s += " (" + e.Rule + ")"
	}
	return s
}

func (*InvalidMessage) defined() (ErrorType, Condition) { return ErrorModify, BadRequest }

// Append appends the element.
func (e *InvalidMessage) Append(dst []byte) []byte {
	dst = open(dst, NSErrors, "invalid-message")
	dst = attr(dst, "reason", e.Reason)
	dst = attrOpt(dst, "part", e.Part)
	if e.Index >= 0 && e.Part == partKeyPackage {
		dst = attrUint(dst, "index", uint64(e.Index))
	}
	dst = attrOpt(dst, "rule", e.Rule)
	return append(dst, "/>"...)
}

// Parse reads the element.
func (e *InvalidMessage) Parse(el Element) error {
	d := expect(el, NSErrors, "invalid-message")
	d.noText()
	e.Reason = d.str("reason", MaxID, e.Reason)
	e.Part = d.strOpt("part", MaxID, e.Part)
	e.Rule = d.strOpt("rule", MaxID, e.Rule)
	e.Index = -1
	if _, ok := el.Attr("index"); ok && e.Part == partKeyPackage {
		e.Index = int(d.uint("index", MaxItems))
	}
	return d.err
}

// empty is the XML of the conditions without fields.
func appendEmpty(dst []byte, space, local string) []byte {
	return append(open(dst, space, local), "/>"...)
}

func parseEmpty(el Element, space, local string) error {
	d := expect(el, space, local)
	d.noText()
	return d.err
}

// GroupInfoMismatch refuses a commit whose GroupInfo does not describe the
// group that the commit makes: bad-request, modify. The client builds it again.
//
//	<group-info-mismatch xmlns='urn:xmpp:mls:errors:0'/>
//
// Source: PROTOCOL.md §13.
type GroupInfoMismatch struct{}

func (*GroupInfoMismatch) Error() string {
	return "The GroupInfo does not match the group after the commit"
}

func (*GroupInfoMismatch) defined() (ErrorType, Condition) { return ErrorModify, BadRequest }

// Append appends the element.
func (*GroupInfoMismatch) Append(dst []byte) []byte {
	return appendEmpty(dst, NSErrors, "group-info-mismatch")
}

// Parse reads the element.
func (*GroupInfoMismatch) Parse(el Element) error {
	return parseEmpty(el, NSErrors, "group-info-mismatch")
}

// MustCommit refuses a commit that leaves pending proposals out: policy-
// violation, modify. The client commits again with them.
//
//	<must-commit xmlns='urn:xmpp:mls:errors:0'>
//	  <proposal epoch='44' seq='1211' ref='…'>AAEAAQ…</proposal>
//	</must-commit>
//
// The bytes are inlined while they fit a page, as in [StaleEpoch].
//
// Source: PROTOCOL.md §8, §13; RFC 9420 §12.4.
type MustCommit struct {
	Proposals []PastEntry
}

func (e *MustCommit) Error() string {
	return fmt.Sprintf("The commit must include %d pending proposals", len(e.Proposals))
}

func (*MustCommit) defined() (ErrorType, Condition) { return ErrorModify, PolicyViolation }

// Refs returns the submission references of the proposals.
func (e *MustCommit) Refs() []Ref {
	refs := make([]Ref, len(e.Proposals))
	for i := range e.Proposals {
		refs[i] = e.Proposals[i].Ref
	}
	return refs
}

// Append appends the element.
func (e *MustCommit) Append(dst []byte) []byte {
	dst = append(open(dst, NSErrors, "must-commit"), '>')
	for i := range e.Proposals {
		dst = e.Proposals[i].append(dst, "proposal")
	}
	return end(dst, "must-commit")
}

// Parse reads the element.
func (e *MustCommit) Parse(el Element) error {
	d := expect(el, NSErrors, "must-commit")
	d.noText()
	e.Proposals = e.Proposals[:0]
	for c := el.First(); c.Valid(); c = c.Next() {
		if c.Is(NSErrors, "proposal") && d.room(len(e.Proposals), MaxRefs) {
			var p PastEntry
			p.parse(&d, c)
			e.Proposals = append(e.Proposals, p)
		}
	}
	if len(e.Proposals) == 0 {
		d.fail("no <proposal/>")
	}
	return d.err
}

// UnknownProposal refuses a commit that refers to proposals which the DS does
// not have: item-not-found, cancel. The client commits again with them by
// value.
//
//	<unknown-proposal xmlns='urn:xmpp:mls:errors:0'>
//	  <proposal ref='n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg='/>
//	</unknown-proposal>
//
// Here ref is the ProposalRef that the commit holds (RFC 9420 §5.2), as long
// as the hash of the cipher suite.
//
// Source: PROTOCOL.md §13.
type UnknownProposal struct {
	ProposalRefs [][]byte
}

func (e *UnknownProposal) Error() string {
	return fmt.Sprintf("The commit refers to %d proposals that are not pending here", len(e.ProposalRefs))
}

func (*UnknownProposal) defined() (ErrorType, Condition) { return ErrorCancel, ItemNotFound }

// Append appends the element.
func (e *UnknownProposal) Append(dst []byte) []byte {
	dst = append(open(dst, NSErrors, "unknown-proposal"), '>')
	for _, r := range e.ProposalRefs {
		dst = attrBase64(start(dst, "proposal"), "ref", r)
		dst = append(dst, "/>"...)
	}
	return end(dst, "unknown-proposal")
}

// Parse reads the element.
func (e *UnknownProposal) Parse(el Element) error {
	d := expect(el, NSErrors, "unknown-proposal")
	d.noText()
	e.ProposalRefs = e.ProposalRefs[:0]
	for c := el.First(); c.Valid(); c = c.Next() {
		if c.Is(NSErrors, "proposal") && d.room(len(e.ProposalRefs), MaxRefs) {
			cd := d.child(c)
			e.ProposalRefs = append(e.ProposalRefs, cd.base64("ref", MaxKeyPackageRef, nil))
			d.done(&cd)
		}
	}
	if len(e.ProposalRefs) == 0 {
		d.fail("no <proposal/>")
	}
	return d.err
}

// CredentialMismatch refuses an object whose credential names another user than
// the stanza's from: not-authorized, auth. It is a fault of configuration.
//
//	<credential-mismatch xmlns='urn:xmpp:mls:errors:0'/>
//
// Source: PROTOCOL.md §0.5, §13.
type CredentialMismatch struct{}

func (*CredentialMismatch) Error() string {
	return "The credential does not name the sender's address"
}

func (*CredentialMismatch) defined() (ErrorType, Condition) { return ErrorAuth, NotAuthorized }

// Append appends the element.
func (*CredentialMismatch) Append(dst []byte) []byte {
	return appendEmpty(dst, NSErrors, "credential-mismatch")
}

// Parse reads the element.
func (*CredentialMismatch) Parse(el Element) error {
	return parseEmpty(el, NSErrors, "credential-mismatch")
}

// NotAMember refuses a request of somebody who is not, or no longer, in the
// group: forbidden, auth.
//
//	<not-a-member xmlns='urn:xmpp:mls:errors:0' removed-seq='1208'/>
//
// Source: PROTOCOL.md §10, §13.
type NotAMember struct {
	// RemovedSeq is the log entry that removed the device, the last one it may
	// read. Zero means that it never was a member, or that this is not told.
	RemovedSeq uint64
}

func (e *NotAMember) Error() string {
	if e.RemovedSeq != 0 {
		return fmt.Sprintf("You were removed from the group by entry %d", e.RemovedSeq)
	}
	return "You are not a member of the group"
}

func (*NotAMember) defined() (ErrorType, Condition) { return ErrorAuth, Forbidden }

// Append appends the element.
func (e *NotAMember) Append(dst []byte) []byte {
	dst = attrUintOpt(open(dst, NSErrors, "not-a-member"), "removed-seq", e.RemovedSeq)
	return append(dst, "/>"...)
}

// Parse reads the element.
func (e *NotAMember) Parse(el Element) error {
	d := expect(el, NSErrors, "not-a-member")
	d.noText()
	e.RemovedSeq = d.uint64Opt("removed-seq")
	return d.err
}

// InsufficientAffiliation refuses what the sender's role does not allow:
// forbidden, auth.
//
//	<insufficient-affiliation xmlns='urn:xmpp:mls:errors:0' need='admin'/>
//
// Source: PROTOCOL.md §13.
type InsufficientAffiliation struct {
	// Need is the least role that may do it.
	Need Role
}

func (e *InsufficientAffiliation) Error() string {
	return "The request needs the affiliation " + string(e.Need)
}

func (*InsufficientAffiliation) defined() (ErrorType, Condition) { return ErrorAuth, Forbidden }

// Append appends the element.
func (e *InsufficientAffiliation) Append(dst []byte) []byte {
	dst = attr(open(dst, NSErrors, "insufficient-affiliation"), "need", string(e.Need))
	return append(dst, "/>"...)
}

// Parse reads the element.
func (e *InsufficientAffiliation) Parse(el Element) error {
	d := expect(el, NSErrors, "insufficient-affiliation")
	d.noText()
	e.Need = d.role("need")
	return d.err
}

// Unsupported refuses a cipher suite, extension, credential or feature that the
// DS or the group does not have: not-acceptable, modify.
//
//	<unsupported xmlns='urn:xmpp:mls:errors:0' what='cipher-suite' value='0x0005'/>
//
// Source: PROTOCOL.md §13.
type Unsupported struct {
	// What is the kind: cipher-suite, extension, credential, proposal,
	// wire-format, version.
	What string
	// Value is which one, usually a number of the form 0x0001. It may be empty.
	Value string
}

func (e *Unsupported) Error() string {
	return "The " + e.What + " " + e.Value + " is not supported here, see the limits in the service's disco#info"
}

func (*Unsupported) defined() (ErrorType, Condition) { return ErrorModify, NotAcceptable }

// Append appends the element.
func (e *Unsupported) Append(dst []byte) []byte {
	dst = open(dst, NSErrors, "unsupported")
	dst = attr(dst, "what", e.What)
	dst = attrOpt(dst, "value", e.Value)
	return append(dst, "/>"...)
}

// Parse reads the element.
func (e *Unsupported) Parse(el Element) error {
	d := expect(el, NSErrors, "unsupported")
	d.noText()
	e.What = d.str("what", MaxID, e.What)
	e.Value = d.strOpt("value", MaxID, e.Value)
	return d.err
}

// KeyPackagesExhausted refuses a claim that nobody can serve now: resource-
// constraint, wait.
//
//	<key-packages-exhausted xmlns='urn:xmpp:mls:errors:0'/>
//
// Source: PROTOCOL.md §13.
type KeyPackagesExhausted struct{}

func (*KeyPackagesExhausted) Error() string {
	return "No key packages are left, try again later"
}

func (*KeyPackagesExhausted) defined() (ErrorType, Condition) { return ErrorWait, ResourceConstraint }

// Append appends the element.
func (*KeyPackagesExhausted) Append(dst []byte) []byte {
	return appendEmpty(dst, NSErrors, "key-packages-exhausted")
}

// Parse reads the element.
func (*KeyPackagesExhausted) Parse(el Element) error {
	return parseEmpty(el, NSErrors, "key-packages-exhausted")
}

// TooLarge refuses what exceeds a size: not-acceptable, modify. The client uses
// pages or stages.
//
//	<too-large xmlns='urn:xmpp:mls:errors:0' max-bytes='49152'/>
//
// Source: PROTOCOL.md §13; the shape of XEP-0363 §5 file-too-large.
type TooLarge struct {
	MaxBytes uint64
}

func (e *TooLarge) Error() string {
	return fmt.Sprintf("The request is larger than %d bytes", e.MaxBytes)
}

func (*TooLarge) defined() (ErrorType, Condition) { return ErrorModify, NotAcceptable }

// Append appends the element.
func (e *TooLarge) Append(dst []byte) []byte {
	dst = attrUint(open(dst, NSErrors, "too-large"), "max-bytes", e.MaxBytes)
	return append(dst, "/>"...)
}

// Parse reads the element.
func (e *TooLarge) Parse(el Element) error {
	d := expect(el, NSErrors, "too-large")
	d.noText()
	e.MaxBytes = d.uint64("max-bytes")
	return d.err
}

// maxAfter is the longest wait that a peer may ask for: longer ones are a
// mistake or an attack, and would overflow a time.Duration.
const maxAfter = 366 * 24 * 3600

// seconds rounds up, so that nobody retries too early.
func seconds(d time.Duration) uint64 {
	return uint64(min(max((d+time.Second-1)/time.Second, 0), maxAfter))
}

// RetryAfter refuses a request over a rate or quota: resource-constraint, wait.
//
//	<retry xmlns='urn:xmpp:mls:errors:0' after='30'/>
//
// Source: PROTOCOL.md §13.
type RetryAfter struct {
	// After is how long to wait at least, in whole seconds on the wire.
	After time.Duration
}

func (e *RetryAfter) Error() string {
	return fmt.Sprintf("Too many requests, try again in %d seconds", seconds(e.After))
}

func (*RetryAfter) defined() (ErrorType, Condition) { return ErrorWait, ResourceConstraint }

// Append appends the element.
func (e *RetryAfter) Append(dst []byte) []byte {
	dst = attrUint(open(dst, NSErrors, "retry"), "after", seconds(e.After))
	return append(dst, "/>"...)
}

// Parse reads the element.
func (e *RetryAfter) Parse(el Element) error {
	d := expect(el, NSErrors, "retry")
	d.noText()
	e.After = time.Duration(d.uint("after", maxAfter)) * time.Second
	return d.err
}

// Maintenance refuses everything while the service drains or is worked on:
// resource-constraint, wait.
//
//	<maintenance xmlns='urn:xmpp:mls:errors:0' after='600'/>
//
// RFC 6120 §8.3.4 allows one application condition, so that the wait is an
// attribute of it.
//
// Source: PROTOCOL.md §13.
type Maintenance struct {
	// After is how long to wait at least, in whole seconds on the wire. Zero
	// means that it is not known.
	After time.Duration
}

func (e *Maintenance) Error() string {
	return "The service is under maintenance, try again later"
}

func (*Maintenance) defined() (ErrorType, Condition) { return ErrorWait, ResourceConstraint }

// Append appends the element.
func (e *Maintenance) Append(dst []byte) []byte {
	dst = attrUintOpt(open(dst, NSErrors, "maintenance"), "after", seconds(e.After))
	return append(dst, "/>"...)
}

// Parse reads the element.
func (e *Maintenance) Parse(el Element) error {
	d := expect(el, NSErrors, "maintenance")
	d.noText()
	e.After = time.Duration(d.uintOpt("after", maxAfter)) * time.Second
	return d.err
}

// HistoryGone refuses a log page that begins before what the DS keeps:
// item-not-found, cancel. The client rejoins by an external commit.
//
//	<history-gone xmlns='urn:xmpp:mls:errors:0' first='1300'/>
//
// Source: PROTOCOL.md §10, §13.
type HistoryGone struct {
	// First is the oldest seq that is kept.
	First uint64
}

func (e *HistoryGone) Error() string {
	return fmt.Sprintf("The log begins at entry %d, older ones are gone", e.First)
}

func (*HistoryGone) defined() (ErrorType, Condition) { return ErrorCancel, ItemNotFound }

// Append appends the element.
func (e *HistoryGone) Append(dst []byte) []byte {
	dst = attrUint(open(dst, NSErrors, "history-gone"), "first", e.First)
	return append(dst, "/>"...)
}

// Parse reads the element.
func (e *HistoryGone) Parse(el Element) error {
	d := expect(el, NSErrors, "history-gone")
	d.noText()
	e.First = d.uint64("first")
	return d.err
}

var _ = []AppCondition{
	(*StaleEpoch)(nil), (*FutureEpoch)(nil), (*InvalidMessage)(nil), (*GroupInfoMismatch)(nil),
	(*MustCommit)(nil), (*UnknownProposal)(nil), (*CredentialMismatch)(nil), (*NotAMember)(nil),
	(*InsufficientAffiliation)(nil), (*Unsupported)(nil), (*KeyPackagesExhausted)(nil), (*TooLarge)(nil),
	(*RetryAfter)(nil), (*Maintenance)(nil), (*HistoryGone)(nil),
}
