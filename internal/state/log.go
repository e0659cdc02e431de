package state

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/delivery/webhook"
	"gancho/internal/jsontext"
)

const attemptColumns = `time, endpoint, entry, number, webhook_id, event, tenant, key, committed, outcome, class, status, error, micros, replay, tags`

// WriteAttempts writes rows of the log. Rows that exist stay as they are, so
// writing twice is harmless.
//
// Only after a crash, or a commit whose answer was lost, are there any. COPY straight into the
// partition spares PostgreSQL a quarter of the work: the temporary table, and ON CONFLICT's
// second record of WAL for each row.
func (s *Store) WriteAttempts(ctx context.Context, rows []Attempt) error {
	err := s.copyAttempts(ctx, rows, allNew)
	if isTaken(err) {
		return s.copyAttempts(ctx, rows, "do nothing")
	}
	return err
}

func (s *Store) copyAttempts(ctx context.Context, rows []Attempt, conflict string) error {
	if len(rows) == 0 {
		return nil
	}
	days := make([]time.Time, len(rows))
	for i := range rows {
		days[i] = rows[i].Time
	}
	return s.copyDays(ctx, attemptsTable, attemptColumns+", detail", conflict, days, copyData(s.attemptRows(rows)))
}

// attemptRows are the rows in the order of attemptColumns, the detail behind them, as COPY takes them.
func (s *Store) attemptRows(rows []Attempt) []byte {
	const typical = 400
	d := make(copyRows, 0, len(rows)*typical)
	d = append(d, copySignature...)
	for i := range rows {
		a, enc := &rows[i], s.text.encode
		d.row(attemptFields)
		d.time(a.Time)
		d.text(enc(a.Endpoint))
		d.text(enc(a.Entry))
		d.int4(a.Number)
		for _, text := range [...]string{a.WebhookID, a.Event, a.Tenant, a.Key} {
			d.text(enc(text))
		}
		d.time(a.Committed)
		d.text(enc(a.Outcome))
		d.text(enc(a.Class))
		d.int4(a.Status)
		d.text(enc(a.Error))
		d.int8(time.Duration(a.Duration).Microseconds())
		d.bool(a.Replay)
		d.texts(s.tags(a.Tags))
		d.bytes(a.Detail)
	}
	return d.end()
}

// attemptFields is how many columns attemptRows writes.
const attemptFields = 17

// ErrCursor reports a cursor that is not one that Attempts has returned.
var ErrCursor = errors.New("this is not a cursor of the delivery log; start again without one")

// attemptCursor is the row that a page ended with.
type attemptCursor struct {
	Time            time.Time `json:"t"`
	Endpoint, Entry string
	Number          int
}

func (c attemptCursor) String() string {
	text, _ := json.Marshal(c) // of texts and numbers, and a time that JSON expresses
	return base64.RawURLEncoding.EncodeToString(text)
}

// AttemptID names an attempt of the log.
func AttemptID(a *Attempt) string {
	return attemptCursor{a.Time, a.Endpoint, a.Entry, a.Number}.String()
}

func parseAttemptCursor(text string) (c attemptCursor, err error) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(raw, &c)
	}
	if err != nil {
		return c, ErrCursor
	}
	return c, nil
}

// Attempts returns up to n rows of the log, the newest first, from a cursor on
// ("": from the newest), and the cursor of those that follow ("": none does).
// From and To of the filter are the attempts' own times. ErrCursor.
func (s *Store) Attempts(ctx context.Context, f Filter, cursor string, n int) (page []Attempt, next string, err error) {
	var after attemptCursor
	if cursor != "" {
		if after, err = parseAttemptCursor(cursor); err != nil {
			return nil, "", err
		}
	}
	if len(f.Events) > 0 {
		if f.Events, err = s.eventNames(ctx, attemptsTable, &f); err != nil || len(f.Events) == 0 {
			return nil, "", err
		}
	}
	for _, part := range f.parts(time.Now(), after.Time) {
		sql, args, err := s.attemptsQuery(ctx, part, after, n+1-len(page))
		if err != nil {
			return nil, "", err
		}
		found, err := collectMany(ctx, s, "read the delivery log", sql, args, scanAttempt)
		if err != nil {
			return nil, "", err
		}
		if page = append(page, found...); len(page) > n {
			page = page[:n]
			return page, AttemptID(&page[n-1]), nil
		}
	}
	return page, "", nil
}

// parts split a filter of attempts by their time, the newest first: the last hour, the rest of that day, some days, all before. The
// first are often enough, and whatever plan the server makes for them is cheap: it does not know how often the values of two conditions
// come together, and may sort all the rows of a month for fifty. What chooses few rows is not split. Rows are those up to until; zero: now.
func (f *Filter) parts(now, until time.Time) []Filter {
	if len(f.Webhooks) > 0 || f.Key != "" {
		return []Filter{*f}
	}
	newest := now
	for _, t := range []time.Time{until, f.To} {
		if !t.IsZero() && t.Before(newest) {
			newest = t
		}
	}
	day := newest.UTC().Truncate(24 * time.Hour) // as partitions are
	starts := []time.Time{newest.Add(-time.Hour), day, day.AddDate(0, 0, -1), day.AddDate(0, 0, -5)}
	if len(f.Tags) > 0 { // an hour would be read along the time, for a tag that one row has
		starts = starts[1:]
	}
	var parts []Filter
	rest := *f
	for _, from := range starts {
		if !rest.To.IsZero() && !from.Before(rest.To) {
			continue // the hour is over midnight
		}
		if !f.From.IsZero() && !from.After(f.From) {
			break
		}
		part := rest
		part.From, rest.To = from, from
		parts = append(parts, part)
	}
	return append(parts, rest)
}

// attemptsQuery reads n attempts behind a cursor, whose time is zero when there is none. The filter's events are names as they are stored.
func (s *Store) attemptsQuery(ctx context.Context, f Filter, after attemptCursor, n int) (sql string, args []any, err error) {
	names := f.Events
	f.Events = nil
	w, err := s.where(ctx, &f, attemptsTable)
	if err != nil {
		return "", nil, err
	}
	if !after.Time.IsZero() {
		// The first condition is implied; it spares the partitions of later days.
		w.add("time <= %s", after.Time)
		w.add("(time, endpoint, entry, number) < (%s, %s, %s, %s)", after.Time, s.text.encode(after.Endpoint), s.text.encode(after.Entry), int32(after.Number))
	}
	most := w.param(n)
	order := ` order by time desc, endpoint desc, entry desc, number desc limit ` + most
	// The indexes of endpoint and event end with the time. Of a longer order PostgreSQL, which has no statistics of all partitions together, believes
	// that hundreds of attempts share one, and may rather read all of them by the primary key. Those that share the last one come with it.
	newest := ` order by time desc fetch first (` + most + `) rows with ties`
	few := f.Key != "" || len(f.Tags)+len(f.Webhooks) > 0 || f.Outcome != "" && f.Outcome != webhook.Delivered.String()
	if len(names) > 1 && !few {
		// An index has the rows of one event by time; of several, each has its own newest ones.
		wanted := w.param(names)
		w.conditions = append(w.conditions, "event = wanted.name")
		return `select ` + attemptColumns + ` from unnest(` + wanted + `::text[]) wanted (name)
			cross join lateral (select * from gancho.attempts` + w.sql() + newest + `) found` + order, w.args, nil
	}
	switch len(names) {
	case 0:
	case 1:
		w.add("event = %s", names[0])
	default:
		w.add("event = any(%s::text[])", names)
	}
	from := `gancho.attempts` + w.sql()
	if !few && (f.Endpoint != "" || len(names) > 0) { // few are sorted, which ends early without ties
		from = `(select * from ` + from + newest + `) found`
	}
	return `select ` + attemptColumns + ` from ` + from + order, w.args, nil
}

// Attempt reads one of the log with its detail, by its AttemptID. ErrNotFound: it does not
// exist, or is not the tenant's ("": any).
func (s *Store) Attempt(ctx context.Context, id, tenant string) (Attempt, error) {
	c, err := parseAttemptCursor(id)
	if err != nil {
		return Attempt{}, fmt.Errorf("read an attempt: %w", ErrNotFound)
	}
	w := &where{text: s.text}
	w.add("time = %s and endpoint = %s and entry = %s and number = %s", c.Time, s.text.encode(c.Endpoint), s.text.encode(c.Entry), int32(c.Number))
	w.equal("tenant", orNil(tenant))
	return collectOne(ctx, s, "read an attempt", `select detail, `+attemptColumns+` from gancho.attempts`+w.sql(), w.args, func(row pgx.CollectableRow) (Attempt, error) {
		var detail []byte
		a, err := scanAttempt(leadingColumns{row, []any{&detail}})
		a.Detail = detail
		return a, err
	})
}

func scanAttempt(row pgx.CollectableRow) (Attempt, error) {
	var a Attempt
	var micros int64
	err := row.Scan(&a.Time, &a.Endpoint, &a.Entry, &a.Number, &a.WebhookID, &a.Event, &a.Tenant, &a.Key, &a.Committed,
		&a.Outcome, &a.Class, &a.Status, &a.Error, &micros, &a.Replay, &a.Tags)
	a.Duration = webhook.Milliseconds(time.Duration(micros) * time.Microsecond)
	a.Time, a.Committed = a.Time.UTC(), a.Committed.UTC()
	decodeIn(&a.Endpoint, &a.Entry, &a.WebhookID, &a.Event, &a.Tenant, &a.Key, &a.Outcome, &a.Class, &a.Error)
	a.Tags = decodeAll(a.Tags)
	return a, err
}

// Recent is what was sent to an endpoint lately.
type Recent struct {
	// Delivered and Failed are attempts.
	Delivered int64 `json:"delivered"`
	Failed    int64 `json:"failed"`
	// The newest attempt: when, its outcome and class, and the HTTP status, 0 when no
	// answer came.
	Last    time.Time `json:"last"`
	Outcome string    `json:"outcome"`
	Class   string    `json:"class"`
	Status  int       `json:"status,omitempty"`
}

// Recent returns what was sent since a time, by endpoint: of one tenant's events, "": of all; and of some sources' where there are several, nil: of all.
func (s *Store) Recent(ctx context.Context, since time.Time, tenant string, sources []string) (map[string]Recent, error) {
	type row struct {
		Endpoint string
		Recent
	}
	w := &where{text: s.text}
	w.add("time > %s and outcome <> 'superseded'", since)
	w.given("tenant = %s", tenant)
	w.sources(sources)
	rows, err := collectMany(ctx, s, "read the newest attempts", `
		select endpoint, count(*) filter (where outcome = 'delivered'), count(*) filter (where outcome <> 'delivered'), max(time),
			(array_agg(outcome order by time desc))[1], (array_agg(class order by time desc))[1], (array_agg(status order by time desc))[1]
		from gancho.attempts`+w.sql()+` group by endpoint`, w.args, func(r pgx.CollectableRow) (row, error) {
		var v row
		err := r.Scan(&v.Endpoint, &v.Delivered, &v.Failed, &v.Last, &v.Outcome, &v.Class, &v.Status)
		v.Last = v.Last.UTC()
		decodeIn(&v.Endpoint, &v.Outcome, &v.Class)
		return v, err
	})
	out := make(map[string]Recent, len(rows))
	for _, r := range rows {
		out[r.Endpoint] = r.Recent
	}
	return out, err
}

// LastSent is when events of a tenant were sent to endpoints of a name last, as far as
// attempts and dead letters are kept; zero: never.
func (s *Store) LastSent(ctx context.Context, endpoint, tenant string) (time.Time, error) {
	w := &where{text: s.text}
	w.given("endpoint = %s", endpoint)
	w.equal("tenant", &tenant)
	sql := fmt.Sprintf(`select greatest((select max(time) from gancho.attempts%[1]s), (select max(last) from gancho.dead_letters%[1]s))`, w.sql())
	last, err := collectMany(ctx, s, "read when an endpoint was sent to", sql, w.args, pgx.RowTo[*time.Time])
	if err != nil {
		return time.Time{}, err
	}
	return utc(last[0]), nil
}

// LastAttempt is the newest attempt at an endpoint.
type LastAttempt struct {
	Time    time.Time `json:"time"`
	Outcome string    `json:"outcome"`
	// Status is that of the answer; 0: there was none.
	Status int `json:"status,omitempty"`
}

// LastAttempts returns the newest attempt of each of the endpoints that has one, by name.
func (s *Store) LastAttempts(ctx context.Context, endpoints []string) (map[string]LastAttempt, error) {
	type row struct {
		name string
		LastAttempt
	}
	rows, err := collect(ctx, s, "read the last attempts", `select n, a.time, a.outcome, a.status from unnest($1::text[]) n
		cross join lateral (select time, outcome, status from gancho.attempts where endpoint = n and outcome <> 'superseded' order by time desc limit 1) a`,
		[]any{s.text.encodeAll(endpoints)}, func(r pgx.CollectableRow) (l row, err error) {
			err = r.Scan(&l.name, &l.Time, &l.Outcome, &l.Status)
			l.Time = l.Time.UTC()
			return l, err
		})
	out := make(map[string]LastAttempt, len(rows))
	for _, r := range rows {
		out[decode(r.name)] = r.LastAttempt
	}
	return out, err
}

const eventColumns = `committed, webhook_id, event, tenant, key, sequence, version, data, previous, unchanged, tags`

// WriteEvents keeps events for resends. Those that are there already stay as
// they are, so writing twice is harmless.
func (s *Store) WriteEvents(ctx context.Context, events []webhook.Message) error {
	days := make([]time.Time, len(events))
	for i := range events {
		days[i] = events[i].Time
	}
	return s.copyIn(ctx, eventsTable, writtenColumns, "do nothing", days, len(events), s.eventRow(events))
}

const writtenColumns = eventColumns + ", change"

// eventRow returns the rows of events.
func (s *Store) eventRow(events []webhook.Message) func(int) []any {
	return func(i int) []any {
		e, enc := &events[i], s.text.encode
		return []any{
			e.Time, enc(e.ID), enc(e.Type), enc(e.Tenant), enc(e.Key), enc(e.Sequence), enc(e.Version), body(e.Data), e.Previous, notes(e), s.tags(e.Tags), e.Change,
		}
	}
}

// body is never null: an event without data has none in the queue either.
func body(data []byte) []byte {
	if data == nil {
		return []byte{}
	}
	return data
}

// notes is what the column unchanged holds: what an envelope says of the data. Of an
// event without op and errors, as those of former versions are, it is unchanged alone.
func notes(m *webhook.Message) []byte {
	if m.Op == "" && len(m.Errors) == 0 {
		return m.Unchanged
	}
	dst := jsontext.AppendString([]byte(`{"op":`), m.Op)
	if m.Late != 0 {
		dst = strconv.AppendInt(append(dst, `,"late":`...), m.Late, 10)
	}
	if len(m.Unchanged) > 0 {
		dst = append(append(dst, `,"unchanged":`...), m.Unchanged...)
	}
	if len(m.Errors) > 0 {
		dst = append(append(dst, `,"errors":`...), m.Errors...)
	}
	return append(dst, '}')
}

// readNotes reads what notes wrote.
func readNotes(m *webhook.Message, stored []byte) error {
	if !bytes.HasPrefix(stored, []byte("{")) {
		m.Unchanged = stored
		return nil
	}
	var n struct {
		Op        string          `json:"op"`
		Late      int64           `json:"late"`
		Unchanged json.RawMessage `json:"unchanged"`
		Errors    json.RawMessage `json:"errors"`
	}
	if err := json.Unmarshal(stored, &n); err != nil {
		return fmt.Errorf("read column unchanged of event %s: %w", m.ID, err)
	}
	m.Op, m.Late, m.Unchanged, m.Errors = n.Op, n.Late, n.Unchanged, n.Errors
	return nil
}

// CountEvents counts the kept events that a filter chooses.
func (s *Store) CountEvents(ctx context.Context, f Filter) (int64, error) {
	return s.countRows(ctx, eventsTable, &f)
}

func (s *Store) countRows(ctx context.Context, table string, f *Filter) (int64, error) {
	w, err := s.where(ctx, f, table)
	if err != nil {
		return 0, err
	}
	return s.count(ctx, "count "+table, `select count(*) from `+table+w.sql(), w.args)
}

// scanEvent reads a row of eventColumns; the message is a replay.
func scanEvent(row pgx.CollectableRow) (webhook.Message, error) {
	var e webhook.Message
	var kept []byte
	err := row.Scan(&e.Time, &e.ID, &e.Type, &e.Tenant, &e.Key, &e.Sequence, &e.Version, &e.Data, &e.Previous, &kept, &e.Tags)
	if err == nil {
		err = readNotes(&e, kept)
	}
	e.Time, e.Replay = e.Time.UTC(), true
	decodeIn(&e.ID, &e.Type, &e.Tenant, &e.Key, &e.Sequence, &e.Version)
	e.Tags = decodeAll(e.Tags)
	return e, err
}
