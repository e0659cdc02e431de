package expr

import "strings"

// typeName parses a type with its modifiers and array bounds.
func (p *parser) typeName() (typeName, *syntaxError) {
	first := p.peek()
	if first.kind != tokWord && first.kind != tokQuoted {
		return typeName{}, p.unexpected("write a type")
	}
	if first.kind == tokWord && (isReserved(first.text) || first.text == "setof") {
		return typeName{}, p.unexpected("write a type")
	}
	t := typeName{}
	var fault *syntaxError
	if first.kind == tokWord && isTypeKeyword(first.text) {
		t, fault = p.grammarType()
	} else {
		t.name = p.ident().text
		if p.takePunct(".") {
			if k := p.peek().kind; k != tokWord && k != tokQuoted {
				return typeName{}, p.unexpected("write a type")
			}
			t.schema, t.name = t.name, p.ident().text
		}
		t.mods, fault = p.typeMods()
	}
	if fault != nil {
		return typeName{}, fault
	}
	fault = p.arrayBounds(&t)
	t.place = p.from(first.off)
	return t, fault
}

func (p *parser) arrayBounds(t *typeName) *syntaxError {
	if p.takeWord("array") {
		t.array = true
		if !p.isPunct("[") {
			return nil
		}
	}
	for p.takePunct("[") { // PostgreSQL ignores the number of dimensions and their sizes too
		t.array = true
		if p.peek().kind == tokInteger {
			p.next()
		}
		if fault := p.needPunct("]"); fault != nil {
			return fault
		}
	}
	return nil
}

// typeMods parses (n) or (p, s).
func (p *parser) typeMods() ([]string, *syntaxError) {
	if !p.takePunct("(") {
		return nil, nil
	}
	var mods []string
	for {
		t := p.next()
		if t.kind != tokInteger {
			p.pos--
			return nil, p.unexpected("write a number")
		}
		mods = append(mods, t.text)
		if !p.takePunct(",") {
			return mods, p.needPunct(")")
		}
	}
}

// grammarType parses the types that the grammar spells with keywords.
func (p *parser) grammarType() (t typeName, fault *syntaxError) {
	word := p.next().text
	switch word {
	case "int", "integer":
		t.name = "int4"
	case "smallint":
		t.name = "int2"
	case "bigint":
		t.name = "int8"
	case "real":
		t.name = "float4"
	case "boolean":
		t.name = "bool"
	case "double":
		t.name = "float8"
		fault = p.needWord("precision")
	case "float":
		return p.floatType()
	case "decimal", "dec", "numeric":
		t.name = "numeric"
		t.mods, fault = p.typeMods()
	case "national", "nchar", "bit":
		p.pos--
		fault = p.unexpected("use text")
	case "character", "char", "varchar":
		return p.characterType(word)
	case "timestamp", "time":
		return p.timeType(word)
	case "interval":
		t.name = word
		t.mods, fault = p.typeMods()
	}
	return t, fault
}

func (p *parser) floatType() (t typeName, fault *syntaxError) {
	at := p.peek()
	mods, fault := p.typeMods()
	if fault != nil {
		return t, fault
	}
	t.name = "float8"
	if len(mods) > 0 {
		n := strings.TrimLeft(mods[0], "0")
		switch {
		case len(mods) > 1 || n == "" || len(n) > 2 || len(n) == 2 && n > "53":
			return t, p.fault(at, "write real or double precision", "precision of float must be from 1 to 53")
		case len(n) == 1 || n <= "24":
			t.name = "float4"
		}
	}
	return t, nil
}

func (p *parser) characterType(word string) (t typeName, fault *syntaxError) {
	t.name = "bpchar"
	if word == "varchar" || p.takeWord("varying") {
		t.name = "varchar"
	}
	at := p.peek()
	if t.mods, fault = p.typeMods(); fault != nil {
		return t, fault
	}
	if len(t.mods) > 1 {
		return t, p.fault(at, "", "one length is enough")
	}
	if t.name == "bpchar" && t.mods == nil {
		t.mods = []string{"1"} // char alone is char(1)
	}
	return t, nil
}

func (p *parser) timeType(word string) (t typeName, fault *syntaxError) {
	t.name = word
	if t.mods, fault = p.typeMods(); fault != nil {
		return t, fault
	}
	switch {
	case p.takeWord("with", "time", "zone"):
		t.name += "tz"
	case p.takeWord("without", "time", "zone"):
	}
	return t, nil
}

// isTypeKeyword tells the words that begin a type by grammar rather than by
// the catalogue.
func isTypeKeyword(word string) bool {
	switch word {
	case "int", "integer", "smallint", "bigint", "real", "boolean", "double", "float", "decimal", "dec", "numeric",
		"national", "nchar", "bit", "character", "char", "varchar", "timestamp", "time", "interval":
		return true
	}
	return false
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
	functionWords = " authorization binary collation concurrently cross current_schema freeze full ilike inner is isnull join left " +
		"like natural notnull outer overlaps right similar tablesample verbose "
)

func isReserved(word string) bool        { return strings.Contains(reservedWords, " "+word+" ") }
func isColumnKeyword(word string) bool   { return strings.Contains(columnWords, " "+word+" ") }
func isFunctionKeyword(word string) bool { return strings.Contains(functionWords, " "+word+" ") }
