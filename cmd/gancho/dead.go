package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"gancho/internal/control"
	"gancho/internal/state"
)

func newDeadCommand() *cobra.Command {
	var f sessionFlags
	cmd := group("dead", "Look after the events that were given up", `Dead letters are events that were given up: every attempt of the schedule failed, or
the receiver refused them. They wait in the state database until somebody sends them
again (redrive) or drops them.`)
	f.register(cmd)
	cmd.AddCommand(newDeadListCommand(&f), newDeadShowCommand(&f), newDeadRedriveCommand(&f), newDeadDropCommand(&f))
	return cmd
}

func newDeadListCommand(f *sessionFlags) *cobra.Command {
	var filter filterFlags
	var page pageFlags
	var parked bool
	cmd := &cobra.Command{
		Use: "list", Short: "List dead letters, the oldest first", Args: noArguments,
		Long: `List dead letters, the oldest first, without their bodies.
With --parked list the changes that no event could be made of instead: they are the
capture's own dead letters, in Redis, and say what to mend in a rule.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := page.check(cmd); err != nil {
				return err
			}
			if parked {
				return f.listParked(cmd, page)
			}
			return f.run(cmd, withStore, func(ctx context.Context, s *session) error {
				chosen, err := filter.filter(cmd, s.config.Source.Location)
				if err != nil {
					return err
				}
				return listed[control.DeadView]{
					fetch: func(cursor string, n int) (control.Page[control.DeadView], error) {
						return s.DeadLetters(ctx, s.actor, chosen, cursor, n)
					},
					heading: []string{"NUMBER", "LAST TRY", "ENDPOINT", "EVENT", "TENANT", "KEY", "TRIES", "STATUS", "ID", "REASON"},
					row:     deadRow,
					none:    "there are no such dead letters",
				}.print(s, page)
			})
		},
	}
	filter.register(cmd, "dead letters")
	filter.registerEndpoint(cmd, "dead letters of this `endpoint`")
	page.register(cmd)
	cmd.Flags().BoolVar(&parked, "parked", false, "list the changes that no event could be made of")
	return cmd
}

func deadRow(d control.DeadView) []string {
	return []string{
		strconv.FormatInt(d.ID, 10), clock(d.Last), d.Endpoint, d.Event, orDash(d.Tenant), orDash(d.Key), strconv.Itoa(d.Attempts),
		count(int64(d.Status)), d.WebhookID, d.Reason,
	}
}

func (f *sessionFlags) listParked(cmd *cobra.Command, page pageFlags) error {
	for _, flag := range []string{"id", "tenant", "key", "event", "from", "to", "endpoint"} {
		if cmd.Flags().Changed(flag) {
			return usageError{fmt.Errorf("--parked cannot be combined with --%s; leave one out", flag)}
		}
	}
	return f.run(cmd, withQueue, func(ctx context.Context, s *session) error {
		return listed[control.ParkedView]{
			fetch: func(cursor string, n int) (control.Page[control.ParkedView], error) {
				return s.Parked(ctx, s.actor, cursor, n)
			},
			heading: []string{"POSITION", "TIME", "TABLE", "ON", "EVENT", "RULE", "REASON"},
			row: func(p control.ParkedView) []string {
				return []string{p.ID, clock(p.Time), p.Table, p.Operation, orDash(p.Event), p.Rule, p.Reason}
			},
			none: "no change is parked",
		}.print(s, page)
	})
}

func newDeadShowCommand(f *sessionFlags) *cobra.Command {
	return &cobra.Command{
		Use: "show NUMBER", Short: "Show a dead letter with its body and its receiver's last answer", Args: oneName("dead letter"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := rowID("dead letter", args[0])
			if err != nil {
				return err
			}
			return f.run(cmd, withStore, func(ctx context.Context, s *session) error {
				d, err := s.DeadLetter(ctx, s.actor, id)
				if err != nil {
					return missing(err, "there is no dead letter %d; gancho dead list shows those there are", id)
				}
				if s.json {
					return s.print(d)
				}
				return s.showDead(d)
			})
		},
	}
}

func (s *session) showDead(d control.DeadDetail) error {
	t := newTable(s.cmd.OutOrStdout(), "number", strconv.FormatInt(d.ID, 10))
	t.row("endpoint", d.Endpoint)
	t.row("event", d.Event)
	t.row("webhook-id", d.WebhookID)
	t.row("tenant", orDash(d.Tenant))
	t.row("key", orDash(d.Key))
	t.row("committed", clock(d.Committed))
	t.row("reason", d.Reason)
	t.row("tries", fmt.Sprintf("%d, from %s to %s", d.Attempts, clock(d.First), clock(d.Last)))
	t.row("last answer", fmt.Sprintf("%s (%s): %s", count(int64(d.Status)), orDash(d.Class), orDash(d.Error)))
	if err := t.end(); err != nil {
		return err
	}
	var out strings.Builder
	for _, part := range []struct {
		name string
		body json.RawMessage
	}{{"data", d.Data}, {"previous", d.Previous}, {"unchanged", d.Unchanged}} {
		if len(part.body) > 0 {
			fmt.Fprintf(&out, "%s:\n", part.name)
			for line := range strings.SplitSeq(indented(part.body), "\n") {
				out.WriteString(printable(line) + "\n")
			}
		}
	}
	if d.Answer != "" {
		out.WriteString("answer:\n")
		bodyLines(&out, "< ", d.Answer)
	}
	_, err := io.WriteString(s.cmd.OutOrStdout(), out.String())
	return err
}

// indented is a JSON text laid out for people.
func indented(body json.RawMessage) string {
	var out bytes.Buffer
	if json.Indent(&out, body, "", "  ") != nil {
		return string(body)
	}
	return out.String()
}

// deadChoice is what redrive and drop work on.
type deadChoice struct {
	filterFlags
	all bool
}

func (c *deadChoice) register(cmd *cobra.Command) {
	c.filterFlags.register(cmd, "dead letters")
	c.registerEndpoint(cmd, "dead letters of this `endpoint`")
	cmd.Flags().BoolVar(&c.all, "all", false, "all dead letters")
}

// choose reads the numbers and flags, of which there has to be one.
func (c *deadChoice) choose(cmd *cobra.Command, args []string, s *session) (state.Filter, error) {
	f, err := c.filter(cmd, s.config.Source.Location)
	if err != nil {
		return f, err
	}
	f.IDs, err = rowIDs(args)
	return f, err
}

// check refuses, before anything is opened, a choice that is none.
func (c *deadChoice) check(cmd *cobra.Command, args []string) error {
	given := len(args) > 0
	for _, flag := range []string{"id", "endpoint", "tenant", "key", "event", "from", "to"} {
		given = given || cmd.Flags().Changed(flag)
	}
	switch {
	case given && c.all:
		return usageError{errors.New("--all chooses all dead letters; leave out --all, or the rest")}
	case !given && !c.all:
		return usageError{errors.New("say which dead letters: their numbers, or --id, --endpoint, --key, --event, --tenant, --from, --to, or --all")}
	}
	_, err := rowIDs(args)
	return err
}

func rowIDs(args []string) ([]int64, error) {
	ids := make([]int64, 0, len(args))
	for _, arg := range args {
		id, err := rowID("dead letter", arg)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func newDeadRedriveCommand(f *sessionFlags) *cobra.Command {
	var choice deadChoice
	var job jobFlags
	cmd := &cobra.Command{
		Use: "redrive [NUMBER...]", Short: "Send dead letters again",
		Long: `Send dead letters again to the endpoints they are of, as a job that the running
bridge works off and that survives its restarts. They keep their webhook-id and carry
the header webhook-replay: true. A dead letter is gone once it is queued again; if it
fails again it comes back under a new number.`,
		Example: "  gancho dead redrive 17 18\n  gancho dead redrive --endpoint crm-centro --rate 50/s --wait\n  gancho dead redrive --all --dry-run",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := job.rate()
			if err == nil {
				err = choice.check(cmd, args)
			}
			if err != nil {
				return err
			}
			return f.run(cmd, withStore, func(ctx context.Context, s *session) error {
				chosen, err := choice.choose(cmd, args, s)
				if err != nil {
					return err
				}
				jobs, err := s.CreateRedrive(ctx, s.actor, control.Redrive{Filter: chosen, All: choice.all, Rate: r, DryRun: job.dryRun})
				if err != nil {
					return noEndpoint(err, chosen.Endpoint)
				}
				return s.follow(ctx, jobs, job.wait)
			})
		},
	}
	choice.register(cmd)
	job.register(cmd)
	return cmd
}

func newDeadDropCommand(f *sessionFlags) *cobra.Command {
	var choice deadChoice
	var yes bool
	cmd := &cobra.Command{
		Use: "drop [NUMBER...]", Short: "Delete dead letters for good",
		Long: `Delete dead letters for good. On a terminal the number of them has to be typed;
elsewhere --yes is needed.`,
		Example: "  gancho dead drop 17 18 --yes\n  gancho dead drop --endpoint old-crm",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := choice.check(cmd, args); err != nil {
				return err
			}
			if !yes && !isTerminal(cmd.InOrStdin()) {
				return usageError{errors.New("dropping cannot be undone; add --yes")}
			}
			return f.run(cmd, withStore, func(ctx context.Context, s *session) error {
				chosen, err := choice.choose(cmd, args, s)
				if err != nil {
					return err
				}
				if !yes {
					if ok, err := s.confirmDrop(ctx, chosen); !ok || err != nil {
						return err
					}
				}
				n, err := s.DropDead(ctx, s.actor, chosen, choice.all)
				if err != nil {
					return err
				}
				if s.json {
					return s.print(map[string]int64{"dropped": n})
				}
				return s.say("%s dropped\n", plural(n, "dead letter", "dead letters"))
			})
		},
	}
	choice.register(cmd)
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// confirmDrop asks a person for the number of what is to be deleted.
func (s *session) confirmDrop(ctx context.Context, f state.Filter) (bool, error) {
	n, err := s.CountDead(ctx, s.actor, f)
	if err != nil {
		return false, err
	}
	if n == 0 {
		return false, s.say("there are no such dead letters\n")
	}
	if _, err := fmt.Fprintf(s.cmd.ErrOrStderr(), "%s will be deleted for good. Type the number to go on: ", plural(n, "dead letter", "dead letters")); err != nil {
		return false, err
	}
	answer, err := bufio.NewReader(s.cmd.InOrStdin()).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("read the answer: %w", err)
	}
	if strings.TrimSpace(answer) != strconv.FormatInt(n, 10) {
		return false, errors.New("nothing was dropped: that is not the number")
	}
	return true, nil
}
