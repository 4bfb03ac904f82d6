// SPDX-License-Identifier: Apache-2.0

// Package component is an MLS delivery service for XMPP, run as an external
// component (XEP-0114) of the Prosody or ejabberd that somebody already runs.
//
// It stores key packages, decides which commit ends each epoch, and delivers
// messages in order. It sees who is in a group and when they speak; it never
// holds a key that reads what they say, and it cannot forge a member: it knows a
// group only as an mls.PublicGroup.
//
//	st, err := sqlite.Open(ctx, "lockstep.db", sqlite.Options{})
//	svc, err := component.New(component.Config{
//		Domain: "mls.capulet.lit", Secret: secret, Address: "localhost:5347", Store: st,
//	})
//	err = svc.Run(ctx)
//
// # What holds
//
//   - The log is the truth. Each group has one log, whose entries are numbered
//     without gaps and chained by hashes. A live delivery is only a hint that
//     an entry is there; every loss is repaired from the log.
//   - Persist, then answer, then fan out. What was answered is durable, and the
//     same bytes submitted again get the same answer.
//   - One commit ends an epoch. Everything is checked against one revision of
//     the group and written only if the group still has it, by whatever
//     process.
//   - Each request has exactly one answer, and a refusal says how to cure it.
//   - Nothing that a stranger sends ends the link, blocks others, or allocates
//     more than limits.go allows.
//
// A stanza comes in through link.go, is given to a handler by router.go, and,
// if it changes a group, runs in that group's own goroutine (group.go).
// The verbs of the protocol are in files of their names.
package component
