// SPDX-License-Identifier: Apache-2.0

package stanza

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/lockstep-im/lockstep/stanza/xmlpull"
)

// newLike returns an empty payload of p's type.
func newLike(p Payload) Payload { return reflect.New(reflect.TypeOf(p).Elem()).Interface().(Payload) }

// parseXML parses a payload in the context of a client stream.
func parseXML(p Payload, b []byte) error {
	var doc xmlpull.Doc
	el, err := doc.Parse(b, clientContext)
	if err != nil {
		return fmt.Errorf("not XML: %w", err)
	}
	return p.Parse(el)
}

func TestRoundTrip(t *testing.T) {
	for _, want := range samples() {
		b := want.Append(nil)
		got := newLike(want)
		if err := parseXML(got, b); err != nil {
			t.Errorf("%T: %s: %v", want, b, err)
			continue
		}
		if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%T: %s: %s", want, b, d)
		}
		// Parsing into a used value replaces all of it.
		used := newLike(want)
		for _, other := range samples() {
			if reflect.TypeOf(other) == reflect.TypeOf(want) {
				if err := parseXML(used, other.Append(nil)); err != nil {
					t.Fatal(err)
				}
			}
		}
		for range 2 {
			if err := parseXML(used, b); err != nil {
				t.Errorf("%T again: %v", want, err)
			}
			if d := cmp.Diff(want, used, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("%T again: %s", want, d)
			}
		}
		// Append appends.
		if long := want.Append([]byte("x")); string(long) != "x"+string(b) {
			t.Errorf("%T: Append does not append", want)
		}
	}
}

// TestEmptyIsReplaced checks that a value parsed before leaves nothing behind
// in a value that has less.
func TestEmptyIsReplaced(t *testing.T) {
	for _, full := range samples() {
		for _, less := range samples() {
			if reflect.TypeOf(full) != reflect.TypeOf(less) {
				continue
			}
			got := newLike(full)
			if err := parseXML(got, full.Append(nil)); err != nil {
				t.Fatal(err)
			}
			if err := parseXML(got, less.Append(nil)); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(less, got, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("%T: %s", full, d)
			}
		}
	}
}

// TestSamplesAreComplete checks that each payload type has a sample, and that
// the samples of a type leave no exported field at zero.
func TestSamplesAreComplete(t *testing.T) {
	seen := map[string]bool{}
	var fields func(v reflect.Value, path string)
	fields = func(v reflect.Value, path string) {
		if v.Type().Name() == "Time" {
			return
		}
		switch v.Kind() {
		case reflect.Pointer, reflect.Interface:
			if !v.IsNil() {
				fields(v.Elem(), path)
			}
		case reflect.Slice:
			for i := range v.Len() {
				fields(v.Index(i), path)
			}
		case reflect.Struct:
			for i := range v.NumField() {
				f := v.Type().Field(i)
				if !f.IsExported() {
					continue
				}
				name := v.Type().Name() + "." + f.Name
				if _, ok := seen[name]; !ok {
					seen[name] = false
				}
				if !v.Field(i).IsZero() {
					seen[name] = true
				}
				fields(v.Field(i), name)
			}
		}
	}
	types := map[reflect.Type]bool{}
	for _, p := range samples() {
		types[reflect.TypeOf(p)] = true
		fields(reflect.ValueOf(p), "")
	}
	for _, info := range Payloads() {
		if !types[reflect.TypeOf(info.New())] {
			t.Errorf("no sample of %T", info.New())
		}
	}
	// These are told apart by other tests.
	except := map[string]bool{"Body.Inherit": true, "PageQuery.Before": true, "PageQuery.Last": true}
	for name, set := range seen {
		if !set && !except[name] {
			t.Errorf("no sample sets %s", name)
		}
	}
}

// TestRegistryNames checks that a payload writes the element that it is
// registered for.
func TestRegistryNames(t *testing.T) {
	names := map[reflect.Type][]string{}
	for _, info := range Payloads() {
		typ := reflect.TypeOf(info.New())
		names[typ] = append(names[typ], info.Space+" "+info.Local)
	}
	for _, p := range samples() {
		if _, ok := p.(*Error); ok {
			continue
		}
		var doc xmlpull.Doc
		el, err := doc.Parse(p.Append(nil), clientContext)
		if err != nil {
			t.Fatal(err)
		}
		name := string(el.Space()) + " " + string(el.Local())
		found := false
		for _, n := range names[reflect.TypeOf(p)] {
			found = found || n == name
		}
		if !found {
			t.Errorf("%T writes %s", p, name)
		}
		other := Element{}
		if err := newLike(p).Parse(other); err == nil {
			t.Errorf("%T parses no element", p)
		}
	}
}
