// SPDX-License-Identifier: Apache-2.0

package relational

import (
	"bytes"
	"testing"

	"github.com/lockstep-im/lockstep/component/store"
)

func unpacked(b []byte) (nodes []store.Node, err error) {
	err = unpackNodes(b, func(i uint32, data []byte) { nodes = append(nodes, store.Node{Index: i, Data: data}) })
	return nodes, err
}

func TestPack(t *testing.T) {
	want := []store.Node{{Index: 0, Data: []byte("a")}, {Index: 1<<32 - 1}, {Index: 7, Data: []byte{}}, {Index: 300, Data: make([]byte, 300)}}
	b := packNodes(want)
	got, err := unpacked(b)
	if err != nil || len(got) != len(want) {
		t.Fatalf("%v, %v", got, err)
	}
	for i := range want {
		if got[i].Index != want[i].Index || !bytes.Equal(got[i].Data, want[i].Data) || (got[i].Data == nil) != (want[i].Data == nil) {
			t.Errorf("node %d: %v, want %v", i, got[i], want[i])
		}
	}
	// A value that was cut is found out, unless the cut is between nodes.
	whole := 0
	for n := range b {
		if _, err := unpacked(b[:n]); err == nil {
			whole++
		}
	}
	if whole != len(want) {
		t.Errorf("%d prefixes were taken for whole, want %d", whole, len(want))
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(packNodes([]store.Node{{Index: 1, Data: []byte("a")}, {Index: 2}}))
	f.Add([]byte{1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		nodes, err := unpacked(b)
		if err != nil {
			return
		}
		again, err := unpacked(packNodes(nodes))
		if err != nil || len(again) != len(nodes) {
			t.Fatalf("%v, %v", again, err)
		}
	})
}
