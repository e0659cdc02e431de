package console

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"gancho/internal/control"
	"gancho/internal/state"
)

func liveScreen() screen {
	return screen{name: "live", path: "live", role: state.Viewer, routes: []route{
		{pattern: "GET /live", handle: (*visit).showLive},
		{pattern: "GET /live/events", handle: (*visit).streamLive},
	}}
}

// livePage is the newest attempts. The module live.js adds those that come after them.
type livePage struct {
	Form   form
	Rows   []deliveryRow
	Stream string // address of the events of the same filter
}

// The bounds of a stream.
const (
	// streamTime is how long one lasts: then the browser begins another one, for which the visitor is identified again.
	streamTime = 5 * time.Minute
	// streamIdentify is how long a stream goes on after its session has ended, or its token was revoked.
	streamIdentify = 5 * time.Second
	// streamWrite is how long a browser may take to read a piece.
	streamWrite = 10 * time.Second
	// liveRows is how many attempts the page has at first.
	liveRows = 50
)

// liveFilter is what the form chooses.
func (v *visit) liveFilter(query url.Values) (state.Filter, url.Values) {
	values := url.Values{}
	for _, name := range []string{"endpoint", "unit", "event", "outcome"} {
		values.Set(name, query.Get(name))
	}
	if values.Get("outcome") == "" {
		values.Set("outcome", anyOutcome)
	}
	f := state.Filter{Endpoint: values.Get("endpoint")}
	if unit := values.Get("unit"); unit != "" {
		f.Tenant = &unit
		tenants, _, err := v.tenants.all(v.ctx())
		if err != nil {
			v.log(err)
		}
		for _, t := range tenants {
			if t.Name == unit {
				f.Tenant = &t.ID
			}
		}
	}
	if event := values.Get("event"); event != "" {
		f.Events = []string{event}
	}
	if outcome := values.Get("outcome"); outcome != anyOutcome {
		f.Outcome = outcome
	}
	return f, values
}

func (v *visit) showLive() (reply, error) {
	f, values := v.liveFilter(v.http.URL.Query())
	p := livePage{Form: form{Values: values}, Stream: root + "live/events?" + values.Encode()}
	found, err := v.Control.Deliveries(v.ctx(), v.actor, f, "", liveRows)
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return reply{}, err
	}
	for i := range found.Items {
		p.Rows = append(p.Rows, deliveryRow{found.Items[i], v.unit(found.Items[i].Tenant)})
	}
	return page("live", p)
}

// liveLine is an attempt as the page shows it.
type liveLine struct {
	ID, Time, ISO, Event, Unit, Key, Endpoint, Number, Took string
	Badge                                                   badge
	Answer                                                  string
}

func (v *visit) liveLine(a *state.Attempt) liveLine {
	line := liveLine{
		ID: a.ID, Time: v.language.Time(a.Time, v.Zone), ISO: a.Time.UTC().Format(time.RFC3339), Event: a.Event, Unit: v.unit(a.Tenant), Key: a.Key, Endpoint: a.Endpoint,
		Number: v.language.Number(int64(a.Number)), Took: took(v.language, a.Duration), Badge: outcomeBadge(v.language, a.Outcome),
	}
	switch {
	case a.Status > 0:
		line.Answer = fmt.Sprint(a.Status)
	case a.Class != "ok":
		line.Answer = v.language.Word("class", a.Class)
	}
	return line
}

// streamLive sends what is attempted from now on as server-sent events.
func (v *visit) streamLive() (reply, error) {
	f, _ := v.liveFilter(v.http.URL.Query())
	tail, err := v.Control.Tail(v.ctx(), v.actor, f)
	if err != nil {
		return reply{}, err
	}
	v.release() // who follows for long keeps no other from a connection
	ctx, cancel := context.WithTimeout(v.whole, streamTime)
	defer cancel()
	v.http = v.http.WithContext(ctx) // that of a page has ended by then
	v.w.Header().Set("Content-Type", "text/event-stream")
	v.w.Header().Set("X-Accel-Buffering", "no") // nginx would keep them
	identified := time.Now()
	err = control.Stream(ctx, v.w, streamWrite, func(ctx context.Context) (any, error) {
		lines, err := tail.Next(ctx)
		if err != nil {
			return nil, err
		}
		if time.Since(identified) > streamIdentify {
			if err := v.identify(); errors.Is(err, state.ErrNotFound) {
				return nil, context.Canceled // the browser comes again, and is led to the sign-in
			} else if err != nil {
				return nil, err
			}
			identified = time.Now()
		}
		out := struct {
			Lines []liveLine `json:"lines"`
			More  string     `json:"more,omitempty"`
		}{Lines: make([]liveLine, len(lines.Items))}
		for i := range lines.Items {
			out.Lines[i] = v.liveLine(&lines.Items[i])
		}
		switch {
		case lines.Missed:
			out.More = v.text("live.missed")
		case lines.More > 0:
			out.More = v.language.Count("live.more", int64(lines.More))
		}
		return out, nil
	})
	if err != nil {
		v.log(err) // the browser comes again
	}
	return reply{written: true}, nil
}
