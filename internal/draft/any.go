package draft

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"gancho/cdc"
	"gancho/internal/strictyaml"
)

// Candidate is a table of the database that rules may be written for, or a view
// for which that is impossible.
type Candidate struct {
	// Name is as SQL writes it, with the schema where the name alone does not find it.
	Name string
	// Rows is the planner's estimate; the others count since the statistics were reset.
	Rows, Inserts, Updates, Deletes int64
	// Key is the primary key or a unique index, Tenant the guessed column; both may be empty.
	Key    []string
	Tenant string
	// Problem says why no rule can be written, Note what a rule cannot do. Either has
	// what to do about it.
	Problem, Note string

	table *table
}

// Candidates are all tables and views: those that rules can be written for, by
// their number of changes, then the others by name.
func (d *Drafter) Candidates() []Candidate {
	var out []Candidate
	for _, t := range d.tables {
		if t.root != nil {
			continue
		}
		out = append(out, d.candidate(t))
	}
	slices.SortStableFunc(out, func(a, b Candidate) int {
		if (a.Problem == "") != (b.Problem == "") {
			return cmp.Compare(a.Problem, b.Problem)
		}
		return cmp.Or(cmp.Compare(b.table.activity.changes(), a.table.activity.changes()), cmp.Compare(b.Rows, a.Rows), cmp.Compare(a.Name, b.Name))
	})
	return out
}

func (d *Drafter) candidate(t *table) Candidate {
	c := Candidate{
		Name: t.written(), Rows: t.activity.rows, Inserts: t.activity.inserts, Updates: t.activity.updates, Deletes: t.activity.deletes,
		Key: t.key, Problem: d.problem(t), table: t,
	}
	if e := d.options.Encoding; c.Problem == "" && (e == cdc.Latin1 || e == cdc.Win1252) && !ascii(t.Schema+t.Name.Name) {
		c.Problem = d.say("its name is not ASCII, which a database whose encoding is SQL_ASCII cannot be asked for: rename it, or its schema")
	}
	if guess := t.tenant(); guess != nil {
		c.Tenant = guess.expression()
	}
	w := writer{speaker: d.speaker, table: t}
	var notes []string
	switch {
	case c.Problem != "":
	case !t.identified && t.generatedKey != nil:
		notes = append(notes, d.sayf("no deletes: %s; %s", w.lacking(), w.identify()))
	case !t.identified:
		notes = append(notes, d.sayf("inserts only: %s; %s", w.lacking(), w.identify()))
	}
	if !t.readable && c.Problem == "" {
		notes = append(notes, d.say("no SELECT: its values are unknown here, and lookups cannot read it"))
	}
	c.Note = strings.ReplaceAll(strings.Join(notes, "; "), ";; ", "; ")
	return c
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

// problem says why the table's changes cannot be published, and what to do.
func (s speaker) problem(t *table) string {
	switch {
	case t.root != nil:
		return s.sayf("a partition: its changes are those of %s; name that", t.root.written())
	case t.kind == "v", t.kind == "m":
		return s.say("a view has no changes of its own: name the tables that it reads")
	case t.kind == "f":
		return s.say("a foreign table: run gancho in the database that holds it")
	case t.persistence == "u":
		return s.sayf("unlogged: its changes are not in the WAL; ALTER TABLE %s SET LOGGED;", t.Name)
	case t.persistence == "t":
		return s.say("temporary: its changes are not in the WAL")
	}
	return ""
}

// UnknownTableError is a name or pattern that no table has.
type UnknownTableError struct {
	Pattern string
	Closest string // "": none is near
}

// Error says what to write instead.
func (e *UnknownTableError) Error() string {
	text := fmt.Sprintf("table %s does not exist", e.Pattern)
	if isPattern(e.Pattern) {
		text = fmt.Sprintf("no table is named like %s", e.Pattern)
	}
	if e.Closest != "" {
		return text + "; did you mean " + e.Closest + "?"
	}
	return text + "; gancho init without --table lists the tables"
}

// Select are the tables and views that names and patterns choose, each once, by name.
// A name is as SQL writes it or as it is stored, with the schema or without; * and
// ? in it stand for any text and any character. The error is an [*UnknownTableError]
// for a name that does not exist. A pattern leaves out what cannot be published.
func (d *Drafter) Select(patterns []string) ([]Candidate, error) {
	all := d.Candidates()
	for _, t := range d.tables {
		if t.root != nil {
			all = append(all, d.candidate(t))
		}
	}
	chosen := map[*table]bool{}
	for _, pattern := range patterns {
		found := false
		for _, match := range matchers(pattern) {
			for _, c := range all {
				if match(c.table) {
					found = true
					chosen[c.table] = chosen[c.table] || c.Problem == "" || !isPattern(pattern)
				}
			}
			if found {
				break
			}
		}
		if !found {
			var names []string
			for _, c := range all {
				names = append(names, c.Name, c.table.Name.Name)
			}
			closest := strictyaml.Closest(pattern, names)
			if i := slices.IndexFunc(all, func(c Candidate) bool { return c.table.Name.Name == closest }); i >= 0 {
				closest = all[i].Name
			}
			return nil, &UnknownTableError{pattern, closest}
		}
	}
	all = slices.DeleteFunc(all, func(c Candidate) bool { return !chosen[c.table] })
	slices.SortFunc(all, func(a, b Candidate) int { // the plain name of two gives its rules their file
		return cmp.Or(cmp.Compare(strings.Count(a.Name, `"`), strings.Count(b.Name, `"`)), cmp.Compare(a.Name, b.Name))
	})
	return all, nil
}

func isPattern(s string) bool { return strings.ContainsAny(s, "*?") }

// matchers are what a name or pattern may mean, the likeliest first: the table that
// it finds in SQL, any of the name, one of another case.
func matchers(pattern string) []func(*table) bool {
	if isPattern(pattern) {
		return []func(*table) bool{func(t *table) bool {
			return like(pattern, t.Name.Name) || like(pattern, t.Schema+"."+t.Name.Name) || like(pattern, t.Name.String())
		}}
	}
	written, err := cdc.ParseName(pattern)
	if err != nil {
		written = cdc.Name{}
	}
	return []func(*table) bool{
		func(t *table) bool {
			return written.Name == t.Name.Name && (written.Schema == t.Schema || written.Schema == "" && t.visible)
		},
		func(t *table) bool { return pattern == t.Name.Name || pattern == t.Schema+"."+t.Name.Name },
		func(t *table) bool { return written.Schema == "" && written.Name == t.Name.Name },
		func(t *table) bool {
			return strings.EqualFold(pattern, t.Name.Name) || strings.EqualFold(pattern, t.Schema+"."+t.Name.Name)
		},
	}
}

// like matches a name with * and ?, without regard to case.
func like(pattern, name string) bool {
	p, n := []rune(strings.ToLower(pattern)), []rune(strings.ToLower(name))
	star, from, i, j := -1, 0, 0, 0
	for j < len(n) {
		switch {
		case i < len(p) && p[i] == '*':
			star, from = i, j
			i++
		case i < len(p) && (p[i] == '?' || p[i] == n[j]):
			i++
			j++
		case star >= 0:
			from++
			i, j = star+1, from
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}

// TableDraft is the rule file of a table.
type TableDraft struct {
	*Draft
	File   string // without a directory
	Tenant string // what was guessed, in words; may be empty
}

// Tables writes a rule file for each of the tables, bound as gancho check binds
// them: what does not fit, or waits for a statement, is commented out with the reason.
func (d *Drafter) Tables(ctx context.Context, chosen []Candidate) ([]*TableDraft, error) {
	var out []*TableDraft
	var files []*ruleFile
	taken := map[string]bool{}
	for _, c := range chosen {
		if c.Problem != "" {
			continue
		}
		if err := loadValues(ctx, d.conn, d.options.Encoding, c.table); err != nil {
			return nil, err
		}
		w := &writer{speaker: d.speaker, table: c.table, event: c.table.event(taken), role: d.role}
		f, err := d.parseFile(w.event+".yaml", w.rules())
		if err != nil {
			return nil, err
		}
		files = append(files, f)
		draft := &TableDraft{Draft: &Draft{Text: f.text, Rules: len(f.rules), ready: true}, File: f.name}
		if guess := c.table.tenant(); guess != nil {
			draft.Tenant = d.sayf("column %s of %s as the tenant, %d of 100: %s", guess.expression(), c.Name, guess.score, d.say(guess.reason))
			if guess.column == "" {
				draft.Tenant = d.sayf("schema %s of %s as the tenant, %d of 100: %s", guess.schema, c.Name, guess.score, d.say(guess.reason))
			}
		}
		out = append(out, draft)
	}
	return out, d.fitTables(ctx, files, out)
}

// fitTables binds all files together, which is faster for many, and then alone those
// that have mistakes. A hundred mistakes are found at once.
func (d *Drafter) fitTables(ctx context.Context, files []*ruleFile, drafts []*TableDraft) error {
	fitted := map[string]bool{}
	for len(active(files)) > 0 {
		mistakes, _, err := d.bind(ctx, active(files)...)
		if err != nil || mistakes == nil {
			return err
		}
		again := false
		for i, f := range files {
			wrong := slices.ContainsFunc(mistakes, func(m *strictyaml.Error) bool { return filepath.Base(m.File) == f.name })
			if !wrong || fitted[f.name] {
				continue
			}
			again, fitted[f.name] = true, true
			if err := d.fitFile(ctx, f, drafts[i].Draft, make([][]string, len(f.rules))); err != nil {
				return err
			}
			if files[i], err = d.parseFile(f.name, drafts[i].Text); err != nil {
				return err
			}
		}
		if !again {
			return fmt.Errorf("check drafted rules: %w", mistakes)
		}
	}
	return nil
}

// active are the files that have rules.
func active(files []*ruleFile) []*ruleFile {
	return slices.DeleteFunc(slices.Clone(files), func(f *ruleFile) bool { return len(f.rules) == 0 })
}

// event is what the table's events are called, and its file: none that is taken.
func (t *table) event(taken map[string]bool) string {
	event := slug(t.Name.Name)
	if !t.unqualified || event == "gancho" { // events of Gancho itself begin so
		event = slug(t.Schema) + "." + event
	}
	const room = 100 // of 128 bytes
	event = event[:min(room, len(event))]
	for n, name := 2, event; taken[event]; n++ {
		event = fmt.Sprintf("%s_%d", name, n)
	}
	taken[event] = true
	return event
}
