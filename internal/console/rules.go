package console

import (
	"cmp"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"gancho/internal/control"
	"gancho/internal/language"
	"gancho/internal/simulate"
	"gancho/internal/state"
	"gancho/mapping"
)

func rulesScreen() screen {
	return screen{name: "rules", path: "rules", role: state.Operator, operators: true, sources: true, chosen: true, routes: []route{
		{pattern: "GET /rules", handle: (*visit).showRules},
		{pattern: "GET /rules/rule", handle: (*visit).showRule},
		{pattern: "POST /rules/why", handle: (*visit).explain},
		{pattern: "POST /rules/test-case", handle: (*visit).downloadTest},
		{pattern: "POST /rules/simulate", role: state.Admin, handle: (*visit).simulate},
	}}
}

// rulesPage is all rules, and a question of what became of a row.
type rulesPage struct {
	Rules  []control.RuleView
	Recent []control.RecentChange
	Why    form
	Table  field // of the question: a choice among the tables of the rules
	Source string
	// Several: there are several sources, and none of them is chosen.
	Several bool
}

// rulePage is one rule.
type rulePage struct {
	control.RuleView
	Lines  []sourceLine
	Recent []control.RecentChange // that it has looked at
	// Why asks what became of a row; Try edits a copy of the rule's file, for those who may.
	Why, Try form
	MayTry   bool
	Source   string
	Several  bool             // there are several sources, and none of them is chosen
	Report   *simulate.Report // nil: nothing has been tried
}

// recentShown is how many of the newest changes are offered for an explanation.
const recentShown = 20

// recent are the newest changes that the rule at a place ("": any) has looked at; nil where this process does not capture.
func (v *visit) recent(rule string) ([]control.RecentChange, error) {
	found, err := v.Control.RecentChanges(v.ctx(), v.actor, rule, recentShown)
	var elsewhere *control.ElsewhereError
	var invalid *control.InvalidError // the rules are being loaded again
	if errors.As(err, &elsewhere) || errors.As(err, &invalid) {
		return nil, nil
	}
	return found.Changes, err
}

// sourceLine is a line of a file.
type sourceLine struct {
	Number int
	Text   string
}

// Enough reports whether the server sends what the rule needs of old rows.
func (p *rulePage) Enough() bool {
	return p.Identity.Needs == mapping.IdentityNone || p.Identity.Has == "full" || p.Identity.Needs == mapping.IdentityKey && p.Identity.Has != "nothing"
}

func (v *visit) showRules() (reply, error) {
	p, err := v.rules(form{})
	if err != nil {
		return reply{}, err
	}
	return page("rules", p)
}

func (v *visit) rules(why form) (*rulesPage, error) {
	rules, err := v.Control.Rules(v.ctx(), v.actor)
	if err != nil {
		return nil, err
	}
	p := &rulesPage{Rules: rules, Why: why, Source: v.source, Several: v.source == "" && len(v.sources()) > 0}
	if p.Recent, err = v.recent(""); err != nil {
		return nil, err
	}
	var tables []string
	for i := range rules {
		if rules[i].Table != "" && !slices.Contains(tables, rules[i].Table) {
			tables = append(tables, rules[i].Table)
		}
	}
	slices.Sort(tables)
	p.Table = newField(why, "table", v.text("rules.table"))
	for _, t := range tables {
		p.Table.Options = append(p.Table.Options, option{t, t, t == p.Table.Value})
	}
	return p, nil
}

// rule is the page of the rule at a place, file:line.
func (v *visit) rule(place string) (*rulePage, error) {
	rules, err := v.Control.Rules(v.ctx(), v.actor)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(rules, func(r control.RuleView) bool { return r.Rule == place })
	if i < 0 {
		return nil, state.ErrNotFound
	}
	p := &rulePage{RuleView: rules[i], Source: v.source, Several: v.source == "" && len(v.sources()) > 0, MayTry: v.actor.Role.Covers(state.Admin) && rules[i].Identity != nil, Why: form{Values: url.Values{"table": {rules[i].Table}}}}
	if p.Recent, err = v.recent(place); err != nil {
		return nil, err
	}
	for n, line := range strings.Split(p.Text, "\n") {
		p.Lines = append(p.Lines, sourceLine{p.Line + n, line})
	}
	if p.MayTry {
		text, err := v.Control.RuleFile(v.ctx(), v.actor, p.File)
		if err != nil {
			return nil, err
		}
		p.Try = form{Values: url.Values{"text": {text}, "table": {p.Table}, "limit": {strconv.Itoa(control.DefaultSimulated)}}}
	}
	return p, nil
}

func (v *visit) showRule() (reply, error) {
	p, err := v.rule(v.http.URL.Query().Get("at"))
	if err != nil {
		return reply{}, err
	}
	return page("rule", p)
}

// explain answers with a page that has no address: the key of a row stands in none, and reading a row is written down.
func (v *visit) explain() (reply, error) {
	values := v.http.PostForm
	view, err := v.Control.Why(v.ctx(), v.actor, control.WhyQuestion{
		Table: values.Get("table"), Key: strings.TrimSpace(values.Get("key")), Change: values.Get("change"), WebhookID: strings.TrimSpace(values.Get("webhook_id")), Row: values.Get("row") != "",
	})
	f, mistaken := v.form(values, err, "table", "key", "webhook_id")
	if err != nil && !mistaken {
		return reply{}, err
	}
	if !mistaken {
		f = form{Values: values}
	}
	p, readErr := v.rules(f)
	if readErr != nil {
		return reply{}, readErr
	}
	if mistaken {
		return refused("rules", p)
	}
	slices.Reverse(view.Changes) // the newest first
	return page("why", &whyPage{view, p.Why, p.Table, v.source})
}

// downloadTest has the browser save a row as a test of the rules.
func (v *visit) downloadTest() (reply, error) {
	values := v.http.PostForm
	text, err := v.Control.DraftTest(v.ctx(), v.actor, control.WhyQuestion{Table: values.Get("table"), Key: strings.TrimSpace(values.Get("key"))})
	f, mistaken := v.form(values, err, "table", "key")
	switch {
	case mistaken:
		p, err := v.rules(f)
		if err != nil {
			return reply{}, err
		}
		return refused("rules", p)
	case err != nil:
		return reply{}, err
	}
	return download(values.Get("table")+".test.yaml", "application/yaml", text)
}

// whyPage is what became of a row, with the question.
type whyPage struct {
	control.WhyView
	Why    form
	Table  field
	Source string
}

// simulate tries the edited copy of a file, which stays in the form.
func (v *visit) simulate() (reply, error) {
	values := v.http.PostForm
	p, err := v.rule(values.Get("at"))
	if err != nil {
		return reply{}, err
	}
	r := control.Simulation{File: p.File, Text: strings.ReplaceAll(values.Get("text"), "\r\n", "\n"), Table: values.Get("table"), Where: values.Get("where")}
	if r.Limit, err = strconv.ParseInt(values.Get("limit"), 10, 64); err != nil {
		r.Limit = -1 // which is refused, beside the field
	}
	p.Report, err = v.Control.Simulate(v.ctx(), v.actor, r)
	f, mistaken := v.form(values, err, "text", "table", "where", "limit")
	if err != nil && !mistaken {
		return reply{}, err
	}
	if p.Try = f; mistaken {
		return refused("rule", p)
	}
	p.Try = form{Values: values}
	return page("rule", p)
}

// judgedBadge is what a conjunct is for a row.
func judgedBadge(l *language.Language, result string) badge {
	kinds := map[string]string{mapping.JudgedTrue: "good", mapping.JudgedFalse: "bad", mapping.JudgedNull: "warn", mapping.JudgedFailed: "bad"}
	return newBadge(cmp.Or(kinds[result], "idle"), l.Word("judged", result))
}

// verdictBadge is what a rule made of a change.
func verdictBadge(l *language.Language, is string) badge {
	kinds := map[string]string{control.WhyEvent: "good", control.WhyParked: "bad"}
	return newBadge(cmp.Or(kinds[is], "idle"), l.Word("why", is))
}
