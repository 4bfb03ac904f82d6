// SPDX-License-Identifier: Apache-2.0

package component

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

func counterValue(c prometheus.Counter) float64 {
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		panic(err)
	}
	return m.GetCounter().GetValue()
}

// TestAlertsNameMetrics holds the shipped alert rules against the metrics that
// exist.
func TestAlertsNameMetrics(t *testing.T) {
	r := prometheus.NewRegistry()
	m := newMetrics(r)
	// Families without a child are not gathered: touch those that alerts use.
	m.requests.WithLabelValues("ping", "ok")
	m.seconds.WithLabelValues("ping")
	m.linkErrors.WithLabelValues("conflict")
	m.claims.WithLabelValues("last-resort")
	m.limited.WithLabelValues("requests")
	m.welcomes.WithLabelValues("failed")
	m.stored.WithLabelValues("reports")
	m.invalid.WithLabelValues("commit")
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	known := make(map[string]bool)
	for _, f := range families {
		known[f.GetName()] = true
	}
	rules, err := os.ReadFile("alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`\blockstep_[a-z_]+`).FindAllString(string(rules), -1)
	if len(names) < 5 {
		t.Fatalf("the rules name %d metrics", len(names))
	}
	for _, n := range names {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(n, "_bucket"), "_sum"), "_count")
		if !known[n] && !known[base] {
			t.Errorf("the rules name %s, which does not exist", n)
		}
	}
}
