package draft

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/internal/language"
	"gancho/internal/strictyaml"
	"gancho/mapping"
	"gancho/migrations"
)

// Drafter drafts rules for one database: it adapts presets, and writes new ones.
type Drafter struct {
	speaker
	conn      *pgx.Conn
	options   mapping.Options
	role      string // of the connection
	tables    []*table
	placement *placement
}

// Draft is a rule file adapted to the database.
type Draft struct {
	Text string
	// Rules counts all rules of the file, Out are those commented out. LeftOut are parts
	// of the others: leaves, the tenant, lookups.
	Rules   int
	Out     []Out
	LeftOut []Out
	// Statements are what a DBA has to run before the rest of the rules is in
	// order, each with a semicolon.
	Statements []string

	ready bool // there are to be no statements
}

// Out is a rule, or a part of one, that was commented out.
type Out struct {
	Event   string
	Part    string // data.cliente.nome; empty: the rule
	Reasons []string
}

// New reads the catalogue. The Drafter uses the connection, and the options but
// for Files and Deny, for every draft.
func New(ctx context.Context, conn *pgx.Conn, o mapping.Options) (*Drafter, error) {
	tables, err := loadTables(ctx, conn, o.Encoding)
	if err != nil {
		return nil, err
	}
	schema, _, _ := migrations.Legacy()
	o.Deny = nil
	whole := slices.DeleteFunc(slices.Clone(tables), func(t *table) bool { return t.root != nil })
	d := &Drafter{conn: conn, options: o, tables: tables, placement: newPlacement(schema, whole)}
	if err := conn.QueryRow(ctx, "select "+o.Encoding.SQL("current_user::text")).Scan(&d.role); err != nil {
		return nil, fmt.Errorf("read the role: %w", err)
	}
	return d, nil
}

// Speak has the drafts and what is said of them in a language; without it they are in English.
func (d *Drafter) Speak(l *language.Language) {
	d.language, d.placement.language = l, l
}

// Guesses are sentences about what was found under another name, with the table's score.
func (d *Drafter) Guesses() []string {
	how := map[sureness]string{folded: d.say("by its words"), synonym: d.say("as another word for it"), near: d.say("as the nearest spelling"), onlyKey: d.say("as the primary key")}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(d.placement.found)) {
		found := d.placement.found[name]
		if found == nil {
			continue
		}
		if found.sure > same {
			out = append(out, d.sayf("table %s is used as %s, %s: score %d of 100 (%s)", found.table.Name, name, how[found.sure], found.score, found.evidence))
		}
		for _, column := range slices.Sorted(maps.Keys(found.guessed)) {
			out = append(out, d.sayf("column %s of %s is used as %s, %s", found.column(column), found.table.Name, column, how[found.guessed[column]]))
		}
	}
	return out
}

// Missing are sentences about the tables that were not found.
func (d *Drafter) Missing() []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(d.placement.found)) {
		if d.placement.found[name] == nil {
			out = append(out, d.placement.missingTable(name))
		}
	}
	return out
}

// Draft adapts a rule file. The error is one of the file's syntax or of a query;
// what does not fit is in the result.
func (d *Drafter) Draft(ctx context.Context, name string, text []byte) (*Draft, error) {
	f, err := d.parseFile(name, string(text))
	if err != nil {
		return nil, err
	}
	out := &Draft{Rules: len(f.rules)}
	for {
		adapted, reasons, parts := d.placement.adapt(f)
		if len(parts) > 0 { // the names that are left are looked for again
			if f, err = out.without(f, nil, parts); err != nil {
				return nil, err
			}
			continue
		}
		if f, err = d.parseFile(name, adapted); err != nil {
			return nil, err
		}
		return out, d.fitFile(ctx, f, out, reasons)
	}
}

// fitFile comments out what does not fit until the rest does: parts of rules first,
// because a rule may do without them.
func (d *Drafter) fitFile(ctx context.Context, f *ruleFile, out *Draft, reasons [][]string) (err error) {
	var parts []part
	for reasons != nil || parts != nil {
		if f, err = out.without(f, reasons, parts); err != nil {
			return err
		}
		if reasons, parts, err = d.check(ctx, f, out); err != nil {
			return err
		}
	}
	out.Text = f.text
	return nil
}

// without comments out the parts, or else the rules that have reasons, by their numbers.
func (d *Draft) without(f *ruleFile, reasons [][]string, parts []part) (*ruleFile, error) {
	if len(parts) > 0 {
		text, left := f.without(parts)
		d.LeftOut = append(d.LeftOut, left...)
		return f.parseFile(f.name, text)
	}
	for i, why := range reasons {
		if len(why) > 0 {
			d.Out = append(d.Out, Out{Event: scalarOf(f.rules[i], "event"), Reasons: why})
		}
	}
	for i := len(reasons) - 1; i >= 0; i-- { // the last one first: the numbers of others stay
		if len(reasons[i]) == 0 {
			continue
		}
		text := f.commentOut(i, reasons[i])
		if len(f.rules) == 1 {
			text = strings.Replace(text, "\nrules:\n", "\nrules: []\n", 1)
		}
		var err error
		if f, err = f.parseFile(f.name, text); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// check binds the rules as gancho check does. It returns the reasons for which
// rules, or parts of them, do not fit; nil when the rest is in order but for statements.
func (d *Drafter) check(ctx context.Context, f *ruleFile, out *Draft) (reasons [][]string, parts []part, err error) {
	if len(f.rules) == 0 {
		return nil, nil, nil
	}
	mistakes, findings, err := d.bind(ctx, f)
	if err != nil {
		return nil, nil, err
	}
	out.Statements = nil
	for n, m := range mistakes {
		found := findings[n]
		if len(found.Statements) > 0 && !out.ready && strings.HasPrefix(found.ID, "identity.") {
			for _, s := range found.Statements {
				out.Statements = append(out.Statements, s.SQL)
			}
			continue
		}
		i := f.ruleAt(m.Line)
		if i < 0 {
			return nil, nil, fmt.Errorf("check drafted rules: %w", mistakes)
		}
		reason := d.mistake(m.Message, &found)
		if p, ok := f.partAt(m.Line, m.Col, reason); ok {
			parts = append(parts, p)
			continue
		}
		if reasons == nil {
			reasons = make([][]string, len(f.rules))
		}
		if !slices.Contains(reasons[i], reason) {
			reasons[i] = append(reasons[i], reason)
		}
	}
	slices.Sort(out.Statements)
	out.Statements = slices.Compact(out.Statements)
	return reasons, parts, nil
}

// bind finds the mistakes of rule files as gancho check does, and what each is as a finding.
func (d *Drafter) bind(ctx context.Context, files ...*ruleFile) (strictyaml.Errors, []cdc.Finding, error) {
	dir, err := os.MkdirTemp("", "gancho-init")
	if err != nil {
		return nil, nil, fmt.Errorf("check drafted rules: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	o := d.options
	o.Files = nil
	for _, f := range files {
		file := filepath.Join(dir, f.name)
		if err := os.WriteFile(file, []byte(f.text), 0o600); err != nil {
			return nil, nil, fmt.Errorf("check drafted rules: %w", err)
		}
		o.Files = append(o.Files, file)
	}
	rules, err := mapping.Parse(o)
	if err == nil {
		_, err = rules.Bind(ctx, d.conn)
	}
	var mistakes strictyaml.Errors
	var known *mapping.MistakesError
	switch {
	case err == nil:
		return nil, nil, nil
	case errors.As(err, &known):
		return known.Errors, known.Findings(), nil
	case !errors.As(err, &mistakes):
		return nil, nil, err
	}
	findings := make([]cdc.Finding, len(mistakes))
	for i, m := range mistakes {
		findings[i].Remedy = m.Hint
	}
	return mistakes, findings, nil
}
