package mapping

import (
	"slices"
	"strings"

	"gancho/cdc"
	"gancho/internal/strictyaml"
	"gancho/mapping/expr"
)

// group is a set of operations that see the same rows: a rule is compiled once
// for each. The bare x is new.x in the first and old.x in the second.
type group uint8

const (
	groupWrite    group = iota // insert and update
	groupDelete                // delete
	groupTruncate              // truncate: there is no row
	groups
)

func groupOf(op cdc.Op) group {
	switch op {
	case cdc.Delete:
		return groupDelete
	case cdc.Truncate:
		return groupTruncate
	}
	return groupWrite
}

func (g group) ops() opSet {
	switch g {
	case groupDelete:
		return setOf(cdc.Delete)
	case groupTruncate:
		return setOf(cdc.Truncate)
	}
	return setOf(cdc.Insert, cdc.Update)
}

// program is a rule compiled against a relation for one group of operations.
type program struct {
	when, tenant, key *expr.Expr
	// late are the conjuncts of when that are decided once lookups are read; undecided:
	// when could not be compiled.
	late      []lateCondition
	undecided bool
	// conjunct is the number of when's conjunct that each of its Parts is of.
	conjunct []uint8
	// sent are the columns that must have been, where the source evaluates tenant or key.
	sent    []expr.Column
	watch   []watched
	payload *node
	tags    []*node // whose names are the tags'
	// fallback are the columns of the primary key, for the key.
	fallback []int
	// group are the expressions of collapse by other than the primary key.
	group []*expr.Expr
	// lookups are all of the rule's; awaits: one is used.
	lookups []programLookup
	awaits  bool
	timed   *timed // nil without after
}

// lateCondition is a conjunct of when, which depends on lookups.
type lateCondition struct {
	*expr.Expr
	expression *expression
	lookups    []int
	number     uint8 // of the conjunct
}

// reason is why when is not true: a part of it was false, or null.
func (p *program) reason(part int, null bool) Verdict {
	v := Verdict{Outcome: False, Conjunct: NoConjunct}
	if null {
		v.Outcome = Null
	}
	if part >= 0 {
		v.Conjunct = p.conjunct[part]
	} else if len(p.conjunct) > 0 {
		v.Conjunct = p.conjunct[0] // there is only one
	}
	return v
}

// programLookup is a lookup and how its arguments are computed.
type programLookup struct {
	*boundLookup
	arguments []*expr.Expr
	used      bool
}

// watched is a column of watch.
type watched struct {
	index int
	// changed asks whether the values differ although their texts do; nil when
	// texts that differ are values that differ.
	changed *expr.Expr
}

// node is a compiled field.
type node struct {
	name string // the JSON key with its colon, "" in a list
	// path is the JSON string of the dotted path, for Event.Unchanged.
	path     string
	list     bool
	children []*node
	leaf     *expr.Expr
	// expression is the leaf as the file has it.
	expression *expression
	// inputs are the columns that the leaf depends on. fromRow: there are some,
	// and it names no old value, so that it has a previous value.
	inputs  []int
	fromRow bool
	// sent are the columns that must have been, where the source evaluates the leaf.
	sent []expr.Column
	// delegated is the number of the leaf's lookup, from 1, where the source evaluates it.
	delegated int
}

// compiler compiles rules against a relation. It collects all mistakes instead of
// failing at the first.
type compiler struct {
	relation   *cdc.Relation
	lookups    []*boundLookup
	settings   expr.Settings
	computed   []bool // columns of a query that are none of a table
	primaryKey []string
	hiddenKey  bool // the key is not made of it
	collations map[string]cdc.Collation
	generated  map[string]string // columns that the table has and the stream has not, with their formulas
	mistakes   []*strictyaml.Error
	uses       []use
	asked      []bool // lookups that the program at hand uses
	delegated  map[site]*delegated
	conditions map[group]*condition
	refused    map[site]bool // expressions whose mistakes are reported
}

// use is a column that a part of a rule depends on.
type use struct {
	expr.Column
	value  strictyaml.Value
	text   string // of the expression, to find the column in
	path   string
	group  group
	leaf   bool // in the payload, where an unknown value is left out
	shown  bool // leaves the bridge: payload, key, tenant
	needed bool // the old row must have been sent, not only old values of the replica identity
}

func (c *compiler) scope(r *rule, g group) *expr.Scope {
	ops := r.ops & g.ops()
	if r.after != nil { // when it is due, the row is read: as if it were inserted then
		ops = setOf(cdc.Insert)
	}
	return &expr.Scope{
		Relation: c.relation, Settings: c.settings, Collation: c.collation,
		Old: g == groupDelete || ops == setOf(cdc.Update), New: g == groupWrite,
		Generated: len(c.generated) > 0,
		Insert:    ops.has(cdc.Insert), Update: ops.has(cdc.Update), Delete: ops.has(cdc.Delete),
		Computed: c.computed,
		Lookups: mapped(c.lookups, func(l *boundLookup) expr.Lookup {
			return expr.Lookup{Name: l.name, Columns: l.columns, Computed: l.computed}
		}),
	}
}

// collation implements expr.Scope.Collation.
func (c *compiler) collation(column int) (name string, deterministic bool) {
	own := c.collations[c.relation.Columns[column].Name]
	return own.Name, own.Deterministic
}

// compile compiles a rule for a group of operations.
func (c *compiler) compile(r *rule, g group) *program {
	scope := c.scope(r, g)
	c.asked = make([]bool, len(c.lookups))
	p := &program{
		tenant: c.expression(r.tenant, scope, g, false, use{shown: true}),
		key:    c.expression(r.key, scope, g, false, use{shown: true}),
	}
	if p.key != nil {
		c.checkKey(r.key, p.key.Type())
	}
	c.condition(p, r, scope, g)
	c.after(p, r, scope, g)
	for _, e := range []*expression{r.tenant, r.key} {
		if d := c.delegated[site{e, g}]; d != nil {
			p.sent = append(p.sent, c.columnsOf(d, scope)...)
		}
	}
	p.group = c.grouped(r, early(scope), g)
	if g == groupWrite && r.ops.has(cdc.Update) {
		for _, w := range r.watch {
			if i := c.find(w); i >= 0 {
				c.watch(p, i, w.value, false)
			}
		}
		for i := range c.relation.Columns {
			if r.watchAll.Valid() {
				c.watch(p, i, r.watchAll, true)
			}
		}
	}
	root := &node{}
	for _, ref := range r.columns {
		if n := c.column(ref, scope, g); n != nil {
			root.children = append(root.children, n)
		}
	}
	if r.data != nil {
		root.children = append(root.children, c.fields(r.data.fields, scope, g)...)
	}
	p.payload = root
	p.tags = c.fields(r.tagFields(), scope, g)
	for i, n := range p.tags {
		n.name = r.tags.fields[i].name
	}
	for i, l := range c.lookups {
		p.lookups = append(p.lookups, c.lookup(l, c.asked[i], scope, g))
		p.awaits = p.awaits || c.asked[i]
	}
	if g != groupTruncate && !c.hiddenKey {
		c.fallback(p, r, g)
	}
	return p
}

// checkKey: it is known which values of the type are equal.
func (c *compiler) checkKey(e *expression, t *cdc.Type) {
	if problem := c.settings.KeyProblem(t); problem != "" {
		c.mistakes = append(c.mistakes, e.value.Mistake(0, "use another column", "%s: %s", e.path, problem))
	}
}

// condition compiles when.
func (c *compiler) condition(p *program, r *rule, scope *expr.Scope, g group) {
	when := &condition{early: r.when}
	if parts := c.conditions[g]; parts != nil {
		when = parts
	}
	p.when = c.expression(when.early, early(scope), g, true, use{})
	p.undecided = when.early != nil && p.when == nil
	var spans []span
	if r.when != nil {
		spans = conjuncts(r.when.text)
	}
	if p.when != nil {
		parts := p.when.Parts()
		if len(parts) == 0 && len(spans)-len(when.late) == 1 {
			parts = []int{firstByte(when.early.text)}
		}
		p.conjunct = mapped(parts, func(offset int) uint8 { return conjunctAt(spans, offset) })
	}
	for _, e := range when.late {
		l := lateCondition{Expr: c.expression(e, scope, g, true, use{}), expression: e, number: conjunctAt(spans, firstByte(e.text))}
		if l.Expr == nil {
			p.undecided = true
			continue
		}
		for _, column := range l.Lookups() {
			l.lookups = append(l.lookups, column.Lookup)
		}
		p.late = append(p.late, l)
	}
}

// generatedName is the formula of the generated column that a mistake is about; "": none.
func (c *compiler) generatedName(e *expression, m *expr.Error) (name, formula string) {
	named, err := cdc.ParseName(e.text[m.Offset:min(m.Offset+m.Length, len(e.text))])
	if err != nil {
		return "", ""
	}
	return named.Name, c.generated[named.Name]
}

func (c *compiler) expression(e *expression, scope *expr.Scope, g group, condition bool, u use) *expr.Expr {
	if e == nil || c.refused[site{e, g}] {
		return nil
	}
	u.value, u.text, u.path, u.group = e.value, e.text, e.path, g
	if d := c.delegated[site{e, g}]; d != nil {
		return c.delegate(d, scope, condition, u)
	}
	compile := expr.Compile
	if condition {
		compile = expr.CompileBool
	}
	compiled, err := compile(e.text, scope)
	for _, m := range mistakes(err) {
		if name, formula := c.generatedName(e, m); formula != "" {
			c.mistakes = append(c.mistakes, generatedMistake(e.value, m.Offset, name, formula))
			continue
		}
		c.mistakes = append(c.mistakes, e.value.Mistake(m.Offset, m.Hint, "%s", m.Message))
	}
	if err != nil {
		return nil
	}
	for _, l := range compiled.Lookups() {
		if l.Lookup < len(c.asked) {
			c.asked[l.Lookup] = true
		}
	}
	c.addUses(compiled, u)
	return compiled
}

// addUses records what an expression depends on, all of it hidden if the use is.
func (c *compiler) addUses(compiled *expr.Expr, u use) {
	hidden := u.Hidden
	for _, column := range compiled.Columns() {
		column.Hidden = column.Hidden || hidden
		u.Column, u.needed = column, column.Old && u.group == groupWrite
		c.uses = append(c.uses, u)
	}
}

func (c *compiler) fields(fields []*field, scope *expr.Scope, g group) []*node {
	var nodes []*node
	for _, f := range fields {
		n := &node{name: jsonKey(f.name), path: jsonString(f.path), list: f.list}
		if f.leaf != nil {
			n.expression = f.leaf
			n.leaf = c.expression(f.leaf, scope, g, false, use{leaf: true, shown: true})
			if n.leaf != nil {
				columns, lookups := n.leaf.Columns(), len(n.leaf.Lookups()) > 0
				if d := c.delegated[site{f.leaf, g}]; d != nil {
					columns, lookups = c.columnsOf(d, scope), d.joins
					n.sent, n.delegated = columns, d.lookup+1
				}
				n.inputs = mapped(columns, func(c expr.Column) int { return c.Index })
				n.fromRow = len(n.inputs) > 0 && !lookups && !slices.ContainsFunc(columns, func(c expr.Column) bool { return c.Old })
			}
		} else {
			n.children = c.fields(f.fields, scope, g)
		}
		nodes = append(nodes, n)
	}
	return nodes
}

// column compiles an item of columns: the column as it is.
func (c *compiler) column(ref columnRef, scope *expr.Scope, g group) *node {
	i := c.find(ref)
	if i < 0 {
		return nil
	}
	named := &expression{value: ref.value, text: quoted(ref.name), path: "columns." + ref.name}
	compiled, err := expr.Compile(named.text, scope)
	if err != nil {
		m := mistakes(err)[0]
		c.mistakes = append(c.mistakes, ref.value.Mistake(-1, m.Hint, "%s", m.Message))
		return nil
	}
	c.uses = append(c.uses, use{
		Column: expr.Column{Old: g == groupDelete, Index: i, Name: ref.name},
		value:  ref.value, path: named.path, group: g, leaf: true, shown: true,
	})
	return &node{name: jsonKey(ref.name), path: jsonString(ref.name), leaf: compiled, expression: named, inputs: []int{i}, fromRow: g == groupWrite}
}

// quoted always quotes: a column may be named new, or lookup.
func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// find returns the index of a column, or -1 with a mistake.
func (c *compiler) find(ref columnRef) int {
	i := c.relation.Column(ref.name)
	switch {
	case i < 0 && c.generated[ref.name] != "":
		c.mistakes = append(c.mistakes, generatedMistake(ref.value, -1, ref.name, c.generated[ref.name]))
	case i < 0:
		c.mistakes = append(c.mistakes, ref.value.Mistake(-1, c.closestColumn(ref.name), "column %q is not in table %s", ref.name, c.relation.Name))
	}
	return i
}

// generatedMistake: the stream has no generated columns before PostgreSQL 18, and
// from then on only if the publication says so.
func generatedMistake(v strictyaml.Value, offset int, name, formula string) *strictyaml.Error {
	return v.Mistake(offset, "write its formula in data: "+formula, "column %q is generated, and the stream does not carry generated columns", name)
}

func (c *compiler) closestColumn(name string) string {
	names := mapped(c.relation.Columns, func(column cdc.Column) string { return column.Name })
	if closest := strictyaml.Closest(name, names); closest != "" {
		return `did you mean "` + closest + `"?`
	}
	return ""
}

// watch adds a column to watch. With all, the rule depends on no single column: what
// has an equality that is not known here has changed when its text has.
func (c *compiler) watch(p *program, i int, place strictyaml.Value, all bool) {
	column := &c.relation.Columns[i]
	w := watched{index: i}
	if !textIsValue(column.Type) && (!all || c.settings.KeyProblem(column.Type) == "") {
		// It is evaluated for updates only, whatever else the rule is on.
		scope := &expr.Scope{Relation: c.relation, Settings: c.settings, Collation: c.collation, Old: true, New: true, Update: true}
		var err error
		w.changed, err = expr.CompileBool("changed("+quoted(column.Name)+")", scope)
		for _, m := range mistakes(err) {
			c.mistakes = append(c.mistakes, place.Mistake(-1, m.Hint, "column %q: %s", column.Name, m.Message))
		}
	}
	p.watch = append(p.watch, w)
	c.uses = append(c.uses, use{
		Column: expr.Column{Old: true, Index: i, Name: column.Name, Whole: all}, value: place, path: "watch", group: groupWrite, needed: true,
	})
}

// textIsValue: values of the type are equal only if their texts are, under the
// stream's settings and for one column's type modifier.
func textIsValue(t *cdc.Type) bool {
	t = t.Base()
	if t.Kind == cdc.KindEnum {
		return true
	}
	if t.Kind != cdc.KindBase {
		return false
	}
	switch t.Name {
	case "bool", "int2", "int4", "int8", "oid", "text", "varchar", "bpchar", "char", "name", "bytea", "uuid",
		"date", "time", "timestamp", "timestamptz", "bit", "varbit", "money":
		return t.Schema == "pg_catalog"
	}
	return false
}

// fallback finds the columns of the primary key, of which the ordering key is
// made unless the rule names another.
func (c *compiler) fallback(p *program, r *rule, g group) {
	for _, name := range c.primaryKey {
		i := c.relation.Column(name)
		if i < 0 {
			if r.key == nil {
				c.mistakes = append(c.mistakes, r.value.Mistake(-1, "write key:", "column %q of the primary key is not in table %s", name, c.relation.TableName()))
			}
			p.fallback = nil
			return
		}
		p.fallback = append(p.fallback, i)
		if problem := c.settings.KeyProblem(c.relation.Columns[i].Type); problem != "" && r.key == nil {
			c.mistakes = append(c.mistakes, r.value.Mistake(-1, "write key:", "column %q of the primary key: %s", name, problem))
		}
		if r.key == nil {
			c.uses = append(c.uses, use{
				Column: expr.Column{Old: g == groupDelete, Index: i, Name: name}, value: r.value, path: "key", group: g, shown: true,
			})
		}
	}
}
