package draft_test

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/internal/draft"
	"gancho/internal/language"
)

// draftOf are the rule files of all tables, by their names, which bind as they are.
func draftOf(t *testing.T, statements ...string) map[string]string {
	t.Helper()
	d, conn := drafterOf(t, statements...)
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
		texts[draft.File] = draft.Text
		if len(draft.Out)+len(draft.LeftOut) > 0 {
			t.Errorf("%s: %v %v", draft.File, draft.Out, draft.LeftOut)
		}
	}
	if err := bind(t, conn, texts); err != nil {
		t.Errorf("as it was written: %v", err)
	}
	for name, text := range texts { // lookups, too
		texts[name+" uncommented"] = regexp.MustCompile(`(?m)^    # (lookup: &lookup|  [a-z0-9_]+: '?select )`).ReplaceAllString(text, "    $1")
	}
	uncommented := map[string]string{}
	for name, text := range texts {
		if short, is := strings.CutSuffix(name, " uncommented"); is {
			uncommented[short] = text
			delete(texts, name)
		}
	}
	if err := bind(t, conn, uncommented); err != nil {
		t.Errorf("with its lookups: %v", err)
	}
	return texts
}

// What columns refer to is guessed by their names where there are no foreign keys, as in databases that come from
// Firebird, Delphi or FoxPro; a key of another type, a name that means two tables, and the table's own key are no guess.
func TestGuessedLookups(t *testing.T) {
	t.Parallel()
	texts := draftOf(t, `
		create table "CLIENTES" ("ID_CLIENTE" numeric(10,0) primary key, "NOME" char(60));
		create table "VENDEDORES" ("ID_VENDEDOR" numeric(10,0) primary key, "NOME" varchar(60));
		create table "FILIAIS" ("COD_FILIAL" int primary key, "RAZAO_SOCIAL" varchar(60));
		create table "PRODUTOS" ("COD_PRODUTO" char(15) primary key, "DESCRICAO" varchar(60));
		create table "VENDAS" ("ID_VENDA" numeric(10,0) primary key, "ID_CLIENTE" numeric(10,0), "ID_VENDEDOR" int, "COD_FILIAL" numeric(4,0), "COD_PRODUTO" varchar(20), "DESCRICAO" text);
		create table "VENDA_ITENS" ("ID_VENDA" numeric(10,0), "ITEM" int, "COD_PRODUTO" char(15), primary key ("ID_VENDA", "ITEM"));
		create table tb_aluno (id_aluno int primary key, nm_aluno text); create table papel (id int primary key, nome text); create table papeis (id int primary key, nome text);
		create table notas_fiscais (id int primary key, descricao text); create table ordens (codigo int primary key, titulo text); create table "personType" (id uuid primary key, name text);
		create table opcoes (id int primary key, nome text); create table tokens (id int primary key, name text); create table categories (id text primary key, name text);
		create table misto (id int primary key, aluno_id int, idaluno int, nota_fiscal_id bigint, cod_ordem int, "personTypeId" uuid, "categoryId" text, token_id int, opcao_codigo int,
			papel_id int, ordem int, aluno text, id_cliente text, misto_id int)`)
	got := map[string][]string{}
	for name, text := range texts {
		for _, m := range regexp.MustCompile(`(?m)^    #   ([a-z0-9_]+): '?(select .*?)'?  # a guess, by the name of (\S+): there is no foreign key$`).FindAllStringSubmatch(text, -1) {
			got[name] = append(got[name], m[1]+": "+strings.ReplaceAll(m[2], "''", "'"))
		}
	}
	want := map[string][]string{
		"vendas.yaml": {
			`cliente: select "NOME" from "CLIENTES" where "ID_CLIENTE" = new."ID_CLIENTE"`, `vendedor: select "NOME" from "VENDEDORES" where "ID_VENDEDOR" = new."ID_VENDEDOR"`,
			`filial: select "RAZAO_SOCIAL" from "FILIAIS" where "COD_FILIAL" = new."COD_FILIAL"`, `produto: select "DESCRICAO" from "PRODUTOS" where "COD_PRODUTO" = new."COD_PRODUTO"`,
		},
		"venda_itens.yaml": {`venda: select "DESCRICAO" from "VENDAS" where "ID_VENDA" = new."ID_VENDA"`, `produto: select "DESCRICAO" from "PRODUTOS" where "COD_PRODUTO" = new."COD_PRODUTO"`},
		"misto.yaml": {
			"aluno_2: select nm_aluno from tb_aluno where id_aluno = new.aluno_id", "idaluno_2: select nm_aluno from tb_aluno where id_aluno = new.idaluno",
			"nota_fiscal: select descricao from notas_fiscais where id = new.nota_fiscal_id", "ordem_2: select titulo from ordens where codigo = new.cod_ordem",
			`person_type: select name from "personType" where id = new."personTypeId"`, `category: select name from categories where id = new."categoryId"`,
			"token: select name from tokens where id = new.token_id", "opcao: select nome from opcoes where id = new.opcao_codigo",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// A primary key with a generated column is not in old rows, and from PostgreSQL 18 on makes UPDATE and DELETE fail unless
// it is published: another unique index or the column's formula is the key.
func TestGeneratedKeys(t *testing.T) {
	t.Parallel()
	texts := draftOf(t, `
		create table com_indice (a int not null, b int not null, id int generated always as (a * 1000 + b) stored primary key, v text, unique (a, b));
		create table sem_indice (a int not null, id text generated always as (a::text || '-x') stored primary key, v text);
		create table composta (a int not null, b int generated always as (a + 1) stored, v text, primary key (a, b));
		create table inteira (a int not null, id int generated always as (a * 2) stored primary key, v text); alter table inteira replica identity full;
		create table escolhida (a int not null unique, id int generated always as (a * 2) stored primary key); alter table escolhida replica identity using index escolhida_a_key;
		create table calculada (id int primary key, empresa int generated always as (id + 1) stored, v int)`)
	for name, parts := range map[string][]string{
		"com_indice.yaml": {
			"\n# Deleted rows are not known by their key: the primary key has a generated column (id), which the stream does not have.\n# Run this first, then take the # away from the rule for them:\n#   ALTER TABLE public.com_indice REPLICA IDENTITY USING INDEX com_indice_a_b_key;\n",
			"\n  - event: com_indice.update\n    table: com_indice\n    on: update\n", "\n    key: a::text || ',' || b::text  # unique index com_indice_a_b_key\n", "\n  # - event: com_indice.delete\n",
			"\n      # id: '((a * 1000) + b)'  # integer not null; generated: the stream does not have it, and this is its formula\n",
		},
		"sem_indice.yaml": {
			"#   ALTER TABLE public.sem_indice REPLICA IDENTITY FULL;\n", "\n    key: '((a)::text || ''-x''::text)'  # the primary key, with the formula of its generated column\n",
			"\n  - event: sem_indice.update\n", "\n  # - event: sem_indice.delete\n", "\n      id: '((a)::text || ''-x''::text)'",
		},
		"composta.yaml":  {"\n    key: 'a::text || '','' || (a + 1)::text'", "generated column (b), which", "\n  # - event: composta.delete\n"},
		"inteira.yaml":   {"\n  - event: inteira.delete\n"},
		"escolhida.yaml": {"\n  - event: escolhida.delete\n    table: escolhida\n    on: delete\n    key: a  # unique index escolhida_a_key\n"},
		"calculada.yaml": {"\n      # empresa: '(id + 1)'"},
	} {
		for _, part := range parts {
			if !strings.Contains(texts[name], part) {
				t.Errorf("%s does not have %q:\n%s", name, part, texts[name])
			}
		}
	}
	if strings.Contains(texts["calculada.yaml"], "tenant:") {
		t.Errorf("a generated column is taken for the tenant:\n%s", texts["calculada.yaml"])
	}
}

// Where each unit has a schema of its own, the schema is the tenant, and no table of one is called as if it were the only one.
func TestSchemasOfUnits(t *testing.T) {
	t.Parallel()
	d, conn := drafterOf(t, `
		create schema loja01; create schema loja02; create schema "loja d'Ávila";
		create table loja01.vendas (id int primary key, total numeric); create table loja02.vendas (like loja01.vendas including all);
		create table "loja d'Ávila".vendas (like loja01.vendas including all); create table loja02.outra (id int primary key); create table vendas (id int primary key, total numeric)`)
	if _, err := conn.Exec(context.Background(), "set search_path = loja01, loja02, public"); err != nil {
		t.Fatal(err)
	}
	d, err := draft.New(context.Background(), conn, d.Options())
	if err != nil {
		t.Fatal(err)
	}
	chosen, err := d.Select([]string{"*"})
	if err != nil {
		t.Fatal(err)
	}
	drafts, err := d.Tables(context.Background(), chosen)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, draft := range drafts {
		got = append(got, draft.File+" "+strings.Join(regexp.MustCompile(`table: .*|# tenant: .*|event: \S*insert`).FindAllString(draft.Text, 3), " ")+" "+draft.Tenant)
	}
	slices.Sort(got)
	want := []string{
		"loja01.vendas.yaml event: loja01.vendas.insert table: loja01.vendas # tenant: '''loja01'''  # a guess, 90 of 100: schemas of several units have this table; endpoints subscribe by it schema loja01 of loja01.vendas as the tenant, 90 of 100: schemas of several units have this table",
		"loja02.vendas.yaml event: loja02.vendas.insert table: loja02.vendas # tenant: '''loja02'''  # a guess, 90 of 100: schemas of several units have this table; endpoints subscribe by it schema loja02 of loja02.vendas as the tenant, 90 of 100: schemas of several units have this table",
		`loja_d_avila.vendas.yaml event: loja_d_avila.vendas.insert table: '"loja d''Ávila".vendas' # tenant: '''loja d''''Ávila'''  # a guess, 90 of 100: schemas of several units have this table; endpoints subscribe by it schema loja d'Ávila of "loja d'Ávila".vendas as the tenant, 90 of 100: schemas of several units have this table`,
		"outra.yaml event: outra.insert table: outra table: outra ",
		"public.vendas.yaml event: public.vendas.insert table: public.vendas table: public.vendas ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// What is commented out of a draft in Portuguese has its reason in it, too.
func TestPortugueseReasons(t *testing.T) {
	t.Parallel()
	d, _ := drafterOf(t, `create table "Cliente" (codigo int primary key, "NOME" text, email text, situacao int, cpf_cnpj text, cep text, cidade text, uf text, sexo text,
		matricula text, endereco text, rg text, celular text, ativo text, id_empresa int)`)
	d.Speak(language.Of(language.Portuguese))
	got, err := d.Draft(context.Background(), "pequeno.yaml", []byte(smallRules))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		"\n  # Em comentário: a tabela despesas, ou uma parecida, não está no banco.\n", "; escreva um valor do tipo integer, ou converta o outro lado.\n",
	} {
		if !strings.Contains(got.Text, part) {
			t.Errorf("the draft does not have %q:\n%s", part, got.Text)
		}
	}
}
