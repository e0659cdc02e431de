package control

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"gancho/delivery/webhook"
	"gancho/internal/simulate"
	"gancho/internal/state"
	"gancho/internal/strictyaml"
	"gancho/mapping"
)

const (
	// correctionsInJob is about how many events a job of corrections names.
	correctionsInJob = 5_000
	// MaxCorrectionBytes bounds what corrections may have together, in bytes, and requestCorrectionBytes those of a request, which
	// the bridge holds in its memory.
	MaxCorrectionBytes     = 512 << 20
	requestCorrectionBytes = 32 << 20
	// requestRules is how many rule files a request may have.
	requestRules = 100
)

// Corrections are events that other rules make, and that are to be sent: up to MaxMissing, and so many bytes.
type Corrections struct {
	// N is how many there are, also when they are too many.
	N            int
	bytes, bound int
	events       []webhook.Message
}

// NewCorrections returns none yet, and no room for more than bound bytes.
func NewCorrections(bound int) *Corrections { return &Corrections{bound: bound} }

// Add takes one. Those that are too many are counted only.
func (c *Corrections) Add(m *webhook.Message) error {
	c.N++
	c.bytes += len(m.Data) + len(m.Previous) + len(m.Unchanged) + len(m.Errors)
	if c.TooMany() {
		c.events = nil
	} else {
		c.events = append(c.events, *m)
	}
	return nil
}

// TooMany reports whether there are more than can be sent at once.
func (c *Corrections) TooMany() bool { return c.N > MaxMissing || c.bytes > c.bound }

// jobs are those that send the events. Those of one key are in one job, which sends them in their order.
func (c *Corrections) jobs(names []string, rate float64) []state.Job {
	ids := make([][]string, c.N/correctionsInJob+1)
	for i := range c.events {
		m := &c.events[i]
		h := fnv.New64a()
		_, _ = h.Write([]byte(m.Tenant + "\x00" + m.Key)) // a hash never fails
		j := h.Sum64() % uint64(len(ids))
		ids[j] = append(ids[j], m.ID)
	}
	var out []state.Job
	for _, name := range names {
		for _, some := range ids {
			if len(some) > 0 {
				out = append(out, state.Job{Endpoint: name, Filter: state.Filter{Webhooks: some}, Rate: rate})
			}
		}
	}
	return out
}

// CreateCorrections keeps the events, and creates the jobs that send them to each of the endpoints that r, of which Endpoint, Filter and
// Rate count, would be replayed to: all or none. Needs Operator.
func (s *Service) CreateCorrections(ctx context.Context, a Actor, r state.Job, c *Corrections) (ReplayView, error) {
	view := ReplayView{Jobs: []state.Job{}, LeftOut: []LeftOut{}}
	names, left, err := s.ReplayTo(ctx, a, r)
	view.LeftOut = append(view.LeftOut, left...)
	if err != nil {
		return view, err
	}
	jobs, err := s.CreateResends(ctx, a, c.jobs(names, r.Rate), c.events)
	view.Jobs = append(view.Jobs, jobs...)
	return view, err
}

// CompareKept compares the kept events that a filter chooses, by time and tenant, with what rules make of the changes that are kept
// beside them, and returns how many had none; of several sources those of the one that o names. differs gets what is changed or new, as it is to be sent; its error ends it. *state.KeyError.
func CompareKept(ctx context.Context, store *state.Store, rules *mapping.Ruleset, o simulate.Options, f state.Filter, differs func(*webhook.Message) error) (report *simulate.SentReport, without int64, err error) {
	sent := simulate.NewSent(rules, o)
	defer sent.Close(context.WithoutCancel(ctx))
	changes := sent.Changes(f.Tenant, differs)
	err = store.EachKept(ctx, f, func(m *webhook.Message) error {
		if o.Name != "" && SourceOf(m.Tenant) != o.Name {
			return nil
		}
		if m.Change == nil && !simulate.SentAgain(m.ID) {
			without++
			return nil
		}
		return changes.Add(ctx, m)
	})
	if err == nil {
		err = changes.Flush(ctx)
	}
	if err != nil {
		return nil, without, err
	}
	return sent.Report(changes.Read()), without, nil
}

// Correction asks for a replay of kept events through other rules.
type Correction struct {
	// Rules are the texts of all rule files, by names that mistakes are told under.
	Rules map[string]string
	// Of Replay Endpoint, Rate, DryRun and, of its Filter, From, To and Tenant count.
	Replay state.Job
}

// CorrectionView is what a correction has found, and the jobs that it has created.
type CorrectionView struct {
	Comparison *simulate.SentReport `json:"comparison"`
	// WithoutChange are events of the span beside which no change is kept: nothing is known of them.
	WithoutChange int64 `json:"without_change"`
	// Corrections are the events that are changed or new.
	Corrections int `json:"corrections"`
	ReplayView
}

// CreateCorrection runs the changes that kept events were made of through other rules, and sends what is changed or new, under
// webhook-ids of its own: jobs as of a replay. With DryRun it only compares. Values are masked; that they were read is written to the audit log. It
// does not exist for a tenant, because rules read whatever they like. Needs Admin.
func (s *Service) CreateCorrection(ctx context.Context, a Actor, c Correction) (CorrectionView, error) {
	view := CorrectionView{ReplayView: ReplayView{Jobs: []state.Job{}, LeftOut: []LeftOut{}}}
	if _, err := s.stored(a, state.Admin); err != nil {
		return view, err
	}
	if a.Tenant != "" {
		return view, state.ErrNotFound
	}
	if s.RulesInUse == nil {
		return view, s.elsewhere(ctx)
	}
	with := s.RulesInUse().With
	if with == nil {
		return view, s.elsewhere(ctx)
	}
	if err := c.check(); err != nil {
		return view, err
	}
	var err error
	if !c.Replay.DryRun { // what cannot be sent is said before all is read
		if _, view.LeftOut, err = s.ReplayTo(ctx, a, c.Replay); err != nil {
			return view, err
		}
	}
	found := NewCorrections(requestCorrectionBytes)
	texts := map[string][]byte{}
	for name, text := range c.Rules {
		texts[name] = []byte(text)
	}
	err = with(ctx, texts, func(ctx context.Context, rules *mapping.Ruleset, o simulate.Options) (err error) {
		if err := s.Store.RecordRead(ctx, state.Change{Actor: a.Name, Action: "events.compare", Object: s.under("events")}); err != nil {
			return err
		}
		if view.Comparison, view.WithoutChange, err = CompareKept(ctx, s.Store, rules, o, c.Replay.Filter, found.Add); err != nil {
			return err
		}
		return s.sendCorrections(ctx, a, c, found, &view) // still alone: another one has to see what this one sends
	})
	return view, correctionError(err)
}

// sendCorrections sends what a comparison has found, unless it was only to be compared.
func (s *Service) sendCorrections(ctx context.Context, a Actor, c Correction, found *Corrections, view *CorrectionView) (err error) {
	view.Corrections = found.N
	switch {
	case view.Comparison.Read == 0 && view.WithoutChange > 0 && !c.Replay.DryRun:
		return invalid("/filter", "set state.keep_changes: true in gancho.yaml to keep those to come; a backfill sends the rows as they are now",
			"no change is kept beside the %d events of this span, so that no other rule can be applied to them", view.WithoutChange)
	case c.Replay.DryRun || found.N == 0:
		return nil
	case found.TooMany():
		return invalid("/filter/from", "choose a shorter span, or run gancho replay", "%d events are changed or new, and at most %d, and %d MiB, are sent at once", found.N, MaxMissing, requestCorrectionBytes>>20)
	}
	view.ReplayView, err = s.CreateCorrections(ctx, a, c.Replay, found)
	return err
}

// check refuses what cannot be meant.
func (c *Correction) check() error {
	var wrong problems
	switch {
	case len(c.Rules) == 0:
		wrong.add("rules", `write {"a.yaml": "rules: ..."}`, "there are no rules")
	case len(c.Rules) > requestRules:
		wrong.add("rules", fmt.Sprintf("write at most %d files", requestRules), "there are too many files")
	}
	if c.Replay.Filter.From.IsZero() {
		wrong.add("filter/from", `write a time such as "2026-03-01T00:00:00Z"`, "it is not said from when on events are compared")
	}
	if err := wrong.err(); err != nil {
		return err
	}
	return errors.Join(checkRate(c.Replay.Rate), checkSpan(c.Replay.Filter.From, c.Replay.Filter.To))
}

// correctionError makes what is wrong with the texts of rules mistakes of the request.
func correctionError(err error) error {
	mistakes, are := errors.AsType[strictyaml.Errors](err)
	if !are {
		return err
	}
	var wrong problems
	for _, m := range mistakes {
		pointer := "/rules"
		if m.File != "" {
			pointer += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(m.File)
		}
		wrong = append(wrong, Problem{Pointer: pointer, Line: m.Line, Column: m.Col, Message: m.Message, Hint: m.Hint})
	}
	slices.SortStableFunc(wrong, func(a, b Problem) int { return strings.Compare(a.Pointer, b.Pointer) })
	return wrong.err()
}
