// SPDX-License-Identifier: Apache-2.0

package component_test

import (
	"slices"
	"testing"

	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
)

// TestChat is the path that everything else hangs on: publish, create, add,
// join, talk, catch up.
func TestChat(t *testing.T) {
	s := start(t)
	j, r := newActor(t, s, juliet, "balcony"), newActor(t, s, romeo, "orchard")
	j.announce()
	r.announce()
	r.publish(5)
	j.create(balcony)
	acc := j.add(balcony, romeo)
	if acc.Seq != 1 || acc.Epoch != 1 || acc.Chain.IsZero() || acc.Ref.IsZero() {
		t.Fatalf("accepted: %+v", acc)
	}
	r.box().take(t, "<welcome", "group='"+balcony+"'", "inviter='"+juliet+"'")
	r.join(balcony)
	sameEpoch(t, j, r)

	first, err := j.sendText(balcony, "wherefore art thou romeo")
	j.must(err)
	d, b := r.event(balcony, "application")
	if d.Seq != 2 || d.Chain != first.Chain || d.Epoch != 1 {
		t.Errorf("delivery %+v, accepted %+v", d, first)
	}
	if text, _ := r.process(b); text != "wherefore art thou romeo" {
		t.Errorf("romeo reads %q", text)
	}
	if n := j.box().count("kind='application'"); n != 0 {
		t.Errorf("juliet got her own message %d times", n)
	}
	r.seq = 2
	_, err = r.sendText(balcony, "call me but love")
	r.must(err)
	j.seq = 2
	if got := j.catchUp(balcony); !slices.Equal(got, []string{"call me but love"}) {
		t.Errorf("juliet's log: %q", got)
	}

	var groups stanza.Groups
	r.must(r.get(domain, &stanza.GroupsQuery{Device: r.id}, &groups))
	if len(groups.Items) != 1 || groups.Items[0].JID != balcony || !groups.Items[0].InTree || groups.Items[0].Head != 3 || groups.Items[0].Welcome {
		t.Errorf("romeo's groups: %+v", groups.Items)
	}
	// A new epoch, seen live and in the log alike.
	_, err = r.commit(balcony, mls.CommitOptions{ForcePath: true})
	r.must(err)
	_, b = j.event(balcony, "commit")
	j.process(b)
	sameEpoch(t, j, r)
}
