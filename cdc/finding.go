package cdc

import "strings"

// Severity is how much a finding matters.
type Severity string

// The severities, from the best to the worst; SeveritySkipped is what could not be checked.
const (
	SeverityOK      Severity = "ok"
	SeverityNote    Severity = "note"    // works as it is, and is worth to know
	SeverityWarning Severity = "warning" // works now, and bites later
	SeverityProblem Severity = "problem" // does not work, or breaks the application
	SeveritySkipped Severity = "skipped"
)

// Finding is what a check of the source, or of the rules against it, has found. It
// holds no row data.
type Finding struct {
	// ID names the kind of finding, the same in all versions: identity.missing.
	ID       string   `json:"id"`
	Severity Severity `json:"severity"`
	// Title is the fact, Why what it means; Why may be "".
	Title string `json:"title"`
	Why   string `json:"why,omitempty"`
	// Statements end it. Remedy is what else does, or what to do where no SQL does; with
	// statements it continues their sentence: "or leave it out of the rule".
	Statements []Statement `json:"statements,omitempty"`
	Remedy     string      `json:"remedy,omitempty"`
	// Where is the place of the rule, file:line or file:line:col, or a part of the
	// configuration such as source.dsn.
	Where string `json:"where"`
	// Table is the one that it is about, "" where that is none or several.
	Table string `json:"table,omitempty"`
}

// Fix is what to do, in one line: the statements, and the remedy.
func (f *Finding) Fix() string {
	fix := f.Remedy
	if len(f.Statements) > 0 {
		fix = joinNonEmpty(" ", "run", joinSQL(f.Statements), f.Remedy)
	}
	return fix
}

// below stands for the statements where they are printed together, at the end.
const below = "run the SQL below"

// FixBelow is [Finding.Fix] where the statements of all findings follow them.
func (f *Finding) FixBelow() string {
	if len(f.Statements) == 0 {
		return f.Remedy
	}
	return joinNonEmpty(", ", below, f.Remedy)
}

// String is the finding in one line: place: fact; meaning; fix.
func (f Finding) String() string { return f.line(f.Fix()) }

// Above is String in a list that [Instructions] follow, which have its statements.
func (f Finding) Above() string { return f.line(f.FixBelow()) }

func (f *Finding) line(fix string) string {
	return f.Where + ": " + joinNonEmpty("; ", f.Title, f.Why, fix)
}

// Statements are those of all findings.
func Statements(findings []Finding) []Statement {
	var out []Statement
	for i := range findings {
		out = append(out, findings[i].Statements...)
	}
	return out
}

func joinSQL(statements []Statement) string {
	texts := make([]string, len(statements))
	for i, s := range statements {
		texts[i] = s.SQL
	}
	return strings.Join(texts, " ")
}

func joinNonEmpty(separator string, texts ...string) string {
	var out []string
	for _, text := range texts {
		if text != "" {
			out = append(out, text)
		}
	}
	return strings.Join(out, separator)
}
