package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"gancho/internal/control"
)

func newDeliveriesCommand() *cobra.Command {
	var f sessionFlags
	var filter filterFlags
	var page pageFlags
	var outcome string
	cmd := &cobra.Command{
		Use: "deliveries", Short: "Show who was sent what, when, and with which answer",
		Long: `Show the delivery log, the newest attempt first: everything sent to an endpoint
between two times, everything sent about a key, everything of one webhook-id. It has
no bodies, and reaches back as far as state.keep_log.`,
		Example: `  gancho deliveries --endpoint crm-centro --from 2026-11-01 --to 2026-12-01 --all
  gancho deliveries --key 4711 --tenant 1 --all --json
  gancho deliveries --outcome retry --from 1h`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := page.check(cmd); err != nil {
				return err
			}
			return f.run(cmd, withStore, func(ctx context.Context, s *session) error {
				chosen, err := filter.filter(cmd, s.config.Source.Location)
				if err != nil {
					return err
				}
				chosen.Outcome = outcome
				return listed[control.DeliveryView]{
					fetch: func(cursor string, n int) (control.Page[control.DeliveryView], error) {
						return s.Deliveries(ctx, s.actor, chosen, cursor, n)
					},
					heading: []string{"TIME", "ENDPOINT", "EVENT", "TENANT", "KEY", "OUTCOME", "STATUS", "TRY", "TOOK", "ID", "ERROR"},
					row:     deliveryRow,
					none:    "no delivery in the log fits",
				}.print(s, page)
			})
		},
	}
	f.register(cmd)
	filter.register(cmd, "deliveries")
	filter.registerEndpoint(cmd, "deliveries to this `endpoint`")
	page.register(cmd)
	cmd.Flags().StringVar(&outcome, "outcome", "", "only attempts that came to this: "+strings.Join(control.Outcomes(), ", "))
	return cmd
}

func deliveryRow(d control.DeliveryView) []string {
	outcome := d.Outcome
	if d.Replay {
		outcome += " (again)"
	}
	return []string{
		clock(d.Time), d.Endpoint, d.Event, orDash(d.Tenant), orDash(d.Key), outcome, count(int64(d.Status)), fmt.Sprint(d.Attempt), ms(d.DurationMS),
		d.WebhookID, orDash(d.Error),
	}
}

// listed is a list that is printed page by page, however long it is.
type listed[T any] struct {
	fetch   func(cursor string, n int) (control.Page[T], error)
	heading []string
	row     func(T) []string
	none    string // what is said of an empty list
}

// print writes a page, or all of them: a table or JSON.
func (l listed[T]) print(s *session, p pageFlags) error {
	n := p.limit
	if p.all {
		n = control.MaxPage
	}
	for cursor, first := p.cursor, true; ; first = false {
		page, err := l.fetch(cursor, n)
		if err != nil {
			return err
		}
		if err := l.write(s, p, page, first); err != nil {
			return err
		}
		if cursor = page.Next; !p.all || cursor == "" {
			return l.more(s, p, cursor)
		}
	}
}

func (l listed[T]) write(s *session, p pageFlags, page control.Page[T], first bool) error {
	switch {
	case s.json && !p.all:
		return s.print(page)
	case s.json:
		for _, item := range page.Items {
			if err := s.line(item); err != nil {
				return err
			}
		}
		return nil
	case len(page.Items) == 0 && first:
		return s.say("%s\n", l.none)
	}
	// Each page has columns of its own: those of all would wait for the last row.
	t := newTable(s.cmd.OutOrStdout())
	if first {
		t.row(l.heading...)
	}
	for _, item := range page.Items {
		t.row(l.row(item)...)
	}
	return t.end()
}

// more says how to see what follows.
func (l listed[T]) more(s *session, p pageFlags, cursor string) error {
	if cursor == "" || p.all || s.json {
		return nil
	}
	_, err := fmt.Fprintf(s.cmd.ErrOrStderr(), "there are more: add --cursor %s, or --all\n", cursor)
	return err
}
