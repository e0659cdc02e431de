// Command gancho-demo shows gancho at work: private servers, a legacy database,
// the bridge, traffic like a working day's, and the webhooks as they arrive.
//
// It is a program of its own so that no test server is in the product. The
// bridge that it runs is the gancho that was built beside it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"gancho/internal/demo"
	"gancho/internal/receiver"
)

// The exit codes are those of gancho.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	os.Exit(Main(context.Background(), os.Args[1:], os.Stdout, os.Stderr, nil))
}

// usageError is a mistake on the command line.
type usageError struct{ error }

// Main runs the command line and returns its exit code: 0 done, 1 failed, 2
// wrong usage. The first SIGINT or SIGTERM ends the traffic, so that what is in
// flight arrives; the second kills the process. The bridge is the gancho
// beside this program, unless another one is given.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer, bridge func(context.Context, string) error) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	// Once the first signal is taken, hand the next one back to the runtime.
	defer context.AfterFunc(ctx, stop)()

	cmd := newCommand(bridge)
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	var usage usageError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage):
		_, _ = fmt.Fprintf(stderr, "gancho-demo: %v\nRun 'gancho-demo --help' for usage.\n", err)
		return exitUsage
	default:
		_, _ = fmt.Fprintf(stderr, "gancho-demo: %v\n", err)
		return exitFailed
	}
}

func newCommand(bridge func(context.Context, string) error) *cobra.Command {
	var o demo.Options
	var tour bool
	cmd := &cobra.Command{
		Use:   "gancho-demo",
		Short: "Watch webhooks arrive from a legacy gym and shop database",
		Long: `Gancho-demo starts private PostgreSQL and Redis servers with a legacy database, runs
the bridge on it, plays traffic like a working day's, and prints the webhooks as they
arrive, with the time since their commit. At the end it compares what arrived with
what the traffic must have caused, and fails if they differ.

With --tour it plays each event of the presets for Pacto, Superlógica and iSET once
instead, and prints a table: the event, the SQL that caused it, the webhook that arrived.

The servers' programs must be installed: apt-get install postgresql redis-server.
Nothing is left behind, at the end of --for or after Ctrl-C.`,
		Example:       "  gancho-demo\n  gancho-demo --for 30s\n  gancho-demo --tour",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unexpected argument %q", args[0])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.For < 0 {
				return usageError{errors.New("--for is negative; write a duration such as --for 30s")}
			}
			if tour && (cmd.Flags().Changed("for") || cmd.Flags().Changed("seed")) {
				return usageError{errors.New("--tour plays each event once; leave out --for and --seed")}
			}
			if !cmd.Flags().Changed("seed") {
				o.Seed = rand.Uint64N(1_000_000)
			}
			// A closed pipe (gancho-demo | head) ends the demo, not the process.
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGPIPE)
			defer stop()
			o.Out, o.Bridge = cmd.OutOrStdout(), bridge
			o.Color = receiver.ShowsColor(o.Out)
			if o.Bridge == nil {
				path, err := demo.FindCommand()
				if err != nil {
					return err
				}
				o.Bridge = demo.Command(path, cmd.ErrOrStderr())
			}
			if tour {
				return demo.Tour(ctx, o)
			}
			return demo.Run(ctx, o)
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	cmd.Flags().DurationVar(&o.For, "for", 0, "how long the traffic lasts, such as `30s`; without it, until Ctrl-C")
	cmd.Flags().Uint64Var(&o.Seed, "seed", 0, "what decides the traffic; without it, another one each time")
	cmd.Flags().BoolVar(&tour, "tour", false, "play each event of the presets once")
	return cmd
}
