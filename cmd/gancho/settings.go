package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gancho/internal/strictyaml"
)

// settingFlags are an endpoint's settings on the command line. Their values are
// checked with the whole document.
type settingFlags struct {
	file    string
	set     []string
	headers []string
	extra   []string
	// keys are the flags that are a setting's key with - for _.
	keys pflag.FlagSet
}

func (f *settingFlags) register(cmd *cobra.Command) {
	keys := &f.keys
	keys.String("url", "", "`URL` that events are posted to")
	keys.StringSlice("events", nil, "`patterns` of the events that it gets, such as cobranca.*,cliente.novo (default: all)")
	keys.StringSlice("tenants", nil, "`tenants` whose events it gets (default: all)")
	keys.StringSlice("sources", nil, "`sources` of many databases whose events it gets, as patterns such as cliente_* (default: all)")
	keys.String("format", "", "standard, bare, cloudevents, cloudevents-binary or form")
	keys.StringSlice("fields", nil, "`fields` of data that a message for a chat shows, such as valor,cliente.nome")
	keys.String("style", "", "settings for a known kind of receiver: superlogica, slack, discord, telegram, google_chat or teams")
	keys.String("concurrency", "", "the most requests in flight, as a `number`")
	keys.String("order", "", "key, endpoint or none")
	keys.String("rate", "", "the most requests, such as `50/s`")
	keys.String("timeout", "", "`timeout` of a request, such as 15s")
	keys.Bool("allow-http", false, "accept a url without TLS")
	keys.StringSlice("allow-private", nil, "private `networks` that it may be in, such as 10.1.0.0/16")
	flags := cmd.Flags()
	flags.AddFlagSet(keys)
	flags.StringVarP(&f.file, "file", "f", "", "`file` with settings, in YAML or JSON, with the keys of an endpoint in gancho.yaml; - for the standard input")
	flags.StringArrayVar(&f.set, "set", nil, "any setting as `key=YAML`, such as batch.max=100 or retry=[5s, 1m]; again for more")
	flags.StringArrayVar(&f.headers, "header", nil, "`'Name: value'` added to each request; '${VARIABLE}' in single quotes reads the environment")
	flags.StringArrayVar(&f.extra, "extra", nil, "`name=value` added to each body; ${VARIABLE} as in --header")
}

// maxDocument bounds the file of settings, in bytes.
const maxDocument = 1 << 20

// document returns the settings, and the origin that mistakes in them are
// reported under. With asIs a file without flags is returned unchanged, so that
// mistakes have its lines; otherwise the flags are merged into it, as JSON.
func (f *settingFlags) document(cmd *cobra.Command, asIs bool) (origin string, document []byte, err error) {
	flags, err := f.patch()
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
	d := strictyaml.Parse(origin, raw, variable)
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

// patch is the flags, without the file, as a merge patch.
func (f *settingFlags) patch() (map[string]any, error) {
	out := map[string]any{}
	f.keys.VisitAll(func(flag *pflag.Flag) {
		key := strings.ReplaceAll(flag.Name, "-", "_")
		list, isList := flag.Value.(pflag.SliceValue)
		switch {
		case !flag.Changed:
		case isList:
			out[key] = list.GetSlice()
		default:
			out[key] = flag.Value.String()
		}
	})
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
		if strings.TrimSpace(value) == "" {
			return usageError{fmt.Errorf("%s %s: the value is empty (a variable that is not set?); give it one, or write it in --file", flag, name)}
		}
		expanded, err := scalar(flag+" "+name, strings.TrimSpace(value), variable, strictyaml.Value.Text)
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
		if keys[0] == "secret" || keys[0] == "secrets" {
			return usageError{errors.New("--set: a secret on the command line can be seen by others; use --secret-file or --secret-env")}
		}
		d := strictyaml.Parse("--set "+path, []byte(text), variable)
		if !d.Root().Valid() && len(d.Errors()) == 0 {
			return usageError{fmt.Errorf("--set %s: the value is empty; write null to remove the setting", path)}
		}
		tree := d.Root().JSON()
		if err := firstMistake(d); err != nil {
			return err
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
