package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"gancho/config"
)

// plannedSource is what plan says of one of several sources, and how it ended.
type plannedSource struct {
	out, errs string
	err       error
}

// runAll is run at each of many databases. What fails at one does not end the others.
func (p *planning) runAll(ctx context.Context) error {
	all, err := allSources(ctx, p.config)
	if err != nil {
		return err
	}
	if p.json {
		return usageError{errors.New("--json is of one source: add --source NAME")}
	}
	// One at a time: what the first does to the server, such as making a role, the others have then.
	pending, failed, err := p.over(ctx, all, shownPlan)
	if err != nil || !p.apply && !p.undo || len(pending) == 0 {
		return errors.Join(err, summary(len(all), pending, failed))
	}
	question := "Apply this at %d of the sources? Only yes is taken: "
	if p.undo {
		question = "Undo this at %d of the sources? Only yes is taken: "
	}
	if err := p.confirm(fmt.Sprintf(question, len(pending))); err != nil {
		return err
	}
	left, broken, err := p.over(ctx, pending, agreedPlan)
	return errors.Join(err, summary(len(all), left, append(failed, broken...)))
}

// over plans at each of the sources, as far as the stage says, and prints what is said under its name. It returns those where something
// is pending, and the names of those where it failed.
func (p *planning) over(ctx context.Context, all []config.Database, stage planStage) (found []config.Database, failed []string, err error) {
	for _, d := range all {
		r := p.at(ctx, d, stage)
		var pending findingsError
		switch {
		case errors.As(r.err, &pending):
			found = append(found, d)
		case r.err != nil:
			failed = append(failed, d.Name)
			r.errs += "gancho: " + errorText(p.language(), r.err) + "\n"
		}
		if err := p.under(d, r); err != nil {
			return found, failed, err
		}
	}
	return found, failed, nil
}

// at plans at one source, and keeps what is printed.
func (p *planning) at(ctx context.Context, d config.Database, stage planStage) plannedSource {
	var out, errs bytes.Buffer
	cmd := &cobra.Command{}
	cmd.SetContext(p.cmd.Context())
	cmd.SetIn(p.cmd.InOrStdin())
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	one := &planning{planFlags: p.planFlags, cmd: cmd, config: p.config.For(d), stage: stage}
	one.as = p.asAt(d.DSN)
	err := one.run(ctx, nil)
	return plannedSource{out.String(), errs.String(), err}
}

// under prints what was said about a source. A ticket is for psql, which goes on to its database.
func (p *planning) under(d config.Database, r plannedSource) error {
	if r.out == "" && r.errs == "" {
		return nil
	}
	title, out := d.Name+":\n", indented(r.out)
	if p.script {
		title, out = "", r.out
		if r.out != "" {
			out = `\connect ` + psqlName(databaseOf(d.DSN)) + "\n" + r.out + "\n"
		}
	}
	_, err := fmt.Fprint(p.cmd.OutOrStdout(), title+out)
	if err == nil && r.errs != "" {
		if r.out == "" {
			title = d.Name + ":\n"
		} else {
			title = ""
		}
		_, err = fmt.Fprint(p.cmd.ErrOrStderr(), title+indented(r.errs))
	}
	return err
}

// summary is how a command over many sources ended; nil: well.
func summary(all int, pending []config.Database, failed []string) error {
	var open []string
	for _, d := range pending {
		open = append(open, d.Name)
	}
	switch {
	case len(failed) > 0 && len(open) > 0:
		return fmt.Errorf("of %d sources, %d have changes pending: %s; and %d failed: %s", all, len(open), names(open), len(failed), names(failed))
	case len(failed) > 0:
		return fmt.Errorf("of %d sources, %d failed: %s", all, len(failed), names(failed))
	case len(open) > 0:
		return findingsError{fmt.Errorf("of %d sources, %d have changes pending: %s", all, len(open), names(open))}
	}
	return nil
}

// asAt is the DSN of who runs the statements, in the database of a source; "": that of the source.
func (p *planning) asAt(source config.Secret) string {
	if p.as == "" {
		return ""
	}
	return config.InDatabase(config.Secret(p.as), databaseOf(source)).Reveal()
}

// databaseOf is the database that a DSN, which is valid, leads to.
func databaseOf(dsn config.Secret) string {
	parsed, err := pgx.ParseConfig(dsn.Reveal())
	if err != nil {
		return ""
	}
	return parsed.Database
}

// psqlName is a name as an argument of psql's own commands.
func psqlName(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
