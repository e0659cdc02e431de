package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"gancho/config"
	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/migrations"
)

func newMigrateCommand() *cobra.Command {
	var dryRun bool
	cmd := onConfig(&cobra.Command{
		Use:   "migrate",
		Short: "Bring Gancho's own tables up to date",
		Long: `Bring Gancho's own tables up to date: the schema gancho in the database of
state.dsn, or of source.dsn without it. Nothing outside the schema is changed.
It may run beside a bridge, and several times concurrently; gancho run --create
does the same when it starts.

The role needs CREATE on the database or, when the schema gancho exists already,
on the schema.`,
	}, func(cmd *cobra.Command, c *config.Config) error {
		if err := needState(c); err != nil {
			return err
		}
		migrate, what := migrations.Apply, "applied"
		if dryRun {
			migrate, what = migrations.Pending, "to be applied"
		}
		steps, err := migrate(cmd.Context(), stateDSN(c))
		if len(steps) > 0 || err == nil { // those before the one that failed
			if err := printSteps(cmd, what, steps); err != nil {
				return err
			}
		}
		return migrateHint(c, err)
	})
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print the steps to be applied, and change nothing")
	return cmd
}

func printSteps(cmd *cobra.Command, what string, steps []string) error {
	if len(steps) == 0 {
		_, err := fmt.Fprintln(cmd.OutOrStdout(), "the schema gancho is up to date")
		return err
	}
	for _, step := range steps {
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", what, step); err != nil {
			return err
		}
	}
	return nil
}

// migrateHint says where the database is that an error is about.
func migrateHint(c *config.Config, err error) error {
	if err == nil || errors.Is(err, migrations.ErrNewer) {
		return err
	}
	return fmt.Errorf("%w; it is the database of %s in %s", err, stateKey(c), c.File)
}

// stateDSN is the database of Gancho's own tables.
func stateDSN(c *config.Config) string { return cmp.Or(c.State.DSN, c.Source.DSN).Reveal() }

// stateKey is the setting that names it.
func stateKey(c *config.Config) string {
	if c.State.DSN == "" {
		return "source.dsn"
	}
	return "state.dsn"
}

// needState refuses what needs Gancho's own tables, where there are none.
func needState(c *config.Config) error {
	if c.State.On() {
		return nil
	}
	return fmt.Errorf("%s: %w", c.File, control.ErrNoState)
}

// openState connects to Gancho's own tables. The caller closes the store.
func openState(ctx context.Context, c *config.Config) (*state.Store, error) {
	o, err := stateOptions(c)
	if err != nil {
		return nil, err
	}
	store, err := state.Open(ctx, state.Options{DSN: o.DSN, Keyring: o.Keyring, Logger: zerolog.Nop()})
	if err != nil {
		return nil, fmt.Errorf("open the state in the database of %s: %w", stateKey(c), err)
	}
	return store, nil
}
