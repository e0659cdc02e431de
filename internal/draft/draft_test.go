package draft_test

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"go.yaml.in/yaml/v4"

	"gancho/cdc"
	"gancho/internal/draft"
	"gancho/internal/presets"
	"gancho/internal/testservers"
	"gancho/mapping"
	"gancho/migrations"
)

var pg *testservers.Postgres

func TestMain(m *testing.M) { os.Exit(testservers.Main(m, &pg)) }

func legacy() string {
	schema, _, _ := migrations.Legacy()
	return schema
}

// The expected columns are those that PostgreSQL makes of the script.
func TestExpected(t *testing.T) {
	t.Parallel()
	conn := connect(t, legacy())
	rows, err := conn.Query(context.Background(), `
		select c.relname::text, array_agg(a.attname::text order by a.attnum)
		from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
		where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
			and c.relname not in ('TB_FORNECEDOR', 'colaboradores') group by 1`)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{}
	var name string
	var columns []string
	if _, err := pgx.ForEachRow(rows, []any{&name, &columns}, func() error {
		want[name] = append([]string{}, columns...)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	got := draft.Expected(legacy())
	delete(got, "colaboradores") // it inherits more
	if diff := cmp.Diff(want, got); diff != "" || len(want) < 20 {
		t.Errorf("-want +got\n%s", diff)
	}
}

func connect(t *testing.T, statements ...string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), pg.Database(t, "", statements...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// A database that has the presets' own names leaves them as they are.
func TestAdaptLeavesTheLegacySchema(t *testing.T) {
	t.Parallel()
	tables := map[cdc.Name][]string{}
	for name, columns := range draft.Expected(legacy()) {
		tables[cdc.Name{Schema: "public", Name: name}] = columns
	}
	for file, text := range presetFiles(t) {
		got, reasons, err := draft.Adapt(legacy(), text, tables)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(text, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", file, diff)
		}
		for i, r := range reasons {
			if len(r) > 0 {
				t.Errorf("%s: rule %d: %v", file, i, r)
			}
		}
	}
}

func presetFiles(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, preset := range presets.Names() {
		files, err := presets.Files(preset)
		if err != nil {
			t.Fatal(err)
		}
		for name, text := range files {
			all[name] = string(text)
		}
	}
	return all
}

// Other people's names: quoted upper case with accents, prefixes, another
// order of the words, synonyms, a slip of the pen, another schema.
func TestAdapt(t *testing.T) {
	t.Parallel()
	tables := map[cdc.Name][]string{
		{Schema: "public", Name: "TB_CLIENTE"}: {"ID_CLIENTE", "ID_EMPRESA", "NM_CLIENTE", "CPF_CNPJ", "E_MAIL", "TELEFONE", "SITUAÇÃO", "CEP", "CIDADE", "UF", "ENDERECO",
			"DT_NASCIMENTO", "SEXO", "MATRICULA", "DT_CADASTRO", "OBSERVACAO", "ATIVO"},
		{Schema: "financeiro", Name: "cobranca"}: {"id", "id_empresa", "id_cliente", "contrato_id", "valor", "vl_pago", "dt_vencimeto", "dt_emissao", "situacao", "forma", "desconto", "documento"},
	}
	const rules = `rules:
  # Alguém novo.
  - event: cliente.novo
    table: clientes
    on: insert
    when: new.situacao <> 'situacao' and excluido_em is null
    tenant: empresa_id
    columns: [id, nome]
    data: &dados
      nome: nome # o nome
      contato: {email: lower(email), fone: "mask_phone(celular)"}
      cidade: >-
        case when cidade = 'nome' then uf
        else cidade end
  - event: cliente.outro
    table: clientes
    on: update
    watch: [nome, situacao]
    data: *dados
  - event: cobranca.liquidada
    table: cobrancas
    on: update
    when: old.status <> 'L' and new.status = 'L'
    key: id
    data: {id: id, valor: valor, vencimento: dt_vencimento, cliente: cliente.nome}
    lookup:
      cliente: select nome, c.cpf_cnpj, upper(email) as email from clientes c where c.id = new.cliente_id
      outras: select count(*) as total from cobrancas where cobrancas.cliente_id = new.cliente_id
  - event: pedido.alterado
    table: pedidos
    on: update
    children:
      - {table: itens_pedido, parent: pedido_id}
    columns: [id]
`
	got, reasons, err := draft.Adapt(legacy(), rules, tables)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer(
		"table: clientes", `table: '"TB_CLIENTE"'`,
		"new.situacao <> 'situacao'", `new."SITUAÇÃO" <> 'situacao'`,
		"tenant: empresa_id", `tenant: '"ID_EMPRESA"'`,
		"columns: [id, nome]", `columns: ['"ID_CLIENTE"', '"NM_CLIENTE"']`,
		"nome: nome # o nome", `nome: '"NM_CLIENTE"' # o nome`,
		"email: lower(email), fone: \"mask_phone(celular)\"", `email: lower("E_MAIL"), fone: 'mask_phone("TELEFONE")'`,
		"case when cidade = 'nome' then uf", `case when "CIDADE" = 'nome' then "UF"`,
		"else cidade end", `else "CIDADE" end`,
		"watch: [nome, situacao]", `watch: ['"NM_CLIENTE"', '"SITUAÇÃO"']`,
		"table: cobrancas\n", "table: financeiro.cobranca\n",
		"old.status <> 'L' and new.status = 'L'", "old.situacao <> 'L' and new.situacao = 'L'",
		"vencimento: dt_vencimento", "vencimento: dt_vencimeto",
		"select nome, c.cpf_cnpj, upper(email) as email from clientes c where c.id = new.cliente_id",
		`select "NM_CLIENTE" as nome, c."CPF_CNPJ" as cpf_cnpj, upper("E_MAIL") as email from "TB_CLIENTE" c where c."ID_CLIENTE" = new.id_cliente`,
		"from cobrancas where cobrancas.cliente_id = new.cliente_id", "from financeiro.cobranca as cobrancas where cobrancas.id_cliente = new.id_cliente",
	).Replace(rules)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if diff := cmp.Diff([][]string{
		{`column excluido_em of table clientes, or one like it, is not in public."TB_CLIENTE"`},
		nil,
		nil,
		{"table pedidos, or one like it, is not in the database", "table itens_pedido, or one like it, is not in the database"},
	}, reasons); diff != "" {
		t.Errorf("reasons: -want +got\n%s", diff)
	}
}

// Whichever rule of a preset is commented out, the rest is still whole YAML
// with what the rule had lent to others.
func TestCommentOut(t *testing.T) {
	t.Parallel()
	for file, text := range presetFiles(t) {
		before := decode(t, text)
		for i := range before {
			got, _, err := draft.CommentOut(text, i)
			if err != nil {
				t.Fatal(err)
			}
			after := decode(t, got)
			want := append(append([]any{}, before[:i]...), before[i+1:]...)
			if diff := cmp.Diff(want, after); diff != "" {
				t.Fatalf("%s without rule %d: -want +got\n%s\n%s", file, i, diff, got)
			}
			if !strings.Contains(got, "  # Commented out: a reason.\n  # - event: ") {
				t.Errorf("%s without rule %d does not show the reason", file, i)
			}
		}
	}
}

func decode(t *testing.T, text string) []any {
	t.Helper()
	var file struct {
		Rules []any `yaml:"rules"`
	}
	if err := yaml.Unmarshal([]byte(text), &file); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return file.Rules
}

const smallRules = `# Pequeno.
rules:
  - event: cliente.novo
    table: clientes
    on: insert
    columns: [id, nome]

  # Situação numérica não se compara com texto.
  - event: cliente.ativado
    table: clientes
    on: insert
    when: situacao = 'AT'
    data: &dados {id: id, nome: nome}
  - event: cliente.atualizado
    table: clientes
    on: update
    watch: [nome]
    data: *dados
  - event: despesa.nova
    table: despesas
    on: insert
    columns: [id]
`

// A draft is bound: what does not fit is commented out with the reason, what
// waits for a statement is left, and the rest passes as it is.
func TestDraft(t *testing.T) {
	t.Parallel()
	conn := connect(t, `create table "Cliente" (codigo int primary key, "NOME" text, email text, situacao int, cpf_cnpj text, cep text, cidade text, uf text, sexo text,
		matricula text, endereco text, rg text, celular text, ativo text, id_empresa int)`)
	d, err := draft.New(context.Background(), conn, mapping.Options{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := d.Draft(context.Background(), "pequeno.yaml", []byte(smallRules))
	if err != nil {
		t.Fatal(err)
	}
	want := `# Pequeno.
rules:
  - event: cliente.novo
    table: '"Cliente"'
    on: insert
    columns: [codigo, '"NOME"']

  # Situação numérica não se compara com texto.
  # Commented out: invalid input syntax for type integer; write a value of type integer, or cast the other side.
  # - event: cliente.ativado
  #   table: '"Cliente"'
  #   on: insert
  #   when: situacao = 'AT'
  #   data: &dados {id: codigo, nome: '"NOME"'}
  - event: cliente.atualizado
    table: '"Cliente"'
    on: update
    watch: ['"NOME"']
    data: &dados {id: codigo, nome: '"NOME"'}
  # Commented out: table despesas, or one like it, is not in the database.
  # - event: despesa.nova
  #   table: despesas
  #   on: insert
  #   columns: [id]
`
	if diff := cmp.Diff(want, got.Text); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if diff := cmp.Diff([]string{`ALTER TABLE public."Cliente" REPLICA IDENTITY FULL;`}, got.Statements); diff != "" || got.Rules != 4 || len(got.Out) != 2 {
		t.Errorf("%d rules, %d out; statements -want +got\n%s", got.Rules, len(got.Out), diff)
	}
	if diff := cmp.Diff([]string{"table despesas, or one like it, is not in the database"}, d.Missing()); diff != "" {
		t.Errorf("missing: -want +got\n%s", diff)
	}
	if guesses := strings.Join(d.Guesses(), "\n"); !strings.Contains(guesses, `table public."Cliente" is used as clientes, by its words`) ||
		!strings.Contains(guesses, `column codigo of public."Cliente" is used as id, as another word for it`) {
		t.Errorf("the guesses are\n%s", guesses)
	}
	if _, err := conn.Exec(context.Background(), strings.Join(got.Statements, "")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pequeno.yaml")
	if err := os.WriteFile(file, []byte(got.Text), 0o600); err != nil {
		t.Fatal(err)
	}
	rules, err := mapping.Parse(mapping.Options{Files: []string{file}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rules.Bind(context.Background(), conn); err != nil {
		t.Errorf("the draft does not fit: %v", err)
	}
}

func TestDraftWithoutAnyTable(t *testing.T) {
	t.Parallel()
	d, err := draft.New(context.Background(), connect(t), mapping.Options{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := d.Draft(context.Background(), "pequeno.yaml", []byte(smallRules))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Out) != 4 || !strings.Contains(got.Text, "\nrules: []\n") {
		t.Errorf("%d rules are out of\n%s", len(got.Out), got.Text)
	}
}

// What a rule can do without is left out of it: leaves, in blocks and in braces, the
// tenant, columns of a list, lookups with what shows them. A condition and the last watched
// column are not such.
func TestLeftOut(t *testing.T) {
	t.Parallel()
	d, conn := drafterOf(t, "create table clientes (cod int primary key, nome text, cidade text, situacao text, uf text, cep text, endereco text, matricula text, sexo text)",
		"alter table clientes replica identity full")
	got, err := d.Draft(context.Background(), "regras.yaml", []byte(`rules:
  - event: cliente.novo
    table: clientes
    on: insert
    tenant: empresa_id
    data: &cliente
      id: id
      # Como escrito.
      contato:
        email: lower(email)
        celular: celular
      lugar: {cidade: cidade, uf: "upper(uf)", cpf: mask_cpf(cpf_cnpj), unidade: empresa.codigo}
      nome: nome
      total: recentes.total
    lookup: &lookup
      empresa: select codigo from empresas where id = new.empresa_id
      recentes: >-
        select count(*) as total, c.celular
        from clientes c where c.id <> new.id
  - event: cliente.atualizado
    table: clientes
    on: update
    watch: [email, nome]
    columns: [id, nome, foto]
  - event: cliente.contato
    table: clientes
    on: update
    watch: [email, celular]
    data: *cliente
    lookup: *lookup
  - event: cliente.ativo
    table: clientes
    on: update
    when: new.ativo = 'S'
    columns: [id]
  - event: cliente.unidade
    table: clientes
    on: delete
    data:
      id: id
      empresa: {codigo: empresa.codigo}
    lookup:
      empresa: select codigo from empresas where id = old.empresa_id
`))
	if err != nil {
		t.Fatal(err)
	}
	want := `rules:
  - event: cliente.novo
    table: clientes
    on: insert
    # Left out: column empresa_id of table clientes, or one like it, is not in public.clientes.
    # tenant: empresa_id
    data: &cliente
      id: cod
      # Como escrito.
      # Left out: column celular of table clientes, or one like it, is not in public.clientes.
      # contato:
      #   email: lower(email)
      #   celular: celular
      lugar: {cidade: cidade, uf: "upper(uf)"}
      nome: nome
      total: recentes.total
    lookup: &lookup
      # Left out: table empresas, or one like it, is not in the database.
      # empresa: select codigo from empresas where id = new.empresa_id
      recentes: >-
        select count(*) as total
        from clientes c where c.cod <> new.cod
  - event: cliente.atualizado
    table: clientes
    on: update
    watch: [nome]
    columns: [cod, nome]
  # Commented out: column celular of table clientes, or one like it, is not in public.clientes.
  # - event: cliente.contato
  #   table: clientes
  #   on: update
  #   watch: [celular]
  #   data: *cliente
  #   lookup: *lookup
  # Commented out: column ativo of table clientes, or one like it, is not in public.clientes.
  # - event: cliente.ativo
  #   table: clientes
  #   on: update
  #   when: new.ativo = 'S'
  #   columns: [cod]
  - event: cliente.unidade
    table: clientes
    on: delete
    data:
      id: cod
      # Left out: empresa is not a row of this rule; write old.x, new.x or x.
      # empresa: {codigo: empresa.codigo}
    # Left out: table empresas, or one like it, is not in the database.
    # lookup:
    #   empresa: select codigo from empresas where id = old.empresa_id
`
	if diff := cmp.Diff(want, got.Text); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if err := bind(t, conn, map[string]string{"regras.yaml": got.Text}); err != nil {
		t.Error(err)
	}
}

// Whatever columns a database lacks, what is left of the presets binds.
func TestDraftWithoutColumns(t *testing.T) {
	t.Parallel()
	const seed = 7
	random := rand.New(rand.NewPCG(seed, seed))
	_, _, identity := migrations.Legacy()
	conn := connect(t, legacy(), identity)
	rows, _ := conn.Query(context.Background(), `
		select format('alter table %s drop column if exists %I cascade', attrelid::regclass, attname) from pg_attribute a join pg_class c on c.oid = a.attrelid
		where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition and attnum > 1 and not attisdropped and attinhcount = 0
			and not exists (select from pg_partitioned_table p where p.partrelid = c.oid) order by 1`)
	drops, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for _, drop := range drops {
		if random.IntN(6) == 0 {
			if _, err := conn.Exec(context.Background(), drop); err != nil {
				t.Fatal(err)
			}
		}
	}
	d, err := draft.New(context.Background(), conn, mapping.Options{})
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	active := 0
	for name, text := range presetFiles(t) {
		got, err := d.Draft(context.Background(), name, []byte(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if active += got.Rules - len(got.Out); got.Rules > len(got.Out) {
			texts[name] = got.Text
		}
	}
	if active < 10 {
		t.Errorf("%d rules are left", active)
	}
	if err := bind(t, conn, texts); err != nil {
		t.Error(err)
	}
}

// A table is taken for another by several columns and by what it refers to, and not by
// a name alone.
func TestScores(t *testing.T) {
	t.Parallel()
	d, _ := drafterOf(t, `
		create table usuarios (id int primary key, login text);
		create table aluno (id int primary key, nome text, cpf text, email text, celular text, situacao text, cidade text);
		create table conta_pagar (id int primary key, descricao text, conta text, ativo bool, ordem int, grupo int);
		create table acessos (id int primary key, usuario_id int references usuarios, ip inet, navegador text, criado_em timestamp);
		create table venda (id int primary key, cliente_id int references aluno, status text, total numeric, frete numeric, numero text);
		create table frequencia (id int primary key, cliente_id int references usuarios, coletor text, meio text, dispositivo text, obs text, x int, y int, z int)`)
	_, err := d.Draft(context.Background(), "x.yaml", []byte(`rules:
  - {event: a, table: clientes, on: insert, columns: [id]}
  - {event: b, table: despesas, on: insert, columns: [id]}
  - {event: c, table: acessos, on: insert, columns: [id]}
  - {event: d, table: pedidos, on: insert, columns: [id]}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := `table public.aluno is used as clientes, as another word for it: score 76 of 100 (7 of 32 columns, 0 of 0 foreign keys)
column cpf of public.aluno is used as cpf_cnpj, as another word for it
table public.venda is used as pedidos, as another word for it: score 83 of 100 (6 of 20 columns, 1 of 1 foreign keys)
table acessos, or one like it, is not in the database (the closest is public.acessos, score 43 of 100 and less than 50: 1 of 10 columns, 0 of 0 foreign keys)
table despesas, or one like it, is not in the database (the closest is public.conta_pagar, score 32 of 100 and less than 50: 2 of 10 columns, 0 of 0 foreign keys)`
	if diff := cmp.Diff(want, strings.Join(append(d.Guesses(), d.Missing()...), "\n")); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
