package monitoring

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// ruleFile is what Prometheus reads as rule_files.
type ruleFile struct {
	Groups []ruleGroup `yaml:"groups"`
}

type ruleGroup struct {
	Name  string `yaml:"name"`
	Rules []rule `yaml:"rules"`
}

type rule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for,omitempty"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func prometheusRules(runbooks string) ruleFile {
	var file ruleFile
	for _, g := range groups {
		group := ruleGroup{Name: "gancho-" + string(g.Group)}
		for _, w := range List() {
			for i := range w.Alerts {
				if a := &w.Alerts[i]; w.Group == g.Group {
					group.Rules = append(group.Rules, rule{
						a.Name, expression(&w, a.Condition), duration(a.For), map[string]string{"severity": string(a.Severity)},
						annotations(a, runbooks, "{{ $labels.endpoint }}", w.sourcePrefix()),
					})
				}
			}
		}
		file.Groups = append(file.Groups, group)
	}
	return file
}

// annotations are what an alert says. The receiver of Prometheus's alerts chooses the language.
func annotations(a *Alert, runbooks, endpoint, source string) map[string]string {
	fill := func(text string) string { return strings.ReplaceAll(text, "{endpoint}", endpoint) }
	return map[string]string{
		"summary": source + fill(a.Title.EN), "description": fill(a.Text.EN), "resumo": source + fill(a.Title.PT), "descricao": fill(a.Text.PT),
		"runbook_url": runbooks + "docs/operations.md#" + Anchor(a.Runbook),
	}
}

// sourcePrefix names the database, where there are several.
func (w *Watch) sourcePrefix() string {
	if !w.Sources {
		return ""
	}
	return "{{ with $labels.source }}{{ . }}: {{ end }}"
}

// Anchor is what a heading without marks is called in links.
func Anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case strings.ContainsRune(",.?!'():", r):
			return -1
		}
		return r
	}, strings.ToLower(heading))
}

// expression is the condition in PromQL.
func expression(w *Watch, c Condition) string {
	series := selector(w.Metric, w.Only)
	above := strconv.FormatFloat(c.Above, 'f', -1, 64)
	switch {
	case c.Absent:
		return fmt.Sprintf("%[1]s == 0 or absent(%[1]s)", series)
	case c.Increases:
		// A series with labels begins with its first count, of which increase sees nothing, and begins again with the process, with which
		// it may come to the number it had: two more ways to have counted.
		return fmt.Sprintf("increase(%[1]s[%[2]s]) > 0\nor (%[1]s > 0 unless %[1]s offset %[2]s)\nor (%[1]s > 0 and on (job, instance) time() - process_start_time_seconds < %.0[3]f)",
			series, duration(window), window.Seconds())
	case c.Share != "":
		return fmt.Sprintf("%[1]s > %[2]s * %[3]s and %[3]s > 0", series, above, c.Share)
	case c.Without != "":
		return fmt.Sprintf("%s > %s and %s == 0", series, above, c.Without)
	case w.perEndpoint():
		return fmt.Sprintf("max without (instance, pod) (%s) > %s", series, above)
	}
	return series + " > " + above
}

func selector(metric string, matchers ...string) string {
	some := make([]string, 0, len(matchers))
	for _, m := range matchers {
		if m != "" {
			some = append(some, m)
		}
	}
	if len(some) == 0 {
		return metric
	}
	return metric + "{" + strings.Join(some, ",") + "}"
}

// duration is as Prometheus and Zabbix write it, in minutes; empty for none.
func duration(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return strconv.Itoa(int(d.Minutes())) + "m"
}

// over is a value for which a comparison holds.
func over(c Condition) float64 { return math.Floor(c.Above) + 1 }
