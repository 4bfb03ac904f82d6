// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "github.com/lockstep-im/lockstep/integration/interop/mlsclient"
	"github.com/lockstep-im/lockstep/mls"
)

// dial starts a client process in miniature.
func dial(t *testing.T) pb.MLSClientClient {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	pb.RegisterMLSClientServer(srv, newServer())
	go srv.Serve(l)
	t.Cleanup(srv.Stop)
	c, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return pb.NewMLSClientClient(c)
}

// A play drives actors on two client processes, as the working group's runner
// does.
type play struct {
	t       *testing.T
	ctx     context.Context
	suite   uint32
	encrypt bool
	tree    bool // the ratchet tree travels apart
	clients [2]pb.MLSClientClient
	state   map[string]uint32
}

func (p *play) on(name string) pb.MLSClientClient { return p.clients[int(name[0])%2] }

func must[R any](t *testing.T) func(R, error) R {
	return func(r R, err error) R {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}

func (p *play) create(name string) {
	p.t.Helper()
	r := must[*pb.CreateGroupResponse](p.t)(p.on(name).CreateGroup(p.ctx, &pb.CreateGroupRequest{
		GroupId: []byte("balcony"), CipherSuite: p.suite, EncryptHandshake: p.encrypt, Identity: []byte(name)}))
	p.state[name] = r.StateId
}

func (p *play) keyPackage(name string) *pb.CreateKeyPackageResponse {
	p.t.Helper()
	return must[*pb.CreateKeyPackageResponse](p.t)(p.on(name).CreateKeyPackage(p.ctx,
		&pb.CreateKeyPackageRequest{CipherSuite: p.suite, Identity: []byte(name)}))
}

// commit lets one actor commit and the others follow; joiners maps names to their
// transactions. Those in removed do not follow.
func (p *play) commit(name string, byRef [][]byte, byValue []*pb.ProposalDescription, joiners map[string]uint32, removed ...string) {
	p.t.Helper()
	t, ctx := p.t, p.ctx
	r := must[*pb.CommitResponse](t)(p.on(name).Commit(ctx, &pb.CommitRequest{
		StateId: p.state[name], ByReference: byRef, ByValue: byValue, ForcePath: true, ExternalTree: p.tree}))
	next := map[string]uint32{}
	auth := map[string][]byte{}
	for other, st := range p.state {
		if contains(removed, other) {
			continue
		}
		if other == name {
			h := must[*pb.HandleCommitResponse](t)(p.on(name).HandlePendingCommit(ctx, &pb.HandlePendingCommitRequest{StateId: st}))
			next[other], auth[other] = h.StateId, h.EpochAuthenticator
			continue
		}
		h := must[*pb.HandleCommitResponse](t)(p.on(other).HandleCommit(ctx, &pb.HandleCommitRequest{StateId: st, Proposal: byRef, Commit: r.Commit}))
		next[other], auth[other] = h.StateId, h.EpochAuthenticator
	}
	for joiner, tx := range joiners {
		j := must[*pb.JoinGroupResponse](t)(p.on(joiner).JoinGroup(ctx, &pb.JoinGroupRequest{
			TransactionId: tx, Welcome: r.Welcome, EncryptHandshake: p.encrypt, Identity: []byte(joiner), RatchetTree: r.RatchetTree}))
		next[joiner], auth[joiner] = j.StateId, j.EpochAuthenticator
	}
	p.state = next
	agree(t, auth)
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func agree(t *testing.T, auth map[string][]byte) {
	t.Helper()
	var first []byte
	for name, a := range auth {
		if len(a) == 0 {
			t.Fatalf("%s has no epoch authenticator", name)
		}
		if first == nil {
			first = a
		}
		if !bytes.Equal(a, first) {
			t.Fatalf("%s has another epoch authenticator", name)
		}
	}
}

// talk lets everybody send to everybody.
func (p *play) talk() {
	p.t.Helper()
	for from, st := range p.state {
		text := []byte("hello from " + from)
		m := must[*pb.ProtectResponse](p.t)(p.on(from).Protect(p.ctx, &pb.ProtectRequest{StateId: st, Plaintext: text, AuthenticatedData: []byte("aad")}))
		for to, st := range p.state {
			if to == from {
				continue
			}
			u := must[*pb.UnprotectResponse](p.t)(p.on(to).Unprotect(p.ctx, &pb.UnprotectRequest{StateId: st, Ciphertext: m.Ciphertext}))
			if !bytes.Equal(u.Plaintext, text) || string(u.AuthenticatedData) != "aad" {
				p.t.Fatalf("%s reads %q of %s", to, u.Plaintext, from)
			}
		}
	}
}

func (p *play) add(by string, names ...string) {
	p.t.Helper()
	var values []*pb.ProposalDescription
	joiners := map[string]uint32{}
	for _, n := range names {
		kp := p.keyPackage(n)
		joiners[n] = kp.TransactionId
		values = append(values, &pb.ProposalDescription{ProposalType: []byte("add"), KeyPackage: kp.KeyPackage})
	}
	p.commit(by, nil, values, joiners)
}

func proposal(t *testing.T) func(*pb.ProposalResponse, error) [][]byte {
	return func(r *pb.ProposalResponse, err error) [][]byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return [][]byte{r.Proposal}
	}
}

func TestInterface(t *testing.T) {
	for _, suite := range []uint32{1, 2, 3, 4, 5, 6, 7} {
		for _, mode := range []struct{ encrypt, tree bool }{{false, false}, {true, true}} {
			if suite != 1 && mode.encrypt {
				continue
			}
			t.Run(fmt.Sprintf("suite%d/encrypt=%v", suite, mode.encrypt), func(t *testing.T) {
				p := &play{t: t, ctx: t.Context(), suite: suite, encrypt: mode.encrypt, tree: mode.tree,
					clients: [2]pb.MLSClientClient{dial(t), dial(t)}, state: map[string]uint32{}}
				perform(p)
			})
		}
	}
}

// foreign makes a key package as other stacks do: its lifetime has no end that
// anybody would see.
func foreign(t *testing.T, suite mls.CipherSuite, name string) []byte {
	t.Helper()
	key, err := mls.GenerateSignatureKey(suite, nil)
	if err != nil {
		t.Fatal(err)
	}
	kp, err := mls.NewKeyPackage(&mls.Config{Limits: mls.Limits{MaxLifetime: -1}}, suite,
		&mls.Identity{Credential: mls.BasicCredential([]byte(name)), Key: key}, &mls.KeyPackageOptions{Lifetime: 200 * 365 * 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return kp.KeyPackage.Message().Bytes()
}

// TestForeign: what other stacks write is taken by members, by joiners and by those
// who propose from outside; and a script may go back to any epoch.
func TestForeign(t *testing.T) {
	p := &play{t: t, ctx: t.Context(), suite: 1, clients: [2]pb.MLSClientClient{dial(t), dial(t)}, state: map[string]uint32{}}
	p.create("juliet")
	p.add("juliet", "romeo")
	for range 20 {
		p.commit("romeo", nil, nil, nil)
	}
	p.commit("juliet", nil, []*pb.ProposalDescription{{ProposalType: []byte("resumptionPSK"), EpochId: 1}}, nil)

	add := []*pb.ProposalDescription{{ProposalType: []byte("add"), KeyPackage: foreign(t, 1, "mercutio")}}
	p.commit("juliet", nil, add, nil)
	kp := p.keyPackage("nurse")
	p.commit("romeo", nil, []*pb.ProposalDescription{{ProposalType: []byte("add"), KeyPackage: kp.KeyPackage}}, map[string]uint32{"nurse": kp.TransactionId})

	sg := must[*pb.CreateExternalSignerResponse](t)(p.clients[0].CreateExternalSigner(p.ctx, &pb.CreateExternalSignerRequest{CipherSuite: 1, Identity: []byte("ds")}))
	refs := proposal(t)(p.on("nurse").AddExternalSigner(p.ctx, &pb.AddExternalSignerRequest{StateId: p.state["nurse"], ExternalSender: sg.ExternalSender}))
	p.commit("juliet", refs, nil, nil)
	gi := must[*pb.GroupInfoResponse](t)(p.on("juliet").GroupInfo(p.ctx, &pb.GroupInfoRequest{StateId: p.state["juliet"]}))
	refs = proposal(t)(p.clients[0].ExternalSignerProposal(p.ctx, &pb.ExternalSignerProposalRequest{SignerId: sg.SignerId, GroupInfo: gi.GroupInfo,
		Description: &pb.ProposalDescription{ProposalType: []byte("add"), KeyPackage: foreign(t, 1, "tybalt")}}))
	p.commit("romeo", refs, nil, nil)
}

// TestFree: the runner counts any error of Free as a failed script, and frees what
// actors end with, whatever became of it.
func TestFree(t *testing.T) {
	c, ctx := dial(t), t.Context()
	kp := must[*pb.CreateKeyPackageResponse](t)(c.CreateKeyPackage(ctx, &pb.CreateKeyPackageRequest{CipherSuite: 1, Identity: []byte("juliet")}))
	for _, id := range []uint32{0, kp.TransactionId, kp.TransactionId, 12345} {
		must[*pb.FreeResponse](t)(c.Free(ctx, &pb.FreeRequest{StateId: id}))
	}
}

// TestNoGREASE: for stacks that choke on it, key packages can do without.
func TestNoGREASE(t *testing.T) {
	noGREASE = true
	defer func() { noGREASE = false }()
	j, err := newJoiner(1, []byte("juliet"))
	if err != nil {
		t.Fatal(err)
	}
	kp := j.kp.KeyPackage
	if n := len(kp.Extensions) + len(kp.LeafNode.Extensions) + len(kp.LeafNode.Capabilities.Extensions) + len(kp.LeafNode.Capabilities.Proposals); n != 0 {
		t.Errorf("%d extensions and capabilities", n)
	}
}

// TestWideNumbers: what protobuf has as 32 bits and MLS as 16 is not cut.
func TestWideNumbers(t *testing.T) {
	c, ctx := dial(t), t.Context()
	if _, err := c.CreateGroup(ctx, &pb.CreateGroupRequest{CipherSuite: 1<<16 | 1, GroupId: []byte("balcony")}); err == nil {
		t.Error("cipher suite 65537 is taken for 1")
	}
	if _, err := c.CreateKeyPackage(ctx, &pb.CreateKeyPackageRequest{CipherSuite: 1<<16 | 1}); err == nil {
		t.Error("cipher suite 65537 is taken for 1")
	}
	if x := extensions([]*pb.Extension{{ExtensionType: 1<<16 | 3}}); x[0].Type == mls.ExtensionRequiredCapabilities {
		t.Error("extension 65539 is taken for 3")
	}
}

// perform goes through every method of the interface.
func perform(p *play) {
	t, ctx := p.t, p.ctx
	for _, c := range p.clients {
		if r := must[*pb.NameResponse](t)(c.Name(ctx, &pb.NameRequest{})); r.Name == "" {
			t.Fatal("no name")
		}
		if r := must[*pb.SupportedCiphersuitesResponse](t)(c.SupportedCiphersuites(ctx, &pb.SupportedCiphersuitesRequest{})); len(r.Ciphersuites) != 7 {
			t.Fatalf("cipher suites %v", r.Ciphersuites)
		}
	}
	p.create("juliet")
	p.add("juliet", "romeo", "nurse")
	p.talk()

	// By reference: add, update, remove.
	kp := p.keyPackage("mercutio")
	refs := proposal(t)(p.on("romeo").AddProposal(ctx, &pb.AddProposalRequest{StateId: p.state["romeo"], KeyPackage: kp.KeyPackage}))
	p.commit("juliet", refs, nil, map[string]uint32{"mercutio": kp.TransactionId})
	refs = proposal(t)(p.on("nurse").UpdateProposal(ctx, &pb.UpdateProposalRequest{StateId: p.state["nurse"]}))
	p.talk()
	p.commit("romeo", refs, nil, nil)
	refs = proposal(t)(p.on("nurse").RemoveProposal(ctx, &pb.RemoveProposalRequest{StateId: p.state["nurse"], RemovedId: []byte("mercutio")}))
	p.commit("juliet", refs, nil, nil, "mercutio")
	p.talk()

	// Pre-shared keys.
	for name, st := range p.state {
		must[*pb.StorePSKResponse](t)(p.on(name).StorePSK(ctx, &pb.StorePSKRequest{StateOrTransactionId: st, PskId: []byte("ring"), PskSecret: []byte("posy")}))
	}
	refs = proposal(t)(p.on("romeo").ExternalPSKProposal(ctx, &pb.ExternalPSKProposalRequest{StateId: p.state["romeo"], PskId: []byte("ring")}))
	p.commit("juliet", refs, nil, nil)
	refs = proposal(t)(p.on("romeo").ResumptionPSKProposal(ctx, &pb.ResumptionPSKProposalRequest{StateId: p.state["romeo"], EpochId: 4}))
	p.commit("juliet", refs, []*pb.ProposalDescription{{ProposalType: []byte("externalPSK"), PskId: []byte("ring")}}, nil)
	p.commit("romeo", nil, []*pb.ProposalDescription{{ProposalType: []byte("resumptionPSK"), EpochId: 4}}, nil)

	// Extensions: an empty required_capabilities and an empty list of senders.
	x := []*pb.Extension{{ExtensionType: 3, ExtensionData: []byte{0, 0, 0}}, {ExtensionType: 5, ExtensionData: []byte{0}}}
	refs = proposal(t)(p.on("juliet").GroupContextExtensionsProposal(ctx, &pb.GroupContextExtensionsProposalRequest{StateId: p.state["juliet"], Extensions: x}))
	p.commit("romeo", refs, nil, nil)
	p.commit("juliet", nil, []*pb.ProposalDescription{{ProposalType: []byte("groupContextExtensions"), Extensions: x}}, nil)

	// Exporter and authenticators.
	var exported []byte
	for name, st := range p.state {
		e := must[*pb.ExportResponse](t)(p.on(name).Export(ctx, &pb.ExportRequest{StateId: st, Label: "test", Context: []byte("x"), KeyLength: 32}))
		if exported == nil {
			exported = e.ExportedSecret
		}
		if len(e.ExportedSecret) != 32 || !bytes.Equal(e.ExportedSecret, exported) {
			t.Fatalf("%s exports another secret", name)
		}
		must[*pb.StateAuthResponse](t)(p.on(name).StateAuth(ctx, &pb.StateAuthRequest{StateId: st}))
	}

	p.externals()
	p.branch()
	p.reInit()
	must[*pb.FreeResponse](t)(p.on("juliet").Free(ctx, &pb.FreeRequest{StateId: p.state["juliet"]}))
}

// externals: joins by external commit, resync, signers and proposals from outside.
func (p *play) externals() {
	t, ctx := p.t, p.ctx
	join := func(name string, prior bool) {
		t.Helper()
		gi := must[*pb.GroupInfoResponse](t)(p.on("juliet").GroupInfo(ctx, &pb.GroupInfoRequest{StateId: p.state["juliet"], ExternalTree: p.tree}))
		r := must[*pb.ExternalJoinResponse](t)(p.on(name).ExternalJoin(ctx, &pb.ExternalJoinRequest{
			GroupInfo: gi.GroupInfo, RatchetTree: gi.RatchetTree, EncryptHandshake: p.encrypt, Identity: []byte(name), RemovePrior: prior,
			Psks: []*pb.PreSharedKey{{PskId: []byte("ring"), PskSecret: []byte("posy")}}}))
		auth := map[string][]byte{name: r.EpochAuthenticator}
		for other, st := range p.state {
			if other == name {
				continue
			}
			h := must[*pb.HandleCommitResponse](t)(p.on(other).HandleCommit(ctx, &pb.HandleCommitRequest{StateId: st, Commit: r.Commit}))
			p.state[other], auth[other] = h.StateId, h.EpochAuthenticator
		}
		p.state[name] = r.StateId
		agree(t, auth)
	}
	join("benvolio", false)
	join("benvolio", true)
	p.talk()

	sg := must[*pb.CreateExternalSignerResponse](t)(p.clients[0].CreateExternalSigner(ctx, &pb.CreateExternalSignerRequest{CipherSuite: p.suite, Identity: []byte("ds")}))
	refs := proposal(t)(p.on("juliet").AddExternalSigner(ctx, &pb.AddExternalSignerRequest{StateId: p.state["juliet"], ExternalSender: sg.ExternalSender}))
	p.commit("juliet", refs, nil, nil)
	signed := func(d *pb.ProposalDescription) []byte {
		t.Helper()
		gi := must[*pb.GroupInfoResponse](t)(p.on("juliet").GroupInfo(ctx, &pb.GroupInfoRequest{StateId: p.state["juliet"], ExternalTree: p.tree}))
		return proposal(t)(p.clients[0].ExternalSignerProposal(ctx, &pb.ExternalSignerProposalRequest{
			SignerId: sg.SignerId, GroupInfo: gi.GroupInfo, RatchetTree: gi.RatchetTree, Description: d}))[0]
	}
	p.commit("juliet", [][]byte{
		signed(&pb.ProposalDescription{ProposalType: []byte("externalPSK"), PskId: []byte("ring")}),
		signed(&pb.ProposalDescription{ProposalType: []byte("externalPSK"), PskId: []byte("ring")}),
	}, nil, nil)
	// Benvolio was not there in epoch 4, and is removed before it is referred to.
	p.commit("romeo", [][]byte{signed(&pb.ProposalDescription{ProposalType: []byte("remove"), RemovedId: []byte("benvolio")})}, nil, nil, "benvolio")
	p.commit("juliet", [][]byte{signed(&pb.ProposalDescription{ProposalType: []byte("resumptionPSK"), EpochId: 4})}, nil, nil)

	gi := must[*pb.GroupInfoResponse](t)(p.on("juliet").GroupInfo(ctx, &pb.GroupInfoRequest{StateId: p.state["juliet"], ExternalTree: p.tree}))
	nm := must[*pb.NewMemberAddProposalResponse](t)(p.on("benvolio").NewMemberAddProposal(ctx, &pb.NewMemberAddProposalRequest{GroupInfo: gi.GroupInfo, Identity: []byte("benvolio")}))
	p.commit("romeo", [][]byte{nm.Proposal}, nil, map[string]uint32{"benvolio": nm.TransactionId})
	p.talk()
}

func (p *play) branch() {
	t, ctx := p.t, p.ctx
	kp := p.keyPackage("romeo")
	b := must[*pb.CreateSubgroupResponse](t)(p.on("juliet").CreateBranch(ctx, &pb.CreateBranchRequest{
		StateId: p.state["juliet"], GroupId: []byte("orchard"), KeyPackages: [][]byte{kp.KeyPackage}, ForcePath: true, ExternalTree: p.tree}))
	h := must[*pb.HandleBranchResponse](t)(p.on("romeo").HandleBranch(ctx, &pb.HandleBranchRequest{
		StateId: p.state["romeo"], TransactionId: kp.TransactionId, Welcome: b.Welcome, RatchetTree: b.RatchetTree}))
	agree(t, map[string][]byte{"juliet": b.EpochAuthenticator, "romeo": h.EpochAuthenticator})
	// In the branch, what was stored for the old group is known as well.
	sub := &play{t: t, ctx: ctx, suite: p.suite, encrypt: p.encrypt, tree: p.tree, clients: p.clients,
		state: map[string]uint32{"juliet": b.StateId, "romeo": h.StateId}}
	sub.commit("romeo", nil, []*pb.ProposalDescription{{ProposalType: []byte("externalPSK"), PskId: []byte("ring")}}, nil)
}

func (p *play) reInit() {
	t, ctx := p.t, p.ctx
	next := p.suite%3 + 1
	refs := proposal(t)(p.on("romeo").ReInitProposal(ctx, &pb.ReInitProposalRequest{StateId: p.state["romeo"], CipherSuite: next, GroupId: []byte("balcony++")}))
	c := must[*pb.CommitResponse](t)(p.on("juliet").ReInitCommit(ctx, &pb.CommitRequest{StateId: p.state["juliet"], ByReference: refs, ForcePath: true}))
	reinits := map[string]uint32{}
	auth := map[string][]byte{}
	var kps [][]byte
	for name, st := range p.state {
		var h *pb.HandleReInitCommitResponse
		if name == "juliet" {
			h = must[*pb.HandleReInitCommitResponse](t)(p.on(name).HandlePendingReInitCommit(ctx, &pb.HandlePendingCommitRequest{StateId: st}))
		} else {
			h = must[*pb.HandleReInitCommitResponse](t)(p.on(name).HandleReInitCommit(ctx, &pb.HandleCommitRequest{StateId: st, Proposal: refs, Commit: c.Commit}))
		}
		reinits[name], auth[name] = h.ReinitId, h.EpochAuthenticator
		if name != "romeo" {
			kps = append(kps, h.KeyPackage)
		}
	}
	agree(t, auth)
	w := must[*pb.CreateSubgroupResponse](t)(p.on("romeo").ReInitWelcome(ctx, &pb.ReInitWelcomeRequest{ReinitId: reinits["romeo"], KeyPackage: kps, ForcePath: true, ExternalTree: p.tree}))
	auth = map[string][]byte{"romeo": w.EpochAuthenticator}
	state := map[string]uint32{"romeo": w.StateId}
	for name, id := range reinits {
		if name == "romeo" {
			continue
		}
		j := must[*pb.JoinGroupResponse](t)(p.on(name).HandleReInitWelcome(ctx, &pb.HandleReInitWelcomeRequest{ReinitId: id, Welcome: w.Welcome, RatchetTree: w.RatchetTree}))
		state[name], auth[name] = j.StateId, j.EpochAuthenticator
	}
	agree(t, auth)
	p.state = state
	p.talk()
	delete(p.state, "benvolio") // he came without the ring
	p.commit("juliet", nil, []*pb.ProposalDescription{{ProposalType: []byte("externalPSK"), PskId: []byte("ring")}}, nil)
}
