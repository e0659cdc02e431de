package expr_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/mapping/expr"
)

// TestErrors fixes the messages that rule authors read, with their places.
func TestErrors(t *testing.T) {
	t.Parallel()
	cases := []struct{ src, want string }{
		{"situacoa = 'AT'", `0+8 column "situacoa" is not in table clientes; did you mean "situacao"?`},
		{"old.nmoe = new.nome", `0+8 column "nmoe" is not in table clientes; did you mean "nome"?`},
		{"nm_fantasia = 'x'", `0+11 column "nm_fantasia" is not in table clientes; quote it to keep its case: "NM_FANTASIA"`},
		{"nome = id", `5+1 character varying cannot be compared with integer; cast one side`},
		{"situacao = 5", `9+1 character cannot be compared with integer; cast one side`},
		{"valor > true", `6+1 numeric cannot be compared with boolean; cast one side`},
		{"id = 'x'", `5+3 invalid input syntax for type integer; write a value of type integer, or cast the other side`},
		{"sentido = 'SAÍDA'", `10+8 "SAÍDA" is not a label of enum tp_sentido; did you mean "SAIDA"?`},
		{"nascimento > '31/12/2020'", `13+12 the text is not read here as a date: the order of its numbers depends on DateStyle; write YYYY-MM-DD, such as 2026-01-31; write a value of type date, or cast the other side`},
		{"nome < 'b'", `0+10 ordering text with < depends on the database's collation pt_BR.UTF-8, which the rules do not know; compare with =, or compare numbers or dates, or write collate "C" behind a text for the order of its bytes`},
		{"greatest(nome, 'b') = 'b'", `0+19 ordering text with < depends on the database's collation pt_BR.UTF-8, which the rules do not know; compare with =, or compare numbers or dates, or write collate "C" behind a text for the order of its bytes`},
		{"bruto = bruto", `6+1 json values cannot be compared with =; cast both sides to jsonb or text`},
		{"local = local", `0+5 type geometry is not known to the rules; use it as it is, in is [not] null, or in changed()`},
		{"id and ativo", `0+2 the argument of AND must be boolean, not integer; write a comparison`},
		{"not id", `4+2 the argument of NOT must be boolean, not integer; write a comparison`},
		{"case when id then 1 end", `10+2 the condition of WHEN must be boolean, not integer; write a comparison`},
		{"case when ativo then 1 else nome end", `0+36 CASE types character varying and integer do not match; cast them to one type`},
		{"lookup.nome", `0+11 lookup is not a row of this rule; write old.x, new.x or x`},
		{"mask_cpf(id) is null", `9+2 mask_cpf() hides text, not integer; write mask_cpf(lpad(id::text, 11, '0'))`},
		{"mask_cpf() is null", `0+10 mask_cpf() takes one argument; write mask_cpf(column)`},
		{"mask_fone(nome) is null", `0+9 function mask_fone is not supported; did you mean mask_phone?`},
		{"hmac(nome) is null", `0+10 hmac() takes two arguments; write hmac(column, 'name of a secret')`},
		{"hmac(nome, nome) is null", `11+4 the secret of hmac() must be named by a constant; write the name as a 'string'`},
		{"hmac(nome, 'k') is null", "11+3 secret \"k\" is not in privacy.secrets; write privacy: {secrets: {k: \"${GANCHO_HMAC_KEY}\"}} in the configuration"},
		{"lowr(nome)", `0+4 function lowr is not supported; did you mean lower?`},
		{"lower(id)", `0+9 function lower(integer) does not exist; cast the arguments, or check their number`},
		{"power(id, 2)", `0+12 function power of double precision and double precision is not supported; no form of it is supported for these types; cast to others`},
		{"nome ~ nome", `7+4 the pattern of a regular expression must be a constant; use like, or starts_with`},
		{`nome ~ '\bx'`, `7+5 regular expression: \b is not supported; write it with plain characters, [a-z0-9], (), |, ^, $, . and * + ? {n,m}`},
		{`nome ~ '\w'`, `7+4 regular expression: class word depends on the database's locale pt_BR.UTF-8: write the characters, such as [a-z]; write it with plain characters, [a-z0-9], (), |, ^, $, . and * + ? {n,m}`},
		{"nome ~ '(a'", `7+4 regular expression: it is malformed, or too large; write it with plain characters, [a-z0-9], (), |, ^, $, . and * + ? {n,m}`},
		{"1 / 0 = id", `0+5 division by zero; this part is constant, so every row would fail`},
		{"id = any(valor)", `9+5 ANY and ALL need an array, not numeric; use in (...) for a list of values`},
		{"id is null and", `14+1 expression ends too early; a value is missing`},
		{"id = 1 id", `7+2 syntax error at "id"`},
		{"a < b < c", `6+1 syntax error at "<"; use parentheses: comparisons do not chain`},
		{"nome = 'x", `7+2 string does not end; close it with '`},
		{"id between 1 is distinct", `24+1 expression ends too early; write "from" here`},
		{"id between 1 is distinct x and 2", `25+1 syntax error at "x"; write "from" here`},
		{"(id, nome) = (1, 'x', 2)", `0+24 unequal number of entries in row expressions`},
		{"(id, nome) = id", `0+15 a row can be compared only with a row of the same form here; write row(...) on both sides, or compare the columns one by one`},
		{"row(id, nome)::text = 'x'", `0+13 a row can only be compared with a row, or tested with is null; send or compare its fields one by one`},
		{"old <> new", `0+10 column "bruto" of type json cannot be compared here; compare the columns that matter, or write watch: all`},
		{"id in (select 1)", `7+6 subqueries are not supported; use a lookup`},
		{"nome similar to 'x'", `5+7 SIMILAR TO is not supported; use like or ~`},
		{"nome collate \"pt_BR\" < 'x'", `0+20 collation "pt_BR" is not supported; write collate "C", with the quotes`},
		{"id collate \"C\" < 1", `0+14 collations are not supported by type integer; leave it out`},
		{"lower(nome collate \"C\") = 'x'", `0+23 COLLATE is supported in comparisons alone; write it behind an operand of < <= > >=: nome collate "C" < 'b'`},
		{"(nome collate \"C\") || 'x' < 'y'", `0+31 COLLATE is supported in comparisons alone; write it behind an operand of < <= > >=: nome collate "C" < 'b'`},
		{"count(*) > 1", `6+1 aggregates are not supported; a rule sees one row at a time`},
		{"order = 1", `0+5 syntax error at "order"`},
		{"'S'::dm_sn = inadimplente", `5+5 casting to domain dm_sn would need its checks; cast to character`},
		{"id::decmal", `4+6 type "decmal" is not known here; did you mean decimal?`},
		{"nome::varchar(0)", `6+10 invalid modifier of type character varying; see PostgreSQL's manual for its limits`},
		{"clientes.id = 1", `0+11 clientes is not a row of this rule; write new.id`},
		{"coalesce(new) = id", `9+3 new is a whole row: it can only be compared with another, or tested with is null; write new.column`},
		{"changed(id + 1)", `8+6 changed() needs a column; write the column's name alone`},
		{"became(id)", `0+10 became() takes two arguments; write became(column, value)`},
		{"became(sentido, 'X')", `16+3 "X" is not a label of enum tp_sentido; labels: 'ENTRADA', 'SAIDA'`},
		{"to_char(cadastro, nome) = 'x'", `18+4 the format of to_char must be a constant; write it as a 'string'`},
		{"date_trunc('mnth', cadastro) = cadastro", `11+6 unit "mnth" is not recognized: write one such as year, month, day, hour`},
		{"cadastro at time zone 'BRT' = now()", `22+5 time zone 'BRT' is not known here; write it as in America/Sao_Paulo, or UTC`},
		{"situacoa = 1 and nmoe = 2 and id = nome", "0+8 column \"situacoa\" is not in table clientes; did you mean \"situacao\"?\n17+4 column \"nmoe\" is not in table clientes; did you mean \"nome\"?\n33+1 integer cannot be compared with character varying; cast one side"},
		{"id", `0+2 the condition must be boolean, not integer; write a comparison`},
	}
	for _, c := range cases {
		_, err := expr.CompileBool(c.src, legacy())
		var list expr.Errors
		if !errors.As(err, &list) {
			t.Errorf("%s: %v; want Errors", c.src, err)
			continue
		}
		var got string
		for i, e := range list {
			if i > 0 {
				got += "\n"
			}
			got += fmt.Sprintf("%d+%d %s", e.Offset, e.Length, e.Error())
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: want - got +\n%s", c.src, diff)
		}
	}
}

// TestScopes checks which rows a rule's operations have.
func TestScopes(t *testing.T) {
	t.Parallel()
	scope := func(operations string) *expr.Scope {
		s := legacy()
		s.Old, s.New, s.Insert, s.Update, s.Delete = true, true, false, false, false
		for _, op := range operations {
			switch op {
			case 'i':
				s.Insert, s.Old = true, false
			case 'u':
				s.Update = true
			case 'd':
				s.Delete, s.New = true, false
			case 't':
				s.Old, s.New = false, false
			}
		}
		return s
	}
	cases := []struct{ operations, src, want string }{
		{"i", "old.id = 1", "the rule's insert has no OLD row; write a rule for each operation"},
		{"iu", "old.id = 1", "the rule's insert has no OLD row; write a rule for each operation"},
		{"d", "new.id = 1", "the rule's delete has no NEW row; write a rule for each operation"},
		{"d", "id = 1", ""},
		{"ud", "id = 1", "the rule's delete has no NEW row; a bare column is new's: write old.x, or a rule for each operation"},
		{"ud", "old.id = 1", ""},
		{"iu", "id = 1", ""},
		{"id", "id = 1", "the rule's delete has no NEW row; write a rule for each operation"},
		{"t", "id = 1", "the rule's truncate has no NEW row; leave the column out"},
		{"t", "true", ""},
		{"iu", "changed(id)", "changed() compares the old row with the new: the rule's insert has no OLD row; write a rule for update alone; became() works for insert too"},
		{"iu", "became(id, 1)", ""},
		{"i", "old is null", "the rule's insert has no OLD row; write a rule for each operation"},
		{"iu", "row(old.*) is null", "the rule's insert has no OLD row; write a rule for each operation"},
		{"t", "op = 'truncate' and tg_op = 'TRUNCATE'", ""},
		{"d", "became(id, 1)", "became() looks at the new row: the rule's delete has no NEW row; write a rule for insert and update"},
	}
	for _, c := range cases {
		_, err := expr.CompileBool(c.src, scope(c.operations))
		got := ""
		if err != nil {
			got = err.Error()
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s on %s: want - got +\n%s", c.src, c.operations, diff)
		}
	}
}
