package mapping

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"

	"gancho/cdc"
)

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
		if f.TableOID != 0 && !slices.Contains(bound.tables, f.TableOID) {
			bound.tables = append(bound.tables, f.TableOID)
		}
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
