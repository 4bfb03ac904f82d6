// SPDX-License-Identifier: Apache-2.0

// Package sqlite keeps a delivery service's state in one SQLite file.
//
// It is the default store: no server, and a backup is one file. One process
// has the file at a time; a second one is refused with store.ErrLocked, unless
// it opens the file read-only.
//
// The file is in WAL mode with synchronous=FULL: an answered transaction is on
// the disk. It is made with mode 0600, because it holds the service's signing
// keys, and so are its companions, FILE-wal and FILE-shm, and FILE.lock, which
// is empty and may stay when no process runs. Do not put it on a network file
// system: WAL needs shared memory and locks that work.
package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/component/store/internal/relational"
)

// Options say how to open a store. The zero value is good.
type Options struct {
	// ReadOnly opens a file that another process may be writing to. Writes
	// fail with store.ErrReadOnly.
	ReadOnly bool
	// Readers is how many Views run at once; zero means 4. Each costs up to
	// 2 MiB of page cache.
	Readers int
}

// A Store is a store.Store in a file.
type Store struct {
	path     string
	file     fs.FileInfo // the file that was opened; nil: not looked at again
	opened   time.Time
	placed   atomic.Int64 // when file was last seen at path, after opened; negative: it was not
	readOnly bool

	lock *sqlite.Conn // holds FILE.lock

	mu      sync.Mutex // of queue and closed
	queue   []*job
	closed  bool
	lead    chan struct{}      // of capacity 1: held by the leader
	w       *conn              // the leader's; nil: to be opened anew
	log     *relational.Blocks // the leader's, with what it remembers of groups
	busy    bool               // the leader's: the last batch had more than one job
	batches atomic.Int64

	readers chan *conn // of which nil are not open yet
	quit    chan struct{}

	cleaner relational.Cleaner
}

var _ store.Store = (*Store)(nil)

// Open opens the store in a file, which it makes if there is none, and brings
// its schema up to date. It fails with store.ErrLocked when another process has
// it open and with store.ErrNewerSchema when a newer lockstep has written it.
func Open(ctx context.Context, path string, o Options) (*Store, error) {
	s, err := open(ctx, path, o)
	if err != nil {
		return nil, fmt.Errorf("sqlite: opening %s: %w", path, err)
	}
	return s, nil
}

func open(ctx context.Context, path string, o Options) (_ *Store, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	// The lock must be found under whatever name the file is opened.
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if o.Readers <= 0 {
		o.Readers = 4
	}
	s := &Store{
		path: path, readOnly: o.ReadOnly, opened: time.Now(),
		lead: make(chan struct{}, 1), log: relational.NewBlocks(), readers: make(chan *conn, o.Readers), quit: make(chan struct{}),
	}
	for range o.Readers {
		s.readers <- nil
	}
	if o.ReadOnly {
		if _, err := os.Stat(path); err != nil {
			return nil, err
		}
		err := s.withReader(ctx, func(c *conn) error { return checkSchema(c.c) })
		if err != nil {
			s.Close()
			return nil, err
		}
		return s, nil
	}
	// The order matters: POSIX locks of a process on a file are lost when the
	// process closes any descriptor of it, so nothing touches the file before
	// this process is known to be the only one.
	if s.lock, err = takeLock(path + ".lock"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			if s.w != nil {
				s.w.c.Close()
			}
			s.lock.Close()
		}
	}()
	if err := private(path); err != nil {
		return nil, err
	}
	if err := ownLog(path); err != nil {
		return nil, err
	}
	if s.file, err = os.Stat(path); err != nil {
		return nil, err
	}
	if s.w, err = s.openWriter(); err != nil {
		return nil, err
	}
	if err := migrate(s.w.c); err != nil {
		return nil, err
	}
	return s, nil
}

// takeLock opens a file that this process alone may have open. It is an empty
// database, so that the locks are SQLite's own and work wherever SQLite does.
func takeLock(path string) (*sqlite.Conn, error) {
	if err := private(path); err != nil {
		return nil, err
	}
	c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return nil, err
	}
	c.SetBusyTimeout(0)
	for _, q := range []string{"PRAGMA locking_mode = EXCLUSIVE", "PRAGMA journal_mode = MEMORY", "BEGIN EXCLUSIVE"} {
		if err := sqlitex.ExecuteTransient(c, q, nil); err != nil {
			c.Close()
			if sqlite.ErrCode(err).ToPrimary() == sqlite.ResultBusy {
				return nil, store.ErrLocked
			}
			return nil, err
		}
	}
	return c, nil
}

// private makes sure that a file exists and that only its owner may read it.
// It must not open a file that exists.
func private(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err == nil {
		return f.Close()
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return os.Chmod(path, 0o600)
	}
	return nil
}

// ownLog refuses a file whose write-ahead log is that of another one: a backup,
// which is complete by itself, was put in the place of a store that had been
// killed. SQLite would apply the log to whatever it finds.
func ownLog(path string) error {
	info, err := os.Stat(path + "-wal")
	if err != nil || info.Size() == 0 {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	const readVersion = 19 // of the header: 2 if the file is in WAL mode
	var head [readVersion + 1]byte
	if _, err := io.ReadFull(f, head[:]); err != nil || head[readVersion] == 2 {
		return nil // what else may be wrong with it SQLite finds out
	}
	return fmt.Errorf("%s-wal is the log of another file. If this is a restored backup, remove %s-wal and %s-shm first", path, path, path)
}

// inPlace fails when the path does not lead to the store's file any more:
// what is written there would be gone when the process ends.
func (s *Store) inPlace() error {
	if s.file == nil {
		return nil
	}
	now, err := os.Stat(s.path)
	switch {
	case err == nil && os.SameFile(s.file, now), err != nil && !errors.Is(err, fs.ErrNotExist):
		s.placed.Store(int64(time.Since(s.opened)))
		return nil
	case err == nil:
		err = errors.New("another file is in its place")
	}
	s.placed.Store(-1)
	return fmt.Errorf("%w: the file was moved or deleted while it was in use; put it back, or stop the service first: %w", store.ErrUnavailable, err)
}

// lookAgain is how long a reader may take the file to be where it was.
const lookAgain = time.Second

// lately is inPlace for a connection that is open and reads: it cannot read
// another file than the one it has, and so looks only now and then. A writer
// looks each time.
func (s *Store) lately() error {
	if at := s.placed.Load(); at >= 0 && int64(time.Since(s.opened))-at < int64(lookAgain) {
		return nil
	}
	return s.inPlace()
}

// openWriter opens the connection that writes.
func (s *Store) openWriter() (*conn, error) {
	c, err := sqlite.OpenConn(s.path, sqlite.OpenReadWrite)
	if err != nil {
		return nil, fault(err)
	}
	c.SetBusyTimeout(5 * time.Second)
	for _, q := range []string{
		"PRAGMA page_size = 8192", // of a new file
		"PRAGMA journal_mode = WAL",
		"PRAGMA synchronous = FULL",
		"PRAGMA secure_delete = FAST",
		"PRAGMA temp_store = MEMORY",
		"PRAGMA cache_size = -16384",           // 16 MiB
		"PRAGMA wal_autocheckpoint = 2000",     // pages: 16 MiB
		"PRAGMA journal_size_limit = 67108864", // of a WAL that a long backup made grow
	} {
		if err := pragma(c, q); err != nil {
			c.Close()
			return nil, err
		}
	}
	return newConn(c), nil
}

func pragma(c *sqlite.Conn, q string) error {
	mode := ""
	err := sqlitex.ExecuteTransient(c, q, &sqlitex.ExecOptions{ResultFunc: func(st *sqlite.Stmt) error {
		mode = st.ColumnText(0)
		return nil
	}})
	if err == nil && q == "PRAGMA journal_mode = WAL" && mode != "wal" {
		return fmt.Errorf("the file system does not support SQLite's WAL mode (journal mode is %q); use a local disk", mode)
	}
	return fault(err)
}

// withReader runs f with a connection that reads.
func (s *Store) withReader(ctx context.Context, f func(*conn) error) (err error) {
	select {
	case <-s.quit:
		return store.ErrClosed
	default:
	}
	var c *conn
	select {
	case <-s.quit:
		return store.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	case c = <-s.readers:
	}
	defer func() { s.readers <- c }()
	look := s.lately
	if c == nil {
		look = s.inPlace
	}
	if err := look(); err != nil {
		return err
	}
	if c == nil {
		raw, err := sqlite.OpenConn(s.path, sqlite.OpenReadOnly)
		if err != nil {
			return fault(err)
		}
		raw.SetBusyTimeout(5 * time.Second)
		for _, q := range []string{"PRAGMA query_only = ON", "PRAGMA temp_store = MEMORY", "PRAGMA cache_size = -2048"} {
			if err := pragma(raw, q); err != nil {
				raw.Close()
				return err
			}
		}
		c = newConn(raw)
	}
	c.c.SetInterrupt(ctx.Done())
	defer c.c.SetInterrupt(nil)
	if err = f(c); err != nil && ctx.Err() != nil && errors.Is(err, store.ErrUnavailable) {
		err = ctx.Err()
	}
	return err
}

// View implements store.Store.
func (s *Store) View(ctx context.Context, f func(store.Reader) error) error {
	return s.withReader(ctx, func(c *conn) error {
		if _, err := c.Exec("BEGIN"); err != nil {
			return err
		}
		defer func() {
			c.c.SetInterrupt(nil)
			c.Exec("ROLLBACK") // a snapshot is left, there is nothing to lose
		}()
		tx := relational.NewTx(c, new(relational.Blocks))
		defer tx.End()
		return f(tx)
	})
}

// Update implements store.Store.
func (s *Store) Update(ctx context.Context, f func(store.Tx) error) error {
	return s.submit(ctx, f, false)
}

// Append implements store.Store.
func (s *Store) Append(ctx context.Context, e *store.NewEntry) (a store.Accepted, err error) {
	if err := relational.CheckEntry(e); err != nil {
		return a, err
	}
	err = s.submit(ctx, func(tx store.Tx) (err error) {
		a, err = tx.Append(e)
		return err
	}, true)
	return a, err
}

// AcceptCommit implements store.Store.
func (s *Store) AcceptCommit(ctx context.Context, c *store.Commit) (a store.Accepted, err error) {
	err = s.submit(ctx, func(tx store.Tx) (err error) {
		a, err = tx.AcceptCommit(c)
		return err
	}, true)
	return a, err
}

// Clean implements store.Store.
func (s *Store) Clean(ctx context.Context, p store.CleanPolicy) (store.Cleaned, error) {
	return s.cleaner.Clean(ctx, s, p)
}

// Shared implements store.Store: no other process writes.
func (s *Store) Shared() bool { return s.readOnly }

// Stats implements store.Store.
func (s *Store) Stats(ctx context.Context) (store.Stats, error) {
	st := store.Stats{Engine: "sqlite " + sqlite.Version, Schema: len(schemas)}
	err := s.View(ctx, func(r store.Reader) error { return relational.CountStats(r, &st) })
	for _, p := range []string{s.path, s.path + "-wal"} {
		if info, err := os.Stat(p); err == nil {
			st.Bytes += info.Size()
		}
	}
	return st, err
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.quit)
	s.mu.Unlock()
	for s.lead <- struct{}{}; s.waiting(); {
		s.runBatch()
	}
	var errs []error
	for range cap(s.readers) {
		if c := <-s.readers; c != nil {
			errs = append(errs, c.c.Close())
		}
	}
	if s.w != nil {
		errs = append(errs, s.w.c.Close()) // the last one: it empties the WAL
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

func (s *Store) waiting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue) > 0
}
