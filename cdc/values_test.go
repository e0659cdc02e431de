package cdc_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/cdc"
)

// TestSessionSettings: nothing that is set for the database reaches the values.
func TestSessionSettings(t *testing.T) {
	t.Parallel()
	columns := []string{"date", "timestamp", "timestamptz", "interval", "float8", "float4", "bytea", "regclass", "money", "numeric", "xml", "text", "jsonb"}
	var definitions []string
	for i, c := range columns {
		definitions = append(definitions, fmt.Sprintf("c%d %s", i, c))
	}
	dsn := pg.Database(t, "", "create table t (id int primary key, "+strings.Join(definitions, ", ")+")")
	conn := dial(t, dsn)
	database := value[string](t, conn, "select current_database()")
	for _, setting := range []string{"datestyle = 'SQL, DMY'", "intervalstyle = 'iso_8601'", "timezone = 'America/Sao_Paulo'", "extra_float_digits = 0",
		"bytea_output = 'escape'", "search_path = 'pg_catalog'", "quote_all_identifiers = on", "xmloption = 'document'", "lc_monetary = 'C.UTF-8'",
		"statement_timeout = '1ms'", "idle_in_transaction_session_timeout = '1ms'", "client_encoding = 'LATIN1'"} {
		do(t, conn, "alter database "+database+" set "+setting)
	}
	o := optionsFor(dsn)
	o.DSN += "&statement_timeout=0&search_path=public" // for Prepare's own connection
	s := start(t, o, allOps("public.t"))
	do(t, conn, `insert into t values (1, '2026-02-11', '2026-02-11 23:59:59.123456', '2026-02-11 23:00:00-03', '1 year 2 days 03:04:05', 0.1::float8 + 0.2::float8,
		0.1, '\xdeadbeef', 'public.t', '-1234.56', 'NaN', '<?xml version="1.0" encoding="UTF-8"?><a>é</a>', 'é' || chr(8364), '{"b": 1.10, "a": null}')`)
	want := []string{"insert public.t new(id=1 c0=2026-02-11 c1=2026-02-11 23:59:59.123456 c2=2026-02-12 02:00:00+00 c3=1 year 2 days 03:04:05" +
		" c4=0.30000000000000004 c5=0.1 c6=\\xdeadbeef c7=public.t c8=-$1,234.56 c9=NaN c10=<a>é</a> c11=é€ c12={\"a\": null, \"b\": 1.10})"}
	if diff := cmp.Diff(want, s.changes(1)); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
}

// TestLatin1: a database in another encoding arrives as UTF-8, names included.
func TestLatin1(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "template template0 encoding 'LATIN1' locale 'C'")
	conn := dial(t, dsn+"&client_encoding=UTF8") // a client that says nothing gets the database's encoding
	do(t, conn, `create table "AÇÕES" ("Nº" int primary key, descrição varchar(20), tipo char(6))`)
	s := start(t, optionsFor(dsn), allOps(`"AÇÕES"`))
	if s.source.Settings.Encoding != "LATIN1" || s.source.Settings.Collation != "C" || s.source.Settings.MoneyDigits != 2 {
		t.Errorf("settings %+v", s.source.Settings)
	}
	do(t, conn, `insert into "AÇÕES" values (1, 'João Conceição', 'à')`)
	if diff := cmp.Diff([]string{`insert public."AÇÕES" new(Nº=1 descrição=João Conceição tipo=à     )`}, s.changes(1)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

// TestTypes: every sort of type is resolved to its parts.
func TestTypes(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", "create domain dm_sn as char(1) check (value in ('S','N'))", "create domain dm_sim as dm_sn",
		"create type sentido as enum ('ENTRADA', 'SAIDA')", "alter type sentido add value 'MEIO' before 'SAIDA'", "create type nota as (n numeric(10,2), s sentido)",
		"create type faixa as range (subtype = sentido)",
		`create table t (id int primary key, d dm_sim, e sentido, a int[], ad dm_sn[], c nota, ac nota[], r int4range, f faixa, fm faixa_multirange, mr nummultirange, b box[], v int2vector, n name, row_ pg_catalog.pg_am)`)
	s := start(t, optionsFor(dsn), allOps("t"))
	do(t, dial(t, dsn), "insert into t (id) values (1)")
	streamed := s.next().Relations[0]
	loaded, err := cdc.LoadTable(t.Context(), dial(t, dsn), "", "", "t")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(loaded.Relation, streamed); diff != "" {
		t.Errorf("the catalogue and the stream differ (-catalogue +stream):\n%s", diff)
	}
	var got []string
	for _, c := range streamed.Columns {
		got = append(got, c.Name+" "+describe(c.Type))
	}
	want := []string{"id int4", "d domain dm_sim of domain dm_sn of bpchar", "e enum sentido(ENTRADA,MEIO,SAIDA)", "a array , of int4",
		"ad array , of domain dm_sn of bpchar", "c composite nota(n numeric, s enum sentido(ENTRADA,MEIO,SAIDA))",
		"ac array , of composite nota(n numeric, s enum sentido(ENTRADA,MEIO,SAIDA))", "r range int4range of int4",
		"f range faixa of enum sentido(ENTRADA,MEIO,SAIDA)", "fm multirange faixa_multirange of enum sentido(ENTRADA,MEIO,SAIDA)",
		"mr multirange nummultirange of numeric", "b array ; of box", "v int2vector", "n name", "row_ composite pg_am(oid oid, amname name, amhandler regproc, amtype char)"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("types (-want +got):\n%s", diff)
	}
}

func describe(t *cdc.Type) string {
	switch t.Kind {
	case cdc.KindUnknown:
		return "unknown"
	case cdc.KindBase:
		return t.Name
	case cdc.KindDomain:
		return "domain " + t.Name + " of " + describe(t.Elem)
	case cdc.KindEnum:
		return "enum " + t.Name + "(" + strings.Join(t.Labels, ",") + ")"
	case cdc.KindArray:
		return "array " + string(t.Delim) + " of " + describe(t.Elem)
	case cdc.KindRange:
		return "range " + t.Name + " of " + describe(t.Elem)
	case cdc.KindMultirange:
		return "multirange " + t.Name + " of " + describe(t.Elem)
	case cdc.KindComposite:
		var fields []string
		for _, f := range t.Fields {
			fields = append(fields, f.Name+" "+describe(f.Type))
		}
		return "composite " + t.Name + "(" + strings.Join(fields, ", ") + ")"
	}
	return "?"
}
