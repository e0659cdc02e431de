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
	speaker
	table *table
	event string // what its events' names begin with
	role  string // that reads, for GRANTs
}

func (w *writer) linef(format string, args ...any) {
	_, _ = fmt.Fprintf(w, format+"\n", args...) // a Builder does not fail
}

// remarkf writes a comment of a line of its own.
func (w *writer) remarkf(margin, format string, args ...any) {
	w.linef("%s# %s", margin, remark(w.sayf(format, args...)))
}

// rules are the rules for inserts, updates and deletes. Those that PostgreSQL
// would make the application's statements fail for are commented out.
func (w *writer) rules() string {
	t := w.table
	w.remarkf("", "Rules for table %s, drafted from the catalogue. What is commented out is not sent: take the # away, or remove the line.", t.Name)
	w.remarkf("", "Every column is listed. Remove those that the receivers do not need; personal data is only recognised by names.")
	refused := map[string]bool{} // which operations wait for a statement
	switch {
	case t.identified:
	case t.generatedKey != nil:
		refused["delete"] = true
		w.linef("#")
		w.remarkf("", "Deleted rows are not known by their key: %s.", w.lacking())
		w.remarkf("", "Run this first, then take the # away from the rule for them:")
		w.linef("#   %s", remark(w.identify()))
	default:
		refused["update"], refused["delete"] = true, true
		w.linef("#")
		w.remarkf("", "PostgreSQL would refuse the application's UPDATE and DELETE if they were published: %s.", w.lacking())
		w.remarkf("", "Run this first, then take the # away from the rules for them:")
		w.linef("#   %s", remark(w.identify()))
	}
	w.linef("rules:")
	w.rule("insert", "data: &row", w.data())
	for _, op := range []string{"update", "delete"} {
		prefix := ""
		if refused[op] {
			prefix = "# "
		}
		sub := &writer{speaker: w.speaker, table: t, event: w.event, role: w.role}
		switch {
		case op == "update" || t.identity == "f" || t.key == nil || t.byFormula():
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
	switch t := w.table; {
	case t.generatedKey != nil:
		generated := slices.DeleteFunc(slices.Clone(t.generatedKey), func(name string) bool { return !t.column(name).generated })
		return w.sayf("the primary key has a generated column (%s), which the stream does not have", strings.Join(generated, ", "))
	case t.key == nil:
		return w.say("the table has no primary key, and no unique index over columns that are not null")
	}
	return w.say("its key is not its replica identity")
}

func (w *writer) identify() string {
	t := w.table
	switch {
	case t.kind == "p" && t.generatedKey != nil:
		return w.full()
	case t.kind == "p":
		return fmt.Sprintf("ALTER TABLE %s ADD PRIMARY KEY (...);", t.Name)
	case t.keyIndex != "":
		return fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY USING INDEX %s;", t.Name, cdc.QuoteIdentifier(t.keyIndex))
	case t.key != nil && t.identity != "d" && t.generatedKey == nil:
		return fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY DEFAULT;", t.Name)
	}
	if t.generatedKey != nil {
		return w.full()
	}
	return w.sayf("ALTER TABLE %s REPLICA IDENTITY FULL;  -- or add a primary key", t.Name)
}

// full is the statement after which the stream has old rows.
func (w *writer) full() string {
	t := w.table
	if t.kind == "p" {
		return w.say("REPLICA IDENTITY FULL on it and its partitions, with the statements that gancho check prints")
	}
	return fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY FULL;", t.Name)
}

// rule writes a rule, whose payload stands below data.
func (w *writer) rule(op, data string, payload []string) {
	t := w.table
	old := ""
	if t.identity != "f" {
		old = "; " + w.sayf("needs: %s", w.full())
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
			w.linef("    # when: %s  # %s%s", yamlText("became("+cdc.QuoteIdentifier(s.column.name)+", "+value+")"), remark(w.sayf("of %s", strings.Join(s.literals, ", "))), remark(old))
		}
		if names := w.watched(); len(names) > 0 {
			w.linef("    # watch: [%s]  # %s%s", strings.Join(names, ", "), remark(w.say("updates that change none of them cause no event")), remark(old))
		}
	}
	if guess := t.tenant(); guess != nil {
		if op != "delete" || guess.column == "" || slices.Contains(t.key, guess.column) {
			old = ""
		}
		w.linef("    # tenant: %s  # %s%s", yamlText(guess.expression()), remark(w.sayf("a guess, %d of 100: %s; endpoints subscribe by it", guess.score, w.say(guess.reason))), remark(old))
	}
	switch {
	case t.keyIndex != "":
		w.linef("    key: %s  # %s", yamlText(t.keyExpression()), remark(w.sayf("unique index %s", t.keyIndex)))
	case t.key == nil:
		w.remarkf("    ", "No key: all events of the table wait for each other, unless key: says what must stay in order.")
	case t.byFormula():
		w.linef("    key: %s  # %s", yamlText(t.keyExpression()), remark(w.say("the primary key, with the formula of its generated column")))
	default:
		w.remarkf("    ", "Ordered by the primary key (%s).", strings.Join(t.key, ", "))
	}
	switch lookups := t.lookups(); {
	case op == "delete" || len(lookups) == 0:
	case op == "update":
		w.linef("    # lookup: *lookup")
	default:
		w.linef("    # lookup: &lookup  # %s", w.say("values of other tables; the leaves for them are at the end of data"))
		for _, l := range lookups {
			w.linef("    #   %s: %s%s", l.name, yamlText(l.query()), remark(w.about(l)))
		}
	}
	w.linef("    %s", data)
	for _, line := range payload {
		w.linef("      %s", line)
	}
}

// about is the remark about a lookup; it may be empty.
func (w *writer) about(l *drafted) string {
	var parts []string
	if l.guessed {
		parts = append(parts, w.sayf("a guess, by the name of %s: there is no foreign key", strings.Join(l.columns, ", ")))
	}
	if !l.to.readable {
		parts = append(parts, w.sayf("needs: %s", fmt.Sprintf("GRANT SELECT ON %s TO %s;", l.to.Name, cdc.QuoteIdentifier(w.role))))
	}
	if len(parts) == 0 {
		return ""
	}
	return "  # " + strings.Join(parts, "; ")
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
	if c.generated && t.byFormula() && slices.Contains(t.key, c.name) {
		return expression, why, true
	}
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
		entries = append(entries, entry{c.name, expression, w.aboutColumn(c, why), !send})
	}
	for _, l := range t.lookups() {
		for _, column := range l.shows {
			shown, _, send := leaf(column)
			if !send {
				continue
			}
			name := cdc.QuoteIdentifier(column.name)
			entries = append(entries, entry{l.name + "_" + column.name, strings.Replace(shown, name, l.name+"."+name, 1), w.sayf("of %s", l.to.written()), true})
		}
	}
	if !active {
		entries = append(entries, w.constant())
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
		entries = append(entries, entry{name, expression, w.aboutColumn(c, why), !send})
	}
	if !active {
		entries = append(entries, w.constant())
	}
	return append(lines(entries), "# "+remark(w.sayf("the other columns need: %s", w.full())))
}

// constant is a payload of a table of which no column is sent.
func (w *writer) constant() entry {
	t, name := w.table, "table"
	for t.column(name) != nil {
		name += "_"
	}
	return entry{name, "'" + strings.ReplaceAll(t.Name.String(), "'", "''") + "'", w.say("no column is sent"), false}
}

// aboutColumn is the remark about a column.
func (w *writer) aboutColumn(c *column, why string) string {
	text := c.kind
	if c.notNull {
		text += " not null"
	}
	if r := w.table.refers(c.name); r != nil {
		text += ", " + w.sayf("refers to %s (%s)", r.to.written(), strings.Join(r.keys, ", "))
	}
	if len(c.values) > 0 && len(c.labels) > 0 {
		text += ": " + strings.Join(c.values, ", ")
	}
	if why != "" {
		text += "; " + w.say(why)
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

// byFormula: a column of the key is generated.
func (t *table) byFormula() bool { return t.generatedKey != nil && t.keyIndex == "" }

// keyExpression is the ordering key that the columns of the key are.
func (t *table) keyExpression() string {
	parts := make([]string, len(t.key))
	for i, name := range t.key {
		parts[i] = cdc.QuoteIdentifier(name)
		if c := t.column(name); c.generated {
			parts[i] = c.formula
		}
		if len(t.key) > 1 {
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

// lookups are the foreign keys of a table as lookups, and then those that names say, at most 8.
func (t *table) lookups() []*drafted {
	var out []*drafted
	taken := map[string]bool{}
	for _, c := range t.columns {
		taken[c.name] = true
	}
	for _, r := range slices.Concat(t.references, t.guessed) {
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
		parts := strings.FieldsFunc(slug(strings.Join(snake(r.columns[0]), "_")), func(c rune) bool { return c == '_' })
		parts = slices.DeleteFunc(parts, func(p string) bool {
			return slices.Contains(keyWords(), p)
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
