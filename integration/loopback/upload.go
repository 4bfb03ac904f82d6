// SPDX-License-Identifier: Apache-2.0

package loopback

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// HTTP upload (XEP-0363): slots from the XMPP side, PUT and GET over HTTPS on 127.0.0.1
// with the server's own certificate.

const (
	nsUpload  = "urn:xmpp:http:upload:0"
	uploadMax = 64 << 20 // bytes of one file
)

type upload struct {
	s      *Server
	domain string
	ln     net.Listener
	http   *http.Server

	mu    sync.Mutex
	slots map[string]int64 // path -> announced size
	files map[string][]byte
	types map[string]string
}

func newUpload(s *Server, domain string) (*upload, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("loopback: listening for uploads: %w", err)
	}
	u := &upload{s: s, domain: domain, ln: tls.NewListener(ln, s.tls), slots: make(map[string]int64), files: make(map[string][]byte), types: make(map[string]string)}
	u.http = &http.Server{Handler: u, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	s.goes(func() { _ = u.http.Serve(u.ln) })
	return u, nil
}

func (u *upload) close() { _ = u.http.Close() }

func (u *upload) identity() (string, string, string) { return "store", "file", "HTTP file upload" }
func (u *upload) features() []string                 { return []string{nsUpload} }

// handle answers disco and slot requests.
func (u *upload) handle(st *Element, to jid) {
	s := u.s
	req := st.Child(nsUpload, "request")
	if st.Attr("type") != "get" || req == nil {
		s.serviceIQ(u, st)
		return
	}
	size, err := strconv.ParseInt(req.Attr("size"), 10, 64)
	switch {
	case s.sessionOf(st.Attr("from")) == nil:
		s.bounce(st, "auth", "forbidden", "")
		return
	case err != nil || size <= 0 || req.Attr("filename") == "":
		s.bounce(st, "modify", "bad-request", "")
		return
	case size > uploadMax:
		if r := s.stanzaError(st, "modify", "not-acceptable", "File too large"); r != nil {
			r.Child(nsClient, "error").Add(El(nsUpload, "file-too-large").Add(El(nsUpload, "max-file-size").AddText(itoa(uploadMax))))
			s.route(r)
		}
		return
	}
	name := req.Attr("filename")
	name = strings.Map(func(r rune) rune {
		if r == '.' || r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
			return r
		}
		return '_'
	}, name)
	path := "/upload/" + randomID() + "/" + name
	u.mu.Lock()
	u.slots[path] = size
	u.mu.Unlock()
	url := "https://" + u.ln.Addr().String() + path
	s.reply(st, El(nsUpload, "slot").Add(El(nsUpload, "put", "url", url), El(nsUpload, "get", "url", url)))
}

// ServeHTTP takes a file for a slot once, and gives it to whoever knows the address.
func (u *upload) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodPut:
		// A refusal waits for the body, as far as it is sane: who is still
		// sending when the connection is closed may not see it (RFC 9112 §9.6).
		defer io.Copy(io.Discard, io.LimitReader(r.Body, uploadMax))
		u.mu.Lock()
		size, ok := u.slots[r.URL.Path]
		delete(u.slots, r.URL.Path)
		u.mu.Unlock()
		if !ok {
			http.Error(w, "no such slot", http.StatusForbidden)
			return
		}
		b, err := io.ReadAll(io.LimitReader(r.Body, size+1))
		if err != nil || int64(len(b)) != size {
			http.Error(w, "the size is not the announced one", http.StatusRequestEntityTooLarge)
			return
		}
		u.mu.Lock()
		u.files[r.URL.Path] = b
		u.types[r.URL.Path] = r.Header.Get("Content-Type")
		u.mu.Unlock()
		w.WriteHeader(http.StatusCreated)
	case http.MethodGet, http.MethodHead:
		u.mu.Lock()
		b, ok := u.files[r.URL.Path]
		typ := u.types[r.URL.Path]
		u.mu.Unlock()
		if !ok {
			http.NotFound(w, r)
			return
		}
		if typ != "" {
			w.Header().Set("Content-Type", typ)
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		if r.Method == http.MethodGet {
			_, _ = w.Write(b)
		}
	default:
		http.Error(w, "only PUT, GET and HEAD", http.StatusMethodNotAllowed)
	}
}

// Uploads are the files that were uploaded, by path: what the server can see of them.
func (s *Server) Uploads() map[string][]byte {
	out := make(map[string][]byte)
	if s.upload != nil {
		s.upload.mu.Lock()
		defer s.upload.mu.Unlock()
		for k, v := range s.upload.files {
			out[k] = v
		}
	}
	return out
}
