package mapping

import (
	"regexp"
	"time"

	"gancho/cdc"
	"gancho/internal/pgtext"
	"gancho/internal/strictyaml"
	"gancho/mapping/expr"
)

// A rule with after makes its event when time has passed: when a row has been as when says for an interval, or at a
// time that an expression gives. A change of the row sets, moves or cancels its timer (timer.go), and when the timer
// is due the row is read and when is decided once more (fire.go). So when is about a row as it is: old has no
// meaning in it.

// maxLateMost bounds max_late.
const maxLateMost = 366 * 24 * time.Hour

// parseAfter reads after: an interval as one writes it, such as 1h or 3 days, or an expression.
func parseAfter(v strictyaml.Value) *expression {
	if _, err := pgtext.ParseInterval([]byte(v.Raw())); err == nil && v.Raw() != "" {
		return &expression{value: v.Resolved(), text: "interval '" + v.Raw() + "'", path: "after"}
	}
	if numberAndWord.MatchString(v.Raw()) {
		v.Errorf("write such as 30s, 1h or 3 days, or an expression such as vencimento + interval '3 days'", "%q is no interval", v.Raw())
		return nil
	}
	return parseExpression(v, "after")
}

// numberAndWord is what was meant as an interval: no expression has this form.
var numberAndWord = regexp.MustCompile(`^\s*\d+(\.\d+)?\s*[A-Za-z]+\s*$`)

// checkAfter checks after against the other keys. The values are those of the keys, not valid where they are missing.
func (r *rule) checkAfter(on, restart, late, previous strictyaml.Value) {
	if r.after == nil {
		for _, key := range []strictyaml.Value{restart, late} {
			if key.Valid() {
				key.Errorf("remove it, or add after", "it is about a rule with after, and the rule has none")
			}
		}
		return
	}
	after := r.after.value
	switch {
	case r.perTransaction():
		after.Errorf("write two rules", "a rule cannot have both after and %s: a timer is of one row", r.waitsFor())
	case len(r.watch) > 0 || r.watchAll.Valid():
		after.Errorf("remove watch; restart: true has every change of the row begin the time again", "a rule cannot have both after and watch: after is about how a row is, not about what has changed")
	case r.previous:
		previous.Errorf("remove it", "a rule with after has no previous row to show")
	}
	if r.ops&setOf(cdc.Delete, cdc.Truncate) != 0 {
		on.Errorf("write on: [insert, update]; a delete cancels the timer by itself", "when a rule with after is due the row is read, and a deleted one is not there")
	}
}

// timed is what a rule with after has beside its program.
type timed struct {
	due *expr.Expr // timestamptz
	// span is after where it is an interval, and nil where it is a time.
	span *expr.Expr
}

// after compiles a rule's after: the time at which a timer is due that is set by the change at hand.
func (c *compiler) after(p *program, r *rule, scope *expr.Scope, g group) {
	if r.after == nil || g != groupWrite {
		return
	}
	given := c.expression(r.after, early(scope), g, false, use{})
	if given == nil {
		return
	}
	text := "(" + r.after.text + "\n)"
	p.timed = &timed{}
	switch t := given.Type().Base(); t.Name {
	default:
		c.mistakes = append(c.mistakes, r.after.value.Mistake(0, "write an interval such as 1h, or a time such as vencimento + interval '3 days'",
			"after is of type %s, and has to be an interval, a timestamp or a date", t.Name))
		return
	case "interval":
		p.timed.span, text = given, "now() + "+text
	case "date", "timestamp":
		text = "cast(" + text + " as timestamptz)"
	case "timestamptz":
	}
	if r.restart && p.timed.span == nil {
		c.mistakes = append(c.mistakes, r.after.value.Mistake(0, "remove restart", "restart has every change begin an interval again, and after is a time"))
	}
	var err error
	p.timed.due, err = expr.Compile(text, early(scope))
	for _, m := range mistakes(err) {
		c.mistakes = append(c.mistakes, r.after.value.Mistake(0, m.Hint, "after: %s", m.Message))
	}
	columns := given.Columns()
	if p.when != nil {
		columns = append(columns, p.when.Columns()...)
	}
	for _, column := range columns { // how the row was says whether it has a timer
		column.Old = true
		c.uses = append(c.uses, use{Column: column, value: r.after.value, path: "after", group: groupWrite, needed: true})
	}
}

// tellTimersApart refuses a second rule with after for an event and table: their timers, which Redis has under what Identities has, would be
// those of the other one once a rule is put before them or removed.
func (b *binder) tellTimersApart(others []*boundRule, bound *boundRule) {
	for _, o := range others {
		if o.after != nil && bound.after != nil && o.event == bound.event {
			b.mistake(bound.after.value, -1, "give each an event of its own, or write one rule, whose after may be a CASE",
				"the rule at %s has after, too, for this event and table, and their timers cannot be told apart", o.place())
		}
	}
}

// bindAfter checks what a rule with after needs of its table.
func (b *binder) bindAfter(bound *boundRule, c *compiler) {
	r, t := bound.rule, bound.table
	if r.after == nil {
		return
	}
	bound.seen |= rowOps()
	if len(t.PrimaryKey) == 0 {
		b.mistake(r.tableValue, -1, "add a primary key, or remove after", "after needs a primary key to read the row again, and table %s has none", t.Relation.TableName())
	}
	for _, column := range t.PrimaryKey {
		u := b.identityUse(t, column, r)
		u.path = "after"
		c.uses = append(c.uses, u)
	}
	if parts := bound.conditions[groupWrite]; parts != nil && len(parts.late) > 0 {
		b.mistake(r.when.value, -1, "write it in data, or as a condition on columns of the row",
			"when of a rule with after is decided at the change, before and after it, so that it can name no lookup and nothing that the source has to evaluate")
	}
}
