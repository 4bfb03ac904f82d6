// SPDX-License-Identifier: Apache-2.0

package component

import (
	"github.com/lockstep-im/lockstep/stanza"
)

// A verb is one kind of request: the payload's name, get or set, and whether it
// is for the service or for a group. Its name is a metrics label.
type verb struct {
	name         string
	space, local string
	typ          string
	at           scope
	always       bool // answered during maintenance, too
	// One of them is set. group handlers run in the group's goroutine, in order.
	handle func(s *Service, r *request) (stanza.Payload, error)
	group  func(g *group, r *request) (stanza.Payload, error)
}

type scope uint8

const (
	atService scope = 1 << iota
	atGroup
	atBoth = atService | atGroup
)

const (
	get = stanza.TypeGet
	set = stanza.TypeSet

	ds = stanza.NSDelivery
	kp = stanza.NSKeyPackages
)

// verbSend is known to the group's goroutine, which batches it.
var verbSend = &verb{name: "send", space: ds, local: "send", typ: set, at: atGroup,
	group: func(*group, *request) (stanza.Payload, error) { panic("component: internal error: sends are batched") }}

type verbKey struct {
	space, local, typ string
	group             bool
}

var verbTable map[verbKey]*verb

func init() {
	verbTable = make(map[verbKey]*verb)
	for _, v := range []*verb{
		// xep/mls-delivery.xml#discovery
		{name: "disco-info", space: stanza.NSDiscoInfo, local: "query", typ: get, at: atBoth, always: true, handle: discoInfo},
		{name: "disco-items", space: stanza.NSDiscoItems, local: "query", typ: get, at: atBoth, always: true, handle: discoItems},
		{name: "ping", space: stanza.NSPing, local: "ping", typ: get, at: atBoth, always: true, handle: ping},
		{name: "version", space: stanza.NSVersion, local: "query", typ: get, at: atService, always: true, handle: softwareVersion},
		{name: "time", space: stanza.NSTime, local: "time", typ: get, at: atService, always: true, handle: entityTime},
		// §2
		{name: "publish", space: kp, local: "publish", typ: set, at: atService, handle: publishKeyPackages},
		{name: "retract", space: kp, local: "retract", typ: set, at: atService, handle: retractKeyPackages},
		{name: "count", space: kp, local: "count", typ: get, at: atService, handle: countKeyPackages},
		{name: "claim", space: kp, local: "claim", typ: set, at: atService, handle: claimKeyPackages},
		{name: "consent", space: kp, local: "config", typ: get, at: atService, handle: getConsent},
		{name: "consent", space: kp, local: "config", typ: set, at: atService, handle: setConsent},
		// §3
		{name: "groups", space: ds, local: "groups", typ: get, at: atService, handle: listGroups},
		{name: "devices", space: ds, local: "devices", typ: get, at: atService, handle: ownDevices},
		{name: "devices", space: ds, local: "devices", typ: get, at: atGroup, handle: groupDevices},
		{name: "nudges", space: ds, local: "nudges", typ: get, at: atService, handle: getNudges},
		{name: "nudges", space: ds, local: "nudges", typ: set, at: atService, handle: setNudges},
		// §4
		{name: "reserve", space: ds, local: "reserve", typ: set, at: atService, handle: reserveGroup},
		{name: "create", space: ds, local: "create", typ: set, at: atService, handle: createGroup},
		// §5
		{name: "commit", space: ds, local: "commit", typ: set, at: atGroup, group: (*group).commit},
		{name: "stage", space: ds, local: "stage", typ: set, at: atBoth, handle: stagePiece},
		{name: "stage", space: ds, local: "stage", typ: get, at: atBoth, handle: stageProgress},
		// §6
		{name: "group-info", space: ds, local: "group-info", typ: get, at: atGroup, handle: getGroupInfo},
		{name: "tree", space: ds, local: "tree", typ: get, at: atGroup, handle: getTree},
		// §7
		{name: "welcome", space: ds, local: "welcome", typ: get, at: atBoth, handle: getWelcome},
		{name: "welcome", space: ds, local: "welcome", typ: set, at: atService, handle: takeWelcome},
		{name: "welcomes", space: ds, local: "welcomes", typ: get, at: atBoth, handle: listWelcomes},
		// §8
		{name: "proposal", space: ds, local: "proposal", typ: set, at: atGroup, group: (*group).proposal},
		{name: "leave", space: ds, local: "leave", typ: set, at: atGroup, group: (*group).leave},
		// §9
		verbSend,
		// §10
		{name: "log", space: ds, local: "log", typ: get, at: atGroup, handle: getLog},
		{name: "entry", space: ds, local: "entry", typ: get, at: atGroup, handle: getEntry},
		{name: "ack", space: ds, local: "ack", typ: set, at: atBoth, handle: ack},
		// §12
		{name: "affiliations", space: ds, local: "affiliations", typ: get, at: atGroup, handle: listAffiliations},
		{name: "affiliation", space: ds, local: "affiliation", typ: set, at: atGroup, group: (*group).setAffiliation},
		{name: "config", space: ds, local: "config", typ: get, at: atGroup, handle: getConfig},
		{name: "config", space: ds, local: "config", typ: set, at: atGroup, group: (*group).setConfig},
		{name: "destroy", space: ds, local: "destroy", typ: set, at: atGroup, group: (*group).destroyGroup},
		{name: "command", space: stanza.NSCommands, local: "command", typ: set, at: atService, always: true, handle: adHoc},
		// XEP-0191, XEP-0377
		{name: "blocklist", space: stanza.NSBlocking, local: "blocklist", typ: get, at: atService, handle: blockList},
		{name: "block", space: stanza.NSBlocking, local: "block", typ: set, at: atService, handle: block},
		{name: "unblock", space: stanza.NSBlocking, local: "unblock", typ: set, at: atService, handle: unblock},
		{name: "report", space: ds, local: "report", typ: set, at: atGroup, handle: report},
	} {
		if v.at&atService != 0 {
			verbTable[verbKey{v.space, v.local, v.typ, false}] = v
		}
		if v.at&atGroup != 0 {
			verbTable[verbKey{v.space, v.local, v.typ, true}] = v
		}
	}
}

// findVerb says what a request asks for, nil if nothing that we know.
func findVerb(r *request) *verb {
	if r.to.resource != "" {
		return nil
	}
	// The conversions do not allocate: they are only compared.
	return verbTable[verbKey{string(r.payload.Space()), string(r.payload.Local()), r.st.Type, r.to.local != ""}]
}
