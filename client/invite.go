// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
)

// This file adds people: claim a key package of each of their devices from
// their own delivery service, check every one, commit those that are good. One
// bad device never stops the others.

// InviteStatus says how it went for one account or device.
type InviteStatus string

const (
	InviteAdded        InviteStatus = "added"
	InviteAlready      InviteStatus = "already a member"
	InvitePartial      InviteStatus = "added with some devices only"
	InviteUnavailable  InviteStatus = "unavailable"         // unknown, unwilling or unreachable: a service does not tell which
	InviteExhausted    InviteStatus = "no key packages"     // left, not even one of last resort
	InviteIncompatible InviteStatus = "incompatible"        // none for this group's suite and rules
	InviteInvalid      InviteStatus = "invalid key package" // it does not pass the checks
	InviteUntrusted    InviteStatus = "not trusted"         // the trust policy says no
	InviteFailed       InviteStatus = "failed"              // see Err
)

// InviteDevice is the outcome for one device.
type InviteDevice struct {
	Device      DeviceID     `json:"device"`
	Status      InviteStatus `json:"status"`
	Reason      string       `json:"reason,omitempty"`
	Fingerprint string       `json:"fingerprint,omitempty"`
	// Unmet: the account is known, by other devices or as the own one, and this
	// device is not; see [NewDevice].
	Unmet bool `json:"unmet,omitempty"`

	kp *mls.KeyPackage
}

// InviteUser is the outcome for one account.
type InviteUser struct {
	JID     string         `json:"jid"`
	Status  InviteStatus   `json:"status"`
	Reason  string         `json:"reason,omitempty"`
	Devices []InviteDevice `json:"devices,omitempty"`
}

// InviteResult is the outcome of an invitation, account by account.
type InviteResult struct {
	Users []InviteUser `json:"users"`

	oneByOne bool // some package does not fit the group: find out which
}

// Added reports whether at least one device of an account was added.
func (r *InviteResult) Added(account string) bool {
	account = normalOr(account)
	for _, u := range r.Users {
		if u.JID == account {
			return u.Status == InviteAdded || u.Status == InvitePartial
		}
	}
	return false
}

// Failed lists the accounts of which no device was added.
func (r *InviteResult) Failed() []InviteUser {
	var out []InviteUser
	for _, u := range r.Users {
		switch u.Status {
		case InviteAdded, InvitePartial, InviteAlready:
		default:
			out = append(out, u)
		}
	}
	return out
}

// ErrNobodyAdded is returned by [Group.Invite] when no device of anybody could
// be added. The result says why.
var ErrNobodyAdded = errors.New("client: nobody could be added")

// Invite adds accounts with all their devices. It adds whom it can; the result
// says for everybody how it went. The error is about the group as a whole, or
// [ErrNobodyAdded].
func (g *Group) Invite(ctx context.Context, accounts ...string) (*InviteResult, error) {
	return g.invite(ctx, &intent{Op: opInvite, Accounts: accounts})
}

func (g *Group) invite(ctx context.Context, in *intent) (*InviteResult, error) {
	accounts := in.Accounts
	res := &InviteResult{}
	if err := g.usable(ctx); err != nil {
		return res, err
	}
	suite := g.state.CipherSuite()
	inTree := make(map[string]map[DeviceID]bool)
	for m := range g.state.Members() {
		j := leafIdentity(m.Leaf)
		if inTree[j] == nil {
			inTree[j] = make(map[DeviceID]bool)
		}
		inTree[j][deviceOf(m.Leaf)] = true
	}
	g.mu.Unlock()
	seen := make(map[string]bool)
	for _, a := range accounts {
		j, err := bareJID(a)
		switch {
		case err != nil:
			res.Users = append(res.Users, InviteUser{JID: a, Status: InviteFailed, Reason: err.Error()})
		case !seen[j]:
			seen[j] = true
			res.Users = append(res.Users, InviteUser{JID: j})
		}
	}
	g.claim(ctx, suite, res)
	for i := range res.Users {
		g.vet(ctx, &res.Users[i], suite, inTree[res.Users[i].JID])
	}
	return res, g.addClaimed(ctx, in, res)
}

// claim fetches key packages for everybody, one request per service.
func (g *Group) claim(ctx context.Context, suite mls.CipherSuite, res *InviteResult) {
	var mu sync.Mutex
	byService := make(map[string][]*InviteUser)
	var jobs []func() error
	for i := range res.Users {
		u := &res.Users[i]
		if u.Status != "" {
			continue
		}
		jobs = append(jobs, func() error {
			ds, err := g.c.serviceOf(ctx, u.JID)
			if err != nil {
				u.Status, u.Reason = InviteUnavailable, err.Error()
				if errors.Is(err, ErrNoService) || errors.Is(err, errUnreached) {
					g.claimPEP(ctx, suite, u)
				}
				return nil
			}
			mu.Lock()
			byService[ds] = append(byService[ds], u)
			mu.Unlock()
			return nil
		})
	}
	parallel(16, jobs)
	jobs = nil
	for ds, users := range byService {
		jobs = append(jobs, func() error {
			g.claimFrom(ctx, ds, suite, users)
			return nil
		})
	}
	parallel(8, jobs)
}

// maxClaim is how many users one claim names.
const maxClaim = 200

func (g *Group) claimFrom(ctx context.Context, ds string, suite mls.CipherSuite, users []*InviteUser) {
	for len(users) > maxClaim {
		g.claimFrom(ctx, ds, suite, users[:maxClaim])
		users = users[maxClaim:]
	}
	byJID := make(map[string]*InviteUser, len(users))
	req := &stanza.ClaimKeyPackages{
		ClaimID: randomID(), For: g.jid, CipherSuite: uint16(suite),
		Extensions:  []uint16{uint16(mls.ExtensionAppDataDictionary)},
		Proposals:   []uint16{uint16(mls.ProposalAppDataUpdate), uint16(mls.ProposalSelfRemove)},
		Credentials: []uint16{uint16(g.credentialType())},
	}
	for _, u := range users {
		byJID[u.JID] = u
		req.Users = append(req.Users, stanza.ClaimUser{JID: u.JID})
	}
	lost := 0
	for {
		var reply stanza.Claimed
		err := g.c.ask(ctx, "set", ds, req, &reply)
		if err != nil && ctx.Err() == nil && lost < 4 {
			// The same claim-id gives the same answer.
			if d := retryAfter(err); d > 0 || unknownOutcome(err) {
				lost++
				if d > 0 {
					g.c.waitAsked(ctx, ds, err)
				} else {
					g.c.pause(ctx, ds, backoff(lost))
				}
				continue
			}
		}
		if err != nil {
			for _, u := range users {
				if u.Status == "" && u.Devices == nil {
					u.Status, u.Reason = InviteUnavailable, fmt.Sprintf("%s: %v", ds, err)
				}
			}
			g.c.disco.forget(users[0].JID)
			return
		}
		for _, cu := range reply.Users {
			if u := byJID[normalOr(cu.JID)]; u != nil {
				takeClaimed(u, &cu)
			}
		}
		n := len(reply.Users)
		if !reply.More || n == 0 || reply.Users[n-1].JID == req.After {
			break
		}
		req.After = reply.Users[n-1].JID
	}
	for _, u := range users {
		if u.Status == "" && u.Devices == nil {
			u.Status, u.Reason = InviteUnavailable, ds+" did not say anything about this account"
		}
	}
}

// credentialType is that of the own leaf, which is what others get along with.
func (g *Group) credentialType() mls.CredentialType {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == nil {
		return mls.CredentialBasic
	}
	return g.state.Self().Leaf.Credential.Type
}

func takeClaimed(u *InviteUser, cu *stanza.ClaimedUser) {
	switch cu.Status {
	case stanza.ClaimUnavailable:
		u.Status = InviteUnavailable
	case stanza.ClaimExhausted:
		u.Status = InviteExhausted
	case stanza.ClaimIncompatible:
		u.Status = InviteIncompatible
	}
	for _, d := range cu.Devices {
		dev := InviteDevice{Device: d.ID}
		switch d.Status {
		case stanza.ClaimOK:
			m, err := mls.ParseMessage(d.KeyPackage.Bytes)
			switch {
			case err != nil:
				dev.Status, dev.Reason = InviteInvalid, err.Error()
			case m.KeyPackage == nil:
				dev.Status, dev.Reason = InviteInvalid, "it is not a key package"
			default:
				dev.kp = m.KeyPackage
			}
		case stanza.ClaimExhausted:
			dev.Status = InviteExhausted
		case stanza.ClaimIncompatible:
			dev.Status = InviteIncompatible
		default:
			dev.Status = InviteUnavailable
		}
		u.Devices = append(u.Devices, dev)
	}
	if len(u.Devices) == 0 && u.Status == "" {
		u.Status, u.Reason = InviteUnavailable, "no devices"
	}
}

// vet checks the key packages of an account: what its service hands out is not
// believed.
func (g *Group) vet(ctx context.Context, u *InviteUser, suite mls.CipherSuite, inTree map[DeviceID]bool) {
	for i := range u.Devices { // before any of them is met
		if d := &u.Devices[i]; d.kp != nil {
			d.Unmet = g.c.trust.strange(u.JID, u.JID == g.c.account, d.Device, d.kp.LeafNode.SignatureKey)
		}
	}
	for i := range u.Devices {
		d := &u.Devices[i]
		if d.kp == nil {
			continue
		}
		fail := func(s InviteStatus, why string) { d.kp, d.Status, d.Reason = nil, s, why }
		if d.kp.CipherSuite != suite {
			fail(InviteIncompatible, fmt.Sprintf("it is for cipher suite %v, the group has %v", d.kp.CipherSuite, suite))
			continue
		}
		if err := d.kp.Verify(g.cfg); err != nil {
			if isExpired(err) {
				err = g.c.blameClock(ctx, g.host, err)
			}
			fail(InviteInvalid, err.Error())
			continue
		}
		leaf := d.kp.LeafNode
		if err := outdatedCertificate(leaf.Credential, g.c.cfg.clock()); err != nil {
			fail(InviteInvalid, g.c.blameClock(ctx, g.host, err).Error())
			continue
		}
		if j, err := identityOf(leaf.Credential); err != nil || j != u.JID {
			fail(InviteInvalid, fmt.Sprintf("it is not %s's but %q's", u.JID, j))
			continue
		}
		if id := deviceOf(leaf); !d.Device.IsZero() && id != d.Device {
			fail(InviteInvalid, "it is another device's")
			continue
		} else if inTree[id] {
			fail(InviteAlready, "")
			continue
		}
		d.Fingerprint = Fingerprint(leaf.SignatureKey)
		t, ops, _ := g.c.trust.seen(u.JID, d.Device, leaf.SignatureKey)
		if len(ops) > 0 {
			g.mu.Lock()
			g.b.add(ops...)
			g.mu.Unlock()
			g.flushSoon()
		}
		if !g.c.trust.policy.Permits(t) {
			fail(InviteUntrusted, fmt.Sprintf("its key %s is %s", FormatFingerprint(d.Fingerprint), t))
		}
	}
	// Two packages of one device would be two leaves of it.
	for i := range u.Devices {
		for j := range u.Devices[:i] {
			a, b := &u.Devices[i], &u.Devices[j]
			if a.kp != nil && b.kp != nil && bytes.Equal(a.kp.LeafNode.ApplicationID(), b.kp.LeafNode.ApplicationID()) {
				a.kp, a.Status, a.Reason = nil, InviteInvalid, "the service gave two key packages for one device"
			}
		}
	}
}

// addClaimed commits what has passed.
func (g *Group) addClaimed(ctx context.Context, in *intent, res *InviteResult) error {
	any := false
	for _, u := range res.Users {
		for _, d := range u.Devices {
			any = any || d.kp != nil
		}
	}
	var err error
	if any {
		build := func() (*mls.CommitOptions, error) { return g.buildAdd(res) }
		if err = g.change(ctx, in, build); isPackageFault(err) {
			res.oneByOne = true
			err = g.change(ctx, in, build)
		}
	} else {
		g.settled(in)
	}
	for i := range res.Users {
		u := &res.Users[i]
		added, already, rest := 0, 0, 0
		for j := range u.Devices {
			d := &u.Devices[j]
			if d.kp != nil {
				if err == nil {
					d.Status = InviteAdded
				} else {
					d.Status, d.Reason = InviteFailed, err.Error()
				}
			}
			switch d.Status {
			case InviteAdded:
				added++
			case InviteAlready:
				already++
			default:
				rest++
			}
		}
		switch {
		case u.Status != "" && added == 0:
		case added > 0 && rest > 0:
			u.Status = InvitePartial
		case added > 0:
			u.Status = InviteAdded
		case already > 0:
			u.Status = InviteAlready
		case len(u.Devices) > 0:
			u.Status, u.Reason = u.Devices[0].Status, u.Devices[0].Reason
		default:
			u.Status = InviteUnavailable
		}
	}
	if err != nil {
		return err
	}
	for _, u := range res.Users {
		switch u.Status {
		case InviteAdded, InvitePartial, InviteAlready:
			return nil
		}
	}
	if len(res.Users) == 0 {
		return nil
	}
	return ErrNobodyAdded
}

// buildAdd makes the options of a commit that adds the vetted packages. It is
// called with the lock held, anew after a lost race. A package that the group
// itself refuses is dropped, so that the others can be added.
func (g *Group) buildAdd(res *InviteResult) (*mls.CommitOptions, error) {
	have := make(map[string]bool)
	for m := range g.state.Members() {
		have[leafIdentity(m.Leaf)+"/"+deviceOf(m.Leaf).String()] = true
	}
	o := &mls.CommitOptions{}
	var devices []*InviteDevice
	for i := range res.Users {
		u := &res.Users[i]
		for j := range u.Devices {
			d := &u.Devices[j]
			if d.kp == nil {
				continue
			}
			if have[u.JID+"/"+deviceOf(d.kp.LeafNode).String()] {
				d.kp, d.Status = nil, InviteAlready // somebody was faster
				continue
			}
			o.Add = append(o.Add, d.kp)
			devices = append(devices, d)
		}
	}
	if len(o.Add) == 0 {
		return nil, errNothingToDo
	}
	if !res.oneByOne {
		return o, nil
	}
	o.Add = nil
	for _, d := range devices {
		trial := mls.CommitOptions{Add: append(o.Add[:len(o.Add):len(o.Add)], d.kp), AAD: g.aad()}
		if _, err := g.state.Commit(&trial); err != nil {
			d.kp, d.Status, d.Reason = nil, InviteInvalid, err.Error()
			continue
		}
		o.Add = trial.Add
	}
	if len(o.Add) == 0 {
		return nil, errNothingToDo
	}
	return o, nil
}

// isPackageFault reports whether a commit failed by the rules for what is
// added.
func isPackageFault(err error) bool {
	var ve *mls.ValidationError
	return errors.As(err, &ve)
}
