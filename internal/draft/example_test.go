package draft_test

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"gancho/internal/draft"
	"gancho/mapping"
)

// A rule for the legacy schema is adapted to a database with other names; one
// whose table is not there is commented out.
func Example() {
	ctx := context.Background()
	if err := pg.Exec(ctx, "postgres", "create table tb_cliente (id_cliente int primary key, nm_cliente text)"); err != nil {
		fmt.Println(err)
		return
	}
	conn, err := pgx.Connect(ctx, pg.DSN("postgres"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close(ctx) }()
	drafter, err := draft.New(ctx, conn, mapping.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	d, err := drafter.Draft(ctx, "regras.yaml", []byte(`
rules:
  - event: cliente.novo
    table: clientes
    on: insert
    columns: [id, nome]
  - event: cobranca.criada
    table: cobrancas
    on: insert
    columns: [id]
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(d.Text)
	// Output:
	// rules:
	//   - event: cliente.novo
	//     table: tb_cliente
	//     on: insert
	//     columns: [id_cliente, nm_cliente]
	//   # Commented out: table cobrancas, or one like it, is not in the database.
	//   # - event: cobranca.criada
	//   #   table: cobrancas
	//   #   on: insert
	//   #   columns: [id]
}
