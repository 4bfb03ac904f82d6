// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"maps"

	"github.com/lockstep-im/lockstep/integration/interop/mlsclient"
	"github.com/lockstep-im/lockstep/mls"
)

// describedProposal makes a proposal from the harness's description.
func describedProposal(d *mlsclient.ProposalDescription, group mls.GroupID, members func(func(mls.Member) bool)) (mls.Proposal, error) {
	switch kind := string(d.GetProposalType()); kind {
	case "add":
		kp, err := parseKeyPackage(d.KeyPackage)
		return &mls.Add{KeyPackage: kp}, err
	case "remove":
		m, err := memberNamed(members, d.RemovedId)
		return &mls.Remove{Removed: m.Index}, err
	case "externalPSK":
		return &mls.PreSharedKey{ID: externalPSK(d.PskId)}, nil
	case "resumptionPSK":
		return &mls.PreSharedKey{ID: resumptionPSK(group, d.EpochId)}, nil
	case "groupContextExtensions":
		return &mls.GroupContextExtensions{Extensions: extensions(d.Extensions)}, nil
	case "reinit":
		return &mls.ReInit{
			GroupID: d.GroupId, Version: mls.MLS10, CipherSuite: u16[mls.CipherSuite](d.CipherSuite),
			Extensions: extensions(d.Extensions),
		}, nil
	default:
		return nil, fmt.Errorf("proposal type %q is unknown", kind)
	}
}

// learn processes proposals of others. Those that the group knows already, its own
// among them, are skipped.
func (st *state) learn(proposals [][]byte) error {
	for i, b := range proposals {
		if _, ok := st.seen[string(b)]; ok {
			continue
		}
		m, err := mls.ParseMessage(b)
		if err != nil {
			return fmt.Errorf("proposal %d: %w", i, err)
		}
		r, err := st.group.Process(m)
		if err != nil {
			return fmt.Errorf("proposal %d: %w", i, err)
		}
		p, ok := r.(*mls.StagedProposal)
		if !ok {
			return fmt.Errorf("proposal %d is %T", i, r)
		}
		st.group = p.Merge()
		st.seen[string(b)] = p.Ref()
	}
	return nil
}

// commit leaves the state in its epoch, with the commit pending.
func (s *server) commit(q *mlsclient.CommitRequest) (*mlsclient.CommitResponse, error) {
	return guard(s, func() (*mlsclient.CommitResponse, error) {
		st, err := get[*state](s, q.StateId)
		if err != nil {
			return nil, err
		}
		if err := st.learn(q.ByReference); err != nil {
			return nil, err
		}
		wanted := map[string]bool{}
		for _, b := range q.ByReference {
			wanted[string(st.seen[string(b)])] = true
		}
		o := &mls.CommitOptions{
			Wire: st.wire, ForcePath: q.ForcePath, InlineTree: !q.ExternalTree,
			ExcludeProposals: func(p mls.ProposalInfo) bool { return !wanted[string(p.Ref)] },
		}
		for _, d := range q.ByValue {
			p, err := describedProposal(d, st.group.GroupID(), st.group.Members())
			if err != nil {
				return nil, err
			}
			o.ByValue = append(o.ByValue, p)
		}
		p, err := st.group.Commit(o)
		if err != nil {
			return nil, err
		}
		next, err := p.Merge()
		if err != nil {
			return nil, err
		}
		st.pending = p
		r := &mlsclient.CommitResponse{Commit: p.Message().Bytes(), RatchetTree: treeIf(q.ExternalTree, next)}
		if w := p.Welcome(); w != nil {
			r.Welcome = w.Bytes()
		}
		return r, nil
	})
}

// Commit implements the interface.
func (s *server) Commit(_ context.Context, q *mlsclient.CommitRequest) (*mlsclient.CommitResponse, error) {
	return s.commit(q)
}

// ReInitCommit implements the interface.
func (s *server) ReInitCommit(_ context.Context, q *mlsclient.CommitRequest) (*mlsclient.CommitResponse, error) {
	return s.commit(q)
}

// received applies another member's commit.
func (s *server) received(q *mlsclient.HandleCommitRequest) (*state, *mls.Group, error) {
	st, err := get[*state](s, q.StateId)
	if err != nil {
		return nil, nil, err
	}
	if err := st.learn(q.Proposal); err != nil {
		return nil, nil, err
	}
	m, err := mls.ParseMessage(q.Commit)
	if err != nil {
		return nil, nil, err
	}
	r, err := st.group.Process(m)
	if err != nil {
		return nil, nil, err
	}
	c, ok := r.(*mls.StagedCommit)
	if !ok {
		return nil, nil, fmt.Errorf("%T where a commit of another member belongs", r)
	}
	g, err := c.Merge()
	return st, g, err
}

// own applies the pending commit.
func (s *server) own(id uint32) (*state, *mls.Group, error) {
	st, err := get[*state](s, id)
	if err != nil {
		return nil, nil, err
	}
	if st.pending == nil {
		return nil, nil, errNoPending
	}
	g, err := st.pending.Merge()
	return st, g, err
}

func (s *server) advanced(st *state, g *mls.Group) *mlsclient.HandleCommitResponse {
	next := newState(st.actor, g, st.wire)
	maps.Copy(next.seen, st.seen)
	return &mlsclient.HandleCommitResponse{StateId: s.put(next), EpochAuthenticator: g.EpochAuthenticator()}
}

// HandleCommit implements the interface.
func (s *server) HandleCommit(_ context.Context, q *mlsclient.HandleCommitRequest) (*mlsclient.HandleCommitResponse, error) {
	return guard(s, func() (*mlsclient.HandleCommitResponse, error) {
		st, g, err := s.received(q)
		if err != nil {
			return nil, err
		}
		return s.advanced(st, g), nil
	})
}

// HandlePendingCommit implements the interface.
func (s *server) HandlePendingCommit(_ context.Context, q *mlsclient.HandlePendingCommitRequest) (*mlsclient.HandleCommitResponse, error) {
	return guard(s, func() (*mlsclient.HandleCommitResponse, error) {
		st, g, err := s.own(q.StateId)
		if err != nil {
			return nil, err
		}
		return s.advanced(st, g), nil
	})
}

// reinited makes the key package with which this member joins the successor.
func (s *server) reinited(st *state, g *mls.Group) (*mlsclient.HandleReInitCommitResponse, error) {
	next := g.ReInit()
	if next == nil {
		return nil, fmt.Errorf("the commit has no ReInit proposal")
	}
	j, err := newJoiner(next.CipherSuite, g.Identity().Credential.Identity)
	if err != nil {
		return nil, err
	}
	maps.Copy(j.psks, st.psks) // the member is the same, also to the harness
	return &mlsclient.HandleReInitCommitResponse{
		ReinitId:   s.put(&reinit{*j, g, st.wire}),
		KeyPackage: j.kp.KeyPackage.Message().Bytes(), EpochAuthenticator: g.EpochAuthenticator(),
	}, nil
}

// HandlePendingReInitCommit implements the interface.
func (s *server) HandlePendingReInitCommit(_ context.Context, q *mlsclient.HandlePendingCommitRequest) (*mlsclient.HandleReInitCommitResponse, error) {
	return guard(s, func() (*mlsclient.HandleReInitCommitResponse, error) {
		st, g, err := s.own(q.StateId)
		if err != nil {
			return nil, err
		}
		return s.reinited(st, g)
	})
}

// HandleReInitCommit implements the interface.
func (s *server) HandleReInitCommit(_ context.Context, q *mlsclient.HandleCommitRequest) (*mlsclient.HandleReInitCommitResponse, error) {
	return guard(s, func() (*mlsclient.HandleReInitCommitResponse, error) {
		st, g, err := s.received(q)
		if err != nil {
			return nil, err
		}
		return s.reinited(st, g)
	})
}

// subgroup registers a group that was made from another, and its Welcome.
func (s *server) subgroup(a actor, wire mls.WireFormat, p *mls.PendingCommit, externalTree bool) (*mlsclient.CreateSubgroupResponse, error) {
	g, err := p.Merge()
	if err != nil {
		return nil, err
	}
	r := &mlsclient.CreateSubgroupResponse{
		StateId: s.put(newState(a, g, wire)), RatchetTree: treeIf(externalTree, g),
		EpochAuthenticator: g.EpochAuthenticator(),
	}
	if w := p.Welcome(); w != nil {
		r.Welcome = w.Bytes()
	}
	return r, nil
}

// ReInitWelcome implements the interface.
func (s *server) ReInitWelcome(_ context.Context, q *mlsclient.ReInitWelcomeRequest) (*mlsclient.CreateSubgroupResponse, error) {
	return guard(s, func() (*mlsclient.CreateSubgroupResponse, error) {
		ri, err := get[*reinit](s, q.ReinitId)
		if err != nil {
			return nil, err
		}
		kps, err := parseKeyPackages(q.KeyPackage)
		if err != nil {
			return nil, err
		}
		p, err := ri.old.Successor(kps, &mls.DeriveOptions{
			Identity: ri.kp.Identity(), Config: ri.cfg, ForcePath: q.ForcePath, InlineTree: !q.ExternalTree,
		})
		if err != nil {
			return nil, err
		}
		return s.subgroup(ri.actor, ri.wire, p, q.ExternalTree)
	})
}

// HandleReInitWelcome implements the interface.
func (s *server) HandleReInitWelcome(_ context.Context, q *mlsclient.HandleReInitWelcomeRequest) (*mlsclient.JoinGroupResponse, error) {
	return guard(s, func() (*mlsclient.JoinGroupResponse, error) {
		ri, err := get[*reinit](s, q.ReinitId)
		if err != nil {
			return nil, err
		}
		id, g, err := s.join(&ri.joiner, q.Welcome, q.RatchetTree, ri.wire, ri.old)
		if err != nil {
			return nil, err
		}
		return &mlsclient.JoinGroupResponse{StateId: id, EpochAuthenticator: g.EpochAuthenticator()}, nil
	})
}

// CreateBranch implements the interface.
func (s *server) CreateBranch(_ context.Context, q *mlsclient.CreateBranchRequest) (*mlsclient.CreateSubgroupResponse, error) {
	return guard(s, func() (*mlsclient.CreateSubgroupResponse, error) {
		st, err := get[*state](s, q.StateId)
		if err != nil {
			return nil, err
		}
		kps, err := parseKeyPackages(q.KeyPackages)
		if err != nil {
			return nil, err
		}
		p, err := st.group.Branch(q.GroupId, kps, &mls.DeriveOptions{
			Extensions: extensions(q.Extensions), ForcePath: q.ForcePath, InlineTree: !q.ExternalTree,
		})
		if err != nil {
			return nil, err
		}
		return s.subgroup(st.actor, st.wire, p, q.ExternalTree)
	})
}

// HandleBranch implements the interface.
func (s *server) HandleBranch(_ context.Context, q *mlsclient.HandleBranchRequest) (*mlsclient.HandleBranchResponse, error) {
	return guard(s, func() (*mlsclient.HandleBranchResponse, error) {
		st, err := get[*state](s, q.StateId)
		if err != nil {
			return nil, err
		}
		j, err := get[*joiner](s, q.TransactionId)
		if err != nil {
			return nil, err
		}
		maps.Copy(j.psks, st.psks)
		id, g, err := s.join(j, q.Welcome, q.RatchetTree, st.wire, st.group)
		if err != nil {
			return nil, err
		}
		return &mlsclient.HandleBranchResponse{StateId: id, EpochAuthenticator: g.EpochAuthenticator()}, nil
	})
}
