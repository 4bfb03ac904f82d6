// SPDX-License-Identifier: Apache-2.0

package component_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/component"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// TestHostileStanzas: no stanza ends the link, each request has exactly one
// answer, and the service works on as if nothing had been (xep/mls-delivery.xml#hostile).
func TestHostileStanzas(t *testing.T) {
	s := start(t)
	j, r := pair(t, s)
	deep := strings.Repeat("<a>", 200) + strings.Repeat("</a>", 200)
	big := strings.Repeat("x", 600_000)
	wide := strings.Repeat("<a/>", 50_000)
	const from = mallory + "/x"
	for i, tc := range []struct {
		name string
		xml  string // %s is replaced by the id
		want stanza.Condition
	}{
		{"text before the payload", "<iq type='get' id='%s' from='" + from + "' to='" + domain + "'>text<query xmlns='http://jabber.org/protocol/disco#info'/></iq>", stanza.BadRequest},
		{"no payload", "<iq type='get' id='%s' from='" + from + "' to='" + domain + "'/>", stanza.BadRequest},
		{"two payloads", "<iq type='get' id='%s' from='" + from + "' to='" + domain + "'><ping xmlns='urn:xmpp:ping'/><ping xmlns='urn:xmpp:ping'/></iq>", stanza.BadRequest},
		{"an unknown type", "<iq type='bogus' id='%s' from='" + from + "' to='" + domain + "'><ping xmlns='urn:xmpp:ping'/></iq>", stanza.BadRequest},
		{"no type", "<iq id='%s' from='" + from + "' to='" + domain + "'><ping xmlns='urn:xmpp:ping'/></iq>", stanza.BadRequest},
		{"an unknown namespace", "<iq type='get' id='%s' from='" + from + "' to='" + domain + "'><x xmlns='urn:example:x'/></iq>", stanza.ServiceUnavailable},
		{"an unknown verb of ours", "<iq type='set' id='%s' from='" + from + "' to='" + balcony + "'><revolt xmlns='urn:xmpp:mls:ds:0'/></iq>", stanza.ServiceUnavailable},
		{"a snowman", "<iq type='get' id='%s' from='☃@example.com' to='" + domain + "'><ping xmlns='urn:xmpp:ping'/></iq>", stanza.JIDMalformed},
		{"a heart", "<iq type='get' id='%s' from='i♥@example.com/x' to='" + domain + "'><ping xmlns='urn:xmpp:ping'/></iq>", stanza.JIDMalformed},
		{"an underscore", "<iq type='get' id='%s' from='a@ex_ample.com' to='" + domain + "'><ping xmlns='urn:xmpp:ping'/></iq>", stanza.JIDMalformed},
		{"200 levels", "<iq type='get' id='%s' from='" + from + "' to='" + domain + "'>" + deep + "</iq>", stanza.PolicyViolation},
		{"50,000 elements", "<iq type='get' id='%s' from='" + from + "' to='" + domain + "'><x xmlns='urn:x'>" + wide + "</x></iq>", stanza.PolicyViolation},
		{"600 kB", "<iq type='set' id='%s' from='" + from + "' to='" + domain + "'><x xmlns='urn:x'>" + big + "</x></iq>", stanza.NotAcceptable},
		{"an undeclared prefix", "<iq type='set' id='%s' from='" + from + "' to='" + domain + "'><x:y/></iq>", stanza.BadRequest},
		{"a comment", "<iq type='set' id='%s' from='" + from + "' to='" + domain + "'><!-- x --><ping xmlns='urn:xmpp:ping'/></iq>", stanza.BadRequest},
		{"mismatched tags", "<iq type='set' id='%s' from='" + from + "' to='" + domain + "'><a></b></iq>", stanza.BadRequest},
		{"a control character", "<iq type='set' id='%s' from='" + from + "' to='" + domain + "'><a>\x01</a></iq>", stanza.BadRequest},
		{"a commit that is none", "<iq type='set' id='%s' from='" + from + "' to='" + balcony + "'><commit xmlns='urn:xmpp:mls:ds:0' epoch='-1' ref='!'/></iq>", stanza.BadRequest},
		{"a negative number", "<iq type='get' id='%s' from='" + from + "' to='" + balcony + "'><tree xmlns='urn:xmpp:mls:ds:0' epoch='99999999999999999999' offset='-5'/></iq>", stanza.BadRequest},
		{"an unknown group", "<iq type='get' id='%s' from='" + from + "' to='nowhere@" + domain + "'><group-info xmlns='urn:xmpp:mls:ds:0'/></iq>", stanza.ItemNotFound},
		{"a commit to an unknown group", "<iq type='set' id='%s' from='" + from + "' to='nowhere@" + domain + "'><destroy xmlns='urn:xmpp:mls:ds:0'/></iq>", stanza.ItemNotFound},
		{"a snowman's group", "<iq type='get' id='%s' from='" + from + "' to='☃@" + domain + "'><ping xmlns='urn:xmpp:ping'/></iq>", stanza.JIDMalformed},
		{"a request to a resource", "<iq type='get' id='%s' from='" + from + "' to='" + balcony + "/nick'><ping xmlns='urn:xmpp:ping'/></iq>", stanza.ServiceUnavailable},
	} {
		id := fmt.Sprintf("h%d", i)
		s.write(fmt.Sprintf(tc.xml, id))
		who := "from='"
		at := strings.Index(tc.xml, who) + len(who)
		sender := tc.xml[at : at+strings.Index(tc.xml[at:], "'")]
		raw := s.box(sender).take(t, "id='"+id+"'")
		if !strings.Contains(raw, "type='error'") || !strings.Contains(raw, "<"+string(tc.want)+" ") {
			t.Errorf("%s: answered %s, want %s", tc.name, raw, tc.want)
		}
		if strings.Contains(raw, "xxxx") {
			t.Errorf("%s: the answer echoes the payload", tc.name)
		}
	}
	// What must not be answered.
	for _, xml := range []string{
		"<iq type='result' id='somebody-elses' from='" + from + "' to='" + domain + "'/>",
		"<iq type='error' id='e' from='" + from + "' to='" + domain + "'><error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>",
		"<presence type='error' from='" + from + "' to='" + domain + "'/>",
		"<presence type='probe' from='" + from + "' to='" + domain + "'/>",
		"<presence type='subscribe' from='" + from + "' to='" + domain + "'/>",
		"<message type='error' from='" + from + "' to='" + balcony + "'><error/></message>",
		"<message type='headline' from='" + from + "' to='" + balcony + "'><body>x</body></message>",
		"<iq type='get' id='nofrom' to='" + domain + "'><ping xmlns='urn:xmpp:ping'/></iq>",
		"<iq type='get' id='elsewhere' from='" + from + "' to='other.example'><ping xmlns='urn:xmpp:ping'/></iq>",
		"<bogus xmlns='urn:x'/>",
		"<message from='☃@example.com' to='" + domain + "'><body>x</body></message>",
	} {
		s.write(xml)
	}
	if _, err := j.sendText(balcony, "still here"); err != nil {
		t.Fatal(err)
	}
	r.event(balcony, "application")
	time.Sleep(50 * time.Millisecond)
	if n := s.box(from).count(); n != 0 {
		t.Errorf("%d stanzas went to mallory unasked: %q", n, s.box(from).list)
	}
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	if s.conns != 1 {
		t.Errorf("the link was made %d times", s.conns)
	}
	if n := s.Panics(); n != 0 {
		t.Errorf("%v panics", n)
	}
}

// TestLegacyClients get an answer that they can show.
func TestLegacyClients(t *testing.T) {
	s := start(t)
	s.write("<presence from='" + mallory + "/x' to='" + balcony + "/mallory'><x xmlns='http://jabber.org/protocol/muc'/></presence>")
	s.box(mallory+"/x").take(t, "<presence", "type='error'", "feature-not-implemented")
	s.write("<message type='groupchat' id='m1' from='" + mallory + "/x' to='" + balcony + "'><body>hello?</body></message>")
	s.box(mallory+"/x").take(t, "<message", "id='m1'", "type='error'", "feature-not-implemented")
}

// TestAnswersFromOthers: an answer counts only from the one that was asked.
func TestAnswersFromOthers(t *testing.T) {
	s := start(t)
	// The service looks for a multicast service at its parent domain.
	raw := s.box("capulet.lit").take(t, "<iq", "disco#info")
	var p stanza.Parser
	st, err := p.Parse([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	info := &stanza.DiscoInfo{Features: []string{stanza.NSAddress}}
	h := stanza.Header{Kind: stanza.IQ, Type: stanza.TypeResult, ID: string(st.ID), From: mallory + "/x", To: domain}
	s.write(string(h.Append(nil, info))) // mallory answers first
	h.From = "capulet.lit"
	s.write(string(h.Append(nil, &stanza.DiscoInfo{})))
	s.box("capulet.lit").take(t, "<iq", "disco#items") // so the first answer did not count
}

// TestNobodyReadsOthers: a stranger, and a member of another group, gets no
// Welcome, log, tree, key package stock, upload or member list that is not its
// own.
func TestNobodyReadsOthers(t *testing.T) {
	s := start(t)
	j, r := newActor(t, s, juliet, "balcony"), newActor(t, s, romeo, "orchard")
	r.publish(3)
	j.create(balcony)
	j.add(balcony, romeo)
	var list stanza.Welcomes
	r.must(r.get(domain, &stanza.WelcomesQuery{Device: r.id}, &list))
	if len(list.Items) != 1 {
		t.Fatalf("romeo's welcomes: %+v", list.Items)
	}
	ref := list.Items[0].KeyPackageRef
	for _, who := range []string{mallory, nurse, juliet} {
		m := newActor(t, s, who, "x")
		for _, to := range []string{domain, balcony} {
			if err := m.get(to, &stanza.WelcomeQuery{KeyPackageRef: ref}, nil); refusal(err).Condition != stanza.ItemNotFound {
				t.Errorf("%s asks %s for romeo's welcome: %v", who, to, err)
			}
		}
		var theirs stanza.Welcomes
		m.must(m.get(domain, &stanza.WelcomesQuery{Device: r.id}, &theirs))
		if len(theirs.Items) != 0 {
			t.Errorf("%s lists romeo's welcomes", who)
		}
		m.must(m.set(domain, &stanza.Ack{KeyPackageRef: ref}, nil)) // changes nothing
		var count stanza.Count
		m.must(m.get(domain, &stanza.CountQuery{}, &count))
		if len(count.Devices) != 0 {
			t.Errorf("%s sees devices %+v", who, count.Devices)
		}
		m.must(m.set(domain, &stanza.RetractKeyPackages{Device: r.id}, nil))
		if who == juliet {
			continue // she is a member
		}
		for name, err := range map[string]error{
			"the log":         m.get(balcony, &stanza.LogQuery{Device: r.id}, nil),
			"an entry":        m.get(balcony, &stanza.EntryQuery{Seq: 1, Device: r.id}, nil),
			"the tree":        m.get(balcony, &stanza.TreeQuery{Epoch: 1}, nil),
			"the GroupInfo":   m.get(balcony, &stanza.GroupInfoQuery{}, nil),
			"the members":     m.get(balcony, &stanza.AffiliationsQuery{}, nil),
			"the devices":     m.get(balcony, &stanza.DevicesQuery{}, nil),
			"the config":      m.get(balcony, &stanza.ConfigQuery{}, nil),
			"an ack":          m.set(balcony, &stanza.Ack{Device: r.id, Seq: 1}, nil),
			"a leave":         m.set(balcony, &stanza.Leave{}, nil),
			"a report":        m.set(balcony, &stanza.Report{Kind: stanza.ReportAbuse, Seq: 1}, nil),
			"a destruction":   m.set(balcony, &stanza.Destroy{}, nil),
			"a configuration": m.set(balcony, &stanza.Config{Form: *stanza.NewForm(stanza.FormSubmit, stanza.FormConfig)}, nil),
		} {
			if refusal(err).Condition != stanza.Forbidden {
				t.Errorf("%s gets %s: %v", who, name, err)
			}
		}
		if err := m.set(domain, &stanza.Command{Node: stanza.NodeListGroups}, nil); refusal(err).Condition != stanza.Forbidden {
			t.Errorf("%s runs an operator's command: %v", who, err)
		}
	}
	// After all that romeo joins.
	r.join(balcony)
	sameEpoch(t, j, r)
	var count stanza.Count
	r.must(r.get(domain, &stanza.CountQuery{}, &count))
	if len(count.Devices) != 1 || count.Devices[0].Available != 1 {
		t.Errorf("romeo's stock: %+v", count.Devices)
	}
}

// TestNobodySpeaksForOthers: publishing and committing take the account that
// the credential names.
func TestNobodySpeaksForOthers(t *testing.T) {
	s := start(t)
	m := newActor(t, s, mallory, "x")
	m.me.Credential = mls.BasicCredential([]byte(juliet))
	p := &stanza.PublishKeyPackages{Device: m.id, KeyPackages: []stanza.KeyPackage{m.keyPackage(false)}}
	if err := m.set(domain, p, nil); refusal(err).Condition != stanza.NotAuthorized {
		t.Errorf("a package in juliet's name: %v", err)
	}
	for _, name := range []string{"Juliet@capulet.lit", "juliet@capulet.lit/balcony", "capulet.lit", "", "juliet@capulet.lit\x00"} {
		m.me.Credential = mls.BasicCredential([]byte(name))
		p := &stanza.PublishKeyPackages{Device: m.id, KeyPackages: []stanza.KeyPackage{m.keyPackage(false)}}
		if err := m.set(domain, p, nil); err == nil {
			t.Errorf("a package of %q is kept", name)
		}
	}
	// A group that names another creator, or another JID.
	m.me.Credential = mls.BasicCredential([]byte(mallory))
	n := newActor(t, s, nurse, "kitchen")
	if err := n.createAs("kitchen@"+domain, m.newGroup("kitchen@"+domain, groupdata.Public, groupdata.DefaultPolicy())); err == nil {
		t.Error("the nurse created a group of mallory's")
	}
	if err := n.createAs("kitchen@"+domain, n.newGroup(balcony, groupdata.Public, groupdata.DefaultPolicy())); refusal(err).Condition != stanza.BadRequest {
		t.Errorf("a group bound to another JID: %v", err)
	}
}

// TestFlood: an account that floods is told to wait, its neighbours are served,
// and memory stays bounded.
func TestFlood(t *testing.T) {
	s := start(t, func(c *component.Config) {
		c.Limits.Requests = component.Rate{PerSecond: 50, Burst: 100}
		c.Limits.Domain = component.Rate{PerSecond: 1e6, Burst: 1e6}
	})
	j, _ := pair(t, s)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const n = 3000
	go func() {
		for i := range n {
			s.write(fmt.Sprintf("<iq type='get' id='f%d' from='%s/x' to='%s'><disco xmlns='urn:x'/><x xmlns='urn:y'>%s</x></iq>", i, mallory, domain, strings.Repeat("y", 1000)))
			s.write(fmt.Sprintf("<iq type='get' id='g%d' from='%s/x' to='%s'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>", i, mallory, domain))
		}
	}()
	for range 20 {
		if _, err := j.sendText(balcony, "through the noise"); err != nil {
			t.Fatal(err)
		}
	}
	deadline := time.Now().Add(patience)
	for s.box(mallory+"/x").count("id='g") < n && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
	limited, served := s.box(mallory+"/x").count("id='g", "<retry"), s.box(mallory+"/x").count("id='g", "type='result'")
	if limited+served != n {
		t.Errorf("%d of %d requests were answered", limited+served, n)
	}
	if limited < n/2 || served < 50 {
		t.Errorf("%d served, %d told to wait", served, limited)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 64<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
}

// TestManyUnknownGroups: asking for groups that are not there leaves nothing
// behind.
func TestManyUnknownGroups(t *testing.T) {
	s := start(t, func(c *component.Config) { c.Limits.GroupIdle = 50 * time.Millisecond })
	m := newActor(t, s, mallory, "x")
	for i := range 300 {
		if err := m.set(fmt.Sprintf("g%d@%s", i, domain), &stanza.Destroy{}, nil); refusal(err).Condition != stanza.ItemNotFound {
			t.Fatal(err)
		}
	}
	deadline := time.Now().Add(patience)
	for s.Stats().GroupsLoaded > 0 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if n := s.Stats().GroupsLoaded; n != 0 {
		t.Errorf("%d groups are loaded", n)
	}
}

// TestUploadQuotaIsPerAccount: nobody fills the store with uploads.
func TestUploadQuotaIsPerAccount(t *testing.T) {
	s := start(t, func(c *component.Config) { c.Limits.StageQuota, c.Limits.MaxArtifact = 100_000, 100_000 })
	m := newActor(t, s, "mallory@capulet.lit", "x")
	stageAt := func(a *actor, to, id string, total uint64) error {
		return a.set(to, &stanza.Stage{ID: id, Part: stanza.StageWelcome, Total: total, SHA256: stanza.MessageRef([]byte(id)), Bytes: []byte("x")}, nil)
	}
	stage := func(a *actor, id string, total uint64) error { return stageAt(a, domain, id, total) }
	m.must(stage(m, "a", 60_000))
	if err := stage(m, "b", 60_000); refusal(err).Condition != stanza.ResourceConstraint {
		t.Errorf("beyond the quota: %v", err)
	}
	if err := stage(m, "c", 1<<40); refusal(err).Condition != stanza.NotAcceptable {
		t.Errorf("beyond everything: %v", err)
	}
	n := newActor(t, s, nurse, "x")
	n.must(stage(n, "a", 60_000))
	// There are many accounts elsewhere: what they cannot use they cannot upload.
	far := newActor(t, s, mallory, "x")
	if err := stage(far, "a", 10); refusal(err).Condition != stanza.NotAllowed {
		t.Errorf("an account that may not create groups uploads: %v", err)
	}
	_, r := pair(t, s)
	if err := stageAt(far, balcony, "a", 10); refusal(err).Condition != stanza.Forbidden {
		t.Errorf("a stranger uploads to a group: %v", err)
	}
	if err := stageAt(far, "nowhere@"+domain, "a", 10); refusal(err).Condition != stanza.ItemNotFound {
		t.Errorf("a stranger uploads to a group that is none: %v", err)
	}
	r.must(stageAt(r, balcony, "a", 10))
}

// TestGroupQuota bounds what one account owns.
func TestGroupQuota(t *testing.T) {
	s := start(t, func(c *component.Config) { c.Limits.MaxGroups = 2 })
	j := newActor(t, s, juliet, "x")
	for i := range 3 {
		jid := fmt.Sprintf("g%d@%s", i, domain)
		err := j.createAs(jid, j.newGroup(jid, groupdata.Public, groupdata.DefaultPolicy()))
		if i < 2 {
			j.must(err)
		} else if refusal(err).Condition != stanza.ResourceConstraint {
			t.Errorf("the third group: %v", err)
		}
	}
	r := newActor(t, s, romeo, "x") // of another domain
	if err := r.createAs("r@"+domain, r.newGroup("r@"+domain, groupdata.Public, groupdata.DefaultPolicy())); refusal(err).Condition != stanza.NotAllowed {
		t.Errorf("an account of another domain creates: %v", err)
	}
}

// TestSlowServerLosesNothing: a server that reads nothing costs events, which
// the log repairs, and never memory without end.
func TestSlowServer(t *testing.T) {
	s := start(t, func(c *component.Config) { c.Limits.EventQueue, c.Limits.AnswerQueue = 64<<10, 1<<20 })
	j, r := pair(t, s)
	var hold atomic.Bool
	gate := make(chan struct{})
	s.server.mu.Lock()
	s.sink = func([]byte) {
		if hold.Load() {
			<-gate
		}
	}
	s.server.mu.Unlock()
	hold.Store(true)
	const n = 200 // less than may wait for a group: none is told to try again
	text := strings.Repeat("x", 2000)
	for range n {
		m, err := j.g.Seal([]byte(text), nil)
		j.must(err)
		p := &stanza.Send{Epoch: 1, Ref: stanza.MessageRef(m.Bytes()), Message: stanza.MLS{Bytes: m.Bytes()}}
		h := stanza.Header{Kind: stanza.IQ, Type: stanza.TypeSet, ID: fmt.Sprintf("slow%d", nextID()), From: j.full, To: balcony}
		s.write(string(h.Append(nil, p)))
	}
	time.Sleep(100 * time.Millisecond)
	hold.Store(false)
	close(gate)
	r.seq = 1
	deadline := time.Now().Add(patience)
	got := 0
	for got < n && time.Now().Before(deadline) {
		got += len(r.catchUp(balcony))
	}
	if got != n {
		t.Errorf("romeo has %d of %d messages", got, n)
	}
}
