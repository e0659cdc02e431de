package api

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"gancho/internal/control"
	"gancho/internal/state"
)

// The bounds of a tail.
const (
	// tailTime is how long one lasts at most: then the client begins another one, for which its token is looked up again.
	tailTime = 5 * time.Minute
	// tailIdentify is how long one goes on after its token was revoked.
	tailIdentify = 5 * time.Second
	// tailWrite is how long a client may take to read a piece.
	tailWrite = 10 * time.Second
)

func (c *call) tail() (answer, error) {
	f, lasts := c.query.filter(), c.query.seconds(tailTime)
	if err := c.query.err(); err != nil {
		return answer{}, err
	}
	tail, err := c.control.Tail(c.ctx, c.actor, f)
	if err != nil {
		return answer{}, err
	}
	c.pause() // who follows for long keeps no other from being carried out, nor from a connection
	ctx, cancel := context.WithTimeout(c.ctx, lasts)
	defer cancel()
	c.w.Header().Set("Content-Type", "text/event-stream")
	identified := time.Now()
	err = control.Stream(ctx, c.w, tailWrite, func(ctx context.Context) (any, error) {
		lines, err := tail.Next(ctx)
		if err == nil && time.Since(identified) > tailIdentify {
			if identified = time.Now(); c.authenticate(state.Viewer) != nil {
				err = context.Canceled // the client comes again, and is told so
			}
		}
		return lines, err
	})
	if err != nil {
		c.log.Error().Err(err).Msg("tail ended early")
	}
	return answer{written: true}, nil
}

// seconds is how long something lasts; most when the parameter is absent.
func (q *query) seconds(most time.Duration) time.Duration {
	if !q.values.Has("seconds") {
		return most
	}
	n, err := strconv.Atoi(q.values.Get("seconds"))
	if err != nil || n < 1 || n > int(most/time.Second) {
		q.wrong("seconds", "", "the parameter %q has to be a number from 1 to %d", "seconds", int(most/time.Second))
		return 0
	}
	return time.Duration(n) * time.Second
}

func (c *call) rates() (answer, error) {
	span := time.Hour
	if c.query.values.Has("span") {
		var err error
		if span, err = time.ParseDuration(c.query.text("span")); err != nil || span <= 0 {
			c.query.wrong("span", "write such as 1h, 6h, 24h or 168h", "the parameter %q is not a duration", "span")
		}
	}
	if err := c.query.err(); err != nil {
		return answer{}, err
	}
	view, err := c.control.Rates(c.ctx, c.actor, c.query.text("endpoint"), span)
	return answer{body: view}, err
}

func (c *call) showEvent() (answer, error) {
	view, err := c.control.Event(c.ctx, c.actor, c.http.PathValue("id"), c.query.text("endpoint"))
	return answer{body: view}, err
}

func (c *call) resendDeliveries() (answer, error) {
	var r state.Job
	to := member{name: "endpoint", into: &r.Endpoint, expects: "the name of the endpoint that is to receive them"}
	if err := c.decode(to, deliveryMember(&r.Filter), rateMember(&r.Rate), dryRunMember(&r.DryRun)); err != nil {
		return answer{}, err
	}
	view, err := c.control.ResendDeliveries(c.ctx, c.actor, r)
	if err != nil || r.DryRun {
		return answer{body: view}, err
	}
	return answer{status: http.StatusAccepted, body: view}, nil
}
