// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/component/store/storetest"
)

func set(t *testing.T, s *Store, name string) {
	t.Helper()
	if err := s.Update(t.Context(), func(tx store.Tx) error { return tx.SetSetting("", name, []byte("x")) }); err != nil {
		t.Fatal(err)
	}
}

func has(t *testing.T, s *Store, name string) bool {
	t.Helper()
	err := s.View(t.Context(), func(r store.Reader) error { _, err := r.Setting("", name); return err })
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

func TestDurabilitySettings(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "ds.db"))
	for q, want := range map[string]int64{
		"PRAGMA synchronous": 2, "PRAGMA page_size": 8192, "PRAGMA secure_delete": 2, "PRAGMA application_id": applicationID,
	} {
		if n, err := pragmaInt(s.w.c, q); err != nil || n != want {
			t.Errorf("%s: %d, %v, want %d", q, n, err, want)
		}
	}
	var mode string
	sqlitex.ExecuteTransient(s.w.c, "PRAGMA journal_mode", &sqlitex.ExecOptions{ResultFunc: func(st *sqlite.Stmt) error {
		mode = st.ColumnText(0)
		return nil
	}})
	if mode != "wal" {
		t.Errorf("journal mode is %q", mode)
	}
}

func TestPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ds.db")
	if err := os.WriteFile(path, nil, 0o644); err != nil { // what a careless administrator makes
		t.Fatal(err)
	}
	s := openTest(t, path)
	set(t, s, "a")
	if err := s.Backup(t.Context(), path+".bak"); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, path + "-wal", path + "-shm", path + ".lock", path + ".bak"} {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", filepath.Base(p), info.Mode())
		}
	}
}

func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ds.db")
	s := openTest(t, path)
	if _, err := Open(t.Context(), path, Options{}); !errors.Is(err, store.ErrLocked) {
		t.Fatalf("opening twice: %v", err)
	}
	alias := filepath.Join(t.TempDir(), "alias.db")
	if err := os.Symlink(path, alias); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), alias, Options{}); !errors.Is(err, store.ErrLocked) {
		t.Fatalf("opening under another name: %v", err)
	}
	set(t, s, "a") // the attempts have cost the first nothing

	// Another process is refused as well.
	c := storetest.NewCrash(t)
	if said := c.Refused(c.Start(path)); !strings.Contains(said, store.ErrLocked.Error()) {
		t.Fatalf("the other process said %q", said)
	}
	set(t, s, "b")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := openTest(t, path)
	if !has(t, again, "b") {
		t.Error("what was written is gone")
	}
}

func TestReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ds.db")
	if _, err := Open(t.Context(), path, Options{ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("opening nothing: %v", err)
	}
	s := openTest(t, path)
	set(t, s, "a")
	r, err := Open(t.Context(), path, Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	set(t, s, "b")
	if !has(t, r, "a") || !has(t, r, "b") {
		t.Error("the reader does not see what the writer writes")
	}
	if err := r.Update(t.Context(), func(tx store.Tx) error { return nil }); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("Update: %v", err)
	}
	if err := r.View(t.Context(), func(v store.Reader) error { return v.(store.Tx).SetSetting("", "c", []byte("x")) }); err == nil {
		t.Error("a View wrote")
	}
	// The backup of a store in use is made from outside.
	if err := r.Backup(t.Context(), path+".bak"); err != nil {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	set(t, s, "c")
}

func TestBackup(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, filepath.Join(dir, "ds.db"))
	set(t, s, "before")
	copied := filepath.Join(dir, "copy.db")
	if err := s.Backup(t.Context(), copied); err != nil {
		t.Fatal(err)
	}
	set(t, s, "after")
	if err := s.Backup(t.Context(), copied); err == nil {
		t.Error("a backup replaced a file")
	}
	if err := s.Backup(t.Context(), filepath.Join(dir, "no", "such", "dir")); err == nil {
		t.Error("a backup to nowhere succeeded")
	}
	stuck := filepath.Join(dir, "stuck.db")
	if err := os.WriteFile(stuck+".part", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Backup(t.Context(), stuck); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("a backup beside what a killed one has left: %v", err)
	}
	os.Remove(stuck + ".part")
	b := openTest(t, copied)
	if !has(t, b, "before") || has(t, b, "after") {
		t.Error("the copy is not what the store was")
	}
	set(t, b, "lives")
	left, _ := filepath.Glob(filepath.Join(dir, "*.part"))
	if len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestForeignFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "text")
	os.WriteFile(path, []byte(strings.Repeat("a plague on both your houses\n", 300)), 0o600)
	if _, err := Open(t.Context(), path, Options{}); err == nil {
		t.Error("a text file was opened")
	}
	path = filepath.Join(dir, "other.db")
	c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err != nil {
		t.Fatal(err)
	}
	sqlitex.ExecuteScript(c, "CREATE TABLE prosody (key TEXT); PRAGMA user_version = 1;", nil)
	c.Close()
	if _, err := Open(t.Context(), path, Options{}); err == nil || !strings.Contains(err.Error(), "another program") {
		t.Errorf("another program's database: %v", err)
	}
	if _, err := Open(t.Context(), dir, Options{}); err == nil {
		t.Error("a directory was opened")
	}
	if _, err := Open(t.Context(), filepath.Join(dir, "no", "such", "dir.db"), Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a path that leads nowhere: %v", err)
	}
}

// TestFull fills the database up, as a full disk does. What fits is kept, what
// does not is refused, and nothing is torn.
func TestFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ds.db")
	s := openTest(t, path)
	storetest.Fill(t, s,
		func() {
			n, _ := pragmaInt(s.w.c, "PRAGMA page_count")
			pragmaInt(s.w.c, fmt.Sprint("PRAGMA max_page_count = ", n+20))
		},
		func() { pragmaInt(s.w.c, "PRAGMA max_page_count = 1000000") })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	checkIntegrity(t, openTest(t, path))
}

func checkIntegrity(t *testing.T, s *Store) {
	t.Helper()
	var ok string
	err := sqlitex.ExecuteTransient(s.w.c, "PRAGMA integrity_check", &sqlitex.ExecOptions{ResultFunc: func(st *sqlite.Stmt) error {
		ok = st.ColumnText(0)
		return nil
	}})
	if err != nil || ok != "ok" {
		t.Errorf("integrity check: %q, %v", ok, err)
	}
}

// TestRestoredBesideOldLog: a backup that is put in the place of a store which
// was killed must not get that store's log on top.
func TestRestoredBesideOldLog(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ds.db")
	s := openTest(t, path)
	set(t, s, "before")
	if err := s.Backup(t.Context(), path+".bak"); err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		set(t, s, fmt.Sprint("after ", i))
	}
	restored := filepath.Join(dir, "restored.db")
	for from, to := range map[string]string{path + ".bak": restored, path + "-wal": restored + "-wal"} {
		b, err := os.ReadFile(from)
		if err != nil || len(b) == 0 {
			t.Fatal(len(b), err)
		}
		if err := os.WriteFile(to, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(t.Context(), restored, Options{}); err == nil || !strings.Contains(err.Error(), "restored.db-wal") {
		t.Fatalf("opening a backup beside another file's log: %v", err)
	}
	if err := os.Remove(restored + "-wal"); err != nil {
		t.Fatal(err)
	}
	r := openTest(t, restored)
	checkIntegrity(t, r)
	if !has(t, r, "before") || has(t, r, "after 0") {
		t.Error("the restored store is not the backup")
	}
}

// TestMovedAway: what is written into a file that has no name any more would be
// lost, so it is refused until the file is back.
func TestMovedAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ds.db")
	s, err := Open(t.Context(), path, Options{Readers: 1}) // which is open when the file goes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	set(t, s, "a")
	write := func() error {
		return s.Update(t.Context(), func(tx store.Tx) error { return tx.SetSetting("", "b", []byte("x")) })
	}
	read := func() error { return s.View(t.Context(), func(store.Reader) error { return nil }) }
	gone := func(what string) {
		t.Helper()
		if err := write(); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("a write to a file %s: %v", what, err)
		}
		if err := read(); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("a read of a file %s: %v", what, err)
		}
	}
	if err := read(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	gone("that was moved")
	if err := os.WriteFile(path, []byte("a backup"), 0o600); err != nil {
		t.Fatal(err)
	}
	gone("that was replaced")
	if err := os.Rename(path+".old", path); err != nil {
		t.Fatal(err)
	}
	if err := write(); err != nil {
		t.Errorf("a write to a file that is back: %v", err)
	}
	if !has(t, s, "b") {
		t.Error("what was written is gone")
	}
	// A reader finds out within a second.
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); read() == nil; time.Sleep(10 * time.Millisecond) {
		if time.Since(begin) > time.Minute {
			t.Fatal("a reader never finds out that the file was moved")
		}
	}
	gone("that was moved again")
	if err := os.Rename(path+".old", path); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkView is what a read costs before it reads anything.
func BenchmarkView(b *testing.B) {
	s := openTest(b, filepath.Join(b.TempDir(), "ds.db"))
	for b.Loop() {
		if err := s.View(b.Context(), func(store.Reader) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
