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

// table prints rows under a heading, in columns as wide as their cells. Nothing
// is cut: a row that is longer than the screen is still one line for grep.
type table struct {
	w *tabwriter.Writer
}

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
