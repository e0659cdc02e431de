package cdc

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"gancho/internal/retry"
)

const (
	// slotPatience is how long the server keeps the slot for a process that gives no sign of
	// life: one whose machine is gone, or that is stopped, never says so. It is the session's
	// own wal_sender_timeout, whose default of a minute would be that of a take-over.
	slotPatience = 6 * time.Second
	// slotLook is the time between two looks whether a slot that another process reads is free.
	slotLook = 500 * time.Millisecond
)

// senderTimeout reads how long the server waits for a sign of life, and has it wait no longer
// than slotPatience for this session, unless the DSN says how long it is to wait.
func senderTimeout(ctx context.Context, pg *pgconn.PgConn) (server, session time.Duration, err error) {
	rows, err := ask(ctx, pg, `select setting, source from pg_catalog.pg_settings where name = 'wal_sender_timeout'`)
	if err != nil {
		return 0, 0, fmt.Errorf("read wal_sender_timeout: %w", err)
	}
	if len(rows) != 1 {
		return 0, 0, fmt.Errorf("read wal_sender_timeout: the server does not have it")
	}
	ms, err := strconv.Atoi(rows[0][0])
	if err != nil {
		return 0, 0, fmt.Errorf("read wal_sender_timeout: %w", err)
	}
	server = time.Duration(ms) * time.Millisecond
	if ms == 0 {
		server = noSenderTimeout
	}
	if rows[0][1] == "client" || server <= slotPatience {
		return server, server, nil
	}
	if _, err := ask(ctx, pg, fmt.Sprintf("select pg_catalog.set_config('wal_sender_timeout', '%d', false)", slotPatience.Milliseconds())); err != nil {
		return 0, 0, fmt.Errorf("set wal_sender_timeout: %w", err)
	}
	return server, slotPatience, nil
}

// alive calls f, and gives the server signs of life meanwhile, which confirm nothing: it would give the
// slot to another process.
func (s *session) alive(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	tick := time.NewTicker(s.patience / 3)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			err := s.conn.SetWriteDeadline(time.Now().Add(s.patience))
			if err == nil {
				_, err = s.conn.Write(status(0, 0, false))
			}
			if err != nil {
				return errors.Join(fmt.Errorf("send status to the source: %w", err), <-done)
			}
		}
	}
}

// awaitFree waits until no process reads the slot, or that is unknown. It looks over one
// connection: an attempt to stream would be an error in the server's log each time.
func (r *Reader) awaitFree(ctx context.Context) {
	gauge := NewSlotGauge(r.options.DSN, r.options.Slot)
	defer gauge.Close(ctx)
	for retry.Wait(ctx, slotLook) == nil {
		if slot, err := gauge.Measure(ctx); err != nil || !slot.Active {
			return
		}
	}
}
