// SPDX-License-Identifier: Apache-2.0

// Command echobot joins every group it is invited to and repeats what is said.
package main

import (
	"context"
	"log"

	"github.com/lockstep-im/lockstep/client"
)

func main() {
	cfg, err := client.EnvConfig() // LOCKSTEP_ACCOUNT, LOCKSTEP_PASSWORD
	if err != nil {
		log.Fatal(err)
	}
	bot, err := client.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	bot.OnMessage(func(ctx context.Context, m *client.Message) {
		if m.Body != "" && !m.Own {
			m.Reply(ctx, m.Body)
		}
	})
	log.Fatal(bot.Run(context.Background()))
}
