package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"gancho/delivery/webhook"
	"gancho/internal/jsontext"
)

// A record of the log begins with a line of numbers: those of logNumbers, then the lengths of its texts, which follow
// without anything between them. Lengths that are left out at the end are 0. One that begins with a brace is of an older version: a line of JSON.

// The numbers of a record.
const (
	numberAt        = iota // in microseconds
	numberCommitted        // in microseconds
	numberAttempt
	numberStatus
	numberTook // in nanoseconds
	numberFlags
	numberLate
	logNumbers
)

// The flags of a record.
const (
	flagReplay = 1 << iota
	flagKept   // the event is there
)

// The texts of a record. Those behind textTags are of the event, if it is kept.
const (
	textEntry   = iota
	textWebhook // of an entry of the side stream
	textType
	textTenant
	textKey
	textOutcome
	textClass
	textError
	textVersion
	textOp
	textDetail
	textTags
	textData
	textPrevious
	textUnchanged
	textErrors
	textChange
	logTexts
	logNames = textDetail // before it are names, from it on bytes
)

// attemptLog is the records that go into the log with the next acknowledgement.
type attemptLog struct {
	records int
	lines   []byte
}

func (l *attemptLog) reset() {
	const keep = 64 << 10
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
	var entry [48]byte
	numbers := [logNumbers]int64{
		numberAt: now.UnixMicro(), numberCommitted: m.Time.UnixMicro(), numberAttempt: int64(number), numberStatus: int64(o.Status), numberTook: int64(o.Duration),
	}
	names := [logNames]string{
		textEntry: string(id.append(entry[:0])), textType: m.Type, textTenant: m.Tenant, textKey: m.Key, textOutcome: outcome, textClass: o.Class,
	}
	bodies := [logTexts - logNames][]byte{textDetail - logNames: o.Detail}
	if id.FromSide() {
		names[textWebhook] = m.ID
	}
	if o.Err != nil {
		names[textError] = strings.ToValidUTF8(o.Err.Error(), "\uFFFD") // it may quote what a receiver has sent
	}
	if m.Replay {
		numbers[numberFlags] |= flagReplay
	}
	if len(m.Tags) > 0 {
		bodies[textTags-logNames] = jsontext.AppendStrings(nil, m.Tags)
	}
	if keep && (!id.FromSide() || m.OfTime() && !m.Replay) {
		numbers[numberFlags] |= flagKept
		numbers[numberLate] = m.Late
		names[textVersion], names[textOp] = m.Version, m.Op
		for i, body := range [...][]byte{m.Data, m.Previous, m.Unchanged, m.Errors, m.Change} {
			bodies[textData-logNames+i] = body
		}
	}
	r.log.lines = appendRecord(r.log.lines, &numbers, &names, &bodies)
	r.log.records++
}

func appendRecord(b []byte, numbers *[logNumbers]int64, names *[logNames]string, bodies *[logTexts - logNames][]byte) []byte {
	for _, n := range numbers {
		b = append(strconv.AppendInt(b, n, 10), ' ')
	}
	last := len(bodies)
	for last > 0 && len(bodies[last-1]) == 0 {
		last--
	}
	for _, name := range names {
		b = append(strconv.AppendInt(b, int64(len(name)), 10), ' ')
	}
	for _, body := range bodies[:last] {
		b = append(strconv.AppendInt(b, int64(len(body)), 10), ' ')
	}
	b[len(b)-1] = '\n'
	for _, name := range names {
		b = append(b, name...)
	}
	for _, body := range bodies[:last] {
		b = append(b, body...)
	}
	return b
}

// loggedAttempt is a record as it is in Redis: what its entry's id says is left out.
type loggedAttempt struct {
	LogRecord
	id      ID
	message webhook.Message // with its body if it is kept
	kept    bool
}

// nextAttempt returns the first of some records, and the others.
func nextAttempt(records string) (l loggedAttempt, rest string, err error) {
	if strings.HasPrefix(records, "{") {
		line, rest, _ := strings.Cut(records, "\n")
		l, err = parseLogLine(line)
		return l, rest, err
	}
	head, rest, ok := strings.Cut(records, "\n")
	if !ok {
		return l, "", errEntry
	}
	var numbers [logNumbers]int64
	for i := range numbers {
		if numbers[i], head, ok = cutNumber(head); !ok {
			return l, "", errEntry
		}
	}
	var texts [logTexts]string
	for i := 0; head != "" && i < logTexts; i++ {
		var n int64
		if n, head, ok = cutNumber(head); !ok || n < 0 || n > int64(len(rest)) {
			return l, "", errEntry
		}
		texts[i], rest = rest[:n], rest[n:]
	}
	l.message = webhook.Message{
		ID: texts[textWebhook], Type: texts[textType], Tenant: texts[textTenant], Key: texts[textKey], Time: time.UnixMicro(numbers[numberCommitted]).UTC(),
	}
	if texts[textTags] != "" {
		if err := json.Unmarshal([]byte(texts[textTags]), &l.message.Tags); err != nil {
			return l, "", err
		}
	}
	l.LogRecord = LogRecord{
		Time: time.UnixMicro(numbers[numberAt]).UTC(), Entry: texts[textEntry], Number: int(numbers[numberAttempt]), Outcome: texts[textOutcome],
		Class: texts[textClass], Status: int(numbers[numberStatus]), Error: texts[textError], Duration: webhook.Milliseconds(numbers[numberTook]),
		Replay: numbers[numberFlags]&flagReplay != 0,
	}
	if texts[textDetail] != "" {
		l.Detail = []byte(texts[textDetail])
	}
	if l.kept = numbers[numberFlags]&flagKept != 0; l.kept {
		m := &l.message
		m.Version, m.Op, m.Late, m.Data = texts[textVersion], texts[textOp], numbers[numberLate], []byte(texts[textData])
		for i, to := range [...]*[]byte{&m.Previous, &m.Unchanged, &m.Errors, &m.Change} {
			if text := texts[textPrevious+i]; text != "" {
				*to = []byte(text)
			}
		}
	}
	l.id, err = ParseID(l.Entry)
	return l, rest, err
}

// cutNumber cuts the number that a line begins with off it.
func cutNumber(line string) (n int64, rest string, ok bool) {
	text, rest, _ := strings.Cut(line, " ")
	n, err := strconv.ParseInt(text, 10, 64)
	return n, rest, err == nil
}

// identifyAttempt completes a record by what follows from its entry's id.
func (q *Queue) identifyAttempt(ctx context.Context, endpoint string, l *loggedAttempt) error {
	m := &l.message
	if err := q.identify(ctx, l.id, m); err != nil {
		return err
	}
	l.Endpoint, l.WebhookID, l.Event, l.Tenant, l.Key, l.Committed, l.Tags = endpoint, m.ID, m.Type, m.Tenant, m.Key, m.Time, m.Tags
	if l.kept {
		kept := *m
		l.Kept = &kept
	}
	return nil
}

// logLine is a record as older versions wrote it.
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

func parseLogLine(line string) (a loggedAttempt, err error) {
	var l logLine
	if err := json.Unmarshal([]byte(line), &l); err != nil {
		return a, fmt.Errorf("parse record: %w", err)
	}
	m := webhook.Message{ID: l.Webhook, Type: l.Type, Tenant: l.Tenant, Key: l.Key, Tags: l.Tags, Time: time.UnixMicro(l.Committed).UTC()}
	r := LogRecord{
		Time: time.UnixMicro(l.At).UTC(), Entry: l.Entry, Number: l.Number, Outcome: l.Outcome, Class: l.Class, Status: l.Status, Error: l.Error,
		Duration: webhook.Milliseconds(l.Took), Replay: l.Replay, Detail: l.Detail,
	}
	if l.Version != nil {
		exact := func(text *string, encoded []byte) []byte {
			if text != nil {
				return []byte(*text)
			}
			return encoded
		}
		m.Version = *l.Version
		m.Data, m.Previous, m.Unchanged = exact(l.Data, l.Data64), exact(l.Previous, l.Previous64), exact(l.Unchanged, l.Unchanged64)
		m.Errors, m.Change, m.Op, m.Late = exact(l.Errors, l.Errors64), exact(l.Change, l.Change64), l.Op, l.Late
	}
	a = loggedAttempt{LogRecord: r, message: m, kept: l.Version != nil}
	a.id, err = ParseID(l.Entry)
	return a, err
}
