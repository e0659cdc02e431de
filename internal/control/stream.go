package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Stream sends what next returns as server-sent events of JSON, one each, until the context ends, the client has gone or does not read for as
// long as patience, or next fails: that is the error. The headers are the caller's to set; of its own it has the status 200.
func Stream(ctx context.Context, w http.ResponseWriter, patience time.Duration, next func(context.Context) (any, error)) error {
	controller := http.NewResponseController(w)
	_ = controller.SetReadDeadline(time.Time{}) // there is nothing to read; what has no connection has no deadline
	send := func(text string) error {
		_ = controller.SetWriteDeadline(time.Now().Add(patience))
		if _, err := fmt.Fprint(w, text); err != nil {
			return err
		}
		return controller.Flush()
	}
	w.WriteHeader(http.StatusOK)
	// The browser comes again soon after the end, which is planned.
	if send("retry: 1000\n\n") != nil {
		return nil //nolint:nilerr // the client has gone
	}
	for {
		value, err := next(ctx)
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
			return nil //nolint:nilerr // the end that was planned
		}
		if err != nil {
			return err
		}
		text, err := json.Marshal(value)
		if err != nil {
			return fmt.Errorf("write a stream: %w", err)
		}
		if send("data: "+string(text)+"\n\n") != nil {
			return nil //nolint:nilerr // the client has gone
		}
	}
}
