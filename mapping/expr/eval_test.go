package expr_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/cdc"
	"gancho/internal/pgtext"
	"gancho/mapping/expr"
)

// client is a change of the legacy table: values in column order, "-" is null,
// "?" missing and "~" unchanged.
func client(op cdc.Op, s *expr.Scope, old, fresh []string) *cdc.Change {
	row := func(values []string) []cdc.Datum {
		if values == nil {
			return nil
		}
		out := make([]cdc.Datum, len(s.Relation.Columns))
		for i := range out {
			out[i].State = cdc.Null
			if i < len(values) {
				switch v := values[i]; v {
				case "-":
				case "?":
					out[i].State = cdc.Missing
				case "~":
					out[i].State = cdc.Unchanged
				default:
					out[i] = cdc.Datum{State: cdc.Present, Text: []byte(v)}
				}
			}
		}
		return out
	}
	return &cdc.Change{Op: op, Relation: s.Relation, Tx: &cdc.Transaction{Time: commitTime}, Old: row(old), New: row(fresh)}
}

func inSaoPaulo(t testing.TB) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

// result is what a machine says: the text, "null", or the error.
func result(t testing.TB, s *expr.Scope, src string, c *cdc.Change) string {
	t.Helper()
	e, err := expr.Compile(src, s)
	if err != nil {
		t.Fatalf("%s: %v", src, err)
	}
	m := expr.NewMachine(s.Settings)
	m.Load(c)
	out, null, err := m.AppendText(nil, e)
	switch {
	case err != nil:
		return err.Error()
	case null:
		return "null"
	}
	return string(out)
}

func TestUnknownValues(t *testing.T) {
	t.Parallel()
	s := legacy()
	c := client(cdc.Update, s, []string{"7", "?", "Ana"}, []string{"7", "AT", "~"})
	const missing = "read old.situacao: the server did not send this column; set REPLICA IDENTITY FULL on the table"
	const unchanged = "read new.nome: the server did not send this unchanged large value; set REPLICA IDENTITY FULL on the table"
	for src, want := range map[string]string{
		"old.situacao = 'AT'":                                missing,
		"old.situacao is null":                               missing,
		"old.situacao = 'AT' and id = 8":                     "f",
		"id = 8 and old.situacao = 'AT'":                     "f",
		"old.situacao = 'AT' or id = 7":                      "t",
		"old.situacao = 'AT' and id = 7":                     missing,
		"not (old.situacao = 'AT' and id = 8)":               "t",
		"old.situacao is distinct from new.situacao":         missing,
		"old.situacao in ('AT', 'VI')":                       missing,
		"coalesce(old.situacao, 'x')":                        missing,
		"coalesce(new.situacao, old.situacao)":               "AT",
		"case when id = 7 then 'a' else old.situacao end":    "a",
		"case when old.situacao = 'AT' then 1 else 2 end":    missing,
		"new.nome || 'x'":                                    unchanged,
		"new.nome":                                           unchanged,
		"changed(nome)":                                      "f",
		"changed(situacao)":                                  missing,
		"changed(nome) or id = 7":                            "t",
		"became(situacao, 'AT')":                             missing,
		"became(situacao, 'VI')":                             "f",
		"null::int = id and old.situacao = 'x'":              missing,
		"valor is null and old.valor is not distinct from 5": "f",
	} {
		if diff := cmp.Diff(want, result(t, s, src, c)); diff != "" {
			t.Errorf("%s: want - got +\n%s", src, diff)
		}
	}
	var unknown *expr.UnknownError
	e, err := expr.CompileBool("old.situacao = 'AT'", s)
	if err != nil {
		t.Fatal(err)
	}
	m := expr.NewMachine(s.Settings)
	m.Load(c)
	if _, _, err := m.Bool(e); !errors.As(err, &unknown) {
		t.Fatalf("Bool: %v, want an UnknownError", err)
	}
	if diff := cmp.Diff(&expr.UnknownError{Column: "situacao", Old: true, State: cdc.Missing}, unknown); diff != "" {
		t.Error(diff)
	}
}

// TestIdentityWithoutOldRow: the server sends no old row when the identity did
// not change, so the old values of its columns are the new ones.
func TestIdentityWithoutOldRow(t *testing.T) {
	t.Parallel()
	s := legacy()
	s.Relation.ReplicaIdentity = 'd'
	s.Relation.Columns[0].Key = true
	c := client(cdc.Update, s, nil, []string{"7", "AT"})
	for src, want := range map[string]string{
		"old.id":                     "7",
		"old.id = new.id":            "t",
		"changed(id)":                "f",
		"old.situacao is not null":   "read old.situacao: the server did not send this column; set REPLICA IDENTITY FULL on the table",
		"old.id = 8 and old.ativo":   "f",
		"old.situacao = 'a' or true": "t",
	} {
		if diff := cmp.Diff(want, result(t, s, src, c)); diff != "" {
			t.Errorf("%s: want - got +\n%s", src, diff)
		}
	}
}

func TestChangedAndBecame(t *testing.T) {
	t.Parallel()
	s := legacy()
	cases := []struct {
		src        string
		old, fresh []string
		want       string
	}{
		{"changed(situacao)", []string{"1", "AT"}, []string{"1", "VI"}, "t"},
		{"changed(situacao)", []string{"1", "AT"}, []string{"1", "AT"}, "f"},
		{"changed(situacao)", []string{"1", "A"}, []string{"1", "A "}, "f"}, // blanks do not count in character
		{"changed(situacao)", []string{"1", "-"}, []string{"1", "-"}, "f"},
		{"changed(situacao)", []string{"1", "-"}, []string{"1", "AT"}, "t"},
		{"changed(new.valor)", []string{"1", "-", "-", "-", "-", "1.50"}, []string{"1", "-", "-", "-", "-", "1.5"}, "f"},
		{"changed(valor)", []string{"1", "-", "-", "-", "-", "1.50"}, []string{"1", "-", "-", "-", "-", "1.51"}, "t"},
		{"changed(extras)", []string{"1", "-", "-", "-", "-", "-", "-", `{"a": 1.0}`}, []string{"1", "-", "-", "-", "-", "-", "-", `{"a": 1}`}, "f"},
		{"changed(bruto)", []string{"1", "-", "-", "-", "-", "-", "-", "-", `{"a":1}`}, []string{"1", "-", "-", "-", "-", "-", "-", "-", `{"a": 1}`}, "t"}, // json has no =: text decides
		{"changed(local)", []string{"1", "-", "-", "-", "-", "-", "-", "-", "-", "-", "-", "-", "01"}, []string{"1", "-", "-", "-", "-", "-", "-", "-", "-", "-", "-", "-", "02"}, "t"},
		{"became(situacao, 'AT')", []string{"1", "VI"}, []string{"1", "AT"}, "t"},
		{"became(situacao, 'AT')", []string{"1", "-"}, []string{"1", "AT"}, "t"},
		{"became(situacao, 'AT')", []string{"1", "AT"}, []string{"1", "AT"}, "f"},
		{"became(situacao, 'AT')", []string{"1", "AT"}, []string{"1", "VI"}, "f"},
		{"became(situacao, 'AT')", []string{"1", "AT"}, []string{"1", "-"}, "f"},
		{"became(valor, id + 1)", []string{"1", "-", "-", "-", "-", "1"}, []string{"1", "-", "-", "-", "-", "2.00"}, "t"},
	}
	for _, c := range cases {
		if got := result(t, s, c.src, client(cdc.Update, s, c.old, c.fresh)); got != c.want {
			t.Errorf("%s, %v to %v: %s, want %s", c.src, c.old, c.fresh, got, c.want)
		}
	}
	s.Insert, s.Old = true, false
	for fresh, want := range map[string]string{"AT": "t", "VI": "f", "-": "null"} {
		if got := result(t, s, "became(situacao, 'AT')", client(cdc.Insert, s, nil, []string{"1", fresh})); got != want {
			t.Errorf("became on insert of %s: %s, want %s", fresh, got, want)
		}
	}
	if got := result(t, s, "became(situacao, 'AT')", client(cdc.Update, s, []string{"1", "VI"}, []string{"1", "AT"})); got != "t" {
		t.Errorf("became on update in a rule for both: %s, want t", got)
	}
}

// TestCommitTime: the clock of a rule is the commit, in the source's zone.
func TestCommitTime(t *testing.T) {
	t.Parallel()
	s := legacy()
	s.Settings.Location = inSaoPaulo(t)
	c := client(cdc.Insert, s, nil, []string{"1", "-", "-", "-", "-", "-", "2000-02-29"})
	for src, want := range map[string]string{
		"now()":                                "2026-11-20 22:30:00.123456-03",
		"current_timestamp = now()":            "t",
		"current_date":                         "2026-11-20",
		"localtimestamp":                       "2026-11-20 22:30:00.123456",
		"current_date - 1 = date '2026-11-19'": "t",
		"date_trunc('day', now())":             "2026-11-20 00:00:00-03",
		"age(nascimento)":                      "26 years 8 mons 20 days",
		"age(nascimento::timestamp)":           "26 years 8 mons 20 days",
		"extract(hour from now())":             "22",
		"now()::date < date 'infinity'":        "t",
	} {
		if diff := cmp.Diff(want, result(t, s, src, c)); diff != "" {
			t.Errorf("%s: want - got +\n%s", src, diff)
		}
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	s := legacy()
	s.Settings.Location = inSaoPaulo(t)
	c := client(cdc.Insert, s, nil, []string{"7", "A ", `d"é`, "-", "SAIDA", "12.50", "2000-01-31", `{"a": 1}`, `[1,  2]`, "2026-11-21 10:00:00", "x", "t", "01", `{a,"b c",NULL}`})
	for src, want := range map[string]string{
		"id":              "7",
		"id + 1":          "8",
		"situacao":        `"A"`,
		"situacao || 'x'": `"Ax"`,
		"nome":            `"d\"é"`,
		"upper(nome)":     `"D\"É"`,
		"inadimplente":    "null",
		"valor":           "12.50",
		"valor * 2":       "25.00",
		"valor / 3":       "4.1666666666666667",
		"nascimento":      `"2000-01-31"`,
		"extras -> 'a'":   "1",
		"extras":          `{"a": 1}`,
		"cadastro":        `"2026-11-21T10:00:00-03:00"`,
		"now()":           `"2026-11-20T22:30:00.123456-03:00"`,
		// Only a column is known to be local in the source's zone.
		"now() at time zone 'UTC'":                                           `"2026-11-21T01:30:00.123456"`,
		"cadastro + interval '1 day'":                                        `"2026-11-22T10:00:00"`,
		"coalesce(cadastro, cadastro)":                                       `"2026-11-21T10:00:00-03:00"`,
		"case when id = 7 then greatest(cadastro, null) end":                 `"2026-11-21T10:00:00-03:00"`,
		"case id when 7 then cadastro else now() at time zone 'UTC' end":     `"2026-11-21T10:00:00"`,
		"coalesce(null, timestamptz '2026-11-21 10:00Z' at time zone 'UTC')": `"2026-11-21T10:00:00"`,
		"nullif(cadastro, localtimestamp)":                                   `"2026-11-21T10:00:00-03:00"`,
		"array[now() at time zone 'UTC']":                                    `["2026-11-21T01:30:00.123456"]`,
		"cadastro at time zone 'UTC'":                                        `"2026-11-21T07:00:00-03:00"`,
		"(now() at time zone 'UTC')::text":                                   `"2026-11-21 01:30:00.123456"`,
		"current_date":                                                       `"2026-11-20"`,
		"date_trunc('day', cadastro)":                                        `"2026-11-21T00:00:00"`,
		"localtimestamp":                                                     `"2026-11-20T22:30:00.123456"`,
		"ativo":                                                              "true",
		"not ativo":                                                          "false",
		"tags":                                                               `["a","b c",null]`,
		"array[id, 2]":                                                       "[7,2]",
		"'x'":                                                                `"x"`,
		"null":                                                               "null",
		"valor > 5 or ativo":                                                 "true",
	} {
		e, err := expr.Compile(src, s)
		if err != nil {
			t.Fatal(err)
		}
		m := expr.NewMachine(s.Settings)
		m.Load(c)
		got, err := m.AppendJSON(nil, e, &pgtext.JSONOptions{Location: s.Settings.Location})
		if err != nil {
			t.Fatalf("%s: %v", src, err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("%s: want - got +\n%s", src, diff)
		}
	}
}

func TestExprDescribesItself(t *testing.T) {
	t.Parallel()
	s := legacy()
	e, err := expr.Compile("old.situacao <> new.situacao and ID > 0 or changed(valor) and false and old.nome = 'x'", s)
	if err != nil {
		t.Fatal(err)
	}
	want := []expr.Column{{Index: 0, Name: "id"}, {Index: 1, Name: "situacao"}, {Index: 5, Name: "valor"},
		{Old: true, Index: 1, Name: "situacao"}, {Old: true, Index: 2, Name: "nome"}, {Old: true, Index: 5, Name: "valor"}}
	if diff := cmp.Diff(want, e.Columns()); diff != "" {
		t.Errorf("Columns: want - got +\n%s", diff)
	}
	if !e.NeedsOld() || e.Type().Name != "bool" {
		t.Errorf("NeedsOld %v, Type %s; want true, bool", e.NeedsOld(), e.Type().Name)
	}
	for src, want := range map[string]string{"'x'": "text", "null": "text", "valor": "numeric", "inadimplente": "dm_sn", "id + 1.5": "numeric", "tags": "_text", "current_date": "date"} {
		e, err := expr.Compile(src, s)
		if err != nil {
			t.Fatal(err)
		}
		if e.Type().Name != want || e.NeedsOld() {
			t.Errorf("%s: type %s, needs old %v; want %s, false", src, e.Type().Name, e.NeedsOld(), want)
		}
	}
}

// TestRunTimeErrors have PostgreSQL's SQLSTATE and a place, and no data.
func TestRunTimeErrors(t *testing.T) {
	t.Parallel()
	s := legacy()
	c := client(cdc.Insert, s, nil, []string{"0", "AT", "secret", "-", "-", "12.50", "-", `"secret"`})
	for src, want := range map[string]expr.EvalError{
		"1 + valor / id":                    {Code: "22012", Message: "division by zero", Offset: 4},
		"nome::int":                         {Code: "22P02", Message: "invalid input syntax for type integer", Offset: 0},
		"id + 2147483647 + 1 = 0":           {Code: "22003", Message: "integer out of range", Offset: 0},
		"(extras)::int":                     {Code: "22023", Message: "cannot cast jsonb string to type integer", Offset: 0},
		"coalesce(nome::date, now()::date)": {Code: "22007", Message: "invalid date: write YYYY-MM-DD, such as 2026-01-31", Offset: 9},
	} {
		e, err := expr.Compile(src, s)
		if err != nil {
			t.Fatal(err)
		}
		m := expr.NewMachine(s.Settings)
		m.Load(c)
		_, _, err = m.AppendText(nil, e)
		var got *expr.EvalError
		if !errors.As(err, &got) {
			t.Errorf("%s: %v, want an EvalError", src, err)
			continue
		}
		if diff := cmp.Diff(want, *got); diff != "" {
			t.Errorf("%s: want - got +\n%s", src, diff)
		}
	}
}

// TestNewerThanTheRules: labels and intervals that came after.
func TestNewerThanTheRules(t *testing.T) {
	t.Parallel()
	s := legacy()
	s.Relation.Columns = append(s.Relation.Columns, cdc.Column{Name: "prazo", Type: baseType(1186, "interval"), TypeMod: -1})
	c := client(cdc.Insert, s, nil, []string{"1", "-", "-", "-", "NOVO", "-", "-", "-", "-", "-", "-", "-", "-", "-", "infinity"})
	const noLabel = "the catalogue did not have the enum's label (added or renamed since); if it has it now, load the rules again (SIGHUP or a restart) (SQLSTATE 22P02)"
	for src, want := range map[string]string{
		"sentido = 'ENTRADA'":             noLabel,
		"sentido <> 'SAIDA'":              noLabel,
		"sentido in ('ENTRADA', 'SAIDA')": noLabel,
		"sentido::text":                   "NOVO",
		"sentido > 'ENTRADA'":             noLabel,
		"prazo":                           "infinity",
		"prazo > '1 day'":                 "t",
		"prazo::time":                     "infinite intervals are not supported here (SQLSTATE 22008)",
		"time '10:00' + prazo":            "infinite intervals are not supported here (SQLSTATE 22008)",
		"timestamp 'infinity' - prazo":    "timestamp out of range (SQLSTATE 22008)",
		"timestamp '2026-01-01' - prazo":  "-infinity",
	} {
		if diff := cmp.Diff(want, result(t, s, src, c)); diff != "" {
			t.Errorf("%s: want - got +\n%s", src, diff)
		}
	}
}

// TestSettings: what the database's properties allow and forbid.
func TestSettings(t *testing.T) {
	t.Parallel()
	settings := map[string]expr.Settings{
		"C":      {Collation: "C", CType: "C", Encoding: "UTF8"},
		"C.UTF8": {Collation: "C.utf8", CType: "C.utf8", Encoding: "UTF8"},
		"pt_BR":  {Collation: "pt_BR.UTF-8", CType: "pt_BR.UTF-8", Encoding: "UTF8"},
		"latin1": {Collation: "pt_BR.ISO-8859-1", CType: "pt_BR.ISO-8859-1", Encoding: "LATIN1"},
		"tr_TR":  {Collation: "tr_TR.UTF-8", CType: "tr_TR.UTF-8", Encoding: "UTF8"},
		"icu":    {Provider: "i", Collation: "C", CType: "C", Encoding: "UTF8"},
	}
	for src, want := range map[string]string{
		"nome = 'x'":         "C C.UTF8 icu latin1 pt_BR tr_TR",
		"nome < 'x'":         "C C.UTF8",
		"upper(nome)":        "C C.UTF8 latin1 pt_BR",
		"nome ilike 'x'":     "C C.UTF8 latin1 pt_BR",
		"nome like 'x'":      "C C.UTF8 icu latin1 pt_BR tr_TR",
		"nome ~ '[a-z]'":     "C C.UTF8 icu latin1 pt_BR tr_TR",
		"nome ~ '\\w'":       "C",
		"nome ~* 'x'":        "C C.UTF8 latin1 pt_BR",
		"octet_length(nome)": "C C.UTF8 icu pt_BR tr_TR",
		"md5(nome)":          "C C.UTF8 icu pt_BR tr_TR",
		"length(nome)":       "C C.UTF8 icu latin1 pt_BR tr_TR",
		"least(id, 2)":       "C C.UTF8 icu latin1 pt_BR tr_TR",
		"VALOR > 1":          "C C.UTF8 icu latin1 pt_BR tr_TR",
	} {
		got := ""
		for _, name := range []string{"C", "C.UTF8", "icu", "latin1", "pt_BR", "tr_TR"} {
			s := legacy()
			s.Settings = settings[name]
			if _, err := expr.Compile(src, s); err == nil {
				got += " " + name
			}
		}
		if diff := cmp.Diff(" "+want, got); diff != "" {
			t.Errorf("%s: want - got +\n%s", src, diff)
		}
	}
	s := legacy()
	s.Settings = settings["C"]
	s.Collation = func(column int) (string, bool) {
		return map[int]string{2: "pt_BR", 10: "ignora_caixa"}[column], column != 10
	}
	for src, want := range map[string]string{
		"nome = 'x'":                "",
		"nome < 'x'":                "the result depends on collation pt_BR of column nome, which the rules do not know; compare with =",
		"upper(nome || 'x') = 'X'":  "the result depends on collation pt_BR of column nome, which the rules do not know; compare with =",
		"greatest(nome, 'x') = 'x'": "the result depends on collation pt_BR of column nome, which the rules do not know; compare with =",
		`"NM_FANTASIA" = 'x'`:       "column NM_FANTASIA has the nondeterministic collation ignora_caixa, which the rules do not know; use the column as it is",
		"situacao < 'x'":            "",
	} {
		got := ""
		if _, err := expr.Compile(src, s); err != nil {
			got = err.Error()
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: want - got +\n%s", src, diff)
		}
	}
}

// TestOperation: op is as in the envelope, tg_op as in a trigger.
func TestOperation(t *testing.T) {
	t.Parallel()
	for _, of := range []string{"i", "u", "d", "iu", "t"} {
		s := legacy()
		s.Insert, s.Update, s.Delete = strings.Contains(of, "i"), strings.Contains(of, "u"), of == "d"
		s.New, s.Old = s.Insert || s.Update, of == "u" || of == "d"
		for _, op := range []cdc.Op{cdc.Insert, cdc.Update, cdc.Delete, cdc.Truncate} {
			if strings.ContainsRune(of, rune(op.String()[0])) {
				want := op.String() + " " + strings.ToUpper(op.String()) + " t"
				if got := result(t, s, "op || ' ' || TG_OP || ' ' || (tg_op in ('"+strings.ToUpper(op.String())+"', 'X'))::char", client(op, s, nil, []string{"7"})); got != want {
					t.Errorf("on %s: %s, want %s", of, got, want)
				}
			}
		}
	}
	// A column of that name comes first.
	s := legacy()
	s.Relation.Columns[1].Name = "op"
	if got := result(t, s, "op", client(cdc.Update, s, nil, []string{"7", "AT"})); got != "AT" {
		t.Errorf("a column named op: %s", got)
	}
}
