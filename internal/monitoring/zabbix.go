package monitoring

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// zabbixExport is what Zabbix 7.0 exports and imports: the fields in its order, and only what differs from its defaults.
type zabbixExport struct {
	Export struct {
		Version   string           `yaml:"version"`
		Groups    []zabbixGroup    `yaml:"template_groups"`
		Templates []zabbixTemplate `yaml:"templates"`
	} `yaml:"zabbix_export"`
}

type zabbixGroup struct {
	UUID string `yaml:"uuid,omitempty"`
	Name string `yaml:"name"`
}

type zabbixTemplate struct {
	UUID        string            `yaml:"uuid"`
	Template    string            `yaml:"template"`
	Name        string            `yaml:"name"`
	Description string            `yaml:"description"`
	Groups      []zabbixGroup     `yaml:"groups"`
	Items       []zabbixItem      `yaml:"items"`
	Discovery   []zabbixDiscovery `yaml:"discovery_rules"`
	Tags        []zabbixTag       `yaml:"tags"`
	Macros      []zabbixMacro     `yaml:"macros"`
}

// zabbixItem is an item or, in a discovery rule, its prototype.
type zabbixItem struct {
	UUID          string          `yaml:"uuid"`
	Name          string          `yaml:"name"`
	Type          string          `yaml:"type"`
	Key           string          `yaml:"key"`
	Delay         string          `yaml:"delay"`
	History       string          `yaml:"history,omitempty"`
	Trends        string          `yaml:"trends,omitempty"`
	ValueType     string          `yaml:"value_type"`
	Units         string          `yaml:"units,omitempty"`
	Description   string          `yaml:"description,omitempty"`
	Preprocessing []zabbixStep    `yaml:"preprocessing,omitempty"`
	URL           string          `yaml:"url,omitempty"`
	Headers       []zabbixHeader  `yaml:"headers,omitempty"`
	Master        *zabbixMaster   `yaml:"master_item,omitempty"`
	Tags          []zabbixTag     `yaml:"tags,omitempty"`
	Triggers      []zabbixTrigger `yaml:"triggers,omitempty"`
	Prototypes    []zabbixTrigger `yaml:"trigger_prototypes,omitempty"`
}

type zabbixStep struct {
	Type         string   `yaml:"type"`
	Parameters   []string `yaml:"parameters"`
	ErrorHandler string   `yaml:"error_handler,omitempty"`
	ErrorValue   string   `yaml:"error_handler_params,omitempty"`
}

type zabbixDiscovery struct {
	UUID          string          `yaml:"uuid"`
	Name          string          `yaml:"name"`
	Type          string          `yaml:"type"`
	Key           string          `yaml:"key"`
	Delay         string          `yaml:"delay"`
	Lost          string          `yaml:"enabled_lifetime_type"`
	Description   string          `yaml:"description"`
	Items         []zabbixItem    `yaml:"item_prototypes"`
	Master        zabbixMaster    `yaml:"master_item"`
	Macros        []zabbixMapping `yaml:"lld_macro_paths"`
	Preprocessing []zabbixStep    `yaml:"preprocessing"`
}

type zabbixTrigger struct {
	UUID        string      `yaml:"uuid"`
	Expression  string      `yaml:"expression"`
	Name        string      `yaml:"name"`
	Priority    string      `yaml:"priority"`
	Description string      `yaml:"description"`
	Tags        []zabbixTag `yaml:"tags"`
}

type (
	zabbixHeader struct {
		Name  string `yaml:"name"`
		Value string `yaml:"value"`
	}
	zabbixMaster struct {
		Key string `yaml:"key"`
	}
	zabbixTag struct {
		Tag   string `yaml:"tag"`
		Value string `yaml:"value"`
	}
	zabbixMapping struct {
		Macro string `yaml:"lld_macro"`
		Path  string `yaml:"path"`
	}
	zabbixMacro struct {
		Macro       string `yaml:"macro"`
		Type        string `yaml:"type,omitempty"`
		Value       string `yaml:"value,omitempty"`
		Description string `yaml:"description"`
	}
)

const (
	templateName = "Gancho por HTTP"
	masterKey    = "gancho.metrics"
	// templatesGroup is the id that Zabbix itself ships for Templates/Applications.
	templatesGroup = "a571c0d144b14fd4a87a9d9b2aa9fcd6"
)

func zabbixTemplateFile() zabbixExport {
	const group = "Templates/Applications"
	master := zabbixItem{
		UUID: uuid("item " + masterKey), Name: "Métricas", Type: "HTTP_AGENT", Key: masterKey, Delay: "1m", History: "0", Trends: "0", ValueType: "TEXT",
		Description: "A página /metrics, de onde saem todos os outros itens.", URL: "{$GANCHO.URL}/metrics",
		Headers: []zabbixHeader{{"Authorization", "Bearer {$GANCHO.METRICS.TOKEN}"}}, Tags: component("raw"),
	}
	template := zabbixTemplate{
		UUID: uuid("template"), Template: templateName, Name: templateName, Groups: []zabbixGroup{{Name: group}}, Items: []zabbixItem{master},
		Description: "Ponte Gancho: captura do PostgreSQL, Redis, endpoints e banco de estado, lidos de /metrics. Configure {$GANCHO.URL} no host.",
		Tags:        []zabbixTag{{"class", "application"}, {"target", "gancho"}},
		Macros: []zabbixMacro{
			{"{$GANCHO.METRICS.TOKEN}", "SECRET_TEXT", "", "O token de http.metrics_token, se houver."},
			{"{$GANCHO.URL}", "", "http://127.0.0.1:8620", "Endereço de http.metrics, ou de http.listen, sem /metrics."},
		},
	}
	endpoints := discovery("endpoints", "Endpoints", "Um conjunto de itens para cada endpoint.", "endpoint", "gancho_backlog_events")
	sources := discovery("sources", "Bancos", "Um conjunto de itens para cada banco, de uma ponte que lê vários.", "source", `gancho_source_refused{source=~".+"}`)
	for _, w := range List() {
		switch {
		case w.Kind == Histogram: // a pattern of Zabbix reads one number
		case w.perEndpoint():
			endpoints.Items = append(endpoints.Items, zabbixItemOf(&w))
		case w.perSource():
			sources.Items = append(sources.Items, zabbixItemOf(&w))
		default:
			template.Items = append(template.Items, zabbixItemOf(&w))
		}
		if w.Each {
			w.By, w.Alerts = []string{"source"}, nil // the item of the worst has them
			sources.Items = append(sources.Items, zabbixItemOf(&w))
		}
	}
	template.Discovery = []zabbixDiscovery{endpoints, sources}
	var file zabbixExport
	file.Export.Version, file.Export.Groups, file.Export.Templates = "7.0", []zabbixGroup{{templatesGroup, group}}, []zabbixTemplate{template}
	return file
}

// discovery finds what has the label in a metric.
func discovery(of, name, description, label, metric string) zabbixDiscovery {
	return zabbixDiscovery{
		UUID: uuid("discovery " + of), Name: name, Type: "DEPENDENT", Key: "gancho." + of + ".discovery", Delay: "0",
		// By default Zabbix 7.0 disables immediately what a discovery does not find, and with it the alerts of endpoints while a bridge starts.
		Lost: "DISABLE_NEVER", Description: description,
		Master: zabbixMaster{masterKey}, Macros: []zabbixMapping{{macro(label), "$.labels['" + label + "']"}},
		// A bridge that starts shows none yet.
		Preprocessing: []zabbixStep{{"PROMETHEUS_TO_JSON", []string{metric}, "CUSTOM_VALUE", "[]"}},
	}
}

// macro stands for the value of a label that is discovered.
func macro(label string) string { return "{#" + strings.ToUpper(label) + "}" }

// discovered is the label by whose values Zabbix makes items of the watch; empty: there is one item.
func (w *Watch) discovered() string {
	switch {
	case w.perEndpoint():
		return "endpoint"
	case w.perSource():
		return "source"
	}
	return ""
}

func zabbixItemOf(w *Watch) zabbixItem {
	item := zabbixItem{
		UUID: uuid("item " + w.itemID()), Name: w.Title.PT, Type: "DEPENDENT", Key: zabbixKey(w), Delay: "0", ValueType: "FLOAT",
		Units: map[Unit]string{Bytes: "B", Seconds: "s"}[w.Unit], Master: &zabbixMaster{masterKey}, Tags: component(string(w.Group)), Preprocessing: zabbixSteps(w),
	}
	if label := w.discovered(); label != "" {
		item.Name = macro(label) + ": " + item.Name
		item.Tags = append(item.Tags, zabbixTag{label, macro(label)})
	}
	for i := range w.Alerts {
		a := &w.Alerts[i]
		fill := func(text string) string { return strings.ReplaceAll(text, "{endpoint}", "{#ENDPOINT}") }
		trigger := zabbixTrigger{
			uuid("trigger " + a.Name), zabbixExpression(w, a), fill(a.Title.PT), map[Severity]string{Critical: "HIGH", Warning: "WARNING"}[a.Severity],
			fill(a.Text.PT) + " Veja docs/operations.md#" + Anchor(a.Runbook), []zabbixTag{{"scope", string(w.Group)}},
		}
		if w.discovered() != "" {
			item.Prototypes = append(item.Prototypes, trigger)
		} else {
			item.Triggers = append(item.Triggers, trigger)
		}
	}
	return item
}

// itemID is the id of an item: one of each database has another than that of the worst.
func (w *Watch) itemID() string {
	if w.Each && w.perSource() {
		return w.id() + "_of"
	}
	return w.id()
}

// zabbixSteps read the item's number from the page.
func zabbixSteps(w *Watch) []zabbixStep {
	if w.Metric == scraped {
		return []zabbixStep{{"PROMETHEUS_PATTERN", []string{"gancho_build_info", "value", ""}, "", ""}}
	}
	matchers := []string{w.Only}
	sum := len(w.By) > 0 || w.Only != "" || w.Sources && w.Kind == Counter
	label := w.discovered()
	if label != "" {
		matchers = append(matchers, label+`="`+macro(label)+`"`)
		sum = len(w.By) > 1 || w.Only != "" || w.Kind == Counter // of which there may be none yet
	}
	step := zabbixStep{"PROMETHEUS_PATTERN", []string{selector(w.Metric, matchers...), "value", ""}, "", ""}
	if sum {
		// A series that has not counted yet is not there.
		step.Parameters[1], step.Parameters[2] = "function", "sum"
		step.ErrorHandler, step.ErrorValue = "CUSTOM_VALUE", "0"
	}
	if w.Sources && label == "" && !sum {
		step.Parameters[1], step.Parameters[2] = "function", "max"
	}
	if w.Kind == Counter {
		return []zabbixStep{step, {"CHANGE_PER_SECOND", []string{""}, "", ""}}
	}
	return []zabbixStep{step}
}

func zabbixKey(w *Watch) string {
	key := "gancho." + strings.TrimPrefix(w.itemID(), "gancho_")
	if label := w.discovered(); label != "" {
		return key + `["` + macro(label) + `"]`
	}
	return key
}

// zabbixExpression is the condition as a trigger.
func zabbixExpression(w *Watch, a *Alert) string {
	item := func(key string) string { return "/" + templateName + "/" + key }
	other := func(metric string) string {
		return fmt.Sprintf("last(%s)", item(zabbixKey(&Watch{Metric: metric})))
	}
	c, this, above := a.Condition, item(zabbixKey(w)), strconv.FormatFloat(a.Condition.Above, 'f', -1, 64)
	value := fmt.Sprintf("last(%s)", this)
	if a.For > 0 {
		value = fmt.Sprintf("min(%s,%s)", this, duration(a.For))
	}
	switch {
	case c.Absent:
		// The page is read once a minute: one that comes a little late is no silence.
		return fmt.Sprintf("nodata(%s,%s)=1", this, duration(a.For+time.Minute))
	case c.Increases:
		return fmt.Sprintf("max(%s,%s)>0", this, duration(window))
	case c.Share != "":
		return fmt.Sprintf("%s>%s*%[3]s and %[3]s>0", value, above, other(c.Share))
	case c.Without != "":
		return fmt.Sprintf("%s>%s and %s=0", value, above, other(c.Without))
	}
	return value + ">" + above
}

func component(name string) []zabbixTag { return []zabbixTag{{"component", name}} }

// uuid is the same for the same thing for ever, or an import would delete it with its history and make another one. Zabbix takes
// nothing but version 4 without hyphens.
func uuid(of string) string {
	sum := sha256.Sum256([]byte("gancho zabbix " + of))
	sum[6], sum[8] = sum[6]&0x0f|0x40, sum[8]&0x3f|0x80
	return hex.EncodeToString(sum[:16])
}
