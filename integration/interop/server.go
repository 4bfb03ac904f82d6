// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/lockstep-im/lockstep/integration/interop/mlsclient"
	"github.com/lockstep-im/lockstep/mls"
)

// A server is one client process of the harness. All calls are serialised: the
// harness waits for each anyway.
type server struct {
	mlsclient.UnimplementedMLSClientServer

	mu   sync.Mutex
	last uint32 // the last id given out; all kinds of objects share the numbers
	objs map[uint32]any
}

func newServer() *server { return &server{objs: make(map[uint32]any)} }

// A state is a group in one epoch, as one actor has it.
type state struct {
	actor
	group   *mls.Group
	wire    mls.WireFormat
	pending *mls.PendingCommit
	// seen maps proposal messages that the group knows, its own too, to their refs.
	seen map[string]mls.ProposalRef
}

// An actor is what stays from one epoch to the next.
type actor struct {
	cfg  *mls.Config
	psks mls.ExternalPSKs
}

// peersLimits are for playing with other stacks, some of which give their key
// packages a lifetime without end, and for scripts that refer to any epoch of the
// play.
var peersLimits = mls.Limits{MaxLifetime: -1, ResumptionPSKs: 1 << 20}

// noGREASE leaves GREASE out of all that is made.
//
// COMPAT OpenMLS: from its pull request 1900 to 2162 it refuses key packages and
// leaves that have an extension with a GREASE type, also when it is listed
// (its issue 2156).
var noGREASE bool

func newActor() actor {
	psks := mls.ExternalPSKs{}
	// A script says when to commit, and may let somebody speak before.
	return actor{cfg: &mls.Config{PSKs: psks, Limits: peersLimits, AllowListedDefaults: true, SealWithPending: true, RFCOnly: true, NoGREASE: noGREASE}, psks: psks}
}

// A joiner has a key package and waits for a Welcome.
type joiner struct {
	actor
	kp *mls.PrivateKeyPackage
}

// A reinit is a member of an ended group that waits for its successor.
type reinit struct {
	joiner
	old  *mls.Group
	wire mls.WireFormat
}

// A signer sends proposals from outside of a group.
type signer struct {
	suite mls.CipherSuite
	id    *mls.Identity
}

func (s *server) put(v any) uint32 {
	s.last++
	s.objs[s.last] = v
	return s.last
}

func get[T any](s *server, id uint32) (T, error) {
	v, ok := s.objs[id].(T)
	if !ok {
		return v, status.Errorf(codes.NotFound, "no %T with id %d", v, id)
	}
	return v, nil
}

// u16 narrows a number that protobuf makes wide. What does not fit becomes 0, which
// no registry of MLS assigns.
func u16[T ~uint16](v uint32) T {
	if v > math.MaxUint16 {
		return 0
	}
	return T(v)
}

func wireFormat(encrypt bool) mls.WireFormat {
	if encrypt {
		return mls.WireFormatPrivateMessage
	}
	return mls.WireFormatPublicMessage
}

// guard turns the handler's error into a gRPC status and serialises calls.
func guard[R any](s *server, f func() (R, error)) (R, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := f()
	if err != nil {
		var zero R
		if _, ok := status.FromError(err); ok {
			return zero, err
		}
		return zero, status.Error(codes.InvalidArgument, err.Error())
	}
	return r, nil
}

func newIdentity(cs mls.CipherSuite, name []byte) (*mls.Identity, error) {
	key, err := mls.GenerateSignatureKey(cs, nil)
	if err != nil {
		return nil, err
	}
	return &mls.Identity{Credential: mls.BasicCredential(name), Key: key}, nil
}

func newJoiner(cs mls.CipherSuite, name []byte) (*joiner, error) {
	me, err := newIdentity(cs, name)
	if err != nil {
		return nil, err
	}
	a := newActor()
	kp, err := mls.NewKeyPackage(a.cfg, cs, me, nil)
	if err != nil {
		return nil, err
	}
	return &joiner{a, kp}, nil
}

// Name implements the interface.
func (s *server) Name(context.Context, *mlsclient.NameRequest) (*mlsclient.NameResponse, error) {
	return &mlsclient.NameResponse{Name: "lockstep"}, nil
}

// SupportedCiphersuites implements the interface. The post-quantum suites have no
// agreed numbers, so that they are left out.
func (s *server) SupportedCiphersuites(context.Context, *mlsclient.SupportedCiphersuitesRequest) (*mlsclient.SupportedCiphersuitesResponse, error) {
	r := &mlsclient.SupportedCiphersuitesResponse{}
	for _, cs := range mls.AllCipherSuites() {
		if !cs.Experimental() {
			r.Ciphersuites = append(r.Ciphersuites, uint32(cs))
		}
	}
	return r, nil
}

// CreateGroup implements the interface.
func (s *server) CreateGroup(_ context.Context, q *mlsclient.CreateGroupRequest) (*mlsclient.CreateGroupResponse, error) {
	return guard(s, func() (*mlsclient.CreateGroupResponse, error) {
		cs := u16[mls.CipherSuite](q.CipherSuite)
		me, err := newIdentity(cs, q.Identity)
		if err != nil {
			return nil, err
		}
		a := newActor()
		g, err := mls.NewGroup(a.cfg, cs, q.GroupId, me, nil)
		if err != nil {
			return nil, err
		}
		return &mlsclient.CreateGroupResponse{StateId: s.put(newState(a, g, wireFormat(q.EncryptHandshake)))}, nil
	})
}

func newState(a actor, g *mls.Group, wire mls.WireFormat) *state {
	return &state{actor: a, group: g, wire: wire, seen: make(map[string]mls.ProposalRef)}
}

// CreateKeyPackage implements the interface.
func (s *server) CreateKeyPackage(_ context.Context, q *mlsclient.CreateKeyPackageRequest) (*mlsclient.CreateKeyPackageResponse, error) {
	return guard(s, func() (*mlsclient.CreateKeyPackageResponse, error) {
		j, err := newJoiner(u16[mls.CipherSuite](q.CipherSuite), q.Identity)
		if err != nil {
			return nil, err
		}
		initKey, leafKey, signatureKey := j.kp.Export()
		return &mlsclient.CreateKeyPackageResponse{
			TransactionId: s.put(j), KeyPackage: j.kp.KeyPackage.Message().Bytes(),
			InitPriv: initKey, EncryptionPriv: leafKey, SignaturePriv: signatureKey,
		}, nil
	})
}

// join joins by a Welcome and registers the group.
func (s *server) join(j *joiner, welcome, tree []byte, wire mls.WireFormat, parent *mls.Group) (uint32, *mls.Group, error) {
	m, err := mls.ParseMessage(welcome)
	if err != nil {
		return 0, nil, err
	}
	if m.Welcome == nil {
		return 0, nil, fmt.Errorf("%v where a Welcome belongs", m.WireFormat())
	}
	g, err := mls.Join(j.cfg, m.Welcome, j.kp, &mls.JoinOptions{Tree: orNil(tree), Parent: parent})
	if err != nil {
		return 0, nil, err
	}
	return s.put(newState(j.actor, g, wire)), g, nil
}

// orNil maps an absent field, which protobuf calls empty, to nil.
func orNil(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

// JoinGroup implements the interface.
func (s *server) JoinGroup(_ context.Context, q *mlsclient.JoinGroupRequest) (*mlsclient.JoinGroupResponse, error) {
	return guard(s, func() (*mlsclient.JoinGroupResponse, error) {
		j, err := get[*joiner](s, q.TransactionId)
		if err != nil {
			return nil, err
		}
		id, g, err := s.join(j, q.Welcome, q.RatchetTree, wireFormat(q.EncryptHandshake), nil)
		if err != nil {
			return nil, err
		}
		return &mlsclient.JoinGroupResponse{StateId: id, EpochAuthenticator: g.EpochAuthenticator()}, nil
	})
}

func parseGroupInfo(b []byte) (*mls.GroupInfo, error) {
	m, err := mls.ParseMessage(b)
	if err != nil {
		return nil, err
	}
	if m.GroupInfo == nil {
		return nil, fmt.Errorf("%v where a GroupInfo belongs", m.WireFormat())
	}
	return m.GroupInfo, nil
}

// ExternalJoin implements the interface.
func (s *server) ExternalJoin(_ context.Context, q *mlsclient.ExternalJoinRequest) (*mlsclient.ExternalJoinResponse, error) {
	return guard(s, func() (*mlsclient.ExternalJoinResponse, error) {
		gi, err := parseGroupInfo(q.GroupInfo)
		if err != nil {
			return nil, err
		}
		me, err := newIdentity(gi.Context.CipherSuite, q.Identity)
		if err != nil {
			return nil, err
		}
		a := newActor()
		o := &mls.ExternalJoinOptions{Tree: orNil(q.RatchetTree)}
		for _, psk := range q.Psks {
			a.psks[string(psk.PskId)] = psk.PskSecret
			o.PSKIDs = append(o.PSKIDs, mls.PreSharedKeyID{Type: mls.PSKExternal, ID: psk.PskId})
		}
		if q.RemovePrior {
			pub, err := mls.NewPublicGroup(a.cfg, gi, o.Tree)
			if err != nil {
				return nil, err
			}
			m, err := memberNamed(pub.Members(), q.Identity)
			if err != nil {
				return nil, err
			}
			o.Remove = &m.Index
		}
		p, err := mls.JoinExternal(a.cfg, gi, me, o)
		if err != nil {
			return nil, err
		}
		g, err := p.Merge()
		if err != nil {
			return nil, err
		}
		return &mlsclient.ExternalJoinResponse{
			StateId: s.put(newState(a, g, wireFormat(q.EncryptHandshake))),
			Commit:  p.Message().Bytes(), EpochAuthenticator: g.EpochAuthenticator(),
		}, nil
	})
}

func memberNamed(members func(func(mls.Member) bool), name []byte) (mls.Member, error) {
	for m := range members {
		if slices.Equal(m.Credential().Identity, name) {
			return m, nil
		}
	}
	return mls.Member{}, fmt.Errorf("no member is called %q", name)
}

// GroupInfo implements the interface.
func (s *server) GroupInfo(_ context.Context, q *mlsclient.GroupInfoRequest) (*mlsclient.GroupInfoResponse, error) {
	return guard(s, func() (*mlsclient.GroupInfoResponse, error) {
		st, err := get[*state](s, q.StateId)
		if err != nil {
			return nil, err
		}
		m, err := st.group.GroupInfo(&mls.GroupInfoOptions{ExternalPub: true, InlineTree: !q.ExternalTree})
		if err != nil {
			return nil, err
		}
		return &mlsclient.GroupInfoResponse{GroupInfo: m.Bytes(), RatchetTree: treeIf(q.ExternalTree, st.group)}, nil
	})
}

func treeIf(external bool, g *mls.Group) []byte {
	if !external {
		return nil
	}
	return g.Tree()
}

// StateAuth implements the interface.
func (s *server) StateAuth(_ context.Context, q *mlsclient.StateAuthRequest) (*mlsclient.StateAuthResponse, error) {
	return guard(s, func() (*mlsclient.StateAuthResponse, error) {
		st, err := get[*state](s, q.StateId)
		if err != nil {
			return nil, err
		}
		return &mlsclient.StateAuthResponse{StateAuthSecret: st.group.EpochAuthenticator()}, nil
	})
}

// Export implements the interface.
func (s *server) Export(_ context.Context, q *mlsclient.ExportRequest) (*mlsclient.ExportResponse, error) {
	return guard(s, func() (*mlsclient.ExportResponse, error) {
		st, err := get[*state](s, q.StateId)
		if err != nil {
			return nil, err
		}
		secret, err := st.group.Export(q.Label, q.Context, int(q.KeyLength))
		if err != nil {
			return nil, err
		}
		return &mlsclient.ExportResponse{ExportedSecret: secret}, nil
	})
}

// Protect implements the interface.
func (s *server) Protect(_ context.Context, q *mlsclient.ProtectRequest) (*mlsclient.ProtectResponse, error) {
	return guard(s, func() (*mlsclient.ProtectResponse, error) {
		st, err := get[*state](s, q.StateId)
		if err != nil {
			return nil, err
		}
		m, err := st.group.Seal(q.Plaintext, q.AuthenticatedData)
		if err != nil {
			return nil, err
		}
		return &mlsclient.ProtectResponse{Ciphertext: m.Bytes()}, nil
	})
}

// Unprotect implements the interface.
func (s *server) Unprotect(_ context.Context, q *mlsclient.UnprotectRequest) (*mlsclient.UnprotectResponse, error) {
	return guard(s, func() (*mlsclient.UnprotectResponse, error) {
		st, err := get[*state](s, q.StateId)
		if err != nil {
			return nil, err
		}
		m, err := mls.ParseMessage(q.Ciphertext)
		if err != nil {
			return nil, err
		}
		r, err := st.group.Process(m)
		if err != nil {
			return nil, err
		}
		app, ok := r.(*mls.ApplicationMessage)
		if !ok {
			return nil, fmt.Errorf("not an application message of another member: %T", r)
		}
		return &mlsclient.UnprotectResponse{AuthenticatedData: app.AAD, Plaintext: app.Data}, nil
	})
}

// StorePSK implements the interface.
func (s *server) StorePSK(_ context.Context, q *mlsclient.StorePSKRequest) (*mlsclient.StorePSKResponse, error) {
	return guard(s, func() (*mlsclient.StorePSKResponse, error) {
		switch v := s.objs[q.StateOrTransactionId].(type) {
		case *state:
			v.psks[string(q.PskId)] = q.PskSecret
		case *joiner:
			v.psks[string(q.PskId)] = q.PskSecret
		case *reinit:
			v.psks[string(q.PskId)] = q.PskSecret
		default:
			return nil, status.Errorf(codes.NotFound, "no state or transaction with id %d", q.StateOrTransactionId)
		}
		return &mlsclient.StorePSKResponse{}, nil
	})
}

// Free implements the interface. To free what is not there is no error: the harness
// would take it for a failure of the whole script.
func (s *server) Free(_ context.Context, q *mlsclient.FreeRequest) (*mlsclient.FreeResponse, error) {
	return guard(s, func() (*mlsclient.FreeResponse, error) {
		delete(s.objs, q.StateId)
		return &mlsclient.FreeResponse{}, nil
	})
}

var errNoPending = errors.New("no commit is pending in this state")
