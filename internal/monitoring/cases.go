package monitoring

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// caseFile is what `promtool test rules` reads: of each alert a case that fires, and one that is as near to it and does not.
type caseFile struct {
	RuleFiles []string   `yaml:"rule_files"`
	Interval  string     `yaml:"evaluation_interval"`
	Tests     []ruleCase `yaml:"tests"`
}

type ruleCase struct {
	Name     string        `yaml:"name"`
	Interval string        `yaml:"interval"`
	Series   []inputSeries `yaml:"input_series"`
	Alerts   []alertCase   `yaml:"alert_rule_test"`
}

type inputSeries struct {
	Series string `yaml:"series"`
	Values string `yaml:"values"`
}

type alertCase struct {
	At    string     `yaml:"eval_time"`
	Alert string     `yaml:"alertname"`
	Want  []expected `yaml:"exp_alerts"`
}

type expected struct {
	Labels      map[string]string `yaml:"exp_labels"`
	Annotations map[string]string `yaml:"exp_annotations"`
}

// start is a series without a hole from the first minute on: the process began with the clock.
var start = inputSeries{`process_start_time_seconds{job="gancho",instance="a"}`, "0x120"}

func promtoolCases(runbooks string) caseFile {
	file := caseFile{[]string{"gancho.rules.yml"}, "1m", nil}
	for _, w := range List() {
		for i := range w.Alerts {
			file.Tests = append(file.Tests, casesOf(&w, &w.Alerts[i], runbooks)...)
		}
	}
	return file
}

func casesOf(w *Watch, a *Alert, runbooks string) []ruleCase {
	labels := sample(w)
	wanted := map[string]string{"severity": string(a.Severity)}
	for name, value := range labels {
		if !w.perEndpoint() || a.Condition.Increases || name != "instance" {
			wanted[name] = value
		}
	}
	fires := []expected{{wanted, annotations(a, runbooks, "crm", "")}}
	with := func(name string, series []inputSeries, alerts ...alertCase) ruleCase {
		return ruleCase{a.Name + ": " + name, "1m", series, alerts}
	}
	at := func(minute int, want []expected) alertCase {
		return alertCase{strconv.Itoa(minute) + "m", a.Name, want}
	}
	const none = "_"
	this := func(values string) inputSeries { return inputSeries{series(w.Metric, labels), values} }
	other := func(metric, values string) inputSeries { return inputSeries{series(metric, labels), values} }
	steady := func(value float64) string { return strconv.FormatFloat(value, 'f', -1, 64) + "x120" }
	// Before the time is up there is no alert.
	held := func(want []expected) []alertCase {
		cases := []alertCase{at(int(a.For.Minutes())+1, want)}
		if a.For > time.Minute {
			cases = append(cases, at(int(a.For.Minutes())-1, nil))
		}
		return cases
	}
	c := a.Condition
	switch {
	case c.Absent:
		absent := []expected{{map[string]string{"severity": string(a.Severity)}, fires[0].Annotations}}
		return []ruleCase{
			with("does not answer", []inputSeries{this("0x120")}, held(fires)...),
			with("nothing is scraped", []inputSeries{start}, held(absent)...),
			with("quiet", []inputSeries{this("1x120")}, held(nil)...),
		}
	case c.Increases:
		before := "0"
		if len(w.By) > 0 || w.Only != "" {
			before = none
		}
		return []ruleCase{
			with("counts", []inputSeries{start, this(before + "x50 1x70")}, at(49, nil), at(52, fires), at(75, nil)),
			with("counts again", []inputSeries{start, this("3x50 4x70")}, at(49, nil), at(53, fires), at(75, nil)),
			with("counts to the same number after a restart", []inputSeries{this("1x45 " + none + "x2 1x70"), other("process_start_time_seconds", "0x45 "+none+"x2 2820x70")},
				at(44, nil), at(50, fires), at(75, nil)),
			with("quiet", []inputSeries{start, this("3x120")}, at(60, nil)),
		}
	case c.Share != "":
		return []ruleCase{
			with("fires", []inputSeries{this("51x120"), other(c.Share, "100x120")}, held(fires)...),
			with("quiet", []inputSeries{this("50x120"), other(c.Share, "100x120")}, held(nil)...),
			with("quiet without a budget", []inputSeries{this("51x120"), other(c.Share, "0x120")}, held(nil)...),
		}
	case c.Without != "":
		return []ruleCase{
			with("fires", []inputSeries{this(steady(over(c))), other(c.Without, "0x120")}, held(fires)...),
			with("quiet", []inputSeries{this(steady(c.Above)), other(c.Without, "0x120")}, held(nil)...),
			with("quiet under a budget", []inputSeries{this(steady(over(c))), other(c.Without, "1x120")}, held(nil)...),
		}
	}
	return []ruleCase{
		with("fires", []inputSeries{this(steady(over(c)))}, held(fires)...),
		with("quiet", []inputSeries{this(steady(c.Above))}, held(nil)...),
	}
}

// sample has a value for each label of a series of the watch.
func sample(w *Watch) map[string]string {
	labels := map[string]string{"job": "gancho", "instance": "a"}
	for _, name := range w.By {
		labels[name] = map[string]string{"endpoint": "crm", "table": "public.clientes", "op": "insert", "event": "cliente.criado"}[name]
		if labels[name] == "" {
			labels[name] = "backfill"
		}
	}
	if w.Metric != scraped && w.Only != "" {
		name, value, _ := strings.Cut(strings.ReplaceAll(w.Only, "=~", "="), "=")
		value, _, _ = strings.Cut(strings.Trim(value, `"`), "|")
		labels[name] = value
	}
	return labels
}

func series(metric string, labels map[string]string) string {
	pairs := make([]string, 0, len(labels))
	for name, value := range labels {
		pairs = append(pairs, fmt.Sprintf("%s=%q", name, value))
	}
	slices.Sort(pairs)
	return metric + "{" + strings.Join(pairs, ",") + "}"
}
