package draft

import (
	"cmp"
	"fmt"
	"slices"

	"gancho/cdc"
)

// placement says where the expected tables are in the database at hand.
type placement struct {
	expected expected
	tables   []*table
	found    map[string]*placed // by the expected table; nil: it is not there
}

// placed is an expected table with its columns, by the expected names; a column
// that is not there is not in it.
type placed struct {
	table   *table
	sure    sureness
	columns map[string]string
	guessed map[string]sureness
}

// of places a table once.
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
		// A table of another name is the same only if it looks the same.
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

// columns places a table's columns, the sure ones first, so that a guess never
// takes a column that is another's.
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

// missing says that a table is not there.
func missingTable(name string) string {
	return fmt.Sprintf("table %s, or one like it, is not in the database", name)
}

func (f *placed) missingColumn(expectedTable, column string) string {
	return fmt.Sprintf("column %s of table %s, or one like it, is not in %s", column, expectedTable, f.table.Name)
}

// column returns the actual name as SQL has it, or "" when there is none.
func (f *placed) column(name string) string {
	if actual := f.columns[name]; actual != "" {
		return cdc.QuoteIdentifier(actual)
	}
	return ""
}
