package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"gancho/cdc"
	"gancho/config"
	"gancho/internal/language"
	"gancho/internal/strictyaml"
	"gancho/mapping"
	"gancho/mapping/ruletest"
)

// testFlags are the flags of gancho test.
type testFlags struct {
	config string
	run    string
	dsn    string
	junit  string
	update bool
	json   bool
}

// testDirectory holds the cases, beside gancho.yaml.
const testDirectory = "tests"

func newTestCommand() *cobra.Command {
	var f testFlags
	cmd := &cobra.Command{
		Use:   "test [DIRECTORY|FILE...]",
		Short: "Run the rules' unit tests, without a server",
		Long: `Run the cases of tests/*.yaml beside gancho.yaml, or of the given files and
directories, through the rules: docs/rules.md says how to write them. No server is
needed: what the rules must know of the source is in catalogue.yaml, which gancho
catalogue save writes. The secrets of hmac() are test values, and variables of the
environment need not be set.

The first difference of each case that fails is printed with its place. At the end
come the conditions of rules that no case decided both ways. The exit code is 0 when
all cases pass, 1 when one fails, 2 when the files are wrong.`,
		Example: "  gancho test\n  gancho test --run liquidada tests/cobrancas.yaml\n  gancho test --update",
		RunE:    f.test,
	}
	flags := cmd.Flags()
	registerConfig(flags, &f.config)
	flags.StringVar(&f.run, "run", "", "only cases whose FILE/NAME matches the regular expression `pattern`")
	flags.BoolVar(&f.update, "update", false, "write what came into the files, as the expectation of the cases that fail")
	flags.StringVar(&f.junit, "junit", "", "also write the results to `file`, as JUnit's XML")
	flags.StringVar(&f.dsn, "dsn", "", "connection `string` of a source: the rules are bound to it, and it is asked what the cases do not say")
	flags.BoolVar(&f.json, "json", false, "print JSON, for scripts")
	return cmd
}

func (f *testFlags) test(cmd *cobra.Command, args []string) error {
	var match *regexp.Regexp
	if f.run != "" {
		var err error
		if match, err = regexp.Compile(f.run); err != nil {
			return usageError{fmt.Errorf("--run: %w", err)}
		}
	}
	c, err := config.LoadRules(f.config, variable)
	if err != nil {
		return usageError{err}
	}
	files, err := testFiles(filepath.Dir(f.config), args)
	if err != nil {
		return err
	}
	for name := range c.Privacy.Secrets {
		c.Privacy.Secrets[name] = config.Secret("gancho test: " + name)
	}
	rules, source, err := f.bind(cmd, c)
	if err != nil {
		return err
	}
	if source != nil {
		defer source.Close(cmd.Context())
	}
	suite, err := ruletest.Load(rules, ruletest.Options{Location: c.Source.Location, Asks: source != nil}, files...)
	if err != nil {
		return usageError{err}
	}
	run, err := suite.Run(cmd.Context(), match, source)
	if err != nil {
		return err
	}
	if len(run.Results) == 0 {
		return usageError{fmt.Errorf("no case matches --run %q", f.run)}
	}
	if f.junit != "" {
		if err := writeJUnit(f.junit, run); err != nil {
			return err
		}
	}
	if f.update {
		return f.write(cmd, files, run)
	}
	return f.report(cmd, run)
}

// testFiles are the files of cases.
func testFiles(dir string, args []string) ([]string, error) {
	if len(args) == 0 {
		args = []string{filepath.Join(dir, testDirectory)}
	}
	var files []string
	for _, arg := range args {
		info, err := os.Stat(arg)
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				err = fmt.Errorf("%s does not exist; write cases in %s, or name files (docs/rules.md says how)", arg, filepath.Join(arg, "*.yaml"))
			}
			return nil, usageError{err}
		}
		if !info.IsDir() {
			files = append(files, arg)
			continue
		}
		found, err := filepath.Glob(filepath.Join(arg, "*.yaml"))
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, usageError{fmt.Errorf("%s has no *.yaml file with cases", arg)}
		}
		files = append(files, found...)
	}
	slices.Sort(files)
	return slices.Compact(files), nil
}

// bind binds the rules to the saved catalogue, or to the source of --dsn.
func (f *testFlags) bind(cmd *cobra.Command, c *config.Config) (*mapping.Ruleset, *mapping.Source, error) {
	parsed, err := parseRules(c)
	if err != nil {
		return nil, nil, usageError{err}
	}
	wrong := func(err error) error {
		if mistakes := (strictyaml.Errors)(nil); errors.As(err, &mistakes) {
			return usageError{err}
		}
		return err
	}
	if f.dsn == "" {
		saved, err := readCatalogue(cataloguePath(f.config))
		if err != nil {
			return nil, nil, usageError{err}
		}
		rules, err := parsed.BindTo(saved)
		return rules, nil, wrong(err)
	}
	conn, err := cdc.Connect(cmd.Context(), f.dsn)
	if err != nil {
		return nil, nil, usageError{fmt.Errorf("connect to the source: %w; check --dsn", err)}
	}
	defer func() { _ = conn.Close(context.WithoutCancel(cmd.Context())) }()
	rules, err := parsed.Bind(cmd.Context(), conn)
	if err != nil {
		return nil, nil, wrong(err)
	}
	return rules, mapping.NewSource(f.dsn, cdc.Encoding(c.Source.Encoding), zerolog.New(zerolog.ConsoleWriter{Out: cmd.ErrOrStderr()})), nil
}

func writeJUnit(path string, run *ruletest.Run) error {
	file, err := os.Create(path)
	if err != nil {
		return usageError{fmt.Errorf("--junit: %w", err)}
	}
	return errors.Join(run.WriteJUnit(file), file.Close())
}

// write writes the expectations of the cases that failed.
func (f *testFlags) write(cmd *cobra.Command, files []string, run *ruletest.Run) error {
	written, left := 0, 0
	for _, name := range files {
		var of []ruletest.Result
		for _, r := range run.Results {
			if r.Case.File == name {
				of = append(of, r)
			}
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		text, n, err := ruletest.Update(src, of)
		if err != nil {
			return err
		}
		written += n
		if n > 0 {
			if err := os.WriteFile(name, text, 0o600); err != nil { //nolint:gosec // the file that was named, and read
				return err
			}
		}
	}
	for _, r := range run.Results {
		if r.Broken() {
			left++
			if err := printFailure(cmd.OutOrStdout(), speech(cmd), r); err != nil {
				return err
			}
		}
	}
	if _, err := fmt.Fprint(cmd.OutOrStdout(), said(speech(cmd), fmt.Sprintf("%s, %d written; read the differences before you keep them\n", plural(int64(len(run.Results)), "case"), written))); err != nil {
		return err
	}
	if left > 0 {
		return fmt.Errorf("%s cannot be run", plural(int64(left), "case"))
	}
	return nil
}

func printFailure(w io.Writer, l *language.Language, r ruletest.Result) error {
	f := r.Failure
	text := f.Place + ": " + said(l, f.Message)
	if f.Expected != "" || f.Got != "" {
		text += "\n  " + said(l, "expected "+f.Expected) + "\n  " + said(l, "got      "+f.Got)
	}
	_, err := fmt.Fprintf(w, "%s %s:%d: %s\n  %s\n", said(l, "FAIL"), r.Case.File, r.Case.Line, r.Case.Name, strings.ReplaceAll(text, "\n", "\n  "))
	return err
}

// testItem is a case in --json.
type testItem struct {
	File    string            `json:"file"`
	Line    int               `json:"line"`
	Name    string            `json:"name"`
	Passed  bool              `json:"passed"`
	Failure *ruletest.Failure `json:"failure,omitempty"`
}

// report prints the failures and what no case decided.
func (f *testFlags) report(cmd *cobra.Command, run *ruletest.Run) error {
	failed := run.Failed()
	if f.json {
		out := struct {
			Items     []testItem         `json:"items"`
			Failed    int                `json:"failed"`
			Conjuncts []mapping.Conjunct `json:"conjuncts"`
			Untested  []string           `json:"untested"`
		}{Items: []testItem{}, Failed: failed, Conjuncts: run.Conjuncts, Untested: append([]string{}, run.Untested()...)}
		for _, r := range run.Results {
			out.Items = append(out.Items, testItem{r.Case.File, r.Case.Line, r.Case.Name, r.Failure == nil, r.Failure})
		}
		if err := (&session{cmd: cmd}).print(out); err != nil {
			return err
		}
	} else if err := f.print(cmd, run); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%s of %d failed", plural(int64(failed), "case"), len(run.Results))
	}
	return nil
}

func (f *testFlags) print(cmd *cobra.Command, run *ruletest.Run) error {
	out := cmd.OutOrStdout()
	for _, r := range run.Results {
		if r.Failure == nil {
			continue
		}
		if err := printFailure(out, speech(cmd), r); err != nil {
			return err
		}
	}
	if f.run == "" { // some cases alone say nothing about what all leave out
		for _, line := range run.Untested() {
			if _, err := fmt.Fprint(out, said(speech(cmd), "untested: "+line+"\n")); err != nil {
				return err
			}
		}
	}
	_, err := fmt.Fprint(out, said(speech(cmd), fmt.Sprintf("%s, %d failed\n", plural(int64(len(run.Results)), "case"), run.Failed())))
	return err
}

// cataloguePath is where the saved catalogue is: beside the configuration.
func cataloguePath(config string) string {
	return filepath.Join(filepath.Dir(config), "catalogue.yaml")
}

func readCatalogue(path string) (*mapping.Catalogue, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s does not exist, which says what the rules must know of the source; write it once with: gancho catalogue save", path)
	}
	if err != nil {
		return nil, err
	}
	return mapping.ParseCatalogue(path, text)
}

func newCatalogueCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "catalogue",
		Short: "Save what the rules need to know of the source, for gancho test",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var path, source string
	save := &cobra.Command{
		Use:   "save [FILE]",
		Short: "Write it to a file (default: catalogue.yaml beside gancho.yaml)",
		Long: `Bind the rules to the source and write what that needed to know to a file: settings,
the tables of the rules with their columns and types, and the results of lookups and of
expressions that PostgreSQL evaluates. No row is read. gancho test reads the file, and
gancho check says where the source differs from it. Keep it under version control.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{fmt.Errorf("unexpected argument %q: save writes one file", args[1])}
			}
			c, err := config.Load(path, variable)
			if err != nil {
				return err
			}
			if c, err = onSource(cmd.Context(), c, source); err != nil {
				return err
			}
			file := cataloguePath(path)
			if len(args) == 1 {
				file = args[0]
			}
			return saveCatalogue(cmd, c, file)
		},
	}
	registerConfig(save.Flags(), &path)
	registerSource(save.Flags(), &source)
	cmd.AddCommand(save)
	return cmd
}

func saveCatalogue(cmd *cobra.Command, c *config.Config, file string) error {
	parsed, err := parseRules(c)
	if err != nil {
		return err
	}
	conn, err := cdc.Connect(cmd.Context(), c.Source.DSN.Reveal())
	if err != nil {
		return fmt.Errorf("connect to the source: %w; check source.dsn", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(cmd.Context())) }()
	rules, err := parsed.Bind(cmd.Context(), conn)
	if err != nil {
		return err
	}
	saved := rules.Catalogue()
	text, err := saved.Append(nil)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	made := fmt.Sprintf("%s and %s of them", plural(int64(len(saved.Tables)), "table"), cmp.Or(queries(len(saved.Queries)), "no query"))
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", file, said(speech(cmd), made))
	return err
}

func queries(n int) string {
	switch n {
	case 0:
		return ""
	case 1:
		return "1 query"
	}
	return fmt.Sprintf("%d queries", n)
}

// checkCatalogue compares the saved catalogue, where there is one, with the source, and
// writes the differences.
func checkCatalogue(stderr io.Writer, l *language.Language, c *config.Config, rules *mapping.Ruleset) error {
	path := cataloguePath(c.File)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	saved, err := readCatalogue(path)
	if err != nil {
		return err
	}
	drift, outdated := saved.Differences(rules.Catalogue())
	for _, d := range slices.Concat(drift, outdated) {
		if _, err := fmt.Fprintf(stderr, "%s: %s\n", path, said(l, d+"; write it again: gancho catalogue save")); err != nil {
			return err
		}
	}
	if len(drift) > 0 {
		return fmt.Errorf("%s is not what the source is now, so that gancho test may say otherwise than the bridge does; write it again with: gancho catalogue save", path)
	}
	return nil
}
