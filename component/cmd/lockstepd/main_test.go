// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/component/store/sqlite"
)

func lockstepd(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(args, &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPrintedConfigIsTheConfig: what config prints can be used as it is.
func TestPrintedConfigIsTheConfig(t *testing.T) {
	code, first, errs := lockstepd(t, "config", "--domain=mls.capulet.lit", "--admins=juliet@capulet.lit,nurse@capulet.lit", "--limits-send=7/9", "--contact=abuse-addresses=mailto:abuse@capulet.lit")
	if code != 0 {
		t.Fatal(errs)
	}
	for _, want := range []string{`domain = "mls.capulet.lit"`, `admins = ["juliet@capulet.lit", "nurse@capulet.lit"]`, "[limits]", `send = "7/9"`, `log-age = "720h0m0s"`} {
		if !strings.Contains(first, want) {
			t.Errorf("config does not print %s", want)
		}
	}
	path := write(t, "lockstepd.toml", first)
	code, second, errs := lockstepd(t, "--config", path, "config")
	if code != 0 {
		t.Fatal(errs)
	}
	strip := func(s string) string {
		var keep []string
		for _, l := range strings.Split(s, "\n") {
			if !strings.HasPrefix(l, "#") {
				keep = append(keep, l)
			}
		}
		return strings.Join(keep, "\n")
	}
	if strip(first) != strip(second) {
		t.Errorf("printed, read and printed again:\n%s", second)
	}
}

func TestPrecedence(t *testing.T) {
	path := write(t, "c.toml", "domain = \"file.example\"\nname = \"from the file\"\n[limits]\nmax-devices = 3\n")
	t.Setenv("LOCKSTEPD_NAME", "from the environment")
	t.Setenv("LOCKSTEPD_LIMITS_MAX_DEVICES", "4")
	_, out, _ := lockstepd(t, "--config="+path, "--limits-max-devices=5", "config")
	for _, want := range []string{`domain = "file.example"`, `name = "from the environment"`, "max-devices = 5"} {
		if !strings.Contains(out, want) {
			t.Errorf("want %s in\n%s", want, out)
		}
	}
}

func TestUnknownKeys(t *testing.T) {
	for text, want := range map[string]string{
		"domian = \"x\"\n":                 `did you mean "domain"?`,
		"[limits]\nmax-pages = 1\n":        `did you mean "limits-max-page"?`,
		"secret = \"hush\"\n":              "secret-file",
		"domain = \"x\"\ndomain = \"y\"\n": "line 2",
	} {
		code, _, errs := lockstepd(t, "--config", write(t, "c.toml", text), "config")
		if code == 0 || !strings.Contains(errs, want) {
			t.Errorf("%q: code %d, %s, want %s", text, code, errs, want)
		}
		if strings.Contains(errs, "hush") {
			t.Errorf("the secret is in the error: %s", errs)
		}
	}
	if code, _, errs := lockstepd(t, "--config", "/nonexistent/c.toml", "config"); code == 0 || !strings.Contains(errs, "hint:") {
		t.Errorf("a missing file: %d %s", code, errs)
	}
	if code, _, _ := lockstepd(t, "--limits-send=fast", "config"); code == 0 {
		t.Error("a rate that is none is accepted")
	}
}

// TestCheck names everything that is wrong, not only the first thing.
func TestCheck(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close() // nobody listens there
	code, out, _ := lockstepd(t, "check", "--domain=mls.capulet.lit", "--store="+filepath.Join(dir, "no", "db"), "--http=")
	if code == 0 || !strings.Contains(out, "FAIL  secret") || !strings.Contains(out, "FAIL  store") || !strings.Contains(out, "ok    clock") {
		t.Errorf("check: %d\n%s", code, out)
	}
	secret := write(t, "secret", "0123456789abcdef0123456789abcdef\n")
	os.Chmod(secret, 0o644)
	code, out, _ = lockstepd(t, "check", "--domain=mls.capulet.lit", "--store="+filepath.Join(dir, "db"), "--secret-file="+secret, "--server="+addr, "--http=")
	if code == 0 || !strings.Contains(out, "warn  secret") || !strings.Contains(out, "ok    store") || !strings.Contains(out, "FAIL  link") || !strings.Contains(out, "hint:") {
		t.Errorf("check: %d\n%s", code, out)
	}
	if strings.Contains(out, "0123456789") {
		t.Error("check prints the secret")
	}
}

func TestInspect(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	st, err := sqlite.Open(context.Background(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Update(t.Context(), func(tx store.Tx) error {
		_, err := tx.AddReport(&store.Report{
			Stamp: time.Now(), Reporter: "juliet@capulet.lit", Group: "balcony@mls.capulet.lit", Seq: 7, Reason: "spam", Text: "pills\x1b[2J",
			Evidence: []byte(`{"Kind":"abuse","User":"romeo@montague.lit","Entry":"AAECAw==","Chain":"abc","Evidence":[{"Type":"plaintext","Bytes":"YnV5CnBpbGxzGw=="}]}`),
		}, 0)
		return errors.Join(err, tx.PutSession(store.Session{JID: "juliet@capulet.lit/balcony", User: "juliet@capulet.lit", Device: "d1"}))
	}); err != nil {
		t.Fatal(err)
	}
	st.Close()
	if code, out, errs := lockstepd(t, "user", "show", "Juliet@capulet.lit/chamber", "--store="+path); code != 0 || !strings.Contains(out, "GROUP") {
		t.Errorf("user show: %d %s %s", code, out, errs)
	}
	if code, out, errs := lockstepd(t, "group", "list", "--store="+path); code != 0 || !strings.Contains(out, "GROUP") {
		t.Errorf("group list: %d %s %s", code, out, errs)
	}
	if code, _, errs := lockstepd(t, "group", "show", "x@mls.capulet.lit", "--store="+path); code == 0 || !strings.Contains(errs, "hint:") {
		t.Errorf("group show: %d %s", code, errs)
	}
	if code, _, errs := lockstepd(t, "user", "purge", "x@capulet.lit", "--store="+path); code == 0 || !strings.Contains(errs, "--yes") {
		t.Errorf("user purge: %d %s", code, errs)
	}
	if code, out, errs := lockstepd(t, "report", "list", "--store="+path); code != 0 || !strings.Contains(out, "spam") || !strings.Contains(out, "balcony@mls") {
		t.Errorf("report list: %d %s %s", code, out, errs)
	}
	code, out, errs := lockstepd(t, "report", "show", "1", "--store="+path)
	if code != 0 || strings.Contains(out, "\x1b") {
		t.Errorf("report show: %d %q %s", code, out, errs)
	}
	for _, want := range []string{"romeo@montague.lit", "4 bytes, chain abc", "plaintext, 10 bytes", "    pills"} {
		if !strings.Contains(out, want) {
			t.Errorf("report show lacks %q:\n%s", want, out)
		}
	}
	if code, out, errs := lockstepd(t, "report", "show", "1", "--json", "--store="+path); code != 0 || !strings.HasPrefix(out, `{"Kind":"abuse"`) {
		t.Errorf("report show --json: %d %s %s", code, out, errs)
	}
	if code, _, errs := lockstepd(t, "report", "show", "2", "--store="+path); code == 0 || !strings.Contains(errs, "hint:") {
		t.Errorf("report show of none: %d %s", code, errs)
	}
	if code, out, errs := lockstepd(t, "report", "delete", "1", "2", "--store="+path); code != 0 {
		t.Errorf("report delete: %d %s %s", code, out, errs)
	}
	if _, out, _ := lockstepd(t, "report", "list", "--store="+path); strings.Contains(out, "spam") {
		t.Errorf("the report is still there: %s", out)
	}
	copied := path + ".copy"
	if code, out, errs := lockstepd(t, "backup", copied, "--store="+path); code != 0 || !strings.Contains(out, "bytes") {
		t.Errorf("backup: %d %s %s", code, out, errs)
	}
	if code, out, _ := lockstepd(t, "version"); code != 0 || !strings.HasPrefix(out, "lockstepd ") {
		t.Errorf("version: %d %s", code, out)
	}
}

// TestCheckChangesNothing: who checks is often root, and files of root's keep
// the service from starting.
func TestCheckChangesNothing(t *testing.T) {
	dir := t.TempDir()
	db := filepath.Join(dir, "l.db")
	args := []string{"check", "--http=", "--domain=mls.capulet.lit", "--server=127.0.0.1:1", "--store=" + db}
	t.Setenv("LOCKSTEPD_SECRET", "0123456789abcdef")
	_, out, _ := lockstepd(t, args...)
	if !strings.Contains(out, "ok    store") || !strings.Contains(out, "not there yet") || !strings.Contains(out, "FAIL  link") {
		t.Errorf("printed:\n%s", out)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
		t.Errorf("there are files now: %v, %v", list, err)
	}
	args[len(args)-1] = "--store=" + filepath.Join(dir, "nowhere", "l.db")
	if _, out, _ = lockstepd(t, args...); !strings.Contains(out, "FAIL  store") || !strings.Contains(out, "make the folder") {
		t.Errorf("without the folder:\n%s", out)
	}
	other := write(t, "other", "this is no database, and long enough to be looked at")
	args[len(args)-1] = "--store=" + other
	if _, out, _ = lockstepd(t, args...); !strings.Contains(out, "no SQLite database") {
		t.Errorf("another file:\n%s", out)
	}
}

// TestCheckMeetsAnother: the lockstepd of another domain at the same address is
// not taken for this one.
func TestCheckMeetsAnother(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte(`{"ok":true,"link":true,"store":true,"uptime":"3s","version":"1","domain":"mls.montague.lit"}`))
	}))
	defer s.Close()
	t.Setenv("LOCKSTEPD_SECRET", "0123456789abcdef")
	at := strings.TrimPrefix(s.URL, "http://")
	for domain, want := range map[string]string{"mls.capulet.lit": "FAIL  http", "mls.montague.lit": "ok    link"} {
		_, out, _ := lockstepd(t, "check", "--http="+at, "--domain="+domain, "--server=127.0.0.1:1", "--store="+filepath.Join(t.TempDir(), "l.db"))
		if !strings.Contains(out, want) {
			t.Errorf("%s: want %q in\n%s", domain, want, out)
		}
	}
}

// TestRosterConsent is refused with the reason.
func TestRosterConsent(t *testing.T) {
	t.Setenv("LOCKSTEPD_SECRET", "0123456789abcdef")
	_, out, _ := lockstepd(t, "check", "--http=", "--domain=mls.capulet.lit", "--consent=roster", "--server=127.0.0.1:1", "--store="+filepath.Join(t.TempDir(), "l.db"))
	if !strings.Contains(out, "FAIL  options") || !strings.Contains(out, "XEP-0356") {
		t.Errorf("printed:\n%s", out)
	}
}
