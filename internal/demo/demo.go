package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	// readyTimeout is how long the bridge may take until it is ready.
	readyTimeout    = time.Minute
	defaultPatience = 20 * time.Second
)

// Options are how a demo is played.
type Options struct {
	// Out gets what there is to see.
	Out io.Writer
	// Color: Out is a terminal that shows colours.
	Color bool
	// For is how long the traffic lasts; 0: until the context is done.
	For time.Duration
	// Seed decides what the traffic does.
	Seed uint64
	// Patience is how long Run waits for the next webhook once the traffic has
	// ended; 0: 20 s. A bridge that is at work needs milliseconds.
	Patience time.Duration
	// Bridge runs the bridge with a configuration file until the context is
	// done, then drains it and returns nil. It creates the slot and the
	// publication. Command returns one.
	Bridge func(ctx context.Context, configFile string) error
}

// Run plays the demo. When the context is done, the traffic ends, what is in
// flight arrives, and the summary is printed, as at the end of Options.For.
// The error says what did not start, or in what way the webhooks that arrived
// are not those that the traffic caused.
func Run(ctx context.Context, o Options) error {
	s := newScreen(o.Out, o.Color)
	defer s.close()
	st, err := openStage(ctx, s, rows)
	if st == nil || err != nil {
		return err
	}
	r, err := perform(ctx, o, st, s)
	s.close()
	if err = errors.Join(err, st.Close()); err != nil || r == nil {
		return err
	}
	r.print(s)
	if problems := r.problems(); len(problems) > 0 {
		return fmt.Errorf("what arrived is not what the traffic caused:\n  %s", strings.Join(problems, "\n  "))
	}
	s.say("every webhook that the traffic caused arrived, once, signed and in order; nothing is left behind")
	return nil
}

// openStage is newStage with a word about it. The stage is nil without an error when the
// context was done before there was anything to see.
func openStage(ctx context.Context, s *screen, rows string) (*stage, error) {
	s.say("starting private PostgreSQL and Redis servers, loading the legacy database")
	st, err := newStage(ctx, rows)
	if err == nil {
		return st, nil
	}
	if ctx.Err() != nil {
		err = nil
	}
	return nil, err
}

// perform runs receivers, bridge and traffic on the stage. The report is nil
// when the context was done before the traffic began.
func perform(ctx context.Context, o Options, st *stage, s *screen) (r *report, err error) {
	c, err := demoSettings()
	if err != nil {
		return nil, err
	}
	rc, err := newReceivers(c.subscribers, s.webhook)
	if err != nil {
		return nil, err
	}
	s.say("starting the bridge (metrics: http://%s/metrics)", st.listen)
	err = st.withBridge(ctx, o.Bridge, c, rc, func(b *bridge, view *bridgeView) (err error) {
		played := &report{subscribers: c.subscribers, arrivals: rc.arrivals}
		if err := played.play(ctx, b, o, st, s); err != nil || b.hasEnded() {
			return err
		}
		drainCtx := b.whileRuns(context.WithoutCancel(ctx))
		for _, e := range c.subscribers {
			rc.arrivals[e.Name].wait(drainCtx, e.share(played.traffic.Events).Total(), cmp.Or(o.Patience, defaultPatience))
		}
		if b.hasEnded() {
			return nil
		}
		r = played
		r.bridge, err = view.scrape(drainCtx)
		return err
	})
	return r, err
}

// withBridge runs the bridge, calls do when it is ready, and ends the bridge and
// the receivers. do is not called when ctx is done before. That the bridge has
// ended by itself is an error in any case.
func (s *stage) withBridge(ctx context.Context, run func(context.Context, string) error, c settings, rc *receivers,
	do func(*bridge, *bridgeView) error,
) (err error) {
	defer func() { err = errors.Join(err, rc.close()) }()
	file, err := s.write(c, rc.addr())
	if err != nil {
		return err
	}
	// The bridge outlives the context, so that what is in flight arrives.
	b := startBridge(context.WithoutCancel(ctx), run, file)
	defer func() { err = errors.Join(err, b.stop()) }()
	view := &bridgeView{client: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}}, addr: s.listen}
	defer view.client.CloseIdleConnections()
	if err := view.waitReady(b.whileRuns(ctx)); err != nil {
		if ctx.Err() != nil || b.hasEnded() {
			return nil // interrupted, or the bridge's own error is the one to show
		}
		return err
	}
	return do(b, view)
}

// play plays the traffic until its time is over, the context is done, or the
// bridge ends.
func (r *report) play(ctx context.Context, b *bridge, o Options, st *stage, s *screen) error {
	conn, err := st.connect(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	traffic := NewTraffic(conn, o.Seed, func(line string) { s.say("%s", line) })
	if o.For > 0 {
		s.say("the working day begins: %s of it (seed %d)", o.For, o.Seed)
	} else {
		s.say("the working day begins; Ctrl-C ends it (seed %d)", o.Seed)
	}
	start := time.Now()
	err = traffic.Play(b.whileRuns(ctx), o.For)
	r.played = time.Since(start)
	s.say("the working day is over; waiting for what is in flight")
	r.traffic = traffic.Sum()
	return errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
}
