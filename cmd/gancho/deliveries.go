package main

import (
	"context"
	"fmt"
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
		open:    filtered(filter.read, operations.Deliveries),
		heading: []string{"TIME", "ENDPOINT", "EVENT", "TENANT", "KEY", "OUTCOME", "STATUS", "ATTEMPT", "TOOK", "ID", "DELIVERY", "ERROR"},
		row: func(a *state.Attempt) []string {
			outcome := a.Outcome
			if a.Replay {
				outcome += " (again)"
			}
			return []string{
				clock(a.Time), a.Endpoint, a.Event, orDash(a.Tenant), orDash(a.Key), outcome, count(int64(a.Status)), strconv.Itoa(a.Number), ms(a.Duration),
				a.WebhookID, a.ID, orDash(a.Error),
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
		Args: noSubcommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return attempts.run(&f, cmd, &page) },
	}
	f.registerStored(cmd)
	filter.register(cmd, "deliveries", "deliveries to this `endpoint`")
	page.register(cmd)
	cmd.Flags().StringVar(&filter.outcome, "outcome", "", "only attempts with this outcome: "+strings.Join(control.Outcomes(), ", "))
	cmd.AddCommand(newDeliveriesShowCommand(&f))
	return cmd
}

func newDeliveriesShowCommand(f *sessionFlags) *cobra.Command {
	return &cobra.Command{
		Use: "show DELIVERY", Short: "Show an attempt with what the receiver has answered", Args: oneName("delivery"),
		Long: "Show an attempt of the delivery log with the headers of the request and the start of the answer, as\nfar as state.keep_answers has them kept. That it was read is written to the audit log.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd, withStore, func(ctx context.Context, s *session) error {
				d, err := s.Delivery(ctx, s.actor, args[0])
				switch {
				case err != nil:
					return missing(err, "delivery %q does not exist, or is no longer in the log; see gancho deliveries", args[0])
				case s.json:
					return s.print(d)
				}
				return s.showDelivery(&d)
			})
		},
	}
}

func (s *session) showDelivery(d *control.DeliveryDetail) error {
	t := newTable(s.cmd.OutOrStdout(), "delivery", d.ID)
	t.row("time", clock(d.Time))
	t.row("endpoint", d.Endpoint)
	t.row("event", d.Event)
	t.row("webhook-id", d.WebhookID)
	t.row("tenant", orDash(d.Tenant))
	t.row("key", orDash(d.Key))
	t.row("attempt", strconv.Itoa(d.Number))
	t.row("outcome", fmt.Sprintf("%s (%s, %s): %s", cells(speech(s.cmd), []string{"OUTCOME"}, []string{d.Outcome})[0], orDash(d.Class), count(int64(d.Status)), reasonText(speech(s.cmd), orDash(d.Error))))
	t.row("took", ms(d.Duration))
	if err := t.end(); err != nil || d.Detail == nil {
		return err
	}
	var out strings.Builder
	out.WriteString("request:\n")
	headerLines(&out, "> ", d.Detail.Request)
	out.WriteString("answer:\n")
	headerLines(&out, "< ", d.Detail.Headers)
	bodyLines(&out, "< ", d.Detail.Answer)
	if d.Detail.Cut {
		out.WriteString("(the answer was longer)\n")
	}
	return s.say("%s", out.String())
}

func newAuditCommand() *cobra.Command {
	var f sessionFlags
	var page pageFlags
	var span spanFlags
	var filter state.AuditFilter
	changes := listed[state.Change]{
		needs: withStore,
		open: filtered(func(s *session) (_ state.AuditFilter, err error) {
			filter.From, filter.To, err = span.read(s.zone)
			return filter, err
		}, operations.Audit),
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
	f.registerStored(cmd)
	page.register(cmd)
	span.register(cmd)
	cmd.Flags().StringVar(&filter.Object, "object", "", "changes to this `object`, such as endpoint/crm-centro")
	cmd.Flags().StringVar(&filter.Action, "action", "", "changes of this `kind`, such as endpoint.edit")
	return cmd
}
