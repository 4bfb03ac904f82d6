// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// scramIterations is what both servers store: the least that RFC 5802 §5.1 lets
// a server announce, because every login of a test pays for it.
const scramIterations = 4096

// NewAccount invents an account of this server, without creating it: the name,
// a random suffix, and a random password.
func (s *Server) NewAccount(name string) Account {
	return Account{User: name + "-" + randomLabel(), Domain: s.Domain(), Password: randomSecret()}
}

// Account creates an account whose name begins with the given one (juliet
// becomes juliet-x7k2m9), so that tests may share a server.
func (s *Server) Account(t TB, name string) Account {
	t.Helper()
	a := s.NewAccount(name)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := s.Register(ctx, a); err != nil {
		t.Fatalf("%v", err)
	}
	return a
}

// Register creates accounts, under exactly their names, while the server runs.
// A thousand take a few seconds. An existing account's password is replaced on
// Prosody and is an error on ejabberd.
func (s *Server) Register(ctx context.Context, accounts ...Account) error {
	for _, a := range accounts {
		if a.Domain != s.Domain() {
			return fmt.Errorf("servers: registering %s: the domain of this server is %s", a.JID(), s.Domain())
		}
		if a.User == "" || a.Password == "" || strings.ContainsAny(a.Password, "\"\\\n\r") {
			return fmt.Errorf("servers: registering %q: user and password must not be empty, the password without quotes, backslashes or newlines", a.JID())
		}
	}
	if s.flavour.Prosody() {
		return s.registerProsody(ctx, accounts)
	}
	return s.registerEjabberd(ctx, accounts)
}

// registerProsody writes the account files of Prosody's internal storage, which
// it reads at each login.
func (s *Server) registerProsody(ctx context.Context, accounts []Account) error {
	files := make([]file, len(accounts))
	g, _ := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for i, a := range accounts {
		g.Go(func() error {
			data, err := prosodyAccount(a.Password)
			files[i] = file{name: prosodyName(s.Domain()) + "/accounts/" + prosodyName(a.User) + ".dat", data: data}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := s.in.writeData(ctx, files); err != nil {
		return fmt.Errorf("servers: registering %d accounts with %s: %w", len(accounts), s.flavour, err)
	}
	return nil
}

// prosodyName is Prosody's file name for a host or user: everything but ASCII
// letters and digits as %xx.
func prosodyName(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	return b.String()
}

// prosodyAccount is an accounts/USER.dat of mod_auth_internal_hashed.
func prosodyAccount(password string) ([]byte, error) {
	salt := randomSecret()
	salted, err := pbkdf2.Key(sha1.New, password, []byte(salt), scramIterations, sha1.Size)
	if err != nil {
		return nil, fmt.Errorf("servers: hashing a password: %w", err)
	}
	mac := func(text string) []byte {
		m := hmac.New(sha1.New, salted)
		io.WriteString(m, text)
		return m.Sum(nil)
	}
	stored := sha1.Sum(mac("Client Key"))
	return fmt.Appendf(nil, "return { [\"iteration_count\"] = %d; [\"salt\"] = \"%s\"; [\"stored_key\"] = \"%s\"; [\"server_key\"] = \"%s\"; };\n",
		scramIterations, salt, hex.EncodeToString(stored[:]), hex.EncodeToString(mac("Server Key"))), nil
}

// registerEjabberd uses ejabberd's HTTP API (mod_http_api, register).
func (s *Server) registerEjabberd(ctx context.Context, accounts []Account) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for _, a := range accounts {
		g.Go(func() error {
			return s.ejabberdAPI(ctx, "register", map[string]string{"user": a.User, "host": a.Domain, "password": a.Password})
		})
	}
	return g.Wait()
}

var apiClient = sync.OnceValue(func() *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8, IdleConnTimeout: 10 * time.Second}, Timeout: 20 * time.Second}
})

func (s *Server) ejabberdAPI(ctx context.Context, command string, args map[string]string) error {
	body, err := json.Marshal(args)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.addr(s.in.ports().API)+"/api/"+command, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := apiClient().Do(req)
	if err != nil {
		return fmt.Errorf("servers: %s on %s: %w", command, s.flavour, err)
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("servers: %s %s on %s: %s: %s", command, args["user"], s.flavour, resp.Status, bytes.TrimSpace(answer))
	}
	return nil
}

// Unregister deletes an account, as an operator would.
func (s *Server) Unregister(ctx context.Context, a Account) error {
	if a.Domain != s.Domain() {
		return fmt.Errorf("servers: deleting %s: the domain of this server is %s", a.JID(), s.Domain())
	}
	if s.flavour.Prosody() {
		out, err := s.in.exec(ctx, "prosodyctl", "--config", s.in.layout().Dir+"/prosody.cfg.lua", "deluser", a.JID())
		if err != nil {
			return fmt.Errorf("servers: deleting %s: %w: %s", a.JID(), err, out)
		}
		return nil
	}
	return s.ejabberdAPI(ctx, "unregister", map[string]string{"user": a.User, "host": a.Domain})
}

const labelAlphabet = "abcdefghijkmnpqrstuvwxyz23456789"

// randomLabel is six characters that can stand in a domain or a localpart.
func randomLabel() string {
	var b [6]byte
	rand.Read(b[:])
	for i := range b {
		b[i] = labelAlphabet[int(b[i])%len(labelAlphabet)]
	}
	b[0] = labelAlphabet[int(b[0])%24]
	return string(b[:])
}

func randomSecret() string { return rand.Text() }

var errNotRunning = errors.New("servers: the server is stopped")
