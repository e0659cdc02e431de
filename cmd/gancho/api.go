package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gancho/config"
	"gancho/internal/control"
	"gancho/internal/remote"
)

const (
	// apiFlag names the bridge that a command asks.
	apiFlag = "api"
	// tokenVariable holds its token.
	tokenVariable = "GANCHO_TOKEN"
)

// place is what commands need to know of the configuration, here or of the bridge that is asked.
type place struct {
	zone       *time.Location // of the source
	file       string         // the configuration's path
	keepEvents time.Duration  // after their commit; 0: they are not kept
}

func placeOf(c *config.Config) place {
	return place{zone: c.Source.Location, file: c.File, keepEvents: c.State.KeepEvents}
}

// stored reports whether there is a state database. A bridge that is asked has one: the token is there.
func (s *session) stored() bool { return s.local == nil || s.local.Store != nil }

// refuseAPI refuses --api to commands that do not ask anybody.
func refuseAPI(cmd *cobra.Command) error {
	flag := cmd.Flags().Lookup(apiFlag)
	if flag == nil || !flag.Changed || flag != cmd.Root().PersistentFlags().Lookup(apiFlag) {
		return nil
	}
	return needsHere(cmd.CommandPath())
}

// onlyHere refuses --api to what works on files and databases.
func (f *sessionFlags) onlyHere(what string) error {
	if f.api == "" {
		return nil
	}
	return needsHere(what)
}

func needsHere(what string) error {
	return usageError{fmt.Errorf("%s works on the bridge's files and databases, which --api does not reach; run it on the bridge's machine, without --api", what)}
}

// client is one of the bridge that --api names, with the token in the environment or of a login.
func (f *sessionFlags) client() (*remote.Client, error) {
	address, err := remote.CheckAddress(f.api)
	if err != nil {
		return nil, usageError{fmt.Errorf("--api: %w", err)}
	}
	token := givenToken()
	if token == "" {
		logins, err := remote.OpenLogins()
		if err == nil {
			token, err = logins.Token(address)
		}
		if errors.Is(err, remote.ErrNoLogin) {
			return nil, usageError{fmt.Errorf("there is no token for %s; log in: gancho login --api %s, or set %s", address, address, tokenVariable)}
		}
		if err != nil {
			return nil, err
		}
	}
	return newClient(address, token, f.source)
}

func newClient(address, token, source string) (*remote.Client, error) {
	client, err := remote.New(remote.Options{Address: address, Token: token, Source: source, Version: version})
	if errors.Is(err, remote.ErrToken) {
		err = usageError{err}
	}
	return client, err
}

// givenToken is the token of the environment, without what a shell has put around it.
func givenToken() string { return strings.TrimSpace(os.Getenv(tokenVariable)) }

// connectAPI is connect to a bridge's API.
func (f *sessionFlags) connectAPI(cmd *cobra.Command) (*session, error) {
	if cmd.Flags().Changed("config") {
		return nil, usageError{errors.New("--api and --config exclude each other; keep one")}
	}
	client, err := f.client()
	if err != nil {
		return nil, err
	}
	s := &session{operations: client, source: f.source, cmd: cmd, json: f.json, closers: []func(){client.Close}}
	v, err := client.Installation(cmd.Context(), control.Actor{})
	if err == nil {
		s.file, s.keepEvents = v.File, time.Duration(v.KeepEvents)*time.Second
		s.zone, err = time.LoadLocation(v.Zone)
	}
	if err != nil {
		s.close()
		return nil, invalidToken(err, client.Address())
	}
	return s, nil
}

// invalidToken says how to show another token.
func invalidToken(err error, address string) error {
	if answer, ok := errors.AsType[*remote.AnswerError](err); ok && answer.Kind == "unauthorized" {
		return fmt.Errorf("%w; show it with: gancho login --api %s, or in %s", err, address, tokenVariable)
	}
	return err
}
