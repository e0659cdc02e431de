package draft

import (
	"cmp"
	"slices"
	"strings"
	"unicode"

	"gancho/cdc"
	"gancho/internal/strictyaml"
)

// sureness is how a name was found, the surest first.
type sureness uint8

const (
	same sureness = iota
	folded
	synonym
	near
	onlyKey // the only column of the primary key is what id means
	notFound
)

// plain is a name without case, accents and punctuation.
func plain(name string) string {
	return strings.Map(func(r rune) rune {
		r = unicode.ToLower(r)
		if i := strings.IndexRune("áàâãäéèêëíìîïóòôõöúùûüçñ", r); i >= 0 {
			return []rune("aaaaaeeeeiiiiooooouuuucn")[len([]rune("áàâãäéèêëíìîïóòôõöúùûüçñ"[:i]))]
		}
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return -1
		}
		return r
	}, name)
}

// words are the words of a name in one order, singular and without the
// prefixes of old naming rules: TB_CLIENTE, id_cliente and clientes_id.
func words(name string) string {
	parts := strings.FieldsFunc(name, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	var list []string
	for _, w := range parts {
		w = singular(plain(w))
		switch {
		case len(parts) == 1:
		case slices.Contains([]string{"tb", "tbl", "tab", "cad", "nm", "ds", "nr", "fl", "st", "de", "da", "do"}, w):
			continue
		case w == "data":
			w = "dt"
		case w == "vl" || w == "vlr":
			w = "valor"
		case w == "codigo" || w == "cod" || w == "cd":
			w = "id"
		}
		list = append(list, w)
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func singular(w string) string {
	switch {
	case len(w) > 4 && strings.HasSuffix(w, "oes"):
		return w[:len(w)-3] + "ao"
	case len(w) > 4 && (strings.HasSuffix(w, "res") || strings.HasSuffix(w, "zes")):
		return w[:len(w)-2]
	case len(w) > 3 && strings.HasSuffix(w, "ais"):
		return w[:len(w)-2] + "l"
	case len(w) > 3 && strings.HasSuffix(w, "s"):
		return w[:len(w)-1]
	}
	return w
}

// otherTables and otherColumns are the names that others use, as words() has them.
func otherTables() map[string][]string {
	return map[string][]string{
		"clientes": {"aluno", "associado", "assinante", "customer", "pessoa", "sacado"}, "empresas": {"filial", "unidade", "loja", "academia"},
		"contratos": {"assinatura", "matricula", "plano cliente"}, "mensalidades": {"contrato item", "item contrato", "contrato produto"},
		"cobrancas": {"boleto", "fatura", "titulo", "conta receber", "recebimento"}, "despesas": {"conta pagar"},
		"cobrancas_itens": {"item cobranca", "fatura item"}, "produtos": {"item", "mercadoria", "product", "servico"},
		"pagamentos": {"recebimento", "recibo", "baixa"}, "acessos": {"catraca", "frequencia", "entrada", "passagem"},
		"pedidos": {"order", "venda"}, "itens_pedido": {"order item", "pedido produto"}, "categorias": {"departamento", "grupo", "secao"},
		"estoque_movimentos": {"kardex", "estoque movimentacao", "movimentacao"}, "estoque": {"saldo"},
		"transacoes_cartao": {"cartao", "tef", "transacao"}, "notas_fiscais": {"nf", "nfe", "nfse", "nota"}, "vendas_avulsas": {"venda", "venda balcao"},
	}
}

func otherColumns() map[string][]string {
	return map[string][]string{
		"nome": {"razao social", "name", "cliente"}, "cpf_cnpj": {"cpf", "cnpj", "cgc", "cpfcnpj", "documento"}, "email": {"mail", "e mail"},
		"celular": {"fone", "telefone", "celular fone", "telefone celular"}, "situacao": {"status", "estado"}, "status": {"situacao", "estado"},
		"empresa_id": {"filial", "filial id", "empresa", "id unidade", "id loja"}, "dt_vencimento": {"vencimento", "dt vcto", "vcto"},
		"dt_liquidacao": {"dt pagamento", "dt baixa", "pagamento"}, "valor": {"vlr", "total", "valor total"}, "preco": {"valor", "preco venda"},
		"descricao": {"descr", "nome", "desc"}, "quantidade": {"qtd", "qtde", "quant"}, "excluido_em": {"deletado em", "deleted at", "dt exclusao"},
		"uf": {"estado"}, "cidade": {"municipio"}, "endereco": {"logradouro"}, "cep": {"codigo postal"},
	}
}

// find returns the candidate that the name most likely means.
func find(name string, others, candidates []string) (string, sureness) {
	tests := []func(c string) bool{
		same:   func(c string) bool { return c == name },
		folded: func(c string) bool { return plain(c) == plain(name) || words(c) == words(name) },
		synonym: func(c string) bool {
			return slices.ContainsFunc(others, func(o string) bool { return words(c) == words(o) })
		},
	}
	for s, fits := range tests {
		if i := slices.IndexFunc(candidates, fits); i >= 0 {
			return candidates[i], sureness(s)
		}
	}
	if len(name) >= 6 { // any two short names are near
		if c := strictyaml.Nearest(name, candidates); c != "" && len(c) >= 5 && c[0]|0x20 == name[0]|0x20 {
			return c, near
		}
	}
	return "", notFound
}

// placement maps the expected tables to those of the database at hand.
type placement struct {
	speaker
	expected expected
	tables   []*table
	found    map[string]*placed // by the expected table; nil: it was not found
	// closest is the best of those that were not good enough.
	closest map[string]*placed
}

func newPlacement(script string, tables []*table) *placement {
	return &placement{expected: parseSchema(script), tables: tables, found: map[string]*placed{}, closest: map[string]*placed{}}
}

// placed is an expected table that was found, with its columns by the expected
// names, without those that were not found.
type placed struct {
	table   *table
	sure    sureness
	columns map[string]string
	guessed map[string]sureness
	score   int // of 100
	// evidence is what the score was given for.
	evidence string
}

// enough is the score from which on a table is taken for an expected one.
const enough = 50

// of looks for a table once.
func (p *placement) of(name string) *placed {
	if found, ok := p.found[name]; ok {
		return found
	}
	var best *placed
	for _, t := range p.tables {
		_, sure := find(name, otherTables()[name], []string{t.Name.Name})
		if sure == notFound {
			continue
		}
		candidate := p.columns(name, t, sure)
		p.rate(name, candidate)
		if best == nil || better(candidate, best) {
			best = candidate
		}
	}
	if best != nil && best.score < enough {
		p.closest[name], best = best, nil
	}
	p.found[name] = best
	return best
}

func better(a, b *placed) bool {
	return cmp.Or(cmp.Compare(a.score, b.score), cmp.Compare(b.sure, a.sure), cmp.Compare(len(a.columns), len(b.columns))) > 0
}

// rate gives a table its score: 30 for the name, 50 for the columns and 20 for the
// foreign keys that it has of those expected. A database without foreign keys says
// nothing by lacking them. A table of another name must have several of the columns.
func (p *placement) rate(name string, c *placed) {
	points := map[sureness]float64{same: 30, folded: 30, synonym: 18, near: 12}[c.sure]
	weight := func(column string) float64 {
		if column == "id" || column == "nome" || column == "descricao" {
			return 0.5 // half of all tables have one
		}
		return 1
	}
	var have, want, others float64
	for _, column := range p.expected[name] {
		want += weight(column)
		if c.columns[column] != "" {
			have += weight(column)
			others++
		}
	}
	if c.columns["id"] != "" {
		others--
	}
	want = min(want, float64(len(c.table.columns)))
	share := have / max(1, want)
	points += 50 * min(1, share)
	full, linked, links := 80.0, 0, 0
	for _, column := range p.expected[name] {
		target, actual := p.expected.target(column), c.columns[column]
		if target == "" || actual == "" {
			continue
		}
		if r := c.table.refers(actual); r != nil {
			links++
			if _, sure := find(target, otherTables()[target], []string{r.to.Name.Name}); sure != notFound {
				linked++
			}
		}
	}
	if links > 0 {
		full = 100
		points += 20 * float64(linked) / float64(links)
	}
	c.score = int(100 * points / full)
	if c.sure > folded && others < 3 {
		c.score = min(c.score, enough-1)
	}
	c.evidence = p.sayf("%d of %d columns, %d of %d foreign keys", len(c.columns), len(p.expected[name]), linked, links)
}

// columns looks for a table's columns, the sure ones first, so that a guess never
// uses a column that is surely another one.
func (p *placement) columns(name string, t *table, sure sureness) *placed {
	out := &placed{table: t, sure: sure, columns: map[string]string{}, guessed: map[string]sureness{}}
	free := t.columnNames()
	use := func(column, actual string, s sureness) {
		out.columns[column] = actual
		if s > same {
			out.guessed[column] = s
		}
		free = slices.DeleteFunc(free, func(c string) bool { return c == actual })
	}
	for level := same; level < onlyKey; level++ {
		for _, column := range p.expected[name] {
			if out.columns[column] != "" {
				continue
			}
			others := otherColumns()[column]
			if column == "id" {
				others = []string{"codigo", "id " + name, "codigo " + name, name + " pk"}
			}
			if actual, s := find(column, others, free); s == level {
				use(column, actual, s)
			}
		}
		if level == synonym && out.columns["id"] == "" && len(t.key) == 1 && slices.Contains(free, t.key[0]) && slices.Contains(p.expected[name], "id") {
			use("id", t.key[0], onlyKey)
		}
	}
	return out
}

// missingTable says that a table was not found.
func (p *placement) missingTable(name string) string {
	if c := p.closest[name]; c != nil {
		return p.sayf("table %s, or one like it, is not in the database (the closest is %s, score %d of 100 and less than %d: %s)", name, c.table.Name, c.score, enough, c.evidence)
	}
	return p.sayf("table %s, or one like it, is not in the database", name)
}

func (p *placement) missingColumn(f *placed, expectedTable, column string) string {
	return p.sayf("column %s of table %s, or one like it, is not in %s", column, expectedTable, f.table.Name)
}

// column returns the actual name as SQL has it, or "" without one.
func (f *placed) column(name string) string {
	if actual := f.columns[name]; actual != "" {
		return cdc.QuoteIdentifier(actual)
	}
	return ""
}
