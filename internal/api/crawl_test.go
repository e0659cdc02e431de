package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/delivery/webhook"
	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/internal/testservers"
)

// owner is whose things are marked: a tenant, or the operator.
type owner struct{ tenant, mark string }

// token is the name of the owner's token of a role.
func (o owner) token(role state.Role) string { return o.mark + "-" + string(role) }

var (
	operatorOwner = owner{"", "markop"}
	tenantOne     = owner{"1", "mark1"}
	tenantTwo     = owner{"2", "mark2"}
	tenantNine    = owner{"9", "mark9"}
)

// operatorOnly reports whether nothing at a path is a tenant's.
func operatorOnly(path string) bool {
	return strings.HasPrefix(path, "/parked") || path == "/backfills" || path == "/gaps" || path == "/sources" || path == "/proof" || path == "/doctor" || path == "/rules" || path == "/simulations" || path == "/corrections" || path == "/changes" || path == "/test-case"
}

// crawl makes every request that the description has, with each value of each
// parameter and member that it finds in the operator's lists.
type crawl struct {
	*world
	receiver string
	// values are those that stand in the operator's lists, by their names.
	values map[string][]any
	made   int // names given out
	conn   *pgx.Conn
}

// TestCrawl makes every request of the description as each role of two tenants and of
// the operator. A tenant's answers hold nothing of others and tell what is others' from
// what does not exist in nothing, and others' things stay as they are. And each route does
// what it is for, for whoever may use it: one that nobody is seen to use fails the test. The race detector's
// sample is a viewer, another tenant's operator, and the operator's admin.
func TestCrawl(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	c := newCrawl(newWorld(t))
	for _, o := range owners()[:2] {
		c.counts(o)
	}
	type user struct {
		owner
		role state.Role
	}
	var users []user
	for _, o := range owners() {
		for _, role := range []state.Role{state.Viewer, state.Operator, state.Admin} {
			users = append(users, user{o, role})
		}
	}
	for _, u := range testservers.Sample(users) {
		c.deliver(u.owner, u.mark+"-own", u.mark)
		c.resend(u.owner)
		must[control.EndpointView](c.world, http.StatusOK, "POST", "/endpoints/"+u.mark+"-own/pause", "root", "") // for activate to change it
		c.harvest()
		if u.owner == operatorOwner && u.role == state.Admin {
			c.park(3) // one more than are dropped one by one
		}
		c.as(u.owner, u.role)
	}
}

// owners are those whose things the crawl meets.
func owners() []owner { return []owner{tenantOne, tenantTwo, operatorOwner} }

// newCrawl fills a world with things of each owner.
func newCrawl(w *world) *crawl {
	w.t.Helper()
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	w.t.Cleanup(receiver.Close)
	c := &crawl{world: w, receiver: receiver.URL}
	var err error
	if c.conn, err = pgx.Connect(w.t.Context(), c.dsn); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.conn.Close(context.Background()) })
	for _, o := range owners() {
		for _, role := range []state.Role{state.Viewer, state.Operator, state.Admin} {
			_, text, err := c.store.CreateToken(w.t.Context(), "cli:"+o.mark, state.Token{Name: o.token(role), Role: role, Tenant: o.tenant})
			if err != nil {
				w.t.Fatal(err)
			}
			c.tokens[o.token(role)] = text
		}
	}
	c.park(2)
	if err := queuetest.Client(w.t, w.redis).HSet(w.t.Context(), "gancho:source", "gap:2", `{"id":"2","reason":"missing","detail":"`+operatorOwner.mark+`","slot":"gancho","from":"0/1","recorded":"2026-11-29T00:00:00Z"}`).Err(); err != nil {
		w.t.Fatal(err)
	}
	c.populate(operatorOwner, "shared", "")
	must[control.BackfillView](c.world, http.StatusAccepted, "POST", "/backfills", "root", `{"filter":{"table":"markop-contas"}}`)
	for _, o := range owners() {
		c.populate(o, o.mark+"-own", o.tenant)
		c.deliver(o, "shared", o.mark+"-shared")
		c.resend(o)
	}
	c.harvest()
	return c
}

// resend makes a job of an owner.
func (c *crawl) resend(o owner) {
	c.t.Helper()
	must[state.Job](c.world, http.StatusAccepted, "POST", "/resends", o.token(state.Admin), asJSON(object{"endpoint": o.mark + "-own", "filter": object{"key": o.mark + "-key"}}))
}

// populate adds an endpoint of a tenant with events of its own.
func (c *crawl) populate(o owner, name, tenant string) {
	c.t.Helper()
	document := object{
		"name": name, "url": c.receiver + "/hooks/" + o.mark + "-path?token=" + o.mark + "-query", "allow_http": true, "allow_private": []string{"127.0.0.1/32"},
		"headers": object{"X-Key": o.mark + "-header"},
	}
	if tenant != "" {
		document["tenants"] = []string{tenant}
	}
	must[control.CreatedView](c.world, http.StatusCreated, "POST", "/endpoints", "root", asJSON(document))
	c.deliver(o, name, o.mark)
}

// deliver stores attempts at an endpoint, dead letters and kept events of an owner.
// What the receiver has answered is the operator's where the endpoint is.
func (c *crawl) deliver(o owner, endpoint, about string) {
	c.t.Helper()
	source, err := c.queue.SourceID(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	answer := o.mark + "-answer"
	if endpoint == "shared" {
		answer = operatorOwner.mark + "-answer"
	}
	for i := range 2 {
		c.made++
		m := webhook.Message{
			ID: fmt.Sprintf("%s-event-%d", about, c.made), Type: "cobranca.paga", Tenant: o.tenant, Key: o.mark + "-key", Time: now.Add(-time.Hour),
			Sequence: fmt.Sprintf("%020d", i), Data: []byte(`{"of":"` + o.mark + `-data"}`), Version: "1",
		}
		failures := queue.Failures{First: now, Last: now, Status: 500, Class: webhook.ClassStatus, Error: answer, Answer: answer}
		dead := state.DeadLetter{Endpoint: endpoint, DeadEvent: queue.DeadEvent{Handle: fmt.Sprintf("%d-1", c.made), Reason: "attempts", Attempts: 3, Message: m, Failures: failures}}
		attempt := state.Attempt{
			Time: now, Endpoint: endpoint, Entry: fmt.Sprint(c.made), WebhookID: m.ID, Event: m.Type, Tenant: o.tenant, Key: m.Key, Committed: m.Time, Number: 1,
			Outcome: queue.OutcomeDead, Class: webhook.ClassStatus, Status: 500, Error: answer,
		}
		captured := attempt                                                                            // by this source, for the ids of a day
		captured.Entry, captured.WebhookID = fmt.Sprintf("45035996273%05d-2", c.made), source+"-"+m.ID // an entry of epoch 1
		for _, err := range []error{
			c.store.WriteDead(c.t.Context(), []state.DeadLetter{dead}), c.store.WriteAttempts(c.t.Context(), []state.Attempt{attempt, captured}), c.store.WriteEvents(c.t.Context(), []webhook.Message{m}),
		} {
			if err != nil {
				c.t.Fatal(err)
			}
		}
	}
}

// operations calls f with each method of each path: what reads first, what removes last,
// and of that what removes most.
func (c *crawl) operations(f func(method, path string, o object)) {
	paths, _ := c.about.object["paths"].(object)
	names := slices.Sorted(maps.Keys(paths))
	names = slices.DeleteFunc(names, func(path string) bool { return path == "/tail" }) // it lasts; TestTenants and TestTail have it
	removes := func(method, path string) int {
		switch {
		case strings.Contains(path, "drop"):
			return 2
		case method != "delete":
			return 0
		case strings.Contains(path, "{id}"):
			return 1
		}
		return 3
	}
	for step := range 4 {
		for _, method := range []string{"get", "post", "patch", "put", "delete"} {
			for _, path := range names {
				if o := c.about.operation(method, path); o != nil && step == removes(method, path) {
					f(strings.ToUpper(method), path, o)
				}
			}
		}
	}
}

// harvest reads the operator's lists: what they hold are the values to try.
func (c *crawl) harvest() {
	c.t.Helper()
	c.values = map[string][]any{}
	c.operations(func(method, path string, _ object) {
		if method != http.MethodGet || strings.Contains(path, "{") || path == "/openapi.json" {
			return
		}
		var body any
		if err := json.Unmarshal(c.do(method, path, "root", "").body, &body); err != nil {
			c.t.Fatal(err)
		}
		c.gather(path, body)
	})
	c.values["/events id"] = c.values["/dead-letters webhook_id"]            // no list has kept events; deliver keeps those of dead letters
	for _, at := range []time.Time{time.Now().Add(-time.Hour), time.Now()} { // of what deliver has made
		if day := any(at.UTC().Format(time.DateOnly)); !slices.Contains(c.values["day"], day) {
			c.values["day"] = append(c.values["day"], day)
		}
	}
}

// gather notes the texts and numbers of an answer, by their names, and by their list's.
func (c *crawl) gather(path string, v any) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			c.gather(path, item)
		}
	case object:
		for name, value := range v {
			if _, nested := value.(object); !nested {
				for _, key := range []string{name, path + " " + name} {
					if list, _ := value.([]any); list == nil && !slices.Contains(c.values[key], value) {
						c.values[key] = append(c.values[key], value)
					}
				}
			}
			c.gather(path, value)
		}
	}
}

// absent stands for what does not exist, as a text and as a number.
const (
	absent       = "absent-1"
	absentNumber = 99999999
)

// candidates are values of a name for a schema; list is the path of the list that they are in.
func (c *crawl) candidates(list, name string, schema object) []any {
	if enum, ok := schema["enum"].([]any); ok {
		return enum
	}
	if schema["format"] == "date-time" {
		return []any{"2001-01-01T00:00:00Z", "2099-01-01T00:00:00Z"}
	}
	kind, _ := schema["type"].(string)
	var out []any
	for _, key := range []string{list + " " + name, name} {
		if len(out) == 0 {
			out = slices.DeleteFunc(slices.Clone(c.values[key]), func(v any) bool { return !ofType(schema["type"], v) && schema["type"] != nil })
		}
	}
	switch kind {
	case "boolean":
		return []any{true, false}
	case "array":
		var lists []any
		for _, v := range c.candidates(list, strings.TrimSuffix(name, "s"), c.about.resolve(schema["items"])) {
			lists = append(lists, []any{v})
		}
		return lists
	case "integer":
		return append(few(out), float64(absentNumber))
	case "number":
		return []any{1.0}
	case "object":
		return c.objects(schema)
	}
	return append(few(out), absent, "")
}

// few are one value of each owner, and of those without one the first and the last,
// which are older and newer things.
func few(all []any) []any {
	const each = 4
	var out, unmarked []any
	seen := map[string]bool{}
	for _, v := range all {
		mark := regexp.MustCompile(`mark\w+`).FindString(fmt.Sprint(v))
		if mark == "" {
			unmarked = append(unmarked, v)
		} else if !seen[mark] {
			seen[mark] = true
			out = append(out, v)
		}
	}
	if len(unmarked) > 2*each {
		unmarked = slices.Delete(unmarked, each, len(unmarked)-each)
	}
	return append(out, unmarked...)
}

// objects are values of an object's schema: with what is required, and each further member alone.
func (c *crawl) objects(schema object) []any {
	required := object{}
	names, _ := schema["required"].([]any)
	properties, _ := schema["properties"].(object)
	for _, name := range names {
		required[name.(string)] = nil
	}
	with := func(name string, v any) object {
		o := object{}
		for key := range required {
			o[key] = c.fill(key, c.about.resolve(properties[key]))
		}
		if name != "" {
			o[name] = v
		}
		return o
	}
	out := []any{with("", nil)}
	for name, property := range properties {
		for _, v := range c.candidates("", name, c.about.resolve(property)) {
			if name != "name" || v != absent {
				out = append(out, with(name, v))
			}
		}
	}
	return out
}

// fill is a value that a member has while others are tried.
func (c *crawl) fill(name string, schema object) any {
	c.made++
	switch {
	case name == "name":
		return fmt.Sprintf("made-%d", c.made)
	case name == "url":
		return c.receiver
	case schema["type"] == "object":
		return object{"key": "none"}
	}
	return c.candidates("", name, schema)[0]
}

// visit is a request of the crawl.
type visit struct {
	method, path, body string
	values             []any // of what was harvested
}

// asks are the requests of an operation.
func (c *crawl) asks(method, path string, o object) []visit {
	paths := []visit{{path: path}}
	var query []visit
	required := []visit{{}} // with all parameters of the query that are
	for _, p := range c.about.parameters(path, o) {
		name, _ := p["name"].(string)
		schema := c.about.resolve(p["schema"])
		switch p["in"] {
		case "path":
			list, _, _ := strings.Cut(path, "/{")
			var with []visit
			for _, a := range paths {
				for _, v := range c.candidates(list, name, schema) {
					if v != "" {
						with = append(with, visit{path: strings.ReplaceAll(a.path, "{"+name+"}", url.PathEscape(plain(v))), values: append(a.values, v)})
					}
				}
			}
			paths = with
		case "query":
			all := c.candidates("", name, schema)
			if p["required"] == true || path == "/why" && (name == "table" || name == "key") { // an event, or a change, may stand for them
				var with []visit
				for _, a := range required {
					for _, v := range all {
						with = append(with, visit{path: a.path + "&" + name + "=" + url.QueryEscape(plain(v)), values: append(slices.Clone(a.values), v)})
					}
				}
				required = with
			}
			for _, v := range all {
				if list, ok := v.([]any); ok {
					v = list[0]
				}
				query = append(query, visit{path: "?" + name + "=" + url.QueryEscape(plain(v)), values: []any{v}})
			}
		}
	}
	for _, a := range required {
		if a.path == "" {
			continue
		}
		query = append(query, visit{path: "?" + a.path[1:], values: a.values})
	}
	bodies := []visit{{}}
	content, _ := at(o, "requestBody", "content", "application/json").(object)
	if content != nil {
		for _, v := range c.objects(c.about.resolve(content["schema"])) {
			bodies = append(bodies, visit{body: asJSON(v), values: leaves(v)})
		}
		examples, _ := content["examples"].(object)
		for _, e := range examples {
			bodies = append(bodies, visit{body: asJSON(at(e, "value"))})
		}
	}
	var out []visit
	for _, p := range paths {
		for _, b := range bodies {
			out = append(out, visit{method, p.path, b.body, slices.Concat(p.values, b.values)})
		}
		for _, q := range query {
			out = append(out, visit{method, p.path + q.path, "", slices.Concat(p.values, q.values)})
		}
	}
	return out
}

// plain is a value as it stands in a URL.
func plain(v any) string {
	if n, ok := v.(float64); ok {
		return fmt.Sprint(int64(n))
	}
	return fmt.Sprint(v)
}

// leaves are the texts and numbers in a value.
func leaves(v any) (out []any) {
	switch v := v.(type) {
	case object:
		for _, item := range v {
			out = append(out, leaves(item)...)
		}
	case []any:
		for _, item := range v {
			out = append(out, leaves(item)...)
		}
	default:
		out = append(out, v)
	}
	return out
}

// as crawls with an owner's token of a role.
func (c *crawl) as(o owner, role state.Role) {
	c.t.Helper()
	token := o.token(role)
	before := c.snapshot()
	visits := func(method, path string, operation object) {
		needs, _ := operation["x-role"].(string)
		allowed := needs == "" || role.Covers(state.Role(needs))
		w := c.witness(o, method, path, allowed && (o.tenant == "" || !operatorOnly(path)))
		for _, a := range c.asks(method, path, operation) {
			if slices.Contains(a.values, any(token)) && method == http.MethodDelete {
				continue // its own token
			}
			got := c.do(a.method, a.path, token, a.body)
			w.see(got)
			switch {
			case got.status >= 500:
				c.t.Errorf("%s %s %s as %s: %d %s", a.method, a.path, a.body, token, got.status, got.body)
			case !allowed && got.status != http.StatusForbidden:
				c.t.Errorf("%s %s as %s: %d, not 403", a.method, a.path, token, got.status)
			case o.tenant != "":
				c.foreign(o, token, a, got)
			}
		}
		if !w.satisfied {
			c.t.Errorf("%s %s as %s: no request of the crawl reads or changes anything, so it shows nothing", method, path, token)
		}
	}
	erases := func(path string) bool { return path == "/forget" }
	c.operations(func(method, path string, operation object) {
		if !erases(path) {
			visits(method, path, operation)
		}
	})
	if o.tenant != "" {
		c.untouched(o, token, before, func(string) bool { return false })
	}
	before = c.snapshot()
	c.operations(func(method, path string, operation object) {
		if erases(path) {
			visits(method, path, operation)
		}
	})
	if o.tenant != "" { // its own events on endpoints of others are the tenant's to erase
		c.untouched(o, token, before, regexp.MustCompile(`"tenant": "`+o.tenant+`"`).MatchString)
	}
}

// witness looks for the proof that an operation does what it is for: something of the
// owner's is read, or something stored is changed.
type witness struct {
	*crawl
	satisfied bool
	proof     string // in an answer; "": something is changed
	before    string // what is stored
}

// proofs are what is in answers that hold nothing marked.
var proofs = map[string]string{
	"GET /openapi.json": `"openapi":`, "GET /event-types": "cobranca.paga", "GET /endpoints/{name}/keys": `"kind":`,
	"GET /doctor": `"snoozed":`, "GET /why": `"outcome":"event"`, "GET /parked": "division by zero", "GET /parked/groups": "division by zero", "GET /parked/{id}": "division by zero", "POST /endpoints/{name}/test": `"status":204`,
	"POST /backfills": `"plan":`, "GET /screens": `"layout":"groups"`, "GET /screens/{name}": `"addresses":`, "POST /screens/{name}": `"addresses":`, "GET /tenant-fields": `"fields":`,
	"GET /sources": `"sources":`, "GET /installation": `"timezone":`, "GET /proof": `"differences":[]`, "GET /changes": `"outcome":"event"`, "GET /test-case": `"text":"tests: []`, "GET /rules": `"events":7`, "POST /simulations": `"gone":7`, "POST /corrections": `"comparison":`, "GET /event-types/{name}": `"endpoints":`, "GET /rates": `"step_seconds":`,
}

func (c *crawl) witness(o owner, method, path string, needed bool) *witness {
	w := &witness{crawl: c, satisfied: !needed, proof: proofs[method+" "+path]}
	switch {
	case strings.HasSuffix(path, "/resume"), path == "/resends/{id}/pause":
		w.satisfied = true // the crawl has canceled the one backfill before; internal/state shows that it is paused and resumed
	case w.satisfied || w.proof != "":
	case method == http.MethodGet:
		w.proof = o.mark
	default:
		w.before = c.stored()
	}
	return w
}

func (w *witness) see(got *reply) {
	switch {
	case w.satisfied || got.status >= 300:
	case w.proof != "":
		w.satisfied = strings.Contains(string(got.body), w.proof)
	default:
		now := w.stored()
		w.satisfied, w.before = w.before != now, now
	}
}

// stored stands for all that is stored, but for the audit log, which is about the rest,
// and when tokens were used last.
func (c *crawl) stored() string {
	c.t.Helper()
	tables, err := c.conn.Query(c.t.Context(), `select md5(query_to_xml(format('select to_jsonb(t) - ''last_used'' from %s t', oid::regclass), true, true, '')::text)
		from pg_class where relnamespace = 'gancho'::regnamespace and relkind in ('r', 'p') and not relispartition and relname <> 'audit' order by relname`)
	if err != nil {
		c.t.Fatal(err)
	}
	sums, err := pgx.CollectRows(tables, pgx.RowTo[string])
	if err != nil {
		c.t.Fatal(err)
	}
	return strings.Join(append(sums, c.dumps()...), " ")
}

// marksOf finds what is of others than the owner.
func (o owner) marksOf(text string) []string {
	return slices.DeleteFunc(regexp.MustCompile(`mark(1|2|9|op)[\w-]*`).FindAllString(text, -1), func(mark string) bool { return strings.HasPrefix(mark, o.mark) })
}

// foreign holds an answer to a tenant against the marks of others, and, where the request
// names something of others, against the answer for what does not exist.
func (c *crawl) foreign(o owner, token string, a visit, got *reply) {
	c.t.Helper()
	// What the tenant has once asked for stands in its own jobs.
	text := regexp.MustCompile(`"filter":\{[^{}]*"tenant":"`+o.tenant+`"[^{}]*\}`).ReplaceAllString(string(got.body), "")
	for _, v := range a.values {
		if s, ok := v.(string); ok && s != "" {
			text = strings.ReplaceAll(text, `"`+s+`"`, `"*"`) // what was asked for may be repeated
		}
	}
	if marks := o.marksOf(text); len(marks) > 0 && !strings.HasSuffix(a.path, "openapi.json") {
		c.t.Errorf("%s %s %s as %s: the answer tells of others, %q: %s", a.method, a.path, a.body, token, marks, got.body)
	}
	for _, v := range a.values {
		s, ok := v.(string)
		if !ok || len(o.marksOf(s)) == 0 || strings.Contains(a.body, `"name"`) {
			continue // names are all tenants' together: the description says so
		}
		instead := visit{a.method, strings.ReplaceAll(a.path, s, absent), strings.ReplaceAll(a.body, s, absent), nil}
		want := c.do(instead.method, instead.path, token, instead.body)
		// Its own jobs name what it has asked for.
		times := regexp.MustCompile(`"(id|created|time|subject|audit|begun|ended|mentions)":("[^"]*"|\d+)|,"\d+ of them name the key in their filter[^"]*"`)
		one, two := times.ReplaceAllString(strings.ReplaceAll(string(got.body), s, absent), ""), times.ReplaceAllString(string(want.body), "")
		if want.status != got.status || one != two {
			c.t.Errorf("%s %s %s as %s: %d %s\nwith what does not exist: %d %s", a.method, a.path, a.body, token, got.status, got.body, want.status, want.body)
		}
	}
}

// untouched: of what was stored of others nothing is changed or gone, and what was added is the token's.
// It looks at no rows that are own.
func (c *crawl) untouched(o owner, token string, before map[string][]string, own func(row string) bool) {
	c.t.Helper()
	after := c.snapshot()
	for table, rows := range before {
		for _, row := range rows {
			theirs := len(o.marksOf(row)) > 0 || strings.Contains(row, "shared") || strings.Contains(row, "parked")
			if theirs && !own(row) && !strings.Contains(row, o.mark+"-own") && !strings.Contains(row, "token:"+o.mark) && !slices.Contains(after[table], row) {
				c.t.Errorf("%s has changed what is others', in %s: %s", token, table, row)
			}
		}
	}
	for table, rows := range after {
		for _, row := range rows {
			if !slices.Contains(before[table], row) && len(o.marksOf(row)) > 0 && !strings.Contains(row, "token:"+token) && !strings.Contains(row, `"token:`+o.mark) {
				c.t.Errorf("%s has added to what is others', in %s: %s", token, table, row)
			}
		}
	}
}

// counts: more of others' changes nothing in what a tenant reads.
func (c *crawl) counts(o owner) {
	c.t.Helper()
	token := o.token(state.Admin)
	read := func() map[string]string {
		out := map[string]string{}
		// A time, and what this reader has read before.
		times := regexp.MustCompile(`"(time|last_used)":"[^"]*",?|\{[^{}]*"action":"(?:dead|event).read"[^{}]*\},?`)
		c.operations(func(method, path string, operation object) {
			if method == http.MethodGet {
				for _, a := range c.asks(method, path, operation) {
					out[a.path] = times.ReplaceAllString(string(c.do(method, a.path, token, "").body), "")
				}
			}
		})
		return out
	}
	// Of the last minutes: what was counted at first may have left them.
	recent := regexp.MustCompile(`"recent":\{"delivered":(\d+),"failed":(\d+)`)
	number := func(text string) int {
		n, err := strconv.Atoi(text)
		if err != nil {
			c.t.Error(err)
		}
		return n
	}
	before := read()
	c.deliver(tenantNine, o.mark+"-own", tenantNine.mark) // from when it was another's, too
	for _, other := range []owner{tenantOne, tenantTwo, operatorOwner} {
		if other != o {
			c.deliver(other, "shared", other.mark+"-more")
			c.deliver(other, other.mark+"-own", other.mark+"-more")
			c.resend(other)
		}
	}
	for path, answer := range read() {
		earlier := recent.FindAllStringSubmatch(before[path], -1)
		for i, now := range recent.FindAllStringSubmatch(answer, -1) {
			if i >= len(earlier) || number(now[1]) > number(earlier[i][1]) || number(now[2]) > number(earlier[i][2]) {
				c.t.Errorf("GET %s as %s counts what is others': %s, before it %s", path, token, now[0], earlier)
			}
		}
		if recent.ReplaceAllString(answer, "") != recent.ReplaceAllString(before[path], "") {
			c.t.Errorf("GET %s as %s counts what is others':\n%s\nbefore: %s", path, token, answer, before[path])
		}
	}
}
