// SPDX-License-Identifier: Apache-2.0

// Package stanza is the wire of lockstep: a type for each XML payload of MLS
// over XMPP, with fast encoding and strict decoding. It knows no MLS: MLS
// objects are bytes.
//
// # Using it
//
// Every payload has Append, which appends its XML to a buffer, and Parse, which
// reads it from an [Element]. See [Payload] for what Parse refuses.
//
//	h := stanza.Header{Kind: stanza.IQ, Type: stanza.TypeSet, ID: "c1", To: "ops@mls.example.org"}
//	buf = h.Append(buf[:0], &stanza.Commit{Epoch: 42, Ref: stanza.MessageRef(msg), Message: stanza.Object{Bytes: msg}})
//
// A received stanza is parsed once, by a [Parser], into a [Stanza]; whoever
// knows its name parses its payload:
//
//	s, err := parser.Parse(raw)
//	el, err := s.Payload()
//	if el.Is(stanza.NSDelivery, "commit") {
//		c, err := stanza.Parse[stanza.Commit](el)
//	}
//
// Answers are made with [AppendResult] and [AppendError]; a handler returns an
// error, and [AsError] finds what to tell the peer. On the other side
// [Stanza.Err] gives an [*Error], in which errors.As finds the application
// condition. Fan-out to many recipients uses a [Template].
//
// The XML beneath, with a reader of streams that survives hostile stanzas, is
// package xmlpull.
//
// # Contents, by section of the protocol
//
// Identifiers (§0): [DeviceID], [Hash], [Ref], [MessageRef], [EntryKind]. What
// the GroupContext holds, and the chain over the log, are in package groupdata.
//
// Discovery (§1): [DiscoInfoQuery], [DiscoInfo], [DiscoItemsQuery], [DiscoItems],
// [ServiceLimits], [DSPointer], [PEPKeyPackages], [Publish], [PubSubItems],
// [PubSubEvent], [Caps].
//
// Key packages (§2): [PublishKeyPackages], [Published], [Stock],
// [RetractKeyPackages], [CountQuery], [Count], [ClaimKeyPackages], [Claimed],
// [ConsentQuery], [ConsentConfig], [Consent].
//
// Session and group index (§3): [Session], [Ready], [GroupsQuery], [Groups].
//
// Creating groups (§4): [ReserveGroup], [Reserved], [CreateGroup], [Created].
//
// Commits (§5, §11): [Commit], [MemberChanges], [Accepted], and for what is too
// large for a stanza [Stage], [StageQuery], [Staged], [Object].
//
// State for joiners (§6): [GroupInfoQuery], [GroupInfo], [TreeQuery], [TreePage].
//
// Welcomes (§7): [Welcome], [WelcomeQuery], [WelcomesQuery], [Welcomes], [Ack].
//
// Proposals and leaving (§8): [Proposal], [Leave].
//
// Application messages (§9): [Send], [MLS], [Delivery], [Control], [StanzaID],
// [Encryption], [Hint], [Addresses], and for the absent [Nudge], [NudgesQuery],
// [Nudges]. Inside the encryption: [Envelope], [Content] with [Body],
// [OriginID], [Reply], [Correction], [Retraction], [Reactions],
// [ReceiptRequest], [Receipt], [Markable], [Displayed], [ChatState],
// [FileSharing], [TrustMessage], [Fallback].
//
// Catching up (§10): [LogQuery], [Log], [Entry], [EntryQuery], [Ack].
//
// Administration (§12): [AffiliationsQuery], [Affiliations], [Affiliation],
// [DevicesQuery], [Devices], [ConfigQuery], [Config], [GroupConfig], [Destroy],
// [Destroyed], [ReInitNotice], [Command], [Block], [Unblock], [BlockListQuery],
// [BlockList], [Report].
//
// Errors (§13): [Error], and its application conditions [StaleEpoch],
// [FutureEpoch], [InvalidMessage], [GroupInfoMismatch], [MustCommit],
// [UnknownProposal], [CredentialMismatch], [NotAMember],
// [InsufficientAffiliation], [Unsupported], [KeyPackagesExhausted], [TooLarge],
// [RetryAfter], [Maintenance], [HistoryGone].
//
// After a restart (§15): [Resume].
//
// Elsewhere: [Ping], [VersionQuery], [Version], [TimeQuery], [EntityTime],
// [Delay], [UploadRequest], [UploadSlot], [Form], [PageQuery], [Page].
//
// Elements and attributes that a type does not know are ignored, so that the
// protocol can grow. Section numbers are those of PROTOCOL.md, the draft of
// the ProtoXEPs in xep/.
package stanza
