// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/lockstep-im/lockstep/component/store/storetest"
)

// TestWriteFails makes the system refuse to let files grow: unlike TestFull,
// the write itself fails, in the middle of a transaction's pages.
func TestWriteFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ds.db")
	s := openTest(t, path)
	set(t, s, "a")
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	restore := func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
			t.Error(err)
		}
	}
	defer restore()
	storetest.Fill(t, s, func() {
		info, err := os.Stat(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		small := before
		small.Cur = uint64(info.Size()) + 300_000
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small); err != nil {
			t.Fatal(err)
		}
	}, restore)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	checkIntegrity(t, openTest(t, path))
}
