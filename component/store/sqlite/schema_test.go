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
