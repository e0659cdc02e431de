package bridge

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"gancho/cdc"
	"gancho/delivery/dispatch"
	"gancho/delivery/webhook"
	"gancho/internal/api"
	"gancho/internal/state"
	"gancho/internal/tracing"
	"gancho/mapping"
)

// metrics are what /metrics shows. Durations are in seconds, sizes in bytes.
type metrics struct {
	registry *prometheus.Registry
	*sourceMetrics

	queues *queueGauges

	refreshes      prometheus.Counter
	records        *prometheus.CounterVec
	recordsRefused prometheus.Counter
	jobs           *prometheus.CounterVec
	jobEvents      *prometheus.CounterVec
	notices        *prometheus.CounterVec
	mails          *prometheus.CounterVec
	spans          *prometheus.CounterVec

	expired *prometheus.CounterVec

	loginFailures *prometheus.CounterVec
	turnedAway    prometheus.Counter
	busy          prometheus.Counter

	attempts   *prometheus.CounterVec
	superseded *prometheus.CounterVec
	latency    *prometheus.HistogramVec
}

// sourceMetrics are those of one source: with several, each has its own, with the label source.
type sourceMetrics struct {
	changes      *prometheus.CounterVec
	events       *prometheus.CounterVec
	parked       *prometheus.CounterVec
	gaps         *prometheus.CounterVec
	missing      prometheus.Gauge
	appendErrors prometheus.Counter
	rewinds      prometheus.Counter

	slotLagBytes   prometheus.Gauge
	slotLagSeconds prometheus.Gauge
	walHeld        prometheus.Gauge
	unconfirmed    prometheus.Gauge
	captureRefused prometheus.Gauge
	walBudget      prometheus.Gauge
	capturePaused  prometheus.Gauge
	refusedTables  prometheus.Gauge
	unseenTables   prometheus.Gauge
	recordsWaiting prometheus.Gauge

	timersPending *prometheus.GaugeVec
	timers        *prometheus.CounterVec
	scheduleRuns  *prometheus.CounterVec
	scheduleLast  *prometheus.GaugeVec

	// Counters of the hot path, looked up once.
	changesOf map[changeLabels]prometheus.Counter
	eventsOf  map[eventLabels]prometheus.Counter
}

type eventLabels struct{ event, rule string }

type changeLabels struct {
	relation *cdc.Relation
	op       cdc.Op
}

// counter and plain make counters, with labels and without.
func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "gancho", Name: name, Help: help}, labels)
}

func plain(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "gancho", Name: name, Help: help})
}

// newMetrics returns the metrics of a process with one source.
func newMetrics() *metrics {
	m := newHouseMetrics()
	m.registry.MustRegister(m.collectors()...)
	return m
}

// newHouseMetrics returns those of a process with several, which are not of a source.
func newHouseMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(), sourceMetrics: newSourceMetrics(),
		attempts:   counter("attempts_total", "Delivery attempts by outcome.", "endpoint", "outcome"),
		superseded: counter("superseded_events_total", "Events that were not sent, because a newer one of their key was there (compact).", "endpoint"),
		queues:     newQueueGauges(),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "gancho", Name: "commit_to_delivered_seconds",
			Help:    "From the commit of the change to the receiver's success.",
			Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200},
		}, []string{"endpoint"}),
	}
	m.refreshes = plain("endpoint_refreshes_total", "Times that stored endpoints were read again because they had changed.")
	m.records = counter("records_total", "Rows written to the state database: attempt, event, dead_letter.", "kind")
	m.recordsRefused = plain("records_refused_total", "Rows that the state database refuses and that were left out.")
	m.jobs = counter("jobs_total", "Resends and redrives that ended, by how.", "kind", "state")
	m.jobEvents = counter("job_events_total", "Events that resends and redrives have queued again.", "kind")
	m.mails = counter("mails_total", "Mails about operational events: sent, failed or dropped.", "outcome")
	m.spans = counter("trace_spans_total", "Spans by outcome: sent to the collector, dropped because too many waited or tracing was turned off, or failed because the collector did not take them.", "outcome")
	m.notices = counter("operational_events_total", "Operational events queued for subscribers.", "event")
	m.expired = counter("expired_total", "Dead letters and parked changes that were deleted because they were kept for long enough.", "kind")
	m.loginFailures = counter("api_login_failures_total", "Requests without a valid token: none was given (missing), it is not valid (invalid), too many had failed before from its address (throttled), or the metrics' token is wrong (metrics).", "reason")
	m.turnedAway = plain("http_connections_turned_away_total", "Connections to Gancho's own listeners that found no room, or made room for them.")
	m.busy = plain("api_busy_total", "Requests to the API that were refused because too many of their tenant or token, or of all, were in flight.")
	m.registry.MustRegister(m.expired, m.busy, m.loginFailures, m.turnedAway,
		m.refreshes, m.records, m.recordsRefused, m.jobs, m.jobEvents, m.notices, m.mails, m.spans, m.attempts, m.superseded, m.queues, m.latency,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.beginAtZero()
	return m
}

func newSourceMetrics() *sourceMetrics {
	m := &sourceMetrics{
		changes:   counter("changes_total", "Row changes read from the replication stream.", "table", "op"),
		events:    counter("events_total", "Events that rules made, before they are routed to endpoints.", "event", "rule"),
		parked:    counter("parked_total", "Changes that a rule could not be applied to, and that were parked.", "event"),
		gaps:      counter("table_gaps_total", "Times that a rule's table left the stream, so that changes of it are missing.", "table"),
		changesOf: map[changeLabels]prometheus.Counter{},
		eventsOf:  map[eventLabels]prometheus.Counter{},
	}
	m.appendErrors = plain("append_errors_total", "Appends to Redis that failed and are repeated.")
	m.rewinds = plain("rewinds_total", "Times that capture went back to the confirmed position because Redis had restarted or lost something.")
	m.slotLagBytes = prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "gancho", Name: "slot_lag_bytes", Help: "WAL written by the source and not yet confirmed by Gancho."})
	m.slotLagSeconds = prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "gancho", Name: "slot_lag_seconds", Help: "Age of the oldest transaction read and not yet confirmed; 0 when there is none."})
	m.unconfirmed = prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "gancho", Name: "confirmations_stopped", Help: "1 while positions cannot be confirmed to the source, because Redis may lose what it was given."})
	m.captureRefused = prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "gancho", Name: "capture_refused", Help: "1 while this process delivers and may not capture, until somebody has run gancho recover: changes may be missing."})
	m.walBudget = prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "gancho", Name: "slot_wal_budget_bytes", Help: "WAL that the source may hold for the slot, as source.wal_budget says; 0 without a budget."})
	m.capturePaused = prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "gancho", Name: "capture_paused", Help: "1 while capture waits because Redis uses more of its maxmemory than queue.max_memory_percent."})
	m.walHeld = prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "gancho", Name: "slot_wal_held_bytes", Help: "WAL that the source keeps on disk for the slot."})
	m.refusedTables = prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "gancho", Name: "refused_tables", Help: "Published tables whose UPDATE or DELETE PostgreSQL refuses because of a publication."})
	m.unseenTables = prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "gancho", Name: "unseen_tables", Help: "Partitions and children of published tables whose rows are not in the stream."})
	m.missing = prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "gancho", Name: "tables_missing", Help: "Tables of the rules that the stream lacks now."})
	m.recordsWaiting = prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "gancho", Name: "records_waiting", Help: "Attempts and dead letters in Redis that this process is to write to the state database."})
	m.timersPending = prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "gancho", Name: "timers_pending", Help: "Timers of rules with after that are not due yet, by event; empty: the rule is gone."}, []string{"event"})
	m.timers = counter("timers_total", "Timers that were due, by what became of them: fired, none (the row is gone, or when is no longer true), late (dropped for max_late), gone (the rule was removed), failed (the event could not be computed).", "event", "outcome")
	m.scheduleRuns = counter("schedule_runs_total", "Runs of rules with schedule: done, failed (and tried again) or skipped (too late).", "event", "outcome")
	m.scheduleLast = prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "gancho", Name: "schedule_last_run_timestamp_seconds", Help: "Scheduled time of the last run of a rule with schedule that this process has ended."}, []string{"event"})
	return m
}

// collectors are all of them.
func (m *sourceMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		m.timersPending, m.timers, m.scheduleRuns, m.scheduleLast, m.recordsWaiting,
		m.changes, m.events, m.parked, m.gaps, m.missing,
		m.appendErrors, m.rewinds, m.slotLagBytes, m.slotLagSeconds, m.walHeld, m.unconfirmed, m.captureRefused, m.walBudget, m.capturePaused, m.refusedTables, m.unseenTables,
	}
}

// of returns the metrics of one of several sources, and what removes them. What is not a source's is shared.
func (m *metrics) of(source string) (*metrics, func()) {
	out := *m
	out.sourceMetrics = newSourceMetrics()
	labeled := prometheus.WrapRegistererWith(prometheus.Labels{"source": source}, m.registry)
	all := out.collectors()
	labeled.MustRegister(all...)
	return &out, func() {
		for _, c := range all {
			labeled.Unregister(c)
		}
	}
}

// beginAtZero makes the series whose labels are known: the first count of one that begins with it is no increase to who watches.
func (m *metrics) beginAtZero() {
	for _, outcome := range []string{"sent", "failed", "dropped"} {
		m.mails.WithLabelValues(outcome)
	}
	for _, outcome := range tracing.Outcomes() {
		m.traced(outcome, 0)
	}
	for _, kind := range []string{"attempt", "event", "dead_letter"} {
		m.records.WithLabelValues(kind)
	}
	for _, reason := range []string{api.FailedMissing, api.FailedInvalid, api.FailedThrottled, "metrics"} {
		m.loginFailures.WithLabelValues(reason)
	}
	for _, kind := range []state.JobKind{state.Resend, state.Redrive, state.RedriveParked, state.Backfill} {
		for _, to := range []state.JobState{state.Done, state.Canceled, state.Failed} {
			m.jobs.WithLabelValues(string(kind), string(to))
		}
	}
}

// rules is beginAtZero for what the rules make.
func (m *sourceMetrics) rules(rules *mapping.Ruleset) {
	for _, event := range rules.EventNames() {
		m.parked.WithLabelValues(event)
	}
	for _, table := range rules.TableNames() {
		m.gaps.WithLabelValues(table.String())
	}
	for _, identity := range rules.TimerRules() {
		rule, _ := rules.TimerRule(identity)
		for _, outcome := range []string{timerFired, timerNone, timerLate, timerFailed} {
			m.timers.WithLabelValues(rule.Event, outcome)
		}
	}
	for _, s := range rules.Schedules() {
		for _, outcome := range []string{"done", "failed", "skipped"} {
			m.scheduleRuns.WithLabelValues(s.Event(), outcome)
		}
	}
}

// traced counts spans; the exporter calls it from many goroutines.
func (m *metrics) traced(outcome tracing.Outcome, n int) {
	m.spans.WithLabelValues(string(outcome)).Add(float64(n))
}

// build adds what the process was built from.
func (m *metrics) build(version, revision string) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "gancho", Name: "build_info", Help: "1, with the version, the commit and the Go that the process was built from.",
		ConstLabels: prometheus.Labels{"version": version, "revision": revision, "goversion": runtime.Version()},
	}, func() float64 { return 1 }))
}

// forget removes what is measured of an endpoint that is no more.
func (m *metrics) forget(endpoint string) {
	of := prometheus.Labels{"endpoint": endpoint}
	m.attempts.DeletePartialMatch(of)
	m.superseded.DeletePartialMatch(of)
	m.latency.DeletePartialMatch(of)
}

// change counts a row change. Only the capture goroutine calls it.
func (m *sourceMetrics) change(c *cdc.Change) {
	k := changeLabels{c.Relation, c.Op}
	counter, ok := m.changesOf[k]
	if !ok {
		counter = m.changes.WithLabelValues(c.Relation.Schema+"."+c.Relation.Name, c.Op.String())
		m.changesOf[k] = counter
	}
	counter.Inc()
}

// event counts an event. Only the capture goroutine calls it.
func (m *sourceMetrics) event(name, rule string) {
	k := eventLabels{name, rule}
	counter, ok := m.eventsOf[k]
	if !ok {
		counter = m.events.WithLabelValues(name, rule)
		m.eventsOf[k] = counter
	}
	counter.Inc()
}

// lagClock tells how old the oldest unconfirmed transaction is, from samples:
// one transaction per sampleEvery is remembered, not each.
type lagClock struct {
	samples []lagSample
}

type lagSample struct {
	end  cdc.LSN
	time time.Time
}

const sampleEvery = 100 * time.Millisecond

func (l *lagClock) read(end cdc.LSN, commit time.Time) {
	if n := len(l.samples); n > 0 && commit.Sub(l.samples[n-1].time) < sampleEvery {
		l.samples[n-1].end = end
		return
	}
	l.samples = append(l.samples, lagSample{end, commit})
}

func (l *lagClock) confirm(lsn cdc.LSN) {
	n := 0
	for n < len(l.samples) && l.samples[n].end <= lsn {
		n++
	}
	l.samples = append(l.samples[:0], l.samples[n:]...)
}

func (l *lagClock) age(now time.Time) time.Duration {
	if len(l.samples) == 0 {
		return 0
	}
	return max(0, now.Sub(l.samples[0].time))
}

// supersede counts an event that is not sent; the dispatcher calls it from many goroutines.
func (m *metrics) supersede(endpoint string) { m.superseded.WithLabelValues(endpoint).Inc() }

// attempt counts an attempt; the dispatcher calls it from many goroutines.
func (m *metrics) attempt(a dispatch.Attempt) {
	m.attempts.WithLabelValues(a.Endpoint, a.Outcome.Class).Inc()
	if a.Outcome.Kind == webhook.Delivered {
		m.latency.WithLabelValues(a.Endpoint).Observe(a.CommitToDelivered().Seconds())
	}
}
