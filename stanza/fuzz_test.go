// SPDX-License-Identifier: Apache-2.0

package stanza

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"testing"

	"github.com/lockstep-im/lockstep/stanza/xmlpull"
)

// fuzzPayload checks that Parse of any document neither panics nor keeps what
// Append cannot write: what was parsed is written, parsed and written alike.
func fuzzPayload[T any, P interface {
	*T
	Payload
}](f *testing.F) {
	for _, p := range samples() {
		if _, ok := p.(P); ok {
			f.Add(p.Append(nil))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var doc xmlpull.Doc
		el, err := doc.Parse(b, clientContext)
		if err != nil {
			return
		}
		var first, second T
		if P(&first).Parse(el) != nil {
			return
		}
		once := P(&first).Append(nil)
		if err := parseXML(P(&second), once); err != nil {
			t.Fatalf("%q\nwas written as %q\n%v", b, once, err)
		}
		twice := P(&second).Append(nil)
		a, err := xmlpull.Canonical(once, clientContext)
		if err != nil {
			t.Fatal(err)
		}
		c, err := xmlpull.Canonical(twice, clientContext)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, c) {
			t.Fatalf("%q\nonce  %q\ntwice %q", b, once, twice)
		}
	})
}

func FuzzDiscoInfoQuery(f *testing.F)          { fuzzPayload[DiscoInfoQuery](f) }
func FuzzDiscoInfo(f *testing.F)               { fuzzPayload[DiscoInfo](f) }
func FuzzDiscoItemsQuery(f *testing.F)         { fuzzPayload[DiscoItemsQuery](f) }
func FuzzDiscoItems(f *testing.F)              { fuzzPayload[DiscoItems](f) }
func FuzzPublish(f *testing.F)                 { fuzzPayload[Publish](f) }
func FuzzPubSubItems(f *testing.F)             { fuzzPayload[PubSubItems](f) }
func FuzzPubSubEvent(f *testing.F)             { fuzzPayload[PubSubEvent](f) }
func FuzzDSPointer(f *testing.F)               { fuzzPayload[DSPointer](f) }
func FuzzPEPKeyPackages(f *testing.F)          { fuzzPayload[PEPKeyPackages](f) }
func FuzzPublishKeyPackages(f *testing.F)      { fuzzPayload[PublishKeyPackages](f) }
func FuzzPublished(f *testing.F)               { fuzzPayload[Published](f) }
func FuzzStock(f *testing.F)                   { fuzzPayload[Stock](f) }
func FuzzRetractKeyPackages(f *testing.F)      { fuzzPayload[RetractKeyPackages](f) }
func FuzzCountQuery(f *testing.F)              { fuzzPayload[CountQuery](f) }
func FuzzCount(f *testing.F)                   { fuzzPayload[Count](f) }
func FuzzClaimKeyPackages(f *testing.F)        { fuzzPayload[ClaimKeyPackages](f) }
func FuzzClaimed(f *testing.F)                 { fuzzPayload[Claimed](f) }
func FuzzConsentQuery(f *testing.F)            { fuzzPayload[ConsentQuery](f) }
func FuzzConsentConfig(f *testing.F)           { fuzzPayload[ConsentConfig](f) }
func FuzzSession(f *testing.F)                 { fuzzPayload[Session](f) }
func FuzzReady(f *testing.F)                   { fuzzPayload[Ready](f) }
func FuzzGroupsQuery(f *testing.F)             { fuzzPayload[GroupsQuery](f) }
func FuzzGroups(f *testing.F)                  { fuzzPayload[Groups](f) }
func FuzzReserveGroup(f *testing.F)            { fuzzPayload[ReserveGroup](f) }
func FuzzReserved(f *testing.F)                { fuzzPayload[Reserved](f) }
func FuzzCreateGroup(f *testing.F)             { fuzzPayload[CreateGroup](f) }
func FuzzCreated(f *testing.F)                 { fuzzPayload[Created](f) }
func FuzzCommit(f *testing.F)                  { fuzzPayload[Commit](f) }
func FuzzAccepted(f *testing.F)                { fuzzPayload[Accepted](f) }
func FuzzStageQuery(f *testing.F)              { fuzzPayload[StageQuery](f) }
func FuzzStage(f *testing.F)                   { fuzzPayload[Stage](f) }
func FuzzStaged(f *testing.F)                  { fuzzPayload[Staged](f) }
func FuzzGroupInfoQuery(f *testing.F)          { fuzzPayload[GroupInfoQuery](f) }
func FuzzGroupInfo(f *testing.F)               { fuzzPayload[GroupInfo](f) }
func FuzzTreeQuery(f *testing.F)               { fuzzPayload[TreeQuery](f) }
func FuzzTreePage(f *testing.F)                { fuzzPayload[TreePage](f) }
func FuzzWelcomeQuery(f *testing.F)            { fuzzPayload[WelcomeQuery](f) }
func FuzzWelcome(f *testing.F)                 { fuzzPayload[Welcome](f) }
func FuzzWelcomesQuery(f *testing.F)           { fuzzPayload[WelcomesQuery](f) }
func FuzzWelcomes(f *testing.F)                { fuzzPayload[Welcomes](f) }
func FuzzProposal(f *testing.F)                { fuzzPayload[Proposal](f) }
func FuzzLeave(f *testing.F)                   { fuzzPayload[Leave](f) }
func FuzzSend(f *testing.F)                    { fuzzPayload[Send](f) }
func FuzzMLS(f *testing.F)                     { fuzzPayload[MLS](f) }
func FuzzDelivery(f *testing.F)                { fuzzPayload[Delivery](f) }
func FuzzControl(f *testing.F)                 { fuzzPayload[Control](f) }
func FuzzNudge(f *testing.F)                   { fuzzPayload[Nudge](f) }
func FuzzNudgesQuery(f *testing.F)             { fuzzPayload[NudgesQuery](f) }
func FuzzNudges(f *testing.F)                  { fuzzPayload[Nudges](f) }
func FuzzLogQuery(f *testing.F)                { fuzzPayload[LogQuery](f) }
func FuzzLog(f *testing.F)                     { fuzzPayload[Log](f) }
func FuzzEntryQuery(f *testing.F)              { fuzzPayload[EntryQuery](f) }
func FuzzEntry(f *testing.F)                   { fuzzPayload[Entry](f) }
func FuzzAck(f *testing.F)                     { fuzzPayload[Ack](f) }
func FuzzDevicesQuery(f *testing.F)            { fuzzPayload[DevicesQuery](f) }
func FuzzDevices(f *testing.F)                 { fuzzPayload[Devices](f) }
func FuzzAffiliationsQuery(f *testing.F)       { fuzzPayload[AffiliationsQuery](f) }
func FuzzAffiliations(f *testing.F)            { fuzzPayload[Affiliations](f) }
func FuzzAffiliation(f *testing.F)             { fuzzPayload[Affiliation](f) }
func FuzzConfigQuery(f *testing.F)             { fuzzPayload[ConfigQuery](f) }
func FuzzConfig(f *testing.F)                  { fuzzPayload[Config](f) }
func FuzzDestroy(f *testing.F)                 { fuzzPayload[Destroy](f) }
func FuzzDestroyed(f *testing.F)               { fuzzPayload[Destroyed](f) }
func FuzzReInitNotice(f *testing.F)            { fuzzPayload[ReInitNotice](f) }
func FuzzReport(f *testing.F)                  { fuzzPayload[Report](f) }
func FuzzResume(f *testing.F)                  { fuzzPayload[Resume](f) }
func FuzzBlock(f *testing.F)                   { fuzzPayload[Block](f) }
func FuzzUnblock(f *testing.F)                 { fuzzPayload[Unblock](f) }
func FuzzBlockListQuery(f *testing.F)          { fuzzPayload[BlockListQuery](f) }
func FuzzBlockList(f *testing.F)               { fuzzPayload[BlockList](f) }
func FuzzCommand(f *testing.F)                 { fuzzPayload[Command](f) }
func FuzzStaleEpoch(f *testing.F)              { fuzzPayload[StaleEpoch](f) }
func FuzzFutureEpoch(f *testing.F)             { fuzzPayload[FutureEpoch](f) }
func FuzzInvalidMessage(f *testing.F)          { fuzzPayload[InvalidMessage](f) }
func FuzzGroupInfoMismatch(f *testing.F)       { fuzzPayload[GroupInfoMismatch](f) }
func FuzzMustCommit(f *testing.F)              { fuzzPayload[MustCommit](f) }
func FuzzUnknownProposal(f *testing.F)         { fuzzPayload[UnknownProposal](f) }
func FuzzCredentialMismatch(f *testing.F)      { fuzzPayload[CredentialMismatch](f) }
func FuzzNotAMember(f *testing.F)              { fuzzPayload[NotAMember](f) }
func FuzzInsufficientAffiliation(f *testing.F) { fuzzPayload[InsufficientAffiliation](f) }
func FuzzUnsupported(f *testing.F)             { fuzzPayload[Unsupported](f) }
func FuzzKeyPackagesExhausted(f *testing.F)    { fuzzPayload[KeyPackagesExhausted](f) }
func FuzzTooLarge(f *testing.F)                { fuzzPayload[TooLarge](f) }
func FuzzRetryAfter(f *testing.F)              { fuzzPayload[RetryAfter](f) }
func FuzzMaintenance(f *testing.F)             { fuzzPayload[Maintenance](f) }
func FuzzHistoryGone(f *testing.F)             { fuzzPayload[HistoryGone](f) }
func FuzzPing(f *testing.F)                    { fuzzPayload[Ping](f) }
func FuzzVersionQuery(f *testing.F)            { fuzzPayload[VersionQuery](f) }
func FuzzVersion(f *testing.F)                 { fuzzPayload[Version](f) }
func FuzzTimeQuery(f *testing.F)               { fuzzPayload[TimeQuery](f) }
func FuzzEntityTime(f *testing.F)              { fuzzPayload[EntityTime](f) }
func FuzzUploadRequest(f *testing.F)           { fuzzPayload[UploadRequest](f) }
func FuzzUploadSlot(f *testing.F)              { fuzzPayload[UploadSlot](f) }
func FuzzCaps(f *testing.F)                    { fuzzPayload[Caps](f) }
func FuzzDelay(f *testing.F)                   { fuzzPayload[Delay](f) }
func FuzzAddresses(f *testing.F)               { fuzzPayload[Addresses](f) }
func FuzzStanzaID(f *testing.F)                { fuzzPayload[StanzaID](f) }
func FuzzEncryption(f *testing.F)              { fuzzPayload[Encryption](f) }
func FuzzHint(f *testing.F)                    { fuzzPayload[Hint](f) }
func FuzzForm(f *testing.F)                    { fuzzPayload[Form](f) }
func FuzzEnvelope(f *testing.F)                { fuzzPayload[Envelope](f) }
func FuzzBody(f *testing.F)                    { fuzzPayload[Body](f) }
func FuzzOriginID(f *testing.F)                { fuzzPayload[OriginID](f) }
func FuzzFallback(f *testing.F)                { fuzzPayload[Fallback](f) }
func FuzzReply(f *testing.F)                   { fuzzPayload[Reply](f) }
func FuzzReactions(f *testing.F)               { fuzzPayload[Reactions](f) }
func FuzzCorrection(f *testing.F)              { fuzzPayload[Correction](f) }
func FuzzRetraction(f *testing.F)              { fuzzPayload[Retraction](f) }
func FuzzReceiptRequest(f *testing.F)          { fuzzPayload[ReceiptRequest](f) }
func FuzzReceipt(f *testing.F)                 { fuzzPayload[Receipt](f) }
func FuzzMarkable(f *testing.F)                { fuzzPayload[Markable](f) }
func FuzzDisplayed(f *testing.F)               { fuzzPayload[Displayed](f) }
func FuzzChatState(f *testing.F)               { fuzzPayload[ChatState](f) }
func FuzzFileSharing(f *testing.F)             { fuzzPayload[FileSharing](f) }
func FuzzFileMetadata(f *testing.F)            { fuzzPayload[FileMetadata](f) }
func FuzzEncryptedSource(f *testing.F)         { fuzzPayload[EncryptedSource](f) }
func FuzzTrustMessage(f *testing.F)            { fuzzPayload[TrustMessage](f) }
func FuzzError(f *testing.F)                   { fuzzPayload[Error](f) }

// TestEveryTypeIsFuzzed checks that no payload type lacks its target.
func TestEveryTypeIsFuzzed(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "fuzz_test.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, decl := range f.Decls {
		if fn, ok := decl.(*ast.FuncDecl); ok {
			have[fn.Name.Name] = true
		}
	}
	for _, info := range Payloads() {
		if name := "Fuzz" + reflect.TypeOf(info.New()).Elem().Name(); !have[name] {
			t.Errorf("no %s", name)
		}
	}
}

// FuzzStanza checks that a whole stanza is parsed, looked at, answered and
// recoded without a panic, and that the answer is well-formed.
func FuzzStanza(f *testing.F) {
	for _, p := range samples() {
		for _, h := range []Header{
			{Kind: IQ, Type: TypeSet, ID: "1", From: "a@b/c", To: "d@e"},
			{Kind: IQ, Type: TypeError, ID: "1", From: "a@b/c"},
			{Kind: Message, From: "\u2603@example.com"},
		} {
			f.Add(h.Append(nil, p))
		}
	}
	f.Add([]byte(`<iq type='get' id='1'>text<ping xmlns='urn:xmpp:ping'/></iq>`))
	f.Add([]byte(`<iq type='get' id='1'/>`))
	f.Add([]byte(`<iq type='get' id='1'><a/><b/></iq>`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := ParseHead(b, nil); err == nil && s.Kind != Other {
			reply := AppendError(nil, &s, NewAppError(&TooLarge{MaxBytes: 1}))
			checkReply(t, b, reply)
		}
		var p Parser
		s, err := p.Parse(b)
		if err != nil {
			return
		}
		if s.Kind == Other {
			return
		}
		_, err = s.Payload()
		if err != nil {
			e, ok := AsError(err)
			if !ok {
				t.Fatalf("%q: %v is an internal error", b, err)
			}
			checkReply(t, b, AppendError(nil, &s, e))
		}
		if e := s.Err(); (e != nil) != (s.Type == TypeError) {
			t.Fatalf("%q: error %v", b, e)
		}
		checkReply(t, b, AppendResult(nil, &s, &Ping{}))
		if _, err := s.Payloads(); err == nil {
			Recode(b)
		}
		h := s.Header()
		checkReply(t, b, h.Append(nil))
	})
}

func checkReply(t *testing.T, b, reply []byte) {
	if len(reply) == 0 {
		return
	}
	var p Parser
	if _, err := p.Parse(reply); err != nil {
		t.Fatalf("%q is answered with %q: %v", b, reply, err)
	}
}
