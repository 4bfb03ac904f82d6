// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHealthCommand(t *testing.T) {
	for _, c := range []struct {
		name, body string
		code       int
		want       string // in what is printed
	}{
		{"well", `{"ok":true,"link":true,"store":true,"uptime":"3s"}`, 0, "well, up for 3s"},
		{"no link", `{"link":false,"link_error":"not-authorized","store":true}`, 1, "no link to the server: not-authorized"},
		{"no store", `{"link":true}`, 1, "the store does not answer"},
		{"disk full", `{"link":true,"store_error":"disk full","store_failing_since":"2026-08-20T12:00:00Z"}`, 1, "takes no writes since 2026-08-20"},
		{"draining", `{"link":true,"store":true,"draining":true}`, 1, "shutting down"},
		{"no answer of ours", `hello`, 1, "reading the answer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/healthz" {
					http.NotFound(w, r)
					return
				}
				w.Write([]byte(c.body))
			}))
			defer s.Close()
			var out bytes.Buffer
			code := run([]string{"health", "--http", strings.TrimPrefix(s.URL, "http://")}, &out, &out)
			if code != c.code || !strings.Contains(out.String(), c.want) {
				t.Errorf("code %d, printed %q; want code %d and %q", code, out.String(), c.code, c.want)
			}
		})
	}
	var out bytes.Buffer
	if code := run([]string{"health", "--http", "127.0.0.1:1"}, &out, &out); code != 1 || !strings.Contains(out.String(), "hint") {
		t.Errorf("nobody listens: code %d, printed %q", code, out.String())
	}
}
