// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync/atomic"

	"zombiezen.com/go/sqlite"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/component/store/internal/relational"
)

// SQLite has one writer at a time. Whoever finds none becomes the leader: he
// runs his own transaction and all that wait, one after the other between one
// BEGIN and one COMMIT, and answers them when that COMMIT's sync is done. So
// the sync, by far the dearest part, is shared by as many as came in during
// the one before, and a lone caller pays for no change of goroutine. While
// there is company, the leader lets those who are on their way come in before
// he commits: else half of them would wait for the sync of the other half.
//
//	caller ──▶ queue ─┐
//	caller ──▶ queue ─┼▶ leader: BEGIN  job  SAVEPOINT job RELEASE …  COMMIT ──▶ all callers
//	caller ──▶ queue ─┘
//
// A job that fails takes back its own writes (SAVEPOINT) and none of the
// others'. When the whole batch is lost through one job (SQLite rolls back by
// itself on some errors), the others are run again, each for itself.

const maxBatch = 256 // jobs in one COMMIT

// The states of a job.
const (
	jobQueued    = iota
	jobTaken     // a leader has it: its outcome must be waited for
	jobAbandoned // the caller has gone: the leader skips it
)

type job struct {
	f     func(store.Tx) error
	clean bool // if it fails without dooming its Tx and without a panic, it has written nothing
	state atomic.Int32
	ran   chan struct{} // closed when f will not be run again
	done  chan error    // of capacity 1: the outcome
	err   error         // f's, decided though the batch may still be lost
}

// take claims a job for the leader unless its caller has gone.
func (j *job) take() bool { return j.state.CompareAndSwap(jobQueued, jobTaken) }

func (j *job) finish(err error) {
	close(j.ran)
	j.done <- err
}

// submit runs a transaction and returns its outcome.
func (s *Store) submit(ctx context.Context, f func(store.Tx) error, clean bool) error {
	if s.readOnly {
		return store.ErrReadOnly
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	err := s.enqueue(ctx, f, clean)
	var p *panicError
	if errors.As(err, &p) {
		panic(fmt.Sprintf("%v\n\n%s", p.value, p.stack))
	}
	return err
}

func (s *Store) enqueue(ctx context.Context, f func(store.Tx) error, clean bool) error {
	j := &job{f: f, clean: clean, ran: make(chan struct{}), done: make(chan error, 1)}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return store.ErrClosed
	}
	s.queue = append(s.queue, j)
	s.mu.Unlock()
	for {
		select {
		case err := <-j.done:
			return err
		case s.lead <- struct{}{}:
			// At most one batch, which has this job unless an earlier one had it.
			s.runBatch()
			<-s.lead
		case <-ctx.Done():
			return j.abandon(ctx.Err())
		}
	}
}

// abandon gives a job up whose caller's time has run out.
func (j *job) abandon(cause error) error {
	if j.state.CompareAndSwap(jobQueued, jobAbandoned) {
		return cause
	}
	<-j.ran // f uses the caller's variables
	select {
	case err := <-j.done:
		return err
	default:
		return fmt.Errorf("%w: %w while committing", store.ErrUnknownOutcome, cause)
	}
}

// next returns a job that waits, or nil.
func (s *Store) next() *job {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) > 0 {
		j := s.queue[0]
		s.queue[0] = nil
		if s.queue = s.queue[1:]; len(s.queue) == 0 {
			s.queue = nil
		}
		if j.take() {
			return j
		}
	}
	return nil
}

// runBatch runs what waits in one transaction.
func (s *Store) runBatch() {
	j := s.next()
	if j == nil {
		return
	}
	if err := s.begin(); err != nil {
		j.finish(err)
		return
	}
	var batch []*job
	// A function that ends its goroutine (runtime.Goexit, which t.FailNow is)
	// ends the leader: the others must not wait for ever.
	whole := false
	defer func() {
		if !whole {
			s.rollback()
			for _, j := range append(batch, j) {
				j.finish(fmt.Errorf("%w: a transaction ended its goroutine", store.ErrUnavailable))
			}
			<-s.lead
		}
	}()
	for j != nil {
		if !s.runJob(j) {
			s.runSingly(append(batch, j))
			whole = true
			return
		}
		batch = append(batch, j)
		if len(batch) >= maxBatch {
			break
		}
		if j = s.next(); j == nil && s.busy {
			// Callers that can run now may share the sync. Where there are none,
			// looking costs a thread's waking.
			runtime.Gosched()
			j = s.next()
		}
	}
	whole = true
	s.busy = len(batch) > 1
	for _, j := range batch {
		close(j.ran)
	}
	s.batches.Add(1)
	err := s.commit()
	for _, j := range batch {
		if j.err == nil {
			j.err = err
		}
		j.done <- j.err
	}
}

// runJob runs one job inside the batch's transaction and reports whether the
// transaction still holds what the jobs before it wrote.
func (s *Store) runJob(j *job) (intact bool) {
	point := !j.clean
	if point {
		if _, err := s.w.Exec("SAVEPOINT job"); err != nil {
			return false
		}
	}
	tx := relational.NewTx(s.w, s.log)
	j.err = guard(j.f, tx)
	doomed := tx.Doomed()
	_, panicked := j.err.(*panicError)
	switch {
	case s.w.c.AutocommitEnabled():
		return false // SQLite rolled everything back
	case j.err == nil && doomed == nil:
		if point {
			_, err := s.w.Exec("RELEASE job")
			return err == nil
		}
		return true
	}
	if j.err == nil {
		j.err = doomed
	}
	switch {
	case point:
		s.log.Forget()
		if _, err := s.w.Exec("ROLLBACK TO job"); err != nil {
			return false
		}
		_, err := s.w.Exec("RELEASE job")
		return err == nil
	case doomed == nil && !panicked:
		return true
	}
	return false
}

// runSingly takes back a batch and runs each of its jobs in a transaction of
// its own.
func (s *Store) runSingly(batch []*job) {
	for _, j := range batch {
		s.rollback()
		if err := s.begin(); err != nil {
			j.finish(err)
			continue
		}
		tx := relational.NewTx(s.w, s.log)
		err := guard(j.f, tx)
		if err == nil {
			err = tx.Doomed()
		}
		if err == nil {
			err = s.commit()
		}
		s.batches.Add(1)
		j.finish(err)
	}
	s.rollback()
}

// A panicError carries a panic of a caller's function from the leader to the
// caller whose it is.
type panicError struct {
	value any
	stack []byte
}

func (p *panicError) Error() string { return fmt.Sprintf("panic in transaction: %v", p.value) }

func guard(f func(store.Tx) error, tx *relational.Tx) (err error) {
	defer func() {
		tx.End()
		if v := recover(); v != nil {
			err = &panicError{v, debug.Stack()}
		}
	}()
	return f(tx)
}

// begin opens a transaction. After a failure that left the connection unusable
// it opens a new one.
func (s *Store) begin() error {
	if err := s.inPlace(); err != nil {
		return err
	}
	if s.w == nil {
		w, err := s.openWriter()
		if err != nil {
			return err
		}
		s.w = w
	}
	if _, err := s.w.Exec("BEGIN IMMEDIATE"); err != nil {
		s.rollback()
		return err
	}
	return nil
}

// commit makes the transaction durable, or takes it back.
func (s *Store) commit() error {
	_, err := s.w.Exec("COMMIT")
	if err == nil {
		return nil
	}
	s.rollback()
	if sqlite.ErrCode(err).ToPrimary() == sqlite.ResultIOErr {
		// The frames may be in the file, though the sync failed: after a crash
		// they could be found.
		return fmt.Errorf("%w: %w", store.ErrUnknownOutcome, err)
	}
	return err
}

// rollback leaves no transaction open, if need be by giving up the connection.
func (s *Store) rollback() {
	s.log.Forget()
	if s.w == nil || s.w.c.AutocommitEnabled() {
		return
	}
	if _, err := s.w.Exec("ROLLBACK"); err != nil || !s.w.c.AutocommitEnabled() {
		s.w.c.Close()
		s.w = nil
	}
}
