// SPDX-License-Identifier: Apache-2.0

package component

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // XEP-0114 §3 demands it
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/xmlpull"
)

// This file is the only one that knows the component protocol (XEP-0114): one
// TCP, TLS or Unix connection to the server, a stream header, a handshake, and
// then stanzas for the domain and everything below it.
//
// A stanza never ends the link, whatever it holds: a server forwards what
// strangers send, and one of them must not be able to stop the service. Only
// bytes that cannot be divided into stanzas do, and the link comes back.

// A DialFunc connects to the server's component listener.
type DialFunc func(ctx context.Context) (net.Conn, error)

// Dialer returns a DialFunc for an address: "host:port" or "tcp://host:port",
// "tls://host:port" (the certificate is checked for host, or as conf says), or
// "unix:///path".
func Dialer(address string, conf *tls.Config) (DialFunc, error) {
	network, rest, ok := strings.Cut(address, "://")
	if !ok {
		network, rest = "tcp", address
		if strings.HasPrefix(address, "/") {
			network = "unix"
		}
	}
	d := &net.Dialer{Timeout: linkDialTimeout, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}}
	switch network {
	case "tcp", "tls":
		host, _, err := net.SplitHostPort(rest)
		if err != nil {
			return nil, fmt.Errorf("component: server address %q: %w: write it as host:port", address, err)
		}
		if network == "tcp" {
			return func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "tcp", rest) }, nil
		}
		if conf == nil {
			conf = &tls.Config{}
		}
		conf = conf.Clone()
		if conf.ServerName == "" {
			conf.ServerName = host
		}
		td := &tls.Dialer{NetDialer: d, Config: conf}
		return func(ctx context.Context) (net.Conn, error) { return td.DialContext(ctx, "tcp", rest) }, nil
	case "unix":
		if rest == "" {
			return nil, fmt.Errorf("component: server address %q: no path", address)
		}
		return func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "unix", rest) }, nil
	}
	return nil, fmt.Errorf("component: server address %q: unknown scheme %q: use tcp, tls or unix", address, network)
}

// A StreamError is a stream error that the server sent (RFC 6120 §4.9).
type StreamError struct {
	Condition string // as "conflict", "not-authorized", "host-unknown"
	Text      string
}

func (e *StreamError) Error() string {
	s := "component: server closed the link: " + e.Condition
	if e.Text != "" {
		s += fmt.Sprintf(" (%q)", e.Text)
	}
	return s
}

// Hint says what an operator can do about the error.
func (e *StreamError) Hint() string {
	switch e.Condition {
	case "not-authorized":
		return "the secret must be the one in the server's configuration of this component (Prosody: component_secret, ejabberd: password)"
	case "host-unknown":
		return "the server has no component of this domain, or expects it on another port"
	case "conflict":
		return "another process is connected as this component; on Prosody, component_conflict_resolve = \"kick_old\" lets the new one win"
	}
	return ""
}

// link is the connection to the server, through all its reconnections.
type link struct {
	domain  string
	secret  func() (string, error)
	dial    DialFunc
	limits  *Limits
	log     *slog.Logger
	metrics *metrics
	out     *outQueue
	// handle gets each stanza. The bytes are its own. It must not block.
	handle func(raw []byte, ctx *xmlpull.Context)
	// oversize gets the beginning of a stanza that was too large to keep.
	oversize func(head []byte, size int64, ctx *xmlpull.Context)
	// up and down are called, from one goroutine, when the link comes and goes.
	up, down func()

	connected atomic.Bool
	mu        sync.Mutex
	lastErr   error
	draining  bool
	conn      net.Conn
}

// run keeps the link up until ctx ends.
func (l *link) run(ctx context.Context) error {
	for attempt := 0; ; {
		began := time.Now()
		err := l.once(ctx)
		if ctx.Err() != nil || l.isDraining() {
			return nil
		}
		l.setErr(err)
		if time.Since(began) > linkStable {
			attempt = 0
		}
		wait := backoff(attempt, linkBackoffMin, linkBackoffMax)
		attempt++
		var se *StreamError
		attrs := []any{"error", err, "retry_in", wait.Round(time.Millisecond)}
		if errors.As(err, &se) && se.Hint() != "" {
			attrs = append(attrs, "hint", se.Hint())
		}
		l.metrics.linkErrors.WithLabelValues(linkErrorLabel(err)).Inc()
		l.log.Warn("link to the server is down", attrs...)
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
	}
}

// backoff is a time between half and all of min·2^attempt, at most max.
func backoff(attempt int, min, max time.Duration) time.Duration {
	d := max
	if attempt < 16 && min<<attempt < max {
		d = min << attempt
	}
	return d/2 + rand.N(d/2)
}

func linkErrorLabel(err error) string {
	var se *StreamError
	switch {
	case errors.As(err, &se):
		switch se.Condition {
		case "conflict", "not-authorized", "host-unknown", "policy-violation", "not-well-formed", "system-shutdown", "invalid-from", "improper-addressing":
			return se.Condition
		}
		return "other-stream-error"
	case errors.Is(err, io.EOF):
		return "closed"
	}
	return "network"
}

func (l *link) setErr(err error) {
	l.mu.Lock()
	l.lastErr = err
	l.mu.Unlock()
}

// err is why the link is down, or was the last time.
func (l *link) err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lastErr
}

func (l *link) isDraining() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.draining
}

// once connects, and serves the connection until it ends.
func (l *link) once(ctx context.Context) error {
	conn, split, header, err := l.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()

	l.mu.Lock()
	l.conn, l.lastErr = conn, nil
	l.mu.Unlock()
	l.out.reset(true)
	l.connected.Store(true)
	l.metrics.linkUp.Set(1)
	l.log.Info("link to the server is up", "domain", l.domain)
	done := make(chan struct{})
	writerDone := make(chan error, 1)
	go func() {
		err := l.writer(conn, done)
		writerDone <- err
		if err != nil {
			conn.Close() // the reader must notice
		}
	}()
	l.up()

	err = l.reader(split, header.Context)

	l.connected.Store(false)
	l.metrics.linkUp.Set(0)
	if n := l.out.reset(false); n > 0 {
		l.metrics.dropped.WithLabelValues("link-down").Add(float64(n))
	}
	close(done)
	conn.Close()
	if werr := <-writerDone; werr != nil {
		err = werr
	}
	l.down()
	return err
}

// connect dials and does the handshake (XEP-0114 §3).
func (l *link) connect(ctx context.Context) (net.Conn, *xmlpull.Splitter, *xmlpull.StreamHeader, error) {
	dialCtx, cancel := context.WithTimeout(ctx, linkDialTimeout)
	defer cancel()
	conn, err := l.dial(dialCtx)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("component: connecting to the server: %w", err)
	}
	// The deadline, not the context, is what ends a silent handshake.
	conn.SetDeadline(time.Now().Add(linkHandshakeTimeout))
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	split, header, err := l.handshake(conn)
	if err != nil {
		conn.Close()
		return nil, nil, nil, err
	}
	if !stop() {
		return nil, nil, nil, ctx.Err()
	}
	conn.SetDeadline(time.Time{})
	return conn, split, header, nil
}

func (l *link) handshake(conn net.Conn) (*xmlpull.Splitter, *xmlpull.StreamHeader, error) {
	secret, err := l.secret()
	if err != nil {
		return nil, nil, err
	}
	b := []byte("<?xml version='1.0'?><stream:stream xmlns='" + stanza.NSComponent + "' xmlns:stream='" + stanza.NSStreams + "'")
	b = append(xmlpull.AppendAttr(b, "to", l.domain), '>')
	if _, err := conn.Write(b); err != nil {
		return nil, nil, fmt.Errorf("component: opening the stream: %w", err)
	}
	split := xmlpull.NewSplitter(conn, xmlpull.Limits{MaxBytes: l.limits.MaxStanza})
	header, err := split.Open()
	if err != nil {
		return nil, nil, fmt.Errorf("component: reading the server's stream header: %w", err)
	}
	if header.Space != stanza.NSStreams || header.Local != "stream" {
		return nil, nil, fmt.Errorf("component: the server sent <%s xmlns=%q> in place of a stream header: is this its component port?", header.Local, header.Space)
	}
	if header.ID != "" {
		sum := sha1.Sum([]byte(header.ID + secret))
		b = append(b[:0], "<handshake>"...)
		b = hex.AppendEncode(b, sum[:])
		b = append(b, "</handshake>"...)
		if _, err := conn.Write(b); err != nil {
			return nil, nil, fmt.Errorf("component: sending the handshake: %w", err)
		}
	}
	var doc xmlpull.Doc
	raw, err := split.Next()
	if err != nil {
		return nil, nil, fmt.Errorf("component: waiting for the server to accept the handshake: %w", err)
	}
	el, err := doc.Parse(raw, header.Context)
	if err != nil {
		return nil, nil, fmt.Errorf("component: waiting for the server to accept the handshake: %w", err)
	}
	switch {
	case el.Is(stanza.NSStreams, "error"):
		return nil, nil, streamError(el)
	case header.ID == "":
		return nil, nil, errors.New("component: the server's stream header has no id")
	case string(el.Local()) != "handshake":
		return nil, nil, fmt.Errorf("component: the server answered the handshake with <%s>", el.Local())
	}
	return split, header, nil
}

func streamError(el xmlpull.Element) error {
	e := &StreamError{Condition: "undefined-condition"}
	for c := el.First(); c.Valid(); c = c.Next() {
		if string(c.Space()) != stanza.NSStreamErr {
			continue
		}
		if string(c.Local()) == "text" {
			e.Text = string(c.Text()[:min(len(c.Text()), 200)])
		} else {
			e.Condition = string(c.Local())
		}
	}
	return e
}

var streamErrorPrefix = []byte("<stream:error")

// reader passes stanzas on until the stream ends.
func (l *link) reader(split *xmlpull.Splitter, ctx *xmlpull.Context) error {
	for {
		raw, err := split.Next()
		var big *xmlpull.OversizeError
		switch {
		case errors.As(err, &big):
			l.metrics.dropped.WithLabelValues("oversize").Inc()
			l.oversize(big.Head, big.Size, ctx)
			continue
		case err != nil:
			return fmt.Errorf("component: reading from the server: %w", err)
		}
		l.metrics.bytesIn.Add(float64(len(raw)))
		if bytes.HasPrefix(raw, streamErrorPrefix) {
			var doc xmlpull.Doc
			if el, err := doc.Parse(raw, ctx); err == nil && el.Is(stanza.NSStreams, "error") {
				return streamError(el)
			}
		}
		l.handle(bytes.Clone(raw), ctx)
	}
}

// writer writes what waits, many stanzas at a time, until done is closed or a
// write fails. A write that takes too long fails: the server is stuck, and
// what waits would grow without end.
func (l *link) writer(conn net.Conn, done <-chan struct{}) error {
	buf := make([]byte, 0, linkWriteSize+4096)
	keepalive := time.NewTicker(linkKeepalive)
	defer keepalive.Stop()
	for {
		var n int
		buf, n = l.out.fill(buf[:0], linkWriteSize)
		if n == 0 {
			select {
			case <-done:
				return nil
			case <-l.out.wake:
				continue
			case <-keepalive.C:
				buf = append(buf, ' ') // RFC 6120 §4.6.1
			}
		}
		conn.SetWriteDeadline(time.Now().Add(linkWriteTimeout))
		if _, err := conn.Write(buf); err != nil {
			select {
			case <-done:
				return nil
			default:
			}
			l.metrics.dropped.WithLabelValues("write-failed").Add(float64(n))
			return fmt.Errorf("component: writing to the server: %w", err)
		}
		l.metrics.bytesOut.Add(float64(len(buf)))
		l.metrics.stanzasOut.Add(float64(n))
		if cap(buf) > 4*linkWriteSize {
			buf = make([]byte, 0, linkWriteSize+4096)
		}
	}
}

// send queues one stanza. A stanza that the server would refuse for its size is
// refused here, because the server would close the whole link for it.
func (l *link) send(p priority, b []byte) bool {
	if len(b) > l.limits.MaxStanza {
		l.metrics.dropped.WithLabelValues("too-large-to-send").Inc()
		l.log.Error("component: internal error: a stanza is too large to send", "bytes", len(b), "max", l.limits.MaxStanza)
		return false
	}
	if !l.out.put(p, outItem{head: b}) {
		l.countRefused(p, 1)
		return false
	}
	return true
}

// fanout queues one stanza for many recipients: head, a recipient's address,
// escaped for an attribute, and tail. The recipient skip is left out. The list
// is kept, and must not change.
func (l *link) fanout(head, tail []byte, to []string, skip string) bool {
	if len(to) == 0 {
		return true
	}
	if len(head)+len(tail)+maxAddr > l.limits.MaxStanza {
		l.metrics.dropped.WithLabelValues("too-large-to-send").Add(float64(len(to)))
		return false
	}
	if !l.out.put(prioEvent, outItem{head: head, tail: tail, to: to, skip: skip}) {
		l.countRefused(prioEvent, len(to))
		return false
	}
	return true
}

func (l *link) countRefused(p priority, n int) {
	reason := "queue-full-" + p.String()
	if !l.connected.Load() {
		reason = "link-down"
	}
	l.metrics.dropped.WithLabelValues(reason).Add(float64(n))
}

// close ends the link in good order: what waits is written, then the stream is
// closed. It gives up when ctx ends.
func (l *link) close(ctx context.Context) {
	l.mu.Lock()
	l.draining = true
	conn := l.conn
	l.mu.Unlock()
	if conn == nil || !l.connected.Load() {
		return
	}
	select {
	case <-l.out.drained():
	case <-ctx.Done():
	}
	l.out.put(prioAnswer, outItem{head: []byte("</stream:stream>")})
	select {
	case <-l.out.drained():
	case <-ctx.Done():
	}
	// Let the last write leave before the caller closes the connection.
	t := time.NewTimer(linkCloseGrace)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// CheckConfig says what is wrong with a configuration, whose Store may be nil.
func CheckConfig(c Config) error {
	if c.Store == nil {
		c.Store = noStore{}
	}
	s, err := New(c)
	if err == nil {
		s.Close()
	}
	return err
}

// noStore is for services that are made to be looked at and never run.
type noStore struct{ store.Store }

func (noStore) Shared() bool { return false }

// CheckLink connects once, as Run would, and disconnects; it needs no Store. The
// error says why it does not work; a *[StreamError] has a hint. Where another
// process is connected as the same component it may take its place for a moment.
func CheckLink(ctx context.Context, c Config) error {
	if c.Store == nil {
		c.Store = noStore{}
	}
	s, err := New(c)
	if err != nil {
		return err
	}
	defer s.Close()
	conn, _, _, err := s.link.connect(ctx)
	if err != nil {
		return err
	}
	conn.SetDeadline(time.Now().Add(linkCloseGrace))
	conn.Write([]byte("</stream:stream>"))
	return conn.Close()
}
