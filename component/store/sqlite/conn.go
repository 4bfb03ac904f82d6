// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"fmt"
	"regexp"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/component/store/internal/relational"
)

// conn is a connection as relational.Conn. It is used by one goroutine at a time.
type conn struct {
	c     *sqlite.Conn
	stmts map[string]*sqlite.Stmt // by the SQL as package relational writes it
}

func newConn(c *sqlite.Conn) *conn {
	return &conn{c: c, stmts: make(map[string]*sqlite.Stmt)}
}

var param = regexp.MustCompile(`\$(\d+)`)

// dialect makes SQLite's SQL of a query: $1 would be a name there, not a
// number, and with one writer there is nothing to lock.
func dialect(q string) string {
	q = strings.TrimSuffix(q, " SKIP LOCKED")
	q = strings.TrimSuffix(q, " FOR UPDATE")
	return param.ReplaceAllString(q, "?$1")
}

func (c *conn) bind(q string, args []any) (*sqlite.Stmt, error) {
	s := c.stmts[q]
	if s == nil {
		var err error
		if s, err = c.c.Prepare(dialect(q)); err != nil {
			return nil, fault(err)
		}
		c.stmts[q] = s
	}
	for i, a := range args {
		switch a := a.(type) {
		case int64:
			s.BindInt64(i+1, a)
		case string:
			s.BindText(i+1, a)
		case []byte:
			s.BindBytes(i+1, a)
		default:
			panic(fmt.Sprintf("sqlite: argument %d is a %T", i+1, a))
		}
	}
	return s, nil
}

// Query implements relational.Conn.
func (c *conn) Query(q string, row func(relational.Row) error, args ...any) error {
	s, err := c.bind(q, args)
	if err != nil {
		return err
	}
	for {
		more, err := s.Step()
		if err != nil {
			return fault(err)
		}
		if !more {
			break
		}
		if err := row(result{s}); err != nil {
			s.Reset()
			return err
		}
	}
	return fault(s.Reset())
}

// Exec implements relational.Conn.
func (c *conn) Exec(q string, args ...any) (int64, error) {
	s, err := c.bind(q, args)
	if err != nil {
		return 0, err
	}
	if _, err := s.Step(); err != nil {
		return 0, fault(err)
	}
	if err := s.Reset(); err != nil {
		return 0, fault(err)
	}
	return int64(c.c.Changes()), nil
}

// Inserted returns the number of the row that was inserted last.
func (c *conn) Inserted() int64 { return c.c.LastInsertRowID() }

// Queue implements relational.Conn.
func (c *conn) Queue(q string, args ...any) error {
	_, err := c.Exec(q, args...)
	return err
}

// result is a row. Its statement is at a row until the function that got it returns.
type result struct{ s *sqlite.Stmt }

func (r result) Int(col int) int64   { return r.s.ColumnInt64(col) }
func (r result) Text(col int) string { return r.s.ColumnText(col) }

func (r result) Bytes(col int) []byte {
	n := r.s.ColumnLen(col)
	if n == 0 {
		return nil
	}
	b := make([]byte, n)
	r.s.ColumnBytes(col, b)
	return b
}

// fault says in the store's terms what an error of SQLite means: a disk that
// is full, slow or broken is not the caller's fault.
func fault(err error) error {
	if err == nil {
		return nil
	}
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultFull:
		return fmt.Errorf("%w: the disk or the quota is full: %w", store.ErrUnavailable, err)
	case sqlite.ResultIOErr, sqlite.ResultBusy, sqlite.ResultCantOpen, sqlite.ResultReadOnly, sqlite.ResultNoMem, sqlite.ResultPerm:
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	case sqlite.ResultInterrupt:
		return fmt.Errorf("%w: interrupted", store.ErrUnavailable)
	case sqlite.ResultNotADB:
		return fmt.Errorf("store: it is no SQLite database; is the path right? Else restore a backup: %w", err)
	case sqlite.ResultCorrupt:
		return fmt.Errorf("store: the database is damaged, restore a backup: %w", err)
	}
	return fmt.Errorf("store: %w", err)
}
