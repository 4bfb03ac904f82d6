// SPDX-License-Identifier: Apache-2.0

package stanza

// This file is the one place that spells namespaces.

// Namespaces of the protocol.
const (
	// NSMLS is the namespace of MLS messages inside stanzas.
	NSMLS = "urn:xmpp:mls:0"
	// NSKeyPackages is the namespace of key packages.
	NSKeyPackages = "urn:xmpp:mls:kp:0"
	// NSDelivery is the namespace of the delivery service.
	NSDelivery = "urn:xmpp:mls:ds:0"
	// NSErrors is the namespace of application conditions in errors.
	NSErrors = "urn:xmpp:mls:errors:0"
)

// FORM_TYPE values and ad-hoc command nodes of the protocol.
const (
	// FormLimits is the form of limits in disco#info of a delivery service.
	FormLimits = NSDelivery + "#limits"
	// FormConfig is the configuration form of a group.
	FormConfig = NSDelivery + "#config"
	// FormConsent is the form of who may claim a user's key packages.
	FormConsent = NSKeyPackages + "#consent"

	// Ad-hoc commands of an operator (xep/mls-delivery.xml#admin).
	NodeListGroups           = NSDelivery + "#list-groups"
	NodeGroupInfo            = NSDelivery + "#group-info"
	NodeDestroyGroup         = NSDelivery + "#destroy-group"
	NodeSetQuota             = NSDelivery + "#set-quota"
	NodeBanDomain            = NSDelivery + "#ban-domain"
	NodeListDevices          = NSDelivery + "#list-devices"
	NodePurgeUser            = NSDelivery + "#purge-user"
	NodeStats                = NSDelivery + "#stats"
	NodeMaintenance          = NSDelivery + "#maintenance"
	NodeRotateExternalSender = NSDelivery + "#rotate-external-sender"
	// Service administration (XEP-0133).
	NodeAnnounce = NSAdmin + "#announce"
	NodeShutdown = NSAdmin + "#shutdown"
)

// Foreign namespaces, by the document that defines them.
const (
	NSClient    = "jabber:client"                       // RFC 6120
	NSServer    = "jabber:server"                       // RFC 6120
	NSStreams   = "http://etherx.jabber.org/streams"    // RFC 6120
	NSStanzas   = "urn:ietf:params:xml:ns:xmpp-stanzas" // RFC 6120
	NSStreamErr = "urn:ietf:params:xml:ns:xmpp-streams" // RFC 6120
	NSComponent = "jabber:component:accept"             // XEP-0114

	NSForm           = "jabber:x:data"                                     // XEP-0004
	NSDiscoInfo      = "http://jabber.org/protocol/disco#info"             // XEP-0030
	NSDiscoItems     = "http://jabber.org/protocol/disco#items"            // XEP-0030
	NSAddress        = "http://jabber.org/protocol/address"                // XEP-0033
	NSCommands       = "http://jabber.org/protocol/commands"               // XEP-0050
	NSRSM            = "http://jabber.org/protocol/rsm"                    // XEP-0059
	NSMUC            = "http://jabber.org/protocol/muc"                    // XEP-0045
	NSPubSub         = "http://jabber.org/protocol/pubsub"                 // XEP-0060
	NSPubSubEvent    = "http://jabber.org/protocol/pubsub#event"           // XEP-0060
	NSPublishOptions = "http://jabber.org/protocol/pubsub#publish-options" // XEP-0060
	NSChatStates     = "http://jabber.org/protocol/chatstates"             // XEP-0085
	NSVersion        = "jabber:iq:version"                                 // XEP-0092
	NSCaps           = "http://jabber.org/protocol/caps"                   // XEP-0115
	NSAdmin          = "http://jabber.org/protocol/admin"                  // XEP-0133
	NSServerInfo     = "http://jabber.org/network/serverinfo"              // XEP-0157
	NSReceipts       = "urn:xmpp:receipts"                                 // XEP-0184
	NSBlocking       = "urn:xmpp:blocking"                                 // XEP-0191
	NSPing           = "urn:xmpp:ping"                                     // XEP-0199
	NSTime           = "urn:xmpp:time"                                     // XEP-0202
	NSDelay          = "urn:xmpp:delay"                                    // XEP-0203
	NSHash           = "urn:xmpp:hashes:2"                                 // XEP-0300
	NSCorrect        = "urn:xmpp:message-correct:0"                        // XEP-0308
	NSMarkers        = "urn:xmpp:chat-markers:0"                           // XEP-0333
	NSHints          = "urn:xmpp:hints"                                    // XEP-0334
	NSSID            = "urn:xmpp:sid:0"                                    // XEP-0359
	NSUpload         = "urn:xmpp:http:upload:0"                            // XEP-0363
	NSReporting      = "urn:xmpp:reporting:1"                              // XEP-0377
	NSEME            = "urn:xmpp:eme:0"                                    // XEP-0380
	NSNoReply        = "urn:xmpp:noreply:0"                                // XEP-0506
	NSSCE            = "urn:xmpp:sce:1"                                    // XEP-0420
	NSRetract        = "urn:xmpp:message-retract:1"                        // XEP-0424
	NSFallback       = "urn:xmpp:fallback:0"                               // XEP-0428
	NSTrust          = "urn:xmpp:tm:1"                                     // XEP-0434
	NSReactions      = "urn:xmpp:reactions:0"                              // XEP-0444
	NSFileMetadata   = "urn:xmpp:file:metadata:0"                          // XEP-0446
	NSFileSharing    = "urn:xmpp:sfs:0"                                    // XEP-0447
	NSFileEncrypted  = "urn:xmpp:esfs:0"                                   // XEP-0448
	NSTrustProtocol  = "urn:xmpp:atm:1"                                    // XEP-0450
	NSReply          = "urn:xmpp:reply:0"                                  // XEP-0461
	NSURLData        = "http://jabber.org/protocol/url-data"               // XEP-0103
)

// isStanzaNS reports whether space is one of the content namespaces of XMPP
// streams, which are the same elements on different links (RFC 6120 §4.8.2,
// XEP-0114 §3).
func isStanzaNS[T string | []byte](space T) bool {
	switch string(space) {
	case NSClient, NSComponent, NSServer:
		return true
	}
	return false
}
