package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gancho/delivery/endpoint"
	"gancho/internal/state"
	"gancho/internal/strictyaml"
)

// scalar reads a flag's text as the configuration reads a value, with the same
// messages.
func scalar[T any](flag, text string, read func(strictyaml.Value) T) (T, error) {
	d := strictyaml.Parse(flag, []byte(strconv.Quote(text)), nil)
	v := read(d.Root())
	if mistakes := d.Errors(); len(mistakes) > 0 {
		m := mistakes[0]
		m.Line = 0 // it has only one
		return v, usageError{m}
	}
	return v, nil
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
	back, err := scalar(flag, text, func(v strictyaml.Value) time.Duration { return v.Duration(0, ever) })
	if err != nil {
		return time.Time{}, usageError{fmt.Errorf("%s %q is not a time; write 2026-11-21T08:00:00-03:00, 2026-11-21, %q, or how long ago, such as 2h", flag, text, "2026-11-21 08:00")}
	}
	return now.Add(-back), nil
}

// filterFlags choose events, dead letters or attempts.
type filterFlags struct {
	webhooks []string
	endpoint string
	tenant   string
	key      string
	events   []string
	from, to string
}

// register adds the flags; what names what is chosen.
func (f *filterFlags) register(cmd *cobra.Command, what string) {
	flags := cmd.Flags()
	flags.StringSliceVar(&f.webhooks, "id", nil, "`webhook-id` of "+what+"; several with commas")
	flags.StringVar(&f.tenant, "tenant", "", what+" of the `tenant`; empty (--tenant=): of none")
	flags.StringVar(&f.key, "key", "", what+" about the ordering `key`")
	flags.StringSliceVar(&f.events, "event", nil, what+" of these events, as `patterns` such as cobranca.*")
	flags.StringVar(&f.from, "from", "", "from this `time` on: RFC 3339, a date, or how long ago (2h)")
	flags.StringVar(&f.to, "to", "", "before this `time`")
}

// registerEndpoint adds the flag for the endpoint.
func (f *filterFlags) registerEndpoint(cmd *cobra.Command, use string) {
	cmd.Flags().StringVarP(&f.endpoint, "endpoint", "e", "", use)
}

// filter reads the flags.
func (f *filterFlags) filter(cmd *cobra.Command, zone *time.Location) (state.Filter, error) {
	out := state.Filter{Webhooks: f.webhooks, Endpoint: f.endpoint, Key: f.key, Events: f.events}
	for _, flag := range []string{"endpoint", "key"} {
		if x := cmd.Flags().Lookup(flag); x != nil && x.Changed && x.Value.String() == "" {
			return out, usageError{fmt.Errorf("--%s is empty; give it a value or leave it out", flag)}
		}
	}
	for _, list := range [][]string{f.webhooks, f.events} {
		for _, text := range list {
			if strings.TrimSpace(text) == "" {
				return out, usageError{errors.New("--id or --event has an empty entry; remove it")}
			}
		}
	}
	if cmd.Flags().Changed("tenant") {
		out.Tenant = &f.tenant
	}
	now := time.Now()
	var err error
	if out.From, err = moment("--from", f.from, zone, now); err != nil {
		return out, err
	}
	out.To, err = moment("--to", f.to, zone, now)
	return out, err
}

// pageFlags choose a part of a list.
type pageFlags struct {
	limit  int
	cursor string
	all    bool
}

func (f *pageFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.IntVar(&f.limit, "limit", 50, "the most to print, up to 500")
	flags.StringVar(&f.cursor, "cursor", "", "go on where the page before ended")
	flags.BoolVar(&f.all, "all", false, "print all there are, as they are read; with --json a document in each line")
}

// check refuses what excludes each other.
func (f *pageFlags) check(cmd *cobra.Command) error {
	switch {
	case f.all && cmd.Flags().Changed("limit"):
		return usageError{errors.New("--all prints all there are; leave out --limit")}
	case f.limit < 1 || f.limit > 500:
		return usageError{fmt.Errorf("--limit is %d; write a number from 1 to 500, or --all", f.limit)}
	}
	return nil
}

// rowID reads the number of a dead letter or a job.
func rowID(what, text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 {
		return 0, usageError{fmt.Errorf("%q is not the number of a %s; take it from the first column of the list", text, what)}
	}
	return n, nil
}

// rate reads the flag --rate, a number of events a second.
func rate(text string) (float64, error) {
	if text == "" {
		return 0, nil
	}
	return scalar("--rate", text, strictyaml.Value.Rate)
}

// secretFlags say where a signing key comes from: never from the command line,
// which other users of the machine can see.
type secretFlags struct {
	file, env string
	ed25519   bool
}

func (f *secretFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.file, "secret-file", "", "`file` with the signing secret, - for the standard input (default: one is made and shown once)")
	flags.StringVar(&f.env, "secret-env", "", "`name` of the environment variable with the signing secret")
	flags.BoolVar(&f.ed25519, "ed25519", false, "make an ed25519 key (v1a), whose public half receivers verify with")
}

// maxSecretFile bounds what is read of a secret's file, in bytes.
const maxSecretFile = 64 << 10

// read returns the secret that the flags name, nil when one is to be made.
func (f *secretFlags) read(stdin io.Reader) (*endpoint.Secret, error) {
	given := 0
	for _, yes := range []bool{f.file != "", f.env != "", f.ed25519} {
		if yes {
			given++
		}
	}
	if given > 1 {
		return nil, usageError{errors.New("--secret-file, --secret-env and --ed25519 exclude each other; keep one")}
	}
	var text, from string
	switch {
	case f.env != "":
		value, ok := os.LookupEnv(f.env)
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
