package presets_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.yaml.in/yaml/v4"

	"gancho/cdc"
	"gancho/internal/presets"
	"gancho/mapping/expr"
	"gancho/migrations"
)

const zone = "America/Sao_Paulo"

// condition is what decides whether a preset's rule fires for a row.
type condition struct {
	preset, event, table, when string
	on                         []string
	watch                      []string
}

// conditions reads them from the rule files as they are, by an ordinary reader
// of YAML: what is proven must not have gone through the code that it is
// compared with.
func conditions(t *testing.T) []condition {
	t.Helper()
	var all []condition
	for _, preset := range presets.Names() {
		files, err := presets.Files(preset)
		if err != nil {
			t.Fatal(err)
		}
		for name, text := range files {
			var file struct {
				Rules []struct {
					Event, Table, When string
					On                 any
					Watch              []string
				}
			}
			if err := yaml.Unmarshal(text, &file); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for _, r := range file.Rules {
				c := condition{preset: preset, event: r.Event, table: r.Table, when: cmp.Or(r.When, "true"), watch: r.Watch}
				switch on := r.On.(type) {
				case string:
					c.on = []string{on}
				case []any:
					for _, op := range on {
						c.on = append(c.on, fmt.Sprint(op))
					}
				}
				all = append(all, c)
			}
		}
	}
	return all
}

// source is the condition as a rule's expression: watch is for updates.
func (c condition) source(op string) string {
	if op != "update" || len(c.watch) == 0 {
		return c.when
	}
	return fmt.Sprintf("(%s) and (changed(%s))", c.when, strings.Join(c.watch, ") or changed("))
}

// sql is the condition in PostgreSQL's own words, written from the YAML: only
// changed() has to be spelt out.
func (c condition) sql(op string) string {
	s := c.when
	for {
		before, rest, ok := strings.Cut(s, "changed(")
		if !ok {
			break
		}
		column, after, _ := strings.Cut(rest, ")")
		s = before + distinct(column) + after
	}
	if op != "update" || len(c.watch) == 0 {
		return s
	}
	var changes []string
	for _, column := range c.watch {
		changes = append(changes, distinct(column))
	}
	return fmt.Sprintf("(%s) and (%s)", s, strings.Join(changes, " or "))
}

func distinct(column string) string {
	return fmt.Sprintf("(old.%[1]s is distinct from new.%[1]s)", column)
}

// codes are the values of columns for which conditions have an ear, as SQL
// literals; null is always added.
var codes = map[string][]string{
	"clientes.situacao": {"VI", "AT", "BL", "DE", "de"}, "contratos.situacao": {"RA", "AT", "TR", "CA"}, "vendas_avulsas.situacao": {"EA", "PG", "CA"},
	"produtos.situacao": {"A", "I", "E"}, "produtos.tipo": {"P", "S", "L"}, "cobrancas.status": {"P", "L", "I"}, "despesas.status": {"P", "L", "X"},
	"transacoes_cartao.status": {"E", "A", "N", "T"}, "pedidos.status": {"00", "10", "0"}, "notas_fiscais.tipo": {"R", "P"},
	"clientes.cpf_cnpj": {"52998224725", "11222333000181"},
}

// typical are values by type, for columns without codes.
var typical = map[string][]string{
	"int2": {"0", "1"}, "int4": {"0", "7"}, "int8": {"7"}, "numeric": {"0", "10.50"}, "bool": {"t", "f"}, "bpchar": {"S", "N"},
	"varchar": {"", "a"}, "text": {"", "a"}, "date": {"2025-01-31", "infinity"}, "timestamp": {"2025-01-31 10:00", "2099-01-01 00:00"},
	"tp_sentido": {"ENTRADA", "SAIDA"}, "jsonb": {`{"a": 1}`, `{"a": 1.0}`}, "interval": {"1 mon", "30 days"},
}

// maxRows bounds the rows of a rule; its updates are all pairs of them.
const maxRows = 70

// TestConditionsOnPostgreSQL: for all rows and pairs of rows made of the
// interesting values of the columns that a condition names, the server's
// "select <when> from old, new" says what the compiled rule says.
func TestConditionsOnPostgreSQL(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	schema, _, _ := migrations.Legacy()
	conn, err := pgx.Connect(ctx, pg.Database(t, "", schema))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(ctx) })
	settings := expr.Settings{Encoding: "UTF8", Collation: "C.UTF-8", CType: "C.UTF-8"}
	if settings.Location, err = time.LoadLocation(zone); err != nil {
		t.Fatal(err)
	}
	compared := 0
	for i, c := range conditions(t) {
		for _, op := range c.on {
			if op == "delete" && c.when == "true" {
				continue // nothing to decide
			}
			yes, no := prove(t, conn, settings, c, op)
			if no == 0 && c.source(op) != "true" || yes == 0 {
				t.Errorf("rule %d, %s on %s: %d rows fire and %d do not: the rows prove nothing", i, c.event, op, yes, no)
			}
			compared += yes + no
		}
	}
	if compared < 10_000 {
		t.Errorf("only %d decisions were compared", compared)
	}
}

// prove compares all decisions of one condition and counts them by the answer.
func prove(t *testing.T, conn *pgx.Conn, settings expr.Settings, c condition, op string) (yes, no int) {
	t.Helper()
	ctx := context.Background()
	table, err := cdc.LoadTable(ctx, conn, "", "public", c.table)
	if err != nil {
		t.Fatal(err)
	}
	scope := &expr.Scope{Relation: table.Relation, Settings: settings, New: true, Old: op == "update", Insert: op == "insert", Update: op == "update"}
	compiled, err := expr.CompileBool(c.source(op), scope)
	if err != nil {
		t.Fatalf("%s: %v", c.event, err)
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(ctx) }() // nothing of it is kept
	var now time.Time
	if err := tx.QueryRow(ctx, "select now()").Scan(&now); err != nil {
		t.Fatal(err)
	}
	fill(t, tx, c.table, table.Relation, compiled.Columns())
	rows := stored(t, tx, table.Relation)
	machine := expr.NewMachine(settings)
	decided := decisions(t, tx, c, op)
	for _, d := range decided {
		change := &cdc.Change{Op: cdc.Insert, Relation: table.Relation, New: rows[d.new], Tx: &cdc.Transaction{Time: now}}
		if op == "update" {
			change.Op, change.Old = cdc.Update, rows[d.old]
		}
		machine.Load(change)
		fires, null, err := machine.Bool(compiled)
		got := "null"
		switch {
		case err != nil:
			got = err.Error()
		case !null:
			got = fmt.Sprint(fires)
		}
		if got != d.answer {
			t.Errorf("%s %s: %s is %s here and %s on the server\nold %s\nnew %s", c.preset, c.event, c.source(op), got, d.answer, text(rows[d.old]), text(rows[d.new]))
			return yes, no
		}
		if got == "true" {
			yes++
		} else {
			no++
		}
	}
	return yes, no
}

// fill makes the table linhas with a row for each combination of the columns'
// values. When there are too many it has those where most columns are null,
// among which are pairs that differ in one column alone, and some where none is.
func fill(t *testing.T, tx pgx.Tx, table string, relation *cdc.Relation, columns []expr.Column) {
	t.Helper()
	var names, from, distance []string
	for _, column := range columns {
		if slices.Contains(names, column.Name) {
			continue
		}
		typ := relation.Columns[column.Index].Type
		values := codes[table+"."+column.Name]
		if values == nil {
			values = typical[typ.Base().Name]
		}
		if column.Name == "dt_acesso" {
			values = []string{"now-1", "now", "now+1", "2099-01-01"}
		}
		if values == nil {
			t.Fatalf("no values for column %s.%s of type %s", table, column.Name, typ.Name)
		}
		literals := []string{fmt.Sprintf("(null::%s, 0)", typ.Name)}
		for _, v := range values {
			switch shift, ok := strings.CutPrefix(v, "now"); ok {
			case true: // around a day ago, to the microsecond
				literals = append(literals, fmt.Sprintf("(localtimestamp - interval '1 day' + interval '%s microsecond', 1)", cmp.Or(shift, "0")))
			default:
				literals = append(literals, fmt.Sprintf("('%s'::%s, 1)", v, typ.Name))
			}
		}
		from = append(from, fmt.Sprintf("(values %[1]s) as v%[2]d(%[3]s, d%[2]d)", strings.Join(literals, ", "), len(names), column.Name))
		distance = append(distance, fmt.Sprintf("d%d", len(names)))
		names = append(names, column.Name)
	}
	statements := []string{
		"set local timezone = '" + zone + "'",
		"create temp table linhas on commit drop as select * from " + table + " with no data",
		"alter table linhas add column linha_ serial",
	}
	if len(names) == 0 {
		statements = append(statements, "insert into linhas default values")
	} else {
		list, filled := strings.Join(names, ", "), strings.Join(distance, " + ")
		for _, order := range []string{filled, filled + " desc"} {
			statements = append(statements, fmt.Sprintf("insert into linhas (%[1]s) select %[1]s from %[2]s order by %[3]s, md5(row(%[1]s)::text) limit %[4]d",
				list, strings.Join(from, ", "), order, maxRows/2))
		}
	}
	for _, s := range statements {
		if _, err := tx.Exec(context.Background(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// stored reads the rows as the stream would have them, by their numbers.
func stored(t *testing.T, tx pgx.Tx, relation *cdc.Relation) map[int][]cdc.Datum {
	t.Helper()
	var names []string
	for _, c := range relation.Columns {
		names = append(names, pgx.Identifier{c.Name}.Sanitize())
	}
	// The simple protocol has text forms.
	rows, err := tx.Query(context.Background(), "select "+strings.Join(names, ", ")+" from linhas order by linha_", pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	all := map[int][]cdc.Datum{0: nil}
	for rows.Next() {
		var row []cdc.Datum
		for _, raw := range rows.RawValues() {
			if raw == nil {
				row = append(row, cdc.Datum{State: cdc.Null})
			} else {
				row = append(row, cdc.Datum{State: cdc.Present, Text: slices.Clone(raw)})
			}
		}
		all[len(all)] = row
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// decision is what the server says of one row, or pair of rows.
type decision struct {
	old, new int
	answer   string
}

func decisions(t *testing.T, tx pgx.Tx, c condition, op string) []decision {
	t.Helper()
	// A bare name is found in the innermost query, where only the new row is.
	query := "select 0, new.linha_, coalesce((select (" + c.sql(op) + ") from (select new.*) as isto)::text, 'null') from linhas as new"
	if op == "update" {
		query = "select old.linha_, new.linha_, coalesce((select (" + c.sql(op) + ") from (select new.*) as isto)::text, 'null') from linhas as old, linhas as new"
	}
	rows, err := tx.Query(context.Background(), query)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (d decision, err error) {
		return d, r.Scan(&d.old, &d.new, &d.answer)
	})
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return all
}

func text(row []cdc.Datum) string {
	var b strings.Builder
	for _, d := range row {
		if d.State == cdc.Present {
			fmt.Fprintf(&b, "%q ", d.Text)
		}
	}
	return b.String()
}
