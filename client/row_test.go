// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

// TestRows reads the rows of messages back, also those of earlier versions, and none
// that is cut off.
func TestRows(t *testing.T) {
	in := storedIncoming{
		ID: "5f3d", Seq: 7, Epoch: 3, Sender: Who{JID: "juliet@capulet.lit", Device: DeviceID{1}, Leaf: 2, Fingerprint: "ab"},
		Time: time.Date(2026, 8, 20, 9, 16, 0, 0, time.UTC), Plain: []byte("<envelope/>\x00\xff"),
	}
	row := in.encode()
	var out storedIncoming
	if err := readBlobRow(row[1:], &out, &out.Plain); err != nil || row[0] != rowMessage || !reflect.DeepEqual(in, out) {
		t.Errorf("%+v, %v", out, err)
	}
	old, err := json.Marshal(&in)
	if err != nil {
		t.Fatal(err)
	}
	out = storedIncoming{}
	if err := readBlobRow(old, &out, &out.Plain); err != nil || !reflect.DeepEqual(in, out) {
		t.Errorf("of an earlier version: %+v, %v", out, err)
	}
	for n := range len(row) - 1 {
		if err := readBlobRow(row[1:1+n], &out, &out.Plain); err == nil {
			t.Fatalf("%d bytes of %d were read", n, len(row)-1)
		}
	}
	if err := readBlobRow(append(bytes.Clone(row[1:]), 0), &out, &out.Plain); err == nil {
		t.Error("a row with a byte too many was read")
	}
	m := outMessage{row: "g/x/o/1", origin: "o1", content: []byte("<body/>"), written: in.Time, sealed: []byte{0, 1, 2}, epoch: 9}
	var s storedMessage
	if err := readBlobRow(m.op().Value, &s, &s.Content, &s.Sealed); err != nil || s.Origin != "o1" || s.Epoch != 9 || !bytes.Equal(s.Content, m.content) || !bytes.Equal(s.Sealed, m.sealed) {
		t.Errorf("%+v, %v", s, err)
	}
	oldOut := []byte(`{"origin":"o1","content":"PGJvZHkvPg==","written":"2026-08-20T09:16:00Z","sealed":"AAEC","epoch":9}`)
	var o storedMessage
	if err := readBlobRow(oldOut, &o, &o.Content, &o.Sealed); err != nil || !reflect.DeepEqual(o, s) {
		t.Errorf("of an earlier version: %+v, %v", o, err)
	}
}

// TestRing reads the remembered chain back, also that of earlier versions.
func TestRing(t *testing.T) {
	in := groupMeta{Ring: chainRing{{1, bytes.Repeat([]byte{1}, 32)}, {300, bytes.Repeat([]byte{2}, 32)}}}
	b, err := json.Marshal(&in)
	if err != nil {
		t.Fatal(err)
	}
	var out groupMeta
	if err := json.Unmarshal(b, &out); err != nil || !reflect.DeepEqual(in.Ring, out.Ring) {
		t.Errorf("%s: %+v, %v", b, out.Ring, err)
	}
	old := `{"ring":[{"s":1,"c":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="},{"s":300,"c":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI="}]}`
	out = groupMeta{}
	if err := json.Unmarshal([]byte(old), &out); err != nil || !reflect.DeepEqual(in.Ring, out.Ring) {
		t.Errorf("of an earlier version: %+v, %v", out.Ring, err)
	}
	if err := json.Unmarshal([]byte(`{"ring":"AAAA"}`), &out); err == nil {
		t.Error("a ring that is cut off was read")
	}
}
