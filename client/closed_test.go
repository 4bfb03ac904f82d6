// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/client/store"
)

// countedStore counts what is written to it.
type countedStore struct {
	store.Store
	writes atomic.Int64
}

func (s *countedStore) Apply(ctx context.Context, ops []store.Op) error {
	s.writes.Add(1)
	return s.Store.Apply(ctx, ops)
}

// exportedCall is an exported method that may fail, with arguments of the right
// types.
type exportedCall struct {
	name string
	do   func(ctx context.Context) []reflect.Value
	out  reflect.Type // of the last result
}

// exportedCalls finds the methods of v, which a new one cannot escape, that take a
// context or return an error.
func exportedCalls(t *testing.T, v any, m *client.Message) (calls []exportedCall) {
	t.Helper()
	var (
		ctxType = reflect.TypeFor[context.Context]()
		errType = reflect.TypeFor[error]()
	)
	r := reflect.ValueOf(v)
	for i := range r.NumMethod() {
		fn, name := r.Method(i), fmt.Sprintf("%T.%s", v, r.Type().Method(i).Name)
		ft := fn.Type()
		takesCtx := ft.NumIn() > 0 && ft.In(0) == ctxType
		if !takesCtx && (ft.NumOut() == 0 || ft.Out(ft.NumOut()-1) != errType) {
			continue
		}
		calls = append(calls, exportedCall{name: name, out: ft.Out(ft.NumOut() - 1), do: func(ctx context.Context) []reflect.Value {
			var args []reflect.Value
			for j := range ft.NumIn() {
				in := ft.In(j)
				arg := reflect.Zero(in)
				switch in {
				case ctxType:
					arg = reflect.ValueOf(ctx)
				case reflect.TypeFor[string]():
					arg = reflect.ValueOf("romeo@" + domain)
				case reflect.TypeFor[[]string]():
					arg = reflect.ValueOf([]string{"romeo@" + domain})
				case reflect.TypeFor[[]byte]():
					arg = reflect.ValueOf([]byte("<x xmlns='urn:example:x'/>"))
				case reflect.TypeFor[io.Reader]():
					arg = reflect.ValueOf(strings.NewReader("a file"))
				case reflect.TypeFor[*client.Message]():
					arg = reflect.ValueOf(m)
				case reflect.TypeFor[*client.File]():
					arg = reflect.ValueOf(&client.File{Name: "balcony.txt"})
				case reflect.TypeFor[client.Event]():
					arg = reflect.ValueOf(&client.ForkDetected{EventMeta: client.EventMeta{Group: m.Group.JID()}})
				}
				args = append(args, arg)
			}
			if ft.IsVariadic() {
				return fn.CallSlice(args)
			}
			return fn.Call(args)
		}})
	}
	return calls
}

// everyCall is all that can be asked of a client, of a group of it and of a message.
func everyCall(t *testing.T, a *actor, g *client.Group, m *client.Message) (calls []exportedCall) {
	for _, v := range []any{a.Client, g, m} {
		calls = append(calls, exportedCalls(t, v, m)...)
	}
	return slices.DeleteFunc(calls, func(c exportedCall) bool {
		return c.name == "*client.Client.Close" || c.name == "*client.Message.Each" // looks at what it has
	})
}

// heardOne is romeo with a counted store, in a group with a message that he has heard.
func heardOne(t *testing.T) (romeo *actor, rg *client.Group, m *client.Message, st *countedStore) {
	w := newWorld(t)
	st = &countedStore{Store: store.NewMemory("romeo@" + domain)}
	juliet, romeo := w.join("juliet"), w.start("romeo", w.config("romeo", st))
	jg := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	must(jg.Invite(ctxShort(t), "romeo@"+domain))(t)
	rg = romeo.group(jg.JID())
	must(jg.Send(ctxShort(t), "wherefore"))(t)
	return romeo, rg, romeo.hears("wherefore"), st
}

// TestClosed asks a closed client for everything that there is.
func TestClosed(t *testing.T) {
	romeo, rg, m, st := heardOne(t)
	romeo.stop()
	written := st.writes.Load()
	for _, call := range everyCall(t, romeo, rg, m) {
		done := make(chan []reflect.Value, 1)
		go func() { done <- call.do(context.Background()) }()
		select {
		case out := <-done:
			last := out[len(out)-1].Interface()
			if findings, ok := last.([]client.Finding); ok {
				if len(findings) == 0 || findings[0].OK || !strings.Contains(findings[0].Text, "closed") {
					t.Errorf("%s: %+v", call.name, findings)
				}
			} else if err, _ := last.(error); !errors.Is(err, client.ErrClosed) {
				t.Errorf("%s: %v", call.name, err)
			}
		case <-time.After(patience):
			t.Errorf("%s: does not return", call.name)
		}
		if n := st.writes.Load(); n != written {
			t.Errorf("%s: has written to the store", call.name)
			written = n
		}
	}
}

// TestCloseMeanwhile closes a client while everything is asked of it.
func TestCloseMeanwhile(t *testing.T) {
	romeo, rg, m, st := heardOne(t)
	var open sync.Map
	var wg sync.WaitGroup
	for _, call := range everyCall(t, romeo, rg, m) {
		if call.name == "*client.Client.RunSession" {
			continue // has no session to run on
		}
		open.Store(call.name, true)
		wg.Go(func() {
			defer open.Delete(call.name)
			for {
				out := call.do(context.Background())
				if err, _ := out[len(out)-1].Interface().(error); errors.Is(err, client.ErrClosed) || call.out != reflect.TypeFor[error]() {
					return
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	ok(t, romeo.Close())
	written := st.writes.Load()
	all := make(chan struct{})
	go func() { wg.Wait(); close(all) }()
	select {
	case <-all:
	case <-time.After(patience):
		open.Range(func(name, _ any) bool {
			t.Errorf("%s: does not return", name)
			return true
		})
	}
	if n := st.writes.Load(); n != written {
		t.Errorf("%d writes after Close", n-written)
	}
}
