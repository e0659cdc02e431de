package doctor

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"gancho/cdc"
)

// RunSource looks at what Run does at the source and its slot, and at nothing else: one of several sources.
func RunSource(ctx context.Context, o Options) Report {
	x := &examination{Options: o}
	x.parts(ctx, x.sourceParts()...)
	return x.report(time.Now().UTC())
}

// RunBeside looks at what Run does beside the source: what several sources have in common. Check is asked without the source.
func RunBeside(ctx context.Context, o Options) Report {
	x := &examination{Options: o}
	files := timed{checkTimeout, func(ctx context.Context) {
		if x.Check != nil {
			found, _ := x.Check(ctx, false)
			x.add(found...)
		}
	}}
	x.parts(ctx, append(x.besideParts(), files)...)
	return x.report(time.Now().UTC())
}

// timed is a part of a Run with its bound.
type timed struct {
	timeout time.Duration
	look    func(context.Context)
}

func (x *examination) sourceParts() []timed {
	return []timed{{checkTimeout + partTimeout, x.source}, {partTimeout, x.refused}}
}

func (x *examination) besideParts() []timed {
	return []timed{
		{partTimeout, x.redis},
		{partTimeout, func(ctx context.Context) { x.receivers(ctx, x.state(ctx)) }},
		{partTimeout, func(context.Context) { x.listeners() }},
		{partTimeout, x.collector},
	}
}

// parts looks at all of them at the same time.
func (x *examination) parts(ctx context.Context, all ...timed) {
	var running sync.WaitGroup
	for _, p := range all {
		running.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, p.timeout)
			defer cancel()
			p.look(ctx)
		})
	}
	running.Wait()
}

// aboutServer begins the ids of findings that are about a server, whichever of its databases is asked.
const aboutServer = "server."

// SourceReport is what RunSource has found at one of several sources.
type SourceReport struct {
	Name string
	Report
}

// Merge adds the reports of several sources to what was found beside them. What is the same of several stands there once, with their
// names; findings of the same kind keep the order of the reports.
func Merge(beside Report, sources []SourceReport) Report {
	r := beside
	r.Findings = slices.Clone(beside.Findings)
	at := map[string]int{}
	for _, s := range sources {
		for _, f := range s.Findings {
			key := strings.Join([]string{f.ID, string(f.Severity), f.Where, f.Table, f.Title}, "\x00")
			if !strings.HasPrefix(f.ID, aboutServer) { // else what it says beside is of the moment when it was asked
				key += strings.Join([]string{"", f.Why, f.Remedy, cdc.Script(f.Statements)}, "\x00")
			}
			i, known := at[key]
			if !known {
				i = len(r.Findings)
				at[key] = i
				r.Findings = append(r.Findings, f)
			}
			r.Findings[i].Sources = append(r.Findings[i].Sources, s.Name)
		}
	}
	r.sort()
	return r
}
