package mapping_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/mapping"
)

// aloneRules are conditions that look at one row, and that need the one before.
const aloneRules = `
rules:
  - event: contrato.ativo
    table: contratos
    on: update
    when: old.situacao <> 'AT' and new.situacao = 'AT' and (select new.valor * 2) > 100 and cliente.email is not null and became(situacao, 'AT') and observacao like 'x%'
    watch: situacao
    lookup: {cliente: "select nome, email, ativo from clientes where id = new.cliente_id"}
    previous: true
    key: id
    data: {id: id, nome: cliente.nome, dobro: (select new.valor * 2), antes: old.valor}
  - event: contrato.movido
    table: contratos
    on: update
    key: old.id
    columns: [id]
  - event: contrato.gravado
    table: contratos
    on: [insert, update]
    when: became(situacao, 'AT') and 10 / valor > 0
    collapse: id
    columns: [id]
  - event: contrato.lido
    table: contratos
    on: update
    when: (select coalesce(old.valor, 0) < new.valor) and exists (select from clientes c where c.id = cliente_id and c.nome <> old.observacao) and new.valor > 1
    columns: [id]
  - event: contrato.removido
    table: contratos
    on: delete
    when: old.situacao = 'AT'
    columns: [id]
  - event: contrato.zerado
    table: contratos
    on: truncate
    data: {tudo: "'sim'"}
`

const aloneRows = `insert into clientes (id, empresa_id, nome, email, cpf_cnpj) values (10, 7, 'Dez', 'dez@example.com', '12345678909');
	insert into contratos (id, empresa_id, cliente_id, situacao, valor, observacao) values (1, 7, 10, 'AT', 60, 'xyz'), (2, 7, 10, 'AT', 0, null), (3, 7, 99, 'CA', 60, 'xyz')`

// withoutDirectory leaves the file of a place.
func withoutDirectory(reason string) string {
	return reason[strings.LastIndex(reason, "/rules.yaml")+1:]
}

// TestRowMapper applies rules to rows as they are in the table.
func TestRowMapper(t *testing.T) {
	t.Parallel()
	l := newLab(t, pg, mapping.Options{}, aloneRules, aloneRows, "revoke create on schema public from public; alter table contratos replica identity full")
	rs := bind(t, l.conn, mapping.Options{}, aloneRules)
	table := rs.Table(cdc.Name{Name: "contratos"})
	m := mapping.NewRowMapper(rs, table, l.source)
	var as []string
	for _, r := range m.Rules() {
		as = append(as, fmt.Sprintf("%s as %q %q %q", r.Event, r.As, r.Left, r.Unjudged))
	}
	diff(t, "rules", as, []string{
		`contrato.ativo as "update" "" ["when: old.situacao <> 'AT'" "when: became(situacao, 'AT')" "watch" "previous"]`,
		`contrato.movido as "" "key needs the row before the update" []`,
		`contrato.gravado as "insert" "" []`,
		`contrato.lido as "update" "" ["when: (select coalesce(old.valor, 0) < new.valor)" "when: exists (select from clientes c where c.id = cliente_id and c.nome <> old.observacao)"]`,
		`contrato.removido as "" "it is for delete, and a row that exists is neither" []`,
		`contrato.zerado as "" "it is for truncate, and a row that exists is neither" []`,
	})
	var r recorder
	tx := &cdc.Transaction{Commit: 1}
	n := uint64(0)
	reader := mapping.NewSource(l.dsn, "", zerolog.Nop())
	defer reader.Close(context.Background())
	query := mapping.RowQuery{Table: table, Columns: m.Columns(), Where: "id < 9", Limit: 100}
	unreadable, err := reader.Rows(t.Context(), rs, query, func(row []cdc.Datum) error {
		n++
		return m.Map(tx, n, row, &r)
	})
	if err != nil || len(unreadable) > 0 || n != 3 {
		t.Fatalf("%d rows, %v, without %v", n, err, unreadable)
	}
	if err := m.Resolve(t.Context(), &r); err != nil {
		t.Fatal(err)
	}
	var events []string
	for _, g := range r.all {
		events = append(events, g.Type+" "+g.Data+withoutDirectory(g.Parked))
	}
	diff(t, "events", events, []string{
		`contrato.ativo {"id":1,"nome":"Dez","dobro":120.00}`, `contrato.gravado {"id":1}`, `contrato.lido {"id":1}`,
		"contrato.gravado rules.yaml:20:38: evaluate when: division by zero (SQLSTATE 22012)",
		`contrato.lido {"id":3}`,
	})
	for _, where := range []string{"situacao = ", "nao_ha = 1", "id = 'abc'", "1 / (id - id) = 1"} {
		if _, err := reader.Rows(t.Context(), rs, mapping.RowQuery{Table: table, Where: where, Limit: 1}, nil); !errors.Is(err, mapping.ErrCondition) || strings.Contains(err.Error(), "abc") {
			t.Errorf("the wrong condition %s: %v", where, err)
		}
	}
}

// TestJudge evaluates conditions on a row, part by part.
func TestJudge(t *testing.T) {
	t.Parallel()
	l := newLab(t, pg, mapping.Options{}, aloneRules, aloneRows, "revoke create on schema public from public; alter table contratos replica identity full")
	rs := bind(t, l.conn, mapping.Options{Deny: []string{"contratos.observacao"}}, aloneRules)
	hide := func(name string) bool { return name == "email" || name == "cpf_cnpj" }
	judged := func(key string) []string {
		t.Helper()
		j, err := rs.Judge(t.Context(), l.source, cdc.Name{Schema: "public", Name: "contratos"}, key, hide)
		if err != nil {
			t.Fatal(err)
		}
		out := []string{fmt.Sprintf("found %v", j.Found)}
		for _, r := range j.Rules {
			for _, c := range r.Conjuncts {
				line := r.Event + " " + c.Result + ": " + c.Text + " " + withoutDirectory(c.Reason)
				for _, v := range c.Values {
					text := "null"
					switch {
					case v.Hidden:
						text = "***"
					case v.Value != nil:
						text = *v.Value
					}
					line += " " + v.Name + "=" + text
				}
				out = append(out, strings.ReplaceAll(line, "  ", " "))
			}
		}
		return out
	}
	diff(t, "contrato 1", judged("1"), []string{
		"found true",
		"contrato.ativo old: old.situacao <> 'AT' ",
		"contrato.ativo true: new.situacao = 'AT' situacao=AT",
		"contrato.ativo true: (select new.valor * 2) > 100 valor=60.00",
		"contrato.ativo true: cliente.email is not null cliente.email=***",
		"contrato.ativo old: became(situacao, 'AT') situacao=AT",
		"contrato.ativo true: observacao like 'x%' observacao=***",
		"contrato.gravado old: became(situacao, 'AT') situacao=AT",
		"contrato.gravado true: 10 / valor > 0 valor=60.00",
		"contrato.lido old: (select coalesce(old.valor, 0) < new.valor) valor=60.00",
		"contrato.lido old: exists (select from clientes c where c.id = cliente_id and c.nome <> old.observacao) cliente_id=10",
		"contrato.lido true: new.valor > 1 valor=60.00",
		"contrato.removido true: old.situacao = 'AT' situacao=AT",
	})
	two := judged("2")
	diff(t, "contrato 2", []string{two[3], two[6], two[8]}, []string{
		"contrato.ativo false: (select new.valor * 2) > 100 valor=0.00",
		"contrato.ativo null: observacao like 'x%' observacao=***",
		"contrato.gravado failed: 10 / valor > 0 rules.yaml:20:38: evaluate when: division by zero (SQLSTATE 22012) valor=0.00",
	})
	three := judged("3")
	diff(t, "contrato 3", []string{three[2], three[4]}, []string{
		"contrato.ativo false: new.situacao = 'AT' situacao=CA", "contrato.ativo false: cliente.email is not null cliente.email=***",
	})
	if none := judged("4"); none[0] != "found false" || none[2] != "contrato.ativo : new.situacao = 'AT' " {
		t.Errorf("no row: %q", none)
	}
	for _, key := range []string{"x", "1,2"} {
		if _, err := rs.Judge(t.Context(), l.source, cdc.Name{Schema: "public", Name: "contratos"}, key, hide); !errors.Is(err, mapping.ErrKey) {
			t.Errorf("key %q: %v", key, err)
		}
	}
}

// TestShownNames: what leaves show, under whatever names.
func TestShownNames(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	rs := bind(t, conn, mapping.Options{}, `
rules:
  - event: e
    table: clientes
    on: insert
    tenant: empresa_id
    lookup:
      outro: select c.nome, c.email as contato, upper(c.cpf_cnpj) as doc from clientes c where c.id = new.id
    columns: [email]
    data:
      oculto: mask_cpf(cpf_cnpj) || last4(upper(email))
      mudou: became(email, 'x')
      ativo: ativo
      nome: outro.nome
      contato: outro.contato
      linha: {tudo: to_jsonb(new) - 'foto', lista: [saldo, mask_cpf(outro.doc)]}
`)
	got := map[string]string{}
	for path, names := range rs.ShownNames(rs.Rules()[0].Place) {
		got[path] = strings.Join(names, " ")
	}
	all := got["linha.tudo"]
	delete(got, "linha.tudo")
	if !strings.Contains(all, "cpf_cnpj") || !strings.Contains(all, "email") {
		t.Errorf("a whole row shows %q", all)
	}
	diff(t, "names", got, map[string]string{
		"": "empresa_id", "email": "email", "oculto": "", "mudou": "", "ativo": "ativo dm_sn", "nome": "outro nome",
		"contato": "outro select c nome c email as contato c cpf_cnpj as doc from clientes c where c id new id contato", "linha.lista.0": "saldo", "linha.lista.1": "",
	})
}
