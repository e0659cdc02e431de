package main_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v4"

	"gancho/delivery/queue/queuetest"
	"gancho/internal/monitoring"
	"gancho/internal/testservers"
)

var prometheusCommand = flag.String("prometheus", "", "the Prometheus to ask each query of the dashboard (make test-monitoring)")

// TestMonitoring: what is watched is in the metrics of a bridge that has captured, delivered, parked and refused, read as Zabbix reads
// it and, with -prometheus, as the dashboard and the rules do.
func TestMonitoring(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newStateful(t, pg, nil, driftTable)
	r := newReceiver(t, nil)
	w.rules = `rules:
  - {event: ficha.valor, table: fichas, on: insert, data: {id: id, valor: valor}}
  - {event: ficha.numero, table: fichas, on: insert, data: {id: id, numero: "nome::int"}}
  - {event: ficha.velha, table: fichas, on: insert, after: 1h, data: {id: id}}
  - {event: ficha.resumo, schedule: daily 03:00, query: "select id from fichas", data: {id: id}}
`
	w.endpoint("a", r.url(), "compact: key")
	w.endpoint("b", r.url(), "state: paused")
	b := w.run()
	base := "http://" + b.listening()
	w.exec("insert into fichas values (1, 'um', 1.10)")
	r.waitCount(1)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/api/v1/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer gancho_errado")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	for _, part := range []string{`gancho_attempts_total{endpoint="a"`, `gancho_records_total{kind="attempt"`, `gancho_backlog_events{endpoint="b"} 1`, "gancho_parked_total{", "gancho_timers_pending{"} {
		b.waitMetric(part)
	}
	_, page := fetch(t, base+"/metrics")
	patternsMatch(t, page, "")
	if *prometheusCommand != "" {
		askPrometheus(t, strings.TrimPrefix(base, "http://"), func(id int) { w.exec("insert into fichas values ($1, '7', 1.10)", id) })
	}
	b.stop()
}

// TestMonitoringOfSources: of a bridge with several databases what is watched is read of the worst of them, and of each; one that is not read is named.
func TestMonitoringOfSources(t *testing.T) {
	t.Parallel()
	w := newManyWorld(t)
	w.rules += `  - {event: cliente.parado, table: clientes, on: insert, after: 1h, columns: [id]}
  - {event: cliente.resumo, schedule: daily 03:00, query: "select id, empresa_id from clientes", tenant: empresa_id, data: {id: id}}
`
	r := newReceiver(t, nil)
	w.endpoint("a", r.url(), "compact: key")
	b := w.start("run", "--create", "--config", w.write())
	b.waitLog("sources taken up")
	w.waitSlots("gancho_"+w.names[0], "gancho_"+w.names[1])
	b.waitLog(`column \"nome\" is not in table clientes`)
	if err := pg.Exec(t.Context(), w.names[0], "insert into clientes values (1, 7, 'Ana', 1)"); err != nil {
		t.Fatal(err)
	}
	r.waitCount(1)
	for i, name := range w.names {
		b.waitMetric(fmt.Sprintf("gancho_source_refused{source=%q} %d", name, i/2))
	}
	for _, part := range []string{`gancho_attempts_total{endpoint="a"`, `gancho_records_total{kind="attempt"`} {
		b.waitMetric(part)
	}
	_, page := fetch(t, "http://"+b.listening()+"/metrics")
	for _, name := range w.names {
		patternsMatch(t, page, name)
	}
	b.stop()
}

// patternsMatch: each pattern of the Zabbix template finds what it reads, one series or, where it has a function, any number.
func patternsMatch(t *testing.T, page, source string) {
	t.Helper()
	text, err := os.ReadFile("../../packaging/monitoring/gancho.zabbix.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var document any
	if err := yaml.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	patterns := 0
	var walk func(any)
	walk = func(node any) {
		switch node := node.(type) {
		case []any:
			for _, n := range node {
				walk(n)
			}
		case map[string]any:
			if kind, ok := node["type"].(string); ok && strings.HasPrefix(kind, "PROMETHEUS_") {
				parameters, _ := node["parameters"].([]any)
				pattern := strings.ReplaceAll(fmt.Sprint(parameters[0]), "{#ENDPOINT}", "a")
				if patterns++; source == "" && strings.Contains(pattern, "source=") { // it is for a bridge with several
					return
				}
				pattern = strings.ReplaceAll(pattern, "{#SOURCE}", source)
				n := matches(t, page, pattern)
				one := len(parameters) == 3 && parameters[1] == "value"
				if n == 0 || one && n != 1 {
					t.Errorf("%s finds %d series", pattern, n)
				}
			}
			for _, n := range node {
				walk(n)
			}
		}
	}
	walk(document)
	if patterns < 30 {
		t.Errorf("the template has %d patterns", patterns)
	}
}

var (
	seriesLine = regexp.MustCompile(`(?m)^(\w+)(?:\{(.*)\})? \S+$`)
	labelPair  = regexp.MustCompile(`(\w+)(=~|=)"([^"]*)"`)
)

// matches counts the series of the page that Zabbix's pattern finds.
func matches(t *testing.T, page, pattern string) int {
	t.Helper()
	metric, matchers, _ := strings.Cut(pattern, "{")
	n := 0
series:
	for _, line := range seriesLine.FindAllStringSubmatch(page, -1) {
		if line[1] != metric {
			continue
		}
		labels := map[string]string{}
		for _, l := range labelPair.FindAllStringSubmatch(line[2], -1) {
			labels[l[1]] = l[3]
		}
		for _, m := range labelPair.FindAllStringSubmatch(matchers, -1) {
			if ok, err := regexp.MatchString("^(?:"+m[3]+")$", labels[m[1]]); err != nil || m[2] == "=" && labels[m[1]] != m[3] || !ok {
				continue series
			}
		}
		n++
	}
	return n
}

// askPrometheus has a Prometheus scrape the bridge: each query of the dashboard must have an answer, each rule be evaluated, and of
// the alerts exactly the one fire that the bridge has a reason for.
func askPrometheus(t *testing.T, target string, insert func(id int)) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	rules, err := filepath.Abs("../../packaging/monitoring/gancho.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%s]\nscrape_configs:\n  - {job_name: gancho, static_configs: [{targets: [%q]}]}\n", rules, target)
	path := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(*prometheusCommand, "--config.file="+path, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	command.Stdout, command.Stderr = log, log
	process, err := testservers.StartProcess(command, syscall.SIGKILL, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		process.Signal(syscall.SIGKILL)
		<-process.Done()
		_ = log.Close()
		if text, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("prometheus:\n%s", tail(string(text), 4000))
		}
	})
	ask := func(path string, out any) bool {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/api/v1/"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return false // it is starting
		}
		defer func() { _ = response.Body.Close() }()
		if response.StatusCode == http.StatusBadRequest {
			t.Errorf("%s is refused", path)
		}
		return response.StatusCode == http.StatusOK && json.NewDecoder(response.Body).Decode(out) == nil
	}
	fill := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*", "$endpoint", ".*")
	id, answered := 1, 0
	for _, q := range monitoring.Queries() {
		var answer struct {
			Data struct{ Result []struct{ Value [2]any } }
		}
		queuetest.Eventually(t, q.Expr, func() bool {
			id++
			insert(id)
			if !ask("query?query="+url.QueryEscape(fill.Replace(q.Expr)), &answer) {
				return false
			}
			// A share of nothing is no number, and no line of a panel.
			return len(answer.Data.Result) > 0 && answer.Data.Result[0].Value[1] != "NaN"
		})
		answered++
	}
	t.Logf("%d queries", answered)
	var groups struct {
		Data struct {
			Groups []struct {
				Rules []struct {
					Name, Health, LastError string
					State                   string
				}
			}
		}
	}
	queuetest.Eventually(t, "all rules to be evaluated, and GanchoParked to fire", func() bool {
		groups.Data.Groups = nil
		fires := false
		if !ask("rules", &groups) {
			return false
		}
		for _, g := range groups.Data.Groups {
			for _, r := range g.Rules {
				if r.Health == "unknown" {
					return false
				}
				fires = fires || r.Name == "GanchoParked" && r.State == "firing"
			}
		}
		return fires
	})
	n := 0
	for _, g := range groups.Data.Groups {
		for _, r := range g.Rules {
			n++
			if r.Health != "ok" || r.Name != "GanchoParked" && r.State != "inactive" {
				t.Errorf("rule %s is %s and %s: %s", r.Name, r.State, r.Health, r.LastError)
			}
		}
	}
	if n < 20 {
		t.Errorf("Prometheus has %d rules", n)
	}
}
