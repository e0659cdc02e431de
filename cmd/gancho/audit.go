package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"gancho/internal/control"
	"gancho/internal/state"
)

func newAuditCommand() *cobra.Command {
	var f sessionFlags
	var page pageFlags
	var span spanFlags
	var filter state.AuditFilter
	changes := listed[state.Change]{
		needs: withStore,
		open: filtered(func(s *session) (_ state.AuditFilter, err error) {
			filter.From, filter.To, err = span.read(s.config.Source.Location)
			return filter, err
		}, (*control.Service).Audit),
		heading: []string{"NUMBER", "TIME", "WHO", "DID", "TO", "TENANT"},
		row: func(c *state.Change) []string {
			return []string{strconv.FormatInt(c.ID, 10), clock(c.Time), c.Actor, c.Action, c.Object, orDash(c.Tenant)}
		},
		none: "no change matches; --object is such as endpoint/crm-centro, --action such as endpoint.edit",
	}
	cmd := &cobra.Command{
		Use: "audit", Short: "Show who changed what, and when",
		Long: `Show the log of changes, the newest first: who (cli:<user>, token:<name>, bridge), when,
what, and with --json how it was before and after, without secrets.`,
		Example: "  gancho audit --object endpoint/crm-centro\n  gancho audit --action endpoint.edit --from 2026-11-01 --all --json",
		Args:    noArguments,
		RunE:    func(cmd *cobra.Command, _ []string) error { return changes.run(&f, cmd, &page) },
	}
	f.register(cmd)
	page.register(cmd)
	span.register(cmd)
	cmd.Flags().StringVar(&filter.Object, "object", "", "changes to this `object`, such as endpoint/crm-centro")
	cmd.Flags().StringVar(&filter.Action, "action", "", "changes of this `kind`, such as endpoint.edit")
	return cmd
}
