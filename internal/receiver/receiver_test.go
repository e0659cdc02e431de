package receiver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"gancho/delivery"
	"gancho/internal/receiver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a receiver with a sender beside it.
type world struct {
	t        *testing.T
	sender   *delivery.Sender
	endpoint *delivery.Endpoint
	receiver *receiver.Receiver
	got      chan receiver.Delivery
}

func newWorld(t *testing.T, o receiver.Options) *world {
	t.Helper()
	w := &world{t: t, got: make(chan receiver.Delivery, 1000), sender: delivery.NewSender(delivery.SenderOptions{})}
	o.Handle = func(d receiver.Delivery) { w.got <- d }
	w.receiver = receiver.New(o)
	server := httptest.NewServer(w.receiver)
	t.Cleanup(server.Close)
	t.Cleanup(w.sender.Close)
	w.endpoint = &delivery.Endpoint{
		Name: "try", URL: server.URL, AllowHTTP: true, AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Secrets: o.Secrets,
	}
	return w
}

// event is one of a row of a tenant.
func event(sequence int, kind, tenant, row string) *delivery.Message {
	return &delivery.Message{
		ID: fmt.Sprintf("id-%04d", sequence), Type: kind, Tenant: tenant, Sequence: fmt.Sprintf("%04d", sequence),
		Time: time.Now().Add(-time.Second), Data: []byte(`{"id": ` + row + `}`),
	}
}

func (w *world) send(m *delivery.Message) (delivery.Outcome, receiver.Delivery) {
	w.t.Helper()
	return w.sender.Send(w.t.Context(), w.endpoint, m), <-w.got
}

func secret(t *testing.T) []delivery.Secret {
	t.Helper()
	return []delivery.Secret{delivery.GenerateSecret()}
}

func TestReadsBothFormats(t *testing.T) {
	t.Parallel()
	w := newWorld(t, receiver.Options{Secrets: secret(t)})
	m := event(1, "cobranca.liquidada", "7", "42")
	o, d := w.send(m)
	if o.Kind != delivery.Delivered || d.Verified != nil || !d.Accepted() {
		t.Fatalf("%v, %v, %v", o.Err, d.Verified, d.Status)
	}
	want := receiver.Delivery{ID: m.ID, Type: m.Type, Tenant: "7", Sequence: "0001", Timestamp: m.Time.UTC().Truncate(time.Microsecond), Data: m.Data, Attempt: 1, Status: 200}
	if diff := cmp.Diff(want, plain(d)); diff != "" {
		t.Error(diff)
	}
	if d.CommitToArrival < time.Second || d.CommitToArrival > 20*time.Second {
		t.Errorf("commit to arrival %s", d.CommitToArrival)
	}
	bare := *w.endpoint
	bare.Format = delivery.FormatBare
	w.endpoint = &bare
	m = event(2, "cobranca.liquidada", "7", "42")
	_, d = w.send(m)
	if diff := cmp.Diff(receiver.Delivery{ID: m.ID, Data: m.Data, Attempt: 1, Status: 200}, plain(d)); diff != "" {
		t.Error(diff)
	}
}

// plain leaves out what depends on the clock or repeats.
func plain(d receiver.Delivery) receiver.Delivery {
	d.Arrived, d.CommitToArrival, d.Body, d.Verified = time.Time{}, 0, nil, nil
	return d
}

func TestRepeatsAndOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, receiver.Options{})
	for i, c := range []struct {
		m                     *delivery.Message
		attempt               int
		duplicate, outOfOrder bool
	}{
		{event(5, "pedido.criado", "1", "10"), 1, false, false},
		{event(5, "pedido.criado", "1", "10"), 2, true, false},
		{event(4, "pedido.alterado", "1", "10"), 1, false, true}, // same row, older
		{event(4, "pedido.alterado", "1", "10"), 2, true, false}, // told once
		{event(3, "pedido.alterado", "1", "11"), 1, false, false},
		{event(2, "pedido.alterado", "2", "10"), 1, false, false},
		{event(1, "cliente.novo", "1", "10"), 1, false, false},
		{event(6, "pedido.alterado", "1", "10"), 1, false, false},
	} {
		_, d := w.send(c.m)
		if d.Attempt != c.attempt || d.Duplicate != c.duplicate || d.OutOfOrder != c.outOfOrder {
			t.Errorf("%d: attempt %d, duplicate %v, out of order %v; want %+v", i, d.Attempt, d.Duplicate, d.OutOfOrder, c)
		}
	}
	s := w.receiver.Summary()
	if s.Received != 8 || s.Duplicates != 2 || s.OutOfOrder != 1 || s.Quantile(0.5) < 900*time.Millisecond {
		t.Errorf("summary: %s", s.String())
	}
}

func TestFailuresAreNotDuplicates(t *testing.T) {
	t.Parallel()
	w := newWorld(t, receiver.Options{FailRate: 1})
	for attempt := range 3 {
		o, d := w.send(event(1, "a.b", "", "1"))
		if o.Status != 500 || d.Attempt != attempt+1 || d.Duplicate {
			t.Errorf("status %d, attempt %d, duplicate %v", o.Status, d.Attempt, d.Duplicate)
		}
	}
	if s := w.receiver.Summary(); s.Failed != 3 || s.Accepted != 0 || s.Duplicates != 0 {
		t.Error(s.String())
	}
	w = newWorld(t, receiver.Options{Status: 410})
	if o, _ := w.send(event(1, "a.b", "", "1")); o.Kind != delivery.Gone {
		t.Errorf("status %d", o.Status)
	}
}

// TestForgeriesLeaveNoTrace: a request without a valid signature must not make
// the genuine one look like a repeat.
func TestForgeriesLeaveNoTrace(t *testing.T) {
	t.Parallel()
	genuine := secret(t)
	w := newWorld(t, receiver.Options{Secrets: append(secret(t), genuine...)})
	forged := *w.endpoint
	forged.Secrets = secret(t)
	o := w.sender.Send(t.Context(), &forged, event(9, "a.b", "", "1"))
	if d := <-w.got; o.Status != 401 || !errors.Is(d.Verified, delivery.ErrSignature) {
		t.Errorf("status %d, %v", o.Status, d.Verified)
	}
	unsigned := *w.endpoint
	unsigned.Secrets = nil
	o = w.sender.Send(t.Context(), &unsigned, event(9, "a.b", "", "1"))
	if d := <-w.got; o.Status != 401 || !errors.Is(d.Verified, delivery.ErrNotSigned) {
		t.Errorf("status %d, %v", o.Status, d.Verified)
	}
	rotating := *w.endpoint
	rotating.Secrets = genuine // the second that the receiver knows
	o = w.sender.Send(t.Context(), &rotating, event(8, "a.b", "", "1"))
	if d := <-w.got; o.Kind != delivery.Delivered || d.Verified != nil || d.OutOfOrder || d.Attempt != 1 {
		t.Errorf("%v, %+v", o.Err, d)
	}
	if s := w.receiver.Summary(); s.Unverified != 2 || s.Accepted != 1 {
		t.Error(s.String())
	}
}

func TestDelay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, receiver.Options{Delay: 60 * time.Millisecond})
	o, _ := w.send(event(1, "a.b", "", "1"))
	if o.Kind != delivery.Delivered || o.Duration < 60*time.Millisecond {
		t.Errorf("%v after %s", o.Err, o.Duration)
	}
	w = newWorld(t, receiver.Options{Delay: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan delivery.Outcome)
	go func() { ended <- w.sender.Send(ctx, w.endpoint, event(1, "a.b", "", "1")) }()
	<-w.got // it is told of before the answer
	cancel()
	if o := <-ended; o.Class != delivery.ClassCanceled {
		t.Error(o.Class)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	handler := receiver.New(receiver.Options{MaxBody: 10})
	for _, c := range []struct {
		method, body string
		status       int
	}{{"GET", "", 405}, {"POST", strings.Repeat("x", 11), 413}, {"POST", strings.Repeat("x", 10), 200}} {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), c.method, "/", strings.NewReader(c.body)))
		if answer.Code != c.status {
			t.Errorf("%s of %d bytes: %d, want %d", c.method, len(c.body), answer.Code, c.status)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	const remember = 50
	handler := receiver.New(receiver.Options{Remember: remember})
	post := func(id int) {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader("{}"))
		req.Header.Set("webhook-id", fmt.Sprint(id))
		handler.ServeHTTP(httptest.NewRecorder(), req)
	}
	for id := range 10 * remember {
		post(id)
	}
	for id := 9 * remember; id < 10*remember; id++ {
		post(id) // the last ones are remembered
	}
	if s := handler.Summary(); s.Duplicates != remember {
		t.Errorf("%d noticed of %d repeats", s.Duplicates, remember)
	}
	post(0) // the first ones are not: else nothing was ever dropped
	if s := handler.Summary(); s.Duplicates != remember {
		t.Error("nothing is forgotten")
	}
}

func TestPrint(t *testing.T) {
	t.Parallel()
	arrived := time.Date(2026, 3, 1, 12, 30, 15, 1e6, time.Local)
	base := receiver.Delivery{
		ID: "legado-01", Type: "cobranca.liquidada", Tenant: "7", Timestamp: arrived.Add(-1234567), CommitToArrival: 1234567, Arrived: arrived, Attempt: 1,
		Status: 200, Data: []byte(`{"id":42,"nome":"João"}`),
	}
	for name, c := range map[string]struct {
		change func(*receiver.Delivery)
		want   string
	}{
		"signed": {func(*receiver.Delivery) {},
			"12:30:15.001  200     1.23ms  cobranca.liquidada            7       [signed] legado-01  {\"id\":42,\"nome\":\"João\"}\n"},
		"bare": {func(d *receiver.Delivery) {
			d.Type, d.Tenant, d.Timestamp, d.Verified = "", "", time.Time{}, receiver.ErrNotChecked
		}, "12:30:15.001  200             (bare)                                [unchecked] legado-01  {\"id\":42,\"nome\":\"João\"}\n"},
		"repeat": {func(d *receiver.Delivery) { d.Status, d.Attempt, d.Data = 500, 3, nil },
			"12:30:15.001  500     1.23ms  cobranca.liquidada            7       [signed] [attempt 3] legado-01  \n"},
		"duplicate": {func(d *receiver.Delivery) {
			d.Attempt, d.Duplicate, d.OutOfOrder, d.Data, d.CommitToArrival = 2, true, true, nil, 90*time.Second+123456789
		}, "12:30:15.001  200    1m30.1s  cobranca.liquidada            7       [signed] [seen before] [out of order] legado-01  \n"},
		"hostile": {func(d *receiver.Delivery) {
			d.Verified, d.ID, d.Data, d.Status = delivery.ErrSignature, "a\x1b[2J\n", []byte("\u009b31m\x7f\xff\u202e"+strings.Repeat("é", 200)), 401
		}, "12:30:15.001  401     1.23ms  cobranca.liquidada            7       [bad signature] a·[2J·  ·31m·\ufffd·" + strings.Repeat("é", 93) + "…\n"},
	} {
		d := base
		c.change(&d)
		var out bytes.Buffer
		if err := receiver.Print(&out, d); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, out.String()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestPrintJSON(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 30, 15, 0, time.UTC)
	for _, c := range []struct {
		d    receiver.Delivery
		want string
	}{
		{receiver.Delivery{ID: "a", Type: "x.y", Tenant: "7", Sequence: "1", Timestamp: at, CommitToArrival: 1500 * time.Microsecond, Arrived: at, Attempt: 1, Status: 200,
			Body: []byte("{\n\"valor\": 12345678901234567890.10}")},
			`{"arrived":"2026-03-01T12:30:15Z","status":200,"id":"a","type":"x.y","tenant":"7","sequence":"1","timestamp":"2026-03-01T12:30:15Z","commit_to_arrival_ms":1.5,` +
				`"verified":true,"attempt":1,"duplicate":false,"out_of_order":false,"body":{"valor":12345678901234567890.10}}` + "\n"},
		{receiver.Delivery{ID: "a", Arrived: at, Attempt: 1, Status: 401, Body: []byte("not <JSON>"), Verified: delivery.ErrNotSigned},
			`{"arrived":"2026-03-01T12:30:15Z","status":401,"id":"a","verified":false,"verify_error":"` + delivery.ErrNotSigned.Error() + `","attempt":1,` +
				`"duplicate":false,"out_of_order":false,"body_text":"not <JSON>"}` + "\n"},
	} {
		var out bytes.Buffer
		if err := receiver.PrintJSON(&out, c.d); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, out.String()); diff != "" {
			t.Error(diff)
		}
		if !json.Valid(out.Bytes()) {
			t.Error("not JSON")
		}
	}
}

func TestQuantiles(t *testing.T) {
	t.Parallel()
	handler := receiver.New(receiver.Options{})
	for i := 1; i <= 100; i++ {
		body := fmt.Sprintf(`{"type":"a","timestamp":%q,"id":"%d","data":{}}`, time.Now().Add(-time.Duration(i)*time.Minute).Format(time.RFC3339Nano), i)
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
		req.Header.Set("webhook-id", fmt.Sprint(i))
		handler.ServeHTTP(httptest.NewRecorder(), req)
	}
	s := handler.Summary()
	for q, want := range map[float64]time.Duration{0.5: 50 * time.Minute, 0.99: 99 * time.Minute, 1: 100 * time.Minute} {
		if got := s.Quantile(q); got < want*97/100 || got > want*104/100 {
			t.Errorf("p%g is %s, want about %s", q*100, got, want)
		}
	}
	if text := s.String(); !strings.HasPrefix(text, "100 received, 100 accepted; commit to arrival: p50 ") {
		t.Error(text)
	}
}
