package demo

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

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
