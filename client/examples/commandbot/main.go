// SPDX-License-Identifier: Apache-2.0

// Command commandbot answers commands in encrypted groups: !ping, !members,
// !code, and, for admins, !invite JID.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

func main() {
	cfg, err := client.EnvConfig()
	if err != nil {
		log.Fatal(err)
	}
	bot, err := client.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer bot.Close()
	bot.OnMessage(func(ctx context.Context, m *client.Message) {
		name, arg, _ := strings.Cut(strings.TrimPrefix(m.Body, "!"), " ")
		if cmd := commands[name]; cmd != nil && strings.HasPrefix(m.Body, "!") && !m.Own {
			answer, err := cmd(ctx, m, strings.TrimSpace(arg))
			if err != nil {
				answer = "sorry: " + err.Error()
			}
			if _, err := m.Reply(ctx, answer); err != nil {
				log.Print(err)
			}
		}
	})
	bot.OnEvent(func(_ context.Context, e client.Event) { log.Printf("%s %+v", client.EventName(e), e) })
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := bot.Run(ctx); err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
}

// A command may call anything: the client does not wait for it.
var commands = map[string]func(ctx context.Context, m *client.Message, arg string) (string, error){
	"ping": func(context.Context, *client.Message, string) (string, error) { return "pong", nil },
	"members": func(_ context.Context, m *client.Message, _ string) (string, error) {
		members, err := m.Group.Members()
		if err != nil {
			return "", err
		}
		var lines []string
		for _, w := range members {
			lines = append(lines, fmt.Sprintf("%s (%s, %s)", w.JID, w.Role, w.Trust))
		}
		return strings.Join(lines, "\n"), nil
	},
	"code": func(_ context.Context, m *client.Message, _ string) (string, error) { return m.Group.EpochCode() },
	"invite": func(ctx context.Context, m *client.Message, jid string) (string, error) {
		// The bot may add people, so it asks whether the sender may: the
		// signature says who that is.
		role, err := m.Group.Role(m.Sender.JID)
		if err != nil {
			return "", err
		}
		if role < groupdata.Admin {
			return "only admins may invite", nil
		}
		res, err := m.Group.Invite(ctx, jid)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%s: %s", jid, res.Users[0].Status), nil
	},
}
