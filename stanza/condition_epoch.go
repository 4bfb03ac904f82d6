// SPDX-License-Identifier: Apache-2.0

package stanza

import (
	"fmt"
	"time"
)

// This file holds the conditions of those who are behind or ahead of the group.

// PastEntry is a log entry that a refusal tells of: a commit that won an epoch,
// or a proposal that is pending. Bytes holds its MLSMessage, and is empty when
// the entry did not fit: then the client fetches it from the log by Seq.
type PastEntry struct {
	Epoch, Seq uint64
	Ref        Ref
	// Chain is the chain value after the entry, zero if not told
	// (xep/mls-delivery.xml#chain).
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
// Source: xep/mls-delivery.xml#race; RFC 9420 §14.
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
// Source: xep/mls-delivery.xml#errors.
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

// HistoryGone refuses a log page that begins before what the DS keeps:
// item-not-found, cancel. The client rejoins by an external commit.
//
//	<history-gone xmlns='urn:xmpp:mls:errors:0' first='1300'/>
//
// Source: xep/mls-delivery.xml#gone.
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
