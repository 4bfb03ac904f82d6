// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"errors"
	"flag"
	"fmt"
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

var update = flag.Bool("update", false, "write the frozen database of the current schema, if there is none")

func frozen(version int) string { return filepath.Join("testdata", fmt.Sprintf("v%04d.sql", version)) }

// TestFrozen opens databases as each version of the schema left them.
func TestFrozen(t *testing.T) {
	if *update {
		freeze(t)
	}
	for v := 1; v <= len(schemas); v++ {
		t.Run(fmt.Sprint("version ", v), func(t *testing.T) {
			dump, err := os.ReadFile(frozen(v))
			if err != nil {
				t.Fatalf("every version needs its frozen database (go test -run TestFrozen -update): %v", err)
			}
			path := filepath.Join(t.TempDir(), "ds.db")
			script(t, path, string(dump))
			storetest.CheckFixture(t, openTest(t, path))
		})
	}
}

// TestForgotten opens databases whose versions found commits by an index of the log.
func TestForgotten(t *testing.T) {
	for v := 1; v <= 2; v++ {
		dump, err := os.ReadFile(frozen(v))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "ds.db")
		script(t, path, string(dump)+"DELETE FROM epochs WHERE epoch < 2;")
		storetest.CheckForgotten(t, openTest(t, path))
	}
}

// TestLongLogs opens a database whose version found entries by indexes, with logs
// of many entries: whole, cut in front, and of a group that has ended.
func TestLongLogs(t *testing.T) {
	dump, err := os.ReadFile(frozen(3))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ds.db")
	script(t, path, string(dump)+`
		DELETE FROM log; DELETE FROM groups; DELETE FROM doomed;
		INSERT INTO groups (id, jid, group_id, epoch, head, first, base, chain, rev, pending, mode, retention, created, config)
			VALUES (7, 'whole@mls.example', x'01', 0, 100, 1, 0, zeroblob(32), 1, 0, 'public', 0, 0, x''),
				(8, 'cut@mls.example', x'02', 0, 150, 51, 0, zeroblob(32), 1, 0, 'public', 0, 0, x'');
		INSERT INTO doomed VALUES (9);
		WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 150)
		INSERT INTO log (row, gid, seq, epoch, kind, stamp, ref, chain, id, sender, device, bytes)
			SELECT 3 * i + g, g, i, 0, 1, i, randomblob(32), zeroblob(32), '', '', '', CAST(printf('%d of %d', i, g) AS BLOB)
			FROM n, (SELECT 7 AS g UNION SELECT 8 UNION SELECT 9)
			WHERE g = 9 OR g = 7 AND i <= 100 OR g = 8 AND i > 50;`)
	s := openTest(t, path)
	for _, g := range []struct {
		key         store.GroupKey
		first, head uint64
	}{{7, 1, 100}, {8, 51, 150}} {
		var all []store.Entry
		if err := s.View(t.Context(), func(r store.Reader) (err error) {
			if all, err = r.Log(g.key, store.LogQuery{After: g.first - 1, Limit: 1000}); err != nil {
				return err
			}
			for _, e := range all {
				if again, err := r.EntryByRef(g.key, e.Ref); err != nil || again.Seq != e.Seq {
					return fmt.Errorf("entry %d by its ref: %+v, %v", e.Seq, again, err)
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if len(all) != 100 {
			t.Fatalf("group %d: %d entries", g.key, len(all))
		}
		for i, e := range all {
			if want := g.first + uint64(i); e.Seq != want || string(e.Bytes) != fmt.Sprintf("%d of %d", want, g.key) {
				t.Fatalf("group %d: entry %d is %d, %q", g.key, want, e.Seq, e.Bytes)
			}
		}
		// It goes on where it was.
		if err := s.Update(t.Context(), func(tx store.Tx) error {
			for i := range 40 {
				text := fmt.Append(nil, "new ", i)
				a, err := tx.Append(&store.NewEntry{Group: g.key, Rev: 1, Kind: store.KindApplication, Ref: store.RefOf(text), Stamp: time.Now(), Bytes: text})
				if err != nil || a.Seq != g.head+1+uint64(i) {
					return fmt.Errorf("appending: %+v, %v", a, err)
				}
			}
			a, err := tx.Append(&store.NewEntry{Group: g.key, Rev: 1, Kind: store.KindApplication, Ref: all[70].Ref, Stamp: time.Now(), Bytes: all[70].Bytes})
			if err != nil || !a.Duplicate || a.Seq != all[70].Seq {
				return fmt.Errorf("again: %+v, %v", a, err)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	// Of what is old nothing stays, and nothing that led to it.
	if n, err := s.Clean(t.Context(), store.CleanPolicy{}); err != nil || n.Entries != 350 {
		t.Fatalf("%d entries were cleaned, %v", n.Entries, err)
	}
	left(t, s, 80)
}

// left checks how many entries there are, and that as many records lead to them.
func left(t *testing.T, s *Store, want int64) {
	t.Helper()
	entries, err1 := pragmaInt(s.w.c, "SELECT COUNT(*) FROM log")
	tails, err2 := pragmaInt(s.w.c, "SELECT COALESCE(SUM(length(tail)), 0) / 16 FROM groups")
	refs, err3 := pragmaInt(s.w.c, "SELECT COUNT(*) FROM log_refs")
	records, err4 := pragmaInt(s.w.c, "SELECT COALESCE(SUM(length(records)), 0) / 16 FROM log_blocks")
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	// The block at the cut may begin before it.
	if entries != want || refs+tails != want || records < refs || records >= refs+2*32 {
		t.Errorf("%d entries, %d records in tails, %d in blocks, %d refs; want %d", entries, tails, records, refs, want)
	}
}

// TestNothingLeft counts what is left of groups that have ended.
func TestNothingLeft(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "ds.db"))
	write := func(jid string, n int) (g *store.Group) {
		t.Helper()
		if err := s.Update(t.Context(), func(tx store.Tx) (err error) {
			if g, err = tx.CreateGroup(&store.NewGroup{JID: jid, GroupID: []byte(jid), Mode: "public", Now: time.Now()}); err != nil {
				return err
			}
			for i := range n {
				text := fmt.Append(nil, i, jid)
				e := &store.NewEntry{Group: g.Key, Rev: g.Rev, Kind: store.KindApplication, Ref: store.RefOf(text), Stamp: time.Unix(int64(i), 0), Bytes: text}
				if _, err := tx.Append(e); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return g
	}
	clean := func(p store.CleanPolicy) {
		t.Helper()
		if _, err := s.Clean(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	long, short := write("long@mls.example", 1200), write("short@mls.example", 20)
	left(t, s, 1220)
	clean(store.CleanPolicy{Now: time.Unix(1000, 0), LogAge: 500 * time.Second, LogMinAge: 500 * time.Second})
	left(t, s, 700)
	if err := s.Update(t.Context(), func(tx store.Tx) error {
		return errors.Join(tx.DestroyGroup(long.Key, store.Tombstone{}), tx.DestroyGroup(short.Key, store.Tombstone{}))
	}); err != nil {
		t.Fatal(err)
	}
	clean(store.CleanPolicy{})
	left(t, s, 0)
}

func script(t *testing.T, path, sql string) {
	t.Helper()
	c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := sqlitex.ExecuteScript(c, sql, nil); err != nil {
		t.Fatal(err)
	}
}

// freeze writes the fixture as SQL, unless that version is frozen already.
func freeze(t *testing.T) {
	name := frozen(len(schemas))
	if _, err := os.Stat(name); err == nil {
		return
	}
	s := openTest(t, filepath.Join(t.TempDir(), "ds.db"))
	storetest.WriteFixture(t, s)
	var b strings.Builder
	fmt.Fprintf(&b, "-- A database of schema version %d. Frozen.\nPRAGMA application_id = %d;\nPRAGMA user_version = %d;\n", len(schemas), applicationID, len(schemas))
	rows := func(q string, f func(st *sqlite.Stmt)) {
		t.Helper()
		if err := sqlitex.ExecuteTransient(s.w.c, q, &sqlitex.ExecOptions{ResultFunc: func(st *sqlite.Stmt) error { f(st); return nil }}); err != nil {
			t.Fatal(err)
		}
	}
	var tables []string
	rows("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY type DESC, rowid", func(st *sqlite.Stmt) {
		fmt.Fprintf(&b, "%s;\n", st.ColumnText(1))
		if strings.HasPrefix(st.ColumnText(1), "CREATE TABLE") {
			tables = append(tables, st.ColumnText(0))
		}
	})
	for _, table := range append(tables, "sqlite_sequence") {
		if table == "sqlite_sequence" {
			b.WriteString("DELETE FROM sqlite_sequence;\n") // what the rows above have put there
		}
		var columns []string
		rows("SELECT name FROM pragma_table_info('"+table+"')", func(st *sqlite.Stmt) { columns = append(columns, "quote("+st.ColumnText(0)+")") })
		rows("SELECT "+strings.Join(columns, "||', '||")+" FROM "+table, func(st *sqlite.Stmt) {
			fmt.Fprintf(&b, "INSERT INTO %s VALUES (%s);\n", table, st.ColumnText(0))
		})
	}
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// withSchemas runs f as a program that knows further versions.
func withSchemas(t *testing.T, more []string, f func()) {
	t.Helper()
	before := schemas
	schemas = append(before[:len(before):len(before)], more...)
	defer func() { schemas = before }()
	f()
}

func TestMigrate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ds.db")
	s := openTest(t, path)
	storetest.WriteFixture(t, s)
	s.Close()

	// A migration that fails halfway leaves everything as it was.
	withSchemas(t, []string{"CREATE TABLE extra (x INTEGER);", "ALTER TABLE groups ADD COLUMN extra INTEGER; NONSENSE;"}, func() {
		if _, err := Open(t.Context(), path, Options{}); err == nil || !strings.Contains(err.Error(), fmt.Sprint("version ", len(schemas))) {
			t.Fatalf("a broken migration: %v", err)
		}
	})
	s = openTest(t, path)
	if n, err := pragmaInt(s.w.c, "SELECT COUNT(*) FROM sqlite_schema WHERE name = 'extra'"); n != 0 || err != nil {
		t.Fatalf("half a migration was kept: %d, %v", n, err)
	}
	s.Close()

	// One that works takes the data along, once, and then the older program refuses.
	withSchemas(t, []string{"ALTER TABLE groups ADD COLUMN extra INTEGER NOT NULL DEFAULT 7;"}, func() {
		for range 2 {
			s := openTest(t, path)
			if n, err := pragmaInt(s.w.c, "SELECT extra FROM groups"); n != 7 || err != nil {
				t.Fatalf("after the migration: %d, %v", n, err)
			}
			s.Close()
		}
	})
	for _, o := range []Options{{}, {ReadOnly: true}} {
		_, err := Open(t.Context(), path, o)
		if !errors.Is(err, store.ErrNewerSchema) {
			t.Fatalf("a newer schema: %v", err)
		}
	}
}
