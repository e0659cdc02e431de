package mapping

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"gancho/cdc"
	"gancho/internal/pgtext"
	"gancho/internal/strictyaml"
	"gancho/mapping/expr"
)

// Catalogue is what Bind has read of a source, as a value: with it rules are bound where
// no server is. It has the tables that the rules name, and no number that another server
// would give otherwise, so that what differs is a difference.
//
// Whether the source lets a role read, publish or replicate is not in it: that is checked
// against the source itself.
type Catalogue struct {
	Settings CatalogueSettings `yaml:"settings"`
	Types    []CatalogueType   `yaml:"types,omitempty"`
	Tables   []CatalogueTable  `yaml:"tables"`
	Queries  []CatalogueQuery  `yaml:"queries,omitempty"`
}

// CatalogueSettings decide what expressions and names mean.
type CatalogueSettings struct {
	Encoding    string   `yaml:"encoding"`
	Provider    string   `yaml:"locale_provider"`
	Collation   string   `yaml:"collation"`
	CType       string   `yaml:"ctype"`
	Monetary    string   `yaml:"lc_monetary"`
	MoneyDigits int      `yaml:"money_digits"`
	DateOrder   string   `yaml:"date_order,omitempty"` // of DateStyle
	SearchPath  []string `yaml:"search_path,flow"`
}

func (s *CatalogueSettings) dateOrder() pgtext.DateOrder {
	return pgtext.ParseDateOrder("ISO, " + s.DateOrder)
}

// CatalogueType is a type that is not one of PostgreSQL's own.
type CatalogueType struct {
	Name      string            `yaml:"name"`
	Kind      string            `yaml:"kind"`
	Of        string            `yaml:"of,omitempty"` // below: a domain's base, an array's element
	Labels    []string          `yaml:"labels,flow,omitempty"`
	Fields    []CatalogueColumn `yaml:"fields,omitempty"`
	Extension string            `yaml:"extension,omitempty"`
	IsText    bool              `yaml:"text,omitempty"`
	Equals    bool              `yaml:"equals,omitempty"`
}

// CatalogueTable is a table that rules name.
type CatalogueTable struct {
	Name         string            `yaml:"name"`
	Kind         string            `yaml:"kind,omitempty"` // pg_class.relkind; empty: r
	Identity     string            `yaml:"replica_identity"`
	PrimaryKey   []string          `yaml:"primary_key,flow,omitempty"`
	PartitionKey []string          `yaml:"partition_key,flow,omitempty"`
	Columns      []CatalogueColumn `yaml:"columns"`
	Generated    map[string]string `yaml:"generated,omitempty"`
	Heirs        []string          `yaml:"heirs,flow,omitempty"` // that its rules apply to
	ToastTarget  int               `yaml:"toast_tuple_target,omitempty"`
}

// CatalogueColumn is a column of a table or of a query's result, or a field of a type.
type CatalogueColumn struct {
	Name      string `yaml:"name"`
	Type      string `yaml:"type"` // with its modifier, as numeric(10,2)
	Identity  bool   `yaml:"identity,omitempty"`
	Collation string `yaml:"collation,omitempty"` // another than the database's
	Loose     bool   `yaml:"nondeterministic,omitempty"`
	Computed  bool   `yaml:"computed,omitempty"` // of a query: no column of a table as it is
	NotNull   bool   `yaml:"not_null,omitempty"`
	// Values are the only ones that CHECK constraints allow besides null.
	Values []string `yaml:"values,flow,omitempty"`
	// Storage is cdc.Table's.
	Storage string `yaml:"storage,omitempty"`
}

// CatalogueQuery describes the result of a lookup, or of an expression that the source
// evaluates.
type CatalogueQuery struct {
	Table   string            `yaml:"table"`
	SQL     string            `yaml:"sql"`
	Names   []int             `yaml:"columns_at,flow,omitempty"` // offsets of bare names that are columns of the table
	Columns []CatalogueColumn `yaml:"result"`
}

// MarshalYAML writes a column in one line.
func (c CatalogueColumn) MarshalYAML() (any, error) {
	type plain CatalogueColumn
	n := &yaml.Node{}
	if err := n.Encode(plain(c)); err != nil {
		return nil, err
	}
	n.Style = yaml.FlowStyle
	return n, nil
}

// catalogueHead begins the file.
const catalogueHead = "# What the rules need to know of the source, for gancho test. Written by: gancho catalogue save.\n" +
	"# gancho check compares it with the source.\n"

// Append writes the catalogue as YAML, the same for equal ones.
func (c *Catalogue) Append(dst []byte) ([]byte, error) {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := errors.Join(e.Encode(c), e.Close()); err != nil {
		return nil, fmt.Errorf("write the catalogue: %w", err)
	}
	return append(append(dst, catalogueHead...), b.Bytes()...), nil
}

// ParseCatalogue reads what Append has written.
func ParseCatalogue(name string, text []byte) (*Catalogue, error) {
	c := &Catalogue{}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(c); err != nil {
		return nil, fmt.Errorf("read %s: %w; write it again with: gancho catalogue save", name, err)
	}
	if _, err := c.load(); err != nil {
		return nil, fmt.Errorf("read %s: %w; write it again with: gancho catalogue save", name, err)
	}
	return c, nil
}

// Differences says what another catalogue has otherwise, a line each: drift is what the
// source has changed, and outdated what the file lacks, or has needlessly, because the
// rules or the replica identity of a table are others now.
func (c *Catalogue) Differences(now *Catalogue) (drift, outdated []string) {
	var out []string
	compare := func(what string, before, after any) {
		a, _ := yaml.Marshal(before)
		b, _ := yaml.Marshal(after)
		if !bytes.Equal(a, b) {
			out = append(out, fmt.Sprintf("%s was %s and is %s", what, oneLine(a), oneLine(b)))
		}
	}
	compare("settings", c.Settings, now.Settings)
	each(c.Types, now.Types, func(t CatalogueType) string { return "type " + t.Name }, &outdated, func(what string, a, b CatalogueType) { compare(what, a, b) })
	each(c.Tables, now.Tables, func(t CatalogueTable) string { return "table " + t.Name }, &outdated, func(what string, a, b CatalogueTable) {
		each(a.Columns, b.Columns, func(c CatalogueColumn) string { return what + ": column " + c.Name }, &out,
			func(what string, a, b CatalogueColumn) {
				if a.Storage != b.Storage {
					outdated = append(outdated, fmt.Sprintf("%s had storage %q and has %q", what, a.Storage, b.Storage))
				}
				a.Identity, b.Identity, a.Storage, b.Storage = false, false, "", ""
				compare(what, a, b)
			})
		if a.Identity != b.Identity {
			outdated = append(outdated, fmt.Sprintf("%s had replica identity %s and has %s", what, a.Identity, b.Identity))
		}
		if a.ToastTarget != b.ToastTarget {
			outdated = append(outdated, fmt.Sprintf("%s had toast_tuple_target %d and has %d", what, a.ToastTarget, b.ToastTarget))
		}
		a.Columns, b.Columns, a.Identity, b.Identity, a.ToastTarget, b.ToastTarget = nil, nil, "", "", 0, 0
		compare(what, a, b)
	})
	each(c.Queries, now.Queries, func(q CatalogueQuery) string { return "query of " + q.Table + ": " + oneLine([]byte(q.SQL)) }, &outdated,
		func(what string, a, b CatalogueQuery) { compare(what, a.Columns, b.Columns) })
	return out, outdated
}

// each pairs what two lists have by its name.
func each[T any](before, after []T, name func(T) string, out *[]string, both func(what string, a, b T)) {
	find := func(list []T, n string) int { return slices.IndexFunc(list, func(t T) bool { return name(t) == n }) }
	for _, a := range before {
		if i := find(after, name(a)); i >= 0 {
			both(name(a), a, after[i])
		} else {
			*out = append(*out, name(a)+" is in the file, and the rules or the source no longer have it")
		}
	}
	for _, b := range after {
		if find(before, name(b)) < 0 {
			*out = append(*out, name(b)+" is not in the file")
		}
	}
}

func oneLine(text []byte) string { return strings.Join(strings.Fields(string(text)), " ") }

// saving collects the catalogue of what a binder reads.
type saving struct {
	types   map[string]CatalogueType
	queries map[string]CatalogueQuery
	// partitioned are the partition keys, by table.
	partitioned map[uint32][]string
	// heirs are the tables that inherit from one and that its rules apply to.
	heirs map[uint32][]string
}

// catalogue is what the binder has read.
func (b *binder) catalogue() *Catalogue {
	c := &Catalogue{Settings: CatalogueSettings{
		Encoding: b.database.Encoding, Provider: cmp.Or(b.settings.Provider, "c"), Collation: b.settings.Collation, CType: b.settings.CType,
		Monetary: b.settings.Monetary, MoneyDigits: b.database.MoneyDigits,
		DateOrder: b.settings.DateOrder.String(), SearchPath: b.searchPath,
	}}
	seen := map[uint32]bool{}
	for _, t := range b.tables {
		if t == nil || seen[t.Relation.OID] {
			continue
		}
		seen[t.Relation.OID] = true
		saved := CatalogueTable{
			Name: t.Relation.TableName().String(), Identity: string(t.Relation.ReplicaIdentity), PrimaryKey: t.PrimaryKey,
			PartitionKey: b.saving.partitioned[t.Relation.OID], Generated: t.Generated, Heirs: b.saving.heirs[t.Relation.OID], ToastTarget: t.ToastTarget,
		}
		if t.Kind != 'r' {
			saved.Kind = string(t.Kind)
		}
		for _, column := range t.Relation.Columns {
			out := b.saving.column(column)
			out.Identity = column.Key && t.Relation.ReplicaIdentity != 'f'
			if own := t.Collations[column.Name]; own.Name != "" {
				out.Collation, out.Loose = cdc.Name{Schema: own.Schema, Name: own.Name}.String(), !own.Deterministic
			}
			out.NotNull, out.Values, out.Storage = t.NotNull[column.Name], b.allowed[t.Relation.OID][column.Name], t.Storage[column.Name]
			saved.Columns = append(saved.Columns, out)
		}
		c.Tables = append(c.Tables, saved)
	}
	slices.SortFunc(c.Tables, func(a, b CatalogueTable) int { return cmp.Compare(a.Name, b.Name) })
	for _, key := range slices.Sorted(maps.Keys(b.saving.queries)) {
		c.Queries = append(c.Queries, b.saving.queries[key])
	}
	for _, name := range slices.Sorted(maps.Keys(b.saving.types)) {
		c.Types = append(c.Types, b.saving.types[name])
	}
	return c
}

func (s *saving) addHeir(parent uint32, name cdc.Name) {
	if text := name.String(); !slices.Contains(s.heirs[parent], text) {
		s.heirs[parent] = append(s.heirs[parent], text)
	}
}

func (s *saving) column(c cdc.Column) CatalogueColumn {
	return CatalogueColumn{Name: c.Name, Type: s.typeName(c.Type, c.TypeMod)}
}

// typeName names a type with its modifier, and keeps what is not PostgreSQL's own.
func (s *saving) typeName(t *cdc.Type, mod int32) string {
	if own := expr.Builtin(t.Name); t.Schema == "pg_catalog" && own != nil {
		return t.Name + modifier(t, mod)
	}
	name := cdc.Name{Schema: t.Schema, Name: t.Name}.String()
	if _, known := s.types[name]; known {
		return name + modifier(t, mod)
	}
	saved := CatalogueType{Name: name, Kind: kindNames[t.Kind], Labels: t.Labels, Extension: t.Extension, IsText: t.IsText, Equals: t.Equals}
	s.types[name] = saved
	if t.Elem != nil {
		saved.Of = s.typeName(t.Elem, t.TypeMod)
	}
	for _, f := range t.Fields {
		saved.Fields = append(saved.Fields, CatalogueColumn{Name: f.Name, Type: s.typeName(f.Type, -1)})
	}
	s.types[name] = saved
	return name + modifier(t, mod)
}

// kindNames are the kinds of types in the file.
var kindNames = map[cdc.TypeKind]string{
	cdc.KindBase: "base", cdc.KindEnum: "enum", cdc.KindDomain: "domain", cdc.KindArray: "array",
	cdc.KindComposite: "composite", cdc.KindRange: "range", cdc.KindMultirange: "multirange", cdc.KindUnknown: "unknown",
}

// modifier is a type modifier as SQL has it; that of a type where SQL's form is not known
// here is the number itself.
func modifier(t *cdc.Type, mod int32) string {
	if mod < 0 {
		return ""
	}
	if t.Kind == cdc.KindArray && t.Elem != nil {
		t = t.Elem
	}
	switch t.Base().Name {
	case "numeric":
		return fmt.Sprintf("(%d,%d)", (mod-4)>>16, (mod-4)&0x7ff)
	case "varchar", "bpchar":
		return fmt.Sprintf("(%d)", mod-4)
	}
	return fmt.Sprintf("(%d)", mod)
}

// unmodify is modifier backwards.
func unmodify(t *cdc.Type, text string) (int32, error) {
	if t.Kind == cdc.KindArray && t.Elem != nil {
		t = t.Elem
	}
	first, second, two := strings.Cut(text, ",")
	n, err := strconv.ParseInt(first, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is no modifier of a type", text)
	}
	switch t.Base().Name {
	case "numeric":
		scale, err := strconv.ParseInt(second, 10, 16)
		if err != nil || !two {
			return 0, fmt.Errorf("%q is no modifier of numeric", text)
		}
		return int32(n<<16|scale) + 4, nil
	case "varchar", "bpchar":
		return int32(n) + 4, nil
	}
	return int32(n), nil
}

// loadSource reads the settings, and what lookups are run in.
func (b *binder) loadSource(ctx context.Context) (err error) {
	if s := b.saved; s != nil {
		of := s.Settings
		b.database = cdc.Settings{Encoding: of.Encoding, Collation: of.Collation, Ctype: of.CType, MoneyDigits: of.MoneyDigits}
		b.settings = expr.Settings{
			Location: b.options.Location, Collation: of.Collation, CType: of.CType, Provider: of.Provider, Monetary: of.Monetary,
			Encoding: b.options.Encoding.Counted(of.Encoding), DateOrder: of.dateOrder(),
		}
		b.searchPath = of.SearchPath
		for name := range s.tables {
			b.names = append(b.names, name)
		}
		slices.SortFunc(b.names, func(a, b cdc.Name) int { return cmp.Compare(a.String(), b.String()) })
		return nil
	}
	if b.database, err = cdc.LoadSettings(ctx, b.conn); err != nil {
		return err
	}
	if b.settings, err = languageSettings(ctx, b.conn, b.database, b.options); err != nil {
		return err
	}
	if b.room, err = loadRoom(ctx, b.conn); err != nil {
		return err
	}
	return b.conn.QueryRow(ctx, `select `+cdc.DatabasePath+`::text[]`).Scan(&b.searchPath)
}

// queryKey tells queries apart in the catalogue: what a query means may depend on the
// columns of its table.
func queryKey(table, sql string) string { return table + "\x00" + sql }

// saveQuery keeps the description of a prepared query.
func (b *binder) saveQuery(table *cdc.Table, l *boundLookup, sql string, names []int) {
	q := CatalogueQuery{Table: table.Relation.TableName().String(), SQL: sql, Names: names}
	for i, column := range l.columns {
		out := b.saving.column(column)
		out.Computed = l.computed[i]
		q.Columns = append(q.Columns, out)
	}
	b.saving.queries[queryKey(q.Table, q.SQL)] = q
}

// savedQuery is a query as the catalogue describes it. Of one that is not there the code is
// that of a refusal.
func (b *binder) savedQuery(table *cdc.Table, l *lookup, names func(at int) bool) (*boundLookup, string, error) {
	name := table.Relation.TableName().String()
	i := slices.IndexFunc(b.saved.Queries, func(q CatalogueQuery) bool { return q.Table == name && q.SQL == l.sql })
	if i < 0 {
		b.mistake(l.value, -1, "write it again: gancho catalogue save", "%s is not in the saved catalogue", l.title())
		return nil, cdc.CodeUndefinedObject, nil
	}
	saved := b.saved.Queries[i]
	bound := &boundLookup{lookup: l, place: l.value.Place()}
	for _, at := range saved.Names {
		if names == nil || at < 0 || at >= len(l.text) || !names(at) {
			return nil, "", fmt.Errorf("read the saved catalogue: no column stands at byte %d of %s; write it again with: gancho catalogue save", at, l.title())
		}
	}
	for _, c := range saved.Columns {
		column, err := b.saved.column(c)
		if err != nil {
			return nil, "", fmt.Errorf("read the saved catalogue: %w", err)
		}
		bound.columns, bound.computed = append(bound.columns, column), append(bound.computed, c.Computed)
	}
	bound.batch, _ = l.batchSQL(nil)
	bound.id = l.cache.String() + " " + bound.batch
	b.saveQuery(table, bound, l.sql, saved.Names)
	return bound, "", nil
}

// BindTo is Bind to a saved catalogue, without a source. The error is a strictyaml.Errors
// with all mistakes of all files.
func (r *Rules) BindTo(c *Catalogue) (*Ruleset, error) {
	saved, err := c.load()
	if err != nil {
		return nil, fmt.Errorf("bind rules: %w", err)
	}
	return r.bind(context.Background(), &binder{saved: saved})
}

// Catalogue is what the rules needed to know of their source.
func (rs *Ruleset) Catalogue() *Catalogue { return rs.catalogue }

// outsideCatalogue is a hint for a name that the saved catalogue has not.
func (b *binder) outsideCatalogue(name cdc.Name) string {
	var all []string
	for _, n := range b.names {
		all = append(all, n.Name)
	}
	if c := strictyaml.Closest(name.Name, all); c != "" {
		return "did you mean " + c + "?"
	}
	return "it is not in the saved catalogue; if the source has it, run: gancho catalogue save"
}
