// SPDX-License-Identifier: Apache-2.0

// Package client gives a Go program end-to-end encrypted groups on XMPP: MLS
// (RFC 9420), ordered by a lockstep delivery service beside the user's own
// server.
//
//	bot, err := client.New(client.Config{JID: "nurse@capulet.lit", Password: password})
//	bot.OnMessage(func(ctx context.Context, m *client.Message) {
//		m.Reply(ctx, "you said "+m.Body)
//	})
//	err = bot.Run(ctx)
//
// A program that already runs a mellium session uses that instead: see
// [Client.RunSession].
//
// # What is promised
//
// The process may be killed at any instant. A message whose Send has returned
// is in the group's log; one that was sealed and not yet accepted is sent after
// the restart; no message key is ever used twice. A message that was received
// is handed to the handler at least once, with the same [Message.ID] each time,
// in the order of the group's log; it counts as delivered when the handler
// returns before Close is called.
//
// All this rests on the store: give each device its own, on a disk that keeps
// what it has synced, and do not restore a backup over a used one. If that
// happens all the same it is noticed, told by a [RollbackDetected] event, and
// healed by coming back into each group with new keys.
//
// # Handlers
//
// Each group has its own goroutine for its handlers, which may take their time
// and call any method, also those of the same group. While a handler is slow its
// messages wait in the store.
//
// # Whom to trust
//
// A credential binds a key to an account by the word of the account's server
// and of the delivery service. What neither can do is hide a change: every
// device that joins or leaves, every key that changes is an [Event]. People
// make sure by comparing safety numbers ([Client.SafetyNumber]), scanning codes
// ([Client.URI]) or reading fingerprints; a [TrustPolicy] says what happens
// before they have.
//
// The delivery service orders and keeps messages it cannot read. Members state
// in every message how far they have verified the log, so that a service that
// drops, reorders or shows two histories is exposed by ordinary traffic:
// [ForkDetected], [RollbackDetected] and [Misbehaved] carry the evidence.
//
// # Files
//
// client.go, session.go, link.go, stream.go, iq.go and adopt.go keep the connection;
// router.go sorts what arrives; receive.go and sync.go follow the log, handshake.go
// its commits, seen.go its copies; send.go and commit.go write to it, outbox.go and
// submit.go see it through; join.go, invite.go, membership.go and recover.go come, go
// and come back; reinit.go and successor.go take a group to another suite; trust.go,
// trustmessage.go, identity.go and policy.go judge, and report.go tells the operator;
// clock.go says when a clock is wrong; own.go, keypackage.go and pep.go keep this
// device's keys; batch.go, written.go, row.go, deliver.go and intent.go see to it
// that nothing is lost, closed.go that nothing happens after Close.
package client
