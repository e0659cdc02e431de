package console

import (
	"cmp"
	"fmt"
	"html/template"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"gancho/cdc"
	"gancho/delivery/webhook"
	"gancho/internal/control"
	"gancho/internal/language"
	"gancho/internal/presets"
	"gancho/internal/state"
)

// pages are the templates of the pages by name, once for each language: the functions that they call speak it.
type pages map[language.Code]map[string]*template.Template

// shared are the templates that all pages have.
var shared = []string{"templates/layout.html", "templates/component.html"}

func parsePages(c *console) (pages, error) {
	names, err := fs.Glob(files, "templates/*.html")
	if err != nil {
		return nil, err
	}
	out := pages{}
	for _, code := range language.Codes() {
		base, err := template.New("").Funcs(c.functions(language.Of(code))).ParseFS(files, shared...)
		if err != nil {
			return nil, err
		}
		out[code] = map[string]*template.Template{}
		for _, name := range names {
			t, err := base.Clone()
			if err != nil {
				return nil, err
			}
			if t, err = t.ParseFS(files, name); err != nil {
				return nil, err
			}
			out[code][strings.TrimSuffix(path.Base(name), ".html")] = t
		}
	}
	return out, nil
}

// functions are what templates call.
func (c *console) functions(l *language.Language) template.FuncMap {
	return template.FuncMap{
		"t": l.Text, "word": l.Word, "count": l.Count, "number": l.Number, "bytes": l.Bytes, "span": l.Duration,
		"time": func(t time.Time) string { return l.Time(t, c.Zone) },
		"ago":  func(t time.Time) string { return l.Ago(t, time.Now()) },
		"iso":  func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"zone": func() string { return c.Zone.String() },
		"asset": func(name string) (string, error) {
			if _, ok := c.assets[name]; !ok {
				return "", fmt.Errorf("there is no asset %q", name)
			}
			return c.assets.url(name), nil
		},
		"brand":   func() *Brand { return &c.Brand },
		"action":  func(code string) string { return actionText(l, code) },
		"badge":   newBadge,
		"state":   func(e control.EndpointView) badge { return endpointBadge(l, &e) },
		"vendor":  func(t presets.Text) string { return t.In(l.Code) },
		"said":    func(text string) template.HTML { return saidHTML(l, problemTexts, text) },
		"reason":  func(text string) template.HTML { return saidHTML(l, reasonTexts, c.withTimes(l, text)) },
		"finding": func(text string) template.HTML { return saidHTML(l, findingTexts, text) },
		"lines":   func(text string) template.HTML { return linesHTML(l, text) },
		"unit":    func(a control.Address) badge { return unitBadge(l, &a) },
		"column":  func(a *control.Address) badge { return unitBadge(l, a) },
		"field":   newField,
		"choice": func(f form, name, label, words string, values ...string) field {
			return newChoice(l, f, name, label, words, values)
		},
		"kind":     func(kind string, f field) field { f.Type = kind; return f },
		"hint":     func(hint string, f field) field { f.Hint = hint; return f },
		"needed":   func(f field) field { f.Required = true; return f },
		"options":  func(o []option, f field) field { f.Options = o; return f },
		"spark":    spark,
		"outcome":  func(outcome string) badge { return outcomeBadge(l, outcome) },
		"took":     func(d webhook.Milliseconds) string { return took(l, d) },
		"millis":   func(d webhook.Milliseconds) string { return fmt.Sprintf("%.3f", time.Duration(d).Seconds()*1000) },
		"between":  func(from, to time.Time) string { return took(l, webhook.Milliseconds(to.Sub(from))) },
		"number64": func(n int) string { return l.Number(int64(n)) },
		"list":     func(items ...string) []string { return items },
		"join":     func(items []string) string { return strings.Join(items, ", ") },
		"first":    func(items []string) string { return cmp.Or(append(slices.Clone(items), "")...) },
		"last":     func(items []state.Attempt) state.Attempt { return items[len(items)-1] },
		"verdict":  func(is string) badge { return verdictBadge(l, is) },
		"judged":   func(result string) badge { return judgedBadge(l, result) },
		"source":   func(state string) badge { return sourceBadge(l, state) },
		"runner":   func(w cdc.Who) string { return runner(l, w) },
		"date":     func(t time.Time) string { return l.Date(t) },
	}
}
