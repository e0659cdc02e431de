package draft_test

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"gancho/internal/draft"
	"gancho/mapping"
)

func drafterOf(t *testing.T, statements ...string) (*draft.Drafter, *pgx.Conn) {
	t.Helper()
	conn := connect(t, statements...)
	d, err := draft.New(context.Background(), conn, mapping.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return d, conn
}

// bind binds rule files as gancho check does.
func bind(t *testing.T, conn *pgx.Conn, texts map[string]string) error {
	t.Helper()
	dir := t.TempDir()
	var o mapping.Options
	for name, text := range texts {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		o.Files = append(o.Files, file)
	}
	slices.Sort(o.Files)
	rules, err := mapping.Parse(o)
	if err == nil {
		_, err = rules.Bind(context.Background(), conn)
	}
	return err
}

// strange is a database in which every name and kind of table that is hard to write stands.
const strange = `
	create table "Vendas 2.0" ("Id" int primary key, "Preço" numeric, "a.b" text, "x: y #z" text, "it's" text, "say ""hi""" text, "- dash" int, "[x]" int, "{x}" int, "a,b" int);
	create table "select" ("order" int, "group" text, "null" text, "true" bool, "yes" text, "y" int, "123" int, "new" int, "old" int, "user" text, "current_date" date, "interval" interval, primary key ("order", "null"));
	create table palavras (op int primary key, tg_op int, changed int, became int, now int, date int, time int, text text, "case" int, lower int, "row" int, "array" int, "all" int, watch int, key int,
		mask_cpf text, hmac int, "current_user" text, "timestamp" int, count int, "select" int, "from" int, "true" int, "values" int);
	create table "Vendas" (id int primary key); create table vendas (id int primary key); create table "VENDAS" (id int primary key);
	create table "` + "quebra\nlinha\ttab" + `" (id int primary key, "` + "c\n1" + `" text);
	create table "ação" ("código" int primary key, "situação" char(1) check ("situação" in ('A', 'I')));
	create table gancho (id int primary key);
	create table caixas (loja_id int not null, n int, primary key (loja_id, n));
	create table sangrias (lj int, caixa int, n int, volta int, primary key (lj, caixa, n), foreign key (lj, caixa) references caixas, foreign key (lj, caixa, volta) references sangrias);
	create schema outra; create table outra.vendas (id int primary key, valor numeric); create schema "Outra Ç"; create table "Outra Ç"."T" (id int primary key);
	create domain cpf as varchar(11); create domain meu_cpf as cpf; create type ponto as (x int, y int); create type fase as enum ('novo', 'it''s', 'fim');
	create table tipos (id bigint primary key, c meu_cpf, cpf cpf, nr_cpf numeric(11), d int[], e text[], p ponto, ps ponto[], j json, jb jsonb, x xml, b bytea, m money, i inet, r int4range,
		u uuid, t time, tz timetz, iv interval, bi bit(3), g point, ts tsvector, f fase, fs fase[], o oid, n "char", nm name, dbl double precision, dupla int generated always as (id * 2) stored);
	create table partes (id int, dia date, valor numeric, primary key (id, dia)) partition by range (dia);
	create table partes_2026 partition of partes for values from ('2026-01-01') to ('2027-01-01');
	create table soltas (id int, dia date) partition by range (dia);
	create table mae (id int primary key, nome text); create table filha (extra int, primary key (id)) inherits (mae); create table filha_sem () inherits (mae);
	create table sem_chave (a int, b text); create table vazia ();
	create table unica (a int not null, b char(3) not null, c text, unique (b, a)); create table unica_id (a int not null unique, b text); alter table unica_id replica identity using index unica_id_a_key;
	create table inteira (a int, senha text); alter table inteira replica identity full; create table nada (id int primary key); alter table nada replica identity nothing;
	create table adiada (id int primary key deferrable initially deferred, v text);
	create table segredos (senha text primary key, token text, foto bytea);
	create unlogged table solta (id int primary key); create view visao as select * from vendas; create materialized view visao_m as select 1 as x;
	create table lojas (id int primary key, nome text, telefone text);
	create table clientes (id int primary key, loja_id int not null references lojas, nome text, email text, "user" int references "Vendas");
	create table pedidos (id int primary key, cliente_id int references clientes, status char(1) not null, loja_id int references lojas, pedido_pai int references pedidos, produto_a int, produto_b text,
		foreign key (produto_a, produto_b) references "select" ("order", "null"));
	insert into pedidos (id, status) select i, case when i % 10 = 0 then 'P' when i % 3 = 0 then 'C' else 'L' end from generate_series(1, 300) i; analyze pedidos;`

// Whatever the tables are, what is written binds; what is commented out does so once
// the statements that it names are run.
func TestTablesBind(t *testing.T) {
	t.Parallel()
	d, conn := drafterOf(t, strange)
	chosen, err := d.Select([]string{"*"})
	if err != nil {
		t.Fatal(err)
	}
	drafts, err := d.Tables(context.Background(), chosen)
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, draft := range drafts {
		if texts[draft.File] != "" {
			t.Errorf("two tables have the file %s", draft.File)
		}
		if !regexp.MustCompile(`^[a-z0-9_.]+\.yaml$`).MatchString(draft.File) {
			t.Errorf("file %q", draft.File)
		}
		texts[draft.File] = draft.Text
		for _, out := range append(draft.Out, draft.LeftOut...) {
			if !strings.HasPrefix(out.Event, "mae.") { // a child of it has no replica identity
				t.Errorf("%s: %v", draft.File, out)
			}
		}
		if len(draft.Statements) > 0 {
			t.Errorf("%s waits for %v", draft.File, draft.Statements)
		}
	}
	if len(texts) != 30 {
		t.Errorf("%d files", len(texts))
	}
	if err := bind(t, conn, texts); err != nil {
		t.Errorf("as it was written: %v", err)
	}
	if os.Getenv("SHOW") != "" {
		for _, text := range texts {
			t.Log("\n" + text)
		}
	}

	// The comments, too: each is in order after its statement, or with what it says.
	full := regexp.MustCompile(`ALTER TABLE .*? REPLICA IDENTITY (FULL|DEFAULT|USING INDEX \S+);`)
	statements := map[string]bool{}
	for name, text := range texts {
		for _, statement := range full.FindAllString(text, -1) {
			statements[statement] = true
		}
		texts[name] = uncommented(text)
	}
	for _, name := range []string{"partes.yaml", "soltas.yaml", "quebra_linha_tab.yaml"} { // they cannot have the statement in a line
		delete(texts, name)
	}
	isFull := func(statement string) int { return strings.Count(statement, "IDENTITY FULL;") } // the last one counts
	for _, statement := range slices.SortedFunc(maps.Keys(statements), func(a, b string) int { return isFull(a) - isFull(b) }) {
		if !strings.Contains(statement, "\ufffd") && !strings.Contains(statement, " nada REPLICA IDENTITY DEFAULT") {
			if _, err := conn.Exec(context.Background(), statement); err != nil {
				t.Errorf("%s: %v", statement, err)
			}
		}
	}
	if err := bind(t, conn, texts); err != nil {
		t.Errorf("without comments: %v\n%s", err, texts["pedidos.yaml"])
	}
}

// uncommented takes the # away where a person may, one condition for each rule.
func uncommented(text string) string {
	text = regexp.MustCompile(`(?m)^  # (- event:|  )`).ReplaceAllString(text, "  $1")
	line := regexp.MustCompile(`^(    )# ((when|watch|tenant|lookup|  [a-z0-9_]+): .*)$|^(      )# (['"A-Za-z_0-9].*: .*)$`)
	never := regexp.MustCompile(`; binary|generated: the stream|the other columns need|the table itself`)
	when := false
	var out []string
	for l := range strings.Lines(text) {
		l = strings.TrimRight(l, "\n")
		switch m := line.FindStringSubmatch(l); {
		case strings.Contains(l, "- event:"):
			when = false
		case m == nil || never.MatchString(l) || when && m[3] == "when":
		default:
			when = when || m[3] == "when"
			l = m[1] + m[2] + m[4] + m[5]
		}
		out = append(out, l)
	}
	return strings.Join(out, "\n") + "\n"
}

// A name means what it means in SQL, or else what it is stored as; views and partitions are
// found and have a problem.
func TestCandidates(t *testing.T) {
	t.Parallel()
	d, _ := drafterOf(t, strange)
	for pattern, want := range map[string]string{
		"vendas": "vendas", `"Vendas"`: `"Vendas"`, "Vendas 2.0": `"Vendas 2.0"`, `public."VENDAS"`: `"VENDAS"`, "outra.*": "outra.vendas", "PEDIDOS": "pedidos",
		"cli?ntes": "clientes", "partes_2026": "partes_2026", "solta": "solta", "solta?": "soltas", "vis*": "", "T": `"Outra Ç"."T"`,
	} {
		chosen, err := d.Select([]string{pattern})
		var names []string
		for _, c := range chosen {
			names = append(names, c.Name)
		}
		if got := strings.Join(names, " "); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", pattern, got, err, want)
		}
	}
	for pattern, want := range map[string]string{
		"vendaz": "table vendaz does not exist; did you mean \"VENDAS\"?", "nao_ha_isto*": "no table is named like nao_ha_isto*; gancho init without --table lists the tables",
		"select * from x": "no table is named like select * from x; gancho init without --table lists the tables",
	} {
		_, err := d.Select([]string{"vendas", pattern})
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v; want %s", pattern, err, want)
		}
	}

	got := map[string]string{}
	for _, c := range d.Candidates() {
		got[c.Name] = strings.Join(c.Key, ",") + "|" + c.Tenant + "|" + c.Problem + "|" + c.Note
	}
	if _, ok := got["partes_2026"]; ok {
		t.Error("a partition is listed")
	}
	for name, want := range map[string]string{
		"pedidos":   "id|loja_id||",
		"lojas":     "id|id||",
		"caixas":    "loja_id,n|loja_id||",
		"sangrias":  "lj,caixa,n|lj||", // by the key of caixas, whatever the column is called here
		"unica":     "b,a|||inserts only: its key is not its replica identity; ALTER TABLE public.unica REPLICA IDENTITY USING INDEX unica_b_a_key;",
		"unica_id":  "a|||",
		"sem_chave": "|||inserts only: the table has no primary key, and no unique index over columns that are not null; ALTER TABLE public.sem_chave REPLICA IDENTITY FULL;  -- or add a primary key",
		"inteira":   "|||",
		"nada":      "id|||inserts only: its key is not its replica identity; ALTER TABLE public.nada REPLICA IDENTITY DEFAULT;",
		"soltas":    "|||inserts only: the table has no primary key, and no unique index over columns that are not null; ALTER TABLE public.soltas ADD PRIMARY KEY (...);",
		"solta":     "id||unlogged: its changes are not in the WAL; ALTER TABLE public.solta SET LOGGED;|",
		"visao":     "||a view has no changes of its own: name the tables that it reads|",
	} {
		if diff := cmp.Diff(want, got[name]); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
}

func TestPersonal(t *testing.T) {
	t.Parallel()
	for column, want := range map[string]string{
		"cpf text": "mask_cpf(cpf)", "nrCPF varchar": `mask_cpf("nrCPF")`, "z01_cgccpf bpchar": "mask_cpf(z01_cgccpf)", "cpf_cnpj text": "mask_cpf(cpf_cnpj)",
		"cpf numeric": "mask_cpf(lpad(cpf::text, 11, '0'))", "CNPJ int8": `mask_cnpj(lpad("CNPJ"::text, 14, '0'))`, "ds_email text": "mask_email(ds_email)",
		"e_mail text": "mask_email(e_mail)", "celular text": "mask_phone(celular)", "fone2 text": "mask_phone(fone2)", "nr_cartao text": "last4(nr_cartao)", "CardNumber text": `last4("CardNumber")`,
		"senha text": "", "password_hash text": "", "apiToken text": "", "refresh_token text": "", "rg text": "", "nr_rg text": "", "nr_rg int4": "", "foto text": "", "Fotos jsonb": "", "template_biometria text": "",
		"imagem bytea": "", "dt_nascimento date": "", "birth_date date": "", "cartao int4": "", "vetor tsvector": "",
		"nome text": "nome", "cidade text": "cidade", "organizacao text": "organizacao", "carga int4": "carga", "descricao text": "descricao", "email_enviado_em timestamptz": "email_enviado_em",
		"email_valido bool": "email_valido", "energia numeric": "energia", "estoque int4": "estoque", "telhado text": "telhado", "ipi numeric": "ipi", "margem numeric": "margem", "passo int4": "passo",
	} {
		name, kind, _ := strings.Cut(column, " ")
		if got := draft.Leaf(name, kind); got != want {
			t.Errorf("%s: %q, want %q", column, got, want)
		}
	}
}

// A role that may read no table drafts the same, and is told what lookups need.
func TestTablesWithoutPrivileges(t *testing.T) {
	t.Parallel()
	conn := connect(t, `create schema fechado; create table fechado.lojas (id int primary key, nome text);
		create table fechado.vendas (id int primary key, loja_id int references fechado.lojas, status char(1) check (status in ('A', 'B')));
		do $$ begin create role "Leitor" login; exception when duplicate_object then null; end $$`)
	if _, err := conn.Exec(context.Background(), `set role "Leitor"`); err != nil {
		t.Fatal(err)
	}
	d, err := draft.New(context.Background(), conn, mapping.Options{})
	if err != nil {
		t.Fatal(err)
	}
	chosen, err := d.Select([]string{"fechado.vendas"})
	if err != nil {
		t.Fatal(err)
	}
	if want := "no SELECT: its values are unknown here, and lookups cannot read it"; chosen[0].Note != want {
		t.Errorf("note %q", chosen[0].Note)
	}
	drafts, err := d.Tables(context.Background(), chosen)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		`  # needs: GRANT SELECT ON fechado.lojas TO "Leitor";`, "# when: became(status, 'A')", "# tenant: loja_id  # a guess, 80 of 100: it refers to fechado.lojas",
	} {
		if !strings.Contains(drafts[0].Text, part) {
			t.Errorf("the draft does not have %q:\n%s", part, drafts[0].Text)
		}
	}
	if len(drafts[0].Out)+len(drafts[0].LeftOut) > 0 {
		t.Errorf("%v %v", drafts[0].Out, drafts[0].LeftOut)
	}
}
