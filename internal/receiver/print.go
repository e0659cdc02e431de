package receiver

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"
)

// maxShown is how much of an event's data a line shows, in characters.
const maxShown = 100

// Print writes one aligned line about the delivery, in colour when w is a
// terminal and NO_COLOR is not set. Characters that could steer a terminal are
// replaced. say is a text in the reader's language, from its English.
func Print(w io.Writer, d Delivery, say func(string) string) error {
	p := palette(w)
	status := p.green
	if !d.Accepted() {
		status = p.red
	}
	delay := ""
	if !d.Timestamp.IsZero() {
		delay = Short(d.CommitToArrival)
	}
	_, err := fmt.Fprintf(w, "%s  %s%d%s  %9s  %s%-28s%s  %-6s  %s%s  %s%s%s\n",
		d.Arrived.Format("15:04:05.000"), status, d.Status, p.reset, delay, p.bold, Printable(cmp.Or(d.Type, say("(bare)"))), p.reset,
		Printable(d.Tenant), notes(&d, p, say), Printable(d.ID), p.dim, Clip(Printable(string(d.Data)), maxShown), p.reset)
	return err
}

func notes(d *Delivery, p colours, say func(string) string) string {
	var b strings.Builder
	note := func(colour, text string) { b.WriteString(colour + "[" + say(text) + "]" + p.reset + " ") }
	switch {
	case errors.Is(d.Verified, ErrNotChecked):
		note(p.dim, "unchecked")
	case d.Verified != nil:
		note(p.red, "bad signature")
	default:
		note(p.green, "signed")
	}
	if d.List > 0 {
		note(p.dim, fmt.Sprintf("list of %d", d.List))
	}
	if d.Replay {
		note(p.dim, "replay")
	}
	if d.Duplicate {
		note(p.yellow, "seen before")
	} else if d.Attempt > 1 {
		note(p.yellow, fmt.Sprintf("attempt %d", d.Attempt))
	}
	if d.OutOfOrder {
		note(p.red, "out of order")
	}
	return b.String()
}

// line is a delivery as `gancho listen --json` shows it.
type line struct {
	Arrived         time.Time       `json:"arrived"`
	Status          int             `json:"status"`
	ID              string          `json:"id"`
	List            int             `json:"list,omitempty"` // how many came in one request
	Type            string          `json:"type,omitempty"`
	Tenant          string          `json:"tenant,omitempty"`
	Sequence        string          `json:"sequence,omitempty"`
	Timestamp       *time.Time      `json:"timestamp,omitempty"`
	CommitToArrival *float64        `json:"commit_to_arrival_ms,omitempty"`
	Verified        bool            `json:"verified"`
	VerifyError     string          `json:"verify_error,omitempty"`
	Attempt         int             `json:"attempt"`
	Replay          bool            `json:"replay,omitempty"`
	Duplicate       bool            `json:"duplicate"`
	OutOfOrder      bool            `json:"out_of_order"`
	Body            json.RawMessage `json:"body,omitempty"`
	BodyText        string          `json:"body_text,omitempty"` // a body that is not JSON,
	Data            json.RawMessage `json:"data,omitempty"`      // and what it says
}

// PrintJSON writes the delivery as one line of JSON.
func PrintJSON(w io.Writer, d Delivery) error {
	l := line{
		Arrived: d.Arrived.UTC(), Status: d.Status, ID: d.ID, List: d.List, Type: d.Type, Tenant: d.Tenant, Sequence: d.Sequence,
		Verified: d.Verified == nil, Attempt: d.Attempt, Replay: d.Replay, Duplicate: d.Duplicate, OutOfOrder: d.OutOfOrder,
	}
	if d.Verified != nil {
		l.VerifyError = d.Verified.Error()
	}
	if !d.Timestamp.IsZero() {
		ms := float64(d.CommitToArrival) / float64(time.Millisecond)
		l.Timestamp, l.CommitToArrival = &d.Timestamp, &ms
	}
	if json.Valid(d.Body) {
		l.Body = d.Body
	} else {
		l.BodyText = string(d.Body)
		if json.Valid(d.Data) {
			l.Data = d.Data
		}
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(l)
}

// Printable replaces what a terminal might obey, or what would break the line.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '·'
	}, s)
}

// Clip shortens a text to so many characters and an ellipsis.
func Clip(s string, n int) string {
	for i := range s {
		if n--; n < 0 {
			return s[:i] + "…"
		}
	}
	return s
}

// colours are escape sequences, or nothing.
type colours struct{ green, red, yellow, bold, dim, reset string }

func palette(w io.Writer) colours {
	if !ShowsColor(w) {
		return colours{}
	}
	return colours{green: "\x1b[32m", red: "\x1b[31m", yellow: "\x1b[33m", bold: "\x1b[1m", dim: "\x1b[2m", reset: "\x1b[0m"}
}

// ShowsColor reports whether w is a terminal whose user has not turned colours
// off (https://no-color.org).
func ShowsColor(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
