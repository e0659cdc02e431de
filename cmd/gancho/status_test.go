package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	main "gancho/cmd/gancho"
	"gancho/internal/control"
	"gancho/internal/testservers"
)

// screens ends a command when it has printed so many screens.
type screens struct {
	bytes.Buffer
	left int
	stop func()
}

func (s *screens) Write(p []byte) (int, error) {
	if s.left--; s.left == 0 {
		s.stop()
	}
	return s.Buffer.Write(p)
}

// TestStatusScreen: beside a running bridge one screen says what there is, with the
// deliveries of the last minute and the last answer, and the last line and the exit code
// what is not in order. --watch shows it again, and clears nothing that is no terminal.
func TestStatusScreen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{Settings: map[string]string{"maxmemory": "200mb"}}, "create table t (id int primary key)")
	w.rules = "rules:\n  - {event: t.novo, table: t, on: insert, columns: [id]}\n"
	w.extra = "state:\n  key: " + stateKey
	good := newReceiver(t, nil)
	bad := newReceiver(t, func(rw http.ResponseWriter, _ arrival) { rw.WriteHeader(http.StatusServiceUnavailable) })
	w.endpoint("crm", good.url())
	w.endpoint("erp", bad.url())
	s := &session{world: w, path: w.write()}
	s.ok("migrate")
	b := w.run()
	w.exec("insert into t values (1)")
	good.waitCount(1)
	bad.waitCount(1)
	var v control.StatusView
	for end := time.Now().Add(time.Minute); time.Now().Before(end); { // until the log and the counts are written
		_, stdout, _ := s.gancho("status", "--json")
		if err := json.Unmarshal([]byte(stdout), &v); err != nil {
			t.Fatal(err)
		}
		if v.Endpoints[0].Recent != nil && v.Endpoints[1].Recent != nil && len(v.Rules) > 0 {
			break
		}
	}
	crm, erp := v.Endpoints[0].Recent, v.Endpoints[1].Recent
	if crm == nil || crm.Delivered != 1 || crm.Status != 204 || erp == nil || erp.Delivered != 0 || erp.Status != 503 || v.Memory == nil || v.Memory.Max != 200<<20 {
		t.Fatalf("%+v %+v %+v", crm, erp, v.Memory)
	}
	if r := v.Rules; len(r) != 1 || r[0].Event != "t.novo" || r[0].Seen != 1 || r[0].Matched != 1 || r[0].Parked != 0 || r[0].PerMinute <= 0 || r[0].PerMinute > 1 {
		t.Errorf("rules %+v", r)
	}
	code, stdout, stderr := s.gancho("status")
	if code != 3 || !strings.Contains(stderr, "not in order: endpoint erp is failing\n") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	for _, r := range []struct{ pattern, with string }{
		{regexp.QuoteMeta(w.slot()), "SLOT"},
		{`127\.0\.0\.1:\d+`, "RECEIVER"},
		{`\d+(\.\d+)? [kMGT]?B`, "SIZE"},
		{`\d+ %`, "N %"},
		{`\d+\.\d`, "N.N"},
		{`\d+[smh]`, "AGE"},
		{` {2,}`, "  "},
	} {
		stdout = regexp.MustCompile(r.pattern).ReplaceAllString(stdout, r.with)
	}
	const want = `version  dev
slot  SLOT, read; SIZE not confirmed, SIZE of WAL held (reserved)
queue  answers; SIZE of SIZE of memory used (N %)
state  answers
parked changes  -

RULE  SEEN  MATCHED  EVENTS/MIN  PARKED
public.t 0 t.novo  1  1  N.N  -

NAME  STATE  QUEUED  OLDEST  RETRYING  RESENDS  DEAD  SENT/MIN  LAST ANSWER  FROM  URL
crm  active  -  -  -  -  -  1  204 AGE ago  file  http://RECEIVER
erp  failing  1  AGE  1  -  -  -  503 AGE ago  file  http://RECEIVER
`
	if diff := cmp.Diff(want, stdout); diff != "" {
		t.Error(diff)
	}
	ctx, cancel := context.WithCancel(t.Context())
	out := &screens{left: 2, stop: cancel}
	if code := main.Main(ctx, []string{"status", "--watch", "--config", s.path}, strings.NewReader(""), out, &bytes.Buffer{}); code != 0 {
		t.Errorf("--watch exits %d", code)
	}
	if text := out.String(); strings.Count(text, "LAST ANSWER") != 2 || strings.Count(text, "not in order: endpoint erp is failing") != 2 || strings.Contains(text, "\x1b") {
		t.Errorf("--watch prints\n%s", text)
	}
	b.stop()
	if code, _, stderr := s.gancho("status"); code != 3 || !strings.Contains(stderr, "the slot is read by no process") {
		t.Errorf("without a bridge: exit %d: %s", code, stderr)
	}
}
