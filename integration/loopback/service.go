// SPDX-License-Identifier: Apache-2.0

package loopback

// Our own subdomains, and XEP-0033 multicast as ejabberd's mod_multicast offers it.
// Under s.mu.

const nsAddress = "http://jabber.org/protocol/address"

// serviceIQ answers what every service answers.
func (s *Server) serviceIQ(v service, st *Element) {
	if st.Name.Local == "presence" {
		return
	}
	switch {
	case st.Attr("type") != "get":
	case st.Child(nsDiscoInfo, "query") != nil:
		c, t, n := v.identity()
		q := discoInfo(c, t, n, append(v.features(), nsPing)...)
		if u, ok := v.(*upload); ok {
			q.Add(u.form())
		}
		s.reply(st, q)
		return
	case st.Child(nsDiscoItems, "query") != nil:
		s.reply(st, El(nsDiscoItems, "query"))
		return
	case st.Child(nsPing, "ping") != nil:
		s.reply(st)
		return
	}
	s.bounce(st, "cancel", "service-unavailable", "")
}

// form states the largest file (XEP-0363 §4).
func (u *upload) form() *Element {
	field := func(name, value string) *Element {
		return El(nsData, "field", "var", name).Add(El(nsData, "value").AddText(value))
	}
	return El(nsData, "x", "type", "result").Add(field("FORM_TYPE", nsUpload), field("max-file-size", itoa(uploadMax)))
}

// multicast spreads one stanza to many addresses (XEP-0033).
type multicast struct{ s *Server }

const multicastMax = 1000 // addresses in one stanza, as operators of a DS are told to allow

func (m *multicast) identity() (string, string, string) {
	return "service", "multicast", "Multicast service"
}
func (m *multicast) features() []string { return []string{nsAddress} }

func (m *multicast) handle(st *Element, to jid) {
	s := m.s
	addrs := st.Child(nsAddress, "addresses")
	if addrs == nil || st.Name.Local == "iq" {
		s.serviceIQ(m, st)
		return
	}
	list := addrs.Children()
	if len(list) == 0 || len(list) > multicastMax {
		s.bounce(st, "modify", "policy-violation", "Too many receiver fields were specified")
		return
	}
	seen := El(nsAddress, "addresses")
	var targets []string
	for _, a := range list {
		j, ok := parseJID(a.Attr("jid"))
		if !ok || !a.Is(nsAddress, "address") {
			s.bounce(st, "modify", "jid-malformed", "")
			return
		}
		targets = append(targets, j.String())
		if a.Attr("type") != "bcc" {
			seen.Add(a)
		}
	}
	out := st.Copy()
	out.Nodes = nil
	for _, n := range st.Nodes {
		if n.Elem != addrs {
			out.Nodes = append(out.Nodes, n)
		}
	}
	if len(seen.Nodes) > 0 {
		out.Add(seen)
	}
	for _, t := range targets {
		c := out.Copy()
		c.Set("to", t)
		s.route(c)
	}
}
