// SPDX-License-Identifier: Apache-2.0

package loopback

// A Flavour is the real server that a [Server] behaves like.
type Flavour int

// The flavours. The zero value is Prosody13.
const (
	Prosody13 Flavour = iota
	Prosody012
	Ejabberd24
	Ejabberd23
)

// String is the flavour's name as scenarios write it, such as "prosody-13".
func (f Flavour) String() string {
	switch f {
	case Prosody012:
		return "prosody-0.12"
	case Ejabberd24:
		return "ejabberd-24.12"
	case Ejabberd23:
		return "ejabberd-23.01"
	}
	return "prosody-13"
}

// Conflict says what happens when a component domain is attached twice.
type Conflict int

// What to do with a second connection of one component. DefaultConflict is the
// flavour's own default: KickNew for Prosody, Balance for ejabberd.
const (
	DefaultConflict Conflict = iota
	KickNew                  // the new one gets <conflict/> (Prosody's default)
	KickOld                  // the old one gets <conflict/> (component_conflict_resolve = "kick_old")
	Balance                  // both stay; each stanza goes to one of them at random (ejabberd's default)
)

// behaviour is what differs between real servers, as measured on them.
type behaviour struct {
	c2sMax, componentMax, s2sMax int // bytes of one stanza

	offlineMax        int  // messages kept for one user; 0 = no limit
	noStoreBounces    bool // an offline message with <no-store/> is bounced instead of kept
	headlineStoreHint bool // an offline headline with <store/> is kept
	payloadInErrors   bool // a bounce carries the original children

	spoofCloses    bool // a client's wrong 'from' ends its stream; else it is rewritten
	strictIQ       bool // an IQ get or set without exactly one child is refused
	stripText      bool // text beside a stanza's children is removed
	fixMessageType bool // an unknown message type becomes normal

	noFrom          string // stream error for a component stanza without 'from'; "" = accepted
	noToCloses      bool   // a component stanza without 'to' ends the stream; else error stanza
	componentTooBig string // stream error for an oversized component stanza
	clientNSBounces bool   // a stanza in jabber:client on a component stream is bounced
	downCondition   string // stanza error when a component is not connected
	downType        string
	conflict        Conflict
	multicast       bool // XEP-0033 service
}

func (f Flavour) behaviour() behaviour {
	const kib = 1024
	prosody := behaviour{
		c2sMax: 256 * kib, componentMax: 512 * kib, s2sMax: 512 * kib,
		strictIQ: true,
		noFrom:   "invalid-from", componentTooBig: "not-well-formed", clientNSBounces: true,
		downCondition: "remote-server-timeout", downType: "wait",
		conflict: KickNew,
	}
	ejabberd := behaviour{
		c2sMax: 256*kib - 1, componentMax: 16 * kib * kib, s2sMax: 512*kib - 1,
		offlineMax: 100, noStoreBounces: true, headlineStoreHint: true, payloadInErrors: true,
		spoofCloses: true, stripText: true, fixMessageType: true,
		noFrom: "improper-addressing", noToCloses: true, componentTooBig: "policy-violation",
		downCondition: "remote-server-not-found", downType: "cancel",
		conflict: Balance, multicast: true,
	}
	switch f {
	case Prosody012:
		prosody.noFrom = ""
		return prosody
	case Ejabberd23, Ejabberd24:
		return ejabberd
	}
	return prosody
}
