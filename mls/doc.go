// SPDX-License-Identifier: Apache-2.0

// Package mls implements Messaging Layer Security (MLS), the group key
// agreement and message protection protocol of RFC 9420, and of
// draft-ietf-mls-extensions what applications build on: SelfRemove,
// AppDataUpdate with app_data_dictionary, required components, the safe
// exporter, safe AAD and last-resort key packages.
//
// # Model
//
// A [Group] is one client's view of a group and holds its secrets. A
// [PublicGroup] is an outsider's view: it checks proposals and commits but
// cannot read or send. A delivery service needs only the latter. Both check the
// same rules with the same code; [Rules] lists them all.
//
// A group goes from epoch to epoch. A commit ends an epoch: it adds and removes
// members, renews keys, or changes what the group has agreed on (its
// [GroupContext]). All members must process the same commits in the same order,
// which is for the delivery service to decide. Proposals suggest changes for
// somebody to commit; until then [Group.Seal] refuses to send
// ([ErrPendingProposals]). Application messages are encrypted to the members of
// the epoch in which they are sent.
//
// Who joins publishes a [KeyPackage] beforehand, or joins by itself with
// [JoinExternal] if the group hands out a GroupInfo that allows it.
//
// # Life of a group
//
//	kp, err := mls.NewKeyPackage(cfg, suite, romeo, nil)           // romeo publishes kp.KeyPackage
//	g, err := mls.NewGroup(cfg, suite, id, juliet, nil)            // juliet
//	p, err := g.Commit(&mls.CommitOptions{Add: ..., InlineTree: true})
//	... send p.Message(); once it was accepted, send p.Welcome() ...
//	g, err = p.Merge()
//	h, err := mls.Join(cfg, welcome, kp, nil)                      // romeo
//	m, err := g.Seal([]byte("hello"), nil)
//	r, err := h.Process(m)                                         // r is an *ApplicationMessage
//
// Commits are two-step because another commit may win the epoch (RFC 9420 §14):
// [Group.Commit] returns a [PendingCommit] and leaves the group unchanged; call
// [PendingCommit.Merge] once the delivery service has accepted it. What others
// send is staged by [Group.Process], shows what it would do, and takes effect by
// the Merge of the result. Groups are values: a merge gives the next one in
// logarithmic time, and the old one stays valid until it is forgotten.
// [Group.Prepare] opens many application messages on all cores before they are
// processed.
//
// # Storage
//
// [Group.Delta] returns the rows that changed since it was last called: about a
// hundred octets for a message, a few kilobytes for a commit. Write them in one
// transaction before what they belong to is sent or shown. Message keys that were
// used are in none of them. [LoadRows] restores the group; [Group.Save] and [Load]
// do the same in one piece.
//
// # What the application decides
//
// An [Authenticator] says whether a credential is true, and who may take whose
// place: without one, every credential is believed. A [Policy] sees each change
// whole before it is staged, on members and on the delivery service alike.
// [Limits] bound what strangers can make a client do.
//
// # Errors
//
// What breaks a rule is a *[ValidationError] with the [Rule]. [Retryable] tells
// whether the same message may succeed later. After any error the group is as it
// was before.
//
// # Concurrency
//
// The package does no I/O and starts no goroutine that outlives a call; long
// computations use all cores. A [Group], and the Groups that come from it, must
// not be used concurrently. [PublicGroup], [Config], keys and decoded messages
// are immutable and may be shared.
//
// # Not implemented
//
// Of RFC 9420 nothing is missing. Post-quantum cipher suites are those of a draft:
// they have provisional numbers and are off unless [Config] lists them. Go
// cannot promise that a wiped secret has left no copy in memory.
package mls
