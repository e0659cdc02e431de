package mapping_test

import (
	"context"
	"strings"
	"testing"

	"gancho/cdc"
	"gancho/mapping"
)

const goodRules = `
rules:
  - event: cliente.atualizado
    title: Cliente atualizado
    table: clientes
    on: update
    watch: [nome, email]
    columns: [id, nome, email]
    previous: true
  - event: cliente.novo
    table: clientes
    on: insert
    columns: [id]
  - event: pedido.removido
    table: pedidos
    on: delete
    tenant: empresa_id
    columns: [id, total]
  - event: contrato.novo
    table: contratos
    on: [insert, update]
    when: new.observacao is not null
    columns: [id]
  - event: estoque
    table: estoque_movimentos
    on: insert
    columns: [produto_id]
  - event: acesso
    table: acessos
    on: insert
    when: sentido = 'ENTRADA' and liberado
    columns: [id]
  - event: fornecedor.novo
    table: '"TB_FORNECEDOR"'
    on: insert
    when: '"ID_FORNECEDOR" > 10'
    columns: ['"ID_FORNECEDOR"', '"VL_ÚLTIMA_COMPRA"']
  - event: produto.novo
    table: loja.produtos
    on: [insert, truncate]
    data: {tabela: "'produtos'"}
`

func findings(rs *mapping.Ruleset) []string {
	var out []string
	for _, f := range rs.Findings() {
		out = append(out, f.Title+"; "+f.Fix())
	}
	return out
}

func TestBind(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	rules := parse(t, mapping.Options{}, goodRules)
	if n := len(rules.Tables()); n != 7 {
		t.Errorf("the files name %d tables, want 7", n)
	}
	rs, err := rules.Bind(context.Background(), conn)
	if err != nil {
		t.Fatal(err)
	}
	need := func(schema, name string, ops ...cdc.Op) cdc.TableNeed {
		n := cdc.TableNeed{Schema: schema, Name: name}
		for _, op := range ops {
			n.Insert, n.Update = n.Insert || op == cdc.Insert, n.Update || op == cdc.Update
			n.Delete, n.Truncate = n.Delete || op == cdc.Delete, n.Truncate || op == cdc.Truncate
		}
		return n
	}
	diff(t, "tables", rs.Tables(), []cdc.TableNeed{
		need("loja", "produtos", cdc.Insert, cdc.Truncate),
		need("public", "TB_FORNECEDOR", cdc.Insert),
		need("public", "acessos", cdc.Insert),
		need("public", "clientes", cdc.Insert, cdc.Update),
		need("public", "contratos", cdc.Insert, cdc.Update),
		need("public", "estoque_movimentos", cdc.Insert),
		need("public", "pedidos", cdc.Delete),
	})
	diff(t, "findings", findings(rs), []string{
		"a deleted row is sent without total: the payload will lack what depends on it, named in unchanged; run ALTER TABLE public.pedidos REPLICA IDENTITY FULL;",
		`when uses column "observacao", whose large values are not sent with an update that does not touch them: such changes are parked; run ALTER TABLE public.contratos REPLICA IDENTITY FULL;`,
		"the table has no primary key, so that all events of the rule wait for each other; write key: with what must stay in order",
	})
}

func TestBindLooksAtPublications(t *testing.T) {
	t.Parallel()
	if strings.HasPrefix(serverVersion(t), "14") {
		t.Skip("column lists and row filters begin with PostgreSQL 15")
	}
	conn := connect(t,
		"create publication gancho for table clientes (id, empresa_id, nome), acessos, contratos where (id > 5) with (publish = 'insert, update')",
		"create publication gancho_insert for table estoque_movimentos with (publish = 'insert')",
		"alter table clientes replica identity default",
	)
	rs := bind(t, conn, mapping.Options{Publication: "gancho"}, `
rules:
  - {event: a, table: clientes, on: [insert, delete], columns: [id, email]}
  - {event: b, table: acessos, on: insert, columns: [id]}
  - {event: c, table: contratos, on: insert, columns: [id]}
  - {event: d, table: estoque_movimentos, on: insert, key: produto_id, columns: [produto_id]}
  - {event: e, table: pedidos, on: insert, columns: [id]}
`)
	diff(t, "findings", findings(rs)[1:], []string{
		"publication gancho leaves out the columns email of public.clientes; run BEGIN; ALTER PUBLICATION gancho DROP TABLE ONLY public.clientes; ALTER PUBLICATION gancho ADD TABLE ONLY public.clientes; COMMIT;",
		"publication gancho has a row filter on public.contratos: changes of other rows are never seen; run BEGIN; ALTER PUBLICATION gancho DROP TABLE ONLY public.contratos; ALTER PUBLICATION gancho ADD TABLE ONLY public.contratos; COMMIT;",
	})
}

// TestAdviceNamesPartitions: each partition has its own replica identity.
func TestAdviceNamesPartitions(t *testing.T) {
	t.Parallel()
	rs := bind(t, connect(t), mapping.Options{}, `
rules:
  - {event: a, table: acessos, on: delete, key: id, columns: [id, liberado]}
`)
	diff(t, "findings", findings(rs), []string{
		"a deleted row is sent without liberado: the payload will lack what depends on it, named in unchanged; " +
			"run ALTER TABLE public.acessos REPLICA IDENTITY FULL; ALTER TABLE public.acessos_2026 REPLICA IDENTITY FULL;",
	})
}

// TestTableElsewhere: a table that exists, but where the search_path does not
// lead, or in a schema that the role may not use.
func TestTableElsewhere(t *testing.T) {
	t.Parallel()
	conn := connect(t, "create table loja.estoque (id int primary key)")
	role := "leitor_" + conn.Config().Database
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(context.Background(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	exec("create role " + role)
	t.Cleanup(func() {
		exec("reset role")
		exec("drop owned by " + role)
		exec("drop role " + role)
	})
	exec("grant select on all tables in schema public to " + role)
	refuses := func(rule, want string) {
		t.Helper()
		_, err := parse(t, mapping.Options{}, "rules:\n  - "+rule+"\n").Bind(context.Background(), conn)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", rule, err, want)
		}
	}
	lookup := func(query string) string {
		return "{event: a, table: public.clientes, on: insert, data: {x: l.n}, lookup: {l: '" + query + "'}}"
	}
	exec("set search_path = loja")
	refuses("{event: a, table: clientes, on: insert, columns: [id]}", "table clientes does not exist; write public.clientes: its schema is not in the search_path")
	refuses("{event: a, table: cliente, on: insert, columns: [id]}", "did you mean public.clientes?")
	refuses(lookup("select 1 as n from contratos where id = new.id"), "write public.contratos: its schema is not in the search_path")
	refuses(lookup("select 1 as n from loja.estoques where id = new.id"), "did you mean loja.estoque?")
	exec("set search_path = public, loja")
	exec("set role " + role)
	const grant = "GRANT USAGE ON SCHEMA loja TO "
	refuses("{event: a, table: estoque, on: insert, columns: [id]}", "table estoque does not exist; run the SQL below, because loja.estoque exists, and the role may not use its schema\nrun this in the source database:\n-- as postgres, the owner of schema loja:\n"+grant+role+";")
	refuses(lookup("select 1 as n from loja.estoque where id = new.id"), "permission denied for schema loja; run the SQL below\nrun this in the source database:\n-- as postgres, the owner of schema loja, loja.estoque:\n"+
		grant+role+";\nGRANT SELECT ON loja.estoque TO "+role+";")
	exec("reset role")
	exec(grant + role)
	exec("set role " + role)
	refuses(lookup("select 1 as n from loja.estoque where id = new.id"), "\nGRANT SELECT ON loja.estoque TO "+role+";")
}
