// SPDX-License-Identifier: Apache-2.0

// Package groupdata defines what a lockstep group agrees on by cryptography,
// and the rules that follow from it. It is shared by the delivery service and
// the client, so that both enforce exactly the same thing, and it is pure
// bytes: it imports neither an MLS nor an XMPP library.
//
// It holds
//
//   - the content of the two application components in the GroupContext's
//     app_data_dictionary (draft-ietf-mls-extensions): [Group], which binds the
//     group to its JID, and [Roles], which says who may do what,
//   - the rules themselves: [Check],
//   - the hash chain over the log: [Chain],
//   - the authenticated_data of messages and commits: [Position].
//
// # Components
//
// The identifiers are from the private-use range 0x8000-0xFFFF of the "MLS
// Component Types" registry. An AppDataUpdate proposal for either component
// carries its whole new value; where one commit has several for the same
// component, the last one is the new value.
//
//	0xF5A0  group      GC  the group's JID, name and handshake mode
//	0xF5A1  roles      GC  roles of bare JIDs, policy
//	0xF5A2  position   AD  (seq, chain): how far the sender has verified the log
//
// # Encoding
//
// All structures use the TLS presentation language with the variable-length
// vectors of RFC 9420 §2.1.2. Each value has one encoding: decoding is strict
// and encoding what was decoded gives the same bytes.
//
//	enum { public(1), private(2), (255) } HandshakeMode;
//	struct {
//	    uint8 version = 1;
//	    opaque jid<V>;              // bare JID, normalised (RFC 7622)
//	    opaque name<V>;             // UTF-8, for people, at most 256 bytes
//	    HandshakeMode handshake;
//	} Group;
//
//	enum { none(0), outcast(1), visitor(2), member(3), admin(4), owner(5), (255) } Role;
//	enum { nobody(0), members(1), anyone(2), (255) } ExternalJoin;
//	struct {
//	    Role add;                   // least role that may add other accounts
//	    Role remove;                // least role that may remove other accounts
//	    Role send;                  // least role that may send messages
//	    Role rename;                // least role that may change the name
//	    Role unlisted;              // role of an account in the tree without an entry
//	    ExternalJoin external_join;
//	    uint16 max_devices;         // leaves per account, 0: no limit
//	} Policy;
//	struct { opaque jid<V>; Role role; } Entry;   // role is never none
//	struct {
//	    uint8 version = 1;
//	    Policy policy;
//	    Entry entries<V>;           // sorted by jid, bytewise, no duplicates
//	} Roles;
//
// JIDs are compared byte by byte: callers normalise them first.
package groupdata

// Component identifiers in the app_data_dictionary. They are untyped, so that
// they fit whatever integer type an MLS library uses for a ComponentID.
const (
	ComponentGroup    = 0xF5A0 // [Group], in the GroupContext
	ComponentRoles    = 0xF5A1 // [Roles], in the GroupContext
	ComponentPosition = 0xF5A2 // [Position], in authenticated_data
)
