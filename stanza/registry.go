// SPDX-License-Identifier: Apache-2.0

package stanza

import (
	"bytes"
	"fmt"

	"github.com/lockstep-im/lockstep/stanza/xmlpull"
)

// Place is a set of places where an element may stand.
type Place uint16

// Places. An element of one name can be different payloads in different places:
// <count/> in a get is a [CountQuery], in a result a [Count].
const (
	InGet      Place = 1 << iota // an IQ get
	InSet                        // an IQ set
	InResult                     // an IQ result
	InMessage                    // a message
	InPresence                   // a presence
	InError                      // an <error/>
	InEnvelope                   // the <content/> of an [Envelope]
	InControl                    // the bytes of a [Control]
	Plaintext                    // an application message of MLS
	InPubSub                     // an item of a pubsub node
)

// PayloadInfo describes a payload type.
type PayloadInfo struct {
	// Space and Local are the element's expanded name.
	Space, Local string
	// Places are where it stands.
	Places Place
	// New returns an empty payload.
	New func() Payload
}

func info[T any, P interface {
	*T
	Payload
}](places Place, space string, locals ...string) []PayloadInfo {
	list := make([]PayloadInfo, len(locals))
	for i, local := range locals {
		list[i] = PayloadInfo{Space: space, Local: local, Places: places, New: func() Payload { return P(new(T)) }}
	}
	return list
}

// Payloads returns all payload types of the protocol and of the extensions that
// it uses, in the order of the documents in xep.
func Payloads() []PayloadInfo {
	var all []PayloadInfo
	for _, l := range [][]PayloadInfo{
		info[DiscoInfoQuery](InGet, NSDiscoInfo, "query"),
		info[DiscoInfo](InResult, NSDiscoInfo, "query"),
		info[DiscoItemsQuery](InGet, NSDiscoItems, "query"),
		info[DiscoItems](InResult, NSDiscoItems, "query"),
		info[Publish](InSet, NSPubSub, "pubsub"),
		info[PubSubItems](InGet|InResult, NSPubSub, "pubsub"),
		info[PubSubEvent](InMessage, NSPubSubEvent, "event"),
		info[DSPointer](InPubSub, NSDelivery, "ds"),
		info[PEPKeyPackages](InPubSub, NSKeyPackages, "key-packages"),

		info[PublishKeyPackages](InSet, NSKeyPackages, "publish"),
		info[Published](InResult, NSKeyPackages, "published"),
		info[Stock](InMessage, NSKeyPackages, "stock"),
		info[RetractKeyPackages](InSet, NSKeyPackages, "retract"),
		info[CountQuery](InGet, NSKeyPackages, "count"),
		info[Count](InResult, NSKeyPackages, "count"),
		info[ClaimKeyPackages](InSet, NSKeyPackages, "claim"),
		info[Claimed](InResult, NSKeyPackages, "claimed"),
		info[ConsentQuery](InGet, NSKeyPackages, "config"),
		info[ConsentConfig](InSet|InResult, NSKeyPackages, "config"),

		info[Session](InPresence, NSDelivery, "session"),
		info[Ready](InPresence|InMessage, NSDelivery, "ready"),
		info[GroupsQuery](InGet, NSDelivery, "groups"),
		info[Groups](InResult, NSDelivery, "groups"),
		info[ReserveGroup](InSet, NSDelivery, "reserve"),
		info[Reserved](InResult, NSDelivery, "reserved"),
		info[CreateGroup](InSet, NSDelivery, "create"),
		info[Created](InResult, NSDelivery, "created"),
		info[Commit](InSet, NSDelivery, "commit"),
		info[Accepted](InResult, NSDelivery, "accepted"),
		info[StageQuery](InGet, NSDelivery, "stage"),
		info[Stage](InSet, NSDelivery, "stage"),
		info[Staged](InResult, NSDelivery, "staged"),
		info[GroupInfoQuery](InGet, NSDelivery, "group-info"),
		info[GroupInfo](InResult, NSDelivery, "group-info"),
		info[TreeQuery](InGet, NSDelivery, "tree"),
		info[TreePage](InResult, NSDelivery, "tree"),
		info[WelcomeQuery](InGet, NSDelivery, "welcome"),
		info[Welcome](InSet|InResult|InMessage, NSDelivery, "welcome"),
		info[WelcomesQuery](InGet, NSDelivery, "welcomes"),
		info[Welcomes](InResult, NSDelivery, "welcomes"),
		info[Proposal](InSet, NSDelivery, "proposal"),
		info[Leave](InSet, NSDelivery, "leave"),
		info[Send](InSet, NSDelivery, "send"),
		info[MLS](InMessage, NSMLS, "mls"),
		info[Delivery](InMessage, NSDelivery, "delivery"),
		info[Control](InMessage, NSDelivery, "control"),
		info[Nudge](InMessage, NSDelivery, "nudge"),
		info[NudgesQuery](InGet, NSDelivery, "nudges"),
		info[Nudges](InSet|InResult, NSDelivery, "nudges"),
		info[LogQuery](InGet, NSDelivery, "log"),
		info[Log](InResult, NSDelivery, "log"),
		info[EntryQuery](InGet, NSDelivery, "entry"),
		info[Entry](InResult, NSDelivery, "entry"),
		info[Ack](InSet, NSDelivery, "ack"),
		info[DevicesQuery](InGet, NSDelivery, "devices"),
		info[Devices](InResult, NSDelivery, "devices"),
		info[AffiliationsQuery](InGet, NSDelivery, "affiliations"),
		info[Affiliations](InResult, NSDelivery, "affiliations"),
		info[Affiliation](InSet|InControl, NSDelivery, "affiliation"),
		info[ConfigQuery](InGet, NSDelivery, "config"),
		info[Config](InSet|InResult, NSDelivery, "config"),
		info[Destroy](InSet, NSDelivery, "destroy"),
		info[Destroyed](InMessage|InControl, NSDelivery, "destroyed"),
		info[ReInitNotice](InControl, NSDelivery, "reinit"),
		info[Report](InSet, NSDelivery, "report"),
		info[Resume](InMessage, NSDelivery, "resume"),
		info[Block](InSet, NSBlocking, "block"),
		info[Unblock](InSet, NSBlocking, "unblock"),
		info[BlockListQuery](InGet, NSBlocking, "blocklist"),
		info[BlockList](InResult, NSBlocking, "blocklist"),
		info[Command](InSet|InResult, NSCommands, "command"),

		info[StaleEpoch](InError, NSErrors, "stale-epoch"),
		info[FutureEpoch](InError, NSErrors, "future-epoch"),
		info[InvalidMessage](InError, NSErrors, "invalid-message"),
		info[GroupInfoMismatch](InError, NSErrors, "group-info-mismatch"),
		info[MustCommit](InError, NSErrors, "must-commit"),
		info[UnknownProposal](InError, NSErrors, "unknown-proposal"),
		info[CredentialMismatch](InError, NSErrors, "credential-mismatch"),
		info[NotAMember](InError, NSErrors, "not-a-member"),
		info[InsufficientAffiliation](InError, NSErrors, "insufficient-affiliation"),
		info[Unsupported](InError, NSErrors, "unsupported"),
		info[KeyPackagesExhausted](InError, NSErrors, "key-packages-exhausted"),
		info[TooLarge](InError, NSErrors, "too-large"),
		info[RetryAfter](InError, NSErrors, "retry"),
		info[Maintenance](InError, NSErrors, "maintenance"),
		info[HistoryGone](InError, NSErrors, "history-gone"),

		info[Ping](InGet, NSPing, "ping"),
		info[VersionQuery](InGet, NSVersion, "query"),
		info[Version](InResult, NSVersion, "query"),
		info[TimeQuery](InGet, NSTime, "time"),
		info[EntityTime](InResult, NSTime, "time"),
		info[UploadRequest](InGet, NSUpload, "request"),
		info[UploadSlot](InResult, NSUpload, "slot"),
		info[Caps](InPresence, NSCaps, "c"),
		info[Delay](InMessage|InPresence, NSDelay, "delay"),
		info[Addresses](InMessage, NSAddress, "addresses"),
		info[StanzaID](InMessage, NSSID, "stanza-id"),
		info[Encryption](InMessage, NSEME, "encryption"),
		info[Hint](InMessage, NSHints, "store", "no-store", "no-permanent-store", "no-copy"),
		info[Form](0, NSForm, "x"),

		info[Envelope](Plaintext, NSSCE, "envelope"),
		info[Body](InMessage|InEnvelope, NSClient, "body"),
		info[OriginID](InMessage|InEnvelope, NSSID, "origin-id"),
		info[Fallback](InMessage|InEnvelope, NSFallback, "fallback"),
		info[Reply](InEnvelope, NSReply, "reply"),
		info[Reactions](InEnvelope, NSReactions, "reactions"),
		info[Correction](InEnvelope, NSCorrect, "replace"),
		info[Retraction](InEnvelope, NSRetract, "retract"),
		info[ReceiptRequest](InEnvelope, NSReceipts, "request"),
		info[Receipt](InEnvelope, NSReceipts, "received"),
		info[Markable](InEnvelope, NSMarkers, "markable"),
		info[Displayed](InEnvelope, NSMarkers, "displayed"),
		info[ChatState](InEnvelope, NSChatStates, "active", "composing", "paused", "inactive", "gone"),
		info[FileSharing](InEnvelope, NSFileSharing, "file-sharing"),
		info[FileMetadata](0, NSFileMetadata, "file"),
		info[EncryptedSource](0, NSFileEncrypted, "encrypted"),
		info[TrustMessage](InEnvelope, NSTrust, "trust-message"),
	} {
		all = append(all, l...)
	}
	return all
}

var registry = func() map[string][]PayloadInfo {
	m := make(map[string][]PayloadInfo)
	for _, p := range Payloads() {
		key := p.Space + " " + p.Local
		m[key] = append(m[key], p)
	}
	return m
}()

// Decode parses el as the payload that its name means in one of the given
// places; 0 means any. An element that is not known gives a [*Raw].
func Decode(el Element, places Place) (Payload, error) {
	space := string(el.Space())
	if string(el.Local()) == "body" && isStanzaNS(space) {
		space = NSClient
	}
	var first error
	for _, p := range registry[space+" "+string(el.Local())] {
		if places != 0 && p.Places&places == 0 {
			continue
		}
		v := p.New()
		err := v.Parse(el)
		if err == nil {
			return v, nil
		}
		if first == nil {
			first = err
		}
	}
	if first != nil {
		return nil, first
	}
	raw := new(Raw)
	return raw, raw.Parse(el)
}

// place returns where the children of the stanza stand.
func (s *Stanza) place() Place {
	switch s.Kind {
	case Message:
		return InMessage
	case Presence:
		return InPresence
	}
	switch s.Type {
	case TypeGet:
		return InGet
	case TypeSet:
		return InSet
	}
	return InResult
}

// Payloads parses all children of the stanza, in order. Elements that are not
// known give a [*Raw], the <error/> of an error stanza an [*Error]; what else
// an error stanza holds is an echo of the request, and left out.
//
// It is for tools and tests that look at whole stanzas; a handler parses the
// payload that it wants.
func (s *Stanza) Payloads() ([]Payload, error) {
	var list []Payload
	for c := s.Element.First(); c.Valid(); c = c.Next() {
		if s.Type == TypeError {
			if string(c.Local()) == "error" && isStanzaNS(c.Space()) {
				e := new(Error)
				if err := e.Parse(c); err != nil {
					return nil, err
				}
				list = append(list, e)
			}
			continue
		}
		p, err := Decode(c, s.place())
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

// Recode decodes an XML document, a stanza or a payload alone, into the types
// of this package and encodes it again. It is how documentation is tested: see
// [CheckExample].
func Recode(raw []byte) ([]byte, error) {
	var p Parser
	s, err := p.Parse(raw)
	if err != nil {
		return nil, err
	}
	if s.Kind == Other {
		v, err := Decode(s.Element, 0)
		if err != nil {
			return nil, err
		}
		return recodePayload(v)
	}
	payloads, err := s.Payloads()
	if err != nil {
		return nil, err
	}
	h := s.Header()
	out := h.AppendStart(nil)
	for _, v := range payloads {
		b, err := recodePayload(v)
		if err != nil {
			return nil, err
		}
		out = append(out, b...)
	}
	return s.Kind.AppendEnd(out), nil
}

func recodePayload(v Payload) ([]byte, error) {
	switch v := v.(type) {
	case *Raw:
		return nil, fmt.Errorf("stanza: recoding: unknown element %.200q", *v)
	case *Error:
		// Parse drops an application condition that it cannot read; here that
		// must be noticed.
		return v.Append(nil), nil
	case *Envelope:
		c, err := ParseContent(v.Content)
		if err != nil {
			return nil, err
		}
		if len(c.Other) > 0 {
			return nil, fmt.Errorf("stanza: recoding: unknown or malformed element in an envelope: %.200q", c.Other[0])
		}
	}
	return v.Append(nil), nil
}

// CheckExample decodes and encodes raw with [Recode] and reports how the
// canonical forms differ, if they do: then raw holds an element or attribute
// that this package does not know, or spells a value in another way.
func CheckExample(raw []byte) error {
	got, err := Recode(raw)
	if err != nil {
		return err
	}
	ctx := xmlpull.NewContext(NSClient)
	want, err := xmlpull.Canonical(raw, ctx)
	if err != nil {
		return err
	}
	got, err = xmlpull.Canonical(got, ctx)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("stanza: checking an example: it does not encode to itself:\nwant %s\ngot  %s", want, got)
	}
	return nil
}
