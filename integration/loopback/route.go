// SPDX-License-Identifier: Apache-2.0

package loopback

// Where stanzas go: RFC 6120 §10, RFC 6121 §8. All functions here run under s.mu.

func isStanza(el *Element) bool {
	if el.Name.Space != nsClient {
		return false
	}
	switch el.Name.Local {
	case "message", "presence", "iq":
		return true
	}
	return false
}

// stanzaError makes the answer to st with an error, or nil when RFC 6120 §8.3.1 forbids one.
func (s *Server) stanzaError(st *Element, typ, condition, text string) *Element {
	t := st.Attr("type")
	if t == "error" || st.Name.Local == "iq" && t != "get" && t != "set" {
		return nil
	}
	r := El(st.Name.Space, st.Name.Local, "type", "error", "id", st.Attr("id"), "from", st.Attr("to"), "to", st.Attr("from"))
	if s.b.payloadInErrors {
		r.Nodes = append(r.Nodes, st.Nodes...)
	}
	e := El(nsClient, "error", "type", typ).Add(El(nsStanzas, condition))
	if text != "" {
		e.Add(El(nsStanzas, "text").AddText(text))
	}
	return r.Add(e)
}

// bounce sends the error back where st came from.
func (s *Server) bounce(st *Element, typ, condition, text string) {
	if r := s.stanzaError(st, typ, condition, text); r != nil {
		s.route(r)
	}
}

// reply answers an IQ.
func (s *Server) reply(iq *Element, payload ...*Element) {
	s.route(El(nsClient, "iq", "type", "result", "id", iq.Attr("id"), "from", iq.Attr("to"), "to", iq.Attr("from")).Add(payload...))
}

// fromClient takes a stanza that a client sent.
func (s *Server) fromClient(ses *session, el *Element) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ses.gone {
		return
	}
	if !isStanza(el) {
		if el.Name.Space == nsClient { // RFC 6120 §4.9.3.24
			s.endSession(ses, streamError{"unsupported-stanza-type", ""})
		}
		return // a nonza that we do not know, such as XEP-0198's
	}
	if from := el.Attr("from"); from != "" {
		if j, ok := parseJID(from); s.b.spoofCloses && (!ok || j.String() != ses.full() && j.String() != ses.acct.bare) {
			s.endSession(ses, streamError{"invalid-from", ""})
			return
		}
	}
	el = s.normalise(el)
	el.Set("from", ses.full())
	if to := el.Attr("to"); to != "" {
		j, ok := parseJID(to)
		if !ok {
			if r := s.stanzaError(el, "modify", "jid-malformed", ""); r != nil {
				r.Set("to", ses.full())
				ses.send(r)
			}
			return
		}
		el.Set("to", j.String())
	}
	switch el.Name.Local {
	case "presence":
		s.clientPresence(ses, el)
		return
	case "iq":
		if !s.checkIQ(el, func(r *Element) { r.Set("to", ses.full()); ses.send(r) }) {
			return
		}
	case "message":
		s.carbonsSent(ses, el)
		s.archiveSent(ses, el)
	}
	if el.Attr("to") == "" {
		el.Set("to", ses.acct.bare)
	}
	s.route(el)
}

func (s *Server) endSession(ses *session, err streamError) {
	ses.conn.out.raw(err.xml())
	ses.conn.out.finish()
}

// normalise applies what the flavour changes in any stanza that enters.
func (s *Server) normalise(el *Element) *Element {
	el = el.Copy()
	if s.b.stripText {
		kept := el.Nodes[:0]
		for _, n := range el.Nodes {
			if n.Elem != nil {
				kept = append(kept, n)
			}
		}
		el.Nodes = kept
	}
	if s.b.fixMessageType && el.Name.Local == "message" {
		switch el.Attr("type") {
		case "", "normal", "chat", "groupchat", "headline", "error":
		default:
			el.Set("type", "")
		}
	}
	return el
}

// checkIQ refuses what the server itself refuses in any IQ.
func (s *Server) checkIQ(el *Element, send func(*Element)) bool {
	bad := func(text string) bool {
		send(El(nsClient, "iq", "type", "error", "id", el.Attr("id"), "from", el.Attr("to")).
			Add(El(nsClient, "error", "type", "modify").Add(El(nsStanzas, "bad-request"), El(nsStanzas, "text").AddText(text))))
		return false
	}
	if el.Attr("id") == "" {
		return bad("Missing required 'id' attribute")
	}
	switch el.Attr("type") {
	case "get", "set":
		if s.b.strictIQ && len(el.Children()) != 1 {
			return bad("Invalid number of children for get/set")
		}
	case "result", "error":
	default:
		return bad("Invalid IQ type")
	}
	return true
}

// route delivers a stanza with a good 'to' to wherever that is.
func (s *Server) route(st *Element) {
	to, ok := parseJID(st.Attr("to"))
	if !ok {
		return
	}
	switch {
	case to.domain == s.opts.Domain && to.local != "":
		s.toUser(st, to)
	case to.domain == s.opts.Domain:
		s.toServer(st, to)
	case s.components[to.domain] != nil:
		s.toComponent(st, s.components[to.domain])
	case s.services[to.domain] != nil:
		s.services[to.domain].handle(st, to)
	default:
		if s.opts.Network == nil || !s.opts.Network.send(s, st, to.domain) {
			s.bounce(st, "cancel", "remote-server-not-found", "Server-to-server connection failed")
		}
	}
}

// fromNetwork takes a stanza that another server sent.
func (s *Server) fromNetwork(st *Element) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if to, ok := parseJID(st.Attr("to")); ok && s.serves(to.domain) {
		s.route(st)
	}
}

func (s *Server) serves(domain string) bool {
	return domain == s.opts.Domain || s.components[domain] != nil || s.services[domain] != nil
}

// toUser delivers to an account: the table of RFC 6121 §8.5, as real servers apply it.
func (s *Server) toUser(st *Element, to jid) {
	a := s.accounts[to.local]
	switch st.Name.Local {
	case "presence":
		if a != nil {
			s.presenceToUser(a, st, to)
		}
	case "iq":
		switch {
		case a != nil && to.resource != "":
			if ses := a.sessions[to.resource]; ses != nil {
				ses.send(st)
				return
			}
			s.bounce(st, "cancel", "service-unavailable", "")
		case a != nil:
			s.accountIQ(a, st)
		default:
			s.bounce(st, "cancel", "service-unavailable", "")
		}
	case "message":
		if a == nil {
			if st.Attr("type") != "headline" {
				s.bounce(st, "cancel", "service-unavailable", "")
			}
			return
		}
		s.messageToUser(a, st, to)
	}
}

const nsHints = "urn:xmpp:hints"

func (s *Server) messageToUser(a *account, st *Element, to jid) {
	typ := st.Attr("type")
	if to.resource != "" {
		if ses := a.sessions[to.resource]; ses != nil {
			st = s.archiveReceived(a, st)
			ses.send(st)
			s.carbonsReceived(a, st, map[*session]bool{ses: true})
			return
		}
		switch typ {
		case "headline", "error":
			return
		case "groupchat":
			s.bounce(st, "cancel", "service-unavailable", "")
			return
		}
		// chat and normal fall back to the rules of the bare JID
	}
	switch typ {
	case "error":
		return
	case "groupchat":
		s.bounce(st, "cancel", "service-unavailable", "")
		return
	case "headline":
		reached := false
		for _, ses := range a.list() {
			if ses.presence != nil && ses.priority >= 0 {
				ses.send(st)
				reached = true
			}
		}
		if !reached && s.b.headlineStoreHint && st.Child(nsHints, "store") != nil {
			s.store(a, st)
		}
		return
	}
	best := 0
	for _, ses := range a.sessions {
		if ses.presence != nil {
			best = max(best, ses.priority)
		}
	}
	got := make(map[*session]bool)
	for _, ses := range a.sessions {
		if ses.presence != nil && ses.priority == best {
			got[ses] = true
		}
	}
	if len(got) == 0 {
		s.store(a, st)
		return
	}
	st = s.archiveReceived(a, st)
	for _, ses := range a.list() {
		if got[ses] {
			ses.send(st)
		}
	}
	s.carbonsReceived(a, st, got)
}

// store keeps a message for a user who is away (XEP-0160).
func (s *Server) store(a *account, st *Element) {
	if s.b.noStoreBounces && st.Child(nsHints, "no-store") != nil {
		s.bounce(st, "cancel", "service-unavailable", "")
		return
	}
	if s.b.offlineMax > 0 && len(a.offline) >= s.b.offlineMax {
		s.bounce(st, "wait", "resource-constraint", "Your contact offline message queue is full. The message has been discarded.")
		return
	}
	st = s.archiveReceived(a, st)
	a.offline = append(a.offline, delayed(st, s.opts.Domain, now()))
}
