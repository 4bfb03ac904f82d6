// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/lockstep-im/lockstep/component"
	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/component/store/postgres"
	"github.com/lockstep-im/lockstep/component/store/sqlite"
)

type serveCmd struct{}

// Run serves until SIGTERM or SIGINT, then drains. A second signal ends it at
// once; nothing is lost by that, either.
func (serveCmd) Run(e *env) error {
	log := e.opts.logger(os.Stderr)
	c, err := e.opts.config()
	if err != nil {
		return err
	}
	if _, err := e.opts.secret(); err != nil {
		return err
	}
	if w := e.opts.secretWarning(); w != "" {
		log.Warn(w)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	st, err := openStore(ctx, e.opts, false)
	if err != nil {
		return err
	}
	defer st.Close()

	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	c.Store, c.Logger, c.Registry, c.Shutdown = st, log, registry, stop
	svc, err := component.New(c)
	if err != nil {
		return err
	}
	if e.opts.HTTP != "" {
		end, err := serveHTTP(e.opts.HTTP, svc, st, registry, log)
		if err != nil {
			return withHint(err, "choose another address for http, or none")
		}
		defer end()
	}
	log.Info("lockstepd starts", "version", version(), "domain", e.opts.Domain, "server", e.opts.Server)
	done := make(chan error, 1)
	go func() { done <- svc.Run(ctx) }()
	stopWatchdog := notifySystemd(ctx, svc, log)
	defer stopWatchdog()
	select {
	case err = <-done:
	case <-ctx.Done():
		stop() // a second signal ends the process
		sdNotify("STOPPING=1")
		err = <-done
	}
	if err == nil {
		log.Info("lockstepd has stopped")
	}
	return err
}

// openStore opens the store that the options name.
func openStore(ctx context.Context, o *Options, readOnly bool) (store.Store, error) {
	address, err := o.storeAddress()
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(address, "postgres://") || strings.HasPrefix(address, "postgresql://") {
		st, err := postgres.Open(ctx, address, postgres.Options{})
		if err != nil {
			return nil, withHint(err, "is PostgreSQL running, and may this user connect? psql with the same address tells")
		}
		return st, nil
	}
	path := strings.TrimPrefix(address, "sqlite://")
	st, err := sqlite.Open(ctx, path, sqlite.Options{ReadOnly: readOnly})
	switch {
	case errors.Is(err, store.ErrLocked):
		return nil, withHint(err, "another lockstepd uses it; stop that one, or use the ad-hoc commands of the running service")
	case missing(err) && readOnly:
		return nil, withHint(err, "there is no store yet: lockstepd serve makes it. Is it the right path?")
	case missing(err):
		return nil, withHint(err, "make the folder, and give it to the user that runs lockstepd")
	case err != nil && (errors.Is(err, os.ErrPermission) || forbidden(path)):
		return nil, withHint(err, "give file and folder to the user that runs lockstepd")
	case err != nil:
		return nil, err
	}
	return st, nil
}

// forbidden reports whether this user may not read a file, which SQLite does not
// tell apart from other reasons.
func forbidden(path string) bool {
	f, err := os.Open(path)
	if err == nil {
		f.Close()
	}
	return errors.Is(err, os.ErrPermission)
}

// health is what /healthz tells.
type health struct {
	OK        bool   `json:"ok"`
	Domain    string `json:"domain"`
	Link      bool   `json:"link"`
	LinkError string `json:"link_error,omitempty"`
	Store     bool   `json:"store"`

	// StoreError says why the store is not well, StoreFailing since when it takes
	// no writes.
	StoreError   string     `json:"store_error,omitempty"`
	StoreFailing *time.Time `json:"store_failing_since,omitempty"`

	Draining bool   `json:"draining,omitempty"`
	Groups   int    `json:"groups_loaded"`
	Sessions int    `json:"sessions"`
	Uptime   string `json:"uptime"`
	Version  string `json:"version"`
}

func checkHealth(ctx context.Context, svc *component.Service, st store.Store) health {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	s := svc.Stats()
	h := health{Domain: s.Domain, Link: s.Connected, LinkError: s.LinkError, Draining: s.Draining, Groups: s.GroupsLoaded, Sessions: s.Sessions, Version: version()}
	if !s.Started.IsZero() {
		h.Uptime = time.Since(s.Started).Round(time.Second).String()
	}
	err := st.View(ctx, func(r store.Reader) error {
		_, err := r.Groups("", 1)
		return err
	})
	if !s.StoreFailing.IsZero() {
		h.StoreFailing, h.StoreError = &s.StoreFailing, s.StoreError
	}
	if err != nil {
		h.StoreError = err.Error()
	}
	h.Store = h.StoreError == ""
	h.OK = h.Link && h.Store && !h.Draining
	return h
}

// serveHTTP publishes metrics and health. It tells nothing that is secret, but is
// meant for the operator's network all the same.
func serveHTTP(address string, svc *component.Service, st store.Store, registry *prometheus.Registry, log *slog.Logger) (func(), error) {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		h := checkHealth(r.Context(), svc, st)
		w.Header().Set("Content-Type", "application/json")
		if !h.OK {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		json.NewEncoder(w).Encode(h)
	})
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	go func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("http ended", "error", err)
		}
	}()
	log.Info("metrics and health", "address", l.Addr().String())
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		srv.Shutdown(ctx)
	}, nil
}
