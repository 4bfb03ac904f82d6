// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/lockstep-im/lockstep/component/store"
)

//go:embed schema/*.sql
var schemaFiles embed.FS

// schemas[i] brings a database from version i to i+1. Files are never changed
// once released: a change is a new file.
var schemas = load()

func load() []string {
	files, err := schemaFiles.ReadDir("schema")
	if err != nil {
		panic(err)
	}
	all := make([]string, len(files))
	for i, f := range files {
		b, err := schemaFiles.ReadFile("schema/" + f.Name())
		if err != nil || f.Name() != fmt.Sprintf("%04d.sql", i+1) {
			panic(fmt.Sprintf("postgres: schema file %q: %v", f.Name(), err))
		}
		all[i] = string(b)
	}
	return all
}

// migrationLock is held by the process that migrates ("lockstep" in ASCII).
const migrationLock int64 = 0x6c6f636b73746570

// migrate brings the schema up to date, all in one transaction. Of several
// processes that start at once one does it and the others wait.
func (s *Store) migrate(ctx context.Context) error {
	var number int
	var encoding string
	err := s.pool.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, current_setting('server_encoding')`).Scan(&number, &encoding)
	switch {
	case err != nil:
		return fault(err)
	case number < 120000:
		return fmt.Errorf("PostgreSQL %d is too old, lockstep needs 12 or later", number/10000)
	case encoding != "UTF8":
		return fmt.Errorf("the database is encoded in %s; make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0", encoding)
	}
	version := 0
	err = s.pool.QueryRow(ctx, `SELECT version FROM lockstep_schema`).Scan(&version)
	switch {
	case err == nil && version == len(schemas):
		return nil // as on every start but the first
	case err == nil && version > len(schemas):
		return newerError(version)
	case err != nil && !errors.Is(err, pgx.ErrNoRows) && sqlState(err) != "42P01": // no such table
		return fault(err)
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		for _, q := range []string{
			fmt.Sprintf(`SELECT pg_advisory_xact_lock(%d)`, migrationLock),
			`SET LOCAL client_min_messages = warning`,
			`CREATE TABLE IF NOT EXISTS lockstep_schema (version BIGINT NOT NULL)`,
		} {
			if _, err := tx.Exec(ctx, q); err != nil {
				return err
			}
		}
		version := 0 // again, now that no other process changes it
		err := tx.QueryRow(ctx, `SELECT version FROM lockstep_schema`).Scan(&version)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			if _, err := tx.Exec(ctx, `INSERT INTO lockstep_schema (version) VALUES (0)`); err != nil {
				return err
			}
		case err != nil:
			return err
		case version > len(schemas):
			return newerError(version)
		}
		if version == len(schemas) {
			return nil
		}
		for v := version; v < len(schemas); v++ {
			// The simple protocol takes many statements at once.
			if _, err := tx.Conn().PgConn().Exec(ctx, schemas[v]).ReadAll(); err != nil {
				return fmt.Errorf("migrating the schema to version %d: %w", v+1, err)
			}
		}
		_, err = tx.Exec(ctx, `UPDATE lockstep_schema SET version = $1`, len(schemas))
		return err
	})
	if errors.Is(err, store.ErrNewerSchema) {
		return err
	}
	return fault(err)
}

func newerError(version int) error {
	return fmt.Errorf("%w: it has version %d, this program knows %d; run the lockstepd that wrote it, or a newer one",
		store.ErrNewerSchema, version, len(schemas))
}
