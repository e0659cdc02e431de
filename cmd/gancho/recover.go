package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/internal/bridge"
	"gancho/mapping"
)

// recoverFlags are those of gancho recover.
type recoverFlags struct {
	sessionFlags
	list, yes, dryRun bool
	skip              string
}

func newRecoverCommand() *cobra.Command {
	var f recoverFlags
	cmd := &cobra.Command{
		Use: "recover", Short: "Close a gap of the slot: show it, record it, make a new slot",
		Long: `Show why capture cannot go on and which changes are missing, record that gap, make a new
slot where one is needed, and begin a new epoch behind it. Then it says what closes the gap:
the backfill of the rows that may have changed, by the columns that changed_at of the rules
names, or of all. Rows that were deleted in the gap are unknown.

It goes on where it was when it is killed and run again. A bridge that delivers meanwhile
begins to capture again by itself within seconds.

--skip steps over one transaction that the server cannot send, and records that. The error
of the bridge names its position, and no other one is accepted.

--dry-run changes nothing, and exits with 3 when there is something to recover. On a
terminal it asks first; elsewhere --yes is needed.`,
		Example: `  gancho recover --dry-run
  gancho recover --yes
  gancho recover --skip 0/3212DE1 --yes
  gancho recover --list`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			changes := !f.list && !f.dryRun
			switch {
			case f.list && (f.skip != "" || f.yes || f.dryRun):
				return usageError{errors.New("--list changes nothing; leave out the other flags")}
			case f.dryRun && f.yes:
				return usageError{errors.New("--dry-run changes nothing; leave out --yes")}
			case changes && !f.yes && !isTerminal(cmd.InOrStdin()):
				return usageError{errors.New("a gap that is accepted stays; add --yes, or look first with --dry-run")}
			}
			at := cdc.LSN(0)
			if f.skip != "" {
				var err error
				if at, err = cdc.ParseLSN(f.skip); err != nil {
					return usageError{fmt.Errorf("--skip: %w", err)}
				}
			}
			return f.run(cmd, withStore|withQueue, func(ctx context.Context, s *session) error {
				switch {
				case f.list:
					return s.listGaps(ctx)
				case at != 0:
					return f.step(ctx, s, at)
				}
				return f.recover(ctx, s)
			})
		},
	}
	f.registerHere(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&f.list, "list", false, "list the gaps that are known")
	flags.StringVar(&f.skip, "skip", "", "step over the transaction at this `position`, which the server cannot send")
	flags.BoolVar(&f.dryRun, "dry-run", false, "show what is missing and what would be done, and change nothing")
	flags.BoolVar(&f.yes, "yes", false, "do not ask")
	return cmd
}

// step steps over a transaction.
func (f *recoverFlags) step(ctx context.Context, s *session, at cdc.LSN) error {
	if f.dryRun {
		reached, err := s.local.Queue.Reached(ctx)
		if err != nil {
			return err
		}
		if reached == nil || reached.Stuck == nil || reached.Stuck.Commit != at.String() {
			return fmt.Errorf("the stream is not known to end at %s", at)
		}
		return findingsError{fmt.Errorf("the transaction at %s would be stepped over, and recorded as a gap: a change of it, %s: %s", at, reached.Stuck.Where, reached.Stuck.Why)}
	}
	if ok, err := f.confirm(s, fmt.Sprintf("Of the transaction at %s, the changes before the one that cannot be sent have made their events, except of rules that wait for the commit (collapse, children, root_only); that one and those after it will make none.", at)); !ok || err != nil {
		return err
	}
	gap, err := s.local.Queue.Skip(ctx, at)
	if err != nil {
		return err
	}
	return s.result(gap, "The transaction at %s is recorded as a gap. The bridge steps over it, once everything before it is in Redis: within seconds, or at its next start.\n"+
		"Correct the row, and send the transaction's changes by hand.\n", at)
}

func (f *recoverFlags) recover(ctx context.Context, s *session) error {
	rules, err := parseRules(s.config)
	if err != nil {
		return err
	}
	c := &s.config.Source
	r, err := bridge.Recover(ctx, bridge.RecoveryOptions{
		Source: cdc.Options{DSN: c.DSN.Reveal(), Slot: c.Slot, Publication: c.Publication, Encoding: cdc.Encoding(c.Encoding), Log: zerolog.Nop()},
		Queue:  s.local.Queue, Rules: rules, Store: s.local.Store,
	})
	if errors.Is(err, bridge.ErrNothingToRecover) {
		return s.result(struct{}{}, "%s.\n", strings.ToUpper(err.Error()[:1])+err.Error()[1:])
	}
	if err != nil {
		return err
	}
	if !s.json || !f.dryRun && !f.yes {
		if err := s.say("%s", recoveryText(r, false)); err != nil {
			return err
		}
	}
	if f.dryRun {
		if s.json {
			err = s.print(r)
		}
		return errors.Join(err, findingsError{errors.New("changes are missing; nothing was done: run gancho recover --yes")})
	}
	if ok, err := f.confirm(s, ""); !ok || err != nil {
		return err
	}
	if err := r.Carry(ctx); err != nil {
		return err
	}
	return s.report(r, s.said(recoveryText(r, true)))
}

// confirm asks a person on a terminal.
func (f *recoverFlags) confirm(s *session, what string) (bool, error) {
	if f.yes {
		return true, nil
	}
	if what != "" {
		what += "\n"
	}
	if err := s.say("%sType yes to go on: ", what); err != nil {
		return false, err
	}
	line, err := bufio.NewReader(s.cmd.InOrStdin()).ReadString('\n')
	if strings.TrimSpace(line) == "yes" {
		return true, nil
	}
	if err == nil {
		err = s.say("nothing was done\n")
	}
	return false, err
}

// recoveryText says what is missing, what is or was done, and what closes the gap.
func recoveryText(r *bridge.Recovery, done bool) string {
	var b strings.Builder
	if !done {
		fmt.Fprintf(&b, "Capture cannot go on with slot %s: %s.\n", r.Gap.Slot, strings.TrimSuffix(r.Gap.Detail, "."))
		if r.Gap.Again() {
			fmt.Fprintf(&b, "Read before: changes that committed %s, which come again or do not exist any more.\n", r.Gap.Between())
		} else {
			fmt.Fprintf(&b, "Missing: changes that committed %s.\n", r.Gap.Between())
		}
		if r.NewSlot {
			b.WriteString("To do: make a new slot, record the gap, begin a new epoch behind it.\n")
		} else {
			fmt.Fprintf(&b, "To do: read the slot on from %s, record the gap, begin a new epoch behind it.\n", r.Gap.To)
		}
		return b.String()
	}
	what := "make no events"
	if r.Gap.Again() {
		what = "come again, or do not exist any more"
	}
	fmt.Fprintf(&b, "Recorded as gap %s: changes that committed %s %s.\n", r.Gap.ID, r.Gap.Between(), what)
	if r.Gap.Reason == queue.GapRestored || r.Gap.Reason == queue.GapTimeline || r.Gap.Reason == queue.GapElsewhere {
		b.WriteString("What the source has from before may come again, under new webhook-ids. What receivers have got of changes that it no longer has stays with them.\n")
	}
	b.WriteString("A bridge that runs captures again within seconds; else start gancho run.\nRows that were deleted in the gap are unknown: let the receivers compare.\n")
	writeBackfills(&b, r.Tables)
	return b.String()
}

// writeBackfills says what sends the rows that may have changed.
func writeBackfills(b *strings.Builder, tables []mapping.GapTable) {
	title := "Send the rows that may have been inserted or changed:\n"
	for _, t := range tables {
		if len(t.Events) == 0 {
			continue
		}
		where := ""
		if t.Where != "" {
			where = " --where " + shellWord(t.Where)
		}
		fmt.Fprintf(b, "%s  gancho backfill --table %s%s\n", title, shellWord(t.Table.String()), where)
		title = ""
	}
	for _, t := range tables {
		if len(t.Unknown) > 0 {
			fmt.Fprintf(b, "Not sent again, because their rules are not on insert: %s of %s.\n", strings.Join(t.Unknown, ", "), t.Table)
		}
	}
}

func (s *session) listGaps(ctx context.Context) error {
	gaps, err := s.local.Queue.Gaps(ctx)
	if err != nil {
		return err
	}
	if s.json {
		return s.print(gaps)
	}
	if len(gaps) == 0 {
		return s.say("no gap is known\n")
	}
	for i := range gaps {
		g := &gaps[i]
		state := "accepted"
		if g.To == "" {
			state = "open: run gancho recover"
		}
		if err := s.show(fmt.Sprintf("%s  %s  %s (%s)\n", g.ID, g.Recorded.Format("2006-01-02 15:04:05Z"), g.Reason, s.said(state)) + s.said(fmt.Sprintf("  changes that committed %s\n  slot %s: %s\n", g.Between(), g.Slot, g.Detail))); err != nil {
			return err
		}
	}
	return nil
}
