package bridge

import (
	"context"
	"net/url"
	"strings"
	"time"

	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/retry"
)

const (
	// parkedEvery is how often it is seen that changes were parked, backlogEvery that events wait.
	parkedEvery  = 20 * time.Second
	backlogEvery = 5 * time.Minute
	// parkedAgain is how long people are not told again that changes are parked.
	parkedAgain = 10 * time.Minute
	// backlogAge is how long the oldest event of a backlog has waited that people are told of.
	backlogAge = time.Hour
)

// warned is what people were told of. It belongs to watchTrouble.
type warned struct {
	parked   queue.ID  // the last change
	failed   time.Time // when the last timer was parked
	parkedAt time.Time
	backlogs map[string]bool
	measured time.Time // when backlogs were looked at last
}

// watchTrouble has people be told of changes that are parked and of events that wait for long,
// in the process that captures, until the context ends.
func (b *bridge) watchTrouble(ctx context.Context, w *warned) error {
	for {
		if b.capturing() {
			b.warnOfParked(ctx, w)
			if time.Since(w.measured) >= backlogEvery {
				w.measured = time.Now()
				b.warnOfBacklogs(ctx, w)
			}
		}
		if err := retry.Wait(ctx, parkedEvery); err != nil {
			return nil //nolint:nilerr // the end that was asked for
		}
	}
}

// warnOfParked announces that changes were parked since the last time. After a restart it
// says so again, as the same event.
func (b *bridge) warnOfParked(ctx context.Context, w *warned) {
	last, err := b.queue.LastParked(ctx)
	if err != nil {
		return // that Redis is unreachable, others log
	}
	timer, failed, err := b.queue.NewestFailedTimer(ctx)
	newTimer := failed.After(w.failed)
	if err != nil || last.Compare(w.parked) <= 0 && !newTimer || time.Since(w.parkedAt) < parkedAgain {
		return
	}
	of, as := last, last.String()
	if newTimer {
		of, as = timer, timer.String()+" "+failed.Format(time.RFC3339Nano)
	}
	n, err := b.queue.ParkedCount(ctx)
	if err != nil {
		return
	}
	if n > 0 {
		sample, err := b.queue.Parked(ctx, queue.ParkedFilter{IDs: []queue.ID{of}}, queue.ID{}, 1)
		if err != nil {
			return
		}
		data := struct {
			Count    int64  `json:"count"`
			Position string `json:"position"`
			Rule     string `json:"rule,omitempty"`
			Table    string `json:"table,omitempty"`
			Reason   string `json:"reason,omitempty"`
			Link     string `json:"link,omitempty"`
		}{Count: n, Position: of.String(), Link: b.link("pending")}
		for _, p := range sample {
			data.Rule, data.Table, data.Reason = p.Rule, p.Table, p.Reason
		}
		if err := b.announce(ctx, eventParked, "parked", nil, as, data); err != nil {
			b.Log.Warn().Err(err).Msg("event about parked changes could not be queued; trying again")
			return
		}
		w.parkedAt = time.Now()
	}
	w.parked = last
	if newTimer {
		w.failed = failed
	}
}

// warnOfBacklogs announces, once each, endpoints whose oldest event waits for long though they
// answer; of those that fail or are paused people are told otherwise.
func (b *bridge) warnOfBacklogs(ctx context.Context, w *warned) {
	var names []string
	for _, e := range b.endpointsNow() {
		if e.State == endpoint.Active {
			names = append(names, e.Name)
		}
	}
	all, err := b.queue.Stats(ctx, names)
	if err != nil {
		return
	}
	now := map[string]bool{}
	for i := range all {
		s := &all[i]
		if s.Backlog == 0 || time.Since(s.Oldest) < backlogAge || s.Reason != "" || !s.Failing.IsZero() {
			continue
		}
		now[s.Endpoint] = true
		if w.backlogs[s.Endpoint] {
			continue
		}
		err := b.announce(ctx, eventBacklog, s.Endpoint, b.tenantsOf(s.Endpoint), s.Oldest.Format(time.RFC3339Nano), struct {
			Endpoint string    `json:"endpoint"`
			Queued   int64     `json:"queued"`
			Oldest   time.Time `json:"oldest"`
			Link     string    `json:"link,omitempty"`
		}{s.Endpoint, s.Backlog, s.Oldest.UTC(), b.link("endpoints", s.Endpoint)})
		if err != nil {
			b.Log.Warn().Err(err).Str("endpoint", s.Endpoint).Msg("event about a backlog could not be queued; trying again")
			delete(now, s.Endpoint)
		}
	}
	w.backlogs = now
}

// failing is what subscribers are told of an endpoint of which every attempt fails.
type failing struct {
	Endpoint string    `json:"endpoint"`
	Since    time.Time `json:"since"`
	Attempts int       `json:"attempts"`
	Status   int       `json:"status,omitempty"`
	Class    string    `json:"class"`
	Error    string    `json:"error,omitempty"`
	Answer   string    `json:"answer,omitempty"`
	// Event and WebhookID are of one event that was not delivered.
	Event     string    `json:"event"`
	WebhookID string    `json:"webhook_id"`
	Queued    int64     `json:"queued"`
	Oldest    time.Time `json:"oldest,omitzero"`
	Pauses    time.Time `json:"pauses,omitzero"`
	PausesIn  string    `json:"pauses_in,omitempty"` // with the last warning before it
	Link      string    `json:"link,omitempty"`
}

func (b *bridge) failing(ctx context.Context, n *dispatch.Notice) (failing, error) {
	stats, err := b.queue.Stats(ctx, []string{n.Endpoint})
	if err != nil {
		return failing{}, err
	}
	f := failing{
		Endpoint: n.Endpoint, Since: n.Since.UTC(), Attempts: n.Attempts, Status: n.Status, Class: n.Class, Error: n.Reason,
		Answer: strings.ToValidUTF8(n.Answer, "\uFFFD"), Event: n.Event, WebhookID: n.WebhookID, Queued: stats[0].Backlog, Oldest: stats[0].Oldest.UTC(),
		Pauses: n.Pauses, Link: b.link("endpoints", n.Endpoint),
	}
	if len(b.tenantsOf(n.Endpoint)) > 0 {
		f.Error = webhook.ToldTenants(f.Class, f.Error)
	}
	if b.State == nil || b.State.KeepAnswers == webhook.KeepNone {
		f.Answer = ""
	}
	if n.Stage&dispatch.WarnPause != 0 {
		f.PausesIn = time.Until(n.Pauses).Round(time.Minute).String()
	}
	return f, nil
}

// link leads into the console; "": it has no public URL.
func (b *bridge) link(parts ...string) string {
	if b.ConsoleURL == "" {
		return ""
	}
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.TrimSuffix(b.ConsoleURL, "/") + "/console/" + strings.Join(parts, "/")
}
