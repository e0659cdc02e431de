package ruletest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"gancho/cdc"
	"gancho/mapping"
)

// masked is what a draft has instead of a text that is somebody's.
const masked = "***"

// Draft writes a file of cases of a row: one for each operation that rules of its table are for, with what comes as the expectation. What is hidden is
// masked, or left out and named where the type takes no text. Lookups find rows of nulls, so that the file needs no server and has nobody's data; a
// case that cannot be run so has no expectation.
func Draft(ctx context.Context, rules *mapping.Ruleset, o Options, table cdc.Name, row []mapping.RowValue) ([]byte, error) {
	var on []string
	var places []string
	for _, r := range rules.Texts() {
		if r.Table == table && !r.Child {
			places = append(places, r.Place)
			on = append(on, strings.Split(r.On, " or ")...)
		}
	}
	var text strings.Builder
	text.WriteString("# Drafted from a row as it was read, for tests/*.yaml beside gancho.yaml: change it as docs/rules.md says, and run gancho test --update.\n")
	if hidden := hiddenColumns(row); len(hidden) > 0 {
		fmt.Fprintf(&text, "# Personal values were masked, or left out: %s.\n", strings.Join(hidden, ", "))
	}
	text.WriteString("tests:\n")
	drafted := 0
	for _, op := range []cdc.Op{cdc.Insert, cdc.Update, cdc.Delete} {
		if !slices.Contains(on, op.String()) {
			continue
		}
		drafted++
		fmt.Fprintf(&text, "  - name: %s\n    given:\n      %s: %s\n", quoted(fmt.Sprintf("%s of %s", op, table)), op, quoted(table.String()))
		if op == cdc.Update {
			text.WriteString("      old: # as it was read: write what the update changed as it was before\n")
			writeRow(&text, row)
			text.WriteString("      new: {} # what is not named is as in old\n")
		} else {
			text.WriteString(map[cdc.Op]string{cdc.Insert: "      new:\n", cdc.Delete: "      old:\n"}[op])
			writeRow(&text, row)
		}
		writeAnswers(&text, rules.Questions(), places)
	}
	if drafted == 0 {
		return nil, fmt.Errorf("no rule is for rows of %s", table)
	}
	return complete(ctx, rules, o, []byte(text.String()))
}

// complete adds what comes as the expectations.
func complete(ctx context.Context, rules *mapping.Ruleset, o Options, src []byte) ([]byte, error) {
	suite := newSuite(rules, o)
	if err := suite.read("draft.yaml", src).Err(); err != nil {
		return nil, err
	}
	run, err := suite.Run(ctx, nil, nil)
	if err != nil {
		return nil, err
	}
	out, _, err := Update(src, run.Results)
	return out, err
}

func hiddenColumns(row []mapping.RowValue) (names []string) {
	for _, v := range row {
		if v.Hidden {
			names = append(names, v.Column)
		}
	}
	return names
}

func writeRow(text *strings.Builder, row []mapping.RowValue) {
	for _, v := range row {
		switch {
		case v.Hidden && v.IsText:
			fmt.Fprintf(text, "        %s: %s\n", quoted(columnName(v.Column)), quoted(masked))
		case v.Text != nil:
			fmt.Fprintf(text, "        %s: %s\n", quoted(columnName(v.Column)), quoted(*v.Text))
		}
	}
}

// writeAnswers writes what lookups and PostgreSQL answer the rules at these places: nulls.
func writeAnswers(text *strings.Builder, questions []mapping.Question, places []string) {
	lookups, evaluated := map[string]bool{}, map[string]bool{}
	var found, answers strings.Builder
	for _, q := range questions {
		if !slices.Contains(places, q.Rule) {
			continue
		}
		if q.Name != "" && !lookups[q.Name] {
			lookups[q.Name] = true
			fmt.Fprintf(&found, "      %s: {%s: null}\n", quoted(q.Name), quoted(q.Columns[0].Name))
		}
		for _, e := range q.Expressions {
			if !evaluated[e.Text] {
				evaluated[e.Text] = true
				fmt.Fprintf(&answers, "      %s: null\n", quoted(e.Text))
			}
		}
	}
	if found.Len() > 0 {
		text.WriteString("    lookups: # write what they find; columns that are not named are null\n" + found.String())
	}
	if answers.Len() > 0 {
		text.WriteString("    evaluated: # write what PostgreSQL answers\n" + answers.String())
	}
}

// columnName is a column as a case names it: as in SQL.
func columnName(name string) string {
	if parsed, err := cdc.ParseName(name); err == nil && parsed.Schema == "" && parsed.Name == name {
		return name
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// quoted is a scalar of YAML; one with line ends, or what is not printed, is written with escapes.
func quoted(s string) string {
	if strings.IndexFunc(s, func(r rune) bool {
		return r < ' ' || r == '\u007f' || r == '\u0085' || r == '\u2028' || r == '\u2029' || r == '\ufeff'
	}) >= 0 {
		return fmt.Sprintf("%q", s)
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}
