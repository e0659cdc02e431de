package webhook_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
)

// chat returns an endpoint of the style at the address, with other settings as YAML.
func chat(t *testing.T, style, url, more string) *endpoint.Endpoint {
	t.Helper()
	ep, err := endpoint.Parse("chat", []byte("url: "+url+"\nallow_http: true\nallow_private: 127.0.0.0/8\nstyle: "+style+"\n"+more))
	if err != nil {
		t.Fatal(err)
	}
	ep.Name = "sala"
	return &ep
}

// chatMore is what a style needs beside its url.
func chatMore(style string) string {
	if style == "telegram" {
		return `extra: {chat_id: "-1001"}`
	}
	return ""
}

// chatStyles are those of chats.
func chatStyles() []string { return endpoint.Styles()[1:] }

func TestChatMessages(t *testing.T) {
	t.Parallel()
	m := fullMessage()
	m.Data = []byte(`{"id":42,"valor":129.90,"nome":"<@U1> & *Ana_*\nhttps://x.com/?a=b","nulo":null,"pago":true,"itens":["a"],"cliente":{"nome":"Ana","idade":1e2}}`)
	for _, c := range []struct{ style, more, want string }{
		{"slack", "", `{"text":"cobranca.liquidada\ntenant: 7\nid: 42\nvalor: 129.90\nnome: &lt;@U1&gt; &amp; *Ana_* https://x.com/?a=b\npago: true","mrkdwn":false,"unfurl_links":false,"unfurl_media":false}`},
		{"slack", "fields: [valor, cliente.nome, itens, nulo, falta.aqui]\nextra: {username: Gancho}", `{"text":"cobranca.liquidada\ntenant: 7\nvalor: 129.90\ncliente.nome: Ana\nitens: [\"a\"]\nnulo: –\nfalta.aqui: –","mrkdwn":false,"unfurl_links":false,"unfurl_media":false,"username":"Gancho"}`},
		{"discord", "", `{"content":"**cobranca.liquidada**\ntenant: 7\nid: 42\nvalor: 129.90\nnome: \\<\\@U1\\> & \\*Ana\\_\\* https\\://x.com/?a=b\npago: true","allowed_mentions":{"parse":[]},"flags":4}`},
		{"telegram", "extra: {chat_id: \"-1001\"}", `{"text":"cobranca.liquidada\ntenant: 7\nid: 42\nvalor: 129.90\nnome: <@` + "\u200b" + `U1> & *Ana_* https://x.com/?a=b\npago: true","link_preview_options":{"is_disabled":true},"chat_id":"-1001"}`},
		{"google_chat", "", "{\"text\":\"*cobranca.liquidada*\\ntenant: 7\\nid: 42\\nvalor: 129.90\\nnome: <\u200b@U1> & *Ana_* https://x.com/?a=b\\npago: true\"}"},
		{"teams", "fields: [valor]", `{"type":"message","attachments":[{"contentType":"application/vnd.microsoft.card.adaptive","content":{"$schema":"http://adaptivecards.io/schemas/adaptive-card.json","type":"AdaptiveCard","version":"1.2","body":[` +
			`{"type":"RichTextBlock","inlines":[{"type":"TextRun","weight":"Bolder","text":"cobranca.liquidada"}]},` +
			`{"type":"RichTextBlock","inlines":[{"type":"TextRun","weight":"Bolder","text":"tenant: "},{"type":"TextRun","text":"7"}]},` +
			`{"type":"RichTextBlock","inlines":[{"type":"TextRun","weight":"Bolder","text":"valor: "},{"type":"TextRun","text":"129.90"}]}]}}]}`},
	} {
		header, body := webhook.Draft(chat(t, c.style, "https://chat.example.com/x", c.more), m)
		if diff := cmp.Diff(c.want, string(body)); diff != "" {
			t.Errorf("%s -want +got:\n%s", c.style, diff)
		}
		if !json.Valid(body) || header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %s, valid: %t", c.style, header.Get("Content-Type"), json.Valid(body))
		}
	}
}

// What does not fit is cut: between characters, never within an escape, with an ellipsis.
func TestChatLimits(t *testing.T) {
	t.Parallel()
	limits := map[string]int{"slack": 4000, "discord": 2000, "telegram": 4096, "google_chat": 32000, "teams": 28 << 10}
	for _, style := range chatStyles() {
		for _, value := range []string{"a", "&<*", "\"\\\u0001", "😀", "\xff"} {
			m := fullMessage()
			quoted, _ := json.Marshal(strings.Repeat(value, 40000/len(value)))
			m.Data = []byte(`{"grande":` + string(quoted) + `,"outro":` + string(quoted) + `,"fim":1}`)
			m.Type = strings.Repeat("evento.", 100)
			_, body := webhook.Draft(chat(t, style, "https://chat.example.com/x", chatMore(style)), m)
			var told struct{ Text, Content string }
			if err := json.Unmarshal(body, &told); err != nil {
				t.Fatalf("%s of %q: %v", style, value, err)
			}
			text := told.Text + told.Content
			size := len(utf16.Encode([]rune(text)))
			if style == "google_chat" || style == "teams" {
				size = len(body)
			}
			if size > limits[style] || size < limits[style]*6/10 {
				t.Errorf("%s of %q: %d, at most %d fit", style, value, size, limits[style])
			}
			if !strings.Contains(string(body), "…") || strings.HasSuffix(text, "\\…") || strings.HasSuffix(strings.TrimSuffix(text, "\n…"), "&l…") {
				t.Errorf("%s of %q ends with %q", style, value, text[max(0, len(text)-20):])
			}
		}
	}
}

func TestChatAnswers(t *testing.T) {
	t.Parallel()
	type header = map[string]string
	for _, c := range []struct {
		style  string
		status int
		header header
		body   string
		kind   webhook.OutcomeKind
		class  string
		wait   time.Duration
		path   string
	}{
		{"slack", 200, nil, "ok", webhook.Delivered, webhook.ClassOK, 0, ""},
		{"slack", 200, nil, "<html>", webhook.Retry, webhook.ClassBody, 0, ""},
		{"slack", 429, header{"Retry-After": "30"}, "", webhook.Retry, webhook.ClassStatus, 30 * time.Second, ""},
		{"slack", 404, nil, "no_service", webhook.Gone, webhook.ClassStatus, 0, ""},
		{"slack", 404, nil, "channel_not_found", webhook.Gone, webhook.ClassStatus, 0, ""},
		{"slack", 404, nil, "no_active_hooks\n", webhook.Gone, webhook.ClassStatus, 0, ""},
		{"slack", 404, nil, "<html>", webhook.Refused, webhook.ClassStatus, 0, ""},
		{"slack", 403, nil, "action_prohibited", webhook.Refused, webhook.ClassStatus, 0, ""},
		{"slack", 410, nil, "channel_is_archived", webhook.Gone, webhook.ClassStatus, 0, ""},
		{"discord", 204, nil, "", webhook.Delivered, webhook.ClassOK, 0, ""},
		{"discord", 429, nil, `{"message":"You are being rate limited.","retry_after":1.25,"global":false}`, webhook.Retry, webhook.ClassStatus, 1250 * time.Millisecond, ""},
		{"discord", 429, header{"Retry-After": "1250", "X-RateLimit-Reset-After": "1.25"}, `{"retry_after":1250}`, webhook.Retry, webhook.ClassStatus, 1250 * time.Millisecond, ""},
		// The documentation's example of a limit that others share, and that of the global one, which has no bucket.
		{"discord", 429, header{"Retry-After": "1337", "X-RateLimit-Reset-After": "64.57", "X-RateLimit-Scope": "shared"}, `{"retry_after":1336.57}`, webhook.Retry, webhook.ClassStatus, 1336570 * time.Millisecond, "/api/v10/webhooks/1/x"},
		{"discord", 429, header{"Retry-After": "65", "X-RateLimit-Global": "true"}, `{"retry_after":64.57,"global":true}`, webhook.Retry, webhook.ClassStatus, 64570 * time.Millisecond, "/api/v10/webhooks/1/x"},
		{"discord", 429, header{"Retry-After": "64570", "X-RateLimit-Global": "true"}, `{"retry_after":64570,"global":true}`, webhook.Retry, webhook.ClassStatus, 64570 * time.Millisecond, "/api/webhooks/1/x"},
		{"discord", 429, nil, `{"retry_after":65}`, webhook.Retry, webhook.ClassStatus, 65 * time.Second, "/api/v8/webhooks/1/x"},
		{"discord", 429, header{"Retry-After": "2"}, `error code: 1015`, webhook.Retry, webhook.ClassStatus, 2 * time.Second, ""},
		{"discord", 429, nil, `{"retry_after":1e300}`, webhook.Retry, webhook.ClassStatus, 24 * time.Hour, ""},
		{"discord", 404, nil, `{"message":"Unknown Webhook","code":10015}`, webhook.Gone, webhook.ClassStatus, 0, ""},
		{"discord", 404, nil, `{"message":"Unknown Channel","code":10003}`, webhook.Gone, webhook.ClassStatus, 0, ""},
		{"telegram", 200, nil, `{"ok":true,"result":{}}`, webhook.Delivered, webhook.ClassOK, 0, ""},
		{"telegram", 200, nil, `{"ok":false}`, webhook.Retry, webhook.ClassBody, 0, ""},
		{"telegram", 429, nil, `{"ok":false,"error_code":429,"parameters":{"retry_after":35}}`, webhook.Retry, webhook.ClassStatus, 35 * time.Second, ""},
		{"telegram", 429, nil, `{"ok":false,"parameters":{"retry_after":9223372036854775807}}`, webhook.Retry, webhook.ClassStatus, 24 * time.Hour, ""},
		{"telegram", 400, nil, `{"ok":false,"error_code":400,"description":"Bad Request: group chat was upgraded to a supergroup chat","parameters":{"migrate_to_chat_id":-1001234567890}}`, webhook.Gone, webhook.ClassStatus, 0, ""},
		{"telegram", 400, nil, `{"ok":false,"error_code":400,"description":"Bad Request: chat not found"}`, webhook.Refused, webhook.ClassStatus, 0, ""},
		{"telegram", 403, nil, `{"ok":false,"error_code":403}`, webhook.Refused, webhook.ClassStatus, 0, ""},
		{"google_chat", 200, nil, `{"name":"spaces/A/messages/B"}`, webhook.Delivered, webhook.ClassOK, 0, ""},
		{"google_chat", 429, nil, `{"error":{"code":429}}`, webhook.Retry, webhook.ClassStatus, 0, ""},
		{"teams", 202, nil, "", webhook.Delivered, webhook.ClassOK, 0, ""},
		{"teams", 200, nil, "1", webhook.Delivered, webhook.ClassOK, 0, ""},
		{"teams", 200, nil, "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429 with ContextId x", webhook.Retry, webhook.ClassBody, 0, ""},
		{"teams", 404, nil, "no_service", webhook.Refused, webhook.ClassStatus, 0, ""},
	} {
		var got http.Header
		url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			got = r.Header
			for name, v := range c.header {
				w.Header().Set(name, v)
			}
			w.WriteHeader(c.status)
			_, _ = w.Write([]byte(c.body))
		}))
		o := newSender(t, webhook.Options{}).Send(t.Context(), chat(t, c.style, url+c.path, chatMore(c.style)), message())
		if o.Kind != c.kind || o.Class != c.class || o.RetryAfter != c.wait {
			t.Errorf("%s, %d %s: %s of class %s, wait %s, want %s, %s, %s", c.style, c.status, c.body, o.Kind, o.Class, o.RetryAfter, c.kind, c.class, c.wait)
		}
		if o.Err != nil && (c.body != "" && strings.Contains(o.Err.Error(), c.body)) {
			t.Errorf("%s: the error repeats the answer: %v", c.style, o.Err)
		}
		for _, name := range []string{endpoint.HeaderID, endpoint.HeaderTimestamp, endpoint.HeaderSignature} {
			if got.Get(name) != "" {
				t.Errorf("%s: a chat gets the header %s", c.style, name)
			}
		}
	}
}

// Discord says that it has saved a message only to who waits for it.
func TestDiscordIsWaitedFor(t *testing.T) {
	t.Parallel()
	queries := make(chan string, 1)
	url := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { queries <- r.URL.RawQuery }))
	sender := newSender(t, webhook.Options{})
	for given, want := range map[string]string{
		"": "wait=true", "?": "wait=true", "?thread_id=1": "thread_id=1&wait=true", "?wait=false": "wait=false", "?waits=1&k={type}": "waits=1&k=cobranca.liquidada&wait=true",
	} {
		ep := chat(t, "discord", "'"+url+"/api/webhooks/1/x"+given+"'", "")
		for name, send := range map[string]func(){
			"sent":   func() { mustDeliver(t, sender.Send(t.Context(), ep, message())) },
			"probed": func() { sender.Probe(t.Context(), ep, message()) },
		} {
			send()
			if got := <-queries; got != want {
				t.Errorf("%q is %s as %q, want %q", given, name, got, want)
			}
		}
		if strings.Contains(string(ep.Document()), "wait=true") {
			t.Errorf("the document has another url: %s", ep.Document())
		}
	}
	for settings, want := range map[string]string{
		"success: {status: 204}": "", "success: {status: [204, 201-203]}": "", "success: {body: '^$'}": "",
		"success: {status: [200, 204]}": "wait=true", "success: {status: 200-299}": "wait=true", "success: {body: '.*'}": "wait=true", `success: {body: '^(\{.*)?$'}`: "wait=true", "success: {body: '\"id\"'}": "wait=true",
	} {
		ep := chat(t, "discord", url, settings)
		sender.Send(t.Context(), ep, message())
		if got := <-queries; got != want {
			t.Errorf("%s: asked for %q, want %q", settings, got, want)
		}
	}
	if ep := chat(t, "slack", url, ""); !ep.QueryTemplate().Fixed() || len(ep.QueryTemplate().Texts()) != 0 {
		t.Error("Slack gets a query")
	}
}

// The address of a chat is its credential: no list, audit row, error or kept answer has it.
func TestChatAddresses(t *testing.T) {
	t.Parallel()
	for style, c := range map[string]struct{ path, shown string }{
		"slack":       {"/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX", "/services/***"},
		"discord":     {"/api/webhooks/1100000000000000001/Kv3ySecretSecretSecret", "/api/***"},
		"telegram":    {"/bot110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw/sendMessage", "/***"},
		"google_chat": {"/v1/spaces/AAAA/messages?key=AIzaSySecretSecret&token=TokenSecretSecret", "/v1/***?key=***&token=***"},
		"teams":       {"/workflows/0123456789abcdef0123456789abcdef/triggers/manual/paths/invoke?api-version=2016-06-01&sig=SecretSecretSecret", "/workflows/***?api-version=***&sig=***"},
	} {
		url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte("nothing at " + r.URL.RequestURI()))
		}))
		ep := chat(t, style, url+c.path, chatMore(style))
		if want := url + c.shown; endpoint.MaskURL(ep.URL) != want || !strings.Contains(string(ep.Public()), want) {
			t.Errorf("%s is shown as %s in %s, want %s", style, endpoint.MaskURL(ep.URL), ep.Public(), want)
		}
		o := newSender(t, webhook.Options{}).Send(t.Context(), ep, message())
		for _, secret := range []string{"XXXXXXXXXXXX", "Kv3y", "AAHdq", "AIzaSy", "TokenSecret", "0123456789abcdef", "SecretSecretSecret"} {
			if strings.Contains(string(o.Answer), secret) || strings.Contains(o.Err.Error(), secret) || strings.Contains(string(ep.Public()), secret) {
				t.Errorf("%s: %s is in %s, %v or %s", style, secret, o.Answer, o.Err, ep.Public())
			}
		}
	}
}

// People read the title of an event; where the rules have none, its name.
func TestChatTitles(t *testing.T) {
	t.Parallel()
	var got struct{ Text string }
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		_, _ = w.Write([]byte("ok"))
	}))
	titles := map[string]string{"cobranca.liquidada": "Cobrança liquidada <hoje>"}
	sender := newSender(t, webhook.Options{Title: func(event string) string { return titles[event] }})
	m := fullMessage()
	m.Data = []byte(`{"valor":1}`)
	ep := chat(t, "slack", url, "")
	for title, want := range map[string]string{"cobranca.liquidada": "Cobrança liquidada &lt;hoje&gt;\ntenant: 7\nvalor: 1", "sem.titulo": "sem.titulo\ntenant: 7\nvalor: 1"} {
		m.Type = title
		for name, send := range map[string]func(){
			"sent":   func() { sender.Send(t.Context(), ep, m) },
			"probed": func() { sender.Probe(t.Context(), ep, m) },
		} {
			got.Text = ""
			if send(); got.Text != want {
				t.Errorf("%s is %s as %q, want %q", title, name, got.Text, want)
			}
		}
		if m.Title != "" {
			t.Error("the message was changed, which others have, too")
		}
	}
}
