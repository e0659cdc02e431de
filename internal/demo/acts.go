package demo

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Act is one thing that users, turnstiles or jobs of the legacy system do, in a
// transaction of its own.
type Act struct {
	Name   string
	weight int
	play   func(*Traffic, context.Context) error
}

// Acts are the everyday ones.
func Acts() []Act {
	return []Act{
		Entry(),
		{"exit", 6, onClient("AT", (*Traffic).exit)},
		{"visitor", 4, (*Traffic).visitor},
		{"sale of a plan", 5, onClient("VI", (*Traffic).sale)},
		{"edit of a client", 8, onClient("AT", (*Traffic).edit)},
		{"save without a change", 5, onClient("AT", (*Traffic).save)},
		{"payment", 8, onClient("AT", (*Traffic).payment)},
		{"refund", 2, (*Traffic).refund},
		{"order", 6, onClient("AT", (*Traffic).order)},
		{"step of an order", 14, (*Traffic).step},
		{"abandoned cart", 3, (*Traffic).abandon},
		{"price", 3, (*Traffic).price},
		{"new product", 2, (*Traffic).product},
		{"removed product", 1, (*Traffic).discard},
		{"cancelled contract", 2, (*Traffic).cancel},
		{"deactivated client", 1, onClient("AT", (*Traffic).deactivate)},
		{"second thoughts", 2, onClient("AT", (*Traffic).secondThoughts)},
	}
}

// Entry is a pass at a turnstile. The schema's trigger then updates the client.
func Entry() Act { return Act{"entry", 28, (*Traffic).entry} }

// onClient plays an act on a client in the given situation.
func onClient(situation string, play func(t *Traffic, ctx context.Context, id, tenant int) error) func(*Traffic, context.Context) error {
	return func(t *Traffic, ctx context.Context) error {
		id, tenant, err := t.client(ctx, situation)
		if err != nil {
			return err
		}
		return play(t, ctx, id, tenant)
	}
}

func (t *Traffic) entry(ctx context.Context) error {
	if t.rng.IntN(25) == 0 { // the receptionist opens the gate: the row names no client
		return t.exec(ctx, `insert into acessos (empresa_id, dt_acesso, sentido, coletor, meio, liberado)
			values (1, localtimestamp, 'ENTRADA', 'CAT01', 'M', true)`)
	}
	blocked := t.rng.IntN(12) == 0
	id, tenant, err := t.client(ctx, "AT")
	if err != nil {
		return err
	}
	var reason any
	event := "acesso.liberado"
	if blocked {
		reason, event = pick(t, "Plano vencido", "Fora do horário do plano", "Inadimplente"), "acesso.bloqueado"
	}
	t.expect(event, tenant, 1)
	return t.exec(ctx, `insert into acessos (empresa_id, cliente_id, dt_acesso, sentido, coletor, meio, liberado, motivo_bloqueio)
		values ($1, $2, localtimestamp, 'ENTRADA', $3, $4, $5, $6)`,
		tenant, id, fmt.Sprintf("CAT%02d", 1+t.rng.IntN(6)), pick(t, "B", "F", "C"), !blocked, reason)
}

func (t *Traffic) exit(ctx context.Context, id, tenant int) error {
	return t.exec(ctx, `insert into acessos (empresa_id, cliente_id, dt_acesso, sentido, coletor, meio, liberado)
		values ($1, $2, localtimestamp, 'SAIDA', 'CAT01', 'B', true)`, tenant, id)
}

func (t *Traffic) visitor(ctx context.Context) error {
	n, tenant := t.next(), 1+t.rng.IntN(2)
	t.expect("cliente.novo", tenant, 1)
	return t.exec(ctx, `insert into clientes (empresa_id, matricula, nome, email, celular, situacao, tags, dados_extras)
		values ($1, $2, $3, $4, $5, 'VI', $6, '{"origem": "balcão"}')`,
		tenant, fmt.Sprintf("V%06d", n), fmt.Sprintf("Visitante %s %d", pick(t, "da Conceição", "D'Ávila", "São João"), n),
		fmt.Sprintf("Visitante%d@Exemplo.com.br", n), fmt.Sprintf("1198%07d", n), pick(t, nil, []string{"manhã"}, []string{"vip", "aula experimental"}))
}

// sale turns a visitor into a client with a contract and a first payment.
func (t *Traffic) sale(ctx context.Context, id, tenant int) error {
	if err := t.exec(ctx, `update clientes set situacao = 'AT', usuario_alteracao = 'carla' where id = $1`, id); err != nil {
		return err
	}
	t.expect("cliente.ativado", tenant, 1)
	contract, err := t.create(ctx, `
		insert into contratos (empresa_id, cliente_id, produto_id, numero, dt_inicio, dt_fim, duracao, valor_mensal, consultor)
		values ($1, $2, 3, $3, current_date, current_date + 365, '1 year', $4::numeric, 'Carla') returning id`,
		tenant, id, fmt.Sprintf("N%08d", t.next()), pick(t, "99.90", "129.90", "189.00"))
	if err != nil {
		return err
	}
	t.expect("contrato.novo", tenant, 1)
	err = t.exec(ctx, `insert into mensalidades (empresa_id, contrato_id, produto_id, valor, dt_inicio)
		select empresa_id, id, produto_id, valor_mensal, dt_inicio from contratos where id = $1`, contract)
	if err != nil {
		return err
	}
	return t.pay(ctx, id, tenant, contract, pick(t, "99.90", "129.90", "1190.00"))
}

func (t *Traffic) pay(ctx context.Context, client, tenant int, contract any, amount string) error {
	t.expect("pagamento.recebido", tenant, 1)
	return t.exec(ctx, `insert into pagamentos (empresa_id, recibo, cliente_id, contrato_id, forma, valor, parcelas, nsu, responsavel)
		values ($1, $2, $3, $4, $5, $6::numeric, $7, $8, 'caixa')`,
		tenant, 100000+t.next(), client, contract, pick(t, "PX", "CC", "DI", "BO"), amount, 1+t.rng.IntN(12), fmt.Sprintf("%012d", t.next()))
}

func (t *Traffic) payment(ctx context.Context, id, tenant int) error {
	return t.pay(ctx, id, tenant, nil, pick(t, "89.90", "129.90", "45.00", "0.01"))
}

func (t *Traffic) refund(ctx context.Context) error {
	return t.change(ctx, "pagamento.estornado", `update pagamentos set estornado = 'S', dt_estorno = localtimestamp
		where id = (select id from pagamentos where estornado = 'N' and id >= (select 1 + $1::float8 * max(id) from pagamentos) order by id limit 1)
		returning empresa_id`, t.rng.Float64())
}

func (t *Traffic) edit(ctx context.Context, id, tenant int) error {
	// Numbers that never repeat, so that the new value surely differs.
	n := t.next()
	t.expect("cliente.atualizado", tenant, 1)
	switch t.rng.IntN(3) {
	case 0:
		return t.exec(ctx, `update clientes set email = $2 where id = $1`, id, fmt.Sprintf("novo%d@exemplo.com.br", n))
	case 1:
		return t.exec(ctx, `update clientes set celular = $2 where id = $1`, id, fmt.Sprintf("2199%07d", n))
	default:
		return t.exec(ctx, `update clientes set endereco = $2, cidade = 'Santo André', uf = 'SP', cep = '09010000' where id = $1`,
			id, fmt.Sprintf("Rua das Flores, %d", n))
	}
}

// save is the form of which nothing was changed: the application writes all of
// it, and the trigger touches the row.
func (t *Traffic) save(ctx context.Context, id, _ int) error {
	return t.exec(ctx, `update clientes set nome = nome, email = email, celular = celular, usuario_alteracao = 'carla' where id = $1`, id)
}

func (t *Traffic) order(ctx context.Context, id, tenant int) error {
	order, err := t.create(ctx, `
		insert into pedidos (empresa_id, numero, cliente_id, carrinho_id, subtotal, frete, desconto, total, entrega)
		values ($1, $2, $3, gen_random_uuid(), 200.00, 15.90, 10.00, 205.90, '{"uf": "SP", "cidade": "São Paulo", "cep": "01310-100"}') returning id`,
		tenant, fmt.Sprintf("W%08d", t.next()), id)
	if err != nil {
		return err
	}
	t.expect("pedido.novo", tenant, 1)
	return t.exec(ctx, `insert into itens_pedido (pedido_id, seq, produto_id, quantidade, preco)
		select $1, row_number() over (), id, 1, preco from (select id, preco from produtos where tipo = 'P' order by id limit 3) p`, order)
}

// step moves an order one status on; it also saves the items again, as such
// systems do.
func (t *Traffic) step(ctx context.Context) error {
	var id, tenant int
	var status string
	err := t.tx.QueryRow(ctx, `select id, empresa_id, status from pedidos
		where status in ('00', '10', '20', '30', '40') and id >= (select 1 + $1::float8 * max(id) from pedidos) order by id limit 1`, t.rng.Float64()).
		Scan(&id, &tenant, &status)
	if err != nil {
		return err
	}
	next := map[string]string{"00": "10", "10": "20", "20": "30", "30": "40", "40": "50"}[status]
	if t.rng.IntN(12) == 0 {
		next = "90"
	}
	t.expect("pedido.status", tenant, 1)
	err = t.exec(ctx, `update pedidos set status = $2::text, rastreio = case when $2::text = '40' then $3 else rastreio end where id = $1`,
		id, next, fmt.Sprintf("BR%09dBR", t.next()))
	if err != nil {
		return err
	}
	return t.exec(ctx, `with gone as (delete from itens_pedido where pedido_id = $1 and seq = 1 returning *)
		insert into itens_pedido select pedido_id, seq + 100, produto_id, quantidade, preco from gone`, id)
}

func (t *Traffic) abandon(ctx context.Context) error {
	return t.change(ctx, "pedido.removido", `delete from pedidos where id = (select id from pedidos
		where status = '00' and id >= (select 1 + $1::float8 * max(id) from pedidos) order by id limit 1) returning empresa_id`, t.rng.Float64())
}

func (t *Traffic) price(ctx context.Context) error {
	return t.change(ctx, "produto.preco", `update produtos set preco = preco + 0.10 + $2::int * 0.05 where id = (select id from produtos
		where tipo = 'P' and situacao = 'A' and id >= (select 1 + $1::float8 * max(id) from produtos) order by id limit 1) returning empresa_id`,
		t.rng.Float64(), t.rng.IntN(40))
}

func (t *Traffic) product(ctx context.Context) error {
	n, tenant := t.next(), 1+t.rng.IntN(2)
	t.expect("produto.novo", tenant, 1)
	return t.exec(ctx, `insert into produtos (empresa_id, codigo, descricao, preco, peso_kg) values ($1, $2, $3, 59.90, 0.450)`,
		tenant, fmt.Sprintf("N%08d", n), fmt.Sprintf("Lançamento nº %d", n))
}

func (t *Traffic) discard(ctx context.Context) error {
	return t.change(ctx, "produto.removido", `delete from produtos where id = (select id from produtos
		where codigo like 'N%' order by id limit 1) returning empresa_id`)
}

func (t *Traffic) cancel(ctx context.Context) error {
	return t.change(ctx, "contrato.cancelado", `update contratos set situacao = 'CA', dt_cancelamento = localtimestamp + interval '30 days', motivo_cancelamento = nullif($2, '')
		where id = (select id from contratos where situacao = 'AT' and id >= (select 1 + $1::float8 * max(id) from contratos) order by id limit 1)
		returning empresa_id`, t.rng.Float64(), pick(t, "", "Mudança de cidade", "Preço"))
}

func (t *Traffic) deactivate(ctx context.Context, id, tenant int) error {
	t.expect("cliente.desativado", tenant, 1)
	return t.exec(ctx, `update clientes set situacao = 'DE', ativo = 'N', dt_desativacao = localtimestamp where id = $1`, id)
}

// secondThoughts takes a payment and rolls it back: nothing may arrive of it.
func (t *Traffic) secondThoughts(ctx context.Context, id, tenant int) error {
	if err := t.payment(ctx, id, tenant); err != nil {
		return err
	}
	return errRollback
}

// bulkEvent comes from bulk updates alone, by the thousand in one transaction.
// How long the last of them takes says little about how long one takes.
const bulkEvent = "cliente.inadimplencia"

// Bulk are the jobs that touch thousands of rows in one transaction: the first
// touches nothing that a rule asks for, the second does.
func Bulk() []Act {
	return []Act{
		{"silent bulk update", 0, (*Traffic).recalculate},
		{"bulk update", 0, (*Traffic).overdue},
	}
}

// recalculate writes every client without changing any, as nightly jobs do; the
// trigger touches each row all the same.
func (t *Traffic) recalculate(ctx context.Context) error {
	before := t.pending.Rows
	if err := t.exec(ctx, `update clientes set limite_credito = limite_credito where ativo = 'S'`); err != nil {
		return err
	}
	t.report(fmt.Sprintf("a job saves %d clients without changing what any rule watches: no webhook", t.pending.Rows-before))
	return nil
}

// overdue marks half of the clients as overdue, or no longer so.
func (t *Traffic) overdue(ctx context.Context) error {
	rows, err := t.tx.Query(ctx, `
		with u as (
			update clientes set inadimplente = case inadimplente when 'S' then 'N' else 'S' end
			where situacao = 'AT' and id / 2 % 2 = $1 returning empresa_id)
		select empresa_id, count(*)::int from u group by empresa_id`, t.rng.IntN(2))
	if err != nil {
		return err
	}
	var tenant, n, total int
	_, err = pgx.ForEachRow(rows, []any{&tenant, &n}, func() error {
		t.expect(bulkEvent, tenant, n)
		total += n
		return nil
	})
	t.pending.Rows += int64(total)
	t.report(fmt.Sprintf("a job marks %d clients as overdue or paid up in one transaction: a webhook each", total))
	return err
}
