package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"gancho/cdc"
	"gancho/config"
	"gancho/delivery/endpoint"
	"gancho/internal/contract"
	"gancho/internal/language"
	"gancho/internal/strictyaml"
	"gancho/mapping"
)

func newCheckCommand() *cobra.Command {
	var path, source string
	k := &checkup{}
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Validate the configuration and the rules against the live catalogue",
		Long: `Validate the configuration, the rule files and every expression in them against
the source's catalogue. Nothing is changed anywhere. Every mistake is printed as
file:line:col with what to write instead, those of all stages in one run; what is to be
run in the source is printed once, behind them, for each role that must run it. The exit
code is 1 if there is a mistake. It is 1, too, while the publication exists and lacks
changes of a rule's table, while statements of the application fail because of a
publication, and where catalogue.yaml, which gancho catalogue save wrote, is not what the
source is now.

With --compatible-with, the events are compared with those that gancho events --format
jsonschema -o DIRECTORY described before: what would break receivers is printed with the
endpoints that get the event, and the exit code is 1. With --offline, too, what the rules
must know of the source is then in catalogue.yaml.

Of many databases each is checked, or the one of --source. What is wrong with one is printed
under its name, and the last line says how many are in order.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Inspect(path, variable)
			k.language, _ = language.From(cmd.Context())
			if c == nil {
				return err
			}
			k.config, k.stdout, k.stderr = c, cmd.OutOrStdout(), cmd.ErrOrStderr()
			switch {
			case c.Sources == nil && source == "":
			case err != nil: // which databases there are is not known
				k.offline = true
			case c.Sources != nil && source == "" && !k.offline:
				return k.runAll(cmd.Context())
			case source != "":
				if k.config, err = onSource(cmd.Context(), c, source); err != nil {
					return err
				}
			}
			return k.run(cmd.Context(), err)
		},
	}
	registerConfig(cmd.Flags(), &path)
	registerSource(cmd.Flags(), &source)
	cmd.Flags().BoolVar(&k.offline, "offline", false, "check the files alone, without the source")
	cmd.Flags().StringVar(&k.former, "compatible-with", "", "`directory` of former schemas of the events, which must still hold")
	return cmd
}

// checkup is one run of check. Each stage adds what it finds, and the next ones look at
// what does not depend on it.
type checkup struct {
	config   *config.Config
	offline  bool
	former   string           // a directory of schemas that the events must still hold to
	events   []contract.Event // as the source's catalogue has them
	stdout   io.Writer
	stderr   io.Writer       // also the log of the connection for lookups
	tables   []cdc.TableNeed // of the rules, once they are bound
	findings []cdc.Finding
	problems int // of the findings
	// planned: gancho plan makes statements of what is found; as is the DSN of who would run
	// them, "" for source.dsn, whose role need not exist then.
	planned  bool
	as       string
	language *language.Language // of what is printed
}

func (k *checkup) add(findings ...cdc.Finding) {
	for _, f := range findings {
		if f.Severity == cdc.SeverityProblem {
			k.problems++
		}
		k.findings = append(k.findings, f)
	}
}

// problem adds an error of a stage, which is one or a list of mistakes.
func (k *checkup) problem(id, where string, err error) {
	var known *mapping.MistakesError
	var list strictyaml.Errors
	switch {
	case err == nil:
	case errors.As(err, &known):
		k.add(known.Findings()...)
	case errors.As(err, &list):
		for _, e := range list {
			f := cdc.Finding{ID: id, Severity: cdc.SeverityProblem, Title: e.Message, Remedy: e.Hint, Where: e.File}
			if e.Line > 0 {
				f.Where = fmt.Sprintf("%s:%d:%d", e.File, e.Line, e.Col)
			}
			k.add(f)
		}
	default:
		k.add(cdc.Finding{ID: id, Severity: cdc.SeverityProblem, Title: err.Error(), Where: where})
	}
}

// note adds what is not in order and no mistake.
func (k *checkup) note(id, where, title, remedy string) {
	k.add(cdc.Finding{ID: id, Severity: cdc.SeverityWarning, Title: title, Remedy: remedy, Where: where})
}

// run checks everything that can be reached. mistakes are those of the configuration.
func (k *checkup) run(ctx context.Context, mistakes error) error {
	rules, total := k.examine(ctx, mistakes)
	endpoints := plural(int64(len(k.config.Endpoints)), "endpoint")
	if err := k.print(); err != nil {
		return err
	}
	if k.problems > 0 {
		return fmt.Errorf("%s found, see above; nothing was changed", plural(int64(k.problems), "problem"))
	}
	if err := k.contract(rules); err != nil {
		return err
	}
	said := fmt.Sprintf("%s: %s and %s are valid", k.config.File, plural(int64(total), "rule"), endpoints)
	if k.offline {
		said = fmt.Sprintf("%s: rules for %s and %s read; not checked against the source (--offline)", k.config.File, plural(int64(len(rules.Tables())), "table"), endpoints)
	}
	_, err := fmt.Fprintln(k.stdout, k.language.Translate("cli.label", said))
	return err
}

// examine finds everything, and returns the rules as they were read, and how many there
// are in the source. mistakes are those of the configuration.
func (k *checkup) examine(ctx context.Context, mistakes error) (*mapping.Rules, int) {
	k.problem("config.mistake", k.config.File, mistakes)
	rules := k.files(mistakes == nil)
	if k.offline || rules == nil || k.config.Source.DSN == "" {
		return rules, 0
	}
	return rules, k.source(ctx, rules)
}

// examineSource is examine for one of several sources: without what they have in common.
func (k *checkup) examineSource(ctx context.Context, _ error) (*mapping.Rules, int) {
	rules := k.rules()
	if k.offline || rules == nil {
		return rules, 0
	}
	return rules, k.source(ctx, rules)
}

// files checks what needs no server, and returns the rules without a mistake; nil: none.
func (k *checkup) files(whole bool) *mapping.Rules {
	rules := k.rules()
	for _, warning := range k.config.Warnings() {
		k.note("config.warning", k.config.File, warning, "")
	}
	if whole { // else each mistake would be told again
		k.secrets()
		k.scheduled(rules)
		_, err := readScreens(k.config.Console.Screens)
		k.problem("config.mistake", k.config.File, err)
	}
	return rules
}

// rules reads the rules; nil: there are none.
func (k *checkup) rules() *mapping.Rules {
	if len(k.config.Rules) == 0 {
		return nil
	}
	found, err := mapping.Inspect(ruleOptions(k.config))
	k.problem("rule.mistake", k.config.File, err)
	return found
}

// scheduled says that rules with schedule lack a state.
func (k *checkup) scheduled(rules *mapping.Rules) {
	if rules == nil || k.config.State.On() {
		return
	}
	for _, r := range rules.Sources() {
		if r.On == cdc.Schedule.String() {
			k.add(cdc.Finding{
				ID: "schedule.state", Severity: cdc.SeverityProblem, Where: r.Place, Title: "a rule with schedule needs a state database, which knows when it ran and what it has sent",
				Remedy: "write state: in the configuration, or remove the rule",
			})
		}
	}
}

// secrets says which keys can be guessed, which secrets two receivers know, and
// which a receiver has to know in another form than the one they are written in.
func (k *checkup) secrets() {
	c := k.config
	keys, err := stateOptions(c)
	if err != nil {
		k.problem("config.mistake", c.File, err)
	} else if keys != nil {
		for _, text := range keys.Keyring.Weak() {
			k.note("secret.weak", c.File, text, "")
		}
	}
	for _, names := range endpoint.SharedSecrets(c.Endpoints) {
		k.note("secret.shared", c.File, fmt.Sprintf("the endpoints %s have a signing secret in common: each receiver can sign as gancho to the others", strings.Join(names, ", ")), "give each its own")
	}
	for _, e := range c.Endpoints {
		if slices.ContainsFunc(e.Secrets, endpoint.Secret.IsText) {
			k.note("secret.text", c.File, fmt.Sprintf("endpoint %q: a secret is a text, whose bytes are the key; its receiver verifies with "+
				"whsec_ and base64 of it: echo whsec_$(printf %%s \"$SECRET\" | base64 -w0). If it is base64 already, and the receiver decodes it, write whsec_ before it", e.Name), "")
		}
	}
}

// source binds the rules to the source's catalogue, and looks what is missing in the
// source for the bridge to run. It returns the number of rules.
func (k *checkup) source(ctx context.Context, parsed *mapping.Rules) int {
	c := k.config
	conn, err := cdc.Connect(ctx, cmp.Or(k.as, c.Source.DSN.Reveal()))
	if err != nil {
		k.problem("source.unreachable", "source.dsn", fmt.Errorf("connect to the source: %w; check source.dsn, or use --offline", err))
		return 0
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	rules, err := parsed.Bind(ctx, conn)
	k.problem("source.unread", "source", err)
	var mistakes *mapping.MistakesError
	if errors.As(err, &mistakes) {
		rules = mistakes.Rules()
	}
	if rules == nil {
		return 0
	}
	k.tables = rules.Tables()
	if k.as != "" {
		k.roles(ctx, conn, rules)
	} else {
		if c.Source.LookupDSN != "" || mistakes == nil { // else it is the same role
			k.lookups(ctx, conn, rules)
		}
		k.role(ctx, conn)
	}
	k.add(rules.Findings()...)
	k.state(ctx, conn, rules)
	k.events = contract.Events(parsed.EventTypes(), rules.Payloads())
	if k.problems == 0 && !k.planned {
		k.problem("catalogue.drift", cataloguePath(c.File), checkCatalogue(k.stderr, k.language, c, rules))
	}
	return rules.Len()
}

// lookups checks what the rules read with the role that reads it, and what that role may.
func (k *checkup) lookups(ctx context.Context, conn *pgx.Conn, rules *mapping.Ruleset) {
	c := k.config
	identity, err := cdc.LoadIdentity(ctx, conn)
	if err != nil {
		k.problem("source.unread", "source", err)
		return
	}
	lookup := mapping.NewSource(cmp.Or(c.Source.LookupDSN, c.Source.DSN).Reveal(), cdc.Encoding(c.Source.Encoding), zerolog.New(zerolog.ConsoleWriter{Out: k.stderr})).Of(identity)
	defer lookup.Close(ctx)
	k.problem("source.lookup_dsn", "source.lookup_dsn", lookup.Check(ctx, rules))
	reader, superuser, err := lookup.Role(ctx)
	if err != nil {
		k.problem("source.unread", "source.lookup_dsn", err)
		return
	}
	if c.Source.LookupDSN != "" && superuser {
		k.superuser("source.lookup_dsn", reader)
	}
	role, err := rules.LookupRole(ctx, conn, reader)
	k.problem("source.unread", "source", err)
	if role != nil {
		role.Statements, err = cdc.ResolveOwners(ctx, conn, cdc.Encoding(c.Source.Encoding), role.Statements)
		k.problem("source.unread", "source", err)
		k.add(*role)
	}
}

// roles looks what the roles of source.dsn and source.lookup_dsn lack, by the catalogue alone.
func (k *checkup) roles(ctx context.Context, conn *pgx.Conn, rules *mapping.Ruleset) {
	for _, of := range []struct {
		where      string
		dsn        config.Secret
		lookups    bool
		attributes []string
	}{
		{"source.dsn", k.config.Source.DSN, k.config.Source.LookupDSN == "", []string{"REPLICATION"}},
		{"source.lookup_dsn", k.config.Source.LookupDSN, true, nil},
	} {
		if of.dsn == "" {
			continue
		}
		parsed, err := pgx.ParseConfig(of.dsn.Reveal())
		if err != nil {
			k.problem("config.mistake", of.where, cdc.ErrDSN)
			continue
		}
		statements, err := rules.RoleStatements(ctx, conn, parsed.User, of.lookups, of.attributes...)
		k.problem("source.unread", of.where, err)
		if len(statements) > 0 {
			k.add(cdc.Finding{ID: "role.missing", Severity: cdc.SeverityProblem, Title: fmt.Sprintf("role %s lacks what it needs", parsed.User), Statements: statements, Where: of.where})
		}
	}
}

// role says if the role of source.dsn is a superuser.
func (k *checkup) role(ctx context.Context, conn *pgx.Conn) {
	var role string
	err := conn.QueryRow(ctx, "select coalesce((select rolname::text from pg_catalog.pg_roles where rolname = current_user and rolsuper), '')").Scan(&role)
	if err != nil {
		k.problem("source.unread", "source", fmt.Errorf("read the role of source.dsn: %w", err))
	} else if role != "" {
		k.superuser("source.dsn", role)
	}
}

func (k *checkup) superuser(where, role string) {
	k.note("role.superuser", where, fmt.Sprintf("its role %s is a superuser, for which no privilege and no row-level security holds", role), "connect with a role of its own (docs/operations.md)")
}

// state checks the server, its publications and the slot.
func (k *checkup) state(ctx context.Context, conn *pgx.Conn, rules *mapping.Ruleset) {
	c, encoding := k.config, cdc.Encoding(k.config.Source.Encoding)
	settings, err := cdc.LoadSettings(ctx, conn)
	k.problem("source.unread", "source", err)
	if advice := encoding.Advice(settings.Encoding); err == nil && advice != "" {
		k.note("server.encoding", "source.encoding", advice, "")
	}
	remarks, err := cdc.Remarks(ctx, conn, encoding, c.Source.Publication)
	k.problem("source.unread", "source", err)
	k.add(remarks...)
	hazards, err := cdc.Hazards(ctx, conn, encoding, c.Source.Publication, rules.Ruled()...)
	k.problem("source.unread", "source", err)
	found := make([]cdc.Finding, len(hazards))
	for i := range hazards {
		found[i] = hazards[i].Finding()
	}
	k.problem("source.unread", "source", cdc.ResolveFindings(ctx, conn, encoding, found))
	k.add(found...)
	_, err = cdc.Examine(ctx, cdc.Options{DSN: cmp.Or(k.as, c.Source.DSN.Reveal()), Slot: c.Source.Slot, Publication: c.Source.Publication, Encoding: encoding}, rules.Tables(), k.statements())
	lacks := new(cdc.SetupError)
	if !errors.As(err, &lacks) {
		k.problem("source.not_ready", "source", err)
		return
	}
	for _, f := range lacks.Findings {
		known := func(o cdc.Finding) bool { return f.Table != "" && o.Table == f.Table && o.ID == f.ID }
		if !slices.ContainsFunc(k.findings, known) {
			k.add(f)
		}
	}
	if lacks.FirstStart() && len(lacks.Missing) > 0 && !k.planned {
		k.problem("publication.table", "source", fmt.Errorf("the publication exists and lacks changes of %s, which rules need: a bridge that runs does not capture them", joinNames(lacks.Missing)))
	}
}

// gathered: the statements of the finding must be run, and are printed behind all findings.
func gathered(f *cdc.Finding) bool {
	return f.Severity == cdc.SeverityProblem || f.ID == "publication.missing" || f.ID == "publication.table" || f.ID == "slot.missing"
}

func (k *checkup) statements() []cdc.Statement {
	var out []cdc.Statement
	for i := range k.findings {
		if gathered(&k.findings[i]) {
			out = append(out, k.findings[i].Statements...)
		}
	}
	return out
}

// print prints what was found, the worst last, and the statements behind it.
func (k *checkup) print() error {
	var text strings.Builder
	for _, problems := range []bool{false, true} {
		for i := range k.findings {
			f := &k.findings[i]
			switch {
			case (f.Severity == cdc.SeverityProblem) != problems:
			case gathered(f):
				text.WriteString(findingLine(k.language, f, true) + "\n")
			case len(f.Statements) > 3 || severalRoles(f.Statements): // too much for a line
				text.WriteString(findingLine(k.language, f, true) + "\n" + instructions(k.language, cdc.Script(f.Statements)))
			default:
				text.WriteString(findingLine(k.language, f, false) + "\n")
			}
		}
	}
	text.WriteString(instructions(k.language, cdc.Instructions(k.statements(), k.as != "")))
	_, err := fmt.Fprint(k.stderr, text.String())
	return err
}

// severalRoles: not one person runs all of the statements.
func severalRoles(statements []cdc.Statement) bool {
	return slices.ContainsFunc(statements, func(s cdc.Statement) bool { return s.Who.Role != statements[0].Who.Role })
}

func joinNames(names []cdc.Name) string {
	texts := make([]string, len(names))
	for i, n := range names {
		texts[i] = n.String()
	}
	return strings.Join(texts, ", ")
}
