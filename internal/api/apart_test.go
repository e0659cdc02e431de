package api_test

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"gancho/internal/state"
	"gancho/internal/testservers"
)

// TestForeignIsAskedAsAbsent makes each request that names something of another tenant, and
// the same for what does not exist. Both make the same statements: nobody tells the two
// apart by how long they take.
func TestForeignIsAskedAsAbsent(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	dsn := stateDatabase(t)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `do $$ begin execute format('alter database %I set log_statement = ''all''', current_database()); end $$`); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := newCrawl(newWorldOn(t, dsn))
	token := tenantOne.token(state.Admin)
	var pairs []visit // what is another's, and then what does not exist
	routes := map[string]bool{}
	c.operations(func(method, path string, operation object) {
		for _, a := range c.asks(method, path, operation) {
			if b, ok := c.absentFor(a); ok {
				if method == http.MethodGet { // what of its own this reads is noted the first time only
					c.do(b.method, b.path, token, b.body)
				}
				pairs = append(pairs, a, b)
				routes[method+" "+path] = true
			}
		}
	})
	for _, needed := range []string{
		"GET /endpoints/{name}", "PATCH /endpoints/{name}", "DELETE /endpoints/{name}", "POST /endpoints/{name}/test", "GET /dead-letters/{id}", "DELETE /dead-letters/{id}",
		"GET /resends/{id}", "POST /resends/{id}/cancel", "POST /resends", "POST /dead-letters/redrive", "POST /dead-letters/drop", "DELETE /tokens/{name}", "GET /deliveries", "GET /events/{id}",
	} {
		if !routes[needed] {
			t.Errorf("no request of %s names anything of others", needed)
		}
	}
	statements := c.statements(token, pairs)
	none := 0
	for i := 0; i < len(pairs); i += 2 {
		if len(statements[i]) < 2 && !strings.Contains(pairs[i].path, "source=") { // which of several is decided without the database
			none++
		}
		if diff := cmp.Diff(statements[i+1], statements[i]); diff != "" {
			t.Errorf("%s %s %s makes other statements than %s %s (-absent +foreign):\n%s", pairs[i].method, pairs[i].path, pairs[i].body, pairs[i+1].path, pairs[i+1].body, diff)
		}
	}
	if none > len(pairs)/4 { // the control: the log has them
		t.Errorf("%d of %d requests seem to ask the database for nothing but the token", none, len(pairs)/2)
	}
}

// absentFor is the request for what does not exist, when a names something of another than tenant 1.
func (c *crawl) absentFor(a visit) (visit, bool) {
	c.t.Helper()
	for _, v := range a.values {
		switch v := v.(type) {
		case string:
			if len(tenantOne.marksOf(v)) > 0 && !strings.Contains(a.body, `"name"`) { // names are all tenants' together
				return visit{a.method, strings.ReplaceAll(a.path, v, absent), strings.ReplaceAll(a.body, v, absent), nil}, true
			}
		case float64:
			table := "dead_letters"
			if strings.HasPrefix(a.path, "/resends") {
				table = "jobs"
			}
			var foreign bool
			if err := c.conn.QueryRow(c.t.Context(), "select exists (select from gancho."+table+" where id = $1::bigint and tenant <> '1')", int64(v)).Scan(&foreign); err != nil {
				c.t.Fatal(err)
			}
			number := regexp.MustCompile(`\b` + plain(v) + `\b`)
			if foreign && (number.MatchString(a.path) || strings.Contains(a.body, `"ids"`)) {
				return visit{a.method, number.ReplaceAllString(a.path, plain(float64(absentNumber))), number.ReplaceAllString(a.body, plain(float64(absentNumber))), nil}, true
			}
		}
	}
	return visit{}, false
}

// statements makes the requests, and returns those that each has made in the database,
// but for when the token was used last, which is noted once a minute.
func (c *crawl) statements(token string, requests []visit) [][]string {
	c.t.Helper()
	const mark = "request number "
	note := func(n int) {
		if _, err := c.conn.Exec(c.t.Context(), fmt.Sprintf("select '%s%d.'", mark, n)); err != nil {
			c.t.Fatal(err)
		}
	}
	before := len(pg.Log())
	for i, a := range requests {
		note(i)
		if got := c.do(a.method, a.path, token, a.body); got.status >= 500 {
			c.t.Errorf("%s %s %s: %d %s", a.method, a.path, a.body, got.status, got.body)
		}
	}
	note(len(requests))
	rows, _ := c.conn.Query(c.t.Context(), "select pid::text from pg_stat_activity where datname = current_database()")
	sessions, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		c.t.Fatal(err)
	}
	out := make([][]string, len(requests)+1)
	at := -1
	entry := regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\d [^\[\n]* \[(\d+)\] LOG:  (?:execute [^:]*|statement): ((?:.*)(?:\n\t.*)*)`)
	for _, found := range entry.FindAllStringSubmatch(pg.Log()[before:], -1) {
		if !slices.Contains(sessions, found[1]) {
			continue // of another test
		}
		if _, number, ok := strings.Cut(found[2], mark); ok {
			at++
			if number != fmt.Sprintf("%d.'", at) {
				c.t.Fatalf("the log has %q as number %d", found[2], at)
			}
		} else if at >= 0 && !strings.Contains(found[2], "set last_used") && found[2] != "-- ping" { // the pool's, after an idle second
			out[at] = append(out[at], found[2])
		}
	}
	if at != len(requests) {
		c.t.Fatalf("the log has %d of %d requests", at, len(requests))
	}
	return out[:len(requests)]
}
