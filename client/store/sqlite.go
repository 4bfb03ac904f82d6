// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

const (
	// schemaVersion is stored in PRAGMA user_version.
	schemaVersion = 1
	// maxGroup bounds how many batches share one sync.
	maxGroup = 256
	// truncateAfter is how long the store waits in silence before it empties
	// the write-ahead log, in which replaced pages, and so used keys, stay
	// readable until then.
	truncateAfter = 500 * time.Millisecond
	// truncateEvery empties the log even under constant load.
	truncateEvery = 15 * time.Second
)

// SQLite is the default [Store]: one file, its write-ahead log while it is
// open, and a small ".lock" file beside it. Concurrent Apply calls share one
// sync of the disk. Deleted values are overwritten with zeros
// (PRAGMA secure_delete), and the write-ahead log is emptied as soon as the
// store is idle, so that used keys do not linger in the files.
type SQLite struct {
	account    string
	rolledBack bool
	lock       *lockFile

	readMu sync.Mutex
	read   *sqlite.Conn

	mu     sync.RWMutex // guards closed against sends on work
	closed bool
	work   chan *applyRequest
	done   chan struct{}
}

var _ Store = (*SQLite)(nil)

type applyRequest struct {
	ctx  context.Context
	ops  []Op
	done chan error
}

// Open opens or creates the store at path for the bare JID account. It fails
// with [ErrLocked] while another process has it open, and with a plain error
// when the file belongs to another account. The directory must exist.
func Open(path, account string) (*SQLite, error) {
	if account == "" {
		return nil, errors.New("store: opening: no account given")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("store: opening %q: %w", path, err)
	}
	lock, err := openLock(abs + ".lock")
	if err != nil {
		return nil, fmt.Errorf("store: opening %q: %w", path, err)
	}
	s := &SQLite{account: account, lock: lock, work: make(chan *applyRequest, maxGroup), done: make(chan struct{})}
	// The file exists with its final mode before SQLite writes a secret to it.
	f, err := os.OpenFile(abs, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		lock.close()
		return nil, fmt.Errorf("store: opening %q: %w", path, err)
	}
	f.Close()
	w, err := openConn(abs)
	if err != nil {
		lock.close()
		return nil, fmt.Errorf("store: opening %q: %w", path, err)
	}
	fail := func(err error) (*SQLite, error) {
		w.Close()
		if s.read != nil {
			s.read.Close()
		}
		lock.close()
		return nil, fmt.Errorf("store: opening %q: %w", path, err)
	}
	if err := migrate(w, account); err != nil {
		return fail(err)
	}
	gen, err := readGeneration(w)
	if err != nil {
		return fail(err)
	}
	if lock.generation() > gen {
		s.rolledBack = true
	}
	if s.read, err = openConn(abs); err != nil {
		return fail(err)
	}
	go s.writer(w, max(gen, lock.generation()))
	return s, nil
}

func openConn(path string) (*sqlite.Conn, error) {
	c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err != nil {
		return nil, err
	}
	c.SetBusyTimeout(10 * time.Second)
	for _, q := range []string{
		"PRAGMA page_size = 8192",
		"PRAGMA journal_mode = WAL",
		"PRAGMA synchronous = FULL",
		"PRAGMA secure_delete = ON",
		"PRAGMA temp_store = MEMORY",
		"PRAGMA cache_size = -2048",
	} {
		if err := sqlitex.ExecuteTransient(c, q, nil); err != nil {
			c.Close()
			return nil, fmt.Errorf("%s: %w", q, err)
		}
	}
	return c, nil
}

func migrate(c *sqlite.Conn, account string) (err error) {
	end, err := sqlitex.ImmediateTransaction(c)
	if err != nil {
		return err
	}
	defer end(&err)
	version := 0
	if err := sqlitex.ExecuteTransient(c, "PRAGMA user_version", &sqlitex.ExecOptions{ResultFunc: func(st *sqlite.Stmt) error {
		version = st.ColumnInt(0)
		return nil
	}}); err != nil {
		return err
	}
	switch {
	case version == 0:
		if err := sqlitex.ExecuteScript(c, `
			CREATE TABLE bound (account TEXT NOT NULL, generation INTEGER NOT NULL);
			CREATE TABLE kv (k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID;
			PRAGMA user_version = 1;`, nil); err != nil {
			return err
		}
		return sqlitex.Execute(c, "INSERT INTO bound VALUES (?, 0)", &sqlitex.ExecOptions{Args: []any{account}})
	case version > schemaVersion:
		return fmt.Errorf("the file has version %d, this program knows up to %d: use a newer lockstep", version, schemaVersion)
	}
	have := ""
	if err := sqlitex.Execute(c, "SELECT account FROM bound", &sqlitex.ExecOptions{ResultFunc: func(st *sqlite.Stmt) error {
		have = st.ColumnText(0)
		return nil
	}}); err != nil {
		return err
	}
	if have != account {
		return fmt.Errorf("the file belongs to %q, not to %q: give each account its own file", have, account)
	}
	return nil
}

func readGeneration(c *sqlite.Conn) (uint64, error) {
	var gen int64
	err := sqlitex.Execute(c, "SELECT generation FROM bound", &sqlitex.ExecOptions{ResultFunc: func(st *sqlite.Stmt) error {
		gen = st.ColumnInt64(0)
		return nil
	}})
	return uint64(gen), err
}

// Account returns the bare JID that the store is bound to.
func (s *SQLite) Account() string { return s.account }

// RolledBack reports whether the file is older than the ".lock" file beside
// it says it should be.
func (s *SQLite) RolledBack() bool { return s.rolledBack }

// Get returns the value of key and whether it is there.
func (s *SQLite) Get(key string) (value []byte, ok bool, err error) {
	s.readMu.Lock()
	defer s.readMu.Unlock()
	if s.read == nil {
		return nil, false, ErrClosed
	}
	err = sqlitex.Execute(s.read, "SELECT v FROM kv WHERE k = ?", &sqlitex.ExecOptions{
		Args: []any{[]byte(key)},
		ResultFunc: func(st *sqlite.Stmt) error {
			ok = true
			value = column(st, 0)
			return nil
		},
	})
	if err != nil {
		return nil, false, fmt.Errorf("store: reading: %w", err)
	}
	return value, ok, nil
}

// Scan visits a range of keys in order; see [Store].
func (s *SQLite) Scan(from, to string, fn func(string, []byte) error) error {
	s.readMu.Lock()
	defer s.readMu.Unlock()
	if s.read == nil {
		return ErrClosed
	}
	q, args := "SELECT k, v FROM kv WHERE k >= ? ORDER BY k", []any{[]byte(from)}
	if to != "" {
		q, args = "SELECT k, v FROM kv WHERE k >= ? AND k < ? ORDER BY k", append(args, []byte(to))
	}
	var stop error
	err := sqlitex.Execute(s.read, q, &sqlitex.ExecOptions{Args: args, ResultFunc: func(st *sqlite.Stmt) error {
		stop = fn(string(column(st, 0)), column(st, 1))
		return stop
	}})
	if stop != nil {
		return stop
	}
	if err != nil {
		return fmt.Errorf("store: reading: %w", err)
	}
	return nil
}

func column(st *sqlite.Stmt, i int) []byte {
	b := make([]byte, st.ColumnLen(i))
	st.ColumnBytes(i, b)
	return b
}

// Apply makes all changes durable, or none. Calls from several goroutines
// share one sync.
func (s *SQLite) Apply(ctx context.Context, ops []Op) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := checkOps(ops); err != nil {
		return err
	}
	r := &applyRequest{ctx: ctx, ops: ops, done: make(chan error, 1)}
	s.mu.RLock()
	if s.closed {
		s.mu.RUnlock()
		return ErrClosed
	}
	s.work <- r
	s.mu.RUnlock()
	// No select on ctx: the writer reads ops until it answers.
	return <-r.done
}

// Close finishes what is under way, empties the write-ahead log and releases
// the lock.
func (s *SQLite) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.work)
	s.mu.Unlock()
	s.readMu.Lock()
	err := s.read.Close()
	s.read = nil
	s.readMu.Unlock()
	<-s.done
	return err
}

// writer owns the writing connection: it gathers what waits, commits it with
// one sync, and then answers.
func (s *SQLite) writer(c *sqlite.Conn, gen uint64) {
	defer close(s.done)
	defer s.lock.close()
	defer c.Close()
	idle := time.NewTimer(truncateAfter)
	idle.Stop()
	dirty := false
	lastTruncate := time.Now()
	truncate := func() {
		// A reader in the middle of a Scan can hold this off: tried again
		// after the next batch or the next silence.
		busy := true
		err := sqlitex.ExecuteTransient(c, "PRAGMA wal_checkpoint(TRUNCATE)", &sqlitex.ExecOptions{ResultFunc: func(st *sqlite.Stmt) error {
			busy = st.ColumnInt(0) != 0
			return nil
		}})
		dirty = err != nil || busy
		lastTruncate = time.Now()
		if dirty {
			idle.Reset(truncateAfter)
		}
	}
	for {
		var first *applyRequest
		var ok bool
		select {
		case first, ok = <-s.work:
		case <-idle.C:
			truncate()
			continue
		}
		if !ok {
			if dirty {
				truncate()
			}
			return
		}
		group := []*applyRequest{first}
	gather:
		for len(group) < maxGroup {
			select {
			case r, ok := <-s.work:
				if !ok {
					break gather
				}
				group = append(group, r)
			default:
				break gather
			}
		}
		err := commitGroup(c, group, gen+1)
		if err != nil && len(group) > 1 {
			// One bad batch must not fail its neighbours.
			for _, r := range group {
				e := commitGroup(c, []*applyRequest{r}, gen+1)
				if e == nil {
					gen++
				}
				r.done <- wrapApply(e)
			}
		} else {
			if err == nil {
				gen++
			}
			for _, r := range group {
				r.done <- wrapApply(err)
			}
		}
		s.lock.setGeneration(gen)
		dirty = true
		if time.Since(lastTruncate) > truncateEvery {
			truncate()
		} else {
			idle.Reset(truncateAfter)
		}
	}
}

func wrapApply(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("store: writing: %w", err)
}

func commitGroup(c *sqlite.Conn, group []*applyRequest, gen uint64) (err error) {
	end, err := sqlitex.ImmediateTransaction(c)
	if err != nil {
		return err
	}
	defer end(&err)
	for _, r := range group {
		for _, op := range r.ops {
			if err := applyOne(c, op); err != nil {
				return err
			}
		}
	}
	return sqlitex.Execute(c, "UPDATE bound SET generation = ?", &sqlitex.ExecOptions{Args: []any{int64(gen)}})
}

func applyOne(c *sqlite.Conn, op Op) error {
	key := []byte(op.Key)
	switch {
	case op.Prefix:
		if end := PrefixEnd(op.Key); end != "" {
			return sqlitex.Execute(c, "DELETE FROM kv WHERE k >= ? AND k < ?", &sqlitex.ExecOptions{Args: []any{key, []byte(end)}})
		}
		return sqlitex.Execute(c, "DELETE FROM kv WHERE k >= ?", &sqlitex.ExecOptions{Args: []any{key}})
	case op.Value == nil:
		return sqlitex.Execute(c, "DELETE FROM kv WHERE k = ?", &sqlitex.ExecOptions{Args: []any{key}})
	default:
		// setArg binds an empty slice as NULL; the column is NOT NULL.
		st, err := c.Prepare("INSERT INTO kv (k, v) VALUES (?, ?) ON CONFLICT (k) DO UPDATE SET v = excluded.v")
		if err != nil {
			return err
		}
		defer st.Reset()
		st.BindBytes(1, key)
		if len(op.Value) == 0 {
			st.BindZeroBlob(2, 0)
		} else {
			st.BindBytes(2, op.Value)
		}
		_, err = st.Step()
		return err
	}
}

// lockFile keeps other processes out, and remembers the newest generation that
// the store has reached, so that a restored older file is noticed.
type lockFile struct {
	f *os.File
}

func openLock(path string) (*lockFile, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockExclusive(f); err != nil {
		f.Close()
		return nil, err
	}
	return &lockFile{f: f}, nil
}

const lockMagic = "lockstep"

func (l *lockFile) generation() uint64 {
	var b [16]byte
	if n, _ := l.f.ReadAt(b[:], 0); n < len(b) || !strings.HasPrefix(string(b[:]), lockMagic) {
		return 0
	}
	return binary.BigEndian.Uint64(b[8:])
}

// setGeneration is called after the batch is durable and is not synced itself:
// it may lag behind the store after a loss of power, and never leads.
func (l *lockFile) setGeneration(gen uint64) {
	var b [16]byte
	copy(b[:], lockMagic)
	binary.BigEndian.PutUint64(b[8:], gen)
	// A failure only costs the detection of a restored backup, for which the
	// group's log is a second witness.
	_, _ = l.f.WriteAt(b[:], 0)
}

func (l *lockFile) close() {
	// Closing the file would be enough but for a process that this one has just
	// forked: it shares the lock until it has become another program.
	_ = unlock(l.f)
	l.f.Close()
}
