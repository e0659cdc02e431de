package monitoring

import (
	"fmt"
	"strings"
)

// Query is what a panel of the dashboard asks Prometheus.
type Query struct{ Metric, Title, Expr, legend string }

// firing is the dashboard's first panel.
var firing = Query{"ALERTS", "Alerts that fire", `sum(ALERTS{alertname=~"Gancho.*",alertstate="firing"}) or vector(0)`, "alerts"}

// Queries returns those of all panels, with Grafana's variables.
func Queries() []Query {
	all := []Query{firing}
	for _, w := range List() {
		all = append(all, query(&w))
	}
	return all
}

func query(w *Watch) Query {
	endpoint := ""
	if w.perEndpoint() {
		endpoint = `endpoint=~"$endpoint"`
	}
	labels := strings.Join(w.By, ", ")
	q := Query{w.Metric, w.Title.EN, "", "{{" + strings.Join(w.By, "}} {{") + "}}"}
	source := ""
	if w.Sources || w.perSource() {
		source = `source=~"$source"` // .* is that of a bridge with one, too
	}
	where := []string{w.Only, `instance=~"$instance"`, endpoint, source}
	series := selector(w.Metric, where...)
	switch {
	case w.Kind == Histogram:
		q.Expr = fmt.Sprintf("histogram_quantile(0.99, sum by (le, %s) (rate(%s[$__rate_interval])))", labels, selector(w.Metric+"_bucket", where...))
	case w.Kind == Counter && len(w.By) > 0:
		q.Expr = fmt.Sprintf("sum by (%s) (rate(%s[$__rate_interval]))", labels, series)
	case w.Kind == Counter:
		q.Expr, q.legend = fmt.Sprintf("sum by (instance) (rate(%s[$__rate_interval]))", series), "{{instance}}"
	case len(w.By) > 0:
		q.Expr = fmt.Sprintf("max by (%s) (%s)", labels, series)
	case w.Sources: // of hundreds the worst are drawn
		q.Expr, q.legend = fmt.Sprintf("topk(20, %s)", series), "{{instance}} {{source}}"
	default:
		q.Expr, q.legend = series, "{{instance}}"
	}
	return q
}

type object = map[string]any

// Where panels stand: Grafana's width is 24.
const (
	panelWidth, panelHeight = 8, 7
	gridWidth               = 24
	dashboardID             = "gancho"
)

func grafanaDashboard() object {
	source := object{"type": "prometheus", "uid": "${datasource}"}
	panels := []object{{
		"id": 1, "type": "stat", "title": firing.Title, "datasource": source, "gridPos": object{"x": 0, "y": 0, "w": gridWidth, "h": 3},
		"targets":     []object{{"refId": "A", "datasource": source, "expr": firing.Expr, "legendFormat": firing.legend}},
		"fieldConfig": object{"defaults": object{"thresholds": steps(1)}, "overrides": []object{}},
	}}
	y := 3
	for _, g := range groups {
		panels = append(panels, object{"id": len(panels) + 1, "type": "row", "title": g.title.EN, "collapsed": false, "panels": []object{}, "gridPos": object{"x": 0, "y": y, "w": gridWidth, "h": 1}})
		y++
		x := 0
		for _, w := range List() {
			if w.Group != g.Group {
				continue
			}
			if x == gridWidth {
				x, y = 0, y+panelHeight
			}
			panel := panel(&w, source)
			panel["id"], panel["gridPos"] = len(panels)+1, object{"x": x, "y": y, "w": panelWidth, "h": panelHeight}
			panels = append(panels, panel)
			x += panelWidth
		}
		y += panelHeight
	}
	variable := func(name, label, query string) object {
		return object{
			"name": name, "label": label, "type": "query", "datasource": source, "query": object{"query": query, "refId": name}, "definition": query,
			"multi": true, "includeAll": true, "allValue": ".*", "refresh": 2, "sort": 1, "current": object{"text": []string{"All"}, "value": []string{"$__all"}},
		}
	}
	return object{
		"uid": dashboardID, "title": "Gancho", "tags": []string{"gancho"}, "schemaVersion": 39, "version": 1, "editable": true, "refresh": "30s",
		"time": object{"from": "now-6h", "to": "now"}, "timezone": "browser", "graphTooltip": 1, "annotations": object{"list": []object{}}, "links": []object{}, "panels": panels,
		"templating": object{"list": []object{
			{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1, "current": object{}},
			variable("instance", "Process", "label_values(gancho_build_info, instance)"),
			variable("endpoint", "Endpoint", "label_values(gancho_backlog_events, endpoint)"),
			variable("source", "Database", "label_values(gancho_source_refused, source)"),
		}},
	}
}

func panel(w *Watch, source object) object {
	q := query(w)
	defaults := object{"unit": map[Unit]string{Number: "short", Flag: "bool_yes_no", Bytes: "bytes", Seconds: "s"}[w.Unit], "min": 0, "custom": object{"fillOpacity": 10}}
	if w.Kind == Counter {
		defaults["unit"] = "cps"
	}
	for i := range w.Alerts {
		if c := w.Alerts[i].Condition; c.Above > 0 && c.Share == "" {
			defaults["custom"] = object{"fillOpacity": 10, "thresholdsStyle": object{"mode": "line"}}
			defaults["thresholds"] = steps(c.Above)
		}
	}
	return object{
		"type": "timeseries", "title": q.Title, "datasource": source,
		"targets":     []object{{"refId": "A", "datasource": source, "expr": q.Expr, "legendFormat": q.legend}},
		"fieldConfig": object{"defaults": defaults, "overrides": []object{}},
		"options":     object{"legend": object{"displayMode": "list", "placement": "bottom", "showLegend": true}, "tooltip": object{"mode": "multi"}},
	}
}

// steps are green below the number, and red from it on.
func steps(from float64) object {
	return object{"mode": "absolute", "steps": []object{{"color": "green", "value": nil}, {"color": "red", "value": from}}}
}
