package forward

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/control"
	"gancho/internal/retry"
	"gancho/internal/state"
)

const (
	// patience is how long the developer's receiver may take: it may be stopped in a debugger.
	patience = 5 * time.Minute
	// keptAfter is how long an event may take to be kept once its attempt is in the log, tried keptTries times.
	keptAfter, keptTries = 500 * time.Millisecond, 6
	// maxAnswer is how much of an answer is shown, in bytes.
	maxAnswer = 16 << 10
	// caughtUp is how many new attempts are read at most after an interruption.
	caughtUp = 200
	// nextTry is after how long an interrupted tail is begun again.
	nextTry = 2 * time.Second
)

// Bridge is what is asked of the bridge, whose errors are those of control and remote.
type Bridge interface {
	Tail(ctx context.Context, a control.Actor, f state.Filter, each func(control.TailLines) error) error
	Deliveries(ctx context.Context, a control.Actor, f state.Filter, cursor string, limit int) (control.Page[state.Attempt], error)
	Event(ctx context.Context, a control.Actor, webhookID, endpoint string) (control.EventView, error)
	Endpoint(ctx context.Context, a control.Actor, name string) (control.EndpointView, error)
}

// Options are what New needs.
type Options struct {
	Bridge Bridge
	// Filter chooses by endpoint, tenant, events.
	Filter state.Filter
	// URL is where everything is sent, Secret what signs it.
	URL     string
	Secret  endpoint.Secret
	Version string
	// Interrupted reports whether an error of Bridge passes by itself.
	Interrupted func(error) bool
	// Show gets what was forwarded, and what could not be; Note a sentence about the connection. Both are called by the goroutine of Run.
	Show func(*Exchange) error
	Note func(text string)
}

// Exchange is a request and what came of it.
type Exchange struct {
	Time      time.Time                `json:"time"`
	Endpoint  string                   `json:"endpoint"`
	Event     string                   `json:"event"`
	Tenant    string                   `json:"tenant,omitempty"`
	WebhookID string                   `json:"webhook_id"`
	Committed time.Time                `json:"committed,omitzero"`
	Replay    bool                     `json:"replay,omitempty"`
	Resent    bool                     `json:"resent,omitempty"` // by Resend
	Request   *webhook.ExchangeRequest `json:"request,omitempty"`
	Answer    *webhook.ExchangeAnswer  `json:"answer,omitempty"`
	Duration  webhook.Milliseconds     `json:"duration_ms"`
	// Error is why there is no answer, or no request.
	Error string `json:"error,omitempty"`
}

// OK reports whether the answer is 2xx.
func (e *Exchange) OK() bool { return e.Answer != nil && e.Answer.Status/100 == 2 }

// Forwarder forwards. Run and Resend may be called by two goroutines.
type Forwarder struct {
	Options
	client http.Client

	seen      recent // attempts
	forwarded recent // events of endpoints
	waiting   recent // events of endpoints that wait for their receiver
	// newest is the time of the newest attempt whose event is forwarded, begin that from which on the log is read: of the newest one before
	// Run, or behind what was left out since.
	newest, begin time.Time
}

// New returns a forwarder. The caller closes it.
func New(o Options) *Forwarder {
	f := &Forwarder{Options: o}
	f.client = http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment}, Timeout: patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return f
}

// Close closes the connections to the receiver.
func (f *Forwarder) Close() { f.client.CloseIdleConnections() }

// Run forwards until the context ends, and then returns nil; or until the bridge refuses.
func (f *Forwarder) Run(ctx context.Context) error {
	// The bridge's clock says what is new, not this machine's.
	page, err := f.Bridge.Deliveries(ctx, control.Actor{}, f.Filter, "", 1)
	if err != nil {
		return ended(ctx, err)
	}
	for i := range page.Items {
		f.begin, f.newest = page.Items[i].Time, page.Items[i].Time
		f.seen.add(attemptKey(&page.Items[i]))
	}
	for lost := false; ; {
		begun := false
		err := f.Bridge.Tail(ctx, control.Actor{}, f.Filter, func(lines control.TailLines) error {
			if lost {
				lost = false
				f.Note("connected again")
			}
			if !begun || lines.More > 0 || lines.Missed { // what came before it had begun is in the log alone
				begun = true
				left, err := f.catchUp(ctx)
				if err != nil {
					return err
				}
				lines.Items = slices.DeleteFunc(lines.Items, func(a state.Attempt) bool { return a.Time.Before(left) })
			}
			return f.attempts(ctx, lines.Items)
		})
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the end that was asked for
		case err == nil: // the bridge ends each tail after some minutes
			continue
		case !f.Interrupted(err):
			return ended(ctx, err)
		case !lost:
			lost = true
			f.Note(fmt.Sprintf("%v; tried again every %s, and then what came meanwhile is forwarded", err, nextTry))
		}
		if retry.Wait(ctx, nextTry) != nil {
			return nil //nolint:nilerr // the end that was asked for
		}
	}
}

// ended is the error, nil after the context's end.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the end that was asked for
	}
	return err
}

// catchUp forwards what is in the delivery log and new since the newest attempt that is known, or came late. It returns before which
// time it has left attempts out, because there are too many; zero: it has not.
func (f *Forwarder) catchUp(ctx context.Context) (left time.Time, err error) {
	filter := f.Filter
	filter.From = f.newest.Add(-state.TailAge)
	if filter.From.Before(f.begin) {
		filter.From = f.begin
	}
	var list []state.Attempt
	for cursor := ""; ; {
		page, err := f.Bridge.Deliveries(ctx, control.Actor{}, filter, cursor, caughtUp)
		if err != nil {
			return left, err
		}
		for i := range page.Items {
			if !f.seen.has(attemptKey(&page.Items[i])) {
				list = append(list, page.Items[i])
			}
		}
		if cursor = page.Next; cursor == "" {
			return left, f.attempts(ctx, list)
		}
		if len(list) >= caughtUp {
			f.Note(fmt.Sprintf("there were more than %d attempts at once; the oldest of them are not forwarded: choose fewer with --endpoint or --event", caughtUp))
			if err := f.attempts(ctx, list); err != nil {
				return left, err // they are left out when it is tried again
			}
			// Behind the oldest in the list: others of its microsecond are left out.
			f.begin = list[len(list)-1].Time.Add(time.Microsecond)
			return f.begin, nil
		}
	}
}

// attempts forwards the events of attempts, the newest of which come first. After an error those that are left are still new.
func (f *Forwarder) attempts(ctx context.Context, list []state.Attempt) error {
	for _, a := range slices.Backward(list) {
		key := attemptKey(&a)
		if f.seen.has(key) {
			continue
		}
		if err := f.attempt(ctx, &a); err != nil {
			return err
		}
		f.seen.add(key)
		if a.Time.After(f.newest) {
			f.newest = a.Time
		}
	}
	return nil
}

func attemptKey(a *state.Attempt) string {
	return fmt.Sprint(a.Endpoint, " ", a.WebhookID, " ", a.Number, " ", a.Time.UnixNano())
}

// attempt forwards the event of one, unless that was done.
func (f *Forwarder) attempt(ctx context.Context, a *state.Attempt) error {
	key := a.Endpoint + " " + a.WebhookID
	if f.forwarded.has(key) && !(a.Replay && a.Number == 1) {
		return nil
	}
	ended := a.Outcome == webhook.Delivered.String() || a.Outcome == queue.OutcomeDead
	e := &Exchange{Time: time.Now(), Endpoint: a.Endpoint, Event: a.Event, Tenant: a.Tenant, WebhookID: a.WebhookID, Committed: a.Committed, Replay: a.Replay}
	view, err := f.event(ctx, a, ended)
	switch {
	case errors.Is(err, state.ErrNotFound) && !ended:
		if f.waiting.add(key) {
			e.Error = fmt.Sprintf("its receiver has not taken it (%s); it is forwarded when its delivery ends, with which the bridge keeps it", cmp.Or(a.Error, a.Outcome))
			return f.Show(e)
		}
		return nil
	case errors.Is(err, state.ErrNotFound):
		f.forwarded.add(key)
		e.Error = "the bridge does not keep it: set state.keep_events there"
		return f.Show(e)
	case err != nil:
		return err
	case view.Request == nil:
		f.forwarded.add(key)
		e.Error = goneText
		return f.Show(e)
	}
	ep, err := f.Bridge.Endpoint(ctx, control.Actor{}, e.Endpoint)
	switch {
	case errors.Is(err, state.ErrNotFound): // since its event was read
		e.Error = goneText
	case err != nil:
		return err
	default:
		e.Request = view.Request
		if err := f.sign(e, ep.Settings); err != nil {
			e.Request, e.Error = nil, err.Error()
		} else {
			f.send(ctx, e)
		}
	}
	f.forwarded.add(key)
	return f.Show(e)
}

// goneText is of an endpoint that the bridge does not make a request for.
const goneText = "its endpoint is not there, not yours, or cannot be delivered to"

// event reads the event of an attempt. One that has ended is kept soon.
func (f *Forwarder) event(ctx context.Context, a *state.Attempt, ended bool) (control.EventView, error) {
	for try := 1; ; try++ {
		view, err := f.Bridge.Event(ctx, control.Actor{}, a.WebhookID, a.Endpoint)
		if !errors.Is(err, state.ErrNotFound) || !ended || try == keptTries {
			return view, err
		}
		if err := retry.Wait(ctx, keptAfter); err != nil {
			return view, err
		}
	}
}

// sign makes the request that the endpoint gets one to this URL, with this secret's signatures: those that the endpoint's document
// asks for, under their headers.
func (f *Forwarder) sign(e *Exchange, of json.RawMessage) error {
	settings := map[string]json.RawMessage{}
	if err := json.Unmarshal(of, &settings); err != nil {
		return fmt.Errorf("read the settings of endpoint %s: %w", e.Endpoint, err)
	}
	// The URL is no part of what is signed, and this one no guard refuses.
	document := map[string]any{"name": e.Endpoint, "url": "https://receiver.example.com/", "secret": f.Secret.Reveal()}
	for _, name := range []string{"signatures", "standard"} {
		if text, ok := settings[name]; ok {
			document[name] = text
		}
	}
	text, err := json.Marshal(document)
	if err != nil {
		return err
	}
	ep, err := endpoint.Parse(e.Endpoint, text)
	if err != nil {
		return fmt.Errorf("sign as endpoint %s does: %w", e.Endpoint, err)
	}
	body := []byte(e.Request.Body)
	at := time.Now()
	header, err := webhook.SignedHeader(&ep, f.Version, &webhook.Message{ID: e.WebhookID, Type: e.Event, Tenant: e.Tenant, Time: e.Committed, Replay: e.Replay || e.Resent}, body, at)
	if err != nil {
		return fmt.Errorf("sign as endpoint %s does: %w", e.Endpoint, err)
	}
	maps.Copy(header, e.Request.Header) // what the format says of the body
	e.Request = &webhook.ExchangeRequest{Method: http.MethodPost, URL: f.URL, Header: header, Body: e.Request.Body}
	e.Time = at
	return nil
}

// send sends the request, and keeps the answer.
func (f *Forwarder) send(ctx context.Context, e *Exchange) {
	start := time.Now()
	defer func() { e.Duration = webhook.Milliseconds(time.Since(start)) }()
	out, err := http.NewRequestWithContext(ctx, e.Request.Method, e.Request.URL, bytes.NewReader([]byte(e.Request.Body)))
	if err != nil {
		e.Error = err.Error()
		return
	}
	out.Header = e.Request.Header.Clone()
	answer, err := f.client.Do(out)
	if err != nil {
		e.Error = err.Error()
		return
	}
	defer func() { _ = answer.Body.Close() }() // it is read only
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		e.Error = "read the answer: " + err.Error()
	}
	e.Answer = &webhook.ExchangeAnswer{Status: answer.StatusCode, Header: answer.Header, Body: string(body)}
}

// Resend sends what was forwarded once more, signed anew, as a replay. An exchange without a request is not sent.
func (f *Forwarder) Resend(ctx context.Context, e *Exchange) (*Exchange, error) {
	if e.Request == nil {
		return nil, errors.New("there is nothing to send again: " + e.Error)
	}
	again := *e
	again.Resent, again.Answer, again.Error = true, nil, ""
	// Its own signatures and those of the first time must not both be there.
	again.Request = &webhook.ExchangeRequest{Header: formatHeader(e.Request.Header), Body: e.Request.Body}
	ep, err := f.Bridge.Endpoint(ctx, control.Actor{}, e.Endpoint)
	if err != nil {
		return nil, err
	}
	if err := f.sign(&again, ep.Settings); err != nil {
		return nil, err
	}
	f.send(ctx, &again)
	return &again, nil
}

// formatHeader is what of a header says what the body is.
func formatHeader(h http.Header) http.Header {
	out := http.Header{}
	for name, values := range h {
		if name == "Content-Type" || len(name) > 3 && name[:3] == "Ce-" {
			out[name] = values
		}
	}
	return out
}
