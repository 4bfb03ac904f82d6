// SPDX-License-Identifier: Apache-2.0

// The list of proposals that a commit covers (RFC 9420 §12.2).

package mls

import "slices"

// A listedProposal is a proposal that a commit covers.
type listedProposal struct {
	ProposalInfo
	// checked: it was found valid by itself when it arrived.
	checked bool
}

// A proposalList is what a commit covers, in its order and by type.
type proposalList struct {
	all       []listedProposal
	committer Sender

	updates      []leafUpdate
	removes      []LeafIndex // by Remove and SelfRemove
	adds         []*KeyPackage
	psks         []PreSharedKeyID
	externalInit []byte
	context      *GroupContextExtensions
	reinit       *ReInit
	appData      []*AppDataUpdate
	ephemeral    []*AppEphemeral
}

type leafUpdate struct {
	at   LeafIndex
	leaf *LeafNode
}

// use says which PSKs a list may have.
type pskUse uint8

const (
	pskUseCommit pskUse = iota
	pskUseReInit
	pskUseBranch
)

// gather resolves the references of a commit (RFC 9420 §12.4).
func (st *publicState) gather(entries []ProposalOrRef, committer Sender) (*proposalList, error) {
	if len(entries) > st.cfg.limits.MaxProposals {
		return nil, invalid(RuleLimit, "the commit covers %d proposals, the limit is %d", len(entries), st.cfg.limits.MaxProposals)
	}
	l := &proposalList{committer: committer, all: make([]listedProposal, len(entries))}
	find := st.findPending
	if len(entries) > 16 && len(st.pending) > 16 {
		byRef := make(map[string]*pendingProposal, len(st.pending))
		for _, p := range st.pending {
			byRef[string(p.ref)] = p
		}
		find = func(ref ProposalRef) *pendingProposal { return byRef[string(ref)] }
	}
	seen := make(map[*pendingProposal]struct{})
	for i, e := range entries {
		if e.Proposal != nil {
			l.all[i].ProposalInfo = ProposalInfo{Proposal: e.Proposal, Sender: committer}
			continue
		}
		p := find(e.Ref)
		if p == nil {
			if committer.Type == SenderNewMemberCommit {
				return nil, broken(RuleExternalByReference, ErrMissingProposal, "external commit refers to %x", []byte(e.Ref))
			}
			return nil, &missingProposalError{e.Ref}
		}
		if _, ok := seen[p]; ok {
			return nil, invalid(RuleReferenceTwice, "the commit refers to proposal %x twice", []byte(p.ref))
		}
		seen[p] = struct{}{}
		l.all[i] = listedProposal{p.info(), true}
	}
	return l, nil
}

// missingProposalError names the proposal that a commit refers to.
type missingProposalError struct{ ref ProposalRef }

func (e *missingProposalError) Error() string {
	return "mls: commit refers to a proposal that was not received: " + hexString(e.ref)
}

func (e *missingProposalError) Unwrap() error { return ErrMissingProposal }

// sort distributes the list by type.
func (l *proposalList) sort() error {
	for i := range l.all {
		p := &l.all[i]
		switch v := p.Proposal.(type) {
		case *Add:
			l.adds = append(l.adds, v.KeyPackage)
		case *Update:
			l.updates = append(l.updates, leafUpdate{LeafIndex(p.Sender.Index), v.LeafNode})
		case *Remove:
			l.removes = append(l.removes, v.Removed)
		case *SelfRemove:
			l.removes = append(l.removes, LeafIndex(p.Sender.Index))
		case *PreSharedKey:
			l.psks = append(l.psks, v.ID)
		case *ExternalInit:
			if l.committer.Type == SenderMember {
				return invalid(RuleExternalInitMember, "a member's commit has an ExternalInit")
			}
			if l.externalInit != nil {
				return invalid(RuleExternalInitOnce, "the external commit has two ExternalInit proposals")
			}
			l.externalInit = v.KEMOutput
		case *GroupContextExtensions:
			if l.context != nil {
				return invalid(RuleContextTwice, "the commit has two GroupContextExtensions proposals")
			}
			l.context = v
		case *ReInit:
			if len(l.all) > 1 && l.committer.Type == SenderMember {
				return invalid(RuleReInitAlone, "the commit has a ReInit and other proposals")
			}
			l.reinit = v
		case *AppDataUpdate:
			l.appData = append(l.appData, v)
		case *AppEphemeral:
			l.ephemeral = append(l.ephemeral, v)
		}
	}
	return nil
}

// needsPath reports whether a commit of the list must have a path
// (RFC 9420 §12.4).
func (l *proposalList) needsPath() bool {
	return len(l.all) == 0 || slices.ContainsFunc(l.all, func(p listedProposal) bool {
		return p.Proposal.ProposalType().needsPath()
	})
}

// validateList checks a list before it is applied (RFC 9420 §12.2). What depends
// on the tree after the commit is checked there.
func (st *publicState) validateList(l *proposalList, use pskUse, from origin) error {
	if err := l.sort(); err != nil {
		return err
	}
	if l.committer.Type == SenderNewMemberCommit {
		if err := l.validateExternal(st); err != nil {
			return err
		}
	}
	for i := range l.all {
		p := &l.all[i]
		if err := st.validateListed(l, p, use); err != nil {
			return err
		}
	}
	if err := l.validateLeaves(); err != nil {
		return err
	}
	if err := l.validatePSKs(); err != nil {
		return err
	}
	return st.validateAdds(l, from)
}

// validateExternal checks which types an external commit has (RFC 9420 §12.2;
// draft-ietf-mls-extensions adds SelfRemove, AppDataUpdate and AppEphemeral).
func (l *proposalList) validateExternal(st *publicState) error {
	removes := 0
	for i := range l.all {
		p := &l.all[i]
		t := p.Proposal.ProposalType()
		if p.Ref != nil && t != ProposalSelfRemove {
			return invalid(RuleExternalByReference, "an external commit refers to a proposal of type %v", t)
		}
		switch t {
		case ProposalRemove:
			removes++
		case ProposalExternalInit, ProposalPSK, ProposalSelfRemove, ProposalAppDataUpdate, ProposalAppEphemeral:
		default:
			return invalid(RuleExternalOther, "an external commit has a proposal of type %v", t)
		}
	}
	if removes > 1 {
		return invalid(RuleExternalRemove, "an external commit has %d Remove proposals", removes)
	}
	if l.externalInit == nil {
		return invalid(RuleExternalInitOnce, "an external commit has no ExternalInit")
	}
	if want := st.s.kem.encSize(); len(l.externalInit) != want {
		return invalid(RuleExternalInitOnce, "kem_output has %d octets, want %d", len(l.externalInit), want)
	}
	return nil
}

// validateListed checks one proposal in the light of who commits it.
func (st *publicState) validateListed(l *proposalList, p *listedProposal, use pskUse) error {
	committer, isMember := l.committer.Leaf()
	switch v := p.Proposal.(type) {
	case *Update:
		if isMember && p.Sender == l.committer {
			return invalid(RuleUpdateByCommitter, "the commit covers an Update of its own sender")
		}
	case *Remove:
		if isMember && v.Removed == committer {
			return invalid(RuleRemoveCommitter, "the commit removes its own sender")
		}
	case *SelfRemove:
		if p.Ref == nil {
			return invalid(RuleSelfRemoveValue, "the commit has a SelfRemove by value")
		}
		if isMember && p.Sender == l.committer {
			return invalid(RuleSelfRemoveCommitter, "the commit covers a SelfRemove of its own sender")
		}
	case *Add:
		return nil // validateAdds looks at all together
	}
	if p.checked {
		return nil
	}
	return st.validateProposal(p.Proposal, p.Sender, WireFormatPublicMessage, use)
}

// validateLeaves checks that at most one proposal applies to a leaf.
func (l *proposalList) validateLeaves() error {
	if len(l.updates)+len(l.removes) < 2 {
		return nil
	}
	seen := make(map[LeafIndex]struct{}, len(l.updates)+len(l.removes))
	check := func(i LeafIndex) error {
		if _, ok := seen[i]; ok {
			return invalid(RuleSameLeaf, "two Update, Remove or SelfRemove proposals apply to member %d", i)
		}
		seen[i] = struct{}{}
		return nil
	}
	for _, u := range l.updates {
		if err := check(u.at); err != nil {
			return err
		}
	}
	for _, i := range l.removes {
		if err := check(i); err != nil {
			return err
		}
	}
	return nil
}

func (l *proposalList) validatePSKs() error {
	if len(l.psks) < 2 {
		return nil
	}
	seen := make(map[string]struct{}, len(l.psks))
	for i := range l.psks {
		id := string(l.psks[i].appendTo(nil))
		if _, ok := seen[id]; ok {
			return invalid(RulePSKTwice, "two PreSharedKey proposals have the same PreSharedKeyID")
		}
		seen[id] = struct{}{}
	}
	return nil
}

// validateAdds checks the key packages of a list, each once, on all cores.
func (st *publicState) validateAdds(l *proposalList, from origin) error {
	if len(l.adds) == 0 {
		return nil
	}
	var fresh []*KeyPackage
	initKeys := make(map[string]struct{}, len(l.adds))
	clients := make(map[string]struct{}, len(l.adds))
	for i := range l.all {
		add, ok := l.all[i].Proposal.(*Add)
		if !ok {
			continue
		}
		kp := add.KeyPackage
		if !l.all[i].checked {
			fresh = append(fresh, kp)
		}
		if _, ok := clients[string(kp.LeafNode.SignatureKey)]; ok {
			return invalid(RuleAddTwice, "two Adds have the same signature_key")
		}
		if _, ok := initKeys[string(kp.InitKey)]; ok {
			return invalid(RuleInitKeyTwice, "two Adds have the same init_key")
		}
		clients[string(kp.LeafNode.SignatureKey)] = struct{}{}
		initKeys[string(kp.InitKey)] = struct{}{}
	}
	return inParallel(len(fresh), func(i int) error { return st.cfg.validateKeyPackage(st.s, fresh[i], from) })
}
