// SPDX-License-Identifier: Apache-2.0

package stanza

import (
	"fmt"
	"time"
)

// This file holds the conditions about what there is too much or too little of.

// TooLarge refuses what exceeds a size: not-acceptable, modify. The client uses
// pages or stages.
//
//	<too-large xmlns='urn:xmpp:mls:errors:0' max-bytes='49152'/>
//
// Source: xep/mls-delivery.xml#errors; the shape of XEP-0363 §5 file-too-large.
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
// Source: xep/mls-delivery.xml#errors.
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
// Source: xep/mls-delivery.xml#errors.
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

// KeyPackagesExhausted refuses a claim that nobody can serve now: resource-
// constraint, wait.
//
//	<key-packages-exhausted xmlns='urn:xmpp:mls:errors:0'/>
//
// Source: xep/mls-delivery.xml#errors.
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
