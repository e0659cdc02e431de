package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// table prints rows under a heading, in columns as wide as they have to be.
// Nothing is cut: what is too long for a screen is still one row for grep.
type table struct {
	w *tabwriter.Writer
}

func newTable(out io.Writer, heading ...string) *table {
	t := &table{tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
	t.row(heading...)
	return t
}

// row adds a row. Cells hold what receivers and databases sent: a control
// character would break the table, or speak to the terminal.
func (t *table) row(cells ...string) {
	for i, c := range cells {
		cells[i] = printable(c)
	}
	_, _ = io.WriteString(t.w, strings.TrimRight(strings.Join(cells, "\t"), "\t")+"\n") // Flush reports what fails
}

// end prints the table.
func (t *table) end() error { return t.w.Flush() }

// printable replaces characters that are not for showing.
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

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

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
	d := max(0, now.Sub(t)).Round(time.Second)
	switch {
	case d >= 24*time.Hour:
		return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return d.String()
}

// count prints a number, and nothing much for none.
func count(n int64) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatInt(n, 10)
}

// orDash is what stands in a table for an empty text.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// plural is a number with its noun.
func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.FormatInt(n, 10) + " " + many
}
