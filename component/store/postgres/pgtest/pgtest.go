// SPDX-License-Identifier: Apache-2.0

// Package pgtest finds or starts a real PostgreSQL server for tests.
//
// With LOCKSTEP_POSTGRES set to a connection string, that server is used; its
// user must be allowed to create schemas. Otherwise a private cluster of the
// binaries found in PATH or where Debian puts them is started in a temporary
// directory, on a Unix socket, as an ordinary user (PostgreSQL refuses root),
// and is gone with the test process.
//
// Without a server tests are skipped, unless LOCKSTEP_E2E=require: then they fail.
package pgtest

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Main runs a package's tests and stops the server that they shared. Call it
// from TestMain.
func Main(m *testing.M) int {
	defer func() {
		if shared != nil {
			shared.remove()
		}
	}()
	return m.Run()
}

var (
	once   sync.Once
	shared *Cluster
	failed error
	number atomic.Int64
)

// DSN returns a connection string whose search_path is an empty schema of the
// test's own, on a server that the tests of this process share.
func DSN(t testing.TB) string {
	t.Helper()
	dsn := os.Getenv("LOCKSTEP_POSTGRES")
	if dsn == "" {
		once.Do(func() { shared, failed = start() })
		if failed != nil {
			missing(t, failed)
		}
		dsn = shared.DSN()
	}
	return schema(t, dsn)
}

// missing skips or fails a test for want of a server.
func missing(t testing.TB, err error) {
	t.Helper()
	if os.Getenv("LOCKSTEP_E2E") == "require" {
		t.Fatalf("PostgreSQL is required but not there (Debian: apt-get install postgresql): %v", err)
	}
	t.Skipf("SKIPPED, no PostgreSQL (Debian: apt-get install postgresql, or set LOCKSTEP_POSTGRES): %v", err)
}

func schema(t testing.TB, dsn string) string {
	t.Helper()
	name := fmt.Sprintf("lockstep_test_%d_%d", os.Getpid(), number.Add(1))
	run := func(sql string) error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		c, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return err
		}
		defer c.Close(ctx)
		_, err = c.Exec(ctx, sql)
		return err
	}
	if err := run("CREATE SCHEMA " + name); err != nil {
		t.Fatalf("PostgreSQL: %v", err)
	}
	t.Cleanup(func() {
		if err := run("SET client_min_messages = warning; DROP SCHEMA " + name + " CASCADE"); err != nil {
			t.Logf("PostgreSQL: %v", err)
		}
	})
	if strings.Contains(dsn, "://") {
		sep := "?"
		if strings.Contains(dsn, "?") {
			sep = "&"
		}
		return dsn + sep + "search_path=" + name
	}
	return dsn + " search_path=" + name
}

// A Cluster is a server of the test's own.
type Cluster struct {
	bin, dir string
	as       *syscall.SysProcAttr
	log      bytes.Buffer
	cmd      *exec.Cmd
	ended    chan struct{}
}

// NewCluster starts a server that the test may kill.
func NewCluster(t testing.TB) *Cluster {
	t.Helper()
	c, err := start()
	if err != nil {
		missing(t, err)
	}
	t.Cleanup(c.remove)
	return c
}

// DSN is the cluster's connection string.
func (c *Cluster) DSN() string {
	return "postgres:///postgres?user=postgres&sslmode=disable&host=" + url.QueryEscape(c.dir)
}

func start() (*Cluster, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	c := &Cluster{bin: bin}
	// Not t.TempDir: its path may be too long for a socket, and closed to
	// the user that the server runs as.
	if c.dir, err = os.MkdirTemp("/tmp", "lockstep-pg"); err != nil {
		return nil, err
	}
	if c.as, err = unprivileged(c.dir); err != nil {
		c.remove()
		return nil, err
	}
	// A locale that does not sort by bytes is the harder test; not every build has ICU.
	args := []string{"-D", c.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"}
	if c.command("initdb", append(args, "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en")...).Run() != nil {
		os.RemoveAll(c.data())
		if out, err := c.command("initdb", append(args, "--locale=C")...).CombinedOutput(); err != nil {
			c.remove()
			return nil, fmt.Errorf("initdb: %w\n%s", err, out)
		}
	}
	if err := c.Start(); err != nil {
		c.remove()
		return nil, err
	}
	return c, nil
}

func (c *Cluster) data() string { return filepath.Join(c.dir, "data") }

func (c *Cluster) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(c.bin, name), args...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PGDATA=")
	cmd.SysProcAttr = c.as
	return cmd
}

// Start starts the server and waits until it answers.
func (c *Cluster) Start() error {
	c.cmd = c.command("postgres", "-D", c.data(), "-k", c.dir, "-c", "listen_addresses=",
		"-c", "max_connections=200", "-c", "shared_buffers=32MB", "-c", "log_min_messages=fatal")
	c.log.Reset()
	c.cmd.Stdout, c.cmd.Stderr = &c.log, &c.log
	c.ended = make(chan struct{})
	begun := make(chan error)
	go func() {
		// The server is told to die with the thread that started it. The thread
		// must outlive it, too: it may have started others of this process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := c.cmd.Start()
		begun <- err
		if err == nil {
			c.cmd.Wait()
		}
		close(c.ended)
	}()
	if err := <-begun; err != nil {
		return err
	}
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		select {
		case <-c.ended:
			return fmt.Errorf("postgres ended: %s", c.log.String())
		default:
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		conn, err := pgx.Connect(ctx, c.DSN())
		if err == nil {
			conn.Close(ctx)
			cancel()
			return nil
		}
		cancel()
	}
	c.Kill()
	return fmt.Errorf("postgres does not answer: %s", c.log.String())
}

// Kill ends the server at once, as a crash does: it will have to recover.
func (c *Cluster) Kill() {
	if c.cmd != nil && c.cmd.Process != nil {
		c.cmd.Process.Signal(syscall.SIGQUIT)
		<-c.ended
	}
}

func (c *Cluster) remove() {
	c.Kill()
	os.RemoveAll(c.dir)
}

// binaries finds the directory of postgres and initdb.
func binaries() (string, error) {
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	sort.Sort(sort.Reverse(sort.StringSlice(dirs)))
	if p, err := exec.LookPath("initdb"); err == nil {
		dirs = append([]string{filepath.Dir(p)}, dirs...)
	}
	for _, d := range dirs {
		if _, err := os.Stat(filepath.Join(d, "initdb")); err == nil {
			if _, err := os.Stat(filepath.Join(d, "postgres")); err == nil {
				return d, nil
			}
		}
	}
	return "", fmt.Errorf("neither initdb in PATH nor /usr/lib/postgresql/*/bin")
}
