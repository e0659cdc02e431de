package draft

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"gancho/internal/strictyaml"
	"gancho/mapping"
	"gancho/migrations"
)

// Drafter adapts presets to one database.
type Drafter struct {
	conn      *pgx.Conn
	options   mapping.Options
	placement *placement
}

// Draft is a rule file adapted to the database.
type Draft struct {
	Text string
	// Rules counts all rules of the preset, Out are those commented out.
	Rules int
	Out   []Out
	// Statements are what a DBA has to run before the rest of the rules is in
	// order, each with a semicolon.
	Statements []string
}

// Out is a rule that was commented out.
type Out struct {
	Event   string
	Reasons []string
}

// New reads the catalogue. The Drafter uses the connection, and the options but
// for Files and Deny, for every draft.
func New(ctx context.Context, conn *pgx.Conn, o mapping.Options) (*Drafter, error) {
	tables, err := loadTables(ctx, conn)
	if err != nil {
		return nil, err
	}
	schema, _, _ := migrations.Legacy()
	o.Deny = nil
	return &Drafter{conn, o, &placement{parseSchema(schema), tables, map[string]*placed{}}}, nil
}

// Guesses are sentences about what was found under another name.
func (d *Drafter) Guesses() []string {
	how := map[sureness]string{folded: "by its words", synonym: "as another word for it", near: "as the nearest spelling"}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(d.placement.found)) {
		found := d.placement.found[name]
		if found == nil {
			continue
		}
		if found.sure > same {
			out = append(out, fmt.Sprintf("table %s is used as %s, %s", found.table.Name, name, how[found.sure]))
		}
		for _, column := range slices.Sorted(maps.Keys(found.guessed)) {
			out = append(out, fmt.Sprintf("column %s of %s is used as %s, %s", found.column(column), found.table.Name, column, how[found.guessed[column]]))
		}
	}
	return out
}

// Missing are sentences about the tables that were not found.
func (d *Drafter) Missing() []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(d.placement.found)) {
		if d.placement.found[name] == nil {
			out = append(out, missingTable(name))
		}
	}
	return out
}

// Draft adapts a rule file. The error is one of the file's syntax or of a query;
// rules that do not fit are in the result.
func (d *Drafter) Draft(ctx context.Context, name string, text []byte) (*Draft, error) {
	f, err := parseFile(name, string(text))
	if err != nil {
		return nil, err
	}
	out := &Draft{Rules: len(f.rules)}
	adapted, reasons := d.placement.adapt(f)
	if f, err = parseFile(name, adapted); err != nil {
		return nil, err
	}
	for reasons != nil {
		if f, err = out.without(f, reasons); err != nil {
			return nil, err
		}
		if reasons, err = d.check(ctx, f, out); err != nil {
			return nil, err
		}
	}
	out.Text = f.text
	return out, nil
}

// without comments out the rules that have reasons, by their numbers.
func (d *Draft) without(f *ruleFile, reasons [][]string) (*ruleFile, error) {
	for i := len(reasons) - 1; i >= 0; i-- {
		if len(reasons[i]) == 0 {
			continue
		}
		d.Out = append(d.Out, Out{scalarOf(f.rules[i], "event"), reasons[i]})
		text := f.commentOut(i, reasons[i])
		if len(f.rules) == 1 {
			text = strings.Replace(text, "\nrules:\n", "\nrules: []\n", 1)
		}
		var err error
		if f, err = parseFile(f.name, text); err != nil {
			return nil, err
		}
	}
	return f, nil
}

var (
	identityStatement = regexp.MustCompile(`ALTER (TABLE \S+ REPLICA IDENTITY FULL|PUBLICATION \S+ SET \(publish_generated_columns = stored\));`)
	commented         = regexp.MustCompile(`^(run|add a primary key, or run): `)
)

// check binds the rules as gancho check does. It returns the reasons for which
// rules do not fit, nil when the rest is in order but for statements.
func (d *Drafter) check(ctx context.Context, f *ruleFile, out *Draft) ([][]string, error) {
	if len(f.rules) == 0 {
		return nil, nil
	}
	dir, err := os.MkdirTemp("", "gancho-init")
	if err != nil {
		return nil, fmt.Errorf("check drafted rules: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	o := d.options
	o.Files = []string{filepath.Join(dir, f.name)}
	if err := os.WriteFile(o.Files[0], []byte(f.text), 0o600); err != nil {
		return nil, fmt.Errorf("check drafted rules: %w", err)
	}
	rules, err := mapping.Parse(o)
	if err == nil {
		_, err = rules.Bind(ctx, d.conn)
	}
	var mistakes strictyaml.Errors
	if !errors.As(err, &mistakes) {
		return nil, err
	}
	var reasons [][]string
	out.Statements = nil
	for _, m := range mistakes {
		if statements := identityStatement.FindAllString(m.Hint, -1); statements != nil && commented.MatchString(m.Hint) {
			out.Statements = append(out.Statements, statements...)
			continue
		}
		i := f.ruleAt(m.Line)
		if i < 0 {
			return nil, err
		}
		if reasons == nil {
			reasons = make([][]string, len(f.rules))
		}
		reason := m.Message
		if m.Hint != "" {
			reason += "; " + m.Hint
		}
		if !slices.Contains(reasons[i], reason) {
			reasons[i] = append(reasons[i], reason)
		}
	}
	slices.Sort(out.Statements)
	out.Statements = slices.Compact(out.Statements)
	return reasons, nil
}
