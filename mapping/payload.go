package mapping

import (
	"strconv"

	"gancho/cdc"
	"gancho/internal/strictyaml"
)

// maxDepth bounds the nesting of a payload.
const maxDepth = 32

// field is a node of a payload as the file has it: an object or list with
// fields, or a leaf with an expression.
type field struct {
	value strictyaml.Value
	name  string // the key; empty in a list
	// path is the dotted way from data: cliente.nome, itens.0.
	path   string
	list   bool
	fields []*field
	leaf   *expression
}

func parseData(v strictyaml.Value) *field {
	if !v.IsMap() {
		v.Errorf("write an expression for each key of the payload, below data:", "data is not a mapping")
		return nil
	}
	root := &field{value: v}
	parseFields(root, v, "", 1)
	return root
}

func parseField(v strictyaml.Value, name, path string, depth int) *field {
	f := &field{value: v, name: name, path: path}
	switch {
	case depth > maxDepth:
		v.Errorf("", "the payload is nested more than %d deep", maxDepth)
	case v.IsMap() || v.IsList():
		f.list = v.IsList()
		parseFields(f, v, path+".", depth+1)
	case v.IsScalar() || v.IsNull():
		f.leaf = parseExpression(v, "data."+path)
	default:
		v.Errorf("write an expression, or null", "%q is empty", path)
	}
	return f
}

func parseFields(f *field, v strictyaml.Value, prefix string, depth int) {
	if f.list {
		for i, item := range v.List() {
			f.fields = append(f.fields, parseField(item, "", prefix+strconv.Itoa(i), depth))
		}
		return
	}
	for _, e := range v.Entries() {
		if e.Name == "" {
			e.Key.Errorf("name it", "a key of the payload is empty")
		}
		f.fields = append(f.fields, parseField(e.Value, e.Name, prefix+e.Name, depth))
	}
}

// columnRefs reads a list of column names.
func columnRefs(v strictyaml.Value, what string) []columnRef {
	var refs []columnRef
	items := v.ListOrOne()
	if len(items) == 0 {
		v.Errorf("name columns, or remove the key", "%s is an empty list", what)
	}
	for _, item := range items {
		text := item.Raw()
		if text == "" {
			continue
		}
		if text == "*" {
			item.Errorf("name each column: one that is added later must not be sent automatically", "%s cannot be *", what)
			continue
		}
		name, err := cdc.ParseName(text)
		if err != nil || name.Schema != "" {
			item.Errorf(`write the name of a column, with "double quotes" around one that is not plain lower case`, "%q is not the name of a column", text)
			continue
		}
		for _, other := range refs {
			if other.name == name.Name {
				item.Errorf("remove one", "%s is given twice", cdc.QuoteIdentifier(name.Name))
			}
		}
		refs = append(refs, columnRef{item, name.Name})
	}
	return refs
}
