package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"gancho/internal/control"
)

// listed is a list that a command prints, as a table or as JSON.
type listed[T any] struct {
	needs parts
	// open reads the command's flags and returns what reads the list's pages.
	open    func(*session) (pageReader[T], error)
	heading []string
	row     func(*T) []string
	none    string // is printed for an empty list
	// source is the one of several that an item is of; "": there is one. Nil: items have none.
	source func(*T) string
}

// pageReader returns up to n items from a cursor on.
type pageReader[T any] func(ctx context.Context, cursor string, n int) (control.Page[T], error)

// whole reads a list that has no pages.
func whole[T any](read func(*session, context.Context) ([]T, error)) func(*session) (pageReader[T], error) {
	return func(s *session) (pageReader[T], error) {
		return func(ctx context.Context, _ string, _ int) (control.Page[T], error) {
			items, err := read(s, ctx)
			return control.Page[T]{Items: items}, err
		}, nil
	}
}

// paged reads a list in pages.
func paged[T any](read func(operations, context.Context, control.Actor, string, int) (control.Page[T], error)) func(*session) (pageReader[T], error) {
	return func(s *session) (pageReader[T], error) {
		return func(ctx context.Context, cursor string, n int) (control.Page[T], error) {
			return read(s.operations, ctx, s.actor, cursor, n)
		}, nil
	}
}

// filtered reads, in pages, what the filter in the flags chooses.
func filtered[F, T any](flags func(*session) (F, error),
	read func(operations, context.Context, control.Actor, F, string, int) (control.Page[T], error),
) func(*session) (pageReader[T], error) {
	return func(s *session) (pageReader[T], error) {
		filter, err := flags(s)
		return func(ctx context.Context, cursor string, n int) (control.Page[T], error) {
			return read(s.operations, ctx, s.actor, filter, cursor, n)
		}, err
	}
}

// run prints a page of the list, or all of them, however many there are.
func (l *listed[T]) run(f *sessionFlags, cmd *cobra.Command, p *pageFlags) error {
	if err := p.check(cmd); err != nil {
		return err
	}
	return f.run(cmd, l.needs, func(ctx context.Context, s *session) error {
		read, err := l.open(s)
		if err != nil {
			return err
		}
		n := p.limit
		if p.all {
			n = control.MaxPage
		}
		for cursor, first := p.cursor, true; ; first = false {
			page, err := read(ctx, cursor, n)
			if err != nil {
				return err
			}
			if err := l.write(s, p, page, first); err != nil {
				return err
			}
			switch cursor = page.Next; {
			case cursor == "" || s.json && !p.all:
				return nil
			case !p.all:
				_, err := fmt.Fprint(cmd.ErrOrStderr(), s.said(fmt.Sprintf("there are more: add --cursor %s, or --all\n", cursor)))
				return err
			}
		}
	})
}

func (l *listed[T]) write(s *session, p *pageFlags, page control.Page[T], first bool) error {
	switch {
	case s.json && !p.all:
		return s.print(page)
	case s.json:
		for _, item := range page.Items {
			if err := s.encode("", item); err != nil {
				return err
			}
		}
		return nil
	case len(page.Items) == 0 && first:
		return s.say("%s\n", l.none)
	}
	// Each page has its own column widths: common ones would wait for the last row.
	t := newTable(s.cmd.OutOrStdout())
	heading, row := l.heading, l.row
	if l.source != nil && len(page.Items) > 0 && l.source(&page.Items[0]) != "" {
		heading = slices.Insert(slices.Clone(heading), 0, "SOURCE")
		row = func(item *T) []string { return slices.Insert(l.row(item), 0, l.source(item)) }
	}
	if first {
		t.row(headings(speech(s.cmd), heading...)...)
	}
	for i := range page.Items {
		t.row(cells(speech(s.cmd), heading, row(&page.Items[i]))...)
	}
	return t.end()
}

// pageFlags choose a part of a list; the zero value is a list's first page.
type pageFlags struct {
	limit  int
	cursor string
	all    bool
}

func (f *pageFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.IntVar(&f.limit, "limit", control.DefaultPage, fmt.Sprintf("the most to print, up to %d", control.MaxPage))
	flags.StringVar(&f.cursor, "cursor", "", "continue where the previous page ended")
	flags.BoolVar(&f.all, "all", false, "print all of them, as they are read; with --json one document in each line")
}

// check refuses flags that exclude each other.
func (f *pageFlags) check(cmd *cobra.Command) error {
	given := cmd.Flags().Changed("limit")
	switch {
	case f.all && given:
		return usageError{errors.New("--all prints all of them; leave out --limit")}
	case given && (f.limit < 1 || f.limit > control.MaxPage):
		return usageError{fmt.Errorf("--limit is %d; write a number from 1 to %d, or --all", f.limit, control.MaxPage)}
	}
	return nil
}

// table prints rows under a heading, in columns as wide as their cells. Nothing
// is cut: a row that is longer than the screen is still one line for grep.
type table struct{ w *tabwriter.Writer }

func newTable(out io.Writer, heading ...string) *table {
	t := &table{tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
	if len(heading) > 0 {
		t.row(heading...)
	}
	return t
}

// row adds a row. Cells have texts from receivers and databases: a control
// character would break the table, or control the terminal.
func (t *table) row(cells ...string) {
	shown := make([]string, len(cells))
	for i, c := range cells {
		shown[i] = printable(c)
	}
	_, _ = io.WriteString(t.w, strings.TrimRight(strings.Join(shown, "\t"), "\t")+"\n") // Flush reports what fails
}

// end prints the table.
func (t *table) end() error { return t.w.Flush() }

// printable replaces characters that cannot be shown.
func printable(s string) string {
	if !strings.ContainsFunc(s, unprintable) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if unprintable(r) {
			return '\ufffd'
		}
		return r
	}, s)
}

func unprintable(r rune) bool { return !unicode.IsGraphic(r) }

// clock prints a time for people, to the second, in their own zone.
func clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format(time.RFC3339)
}

// age prints how long ago something was, in its two biggest units.
func age(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return lasted(max(0, now.Sub(t)))
}

// lasted prints a duration in its two biggest units.
func lasted(d time.Duration) string {
	const day = 24 * time.Hour
	d = d.Round(time.Second)
	big, small := fmt.Sprintf("%dd", d/day), fmt.Sprintf("%dh", d%day/time.Hour)
	switch {
	case d < time.Hour:
		return d.String()
	case d < day:
		big, small = small, fmt.Sprintf("%dm", d%time.Hour/time.Minute)
	}
	if strings.HasPrefix(small, "0") {
		return big
	}
	return big + small
}

// count prints a number; - for 0.
func count(n int64) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatInt(n, 10)
}

// orDash prints a text; - for an empty one.
func orDash(s string) string { return cmp.Or(s, "-") }

// plural is a number with its noun.
func plural(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
