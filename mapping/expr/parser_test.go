package expr_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/cdc"
	"gancho/mapping/expr"
)

func TestParse(t *testing.T) {
	t.Parallel()
	cases := []struct{ src, want string }{
		{"a", "a"},
		{"OLD.Status <> 'L' AND new.status = 'L'", "(old.status <> 'L') and (new.status = 'L')"},
		{`"Nome Útil"`, `"Nome Útil"`},
		{`new."VL_ÚLTIMA"`, `new."VL_ÚLTIMA"`},
		{"a or b and not c", "a or (b and (not c))"},
		{"not a = b", "not (a = b)"},
		{"a = not b", "a = (not b)"},
		{"a = b is null", "(a = b) is null"},
		{"not a is null", "not (a is null)"},
		{"a is not distinct from b = c", "a is not distinct from (b = c)"},
		{"a is null is true", "(a is null) is true"},
		{"a is null::text", `cast(a is null as "text")`},
		{"a isnull", "a is null"},
		{"a notnull", "a is not null"},
		{"1 + 2 * 3 - 4", "(1 + (2 * 3)) - 4"},
		{"-2 ^ 2", "(-2) ^ 2"},
		{"- a ^ 2", "(- a) ^ 2"},
		{"-a::int", `- (cast(a as "int4"))`},
		{"-2147483648", "-2147483648"},
		{"- -1", "1"},
		{"a=-1", "a = (-1)"},
		{"a*-b", "a * (- b)"},
		{"a || b = c || d", "(a || b) = (c || d)"},
		{"a -> 'b' ->> 'c' = 'd'", "((a -> 'b') ->> 'c') = 'd'"},
		{"a + b -> c", "(a + b) -> c"},
		{"a between 1 and 2 and b", "(a between 1 and 2) and b"},
		{"a not between symmetric b + 1 and c or d", "(a not between symmetric (b + 1) and c) or d"},
		{"a between b = c and d", "a between (b = c) and d"},
		{"a in (1, 2) = b", "(a in (1, 2)) = b"},
		{"a not in ('x')", "a not in ('x')"},
		{"a like b || '%' escape '!'", "a like (b || '%') escape '!'"},
		{"a not ilike 'x' = b", "(a not ilike 'x') = b"},
		{"a = any('{1,2}'::int[])", `a = any(cast('{1,2}' as "int4"[]))`},
		{"a <> all (array[1, 2]) = b", "(a <> all(array[1, 2])) = b"},
		{"a = some(b)", "a = any(b)"},
		{"case when a then 1 else 2 end", "case when a then 1 else 2 end"},
		{"case a when 1 then 'x' when 2 then 'y' end || 'z'", "case a when 1 then 'x' when 2 then 'y' end || 'z'"},
		{"date '2026-01-01' + interval '1 day'", `(cast('2026-01-01' as "date")) + (cast('1 day' as "interval"))`},
		{"timestamp(3) with time zone '2026-01-01'", `cast('2026-01-01' as "timestamptz"(3))`},
		{"double precision '1.5'", `cast('1.5' as "float8")`},
		{"cast(a as numeric(12, 2))", `cast(a as "numeric"(12, 2))`},
		{"a::character varying(5)", `cast(a as "varchar"(5))`},
		{"a::char", `cast(a as "bpchar"(1))`},
		{"a::float(24)", `cast(a as "float4")`},
		{"a::integer array", `cast(a as "int4"[])`},
		{"a::text::int", `cast(cast(a as "text") as "int4")`},
		{"a::public.tp_sentido", `cast(a as "public"."tp_sentido")`},
		{"extract(year from a)", "extract('year' from a)"},
		{"position('x' in a)", "position('x' in a)"},
		{"substring(a from 2 for 3)", "substring(a, 2, 3)"},
		{"substring(a for 3)", "substring(a, 1, 3)"},
		{"trim(a)", "btrim(a)"},
		{"trim(both 'x' from a)", "btrim(a, 'x')"},
		{"trim(leading from a)", "ltrim(a)"},
		{"overlay(a placing 'x' from 2)", "overlay(a, 'x', 2)"},
		{"a at time zone 'UTC' + b", "(a at time zone 'UTC') + b"},
		{"coalesce(a, nullif(b, ''), current_date)", "coalesce(a, nullif(b, ''), current_date)"},
		{"pg_catalog.lower(a)", "lower(a)"},
		{"a[1]", "a[1]"},
		{"(a || b)[1]", "(a || b)[1]"},
		{"'it''s'", "'it''s'"},
		{`E'a\tb\'\x41\101\u00e9\\'`, "'a\tb''AAé\\'"},
		{"'a'\n  'b'", "'ab'"},
		{"1 -- one\n + /* two /* nested */ */ 2", "1 + 2"},
		{"a <>--\nb", "a <> b"},
		{"a != b", "a <> b"},
		{".5 + 5. + 1e3", "(.5 + 5.) + 1e3"},
		{"date", "date"},
		{"time = 1", "time = 1"},
		{"interval", "interval"},
		{"left(a, 2)", "left(a, 2)"},
	}
	for _, c := range cases {
		got, err := expr.Reformat(c.src)
		if err != nil {
			t.Errorf("%s: %v", c.src, err)
			continue
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: want - got +\n%s", c.src, diff)
		}
		again, err := expr.Reformat(got)
		if err != nil || again != got {
			t.Errorf("%s: %s reads back as %s, %v", c.src, got, again, err)
		}
	}
}

// legacy is a table with the habits of legacy databases.
func legacy() *expr.Scope {
	domain := &cdc.Type{OID: 70001, Schema: "public", Name: "dm_sn", Kind: cdc.KindDomain, Elem: baseType(1042, "bpchar"), TypeMod: 5}
	enum := &cdc.Type{OID: 70002, Schema: "public", Name: "tp_sentido", Kind: cdc.KindEnum, Labels: []string{"ENTRADA", "SAIDA"}, TypeMod: -1}
	column := func(name string, typ *cdc.Type, mod int32) cdc.Column {
		return cdc.Column{Name: name, Type: typ, TypeMod: mod}
	}
	return &expr.Scope{
		Relation: &cdc.Relation{Schema: "public", Name: "clientes", ReplicaIdentity: 'f', Columns: []cdc.Column{
			column("id", baseType(23, "int4"), -1), column("situacao", baseType(1042, "bpchar"), 6), column("nome", baseType(1043, "varchar"), 124),
			column("inadimplente", domain, -1), column("sentido", enum, -1), column("valor", baseType(1700, "numeric"), 786438),
			column("nascimento", baseType(1082, "date"), -1), column("extras", baseType(3802, "jsonb"), -1), column("bruto", baseType(114, "json"), -1),
			column("cadastro", baseType(1114, "timestamp"), -1), column("NM_FANTASIA", baseType(25, "text"), -1), column("ativo", baseType(16, "bool"), -1),
			column("local", &cdc.Type{OID: 90000, Schema: "public", Name: "geometry", Kind: cdc.KindBase, TypeMod: -1}, -1),
			column("tags", &cdc.Type{OID: 1009, Schema: "pg_catalog", Name: "_text", Kind: cdc.KindArray, Elem: baseType(25, "text"), TypeMod: -1, Delim: ','}, -1),
		}},
		Old: true, New: true, Update: true,
		Settings: expr.Settings{Collation: "pt_BR.UTF-8", CType: "pt_BR.UTF-8", Encoding: "UTF8"},
	}
}
