// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
)

// testBig adds thousands of devices in one commit, each with its welcome.
func testBig(t *testing.T, w *world) {
	if testing.Short() {
		t.Skip("SKIPPED with -short: a commit that adds 3,000 devices")
	}
	const n = 3_000
	g := w.create(newGroup(balcony))
	c := commit(g, "add everybody")
	c.Nodes, c.WelcomeInfo, c.WelcomeExpiry = nil, []byte("shared"), noon.Add(time.Hour)
	for i := range uint32(n) {
		user := fmt.Sprintf("user%05d@verona.example", i)
		c.Nodes = append(c.Nodes, store.Node{Index: 2 * (i + 1), Data: row[:200]})
		c.Joined = append(c.Joined, store.Joiner{User: user, Device: "d1", Leaf: i + 1})
		c.Roles = append(c.Roles, store.Affiliation{User: user, Value: "member"})
		c.Welcomes = append(c.Welcomes, store.NewWelcome{KPRef: []byte("kp of " + user), User: user, Device: "d1", Secrets: row[:150]})
	}
	begin := time.Now()
	w.accept(c)
	t.Logf("accepted in %v", time.Since(begin))
	w.view(func(r store.Reader) error {
		nodes, err := r.Nodes(g.Key, 1)
		if err != nil {
			return err
		}
		ms, err := r.Members(g.Key)
		if err != nil {
			return err
		}
		if len(nodes) != n+1 || len(ms) != n+1 {
			t.Errorf("%d nodes, %d members", len(nodes), len(ms))
		}
		wel, err := r.Welcome([]byte("kp of user02999@verona.example"), balcony)
		if err == nil && len(wel.Secrets) != 150 {
			t.Errorf("the last welcome has %d bytes of secrets", len(wel.Secrets))
		}
		return err
	})
	c2 := commit(w.group(balcony), "next")
	c2.Stamp = noon.Add(time.Minute)
	w.accept(c2)
	if n := w.clean(noon.Add(time.Hour)); n.Snapshots != 2 {
		t.Errorf("cleaned %+v", n)
	}
}
