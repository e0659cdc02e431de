package demo_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"gancho/internal/demo"
	"gancho/internal/testservers"
)

var pg *testservers.Postgres

func TestMain(m *testing.M) { os.Exit(testservers.Main(m, &pg)) }

// triggers is what the rules' events are in PostgreSQL's own terms, to count
// them by another way than the traffic does: as a DBA would have written them.
const triggers = `
create table eventos (event text, tenant int);
create function fn_evento() returns trigger language plpgsql as
$$ begin insert into eventos values (tg_argv[0], coalesce(new.empresa_id, old.empresa_id)); return null; end $$;
create trigger e1 after insert on clientes for each row when (new.excluido_em is null) execute function fn_evento('cliente.novo');
create trigger e2 after insert on clientes for each row when (new.situacao = 'AT') execute function fn_evento('cliente.ativado');
create trigger e3 after update on clientes for each row when (old.situacao <> 'AT' and new.situacao = 'AT') execute function fn_evento('cliente.ativado');
create trigger e4 after update on clientes for each row
	when ((old.nome, old.email, old.celular, old.endereco, old.cidade, old.uf, old.cep, old.dia_vencimento)
		is distinct from (new.nome, new.email, new.celular, new.endereco, new.cidade, new.uf, new.cep, new.dia_vencimento))
	execute function fn_evento('cliente.atualizado');
create trigger e5 after update on clientes for each row when (old.inadimplente is distinct from new.inadimplente) execute function fn_evento('cliente.inadimplencia');
create trigger e6 after update on clientes for each row when (old.situacao <> 'DE' and new.situacao = 'DE') execute function fn_evento('cliente.desativado');
create trigger e1 after insert on contratos for each row when (new.situacao <> 'RA') execute function fn_evento('contrato.novo');
create trigger e2 after update on contratos for each row when (old.situacao <> 'CA' and new.situacao = 'CA') execute function fn_evento('contrato.cancelado');
create trigger e1 after insert on pagamentos for each row when (new.estornado = 'N') execute function fn_evento('pagamento.recebido');
create trigger e2 after update on pagamentos for each row when (old.estornado <> 'S' and new.estornado = 'S') execute function fn_evento('pagamento.estornado');
create trigger e1 after insert on acessos for each row when (new.liberado and new.sentido = 'ENTRADA' and new.cliente_id is not null) execute function fn_evento('acesso.liberado');
create trigger e2 after insert on acessos for each row when (not new.liberado) execute function fn_evento('acesso.bloqueado');
create trigger e1 after insert on pedidos for each row execute function fn_evento('pedido.novo');
create trigger e2 after update on pedidos for each row when (old.status <> new.status) execute function fn_evento('pedido.status');
create trigger e3 after delete on pedidos for each row execute function fn_evento('pedido.removido');
create trigger e1 after insert on produtos for each row execute function fn_evento('produto.novo');
create trigger e2 after update on produtos for each row
	when (new.situacao = 'A' and (old.preco is distinct from new.preco or old.preco_promocional is distinct from new.preco_promocional))
	execute function fn_evento('produto.preco');
create trigger e3 after delete on produtos for each row execute function fn_evento('produto.removido');
`

func legacy(t *testing.T) *pgx.Conn {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, pg.Database(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(ctx) })
	if err := demo.Load(ctx, conn); err != nil {
		t.Fatal(err)
	}
	return conn
}

// counted is what the triggers counted.
func counted(t *testing.T, conn *pgx.Conn) demo.Counts {
	t.Helper()
	rows, err := conn.Query(context.Background(), `select event, tenant, count(*)::int from eventos group by 1, 2`)
	if err != nil {
		t.Fatal(err)
	}
	counts := demo.Counts{}
	var k demo.Kind
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&k.Event, &k.Tenant, &n}, func() error { counts[k] = n; return nil }); err != nil {
		t.Fatal(err)
	}
	return counts
}

func TestTrafficExpectsWhatTriggersSee(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	conn := legacy(t)
	if _, err := conn.Exec(ctx, triggers); err != nil {
		t.Fatal(err)
	}
	var lines []string
	traffic := demo.NewTraffic(conn, 1, func(line string) { lines = append(lines, line) })
	const rounds = 30
	for range rounds {
		for _, a := range demo.Acts() {
			if err := traffic.Do(ctx, a); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, a := range demo.Bulk() {
		if err := traffic.Do(ctx, a); err != nil {
			t.Fatal(err)
		}
	}
	sum := traffic.Sum()
	if diff := cmp.Diff(counted(t, conn), sum.Events); diff != "" {
		t.Errorf("events (-triggers +traffic):\n%s", diff)
	}
	events := sum.Events.Events()
	if len(events) != strings.Count(triggers, "create trigger")-1 { // cliente.ativado has two
		t.Errorf("the acts cause %d kinds of events, not every one: %v", len(events), events)
	}
	if events["cliente.inadimplencia"] < 2000 {
		t.Errorf("the bulk update causes %d events, want thousands", events["cliente.inadimplencia"])
	}
	if len(lines) != len(demo.Bulk()) {
		t.Errorf("reported %q, want a line per bulk update", lines)
	}
	// A roll-back in each round, and acts that found no row, are not counted.
	if most := rounds*(len(demo.Acts())-1) + len(demo.Bulk()); sum.Transactions > most || sum.Transactions < most*9/10 {
		t.Errorf("%d transactions, want at most %d and nearly as many", sum.Transactions, most)
	}
}

// What is committed when the context ends is counted: no act is cut in half.
func TestTrafficEndsBetweenTransactions(t *testing.T) {
	t.Parallel()
	conn := legacy(t)
	if _, err := conn.Exec(context.Background(), triggers); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// The bulk updates come in the first seconds of so short a day, and report it.
	traffic := demo.NewTraffic(conn, 2, func(string) { cancel() })
	if err := traffic.Play(ctx, 3*time.Second); err != nil {
		t.Fatal(err)
	}
	if ctx.Err() == nil {
		t.Error("no bulk update was played")
	}
	sum := traffic.Sum()
	if diff := cmp.Diff(counted(t, conn), sum.Events); diff != "" {
		t.Errorf("events (-triggers +traffic):\n%s", diff)
	}
	if sum.Transactions == 0 || sum.Rows < 5000 {
		t.Errorf("%d transactions of %d rows; want the silent bulk update among them", sum.Transactions, sum.Rows)
	}
}
