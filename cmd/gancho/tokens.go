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
	cmd := group("tokens", "Make and revoke tokens of the HTTP API", `A token is what a program shows to the HTTP API. Its role says what it may do: a viewer
reads; an operator also pauses, activates, tests, redrives and resends; an admin also
changes endpoints, secrets and tokens, and drops dead letters. With a tenant it sees
nothing of others.`)
	f.register(cmd)
	cmd.AddCommand(newTokensCreateCommand(&f), newTokensListCommand(&f), newTokensRevokeCommand(&f))
	return cmd
}

func newTokensCreateCommand(f *sessionFlags) *cobra.Command {
	var n control.NewToken
	var role, expires string
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a token, and show it once",
		Example: "  gancho tokens create painel --role viewer\n  gancho tokens create unidade-1 --role operator --tenant 1 --expires 90d",
		Args:    oneName("token"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n.Name, n.Role = args[0], state.Role(role)
			if !n.Role.Valid() {
				return usageError{fmt.Errorf("--role %q: write viewer, operator or admin", role)}
			}
			if expires != "" {
				const longest = 10 * 365 * 24 * time.Hour
				left, err := scalar("--expires", expires, func(v strictyaml.Value) time.Duration { return v.Duration(time.Minute, longest) })
				if err != nil {
					return err
				}
				n.Expires = time.Now().Add(left).UTC()
			}
			return f.run(cmd, withStore, func(ctx context.Context, s *session) error {
				t, err := s.CreateToken(ctx, s.actor, n)
				if errors.Is(err, state.ErrConflict) {
					return usageError{fmt.Errorf("there is a token %q already; choose another name, or revoke it with gancho tokens revoke %s", n.Name, n.Name)}
				}
				if err != nil {
					return err
				}
				if s.json {
					return s.print(t)
				}
				return s.say("token (shown this once): %s\nuse it as: Authorization: Bearer <token>\n", t.Token)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&role, "role", "viewer", "viewer, operator or admin")
	flags.StringVar(&n.Tenant, "tenant", "", "the one `tenant` whose endpoints and events it sees")
	flags.StringVar(&expires, "expires", "", "how long it is good for, as a `duration` such as 90d (default: until it is revoked)")
	return cmd
}

func newTokensListCommand(f *sessionFlags) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the tokens, without their texts", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd, withStore, func(ctx context.Context, s *session) error {
				tokens, err := s.Tokens(ctx, s.actor)
				if err != nil {
					return err
				}
				if s.json {
					return s.print(control.Page[control.TokenView]{Items: tokens})
				}
				if len(tokens) == 0 {
					return s.say("there are no tokens; make one with gancho tokens create NAME --role viewer\n")
				}
				t := newTable(s.cmd.OutOrStdout(), "NAME", "ROLE", "TENANT", "CREATED", "BY", "LAST USED", "EXPIRES")
				for _, k := range tokens {
					t.row(k.Name, string(k.Role), orDash(k.Tenant), clock(k.Created), k.CreatedBy, clock(k.LastUsed), clock(k.Expires))
				}
				return t.end()
			})
		},
	}
}

func newTokensRevokeCommand(f *sessionFlags) *cobra.Command {
	return &cobra.Command{
		Use: "revoke NAME", Short: "Make a token worthless", Args: oneName("token"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd, withStore, func(ctx context.Context, s *session) error {
				if err := s.RevokeToken(ctx, s.actor, args[0]); err != nil {
					return missing(err, "there is no token %q; gancho tokens list shows those there are", args[0])
				}
				if s.json {
					return s.print(map[string]string{"revoked": args[0]})
				}
				return s.say("token %s revoked\n", args[0])
			})
		},
	}
}
