// SPDX-License-Identifier: Apache-2.0

package stanza

import "fmt"

// This file holds the conditions about the proposals that a commit covers.

// MustCommit refuses a commit that leaves pending proposals out: policy-
// violation, modify. The client commits again with them.
//
//	<must-commit xmlns='urn:xmpp:mls:errors:0'>
//	  <proposal epoch='44' seq='1211' ref='…'>AAEAAQ…</proposal>
//	</must-commit>
//
// The bytes are inlined while they fit a page, as in [StaleEpoch].
//
// Source: xep/mls-delivery.xml#proposals; RFC 9420 §12.4.
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
	for c := range d.list(NSErrors, "proposal", MaxRefs) {
		var p PastEntry
		p.parse(&d, c)
		e.Proposals = append(e.Proposals, p)
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
// Source: xep/mls-delivery.xml#proposals.
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
	dst = appendRefs(dst, "proposal", e.ProposalRefs)
	return end(dst, "unknown-proposal")
}

// Parse reads the element.
func (e *UnknownProposal) Parse(el Element) error {
	d := expect(el, NSErrors, "unknown-proposal")
	d.noText()
	e.ProposalRefs = d.refs(NSErrors, "proposal", MaxRefs, e.ProposalRefs[:0])
	if len(e.ProposalRefs) == 0 {
		d.fail("no <proposal/>")
	}
	return d.err
}
