package examples_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
	"gancho/internal/control"
)

// delivery sends to one receiver, as the bridge does.
type delivery struct {
	t      *testing.T
	sender *webhook.Sender
	at     *process
	keys   []endpoint.Secret
	format endpoint.Format
	prefix string // of webhook-ids
}

func newDelivery(t *testing.T, at *process, keys ...endpoint.Secret) delivery {
	t.Helper()
	s := webhook.NewSender(webhook.Options{Version: "1.2.3"})
	t.Cleanup(s.Close)
	return delivery{t: t, sender: s, at: at, keys: keys, prefix: "0a1b2c3d-001-"}
}

// signedBy is the same with other keys of the sender.
func (d delivery) signedBy(keys ...endpoint.Secret) delivery {
	d.keys = keys
	return d
}

// message is the event number n, which is about this row.
func (d delivery) message(n int, event string, row any) *webhook.Message {
	id, err := json.Marshal(row)
	if err != nil {
		d.t.Fatal(err)
	}
	sequence := fmt.Sprintf("001-%016x-000000000000-0000", n)
	return &webhook.Message{
		ID: d.prefix + sequence[4:], Type: event, Tenant: "7", Sequence: sequence, Op: "update",
		Time: time.Date(2026, 11, 20, 12, 0, n%60, 120000, time.UTC),
		// Values that have been lost on the way: digits, control characters, ends of lines between tokens, what no char of Java holds.
		Data: fmt.Appendf(nil, "{\"id\":%s,\n\"valor\":12345678901234567.89, \"texto\":\"a\\tb\\n\\u0001\u2028ç😀\\ud83d\\ude00\",\"lista\":[1,{}],\"nulo\":null}", id),
	}
}

// send returns the status and the body of the answer.
func (d delivery) send(ms ...*webhook.Message) (int, string) {
	d.t.Helper()
	ep := &endpoint.Endpoint{
		Name: "crm", URL: d.at.url, AllowHTTP: true, AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Timeout: time.Minute, Secrets: d.keys, Format: d.format,
	}
	var o webhook.Outcome
	if len(ms) == 1 {
		o = d.sender.Send(d.t.Context(), ep, ms[0])
	} else {
		o = d.sender.SendList(d.t.Context(), ep, ms)
	}
	if o.Status == 0 {
		d.t.Fatalf("no answer: %v\n%s", o.Err, d.at.said)
	}
	return o.Status, string(o.Answer)
}

// wants sends, and compares what is answered, a line for each event.
func (d delivery) wants(what, answer string, ms ...*webhook.Message) {
	d.t.Helper()
	if status, got := d.send(ms...); status != http.StatusOK || got != answer+"\n" {
		d.t.Errorf("%s: answered %d %q, want 200 %q\n%s", what, status, got, answer+"\n", d.at.said)
	}
}

// refused sends, and compares the status.
func (d delivery) refused(what string, status int, ms ...*webhook.Message) {
	d.t.Helper()
	if got, answer := d.send(ms...); got != status {
		d.t.Errorf("%s: answered %d %q, want %d\n%s", what, got, answer, status, d.at.said)
	}
}

// replayed is the message as it comes when somebody asks for it.
func replayed(m *webhook.Message) *webhook.Message {
	again := *m
	again.Replay = true
	return &again
}

// TestReceivers sends the same requests to each receiver.
func TestReceivers(t *testing.T) {
	t.Parallel()
	for _, k := range kits() {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			dir := k.prepared(t)
			older, newer, strange := endpoint.GenerateSecret(), endpoint.GenerateSecret(), endpoint.GenerateSecret()
			keys := older.Reveal() + " " + newer.Reveal()
			d := newDelivery(t, k.start(t, dir, keys, "PHP_CLI_SERVER_WORKERS=4"), older)
			d.verifies(newer, strange)
			d.orders()
			d.closes()
			d.concurrent()
			// What was answered is there after a power cut, and what was cut in the middle of a line is not.
			d.at.kill(t)
			if k.lines {
				appendTo(t, filepath.Join(dir, "store"), "false\t{\"type\":\"cobranca.liquidada\",\"id\":\""+strings.Repeat("ça", 10_000))
			}
			d.at = k.start(t, dir, keys, "PHP_CLI_SERVER_WORKERS=4")
			d.wants("a repeat after a restart", "repeated", d.message(1, "cobranca.liquidada", 42))
			d.wants("an older event after a restart", "older", d.message(19, "cobranca.liquidada", 42))
			d.wants("a newer event after a restart", "applied", d.message(40, "cobranca.liquidada", 42))
			d.at.kill(t)
			d.at = k.start(t, dir, keys)
			d.wants("a repeat after two restarts", "repeated", d.message(40, "cobranca.liquidada", 42))
		})
	}
}

// verifies: one valid signature is enough, of either key, and nothing else is.
func (d delivery) verifies(newer, strange endpoint.Secret) {
	d.t.Helper()
	d.wants("an event", "applied", d.message(1, "cobranca.liquidada", 42))
	d.wants("the same again", "repeated", d.message(1, "cobranca.liquidada", 42))
	d.signedBy(newer, d.keys[0]).wants("while keys are rotated", "applied", d.message(2, "cobranca.liquidada", 42))
	d.signedBy(newer).wants("after the rotation", "applied", d.message(3, "cobranca.liquidada", 42))
	d.signedBy(strange, endpoint.GenerateSigningKey(), newer).wants("one of three signatures", "applied", d.message(4, "cobranca.liquidada", 42))

	d.signedBy(strange).refused("another's signature", http.StatusUnauthorized, d.message(5, "cobranca.liquidada", 42))
	d.signedBy(endpoint.GenerateSigningKey()).refused("another's v1a", http.StatusUnauthorized, d.message(5, "cobranca.liquidada", 42))
	d.signedBy().refused("no signature", http.StatusUnauthorized, d.message(5, "cobranca.liquidada", 42))
	d.wants("the same, signed", "applied", d.message(5, "cobranca.liquidada", 42)) // what was refused is not stored

	now := time.Now()
	good := `{"type":"cobranca.liquidada","id":"cru","timestamp":"2026-11-18T12:00:00.000000Z","data":{}}`
	for _, c := range []struct {
		what   string
		at     time.Time
		change func(*http.Request)
		body   string
		status int
	}{
		{"an old request", now.Add(-6 * time.Minute), nil, good, http.StatusUnauthorized},
		{"a request of the future", now.Add(6 * time.Minute), nil, good, http.StatusUnauthorized},
		{"a clock that is four minutes late", now.Add(4 * time.Minute), nil, good, http.StatusOK},
		{"another body", now, func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(good + " ")); r.ContentLength++ }, good, http.StatusUnauthorized},
		{"another id", now, func(r *http.Request) { r.Header.Set("webhook-id", "outro") }, good, http.StatusUnauthorized},
		{"no id", now, func(r *http.Request) { r.Header.Del("webhook-id") }, good, http.StatusUnauthorized},
		{"no timestamp", now, func(r *http.Request) { r.Header.Del("webhook-timestamp") }, good, http.StatusUnauthorized},
		{"a timestamp that is none", now, func(r *http.Request) { r.Header.Set("webhook-timestamp", "NaN") }, good, http.StatusUnauthorized},
		{"no JSON", now, nil, `{"type":`, http.StatusBadRequest},
		{"no event", now, nil, `["cobranca"]`, http.StatusBadRequest},
		{"null", now, nil, `null`, http.StatusBadRequest},
		{"an event without an id", now, nil, `{"type":"a","timestamp":"2026-11-18T12:00:00.000000Z"}`, http.StatusBadRequest},
		{"another path", now, func(r *http.Request) { r.URL.Path = "/outro" }, good, http.StatusNotFound},
		{"GET", now, func(r *http.Request) { r.Method, r.Body, r.ContentLength = http.MethodGet, nil, 0 }, good, http.StatusMethodNotAllowed},
	} {
		if status := d.post(c.at, c.body, c.change); status != c.status {
			d.t.Errorf("%s: answered %d, want %d\n%s", c.what, status, c.status, d.at.said)
		}
	}
	for _, garbage := range []string{"v1,", "v1,????", "v1", ",", " ", "v1a,AAAA", "v2,AAAA", "v1,çé"} {
		if status := d.post(now, good, func(r *http.Request) { r.Header.Set("webhook-signature", garbage) }); status != http.StatusUnauthorized {
			d.t.Errorf("the signature %q: answered %d", garbage, status)
		}
	}
	large := d.message(6, "cobranca.liquidada", 42)
	large.Data = []byte(`{"id":42,"texto":"` + strings.Repeat("ç\u2028", 1<<20) + `"}`)
	d.wants("five megabytes", "applied", large)
}

// post sends a request that the independent library of Standard Webhooks signs, and then is changed.
func (d delivery) post(at time.Time, body string, change func(*http.Request)) int {
	d.t.Helper()
	hook, err := standardwebhooks.NewWebhook(d.keys[0].Reveal())
	if err != nil {
		d.t.Fatal(err)
	}
	signature, err := hook.Sign("cru", at, []byte(body))
	if err != nil {
		d.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(d.t.Context(), http.MethodPost, d.at.url, bytes.NewReader([]byte(body)))
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("webhook-id", "cru")
	req.Header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	req.Header.Set("webhook-signature", signature)
	if change != nil {
		change(req)
	}
	answer, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		d.t.Fatalf("%v\n%s", err, d.at.said)
	}
	_, _ = io.Copy(io.Discard, answer.Body)
	_ = answer.Body.Close()
	return answer.StatusCode
}

// orders: of one row, an older event is not applied after a newer one.
func (d delivery) orders() {
	d.t.Helper()
	d.wants("the row's newer event", "applied", d.message(20, "cobranca.liquidada", 42))
	d.wants("its older event", "older", d.message(10, "cobranca.liquidada", 42))
	d.wants("an older event of another name, about the same row", "older", d.message(11, "cobranca.cancelada", 42))
	d.wants("of another row", "applied", d.message(12, "cobranca.liquidada", 43))
	d.wants("of another kind of row", "applied", d.message(13, "cliente.novo", 42))
	other := d.message(14, "cobranca.liquidada", 42)
	other.Tenant = "8"
	d.wants("of another tenant", "applied", other)
	d.wants("a key that is a text", "applied", d.message(15, "cobranca.liquidada", "4-2/ç"))
	ordered := d.message(16, "relatorio.pronto", nil)
	ordered.Data = []byte(`[1]`)
	d.wants("an event of no row", "applied", ordered)
	d.wants("on demand, the last event of its row", "applied", replayed(d.message(20, "cobranca.liquidada", 42)))
	d.wants("on demand, an older event", "older", replayed(d.message(10, "cobranca.liquidada", 42)))
	d.wants("a list", "repeated\napplied\nolder", d.message(20, "cobranca.liquidada", 42), d.message(21, "cobranca.liquidada", 42), d.message(18, "cobranca.liquidada", 42))
	d.wants("the list again", "repeated\nrepeated\nrepeated", d.message(20, "cobranca.liquidada", 42), d.message(21, "cobranca.liquidada", 42), d.message(18, "cobranca.liquidada", 42))
	ping := d.message(22, "ping", 42)
	ping.Sequence = ""
	d.wants("a ping", "taken", ping)
}

// closes: a closing is compared with what was received in the day, and a difference is named.
func (d delivery) closes() {
	d.t.Helper()
	zone := time.FixedZone("", -3*3600)
	closing := func(n int, day int, events map[string][]string) *webhook.Message {
		from := time.Date(2026, 11, day, 0, 0, 0, 0, zone)
		c := control.ClosingData{Endpoint: "crm", Day: endpoint.Day(from.Format(time.DateOnly)), From: from, To: from.AddDate(0, 0, 1), Complete: true, Events: []control.ClosingEvent{}}
		for event, ids := range events {
			slices.Sort(ids)
			digest := sha256.Sum256([]byte(strings.Join(ids, "\n")))
			c.Count += int64(len(ids))
			c.Events = append(c.Events, control.ClosingEvent{Event: event, Count: int64(len(ids)), Digest: hex.EncodeToString(digest[:])})
		}
		c.Complete = n != 107
		data, err := json.Marshal(c)
		if err != nil {
			d.t.Fatal(err)
		}
		return &webhook.Message{ID: fmt.Sprintf("fechamento-%d", n), Type: "gancho.closing", Time: c.To, Data: data}
	}
	at := func(n, day, hour int) *webhook.Message {
		m := d.message(n, "cobranca.liquidada", 50+n)
		m.Time = time.Date(2026, 11, day, hour, 0, 0, 0, zone)
		return m
	}
	// The day is that of the closing's zone: two of its events are of another day in UTC.
	first, second, last := at(50, 10, 0), at(51, 10, 12), at(52, 10, 23)
	d.wants("the day before", "applied", at(53, 9, 23))
	d.wants("the day after", "applied", at(54, 11, 0))
	first.ID, second.ID = "b-"+first.ID, "B-"+second.ID // sorted by their bytes, in no language's order, nor in that of their coming
	for _, m := range []*webhook.Message{last, first, second} {
		d.wants("an event of the day", "applied", m)
	}
	novel := d.message(55, "cliente.novo", 1)
	novel.Time = first.Time
	day := map[string][]string{"cobranca.liquidada": {first.ID, second.ID, last.ID}}
	d.wants("a closing", "closing 2026-11-10: agrees", closing(101, 10, day))
	d.wants("the closing again", "repeated", closing(101, 10, day))
	d.wants("a closing of a day without events", "closing 2026-11-05: agrees", closing(102, 5, nil))
	day["cliente.novo"] = []string{novel.ID}
	d.wants("a closing with an event that did not come", "closing 2026-11-10: cliente.novo: 1 sent, 0 received (0 on demand)", closing(103, 10, day))
	d.wants("it comes on demand", "applied", replayed(novel))
	d.wants("a closing with it", "closing 2026-11-10: agrees", closing(104, 10, day))
	delete(day, "cliente.novo")
	d.wants("a closing without it", "closing 2026-11-10: cliente.novo: 0 sent, 1 received (1 on demand)", closing(105, 10, day))
	day["cobranca.liquidada"] = []string{first.ID, second.ID, "outro"}
	d.wants("as many, and others", "closing 2026-11-10: cliente.novo: 0 sent, 1 received (1 on demand); cobranca.liquidada: 3 sent, 3 received (0 on demand)", closing(106, 10, day))
	d.wants("a closing that is not whole", "closing 2026-11-05: the sender's log is not whole", closing(107, 5, nil))
}

// concurrent: of the same event, sent over many connections, one is applied.
func (d delivery) concurrent() {
	d.t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	answers := map[string]int{}
	for range 16 {
		wg.Go(func() {
			status, answer := d.send(d.message(30, "cobranca.liquidada", 42))
			mu.Lock()
			defer mu.Unlock()
			answers[strconv.Itoa(status)+" "+answer]++
		})
	}
	wg.Wait()
	if answers["200 applied\n"] != 1 || answers["200 repeated\n"] != 15 {
		d.t.Errorf("sixteen times the same event: %v\n%s", answers, d.at.said)
	}
}

// TestReceiversFailure: an event whose apply fails is not answered 2xx, and is applied when it comes again, whether or not the program
// was started again meanwhile.
func TestReceiversFailure(t *testing.T) {
	t.Parallel()
	for _, k := range kits() {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			dir, secret := k.preparedWith(t, k.fails), endpoint.GenerateSecret()
			d := newDelivery(t, k.start(t, dir, secret.Reveal()), secret)
			d.wants("before", "applied", d.message(1, "cobranca.liquidada", 41))
			broken := filepath.Join(dir, "broken")
			if err := os.WriteFile(broken, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			ep := &endpoint.Endpoint{
				Name: "crm", URL: d.at.url, AllowHTTP: true, AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Timeout: time.Minute, Secrets: d.keys,
			}
			o := d.sender.Send(t.Context(), ep, d.message(2, "cobranca.liquidada", 42))
			if o.Kind == webhook.Delivered {
				t.Errorf("what could not be applied was answered %d %q", o.Status, o.Answer)
			}
			if o.Class == webhook.ClassTimeout { // it would take the event for a repeated one when it comes again
				t.Error("the program has neither answered nor ended")
			}
			if err := os.Remove(broken); err != nil {
				t.Fatal(err)
			}
			if o.Status == 0 { // the program has ended: whoever supervises it starts it again
				d.at.kill(t)
				d.at = k.start(t, dir, secret.Reveal())
			}
			d.wants("again", "applied", d.message(2, "cobranca.liquidada", 42))
			d.wants("what was applied before", "repeated", d.message(1, "cobranca.liquidada", 41))
		})
	}
}

// TestReceiversPublicKey: a receiver that has the public key verifies v1a.
func TestReceiversPublicKey(t *testing.T) {
	t.Parallel()
	for _, k := range kits() {
		if !k.asymmetric {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			key := endpoint.GenerateSigningKey()
			d := newDelivery(t, k.start(t, k.prepared(t), endpoint.GenerateSigningKey().Public()+" "+key.Public()), endpoint.GenerateSecret(), key)
			d.wants("v1a", "applied", d.message(1, "cobranca.liquidada", 42))
			d.signedBy(endpoint.GenerateSigningKey()).refused("another's v1a", http.StatusUnauthorized, d.message(2, "cobranca.liquidada", 42))
			d.signedBy(endpoint.GenerateSecret()).refused("another's v1", http.StatusUnauthorized, d.message(2, "cobranca.liquidada", 42))
		})
	}
}

// TestReceiversForgery: who knows the public key signs nothing with it, in no kit.
func TestReceiversForgery(t *testing.T) {
	t.Parallel()
	for _, k := range kits() {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			public, secret := endpoint.GenerateSigningKey().Public(), endpoint.GenerateSecret()
			d := newDelivery(t, k.start(t, k.prepared(t), public+" "+secret.Reveal()), secret)
			d.wants("the secret beside a public key", "applied", d.message(1, "cobranca.liquidada", 42))
			forged, err := endpoint.ParseSecret("whsec_" + strings.Replace(public, "_", "", 1)) // what a lenient decoder reads
			if err != nil {
				t.Fatal(err)
			}
			d.signedBy(forged).refused("a v1 of the public key", http.StatusUnauthorized, d.message(2, "cobranca.liquidada", 42))
		})
	}
}

// TestNodeDigits: a key that JavaScript would round to another row's is not taken.
func TestNodeDigits(t *testing.T) {
	t.Parallel()
	for _, k := range kits() {
		if k.name != "node" {
			continue
		}
		key := endpoint.GenerateSecret()
		d := newDelivery(t, k.start(t, k.prepared(t), key.Reveal()), key)
		d.refused("a key over 2^53", http.StatusInternalServerError, d.message(1, "cobranca.liquidada", json.Number("9007199254740993")))
		d.wants("the same as a text", "applied", d.message(1, "cobranca.liquidada", "9007199254740993"))
		return
	}
	t.Fatal("there is no kit for Node")
}

// TestPHPForms: the form is read like JSON, of any size; what PHP would cut is not answered as one that was taken.
func TestPHPForms(t *testing.T) {
	t.Parallel()
	for _, k := range kits() {
		if !k.forms {
			continue
		}
		run := k.run
		k.run = func(port string) []string {
			words := run(port)
			return slices.Insert(words, 1, "-d", "post_max_size=2K", "-d", "max_input_vars=50")
		}
		key, err := endpoint.ParseSecret("um-texto-como-segredo-de-32-bytes")
		if err != nil {
			t.Fatal(err)
		}
		d := newDelivery(t, k.start(t, k.prepared(t), key.Reveal()), key)
		text := strings.Repeat("x", 4<<10)
		large := d.message(1, "cobranca.liquidada", 42)
		large.Data = []byte(`{"id":42,"texto":"` + text + `"}`)
		d.wants("large JSON", "applied", large)
		bare := d
		bare.format = endpoint.FormatBare
		bare.refused("no event", http.StatusBadRequest, d.message(2, "cobranca.liquidada", 42))
		d.format = endpoint.FormatForm
		large.ID, large.Sequence = "grande", "001-0000000000000003"
		d.wants("a large form", "applied", large)
		d.wants("the form again", "repeated", large)
		many := d.message(4, "cobranca.liquidada", 43)
		many.Data = []byte(`{"id":43,"lista":[` + strings.Repeat("1,", 50) + `1]}`)
		d.refused("a form with too many fields", http.StatusInternalServerError, many)
		from := time.Date(2026, 11, 5, 0, 0, 0, 0, time.UTC)
		data, err := json.Marshal(control.ClosingData{Day: "2026-11-05", From: from, To: from.AddDate(0, 0, 1), Complete: true, Events: []control.ClosingEvent{}})
		if err != nil {
			t.Fatal(err)
		}
		d.wants("a closing as a form", "closing 2026-11-05: agrees", &webhook.Message{ID: "fechamento", Type: "gancho.closing", Time: from, Data: data})
		return
	}
	t.Fatal("no kit reads forms")
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
