// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"embed"
	"fmt"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

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
			panic(fmt.Sprintf("sqlite: schema file %q: %v", f.Name(), err))
		}
		all[i] = string(b)
	}
	return all
}

// applicationID marks the file as ours ("LKST"), so that a wrong path does not
// end with our tables in somebody else's database.
const applicationID = 0x4c4b5354

func pragmaInt(c *sqlite.Conn, q string) (int64, error) {
	var n int64
	err := sqlitex.ExecuteTransient(c, q, &sqlitex.ExecOptions{ResultFunc: func(st *sqlite.Stmt) error {
		n = st.ColumnInt64(0)
		return nil
	}})
	return n, fault(err)
}

// schemaVersion returns the version of the file's schema, 0 if it is empty.
func schemaVersion(c *sqlite.Conn) (int, error) {
	version, err := pragmaInt(c, "PRAGMA user_version")
	if err != nil {
		return 0, err
	}
	id, err := pragmaInt(c, "PRAGMA application_id")
	if err != nil {
		return 0, err
	}
	tables, err := pragmaInt(c, "SELECT COUNT(*) FROM sqlite_schema")
	if err != nil {
		return 0, err
	}
	switch {
	case tables == 0 && version == 0:
		return 0, nil
	case id != applicationID:
		return 0, fmt.Errorf("the file is an SQLite database of another program (application id %#x)", id)
	case version < 1:
		return 0, fmt.Errorf("the file has no valid schema version (%d)", version)
	case version > int64(len(schemas)):
		return 0, fmt.Errorf("%w: it has version %d, this program knows %d; run the lockstepd that wrote it, or a newer one",
			store.ErrNewerSchema, version, len(schemas))
	}
	return int(version), nil
}

// checkSchema is for those who may not migrate.
func checkSchema(c *sqlite.Conn) error {
	version, err := schemaVersion(c)
	if err == nil && version != len(schemas) {
		return fmt.Errorf("the schema has version %d, this program needs %d; open it for writing once", version, len(schemas))
	}
	return err
}

// migrate brings the schema up to date, all in one transaction.
func migrate(c *sqlite.Conn) (err error) {
	version, err := schemaVersion(c)
	if err != nil || version == len(schemas) {
		return err
	}
	end, err := sqlitex.ImmediateTransaction(c)
	if err != nil {
		return fault(err)
	}
	defer end(&err)
	for v := version; v < len(schemas); v++ {
		if err := sqlitex.ExecuteScript(c, schemas[v], nil); err != nil {
			return fmt.Errorf("migrating the schema to version %d: %w", v+1, fault(err))
		}
	}
	if err := sqlitex.ExecuteTransient(c, fmt.Sprintf("PRAGMA application_id = %d", applicationID), nil); err != nil {
		return fault(err)
	}
	return fault(sqlitex.ExecuteTransient(c, fmt.Sprintf("PRAGMA user_version = %d", len(schemas)), nil))
}
