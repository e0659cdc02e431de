package control

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"time"

	"gancho/delivery/webhook"
	"gancho/internal/state"
)

// PingType is the type of the event that a test sends.
const PingType = "ping"

// Test sends a signed event of type ping to an endpoint, whatever its state,
// and tells what was sent and what came back. Nothing is kept of it, and the
// queue is not touched. Needs Operator.
func (s *Service) Test(ctx context.Context, a Actor, name string) (ExchangeView, error) {
	if err := a.may(state.Operator); err != nil {
		return ExchangeView{}, err
	}
	found, err := s.find(ctx, a, name)
	if err != nil {
		return ExchangeView{}, err
	}
	e, err := s.delivered(found)
	if err != nil {
		return ExchangeView{}, err
	}
	return exchangeView(s.Sender.Probe(ctx, &e, ping(name, a.Tenant, time.Now().UTC()))), nil
}

// ping is an event that no rule has made. Each has an id of its own, so that a
// receiver that drops repeats takes every one.
func ping(endpoint, tenant string, now time.Time) *webhook.Message {
	id := make([]byte, 12)
	_, _ = rand.Read(id) // never fails
	data, _ := json.Marshal(map[string]string{"endpoint": endpoint, "message": "a test of gancho; nothing has happened"})
	return &webhook.Message{
		ID: "ping_" + hex.EncodeToString(id), Type: PingType, Tenant: tenant, Time: now, Sequence: strconv.FormatInt(now.UnixMicro(), 10), Data: data,
	}
}

func exchangeView(x webhook.Exchange) ExchangeView {
	v := ExchangeView{
		Request: RequestView{Method: x.Method, URL: x.URL, Headers: x.Header, Body: string(x.Body)},
		Outcome: x.Outcome.Kind.String(), Class: x.Outcome.Class, Address: x.Remote, Proxy: x.Proxy, Protocol: x.HTTP, TLS: x.TLS,
		Timing: TimingView{
			DNS: millis(x.Timing.DNS), Connect: millis(x.Timing.Connect), TLS: millis(x.Timing.TLS),
			FirstByte: millis(x.Timing.FirstByte), Total: millis(x.Timing.Total),
		},
	}
	if v.Request.Headers == nil {
		v.Request.Headers = map[string][]string{}
	}
	if x.Outcome.Err != nil {
		v.Error = x.Outcome.Err.Error()
	}
	if x.AnswerHeader != nil {
		v.Answer = &AnswerView{Status: x.Outcome.Status, Headers: x.AnswerHeader, Body: string(x.Outcome.Answer)}
	}
	return v
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
