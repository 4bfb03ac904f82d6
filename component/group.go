// SPDX-License-Identifier: Apache-2.0

package component

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// This file owns the order of groups. Each group that is in use has one
// goroutine; everything that changes the group goes through its inbox. What it
// remembers is a cache: the store decides, by the group's revision, whether a
// change still fits, so that several processes can serve one group. An unused
// group is forgotten and costs nothing.

// groupTable holds the groups that are in use.
type groupTable struct {
	s *Service

	mu     sync.Mutex
	m      map[string]*group
	closed bool
	wg     sync.WaitGroup
}

// group is one group in use.
type group struct {
	s     *Service
	jid   string
	inbox chan groupJob

	// used is guarded by the table's mutex.
	used time.Time

	// The rest belongs to the group's goroutine.
	st *groupState // nil: not loaded, or outdated
}

// A groupJob is a request, or work of our own.
type groupJob struct {
	r  *request
	do func(ctx context.Context, g *group)
}

// groupState is what is cached of a group.
type groupState struct {
	row     store.Group
	conf    groupConfig
	pub     *mls.PublicGroup // nil in private mode
	data    groupdata.State  // nil pointers in private mode if no GroupInfo was given
	members map[string][]leafDevice
	leaves  int
	pending []pendingProposal
	banned  map[string]bool // outcasts, of the roles component or of the service

	// Recipients of live deliveries, made when sessions.gen was gen.
	to     []string
	absent []string
	gen    uint64
	haveTo bool
	nudges uint64          // nudger.gen when all absent accounts were scheduled
	muted  map[string]bool // "user/device" of devices that are leaving: no live deliveries
}

func newGroupTable(s *Service) *groupTable { return &groupTable{s: s, m: make(map[string]*group)} }

func (t *groupTable) loaded() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.m)
}

// submit queues a request for a group and reports whether there was room.
func (t *groupTable) submit(jid string, r *request) bool {
	return t.put(jid, groupJob{r: r})
}

// run queues work of our own for a group and reports whether there was room.
func (t *groupTable) run(jid string, f func(ctx context.Context, g *group)) bool {
	return t.put(jid, groupJob{do: f})
}

func (t *groupTable) put(jid string, j groupJob) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	g, ok := t.m[jid]
	if !ok {
		if len(t.m) >= groupsLoaded && !t.dropOne() {
			return false
		}
		g = &group{s: t.s, jid: jid, inbox: make(chan groupJob, groupInbox)}
		t.m[jid] = g
		t.wg.Add(1)
		t.s.metrics.loaded.Set(float64(len(t.m)))
		go func() {
			defer t.wg.Done()
			g.run()
		}()
	}
	select {
	case g.inbox <- j:
		g.used = t.s.now()
		return true
	default:
		return false
	}
}

// dropOne forgets one of the groups that have nothing to do, the least used of a
// few: looking at all of them would cost every request.
func (t *groupTable) dropOne() bool {
	var oldest *group
	looked := 0
	for _, g := range t.m {
		if len(g.inbox) == 0 && (oldest == nil || g.used.Before(oldest.used)) {
			oldest = g
		}
		if looked++; looked > 16 && oldest != nil {
			break
		}
	}
	if oldest == nil {
		return false
	}
	delete(t.m, oldest.jid)
	close(oldest.inbox)
	return true
}

// evict forgets groups that nobody has used for a while.
func (t *groupTable) evict(ctx context.Context) {
	tick := time.NewTicker(max(t.s.limits.GroupIdle/4, 10*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		old := t.s.now().Add(-t.s.limits.GroupIdle)
		t.mu.Lock()
		for jid, g := range t.m {
			if len(g.inbox) == 0 && g.used.Before(old) {
				delete(t.m, jid)
				close(g.inbox) // no sender: put needs the mutex and the entry
			}
		}
		t.s.metrics.loaded.Set(float64(len(t.m)))
		t.mu.Unlock()
	}
}

// close ends all groups, after the work that they have.
func (t *groupTable) close() {
	t.mu.Lock()
	t.closed = true
	for jid, g := range t.m {
		delete(t.m, jid)
		close(g.inbox)
	}
	t.mu.Unlock()
	t.wg.Wait()
}

// run is the group's goroutine. Application messages that wait together are
// taken together.
func (g *group) run() {
	var batch []*request
	var held *groupJob
	for {
		var j groupJob
		if held != nil {
			j, held = *held, nil
		} else {
			var ok bool
			if j, ok = <-g.inbox; !ok {
				return
			}
		}
		if j.r == nil {
			g.internal(j.do)
			continue
		}
		if j.r.verb != verbSend {
			g.one(j.r)
			continue
		}
		batch = append(batch[:0], j.r)
	more:
		for len(batch) < sendBatch {
			select {
			case j, ok := <-g.inbox:
				if !ok {
					break more // the channel stays closed for the next round
				}
				if j.r == nil || j.r.verb != verbSend {
					held = &j
					break more
				}
				batch = append(batch, j.r)
			default:
				break more
			}
		}
		g.sendAll(batch)
		clear(batch)
	}
}

// one serves one request. A fault of ours costs the cached state, too: it may
// be what is wrong.
func (g *group) one(r *request) {
	ok := false
	g.s.serve(r, func() (stanza.Payload, error) {
		p, err := r.verb.group(g, r)
		ok = true
		return p, err
	})
	if !ok {
		g.st = nil
	}
}

func (g *group) internal(f func(ctx context.Context, g *group)) {
	ctx, cancel := context.WithTimeout(g.s.base, requestTimeout)
	defer cancel()
	ok := false
	g.s.guard("group work", func() {
		f(ctx, g)
		ok = true
	})
	if !ok {
		g.st = nil
	}
}

// load gives the group's state, from the store if need be.
func (g *group) load(ctx context.Context) (*groupState, error) {
	if g.st != nil {
		return g.st, nil
	}
	st, err := g.s.loadGroup(ctx, g.jid)
	if err != nil {
		return nil, err
	}
	g.st = st
	return st, nil
}

// loadGroup reads everything about a group.
func (s *Service) loadGroup(ctx context.Context, jid string) (*groupState, error) {
	var (
		st      *groupState
		snap    *store.Snapshot
		nodes   []store.Node
		pending []store.Entry
	)
	err := s.store.View(ctx, func(r store.Reader) error {
		row, err := r.Group(jid)
		if err != nil {
			return s.noGroup(r, jid, err)
		}
		st = &groupState{row: *row, members: make(map[string][]leafDevice), banned: make(map[string]bool)}
		if st.conf, err = decodeConfig(row.Config); err != nil {
			return err
		}
		if snap, err = r.Snapshot(row.Key, row.Epoch); err != nil {
			return err
		}
		if nodes, err = r.Nodes(row.Key, row.Epoch); err != nil {
			return err
		}
		if row.Pending > 0 {
			if pending, err = r.Pending(row.Key); err != nil {
				return err
			}
		}
		members, err := r.Members(row.Key)
		if err != nil {
			return err
		}
		for _, m := range members {
			if m.InTree() {
				st.addMember(m.User, leafDevice{device: m.Device, leaf: mls.LeafIndex(m.Leaf), joined: m.Joined})
			}
		}
		return eachAffiliation(r, row.Key, func(a store.Affiliation) {
			if a.Value == store.AffiliationOutcast {
				st.banned[a.User] = true
			}
		})
	})
	if err != nil {
		return nil, err
	}
	if st.private() {
		if gi, err := parseGroupInfo(snap.GroupInfo); err == nil {
			st.data = agreedLoose(&gi.Context)
		}
		for _, e := range pending {
			st.pending = append(st.pending, pendingProposal{entry: e})
		}
		return st, nil
	}
	if st.pub, err = s.loadPublic(snap.Header, nodes); err != nil {
		return nil, err
	}
	if st.data, err = agreed(st.pub.Context()); err != nil {
		return nil, err
	}
	for _, e := range pending {
		m, err := mls.ParseMessage(e.Bytes)
		if err != nil {
			return nil, fmt.Errorf("component: group %q: stored proposal %d: %w", jid, e.Seq, err)
		}
		if err := st.stagePending(m, e); err != nil {
			return nil, fmt.Errorf("component: group %q: stored proposal %d: %w", jid, e.Seq, err)
		}
	}
	return st, nil
}

// stagePending adds an accepted proposal to the public state.
func (st *groupState) stagePending(m *mls.Message, e store.Entry) error {
	got, err := st.pub.Process(m)
	if err != nil {
		return err
	}
	p, ok := got.(*mls.StagedPublicProposal)
	if !ok {
		return errors.New("component: the message is no proposal")
	}
	st.pending = append(st.pending, newPending(e, p.Ref(), p.Info()))
	st.pub = p.Merge()
	return nil
}

// eachAffiliation visits a group's affiliations.
func eachAffiliation(r store.Reader, key store.GroupKey, f func(store.Affiliation)) error {
	after := ""
	for {
		page, err := r.Affiliations(key, after, 1000)
		if err != nil {
			return err
		}
		for _, a := range page {
			f(a)
		}
		if len(page) < 1000 {
			return nil
		}
		after = page[len(page)-1].User
	}
}

// noGroup refuses a request for a group that is not there: gone if it was
// destroyed, moved if it went elsewhere.
func (s *Service) noGroup(r store.Reader, jid string, err error) error {
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	t, terr := r.Tombstone(jid)
	if terr != nil {
		return stanza.NewError(stanza.ItemNotFound, "There is no such group.")
	}
	e := stanza.NewError(stanza.Gone, "The group was destroyed.")
	if t.Reason != "" {
		e.Text = "The group was destroyed: " + t.Reason
	}
	if t.NewJID != "" {
		e.Address = "xmpp:" + t.NewJID
	}
	return e
}

func (st *groupState) private() bool { return st.row.Mode == groupdata.Private.String() }

func (st *groupState) addMember(user string, d leafDevice) {
	st.members[user] = append(st.members[user], d)
	st.leaves++
	st.haveTo = false
}

func (st *groupState) dropMember(user, device string) {
	list := slices.DeleteFunc(st.members[user], func(d leafDevice) bool { return d.device == device })
	st.leaves -= len(st.members[user]) - len(list)
	if len(list) == 0 {
		delete(st.members, user)
	} else {
		st.members[user] = list
	}
	st.haveTo = false
}

func (st *groupState) inTree(user string) bool { return len(st.members[user]) > 0 }

func (st *groupState) hasDevice(user, device string) bool {
	return slices.ContainsFunc(st.members[user], func(d leafDevice) bool { return d.device == device })
}

// userOfLeaf finds who a leaf is, in either mode.
func (st *groupState) userOfLeaf(leaf mls.LeafIndex) (user, device string, ok bool) {
	if st.pub != nil {
		m, ok := st.pub.Member(leaf)
		if !ok {
			return "", "", false
		}
		user, device, err := leafIdentity(m.Leaf)
		return user, device, err == nil
	}
	for user, list := range st.members {
		for _, d := range list {
			if d.leaf == leaf {
				return user, d.device, true
			}
		}
	}
	return "", "", false
}

// role gives an account's role, with the service's own bans.
func (st *groupState) role(user string) groupdata.Role {
	if st.outcast(user) {
		return groupdata.Outcast
	}
	if st.data.Roles == nil {
		if st.inTree(user) {
			return groupdata.Member
		}
		return groupdata.None
	}
	return st.data.Roles.Of(user, st.inTree(user))
}

func domainOf(bare string) string {
	if _, d, ok := strings.Cut(bare, "@"); ok {
		return d
	}
	return bare
}

// mustBeMember refuses those who are not in the tree.
func (st *groupState) mustBeMember(user string) error {
	if st.outcast(user) {
		return masked()
	}
	if !st.inTree(user) {
		return st.outsider()
	}
	return nil
}

// outcast reports whether an account is banned, by itself or with its domain.
func (st *groupState) outcast(user string) bool {
	return st.banned[user] || st.banned[domainOf(user)]
}

// outsider refuses somebody who has no business with the group. A hidden group
// does not even exist for them.
func (st *groupState) outsider() error { return outsider(&st.conf) }

func outsider(c *groupConfig) error {
	if c.Hidden {
		return stanza.NewError(stanza.ItemNotFound, "There is no such group.")
	}
	return &stanza.NotAMember{}
}

// masked is the answer to those who are not to learn more (PROTOCOL.md §13).
func masked() error { return stanza.NewError(stanza.ServiceUnavailable, "") }

// mustCommit lists the removals that the next commit must carry out, as far as
// they concern others than the given leaf, which cannot commit its own removal
// (RFC 9420 §12.4).
func (st *groupState) mustCommit(except mls.LeafIndex, hasLeaf bool) []*pendingProposal {
	var out []*pendingProposal
	for i := range st.pending {
		p := &st.pending[i]
		if !p.remove || hasLeaf && p.target == except {
			continue
		}
		out = append(out, p)
	}
	return out
}

func mustCommitError(list []*pendingProposal) error {
	e := &stanza.MustCommit{}
	room := staleInline
	for _, p := range list {
		pe := p.past()
		if room -= len(pe.Bytes); room < 0 {
			pe.Bytes = nil
		}
		e.Proposals = append(e.Proposals, pe)
	}
	return e
}

// conflict looks what became of a group that moved under us, and forgets the
// cached state.
func (g *group) conflict(err error) bool {
	var ce *store.ConflictError
	if !errors.As(err, &ce) && !errors.Is(err, store.ErrNotFound) {
		return false
	}
	g.st = nil // it moved, or another process has destroyed it
	return true
}

// staleEpoch makes the refusal of a message of a past epoch, with everything
// that the sender needs to try again at once.
func (s *Service) staleEpoch(ctx context.Context, st *groupState, submitted uint64, own store.Ref) (*stanza.StaleEpoch, *store.Entry, error) {
	e := &stanza.StaleEpoch{Submitted: submitted, Current: st.row.Epoch, Head: st.row.Head}
	var commits, pending []store.Entry
	err := s.store.View(ctx, func(r store.Reader) (err error) {
		if commits, err = r.Commits(st.row.Key, submitted, staleCommits, 0); err != nil {
			var te *store.TruncatedError
			if !errors.As(err, &te) {
				return err
			}
			commits = nil
			e.More = true
		}
		pending, err = r.Pending(st.row.Key)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	room := staleInline
	for i := range commits {
		c := &commits[i]
		if c.Ref == own {
			return nil, c, nil
		}
		pe := pastEntry(c)
		if room -= len(pe.Bytes); room < 0 {
			pe.Bytes, e.More = nil, true
		}
		e.Commits = append(e.Commits, pe)
	}
	if len(commits) > 0 && commits[len(commits)-1].Epoch+1 < st.row.Epoch {
		e.More = true
	}
	for i := range pending {
		if len(e.Proposals) >= staleCommits {
			e.More = true
			break
		}
		pe := pastEntry(&pending[i])
		if room -= len(pe.Bytes); room < 0 {
			pe.Bytes, e.More = nil, true
		}
		e.Proposals = append(e.Proposals, pe)
	}
	return e, nil, nil
}

// checkSubmission holds a submission against what it says of itself.
func checkSubmission(b []byte, ref stanza.Ref, limit int) error {
	if len(b) > limit {
		return &stanza.TooLarge{MaxBytes: uint64(limit)}
	}
	if stanza.MessageRef(b) != ref {
		return &stanza.InvalidMessage{Part: "message", Reason: "the ref is not the SHA-256 of the message"}
	}
	return nil
}

// checkHeader holds an MLS message against the group and epoch that it is for.
func (st *groupState) checkHeader(m *mls.Message, epoch uint64) error {
	if !bytes.Equal(m.GroupID(), st.row.GroupID) {
		return &stanza.InvalidMessage{Part: "message", Reason: "the message is of another group"}
	}
	if e, ok := m.Epoch(); !ok || e != epoch {
		return &stanza.InvalidMessage{Part: "message", Reason: fmt.Sprintf("the message is of epoch %d, submitted for %d", e, epoch)}
	}
	return nil
}
