// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"strconv"
	"time"

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

// Who uses the tables of a schema holds a lock, and every connection of a store
// holds it, shared with all others. Who changes the tables needs it alone: no
// program ever works on tables that it does not know, also if they were changed
// while it had lost its connections.
//
// The lock is PostgreSQL's advisory lock of this number ("lkst") and of the name
// of the schema that the tables are in.
const useLock = `1818981236, hashtext(current_schema())`

// migrateWait is how long a program waits for others to be gone, or to have done
// what it came to do.
var migrateWait = 10 * time.Second

// join makes a connection one of those that use the tables, as this version of the
// schema has them.
func join(ctx context.Context, c *pgx.Conn, version int) error {
	// One round trip. The version is read by a statement of its own, which sees what
	// was done while the one before it waited, whatever isolation is the default.
	results, err := c.PgConn().Exec(ctx, readWrite+`;
		SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
		SELECT pg_advisory_lock_shared(`+useLock+`);
		SELECT version FROM lockstep_schema;
		COMMIT`).ReadAll()
	if err != nil {
		return err
	}
	rows := results[3].Rows
	if len(rows) != 1 {
		return fmt.Errorf("%w: lockstep_schema has %d rows", store.ErrUnavailable, len(rows))
	}
	found, err := strconv.Atoi(string(rows[0][0]))
	if err != nil {
		return err
	}
	if found != version {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, newerError(found, version))
	}
	return nil
}

// migrate brings the schema up to date, all in one transaction. Of several
// processes that start at once one does it and the others wait.
func migrate(ctx context.Context, cfg *pgx.ConnConfig) error {
	c, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return fault(err)
	}
	defer c.Close(context.WithoutCancel(ctx))
	var number int
	var encoding string
	err = c.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, current_setting('server_encoding')`).Scan(&number, &encoding)
	switch {
	case err != nil:
		return fault(err)
	case number < 120000:
		return fmt.Errorf("PostgreSQL %d is too old, lockstep needs 12 or later", number/10000)
	case encoding != "UTF8":
		return fmt.Errorf("the database is encoded in %s; make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0", encoding)
	}
	for begin := time.Now(); ; {
		done, err := tryMigrate(ctx, c)
		if errors.Is(err, store.ErrNewerSchema) {
			return err
		}
		if err != nil {
			return fault(err)
		}
		if done {
			return nil
		}
		if time.Since(begin) > migrateWait {
			return fmt.Errorf("%w: the schema must be brought up to date, and other lockstepd are using it; stop all that run on this database, start this one, then the others with its version",
				store.ErrUnavailable)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// tryMigrate brings the schema up to date unless somebody uses it.
func tryMigrate(ctx context.Context, c *pgx.Conn) (done bool, err error) {
	version := 0
	err = c.QueryRow(ctx, `SELECT version FROM lockstep_schema`).Scan(&version)
	switch {
	case err == nil && version == len(schemas):
		return true, nil // as on every start but the first
	case err == nil && version > len(schemas):
		return false, newerError(version, len(schemas))
	case err != nil && !errors.Is(err, pgx.ErrNoRows) && sqlState(err) != "42P01": // no such table
		return false, err
	}
	err = pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		alone := false
		if err := tx.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock(`+useLock+`)`).Scan(&alone); err != nil || !alone {
			return err
		}
		for _, q := range []string{
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
			return newerError(version, len(schemas))
		}
		for v := version; v < len(schemas); v++ {
			// The simple protocol takes many statements at once.
			if _, err := tx.Conn().PgConn().Exec(ctx, schemas[v]).ReadAll(); err != nil {
				return fmt.Errorf("migrating the schema to version %d: %w", v+1, err)
			}
		}
		done = true
		_, err = tx.Exec(ctx, `UPDATE lockstep_schema SET version = $1`, len(schemas))
		return err
	})
	return done, err
}

func newerError(version, known int) error {
	return fmt.Errorf("%w: it has version %d, this program knows %d; run the lockstepd that wrote it, or a newer one",
		store.ErrNewerSchema, version, known)
}
