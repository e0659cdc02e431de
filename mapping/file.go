package mapping

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"

	"gancho/cdc"
	"gancho/internal/jsonschema"
	"gancho/internal/strictyaml"
	"gancho/mapping/expr"
)

// Policy says what happens when a column of a rule no longer exists or has another
// type.
type Policy uint8

// The policies of source.on_schema_change.
const (
	// Stop ends the bridge with the error: nothing more is confirmed.
	Stop Policy = iota
	// Park parks the changes that the rule is for.
	Park
)

// Evaluate says who evaluates expressions.
type Evaluate uint8

// The values of rules.evaluate.
const (
	// EvaluateAny lets PostgreSQL evaluate what the language lacks.
	EvaluateAny Evaluate = iota
	// EvaluateLocal refuses it.
	EvaluateLocal
)

// Options are what rules are read with.
type Options struct {
	// Evaluate says who evaluates what the language lacks.
	Evaluate Evaluate
	// Files are the rule files; the order of the rules is theirs.
	Files []string
	// Deny are columns that no payload may hold, as table.column or
	// schema.table.column, with "Quoted Names" as in SQL.
	Deny []string
	// Reader asks which role logs in for lookups, as Source.Login does; nil: that of Bind's
	// connection. It is called if what the role may read matters.
	Reader func(context.Context) (string, error)
	// Secrets are the keys of hmac(), by the names that rules use.
	Secrets map[string][]byte
	// Location is the time zone of the source; nil is UTC.
	Location       *time.Location
	OnSchemaChange Policy
	// Publication is the one that must have the tables; another one with the
	// suffix _insert may have tables of which only inserts are read. Empty:
	// publications are not checked.
	Publication string
	// Encoding is what the text of the database is converted from, where the server
	// cannot convert it.
	Encoding cdc.Encoding
}

// Rules are rules as their files have them, not yet checked against a database.
type Rules struct {
	rules []*rule // of tables
	// schedules are the rules with schedule, and all both, in the order of the files.
	schedules, all []*rule
	deny           []denied
	options        Options
	texts          map[string][]byte // of the files, by their names
}

// Parse reads rule files as far as that is possible without a database: their
// form and the syntax of expressions. The error is a strictyaml.Errors with all
// mistakes of all files.
func Parse(o Options) (*Rules, error) {
	rules, err := Inspect(o)
	if err != nil {
		return nil, err
	}
	return rules, nil
}

// Inspect is Parse for those who look for mistakes: with the error it returns the rules
// that have none.
func Inspect(o Options) (*Rules, error) { return inspect(o, os.ReadFile) }

func inspect(o Options, read func(name string) ([]byte, error)) (*Rules, error) {
	if o.Location == nil {
		o.Location = time.UTC
	}
	rs := &Rules{options: o, texts: map[string][]byte{}}
	var errs strictyaml.Errors
	var all []*rule
	for _, s := range o.Deny {
		d, err := parseDenied(s)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		rs.deny = append(rs.deny, d)
	}
	for _, file := range o.Files {
		src, err := read(file)
		if err != nil {
			errs = append(errs, &strictyaml.Error{File: file, Message: fmt.Sprintf("read rules: %v", err), Hint: "correct rules in the configuration"})
			continue
		}
		rs.texts[file] = src
		rules, valid, mistakes := parseFile(file, src)
		all, rs.all = append(all, rules...), append(rs.all, valid...)
		errs = append(errs, mistakes...)
	}
	for _, r := range rs.all {
		if r.schedule != nil {
			rs.schedules = append(rs.schedules, r)
		} else {
			rs.rules = append(rs.rules, r)
		}
	}
	errs = append(append(append(errs, checkEventTypes(all)...), checkTags(all)...), checkSchedules(all)...)
	if len(all) == 0 && len(errs) == 0 {
		errs = append(errs, &strictyaml.Error{File: strings.Join(o.Files, ", "), Message: "the files have no rule", Hint: "write one below rules:"})
	}
	return rs, errs.Err()
}

// parseFile returns all rules of a file, and those without a mistake.
func parseFile(name string, src []byte) (all, valid []*rule, mistakes strictyaml.Errors) {
	d := strictyaml.ParseSQL(name, src)
	if !d.Root().Valid() && len(d.Errors()) == 0 {
		d.Add("write rules below rules:", "the file is empty")
	}
	parseRules(d.Root(), func(item strictyaml.Value) {
		before := len(d.Errors())
		all = append(all, parseRule(item))
		if len(d.Errors()) == before && before <= strictyaml.MaxErrors {
			valid = append(valid, all[len(all)-1])
		}
	})
	return all, valid, d.Errors()
}

// Schema returns the JSON Schema of rule files.
func Schema() *jsonschema.Schema {
	return strictyaml.Schema("Rules of Gancho", false, func(v strictyaml.Value) {
		parseRules(v, func(item strictyaml.Value) { parseRule(item) })
	})
}

func parseRules(v strictyaml.Value, each func(item strictyaml.Value)) {
	v.Map(strictyaml.Required("rules", func(v strictyaml.Value) {
		for _, item := range v.List() {
			each(item)
		}
	}))
}

func parseRule(v strictyaml.Value) *rule {
	r := &rule{value: v.Resolved()}
	type value = strictyaml.Value
	var on, previous, data, columns, children, root, backfill, restart, late value
	v.Map(append(r.scheduleFields(),
		strictyaml.Required("event", func(v value) { r.event = eventName(v) }),
		strictyaml.Optional("group", func(v value) { r.group = eventText(v) }),
		strictyaml.Optional("title", func(v value) { r.title = eventText(v) }),
		strictyaml.Optional("description", func(v value) { r.description = eventText(v) }),
		strictyaml.Optional("table", func(v value) { r.table, r.tableValue = tableName(v), v }),
		strictyaml.Optional("on", func(v value) { on, r.ops = v, operationSet(v) }),
		strictyaml.Optional("when", func(v value) { r.when = parseExpression(v, "when") }),
		strictyaml.Optional("after", func(v value) { r.after = parseAfter(v) }),
		strictyaml.Optional("restart", func(v value) { restart, r.restart = v, v.Bool() }),
		strictyaml.Optional("max_late", func(v value) { late, r.maxLate = v, v.Duration(time.Second, maxLateMost) }),
		strictyaml.Optional("tenant", func(v value) { r.tenant = parseExpression(v, "tenant") }),
		strictyaml.Optional("key", func(v value) { r.key = parseExpression(v, "key") }),
		strictyaml.Optional("data", func(v value) { data, r.data = v, parseData(v) }),
		strictyaml.Optional("tags", func(v value) { r.tags = parseTags(v) }),
		strictyaml.Optional("columns", func(v value) { columns, r.columns = v, columnRefs(v, "columns") }),
		strictyaml.Optional("watch", func(v value) {
			if v.Is("all") {
				r.watchAll = v
			} else {
				r.watch = columnRefs(v, "watch")
			}
		}),
		strictyaml.Nullable("on_error", func(v value) {
			if v.IsNull() || v.Choice("park", "null") == "null" {
				r.onError = v
			}
		}),
		strictyaml.Optional("previous", func(v value) { previous, r.previous = v, v.Bool() }),
		strictyaml.Optional("numbers", func(v value) { r.numbersAsStrings = v.Choice("number", "string") == "string" }),
		strictyaml.Optional("lookup", func(v value) { r.lookups = parseLookups(v) }),
		strictyaml.Optional("collapse", func(v value) { r.collapse = parseCollapse(v) }),
		strictyaml.Optional("children", func(v value) { children, r.children = v, parseChildren(v) }),
		strictyaml.Optional("changed_at", func(v value) { r.changedAt = columnRefs(v, "changed_at") }),
		strictyaml.Optional("root_only", func(v value) { root, r.rootOnly = v, parseRootOnly(v) }),
		strictyaml.Optional("backfill", func(v value) { backfill, r.noBackfill = v, v.Choice("never") == "never" }),
	)...)
	if !v.IsMap() {
		return r
	}
	r.checkSchedule()
	if !columns.Valid() && (!data.Valid() || r.data != nil && len(r.data.fields) == 0) {
		r.value.Errorf("nothing is sent that is not named: write columns: [id, ...], or data: with an expression for each key",
			"the rule has neither data nor columns")
	}
	if backfill.Valid() && r.ops != 0 && !r.ops.has(cdc.Insert) {
		backfill.Errorf("remove it", "a backfill is of rules on insert, and the rule is on %s", r.ops)
	}
	r.check(on, previous)
	if r.schedule == nil {
		r.checkTransaction(on, children, root)
		r.checkAfter(on, restart, late, previous)
	} else {
		r.ops = scheduledOps
	}
	r.version = fingerprint(r.value)
	return r
}

// check checks the keys against each other.
func (r *rule) check(on, previous strictyaml.Value) {
	if !r.ops.has(cdc.Update) && r.ops != 0 {
		watch := r.watchAll
		if len(r.watch) > 0 {
			watch = r.watch[0].value
		}
		if watch.Valid() {
			watch.Errorf("remove it, or add update", "watch is about updates, and the rule is on %s", r.ops)
		}
		if r.previous {
			previous.Errorf("remove it, or add update", "previous is about updates, and the rule is on %s", r.ops)
		}
	}
	if r.ops.has(cdc.Truncate) && len(r.columns) > 0 {
		on.Errorf("write data with constants, such as tabela: \"'clientes'\"", "a truncate has no row to show columns of")
	}
	if r.data != nil {
		for _, c := range r.columns {
			if slices.ContainsFunc(r.data.fields, func(f *field) bool { return f.name == c.name }) {
				c.value.Errorf("remove one", "%q is both in columns and in data", c.name)
			}
		}
	}
}

// eventText is a text about the event, for people; not valid after an error.
func eventText(v strictyaml.Value) strictyaml.Value {
	if v.Raw() == "" {
		return strictyaml.Value{}
	}
	return v
}

// operationalPrefix begins the names of the events that Gancho itself raises:
// no row change may raise gancho.endpoint.paused.
const operationalPrefix = "gancho."

func eventName(v strictyaml.Value) string {
	s := v.Raw()
	bad := func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || r == '*' || r == '"' || r == ','
	}
	if len(s) > 128 || strings.IndexFunc(s, bad) >= 0 {
		v.Errorf("write such as cobranca.liquidada, at most 128 bytes", "%q cannot be the name of an event", s)
	}
	if strings.HasPrefix(s, operationalPrefix) {
		v.Errorf("choose another name", "%q cannot be the name of a rule's event: Gancho's own events begin with %s", s, operationalPrefix)
	}
	return s
}

func tableName(v strictyaml.Value) cdc.Name {
	s := v.Raw()
	if s == "" {
		return cdc.Name{}
	}
	name, err := cdc.ParseName(s)
	if err != nil {
		v.Errorf("", "%v", err)
	}
	return name
}

func operationSet(v strictyaml.Value) opSet {
	var set opSet
	items := v.ListOrOne()
	if len(items) == 0 {
		v.Errorf("write insert, update, delete or truncate, or a list of them", "the list of operations is empty")
	}
	for _, item := range items {
		name := item.Choice("insert", "update", "delete", "truncate")
		for _, op := range operations() {
			if op.String() == name {
				if set.has(op) {
					item.Errorf("remove one", "%s is given twice", op)
				}
				set |= setOf(op)
			}
		}
	}
	return set
}

// parseExpression reads an SQL expression and checks its syntax.
func parseExpression(v strictyaml.Value, path string) *expression {
	e := &expression{value: v.Resolved(), text: v.Raw(), path: path}
	if e.text == "" {
		if v.IsScalar() {
			v.Errorf("write an SQL expression", "%s is empty", path)
		}
		return e
	}
	if strings.HasPrefix(e.value.Comment(), "#>") {
		v.Errorf("write the expression in a block (key: >- and the expression on the next line)", "YAML takes %s for a comment", e.value.Comment()[:2])
	}
	for _, m := range mistakes(checkForm(e.text)) {
		e.value.ErrorfAt(m.Offset, m.Hint, "%s", m.Message)
	}
	return e
}

// checkForm refuses what is no expression of PostgreSQL either. Of other syntax the server
// decides.
func checkForm(text string) error {
	err := expr.CheckSyntax(text)
	if err == nil {
		return nil
	}
	tokens, fault := expr.Tokens(text)
	if fault == nil && len(tokens) > 0 && balanced(tokens) == nil {
		return nil
	}
	return err
}

// mistakes are those in an error of the expression compiler.
func mistakes(err error) []*expr.Error {
	var all expr.Errors
	if err != nil && !errors.As(err, &all) {
		all = expr.Errors{{Message: err.Error()}}
	}
	return all
}
