package control

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"
)

// asked is what one of several sources has answered; unread: nothing is remembered of it.
type asked[T any] struct {
	source string
	view   T
	unread bool
}

// ask asks each of several sources, and returns what they have answered by their names. It is an *ElsewhereError where none is remembered.
func ask[T any](ctx context.Context, s *Service, question func(of *Service) (T, error)) ([]asked[T], error) {
	var all []asked[T]
	err := gather(ctx, s, func(of *Service) (asked[T], error) {
		view, err := question(of)
		if _, unread := errors.AsType[*ElsewhereError](err); unread {
			return asked[T]{source: of.SourceName, unread: true}, nil
		}
		return asked[T]{source: of.SourceName, view: view}, err
	}, func(one asked[T]) { all = append(all, one) })
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b asked[T]) int { return strings.Compare(a.source, b.source) })
	if !slices.ContainsFunc(all, func(one asked[T]) bool { return !one.unread }) {
		return nil, &ElsewhereError{}
	}
	return all, nil
}

// whyEverywhere is Why of all sources: their changes together, the newest of them. What a query reads may be another table in each: a source
// for which the question is wrong has no part in the answer, unless it is for all.
func (s *Service) whyEverywhere(ctx context.Context, a Actor, q WhyQuestion) (WhyView, error) {
	type answer struct {
		WhyView
		wrong *InvalidError
	}
	all, err := ask(ctx, s, func(of *Service) (out answer, err error) {
		out.WhyView, err = of.whyHere(ctx, a, q)
		if wrong, is := errors.AsType[*InvalidError](err); is {
			out.wrong, err = wrong, nil
		}
		return out, err
	})
	if err != nil {
		return WhyView{}, err
	}
	var v WhyView
	var wrong *InvalidError
	var schedules []WhySchedule
	first := true
	for i := range all {
		one := &all[i]
		switch {
		case one.unread:
			v.SourcesUnread = append(v.SourcesUnread, one.source)
			continue
		case one.view.wrong != nil:
			wrong = cmp.Or(wrong, one.view.wrong)
			continue
		}
		schedules = append(schedules, one.view.Schedules...)
		if first {
			unread := v.SourcesUnread
			v, first = one.view.WhyView, false
			v.SourcesUnread, v.Changes, v.Schedules = unread, []WhyChange{}, nil
		}
		v.add(one.source, &one.view.WhyView)
	}
	if first {
		return WhyView{}, wrong
	}
	v.addQuiet(schedules)
	slices.SortStableFunc(v.Changes, func(a, b WhyChange) int { return a.Time.Compare(b.Time) })
	if more := len(v.Changes) - MaxWhyChanges; more > 0 {
		v.Changes, v.More = v.Changes[more:], true
	}
	return v, nil
}

// add adds the answer of a source.
func (v *WhyView) add(source string, one *WhyView) {
	v.Capturing, v.More, v.QueueUnread = v.Capturing && one.Capturing, v.More || one.More, v.QueueUnread || one.QueueUnread
	if one.Since.After(v.Since) { // since then all are known
		v.Since, v.Overwritten = one.Since, one.Overwritten
	}
	if one.ReadsSince.After(v.ReadsSince) {
		v.ReadsSince = one.ReadsSince
	}
	v.Changes = append(v.Changes, one.Changes...)
	for _, w := range one.Schedules {
		if w.Sent != nil || w.Trouble() != "" { // when they run is the same of all
			w.Source = source
			v.Schedules = append(v.Schedules, w)
		}
	}
}

// addQuiet adds once, without a source, each schedule of which no source has something of its own to tell.
func (v *WhyView) addQuiet(all []WhySchedule) {
	for _, w := range all {
		if !slices.ContainsFunc(v.Schedules, func(told WhySchedule) bool { return told.Rule == w.Rule }) {
			w.Last, w.Running = nil, time.Time{} // they are of one source
			v.Schedules = append(v.Schedules, w)
		}
	}
}

// recentEverywhere is RecentChanges of all sources.
func (s *Service) recentEverywhere(ctx context.Context, rule string, n int) (RecentChanges, error) {
	all, err := ask(ctx, s, func(of *Service) (RecentChanges, error) { return of.recentHere(rule, n) })
	if err != nil {
		return RecentChanges{}, err
	}
	out := RecentChanges{Capturing: true, Changes: []RecentChange{}}
	for i := range all {
		if one := &all[i]; !one.unread {
			out.Capturing = out.Capturing && one.view.Capturing
			if one.view.Since.After(out.Since) {
				out.Since = one.view.Since
			}
			out.Changes = append(out.Changes, one.view.Changes...)
		}
	}
	slices.SortStableFunc(out.Changes, func(a, b RecentChange) int {
		return cmp.Or(b.Time.Compare(a.Time), strings.Compare(a.Source, b.Source))
	})
	out.Changes = out.Changes[:min(len(out.Changes), n)]
	return out, nil
}
