package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"gancho/config"
	"gancho/internal/state"
	"gancho/migrations"
)

func newMigrateCommand() *cobra.Command {
	var path string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Bring Gancho's own tables up to date",
		Long: `Bring Gancho's own tables up to date: the schema gancho in the database of
state.dsn, or of source.dsn without it. Nothing outside of the schema is touched.
It may run beside a bridge, and several times at once; gancho run --create does
the same at its start.

The role needs CREATE on the database or, when the schema gancho is there
already, on the schema.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(path, os.LookupEnv)
			if err != nil {
				return err
			}
			if err := needState(c); err != nil {
				return err
			}
			if dryRun {
				return listMigrations(cmd, c)
			}
			return applyMigrations(cmd, c)
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", "gancho.yaml", "configuration `file`")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print what would be applied, and change nothing")
	return cmd
}

func listMigrations(cmd *cobra.Command, c *config.Config) error {
	pending, err := migrations.Pending(cmd.Context(), stateDSN(c))
	if err != nil {
		return migrateHint(c, err)
	}
	return printSteps(cmd, "to be applied", pending)
}

func applyMigrations(cmd *cobra.Command, c *config.Config) error {
	applied, err := migrations.Apply(cmd.Context(), stateDSN(c))
	if len(applied) > 0 || err == nil {
		if err := printSteps(cmd, "applied", applied); err != nil {
			return err
		}
	}
	if err != nil {
		return migrateHint(c, err)
	}
	return nil
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
	if errors.Is(err, migrations.ErrNewer) {
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
	return fmt.Errorf("%s has no state.key, without which Gancho keeps nothing in a database; make a key with gancho secrets generate-key, and add state: {key: '${GANCHO_STATE_KEY}'}", c.File)
}

// openState connects to Gancho's own tables. The caller closes the store.
func openState(ctx context.Context, c *config.Config, logger zerolog.Logger) (*state.Store, error) {
	keys, err := state.ParseKeys(c.State.Key.Reveal())
	if err != nil {
		return nil, fmt.Errorf("%s:%d: state.key: %w", c.File, c.State.KeyLine, err)
	}
	store, err := state.Open(ctx, state.Options{DSN: stateDSN(c), Keyring: keys, Logger: logger})
	if err != nil {
		return nil, fmt.Errorf("open the state in the database of %s: %w", stateKey(c), err)
	}
	return store, nil
}
