package console

import (
	"errors"
	"maps"
	"net/url"
	"strconv"
	"strings"
	"time"

	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/control"
	"gancho/internal/language"
	"gancho/internal/state"
)

func deliveriesScreen() screen {
	return screen{name: "deliveries", path: "deliveries", role: state.Viewer, routes: []route{
		{pattern: "GET /deliveries", handle: (*visit).showDeliveries},
		{pattern: "GET /deliveries/resend", role: state.Operator, handle: (*visit).countResend},
		{pattern: "POST /deliveries/resend", role: state.Operator, handle: (*visit).resendAll},
		{pattern: "GET /deliveries/{id}", handle: (*visit).showDelivery},
		{pattern: "POST /deliveries/{id}/resend", role: state.Operator, handle: (*visit).resendOne},
	}}
}

// deliveriesPage is what was sent, one row for each event and endpoint. Its address is all there is to it.
type deliveriesPage struct {
	Form      form
	Parts     []part
	Rows      []deliveryRow
	Pager     pager
	MayResend bool
	// ResendAt is where all that the filter chooses is sent again.
	ResendAt string
	// Resend is what sending all of them again would do; nil: nobody has asked.
	Resend *resendPlan
}

// deliveryRow is the newest attempt of an event at an endpoint.
type deliveryRow struct {
	state.Attempt
	Unit string
}

// resendPlan is a count, and the form that carries it out.
type resendPlan struct {
	control.Resends
	Form form
}

// queryOf is a query of names and values, in turn.
func queryOf(pairs ...string) string {
	values := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		values.Set(pairs[i], pairs[i+1])
	}
	return values.Encode()
}

// outcomeBadge is how an attempt ended.
func outcomeBadge(l *language.Language, outcome string) badge {
	kinds := map[string]string{webhook.Delivered.String(): "good", webhook.Retry.String(): "warn", queue.OutcomeSuperseded: "idle"}
	kind, ok := kinds[outcome]
	if !ok {
		kind = "bad"
	}
	return newBadge(kind, l.Word("outcome", outcome))
}

// chosen reads the filter of deliveries from a query, which it completes with the defaults.
func (v *visit) chosen(query url.Values) (search, url.Values, error) {
	values := url.Values{"q": {query.Get("q")}, "outcome": {query.Get("outcome")}, "span": {query.Get("span")}}
	if _, ok := spans[values.Get("span")]; !ok {
		values.Set("span", defaultSpan)
	}
	if values.Get("outcome") == "" {
		values.Set("outcome", anyOutcome)
	}
	s, err := v.search(values.Get("q"))
	if outcome := values.Get("outcome"); outcome != anyOutcome {
		s.Filter.Outcome = outcome
	}
	if span := spans[values.Get("span")]; span > 0 {
		s.Filter.From = time.Now().Add(-span).UTC()
	}
	s.Filter.Latest = true
	return s, values, err
}

// anyOutcome is the choice of all of them.
const anyOutcome = "any"

func (v *visit) deliveries(query url.Values) (deliveriesPage, error) {
	s, values, err := v.chosen(query)
	p := deliveriesPage{Form: form{Values: values}, Parts: s.Parts, MayResend: v.actor.Role.Covers(state.Operator), ResendAt: root + "deliveries/resend?" + values.Encode()}
	var found control.Page[state.Attempt]
	if err == nil {
		found, err = v.Control.Deliveries(v.ctx(), v.actor, s.Filter, query.Get("cursor"), control.DefaultPage)
	}
	f, mistaken := v.form(values, searchMistake(err), "q")
	switch {
	case mistaken:
		p.Form = f
		return p, nil
	case errors.Is(err, state.ErrNotFound): // another tenant's: there is nothing to see
	case err != nil:
		return p, err
	}
	for i := range found.Items {
		p.Rows = append(p.Rows, deliveryRow{found.Items[i], v.unit(found.Items[i].Tenant)})
	}
	p.Pager = v.pager(found.Next)
	return p, nil
}

// searchMistake makes the mistakes of a filter those of the box that it was written into.
func searchMistake(err error) error {
	var invalid *control.InvalidError
	if !errors.As(err, &invalid) {
		return err
	}
	boxed := control.InvalidError{Problems: append([]control.Problem(nil), invalid.Problems...)}
	for i := range boxed.Problems {
		if p := &boxed.Problems[i]; strings.HasPrefix(p.Pointer, "/tags") || strings.HasPrefix(p.Pointer, "/events") {
			p.Pointer = "/q"
		}
	}
	return &boxed
}

// unit is the name of an event's tenant; "" when it has none.
func (v *visit) unit(tenant string) string {
	if tenant == "" {
		return ""
	}
	return v.tenantName(tenant)
}

func (v *visit) showDeliveries() (reply, error) {
	p, err := v.deliveries(v.http.URL.Query())
	if err != nil {
		return reply{}, err
	}
	if len(p.Form.Problems) > 0 {
		return refused("deliveries", p)
	}
	return page("deliveries", p)
}

// resend reads the job that a form describes.
func (v *visit) resend(values url.Values, f state.Filter) (state.Job, error) {
	j := state.Job{Filter: f, Endpoint: values.Get("endpoint")}
	if rate := strings.TrimSpace(strings.ReplaceAll(values.Get("rate"), ",", ".")); rate != "" {
		var err error
		if j.Rate, err = strconv.ParseFloat(rate, 64); err != nil {
			return j, v.mistake("/rate", v.text("deliveries.rate_unknown"))
		}
	}
	return j, nil
}

// countResend says what sending again all that the filter chooses would do.
func (v *visit) countResend() (reply, error) { return v.planResend(v.http.URL.Query(), true) }

func (v *visit) resendAll() (reply, error) { return v.planResend(v.http.PostForm, false) }

func (v *visit) planResend(values url.Values, dry bool) (reply, error) {
	p, err := v.deliveries(values)
	if err != nil {
		return reply{}, err
	}
	s, chosen, err := v.chosen(values)
	var done control.Resends
	var job state.Job
	if err == nil {
		job, err = v.resend(values, s.Filter)
	}
	if err == nil {
		job.DryRun = dry
		done, err = v.Control.ResendDeliveries(v.ctx(), v.actor, job)
	}
	all := maps.Clone(chosen)
	for _, name := range []string{"endpoint", "rate"} {
		all.Set(name, values.Get(name))
	}
	f, mistaken := v.form(all, err, "endpoint", "rate")
	if errors.Is(err, state.ErrNotFound) {
		f, mistaken = form{Values: all, Problems: map[string]string{"endpoint": v.text("deliveries.no_endpoint")}}, true
	}
	switch {
	case mistaken:
		p.Resend = &resendPlan{Form: f}
		return refused("deliveries", p)
	case err != nil:
		return reply{}, err
	case !dry && v.has("jobs"):
		return goTo("jobs", "resend_started")
	case !dry:
		return goTo("deliveries", "resend_started")
	}
	p.Resend = &resendPlan{done, form{Values: all}}
	return page("deliveries", p)
}

// has reports whether there is a screen of that name that the visitor may see.
func (v *visit) has(name string) bool {
	for i := range v.screens {
		if s := &v.screens[i]; s.name == name {
			return v.actor.Role.Covers(s.role) && !(s.operators && v.actor.Tenant != "")
		}
	}
	return false
}
