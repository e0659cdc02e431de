package remote_test

import (
	"context"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"gancho/internal/control"
	"gancho/internal/remote"
	"gancho/internal/state"
)

// piped answers with a body that a test writes, and ends it with its request.
type piped struct{ body *io.PipeReader }

func (p piped) RoundTrip(r *http.Request) (*http.Response, error) {
	context.AfterFunc(r.Context(), func() { _ = p.body.CloseWithError(r.Context().Err()) })
	return &http.Response{StatusCode: http.StatusOK, Body: p.body, Request: r}, nil
}

// TestTailSilence: a bridge of which nothing comes is not there; while what came is worked on, nobody listens.
func TestTailSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		body, bridge := io.Pipe()
		c, err := remote.New(remote.Options{Address: "https://webhooks.example.com", Transport: piped{body}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		go func() {
			for range 2 {
				_, _ = io.WriteString(bridge, "data: {}\n\n")
			}
		}()
		start, came := time.Now(), 0
		err = c.Tail(t.Context(), control.Actor{}, state.Filter{}, func(control.TailLines) error {
			came++
			<-time.After(5 * time.Minute) // such as a receiver in a debugger
			return nil
		})
		if took := time.Since(start); came != 2 || took != 10*time.Minute+30*time.Second || err == nil || err.Error() != "ask gancho run at https://webhooks.example.com: nothing has come for 30 seconds" {
			t.Errorf("%d came in %s: %v", came, took, err)
		}
	})
}
