package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"gancho/internal/strictyaml"
)

// settingFlags are an endpoint's settings on the command line. What they name
// is checked where all documents are.
type settingFlags struct {
	file         string
	set          []string
	url          string
	events       []string
	tenants      []string
	format       string
	style        string
	headers      []string
	extra        []string
	concurrency  string
	order        string
	rate         string
	timeout      string
	allowHTTP    bool
	allowPrivate []string
}

func (f *settingFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&f.file, "file", "f", "", "`file` with settings, in YAML or JSON, with the keys of an endpoint in gancho.yaml; - for the standard input")
	flags.StringArrayVar(&f.set, "set", nil, "any setting as `key=YAML`, such as batch.max=100 or retry=[5s, 1m]; again for more")
	flags.StringVar(&f.url, "url", "", "`URL` that events are posted to")
	flags.StringSliceVar(&f.events, "events", nil, "`patterns` of the events that it gets, such as cobranca.*,cliente.novo (default: all)")
	flags.StringSliceVar(&f.tenants, "tenants", nil, "`tenants` whose events it gets (default: all)")
	flags.StringVar(&f.format, "format", "", "standard, bare, cloudevents, cloudevents-binary or form")
	flags.StringVar(&f.style, "style", "", "settings of a known kind of receiver: superlogica")
	flags.StringArrayVar(&f.headers, "header", nil, "`'Name: value'` added to each request; '${VARIABLE}' in single quotes reads the environment")
	flags.StringArrayVar(&f.extra, "extra", nil, "`name=value` added to each body; ${VARIABLE} as in --header")
	flags.StringVar(&f.concurrency, "concurrency", "", "the most requests at once, as a `number`")
	flags.StringVar(&f.order, "order", "", "key, endpoint or none")
	flags.StringVar(&f.rate, "rate", "", "the most requests, such as `50/s`")
	flags.StringVar(&f.timeout, "timeout", "", "`time` limit of a request, such as 15s")
	flags.BoolVar(&f.allowHTTP, "allow-http", false, "accept a url without TLS")
	flags.StringSliceVar(&f.allowPrivate, "allow-private", nil, "private `networks` that it may be in, such as 10.1.0.0/16")
}

// maxDocument bounds the file of settings, in bytes.
const maxDocument = 1 << 20

// document returns the settings and what mistakes in them are reported under.
// With asIs a file that stands alone is returned as it is, so that mistakes
// have its lines; otherwise the flags are laid over the file, and it is JSON.
func (f *settingFlags) document(cmd *cobra.Command, asIs bool) (origin string, document []byte, err error) {
	flags, err := f.patch(cmd)
	if err != nil {
		return "", nil, err
	}
	if f.file == "" {
		document, err = json.Marshal(flags)
		return "", document, err
	}
	origin = f.file
	if origin == "-" {
		origin = "standard input"
	}
	raw, err := readInput(f.file, cmd.InOrStdin(), maxDocument)
	if err != nil {
		return "", nil, usageError{fmt.Errorf("--file: %w", err)}
	}
	if asIs && len(flags) == 0 && !strings.Contains(string(raw), "${") {
		return origin, raw, nil
	}
	d := strictyaml.Parse(origin, raw, os.LookupEnv)
	settings, err := object(d)
	if err != nil {
		return "", nil, err
	}
	for key, value := range flags {
		overlay(settings, key, value)
	}
	document, err = json.Marshal(settings)
	return "", document, err
}

// object reads a document that is a mapping.
func object(d *strictyaml.Document) (map[string]any, error) {
	settings := map[string]any{}
	root := d.Root()
	if root.Valid() {
		if !root.IsMap() {
			root.Errorf("write one key in each line, such as url: https://...", "this is not a mapping of settings")
		} else if tree := root.JSON(); tree != nil {
			if err := json.Unmarshal(tree, &settings); err != nil {
				return nil, err
			}
		}
	}
	if err := d.Errors().Err(); err != nil {
		return nil, usageError{err}
	}
	return settings, nil
}

// overlay sets a key, and the keys below it one by one when it is a mapping on
// both sides.
func overlay(settings map[string]any, key string, value any) {
	below, isMap := value.(map[string]any)
	into, wasMap := settings[key].(map[string]any)
	if !isMap || !wasMap {
		settings[key] = value
		return
	}
	for k, v := range below {
		overlay(into, k, v)
	}
}

// patch is what the flags, without the file, say: a merge patch.
func (f *settingFlags) patch(cmd *cobra.Command) (map[string]any, error) {
	out := map[string]any{}
	text := func(flag, key, value string) {
		if cmd.Flags().Changed(flag) {
			out[key] = value
		}
	}
	list := func(flag, key string, values []string) {
		if cmd.Flags().Changed(flag) {
			out[key] = values
		}
	}
	text("url", "url", f.url)
	list("events", "events", f.events)
	list("tenants", "tenants", f.tenants)
	text("format", "format", f.format)
	text("style", "style", f.style)
	text("concurrency", "concurrency", f.concurrency)
	text("order", "order", f.order)
	text("rate", "rate", f.rate)
	text("timeout", "timeout", f.timeout)
	text("allow-http", "allow_http", strconv.FormatBool(f.allowHTTP))
	list("allow-private", "allow_private", f.allowPrivate)
	if err := pairs(out, "headers", "--header", ":", f.headers); err != nil {
		return nil, err
	}
	if err := pairs(out, "extra", "--extra", "=", f.extra); err != nil {
		return nil, err
	}
	return out, f.setEach(out)
}

// pairs adds the name and value of each entry below the key.
func pairs(out map[string]any, key, flag, separator string, entries []string) error {
	values := map[string]any{}
	for _, e := range entries {
		name, value, ok := strings.Cut(e, separator)
		name = strings.TrimSpace(name)
		if !ok || name == "" {
			return usageError{fmt.Errorf("%s: write 'name%svalue'", flag, separator)} // it may hold a secret: not repeated
		}
		expanded, err := fromEnvironment(flag+" "+name, strings.TrimSpace(value))
		if err != nil {
			return err
		}
		values[name] = expanded
	}
	if len(values) > 0 {
		out[key] = values
	}
	return nil
}

// fromEnvironment replaces ${VARIABLES} as gancho.yaml does.
func fromEnvironment(origin, text string) (string, error) {
	quoted, err := json.Marshal(text)
	if err != nil {
		return "", err
	}
	d := strictyaml.Parse(origin, quoted, os.LookupEnv)
	value := d.Root().Text()
	if mistakes := d.Errors(); len(mistakes) > 0 {
		m := mistakes[0]
		m.Line = 0
		return "", usageError{m}
	}
	return value, nil
}

// setEach applies the --set flags in their order.
func (f *settingFlags) setEach(out map[string]any) error {
	for _, entry := range f.set {
		path, text, ok := strings.Cut(entry, "=")
		keys := strings.Split(strings.TrimSpace(path), ".")
		for _, k := range keys {
			ok = ok && k != ""
		}
		if !ok {
			return usageError{errors.New("--set: write key=YAML, such as --set rate=50/s or --set batch.max=100")}
		}
		switch keys[0] {
		case "secret", "secrets":
			return usageError{errors.New("--set: a secret on the command line can be seen by others; use --secret-file or --secret-env")}
		}
		d := strictyaml.Parse("--set "+path, []byte(text), os.LookupEnv)
		if !d.Root().Valid() && len(d.Errors()) == 0 {
			return usageError{fmt.Errorf("--set %s: the value is empty; write null to remove the setting", path)}
		}
		tree := d.Root().JSON()
		if mistakes := d.Errors(); len(mistakes) > 0 {
			m := mistakes[0]
			m.Line = 0
			return usageError{m}
		}
		var value any
		if err := json.Unmarshal(tree, &value); err != nil {
			return fmt.Errorf("--set %s: %w", path, err)
		}
		for i := len(keys) - 1; i > 0; i-- {
			value = map[string]any{keys[i]: value}
		}
		overlay(out, keys[0], value)
	}
	return nil
}
