package mapping_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/internal/testservers"
	"gancho/mapping"
)

// varchar2 is a type like orafce's: text under another name.
const varchar2 = `
create type varchar2;
create function varchar2in(cstring) returns varchar2 language internal immutable strict as 'textin';
create function varchar2out(varchar2) returns cstring language internal immutable strict as 'textout';
create type varchar2 (input = varchar2in, output = varchar2out, internallength = variable, like = text, category = 'S', collatable = true);
create cast (varchar2 as text) without function as implicit;
create cast (text as varchar2) without function as implicit;`

// otherwise is a type that compares by a rule of its own.
const otherwise = `
create type inteiro;
create function inteiroin(cstring) returns inteiro language internal immutable strict as 'textin';
create function inteiroout(inteiro) returns cstring language internal immutable strict as 'textout';
create type inteiro (input = inteiroin, output = inteiroout, internallength = variable, like = text);
create function inteiroeq(inteiro, inteiro) returns boolean language internal immutable strict as 'texteq';
create operator = (leftarg = inteiro, rightarg = inteiro, function = inteiroeq);`

const extensionSchema = `
create extension citext;` + varchar2 + otherwise + `
create table contas_de (id int primary key);
alter table contas_de replica identity full;
create table apelidos (conta int, seq int, nome citext, valor numeric, codigo inteiro, primary key (conta, seq));
alter table apelidos replica identity full;
create table pessoas (login citext primary key, email citext, apelido varchar2, codigo inteiro, emails citext[], ddi text);
alter table pessoas replica identity full;`

// TestCitextEquality: watch, changed, collapse and keys follow PostgreSQL, for which
// values of citext that differ in case are equal.
func TestCitextEquality(t *testing.T) {
	t.Parallel()
	conn := connect(t, extensionSchema)
	rel := relation(t, conn, "", "pessoas")
	m := mapping.NewMapper(bind(t, conn, mapping.Options{}, `
rules:
  - {event: observado, table: pessoas, on: update, watch: [email], columns: [email]}
  - {event: lista, table: pessoas, on: update, watch: [emails], columns: [emails]}
  - {event: mudou, table: pessoas, on: update, when: changed(email), columns: [email]}
  - {event: virou, table: pessoas, on: [insert, update], when: "became(email, 'ANA@B.com')", key: email, columns: [email]}
  - {event: reunido, table: pessoas, on: [insert, update], collapse: email, key: email, columns: [login, email]}
  - {event: linha, table: pessoas, on: [insert, update, delete], collapse: login, columns: [login]}
  - {event: familia, table: contas_de, on: update, columns: [id], children: [{table: apelidos, parent: conta, watch: [nome, valor]}]}
`), nil)
	apelidos := relation(t, conn, "", "apelidos")
	pessoa := func(login, email, emails string) values {
		return values{"login": login, "email": email, "emails": emails}
	}
	ana := pessoa("Ana", "Ana@B.com", "{Ana@B.com}")
	for name, c := range map[string]struct {
		changes []*cdc.Change
		want    []string
	}{
		"insert": {
			[]*cdc.Change{change(rel, cdc.Insert, nil, ana)},
			[]string{`virou ana@b.com {"email":"Ana@B.com"}`, `reunido ana@b.com {"login":"Ana","email":"Ana@B.com"}`, `linha ana {"login":"Ana"}`},
		},
		"other case": {
			[]*cdc.Change{change(rel, cdc.Update, ana, pessoa("Ana", "ana@b.COM", "{ana@b.COM}"))},
			[]string{`reunido ana@b.com {"login":"Ana","email":"ana@b.COM"}`, `linha ana {"login":"Ana"}`},
		},
		"other value": {
			[]*cdc.Change{change(rel, cdc.Update, ana, pessoa("Ana", "eva@b.COM", "{ana@b.COM}"))},
			[]string{`observado ana {"email":"eva@b.COM"}`, `mudou ana {"email":"eva@b.COM"}`, `reunido eva@b.com {"login":"Ana","email":"eva@b.COM"}`, `linha ana {"login":"Ana"}`},
		},
		"other array": {
			[]*cdc.Change{change(rel, cdc.Update, ana, pessoa("Ana", "Ana@B.com", "{ana@b.COM,x}"))},
			[]string{`lista ana {"emails":["ana@b.COM","x"]}`, `reunido ana@b.com {"login":"Ana","email":"Ana@B.com"}`, `linha ana {"login":"Ana"}`},
		},
		"primary key in other case": {
			[]*cdc.Change{change(rel, cdc.Update, ana, pessoa("ANA", "Ana@B.com", "{Ana@B.com}"))},
			[]string{`reunido ana@b.com {"login":"ANA","email":"Ana@B.com"}`, `linha ana {"login":"ANA"}`},
		},
		"rows of one key": {
			[]*cdc.Change{change(rel, cdc.Insert, nil, pessoa("b", "EVA@b.com", "{}")), change(rel, cdc.Insert, nil, pessoa("c", "Eva@b.com", "{}"))},
			[]string{`linha b {"login":"b"}`, `reunido eva@b.com {"login":"c","email":"Eva@b.com"}`, `linha c {"login":"c"}`},
		},
		"child in other case": {
			[]*cdc.Change{change(apelidos, cdc.Update, values{"conta": "1", "seq": "1", "nome": "Ana", "valor": "1.0"}, values{"conta": "1", "seq": "1", "nome": "ANA", "valor": "1.00"})},
			nil,
		},
		"inserted and deleted": {
			[]*cdc.Change{change(rel, cdc.Insert, nil, pessoa("b", "x", "{}")), change(rel, cdc.Update, pessoa("b", "x", "{}"), pessoa("B", "x", "{}")), change(rel, cdc.Delete, pessoa("B", "x", "{}"), nil)},
			nil,
		},
	} {
		var r recorder
		tx := c.changes[0].Tx
		m.Begin(tx)
		for i, one := range c.changes {
			one.Ordinal = uint64(i)
			if err := m.Map(one, &r); err != nil {
				t.Fatal(err)
			}
		}
		if err := m.Commit(context.Background(), tx, &r); err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, e := range r.all {
			all = append(all, fmt.Sprintf("%s %s %s%s", e.Type, e.Key, e.Data, e.Parked))
		}
		diff(t, name, all, c.want)
	}
}

// TestTextLikeTypes: conditions on types that are text give PostgreSQL's value, and
// types with an equality of their own are refused where it decides.
func TestTextLikeTypes(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	ctx := context.Background()
	conn := connect(t, "revoke create on schema public from public", extensionSchema, "insert into pessoas values ('Ana', 'Ana@B.com', 'Rita', '1', '{Ana@B.com}', 'ANA@b.com'), ('Eva', null, '', '2', null, 'x')")
	bindOne := func(rule string) error {
		_, err := parse(t, mapping.Options{}, "rules:\n  - {event: e, table: pessoas, on: update, columns: [login], "+rule+"}").Bind(ctx, conn)
		return err
	}
	rel := relation(t, conn, "", "pessoas")
	stored := map[string]values{
		"Ana": {"login": "Ana", "email": "Ana@B.com", "apelido": "Rita", "codigo": "1", "emails": "{Ana@B.com}", "ddi": "ANA@b.com"},
		"Eva": {"login": "Eva", "apelido": "", "codigo": "2", "ddi": "x"},
	}
	source := mapping.NewSource(conn.Config().ConnString(), "", zerolog.Nop())
	t.Cleanup(func() { source.Close(ctx) })
	refused := 0
	for _, condition := range []string{
		"email = 'ana@b.com'", "email <> 'ana@b.com'", "email = ddi", "ddi = email", "email = ddi::citext", "email = 'ana@b.com'::text", "email in ('ANA@B.COM', 'x')", "email not in ('y', 'x')", "email like 'ana%'", "email like 'ana%'::text", "email not like 'x%'",
		"email ~ '^ana@'", "email !~ 'A'", "email ilike 'ANA%'", "email || 'x' = 'Ana@B.comx'", "lower(email) = 'ana@b.com'", "length(email) = 9", "email is distinct from 'ANA@b.com'", "email is not null", "coalesce(email, 'X') = 'x'", "nullif(email, 'ANA@B.COM') is null",
		"email < 'b'", "email >= 'ANA@B.COM'", "greatest(email, 'ZZ') = 'zz'", "case email when 'ANA@B.COM' then true else false end", "starts_with(email, 'Ana')", "replace(email, 'ANA', 'x') = 'x@b.com'", "strpos(email, 'ANA') = 1", "split_part(email, 'A@', 2) = 'b.com'",
		"translate(email, 'A', 'x') = 'xnx@b.com'", "position('ana' in email) = 1", "email::text = 'Ana@B.com'", "email::varchar(3) = 'Ana'", "'ANA@b.com'::citext = email", "'{ANA@B.COM}' && emails", "emails @> array['ana@b.com'::citext]", "email = any(emails)", "email between 'a' and 'b'",
		"apelido = 'Rita'", "apelido = 'rita'", "apelido in ('Rita', 'x')", "apelido like 'R%'", "apelido ~ '^R'", "upper(apelido) = 'RITA'", "apelido || 'x' = 'Ritax'", "apelido::text = 'Rita'", "apelido is distinct from ''", "apelido = ddi", "apelido < 'S'", "coalesce(apelido, 'x') = 'Rita'", "length(apelido) = 4",
		"concat(apelido, email) = 'RitaAna@B.com'", "email::char(4) = 'Ana@'", "ddi::char(12)::citext = email", "apelido = email",
	} {
		err := bindOne("when: " + "\"" + condition + "\"")
		for _, login := range []string{"Ana", "Eva"} {
			var want *bool
			if failed := conn.QueryRow(ctx, "select "+condition+" from pessoas where login = $1::citext", login).Scan(&want); failed != nil {
				if err == nil {
					t.Errorf("%s: accepted, but PostgreSQL says %v", condition, failed)
				}
				break
			}
			if err != nil {
				refused++
				break
			}
			rs := bind(t, conn, mapping.Options{}, "rules:\n  - {event: e, table: pessoas, on: update, columns: [login], when: \""+condition+"\"}")
			c := change(rel, cdc.Update, stored[login], stored[login])
			var r recorder
			m := mapping.NewMapper(rs, nil, mapping.WithSource(source))
			if err := errors.Join(m.Map(c, &r), m.Resolve(ctx, &r)); err != nil {
				t.Fatal(err)
			}
			got := r.all
			if fires := want != nil && *want; len(got) != 1 && fires || len(got) != 0 && !fires {
				t.Errorf("%s for %s: %d events, PostgreSQL says %v", condition, login, len(got), fires)
			}
		}
	}
	if refused > 0 {
		t.Errorf("%d conditions were refused", refused)
	}
	const message = "compares values by a rule of its own"
	for _, rule := range []string{"watch: [codigo]", "when: changed(codigo)", "key: codigo", "collapse: codigo"} {
		if err := bindOne(rule); err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("%s: %v, want an error that says %q", rule, err, message)
		}
	}
	const child = "rules:\n  - {event: e, table: contas_de, on: update, columns: [id], children: [{table: apelidos, parent: conta, watch: [codigo]}]}"
	if _, err := parse(t, mapping.Options{}, child).Bind(ctx, conn); err == nil || !strings.Contains(err.Error(), message) {
		t.Errorf("watch of a child: %v, want an error that says %q", err, message)
	}
	if err := bindOne("watch: [apelido], previous: true, when: codigo is not null and changed(apelido), key: apelido"); err != nil {
		t.Error(err)
	}
}
