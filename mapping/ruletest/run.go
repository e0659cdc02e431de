package ruletest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"gancho/cdc"
	"gancho/mapping"
)

// Result is what became of a case.
type Result struct {
	Case *Case
	// Failure is nil of a case that passes.
	Failure *Failure

	events []event
	// broken: the case could not be played to its end, and has no events to compare.
	broken bool
}

// Broken reports whether the case could not be played to its end.
func (r *Result) Broken() bool { return r.broken }

// Failure is the first difference of a case.
type Failure struct {
	// Place is file:line of the expectation that is not met.
	Place   string `json:"place"`
	Message string `json:"message"`
	// Expected and Got are what differs, in one line; empty where Message says all.
	Expected string `json:"expected,omitempty"`
	Got      string `json:"got,omitempty"`
}

// String returns the place and the difference, in lines.
func (f *Failure) String() string {
	s := f.Place + ": " + f.Message
	if f.Expected != "" || f.Got != "" {
		s += "\n  expected " + f.Expected + "\n  got      " + f.Got
	}
	return s
}

// event is an event of a case, or a change that was parked.
type event struct {
	name, parked, rule           string
	tenant, key                  string
	op                           string
	data, previous, left, failed []byte
}

// Run is a run of cases.
type Run struct {
	Results []Result
	// Conjuncts are those of the rules' conditions, over all cases that ran.
	Conjuncts []mapping.Conjunct
	// Unfired are the rules, file:line and event, of which no case had an event.
	Unfired []string
}

// Failed is the number of cases that failed.
func (r *Run) Failed() int {
	n := 0
	for _, result := range r.Results {
		if result.Failure != nil {
			n++
		}
	}
	return n
}

// Run runs the cases whose names, with their files as file/name, match; nil: all. The source, which may be nil,
// is asked what the cases do not answer.
func (s *Suite) Run(ctx context.Context, match *regexp.Regexp, source *mapping.Source) (*Run, error) {
	out := &Run{}
	var current *Case
	coverage := mapping.NewCoverage(s.rules)
	options := []mapping.MapperOption{
		mapping.WithCoverage(coverage),
		mapping.WithAnswers(func(q *mapping.Question) (mapping.Answer, error) { return s.answer(current, q) }),
	}
	if source != nil {
		options = append(options, mapping.WithSource(source))
	} else {
		options = append(options, mapping.WithRows(func(rule mapping.RuleName, t *cdc.Table) ([][]cdc.Datum, error) {
			rows, given := current.rows[t]
			if !given {
				return nil, fmt.Errorf("the rule at %s has children, and reads the row of their parent; write rows: {%s: [{...}]} in the case", rule.Place, t.Relation.Name)
			}
			return rows, nil
		}))
	}
	m := mapping.NewMapper(s.rules, nil, options...)
	fired := map[string]bool{}
	for _, c := range s.Cases {
		if match != nil && !match.MatchString(c.File+"/"+c.Name) {
			continue
		}
		current = c
		result := Result{Case: c}
		collected, err := s.play(ctx, m, c)
		if err != nil && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		for _, e := range collected {
			fired[e.rule] = true
		}
		result.events = collected
		if err != nil {
			m.Reset()
			result.Failure = &Failure{Place: c.placeOf(), Message: err.Error()}
			result.events, result.broken = nil, true
		} else {
			result.Failure = c.compare(collected)
		}
		out.Results = append(out.Results, result)
	}
	out.Conjuncts = coverage.Conjuncts(s.rules)
	for _, r := range s.rules.Rules() {
		if !fired[r.Place] {
			out.Unfired = append(out.Unfired, r.Place+": "+r.Event)
		}
	}
	out.Unfired = append(out.Unfired, s.unfired(fired)...)
	return out, nil
}

func (c *Case) placeOf() string { return fmt.Sprintf("%s:%d", c.File, c.Line) }

// play maps the changes of a case as one transaction.
func (s *Suite) play(ctx context.Context, m *mapping.Mapper, c *Case) ([]event, error) {
	tx := &cdc.Transaction{Time: c.now}
	sink := &sink{timers: map[timerOf]*mapping.TimerChange{}}
	changes := make([]*cdc.Change, 0, len(c.changes))
	m.Begin(tx)
	for i, given := range c.changes {
		change := &cdc.Change{Position: cdc.Position{Ordinal: uint64(i)}, Tx: tx, Op: given.op, Relation: given.table.Relation, New: given.new, Old: given.old}
		changes = append(changes, change)
		if err := m.Map(change, sink); err != nil {
			return nil, err
		}
	}
	if err := m.Commit(ctx, tx, sink); err != nil {
		return nil, err
	}
	if err := m.Resolve(ctx, sink); err != nil {
		return nil, err
	}
	for _, t := range sink.due(c.now.Add(c.passes)) {
		if err := m.FireAfter(ctx, t, changes, sink); err != nil {
			return nil, err
		}
	}
	return sink.events, c.playRuns(sink)
}

type sink struct {
	events []event
	timers map[timerOf]*mapping.TimerChange
}

// timerOf is whose a timer is.
type timerOf struct {
	rule int
	key  string
}

// Timer implements mapping.TimerSink.
func (s *sink) Timer(t *mapping.TimerChange) error {
	if t.All {
		maps.DeleteFunc(s.timers, func(of timerOf, _ *mapping.TimerChange) bool { return of.rule == t.N })
		return nil
	}
	of := timerOf{t.N, string(t.Key)}
	pending := s.timers[of] != nil
	if t.Former != nil {
		former := timerOf{t.N, string(t.Former)}
		pending = pending || s.timers[former] != nil
		delete(s.timers, former)
	}
	switch {
	case t.Due.IsZero():
		delete(s.timers, of)
	case pending || !t.Pending:
		kept := *t
		kept.Key, kept.Former = bytes.Clone(t.Key), nil
		s.timers[of] = &kept
	}
	return nil
}

// due are the timers that are due at a time, in order.
func (s *sink) due(at time.Time) []*mapping.TimerChange {
	var out []*mapping.TimerChange
	for _, t := range s.timers {
		if !t.Due.After(at) {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b *mapping.TimerChange) int {
		return cmp.Or(a.Due.Compare(b.Due), cmp.Compare(a.Position.Ordinal, b.Position.Ordinal), cmp.Compare(a.N, b.N))
	})
	return out
}

func (s *sink) Event(e *mapping.Event) error {
	s.events = append(s.events, event{
		name: e.Type, rule: e.Rule, tenant: string(e.Tenant), key: string(e.Key), op: e.Op.String(),
		data: bytes.Clone(e.Data), previous: bytes.Clone(e.Previous), left: bytes.Clone(e.Unchanged), failed: bytes.Clone(e.Errors),
	})
	return nil
}

func (s *sink) Park(p *mapping.Parked) error {
	s.events = append(s.events, event{name: p.Type, rule: p.Rule, parked: p.Reason, op: p.Op.String(), tenant: string(p.Tenant), key: string(p.Key)})
	return nil
}

// answer is what the case says of a lookup, or of expressions.
func (s *Suite) answer(c *Case, q *mapping.Question) (mapping.Answer, error) {
	if q.Name != "" {
		a, given := c.lookups[q.Name]
		if !given {
			if s.asks {
				return mapping.Answer{}, nil
			}
			return mapping.Answer{}, fmt.Errorf("the rule at %s reads lookup %s; write lookups: {%s: {%s: ...}} in the case, or %[2]s: none where it finds no row", q.Rule, q.Name, q.Name, q.Columns[0].Name)
		}
		if a.fields == nil {
			return mapping.Answer{Known: true}, nil
		}
		row := slices.Repeat([]cdc.Datum{{State: cdc.Null}}, len(q.Columns))
		for _, f := range a.fields {
			if i := slices.IndexFunc(q.Columns, func(c cdc.Column) bool { return c.Name == f.Name }); i >= 0 {
				row[i] = s.datum(f.Value, q.Columns[i])
			}
		}
		return mapping.Answer{Row: row, Known: true}, nil
	}
	row := make([]cdc.Datum, len(q.Columns))
	for i, e := range q.Expressions {
		value, given := c.evaluated[e.Text]
		if !given {
			value, given = c.evaluated[e.Path]
		}
		if !given {
			if s.asks {
				return mapping.Answer{}, nil
			}
			return mapping.Answer{}, fmt.Errorf("PostgreSQL evaluates %s of the rule at %s; write evaluated: {%q: ...} in the case, or run with --dsn", e.Path, q.Rule, e.Text)
		}
		row[i] = s.datum(value, q.Columns[i])
	}
	return mapping.Answer{Row: row, Known: true}, nil
}

// Untested are the conjuncts that no case decided both ways, a line each.
func (r *Run) Untested() []string {
	var out []string
	for _, c := range r.Conjuncts {
		var never string
		switch other := c.False + c.Null; {
		case c.True == 0 && other == 0:
			never = "never evaluated"
		case c.True == 0:
			never = "never true"
		case other == 0:
			never = "never false"
		default:
			continue
		}
		out = append(out, fmt.Sprintf("%s: %s: %s was %s", c.Place, c.Event, c.Text, never))
	}
	for _, rule := range r.Unfired {
		out = append(out, rule+": no case has this event")
	}
	return out
}

var errFlow = errors.New("write the case with a line for each key, and run --update again")

// short bounds a text in messages.
func short(text string) string {
	const most = 400
	if text = strings.TrimSpace(text); len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}
