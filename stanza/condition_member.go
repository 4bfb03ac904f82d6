// SPDX-License-Identifier: Apache-2.0

package stanza

import "fmt"

// This file holds the conditions about what the sender is to the group.

// NotAMember refuses a request of somebody who is not, or no longer, in the
// group: forbidden, auth.
//
//	<not-a-member xmlns='urn:xmpp:mls:errors:0' removed-seq='1208'/>
//
// Source: xep/mls-delivery.xml#log.
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
// Source: xep/mls-delivery.xml#errors.
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
