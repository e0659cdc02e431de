package mapping

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gancho/cdc"
	"gancho/mapping/expr"
)

// groupNames are those of the operations of a group.
var groupNames = [groups]string{"write", "delete", "truncate"}

// join makes one lookup of those of a rule that are read together, and records where their
// expressions are found in it.
func (c *compiler) join(bound *boundRule, g group, stage string, all []*boundLookup) {
	if len(all) == 0 {
		return
	}
	number := len(bound.lookups)
	name := groupNames[g] + " " + stage // no lookup of a rule has a blank in its name
	joined := &boundLookup{
		lookup: &lookup{name: name, value: all[0].value, sql: "values (", expression: &expression{}},
		place:  all[0].place, session: sessionOf(c.settings), reads: reads{columns: map[uint32][]int{}},
	}
	var paths []string
	for i, l := range all {
		column := "column" + strconv.Itoa(i+1) // of VALUES
		if i > 0 {
			joined.sql += ", "
		}
		joined.lookup.takeOver(l.lookup, len(joined.sql)-len("values ("))
		joined.sql += strings.TrimSuffix(strings.TrimPrefix(l.sql, "values ("), ")")
		joined.columns = append(joined.columns, cdc.Column{Name: column, Type: l.columns[0].Type, TypeMod: l.columns[0].TypeMod})
		joined.computed = append(joined.computed, true)
		joined.reads.add(l.reads)
		joined.parts = append(joined.parts, Evaluated{strings.Join(strings.Fields(l.text), " "), l.expression.path})
		if !slices.Contains(paths, l.expression.path) {
			paths = append(paths, l.expression.path)
		}
		c.delegated[site{l.expression, g}] = &delegated{
			lookup: number, column: column, params: l.arguments(), joins: l.joins, masked: l.masked,
		}
	}
	joined.expression.path = strings.Join(paths, ", ")
	if n := len(paths) - 2; n > 1 {
		joined.expression.path = fmt.Sprintf("%s, %s and %d others", paths[0], paths[1], n)
	}
	joined.lenient = stage != "when"
	joined.sql += ")"
	joined.batch, _ = joined.batchSQL(joined.schemas)
	joined.id = joined.session + " " + joined.batch
	bound.lookups = append(bound.lookups, joined)
	c.lookups = bound.lookups
}

// sessionOf is the statement that gives a session what the meaning of an expression
// depends on.
func sessionOf(s expr.Settings) string {
	return zoneOf(s) + ", pg_catalog.set_config('lc_monetary', " + literal(cmp.Or(s.Monetary, "C")) + ", true)"
}

// zoneOf is the statement that gives a session the zone of the source: a lookup and an
// expression that names its columns make the same date of an instant, and so does the
// language. Else lookups have the settings of the stream.
func zoneOf(s expr.Settings) string {
	zone := "UTC"
	if s.Location != nil {
		zone = s.Location.String()
	}
	return "select pg_catalog.set_config('TimeZone', " + literal(zone) + ", true)"
}

// delegate compiles an expression that the source evaluates: the column of its lookup.
func (c *compiler) delegate(d *delegated, scope *expr.Scope, condition bool, u use) *expr.Expr {
	all := *scope
	all.Early = false
	compile := expr.Compile
	if condition {
		compile = expr.CompileBool
	}
	evaluated := quoted(c.lookups[d.lookup].name) + "." + d.column
	compiled, err := compile(d.masked.before+evaluated+d.masked.after, &all)
	for _, m := range mistakes(err) {
		hint := strings.ReplaceAll(m.Hint, evaluated, "x") // nobody has written that name
		c.mistakes = append(c.mistakes, u.value.Mistake(-1, hint, "%s", m.Message))
	}
	c.asked[d.lookup] = true
	u.Hidden = d.masked.before != ""
	for _, p := range d.params {
		argument, err := expr.Compile(p.local(), early(scope))
		for _, m := range mistakes(err) {
			c.mistakes = append(c.mistakes, u.value.Mistake(-1, m.Hint, "%s", m.Message))
		}
		if err == nil {
			c.addUses(argument, u)
		}
	}
	return compiled
}

// columnsOf are the columns that a delegated expression depends on.
func (c *compiler) columnsOf(d *delegated, scope *expr.Scope) []expr.Column {
	var all []expr.Column
	for _, p := range d.params {
		if argument, err := expr.Compile(p.local(), early(scope)); err == nil {
			all = append(all, argument.Columns()...)
		}
	}
	return all
}
