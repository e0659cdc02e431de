package main

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"gancho/internal/demo"
)

// newDemoCommand returns `gancho demo`. The bridge is run with the demo's
// configuration file, and makes its slot and publication.
func newDemoCommand(bridge func(context.Context, string) error) *cobra.Command {
	var o demo.Options
	var tour bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Watch webhooks arrive from a legacy gym and shop database",
		Long: `Demo starts private PostgreSQL and Redis servers with a legacy database, runs the
bridge on it, plays traffic like a working day's, and prints the webhooks as they
arrive, with the time since their commit. At the end it compares what arrived with
what the traffic must have caused, and fails if they differ.

With --tour it plays each of the forty events of Pacto, Superlógica and iSET once instead,
with the rules of the presets, and prints a table: the event, the SQL that caused it, the
webhook that arrived.

The servers' programs must be installed: apt-get install postgresql redis-server.
Nothing of it is left behind, at the end of --for or after Ctrl-C.`,
		Example: "  gancho demo\n  gancho demo --for 30s\n  gancho demo --tour",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.For < 0 {
				return usageError{errors.New("--for is negative; write a duration such as --for 30s")}
			}
			if tour && (cmd.Flags().Changed("for") || cmd.Flags().Changed("seed")) {
				return usageError{errors.New("--tour plays each event once; leave out --for and --seed")}
			}
			if !cmd.Flags().Changed("seed") {
				o.Seed = rand.Uint64N(1_000_000)
			}
			// A reader that goes away (gancho demo | head) ends the demo, not the process.
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGPIPE)
			defer stop()
			o.Out, o.Bridge = cmd.OutOrStdout(), bridge
			o.Color = showsColor(o.Out)
			if tour {
				return demo.Tour(ctx, o)
			}
			return demo.Run(ctx, o)
		},
	}
	cmd.Flags().DurationVar(&o.For, "for", 0, "how long the traffic lasts, such as `30s`; without it, until Ctrl-C")
	cmd.Flags().Uint64Var(&o.Seed, "seed", 0, "what decides the traffic; without it, another one each time")
	cmd.Flags().BoolVar(&tour, "tour", false, "play each of the forty events once")
	return cmd
}

// showsColor reports whether out is a terminal whose user has not turned
// colours off (https://no-color.org).
func showsColor(out io.Writer) bool {
	f, ok := out.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
