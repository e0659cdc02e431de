package bridge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/internal/retry"
	"gancho/mapping"
)

// capture is the half that reads the source and fills the queues. It is the
// reader's handler.
type capture struct {
	*bridge
	reader *cdc.Reader
	stage  *stage
	mapper *mapping.Mapper
	lookup *mapping.Source
	// checked is that of prepare, which knows what rules may no longer read.
	checked *mapping.Source
	// mapped is the newest position before which everything has been given to the
	// mapper: it counts as reached when nothing is pending there.
	mapped cdc.LSN
	// take is the queue's Take, resolve and complete are the mapper's Resolve and Commit, until
	// capture ends.
	take     func() error
	resolve  func() error
	complete func(*cdc.Transaction) error
	// next is a ruleset that is used from the next transaction on.
	next      atomic.Pointer[mapping.Ruleset]
	ready     sync.Once
	confirmed chan struct{} // capacity 1: the confirmed position has risen
	// publications are those that the reader subscribes to.
	publications []string
	tables       *tables
	// identity is the source's that the rules are bound to.
	identity cdc.Identity
	// verdicts are what became of the newest changes.
	verdicts *verdicts
	reads    *reads
	// takes and restart are reads' message and recorded until capture ends.
	takes   func(*cdc.Transaction, cdc.Message) error
	restart func() ([]uint32, error)
	from    cdc.LSN // the slot's confirmed position at the start
	// ruled are the tables of the rules.
	ruled atomic.Pointer[[]cdc.Ruled]
	// bound are the rules as they were bound last.
	bound atomic.Pointer[mapping.Ruleset]
	// typesBound is the version of the reader's types that the rules were bound to at least.
	typesBound atomic.Uint64

	lagMu sync.Mutex
	lag   lagClock
}

// capturing reports whether this process captures, now: one that waits for the slot, or has
// lost it to another process, does not.
func (b *bridge) capturing() bool { return b.capture != nil && b.capture.reader.Streaming() }

// openCapture checks the rules against the source, prepares the slot, and
// claims the source's epoch.
func (b *bridge) openCapture(ctx context.Context) (*capture, error) {
	c := &capture{bridge: b, stage: newStage(b.queue, b.keyring(), b.metrics, b.Log), confirmed: make(chan struct{}, 1)}
	c.stage.appended, c.stage.refused = b.appendedTo, b.refusedBy
	c.stage.memory.limit = b.MaxMemoryPercent
	before, err := c.lookBack(ctx)
	if err != nil {
		return nil, b.refusalOf(ctx, err)
	}
	rules, source, err := c.prepare(ctx, b.definitions.Rules)
	if err != nil {
		return nil, err
	}
	// What the types are now is what the rules are bound to, and a bridge that waits for
	// its servers, or for another one to end, streams hours later.
	c.reader = cdc.NewReader(b.Source, source)
	if _, err := waitFor(ctx, b.Log, "source", func() (struct{}, error) { return struct{}{}, c.reader.ReloadTypes(ctx) }); err != nil {
		return nil, err
	}
	i := source.Identity
	claimed := queue.Source{
		SystemID: i.SystemID, Database: i.Database, Slot: i.Slot, Timeline: i.Timeline,
		SlotCreated: source.SlotCreated, ConfirmedFlush: uint64(source.ConfirmedFlush), Current: uint64(source.Current),
		History: before.history,
	}
	claimed.Diverged, err = waitFor(ctx, b.Log, "source", func() (bool, error) { return c.diverged(ctx, i, claimed.Current, before.reached) })
	if err != nil {
		return nil, err
	}
	if b.store != nil {
		if claimed.Last, err = waitFor(ctx, b.Log, "state database", func() (*queue.Claimed, error) { return b.store.Source(ctx, i.Slot) }); err != nil {
			return nil, err
		}
	}
	claim := func() (uint16, error) {
		return waitFor(ctx, b.Log, "redis", func() (uint16, error) { return b.queue.Claim(ctx, claimed, b.AcceptSource) })
	}
	epoch, err := claim()
	if changed := new(queue.SourceChangedError); errors.As(err, &changed) && changed.Recorded > 0 {
		// The process that captures now may have recorded more since the end of the
		// WAL was read: the end as it is now decides.
		if slot, failed := b.gauge.Measure(ctx); failed == nil && uint64(slot.Current) >= changed.Recorded {
			claimed.Current = 0
			epoch, err = claim()
		}
	}
	if err != nil {
		// The bridge of another configuration on the same Redis: its slot would hold WAL for ever.
		if changed := new(queue.SourceChangedError); source.SlotCreated && errors.As(err, &changed) && changed.Another {
			return nil, errors.Join(err, cdc.DropSlot(ctx, b.Source))
		}
		return nil, b.refusalOf(ctx, err)
	}
	c.reader.Admit(c.admit)
	b.Log.Info().Stringer("source", i).Uint16("epoch", epoch).Stringer("confirmed", source.ConfirmedFlush).
		Bool("slot_created", source.SlotCreated).Int("rules", rules.Len()).Msg("source prepared")
	if err := c.number(ctx, rules); err != nil {
		return nil, err
	}
	if _, err := waitFor(ctx, b.Log, "state database", func() (struct{}, error) { return struct{}{}, b.rememberSource(ctx) }); err != nil {
		return nil, err
	}
	c.identity = i
	c.lookup = c.newLookup()
	c.lookup.Inherit(c.checked)
	options := []mapping.MapperOption{mapping.WithSource(c.lookup), mapping.WithTransactionMemory(b.TransactionMemory)}
	if c.stage.keys != nil {
		options = append(options, mapping.WithKeptChanges())
	}
	c.verdicts = newVerdicts(verdictsKept)
	c.verdicts.use(rules)
	c.verdicts.offer(b.endpointsNow())
	watching := observers{b.queue.Tally()}
	if b.State != nil { // else there is no API that could be asked
		watching = append(watching, c.verdicts)
	}
	options = append(options, mapping.WithObserver(watching))
	c.mapper = mapping.NewMapper(rules, nil, options...)
	c.publications, c.from = source.Publications, source.ConfirmedFlush
	c.tables, c.reads = newTables(b.Log), newReads(c)
	c.watch(rules)
	return c, nil
}

// newLookup returns a reader of what rules look up, for one goroutine.
func (c *capture) newLookup() *mapping.Source {
	return mapping.NewSource(c.LookupDSN, c.Source.Encoding, c.Log).Of(c.identity)
}

// adopt binds other rules, or the same ones to what the source has become, and
// uses them from the next transaction on. Its caller holds adopting.
func (c *capture) adopt(ctx context.Context, rules *mapping.Rules) error {
	if err := c.hasSlot(ctx); err != nil {
		return err
	}
	types := c.reader.TypesVersion()
	bound, source, err := c.prepare(ctx, rules)
	if err != nil {
		return err
	}
	if source.SlotCreated { // it has gone right after hasSlot
		return errors.Join(errNoSlot, cdc.DropSlot(ctx, c.Source))
	}
	if !slices.Equal(source.Publications, c.publications) {
		return fmt.Errorf("the rules need the publications %s, and the stream has %s: restart the bridge to read them",
			strings.Join(source.Publications, ", "), strings.Join(c.publications, ", "))
	}
	if err := c.reader.ReloadTypes(ctx); err != nil {
		return err
	}
	if err := c.number(ctx, bound); err != nil {
		return err
	}
	c.lookup.Inherit(c.checked)
	if err := c.rememberSource(ctx); err != nil {
		c.Log.Warn().Err(err).Msg("the numbers of new rules are in redis alone; they are stored within the hour")
	}
	c.next.Store(bound)
	c.typesBound.Store(types)
	c.watch(bound)
	return nil
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

var errNoSlot = errors.New("the replication slot has gone; start gancho again, which names what is lost")

// hasSlot refuses to go on without the slot, which prepare might create: only the
// start, which claims the source's epoch, knows of the gap.
func (c *capture) hasSlot(ctx context.Context) error {
	_, err := waitFor(ctx, c.Log, "source", func() (cdc.Slot, error) { return c.gauge.Measure(ctx) })
	if errors.Is(err, cdc.ErrNoSlot) {
		return errNoSlot
	}
	return err
}

// adoptTimeout bounds adoptAgain: the watch of the tables waits for it, and the application
// may keep one of them to itself for hours.
const adoptTimeout = 30 * time.Second

// adoptAgain binds the rules that are in use to what the source has become.
func (c *capture) adoptAgain(ctx context.Context) error {
	c.adopting.Lock()
	defer c.adopting.Unlock()
	ctx, cancel := context.WithTimeout(ctx, adoptTimeout)
	defer cancel()
	err := c.adopt(ctx, c.definitionsNow().Rules)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("it took longer than %s; the source is unreachable, or a table of the rules is locked (see pg_locks): %w", adoptTimeout, err)
	}
	return err
}

// prepare binds the rules to the source's tables and prepares its slot and
// publication for them. Every mistake in the rules is reported before anything
// is created.
func (c *capture) prepare(ctx context.Context, rules *mapping.Rules) (*mapping.Ruleset, *cdc.Source, error) {
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
	for _, f := range bound.Findings() {
		c.warn(f)
	}
	c.checked = mapping.NewSource(c.LookupDSN, c.Source.Encoding, c.Log).Of(identity)
	defer c.checked.Close(ctx)
	_, err = waitFor(ctx, c.Log, "source.lookup_dsn", func() (*mapping.Ruleset, error) { return c.unlessDenied(ctx, bound, c.checked.Check(ctx, bound)) })
	if err != nil {
		return nil, nil, err
	}
	source, err := waitFor(ctx, c.Log, "source", func() (*cdc.Source, error) { return cdc.Prepare(ctx, c.Source, bound.Tables()) })
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
}

// run captures until the context ends or a person has to act. It then
// waits until what was appended is durable, and confirms it.
func (c *capture) run(ctx context.Context) error {
	filling, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	filled := make(chan error, 1)
	reading, failed := context.WithCancel(ctx)
	defer failed()
	// The reader waits for its handler, which may wait for room.
	defer context.AfterFunc(reading, c.stage.close)()
	sink := waitingSink{c.stage}
	c.take = func() error {
		_, err := waitFor(reading, c.Log, "redis", func() (struct{}, error) {
			err := c.queue.Take(reading)
			if err == nil {
				err = c.queue.BeginTally(reading)
			}
			return struct{}{}, err
		})
		return err
	}
	c.resolve = func() error { return c.mapper.Resolve(reading, sink) }
	c.complete = func(tx *cdc.Transaction) error { return c.mapper.Commit(reading, tx, sink) }
	c.takes = func(tx *cdc.Transaction, m cdc.Message) error { return c.reads.message(reading, tx, m) }
	c.restart = func() ([]uint32, error) { return c.reads.known(reading) }
	defer c.lookup.Close(ctx)
	go func() {
		defer failed() // reading on would fill memory
		filled <- c.fill(filling)
	}()
	err := c.reader.Run(reading, c)
	if filling.Err() == nil && len(filled) == 0 {
		c.drain(filling, elsewhere(err))
	}
	stop()
	err = errors.Join(err, <-filled)
	if ctx.Err() != nil {
		return err
	}
	return c.refusalOf(context.WithoutCancel(ctx), err)
}

// elsewhere reports whether capture has ended because the source, or its slot, is not what was read: a
// position that was confirmed there would step over changes here.
func elsewhere(err error) bool {
	var changed *queue.SourceChangedError
	var identity *cdc.IdentityChangedError
	return errors.As(err, &changed) || errors.As(err, &identity) || errors.Is(err, queue.ErrClaimLost)
}

// drainTimeout bounds the wait for what was appended to become durable: two
// seconds under everysec, and some.
const drainTimeout = 4 * time.Second

// drain lets the end of what was read become durable and confirms it, so that
// the next start does not read it again: it may come with rules that do not
// fit the tables as they were. Elsewhere, the slot is another one than was read, or may be: it is not moved.
func (c *capture) drain(ctx context.Context, elsewhere bool) {
	ctx, cancel := context.WithTimeout(ctx, min(drainTimeout, c.Shutdown))
	defer cancel()
	c.stage.flush()
	for c.reader.Confirmed() < c.stage.last() {
		select {
		case <-ctx.Done():
			c.Log.Warn().Stringer("confirmed", c.reader.Confirmed()).Stringer("read", c.stage.last()).
				Msg("stopping before all that was read is durable; the next start reads it again")
			return
		case <-c.confirmed:
		}
	}
	if elsewhere {
		return
	}
	switch err := cdc.Advance(ctx, c.Source, c.reader.Confirmed()); {
	case cdc.FaultOf(err) == cdc.FaultTransient:
		c.Log.Info().Msg("another process reads the slot already")
	case err != nil:
		c.Log.Warn().Err(err).Msg("confirm the last position failed; the next start reads a little again")
	}
}

// fill appends what is mapped and confirms what is durable, over restarts of
// Redis, until the context ends.
func (c *capture) fill(ctx context.Context) error {
	for {
		group, ctx2 := errgroup.WithContext(ctx)
		group.Go(func() error { return c.stage.run(ctx2) })
		group.Go(func() error { return c.queue.RunDurable(ctx2, c.confirm) })
		err := group.Wait()
		if errors.Is(err, queue.ErrFenced) {
			c.standBy()
			continue
		}
		if !errors.Is(err, queue.ErrRestarted) {
			return err
		}
		if err := c.rewind(ctx, err); err != nil {
			return err
		}
	}
}

// standBy gives up what was read of the slot, which the source has given to another process:
// it reads that again, and appends it. The reader then waits for the slot.
func (c *capture) standBy() {
	c.stage.rewind()
	signal(c.confirmed) // nothing is left to wait for
	c.Log.Warn().Msg("another process captures now; what this one had read and not appended, the other one reads again")
	c.reader.Rewind()
}

// rewind goes back to the confirmed position because Redis is not the process
// that was appended to, or has lost something: its newest entries may be gone, and nothing
// newer may be appended before them. A Redis that is set to lose events is waited
// for, which the queue logs: deliveries go on.
func (c *capture) rewind(ctx context.Context, why error) error {
	c.stage.rewind()
	c.metrics.rewinds.Inc()
	level := zerolog.WarnLevel
	if lost := new(queue.LostError); errors.As(why, &lost) {
		level = zerolog.ErrorLevel
	}
	c.Log.WithLevel(level).Err(why).Stringer("confirmed", c.reader.Confirmed()).
		Msg("redis restarted or changed; appending again from the confirmed position")
	_, err := retry.Do(ctx, appendBackoff, func() (struct{}, error) { return struct{}{}, c.queue.AcceptRestart(ctx) },
		func(err error) bool {
			setting := new(queue.SettingError)
			return errors.Is(err, queue.ErrUnreachable) || errors.Is(err, queue.ErrRestarted) || errors.As(err, &setting)
		})
	switch {
	case ctx.Err() != nil:
		return nil //nolint:nilerr // the end that was asked for
	case err != nil:
		return err
	}
	c.reader.Rewind()
	return nil
}

// confirm confirms to the source what is durable.
func (c *capture) confirm(lsn uint64) {
	c.lagMu.Lock()
	c.lag.confirm(cdc.LSN(lsn))
	c.lagMu.Unlock()
	c.reader.Confirm(cdc.LSN(lsn))
	signal(c.confirmed)
}

// Begin implements cdc.Handler: rules change only between transactions.
func (c *capture) Begin(tx *cdc.Transaction) error {
	if next := c.next.Swap(nil); next != nil {
		if err := c.resolveAll(); err != nil {
			return err
		}
		c.mapper.Swap(next)
		c.verdicts.use(next)
		c.Log.Info().Int("rules", next.Len()).Msg("rules reloaded")
	}
	c.reads.begin(tx)
	c.mapper.Begin(tx)
	return nil
}

// Message implements cdc.MessageHandler.
func (c *capture) Message(tx *cdc.Transaction, m cdc.Message) error { return c.takes(tx, m) }

// Release implements cdc.Holder.
func (c *capture) Release() {
	c.reads.holding = false
	c.mapped = c.reads.handled
}

// Change implements cdc.Handler.
func (c *capture) Change(change *cdc.Change) error {
	err := c.stage.mapChange(c.mapper, change)
	if errors.Is(err, cdc.ErrStaleTypes) {
		return err // the reader sends the change again
	}
	c.metrics.change(change)
	c.reads.change(change)
	c.tables.see(change.Relation)
	if err == nil && c.mapper.Full() {
		err = c.resolve()
	}
	return withPolicy(err)
}

// withPolicy says which setting made an error of the schema end capture.
func withPolicy(err error) error {
	var drift *mapping.SchemaError
	if errors.As(err, &drift) {
		return fmt.Errorf("%w (on_schema_change: stop; nothing is lost: fix the rule and start again, or, for changes that are older than the table as it is now, set source.on_schema_change: park, which sets them aside)", err)
	}
	return err
}

// resolveAll resolves what is pending and reports how far everything is mapped.
func (c *capture) resolveAll() error {
	if err := c.resolve(); err != nil {
		return withPolicy(err)
	}
	c.advance()
	return nil
}

// advance reports to the stage how far everything is mapped, once nothing is pending.
func (c *capture) advance() {
	if c.mapped != 0 && c.mapper.Pending() == 0 {
		if at := c.reads.upTo(c.mapped); at != 0 {
			c.stage.reached(at)
		}
		c.mapped = 0
	}
}

// Commit implements cdc.Handler.
func (c *capture) Commit(tx *cdc.Transaction) error {
	c.lagMu.Lock()
	c.lag.read(tx.End, tx.Time)
	c.lagMu.Unlock()
	c.queue.Passed(tx.Footprint())
	if err := c.complete(tx); err != nil {
		return withPolicy(err)
	}
	c.reads.commit(tx)
	c.mapped = tx.End
	if c.mapper.Full() {
		return c.resolveAll()
	}
	c.advance()
	return nil
}

// Keepalive implements cdc.Handler.
func (c *capture) Keepalive(lsn cdc.LSN) error {
	c.reads.keepalive(lsn)
	c.mapped = lsn
	c.advance()
	return nil
}

// Flush implements cdc.Handler.
func (c *capture) Flush() error {
	if err := c.resolveAll(); err != nil {
		return err
	}
	c.stage.flush()
	return nil
}

// Reset implements cdc.Handler.
func (c *capture) Reset() error {
	c.stage.rewind() // a position that is marked is not of this turn
	if err := c.take(); err != nil {
		return err
	}
	open, err := c.restart() // after take: nobody else records any more
	if err != nil {
		return err
	}
	c.reads.reset(open)
	c.stage.reset()
	c.mapper.Reset()
	c.mapped = 0
	c.lagMu.Lock()
	c.lag = lagClock{}
	c.lagMu.Unlock()
	c.tables.forget.Store(true)
	signal(c.jobsChanged) // those of parked changes
	c.tables.check()
	c.verdicts.began(time.Now())
	c.health.streaming.Store(true)
	c.Log.Info().Msg("replication started")
	c.ready.Do(func() { c.Log.Info().Msg("bridge is ready") })
	return nil
}

// waiting returns what capture waits for: the source, what rules read of it, or
// Redis; nil when it does not wait.
func (c *capture) waiting() error {
	for _, err := range []error{c.reader.Waiting(), c.lookup.Waiting(), c.stage.waits()} {
		if err != nil {
			return fmt.Errorf("capture waits: %w", err)
		}
	}
	return nil
}

// trouble returns why capture does not do all that it should, nil when it does: it
// waits, a rule may not read what it needs, or a table has left the stream.
func (c *capture) trouble() error {
	if err := cmp.Or(c.waiting(), c.lookup.Denied()); err != nil {
		return err
	}
	if gap := c.health.gap.Load(); gap != nil {
		return errors.New(*gap)
	}
	return nil
}

// privilegesTimeout bounds one look at privileges, after which the tables are looked at.
const privilegesTimeout = 15 * time.Second

// checkPrivileges looks whether what rules may not read was granted meanwhile: the
// next change that needs it may be far.
func (c *capture) checkPrivileges(ctx context.Context) {
	if c.lookup.Denied() == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, privilegesTimeout)
	defer cancel()
	source := mapping.NewSource(c.LookupDSN, c.Source.Encoding, c.Log)
	defer source.Close(ctx)
	c.lookup.Recheck(ctx, c.bound.Load(), source)
	if c.lookup.Denied() == nil {
		c.Log.Info().Msg("the rules may read all that they need again")
	}
}

// lagAge is the age of the oldest transaction that is not confirmed.
func (c *capture) lagAge() time.Duration {
	c.lagMu.Lock()
	defer c.lagMu.Unlock()
	return c.lag.age(time.Now())
}
