package queue

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"gancho/delivery/webhook"
	"gancho/internal/jsontext"

	"github.com/redis/go-redis/v9"
)

// OutcomeDead is LogRecord.Outcome of the attempt after which an event became a
// dead letter. The other outcomes are what OutcomeKind.String returns.
const OutcomeDead = "dead"

// OutcomeSuperseded is LogRecord.Outcome of an event that was not sent, because a newer one of its key and name
// was there: no attempt, but the event's end. Its Number is that of the attempts before, from 0.
const OutcomeSuperseded = "superseded"

// The bounds of an endpoint's log in Redis, beyond which its oldest entries
// are lost. A log that is stored and trimmed every second stays far below them.
const (
	logRecords = 200_000
	logBytes   = 64 << 20
)

// LogRecord is one attempt: who was sent what, when, with which answer.
type LogRecord struct {
	// ID names it once it is stored; empty before.
	ID       string    `json:"id,omitempty"`
	Time     time.Time `json:"time"` // when it ended
	Endpoint string    `json:"endpoint"`
	// Entry, the event's place in its stream, identifies it with Endpoint, Time and Number.
	Entry     string               `json:"-"`
	WebhookID string               `json:"webhook_id"`
	Event     string               `json:"event"`
	Tenant    string               `json:"tenant,omitempty"`
	Key       string               `json:"key,omitempty"`
	Committed time.Time            `json:"committed"`
	Number    int                  `json:"attempt"` // from 1; a probe of a dead endpoint does not count up
	Outcome   string               `json:"outcome"` // delivered, retry, gone, refused; OutcomeDead, OutcomeSuperseded
	Class     string               `json:"class"`
	Status    int                  `json:"status,omitempty"` // 0: none came
	Error     string               `json:"error,omitempty"`  // empty when delivered
	Duration  webhook.Milliseconds `json:"duration_ms"`
	Replay    bool                 `json:"replay,omitempty"`
	Tags      []string             `json:"tags,omitempty"` // each name=value
	// Detail is a webhook.Detail as JSON, nil if none was kept. A list's is with its first event.
	Detail []byte `json:"-"`
	// Kept is the event, if dispatch.Options.KeepEvents is set and this was its last
	// attempt. It is nil for the side stream's, and in records that were stored.
	Kept *webhook.Message `json:"-"`
}

// LogEntry is what one acknowledgement has put into the log.
type LogEntry struct {
	ID      string // for TrimLog; ids rise with time
	Records []LogRecord
}

// Log returns up to n entries of the endpoint's log of attempts, the oldest
// first. There are some only if dispatchers record attempts.
func (q *Queue) Log(ctx context.Context, endpoint string, n int64) ([]LogEntry, error) {
	page, err := q.page(ctx, q.keys.log(endpoint), "-", n)
	if err != nil {
		return nil, fmt.Errorf("read the log of endpoint %q: %w", endpoint, err)
	}
	out := make([]LogEntry, len(page))
	for i, e := range page {
		text, _ := e.Values["b"].(string)
		out[i].ID = e.ID
		for line := range strings.Lines(text) {
			r, err := q.parseRecord(ctx, endpoint, line)
			if err != nil {
				return nil, fmt.Errorf("read the log of endpoint %q: entry %s: %w", endpoint, e.ID, err)
			}
			out[i].Records = append(out[i].Records, r)
		}
	}
	return out, nil
}

// trimLogScript deletes entries, and subtracts them from the log's size.
var trimLogScript = redis.NewScript(`
local records, bytes = 0, 0
for i = 1, #ARGV do
  local found = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])
  if #found > 0 then
    records, bytes = records + tonumber(found[1][2][2]), bytes + #found[1][2][4]
    redis.call('XDEL', KEYS[1], ARGV[i])
  end
end
if records > 0 then
  redis.call('HINCRBY', KEYS[2], 'log_records', -records)
  redis.call('HINCRBY', KEYS[2], 'log_bytes', -bytes)
end
return records`)

// TrimLog removes entries that have been stored elsewhere. Removing one again is harmless.
func (q *Queue) TrimLog(ctx context.Context, endpoint string, ids ...string) error {
	if len(ids) == 0 {
		return nil
	}
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = id
	}
	err := trimLogScript.Run(ctx, q.client, []string{q.keys.log(endpoint), q.keys.state(endpoint)}, args...).Err()
	return annotate(err, "trim the log of endpoint %q", endpoint)
}

// attemptLog is the records that go into the log with the next acknowledgement.
type attemptLog struct {
	records int
	lines   []byte
}

func (l *attemptLog) reset() {
	const keep = 1 << 20
	if cap(l.lines) > keep {
		l.lines = nil
	}
	l.records, l.lines = 0, l.lines[:0]
}

// Record adds an attempt, which ended now, to the endpoint's log. dead: the event
// becomes a dead letter; keep: with the event, if the attempt was its last.
//
// It is written by hand, without what follows from the rest, because the courier's lock
// is held meanwhile, and because it goes through Redis and its append-only file.
func (r *Results) Record(id ID, m *webhook.Message, o *webhook.Outcome, number int, dead, keep bool, now time.Time) {
	outcome := o.Kind.String()
	if dead {
		outcome = OutcomeDead
	}
	r.record(id, m, o, number, outcome, keep && (dead || o.Kind == webhook.Delivered), now)
}

// RecordSuperseded adds the end of an event that was not sent, or not again after a number of attempts; keep: with the event.
func (r *Results) RecordSuperseded(id ID, m *webhook.Message, number int, keep bool, now time.Time) {
	r.record(id, m, &webhook.Outcome{}, number, OutcomeSuperseded, keep, now)
}

func (r *Results) record(id ID, m *webhook.Message, o *webhook.Outcome, number int, outcome string, keep bool, now time.Time) {
	b := strconv.AppendInt(append(r.log.lines, `{"at":`...), now.UnixMicro(), 10)
	b = append(id.append(append(b, `,"e":"`...)), '"')
	if id.FromSide() {
		b = jsontext.AppendString(append(b, `,"w":`...), m.ID)
	}
	b = jsontext.AppendString(append(b, `,"t":`...), m.Type)
	b = appendText(b, `,"n":`, m.Tenant)
	b = appendText(b, `,"k":`, m.Key)
	b = strconv.AppendInt(append(b, `,"c":`...), m.Time.UnixMicro(), 10)
	b = appendNumber(b, `,"i":`, int64(number))
	b = appendNumber(b, `,"s":`, int64(o.Status))
	b = appendNumber(b, `,"took":`, int64(o.Duration))
	b = appendText(b, `,"o":`, outcome)
	b = appendText(b, `,"class":`, o.Class)
	if o.Err != nil {
		b = appendText(b, `,"error":`, o.Err.Error())
	}
	if m.Replay {
		b = append(b, `,"r":true`...)
	}
	if len(m.Tags) > 0 {
		b = jsontext.AppendStrings(append(b, `,"g":`...), m.Tags)
	}
	if o.Detail != nil {
		b = append(append(b, `,"x":`...), o.Detail...)
	}
	if keep && (!id.FromSide() || m.OfTime() && !m.Replay) {
		b = jsontext.AppendString(append(b, `,"v":`...), m.Version)
		b = appendExact(b, "data", m.Data)
		b = appendExact(b, "previous", m.Previous)
		b = appendExact(b, "unchanged", m.Unchanged)
		b = appendExact(b, "errors", m.Errors)
		b = appendExact(b, "change", m.Change)
		b = appendText(b, `,"op":`, m.Op)
		if m.Late != 0 {
			b = strconv.AppendInt(append(b, `,"late":`...), m.Late, 10)
		}
	}
	b = append(b, '}', '\n')
	r.log.lines = b
	r.log.records++
}

func appendText(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	return jsontext.AppendString(append(dst, name...), value)
}

func appendNumber(dst []byte, name string, value int64) []byte {
	if value == 0 {
		return dst
	}
	return strconv.AppendInt(append(dst, name...), value, 10)
}

// appendExact appends a field with exactly these bytes: text, or base64 if they are not UTF-8.
func appendExact(dst []byte, name string, value []byte) []byte {
	if value == nil {
		return dst
	}
	dst = append(append(dst, `,"`...), name...)
	if utf8.Valid(value) {
		return jsontext.AppendString(append(dst, `":`...), value)
	}
	dst = append(dst, `64":"`...)
	return append(base64.StdEncoding.AppendEncode(dst, value), '"')
}

// logLine is a record as Results.Record writes it.
type logLine struct {
	At        int64           `json:"at"`
	Entry     string          `json:"e"`
	Webhook   string          `json:"w"` // of an entry of the side stream
	Type      string          `json:"t"`
	Tenant    string          `json:"n"`
	Key       string          `json:"k"`
	Committed int64           `json:"c"`
	Number    int             `json:"i"`
	Status    int             `json:"s"`
	Took      time.Duration   `json:"took"`
	Outcome   string          `json:"o"`
	Class     string          `json:"class"`
	Error     string          `json:"error"`
	Replay    bool            `json:"r"`
	Detail    json.RawMessage `json:"x"`
	Tags      []string        `json:"g"`
	Version   *string         `json:"v"` // there is one when the event is there
	Data      *string         `json:"data"`
	Previous  *string         `json:"previous"`
	Unchanged *string         `json:"unchanged"`
	Errors    *string         `json:"errors"`
	Change    *string         `json:"change"`
	Op        string          `json:"op"`
	Late      int64           `json:"late"`
	// In place of the five, when they are not UTF-8.
	Data64      []byte `json:"data64"`
	Previous64  []byte `json:"previous64"`
	Unchanged64 []byte `json:"unchanged64"`
	Errors64    []byte `json:"errors64"`
	Change64    []byte `json:"change64"`
}

func (q *Queue) parseRecord(ctx context.Context, endpoint, line string) (LogRecord, error) {
	var l logLine
	if err := json.Unmarshal([]byte(line), &l); err != nil {
		return LogRecord{}, fmt.Errorf("parse record: %w", err)
	}
	id, err := ParseID(l.Entry)
	if err != nil {
		return LogRecord{}, err
	}
	m := webhook.Message{ID: l.Webhook, Type: l.Type, Tenant: l.Tenant, Key: l.Key, Tags: l.Tags, Time: time.UnixMicro(l.Committed).UTC()}
	if err := q.identify(ctx, id, &m); err != nil {
		return LogRecord{}, err
	}
	r := LogRecord{
		Time: time.UnixMicro(l.At).UTC(), Endpoint: endpoint, Entry: l.Entry, WebhookID: m.ID, Event: l.Type, Tenant: l.Tenant, Key: l.Key,
		Committed: m.Time, Number: l.Number, Outcome: l.Outcome, Class: l.Class, Status: l.Status, Error: l.Error,
		Duration: webhook.Milliseconds(l.Took), Replay: l.Replay, Detail: l.Detail, Tags: l.Tags,
	}
	if l.Version == nil {
		return r, nil
	}
	exact := func(text *string, encoded []byte) []byte {
		if text != nil {
			return []byte(*text)
		}
		return encoded
	}
	m.Version = *l.Version
	m.Data, m.Previous, m.Unchanged = exact(l.Data, l.Data64), exact(l.Previous, l.Previous64), exact(l.Unchanged, l.Unchanged64)
	m.Errors, m.Change, m.Op, m.Late = exact(l.Errors, l.Errors64), exact(l.Change, l.Change64), l.Op, l.Late
	r.Kept = &m
	return r, nil
}
