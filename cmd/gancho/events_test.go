package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/internal/demo"
	"gancho/internal/presets"
	"gancho/internal/testservers"
	"gancho/migrations"
)

var updateEvents = flag.Bool("update-events", false, "rewrite testdata/events")

// presetWorld is the legacy database with a bridge for all presets. The
// endpoint todos gets unit 1's webhooks one after the other in commit order, so
// that a sentinel that has arrived says that all before it have. The endpoint
// fila gets everything and sends nothing: its stream has the ordering keys.
type presetWorld struct {
	schemas map[string]*jsonschema.Schema // of the events
	*world
	conn     *pgx.Conn
	redis    *redis.Client
	receiver *receiver
	count    int    // of the presets' rules
	seen     int    // arrivals of earlier steps
	last     string // id in the stream before the next step
	sentinel int
}

// sentEvent is one that arrived, with what the queue knows of it.
type sentEvent struct {
	event, tenant, key, rule string
	data, previous           json.RawMessage
}

const sentinelRules = `rules:
  - {event: teste.sentinela, table: sentinela, on: insert, tenant: "1", columns: [id]}
  - event: teste.liquidada
    table: cobrancas
    on: update
    when: old.status = 'P' and new.status = 'L'
    collapse: id
    tenant: empresa_id
    columns: [id]
  - event: teste.alterada
    table: cobrancas
    on: update
    watch: [status, valor]
    collapse: id
    tenant: empresa_id
    columns: [id, status, valor]
`

func newPresetWorld(t *testing.T) *presetWorld {
	schema, seed, identity := migrations.Legacy()
	w := newWorld(t, testservers.RedisOptions{}, schema, seed, identity, `create table sentinela (id int primary key);
		do $$ begin execute format('alter database %I set timezone = %L', current_database(), 'America/Sao_Paulo');
		execute format('alter database %I set datestyle = %L', current_database(), 'SQL, DMY'); end $$`)
	p := &presetWorld{world: w, receiver: newReceiver(t, nil), last: "-"}
	w.source = "  timezone: America/Sao_Paulo"
	w.rules = sentinelRules
	w.endpoint("todos", p.receiver.url(), "order: endpoint", "tenants: [1]")
	w.endpoint("fila", p.receiver.url(), "state: paused")
	w.endpoints[1] = strings.Replace(w.endpoints[1], secret, "whsec_b3V0cm8tc2VjcmV0by1kZS0zMi1ieXRlcy1nYW5jaG8=", 1) // one in common is warned of
	path := w.write()
	files := []string{"rules.yaml"}
	for _, name := range presets.Names() {
		texts, err := presets.Files(name)
		if err != nil {
			t.Fatal(err)
		}
		for file, text := range texts {
			files = append(files, file)
			p.count += strings.Count(string(text), "\n  - event:")
			if err := os.WriteFile(filepath.Join(w.dir, file), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	config, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	config = bytes.Replace(config, []byte("[rules.yaml]"), []byte("["+strings.Join(files, ", ")+"]"), 1)
	if err := os.WriteFile(path, config, 0o600); err != nil {
		t.Fatal(err)
	}
	b := w.start("run", "--create", "--config", path)
	b.waitLog("bridge is ready")
	if log := b.text(); strings.Contains(log, `"level":"warn"`) || strings.Contains(log, `"level":"error"`) {
		t.Errorf("the legacy tables, as migrations/legacy/identity.sql leaves them, do not serve the presets:\n%s", log)
	}
	p.conn, p.redis = w.connect(), w.redisClient()
	p.contract(path)
	return p
}

// contract describes the events of the rules, as a receiver would get them from gancho events.
func (p *presetWorld) contract(config string) {
	p.t.Helper()
	dir := filepath.Join(p.t.TempDir(), "contract")
	if code, _, errs := command(p.t, "events", "--format", "jsonschema", "-o", dir, "--config", config); code != 0 {
		p.t.Fatalf("gancho events: %s", errs)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.schema.json"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.schemas = map[string]*jsonschema.Schema{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			p.t.Fatal(err)
		}
		var of struct {
			ID string `json:"$id"`
		}
		if err := json.Unmarshal(text, &of); err != nil {
			p.t.Fatal(err)
		}
		p.schemas[strings.TrimPrefix(of.ID, "urn:gancho:event:")] = compileSchema(p.t, text)
	}
}

// fits checks that an event that arrived is what its schema says.
func (p *presetWorld) fits(event string, body []byte) {
	p.t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	if schema := p.schemas[event]; schema == nil {
		p.t.Errorf("%s has no schema", event)
	} else if err := schema.Validate(v); err != nil {
		p.t.Errorf("%s: %v\n%s", event, err, body)
	}
}

// play runs statements as the legacy application would, and returns the
// webhooks of unit 1 that they caused.
func (p *presetWorld) play(statements ...string) []sentEvent {
	p.t.Helper()
	ctx := context.Background()
	p.sentinel++
	for _, s := range append(statements, fmt.Sprintf("insert into sentinela values (%d)", p.sentinel)) {
		if _, err := p.conn.Exec(ctx, s); err != nil {
			p.t.Fatalf("%s: %v", s, err)
		}
	}
	wanted := fmt.Sprint(p.sentinel)
	all := p.receiver.waitFor(60*time.Second, "sentinel "+wanted, func(all []arrival) bool {
		return len(all) > 0 && all[len(all)-1].event == "teste.sentinela" && all[len(all)-1].field("id") == wanted
	})
	arrived := all[p.seen : len(all)-1]
	p.seen = len(all)
	queued := p.queued()
	var hooks []sentEvent
	for _, a := range arrived {
		_, id, err := queue.ParseWebhookID(a.id)
		if err != nil {
			p.t.Fatal(err)
		}
		entry, ok := queued[id.String()]
		if !ok {
			p.t.Fatalf("%s arrived and is not in the stream", a.id)
		}
		var body struct {
			Type, Tenant   string
			Data, Previous json.RawMessage
		}
		if err := json.Unmarshal(a.body, &body); err != nil {
			p.t.Fatal(err)
		}
		p.fits(body.Type, a.body)
		if body.Type != entry["t"] || body.Tenant != entry["n"] {
			p.t.Errorf("arrived as %s of %s, queued as %s of %s", body.Type, body.Tenant, entry["t"], entry["n"])
		}
		if !strings.HasPrefix(body.Type, "teste.") {
			hooks = append(hooks, sentEvent{body.Type, body.Tenant, entry["k"].(string), entry["v"].(string), body.Data, body.Previous})
		} else {
			hooks = append(hooks, sentEvent{event: body.Type, data: body.Data})
		}
	}
	return hooks
}

// queued returns what the last step put into the stream of fila, by id.
func (p *presetWorld) queued() map[string]map[string]any {
	p.t.Helper()
	from := p.last
	if from != "-" {
		from = "(" + from
	}
	entries, err := p.redis.XRange(context.Background(), "gancho:{fila}:q", from, "+").Result()
	if err != nil {
		p.t.Fatal(err)
	}
	all := map[string]map[string]any{}
	for _, e := range entries {
		all[e.ID] = queuetest.Fields(p.t, e.Values)
		p.last = e.ID
	}
	return all
}

// ofPresets leaves out the events of sentinelRules.
func ofPresets(hooks []sentEvent) []sentEvent {
	return slices.DeleteFunc(slices.Clone(hooks), func(h sentEvent) bool { return strings.HasPrefix(h.event, "teste.") })
}

// TestFortyEvents plays every scene: each of its steps "when" causes its event,
// and exactly the webhooks of the golden file; each near miss causes none of
// the scene's events. All rules of all presets fire at least once.
func TestFortyEvents(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	scenes, err := demo.Scenes()
	if err != nil {
		t.Fatal(err)
	}
	if len(scenes) != 40 {
		t.Fatalf("there are %d scenes, want 40", len(scenes))
	}
	p := newPresetWorld(t)
	fired := map[[2]string]bool{}
	for i, scene := range scenes {
		name := fmt.Sprintf("%02d %s", scene.Number, scene.Events[0])
		if scene.Number != i+1 {
			t.Errorf("scene %s is the %dth", name, i+1)
		}
		t.Run(name, func(t *testing.T) {
			outer := p.t
			p.t, p.receiver.t = t, t
			defer func() { p.t, p.receiver.t = outer, outer }()
			p.scene(scene, fired)
		})
	}
	if len(fired) != p.count {
		t.Errorf("%d rules of the presets have fired, want all %d", len(fired), p.count)
	}
	t.Run("billing run", func(t *testing.T) { p.billingRun(t) })
	t.Run("there and back", func(t *testing.T) { p.thereAndBack(t) })
	t.Run("unit", func(t *testing.T) { p.otherUnit(t) })
}

func (p *presetWorld) scene(s demo.Scene, fired map[[2]string]bool) {
	var story strings.Builder
	fmt.Fprintf(&story, "%d. %s: %s\n", s.Number, s.Vendor, s.Title)
	silent, announced := 0, map[string]bool{}
	for _, step := range s.Steps {
		hooks := ofPresets(p.play(step.SQL...))
		of := func(h sentEvent) bool {
			return h.event == step.Event || step.Kind != demo.When && slices.Contains(s.Events, h.event)
		}
		if step.Kind == demo.Given {
			continue
		}
		fmt.Fprintf(&story, "\n%s\n  %s;\n", strings.TrimSuffix(fmt.Sprintf("%s: %s", step.Kind, step.Why), ": "),
			strings.ReplaceAll(strings.Join(step.SQL, ";\n"), "\n", "\n  "))
		switch n := len(slices.DeleteFunc(slices.Clone(hooks), func(h sentEvent) bool { return !of(h) })); {
		case step.Kind == demo.When && n != 1:
			p.t.Errorf("%d webhooks %s, want 1, of:\n%s", n, step.Event, strings.Join(step.SQL, ";\n"))
		case step.Kind == demo.Silent && n > 0:
			p.t.Errorf("%d webhooks %v, want none, of %s:\n%s", n, s.Events, step.Why, strings.Join(step.SQL, ";\n"))
		}
		if step.Kind == demo.Silent {
			silent++
		}
		for _, h := range hooks {
			fired[[2]string{h.event, h.rule}] = true
			announced[h.event] = announced[h.event] || step.Kind == demo.When
			if step.Kind == demo.When {
				fmt.Fprintf(&story, "\n=> %s, tenant %s, key %s\n%s\n", h.event, h.tenant, h.key, indented(p.t, h.data))
				if h.previous != nil {
					fmt.Fprintf(&story, "previous %s\n", indented(p.t, h.previous))
				}
			} else {
				fmt.Fprintf(&story, "-> only %s, tenant %s, key %s\n", h.event, h.tenant, h.key)
			}
		}
	}
	if silent == 0 {
		p.t.Error("the scene has no near miss")
	}
	for _, event := range s.Events {
		if !announced[event] {
			p.t.Errorf("the scene causes no %s", event)
		}
	}
	p.golden(fmt.Sprintf("testdata/events/%02d-%s.golden", s.Number, s.Events[0]), story.String())
}

func (p *presetWorld) golden(file, got string) {
	if *updateEvents {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			p.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		p.t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		p.t.Errorf("-want +got; go test ./cmd/gancho -run FortyEvents -update-events rewrites it:\n%s", diff)
	}
}

var timestamps = regexp.MustCompile(`"20\d\d-\d\d-\d\dT[^"]*"`)

// indented is JSON for people, with the times of this run as "now".
func indented(t *testing.T, raw json.RawMessage) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		t.Fatal(err)
	}
	return timestamps.ReplaceAllStringFunc(b.String(), func(s string) string {
		at, err := time.Parse(`"`+time.RFC3339Nano+`"`, s)
		if err == nil && time.Since(at).Abs() < time.Hour {
			return `"now"`
		}
		return s
	})
}

// billingRun: a run of 20,000 charges in one transaction is 20,000 webhooks in
// the order of the statements, each with its own client and items.
func (p *presetWorld) billingRun(t *testing.T) {
	const n = 20_000
	before := p.redis.XLen(t.Context(), "gancho:{fila}:q").Val()
	p.queued()
	ctx := context.Background()
	tx, err := p.conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{
		fmt.Sprintf(`insert into cobrancas (id, empresa_id, cliente_id, documento, valor, dt_emissao, dt_vencimento)
			select 100000 + i, 2, 1 + i %% 20, 'LOTE-' || i, i, '2025-10-01', '2025-10-10' from generate_series(1, %d) i`, n),
		fmt.Sprintf(`insert into cobrancas_itens (cobranca_id, seq, produto_id, quantidade, valor) select 100000 + i, 1, 3, 1, i from generate_series(1, %d) i`, n),
	} {
		if _, err := tx.Exec(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	from := p.last
	if hooks := ofPresets(p.play()); len(hooks) > 0 {
		t.Errorf("%d webhooks went to an endpoint of another unit", len(hooks))
	}
	if got := p.redis.XLen(t.Context(), "gancho:{fila}:q").Val() - before; got != n+1 {
		t.Fatalf("%d entries were queued, want %d and the sentinel", got, n)
	}
	entries, err := p.redis.XRange(ctx, "gancho:{fila}:q", "("+from, "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range entries[:n] {
		id := i + 1
		var data struct {
			ID, Valor json.Number
			Cliente   struct {
				ID   json.Number
				Nome string
			}
			Itens []struct{ Valor json.Number }
		}
		fields := queuetest.Fields(t, e.Values)
		if err := json.Unmarshal([]byte(fields["d"].(string)), &data); err != nil {
			t.Fatal(err)
		}
		client, value := fmt.Sprint(1+id%20), fmt.Sprintf("%d.00", id)
		if fields["t"] != "cobranca.criada" || fields["n"] != "2" || fields["k"] != fmt.Sprint(100000+id) ||
			data.Valor.String() != value || data.Cliente.ID.String() != client || data.Cliente.Nome != "João da Conceição "+client ||
			len(data.Itens) != 1 || data.Itens[0].Valor.String() != value {
			t.Fatalf("entry %d is %v", i, e.Values)
		}
	}
}

// thereAndBack: P→L→P in one transaction is two transitions for rules that see
// every change, and nothing at all for one that collapses.
func (p *presetWorld) thereAndBack(t *testing.T) {
	const insert = "insert into cobrancas (id, empresa_id, cliente_id, valor, dt_emissao, dt_vencimento) values (%d, 1, 2, 10, '2025-10-01', '2025-10-10')"
	p.play(fmt.Sprintf(insert, 90001))
	for _, c := range []struct {
		name       string
		statements []string
		want       []string
	}{
		{"there and back", []string{"update cobrancas set status = 'L' where id = 90001", "update cobrancas set status = 'P' where id = 90001"},
			[]string{"cobranca.liquidada", "cobranca.estornada"}},
		{"there, back and there", []string{"update cobrancas set status = 'L' where id = 90001", "update cobrancas set status = 'P' where id = 90001", "update cobrancas set status = 'L' where id = 90001"},
			[]string{"cobranca.liquidada", "cobranca.estornada", "cobranca.liquidada", "teste.liquidada", "teste.alterada"}},
		{"rolled back to a savepoint", []string{"savepoint s", "update cobrancas set status = 'P', valor = 1 where id = 90001", "rollback to savepoint s"}, nil},
		{"new, changed and deleted", []string{fmt.Sprintf(insert, 90002), "update cobrancas set status = 'L' where id = 90002", "delete from cobrancas where id = 90002"},
			[]string{"cobranca.criada", "cobranca.liquidada"}},
	} {
		var got []string
		for _, h := range p.play(slices.Concat([]string{"begin"}, c.statements, []string{"commit"})...) {
			got = append(got, h.event)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", c.name, diff)
		}
	}
}

// otherUnit: two units' rows with the same business keys do not meet.
func (p *presetWorld) otherUnit(t *testing.T) {
	hooks := ofPresets(p.play("begin",
		"insert into pagamentos (id, empresa_id, recibo, cliente_id, forma, valor) values (91001, 1, 9100, 2, 'DI', 10)",
		"insert into pagamentos (id, empresa_id, recibo, cliente_id, forma, valor) values (91002, 2, 9100, 1, 'DI', 70)",
		"insert into pagamentos (id, empresa_id, recibo, cliente_id, forma, valor) values (91003, 1, 9100, 2, 'PX', 5)", "commit"))
	if len(hooks) != 1 {
		t.Fatalf("%d webhooks, want one for the receipt of unit 1", len(hooks))
	}
	var data struct {
		Valor  json.Number
		Formas []struct{ Codigo int }
	}
	if err := json.Unmarshal(hooks[0].data, &data); err != nil {
		t.Fatal(err)
	}
	if len(data.Formas) != 2 || data.Valor.String() != "15.00" {
		t.Errorf("the receipt is %s", hooks[0].data)
	}
}
