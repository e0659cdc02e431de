// Command gancho adds webhooks to a system that has none: it reads the
// system's PostgreSQL replication stream, makes events of row changes by rules,
// and delivers them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // source.timezone must work on a machine without a zone database

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gancho/internal/strictyaml"
	"gancho/internal/systemd"
)

// The exit codes, which scripts rely on.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
	// exitFindings: the command did what it is for, and there is something to do.
	exitFindings = 3
)

func main() {
	os.Exit(Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// usageError is a mistake on the command line, as opposed to a failure of the
// command.
type usageError struct{ error }

// fileError is a mistake in the files that a command was given, or that they are not there: it exits
// as wrong usage does, because to start again helps neither.
type fileError struct{ error }

// Unwrap returns the mistake.
func (e fileError) Unwrap() error { return e.error }

// findingsError is what a command found, as opposed to a failure of the command.
type findingsError struct{ error }

// Main runs the command line and returns its exit code: 0 done, 1 failed, 2
// wrong usage, 3 findings. The first SIGINT or SIGTERM cancels the command's context, so
// that it drains; a second one kills the process.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	// After the first signal, let the runtime handle the next one.
	defer context.AfterFunc(ctx, stop)()

	ctx, spoken := inLanguage(ctx)
	root := newRootCommand()
	speak(root, spoken, args)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if journal, is := systemd.NewJournal(stderr, os.LookupEnv); is {
		stderr = journal
	}
	var usage usageError
	var file fileError
	var findings findingsError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage):
		help := fmt.Sprintf("Run '%s --help' for usage.", cmd.CommandPath())
		_, _ = fmt.Fprintf(stderr, "gancho: %s\n%s\n", errorText(spoken, err), spoken.Translate("cli.error", help))
		return exitUsage
	case errors.As(err, &file):
		_, _ = fmt.Fprintf(stderr, "gancho: %s\n", spoken.Translate("cli.error", err.Error()))
		return exitUsage
	case errors.As(err, &findings):
		_, _ = fmt.Fprintf(stderr, "gancho: %s\n", errorText(spoken, err))
		return exitFindings
	default:
		_, _ = fmt.Fprintf(stderr, "gancho: %s\n", errorText(spoken, err))
		return exitFailed
	}
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "gancho",
		Short:         "Webhooks for a system that has none",
		Long:          "Gancho reads a PostgreSQL database's logical replication stream, turns row changes into\nevents by rules written in SQL expressions, and delivers them as signed webhooks.",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArguments,
		// Of every command: none has one of its own.
		PersistentPreRunE: before,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(flagError)
	root.PersistentFlags().String(apiFlag, "", "")
	_ = root.PersistentFlags().MarkHidden(apiFlag) // it is there
	root.AddCommand(
		newRunCommand(),
		newInitCommand(),
		newCheckCommand(),
		newDoctorCommand(),
		newPlanCommand(),
		newTestCommand(),
		newSimulateCommand(),
		newCatalogueCommand(),
		newSchemaCommand(),
		newStatusCommand(),
		newProveCommand(),
		newEndpointsCommand(),
		newEventsCommand(),
		newWhyCommand(),
		newDeliveriesCommand(),
		newDeadCommand(),
		newParkedCommand(),
		newRecoverCommand(),
		newResendCommand(),
		newBackfillCommand(),
		newReplayCommand(),
		newForgetCommand(),
		newTokensCommand(),
		newLoginCommand(),
		newLogoutCommand(),
		newAuditCommand(),
		newConsoleCommand(),
		newListenCommand(),
		newMigrateCommand(),
		newSecretsCommand(),
		newHealthCommand(),
		newVersionCommand(),
	)
	root.AddCommand(manualCommands()...)
	return root
}

// flagError is wrong usage, with the closest name when the flag does not exist.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || unknown.GetSpecifiedShortnames() != "" {
		return usageError{err}
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if s := strictyaml.Closest(unknown.GetSpecifiedName(), names); s != "" {
		err = fmt.Errorf("%w; did you mean --%s?", err, s)
	}
	return usageError{err}
}

// noArguments refuses positional arguments as wrong usage, with the closest
// command's name when the argument looks like a misspelt command.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if args[0] == "demo" {
		return usageError{errors.New("the demo is a program of its own: gancho-demo, or make demo in the source tree")}
	}
	if s := strictyaml.Closest(args[0], commandNames(cmd.Root())); s != "" {
		return usageError{fmt.Errorf("unknown command %q; did you mean %q?", args[0], s)}
	}
	return usageError{fmt.Errorf("unexpected argument %q for %q", args[0], cmd.CommandPath())}
}
