package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/internal/language"
	"gancho/internal/presets"
	"gancho/internal/strictyaml"
	"gancho/mapping"
	"gancho/mapping/ruletest"
)

// addTests adds the tests of the preset, where its rules are as it has them, or a first
// case of the rules that were drafted, and the catalogue that they run with.
func (r *initReport) addTests(ctx context.Context, f *initFlags, conn *pgx.Conn, encoding cdc.Encoding, files map[string]string) error {
	dir, err := os.MkdirTemp("", "gancho-init-")
	if err != nil {
		return fmt.Errorf("write a first test: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // what is left is small
	var names []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, filepath.Base(name))
		if err := os.WriteFile(path, []byte(files[name]), 0o600); err != nil {
			return fmt.Errorf("write a first test: %w", err)
		}
		names = append(names, path)
	}
	location, err := time.LoadLocation(templateTimezone)
	if err != nil {
		return err
	}
	rules, err := mapping.Parse(mapping.Options{Files: names, Location: location, Encoding: encoding})
	var bound *mapping.Ruleset
	if err == nil {
		bound, err = rules.Bind(ctx, conn)
	}
	if mistakes := (strictyaml.Errors)(nil); errors.As(err, &mistakes) {
		return nil // gancho check says them
	}
	if err != nil {
		return err
	}
	text, err := bound.Catalogue().Append(nil)
	if err != nil {
		return err
	}
	files["catalogue.yaml"] = commented(r.language, string(text))
	if err := f.addPresetTests(r.language, files); err != nil || len(f.presets) > 0 {
		return err
	}
	first, err := firstCase(ctx, bound, rules.EventTypes(), location, filepath.Join(dir, "tests.yaml"))
	if first != "" {
		files[filepath.Join(testDirectory, "first.yaml")] = commented(r.language, first)
	}
	return err
}

// addPresetTests adds the tests of a preset that is alone and unchanged: of several, one's
// tests would meet the others' rules.
func (f *initFlags) addPresetTests(l *language.Language, files map[string]string) error {
	if len(f.presets) != 1 || len(f.tables) > 0 {
		return nil
	}
	preset := strings.TrimSpace(f.presets[0])
	rules, err := presets.Files(preset)
	if err != nil {
		return err
	}
	for name, text := range rules {
		if files[filepath.Join("rules", name)] != commented(l, string(text)) {
			return nil
		}
	}
	tests, err := presets.Tests(preset)
	if err != nil {
		return err
	}
	for name, text := range tests {
		files[filepath.Join(testDirectory, name)] = commented(l, string(text))
	}
	return nil
}

// caseHead begins the file of the first case.
const caseHead = "# Tests of the rules, for gancho test; docs/rules.md says how to write them.\ntests:\n"

// samples are values by types of PostgreSQL.
var samples = map[string]string{
	"int2": "1", "int4": "1", "int8": "1", "numeric": "1", "text": "a", "varchar": "a", "bpchar": "a",
	"uuid": "7d444840-9dc0-11d1-b245-5ffdce74fad2", "date": "2026-01-31", "timestamp": "2026-01-31 10:00:00", "timestamptz": "2026-01-31 10:00:00-03",
}

// firstCase is a file with a case of the first rule for inserts, and what comes as the
// expectation; "" where there is no such rule.
func firstCase(ctx context.Context, rules *mapping.Ruleset, events []mapping.EventType, location *time.Location, path string) (string, error) {
	for _, event := range events {
		for _, r := range event.Rules {
			name, err := cdc.ParseName(r.Table)
			if err != nil || !strings.Contains(r.On, "insert") {
				continue
			}
			table := rules.Table(name)
			var row []string
			for _, column := range table.Relation.Columns {
				if value := samples[column.Type.Base().Name]; value != "" && slices.Contains(table.PrimaryKey, column.Name) {
					row = append(row, fmt.Sprintf("%q: %s", column.Name, value))
				}
			}
			text := fmt.Sprintf("%s  - name: an inserted row is an event\n    given:\n      insert: %s\n      new: {%s} # columns that are not named are null\n", caseHead, yamlQuoted(r.Table), strings.Join(row, ", "))
			return expected(ctx, rules, location, path, text)
		}
	}
	return "", nil
}

func yamlQuoted(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// expected is a file of cases with what comes as their expectations; "" where they cannot
// be run.
func expected(ctx context.Context, rules *mapping.Ruleset, location *time.Location, path, text string) (string, error) {
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("write a first test: %w", err)
	}
	suite, err := ruletest.Load(rules, ruletest.Options{Location: location}, path)
	if err != nil {
		return "", nil //nolint:nilerr // a row that a person has to think about
	}
	run, err := suite.Run(ctx, nil, nil)
	if err != nil {
		return "", err
	}
	out, written, err := ruletest.Update([]byte(text), run.Results)
	if err != nil || written == 0 {
		return "", err
	}
	return string(out), nil
}
