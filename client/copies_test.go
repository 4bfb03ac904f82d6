// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/client/store"
)

// TestTwoCopiesOfOneDevice has a copy of a device's store come to life while the
// device itself is online.
func TestTwoCopiesOfOneDevice(t *testing.T) {
	w := newWorld(t)
	st := store.NewMemory("juliet@" + domain)
	juliet, romeo := w.start("juliet", w.config("juliet", st)), w.join("romeo")
	g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	must(g.Invite(ctxShort(t), "romeo@"+domain))(t)
	rg := romeo.group(g.JID())
	must(g.Send(ctxShort(t), "one"))(t)
	backup := st.Snapshot(false)
	must(g.Send(ctxShort(t), "two"))(t)
	began := rg.Epoch()
	other := w.start("juliet", w.config("juliet", backup))
	sees[*client.RollbackDetected](other)
	sees[*client.Rejoined](other)
	og := other.group(g.JID())
	sees[*client.Removed](juliet)
	must(og.Send(ctxShort(t), "the copy speaks"))(t)
	romeo.hears("the copy speaks")
	time.Sleep(2 * time.Second)
	if now := rg.Epoch(); now > began+2 {
		t.Errorf("the two take turns in the group: epoch %d became %d", began, now)
	}
}
