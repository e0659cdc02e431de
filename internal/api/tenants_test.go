package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"gancho/delivery/endpoint"
	"gancho/internal/api"
	"gancho/internal/control"
	"gancho/internal/state"
)

// attempt is a request of another tenant's token.
type attempt struct {
	method, path, body string
	// foreign is tried with what belongs to somebody else, absent with what does
	// not exist: both replace {} in path and body. The answers must be the same
	// but for that name. With neither, the answer must not hold the marks.
	foreign, absent []string
	status          int
	// route is the path's pattern.
	route string
}

// A tenant's token gets nowhere with what is not its tenant's: the answer is
// that for what does not exist, to the byte, and nothing changes.
func TestTenants(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.addEndpoint("mark-one", "1")
	w.addEndpoint("mark-all", "")
	must[control.CreatedView](w, http.StatusCreated, "POST", "/endpoints", "root", `{"name":"mark-both","url":"https://crm.example.com","tenants":[1,2]}`)
	w.addEndpoint("own", "2")
	file, err := endpoint.Parse("gancho.yaml", []byte(`{"name":"mark-file","url":"https://crm.example.com","tenants":[1],"secret":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}`))
	if err != nil {
		t.Fatal(err)
	}
	w.files = []*endpoint.Endpoint{&file}
	w.addAttempts("mark-one", "1", 3)
	w.addAttempts("mark-all", "", 3)
	dead := w.addDead("mark-one", "1", 2)
	untenanted := w.addDead("mark-all", "", 1)
	w.addKept("1", 3)
	job := must[items[state.Job]](w, http.StatusAccepted, "POST", "/dead-letters/redrive", "admin-1", fmt.Sprintf(`{"filter":{"ids":[%d]}}`, dead[0].ID)).Items[0]
	global := must[state.Job](w, http.StatusAccepted, "POST", "/resends", "root", `{"endpoint":"mark-all","filter":{"key":"mark-key"}}`)

	endpoints := []string{"mark-one", "mark-all", "mark-both", "mark-file"}
	ids := []string{fmt.Sprint(dead[1].ID), fmt.Sprint(untenanted[0].ID)}
	jobs := []string{fmt.Sprint(job.ID), fmt.Sprint(global.ID)}
	w.park(1)
	positions := []string{"4503599627378688-0"} // epoch 1, commit 0/2000
	var logged []string
	for _, id := range w.ids("/deliveries?endpoint=mark-one", func(o object) any { return o["id"] }) {
		logged = append(logged, id.(string))
	}
	none, no := []string{"nothing-1"}, []string{"99999999"}
	attempts := []attempt{
		{method: "GET", path: "/openapi.json", status: 200},
		{method: "GET", path: "/endpoints?limit=500", status: 200},
		{method: "POST", path: "/endpoints", body: `{"name":"taken-over","url":"https://crm.example.com","tenants":[1]}`, status: 400},
		{method: "POST", path: "/endpoints", body: `{"name":"taken-over","url":"https://crm.example.com","tenants":[1,2]}`, status: 400},
		{method: "GET", path: "/endpoints/{}", foreign: endpoints, absent: none, status: 404, route: "/endpoints/{name}"},
		{method: "PATCH", path: "/endpoints/{}", body: `{"rate":"1/s"}`, foreign: endpoints, absent: none, status: 404, route: "/endpoints/{name}"},
		{method: "PATCH", path: "/endpoints/own", body: `{"tenants":[1]}`, status: 400, route: "/endpoints/{name}"},
		{method: "PATCH", path: "/endpoints/own", body: `{"tenants":null,"allow_http":true}`, status: 400, route: "/endpoints/{name}"},
		{method: "DELETE", path: "/endpoints/{}?drop_queue=true", foreign: endpoints, absent: none, status: 404, route: "/endpoints/{name}"},
		{method: "POST", path: "/endpoints/{}/activate", foreign: endpoints, absent: none, status: 404, route: "/endpoints/{name}/activate"},
		{method: "POST", path: "/endpoints/{}/pause", foreign: endpoints, absent: none, status: 404, route: "/endpoints/{name}/pause"},
		{method: "POST", path: "/endpoints/{}/deactivate", foreign: endpoints, absent: none, status: 404, route: "/endpoints/{name}/deactivate"},
		{method: "POST", path: "/endpoints/{}/rotate", body: `{"overlap":"1d"}`, foreign: endpoints, absent: none, status: 404, route: "/endpoints/{name}/rotate"},
		{method: "POST", path: "/endpoints/{}/test", foreign: endpoints, absent: none, status: 404, route: "/endpoints/{name}/test"},
		{method: "GET", path: "/endpoints/{}/keys", foreign: endpoints, absent: none, status: 404, route: "/endpoints/{name}/keys"},
		{method: "GET", path: "/endpoints/{}/closings/2026-11-20", foreign: endpoints, absent: none, status: 404, route: "/endpoints/{name}/closings/{day}"},
		{method: "GET", path: "/deliveries", status: 200},
		{method: "GET", path: "/deliveries?endpoint={}", foreign: endpoints, absent: none, status: 200, route: "/deliveries"},
		{method: "GET", path: "/deliveries?tenant={}", foreign: []string{"1", ""}, absent: none, status: 404, route: "/deliveries"},
		{method: "GET", path: "/deliveries?webhook_id={}", foreign: []string{"mark-one-0"}, absent: none, status: 200, route: "/deliveries"},
		{method: "GET", path: "/deliveries?key={}", foreign: []string{"key-1"}, absent: none, status: 200, route: "/deliveries"},
		{method: "POST", path: "/deliveries/resend", body: `{"filter":{"endpoint":"{}"},"dry_run":true}`, foreign: endpoints, absent: none, status: 200},
		{method: "POST", path: "/deliveries/resend", body: `{"filter":{"endpoint":"own"},"endpoint":"{}","dry_run":true}`, foreign: endpoints, absent: none, status: 200},
		{method: "GET", path: "/events/{}", foreign: []string{"kept1-0"}, absent: none, status: 404, route: "/events/{id}"},
		{method: "GET", path: "/rates?endpoint={}", foreign: endpoints, absent: none, status: 404, route: "/rates"},
		{method: "GET", path: "/tail?tenant={}", foreign: []string{"1", ""}, absent: none, status: 404, route: "/tail"},
		{method: "GET", path: "/deliveries/{}", foreign: logged, absent: []string{"x"}, status: 404, route: "/deliveries/{id}"},
		{method: "GET", path: "/dead-letters", status: 200},
		{method: "GET", path: "/dead-letters?endpoint={}", foreign: endpoints, absent: none, status: 200, route: "/dead-letters"},
		{method: "GET", path: "/dead-letters?tenant={}", foreign: []string{"1", ""}, absent: none, status: 404, route: "/dead-letters"},
		{method: "GET", path: "/dead-letters/groups", status: 200},
		{method: "GET", path: "/dead-letters/groups?endpoint={}", foreign: endpoints, absent: none, status: 200, route: "/dead-letters/groups"},
		{method: "GET", path: "/parked/groups", status: 404},
		{method: "GET", path: "/dead-letters/{}", foreign: ids, absent: no, status: 404, route: "/dead-letters/{id}"},
		{method: "DELETE", path: "/dead-letters/{}", foreign: ids, absent: no, status: 404, route: "/dead-letters/{id}"},
		{method: "POST", path: "/dead-letters/redrive", body: `{"filter":{"ids":[{}]}}`, foreign: ids, absent: no, status: 202},
		{method: "POST", path: "/dead-letters/redrive", body: `{"filter":{"endpoint":"{}"}}`, foreign: endpoints, absent: none, status: 404},
		{method: "POST", path: "/dead-letters/redrive", body: `{"filter":{"tenant":"{}"}}`, foreign: []string{"1", ""}, absent: none, status: 404},
		{method: "POST", path: "/dead-letters/redrive", body: `{"all":true}`, status: 202},
		{method: "POST", path: "/dead-letters/drop", body: `{"filter":{"ids":[{}]}}`, foreign: ids, absent: no, status: 200},
		{method: "POST", path: "/dead-letters/drop", body: `{"filter":{"endpoint":"{}"}}`, foreign: endpoints, absent: none, status: 200},
		{method: "POST", path: "/dead-letters/drop", body: `{"filter":{"tenant":"{}"}}`, foreign: []string{"1", ""}, absent: none, status: 404},
		{method: "GET", path: "/parked", status: 404},
		{method: "GET", path: "/doctor", status: 404},
		{method: "GET", path: "/event-types/cobranca.paga", status: 200, route: "/event-types/{name}"},
		{method: "GET", path: "/rules", status: 404},
		{method: "GET", path: "/changes", status: 404},
		{method: "GET", path: "/test-case?table=cobrancas&key={}", foreign: []string{"mark1-key", "mark3-key"}, absent: none, status: 404, route: "/test-case"},
		{method: "GET", path: "/why?table=cobrancas&change=0/1000-0", status: 400, route: "/why"},
		{method: "POST", path: "/simulations", body: `{"file":"rules/a.yaml","text":"rules: []","table":"cobrancas"}`, status: 404},
		{method: "POST", path: "/corrections", body: `{"rules":{"a.yaml":"rules: []"},"filter":{"from":"2026-01-01T00:00:00Z"}}`, status: 404},
		{method: "POST", path: "/forget", body: `{"key":"key-1","dry_run":true}`, status: 200},
		{method: "POST", path: "/forget", body: `{"tenant":"{}","key":"key-1"}`, foreign: []string{"1", ""}, absent: none, status: 404},
		{method: "GET", path: "/parked/{}", foreign: positions, absent: []string{"1-1"}, status: 404, route: "/parked/{id}"},
		{method: "DELETE", path: "/parked/{}", foreign: positions, absent: []string{"1-1"}, status: 404, route: "/parked/{id}"},
		{method: "POST", path: "/parked/redrive", body: `{"filter":{"positions":["{}"]}}`, foreign: positions, absent: []string{"1-1"}, status: 404},
		{method: "POST", path: "/parked/drop", body: `{"filter":{"positions":["{}"]}}`, foreign: positions, absent: []string{"1-1"}, status: 404},
		{method: "GET", path: "/resends", status: 200},
		{method: "POST", path: "/resends", body: `{"endpoint":"{}","filter":{"key":"key-1"}}`, foreign: endpoints, absent: none, status: 404},
		{method: "POST", path: "/resends", body: `{"endpoint":"own","filter":{"tenant":"{}"}}`, foreign: []string{"1", ""}, absent: none, status: 404},
		{method: "POST", path: "/resends", body: `{"endpoint":"own","filter":{"key":"{}"},"dry_run":true}`, foreign: []string{"key-1"}, absent: none, status: 200},
		{method: "GET", path: "/resends/{}", foreign: jobs, absent: no, status: 404, route: "/resends/{id}"},
		{method: "POST", path: "/resends/{}/cancel", foreign: jobs, absent: no, status: 404, route: "/resends/{id}/cancel"},
		{method: "POST", path: "/resends/{}/pause", foreign: jobs, absent: no, status: 404, route: "/resends/{id}/pause"},
		{method: "POST", path: "/resends/{}/resume", foreign: jobs, absent: no, status: 404, route: "/resends/{id}/resume"},
		{method: "POST", path: "/replays", body: `{"endpoint":"{}","filter":{"from":"2026-01-01T00:00:00Z"}}`, foreign: endpoints, absent: none, status: 404},
		{method: "POST", path: "/replays", body: `{"filter":{"from":"2026-01-01T00:00:00Z","key":"{}"},"dry_run":true}`, foreign: []string{"key-1"}, absent: none, status: 200},
		{method: "POST", path: "/backfills", body: `{"all":true,"dry_run":true}`, status: 404},
		{method: "GET", path: "/event-types", status: 200},
		{method: "GET", path: "/why?table=cobrancas&key={}", foreign: []string{"mark1-key", "mark3-key"}, absent: none, status: 200, route: "/why"},
		{method: "GET", path: "/status", status: 200},
		{method: "GET", path: "/installation", status: 200},
		{method: "GET", path: "/proof", status: 404},
		{method: "GET", path: "/sources", status: 404},
		{method: "GET", path: "/gaps", status: 404},
		{method: "GET", path: "/audit?limit=500", status: 200},
		{method: "GET", path: "/audit?object=endpoint/{}", foreign: endpoints, absent: none, status: 200, route: "/audit"},
		{method: "GET", path: "/tokens", status: 200},
		{method: "POST", path: "/tokens", body: `{"name":"through","role":"viewer","tenant":"1"}`, status: 400},
		{method: "POST", path: "/console-links", body: `{"role":"viewer","tenant":"1"}`, status: 400},
		{method: "GET", path: "/screens", status: 200},
		{method: "GET", path: "/screens/crm-centro?tenant={}", foreign: []string{"1"}, absent: none, status: 404, route: "/screens/{name}"},
		{method: "POST", path: "/screens/crm-centro", body: `{"tenant":"{}","state":"inactive"}`, foreign: []string{"1"}, absent: none, status: 404, route: "/screens/{name}"},
		{method: "POST", path: "/screens/crm-centro", body: `{"addresses":[{"endpoint":"{}"}],"removed":"drop"}`, foreign: endpoints, absent: none, status: 404, route: "/screens/{name}"},
		{method: "GET", path: "/tenant-fields?tenant={}", foreign: []string{"1"}, absent: none, status: 404, route: "/tenant-fields"},
		{method: "POST", path: "/tenant-fields", body: `{"tenant":"{}","fields":{"a":"b"}}`, foreign: []string{"1"}, absent: none, status: 404},
		{method: "DELETE", path: "/tokens/{}", foreign: []string{"root", "admin-1", "eyes-1"}, absent: none, status: 404, route: "/tokens/{name}"},
	}
	before := w.snapshot()
	w.answers.Reset()
	tried := map[string]bool{}
	for _, a := range attempts {
		if a.route == "" {
			a.route, _, _ = strings.Cut(a.path, "?")
		}
		tried[a.method+" "+a.route] = true
		w.try(a)
	}
	w.unchanged(before, "another tenant")
	for _, r := range api.Routes() {
		if !tried[r.Method+" "+r.Path] {
			t.Errorf("%s %s has not been tried", r.Method, r.Path)
		}
	}
	// What came has nothing of the others, except where the request named it.
	for line := range strings.Lines(w.answers.String()) {
		_, answer, _ := strings.Cut(line, ": ")
		if strings.Contains(answer, "mark-") || strings.Contains(answer, "admin-1") {
			t.Errorf("the answer tells of others: %s", line)
		}
	}
}

// try makes the request with each foreign name and with one that does not
// exist, and compares.
func (w *world) try(a attempt) {
	w.t.Helper()
	ask := func(name string) *reply {
		return w.do(a.method, strings.ReplaceAll(a.path, "{}", name), "admin-2", strings.ReplaceAll(a.body, "{}", name))
	}
	if a.foreign == nil {
		if got := ask(""); got.status != a.status {
			w.t.Errorf("%s %s %s: %d, not %d: %s", a.method, a.path, a.body, got.status, a.status, got.body)
		}
		return
	}
	want := ask(a.absent[0])
	if want.status != a.status {
		w.t.Errorf("%s %s %s with what does not exist: %d, not %d: %s", a.method, a.path, a.body, want.status, a.status, want.body)
	}
	for _, name := range a.foreign {
		got := ask(name)
		// The answer may repeat what was asked for, as the filter of a dry run.
		repeated := strings.ReplaceAll(string(want.body), `"`+a.absent[0]+`"`, `"`+name+`"`)
		if got.status != want.status || string(got.body) != repeated {
			w.t.Errorf("%s %s %s with %q: %d %s\nwith what does not exist: %d %s", a.method, a.path, a.body, name, got.status, got.body, want.status, want.body)
		}
	}
}

// A tenant's token does for its own tenant what its role allows.
func TestTenantsOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	own := must[control.CreatedView](w, http.StatusCreated, "POST", "/endpoints", "admin-1", `{"name":"own","url":"https://crm.example.com"}`)
	if !strings.Contains(string(own.Endpoint.Settings), `"tenants":["1"]`) {
		t.Errorf("the endpoint is not the tenant's: %s", own.Endpoint.Settings)
	}
	w.addAttempts("own", "1", 2)
	dead := w.addDead("own", "1", 3)
	w.addKept("1", 3)
	for path, want := range map[string]int{"/endpoints": 1, "/deliveries": 2, "/dead-letters": 3, "/audit": 3, "/tokens": 2} {
		if got := len(must[items[object]](w, http.StatusOK, "GET", path, "admin-1", "").Items); got != want {
			t.Errorf("%s has %d items, not %d", path, got, want)
		}
	}
	must[object](w, http.StatusOK, "PATCH", "/endpoints/own", "admin-1", `{"rate":"1/s"}`)
	must[object](w, http.StatusOK, "POST", "/endpoints/own/rotate", "admin-1", `{}`)
	for _, key := range []string{`"allow_http":true`, `"allow_private":["10.0.0.0/8"]`, `"proxy":"http://proxy.example.com:3128"`} {
		if a := w.do("PATCH", "/endpoints/own", "admin-1", "{"+key+"}"); a.status != http.StatusBadRequest || len(a.problem(t).Errors) == 0 {
			t.Errorf("%s: %d: %s", key, a.status, a.body)
		}
	}
	must[object](w, http.StatusOK, "GET", fmt.Sprintf("/dead-letters/%d", dead[0].ID), "eyes-1", "")
	must[object](w, http.StatusNoContent, "DELETE", fmt.Sprintf("/dead-letters/%d", dead[0].ID), "admin-1", "")
	resend := must[state.Job](w, http.StatusAccepted, "POST", "/resends", "admin-1", `{"endpoint":"own","filter":{"events":["cobranca.*"]}}`)
	if resend.Total != 3 {
		t.Errorf("the resend is %+v", resend)
	}
	must[object](w, http.StatusOK, "POST", fmt.Sprintf("/resends/%d/cancel", resend.ID), "admin-1", "")
	made := must[control.CreatedToken](w, http.StatusCreated, "POST", "/tokens", "admin-1", `{"name":"mine","role":"viewer"}`)
	if made.Tenant != "1" {
		t.Errorf("the tenant's token made the token %+v", made.Token)
	}
	w.tokens["mine"] = made.Text
	must[object](w, http.StatusOK, "GET", "/endpoints/own", "mine", "")
	must[object](w, http.StatusNoContent, "DELETE", "/tokens/mine", "admin-1", "")
	if a := w.do("GET", "/endpoints/own", "mine", ""); a.status != http.StatusUnauthorized {
		t.Errorf("a revoked token: %d", a.status)
	}
}
