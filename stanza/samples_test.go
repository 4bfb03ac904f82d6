// SPDX-License-Identifier: Apache-2.0

package stanza

import "time"

var (
	devA   = DeviceID{0x5d, 0x41, 0x40, 0x2a, 0xbc, 0x4b, 0x2a, 0x76, 0xb9, 0x71, 0x9d, 0x91, 0x10, 0x17, 0xc5, 0x92}
	devB   = DeviceID{0x7d, 0x79, 0x30, 0x37, 0xa0, 0x76, 0x01, 0x86, 0x57, 0x4b, 0x02, 0x82, 0xf2, 0xf4, 0x35, 0xe7}
	refA   = MessageRef([]byte("a"))
	refB   = MessageRef([]byte("b"))
	blob   = []byte{0, 1, 0, 1, 0xff, 0xfe, 'x'}
	kpRef  = []byte("0123456789abcdef0123456789abcdef")
	kpRef2 = []byte("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")
	stamp  = time.Date(2026, 8, 20, 9, 15, 0, 123e6, time.UTC)
	date   = time.Date(2026, 8, 20, 9, 15, 0, 0, time.UTC)
)

func ptr[T any](v T) *T { return &v }

// samples has values of every payload type that together set every field. The
// tests round-trip and mutate them.
func samples() []Payload {
	page := &Page{First: "a", Last: "b", Index: ptr(uint32(0)), Count: ptr(uint32(2))}
	query := &PageQuery{Max: ptr(uint32(20)), After: "juliet@capulet.lit"}
	form := Form{
		Type: FormForm, Title: "t<>", Instructions: []string{"i1", "i2"},
		Fields: []Field{
			{Var: "FORM_TYPE", Type: FieldHidden, Values: []string{"urn:example"}},
			{Var: "v", Type: FieldListMulti, Label: "l", Desc: "d", Required: true, Values: []string{"1", ""}, Options: []Option{{"One", "1"}, {"", "2"}}},
			{Type: FieldFixed, Values: []string{"text"}}, {Type: FieldFixed, Values: []string{"more"}},
		},
	}
	past := []PastEntry{{Epoch: 42, Seq: 1208, Ref: refA, Chain: refB, Stamp: stamp, Bytes: blob}, {Epoch: 43, Seq: 1210, Ref: refB}}
	return []Payload{
		&DiscoInfoQuery{Node: "n"},
		&DiscoInfo{Node: "n", Identities: []Identity{DSIdentity, {Category: "client", Type: "bot", Lang: "de"}}, Features: []string{NSDelivery, NSPing}, Forms: []Form{form}},
		&DiscoItemsQuery{Node: "n", Page: query},
		&DiscoItems{Node: "n", Items: []DiscoItem{{JID: "mls.example", Node: "x", Name: "MLS"}, {JID: "a.example"}}, Page: page},
		&Publish{Node: NSDelivery, Item: PubSubItem{ID: "current", Payload: Raw(`<ds xmlns='urn:xmpp:mls:ds:0' jid='mls.example'/>`)}, Options: OpenNode()},
		&PubSubItems{Node: NSDelivery, Items: []PubSubItem{{ID: "current", Payload: Raw(`<ds xmlns='urn:xmpp:mls:ds:0' jid='mls.example'/>`)}, {ID: "x"}}},
		&PubSubEvent{Node: NSDelivery, Items: []PubSubItem{{ID: "current", Payload: Raw(`<ds xmlns='urn:xmpp:mls:ds:0' jid='mls.example'/>`)}}, Retracted: []string{"old"}},
		&DSPointer{JID: "mls.example"},
		&PEPKeyPackages{Device: devA, KeyPackages: []KeyPackage{{Bytes: blob, LastResort: true}}},

		&PublishKeyPackages{Device: devA, KeyPackages: []KeyPackage{{Bytes: blob}, {Bytes: blob[:1], LastResort: true}}},
		&Published{Stock{Device: devA, Available: 50, LastResort: true, LastResortUsed: 2, Target: 50}},
		&Stock{Device: devA, Available: 3, LastResort: true, LastResortUsed: 1, Target: 50},
		&RetractKeyPackages{Device: devA, Refs: [][]byte{kpRef, kpRef2}},
		&CountQuery{},
		&Count{Devices: []DeviceCount{{ID: devA, Available: 37, LastResort: true, Expires: date, Seen: date}, {ID: devB}}},
		&ClaimKeyPackages{
			ClaimID: "0f8fad5b", For: "ops@mls.example", CipherSuite: 0xf001, Users: []ClaimUser{{JID: "carol@other.example"}, {JID: "dave@other.example", Devices: []DeviceID{devA, devB}}},
			Extensions: []uint16{0xf001, 2}, Proposals: []uint16{8}, Credentials: []uint16{1}, After: "bob@other.example",
		},
		&Claimed{ClaimID: "0f8fad5b", More: true, Users: []ClaimedUser{
			{JID: "carol@other.example", Status: ClaimPartial, Devices: []ClaimedDevice{
				{ID: devA, KeyPackage: KeyPackage{Bytes: blob, LastResort: true}}, {ID: devB, Status: ClaimExhausted},
			}},
			{JID: "dave@other.example", Status: ClaimUnavailable},
		}},
		&ConsentQuery{},
		&ConsentConfig{Form: form},

		&Session{Device: devA},
		&Ready{Device: devA, Stock: &Stock{Device: devA, Available: 37, LastResort: true, Target: 50}},
		&GroupsQuery{Device: devA, Page: query},
		&Groups{Items: []GroupItem{
			{JID: "ops@mls.example", Epoch: 43, Head: 1211, Affiliation: RoleMember, InTree: true, Private: true},
			{JID: "chat@mls.other.example", Remote: true, Welcome: true},
		}, Page: page},
		&ReserveGroup{Local: "ops"},
		&Reserved{JID: "ops@mls.example", Expires: date},
		&CreateGroup{Local: "ops", GroupInfo: Object{Bytes: blob}, Previous: []byte("old"), Config: ptr(Form{Type: FormSubmit, Fields: []Field{{Var: "a", Values: []string{"b"}}}})},
		&CreateGroup{Local: "ops", GroupInfo: Object{Stage: "u-1"}},
		&Created{JID: "ops@mls.example", Epoch: 1, Seq: 2, Chain: refA},
		&Commit{Epoch: 42, Ref: refA, External: true, Message: Object{Bytes: blob}, Welcome: Object{Stage: "u-7f3a"}, GroupInfo: Object{Bytes: blob}, Members: &MemberChanges{
			Added:   []MemberChange{{JID: "carol@other.example", Device: devA, KeyPackageRef: kpRef}},
			Removed: []MemberChange{{JID: "dave@other.example", Device: devB}},
		}},
		&Accepted{Seq: 1208, Epoch: 43, ID: "5f3dbc5e", Ref: refA, Chain: refB, Stamp: stamp},
		&StageQuery{ID: "u-7f3a"},
		&Stage{ID: "u-7f3a", Part: StageWelcome, Offset: 10, Total: 131072, SHA256: refA, Bytes: blob},
		&Staged{ID: "u-7f3a", Offset: 17, Total: 131072, Expires: date},
		&GroupInfoQuery{Epoch: ptr(uint64(43)), Offset: 7, MaxBytes: 1000},
		&GroupInfo{Epoch: 43, Seq: 1211, Chain: refB, TreeBytes: 812345, TreeSHA256: refA, TreeURL: "https://mls.example/t?a=1&b=2", Bytes: blob, Offset: 7, Total: 14},
		&TreeQuery{Epoch: 43, Offset: 7, MaxBytes: 32768},
		&TreePage{Epoch: 43, Offset: 7, Total: 14, Bytes: blob},
		&WelcomeQuery{KeyPackageRef: kpRef, Offset: 7, MaxBytes: 1000},
		&Welcome{Group: "ops@mls.example", Epoch: 43, Seq: 1208, KeyPackageRef: kpRef2, Inviter: "alice@example.org", User: "carol@other.example", Bytes: blob, Offset: 7, Total: 14},
		&Welcome{Group: "ops@mls.example", Epoch: 43, Seq: 1208, KeyPackageRef: kpRef},
		&WelcomesQuery{Device: devA, Page: query},
		&Welcomes{Items: []Welcome{{Group: "ops@mls.example", Epoch: 43, Seq: 1208, KeyPackageRef: kpRef, Inviter: "alice@example.org"}}, Page: page},
		&Proposal{Epoch: 43, Ref: refA, Bytes: blob},
		&Leave{Device: devA, Proposals: []Proposal{{Epoch: 43, Ref: refA, Bytes: blob}}},
		&Send{Epoch: 43, Ref: refA, Ephemeral: true, Message: MLS{Bytes: blob}},
		&MLS{Bytes: blob},
		&Delivery{Seq: 1212, Epoch: 43, Kind: EntryApplication, Chain: refA, Stamp: stamp, Size: 131072},
		NewControl(&Affiliation{ID: "71c0d5d9", JID: "mallory@example.org", Affiliation: RoleOutcast, Reason: "spam"}),
		&Nudge{},
		&NudgesQuery{},
		&Nudges{Mode: NudgeHeadline, Muted: []string{"alerts@mls.example"}},
		&LogQuery{Device: devA, After: 1207, Max: 200, MaxBytes: 49152, Ack: 1207},
		&Log{Epoch: 44, Head: 1342, Complete: true, Entries: []Entry{
			{Seq: 1208, Epoch: 42, Kind: EntryCommit, Stamp: stamp, Bytes: blob, Chain: refB},
			{Seq: 1209, Epoch: 43, Kind: EntryApplication, ID: "8c7e", Stamp: stamp, Bytes: blob},
			{Seq: 1210, Epoch: 43, Kind: EntryProposal, Stamp: stamp, Size: 131072, SHA256: refA},
			{Seq: 1211, Epoch: 43, Kind: EntryControl, Stamp: stamp, Gone: true, SHA256: refA},
		}, Page: &Page{First: "1208", Last: "1211"}},
		&EntryQuery{Seq: 1209, Offset: 7, MaxBytes: 1000, Device: devA},
		&Entry{Seq: 1210, Epoch: 43, Kind: EntryProposal, ID: "x", Chain: refA, Stamp: stamp, Bytes: blob, Size: 14, Offset: 7, SHA256: refB},
		&Entry{Seq: 1210, Epoch: 43, Kind: EntryApplication, Stamp: stamp, Gone: true, SHA256: refB},
		&Ack{Device: devA, Seq: 1209},
		&Ack{Device: devA, KeyPackageRef: kpRef},
		&DevicesQuery{Page: query},
		&Devices{Items: []Device{{ID: devA, JID: "juliet@capulet.lit", Leaf: ptr(uint32(0)), Acked: 1207, Live: true, Seen: date}, {ID: devB}}, Page: page},
		&AffiliationsQuery{Affiliation: RoleAdmin, Page: query},
		&Affiliations{Items: []Affiliation{{JID: "juliet@capulet.lit", Affiliation: RoleOwner, Devices: 2}, {JID: "mallory@example.org", Affiliation: RoleOutcast, Reason: "spam"}}, Page: page},
		&Affiliation{ID: "71c0d5d9", JID: "mallory@example.org", Affiliation: RoleVisitor, Devices: 1, Reason: "spam & ham"},
		&ConfigQuery{},
		&Config{Form: form},
		&Destroy{JID: "ops2@mls.example", Reason: "moved"},
		&Destroyed{JID: "ops2@mls.example", Reason: "moved"},
		&ReInitNotice{Previous: []byte("old"), GroupID: []byte("new")},
		&Report{Kind: ReportAbuse, Seq: 1212, Epoch: 43, Ref: refA, User: "mallory@example.org", Reason: ReasonSpam, Text: "sells pills", Evidence: []Evidence{{Type: "message", Bytes: blob}, {Type: "plaintext", Bytes: blob}}},
		&Resume{},
		&Block{JIDs: []string{"mallory@example.org", "bad.example"}},
		&Unblock{JIDs: []string{"mallory@example.org"}},
		&BlockListQuery{},
		&BlockList{JIDs: []string{"mallory@example.org"}},
		&Command{Node: NodeStats, SessionID: "s1", Action: ActionNext, Status: StatusExecuting, Actions: []string{ActionPrev, ActionComplete}, Execute: ActionComplete,
			Form:  ptr(Form{Type: FormResult, Reported: []Field{{Var: "a"}}, Items: [][]Field{{{Var: "a", Values: []string{"1"}}}, {{Var: "a", Values: []string{"2"}}}}}),
			Notes: []CommandNote{{Type: "warn", Text: "w"}, {Text: "i"}}},

		&StaleEpoch{Submitted: 42, Current: 44, Head: 1211, Commits: past, Proposals: past[:1], More: true},
		&FutureEpoch{Submitted: 45, Current: 44, Head: 1211},
		&InvalidMessage{Reason: "signature", Part: "key-package", Index: 2, Rule: "RFC 9420 §7.3"},
		&GroupInfoMismatch{},
		&MustCommit{Proposals: past},
		&UnknownProposal{ProposalRefs: [][]byte{kpRef, kpRef2}},
		&CredentialMismatch{},
		&NotAMember{RemovedSeq: 1208},
		&InsufficientAffiliation{Need: RoleAdmin},
		&Unsupported{What: "cipher-suite", Value: "0x0005"},
		&KeyPackagesExhausted{},
		&TooLarge{MaxBytes: 49152},
		&RetryAfter{After: 30 * time.Second},
		&Maintenance{After: 600 * time.Second},
		&HistoryGone{First: 1300},

		&Ping{},
		&VersionQuery{},
		&Version{Name: "lockstep", Version: "0.1.0", OS: "Plan 9"},
		&TimeQuery{},
		&EntityTime{Time: date},
		&UploadRequest{Filename: "file", Size: 23456, ContentType: "application/octet-stream"},
		&UploadSlot{Put: "https://up.example/x", Get: "https://down.example/x", Headers: []UploadHeader{{"Authorization", "Basic Base64String=="}, {"Expires", "0"}}},
		&Caps{Hash: "sha-1", Node: "https://example.org/bot", Ver: "QgayPKawpkPSDYmwT/WM94uAlu0="},
		&Delay{From: "capulet.lit", Stamp: date, Reason: "offline"},
		&Addresses{Addresses: []Address{{Type: "bcc", JID: "juliet@capulet.lit/balcony", Delivered: true}, {Type: "bcc", JID: "romeo@montague.lit/orchard"}}},
		&StanzaID{By: "ops@mls.example", ID: "5f3dbc5e"},
		ptr(EncryptedMLS),
		ptr(HintStore), ptr(HintNoStore), ptr(HintNoPermanentStore), ptr(HintNoCopy),
		&form,

		&Envelope{Content: []byte(`<body xmlns='jabber:client'>disk full</body>`), From: "alice@example.org", To: "ops@mls.example", Time: date, Pad: "xyz"},
		&Body{Text: "disk <full> & \"such\"", Lang: "en"},
		&OriginID{ID: "01J5QZ3W6V8H"},
		&Fallback{For: NSReply, Body: &FallbackRange{Start: 3, End: 33}},
		&Fallback{For: NSDelivery, Body: &FallbackRange{Whole: true}},
		&Reply{To: "juliet@capulet.lit", ID: "01J5"},
		&Reactions{ID: "01J5", Reactions: []string{"👋", "🐢"}},
		&Correction{ID: "01J5"},
		&Retraction{ID: "01J5"},
		&ReceiptRequest{},
		&Receipt{ID: "01J5"},
		&Markable{},
		&Displayed{ID: "01J5"},
		ptr(StateActive), ptr(StateComposing), ptr(StatePaused), ptr(StateInactive), ptr(StateGone),
		&FileMetadata{MediaType: "image/jpeg", Name: "summit.jpg", Desc: "Photo", Size: ptr(uint64(3032449)), Width: 4096, Height: 2160, Length: 12, Hashes: []FileHash{{Algo: "sha-256", Value: kpRef}}},
		&EncryptedSource{Cipher: CipherAES256GCM, Key: kpRef, IV: kpRef[:12], Hashes: []FileHash{{Algo: "sha-256", Value: kpRef}}, URLs: []string{"https://files.example/x"}},
		&FileSharing{Disposition: "inline", ID: "f1", File: FileMetadata{Name: "summit.jpg"}, Encrypted: []EncryptedSource{{Cipher: CipherAES256GCM, Key: kpRef, IV: kpRef[:12], URLs: []string{"https://files.example/x"}}}, URLs: []string{"https://files.example/y"}},
		&TrustMessage{Usage: NSTrustProtocol, Encryption: NSMLS, Owners: []KeyOwner{{JID: "juliet@capulet.lit", Trust: [][]byte{kpRef}, Distrust: [][]byte{kpRef2, blob}}}},
		&Error{Type: ErrorModify, Condition: Redirect, Address: "xmpp:ops2@mls.example", By: "ops@mls.example", Text: "Moved", Lang: "de", App: &HistoryGone{First: 3}},
	}
}
