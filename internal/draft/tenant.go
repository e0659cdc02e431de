package draft

import (
	"slices"
	"strings"

	"gancho/cdc"
)

// units are words for what tenants usually are: a customer's branches.
func units() []string {
	return []string{
		"empresa", "filial", "unidade", "loja", "tenant", "escola", "instituicao", "instit", "academia", "clinica", "franquia", "condominio",
		"estabelecimento", "entidade", "orgao", "agencia", "polo", "company", "branch", "store", "shop", "organization", "organisation", "organizacao", "org",
		"school", "workspace", "subsidiary",
	}
}

func isUnit(name string) bool {
	words := nameWords(name)
	if slices.Contains(words, "medida") || slices.Contains(words, "measure") { // a unit of another kind
		return false
	}
	return slices.ContainsFunc(words, func(w string) bool { return slices.Contains(units(), w) || slices.Contains(units(), singular(w)) })
}

// tenantGuess is the column that the tenant may be read from, or the schema that is one.
type tenantGuess struct {
	column string // empty: schema
	schema string
	score  int // of 100
	reason string
}

// expression is the guess as a rule has it.
func (g *tenantGuess) expression() string {
	if g.column == "" {
		return "'" + strings.ReplaceAll(g.schema, "'", "''") + "'"
	}
	return cdc.QuoteIdentifier(g.column)
}

// tenant guesses the tenant's column; nil: none looks like one.
func (t *table) tenant() *tenantGuess { return t.tenantBut(nil) }

// tenantBut is tenant, without what tables say by which it was reached.
func (t *table) tenantBut(passed []*table) *tenantGuess {
	best := t.inheritedTenant(passed)
	if t.alike > 1 && t.Schema != "public" {
		best = &tenantGuess{schema: t.Schema, score: min(50+10*t.alike, 90), reason: "schemas of several units have this table"}
	}
	for _, c := range t.columns {
		guess := tenantGuess{column: c.name}
		r := t.refers(c.name)
		switch {
		case c.generated:
			continue
		case r != nil && isUnit(r.to.Name.Name):
			guess.score, guess.reason = 50, "it refers to "+r.to.written()
			if isUnit(c.name) {
				guess.score += 30
			}
		case isUnit(c.name) && (isText(c) || isNumber(c) || c.base == "int2" || c.base == "uuid"):
			guess.score, guess.reason = 40, "by its name"
			if r != nil {
				guess.score, guess.reason = 50, "by its name; it refers to "+r.to.written()
			}
		case isUnit(t.Name.Name) && len(t.key) == 1 && t.key[0] == c.name && len(nameWords(t.Name.Name)) == 1:
			guess.score, guess.reason = 45, "the table may be that of the units"
		default:
			continue
		}
		if c.notNull {
			guess.score += 20
		}
		if best == nil || guess.score > best.score {
			best = &guess
		}
	}
	return best
}

// inheritedTenant is the column by which a key of several columns refers to the tenant of its
// table: where the tenant is part of all keys, that of an order's item is known by the order.
func (t *table) inheritedTenant(passed []*table) *tenantGuess {
	if slices.Contains(passed, t) {
		return nil
	}
	passed = append(slices.Clip(passed), t)
	var best *tenantGuess
	for _, r := range t.references {
		if len(r.columns) == 1 {
			continue // a key of one column is the row's own
		}
		of := r.to.tenantBut(passed)
		if of == nil {
			continue
		}
		i := slices.Index(r.keys, of.column)
		if i >= 0 && (best == nil || of.score > best.score) {
			best = &tenantGuess{column: r.columns[i], score: of.score, reason: "it refers to the tenant of " + r.to.written()}
		}
	}
	return best
}
