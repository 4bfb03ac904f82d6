// SPDX-License-Identifier: Apache-2.0

package loopback

// Message carbons (XEP-0280), by the rules that real servers apply. Under s.mu.

const (
	nsCarbons = "urn:xmpp:carbons:2"
	nsForward = "urn:xmpp:forward:0"
)

// copied tells whether a message is one that other devices get a copy of.
func copied(st *Element) bool {
	if st.Child(nsHints, "no-copy") != nil || st.Child(nsCarbons, "private") != nil ||
		st.Child(nsCarbons, "sent") != nil || st.Child(nsCarbons, "received") != nil {
		return false
	}
	switch st.Attr("type") {
	case "chat":
		return true
	case "", "normal":
		return st.Child(nsClient, "body") != nil
	}
	return false
}

func (s *Server) carbonsSent(from *session, st *Element) {
	if copied(st) {
		s.carbonCopy(from.acct, st, "sent", map[*session]bool{from: true})
	}
}

func (s *Server) carbonsReceived(a *account, st *Element, got map[*session]bool) {
	if copied(st) {
		s.carbonCopy(a, st, "received", got)
	}
}

func (s *Server) carbonCopy(a *account, st *Element, word string, but map[*session]bool) {
	for _, ses := range a.list() {
		if ses.carbons && !but[ses] {
			ses.send(El(nsClient, "message", "type", st.Attr("type"), "from", a.bare, "to", ses.full()).
				Add(El(nsCarbons, word).Add(El(nsForward, "forwarded").Add(st))))
		}
	}
}
