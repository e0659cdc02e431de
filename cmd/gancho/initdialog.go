package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"gancho/internal/draft"
	"gancho/internal/language"
)

// dialog asks the person at a terminal, if there is one.
type dialog struct {
	in       *bufio.Scanner
	out      io.Writer
	person   bool
	language *language.Language
}

func newDialog(cmd *cobra.Command) *dialog {
	return &dialog{bufio.NewScanner(cmd.InOrStdin()), cmd.OutOrStdout(), isTerminal(cmd.InOrStdin()) && isTerminal(cmd.OutOrStdout()), speech(cmd)}
}

// ask returns a line, empty at the end of the input.
func (d *dialog) ask(question string) (string, error) {
	if _, err := io.WriteString(d.out, said(d.language, question)); err != nil {
		return "", err
	}
	if !d.in.Scan() {
		return "", d.in.Err()
	}
	return strings.TrimSpace(d.in.Text()), nil
}

// listedTables is how many tables a person is shown; all go to a file or pipe.
const listedTables = 30

// choose lists the tables, and asks which of them rules are for. Without a person
// the error says what to type.
func (d *dialog) choose(drafter *draft.Drafter, next string) ([]draft.Candidate, error) {
	all := drafter.Candidates()
	if !slices.ContainsFunc(all, func(c draft.Candidate) bool { return c.Problem == "" }) {
		return nil, findingsError{errors.New("the database has no table whose changes can be published, and nothing was written; does --dsn name the right one?")}
	}
	shown := all
	if d.person {
		shown = all[:min(listedTables, len(all))]
	}
	if err := d.list(shown); err != nil {
		return nil, err
	}
	if more := len(all) - len(shown); more > 0 {
		if _, err := fmt.Fprintln(d.out, said(d.language, fmt.Sprintf("and %d more, with fewer changes or not publishable", more))); err != nil {
			return nil, err
		}
	}
	if !d.person {
		return nil, findingsError{fmt.Errorf("no table was named, and nothing was written\nnext:\n%s", next)}
	}
	for {
		answer, err := d.ask("\nTables to draft rules for (numbers, names or patterns, with commas between; empty: none): ")
		if err != nil || answer == "" {
			return nil, err
		}
		chosen, err := drafter.Select(named(answer, shown))
		if unknown := new(draft.UnknownTableError); !errors.As(err, &unknown) {
			return chosen, err
		}
		if _, err := fmt.Fprintln(d.out, said(d.language, err.Error())); err != nil {
			return nil, err
		}
	}
}

// list prints a table of tables.
func (d *dialog) list(candidates []draft.Candidate) error {
	t := newTable(d.out, headings(d.language, "", "TABLE", "ROWS", "INSERTS", "UPDATES", "DELETES", "KEY", "TENANT?", "NOTE")...)
	for i, c := range candidates {
		if c.Problem != "" {
			t.row(strconv.Itoa(i+1), c.Name, "-", "-", "-", "-", "-", "-", said(d.language, "not publishable: "+c.Problem))
			continue
		}
		number := func(n int64) string { return strconv.FormatInt(n, 10) }
		t.row(strconv.Itoa(i+1), c.Name, number(c.Rows), number(c.Inserts), number(c.Updates), number(c.Deletes),
			orDash(strings.Join(c.Key, ",")), orDash(c.Tenant), c.Note)
	}
	return t.end()
}

// named are the names and patterns of an answer: "Quoted, names" may have commas,
// numbers are those of the list.
func named(answer string, listed []draft.Candidate) []string {
	quoted := false
	names := strings.FieldsFunc(answer, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == ',' && !quoted
	})
	for i, name := range names {
		names[i] = strings.TrimSpace(name)
		if n, err := strconv.Atoi(names[i]); err == nil && n >= 1 && n <= len(listed) {
			names[i] = listed[n-1].Name
		}
	}
	return slices.DeleteFunc(names, func(name string) bool { return name == "" })
}

// suggested are the tables with most changes that rules can be written for, at most three.
func suggested(drafter *draft.Drafter) []string {
	var names []string
	for _, c := range drafter.Candidates() {
		if c.Problem == "" && len(names) < 3 {
			names = append(names, c.Name)
		}
	}
	return names
}

// tableFlags are names as flags on a command line.
func tableFlags(names []string) string {
	var b strings.Builder
	for _, name := range names {
		b.WriteString(" --table " + shellWord(name))
	}
	return b.String()
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:-]+$`)

// shellWord quotes a text for a shell, where it needs quotes.
func shellWord(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(printable(s), "'", `'\''`) + "'"
}
