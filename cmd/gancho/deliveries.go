package main

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"gancho/internal/control"
	"gancho/internal/state"
)

func newDeliveriesCommand() *cobra.Command {
	var f sessionFlags
	var filter filterFlags
	var page pageFlags
	attempts := listed[state.Attempt]{
		needs:   withStore,
		open:    filtered(filter.read, (*control.Service).Deliveries),
		heading: []string{"TIME", "ENDPOINT", "EVENT", "TENANT", "KEY", "OUTCOME", "STATUS", "ATTEMPT", "TOOK", "ID", "ERROR"},
		row: func(a *state.Attempt) []string {
			outcome := a.Outcome
			if a.Replay {
				outcome += " (again)"
			}
			return []string{
				clock(a.Time), a.Endpoint, a.Event, orDash(a.Tenant), orDash(a.Key), outcome, count(int64(a.Status)), strconv.Itoa(a.Number), ms(a.Duration),
				a.WebhookID, orDash(a.Error),
			}
		},
		none: "no delivery in the log matches",
	}
	cmd := &cobra.Command{
		Use: "deliveries", Short: "Show who was sent what, when, and with which answer",
		Long: `Show the delivery log, the newest attempt first: everything sent to an endpoint
between two times, everything sent about a key, everything of one webhook-id. It has
no bodies, and reaches back as far as state.keep_log.`,
		Example: `  gancho deliveries --endpoint crm-centro --from 2026-11-01 --to 2026-12-01 --all
  gancho deliveries --key 4711 --tenant 1 --all --json
  gancho deliveries --outcome retry --from 1h`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return attempts.run(&f, cmd, &page) },
	}
	f.register(cmd)
	filter.register(cmd, "deliveries", "deliveries to this `endpoint`")
	page.register(cmd)
	cmd.Flags().StringVar(&filter.outcome, "outcome", "", "only attempts with this outcome: "+strings.Join(control.Outcomes(), ", "))
	return cmd
}
