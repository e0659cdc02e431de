package cdc

import (
	"context"
	"errors"
	"fmt"
	"time"

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
