// SPDX-License-Identifier: Apache-2.0

package relational

import "testing"

func TestRememberedHeads(t *testing.T) {
	b := NewBlocks()
	for gid := range int64(maxHeads + 500) {
		b.remember(gid, &head{head: uint64(gid)})
		if got := b.heads[gid]; got.head != uint64(gid) {
			t.Fatalf("group %d is remembered with head %d", gid, got.head)
		}
	}
	if len(b.heads) != maxHeads {
		t.Fatalf("%d heads are remembered, want %d", len(b.heads), maxHeads)
	}
	b.remember(maxHeads+499, &head{head: 7}) // one that is there takes nobody's place
	if len(b.heads) != maxHeads || b.heads[maxHeads+499].head != 7 {
		t.Errorf("%d heads after one has moved, which is remembered as %d", len(b.heads), b.heads[maxHeads+499].head)
	}
	b.Forget()
	if len(b.heads) != 0 {
		t.Errorf("%d heads after Forget", len(b.heads))
	}
	reader := new(Blocks)
	reader.remember(1, &head{})
	if len(reader.heads) != 0 {
		t.Error("a reader remembers")
	}
}
