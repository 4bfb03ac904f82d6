// SPDX-License-Identifier: Apache-2.0

package loopback

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"sort"
	"strconv"
	"sync"
	"time"
)

func itoa(n int) string { return strconv.Itoa(n) }

// An account is a user of the server. Everything but its keys is guarded by Server.mu.
type account struct {
	local, bare, password string

	sessions map[string]*session
	roster   map[string]*contact
	offline  []*Element
	nodes    map[string]*node
	archive  []archived

	kmu  sync.Mutex
	keyC map[string]scramKeys
}

func (a *account) keys(h func() hash.Hash) (scramKeys, error) {
	name := "sha-1"
	if h().Size() == sha256.Size {
		name = "sha-256"
	}
	a.kmu.Lock()
	defer a.kmu.Unlock()
	if k, ok := a.keyC[name]; ok {
		return k, nil
	}
	k, err := deriveKeys(h, a.password)
	if err == nil {
		a.keyC[name] = k
	}
	return k, err
}

// AddAccount creates a user. An existing one gets the new password and keeps the rest.
func (s *Server) AddAccount(local, password string) error {
	j, ok := parseJID(local + "@" + s.opts.Domain)
	if !ok {
		return fmt.Errorf("loopback: %q cannot be a user name", local)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.accounts[j.local]; a != nil {
		a.kmu.Lock()
		a.password, a.keyC = password, make(map[string]scramKeys)
		a.kmu.Unlock()
		return nil
	}
	s.accounts[j.local] = &account{local: j.local, bare: j.bare(), password: password,
		sessions: make(map[string]*session), roster: make(map[string]*contact),
		nodes: make(map[string]*node), keyC: make(map[string]scramKeys)}
	return nil
}

// RemoveAccount deletes a user and ends its streams.
func (s *Server) RemoveAccount(local string) {
	s.mu.Lock()
	a := s.accounts[local]
	delete(s.accounts, local)
	var list []*session
	if a != nil {
		list = a.list()
	}
	s.mu.Unlock()
	for _, ses := range list {
		ses.conn.out.raw(streamError{"not-authorized", "account deleted"}.xml())
		ses.conn.out.finish()
	}
}

func (s *Server) account(local string) *account {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accounts[local]
}

// Offline counts the messages that wait for a user.
func (s *Server) Offline(local string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.accounts[local]; a != nil {
		return len(a.offline)
	}
	return 0
}

// Sessions are the full JIDs that are bound, sorted.
func (s *Server) Sessions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, a := range s.accounts {
		for _, ses := range a.sessions {
			out = append(out, ses.full())
		}
	}
	sort.Strings(out)
	return out
}

// list is the sessions in the order of their resources, so that runs repeat.
func (a *account) list() []*session {
	out := make([]*session, 0, len(a.sessions))
	for _, ses := range a.sessions {
		out = append(out, ses)
	}
	sort.Slice(out, func(i, k int) bool { return out[i].resource < out[k].resource })
	return out
}

// A session is a bound resource.
type session struct {
	conn     *conn
	acct     *account
	resource string

	presence *Element // the last available broadcast; nil = not available
	priority int
	directed map[string]bool // where directed presence went
	carbons  bool
	roster   bool            // asked for the roster, gets pushes
	notify   map[string]bool // nodes that its caps ask +notify for
	gone     bool
}

func (ses *session) full() string { return ses.acct.bare + "/" + ses.resource }

// send queues a stanza; a client that does not read for too long is cut off.
func (ses *session) send(el *Element) {
	if !ses.conn.out.put(el) {
		ses.conn.kill()
	}
}

// bind gives the stream a resource (RFC 6120 §7). A session that had it before is
// ended with <conflict/>, as both real servers do by default.
func (s *Server) bind(c *conn, a *account, iq *Element) (*session, error) {
	res := iq.Child(nsBind, "bind").Child(nsBind, "resource").Text()
	if res == "" {
		res = randomID()
	}
	j, ok := parseJID(a.bare + "/" + res)
	if !ok || iq.Attr("type") != "set" {
		return nil, streamError{"policy-violation", "bad resource binding"}
	}
	ses := &session{conn: c, acct: a, resource: j.resource, directed: make(map[string]bool), notify: make(map[string]bool)}
	s.mu.Lock()
	old := a.sessions[ses.resource]
	s.mu.Unlock()
	if old != nil {
		s.unbind(old)
		old.conn.out.raw(streamError{"conflict", "Replaced by new connection"}.xml())
		old.conn.out.finish()
	}
	c.startOut(ses.full())
	result := El(nsClient, "iq", "type", "result", "id", iq.Attr("id")).
		Add(El(nsBind, "bind").Add(El(nsBind, "jid").AddText(ses.full())))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("loopback: server closed")
	}
	ses.send(result)
	a.sessions[ses.resource] = ses
	return ses, nil
}

// unbind ends a session: unavailable presence goes wherever available went.
func (s *Server) unbind(ses *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ses.gone {
		return
	}
	if ses.presence != nil || len(ses.directed) > 0 {
		s.presenceBroadcast(ses, El(nsClient, "presence", "type", "unavailable"))
	}
	ses.gone = true
	if ses.acct.sessions[ses.resource] == ses {
		delete(ses.acct.sessions, ses.resource)
	}
}

// delayed marks a copy of a stanza with the time it was stored (XEP-0203).
func delayed(el *Element, by string, at time.Time) *Element {
	return el.Copy().Add(El("urn:xmpp:delay", "delay", "from", by, "stamp", stamp(at)))
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
