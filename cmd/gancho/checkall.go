package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"gancho/config"
)

// sourcesAtOnce is how many sources a command over all of them works on at the same time.
const sourcesAtOnce = 4

// eachSource does something with each of the sources, some at the same time, and shows what came of it in their order.
func eachSource[T any](all []config.Database, do func(config.Database) T, show func(config.Database, T) error) error {
	results := make([]chan T, len(all))
	for i := range results {
		results[i] = make(chan T, 1)
	}
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(sourcesAtOnce, len(all)) {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(all)); i = next.Add(1) - 1 {
				results[i] <- do(all[i])
			}
		})
	}
	defer workers.Wait()
	var failed error
	for i := range all {
		if result := <-results[i]; failed == nil {
			failed = show(all[i], result)
		}
	}
	return failed
}

// allSources are the sources of a configuration with several; none is an error.
func allSources(ctx context.Context, c *config.Config) ([]config.Database, error) {
	all, err := listSources(ctx, c)
	if err == nil && len(all) == 0 {
		err = errors.New("no database is chosen by cluster.databases or cluster.sql; see which there are: select datname from pg_database")
	}
	return all, err
}

// checked is what check has found at one of several sources.
type checked struct {
	text     string
	problems int
	rules    int
}

// runAll is run at each of many databases. What is wrong with one does not end the others.
func (k *checkup) runAll(ctx context.Context) error {
	k.files(true)
	if err := k.print(); err != nil {
		return err
	}
	if k.problems > 0 {
		return fmt.Errorf("%s found, see above; nothing was changed", plural(int64(k.problems), "problem"))
	}
	all, err := allSources(ctx, k.config)
	if err != nil {
		return err
	}
	var wrong []string
	rules := 0
	err = eachSource(all, func(d config.Database) checked { return k.checkedAt(ctx, d) }, func(d config.Database, found checked) error {
		if found.problems > 0 {
			wrong = append(wrong, d.Name)
		} else {
			rules = found.rules
		}
		return k.under(d.Name, found.text)
	})
	if err != nil {
		return err
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%d of %d sources are not in order: %s; nothing was changed", len(wrong), len(all), names(wrong))
	}
	said := fmt.Sprintf("%s: %s and %s are valid for %d sources", k.config.File, plural(int64(rules), "rule"), plural(int64(len(k.config.Endpoints)), "endpoint"), len(all))
	_, err = fmt.Fprintln(k.stdout, k.language.Translate("cli.label", said))
	return err
}

// checkedAt checks the rules against one of the sources.
func (k *checkup) checkedAt(ctx context.Context, d config.Database) checked {
	var text bytes.Buffer
	one := &checkup{config: k.config.For(d), former: k.former, stdout: &text, stderr: &text, language: k.language}
	found := checked{}
	if rules := one.rules(); rules != nil {
		found.rules = one.source(ctx, rules)
		if one.problems == 0 {
			one.problem("contract.broken", k.config.File, one.contract(rules))
		}
	}
	if err := one.print(); err != nil { // a buffer never fails
		one.problems++
	}
	found.text, found.problems = text.String(), one.problems
	return found
}

// under prints what is said about one of several sources; "": nothing.
func (k *checkup) under(source, text string) error {
	if text == "" {
		return nil
	}
	_, err := fmt.Fprintf(k.stderr, "%s:\n%s", source, indented(text))
	return err
}

// indented is a text two columns further to the right.
func indented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if line != "\n" {
			b.WriteString("  ")
		}
		b.WriteString(line)
	}
	return b.String()
}

// shownNames are how many names a sentence has.
const shownNames = 10

// names are those of a sentence.
func names(all []string) string {
	if more := len(all) - shownNames; more > 0 {
		return fmt.Sprintf("%s, ... (+%d)", strings.Join(all[:shownNames], ", "), more)
	}
	return strings.Join(all, ", ")
}
