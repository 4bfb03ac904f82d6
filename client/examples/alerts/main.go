// SPDX-License-Identifier: Apache-2.0

// Command alerts takes alerts over HTTP and says them in an encrypted group:
//
//	LOCKSTEP_ACCOUNT=nurse@capulet.lit alerts -group ops@mls.capulet.lit -listen 127.0.0.1:9099
//	curl -d 'disk full on db3' http://127.0.0.1:9099/
//
// It understands plain text and the webhook of Prometheus' Alertmanager. The
// answer is 200 when the delivery service has accepted the message, and 202
// when it is stored and will be sent: an alert is never lost because the
// network is down too.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/lockstep-im/lockstep/client"
)

func main() {
	group := flag.String("group", "", "address of the group")
	listen := flag.String("listen", "127.0.0.1:9099", "address to listen on")
	flag.Parse()
	if err := run(*group, *listen); err != nil {
		log.Fatal(err)
	}
}

func run(group, listen string) error {
	cfg, err := client.EnvConfig()
	if err != nil {
		return err
	}
	bot, err := client.New(cfg)
	if err != nil {
		return err
	}
	defer bot.Close()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	fmt.Println("listening on", l.Addr())
	srv := &http.Server{Handler: handler(bot, group), ReadHeaderTimeout: 10 * time.Second}
	go srv.Serve(l)
	defer srv.Close()
	return bot.Run(ctx)
}

func handler(bot *client.Client, group string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil || r.Method != http.MethodPost {
			http.Error(w, "post an alert", http.StatusBadRequest)
			return
		}
		text := alert(body)
		if text == "" {
			http.Error(w, "the alert is empty", http.StatusBadRequest)
			return
		}
		g, ok := bot.Group(group)
		if !ok {
			http.Error(w, "not in the group (yet): invite the bot", http.StatusServiceUnavailable)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
		defer cancel()
		var queued *client.QueuedError
		switch sent, err := g.Send(ctx, text); {
		case err == nil:
			fmt.Fprintln(w, sent.ID)
		case errors.As(err, &queued):
			w.WriteHeader(http.StatusAccepted)
		default:
			http.Error(w, err.Error(), http.StatusBadGateway)
		}
	})
}

// alert gives the text of an alert: Alertmanager's summaries, or the body as it
// is.
func alert(body []byte) string {
	var am struct {
		Alerts []struct {
			Status              string
			Labels, Annotations map[string]string
		}
	}
	if json.Unmarshal(body, &am) != nil || len(am.Alerts) == 0 {
		return strings.TrimSpace(strings.ToValidUTF8(string(body), "?"))
	}
	var lines []string
	for _, a := range am.Alerts {
		text := a.Annotations["summary"]
		if text == "" {
			text = a.Labels["alertname"]
		}
		lines = append(lines, strings.ToUpper(a.Status)+" "+text)
	}
	return strings.Join(lines, "\n")
}
