package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gancho/internal/control"
)

func newForgetCommand() *cobra.Command {
	var f sessionFlags
	var tenant string
	var noTenant, yes bool
	var r control.ForgetRequest
	cmd := &cobra.Command{
		Use: "forget", Short: "Erase what is kept of a person",
		Long: `Erase what is kept of a person: what has one ordering key of one tenant. Events that
are queued, also for a retry, are removed and not sent; the others keep their order. Dead letters,
kept events, parked changes and the lines of the delivery log are deleted. The receipt,
for the file, says what was erased where and what is left (backups, receivers); it has
no personal data. The audit log has it, too.

Keys of different tables may be the same: --dry-run counts first, and --event chooses.
It may be interrupted, and finishes when it is run again. On a terminal the number has
to be typed to confirm; elsewhere --yes is needed. Erase the person at the source first.`,
		Example: "  gancho forget --tenant 1 --key 4711 --event 'cliente.*' --dry-run\n  gancho forget --tenant 1 --key 4711 --event 'cliente.*' --yes --json > receipt.json",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			given := cmd.Flags().Changed("tenant")
			switch {
			case r.Key == "":
				return usageError{errors.New("--key is missing; write the ordering key of the person's events, as gancho deliveries shows it")}
			case given && noTenant:
				return usageError{errors.New("--tenant and --no-tenant exclude each other; keep one")}
			case !given && !noTenant:
				return usageError{errors.New("--tenant is missing; write the tenant of the person's events, or --no-tenant if they have none")}
			case r.DryRun && yes:
				return usageError{errors.New("--dry-run erases nothing; leave out --yes")}
			case !r.DryRun && !yes && !isTerminal(cmd.InOrStdin()):
				return usageError{errors.New("erasing cannot be undone; add --yes, or count first with --dry-run")}
			}
			r.Tenant = &tenant
			return f.run(cmd, withStore|withQueues, func(ctx context.Context, s *session) error {
				if !r.DryRun && !yes {
					if ok, err := s.confirmForget(ctx, r); !ok || err != nil {
						return err
					}
				}
				receipt, err := s.Forget(ctx, s.actor, r)
				if err != nil {
					if n := receipt.Erased.Total(); n > 0 {
						err = fmt.Errorf("%w; %d of the person's entries were erased, run it again for the rest", err, n)
					}
					return err
				}
				if s.json {
					return s.print(receipt)
				}
				return s.showReceipt(&receipt)
			})
		},
	}
	f.registerStored(cmd)
	flags := cmd.Flags()
	flags.StringVar(&tenant, "tenant", "", "the `tenant` of the person's events")
	flags.BoolVar(&noTenant, "no-tenant", false, "the person's events have no tenant")
	flags.StringVar(&r.Key, "key", "", "the ordering `key` of the person's events")
	flags.StringSliceVar(&r.Events, "event", nil, "only these events, as `patterns` such as cliente.*")
	flags.BoolVar(&r.DryRun, "dry-run", false, "count them, and erase nothing")
	flags.BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// confirmForget asks a person to type how much is to be erased. If nothing is, there is
// nothing to ask, and still a receipt.
func (s *session) confirmForget(ctx context.Context, r control.ForgetRequest) (bool, error) {
	r.DryRun = true
	found, err := s.Forget(ctx, s.actor, r)
	if err != nil || found.Erased.Total() == 0 {
		return err == nil, err
	}
	return s.confirmDrop(found.Erased.Total(), "record")
}

func (s *session) showReceipt(r *control.Receipt) error {
	word := "erased"
	if r.DryRun {
		word = "found"
	}
	row, end := s.facts()
	row("subject", orDash(r.Subject))
	row("tenant", orDash(r.Tenant))
	row("events", orDash(strings.Join(r.Events, ", ")))
	row("by", r.By)
	row("begun", r.Begun.Format(time.RFC3339))
	if !r.DryRun {
		row("ended", r.Ended.Format(time.RFC3339))
	}
	if r.Audit != 0 {
		row("audit entry", strconv.FormatInt(r.Audit, 10))
	}
	q, d := &r.Erased.Queue, &r.Erased.Database
	for _, part := range []struct {
		name string
		n    int64
	}{
		{"queued events", q.Queued + q.Resends}, {"dead letters", q.DeadLetters + d.DeadLetters}, {"kept events", d.KeptEvents},
		{"attempts in the delivery log", q.Attempts + d.Attempts}, {"parked changes", r.Erased.Parked}, {"names in old filters", d.Mentions},
	} {
		row(word+": "+part.name, strconv.FormatInt(part.n, 10))
	}
	row("receivers", orDash(strings.Join(r.Receivers, ", ")))
	for _, left := range r.Left {
		row("left", s.said(left))
	}
	return end()
}
