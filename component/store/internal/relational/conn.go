// SPDX-License-Identifier: Apache-2.0

// Package relational is the part of a store that SQLite and PostgreSQL have in
// common: every query of the store, written once in the SQL that both speak.
//
// The two databases differ in how a transaction is begun, batched and made
// durable, which is theirs to implement; a [Conn] is such a transaction, and a
// [Tx] turns it into a store.Tx.
//
// What the SQL here may use: parameters $1, $2 …; INSERT … ON CONFLICT;
// RETURNING; row values; partial indexes; and " FOR UPDATE", with or without
// " SKIP LOCKED", at the very end of a SELECT, where SQLite, which has one
// writer, drops it. In PostgreSQL a transaction is READ COMMITTED: whatever a
// write depends on must be locked or be part of its WHERE.
package relational

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lockstep-im/lockstep/component/store"
)

// A Conn is a transaction of a database. Arguments are int64, string and
// []byte (never nil). Text arguments have been checked to be UTF-8 without NUL.
type Conn interface {
	// Query calls row for each row. The Row is valid until row returns. When
	// row fails, the query ends and Query returns that error as it is.
	Query(q string, row func(Row) error, args ...any) error
	// Exec runs a statement and returns the number of rows that it changed.
	Exec(q string, args ...any) (int64, error)
	// Queue runs a statement now or, together with others, before the next
	// Query or Exec or the end of the transaction. An error may be reported then.
	Queue(q string, args ...any) error
}

// A Row is one row of a result. Columns count from 0. A NULL is 0, "" or nil.
type Row interface {
	Int(col int) int64
	Text(col int) string
	Bytes(col int) []byte // a copy
}

// errStop, from a row function, ends a query without failing it.
var errStop = errors.New("enough")

// A Tx is a store.Tx on a Conn; on a read-only Conn it serves as a store.Reader.
type Tx struct {
	c   Conn
	log Entries
	bad error
}

var _ store.Tx = (*Tx)(nil)

// NewTx makes a Tx of a running transaction of a database that has its logs as
// the Entries say.
func NewTx(c Conn, log Entries) *Tx { return &Tx{c: c, log: log} }

// End makes a Tx useless: its transaction is over.
func (t *Tx) End() { t.c = ended{} }

type ended struct{}

var errEnded = errors.New("store: transaction used after its function has returned")

func (ended) Query(string, func(Row) error, ...any) error { return errEnded }
func (ended) Exec(string, ...any) (int64, error)          { return 0, errEnded }
func (ended) Queue(string, ...any) error                  { return errEnded }

// doom makes sure that the transaction is not committed.
func (t *Tx) doom(err error) error {
	if t.bad == nil {
		t.bad = err
	}
	return err
}

func (t *Tx) query(q string, row func(Row) error, args ...any) error {
	if err := check(args); err != nil {
		return t.doom(err)
	}
	if err := t.c.Query(q, row, args...); err != nil && err != errStop {
		return t.doom(err)
	}
	return nil
}

func (t *Tx) exec(q string, args ...any) (int64, error) {
	if err := check(args); err != nil {
		return 0, t.doom(err)
	}
	n, err := t.c.Exec(q, args...)
	if err != nil {
		return 0, t.doom(err)
	}
	return n, nil
}

func (t *Tx) queue(q string, args ...any) error {
	if err := check(args); err != nil {
		return t.doom(err)
	}
	if err := t.c.Queue(q, args...); err != nil {
		return t.doom(err)
	}
	return nil
}

// one runs a query that has at most one row and reports whether it had one.
func (t *Tx) one(q string, row func(Row), args ...any) (bool, error) {
	found := false
	err := t.query(q, func(r Row) error {
		if !found {
			found = true
			row(r)
		}
		return nil
	}, args...)
	return found, err
}

// errBadText is what a text argument that no database can keep is refused with.
var errBadText = errors.New("store: text is not UTF-8 or contains NUL")

// check makes the arguments what a Conn expects: it replaces nil by an empty
// slice and refuses text that PostgreSQL would refuse, so that both databases
// answer alike.
func check(args []any) error {
	for i, a := range args {
		switch a := a.(type) {
		case string:
			if !utf8.ValidString(a) || strings.IndexByte(a, 0) >= 0 {
				return fmt.Errorf("%w: %.80q", errBadText, a)
			}
		case []byte:
			if a == nil {
				args[i] = []byte{}
			}
		}
	}
	return nil
}

// Millis is how times are stored: milliseconds since 1970, 0 for the zero time.
func Millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// MillisTime is the inverse of Millis.
func MillisTime(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// i64 maps a number that a peer may have chosen to what a database can
// compare: nothing stored is as large as the largest one.
func i64(u uint64) int64 { return int64(min(u, math.MaxInt64)) }

func b64(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// limit bounds a caller's limit; 0 or less means the default.
func limit(n, def int) int64 {
	if n <= 0 {
		n = def
	}
	return int64(n)
}

// nonNil keeps an empty value apart from a NULL one.
func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// notFound wraps store.ErrNotFound with what was looked for.
func notFound(format string, args ...any) error {
	return fmt.Errorf("%w: %s", store.ErrNotFound, fmt.Sprintf(format, args...))
}

// A DB is what the maintenance shared by both databases needs of a store.
type DB interface {
	Update(ctx context.Context, f func(store.Tx) error) error
	View(ctx context.Context, f func(store.Reader) error) error
}

// Doomed returns the error of a method that failed halfway, if there was one.
// The transaction must then be rolled back.
func (t *Tx) Doomed() error { return t.bad }
