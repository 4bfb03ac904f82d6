// SPDX-License-Identifier: Apache-2.0

package client

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// DeviceID identifies one device of a user: the 16 bytes in its leaf's
// application_id.
type DeviceID = stanza.DeviceID

// Role is what an account may do in a group; see the constants of package
// groupdata: Owner, Admin, Member, Visitor, Outcast, None.
type Role = groupdata.Role

// Event is something that happened besides a message. The set is sealed:
// a type switch over the types of this package covers it, and new types may be
// added, so that a default case should do nothing.
//
// Events about a group arrive in the order of its log, between its messages,
// and are kept like messages until the handler has returned. Events without a
// group are told when they happen and are not kept.
type Event interface {
	// Meta returns what all events have.
	Meta() *EventMeta
	event()
}

// EventMeta is what all events have in common.
type EventMeta struct {
	// ID is the same when the event is told again after a crash, and different
	// for every other event.
	ID string `json:"id"`
	// Group is the group's JID, empty if the event is about none.
	Group string `json:"group,omitempty"`
	// Seq is the entry of the group's log that caused the event, 0 if none.
	Seq uint64 `json:"seq,omitempty"`
	// Time is the delivery service's time of that entry, or the client's.
	Time time.Time `json:"time"`
}

// Meta returns m.
func (m *EventMeta) Meta() *EventMeta { return m }
func (m *EventMeta) event()           {}

// Who names a member of a group at some moment: one device of one account.
type Who struct {
	JID    string   `json:"jid"`    // bare
	Device DeviceID `json:"device"` // zero if the leaf has none
	Leaf   uint32   `json:"leaf"`
	// Trust is what the trust policy says about the device's key.
	Trust Trust `json:"trust"`
	// Fingerprint is the device's [Fingerprint].
	Fingerprint string `json:"fingerprint"`
}

func (w Who) String() string { return w.JID }

type (
	// Online says that the client is connected, has announced itself and has
	// caught up with every group.
	Online struct {
		EventMeta
		JID     string `json:"jid"`     // full JID of this connection
		Service string `json:"service"` // home delivery service; empty if the account has none
	}
	// Offline says that the connection is gone.
	Offline struct {
		EventMeta
		Err   error         `json:"-"`     // why
		Retry time.Duration `json:"retry"` // when the client tries again; 0: never
	}
	// Invited says that somebody has added this account to a group and that the
	// accept policy wants to be asked: call [Client.Accept] or [Client.Decline].
	Invited struct {
		EventMeta
		By string `json:"by"` // bare JID, as the delivery service says; not verified
	}
	// Joined says that this device is now in the group.
	Joined struct {
		EventMeta
		By Who `json:"by"` // who added it; this device itself if it joined from outside
	}
	// Rejoined says that this device's state of the group was lost or unusable,
	// and that it has come back with new keys. Messages in between are lost.
	Rejoined struct {
		EventMeta
		Reason string `json:"reason"`
	}
	// Removed says that this device is no longer in the group.
	Removed struct {
		EventMeta
		By     Who    `json:"by"`
		Reason string `json:"reason,omitempty"`
	}
	// Destroyed says that the group is gone for everybody.
	Destroyed struct {
		EventMeta
		Reason    string `json:"reason,omitempty"`
		Alternate string `json:"alternate,omitempty"` // JID of a group to use instead; as untrusted as its source
	}
	// MembersChanged says which devices joined and left in one commit.
	MembersChanged struct {
		EventMeta
		By      Who   `json:"by"`
		Added   []Who `json:"added,omitempty"`
		Removed []Who `json:"removed,omitempty"`
	}
	// RoleChanged says that an account's role changed.
	RoleChanged struct {
		EventMeta
		By  Who    `json:"by"`
		JID string `json:"jid"`
		Old Role   `json:"old"`
		New Role   `json:"new"`
	}
	// Renamed says that the group's name changed.
	Renamed struct {
		EventMeta
		By  Who    `json:"by"`
		Old string `json:"old"`
		New string `json:"new"`
	}
	// PolicyChanged says that the rules of the group changed.
	PolicyChanged struct {
		EventMeta
		By  Who              `json:"by"`
		Old groupdata.Policy `json:"old"`
		New groupdata.Policy `json:"new"`
	}
	// NewDevice says that an account that is already in the group now has one
	// more device in it; or that its own account, or one that it knows, has come
	// into the group, or was there when this device entered it, with a device that
	// it has never met. If nobody expected it, compare fingerprints.
	NewDevice struct {
		EventMeta
		Device Who  `json:"device"`
		Own    bool `json:"own"` // it is of this client's own account
	}
	// KeyChanged says that a device that was known now signs with another key.
	KeyChanged struct {
		EventMeta
		Device Who    `json:"device"` // with the new key
		Old    string `json:"old"`    // fingerprint of the key before
	}
	// Reinitialised says that the group goes on as a new MLS group with other
	// parameters, under the same JID. Everything that is said from here on is
	// encrypted in the new one.
	Reinitialised struct {
		EventMeta
		Old uint16 `json:"old"` // cipher suite before; 0 if this device does not know any more
		New uint16 `json:"new"` // cipher suite now
		// Proven says that the new group knows a secret of the old one. If not,
		// whoever began it was gone or some member could not be added, and this
		// device has only the delivery service's word that both are one group:
		// compare epoch codes.
		Proven bool `json:"proven"`
		// Missing are devices of the old group that are not in the new one yet.
		Missing []Who `json:"missing,omitempty"`
	}
	// HistoryLost says that entries of the log are not to be had any more.
	HistoryLost struct {
		EventMeta
		From uint64 `json:"from"` // first lost entry
		To   uint64 `json:"to"`   // last lost entry
	}
	// Undecryptable says that a message could not be opened or must not be
	// trusted. The group goes on.
	Undecryptable struct {
		EventMeta
		Reason string `json:"reason"`
	}
	// ForkDetected says that the delivery service has shown this member another
	// history of the group than it has shown another member, or has taken back
	// one that it had shown. The evidence is signed by members.
	ForkDetected struct {
		EventMeta
		Reason   string   `json:"reason"`
		Evidence Evidence `json:"evidence"`
	}
	// RollbackDetected says that the delivery service or this client's own store
	// is older than it was before.
	RollbackDetected struct {
		EventMeta
		Reason   string   `json:"reason"`
		Evidence Evidence `json:"evidence"`
	}
	// Misbehaved says that the delivery service has passed on something that it
	// should have refused, or has broken the protocol: a commit against the
	// group's rules, a gap in the log, an entry that does not fit.
	Misbehaved struct {
		EventMeta
		Reason   string   `json:"reason"`
		Evidence Evidence `json:"evidence"`
	}
	// SentLater says that a message that was sealed before the client last
	// stopped, or was cut off, or that nobody waited for, has now been accepted. Those
	// of a group come in the order of its log.
	SentLater struct {
		EventMeta
		OriginID string `json:"origin-id"`
	}
	// SendFailed says that a message that was sealed before the client last
	// stopped, or was cut off, will not be delivered.
	SendFailed struct {
		EventMeta
		OriginID string `json:"origin-id"`
		Reason   string `json:"reason"`
	}
	// ChangeFailed says that a change of the group, such as a removal, whose caller
	// was gone before its outcome was known, by a crash or because its context had
	// ended, could not be made. One that could is told like anybody's.
	ChangeFailed struct {
		EventMeta
		Change string `json:"change"`
		Reason string `json:"reason"`
	}
	// TrustChanged says that the trust in a key changed by a trust message of
	// an own device or of a contact whose key is authenticated (XEP-0450).
	TrustChanged struct {
		EventMeta
		Device Who   `json:"device"`
		By     Who   `json:"by"`
		Old    Trust `json:"old"`
	}
	// Progress tells how far a long catch-up is, for a person who waits.
	Progress struct {
		EventMeta
		Done  uint64 `json:"done"`  // last entry processed
		Total uint64 `json:"total"` // last entry of the log
	}
)

// Evidence is what shows that somebody lied: enough for a person to take it to
// the operator, or to another member to compare.
type Evidence struct {
	// Member is who signed the conflicting statement, if one did.
	Member *Who `json:"member,omitempty"`
	// Seq is the place in the log on which the two disagree.
	Seq uint64 `json:"seq,omitempty"`
	// Ours is the chain value that this client computed at Seq.
	Ours string `json:"ours,omitempty"`
	// Theirs is the chain value that the member or the service states.
	Theirs string `json:"theirs,omitempty"`
	// Epoch is the epoch of the message with the statement.
	Epoch uint64 `json:"epoch,omitempty"`
	// Message is the statement itself, an MLSMessage.
	Message []byte `json:"message,omitempty"`
}

// eventTypes names the events for the store. The names never change.
var eventTypes = map[string]func() Event{
	"invited":           func() Event { return new(Invited) },
	"joined":            func() Event { return new(Joined) },
	"rejoined":          func() Event { return new(Rejoined) },
	"removed":           func() Event { return new(Removed) },
	"destroyed":         func() Event { return new(Destroyed) },
	"members-changed":   func() Event { return new(MembersChanged) },
	"role-changed":      func() Event { return new(RoleChanged) },
	"renamed":           func() Event { return new(Renamed) },
	"policy-changed":    func() Event { return new(PolicyChanged) },
	"new-device":        func() Event { return new(NewDevice) },
	"key-changed":       func() Event { return new(KeyChanged) },
	"reinitialised":     func() Event { return new(Reinitialised) },
	"history-lost":      func() Event { return new(HistoryLost) },
	"undecryptable":     func() Event { return new(Undecryptable) },
	"fork-detected":     func() Event { return new(ForkDetected) },
	"rollback-detected": func() Event { return new(RollbackDetected) },
	"misbehaved":        func() Event { return new(Misbehaved) },
	"sent-later":        func() Event { return new(SentLater) },
	"send-failed":       func() Event { return new(SendFailed) },
	"change-failed":     func() Event { return new(ChangeFailed) },
	"trust-changed":     func() Event { return new(TrustChanged) },
	"progress":          func() Event { return new(Progress) },
	"online":            func() Event { return new(Online) },
	"offline":           func() Event { return new(Offline) },
}

// EventName returns the stable name of an event's type, such as
// "members-changed", for logs and scripts.
func EventName(e Event) string {
	for name, mk := range eventTypes {
		if fmt.Sprintf("%T", mk()) == fmt.Sprintf("%T", e) {
			return name
		}
	}
	return ""
}

type storedEvent struct {
	Type string          `json:"type"`
	Data json.RawMessage `json:"data"`
}

func encodeEvent(e Event) ([]byte, error) {
	data, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	return json.Marshal(storedEvent{Type: EventName(e), Data: data})
}

func decodeEvent(b []byte) (Event, error) {
	var s storedEvent
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, err
	}
	mk := eventTypes[s.Type]
	if mk == nil {
		return nil, fmt.Errorf("client: unknown event %q in the store", s.Type)
	}
	e := mk()
	if err := json.Unmarshal(s.Data, e); err != nil {
		return nil, err
	}
	return e, nil
}
