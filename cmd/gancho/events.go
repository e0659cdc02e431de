package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"gancho/cdc"
	"gancho/config"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/internal/contract"
	"gancho/internal/control"
	"gancho/internal/jsonschema"
	"gancho/internal/strictyaml"
	"gancho/mapping"
)

// eventsFlags are the flags of gancho events beside those of a session.
type eventsFlags struct {
	session  sessionFlags
	format   string
	out      string
	dsn      string
	endpoint string
}

// The formats of gancho events.
var eventFormats = []string{"jsonschema", "openapi", "asyncapi", "markdown"}

func newEventsCommand() *cobra.Command {
	var f eventsFlags
	cmd := &cobra.Command{
		Use: "events", Short: "List the events that the rules make, or print them as a contract for receivers", Args: noArguments,
		Long: `List the events that the rules make.

With --format they are described for receivers: as JSON Schemas (2020-12), an OpenAPI 3.1
or AsyncAPI 3 document, or a page in Markdown, with the type of every field, whether it
may be null or missing, and a sample without real data. What the rules must know of the
source is in catalogue.yaml, where gancho catalogue save has written it; without that
file, or with --dsn, the source is asked. Keep what --format jsonschema wrote under
version control: gancho check --compatible-with says which changes would break receivers.`,
		Example: "  gancho events\n  gancho events --format jsonschema -o contract\n  gancho events --format openapi --endpoint crm-centro > crm.json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.format != "" {
				if err := f.session.onlyHere("gancho events --format"); err != nil {
					return err
				}
				return f.describe(cmd)
			}
			for _, name := range []string{"output", "dsn", "endpoint"} {
				if cmd.Flags().Changed(name) {
					return usageError{fmt.Errorf("--%s needs --format: %s", name, strings.Join(eventFormats, ", "))}
				}
			}
			return f.session.run(cmd, 0, listEvents)
		},
	}
	f.session.register(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.format, "format", "", "describe the events as `"+strings.Join(eventFormats, ", ")+"`")
	flags.StringVarP(&f.out, "output", "o", "", "`directory` to write files to (default: one document to the standard output)")
	flags.StringVar(&f.dsn, "dsn", "", "connection `string` of the source that the rules are bound to")
	flags.StringVar(&f.endpoint, "endpoint", "", "`name` of an endpoint of gancho.yaml: its events, as it gets them")
	return cmd
}

func listEvents(ctx context.Context, s *session) error {
	if s.local != nil {
		rules, err := parseRules(s.config)
		if err != nil {
			return err
		}
		s.local.Catalogue = rules.EventTypes
	}
	events, err := s.EventTypes(ctx, s.actor)
	if err != nil {
		return err
	}
	if s.json {
		return s.print(control.Page[mapping.EventType]{Items: events})
	}
	t := newTable(s.cmd.OutOrStdout(), headings(speech(s.cmd), "EVENT", "GROUP", "TABLE", "ON", "FIELDS", "RULE", "TITLE")...)
	for _, e := range events {
		tables := e.Each(func(r *mapping.EventRule) []string { return []string{cmp.Or(r.Table, r.Schedule)} })
		operations := e.Each(func(r *mapping.EventRule) []string { return strings.Split(r.On, " or ") })
		fields := e.Each(func(r *mapping.EventRule) []string { return r.Fields })
		places := e.Each(func(r *mapping.EventRule) []string { return []string{r.Place} })
		t.row(e.Name, orDash(e.Group), strings.Join(tables, ","), strings.Join(operations, " or "), strings.Join(fields, ","), strings.Join(places, ","), orDash(e.Title))
	}
	return t.end()
}

// describe prints the events as a contract.
func (f *eventsFlags) describe(cmd *cobra.Command) error {
	if !slices.Contains(eventFormats, f.format) {
		hint := "write one of " + strings.Join(eventFormats, ", ")
		if near := strictyaml.Closest(f.format, eventFormats); near != "" {
			hint = "did you mean " + near + "?"
		}
		return usageError{fmt.Errorf("--format: unknown format %q; %s", f.format, hint)}
	}
	c, ep, err := f.configuration()
	if err != nil {
		return err
	}
	events, err := f.events(cmd, c)
	if err != nil {
		return err
	}
	if f.endpoint != "" {
		events = slices.DeleteFunc(events, func(e contract.Event) bool { return queue.Refuses(ep, e.Name) == queue.RefusedEvent })
	}
	if len(events) == 0 {
		return findingsError{fmt.Errorf("endpoint %q takes none of the events of the rules; correct its events in %s", f.endpoint, f.session.config)}
	}
	if f.out == "" {
		return f.print(cmd, events, ep)
	}
	files, err := f.files(events, ep)
	if err != nil {
		return err
	}
	return f.write(cmd, files)
}

// configuration is the whole configuration where an endpoint is asked for, and else only
// what rules depend on, so that no variable needs to be set.
func (f *eventsFlags) configuration() (*config.Config, *endpoint.Endpoint, error) {
	none := &endpoint.Endpoint{}
	if f.endpoint == "" {
		c, err := config.LoadRules(f.session.config, variable)
		return c, none, err
	}
	c, err := config.Load(f.session.config, variable)
	if err != nil {
		return nil, nil, err
	}
	var names []string
	for i := range c.Endpoints {
		if c.Endpoints[i].Name == f.endpoint {
			return c, withoutSettings(c.Endpoints[i]), nil
		}
		names = append(names, c.Endpoints[i].Name)
	}
	hint := f.session.config + " has no endpoint; those that gancho endpoints lists are not read here"
	if len(names) > 0 {
		hint = "the endpoints of " + f.session.config + " are " + strings.Join(names, ", ")
	}
	return nil, nil, usageError{fmt.Errorf("--endpoint: no endpoint %q; %s", f.endpoint, hint)}
}

// withoutSettings is the endpoint without what a contract must not show: the values of extra
// fields may be secret.
func withoutSettings(e *endpoint.Endpoint) *endpoint.Endpoint {
	out := *e
	out.Extra = map[string]endpoint.Hidden{}
	for name := range e.Extra {
		out.Extra[name] = endpoint.Masked
	}
	return &out
}

// events binds the rules and describes what they make.
func (f *eventsFlags) events(cmd *cobra.Command, c *config.Config) ([]contract.Event, error) {
	for name := range c.Privacy.Secrets {
		c.Privacy.Secrets[name] = config.Secret("gancho events: " + name) // nothing is hashed
	}
	parsed, err := parseRules(c)
	if err != nil {
		return nil, err
	}
	saved, err := readCatalogue(cataloguePath(f.session.config))
	if f.dsn == "" && err == nil {
		rules, err := parsed.BindTo(saved)
		if err != nil {
			return nil, err
		}
		return contract.Events(parsed.EventTypes(), rules.Payloads()), nil
	}
	if _, missing := os.Stat(cataloguePath(f.session.config)); f.dsn == "" && !errors.Is(missing, fs.ErrNotExist) {
		return nil, err
	}
	dsn := f.dsn
	if dsn == "" {
		whole, err := config.Load(f.session.config, variable)
		if err != nil {
			return nil, fmt.Errorf("%w\n%s does not exist, so that the source is asked; to do without it, write the file once with: gancho catalogue save", err, cataloguePath(f.session.config))
		}
		if whole, err = onSource(cmd.Context(), whole, f.session.source); err != nil {
			return nil, err
		}
		dsn = whole.Source.DSN.Reveal()
	}
	conn, err := cdc.Connect(cmd.Context(), dsn)
	if err != nil {
		return nil, fmt.Errorf("connect to the source: %w; check --dsn or source.dsn, or write catalogue.yaml once with: gancho catalogue save", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(cmd.Context())) }()
	rules, err := parsed.Bind(cmd.Context(), conn)
	if err != nil {
		return nil, err
	}
	return contract.Events(parsed.EventTypes(), rules.Payloads()), nil
}

// eventFile is a file of the contract.
type eventFile struct {
	name string
	text []byte
}

// schemaSuffix ends the names of files with the schema of one event.
const schemaSuffix = ".schema.json"

// files are those of the format.
func (f *eventsFlags) files(events []contract.Event, ep *endpoint.Endpoint) ([]eventFile, error) {
	var out []eventFile
	add := func(name string, v any) error {
		text, err := jsonschema.Encode(v)
		out = append(out, eventFile{name, text})
		return err
	}
	switch f.format {
	case "openapi":
		err := add("openapi.json", contract.OpenAPI(events, ep))
		return out, err
	case "asyncapi":
		err := add("asyncapi.json", contract.AsyncAPI(events, ep))
		return out, err
	case "markdown":
		return []eventFile{{"events.md", contract.Markdown(events, ep)}}, nil
	}
	for i := range events {
		if err := add(fileName(events[i].Name)+schemaSuffix, events[i].Schema(ep)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// fileName is an event's name as that of a file: what a file system may not take, or takes
// for the same, is escaped.
func fileName(event string) string {
	var b strings.Builder
	for i := range len(event) {
		c := event[i]
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.' && i > 0 {
			_ = b.WriteByte(c)
		} else {
			_, _ = fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// write writes the files into the directory. Those of events that there are no more would
// still be compared with, and are named.
func (f *eventsFlags) write(cmd *cobra.Command, files []eventFile) error {
	if err := os.MkdirAll(f.out, 0o750); err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	for _, file := range files {
		if err := os.WriteFile(filepath.Join(f.out, file.name), file.text, 0o600); err != nil {
			return fmt.Errorf("--output: %w", err)
		}
	}
	if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", f.out, said(speech(cmd), plural(int64(len(files)), "file"))); err != nil {
		return err
	}
	if f.format != "jsonschema" || f.endpoint != "" {
		return nil
	}
	all, err := filepath.Glob(filepath.Join(f.out, "*"+schemaSuffix))
	if err != nil {
		return err
	}
	for _, name := range all {
		if slices.ContainsFunc(files, func(file eventFile) bool { return file.name == filepath.Base(name) }) {
			continue
		}
		if _, err := fmt.Fprintln(cmd.ErrOrStderr(), said(speech(cmd), name+" is of an event that no rule makes any more; remove it once no receiver needs it")); err != nil {
			return err
		}
	}
	return nil
}

// print prints one document.
func (f *eventsFlags) print(cmd *cobra.Command, events []contract.Event, ep *endpoint.Endpoint) error {
	if f.format == "jsonschema" {
		text, err := jsonschema.Encode(contract.Bundle(events, ep))
		if err != nil {
			return err
		}
		_, err = cmd.OutOrStdout().Write(text)
		return err
	}
	files, err := f.files(events, ep)
	if err != nil {
		return err
	}
	_, err = cmd.OutOrStdout().Write(files[0].text)
	return err
}
