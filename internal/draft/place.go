package draft

import (
	"cmp"
	"fmt"
	"slices"

	"gancho/cdc"
)

// placement maps the expected tables to those of the database at hand.
type placement struct {
	expected expected
	tables   []*table
	found    map[string]*placed // by the expected table; nil: it was not found
}

// placed is an expected table that was found, with its columns by the expected
// names, without those that were not found.
type placed struct {
	table   *table
	sure    sureness
	columns map[string]string
	guessed map[string]sureness
}

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
		// A table of another name is the same only if most of its columns are.
		if sure > folded && 2*len(candidate.columns) < len(p.expected[name]) {
			continue
		}
		if best == nil || better(candidate, best) {
			best = candidate
		}
	}
	p.found[name] = best
	return best
}

func better(a, b *placed) bool {
	return cmp.Or(cmp.Compare(b.sure, a.sure), cmp.Compare(len(a.columns), len(b.columns))) > 0
}

// columns looks for a table's columns, the sure ones first, so that a guess never
// uses a column that is surely another one.
func (p *placement) columns(name string, t *table, sure sureness) *placed {
	out := &placed{table: t, sure: sure, columns: map[string]string{}, guessed: map[string]sureness{}}
	free := slices.Clone(t.columns)
	for level := same; level < notFound; level++ {
		for _, column := range p.expected[name] {
			if out.columns[column] != "" {
				continue
			}
			others := otherColumns()[column]
			if column == "id" {
				others = []string{"codigo", "id " + name, "codigo " + name, name + " pk"}
			}
			actual, s := find(column, others, free)
			if s != level {
				continue
			}
			out.columns[column] = actual
			if s > same {
				out.guessed[column] = s
			}
			free = slices.DeleteFunc(free, func(c string) bool { return c == actual })
		}
	}
	return out
}

// missingTable says that a table was not found.
func missingTable(name string) string {
	return fmt.Sprintf("table %s, or one like it, is not in the database", name)
}

func (f *placed) missingColumn(expectedTable, column string) string {
	return fmt.Sprintf("column %s of table %s, or one like it, is not in %s", column, expectedTable, f.table.Name)
}

// column returns the actual name as SQL has it, or "" without one.
func (f *placed) column(name string) string {
	if actual := f.columns[name]; actual != "" {
		return cdc.QuoteIdentifier(actual)
	}
	return ""
}
