package queue

import (
	"context"
	"fmt"
	"time"

	"gancho/delivery/webhook"

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
		for text != "" {
			var l loggedAttempt
			if l, text, err = nextAttempt(text); err == nil {
				err = q.identifyAttempt(ctx, endpoint, &l)
			}
			if err != nil {
				return nil, fmt.Errorf("read the log of endpoint %q: entry %s: %w", endpoint, e.ID, err)
			}
			out[i].Records = append(out[i].Records, l.LogRecord)
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
