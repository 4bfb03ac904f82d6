// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// Group is one end-to-end encrypted group. Its methods may be called from any
// goroutine, and from handlers. Changes of the membership need a right that the
// group's roles give; see [Group.Role].
type Group struct {
	c    *Client
	jid  string
	host string // the delivery service: the JID's domain
	id   string // names the group's rows in the store
	cfg  *mls.Config
	b    *batch                // changed with the lock held, by setBatch
	bNow atomic.Pointer[batch] // b, for who does not hold the lock
	out  *dispatcher

	writes writes // what of the batch something follows

	// status is read without the lock.
	status atomic.Int32

	// commitSem is held for one operation that makes a commit, from the first
	// attempt to the last.
	commitSem chan struct{}

	mu         sync.Mutex
	meta       groupMeta
	state      *mls.Group       // nil until loaded or joined
	accounts   map[string]int   // account -> devices in the tree
	rules      *groupdata.State // of state, nil until they are needed
	loaded     bool
	fresh      bool          // caught up at least once since it was loaded: no key is used before
	unfinished []*intent     // changes whose callers are gone
	seen       *seenMessages // nil until it is needed
	redoing    bool          // a goroutine makes them
	parent     *mls.Group    // the old state while the new group of a ReInit has not been joined by the others
	pend       *pendingOwn
	outbox     []*outMessage // in the order in which they leave
	sending    bool          // a goroutine brings the outbox to the service
	window     int           // how many messages may be under way at once
	answered   time.Time     // when the service last accepted one of them
	byRef      map[stanza.Ref]*outMessage

	queue     map[uint64]*entry // entries that arrived, by seq
	ephemeral []*entry
	head      uint64        // newest entry known to exist
	entered   uint64        // counts how often the state was replaced by one that was joined
	working   bool          // a goroutine processes the queue
	changed   chan struct{} // closed and replaced whenever the log position or status moves
	stored    atomic.Uint64 // last entry whose effects are durable
	acked     uint64        // last entry that the service was told of

	fetchWant uint64 // number of the last fetch asked for
	fetchDone uint64 // number of the last fetch that has ended
	fetching  bool
	syncErr   error // how the last fetch ended

	failures     atomic.Int32 // writes that have failed since one went well
	rejoining    bool         // a rejoin is under way
	succeeding   bool         // a goroutine goes on with a reinitialisation
	proposals    *time.Timer  // to commit what others proposed
	okAt         [2]uint64    // epoch+1 and version of trust for which sending was permitted
	rollbackTold bool
}

// groupStatus is where this device stands with a group.
type groupStatus int32

const (
	statusNone     groupStatus = iota // not stored yet
	statusJoined                      // a member with state
	statusLost                        // to be rejoined: the state is gone or must not be used
	statusLeft                        // left by own wish: not to be rejoined
	statusRemoved                     // removed by somebody
	statusGone                        // destroyed
	statusCreating                    // being created
)

// groupMeta is the row that says how far a group is. It moves in the same
// batch as what it counts.
type groupMeta struct {
	JID     string      `json:"jid"`
	Status  groupStatus `json:"status"`
	Seq     uint64      `json:"seq"`   // last entry processed
	Chain   []byte      `json:"chain"` // after Seq; empty: not known
	Ring    chainRing   `json:"ring,omitempty"`
	Epoch   uint64      `json:"epoch"`
	GroupID []byte      `json:"group-id,omitempty"` // of the MLS group, which a reinitialisation changes
	Sent    int         `json:"sent"`               // messages sealed since the own keys last changed
	Updated time.Time   `json:"updated"`            // when the own keys last changed
	Reason  string      `json:"reason,omitempty"`
	Name    string      `json:"name,omitempty"`
	Due     int         `json:"due,omitempty"`     // jitter of the next update, in per cent
	Leaving bool        `json:"leaving,omitempty"` // this device has asked to be removed
	Ender   bool        `json:"ender,omitempty"`   // this device has ended the group by a ReInit and continues it
	Since   uint64      `json:"since,omitempty"`   // epoch in which this device came in; 0: not known
	SkipTo  uint64      `json:"skip-to,omitempty"` // entries up to here are those of somebody else's epochs: only their chain counts
	Vouched string      `json:"vouched,omitempty"` // fingerprint of the new key that the group has been told
	Row     uint64      `json:"row,omitempty"`     // number of the last row of the outbox and the inbox
	Stuck   *StuckError `json:"stuck,omitempty"`   // the log has a commit that must not be followed
	Renew   time.Time   `json:"renew,omitzero"`    // when the own keys are to be changed; zero: as usual
}

// ringEntry is the chain at one of the last entries, for comparing with what
// members say.
type ringEntry struct {
	Seq   uint64 `json:"s"`
	Chain []byte `json:"c"`
}

// ringSize is how many entries back a member's statement can be compared.
const ringSize = 24

// ErrNotMember is returned for operations on a group that this device is not
// in.
var ErrNotMember = errors.New("client: not a member of this group")

func (g *Group) row(suffix string) string { return "g/" + g.id + "/" + suffix }

func newGroup(c *Client, jid, id string) *Group {
	g := &Group{
		c: c, jid: jid, host: domainOf(jid), id: id, byRef: make(map[stanza.Ref]*outMessage), queue: make(map[uint64]*entry), changed: make(chan struct{}), commitSem: make(chan struct{}, 1),
		accounts: make(map[string]int),
	}
	g.setBatch(newBatch(c.store, g.storeFailed))
	g.meta.JID = jid
	g.cfg = g.groupConfig()
	g.out = newDispatcher(c, g)
	return g
}

// loadGroups reads the metadata of all groups. Their secrets are read when they
// are needed.
func (c *Client) loadGroups() error {
	var found []*Group
	err := c.store.Scan("g/", store.PrefixEnd("g/"), func(key string, value []byte) error {
		if len(key) < 6 || key[len(key)-5:] != "/meta" {
			return nil
		}
		g := newGroup(c, "", key[2:len(key)-5])
		if err := json.Unmarshal(value, &g.meta); err != nil {
			return fmt.Errorf("client: reading a group's metadata: %w", err)
		}
		g.jid, g.host = g.meta.JID, domainOf(g.meta.JID)
		found = append(found, g)
		return nil
	})
	if err != nil {
		return err
	}
	for _, g := range found {
		if c.store.RolledBack() && g.meta.Status == statusJoined {
			g.meta.Status, g.meta.Reason = statusLost, "the store was restored from a backup"
			ops := []store.Op{g.metaOp()}
			e := &RollbackDetected{Reason: "the client's own store is older than it was: a backup was restored; coming back with new keys"}
			_, op := g.eventOp(e, 0, time.Time{})
			if err := c.store.Apply(context.Background(), append(ops, op)); err != nil {
				return err
			}
		}
		if g.meta.Status == statusCreating {
			// Nobody but us ever knew of it, or the index will tell.
			if err := c.store.Apply(context.Background(), []store.Op{store.DeletePrefix("g/" + g.id + "/")}); err != nil {
				return err
			}
			continue
		}
		g.setStatus(g.meta.Status)
		c.groups[g.jid] = g
	}
	return nil
}

func (g *Group) setStatus(s groupStatus) {
	g.meta.Status = s
	g.status.Store(int32(s))
}

func (g *Group) statusNow() groupStatus { return groupStatus(g.status.Load()) }

// listed reports whether the application should know of the group.
func (g *Group) listed() bool {
	s := g.statusNow()
	return s == statusJoined || s == statusLost
}

func (g *Group) metaOp() store.Op {
	if g.state != nil {
		g.meta.Epoch, g.meta.GroupID = g.state.Epoch(), g.state.GroupID()
	}
	b, err := json.Marshal(&g.meta)
	if err != nil {
		panic("client: internal error: encoding metadata: " + err.Error())
	}
	return store.Put(g.row("meta"), b)
}

// signal wakes who waits for the group to move. Called with the lock held.
func (g *Group) signal() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// until waits for a condition, which is asked whenever the group has moved. Called
// with the lock held, which it gives up while waiting.
func (g *Group) until(ctx context.Context, cond func() bool) error {
	for !cond() {
		changed := g.changed
		g.mu.Unlock()
		var err error
		select {
		case <-changed:
		case <-ctx.Done():
			err = ctx.Err()
		case <-g.c.life.Done():
			err = ErrClosed
		}
		g.mu.Lock()
		if err != nil {
			return err
		}
	}
	return nil
}

// load reads the secrets. Called with the lock held. Its error is ErrClosed after
// Close, also if they are there.
func (g *Group) load() error {
	if err := g.c.alive(); err != nil {
		return err
	}
	if err := g.b.failed(); err != nil {
		g.unload()
	}
	if g.loaded {
		return nil
	}
	var rows []mls.Row
	prefix := g.row("m/")
	err := g.c.store.Scan(prefix, store.PrefixEnd(prefix), func(key string, value []byte) error {
		rows = append(rows, mls.Row{Key: key[len(prefix):], Value: value})
		return nil
	})
	if err != nil {
		return err
	}
	if b, ok, err := g.c.store.Get(g.row("meta")); err != nil {
		return err
	} else if ok {
		row := g.meta.Row
		if err := json.Unmarshal(b, &g.meta); err != nil {
			return err
		}
		g.meta.Row = max(g.meta.Row, row)
		g.setStatus(g.meta.Status)
	}
	if g.meta.Status == statusJoined {
		st, err := mls.LoadRows(g.cfg, rows)
		if err != nil {
			// A state that cannot be read is a state that is lost.
			g.c.log.Error("the group's state cannot be read, coming back with new keys", "group", g.jid, "error", err)
			g.setStatus(statusLost)
			g.meta.Reason = "the stored state cannot be read"
			g.b.add(g.metaOp())
		} else {
			g.setState(st)
		}
	}
	if err := g.loadOutbox(); err != nil {
		return err
	}
	if err := g.loadBetween(); err != nil {
		return err
	}
	if err := g.loadPending(); err != nil {
		return err
	}
	if err := g.loadIntents(); err != nil {
		return err
	}
	g.loaded = true
	return nil
}

// unload throws what is in memory away after a failed write: it is ahead of
// the store, and nothing of it has left the process.
func (g *Group) unload() {
	g.state, g.loaded, g.fresh = nil, false, false
	if g.pend != nil {
		g.pend.resolve(outcomeRefused, errStoreFailed)
	}
	g.pend, g.parent, g.unfinished, g.seen = nil, nil, nil, nil
	for _, m := range g.outbox {
		m.finish(nil, errStoreFailed)
	}
	g.outbox, g.byRef = nil, make(map[stanza.Ref]*outMessage)
	g.queue = make(map[uint64]*entry)
	g.setBatch(newBatch(g.c.store, g.storeFailed))
	g.signal()
}

func (g *Group) setBatch(b *batch) {
	g.b = b
	g.bNow.Store(b)
}

// storeFailed reads the log again after a write has failed, and with it what was
// thrown away: nothing else might ask for it.
func (g *Group) storeFailed() {
	g.c.spawn(func() {
		g.c.sleep(g.c.life, backoff(int(g.failures.Add(1))))
		g.fetchSoon()
	})
}

// setState makes st the current state and counts its members.
func (g *Group) setState(st *mls.Group) {
	g.state, g.rules = st, nil
	if g.c.cfg.observe != nil {
		g.c.cfg.observe(st)
	}
	g.accounts = make(map[string]int)
	for m := range st.Members() {
		g.accounts[leafIdentity(m.Leaf)]++
	}
	if s, err := groupState(st.Context()); err == nil && s.Group != nil {
		g.meta.Name = s.Group.Name
	}
}

// stateOps are the rows that the state has changed since they were last taken.
func (g *Group) stateOps() []store.Op {
	delta := g.state.Delta()
	ops := make([]store.Op, 0, len(delta)+1)
	prefix := g.row("m/")
	for _, r := range delta {
		if r.Value == nil {
			ops = append(ops, store.Delete(prefix+r.Key))
		} else {
			ops = append(ops, store.Put(prefix+r.Key, r.Value))
		}
	}
	return ops
}

// agreed gives what the group agreed on, which must not be changed. Called with the
// lock held.
func (g *Group) agreed() (groupdata.State, error) {
	if g.state == nil {
		return groupdata.State{}, ErrNotMember
	}
	if g.rules == nil {
		st, err := groupState(g.state.Context())
		if err != nil {
			return st, err
		}
		g.rules = &st
	}
	return *g.rules, nil
}

// who describes a member.
func (g *Group) who(m mls.Member) Who { return g.c.whoOf(m) }

func (c *Client) whoOf(m mls.Member) Who {
	if m.Leaf == nil {
		return Who{Leaf: uint32(m.Index)}
	}
	jid, fp := leafIdentity(m.Leaf), Fingerprint(m.Leaf.SignatureKey)
	return Who{JID: jid, Device: deviceOf(m.Leaf), Leaf: uint32(m.Index), Trust: c.trust.ofFingerprint(jid, fp), Fingerprint: fp}
}

// close writes what waits and gives the state up.
func (g *Group) close() error {
	g.mu.Lock()
	b := g.b
	g.mu.Unlock()
	if errors.Is(b.failed(), errStoreFailed) {
		return nil
	}
	return b.flushAll()
}

// delivered marks an item as handed over. It does not wait for the lock, which is
// held while messages are opened: handlers would fall behind, and what waits for them
// would have to be read back from the store.
func (g *Group) delivered(row string) {
	g.bNow.Load().add(store.Delete(row))
	g.flushSoon()
}

// lazyFlush is how long rows that may be lost wait for company.
const lazyFlush = 300 * time.Millisecond

// flushSoon writes what waits within a moment.
func (g *Group) flushSoon() {
	g.c.flusher.add(g)
}

// flusher writes the lazy rows of many groups with one timer.
type flusher struct {
	c      *Client
	mu     sync.Mutex
	groups map[*Group]bool
	timer  *time.Timer
}

func (f *flusher) add(g *Group) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.groups == nil {
		f.groups = make(map[*Group]bool)
	}
	f.groups[g] = true
	if f.timer == nil {
		f.timer = time.AfterFunc(lazyFlush, f.flush)
	}
}

func (f *flusher) flush() {
	f.mu.Lock()
	groups := f.groups
	f.groups, f.timer = nil, nil
	f.mu.Unlock()
	for g := range groups {
		g.mu.Lock()
		b := g.b
		g.mu.Unlock()
		if err := b.flushAll(); err != nil && !errors.Is(err, store.ErrClosed) {
			f.c.log.Error("writing to the store", "group", g.jid, "error", err)
		}
	}
}

// JID is the group's address.
func (g *Group) JID() string { return g.jid }

// Name is what people call the group; empty if nobody has named it.
func (g *Group) Name() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.meta.Name
}

// Epoch counts the changes of the group's membership and keys.
func (g *Group) Epoch() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.load() != nil || g.state == nil {
		return g.meta.Epoch
	}
	return g.state.Epoch()
}

// Seq is the last entry of the log that this device has processed.
func (g *Group) Seq() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.meta.Seq
}

// Joined reports whether this device is in the group now.
func (g *Group) Joined() bool { return g.statusNow() == statusJoined }

// EpochCode is 30 digits that are equal on all members' devices in the same
// epoch and on nobody else's: read it aloud to notice a forked group. It is
// derived from the epoch authenticator (RFC 9420 §8.7).
func (g *Group) EpochCode() (string, error) {
	auth, err := g.EpochAuthenticator()
	if err != nil {
		return "", err
	}
	return epochCode(auth), nil
}

// EpochAuthenticator is a value that only members of the current epoch know.
func (g *Group) EpochAuthenticator() ([]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.load(); err != nil {
		return nil, err
	}
	if g.state == nil {
		return nil, ErrNotMember
	}
	return g.state.EpochAuthenticator(), nil
}

// Chain is the hash over the log up to an entry, and that entry's number.
func (g *Group) Chain() (seq uint64, chain string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.meta.Chain) == 0 {
		return g.meta.Seq, ""
	}
	return g.meta.Seq, hex.EncodeToString(g.meta.Chain)
}

// MemberInfo is one device in a group.
type MemberInfo struct {
	Who
	Role Role `json:"role"`
	Own  bool `json:"own"`  // of this account
	Self bool `json:"self"` // this very device
}

// Members lists the devices in the group, in the order of the tree.
func (g *Group) Members() ([]MemberInfo, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.load(); err != nil {
		return nil, err
	}
	st, err := g.agreed()
	if err != nil {
		return nil, err
	}
	self := g.state.Self().Index
	var out []MemberInfo
	for m := range g.state.Members() {
		w := g.who(m)
		mi := MemberInfo{Who: w, Own: w.JID == g.c.account, Self: m.Index == self}
		if st.Roles != nil {
			mi.Role = st.Roles.Of(w.JID, true)
		}
		out = append(out, mi)
	}
	return out, nil
}

// Role is what an account (bare JID) may do in the group; of this account if
// it is empty.
func (g *Group) Role(account string) (Role, error) {
	if account == "" {
		account = g.c.account
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.load(); err != nil {
		return groupdata.None, err
	}
	st, err := g.agreed()
	if err != nil {
		return groupdata.None, err
	}
	account = normalOr(account)
	if st.Roles == nil {
		return groupdata.None, nil
	}
	return st.Roles.Of(account, g.accounts[account] > 0), nil
}

// Policy is the part of the group's rules that is not about one account.
func (g *Group) Policy() (groupdata.Policy, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.load(); err != nil {
		return groupdata.Policy{}, err
	}
	st, err := g.agreed()
	if err != nil {
		return groupdata.Policy{}, err
	}
	if st.Roles == nil {
		return groupdata.Policy{}, nil
	}
	return st.Roles.Policy, nil
}
