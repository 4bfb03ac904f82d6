// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/lockstep-im/lockstep/component"
)

// This file speaks with systemd (sd_notify(3)): ready when the link is up, alive
// as long as it can say so; a store in trouble is no reason to be restarted.

// sdNotify sends a state to the service manager, if there is one.
func sdNotify(state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	if path[0] == '@' {
		path = "\x00" + path[1:] // an abstract socket
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte(state))
	return err
}

// notifySystemd tells when the service is ready, what its link does, and that it
// is alive, until the returned function is called.
func notifySystemd(ctx context.Context, svc *component.Service, log *slog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return cancel
	}
	every := 10 * time.Second
	watchdog := false
	if usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64); err == nil && usec > 0 {
		watchdog = true
		every = min(every, time.Duration(usec)*time.Microsecond/3)
	}
	go func() {
		select {
		case <-ctx.Done():
			return
		case <-svc.Ready():
		}
		if err := sdNotify("READY=1\nSTATUS=connected"); err != nil {
			log.Warn("cannot notify systemd", "error", err)
		}
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			s := svc.Stats()
			state := "STATUS=connected, " + strconv.Itoa(s.Sessions) + " sessions, " + strconv.Itoa(s.GroupsLoaded) + " groups in use"
			if !s.Connected {
				state = "STATUS=not connected: " + s.LinkError
			}
			if s.StoreError != "" {
				state = "STATUS=the store takes no writes: " + s.StoreError
			}
			if watchdog {
				state += "\nWATCHDOG=1"
			}
			sdNotify(state)
		}
	}()
	return cancel
}
