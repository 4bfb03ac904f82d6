// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/client/store/storetest"
)

const juliet = "juliet@capulet.lit"

func openFile(t testing.TB, path, account string) *store.SQLite {
	t.Helper()
	s, err := store.Open(path, account)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestMemory(t *testing.T) {
	storetest.Run(t, func(t *testing.T, account string) store.Store { return store.NewMemory(account) })
}

func TestSQLite(t *testing.T) {
	storetest.Run(t, func(t *testing.T, account string) store.Store {
		return openFile(t, filepath.Join(t.TempDir(), "s.db"), account)
	})
}

func TestEncrypted(t *testing.T) {
	storetest.Run(t, func(t *testing.T, account string) store.Store {
		s, err := store.Encrypt(store.NewMemory(account), make([]byte, store.KeySize))
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := openFile(t, path, juliet)
	if err := s.Apply(context.Background(), []store.Op{store.Put("a", []byte("1"))}); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(path, juliet); !errors.Is(err, store.ErrLocked) {
		t.Fatalf("a second opening: %v", err)
	}
	s.Close()
	if _, err := store.Open(path, "romeo@montague.lit"); err == nil {
		t.Fatal("opened for another account")
	}
	s = openFile(t, path, juliet)
	if v, ok, err := s.Get("a"); string(v) != "1" || !ok || err != nil {
		t.Fatalf("Get = %q, %v, %v", v, ok, err)
	}
	if s.RolledBack() {
		t.Error("says it was rolled back")
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
}

func TestRestoredBackupIsNoticed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := openFile(t, path, juliet)
	s.Apply(context.Background(), []store.Op{store.Put("a", []byte("1"))})
	s.Close()
	backup, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s = openFile(t, path, juliet)
	s.Apply(context.Background(), []store.Op{store.Put("a", []byte("2"))})
	s.Close()
	if err := os.WriteFile(path, backup, 0o600); err != nil {
		t.Fatal(err)
	}
	s = openFile(t, path, juliet)
	if !s.RolledBack() {
		t.Fatal("a restored backup was not noticed")
	}
	s.Apply(context.Background(), []store.Op{store.Put("a", []byte("3"))})
	s.Close()
	if s = openFile(t, path, juliet); s.RolledBack() {
		t.Error("still rolled back after it was noticed and written to")
	}
}

// TestUsedKeysAreGone looks for a deleted and for a replaced value in every
// byte of the files: RFC 9420 §9.2 wants consumed keys deleted.
func TestUsedKeysAreGone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s.db")
	s := openFile(t, path, juliet)
	ctx := context.Background()
	secrets := make([][]byte, 40)
	for i := range secrets {
		secrets[i] = make([]byte, 32)
		rand.Read(secrets[i])
		if err := s.Apply(ctx, []store.Op{store.Put(fmt.Sprintf("k%d", i), secrets[i]), store.Put("ratchet", secrets[i])}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range secrets[:30] {
		if err := s.Apply(ctx, []store.Op{store.Delete(fmt.Sprintf("k%d", i))}); err != nil {
			t.Fatal(err)
		}
	}
	found := func() (n int) {
		files, _ := os.ReadDir(dir)
		for _, f := range files {
			b, _ := os.ReadFile(filepath.Join(dir, f.Name()))
			for _, k := range secrets[:30] {
				if bytes.Contains(b, k) {
					n++
				}
			}
		}
		return n
	}
	for deadline := time.Now().Add(20 * time.Second); found() > 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d deleted keys are still in the files", found())
		}
	}
	if v, ok, _ := s.Get("k35"); !ok || !bytes.Equal(v, secrets[35]) {
		t.Error("a key that was not deleted is gone")
	}
}

func TestEncryptedHidesAndBinds(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s.db")
	inner := openFile(t, path, juliet)
	key := bytes.Repeat([]byte{7}, store.KeySize)
	s, err := store.Encrypt(inner, key)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if err := s.Apply(ctx, []store.Op{store.Put("a", []byte("a very secret thing")), store.Put("b", []byte("another"))}); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{path, path + "-wal"} {
		if b, _ := os.ReadFile(f); bytes.Contains(b, []byte("very secret")) {
			t.Errorf("%s holds the plain value", filepath.Base(f))
		}
	}
	v, _, _ := inner.Get("a")
	inner.Apply(ctx, []store.Op{store.Put("b", v)})
	if _, _, err := s.Get("b"); err == nil {
		t.Error("a value moved to another name was taken")
	}
	if _, err := store.Encrypt(inner, bytes.Repeat([]byte{8}, store.KeySize)); err == nil {
		t.Error("a wrong key was taken")
	}
	if _, err := store.Encrypt(inner, key[:5]); err == nil {
		t.Error("a short key was taken")
	}
	plain := store.NewMemory(juliet)
	plain.Apply(ctx, []store.Op{store.Put("a", nil)})
	if _, err := store.Encrypt(plain, key); err == nil {
		t.Error("a store with plain values was taken")
	}
}

// TestKilled writes pairs in a child process, kills it with SIGKILL, and
// looks: each acknowledged pair is there, and no pair is half there.
func TestKilled(t *testing.T) {
	if path := os.Getenv("LOCKSTEP_STORE_CHILD"); path != "" {
		s, err := store.Open(path, juliet)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; ; i++ {
			v := fmt.Appendf(nil, "%d", i)
			if err := s.Apply(context.Background(), []store.Op{store.Put("x", v), store.Put("y", v)}); err != nil {
				t.Fatal(err)
			}
			fmt.Println("acknowledged", i)
		}
	}
	path := filepath.Join(t.TempDir(), "s.db")
	rounds := 10
	if testing.Short() {
		rounds = 3
	}
	for round := range rounds {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
		cmd.Env = append(os.Environ(), "LOCKSTEP_STORE_CHILD="+path)
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(60+17*round) * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
		last := -1
		for line := range bytes.Lines(out.Bytes()) {
			if bytes.HasSuffix(line, []byte("\n")) {
				fmt.Sscanf(string(line), "acknowledged %d", &last)
			}
		}
		s, err := store.Open(path, juliet)
		if err != nil {
			t.Fatal(err)
		}
		x, _, _ := s.Get("x")
		y, _, _ := s.Get("y")
		n := -1
		fmt.Sscan(string(x), &n)
		if !bytes.Equal(x, y) || n < last {
			t.Errorf("after the kill x=%s y=%s, acknowledged %d", x, y, last)
		}
		if s.RolledBack() {
			t.Error("a kill looks like a restored backup")
		}
		s.Close()
	}
}

func BenchmarkApply(b *testing.B) {
	for _, par := range []int{1, 32} {
		b.Run(fmt.Sprintf("callers=%d", par), func(b *testing.B) {
			s := openFile(b, filepath.Join(b.TempDir(), "s.db"), juliet)
			value := make([]byte, 300)
			b.ReportAllocs()
			b.SetParallelism(par)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := s.Apply(context.Background(), []store.Op{store.Put("a", value), store.Put("b", value), store.Put("c", value)}); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}
