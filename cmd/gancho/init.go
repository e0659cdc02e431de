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

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/internal/draft"
	"gancho/internal/language"
	"gancho/internal/presets"
	"gancho/mapping"
)

// initFlags are the flags of gancho init.
type initFlags struct {
	presets []string
	tables  []string
	dsn     string
	dir     string
}

// sourceVariable holds the connection string that the configuration of init names.
const sourceVariable = "GANCHO_SOURCE_DSN"

func newInitCommand() *cobra.Command {
	var f initFlags
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Draft gancho.yaml and rules from a database's catalogue, or from a preset",
		Long: `Write a commented gancho.yaml and rule files, to be edited.

With --dsn and --table, each table gets a rule file for its inserts, updates and
deletes, with all its columns, masked or commented out where their names say that
they are personal. Without --table the tables are listed by their activity, with the
reason why one cannot be published; on a terminal init asks which ones to draft, and
for the connection string.

With --preset, the tables and columns of the presets are searched for in that
database: names that differ are rewritten and listed for confirmation, and what is
not found is commented out with the reason.

What is written passes gancho check. Nothing is written to the database, and no
existing file is overwritten. If no rule can be written, nothing is, and the exit
code is 3.

Presets: ` + strings.Join(presets.Names(), ", ") + `.`,
		Example: "  gancho init --dsn postgres://reader@db/loja\n" +
			"  gancho init --dsn postgres://reader@db/loja --table vendas --table 'estoque*'\n" +
			"  gancho init --preset superlogica,iset --dsn postgres://reader@db/academia --dir /etc/gancho",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.presets, "preset", nil, "presets to write: "+strings.Join(presets.Names(), ", "))
	flags.StringArrayVar(&f.tables, "table", nil, "`name` of a table to draft rules for, or a pattern with * and ?; repeat it for more")
	flags.StringVar(&f.dsn, "dsn", "", "connection string of the source (default, without --preset: $"+sourceVariable+"); it is not written to the files")
	flags.StringVar(&f.dir, "dir", ".", "`directory` to write to")
	return cmd
}

func (f *initFlags) run(cmd *cobra.Command) error {
	ctx := cmd.Context()
	l := speech(cmd)
	files, err := f.files(l)
	if err != nil {
		return err
	}
	if err := f.refuseExisting(files); err != nil {
		return err
	}
	dialog := newDialog(cmd)
	dsn, err := f.source(dialog)
	if err != nil {
		return err
	}
	report := initReport{language: l, dsn: dsn, config: configTemplate}
	if dsn != "" {
		if err := report.draft(ctx, f, dsn, files, dialog); err != nil {
			return err
		}
		if err := f.refuseExisting(files); err != nil { // those of the tables, too
			return err
		}
	}
	if dsn == "" {
		if err := f.addPresetTests(l, files); err != nil {
			return err
		}
		if err := f.refuseExisting(files); err != nil {
			return err
		}
	}
	files["gancho.yaml"] = commented(l, report.config)
	if err := addSchemas(files); err != nil {
		return err
	}
	if err := f.refuseExisting(files); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := writeNew(filepath.Join(f.dir, name), files[name]); err != nil {
			for _, name := range report.written { // all or nothing
				err = errors.Join(err, os.Remove(filepath.Join(f.dir, name)))
			}
			return err
		}
		report.written = append(report.written, name)
	}
	_, err = io.WriteString(cmd.OutOrStdout(), said(l, report.text(f.dir)))
	return err
}

// source is the connection string of the database; empty: the presets are written as they are.
func (f *initFlags) source(dialog *dialog) (string, error) {
	switch {
	case f.dsn != "":
		return f.dsn, nil
	case len(f.presets) > 0 && len(f.tables) == 0:
		return "", nil
	}
	if dsn := strings.TrimSpace(os.Getenv(sourceVariable)); dsn != "" {
		return dsn, nil
	}
	if dialog.person {
		dsn, err := dialog.ask("Connection string of the source database, such as postgres://reader@db/loja (PGPASSWORD and .pgpass are read): ")
		if dsn != "" || err != nil {
			return dsn, err
		}
	}
	return "", usageError{fmt.Errorf("no database: write --dsn postgres://..., or set %s; or --preset with one or more of %s, which needs none", sourceVariable, strings.Join(presets.Names(), ", "))}
}

// again is what to type for the tables of the same database.
func (f *initFlags) again(l *language.Language, dsn string, tables []string) string {
	command := "gancho init" + tableFlags(tables)
	if f.dir != "." {
		command += " --dir " + shellWord(f.dir)
	}
	return said(l, exportOf(dsn)) + "  " + command
}

// files are the rule files of the presets, by their names below the directory.
func (f *initFlags) files(l *language.Language) (map[string]string, error) {
	out := map[string]string{}
	for _, preset := range f.presets {
		files, err := presets.Files(strings.TrimSpace(preset))
		if err != nil {
			return nil, usageError{err}
		}
		for name, text := range files {
			out[filepath.Join("rules", name)] = commented(l, string(text))
		}
	}
	return out, nil
}

// refuseExisting checks all files before the first one is written.
func (f *initFlags) refuseExisting(files map[string]string) error {
	for _, name := range append(slices.Sorted(maps.Keys(files)), "gancho.yaml") {
		path := filepath.Join(f.dir, name)
		if _, err := os.Lstat(path); err == nil {
			return usageError{fmt.Errorf("%s exists already, and nothing was written; move it away, or name another directory with --dir (to add rules here, move those from there)", path)}
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
	language   *language.Language
	dsn        string
	config     string // gancho.yaml
	secret     string // of the endpoint in it
	written    []string
	rules      map[string]string // how many, by file
	guesses    []string
	missing    []string
	leftOut    []string
	first      []string // what check waits for
	limited    []string // what tables cannot do
	out        []string
	statements []string
}

// draft reads the database, adapts the files of presets and adds those of tables.
func (r *initReport) draft(ctx context.Context, f *initFlags, dsn string, files map[string]string, dialog *dialog) error {
	conn, err := cdc.Connect(ctx, dsn)
	if err != nil {
		return usageError{fmt.Errorf("connect to the database: %w; check --dsn", err)}
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	location, err := time.LoadLocation(templateTimezone)
	if err != nil {
		return fmt.Errorf("load the time zone of the template: %w", err)
	}
	encoding, unknown, err := draft.GuessEncoding(ctx, conn)
	if err != nil {
		return err
	}
	r.encode(encoding, unknown)
	drafter, err := draft.New(ctx, conn, mapping.Options{Location: location, Encoding: encoding})
	if err != nil {
		return err
	}
	drafter.Speak(r.language)
	r.rules = map[string]string{}
	active := 0
	for _, name := range slices.Sorted(maps.Keys(files)) {
		d, err := drafter.Draft(ctx, filepath.Base(name), []byte(files[name]))
		if err != nil {
			return fmt.Errorf("adapt %s: %w", name, err)
		}
		files[name] = d.Text
		active += r.add(name, d)
	}
	r.guesses, r.missing = append(r.guesses, drafter.Guesses()...), drafter.Missing()
	if len(f.tables) > 0 || len(f.presets) == 0 {
		n, err := r.draftTables(ctx, f, drafter, files, dialog)
		if err != nil {
			return err
		}
		active += n
	}
	if active == 0 {
		return findingsError{fmt.Errorf("no rule could be written, and nothing was: %s\nnext:\n%s", r.why(), f.again(r.language, dsn, suggested(drafter)))}
	}
	slices.Sort(r.statements)
	r.statements = slices.Compact(r.statements)
	if err := r.addTests(ctx, f, conn, encoding, files); err != nil {
		return err
	}
	return r.server(ctx, conn)
}

// encode has the configuration name the encoding of a database whose own is none.
func (r *initReport) encode(guess cdc.Encoding, unknown bool) {
	const before = "  # on_schema_change:"
	line := ""
	switch {
	case guess != "":
		line = fmt.Sprintf("  %-36s# a guess, because the database's own is SQL_ASCII, which is none; latin1, win1252 or utf8\n", "encoding: "+string(guess))
		r.guesses = append(r.guesses, fmt.Sprintf("encoding %s of the database's text, in gancho.yaml", guess))
	case unknown:
		line = fmt.Sprintf("  %-36s# the database's own is SQL_ASCII, which is none: write the application's (latin1, win1252 or utf8)\n", "# encoding: win1252")
	}
	r.config = strings.Replace(r.config, before, line+before, 1)
}

// add notes what became of a file's rules, and returns how many are active.
func (r *initReport) add(name string, d *draft.Draft) int {
	r.rules[name] = fmt.Sprintf(": %s, %d commented out", plural(int64(d.Rules), "rule"), len(d.Out))
	r.out = append(r.out, outLines(name, d.Out)...)
	r.leftOut = append(r.leftOut, outLines(name, d.LeftOut)...)
	r.statements = append(r.statements, d.Statements...)
	return d.Rules - len(d.Out)
}

// outLines says what was commented out of a file: one line for all events, or parts of one, that have
// the same reasons.
func outLines(name string, all []draft.Out) []string {
	var lines, subjects []string // by reason
	index := map[string]int{}
	for _, out := range all {
		subject := out.Event
		if out.Part != "" {
			subject += ": " + out.Part
		}
		reason := strings.Join(out.Reasons, "; ")
		i, known := index[reason]
		switch {
		case !known:
			index[reason] = len(lines)
			lines, subjects = append(lines, reason), append(subjects, subject)
		case !slices.Contains(strings.Split(subjects[i], ", "), subject): // several rules may make one event
			subjects[i] += ", " + subject
		}
	}
	for i := range lines {
		lines[i] = name + ": " + subjects[i] + ": " + lines[i]
	}
	return lines
}

// draftTables adds the rule files of the tables that flags or answers choose.
func (r *initReport) draftTables(ctx context.Context, f *initFlags, drafter *draft.Drafter, files map[string]string, dialog *dialog) (active int, err error) {
	chosen, err := drafter.Select(f.tables)
	if unknown := new(draft.UnknownTableError); errors.As(err, &unknown) {
		return 0, usageError{fmt.Errorf("--table %s: %w", unknown.Pattern, err)}
	} else if err != nil {
		return 0, err
	}
	if len(f.tables) == 0 {
		if chosen, err = dialog.choose(drafter, f.again(r.language, r.dsn, suggested(drafter))); err != nil {
			return 0, err
		}
	}
	for _, c := range chosen {
		if c.Problem != "" {
			r.missing = append(r.missing, fmt.Sprintf("rules for %s: %s", c.Name, c.Problem))
		} else if c.Note != "" {
			r.limited = append(r.limited, c.Name+": "+c.Note)
		}
	}
	drafts, err := drafter.Tables(ctx, chosen)
	if err != nil {
		return 0, err
	}
	for _, d := range drafts {
		name := filepath.Join("rules", d.File)
		if _, taken := files[name]; taken { // a preset has the name
			name = filepath.Join("rules", "table_"+d.File)
		}
		files[name] = d.Text
		active += r.add(name, d.Draft)
		if d.Tenant != "" {
			r.guesses = append(r.guesses, d.Tenant)
		}
	}
	if len(drafts) > 0 {
		secret := endpoint.GenerateSecret().Reveal()
		r.secret = secret
		r.config = strings.Replace(r.config, "endpoints: []\n", fmt.Sprintf(localEndpoint, secret), 1)
	}
	return active, nil
}

// localEndpoint is for gancho listen, with the secret.
const localEndpoint = `endpoints:
  - name: local                            # gancho listen, on this machine; remove it when there is a real one
    url: http://127.0.0.1:8621/
    allow_http: true
    allow_private: [127.0.0.0/8]
    secret: %s
`

// server gives the slot another name where the server has one for another database,
// and notes what the server lacks.
func (r *initReport) server(ctx context.Context, conn *pgx.Conn) error {
	var taken bool
	var database, level string
	err := conn.QueryRow(ctx, `
		select exists (select from pg_catalog.pg_replication_slots where slot_name = 'gancho' and database <> current_database()),
			left(regexp_replace(lower(current_database()), '[^a-z0-9_]', '_', 'g'), 50), current_setting('wal_level')`).Scan(&taken, &database, &level)
	if err != nil {
		return fmt.Errorf("read the slots of the server: %w", err)
	}
	if taken {
		r.config = strings.Replace(r.config, "slot: gancho\n", "slot: gancho_"+database+"  # another database of the server has gancho\n", 1)
	}
	if level != "logical" {
		r.first = append(r.first, fmt.Sprintf("ALTER SYSTEM SET wal_level = logical;  -- it is %s; then restart the server", level))
	}
	return nil
}

// why says why there is no rule.
func (r *initReport) why() string {
	reasons := r.missing
	if len(reasons) == 0 {
		reasons = r.out
	}
	if len(reasons) == 0 {
		return "no table was chosen"
	}
	const some = 20
	if len(reasons) > some {
		reasons = append(reasons[:some:some], fmt.Sprintf("and %d more", len(reasons)-some))
	}
	return "not found, or not publishable:\n  " + strings.Join(reasons, "\n  ")
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
		{"guessed; confirm in the rule files:", r.guesses},
		{"not found, or not publishable:", r.missing},
		{"written, but not all of these can be captured or read:", r.limited},
		{"left out of rules:", r.leftOut},
		{"commented out:", r.out},
		{"to run in the source database, so that the rules see old values:", r.statements},
		{"to run in the source database, so that changes can be read:", r.first},
	} {
		if len(part.lines) > 0 {
			b.WriteString("\n" + part.title + "\n  " + strings.Join(part.lines, "\n  ") + "\n")
		}
	}
	config := shellWord(filepath.Join(dir, "gancho.yaml"))
	b.WriteString("\nnext:\n")
	if len(r.statements)+len(r.first) > 0 {
		b.WriteString("  # run the statements above\n")
	}
	b.WriteString(exportOf(r.dsn))
	b.WriteString("  gancho check --config " + config + "\n")
	if slices.Contains(r.written, "catalogue.yaml") {
		b.WriteString("  # gancho test --config " + config + " runs the rules' unit tests, without a server\n")
	}
	if r.secret != "" {
		b.WriteString("  gancho listen --secret " + r.secret + "  # in a terminal of its own: it prints the webhooks\n")
	} else {
		b.WriteString("  # add an endpoint to " + config + "\n")
	}
	b.WriteString("  gancho run --create --config " + config + "  # creates the slot and the publication\n")
	return b.String()
}

// templateTimezone is that of configTemplate.
const templateTimezone = "America/Sao_Paulo"

// configTemplate is the gancho.yaml that init writes.
//
//go:embed init.yaml
var configTemplate string
