package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"gancho/cdc"
	"gancho/config"
	"gancho/internal/bridge"
	"gancho/internal/control"
	"gancho/mapping"
)

func newCheckCommand() *cobra.Command {
	var offline bool
	cmd := onConfig(&cobra.Command{
		Use:   "check",
		Short: "Validate the configuration and the rules against the live catalogue",
		Long: `Validate the configuration, the rule files and every expression in them against
the source's catalogue. Nothing is changed anywhere. Every mistake is printed as
file:line:col with what to write instead; the exit code is then 1. It is 1, too, while
the publication exists and lacks changes of a rule's table.`,
	}, func(cmd *cobra.Command, c *config.Config) error {
		d, err := definitions(c)
		if err != nil {
			return err
		}
		if offline {
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: rules for %d tables and %d endpoints read; not checked against the source (--offline)\n",
				c.File, len(d.Rules.Tables()), len(d.Endpoints))
			return err
		}
		rules, err := checkSource(cmd, c, d)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d rules and %d endpoints are valid\n", c.File, rules.Len(), len(d.Endpoints))
		return err
	})
	cmd.Flags().BoolVar(&offline, "offline", false, "check the files alone, without the source")
	return cmd
}

// checkSource binds the rules to the source's catalogue, and prints what is
// missing in the source for the bridge to run.
func checkSource(cmd *cobra.Command, c *config.Config, d *bridge.Definitions) (*mapping.Ruleset, error) {
	ctx := cmd.Context()
	conn, err := cdc.Connect(ctx, c.Source.DSN.Reveal())
	if err != nil {
		return nil, fmt.Errorf("connect to the source: %w; check source.dsn, or use --offline", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	rules, err := d.Rules.Bind(ctx, conn)
	if err != nil {
		return nil, err
	}
	for _, f := range rules.Findings() {
		if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s; %s\n", f.Rule, f.Message, f.Fix); err != nil {
			return nil, err
		}
	}
	settings, err := cdc.LoadSettings(ctx, conn)
	if err != nil {
		return nil, err
	}
	if advice := cdc.Encoding(c.Source.Encoding).Advice(settings.Encoding); advice != "" {
		if _, err := fmt.Fprintln(cmd.ErrOrStderr(), advice); err != nil {
			return nil, err
		}
	}
	_, err = cdc.Prepare(ctx, cdc.Options{DSN: c.Source.DSN.Reveal(), Slot: c.Source.Slot, Publication: c.Source.Publication, Encoding: cdc.Encoding(c.Source.Encoding)}, rules.Tables())
	if lacks := new(cdc.SetupError); errors.As(err, &lacks) {
		_, err = fmt.Fprintf(cmd.ErrOrStderr(), "%v\n", lacks)
		if err == nil && len(lacks.Missing) > 0 {
			err = fmt.Errorf("the publication exists and lacks changes of %s, which rules need: a bridge that runs does not capture them", joinNames(lacks.Missing))
		}
	}
	return rules, err
}

func joinNames(names []cdc.Name) string {
	texts := make([]string, len(names))
	for i, n := range names {
		texts[i] = n.String()
	}
	return strings.Join(texts, ", ")
}

func newEventsCommand() *cobra.Command {
	var f sessionFlags
	cmd := &cobra.Command{
		Use: "events", Short: "List the events that the rules make", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd, 0, func(ctx context.Context, s *session) error {
				rules, err := parseRules(s.config)
				if err != nil {
					return err
				}
				s.Catalogue = rules.EventTypes
				events, err := s.EventTypes(ctx, s.actor)
				if err != nil {
					return err
				}
				if s.json {
					return s.print(control.Page[mapping.EventType]{Items: events})
				}
				t := newTable(s.cmd.OutOrStdout(), "EVENT", "GROUP", "TABLE", "ON", "FIELDS", "RULE", "TITLE")
				for _, e := range events {
					tables := e.Each(func(r *mapping.EventRule) []string { return []string{r.Table} })
					operations := e.Each(func(r *mapping.EventRule) []string { return strings.Split(r.On, " or ") })
					fields := e.Each(func(r *mapping.EventRule) []string { return r.Fields })
					places := e.Each(func(r *mapping.EventRule) []string { return []string{r.Place} })
					t.row(e.Name, orDash(e.Group), strings.Join(tables, ","), strings.Join(operations, " or "), strings.Join(fields, ","), strings.Join(places, ","), orDash(e.Title))
				}
				return t.end()
			})
		},
	}
	f.register(cmd)
	return cmd
}
