// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Options configure a server. The zero value is a server as its defaults have
// it, with federation, MUC, PEP, carbons, stream management, offline storage and
// one component, without rate limits.
type Options struct {
	// Domain is the virtual host. Empty means a domain of the flavour's own with
	// a random label, so that servers of one process never share one. Not under
	// .test: libunbound, and so Prosody, resolves nothing there.
	Domain string

	// Components are the external components (XEP-0114) that the server admits.
	// Nil means one, mls.DOMAIN, with a random secret.
	Components []Component

	// KickOld makes Prosody drop the old link when a second one authenticates
	// for the same component (component_conflict_resolve = "kick_old"); its
	// default refuses the new one with a conflict stream error. ejabberd admits
	// several links in any case.
	KickOld bool

	// Balance is ejabberd's domain_balancing type for all component domains
	// ("random", "source", "destination", "bare_source", "bare_destination").
	// Empty is the server's default, random per stanza. Links says over how many
	// links it divides (component_number; 23.01 crashes without one).
	Balance string
	Links   int

	// Multicast adds XEP-0033: multicast.DOMAIN on ejabberd (mod_multicast,
	// 1,000 addresses a stanza), DOMAIN itself on Prosody (lockstep's own module,
	// docker/prosody/mod_lockstep_multicast.lua).
	Multicast bool

	// NoMUC leaves out rooms.DOMAIN.
	NoMUC bool

	// MAM is the default archiving preference of users (XEP-0313): "" is off,
	// "always" and "roster" are the protocol's.
	MAM string

	// NoOffline leaves out offline storage. OfflineLimit is ejabberd's number of
	// stored messages per user; 0 is Debian's 100. Prosody has no limit.
	NoOffline    bool
	OfflineLimit int

	// Size limits of one stanza in bytes; 0 is the server's default: 256 KiB
	// from clients, 512 KiB from servers. ComponentStanzaBytes: 0 is 512 KiB on
	// Prosody and none on ejabberd.
	C2SStanzaBytes, S2SStanzaBytes, ComponentStanzaBytes int

	// C2SRate and S2SRate limit what the server reads from one stream, in bytes
	// per second (Prosody mod_limits, ejabberd shapers); 0 is none. DebianRates
	// sets the servers' own: 10 kB/s on Prosody; 3 kB/s after a burst of 20 kB
	// on ejabberd.
	C2SRate, S2SRate int
	DebianRates      bool

	// Hibernation is how long a lost XEP-0198 stream may be resumed; 0 is a
	// minute. NoStreamManagement leaves it out.
	Hibernation        time.Duration
	NoStreamManagement bool

	// Upload adds upload.DOMAIN (XEP-0363), over https at [Server.HTTPS].
	Upload bool

	// Extra is appended to the configuration: Lua at the end of Prosody's global
	// section, YAML at the top level of ejabberd's.
	Extra string
}

// A Component is an external component as the server knows it.
type Component struct {
	Domain string
	Secret string
}

// An Account is a user as the server knows it.
type Account struct {
	User     string
	Domain   string
	Password string
}

// JID is the account's bare JID.
func (a Account) JID() string { return a.User + "@" + a.Domain }

var domainName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$`)

func (o Options) withDefaults(f Flavour) (Options, error) {
	if o.Domain == "" {
		o.Domain = randomLabel() + "." + f.sharedDomain()
	}
	if !domainName.MatchString(o.Domain) || strings.HasSuffix(o.Domain, ".test") {
		return o, fmt.Errorf("servers: domain %q: want a lower-case name with a dot that does not end in .test", o.Domain)
	}
	if o.Components == nil {
		o.Components = []Component{{Domain: "mls." + o.Domain, Secret: randomSecret()}}
	}
	seen := map[string]bool{o.Domain: true}
	for i, c := range o.Components {
		if !domainName.MatchString(c.Domain) || seen[c.Domain] {
			return o, fmt.Errorf("servers: component domain %q: malformed or used twice", c.Domain)
		}
		seen[c.Domain] = true
		if c.Secret == "" {
			o.Components[i].Secret = randomSecret()
		} else if strings.ContainsAny(c.Secret, "\"\\\n\r") {
			return o, fmt.Errorf("servers: secret of component %q: no quotes, backslashes or newlines, please", c.Domain)
		}
	}
	if o.C2SStanzaBytes == 0 {
		o.C2SStanzaBytes = 256 << 10
	}
	if o.S2SStanzaBytes == 0 {
		o.S2SStanzaBytes = 512 << 10
	}
	if o.OfflineLimit == 0 {
		o.OfflineLimit = 100
	}
	if o.Hibernation == 0 {
		o.Hibernation = time.Minute
	}
	if o.Balance != "" && o.Links == 0 {
		o.Links = 2
	}
	switch o.MAM {
	case "", "always", "roster":
	default:
		return o, fmt.Errorf("servers: MAM %q: one of \"\", always, roster", o.MAM)
	}
	return o, nil
}

// hosts are all domains that the server answers for.
func (o Options) hosts(f Flavour) []string {
	hosts := []string{o.Domain}
	for _, c := range o.Components {
		hosts = append(hosts, c.Domain)
	}
	if !o.NoMUC {
		hosts = append(hosts, "rooms."+o.Domain)
	}
	if o.Upload {
		hosts = append(hosts, "upload."+o.Domain)
	}
	if !f.Prosody() {
		hosts = append(hosts, "pubsub."+o.Domain)
		if o.Multicast {
			hosts = append(hosts, "multicast."+o.Domain)
		}
	}
	return hosts
}
