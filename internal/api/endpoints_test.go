package api_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
	"gancho/internal/control"
	"gancho/internal/state"
)

// An endpoint's life, from its birth to its removal, and what the audit log
// says of it.
func TestEndpointLife(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	added := w.do("POST", "/endpoints", "root", `{"name":"crm","url":"https://crm.example.com/hooks","tenants":[1],"rate":"50/s"}`)
	if added.status != http.StatusCreated || added.header.Get("Location") != "/api/v1/endpoints/crm" || added.header.Get("ETag") == "" {
		t.Fatalf("the answer is %d %v: %s", added.status, added.header, added.body)
	}
	first := must[control.EndpointView](w, http.StatusOK, "GET", "/endpoints/crm", "root", "")
	if first.State != "active" || first.From != control.FromStore || len(first.Keys) != 1 || first.Live == nil {
		t.Errorf("the endpoint is %+v", first)
	}
	if a := w.do("POST", "/endpoints", "root", `{"name":"crm","url":"https://other.example.com"}`); a.status != http.StatusConflict {
		t.Errorf("the same name again: %d: %s", a.status, a.body)
	}

	edited := w.do("PATCH", "/endpoints/crm", "root", `{"rate":null,"concurrency":4}`, header{"Content-Type", "application/merge-patch+json"}, header{"If-Match", added.header.Get("ETag")})
	if edited.status != http.StatusOK || edited.header.Get("ETag") == added.header.Get("ETag") {
		t.Fatalf("edit: %d %v: %s", edited.status, edited.header, edited.body)
	}
	settings := must[struct{ Settings object }](w, http.StatusOK, "GET", "/endpoints/crm", "root", "").Settings
	if diff := cmp.Diff(object{"url": "https://crm.example.com/hooks", "tenants": []any{"1"}, "concurrency": 4.0}, settings); diff != "" {
		t.Errorf("the settings after the edit (-want +got):\n%s", diff)
	}

	for _, c := range []struct{ does, state string }{{"pause", "paused"}, {"deactivate", "inactive"}, {"activate", "active"}} {
		if got := must[control.EndpointView](w, http.StatusOK, "POST", "/endpoints/crm/"+c.does, "root", "").State; got != c.state {
			t.Errorf("after %s the state is %s", c.does, got)
		}
	}

	rotated := must[control.CreatedView](w, http.StatusOK, "POST", "/endpoints/crm/rotate", "root", `{"overlap":"2d","ed25519":true}`)
	if !strings.HasPrefix(rotated.Secret, "whsk_") || !strings.HasPrefix(rotated.Public, "whpk_") || rotated.Until.IsZero() {
		t.Errorf("the rotation is %+v", rotated)
	}
	keys := must[items[control.KeyView]](w, http.StatusOK, "GET", "/endpoints/crm/keys", "eyes", "").Items
	if len(keys) != 2 || keys[0].Public != rotated.Public || keys[0].Kind != "ed25519" || keys[1].Expires.IsZero() {
		t.Errorf("the keys are %+v", keys)
	}

	removed := must[control.RemovedView](w, http.StatusOK, "DELETE", "/endpoints/crm?drop_queue=true", "root", "")
	if !removed.Dropped {
		t.Errorf("the removal is %+v", removed)
	}
	if a := w.do("GET", "/endpoints/crm", "root", ""); a.status != http.StatusNotFound {
		t.Errorf("after the removal: %d", a.status)
	}
	var actions []string
	for _, c := range must[items[state.Change]](w, http.StatusOK, "GET", "/audit?object=endpoint/crm", "eyes", "").Items {
		actions = append(actions, c.Actor+" "+c.Action)
		if c.Time.IsZero() || c.Before == nil && c.After == nil {
			t.Errorf("the change has no time, or neither before nor after: %+v", c)
		}
	}
	want := []string{"endpoint.remove", "secret.rotate", "endpoint.activate", "endpoint.deactivate", "endpoint.pause", "endpoint.edit", "endpoint.add"}
	for i := range want {
		want[i] = "token:root " + want[i]
	}
	if diff := cmp.Diff(want, actions); diff != "" {
		t.Errorf("the audit log, newest first (-want +got):\n%s", diff)
	}
}

// Whoever changes an old version is told so, and changes nothing.
func TestIfMatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.addEndpoint("crm", "")
	old := w.do("GET", "/endpoints/crm", "root", "").header.Get("ETag")
	if a := w.do("PATCH", "/endpoints/crm", "root", `{"rate":"1/s"}`, header{"If-Match", old}); a.status != http.StatusOK {
		t.Fatalf("the version that is there: %d: %s", a.status, a.body)
	}
	before := w.do("GET", "/endpoints/crm", "root", "")
	for _, tag := range []string{old, `"999"`, `W/` + before.header.Get("ETag"), "nonsense", `""`, `"0"`, `"-1"`} {
		for _, c := range []struct{ method, path, body string }{
			{"PATCH", "/endpoints/crm", `{"rate":"2/s"}`},
			{"POST", "/endpoints/crm/pause", ""},
			{"POST", "/endpoints/crm/deactivate", ""},
			{"POST", "/endpoints/crm/activate", ""},
			{"POST", "/endpoints/crm/rotate", `{}`},
			{"DELETE", "/endpoints/crm", ""},
		} {
			if a := w.do(c.method, c.path, "root", c.body, header{"If-Match", tag}); a.status != http.StatusPreconditionFailed || a.problem(t).Type != "urn:gancho:problem:changed" {
				t.Errorf("%s %s with %s: %d: %s", c.method, c.path, tag, a.status, a.body)
			}
		}
	}
	after := w.do("GET", "/endpoints/crm", "root", "")
	if diff := cmp.Diff(string(before.body), string(after.body)); diff != "" {
		t.Errorf("something has changed (-before +after):\n%s", diff)
	}
	if a := w.do("POST", "/endpoints/crm/pause", "root", "", header{"If-Match", after.header.Get("ETag")}); a.status != http.StatusOK {
		t.Errorf("the version that is there: %d: %s", a.status, a.body)
	}
	if a := w.do("DELETE", "/endpoints/crm", "root", "", header{"If-Match", "*"}); a.status != http.StatusOK {
		t.Errorf("any version: %d: %s", a.status, a.body)
	}
}

// An endpoint of gancho.yaml is read-only, and can be activated and tested.
func TestFileEndpoint(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	t.Cleanup(receiver.Close)
	file, err := endpoint.Parse("gancho.yaml", []byte(`{"name":"fixed","url":"`+receiver.URL+`/x?token=hunter2","allow_http":true,"allow_private":["127.0.0.1/32"],"secret":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}`))
	if err != nil {
		t.Fatal(err)
	}
	w.files = []*endpoint.Endpoint{&file}
	for _, c := range []struct{ method, path, body string }{
		{"PATCH", "/endpoints/fixed", `{"rate":"2/s"}`},
		{"POST", "/endpoints/fixed/pause", ""},
		{"POST", "/endpoints/fixed/deactivate", ""},
		{"POST", "/endpoints/fixed/rotate", `{}`},
		{"DELETE", "/endpoints/fixed", ""},
	} {
		if a := w.do(c.method, c.path, "root", c.body); a.status != http.StatusConflict || a.problem(t).Type != "urn:gancho:problem:read-only" {
			t.Errorf("%s %s: %d: %s", c.method, c.path, a.status, a.body)
		}
	}
	if a := w.do("POST", "/endpoints", "root", `{"name":"fixed","url":"https://other.example.com"}`); a.status != http.StatusConflict {
		t.Errorf("another of that name: %d", a.status)
	}
	view := w.do("GET", "/endpoints/fixed", "eyes", "")
	if view.status != http.StatusOK || view.header.Get("ETag") != "" || strings.Contains(string(view.body), "hunter2") {
		t.Errorf("the endpoint is %d %v: %s", view.status, view.header, view.body)
	}
	if a := w.do("POST", "/endpoints/fixed/activate", "hands", ""); a.status != http.StatusOK {
		t.Errorf("activate: %d: %s", a.status, a.body)
	}
	x := must[webhook.Exchange](w, http.StatusOK, "POST", "/endpoints/fixed/test", "hands", "")
	if x.Answer == nil || x.Answer.Status != http.StatusTeapot || x.Outcome != "refused" || len(x.Request.Header["Webhook-Signature"]) == 0 {
		t.Errorf("the exchange is %+v", x)
	}
}

// Of many concurrent changes of the same version, one succeeds.
func TestOneWins(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tag := w.do("GET", "/endpoints/"+w.addEndpoint("crm", "").Endpoint.Name, "root", "").header.Get("ETag")
	statuses := make(chan int)
	const n = 8
	for i := range n {
		go func() {
			statuses <- w.do("PATCH", "/endpoints/crm", "root", fmt.Sprintf(`{"rate":"%d/s"}`, i+1), header{"If-Match", tag}).status
		}()
	}
	got := map[int]int{}
	for range n {
		got[<-statuses]++
	}
	if diff := cmp.Diff(map[int]int{http.StatusOK: 1, http.StatusPreconditionFailed: n - 1}, got); diff != "" {
		t.Errorf("the statuses (-want +got):\n%s", diff)
	}
	edits := must[items[object]](w, http.StatusOK, "GET", "/audit?action=endpoint.edit", "root", "").Items
	if len(edits) != 1 {
		t.Errorf("the audit log has %d edits", len(edits))
	}
}

// Without Redis, what needs none works, and the rest says what is missing.
func TestRedisAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.addEndpoint("crm", "1")
	w.addAttempts("crm", "1", 1)
	w.redis.Kill()
	for _, path := range []string{"/deliveries", "/dead-letters", "/audit", "/resends", "/tokens", "/event-types"} {
		must[items[object]](w, http.StatusOK, "GET", path, "root", "")
	}
	must[object](w, http.StatusOK, "PATCH", "/endpoints/crm", "root", `{"rate":"1/s"}`)
	for _, path := range []string{"/endpoints", "/endpoints/crm", "/parked"} {
		a := w.do("GET", path, "root", "")
		if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || strings.Contains(string(a.body), w.redis.Addr()) {
			t.Errorf("%s: %d: %s", path, a.status, a.body)
		}
	}
	for _, token := range []string{"root", "admin-1"} {
		status := must[control.StatusView](w, http.StatusOK, "GET", "/status", token, "")
		if status.Errors["queue"] == "" || len(status.Endpoints) != 1 {
			t.Errorf("the status for %s is %+v", token, status)
		}
		if token == "admin-1" && strings.Contains(status.Errors["queue"], w.redis.Addr()) {
			t.Errorf("a tenant is told where Redis is: %s", status.Errors["queue"])
		}
	}
}
