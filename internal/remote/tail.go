package remote

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"gancho/internal/control"
	"gancho/internal/state"
)

const (
	// tailSilence is longer than a bridge that is there says nothing, which is some 5 seconds.
	tailSilence = 30 * time.Second
	// maxTailLine bounds what a tail says at once, in bytes.
	maxTailLine = 4 << 20
)

var errSilence = errors.New("nothing has come for 30 seconds")

// Tail follows what is attempted, and calls each with what came, until the bridge ends the tail, which it does after some minutes: then
// it returns nil. So it does when each fails: with its error.
func (c *Client) Tail(ctx context.Context, _ control.Actor, f state.Filter, each func(control.TailLines) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(tailSilence, func() { cancel(errSilence) })
	defer silence.Stop()
	r := request{method: http.MethodGet, path: "/tail", query: parameters(f)}
	answer, err := c.send(ctx, &r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }() // it is read only
	if answer.StatusCode >= http.StatusMultipleChoices {
		body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
		if err != nil {
			return &UnreachableError{c.address, err}
		}
		return c.refused(ctx, &r, answer, body)
	}
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, maxTailLine)
	for lines.Scan() {
		silence.Reset(tailSilence) // also an empty line says that the bridge is there
		text, is := strings.CutPrefix(lines.Text(), "data: ")
		if !is {
			continue
		}
		var came control.TailLines
		if err := json.Unmarshal([]byte(text), &came); err != nil {
			return c.unreadable(err)
		}
		silence.Stop() // each may take long
		if err := each(came); err != nil {
			return err
		}
		silence.Reset(tailSilence)
	}
	if err := lines.Err(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return &UnreachableError{c.address, err}
	}
	return nil
}

// Event returns a kept event with the request that an endpoint would get.
func (c *Client) Event(ctx context.Context, _ control.Actor, webhookID, endpoint string) (control.EventView, error) {
	return get[control.EventView](ctx, c, "/events/{id}", map[string][]string{"endpoint": {endpoint}}, webhookID)
}
