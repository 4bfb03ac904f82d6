// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
)

// A watchedStore remembers whether the last write failed. A disk that is full or
// that has become read-only is still read, so that looking does not show it, and
// a probe that wrote would make the disk busy for nothing.
type watchedStore struct {
	store.Store
	log     *slog.Logger
	metrics *metrics
	now     func() time.Time

	mu    sync.Mutex
	since time.Time // of the first failure after the last good write; zero: writing works
	err   error     // the last failure's
}

func (w *watchedStore) Update(ctx context.Context, f func(tx store.Tx) error) error {
	err := w.Store.Update(ctx, f)
	w.failed(err)
	return err // success proves nothing: f may have written nothing
}

func (w *watchedStore) Append(ctx context.Context, e *store.NewEntry) (store.Accepted, error) {
	a, err := w.Store.Append(ctx, e)
	if w.failed(err); err == nil && !a.Duplicate {
		w.wrote()
	}
	return a, err
}

func (w *watchedStore) AcceptCommit(ctx context.Context, c *store.Commit) (store.Accepted, error) {
	a, err := w.Store.AcceptCommit(ctx, c)
	if w.failed(err); err == nil && !a.Duplicate {
		w.wrote()
	}
	return a, err
}

func (w *watchedStore) Clean(ctx context.Context, p store.CleanPolicy) (store.Cleaned, error) {
	n, err := w.Store.Clean(ctx, p)
	w.failed(err)
	return n, err
}

// failed notes the outcome of a write, if it is the store's fault. Time that ran
// out is: nobody gives a write less of it than a store in order needs.
func (w *watchedStore) failed(err error) {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, store.ErrClosed) ||
		!errors.Is(err, store.ErrUnknownOutcome) && !inTrouble(err) {
		return
	}
	w.mu.Lock()
	first := w.since.IsZero()
	if first {
		w.since = w.now()
	}
	w.err = err
	w.mu.Unlock()
	if first {
		w.metrics.failing.Set(1)
		w.log.Error("the store does not take writes; nothing new is accepted until it does, nothing accepted is lost. "+
			"Is the disk full or read-only, or the database away?", "error", err)
	}
}

// wrote notes that something was written.
func (w *watchedStore) wrote() {
	w.mu.Lock()
	since := w.since
	w.since, w.err = time.Time{}, nil
	w.mu.Unlock()
	if !since.IsZero() {
		w.metrics.failing.Set(0)
		w.log.Warn("the store takes writes again", "after", w.now().Sub(since).Round(time.Second))
	}
}

// fault says since when writes fail, and why; zero and nil if they do not.
func (w *watchedStore) fault() (time.Time, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.since, w.err
}

// retry writes something small while writes fail, until ctx ends: who is told
// that the service is not ready may not send it anything that would show that it
// is again.
func (w *watchedStore) retry(ctx context.Context) {
	tick := time.NewTicker(storeRetry)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if since, _ := w.fault(); since.IsZero() {
			continue
		}
		tctx, cancel := context.WithTimeout(ctx, requestTimeout)
		err := w.Update(tctx, func(tx store.Tx) error {
			return tx.SetSetting("", settingWritten, []byte(w.now().UTC().Format(time.RFC3339Nano)))
		})
		cancel()
		if err == nil {
			w.wrote()
		}
	}
}

// settingWritten is when the service last tried whether the store takes writes.
const settingWritten = "written"
