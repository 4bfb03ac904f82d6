// SPDX-License-Identifier: Apache-2.0

package loopback

import (
	"strconv"
	"time"
)

// The message archive (XEP-0313): what real servers with mod_mam keep. Under s.mu.

const (
	nsMAM = "urn:xmpp:mam:2"
	nsSID = "urn:xmpp:sid:0"
	nsEME = "urn:xmpp:eme:0"
	nsRSM = "http://jabber.org/protocol/rsm"
)

const archiveMax = 100_000 // messages per account; the oldest go first

type archived struct {
	id   string
	at   time.Time
	with string
	el   *Element
}

// archives tells whether a message is one that servers keep: with a body or <store/>,
// on Prosody also when marked as encrypted; never groupchat, headline or errors.
func (s *Server) archives(st *Element) bool {
	if !s.opts.MAM || st.Name.Local != "message" {
		return false
	}
	switch st.Attr("type") {
	case "", "normal", "chat":
	default:
		return false
	}
	if st.Child(nsHints, "no-store") != nil || st.Child(nsHints, "no-permanent-store") != nil {
		return false
	}
	prosody := s.opts.Flavour == Prosody012 || s.opts.Flavour == Prosody13
	return st.Child(nsClient, "body") != nil || st.Child(nsHints, "store") != nil ||
		prosody && st.Child(nsEME, "encryption") != nil
}

func (s *Server) archiveSent(ses *session, st *Element) {
	if s.archives(st) {
		s.keep(ses.acct, bareOf(st.Attr("to")), st)
	}
}

// archiveReceived returns the message with the id under which it was kept.
func (s *Server) archiveReceived(a *account, st *Element) *Element {
	if !s.archives(st) {
		return st
	}
	st = st.Copy()
	kept := st.Nodes[:0]
	for _, n := range st.Nodes { // XEP-0359 §3.1: nobody else may speak for us
		if !(n.Elem.Is(nsSID, "stanza-id") && n.Elem.Attr("by") == a.bare) {
			kept = append(kept, n)
		}
	}
	st.Nodes = kept
	id := s.keep(a, bareOf(st.Attr("from")), st)
	return st.Add(El(nsSID, "stanza-id", "by", a.bare, "id", id))
}

func (s *Server) keep(a *account, with string, st *Element) string {
	id := strconv.FormatInt(now().UnixNano(), 36) + "-" + itoa(len(a.archive))
	a.archive = append(a.archive, archived{id, now(), with, st.Copy()})
	if len(a.archive) > archiveMax {
		a.archive = a.archive[1:]
	}
	return id
}

// mamQuery answers a query with paging (XEP-0059) and the filters with, start and end.
func (s *Server) mamQuery(a *account, iq *Element) {
	q := iq.Child(nsMAM, "query")
	f := formValues(q.Child(nsData, "x"))
	start, _ := time.Parse(time.RFC3339, f["start"])
	end, _ := time.Parse(time.RFC3339, f["end"])
	var list []archived
	for _, m := range a.archive {
		if (f["with"] == "" || f["with"] == m.with) && (start.IsZero() || !m.at.Before(start)) && (end.IsZero() || !m.at.After(end)) {
			list = append(list, m)
		}
	}
	total := len(list)
	set := q.Child(nsRSM, "set")
	limit := 50
	if n, err := strconv.Atoi(set.Child(nsRSM, "max").Text()); err == nil && n >= 0 && n < limit {
		limit = n
	}
	index := func(id string) int {
		for i, m := range list {
			if m.id == id {
				return i
			}
		}
		return -1
	}
	complete := true
	if after := set.Child(nsRSM, "after").Text(); after != "" {
		i := index(after)
		if i < 0 {
			s.bounce(iq, "cancel", "item-not-found", "")
			return
		}
		list = list[i+1:]
	}
	if before := set.Child(nsRSM, "before"); before != nil {
		if i := index(before.Text()); i >= 0 {
			list = list[:i]
		}
		if len(list) > limit {
			list, complete = list[len(list)-limit:], false
		}
	} else if len(list) > limit {
		list, complete = list[:limit], false
	}
	rsm := El(nsRSM, "set")
	for _, m := range list {
		fwd := El(nsForward, "forwarded").Add(El("urn:xmpp:delay", "delay", "stamp", stamp(m.at)), m.el)
		s.route(El(nsClient, "message", "from", a.bare, "to", iq.Attr("from")).
			Add(El(nsMAM, "result", "queryid", q.Attr("queryid"), "id", m.id).Add(fwd)))
	}
	if len(list) > 0 {
		rsm.Add(El(nsRSM, "first").AddText(list[0].id), El(nsRSM, "last").AddText(list[len(list)-1].id))
	}
	rsm.Add(El(nsRSM, "count").AddText(itoa(total)))
	fin := El(nsMAM, "fin")
	if complete {
		fin.Set("complete", "true")
	}
	s.reply(iq, fin.Add(rsm))
}

// Archive is what the archive of a user holds, oldest first.
func (s *Server) Archive(local string) []*Element {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*Element
	if a := s.accounts[local]; a != nil {
		for _, m := range a.archive {
			out = append(out, m.el)
		}
	}
	return out
}
