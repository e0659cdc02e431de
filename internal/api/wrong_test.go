package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"gancho/internal/api"
	"gancho/internal/state"
)

// Wrong input to every path: a problem that says what is wrong, and nothing
// changed.
func TestWrongInput(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.addEndpoint("crm", "")
	dead := w.addDead("crm", "", 2)
	w.addKept("", 2)
	job := must[state.Job](w, http.StatusAccepted, "POST", "/resends", "root", `{"endpoint":"crm","filter":{"key":"key-1"}}`)
	jobPath, deadPath := fmt.Sprintf("/resends/%d", job.ID), fmt.Sprintf("/dead-letters/%d", dead[0].ID)
	cursor := must[items[object]](w, http.StatusOK, "GET", "/dead-letters?limit=1", "root", "").Next
	before := w.snapshot()
	tried := map[string]bool{}
	for _, c := range []struct {
		method, path, body string
		status             int
		// at is the pointer or the parameter; says is in the detail, or in one of
		// the errors.
		at, says string
		route    string
	}{
		{"GET", "/openapi.json?x=1", "", 400, "x", `the parameter "x" is not known here; nothing is allowed here`, ""},
		{"GET", "/endpoints?limt=5", "", 400, "limt", `did you mean "limit"?`, ""},
		{"GET", "/endpoints?limit=0", "", 400, "limit", "from 1 to 500", ""},
		{"GET", "/endpoints?limit=501", "", 400, "limit", "from 1 to 500", ""},
		{"GET", "/endpoints?limit=many", "", 400, "limit", "from 1 to 500", ""},
		{"GET", "/endpoints?limit=1&limit=2", "", 400, "limit", "given twice", ""},
		{"GET", "/endpoints?cursor=abc", "", 400, "cursor", "is not a cursor of this list", ""},
		{"GET", "/endpoints?cursor=" + cursor, "", 400, "cursor", "is not a cursor of this list", ""},
		{"GET", "/endpoints?cursor=", "", 400, "cursor", "is empty", ""},
		{"GET", "/endpoints?a;b", "", 400, "", "the query cannot be read", ""},
		{"GET", "/endpoints", `{}`, 400, "", "takes no body", ""},
		{"POST", "/endpoints", "", 400, "", "the body is missing", ""},
		{"POST", "/endpoints", "{", 400, "", "the body is not JSON", ""},
		{"POST", "/endpoints", `{"name":"x","url":"https://a.example.com"} trailing`, 400, "", "the body is not JSON", ""},
		{"POST", "/endpoints", "name: x\nurl: https://a.example.com\n", 400, "", "the body is not JSON", ""},
		{"POST", "/endpoints", `[]`, 400, "", "", ""},
		{"POST", "/endpoints", `"text"`, 400, "", "", ""},
		{"POST", "/endpoints", `null`, 400, "", "", ""},
		{"POST", "/endpoints", `{}`, 400, "", `"url"`, ""},
		{"POST", "/endpoints", `{"url":"https://a.example.com"}`, 400, "/name", "the endpoint has no name", ""},
		{"POST", "/endpoints", `{"name":"A b","url":"https://a.example.com"}`, 400, "/name", "lower-case", ""},
		{"POST", "/endpoints", `{"name":"x","url":"ftp://a.example.com"}`, 400, "/url", "not an http or https address", ""},
		{"POST", "/endpoints", `{"name":"x","url":"http://a.example.com"}`, 400, "/url", "not https", ""},
		{"POST", "/endpoints", `{"name":"x","url":"https://127.0.0.1/"}`, 400, "/url", "private address", ""},
		{"POST", "/endpoints", `{"name":"x","url":"https://a.example.com","eventss":["a"]}`, 400, "/eventss", `did you mean "events"?`, ""},
		{"POST", "/endpoints", `{"name":"x","url":"https://a.example.com","rate":{"a":1}}`, 400, "/rate", "", ""},
		{"POST", "/endpoints", `{"name":"x","url":"https://a.example.com","retry":["5s","soon"]}`, 400, "/retry/1", "not a duration", ""},
		{"POST", "/endpoints", `{"name":"x","url":"https://a.example.com","url":"https://b.example.com"}`, 400, "/url", "", ""},
		{"POST", "/endpoints", `{"name":"x","url":"https://a.example.com","tls":{"ca":"/etc/passwd"}}`, 400, "/tls/ca", "", ""},
		{"POST", "/endpoints", `{"name":"x","url":"https://a.example.com","events":["a\u0000b"]}`, 400, "", `\u0000`, ""},
		{"POST", "/endpoints?ed25519=yes", `{"name":"x","url":"https://a.example.com"}`, 400, "ed25519", "neither true nor false", ""},
		{"POST", "/endpoints?ed25519=", `{"name":"x","url":"https://a.example.com"}`, 400, "ed25519", "is empty", ""},
		{"GET", "/endpoints/nobody", "", 404, "", "", "/endpoints/{name}"},
		{"GET", "/endpoints/CRM", "", 404, "", "", "/endpoints/{name}"},
		{"GET", "/endpoints/a%00b", "", 404, "", "", "/endpoints/{name}"},
		{"GET", "/endpoints/%ff", "", 404, "", "", "/endpoints/{name}"},
		{"GET", "/endpoints/" + strings.Repeat("x", 3000), "", 404, "", "", "/endpoints/{name}"},
		{"GET", "/endpoints/crm?live=1", "", 400, "live", "not known here", "/endpoints/{name}"},
		{"PATCH", "/endpoints/crm", "", 400, "", "the body is missing", "/endpoints/{name}"},
		{"PATCH", "/endpoints/crm", `[1]`, 400, "", "not a JSON object", "/endpoints/{name}"},
		{"PATCH", "/endpoints/crm", `null`, 400, "", "not a JSON object", "/endpoints/{name}"},
		{"PATCH", "/endpoints/crm", `{"url":null}`, 400, "", `"url"`, "/endpoints/{name}"},
		{"PATCH", "/endpoints/crm", `{"name":"other"}`, 400, "/name", "cannot change name", "/endpoints/{name}"},
		{"PATCH", "/endpoints/crm", `{"state":"paused"}`, 400, "/state", "use activate, pause or deactivate", "/endpoints/{name}"},
		{"PATCH", "/endpoints/crm", `{"secret":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}`, 400, "/secret", "use rotate", "/endpoints/{name}"},
		{"PATCH", "/endpoints/crm", `{"headers":{"X-Key":"***"}}`, 400, "/headers/X-Key", "there is none", "/endpoints/{name}"},
		{"PATCH", "/endpoints/crm", `{"concurrency":"a lot"}`, 400, "/concurrency", "", "/endpoints/{name}"},
		{"PATCH", "/endpoints/crm", `{"timeout":"1h"}`, 400, "/timeout", "out of range", "/endpoints/{name}"},
		{"DELETE", "/endpoints/crm?drop_queue=1", "", 400, "drop_queue", "neither true nor false", "/endpoints/{name}"},
		{"DELETE", "/endpoints/nobody", "", 404, "", "", "/endpoints/{name}"},
		{"POST", "/endpoints/crm/activate", `{"now":true}`, 400, "", "takes no body", ""},
		{"POST", "/endpoints/nobody/activate", "", 404, "", "", "/endpoints/{name}/activate"},
		{"POST", "/endpoints/crm/pause?for=1h", "", 400, "for", "not known here", "/endpoints/{name}/pause"},
		{"POST", "/endpoints/nobody/deactivate", "", 404, "", "", "/endpoints/{name}/deactivate"},
		{"POST", "/endpoints/crm/rotate", `{"overlap":24}`, 400, "/overlap", `a duration such as "24h"`, "/endpoints/{name}/rotate"},
		{"POST", "/endpoints/crm/rotate", `{"overlap":"-1h"}`, 400, "/overlap", "not a duration", "/endpoints/{name}/rotate"},
		{"POST", "/endpoints/crm/rotate", `{"overlap":"400d"}`, 400, "/overlap", "out of range", "/endpoints/{name}/rotate"},
		{"POST", "/endpoints/crm/rotate", `{"secret":"short"}`, 400, "/secret", "at least 24", "/endpoints/{name}/rotate"},
		{"POST", "/endpoints/crm/rotate", `{"secret":""}`, 400, "/secret", "is empty", "/endpoints/{name}/rotate"},
		{"POST", "/endpoints/crm/rotate", `{"secret":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw","ed25519":true}`, 400, "/ed25519", "", "/endpoints/{name}/rotate"},
		{"POST", "/endpoints/crm/rotate", `{"secrets":["a"]}`, 400, "/secrets", `did you mean "secret"?`, "/endpoints/{name}/rotate"},
		{"POST", "/endpoints/crm/rotate", `[]`, 400, "", "JSON object", "/endpoints/{name}/rotate"},
		{"POST", "/endpoints/nobody/rotate", ``, 404, "", "", "/endpoints/{name}/rotate"},
		{"POST", "/endpoints/nobody/test", "", 404, "", "", "/endpoints/{name}/test"},
		{"POST", "/endpoints/crm/test", `{"event":"x"}`, 400, "", "takes no body", "/endpoints/{name}/test"},
		{"GET", "/endpoints/nobody/keys", "", 404, "", "", "/endpoints/{name}/keys"},
		{"GET", "/installation?x=1", "", 400, "x", "", ""},
		{"GET", "/dead-letters?status=never", "", 400, "status", "not an HTTP status", ""},
		{"GET", "/dead-letters/groups?rule=a", "", 400, "rule", "not known here", ""},
		{"GET", "/parked?class=timeout", "", 400, "class", "not known here", ""},
		{"POST", "/dead-letters/drop", `{"all":true,"dry_run":"yes"}`, 400, "/dry_run", "true or false", ""},
		{"GET", "/proof?from=today", "", 400, "from", "RFC 3339", ""},
		{"GET", "/proof?from=2026-11-21T00:00:00Z&to=2026-11-20T00:00:00Z", "", 400, "from", "ends before it begins", ""},
		{"GET", "/proof?from_position=12", "", 400, "from_position", "not a position", ""},
		{"GET", "/why", "", 400, "table", "the table is missing", ""},
		{"GET", "/why?table=cobrancas", "", 400, "key", "the key is missing", ""},
		{"GET", "/why?table=cobrancas&key=1&change=16/B374D848-0", "", 400, "change", "both given", ""},
		{"GET", "/why?table=cobrancas&change=16/B374D848-0&row=true", "", 400, "row", "give the row's key", ""},
		{"GET", "/changes?limit=501", "", 400, "limit", "from 1 to 500", ""},
		{"GET", "/changes?cursor=1", "", 400, "cursor", "not known here", ""},
		{"GET", "/test-case?table=cobrancas", "", 400, "key", "the key is missing", ""},
		{"GET", "/test-case?key=1", "", 400, "table", "the table is missing", ""},
		{"GET", "/why?table=cobranca&key=1", "", 400, "table", "no rule is for the table", ""},
		{"GET", "/why?table=cobrancas&key=1&from=2h", "", 400, "from", "RFC 3339", ""},
		{"GET", "/why?table=cobrancas&key=1&row=yes", "", 400, "row", "neither true nor false", ""},
		{"GET", "/why?table=cobrancas&key=1&tenant=1", "", 400, "tenant", "not known here", ""},
		{"GET", "/tail?outcome=fine", "", 400, "outcome", "does not exist", ""},
		{"GET", "/tail?seconds=0", "", 400, "seconds", "from 1 to 300", ""},
		{"GET", "/rates?span=soon", "", 400, "span", "write such as 1h", ""},
		{"GET", "/rates?span=9999h", "", 400, "span", "a week is the longest", ""},
		{"GET", "/events/none", "", 404, "", "", "/events/{id}"},
		{"POST", "/deliveries/resend", `{}`, 400, "", "would choose everything", ""},
		{"POST", "/deliveries/resend", `{"filter":{"outcome":"fine"}}`, 400, "/outcome", "does not exist", ""},
		{"GET", "/deliveries?endpont=crm", "", 400, "endpont", `did you mean "endpoint"?`, ""},
		{"GET", "/deliveries?endpoint=", "", 400, "endpoint", "is empty", ""},
		{"GET", "/deliveries?from=yesterday", "", 400, "from", "RFC 3339", ""},
		{"GET", "/deliveries?from=2026-03-01T00:00:00+03:00", "", 400, "from", "%2B", ""},
		{"GET", "/deliveries?from=2026-03-02T00:00:00Z&to=2026-03-01T00:00:00Z", "", 400, "from", "is not before", ""},
		{"GET", "/deliveries?outcome=failed", "", 400, "outcome", "write one of delivered, retry, refused, gone, dead, superseded", ""},
		{"GET", "/deliveries?key=%ff", "", 400, "key", "not text in UTF-8", ""},
		{"GET", "/deliveries?key=a%00", "", 400, "key", "not text in UTF-8", ""},
		{"GET", "/deliveries?cursor=ZGVsaXZlcmllczp4", "", 400, "cursor", "", ""},
		{"GET", "/deliveries?cursor=ZGVsaXZlcmllczo", "", 400, "cursor", "", ""},
		{"GET", "/dead-letters?outcome=x", "", 400, "outcome", "not known here", ""},
		{"GET", "/dead-letters?cursor=ZGVhZDp4", "", 400, "cursor", "", ""},
		{"GET", "/dead-letters?cursor=ZGVhZDotMQ", "", 400, "cursor", "", ""},
		{"GET", "/endpoints/nobody/closings/2026-11-20", "", 404, "", "", "/endpoints/{name}/closings/{day}"},
		{"GET", "/endpoints/crm/closings/2026-11-31", "", 404, "", "", "/endpoints/{name}/closings/{day}"},
		{"GET", "/endpoints/crm/closings/9999-12-31", "", 404, "", "", "/endpoints/{name}/closings/{day}"},
		{"GET", "/endpoints/crm/closings/2026-11-20?limit=501", "", 400, "limit", "", "/endpoints/{name}/closings/{day}"},
		{"GET", "/deliveries/x", "", 404, "", "", "/deliveries/{id}"},
		{"GET", "/deliveries?tag=pedido", "", 400, "tags", "", ""},
		{"GET", "/dead-letters/groups?outcome=dead", "", 400, "outcome", "not known here", ""},
		{"GET", "/parked/groups?tenant=1", "", 400, "tenant", "not known here", ""},
		{"GET", "/dead-letters/0", "", 404, "", "", "/dead-letters/{id}"},
		{"GET", "/dead-letters/x", "", 404, "", "", "/dead-letters/{id}"},
		{"GET", "/dead-letters/99999999999999999999999", "", 404, "", "", "/dead-letters/{id}"},
		{"DELETE", "/dead-letters/999999", "", 404, "", "", "/dead-letters/{id}"},
		{"DELETE", deadPath, `{}`, 400, "", "takes no body", "/dead-letters/{id}"},
		{"POST", "/dead-letters/redrive", "", 400, "", "the filter is empty", ""},
		{"POST", "/dead-letters/redrive", `{}`, 400, "", "the filter is empty", ""},
		{"POST", "/dead-letters/redrive", `{"filter":{}}`, 400, "", "the filter is empty", ""},
		{"POST", "/dead-letters/redrive", `{"ids":[1]}`, 400, "/ids", "allowed are filter, all, rate, dry_run", ""},
		{"POST", "/dead-letters/redrive", `{"filter":{"ids":["1"]}}`, 400, "/filter/ids", "a list of numbers", ""},
		{"POST", "/dead-letters/redrive", `{"filter":{"ids":[]}}`, 400, "/filter/ids", "is empty", ""},
		{"POST", "/dead-letters/redrive", `{"filter":{"endpoint":""}}`, 400, "/filter/endpoint", "is empty", ""},
		{"POST", "/dead-letters/redrive", `{"filter":{"endpoint":"crm","from":"today"}}`, 400, "/filter/from", "a time such as", ""},
		{"POST", "/dead-letters/redrive", `{"filter":{"endpoint":"crm","to":"9999-12-31T23:59:59-12:00"}}`, 400, "/to", "not from 0 to 9999", ""},
		{"POST", "/resends", `{"endpoint":"crm","filter":{"from":"0000-01-01T00:00:00+12:00"}}`, 400, "/from", "not from 0 to 9999", ""},
		{"GET", "/audit?to=9999-12-31T23:59:59-12:00", "", 400, "to", "not from 0 to 9999", ""},
		{"POST", "/dead-letters/redrive", `{"filter":{"endpoint":"crm"},"rate":"fast"}`, 400, "/rate", "a number", ""},
		{"POST", "/dead-letters/redrive", `{"filter":{"endpoint":"crm"},"rate":-1}`, 400, "/rate", "not a rate", ""},
		{"POST", "/dead-letters/redrive", `{"all":"yes"}`, 400, "/all", "", ""},
		{"POST", "/dead-letters/redrive", `{"all":null}`, 400, "/all", "", ""},
		{"POST", "/dead-letters/redrive", `{"all":true,"all":true}`, 400, "/all", "given twice", ""},
		{"POST", "/dead-letters/drop", "", 400, "", "the filter is empty", ""},
		{"POST", "/dead-letters/drop", `{"filter":{}}`, 400, "", "the filter is empty", ""},
		{"POST", "/dead-letters/drop", `{"filter":{"endpoint":"crm","ids":[]}}`, 400, "/filter/ids", "is empty", ""},
		{"POST", "/dead-letters/drop", `{"filter":{"endpoint":"crm"},"dryrun":true}`, 400, "/dryrun", "not known here", ""},
		{"POST", "/dead-letters/drop", `{"filter":[]}`, 400, "/filter", "", ""},
		{"POST", "/forget", `{}`, 400, "/key", `"key" is missing`, ""},
		{"POST", "/forget", `{"key":"4711"}`, 400, "/tenant", "the tenant is missing", ""},
		{"POST", "/forget", `{"tenant":"1","key":""}`, 400, "/key", "is empty", ""},
		{"POST", "/forget", `{"tenant":"1","key":"4711","events":[]}`, 400, "/events", "is empty", ""},
		{"POST", "/forget", `{"tenant":"1","key":"4711","events":null}`, 400, "/events", "has to be", ""},
		{"POST", "/forget", `{"tenant":"1","key":"4711","event":"x"}`, 400, "/event", "not known here", ""},
		{"GET", "/parked?cursor=cGFya2VkOng", "", 400, "cursor", "", ""},
		{"GET", "/parked?tenant=1", "", 400, "tenant", "not known here", ""},
		{"GET", "/parked?webhook_id=x", "", 400, "webhook_ids", "webhook-id", ""},
		{"GET", "/parked/x", "", 404, "", "", "/parked/{id}"},
		{"DELETE", "/parked/1-1", "", 404, "", "", "/parked/{id}"},
		{"POST", "/parked/redrive", `{"filter":{}}`, 400, "", "the filter is empty", ""},
		{"POST", "/parked/redrive", `{"filter":{"positions":["x"]}}`, 400, "/positions", "is not the position of a parked change", ""},
		{"POST", "/parked/redrive", `{"filter":{"positions":[1]}}`, 400, "/filter/positions", "a list of positions", ""},
		{"POST", "/parked/redrive", `{"filter":{"key":"1"}}`, 400, "/filter/key", "not known here", ""},
		{"POST", "/parked/redrive", `{"all":true,"rate":-1}`, 400, "/rate", "not a rate", ""},
		{"POST", "/parked/drop", `{"filter":{"webhook_ids":["x"]}}`, 400, "/webhook_ids", "webhook-id", ""},
		{"POST", "/parked/drop", `{"all":true,"dryrun":true}`, 400, "/dryrun", "not known here", ""},
		{"GET", "/resends?state=done", "", 400, "state", "not known here", ""},
		{"GET", "/resends?cursor=cmVzZW5kczp4", "", 400, "cursor", "", ""},
		{"POST", "/resends", "", 400, "/endpoint", `"endpoint" is missing`, ""},
		{"POST", "/resends", `{"endpoint":"crm"}`, 400, "", "the filter is empty", ""},
		{"POST", "/resends", `{"endpoint":"crm","filter":{"ids":[1]}}`, 400, "/filter/ids", "not known here", ""},
		{"POST", "/resends", `{"endpoint":"crm","filter":{"key":1}}`, 400, "/filter/key", "a text", ""},
		{"POST", "/resends", `{"endpoint":"nobody","filter":{"key":"1"}}`, 404, "", "", ""},
		{"POST", "/resends", `{"endpoint":["crm"],"filter":{"key":"1"}}`, 400, "/endpoint", "", ""},
		{"GET", "/resends/abc", "", 404, "", "", "/resends/{id}"},
		{"GET", jobPath + "?wait=true", "", 400, "wait", "", "/resends/{id}"},
		{"POST", "/resends/99999/cancel", "", 404, "", "", "/resends/{id}/cancel"},
		{"POST", "/resends/99999/pause", "", 404, "", "", "/resends/{id}/pause"},
		{"POST", "/resends/99999/resume", "", 404, "", "", "/resends/{id}/resume"},
		{"POST", jobPath + "/pause", "", 409, "", "is no backfill", "/resends/{id}/pause"},
		{"POST", jobPath + "/resume", "", 409, "", "is no paused backfill", "/resends/{id}/resume"},
		{"POST", "/replays", `{}`, 400, "/filter/from", "from when on", ""},
		{"POST", "/replays", `{"filter":{"from":"2026-03-01T00:00:00Z"},"rate":-1}`, 400, "/rate", "not a rate", ""},
		{"POST", "/replays", `{"filter":{"from":"2026-03-01T00:00:00Z"},"endpoint":"nobody"}`, 404, "", "", ""},
		{"POST", "/backfills", `{}`, 400, "", "would choose all", ""},
		{"POST", "/backfills", `{"filter":{"table":""}}`, 400, "/filter/table", "is empty", ""},
		{"POST", "/backfills", `{"filter":{"table":"cobrancas","key":"1"}}`, 400, "/filter/key", "not known here", ""},
		{"POST", "/backfills", `{"all":true,"endpoint":"nobody"}`, 404, "", "", ""},
		{"POST", "/backfills", `{"all":true,"rate":-1}`, 400, "/rate", "not a rate", ""},
		{"GET", "/event-types?limit=1", "", 400, "limit", "not known here", ""},
		{"GET", "/event-types/nothing", "", 404, "", "", "/event-types/{name}"},
		{"GET", "/event-types/cobranca.paga?limit=1", "", 400, "limit", "not known here", "/event-types/{name}"},
		{"GET", "/rules?file=rules/a.yaml", "", 400, "file", "not known here", ""},
		{"POST", "/corrections", `{"filter":{"from":"2026-03-01T00:00:00Z"}}`, 400, "/rules", `"rules" is missing`, ""},
		{"POST", "/corrections", `{"rules":{},"filter":{"from":"2026-03-01T00:00:00Z"}}`, 400, "/rules", "", ""},
		{"POST", "/corrections", `{"rules":{"a.yaml":"rules: []"}}`, 400, "/filter/from", "from when on", ""},
		{"POST", "/corrections", `{"rules":{"a.yaml":1},"filter":{"from":"2026-03-01T00:00:00Z"}}`, 400, "/rules", "the text of each rule file", ""},
		{"POST", "/corrections", `{"rules":{"a/b.txt":"rules: []"},"filter":{"from":"2026-03-01T00:00:00Z"},"dry_run":true}`, 400, "/rules/a~1b.txt", "it is wrong", ""},
		{"POST", "/corrections", `{"rules":{"a.yaml":"rules: []"},"filter":{"from":"2026-03-01T00:00:00Z","key":"1"}}`, 400, "/filter/key", "not known here", ""},
		{"POST", "/corrections", `{"rules":{"a.yaml":"rules: []"},"filter":{"from":"2026-03-01T00:00:00Z"},"rate":-1}`, 400, "/rate", "not a rate", ""},
		{"POST", "/corrections", `{"rules":{"a.yaml":"rules: []"},"filter":{"from":"2026-03-01T00:00:00Z"},"endpoint":"nobody"}`, 404, "", "", ""},
		{"POST", "/simulations", `{}`, 400, "/text", `"text" is missing`, ""},
		{"POST", "/simulations", `{"file":"rules/a.yaml","text":1,"table":"cobrancas"}`, 400, "/text", "a text", ""},
		{"POST", "/simulations", `{"file":"rules/b.yaml","text":"rules: []","table":"cobrancas"}`, 400, "/file", "there is no such rule file", ""},
		{"POST", "/simulations", `{"file":"rules/a.yaml","text":"rules: []","table":"a.b.c"}`, 400, "/table", "not the name of a table", ""},
		{"POST", "/simulations", `{"file":"rules/a.yaml","text":"rules: []","table":"cobrancas","limit":10001}`, 400, "/limit", "so many rows are not read", ""},
		{"POST", "/simulations", `{"file":"rules/a.yaml","text":"rules: []","table":"cobrancas","limit":"7"}`, 400, "/limit", "a number", ""},
		{"POST", "/simulations", `{"file":"rules/a.yaml","text":"rules: []","table":"cobrancas","dry_run":true}`, 400, "/dry_run", "not known here", ""},
		{"GET", "/status?verbose", "", 400, "verbose", "not known here", ""},
		{"GET", "/sources?x=1", "", 400, "x", "", ""},
		{"GET", "/gaps?who=me", "", 400, "who", "", ""},
		{"GET", "/doctor?only=redis", "", 400, "only", "not known here", ""},
		{"GET", "/audit?who=me", "", 400, "who", "", ""},
		{"GET", "/audit?from=2026-13-01T00:00:00Z", "", 400, "from", "", ""},
		{"GET", "/tokens?x=1", "", 400, "x", "", ""},
		{"POST", "/tokens", `{}`, 400, "/name", `"name" is missing`, ""},
		{"POST", "/tokens", `{"name":"","role":"viewer"}`, 400, "/name", "write a text", ""},
		{"POST", "/tokens", `{"name":null,"role":"viewer"}`, 400, "/name", `"name" has to be a text`, ""},
		{"POST", "/tokens", `{"name":"x"}`, 400, "/role", `"role" is missing`, ""},
		{"POST", "/tokens", `{"name":"x","role":"king"}`, 400, "/role", "this role does not exist", ""},
		{"POST", "/tokens", `{"name":"X Y","role":"viewer"}`, 400, "/name", "", ""},
		{"POST", "/tokens", `{"name":"x","role":"viewer","tenant":1}`, 400, "/tenant", "a text", ""},
		{"POST", "/tokens", `{"name":"x","role":"viewer","expires":"2020-01-01T00:00:00Z"}`, 400, "/expires", "expired already", ""},
		{"POST", "/tokens", `{"name":"x","role":"viewer","expires":"9999-12-31T23:59:59-12:00"}`, 400, "/expires", "not from 0 to 9999", ""},
		{"POST", "/tokens", `{"name":"..","role":"viewer"}`, 400, "/name", "not dots alone", ""},
		{"POST", "/tokens", `{"name":".","role":"viewer"}`, 400, "/name", "not dots alone", ""},
		{"POST", "/tokens", `{"name":"root","role":"viewer"}`, 409, "", "", ""},
		{"GET", "/screens?x=1", "", 400, "x", "not known here", ""},
		{"GET", "/screens/totvs?tenant=1", "", 404, "", "", "/screens/{name}"},
		{"GET", "/screens/crm-centro", "", 400, "tenant", "no unit is named", "/screens/{name}"},
		{"POST", "/screens/crm-centro", `{"tenant":"1","state":"paused"}`, 400, "/state", "write active or inactive", "/screens/{name}"},
		{"POST", "/screens/crm-centro", `{"tenant":"1","removed":"burn"}`, 400, "/removed", "deliver, drop or keep", "/screens/{name}"},
		{"POST", "/screens/crm-centro", `{"tenant":"1","addresses":[{"url":"https://a.example.com","actionss":[]}]}`, 400, "/addresses", "a list of objects", "/screens/{name}"},
		{"POST", "/screens/crm-centro", `{"tenant":"1","addresses":[{"url":"https://a.example.com","actions":["x"]}]}`, 400, "/addresses/0/actions/0", "no such action", "/screens/{name}"},
		{"POST", "/screens/crm-centro", `{"tenant":"1","addresses":[{"url":"http://a.example.com","actions":["cobranca"]}]}`, 400, "/addresses/0/url", "not https", "/screens/{name}"},
		{"POST", "/screens/crm-centro", `{"tenant":"1","addresses":[{"endpoint":"crm"}]}`, 404, "", "", "/screens/{name}"},
		{"GET", "/tenant-fields", "", 400, "tenant", "no unit is named", ""},
		{"POST", "/tenant-fields", `{"tenant":"1","fields":{}}`, 400, "/fields", "no field is named", ""},
		{"POST", "/tenant-fields", `{"tenant":"1","fields":{"type":"x"}}`, 400, "/fields", "set by Gancho", ""},
		{"POST", "/tenant-fields", `{"tenant":"1","fields":{"token":"***"}}`, 400, "/fields/token", "cannot be the value", ""},
		{"POST", "/console-links", `{}`, 400, "/role", `"role" is missing`, ""},
		{"POST", "/console-links", `{"role":"king"}`, 400, "/role", "this role does not exist", ""},
		{"POST", "/console-links", `{"role":"viewer","for":"2d"}`, 400, "/for", "", ""},
		{"POST", "/console-links", `{"role":"viewer","return_url":"javascript:alert(1)"}`, 400, "/return_url", "no address of a page", ""},
		{"POST", "/console-links", `{"role":"viewer","language":"fr"}`, 400, "/language", "pt-BR or en", ""},
		{"DELETE", "/tokens/nobody", "", 404, "", "", "/tokens/{name}"},
		// What is no path at all.
		{"GET", "/nowhere", "", 404, "", "", "-"},
		{"GET", "", "", 404, "", "", "-"},
		{"GET", "/", "", 404, "", "", "-"},
		{"GET", "/endpoints/", "", 404, "", "", "-"},
		{"GET", "//endpoints", "", 404, "", "", "-"},
		{"GET", "/endpoints/../tokens", "", 404, "", "", "-"},
		{"GET", "/endpoints/%2e%2e/tokens", "", 404, "", "", "-"},
		{"GET", "/endpoints/crm%2fkeys", "", 404, "", "", "-"},
		{"PUT", "/endpoints/crm", `{}`, 405, "", "GET, HEAD, PATCH, DELETE", "-"},
		{"DELETE", "/endpoints", "", 405, "", "GET, HEAD, POST", "-"},
		{"GET", "/endpoints/crm/pause", "", 405, "", "POST", "-"},
		{"OPTIONS", "/endpoints", "", 405, "", "GET, HEAD, POST", "-"},
	} {
		a := w.do(c.method, c.path, "root", c.body)
		name := fmt.Sprintf("%s %.60s %s", c.method, c.path, c.body)
		route, _, _ := strings.Cut(c.path, "?")
		if c.route != "" {
			route = c.route
		}
		tried[c.method+" "+route] = true
		if a.status != c.status {
			t.Errorf("%s: %d, not %d: %s", name, a.status, c.status, a.body)
			continue
		}
		p := a.problem(t)
		said, found := p.Detail, c.at == ""
		for _, e := range p.Errors {
			said += "\n" + e.Message + "; " + e.Hint
			found = found || e.Pointer == c.at || e.Parameter == c.at
		}
		if !strings.Contains(said, c.says) {
			t.Errorf("%s: it does not say %q: %s", name, c.says, a.body)
		}
		if !found {
			t.Errorf("%s: no error is at %q: %s", name, c.at, a.body)
		}
		if c.status == http.StatusMethodNotAllowed && a.header.Get("Allow") != c.says {
			t.Errorf("%s: Allow is %q, not %q", name, a.header.Get("Allow"), c.says)
		}
	}
	w.unchanged(before, "wrong input")
	for _, r := range api.Routes() {
		switch route := r.Method + " " + r.Path; {
		case tried[route]:
		case route == "POST /endpoints/{name}/activate":
		default:
			t.Errorf("%s has not been tried", route)
		}
	}
}

// Every mistake is reported in one answer.
func TestAllMistakesAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for path, c := range map[string]struct {
		body string
		n    int
	}{
		"/endpoints":            {"{\n \"name\": \"X\",\n \"url\": \"ftp://x\",\n \"rate\": \"soon\"\n}", 3},
		"/dead-letters/redrive": {`{"filter":{"ids":"1","from":2},"rate":"x","speed":1}`, 4},
		"/tokens":               {`{"name":"A","role":"b","expires":"2001-01-01T00:00:00Z"}`, 3},
		"/resends":              {`{"filter":{"ids":[1],"keys":"1"}}`, 3},
	} {
		p := w.do("POST", path, "root", c.body).problem(t)
		if len(p.Errors) != c.n {
			t.Errorf("%s: %d errors, not %d: %+v", path, len(p.Errors), c.n, p)
		}
		for _, e := range p.Errors {
			if e.Pointer == "" {
				t.Errorf("%s: %q has no place", path, e.Message)
			}
		}
	}
	p := w.do("POST", "/endpoints", "root", "{\n \"name\": \"x\",\n \"url\": \"ftp://x\"\n}").problem(t)
	if len(p.Errors) != 1 || p.Errors[0].Line != 3 || p.Errors[0].Column != 9 {
		t.Errorf("the place is %+v", p.Errors)
	}
}

func TestBodies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const document = `{"name":"x","url":"https://a.example.com"}`
	before := w.snapshot()
	for _, c := range []struct {
		name, body string
		headers    []header
		status     int
	}{
		{"no type", document, []header{{"Content-Type", ""}}, 415},
		{"form", document, []header{{"Content-Type", "application/x-www-form-urlencoded"}}, 415},
		{"YAML", document, []header{{"Content-Type", "application/yaml"}}, 415},
		{"a patch's type", document, []header{{"Content-Type", "application/merge-patch+json"}}, 415},
		{"Latin-1", document, []header{{"Content-Type", "application/json; charset=iso-8859-1"}}, 415},
		{"malformed type", document, []header{{"Content-Type", "application/json; charset"}}, 415},
		{"compressed", document, []header{{"Content-Encoding", "gzip"}}, 415},
		{"not UTF-8", "{\"name\":\"\xff\"}", nil, 400},
		{"too large", `{"name":"` + strings.Repeat("x", 1<<20) + `"}`, nil, 413},
		{"large and deep", strings.Repeat("[", 200_000), nil, 400},
		{"deep", strings.Repeat(`{"a":`, 9_000) + "1" + strings.Repeat("}", 9_000), nil, 400},
	} {
		if a := w.do("POST", "/endpoints", "root", c.body, c.headers...); a.status != c.status {
			t.Errorf("%s: %d, not %d: %s", c.name, a.status, c.status, a.body)
		}
	}
	w.unchanged(before, "a wrong body")
	for i, body := range []string{
		`{"name":"ok-0","url":"https://a.example.com"}`,
		"\n\t{\"name\":\r\n\t\"ok-1\",\n\t\t\"url\": \"https:\\/\\/a.example.com\"\n\t}\n",
		`{"name":"ok-2","url":"https://a.example.com","events":["\u0063obran\u00e7a.*"],"extra":{"x":"\ud83d\ude00 ${HOME} #no: comment"}}`,
	} {
		a := w.do("POST", "/endpoints", "root", body, header{"Content-Type", "application/json; charset=utf-8"})
		if a.status != http.StatusCreated {
			t.Errorf("%q: %d: %s", body, a.status, a.body)
		}
		var view struct {
			Endpoint struct{ Settings struct{ Events []string } }
		}
		if err := json.Unmarshal(a.body, &view); err != nil || i == 2 && !slices.Equal(view.Endpoint.Settings.Events, []string{"cobrança.*"}) {
			t.Errorf("the pattern is not what was given: %s", a.body)
		}
	}
}

// A client that sends half a body is answered, or cut off, and changes nothing.
func TestHalfABody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.snapshot()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(conn, "POST /api/v1/endpoints HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"+
		`{"name":"x","url":"https://a.example.com"}`, w.tokens["root"])
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer := new(bytes.Buffer)
	_, _ = answer.ReadFrom(conn) // cut off is fine, too
	_ = conn.Close()
	if answer.Len() > 0 && !strings.HasPrefix(answer.String(), "HTTP/1.1 400") {
		t.Errorf("the answer is %s", answer)
	}
	w.unchanged(before, "half a body")
}
