// SPDX-License-Identifier: Apache-2.0

//go:build unix

package store_test

import (
	"context"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/lockstep-im/lockstep/client/store"
)

// TestReopenedWhileProcessesStart opens and closes a store in a program that
// starts others meanwhile. A process that has been forked and has not become
// another program yet holds all files of its parent, and with them the lock.
func TestReopenedWhileProcessesStart(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				exec.CommandContext(ctx, "true").Run()
			}
		})
	}
	defer wg.Wait()
	defer cancel()
	path := filepath.Join(t.TempDir(), "client.db")
	for i := range 100 {
		s, err := store.Open(path, "juliet@capulet.lit")
		if err != nil {
			t.Fatalf("opening the %d. time: %v", i+1, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
