// SPDX-License-Identifier: Apache-2.0

package loopback

import (
	"sort"
	"strconv"
	"strings"
)

// Personal eventing (XEP-0163 on XEP-0060), as far as clients here use it: publish with
// options, retrieve, retract, delete, and +notify by entity capabilities. Under s.mu.

const (
	nsPubSub       = "http://jabber.org/protocol/pubsub"
	nsPubSubOwner  = "http://jabber.org/protocol/pubsub#owner"
	nsPubSubEvent  = "http://jabber.org/protocol/pubsub#event"
	nsPubSubErrors = "http://jabber.org/protocol/pubsub#errors"
	nsData         = "jabber:x:data"
)

// A node is one PEP node.
type node struct {
	access  string // "presence" or "open" or "whitelist"
	persist bool
	max     int
	items   []*Element // oldest first
}

func (s *Server) pepAllowed(a *account, n *node, own bool, who string) bool {
	return own || n.access == "open" || n.access == "presence" && s.sees(a, who)
}

func formValues(x *Element) map[string]string {
	out := make(map[string]string)
	for _, f := range x.Children() {
		if f.Is(nsData, "field") {
			out[f.Attr("var")] = f.Child(nsData, "value").Text()
		}
	}
	return out
}

// apply sets what a form says; false when a value is not one we know.
func (n *node) apply(form map[string]string) bool {
	for k, v := range form {
		switch strings.TrimPrefix(k, "pubsub#") {
		case "access_model":
			if v != "open" && v != "presence" && v != "whitelist" {
				return false
			}
			n.access = v
		case "persist_items":
			n.persist = v == "1" || v == "true"
		case "max_items":
			n.max = 1 << 20
			if v != "max" {
				m, err := strconv.Atoi(v)
				if err != nil || m < 1 {
					return false
				}
				n.max = m
			}
		}
	}
	return true
}

func (n *node) config() map[string]string {
	return map[string]string{"access_model": n.access, "persist_items": strconv.FormatBool(n.persist), "max_items": itoa(n.max)}
}

func (s *Server) pepError(iq *Element, typ, condition, app string) {
	r := s.stanzaError(iq, typ, condition, "")
	if r == nil {
		return
	}
	if app != "" {
		e := r.Child(nsClient, "error")
		e.Add(El(nsPubSubErrors, app))
	}
	s.route(r)
}

func (s *Server) pepIQ(a *account, own bool, iq *Element) {
	ps := iq.Child(nsPubSub, "pubsub")
	verb := ps.First()
	if verb == nil {
		s.pepError(iq, "modify", "bad-request", "")
		return
	}
	name := verb.Attr("node")
	n := a.nodes[name]
	set := iq.Attr("type") == "set"
	switch {
	case set && !own:
		s.pepError(iq, "auth", "forbidden", "")
	case set && verb.Is(nsPubSub, "publish"):
		s.pepPublish(a, iq, ps, verb)
	case set && verb.Is(nsPubSub, "create"):
		if n != nil {
			s.pepError(iq, "cancel", "conflict", "")
			return
		}
		n = &node{access: "presence", persist: true, max: 1}
		if !n.apply(formValues(ps.Child(nsPubSub, "configure").Child(nsData, "x"))) {
			s.pepError(iq, "modify", "not-acceptable", "")
			return
		}
		a.nodes[name] = n
		s.reply(iq)
	case n == nil:
		s.pepError(iq, "cancel", "item-not-found", "")
	case set && verb.Is(nsPubSub, "retract"):
		id := verb.Child(nsPubSub, "item").attr("id")
		for i, it := range n.items {
			if it.Attr("id") == id {
				n.items = append(n.items[:i:i], n.items[i+1:]...)
				s.reply(iq)
				s.pepNotify(a, name, n, El(nsPubSubEvent, "retract", "id", id))
				return
			}
		}
		s.pepError(iq, "cancel", "item-not-found", "")
	case !set && verb.Is(nsPubSub, "items"):
		if !s.pepAllowed(a, n, own, iq.Attr("from")) {
			if n.access == "presence" {
				s.pepError(iq, "auth", "not-authorized", "presence-subscription-required")
			} else {
				s.pepError(iq, "cancel", "not-allowed", "closed-node")
			}
			return
		}
		s.reply(iq, El(nsPubSub, "pubsub").Add(n.retrieve(name, verb)))
	default:
		s.pepError(iq, "cancel", "feature-not-implemented", "")
	}
}

// retrieve answers <items/>: named ones, the newest few, or all.
func (n *node) retrieve(name string, verb *Element) *Element {
	out := El(nsPubSub, "items", "node", name)
	want := make(map[string]bool)
	for _, it := range verb.Children() {
		want[it.Attr("id")] = true
	}
	list := n.items
	if m, err := strconv.Atoi(verb.Attr("max_items")); err == nil && m >= 0 && m < len(list) {
		list = list[len(list)-m:]
	}
	for _, it := range list {
		if len(want) == 0 || want[it.Attr("id")] {
			out.Add(it)
		}
	}
	return out
}

func (s *Server) pepPublish(a *account, iq, ps, verb *Element) {
	name := verb.Attr("node")
	it := verb.Child(nsPubSub, "item")
	if name == "" || it == nil {
		s.pepError(iq, "modify", "bad-request", "item-required")
		return
	}
	options := formValues(ps.Child(nsPubSub, "publish-options").Child(nsData, "x"))
	delete(options, "FORM_TYPE")
	n := a.nodes[name]
	if n == nil {
		n = &node{access: "presence", persist: true, max: 1}
		if !n.apply(options) {
			s.pepError(iq, "cancel", "conflict", "precondition-not-met")
			return
		}
		a.nodes[name] = n
	} else {
		probe := *n
		ok := probe.apply(options)
		if !ok || probe.access != n.access || probe.persist != n.persist {
			s.pepError(iq, "cancel", "conflict", "precondition-not-met")
			return
		}
		n.max = probe.max
	}
	id := it.Attr("id")
	if id == "" {
		id = randomID()
	}
	kept := El(nsPubSub, "item", "id", id)
	kept.Nodes = it.Nodes
	for i, old := range n.items {
		if old.Attr("id") == id {
			n.items = append(n.items[:i:i], n.items[i+1:]...)
			break
		}
	}
	n.items = append(n.items, kept)
	if len(n.items) > n.max {
		n.items = n.items[len(n.items)-n.max:]
	}
	s.reply(iq, El(nsPubSub, "pubsub").Add(El(nsPubSub, "publish", "node", name).Add(El(nsPubSub, "item", "id", id))))
	ev := El(nsPubSubEvent, "item", "id", id)
	ev.Nodes = kept.Nodes
	s.pepNotify(a, name, n, ev)
	if !n.persist {
		n.items = nil
	}
}

func (s *Server) pepOwner(a *account, iq *Element) {
	verb := iq.ChildNS(nsPubSubOwner).First()
	name := verb.attr("node")
	n := a.nodes[name]
	switch {
	case n == nil:
		s.pepError(iq, "cancel", "item-not-found", "")
	case verb.Is(nsPubSubOwner, "delete") && iq.Attr("type") == "set":
		delete(a.nodes, name)
		s.reply(iq)
	case verb.Is(nsPubSubOwner, "purge") && iq.Attr("type") == "set":
		n.items = nil
		s.reply(iq)
	case verb.Is(nsPubSubOwner, "configure") && iq.Attr("type") == "set":
		if !n.apply(formValues(verb.Child(nsData, "x"))) {
			s.pepError(iq, "modify", "not-acceptable", "")
			return
		}
		s.reply(iq)
	case verb.Is(nsPubSubOwner, "configure"):
		x := El(nsData, "x", "type", "form").Add(El(nsData, "field", "var", "FORM_TYPE", "type", "hidden").
			Add(El(nsData, "value").AddText(nsPubSub + "#node_config")))
		cfg := n.config()
		for _, k := range []string{"access_model", "persist_items", "max_items"} {
			x.Add(El(nsData, "field", "var", "pubsub#"+k).Add(El(nsData, "value").AddText(cfg[k])))
		}
		s.reply(iq, El(nsPubSubOwner, "pubsub").Add(El(nsPubSubOwner, "configure", "node", name).Add(x)))
	default:
		s.pepError(iq, "cancel", "feature-not-implemented", "")
	}
}

func (s *Server) pepNodes(a *account, own bool, who string) *Element {
	q := El(nsDiscoItems, "query")
	var names []string
	for name, n := range a.nodes {
		if s.pepAllowed(a, n, own, who) {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	for _, name := range names {
		q.Add(El(nsDiscoItems, "item", "jid", a.bare, "node", name))
	}
	return q
}

// pepNotify tells the account's own sessions and local contacts whose capabilities ask
// for the node.
func (s *Server) pepNotify(a *account, name string, n *node, what *Element) {
	for _, other := range s.accounts {
		if other != a && !(s.sees(a, other.bare) && n.access != "whitelist") {
			continue
		}
		for _, ses := range other.list() {
			if ses.notify[name] {
				ses.send(pepEvent(a.bare, ses.full(), name, what))
			}
		}
	}
}

func pepEvent(from, to, name string, what *Element) *Element {
	return El(nsClient, "message", "type", "headline", "from", from, "to", to).
		Add(El(nsPubSubEvent, "event").Add(El(nsPubSubEvent, "items", "node", name).Add(what)))
}

// pepInitial sends the last items of what a session asks for.
func (s *Server) pepInitial(ses *session) {
	for _, other := range s.accounts {
		for name, n := range other.nodes {
			if len(n.items) > 0 && ses.notify[name] && (other == ses.acct || s.sees(other, ses.acct.bare) && n.access != "whitelist") {
				last := n.items[len(n.items)-1]
				ev := El(nsPubSubEvent, "item", "id", last.Attr("id"))
				ev.Nodes = last.Nodes
				ses.send(pepEvent(other.bare, ses.full(), name, ev))
			}
		}
	}
}

// askCaps learns what an available client wants to be notified of, as servers do: by a
// disco#info query (XEP-0115 §6).
func (s *Server) askCaps(ses *session, p *Element) {
	c := p.Child(nsCaps, "c")
	if c == nil {
		return
	}
	id := "caps-" + randomID()
	s.pings[id] = func(r *Element) {
		if ses.gone || r.Attr("type") != "result" {
			return
		}
		ses.notify = make(map[string]bool)
		for _, f := range r.Child(nsDiscoInfo, "query").Children() {
			if name, ok := strings.CutSuffix(f.Attr("var"), "+notify"); ok && f.Name.Local == "feature" {
				ses.notify[name] = true
			}
		}
		s.pepInitial(ses)
	}
	node := c.Attr("node")
	if v := c.Attr("ver"); v != "" {
		node += "#" + v
	}
	ses.send(El(nsClient, "iq", "type", "get", "id", id, "from", s.opts.Domain, "to", ses.full()).
		Add(El(nsDiscoInfo, "query", "node", node)))
}
