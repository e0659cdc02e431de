package forward

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"gancho/internal/receiver"
)

// maxShown is how much of a body a line shows, in characters.
const maxShown = 100

// Print writes two lines: what was sent, and what was answered. Characters that could steer a terminal are replaced. say is a
// text in the reader's language, from its English.
func Print(w io.Writer, e *Exchange, say func(string) string) error {
	body := ""
	if e.Request != nil {
		body = e.Request.Body
	}
	_, err := fmt.Fprintf(w, "%s  %s  %s  %-28s  %-6s  %s%s  %s\n%14s%s\n", e.Time.Format("15:04:05.000"), status(e), receiver.Printable(e.Endpoint), receiver.Printable(e.Event),
		receiver.Printable(e.Tenant), marks(e, say), receiver.Printable(e.WebhookID), oneLine(body), "", outcome(e, say))
	return err
}

func status(e *Exchange) string {
	if e.Answer == nil {
		return "---"
	}
	return fmt.Sprint(e.Answer.Status)
}

func marks(e *Exchange, say func(string) string) string {
	switch {
	case e.Resent:
		return "[" + say("resent") + "] "
	case e.Replay:
		return "[" + say("replay") + "] "
	}
	return ""
}

// outcome is the answer, or why there is none.
func outcome(e *Exchange, say func(string) string) string {
	if e.Answer == nil {
		return receiver.Printable(e.Error)
	}
	text := say(fmt.Sprintf("%s after %s", status(e), receiver.Short(time.Duration(e.Duration))))
	if e.Answer.Body != "" {
		text += ": " + oneLine(e.Answer.Body)
	}
	return text
}

func oneLine(text string) string {
	return receiver.Clip(receiver.Printable(strings.Join(strings.Fields(text), " ")), maxShown)
}

// PrintJSON writes one line of JSON.
func PrintJSON(w io.Writer, e *Exchange) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(e)
}
