// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/lockstep-im/lockstep/integration/play"
)

// crowd: crowd N [of SERVER]: N accounts that publish one key package each and leave. They
// fill a group and say nothing; "crowd" is their name in invite.
func crowd(ctx context.Context, p *play.Play, w []string) error {
	if len(w) < 2 {
		return errors.New("a crowd of how many?")
	}
	n, err := strconv.Atoi(w[1])
	if err != nil {
		return err
	}
	host := p.First()
	if len(w) == 4 && w[2] == "of" {
		if host = p.Hosts[w[3]]; host == nil {
			return fmt.Errorf("no server %q", w[3])
		}
	}
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("citizen%04d", i)
	}
	users, passwords, err := host.Accounts(names)
	if err != nil {
		return err
	}
	jids := make([]string, n)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i := range users {
		part := &play.Part{Name: names[i], Role: names[i], Host: host, User: users[i], Password: passwords[i], Tap: play.NewTap(names[i], nil), Play: p}
		jids[i] = part.JID()
		g.Go(func() error {
			c, _, err := play.NewCitizen(ctx, part)
			if err != nil {
				return err
			}
			return c.Close()
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	p.Crowd("crowd", jids)
	return nil
}

func httpRequest(ctx context.Context, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
}
