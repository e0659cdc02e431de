package webhook_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
	"gancho/internal/jsontext"

	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/google/go-cmp/cmp"
)

// sentBy posts the message to a receiver and returns what that got.
func sentBy(t testing.TB, change func(*endpoint.Endpoint), m *webhook.Message) received {
	t.Helper()
	return listBy(t, change, m)
}

// listBy posts several messages as a list, or one alone.
func listBy(t testing.TB, change func(*endpoint.Endpoint), ms ...*webhook.Message) received {
	t.Helper()
	got := make(chan received, 1)
	ep := local(serve(t, collect(got)))
	change(ep)
	sender := newSender(t, webhook.Options{})
	var o webhook.Outcome
	if len(ms) == 1 && ep.Batch.Max == 0 {
		o = sender.Send(t.Context(), ep, ms[0])
	} else {
		o = sender.SendList(t.Context(), ep, ms)
	}
	if o.Kind != webhook.Delivered {
		t.Fatalf("outcome %v %s: %v", o.Kind, o.Class, o.Err)
	}
	return <-got
}

// fullMessage has everything that a message can have.
func fullMessage() *webhook.Message {
	m := message()
	m.ID, m.Sequence = "0a1b2c3d-001-0000000001a2b3c4-000000000000-0000", "001-0000000001a2b3c4-000000000000-0000"
	m.Data = []byte(`{"id":42,"valor":129.90,"nome":"Ação & Cia","nulo":null,"pago":true,"itens":[{"sku":"a b","q":1.0},"x",[]],"vazio":{}}`)
	m.Previous, m.Unchanged = []byte(`{"valor":1e2}`), []byte(`["xml","a.b"]`)
	m.Op, m.Errors = "update", []byte(`["nasc"]`)
	return m
}

func TestBodies(t *testing.T) {
	t.Parallel()
	const envelope = `"type":"cobranca.liquidada","timestamp":"2026-03-01T12:30:15.000120Z","id":"0a1b2c3d-001-0000000001a2b3c4-000000000000-0000",` +
		`"tenant":"7","sequence":"001-0000000001a2b3c4-000000000000-0000","op":"update",`
	const data = `{"id":42,"valor":129.90,"nome":"Ação & Cia","nulo":null,"pago":true,"itens":[{"sku":"a b","q":1.0},"x",[]],"vazio":{}}`
	const texts = `{"id":"42","valor":"129.90","nome":"Ação & Cia","nulo":null,"pago":true,"itens":[{"sku":"a b","q":"1.0"},"x",[]],"vazio":{}}`
	extra := map[string]endpoint.Hidden{"validationtoken": `s3"cr3t&`, "a": "1"}
	const cloud = `"specversion":"1.0","id":"0a1b2c3d-001-0000000001a2b3c4-000000000000-0000","source":"/gancho/0a1b2c3d","type":"cobranca.liquidada",` +
		`"time":"2026-03-01T12:30:15.000120Z","datacontenttype":"application/json","sequence":"001-0000000001a2b3c4-000000000000-0000","tenant":"7","op":"update",`
	for name, c := range map[string]struct {
		ep    endpoint.Endpoint
		kind  string
		body  string
		empty string // the body of a message with a type and an id alone
	}{
		"standard": {endpoint.Endpoint{Extra: extra}, "application/json",
			`{` + envelope + `"a":"1","validationtoken":"s3\"cr3t&","data":` + data + `,"previous":{"valor":1e2},"unchanged":["xml","a.b"],"errors":["nasc"]}`,
			`{"type":"ping","timestamp":"1970-01-01T00:00:00.000000Z","id":"x","tenant":null,"sequence":"","a":"1","validationtoken":"s3\"cr3t&","data":null}`},
		"standard, strings": {endpoint.Endpoint{StringNumbers: true}, "application/json",
			`{` + envelope + `"data":` + texts + `,"previous":{"valor":"1e2"},"unchanged":["xml","a.b"],"errors":["nasc"]}`,
			`{"type":"ping","timestamp":"1970-01-01T00:00:00.000000Z","id":"x","tenant":null,"sequence":"","data":null}`},
		"bare":          {endpoint.Endpoint{Format: endpoint.FormatBare}, "application/json", data, `null`},
		"bare, strings": {endpoint.Endpoint{Format: endpoint.FormatBare, StringNumbers: true}, "application/json", texts, `null`},
		"cloudevents": {endpoint.Endpoint{Format: endpoint.FormatCloudEvents, Extra: extra}, "application/cloudevents+json",
			`{` + cloud + `"previous":"{\"valor\":1e2}","unchanged":"[\"xml\",\"a.b\"]","errors":"[\"nasc\"]","a":"1","validationtoken":"s3\"cr3t&","data":` + data + `}`,
			`{"specversion":"1.0","id":"x","source":"/gancho","type":"ping","time":"1970-01-01T00:00:00.000000Z","datacontenttype":"application/json",` +
				`"a":"1","validationtoken":"s3\"cr3t&","data":null}`},
		"cloudevents, strings": {endpoint.Endpoint{Format: endpoint.FormatCloudEvents, StringNumbers: true}, "application/cloudevents+json",
			`{` + cloud + `"previous":"{\"valor\":\"1e2\"}","unchanged":"[\"xml\",\"a.b\"]","errors":"[\"nasc\"]","data":` + texts + `}`,
			`{"specversion":"1.0","id":"x","source":"/gancho","type":"ping","time":"1970-01-01T00:00:00.000000Z","datacontenttype":"application/json","data":null}`},
		"cloudevents-binary": {endpoint.Endpoint{Format: endpoint.FormatCloudEventsBinary}, "application/json", data, `null`},
		"form": {endpoint.Endpoint{Format: endpoint.FormatForm, Extra: extra, StringNumbers: true}, "application/x-www-form-urlencoded",
			`type=cobranca.liquidada&timestamp=2026-03-01T12%3A30%3A15.000120Z&id=0a1b2c3d-001-0000000001a2b3c4-000000000000-0000&tenant=7` +
				`&sequence=001-0000000001a2b3c4-000000000000-0000&op=update&a=1&validationtoken=s3%22cr3t%26&data%5Bid%5D=42&data%5Bvalor%5D=129.90` +
				`&data%5Bnome%5D=A%C3%A7%C3%A3o+%26+Cia&data%5Bnulo%5D=&data%5Bpago%5D=true&data%5Bitens%5D%5B0%5D%5Bsku%5D=a+b` +
				`&data%5Bitens%5D%5B0%5D%5Bq%5D=1.0&data%5Bitens%5D%5B1%5D=x&previous%5Bvalor%5D=1e2&unchanged%5B0%5D=xml&unchanged%5B1%5D=a.b&errors%5B0%5D=nasc`,
			`type=ping&timestamp=1970-01-01T00%3A00%3A00.000000Z&id=x&tenant=&sequence=&a=1&validationtoken=s3%22cr3t%26&data=`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			change := func(ep *endpoint.Endpoint) {
				ep.Format, ep.Extra, ep.StringNumbers = c.ep.Format, c.ep.Extra, c.ep.StringNumbers
			}
			full := sentBy(t, change, fullMessage())
			if diff := cmp.Diff(c.body, full.body); diff != "" {
				t.Error(diff)
			}
			if got := full.header.Get("Content-Type"); got != c.kind {
				t.Errorf("Content-Type %s, want %s", got, c.kind)
			}
			// An empty value that is not nil is what a database may give back.
			least := &webhook.Message{ID: "x", Type: "ping", Time: time.Unix(0, 0), Data: []byte{}, Previous: []byte{}, Unchanged: []byte{}, Errors: []byte{}}
			if diff := cmp.Diff(c.empty, sentBy(t, change, least).body); diff != "" {
				t.Errorf("least message: %s", diff)
			}
		})
	}
}

func TestReplaysSaySo(t *testing.T) {
	t.Parallel()
	m := message()
	m.Replay = true
	if h := sentBy(t, func(*endpoint.Endpoint) {}, m).header; h.Get("webhook-replay") != "true" || h.Get("webhook-id") != m.ID {
		t.Errorf("a replay: webhook-replay %q, webhook-id %q", h.Get("webhook-replay"), h.Get("webhook-id"))
	}
	if h := sentBy(t, func(*endpoint.Endpoint) {}, message()).header; h["Webhook-Replay"] != nil {
		t.Error("a first delivery says that it is a replay")
	}
	list := listBy(t, func(ep *endpoint.Endpoint) { ep.Batch.Max = 2 }, m, m)
	if list.header.Get("webhook-replay") != "true" {
		t.Error("a list of replays does not say so")
	}
}

// TestCloudEventsSDKReadsThem: structured, binary and in lists.
func TestCloudEventsSDKReadsThem(t *testing.T) {
	t.Parallel()
	odd := fullMessage()
	odd.Tenant, odd.Type = "São \"Paulo\" 100%\u0085", "pedido.alterado"
	odd.Previous = []byte("{\"a\":\n\"\u007f\ufffe\U0001fffe😀\"}")
	operational := &webhook.Message{ID: "0a1b2c3d-x", Type: "gancho.dead_letter", Time: time.Unix(1, 0), Data: []byte(`{"endpoint":"crm"}`)}
	extra := map[string]endpoint.Hidden{"validationtoken": "ção 50%", "region2": "br"}
	type attributes struct {
		ID, Source, Type, Time, Kind, Data string
		Extensions                         map[string]any
	}
	const fullID, fullSequence = "0a1b2c3d-001-0000000001a2b3c4-000000000000-0000", "001-0000000001a2b3c4-000000000000-0000"
	const at = "2026-03-01T12:30:15.00012Z"
	for name, c := range map[string]struct {
		m    *webhook.Message
		want attributes
	}{
		"full": {fullMessage(), attributes{fullID, "/gancho/0a1b2c3d", "cobranca.liquidada", at, "application/json", string(fullMessage().Data),
			map[string]any{"sequence": fullSequence, "tenant": "7", "previous": `{"valor":1e2}`, "unchanged": `["xml","a.b"]`, "op": "update", "errors": `["nasc"]`}}},
		"odd": {odd, attributes{fullID, "/gancho/0a1b2c3d", "pedido.alterado", at, "application/json", string(odd.Data),
			map[string]any{"sequence": fullSequence, "tenant": "São \"Paulo\" 100%\ufffd", "previous": `{"a": "\u007f\ufffe\ud83f\udffe😀"}`, "unchanged": `["xml","a.b"]`, "op": "update", "errors": `["nasc"]`}}},
		"operational": {operational, attributes{"0a1b2c3d-x", "/gancho", "gancho.dead_letter", "1970-01-01T00:00:01Z", "application/json",
			`{"endpoint":"crm"}`, map[string]any{}}},
	} {
		for _, format := range []endpoint.Format{endpoint.FormatCloudEvents, endpoint.FormatCloudEventsBinary} {
			t.Run(name+" "+format.String(), func(t *testing.T) {
				t.Parallel()
				r := sentBy(t, func(ep *endpoint.Endpoint) { ep.Format, ep.Extra = format, extra }, c.m)
				if format == endpoint.FormatCloudEventsBinary {
					decodeCloudHeaders(t, r.header)
				}
				event, err := cehttp.NewEventFromHTTPRequest(requestOf(t, r))
				if err != nil {
					t.Fatal(err)
				}
				if err := event.Validate(); err != nil {
					t.Error(err)
				}
				want := c.want
				want.Extensions = map[string]any{"validationtoken": "ção 50%", "region2": "br"}
				for k, v := range c.want.Extensions {
					want.Extensions[k] = v
				}
				got := attributes{event.ID(), event.Source(), event.Type(), event.Time().Format(time.RFC3339Nano), event.DataContentType(), string(event.Data()), event.Extensions()}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Error(diff)
				}
				if event.Subject() != "" {
					t.Error("the ordering key is sent")
				}
			})
		}
	}
	r := listBy(t, func(ep *endpoint.Endpoint) { ep.Format, ep.Extra, ep.Batch.Max = endpoint.FormatCloudEvents, extra, 10 }, fullMessage(), odd, operational)
	events, err := cehttp.NewEventsFromHTTPRequest(requestOf(t, r))
	if err != nil {
		t.Fatal(err)
	}
	if len(events) != 3 || events[1].Extensions()["tenant"] != "São \"Paulo\" 100%\ufffd" || events[2].Type() != "gancho.dead_letter" {
		t.Errorf("a list of three arrives as %v", events)
	}
	for _, e := range events {
		if err := e.Validate(); err != nil {
			t.Error(err)
		}
	}
}

// decodeCloudHeaders does what the HTTP binding asks of a receiver and the Go
// SDK leaves to its user: https://github.com/cloudevents/sdk-go/issues/1331
func decodeCloudHeaders(t *testing.T, h http.Header) {
	t.Helper()
	for name := range h {
		if !strings.HasPrefix(name, "Ce-") {
			continue
		}
		text := h.Get(name)
		if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '"' }) {
			t.Errorf("header %s: %q is not encoded", name, text)
		}
		decoded, err := url.PathUnescape(text)
		if err != nil {
			t.Errorf("header %s: %v", name, err)
		}
		h.Set(name, decoded)
	}
}

func requestOf(t *testing.T, r received) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://here/", strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = r.header
	return req
}

func TestLists(t *testing.T) {
	t.Parallel()
	var ms []*webhook.Message
	for i := range 3 {
		m := message()
		m.ID, m.Data = fmt.Sprintf("0a1b2c3d-%d", i), fmt.Appendf(nil, `{"id":%d}`, i)
		ms = append(ms, m)
	}
	standard := listBy(t, func(ep *endpoint.Endpoint) { ep.Batch.Max, ep.Secrets = 3, secrets(t, newerSecret) }, ms...)
	var envelopes []struct {
		ID   string
		Data json.RawMessage
	}
	if err := json.Unmarshal([]byte(standard.body), &envelopes); err != nil {
		t.Fatal(err)
	}
	for i, e := range envelopes {
		if e.ID != ms[i].ID || string(e.Data) != string(ms[i].Data) {
			t.Errorf("event %d of the list is %s %s", i, e.ID, e.Data)
		}
	}
	id := standard.header.Get("webhook-id")
	if len(envelopes) != 3 || !strings.HasPrefix(id, "list-") || len(id) != len("list-")+32 {
		t.Errorf("%d events under webhook-id %s", len(envelopes), id)
	}
	if err := webhook.Verify(secrets(t, newerSecret), standard.header, []byte(standard.body), time.Now()); err != nil {
		t.Error(err)
	}
	bare := func(ep *endpoint.Endpoint) { ep.Batch.Max, ep.Format = 3, endpoint.FormatBare }
	again := listBy(t, bare, ms...)
	if again.body != `[{"id":0},{"id":1},{"id":2}]` || again.header.Get("webhook-id") != id {
		t.Errorf("bare list %s under %s; want the id of the same events, %s", again.body, again.header.Get("webhook-id"), id)
	}
	if other := listBy(t, bare, ms[0], ms[1]).header.Get("webhook-id"); other == id {
		t.Error("another list has the same id")
	}
	if one := listBy(t, bare, ms[1]); one.body != `[{"id":1}]` || one.header.Get("webhook-id") != ms[1].ID {
		t.Errorf("a list of one is %s under %s", one.body, one.header.Get("webhook-id"))
	}
	sender := newSender(t, webhook.Options{})
	for _, format := range []endpoint.Format{endpoint.FormatForm, endpoint.FormatCloudEventsBinary} {
		ep := local("http://127.0.0.1:1")
		ep.Format = format
		if o := sender.SendList(t.Context(), ep, ms); o.Class != webhook.ClassConfig || !strings.Contains(o.Err.Error(), "no lists") {
			t.Errorf("%s: a list is sent: %s, %v", format, o.Class, o.Err)
		}
	}
	if o := sender.SendList(t.Context(), local("http://127.0.0.1:1"), nil); o.Class != webhook.ClassConfig || o.Kind != webhook.Retry {
		t.Errorf("an empty list: %v %s", o.Kind, o.Class)
	}
}

// randomJSON writes a random value in JSON's full syntax: escapes, blanks,
// long numbers. Its keys are unique even after PHP's changes.
func randomJSON(r *rand.Rand, dst []byte, depth int) []byte {
	pick := func(texts ...string) []byte { return append(dst, texts[r.IntN(len(texts))]...) }
	blank := func() { dst = pick("", "", "", " ", "\n\t", "\r ") }
	kind := r.IntN(9)
	if depth == 0 {
		kind = 2 + r.IntN(7)
	}
	switch kind {
	case 0, 1:
		opening, closing := byte('{'), byte('}')
		if kind == 1 {
			opening, closing = '[', ']'
		}
		dst = append(dst, opening)
		n := r.IntN(4)
		for i := range n {
			if i > 0 {
				dst = append(dst, ',')
			}
			blank()
			if kind == 0 {
				dst = append(dst, fmt.Sprintf(`"%c%s"`, 'a'+i, randomText(r))...)
				blank()
				dst = append(dst, ':')
			}
			blank()
			dst = randomJSON(r, dst, depth-1)
			blank()
		}
		if n == 0 {
			blank()
		}
		return append(dst, closing)
	case 2:
		return pick("null", "true", "false")
	case 3, 4, 5:
		return pick("0", "-0", "129.90", "1e5", "1E+400", "-12.50e-07", "123456789012345678901234567890.123456789")
	}
	return append(append(append(dst, '"'), randomText(r)...), '"')
}

// randomText is the inside of a JSON string.
func randomText(r *rand.Rand) string {
	parts := []string{"x", "7", " ", "[", "]", "a]b", "{", ",", ":", "&=+%", "ção", "😀", `\"`, `\\`, `\/`, `\b\f\n\r\t`, `\u00e9`, `\uD83D\uDE00`, `\ud83d`, `\u0000`, `\u0041`, "1.50", "-3"}
	var b strings.Builder
	for range r.IntN(4) {
		b.WriteString(parts[r.IntN(len(parts))])
	}
	return b.String()
}

// stringsForNumbers is the oracle: encoding/json with the numbers' own texts.
func stringsForNumbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		return v.String()
	case map[string]any:
		for k := range v {
			v[k] = stringsForNumbers(v[k])
		}
	case []any:
		for i := range v {
			v[i] = stringsForNumbers(v[i])
		}
	}
	return v
}

func decoded(t testing.TB, text []byte) (v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

func TestStringNumbersAreExact(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(4, 1))
	for range 5000 {
		text := randomJSON(r, nil, 4)
		got := webhook.AppendStringNumbers([]byte("x"), text)
		if diff := cmp.Diff(stringsForNumbers(decoded(t, text)), decoded(t, got[1:])); diff != "" {
			t.Fatalf("%s becomes %s:\n%s", text, got, diff)
		}
	}
}

// FuzzStringNumbers: what is JSON stays JSON and means the same; what is not
// does no harm.
func FuzzStringNumbers(f *testing.F) {
	for _, seed := range []string{`{"a":[1,-2.5e+7,"3\"4",null]}`, `"\\"`, `"`, `-`, `[1,`, "\"\\"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got := webhook.AppendStringNumbers(nil, text)
		if !json.Valid(text) {
			return
		}
		if diff := cmp.Diff(stringsForNumbers(decoded(t, text)), decoded(t, got)); diff != "" {
			t.Errorf("%s becomes %s:\n%s", text, got, diff)
		}
		if twice := webhook.AppendStringNumbers(nil, got); !slices.Equal(twice, got) {
			t.Errorf("%s becomes %s, and that %s", text, got, twice)
		}
	})
}

// TestBodiesSurviveJavaScript: with numbers: string, what JSON.parse and JSON.stringify make of a body is the body, so that receivers
// behind express.json() can verify it. With exact numbers it is not: 129.90 becomes 129.9.
func TestBodiesSurviveJavaScript(t *testing.T) {
	t.Parallel()
	m := fullMessage()
	var every strings.Builder
	for r := rune(0); r <= 0x2100; r++ {
		every.WriteRune(r)
	}
	m.Data = append(jsontext.AppendString([]byte(`{"texto":`), every.String()+"\U0001F600"), `,"id":12345678901234567890,"valor":129.90,"n":-1.5E+30,"lista":[1.0,{"a":0}],"nulo":null,"pago":true}`...)
	m.Type, m.Tenant = "ação\"\\/\u2028\x7f", "\u0001"
	var bodies []string
	for _, numbers := range []bool{true, false} {
		bodies = append(bodies, sentBy(t, func(ep *endpoint.Endpoint) {
			ep.StringNumbers, ep.Extra = numbers, map[string]endpoint.Hidden{"token": "</script>\u2029"}
		}, m).body)
	}
	bodies = append(bodies, sentBy(t, func(ep *endpoint.Endpoint) { ep.StringNumbers, ep.Format = true, endpoint.FormatBare }, m).body)
	if !strings.Contains(bodies[0], "\u2028") || !strings.Contains(bodies[0], "\u2029") {
		t.Error("U+2028 and U+2029 are escaped")
	}
	input, err := json.Marshal(bodies)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(string(runNode(t, "testdata/roundtrip.mjs", input))); got != "[true,false,true]" {
		t.Errorf("node: %s", got)
	}
}
