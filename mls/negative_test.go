// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// An offence breaks one rule and no other. Each rule of the table has at least
// one; what checks it depends on what is broken: a message of a group, a
// Welcome, a GroupInfo, a key package, or what this client itself is asked to
// send.
type offence struct {
	rule Rule
	name string
	// want is the rule that is reported, when it is not rule: see RuleInfo.Within.
	want Rule
	// is is an error that errors.Is must find as well.
	is error
	// blind: an outside observer cannot see it.
	blind bool
	// done: the group takes no messages any more, so that no genuine one can follow.
	done bool
	// cfg changes the configuration of all.
	cfg func(c *Config)
	// members besides mallory, juliet and romeo.
	members []string

	// One of these:
	message func(c *court) *Message
	check   func(c *court) error
}

func (o *offence) reported() Rule {
	if o.want != "" {
		return o.want
	}
	return o.rule
}

// A court is where an offence is tried: a group in which mallory can do what she
// likes.
type court struct {
	*testing.T
	tg *testGroup
	f  forge
	// mercutio is a leaf that was blanked, nurse one behind it.
	blank LeafIndex
}

func newCourt(t *testing.T, o *offence) *court {
	cfg := &Config{NoGREASE: true}
	if o.cfg != nil {
		o.cfg(cfg)
	}
	names := append([]string{"juliet", "mallory", "romeo", "mercutio", "nurse"}, o.members...)
	c := &court{T: t, tg: newTestGroup(t, cfg, suite1, names...)}
	c.blank = c.tg.members["mercutio"].self
	c.tg.commit("juliet", &CommitOptions{Remove: []LeafIndex{c.blank}})
	c.tg.commit("nurse", nil)
	c.tg.commit("juliet", nil)
	c.renew()
	return c
}

// renew lets the forge follow the group.
func (c *court) renew() { c.f = forge{c.T, c.tg.members["mallory"]} }

func (c *court) self(name string) LeafIndex { return c.tg.members[name].self }

// member commits honestly.
func (c *court) member(by string, o *CommitOptions) {
	c.Helper()
	c.tg.commit(by, o)
	c.renew()
}

func (c *court) propose(by string, propose func(g *Group) (*Message, *Group, error)) ProposalRef {
	c.Helper()
	c.tg.propose(by, propose)
	c.renew()
	pending := c.f.g.pending
	return pending[len(pending)-1].ref
}

// commit is a forged commit of proposals by value.
func (c *court) commit(y forgery, list ...Proposal) *Message {
	c.Helper()
	return c.f.commit(byValue(list...), y).message
}

// refs commits by reference.
func (c *court) refs(y forgery, refs ...ProposalRef) *Message {
	c.Helper()
	var entries []ProposalOrRef
	for _, r := range refs {
		entries = append(entries, ProposalOrRef{Ref: r})
	}
	return c.f.commit(entries, y).message
}

// keyPackage forges a key package of tybalt.
func (c *court) keyPackage(edit func(kp *KeyPackage)) *PrivateKeyPackage {
	c.Helper()
	return forgeKeyPackage(c.T, suite1, "tybalt", edit)
}

// add is a commit that adds a forged key package.
func (c *court) add(edit func(kp *KeyPackage)) *Message {
	c.Helper()
	return c.commit(forgery{}, &Add{c.keyPackage(edit).KeyPackage})
}

// addLeaf is a commit that adds a key package with a forged leaf.
func addLeaf(edit func(l *LeafNode)) func(c *court) *Message {
	return func(c *court) *Message {
		return c.add(func(kp *KeyPackage) {
			l := kp.LeafNode
			l.Capabilities.Versions = slices.Clone(l.Capabilities.Versions)
			l.Capabilities.CipherSuites = slices.Clone(l.Capabilities.CipherSuites)
			l.Capabilities.Extensions = slices.Clone(l.Capabilities.Extensions)
			l.Capabilities.Proposals = slices.Clone(l.Capabilities.Proposals)
			l.Capabilities.Credentials = slices.Clone(l.Capabilities.Credentials)
			l.Extensions = slices.Clone(l.Extensions)
			edit(l)
		})
	}
}

// update forges the leaf of an Update of mallory.
func (c *court) update(edit func(l *LeafNode)) *Update {
	c.Helper()
	g := c.f.g
	old := g.Self().Leaf
	_, pub, err := g.s.generateHPKEKeyPair(nil)
	if err != nil {
		c.Fatal(err)
	}
	l := &LeafNode{
		EncryptionKey: pub, SignatureKey: old.SignatureKey, Credential: old.Credential,
		Capabilities: old.Capabilities, Source: LeafNodeUpdate, Extensions: old.Extensions,
	}
	if edit != nil {
		edit(l)
	}
	return &Update{resign(g.s, l, g.me.Key, g.ctx.GroupID, g.self)}
}

// badSignature gives a leaf a wrong signature.
func badSignature(s *suite, l *LeafNode) *LeafNode {
	l = resign(s, l, nil, nil, 0)
	l.Signature = flip(l.Signature)
	return resign(s, l, nil, nil, 0)
}

// refuse fails unless err is what the offence deserves, and shows no secret of
// anybody.
func (c *court) refuse(o *offence, who string, err error) {
	c.Helper()
	if err == nil {
		c.Errorf("%s accepts it", who)
		return
	}
	var v *ValidationError
	if !errors.As(err, &v) || v.Rule != o.reported() || v.Reason == "" {
		c.Errorf("%s: want rule %s: %v", who, o.reported(), err)
	}
	if o.is != nil && !errors.Is(err, o.is) {
		c.Errorf("%s: want %v: %v", who, o.is, err)
	}
	for name, g := range c.tg.members {
		wantNoSecrets(c.T, err.Error(), secretsOf(name, g))
	}
}

// secretsOf lists the secrets of a group.
func secretsOf(name string, g *Group) map[string][]byte {
	m := map[string][]byte{
		name + "'s signature key": g.me.Key.seed,
		name + "'s leaf key":      g.private.leaf.bytes(),
	}
	for i, s := range g.keys.secrets.lasting() {
		m[fmt.Sprintf("secret %d of %s", i, name)] = *s
	}
	for k, key := range g.private.path {
		if key != nil {
			m[fmt.Sprintf("path key %d of %s", k, name)] = key.bytes()
		}
	}
	for _, p := range g.resumption {
		m[fmt.Sprintf("resumption PSK %d of %s", p.epoch, name)] = p.psk
	}
	return m
}

// wantNoSecrets fails if a text shows a secret, raw, in base 64, in hexadecimal or
// as a list of numbers.
func wantNoSecrets(t testing.TB, text string, secrets map[string][]byte) {
	t.Helper()
	lower := strings.ToLower(text)
	for what, secret := range secrets {
		if len(secret) < 16 {
			t.Errorf("%s has %d octets", what, len(secret))
			continue
		}
		part := secret[:12]
		for form, s := range map[string]string{
			"raw": string(part), "base 64": base64.StdEncoding.EncodeToString(part), "URL base 64": base64.URLEncoding.EncodeToString(part),
			"numbers": strings.Trim(fmt.Sprint(part), "[]"), "Go": strings.TrimSuffix(fmt.Sprintf("%#v", part)[len("[]byte{"):], "}"),
		} {
			if strings.Contains(text, s) {
				t.Errorf("%s shows (%s) in %q", what, form, text)
			}
		}
		if strings.Contains(lower, hex.EncodeToString(part)) {
			t.Errorf("%s shows (hexadecimal) in %q", what, text)
		}
	}
}

// try lets everybody judge an offence, and then take a genuine message.
func (o *offence) try(t *testing.T) {
	c := newCourt(t, o)
	if o.check != nil {
		c.refuse(o, "the check", o.check(c))
		return
	}
	m := o.message(c)
	for name, g := range c.tg.members {
		if name == "mallory" {
			continue
		}
		before := g.Save()
		r, err := g.Process(m)
		if err == nil {
			t.Logf("%s gets a %T", name, r)
		}
		c.refuse(o, name, err)
		if !bytes.Equal(before, g.Save()) {
			t.Errorf("%s is changed by a message that was refused", name)
		}
	}
	if m.Public != nil && c.tg.public != nil {
		before := c.tg.public.State()
		r, err := c.tg.public.Process(m)
		if o.blind {
			if err != nil {
				t.Errorf("the observer is not blind: %v", err)
			}
		} else {
			if err == nil {
				t.Logf("the observer gets a %T", r)
			}
			c.refuse(o, "the observer", err)
		}
		if !bytes.Equal(before, c.tg.public.State()) {
			t.Error("the observer is changed by a message that was refused")
		}
	}
	if o.done {
		return
	}
	next := c.f.commit(nil, forgery{}).message
	for name, g := range c.tg.members {
		if name == "mallory" {
			continue
		}
		if _, err := g.Process(c.f.application([]byte("hello"), forgery{})); err != nil && c.tg.members[name].safeAAD == false {
			t.Errorf("%s refuses a genuine message afterwards: %v", name, err)
		}
		if _, err := g.Process(next); err != nil && !g.safeAAD {
			t.Errorf("%s refuses a genuine commit afterwards: %v", name, err)
		}
	}
	if c.tg.public != nil && !c.tg.public.safeAAD {
		if _, err := c.tg.public.Process(next); err != nil {
			t.Errorf("the observer refuses a genuine commit afterwards: %v", err)
		}
	}
}

// offences are all offences by the test that tries them.
var offences = map[string][]offence{}

// try runs the offences of the test that calls it.
func tryAll(t *testing.T) {
	t.Parallel()
	list := offences[t.Name()]
	if len(list) == 0 {
		t.Fatalf("no offences for %s", t.Name())
	}
	for i := range list {
		o := &list[i]
		t.Run(string(o.rule)+"/"+o.name, o.try)
	}
}
