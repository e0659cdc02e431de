package console

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"gancho/internal/control"
	"gancho/internal/state"
)

// replayPage is where the kept events of a span are sent again.
type replayPage struct {
	Form    form
	Tenants bool                // the visitor may choose one
	Found   *control.ReplayView // of a dry run, of one that found nothing, or of one that leaves out endpoints
	Started bool
}

// replayFields are the fields of its form.
var replayFields = []string{"from", "to", "events", "endpoint", "tenant", "rate"}

func (v *visit) showReplay() (reply, error) {
	return page("replay", replayPage{Form: form{Values: v.http.URL.Query()}, Tenants: v.actor.Tenant == ""})
}

// replay sends kept events again, or shows how many: do=dry_run.
func (v *visit) replay() (reply, error) {
	values := v.http.PostForm
	made, err := v.createReplay()
	if errors.Is(err, state.ErrNotFound) && values.Get("endpoint") != "" && v.actor.Tenant == "" {
		err = v.mistake("/endpoint", v.text("jobs.no_endpoint"))
	}
	p := replayPage{Form: form{Values: values}, Tenants: v.actor.Tenant == ""}
	f, mistaken := v.form(values, unfiltered(err), replayFields...)
	switch {
	case mistaken:
		p.Form = f
		return refused("replay", p)
	case err != nil:
		return reply{}, err
	case len(made.Jobs) > 0 && values.Get("do") != "dry_run":
		if len(made.LeftOut) == 0 {
			return goTo("jobs", "resend_started")
		}
		p.Started, p.Form = true, form{} // sent once more it would begin once more
	}
	p.Found = &made
	return reply{status: http.StatusOK, template: "replay", data: p}, nil
}

func (v *visit) createReplay() (made control.ReplayView, err error) {
	values := v.http.PostForm
	j := state.Job{Endpoint: values.Get("endpoint"), DryRun: values.Get("do") == "dry_run", Filter: state.Filter{Events: split(values.Get("events"))}}
	if tenant := values.Get("tenant"); tenant != "" {
		j.Filter.Tenant = &tenant
	}
	if j.Filter.From, err = v.moment("from"); err != nil {
		return made, err
	}
	if j.Filter.To, err = v.moment("to"); err != nil {
		return made, err
	}
	if j.Filter.From.IsZero() {
		return made, v.mistake("/from", v.text("replay.from_missing"))
	}
	if j.Rate, err = v.rate(values); err != nil {
		return made, err
	}
	return v.Control.CreateReplay(v.ctx(), v.actor, j)
}

// moment is a field that a browser fills in, a time in the console's zone: zero when it is empty.
func (v *visit) moment(name string) (time.Time, error) {
	text := strings.TrimSpace(v.http.PostForm.Get(name))
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{"2006-01-02T15:04", "2006-01-02T15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, v.Zone); err == nil {
			return t, nil
		}
	}
	return time.Time{}, v.mistake("/"+name, v.text("replay.moment"))
}
