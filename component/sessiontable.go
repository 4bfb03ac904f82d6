// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/stanza/xmlpull"
)

// sessionTable answers "which full JIDs get live deliveries", from memory where
// this process is the only one, and from the store where it is not.
type sessionTable struct {
	s      *Service
	shared bool

	// gen grows with every change: lists of recipients made before are outdated.
	gen atomic.Uint64

	mu sync.RWMutex
	// recent are the users of the last changes: that of change n is at n modulo
	// its length.
	recent [1024]string
	byUser map[string][]session
	byJID  map[string]string // full JID to user
	// domains counts the sessions of each domain.
	domains map[string]int
}

// session is one live session. Its strings are shared with the table's keys.
type session struct {
	jid     string // full JID as the server writes it
	escaped string // the same for an XML attribute
	device  string
}

func newSessionTable(s *Service) *sessionTable {
	t := &sessionTable{s: s, shared: s.store.Shared()}
	t.clear()
	return t
}

func escapeAttr(s string) string {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ', c == '&', c == '<', c == '>', c == '\'', c == '"', c >= 0x7f:
			return string(xmlpull.AppendText(nil, s))
		}
	}
	return s
}

// load reads the sessions of the last run, and where other processes open and
// end sessions, too, what has become of them: it is then called again and again.
func (t *sessionTable) load(ctx context.Context) error {
	next := &sessionTable{}
	next.clear()
	if err := t.s.eachSession(ctx, next.put); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.byUser, t.byJID, t.domains = next.byUser, next.byJID, next.domains
	t.gen.Add(uint64(len(t.recent)) + 1) // whoever has a list of recipients makes it anew
	return nil
}

// eachSession visits the sessions in the store, of whatever process.
func (s *Service) eachSession(ctx context.Context, f func(store.Session)) error {
	after := ""
	for {
		var page []store.Session
		err := s.store.View(ctx, func(r store.Reader) (err error) {
			page, err = r.AllSessions(after, 1000)
			return err
		})
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return nil
		}
		for _, p := range page {
			f(p)
		}
		after = page[len(page)-1].JID
	}
}

func (t *sessionTable) clear() {
	t.byUser, t.byJID, t.domains = make(map[string][]session), make(map[string]string), make(map[string]int)
}

// put adds or renews a session.
func (t *sessionTable) put(p store.Session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remove(p.JID)
	t.byJID[p.JID] = p.User
	t.domains[domainOf(p.User)]++
	t.byUser[p.User] = append(t.byUser[p.User], session{jid: p.JID, escaped: escapeAttr(p.JID), device: p.Device})
	t.changed(p.User)
}

// drop ends a session and reports whether there was one.
func (t *sessionTable) drop(jid string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.remove(jid)
}

func (t *sessionTable) remove(jid string) bool {
	user, ok := t.byJID[jid]
	if !ok {
		return false
	}
	delete(t.byJID, jid)
	domain := domainOf(user)
	if t.domains[domain]--; t.domains[domain] == 0 {
		delete(t.domains, domain)
	}
	rest := slices.DeleteFunc(t.byUser[user], func(s session) bool { return s.jid == jid })
	if len(rest) == 0 {
		delete(t.byUser, user)
	} else {
		t.byUser[user] = rest
	}
	t.changed(user)
	return true
}

// changed notes a change, under mu.
func (t *sessionTable) changed(user string) {
	n := t.gen.Load() + 1
	t.recent[n%uint64(len(t.recent))] = user
	t.gen.Store(n)
}

// changedSince reports whether a session of one of the given users has changed
// after the change from, up to the change to.
func (t *sessionTable) changedSince(from, to uint64, members map[string][]leafDevice) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.gen.Load()-from > uint64(len(t.recent)) {
		return true // it is no longer known
	}
	for n := from + 1; n <= to; n++ {
		if _, ok := members[t.recent[n%uint64(len(t.recent))]]; ok {
			return true
		}
	}
	return false
}

// room reports whether an account may have one more session, or has the one of
// this address already.
func (t *sessionTable) room(a addr, limit int) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	_, ok := t.byJID[a.full]
	return ok || t.domains[a.domain] < limit
}

// maybe reports whether an address may have a session: so that those who have
// none cannot make the service look for it. Where other processes keep sessions,
// too, everybody may.
func (t *sessionTable) maybe(a addr) bool {
	if t.shared {
		return true
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if a.resource == "" {
		return len(t.byUser[a.bare]) > 0
	}
	_, ok := t.byJID[a.full]
	return ok
}

func (t *sessionTable) count() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.byJID)
}

// of lists the sessions of a user.
func (t *sessionTable) of(ctx context.Context, user string) []session {
	if !t.shared {
		t.mu.RLock()
		defer t.mu.RUnlock()
		return slices.Clone(t.byUser[user])
	}
	var rows []store.Session
	err := t.s.store.View(ctx, func(r store.Reader) (err error) {
		rows, err = r.Sessions(user)
		return err
	})
	if err != nil {
		t.s.log.Error("reading sessions", "error", err)
		return nil
	}
	return toSessions(rows)
}

func toSessions(rows []store.Session) []session {
	out := make([]session, len(rows))
	for i, r := range rows {
		out[i] = session{jid: r.JID, escaped: escapeAttr(r.JID), device: r.Device}
	}
	return out
}

// device gives the device of a live session, "" if there is no such session.
func (t *sessionTable) device(ctx context.Context, a addr) string {
	for _, s := range t.of(ctx, a.bare) {
		if s.jid == a.full {
			return s.device
		}
	}
	return ""
}

// recipients lists, escaped, the full JIDs of the live sessions of the given
// devices, and the users that have none.
func (t *sessionTable) recipients(ctx context.Context, key store.GroupKey, members map[string][]leafDevice) (to []string, absent []string) {
	if t.shared {
		var rows []store.Session
		err := t.s.store.View(ctx, func(r store.Reader) (err error) {
			rows, err = r.GroupSessions(key)
			return err
		})
		if err != nil {
			t.s.log.Error("reading a group's sessions", "error", err)
			return nil, nil
		}
		live := make(map[string]bool, len(rows))
		for _, r := range rows {
			to = append(to, escapeAttr(r.JID))
			live[r.User] = true
		}
		for user := range members {
			if !live[user] {
				absent = append(absent, user)
			}
		}
		return to, absent
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	for user, devices := range members {
		sessions := t.byUser[user]
		if len(sessions) == 0 {
			absent = append(absent, user)
			continue
		}
		for _, s := range sessions {
			if slices.ContainsFunc(devices, func(d leafDevice) bool { return d.device == s.device }) {
				to = append(to, s.escaped)
			}
		}
	}
	return to, absent
}
