package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gancho/cdc"
	"gancho/internal/draft"
	"gancho/internal/presets"
	"gancho/mapping"
)

// initFlags are the flags of gancho init.
type initFlags struct {
	presets []string
	dsn     string
	dir     string
}

func newInitCommand() *cobra.Command {
	var f initFlags
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Draft gancho.yaml and rules from a preset",
		Long: `Write a commented gancho.yaml and a rule file for each preset, to be edited.
With --dsn the tables and columns of the presets are searched for in that database:
names that differ are rewritten and listed for confirmation, and a rule whose tables
or columns are not found is commented out with the reason. Nothing is written to the
database, and no existing file is overwritten.

Presets: ` + strings.Join(presets.Names(), ", ") + `.`,
		Example: "  gancho init --preset superlogica,iset --dsn postgres://reader@db/academia --dir /etc/gancho",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(f.presets) == 0 {
				return usageError{fmt.Errorf("--preset is missing; write one or more of %s, with commas between", strings.Join(presets.Names(), ", "))}
			}
			return f.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.presets, "preset", nil, "presets to write: "+strings.Join(presets.Names(), ", "))
	flags.StringVar(&f.dsn, "dsn", "", "connection string of the database to adapt the presets to (it is not written to the files)")
	flags.StringVar(&f.dir, "dir", ".", "`directory` to write to")
	return cmd
}

func (f *initFlags) run(ctx context.Context, stdout io.Writer) error {
	files, err := f.files()
	if err != nil {
		return err
	}
	if err := f.refuseExisting(files); err != nil {
		return err
	}
	var report initReport
	if f.dsn != "" {
		if err := report.adapt(ctx, f.dsn, files); err != nil {
			return err
		}
	}
	files["gancho.yaml"] = configTemplate
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := writeNew(filepath.Join(f.dir, name), files[name]); err != nil {
			return err
		}
		report.written = append(report.written, name)
	}
	_, err = io.WriteString(stdout, report.text(f.dir))
	return err
}

// files are the rule files of the presets, by their names below the directory.
func (f *initFlags) files() (map[string]string, error) {
	out := map[string]string{}
	for _, preset := range f.presets {
		files, err := presets.Files(strings.TrimSpace(preset))
		if err != nil {
			return nil, usageError{err}
		}
		for name, text := range files {
			out[filepath.Join("rules", name)] = string(text)
		}
	}
	return out, nil
}

// refuseExisting checks all files before the first one is written.
func (f *initFlags) refuseExisting(files map[string]string) error {
	for _, name := range append(slices.Sorted(maps.Keys(files)), "gancho.yaml") {
		path := filepath.Join(f.dir, name)
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%s exists already, and nothing was written; move it away, or name another directory with --dir", path)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("check that %s does not exist: %w", path, err)
		}
	}
	return nil
}

// writeNew never overwrites. Others may not read the file: secrets may be added
// to the configuration later.
func writeNew(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return fmt.Errorf("create the directory of %s: %w", path, err)
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = file.WriteString(text)
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// initReport is what init prints at the end.
type initReport struct {
	written    []string
	rules      map[string]string // how many, by file
	guesses    []string
	missing    []string
	out        []string
	statements []string
}

// adapt rewrites the files for the database.
func (r *initReport) adapt(ctx context.Context, dsn string, files map[string]string) error {
	conn, err := cdc.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("connect to the database: %w; check --dsn", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	location, err := time.LoadLocation(templateTimezone)
	if err != nil {
		return fmt.Errorf("load the time zone of the template: %w", err)
	}
	drafter, err := draft.New(ctx, conn, mapping.Options{Location: location})
	if err != nil {
		return err
	}
	r.rules = map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		d, err := drafter.Draft(ctx, filepath.Base(name), []byte(files[name]))
		if err != nil {
			return fmt.Errorf("adapt %s: %w", name, err)
		}
		files[name] = d.Text
		r.rules[name] = fmt.Sprintf(": %d rules, %d commented out", d.Rules, len(d.Out))
		for _, out := range d.Out {
			r.out = append(r.out, fmt.Sprintf("%s: %s: %s", name, out.Event, strings.Join(out.Reasons, "; ")))
		}
		r.statements = append(r.statements, d.Statements...)
	}
	r.guesses, r.missing = drafter.Guesses(), drafter.Missing()
	slices.Sort(r.statements)
	r.statements = slices.Compact(r.statements)
	return nil
}

func (r *initReport) text(dir string) string {
	var b strings.Builder
	for _, name := range r.written {
		b.WriteString("wrote " + filepath.Join(dir, name) + r.rules[name] + "\n")
	}
	for _, part := range []struct {
		title string
		lines []string
	}{
		{"guessed under other names; confirm them in the rule files:", r.guesses},
		{"not found:", r.missing},
		{"commented out:", r.out},
		{"to run in the source database, so that the rules see old values:", r.statements},
	} {
		if len(part.lines) > 0 {
			b.WriteString("\n" + part.title + "\n  " + strings.Join(part.lines, "\n  ") + "\n")
		}
	}
	b.WriteString("\nnext: set GANCHO_SOURCE_DSN and GANCHO_REDIS_URL, edit the files, and run: gancho check --config " + filepath.Join(dir, "gancho.yaml") + "\n")
	return b.String()
}

// templateTimezone is that of configTemplate.
const templateTimezone = "America/Sao_Paulo"

// configTemplate is the gancho.yaml that init writes.
//
//go:embed init.yaml
var configTemplate string
