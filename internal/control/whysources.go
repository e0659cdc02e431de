package control

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
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

// whyEverywhere is Why of all sources: their changes together, the newest of them.
func (s *Service) whyEverywhere(ctx context.Context, a Actor, q WhyQuestion) (WhyView, error) {
	all, err := ask(ctx, s, func(of *Service) (WhyView, error) { return of.whyHere(ctx, a, q) })
	if err != nil {
		return WhyView{}, err
	}
	var v WhyView
	first := true
	for i := range all {
		one := &all[i]
		if one.unread {
			v.SourcesUnread = append(v.SourcesUnread, one.source)
			continue
		}
		if first {
			unread := v.SourcesUnread
			v, first = one.view, false
			v.SourcesUnread, v.Changes, v.Schedules = unread, []WhyChange{}, nil
		}
		v.add(one.source, &one.view)
	}
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
