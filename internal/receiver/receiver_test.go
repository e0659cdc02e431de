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
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
	"gancho/internal/receiver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a receiver with a sender beside it.
type world struct {
	t        *testing.T
	sender   *webhook.Sender
	endpoint *endpoint.Endpoint
	receiver *receiver.Receiver
	got      chan receiver.Delivery
}

func newWorld(t *testing.T, o receiver.Options) *world {
	t.Helper()
	w := &world{t: t, got: make(chan receiver.Delivery, 1000), sender: webhook.NewSender(webhook.Options{})}
	o.Handle = func(d receiver.Delivery) { w.got <- d }
	w.receiver = receiver.New(o)
	server := httptest.NewServer(w.receiver)
	t.Cleanup(server.Close)
	t.Cleanup(w.sender.Close)
	w.endpoint = &endpoint.Endpoint{
		Name: "try", URL: server.URL, AllowHTTP: true, AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Secrets: o.Secrets,
	}
	return w
}

// event is one of a row of a tenant.
func event(sequence int, kind, tenant, row string) *webhook.Message {
	return &webhook.Message{
		ID: fmt.Sprintf("id-%04d", sequence), Type: kind, Tenant: tenant, Sequence: fmt.Sprintf("%04d", sequence),
		Time: time.Now().Add(-time.Second), Data: []byte(`{"id": ` + row + `}`),
	}
}

func (w *world) send(m *webhook.Message) (webhook.Outcome, receiver.Delivery) {
	w.t.Helper()
	return w.sender.Send(w.t.Context(), w.endpoint, m), <-w.got
}

func secret(t *testing.T) []endpoint.Secret {
	t.Helper()
	return []endpoint.Secret{endpoint.GenerateSecret()}
}

// Every format says what the event is, and which row it is about.
func TestReadsEveryFormat(t *testing.T) {
	t.Parallel()
	const data, form = `{"id": 42, "nome": "Ação & <filhos>", "itens": [{"a": null}, []]}`, `{"id":"42","itens":[{"a":""}],"nome":"Ação & <filhos>"}`
	for format, want := range map[endpoint.Format]string{
		endpoint.FormatStandard: data, endpoint.FormatCloudEvents: data, endpoint.FormatCloudEventsBinary: data, endpoint.FormatForm: form,
	} {
		w := newWorld(t, receiver.Options{Secrets: secret(t)})
		w.endpoint.Format = format
		m := event(2, "cobrança.liquidada", "7 %", "42")
		m.Data = []byte(data)
		o, d := w.send(m)
		if o.Kind != webhook.Delivered || d.Verified != nil || !d.Accepted() {
			t.Fatalf("%s: %v, %v, %v", format, o.Err, d.Verified, d.Status)
		}
		expected := receiver.Delivery{
			ID: m.ID, Type: m.Type, Tenant: "7 %", Sequence: "0002", Timestamp: m.Time.UTC().Truncate(time.Microsecond), Data: []byte(want), Attempt: 1, Status: 200,
		}
		if diff := cmp.Diff(expected, plain(d)); diff != "" {
			t.Errorf("%s: %s", format, diff)
		}
		if d.CommitToArrival < time.Second || d.CommitToArrival > 20*time.Second {
			t.Errorf("%s: commit to arrival %s", format, d.CommitToArrival)
		}
		older := event(1, "cobrança.alterada", "7 %", "42")
		if _, d = w.send(older); !d.OutOfOrder {
			t.Errorf("%s: the older event of the row is not noticed", format)
		}
	}
}

// Bare bodies are data alone, even if they look like something else.
func TestReadsBare(t *testing.T) {
	t.Parallel()
	w := newWorld(t, receiver.Options{Secrets: secret(t)})
	w.endpoint.Format = endpoint.FormatBare
	const foreign = `{"type":"a","timestamp":"2026-01-01T00:00:00Z","id":"b","data":1}`
	for _, data := range []string{`{"id": 42}`, `[1,{"type":"a"}]`, `[]`, `null`, `7`, foreign, "[" + foreign + "]", `{"specversion":"1.0","type":"a","id":"id-0001"}`} {
		m := event(1, "cobranca.liquidada", "7", "42")
		m.Data = []byte(data)
		_, d := w.send(m)
		if diff := cmp.Diff(receiver.Delivery{ID: m.ID, Data: m.Data, Status: 200}, plain(d), cmpopts.IgnoreFields(d, "Attempt", "Duplicate")); diff != "" {
			t.Error(diff)
		}
	}
}

// The events of a list are reported one by one, and repeats by their own ids.
func TestReadsLists(t *testing.T) {
	t.Parallel()
	for _, format := range []endpoint.Format{endpoint.FormatStandard, endpoint.FormatCloudEvents} {
		w := newWorld(t, receiver.Options{Secrets: secret(t)})
		w.endpoint.Format = format
		list := []*webhook.Message{event(1, "pedido.criado", "7", "42"), event(2, "pedido.alterado", "7", "42"), event(3, "pedido.alterado", "", "43")}
		for from := range list { // all, the last two, and the last one alone
			if o := w.sender.SendList(t.Context(), w.endpoint, list[from:]); o.Kind != webhook.Delivered {
				t.Fatal(o.Err)
			}
			for _, m := range list[from:] {
				want := receiver.Delivery{
					ID: m.ID, List: len(list) - from, Type: m.Type, Tenant: m.Tenant, Sequence: m.Sequence, Timestamp: m.Time.UTC().Truncate(time.Microsecond),
					Data: m.Data, Attempt: from + 1, Duplicate: from > 0, Status: 200,
				}
				if diff := cmp.Diff(want, plain(<-w.got)); diff != "" {
					t.Errorf("%s from %d: %s", format, from, diff)
				}
			}
		}
		if s := w.receiver.Summary(); s.Received != 6 || s.Accepted != 6 || s.Duplicates != 3 || s.OutOfOrder != 0 {
			t.Errorf("%s: %s", format, s.String())
		}
	}
	w := newWorld(t, receiver.Options{})
	w.endpoint.Format = endpoint.FormatBare
	if o := w.sender.SendList(t.Context(), w.endpoint, []*webhook.Message{event(1, "a.b", "", "1"), event(2, "a.b", "", "2")}); o.Kind != webhook.Delivered {
		t.Fatal(o.Err)
	}
	if d := <-w.got; !strings.HasPrefix(d.ID, "list-") || string(d.Data) != `[{"id": 1},{"id": 2}]` || d.Type != "" {
		t.Errorf("%+v", d)
	}
}

// What our sender never sends is kept as it is.
func TestReadsWhatIsBroken(t *testing.T) {
	t.Parallel()
	const whole = `{"id":"a","type":"x.y","timestamp":"2026-01-01T00:00:00Z","data":1}`
	const ours = "id=a&type=x.y&timestamp=2026-01-01T00:00:00Z&"
	for _, c := range []struct{ kind, body, data string }{
		{"application/x-www-form-urlencoded", ours + "data%5Ba=1&data[b][]=2&data[b]=3&data=4&data[c]=5", `{"c":"5"}`},
		{"application/x-www-form-urlencoded; charset=utf-8", ours + "data[1]=b&data[0]=a", `["a","b"]`},
		{"application/x-www-form-urlencoded", ours + "data[1]=b&data[2]=a", `{"1":"b","2":"a"}`},
		{"application/x-www-form-urlencoded", ours + "data=", `""`},
		{"application/x-www-form-urlencoded", ours + "data[x]=y&data" + strings.Repeat("[a]", 1<<20) + "=1", `{"x":"y"}`},
		{"application/x-www-form-urlencoded", ours + "data=%zz", ours + "data=%zz"},
		{"application/x-www-form-urlencoded", "id=a&type=x.y&data=1", "id=a&type=x.y&data=1"},
		{"application/cloudevents+json", `{"id":"a","type":"x.y","time":"2026-01-01T00:00:00Z","data":1}`, `{"id":"a","type":"x.y","time":"2026-01-01T00:00:00Z","data":1}`},
		{"application/cloudevents-batch+json", `[]`, `[]`},
		{"application/json", `[`, `[`},
		{"application/json", "[" + whole + "]", "1"},
		{"application/json", "[" + whole, "[" + whole},
		{"application/json", "[" + whole + "][]", "[" + whole + "][]"},
		{"application/json", "[{}" + strings.Repeat(",{}", 10_000) + "]", "[{}" + strings.Repeat(",{}", 10_000) + "]"},
		{"; ;", ``, ``},
	} {
		var got []receiver.Delivery
		handler := receiver.New(receiver.Options{Handle: func(d receiver.Delivery) { got = append(got, d) }})
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(c.body))
		req.Header.Set("Content-Type", c.kind)
		req.Header.Set("webhook-id", "a")
		handler.ServeHTTP(httptest.NewRecorder(), req)
		if len(got) != 1 || string(got[0].Data) != c.data {
			t.Errorf("%s %.80q: %d: %.200q", c.kind, c.body, len(got), got[0].Data)
		}
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
		m                     *webhook.Message
		attempt               int
		duplicate, outOfOrder bool
	}{
		{event(5, "pedido.criado", "1", "10"), 1, false, false},
		{event(5, "pedido.criado", "1", "10"), 2, true, false},
		{event(4, "pedido.alterado", "1", "10"), 1, false, true}, // same row, older
		{event(4, "pedido.alterado", "1", "10"), 2, true, false}, // reported once
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
	if o, _ := w.send(event(1, "a.b", "", "1")); o.Kind != webhook.Gone {
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
	if d := <-w.got; o.Status != 401 || !errors.Is(d.Verified, webhook.ErrSignature) {
		t.Errorf("status %d, %v", o.Status, d.Verified)
	}
	unsigned := *w.endpoint
	unsigned.Secrets = nil
	o = w.sender.Send(t.Context(), &unsigned, event(9, "a.b", "", "1"))
	if d := <-w.got; o.Status != 401 || !errors.Is(d.Verified, webhook.ErrNotSigned) {
		t.Errorf("status %d, %v", o.Status, d.Verified)
	}
	rotating := *w.endpoint
	rotating.Secrets = genuine // the second that the receiver knows
	o = w.sender.Send(t.Context(), &rotating, event(8, "a.b", "", "1"))
	if d := <-w.got; o.Kind != webhook.Delivered || d.Verified != nil || d.OutOfOrder || d.Attempt != 1 {
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
	if o.Kind != webhook.Delivered || o.Duration < 60*time.Millisecond {
		t.Errorf("%v after %s", o.Err, o.Duration)
	}
	w = newWorld(t, receiver.Options{Delay: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan webhook.Outcome)
	go func() { ended <- w.sender.Send(ctx, w.endpoint, event(1, "a.b", "", "1")) }()
	<-w.got // Handle is called before the answer
	cancel()
	if o := <-ended; o.Class != webhook.ClassCanceled {
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

func english(text string) string { return text }

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
		"list": {func(d *receiver.Delivery) { d.List, d.Data = 3, nil },
			"12:30:15.001  200     1.23ms  cobranca.liquidada            7       [signed] [list of 3] legado-01  \n"},
		"hostile": {func(d *receiver.Delivery) {
			d.Verified, d.ID, d.Data, d.Status = webhook.ErrSignature, "a\x1b[2J\n", []byte("\u009b31m\x7f\xff\u202e"+strings.Repeat("é", 200)), 401
		}, "12:30:15.001  401     1.23ms  cobranca.liquidada            7       [bad signature] a·[2J·  ·31m·\ufffd·" + strings.Repeat("é", 93) + "…\n"},
	} {
		d := base
		c.change(&d)
		var out bytes.Buffer
		if err := receiver.Print(&out, d, english); err != nil {
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
		{receiver.Delivery{ID: "a", Arrived: at, Attempt: 1, Status: 401, Body: []byte("not <JSON>"), Verified: webhook.ErrNotSigned},
			`{"arrived":"2026-03-01T12:30:15Z","status":401,"id":"a","verified":false,"verify_error":"` + webhook.ErrNotSigned.Error() + `","attempt":1,` +
				`"duplicate":false,"out_of_order":false,"body_text":"not <JSON>"}` + "\n"},
		{receiver.Delivery{ID: "a", List: 2, Arrived: at, Attempt: 1, Status: 200, Body: []byte("data[id]=1"), Data: []byte(`{"id":"1"}`)},
			`{"arrived":"2026-03-01T12:30:15Z","status":200,"id":"a","list":2,"verified":true,"attempt":1,` +
				`"duplicate":false,"out_of_order":false,"body_text":"data[id]=1","data":{"id":"1"}}` + "\n"},
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

// TestAnswer answers in the body what a success rule wants to see, and marks
// what is sent again: it is old, not out of order.
func TestAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, receiver.Options{Answer: `{"status":200}`})
	w.endpoint.Success = endpoint.Success{Body: `"status":200`}
	if o, d := w.send(event(5, "pedido.criado", "1", "10")); o.Kind != webhook.Delivered || d.Replay {
		t.Errorf("%v, replay %v", o.Err, d.Replay)
	}
	older := event(4, "pedido.criado", "1", "10")
	older.Replay = true
	_, d := w.send(older)
	if !d.Replay || d.OutOfOrder {
		t.Errorf("replay %v, out of order %v", d.Replay, d.OutOfOrder)
	}
	var out bytes.Buffer
	if err := receiver.Print(&out, d, english); err != nil || !strings.Contains(out.String(), "[replay] id-0004") {
		t.Errorf("%v: %s", err, out.String())
	}
	w = newWorld(t, receiver.Options{Answer: `{"status":200}`, FailRate: 1})
	w.endpoint.Success = endpoint.Success{Body: `"status":200`}
	if o, _ := w.send(event(6, "pedido.criado", "1", "10")); o.Status != 500 || strings.Contains(string(o.Answer), "200") {
		t.Errorf("a failure answers %d %q", o.Status, o.Answer)
	}
}

// Latencies keep quantiles to the width of their buckets.
func TestLatencies(t *testing.T) {
	t.Parallel()
	var l receiver.Latencies
	if got := l.Quantile(.5); got != 0 {
		t.Errorf("median of nothing is %s", got)
	}
	var all []time.Duration
	var parts [2]receiver.Latencies
	for i := range 1000 {
		d := time.Duration(i*i) * time.Microsecond
		all = append(all, d)
		parts[i%2].Add(d)
	}
	l.Merge(&parts[0])
	l.Merge(&parts[1])
	slices.Sort(all)
	for _, q := range []float64{.1, .5, .9, .99, 1} {
		want := all[int(q*float64(len(all)))-1]
		if got := l.Quantile(q); got < want || float64(got) > float64(want)*1.05 {
			t.Errorf("quantile %g is %s, want %s to 5 %% more", q, got, want)
		}
	}
	if got := l.Longest(); got != all[len(all)-1] {
		t.Errorf("longest is %s, want %s", got, all[len(all)-1])
	}
}
