package console

import (
	"context"
	"errors"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"gancho/internal/control"
	"gancho/internal/state"
)

func jobsScreen() screen {
	return screen{name: "jobs", path: "jobs", role: state.Viewer, sources: true, routes: []route{
		{pattern: "GET /jobs", handle: (*visit).showJobs},
		{pattern: "GET /jobs/replay", role: state.Operator, handle: (*visit).showReplay},
		{pattern: "POST /jobs/replay", role: state.Operator, handle: (*visit).replay},
		{pattern: "POST /jobs/backfill", role: state.Operator, handle: (*visit).backfill},
		{pattern: "POST /jobs/{id}/cancel", role: state.Operator, handle: switchingJob((*control.Service).CancelJob, "job_canceled")},
		{pattern: "POST /jobs/{id}/pause", role: state.Operator, handle: switchingJob((*control.Service).PauseJob, "job_paused")},
		{pattern: "POST /jobs/{id}/resume", role: state.Operator, handle: switchingJob((*control.Service).ResumeJob, "job_resumed")},
	}}
}

// jobsPage is what is under way, and what can be begun.
type jobsPage struct {
	Jobs  []jobView
	Pager pager
	May   bool // the visitor may stop jobs
	// Backfills: the visitor may begin one.
	Backfills bool
	Form      form
	Source    field                 // of a backfill, where there are several
	Plan      *control.BackfillPlan // of a dry run
}

// jobView is a job with its progress.
type jobView struct {
	state.Job
	Badge   badge
	Chosen  []string
	Done    int64
	Percent int64
	Rate    int64         // events a second since it was started, rounded up; 0: not known yet
	Left    time.Duration // 0: not known
	// What can be done with it.
	Pause, Resume, Cancel bool
}

// backfillFields are the fields of a backfill's form.
var backfillFields = []string{sourceField, "table", "events", "where", "endpoint", "tenant", "rate"}

func (v *visit) jobs(f form) (p jobsPage, err error) {
	if f.Values == nil {
		f.Values = url.Values{}
	}
	found, err := v.Control.Jobs(v.ctx(), v.actor, v.http.URL.Query().Get("cursor"), control.DefaultPage)
	if err != nil {
		return p, err
	}
	may := v.actor.Role.Covers(state.Operator)
	p = jobsPage{Pager: v.pager(found.Next), May: may, Backfills: may && v.actor.Tenant == "", Form: f}
	if p.Backfills {
		p.Source = newField(f, sourceField, v.text("sources.source"))
		p.Source.Options, p.Source.Required = v.sourceOptions(v.text("sources.choose"), p.Source.Value), true
	}
	for i := range found.Items {
		p.Jobs = append(p.Jobs, v.job(&found.Items[i], time.Now()))
	}
	return p, nil
}

func (v *visit) job(j *state.Job, now time.Time) jobView {
	kinds := map[state.JobState]string{state.Running: "good", state.Paused: "warn", state.Done: "good", state.Failed: "bad"}
	kind := kinds[j.State]
	if kind == "" {
		kind = "idle"
	}
	out := jobView{Job: *j, Badge: newBadge(kind, v.language.Word("jobs.state", j.State)), Chosen: v.scope(&j.Filter), Done: j.Sent + j.Silent + j.Kept}
	open := j.State == state.Queued || j.State == state.Running
	if out.Percent = 100; j.State != state.Done {
		out.Percent = min(99, 100*out.Done/max(1, j.Total)) // the total may be an estimate
	}
	if spent := now.Sub(j.Started); j.State == state.Running && !j.Started.IsZero() && spent > time.Second && out.Done > 0 {
		rate := float64(out.Done) / spent.Seconds()
		out.Rate = int64(math.Ceil(rate))
		out.Left = time.Duration(float64(max(0, j.Total-out.Done))/rate) * time.Second
	}
	if v.actor.Role.Covers(state.Operator) {
		backfill := j.Kind == state.Backfill && v.actor.Tenant == ""
		out.Cancel = open || j.State == state.Paused
		out.Pause = backfill && open
		out.Resume = backfill && (j.State == state.Paused || j.State == state.Failed)
	}
	return out
}

// scope says in words what a filter chooses.
func (v *visit) scope(f *state.Filter) []string {
	var out []string
	add := func(key, text string) {
		if text != "" {
			out = append(out, v.language.Word("chosen", key)+": "+text)
		}
	}
	add("table", f.Table)
	add("where", f.Where)
	add("events", strings.Join(f.Events, ", "))
	tenants := f.Tenants
	if f.Tenant != nil && *f.Tenant != "" { // of those that the endpoint is for, this one
		tenants = []string{*f.Tenant}
	}
	add("tenants", strings.Join(v.tenantNames(tenants), ", "))
	add("sources", strings.Join(f.Sources, ", "))
	add("rule", f.Rule)
	add("reason", f.Reason)
	if f.Class != "" {
		add("class", v.language.Word("class", f.Class))
	}
	if f.Status != nil && *f.Status != 0 {
		add("status", strconv.Itoa(*f.Status))
	}
	add("tags", strings.Join(f.Tags, ", "))
	add("webhooks", strings.Join(f.Webhooks[:min(3, len(f.Webhooks))], ", "))
	if !f.From.IsZero() {
		add("from", v.language.Time(f.From, v.Zone))
	}
	if !f.To.IsZero() {
		add("to", v.language.Time(f.To, v.Zone))
	}
	return out
}

func (v *visit) showJobs() (reply, error) {
	p, err := v.jobs(form{})
	if err != nil {
		return reply{}, err
	}
	return page("jobs", p)
}

// switchingJob handles what changes the state of a job.
func switchingJob(do func(*control.Service, context.Context, control.Actor, int64) (state.Job, error), done string) func(*visit) (reply, error) {
	return func(v *visit) (reply, error) {
		id, err := v.number()
		if err != nil {
			return reply{}, err
		}
		if _, err := do(v.Control, v.ctx(), v.actor, id); err != nil {
			return reply{}, err
		}
		return goTo("jobs", done)
	}
}

// number is the {id} of the path.
func (v *visit) number() (int64, error) {
	id, err := strconv.ParseInt(v.http.PathValue("id"), 10, 64)
	if err != nil {
		return 0, state.ErrNotFound
	}
	return id, nil
}

// backfill begins a backfill, or shows what it would read: do=dry_run.
func (v *visit) backfill() (reply, error) {
	values := v.http.PostForm
	j := state.Job{Endpoint: values.Get("endpoint"), DryRun: values.Get("do") == "dry_run", Filter: state.Filter{
		Table: strings.TrimSpace(values.Get("table")), Events: split(values.Get("events")), Where: strings.TrimSpace(values.Get("where")),
	}}
	if tenant := values.Get("tenant"); tenant != "" {
		j.Filter.Tenant = &tenant
	}
	var err error
	if j.Rate, err = v.rate(values); err == nil && j.Filter.Table == "" && len(j.Filter.Events) == 0 {
		err = v.mistake("/table", v.text("jobs.choose"))
	}
	var made control.BackfillView
	if err == nil {
		made, err = v.Control.CreateBackfill(v.ctx(), v.actor, j)
	}
	var elsewhere *control.ElsewhereError
	switch {
	case errors.As(err, &elsewhere):
		err = v.mistake("", v.text("jobs.elsewhere"))
	case errors.Is(err, state.ErrConflict):
		err = v.mistake("", v.text("jobs.conflict"))
	case errors.Is(err, state.ErrNotFound) && j.Endpoint != "" && v.actor.Tenant == "":
		err = v.mistake("/endpoint", v.text("jobs.no_endpoint"))
	}
	f, mistaken := v.form(values, unfiltered(err), backfillFields...)
	switch {
	case err != nil && !mistaken:
		return reply{}, err
	case err == nil && !j.DryRun:
		return goTo("jobs", "backfill_begun")
	case err == nil:
		f = form{Values: values}
	}
	p, readErr := v.jobs(f)
	if readErr != nil {
		return reply{}, readErr
	}
	if mistaken {
		return refused("jobs", p)
	}
	p.Plan = &made.Plan
	return reply{status: http.StatusOK, template: "jobs", data: p}, nil
}

// rate is the field rate: 0 when it is empty.
func (v *visit) rate(values url.Values) (float64, error) {
	text := strings.TrimSpace(strings.Replace(values.Get("rate"), ",", ".", 1))
	if text == "" {
		return 0, nil
	}
	rate, err := strconv.ParseFloat(text, 64)
	if err != nil || rate <= 0 {
		return 0, v.mistake("/rate", v.text("form.rate"))
	}
	return rate, nil
}

// mistake is one of a form's.
func (v *visit) mistake(pointer, text string) error {
	return &control.InvalidError{Problems: []control.Problem{{Pointer: pointer, Message: text}}}
}

// unfiltered takes /filter off the places of mistakes: the fields of forms are not in an object.
func unfiltered(err error) error {
	var invalid *control.InvalidError
	if !errors.As(err, &invalid) {
		return err
	}
	out := &control.InvalidError{}
	for _, p := range invalid.Problems {
		p.Pointer = strings.TrimPrefix(p.Pointer, "/filter")
		out.Problems = append(out.Problems, p)
	}
	return out
}

// split are the parts of a list in a field, which commas and lines separate.
func split(text string) []string {
	var out []string
	for part := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == '\n' || r == '\r' }) {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}
