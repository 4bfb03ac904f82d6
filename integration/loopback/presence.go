// SPDX-License-Identifier: Apache-2.0

package loopback

import (
	"strconv"
	"time"
)

// Presence: RFC 6121 §§3-4. All functions run under s.mu.

var now = time.Now

const nsRoster = "jabber:iq:roster"

// A contact is a roster item, and what is known of somebody who asked to be one.
type contact struct {
	name   string
	groups []string
	to     bool     // we see them
	from   bool     // they see us
	ask    bool     // we asked
	asked  *Element // they asked and wait
	listed bool
}

func (c *contact) subscription() string {
	switch {
	case c.to && c.from:
		return "both"
	case c.to:
		return "to"
	case c.from:
		return "from"
	}
	return "none"
}

func (c *contact) item(address string) *Element {
	it := El(nsRoster, "item", "jid", address, "name", c.name, "subscription", c.subscription())
	if c.ask {
		it.Set("ask", "subscribe")
	}
	for _, g := range c.groups {
		it.Add(El(nsRoster, "group").AddText(g))
	}
	return it
}

func (a *account) contact(address string) *contact {
	c := a.roster[address]
	if c == nil {
		c = &contact{}
		a.roster[address] = c
	}
	return c
}

// clientPresence handles what a client sent.
func (s *Server) clientPresence(ses *session, p *Element) {
	typ, to := p.Attr("type"), p.Attr("to")
	switch typ {
	case "subscribe", "subscribed", "unsubscribe", "unsubscribed":
		if to != "" {
			s.subscriptionOut(ses.acct, p)
		}
		return
	}
	if to != "" {
		switch typ {
		case "":
			ses.directed[to] = true
		case "unavailable":
			delete(ses.directed, to)
		}
		s.route(p)
		return
	}
	switch typ {
	case "":
		n, err := strconv.Atoi(p.Child(nsClient, "priority").Text())
		if err != nil || n < -128 || n > 127 {
			n = 0
		}
		first := ses.presence == nil
		was := first || ses.priority < 0
		ses.presence, ses.priority = p, n
		s.presenceBroadcast(ses, p)
		if first {
			s.initialPresence(ses)
		}
		if was && n >= 0 {
			for _, m := range ses.acct.offline {
				ses.send(m)
			}
			ses.acct.offline = nil
		}
		s.askCaps(ses, p)
	case "unavailable":
		s.presenceBroadcast(ses, p)
		ses.presence = nil
	}
}

// presenceBroadcast sends presence to the account's own sessions and to those who may
// see it; unavailable also goes where directed presence went.
func (s *Server) presenceBroadcast(ses *session, p *Element) {
	a := ses.acct
	unavailable := p.Attr("type") == "unavailable"
	p = p.Copy()
	p.Set("from", ses.full())
	sent := make(map[string]bool)
	if ses.presence != nil {
		for _, other := range a.list() {
			if other.presence != nil {
				q := p.Copy()
				q.Set("to", other.full())
				other.send(q)
			}
		}
		for address, c := range a.roster {
			if c.from {
				q := p.Copy()
				q.Set("to", address)
				sent[address] = true
				s.route(q)
			}
		}
	}
	if !unavailable {
		return
	}
	for address := range ses.directed {
		if !sent[bareOf(address)] || bareOf(address) != address {
			q := p.Copy()
			q.Set("to", address)
			s.route(q)
		}
	}
	ses.directed = make(map[string]bool)
}

// initialPresence shows a session who is there (RFC 6121 §4.3) and who waits to be let in.
func (s *Server) initialPresence(ses *session) {
	a := ses.acct
	for _, other := range a.list() {
		if other != ses && other.presence != nil {
			q := other.presence.Copy()
			q.Set("to", ses.full())
			ses.send(q)
		}
	}
	for address, c := range a.roster {
		if c.to {
			s.route(El(nsClient, "presence", "type", "probe", "from", ses.full(), "to", address))
		}
		if c.asked != nil {
			ses.send(c.asked)
		}
	}
	s.pepInitial(ses)
}

// presenceToUser handles presence that arrives for an account.
func (s *Server) presenceToUser(a *account, p *Element, to jid) {
	from, ok := parseJID(p.Attr("from"))
	if !ok {
		return
	}
	switch p.Attr("type") {
	case "probe":
		if c := a.roster[from.bare()]; from.bare() == a.bare || c != nil && c.from {
			for _, ses := range a.list() {
				if ses.presence != nil {
					q := ses.presence.Copy()
					q.Set("to", from.String())
					s.route(q)
				}
			}
		}
	case "subscribe", "subscribed", "unsubscribe", "unsubscribed":
		s.subscriptionIn(a, p, from)
	default:
		if to.resource != "" {
			if ses := a.sessions[to.resource]; ses != nil {
				ses.send(p)
			}
			return
		}
		for _, ses := range a.list() {
			if ses.presence != nil {
				ses.send(p)
			}
		}
	}
}

// subscriptionOut is a user's own move (RFC 6121 §3).
func (s *Server) subscriptionOut(a *account, p *Element) {
	to, ok := parseJID(p.Attr("to"))
	if !ok {
		return
	}
	peer := to.bare()
	c := a.contact(peer)
	before := c.from
	switch p.Attr("type") {
	case "subscribe":
		c.ask, c.listed = !c.to, true
	case "subscribed":
		if c.asked == nil {
			return // no pre-approval
		}
		c.from, c.listed, c.asked = true, true, nil
	case "unsubscribe":
		c.to, c.ask = false, false
	case "unsubscribed":
		c.from, c.asked = false, nil
	}
	q := p.Copy()
	q.Set("from", a.bare)
	q.Set("to", peer)
	s.route(q)
	s.rosterPush(a, peer)
	for _, ses := range a.list() {
		if ses.presence == nil || c.from == before {
			continue
		}
		q := ses.presence
		if !c.from {
			q = El(nsClient, "presence", "type", "unavailable", "from", ses.full())
		}
		q = q.Copy()
		q.Set("to", peer)
		s.route(q)
	}
}

// subscriptionIn is the other side's move.
func (s *Server) subscriptionIn(a *account, p *Element, from jid) {
	peer := from.bare()
	c := a.contact(peer)
	q := p.Copy()
	q.Set("from", peer)
	switch p.Attr("type") {
	case "subscribe":
		if c.from {
			s.route(El(nsClient, "presence", "type", "subscribed", "from", a.bare, "to", peer))
			return
		}
		c.asked = q
	case "subscribed":
		if !c.ask {
			return
		}
		c.ask, c.to = false, true
		s.rosterPush(a, peer)
	case "unsubscribe":
		c.from, c.asked = false, nil
		s.rosterPush(a, peer)
	case "unsubscribed":
		c.to, c.ask = false, false
		s.rosterPush(a, peer)
	}
	for _, ses := range a.list() {
		if ses.presence != nil {
			ses.send(q)
		}
	}
}

func (s *Server) rosterPush(a *account, peer string) {
	c := a.roster[peer]
	if c == nil || !c.listed {
		return
	}
	for _, ses := range a.list() {
		if ses.roster {
			ses.send(El(nsClient, "iq", "type", "set", "id", "push-"+randomID(), "to", ses.full()).
				Add(El(nsRoster, "query").Add(c.item(peer))))
		}
	}
}

// rosterIQ answers jabber:iq:roster.
func (s *Server) rosterIQ(ses *session, iq *Element) {
	a := ses.acct
	if iq.Attr("type") == "get" {
		ses.roster = true
		q := El(nsRoster, "query")
		for address, c := range a.roster {
			if c.listed {
				q.Add(c.item(address))
			}
		}
		s.reply(iq, q)
		return
	}
	it := iq.Child(nsRoster, "query").Child(nsRoster, "item")
	j, ok := parseJID(it.attr("jid"))
	if !ok {
		s.bounce(iq, "modify", "bad-request", "")
		return
	}
	peer := j.bare()
	c := a.contact(peer)
	s.reply(iq)
	if it.Attr("subscription") == "remove" {
		for _, t := range []string{"unsubscribe", "unsubscribed"} {
			s.subscriptionOut(a, El(nsClient, "presence", "type", t, "to", peer))
		}
		delete(a.roster, peer)
		for _, o := range a.list() {
			if o.roster {
				o.send(El(nsClient, "iq", "type", "set", "id", "push-"+randomID(), "to", o.full()).
					Add(El(nsRoster, "query").Add(El(nsRoster, "item", "jid", peer, "subscription", "remove"))))
			}
		}
		return
	}
	c.listed, c.name, c.groups = true, it.Attr("name"), nil
	for _, g := range it.Children() {
		if g.Is(nsRoster, "group") {
			c.groups = append(c.groups, g.Text())
		}
	}
	s.rosterPush(a, peer)
}

// attr is Attr that a nil element survives.
func (e *Element) attr(name string) string {
	if e == nil {
		return ""
	}
	return e.Attr(name)
}
