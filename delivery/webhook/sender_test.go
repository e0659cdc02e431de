package webhook_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"

	"github.com/google/go-cmp/cmp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const (
	newerSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwC5IZ6F3Yk0A="
	olderSecret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	rawSecret   = "segredo combinado por telefone"
)

// loopback are the networks of the test receivers.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

func secrets(t testing.TB, texts ...string) []endpoint.Secret {
	t.Helper()
	var list []endpoint.Secret
	for _, text := range texts {
		s, err := endpoint.ParseSecret(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	return list
}

func newSender(t testing.TB, o webhook.Options) *webhook.Sender {
	t.Helper()
	o.Version = "1.2.3"
	s := webhook.NewSender(o)
	t.Cleanup(s.Close)
	return s
}

func local(url string) *endpoint.Endpoint {
	return &endpoint.Endpoint{Name: "crm", URL: url, AllowHTTP: true, AllowPrivate: loopback, Timeout: 20 * time.Second}
}

func message() *webhook.Message {
	return &webhook.Message{
		ID: "legado-01-0000000001a2b3c4-000000-0", Type: "cobranca.liquidada", Tenant: "7", Key: "42",
		Time:     time.Date(2026, 3, 1, 9, 30, 15, 120000, time.FixedZone("", -3*3600)),
		Sequence: "01-0000000001a2b3c4-000000-0", Data: []byte(`{"id":42,"valor":129.90}`), Version: "ab12",
	}
}

// received is a request as a receiver saw it.
type received struct {
	header http.Header
	body   string
	proto  string
}

// collect is a handler that answers 204 and hands on what it got.
func collect(got chan<- received) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		got <- received{r.Header, string(body), r.Proto}
		w.WriteHeader(http.StatusNoContent)
	}
}

func serve(t testing.TB, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

func mustDeliver(t *testing.T, o webhook.Outcome) {
	t.Helper()
	if o.Kind != webhook.Delivered || o.Class != webhook.ClassOK || o.Err != nil {
		t.Fatalf("outcome %v, class %s, error %v; want delivered", o.Kind, o.Class, o.Err)
	}
}

func TestRequestIsWhatTheFormatSays(t *testing.T) {
	t.Parallel()
	full := message()
	full.Previous, full.Unchanged = []byte(`{"valor":1}`), []byte(`["xml"]`)
	odd := message()
	odd.Tenant, odd.Type, odd.Data = "", "a\"\\\n\x00ção\xff", nil
	for name, c := range map[string]struct {
		format endpoint.Format
		m      *webhook.Message
		want   string
	}{
		"standard": {endpoint.FormatStandard, message(),
			`{"type":"cobranca.liquidada","timestamp":"2026-03-01T12:30:15.000120Z","id":"legado-01-0000000001a2b3c4-000000-0","tenant":"7",` +
				`"sequence":"01-0000000001a2b3c4-000000-0","data":{"id":42,"valor":129.90}}`},
		"standard, everything": {endpoint.FormatStandard, full,
			`{"type":"cobranca.liquidada","timestamp":"2026-03-01T12:30:15.000120Z","id":"legado-01-0000000001a2b3c4-000000-0","tenant":"7",` +
				`"sequence":"01-0000000001a2b3c4-000000-0","data":{"id":42,"valor":129.90},"previous":{"valor":1},"unchanged":["xml"]}`},
		"standard, odd": {endpoint.FormatStandard, odd,
			`{"type":"a\"\\\n\u0000ção\ufffd","timestamp":"2026-03-01T12:30:15.000120Z","id":"legado-01-0000000001a2b3c4-000000-0","tenant":null,` +
				`"sequence":"01-0000000001a2b3c4-000000-0","data":null}`},
		"bare":       {endpoint.FormatBare, full, `{"id":42,"valor":129.90}`},
		"bare, none": {endpoint.FormatBare, odd, `null`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := make(chan received, 1)
			ep := local(serve(t, collect(got)))
			ep.Format = c.format
			mustDeliver(t, newSender(t, webhook.Options{}).Send(t.Context(), ep, c.m))
			body := (<-got).body
			if diff := cmp.Diff(c.want, body); diff != "" {
				t.Error(diff)
			}
			if !json.Valid([]byte(body)) {
				t.Error("the body is not JSON")
			}
		})
	}
}

func TestRequestHeaders(t *testing.T) {
	t.Parallel()
	got := make(chan received, 1)
	ep := local(strings.Replace(serve(t, collect(got)), "http://", "http://ana:s%3Ae@", 1) + "/hook?token=x#there")
	ep.Headers = endpoint.HeadersOf(map[string]endpoint.Hidden{"x-api-key": "k"})
	mustDeliver(t, newSender(t, webhook.Options{}).Send(t.Context(), ep, message()))
	r := <-got
	stamp := r.header.Get("webhook-timestamp")
	delete(r.header, "Webhook-Timestamp")
	want := http.Header{
		"User-Agent": {"Gancho/1.2.3"}, "Content-Type": {"application/json"}, "Webhook-Id": {message().ID},
		"Authorization": {"Basic YW5hOnM6ZQ=="}, "X-Api-Key": {"k"}, "Content-Length": {r.header.Get("Content-Length")},
	}
	if diff := cmp.Diff(want, r.header); diff != "" {
		t.Errorf("headers without a secret (want -, got +):\n%s", diff)
	}
	if len(stamp) != 10 {
		t.Errorf("webhook-timestamp %q is not in seconds", stamp)
	}
}

func TestSignaturesVerifyWithTheStandardLibrary(t *testing.T) {
	t.Parallel()
	got := make(chan received, 1)
	ep := local(serve(t, collect(got)))
	ep.Secrets = secrets(t, newerSecret, olderSecret, rawSecret)
	sender := newSender(t, webhook.Options{})
	for range 3 { // the hashes are used again
		mustDeliver(t, sender.Send(t.Context(), ep, message()))
		r := <-got
		signatures := strings.Split(r.header.Get("webhook-signature"), " ")
		if len(signatures) != 3 {
			t.Fatalf("%d signatures, want one for each of three secrets", len(signatures))
		}
		for i, secret := range []string{newerSecret, olderSecret, ep.Secrets[2].Reveal()} { // the last of a text, as people are shown it
			hook, err := standardwebhooks.NewWebhook(secret)
			if err != nil {
				t.Fatal(err)
			}
			alone := r.header.Clone()
			alone.Set("webhook-signature", signatures[i])
			for _, h := range []http.Header{r.header, alone} {
				if err := hook.Verify([]byte(r.body), h); err != nil {
					t.Errorf("secret %d: %v", i, err)
				}
			}
			if hook.Verify([]byte(r.body+" "), r.header) == nil {
				t.Errorf("secret %d verifies another body", i)
			}
		}
	}
}

func TestVerifyAgreesWithTheStandardLibrary(t *testing.T) {
	t.Parallel()
	hook, err := standardwebhooks.NewWebhook(newerSecret)
	if err != nil {
		t.Fatal(err)
	}
	now, body := time.Now(), []byte(`{"a":1}`)
	signed := func(at time.Time) http.Header {
		signature, err := hook.Sign("id-1", at, body)
		if err != nil {
			t.Fatal(err)
		}
		h := http.Header{}
		h.Set("webhook-id", "id-1")
		h.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
		h.Set("webhook-signature", "v1a,xyz "+signature)
		return h
	}
	unsigned := signed(now)
	unsigned.Del("webhook-signature")
	other := signed(now)
	other.Set("webhook-id", "id-2")
	for name, c := range map[string]struct {
		header http.Header
		keys   []string
		want   error
	}{
		"good":           {signed(now), []string{newerSecret}, nil},
		"second secret":  {signed(now), []string{olderSecret, newerSecret}, nil},
		"another secret": {signed(now), []string{olderSecret}, webhook.ErrSignature},
		"another id":     {other, []string{newerSecret}, webhook.ErrSignature},
		"unsigned":       {unsigned, []string{newerSecret}, webhook.ErrNotSigned},
		"old":            {signed(now.Add(-6 * time.Minute)), []string{newerSecret}, webhook.ErrTimestamp},
		"early":          {signed(now.Add(6 * time.Minute)), []string{newerSecret}, webhook.ErrTimestamp},
	} {
		if err := webhook.Verify(secrets(t, c.keys...), c.header, body, now); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestConnectionsAreKept(t *testing.T) {
	t.Parallel()
	const concurrency = 24
	var opened, inside atomic.Int64
	all := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if inside.Add(1) == concurrency {
			close(all) // every connection is in use at once
		}
		<-all
		_, _ = io.WriteString(w, strings.Repeat("x", 60<<10)) // more than is kept, less than is read
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	ep, sender := local(server.URL), newSender(t, webhook.Options{})
	for range 4 {
		var group sync.WaitGroup
		for range concurrency {
			group.Go(func() {
				if o := sender.Send(t.Context(), ep, message()); o.Kind != webhook.Delivered || len(o.Answer) != 16<<10 {
					t.Errorf("%v, %d bytes kept, %v; want delivered, 16 KiB", o.Kind, len(o.Answer), o.Err)
				}
			})
		}
		group.Wait()
	}
	if n := opened.Load(); n != concurrency {
		t.Errorf("%d connections for %d requests in flight", n, concurrency)
	}
}

func TestHTTP2(t *testing.T) {
	t.Parallel()
	got := make(chan received, 256)
	server := httptest.NewUnstartedServer(collect(got))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // connections that were begun and not needed
	server.StartTLS()
	t.Cleanup(server.Close)
	ep := local(server.URL)
	ep.AllowHTTP = false
	sender := newSender(t, webhook.Options{RootCAs: roots(server)})
	var group sync.WaitGroup
	for range 100 {
		group.Go(func() { mustDeliverAsync(t, sender.Send(t.Context(), ep, message())) })
	}
	group.Wait()
	for range 100 {
		r := <-got
		if r.proto != "HTTP/2.0" || !strings.Contains(r.body, `"valor":129.90`) {
			t.Fatalf("%s, body %s", r.proto, r.body)
		}
	}
}

// TestMessageIsFreeAfterSend: the receiver answers before it has read the
// body, so that the transport still writes when Send returns and the message
// is overwritten.
func TestMessageIsFreeAfterSend(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		bad := make(chan string, 1)
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			control := http.NewResponseController(w)
			_ = control.EnableFullDuplex() // HTTP/2 has it anyway
			w.WriteHeader(http.StatusOK)
			_ = control.Flush()
			body, err := io.ReadAll(r.Body)
			fill := strings.TrimPrefix(r.Header.Get("webhook-id"), "id-")
			if err == nil && strings.Trim(string(body), `"`+fill) != "" {
				select {
				case bad <- "message " + fill + " arrived with another's bytes":
				default:
				}
			}
		}))
		server.EnableHTTP2 = http2
		server.Config.ErrorLog = log.New(io.Discard, "", 0) // connections that were begun and not needed
		server.StartTLS()
		t.Cleanup(server.Close)
		ep := local(server.URL)
		ep.Format = endpoint.FormatBare
		sender := newSender(t, webhook.Options{RootCAs: roots(server)})
		var group sync.WaitGroup
		for worker := range 8 {
			group.Go(func() {
				fill := string(rune('a' + worker))
				m := message()
				m.ID = "id-" + fill
				for range 4 {
					m.Data = []byte(`"` + strings.Repeat(fill, 150<<10) + `"`)
					if o := sender.Send(t.Context(), ep, m); o.Status != http.StatusOK {
						t.Errorf("outcome %v %s: %v", o.Kind, o.Class, o.Err)
					}
					clear(m.Data) // the sender must have its own copy
				}
			})
		}
		group.Wait()
		select {
		case text := <-bad:
			t.Errorf("http2 %v: %s", http2, text)
		default:
		}
	}
}

// TestEndpointsWithMistakesAreNotSentTo: an endpoint built in code may be wrong.
func TestEndpointsWithMistakesAreNotSentTo(t *testing.T) {
	t.Parallel()
	sender := newSender(t, webhook.Options{})
	for _, ep := range []endpoint.Endpoint{
		{URL: "http://crm.example.com/s3cr3t"},
		{URL: "https://crm.example.com:port/s3cr3t"},
		{URL: "https://e.com", Headers: endpoint.HeadersOf(map[string]endpoint.Hidden{"webhook-id": "x"})},
		{URL: "https://e.com", Success: endpoint.Success{Body: "("}},
	} {
		ep.Name = "crm"
		o := sender.Send(t.Context(), &ep, message())
		if o.Class != webhook.ClassConfig || o.Kind != webhook.Retry || o.Err == nil || strings.Contains(o.Err.Error(), "s3cr3t") {
			t.Errorf("%s: sent nevertheless: %v %s: %v", ep.URL, o.Kind, o.Class, o.Err)
		}
	}
}

func mustDeliverAsync(t *testing.T, o webhook.Outcome) {
	if o.Kind != webhook.Delivered {
		t.Errorf("outcome %v %s: %v", o.Kind, o.Class, o.Err)
	}
}

// TestReloadedEndpointsAreForgotten: each reload of the configuration brings
// new Endpoint values, and the sender must not keep all of them for ever.
func TestReloadedEndpointsAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sender := newSender(t, webhook.Options{})
		ended, cancel := context.WithCancel(t.Context())
		cancel() // nothing goes over the network
		for round := range 5 {
			for i := range 3 {
				ep := local("https://crm.example.com")
				ep.AllowPrivate = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(round), byte(i)}), 24)}
				sender.Send(ended, ep, message())
			}
			<-time.After(2 * time.Hour)
		}
		sender.Send(ended, local("https://crm.example.com"), message())
		if targets, pools := sender.PreparedEndpoints(), sender.Pools(); targets != 1 || pools != 1 {
			t.Errorf("%d endpoints and %d pools remembered, want the one in use", targets, pools)
		}
	})
}
