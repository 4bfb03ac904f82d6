// SPDX-License-Identifier: Apache-2.0

// Package xmlpull reads and writes the subset of XML that XMPP uses (RFC 6120
// §11), fast and strictly.
//
// Three readers, from the wire up:
//
//   - [Splitter] cuts a stream from an [io.Reader] into the bytes of one
//     top-level element (a stanza) at a time, with a size limit that holds
//     before anything is parsed. A stanza that is too large is skipped and
//     reported; the stream goes on.
//   - [Reader] is a pull tokenizer over the bytes of one stanza. It checks
//     well-formedness, namespaces, duplicate attributes, entities, characters,
//     depth and counts; it refuses DTDs, processing instructions and comments
//     (RFC 6120 §11.1).
//   - [Doc] holds one fully checked stanza as a tree of [Element] handles, so
//     that nothing acts on the first half of a stanza whose second half is
//     broken.
//
// and one writer: functions that append escaped text and attributes to a
// caller's buffer.
//
// Names, attribute values and text are returned as byte slices that alias the
// input or the reader's scratch space: they are valid until the next Reset or
// Parse of the same reader, and as long as the caller leaves the input alone.
// In the steady state, when buffers have grown to their working size, neither
// reading nor writing allocates.
//
// The types in this package are not safe for concurrent use.
package xmlpull
