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
	cmd := group("dead", "Manage dead letters", `A dead letter is an event that is no longer attempted: every attempt of the schedule
failed, or the receiver refused it. Dead letters wait in the state database until
somebody sends them again (redrive) or drops them.`)
	f.register(cmd)
	cmd.AddCommand(newDeadListCommand(&f), newDeadGroupsCommand(&f), newDeadShowCommand(&f), newDeadRedriveCommand(&f), newDeadDropCommand(&f))
	return cmd
}

func newDeadListCommand(f *sessionFlags) *cobra.Command {
	var filter filterFlags
	var page pageFlags
	var parked bool
	letters := listed[state.DeadLetter]{
		needs:   withStore,
		open:    filtered(filter.read, operations.DeadLetters),
		heading: []string{"NUMBER", "LAST ATTEMPT", "ENDPOINT", "EVENT", "TENANT", "KEY", "ATTEMPTS", "STATUS", "ID", "REASON"},
		row: func(d *state.DeadLetter) []string {
			return []string{
				strconv.FormatInt(d.ID, 10), clock(d.Last), d.Endpoint, d.Type, orDash(d.Tenant), orDash(d.Key), strconv.Itoa(d.Attempts),
				count(int64(d.Status)), d.Message.ID, d.Reason,
			}
		},
		none: "no dead letter matches",
	}
	cmd := &cobra.Command{
		Use: "list", Short: "List dead letters, the oldest first", Args: noArguments,
		Long: `List dead letters, the oldest first, without their bodies.
With --parked list the parked changes instead, as gancho parked list does.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !parked {
				return letters.run(f, cmd, &page)
			}
			if flag := filter.given(); flag != "" {
				return usageError{fmt.Errorf("--parked cannot be combined with --%s; leave one out", flag)}
			}
			return parkedChanges(filter.read).run(f, cmd, &page)
		},
	}
	filter.registerDead(cmd)
	page.register(cmd)
	cmd.Flags().BoolVar(&parked, "parked", false, "list the parked changes, of which no event could be made")
	return cmd
}

func newDeadGroupsCommand(f *sessionFlags) *cobra.Command {
	var filter filterFlags
	groups := listed[state.DeadGroup]{
		needs: withStore,
		open: func(s *session) (pageReader[state.DeadGroup], error) {
			chosen, err := filter.read(s)
			if err != nil {
				return nil, err
			}
			return whole(func(s *session, ctx context.Context) ([]state.DeadGroup, error) {
				return s.DeadGroups(ctx, s.actor, chosen)
			})(s)
		},
		heading: []string{"LETTERS", "ENDPOINT", "EVENT", "CLASS", "STATUS", "OLDEST", "NEWEST", "ONE OF THEM"},
		row: func(g *state.DeadGroup) []string {
			return []string{
				strconv.FormatInt(g.Count, 10), g.Endpoint, g.Event, orDash(g.Class), count(int64(g.Status)), clock(g.Oldest), clock(g.Newest), strconv.FormatInt(g.Sample.ID, 10),
			}
		},
		none: "no dead letter matches",
	}
	cmd := &cobra.Command{
		Use: "groups", Short: "Count dead letters by endpoint, event and failure", Args: noArguments,
		Long: "Count dead letters by endpoint, event and how the last attempt has failed, the largest group\nfirst, each with the number of one, which gancho dead show shows.",
		RunE: func(cmd *cobra.Command, _ []string) error { return groups.run(f, cmd, &pageFlags{}) },
	}
	filter.registerDead(cmd)
	return cmd
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
					return missing(err, "dead letter %d does not exist; see gancho dead list", id)
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
	row, end := s.facts()
	row("number", strconv.FormatInt(d.ID, 10))
	row("endpoint", d.Endpoint)
	row("event", d.Type)
	row("webhook-id", d.Message.ID)
	row("tenant", orDash(d.Tenant))
	row("key", orDash(d.Key))
	row("committed", clock(d.Time))
	row("reason", reasonText(speech(s.cmd), d.Reason))
	row("attempts", s.said(fmt.Sprintf("%d, from %s to %s", d.Attempts, clock(d.First), clock(d.Last))))
	row("last answer", fmt.Sprintf("%s (%s): %s", count(int64(d.Status)), orDash(d.Class), reasonText(speech(s.cmd), orDash(d.Error))))
	if err := end(); err != nil {
		return err
	}
	var out strings.Builder
	for _, part := range []struct {
		name string
		body json.RawMessage
	}{{"data", d.Data}, {"previous", d.Previous}, {"unchanged", d.Unchanged}, {"errors", d.Errors}} {
		if err := bodyJSON(&out, s.said(part.name), part.body); err != nil {
			return err
		}
	}
	if d.Answer != "" {
		out.WriteString(s.said("answer") + ":\n")
		bodyLines(&out, "< ", d.Answer)
	}
	return s.show(out.String())
}

// bodyJSON writes a part of a body, with its name, over several lines; one that is empty is
// left out.
func bodyJSON(out *strings.Builder, name string, body json.RawMessage) error {
	if len(body) == 0 {
		return nil
	}
	fmt.Fprintf(out, "%s:\n", name)
	var text bytes.Buffer
	if err := json.Indent(&text, body, "", "  "); err != nil {
		return err
	}
	for line := range strings.SplitSeq(text.String(), "\n") {
		out.WriteString(printable(line) + "\n")
	}
	return nil
}

// deadChoice chooses the dead letters that redrive and drop work on.
type deadChoice struct {
	filterFlags
	ids []int64
	all bool
}

func (c *deadChoice) register(cmd *cobra.Command) {
	c.registerDead(cmd)
	cmd.Flags().BoolVar(&c.all, "all", false, "all dead letters")
}

// filter is what the numbers and flags choose.
func (c *deadChoice) filter(s *session) (state.Filter, error) {
	f, err := c.read(s)
	f.IDs = c.ids
	return f, err
}

// check reads the numbers, and refuses, before anything is connected, a choice
// of nothing.
func (c *deadChoice) check(args []string) error {
	given := len(args) > 0 || c.given() != ""
	switch {
	case given && c.all:
		return usageError{errors.New("--all chooses all dead letters; leave out --all, or the rest")}
	case !given && !c.all:
		return usageError{errors.New("say which dead letters: their numbers, or --id, --endpoint, --key, --event, --class, --status, --tenant, --from, --to, or --all")}
	}
	for _, arg := range args {
		id, err := rowID("dead letter", arg)
		if err != nil {
			return err
		}
		c.ids = append(c.ids, id)
	}
	return nil
}

func newDeadRedriveCommand(f *sessionFlags) *cobra.Command {
	var choice deadChoice
	var job jobFlags
	cmd := &cobra.Command{
		Use: "redrive [NUMBER...]", Short: "Send dead letters again",
		Long: `Send dead letters again to the endpoints they are of, as a job that the running
bridge carries out and that survives its restarts. They keep their webhook-id and carry
the header webhook-replay: true. A dead letter is deleted when it is queued again; if
it fails again it is stored under a new number.`,
		Example: "  gancho dead redrive 17 18\n  gancho dead redrive --endpoint crm-centro --rate 50/s --wait\n  gancho dead redrive --all --dry-run",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := job.rate()
			if err != nil {
				return err
			}
			if err := choice.check(args); err != nil {
				return err
			}
			return f.run(cmd, withStore, func(ctx context.Context, s *session) error {
				chosen, err := choice.filter(s)
				if err != nil {
					return err
				}
				jobs, err := s.CreateRedrive(ctx, s.actor, state.Job{Filter: chosen, Rate: r, DryRun: job.dryRun}, choice.all)
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
		Use: "drop [NUMBER...]", Short: "Delete dead letters permanently",
		Long: `Delete dead letters permanently. On a terminal their number has to be typed to
confirm; elsewhere --yes is needed.`,
		Example: "  gancho dead drop 17 18 --yes\n  gancho dead drop --endpoint old-crm",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := choice.check(args); err != nil {
				return err
			}
			if !yes && !isTerminal(cmd.InOrStdin()) {
				return usageError{errors.New("dropping cannot be undone; add --yes")}
			}
			return f.run(cmd, withStore, func(ctx context.Context, s *session) error {
				chosen, err := choice.filter(s)
				if err != nil {
					return err
				}
				return s.drop(yes, "dead letter",
					func() (int64, error) { return s.CountDead(ctx, s.actor, chosen) },
					func() (int64, error) { return s.DropDead(ctx, s.actor, chosen, choice.all) })
			})
		},
	}
	choice.register(cmd)
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// drop deletes what there is of a kind, after a person has confirmed the number, and
// prints how many.
func (s *session) drop(yes bool, what string, count, remove func() (int64, error)) error {
	if !yes {
		n, err := count()
		if err != nil {
			return err
		}
		if ok, err := s.confirmDrop(n, what); !ok || err != nil {
			return err
		}
	}
	n, err := remove()
	if err != nil {
		return err
	}
	return s.result(map[string]int64{"dropped": n}, "%s dropped\n", plural(n, what))
}

// confirmDrop asks a person to type how many of what there is are to be deleted.
func (s *session) confirmDrop(n int64, what string) (bool, error) {
	if n == 0 {
		return false, s.result(map[string]int64{"dropped": 0}, "no %s matches\n", what)
	}
	if _, err := fmt.Fprint(s.cmd.ErrOrStderr(), s.said(plural(n, what)+" will be deleted permanently. Type the number to confirm: ")); err != nil {
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
