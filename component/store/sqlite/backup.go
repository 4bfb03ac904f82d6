// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"zombiezen.com/go/sqlite/sqlitex"
)

// Backup implements store.Store. The copy is compact and complete by itself; it
// appears under its name only when it is on the disk. It never replaces a file.
func (s *Store) Backup(ctx context.Context, path string) error {
	if err := s.backup(ctx, path); err != nil {
		return fmt.Errorf("sqlite: backing up to %s: %w", path, err)
	}
	return nil
}

func (s *Store) backup(ctx context.Context, path string) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return errors.New("the file exists already")
	}
	part := path + ".part"
	f, err := os.OpenFile(part, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists: another backup is under way, or one was killed: then remove it", part)
	}
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(part)
		}
	}()
	err = s.withReader(ctx, func(c *conn) error {
		if err := pragma(c.c, "PRAGMA query_only = OFF"); err != nil {
			return err
		}
		defer pragma(c.c, "PRAGMA query_only = ON")
		return fault(sqlitex.ExecuteTransient(c.c, "VACUUM INTO ?1", &sqlitex.ExecOptions{Args: []any{part}}))
	})
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	// Link, unlike Rename, does not replace a file that has appeared meanwhile.
	if err := os.Link(part, path); err != nil {
		return err
	}
	if err := os.Remove(part); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
