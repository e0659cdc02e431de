package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"gancho/internal/control"
	"gancho/internal/language"
	"gancho/internal/retry"
	"gancho/internal/state"
	"gancho/internal/strictyaml"
)

// jobFlags are those of commands that create a job.
type jobFlags struct {
	perSecond string
	dryRun    bool
	wait      bool
}

func (f *jobFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.perSecond, "rate", "", "the most events, such as `100/s` (default: as fast as the endpoint takes them)")
	flags.BoolVar(&f.dryRun, "dry-run", false, "count them, and change nothing")
	flags.BoolVar(&f.wait, "wait", false, "follow the job until it has ended")
}

func (f *jobFlags) rate() (float64, error) {
	if f.dryRun && f.wait {
		return 0, usageError{errors.New("--dry-run creates no job to --wait for; leave one out")}
	}
	if f.perSecond == "" {
		return 0, nil
	}
	return scalar("--rate", f.perSecond, nil, strictyaml.Value.Rate)
}

func newResendCommand() *cobra.Command {
	var f sessionFlags
	var filter filterFlags
	var job jobFlags
	var missing string
	cmd := &cobra.Command{
		Use: "resend --endpoint NAME", Short: "Send kept events again",
		Long: `Send events again to an endpoint, as a job that the running bridge carries out and that
survives its restarts: by webhook-id, by ordering key, by name, by commit time. They
keep their webhook-id and carry the header webhook-replay: true; they neither wait for
first deliveries nor delay them.

Events are kept for state.keep_events after they were delivered; an endpoint is sent
only those of its tenants, and, unless --event is given, of its event patterns.

With --missing-from FILE only those are sent that the receiver does not have: FILE (-: standard
input) has the webhook-ids of what it has, anywhere in its lines, such as an export or an access
log of the same span. What still waits in the queue is missing, too, and comes twice.`,
		Example: `  gancho resend --endpoint crm-centro --from 2026-11-20 --to 2026-11-21 --dry-run
  gancho resend --endpoint crm-centro --key 4711 --wait
  gancho resend --endpoint crm-norte --event 'cobranca.*' --from 2h --rate 100/s
  gancho resend --endpoint crm-centro --from 2026-11-20 --to 2026-11-21 --missing-from recebidos.csv`,
		Args: noSubcommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := checkResend(&filter, &job)
			if err == nil && missing != "" {
				err = f.onlyHere("gancho resend --missing-from")
			}
			if err != nil {
				return err
			}
			return f.run(cmd, withStore, func(ctx context.Context, s *session) error {
				chosen, err := filter.read(s)
				if err != nil {
					return err
				}
				chosen.Endpoint = ""
				if missing != "" {
					return s.resendMissing(ctx, missing, state.Job{Endpoint: filter.endpoint, Filter: chosen, Rate: r, DryRun: job.dryRun}, job.wait)
				}
				j, err := s.resend(ctx, state.Job{Endpoint: filter.endpoint, Filter: chosen, Rate: r, DryRun: job.dryRun})
				if err != nil {
					return noEndpoint(err, filter.endpoint)
				}
				if j.Total == 0 && !s.json {
					return s.say("no kept event matches; %s\n", s.kept())
				}
				return s.follow(ctx, []state.Job{j}, job.wait)
			})
		},
	}
	f.register(cmd)
	filter.register(cmd, "events", "the `endpoint` to send to")
	job.register(cmd)
	cmd.Flags().StringVar(&missing, "missing-from", "", "send only what is not in this `file` of webhook-ids that the receiver has")
	cmd.AddCommand(newResendListCommand(&f), newResendShowCommand(&f), newResendCancelCommand(&f))
	return cmd
}

// checkResend refuses, before anything is connected, what cannot be meant.
func checkResend(filter *filterFlags, job *jobFlags) (float64, error) {
	if filter.endpoint == "" {
		return 0, usageError{errors.New("--endpoint is missing; name the endpoint that is to receive the events")}
	}
	if filter.given("endpoint") == "" {
		return 0, usageError{errors.New("say which events: --id, --key, --event, --tenant, --from or --to")}
	}
	return job.rate()
}

// resend creates a job, unless there is nothing for it to do.
func (s *session) resend(ctx context.Context, r state.Job) (state.Job, error) {
	count := r
	count.DryRun = true
	j, err := s.CreateResend(ctx, s.actor, count)
	if err != nil || r.DryRun || j.Total == 0 {
		return j, err
	}
	return s.CreateResend(ctx, s.actor, r)
}

// kept says for how long events are kept.
func (s *session) kept() string {
	if s.keepEvents == 0 {
		return "events are not kept: set state.keep_events in " + s.file + " to keep those to come"
	}
	return fmt.Sprintf("events are kept for %s after their commit (state.keep_events)", lasted(s.keepEvents))
}

// follow reports jobs that were created, and waits for their end if told to.
func (s *session) follow(ctx context.Context, jobs []state.Job, wait bool) error {
	if wait {
		for i := range jobs {
			var err error
			if jobs[i], err = s.await(ctx, jobs[i]); err != nil {
				return err
			}
		}
	}
	text := ""
	for _, j := range jobs {
		text += jobText(speech(s.cmd), j) + "\n"
	}
	if len(jobs) == 0 {
		text = s.said("nothing to send\n")
	}
	if err := s.report(control.Page[state.Job]{Items: jobs}, text); err != nil {
		return err
	}
	return failedJobs(jobs)
}

func jobText(l *language.Language, j state.Job) string {
	switch j.Kind {
	case state.RedriveParked:
		return parkedJobText(l, j)
	case state.Backfill:
		return backfillText(l, &j)
	}
	events := plural(j.Total, "event")
	switch {
	case j.DryRun:
		return said(l, fmt.Sprintf("%s would be sent to endpoint %s; nothing was changed", events, j.Endpoint))
	case j.State == state.Queued && j.Sent == 0:
		return said(l, fmt.Sprintf("job %d: %s to endpoint %s, queued; see gancho resend show %d", j.ID, events, j.Endpoint, j.ID))
	}
	text := fmt.Sprintf("job %d: %s, %d of %s queued for endpoint %s", j.ID, j.State, j.Sent, events, j.Endpoint)
	return said(l, text) + jobTrouble(l, &j)
}

// jobTrouble says why a job has failed, or what it waits for.
func jobTrouble(l *language.Language, j *state.Job) string {
	switch {
	case j.Error != "":
		return ": " + printable(reasonText(l, j.Error))
	case j.Waits != "":
		return "; " + said(l, "it waits: "+printable(reasonText(l, j.Waits)))
	}
	return ""
}

func parkedJobText(l *language.Language, j state.Job) string {
	changes := plural(j.Total, "parked change")
	switch {
	case j.DryRun:
		return said(l, changes+" would be mapped again; nothing was changed")
	case j.State == state.Queued && j.Sent+j.Silent+j.Kept == 0:
		return said(l, fmt.Sprintf("job %d: %s, queued for the bridge that captures; see gancho resend show %d", j.ID, changes, j.ID))
	}
	text := said(l, fmt.Sprintf("job %d: %s, of %s %d sent, %d removed because their rule no longer fires, %d still parked",
		j.ID, j.State, changes, j.Sent, j.Silent, j.Kept))
	if j.Kept > 0 {
		text += " (" + said(l, "gancho parked list has their reasons") + ")"
	}
	return text + jobTrouble(l, &j)
}

// failedJobs is an error when a job has failed or was canceled.
func failedJobs(jobs []state.Job) error {
	for _, j := range jobs {
		if j.State == state.Failed || j.State == state.Canceled {
			return fmt.Errorf("job %d has %s", j.ID, map[state.JobState]string{state.Failed: "failed", state.Canceled: "been canceled"}[j.State])
		}
	}
	return nil
}

// followInterval is how often a job that is followed is read, progressInterval how often its progress is printed
// where there is no terminal.
const followInterval, progressInterval = 300 * time.Millisecond, 10 * time.Second

// await reads a job until it has ended. What it waits for is printed whenever that changes.
func (s *session) await(ctx context.Context, j state.Job) (state.Job, error) {
	shows := isTerminal(s.cmd.ErrOrStderr())
	waits, printed, sent := "", time.Now(), j.Sent
	for {
		var err error
		if j, err = s.Job(ctx, s.actor, j.ID); err != nil {
			return j, err
		}
		if shows {
			s.cmd.PrintErr("\r" + s.said(fmt.Sprintf("job %d: %s, %d of %d", j.ID, j.State, j.Sent, j.Total)) + " ")
		}
		if j.Waits != waits || !shows && j.Sent != sent && time.Since(printed) > progressInterval {
			waits, printed, sent = j.Waits, time.Now(), j.Sent
			if shows {
				s.cmd.PrintErr("\r")
			}
			s.cmd.PrintErrln(jobText(speech(s.cmd), j))
		}
		if j.State != state.Queued && j.State != state.Running && j.State != state.Paused {
			if shows {
				s.cmd.PrintErrln()
			}
			return j, nil
		}
		if retry.Wait(ctx, followInterval) != nil {
			return j, fmt.Errorf("stopped waiting for job %d, which continues; see gancho resend show %d", j.ID, j.ID)
		}
	}
}

func newResendListCommand(f *sessionFlags) *cobra.Command {
	var page pageFlags
	jobs := listed[state.Job]{
		needs:   withStore,
		open:    paged(operations.Jobs),
		heading: []string{"JOB", "KIND", "ENDPOINT", "STATE", "SENT", "OF", "CREATED", "BY", "ERROR OR WAIT"},
		row: func(j *state.Job) []string {
			return []string{
				strconv.FormatInt(j.ID, 10), string(j.Kind), orDash(j.Endpoint), string(j.State), strconv.FormatInt(j.Sent, 10), strconv.FormatInt(j.Total, 10),
				clock(j.Created), j.Actor, orDash(cmp.Or(j.Error, j.Waits)),
			}
		},
		none: "there are no jobs",
	}
	cmd := &cobra.Command{
		Use: "list", Short: "List resends and redrives, the newest first", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return jobs.run(f, cmd, &page) },
	}
	page.register(cmd)
	return cmd
}

func newResendShowCommand(f *sessionFlags) *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use: "show JOB", Short: "Show the progress of a resend or redrive", Args: oneName("job"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.jobCommand(cmd, args[0], func(ctx context.Context, s *session, id int64) (state.Job, error) {
				j, err := s.Job(ctx, s.actor, id)
				if err == nil && wait {
					return s.await(ctx, j)
				}
				return j, err
			})
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "follow the job until it has ended")
	return cmd
}

func newResendCancelCommand(f *sessionFlags) *cobra.Command {
	return &cobra.Command{
		Use: "cancel JOB", Short: "Stop a resend or redrive; what it has queued stays queued", Args: oneName("job"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.jobCommand(cmd, args[0], func(ctx context.Context, s *session, id int64) (state.Job, error) {
				return s.CancelJob(ctx, s.actor, id)
			})
		},
	}
}

// jobCommand does something with one job and prints it.
func (f *sessionFlags) jobCommand(cmd *cobra.Command, text string, do func(context.Context, *session, int64) (state.Job, error)) error {
	id, err := rowID("job", text)
	if err != nil {
		return err
	}
	return f.run(cmd, withStore, func(ctx context.Context, s *session) error {
		j, err := do(ctx, s, id)
		if errors.Is(err, state.ErrConflict) {
			return fmt.Errorf("job %d has ended already; see gancho %s show %d", id, cmd.Parent().Name(), id)
		}
		if err != nil {
			return missing(err, "job %d does not exist; see gancho resend list", id)
		}
		return s.report(j, jobText(speech(s.cmd), j)+"\n")
	})
}
