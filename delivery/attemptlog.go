package delivery

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"
)

// OutcomeDead is LogRecord.Outcome of the attempt after which an event was
// given up. The other outcomes are what OutcomeKind.String returns.
const OutcomeDead = "dead"

// The bounds of an endpoint's log in Redis, beyond which its oldest entries
// are lost. A log that is stored and trimmed every second stays far below.
const (
	logRecords = 200_000
	logBytes   = 64 << 20
)

// LogRecord is one attempt, as the log tells of it.
type LogRecord struct {
	Time      time.Time // when it ended
	Entry     string    // the event's place in its stream: with Time it makes the record unique in its endpoint
	WebhookID string
	Event     string
	Tenant    string
	Key       string
	Committed time.Time
	Number    int    // from 1; a probe of a dead endpoint does not count up
	Outcome   string // delivered, retry, gone, refused; OutcomeDead
	Class     string
	Status    int    // 0: none came
	Error     string // empty when delivered
	Duration  time.Duration
	Replay    bool
	// Kept is the event itself, if DispatcherOptions.KeepEvents is set and this
	// attempt was its last: delivered or dead. It is nil for what comes from the
	// side stream.
	Kept *Message
}

// LogEntry is what one acknowledgement has put into the log.
type LogEntry struct {
	ID      string // for TrimLog; ids rise with time
	Records []LogRecord
}

// Log returns up to n entries of the endpoint's log of attempts, the oldest
// first. There are some only if dispatchers write them (DispatcherOptions.Log).
func (q *Queue) Log(ctx context.Context, endpoint string, n int64) ([]LogEntry, error) {
	page, err := q.page(ctx, q.keys.log(endpoint), "", n)
	if err != nil {
		return nil, fmt.Errorf("read the log of endpoint %q: %w", endpoint, err)
	}
	out := make([]LogEntry, len(page))
	for i, e := range page {
		text, _ := e.Values["b"].(string)
		out[i].ID = e.ID
		for line := range strings.Lines(text) {
			r, err := parseRecord(line)
			if err != nil {
				return nil, fmt.Errorf("read the log of endpoint %q: entry %s: %w", endpoint, e.ID, err)
			}
			out[i].Records = append(out[i].Records, r)
		}
	}
	return out, nil
}

// trimLogScript deletes entries, and takes them off the log's measures.
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

// TrimLog removes entries of the endpoint's log that have been stored
// elsewhere. Removing one again is harmless.
func (q *Queue) TrimLog(ctx context.Context, endpoint string, ids ...string) error {
	if len(ids) == 0 {
		return nil
	}
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = id
	}
	err := trimLogScript.Run(ctx, q.client, []string{q.keys.log(endpoint), q.keys.state(endpoint)}, args...).Err()
	if err != nil {
		return fmt.Errorf("trim the log of endpoint %q: %w", endpoint, unreachable(err))
	}
	return nil
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

// add appends the record of an attempt. It is written by hand because the
// courier's lock is held meanwhile: a fifth of what encoding/json takes.
func (l *attemptLog) add(j *job, o *Outcome, number int, dead, keep bool, now time.Time) {
	m := j.msg
	b := append(l.lines, `{"at":`...)
	b = strconv.AppendInt(b, now.UnixMicro(), 10)
	b = append(b, `,"entry":"`...)
	b = append(j.id.append(b), `","id":`...)
	b = appendString(b, m.ID)
	b = appendString(append(b, `,"event":`...), m.Type)
	b = appendString(append(b, `,"tenant":`...), m.Tenant)
	b = appendString(append(b, `,"key":`...), m.Key)
	b = strconv.AppendInt(append(b, `,"committed":`...), m.Time.UnixMicro(), 10)
	b = strconv.AppendInt(append(b, `,"n":`...), int64(number), 10)
	outcome := o.Kind.String()
	if dead {
		outcome = OutcomeDead
	}
	b = append(append(b, `,"outcome":"`...), outcome...)
	b = append(append(b, `","class":"`...), o.Class...)
	b = strconv.AppendInt(append(b, `","status":`...), int64(o.Status), 10)
	b = strconv.AppendInt(append(b, `,"took":`...), int64(o.Duration), 10)
	if o.Err != nil {
		b = appendString(append(b, `,"error":`...), o.Err.Error())
	}
	if m.Replay {
		b = append(b, `,"replay":true`...)
	}
	if keep && !j.id.fromSide() && (dead || o.Kind == Delivered) {
		b = appendString(append(b, `,"version":`...), m.Version)
		b = appendExact(b, "data", m.Data)
		b = appendExact(b, "previous", m.Previous)
		b = appendExact(b, "unchanged", m.Unchanged)
	}
	l.lines = append(b, '}', '\n')
	l.records++
}

// appendExact appends a field that gives the value's bytes back: as text, or
// in base64 when they are not UTF-8.
func appendExact(dst []byte, name string, value []byte) []byte {
	if value == nil {
		return dst
	}
	dst = append(append(dst, `,"`...), name...)
	if utf8.Valid(value) {
		return appendString(append(dst, `":`...), string(value))
	}
	dst = append(dst, `64":"`...)
	return append(base64.StdEncoding.AppendEncode(dst, value), '"')
}

// logLine is a record as add writes it.
type logLine struct {
	At, Committed         int64
	Entry, ID, Event      string
	Tenant, Key           string
	N, Status             int
	Outcome, Class, Error string
	Took                  time.Duration
	Replay                bool
	Version               *string // present when the event is
	Data, Previous        *string
	Unchanged             *string
	Data64, Previous64    []byte
	Unchanged64           []byte
}

func parseRecord(line string) (LogRecord, error) {
	var l logLine
	if err := json.Unmarshal([]byte(line), &l); err != nil {
		return LogRecord{}, fmt.Errorf("parse record: %w", err)
	}
	r := LogRecord{
		Time: time.UnixMicro(l.At).UTC(), Entry: l.Entry, WebhookID: l.ID, Event: l.Event, Tenant: l.Tenant, Key: l.Key,
		Committed: time.UnixMicro(l.Committed).UTC(), Number: l.N, Outcome: l.Outcome, Class: l.Class, Status: l.Status,
		Error: l.Error, Duration: l.Took, Replay: l.Replay,
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
	r.Kept = &Message{
		ID: l.ID, Type: l.Event, Tenant: l.Tenant, Key: l.Key, Time: r.Committed, Sequence: sequenceOf(l.ID), Version: *l.Version,
		Data: exact(l.Data, l.Data64), Previous: exact(l.Previous, l.Previous64), Unchanged: exact(l.Unchanged, l.Unchanged64),
	}
	return r, nil
}
