package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/mapping"
)

// openCapture checks the rules against the source, prepares the slot, and
// claims the source's epoch.
func (b *bridge) openCapture(ctx context.Context) (*capture, error) {
	c := &capture{bridge: b, stage: newStage(b.queue, b.keyring(), b.metrics, b.Log), confirmed: make(chan struct{}, 1)}
	c.stage.traces, c.stage.appended, c.stage.refused = b.traces, b.appendedTo, b.refusedBy
	c.stage.memory.limit = b.MaxMemoryPercent
	var rules *mapping.Ruleset
	var source *cdc.Source
	var reached *queue.Reached
	var err error
	known := b.member.knownBefore(ctx, b.store)
	if known != nil {
		rules, c.checked = known.rules, known.checked
		source, err = c.sourceNow(ctx, known)
	} else if reached, err = c.lookBack(ctx); err == nil {
		rules, source, err = c.prepare(ctx, b.definitionsNow().Rules, reached != nil && !b.AcceptSource)
	}
	if err != nil {
		return nil, b.refusalOf(ctx, err)
	}
	// What the types are now is what the rules are bound to, and a bridge that waits for
	// its servers, or for another one to end, streams hours later.
	c.reader = cdc.NewReader(b.Source, source)
	if known != nil {
		c.reader.LoadLazily()
	} else if _, err := waitFor(ctx, b.Log, "source", func() (struct{}, error) { return struct{}{}, c.reader.ReloadTypes(ctx) }); err != nil {
		return nil, err
	}
	epoch, err := c.claim(ctx, source, reached, known)
	if err != nil {
		return nil, err
	}
	c.prepared = source
	i := source.Identity
	c.reader.Admit(c.admit)
	b.Log.Info().Stringer("source", i).Uint16("epoch", epoch).Stringer("confirmed", source.ConfirmedFlush).
		Bool("slot_created", source.SlotCreated).Int("rules", rules.Len()).Msg("source prepared")
	if err := c.number(ctx, rules); err != nil {
		return nil, err
	}
	if known == nil {
		if _, err := waitFor(ctx, b.Log, "state database", func() (struct{}, error) { return struct{}{}, b.rememberSource(ctx) }); err != nil {
			return nil, err
		}
	}
	c.identity = i
	c.lookup = c.newLookup()
	c.lookup.Inherit(c.checked)
	options := []mapping.MapperOption{mapping.WithSource(c.lookup), mapping.WithTransactionMemory(b.TransactionMemory)}
	if c.stage.keys != nil {
		options = append(options, mapping.WithKeptChanges())
	}
	if b.State != nil && b.State.KeepChanges {
		options = append(options, mapping.WithEventChanges())
	}
	if b.member == nil {
		c.verdicts = newVerdicts(verdictsKept, readsKept)
	} else {
		id, err := b.queue.SourceID(ctx)
		if err != nil {
			return nil, err
		}
		c.verdicts, c.whole = b.member.remember(rules, i, id, epoch, source.ConfirmedFlush)
	}
	c.verdicts.use(rules)
	c.verdicts.offer(b.endpointsNow())
	watching := observers{b.queue.Tally()}
	if b.State != nil { // else there is no API that could be asked
		watching = append(watching, c.verdicts)
	}
	options = append(options, mapping.WithObserver(watching))
	c.mapper = mapping.NewMapper(rules, nil, options...)
	c.publications, c.from, c.target = source.Publications, source.ConfirmedFlush, source.Current
	c.tables, c.reads = newTables(b.Log), newReads(c)
	c.watch(rules)
	return c, nil
}

// sourceNow is a source that was prepared before, with its slot's position as it is now. Who answers, the reader compares when it connects.
func (c *capture) sourceNow(ctx context.Context, known *knownSource) (*cdc.Source, error) {
	slot, err := waitFor(ctx, c.Log, "source", func() (cdc.Slot, error) { return c.gauge.Measure(ctx) })
	if err != nil {
		return nil, err
	}
	source := *known.source
	source.SlotCreated, source.ConfirmedFlush, source.Current = false, slot.ConfirmedFlush, slot.Current
	return &source, nil
}

// newLookup returns a reader of what rules look up, for one goroutine.
func (c *capture) newLookup() *mapping.Source {
	return c.bridge.newLookup(c.identity)
}

// number gives the rules the numbers that they have kept since they were first seen:
// n of their events.
func (c *capture) number(ctx context.Context, rules *mapping.Ruleset) error {
	numbers, err := waitFor(ctx, c.Log, "redis", func() ([]int, error) { return c.queue.NumberRules(ctx, rules.Identities()) })
	if err != nil {
		return err
	}
	rules.Number(numbers)
	_, err = waitFor(ctx, c.Log, "redis", func() (struct{}, error) {
		return struct{}{}, c.queue.RecordVersions(ctx, rules.Identities(), rules.Versions())
	})
	return err
}

// rememberSource stores as whose the queue was claimed, and the rules' numbers, should Redis
// lose them.
func (b *bridge) rememberSource(ctx context.Context) error {
	claimed := b.queue.Claimed()
	if b.store == nil || claimed == nil {
		return nil
	}
	return b.store.RememberSource(ctx, *claimed)
}

// prepare binds the rules to the source's tables and prepares its slot and
// publication for them. Every mistake in the rules is reported before anything
// is created. The slot is created unless it is known: in place of one that was read, none is.
func (c *capture) prepare(ctx context.Context, rules *mapping.Rules, known bool) (*mapping.Ruleset, *cdc.Source, error) {
	var identity cdc.Identity
	bound, err := waitFor(ctx, c.Log, "source", func() (_ *mapping.Ruleset, err error) {
		conn, err := cdc.Connect(ctx, c.Source.DSN)
		if err != nil {
			return nil, fmt.Errorf("connect to the source: %w", err)
		}
		defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
		if identity, err = cdc.LoadIdentity(ctx, conn); err != nil {
			return nil, err
		}
		bound, err := rules.Bind(ctx, conn)
		if bound, err = c.unlessDenied(ctx, bound, err); err != nil {
			return nil, err
		}
		remarks, err := cdc.Remarks(ctx, conn, c.Source.Encoding, c.Source.Publication)
		for _, r := range remarks {
			c.warn(r)
		}
		return bound, err
	})
	if err != nil {
		return nil, nil, err
	}
	if c.State == nil && len(bound.Schedules()) > 0 {
		return nil, nil, errScheduleState
	}
	for _, f := range bound.Findings() {
		if f.ID != mapping.FindingScheduleCost {
			c.warn(f)
		}
	}
	if c.member != nil {
		bound.Of(c.member.Name)
	}
	c.checked = mapping.NewSource(c.LookupDSN, c.Source.Encoding, c.Log).Of(identity)
	defer c.checked.Close(ctx)
	_, err = waitFor(ctx, c.Log, "source.lookup_dsn", func() (*mapping.Ruleset, error) { return c.unlessDenied(ctx, bound, c.checked.Check(ctx, bound)) })
	if err != nil {
		return nil, nil, err
	}
	options := c.Source
	options.Known = known
	source, err := waitFor(ctx, c.Log, "source", func() (*cdc.Source, error) { return cdc.Prepare(ctx, options, bound.Tables()) })
	if err != nil {
		return nil, nil, err
	}
	if advice := c.Source.Encoding.Advice(source.Settings.Encoding); advice != "" {
		c.Log.Warn().Msg(advice)
	}
	return bound, source, nil
}

// unlessDenied returns the rules all the same if nothing is wrong but that privileges are
// missing that their rules had before: as while the bridge runs, their changes are parked,
// and other rules go on. A rule that never ran, or ran otherwise than it is written now, is
// refused. One of which it is not known how it ran has run as it is.
func (c *capture) unlessDenied(ctx context.Context, bound *mapping.Ruleset, err error) (*mapping.Ruleset, error) {
	mistakes, ok := errors.AsType[*mapping.MistakesError](err)
	if !ok {
		return bound, err
	}
	rules, denied := mistakes.Denied()
	if rules == nil {
		return nil, err
	}
	known, unknown := c.queue.NumberedRules(ctx)
	if unknown != nil {
		return nil, unknown
	}
	now := map[string]string{}
	for i, rule := range rules.Identities() {
		now[rule] = rules.Versions()[i]
	}
	if slices.ContainsFunc(denied, func(rule string) bool {
		version, ran := known[rule]
		return !ran || version != "" && version != now[rule]
	}) {
		return nil, err
	}
	return rules, nil
}

// warn logs a finding.
func (c *capture) warn(f cdc.Finding) {
	message := f.Title
	if f.Why != "" {
		message += "; " + f.Why
	}
	c.Log.Warn().Str("finding", f.ID).Str("at", f.Where).Str("fix", f.Fix()).Msg(message)
}

// watch remembers the tables of the rules for those who watch them.
func (c *capture) watch(rules *mapping.Ruleset) {
	ruled := rules.Ruled()
	c.ruled.Store(&ruled)
	c.bound.Store(rules)
	c.tables.want(rules)
	c.metrics.rules(rules)
}
