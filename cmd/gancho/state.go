package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"gancho/config"
	"gancho/delivery/queue"
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
		_, err := fmt.Fprintln(cmd.OutOrStdout(), said(speech(cmd), "the schema gancho is up to date"))
		return err
	}
	for _, step := range steps {
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", said(speech(cmd), what), step); err != nil {
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
	return openLoggedState(ctx, c, zerolog.Nop())
}

// openLoggedState is openState for a command that has to show what the store logs.
func openLoggedState(ctx context.Context, c *config.Config, log zerolog.Logger) (*state.Store, error) {
	o, err := stateOptions(c)
	if err != nil {
		return nil, err
	}
	store, err := state.Open(ctx, state.Options{DSN: o.DSN, Keyring: o.Keyring, Logger: log})
	if err != nil {
		return nil, fmt.Errorf("open the state in the database of %s: %w", stateKey(c), err)
	}
	return store.Of(c.Source.Slot), nil
}

func newSecretsCommand() *cobra.Command {
	cmd := group("secrets", "Create and replace the key that encrypts the stored endpoints",
		`Create and replace state.key, which encrypts the settings and signing keys of stored endpoints.

state.key is <id>:<base64 of 32 bytes>. To replace it:
  1. put a new key (gancho secrets generate-key) BEHIND the present one, separated
     by a comma, and restart every gancho process: all can then read both;
  2. put it in FRONT and restart again: from now on it encrypts;
  3. run gancho secrets rekey, which encrypts again what the old key has encrypted;
  4. remove the old key.`)
	cmd.AddCommand(newGenerateKeyCommand(), newRekeyCommand())
	return cmd
}

func newGenerateKeyCommand() *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use:   "generate-key",
		Short: "Print a new key for state.key",
		Long:  "Print a new key for state.key, as <id>:<base64 of 32 random bytes>. It is stored nowhere.",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("id") {
				random := make([]byte, 2)
				_, _ = rand.Read(random) // never fails
				id = time.Now().UTC().Format("20060102") + "-" + hex.EncodeToString(random)
			}
			key, err := state.GenerateKey(id)
			if err != nil {
				return usageError{fmt.Errorf("--id: %w", err)}
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), key)
			return err
		},
	}
	cmd.Flags().StringVar(&id, "id", "", "the key's `id`, which is not secret: it is stored with everything that the key encrypts (default: the date and four random digits)")
	return cmd
}

func newRekeyCommand() *cobra.Command {
	return onConfig(&cobra.Command{
		Use:   "rekey",
		Short: "Encrypt everything with the first key of state.key",
		Long: `Encrypt everything that is stored with the first key of state.key: endpoints and
secrets in one transaction (when a value cannot be decrypted, nothing is changed; the
--where of a failed backfill is left as it is then, with a warning), and then parked
changes in Redis, which needs twice their memory meanwhile. If there is no error, the
other keys may be removed, once no process uses the old order of keys.`,
	}, rekey)
}

func rekey(cmd *cobra.Command, c *config.Config) error {
	if err := needState(c); err != nil {
		return err
	}
	store, err := openLoggedState(cmd.Context(), c, zerolog.New(zerolog.ConsoleWriter{Out: cmd.ErrOrStderr()}))
	if err != nil {
		return err
	}
	defer store.Close()
	var parked interface {
		RekeyParked(context.Context, func(*queue.ParkedChange) (bool, error)) (int64, error)
	} = parkedInRedis{c}
	if c.Sources != nil {
		parked = parkedOfSources{c}
	}
	n, err := store.Rekey(cmd.Context(), "cli:"+osUser(), parked)
	if err != nil {
		if n > 0 {
			err = fmt.Errorf("%d values were encrypted again, and the rest was not: %w", n, err)
		}
		return err
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), said(speech(cmd), fmt.Sprintf("%d values encrypted again, all now with the key %q", n, store.KeyIDs()[0])))
	return err
}

// parkedInRedis connects to Redis when the state database is done.
type parkedInRedis struct{ config *config.Config }

func (p parkedInRedis) RekeyParked(ctx context.Context, reseal func(*queue.ParkedChange) (bool, error)) (int64, error) {
	s := &session{config: p.config}
	defer s.close()
	q, err := s.connectQueue(ctx, nil)
	if err != nil {
		return 0, fmt.Errorf("encrypt parked changes again: %w; keep all keys, and run this again", err)
	}
	return q.RekeyParked(ctx, reseal)
}
