package mapping

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"gancho/cdc"
	"gancho/internal/strictyaml"
)

// remedy is what to do about a mistake or a note: SQL, words, or words that continue it.
type remedy struct {
	statements []cdc.Statement
	words      string
}

func (r remedy) empty() bool { return len(r.statements) == 0 && r.words == "" }

// line is the remedy in one line, with its SQL.
func (r remedy) line() string {
	f := cdc.Finding{Statements: r.statements, Remedy: r.words}
	return f.Fix()
}

func words(format string, args ...any) remedy { return remedy{words: fmt.Sprintf(format, args...)} }

// MistakesError is the error of Bind: all mistakes of all files, in the order of their places,
// and the SQL that ends those of them that are the source's.
type MistakesError struct {
	strictyaml.Errors
	findings []cdc.Finding
	rules    *Ruleset
	// denied are the rules of which only privileges are missing; other: there are other
	// mistakes.
	denied []*boundRule
	other  bool
}

// Error has one mistake per line, and behind them the statements.
func (m *MistakesError) Error() string {
	return strings.TrimSuffix(m.Errors.Error()+"\n"+cdc.Instructions(cdc.Statements(m.findings), false), "\n")
}

// Unwrap makes the list of mistakes reachable by errors.As.
func (m *MistakesError) Unwrap() error { return m.Errors }

// Findings are the mistakes as findings, in the same order.
func (m *MistakesError) Findings() []cdc.Finding { return slices.Clone(m.findings) }

// Rules are what could be bound all the same, which no Mapper can apply: for checks of
// the source that do not depend on the mistakes.
func (m *MistakesError) Rules() *Ruleset { return m.rules }

// Denied returns the rules as they can be applied, and the identities (see
// [Ruleset.Identities]) of those that lack privileges: their changes are parked. It
// returns nil unless all mistakes are privileges, without which a rule can be understood.
func (m *MistakesError) Denied() (*Ruleset, []string) {
	if m.other {
		return nil, nil
	}
	identities := mapped(m.denied, m.rules.identity)
	return m.rules, slices.DeleteFunc(identities, func(identity string) bool { return identity == "" }) // with schedule: it has no changes
}

// idMistake is the kind of a mistake that is the rule's alone.
const idMistake = "rule.mistake"

// propose is mistake for one that the source's owner can end.
func (b *binder) propose(id string, v strictyaml.Value, offset int, r remedy, format string, args ...any) *cdc.Finding {
	return b.proposeAs(id, r, func(hint string) *strictyaml.Error { return v.Mistake(offset, hint, format, args...) })
}

// proposeAs is propose of a mistake that is made with its hint.
func (b *binder) proposeAs(id string, r remedy, make func(hint string) *strictyaml.Error) *cdc.Finding {
	f := &cdc.Finding{ID: id, Statements: r.statements, Remedy: r.words}
	e := make(f.FixBelow())
	b.errors = append(b.errors, e)
	if b.proposed == nil {
		b.proposed = map[*strictyaml.Error]*cdc.Finding{}
	}
	b.proposed[e] = f
	return f
}

func (b *binder) note(id string, r *rule, about remedy, format string, args ...any) {
	b.findings = append(b.findings, cdc.Finding{
		ID: id, Severity: cdc.SeverityNote, Title: fmt.Sprintf(format, args...), Statements: about.statements, Remedy: about.words, Where: r.place(),
	})
}

// mistakes returns the error of what was found, nil if that is nothing.
func (b *binder) mistakes(ctx context.Context, rs *Ruleset) error {
	all, _ := b.errors.Err().(strictyaml.Errors) //nolint:errorlint // it returns no other
	if len(all) == 0 {
		return nil
	}
	m := &MistakesError{Errors: all, rules: rs, denied: b.lacking, other: b.denials < len(b.errors)}
	// Of equal mistakes, such as those of a rule for each table that inherits from its own,
	// one is left, with the statements of all.
	more := map[strictyaml.Error][]cdc.Statement{}
	for _, e := range b.errors {
		if f := b.proposed[e]; f != nil {
			more[*e] = cdc.Gather(append(more[*e], f.Statements...))
		}
	}
	for _, e := range all {
		f := cdc.Finding{ID: idMistake, Remedy: e.Hint}
		if b.proposed[e] != nil {
			f = *b.proposed[e]
			f.Statements = more[*e]
		}
		f.Severity, f.Title = cdc.SeverityProblem, e.Message
		f.Where = e.File
		if e.Line > 0 {
			f.Where = fmt.Sprintf("%s:%d:%d", e.File, e.Line, e.Col)
		}
		m.findings = append(m.findings, f)
	}
	return b.resolveOwners(ctx, m.findings, m)
}

// resolveOwners completes the statements of findings, and returns the error with them.
func (b *binder) resolveOwners(ctx context.Context, findings []cdc.Finding, err error) error {
	if b.saved != nil {
		return err
	}
	if failed := cdc.ResolveFindings(ctx, b.conn, b.options.Encoding, findings); failed != nil {
		return fmt.Errorf("bind rules: %w", failed)
	}
	return err
}
