package mapping_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/mapping"
)

// printer is a Sink that prints what it is given.
type printer struct{}

func (printer) Event(e *mapping.Event) error {
	_, err := fmt.Fprintf(os.Stdout, "%s, tenant %s, key %s: %s before: %s\n", e.Type, e.Tenant, e.Key, e.Data, e.Previous)
	return err
}

func (printer) Park(p *mapping.Parked) error {
	_, err := fmt.Fprintln(os.Stdout, "parked:", p.Reason)
	return err
}

// ruleFile writes a rule file and returns its name and how to remove it.
func ruleFile(text string) (name string, remove func(), err error) {
	dir, err := os.MkdirTemp("", "gancho-example")
	if err != nil {
		return "", nil, err
	}
	name = filepath.Join(dir, "cobrancas.yaml")
	return name, func() { _ = os.RemoveAll(dir) }, os.WriteFile(name, []byte(text), 0o600)
}

// A rule is read, bound to its table and applied to a change of the stream.
func Example() {
	ctx := context.Background()
	if err := pg.Exec(ctx, "postgres", "create table cobrancas (id int primary key, empresa_id int, status text, valor numeric(12,2)); alter table cobrancas replica identity full"); err != nil {
		fmt.Println(err)
		return
	}
	conn, err := pgx.Connect(ctx, pg.DSN("postgres"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close(ctx) }()
	file, remove, err := ruleFile(`
rules:
  - event: cobranca.liquidada
    table: cobrancas
    on: update
    when: old.status <> 'L' and new.status = 'L'
    tenant: empresa_id
    data: {id: id, pago: valor * 2, status: status}
    previous: true
`)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer remove()
	rules, err := mapping.Parse(mapping.Options{Files: []string{file}})
	if err != nil {
		fmt.Println(err) // every mistake of every file, with its place
		return
	}
	bound, err := rules.Bind(ctx, conn)
	if err != nil {
		fmt.Println(err)
		return
	}

	// The stream describes a table before its changes; here the catalogue does.
	table, err := cdc.LoadTable(ctx, conn, "", "", "cobrancas")
	if err != nil {
		fmt.Println(err)
		return
	}
	row := func(values ...string) []cdc.Datum {
		var out []cdc.Datum
		for _, v := range values {
			out = append(out, cdc.Datum{State: cdc.Present, Text: []byte(v)})
		}
		return out
	}
	tx := &cdc.Transaction{Commit: 0x16B3748, Time: time.Date(2026, 11, 21, 17, 2, 3, 0, time.UTC)}
	mapper := mapping.NewMapper(bound, nil)
	mapper.Begin(tx)
	err = mapper.Map(&cdc.Change{
		Position: cdc.Position{Commit: tx.Commit}, Tx: tx, Op: cdc.Update, Relation: table.Relation,
		Old: row("7", "1", "P", "10.50"), New: row("7", "1", "L", "10.50"),
	}, printer{})
	if err == nil {
		err = mapper.Commit(ctx, tx, printer{})
	}
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// cobranca.liquidada, tenant 1, key 7: {"id":7,"pago":21.00,"status":"L"} before: {"status":"P"}
}

// The events of rule files are known without a database.
func ExampleRules_EventTypes() {
	file, remove, err := ruleFile(`
rules:
  - {event: cobranca.paga, group: Cobranças, title: Cobrança paga, table: cobrancas, on: update, when: "new.status = 'L'", columns: [id]}
  - {event: cobranca.paga, table: cobrancas, on: insert, when: "status = 'L'", columns: [id]}
`)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer remove()
	rules, err := mapping.Parse(mapping.Options{Files: []string{file}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, e := range rules.EventTypes() {
		fmt.Printf("%s: %s (%s), made by %d rules\n", e.Name, e.Title, e.Group, len(e.Rules))
	}
	// Output:
	// cobranca.paga: Cobrança paga (Cobranças), made by 2 rules
}
