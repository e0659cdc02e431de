package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gancho/delivery/endpoint"
	"gancho/internal/state"
	"gancho/internal/strictyaml"
)

// refuseEmpty refuses what is given and empty, in every command: it comes of a
// variable of the shell that is not set, and without it most commands do more.
func refuseEmpty(cmd *cobra.Command, args []string) error {
	if strings.HasPrefix(cmd.Name(), cobra.ShellCompRequestCmd) { // a shell completes an empty word
		return nil
	}
	blank := func(text string) bool { return strings.TrimSpace(text) == "" }
	var empty error
	cmd.Flags().Visit(func(f *pflag.Flag) { // those that are given
		values := []string{f.Value.String()}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		if empty == nil && (len(values) == 0 || slices.ContainsFunc(values, blank)) {
			empty = usageError{fmt.Errorf("--%s has an empty value (a variable that is not set?); give it a value or leave it out", f.Name)}
		}
	})
	if empty == nil && slices.ContainsFunc(args, blank) {
		empty = usageError{fmt.Errorf("an argument of %q is empty (a variable that is not set?)", cmd.CommandPath())}
	}
	return empty
}

// scalar reads a flag's text as the configuration reads a value, with the same
// messages. ${VARIABLES} are replaced when there is a lookup.
func scalar[T any](flag, text string, lookup func(string) (string, bool), read func(strictyaml.Value) T) (T, error) {
	quoted, _ := json.Marshal(text) // a string
	d := strictyaml.Parse(flag, quoted, lookup)
	v := read(d.Root())
	return v, firstMistake(d)
}

// firstMistake is the first mistake in a text of one line, without the line.
func firstMistake(d *strictyaml.Document) error {
	mistakes := d.Errors()
	if len(mistakes) == 0 {
		return nil
	}
	m := mistakes[0]
	m.Line = 0
	return usageError{m}
}

// moment reads a time: RFC 3339, a day or a minute in the source's time zone,
// or how long ago (2h, 3d).
func moment(flag, text string, zone *time.Location, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t, nil
	}
	for _, layout := range []string{time.DateOnly, "2006-01-02 15:04", time.DateTime, "2006-01-02T15:04", "2006-01-02T15:04:05"} {
		if t, err := time.ParseInLocation(layout, text, zone); err == nil {
			return t, nil
		}
	}
	const ever = 100 * 365 * 24 * time.Hour
	back, err := scalar(flag, text, nil, func(v strictyaml.Value) time.Duration { return v.Duration(0, ever) })
	if err != nil {
		return time.Time{}, usageError{fmt.Errorf("%s %q is not a time; write 2026-11-21T08:00:00-03:00, 2026-11-21, %q, or how long ago, such as 2h", flag, text, "2026-11-21 08:00")}
	}
	return now.Add(-back), nil
}

// spanFlags choose a span of time.
type spanFlags struct{ from, to string }

func (f *spanFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.from, "from", "", "from this `time` on: RFC 3339, a date, or how long ago (2h)")
	cmd.Flags().StringVar(&f.to, "to", "", "before this `time`")
}

func (f *spanFlags) read(zone *time.Location) (from, to time.Time, err error) {
	now := time.Now()
	if from, err = moment("--from", f.from, zone, now); err != nil {
		return from, to, err
	}
	to, err = moment("--to", f.to, zone, now)
	return from, to, err
}

// filterFlags choose events, dead letters or attempts.
type filterFlags struct {
	spanFlags
	webhooks []string
	endpoint string
	tenant   string
	noTenant bool
	key      string
	tags     []string
	events   []string
	outcome  string
	// of dead letters, and of parked changes
	class, rule, reason string
	status              int
	cmd                 *cobra.Command
}

// register adds the flags; what names the things to choose from, endpoint says
// what --endpoint is for.
func (f *filterFlags) register(cmd *cobra.Command, what, endpoint string) {
	f.cmd = cmd
	f.spanFlags.register(cmd)
	flags := cmd.Flags()
	flags.StringSliceVar(&f.webhooks, "id", nil, "`webhook-id` of "+what+"; several with commas")
	flags.StringVar(&f.tenant, "tenant", "", what+" of the `tenant`")
	flags.BoolVar(&f.noTenant, "no-tenant", false, what+" of no tenant")
	flags.StringVar(&f.key, "key", "", what+" about the ordering `key`")
	flags.StringArrayVar(&f.tags, "tag", nil, what+" with this tag of their rule, as `name=value` before it is hashed; all of several")
	flags.StringSliceVar(&f.events, "event", nil, what+" of these events, as `patterns` such as cobranca.*")
	flags.StringVarP(&f.endpoint, "endpoint", "e", "", endpoint)
}

// registerDead adds those of dead letters.
func (f *filterFlags) registerDead(cmd *cobra.Command) {
	f.register(cmd, "dead letters", "dead letters of this `endpoint`")
	flags := cmd.Flags()
	flags.StringVar(&f.class, "class", "", "dead letters whose last attempt has failed in this `way`, such as timeout; gancho dead groups has them")
	flags.IntVar(&f.status, "status", 0, "dead letters whose last attempt was answered with this HTTP `status`; 0: no answer came")
}

// given is the first of the flags that is given; "": none.
func (f *filterFlags) given(except ...string) string {
	for _, flag := range []string{"id", "endpoint", "tenant", "no-tenant", "key", "tag", "event", "class", "status", "rule", "reason", "from", "to"} {
		if f.cmd.Flags().Changed(flag) && !slices.Contains(except, flag) {
			return flag
		}
	}
	return ""
}

// read reads the flags; times are in the time zone of the session's source.
func (f *filterFlags) read(s *session) (state.Filter, error) {
	out := state.Filter{Webhooks: f.webhooks, Endpoint: f.endpoint, Key: f.key, Tags: f.tags, Events: f.events, Outcome: f.outcome, Class: f.class, Rule: f.rule, Reason: f.reason}
	if f.cmd.Flags().Changed("status") {
		if out.Status = &f.status; f.status < 0 || f.status > 999 {
			return out, usageError{fmt.Errorf("--status %d is not an HTTP status; write such as 500, or 0 where no answer came", f.status)}
		}
	}
	switch given := f.cmd.Flags().Changed("tenant"); {
	case given && f.noTenant:
		return out, usageError{errors.New("--tenant and --no-tenant exclude each other; keep one")}
	case given || f.noTenant:
		out.Tenant = &f.tenant
	}
	if len(f.tags) > 0 && s.local != nil { // a bridge hashes them itself
		rules, err := parseRules(s.config)
		if err != nil {
			return out, err
		}
		s.local.Tag, s.local.TagNames = rules.Tag, rules.TagNames
	}
	var err error
	out.From, out.To, err = f.spanFlags.read(s.zone)
	return out, err
}

// rowID reads the number of a dead letter or a job.
func rowID(what, text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 {
		return 0, usageError{fmt.Errorf("%q is not the number of a %s; take it from the first column of the list", text, what)}
	}
	return n, nil
}

// secretFlags say where a signing key comes from: never from the command line,
// which other users of the machine can see.
type secretFlags struct {
	file, env string
	ed25519   bool
}

func (f *secretFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.file, "secret-file", "", "`file` with the signing secret, - for the standard input (default: one is generated and shown once)")
	flags.StringVar(&f.env, "secret-env", "", "`name` of the environment variable with the signing secret")
	flags.BoolVar(&f.ed25519, "ed25519", false, "generate an ed25519 key (v1a); receivers verify with its public half")
}

// maxSecretFile bounds what is read of a secret's file, in bytes.
const maxSecretFile = 64 << 10

// read returns the secret that the flags name, nil when one is to be generated.
func (f *secretFlags) read(stdin io.Reader) (*endpoint.Secret, error) {
	if f.file != "" && f.env != "" || f.ed25519 && (f.file != "" || f.env != "") {
		return nil, usageError{errors.New("--secret-file, --secret-env and --ed25519 exclude each other; keep one")}
	}
	var text, from string
	switch {
	case f.env != "":
		value, ok := variable(f.env)
		if !ok {
			return nil, usageError{fmt.Errorf("--secret-env: the environment variable %s is not set", f.env)}
		}
		text, from = value, "$"+f.env
	case f.file != "":
		raw, err := readInput(f.file, stdin, maxSecretFile)
		if err != nil {
			return nil, usageError{fmt.Errorf("--secret-file: %w", err)}
		}
		text, from = string(raw), "--secret-file "+f.file
	default:
		return nil, nil
	}
	secret, err := endpoint.ParseSecret(strings.TrimSpace(text))
	if err != nil {
		return nil, usageError{fmt.Errorf("%s: %w", from, err)}
	}
	return &secret, nil
}

// readInput reads a file, or the standard input for -, up to a limit in bytes.
func readInput(path string, stdin io.Reader, limit int64) ([]byte, error) {
	in := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }() // nothing was written
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return raw, nil
}
