package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"gancho/internal/control"
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
				s.Catalogue = func() []control.EventType { return catalogueOf(rules) }
				events, err := s.EventTypes(ctx, s.actor)
				if err != nil {
					return err
				}
				if s.json {
					return s.print(control.Page[control.EventType]{Items: events})
				}
				t := newTable(s.cmd.OutOrStdout(), "EVENT", "TABLE", "ON", "FIELDS", "RULE", "TITLE")
				for _, e := range events {
					t.row(e.Event, e.Table, e.On, strings.Join(e.Fields, ","), e.Rule, orDash(e.Title))
				}
				return t.end()
			})
		},
	}
	f.register(cmd)
	return cmd
}
