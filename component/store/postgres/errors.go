// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/puddle/v2"

	"github.com/lockstep-im/lockstep/component/store"
)

// fault says in the store's terms what an error of PostgreSQL means.
func fault(err error) error {
	var pg *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, puddle.ErrClosedPool):
		return store.ErrClosed
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &pg) && !passing(pg.Code):
		return fmt.Errorf("store: %w", err)
	}
	return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
}

// passing reports whether an SQLSTATE says that the server, not the statement,
// is in trouble.
func passing(code string) bool {
	switch code[:min(2, len(code))] {
	case "08", // connection
		"53", // disk full, out of memory, too many connections
		"55", // lock not available
		"57", // cancelled, shutting down, starting up
		"58", // I/O
		"40": // deadlock
		return true
	}
	return code == "25006" || // a standby: read-only
		code == "25P03" // this session held a transaction open for too long
}

// lostRace reports whether the database has taken a transaction back for the
// sake of others: it can be run again at once.
func lostRace(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01")
}

// lostLink reports whether the connection, not the database, has failed.
func lostLink(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return len(pg.Code) > 2 && pg.Code[:3] == "57P" // the server is going down
	}
	return errors.Is(err, store.ErrUnavailable)
}

// sqlState returns the SQLSTATE of an error of the server, else "".
func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}
