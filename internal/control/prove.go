package control

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/internal/retry"
	"gancho/internal/state"
)

// ProveView is what became of the changes of a span, by rule and endpoint.
type ProveView struct {
	// From and To are the span, in whole intervals; To is not in it.
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Since is when counting began, zero: never; of several sources, since when all are counted of which anything is. Counted is the commit up to
	// which was counted; of several sources each has its own.
	Since   time.Time     `json:"since,omitzero"`
	Counted string        `json:"counted_to,omitempty"`
	Sources []ProveSource `json:"sources,omitempty"`
	Rules   []ProveRule   `json:"rules"`
	// Differences are the sums that do not agree, each a sentence; none: everything is accounted for.
	Differences []string `json:"differences"`
	// Moving: the numbers changed while they were read, so that the differences may be events in motion.
	Moving bool `json:"moving,omitempty"`
}

// ProveSource is how much is counted of one of several sources: Since and Counted are as those of a ProveView.
type ProveSource struct {
	Source  string    `json:"source"`
	Since   time.Time `json:"since,omitzero"`
	Counted string    `json:"counted_to,omitempty"`
}

// Uncounted are the sources, of several, of which nothing is counted.
func (v *ProveView) Uncounted() (names []string) {
	for _, s := range v.Sources {
		if s.Since.IsZero() {
			names = append(names, s.Source)
		}
	}
	return names
}

// ProveRule is what a rule made of changes: seen + repeated = matched + filtered + collapsed + parked.
type ProveRule struct {
	Source    string          `json:"source,omitempty"` // of several, which
	Rule      string          `json:"rule"`
	Event     string          `json:"event"`
	Seen      int64           `json:"seen"`
	Matched   int64           `json:"matched"`
	Filtered  int64           `json:"filtered"`
	Collapsed int64           `json:"collapsed"`
	Repeated  int64           `json:"repeated,omitempty"`
	Parked    int64           `json:"parked"`
	Backfill  int64           `json:"backfill,omitempty"` // events of rows that a backfill read
	Endpoints []ProveEndpoint `json:"endpoints"`
}

// ProveEndpoint is what became of a rule's events at an endpoint: appended = delivered + superseded + dead + waiting + dropped.
type ProveEndpoint struct {
	Endpoint  string `json:"endpoint"`
	Appended  int64  `json:"appended"`
	Delivered int64  `json:"delivered"`
	// Superseded were not sent, because a newer event of their key was there (compact).
	Superseded int64 `json:"superseded"`
	Dead       int64 `json:"dead"`
	Waiting    int64 `json:"waiting"`
	Dropped    int64 `json:"dropped"`
}

// Counts are read again while they do not agree: events are in motion.
const (
	proveAgain    = 300 * time.Millisecond
	provePatience = 5 * time.Second
)

// Prove counts what became of the changes of a span: without a beginning that is today, or, where an end or positions are given, all
// that is kept; without an end all up to now. Of several sources it counts each. It is for nobody who may see one tenant only: state.ErrNotFound. Needs Viewer.
func (s *Service) Prove(ctx context.Context, a Actor, span queue.TallySpan) (ProveView, error) {
	if err := a.may(state.Viewer); err != nil {
		return ProveView{}, err
	}
	if a.Tenant != "" || s.Queue == nil && s.QueueDown == nil {
		return ProveView{}, state.ErrNotFound
	}
	if err := s.unreachable(); err != nil {
		return ProveView{}, err
	}
	s.completeSpan(&span, time.Now())
	if !span.From.Before(span.To) {
		return ProveView{}, invalid("/from", "give an earlier one", "the span ends before it begins")
	}
	span.From, span.To = span.From.Truncate(queue.TallyInterval), span.To.Add(queue.TallyInterval-1).Truncate(queue.TallyInterval)
	v := ProveView{From: span.From.UTC(), To: span.To.UTC(), Rules: []ProveRule{}, Differences: []string{}}
	return v, gather(ctx, s, func(of *Service) (ProveView, error) { return of.proveCalm(ctx, span) }, func(one ProveView) {
		if s.EachSource == nil {
			v = one
			return
		}
		v.add(&one)
	})
}

// add adds what was counted of a source, of which its rules have the name.
func (v *ProveView) add(one *ProveView) {
	if one.Since.After(v.Since) { // since then all are counted
		v.Since = one.Since
	}
	v.Sources = append(v.Sources, one.Sources...)
	slices.SortFunc(v.Sources, func(a, b ProveSource) int { return strings.Compare(a.Source, b.Source) })
	v.Rules = append(v.Rules, one.Rules...)
	slices.SortStableFunc(v.Rules, func(a, b ProveRule) int { return strings.Compare(a.Source, b.Source) })
	v.Differences = append(v.Differences, one.Differences...)
	slices.Sort(v.Differences)
	v.Moving = v.Moving || one.Moving
}

// proveCalm counts a source, again while events are in motion.
func (s *Service) proveCalm(ctx context.Context, span queue.TallySpan) (ProveView, error) {
	if err := s.unreachable(); err != nil {
		return ProveView{}, err
	}
	var before *ProveView
	for began := time.Now(); ; {
		v, uncounted, err := s.prove(ctx, span)
		if err != nil || len(v.Differences) == 0 {
			return v, err
		}
		moves := uncounted > 0 || before != nil && !slices.EqualFunc(v.Rules, before.Rules, sameCounts)
		if before != nil && (!moves || time.Since(began) > provePatience) {
			v.Moving = moves
			return v, nil
		}
		before = &v
		if err := retry.Wait(ctx, proveAgain); err != nil {
			return v, err
		}
	}
}

// completeSpan sets what is not given.
func (s *Service) completeSpan(span *queue.TallySpan, now time.Time) {
	switch {
	case !span.From.IsZero():
	case span.First != 0 || span.Last != 0 || !span.To.IsZero():
		span.From = now.Add(-queue.TallyAge)
	default:
		span.From = endpoint.DayOf(now.In(s.zone())).Begins(s.zone())
	}
	if span.To.IsZero() {
		span.To = now.Add(time.Minute) // the source's clock may be ahead
	}
}

func sameCounts(a, b ProveRule) bool {
	same := slices.Equal(a.Endpoints, b.Endpoints)
	return same && a.Rule == b.Rule && a.Seen == b.Seen && a.Matched == b.Matched && a.Backfill == b.Backfill
}

// prover adds up what was counted.
type prover struct {
	tallies *queue.Tallies
	rules   map[queue.RuleKey]*queue.RuleTally // without intervals
	events  map[proven]*ProveEndpoint
	within  map[queue.RuleKey]bool // what the span has
}

// proven is a rule, without an interval, and an endpoint.
type proven struct {
	rule     queue.RuleKey
	endpoint string
}

func newProver(t *queue.Tallies) *prover {
	return &prover{t, map[queue.RuleKey]*queue.RuleTally{}, map[proven]*ProveEndpoint{}, map[queue.RuleKey]bool{}}
}

func (s *Service) prove(ctx context.Context, span queue.TallySpan) (v ProveView, uncounted int64, err error) {
	tallies, err := s.Queue.Tallies(ctx, span)
	if err != nil {
		return v, 0, err
	}
	p := newProver(tallies)
	intervals := p.addRules()
	names, err := s.Queue.EndpointNames(ctx)
	if err != nil {
		return v, 0, err
	}
	for name := range intervals {
		if !slices.Contains(names, name) {
			names = append(names, name) // its queue was dropped
		}
	}
	heads := map[string]queue.Head{}
	if s.Store != nil {
		if heads, err = s.overflow().Heads(ctx); err != nil {
			return v, 0, err
		}
	}
	for _, name := range names {
		open, err := s.proveEndpoint(ctx, p, name, slices.Sorted(maps.Keys(intervals[name])), heads[name].End)
		if err != nil {
			return v, 0, err
		}
		uncounted += open
	}
	v = ProveView{From: span.From.UTC(), To: span.To.UTC(), Since: tallies.Since, Differences: []string{}, Rules: p.view()}
	if tallies.Counted != 0 {
		v.Counted = tallies.Counted.String()
	}
	if s.SourceName != "" {
		v.Sources = []ProveSource{{s.SourceName, v.Since, v.Counted}}
	}
	for _, text := range p.differences(v.Rules) {
		if s.SourceName != "" {
			text = "source " + s.SourceName + ": " + text
		}
		v.Differences = append(v.Differences, text)
	}
	for i := range v.Rules {
		v.Rules[i].Source = s.SourceName
	}
	return v, uncounted, nil
}

// addRules adds up the rules' counts, and returns the intervals in which each endpoint was given events.
func (p *prover) addRules() map[string]map[int64]bool {
	given := map[string]map[int64]bool{}
	for key, r := range p.tallies.Rules {
		p.within[key] = true
		rule := key
		rule.Interval = 0
		sum := p.rules[rule]
		if sum == nil {
			sum = &queue.RuleTally{}
			p.rules[rule] = sum
		}
		for i, n := range r.N {
			sum.N[i] += n
		}
		for name, n := range r.To {
			p.of(rule, name).Appended += n
			if given[name] == nil {
				given[name] = map[int64]bool{}
			}
			given[name][key.Interval] = true
		}
	}
	return given
}

func (p *prover) of(rule queue.RuleKey, name string) *ProveEndpoint {
	rule.Interval = 0
	at := proven{rule, name}
	if p.events[at] == nil {
		p.events[at] = &ProveEndpoint{Endpoint: name}
	}
	return p.events[at]
}

// overflow is where backlogs of the Queue move.
func (s *Service) overflow() *state.Overflow {
	if s.SourceName != "" {
		return s.Store.OverflowOf(s.SourceSlot)
	}
	return s.Store.Overflow()
}

// proveEndpoint adds what became of an endpoint's events, and returns how many of those that wait are
// of a transaction that is not counted yet. overflowed is the end of what waits in the state database.
func (s *Service) proveEndpoint(ctx context.Context, p *prover, name string, intervals []int64, overflowed queue.ID) (uncounted int64, err error) {
	waiting, uncounted, err := s.Queue.WaitingByRule(ctx, name, overflowed, p.tallies)
	if err != nil {
		return 0, err
	}
	all := []map[queue.RuleKey]int64{waiting}
	if s.Store != nil && !overflowed.IsZero() {
		there, err := s.overflow().Waiting(ctx, name)
		if err != nil {
			return 0, err
		}
		all = append(all, there)
	}
	for _, counts := range all {
		for key, n := range counts {
			if p.within[key] {
				p.of(key, name).Waiting += n
			}
		}
	}
	if len(intervals) == 0 {
		return uncounted, nil
	}
	fates, err := s.Queue.Fates(ctx, name, intervals)
	if err != nil {
		return 0, err
	}
	p.addFates(name, fates)
	if s.Store != nil {
		if fates, err = s.overflow().Fates(ctx, name, intervals[0], intervals[len(intervals)-1]+1); err != nil {
			return 0, err
		}
		p.addFates(name, fates)
	}
	return uncounted, nil
}

func (p *prover) addFates(name string, fates map[queue.EventKey]int64) {
	for key, n := range fates {
		if !p.within[key.RuleKey] {
			continue
		}
		switch e := p.of(key.RuleKey, name); key.Fate {
		case queue.FateDelivered:
			e.Delivered += n
		case queue.FateSuperseded:
			e.Superseded += n
		case queue.FateDead:
			e.Dead += n
		case queue.FateDropped:
			e.Dropped += n
		}
	}
}

// view are the rules, in the order of their names.
func (p *prover) view() []ProveRule {
	rules := []ProveRule{}
	for key, r := range p.rules {
		v := ProveRule{
			Rule: p.name(key), Seen: r.N[queue.Seen], Matched: r.N[queue.Matched], Filtered: r.N[queue.Filtered], Collapsed: r.N[queue.Collapsed],
			Repeated: r.N[queue.Repeated], Parked: r.N[queue.Parked], Backfill: r.N[queue.Read], Endpoints: []ProveEndpoint{},
		}
		v.Event = v.Rule[strings.LastIndexByte(v.Rule, ' ')+1:]
		for at, e := range p.events {
			if at.rule == key {
				v.Endpoints = append(v.Endpoints, *e)
			}
		}
		slices.SortFunc(v.Endpoints, func(a, b ProveEndpoint) int { return strings.Compare(a.Endpoint, b.Endpoint) })
		rules = append(rules, v)
	}
	slices.SortFunc(rules, func(a, b ProveRule) int { return cmp.Compare(a.Rule, b.Rule) })
	return rules
}

// name is what people know a rule by; a rule of an epoch before has that behind it.
func (p *prover) name(key queue.RuleKey) string {
	key.Interval = 0
	name, known := p.tallies.Names[key]
	switch {
	case !known:
		return fmt.Sprintf("rule %d of epoch %d", key.Rule, key.Epoch)
	case key.Epoch != p.tallies.Epoch:
		return fmt.Sprintf("epoch %d: %s", key.Epoch, name)
	}
	return name
}

// differences are the sums that do not agree.
func (p *prover) differences(rules []ProveRule) []string {
	var out []string
	differ := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for key, r := range p.rules {
		name := p.name(key)
		if n := r.N[queue.Matched] - r.N[queue.Made]; n != 0 {
			differ("rule %s: matched %d, but %d events came to the queue", name, r.N[queue.Matched], r.N[queue.Made])
		}
		if n := r.N[queue.Parked] - r.N[queue.Kept]; n != 0 {
			differ("rule %s: parked %d, but %d came to the parked changes", name, r.N[queue.Parked], r.N[queue.Kept])
		}
	}
	for i := range rules {
		r := &rules[i]
		if n := r.Seen + r.Repeated - r.Matched - r.Filtered - r.Collapsed - r.Parked; n != 0 {
			differ("rule %s: %d of the changes seen have %s", r.Rule, max(n, -n), map[bool]string{true: "no outcome", false: "one outcome too many"}[n > 0])
		}
		for _, e := range r.Endpoints {
			switch n := e.Appended - e.Delivered - e.Superseded - e.Dead - e.Waiting - e.Dropped; {
			case n > 0:
				differ("rule %s, endpoint %s: %d of the events appended are neither delivered, superseded, dead, waiting nor dropped", r.Rule, e.Endpoint, n)
			case n < 0:
				differ("rule %s, endpoint %s: %d more events are delivered, superseded, dead, waiting or dropped than were counted when they were appended", r.Rule, e.Endpoint, -n)
			}
		}
	}
	slices.Sort(out)
	return out
}
