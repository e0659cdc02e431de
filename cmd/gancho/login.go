package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"gancho/internal/control"
	"gancho/internal/remote"
)

func newLoginCommand() *cobra.Command {
	var f sessionFlags
	cmd := &cobra.Command{
		Use: "login", Short: "Keep a token, for commands that ask a bridge from another machine", Args: noArguments,
		Long: `Read a token from $GANCHO_TOKEN or the standard input, show it to the bridge, and keep it for
commands with the same --api: in the user's configuration directory, in a file that nobody else
may read. Somebody at the bridge creates the token: gancho tokens create NAME --role operator.

A token is sent over https only, or to this machine.`,
		Example: "  gancho login --api https://webhooks.example.com:8622\n  gancho status --api https://webhooks.example.com:8622",
		RunE: func(cmd *cobra.Command, _ []string) error {
			address, err := f.address()
			if err != nil {
				return err
			}
			token, err := readToken(cmd, address)
			if err != nil {
				return err
			}
			client, err := newClient(address, token, "")
			if err != nil {
				return err
			}
			defer client.Close()
			v, err := client.Installation(cmd.Context(), control.Actor{})
			if err != nil {
				return explain(err)
			}
			logins, err := remote.OpenLogins()
			if err != nil {
				return err
			}
			if err := logins.Keep(address, token); err != nil {
				return err
			}
			s := &session{cmd: cmd, json: f.json}
			return s.result(map[string]string{"login": address, "version": v.Version}, "logged in at %s (gancho %s)\n", address, v.Version)
		},
	}
	f.registerAPI(cmd)
	return cmd
}

func newLogoutCommand() *cobra.Command {
	var f sessionFlags
	cmd := &cobra.Command{
		Use: "logout", Short: "Forget the token of a bridge", Args: noArguments,
		Long: "Forget the token that gancho login has kept. The token stays valid until it expires or is revoked:\ngancho tokens revoke NAME.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			address, err := f.address()
			if err != nil {
				return err
			}
			logins, err := remote.OpenLogins()
			if err == nil {
				err = logins.Forget(address)
			}
			if errors.Is(err, remote.ErrNoLogin) {
				return usageError{fmt.Errorf("there is no login at %s", address)}
			}
			if err != nil {
				return err
			}
			s := &session{cmd: cmd, json: f.json}
			return s.result(map[string]string{"logout": address}, "logged out at %s\n", address)
		},
	}
	f.registerAPI(cmd)
	return cmd
}

// registerAPI adds the flags of a command that has no configuration.
func (f *sessionFlags) registerAPI(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.api, apiFlag, "", "the bridge's `address`, such as https://webhooks.example.com:8622")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON, for scripts")
}

// address is the bridge's.
func (f *sessionFlags) address() (string, error) {
	if f.api == "" {
		return "", usageError{errors.New("--api is missing: the bridge's address, such as --api https://webhooks.example.com:8622")}
	}
	address, err := remote.CheckAddress(f.api)
	if err != nil {
		return "", usageError{fmt.Errorf("--api: %w", err)}
	}
	return address, nil
}

// maxTokenLine bounds the line with a token, in bytes.
const maxTokenLine = 4 << 10

// readToken reads the token to keep.
func readToken(cmd *cobra.Command, address string) (string, error) {
	token := givenToken()
	if token == "" {
		line, err := readTokenLine(cmd, address)
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("read the token: %w", err)
		}
		token = strings.TrimSpace(line)
	}
	if token == "" {
		return "", usageError{fmt.Errorf("there is no token; write it to the standard input, or set %s", tokenVariable)}
	}
	return token, nil
}

// readTokenLine reads a line of the standard input. A terminal does not show what is typed: it would stay on the screen, and in what
// records it.
func readTokenLine(cmd *cobra.Command, address string) (string, error) {
	in := cmd.InOrStdin()
	f, ok := in.(*os.File)
	if !ok || !isTerminal(f) {
		return bufio.NewReader(io.LimitReader(in, maxTokenLine)).ReadString('\n')
	}
	// The terminal is raw before it asks: what is typed between a prompt and the end of its echo would be shown.
	shown, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return "", err
	}
	defer func() { _ = term.Restore(int(f.Fd()), shown) }()
	type answer struct {
		line string
		err  error
	}
	read := make(chan answer, 1)
	go func() { // it ends with the process where nobody types
		line, err := term.NewTerminal(keyboard{f, cmd.ErrOrStderr()}, "").ReadPassword("token for " + address + ": ")
		read <- answer{line, err}
	}()
	select {
	case a := <-read: // Ctrl-C is io.EOF
		return a.line, a.err
	case <-cmd.Context().Done():
		return "", cmd.Context().Err()
	}
}

// keyboard is what a person types, and where the prompt is shown.
type keyboard struct {
	io.Reader
	io.Writer
}
