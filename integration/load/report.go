// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

type report struct {
	World        string        `json:"world"`
	Conversation *conversation `json:"conversation,omitempty"`
	FanOut       *fanout       `json:"fan-out,omitempty"`
}

type conversation struct {
	Groups     int     `json:"groups"`
	Members    int     `json:"members"`
	Sent       int     `json:"sent"`
	Refused    int     `json:"refused"` // sends without a yes in time
	Expected   int     `json:"expected"`
	Delivered  int     `json:"delivered"`
	Doubled    int     `json:"doubled"`
	Disordered int     `json:"disordered"`
	Strange    int     `json:"strange"` // messages that nobody sent
	Seconds    float64 `json:"seconds"`
	PerSecond  float64 `json:"deliveries-per-second"`
	Latency    latency `json:"latency"`
}

// latency is from sending to a member's handler, in milliseconds.
type latency struct {
	P50, P90, P99, Max float64
}

type fanout struct {
	Listeners int     `json:"listeners"`
	Multicast bool    `json:"multicast"`
	Service   rate    `json:"service"`
	MUC       rate    `json:"muc"`
	Ratio     float64 `json:"ratio"` // of deliveries per second
	// CPURatio is that of deliveries per second of the server's processor time:
	// what the ratio would be if the server alone had the machine. 0: not known.
	CPURatio   float64 `json:"cpu-ratio"`
	Disordered int     `json:"disordered"`

	size func() int64 // bytes that the listeners have got so far
}

type rate struct {
	Deliveries int64   `json:"deliveries"`
	Expected   int64   `json:"expected"`
	Bytes      int64   `json:"bytes"` // of the stanzas delivered
	Seconds    float64 `json:"seconds"`
	PerSecond  float64 `json:"deliveries-per-second"`
	ServerCPU  float64 `json:"server-cpu-seconds"` // 0: not known
}

// perCPU is deliveries per second of the server's processor time.
func (r *rate) perCPU() float64 {
	if r.ServerCPU <= 0 {
		return 0
	}
	return float64(r.Deliveries) / r.ServerCPU
}

func percentiles(d []time.Duration) latency {
	if len(d) == 0 {
		return latency{}
	}
	slices.Sort(d)
	at := func(q float64) float64 {
		return float64(d[min(len(d)-1, int(q*float64(len(d))))].Microseconds()) / 1000
	}
	return latency{at(0.5), at(0.9), at(0.99), at(1)}
}

func (r *report) write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n", r.World)
	if c := r.Conversation; c != nil {
		fmt.Fprintf(&b, "  conversation: %d groups of %d, %d messages in %.1f s, %d refused\n", c.Groups, c.Members, c.Sent, c.Seconds, c.Refused)
		fmt.Fprintf(&b, "    deliveries  %d of %d expected, %d doubled, %d out of order; %.0f per second\n", c.Delivered, c.Expected, c.Doubled, c.Disordered, c.PerSecond)
		fmt.Fprintf(&b, "    latency     p50 %.1f ms, p90 %.1f ms, p99 %.1f ms, max %.1f ms\n", c.Latency.P50, c.Latency.P90, c.Latency.P99, c.Latency.Max)
	}
	if f := r.FanOut; f != nil {
		how := "a stanza for each"
		if f.Multicast {
			how = "multicast"
		}
		fmt.Fprintf(&b, "  fan-out to %d listeners, %s\n", f.Listeners, how)
		for _, x := range []struct {
			name string
			rate
		}{{"delivery service", f.Service}, {"the server's MUC", f.MUC}} {
			fmt.Fprintf(&b, "    %-18s %6d of %d deliveries of %d bytes in %5.1f s, %6.0f per second", x.name, x.Deliveries, x.Expected, x.Bytes/max(x.Deliveries, 1), x.Seconds, x.PerSecond)
			if x.ServerCPU > 0 {
				fmt.Fprintf(&b, ", %6.0f per second of the server's processor time", x.perCPU())
			}
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "    ratio              %.2f", f.Ratio)
		if f.CPURatio > 0 {
			fmt.Fprintf(&b, ", by the server's processor time %.2f", f.CPURatio)
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// fault says what went wrong, or nil. A fan-out that the time cut short is none.
func (r *report) fault() error {
	if c := r.Conversation; c != nil {
		switch {
		case c.Delivered < c.Expected:
			return fmt.Errorf("%d of %d deliveries are missing", c.Expected-c.Delivered, c.Expected)
		case c.Doubled+c.Disordered+c.Strange > 0:
			return fmt.Errorf("%d deliveries doubled, %d out of order, %d of messages that nobody sent", c.Doubled, c.Disordered, c.Strange)
		case c.Refused > 0:
			return fmt.Errorf("%d messages were not accepted", c.Refused)
		}
	}
	if f := r.FanOut; f != nil && f.Disordered > 0 {
		return fmt.Errorf("%d entries of the fan-out came out of order", f.Disordered)
	}
	return nil
}
