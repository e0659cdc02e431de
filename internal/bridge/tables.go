package bridge

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/mapping"
)

// tables watches whether the stream still carries the tables of the rules, which
// the catalogue says and the stream does not: see cdc.Coverage.
type tables struct {
	wake      chan struct{} // capacity 1: check now
	complaint complaint
	unqueued  complaint // about the events of gaps
	unread    complaint // about what is read before capture ends
	lacking   complaint // about tables that the stream lacks
	// seen are the stream's relations that were looked at, and whether the catalogue may
	// have changed them without a sign in the stream; the capture goroutine's.
	seen map[*cdc.Relation]bool
	// checked is when the catalogue was read last, in Unix nanoseconds; compared, that it was with what is known.
	checked  atomic.Int64
	compared atomic.Bool

	mu     sync.Mutex // guards the next three
	needs  []cdc.TableNeed
	policy mapping.Policy
	oids   map[cdc.Name]uint32 // of the needs, as the catalogue had them last

	// forget: the stream has started again, and another process may have captured in
	// between: the record in Redis is the one that counts.
	forget atomic.Bool

	// What follows belongs to the goroutine of watchTables.
	said       bool         // that the tables are watched
	record     *tableRecord // nil: not read yet
	written    string       // the record in Redis
	gaps       []gap        // that were logged, and whose events are not queued yet
	newest     cdc.LSN      // of the last check
	types      string       // see cdc.Coverages, as identities
	identities string
	filtered   *ending // under the policy stop: a row filter was added
	added      attempt // to add the tables that are missing again
	bound      attempt // to bind the rules to altered types
}

// attempt is the last one at something that costs about as much as a start, and that
// may fail for weeks, until a person has changed something.
type attempt struct {
	at   string
	when time.Time
}

// attemptAgain is the time between two attempts at the same.
const attemptAgain = 10 * time.Minute

// due reports whether to try: something else than the last time soon, the same after a while.
func (a *attempt) due(at string) bool {
	pause := complainEvery
	if at == a.at {
		pause = attemptAgain
	}
	now := time.Now()
	if now.Sub(a.when) < pause {
		return false
	}
	*a = attempt{at, now}
	return true
}

// tableRecord is what is known of the tables. It is kept in Redis, so that the next
// start knows what the bridge had before.
type tableRecord struct {
	// LSN is a position at which every table was as it is recorded.
	LSN    cdc.LSN               `json:"lsn"`
	Tables map[string]tableState `json:"tables"` // by schema.table
	// Publication is the OID of the publication of everything.
	Publication uint32 `json:"publication,omitempty"`
	// Form is filterForm as it was; 0 and 1: Filter has the row filters as PostgreSQL
	// prints them.
	Form int `json:"form,omitempty"`
}

// filterForm is another number when the same row filter reads as another text.
const filterForm = 2

type tableState struct {
	Places []string `json:"places"`
	Filter string   `json:"filter,omitempty"` // cdc.Coverage.FilterID
	Whole  bool     `json:"whole,omitempty"`  // see cdc.Coverage
	// Missing is why the stream lacks changes of the table, Since a position up to
	// which it had them, and Until one from which on it lacked them.
	Missing string  `json:"missing,omitempty"`
	Since   cdc.LSN `json:"since,omitempty"`
	Until   cdc.LSN `json:"until,omitempty"`
}

// gap is a range of positions of which changes of a table are missing. to is 0
// while it is open; closes: that it opened was
// reported before; filter: the rows that a row filter excludes are missing.
type gap struct {
	table, reason, fix string
	from, to           cdc.LSN
	closes, filter     bool
}

// ending is why capture ends once everything before the position is confirmed:
// whoever follows the advice, and removes the rules of a table that has left the
// stream, must not lose what the stream still has of it.
type ending struct {
	what string // what has happened
	at   cdc.LSN
	err  error
}

func newTables(log zerolog.Logger) *tables {
	return &tables{
		wake: make(chan struct{}, 1), seen: map[*cdc.Relation]bool{},
		complaint: complaint{log: log, failed: "the catalogue cannot be read; a table that leaves the stream is not noticed", again: "the catalogue is read again"},
		unqueued:  complaint{log: log, failed: "event about a gap cannot be queued; trying again", again: "events about gaps are queued again"},
		unread:    complaint{log: log, failed: "capture ends (on_schema_change: stop) when it has read what the stream still has", again: "capture goes on"},
		lacking:   complaint{log: log, failed: "a table of the rules is not in the stream, and its changes are not captured", again: "all tables of the rules are in the stream again"},
	}
}

// want says which rules' tables are watched from now on.
func (t *tables) want(rules *mapping.Ruleset) {
	t.mu.Lock()
	t.needs, t.policy = rules.Tables(), rules.Policy()
	t.mu.Unlock()
	t.check()
}

func (t *tables) wanted() ([]cdc.TableNeed, mapping.Policy) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.needs, t.policy
}

// check has the catalogue read now.
func (t *tables) check() { signal(t.wake) }

// see has the catalogue read when the stream describes a table that was renamed,
// or created again, and for a composite value unless that was done a moment ago: the
// stream does not say that a field was renamed.
func (t *tables) see(rel *cdc.Relation) {
	composite, seen := t.seen[rel]
	if composite && time.Since(time.Unix(0, t.checked.Load())) > watchEvery {
		t.check()
	}
	if seen {
		return
	}
	t.seen[rel] = slices.ContainsFunc(rel.Columns, func(c cdc.Column) bool { return isComposite(c.Type) })
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, oid := range t.oids {
		if (name == rel.TableName()) != (oid == rel.OID) {
			t.check()
			return
		}
	}
}

// isComposite reports whether values of the type have fields.
func isComposite(t *cdc.Type) bool {
	return t.Kind == cdc.KindComposite || t.Elem != nil && isComposite(t.Elem)
}

// compare takes what the catalogue says now into the record, and returns the gaps
// that have opened or were closed since.
func (r *tableRecord) compare(c cdc.Coverages) []gap {
	var gaps []gap
	now := make(map[string]tableState, len(c.Tables))
	for _, table := range c.Tables {
		name := table.Table.String()
		old, known := r.Tables[name]
		state := tableState{Places: table.Places, Filter: table.FilterID, Whole: table.Whole, Missing: table.Missing}
		kept := slices.ContainsFunc(old.Places, func(place string) bool { return slices.Contains(table.Places, place) })
		// A table among all leaves a publication only with it. Changes that were made while
		// there was none end the stream (see cdc.Reader), so that none were if it goes on.
		kept = kept || old.Whole && table.Listed && r.Publication != 0 && r.Publication != c.Publication
		switch {
		case table.Missing != "" && old.Missing != "":
			state.Since, state.Until = old.Since, old.Until
		case table.Missing != "":
			state.Since, state.Until = r.LSN, c.Current
			gaps = append(gaps, gap{table: name, reason: table.Missing, fix: table.Fix, from: r.LSN})
		case !known: // a new rule's
		case old.Missing != "":
			gaps = append(gaps, gap{table: name, reason: old.Missing, from: old.Since, to: c.Current, closes: true})
		case table.FilterID != old.Filter && table.FilterID != "" && (old.Filter == "" || r.Form == filterForm):
			gaps = append(gaps, gap{table: name, reason: table.Filter, fix: "take it out of the publication and add it again without the filter", from: r.LSN, filter: true})
		case !kept:
			gaps = append(gaps, gap{table: name, reason: "it was created again, or taken out of the publication, and is in it again", from: r.LSN, to: c.Current})
		}
		now[name] = state
	}
	r.Tables, r.Publication, r.Form = now, c.Publication, filterForm
	return gaps
}

// The time between two checks: the longer one for a source that writes hardly any WAL.
const (
	watchEvery = 3 * time.Second
	watchIdle  = 20 * time.Second
)

// watchTables checks the tables until the context ends. Under the policy stop, a
// table that has left the stream is an error.
func (c *capture) watchTables(ctx context.Context) error {
	t := c.tables
	timer := time.NewTimer(watchEvery)
	defer timer.Stop()
	for wait := watchEvery; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-t.wake:
		case <-timer.C:
		}
		if !c.reader.Streaming() {
			timer.Reset(watchIdle)
			continue // another process captures, and watches: the next Reset wakes
		}
		c.checkPrivileges(ctx)
		before := t.newest
		if err := c.checkTables(ctx); err != nil {
			return err
		}
		if t.newest >= before+busyWAL || len(t.gaps) > 0 || c.trouble() != nil {
			wait = watchEvery
		}
		timer.Reset(wait)
		wait = min(2*wait, watchIdle)
	}
}

// checkTables reads the catalogue and reports what has changed. While a server
// is unreachable, which others say, it does nothing.
func (c *capture) checkTables(ctx context.Context) error {
	t := c.tables
	needs, policy := t.wanted()
	t.checked.Store(time.Now().UnixNano())
	coverage, err := c.catalog.Coverage(ctx, needs, c.reader.Composites())
	if t.forget.Swap(false) {
		t.record, t.written, t.gaps, t.newest = nil, "", nil, 0
	}
	if err == nil && t.record == nil {
		t.record, err = c.readTables(ctx)
	}
	if err != nil && !unreachable(err) && ctx.Err() == nil {
		t.complaint.about(err)
	}
	if err != nil || coverage.Tables == nil {
		return nil //nolint:nilerr // the next check may succeed; that a server is unreachable, others say
	}
	t.complaint.over()
	c.renewTypes(ctx, coverage.Types)
	if t.identities != "" && t.identities != coverage.Identities {
		c.reader.Redescribe(coverage.Current)
	}
	t.identities = coverage.Identities
	if !t.said {
		t.said = true
		c.Log.Info().Int("tables", len(needs)).Msg("tables of the rules are watched")
	}
	gaps := t.record.compare(coverage)
	// The catalogue was read before the position was: a table may have left in between.
	t.record.LSN, t.newest = cmp.Or(t.newest, t.record.LSN, coverage.Current), coverage.Current
	for _, g := range gaps {
		c.reportGap(g)
	}
	t.gaps = append(t.gaps, gaps...)
	// A record that knows of a gap says that its event is queued: without it, this
	// process or the next tries again.
	if c.announceGaps(ctx) {
		c.writeTables(ctx)
	}
	missing := t.take(coverage)
	t.compared.Store(true)
	c.metrics.missing.Set(float64(len(missing)))
	if i := slices.IndexFunc(gaps, func(g gap) bool { return g.filter }); i >= 0 {
		g := gaps[i]
		what := fmt.Sprintf("table %s: %s", g.table, g.reason)
		t.filtered = &ending{what, coverage.Current, fmt.Errorf("%s: since %s the rows that it excludes are not captured (on_schema_change: stop); %s, or start gancho again to accept it", what, g.from, g.fix)}
	}
	if policy != mapping.Stop {
		t.filtered = nil
		t.unread.over()
	}
	if len(missing) == 0 {
		c.health.gap.Store(nil)
		t.lacking.over()
		t.added.at = ""
		if t.filtered != nil {
			return c.endAt(*t.filtered)
		}
		t.unread.over()
		return nil
	}
	first := missing[0]
	left := fmt.Errorf("table %s has left the stream: %s", first.Table, first.Missing)
	text := left.Error()
	c.health.gap.Store(&text)
	if policy == mapping.Stop {
		state := t.record.Tables[first.Table.String()]
		return c.endAt(ending{text, state.Until, fmt.Errorf("%w; its changes after %s are not captured (on_schema_change: stop); %s, start gancho again, and send the rows that were inserted or changed meanwhile with gancho backfill --table %s; of deleted ones nothing is known",
			left, state.Since, first.Fix, first.Table)})
	}
	t.lacking.about(left)
	c.addAgain(ctx, missing)
	return nil
}

// endAt returns why capture ends, once it is time; until then it says what is
// still to be read.
func (c *capture) endAt(e ending) error {
	confirmed := cmp.Or(c.reader.Confirmed(), c.from)
	if confirmed >= e.at {
		return e.err
	}
	text := fmt.Sprintf("%s; capture ends when what the stream still has of it is in the queues: %d bytes of WAL are left, from %s to %s", e.what, e.at-confirmed, confirmed, e.at)
	c.health.gap.Store(&text)
	c.tables.unread.about(errors.New(text))
	return nil
}

// renewTypes has types that were altered used by the reader, and by the rules,
// which know those of lookups. A text that differs may also be that of a new type.
func (c *capture) renewTypes(ctx context.Context, types string) {
	t := c.tables
	if types == t.types || !t.bound.due(types) {
		return
	}
	if err := c.reader.ReloadTypes(ctx); err != nil {
		t.bound = attempt{}
		return // the next check does it
	}
	// The stream may have read them before.
	if c.reader.TypesVersion() != c.typesBound.Load() {
		c.Log.Info().Msg("types of the source were altered; they were read again")
		if err := c.adoptAgain(ctx); err != nil {
			if ctx.Err() == nil {
				c.Log.Warn().Err(err).Msg("the rules cannot be bound to the altered types; they stay as they are, and it is tried again")
			}
			return
		}
	}
	t.types, t.bound = types, attempt{}
}

// take keeps the tables' OIDs, and returns those that the stream lacks.
func (t *tables) take(c cdc.Coverages) (missing []cdc.Coverage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.oids = make(map[cdc.Name]uint32, len(c.Tables))
	for _, table := range c.Tables {
		t.oids[table.Table] = table.OID
		if table.Missing != "" {
			missing = append(missing, table)
		}
	}
	return missing
}

// addAgain lets the source be prepared again for the rules, which adds missing
// tables to the publication, if gancho may do so.
func (c *capture) addAgain(ctx context.Context, missing []cdc.Coverage) {
	var which strings.Builder
	for _, table := range missing {
		fmt.Fprintf(&which, "%s %d %s\n", table.Table, table.OID, table.Missing)
	}
	if !c.Source.Create || !c.tables.added.due(which.String()) {
		return
	}
	if err := c.adoptAgain(ctx); err != nil && ctx.Err() == nil {
		c.Log.Error().Err(err).Msg("the tables that the stream lacks cannot be added again")
	}
}

// reportGap logs and counts a gap.
func (c *capture) reportGap(g gap) {
	if !g.closes {
		c.metrics.gaps.WithLabelValues(g.table).Inc()
	}
	event := c.Log.Error().Str("table", g.table).Str("reason", g.reason).Stringer("from", g.from)
	message := "table has left the stream: its changes after from are missing"
	if g.to != 0 {
		event, message = event.Stringer("to", g.to), "table was not in the stream for a while: its changes between from and to may be missing; send its rows with gancho backfill --table, and let the receivers compare what was deleted"
	}
	if g.fix != "" {
		event = event.Str("fix", g.fix)
	}
	event.Msg(message)
}

// announceGaps queues the events of the gaps, in their order, and reports whether
// all are queued.
func (c *capture) announceGaps(ctx context.Context) bool {
	t := c.tables
	queuing, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	for len(t.gaps) > 0 {
		if err := c.announceGap(queuing, t.gaps[0]); err != nil {
			if ctx.Err() == nil {
				t.unqueued.about(err)
			}
			return false
		}
		t.gaps = t.gaps[1:]
	}
	t.unqueued.over()
	return true
}

// announceGap queues an event for whoever subscribes to gaps. That a gap has opened, or
// was closed, is the same event when it is repeated, after a kill or by another
// process, which may see it end at another position.
func (c *capture) announceGap(ctx context.Context, g gap) error {
	data := struct {
		Table  string `json:"table"`
		Reason string `json:"reason"`
		From   string `json:"from"`
		To     string `json:"to,omitempty"`
		Fix    string `json:"fix,omitempty"`
	}{g.table, g.reason, g.from.String(), "", g.fix}
	if g.to != 0 {
		data.To = g.to.String()
	}
	identity := data.From + " " + g.reason
	if g.to != 0 {
		identity += ", closed"
	}
	return c.announce(ctx, eventGap, g.table, nil, identity, data)
}

// readTables reads what was recorded before.
func (c *capture) readTables(ctx context.Context) (*tableRecord, error) {
	record := &tableRecord{}
	text, err := c.queue.Tables(ctx)
	if err != nil {
		return nil, err
	}
	if text != "" {
		if err := json.Unmarshal([]byte(text), record); err != nil {
			c.Log.Warn().Err(err).Msg("the record of the tables is not readable; it is written anew")
			record = &tableRecord{}
		}
	}
	return record, nil
}

// recordTimeout bounds what is written to Redis, for which nothing waits.
const recordTimeout = 5 * time.Second

// writeTables records what is known of the tables. What cannot be recorded now
// is by the next check.
func (c *capture) writeTables(ctx context.Context) {
	text, err := json.Marshal(c.tables.record)
	if string(text) == c.tables.written {
		return
	}
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, recordTimeout)
		defer cancel()
		err = c.queue.RecordTables(ctx, string(text))
	}
	if err == nil {
		c.tables.written = string(text)
	}
	if err != nil && ctx.Err() == nil {
		c.Log.Warn().Err(err).Msg("the record of the tables cannot be written; a gap may not be known after a restart")
	}
}
