// SPDX-License-Identifier: Apache-2.0

package loopback

import "sort"

// A small multi-user chat (XEP-0045): instant rooms, groupchat, subject, leaving. It is
// here so that a scenario can see that MUC beside the delivery service is untouched, and
// the load command can compare. Under s.mu.

const (
	nsMUC     = "http://jabber.org/protocol/muc"
	nsMUCUser = "http://jabber.org/protocol/muc#user"
)

const mucHistory = 20 // messages a newcomer is shown

type rooms struct {
	s      *Server
	domain string
	list   map[string]*room
}

type room struct {
	bare    string
	nicks   map[string]string // nick -> full JID
	history []*Element
	subject *Element
}

func newRooms(s *Server, domain string) *rooms {
	return &rooms{s: s, domain: domain, list: make(map[string]*room)}
}

func (m *rooms) identity() (string, string, string) { return "conference", "text", "Chat rooms" }
func (m *rooms) features() []string                 { return []string{nsMUC} }

func (r *room) nickOf(full string) string {
	for n, j := range r.nicks {
		if j == full {
			return n
		}
	}
	return ""
}

func (m *rooms) handle(st *Element, to jid) {
	s := m.s
	from := st.Attr("from")
	r := m.list[to.local]
	switch {
	case to.local == "":
		s.serviceIQ(m, st)
	case st.Name.Local == "presence":
		m.presence(st, to, from, r)
	case r == nil:
		s.bounce(st, "cancel", "item-not-found", "")
	case st.Name.Local == "iq" && to.resource == "" && st.Child(nsMUC+"#owner", "query") != nil:
		s.reply(st) // instant room: the form is accepted as it is
	case st.Name.Local == "iq" && to.resource == "" && st.Attr("type") == "get" && st.Child(nsDiscoInfo, "query") != nil:
		s.reply(st, discoInfo("conference", "text", to.local, nsMUC))
	case st.Name.Local == "message" && st.Attr("type") == "groupchat" && to.resource == "":
		m.groupchat(st, from, r)
	case st.Name.Local == "message" && to.resource != "" && r.nickOf(from) != "" && r.nicks[to.resource] != "":
		c := st.Copy()
		c.Set("from", r.bare+"/"+r.nickOf(from))
		c.Set("to", r.nicks[to.resource])
		s.route(c)
	default:
		s.bounce(st, "cancel", "service-unavailable", "")
	}
}

func (m *rooms) groupchat(st *Element, from string, r *room) {
	s := m.s
	nick := r.nickOf(from)
	if nick == "" {
		s.bounce(st, "modify", "not-acceptable", "You are not currently connected to this chat")
		return
	}
	c := st.Copy()
	c.Set("from", r.bare+"/"+nick)
	if st.Child(nsClient, "subject") != nil && st.Child(nsClient, "body") == nil {
		r.subject = c
	} else if st.Child(nsClient, "body") != nil {
		r.history = append(r.history, delayed(c, r.bare, now()))
		if len(r.history) > mucHistory {
			r.history = r.history[1:]
		}
	}
	m.all(r, c)
}

func (m *rooms) all(r *room, st *Element) {
	var nicks []string
	for n := range r.nicks {
		nicks = append(nicks, n)
	}
	sort.Strings(nicks)
	for _, n := range nicks {
		c := st.Copy()
		c.Set("to", r.nicks[n])
		m.s.route(c)
	}
}

func (m *rooms) presence(st *Element, to jid, from string, r *room) {
	s := m.s
	switch st.Attr("type") {
	case "error", "unavailable":
		if r == nil || r.nickOf(from) == "" {
			return
		}
		nick := r.nickOf(from)
		p := El(nsClient, "presence", "type", "unavailable", "from", r.bare+"/"+nick)
		m.all(r, p.Copy().Add(El(nsMUCUser, "x").Add(El(nsMUCUser, "item", "affiliation", "none", "role", "none"))))
		delete(r.nicks, nick)
		if len(r.nicks) == 0 {
			delete(m.list, to.local)
		}
		return
	case "":
	default:
		return
	}
	if to.resource == "" {
		s.bounce(st, "modify", "jid-malformed", "")
		return
	}
	created := r == nil
	if created {
		r = &room{bare: to.bare(), nicks: make(map[string]string)}
		m.list[to.local] = r
	}
	if holder := r.nicks[to.resource]; holder != "" && holder != from {
		s.bounce(st, "cancel", "conflict", "")
		return
	}
	known := r.nickOf(from) != ""
	item := func() *Element {
		return El(nsMUCUser, "item", "affiliation", "member", "role", "participant")
	}
	for n := range r.nicks {
		s.route(El(nsClient, "presence", "from", r.bare+"/"+n, "to", from).Add(El(nsMUCUser, "x").Add(item())))
	}
	own := El(nsMUCUser, "x").Add(item(), El(nsMUCUser, "status", "code", "110"))
	if created {
		own.Add(El(nsMUCUser, "status", "code", "201"))
	}
	m.all(r, El(nsClient, "presence", "from", r.bare+"/"+to.resource).Add(El(nsMUCUser, "x").Add(item())))
	r.nicks[to.resource] = from
	s.route(El(nsClient, "presence", "from", r.bare+"/"+to.resource, "to", from).Add(own))
	if known {
		return
	}
	for _, h := range r.history {
		c := h.Copy()
		c.Set("to", from)
		s.route(c)
	}
	subject := r.subject
	if subject == nil {
		subject = El(nsClient, "message", "type", "groupchat", "from", r.bare).Add(El(nsClient, "subject"))
	}
	c := subject.Copy()
	c.Set("to", from)
	s.route(c)
}
