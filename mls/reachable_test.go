// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
	"unsafe"
)

// reachableBytes collects all byte strings that can be reached from a value:
// through pointers, interfaces, maps, unexported fields and up to the capacity
// of slices. It is how tests see that a secret is gone from memory, and not
// only from the fields that the code looks at. A byte array or slice is one
// string.
func reachableBytes(v any) [][]byte {
	w := memoryWalk{seen: map[seenMemory]bool{}}
	// A copy that can be addressed; pointers in it lead to the original.
	p := reflect.New(reflect.TypeOf(v))
	p.Elem().Set(reflect.ValueOf(v))
	w.visit(p.Elem())
	return w.found
}

type seenMemory struct {
	at unsafe.Pointer
	t  reflect.Type
	n  int
}

type memoryWalk struct {
	found [][]byte
	seen  map[seenMemory]bool
}

func (w *memoryWalk) once(at unsafe.Pointer, t reflect.Type, n int) bool {
	k := seenMemory{at, t, n}
	if w.seen[k] {
		return false
	}
	w.seen[k] = true
	return true
}

func (w *memoryWalk) visit(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() && w.once(v.UnsafePointer(), v.Type(), 0) {
			w.visit(v.Elem())
		}
	case reflect.Interface:
		if !v.IsNil() {
			e := v.Elem()
			c := reflect.New(e.Type()).Elem()
			if v.CanInterface() {
				c.Set(e)
				e = c
			}
			w.visit(e)
		}
	case reflect.Slice:
		if v.IsNil() || v.Cap() == 0 || !w.once(v.UnsafePointer(), v.Type(), v.Cap()) {
			return
		}
		full := v.Slice(0, v.Cap())
		if v.Type().Elem().Kind() == reflect.Uint8 {
			w.found = append(w.found, bytes.Clone(full.Bytes()))
			return
		}
		for i := range full.Len() {
			w.visit(full.Index(i))
		}
	case reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			b := make([]byte, v.Len())
			for i := range b {
				b[i] = byte(v.Index(i).Uint())
			}
			w.found = append(w.found, b)
			return
		}
		for i := range v.Len() {
			w.visit(v.Index(i))
		}
	case reflect.String:
		w.found = append(w.found, []byte(v.String()))
	case reflect.Struct:
		for i := range v.NumField() {
			w.visit(v.Field(i))
		}
	case reflect.Map:
		if v.IsNil() || !w.once(v.UnsafePointer(), v.Type(), 0) {
			return
		}
		for it := v.MapRange(); it.Next(); {
			w.visit(it.Key())
			w.visit(it.Value())
		}
	}
}

// wantUnreachable fails if a secret can be found in anything that v reaches.
func wantUnreachable(t *testing.T, v any, secrets map[string][]byte) {
	t.Helper()
	found := reachableBytes(v)
	for what, secret := range secrets {
		for _, b := range found {
			if bytes.Contains(b, secret) {
				t.Errorf("%s is still in memory", what)
				break
			}
		}
	}
}

// wantReachable is the opposite: it shows that the search finds what is there.
func wantReachable(t *testing.T, v any, what string, secret []byte) {
	t.Helper()
	for _, b := range reachableBytes(v) {
		if bytes.Contains(b, secret) {
			return
		}
	}
	t.Errorf("%s is not in memory", what)
}

func TestReachableBytes(t *testing.T) {
	type inner struct{ secret [4]byte }
	type outer struct {
		m    map[string]*inner
		list [][]byte
		any  any
	}
	o := outer{
		m:    map[string]*inner{"k": {[4]byte{1, 2, 3, 4}}},
		list: [][]byte{append(make([]byte, 0, 10), 5, 6, 7, 8)[:2]},
		any:  &inner{[4]byte{9, 9, 9, 9}},
	}
	for _, want := range [][]byte{{1, 2, 3, 4}, {5, 6, 7, 8}, {9, 9, 9, 9}, []byte("k")} {
		wantReachable(t, &o, fmt.Sprintf("%v", want), want)
	}
	wantUnreachable(t, &o, map[string][]byte{"nothing": {1, 2, 3, 5}})
}
