package state

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	channel = "gancho_endpoints"
	// pollInterval is how long a change may stay unknown while the database's
	// notifications come, deafInterval while they do not.
	pollInterval = time.Second
	deafInterval = 250 * time.Millisecond
	// maxPause is between two attempts to connect for notifications.
	maxPause = 5 * time.Second
)

// Watch calls changed whenever Endpoints or Drops may give another answer:
// at the start, when somebody has changed something (within milliseconds by
// LISTEN, within a second by polling when that fails), and when a secret expires.
// It returns when ctx ends, or with the error of a schema that is not
// this program's; a database that is away is waited for.
func (s *Store) Watch(ctx context.Context, changed func()) error {
	ctx, stop := context.WithCancel(ctx)
	w := &watch{store: s, heard: make(chan struct{}, 1), hears: make(chan bool, 1)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.listen(ctx)
	}()
	defer func() {
		stop()
		<-ended
	}()
	return w.poll(ctx, changed)
}

// watch joins the connection that listens with the poll behind it.
type watch struct {
	store *Store
	heard chan struct{} // something has been notified
	hears chan bool     // whether notifications come
}

// revision is what is compared: if it is the same, so are the endpoints.
type revision struct {
	n       int64
	expired int64 // secrets that no longer sign
}

// poll reads the revision at every notification, at every interval, and when
// the next secret expires.
func (w *watch) poll(ctx context.Context, changed func()) error {
	known, interval, away := revision{}, deafInterval, false
	for ctx.Err() == nil {
		now, next, err := w.store.revision(ctx)
		wait := interval
		switch {
		case err == nil && next > 0:
			wait = min(wait, next)
		case err != nil && !errors.Is(err, ErrUnreachable) && ctx.Err() == nil:
			return err
		case err != nil && !away && ctx.Err() == nil:
			w.store.logger.Warn().Err(err).Msg("changes of endpoints are not seen while the state database is away")
		}
		if away = err != nil; !away && now != known {
			known = now
			changed()
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-w.heard:
		case ok := <-w.hears:
			interval = deafInterval
			if ok {
				interval = pollInterval
			}
		}
		timer.Stop()
	}
	return nil
}

// revision returns the present one and how long until a secret expires; 0: none does.
func (s *Store) revision(ctx context.Context) (r revision, next time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var micros *int64
	err = s.pool.QueryRow(ctx, `select n,
			(select count(*) from gancho.secrets where expires <= now()),
			(select 1 + (extract(epoch from min(expires) - now()) * 1000000)::bigint from gancho.secrets where expires > now())
		from gancho.revision`).Scan(&r.n, &r.expired, &micros)
	if micros != nil {
		next = time.Duration(*micros) * time.Microsecond
	}
	return r, next, explain(err)
}

// listen waits for notifications on a connection of its own, and for a new one
// when that is gone, until ctx ends.
func (w *watch) listen(ctx context.Context) {
	pause := deafInterval
	for ctx.Err() == nil {
		began := time.Now()
		err := w.listenOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		w.tell(false)
		w.store.logger.Debug().Err(err).Msg("listening for changes of endpoints again")
		if time.Since(began) > maxPause {
			pause = deafInterval
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		pause = min(2*pause, maxPause)
	}
}

// listenOnce returns when the connection is lost.
func (w *watch) listenOnce(ctx context.Context) error {
	config := w.store.pool.Config().ConnConfig
	config.RuntimeParams["application_name"] = applicationName + "-watch"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
		defer cancel()
		_ = conn.Close(closing)
	}()
	if _, err := conn.Exec(ctx, "listen "+channel); err != nil {
		return err
	}
	w.tell(true)
	w.wake() // for what was notified before
	for {
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return err
		}
		w.wake()
	}
}

// tell replaces what poll has not yet taken.
func (w *watch) tell(hears bool) {
	select {
	case <-w.hears:
	default:
	}
	w.hears <- hears
}

func (w *watch) wake() {
	select {
	case w.heard <- struct{}{}:
	default:
	}
}
