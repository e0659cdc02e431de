package mapping

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"gancho/cdc"
	"gancho/internal/jsontext"
	"gancho/internal/pgtext"
	"gancho/internal/strictyaml"
	"gancho/mapping/expr"
)

// What a conjunct of when is for a row as it is now.
const (
	JudgedTrue   = "true"
	JudgedFalse  = "false"
	JudgedNull   = "null"
	JudgedOld    = "old"    // it needs the row before the change
	JudgedFailed = "failed" // it cannot be evaluated for this row
)

// RowJudgement is what the rules of a table make of a row as it is now.
type RowJudgement struct {
	Time time.Time `json:"time"` // when it was read
	// Found: there is a row with the key. Without it Rules have no results.
	Found bool `json:"found"`
	// Unreadable are the columns that the role of lookups may not read.
	Unreadable []string        `json:"unreadable,omitempty"`
	Rules      []RuleJudgement `json:"rules"`
}

// RuleJudgement is what a rule makes of a row.
type RuleJudgement struct {
	Rule  string `json:"rule"` // file:line
	Event string `json:"event"`
	On    string `json:"on"` // insert or update
	// Watch: an update fires only if it changed certain columns.
	Watch bool `json:"watch,omitempty"`
	// Truncate: the rule is for that alone, and has no row.
	Truncate  bool             `json:"truncate,omitempty"`
	Conjuncts []JudgedConjunct `json:"conjuncts"`
}

// JudgedConjunct is an operand of the ANDs at the top of when, for a row.
type JudgedConjunct struct {
	Text   string `json:"text"`
	Result string `json:"result"`
	// Reason is why it failed, without row data.
	Reason string        `json:"reason,omitempty"`
	Values []JudgedValue `json:"values,omitempty"`
}

// JudgedValue is a value that a conjunct names.
type JudgedValue struct {
	Name string `json:"name"` // column, or lookup.column
	// Value is its text form; nil: it is null, or Hidden, or was not read.
	Value  *string `json:"value"`
	Hidden bool    `json:"hidden,omitempty"`
}

// maxJudgedValue bounds a value that is shown, in bytes.
const maxJudgedValue = 200

// Judge reads the row of a table that has the primary key, as KeyText reads it, with the
// role of lookups, and evaluates the conditions of the table's rules on it. The values of
// columns in privacy.deny, and of those that hide names, are not in the result. The error
// wraps ErrKey when the server does not take the key, and holds no row data.
func (rs *Ruleset) Judge(ctx context.Context, s *Source, table cdc.Name, key string, hide func(column string) bool) (*RowJudgement, error) {
	bound := rs.byTable[table]
	if len(bound) == 0 {
		return nil, errChild(table)
	}
	s.path = rs.path
	j := &judge{rs: rs, table: bound[0].table, hide: hide, mapper: NewMapper(rs, nil, WithSource(s), WithPast())}
	j.mapper.redrives = true
	out := &RowJudgement{Time: time.Now().UTC(), Rules: []RuleJudgement{}}
	var err error
	if out.Found, out.Unreadable, err = j.read(ctx, s, key); err != nil {
		return nil, err
	}
	for _, b := range bound {
		r, err := j.rule(ctx, b, out.Found)
		if err != nil {
			return nil, err
		}
		out.Rules = append(out.Rules, r)
	}
	return out, nil
}

func errChild(table cdc.Name) error {
	return fmt.Errorf("rules take changes of %s as changes of their parents: ask for the parent's row", table)
}

// judge evaluates conditions on a row.
type judge struct {
	rs     *Ruleset
	table  *cdc.Table
	hide   func(string) bool
	mapper *Mapper
	row    []cdc.Datum
}

// read reads the row, as far as the rules' conditions need it.
func (j *judge) read(ctx context.Context, s *Source, key string) (found bool, unreadable []string, err error) {
	var columns []int
	for i, column := range j.table.Relation.Columns {
		named := func(b *boundRule) bool { _, used := b.columns[column.Name]; return used || b.watchAll.Valid() }
		if slices.ContainsFunc(j.rs.byTable[j.table.Relation.TableName()], named) {
			columns = append(columns, i)
		}
	}
	where, args, err := j.rs.keyCondition(j.table, key)
	if err != nil {
		return false, nil, err
	}
	columns, unreadable, err = s.readable(ctx, j.table, columns)
	if err != nil {
		return false, nil, err
	}
	j.row = make([]cdc.Datum, len(j.table.Relation.Columns))
	err = s.Query(ctx, selectRows(j.table, columns)+" where "+where, args, nil, func(row []cdc.Datum) error {
		found = true
		for i, column := range columns {
			j.row[column] = row[i]
			j.row[column].Text = slices.Clone(row[i].Text)
		}
		return nil
	})
	if cdc.FaultOf(err) == cdc.FaultValue {
		return false, nil, fmt.Errorf("%w: the server does not take it as %s (SQLSTATE %s)", ErrKey, strings.Join(j.table.PrimaryKey, ", "), cdc.SQLState(err))
	}
	if err != nil {
		err = rowsError(j.table, err)
	}
	return found, unreadable, err
}

// rule judges a rule's condition.
func (j *judge) rule(ctx context.Context, b *boundRule, found bool) (RuleJudgement, error) {
	out := RuleJudgement{
		Rule: b.place(), Event: b.event, On: b.occasion(), Conjuncts: []JudgedConjunct{},
		Watch: b.ops.has(cdc.Update) && (len(b.watch) > 0 || b.watchAll.Valid()),
	}
	op := cdc.Update
	switch {
	case b.ops.has(cdc.Update):
	case b.ops.has(cdc.Insert):
		op = cdc.Insert
	case b.ops.has(cdc.Delete):
		op = cdc.Delete
	default:
		out.Truncate = true
		return out, nil
	}
	texts := j.rs.conjunctTexts(b)
	parts := j.rs.whenParts(b, groupOf(op))
	for i, p := range parts {
		c := JudgedConjunct{Text: texts[i], Result: JudgedOld}
		if found {
			if err := j.values(ctx, b, op, p, &c); err != nil {
				return out, err
			}
		}
		if found && !p.old {
			if err := j.conjunct(ctx, b, op, parts, i, &c); err != nil {
				return out, err
			}
		}
		if !found && !p.old {
			c.Result = ""
		}
		out.Conjuncts = append(out.Conjuncts, c)
	}
	return out, nil
}

// conjunct evaluates one conjunct: as the whole condition of the rule, without its payload.
func (j *judge) conjunct(ctx context.Context, b *boundRule, op cdc.Op, parts []whenPart, i int, out *JudgedConjunct) error {
	alone := b.alone(groupOf(op), parts, func(n int, _ whenPart) bool { return n == i })
	alone.without()
	var got judged
	if err := j.apply(ctx, alone, op, &got); err != nil {
		return err
	}
	switch {
	case got.parked != "":
		out.Result, out.Reason = JudgedFailed, got.parked
	case got.data != nil:
		out.Result = JudgedTrue
	case j.mapper.why.Outcome == Null:
		out.Result = JudgedNull
	default:
		out.Result = JudgedFalse
	}
	return nil
}

// without takes out of a rule what an event shows.
func (b *boundRule) without() {
	b.tenant, b.key, b.data, b.tags, b.rule.columns, b.onError = nil, nil, nil, nil, nil, strictyaml.Value{}
}

// apply applies a rule to the row.
func (j *judge) apply(ctx context.Context, b *boundRule, op cdc.Op, out *judged) error {
	plan := newRulePlan(j.rs, b, j.table.Relation, false, groupOf(op))
	change := &cdc.Change{Position: cdc.Position{Commit: 1}, Tx: &cdc.Transaction{Commit: 1, Time: time.Now()}, Op: op, Relation: j.table.Relation, New: j.row}
	switch op {
	case cdc.Delete:
		change.New, change.Old = nil, j.row
	case cdc.Update:
		change.Old = make([]cdc.Datum, len(j.row)) // nothing of it was sent
	}
	defer j.mapper.Reset()
	j.mapper.load(change)
	if err := j.mapper.apply(plan, 0, change, out); err != nil {
		return err
	}
	return j.mapper.Resolve(ctx, out)
}

// judged is a sink for what the rule makes of the row.
type judged struct {
	data   []byte
	parked string
}

func (s *judged) Event(e *Event) error {
	s.data = slices.Clone(e.Data)
	return nil
}

func (s *judged) Park(p *Parked) error {
	s.parked = p.Reason
	return nil
}

// values are those of the columns and lookups that a conjunct names.
func (j *judge) values(ctx context.Context, b *boundRule, op cdc.Op, p whenPart, out *JudgedConjunct) error {
	tokens, _ := expr.Tokens(b.when.text[p.from:p.to])
	root := &field{}
	for i, t := range tokens {
		before := tokens.At(i - 1)
		switch {
		case !t.IsName() || tokens.At(i+1).Is("(") || before.Is(".") && !tokens.At(i-2).Is("new") && !tokens.At(i-2).Is("old"):
		case before.Is(".") && tokens.At(i-2).Is("old") && op != cdc.Delete:
		case tokens.At(i+1).Is(".") && slices.ContainsFunc(b.rule.lookups, func(l *lookup) bool { return l.name == t.Text }):
			if column := tokens.At(i + 2); column.IsName() {
				name := t.Text + "." + column.Text
				text := quoted(t.Text) + "." + quoted(column.Text)
				root.fields = append(root.fields, &field{name: name, path: name, leaf: &expression{value: b.when.value, path: "when", text: text}})
			}
		case !tokens.At(i + 1).Is("."):
			if column := j.table.Relation.Column(t.Text); column >= 0 && j.row[column].State != cdc.Missing {
				out.add(j.column(b, column))
			}
		}
	}
	if len(root.fields) == 0 {
		return nil
	}
	shown := b.alone(groupOf(op), nil, nil)
	shown.without()
	shown.data, shown.when, shown.conditions = root, nil, nil
	var got judged
	if err := j.apply(ctx, shown, op, &got); err != nil || got.data == nil {
		return err // why there is no value stands in the conjunct's reason
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(got.data, &values); err != nil {
		return fmt.Errorf("read what lookups find: %w", err)
	}
	for _, f := range root.fields {
		raw, read := values[f.name]
		lookup, column, _ := strings.Cut(f.name, ".")
		hidden := func(name string) bool { return j.hide(name) || b.hidden[name] }
		v := JudgedValue{Name: f.name, Hidden: hidden(column) || b.masks(lookup, column) || slices.ContainsFunc(j.rs.shownBy(b, f.leaf), hidden)}
		if read && !v.Hidden && string(raw) != "null" {
			v.Value = j.text(raw)
		}
		out.add(v)
	}
	return nil
}

// column is the value of a column of the row.
func (j *judge) column(b *boundRule, i int) JudgedValue {
	column := j.table.Relation.Columns[i]
	v := JudgedValue{Name: column.Name, Hidden: b.denied[column.Name] || b.hidden[column.Name] || j.hide(column.Name) || j.hide(domainName(column.Type))}
	if v.Hidden || j.row[i].State != cdc.Present {
		return v
	}
	text := j.row[i].Text
	if !namesMembers(column.Type) {
		v.Value = j.text(jsontext.AppendString(nil, text))
		return v
	}
	raw, err := pgtext.AppendJSON(nil, column.Type, column.TypeMod, text, nil)
	if v.Hidden = err != nil; !v.Hidden {
		v.Value = j.text(raw)
	}
	return v
}

// text is a value of JSON as people read it, without what hide names within it.
func (j *judge) text(raw []byte) *string {
	raw = jsontext.Redact(raw, func(_, name string) bool { return j.hide(name) })
	var text string
	if json.Unmarshal(raw, &text) != nil {
		text = string(raw)
	}
	if len(text) > maxJudgedValue {
		text = strings.ToValidUTF8(text[:maxJudgedValue], "") + "..."
	}
	return &text
}

// add adds a value, each name once.
func (c *JudgedConjunct) add(v JudgedValue) {
	if !slices.ContainsFunc(c.Values, func(o JudgedValue) bool { return o.Name == v.Name }) {
		c.Values = append(c.Values, v)
	}
}
