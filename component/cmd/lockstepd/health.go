// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// healthCmd asks the running service for its /healthz. It exists for container
// images that hold nothing but this program.
type healthCmd struct{}

// Run is an error unless the service answers and is linked to its server.
func (healthCmd) Run(e *env) error {
	if e.opts.HTTP == "" {
		return withHint(errors.New("health is not published"), "set http, as 127.0.0.1:5290")
	}
	host, port, err := net.SplitHostPort(e.opts.HTTP)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/healthz", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return withHint(err, "does lockstepd serve run, with the same http option?")
	}
	defer resp.Body.Close()
	var h health
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&h); err != nil {
		return fmt.Errorf("reading the answer of %s: %w", req.URL, err)
	}
	switch {
	case h.OK:
		fmt.Fprintln(e.stdout, "well, up for", h.Uptime)
		return nil
	case h.Draining:
		return errors.New("it is shutting down")
	case !h.Link:
		return fmt.Errorf("no link to the server: %s", h.LinkError)
	default:
		return h.storeFault()
	}
}

// storeFault says what is wrong with the store.
func (h *health) storeFault() error {
	switch {
	case h.StoreFailing != nil:
		return withHint(fmt.Errorf("the store takes no writes since %s: %s", h.StoreFailing.Local().Format(time.DateTime), h.StoreError),
			"is there room on the disk, is it writable? The service goes on by itself when it is")
	case h.StoreError != "":
		return fmt.Errorf("the store does not answer: %s", h.StoreError)
	}
	return errors.New("the store does not answer")
}
