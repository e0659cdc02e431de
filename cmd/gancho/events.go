package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"gancho/internal/control"
	"gancho/mapping"
)

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
