package main

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"gancho/internal/control"
)

func newAuditCommand() *cobra.Command {
	var f sessionFlags
	var page pageFlags
	var filter control.AuditFilter
	var from, to string
	cmd := &cobra.Command{
		Use: "audit", Short: "Show who changed what, and when",
		Long: `Show the log of changes, the newest first: who (cli:<user>, token:<name>, bridge), when,
what, and with --json how it was before and after, without secrets.`,
		Example: "  gancho audit --object endpoint/crm-centro\n  gancho audit --action endpoint.edit --from 2026-11-01 --all --json",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := page.check(cmd); err != nil {
				return err
			}
			return f.run(cmd, withStore, func(ctx context.Context, s *session) error {
				now, zone := time.Now(), s.config.Source.Location
				var err error
				if filter.From, err = moment("--from", from, zone, now); err != nil {
					return err
				}
				if filter.To, err = moment("--to", to, zone, now); err != nil {
					return err
				}
				return listed[control.ChangeView]{
					fetch: func(cursor string, n int) (control.Page[control.ChangeView], error) {
						return s.Audit(ctx, s.actor, filter, cursor, n)
					},
					heading: []string{"NUMBER", "TIME", "WHO", "DID", "TO", "TENANT"},
					row: func(c control.ChangeView) []string {
						return []string{strconv.FormatInt(c.ID, 10), clock(c.Time), c.Actor, c.Action, c.Object, orDash(c.Tenant)}
					},
					none: "no change fits; --object is such as endpoint/crm-centro, --action such as endpoint.edit",
				}.print(s, page)
			})
		},
	}
	f.register(cmd)
	page.register(cmd)
	flags := cmd.Flags()
	flags.StringVar(&filter.Object, "object", "", "changes to this `object`, such as endpoint/crm-centro")
	flags.StringVar(&filter.Action, "action", "", "changes of this `kind`, such as endpoint.edit")
	flags.StringVar(&from, "from", "", "from this `time` on: RFC 3339, a date, or how long ago (2h)")
	flags.StringVar(&to, "to", "", "before this `time`")
	return cmd
}
