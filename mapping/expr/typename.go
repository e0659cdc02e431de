package expr

import (
	"cmp"
	"strings"
)

// typeName parses a type with its modifiers and array bounds.
func (p *parser) typeName() typeName {
	first := p.peek()
	var t typeName
	switch {
	case first.kind == tokWord && (listed(reservedWords, first.Text) || first.Text == "setof"):
		p.unexpected("write a type")
	case first.kind == tokWord && listed(typeWords, first.Text):
		t = p.grammarType()
	default:
		t.name = p.typeIdent()
		if p.accept(".") {
			t.schema, t.name = t.name, p.typeIdent()
		}
		t.mods = p.typeMods()
	}
	p.arrayBounds(&t)
	t.place = p.from(first.Start)
	return t
}

func (p *parser) typeIdent() string {
	if k := p.peek().kind; k != tokWord && k != tokQuoted {
		p.unexpected("write a type")
	}
	return p.ident().text
}

func (p *parser) arrayBounds(t *typeName) {
	if p.accept("array") {
		t.array = true
		if !p.is("[") {
			return
		}
	}
	for p.accept("[") { // PostgreSQL ignores the number of dimensions and their sizes too
		t.array = true
		if p.peek().kind == tokInteger {
			p.next()
		}
		p.need("]")
	}
}

// typeMods parses (n) or (p, s).
func (p *parser) typeMods() []string {
	if !p.accept("(") {
		return nil
	}
	var mods []string
	for {
		if p.peek().kind != tokInteger {
			p.unexpected("write a number")
		}
		mods = append(mods, p.next().Text)
		if !p.accept(",") {
			p.need(")")
			return mods
		}
	}
}

// grammarNames are the names in pg_type of what the grammar calls otherwise.
var grammarNames = map[string]string{
	"int": "int4", "integer": "int4", "smallint": "int2", "bigint": "int8", "real": "float4", "boolean": "bool",
	"decimal": "numeric", "dec": "numeric",
}

// grammarType parses the types that the grammar spells with keywords.
func (p *parser) grammarType() (t typeName) {
	if w := p.peek().Text; w == "national" || w == "nchar" || w == "bit" {
		p.unexpected("use text")
	}
	word := p.next().Text
	switch word {
	case "double":
		t.name = "float8"
		p.need("precision")
	case "float":
		t.name = p.floatType()
	case "character", "char", "varchar":
		return p.characterType(word)
	case "timestamp", "time":
		t.name = word
		t.mods = p.typeMods()
		if p.accept("with", "time", "zone") {
			t.name += "tz"
		} else {
			p.accept("without", "time", "zone")
		}
	case "interval", "decimal", "dec", "numeric":
		t.name = cmp.Or(grammarNames[word], word)
		t.mods = p.typeMods()
	default:
		t.name = grammarNames[word]
	}
	return t
}

// floatType parses the n of float(n) and returns the name of the type.
func (p *parser) floatType() string {
	at := p.peek()
	mods := p.typeMods()
	if len(mods) == 0 {
		return "float8"
	}
	n := strings.TrimLeft(mods[0], "0")
	switch {
	case len(mods) > 1 || n == "" || len(n) > 2 || len(n) == 2 && n > "53":
		p.fault(at, "write real or double precision", "precision of float must be from 1 to 53")
	case len(n) == 1 || n <= "24":
		return "float4"
	}
	return "float8"
}

func (p *parser) characterType(word string) (t typeName) {
	t.name = "bpchar"
	if word == "varchar" || p.accept("varying") {
		t.name = "varchar"
	}
	at := p.peek()
	if t.mods = p.typeMods(); len(t.mods) > 1 {
		p.fault(at, "", "a character type has one length")
	}
	if t.name == "bpchar" && t.mods == nil {
		t.mods = []string{"1"} // char alone is char(1)
	}
	return t
}

// The keyword classes of PostgreSQL 15 (pg_get_keywords): reserved words need
// quotes everywhere, column keywords cannot name functions, and function
// keywords cannot name columns.
const (
	reservedWords = " all analyse analyze and any array as asc asymmetric both case cast check collate column constraint create " +
		"current_catalog current_date current_role current_time current_timestamp current_user default deferrable desc distinct do " +
		"else end except false fetch for foreign from grant group having in initially intersect into lateral leading limit localtime " +
		"localtimestamp not null offset on only or order placing primary references returning select session_user some symmetric " +
		"table then to trailing true union unique user using variadic when where window with "
	columnWords = " between bigint bit boolean char character coalesce dec decimal exists extract float greatest grouping inout int " +
		"integer interval least national nchar none normalize nullif numeric out overlay position precision real row setof smallint " +
		"substring time timestamp treat trim values varchar xmlattributes xmlconcat xmlelement xmlexists xmlforest xmlnamespaces " +
		"xmlparse xmlpi xmlroot xmlserialize xmltable "
	// typeWords begin a type by grammar rather than by the catalogue.
	typeWords = " int integer smallint bigint real boolean double float decimal dec numeric national nchar bit character char varchar " +
		"timestamp time interval "
	functionWords = " authorization binary collation concurrently cross current_schema freeze full ilike inner is isnull join left " +
		"like natural notnull outer overlaps right similar tablesample verbose "
)

// listed reports whether a word stands in a list, which begins and ends with a blank.
func listed(list, word string) bool { return strings.Contains(list, " "+word+" ") }
