package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/internal/strictyaml"
)

func newTokensCommand() *cobra.Command {
	var f sessionFlags
	cmd := group("tokens", "Manage tokens of the HTTP API", `A token is what a program shows to the HTTP API. Its role says what it may do: a viewer
reads; an operator also pauses, activates, tests, redrives and resends; an admin also
changes endpoints, secrets and tokens, and drops dead letters. With a tenant it sees
nothing of others.`)
	f.registerStored(cmd)
	cmd.AddCommand(newTokensCreateCommand(&f), newTokensListCommand(&f), newTokensRevokeCommand(&f))
	return cmd
}

func newTokensCreateCommand(f *sessionFlags) *cobra.Command {
	var n control.NewToken
	var role, expires string
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Create a token, and show it once",
		Example: "  gancho tokens create painel --role viewer\n  gancho tokens create unidade-1 --role operator --tenant 1 --expires 90d",
		Args:    oneName("token"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n.Name, n.Role = args[0], state.Role(role)
			if !n.Role.Valid() {
				return usageError{fmt.Errorf("--role %q: write viewer, operator or admin", role)}
			}
			switch {
			case expires == "never":
				n.Forever = true
			case expires != "":
				const longest = 10 * 365 * 24 * time.Hour
				left, err := scalar("--expires", expires, nil, func(v strictyaml.Value) time.Duration { return v.Duration(time.Minute, longest) })
				if err != nil {
					return err
				}
				n.Expires = time.Now().Add(left).UTC()
			}
			return f.run(cmd, withStore, func(ctx context.Context, s *session) error {
				t, err := s.CreateToken(ctx, s.actor, n)
				if errors.Is(err, state.ErrConflict) {
					return usageError{fmt.Errorf("a token %q exists already; choose another name, or revoke it with gancho tokens revoke %s", n.Name, n.Name)}
				}
				if err != nil {
					return err
				}
				untilWhen := "never"
				if !t.Expires.IsZero() {
					untilWhen = clock(t.Expires)
				}
				return s.result(t, "token (shown this once): %s\nuse it as: Authorization: Bearer <token>\nit expires: %s\n", t.Text, untilWhen)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&role, "role", "viewer", "viewer, operator or admin")
	flags.StringVar(&n.Tenant, "tenant", "", "the one `tenant` whose endpoints and events it sees")
	flags.StringVar(&expires, "expires", "", "how long it is valid, as a `duration` such as 30d, or never: until it is revoked (default 90d)")
	return cmd
}

func newTokensListCommand(f *sessionFlags) *cobra.Command {
	tokens := listed[state.Token]{
		needs:   withStore,
		open:    whole(func(s *session, ctx context.Context) ([]state.Token, error) { return s.Tokens(ctx, s.actor) }),
		heading: []string{"NAME", "ROLE", "TENANT", "CREATED", "BY", "LAST USED", "EXPIRES"},
		row: func(k *state.Token) []string {
			return []string{k.Name, string(k.Role), orDash(k.Tenant), clock(k.Created), k.CreatedBy, clock(k.LastUsed), clock(k.Expires)}
		},
		none: "there are no tokens; create one with gancho tokens create NAME --role viewer",
	}
	return &cobra.Command{
		Use: "list", Short: "List the tokens, without their texts", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return tokens.run(f, cmd, &pageFlags{}) },
	}
}

func newTokensRevokeCommand(f *sessionFlags) *cobra.Command {
	return &cobra.Command{
		Use: "revoke NAME", Short: "Revoke a token", Args: oneName("token"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd, withStore, func(ctx context.Context, s *session) error {
				if err := s.RevokeToken(ctx, s.actor, args[0]); err != nil {
					return missing(err, "token %q does not exist; see gancho tokens list", args[0])
				}
				return s.result(map[string]string{"revoked": args[0]}, "token %s revoked\n", args[0])
			})
		},
	}
}
