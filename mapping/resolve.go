package mapping

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"gancho/cdc"
)

// release gives an entry to the sink.
func (m *Mapper) release(e *entry, sink Sink) error {
	switch e.kind {
	case entryEvent:
		return sink.Event(&e.event)
	case entryParked:
		return sink.Park(&e.parked)
	}
	err := m.releaseWaiting(e, sink)
	m.observeLater(&e.change)
	return err
}

// releaseWaiting applies the rule of an entry whose lookups have been read.
func (m *Mapper) releaseWaiting(e *entry, sink Sink) error {
	m.machine.Load(&e.change)
	m.beforeLoaded = false
	m.found, m.foundBefore = m.foundRows(m.found[:0], e, e.asked), m.foundRows(m.foundBefore[:0], e, e.before)
	defer func() { m.found, m.foundBefore = m.found[:0], m.foundBefore[:0] }()
	for i := range m.found {
		m.machine.LoadLookup(i, m.found[i].row)
	}
	fires, reason := m.firesLate(e)
	if !fires {
		m.refused(e.n)
		return nil
	}
	for i := range m.found {
		if reason == "" {
			reason = e.rule.unread(i, m.found[i])
		}
		if reason == "" && len(m.foundBefore) > 0 {
			reason = e.rule.unread(i, m.foundBefore[i])
		}
	}
	if reason != "" {
		return m.parkEntry(e, sink, reason)
	}
	child := m.childChanged // of the change that is being applied
	m.childChanged = e.child
	failed := m.build(e.rule, e.n, &e.change)
	m.childChanged = child
	if e.unkept != "" { // the entry has a part of it
		m.event.Change = nil
	}
	if failed != nil {
		return m.parkEntry(e, sink, failed.reason(e.rule, e.change.Relation))
	}
	m.told(e.n, Fired)
	return sink.Event(&m.event)
}

// foundRows appends what an entry's lookups have found, by lookup.
func (m *Mapper) foundRows(dst []foundRow, e *entry, asked []int32) []foundRow {
	for i, set := range asked {
		found := foundRow{}
		if set >= 0 {
			found = m.waiting.byID[e.rule.lookups[i].id].rows[set]
		}
		dst = append(dst, found)
	}
	return dst
}

// unread is why there is no row of a lookup; "": there is.
func (r *rulePlan) unread(lookup int, found foundRow) string {
	l := r.lookups[lookup]
	if found.reason == "" || l.nullable && found.failed {
		return ""
	}
	return fmt.Sprintf("%s: read %s: %s", l.place, l.path(), found.reason)
}

// firesLate decides what of when depends on lookups: the rule fires, unless a conjunct is
// false or null. The reason is why one that would have to decide cannot.
func (m *Mapper) firesLate(e *entry) (fires bool, reason string) {
	reason = e.undecided
	for _, l := range e.rule.late {
		unread := ""
		for _, i := range l.lookups {
			unread = cmp.Or(unread, e.rule.unread(i, m.found[i]))
		}
		if unread != "" {
			reason = cmp.Or(reason, unread)
			continue
		}
		value, null, err := m.machine.Bool(l.Expr)
		if err != nil {
			failed := failure{expression: l.expression, err: err}
			reason = cmp.Or(reason, failed.reason(e.rule, e.change.Relation))
		} else {
			if m.coverage != nil {
				m.coverage.countLate(e.rule, l.expression, value, null)
			}
			if null || !value {
				m.why = Verdict{Outcome: False, Conjunct: l.number}
				if null {
					m.why.Outcome = Null
				}
				return false, ""
			}
		}
	}
	return true, reason
}

// parkEntry parks the change of an entry that waited for lookups.
func (m *Mapper) parkEntry(e *entry, sink Sink, reason string) error {
	child := m.childChanged // of the change that is being applied
	m.childChanged = e.child
	defer func() { m.childChanged = child }()
	return m.parkUnkept(e.rule, e.n, &e.change, sink, reason, e.unkept)
}

// lookUp finds the rows of a query that are not in the cache.
func (m *Mapper) lookUp(ctx context.Context, q *query) error {
	what := q.lookup.path() + " of " + q.lookup.place
	missing, err := m.answered(q, m.fromCache(q, q.wanted))
	if err != nil || len(missing) == 0 {
		return err
	}
	first, attempts := int32(-1), 0
	answered, denied := false, error(nil)
	rest, err := readInParts(ctx, m.source, what, m.unseen(m.waiting.transactions...), missing, func(sets []int32) error {
		before := len(m.waiting.results)
		err := m.runLookup(ctx, q, sets)
		if err != nil {
			m.waiting.results = m.waiting.results[:before]
		}
		if err == nil {
			m.toCache(q, sets)
			answered = true
			return nil
		}
		if attempts++; first != sets[0] {
			first, attempts = sets[0], 1
		}
		if isBroken(err) {
			err = m.source.explain(ctx, what, err, q.lookup.batch, m.rules.denied)
		}
		// Also what fails within a routine, perhaps for some rows only, is to be waited for: see firing.
		if fault := cdc.FaultOf(err); m.firing && (isBroken(err) || fault == cdc.FaultDenied || fault == cdc.FaultSchema) {
			if isDenied(err) {
				m.source.remember(what, err, timersWait)
			}
			return fmt.Errorf("%w: %w", errPermanent, q.lookup.schemaError(err))
		}
		deniedWithin := cdc.FaultOf(err) == cdc.FaultDenied && inRoutine(err) // perhaps for some rows only
		if deniedWithin || q.lookup.expression != nil && ofRow(err, len(sets), attempts) {
			return fmt.Errorf("%w: %w", errRow, err)
		}
		return err
	}, func(set int32, err error) {
		q.rows[set] = foundRow{reason: "the query fails: " + withoutData(err).Error(), failed: noValue(err)}
		if cdc.FaultOf(err) == cdc.FaultDenied {
			denied = err
			q.rows[set].reason += "; " + refusalHint(err)
		}
	})
	if broken, is := errors.AsType[*SchemaError](err); is {
		return broken
	}
	switch {
	case m.firing: // what is said of a privilege is about changes that are parked
		m.source.forget(what)
	case err == nil && !answered:
		m.source.note(what, denied)
	default:
		m.source.note(what, err)
	}
	if !isBroken(err) {
		return err
	}
	if m.rules.ends(err) && !m.redrives {
		return q.lookup.schemaError(err)
	}
	for _, set := range rest {
		broken := q.lookup.schemaError(err)
		q.rows[set] = foundRow{reason: broken.What}
		if isDenied(err) {
			q.rows[set].reason += "; " + broken.Hint
		}
	}
	return nil
}

// unseen are those of the transactions for which queries have to wait.
func (m *Mapper) unseen(txs ...*cdc.Transaction) []*cdc.Transaction {
	if m.past {
		return nil
	}
	return txs
}

// runLookup runs a lookup for some sets of arguments. It may be called again
// after an error.
func (m *Mapper) runLookup(ctx context.Context, q *query, sets []int32) error {
	width := len(q.lookup.arguments())
	args := make([][]byte, width)
	for i := range args {
		for _, set := range sets {
			d := q.arguments[int(set)*width+i]
			args[i] = appendElement(args[i], d.Text, d.State == cdc.Null)
		}
		args[i] = append(args[i], '}')
	}
	for _, set := range sets {
		q.rows[set] = foundRow{}
	}
	return m.source.queryAfter(ctx, q.lookup.session, q.lookup.batch, args, q.lookup.sameResult, func(row []cdc.Datum) error {
		number, err := strconv.Atoi(string(row[0].Text))
		if err != nil || number < 1 || number > len(sets) {
			return fmt.Errorf("read %s: the server numbers a row %q", q.lookup.path(), row[0].Text)
		}
		found := &q.rows[sets[number-1]]
		if found.done {
			*found = foundRow{done: true, reason: "the query finds more than one row; add a condition, limit 1 or an aggregate"}
			return nil
		}
		found.done = true
		w := &m.waiting
		size := 0
		for _, d := range row[1:] {
			size += len(d.Text)
		}
		switch {
		case size > maxResults:
			found.reason = fmt.Sprintf("the row that it finds has more than %d MiB", maxResults>>20)
			return nil
		case w.several && len(w.results)+size > maxResults:
			return ErrTooMuch
		}
		found.row = make([]cdc.Datum, len(row)-1)
		for i, d := range row[1:] {
			start := len(w.results)
			w.results = append(w.results, d.Text...)
			if d.State == cdc.Present || d.State == cdc.Invalid {
				d.Text = w.results[start:len(w.results):len(w.results)]
			}
			found.row[i] = d
		}
		return nil
	})
}

// ErrTooMuch says that what lookups find for several changes, or the rows of several timers, must be read for fewer at a time.
var ErrTooMuch = fmt.Errorf("%w: the rows that lookups find take too much memory", errPermanent)

// errResult: a lookup's result has other columns than when it was bound.
var errResult = errors.New("its result has other columns or types than when the rules were loaded")

// sameResult compares the columns of a result with those that the rules were
// compiled for.
func (l *boundLookup) sameResult(fields []pgconn.FieldDescription) error {
	if len(fields) != len(l.columns)+1 {
		return errResult
	}
	for i, c := range l.columns {
		if f := fields[i+1]; f.Name != c.Name || f.DataTypeOID != c.Type.OID {
			return errResult
		}
	}
	return nil
}

// ends reports whether the policy lets a query that is broken end capture. A missing
// privilege concerns its rule alone: whoever revoked it did not change the schema.
func (rs *Ruleset) ends(err error) bool {
	return rs.policy == Stop && !isDenied(err)
}

// isBroken: the query no longer fits the database, or may no longer be run there.
func isBroken(err error) bool {
	fault := cdc.FaultOf(err)
	return errors.Is(err, errResult) || fault == cdc.FaultSchema && !inBody(err) || fault == cdc.FaultDenied && !errors.Is(err, errRow)
}

// inBody: what does not fit the database is within the body of a function that the query
// calls, which may fail for one row and not for the next.
func inBody(err error) bool { return inRoutine(err) && cdc.FaultOf(err) == cdc.FaultSchema }

// inRoutine: the server's error was raised in a routine that the query calls, which chooses
// its code and its message.
func inRoutine(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Where != ""
}

// noValue: an error of the data for which on_error: null has null, that of a domain's
// constraint as well.
func noValue(err error) bool {
	code := cdc.SQLState(err)
	return strings.HasPrefix(code, "22") || code == cdc.CodeNotNullViolation || code == cdc.CodeCheckViolation
}

// errRow is wrapped by an error that is about the values of a row, whatever its code says.
var errRow = errors.New("the query fails for a row")

// rowAttempts is how often an expression is tried whose error may pass.
const rowAttempts = 3

// ofRow judges an attempt to evaluate an expression for n changes: whether its error is
// about the values of one. What may pass is tried again first, also where a routine has
// raised it; a server that lacks memory or space, or goes down, is waited for.
func ofRow(err error, n, attempts int) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || len(pg.Code) != 5 || pg.SeverityUnlocalized == "FATAL" || pg.Code[:2] == "53" && pg.Code != "53400" {
		return false
	}
	switch cdc.FaultOf(err) {
	case cdc.FaultTimeout:
		return attempts >= rowAttempts && (n == 1 || inRoutine(err))
	case cdc.FaultTransient, cdc.FaultUnreachable:
		return attempts >= rowAttempts && inRoutine(err)
	}
	if inRoutine(err) {
		return true
	}
	return attempts >= rowAttempts && (pg.Code[:3] == "250" || pg.Code == "55000" || pg.Code == "XX000")
}

// refusesValue: the server refuses a value of a row. The message may quote it. What a
// function does not support, limits of the server and what a routine raises depend on
// values as well, once a query has been prepared: a NaN has no integer (0A000).
func refusesValue(err error) bool {
	if cdc.FaultOf(err) == cdc.FaultValue {
		return true
	}
	code := cdc.SQLState(err)
	return len(code) == 5 && slices.Contains([]string{"0A", "20", "2F", "38", "39", "54"}, code[:2])
}

// isRefused: the query fails for the values of a row.
func isRefused(err error) bool {
	return refusesValue(err) || inBody(err) || errors.Is(err, errRow)
}

// schemaError is the error of a lookup that no longer fits.
func (l *boundLookup) schemaError(err error) *SchemaError {
	what, hint := "no longer fits the database", "check the rule and load it again (a restart)"
	if isDenied(err) {
		what, hint = "lacks a privilege", deniedHint(err)
	}
	if !errors.Is(err, errResult) {
		err = withoutData(err)
	}
	return &SchemaError{Rule: l.place, Event: l.path(), What: fmt.Sprintf("%s %s: %v", l.title(), what, err), Hint: hint}
}

// lookupCache holds the rows of a lookup with cache.
type lookupCache struct {
	rows  map[string]cachedRow
	bytes int
}

type cachedRow struct {
	row     foundRow
	expires time.Time
}

// maxCacheBytes bounds one lookup's cache; a full one is emptied.
const maxCacheBytes = 16 << 20

// fromCache fills in the cached rows among some sets of arguments, and returns the others.
func (m *Mapper) fromCache(q *query, sets []int32) []int32 {
	missing := make([]int32, 0, len(sets))
	cache := m.caches[q.lookup.id]
	now := m.now()
	for _, set := range sets {
		if cache != nil && q.lookup.cache > 0 {
			if c, ok := cache.rows[m.cacheKey(q, set)]; ok && now.Before(c.expires) {
				q.rows[set] = c.row
				continue
			}
		}
		missing = append(missing, set)
	}
	return missing
}

func (m *Mapper) cacheKey(q *query, set int32) string {
	width := len(q.lookup.arguments())
	return string(appendKey(nil, q.arguments[int(set)*width:int(set+1)*width]))
}

// toCache keeps rows if the lookup has a cache.
func (m *Mapper) toCache(q *query, sets []int32) {
	if q.lookup.cache == 0 {
		return
	}
	cache := m.caches[q.lookup.id]
	if cache == nil || cache.bytes > maxCacheBytes {
		cache = &lookupCache{rows: map[string]cachedRow{}}
		m.caches[q.lookup.id] = cache
	}
	expires := m.now().Add(q.lookup.cache)
	for _, set := range sets {
		key, row := m.cacheKey(q, set), q.rows[set]
		kept := foundRow{reason: row.reason, done: row.done, row: make([]cdc.Datum, len(row.row))}
		cache.bytes += len(key) + 64
		for i, d := range row.row {
			d.Text = bytes.Clone(d.Text)
			kept.row[i] = d
			cache.bytes += len(d.Text) + 32
		}
		cache.rows[key] = cachedRow{kept, expires}
	}
}
