package mapping

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

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

// piece is a part of a batch's text that is copied from the lookup's.
type piece struct{ at, from, to int }

// edit is what a batch has instead of a part of the lookup's text.
type edit struct {
	start, end int
	text       string
}

// arguments are the columns of the change that the query names, and what else it takes
// from it, each once.
func (l *lookup) arguments() []sqlParam {
	var out []sqlParam
	add := func(p sqlParam) {
		if argument(out, &p) < 0 {
			out = append(out, p)
		}
	}
	for _, p := range l.params {
		if p.row == nil {
			add(p)
		}
		for _, column := range p.row {
			add(column)
		}
	}
	return out
}

func argument(all []sqlParam, p *sqlParam) int {
	return slices.IndexFunc(all, func(o sqlParam) bool { return o.local() == p.local() })
}

// inBatch is what a batch has in the place of a parameter.
func inBatch(arguments []sqlParam, p *sqlParam) string {
	if p.row == nil {
		return "_g._c" + strconv.Itoa(argument(arguments, p)+1)
	}
	if p.spread {
		return strings.Join(mapped(p.row, func(column sqlParam) string { return inBatch(arguments, &column) }), ", ")
	}
	// By name, through JSON, so that the table may get more columns, which are null then.
	// That of the null row is there for the error when it has lost one, or its type is
	// another. Functions with a list of arguments would have at most 100.
	row := "null::" + quoted(p.rowType.Schema) + "." + quoted(p.rowType.Name)
	members := mapped(p.row, func(column sqlParam) string {
		value := fmt.Sprintf("coalesce(%s, (%s).%s)::pg_catalog.text", inBatch(arguments, &column), row, quoted(column.column))
		if base := column.typ.Base(); base.Schema != "pg_catalog" || base.Name != "json" && base.Name != "jsonb" {
			value = "pg_catalog.to_json(" + value + ")::pg_catalog.text"
		}
		return fmt.Sprintf("pg_catalog.concat(%s, coalesce(%s, 'null'))", literal(jsonString(column.column)+":"), value)
	})
	return fmt.Sprintf("pg_catalog.json_populate_record(%s, pg_catalog.concat('{', pg_catalog.array_to_string(array[%s], ','), '}')::pg_catalog.json)", row, strings.Join(members, ", "))
}

// batchSQL wraps the query so that it runs for many changes at once. The inner
// query stays a subquery, which makes it a single SELECT: PostgreSQL has no
// other statement there. The edits are made besides those for its arguments.
func (l *lookup) batchSQL(edits []edit) (string, []piece) {
	if l.scheduled {
		return l.scheduledSQL(time.Unix(0, 0), edits, " limit 0")
	}
	arguments := l.arguments()
	edits = slices.Clone(edits)
	for _, p := range l.params {
		edits = append(edits, edit{p.start, p.end, inBatch(arguments, &p)})
	}
	var b strings.Builder
	b.WriteString("select _g._n, _r.* from (select n as _n")
	for i, a := range arguments {
		fmt.Fprintf(&b, ", %s as _c%d", a.value("c"+strconv.Itoa(i+1)), i+1)
	}
	b.WriteString(" from unnest(")
	for i := range arguments {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "$%d::text[]", i+1)
	}
	if len(arguments) == 0 {
		b.WriteString("array['']")
	}
	b.WriteString(") with ordinality as _u(")
	for i := range max(1, len(arguments)) {
		fmt.Fprintf(&b, "c%d, ", i+1)
	}
	b.WriteString("n)) _g ")
	join, on := "left join lateral (\n", "\n) _r on true"
	if l.expression != nil { // which has one row
		join, on = "cross join lateral (\n", "\n) _r"
	}
	b.WriteString(join)
	pieces := l.copySQL(&b, edits)
	b.WriteString(on)
	return b.String(), pieces
}

// copySQL copies the query with edits, which it sorts.
func (l *lookup) copySQL(b *strings.Builder, edits []edit) []piece {
	slices.SortFunc(edits, func(a, b edit) int { return a.start - b.start })
	var pieces []piece
	from := 0
	copyTo := func(to int) {
		pieces = append(pieces, piece{b.Len(), from, to})
		b.WriteString(l.sql[from:to])
	}
	for _, e := range edits {
		copyTo(e.start)
		pieces = append(pieces, piece{b.Len(), e.start, e.start})
		b.WriteString(e.text)
		from = e.end
	}
	copyTo(len(l.sql))
	return pieces
}

// offset is where a byte of a batch's text stands in the lookup's, -1 if in none.
func offset(pieces []piece, at int) int {
	found := -1
	for _, p := range pieces {
		if at >= p.at {
			found = min(p.from+at-p.at, p.to)
		}
	}
	return found
}

// lookups checks the lookups of a rule on the server, and returns those without
// a mistake.
func (b *binder) lookups(ctx context.Context, r *rule, t *cdc.Table) ([]*boundLookup, error) {
	var out []*boundLookup
	for _, written := range r.lookups {
		l := *written
		l.params = slices.Clone(l.params)
		mistakes := len(b.errors)
		for i := range l.params {
			p := &l.params[i]
			if column := t.Relation.Column(p.column); column >= 0 {
				p.typ = t.Relation.Columns[column].Type
			} else if argument(l.params[:i], p) < 0 {
				b.lookupColumnMistake(&l, *p, t)
			}
		}
		if len(b.errors) > mistakes {
			continue
		}
		bound, _, err := b.prepareLookup(ctx, t, &l, nil)
		if err == nil && bound != nil {
			if err = b.denyLookup(ctx, bound, t); err == nil {
				err = b.noteBodies(ctx, r, bound)
			}
			out = append(out, bound)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (b *binder) lookupColumnMistake(l *lookup, p sqlParam, t *cdc.Table) {
	if formula := t.Generated[p.column]; formula != "" {
		b.errors = append(b.errors, generatedMistake(l.value, p.start, p.column, formula))
		return
	}
	c := compiler{relation: t.Relation}
	b.mistake(l.value, p.start, c.closestColumn(p.column), "column %q is not in table %s", p.column, t.Relation.Name)
}

// computed says which fields are not columns of a table: the server names their
// table, which may be a view.
func (b *binder) computed(ctx context.Context, fields []pgconn.FieldDescription) (computed []bool, err error) {
	tables := mapped(fields, func(f pgconn.FieldDescription) uint32 { return f.TableOID })
	err = b.conn.QueryRow(ctx, `
		select coalesce(array_agg(not coalesce(relkind in ('r', 'p', 'f'), false) order by n), '{}')
		from unnest($1::oid[]) with ordinality u(t, n) left join pg_catalog.pg_class c on c.oid = t`, tables).Scan(&computed)
	return computed, err
}

// prepareLookup has the server check a lookup and describe its result. It
// returns nil when the server refuses it, with the SQLSTATE. names, which may be nil,
// gives the name at an offset of its text, which the server does not know, a meaning.
func (b *binder) prepareLookup(ctx context.Context, t *cdc.Table, l *lookup, names func(at int) bool) (*boundLookup, string, error) {
	if b.saved != nil {
		return b.savedQuery(t, l, names)
	}
	var named []int
	batch, pieces := l.batchSQL(l.schemas)
	fields, err := describe(ctx, b.conn, b.room.path, batch)
	for err != nil {
		pg, at := l.refusedAt(err, batch, pieces)
		if pg == nil || b.conn.IsClosed() {
			return nil, "", l.unprepared(err)
		}
		unknown := pg.Code == cdc.CodeUndefinedColumn || pg.Code == cdc.CodeUndefinedTable
		if names != nil && unknown && at >= 0 && names(at) {
			named = append(named, at)
		} else {
			schema, qualifyError := b.qualify(ctx, l, pg, at)
			if qualifyError != nil {
				return nil, "", qualifyError
			}
			if schema == "" || slices.ContainsFunc(l.schemas, func(e edit) bool { return e.start == at+l.lead }) {
				return nil, pg.Code, b.refuseLookup(ctx, l, pg, at)
			}
			l.schemas = append(l.schemas, edit{at + l.lead, at + l.lead, schema})
		}
		batch, pieces = l.batchSQL(l.schemas)
		fields, err = describe(ctx, b.conn, b.room.path, batch)
	}
	bound := &boundLookup{lookup: l, batch: batch, place: l.value.Place(), session: zoneOf(b.settings)}
	bound.id = l.cache.String() + " " + bound.session + " " + batch
	oids := mapped(fields, func(f pgconn.FieldDescription) uint32 { return f.DataTypeOID })
	if err := b.types.Load(ctx, b.conn, oids...); err != nil {
		return nil, "", l.unprepared(err)
	}
	for i, f := range fields[1:] {
		if slices.ContainsFunc(bound.columns, func(c cdc.Column) bool { return c.Name == f.Name }) {
			b.mistake(l.value, -1, "give one another name with AS", "%s has two columns %q", l.title(), f.Name)
			return nil, "", nil
		}
		bound.columns = append(bound.columns, cdc.Column{Name: f.Name, Type: b.types.Lookup(oids[i+1]), TypeMod: f.TypeModifier})
	}
	if bound.computed, err = b.computed(ctx, fields[1:]); err != nil {
		return nil, "", l.unprepared(err)
	}
	if b.room.doubtful || len(b.denied) > 0 || l.expression != nil {
		if bound.reads, err = readsOf(ctx, b.conn, b.room.path, batch); err != nil {
			return nil, "", fmt.Errorf("read what %s reads: %w", l.title(), err)
		}
	}
	mistakes := len(b.errors)
	if b.room.doubtful {
		err = b.checkCalls(ctx, l, bound.reads)
	}
	if l.expression != nil && err == nil {
		err = b.checkVolatile(ctx, l, bound.reads)
	}
	if err != nil || len(b.errors) > mistakes {
		return nil, "", err // what it would call must not run
	}
	if err := tryBatch(ctx, b.conn, b.room.path, batch, len(l.arguments())); err != nil && !(b.options.Reader != nil && cdc.FaultOf(err) == cdc.FaultDenied) {
		pg, at := l.refusedAt(err, batch, pieces)
		if pg == nil || b.conn.IsClosed() {
			return nil, "", l.unprepared(err)
		}
		refused := cdc.FaultOf(err) == cdc.FaultDenied
		if err = b.refuseLookup(ctx, l, pg, at); err != nil || !refused {
			return nil, pg.Code, err
		}
		b.denials++ // the rest of the rule is looked at as well
	}
	b.saveQuery(t, bound, l.sql, named)
	return bound, "", nil
}

// refusedAt is the server's refusal of a batch, nil if it is none that lasts, and the offset of
// its place in the lookup's text, -1 without one.
func (l *lookup) refusedAt(err error, batch string, pieces []piece) (pg *pgconn.PgError, at int) {
	pg, _ = errors.AsType[*pgconn.PgError](err)
	if passes(err) {
		return nil, -1
	}
	if pg == nil || pg.Position == 0 {
		return pg, -1
	}
	at = offset(pieces, byteOffset(batch, int(pg.Position)-1)) - l.lead
	if at < 0 || at > len(l.text) {
		at = -1
	}
	return pg, at
}

// unprepared is an error that is no mistake of the lookup, with its place.
func (l *lookup) unprepared(err error) error {
	return fmt.Errorf("%s: prepare %s: %w", l.value.Place(), l.title(), err)
}

// passes reports whether an error of a query that is tried says nothing of the query, as that of a
// table that is locked. One that takes longer than statement_timeout does, with no row to read,
// will again.
func passes(err error) bool {
	fault := cdc.FaultOf(err)
	return fault.Passing() && fault != cdc.FaultTimeout
}

// refuseLookup is the mistake of a lookup that the server refuses.
func (b *binder) refuseLookup(ctx context.Context, l *lookup, pg *pgconn.PgError, at int) error {
	if cdc.FaultOf(pg) == cdc.FaultDenied {
		batch, _ := l.batchSQL(l.schemas)
		return b.refuseDenied(ctx, "privilege.lookup", l.value, at, pg, batch, l.title())
	}
	r, err := b.lookupRemedy(ctx, l, pg, at)
	if err == nil {
		b.propose("lookup.refused", l.value, at, r, "%s: %s", l.title(), pg.Message)
	}
	return err
}

// lookupRemedy is what to do about the server's refusal of a lookup, at the offset
// of its text.
func (b *binder) lookupRemedy(ctx context.Context, l *lookup, pg *pgconn.PgError, at int) (remedy, error) {
	switch {
	case pg.Code == cdc.CodeUndefinedTable && at >= 0:
		if name, err := cdc.ParseName(writtenName.FindString(l.text[at:])); err == nil {
			return b.closestTable(ctx, name, l.text)
		}
	case pg.Code == cdc.CodeUndefinedFunction && at >= 0:
		if hint, err := b.unresolvedHint(ctx, l.text[at:]); err != nil || hint != "" {
			return words("%s", hint), err
		}
		if r, err := b.closestFunction(ctx, l.text[at:]); err != nil || !r.empty() {
			return r, err
		}
	}
	if l.expression != nil && (pg.Code == cdc.CodeGrouping || pg.Code == cdc.CodeUnsupported) {
		return words("an expression has one value, of one row; write a subquery: (select ... from ...)"), nil
	}
	if undefined := pg.Code == cdc.CodeUndefinedTable || pg.Code == cdc.CodeUndefinedObject || pg.Code == cdc.CodeUndefinedFunction; undefined && at < 0 && len(b.room.outside) > 0 {
		// It is in a function, below a view perhaps.
		return words("set the search_path of the function that names it (ALTER FUNCTION ... SET search_path); %s", openHint(b.room.outside[0])), nil
	}
	return words("%s", refusalHint(pg)), nil
}

// writtenName is the name of a table at the beginning of a text, identifier one
// of the parts of any.
var (
	identifier  = regexp.MustCompile(`"[^"]*"|[\pL_][\pL\pN_$]*`)
	writtenName = regexp.MustCompile(`^("[^"]*"|[\pL\pN_$])+(\.("[^"]*"|[\pL\pN_$])+)?`)
)

// describe prepares a batch, whose names resolve along the path. Nothing of it runs.
func describe(ctx context.Context, conn *pgx.Conn, path, batch string) (fields []pgconn.FieldDescription, err error) {
	err = enter(ctx, conn, path, func() error {
		d, err := conn.PgConn().Prepare(ctx, "", batch, nil)
		if err == nil {
			fields = d.Fields
		}
		return err
	})
	return fields, err
}

// tryBatch runs a batch for no change: only then does the server check privileges, and
// that nothing is written or locked. What it calls may run.
func tryBatch(ctx context.Context, conn *pgx.Conn, path, batch string, arguments int) error {
	return enter(ctx, conn, path, func() error {
		return conn.PgConn().ExecParams(ctx, batch, emptyArrays(arguments), nil, nil, nil).Read().Err
	})
}

// emptyArrays are arguments for no change.
func emptyArrays(n int) [][]byte { return slices.Repeat([][]byte{[]byte("{}")}, n) }

// refusalHint says what to do about a query that the server refuses.
func refusalHint(err error) string {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case !ok:
		return ""
	case cdc.FaultOf(err) != cdc.FaultDenied:
		return ownHint(pg)
	}
	return "grant what it needs to the role that reads (of source.lookup_dsn, or source.dsn without it)"
}

// byteOffset turns a number of characters into one of bytes.
func byteOffset(s string, characters int) int {
	at := 0
	for range characters {
		_, n := utf8.DecodeRuneInString(s[at:])
		at += n
	}
	return at
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
