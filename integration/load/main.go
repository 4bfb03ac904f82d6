// SPDX-License-Identifier: Apache-2.0

// Load puts a delivery service under load on a real or in-memory server, verifies every
// delivery, and measures its fan-out beside the same server's own MUC in the same run.
//
//	go run ./integration/load -world prosody-13 -groups 5 -members 10 -rate 20 -time 30s
//
// The first part is conversations: every group has so many members, which are real
// clients of package client; they speak at the rate, and each message must reach each
// other member of its group once and in order. The report has the percentiles of the time
// from sending to each delivery.
//
// The second part is fan-out: one real client speaks as fast as the service accepts, and
// so many listeners count what arrives; then the same listeners sit in a MUC room and one
// of them speaks as fast as the room passes on. The ratio of deliveries per second says
// what the service costs on that server.
//
// Both parts are bounded in time, whatever the server does. The exit code is 1 when a
// delivery is missing, doubled or out of order.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/lockstep-im/lockstep/integration/play"
	"github.com/lockstep-im/lockstep/integration/servers"
)

type options struct {
	world     string
	groups    int
	members   int
	rate      float64
	time      time.Duration
	listeners int
	messages  int
	size      int
	store     string
	multicast bool
	json      bool
	verbose   bool
}

func main() {
	var names []string
	for _, w := range play.Worlds() {
		names = append(names, w.Name())
	}
	var o options
	flag.StringVar(&o.world, "world", "loopback", "the server: one of "+strings.Join(names, ", "))
	flag.IntVar(&o.groups, "groups", 5, "groups that converse")
	flag.IntVar(&o.members, "members", 8, "members of each group, one device each")
	flag.Float64Var(&o.rate, "rate", 20, "messages per second, of all groups together")
	flag.DurationVar(&o.time, "time", 20*time.Second, "how long they converse, and the most that each fan-out may take")
	flag.IntVar(&o.listeners, "listeners", 100, "listeners of the fan-out; 0 leaves it out")
	flag.IntVar(&o.messages, "messages", 200, "messages of the fan-out")
	flag.IntVar(&o.size, "size", 400, "bytes of text in a message")
	flag.StringVar(&o.store, "store", "", "where the service keeps everything: a postgres:// address, or empty for SQLite in a temporary folder")
	flag.BoolVar(&o.multicast, "multicast", true, "let the server multicast (XEP-0033) where it can")
	flag.BoolVar(&o.json, "json", false, "report as JSON")
	flag.BoolVar(&o.verbose, "v", false, "log what happens")
	flag.Parse()
	if flag.NArg() > 0 || o.groups < 0 || o.members < 2 || o.rate <= 0 || o.listeners < 0 || o.messages < 1 || o.size < 1 {
		fmt.Fprintln(os.Stderr, "load: nonsense on the command line; -help lists what there is")
		os.Exit(2)
	}
	os.Exit(run(o))
}

// run plays both parts and returns the exit code.
func run(o options) (code int) {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	s := &stage{verbose: o.verbose, ctx: ctx}
	defer func() {
		if v := recover(); v != nil {
			e, ok := v.(fatal)
			if !ok {
				panic(v)
			}
			fmt.Fprintf(os.Stderr, "load: %s\n", e)
			code = 1
		}
		s.end()
		if err := servers.CloseAll(); err != nil {
			fmt.Fprintf(os.Stderr, "load: %v\n", err)
			code = max(code, 1)
		}
	}()
	r := &report{World: o.world}
	var world play.World
	for _, w := range play.Worlds() {
		if w.Name() == o.world {
			world = w
		}
	}
	if world == nil {
		s.Fatalf("no world %q", o.world)
	}
	host := world.Build(s, []play.ServerSpec{{Name: "verona", Own: true, Plain: !o.multicast}})["verona"]
	if err := s.serve(host, o); err != nil {
		s.Fatalf("%v", err)
	}
	var err error
	if o.groups > 0 {
		if r.Conversation, err = converse(ctx, s, host, o); err != nil {
			s.Fatalf("%v", err)
		}
	}
	if o.listeners > 0 {
		if r.FanOut, err = fanOut(ctx, s, host, o); err != nil {
			s.Fatalf("%v", err)
		}
	}
	if o.json {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		err = e.Encode(r)
	} else {
		err = r.write(os.Stdout)
	}
	if err := errors.Join(err, r.fault()); err != nil {
		fmt.Fprintf(os.Stderr, "load: %v\n", err)
		return 1
	}
	return 0
}
