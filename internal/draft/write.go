package draft

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"gancho/cdc"
)

// writer writes the rule file of one table.
type writer struct {
	strings.Builder
	table *table
	event string // what its events' names begin with
	role  string // that reads, for GRANTs
}

func (w *writer) linef(format string, args ...any) {
	_, _ = fmt.Fprintf(w, format+"\n", args...) // a Builder does not fail
}

// rules are the rules for inserts, updates and deletes. Those that PostgreSQL
// would make the application's statements fail for are commented out.
func (w *writer) rules() string {
	t := w.table
	w.linef("# Rules for table %s, drafted from the catalogue. What is commented out is not sent: take the # away, or remove the line.", remark(t.Name.String()))
	w.linef("# Every column is listed. Remove those that the receivers do not need; personal data is only recognised by names.")
	if !t.identified {
		w.linef("#\n# PostgreSQL would refuse the application's UPDATE and DELETE if they were published: %s.\n# Run this first, then take the # away from the rules for them:\n#   %s", remark(w.lacking()), remark(w.identify()))
	}
	w.linef("rules:")
	w.rule("insert", "data: &row", w.data())
	prefix := ""
	if !t.identified {
		prefix = "# "
	}
	for _, op := range []string{"update", "delete"} {
		sub := &writer{table: t, event: w.event, role: w.role}
		switch {
		case op == "update" || t.identity == "f" || t.key == nil:
			sub.rule(op, "data: *row", nil)
		default:
			sub.rule(op, "data:", w.keyData())
		}
		w.linef("")
		for line := range strings.Lines(sub.String()) {
			_, _ = w.WriteString("  " + prefix + strings.TrimPrefix(line, "  "))
		}
	}
	return w.String()
}

// lacking says why updates and deletes cannot be published, identify the statement
// that changes it.
func (w *writer) lacking() string {
	if w.table.key == nil {
		return "the table has no primary key, and no unique index over columns that are not null"
	}
	return "its key is not its replica identity"
}

func (w *writer) identify() string {
	t := w.table
	switch {
	case t.kind == "p":
		return fmt.Sprintf("ALTER TABLE %s ADD PRIMARY KEY (...);", t.Name)
	case t.keyIndex != "":
		return fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY USING INDEX %s;", t.Name, cdc.QuoteIdentifier(t.keyIndex))
	case t.key != nil && t.identity != "d":
		return fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY DEFAULT;", t.Name)
	}
	return fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY FULL;  -- or add a primary key", t.Name)
}

// full is the statement after which the stream has old rows.
func (t *table) full() string {
	if t.kind == "p" {
		return "REPLICA IDENTITY FULL on it and its partitions, with the statements that gancho check prints"
	}
	return fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY FULL;", t.Name)
}

// rule writes a rule, whose payload stands below data.
func (w *writer) rule(op, data string, payload []string) {
	t := w.table
	old := ""
	if t.identity != "f" {
		old = "; needs: " + t.full()
	}
	w.linef("  - event: %s", yamlText(w.event+"."+op))
	w.linef("    table: %s", yamlText(t.written()))
	w.linef("    on: %s", op)
	if op == "update" {
		for _, s := range t.states() {
			value := s.literals[0]
			if len(s.column.labels) > 0 {
				value = s.literals[len(s.literals)-1]
			}
			w.linef("    # when: %s  # of %s%s", yamlText("became("+cdc.QuoteIdentifier(s.column.name)+", "+value+")"), remark(strings.Join(s.literals, ", ")), remark(old))
		}
		if names := w.watched(); len(names) > 0 {
			w.linef("    # watch: [%s]  # updates that change none of them cause no event%s", strings.Join(names, ", "), remark(old))
		}
	}
	if guess := t.tenant(); guess != nil {
		if op != "delete" || slices.Contains(t.key, guess.column) {
			old = ""
		}
		w.linef("    # tenant: %s  # a guess, %d of 100: %s; endpoints subscribe by it%s", yamlText(cdc.QuoteIdentifier(guess.column)), guess.score, remark(guess.reason), remark(old))
	}
	switch {
	case t.keyIndex != "":
		w.linef("    key: %s  # unique index %s", yamlText(keyExpression(t.key)), remark(t.keyIndex))
	case t.key == nil:
		w.linef("    # No key: all events of the table wait for each other, unless key: says what must stay in order.")
	default:
		w.linef("    # Ordered by the primary key (%s).", remark(strings.Join(t.key, ", ")))
	}
	lookups := t.lookups()
	if op != "delete" && len(lookups) > 0 {
		label := "lookup: &lookup"
		if op == "update" {
			w.linef("    # lookup: *lookup")
		} else {
			w.linef("    # %s  # values of other tables; the leaves for them are at the end of data", label)
			for _, l := range lookups {
				w.linef("    #   %s: %s%s", l.name, yamlText(l.query()), w.grant(l))
			}
		}
	}
	w.linef("    %s", data)
	for _, line := range payload {
		w.linef("      %s", line)
	}
}

func (w *writer) grant(l *drafted) string {
	if l.to.readable {
		return ""
	}
	return remark(fmt.Sprintf("  # needs: GRANT SELECT ON %s TO %s;", l.to.Name, cdc.QuoteIdentifier(w.role)))
}

// watched are the columns that are sent, without those of the key.
func (w *writer) watched() []string {
	var names []string
	for _, c := range w.table.columns {
		if _, _, send := w.table.leaf(c); send && !slices.Contains(w.table.key, c.name) {
			names = append(names, flowText(cdc.QuoteIdentifier(c.name)))
		}
	}
	return names
}

// leaf is that of a column, which is always sent if it is only a number by which rows
// are found.
func (t *table) leaf(c *column) (expression, why string, send bool) {
	expression, why, send = leaf(c)
	kind, _ := c.personal()
	if !send && !c.generated && kind.digits == "" && (slices.Contains([]string{"int2", "int4", "int8", "uuid"}, c.base) && !c.array) &&
		(slices.Contains(t.key, c.name) || t.refers(c.name) != nil) {
		return expression, "", true
	}
	return expression, why, send
}

// data is the payload of all columns, and that of the lookups, commented out.
func (w *writer) data() []string {
	t := w.table
	var entries []entry
	active := false
	for _, c := range t.columns {
		expression, why, send := t.leaf(c)
		active = active || send
		entries = append(entries, entry{c.name, expression, w.about(c, why), !send})
	}
	for _, l := range t.lookups() {
		for _, column := range l.shows {
			shown, _, send := leaf(column)
			if !send {
				continue
			}
			name := cdc.QuoteIdentifier(column.name)
			entries = append(entries, entry{l.name + "_" + column.name, strings.Replace(shown, name, l.name+"."+name, 1), "of " + l.to.written(), true})
		}
	}
	if !active {
		entries = append(entries, constant(t))
	}
	return lines(entries)
}

// keyData is the payload of a deleted row, of which the stream has the key.
func (w *writer) keyData() []string {
	t := w.table
	var entries []entry
	active := false
	for _, name := range t.key {
		c := t.column(name)
		expression, why, send := t.leaf(c)
		active = active || send
		entries = append(entries, entry{name, expression, w.about(c, why), !send})
	}
	if !active {
		entries = append(entries, constant(t))
	}
	return append(lines(entries), "# the other columns need: "+remark(t.full()))
}

// constant is a payload of a table of which no column is sent.
func constant(t *table) entry {
	name := "table"
	for t.column(name) != nil {
		name += "_"
	}
	return entry{name, "'" + strings.ReplaceAll(t.Name.String(), "'", "''") + "'", "no column is sent", false}
}

// about is the remark about a column.
func (w *writer) about(c *column, why string) string {
	text := c.kind
	if c.notNull {
		text += " not null"
	}
	if r := w.table.refers(c.name); r != nil {
		text += fmt.Sprintf(", refers to %s (%s)", r.to.written(), strings.Join(r.keys, ", "))
	}
	if len(c.values) > 0 && len(c.labels) > 0 {
		text += ": " + strings.Join(c.values, ", ")
	}
	if why != "" {
		text += "; " + why
	}
	return text
}

// entry is a line of a payload.
type entry struct {
	name, expression, about string
	out                     bool
}

// lines align the remarks.
func lines(entries []entry) []string {
	texts := make([]string, len(entries))
	width := 0
	for i, e := range entries {
		if texts[i] = yamlText(e.name) + ": " + yamlText(e.expression); e.out {
			texts[i] = "# " + texts[i]
		}
		width = max(width, min(48, utf8.RuneCountInString(texts[i])))
	}
	for i, e := range entries {
		texts[i] += strings.Repeat(" ", max(0, width-utf8.RuneCountInString(texts[i]))) + "  # " + remark(e.about)
	}
	return texts
}

// keyExpression is the ordering key that columns are.
func keyExpression(columns []string) string {
	parts := make([]string, len(columns))
	for i, c := range columns {
		if parts[i] = cdc.QuoteIdentifier(c); len(columns) > 1 {
			parts[i] += "::text"
		}
	}
	return strings.Join(parts, " || ',' || ")
}

// drafted is a lookup by a foreign key.
type drafted struct {
	*reference
	name  string
	shows []*column
}

// lookups are the foreign keys of a table as lookups, at most 8.
func (t *table) lookups() []*drafted {
	var out []*drafted
	taken := map[string]bool{}
	for _, c := range t.columns {
		taken[c.name] = true
	}
	for _, r := range t.references {
		l := &drafted{reference: r, shows: r.to.describing()}
		if len(l.shows) == 0 || len(out) == 8 {
			continue
		}
		l.name = lookupName(r)
		for n, name := 2, l.name; taken[l.name] || cdc.QuoteIdentifier(l.name) != l.name; n++ {
			l.name = name + "_" + strconv.Itoa(n)
		}
		taken[l.name] = true
		out = append(out, l)
	}
	return out
}

// lookupName is the column's name without what says that it refers to another table.
func lookupName(r *reference) string {
	name := slug(r.to.Name.Name)
	if len(r.columns) == 1 {
		parts := strings.FieldsFunc(slug(r.columns[0]), func(c rune) bool { return c == '_' })
		parts = slices.DeleteFunc(parts, func(p string) bool {
			return slices.Contains([]string{"id", "cod", "codigo", "cd", "fk", "ref", "idref", "key"}, p)
		})
		if column := strings.Join(parts, "_"); len(column) > 2 {
			name = column
		}
	}
	if name[0] >= '0' && name[0] <= '9' {
		name = "t" + name
	}
	return name
}

// describing are the columns of a table that say what a row is: a name, or a
// description, at most two.
func (t *table) describing() []*column {
	var out []*column
	words := []string{"nome", "name", "nm", "descricao", "description", "descr", "titulo", "title", "razao", "fantasia", "sigla"}
	for _, c := range t.columns {
		named := slices.ContainsFunc(nameWords(c.name), func(w string) bool { return slices.Contains(words, w) })
		if _, _, send := leaf(c); send && isText(c) && named && len(out) < 2 {
			out = append(out, c)
		}
	}
	return out
}

// query finds the row that is referred to.
func (l *drafted) query() string {
	var shows, conditions []string
	for _, c := range l.shows {
		shows = append(shows, cdc.QuoteIdentifier(c.name))
	}
	for i, key := range l.keys {
		conditions = append(conditions, cdc.QuoteIdentifier(key)+" = new."+cdc.QuoteIdentifier(l.columns[i]))
	}
	return "select " + strings.Join(shows, ", ") + " from " + l.to.written() + " where " + strings.Join(conditions, " and ")
}

var (
	plainYAML = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.(), =|'*:-]*$`)
	plainFlow = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*$`)
)

// yamlText writes a YAML scalar in a block, quoted where it needs to be.
func yamlText(s string) string {
	if plainYAML.MatchString(s) && !strings.Contains(s, ": ") && !strings.HasSuffix(s, ":") && strings.TrimSpace(s) == s && !yamlWord(s) {
		return s
	}
	return quotedYAML(s)
}

// flowText writes one in a [list].
func flowText(s string) string {
	if plainFlow.MatchString(s) && !yamlWord(s) {
		return s
	}
	return quotedYAML(s)
}

func quotedYAML(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return quote(s)
}

// yamlWord reports whether YAML, of whatever version, takes a word for something else than a text.
func yamlWord(s string) bool {
	return slices.Contains([]string{"null", "true", "false", "yes", "no", "on", "off", "y", "n"}, strings.ToLower(s))
}

// remark is a text as a comment of one line can have it.
func remark(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\ufffd'
		}
		return r
	}, s)
}

// slug is a name as files, events and lookups can have it: a-z, 0-9 and _.
func slug(name string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		folded := plain(string(r))
		switch {
		case len(folded) == 1 && folded[0] < utf8.RuneSelf:
			_ = b.WriteByte(folded[0])
		case !strings.HasSuffix(b.String(), "_"):
			_ = b.WriteByte('_')
		}
	}
	if s := strings.Trim(b.String(), "_"); s != "" {
		return s
	}
	return "t"
}
