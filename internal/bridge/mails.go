package bridge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"gancho/internal/mail"
	"gancho/internal/retry"
)

// Mails are who is told of trouble by e-mail, and over which server.
type Mails struct {
	Sender *mail.Sender
	// To are told of everything, Tenants, by tenant, of what is that tenant's alone.
	To      []string
	Tenants map[string][]string
}

const (
	// maxMails wait; the others are dropped, and counted: people read the first ones.
	maxMails = 100
	// mailTries is how often one is tried.
	mailTries = 6
)

// mailBackoff is the wait between them: a quarter of an hour together.
func mailBackoff() retry.Backoff { return retry.Backoff{Min: 5 * time.Second, Max: 5 * time.Minute} }

// mailed are the operational events that people are told of by e-mail, with what they mean.
// Dead letters are too many for that.
func mailed(event, about string) (subject string, ok bool) {
	subject, ok = map[string]string{
		eventFailing:   "every attempt at endpoint " + about + " fails",
		eventBacklog:   "events for endpoint " + about + " wait for long",
		eventPaused:    "endpoint " + about + " is paused, its events are kept",
		eventRecovered: "endpoint " + about + " answers again",
		eventParked:    "changes are parked: no event could be made of them",
		eventLagging:   "the source holds WAL for slot " + about,
		eventGap:       "changes of a table are missing",
		eventQuota:     "a backlog is over its quota",
		eventExpiring:  "old " + strings.ReplaceAll(about, "_", " ") + " will be deleted",
	}[event]
	return "[Gancho] " + subject, ok
}

// mail has people be told of an operational event. It never waits.
func (b *bridge) mail(event, about string, tenants []string, data []byte) {
	subject, ok := mailed(event, about)
	if b.Mails == nil || !ok {
		return
	}
	to := slices.Clone(b.Mails.To)
	if len(tenants) == 1 {
		to = append(to, b.Mails.Tenants[tenants[0]]...)
	}
	slices.Sort(to)
	if to = slices.Compact(to); len(to) == 0 {
		return
	}
	m := mail.Message{To: to, Subject: subject, Text: event + "\n\n" + lines(data)}
	select {
	case b.mails <- m:
	default:
		b.metrics.mails.WithLabelValues("dropped").Inc()
		b.Log.Warn().Str("event", event).Msg("mail about an event dropped: too many wait for the SMTP server")
	}
}

// lastMails bounds the end, in which what still waits is tried once.
const lastMails = 5 * time.Second

// sendMails sends what people are told until the context ends, and then what waits.
func (b *bridge) sendMails(ctx context.Context) error {
	for {
		var waiting []mail.Message
		select {
		case <-ctx.Done():
		case m := <-b.mails:
			if b.sendMail(ctx, &m, mailTries) {
				continue
			}
			waiting = append(waiting, m)
		}
		for len(b.mails) > 0 {
			waiting = append(waiting, <-b.mails)
		}
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastMails)
		defer cancel()
		for i := range waiting {
			if !b.sendMail(ending, &waiting[i], 1) {
				b.metrics.mails.WithLabelValues("dropped").Inc()
				b.Log.Error().Str("subject", waiting[i].Subject).Msg("mail about an event dropped: gancho ends before the SMTP server has taken it")
			}
		}
		return nil
	}
}

// sendMail tries so often, and reports false when the context has ended before the message was sent or given up.
func (b *bridge) sendMail(ctx context.Context, m *mail.Message, most int) (done bool) {
	tries := 0
	_, err := retry.Do(ctx, mailBackoff(), func() (struct{}, error) { return struct{}{}, b.Mails.Sender.Send(ctx, m) }, func(err error) bool {
		if _, sent := errors.AsType[*mail.RefusedError](err); sent || mail.Permanent(err) {
			return false
		}
		if tries++; tries == 1 && most > 1 {
			b.Log.Warn().Err(err).Msg("mail about an event not sent; trying again")
		}
		return tries < most
	})
	refused, sent := errors.AsType[*mail.RefusedError](err)
	switch {
	case sent:
		b.metrics.mails.WithLabelValues("sent").Inc()
		b.Log.Error().Err(refused).Str("subject", m.Subject).Msg("mail about an event refused for some addresses: correct notify.to, the others have it")
	case ctx.Err() != nil:
		return false
	case err != nil:
		b.metrics.mails.WithLabelValues("failed").Inc()
		b.Log.Error().Err(err).Str("subject", m.Subject).Msg("mail about an event given up: nobody has it but endpoints that take gancho.*")
	default:
		b.metrics.mails.WithLabelValues("sent").Inc()
	}
	return true
}

// lines writes the members of a JSON object, each on a line of its own.
func lines(data []byte) string {
	var out strings.Builder
	d := json.NewDecoder(bytes.NewReader(data))
	_, _ = d.Token() // {
	for d.More() {
		name, _ := d.Token()
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			break // of what json.Marshal has written, nothing is left
		}
		text := string(value)
		if s := ""; json.Unmarshal(value, &s) == nil {
			text = s
		}
		key, _ := name.(string)
		out.WriteString(key + ": " + text + "\n")
	}
	return out.String()
}
