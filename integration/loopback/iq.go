// SPDX-License-Identifier: Apache-2.0

package loopback

import "sort"

// What the server answers itself: for its domain and on behalf of its users. Under s.mu.

const (
	nsDiscoInfo  = "http://jabber.org/protocol/disco#info"
	nsDiscoItems = "http://jabber.org/protocol/disco#items"
	nsPing       = "urn:xmpp:ping"
	nsVersion    = "jabber:iq:version"
	nsCaps       = "http://jabber.org/protocol/caps"
)

func discoInfo(category, typ, name string, features ...string) *Element {
	q := El(nsDiscoInfo, "query").Add(El(nsDiscoInfo, "identity", "category", category, "type", typ, "name", name))
	for _, f := range append([]string{nsDiscoInfo, nsDiscoItems}, features...) {
		q.Add(El(nsDiscoInfo, "feature", "var", f))
	}
	return q
}

// toServer handles a stanza to the server's own domain.
func (s *Server) toServer(st *Element, to jid) {
	if st.Name.Local != "iq" {
		if st.Name.Local == "message" {
			s.bounce(st, "cancel", "service-unavailable", "")
		}
		return
	}
	if f := s.pings[st.Attr("id")]; f != nil && st.Attr("type") != "get" && st.Attr("type") != "set" {
		delete(s.pings, st.Attr("id"))
		f(st)
		return
	}
	if ses := s.sessionOf(st.Attr("from")); ses != nil && (st.Child(nsSession, "session") != nil ||
		st.Child(nsRoster, "query") != nil || st.Child(nsCarbons, "enable") != nil || st.Child(nsCarbons, "disable") != nil) {
		s.accountIQ(ses.acct, st)
		return
	}
	switch {
	case st.Attr("type") != "get":
	case st.Child(nsPing, "ping") != nil:
		s.reply(st)
		return
	case st.Child(nsDiscoInfo, "query") != nil:
		features := []string{nsPing, nsVersion, nsCarbons, "urn:xmpp:carbons:rules:0"}
		if s.opts.MAM {
			features = append(features, nsMAM)
		}
		s.reply(st, discoInfo("server", "im", s.opts.Flavour.String(), features...))
		return
	case st.Child(nsDiscoItems, "query") != nil:
		q := El(nsDiscoItems, "query")
		for _, d := range s.subdomains() {
			q.Add(El(nsDiscoItems, "item", "jid", d))
		}
		s.reply(st, q)
		return
	case st.Child(nsVersion, "query") != nil:
		s.reply(st, El(nsVersion, "query").Add(El(nsVersion, "name").AddText("loopback"),
			El(nsVersion, "version").AddText(s.opts.Flavour.String())))
		return
	}
	s.bounce(st, "cancel", "service-unavailable", "")
}

func (s *Server) subdomains() []string {
	var out []string
	for d := range s.components {
		out = append(out, d)
	}
	for d := range s.services {
		out = append(out, d)
	}
	sort.Strings(out)
	return out
}

func (s *Server) sessionOf(full string) *session {
	j, ok := parseJID(full)
	if !ok || j.domain != s.opts.Domain {
		return nil
	}
	if a := s.accounts[j.local]; a != nil {
		return a.sessions[j.resource]
	}
	return nil
}

// accountIQ answers an IQ to a user's bare JID.
func (s *Server) accountIQ(a *account, iq *Element) {
	typ := iq.Attr("type")
	if typ == "result" || typ == "error" {
		if f := s.pings[iq.Attr("id")]; f != nil {
			delete(s.pings, iq.Attr("id"))
			f(iq)
		}
		return
	}
	own := s.sessionOf(iq.Attr("from"))
	if own != nil && own.acct != a {
		own = nil
	}
	switch {
	case iq.Child(nsPubSub, "pubsub") != nil:
		s.pepIQ(a, own != nil, iq)
		return
	case iq.ChildNS(nsPubSubOwner) != nil && own != nil:
		s.pepOwner(a, iq)
		return
	case own == nil && typ == "get" && (iq.Child(nsDiscoInfo, "query") != nil || iq.Child(nsDiscoItems, "query") != nil) && !s.sees(a, iq.Attr("from")):
	case typ == "get" && iq.Child(nsDiscoInfo, "query") != nil:
		q := discoInfo("account", "registered", "", nsCarbons, nsPubSub, nsPubSub+"#publish", nsPubSub+"#publish-options",
			nsPubSub+"#persistent-items", nsPubSub+"#retrieve-items", nsPubSub+"#access-presence", nsPubSub+"#access-open",
			nsPubSub+"#auto-create", nsPubSub+"#item-ids", nsPubSub+"#multi-items")
		q.Add(El(nsDiscoInfo, "identity", "category", "pubsub", "type", "pep"))
		if s.opts.MAM {
			q.Add(El(nsDiscoInfo, "feature", "var", nsMAM), El(nsDiscoInfo, "feature", "var", nsSID))
		}
		s.reply(iq, q)
		return
	case typ == "get" && iq.Child(nsDiscoItems, "query") != nil:
		s.reply(iq, s.pepNodes(a, own != nil, iq.Attr("from")))
		return
	case typ == "get" && iq.Child(nsPing, "ping") != nil:
		s.reply(iq)
		return
	case own == nil:
	case iq.Child(nsRoster, "query") != nil:
		s.rosterIQ(own, iq)
		return
	case iq.Child(nsSession, "session") != nil:
		s.reply(iq)
		return
	case iq.Child(nsCarbons, "enable") != nil || iq.Child(nsCarbons, "disable") != nil:
		own.carbons = iq.Child(nsCarbons, "enable") != nil
		s.reply(iq)
		return
	case s.opts.MAM && iq.Child(nsMAM, "query") != nil:
		s.mamQuery(a, iq)
		return
	}
	s.bounce(iq, "cancel", "service-unavailable", "")
}

// sees tells whether somebody may see a user's presence, or is the user.
func (s *Server) sees(a *account, who string) bool {
	b := bareOf(who)
	c := a.roster[b]
	return b == a.bare || c != nil && c.from
}
