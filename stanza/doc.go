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
// # Contents
//
// The protocol is the three ProtoXEPs in xep/: mls.xml, mls-key-packages.xml and
// mls-delivery.xml. The types stand here in the order of their sections; an
// element's own documentation names the section, such as
// xep/mls-delivery.xml#commit.
//
// Identifiers (mls-delivery.xml, Conventions): [DeviceID], [Hash], [Ref],
// [MessageRef], [EntryKind]. What the GroupContext holds, and the chain over the
// log, are in package groupdata.
//
// Messages (mls.xml): [MLS], and inside the encryption [Envelope], [Content] with
// [Body], [OriginID], [Reply], [Correction], [Retraction], [Reactions],
// [ReceiptRequest], [Receipt], [Markable], [Displayed], [ChatState],
// [FileSharing], [TrustMessage], [Fallback].
//
// Key packages (mls-key-packages.xml): [PublishKeyPackages], [Published], [Stock],
// [RetractKeyPackages], [CountQuery], [Count], [ClaimKeyPackages], [Claimed],
// [ConsentQuery], [ConsentConfig], [Consent], [PEPKeyPackages]. All that follows is
// of mls-delivery.xml.
//
// Discovery: [DiscoInfoQuery], [DiscoInfo], [DiscoItemsQuery], [DiscoItems],
// [ServiceLimits], [DSPointer], [Publish], [PubSubItems], [PubSubEvent], [Caps].
//
// Sessions and group index: [Session], [Ready], [Resume], [GroupsQuery], [Groups].
//
// Creating a group: [ReserveGroup], [Reserved], [CreateGroup], [Created].
//
// Committing: [Commit], [MemberChanges], [Accepted], and for objects that do not
// fit a stanza [Stage], [StageQuery], [Staged], [Object].
//
// The state of a group: [GroupInfoQuery], [GroupInfo], [TreeQuery], [TreePage].
//
// Welcomes: [Welcome], [WelcomeQuery], [WelcomesQuery], [Welcomes], [Ack].
//
// Proposals and leaving: [Proposal], [Leave].
//
// Application messages and events: [Send], [Delivery], [Control], [StanzaID],
// [Encryption], [Hint], [Addresses].
//
// Catching up: [LogQuery], [Log], [Entry], [EntryQuery], [Ack].
//
// Affiliations, devices, configuration, ending: [AffiliationsQuery],
// [Affiliations], [Affiliation], [DevicesQuery], [Devices], [ConfigQuery],
// [Config], [GroupConfig], [Destroy], [Destroyed], [ReInitNotice].
//
// Calling the absent: [Nudge], [NudgesQuery], [Nudges].
//
// Blocking, reports, commands: [Block], [Unblock], [BlockListQuery], [BlockList],
// [Report], [Command].
//
// Errors: [Error], and its application conditions [StaleEpoch], [FutureEpoch],
// [InvalidMessage], [GroupInfoMismatch], [MustCommit], [UnknownProposal],
// [CredentialMismatch], [NotAMember], [InsufficientAffiliation], [Unsupported],
// [KeyPackagesExhausted], [TooLarge], [RetryAfter], [Maintenance], [HistoryGone].
//
// Elsewhere: [Ping], [VersionQuery], [Version], [TimeQuery], [EntityTime],
// [Delay], [UploadRequest], [UploadSlot], [Form], [PageQuery], [Page].
//
// Elements and attributes that a type does not know are ignored, so that the
// protocol can grow.
package stanza
