// SPDX-License-Identifier: Apache-2.0

package component_test

import (
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"

	"github.com/lockstep-im/lockstep/component"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// createWith asks for a group with a GroupInfo.
func (a *actor) createWith(jid string, gi *mls.Message) error {
	a.t.Helper()
	return a.set(domain, &stanza.CreateGroup{Local: jid[:len(jid)-len("@"+domain)], GroupInfo: stanza.Object{Bytes: gi.Bytes()}}, nil)
}

// TestFirstGroupInfo: a group begins at epoch 0 with its creator alone, who owns
// it.
func TestFirstGroupInfo(t *testing.T) {
	s := start(t)
	j, r := newActor(t, s, juliet, "balcony"), newActor(t, s, romeo, "orchard")
	m, err := mls.ParseMessage(r.keyPackage(false).Bytes)
	r.must(err)
	first := j.newGroup(balcony, groupdata.Public, groupdata.DefaultPolicy())
	p, err := first.Commit(&mls.CommitOptions{Add: []*mls.KeyPackage{m.KeyPackage}})
	j.must(err)
	two, err := p.Merge()
	j.must(err)
	info := func(g *mls.Group, tree bool) *mls.Message {
		gi, err := g.GroupInfo(&mls.GroupInfoOptions{ExternalPub: true, InlineTree: tree})
		j.must(err)
		return gi
	}
	owned := func(owner string) *mls.Group {
		data, err := (&groupdata.Group{JID: balcony, Name: "Balcony", Handshake: groupdata.Public}).Encode()
		j.must(err)
		roles, err := groupdata.NewRoles(owner, groupdata.DefaultPolicy()).With(juliet, groupdata.Admin).Encode()
		j.must(err)
		g, err := mls.NewGroup(nil, suite, nil, j.me, &mls.GroupOptions{DeviceID: j.id[:],
			Extensions: mls.Extensions{mls.AppData{}.With(groupdata.ComponentGroup, data).With(groupdata.ComponentRoles, roles).Extension()}})
		j.must(err)
		return g
	}
	for _, tc := range []struct {
		name string
		gi   *mls.Message
		want string
	}{
		{"two members at epoch 1", info(two, true), "epoch 0"},
		{"no tree", info(first, false), "tree"},
		{"a creator who is admin", info(owned(nurse), true), "owner"},
		{"a commit", p.Message(), "GroupInfo"},
	} {
		err := j.createWith(balcony, tc.gi)
		var im *stanza.InvalidMessage
		if !errors.As(err, &im) || !strings.Contains(im.Reason, tc.want) {
			t.Errorf("%s: %v, want a refusal that speaks of %q", tc.name, err, tc.want)
		}
	}
	// Two leaves at epoch 0: no member makes that, so it is forged of epoch 1's
	// GroupInfo, and signed anew (RFC 9420 §5.1.2, §12.4.3).
	forged := info(two, true).Bytes()
	epoch := 2 + 2 + 2 + 2 + 1 + len(two.GroupID()) // versions, wire format, suite
	clear(forged[epoch : epoch+8])
	signed := forged[4 : len(forged)-2-ed25519.SignatureSize]
	label := "MLS 1.0 GroupInfoTBS"
	tbs := append([]byte{byte(len(label))}, label...)
	tbs = append(tbs, 0x40|byte(len(signed)>>8), byte(len(signed)))
	tbs = append(tbs, signed...)
	copy(forged[len(forged)-ed25519.SignatureSize:], ed25519.Sign(ed25519.NewKeyFromSeed(j.me.Key.Bytes()), tbs))
	err = j.set(domain, &stanza.CreateGroup{Local: "balcony", GroupInfo: stanza.Object{Bytes: forged}}, nil)
	var im *stanza.InvalidMessage
	if !errors.As(err, &im) || !strings.Contains(im.Reason, "not 2") {
		t.Errorf("two members at epoch 0: %v", err)
	}
	j.must(j.createWith(balcony, info(first, true)))
}

// TestSuites: what the operator has turned off is neither created with nor
// published for.
func TestSuites(t *testing.T) {
	s := start(t, func(c *component.Config) {
		c.Suites = []mls.CipherSuite{mls.MLS_128_DHKEMP256_AES128GCM_SHA256_P256}
	})
	j := newActor(t, s, juliet, "balcony")
	var un *stanza.Unsupported
	err := j.createAs(balcony, j.newGroup(balcony, groupdata.Public, groupdata.DefaultPolicy()))
	if !errors.As(err, &un) || un.What != "cipher-suite" || un.Value != "0x0001" || refusal(err).Condition != stanza.NotAcceptable {
		t.Errorf("a group of a suite that is off: %v", err)
	}
	un = nil
	err = j.set(domain, &stanza.PublishKeyPackages{Device: j.id, KeyPackages: []stanza.KeyPackage{j.keyPackage(false)}}, nil)
	if !errors.As(err, &un) || un.What != "cipher-suite" || un.Value != "0x0001" {
		t.Errorf("a key package of a suite that is off: %v", err)
	}
	var count stanza.Count
	j.must(j.get(domain, &stanza.CountQuery{}, &count))
	if len(count.Devices) != 0 {
		t.Errorf("it is kept: %+v", count.Devices)
	}
}

// TestFullGroup: a group becomes no larger than the operator allows, by commits
// or by proposals, and has room again when somebody leaves.
func TestFullGroup(t *testing.T) {
	s := start(t, func(c *component.Config) { c.Limits.MaxMembers = 2 })
	j, _ := pair(t, s)
	m := newActor(t, s, mercutio, "street")
	m.publish(4)
	kps := claimed(t, j.claim(balcony, mercutio))
	if _, err := j.commit(balcony, mls.CommitOptions{Add: kps}); refusal(err).Condition != stanza.NotAcceptable {
		t.Errorf("a third member: %v", err)
	}
	p, _, err := j.g.ProposeAdd(kps[0], nil)
	j.must(err)
	if err := j.set(balcony, &stanza.Proposal{Epoch: 1, Ref: stanza.MessageRef(p.Bytes()), Bytes: p.Bytes()}, nil); refusal(err).Condition != stanza.NotAcceptable {
		t.Errorf("a third member is proposed: %v", err)
	}
	_, err = j.commit(balcony, mls.CommitOptions{Remove: []mls.LeafIndex{1}, Add: kps})
	j.must(err)
	m.join(balcony)
	sameEpoch(t, j, m)
}

// TestSecondLeafOfDevice: a device is in a group once.
func TestSecondLeafOfDevice(t *testing.T) {
	s := start(t)
	j, r := pair(t, s)
	// The leaves have keys of their own: two of one key are refused by RFC 9420
	// already (§7.3).
	pack := func(who string, id stanza.DeviceID) *mls.KeyPackage {
		a := newActor(t, s, who, "x")
		a.id = id
		m, err := mls.ParseMessage(a.keyPackage(false).Bytes)
		j.must(err)
		return m.KeyPackage
	}
	var id stanza.DeviceID
	id[0] = 7
	for name, kps := range map[string][]*mls.KeyPackage{
		"romeo's device again":            {pack(romeo, r.id)},
		"a new device twice":              {pack(mercutio, id), pack(mercutio, id)},
		"a new device and romeo's, again": {pack(mercutio, id), pack(romeo, r.id)},
	} {
		var im *stanza.InvalidMessage
		if _, err := j.commit(balcony, mls.CommitOptions{Add: kps}); !errors.As(err, &im) || !strings.Contains(im.Reason, "already") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Devices of different accounts may have the same id.
	_, err := j.commit(balcony, mls.CommitOptions{Add: []*mls.KeyPackage{pack(mercutio, r.id)}})
	j.must(err)
	r.catchUp(balcony)
	sameEpoch(t, j, r)
}
