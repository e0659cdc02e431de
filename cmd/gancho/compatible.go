package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"gancho/config"
	"gancho/delivery/queue"
	"gancho/internal/contract"
	"gancho/internal/jsonschema"
	"gancho/mapping"
)

// contract compares the events with --compatible-with. Without the source, what the rules
// must know of it is in the saved catalogue.
func (k *checkup) contract(rules *mapping.Rules) error {
	if k.former == "" {
		return nil
	}
	if k.offline {
		saved, err := readCatalogue(cataloguePath(k.config.File))
		if err != nil {
			return err
		}
		bound, err := rules.BindTo(saved)
		if err != nil {
			return err
		}
		k.events = contract.Events(rules.EventTypes(), bound.Payloads())
	}
	return k.compare()
}

// compare compares the events with their former schemas. What is new is printed, too.
func (k *checkup) compare() error {
	schemas, err := readContract(k.former)
	if err != nil {
		return err
	}
	broken := 0
	for _, change := range contract.Compare(schemas, k.events) {
		out, text := k.stdout, said(k.language, fmt.Sprintf("event %s: %s", change.Event, change.Text))
		if change.Breaks {
			out, text = k.stderr, text+"; "+said(k.language, receivers(k.config, change.Event))
			broken++
		}
		if _, err := fmt.Fprintln(out, text); err != nil {
			return err
		}
	}
	if broken > 0 {
		return fmt.Errorf("%s of the events would break receivers: take them back, give the event another name, or agree with the receivers and then write the schemas again: gancho events --format jsonschema -o %s",
			plural(int64(broken), "change"), k.former)
	}
	return nil
}

// receivers says which endpoints of the configuration get the event.
func receivers(c *config.Config, event string) string {
	var names []string
	for i := range c.Endpoints {
		if queue.Refuses(c.Endpoints[i], event) == "" {
			names = append(names, c.Endpoints[i].Name)
		}
	}
	if len(names) == 0 {
		return "no endpoint of " + c.File + " gets it (gancho endpoints lists the stored ones)"
	}
	return "it goes to " + strings.Join(names, ", ")
}

// readContract reads the schemas of a directory, in the order of their names.
func readContract(dir string) ([]*jsonschema.Schema, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*"+schemaSuffix))
	if err != nil {
		return nil, usageError{fmt.Errorf("--compatible-with: %w", err)}
	}
	if len(names) == 0 {
		return nil, usageError{fmt.Errorf("--compatible-with: %s has no *%s; write them with: gancho events --format jsonschema -o %[1]s", dir, schemaSuffix)}
	}
	var out []*jsonschema.Schema
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		s := &jsonschema.Schema{}
		if err = json.Unmarshal(text, s); err == nil && contract.EventOf(s) == "" {
			err = errors.New("it is no schema of an event")
		}
		if err != nil {
			return nil, usageError{fmt.Errorf("--compatible-with: read %s: %w; write it again with: gancho events --format jsonschema -o %s", name, err, dir)}
		}
		out = append(out, s)
	}
	return out, nil
}
