package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/internal/control"
	"gancho/internal/testservers"
)

// manyDesk is a bridge with three databases, of which the third does not fit the rules, and a login at its API. Of each of the others it has read three rows
// with the keys 1, 2 and 3, each of another tenant: of the third no event can be made.
type manyDesk struct {
	*desk
	many                 *manyWorld
	first, second, wrong string
	receiver             *receiver
	bridge               *bridge
	console              string
}

func newManyDesk(t *testing.T) *manyDesk {
	t.Helper()
	w := newManyWorld(t)
	w.rules = "rules:\n  - {event: cliente.novo, table: clientes, on: insert, when: 10 / valor > 0, tenant: empresa_id, columns: [id, nome]}\n"
	address := closedPort(t)
	w.extra += "\n  keep_events: 7d\n  keep_changes: true\nconsole:\n  listen: " + address
	d := &manyDesk{many: w, first: w.names[0], second: w.names[1], wrong: w.names[2], receiver: newReceiver(t, nil), console: "http://" + address}
	w.endpoint("crm", d.receiver.url())
	s := &session{world: w.world, path: w.write()}
	d.bridge = w.start("run", "--create", "--config", s.path)
	d.bridge.waitLog("sources taken up")
	w.waitSlots("gancho_"+d.first, "gancho_"+d.second)
	d.bridge.waitLog(`column \"nome\" is not in table clientes`)
	for i, name := range []string{d.first, d.second} {
		if err := pg.Exec(t.Context(), name, fmt.Sprintf("insert into clientes values (1, 7, 'Ana', 1), (2, 8, 'Rui', 2), (3, %d, 'Bia', 0)", 7+i)); err != nil {
			t.Fatal(err)
		}
	}
	d.receiver.waitCount(4)
	d.desk = &desk{session: s, address: "http://" + d.bridge.listening(), tried: map[string]bool{}}
	d.login(d.address, "mesa", "admin")
	for range 2 {
		d.await("/parked", func(v page[control.Parked]) bool { return len(v.Items) == 2 })
	}
	return d
}

// page is a list of the API.
type page[T any] struct {
	Items []T
	Next  string
}

// askAPI makes a request to the API, and reads its answer. The error is not of the test, which may run in another goroutine.
func askAPI(ctx context.Context, address, token, method, path, body string) (status int, text []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, method, address+"/api/v1"+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = answer.Body.Close() }() // it is read only
	text, err = io.ReadAll(answer.Body)
	return answer.StatusCode, text, err
}

// token creates one of an administrator, or of a tenant's viewer.
func (d *manyDesk) token(name, tenant string) string {
	d.t.Helper()
	args := []string{"tokens", "create", name, "--role", "admin"}
	if tenant != "" {
		args = []string{"tokens", "create", name, "--role", "viewer", "--tenant", tenant}
	}
	return decoded[control.CreatedToken](d.session, args...).Text
}

// api asks the API, and expects the status and parts of the answer.
func (d *manyDesk) api(token string, want int, method, path, body string, parts ...string) []byte {
	d.t.Helper()
	status, text, err := askAPI(d.t.Context(), d.address, token, method, path, body)
	if err != nil || status != want {
		d.t.Errorf("%s %s: %d, want %d: %v\n%s", method, path, status, want, err, text)
	}
	for _, part := range parts {
		if !strings.Contains(string(text), part) {
			d.t.Errorf("%s %s: no %q in\n%s", method, path, part, text)
		}
	}
	return text
}

// await asks until the answer is as it is to be.
func (d *manyDesk) await(path string, done func(page[control.Parked]) bool) {
	d.t.Helper()
	token := d.token("espera-"+strings.ToLower(fmt.Sprint(time.Now().UnixNano())), "")
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); ; <-tick.C {
		var v page[control.Parked]
		status, text, err := askAPI(d.t.Context(), d.address, token, http.MethodGet, path, "")
		if err == nil && status == http.StatusOK && json.Unmarshal(text, &v) == nil && done(v) {
			return
		}
		if time.Now().After(end) {
			d.t.Fatalf("GET %s: %d, %v: %s", path, status, err, text)
		}
	}
}

// TestSourcesOverAPI: what is kept of each source apart is asked of all, with the source in each row, or of one; what is of one alone is refused without its
// name. A tenant's token has what is of its source.
func TestSourcesOverAPI(t *testing.T) {
	t.Parallel()
	d := newManyDesk(t)
	root := d.token("raiz", "")
	sorted := []string{d.first, d.second}
	slices.Sort(sorted)

	// All together, by the names of their sources; page by page, too.
	var got []string
	for next := ""; ; {
		var v page[control.Parked]
		if err := json.Unmarshal(d.api(root, http.StatusOK, http.MethodGet, "/parked?limit=1"+next, ""), &v); err != nil {
			t.Fatal(err)
		}
		for _, p := range v.Items {
			got = append(got, p.Source)
		}
		if v.Next == "" {
			break
		}
		next = "&cursor=" + v.Next
	}
	if diff := cmp.Diff(sorted, got); diff != "" {
		t.Errorf("the parked changes of all, one a page (-want +got):\n%s", diff)
	}
	var one page[control.Parked]
	if err := json.Unmarshal(d.api(root, http.StatusOK, http.MethodGet, "/parked?source="+d.second, ""), &one); err != nil || len(one.Items) != 1 || one.Items[0].Source != d.second {
		t.Fatalf("the parked changes of one: %+v, %v", one, err)
	}
	position := one.Items[0].ID.String()
	var groups page[control.ParkedGroup]
	if err := json.Unmarshal(d.api(root, http.StatusOK, http.MethodGet, "/parked/groups", ""), &groups); err != nil || len(groups.Items) != 2 || groups.Items[0].Count != 1 {
		t.Errorf("the groups of all: %+v, %v", groups, err)
	}
	d.api(root, http.StatusOK, http.MethodGet, "/parked/"+position+"?source="+d.second, "", `"row":{"new":`, `"source":"`+d.second+`"`)
	d.api(root, http.StatusOK, http.MethodGet, "/gaps", "", `"items":[]`)
	d.api(root, http.StatusOK, http.MethodGet, "/status?source="+d.first, "", `"slot":"gancho_`+d.first+`"`, `"parked":1`)
	d.api(root, http.StatusOK, http.MethodGet, "/rules?source="+d.first, "", `"changes":3`)
	d.api(root, http.StatusOK, http.MethodGet, "/event-types/cliente.novo?source="+d.first, "", `"schema":`)
	d.api(root, http.StatusOK, http.MethodGet, "/test-case?table=clientes&key=1&source="+d.first, "", `"text":`)
	d.api(root, http.StatusOK, http.MethodGet, "/doctor?source="+d.first, "", "slot")
	var proof control.ProveView
	if err := json.Unmarshal(d.api(root, http.StatusOK, http.MethodGet, "/proof", ""), &proof); err != nil || len(proof.Differences) > 0 || !slices.Equal(proof.Uncounted(), []string{d.wrong}) {
		t.Errorf("the proof: %+v, %v", proof, err)
	}
	got = nil
	for _, r := range proof.Rules {
		got = append(got, fmt.Sprintf("%s seen %d matched %d parked %d", r.Source, r.Seen, r.Matched, r.Parked))
	}
	if diff := cmp.Diff([]string{sorted[0] + " seen 3 matched 2 parked 1", sorted[1] + " seen 3 matched 2 parked 1"}, got); diff != "" {
		t.Errorf("the proof of all (-want +got):\n%s", diff)
	}
	d.api(root, http.StatusOK, http.MethodGet, "/status", "", `"seen":6`, `"matched":4`)

	// What became of a row, in each; of the database that is not read nothing is known.
	var why control.WhyView
	if err := json.Unmarshal(d.api(root, http.StatusOK, http.MethodGet, "/why?table=clientes&key=1", ""), &why); err != nil {
		t.Fatal(err)
	}
	got = nil
	for _, c := range why.Changes {
		got = append(got, c.Source+" "+c.Rules[0].Outcome)
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{sorted[0] + " event", sorted[1] + " event"}, got); diff != "" || !slices.Equal(why.SourcesUnread, []string{d.wrong}) {
		t.Errorf("why, of all; unread %v (-want +got):\n%s", why.SourcesUnread, diff)
	}
	d.api(root, http.StatusOK, http.MethodGet, "/why?table=clientes&key=1&row=true&source="+d.first, "", `"found":true`, `"outcome":"delivered"`)
	d.api(root, http.StatusOK, http.MethodGet, "/why?table=clientes&key=3&source="+d.second, "", "division by zero")
	d.api(root, http.StatusMisdirectedRequest, http.MethodGet, "/why?table=clientes&key=1&source="+d.wrong, "", "gancho_"+d.wrong)
	d.api(root, http.StatusOK, http.MethodGet, "/changes", "", d.first, d.second)
	event := d.eventOf(root, d.second)
	d.api(root, http.StatusOK, http.MethodGet, "/why?webhook_id="+event, "", `"source":"`+d.second+`"`, `"op":"insert"`, `"outcome":"delivered"`, `"table":"public.clientes"`)
	d.api(root, http.StatusOK, http.MethodGet, "/why?webhook_id="+event+"&source="+d.first, "", `"changes":[]`)
	d.api(root, http.StatusBadRequest, http.MethodGet, "/why?webhook_id="+event+"&key=1", "", `"parameter":"webhook_id"`)

	// What is of one alone.
	which := `it is not said of which source; there are 3, such as ` + d.many.sorted()[0] + ", "
	for _, r := range [][3]string{
		{http.MethodGet, "/parked/" + position}, {http.MethodDelete, "/parked/" + position}, {http.MethodPost, "/parked/redrive", `{"all": true}`}, {http.MethodPost, "/parked/drop", `{"all": true}`},
		{http.MethodPost, "/backfills", `{"all": true, "dry_run": true}`}, {http.MethodGet, "/why?table=clientes&key=1&row=true"}, {http.MethodGet, "/test-case?table=clientes&key=1"},
		{http.MethodPost, "/corrections", `{"rules": {"a.yaml": "rules: []"}, "filter": {"from": "2026-01-01T00:00:00Z"}, "dry_run": true}`},
		{http.MethodPost, "/simulations", `{"file": "rules.yaml", "text": "rules: []", "table": "clientes"}`},
	} {
		d.api(root, http.StatusBadRequest, r[0], r[1], r[2], which, `"parameter":"source"`)
	}
	d.api(root, http.StatusBadRequest, http.MethodGet, "/parked?source="+d.first+"x", "", `there is no source`, "did you mean")
	d.changesOne(root)

	// A tenant's.
	tenant := d.token("sete", d.first+"/7")
	for path, want := range map[string]int{
		"/parked": 404, "/gaps": 404, "/proof": 404, "/sources": 404, "/parked?source=" + d.first: 404, "/why?table=clientes&key=1&source=" + d.second: 404,
		"/why?table=clientes&key=1&source=nada": 404, "/status?source=" + d.second: 404, "/status?source=" + d.first: 200, "/event-types/cliente.novo": 200,
	} {
		d.api(tenant, want, http.MethodGet, path, "")
	}
	d.api(tenant, http.StatusOK, http.MethodGet, "/event-types/cliente.novo", "", `"schema":`)
	for key, want := range map[string]int{"1": 1, "2": 0} { // that of its own tenant, and of another one
		var why control.WhyView
		if err := json.Unmarshal(d.api(tenant, http.StatusOK, http.MethodGet, "/why?table=clientes&key="+key, ""), &why); err != nil || len(why.Changes) != want || len(why.SourcesUnread) > 0 {
			t.Errorf("a tenant is told of %d changes of the row %s, want %d: %+v, %v", len(why.Changes), key, want, why, err)
		}
	}
	d.api(tenant, http.StatusOK, http.MethodGet, "/why?webhook_id="+event, "", `"changes":[]`)
	d.api(tenant, http.StatusOK, http.MethodGet, "/why?webhook_id="+d.eventOf(root, d.first), "", `"source":"`+d.first+`"`, `"outcome":"delivered"`)
	other := d.token("fora", "nada/7")
	d.api(other, http.StatusNotFound, http.MethodGet, "/why?table=clientes&key=1", "")
}

// eventOf is the webhook-id of the event of a source's tenant 7.
func (d *manyDesk) eventOf(token, source string) string {
	d.t.Helper()
	var v page[struct {
		ID string `json:"webhook_id"`
	}]
	text := d.api(token, http.StatusOK, http.MethodGet, "/deliveries?tenant="+url.QueryEscape(source+"/7"), "")
	if err := json.Unmarshal(text, &v); err != nil || len(v.Items) != 1 {
		d.t.Fatalf("the deliveries of the tenant 7 of %s: %s, %v", source, text, err)
	}
	return v.Items[0].ID
}

// changesOne does with one source what is done with one alone; the other keeps what it has.
func (d *manyDesk) changesOne(root string) {
	d.t.Helper()
	of := "?source=" + d.first
	d.api(root, http.StatusOK, http.MethodPost, "/backfills"+of, `{"all": true, "dry_run": true}`, `"rows":3`)
	var compared control.CorrectionView
	rules, err := json.Marshal(strings.Replace(d.rules, "columns: [id, nome]", "columns: [id]", 1))
	if err != nil {
		d.t.Fatal(err)
	}
	body := fmt.Sprintf(`{"rules": {"rules.yaml": %s}, "filter": {"from": "2020-01-01T00:00:00Z"}, "dry_run": true}`, rules)
	if err := json.Unmarshal(d.api(root, http.StatusOK, http.MethodPost, "/corrections"+of, body), &compared); err != nil || compared.Corrections != 2 {
		d.t.Errorf("other rules change %d events of one source, want its 2: %+v, %v", compared.Corrections, compared.Comparison, err)
	}
	simulation, err := json.Marshal(map[string]any{"file": filepath.Join(d.dir, "rules.yaml"), "text": d.rules, "table": "clientes"})
	if err != nil {
		d.t.Fatal(err)
	}
	d.api(root, http.StatusOK, http.MethodPost, "/simulations"+of, string(simulation), `"rows":3`)
	d.api(root, http.StatusAccepted, http.MethodPost, "/parked/redrive"+of, `{"all": true}`, `"total":1`)
	d.api(root, http.StatusOK, http.MethodPost, "/parked/drop"+of, `{"all": true}`, `"dropped":`)
	d.await("/parked", func(v page[control.Parked]) bool { return len(v.Items) == 1 && v.Items[0].Source == d.second })
	d.api(root, http.StatusOK, http.MethodGet, "/audit", "", `"object":"parked/`+d.first+`"`, `"object":"events/`+d.first+`"`, `"object":"table/`+d.first+`/`, `"action":"redrive_parked.create","object":"parked/`+d.first+`"`)
}

// TestSourcesRemotely: over the API commands print of many databases what they print beside the bridge, of all and of one.
func TestSourcesRemotely(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	d := newManyDesk(t)
	position := decoded[page[control.Parked]](d.session, "parked", "list", "--source", d.first).Items[0].ID.String()
	d.same(0, "parked", "list")
	d.same(0, "parked", "groups")
	d.same(0, "prove")
	d.same(0, "why", "--table", "clientes", "--key", "1")
	event := d.eventOf(d.token("raiz", ""), d.second)
	d.same(0, "why", "--id", event)
	d.many.says(0, []string{"why", "--id", event, "--url", d.address}, event+"\nThe change was one of the table public.clientes.\n", "\n"+d.second+": 20", "insert, change 0 of its transaction\n  cliente.novo", ": event "+event, "crm: delivered at ")
	d.many.says(0, []string{"why", "--id", "evt-1", "--url", d.address}, "Nothing is known of this event:", "or was not copied whole")
	of := func(args ...string) []string { return append(args, "--source", d.first) }
	d.same(0, of("parked", "list")...)
	d.same(0, of("parked", "groups")...)
	d.same(0, of("parked", "show", position)...)
	d.same(0, of("parked", "redrive", "--all", "--dry-run")...)
	d.same(0, of("parked", "drop", "--event", "nada.*", "--yes")...)
	d.same(0, of("prove")...)
	d.same(0, of("why", "--table", "clientes", "--key", "1", "--row")...)
	d.same(0, of("why", "--table", "clientes", "--key", "3")...)
	d.same(0, of("backfill", "--all", "--dry-run")...)
	d.same(2, of("parked", "show", "1-1")...)
	for _, args := range [][]string{{"parked", "list"}, {"prove"}, {"why", "--table", "clientes", "--key", "1"}} {
		if code, stdout, stderr := d.far(args...); code != 0 || !strings.Contains(stdout, d.first) || !strings.Contains(stdout, d.second) {
			t.Errorf("gancho %v does not name the sources: exit %d\n%s%s", args, code, stdout, stderr)
		}
	}
	if _, stdout, _ := d.far("prove"); !strings.Contains(stdout, ", of several sources\nsource "+d.wrong+": nothing is counted yet") {
		t.Errorf("the proof does not say of which source nothing is counted:\n%s", stdout)
	}
	for part, args := range map[string][]string{
		"it is not said of which source": {"parked", "redrive", "--all"},
		"there is no source":             {"parked", "list", "--source", "nada"},
	} {
		if code, stdout, stderr := d.far(args...); code != 2 || !strings.Contains(stderr, part) {
			t.Errorf("gancho %v: exit %d, no %q\n%s%s", args, code, part, stdout, stderr)
		}
	}
	if code, stdout, stderr := d.far(of("status")...); code != 0 || !strings.Contains(stdout, "gancho_"+d.first) || strings.Contains(stdout, d.second) {
		t.Errorf("gancho status of one: exit %d\n%s%s", code, stdout, stderr)
	}

	// A source of which the sums cannot be read does not hide those of the others.
	client := d.many.redisClient()
	keys, err := client.Keys(t.Context(), "*"+d.first+"*:tally").Result()
	if err != nil || len(keys) != 1 {
		t.Fatal(keys, err)
	}
	if err := client.Set(t.Context(), strings.ReplaceAll(keys[0], d.first, d.wrong), "no hash", 0).Err(); err != nil {
		t.Fatal(err)
	}
	d.api(d.token("fim", ""), http.StatusOK, http.MethodGet, "/status", "", `"seen":6`, "source "+d.wrong+": ")

	// A bridge with one source has none to choose.
	one := newWorld(t, testservers.RedisOptions{}, "create table clientes (id int primary key, nome text)")
	one.rules = "rules:\n  - {event: cliente.novo, table: clientes, on: insert, columns: [id, nome]}\n"
	one.extra = "state: {key: '" + stateKey + "'}"
	s := &session{world: one, path: one.write()}
	alone := &desk{session: s, address: "http://" + one.run().listening(), tried: map[string]bool{}}
	alone.login(alone.address, "mesa", "admin")
	if code, _, stderr := alone.far("prove", "--source", "centro"); code != 2 || !strings.Contains(stderr, "there is one source only; leave it out") {
		t.Errorf("a source of a bridge with one: exit %d: %s", code, stderr)
	}
}

// TestSourcesInConsole: the pages show what all databases have, and what the chosen one has.
func TestSourcesInConsole(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	d := newManyDesk(t)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	link := strings.Fields(d.ok("console", "link", "--role", "admin", "--for", "15m"))[0]
	if status, text := fetchPage(t, client, http.MethodPost, link); status != http.StatusOK {
		t.Fatalf("the link leads to %d: %s", status, text)
	}
	shows := func(want int, method, path string, parts ...string) string {
		t.Helper()
		status, text := fetchPage(t, client, method, d.console+path)
		if status != want {
			t.Errorf("%s %s: status %d, want %d: %s", method, path, status, want, text)
		}
		for _, part := range parts {
			if !strings.Contains(text, part) {
				t.Errorf("%s %s: no %q in\n%s", method, path, part, text)
			}
		}
		return text
	}
	of := "source=" + url.QueryEscape(d.first)
	shows(200, http.MethodGet, "/console/source", `href="/console/source?`+of, d.second, d.wrong)
	shows(200, http.MethodGet, "/console/source?"+of, "gancho_"+d.first)
	both := shows(200, http.MethodGet, "/console/pending", "divisão por zero", `<option value="`+d.second+`">`)
	if strings.Count(both, "/console/pending/parked/") != 2 {
		t.Errorf("the parked changes of both are not shown:\n%s", both)
	}
	if one := shows(200, http.MethodGet, "/console/pending?"+of, "&amp;"+of); strings.Count(one, "/console/pending/parked/") != 1 {
		t.Errorf("not those of one alone are shown:\n%s", one)
	}
	shows(422, http.MethodGet, "/console/pending?source=nada")
	shows(200, http.MethodGet, "/console/rules", d.first+": ", d.second+": ")
	shows(200, http.MethodGet, "/console/rules?"+of, `type="hidden" name="source" value="`+d.first)
	shows(200, http.MethodGet, "/console/catalogue/cliente.novo?"+of, "JSON Schema")
	shows(200, http.MethodGet, "/console/jobs", `name="source"`)

	post := func(want int, path string, form url.Values, parts ...string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.console+path, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Sec-Fetch-Site", "same-origin")
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		answer, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = answer.Body.Close() }() // it is read only
		text, err := io.ReadAll(answer.Body)
		if err != nil || answer.StatusCode != want {
			t.Errorf("POST %s %v: %d, want %d, %v: %s", path, form, answer.StatusCode, want, err, text)
		}
		for _, part := range parts {
			if !strings.Contains(string(text), part) {
				t.Errorf("POST %s %v: no %q in\n%s", path, form, part, text)
			}
		}
	}
	shows(http.StatusOK, http.MethodGet, "/console/source", "rules.yaml:2:67: a coluna &#34;valor&#34; não está na tabela clientes; colunas: id, empresa_id<br>", "a coluna &#34;nome&#34; não está na tabela clientes")
	post(200, "/console/rules/why", url.Values{"table": {"clientes"}, "key": {"1"}}, d.first, d.second, d.wrong)
	post(200, "/console/rules/why", url.Values{"table": {"clientes"}, "key": {"1"}, "row": {"yes"}, "source": {d.first}}, "10 / valor &gt; 0")
	post(200, "/console/rules/why", url.Values{"webhook_id": {d.eventOf(d.token("evento", ""), d.second)}}, "<small>"+d.second+" ", "cliente.novo", "public.clientes")
	post(200, "/console/rules/why", url.Values{"webhook_id": {"evt-1"}}, "evt-1", "Nada se sabe deste evento")
	post(422, "/console/rules/why", url.Values{"table": {"clientes"}, "key": {"1"}, "row": {"yes"}})
	post(422, "/console/jobs/backfill", url.Values{"table": {"clientes"}, "do": {"dry_run"}})
	post(200, "/console/jobs/backfill", url.Values{"table": {"clientes"}, "do": {"dry_run"}, "source": {d.first}}, "public.clientes: 3")
	group := url.Values{"do": {"drop"}, "confirm": {"yes"}, "event": {"cliente.novo"}, "rule": {"rules.yaml:2"}, "source": {d.first}}
	for _, p := range decoded[page[control.ParkedGroup]](d.session, "parked", "groups", "--source", d.first).Items {
		group.Set("rule", p.Rule)
		group.Set("reason", p.Reason)
	}
	post(200, "/console/pending/parked", group)
	d.await("/parked", func(v page[control.Parked]) bool { return len(v.Items) == 1 && v.Items[0].Source == d.second })
}
