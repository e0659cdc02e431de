package bridge

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"

	"github.com/prometheus/client_golang/prometheus"
)

// queueGauges shows what the queues held when they were measured last. It
// makes its metrics when they are asked for, because a gauge of the library for
// each of a thousand endpoints and its figures would take more memory than all
// else that is kept of an idle endpoint; and one that is gone shows no more.
type queueGauges struct {
	figures []queueFigure

	mu     sync.Mutex
	queues []endpointStats // guarded by mu, and so is at
	at     time.Time       // when they were measured
}

// endpointStats is kept small: of thousands of endpoints most have nothing.
type endpointStats struct {
	endpoint      string
	*queue.Stats  // nothing, which is shared, but for the one that has something
	owned, paused bool
	// overQuota: the backlog of its tenant, or of all, is over its quota.
	overQuota bool
}

// nothing is what the queue has of an idle endpoint.
var nothing queue.Stats

// queueFigure is one metric per endpoint.
type queueFigure struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*endpointStats) float64
}

func newQueueGauges() *queueGauges {
	g := &queueGauges{}
	add := func(kind prometheus.ValueType, name, help string, value func(*endpointStats) float64) {
		desc := prometheus.NewDesc("gancho_"+name, help, []string{"endpoint"}, nil)
		g.figures = append(g.figures, queueFigure{desc, kind, value})
	}
	gauge := prometheus.GaugeValue
	add(gauge, "backlog_events", "Events queued for an endpoint and not yet delivered.",
		func(s *endpointStats) float64 { return float64(s.Backlog) })
	add(gauge, "backlog_bytes", "About how much memory of Redis, and of the state database, the events queued for an endpoint take.",
		func(s *endpointStats) float64 { return float64(s.Bytes) })
	add(gauge, "overflowed_events", "Events queued for an endpoint that are in the state database, because the backlog is over its quota.",
		func(s *endpointStats) float64 { return float64(s.Overflowed) })
	add(gauge, "overflowed_bytes", "About how much of the state database they take.",
		func(s *endpointStats) float64 { return float64(s.OverflowedBytes) })
	add(gauge, "endpoint_over_quota", "1 while the backlog of the endpoint's tenant, or of all together, is over its quota: resends and redrives wait.",
		func(s *endpointStats) float64 { return flag(s.overQuota) })
	add(gauge, "oldest_event_age_seconds", "Age of the oldest event queued for an endpoint, from its commit.",
		func(s *endpointStats) float64 { return s.age(g.at) })
	add(gauge, "replay_backlog_events", "Events queued to be sent to an endpoint again, and operational events.",
		func(s *endpointStats) float64 { return float64(s.Replays) })
	add(gauge, "retrying_events", "Events of an endpoint that have failed and wait for another attempt, blocked ones included.",
		func(s *endpointStats) float64 { return float64(s.Retrying + s.Blocked) })
	add(gauge, "dead_letters", "Events in an endpoint's dead letters in Redis.",
		func(s *endpointStats) float64 { return float64(s.Dead) })
	add(gauge, "endpoint_paused", "1 while an endpoint's events are kept and not sent: paused by a person, or suspended automatically (an answer 410, on_exhausted, pause_after).",
		func(s *endpointStats) float64 { return flag(s.paused || s.Reason != "") })
	add(gauge, "endpoint_down", "1 while only probes are sent to an endpoint, because every event fails.",
		func(s *endpointStats) float64 { return flag(!s.Down.IsZero()) })
	add(gauge, "endpoint_delivered", "1 while a process has the endpoint's lease.",
		func(s *endpointStats) float64 { return flag(s.owned) })
	add(gauge, "log_backlog_attempts", "Attempts that wait in Redis to be stored in the delivery log.",
		func(s *endpointStats) float64 { return float64(s.LogRecords) })
	add(gauge, "closing_incomplete", "1 while an endpoint's newest closing is incomplete: the delivery log and the counts of its day do not agree.",
		func(s *endpointStats) float64 { return flag(s.Closing != nil) })
	add(prometheus.CounterValue, "log_lost_attempts_total", "Attempts that the delivery log lacks, because too many waited to be stored.",
		func(s *endpointStats) float64 { return float64(s.LogLost) })
	return g
}

// age is that of the oldest event at a time, in seconds.
func (s *endpointStats) age(at time.Time) float64 {
	if s.Backlog == 0 || s.Oldest.IsZero() {
		return 0
	}
	return max(0, at.Sub(s.Oldest).Seconds())
}

func flag(on bool) float64 {
	if on {
		return 1
	}
	return 0
}

// set sets what the queues hold now; the statistics are the endpoints',
// in their order.
func (g *queueGauges) set(endpoints []*endpoint.Endpoint, all []queue.Stats, now time.Time, overQuota func(*endpoint.Endpoint) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at = now
	g.queues = slices.Grow(g.queues[:0], len(all))
	for i := range all {
		e := endpoints[i]
		of := endpointStats{endpoint: e.Name, Stats: &nothing, owned: all[i].Owned, paused: e.State == endpoint.Paused, overQuota: overQuota(e)}
		if idle := (queue.Stats{Endpoint: all[i].Endpoint, Owned: all[i].Owned}); all[i] != idle {
			held := all[i]
			of.Stats = &held
		}
		g.queues = append(g.queues, of)
	}
	clear(g.queues[len(g.queues):cap(g.queues)])
}

// largest are up to n endpoints with the longest backlogs, by their bytes.
func (g *queueGauges) largest(n int) []endpointStats {
	g.mu.Lock()
	defer g.mu.Unlock()
	some := slices.DeleteFunc(slices.Clone(g.queues), func(s endpointStats) bool { return s.Backlog-s.Overflowed+s.Replays == 0 })
	slices.SortFunc(some, func(a, b endpointStats) int {
		return cmp.Or(cmp.Compare(b.Bytes-b.OverflowedBytes, a.Bytes-a.OverflowedBytes), cmp.Compare(b.Backlog, a.Backlog))
	})
	return some[:min(n, len(some))]
}

// Describe implements prometheus.Collector.
func (g *queueGauges) Describe(out chan<- *prometheus.Desc) {
	for _, f := range g.figures {
		out <- f.desc
	}
}

// Collect implements prometheus.Collector.
func (g *queueGauges) Collect(out chan<- prometheus.Metric) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.queues {
		q := &g.queues[i]
		for _, f := range g.figures {
			out <- prometheus.MustNewConstMetric(f.desc, f.kind, f.value(q), q.endpoint)
		}
	}
}
