// SPDX-License-Identifier: Apache-2.0

package component_test

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"

	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// This file holds the people of the tests: a device with its keys, which speaks
// the protocol by hand.

const (
	juliet   = "juliet@capulet.lit"
	nurse    = "nurse@capulet.lit"
	romeo    = "romeo@montague.lit"
	mercutio = "mercutio@verona.lit"
	mallory  = "mallory@mantua.example"
	balcony  = "balcony@" + domain
)

var randReader = rand.Reader

const suite = mls.MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519

// actor is one device of an account.
type actor struct {
	t          testing.TB
	s          *service
	bare       string
	full       string
	id         stanza.DeviceID
	me         *mls.Identity
	kps        map[string]*mls.PrivateKeyPackage // by ref
	g          *mls.Group
	seq        uint64
	pendingOwn *mls.PendingCommit // submitted, and not yet seen in the log
}

func newActor(t testing.TB, s *service, bare, resource string) *actor {
	t.Helper()
	key, err := mls.GenerateSignatureKey(suite, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &actor{t: t, s: s, bare: bare, full: bare + "/" + resource, kps: make(map[string]*mls.PrivateKeyPackage),
		me: &mls.Identity{Credential: mls.BasicCredential([]byte(bare)), Key: key}}
	rand.Read(a.id[:])
	return a
}

func (a *actor) set(to string, payload, out stanza.Payload) error {
	a.t.Helper()
	return a.s.request(a.full, to, stanza.TypeSet, payload, out)
}

func (a *actor) get(to string, payload, out stanza.Payload) error {
	a.t.Helper()
	return a.s.request(a.full, to, stanza.TypeGet, payload, out)
}

func (a *actor) must(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatalf("%s: %v", a.bare, err)
	}
}

func (a *actor) box() *box { return a.s.box(a.full) }

// announce opens a session.
func (a *actor) announce() {
	a.t.Helper()
	h := stanza.Header{Kind: stanza.Presence, From: a.full, To: domain}
	a.s.write(string(h.Append(nil, &stanza.Session{Device: a.id})))
	a.box().take(a.t, "<ready", a.id.String())
}

func (a *actor) leaveSession() {
	h := stanza.Header{Kind: stanza.Presence, Type: stanza.TypeUnavailable, From: a.full, To: domain}
	a.s.write(string(h.Append(nil)))
}

func (a *actor) keyPackage(lastResort bool) stanza.KeyPackage {
	a.t.Helper()
	kp, err := mls.NewKeyPackage(nil, suite, a.me, &mls.KeyPackageOptions{DeviceID: a.id[:], LastResort: lastResort})
	a.must(err)
	ref, err := kp.KeyPackage.Ref()
	a.must(err)
	a.kps[string(ref)] = kp
	return stanza.KeyPackage{Bytes: kp.KeyPackage.Message().Bytes(), LastResort: lastResort}
}

// publish stores key packages, the last of them as last resort.
func (a *actor) publish(n int) {
	a.t.Helper()
	p := &stanza.PublishKeyPackages{Device: a.id}
	for i := range n {
		p.KeyPackages = append(p.KeyPackages, a.keyPackage(i == n-1))
	}
	var out stanza.Published
	a.must(a.set(domain, p, &out))
	if int(out.Available) < n-1 || !out.LastResort {
		a.t.Fatalf("published %d, the service has %+v", n, out)
	}
}

// claim claims the packages of users for a group.
func (a *actor) claim(group string, users ...string) *stanza.Claimed {
	a.t.Helper()
	c := &stanza.ClaimKeyPackages{ClaimID: newClaimID(), For: group, CipherSuite: uint16(suite)}
	for _, u := range users {
		c.Users = append(c.Users, stanza.ClaimUser{JID: u})
	}
	out := &stanza.Claimed{}
	a.must(a.set(domain, c, out))
	return out
}

func newClaimID() string {
	var b [16]byte
	rand.Read(b[:])
	return stanza.DeviceID(b).String()
}

// claimed gives the packages of a claim.
func claimed(t testing.TB, c *stanza.Claimed) (out []*mls.KeyPackage) {
	t.Helper()
	for _, u := range c.Users {
		for _, d := range u.Devices {
			if d.Status != stanza.ClaimOK {
				continue
			}
			m, err := mls.ParseMessage(d.KeyPackage.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, m.KeyPackage)
		}
	}
	return out
}

// senderOf gives the service's external sender, from its limits form.
func (a *actor) senderOf() mls.Extension {
	a.t.Helper()
	var info stanza.DiscoInfo
	a.must(a.get(domain, &stanza.DiscoInfoQuery{}, &info))
	l, err := stanza.ParseServiceLimits(info.Form(stanza.FormLimits))
	a.must(err)
	n := len(l.ExternalSender)
	if n == 0 || n > 63 {
		a.t.Fatalf("external-sender has %d bytes", n)
	}
	return mls.Extension{Type: mls.ExtensionExternalSenders, Data: append([]byte{byte(n)}, l.ExternalSender...)}
}

// newGroup makes the MLS side of a group.
func (a *actor) newGroup(jid string, mode groupdata.HandshakeMode, policy groupdata.Policy, ext ...mls.Extension) *mls.Group {
	a.t.Helper()
	data, err := (&groupdata.Group{JID: jid, Name: "Balcony", Handshake: mode}).Encode()
	a.must(err)
	roles, err := groupdata.NewRoles(a.bare, policy).Encode()
	a.must(err)
	app := mls.AppData{}.With(groupdata.ComponentGroup, data).With(groupdata.ComponentRoles, roles)
	g, err := mls.NewGroup(nil, suite, nil, a.me, &mls.GroupOptions{DeviceID: a.id[:], Extensions: append(mls.Extensions{app.Extension()}, ext...)})
	a.must(err)
	return g
}

func (a *actor) createAs(jid string, g *mls.Group) error {
	a.t.Helper()
	gi, err := g.GroupInfo(&mls.GroupInfoOptions{ExternalPub: true, InlineTree: true})
	a.must(err)
	local, _, _ := strings.Cut(jid, "@")
	var out stanza.Created
	err = a.set(domain, &stanza.CreateGroup{Local: local, GroupInfo: stanza.Object{Bytes: gi.Bytes()}}, &out)
	if err == nil && out.JID != jid {
		a.t.Fatalf("created %q, want %q", out.JID, jid)
	}
	return err
}

// create makes a public group that lists the service as an external sender.
func (a *actor) create(jid string) {
	a.t.Helper()
	a.g = a.newGroup(jid, groupdata.Public, groupdata.DefaultPolicy(), a.senderOf())
	a.must(a.createAs(jid, a.g))
	a.seq = 0
}

// submission is a commit as it goes over the wire.
func submission(p *mls.PendingCommit, epoch uint64) *stanza.Commit {
	c := &stanza.Commit{Epoch: epoch, Ref: stanza.MessageRef(p.Message().Bytes()), Message: stanza.Object{Bytes: p.Message().Bytes()}}
	if w := p.Welcome(); w != nil {
		c.Welcome.Bytes = w.Bytes()
	}
	if gi := p.GroupInfo(); gi != nil {
		c.GroupInfo.Bytes = gi.Bytes()
	}
	return c
}

func (a *actor) pending(o mls.CommitOptions) *mls.PendingCommit {
	a.t.Helper()
	o.GroupInfo, o.GroupInfoExternalPub = true, true
	p, err := a.g.Commit(&o)
	a.must(err)
	return p
}

// commit submits a commit and merges it when it is accepted.
func (a *actor) commit(jid string, o mls.CommitOptions) (*stanza.Accepted, error) {
	a.t.Helper()
	p := a.pending(o)
	out := &stanza.Accepted{}
	if err := a.set(jid, submission(p, a.g.Epoch()), out); err != nil {
		return nil, err
	}
	g, err := p.Merge()
	a.must(err)
	a.g = g
	return out, nil
}

// add claims and adds users.
func (a *actor) add(jid string, users ...string) *stanza.Accepted {
	a.t.Helper()
	kps := claimed(a.t, a.claim(jid, users...))
	if len(kps) == 0 {
		a.t.Fatalf("no key packages of %v", users)
	}
	acc, err := a.commit(jid, mls.CommitOptions{Add: kps})
	a.must(err)
	return acc
}

// join takes the Welcome that waits and joins.
func (a *actor) join(jid string) {
	a.t.Helper()
	var list stanza.Welcomes
	a.must(a.get(domain, &stanza.WelcomesQuery{Device: a.id}, &list))
	for _, w := range list.Items {
		if w.Group != jid {
			continue
		}
		var got stanza.Welcome
		a.must(a.get(jid, &stanza.WelcomeQuery{KeyPackageRef: w.KeyPackageRef}, &got))
		m, err := mls.ParseMessage(got.Bytes)
		a.must(err)
		g, err := mls.Join(nil, m.Welcome, a.kps[string(w.KeyPackageRef)], &mls.JoinOptions{Tree: a.tree(jid, got.Epoch)})
		a.must(err)
		a.g, a.seq = g, got.Seq
		a.must(a.set(jid, &stanza.Ack{KeyPackageRef: w.KeyPackageRef}, nil))
		return
	}
	a.t.Fatalf("%s: no welcome for %s among %d", a.bare, jid, len(list.Items))
}

// tree fetches the ratchet tree of an epoch in pages.
func (a *actor) tree(jid string, epoch uint64) []byte {
	a.t.Helper()
	var tree []byte
	for {
		var page stanza.TreePage
		a.must(a.get(jid, &stanza.TreeQuery{Epoch: epoch, Offset: uint64(len(tree)), MaxBytes: 1024}, &page))
		tree = append(tree, page.Bytes...)
		if uint64(len(tree)) >= page.Total {
			return tree
		}
	}
}

// sendText seals and submits an application message.
func (a *actor) sendText(jid, text string) (*stanza.Accepted, error) {
	a.t.Helper()
	m, err := a.g.Seal([]byte(text), nil)
	a.must(err)
	out := &stanza.Accepted{}
	err = a.set(jid, &stanza.Send{Epoch: a.g.Epoch(), Ref: stanza.MessageRef(m.Bytes()), Message: stanza.MLS{Bytes: m.Bytes()}}, out)
	return out, err
}

// catchUp reads the log and processes it; it gives the texts.
func (a *actor) catchUp(jid string) (texts []string) {
	a.t.Helper()
	for {
		var log stanza.Log
		a.must(a.get(jid, &stanza.LogQuery{Device: a.id, After: a.seq, Ack: a.seq}, &log))
		for _, e := range log.Entries {
			if e.Seq != a.seq+1 {
				a.t.Fatalf("%s: entry %d after %d", a.bare, e.Seq, a.seq)
			}
			a.seq = e.Seq
			if e.Kind == stanza.EntryControl {
				continue
			}
			if text, ok := a.process(e.Bytes); ok {
				texts = append(texts, text)
			}
		}
		if log.Complete {
			return texts
		}
	}
}

// process takes one MLS message.
func (a *actor) process(b []byte) (string, bool) {
	a.t.Helper()
	m, err := mls.ParseMessage(b)
	a.must(err)
	got, err := a.g.Process(m)
	a.must(err)
	switch got := got.(type) {
	case *mls.ApplicationMessage:
		return string(got.Data), true
	case *mls.StagedProposal:
		a.g = got.Merge()
	case *mls.StagedCommit:
		if got.Removed() {
			a.g = nil
			return "", false
		}
		g, err := got.Merge()
		a.must(err)
		a.g = g
	}
	return "", false
}

// event takes a live delivery and gives its parts.
func (a *actor) event(jid, kind string) (*stanza.Delivery, []byte) {
	a.t.Helper()
	raw := a.box().take(a.t, "<message type='groupchat'", "from='"+jid+"'", "kind='"+kind+"'")
	var p stanza.Parser
	st, err := p.Parse([]byte(raw))
	a.must(err)
	var d stanza.Delivery
	a.must(d.Parse(st.Child(stanza.NSDelivery, "delivery")))
	var m stanza.MLS
	if el := st.Child(stanza.NSMLS, "mls"); el.Valid() {
		a.must(m.Parse(el))
	}
	return &d, m.Bytes
}

// sameEpoch checks that all have the same secrets.
func sameEpoch(t testing.TB, actors ...*actor) {
	t.Helper()
	for _, a := range actors[1:] {
		if a.g == nil || a.g.Epoch() != actors[0].g.Epoch() || !bytes.Equal(a.g.EpochAuthenticator(), actors[0].g.EpochAuthenticator()) {
			t.Errorf("%s is not in the epoch of %s", a.bare, actors[0].bare)
		}
	}
}
