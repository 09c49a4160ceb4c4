package main

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"vmcp/services/aggregator/internal/backend"
	"vmcp/services/aggregator/internal/fleet"
	"vmcp/services/aggregator/internal/inventory"
)

// backendStatus is what /status says of one backend: what it offers, and how it does.
type backendStatus struct {
	inventory.Status
	*backend.Health
}

func backendStatuses(f *fleet.Fleet) []backendStatus {
	var all []backendStatus
	running := f.State().Backends
	for _, s := range f.Inventory().Status() {
		one := backendStatus{Status: s}
		if b := running[s.Backend]; b != nil {
			health := b.Health()
			one.Health = &health
		}
		all = append(all, one)
	}
	return all
}

// status lists the backends and their state, which documents are in force, and what is wrong here for as long as we run,
// for people.
func status(f *fleet.Fleet, warnings []string, documents *inForce) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{ // the client is gone where it fails
			"backends": backendStatuses(f), "warnings": warnings, "documents": documents.status()})
	}
}

// gauges are the metrics that /status has too.
type gauges struct{ fleet *fleet.Fleet }

func gauge(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("vmcp_backend_"+name, help, []string{"backend"}, nil)
}

var (
	gaugeUp       = gauge("up", "1: its lists are current. 0: it cannot be listed now, or was not yet.")
	gaugeListAge  = gauge("list_age_seconds", "How long ago it was listed; none before the first time.")
	gaugeItems    = prometheus.NewDesc("vmcp_backend_items", "What it offers, by kind.", []string{"backend", "kind"}, nil)
	gaugeLeftOut  = gauge("items_left_out", "What it lists and clients do not see; /status says why.")
	gaugeChanged  = gauge("tools_changed", "Tools that are not as they were approved (annotation vmcp/pin).")
	gaugeSessions = gauge("sessions", "Sessions that are open with it over HTTP.")
	gaugeChildren = gauge("children", "Processes of it that run.")
	gaugeBreaker  = gauge("breaker_open", "1: its circuit breaker is open, calls are refused. 0.5: half open, one is tried.")
)

func (g gauges) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{gaugeUp, gaugeListAge, gaugeItems, gaugeLeftOut, gaugeChanged, gaugeSessions, gaugeChildren, gaugeBreaker} {
		to <- d
	}
}

func (g gauges) Collect(to chan<- prometheus.Metric) {
	set := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	for _, s := range backendStatuses(g.fleet) {
		up := 0.0
		if s.State == "listed" {
			up = 1
		}
		set(gaugeUp, up, s.Backend)
		if !s.LastListed.IsZero() {
			set(gaugeListAge, time.Since(s.LastListed).Seconds(), s.Backend)
		}
		for kind, n := range map[string]int{"tool": s.Tools, "prompt": s.Prompts, "resource": s.Resources} {
			set(gaugeItems, float64(n), s.Backend, kind)
		}
		set(gaugeLeftOut, float64(len(s.LeftOut)), s.Backend)
		set(gaugeChanged, float64(len(s.Changed)), s.Backend)
		if s.Health == nil {
			continue
		}
		set(gaugeSessions, float64(s.Sessions), s.Backend)
		set(gaugeChildren, float64(s.Children), s.Backend)
		set(gaugeBreaker, map[string]float64{"open": 1, "half-open": 0.5}[s.Breaker], s.Backend)
	}
}

// changedTools tells how tools differ from what was approved: ?backend=NAME, or of all.
func changedTools(inv *inventory.Inventory) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		changes, err := inv.Changes(r.URL.Query().Get("backend"))
		answer := map[string]any{"changes": changes}
		if err != nil {
			answer["problem"] = err.Error()
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(answer) // the client is gone where it fails
	}
}

// approveTools approves tools of one backend: {"backend": NAME, "tools": [NAMES]}; without names all.
func approveTools(inv *inventory.Inventory) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var asked struct {
			Backend string
			Tools   []string
		}
		answer := map[string]any{}
		status := http.StatusOK
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&asked)
		if err == nil {
			answer["approved"], err = inv.Approve(asked.Backend, asked.Tools)
		}
		if err != nil {
			status, answer["problem"] = http.StatusBadRequest, err.Error()
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(answer)
	}
}
