package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/delivery/queue/queuetest"
	"gancho/internal/control"
)

// closingsOfSources are the closings that a receiver has, by their sources; each may have come more than once, under one webhook-id.
func closingsOfSources(t *testing.T, all []arrival) map[string]control.ClosingData {
	t.Helper()
	bySource, ids := map[string]control.ClosingData{}, map[string]string{}
	for _, a := range all {
		if a.event != "gancho.closing" {
			continue
		}
		var body struct {
			Tenant string
			Data   control.ClosingData
		}
		if err := json.Unmarshal(a.body, &body); err != nil {
			t.Fatal(err)
		}
		source := body.Data.Source
		if other, again := bySource[source]; again && (!cmp.Equal(other, body.Data) || ids[source] != a.id) {
			t.Errorf("two closings of %s differ: %+v and %+v, %s and %s", source, other, body.Data, ids[source], a.id)
		}
		if body.Tenant != source {
			t.Errorf("the closing of %s is of the tenant %q", source, body.Tenant)
		}
		bySource[source], ids[source] = body.Data, a.id
	}
	return bySource
}

// sourceToYesterday moves what was counted of a source today to the day before, and has the day before that be the last one that was closed.
func (w *manyWorld) sourceToYesterday(source string, closed time.Time, endpoints ...string) {
	w.t.Helper()
	c := w.redisClient()
	moveTallies(w.t, c, "gancho:"+source+":*tally:*")
	for _, name := range endpoints {
		if err := c.HSet(w.t.Context(), fmt.Sprintf("gancho:%s:{%s}:state", source, name), "closed", closed.Format(time.DateOnly)).Err(); err != nil {
			w.t.Fatal(err)
		}
	}
}

// TestClosingsOfSources: of many databases an endpoint gets a closing of the day for each that it takes, with what it was given of that one, after kills of the
// bridge, too; of one that is not read it gets none. One that lacks something names its source where it is shown.
func TestClosingsOfSources(t *testing.T) {
	t.Parallel()
	w := newManyWorld(t)
	zone, err := time.LoadLocation(noonZone())
	if err != nil {
		t.Fatal(err)
	}
	w.more = "  timezone: " + zone.String()
	stateName := w.extra[strings.LastIndex(w.extra, "/")+1 : strings.LastIndex(w.extra, "?")]
	first, second, wrong := w.names[0], w.names[1], w.names[2]
	all, one := newReceiver(t, nil), newReceiver(t, nil)
	w.endpoint("painel", all.url(), "closing: daily 00:01")
	w.endpoint("sul", one.url(), "closing: daily 00:01", "sources: ['"+second+"']")
	s := &session{world: w.world, path: w.write()}
	b := w.start("run", "--create", "--config", s.path)
	b.waitLog("sources taken up")
	w.waitSlots("gancho_"+first, "gancho_"+second)
	b.waitLog(`column \"nome\" is not in table clientes`)
	for name, rows := range map[string]int{first: 7, second: 4} {
		if err := pg.Exec(t.Context(), name, fmt.Sprintf("insert into clientes select i, i %% 3, 'x' from generate_series(1, %d) i", rows)); err != nil {
			t.Fatal(err)
		}
	}
	given := map[string][]arrival{"painel": all.waitCount(11), "sul": one.waitCount(4)}
	c := w.redisClient()
	queuetest.Eventually(t, "the deliveries to be stored, and the changes counted", func() bool {
		left := int64(0)
		for _, key := range []string{first + ":{painel}", second + ":{painel}", second + ":{sul}"} {
			left += c.XLen(t.Context(), "gancho:"+key+":q").Val() + c.XLen(t.Context(), "gancho:"+key+":log").Val()
		}
		return left == 0
	})
	b.stop()
	today := time.Now().In(zone)
	yesterday := today.AddDate(0, 0, -1).Format(time.DateOnly)
	w.sourceToYesterday(first, today.AddDate(0, 0, -2), "painel")
	w.sourceToYesterday(second, today.AddDate(0, 0, -2), "painel", "sul")
	for _, sql := range []string{
		"update gancho.attempts set committed = committed - interval '1 day'",
		"delete from gancho.attempts where endpoint = 'sul' and key = '3'", // lost, behind our back
	} {
		if err := pg.Exec(t.Context(), stateName, sql); err != nil {
			t.Fatal(err)
		}
	}
	b = w.start("run", "--config", s.path)
	hasSome := func(n int) func([]arrival) bool {
		return func(got []arrival) bool { return len(closingsOfSources(t, got)) >= n }
	}
	all.waitFor(4*queuetest.Patience, "a closing", hasSome(1))
	b.kill()
	b = w.start("run", "--config", s.path)
	got := map[string]map[string]control.ClosingData{
		"painel": closingsOfSources(t, all.waitFor(4*queuetest.Patience, "the closings of both", hasSome(2))),
		"sul":    closingsOfSources(t, one.waitFor(4*queuetest.Patience, "the closing of one", hasSome(1))),
	}
	for _, want := range []struct {
		endpoint, source string
		count, missing   int64
	}{{"painel", first, 7, 0}, {"painel", second, 4, 0}, {"sul", second, 3, 1}} {
		closing := got[want.endpoint][want.source]
		if closing.Count != want.count || closing.Missing != want.missing || closing.Complete != (want.missing == 0) || string(closing.Day) != yesterday || closing.Endpoint != want.endpoint {
			t.Errorf("the closing of %s for %s is %+v", want.source, want.endpoint, closing)
		}
		var of []arrival
		for _, a := range given[want.endpoint] {
			if strings.Contains(string(a.body), `"tenant":"`+want.source+"/") && (want.missing == 0 || a.field("id") != "3") {
				of = append(of, a)
			}
		}
		if diff := cmp.Diff(compared(of), closing.Events); diff != "" {
			t.Errorf("the receiver of %s finds a difference in %s: -want +got\n%s", want.endpoint, want.source, diff)
		}
	}
	if len(got["painel"]) != 2 || len(got["sul"]) != 1 {
		t.Errorf("the closings are of %v; %s is not read", got, wrong)
	}

	d := &manyDesk{many: w, desk: &desk{session: s, address: "http://" + b.listening(), tried: map[string]bool{}}}
	root := d.token("raiz", "")
	for query, want := range map[string]int{"": 11, "?source=" + first: 7, "?source=" + second: 4} {
		var v page[struct{}]
		if err := json.Unmarshal(d.api(root, http.StatusOK, http.MethodGet, "/endpoints/painel/closings/"+yesterday+query, ""), &v); err != nil || len(v.Items) != want {
			t.Errorf("of painel %d events are listed with %q, want %d: %v", len(v.Items), query, want, err)
		}
	}
	d.api(root, http.StatusOK, http.MethodGet, "/status", "", `"incomplete_closing":{"source":"`+second+`","day":"`+yesterday+`","missing":1}`)
	w.says(3, []string{"status", "--source", second}, "of endpoint sul: that of "+yesterday+" is not of the whole day (missing in the delivery log: 1)")
	b.stop()
}
