package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"gancho/config"
	"gancho/internal/state"
)

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
	cmd.Flags().StringVar(&id, "id", "", "the key's `id`, which is not secret: it is stored with everything that the key encrypts (default: the date and four random digits)")
	return cmd
}

// newKeyID is an id that distinguishes keys, and shows how old a key is.
func newKeyID(now time.Time) string {
	random := make([]byte, 2)
	_, _ = rand.Read(random) // never fails
	return now.UTC().Format("20060102") + "-" + hex.EncodeToString(random)
}

func newRekeyCommand() *cobra.Command {
	return onConfig(&cobra.Command{
		Use:   "rekey",
		Short: "Encrypt everything with the first key of state.key",
		Long: `Encrypt everything that is stored with the first key of state.key, in one
transaction: when a value cannot be decrypted, nothing is changed. Afterwards the
other keys may be removed, once no process uses the old order of keys.`,
	}, rekey)
}

func rekey(cmd *cobra.Command, c *config.Config) error {
	if err := needState(c); err != nil {
		return err
	}
	store, err := openState(cmd.Context(), c)
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
