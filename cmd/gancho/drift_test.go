package main_test

import (
	"context"
	"strings"
	"testing"

	"gancho/internal/testservers"
)

const (
	driftTable = `create table fichas (id int primary key, nome text, valor numeric(10,2), extra text)`
	driftRules = `rules:
  - event: ficha.valor
    table: fichas
    on: insert
    data: {id: id, valor: valor}
  - event: ficha.nome
    table: fichas
    on: insert
    data: {id: id, nome: nome}
`
)

// TestDriftThatNoRuleUses changes columns that no rule names while the bridge runs.
func TestDriftThatNoRuleUses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, driftTable)
	r := newReceiver(t, nil)
	w.rules = driftRules
	w.endpoint("a", r.url())
	b := w.run()
	for _, sql := range []string{
		"insert into fichas values (1, 'um', 1.10, 'x')",
		"alter table fichas add column nova int default 5",
		"insert into fichas values (2, 'dois', 2.20, 'x')",
		"alter table fichas drop column extra",
		"insert into fichas values (3, 'três', 3.30)",
		"alter table fichas rename nova to velha",
		"insert into fichas values (4, 'quatro', 4.40)",
		"alter table fichas alter velha type text",
		"insert into fichas values (5, 'cinco', 5.50)",
	} {
		w.exec(sql)
	}
	var got []string
	for _, a := range r.waitCount(10) {
		got = append(got, string(a.data["id"])+string(a.data["nome"])+string(a.data["valor"]))
	}
	for _, want := range []string{`1"um"`, "11.10", `2"dois"`, "22.20", `3"três"`, "33.30", `4"quatro"`, "44.40", `5"cinco"`, "55.50"} {
		if !strings.Contains(strings.Join(got, " ")+" ", want+" ") {
			t.Errorf("%s did not arrive: %v", want, got)
		}
	}
	b.stop()
}

// TestDriftStops: under the default policy a rule whose column was dropped stops
// the bridge with an error that names it; nothing is sent as null, and nothing
// is lost once the rule is fixed.
func TestDriftStops(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	for name, c := range map[string]struct{ alter, column, fixed string }{
		"dropped": {"alter table fichas drop column valor", "valor", "{id: id}"},
		"renamed": {"alter table fichas rename valor to preco", "valor", "{id: id, valor: preco}"},
		"retyped": {"alter table fichas alter valor type text", "valor", "{id: id, valor: valor}"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, testservers.RedisOptions{}, driftTable)
			r := newReceiver(t, nil)
			w.rules = driftRules
			w.endpoint("a", r.url())
			b := w.run()
			w.exec("insert into fichas (id, nome, valor) values (1, 'um', 1.10)")
			r.waitCount(2)
			w.exec(c.alter)
			w.exec("insert into fichas (id, nome) values (2, 'dois')")
			b.wait(1)
			for _, part := range []string{c.column, "rules.yaml:2", "fichas"} {
				if !strings.Contains(b.text(), part) {
					t.Errorf("the error does not name %q:\n%s", part, b.text())
				}
			}
			w.rules = strings.Replace(driftRules, "{id: id, valor: valor}", c.fixed, 1)
			b = w.run()
			r.waitCount(4)
			b.stop()
		})
	}
}

// TestDriftParks: under the policy park the broken rule's changes wait in the
// dead letters and the other rule continues.
func TestDriftParks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, driftTable)
	r := newReceiver(t, nil)
	w.source = "  on_schema_change: park"
	w.rules = driftRules
	w.endpoint("a", r.url())
	b := w.run()
	w.exec("alter table fichas drop column valor")
	w.exec("insert into fichas (id, nome) values (1, 'um'), (2, 'dois')")
	for _, a := range r.waitCount(2) {
		if a.event != "ficha.nome" {
			t.Errorf("%s arrived", a.event)
		}
	}
	// Without a state.key they cannot be redriven, and that is told.
	const told = "without a state.key its row was not kept"
	if line := b.waitLog("change parked"); !strings.Contains(line, told) || !strings.Contains(line, "state: {key:") {
		t.Errorf("the log line: %s", line)
	}
	if n, err := w.redisClient().XLen(context.Background(), "gancho:parked").Result(); err != nil || n != 2 {
		t.Errorf("%d changes (%v) are parked, want 2", n, err)
	}
	b.stop()
	s := &session{world: w, path: w.write()}
	if out := s.ok("parked", "list"); strings.Count(out, told) != 2 {
		t.Errorf("parked list:\n%s", out)
	}
	if _, out, _ := s.gancho("status"); !strings.Contains(out, told) {
		t.Errorf("status:\n%s", out)
	}
	s.fails(1, "state.key", "parked", "redrive", "--all")
}

// TestRetypedWhileDown: what was changed before an ALTER that the bridge has slept
// through is mapped with the types of its time.
func TestRetypedWhileDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, "create table vendas (id int primary key, cliente int, valor numeric(8,2))", "create table clientes (id int primary key, nome text)",
		"insert into clientes values (7, 'Ana')")
	r := newReceiver(t, nil)
	w.rules = `rules:
  - event: venda
    table: vendas
    on: [insert, update]
    collapse: id
    data: {id: id, dobro: 2 * cliente, valor: valor, nome: c.nome}
    lookup: {c: select nome from clientes where id = new.cliente}
`
	w.endpoint("a", r.url(), "order: endpoint")
	w.run().stop()
	w.exec("insert into vendas values (1, 7, 1.50)")
	w.exec("alter table vendas alter id type bigint, alter cliente type bigint, alter valor type text")
	w.exec("alter table clientes alter id type bigint")
	w.exec("insert into clientes values (3000000000, 'Bia'); insert into vendas values (5000000000, 3000000000, '2.50')")
	b := w.run()
	var got []string
	for _, a := range r.waitCount(2) {
		got = append(got, tail(string(a.body), len(a.body)-strings.Index(string(a.body), `"data":`)))
	}
	for i, want := range []string{`"data":{"id":1,"dobro":14,"valor":1.50,"nome":"Ana"}}`, `"data":{"id":5000000000,"dobro":6000000000,"valor":"2.50","nome":"Bia"}}`} {
		if !strings.HasSuffix(got[i], want) {
			t.Errorf("arrived %s, want %s", got[i], want)
		}
	}
	b.stop()
}

// TestToast: an unchanged TOAST value is never sent as null.
func TestToast(t *testing.T) {
	t.Parallel()
	const table = `create table laudos (id int primary key, visto int, texto text);
		alter table laudos alter texto set storage external`
	const rules = `rules:
  - event: laudo.visto
    table: laudos
    on: update
    data: {id: id, visto: visto, texto: texto}
`
	for name, c := range map[string]struct {
		identity  string
		unchanged bool
	}{
		"default identity": {"default", true},
		"full identity":    {"full", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, testservers.RedisOptions{}, table, "alter table laudos replica identity "+c.identity,
				"insert into laudos values (1, 0, repeat('texto longo ', 1000))")
			r := newReceiver(t, nil)
			w.rules = rules
			w.endpoint("a", r.url())
			b := w.run()
			w.exec("update laudos set visto = 1")
			a := r.waitCount(1)[0]
			text, sent := a.data["texto"]
			named := strings.Contains(string(a.body), `"unchanged":["texto"]`)
			if c.unchanged && (sent || !named) {
				t.Errorf("texto sent: %v, named in unchanged: %v; want left out and named: %s", sent, named, tail(string(a.body), 300))
			}
			if !c.unchanged && (named || len(text) != 12_000+2) {
				t.Errorf("texto has %d bytes, named in unchanged: %v; want all 12,000", len(text), named)
			}
			b.stop()
		})
	}
}
