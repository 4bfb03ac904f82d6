// SPDX-License-Identifier: Apache-2.0

package stanza

// Limits on what a payload may hold. They bound memory and work per stanza
// beyond what the size of the stanza itself does; a payload over a limit is
// refused by Parse with a [*SyntaxError].
const (
	// MaxJID is the longest JID in bytes: three parts of 1,023 bytes and two
	// separators (RFC 7622 §3.1).
	MaxJID = 3071
	// MaxID is the longest identifier in bytes: stanza ids, upload ids, claim
	// ids, form field names.
	MaxID = 1023
	// MaxText is the longest human-readable text in bytes.
	MaxText = 64 << 10
	// MaxRefs is the number of references in one error.
	MaxRefs = 4096
	// MaxItems is the number of children of one kind in one payload: key
	// packages, users, log entries, members, form values.
	MaxItems = 16384
	// MaxKeyPackageRef is the longest KeyPackageRef or ProposalRef in bytes:
	// the hash of the largest suites, SHA-512 (RFC 9420 §5.2).
	MaxKeyPackageRef = 64
	// PageBytes is the default size of a page, in bytes before base64
	// (xep/mls-delivery.xml#limits).
	PageBytes = 48 << 10
)
