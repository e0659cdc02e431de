package console

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"gancho/delivery/endpoint"
	"gancho/internal/strictyaml"
)

// setting is one of an endpoint, as a field has it.
type setting struct {
	// name is its place in the document; a slash leads into an object.
	name string
	kind settingKind
	// choices are its values, of a choice.
	choices []string
	// usual is its default; "": there is none.
	usual string
}

type settingKind int

// The kinds of settings.
const (
	oneText    settingKind = iota
	aNumber                // that JSON has without quotes
	aList                  // of texts, which commas and lines separate
	pairs                  // "name: value", one on each line
	aChoice                // one of several
	aSwitch                // true, or left out
	aSwitchOff             // false, or left out
	longText               // with lines of its own
	inYAML                 // a list or an object
)

// settingGroup is what belongs together on the form.
type settingGroup struct {
	name     string
	settings []setting
}

// settingGroups are all settings of an endpoint but for its name, its state and its keys; a test compares them with the document's.
func settingGroups() []settingGroup {
	d := endpoint.Endpoint{}.WithDefaults()
	span := strictyaml.DurationText
	spans := func(ds []time.Duration) string {
		var out []string
		for _, d := range ds {
			out = append(out, span(d))
		}
		return strings.Join(out, ", ")
	}
	return []settingGroup{
		{"what", []setting{{name: "url"}, {name: "events", kind: aList}, {name: "tenants", kind: aList}, {name: "sources", kind: aList}, {name: "closing"}}},
		{"request", []setting{
			{name: "style", kind: aChoice, choices: endpoint.Styles()},
			{name: "format", kind: aChoice, choices: []string{"standard", "bare", "cloudevents", "cloudevents-binary", "form"}, usual: "standard"},
			{name: "fields", kind: aList}, {name: "headers", kind: pairs}, {name: "content_type"}, {name: "extra", kind: pairs},
			{name: "numbers", kind: aChoice, choices: []string{"exact", "string"}, usual: "exact"},
			{name: "batch/max", kind: aNumber, usual: "1"}, {name: "batch/wait", usual: span(0)}, {name: "batch/per", kind: aChoice, choices: []string{"transaction"}},
		}},
		{"credentials", []setting{
			{name: "signatures", kind: inYAML}, {name: "standard", kind: aSwitchOff},
			{name: "auth/basic/user"}, {name: "auth/basic/password"}, {name: "auth/bearer"},
			{name: "auth/oauth2/token_url"}, {name: "auth/oauth2/client_id"}, {name: "auth/oauth2/client_secret"},
			{name: "auth/oauth2/scopes", kind: aList}, {name: "auth/oauth2/params", kind: pairs},
			{name: "auth/oauth2/method", kind: aChoice, choices: []string{"basic", "post"}, usual: "basic"},
		}},
		{"success", []setting{{name: "success/status", kind: aList, usual: "200-299"}, {name: "success/body"}}},
		{"pace", []setting{
			{name: "order", kind: aChoice, choices: []string{"key", "endpoint", "none"}, usual: d.Order.String()},
			{name: "compact", kind: aChoice, choices: []string{"none", "key"}, usual: "none"},
			{name: "concurrency", kind: aNumber, usual: json.Number(jsonText(d.Concurrency)).String()}, {name: "rate"}, {name: "timeout", usual: span(d.Timeout)},
		}},
		{"failure", []setting{
			{name: "retry", kind: aList, usual: spans(d.Retry)}, {name: "retry_refused", kind: aList, usual: spans(d.RetryRefused)},
			{name: "max_age", usual: span(d.MaxAge)},
			{name: "on_exhausted", kind: aChoice, choices: []string{"dead_letter", "block", "pause"}, usual: d.OnExhausted.String()},
			{name: "pause_after", usual: span(d.PauseAfter)},
		}},
		{"network", []setting{
			{name: "http", kind: aChoice, choices: []string{"auto", "1.1"}, usual: "auto"}, {name: "proxy"},
			{name: "allow_http", kind: aSwitch}, {name: "allow_private", kind: aList},
			{name: "tls/ca", kind: longText}, {name: "tls/certificate", kind: longText}, {name: "tls/key", kind: longText},
		}},
	}
}

// settingNames are the names of all settings.
func settingNames() []string {
	var out []string
	for _, g := range settingGroups() {
		for i := range g.settings {
			out = append(out, g.settings[i].name)
		}
	}
	return out
}

// text is a value of a document as the field has it.
func (s *setting) text(value any) string {
	if s.kind == inYAML && value != nil {
		return strings.TrimSpace(yamlText(value))
	}
	switch value := value.(type) {
	case nil:
		return ""
	case string:
		return value
	case []any:
		var out []string
		for _, v := range value {
			out = append(out, s.text(v))
		}
		return strings.Join(out, ", ")
	case map[string]any:
		var out []string
		for _, name := range slices.Sorted(maps.Keys(value)) {
			out = append(out, name+": "+s.text(value[name]))
		}
		return strings.Join(out, "\n")
	}
	return jsonText(value)
}

// value is what a field's text stands for in a document; nil: nothing was written. What is no value of the kind stays a
// text, and is refused as one.
func (s *setting) value(text string) any {
	if text = strings.TrimSpace(strings.ReplaceAll(text, "\r\n", "\n")); text == "" {
		return nil
	}
	switch s.kind {
	case aNumber, aSwitch, aSwitchOff:
		if n, ok := scalar(text); ok {
			return n
		}
	case aList:
		out := []any{}
		for _, part := range split(text) {
			out = append(out, part)
		}
		return out
	case pairs:
		out := map[string]any{}
		for line := range strings.Lines(text) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			if name = strings.TrimSpace(name); name != "" {
				out[name] = strings.TrimSpace(value)
			}
		}
		return out
	case longText:
		return text + "\n"
	case inYAML:
		if value, err := yamlValue(text); err == nil {
			return value
		}
	}
	return text
}

// at returns a document's value by its place.
func at(document map[string]any, name string) any {
	outer, inner, nested := strings.Cut(name, "/")
	if !nested {
		return document[outer]
	}
	object, _ := document[outer].(map[string]any)
	return at(object, inner)
}

// put puts a value into a document; nil: nothing.
func put(document map[string]any, name string, value any) {
	outer, inner, nested := strings.Cut(name, "/")
	if value == nil {
		return
	}
	if !nested {
		document[outer] = value
		return
	}
	object, ok := document[outer].(map[string]any)
	if !ok {
		object = map[string]any{}
		document[outer] = object
	}
	put(object, inner, value)
}

func jsonText(v any) string {
	text, _ := json.Marshal(v) // of what was JSON
	return string(text)
}
