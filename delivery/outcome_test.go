package delivery_test

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"gancho/delivery"
)

// TestEveryStatus plays each status from 100 to 599 that can be a final answer.
func TestEveryStatus(t *testing.T) {
	t.Parallel()
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(r.URL.Query().Get("status"))
		w.WriteHeader(status)
	}))
	sender := newSender(t, delivery.SenderOptions{})
	for status := 200; status <= 599; status++ {
		w := want{delivery.Retry, status, delivery.ClassStatus, "answered " + strconv.Itoa(status)}
		switch {
		case status < 300:
			w.kind, w.class = delivery.Delivered, delivery.ClassOK
		case status == 410:
			w.kind = delivery.Gone
		case status == 408 || status == 425 || status == 429:
		case status/100 == 4:
			w.kind = delivery.Refused
		}
		check(t, sender.Send(t.Context(), local(url+"?status="+strconv.Itoa(status)), message()), w)
	}
}

// TestInterimAnswers: 1xx come before the answer and are not one.
func TestInterimAnswers(t *testing.T) {
	t.Parallel()
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for _, status := range []int{100, 102, 103} {
			w.WriteHeader(status)
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	check(t, newSender(t, delivery.SenderOptions{}).Send(t.Context(), local(url), message()), want{delivery.Delivered, 202, delivery.ClassOK, ""})
}

func TestSuccessRule(t *testing.T) {
	t.Parallel()
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(r.URL.Query().Get("status"))
		w.WriteHeader(status)
		_, _ = io.WriteString(w, r.URL.Query().Get("body")) // refused for 204
		_, _ = io.WriteString(w, strings.Repeat(" ", 20<<10)+"the end")
	}))
	sender := newSender(t, delivery.SenderOptions{})
	superlogica := `"status"\s*:\s*"?200"?`
	for name, c := range map[string]struct {
		rule   delivery.Success
		status int
		body   string
		want   want
	}{
		"only 200":               {delivery.Success{Status: [][2]int{{200, 200}}}, 200, "", want{delivery.Delivered, 200, "ok", ""}},
		"only 200, 202":          {delivery.Success{Status: [][2]int{{200, 200}}}, 202, "", want{delivery.Retry, 202, "status", "success rule does not count"}},
		"several":                {delivery.Success{Status: [][2]int{{200, 299}, {404, 404}, {409, 409}}}, 409, "", want{delivery.Delivered, 409, "ok", ""}},
		"several, none":          {delivery.Success{Status: [][2]int{{200, 299}, {404, 404}}}, 403, "", want{delivery.Refused, 403, "status", "403"}},
		"gone is done":           {delivery.Success{Status: [][2]int{{410, 410}}}, 410, "", want{delivery.Delivered, 410, "ok", ""}},
		"a redirect is done":     {delivery.Success{Status: [][2]int{{302, 302}}}, 302, "", want{delivery.Delivered, 302, "ok", ""}},
		"body":                   {delivery.Success{Body: superlogica}, 200, `{"status": 200}`, want{delivery.Delivered, 200, "ok", ""}},
		"body as text":           {delivery.Success{Body: superlogica}, 200, `{"status":"200"}`, want{delivery.Delivered, 200, "ok", ""}},
		"body says no":           {delivery.Success{Body: superlogica}, 200, `{"status":500,"msg":"s3cr3t"}`, want{delivery.Retry, 200, "body", "answered 200 with a body that does not match"}},
		"body, with 500":         {delivery.Success{Body: superlogica}, 500, `{"status":200}`, want{delivery.Retry, 500, "status", "500"}},
		"body, with 400":         {delivery.Success{Body: superlogica}, 400, `{"status":200}`, want{delivery.Refused, 400, "status", "400"}},
		"body, none":             {delivery.Success{Body: superlogica}, 204, "", want{delivery.Retry, 204, "body", "answered 204"}},
		"body beyond the 16 KiB": {delivery.Success{Body: "the end"}, 200, "", want{delivery.Retry, 200, "body", "does not match"}},
		"both":                   {delivery.Success{Status: [][2]int{{200, 200}, {500, 500}}, Body: "^ok"}, 500, "ok", want{delivery.Delivered, 500, "ok", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ep := local(url + "?status=" + strconv.Itoa(c.status) + "&body=" + strings.ReplaceAll(c.body, " ", "+"))
			ep.Success = c.rule
			check(t, sender.Send(t.Context(), ep, message()), c.want)
		})
	}
}

func TestWishes(t *testing.T) {
	t.Parallel()
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Webhook-Delivery"] = r.URL.Query()["wish"]
		status, _ := strconv.Atoi(r.URL.Query().Get("status"))
		w.WriteHeader(status)
	}))
	sender := newSender(t, delivery.SenderOptions{})
	for query, wish := range map[string]delivery.Wish{
		"":                       delivery.WishNone,
		"wish=":                  delivery.WishNone,
		"wish=pause":             delivery.WishPause,
		"wish=+PAUSE+":           delivery.WishPause,
		"wish=abort":             delivery.WishAbort,
		"wish=Abort%09":          delivery.WishAbort,
		"wish=abort,+pause":      delivery.WishPause,
		"wish=abort&wish=pause":  delivery.WishPause,
		"wish=other,abort":       delivery.WishAbort,
		"wish=aborted&wish=stop": delivery.WishNone,
	} {
		for status, kind := range map[int]delivery.OutcomeKind{200: delivery.Delivered, 422: delivery.Refused, 500: delivery.Retry, 410: delivery.Gone} {
			o := sender.Send(t.Context(), local(url+"?status="+strconv.Itoa(status)+"&"+query), message())
			if o.Wish != wish || o.Kind != kind {
				t.Errorf("%q with %d: wish %d, %v; want %d, %v", query, status, o.Wish, o.Kind, wish, kind)
			}
		}
	}
}

// TestHeaderCountsWithoutBody: what the answer's header asks for is done, even
// when its body never ends.
func TestHeaderCountsWithoutBody(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "30")
		w.Header().Set("Webhook-Delivery", "pause")
		w.WriteHeader(http.StatusServiceUnavailable)
		_ = http.NewResponseController(w).Flush()
		<-ended
	}))
	t.Cleanup(func() { close(ended) })
	ep := local(url)
	ep.Timeout = 300 * time.Millisecond
	o := newSender(t, delivery.SenderOptions{}).Send(t.Context(), ep, message())
	check(t, o, want{delivery.Retry, 503, delivery.ClassTimeout, "no whole answer within 300ms"})
	if o.RetryAfter != 30*time.Second || o.Wish != delivery.WishPause {
		t.Errorf("to be repeated after %s, wish %d", o.RetryAfter, o.Wish)
	}
}
