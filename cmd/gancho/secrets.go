package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"gancho/config"
	"gancho/internal/state"
)

func newSecretsCommand() *cobra.Command {
	cmd := group("secrets", "Make and replace the key that encrypts what is stored",
		`Make and replace state.key, which encrypts the settings and signing keys of stored endpoints.

state.key is <id>:<base64 of 32 bytes>. To replace it:
  1. put a new one (gancho secrets generate-key) BEHIND the present one, separated
     by a comma, and restart every gancho process: all can then read both;
  2. put it in FRONT and restart again: from now on it encrypts;
  3. gancho secrets rekey encrypts again what has the old one;
  4. remove the old one.`)
	cmd.AddCommand(newGenerateKeyCommand(), newRekeyCommand())
	return cmd
}

func newGenerateKeyCommand() *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use:   "generate-key",
		Short: "Print a new key for state.key",
		Long:  "Print a new key for state.key, as <id>:<base64 of 32 random bytes>. It is kept nowhere else.",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("id") {
				id = newKeyID(time.Now())
			}
			key, err := state.GenerateKey(id)
			if err != nil {
				return usageError{fmt.Errorf("--id: %w", err)}
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), key)
			return err
		},
	}
	cmd.Flags().StringVar(&id, "id", "", "the key's `id`, no secret: it is stored with everything that the key encrypts (default: the date and four random digits)")
	return cmd
}

// newKeyID tells keys apart, and people how old a key is.
func newKeyID(now time.Time) string {
	random := make([]byte, 2)
	_, _ = rand.Read(random) // never fails
	return now.UTC().Format("20060102") + "-" + hex.EncodeToString(random)
}

func newRekeyCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "rekey",
		Short: "Encrypt everything with the first key of state.key",
		Long: `Encrypt everything that is stored with the first key of state.key, in one
transaction: when anything cannot be decrypted, nothing is changed. Afterwards the
other keys may be removed, once no process has the old order of keys any more.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(path, os.LookupEnv)
			if err != nil {
				return err
			}
			return rekey(cmd, c)
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", "gancho.yaml", "configuration `file`")
	return cmd
}

func rekey(cmd *cobra.Command, c *config.Config) error {
	if err := needState(c); err != nil {
		return err
	}
	store, err := openState(cmd.Context(), c, zerolog.Nop())
	if err != nil {
		return err
	}
	defer store.Close()
	n, err := store.Rekey(cmd.Context(), "cli:"+osUser())
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d values encrypted again, all now with the key %q\n", n, store.KeyIDs()[0])
	return err
}
