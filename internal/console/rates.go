package console

import (
	"errors"
	"fmt"
	"html/template"
	"net/url"
	"strings"
	"time"

	"gancho/internal/control"
	"gancho/internal/state"
)

// rateSpans are the spans of the chart of the rates, in the order of their choice.
var rateSpans = []struct {
	name string
	span time.Duration
}{{"hour", time.Hour}, {"six_hours", 6 * time.Hour}, {"day", 24 * time.Hour}, {"week", 7 * 24 * time.Hour}}

// ratesPage is what was sent in a span, to an endpoint or to all. Its numbers are those of the table: the still chart is drawn from them, and
// chart.js reads them from it.
type ratesPage struct {
	Form  form
	Rates control.Rates
	Step  time.Duration
	Most  int64 // attempts of an interval that delivered, or that failed
	Still template.HTML
}

func (v *visit) showRates() (reply, error) {
	query := v.http.URL.Query()
	span := rateSpans[0]
	for _, s := range rateSpans {
		if s.name == query.Get("span") {
			span = s
		}
	}
	endpoint := strings.TrimSpace(query.Get("endpoint"))
	p := ratesPage{Form: form{Values: url.Values{"endpoint": {endpoint}, "span": {span.name}}, Problems: map[string]string{}}}
	var err error
	p.Rates, err = v.Control.Rates(v.ctx(), v.actor, endpoint, span.span)
	if errors.Is(err, state.ErrNotFound) {
		p.Form.Problems["endpoint"] = v.text("rates.no_endpoint")
		return refused("rates", p)
	}
	if err != nil {
		return reply{}, err
	}
	p.Step = time.Duration(p.Rates.StepSeconds) * time.Second
	p.Most, p.Still = still(p.Rates.Intervals, v.text("rates.of", "delivered", v.language.Number(p.Rates.Total.Delivered), "failed", v.language.Number(p.Rates.Total.Failed)))
	return page("rates", p)
}

// The size of the still chart, in its own units.
const (
	stillWidth  = 600
	stillHeight = 160
)

// still draws intervals as a chart that needs no JavaScript; the label says in words what it shows.
func still(intervals []state.Interval, label string) (most int64, chart template.HTML) {
	for i := range intervals {
		most = max(most, intervals[i].Delivered, intervals[i].Failed)
	}
	var delivered, failed strings.Builder
	at := func(line *strings.Builder, i int, n int64) {
		fmt.Fprintf(line, "%.1f,%.1f ", float64(i)*stillWidth/float64(max(1, len(intervals)-1)), stillHeight-1-float64(n)*(stillHeight-2)/float64(max(1, most)))
	}
	for i := range intervals {
		at(&delivered, i, intervals[i].Delivered)
		at(&failed, i, intervals[i].Failed)
	}
	return most, template.HTML(fmt.Sprintf(`<svg viewBox="0 0 %[1]d %[2]d" preserveAspectRatio="none" role="img" aria-label="%[3]s"><path class="grid" d="M0 1H%[1]dM0 %[4]dH%[1]dM0 %[5]dH%[1]d"/><polyline class="sent" points="%[6]s"/><polyline class="failed" points="%[7]s"/></svg>`, //nolint:gosec // the label is escaped, the rest is numbers
		stillWidth, stillHeight, template.HTMLEscapeString(label), stillHeight/2, stillHeight-1, strings.TrimSpace(delivered.String()), strings.TrimSpace(failed.String())))
}
