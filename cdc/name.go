package cdc

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// maxIdentifier is the longest identifier PostgreSQL keeps, in bytes (NAMEDATALEN - 1).
const maxIdentifier = 63

// Name is the name of a table. An empty Schema means the first one in the
// connection's search_path that has such a table.
type Name struct{ Schema, Name string }

// ParseName reads a table name as SQL does: schema.table, the parts folded to
// lower case unless "Quoted", a quote inside quotes doubled.
func ParseName(s string) (Name, error) {
	var parts []string
	rest := strings.TrimSpace(s)
	for {
		part, after, err := parseIdentifier(rest)
		if err != nil {
			return Name{}, fmt.Errorf("read table name %q: %w", s, err)
		}
		parts = append(parts, part)
		if after == "" {
			break
		}
		if after[0] != '.' {
			return Name{}, fmt.Errorf("read table name %q: unexpected %q after %s; write schema.table, with names that are not plain lower case in \"double quotes\"",
				s, after, QuoteIdentifier(part))
		}
		rest = after[1:]
	}
	switch len(parts) {
	case 1:
		return Name{Name: parts[0]}, nil
	case 2:
		return Name{Schema: parts[0], Name: parts[1]}, nil
	}
	return Name{}, fmt.Errorf("read table name %q: it has %d parts; write schema.table or table", s, len(parts))
}

// MatchNames returns the names that somebody means by s, who types it at a shell, which
// takes the quotes away: those that s names as SQL reads it, whose schema it may leave out,
// or else those that are spelt like it. Its errors are those of [ParseName], where s is neither.
func MatchNames(s string, names []Name) ([]Name, error) {
	var read, spelt []Name
	asked, err := ParseName(s)
	for _, n := range names {
		if err == nil && n.Name == asked.Name && (asked.Schema == "" || asked.Schema == n.Schema) {
			read = append(read, n)
		}
		if n.Name == s || n.Schema+"."+n.Name == s {
			spelt = append(spelt, n)
		}
	}
	if len(read) > 0 {
		return read, nil
	}
	if len(spelt) > 0 {
		return spelt, nil
	}
	return nil, err
}

// parseIdentifier splits the identifier off that s begins with.
func parseIdentifier(s string) (identifier, rest string, err error) {
	if strings.HasPrefix(s, `"`) {
		return parseQuoted(s)
	}
	end := 0
	for end < len(s) && identifierByte(s[end], end == 0) {
		end++
	}
	switch {
	case s == "":
		return "", "", fmt.Errorf("a name is missing; write schema.table or table")
	case end == 0:
		_, size := utf8.DecodeRuneInString(s)
		return "", "", fmt.Errorf("%q cannot begin a name; write it in \"double quotes\"", s[:size])
	case end > maxIdentifier:
		return "", "", fmt.Errorf("%q is longer than PostgreSQL's %d bytes; write the name as \\d shows it", s[:end], maxIdentifier)
	}
	// Like PostgreSQL in a multi-byte encoding: only ASCII is folded.
	folded := []byte(s[:end])
	for i, c := range folded {
		if 'A' <= c && c <= 'Z' {
			folded[i] = c + 'a' - 'A'
		}
	}
	return string(folded), s[end:], nil
}

func parseQuoted(s string) (identifier, rest string, err error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == 0:
			return "", "", fmt.Errorf("a name cannot contain a NUL byte; remove it")
		case s[i] != '"':
			b.WriteByte(s[i])
		case i+1 < len(s) && s[i+1] == '"':
			b.WriteByte('"')
			i++
		case b.Len() == 0:
			return "", "", fmt.Errorf("a quoted name is empty; write the name between the quotes")
		case b.Len() > maxIdentifier:
			return "", "", fmt.Errorf("%q is longer than PostgreSQL's %d bytes; write the name as \\d shows it", b.String(), maxIdentifier)
		default:
			return b.String(), s[i+1:], nil
		}
	}
	return "", "", fmt.Errorf("a quoted name is not closed; write the closing double quote")
}

func identifierByte(c byte, first bool) bool {
	if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || c >= utf8.RuneSelf {
		return true
	}
	return !first && ('0' <= c && c <= '9' || c == '$')
}

// String returns the name as SQL would write it, quoted only where needed.
func (n Name) String() string {
	if n.Schema == "" {
		return QuoteIdentifier(n.Name)
	}
	return QuoteIdentifier(n.Schema) + "." + QuoteIdentifier(n.Name)
}

// QuoteIdentifier returns the identifier as SQL would write it: in double
// quotes unless it is plain lower case and no reserved word.
func QuoteIdentifier(s string) string {
	plain := s != "" && !reserved(s)
	for i := 0; i < len(s) && plain; i++ {
		c := s[i]
		plain = c < utf8.RuneSelf && identifierByte(c, i == 0) && (c < 'A' || c > 'Z')
	}
	if plain {
		return s
	}
	return pgx.Identifier{s}.Sanitize()
}

func joinNames(names []Name) string {
	texts := make([]string, len(names))
	for i, name := range names {
		texts[i] = name.String()
	}
	return strings.Join(texts, ", ")
}

func quoteIdentifiers(names []string) []string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = QuoteIdentifier(name)
	}
	return quoted
}

// reserved reports whether the word is reserved in PostgreSQL 14 to 18, which
// makes it need quotes as a table or column name.
func reserved(s string) bool {
	switch s {
	case "all", "analyse", "analyze", "and", "any", "array", "as", "asc", "asymmetric", "authorization", "between",
		"bigint", "binary", "bit", "boolean", "both", "case", "cast", "char", "character", "check", "coalesce", "collate",
		"collation", "column", "concurrently", "constraint", "create", "cross", "current_catalog", "current_date",
		"current_role", "current_schema", "current_time", "current_timestamp", "current_user", "dec", "decimal", "default",
		"deferrable", "desc", "distinct", "do", "else", "end", "except", "exists", "extract", "false", "fetch", "float",
		"for", "foreign", "freeze", "from", "full", "grant", "greatest", "group", "grouping", "having", "ilike", "in",
		"initially", "inner", "inout", "int", "integer", "intersect", "interval", "into", "is", "isnull", "join",
		"json", "json_array", "json_arrayagg", "json_exists", "json_object", "json_objectagg", "json_query",
		"json_scalar", "json_serialize", "json_table", "json_value", "lateral", "leading", "least", "left", "like",
		"limit", "localtime", "localtimestamp", "merge_action", "national", "natural", "nchar", "none", "normalize",
		"not", "notnull", "null", "nullif", "numeric", "offset", "on", "only", "or", "order", "out", "outer", "overlaps",
		"overlay", "placing", "position", "precision", "primary", "real", "references", "returning", "right", "row",
		"select", "session_user", "setof", "similar", "smallint", "some", "substring", "symmetric", "system_user",
		"table", "tablesample", "then", "time", "timestamp", "to", "trailing", "treat", "trim", "true", "union",
		"unique", "user", "using", "values", "varchar", "variadic", "verbose", "when", "where", "window", "with",
		"xmlattributes", "xmlconcat", "xmlelement", "xmlexists", "xmlforest", "xmlnamespaces", "xmlparse", "xmlpi",
		"xmlroot", "xmlserialize", "xmltable":
		return true
	}
	return false
}

// quoteLiteral returns s as an SQL string literal. The settings of a session
// that would change its meaning (standard_conforming_strings) are on.
func quoteLiteral(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
