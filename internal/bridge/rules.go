package bridge

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"gancho/internal/control"
	"gancho/internal/simulate"
	"gancho/internal/state"
	"gancho/mapping"
)

// trialTime bounds a simulation: who waits for it has a page that is answered within half a minute.
const trialTime = 20 * time.Second

// rulesInUse are the rules, with what became of the newest changes where this process captures.
func (b *bridge) rulesInUse() control.RulesInUse {
	rules := b.definitionsNow().Rules
	out := control.RulesInUse{Sources: rules.Sources(), Files: rules.Files()}
	u := b.inUse()
	if u == nil {
		return out
	}
	out.Texts = u.rules.Texts()
	out.Seen, out.Since = u.verdicts.tally()
	out.Try = func(ctx context.Context, t simulate.Trial) (*simulate.Report, error) { return b.try(ctx, rules, t) }
	out.With = func(ctx context.Context, texts map[string][]byte, do func(context.Context, *mapping.Ruleset, simulate.Options) error) error {
		return b.with(ctx, rules, texts, do)
	}
	return out
}

// try runs an edited copy of a rule file over existing rows.
func (b *bridge) try(ctx context.Context, rules *mapping.Rules, t simulate.Trial) (report *simulate.Report, err error) {
	err = b.trial(ctx, control.Problem{Pointer: "/limit", Hint: "choose fewer rows, or run gancho simulate"}, func(ctx context.Context, o simulate.Options) error {
		report, err = simulate.Try(ctx, rules, t, o)
		return err
	})
	return report, err
}

// with calls do with the rules of other files.
func (b *bridge) with(ctx context.Context, rules *mapping.Rules, texts map[string][]byte, do func(context.Context, *mapping.Ruleset, simulate.Options) error) error {
	return b.trial(ctx, control.Problem{Pointer: "/filter/from", Hint: "choose a shorter span, or run gancho replay"}, func(ctx context.Context, o simulate.Options) error {
		other, err := rules.With(texts)
		if err != nil {
			return err
		}
		bound, err := simulate.Bind(ctx, other, o)
		if err != nil {
			return err
		}
		return do(ctx, bound, o)
	})
}

// trial runs one at a time, because it reads the source, for trialTime at most; late is the mistake of one that takes longer.
func (b *bridge) trial(ctx context.Context, late control.Problem, run func(context.Context, simulate.Options) error) error {
	if !b.trying.TryLock() {
		return fmt.Errorf("another simulation is under way: %w", state.ErrConflict)
	}
	defer b.trying.Unlock()
	limited, cancel := context.WithTimeout(ctx, trialTime)
	defer cancel()
	source := b.Source
	source.Slot, source.Log = "gancho_simulate_"+strings.ToLower(rand.Text()[:12]), zerolog.Nop()
	err := run(limited, simulate.Options{Source: source, Name: b.sourceName(), LookupDSN: b.LookupDSN, TransactionMemory: b.TransactionMemory, Endpoints: b.endpointsNow()})
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		err = &control.InvalidError{Problems: []control.Problem{{Pointer: late.Pointer, Hint: late.Hint, Message: fmt.Sprintf("it took more than %d seconds", int(trialTime.Seconds()))}}}
	}
	return err
}

// tally counts what became of the changes that are remembered, by the numbers of rules.
func (v *verdicts) tally() (seen map[int]control.RuleTally, since time.Time) {
	type outcome struct {
		rule uint16
		is   mapping.Outcome
	}
	counts := map[outcome]int64{}
	v.each(&v.changes, func(r *verdictRecord) {
		for _, verdict := range r.verdicts[:r.n] {
			counts[outcome{verdict.Rule, verdict.Outcome}]++
		}
	})
	seen = map[int]control.RuleTally{}
	for o, n := range counts {
		t := seen[int(o.rule)]
		switch o.is {
		case mapping.Fired:
			t.Events += n
		case mapping.Unwatched:
			t.Unwatched += n
		case mapping.False:
			t.False += n
		case mapping.Null:
			t.Null += n
		case mapping.WasParked:
			t.Parked += n
		default:
			continue // it was decided later, and counts then
		}
		t.Changes += n
		seen[int(o.rule)] = t
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	since = v.since.UTC()
	if made := v.changes.madeRoom(); made.After(since) {
		since = made
	}
	return seen, since
}
