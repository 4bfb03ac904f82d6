// SPDX-License-Identifier: Apache-2.0

// Package loopback is an in-memory XMPP server: a test double for Prosody and
// ejabberd, and the stage that `lockstep demo` plays on.
//
// It is not a server to run for people. It keeps passwords in clear text and
// everything in memory, trusts whoever holds the [Server], and implements what
// the scenarios of this module need and no more: client streams with STARTTLS
// and SCRAM, resource binding, rosters, presence, the delivery rules of RFC
// 6121 §8.5 as real servers apply them, offline storage, carbons, a message
// archive, PEP, HTTP upload, a small MUC, external components (XEP-0114), and
// server-to-server traffic between instances of one [Network].
//
// Where Prosody and ejabberd differ, [Options.Flavour] chooses: what is bounced,
// what is stored, what closes a stream, which sizes and rates are allowed. The
// differences are one table, in flavour.go.
//
// # Faults
//
// [Server.Fault] adds a [Rule] that drops, delays, doubles, reorders, cuts or
// stalls stanzas on a link and a direction. Rules decide by a seed and by a
// stanza's number on its link, so a run does the same thing twice. Every
// stanza in both directions is kept in the wire log, [Server.Wire].
//
// Everything ends with [Server.Close]: listeners, streams and goroutines.
package loopback
