package mapping

import (
	"cmp"
	"fmt"
	"strings"

	"gancho/cdc"
	"gancho/mapping/expr"
)

// loaded is a catalogue as the binder needs it. Its types and tables have numbers of its own.
type loaded struct {
	*Catalogue
	types   map[string]*cdc.Type
	tables  map[cdc.Name]*cdc.Table
	allowed map[uint32]map[string][]string
}

// firstOID is beyond those that a server gives in practice.
const firstOID = 1 << 31

func (c *Catalogue) load() (*loaded, error) {
	l := &loaded{Catalogue: c, types: map[string]*cdc.Type{}, tables: map[cdc.Name]*cdc.Table{}, allowed: map[uint32]map[string][]string{}}
	kinds := map[string]cdc.TypeKind{}
	for kind, name := range kindNames {
		kinds[name] = kind
	}
	for i, saved := range c.Types {
		name, err := cdc.ParseName(saved.Name)
		kind, known := kinds[saved.Kind]
		if err != nil || !known {
			return nil, fmt.Errorf("type %q is not one", saved.Name)
		}
		l.types[saved.Name] = &cdc.Type{
			OID: firstOID + uint32(i), Schema: name.Schema, Name: name.Name, Kind: kind, TypeMod: -1, Labels: saved.Labels, Delim: ',',
			Extension: saved.Extension, IsText: saved.IsText, Equals: saved.Equals,
		}
	}
	for _, saved := range c.Types {
		t := l.types[saved.Name]
		if saved.Of != "" {
			var err error
			if t.Elem, t.TypeMod, err = l.typeOf(saved.Of); err != nil {
				return nil, err
			}
		}
		for _, f := range saved.Fields {
			field, _, err := l.typeOf(f.Type)
			if err != nil {
				return nil, err
			}
			t.Fields = append(t.Fields, cdc.Field{Name: f.Name, Type: field})
		}
	}
	for i, saved := range c.Tables {
		if err := l.addTable(firstOID+uint32(i), saved); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func (l *loaded) addTable(oid uint32, saved CatalogueTable) error {
	name, err := cdc.ParseName(saved.Name)
	if err != nil || len(saved.Identity) != 1 || len(saved.Kind) > 1 {
		return fmt.Errorf("table %q is not one", saved.Name)
	}
	t := &cdc.Table{
		Relation: &cdc.Relation{OID: oid, Schema: name.Schema, Name: name.Name, ReplicaIdentity: saved.Identity[0]},
		Kind:     cmp.Or(saved.Kind, "r")[0], Persistence: 'p', Inherited: len(saved.Heirs) > 0, PrimaryKey: saved.PrimaryKey, Generated: saved.Generated, Collations: map[string]cdc.Collation{},
		NotNull: map[string]bool{}, Storage: map[string]string{}, ToastTarget: saved.ToastTarget,
	}
	l.allowed[oid] = map[string][]string{}
	if t.Generated == nil {
		t.Generated = map[string]string{}
	}
	for _, c := range saved.Columns {
		column, err := l.column(c)
		if err != nil {
			return fmt.Errorf("table %s: %w", saved.Name, err)
		}
		column.Key = c.Identity || saved.Identity == "f"
		t.Relation.Columns = append(t.Relation.Columns, column)
		if c.NotNull {
			t.NotNull[c.Name] = true
		}
		if c.Storage != "" {
			t.Storage[c.Name] = c.Storage
		}
		if c.Values != nil {
			l.allowed[oid][c.Name] = c.Values
		}
		if c.Collation != "" {
			own, err := cdc.ParseName(c.Collation)
			if err != nil {
				return fmt.Errorf("table %s: %w", saved.Name, err)
			}
			t.Collations[c.Name] = cdc.Collation{Schema: own.Schema, Name: own.Name, Deterministic: !c.Loose}
		}
	}
	l.tables[name] = t
	return nil
}

func (l *loaded) column(c CatalogueColumn) (cdc.Column, error) {
	t, mod, err := l.typeOf(c.Type)
	return cdc.Column{Name: c.Name, Type: t, TypeMod: mod}, err
}

// typeOf is the type that a text of the file names, with its modifier.
func (l *loaded) typeOf(text string) (*cdc.Type, int32, error) {
	name, mods, modified := text, "", false
	if strings.HasSuffix(text, ")") {
		at := strings.LastIndexByte(text, '(')
		if at > 0 {
			name, mods, modified = text[:at], text[at+1:len(text)-1], true
		}
	}
	t := l.types[name]
	if t == nil {
		t = expr.Builtin(name)
	}
	if t == nil {
		return nil, 0, fmt.Errorf("type %q is not among its types", text)
	}
	if !modified {
		return t, -1, nil
	}
	mod, err := unmodify(t, mods)
	return t, mod, err
}

// table is the table of a name as a rule writes it.
func (l *loaded) table(name cdc.Name) *cdc.Table {
	if name.Schema != "" {
		return l.tables[name]
	}
	for _, schema := range l.Settings.SearchPath {
		if t := l.tables[cdc.Name{Schema: schema, Name: name.Name}]; t != nil {
			return t
		}
	}
	return nil
}

func (l *loaded) partitionKey(t *cdc.Table) []string {
	for _, saved := range l.Tables {
		if saved.Name == t.Relation.TableName().String() {
			return saved.PartitionKey
		}
	}
	return nil
}

// heirs are the tables that the rules of a table apply to besides it.
func (l *loaded) heirs(of cdc.Name) []cdc.Name {
	var out []cdc.Name
	for _, saved := range l.Tables {
		if saved.Name != of.String() {
			continue
		}
		for _, heir := range saved.Heirs {
			if name, err := cdc.ParseName(heir); err == nil && l.tables[name] != nil {
				out = append(out, name)
			}
		}
	}
	return out
}
