package monitoring

import (
	"slices"
	"strings"
	"time"
)

// Watch is a metric to draw, and when to wake somebody because of it.
type Watch struct {
	// Metric is its name at /metrics. "up" is Prometheus's own: whether the bridge could be scraped.
	Metric string
	// Only is a matcher of one label, such as `outcome="failed"`; empty for every series.
	Only string
	// By are the labels that each have a line of their own. With "endpoint" Zabbix discovers the endpoints.
	By []string
	// Sources: a bridge that reads several databases gives it for each, with the label "source". What says how bad it is reads the worst of them.
	Sources bool
	// Each: so Zabbix discovers it, too.
	Each   bool
	Kind   Kind
	Unit   Unit
	Group  Group
	Title  Text
	Alerts []Alert
}

// Alert is a condition that somebody has to do something about.
type Alert struct {
	Name      string // Prometheus's
	Condition Condition
	// For is how long the condition has to hold.
	For      time.Duration
	Severity Severity
	// Runbook is a heading of docs/operations.md.
	Runbook string
	// Title and Text: {endpoint} is the endpoint's name.
	Title, Text Text
}

// Condition is what both PromQL and a trigger of Zabbix can express. Its zero value is a value above 0.
type Condition struct {
	// Absent: the bridge gives no metrics.
	Absent bool
	// Increases: the counter has counted within the last window.
	Increases bool
	// Above: the value is larger. With Share it is a part of that metric's value, and holds only where that is above 0.
	Above float64
	Share string
	// Without: the comparison holds only while that metric is 0.
	Without string
}

// window is how long an increase of a counter is shown.
const window = 15 * time.Minute

// Text is a text in both languages.
type Text struct{ EN, PT string }

// Kind is a metric's.
type Kind int

// The kinds of metrics.
const (
	Gauge Kind = iota
	Counter
	Histogram
)

// Unit is a metric's, and that of its rate where it is a counter.
type Unit int

// The units of metrics.
const (
	Number Unit = iota
	Flag        // 0 or 1
	Bytes
	Seconds
)

// Group is a row of the dashboard, and a group of rules.
type Group string

// The groups, in the order of the data path.
const (
	Source    Group = "source"
	Rules     Group = "rules"
	Queue     Group = "queue"
	Endpoints Group = "endpoints"
	State     Group = "state"
)

var groups = []struct {
	Group
	title Text
}{
	{Source, Text{"The source and its slot", "A origem e o slot"}},
	{Rules, Text{"Rules and tables", "Regras e tabelas"}},
	{Queue, Text{"Redis", "Redis"}},
	{Endpoints, Text{"Endpoints", "Endpoints"}},
	{State, Text{"The state database, jobs and mails", "O banco de estado, trabalhos e e-mails"}},
}

// Severity is how soon somebody has to come.
type Severity string

// The severities: events or the application are in danger; it can wait for the morning.
const (
	Critical Severity = "critical"
	Warning  Severity = "warning"
)

// perEndpoint: every process that delivers shows the same figures of every endpoint, so that they are no sum.
func (w *Watch) perEndpoint() bool { return slices.Contains(w.By, "endpoint") }

// perSource: it is given by bridges of several databases alone, for each.
func (w *Watch) perSource() bool { return slices.Contains(w.By, "source") }

// id is the metric's name, and the value that Only chooses.
func (w *Watch) id() string {
	name := w.Metric
	if _, value, ok := strings.Cut(w.Only, `"`); ok && w.Metric != scraped {
		name += "_" + strings.TrimSuffix(strings.ReplaceAll(value, "|", "_"), `"`)
	}
	return name
}

// scraped is the metric that Prometheus itself makes for each target.
const scraped = "up"

// Labels are the names of the labels that its texts use.
func (w *Watch) Labels() []string {
	labels := slices.Clone(w.By)
	if name, _, ok := strings.Cut(w.Only, "="); ok {
		labels = append(labels, name)
	}
	return labels
}
