package mapping

import (
	"context"
	"slices"
	"strings"

	"gancho/cdc"
	"gancho/internal/strictyaml"
	"gancho/mapping/expr"
)

// table loads a table once. It is nil when the table does not exist.
func (b *binder) table(ctx context.Context, name cdc.Name) (*cdc.Table, error) {
	err := b.load(ctx, []cdc.Name{name})
	return b.tables[name], err
}

// load loads tables that are not loaded yet.
func (b *binder) load(ctx context.Context, names []cdc.Name) error {
	var missing []cdc.Name
	for _, name := range names {
		if _, known := b.tables[name]; !known && !slices.Contains(missing, name) {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if b.saved != nil {
		for _, name := range missing {
			b.tables[name] = b.saved.table(name)
			if t := b.tables[name]; t != nil {
				b.allowed[t.Relation.OID] = b.saved.allowed[t.Relation.OID]
			}
		}
		return nil
	}
	tables, err := cdc.LoadTables(ctx, b.conn, b.options.Encoding, missing)
	if err != nil {
		return err
	}
	var partial []*cdc.Table // which do not send whole old rows
	for i, t := range tables {
		if t != nil && (t.Kind == 'v' || t.Kind == 'm') {
			if err := b.loadViewTables(ctx, t); err != nil {
				return err
			}
		}
		if t != nil && t.Kind != 'p' && t.Relation.ReplicaIdentity != 'f' {
			partial = append(partial, t)
		}
		b.tables[missing[i]] = t
		b.loadAllowed(t)
	}
	return b.loadUnderFull(ctx, partial)
}

// loadUnderFull finds what REPLICA IDENTITY FULL would make fail.
func (b *binder) loadUnderFull(ctx context.Context, tables []*cdc.Table) error {
	found, err := cdc.HazardsUnderFull(ctx, b.conn, b.options.Encoding, b.options.Publication, tables)
	for _, t := range tables {
		b.underFull[t.Relation.OID] = found[t.Relation.OID]
	}
	return err
}

// named are the tables that the rules name, for which the source is asked once.
func (r *Rules) named() []cdc.Name {
	var names []cdc.Name
	for _, d := range r.deny {
		names = append(names, d.table)
	}
	for _, rule := range r.rules {
		names = append(names, rule.table)
		for _, child := range rule.children {
			names = append(names, child.table)
		}
	}
	return names
}

// existing loads a table that must exist. It returns nil, with a mistake, if it does not.
func (b *binder) existing(ctx context.Context, name cdc.Name, mistake func(hint, format string, args ...any) *strictyaml.Error) (*cdc.Table, error) {
	t, err := b.table(ctx, name)
	if t != nil || err != nil {
		return t, err
	}
	r, err := b.closestTable(ctx, name, "")
	if err != nil {
		return nil, err
	}
	b.proposeAs("table.missing", r, func(hint string) *strictyaml.Error { return mistake(hint, "table %s does not exist", name) })
	return nil, nil
}

// loadAllowed finds the columns for which CHECK constraints, their own or of their domains,
// allow a few values only, as far as that is certain.
func (b *binder) loadAllowed(t *cdc.Table) {
	if t == nil {
		return
	}
	allowed := map[string][]string{}
	b.allowed[t.Relation.OID] = allowed
	add := func(c cdc.Column, values []string) {
		if own := t.Collations[c.Name]; own.Name != "" && !own.Deterministic {
			return // equal values may have other texts
		}
		values = trimmed(c.Type, values)
		if known, twice := allowed[c.Name]; twice {
			values = slices.DeleteFunc(values, func(s string) bool { return !slices.Contains(known, s) })
		}
		allowed[c.Name] = values
	}
	for _, c := range t.Relation.Columns {
		for _, check := range t.DomainChecks[c.Name] {
			value := &cdc.Relation{Name: t.Relation.Name, Columns: []cdc.Column{{Name: "value", Type: c.Type.Base(), TypeMod: -1}}}
			for _, values := range b.allowedBy(check, value) {
				add(c, values)
			}
		}
	}
	for _, check := range t.Checks {
		for i, values := range b.allowedBy(check, t.Relation) {
			add(t.Relation.Columns[i], values)
		}
	}
}

// allowedBy are the only values, by column, that a condition allows.
func (b *binder) allowedBy(check string, rel *cdc.Relation) map[int][]string {
	e, err := expr.CompileBool(check, &expr.Scope{Relation: rel, New: true, Insert: true, Settings: b.settings})
	if err != nil {
		return nil // it says something else
	}
	return e.Allowed()
}

// trimmed are texts of a type as events have them.
func trimmed(t *cdc.Type, values []string) []string {
	if !padded(t) {
		return values
	}
	values = mapped(values, func(s string) string { return strings.TrimRight(s, " ") })
	slices.Sort(values)
	return slices.Compact(values)
}
