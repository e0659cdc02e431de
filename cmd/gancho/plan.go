package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"gancho/cdc"
	"gancho/config"
	"gancho/internal/language"
	"gancho/internal/plan"
	"gancho/internal/state"
)

// planFlags are the flags of gancho plan.
type planFlags struct {
	config, source, as, record     string
	json, apply, undo, yes, script bool
}

func newPlanCommand() *cobra.Command {
	var f planFlags
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show, apply and undo what the rules need at the source",
		Long: `Show the least that has to change at the source for the rules: the role, its privileges,
replica identities, publications and the slot; each statement with who must run it, its
lock, its cost and its undo. What an earlier plan has done for tables that no rule is about
any more is taken back. Nothing is changed without --apply, and nothing that would make
the application's own UPDATE or DELETE fail is ever proposed.

--apply runs the statements one by one. One that locks a table waits for half a second at
most, and is tried again after a pause; the first that fails, or that this role may not run,
ends it. What was done is recorded next to the configuration, and --undo takes back that and
nothing else. --script writes a change ticket for others to run.

The exit code is 0 if there is nothing to do or all was done, and 3 while something is left.

Of many databases each has its plan, or the one of --source; --apply and --undo ask once, and
one that fails does not end the others. --as is of any database of their server.`,
		Example: "  gancho plan\n  gancho plan --script > ticket.sql\n  gancho plan --apply --as 'postgres://dba@db.example/legado'\n  gancho plan --undo",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return usageError{err}
			}
			c, err := config.Inspect(f.config, variable)
			if c == nil {
				return err
			}
			p := &planning{planFlags: f, cmd: cmd, config: c}
			switch {
			case err == nil && c.Sources != nil && f.source == "":
				return p.runAll(cmd.Context())
			case f.source != "" && err == nil:
				if p.config, err = onSource(cmd.Context(), c, f.source); err != nil {
					return err
				}
				p.as = p.asAt(p.config.Source.DSN)
			case c.Sources != nil:
				return err
			}
			return p.run(cmd.Context(), err)
		},
	}
	flags := cmd.Flags()
	registerConfig(flags, &f.config)
	registerSource(flags, &f.source)
	flags.BoolVar(&f.json, "json", false, "print JSON, for scripts")
	flags.BoolVar(&f.apply, "apply", false, "run the statements, after a person has typed yes")
	flags.BoolVar(&f.undo, "undo", false, "show the way back from what --apply did, and go it after a person has typed yes")
	flags.BoolVar(&f.script, "script", false, "print a change ticket: SQL, who runs it, and the way back")
	flags.BoolVar(&f.yes, "yes", false, "do not ask")
	flags.StringVar(&f.as, "as", "", "`DSN` of who runs the statements, such as a superuser (default: source.dsn); the password from PGPASSWORD or ~/.pgpass")
	flags.StringVar(&f.record, "record", "", "`file` of what --apply did (default: gancho.plan.jsonl next to gancho.yaml)")
	return cmd
}

func (f *planFlags) check() error {
	switch {
	case f.apply && f.undo, f.script && (f.apply || f.undo || f.json):
		return errors.New("--apply, --undo and --script exclude each other, as do --script and --json; keep one")
	case f.yes && !f.apply && !f.undo:
		return errors.New("--yes is for --apply and --undo; add one of them")
	}
	return nil
}

// planning is one run of plan.
type planning struct {
	planFlags
	cmd    *cobra.Command
	config *config.Config
	stage  planStage
}

// planStage is how far a plan for one of several sources goes.
type planStage uint8

const (
	wholePlan  planStage = iota
	shownPlan            // it is printed, and nothing is run
	agreedPlan           // a person has seen it, and said yes
)

func (p *planning) options() plan.Options {
	return plan.Options{Encoding: cdc.Encoding(p.config.Source.Encoding), Publication: p.config.Source.Publication}
}

// invalidAuthorization is the SQLSTATE of a role that does not exist, or may not log in.
const invalidAuthorization = "28000"

// run plans, or undoes. mistakes are those of the configuration.
func (p *planning) run(ctx context.Context, mistakes error) error {
	if p.config.Source.DSN == "" {
		return cmp.Or(mistakes, errors.New("source.dsn is missing"))
	}
	record, err := plan.OpenRecord(cmp.Or(p.record, plan.RecordPath(p.config.File)))
	if err != nil {
		return err
	}
	conn, err := cdc.Connect(ctx, cmp.Or(p.as, p.config.Source.DSN.Reveal()))
	if cdc.SQLState(err) == invalidAuthorization {
		return fmt.Errorf("connect to the source: %w ([user] stands for the role of the DSN, which is not printed); one that is still to be made is in the plan of a role that there is: give that one's DSN with --as", err)
	}
	if err != nil {
		return fmt.Errorf("connect to the source: %w; check source.dsn, or give another role's with --as", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if p.undo {
		return p.back(ctx, conn, record)
	}
	made, err := p.make(ctx, conn, record, mistakes)
	if err != nil {
		return err
	}
	switch {
	case p.stage == agreedPlan:
	case p.json && !p.apply:
		err = p.print(made)
	case p.script:
		_, err = io.WriteString(p.cmd.OutOrStdout(), made.Ticket())
	case !p.json:
		_, err = io.WriteString(p.cmd.OutOrStdout(), inLines(p.language(), made.Text()))
	}
	switch {
	case err != nil:
		return err
	case len(made.Changes) == 0:
		if p.json && p.apply {
			return p.print(made)
		}
		return nil
	case p.apply && p.stage != shownPlan:
		return p.carryOut(ctx, conn, made, record)
	}
	return findingsError{fmt.Errorf("%s pending; nothing was changed", plural(int64(len(made.Changes)), "change"))}
}

// make looks what is missing, as check does, and makes the plan of it.
func (p *planning) make(ctx context.Context, conn *pgx.Conn, record *plan.Record, mistakes error) (*plan.Plan, error) {
	k := &checkup{config: p.config, stdout: p.cmd.OutOrStdout(), stderr: p.cmd.ErrOrStderr(), as: p.as, planned: true}
	k.problem("config.mistake", p.config.File, mistakes)
	rules := k.files(false)
	if rules != nil {
		k.source(ctx, rules)
	} else if k.problems == 0 {
		return nil, fmt.Errorf("%s names no rules, and nothing is planned without; write them under rules", p.config.File)
	}
	statements := k.statements()
	for i := range k.findings {
		if f := &k.findings[i]; f.ID == "role.denied_columns" {
			statements = append(statements, f.Statements...)
		}
	}
	schema, err := p.schema(ctx, conn)
	if err != nil {
		return nil, err
	}
	statements = append(statements, schema...)
	endpoints, err := p.endpoints(ctx)
	if err != nil {
		return nil, err
	}
	for _, text := range endpoints {
		if _, err := fmt.Fprintln(p.cmd.ErrOrStderr(), p.language().Translate("cli.plan", text)); err != nil {
			return nil, err
		}
	}
	lost := 0
	for i := range k.findings {
		if f := &k.findings[i]; f.Severity == cdc.SeverityProblem && len(f.Statements) == 0 {
			lost++
			if _, err := fmt.Fprintln(p.cmd.ErrOrStderr(), findingLine(p.language(), f, false)); err != nil {
				return nil, err
			}
		}
	}
	if lost > 0 {
		return nil, fmt.Errorf("%s that no statement ends, see above; solve that first (gancho check shows all), nothing was changed", plural(int64(lost), "problem"))
	}
	leftovers, err := record.Leftovers(ctx, conn, p.options(), k.tables)
	if err != nil {
		return nil, err
	}
	return plan.New(ctx, conn, p.options(), append(statements, leftovers...))
}

// schema is the statement for Gancho's own tables, where they are in the source and its role may
// not create a schema for them.
func (p *planning) schema(ctx context.Context, conn *pgx.Conn) ([]cdc.Statement, error) {
	if !p.config.State.On() || p.config.State.DSN != "" {
		return nil, nil
	}
	parsed, err := pgx.ParseConfig(p.config.Source.DSN.Reveal())
	if err != nil {
		return nil, cdc.ErrDSN
	}
	var needed bool
	err = conn.QueryRow(ctx, `
		select not exists (select from pg_catalog.pg_namespace where nspname = 'gancho')
			and not exists (select from pg_catalog.pg_roles where rolname = $1 and pg_catalog.has_database_privilege(oid, pg_catalog.current_database(), 'CREATE'))`, parsed.User).Scan(&needed)
	if err != nil {
		return nil, fmt.Errorf("look for the schema gancho: %w", err)
	}
	if !needed {
		return nil, nil
	}
	s := cdc.CreateSchema("gancho", parsed.User)
	s.Why = "gancho migrate creates the tables of state.key in it; state.dsn puts them into another database"
	return []cdc.Statement{s}, nil
}

// endpoints says where the file's endpoints and the stored ones are in each other's way: no
// statement at the source changes that.
func (p *planning) endpoints(ctx context.Context) ([]string, error) {
	if !p.config.State.On() || len(p.config.Endpoints) == 0 {
		return nil, nil
	}
	store, err := openState(ctx, p.config)
	if err != nil {
		return []string{fmt.Sprintf("endpoints: the stored ones could not be compared with the file's: %v", oneLine(err, "gancho migrate creates the state's tables"))}, nil
	}
	defer store.Close()
	stored, err := store.EndpointsOf(ctx, "")
	if _, sealed := errors.AsType[*state.KeyError](err); err != nil && !sealed {
		return nil, fmt.Errorf("read the stored endpoints: %w", err)
	}
	var notes []string
	for _, e := range p.config.Endpoints {
		if slices.ContainsFunc(stored, func(s state.Endpoint) bool { return s.Name == e.Name }) {
			notes = append(notes, fmt.Sprintf("endpoint %q is in %s and stored, and the stored one is not used: take it out of the file to use that, and gancho endpoints edit or remove changes it", e.Name, p.config.File))
		}
	}
	return notes, nil
}

func (p *planning) print(document any) error {
	e := json.NewEncoder(p.cmd.OutOrStdout())
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(document)
}

// language is that of what is printed for people.
func (p *planning) language() *language.Language {
	l, _ := language.From(p.cmd.Context())
	return l
}

func (p *planning) say(format string, args ...any) {
	_, _ = fmt.Fprintln(p.cmd.ErrOrStderr(), p.language().Translate("cli.plan", fmt.Sprintf(format, args...)))
}

// carryOut applies a plan, and looks what is left after it.
func (p *planning) carryOut(ctx context.Context, conn *pgx.Conn, made *plan.Plan, record *plan.Record) error {
	if err := p.confirm("Apply this? Only yes is taken: "); err != nil {
		return err
	}
	err := made.Apply(ctx, conn, record, p.say)
	var stopped *plan.StoppedError
	if errors.As(err, &stopped) && errors.Is(err, plan.ErrBlocked) {
		err = findingsError{fmt.Errorf("%w\ngancho plan --script prints a ticket for what is left", err)}
	}
	if err != nil {
		return err
	}
	left, err := p.make(ctx, conn, record, nil)
	switch {
	case err != nil:
		return fmt.Errorf("all was applied; looking what is left: %w", err)
	case p.json:
		err = p.print(map[string]any{"applied": made, "left": left})
	default:
		p.say("applied; gancho plan --undo takes it back")
	}
	if err == nil && len(left.Changes) > 0 {
		return findingsError{fmt.Errorf("%s came to light by that; run gancho plan again", plural(int64(len(left.Changes)), "further change"))}
	}
	return err
}

// back shows the way back, and goes it.
func (p *planning) back(ctx context.Context, conn *pgx.Conn, record *plan.Record) error {
	undo, err := record.Undo(ctx, conn, p.options())
	if err != nil {
		return err
	}
	switch {
	case p.stage == agreedPlan:
	case p.json:
		err = p.print(undo)
	default:
		_, err = io.WriteString(p.cmd.OutOrStdout(), inLines(p.language(), undo.Text()))
	}
	switch {
	case err != nil || len(undo.Steps) == 0:
		return err
	case p.stage == shownPlan:
		return findingsError{errors.New("nothing was undone; add --yes")}
	case p.stage == wholePlan && !p.yes && !isTerminal(p.cmd.InOrStdin()):
		return findingsError{errors.New("nothing was undone; add --yes")}
	}
	if err := p.confirm("Undo this? Only yes is taken: "); err != nil {
		return err
	}
	return undo.Apply(ctx, conn, p.say)
}

// confirm asks a person, unless --yes was given.
func (p *planning) confirm(question string) error {
	if p.yes || p.stage == agreedPlan {
		return nil
	}
	return askYes(p.cmd, p.language().Translate("cli.plan", question))
}

// askYes asks a person, who has to write yes.
func askYes(cmd *cobra.Command, question string) error {
	if !isTerminal(cmd.InOrStdin()) {
		return usageError{errors.New("there is no terminal to ask; add --yes")}
	}
	if _, err := fmt.Fprint(cmd.ErrOrStderr(), question); err != nil {
		return err
	}
	answer, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	if strings.TrimSpace(answer) != "yes" {
		return errors.New("nothing was changed: the answer is not yes")
	}
	return nil
}
