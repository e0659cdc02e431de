package control

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"gancho/cdc"
	"gancho/internal/simulate"
	"gancho/internal/state"
	"gancho/internal/strictyaml"
	"gancho/mapping"
)

// RulesInUse are the rules that a process has, and what it remembers of them.
type RulesInUse struct {
	Sources []mapping.RuleSource
	// Files are the texts of the files, which are read only.
	Files map[string][]byte
	// Texts are the bound rules, and Seen what became of the changes that each has looked at, by the rules' numbers.
	// Without Texts this process does not capture.
	Texts []mapping.RuleText
	Seen  map[int]RuleTally
	// Since is the commit from which on changes are counted.
	Since time.Time
	// Try runs an edited copy of a file over existing rows.
	Try func(context.Context, simulate.Trial) (*simulate.Report, error)
	// With calls a function with the rules of other files, by their names, bound to the source. Its error may be a
	// strictyaml.Errors about their texts; there is little time. It runs one at a time.
	With func(ctx context.Context, texts map[string][]byte, do func(context.Context, *mapping.Ruleset, simulate.Options) error) error
}

// RuleTally counts what became of the changes that a rule has looked at. A change that was read again, because the queue had
// lost something, counts again.
type RuleTally struct {
	Changes   int64 `json:"changes"`
	Events    int64 `json:"events"`
	Unwatched int64 `json:"unwatched"`
	False     int64 `json:"when_false"`
	Null      int64 `json:"when_null"`
	Parked    int64 `json:"parked"`
}

// RuleView is a rule as people see it.
type RuleView struct {
	Rule  string `json:"rule"` // file:line
	File  string `json:"file"`
	Line  int    `json:"line"` // of the first line of Text
	Text  string `json:"text"`
	Event string `json:"event"`
	Title string `json:"title,omitempty"`
	Table string `json:"table"` // as written: its schema may be missing
	On    string `json:"on"`
	// Schedule is when the rule runs, and has run, if it has a query instead of a table.
	Schedule *ScheduleView `json:"schedule,omitempty"`
	// Timers are those of a rule with after; nil: it has none, or Redis does not answer.
	Timers *TimerView `json:"timers,omitempty"`
	// Identity and Seen are missing where the process that answers does not capture.
	Identity *mapping.Identity `json:"identity,omitempty"`
	Seen     *RuleTally        `json:"seen,omitempty"`
	// Since is when the changes of Seen begin, by their commits.
	Since time.Time `json:"since,omitzero"`
}

// Rules lists the rules in the order of their files. They name files and tables, so that they do not exist for a tenant.
// Needs Operator.
func (s *Service) Rules(ctx context.Context, a Actor) ([]RuleView, error) {
	if err := a.may(state.Operator); err != nil {
		return nil, err
	}
	if a.Tenant != "" {
		return nil, state.ErrNotFound
	}
	out := []RuleView{}
	if s.RulesInUse == nil {
		return out, nil
	}
	now := s.RulesInUse()
	schedules, _ := s.schedules(ctx) // they say so themselves
	var timers []TimerView
	if s.Queue != nil {
		timers, _ = s.timers(ctx) // Status says that Redis does not answer
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for i := range now.Sources {
		r := &now.Sources[i]
		v := RuleView{Rule: r.Place, File: r.File, Line: r.Line, Text: r.Text, Event: r.Event, Title: r.Title, Table: r.Table, On: r.On}
		at := slices.IndexFunc(now.Texts, func(t mapping.RuleText) bool { return t.Place == r.Place && !t.Child })
		if at >= 0 {
			seen := now.Seen[now.Texts[at].Number]
			v.Identity, v.Seen, v.Since = &now.Texts[at].Identity, &seen, now.Since
		}
		if at := slices.IndexFunc(schedules, func(s ScheduleView) bool { return s.Rule == r.Place }); at >= 0 {
			v.Schedule = &schedules[at]
		}
		if at := slices.IndexFunc(timers, func(t TimerView) bool { return t.Rule == r.Place }); at >= 0 {
			v.Timers = &timers[at]
		}
		out = append(out, v)
	}
	return out, nil
}

// RuleFile is the text of a rule file as it was read last. It does not exist for a tenant. Needs Operator.
func (s *Service) RuleFile(_ context.Context, a Actor, file string) (string, error) {
	if err := a.may(state.Operator); err != nil {
		return "", err
	}
	if a.Tenant != "" || s.RulesInUse == nil {
		return "", state.ErrNotFound
	}
	text, known := s.RulesInUse().Files[file]
	if !known {
		return "", state.ErrNotFound
	}
	return string(text), nil
}

// The default and the bound of [Simulation.Limit].
const (
	DefaultSimulated = 1000
	MaxSimulated     = 10_000
)

// Simulation is an edited copy of a rule file, and the existing rows that it is tried on.
type Simulation struct {
	File  string
	Text  string
	Table string // as people write it: its schema may be missing
	Where string // as after WHERE; empty: all rows
	Limit int64  // of rows; 0: DefaultSimulated
}

// Simulate compares what the rules make of existing rows with what they would with the edited copy. Nothing is sent and
// nothing is changed; personal values are masked. That rows were read is written to the audit log. It does not exist for a
// tenant. Needs Admin.
func (s *Service) Simulate(ctx context.Context, a Actor, r Simulation) (*simulate.Report, error) {
	if _, err := s.stored(a, state.Admin); err != nil {
		return nil, err
	}
	if a.Tenant != "" {
		return nil, state.ErrNotFound
	}
	if s.RulesInUse == nil {
		return nil, s.elsewhere(ctx)
	}
	now := s.RulesInUse()
	if now.Try == nil {
		return nil, s.elsewhere(ctx)
	}
	var wrong problems
	table, err := cdc.ParseName(r.Table)
	if err != nil {
		wrong.add("table", "write a table of the rules, such as cobrancas", "this is not the name of a table")
	}
	if r.Limit < 0 || r.Limit > MaxSimulated {
		wrong.add("limit", "write a number from 1 to 10000", "so many rows are not read")
	}
	if !slices.ContainsFunc(now.Sources, func(s mapping.RuleSource) bool { return s.File == r.File }) {
		wrong.add("file", "write the file of a rule, as the list of rules has it", "there is no such rule file")
	}
	if err := wrong.err(); err != nil {
		return nil, err
	}
	if err := s.Store.RecordRead(ctx, state.Change{Actor: a.Name, Action: "rows.simulate", Object: "table/" + s.inSource(table.String())}); err != nil {
		return nil, err
	}
	report, err := now.Try(ctx, simulate.Trial{File: r.File, Text: []byte(r.Text), Table: table, Where: r.Where, Limit: cmp.Or(r.Limit, DefaultSimulated)})
	return report, simulationError(err)
}

// simulationError makes what is wrong with a simulation's text, table or condition mistakes of the request.
func simulationError(err error) error {
	var mistakes strictyaml.Errors
	switch {
	case errors.As(err, &mistakes):
		var wrong problems
		for _, m := range mistakes {
			wrong = append(wrong, Problem{Pointer: "/text", Line: m.Line, Column: m.Col, Message: m.Message, Hint: m.Hint})
		}
		return wrong.err()
	case errors.Is(err, mapping.ErrCondition):
		return invalid("/where", "write it as after WHERE, such as id > 1000", "%v", err)
	case errors.Is(err, simulate.ErrNoRule):
		return invalid("/table", "write the table of a rule of the file", "%v", err)
	}
	return err
}
