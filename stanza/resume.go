// SPDX-License-Identifier: Apache-2.0

package stanza

// Resume asks a client to open its session again: the payload of a headline
// message that a restarted DS sends to each session it remembers. The client
// answers with a [Session] and catches up.
//
//	<resume xmlns='urn:xmpp:mls:ds:0'/>
//
// Source: xep/mls-delivery.xml#resume.
type Resume struct{}

// Append appends the element.
func (*Resume) Append(dst []byte) []byte { return appendEmpty(dst, NSDelivery, "resume") }

// Parse reads the element.
func (*Resume) Parse(el Element) error { return parseEmpty(el, NSDelivery, "resume") }
