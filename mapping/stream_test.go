package mapping_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/mapping"
)

// streamHandler maps what the reader reads until the wanted number of events
// and parked changes is there.
type streamHandler struct {
	recorder
	mapper *mapping.Mapper
	want   int
	done   func()
}

func (h *streamHandler) Begin(*cdc.Transaction) error { return nil }
func (h *streamHandler) Change(c *cdc.Change) error   { return h.mapper.Map(c, h) }
func (h *streamHandler) Keepalive(cdc.LSN) error      { return nil }
func (h *streamHandler) Flush() error                 { return nil }
func (h *streamHandler) Reset() error                 { return nil }
func (h *streamHandler) Commit(_ *cdc.Transaction) error {
	if len(h.all) >= h.want {
		h.done()
	}
	return nil
}

const streamRules = `
rules:
  - event: cliente.mudou
    table: clientes
    on: [insert, update, delete]
    when: ativo = 'S'
    watch: [nome, observacao]
    previous: true
    tenant: empresa_id
    columns: [id, codigo, nome, extras, tags]
    data: {tamanho: length(observacao), desde: dt_cadastro}
  - event: contrato
    table: contratos
    on: [update, delete]
    columns: [id, observacao]
  - event: acesso
    table: acessos
    on: insert
    when: sentido = 'ENTRADA' and liberado
    key: cliente_id
    columns: [id, sentido]
  - event: fornecedor
    table: '"TB_FORNECEDOR"'
    on: insert
    columns: ['"VL_ÚLTIMA_COMPRA"']
  - event: produtos.zerados
    table: loja.produtos
    on: truncate
    data: {feito: "'sim'"}
`

// The whole way from the tables through the stream to events.
func TestMapTheStream(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	dsn := pg.Database(t, "", schema)
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	rs := bind(t, conn, mapping.Options{Location: saoPaulo(t), OnSchemaChange: mapping.Park}, streamRules)
	o := cdc.Options{DSN: dsn, Slot: "gancho_mapping", Publication: "gancho", Create: true}
	source, err := cdc.Prepare(ctx, o, rs.Tables())
	if err != nil {
		t.Fatal(err)
	}
	const columns = "insert into clientes (empresa_id, codigo, nome, ativo, observacao, extras, tags, dt_cadastro) values "
	for _, s := range []string{
		columns + `(1, 'A', 'Ana "a"', 'S', 'oi', '{"b": 1, "a": [1.50]}', '{x,NULL}', '2026-11-21 10:00')`,
		"update clientes set saldo = 5",
		"update clientes set nome = 'Bia', observacao = 'olá'",
		"update clientes set nome = nome, ativo = 'N'",
		"update clientes set ativo = 'S'",
		"delete from clientes",
		"insert into contratos (empresa_id, observacao) select 1, string_agg(md5(i::text), '') from generate_series(1, 1000) i",
		"update contratos set situacao = 'AT'",
		"delete from contratos",
		"insert into acessos (cliente_id, dt_acesso, sentido, liberado) values (5, '2026-03-01', 'ENTRADA', true), (5, '2027-03-01', 'SAIDA', true), (6, '2027-03-01', 'ENTRADA', true)",
		`insert into "TB_FORNECEDOR" values (1, 12345678901234567890.1234567890)`,
		"truncate loja.produtos",
		"alter table clientes drop column codigo",
		"insert into clientes (empresa_id, nome, ativo) values (1, 'Eva', 'S'), (1, 'Eva', 'N')",
	} {
		if _, err := conn.Exec(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	h := &streamHandler{mapper: mapping.NewMapper(rs, nil), want: 10, done: cancel}
	if err := cdc.NewReader(o, source).Run(ctx, h); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	const ana = `{"id":1,"codigo":"A","nome":"Ana \"a\"","extras":{"a": [1.50], "b": 1},"tags":["x",null],"tamanho":2,"desde":"2026-11-21T10:00:00-03:00"}`
	bia := strings.NewReplacer(`Ana \"a\"`, "Bia", `"tamanho":2`, `"tamanho":3`).Replace(ana)
	parked := h.all[len(h.all)-1]
	diff(t, "events", h.all[:len(h.all)-1], []got{
		{Type: "cliente.mudou", Tenant: "1", Key: "1", Data: ana},
		{Type: "cliente.mudou", Tenant: "1", Key: "1", Data: bia, Previous: `{"nome":"Ana \"a\"","tamanho":2}`},
		{Type: "cliente.mudou", Tenant: "1", Key: "1", Data: bia},
		{Type: "contrato", Key: "1", Data: `{"id":1}`, Unchanged: `["observacao"]`},
		{Type: "contrato", Key: "1", Data: `{"id":1}`, Unchanged: `["observacao"]`},
		{Type: "acesso", Key: "5", Data: `{"id":1,"sentido":"ENTRADA"}`},
		{Type: "acesso", Key: "6", Data: `{"id":3,"sentido":"ENTRADA"}`},
		{Type: "fornecedor", Key: "1", Data: `{"VL_ÚLTIMA_COMPRA":12345678901234567890.1234567890}`},
		{Type: "produtos.zerados", Data: `{"feito":"sim"}`},
	})
	if !strings.Contains(parked.Parked, `column "codigo" of table public.clientes is no longer in the stream`) {
		t.Errorf("the insert after the drop: %+v", parked)
	}
}
