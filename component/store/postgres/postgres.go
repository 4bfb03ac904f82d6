// SPDX-License-Identifier: Apache-2.0

// Package postgres keeps the state of a delivery service in PostgreSQL, where
// several processes of it may work at once.
//
// The database is the only truth that they share: a group moves by
// compare-and-swap under its row's lock. Transactions are READ COMMITTED with
// explicit locks; the database must sync its commits, so synchronous_commit is
// turned on for the store's connections where it is off.
//
// Tables are made in the first schema of the connection's search_path. Back
// up with pg_dump or whatever else backs up the database.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/component/store/internal/relational"
)

// Options say how to use the database. The zero value is good.
type Options struct {
	// MaxConns bounds the number of connections; zero means 12, or pool_max_conns
	// of the connection string.
	MaxConns int
}

// A Store is a store.Store in PostgreSQL.
type Store struct {
	pool    *pgxpool.Pool
	jobs    chan *appendJob
	quit    chan struct{}
	closed  atomic.Bool
	workers sync.WaitGroup
	cleaner relational.Cleaner
}

var _ store.Store = (*Store)(nil)

const (
	committers = 2                     // goroutines that append: one waits for the disk while the other collects
	attempts   = 5                     // times that a transaction is tried which others, or the link, have cost
	idleLimit  = 10 * time.Second      // after which the server ends a transaction of a process that hangs
	lockLimit  = 5 * time.Second       // that a transaction waits for another's lock
	backoff    = 20 * time.Millisecond // before another attempt, grows
)

// Open connects to the database that a connection string names (a postgres://
// URL or keywords and values, as libpq takes them) and brings the schema up
// to date. It fails with store.ErrNewerSchema when a newer lockstep has written
// it. A schema that is to be brought up to date must be used by nobody else: with
// several processes, all are stopped before the first newer one starts. The string
// may hold a password; errors do not show it.
func Open(ctx context.Context, dsn string, o Options) (*Store, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err) // pgx redacts the password
	}
	switch {
	case o.MaxConns > 0:
		cfg.MaxConns = int32(o.MaxConns)
	case !strings.Contains(dsn, "pool_max_conns"):
		cfg.MaxConns = max(cfg.MaxConns, 12)
	}
	cfg.MaxConns = max(cfg.MaxConns, committers+2)
	if cfg.ConnConfig.ConnectTimeout == 0 {
		cfg.ConnConfig.ConnectTimeout = 10 * time.Second
	}
	params := cfg.ConnConfig.RuntimeParams
	if params["application_name"] == "" {
		params["application_name"] = "lockstepd"
	}
	params["idle_in_transaction_session_timeout"] = fmt.Sprint(idleLimit.Milliseconds())
	if params["lock_timeout"] == "" {
		params["lock_timeout"] = fmt.Sprint(lockLimit.Milliseconds())
	}
	cfg.ConnConfig.StatementCacheCapacity = 512 // the store has fewer
	version := len(schemas)
	cfg.AfterConnect = func(ctx context.Context, c *pgx.Conn) error { return join(ctx, c, version) }
	if err := migrate(ctx, cfg.ConnConfig); err != nil {
		return nil, fmt.Errorf("postgres: opening %s on %s: %w", cfg.ConnConfig.Database, cfg.ConnConfig.Host, err)
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	s := &Store{pool: pool, jobs: make(chan *appendJob), quit: make(chan struct{})}
	for range committers {
		s.workers.Go(s.commitAppends)
	}
	return s, nil
}

// transact runs f in a transaction, again if it must.
func (s *Store) transact(ctx context.Context, how string, f func(*relational.Tx) error) error {
	var err error
	for n := range attempts {
		if n > 0 {
			select {
			case <-ctx.Done():
				return err
			case <-time.After(rand.N(backoff << n)):
			}
		}
		var again bool
		if again, err = s.try(ctx, how, f); !again {
			return err
		}
	}
	return err
}

// try runs a transaction once. It reports whether the transaction was taken
// back for no fault of its own.
func (s *Store) try(ctx context.Context, how string, f func(*relational.Tx) error) (again bool, err error) {
	if s.closed.Load() {
		return false, store.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	pc, err := s.pool.Acquire(ctx)
	if err != nil {
		return false, fault(err)
	}
	defer pc.Release()
	c := begin(ctx, pc.Conn(), how)
	ended := false
	defer func() {
		if !ended { // f has failed, or panics
			c.rollback()
		}
	}()
	tx := relational.NewTx(c, relational.Indexed)
	defer tx.End()
	err = f(tx)
	if err == nil {
		err = tx.Doomed()
	}
	if err != nil {
		return lostRace(err) || lostLink(err) && ctx.Err() == nil, err
	}
	if how == readOnly {
		return false, nil
	}
	err = c.commit()
	switch {
	case err == nil:
		ended = true
		return false, nil
	case lostRace(err):
		return true, err
	case c.last && (lostLink(err) || ctx.Err() != nil):
		return false, fmt.Errorf("%w: %w", store.ErrUnknownOutcome, err)
	}
	return false, err
}

const (
	readWrite = `BEGIN ISOLATION LEVEL READ COMMITTED`
	readOnly  = `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`
)

// View implements store.Store.
func (s *Store) View(ctx context.Context, f func(store.Reader) error) error {
	return s.transact(ctx, readOnly, func(tx *relational.Tx) error { return f(tx) })
}

// Update implements store.Store.
func (s *Store) Update(ctx context.Context, f func(store.Tx) error) error {
	return s.transact(ctx, readWrite, func(tx *relational.Tx) error { return f(tx) })
}

// AcceptCommit implements store.Store.
func (s *Store) AcceptCommit(ctx context.Context, c *store.Commit) (a store.Accepted, err error) {
	err = s.idempotent(ctx, func() (*store.Accepted, error) {
		err := s.Update(ctx, func(tx store.Tx) (err error) {
			a, err = tx.AcceptCommit(c)
			return err
		})
		return &a, err
	})
	return a, err
}

// idempotent submits again what may or may not have been accepted: the ref
// decides. Then an entry that is there already counts as this caller's, so
// that it is fanned out.
func (s *Store) idempotent(ctx context.Context, submit func() (*store.Accepted, error)) error {
	_, err := submit()
	for n := 1; n < attempts && errors.Is(err, store.ErrUnknownOutcome) && ctx.Err() == nil; n++ {
		select {
		case <-ctx.Done():
			return err
		case <-time.After(rand.N(backoff << n)):
		}
		a, again := submit()
		if again == nil {
			a.Duplicate = false
			return nil
		}
		if !errors.Is(again, store.ErrUnavailable) {
			err = again
		}
	}
	return err
}

// Clean implements store.Store.
func (s *Store) Clean(ctx context.Context, p store.CleanPolicy) (store.Cleaned, error) {
	return s.cleaner.Clean(ctx, s, p)
}

// Stats implements store.Store.
func (s *Store) Stats(ctx context.Context) (store.Stats, error) {
	st := store.Stats{Schema: len(schemas)}
	err := s.View(ctx, func(r store.Reader) error { return relational.CountStats(r, &st) })
	if err != nil {
		return st, err
	}
	err = s.pool.QueryRow(ctx, `SELECT 'postgres ' || split_part(current_setting('server_version'), ' ', 1),
		(SELECT COALESCE(SUM(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE n.nspname = current_schema() AND c.relkind = 'r')`).Scan(&st.Engine, &st.Bytes)
	if err != nil {
		return st, fault(err)
	}
	for _, setting := range []struct{ name, why string }{
		{"fsync", "a crash of the machine can lose messages and forget epochs that were answered"},
		{"full_page_writes", "a crash of the machine can damage the database"},
	} {
		value := ""
		if err := s.pool.QueryRow(ctx, `SELECT current_setting($1)`, setting.name).Scan(&value); err != nil {
			return st, fault(err)
		}
		if value == "off" {
			st.Warnings = append(st.Warnings, fmt.Sprintf("PostgreSQL runs with %s = off: %s; turn it on in postgresql.conf", setting.name, setting.why))
		}
	}
	return st, nil
}

// Shared implements store.Store: other processes write, too.
func (s *Store) Shared() bool { return true }

// Backup implements store.Store: PostgreSQL has better ways.
func (s *Store) Backup(context.Context, string) error {
	return fmt.Errorf("%w: back the database up with pg_dump --format=custom, or with what else you use for PostgreSQL", store.ErrUnsupported)
}

// Close implements store.Store.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	close(s.quit)
	s.workers.Wait()
	s.pool.Close()
	return nil
}
