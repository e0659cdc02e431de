package draft

import (
	"slices"
	"strings"
	"unicode"
)

// byName finds tables by what the names of columns say that they refer to.
type byName struct {
	// things are the tables by the names of what a row of them is, in all forms; keys are they by the
	// column that alone is their key.
	things, keys map[string][]*table
}

func newByName(tables []*table) *byName {
	b := &byName{map[string][]*table{}, map[string][]*table{}}
	for _, t := range tables {
		if t.root != nil || len(t.key) != 1 || t.byFormula() || t.kind != "r" && t.kind != "p" {
			continue
		}
		for _, thing := range forms(withoutWords(snake(t.Name.Name), prefixWords())) {
			b.things[thing] = append(b.things[thing], t)
		}
		key := plain(t.key[0])
		b.keys[key] = append(b.keys[key], t)
	}
	return b
}

// prefixWords begin the names of tables by old naming rules, keyWords say that a column refers to a row.
func prefixWords() []string { return []string{"tb", "tbl", "tab", "cad", "t"} }

func keyWords() []string {
	return []string{"id", "cod", "codigo", "cd", "code", "fk", "key", "ref", "idref"}
}

// guessReferences finds what the names of a table's columns say that it refers to, where it has no foreign
// key: cliente_id, id_cliente, cod_cliente and clienteId are of a table cliente or clientes that has a key
// of one column of such a type, and so is a column that is called as the key of one table alone.
func (b *byName) guessReferences(t *table) {
	for _, c := range t.columns {
		if t.refers(c.name) != nil || len(t.key) == 1 && t.key[0] == c.name || c.array || c.generated {
			continue
		}
		if to := b.find(t, c); to != nil {
			t.guessed = append(t.guessed, &reference{columns: []string{c.name}, keys: to.key, to: to, guessed: true})
		}
	}
}

func (b *byName) find(t *table, c *column) *table {
	words := snake(c.name)
	things := withoutWords(words, keyWords())
	switch {
	case len(things) == len(words) && len(words) == 1: // idcliente, clienteid
		for _, cut := range []func(string) (string, bool){
			func(w string) (string, bool) { return strings.CutPrefix(w, "id") },
			func(w string) (string, bool) { return strings.CutPrefix(w, "cod") },
			func(w string) (string, bool) { return strings.CutSuffix(w, "id") },
		} {
			if thing, is := cut(words[0]); is && len(thing) > 2 {
				if to := b.best(t, c, b.things[thing]); to != nil {
					return to
				}
			}
		}
	case len(things) < len(words) && len(things) > 0:
		if to := b.best(t, c, b.things[strings.Join(things, "_")]); to != nil {
			return to
		}
	}
	if key := plain(c.name); len(key) > 3 && !slices.Contains(keyWords(), key) && len(b.keys[key]) == 1 {
		return b.best(t, c, b.keys[key])
	}
	return nil
}

// best is the one of the tables that fits the column: in the schema, or else one that its name finds.
func (b *byName) best(t *table, c *column, tables []*table) *table {
	var near, visible []*table
	for _, to := range tables {
		switch key := to.column(to.key[0]); {
		case kindOfKey(key) == "" || kindOfKey(key) != kindOfKey(c):
		case to.Schema == t.Schema:
			near = append(near, to)
		case to.visible:
			visible = append(visible, to)
		}
	}
	if near == nil {
		near = visible
	}
	if len(near) != 1 {
		return nil // two are no guess
	}
	return near[0]
}

// kindOfKey is the kind of a column's type: columns of one kind can be compared.
func kindOfKey(c *column) string {
	switch {
	case c.base == "int2" || isNumber(c):
		return "number"
	case isText(c):
		return "text"
	case c.base == "uuid":
		return "uuid"
	}
	return ""
}

// snake are the words of a name with its digits, without accents and in lower case.
func snake(name string) []string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		if unicode.IsUpper(r) && i > 0 && unicode.IsLower(runes[i-1]) {
			_ = b.WriteByte('_')
		}
		_, _ = b.WriteRune(r)
	}
	words := strings.FieldsFunc(b.String(), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	for i := range words {
		words[i] = plain(words[i])
	}
	return words
}

// withoutWords removes words from both ends.
func withoutWords(words, removed []string) []string {
	for len(words) > 0 && slices.Contains(removed, words[0]) {
		words = words[1:]
	}
	for len(words) > 0 && slices.Contains(removed, words[len(words)-1]) {
		words = words[:len(words)-1]
	}
	return words
}

// forms are a name with each word as it is and in the singulars that it may have, joined by _.
func forms(words []string) []string {
	all := []string{""}
	for i, w := range words {
		var longer []string
		for _, beginning := range all {
			for _, form := range append([]string{w}, singulars(w)...) {
				if i > 0 {
					form = beginning + "_" + form
				}
				if !slices.Contains(longer, form) {
					longer = append(longer, form)
				}
			}
		}
		if all = longer; len(all) > 64 { // of a name of very many words
			return all[:64]
		}
	}
	return all
}

// singulars are what a word may be the plural of, in Portuguese or English.
func singulars(w string) []string {
	var out []string
	for _, ending := range []struct{ plural, singular string }{
		{"oes", "ao"}, {"aes", "ao"}, {"ais", "al"}, {"eis", "el"}, {"ois", "ol"}, {"uis", "ul"}, {"ens", "em"}, {"ns", "m"}, {"is", "il"},
		{"ies", "y"}, {"res", "r"}, {"zes", "z"}, {"ses", "s"}, {"ches", "ch"}, {"xes", "x"}, {"s", ""},
	} {
		if stem, is := strings.CutSuffix(w, ending.plural); is && len(stem) > 1 {
			out = append(out, stem+ending.singular)
		}
	}
	return out
}
