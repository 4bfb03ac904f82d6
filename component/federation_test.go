// SPDX-License-Identifier: Apache-2.0

package component_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
)

const other = "mls.other.example"

// TestWelcomeFromAnotherService: it is kept if the package was claimed for the
// group, and by nobody else.
func TestWelcomeFromAnotherService(t *testing.T) {
	s := start(t)
	r := newActor(t, s, romeo, "orchard")
	r.publish(3)
	r.announce()
	far := "far@" + other
	alice := newActor(t, s, "alice@other.example", "bot")
	kps := claimed(t, alice.claim(far, romeo))
	ref, err := kps[0].Ref()
	alice.must(err)
	w := &stanza.Welcome{Group: far, Epoch: 7, Seq: 40, KeyPackageRef: ref, Inviter: "alice@other.example", User: romeo, Bytes: []byte("welcome")}
	tell := func(from string, w stanza.Welcome) error { return s.request(from, domain, stanza.TypeSet, &w, nil) }
	if err := tell("mls.evil.example", *w); refusal(err).Condition != stanza.NotAuthorized {
		t.Errorf("another service announces it: %v", err)
	}
	if err := tell(other+"/x", *w); refusal(err).Condition != stanza.NotAuthorized {
		t.Errorf("a resource of the service announces it: %v", err)
	}
	unclaimed := *w
	unclaimed.Group = "elsewhere@" + other
	if err := tell(other, unclaimed); refusal(err).Condition != stanza.NotAllowed {
		t.Errorf("for a group that it was not claimed for: %v", err)
	}
	wrong := *w
	wrong.User = juliet
	if err := tell(other, wrong); refusal(err).Condition != stanza.NotAllowed {
		t.Errorf("for another user: %v", err)
	}
	if err := tell(other, *w); err != nil {
		t.Fatal(err)
	}
	r.box().take(t, "<welcome", "group='"+far+"'")
	var groups stanza.Groups
	r.must(r.get(domain, &stanza.GroupsQuery{Device: r.id}, &groups))
	if len(groups.Items) != 1 || groups.Items[0].JID != far || !groups.Items[0].Remote || !groups.Items[0].Welcome {
		t.Errorf("romeo's groups: %+v", groups.Items)
	}
	var got stanza.Welcome
	r.must(r.get(domain, &stanza.WelcomeQuery{KeyPackageRef: ref}, &got))
	if string(got.Bytes) != "welcome" || got.Group != far {
		t.Errorf("the welcome: %+v", got)
	}
	r.must(r.set(domain, &stanza.Ack{KeyPackageRef: ref}, nil))
	if err := r.get(domain, &stanza.WelcomeQuery{KeyPackageRef: ref}, nil); refusal(err).Condition != stanza.ItemNotFound {
		t.Errorf("after the ack: %v", err)
	}
	// A blocked service says nothing to its victim.
	kps = claimed(t, alice.claim(far, romeo))
	ref, err = kps[0].Ref()
	alice.must(err)
	w.KeyPackageRef = ref
	r.must(r.set(domain, &stanza.Block{JIDs: []string{other}}, nil))
	if err := tell(other, *w); refusal(err).Condition != stanza.NotAllowed {
		t.Errorf("from a blocked service: %v", err)
	}
}

// replyTo answers a request of the service.
func replyTo(t testing.TB, s *service, raw string, payload stanza.Payload) {
	t.Helper()
	var p stanza.Parser
	st, err := p.Parse([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	h := stanza.Header{Kind: stanza.IQ, Type: stanza.TypeResult, ID: string(st.ID), From: string(st.To), To: string(st.From)}
	s.write(string(h.Append(nil, payload)))
}

func refuseTo(t testing.TB, s *service, raw string, c stanza.Condition) {
	t.Helper()
	var p stanza.Parser
	st, err := p.Parse([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	s.write(string(stanza.AppendError(nil, &st, stanza.NewError(c, ""))))
}

// TestWelcomeToAnotherService: a joiner of another domain is told through its
// home service, which is found; one slow domain holds up nobody.
func TestWelcomeToAnotherService(t *testing.T) {
	s := start(t)
	j := newActor(t, s, juliet, "balcony")
	j.create(balcony)
	// Carol's home is another service: her package comes from there.
	carol, dave := newActor(t, s, "carol@other.example", "x"), newActor(t, s, "dave@slow.example", "x")
	var kps []*mls.KeyPackage
	for _, a := range []*actor{carol, dave} {
		m, err := mls.ParseMessage(a.keyPackage(false).Bytes)
		j.must(err)
		kps = append(kps, m.KeyPackage)
	}
	_, err := j.commit(balcony, mls.CommitOptions{Add: kps})
	j.must(err)
	// The service asks carol's account first, then her domain.
	refuseTo(t, s, s.box("carol@other.example").take(t, "pubsub"), stanza.ItemNotFound)
	refuseTo(t, s, s.box("carol@other.example").take(t, "disco#info"), stanza.ServiceUnavailable)
	replyTo(t, s, s.box("other.example").take(t, "disco#items"), &stanza.DiscoItems{Items: []stanza.DiscoItem{{JID: "rooms.other.example"}, {JID: other}}})
	replyTo(t, s, s.box("other.example").take(t, "disco#info"), &stanza.DiscoInfo{})
	replyTo(t, s, s.box("rooms.other.example").take(t, "disco#info"), &stanza.DiscoInfo{})
	replyTo(t, s, s.box(other).take(t, "disco#info"), &stanza.DiscoInfo{Features: []string{stanza.NSKeyPackages}})
	raw := s.box(other).take(t, "<welcome", "user='carol@other.example'")
	ref, err := kps[0].Ref()
	j.must(err)
	if !strings.Contains(raw, "group='"+balcony+"'") || !strings.Contains(raw, "from='"+domain+"'") {
		t.Errorf("the notice: %s", raw)
	}
	replyTo(t, s, raw, nil)
	// She fetches it, whatever her home did with it.
	var got stanza.Welcome
	carol.must(carol.get(balcony, &stanza.WelcomeQuery{KeyPackageRef: ref}, &got))
	m, err := mls.ParseMessage(got.Bytes)
	carol.must(err)
	if n := len(m.Welcome.Secrets); n != 1 {
		t.Errorf("carol's welcome has secrets for %d", n)
	}
	carol.g, err = mls.Join(nil, m.Welcome, carol.kps[string(ref)], &mls.JoinOptions{Tree: carol.tree(balcony, 1)})
	carol.must(err)
	sameEpoch(t, j, carol)
	// Dave's domain has not answered yet: nobody waited for it.
	s.box("dave@slow.example").take(t, "pubsub")
	if s.box(other).count("<welcome") != 0 {
		t.Error("carol's home was told twice")
	}
}

// TestWelcomeWithoutHome: an account whose domain has no service gets a message
// that any client can show.
func TestWelcomeWithoutHome(t *testing.T) {
	s := start(t)
	j := newActor(t, s, juliet, "balcony")
	j.create(balcony)
	carol := newActor(t, s, "carol@other.example", "x")
	m, err := mls.ParseMessage(carol.keyPackage(true).Bytes)
	j.must(err)
	_, err = j.commit(balcony, mls.CommitOptions{Add: []*mls.KeyPackage{m.KeyPackage}})
	j.must(err)
	refuseTo(t, s, s.box("carol@other.example").take(t, "pubsub"), stanza.ItemNotFound)
	refuseTo(t, s, s.box("carol@other.example").take(t, "disco#info"), stanza.ServiceUnavailable)
	refuseTo(t, s, s.box("other.example").take(t, "disco#items"), stanza.ServiceUnavailable)
	refuseTo(t, s, s.box("other.example").take(t, "disco#info"), stanza.ServiceUnavailable)
	raw := s.box("carol@other.example").take(t, "<message", "<welcome", "<body>")
	if !strings.Contains(raw, "<store ") || !strings.Contains(raw, "from='"+balcony+"'") || !strings.Contains(raw, juliet+" added you") {
		t.Errorf("the invitation: %s", raw)
	}
}

// TestWelcomeToDelegate: an account whose server takes requests about key packages
// for it is its own home (XEP-0355), and so may be the domain.
func TestWelcomeToDelegate(t *testing.T) {
	s := start(t)
	j := newActor(t, s, juliet, "balcony")
	j.create(balcony)
	carol, dave := newActor(t, s, "carol@other.example", "x"), newActor(t, s, "dave@whole.example", "x")
	var kps []*mls.KeyPackage
	for _, a := range []*actor{carol, dave} {
		m, err := mls.ParseMessage(a.keyPackage(false).Bytes)
		j.must(err)
		kps = append(kps, m.KeyPackage)
	}
	_, err := j.commit(balcony, mls.CommitOptions{Add: kps})
	j.must(err)
	keeps := &stanza.DiscoInfo{Features: []string{stanza.NSKeyPackages}}
	refuseTo(t, s, s.box(carol.bare).take(t, "pubsub"), stanza.ItemNotFound)
	replyTo(t, s, s.box(carol.bare).take(t, "disco#info"), keeps)
	replyTo(t, s, s.box(carol.bare).take(t, "<welcome", "user='"+carol.bare+"'", "type='set'"), nil)
	refuseTo(t, s, s.box(dave.bare).take(t, "pubsub"), stanza.ItemNotFound)
	refuseTo(t, s, s.box(dave.bare).take(t, "disco#info"), stanza.ServiceUnavailable)
	replyTo(t, s, s.box("whole.example").take(t, "disco#items"), &stanza.DiscoItems{})
	replyTo(t, s, s.box("whole.example").take(t, "disco#info"), keeps)
	replyTo(t, s, s.box("whole.example").take(t, "<welcome", "user='"+dave.bare+"'", "type='set'"), nil)
}

// TestMulticast: where the server offers it, a fan-out is one stanza; when it
// refuses, events go one by one, that which was refused included.
func TestMulticast(t *testing.T) {
	s := start(t)
	refuseTo(t, s, s.box("capulet.lit").take(t, "disco#info"), stanza.ServiceUnavailable)
	replyTo(t, s, s.box("capulet.lit").take(t, "disco#items"), &stanza.DiscoItems{Items: []stanza.DiscoItem{{JID: "multicast.capulet.lit"}}})
	replyTo(t, s, s.box("multicast.capulet.lit").take(t, "disco#info"), &stanza.DiscoInfo{Features: []string{stanza.NSAddress}})
	j, r := pair(t, s)
	for i := range 6 {
		r.full = fmt.Sprintf("%s/r%d", romeo, i)
		r.announce()
	}
	deadline := time.Now().Add(patience)
	id := ""
	for {
		_, err := j.sendText(balcony, "all")
		j.must(err)
		raw, ok := s.box("multicast.capulet.lit").tryTake(100*time.Millisecond, "<addresses")
		if ok {
			_, rest, _ := strings.Cut(raw, " id='")
			id, _, _ = strings.Cut(rest, "'")
			for i := range 6 {
				if !strings.Contains(raw, fmt.Sprintf("<address type='bcc' jid='%s/r%d'/>", romeo, i)) {
					t.Errorf("r%d is not addressed: %s", i, raw)
				}
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the multicast service is not used")
		}
	}
	s.write("<message type='error' id='" + id + "' from='multicast.capulet.lit' to='" + balcony + "'><error type='cancel'><not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>")
	for i := range 6 {
		s.box(fmt.Sprintf("%s/r%d", romeo, i)).take(t, " id='"+id+"'", "kind='application'")
	}
	_, err := j.sendText(balcony, "each")
	j.must(err)
	s.box(romeo+"/r3").take(t, "kind='application'")
}
