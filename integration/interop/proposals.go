// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/lockstep-im/lockstep/integration/interop/mlsclient"
	"github.com/lockstep-im/lockstep/mls"
)

// propose makes a proposal of this member's and remembers it as seen: its own
// private messages cannot be read again.
func (s *server) propose(id uint32, make func(*state, *mls.ProposeOptions) (*mls.Message, *mls.Group, error)) (*mlsclient.ProposalResponse, error) {
	return guard(s, func() (*mlsclient.ProposalResponse, error) {
		st, err := get[*state](s, id)
		if err != nil {
			return nil, err
		}
		m, g, err := make(st, &mls.ProposeOptions{Wire: st.wire})
		if err != nil {
			return nil, err
		}
		pending := g.PendingProposals()
		st.group = g
		st.seen[string(m.Bytes())] = pending[len(pending)-1].Ref
		return &mlsclient.ProposalResponse{Proposal: m.Bytes()}, nil
	})
}

func parseKeyPackage(b []byte) (*mls.KeyPackage, error) {
	m, err := mls.ParseMessage(b)
	if err != nil {
		return nil, err
	}
	if m.KeyPackage == nil {
		return nil, fmt.Errorf("%v where a key package belongs", m.WireFormat())
	}
	return m.KeyPackage, nil
}

func parseKeyPackages(list [][]byte) ([]*mls.KeyPackage, error) {
	var kps []*mls.KeyPackage
	for _, b := range list {
		kp, err := parseKeyPackage(b)
		if err != nil {
			return nil, err
		}
		kps = append(kps, kp)
	}
	return kps, nil
}

func extensions(list []*mlsclient.Extension) mls.Extensions {
	x := mls.Extensions{}
	for _, e := range list {
		x = append(x, mls.Extension{Type: u16[mls.ExtensionType](e.ExtensionType), Data: e.ExtensionData})
	}
	return x
}

func externalPSK(id []byte) mls.PreSharedKeyID {
	return mls.PreSharedKeyID{Type: mls.PSKExternal, ID: id}
}

func resumptionPSK(group mls.GroupID, epoch uint64) mls.PreSharedKeyID {
	return mls.PreSharedKeyID{Type: mls.PSKResumption, Usage: mls.ResumptionApplication, GroupID: group, Epoch: epoch}
}

// AddProposal implements the interface.
func (s *server) AddProposal(_ context.Context, q *mlsclient.AddProposalRequest) (*mlsclient.ProposalResponse, error) {
	return s.propose(q.StateId, func(st *state, o *mls.ProposeOptions) (*mls.Message, *mls.Group, error) {
		kp, err := parseKeyPackage(q.KeyPackage)
		if err != nil {
			return nil, nil, err
		}
		return st.group.ProposeAdd(kp, o)
	})
}

// UpdateProposal implements the interface.
func (s *server) UpdateProposal(_ context.Context, q *mlsclient.UpdateProposalRequest) (*mlsclient.ProposalResponse, error) {
	return s.propose(q.StateId, func(st *state, o *mls.ProposeOptions) (*mls.Message, *mls.Group, error) {
		return st.group.ProposeUpdate(nil, o)
	})
}

// RemoveProposal implements the interface.
func (s *server) RemoveProposal(_ context.Context, q *mlsclient.RemoveProposalRequest) (*mlsclient.ProposalResponse, error) {
	return s.propose(q.StateId, func(st *state, o *mls.ProposeOptions) (*mls.Message, *mls.Group, error) {
		m, err := memberNamed(st.group.Members(), q.RemovedId)
		if err != nil {
			return nil, nil, err
		}
		return st.group.ProposeRemove(m.Index, o)
	})
}

// ExternalPSKProposal implements the interface.
func (s *server) ExternalPSKProposal(_ context.Context, q *mlsclient.ExternalPSKProposalRequest) (*mlsclient.ProposalResponse, error) {
	return s.propose(q.StateId, func(st *state, o *mls.ProposeOptions) (*mls.Message, *mls.Group, error) {
		return st.group.ProposePSK(externalPSK(q.PskId), o)
	})
}

// ResumptionPSKProposal implements the interface.
func (s *server) ResumptionPSKProposal(_ context.Context, q *mlsclient.ResumptionPSKProposalRequest) (*mlsclient.ProposalResponse, error) {
	return s.propose(q.StateId, func(st *state, o *mls.ProposeOptions) (*mls.Message, *mls.Group, error) {
		return st.group.ProposePSK(resumptionPSK(st.group.GroupID(), q.EpochId), o)
	})
}

// GroupContextExtensionsProposal implements the interface.
func (s *server) GroupContextExtensionsProposal(_ context.Context, q *mlsclient.GroupContextExtensionsProposalRequest) (*mlsclient.ProposalResponse, error) {
	return s.propose(q.StateId, func(st *state, o *mls.ProposeOptions) (*mls.Message, *mls.Group, error) {
		return st.group.ProposeContextExtensions(extensions(q.Extensions), o)
	})
}

// ReInitProposal implements the interface.
func (s *server) ReInitProposal(_ context.Context, q *mlsclient.ReInitProposalRequest) (*mlsclient.ProposalResponse, error) {
	return s.propose(q.StateId, func(st *state, o *mls.ProposeOptions) (*mls.Message, *mls.Group, error) {
		return st.group.ProposeReInit(&mls.ReInit{
			GroupID: q.GroupId, Version: mls.MLS10, CipherSuite: u16[mls.CipherSuite](q.CipherSuite),
			Extensions: extensions(q.Extensions),
		}, o)
	})
}

// NewMemberAddProposal implements the interface.
func (s *server) NewMemberAddProposal(_ context.Context, q *mlsclient.NewMemberAddProposalRequest) (*mlsclient.NewMemberAddProposalResponse, error) {
	return guard(s, func() (*mlsclient.NewMemberAddProposalResponse, error) {
		gi, err := parseGroupInfo(q.GroupInfo)
		if err != nil {
			return nil, err
		}
		j, err := newJoiner(gi.Context.CipherSuite, q.Identity)
		if err != nil {
			return nil, err
		}
		m, err := mls.NewMemberProposal(gi, j.kp, nil)
		if err != nil {
			return nil, err
		}
		initKey, leafKey, signatureKey := j.kp.Export()
		return &mlsclient.NewMemberAddProposalResponse{
			TransactionId: s.put(j), Proposal: m.Bytes(),
			InitPriv: initKey, EncryptionPriv: leafKey, SignaturePriv: signatureKey,
		}, nil
	})
}

// CreateExternalSigner implements the interface.
func (s *server) CreateExternalSigner(_ context.Context, q *mlsclient.CreateExternalSignerRequest) (*mlsclient.CreateExternalSignerResponse, error) {
	return guard(s, func() (*mlsclient.CreateExternalSignerResponse, error) {
		cs := u16[mls.CipherSuite](q.CipherSuite)
		id, err := newIdentity(cs, q.Identity)
		if err != nil {
			return nil, err
		}
		sender := mls.ExternalSender{SignatureKey: id.Key.Public(), Credential: id.Credential}
		return &mlsclient.CreateExternalSignerResponse{SignerId: s.put(&signer{cs, id}), ExternalSender: sender.Bytes()}, nil
	})
}

// AddExternalSigner implements the interface: it appends to the senders that the
// group has.
func (s *server) AddExternalSigner(_ context.Context, q *mlsclient.AddExternalSignerRequest) (*mlsclient.ProposalResponse, error) {
	return s.propose(q.StateId, func(st *state, o *mls.ProposeOptions) (*mls.Message, *mls.Group, error) {
		sender, err := mls.ParseExternalSender(q.ExternalSender)
		if err != nil {
			return nil, nil, err
		}
		x := st.group.Context().Extensions
		senders, err := x.ExternalSenders()
		if err != nil {
			return nil, nil, err
		}
		list := mls.ExternalSendersExtension(append(senders, sender)...)
		return st.group.ProposeContextExtensions(x.With(list.Type, list.Data), o)
	})
}

// ExternalSignerProposal implements the interface.
func (s *server) ExternalSignerProposal(_ context.Context, q *mlsclient.ExternalSignerProposalRequest) (*mlsclient.ProposalResponse, error) {
	return guard(s, func() (*mlsclient.ProposalResponse, error) {
		sg, err := get[*signer](s, q.SignerId)
		if err != nil {
			return nil, err
		}
		gi, err := parseGroupInfo(q.GroupInfo)
		if err != nil {
			return nil, err
		}
		pub, err := mls.NewPublicGroup(&mls.Config{Limits: peersLimits, AllowListedDefaults: true}, gi, orNil(q.RatchetTree))
		if err != nil {
			return nil, err
		}
		index, err := senderIndex(pub, sg)
		if err != nil {
			return nil, err
		}
		p, err := describedProposal(q.Description, pub.GroupID(), pub.Members())
		if err != nil {
			return nil, err
		}
		m, err := pub.ExternalProposal(sg.id.Key, index, p, nil)
		if err != nil {
			return nil, err
		}
		return &mlsclient.ProposalResponse{Proposal: m.Bytes()}, nil
	})
}

// senderIndex finds a signer among the external senders of a group: the harness
// leaves signer_index zero also when there are several.
func senderIndex(g *mls.PublicGroup, sg *signer) (uint32, error) {
	senders, err := g.Context().Extensions.ExternalSenders()
	if err != nil {
		return 0, err
	}
	for i, e := range senders {
		if string(e.SignatureKey) == string(sg.id.Key.Public()) {
			return uint32(i), nil
		}
	}
	return 0, fmt.Errorf("the signer is not among the %d external senders of the group", len(senders))
}
