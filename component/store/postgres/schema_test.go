// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/component/store/postgres/pgtest"
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
			dsn := pgtest.DSN(t)
			script(t, dsn, string(dump))
			storetest.CheckFixture(t, openTest(t, dsn))
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
		dsn := pgtest.DSN(t)
		script(t, dsn, string(dump)+"DELETE FROM epochs WHERE epoch < 2;")
		storetest.CheckForgotten(t, openTest(t, dsn))
	}
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func script(t *testing.T, dsn, sql string) {
	t.Helper()
	c := connect(t, dsn)
	defer c.Close(t.Context())
	if _, err := c.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
		t.Fatal(err)
	}
}

// freeze writes the fixture as SQL, unless that version is frozen already.
func freeze(t *testing.T) {
	name := frozen(len(schemas))
	if _, err := os.Stat(name); err == nil {
		return
	}
	dsn := pgtest.DSN(t)
	storetest.WriteFixture(t, openTest(t, dsn))
	c := connect(t, dsn)
	defer c.Close(t.Context())
	all := func(q string, args ...any) [][]string {
		t.Helper()
		rows, err := c.Query(t.Context(), q, args...)
		if err != nil {
			t.Fatal(err)
		}
		var out [][]string
		for rows.Next() {
			var row []string
			for _, b := range rows.RawValues() {
				row = append(row, string(b))
			}
			out = append(out, row)
		}
		if rows.Err() != nil {
			t.Fatal(rows.Err())
		}
		return out
	}
	var b strings.Builder
	fmt.Fprintf(&b, "-- A database of schema version %d. Frozen.\n%s\nCREATE TABLE lockstep_schema (version BIGINT NOT NULL);\n", len(schemas), strings.Join(schemas, "\n"))
	for _, table := range all(`SELECT table_name::text FROM information_schema.tables WHERE table_schema = current_schema() ORDER BY table_name`) {
		var values, identity []string
		for _, col := range all(`SELECT column_name::text, is_identity::text FROM information_schema.columns
				WHERE table_schema = current_schema() AND table_name = $1 ORDER BY ordinal_position`, table[0]) {
			values = append(values, "quote_nullable("+col[0]+")")
			if col[1] == "YES" {
				identity = append(identity, col[0])
			}
		}
		for _, row := range all("SELECT " + strings.Join(values, "||', '||") + " FROM " + table[0] + " ORDER BY 1") {
			fmt.Fprintf(&b, "INSERT INTO %s OVERRIDING SYSTEM VALUE VALUES (%s);\n", table[0], row[0])
		}
		for _, col := range identity {
			fmt.Fprintf(&b, "SELECT setval(pg_get_serial_sequence('%s', '%s'), (SELECT COALESCE(MAX(%s), 0) + 1 FROM %s));\n", table[0], col, col, table[0])
		}
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
	dsn := pgtest.DSN(t)
	s := openTest(t, dsn)
	storetest.WriteFixture(t, s)
	s.Close()

	// A migration that fails halfway leaves everything as it was.
	withSchemas(t, []string{"CREATE TABLE extra (x BIGINT);", "ALTER TABLE groups ADD COLUMN extra BIGINT; NONSENSE;"}, func() {
		if _, err := Open(t.Context(), dsn, Options{}); err == nil || !strings.Contains(err.Error(), fmt.Sprint("version ", len(schemas))) {
			t.Fatalf("a broken migration: %v", err)
		}
	})
	openTest(t, dsn).Close()

	// One that works takes the data along, once, and then the older program refuses.
	withSchemas(t, []string{"ALTER TABLE groups ADD COLUMN extra BIGINT NOT NULL DEFAULT 7;"}, func() {
		for range 2 {
			s := openTest(t, dsn)
			extra := 0
			if err := s.pool.QueryRow(t.Context(), "SELECT extra FROM groups").Scan(&extra); err != nil || extra != 7 {
				t.Fatalf("after the migration: %d, %v", extra, err)
			}
			s.Close()
		}
	})
	if _, err := Open(t.Context(), dsn, Options{}); !errors.Is(err, store.ErrNewerSchema) || errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("a newer schema: %v", err)
	}
}

// TestMigrateInUse starts a program that would change the tables under others.
func TestMigrateInUse(t *testing.T) {
	defer func(before time.Duration) { migrateWait = before }(migrateWait)
	migrateWait = 300 * time.Millisecond
	dsn := pgtest.DSN(t)
	old := openTest(t, dsn)
	storetest.WriteFixture(t, old)
	read := func() error { return old.View(t.Context(), func(store.Reader) error { return nil }) }
	withSchemas(t, []string{"ALTER TABLE groups ADD COLUMN extra BIGINT NOT NULL DEFAULT 7;"}, func() {
		if _, err := Open(t.Context(), dsn, Options{}); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "stop all") {
			t.Fatalf("a newer program beside an older one: %v", err)
		}
		// The old one loses its connections, and the new one is faster: the old one has
		// no way to the tables any more, and says why.
		if err := read(); err != nil {
			t.Fatal(err)
		}
		old.pool.Reset()
		for old.pool.Stat().TotalConns() > 0 {
			time.Sleep(10 * time.Millisecond)
		}
		s := openTest(t, dsn)
		if err := read(); !errors.Is(err, store.ErrNewerSchema) || !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("an older program on newer tables: %v", err)
		}
		// One of the new version may join.
		openTest(t, dsn).Close()
		storetest.CheckFixture(t, s)
	})
}

// TestOpenTogether starts several processes' worth of stores on an empty database.
func TestOpenTogether(t *testing.T) {
	dsn := pgtest.DSN(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s, err := Open(t.Context(), dsn, Options{})
			if err != nil {
				t.Error(err)
				return
			}
			s.Close()
		})
	}
	wg.Wait()
}

func TestGone(t *testing.T) {
	cluster := pgtest.NewCluster(t)
	s := openTest(t, cluster.DSN())
	storetest.WriteFixture(t, s)
	cluster.Kill()
	read := func() error {
		return s.View(t.Context(), func(r store.Reader) error { _, err := r.Groups("", 1); return err })
	}
	write := func() error {
		return s.Update(t.Context(), func(tx store.Tx) error { return tx.SetSetting("", "a", []byte("x")) })
	}
	if err := read(); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("reading: %v", err)
	}
	if err := write(); !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrUnknownOutcome) {
		t.Errorf("writing: %v", err)
	}
	if _, err := s.Append(t.Context(), &store.NewEntry{Group: 1, Kind: store.KindApplication}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("appending: %v", err)
	}
	if _, err := Open(t.Context(), cluster.DSN(), Options{}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("opening: %v", err)
	}
	if err := cluster.Start(); err != nil {
		t.Fatal(err)
	}
	// The same store goes on, with no connection of before.
	if err := errors.Join(read(), write()); err != nil {
		t.Error(err)
	}
	storetest.CheckFixture(t, s)
}

func TestSecretsNotInErrors(t *testing.T) {
	for _, dsn := range []string{
		"postgres://lockstep:o-romeo@127.0.0.1:1/ds?connect_timeout=2",
		"postgres://lockstep:o-romeo@127.0.0.1:1/ds?connect_timeout=often",
		"host=127.0.0.1 port=1 password=o-romeo connect_timeout=2",
		"host=127.0.0.1 port=x password=o-romeo",
	} {
		if _, err := Open(t.Context(), dsn, Options{}); err == nil || strings.Contains(err.Error(), "o-romeo") {
			t.Errorf("%v", err)
		}
	}
}

func TestBackup(t *testing.T) {
	s := openTest(t, pgtest.DSN(t))
	if err := s.Backup(t.Context(), "x"); !errors.Is(err, store.ErrUnsupported) || !strings.Contains(err.Error(), "pg_dump") {
		t.Errorf("Backup: %v", err)
	}
}

// TestSync checks that an operator's setting cannot take durability away.
func TestSync(t *testing.T) {
	dsn := pgtest.DSN(t)
	script(t, dsn, "ALTER ROLE CURRENT_USER SET synchronous_commit = off")
	defer script(t, dsn, "ALTER ROLE CURRENT_USER RESET synchronous_commit")
	s := openTest(t, dsn)
	var v string
	if err := s.pool.QueryRow(t.Context(), "SHOW synchronous_commit").Scan(&v); err != nil || v != "on" {
		t.Errorf("synchronous_commit is %q, %v", v, err)
	}
}
