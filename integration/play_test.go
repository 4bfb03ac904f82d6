// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"flag"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/integration/play"
	"github.com/lockstep-im/lockstep/integration/servers"
)

var summary play.Summary

// parallel is how many scenarios are played at a time. They mostly wait, for
// servers to start and for time to pass, so that two processors carry more than two.
const parallel = 4

// lastMinutes before go test ends everything no scenario on a real server begins. Its
// ten minutes do not suffice where images have to be built first.
const lastMinutes = 100 * time.Second

func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		flag.Set("test.parallel", strconv.Itoa(parallel))
	}
	code := servers.Main(m)
	for _, f := range atExit {
		f()
	}
	summary.Write(os.Stdout)
	os.Exit(code)
}

// worlds are those that LOCKSTEP_WORLDS names, or all.
func worlds(t *testing.T) []play.World {
	t.Helper()
	all := play.Worlds()
	only := os.Getenv("LOCKSTEP_WORLDS")
	if only == "" {
		return all
	}
	var out []play.World
	for _, name := range strings.Split(only, ",") {
		i := slices.IndexFunc(all, func(w play.World) bool { return w.Name() == name })
		if i < 0 {
			t.Fatalf("LOCKSTEP_WORLDS: no world %q", name)
		}
		out = append(out, all[i])
	}
	return out
}

// TestScenarios plays every script of testdata on every world.
func TestScenarios(t *testing.T) {
	scripts, err := play.Load("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range worlds(t) {
		t.Run(w.Name(), func(t *testing.T) {
			t.Parallel()
			for _, s := range scripts {
				t.Run(s.Name, func(t *testing.T) {
					t.Parallel()
					t.Cleanup(func() { summary.Add(s.Name, w.Name(), outcome(t, s, w)) })
					if end, ok := t.Deadline(); ok && time.Until(end) < lastMinutes && w.Name() != "loopback" {
						servers.Missing(t, "there is no time left for all scenarios on real servers: go test -timeout 30m ./...")
					}
					play.Run(t, s, w, kinds, makeService, sentences)
				})
			}
		})
	}
}

func outcome(t *testing.T, s *play.Script, w play.World) string {
	switch {
	case t.Failed():
		return play.Failed
	case t.Skipped() && s.NotFor(w) != "":
		return play.NotFor
	case t.Skipped():
		return play.Skipped
	}
	return play.Passed
}

var kinds = play.Kinds{"plain": play.NewPlain, "member": newMember, "slixmpp": newForeigner}

var sentences = map[string]play.Sentence{"crowd": crowd}
