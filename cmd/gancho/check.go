package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"gancho/cdc"
	"gancho/config"
	"gancho/delivery/endpoint"
	"gancho/internal/bridge"
	"gancho/internal/contract"
	"gancho/mapping"
)

func newCheckCommand() *cobra.Command {
	var offline bool
	var former string
	cmd := onConfig(&cobra.Command{
		Use:   "check",
		Short: "Validate the configuration and the rules against the live catalogue",
		Long: `Validate the configuration, the rule files and every expression in them against
the source's catalogue. Nothing is changed anywhere. Every mistake is printed as
file:line:col with what to write instead; the exit code is then 1. It is 1, too, while
the publication exists and lacks changes of a rule's table, while statements of the
application fail because of a publication, and where catalogue.yaml, which gancho
catalogue save wrote, is not what the source is now.

With --compatible-with, the events are compared with those that gancho events --format
jsonschema -o DIRECTORY described before: what would break receivers is printed with the
endpoints that get the event, and the exit code is 1. With --offline, too, what the rules
must know of the source is then in catalogue.yaml.`,
	}, func(cmd *cobra.Command, c *config.Config) error {
		d, err := definitions(c)
		if err != nil {
			return err
		}
		if err := checkSecrets(cmd, c); err != nil {
			return err
		}
		for _, warning := range c.Warnings() {
			if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n", c.File, warning); err != nil {
				return err
			}
		}
		if offline {
			if former != "" {
				if err := checkSavedContract(cmd, c, d, former); err != nil {
					return err
				}
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: rules for %s and %s read; not checked against the source (--offline)\n",
				c.File, plural(int64(len(d.Rules.Tables())), "table"), plural(int64(len(d.Endpoints)), "endpoint"))
			return err
		}
		rules, err := checkSource(cmd, c, d)
		if err == nil && former != "" {
			err = checkContract(cmd, c, contract.Events(d.Rules.EventTypes(), rules.Payloads()), former)
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s and %s are valid\n", c.File, plural(int64(rules.Len()), "rule"), plural(int64(len(d.Endpoints)), "endpoint"))
		return err
	})
	cmd.Flags().BoolVar(&offline, "offline", false, "check the files alone, without the source")
	cmd.Flags().StringVar(&former, "compatible-with", "", "`directory` of former schemas of the events, which must still hold")
	return cmd
}

// checkSecrets says which keys can be guessed, which secrets two receivers know, and
// which a receiver has to know in another form than the one they are written in.
func checkSecrets(cmd *cobra.Command, c *config.Config) error {
	var weak []string
	if keys, err := stateOptions(c); err != nil {
		return err
	} else if keys != nil {
		weak = keys.Keyring.Weak()
	}
	for _, names := range endpoint.SharedSecrets(c.Endpoints) {
		weak = append(weak, fmt.Sprintf("the endpoints %s have a signing secret in common: each receiver can sign as gancho to the others; give each its own", strings.Join(names, ", ")))
	}
	for _, text := range weak {
		if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n", c.File, text); err != nil {
			return err
		}
	}
	for _, e := range c.Endpoints {
		if !slices.ContainsFunc(e.Secrets, endpoint.Secret.IsText) {
			continue
		}
		_, err := fmt.Fprintf(cmd.ErrOrStderr(), "%s: endpoint %q: a secret is a text, whose bytes are the key; its receiver verifies with "+
			"whsec_ and base64 of it: echo whsec_$(printf %%s \"$SECRET\" | base64 -w0). If it is base64 already, and the receiver decodes it, write whsec_ before it\n", c.File, e.Name)
		if err != nil {
			return err
		}
	}
	return nil
}

// checkSource binds the rules to the source's catalogue, and prints what is
// missing in the source for the bridge to run.
func checkSource(cmd *cobra.Command, c *config.Config, d *bridge.Definitions) (*mapping.Ruleset, error) {
	ctx := cmd.Context()
	conn, err := cdc.Connect(ctx, c.Source.DSN.Reveal())
	if err != nil {
		return nil, fmt.Errorf("connect to the source: %w; check source.dsn, or use --offline", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	rules, err := d.Rules.Bind(ctx, conn)
	if err != nil {
		return nil, err
	}
	identity, err := cdc.LoadIdentity(ctx, conn)
	if err != nil {
		return nil, err
	}
	lookup := mapping.NewSource(cmp.Or(c.Source.LookupDSN, c.Source.DSN).Reveal(), cdc.Encoding(c.Source.Encoding), zerolog.New(zerolog.ConsoleWriter{Out: cmd.ErrOrStderr()})).Of(identity)
	defer lookup.Close(ctx)
	if err := lookup.Check(ctx, rules); err != nil {
		return nil, err
	}
	if err := printRoles(cmd, c, conn, lookup, rules); err != nil {
		return nil, err
	}
	for _, f := range rules.Findings() {
		if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s; %s\n", f.Rule, f.Message, f.Fix); err != nil {
			return nil, err
		}
	}
	settings, err := cdc.LoadSettings(ctx, conn)
	if err != nil {
		return nil, err
	}
	if advice := cdc.Encoding(c.Source.Encoding).Advice(settings.Encoding); advice != "" {
		if _, err := fmt.Fprintln(cmd.ErrOrStderr(), advice); err != nil {
			return nil, err
		}
	}
	refused, err := printHazards(cmd, conn, &c.Source, rules.Ruled())
	if err != nil {
		return nil, err
	}
	_, err = cdc.Prepare(ctx, cdc.Options{
		DSN: c.Source.DSN.Reveal(), Slot: c.Source.Slot, Publication: c.Source.Publication, Encoding: cdc.Encoding(c.Source.Encoding),
	}, rules.Tables())
	if lacks := new(cdc.SetupError); errors.As(err, &lacks) && lacks.FirstStart() {
		_, err = fmt.Fprintf(cmd.ErrOrStderr(), "%v\n", lacks)
		if err == nil && len(lacks.Missing) > 0 {
			err = fmt.Errorf("the publication exists and lacks changes of %s, which rules need: a bridge that runs does not capture them", joinNames(lacks.Missing))
		}
	}
	if err == nil && refused {
		err = errors.New("statements of the application fail now, see above")
	}
	if err == nil {
		err = checkCatalogue(cmd, c, rules)
	}
	return rules, err
}

// printRoles prints which roles may do more than Gancho needs: superusers, and one
// that reads for lookups and may read columns of privacy.deny, with the statements
// that create another.
func printRoles(cmd *cobra.Command, c *config.Config, conn *pgx.Conn, lookup *mapping.Source, rules *mapping.Ruleset) error {
	const super = "%s: its role %s is a superuser, for which no privilege and no row-level security holds; connect with a role of its own (docs/operations.md)\n"
	var source string
	err := conn.QueryRow(cmd.Context(), "select coalesce((select rolname::text from pg_catalog.pg_roles where rolname = current_user and rolsuper), '')").Scan(&source)
	if err != nil {
		return fmt.Errorf("read the role of source.dsn: %w", err)
	}
	reader, superuser, err := lookup.Role(cmd.Context())
	if err == nil && source != "" {
		_, err = fmt.Fprintf(cmd.ErrOrStderr(), super, "source.dsn", source)
	}
	if err == nil && c.Source.LookupDSN != "" && superuser {
		_, err = fmt.Fprintf(cmd.ErrOrStderr(), super, "source.lookup_dsn", reader)
	}
	if err != nil {
		return err
	}
	role, statements, err := rules.LookupRole(cmd.Context(), conn, reader)
	if err != nil || role == "" {
		return err
	}
	_, err = fmt.Fprintf(cmd.ErrOrStderr(), "privacy.deny: role %s, which reads for lookups, may read columns of it, and only Gancho's check of the lookups keeps them from that; "+
		"to have PostgreSQL refuse it, run the following, give the role a password, and write it in source.lookup_dsn\n%s\n", role, strings.Join(statements, "\n"))
	return err
}

// printHazards prints what is to be known about the source and its publications,
// and reports whether statements of the application fail now.
func printHazards(cmd *cobra.Command, conn *pgx.Conn, source *config.Source, tables []cdc.Ruled) (refused bool, err error) {
	remarks, err := cdc.Remarks(cmd.Context(), conn, cdc.Encoding(source.Encoding), source.Publication)
	if err != nil {
		return false, err
	}
	hazards, err := cdc.Hazards(cmd.Context(), conn, cdc.Encoding(source.Encoding), source.Publication, tables...)
	if err != nil {
		return false, err
	}
	for _, h := range hazards {
		remarks = append(remarks, cdc.Remark{Message: h.String(), Fix: h.Fix()})
		refused = refused || h.RefusesStatements()
	}
	for _, r := range remarks {
		if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "source: %s; %s\n", r.Message, r.Fix); err != nil {
			return false, err
		}
	}
	return refused, nil
}

func joinNames(names []cdc.Name) string {
	texts := make([]string, len(names))
	for i, n := range names {
		texts[i] = n.String()
	}
	return strings.Join(texts, ", ")
}
