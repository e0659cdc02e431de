package mapping

import (
	"strings"
	"time"

	"gancho/cdc"
	"gancho/internal/strictyaml"
	"gancho/mapping/expr"
)

// lookup is a query for a row of other tables, as a rule's file has it.
type lookup struct {
	name string
	// value is the query's place; text is its text, and sql what of it is the query.
	value     strictyaml.Value
	text, sql string
	params    []sqlParam
	// schemas are what the server needs before names, once it is prepared.
	schemas []edit
	// cache is the age up to which a row is used again; 0: it never is.
	cache time.Duration
	// expression is set where the query is not the rule's own, but evaluates an
	// expression of it: text is the expression's, and begins in sql at lead.
	// joins: it takes columns of the rule's lookups.
	expression *expression
	lead       int
	joins      bool
	masked     mask
	// scheduled: it is the query of a schedule, which asks for the time at times.
	scheduled bool
	times     []timeEdit
}

func (l *lookup) path() string {
	if l.scheduled {
		return "query"
	}
	if l.expression != nil {
		return l.expression.path
	}
	return "lookup." + l.name
}

// title names the lookup in messages, noun is what it is.
func (l *lookup) title() string {
	if l.scheduled {
		return "the query"
	}
	if l.expression != nil {
		return l.expression.path
	}
	return "lookup " + l.name
}

func (l *lookup) noun() string {
	if l.scheduled {
		return "query"
	}
	if l.expression != nil {
		return "expression"
	}
	return "lookup"
}

// maxLookups is how many a rule may have; the rest of expr.MaxLookups is for expressions
// that the source evaluates.
const maxLookups = 16

// maxCache bounds lookup.cache: nobody expects older rows.
const maxCache = 24 * time.Hour

// parseLookups reads {name: select ..., name: {sql: select ..., cache: 30s}}.
func parseLookups(v strictyaml.Value) []*lookup {
	if !v.IsMap() {
		v.Errorf("write a name and a query below lookup:, such as cliente: select nome from clientes where id = new.cliente_id", "lookup is not a mapping")
		return nil
	}
	var out []*lookup
	for _, e := range v.Entries() {
		l := &lookup{name: e.Name}
		if !lookupName(l.name) {
			e.Key.Errorf("write lower-case letters, digits and _; old and new are reserved", "%q cannot be the name of a lookup", l.name)
		}
		if e.Value.IsMap() {
			e.Value.Map(
				strictyaml.Required("sql", func(v strictyaml.Value) { l.parse(v) }),
				strictyaml.Optional("cache", func(v strictyaml.Value) { l.cache = v.Duration(time.Millisecond, maxCache) }),
			)
		} else {
			l.parse(e.Value)
		}
		out = append(out, l)
	}
	if len(out) > maxLookups {
		v.Errorf("join tables in one query", "a rule has at most %d lookups", maxLookups)
		out = out[:maxLookups]
	}
	return out
}

func lookupName(s string) bool {
	if s == "" || s == "old" || s == "new" || '0' <= s[0] && s[0] <= '9' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') })
}

func (l *lookup) parse(v strictyaml.Value) {
	l.value, l.text = v.Resolved(), v.Raw()
	params, end, fault := parseLookupSQL(l.text)
	if l.scheduled {
		params = nil // new and old are tables, if anything
		l.times, fault = parseScheduledSQL(l.text, end, fault)
	}
	if fault != nil {
		l.value.ErrorfAt(fault.Offset, fault.Hint, "%s", fault.Message)
		return
	}
	l.params, l.sql = params, l.text[:end]
}

// boundLookup is a lookup that the server has prepared. It is immutable.
type boundLookup struct {
	*lookup
	place string // file:line
	// batch finds the rows of many changes: its arguments are arrays, one for
	// each of columns that the query names, and its result has the number of
	// the change, from 1, and the query's columns.
	batch   string
	columns []cdc.Column
	// computed says which of them are not columns of a table.
	computed []bool
	// tables are the OIDs of the tables that the others are of; none: a saved catalogue does not have them.
	tables []uint32
	// id is the same for lookups that may share their rows.
	id string
	// reads is what the server needs SELECT on, if privacy.deny has columns.
	reads reads
	// session is a statement before the batch, in its transaction.
	session string
	// lenient: a column that was not sent is given as null, because what depends on it
	// is left out.
	lenient bool
	// parts are, where the source evaluates expressions, those of the columns.
	parts []Evaluated
	// nullable: a value that fails is null, and the leaf that it is of is named in errors.
	nullable bool
}

// early is the scope of what is evaluated before lookups are read.
func early(s *expr.Scope) *expr.Scope {
	out := *s
	out.Early = true
	return &out
}

// lookup compiles the arguments of a lookup.
func (c *compiler) lookup(l *boundLookup, used bool, scope *expr.Scope, g group) programLookup {
	p := programLookup{boundLookup: l, used: used}
	if !used {
		return p
	}
	for _, a := range l.arguments() {
		compiled, err := expr.Compile(a.local(), early(scope))
		for _, m := range mistakes(err) {
			c.mistakes = append(c.mistakes, l.value.Mistake(a.start, m.Hint, "%s", m.Message))
		}
		if err != nil {
			continue
		}
		p.arguments = append(p.arguments, compiled)
		if l.expression != nil {
			continue // what depends on it is the expression
		}
		for _, column := range compiled.Columns() {
			c.uses = append(c.uses, use{
				Column: column, value: l.value, text: l.text, path: l.path(), group: g, needed: column.Old && g == groupWrite,
			})
		}
	}
	return p
}
